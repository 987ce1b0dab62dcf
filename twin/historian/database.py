"""Opening the database file, its transactions, and one clear message when it fails.

Several processes share one SQLite file. A write transaction takes the write lock at once
(BEGIN IMMEDIATE) and keeps it briefly; who finds it taken tries again until a deadline. No
table or query is named here.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, IntegrityError, ProgrammingError

from twin.errors import DatabaseUnavailable, RecordRefused

# How long a writer waits for the others: backfill holds the lock for about 0.1 s at a time. A
# reader waits as long for the one process that repairs the log after another was killed.
BUSY_DEADLINE_S = 10.0
# SQLite's own waiting backs off to 0.1 s; short rounds of it find the gaps between batches.
_BUSY_ROUND_MS = 40
_WRITES = "plantwright_writes"

#: Stands for bytes that are no text: a damaged text is read with it, and hides no other row.
REPLACED = "\ufffd"


def sqlite_path(url: str | Path) -> Path:
    """The database file that `url` names: a file path or `sqlite:///path`.

    Raises:
        DatabaseUnavailable: the address does not parse or names another kind of database.
    """
    text = str(url)
    if isinstance(url, Path) or ":" not in text:
        return Path(text)
    try:
        parsed = make_url(text)
    except ArgumentError:
        raise DatabaseUnavailable(
            f"{text}: not a database address. Write sqlite:///FOLDER/NAME.db or a file name."
        ) from None
    if parsed.get_backend_name() != "sqlite":
        raise DatabaseUnavailable(
            f"{parsed.render_as_string()}: this version stores in SQLite files only. "
            "Write sqlite:///FOLDER/NAME.db."
        )
    if not parsed.database or parsed.database == ":memory:":
        raise DatabaseUnavailable(
            f"{text}: a database in memory cannot be shared by several processes. "
            "Write sqlite:///FOLDER/NAME.db."
        )
    return Path(parsed.database)


def connect(path: Path, busy_deadline_s: float = BUSY_DEADLINE_S) -> Engine:
    """An engine for the SQLite file at `path`; nothing is opened yet."""
    engine = create_engine(URL.create("sqlite", database=str(path)))

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # this module says BEGIN itself
        connection.text_factory = _text
        for setting in (
            "synchronous = NORMAL",
            "foreign_keys = ON",
            "cache_size = -16000",  # 16 MB
            "journal_size_limit = 67108864",  # a backfill leaves no larger log behind
        ):
            connection.execute(f"PRAGMA {setting}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        if connection.get_execution_options().get(_WRITES, False):
            _begin_immediate(raw, busy_deadline_s)
        else:
            raw.execute(f"PRAGMA busy_timeout = {round(1000 * busy_deadline_s)}").close()
            raw.execute("BEGIN")

    return engine


def _text(stored: bytes) -> str:
    return stored.decode(errors="replace")


def fetch(
    connection: Connection, query: str, parameters: tuple[object, ...]
) -> list[tuple[Any, ...]]:
    """All rows as the driver's own tuples: twice as fast as rows of SQLAlchemy."""
    cursor = connection.connection.cursor()
    try:
        cursor.execute(query, parameters)
        return [*cursor.fetchall()]
    finally:
        cursor.close()


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that sees one moment of the database and changes nothing.

    Raises:
        DatabaseUnavailable: the database stopped answering.
    """
    with _told_plainly(engine), engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A write transaction: everything inside is stored, or nothing.

    Raises:
        DatabaseUnavailable: the write lock stayed taken, or the database stopped answering.
        RecordRefused: a rule of the database forbids a row.
    """
    with (
        _told_plainly(engine),
        engine.connect().execution_options(**{_WRITES: True}) as connection,
        connection.begin(),
    ):
        yield connection


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


@contextmanager
def _told_plainly(engine: Engine) -> Iterator[None]:
    """Turn the driver's errors into ours."""
    try:
        yield
    except IntegrityError as error:
        raise RecordRefused(f"Not stored: {error.orig}.") from error
    except (DatabaseError, sqlite3.DatabaseError) as error:
        if isinstance(error, ProgrammingError | sqlite3.ProgrammingError):
            raise  # a wrong call of ours, not a fault of the database
        cause = error.orig if isinstance(error, DatabaseError) else error
        raise DatabaseUnavailable(f"{engine.url.database}: {cause}. {_remedy(cause)}") from error


def _remedy(cause: BaseException | None) -> str:
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    return {
        sqlite3.SQLITE_BUSY: "Another process holds it; find and end that process, then try again.",
        sqlite3.SQLITE_CANTOPEN: "Check that its folder exists and may be written.",
        sqlite3.SQLITE_READONLY: "Check that the file and its folder may be written.",
        sqlite3.SQLITE_FULL: "Free space on that disk.",
        sqlite3.SQLITE_NOTADB: "Name another file, or move this one away.",
        sqlite3.SQLITE_CORRUPT: "Restore it from a backup.",
        sqlite3.SQLITE_IOERR: "Check the disk.",
    }.get(code, "Check the file, its folder and the disk.")
