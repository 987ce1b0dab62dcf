"""A database server that is away, killed, read-only, slow or hung: told, survived, nothing torn."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
from each_database import Fragile, is_writing, raw_postgres, seen_by_hand
from small_plant import LEVEL, NOON, PUMP, at, level, small_plant
from sqlalchemy import URL

from twin.errors import DatabaseUnavailable, RecordRefused
from twin.historian import Historian, printable

pytestmark = pytest.mark.postgres

PLANT = small_plant()
ROWS = 40_000


@pytest.fixture
def url(fragile: Fragile) -> Iterator[URL]:
    made = fragile.database("with_schema")
    yield made
    fragile.start()
    fragile.drop(made)


@pytest.fixture
def historian(url: URL) -> Iterator[Historian]:
    with Historian.open(url) as opened:
        opened.register(PLANT)
        opened.store([level(-1, 0.5)])
        yield opened


def record() -> list[object]:
    return [level(s, float(s), tag=t) for s in range(ROWS // 2) for t in (LEVEL, PUMP)]


def until(is_so: Callable[[], bool], what: str) -> None:
    give_up_at = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < give_up_at, what
        time.sleep(0.001)


def is_whole(historian: Historian) -> None:
    """Last values are what is stored, and storing everything again makes it complete."""
    for tag, last in historian.last_readings(PLANT).items():
        series = historian.samples(PLANT, [tag], at(-10), at(ROWS))[tag]
        assert last.source_time.timestamp() == series.times_s[-1]
    there = historian.count(PLANT)
    assert historian.store(record(), PLANT) == ROWS + 1 - there  # type: ignore[arg-type]  # readings
    assert historian.count(PLANT) == ROWS + 1


def test_a_server_that_is_away_is_told_and_missed_no_longer_than_that(
    historian: Historian, fragile: Fragile
) -> None:
    """Reading, writing and opening say what to do; when it is back, the same object works."""
    fragile.stop()
    for ask in (
        lambda: historian.count(PLANT),
        lambda: historian.store([level(0, 1.0)]),
        lambda: historian.event(PLANT, "note", "x", "y", NOON, "test"),
        lambda: Historian.open(historian.url),
        lambda: Historian.create(historian.url),
    ):
        with pytest.raises(DatabaseUnavailable, match=r"Check that the server runs") as told:
            ask()
        assert "\n" not in str(told.value)
    fragile.start()
    assert historian.store([level(0, 1.0)]) == 1
    assert historian.count(PLANT) == 2
    assert historian.events(PLANT) == []


def test_a_server_that_was_restarted_in_between_is_not_even_noticed(
    historian: Historian, fragile: Fragile
) -> None:
    """A connection that died while nobody asked is not used again."""
    fragile.stop()
    fragile.start()
    assert historian.count(PLANT) == 1


def test_killed_while_storing_nothing_is_torn(historian: Historian, fragile: Fragile) -> None:
    """kill -9 of the whole server inside a transaction: told at once, and whole afterwards."""
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(historian.store, record())
        until(lambda: is_writing(historian.url), "it stores")
        fragile.kill()
        with pytest.raises(DatabaseUnavailable, match="Check that the server runs"):
            job.result(60)
    fragile.start()
    is_whole(historian)


def test_a_connection_cut_at_any_moment_of_storing_tears_nothing(historian: Historian) -> None:
    """Also during the commit: a batch is there or it is not, and storing again completes it."""
    query = f"datname = '{historian.url.database}' AND pid <> pg_backend_pid()"
    cut = f"SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity WHERE {query}"
    hurt = 0
    batch = [level(s, float(s)) for s in range(10_000)]
    with raw_postgres(historian.url) as other, ThreadPoolExecutor(1) as pool:
        for k in range(12):
            plant = small_plant(f"plant_{k}")
            historian.register(plant)
            job = pool.submit(historian.store, batch, plant)
            until(lambda: is_writing(historian.url) or job.done(), "it stores")  # noqa: B023  awaited here
            threading.Event().wait(0.002 * k)  # later into the transaction each time
            other.execute(cut)
            try:
                job.result(60)
            except DatabaseUnavailable:
                hurt += 1
            there = historian.count(plant)
            assert there in (0, len(batch))
            assert historian.store(batch, plant) == len(batch) - there
            assert historian.last_readings(plant)[LEVEL] == batch[-1]
    assert hurt > 0, "at least one was cut in time"


def test_a_database_that_is_read_only_says_so(historian: Historian) -> None:
    """Reading goes on; writing is refused with what to do, until it is allowed again."""
    name = historian.url.database
    with raw_postgres(historian.url) as other:
        other.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with Historian.open(historian.url) as second:
        assert second.count(PLANT) == 1
        with pytest.raises(DatabaseUnavailable, match=r"read-only.*name the primary server"):
            second.store([level(0, 1.0)], PLANT)
        assert second.count(PLANT) == 1


@contextmanager
def stopped(url: URL) -> Iterator[None]:
    """The server's processes of this database stand still."""
    query = f"SELECT pid FROM pg_stat_activity WHERE datname = '{url.database}'"
    pids = [pid for (pid,) in seen_by_hand(url.set(database="postgres"), query)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_a_server_that_hangs_is_given_up(url: URL) -> None:
    """The network stands and nobody answers: an error after the deadline, never a wait for ever."""
    with Historian.open(url, answer_deadline_s=1.0) as historian:
        historian.register(PLANT)
        with stopped(url), pytest.raises(DatabaseUnavailable, match="no answer within 1 s"):
            historian.store([level(0, 1.0)])
        assert historian.count(PLANT) == 0
        historian.store([level(0, 1.0)])
        assert historian.last_readings(PLANT)[LEVEL] == level(0, 1.0)


def test_a_slow_answer_is_ended_by_the_server_itself(url: URL) -> None:
    """Somebody holds a table: the statement ends, with whom to look for; then it works."""
    with Historian.open(url, answer_deadline_s=0.5) as historian:
        with raw_postgres(url) as other, other.transaction():
            other.execute("LOCK TABLE event IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(DatabaseUnavailable, match=r"timeout.*slow or locked"):
                historian.event(PLANT, "note", "x", "y", NOON, "test")
        historian.event(PLANT, "note", "x", "y", NOON, "test")
        assert len(historian.events(PLANT)) == 1


def test_a_full_disk_says_which_disk() -> None:
    """No test fills a server's disk; what its error becomes is known."""
    from twin.historian import postgres

    assert postgres.remedy(psycopg.errors.DiskFull()) == "Free space on the server's disk."


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"database": "nowhere"}, r'database "nowhere" does not exist.*Create it first'),
        ({"username": "nobody", "password": "secret"}, r'role "nobody" does not exist.*Check user'),
    ],
)
def test_what_cannot_be_opened_on_a_server_says_why(
    fragile: Fragile, changed: dict[str, str], told: str
) -> None:
    """The cause and what to do, and never the password."""
    with pytest.raises(DatabaseUnavailable, match=told) as caught:
        Historian.create(fragile.url.set(**changed))
    assert "secret" not in str(caught.value)


def test_a_text_that_postgres_cannot_keep_is_refused_and_not_awaited(historian: Historian) -> None:
    """A zero byte in a message: trying again would never help."""
    with pytest.raises(RecordRefused, match="NUL"):
        historian.event(PLANT, "note", "x", "a\x00b", NOON, "test")


def test_secrets_are_not_shown() -> None:
    """Wherever an address may carry one."""
    for url in (
        "postgresql+psycopg://me:secret@host/db",
        "postgresql://host/db?user=me&password=secret",
        "postgresql://me@host/db?sslpassword=secret&sslmode=require",
    ):
        assert "secret" not in printable(url)
        assert "host/db" in printable(url)
