"""What people say of a plant's past: bad data, campaigns, tests, maintenance, what to keep.

An annotation is never changed or deleted; taking it back is a further row. What follows from one
is decided by who asks: training leaves bad data out, retention keeps tests and what is to keep.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from twin.errors import RecordUnreadable
from twin.historian import stored
from twin.historian.database import reading, writing
from twin.historian.operation import add_event
from twin.historian.samples import plant_name
from twin.historian.schema import annotation, microseconds, moment
from twin.historian.unreadable import SkippingStore, Unreadable
from twin.plant import Plant


class AnnotationKind(StrEnum):
    """What a period was. BAD_DATA never reaches training; TEST and KEEP are never deleted."""

    BAD_DATA = "bad-data"
    CAMPAIGN = "campaign"
    TEST = "test"
    MAINTENANCE = "maintenance"
    KEEP = "keep"


#: Readings of these periods are kept for ever.
KEPT = (AnnotationKind.TEST, AnnotationKind.KEEP)


@dataclass(frozen=True, slots=True)
class Annotation:
    """A period, both ends included, that a person named; `tags` () means the whole plant."""

    number: int
    kind: AnnotationKind
    started_at: datetime
    ended_at: datetime
    tags: tuple[str, ...]
    by: str
    reason: str
    at: datetime

    def holds_for(self, tag: str) -> bool:
        """Whether it says something of this tag."""
        return not self.tags or tag in self.tags


@dataclass(frozen=True, slots=True)
class Period:
    """What an annotation says something of, in µs since 1970, both ends included."""

    since_us: int
    until_us: int
    tags: tuple[str, ...]

    def holds_for(self, tag: str) -> bool:
        """Whether it says something of this tag; of all tags where none is named."""
        return not self.tags or tag in self.tags


class AnnotationStore(SkippingStore):
    """The part of the historian that holds annotations."""

    def annotate(
        self,
        plant: Plant,
        kind: AnnotationKind,
        started_at: datetime,
        ended_at: datetime,
        *,
        by: str,
        reason: str,
        at: datetime,
        tags: Sequence[str] = (),
    ) -> int:
        """Store what a person says of a period, and tell the audit; returns its number.

        Raises:
            UnknownTag: the plant has no such tag.
            ValueError: the period ends before it begins, or who or why is empty.
            RecordUnreadable: no plant can have its times; what is stored must be readable.
        """
        if ended_at < started_at:
            raise ValueError(f"a period from {started_at} that ends at {ended_at}")
        if not by.strip() or not reason.strip():
            raise ValueError("a period is annotated by a named person with a reason")
        names = [plant.tag(name).name for name in dict.fromkeys(tags)]
        for time in (started_at, ended_at):
            moment(microseconds(time))
        row = {
            "plant": plant.plant, "kind": kind.value, "actor": by, "reason": reason,
            "started_at": microseconds(started_at), "ended_at": microseconds(ended_at),
            "tags": json.dumps(names), "at": microseconds(at),
        }  # fmt: skip
        with writing(self._engine) as connection:
            added = insert(annotation).values(row).returning(annotation.c.id)
            number = int(connection.execute(added).scalar_one())
            message = f"{kind} from {started_at.isoformat()} to {ended_at.isoformat()}: {reason}"
            subject = ", ".join(names) or plant.plant
            add_event(connection, plant.plant, "annotation", subject, message, at, by)
        return number

    def withdraw_annotation(
        self, plant: Plant, number: int, *, by: str, reason: str, at: datetime
    ) -> str | None:
        """Take an annotation back; None when done, else why it is refused."""
        if not by.strip() or not reason.strip():
            return "An annotation is withdrawn by a named person with a reason."
        with writing(self._engine) as connection:
            standing = _standing(connection, plant.plant)
            found = next((row for row in standing if row.id == number), None)
            if found is None:
                return f"{plant.plant} has no annotation {number} that stands. List them."
            row = found._asdict() | {
                "actor": by, "reason": reason, "at": microseconds(at), "withdraws": number,
            }  # fmt: skip
            del row["id"]
            connection.execute(insert(annotation).values(row))
            message = f"annotation {number} ({found.kind}) withdrawn: {reason}"
            add_event(connection, plant.plant, "annotation", plant.plant, message, at, by)
        return None

    def annotations(
        self,
        plant: Plant | str,
        kinds: Collection[AnnotationKind] | None = None,
        since: datetime | None = None,
    ) -> list[Annotation]:
        """The annotations that stand, by when their period begins.

        Only of some kinds, or of periods that last beyond `since`, if given.

        Raises:
            RecordUnreadable: one cannot be read; what it says is unknown, and none is passed over.
        """
        with reading(self._engine) as connection:
            found = [_annotation(row) for row in _standing(connection, plant_name(plant))]
        chosen = [each for each in found if kinds is None or each.kind in kinds]
        lasting = [each for each in chosen if since is None or each.ended_at >= since]
        return sorted(lasting, key=lambda each: each.started_at)

    def bad_periods(self, plant: Plant | str) -> list[Period]:
        """The periods annotated as bad data, or as nobody can read, by when they begin."""
        with reading(self._engine) as connection:
            return self._periods(connection, plant_name(plant), (AnnotationKind.BAD_DATA,))

    def _kept_periods(self, connection: Connection, plant: str) -> list[Period]:
        """What no reading is deleted of, by when it begins."""
        return self._periods(connection, plant, KEPT)

    def _periods(
        self, connection: Connection, plant: str, kinds: Collection[AnnotationKind]
    ) -> list[Period]:
        """The periods annotated as one of some kinds, by when they begin.

        An annotation that cannot be read is remembered as such, and is of any kind and all tags:
        its readings are kept, and nobody learns from them.
        """
        found = []
        for row in _standing(connection, plant):
            each = self._read(plant, "annotation", row.id, row, _annotation)
            if isinstance(each, Unreadable):
                ends = (row.started_at, row.ended_at)
                found.append(Period(min(ends), max(ends), ()))
            elif each.kind in kinds:
                found.append(Period(row.started_at, row.ended_at, each.tags))
        return sorted(found, key=lambda each: each.since_us)


def _standing(connection: Connection, plant: str) -> Sequence[Row[Any]]:
    withdrawn = select(annotation.c.withdraws).where(annotation.c.withdraws.is_not(None))
    query = select(annotation).where(
        annotation.c.plant == plant,
        annotation.c.withdraws.is_(None),
        annotation.c.id.not_in(withdrawn),
    )
    return connection.execute(query).all()


def _annotation(row: Row[Any]) -> Annotation:
    try:
        tags = json.loads(row.tags)
        if not isinstance(tags, list) or not all(isinstance(name, str) for name in tags):
            raise ValueError("its tags are no list of names")
    except ValueError as fault:
        raise RecordUnreadable(f"annotation {row.id}: {fault}") from fault
    return Annotation(
        number=row.id,
        kind=stored.one_of(AnnotationKind, row.kind),
        started_at=moment(row.started_at),
        ended_at=moment(row.ended_at),
        tags=tuple(tags),
        by=row.actor,
        reason=row.reason,
        at=moment(row.at),
    )
