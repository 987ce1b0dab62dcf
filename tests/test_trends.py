"""Averages and trends of long spans say what the readings said, however they are summed up."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_plant import DEMAND, LEVEL, NOON, PUMP, at, level, small_plant
from sqlalchemy import URL

from dashboard.view import trend as page
from twin.historian import Average, Historian, Keep
from twin.records import BAD, GOOD, Reading

PLANT = small_plant()
NUMBERS = itertools.count()


@pytest.fixture
def historian(database: URL) -> Iterator[Historian]:
    with Historian.create(database) as opened:
        opened.register(PLANT)
        yield opened


def average(readings: list[Reading], max_age_s: float, start_s: float, end_s: float) -> Average:
    """Held value by held value, added up by hand; times in s after noon."""
    good = sorted(((r.source_time - NOON).total_seconds(), r.value) for r in readings if r.is_good)
    area = known_s = 0.0
    ends_s = [*(since for since, _ in good[1:]), math.inf][: len(good)]
    for (since, value), following_s in zip(good, ends_s, strict=True):
        held_s = min(following_s, since + max_age_s, end_s) - max(since, start_s)
        if held_s > 0 and value is not None:
            area, known_s = area + held_s * value, known_s + held_s
    return Average(area / known_s if known_s > 0 else None, known_s)


READINGS = st.lists(
    st.tuples(st.floats(-4000, 9000), st.floats(-1e3, 1e3), st.sampled_from((GOOD, GOOD, BAD))),
    max_size=80,
    unique_by=lambda drawn: round(drawn[0], 3),
).map(lambda rows: [level(round(s, 3), v, quality) for s, v, quality in rows])


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    early=READINGS,
    late=READINGS,
    start_s=st.floats(-4500, 8000).map(lambda s: round(s, 3)),
    lasts_s=st.floats(0.001, 12_000).map(lambda s: round(s, 3)),
    is_rolled=st.tuples(st.booleans(), st.booleans()),
)
def test_an_average_is_the_same_from_readings_minutes_and_hours(
    tmp_path_factory: pytest.TempPathFactory,
    early: list[Reading],
    late: list[Reading],
    start_s: float,
    lasts_s: float,
    is_rolled: tuple[bool, bool],
) -> None:
    """Rolled up or not, or in part, with late readings due: always what the readings say."""
    with Historian.create(tmp_path_factory.mktemp("mean") / "h.db") as historian:
        historian.register(PLANT)
        for batch, is_maintained in zip((early, late), is_rolled, strict=True):
            historian.store(batch, PLANT)
            if is_maintained:
                historian.maintain(at(7000), PLANT)
        end_s = start_s + lasts_s
        found = historian.time_weighted_average(PLANT, [LEVEL], at(start_s), at(end_s))[LEVEL]
        known = {r.source_time: r for r in (*late, *early)}
        expected = average([*known.values()], 60.0, start_s, end_s)
    assert found.known_s == pytest.approx(expected.known_s, abs=1e-4)
    if expected.known_s > 0.01:
        assert found.value == pytest.approx(expected.value, abs=1e-2)


def test_an_average_of_nothing_is_nothing(historian: Historian) -> None:
    """No reading, or only bad ones: no value, never zero."""
    historian.store([level(0, 5.0, BAD)])
    found = historian.time_weighted_average(PLANT, [LEVEL, PUMP], at(-60), at(60))
    assert found == {LEVEL: Average(None, 0.0), PUMP: Average(None, 0.0)}


@pytest.mark.parametrize("is_rolled", [True, False])
@pytest.mark.parametrize(("hours", "points"), [(0.5, 100), (12, 360), (720, 360)])
def test_a_trend_holds_every_extreme(
    historian: Historian, is_rolled: bool, hours: float, points: int
) -> None:
    """From readings, minutes or hours: the lowest and highest of every step, and no step lost."""
    step_s = hours * 3600 / 5000
    values = np.sin(np.arange(5000) / 7.0) * np.arange(5000)
    historian.store([level(step_s * i, float(v)) for i, v in enumerate(values)])
    end = NOON + timedelta(hours=hours)
    if is_rolled:
        historian.maintain(end - timedelta(hours=hours / 10), PLANT, Keep(None, None))
    found = historian.trend(PLANT, [LEVEL, DEMAND], NOON, end, points)
    trend = found[LEVEL]
    assert points / 2 <= len(trend.times_s) <= points + 1
    steps = (np.round(np.arange(5000) * step_s, 6) // trend.step_s).astype(int)
    beginnings = np.round((trend.times_s - NOON.timestamp()) / trend.step_s).astype(int)
    for step, low, high in zip(beginnings, trend.low, trend.high, strict=True):
        assert (low, high) == (values[steps == step].min(), values[steps == step].max())
    assert set(steps) == set(beginnings)
    assert len(found[DEMAND].times_s) == 0


def test_a_trend_goes_on_where_readings_are_deleted(historian: Historian) -> None:
    """Months later the readings are gone, and the trend is the same."""
    historian.store([level(-600.0 * i, float(i)) for i in range(20 * 144)])
    start = NOON - timedelta(days=20)
    historian.maintain(NOON, PLANT, Keep(None, None))
    before = historian.trend(PLANT, [LEVEL], start, NOON, 400)[LEVEL]
    historian.maintain(NOON, PLANT, Keep(raw_days=1.0))
    after = historian.trend(PLANT, [LEVEL], start, NOON, 400)[LEVEL]
    for name in ("times_s", "low", "mean", "high"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
    assert historian.count(PLANT) < 300


@pytest.mark.parametrize(("ends_s", "hours"), [(0.0, 30), (1.0, 31)])
def test_where_only_hours_are_left_a_trend_ends_with_one(
    historian: Historian, ends_s: float, hours: int
) -> None:
    """The hour in which it ends is told whole then; the one after its end never is."""
    historian.store([level(-600.0 * i, float(i)) for i in range(20 * 144)])
    historian.maintain(NOON, PLANT, Keep(raw_days=1.0, minute_days=1.0))
    start, end = (at(-10 * 86_400 + s) for s in (-30 * 3600, ends_s))
    assert len(historian.trend(PLANT, [LEVEL], start, end, 40)[LEVEL].times_s) == hours


@pytest.mark.parametrize(
    ("days_back", "hours", "step_s"), [(1, 1, 10), (3, 1, 60), (5, 1, 3600), (5, 24, 3600)]
)
def test_a_short_trend_of_long_ago_is_told_by_what_is_left(
    historian: Historian, days_back: int, hours: int, step_s: float
) -> None:
    """Readings are gone, then minutes: the trend is coarser, with every mean, and has no hole."""
    historian.store([level(-30.0 * i, float(i // 120)) for i in range(6 * 2880)])
    historian.maintain(NOON, PLANT, Keep(None, None))
    historian.maintain(NOON, PLANT, Keep(raw_days=2.0, minute_days=4.0))
    start = NOON - timedelta(days=days_back)
    found = historian.trend(PLANT, [LEVEL], start, start + timedelta(hours=hours), 360)[LEVEL]
    assert found.step_s == step_s
    covered_s = len(found.times_s) * max(step_s, 30.0)
    assert hours * 3600 <= covered_s <= (hours + 1) * 3600
    ages_s = NOON.timestamp() - found.times_s
    np.testing.assert_allclose(found.mean, ages_s / 3600, atol=1.1)


def test_what_is_due_elsewhere_hides_no_long_past(historian: Historian) -> None:
    """A row that comes a month late touches its own hour; of what is deleted, rollups tell on."""
    historian.store([level(-600.0 * i, float(i)) for i in range(20 * 144)])
    start = NOON - timedelta(days=20)
    historian.maintain(NOON, PLANT, Keep(raw_days=2.0))

    def asked() -> tuple[Average, list[float]]:
        found = historian.time_weighted_average(PLANT, [LEVEL], start, NOON)[LEVEL]
        return found, historian.trend(PLANT, [LEVEL], start, NOON, 100)[LEVEL].mean.tolist()

    before = asked()
    assert before[0].known_s == pytest.approx(60.0 * 20 * 144, rel=0.01)
    historian.store([level(-30 * 86_400, 7.0), level(-10 * 86_400 + 60, 7.0)])
    assert asked() == before
    historian.store([level(-86_400 + 300, 7.0)])
    (average, means), day = asked(), -144 // 5
    assert average.known_s == before[0].known_s + 60
    assert means[:day] == before[1][:day]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    early=READINGS,
    late=READINGS,
    start_s=st.floats(-4500, 8000).map(lambda s: round(s, 3)),
    lasts_s=st.floats(600, 14_000).map(lambda s: round(s, 3)),
    points=st.integers(1, 6),
    until_s=st.sampled_from((0.0, 3333.0, 20_000.0)),
)
def test_a_trend_is_the_same_from_readings_minutes_and_hours(
    historian: Historian,
    early: list[Reading],
    late: list[Reading],
    start_s: float,
    lasts_s: float,
    points: int,
    until_s: float,
) -> None:
    """Rolled up or not, or in part, with late readings due: and never of what is after its end."""
    plant = small_plant(f"plant_{next(NUMBERS)}")
    historian.register(plant)
    known = {r.source_time: r for r in (*late, *early)}
    good = [(r.source_time, r.value) for r in known.values() if r.is_good and r.value is not None]

    def check() -> None:
        end = at(start_s + lasts_s)
        found = historian.trend(plant, [LEVEL], at(start_s), end, points)[LEVEL]
        assert found.step_s >= 60
        told = zip(found.times_s.tolist(), found.low, found.mean, found.high, strict=True)
        held = [*known.values()]
        for begins_s, low, mean, high in told:
            step_ends_s = min(begins_s + found.step_s, end.timestamp()) - NOON.timestamp()
            since_s = begins_s - NOON.timestamp()
            inside = [
                v for t, v in good if at(since_s) <= t <= end and t < at(since_s + found.step_s)
            ]
            assert [low, high] == ([min(inside), max(inside)] if inside else [low, high])
            assert bool(inside) == math.isfinite(low)
            expected = average(held, 60.0, since_s, step_ends_s)
            if expected.known_s > 0.1:
                assert mean == pytest.approx(expected.value, abs=1e-2)

    historian.store(early, plant)
    historian.maintain(at(until_s), plant)
    historian.store(late, plant)
    check()
    historian.maintain(at(until_s), plant)
    check()


def test_the_trend_page_draws_a_month_from_rollups(historian: Historian) -> None:
    """A month of readings every 10 min is one line with its extremes, broken where days miss."""
    times_s = [-600.0 * i for i in range(30 * 144) if not 5 * 144 < i < 8 * 144]
    historian.store([level(s, math.sin(s)) for s in times_s] + [level(-7200.5, 99.0)])
    historian.maintain(NOON, PLANT)
    samples, step_s = page.history_of(historian, PLANT, [LEVEL], NOON - timedelta(days=30), NOON)
    assert step_s >= 3600
    (panel,) = page.panels(PLANT, [LEVEL], samples, None, step_s=step_s)
    assert np.nanmax(panel.history.values) == 99.0
    assert np.isnan(panel.history.values).sum() == 1
    assert 300 < len(panel.history.times_s) < 2000
