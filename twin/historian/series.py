"""One tag's readings over time as numbers: all of them, or those that decide what it is when.

What rows of several tags are made of it, and what is not to be learned from, is `windows`'.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from twin.historian.database import fetch, reading
from twin.historian.samples import SampleStore
from twin.historian.schema import microseconds, moment
from twin.plant import Plant, Tag
from twin.records import Samples, Series

# Readings of one tag that are held at a time: some 10 MB.
_PART_READINGS = 100_000
_GOOD = "value IS NOT NULL AND quality < 1073741824"
_IF_GOOD = f"CASE WHEN {_GOOD} THEN value ELSE ? END"
# Looking one up in a file costs as much as reading so many in a row.
_LOOKUP_READINGS = 4
# The readings of one tag that decide what it is at each edge (`Edges`): the newest until then, and
# the newest good one, if they come after the edge before: each reading is looked at twice at most,
# however many are not good.
_NEWEST = (
    "(SELECT ts FROM sample WHERE tag_id = ? AND ts <= edge.value AND ts > edge.value - ?"
    "{arrived} AND {which} ORDER BY ts DESC LIMIT 1)"
)
_DECISIVE = (
    f"SELECT ts, {_IF_GOOD} FROM sample WHERE tag_id = ? AND +ts > ? AND ts IN ("
    f"SELECT {_NEWEST.replace('{which}', _GOOD)} FROM json_each(?) AS edge UNION ALL "
    f"SELECT {_NEWEST.replace('{which}', '1 = 1')} FROM json_each(?) AS edge) ORDER BY ts"
)


@dataclass(frozen=True)
class Columns:
    """Some readings of one tag as they are stored, in time order, one entry each.

    `times_us`: source time since 1970 UTC; `values`: NaN where there is no number; `delay_us`: from
    source time to arrival.
    """

    times_us: NDArray[np.int64]
    values: Series
    quality: NDArray[np.int64]
    delay_us: NDArray[np.int64]
    marks: NDArray[np.int64]


@dataclass(frozen=True)
class Edges:
    """Where even steps begin and end, also as a database takes them.

    `json_us`: the last whole microsecond until each, as a JSON list; `apart_us`: the widest step.
    """

    seconds: Series
    json_us: str
    apart_us: int

    @classmethod
    def of(cls, edges_s: Series) -> Edges:
        """At least two edges, in s since 1970."""
        edges_us = np.rint(edges_s * 1e6)
        edges_us -= edges_us / 1e6 > edges_s
        whole = json.dumps(edges_us.astype(np.int64).tolist())
        return cls(edges_s, whole, int(np.diff(edges_us).max()))


class SeriesStore(SampleStore):
    """The part of the historian that tells how one tag went."""

    def oldest(self, plant: Plant, since: datetime) -> datetime | None:
        """The earliest source time of the plant from `since` on; None where nothing follows."""
        of_tag = "SELECT min(ts) AS ts FROM sample WHERE tag_id = tag.id AND ts >= ?"
        query = f"SELECT min(first) FROM (SELECT ({of_tag}) AS first FROM tag WHERE plant = ?) AS t"
        with reading(self._engine) as connection:
            ((found,),) = fetch(connection, query, (microseconds(since), plant.plant))
        return None if found is None else moment(int(found))

    def hours_known(self, plant: Plant, hours: int, end: datetime) -> int:
        """In how many of the `hours` up to `end` anything good of the plant is stored."""
        query = (
            "SELECT tag.id FROM tag WHERE plant = ? AND EXISTS (SELECT 1 FROM sample "
            f"WHERE tag_id = tag.id AND ts > ? AND ts <= ? AND {_GOOD}) LIMIT 1"
        )
        edges = [microseconds(end - timedelta(hours=back)) for back in range(hours + 1)]
        with reading(self._engine) as connection:
            asked = ((plant.plant, *span) for span in zip(edges[1:], edges[:-1], strict=True))
            return sum(1 for each in asked if fetch(connection, query, each))

    def stretch(
        self,
        plant: Plant,
        tag: str,
        start: datetime,
        end: datetime,
        known_at: datetime | None = None,
        edges: Edges | None = None,
    ) -> Samples:
        """One tag's readings after `start` up to `end`; NaN where not good.

        With `edges` from `start` to `end`, only those that decide what the tag is at each may come:
        the newest until then, and the newest good one.
        """
        arrived, until = _arrived(known_at)
        number, span = self._ids(plant, [tag])[tag], (microseconds(start), microseconds(end))
        query = (
            f"SELECT ts, {_IF_GOOD} FROM sample "
            f"WHERE tag_id = ? AND ts > ? AND ts <= ?{arrived} ORDER BY ts"
        )
        values: tuple[object, ...] = (math.inf, number, *span, *until)
        with reading(self._engine) as connection:
            if edges is not None and _is_dense(connection, number, span, len(edges.seconds)):
                newest = (number, edges.apart_us, *until, edges.json_us)
                query = _DECISIVE.format(arrived=arrived)
                values = (math.inf, number, span[0], *newest, *newest)
            rows = fetch(connection, query, values)
        return _samples(rows)

    def columns(self, plant: Plant, tag: str, start: datetime, end: datetime) -> Iterator[Columns]:
        """All that is stored of a tag from `start` to `end`, both included, in bounded parts."""
        number = self._ids(plant, [tag])[tag]
        since, until = microseconds(start), microseconds(end)
        query = (
            "SELECT ts, value, quality, delay, marks FROM sample "
            f"WHERE tag_id = ? AND ts >= ? AND ts <= ? ORDER BY ts LIMIT {_PART_READINGS}"
        )
        rows: list[tuple[Any, ...]] = [()] * _PART_READINGS
        while len(rows) == _PART_READINGS:
            with reading(self._engine) as connection:
                rows = fetch(connection, query, (number, since, until))
            if rows:
                times_us, values, *whole = zip(*rows, strict=True)
                numbers = (np.array(column, dtype=np.int64) for column in whole)
                found = (np.array(times_us, dtype=np.int64), np.array(values, dtype=np.float64))
                yield Columns(*found, *numbers)
                since = int(times_us[-1]) + 1

    def newest_before(
        self,
        plant: Plant,
        tag: Tag,
        at: datetime,
        known_at: datetime | None = None,
    ) -> Samples:
        """The newest reading and the newest good one up to `at`, if they may hold still."""
        arrived, until = _arrived(known_at)
        number, at_us = self._ids(plant, [tag.name])[tag.name], microseconds(at)
        oldest = at_us - round(tag.max_age_s * 1e6)
        query = (
            f"SELECT ts, {_IF_GOOD} FROM sample WHERE tag_id = ? "
            f"AND ts >= ? AND ts <= ?{arrived} AND {{which}} ORDER BY ts DESC LIMIT 1"
        )
        values = (math.inf, number, oldest, at_us, *until)
        with reading(self._engine) as connection:
            held = fetch(connection, query.format(which=_GOOD), values)
            newest = fetch(connection, query.format(which="1 = 1"), values)
        return _samples(sorted({*held, *newest}, key=lambda row: int(row[0])))


def _arrived(known_at: datetime | None) -> tuple[str, tuple[int, ...]]:
    if known_at is None:
        return "", ()
    return " AND ts + delay <= ?", (microseconds(known_at),)


def _is_dense(connection: Connection, tag_id: int, span: tuple[int, int], edges: int) -> bool:
    """Whether looking up what decides at each edge costs less than reading all: in a file."""
    if connection.dialect.name != "sqlite":
        return False
    enough = "SELECT 1 FROM sample WHERE tag_id = ? AND ts > ? AND ts <= ? LIMIT 1 OFFSET ?"
    return bool(fetch(connection, enough, (tag_id, *span, _LOOKUP_READINGS * edges)))


def _samples(rows: Sequence[tuple[int, float]]) -> Samples:
    """Rows of time (µs) and value, infinite where it is not good."""
    # A third of the time of one array for each column: an hour of 50 tags has 180,000 rows.
    flat = np.fromiter(chain.from_iterable(rows), dtype=np.float64, count=2 * len(rows))
    times_us, values = flat.reshape(-1, 2).T
    return Samples(times_us / 1e6, np.where(np.isfinite(values), values, np.nan))
