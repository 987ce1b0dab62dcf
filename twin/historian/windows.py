"""The past as even rows for training and backtests, in chunks, with masks that say what is known.

The values are those of `twin.state`'s windows; what must not be learned from is told beside them.
Judging the present is not done here.
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

from twin.clock import utc
from twin.historian.annotations import AnnotationStore
from twin.historian.database import fetch, reading
from twin.historian.samples import Gap, SampleStore
from twin.historian.schema import microseconds, moment
from twin.plant import Plant, Tag
from twin.records import Samples, Series
from twin.resampling import Breaks, breaks, good, inside, joined, resampled

#: Cells (row × tag) of one chunk, and readings of one tag at 1 Hz: some 10 MB in all.
_CHUNK_CELLS = 250_000
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
_LONG = timedelta(days=1)

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Wide:
    """Some rows of the past. Every matrix is (row, tag), its columns in the order of `tags`.

    `times_s`: of each row, since 1970 UTC. `values`: as a `Window` has them, NaN where nothing
    good is known. `to_learn`: as training has them, NaN also in unfilled gaps and bad data, without
    a reading from inside and without a value held across one. `is_good`: the newest reading at that
    moment is good. `age_s`: since the last good reading, infinite where none is near enough to
    count. `in_gap`: inside an unfilled gap. `is_bad_data`: inside a period that somebody annotated
    as bad data.
    """

    tags: tuple[str, ...]
    times_s: Series
    values: NDArray[np.float64]
    to_learn: NDArray[np.float64]
    is_good: Mask
    age_s: NDArray[np.float64]
    in_gap: Mask
    is_bad_data: Mask


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


class WindowStore(SampleStore, AnnotationStore):
    """The part of the historian that tells the past row by row."""

    def windows(
        self,
        plant: Plant,
        tags: Sequence[str],
        start: datetime,
        end: datetime,
        step_s: float,
        known_at: datetime | None = None,
    ) -> Iterator[Wide]:
        """The rows at `start` + k × `step_s` up to `end`, k from 1, as chunks in time order.

        A chunk is of bounded size however long the past is. With `known_at`, only what had
        arrived by then: a backtest sees a late laboratory value when the plant saw it, no sooner.

        Raises:
            UnknownTag: the plant has no such tag, or nothing was ever stored of it.
        """
        if not step_s > 0:
            raise ValueError(f"rows {step_s} s apart; a step is above 0 s")
        each = [plant.tag(name) for name in tags]
        # What ended just before the first row still is between it and what would hold there.
        since = start - timedelta(seconds=max((tag.max_age_s for tag in each), default=0.0))
        gaps = self.unfilled(plant, tags, since, end)
        bad = self.bad_data(plant, tags, since, end)
        columns = [
            _Column(
                self, plant, tag, utc(start), known_at, _together(gaps[tag.name], bad[tag.name])
            )
            for tag in each
        ]
        start_s = utc(start).timestamp()
        rows = int((utc(end).timestamp() - start_s) / step_s + 1e-9)
        at_once = max(1, int(_CHUNK_CELLS / max(len(tags), step_s, 1.0)))
        for first in range(0, rows, at_once):
            count = min(at_once, rows - first)
            edges_s = start_s + step_s * np.arange(first, first + count + 1, dtype=np.float64)
            edges = Edges.of(edges_s)
            parts = [column.rows(edges) for column in columns]
            yield Wide(
                tags=tuple(tags),
                times_s=edges_s[1:],
                values=_matrix(count, [part[0] for part in parts]),
                to_learn=_matrix(count, [part[1] for part in parts]),
                is_good=_matrix(count, [part[2] for part in parts]).astype(bool),
                age_s=_matrix(count, [part[3] for part in parts]),
                in_gap=_mask(edges_s[1:], [gaps[name] for name in tags]),
                is_bad_data=_mask(edges_s[1:], [bad[name] for name in tags]),
            )

    def unfilled(
        self,
        plant: Plant,
        tags: Sequence[str],
        start: datetime,
        end: datetime,
        *,
        only_over: bool = False,
    ) -> dict[str, Breaks]:
        """Each tag's unfilled gaps between `start` and `end`; the rest of one being filled.

        A gap that was asked for to its end and is not filled cannot be: all of it counts. With
        `only_over`, only those that ended.
        """
        found = [
            gap
            for gap in self.gaps(plant, since=start, unfilled=True)
            if gap.started_at < end and not (only_over and gap.ended_at is None)
        ]
        stretches = [(gap, _missing(gap, end)) for gap in found]
        return {
            name: breaks(span for gap, span in stretches if _is_of(plant, gap, plant.tag(name)))
            for name in tags
        }

    def bad_data(
        self, plant: Plant, tags: Sequence[str], start: datetime, end: datetime
    ) -> dict[str, Breaks]:
        """Each tag's periods annotated as bad data, both ends inside them."""
        since, until = microseconds(start), microseconds(end)
        found = [
            (period, (period.since_us - 1, period.until_us + 1))
            for period in self.bad_periods(plant)
            if period.since_us <= until and period.until_us >= since
        ]
        return {
            name: joined(_seconds([span for period, span in found if period.holds_for(name)]))
            for name in tags
        }

    def not_to_learn(
        self, plant: Plant, tags: Sequence[str], start: datetime, end: datetime
    ) -> dict[str, Breaks]:
        """Each tag's stretches that training leaves out: unfilled gaps and bad data."""
        gaps = self.unfilled(plant, tags, start, end)
        bad = self.bad_data(plant, tags, start, end)
        return {name: _together(gaps[name], bad[name]) for name in tags}

    def not_to_follow(
        self, plant: Plant, tags: Sequence[str], start: datetime, end: datetime
    ) -> dict[str, Breaks]:
        """Each tag's stretches that planning leaves out: bad data, and unfilled gaps once over.

        While a gap lasts, the present is known by what came last.
        """
        gaps = self.unfilled(plant, tags, start, end, only_over=True)
        bad = self.bad_data(plant, tags, start, end)
        return {name: _together(gaps[name], bad[name]) for name in tags}

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


