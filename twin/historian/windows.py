"""The past as even rows for training and backtests, in chunks, with masks that say what is known.

The values are those of `twin.state`'s windows; what must not be learned from is told beside them.
Judging the present is not done here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from twin.clock import utc
from twin.historian.annotations import AnnotationStore
from twin.historian.gaps import Gap, GapStore
from twin.historian.schema import microseconds
from twin.historian.series import Edges, SeriesStore
from twin.plant import Plant, Tag
from twin.records import Samples, Series
from twin.resampling import Breaks, breaks, good, inside, joined, resampled

#: Cells (row × tag) of one chunk: with the readings of one tag at 1 Hz some 10 MB in all.
_CHUNK_CELLS = 250_000
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


class WindowStore(SeriesStore, GapStore, AnnotationStore):
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
