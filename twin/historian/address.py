"""Database addresses: which database one names, how it is shown without its secrets, and for how
long it is waited for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from twin.errors import DatabaseUnavailable

_FORMS = "sqlite:///FOLDER/NAME.db or postgresql+psycopg://USER@HOST/NAME"
_HIDDEN = "***"

# How long a writer waits for the others: backfill holds the lock for about 0.1 s at a time. A
# reader of SQLite waits as long for the one process that repairs the log after another was killed.
BUSY_DEADLINE_S = 10.0
# Chosen: the longest question asked in one transaction, an export's chunk, takes a few seconds.
ANSWER_DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited for a database, in seconds.

    `busy_s` while another process writes. `answer_s` for all that a server is asked in one
    transaction, None without end; a file on this machine answers or fails.
    """

    busy_s: float = BUSY_DEADLINE_S
    answer_s: float | None = ANSWER_DEADLINE_S


def address(url: str | Path | URL) -> URL:
    """The database that `url` names: a file path, `sqlite:///path` or `postgresql+psycopg://...`.

    Raises:
        DatabaseUnavailable: the address does not parse or names another kind of database.
    """
    if isinstance(url, Path) or ":" not in str(url):
        return URL.create("sqlite", database=str(url))
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # the second of a port that is no number
        raise DatabaseUnavailable(
            f"{_without_login(str(url))}: not a database address. Write {_FORMS}, or a file name."
        ) from None
    if parsed.get_backend_name() == "postgresql":
        return _postgres(parsed)
    if parsed.get_backend_name() != "sqlite":
        raise DatabaseUnavailable(
            f"{shown(parsed)}: this version stores in SQLite and PostgreSQL only. Write {_FORMS}."
        )
    if not parsed.database or parsed.database == ":memory:":
        raise DatabaseUnavailable(
            f"{url}: a database in memory cannot be shared by several processes. "
            "Write sqlite:///FOLDER/NAME.db."
        )
    return URL.create("sqlite", database=parsed.database)


def shown(url: URL) -> str:
    """The address as it may be printed: a file's path, or a URL without any password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    secrets = {key: _HIDDEN for key in url.query if "password" in key.lower()}
    return url.update_query_dict(secrets).render_as_string(hide_password=True)


def printable(url: str | Path | URL) -> str:
    """An address as a person gave it, but for its secrets."""
    where = address(url)
    return str(url) if where.get_backend_name() == "sqlite" else shown(where)


def _postgres(parsed: URL) -> URL:
    if not parsed.database:
        raise DatabaseUnavailable(
            f"{shown(parsed)}: the address names no database. "
            "Write postgresql+psycopg://USER@HOST/NAME."
        )
    return parsed.set(drivername="postgresql+psycopg")


def _without_login(text: str) -> str:
    """An address that does not parse; a password may stand anywhere before its last @."""
    before, at, after = text.rpartition("@")
    return f"{before.partition('://')[0]}://{_HIDDEN}@{after}" if at else text
