"""PostgreSQL keeps the samples of each day (UTC) in a partition of its own; SQLite has none.

A whole day is then forgotten at once, and a question about an hour looks at one day. What comes of
a day without a partition waits in `sample_default`, and moves when its day is made. Where the
table is a hypertable of TimescaleDB, that keeps the parts and nothing is done here.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta

import numpy as np
from sqlalchemy import Connection

from twin.historian import hypertable
from twin.historian.bulk import Rows

DAY_US = 86_400_000_000

# Chosen: a question about all of them takes two locks for each, of the 6,400 a server has by
# default. Days beyond wait in the default partition.
_MOST_DAYS = 1000
# Chosen: so many rows of one day in a batch are a record of that day, not a wrong stamp.
_RECORD_ROWS = 100
# Counting so many takes about a second.
_MANY_ROWS = 10_000_000
_FIRST = date(1970, 1, 1)
_DEFAULT = "sample_default"
_PARTS = (
    "SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid "
    "WHERE inhparent = to_regclass('sample') ORDER BY child.relname"
)


def has_days(connection: Connection) -> bool:
    """Whether samples are kept by day: on PostgreSQL, unless TimescaleDB keeps them."""
    if connection.dialect.name != "postgresql":
        return False
    kind = "SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass('sample')"
    return bool(connection.exec_driver_sql(kind).scalar())


def missing_days(rows: Rows, known: set[int]) -> set[int]:
    """The days (since 1970) to make before these rows are stored, beside the `known` ones.

    Those of live readings with the day that follows, so that each is made before it begins, and
    of what looks like a record of that day. A few late or wrongly stamped rows make none.
    """
    row_days = rows.times_us // DAY_US
    days, counts = np.unique(row_days, return_counts=True)
    if {*days.tolist(), *(days[-1:] + 1).tolist()} <= known:
        return set()
    live = set(np.unique(row_days[np.abs(rows.delays_us) < DAY_US]).tolist())
    records = set(days[counts >= _RECORD_ROWS].tolist())
    return (records | live | {day + 1 for day in live}) - known


def make_days(connection: Connection, days: Iterable[int]) -> None:
    """Make the partitions of these days that are not there yet, with what waited for them."""
    there = set(connection.exec_driver_sql(_PARTS).scalars())
    new = [day for day in sorted(days) if _name(day) not in there]
    for day in new[: max(0, _MOST_DAYS - len(there))]:
        part, start, end = _name(day), day * DAY_US, (day + 1) * DAY_US
        for statement in (
            f"CREATE TABLE {part} (LIKE sample INCLUDING DEFAULTS INCLUDING CONSTRAINTS)",
            f"WITH waiting AS (DELETE FROM {_DEFAULT} WHERE ts >= {start} AND ts < {end} "
            f"RETURNING *) INSERT INTO {part} SELECT * FROM waiting",
            f"ALTER TABLE sample ATTACH PARTITION {part} FOR VALUES FROM ({start}) TO ({end})",
        ):
            connection.exec_driver_sql(statement)


def drop_days(connection: Connection, before_us: int) -> int:
    """Forget whole days that ended by `before_us`, and return how many.

    Days apart are for PostgreSQL. What waits in the default partition, and the rest of a day that
    has not ended by then, stays.
    """
    if not has_days(connection):
        return hypertable.drop_chunks(connection, before_us)
    parts = connection.exec_driver_sql(_PARTS).scalars().all()
    first_kept = _name(before_us // DAY_US)
    gone = [part for part in parts if part != _DEFAULT and part < first_kept]
    for part in gone:
        connection.exec_driver_sql(f"DROP TABLE {part}")
    return len(gone)


def count_samples(connection: Connection) -> int:
    """How many samples are stored; a server's own estimate where counting would take long."""
    if connection.dialect.name == "postgresql":
        of_parts = f"SELECT sum(reltuples) FROM pg_class WHERE relname IN ({_PARTS})"
        estimate = connection.exec_driver_sql(of_parts).scalar() or 0
        if estimate > _MANY_ROWS:
            return int(estimate)
    return int(connection.exec_driver_sql("SELECT count(*) FROM sample").scalar_one())


def oldest_us(connection: Connection) -> int | None:
    """The earliest source time of a sample; None where there is none."""
    if not has_days(connection):
        of_tag = "SELECT min(ts) AS ts FROM sample WHERE tag_id = tag.id"
        query = f"SELECT min(oldest) FROM (SELECT ({of_tag}) AS oldest FROM tag) AS each_tag"
        return _whole(connection, query)
    days = [part for part in connection.exec_driver_sql(_PARTS).scalars() if part != _DEFAULT]
    waiting = _whole(connection, f"SELECT min(ts) FROM {_DEFAULT}")
    for day in days:
        oldest = _whole(connection, f"SELECT min(ts) FROM {day}")
        if oldest is not None:
            return oldest if waiting is None else min(oldest, waiting)
    return waiting


def _whole(connection: Connection, query: str) -> int | None:
    found: int | None = connection.exec_driver_sql(query).scalar_one()
    return found


def _name(day: int) -> str:
    return f"sample_{(_FIRST + timedelta(days=day)).isoformat().replace('-', '')}"
