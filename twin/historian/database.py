"""Opening a database, its transactions, and one clear message when it fails.

SQLite and PostgreSQL behave alike from here on: one write transaction at a time among all
processes, readers that see one moment, and errors of ours in place of the drivers'. What is
particular to each is in `twin.historian.sqlite` and `twin.historian.postgres`. No table or query
is named here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakSet

from sqlalchemy import URL, Connection, Engine, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from sqlalchemy.pool import Pool

from twin.errors import DatabaseUnavailable, RecordRefused
from twin.historian import sqlite
from twin.historian.address import Patience, address, shown

_WRITES = "plantwright_writes"
_PATIENCE = Patience()

#: Between two transactions of a long work the write lock rests this long: writers that wait for a
#: file's lock look every 5 ms, and get in.
REST_S = 0.006

#: Stands for bytes that are no text: a damaged text is read with it, and hides no other row.
REPLACED = "\ufffd"


class _Kind(Protocol):
    """What a kind of database must know; the modules `sqlite` and `postgres` are two."""

    MARK: str
    DRIVER_ERROR: type[Exception]

    def connect(self, url: URL, patience: Patience, is_writing: str) -> Engine: ...
    def bounded(self, connection: Connection) -> AbstractContextManager[None]: ...
    def cursor(self, connection: Connection) -> Any: ...
    def is_lost(self, connection: Connection) -> bool: ...
    def is_refusal(self, cause: BaseException | None) -> bool: ...
    def is_wrong_call(self, cause: BaseException | None) -> bool: ...
    def told(self, cause: BaseException | None) -> str: ...
    def remedy(self, cause: BaseException | None) -> str: ...
    def is_there(self, url: URL) -> bool: ...
    def check_place(self, url: URL) -> None: ...
    def size_bytes(self, connection: Connection) -> int: ...
    def settle(self, engine: Engine) -> None: ...


def kind_of(url: URL) -> _Kind:
    """What is particular to the kind of database that an address names.

    Raises:
        DatabaseUnavailable: the driver for PostgreSQL is not installed.
    """
    if url.get_backend_name() == "sqlite":
        return sqlite
    try:
        from twin.historian import postgres  # its driver is not part of every installation
    except ModuleNotFoundError as missing:
        raise DatabaseUnavailable(
            f"{shown(url)}: the driver for PostgreSQL is missing ({missing.name}). "
            "Install plantwright[postgres]."
        ) from None
    return postgres


def connect(url: str | Path | URL, patience: Patience = _PATIENCE) -> Engine:
    """An engine for the database at `url`; nothing is opened yet.

    A forked child makes connections of its own.

    Raises:
        DatabaseUnavailable: the address is no database's.
    """
    where = address(url)
    engine = kind_of(where).connect(where, patience, _WRITES)
    _ENGINES.add(engine)
    return engine


def _leave_to_parent() -> None:
    """In a forked child: the open connections are the parent's, never to be used or closed here."""
    for engine in _ENGINES:
        _OF_PARENT.append(engine.pool)
        engine.dispose(close=False)


_ENGINES: WeakSet[Engine] = WeakSet()
_OF_PARENT: list[Pool] = []
if hasattr(os, "register_at_fork"):  # nothing forks on Windows
    os.register_at_fork(after_in_child=_leave_to_parent)


def upserting(engine: Engine, table: Table) -> postgresql.Insert | sqlite_dialect.Insert:
    """An INSERT that can say what happens where the row is there already."""
    if engine.dialect.name == "sqlite":
        return sqlite_dialect.insert(table)
    return postgresql.insert(table)


def fetch(
    connection: Connection, query: str, parameters: tuple[object, ...]
) -> list[tuple[Any, ...]]:
    """All rows as the driver's own tuples: twice as fast as rows of SQLAlchemy.

    Parameters stand in the query as `?`.
    """
    cursor = driver_cursor(connection)
    try:
        cursor.execute(query.replace("?", kind_of(connection.engine.url).MARK), parameters)
        return [*cursor.fetchall()]
    finally:
        cursor.close()


def change(connection: Connection, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
    """Do a statement once for each row of parameters, which stand in it as `?`; by the driver."""
    cursor = driver_cursor(connection)
    try:
        cursor.executemany(statement.replace("?", kind_of(connection.engine.url).MARK), rows)
    finally:
        cursor.close()


def driver_cursor(connection: Connection) -> Any:
    """A cursor of the driver's own, in the connection's transaction; close it."""
    return kind_of(connection.engine.url).cursor(connection)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that sees one moment of the database and changes nothing.

    Raises:
        DatabaseUnavailable: the database stopped answering.
    """
    with _transaction(engine, is_writing=False) as connection:
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A write transaction: everything inside is stored, or nothing. One at a time.

    Raises:
        DatabaseUnavailable: the write lock stayed taken, or the database stopped answering. Where
            a server was lost while it committed, all of it may be stored: who tries again must
            find it.
        RecordRefused: a rule of the database forbids a row.
    """
    with _transaction(engine, is_writing=True) as connection:
        yield connection


@contextmanager
def _transaction(engine: Engine, *, is_writing: bool) -> Iterator[Connection]:
    kind = kind_of(engine.url)
    with (
        _told_plainly(engine, kind),
        engine.connect().execution_options(**{_WRITES: is_writing}) as connection,
        kind.bounded(connection),
        connection.begin(),
    ):
        try:
            yield connection
        except kind.DRIVER_ERROR:  # of a cursor that SQLAlchemy did not watch
            if kind.is_lost(connection):
                connection.invalidate()
            raise


@contextmanager
def _told_plainly(engine: Engine, kind: _Kind) -> Iterator[None]:
    """Turn the driver's errors into ours."""
    try:
        yield
    except NoConnectionFree as error:
        raise DatabaseUnavailable(
            f"{shown(engine.url)}: all connections are in use. Try again."
        ) from error
    except (DBAPIError, kind.DRIVER_ERROR) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        if kind.is_refusal(cause):
            raise RecordRefused(f"Not stored: {kind.told(cause)}.") from error
        if kind.is_wrong_call(cause):
            raise  # no fault of the database
        raise DatabaseUnavailable(
            f"{shown(engine.url)}: {kind.told(cause)}. {kind.remedy(cause)}"
        ) from error