class _Column:
    """One tag on its way through the chunks: what still holds from before is kept."""

    def __init__(
        self,
        historian: WindowStore,
        plant: Plant,
        tag: Tag,
        start: datetime,
        known_at: datetime | None,
        not_to_learn: Breaks,
    ) -> None:
        self._historian, self._plant, self._tag = historian, plant, tag
        self._not_to_learn = not_to_learn
        self._read_until = start
        self._known_at = known_at
        self._before = historian.newest_before(plant, tag, start, known_at)

    def rows(self, edges: Edges) -> tuple[Series, Series, Series, Series]:
        """Value, value to learn, whether the newest is good, age: at each edge but the first."""
        tag, edges_s = self._tag, edges.seconds
        end = datetime.fromtimestamp(edges_s[-1], tz=self._read_until.tzinfo)
        decisive = None if tag.aggregate == "mean" else edges  # a mean takes all readings
        read = self._historian.stretch
        new = read(self._plant, tag.name, self._read_until, end, self._known_at, decisive)
        self._read_until = end
        times_s = np.concatenate([self._before.times_s, new.times_s])
        series = Samples(times_s, np.concatenate([self._before.values, new.values]))
        held = good(series, tag.max_age_s)
        is_good = np.concatenate(([False], np.isfinite(series.values)))
        newest = series.times_s.searchsorted(edges_s[1:], side="right")
        last = np.concatenate(([-np.inf], held.times_s))
        age_s = edges_s[1:] - last[held.times_s.searchsorted(edges_s[1:], side="right")]
        is_near = age_s <= tag.max_age_s
        self._before = _end_of(series)
        values = to_learn = resampled(held, edges_s, tag.aggregate)
        if len(self._not_to_learn):
            learned = good(series, tag.max_age_s, self._not_to_learn)
            to_learn = resampled(learned, edges_s, tag.aggregate)
        is_newest_good = (is_good[newest] & is_near).astype(float)
        return values, to_learn, is_newest_good, np.where(is_near, age_s, np.inf)


def _end_of(series: Samples) -> Samples:
    """The last good reading and what came after it, at most one."""
    places = np.flatnonzero(np.isfinite(series.values))[-1:]
    last = len(series.times_s) - 1
    if last >= 0 and last not in places:
        places = np.append(places, last)
    return Samples(series.times_s[places], series.values[places])


def _seconds(spans_us: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    return np.array(spans_us, dtype=np.float64).reshape(-1, 2) / 1e6


def _together(first: Breaks, second: Breaks) -> Breaks:
    return joined(np.concatenate([first, second]))


def _matrix(rows: int, columns: Sequence[Series]) -> NDArray[np.float64]:
    return np.column_stack(columns) if columns else np.empty((rows, 0))


def _mask(rows_s: Series, broken: Sequence[Breaks]) -> Mask:
    columns = [inside(rows_s, each) for each in broken]
    return np.column_stack(columns) if columns else np.empty((len(rows_s), 0), dtype=bool)


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


def _missing(gap: Gap, end: datetime) -> tuple[datetime, datetime]:
    """From when to when a gap's readings are missing still: all of it, if asked for in vain."""
    asked = gap.filled_until
    started = gap.started_at if asked is None or gap.cannot_be_filled else asked
    return started, gap.ended_at or max(end, started) + _LONG


def _is_of(plant: Plant, gap: Gap, tag: Tag) -> bool:
    """Whether a gap is one of this tag's."""
    main = plant.opcua.name if plant.opcua is not None else ""
    is_source = gap.source in ("", tag.source or main)
    return is_source and gap.tag in (None, tag.name)
