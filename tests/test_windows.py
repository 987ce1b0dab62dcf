"""The past as even rows: the same values that planners see, and honest about what was known."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_plant import DEMAND, LEVEL, NOON, PUMP, at, level, small_plant
from sqlalchemy import URL

from twin.dynamics.past import past_to_learn
from twin.errors import UnknownTag
from twin.historian import AnnotationKind, Historian, Wide
from twin.historian.series import Edges
from twin.records import BAD, GOOD, Reading
from twin.state import window, window_start

PLANT = small_plant()
TAGS = (LEVEL, DEMAND, PUMP)


@pytest.fixture
def historian(database: URL) -> Iterator[Historian]:
    with Historian.create(database) as opened:
        opened.register(PLANT)
        yield opened


def whole(chunks: Iterator[Wide]) -> Wide:
    """All chunks as one."""
    found = list(chunks)
    names = ("times_s", "values", "to_learn", "is_good", "age_s", "in_gap", "is_bad_data")
    parts = {name: np.concatenate([getattr(c, name) for c in found]) for name in names}
    return Wide(tags=found[0].tags, **parts)


READINGS = st.lists(
    st.builds(
        lambda name, seconds, value, quality: level(seconds, value, quality, name),
        st.sampled_from(TAGS),
        st.floats(-200, 2000).map(lambda s: round(s, 3)),
        st.floats(-1e3, 1e3),
        st.sampled_from((GOOD, GOOD, BAD)),
    ),
    max_size=60,
)


SPANS = st.lists(
    st.tuples(
        st.sampled_from((None, *TAGS)),
        st.integers(-150, 1900).map(float),
        st.integers(1, 400).map(float),
        st.booleans(),
    ),
    max_size=4,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(readings=READINGS, spans=SPANS, step_s=st.sampled_from((1.0, 7.5, 60.0, 600.0)))
def test_rows_are_those_of_the_planners_window_and_of_training(
    tmp_path_factory: pytest.TempPathFactory,
    readings: list[Reading],
    spans: list[tuple[str | None, float, float, bool]],
    step_s: float,
) -> None:
    """One rule of holding makes them all: no mean in an export has a reading of a bad period."""
    with Historian.create(tmp_path_factory.mktemp("wide") / "h.db") as historian:
        historian.register(PLANT)
        historian.store(readings, PLANT)
        for tag, begins, lasts, is_gap in spans:
            if is_gap:
                historian.add_gap(PLANT, at(begins), at(begins + lasts), "away", tag=tag)
            else:
                told = {"by": "Ada", "reason": "broken", "at": at(0), "tags": [tag] if tag else []}
                period = (at(begins), at(begins + lasts))
                historian.annotate(PLANT, AnnotationKind.BAD_DATA, *period, **told)
        rows = int(1800 / step_s)
        end = NOON + timedelta(seconds=rows * step_s)
        wide = whole(historian.windows(PLANT, TAGS, NOON, end, step_s))
        samples = historian.samples(PLANT, TAGS, window_start(PLANT, end, rows, step_s), end)
        expected = window(PLANT, samples, end, rows, step_s)
        learned = past_to_learn(PLANT, historian, TAGS, end, rows, step_s)
    for i, name in enumerate(TAGS):
        for found, told in ((wide.values, expected), (wide.to_learn, learned)):
            np.testing.assert_allclose(found[:, i], told.values[name], rtol=1e-9, atol=1e-6)


def test_a_long_past_comes_in_chunks_that_fit_together(historian: Historian) -> None:
    """Four days of seconds: several chunks, each bounded, no row lost or doubled, holds go on."""
    historian.store([level(50.0 * i, float(i)) for i in range(7000)])
    end = at(4 * 86_400)
    sizes = [len(c.times_s) for c in historian.windows(PLANT, [LEVEL], NOON, end, 1.0)]
    assert len(sizes) > 1
    assert max(sizes) <= 250_000
    wide = whole(historian.windows(PLANT, [LEVEL], NOON, end, 1.0))
    np.testing.assert_array_equal(wide.times_s, NOON.timestamp() + np.arange(1, 4 * 86_400 + 1))
    np.testing.assert_array_equal(wide.values[:, 0], np.arange(1, 4 * 86_400 + 1) // 50)
    np.testing.assert_array_equal(wide.age_s[:, 0], np.arange(1, 4 * 86_400 + 1) % 50)


@pytest.mark.parametrize("step_s", [10.0, 37 / 3, 60.0])
@pytest.mark.parametrize("known_at", [None, at(1500)])
def test_rows_wider_than_the_readings_say_what_held_at_them(
    historian: Historian, step_s: float, known_at: datetime | None
) -> None:
    """Not all readings are looked at then; those left out decide nothing, good, bad or late."""
    rng = random.Random(1000)
    readings = [
        replace(
            level(s + rng.choice((0.0, 0.25)), float(s), BAD if s % 700 < 200 else GOOD),
            arrival_time=at(s + rng.choice((1, 1, 900))),
        )
        for s in range(-50, 3600)
        if not 1000 < s < 1300 and rng.random() < 0.9
    ]
    historian.store(readings)
    wide = whole(historian.windows(PLANT, [LEVEL], NOON, at(3600), step_s, known_at))
    known = [r for r in readings if known_at is None or r.arrival_time <= known_at]
    for i, edge_s in enumerate(wide.times_s.tolist()):
        until = [r for r in known if r.source_time.timestamp() <= edge_s]
        good = [r for r in until if r.is_good][-1:]
        ages_s = [edge_s - r.source_time.timestamp() for r in good]
        is_near = bool(good) and ages_s[0] <= 60
        assert wide.is_good[i, 0] == (is_near and until[-1].is_good)
        assert wide.age_s[i, 0] == (ages_s[0] if is_near else math.inf)
        np.testing.assert_equal(wide.values[i, 0], good[0].value if is_near else math.nan)
    edges = Edges.of(wide.times_s)
    looked_at = historian.stretch(PLANT, LEVEL, NOON, at(3600), known_at, edges)
    in_all = historian.stretch(PLANT, LEVEL, NOON, at(3600), known_at)
    is_file = historian.path is not None
    assert is_file == (2 * len(looked_at.values) < len(in_all.values))


def test_a_backtest_sees_a_late_value_when_it_had_arrived(historian: Historian) -> None:
    """A laboratory value of noon that came at one o'clock is unknown before, and known after."""
    historian.store([Reading(LEVEL, 7.0, GOOD, at(0), at(3600))])
    rows = {
        known_at: next(historian.windows(PLANT, [LEVEL], at(-60), at(30), 30.0, known_at))
        for known_at in (at(3599), at(3600), None)
    }
    assert np.isnan(rows[at(3599)].values).all()
    assert rows[at(3600)].values[:, 0].tolist()[1:] == [7.0, 7.0]
    np.testing.assert_array_equal(rows[None].values, rows[at(3600)].values)


