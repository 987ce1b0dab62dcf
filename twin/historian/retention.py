"""How long readings are kept, and deleting the older ones without disturbing anybody.

Never deleted: readings whose rollups are still due, and those of a period that an annotation
keeps (a test, or "keep"). Hours are kept for ever. PostgreSQL drops whole days. In SQLite, deleted
rows leave free pages that new readings fill: a file grows up to the size of the kept days, and a
backup of it is compact.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine, Select, Table, delete, select, update

from twin.historian.annotations import KEPT, Annotation, standing_annotations
from twin.historian.database import reading, writing
from twin.historian.days import drop_days
from twin.historian.operation import add_event
from twin.historian.rollups import HOUR_US
from twin.historian.schema import microseconds, moment, rollup_1m, rollup_due, sample, tag, upkeep
from twin.plant import Plant

_DAY_US = 24 * HOUR_US
_BEGINNING = -(1 << 62)
# Rows per transaction: other writers wait about 0.02 s for one.
_BATCH_ROWS = 4_000
# Between two batches the lock rests this long, so that waiting writers get in.
_REST_S = 0.003
_OURSELVES = "plantwright"


@dataclass(frozen=True, slots=True)
class Keep:
    """For how many days of plant time readings and 1-minute rollups are kept; None: for ever.

    90 days hold what training and the furnace's stop record look back at (40 days) twice over;
    two years of minutes hold the same season twice.
    """

    raw_days: float | None = 90.0
    minute_days: float | None = 730.0

    def __post_init__(self) -> None:
        for name, days in (("raw_days", self.raw_days), ("minute_days", self.minute_days)):
            if days is not None and not days >= 1.0:
                raise ValueError(f"{name} {days}: at least one day is kept")


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

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def clear(self, now: datetime, plant: Plant, keep: Keep, give_up_at: float) -> Deleted:
        """Delete readings and minutes that are too old, until done or `give_up_at` (monotonic).

        A whole plant day at a time, so most calls find nothing to do.
        """
        cut = self._decide(now, plant, keep)
        if cut is None:
            return Deleted()
        deleted = 0
        with writing(self._engine) as connection:
            dropped = _drop_days(connection)
        with reading(self._engine) as connection:
            ids = {row.id: row.name for row in connection.execute(_tags_of(plant))}
            kept = standing_annotations(connection, plant.plant, KEPT)
        for table, until in ((sample, cut[0]), (rollup_1m, cut[1])):
            for number, name in ids.items():
                for start, end in _between([a for a in kept if a.holds_for(name)], until):
                    for batch in self._delete(plant, table, number, start, end):
                        deleted += batch
                        if time.monotonic() > give_up_at:
                            return Deleted(deleted, dropped)
        with writing(self._engine) as connection:
            lock(connection, plant.plant)
            of_plant = upkeep.c.plant == plant.plant
            connection.execute(update(upkeep).where(of_plant).values(raw_cleared=cut[0]))
        return Deleted(deleted, dropped)

    def _decide(self, now: datetime, plant: Plant, keep: Keep) -> tuple[int, int] | None:
        """From when on readings and minutes are kept; None if all older ones are gone already.

        That is stored, and told in the audit, before the first row goes.
        """
        with writing(self._engine) as connection:
            watermark = lock(connection, plant.plant)
            if watermark is None or _is_due(connection, plant):
                return None
            raw_from, minutes_from = deleted_before(connection, plant.plant)
            raw = _cut(now, keep.raw_days, watermark, raw_from)
            cut = (raw, _cut(now, keep.minute_days, raw, minutes_from))
            cleared = select(upkeep.c.raw_cleared).where(upkeep.c.plant == plant.plant)
            done = connection.execute(cleared).scalar()
            if (raw_from, minutes_from) == cut and done == cut[0]:
                return None
            if raw_from != raw and _is_any_before(connection, plant, raw):
                message = f"readings before {moment(raw):%Y-%m-%d} are deleted: {_for_long(keep)}"
                told = "annotated tests and periods to keep stay; rollups stay"
                add_event(
                    connection, plant.plant, "retention", plant.plant, f"{message}; {told}",
                    now, _OURSELVES,
                )  # fmt: skip
            of_plant = upkeep.c.plant == plant.plant
            values = {"raw_from": cut[0], "minutes_from": cut[1]}
            connection.execute(update(upkeep).where(of_plant).values(values))
        return cut

    def _delete(
        self, plant: Plant, table: Table, number: int, start: int, end: int
    ) -> Iterator[int]:
        """Delete one tag's rows in [`start`, `end`) in batches; how many each time."""
        ts = table.c.ts if table is sample else table.c.bucket
        inside = (table.c.tag_id == number, ts >= start, ts < end)
        with reading(self._engine) as connection:
            if connection.execute(select(ts).where(*inside).limit(1)).first() is None:
                return
        gone = _BATCH_ROWS
        while gone >= _BATCH_ROWS:
            with writing(self._engine) as connection:
                lock(connection, plant.plant)
                if _is_due(connection, plant):
                    return  # a late reading came: the next call carries on
                ordered = select(ts).where(*inside).order_by(ts)
                beyond = connection.execute(ordered.offset(_BATCH_ROWS).limit(1)).scalar()
                last = end if beyond is None else beyond
                gone = connection.execute(delete(table).where(*inside, ts < last)).rowcount
            yield gone
            time.sleep(_REST_S)


