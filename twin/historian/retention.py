"""How long readings are kept, and deleting the older ones without disturbing anybody.

Never deleted: readings whose rollups are still due, and those of a period that an annotation
keeps (a test, or "keep"; of one that cannot be read, whatever it says). Days count only if the
plant has readings of them, so that a clock which is years ahead costs one day of the past, not all
of it. Hours are kept for ever. PostgreSQL drops whole days. In SQLite, deleted rows leave free
pages that new readings fill: a file grows up to the size of the kept days, and a backup of it is
compact.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Column, Connection, Engine, Select, Table, delete, select, update

from twin.historian.annotations import Period
from twin.historian.database import REST_S, fetch, reading, writing
from twin.historian.days import DAY_US, drop_days
from twin.historian.operation import add_event
from twin.historian.schema import microseconds, moment, rollup_1m, rollup_due, sample, tag, upkeep
from twin.plant import Plant

_BEGINNING = -(1 << 62)
# Rows per transaction: other writers wait about 0.02 s for one.
_BATCH_ROWS = 4_000
_OURSELVES = "plantwright"


@dataclass(frozen=True, slots=True)
class Keep:
    """For how many days readings and 1-minute rollups are kept; None: for ever.

    Days of plant time of which there are readings: none is too old because a plant stood still.
    90 days hold what training and the furnace's stop record look back at (40 days) twice over; two
    years of minutes hold the same season twice. Minutes are kept at least as long as readings:
    averages and trends read them wherever they should be.
    """

    raw_days: float | None = 90.0
    minute_days: float | None = 730.0

    def __post_init__(self) -> None:
        for name, days in (("raw_days", self.raw_days), ("minute_days", self.minute_days)):
            if days is not None and not (days >= 1.0 and math.isfinite(days)):
                raise ValueError(f"{name} {days}: at least one day is kept; None keeps for ever")


KEEP = Keep()


@dataclass(frozen=True, slots=True)
class Deleted:
    """How many readings and minutes went one by one, and how many whole days at once."""

    rows: int = 0
    days: int = 0


def lock(connection: Connection, plant: str) -> int | None:
    """The plant's watermark, its upkeep locked until the transaction ends.

    Nobody stores a late reading meanwhile, so what is seen now stays true until the commit.
    """
    asked = select(upkeep.c.watermark).where(upkeep.c.plant == plant).with_for_update()
    return connection.execute(asked).scalar()


def deleted_before(connection: Connection, plant: str) -> tuple[int | None, int | None]:
    """Before when readings, and minutes, may have been deleted; None: nothing was."""
    asked = select(upkeep.c.raw_from, upkeep.c.minutes_from).where(upkeep.c.plant == plant)
    row = connection.execute(asked).one_or_none()
    return (None, None) if row is None else (row.raw_from, row.minutes_from)


class Retention:
    """Deletes what a plant's `Keep` lets go."""

    def __init__(
        self, engine: Engine, kept_periods: Callable[[Connection, str], list[Period]]
    ) -> None:
        """`kept_periods` of a plant, by when they begin."""
        self._engine = engine
        self._kept_periods = kept_periods

    def clear(self, now: datetime, plant: Plant, keep: Keep, give_up_at: float) -> Deleted:
        """Delete readings and minutes that are too old, until done or `give_up_at` (monotonic).

        A whole plant day at a time, so most calls find nothing to do.
        """
        cut = self._decide(now, plant, keep)
        if cut is None:
            return Deleted()
        with writing(self._engine) as connection:
            days = self._drop_days(connection)
        rows = 0
        for table, until in ((sample, cut[0]), (rollup_1m, cut[1])):
            with reading(self._engine) as connection:
                older = connection.execute(_tags_before(plant, table, until)).all()
            for row in older:
                while gone := self._delete(plant, table, row.id, row.name, until):
                    rows += gone
                    if time.monotonic() > give_up_at:
                        return Deleted(rows, days)
                    time.sleep(REST_S)
                if gone is None:
                    return Deleted(rows, days)
        with writing(self._engine) as connection:
            lock(connection, plant.plant)
            of_plant = upkeep.c.plant == plant.plant
            connection.execute(update(upkeep).where(of_plant).values(raw_cleared=cut[0]))
        return Deleted(rows, days)

    def _decide(self, now: datetime, plant: Plant, keep: Keep) -> tuple[int, int] | None:
        """From when on readings and minutes are kept; None if all older ones are gone already.

        That is stored, and told in the audit, before the first row goes.
        """
        of_plant = upkeep.c.plant == plant.plant
        with reading(self._engine) as connection:
            watermark = connection.execute(select(upkeep.c.watermark).where(of_plant)).scalar()
            before = deleted_before(connection, plant.plant)
            if watermark is None:
                return None
            asked = [
                _first_kept(connection, plant, now, days, known)
                for days, known in zip((keep.raw_days, keep.minute_days), before, strict=True)
            ]
            raw, _ = _cut(watermark, before, asked)
            kept = self._kept_periods(connection, plant.plant)
            is_news = raw != before[0] and _is_any_to_go(connection, plant, kept, raw)
        with writing(self._engine) as connection:
            watermark = lock(connection, plant.plant)
            if watermark is None or _is_due(connection, plant.plant):
                return None
            before = deleted_before(connection, plant.plant)
            cut = _cut(watermark, before, asked)
            cleared = connection.execute(select(upkeep.c.raw_cleared).where(of_plant)).scalar()
            if before == cut and cleared == cut[0]:
                return None
            if before[0] != cut[0] and is_news:
                day = f"{moment(cut[0]):%Y-%m-%d}"
                message = f"readings before {day} are deleted: {_for_long(keep)}"
                told = "annotated tests and periods to keep stay; rollups stay"
                add_event(
                    connection, plant.plant, "retention", plant.plant, f"{message}; {told}",
                    now, _OURSELVES,
                )  # fmt: skip
            values = {"raw_from": cut[0], "minutes_from": cut[1]}
            connection.execute(update(upkeep).where(of_plant).values(values))
        return cut

    def _delete(self, plant: Plant, table: Table, number: int, name: str, until: int) -> int | None:
        """Delete some of a tag's rows before `until`: how many, 0 when no more may go.

        None where a late reading came meanwhile: the next call carries on.
        """
        ts = _time_of(table)
        with writing(self._engine) as connection:
            lock(connection, plant.plant)
            if _is_due(connection, plant.plant):
                return None
            kept = self._kept_periods(connection, plant.plant)  # one may have come just now
            for start, end in _between([a for a in kept if a.holds_for(name)], until):
                inside = (table.c.tag_id == number, ts >= start, ts < end)
                ordered = select(ts).where(*inside).order_by(ts)
                beyond = connection.execute(ordered.offset(_BATCH_ROWS).limit(1)).scalar()
                last = end if beyond is None else beyond
                gone = connection.execute(delete(table).where(*inside, ts < last)).rowcount
                if gone:
                    return gone
        return 0

    def _drop_days(self, connection: Connection) -> int:
        """Forget at once the days that no plant of a server keeps anything of; how many."""
        if connection.dialect.name == "sqlite":
            return 0
        known = connection.execute(select(upkeep.c.plant, upkeep.c.raw_from)).all()
        for plant, _ in known:  # none may store a late reading meanwhile
            lock(connection, plant)
        newest = max((row.raw_from for row in known if row.raw_from is not None), default=None)
        if newest is None:
            return 0
        kept = {plant: self._kept_periods(connection, plant) for plant, _ in known}
        due = {plant for plant, _ in known if _is_due(connection, plant)}

        def is_wanted(plant: str, raw_from: int | None, start: int, end: int) -> bool:
            return (
                plant in due
                or raw_from is None
                or raw_from < end
                or any(each.since_us < end and each.until_us >= start for each in kept[plant])
            )

        def wanting(start: int, end: int) -> list[str]:
            return [plant for plant, raw_from in known if is_wanted(plant, raw_from, start, end)]

        return drop_days(connection, newest, wanting)


