"""Readings in and out: tags, samples, last values, and how far an MV has travelled.

A reading is identified by its tag and its source time; storing it again changes nothing. What
is not a finite number is stored as "no number" with its quality, never as zero. Resampling and
judging freshness are `twin.state`'s.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, Select, func, select, true

from twin.historian.bulk import Rows, insert_samples, not_registered, sample_rows
from twin.historian.database import REST_S, fetch, reading, upserting, writing
from twin.historian.days import Days
from twin.historian.rollups import mark_late, samples_of
from twin.historian.schema import (
    EARLIEST,
    LATEST,
    last_value,
    microseconds,
    moment,
    sample,
    tag,
    upkeep,
)
from twin.historian.tag_units import check_units
from twin.historian.unreadable import SkippingStore, readable
from twin.plant import Plant
from twin.readings import Readings
from twin.records import Mark, Reading, Samples

# Rows per transaction: other writers wait about 0.1 s for one.
_BATCH_ROWS = 20_000

_IS_GOOD = sample.c.value.is_not(None) & (sample.c.quality < 1 << 30)
# How far back a tag's reading before a moment is looked for first: PostgreSQL keeps days apart.
_NEAR_US = 2 * 86_400_000_000
_FEW_TAGS = 100
_COLUMNS = ", ".join(column.name for column in sample.columns)


def plant_name(plant: Plant | str) -> str:
    """The name under which a plant's rows are stored."""
    return plant if isinstance(plant, str) else plant.plant


