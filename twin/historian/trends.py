"""Averages and trends over any span, from hours and minutes where they say all that is asked.

The newest readings, that no rollup counts yet, come as they are stored. How rollups are made is
`rollups`' and `upkeep`'s; what a page shows of a trend is the page's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain

import numpy as np
from sqlalchemy import Connection, Table, func, select

from twin.historian import rollups
from twin.historian.database import fetch, reading
from twin.historian.rollups import HOUR_US, MINUTE_US, Buckets
from twin.historian.schema import (
    EARLIEST,
    microseconds,
    moment,
    rollup_1h,
    rollup_1m,
    rollup_due,
    upkeep,
)
from twin.historian.windows import WindowStore
from twin.plant import Plant, Tag
from twin.records import Samples, Series
from twin.resampling import good, known_between

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
        return {name: self._average(plant, plant.tag(name), start, end) for name in tags}

    def trend(
        self, plant: Plant, tags: Sequence[str], start: datetime, end: datetime, points: int
    ) -> dict[str, Trend]:
        """Each tag from `start` to `end`, in at most `points` equal steps from the start on.

        The first may hold some of the bucket that began before it, of at most a step.
        """
        if points < 1 or end <= start:
            raise ValueError(f"a trend of {points} points from {start} to {end}")
        step_us = (microseconds(end) - microseconds(start)) / points
        table = next((t for t, width in _WIDTHS.items() if step_us >= _NEAR * width), None)
        width_us = max(round(step_us), 1 if table is None else _WIDTHS[table])
        ids = self._ids(plant, tags)
        origin = microseconds(start)
        if table is not None:
            origin = rollups.floor(origin, _WIDTHS[table])
            width_us = rollups.ceiling(width_us, _WIDTHS[table])
        since = origin
        rolled: dict[str, Buckets] = {}
        with reading(self._engine) as connection:
            if table is not None:
                until = _rolled_until(connection, plant.plant, [*ids.values()])
                since = min(max(since, until), microseconds(end))
                rolled = _rolled(connection, table, ids, (origin, since), width_us)
        told = {}
        samples = self.samples(plant, tags, moment(since), end)
        for name in tags:
            times_us = np.rint(samples[name].times_s * 1e6).astype(np.int64)
            raw = rollups.of_samples(times_us, samples[name].values)
            parts = [rolled[name], raw] if name in rolled else [raw]
            told[name] = _trend(np.concatenate(parts), width_us, origin)
        return told

    def _average(self, plant: Plant, tag: Tag, start: datetime, end: datetime) -> Average:
        number = self._ids(plant, [tag.name])[tag.name]
        start_us, end_us = microseconds(start), microseconds(end)
        with reading(self._engine) as connection:
            rolled_us = _rolled_until(connection, plant.plant, [number])
            first = rollups.ceiling(start_us, MINUTE_US)
            last = max(first, rollups.floor(min(end_us, rolled_us), MINUTE_US))
            area, known_s = _sums(connection, number, first, last)
        edges = (
            [start_us, end_us] if first >= min(last, end_us) else [start_us, first, last, end_us]
        )
        for begins, ends in zip(edges[::2], edges[1::2], strict=True):
            if begins < ends:
                more = self._raw(plant, tag, begins, ends)
                area, known_s = area + more[0], known_s + more[1]
        return Average(area / known_s if known_s > 0 else None, known_s)

    def _raw(self, plant: Plant, tag: Tag, start_us: int, end_us: int) -> tuple[float, float]:
        """Integral and known seconds of a span, from its readings."""
        start, end = moment(start_us), moment(end_us)
        before = self.newest_before(plant, tag, start)
        new = self.stretch(plant, tag.name, start, end)
        times_s = np.concatenate([before.times_s, new.times_s]) - start_us / 1e6
        values = np.concatenate([before.values, new.values])
        edges_s = np.array([0.0, (end_us - start_us) / 1e6])
        known = known_between(good(Samples(times_s, values), tag.max_age_s), edges_s)
        return float(known.area[0]), float(known.seconds[0])


_WIDTHS: dict[Table, int] = {rollup_1h: HOUR_US, rollup_1m: MINUTE_US}


def _rolled_until(connection: Connection, plant: str, tag_ids: Sequence[int]) -> int:
    """Before when the tags' rollups say all that is stored; on an hour if a stretch is due."""
    asked = select(upkeep.c.watermark).where(upkeep.c.plant == plant)
    watermark = connection.execute(asked).scalar()
    if watermark is None:
        return microseconds(EARLIEST)
    due = select(func.min(rollup_due.c.since)).where(rollup_due.c.tag_id.in_(tag_ids))
    since = connection.execute(due).scalar()
    return int(watermark if since is None else min(watermark, rollups.floor(since, HOUR_US)))


