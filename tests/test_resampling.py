"""What a value was over a step depends on what held in that step, and on nothing else."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin.records import Samples
from twin.resampling import MOST_AREA, GoodValues, Known, good, known_between

LARGEST = sys.float_info.max
MAX_AGE_S = 60.0

POINTS = st.lists(
    st.tuples(st.integers(-200, 900), st.floats(-1e3, 1e3) | st.just(math.nan)),
    min_size=1,
    max_size=40,
    unique_by=lambda point: point[0],
).map(sorted)
EDGES = st.lists(st.integers(-100, 800), min_size=2, max_size=12, unique=True).map(sorted)


def held(points: list[tuple[int, float]]) -> GoodValues:
    times_s, values = np.array(points, dtype=float).T
    return good(Samples(times_s, values), MAX_AGE_S)


def means(known: Known) -> list[float]:
    """NaN where nothing is known."""
    return known.means(np.zeros(len(known.seconds))).tolist()


@given(
    points=POINTS,
    edges=EDGES,
    at_s=st.integers(-200, 900).map(lambda s: s + 0.5),
    spike=st.sampled_from((3.4028234663852886e38, -1e300, 9.9e306, LARGEST, -LARGEST)),
)
def test_a_spike_changes_only_the_steps_in_which_it_holds(
    points: list[tuple[int, float]], edges: list[int], at_s: float, spike: float
) -> None:
    """Somebody's "no value", sent as a number: every other step says bit by bit what it said."""
    edges_s = np.array(edges, dtype=float)
    with_spike = sorted([*points, (at_s, spike)])
    following_s = min((s for s, v in points if s > at_s and v == v), default=math.inf)
    until_s = min(at_s + MAX_AGE_S, following_s)
    clean, dirty = known_between(held(points), edges_s), known_between(held(with_spike), edges_s)
    is_away = (edges_s[1:] <= at_s) | (edges_s[:-1] >= until_s)
    for before, after in ((clean.seconds, dirty.seconds), (clean.area, dirty.area)):
        np.testing.assert_array_equal(before[is_away], after[is_away])
    np.testing.assert_array_equal(np.array(means(clean))[is_away], np.array(means(dirty))[is_away])
    assert np.isfinite(dirty.area).all()


@given(points=POINTS, edges=EDGES)
def test_steps_add_up_to_the_whole(points: list[tuple[int, float]], edges: list[int]) -> None:
    """However a span is cut, no second is lost or counted twice, and none weighs more."""
    edges_s = np.array(edges, dtype=float)
    steps, whole = (
        known_between(held(points), edges_s),
        known_between(held(points), edges_s[[0, -1]]),
    )
    assert steps.seconds.sum() == pytest.approx(whole.seconds[0], abs=1e-9)
    assert steps.area.sum() == pytest.approx(whole.area[0], abs=1e-6)


@given(value=st.floats(-1e12, 1e12), edges=EDGES)
def test_what_never_changed_is_its_own_mean(value: float, edges: list[int]) -> None:
    """Bit by bit, however many readings say it."""
    points = [(s, value) for s in range(-200, 900, 7)]
    known = known_between(held(points), np.array(edges, dtype=float))
    assert means(known) == [value] * (len(edges) - 1)


@pytest.mark.parametrize("value", [LARGEST, -LARGEST, 1e299])
def test_a_value_too_large_to_add_up_counts_as_not_known(value: float) -> None:
    """Its step knows nothing of that; the one before and the one after are what they were."""
    known = known_between(held([(0, 2.0), (60, value), (120, 4.0)]), np.arange(0.0, 181.0, 60.0))
    assert known.seconds.tolist() == [60.0, 0.0, 60.0]
    assert known.area.tolist() == [120.0, 0.0, 240.0]
    np.testing.assert_array_equal(means(known), [2.0, math.nan, 4.0])
    assert math.isfinite(MOST_AREA * 1e8)