class SampleStore(SkippingStore):
    """The part of the historian that holds readings."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._tag_ids: dict[str, dict[str, int]] = {}
        self._stored_for: set[str] = set()
        self._days = Days(engine)

    def register(self, plant: Plant) -> None:
        """Make the plant's tags known; role and unit follow the plant file. Repeatable.

        Raises:
            PlantFileError: readings of a tag are stored in another unit; nothing is changed.
        """
        rows = [
            {"plant": plant.plant, "name": t.name, "role": t.role.value, "unit": t.unit}
            for t in plant.tags
        ]
        statement = upserting(self._engine, tag)
        upsert = statement.on_conflict_do_update(
            index_elements=["plant", "name"],
            set_={"role": statement.excluded.role, "unit": statement.excluded.unit},
        )
        with writing(self._engine) as connection:
            check_units(connection, plant)
            connection.execute(upsert, rows)
            begun = upserting(self._engine, upkeep).values(plant=plant.plant)
            connection.execute(begun.on_conflict_do_nothing())
        self._tag_ids.pop(plant.plant, None)
        self._stored_for.add(plant.plant)

    def store(self, readings: Iterable[Reading], plant: Plant | str | None = None) -> int:
        """Store readings and return how many were new.

        Those that come as columns (`Readings`) are stored twice as fast. `plant` may be left out
        where this object has registered exactly one. Large batches go in several transactions:
        after a crash, store the same readings again.

        Raises:
            UnknownTag: a reading's tag is not registered; nothing is stored.
        """
        name = self._plant_of_readings(plant)
        rows = sample_rows(Readings.of(readings), self._ids(name, None), name)
        stored = 0
        for first in range(0, len(rows), _BATCH_ROWS):
            if first:
                time.sleep(REST_S)
            stored += self._store_batch(name, rows[first : first + _BATCH_ROWS])
        return stored

    def last_readings(
        self,
        plant: Plant | str,
        tags: Sequence[str] | None = None,
        at: datetime | None = None,
    ) -> dict[str, Reading]:
        """The newest reading of each tag (all tags if None) by source time, good or not.

        With `at`, the newest whose source time is not after it. Tags without one are left out.
        """
        ids = self._ids(plant, tags)
        with reading(self._engine) as connection:
            rows = _last_rows(connection, set(ids.values()), at)
        names = {number: name for name, number in ids.items()}

        def parsed(row: Sequence[Any]) -> Reading:
            return _reading(names[row[0]], *row[1:])

        name = plant_name(plant)
        found = readable(self._read(name, "reading", names[row[0]], row, parsed) for row in rows)
        return {each.tag: each for each in found}

    def samples(
        self, plant: Plant | str, tags: Sequence[str], start: datetime, end: datetime
    ) -> dict[str, Samples]:
        """Each tag's readings from `start` to `end`, both included; NaN where not good."""
        ids = self._ids(plant, tags)
        since, until = microseconds(start), microseconds(end) + 1
        answer = {}
        with reading(self._engine) as connection:
            for name, number in ids.items():
                times_us, values = samples_of(connection, number, since, until)
                answer[name] = Samples(times_us / 1e6, values)
        return answer

    def readings(
        self, plant: Plant | str, tags: Sequence[str], start: datetime, end: datetime
    ) -> list[Reading]:
        """Everything stored of the tags from `start` to `end`, by tag and time, as it came.

        A damaged row is passed over and remembered (`unreadable`).
        """
        ids = self._ids(plant, tags)
        places = ", ".join("?" * len(ids)) or "NULL"
        query = (
            f"SELECT {_COLUMNS} FROM sample WHERE tag_id IN ({places}) AND ts BETWEEN ? AND ? "
            "ORDER BY tag_id, ts"
        )
        span = (microseconds(start), microseconds(end))
        names = {number: name for name, number in ids.items()}
        with reading(self._engine) as connection:
            rows = fetch(connection, query, (*ids.values(), *span))

        def parsed(row: Sequence[Any]) -> Reading:
            return _reading(names[row[0]], *row[1:])

        name = plant_name(plant)
        found = (self._read(name, "reading", f"{names[r[0]]} {r[1]}", r, parsed) for r in rows)
        return readable(found)

    def count(self, plant: Plant | str) -> int:
        """How many readings (distinct tag and source time) are stored."""
        query = (
            select(func.count())
            .select_from(sample)
            .join(tag, tag.c.id == sample.c.tag_id)
            .where(tag.c.plant == plant_name(plant))
        )
        with reading(self._engine) as connection:
            return int(connection.execute(query).scalar_one())

    def newest(self, plant: Plant | str, until: datetime | None = None) -> datetime | None:
        """The latest source time of any tag; None while nothing is stored. A damaged one is none.

        With `until`, the latest that is not after it: a wrong stamp of years ahead is no present.
        """
        if until is not None:
            known = self.last_readings(plant, at=until).values()
            return max((each.source_time for each in known), default=None)
        query = (
            select(func.max(last_value.c.ts))
            .join(tag, tag.c.id == last_value.c.tag_id)
            .where(tag.c.plant == plant_name(plant))
            .where(last_value.c.ts.between(microseconds(EARLIEST), microseconds(LATEST)))
        )
        with reading(self._engine) as connection:
            newest = connection.execute(query).scalar_one()
        return None if newest is None else moment(newest)

    def travel(self, plant: Plant | str, mv: str, start: datetime, end: datetime) -> float | None:
        """How far an MV moved from `start` to `end`: the sum of |changes| of its good readings.

        The last good reading at or before `start` counts as where it stood then. None where no
        good reading lies after `start`: how far it moved is then unknown.
        """
        tag_id = self._ids(plant, [mv])[mv]
        good = select(sample.c.value).where(sample.c.tag_id == tag_id, _IS_GOOD)
        before = good.where(sample.c.ts <= microseconds(start))
        inside = good.where(sample.c.ts > microseconds(start), sample.c.ts <= microseconds(end))
        with reading(self._engine) as connection:
            stood_at = connection.execute(before.order_by(sample.c.ts.desc()).limit(1)).scalar()
            path = connection.execute(inside.order_by(sample.c.ts)).scalars().all()
        if not path:
            return None
        origin = [] if stood_at is None else [stood_at]
        return float(np.abs(np.diff(np.array([*origin, *path]))).sum())

    def _plant_of_readings(self, plant: Plant | str | None) -> str:
        if plant is not None:
            return plant_name(plant)
        if len(self._stored_for) != 1:
            raise ValueError(
                "Readings of which plant? "
                f"This historian has registered {sorted(self._stored_for) or 'none'}."
            )
        return next(iter(self._stored_for))

    def _store_batch(self, plant: str, rows: Rows) -> int:
        self._days.prepare(rows)
        with writing(self._engine) as connection:
            stored = insert_samples(connection, rows)
            if stored:
                mark_late(connection, plant, rows.tag_ids, rows.times_us)
        return stored

    def _ids(self, plant: Plant | str, tags: Sequence[str] | None) -> dict[str, int]:
        """Tag name -> number, in the order asked for; raises UnknownTag."""
        name = plant_name(plant)
        known = self._tag_ids.get(name)
        if not known or (tags is not None and not known.keys() >= set(tags)):
            query = select(tag.c.name, tag.c.id).where(tag.c.plant == name)
            with reading(self._engine) as connection:
                known = {row[0]: row[1] for row in connection.execute(query)}
            self._tag_ids[name] = known
        if tags is None:
            return known
        unknown = set(tags) - known.keys()
        if unknown:
            raise not_registered(unknown, name)
        return {t: known[t] for t in tags}