def _rolled(
    connection: Connection, table: Table, ids: dict[str, int], span: tuple[int, int], width_us: int
) -> dict[str, Buckets]:
    """Each tag's buckets of a span as wider ones, added up by the database."""
    marks = ", ".join("?" * len(ids))
    query = (
        "SELECT tag_id, (bucket - ?) / ?, SUM(n), SUM(n_good), COALESCE(SUM(total), ?), "
        "COALESCE(MIN(low), ?), COALESCE(MAX(high), ?), SUM(area), SUM(known_s) "
        f"FROM {table.name} WHERE tag_id IN ({marks}) AND bucket >= ? AND bucket < ? "
        "GROUP BY 1, 2 ORDER BY 1, 2"
    )
    none = (math.inf,) * 3
    rows = fetch(connection, query, (span[0], width_us, *none, *ids.values(), *span))
    flat = np.fromiter(chain.from_iterable(rows), dtype=np.float64, count=9 * len(rows))
    found = np.where(np.isfinite(flat), flat, np.nan).reshape(-1, 9)
    answer = {}
    for name, number in ids.items():
        first, after = np.searchsorted(found[:, 0], (number, number + 1))
        mine = np.full((after - first, len(rollups.COLUMNS)), np.nan)
        mine[:, rollups.BUCKET] = found[first:after, 1] * width_us + span[0]
        mine[:, rollups.N : rollups.HIGH + 1] = found[first:after, 2:7]
        mine[:, rollups.AREA :] = found[first:after, 7:]
        answer[name] = mine
    return answer


def _sums(connection: Connection, tag_id: int, first: int, last: int) -> tuple[float, float]:
    """Integral and known seconds of [`first`, `last`), both on a minute, from hours and minutes."""
    hour, after = rollups.ceiling(first, HOUR_US), rollups.floor(last, HOUR_US)
    spans = [(rollup_1m, first, last)]
    if hour < after:
        spans = [(rollup_1m, first, hour), (rollup_1h, hour, after), (rollup_1m, after, last)]
    area = known_s = 0.0
    for table, begins, ends in spans:
        inside = (table.c.tag_id == tag_id, table.c.bucket >= begins, table.c.bucket < ends)
        sums = select(func.sum(table.c.area), func.sum(table.c.known_s)).where(*inside)
        found = connection.execute(sums).one()
        area, known_s = area + (found[0] or 0.0), known_s + (found[1] or 0.0)
    return area, known_s


def _trend(buckets: Buckets, width_us: int, origin_us: int) -> Trend:
    wider = rollups.grouped(buckets, width_us, origin_us)
    n_good, known_s = wider[:, rollups.N_GOOD], wider[:, rollups.KNOWN_S]
    with np.errstate(divide="ignore", invalid="ignore"):
        counted = wider[:, rollups.TOTAL] / n_good
        mean = np.where(known_s > 0, wider[:, rollups.AREA] / known_s, counted)
    told = wider[np.isfinite(mean)]
    return Trend(
        step_s=width_us / 1e6,
        times_s=told[:, rollups.BUCKET] / 1e6,
        low=told[:, rollups.LOW],
        mean=mean[np.isfinite(mean)],
        high=told[:, rollups.HIGH],
    )