def _for_long(keep: Keep) -> str:
    return f"kept for {keep.raw_days:g} days" if keep.raw_days else "no longer kept"


def _cut(
    watermark: int, before: tuple[int | None, int | None], asked: Sequence[int]
) -> tuple[int, int]:
    """From when on readings and minutes are kept, of those asked for and decided before."""
    raw = _moved(before[0], min(asked[0], watermark // DAY_US * DAY_US))
    return raw, _moved(before[1], min(asked[1], raw))


def _moved(before: int | None, to: int) -> int:
    """From when on is kept now; what was deleted once does not come back."""
    return to if before is None else max(before, to)


def _first_kept(
    connection: Connection, plant: Plant, now: datetime, days: float | None, before: int | None
) -> int:
    """The start of the first day that is kept: of as many days with readings as `days` reach."""
    if days is None:
        return _BEGINNING
    now_us = microseconds(now)
    today, first = now_us // DAY_US, (now_us - round(days * DAY_US)) // DAY_US
    if before is not None and first * DAY_US <= before:
        return before
    return _lived_since(connection, plant, today, today - first + 1)


def _lived_since(connection: Connection, plant: Plant, today: int, days: int) -> int:
    """The start of the last of so many days with readings, counted back from `today`.

    `_BEGINNING` where the plant has fewer. Hours tell it: they are kept for ever.
    """
    of_day = (
        "SELECT 1 FROM tag WHERE plant = ? AND EXISTS (SELECT 1 FROM rollup_1h "
        "WHERE tag_id = tag.id AND bucket >= ? AND bucket < ?) LIMIT 1"
    )
    of_tag = "SELECT max(bucket) FROM rollup_1h WHERE tag_id = tag.id AND bucket < ?"
    newest = f"SELECT max(newest) FROM (SELECT ({of_tag}) AS newest FROM tag WHERE plant = ?) t"
    day = today + 1
    for _ in range(days):
        day -= 1
        if fetch(connection, of_day, (plant.plant, day * DAY_US, (day + 1) * DAY_US)):
            continue
        ((earlier,),) = fetch(connection, newest, (day * DAY_US, plant.plant))
        if earlier is None:
            return _BEGINNING
        day = earlier // DAY_US
    return day * DAY_US


def _between(kept: Sequence[Period], until: int) -> list[tuple[int, int]]:
    """The stretches before `until` that are not kept."""
    free = []
    start = _BEGINNING
    for each in kept:  # by when they begin
        if start < min(each.since_us, until):
            free.append((start, min(each.since_us, until)))
        start = max(start, each.until_us + 1)
    return [*free, (start, until)] if start < until else free


def _is_due(connection: Connection, plant: str) -> bool:
    """Whether rollups of the plant are due: until they are made, nothing of it is deleted."""
    due = select(rollup_due.c.tag_id).join(tag, tag.c.id == rollup_due.c.tag_id)
    return connection.execute(due.where(tag.c.plant == plant).limit(1)).first() is not None


def _is_any_to_go(connection: Connection, plant: Plant, kept: Sequence[Period], until: int) -> bool:
    """Whether readings before `until` are in no period that is kept."""
    query = "SELECT 1 FROM sample WHERE tag_id = ? AND ts >= ? AND ts < ? LIMIT 1"
    return any(
        fetch(connection, query, (row.id, start, end))
        for row in connection.execute(_tags_before(plant, sample, until)).all()
        for start, end in _between([each for each in kept if each.holds_for(row.name)], until)
    )


def _tags_before(plant: Plant, table: Table, until: int) -> Select[tuple[int, str]]:
    """Number and name of the tags that have rows before `until`."""
    older = select(table.c.tag_id).where(table.c.tag_id == tag.c.id, _time_of(table) < until)
    return select(tag.c.id, tag.c.name).where(tag.c.plant == plant.plant, older.exists())


def _time_of(table: Table) -> Column[int]:
    return table.c.ts if table is sample else table.c.bucket