def test_masks_say_what_is_wrong_with_a_row(historian: Historian) -> None:
    """Bad newest reading, unfilled gap, bad data: each has its own mask, and none is usable."""
    historian.store([level(10.0 * i, 1.0, BAD if i == 3 else GOOD) for i in range(12)])
    historian.add_gap(PLANT, at(50), at(70), "not connected")
    historian.add_gap(PLANT, at(80), at(85), "filled since", is_filled=True)
    told = {"by": "Ada", "reason": "cleaned", "at": at(0), "tags": [LEVEL]}
    historian.annotate(PLANT, AnnotationKind.BAD_DATA, at(90), at(100), **told)
    wide = next(historian.windows(PLANT, [LEVEL, PUMP], at(0), at(110), 10.0))

    def seconds(mask: np.ndarray) -> list[int]:
        return (10 * (np.flatnonzero(mask[:, 0]) + 1)).tolist()

    assert seconds(~wide.is_good) == [30]
    assert seconds(wide.in_gap) == [60]
    assert seconds(wide.is_bad_data) == [90, 100]
    assert seconds(np.isfinite(wide.to_learn)) == [10, 20, 30, 40, 50, 70, 80, 110]
    assert wide.age_s[:4, 0].tolist() == [0, 0, 10, 0]
    assert np.isnan(wide.to_learn[:, 1]).all()
    assert np.isinf(wide.age_s[:, 1]).all()
    assert not wide.is_bad_data[:, 1].any()


def test_a_gap_of_another_source_is_no_gap_of_this_tag(historian: Historian) -> None:
    """Only the tags of the source that was away are in its gap; a filled part is none."""
    historian.add_gap(PLANT, at(0), at(100), "away", source="laboratory")
    historian.add_gap(PLANT, at(200), None, "away", source="opcua", filled_until=at(260))
    rows = next(historian.windows(PLANT, [LEVEL], at(0), at(300), 10.0))
    assert (10 * (np.flatnonzero(rows.in_gap[:, 0]) + 1)).tolist() == [270, 280, 290, 300]


def test_a_gap_that_cannot_be_filled_is_never_learned_from(historian: Historian) -> None:
    """Asked for to its end and not filled: every row inside is missing, for good."""
    historian.store([level(0, 1.0), level(50, 2.0), level(300, 3.0)])
    told = {"source": "opcua", "filled_until": at(200)}
    historian.add_gap(PLANT, at(20), at(200), "away; no history of it", **told)
    historian.add_gap(PLANT, at(220), at(240), "silent", tag=LEVEL, filled_until=at(240))
    rows = next(historian.windows(PLANT, [LEVEL, PUMP], at(0), at(300), 10.0))

    def seconds(mask: np.ndarray) -> list[int]:
        return (10 * (np.flatnonzero(mask) + 1)).tolist()

    of_source = [*range(30, 200, 10)]
    assert seconds(rows.in_gap[:, 0]) == [*of_source, 230]
    assert seconds(rows.in_gap[:, 1]) == of_source
    past = past_to_learn(PLANT, historian, [LEVEL], at(300), 30, 10.0)
    assert seconds(np.isfinite(past.values[LEVEL])) == [10, 20, 300]


def test_rows_of_an_unknown_tag_or_no_step_are_refused(historian: Historian) -> None:
    """A wrong call is told, not answered with emptiness."""
    with pytest.raises(UnknownTag):
        next(historian.windows(PLANT, ["nix"], at(0), at(10), 1.0))
    with pytest.raises(ValueError, match="step"):
        next(historian.windows(PLANT, [LEVEL], at(0), at(10), 0.0))
