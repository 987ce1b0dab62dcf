"""Many readings at once: as sorted rows, and each database's fastest way of storing them.

Rows stay columns up to the driver: a record of each would cost half as much as storing it.
PostgreSQL takes by COPY what is newer than all it has of a tag; the rest goes by COPY into a
table of this connection, and from there without what is stored already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from twin.errors import UnknownTag
from twin.historian.database import driver_cursor, fetch
from twin.readings import Readings, Whole
from twin.records import BAD, Series

_BAD_SEVERITY = BAD >> 30

_NEWER = (
    "ON CONFLICT (tag_id) DO UPDATE SET ts = excluded.ts, value = excluded.value, "
    "quality = excluded.quality, delay = excluded.delay, marks = excluded.marks "
    "WHERE excluded.ts > last_value.ts"
)
# PostgreSQL's binary COPY (its manual, "COPY", file formats): each field after its length.
_COPY_BEGINS, _COPY_ENDS = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
_FIELDS = (
    ("tag_ids", ">i4"),
    ("times_us", ">i8"),
    ("values", ">f8"),
    ("quality", ">i8"),
    ("delays_us", ">i8"),
    ("marks", ">i2"),
)
_NULL = -1


@dataclass(frozen=True, slots=True)
class Rows:
    """Samples by tag and time, at most one for each; NaN is no number.

    `tag_ids`: tag number; `times_us`: source time since 1970; `delays_us`: until it arrived.
    """

    tag_ids: Whole
    times_us: Whole
    values: Series
    quality: Whole
    delays_us: Whole
    marks: Whole

    def __len__(self) -> int:
        return len(self.tag_ids)

    def __getitem__(self, which: slice | NDArray[Any]) -> Rows:
        return Rows(*(getattr(self, name)[which] for name in _COLUMNS))

    def lists(self) -> tuple[list[Any], ...]:
        """The columns as a driver takes them, None where there is no number."""
        columns = [getattr(self, name).tolist() for name in _COLUMNS]
        for place in np.flatnonzero(np.isnan(self.values)):
            columns[2][place] = None
        return tuple(columns)

    def tuples(self) -> Iterator[tuple[Any, ...]]:
        """Row by row, in the order of the tables' columns."""
        return zip(*self.lists(), strict=True)

    @property
    def newest(self) -> Rows:
        """The last row of each tag."""
        return self[np.flatnonzero(np.append(self.tag_ids[1:] != self.tag_ids[:-1], True))]


_COLUMNS = tuple(field.name for field in fields(Rows))


def sample_rows(readings: Readings, ids: Mapping[str, int], plant: str) -> Rows:
    """Readings as rows; of two of a tag with one source time the first stands.

    `ids`: the plant's tags with their numbers.

    Raises:
        UnknownTag: a tag is not among them.
    """
    numbers = np.array([ids.get(name, -1) for name in readings.names], np.int64)
    tag_ids = numbers[readings.tags]
    if len(tag_ids) and tag_ids.min() < 0:
        missing = np.unique(readings.tags[tag_ids < 0]).tolist()
        raise not_registered({readings.names[place] for place in missing}, plant)
    is_number = np.isfinite(readings.values)
    is_told = is_number | (readings.quality >> 30 == _BAD_SEVERITY)
    rows = Rows(
        tag_ids,
        readings.times_us,
        np.where(is_number, readings.values, np.nan),
        np.where(is_told, readings.quality, BAD),
        readings.arrivals_us - readings.times_us,
        readings.marks,
    )[np.lexsort((readings.times_us, tag_ids))]  # which keeps the order of equal ones
    is_first = (np.diff(rows.tag_ids) != 0) | (np.diff(rows.times_us) != 0)
    return rows[np.append(len(rows) > 0, is_first)[: len(rows)]]


def not_registered(unknown: set[str], plant: str) -> UnknownTag:
    """What is said of tags that the plant does not have."""
    names = ", ".join(sorted(unknown))
    return UnknownTag(f"{names}: not registered for plant {plant}. Check the plant file's tags.")


