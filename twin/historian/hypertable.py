"""Samples as a hypertable of TimescaleDB, compressed after a week.

Chosen where the extension is part of the database when its schema is made (`CREATE EXTENSION
timescaledb` is its administrator's). No TimescaleDB can be had where this is tested: what is sent
is checked to be what is meant, word by word, and has never run against the real one.
"""

from __future__ import annotations

from sqlalchemy import Connection

_OFFERED = (
    "SELECT EXISTS (SELECT 1 FROM pg_available_extensions "
    "WHERE name = 'timescaledb' AND installed_version IS NOT NULL)"
)
#: A chunk a day, as without the extension; of a tag in time order, so that it packs well.
STATEMENTS = (
    "SELECT create_hypertable('sample', by_range('ts', BIGINT '86400000000'), "
    "create_default_indexes => false)",
    "CREATE FUNCTION sample_now() RETURNS bigint LANGUAGE sql STABLE AS "
    "$$ SELECT (extract(epoch FROM now()) * 1000000)::bigint $$",
    "SELECT set_integer_now_func('sample', 'sample_now')",
    "ALTER TABLE sample SET (timescaledb.compress, timescaledb.compress_segmentby = 'tag_id', "
    "timescaledb.compress_orderby = 'ts')",
    "SELECT add_compression_policy('sample', BIGINT '604800000000')",
)


def is_offered(connection: Connection) -> bool:
    """Whether this database has TimescaleDB."""
    if connection.dialect.name != "postgresql":
        return False
    return bool(connection.exec_driver_sql(_OFFERED).scalar())


def make(connection: Connection) -> None:
    """Turn the empty table `sample` into a hypertable."""
    for statement in STATEMENTS:
        connection.exec_driver_sql(statement)


def clear(connection: Connection) -> None:
    """Take away what stays behind when the hypertable is dropped."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("DROP FUNCTION IF EXISTS sample_now()")


def drop_chunks(connection: Connection, before_us: int) -> int:
    """Forget the chunks that end by `before_us`, and return how many."""
    query = f"SELECT count(*) FROM drop_chunks('sample', older_than => BIGINT '{before_us:d}')"
    return int(connection.exec_driver_sql(query).scalar_one())
