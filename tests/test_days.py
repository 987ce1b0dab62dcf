"""PostgreSQL keeps each day of samples apart, and no row is ever in the wrong place or lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from each_database import Server, raw_postgres, seen_by_hand
from small_plant import LEVEL, NOON, PUMP, at, level, small_plant
from sqlalchemy import URL, create_engine

from twin.historian import AnnotationKind, Historian, Keep, days, hypertable
from twin.historian.database import connect, writing
from twin.historian.schema import microseconds

PLANT = small_plant()
DAY_S = 86_400


@pytest.fixture
def historian(database: URL) -> Iterator[Historian]:
    with Historian.create(database) as opened:
        opened.register(PLANT)
        yield opened


def parts(historian: Historian) -> dict[str, int]:
    """How many rows each part of the samples' table has."""
    query = "SELECT tableoid::regclass::text, count(*) FROM sample GROUP BY 1"
    return dict(seen_by_hand(historian.url, query))


def made(historian: Historian) -> list[str]:
    """The days that are kept apart."""
    query = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'sample'::regclass"
    names = [name for (name,) in seen_by_hand(historian.url, query)]
    return sorted(name for name in names if name != "sample_default")


on_server = pytest.mark.parametrize(
    "database", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)


@on_server
def test_a_day_is_made_before_it_begins(historian: Historian) -> None:
    """Live readings of a day make it and the next one; they never wait in the default part."""
    historian.store([level(0, 1.0)])
    assert made(historian) == ["sample_20260105", "sample_20260106"]
    historian.store([level(DAY_S, 2.0)])
    assert made(historian)[-1] == "sample_20260107"
    assert parts(historian) == {"sample_20260105": 1, "sample_20260106": 1}


@on_server
def test_a_wrong_stamp_makes_no_day(historian: Historian) -> None:
    """One reading of 1970 or 2060 waits in the default part, and is found there."""
    wrong = [level(-56 * 365 * DAY_S, 1.0), level(34 * 365 * DAY_S, 2.0)]
    late = [each.__class__(LEVEL, each.value, 0, each.source_time, at(0)) for each in wrong]
    historian.store([level(0, 3.0), *late])
    assert made(historian) == ["sample_20260105", "sample_20260106"]
    assert parts(historian) == {"sample_default": 2, "sample_20260105": 1}
    assert historian.count(PLANT) == 3
    assert historian.facts().oldest == wrong[0].source_time
    assert historian.last_readings(PLANT, at=at(-1))[LEVEL].value == 1.0


@on_server
def test_what_waited_moves_when_its_day_is_made(historian: Historian) -> None:
    """Late readings came first, the record of that day afterwards: each is there once."""
    early = level(-7 * DAY_S, 1.0)
    late = early.__class__(LEVEL, 1.0, 0, early.source_time, at(0))
    historian.store([late])
    assert parts(historian) == {"sample_default": 1}
    record = [level(-7 * DAY_S + s, float(s), tag=t) for s in range(100) for t in (LEVEL, PUMP)]
    assert historian.store(record) == 199
    assert parts(historian) == {"sample_20251229": 200}
    found = historian.samples(PLANT, [LEVEL], at(-7 * DAY_S), at(-7 * DAY_S + 99))[LEVEL]
    assert found.values.tolist() == [1.0, *map(float, range(1, 100))]


@on_server
def test_two_processes_that_meet_a_new_day_make_it_once(historian: Historian) -> None:
    """Each believes the day to be missing; both get their readings in."""
    with Historian.open(historian.url) as second:
        second.register(PLANT)
        assert historian.store([level(0, 1.0)]) == 1
        assert second.store([level(1, 2.0)]) == 1
    assert parts(historian) == {"sample_20260105": 2}


