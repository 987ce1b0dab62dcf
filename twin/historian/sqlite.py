"""What is particular to SQLite: its connections, its write lock, its faults, its files.

Several processes share one file. A write transaction takes the write lock at once (BEGIN
IMMEDIATE) and keeps it briefly; who finds it taken tries again until a deadline. No table or
query is named here.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event

from twin.errors import DatabaseUnavailable
from twin.historian.address import Patience

#: How this driver marks a parameter in a statement.
MARK = "?"
DRIVER_ERROR: type[Exception] = sqlite3.Error

# SQLite's own waiting backs off to 0.1 s. In rounds of 8 ms it looks after 1, 3 and 8 ms: at least
# every 5 ms, so that it finds each rest of `twin.historian.database`.
_BUSY_ROUND_MS = 8

_REMEDIES = {
    sqlite3.SQLITE_BUSY: "Another process holds it; find and end that process, then try again.",
    sqlite3.SQLITE_CANTOPEN: "Check that its folder exists and may be written.",
    sqlite3.SQLITE_READONLY: "Check that the file and its folder may be written.",
    sqlite3.SQLITE_FULL: "Free space on that disk.",
    sqlite3.SQLITE_NOTADB: "Name another file, or move this one away.",
    sqlite3.SQLITE_CORRUPT: "Restore it from a backup.",
    sqlite3.SQLITE_IOERR: "Check the disk.",
}


def connect(url: URL, patience: Patience, is_writing: str) -> Engine:
    """An engine for the file; nothing is opened yet. Option `is_writing` marks a writer."""
    engine = create_engine(url)

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # this module says BEGIN itself
        connection.text_factory = _text
        for setting in (
            "synchronous = FULL",  # a commit survives a power cut: the spool deletes after it
            "foreign_keys = ON",
            "cache_size = -16000",  # 16 MB
            "journal_size_limit = 67108864",  # a backfill leaves no larger log behind
        ):
            connection.execute(f"PRAGMA {setting}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        raw = _raw(connection)
        if connection.get_execution_options().get(is_writing, False):
            _begin_immediate(raw, patience.busy_s)
        else:
            raw.execute(f"PRAGMA busy_timeout = {round(1000 * patience.busy_s)}").close()
            raw.execute("BEGIN")

    return engine


@contextmanager
def bounded(connection: Connection) -> Iterator[None]:
    """Nothing to bound: the file is on this machine, and waiting for its lock has a deadline."""
    yield


def cursor(connection: Connection) -> sqlite3.Cursor:
    """A cursor of the driver's own, for many rows."""
    return _raw(connection).cursor()


def is_lost(connection: Connection) -> bool:
    """Whether the connection cannot be used any more: a file's can."""
    return False


def is_refusal(cause: BaseException | None) -> bool:
    """Whether a rule of the database forbids a row."""
    return isinstance(cause, sqlite3.IntegrityError | sqlite3.DataError)


def is_wrong_call(cause: BaseException | None) -> bool:
    """Whether we asked wrongly: no fault of the database."""
    return isinstance(cause, sqlite3.ProgrammingError)


def told(cause: BaseException | None) -> str:
    """What the driver says happened."""
    return str(cause)


def remedy(cause: BaseException | None) -> str:
    """What a person can do about it."""
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    return _REMEDIES.get(code, "Check the file, its folder and the disk.")


def is_there(url: URL) -> bool:
    """Whether there is a file."""
    return _file(url).exists()


def size_bytes(connection: Connection) -> int:
    """The file's size, with its write-ahead log."""
    file = _file(connection.engine.url)
    return sum(
        each.stat().st_size for each in (file, file.with_name(f"{file.name}-wal")) if each.exists()
    )


def check_place(url: URL) -> None:
    """Refuse a file whose folder is not there."""
    folder = _file(url).parent
    if not folder.is_dir():
        raise DatabaseUnavailable(
            f"{url.database}: the folder {folder} does not exist. Create it or name another."
        )


def settle(engine: Engine) -> None:
    """Let readers and one writer work at the same time; the file remembers it."""
    raw = engine.raw_connection()
    try:
        connection = raw.driver_connection
        assert isinstance(connection, sqlite3.Connection)
        connection.execute("PRAGMA busy_timeout = 10000").close()
        connection.execute("PRAGMA journal_mode = WAL").close()
    except sqlite3.Error as error:
        raise DatabaseUnavailable(f"{engine.url.database}: {error}. Try again.") from error
    finally:
        raw.close()


def _raw(connection: Connection) -> sqlite3.Connection:
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    return raw


def _file(url: URL) -> Path:
    return Path(str(url.database))


def _text(stored: bytes) -> str:
    return stored.decode(errors="replace")


def _begin_immediate(connection: sqlite3.Connection, deadline_s: float) -> None:
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_ROUND_MS}").close()
    give_up_at = time.monotonic() + deadline_s
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not is_busy or time.monotonic() >= give_up_at:
                raise
        else:
            return
