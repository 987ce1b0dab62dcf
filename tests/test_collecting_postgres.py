"""A database server under a collector: killed while it stores, away, and read-only for a while."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from collected import collecting, is_filled
from counted_source import CountingSource, counting_plant
from each_database import Fragile, is_writing, seen_by_hand
from one_tank import until
from sqlalchemy import URL
from test_collecting_faults import are_all

from connectors.buffering import Buffering
from twin.historian import Historian

pytestmark = pytest.mark.postgres

KILLS = 3
COMMIT_US = 100_000  # so long the server waits in every commit, for others to share its sync


def is_committing(url: URL) -> bool:
    """Whether somebody is inside a commit now."""
    query = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query ILIKE 'commit%'"
    return bool(seen_by_hand(url, f"{query} AND datname = '{url.database}'"))


def set_read_only(server: Fragile, url: URL, to: str) -> None:
    """As a standby is after a failover, or a primary that is being moved: at once for everybody."""
    server.run(f"ALTER DATABASE {url.database} SET default_transaction_read_only = {to}")
    query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname"
    server.run(f"{query} = '{url.database}'")


def test_a_database_server_that_is_killed_or_read_only_costs_nothing(
    fragile: Fragile, tmp_path: Path
) -> None:
    """kill -9 as it stores and as it commits, then read-only: each number is stored once."""
    url = fragile.database("with_schema")
    fragile.run(f"ALTER SYSTEM SET commit_delay = {COMMIT_US}")
    fragile.run("ALTER SYSTEM SET commit_siblings = 0")
    fragile.run("SELECT pg_reload_conf()")
    source = CountingSource(counting_plant(50), time.monotonic(), 0.01)
    options = {"connect": source.connect(), "buffering": Buffering(spool=tmp_path / "spool")}

    async def story() -> None:
        with Historian.open(url) as historian:
            async with collecting(source.plant, historian, **options) as told:
                for is_hit in (is_writing, *[is_committing] * (KILLS - 1)):
                    stored = told[-1].stored
                    await until(lambda n=stored: told[-1].stored > n, "readings", 60)  # type: ignore[misc]  # bound now
                    await until(lambda hit=is_hit: hit(url), "a write", 60)  # type: ignore[misc]  # bound now
                    await asyncio.to_thread(fragile.kill)
                    await until(lambda: told[-1].database_trouble != "", "it to be told", 60)
                    await until(lambda: told[-1].spool.rows > 0, "readings in the spool", 60)
                    await asyncio.to_thread(fragile.start)
                    await until(lambda: told[-1].database_trouble == "", "the server", 60)
                set_read_only(fragile, url, "on")
                await until(lambda: "read-only" in told[-1].database_trouble, "it to be told", 60)
                assert told[-1].spool.losing == ""
                set_read_only(fragile, url, "off")
                await until(lambda: told[-1].database_trouble == "", "to write again", 60)
                source.last = source.number
                await until(lambda: are_all(historian, source), "every number", 60)
                await until(lambda: is_filled(historian, source.plant), "the past", 60)
            assert told[-1].spool.quarantined_rows == 0
            messages = [each.message for each in historian.events(source.plant, kind="database")]
            assert messages.count("back") == len(messages) / 2 >= KILLS

    try:
        asyncio.run(story())
    finally:
        fragile.start()
        fragile.drop(url)