def _for_long(keep: Keep) -> str:
    return f"kept for {keep.raw_days:g} days" if keep.raw_days else "no longer kept"


def _drop_days(connection: Connection) -> int:
    """Forget at once the days that no plant of a server keeps anything of; how many."""
    if connection.dialect.name == "sqlite":
        return 0
    known = connection.execute(select(upkeep.c.plant, upkeep.c.raw_from)).all()
    for plant, _ in known:  # none may store a late reading meanwhile
        lock(connection, plant)
    if connection.execute(select(rollup_due.c.tag_id).limit(1)).first() is not None:
        return 0
    until = [_BEGINNING if row.raw_from is None else row.raw_from for row in known]
    for plant, _ in known:
        kept = standing_annotations(connection, plant, KEPT)
        until += [microseconds(each.started_at) for each in kept]
    if min(until) > _BEGINNING:
        return drop_days(connection, min(until))
    return 0


def _cut(now: datetime, days: float | None, latest: int, before: int | None) -> int:
    """The start of the first day that is kept: never after `latest`, never earlier than before."""
    newest = _BEGINNING
    if days is not None:
        newest = min(microseconds(now - timedelta(days=days)), latest) // _DAY_US * _DAY_US
    return max(newest, _BEGINNING if before is None else before)


def _between(kept: Sequence[Annotation], until: int) -> list[tuple[int, int]]:
    """The stretches before `until` that no annotation covers."""
    free = []
    start = _BEGINNING
    for each in kept:  # by when they begin
        begins = microseconds(each.started_at)
        if start < min(begins, until):
            free.append((start, min(begins, until)))
        start = max(start, microseconds(each.ended_at) + 1)
    return [*free, (start, until)] if start < until else free


def _is_due(connection: Connection, plant: Plant) -> bool:
    """Whether rollups of the plant are due: until they are made, nothing of it is deleted."""
    due = select(rollup_due.c.tag_id).join(tag, tag.c.id == rollup_due.c.tag_id)
    return connection.execute(due.where(tag.c.plant == plant.plant).limit(1)).first() is not None


def _is_any_before(connection: Connection, plant: Plant, until: int) -> bool:
    older = select(sample.c.ts).where(sample.c.tag_id == tag.c.id, sample.c.ts < until)
    query = select(tag.c.id).where(tag.c.plant == plant.plant, older.exists()).limit(1)
    return connection.execute(query).first() is not None


def _tags_of(plant: Plant) -> Select[tuple[int, str]]:
    return select(tag.c.id, tag.c.name).where(tag.c.plant == plant.plant)
