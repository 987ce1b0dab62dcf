"""Averages and trends over any span, from hours and minutes where they say all that is asked.

Where they do not yet, the readings themselves are summed up. How rollups are made is `rollups`' and
`upkeep`'s; what a page shows of a trend is the page's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from sqlalchemy import Connection, Table

from twin.historian import rollups
from twin.historian.database import reading
from twin.historian.rolled import Part, Rolled, Span, rolled, steps, sums
from twin.historian.rollups import HOUR_US, MINUTE_US, Buckets
from twin.historian.schema import microseconds, rollup_1h, rollup_1m
from twin.historian.windows import WindowStore
from twin.plant import Plant
from twin.records import Samples, Series
from twin.resampling import CLOCK_S

#: From steps of so much of a bucket on, buckets of that width are shown: at most twice as coarse
#: as asked, and never more than 120 times as many rows read as shown.
_NEAR = 0.5


@dataclass(frozen=True, slots=True)
class Average:
    """A time-weighted mean over the `known_s` seconds in which a value held; None if none."""

    value: float | None
    known_s: float


@dataclass(frozen=True)
class Trend:
    """One tag over time in steps of `step_s`: lowest, mean and highest value of each.

    `times_s` are the steps' beginnings, since 1970 UTC; a step without a good reading or a held
    value is left out. `low` and `high` are NaN where a value only held.
    """

    step_s: float
    times_s: Series
    low: Series
    mean: Series
    high: Series

    def outline(self) -> Samples:
        """Mean, lowest, highest and mean value of each step as one line, to be drawn."""
        offsets_s = self.step_s * np.array([0.0, 0.25, 0.5, 0.75])
        parts = (self.mean, self.low, self.high, self.mean)
        values = np.column_stack([np.where(np.isfinite(p), p, self.mean) for p in parts])
        times_s = self.times_s[:, None] + offsets_s
        return Samples(times_s.ravel(), values.ravel())


class TrendStore(WindowStore):
    """The part of the historian that sums up long spans quickly."""

    def time_weighted_average(
        self, plant: Plant, tags: Sequence[str], start: datetime, end: datetime
    ) -> dict[str, Average]:
        """Each tag's mean over time from `start` to `end`, by the holding rule of `rollups`.

        Raises:
            UnknownTag: the plant has no such tag, or nothing was ever stored of it.
        """
        span = (microseconds(start), microseconds(end))
        ids = self._ids(plant, tags)
        ages_s = {number: plant.tag(name).max_age_s for name, number in ids.items()}
        with reading(self._engine) as connection:
            told = rolled(connection, plant.plant, ages_s, span)
            asked = _Asked(connection, told, ages_s)
            return {name: asked.average(ids[name], span) for name in tags}

    def trend(
        self, plant: Plant, tags: Sequence[str], start: datetime, end: datetime, points: int
    ) -> dict[str, Trend]:
        """Each tag from `start` to `end`, in at most `points` equal steps from the start on.

        The first may hold some of the bucket that began before it, of at most a step. Nothing
        after the end is in the last one, as long as minutes and readings of it are kept. Where
        they are not at the start, all steps are as wide as what is: minutes, or hours.
        """
        if points < 1 or end <= start:
            raise ValueError(f"a trend of {points} points from {start} to {end}")
        ids = self._ids(plant, tags)
        ages_s = {number: plant.tag(name).max_age_s for name, number in ids.items()}
        start_us, end_us = microseconds(start), microseconds(end)
        with reading(self._engine) as connection:
            around = (rollups.floor(start_us, HOUR_US), end_us + 1)  # what is at the end is in it
            told = rolled(connection, plant.plant, ages_s, around)
            grid = _Grid.of(start_us, end_us, points, told)
            if grid.table is not None:
                asked = _Asked(connection, told, ages_s)
                found = asked.buckets(grid, grid.table, (grid.origin_us, around[1]))
                return {name: _trend(found[ids[name]], grid) for name in tags}
        samples = self.samples(plant, tags, start, end)
        return {name: _trend(_single(samples[name]), grid) for name in tags}


_WIDTHS: dict[Table, int] = {rollup_1h: HOUR_US, rollup_1m: MINUTE_US}


@dataclass(frozen=True, slots=True)
class _Grid:
    """A trend's steps: they begin at `origin_us` + k × `width_us`, made of a table's buckets.

    `table` None: of readings.
    """

    table: Table | None
    origin_us: int
    width_us: int

    @classmethod
    def of(cls, start_us: int, end_us: int, points: int, told: Rolled) -> _Grid:
        """At most `points` steps from the start to the end, of whole buckets if of any.

        Of a table that tells the start still.
        """
        step_us = (end_us - start_us) / points
        table = next((t for t, width in _WIDTHS.items() if step_us >= _NEAR * width), None)
        if table is None and start_us < told.raw_from:
            table = rollup_1m
        if table is rollup_1m and start_us < told.minutes_from:
            table = rollup_1h
        if table is None:
            return cls(None, start_us, max(round(step_us), 1))
        bucket_us = _WIDTHS[table]
        width_us = rollups.ceiling(max(round(step_us), bucket_us), bucket_us)
        return cls(table, rollups.floor(start_us, bucket_us), width_us)


class _Asked:
    """Spans of tags, answered at one moment of the database: by rollups, else by readings."""

    def __init__(self, connection: Connection, told: Rolled, ages_s: Mapping[int, float]) -> None:
        self._connection = connection
        self._told = told
        self._ages_s = ages_s

    def average(self, tag_id: int, span: Span) -> Average:
        """The mean over a span."""
        area = known_s = 0.0
        for part in self._told.parts(tag_id, span, MINUTE_US):
            more = self._sums(tag_id, part)
            area, known_s = area + more[0], known_s + more[1]
        return Average(area / known_s if known_s > 0 else None, known_s)

    def buckets(self, grid: _Grid, table: Table, span: Span) -> dict[int, Buckets]:
        """By tag number the buckets of a span, in order; what rollups tell is in steps already."""
        found: dict[int, list[Buckets]] = {number: [] for number in self._ages_s}
        for source, stretch in self._sources(table, span):
            width_us = _WIDTHS[source]
            parts = {n: [*self._told.parts(n, stretch, width_us)] for n in found}
            stored = self._stored(grid, source, parts)
            for number, of_tag in parts.items():
                found[number] += [
                    stored[part][number]
                    if part.is_rolled
                    else self._of_readings(number, part, width_us)
                    for part in of_tag
                ]
        empty = rollups.of_samples(np.empty(0, dtype=np.int64), np.empty(0))
        return {number: np.concatenate([empty, *each]) for number, each in found.items()}

    def _stored(
        self, grid: _Grid, source: Table, parts: Mapping[int, Sequence[Part]]
    ) -> dict[Part, dict[int, Buckets]]:
        """What rollups tell of tags' parts: most have the same, and one query asks for all."""
        alike: dict[Part, list[int]] = {}
        for number, of_tag in parts.items():
            for part in of_tag:
                if part.is_rolled:
                    alike.setdefault(part, []).append(number)
        steps_us = (grid.origin_us, grid.width_us)
        return {
            part: steps(self._connection, source, numbers, part, steps_us)
            for part, numbers in alike.items()
        }

    def _sources(self, table: Table, span: Span) -> list[tuple[Table, Span]]:
        """Where the buckets of a span are: of an hour in which it ends, in minutes if kept."""
        since, until = span
        hour = rollups.floor(until, HOUR_US)
        if table is rollup_1m or until >= self._told.until:
            return [(table, span)]
        if hour < self._told.minutes_from:
            return [(table, (since, rollups.ceiling(until - 1, HOUR_US)))]
        return [(table, (since, hour)), (rollup_1m, (hour, until))]

    def _sums(self, tag_id: int, part: Part) -> tuple[float, float]:
        """Integral and known seconds of a part."""
        if part.is_rolled:
            return sums(self._connection, tag_id, (part.since, part.until))
        found = self._of_readings(tag_id, part, part.until - part.since)
        return float(found[:, rollups.AREA].sum()), float(found[:, rollups.KNOWN_S].sum())

    def _of_readings(self, tag_id: int, part: Part, width_us: int) -> Buckets:
        """A part's buckets from its readings."""
        age_s = self._ages_s[tag_id]
        span = (part.since, part.until)
        times_us, values = rollups.samples_of(self._connection, tag_id, *span)
        before = rollups.last_before(self._connection, tag_id, part.since, age_s)
        return rollups.between(times_us, values, span, width_us, age_s, before)


def _single(samples: Samples) -> Buckets:
    return rollups.of_samples(np.rint(samples.times_s * 1e6).astype(np.int64), samples.values)


def _trend(buckets: Buckets, grid: _Grid) -> Trend:
    wider = rollups.grouped(buckets, grid.width_us, grid.origin_us)
    n_good, known_s = wider[:, rollups.N_GOOD], wider[:, rollups.KNOWN_S]
    with np.errstate(divide="ignore", invalid="ignore"):
        counted = wider[:, rollups.TOTAL] / n_good
        mean = np.where(known_s > 0, wider[:, rollups.AREA] / known_s, counted)
    # What is at the end is told, so the span is 1 µs longer: to hold in that alone is no step.
    is_told = np.isfinite(mean) & ((n_good > 0) | (known_s > 1.5 * CLOCK_S))
    told = wider[is_told]
    return Trend(
        step_s=grid.width_us / 1e6,
        times_s=told[:, rollups.BUCKET] / 1e6,
        low=told[:, rollups.LOW],
        mean=mean[is_told],
        high=told[:, rollups.HIGH],
    )