def _last_rows(connection: Connection, ids: set[int], at: datetime | None) -> list[Sequence[Any]]:
    """The newest row of each tag, not after `at`; most often that is its last value.

    Samples are looked at only for tags whose last value is later: without one there are none.
    """
    query = f"SELECT {_COLUMNS} FROM last_value"
    asked = ids if len(ids) <= _FEW_TAGS else ()  # naming many costs more than reading them all
    if asked or not ids:
        query += f" WHERE tag_id IN ({', '.join('?' * len(ids)) or 'NULL'})"
    rows: list[Sequence[Any]] = [r for r in fetch(connection, query, (*asked,)) if r[0] in ids]
    if at is None:
        return rows
    is_postgres = connection.dialect.name == "postgresql"
    at_us = microseconds(at)
    later = {row[0] for row in rows if row[1] > at_us}
    rows = [row for row in rows if row[0] not in later]
    for since_us in (at_us - _NEAR_US, None):
        if later:
            lookup = _lateral(at_us, since_us) if is_postgres else _correlated(at_us, since_us)
            found = connection.execute(lookup.where(tag.c.id.in_(later))).all()
            later -= {row[0] for row in found}
            rows += found
    return rows


def _lateral(at_us: int, since_us: int | None) -> Select[Any]:
    """The newest sample of each tag that is not after `at_us`: one key lookup per tag and day."""
    inside = select(sample).where(sample.c.tag_id == tag.c.id, sample.c.ts <= at_us)
    if since_us is not None:
        inside = inside.where(sample.c.ts >= since_us)
    newest = inside.order_by(sample.c.ts.desc()).limit(1).lateral("newest")
    return select(newest).select_from(tag.join(newest, true()))


def _correlated(at_us: int, since_us: int | None) -> Select[Any]:
    """The same where no LATERAL is known: one key lookup per tag."""
    earlier = sample.alias("earlier")
    newest = select(func.max(earlier.c.ts)).where(earlier.c.tag_id == tag.c.id)
    newest = newest.where(earlier.c.ts <= at_us)
    if since_us is not None:
        newest = newest.where(earlier.c.ts >= since_us)
    found = select(sample).where(sample.c.tag_id == tag.c.id)
    return found.where(sample.c.ts == newest.correlate(tag).scalar_subquery())


def _reading(
    name: str, ts: int, value: float | None, quality: int, delay: int, marks: int
) -> Reading:
    return Reading(name, value, quality, moment(ts), moment(ts + delay), Mark(marks))
