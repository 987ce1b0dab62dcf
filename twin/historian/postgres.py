"""What is particular to PostgreSQL: its connections, its write lock, its faults.

What holds on SQLite holds here: one write transaction at a time (an advisory lock, granted in
the order asked), and a reader that sees one moment. A server that is away, slow or hung ends a
transaction with an error within a deadline; a dead connection is never used twice. No table or
query is named here, but for the size of them all.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import IsolationLevel
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, DisconnectionError

from twin.errors import DatabaseUnavailable
from twin.historian.address import Patience, shown

#: How this driver marks a parameter in a statement.
MARK = "%s"
DRIVER_ERROR: type[Exception] = psycopg.Error

# Chosen: "plantwri" as a number; any that no other program takes for a lock of its own.
_WRITE_LOCK = int.from_bytes(b"plantwri", "big")
_CONNECT_S = 10
# A network that is gone is noticed after 10 + 3 × 5 s of silence, at both ends.
_SILENCE = {"idle": 10, "interval": 5, "count": 3}
_SILENCE_S = 25
# A writer that vanished may hold the write lock no longer than this.
_IDLE_WRITER_MS = 60_000
_ANSWER = "plantwright_answer_s"

_AWAY = "Check that the server runs and can be reached."
_SLOW = "It is slow or locked: check its load, its disk and who holds its locks."
_REMEDIES = {
    "08": _AWAY,
    "25006": "It is read only, or a standby: name the primary server, or allow writing.",
    "28": "Check user and password (PGPASSFILE or PGPASSWORD keep it out of sight).",
    "3D000": "Create it first, for example with `createdb`.",
    "42501": "Let its owner grant this user the rights, or connect as the owner.",
    "42P01": "A table is missing: restore it from a backup.",
    "53100": "Free space on the server's disk.",
    "53200": "The server is out of memory: free some, or raise its limits.",
    "53300": "Raise the server's max_connections, or end connections nobody needs.",
    "55P03": "Another process holds it; find and end that process, then try again.",
    "57014": _SLOW,
    "57P": _AWAY,
    "58": "Check the server's disk.",
    "XX": "Check the server's log; restore from a backup if data is damaged.",
}


def connect(url: URL, patience: Patience, is_writing: str) -> Engine:
    """An engine for the server; nothing is opened yet. Option `is_writing` marks a writer."""
    ours = {
        "connect_timeout": str(round(max(2, min(_CONNECT_S, patience.answer_s or _CONNECT_S)))),
        "application_name": "plantwright",
        "tcp_user_timeout": str(1000 * _SILENCE_S),
        **{f"keepalives_{name}": str(value) for name, value in _SILENCE.items()},
        **url.query,  # what stands in the address counts
    }
    ours["options"] = f"{_settings(patience)} {url.query.get('options', '')}".rstrip()
    engine = create_engine(
        url,
        connect_args=ours,
        execution_options={_ANSWER: patience.answer_s},
        pool_timeout=patience.busy_s,
    )

    @event.listens_for(engine, "checkout")
    def _check(connection: psycopg.Connection[Any], _record: object, _proxy: object) -> None:
        if _has_ended(connection):
            raise DisconnectionError("the server has closed the connection")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        raw = _raw(connection)
        is_write = bool(connection.get_execution_options().get(is_writing, False))
        raw.read_only = None if is_write else True  # None: as the database is set
        raw.isolation_level = (
            IsolationLevel.READ_COMMITTED if is_write else IsolationLevel.REPEATABLE_READ
        )
        if is_write:
            raw.execute("SELECT pg_advisory_xact_lock(%s)", (_WRITE_LOCK,))

    return engine


def _settings(patience: Patience) -> str:
    """How the server treats our sessions."""
    settings = {
        "lock_timeout": round(1000 * patience.busy_s),
        # A little less than ours: then it is the server that says what was too slow.
        "statement_timeout": round(900 * (patience.answer_s or 0)),
        "idle_in_transaction_session_timeout": _IDLE_WRITER_MS,
        "client_min_messages": "warning",
        "timezone": "UTC",
        "jit": "off",  # compiling a query over many days takes longer than answering it
        **{f"tcp_keepalives_{name}": value for name, value in _SILENCE.items()},
    }
    return " ".join(f"-c {name}={value}" for name, value in settings.items())


@contextmanager
def bounded(connection: Connection) -> Iterator[None]:
    """Cut the connection when what is done in here takes too long: nobody waits for ever.

    Raises:
        DatabaseUnavailable: it did.
    """
    answer_s = connection.get_execution_options().get(_ANSWER)
    if answer_s is None:
        yield
        return
    raw = _raw(connection)
    is_over = threading.Event()

    def hang_up() -> None:
        is_over.set()
        # Closing it would leave the waiting thread waiting; this wakes it.
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(raw.fileno())) as wire:
            wire.shutdown(socket.SHUT_RDWR)

    watch = threading.Timer(answer_s, hang_up)
    watch.daemon = True
    watch.start()
    try:
        yield
    except (psycopg.Error, DBAPIError) as error:
        if not is_over.is_set():
            raise
        name = shown(connection.engine.url)
        raise DatabaseUnavailable(f"{name}: no answer within {answer_s:g} s. {_SLOW}") from error
    finally:
        watch.cancel()


def cursor(connection: Connection) -> psycopg.Cursor[Any]:
    """A cursor of the driver's own, for many rows."""
    return _raw(connection).cursor(binary=True)


def is_lost(connection: Connection) -> bool:
    """Whether the connection cannot be used any more."""
    return _raw(connection).closed


def is_refusal(cause: BaseException | None) -> bool:
    """Whether a rule of the database forbids a row."""
    return isinstance(cause, psycopg.IntegrityError | psycopg.DataError)


def is_wrong_call(cause: BaseException | None) -> bool:
    """Whether we asked wrongly: no fault of the database."""
    if not isinstance(cause, psycopg.ProgrammingError):
        return False
    return _remedy_of(cause.sqlstate) is None


def told(cause: BaseException | None) -> str:
    """What the server or the driver says happened, on one line."""
    text = cause.diag.message_primary if isinstance(cause, psycopg.Error) else None
    return " ".join((text or str(cause)).split()).rstrip(".")


def remedy(cause: BaseException | None) -> str:
    """What a person can do about it."""
    state = cause.sqlstate if isinstance(cause, psycopg.Error) else None
    # Without a code, nobody answered or somebody hung up, or it is said in words only.
    words = str(cause)
    for word, known in (("password", "28"), ("role ", "28"), ("does not exist", "3D000")):
        if state is None and word in words:
            state = known
            break
    return _remedy_of(state) or _AWAY


def is_there(url: URL) -> bool:
    """Whether a database may be there: connecting tells."""
    return True


def check_place(url: URL) -> None:
    """Nothing to refuse before connecting."""


def size_bytes(connection: Connection) -> int:
    """What the tables of this database take, with their indexes."""
    query = (
        "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' "
        "AND relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)"
    )
    return int(connection.exec_driver_sql(query).scalar_one() or 0)


def settle(engine: Engine) -> None:
    """Nothing to settle after an upgrade."""


def _remedy_of(state: str | None) -> str | None:
    found = [text for code, text in _REMEDIES.items() if (state or "-").startswith(code)]
    return found[0] if found else None


def _raw(connection: Connection) -> psycopg.Connection[Any]:
    raw = connection.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    return raw


def _has_ended(connection: psycopg.Connection[Any]) -> bool:
    """Whether the other side has hung up since: something is there to read that nobody asked for.

    Asking the server instead would cost a round trip each time, and hang where the server does.
    """
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))