@on_server
def test_a_backup_in_the_way_of_a_new_day_refuses_no_reading(historian: Historian) -> None:
    """While it reads all tables, what has no day waits in the default part; later it moves."""
    historian.store([level(0, 1.0)])
    with raw_postgres(historian.url) as backup, backup.transaction():
        for part in ("sample", "sample_default", *made(historian)):
            backup.execute(f"LOCK TABLE ONLY {part} IN ACCESS SHARE MODE")  # as pg_dump does
        assert historian.store([level(2 * DAY_S, 2.0), level(2 * DAY_S + 1, 2.5)]) == 2
        assert historian.last_readings(PLANT)[LEVEL].value == 2.5
        assert parts(historian) == {"sample_20260105": 1, "sample_default": 2}
    with Historian.open(historian.url) as another:
        another.store([level(2 * DAY_S + 2, 3.0)], PLANT)
    assert parts(historian) == {"sample_20260105": 1, "sample_20260107": 3}


@on_server
def test_a_day_of_which_very_much_waits_stays_where_it_is(
    historian: Historian, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moving it would hold up everybody; the days around it are made, and nothing is lost."""
    monkeypatch.setattr(days, "_MOST_WAITING", 2)
    late = [level(s, 1.0).__class__(LEVEL, 1.0, 0, at(s), at(2 * DAY_S)) for s in range(3)]
    historian.store(late)
    historian.store([level(3, 2.0)])
    assert made(historian) == ["sample_20260106"]
    assert parts(historian) == {"sample_default": 4}


@on_server
def test_whole_days_are_forgotten_at_once(historian: Historian) -> None:
    """Those that ended by then; what comes of a forgotten day afterwards is kept all the same."""
    for day in range(4):
        historian.store([level(day * DAY_S, float(day))])
    until = microseconds(NOON) + 2 * days.DAY_US
    with writing(connect(historian.url)) as connection:
        assert days.drop_days(connection, until, lambda _start, _end: []) == 2
    assert [each.value for each in historian.readings(PLANT, [LEVEL], at(-1), at(9e5))] == [2, 3]
    assert historian.store([level(5, 9.0)]) == 1
    assert historian.facts().oldest == at(5)


@on_server
def test_neither_a_kept_period_nor_an_idle_plant_keeps_other_days(historian: Historian) -> None:
    """Only the days stay that have something to keep, of the plant that keeps it."""
    idle, never_kept_up = small_plant("idle"), small_plant("trial")
    for plant in (idle, never_kept_up):
        historian.register(plant)
    historian.store([level(DAY_S, 1.0)], never_kept_up)
    for day in range(8):
        historian.store([level(day * DAY_S + 600 * i, 1.0) for i in range(3)], PLANT)
    told = {"by": "Ada", "reason": "a test", "at": NOON}
    historian.annotate(PLANT, AnnotationKind.TEST, at(3 * DAY_S), at(3 * DAY_S + 60), **told)
    for _ in range(3):
        historian.maintain(at(7 * DAY_S + 3600), PLANT, Keep(raw_days=2.0))
    assert made(historian)[:2] == ["sample_20260106", "sample_20260108"]
    assert made(historian)[2:] == [f"sample_202601{day}" for day in (10, 11, 12, 13)]
    assert len(historian.readings(PLANT, [LEVEL], at(0), at(4 * DAY_S))) == 1


@on_server
def test_a_plant_that_nobody_keeps_up_holds_no_others_days(historian: Historian) -> None:
    """Its rollups stay due for ever: the days of its own readings wait for them, others go."""
    left = small_plant("left")
    historian.register(left)
    historian.store([level(DAY_S, 1.0), level(2 * DAY_S, 1.0)], left)
    historian.maintain(at(2 * DAY_S + 300), left)
    historian.store([level(DAY_S + 60, 2.0)], left)  # late, and nobody rolls it up any more
    for day in range(6):
        historian.store([level(day * DAY_S + 600, 1.0)], PLANT)
    for _ in range(3):
        historian.maintain(at(5 * DAY_S + 3600), PLANT, Keep(raw_days=1.0))
    assert made(historian) == [f"sample_202601{day:02}" for day in (6, 7, 9, 10, 11)]
    assert historian.count(left) == 3


@on_server
def test_a_record_of_years_leaves_room_for_the_days_to_come(
    historian: Historian, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond so many days each part is what is left of a month; all of it, and nothing waits."""
    monkeypatch.setattr(days, "_MOST_DAYS", 2)
    for day in (*range(40), -3):
        historian.store([level(day * DAY_S, float(day))])
    assert made(historian) == [
        "sample_20260101_20260104", "sample_20260105", "sample_20260106",
        "sample_20260107_20260131", "sample_20260201_20260228",
    ]  # fmt: skip
    assert "sample_default" not in parts(historian)
    assert historian.facts().oldest == at(-3 * DAY_S)
    found = historian.samples(PLANT, [LEVEL], at(-9 * DAY_S), at(99 * DAY_S))[LEVEL]
    assert found.values.tolist() == [-3.0, *range(40)]
    with writing(connect(historian.url)) as connection:
        until = microseconds(at(28 * DAY_S))  # the 2nd of February
        assert days.drop_days(connection, until, lambda _start, _end: []) == 4
    assert made(historian) == ["sample_20260201_20260228"]
    assert historian.facts().oldest == at(27 * DAY_S)


@on_server
def test_no_more_parts_are_made_than_a_question_can_lock(
    historian: Historian, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound, readings wait in the default part; nothing is lost."""
    monkeypatch.setattr(days, "_MOST_PARTS", 2)
    historian.store(level(day * DAY_S, float(day)) for day in range(6))
    assert len(made(historian)) == 2
    assert historian.count(PLANT) == 6


def test_facts_are_the_same_wherever_rows_lie(historian: Historian) -> None:
    """Oldest, newest and how many, over days and plants."""
    historian.store([level(0, 1.0), level(3 * DAY_S, 2.0, tag=PUMP), level(-DAY_S, 0.5)])
    facts = historian.facts()
    assert (facts.rows, facts.oldest, facts.newest) == (3, at(-DAY_S), at(3 * DAY_S))


def test_a_moment_long_after_the_last_reading_still_finds_it(historian: Historian) -> None:
    """The newest not after a moment, also where it lies weeks before and newer ones exist."""
    historian.store([level(-40 * DAY_S, 1.0), level(0, 2.0), level(-40 * DAY_S, 7.0, tag=PUMP)])
    asked = historian.last_readings(PLANT, at=at(-10))
    assert {tag: each.value for tag, each in asked.items()} == {LEVEL: 1.0, PUMP: 7.0}


def test_no_days_are_kept_apart_in_a_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    """SQLite has one table; a hypertable is asked for nowhere but on a server."""
    engine = create_engine(f"sqlite:///{tmp_path_factory.mktemp('none')}/x.db")
    with engine.connect() as connection:
        assert not days.has_days(connection)
        assert not hypertable.is_offered(connection)


@pytest.mark.postgres
def test_a_server_without_timescaledb_is_not_asked_for_it(postgres: Server) -> None:
    """The extension must be part of the database; the server of these tests has none."""
    engine = create_engine(postgres.url)
    with engine.connect() as connection:
        assert not hypertable.is_offered(connection)
    engine.dispose()


def test_what_is_sent_to_timescaledb_is_what_we_mean() -> None:
    """A chunk a day, no second index, microseconds as time, packed by tag after a week."""
    made_of, now, told_now, packed, policy = hypertable.STATEMENTS
    assert "create_hypertable('sample'" in made_of
    assert f"by_range('ts', BIGINT '{days.DAY_US}')" in made_of
    assert "create_default_indexes => false" in made_of
    assert "* 1000000)::bigint" in now
    assert told_now == "SELECT set_integer_now_func('sample', 'sample_now')"
    assert "timescaledb.compress_segmentby = 'tag_id'" in packed
    assert "timescaledb.compress_orderby = 'ts'" in packed
    assert policy == f"SELECT add_compression_policy('sample', BIGINT '{7 * days.DAY_US}')"