def insert_samples(connection: Connection, rows: Rows) -> int:
    """Store rows, moving last values on, and return how many were new.

    One that is stored already stays as it is.
    """
    if connection.dialect.name == "sqlite":
        return _into_sqlite(connection, rows)
    return _into_postgres(connection, rows)


def _into_sqlite(connection: Connection, rows: Rows) -> int:
    cursor = driver_cursor(connection)
    try:
        into = "INSERT INTO {} VALUES (?, ?, ?, ?, ?, ?) {}"
        cursor.executemany(into.format("sample", "ON CONFLICT DO NOTHING"), rows.tuples())
        new = int(cursor.rowcount)
        cursor.executemany(into.format("last_value", _NEWER), rows.newest.tuples())
    finally:
        cursor.close()
    return new


def _into_postgres(connection: Connection, rows: Rows) -> int:
    """Rows newer than their tag's last value can't be there: no need to look for each."""
    newest = dict(fetch(connection, "SELECT tag_id, ts FROM last_value", ()))
    known = rows.newest
    stood_us = np.array([newest.get(n, _LONG_AGO_US) for n in known.tag_ids.tolist()], np.int64)
    is_newer = rows.times_us > stood_us[np.searchsorted(known.tag_ids, rows.tag_ids)]
    new = 0
    for part, put in ((rows[is_newer], _put_newer), (rows[~is_newer], _put_others)):
        new += put(connection, part) if len(part) else 0
    with driver_cursor(connection) as cursor:
        arrays = "%s::int4[], %s::int8[], %s::float8[], %s::int8[], %s::int8[], %s::int2[]"
        into = f"INSERT INTO last_value SELECT * FROM unnest({arrays}) {_NEWER}"
        cursor.execute(into, known.lists())
    return new


def _put_newer(connection: Connection, rows: Rows) -> int:
    """Straight into the table, where none of these should be."""
    try:
        with connection.begin_nested():
            _copy(connection, "sample", rows)
    except connection.dialect.loaded_dbapi.IntegrityError:
        return _put_others(connection, rows)  # a last value is behind: somebody changed the table
    return len(rows)


def _put_others(connection: Connection, rows: Rows) -> int:
    """Those that are not stored yet; how many they were."""
    connection.exec_driver_sql(
        "CREATE TEMP TABLE IF NOT EXISTS incoming_sample (LIKE sample) ON COMMIT DELETE ROWS"
    )
    _copy(connection, "incoming_sample", rows)
    return connection.exec_driver_sql(
        "INSERT INTO sample SELECT * FROM incoming_sample ON CONFLICT DO NOTHING"
    ).rowcount


def _copy(connection: Connection, table: str, rows: Rows) -> None:
    is_number = ~np.isnan(rows.values)
    with (
        driver_cursor(connection) as cursor,
        cursor.copy(f"COPY {table} FROM STDIN (FORMAT BINARY)") as copy,
    ):
        copy.write(_COPY_BEGINS)
        copy.write(_packed(rows[is_number], has_value=True))
        copy.write(_packed(rows[~is_number], has_value=False))
        copy.write(_COPY_ENDS)


def _packed(rows: Rows, *, has_value: bool) -> bytes:
    """Rows as COPY takes them, all with a number or all without."""
    columns: list[tuple[str, str, Any]] = [("fields", ">i2", len(_FIELDS))]
    for name, kind in _FIELDS:
        is_there = has_value or name != "values"
        columns.append((f"{name}_bytes", ">i4", np.dtype(kind).itemsize if is_there else _NULL))
        if is_there:
            columns.append((name, kind, getattr(rows, name)))
    packed = np.empty(len(rows), [(name, kind) for name, kind, _ in columns])
    for name, _, content in columns:
        packed[name] = content
    return packed.tobytes()


_LONG_AGO_US = np.iinfo(np.int64).min
