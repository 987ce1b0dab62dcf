"""What a historian needs regularly: rollups brought up to date, and what is too old deleted.

Everything goes in short transactions, and each leaves the database whole: killed at any point,
the next call carries on. What a rollup says is `rollups`', what may be deleted `retention`'s.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, func, select, update

from twin.errors import RecordRefused
from twin.historian import rollups
from twin.historian.annotations import AnnotationStore
from twin.historian.database import REST_S, fetch, writing
from twin.historian.retention import KEEP, Deleted, Keep, Retention, deleted_before, lock
from twin.historian.rollups import MINUTE_US, Stretch
from twin.historian.schema import (
    last_value,
    microseconds,
    moment,
    rollup_1m,
    rollup_due,
    sample,
    tag,
    upkeep,
)
from twin.plant import Plant

#: How far behind the present the watermark stays: most readings have come by then.
SETTLED = timedelta(seconds=90)
# Two processes that take turns may have clocks so far apart: the watermark waits for the later one.
_CLOCKS_DIFFER_US = rollups.HOUR_US
#: For how long one call works at most; the next carries on.
MOST_S = 20.0
# A transaction takes no further piece after this time: with the last one and the commit, other
# writers wait less than 0.1 s. A piece has at most so many readings, and at most so many minutes:
# some 0.02 s of work, at 10 µs for each of either.
_TRANSACTION_S = 0.03
_PIECE_READINGS = 2_000
_PIECE_MINUTES = 500
_AT_ONCE = 30  # stretches looked up at a time: about as many as a transaction takes


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What one call of `maintain` came to.

    `rolled_until`: rollups say what is stored before it, but for `due` stretches of single tags
    that the next call takes up.
    """

    rolled_until: datetime | None
    rolled_stretches: int
    due: int
    deleted: Deleted


class UpkeepStore(AnnotationStore):
    """The part of the historian that keeps rollups right and the database from growing for ever."""

    def maintain(
        self, now: datetime, plant: Plant, keep: Keep = KEEP, most_s: float = MOST_S
    ) -> Upkeep:
        """Bring the plant's rollups up to plant time `now` and delete what is older than `keep`.

        To be called about once a minute, by any process; works for at most about `most_s`. Other
        writers wait for less than 0.1 s at a time.
        """
        give_up_at = time.monotonic() + most_s
        watermark = self._advance(plant, microseconds(now - SETTLED))
        done = sum(1 for _ in self._roll(plant, give_up_at))
        with writing(self._engine) as connection:
            due = connection.execute(_due_of(plant).with_only_columns(func.count())).scalar_one()
        deleted = Deleted()
        if not due:
            retention = Retention(self._engine, self._kept_periods)
            deleted = retention.clear(now, plant, keep, give_up_at)
        rolled_until = None if watermark is None else moment(watermark)
        return Upkeep(rolled_until, done, due, deleted)

    def _advance(self, plant: Plant, until_us: int) -> int | None:
        """Move the watermark; what it passes is due. None while there is nothing to roll.

        One that ran ahead with a wrong clock or stamp comes back: what is rolled beyond is rolled
        again when time has come there.
        """
        until = rollups.floor(until_us, MINUTE_US)
        with writing(self._engine) as connection:
            watermark = lock(connection, plant.plant)
            if watermark is not None and until <= watermark <= until + _CLOCKS_DIFFER_US:
                return watermark
            if watermark is None or watermark < until:
                passed = _passed(connection, plant, watermark, until)
                if watermark is None and not passed:
                    return None
                rollups.mark(connection, passed)
            at = upkeep.c.plant == plant.plant
            connection.execute(update(upkeep).where(at).values(watermark=until))
        return until

    def _roll(self, plant: Plant, give_up_at: float) -> Iterator[Stretch]:
        """Compute what is due, the newest first: each finished stretch.

        Raises RecordRefused at the end for a stretch that the database refused: it stays due, and
        no other waits for it.
        """
        refused: dict[Stretch, RecordRefused] = {}
        while time.monotonic() < give_up_at:
            finished = self._roll_some(plant, refused)
            if finished is None:
                break
            yield from finished
            time.sleep(REST_S)
        for fault in refused.values():
            raise fault

    def _roll_some(
        self, plant: Plant, refused: dict[Stretch, RecordRefused]
    ) -> list[Stretch] | None:
        """One transaction's work on the newest stretches that are due: those finished.

        None where none is left but the `refused` ones, to which one may be added.
        """
        ages_s = {t.name: t.max_age_s for t in plant.tags}
        finished, stretch = [], None
        try:
            with writing(self._engine) as connection:
                rest_at = time.monotonic() + _TRANSACTION_S
                watermark = lock(connection, plant.plant)
                raw_from, minutes_from = deleted_before(connection, plant.plant)
                newest = _due_of(plant).order_by(rollup_due.c.until.desc())
                rows = connection.execute(newest.limit(_AT_ONCE + len(refused))).all()
                due = {Stretch(*row[:3]): ages_s.get(row.name, 0.0) for row in rows}
                if watermark is None or not due.keys() - refused.keys():
                    return None
                for stretch in [each for each in due if each not in refused]:
                    piece = _Piece(connection, due[stretch], watermark, raw_from, minutes_from)
                    if piece.roll(stretch):
                        finished.append(stretch)
                    if time.monotonic() > rest_at:
                        break
        except RecordRefused as fault:
            if stretch is None:
                raise
            refused[stretch] = fault
            return []
        return finished


