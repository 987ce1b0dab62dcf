"""What is not known stays unknown: freshness of the present, resampling of the past."""

from __future__ import annotations

import dataclasses
import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_plant import DEMAND, LEVEL, NOON, PUMP, at, level, small_plant

from twin.errors import UnknownTag
from twin.plant import Tag
from twin.records import BAD, GOOD, UNCERTAIN, Reading, Samples, TagState
from twin.state import plant_state, window, window_start

PLANT = small_plant()
NAN = math.nan


def judged(last: Reading | None, now_s: float) -> TagState:
    """The level's state `now_s` seconds after noon."""
    return plant_state(PLANT, {} if last is None else {LEVEL: last}, at(now_s)).tags[LEVEL]


# The present


def test_a_fresh_good_reading_is_usable() -> None:
    """Its value, quality and both ages are told."""
    state = plant_state(PLANT, {LEVEL: level(0, 7.5)}, at(30))
    assert state.plant == "small"
    assert state.tags.keys() == {PUMP, LEVEL, DEMAND}
    assert state.tags[LEVEL] == TagState(7.5, GOOD, NOON, 30.0, 29.0, True, "")
    assert state.value(LEVEL) == 7.5


@pytest.mark.parametrize(
    ("last", "now_s", "reason"),
    [
        (None, 0, "tank.level: no reading yet."),
        (
            level(0, 7.5),
            94,
            "tank.level: last reading is 94 s old; readings older than 60 s are not used.",
        ),
        (level(0, 7.5), -7, "tank.level: last reading is 7 s ahead of the plant clock"),
        (level(0, 7.5, BAD), 1, "tank.level: last reading is 7.5 cm with quality 0x80000000"),
        (level(0, 7.5, UNCERTAIN), 1, "quality 0x40000000; only good ones are used"),
        (level(0, None, BAD | 5), 1, "last reading is no number with quality 0x80000005"),
        (
            dataclasses.replace(level(0, 7.5), arrival_time=at(-61)),
            0,
            "tank.level: last reading arrived 61 s ago; readings older than 60 s",
        ),
    ],
)
def test_what_cannot_be_used_says_why(last: Reading | None, now_s: float, reason: str) -> None:
    """Never seen, stale, from the future, bad or late: no value, and a sentence."""
    state = judged(last, now_s)
    assert not state.is_usable
    assert reason in state.reason


@pytest.mark.parametrize(
    ("now_s", "is_usable"), [(60, True), (60.001, False), (-5, True), (-5.001, False)]
)
def test_the_limits_of_age_belong_to_the_fresh_side(now_s: float, is_usable: bool) -> None:
    """60 s old counts, a millisecond more does not; the same 5 s ahead."""
    assert judged(level(0, 7.5), now_s).is_usable is is_usable


def test_a_frozen_source_ages() -> None:
    """The plant clock goes on while the same reading stays the last."""
    assert [judged(level(0, 7.5), s).is_usable for s in (10, 50, 90)] == [True, True, False]


def test_an_arrival_ahead_of_our_clock_is_no_fault() -> None:
    """The collector's plant clock may run a little before ours; the source time decides."""
    late = dataclasses.replace(level(0, 7.5), arrival_time=at(20))
    assert judged(late, 1).is_usable


@given(
    value=st.none() | st.floats(),
    quality=st.sampled_from([GOOD, UNCERTAIN, BAD]),
    source_s=st.floats(-200, 200),
    arrival_s=st.floats(-200, 200),
)
def test_usable_means_all_of_it(
    value: float | None, quality: int, source_s: float, arrival_s: float
) -> None:
    """Usable exactly when good, finite, and fresh by both ages; and only then a value is given."""
    last = Reading(LEVEL, value, quality, at(source_s), at(arrival_s))
    state = plant_state(PLANT, {LEVEL: last}, NOON)
    source_age_s = (NOON - at(source_s)).total_seconds()
    is_fresh = -5 <= source_age_s <= 60 and (NOON - at(arrival_s)).total_seconds() <= 60
    is_good = quality == GOOD and value is not None and math.isfinite(value)
    assert state.tags[LEVEL].is_usable == (is_fresh and is_good)
    assert bool(state.tags[LEVEL].reason) != state.tags[LEVEL].is_usable
    assert state.value(LEVEL) == (value if is_fresh and is_good else None)


# The past


def series(*points: tuple[float, float]) -> Samples:
    """Points of (seconds after noon, value)."""
    times = [NOON.timestamp() + seconds for seconds, _ in points]
    return Samples(np.array(times), np.array([value for _, value in points]))


def rows_of(
    tag: str, samples: Samples, rows: int, end_s: float = 0, step_s: float = 60
) -> list[float]:
    found = window(PLANT, {tag: samples}, at(end_s), rows, step_s)
    assert (found.end, found.step_s, found.rows) == (at(end_s), step_s, rows)
    return found.values[tag].tolist()


def test_a_row_holds_the_last_good_value() -> None:
    """Rows at −120, −60 and 0 s: the value of the same moment counts, a later one never."""
    samples = series((-121, 1.0), (-60, 2.0), (-30, 3.0), (0.001, 9.0))
    assert rows_of(LEVEL, samples, 3) == [1.0, 2.0, 3.0]


