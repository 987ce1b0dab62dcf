"""The spool's file: its tables, what its faults mean, and what becomes of a damaged one.

A torn page makes SQLite refuse whatever touches it, for ever: also the deletion of the parcel that
lies there. So the rest is read out into a new file, each parcel by its number, and what is gone
becomes a lost stretch in its place.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Set
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from connectors.parcels import (
    Batch,
    Heard,
    Lost,
    Parcel,
    Silence,
    microseconds_of,
    moment_of,
    packed,
    rows_of,
    span_of,
    unpacked,
)
from twin.errors import SpoolTaken, SpoolUnavailable

DAMAGED = "damaged on the disk of the spool"

SCHEMA = """
CREATE TABLE IF NOT EXISTS parcel (
    id INTEGER PRIMARY KEY AUTOINCREMENT, rows INTEGER NOT NULL, source TEXT NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL, crc INTEGER NOT NULL, blob BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS quarantine (
    id INTEGER PRIMARY KEY AUTOINCREMENT, rows INTEGER NOT NULL, reason TEXT NOT NULL,
    blob BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS spool (identity TEXT NOT NULL) STRICT;
"""

SETTINGS = (
    "auto_vacuum = INCREMENTAL",
    "locking_mode = EXCLUSIVE",
    "journal_mode = WAL",
    "synchronous = FULL",
    "cache_size = -4000",
    "journal_size_limit = 4194304",
)
#: What a parcel is in its table, but for its number: rows, source, first, last, crc, blob.
Columns = tuple[int, str, int, int, int, bytes]
Pack = tuple[Parcel, Columns]

_REMEDIES = {
    sqlite3.SQLITE_READONLY: "Check that the file and its folder may be written.",
    sqlite3.SQLITE_CANTOPEN: "Check that its folder exists and may be written.",
    sqlite3.SQLITE_FULL: "Free space on that disk.",
    sqlite3.SQLITE_IOERR: "Check the disk.",
    sqlite3.SQLITE_CORRUPT: "Move the file away; the next start begins a new one.",
}
SET_ASIDE = "INSERT INTO quarantine (rows, reason, blob) VALUES (?, ?, ?)"
_COPY = "INSERT INTO parcel VALUES (?, ?, ?, ?, ?, ?, ?)"
_HEAD = "SELECT rows, source, first, last, crc FROM parcel WHERE id = ?"
_BLOB = "SELECT blob FROM parcel WHERE id = ?"
_LAST = ("SELECT seq FROM sqlite_sequence WHERE name = 'parcel'", "SELECT max(id) FROM parcel")
_PARCELS_PER_PAGE = 100  # more than there can be: each takes some 60 bytes
_ALL_TIME = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


def is_legible(blob: Any, crc: Any) -> bool:
    """Whether the bytes are those that were put."""
    if not isinstance(blob, bytes) or zlib.crc32(blob) != crc:
        return False
    with contextlib.suppress(ValueError):
        unpacked(blob)
        return True
    return False


def columns_of(parcel: Parcel) -> Columns:
    """A parcel as it stands in its table, but for its number."""
    source, first, last = span_of(parcel)
    blob = packed(parcel)
    times_us = (microseconds_of(first), microseconds_of(last))
    return rows_of(parcel), source, *times_us, zlib.crc32(blob), blob


def is_sound(rows: Any, source: Any, first_us: Any, last_us: Any) -> bool:
    """Whether these can be a parcel's columns: SQLite hands out a torn page's as they are."""
    low_us, high_us = map(microseconds_of, _ALL_TIME)
    return (
        all(isinstance(each, int) for each in (rows, first_us, last_us))
        and isinstance(source, str)
        and "\N{REPLACEMENT CHARACTER}" not in source
        and rows >= 0
        and low_us <= first_us <= high_us
        and low_us <= last_us <= high_us
    )


def lost_of(source: str, first_us: int, last_us: int) -> Lost:
    """What stands in the place of a parcel that is gone."""
    return Lost(source, moment_of(first_us), moment_of(last_us), DAMAGED)


class Unread:
    """Parcels that nobody can read, not even of whom and when they were: who was `heard` since.

    None: there were none. Each source is silent from the newest reading that is stored by then to
    its next one.
    """

    def __init__(self, heard: Set[str] | None = None) -> None:
        self.heard = None if heard is None else set(heard)

    def begin(self) -> None:
        """There was one: of any source."""
        self.heard = set()

    def marks_before(self, source: str, last: datetime) -> list[Parcel]:
        """What stands before readings until `last` of a source not heard since."""
        if self.heard is None or source in self.heard:
            return []
        self.heard.add(source)
        return [Silence(source, last, DAMAGED), Heard(source, last)]

    def marked(self, packs: Iterable[Pack]) -> Iterator[Pack]:
        """The same, with those marks."""
        for parcel, row in packs:
            if isinstance(parcel, Batch):
                _, _, last = span_of(parcel)
                for mark in self.marks_before(parcel.source, last):
                    yield mark, columns_of(mark)
            yield parcel, row


def _salvaged(
    damaged: sqlite3.Connection, after: int, unread: Unread
) -> Iterator[tuple[int, Parcel, int]]:
    """What can be read behind parcel `after`, in order: number, parcel, and readings it lost."""
    has_begun = False
    for number in _numbers(damaged, after):
        try:
            head = damaged.execute(_HEAD, (number,)).fetchone()
        except sqlite3.DatabaseError:
            unread.begin()
            continue
        if head is None:
            if has_begun:
                unread.begin()
            continue
        has_begun = True
        rows, source, first_us, last_us, crc = head
        if not is_sound(rows, source, first_us, last_us):
            unread.begin()
            continue
        if rows:
            for mark in unread.marks_before(source, moment_of(last_us)):
                yield number, mark, 0
        blob = _content(damaged, number)
        if blob is not None and is_legible(blob, crc):
            yield number, unpacked(blob), 0
        else:
            yield number, lost_of(source, first_us, last_us), rows


def _content(damaged: sqlite3.Connection, number: int) -> bytes | None:
    try:
        found: Any = damaged.execute(_BLOB, (number,)).fetchone()
    except sqlite3.DatabaseError:
        return None
    return found[0] if found else None


def _numbers(damaged: sqlite3.Connection, after: int) -> range:
    """The numbers behind `after` that parcels may have: one is like the next, without a hole."""
    lasts: list[int] = []
    for query in _LAST:
        with contextlib.suppress(sqlite3.DatabaseError):
            found = damaged.execute(query).fetchone()
            if found is not None and isinstance(found[0], int) and found[0] > after:
                lasts.append(found[0])
    if not lasts:
        return range(0)
    (pages,) = damaged.execute("PRAGMA page_count").fetchone()
    most = _PARCELS_PER_PAGE * pages
    last = max(lasts) if max(lasts) - min(lasts) <= most else min(lasts)  # or it is damaged itself
    return range(max(after, last - most) + 1, last + 1)


def replaced(
    path: Path, damaged: sqlite3.Connection, after: int, left: int, unread: Unread
) -> tuple[Path, int]:
    """A file that is damaged inside gives way to one with all that can be read behind `after`.

    The answer is where the old one is kept, and the new number of parcel `left`: they are counted
    anew from `after` on. There is a whole file at `path` at any moment. `damaged` is closed.

    Raises sqlite3.DatabaseError where it cannot be read or the new one not be written; then
    everything stands as it did.
    """
    whole = path.with_name(f"{path.name}.mending")
    whole.unlink(missing_ok=True)
    os.close(os.open(whole, os.O_CREAT | os.O_EXCL, 0o600))
    with contextlib.closing(sqlite3.connect(whole, isolation_level=None)) as new:
        new.execute(f"PRAGMA {SETTINGS[0]}")
        newest = _copy(damaged, new, after, left, unread)
    kept = _free_name(path)
    os.link(path, kept)
    damaged.close()
    _rename_logs(path, kept)
    whole.replace(path)
    return kept, newest


def put_away(path: Path) -> Path:
    """A ruined file is kept for whoever can mend it: there."""
    kept = _free_name(path)
    path.rename(kept)
    _rename_logs(path, kept)
    return kept


def _free_name(path: Path) -> Path:
    number = 1
    while (kept := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return kept


def _rename_logs(path: Path, kept: Path) -> None:
    for ending in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + ending).rename(f"{kept}{ending}")


def _copy(
    old: sqlite3.Connection, new: sqlite3.Connection, after: int, left: int, unread: Unread
) -> int:
    """Fill a new file; the new number of parcel `left`."""
    identity = identity_of(old)
    new.executescript(SCHEMA)
    new.execute("BEGIN")
    new.execute("INSERT INTO spool VALUES (?)", (identity,))
    new.execute("INSERT INTO sqlite_sequence VALUES ('parcel', ?)", (after,))
    with contextlib.suppress(sqlite3.DatabaseError):
        for row in old.execute("SELECT rows, reason, blob FROM quarantine ORDER BY id"):
            new.execute(SET_ASIDE, row)
    number = newest = after
    for old_number, parcel, lost in _salvaged(old, after, unread):
        number += 1
        new.execute(_COPY, (number, *columns_of(parcel)))
        if lost:
            new.execute(SET_ASIDE, (lost, DAMAGED, b""))
        if old_number <= left:
            newest = number
    new.execute("COMMIT")
    return newest


def opened(path: Path) -> sqlite3.Connection:
    """A connection that waits for nobody, for any thread, and shows damaged text as such."""
    database = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    database.text_factory = lambda stored: stored.decode(errors="replace")
    return database


def identity_of(database: sqlite3.Connection) -> str | None:
    """The file's own name, None where it has none yet; raises sqlite3.DatabaseError."""
    try:
        found = database.execute("SELECT identity FROM spool").fetchone()
    except UnicodeDecodeError as error:  # SQLite quotes what is damaged, and Python reads it
        raise ruin() from error
    if found is not None and not isinstance(found[0], str):
        raise ruin()
    return found[0] if found else None


def ruin() -> sqlite3.DatabaseError:
    """What SQLite raises of damage that it sees, for damage that it does not see."""
    error = sqlite3.DatabaseError("the file holds what was never put there")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def is_ruin(error: sqlite3.Error) -> bool:
    """Whether the file is no database or another's, or is damaged inside."""
    # SQLITE_ERROR: what we ask is always the same, so it is the tables that are not ours.
    return code_of(error) in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR)


def code_of(error: sqlite3.Error | OSError) -> int:
    """SQLite's own number of an error; 0 of another's."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn what the disk or SQLite raises into ours."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        if code_of(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise SpoolTaken(f"{path}: another process collects into this spool.") from error
        remedy = _REMEDIES.get(code_of(error), "Free space on that disk, and check that it works.")
        raise SpoolUnavailable(f"{path}: {error}. {remedy}") from error