class _Piece:
    """One step along a due stretch, inside a transaction."""

    def __init__(
        self,
        connection: Connection,
        max_age_s: float,
        watermark: int,
        raw_from: int | None,
        minutes_from: int | None,
    ) -> None:
        self._connection = connection
        self._max_age_s = max_age_s
        self._max_age_us = round(max_age_s * 1e6)
        self._watermark = watermark
        # A minute is whole if the readings that may hold into it are kept too.
        self._minutes_whole = None if raw_from is None else raw_from + self._max_age_us
        self._hours_whole = minutes_from

    def roll(self, due: Stretch) -> bool:
        """Compute the stretch's first minutes and hours; False where some are left, due still."""
        end = min(self._held_until(due), self._watermark)
        start = due.since
        before = rollups.last_before(self._connection, due.tag_id, start, self._max_age_s)
        if before is None:
            start = max(start, rollups.floor(self._next(due.tag_id, start, end), MINUTE_US))
        stop = min(end, start + _PIECE_MINUTES * MINUTE_US)
        if start < stop:
            stop = self._compute(due, start, stop, before)
        rollups.unmark(self._connection, due)
        if stop < end:
            rollups.mark(self._connection, [Stretch(due.tag_id, stop, due.until)])
        return stop >= end

    def _compute(
        self, due: Stretch, start: int, stop: int, before: tuple[int, float] | None
    ) -> int:
        """Store the minutes from `start` on and their hours; returns up to where."""
        read, tag_id = rollups.samples_of, due.tag_id
        times_us, values = read(self._connection, tag_id, start, stop, _PIECE_READINGS)
        if len(times_us) == _PIECE_READINGS:
            stop = max(rollups.floor(int(times_us[-1]), MINUTE_US), start + MINUTE_US)
            times_us, values = read(self._connection, tag_id, start, stop)
        span = (start, stop)
        found = rollups.between(times_us, values, span, MINUTE_US, self._max_age_s, before)
        rolled = Stretch(tag_id, due.since, stop)
        rollups.replace(self._connection, rollup_1m, rolled, found, self._minutes_whole)
        rollups.roll_hours(self._connection, rolled, self._hours_whole)
        return stop

    def _held_until(self, due: Stretch) -> int:
        """Where the last value of the stretch ends: that too is changed by a late reading."""
        held = due.until + self._max_age_us
        query = (
            "SELECT ts FROM sample WHERE tag_id = ? AND ts >= ? AND ts < ? "
            "AND value IS NOT NULL AND quality < 1073741824 ORDER BY ts LIMIT 1"
        )
        rows = fetch(self._connection, query, (due.tag_id, due.until, held))
        return rollups.ceiling(rows[0][0] if rows else held, MINUTE_US)

    def _next(self, tag_id: int, start: int, end: int) -> int:
        """The first reading from `start` on; `end` where there is none before it."""
        query = "SELECT min(ts) FROM sample WHERE tag_id = ? AND ts >= ? AND ts < ?"
        ((found,),) = fetch(self._connection, query, (tag_id, start, end))
        return end if found is None else int(found)


def _passed(
    connection: Connection, plant: Plant, watermark: int | None, until: int
) -> list[Stretch]:
    """What the watermark passes on its way to `until`, of every tag that had a value then."""
    ages_us = {t.name: round(t.max_age_s * 1e6) for t in plant.tags}
    of_plant = select(tag.c.id, tag.c.name).where(tag.c.plant == plant.plant)
    if watermark is None:
        first = select(func.min(sample.c.ts)).where(sample.c.tag_id == tag.c.id)
        rows = connection.execute(of_plant.add_columns(first.scalar_subquery().label("ts")))
        oldest = {row.id: row.ts for row in rows if row.ts is not None and row.ts < until}
        return [Stretch(n, rollups.floor(ts, MINUTE_US), until) for n, ts in oldest.items()]
    known = of_plant.add_columns(last_value.c.ts).join(last_value, last_value.c.tag_id == tag.c.id)
    rows = connection.execute(known)
    return [
        Stretch(row.id, watermark, until)
        for row in rows
        if row.ts + ages_us.get(row.name, 0) >= watermark
    ]


def _due_of(plant: Plant) -> Select[Any]:
    """What is due, with the tag's name."""
    return (
        select(rollup_due.c.tag_id, rollup_due.c.since, rollup_due.c.until, tag.c.name)
        .join(tag, tag.c.id == rollup_due.c.tag_id)
        .where(tag.c.plant == plant.plant)
    )