def test_a_value_is_held_no_longer_than_its_age_allows() -> None:
    """After 60 s the level is unknown, and a bad reading between does not shorten that."""
    samples = series((-120, 1.0), (-110, NAN))
    values = rows_of(LEVEL, samples, 5, end_s=0, step_s=30)
    assert np.array_equal(values, [1.0, 1.0, 1.0, NAN, NAN], equal_nan=True)


def test_a_mean_weighs_by_time() -> None:
    """3 for 45 s and 7 for 15 s make 4; the value at the row's own moment weighs nothing."""
    samples = series((-60, 3.0), (-15, 7.0), (0, 100.0))
    assert rows_of(DEMAND, samples, 1) == [pytest.approx(4.0)]


@pytest.mark.parametrize(("first_s", "expected"), [(-30, 5.0), (-29.9, NAN)])
def test_a_mean_needs_half_of_its_step(first_s: float, expected: float) -> None:
    """30 of 60 s known is enough, less is not."""
    values = rows_of(DEMAND, series((first_s, 5.0)), 1)
    assert np.array_equal(values, [expected], equal_nan=True)


def test_nothing_known_is_nan() -> None:
    """No samples, only bad ones, or only future ones."""
    for tag in (LEVEL, DEMAND):
        for samples in (series(), series((-1, NAN)), series((1, 5.0))):
            assert np.isnan(rows_of(tag, samples, 2)).all()


def test_a_wrong_call_is_refused() -> None:
    """A tag the plant does not have, or a window of no rows."""
    with pytest.raises(UnknownTag, match="ghost"):
        window(PLANT, {"ghost": series()}, NOON, 1)
    with pytest.raises(ValueError, match="0 rows"):
        window(PLANT, {LEVEL: series()}, NOON, 0)


def test_samples_from_the_window_start_are_enough() -> None:
    """Older samples change no row."""
    start_s = (window_start(PLANT, NOON, 3) - NOON).total_seconds()
    assert start_s == -(3 * 60 + 120)
    inside = [(s, float(s)) for s in range(int(start_s), 1, 7)]
    before = [(s, 1e6) for s in range(-900, int(start_s), 7)]
    for tag in (PUMP, LEVEL, DEMAND):
        with_older = rows_of(tag, series(*before, *inside), 3)
        assert np.allclose(with_older, rows_of(tag, series(*inside), 3), equal_nan=True)


def slow_value(tag: Tag, points: list[tuple[float, float]], moment_s: float) -> float:
    """The last good value at a moment, by looking at every sample."""
    found = NAN
    for seconds, value in points:
        if not math.isnan(value) and seconds <= moment_s:
            found = value if moment_s - seconds <= tag.max_age_s else NAN
    return found


def slow_mean(tag: Tag, points: list[tuple[float, float]], end_s: int, step_s: int) -> float:
    """The mean over a step, second by second (all sample times are whole seconds)."""
    held = [slow_value(tag, points, s + 0.5) for s in range(end_s - step_s, end_s)]
    known = [value for value in held if not math.isnan(value)]
    return sum(known) / len(known) if len(known) >= step_s / 2 else NAN


POINTS = st.dictionaries(
    st.integers(-400, 60), st.just(NAN) | st.floats(-1e6, 1e6), max_size=30
).map(lambda points: sorted((float(s), value) for s, value in points.items()))


@given(points=POINTS, rows=st.integers(1, 8), step_s=st.sampled_from([20, 60, 90]))
def test_window_agrees_with_a_slow_reference(
    points: list[tuple[float, float]], rows: int, step_s: int
) -> None:
    """Both aggregates equal a loop over every sample and second; future samples play no part."""
    ends = [-step_s * k for k in range(rows - 1, -1, -1)]
    expected = {
        LEVEL: [slow_value(PLANT.tag(LEVEL), points, s) for s in ends],
        DEMAND: [slow_mean(PLANT.tag(DEMAND), points, s, step_s) for s in ends],
    }
    for tag, values in expected.items():
        found = rows_of(tag, series(*points), rows, step_s=step_s)
        assert np.allclose(found, values, rtol=1e-9, atol=1e-6, equal_nan=True)
        past = [(s, value) for s, value in points if s <= 0]
        assert np.array_equal(
            found, rows_of(tag, series(*past), rows, step_s=step_s), equal_nan=True
        )


@given(points=POINTS)
def test_unknown_never_becomes_zero(points: list[tuple[float, float]]) -> None:
    """Where every good value is at least 1, so is every row that is known."""
    shifted = [(s, abs(value) + 1) for s, value in points]
    for tag in (LEVEL, DEMAND):
        found = np.array(rows_of(tag, series(*shifted), 6))
        assert (np.isnan(found) | (found >= 1 - 1e-6)).all()


def test_a_window_is_quick() -> None:
    """14 tags: two rows within 3 ms, two days within 0.2 s (measured 0.2 ms and 3 ms)."""
    tags = [f"tag_{k}" for k in range(14)]
    plant = dataclasses.replace(
        PLANT,
        tags=tuple(
            dataclasses.replace(PLANT.tags[k % 3], name=name) for k, name in enumerate(tags)
        ),
    )
    for readings, rows, limit_s in ((18, 2, 0.003), (17_280, 2880, 0.2)):
        times_s = NOON.timestamp() - 10.0 * np.arange(readings)[::-1]
        samples = {name: Samples(times_s, np.cos(times_s)) for name in tags}
        took_s = []
        for _ in range(10):
            started_s = time.perf_counter()
            window(plant, samples, NOON, rows)
            took_s.append(time.perf_counter() - started_s)
        assert min(took_s) < limit_s
