"""The historian: everything Plantwright remembers, in one database.

`Historian.create` brings a database to this version's schema and opens it; `Historian.open`
refuses any other schema. Methods that take a plant take it or its name.

    schema, migrations   tables and how a database gets them
    rules                what a database itself refuses, whoever writes
    address              which database is meant
    database             transactions, and one clear message when the database fails
    sqlite, postgres     what is particular to each kind of database
    samples, bulk        readings in and out, and how many go in at once
    tag_units            what unit stored numbers are in
    days, hypertable     how PostgreSQL keeps samples by day
    rollups              readings summed up by minute and hour
    upkeep, retention    keeping rollups right, deleting what is too old
    gaps                 stretches in which readings are missing
    annotations          what people say of the past
    rolled               what rollups say already, and where not yet
    trends               averages and trends of long spans
    series               one tag's readings as numbers, all or those that decide
    windows              the past as even rows, and what not to learn from
    decisions            proposals and decisions
    writes               clearances and outcomes
    holding              which MVs we hold, and how they go back to the plant
    operation            stages, audit, processes, models
    leases               what only one process may do at a time
    stored               records as JSON
    unreadable           rows that cannot be read, passed over one by one
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

from sqlalchemy import URL, func, select

from twin.errors import RecordUnreadable
from twin.historian import schema
from twin.historian.address import ANSWER_DEADLINE_S, BUSY_DEADLINE_S, Patience, printable, shown
from twin.historian.annotations import Annotation, AnnotationKind, Period
from twin.historian.database import connect, kind_of, reading
from twin.historian.days import count_of_plant, count_samples, oldest_us
from twin.historian.decisions import Decided, DecisionStore
from twin.historian.gaps import Gap
from twin.historian.holding import (
    HandBack,
    HandBackCause,
    HandBackStatus,
    Held,
    HoldingStore,
    longest_hold,
)
from twin.historian.leases import LeaseStore
from twin.historian.migrations import (
    check_revision,
    current_revision,
    downgrade,
    head_revision,
    upgrade,
)
from twin.historian.operation import ActiveModel, Event, OperationStore, ProcessBeat
from twin.historian.retention import Keep
from twin.historian.series import Columns
from twin.historian.trends import Average, Trend, TrendStore
from twin.historian.unreadable import Unreadable
from twin.historian.upkeep import Upkeep, UpkeepStore
from twin.historian.windows import Wide
from twin.historian.writes import WriteStore
from twin.plant import Plant

__all__ = [
    "ActiveModel",
    "Annotation",
    "AnnotationKind",
    "Average",
    "Columns",
    "Decided",
    "Event",
    "Gap",
    "HandBack",
    "HandBackCause",
    "HandBackStatus",
    "Held",
    "Historian",
    "Keep",
    "Period",
    "ProcessBeat",
    "StorageFacts",
    "Trend",
    "Unreadable",
    "Upkeep",
    "Wide",
    "current_revision",
    "downgrade",
    "head_revision",
    "longest_hold",
    "printable",
    "upgrade",
]


@dataclass(frozen=True, slots=True)
class StorageFacts:
    """How much is stored, and of which time. Counting takes seconds where there is much.

    `database` is its file, or its address without the password. `rows` is the server's estimate
    where there are many millions. `size_bytes` counts SQLite's write-ahead log too.
    """

    database: str
    revision: str
    rows: int
    size_bytes: int
    oldest: datetime | None
    newest: datetime | None


class Historian(
    TrendStore,
    DecisionStore,
    WriteStore,
    HoldingStore,
    OperationStore,
    UpkeepStore,
    LeaseStore,
):
    """One open database at this version's schema: a SQLite file, or one on a PostgreSQL server.

    Threads and processes may share it. Who writes waits up to `busy_deadline_s` for the others;
    what a server has not answered after `answer_deadline_s` counts as failed.
    """

    def __init__(
        self,
        url: str | Path | URL,
        busy_deadline_s: float = BUSY_DEADLINE_S,
        answer_deadline_s: float | None = ANSWER_DEADLINE_S,
    ) -> None:
        """Use `open` or `create`, which check the schema first."""
        super().__init__(connect(url, Patience(busy_deadline_s, answer_deadline_s)))

    @classmethod
    def open(
        cls,
        url: str | Path | URL,
        busy_deadline_s: float = BUSY_DEADLINE_S,
        answer_deadline_s: float | None = ANSWER_DEADLINE_S,
    ) -> Self:
        """Open a database that is at this version's schema.

        Raises:
            WrongMigration: there is none yet, or it is at another schema.
            DatabaseUnavailable: it does not open.
        """
        historian = cls(url, busy_deadline_s, answer_deadline_s)
        try:
            check_revision(historian._engine)
        except BaseException:
            historian.close()
            raise
        return historian

    @classmethod
    def create(
        cls,
        url: str | Path | URL,
        busy_deadline_s: float = BUSY_DEADLINE_S,
        answer_deadline_s: float | None = ANSWER_DEADLINE_S,
    ) -> Self:
        """Create the file or upgrade the database to this version's schema, then open it.

        A database on a server must be there already; it may be empty.

        Raises:
            WrongMigration: a newer version of Plantwright wrote it.
            DatabaseUnavailable: it cannot be created or opened.
        """
        upgrade(url)
        return cls.open(url, busy_deadline_s, answer_deadline_s)

    @property
    def url(self) -> URL:
        """The database's address, password included: to open it again, never to print."""
        return self._engine.url

    @property
    def path(self) -> Path | None:
        """The file of a SQLite database; None for another."""
        is_file = self._engine.dialect.name == "sqlite"
        return Path(str(self._engine.url.database)) if is_file else None

    def close(self) -> None:
        """Let the database go."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_reason: object) -> None:
        self.close()

    def facts(self) -> StorageFacts:
        """How much is stored, over all plants; to be asked by a person, not by a page."""
        newest_us = select(func.max(schema.last_value.c.ts))
        with reading(self._engine) as connection:
            rows = count_samples(connection)
            oldest = _known_moment(oldest_us(connection))
            newest = _known_moment(connection.execute(newest_us).scalar_one())
        return StorageFacts(
            shown(self.url), head_revision(), rows, self.size_bytes(), oldest, newest
        )

    def span(self, plant: Plant) -> tuple[datetime | None, datetime | None]:
        """The plant's earliest and latest source time; None where nothing is stored."""
        return self.oldest(plant, schema.EARLIEST), self.newest(plant, schema.LATEST)

    def size_bytes(self) -> int:
        """What the database takes on the disk; SQLite's write-ahead log counts too."""
        with reading(self._engine) as connection:
            return kind_of(self.url).size_bytes(connection)

    def count_up_to(self, plant: Plant, most: int) -> int:
        """How many readings a plant has, counted no further than `most`."""
        with reading(self._engine) as connection:
            return count_of_plant(connection, plant.plant, most)


def _known_moment(us: int | None) -> datetime | None:
    """The time of a sample; None where there is none, or its time cannot be read."""
    try:
        return None if us is None else schema.moment(us)
    except RecordUnreadable:
        return None
