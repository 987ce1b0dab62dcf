"""Bringing a database to this version's schema, and telling which schema one has.

The migrations themselves are Alembic scripts: `alembic/` in a source checkout, packed as
`twin/migrations` in a wheel.
"""

from __future__ import annotations

import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, inspect

import twin
from twin.errors import DatabaseUnavailable, WrongMigration
from twin.historian.address import Patience, address, shown
from twin.historian.database import connect, kind_of, reading, writing

_REMEDY = "Run `plantwright db upgrade PLANT`."
_ELSEWHERE = (
    "Or name the one that is meant: with --database, or its folder with PLANTWRIGHT_STATE_DIR."
)
# Chosen: while another process upgrades it rewrites every reading, some 80,000 a second.
_AS_LONG_AS_IT_TAKES = Patience(busy_s=900.0, answer_s=None)
_NEWER = "Install the version of Plantwright that wrote it, or a newer one."
# Alembic keeps the migration under way in module globals: one at a time per process.
_one_at_a_time = threading.Lock()


def script_folder() -> Path:
    """Where the migration scripts are, in a wheel or in a source checkout."""
    package = Path(twin.__file__).parent
    for folder in (package / "migrations", package.parent / "alembic"):
        # In site-packages, `alembic` beside us is the library: it has no env.py.
        if (folder / "env.py").is_file():
            return folder
    raise DatabaseUnavailable(
        f"{package}: the migration scripts are missing. Install plantwright again."
    )


def head_revision() -> str:
    """The revision this version of Plantwright works with."""
    head = ScriptDirectory(str(script_folder())).get_current_head()
    assert head is not None, "the first migration is part of every installation"
    return head


def current_revision(url: str | Path | URL) -> str | None:
    """The revision of the database at `url`; None where there is no file or no schema yet.

    Raises:
        DatabaseUnavailable: it cannot be read, or is no database.
    """
    where = address(url)
    if not kind_of(where).is_there(where):
        return None
    engine = connect(where)
    try:
        with reading(engine) as connection:
            return _revision(connection)
    finally:
        engine.dispose()


def check_revision(engine: Engine) -> None:
    """Refuse a database at another schema than this version's.

    Raises:
        WrongMigration: with both revisions and what to do.
    """
    is_there, head = kind_of(engine.url).is_there(engine.url), head_revision()
    revision = None
    if is_there:
        with reading(engine) as connection:
            revision = _revision(connection)
    if revision == head:
        return
    if revision is None:
        stands = "has no schema yet" if is_there else "does not exist yet"
        remedy = f"{_REMEDY} {_ELSEWHERE}"
    else:
        stands = f"is at revision {revision}"
        remedy = _REMEDY if _is_known(revision) else _NEWER
    raise WrongMigration(
        f"{_name(engine)}: the database {stands}; revision {head} is needed. {remedy}"
    )


def upgrade(url: str | Path | URL, revision: str = "head") -> str:
    """Create the database if need be, bring it to `revision`, and say where it stands now.

    One transaction: a process that dies leaves the old schema whole, and a second process that
    upgrades at the same time waits for it (a quarter of an hour at most) and finds the work done.

    Raises:
        DatabaseUnavailable: it cannot be opened or written, or holds something else.
        WrongMigration: a newer version of Plantwright wrote it.
    """
    where = address(url)
    kind_of(where).check_place(where)
    engine = connect(where, _AS_LONG_AS_IT_TAKES)
    try:
        with _one_at_a_time, writing(engine) as connection:
            _check_upgradable(connection)
            command.upgrade(_config(connection), revision)
            reached = _revision(connection)
        kind_of(where).settle(engine)
    finally:
        engine.dispose()
    assert reached is not None
    return reached


def downgrade(url: str | Path | URL, revision: str) -> None:
    """Take the schema back to `revision` ("base": nothing left). What it held is lost."""
    engine = connect(url, _AS_LONG_AS_IT_TAKES)
    try:
        with _one_at_a_time, writing(engine) as connection:
            command.downgrade(_config(connection), revision)
    finally:
        engine.dispose()


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _is_known(revision: str) -> bool:
    scripts = ScriptDirectory(str(script_folder())).walk_revisions()
    return revision in {script.revision for script in scripts}


def _name(engine: Engine) -> str:
    """The database's address; a file's in full."""
    where = shown(engine.url)
    return str(Path(where).absolute()) if engine.dialect.name == "sqlite" else where


def _check_upgradable(connection: Connection) -> None:
    where = shown(connection.engine.url)
    revision = _revision(connection)
    if revision is None and set(inspect(connection).get_table_names()) - {"alembic_version"}:
        raise DatabaseUnavailable(
            f"{where}: this database belongs to another program. Name another one."
        )
    if revision is not None and not _is_known(revision):
        raise WrongMigration(
            f"{where}: the database is at revision {revision}, which this version does not know; "
            f"it works with {head_revision()}. {_NEWER}"
        )


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(script_folder()).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
