"""The historian's tables. Their triggers live in the migrations, beside the tables they guard.

Every time is an integer: microseconds since 1970 UTC. Everything structured is JSON text, plans
and forecasts packed (`twin.historian.stored`).
Column types exist on SQLite (where tables are STRICT) and on PostgreSQL alike. Queries and
rules about what may follow what are elsewhere.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    REAL,
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.types import TypeEngine

from twin.errors import RecordUnreadable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
#: Times that can be read: inside the years 1 and 9999 by a day, so that every zone can show them.
EARLIEST = datetime(1, 1, 2, tzinfo=UTC)
LATEST = datetime(9999, 12, 30, tzinfo=UTC)

Whole = BigInteger().with_variant(Integer(), "sqlite")  # SQLite's INTEGER already has 64 bits
Small = SmallInteger().with_variant(Integer(), "sqlite")
Number: TypeEngine[float] = Double().with_variant(REAL(), "sqlite")

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970 UTC, exact; a naive time raises ValueError."""
    try:
        return (moment - _EPOCH) // _MICROSECOND
    except TypeError:
        raise ValueError(f"{moment.isoformat()} has no time zone; times are aware UTC") from None


_EARLIEST_US, _LATEST_US = microseconds(EARLIEST), microseconds(LATEST)


def moment(us: int) -> datetime:
    """The aware UTC time of `us` microseconds since 1970.

    Raises:
        RecordUnreadable: it lies before `EARLIEST` or after `LATEST`.
    """
    if not _EARLIEST_US <= us <= _LATEST_US:
        raise RecordUnreadable(f"{us} µs since 1970 is no time a plant can have")
    return _EPOCH + timedelta(microseconds=us)


