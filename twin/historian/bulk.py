"""Many readings at once: as rows, and each database's fastest way of storing them.

Through the driver itself: row dictionaries of SQLAlchemy would cost three quarters of the speed.
PostgreSQL takes them by COPY into a table of this connection, and from there without those it has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite

from sqlalchemy import Connection

from twin.errors import UnknownTag
from twin.historian.database import driver_cursor
from twin.historian.schema import microseconds, moment
from twin.records import BAD, Mark, Reading

#: Tag number, source time, value, quality, delay (µs until it arrived), marks.
SampleRow = tuple[int, int, float | None, int, int, int]

_EPOCH = moment(0)
_BAD_SEVERITY = BAD >> 30
_UNMARKED = Mark.NONE

_TYPES = ("int4", "int8", "float8", "int8", "int8", "int2")
_NEWER = (
    "ON CONFLICT (tag_id) DO UPDATE SET ts = excluded.ts, value = excluded.value, "
    "quality = excluded.quality, delay = excluded.delay, marks = excluded.marks "
    "WHERE excluded.ts > last_value.ts"
)


def sample_rows(readings: Sequence[Reading], ids: Mapping[str, int], plant: str) -> list[SampleRow]:
    """Readings as rows by tag and time; of two with one source time the first stands.

    `ids`: the plant's tags with their numbers.

    Raises:
        UnknownTag: a tag is not among them.
        ValueError: a time has no zone.
    """
    # Written for speed: these lines are most of what storing costs beside the database.
    rows: dict[tuple[int, int], SampleRow] = {}
    arrived_at, arrived_us = None, 0
    try:
        for each in reversed(readings):
            tag_id = ids[each.tag]
            since = each.source_time - _EPOCH
            ts = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
            if each.arrival_time is not arrived_at:
                arrived_at = each.arrival_time
                arrived_us = microseconds(arrived_at)
            value, quality = each.value, each.quality
            if value is None or not isfinite(value):
                value, quality = None, quality if quality >> 30 == _BAD_SEVERITY else BAD
            marks = 0 if each.marks is _UNMARKED else int(each.marks)
            rows[tag_id, ts] = (tag_id, ts, value, quality, arrived_us - ts, marks)
    except KeyError:
        raise not_registered({each.tag for each in readings} - ids.keys(), plant) from None
    except TypeError:
        for each in readings:
            microseconds(each.source_time)  # says which has no zone
        raise
    return sorted(rows.values())


def not_registered(unknown: set[str], plant: str) -> UnknownTag:
    """What is said of tags that the plant does not have."""
    names = ", ".join(sorted(unknown))
    return UnknownTag(f"{names}: not registered for plant {plant}. Check the plant file's tags.")


def insert_samples(connection: Connection, rows: Sequence[SampleRow]) -> int:
    """Store rows, moving last values on, and return how many were new.

    Rows come sorted, at most one for a tag and time. One that is stored already stays as it is.
    """
    if connection.dialect.name == "sqlite":
        return _into_sqlite(connection, rows)
    return _into_postgres(connection, rows)


def _into_sqlite(connection: Connection, rows: Sequence[SampleRow]) -> int:
    newest = {row[0]: row for row in rows}
    new = connection.exec_driver_sql(
        "INSERT INTO sample VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", list(rows)
    ).rowcount
    connection.exec_driver_sql(
        f"INSERT INTO last_value VALUES (?, ?, ?, ?, ?, ?) {_NEWER}", list(newest.values())
    )
    return new


def _into_postgres(connection: Connection, rows: Sequence[SampleRow]) -> int:
    connection.exec_driver_sql(
        "CREATE TEMP TABLE IF NOT EXISTS incoming_sample (LIKE sample) ON COMMIT DELETE ROWS"
    )
    with (
        driver_cursor(connection) as cursor,
        cursor.copy("COPY incoming_sample FROM STDIN (FORMAT BINARY)") as copy,
    ):
        copy.set_types(_TYPES)
        for row in rows:
            copy.write_row(row)
    new = connection.exec_driver_sql(
        "INSERT INTO sample SELECT * FROM incoming_sample ON CONFLICT DO NOTHING"
    ).rowcount
    connection.exec_driver_sql(
        "INSERT INTO last_value SELECT DISTINCT ON (tag_id) * FROM incoming_sample "
        f"ORDER BY tag_id, ts DESC {_NEWER}"
    )
    return new
