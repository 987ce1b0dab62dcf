"""The historian: everything Plantwright remembers, in one database.

`Historian.create` brings a database to this version's schema and opens it; `Historian.open`
refuses any other schema. Methods that take a plant take it or its name.

    schema, migrations   tables and how a database gets them
    database             transactions, and one clear message when the database fails
    samples              readings in and out
    rollups              readings summed up by minute and hour
    upkeep, retention    keeping rollups right, deleting what is too old
    annotations          what people say of the past
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

from sqlalchemy import func, select

from twin.errors import RecordUnreadable
from twin.historian import schema
from twin.historian.annotations import Annotation, AnnotationKind
from twin.historian.database import BUSY_DEADLINE_S, connect, reading, sqlite_path
from twin.historian.decisions import Decided, DecisionStore
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
from twin.historian.samples import Gap
from twin.historian.unreadable import Unreadable
from twin.historian.upkeep import Upkeep, UpkeepStore
from twin.historian.windows import Wide, WindowStore
from twin.historian.writes import WriteStore

__all__ = [
    "ActiveModel",
    "Annotation",
    "AnnotationKind",
    "Decided",
    "Event",
    "Gap",
    "HandBack",
    "HandBackCause",
    "HandBackStatus",
    "Held",
    "Historian",
    "Keep",
    "ProcessBeat",
    "StorageFacts",
    "Unreadable",
    "Upkeep",
    "Wide",
    "current_revision",
    "downgrade",
    "head_revision",
    "longest_hold",
    "upgrade",
]


@dataclass(frozen=True, slots=True)
class StorageFacts:
    """How much is stored, and of which time. `size_bytes` counts the write-ahead log too."""

    path: Path
    revision: str
    rows: int
    size_bytes: int
    oldest: datetime | None
    newest: datetime | None


class Historian(
    WindowStore,
    DecisionStore,
    WriteStore,
    HoldingStore,
    OperationStore,
    UpkeepStore,
    LeaseStore,
):
    """One open database at this version's schema. Threads and processes may share the file."""

    def __init__(self, url: str | Path, busy_deadline_s: float = BUSY_DEADLINE_S) -> None:
        """Use `open` or `create`, which check the schema first."""
        self.path = sqlite_path(url)
        super().__init__(connect(self.path, busy_deadline_s))

    @classmethod
    def open(cls, url: str | Path, busy_deadline_s: float = BUSY_DEADLINE_S) -> Self:
        """Open a database that is at this version's schema.

        Raises:
            WrongMigration: there is none yet, or it is at another schema.
            DatabaseUnavailable: it does not open.
        """
        historian = cls(url, busy_deadline_s)
        try:
            check_revision(historian._engine)
        except BaseException:
            historian.close()
            raise
        return historian

    @classmethod
    def create(cls, url: str | Path, busy_deadline_s: float = BUSY_DEADLINE_S) -> Self:
        """Create the database or upgrade it to this version's schema, then open it.

        Raises:
            WrongMigration: a newer version of Plantwright wrote it.
            DatabaseUnavailable: it cannot be created or opened.
        """
        upgrade(url)
        return cls.open(url, busy_deadline_s)

    def close(self) -> None:
        """Let the file go."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_reason: object) -> None:
        self.close()

    def facts(self) -> StorageFacts:
        """How much is stored, over all plants."""
        ts = schema.sample.c.ts
        with reading(self._engine) as connection:
            rows, oldest, newest = connection.execute(
                select(func.count(), func.min(ts), func.max(ts))
            ).one()
        files = (self.path, self.path.with_name(f"{self.path.name}-wal"))
        return StorageFacts(
            path=self.path,
            revision=head_revision(),
            rows=rows,
            size_bytes=sum(file.stat().st_size for file in files if file.exists()),
            oldest=_known_moment(oldest),
            newest=_known_moment(newest),
        )


def _known_moment(us: int | None) -> datetime | None:
    """The time of a sample; None where there is none, or its time cannot be read."""
    try:
        return None if us is None else schema.moment(us)
    except RecordUnreadable:
        return None