tag = Table(
    "tag",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("plant", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("unit", Text, nullable=False),
    UniqueConstraint("plant", "name"),
    sqlite_strict=True,
)

sample = Table(
    "sample",
    METADATA,
    Column("tag_id", Integer, primary_key=True, autoincrement=False),  # tag.id, as in last_value
    Column("ts", Whole, primary_key=True, autoincrement=False),
    Column("value", Number),
    Column("quality", Whole, nullable=False),
    Column("delay", Whole, nullable=False),  # from `ts` to its arrival; small in SQLite
    Column("marks", Small, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
    postgresql_partition_by="RANGE (ts)",
)

last_value = Table(
    "last_value",
    METADATA,
    Column("tag_id", Integer, ForeignKey("tag.id"), primary_key=True, autoincrement=False),
    Column("ts", Whole, nullable=False),
    Column("value", Number),
    Column("quality", Whole, nullable=False),
    Column("delay", Whole, nullable=False),  # from `ts` to its arrival; small in SQLite
    Column("marks", Small, nullable=False),
    sqlite_strict=True,
)

gap = Table(
    "gap",
    METADATA,
    Column("plant", Text, primary_key=True),
    Column("source", Text, primary_key=True),  # "" = every source of the plant
    Column("tag", Text, primary_key=True),  # "" = every tag of the source
    Column("started_at", Whole, primary_key=True, autoincrement=False),
    Column("ended_at", Whole),
    Column("is_filled", Integer, nullable=False),
    Column("filled_until", Whole),
    Column("reason", Text, nullable=False),
    CheckConstraint("is_filled IN (0, 1)", name="is_filled"),
    # Gaps gather for years, and most are filled.
    Index(
        "ix_gap_unfilled",
        "plant",
        "source",
        "ended_at",
        sqlite_where=text("is_filled = 0"),
        postgresql_where=text("is_filled = 0"),
    ),
    sqlite_strict=True,
)

proposal = Table(
    "proposal",
    METADATA,
    Column("proposal_id", Text, primary_key=True),
    Column("plant", Text, nullable=False),
    Column("created_at", Whole, nullable=False),
    Column("expires_at", Whole, nullable=False),
    Column("open_until_wall", Whole, nullable=False),
    Column("status", Text, nullable=False),
    Column("status_reason", Text, nullable=False),
    Column("status_at", Whole, nullable=False),
    Column("reason", Text, nullable=False),
    Column("benefit_per_h", Number),
    Column("model", Text, nullable=False),
    Column("current_values", Text, nullable=False),
    Column("setpoints", Text, nullable=False),
    Column("binding", Text, nullable=False),
    Column("plan", LargeBinary, nullable=False, server_default=text("x''")),
    Column("forecast", LargeBinary),
    Column("verdict", Text, nullable=False),
    Index(None, "plant", "created_at"),
    Index(None, "plant", "status"),
    sqlite_strict=True,
)

decision = Table(
    "decision",
    METADATA,
    Column("proposal_id", Text, ForeignKey("proposal.proposal_id"), primary_key=True),
    Column("is_accepted", Integer, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("decided_at", Whole, nullable=False),
    CheckConstraint("is_accepted IN (0, 1)", name="is_accepted"),
    sqlite_strict=True,
)

clearance = Table(
    "clearance",
    METADATA,
    Column("clearance_id", Text, primary_key=True),
    Column("proposal_id", Text, ForeignKey("proposal.proposal_id"), nullable=False),
    Column("setpoints", Text, nullable=False),
    Column("issued_at", Whole, nullable=False),
    Column("expires_at", Whole, nullable=False),
    Column("used_at", Whole),
    sqlite_strict=True,
)

write_outcome = Table(
    "write_outcome",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("proposal_id", Text, ForeignKey("proposal.proposal_id"), nullable=False),
    Column("clearance_id", Text, ForeignKey("clearance.clearance_id")),
    Column("status", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("finished_at", Whole, nullable=False),
    CheckConstraint("clearance_id IS NOT NULL OR status = 'refused'", name="is_cleared"),
    Index(None, "proposal_id"),
    # An unknown outcome may be settled later by reading; everything else is said once.
    Index(
        "ix_write_outcome_settled_once",
        "clearance_id",
        unique=True,
        sqlite_where=text("status <> 'unknown'"),
        postgresql_where=text("status <> 'unknown'"),
    ),
    sqlite_strict=True,
)

written_value = Table(
    "written_value",
    METADATA,
    Column("outcome_id", Integer, ForeignKey("write_outcome.id"), primary_key=True),
    Column("mv", Text, primary_key=True),
    Column("setpoint", Number),
    Column("read_back", Number),
    Column("is_read_back", Integer, nullable=False),  # 0: the outcome says nothing of this MV
    Index(None, "mv", "outcome_id"),
    sqlite_strict=True,
)

hand_back = Table(
    "hand_back",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("plant", Text, nullable=False),
    Column("mv", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("asked_at", Whole, nullable=False),
    Column("status", Text, nullable=False),
    Column("result", Text, nullable=False),
    Column("ended_at", Whole),
    # The newest write of the MV that this ended; none where nothing was written before.
    Column("outcome_id", Integer, ForeignKey("write_outcome.id")),
    CheckConstraint("(status = 'open') = (ended_at IS NULL)", name="is_ended"),
    Index(None, "plant", "mv"),
    Index(None, "plant", "status"),
    sqlite_strict=True,
)

stage = Table(
    "stage",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("plant", Text, nullable=False),
    Column("mv", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("decided_at", Whole, nullable=False),
    Index(None, "plant", "mv"),
    sqlite_strict=True,
)

event = Table(
    "event",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("plant", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("at", Whole, nullable=False),
    Column("actor", Text, nullable=False),
    Index(None, "plant", "kind"),
    Index(None, "plant", "subject"),
    sqlite_strict=True,
)

process = Table(
    "process",
    METADATA,
    Column("plant", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("at", Whole, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("detail", Text, nullable=False),
    sqlite_strict=True,
)

lease = Table(
    "lease",
    METADATA,
    Column("plant", Text, primary_key=True),
    Column("role", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("until", Whole, nullable=False),  # wall time
    sqlite_strict=True,
)

model = Table(
    "model",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("plant", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("card", Text, nullable=False),
    Column("activated_at", Whole, nullable=False),
    Index(None, "plant"),
    sqlite_strict=True,
)


def _rollup(name: str) -> Table:
    """Readings of one tag summed up over equal buckets; what the numbers say is `rollups`'."""
    return Table(
        name,
        METADATA,
        Column("tag_id", Integer, ForeignKey("tag.id"), primary_key=True, autoincrement=False),
        Column("bucket", Whole, primary_key=True, autoincrement=False),  # where it begins
        Column("n", Whole, nullable=False),
        Column("n_good", Whole, nullable=False),
        Column("total", Number),  # of good values; NULL, like the next four, if there is none
        Column("low", Number),
        Column("high", Number),
        Column("first", Number),
        Column("last", Number),
        Column("area", Number, nullable=False),  # unit × s, over the seconds a value held
        Column("known_s", Number, nullable=False),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


rollup_1m = _rollup("rollup_1m")
rollup_1h = _rollup("rollup_1h")

# Stretches of whole minutes whose rollups do not say yet what is stored.
rollup_due = Table(
    "rollup_due",
    METADATA,
    Column("tag_id", Integer, ForeignKey("tag.id"), primary_key=True, autoincrement=False),
    Column("since", Whole, primary_key=True, autoincrement=False),
    Column("until", Whole, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

# How far a plant's upkeep has come; NULL before its first.
upkeep = Table(
    "upkeep",
    METADATA,
    Column("plant", Text, primary_key=True),
    Column("watermark", Whole),  # older readings are rolled up, or due
    Column("raw_from", Whole),  # older readings are being deleted
    Column("raw_cleared", Whole),  # older readings have been deleted
    Column("minutes_from", Whole),  # older minutes are being deleted
    sqlite_strict=True,
)

annotation = Table(
    "annotation",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("plant", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("started_at", Whole, nullable=False),
    Column("ended_at", Whole, nullable=False),
    Column("tags", Text, nullable=False),  # JSON list; [] = the whole plant
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Whole, nullable=False),
    # The annotation that this one takes back; it says nothing else then.
    Column("withdraws", Integer, ForeignKey("annotation.id"), unique=True),
    CheckConstraint("started_at <= ended_at", name="is_period"),
    Index(None, "plant"),
    sqlite_strict=True,
)
