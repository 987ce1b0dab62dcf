"""One rule for what a tag's value is between its readings, for the present, averages and training.

A tag has its last good value until the next good one, for at most its `max_age_s`. Who names
breaks (training does: unfilled gaps, periods that somebody called bad) has no value held across
one. What is not known is NaN, never zero. Nothing here reads a clock or a database.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin.records import Samples, Series

# A mean over a step of which less than this share is known says more about the rest than us.
KNOWN_SHARE = 0.5
#: A larger integral (unit × s) is not added up: it is of no measured value (some sources send the
#: largest number for "none"), and the sum of 100 million smaller ones, of a thousand years of
#: hours, is a number still.
MOST_AREA = 1e300
#: What counts as the same moment, s: stored times have microseconds.
CLOCK_S = 1e-6

#: Stretches in which nothing counts as known, in s since 1970: (stretch, 2), sorted, none inside
#: another. A reading at either end is outside.
Breaks = NDArray[np.float64]
NO_BREAKS: Breaks = np.empty((0, 2))


class Known(NamedTuple):
    """Per step: for how many `seconds` a value was known, and what it was then.

    `origin` is the first value known in it, and `excess` the integral (unit × s) of the value's
    difference from that: the mean of a value that never changed is that value.
    """

    seconds: Series
    origin: Series
    excess: Series

    @property
    def area(self) -> Series:
        """The integral of the value over the known seconds, in unit × s."""
        return self.excess + self.origin * self.seconds

    def means(self, least_s: Series) -> Series:
        """The time-weighted mean; NaN where fewer seconds than `least_s` are known, or none."""
        is_known = (self.seconds >= least_s - CLOCK_S) & (self.seconds > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(is_known, self.origin + self.excess / self.seconds, np.nan)


class GoodValues(NamedTuple):
    """Good values and for how long each holds, in s; times in s since 1970."""

    times_s: Series
    values: Series
    hold_s: Series


def breaks(stretches: Iterable[tuple[datetime, datetime]]) -> Breaks:
    """Stretches of time, in any order and overlapping, as `Breaks`."""
    ends = [(start.timestamp(), end.timestamp()) for start, end in stretches if start < end]
    return joined(np.array(ends, dtype=np.float64).reshape(-1, 2))


def joined(spans_s: NDArray[np.float64]) -> Breaks:
    """Spans (span, 2) in any order as `Breaks`: those that overlap or touch become one."""
    together: list[list[float]] = []
    for start_s, end_s in sorted(spans_s.tolist()):
        if together and start_s <= together[-1][1]:
            together[-1][1] = max(together[-1][1], end_s)
        else:
            together.append([start_s, end_s])
    return np.array(together, dtype=np.float64).reshape(-1, 2)


def inside(times_s: Series, broken: Breaks) -> NDArray[np.bool_]:
    """Which moments lie inside a break; its two ends do not."""
    if not len(broken):
        return np.zeros(len(times_s), dtype=bool)
    index = broken[:, 0].searchsorted(times_s, side="left") - 1
    ends_s = broken[index.clip(0), 1]
    return np.asarray((index >= 0) & (times_s < ends_s))


def good(series: Samples, max_age_s: float, broken: Breaks = NO_BREAKS) -> GoodValues:
    """The good values of a series outside all breaks, and for how long each holds."""
    is_good = np.isfinite(series.values) & ~inside(series.times_s, broken)
    times_s, values = series.times_s[is_good], series.values[is_good]
    hold_s = np.full(times_s.size, max_age_s)
    if len(broken) and times_s.size:
        starts_s = np.append(broken[:, 0], np.inf)
        following = starts_s[starts_s.searchsorted(times_s, side="left")]
        np.minimum(following - times_s, hold_s, out=hold_s)
    return GoodValues(times_s, values, hold_s)


def last_values(held: GoodValues, rows_s: Series) -> Series:
    """The value at each moment of `rows_s`; NaN where none holds."""
    if not held.times_s.size:
        return np.full(rows_s.size, np.nan)
    index = held.times_s.searchsorted(rows_s, side="right") - 1
    at = index.clip(0)
    is_known = (index >= 0) & (rows_s - held.times_s[at] <= held.hold_s[at])
    return np.where(is_known, held.values[at], np.nan)


def known_between(held: GoodValues, edges_s: Series) -> Known:
    """For how long a value held between each two of ever later edges, and its integral.

    Each step is added up by itself: what held elsewhere, however large, does not touch it. A step
    whose integral is beyond `MOST_AREA` counts as not known.
    """
    steps = edges_s.size - 1
    place = held.times_s.searchsorted(edges_s, side="right")
    first, after = place[0], place[-1]
    # Edges and readings in one line, in order: from each moment to the next, one value at most.
    is_edge = np.zeros(after - first + edges_s.size, dtype=bool)
    is_edge[place - first + np.arange(edges_s.size)] = True
    moments_s = np.empty(is_edge.size)
    moments_s[is_edge], moments_s[~is_edge] = edges_s, held.times_s[first:after]
    step = is_edge[:-1].cumsum() - 1
    index = first - 1 + np.arange(step.size) - step
    until_s = np.append(held.times_s + held.hold_s, -np.inf)[index]  # index -1: nothing held yet
    spans_s = np.minimum(moments_s[1:], until_s) - moments_s[:-1]
    (pieces,) = np.nonzero(spans_s > 0)
    if not pieces.size:
        return Known(*np.zeros((3, steps)))
    spans_s, values, step = spans_s[pieces], held.values[index[pieces]], step[pieces]
    seconds = np.bincount(step, spans_s, steps)
    origin = values[step.searchsorted(np.arange(steps)).clip(max=step.size - 1)]
    with np.errstate(over="ignore", invalid="ignore"):
        excess = np.bincount(step, spans_s * (values - origin[step]), steps)
        is_told = np.abs(excess + origin * seconds) <= MOST_AREA
    return Known(*(np.where(is_told, each, 0.0) for each in (seconds, origin, excess)))


def resampled(held: GoodValues, edges_s: Series, aggregate: str) -> Series:
    """One value per edge but the first.

    For `aggregate` "mean" the mean over the step that ends there, NaN if under half of it is
    known; else the last value.
    """
    if aggregate == "mean":
        return known_between(held, edges_s).means(KNOWN_SHARE * np.diff(edges_s))
    return last_values(held, edges_s[1:])
