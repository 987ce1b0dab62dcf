"""A database is at this version's schema, or the user is told exactly what to do."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from each_database import REFUSED, Server, by_hand, is_sqlite, is_writing, seen_by_hand
from small_plant import LEVEL, level, small_plant
from sqlalchemy import URL

from twin.errors import DatabaseUnavailable, WrongMigration
from twin.historian import (
    Gap,
    Historian,
    current_revision,
    downgrade,
    head_revision,
    migrations,
    upgrade,
)
from twin.historian.database import connect
from twin.historian.schema import METADATA, moment
from twin.records import BAD, GOOD, ProposalStatus, Reading


def names(url: URL) -> set[str]:
    """Every table, index, trigger and function that somebody made."""
    if is_sqlite(url):
        return {row[0] for row in seen_by_hand(url, "SELECT name FROM sqlite_master")}
    ours = "namespace = 'public'::regnamespace"
    found = seen_by_hand(
        url,
        f"SELECT relname FROM pg_class WHERE rel{ours} UNION ALL "
        f"SELECT proname FROM pg_proc WHERE pro{ours} UNION ALL "
        "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal",
    )
    return {row[0] for row in found}


def test_migrated_schema_is_the_one_in_the_code(database: URL) -> None:
    """`alembic check` finds no difference between the migrations' result and `schema.METADATA`."""
    with Historian.create(database) as historian:
        historian.register(small_plant())
        historian.store([level(0, 1.0)])  # in a part of its own, where there are parts
    config = Config()
    config.set_main_option("script_location", str(migrations.script_folder()))
    engine = connect(database)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.check(config)
    engine.dispose()


def test_a_schema_that_differs_is_found(database: URL) -> None:
    """The check above can fail: a missing index, and a table that nobody knows."""
    upgrade(database)
    by_hand(database, "DROP INDEX ix_event_plant_kind", "CREATE TABLE samples_too (id INTEGER)")
    engine = connect(database)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        found = {difference[0] for difference in compare_metadata(context, METADATA)}
        assert {"add_index", "remove_table"} <= found
    engine.dispose()


def test_sqlite_tables_are_strict_and_samples_have_no_rowid(tmp_path: Path) -> None:
    """Text in a number's column is refused; the file stays at about 35 bytes a sample."""
    path = tmp_path / "h.db"
    upgrade(path)
    with closing(sqlite3.connect(path)) as connection:
        listed = connection.execute("SELECT name, wr, strict FROM pragma_table_list").fetchall()
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    ours = {name: (wr, strict) for name, wr, strict in listed if name in METADATA.tables}
    assert ours.keys() == METADATA.tables.keys()
    assert all(strict for _, strict in ours.values())
    clustered = {name for name, (wr, _) in ours.items() if wr}
    assert clustered == {"sample", "rollup_1m", "rollup_1h", "rollup_due"}


def test_up_down_and_up_again(bare_database: URL) -> None:
    """Down to nothing takes everything away; up again builds a working historian."""
    path = bare_database
    assert current_revision(path) is None
    assert upgrade(path) == head_revision() == current_revision(path)
    downgrade(path, "base")
    assert current_revision(path) is None
    assert all("alembic_version" in name for name in names(path))
    with Historian.create(path) as historian:
        historian.register(small_plant())
        assert historian.store([level(0, 1.0)]) == 1


OLD_PLAN = (
    '{"status":"solved","reason":"in 12 iterations – done","start":"2026-01-05T12:00:00+00:00",\
"step_s":60.0,"moves":{"pump.setpoint":[5.125,null]},"predicted":{},"cost_per_h":0.3,\
"hold_cost_per_h":null,"binding":["tank.level low"],"solve_ms":12.5}'
)
OLD_FORECAST = '{"start":"2026-01-05T12:00:00+00:00","step_s":60.0,"model":"physics",\
"replications":50,"seed":7,"middle":{"tank.level":[1.0,2.0]},"low":{"tank.level":[0.5,null]},\
"high":{"tank.level":[1.5,2.5]},"cost_per_h":0.25}'


def stored_at_first(path: URL) -> None:
    """A database at the first revision with an accepted proposal and one without a forecast."""
    upgrade(path, "0001")
    verdict = (
        '{"is_clear":true,"reasons":[],"checked_at":"2026-01-05T12:00:00+00:00","setpoints":{}}'
    )
    proposals = [
        f"INSERT INTO proposal VALUES ('{name}', 'small', 0, 1, 2, 'open', '', 0, 'why', 0.7, "
        f"'physics', '{{}}', '{{}}', '[]', '{OLD_PLAN}', {forecast}, '{verdict}')"
        for name, forecast in (("p1", f"'{OLD_FORECAST}'"), ("p2", "NULL"))
    ]
    by_hand(
        path,
        *proposals,
        "INSERT INTO decision VALUES ('p1', 1, 'Ada', 'fine', 10)",
        "UPDATE proposal SET status = 'accepted' WHERE proposal_id = 'p1'",
    )


def triggers(path: URL) -> set[str]:
    query = (
        "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        if is_sqlite(path)
        else "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal"
    )
    return {row[0] for row in seen_by_hand(path, query)}


def test_packing_plans_keeps_what_was_stored(bare_database: URL) -> None:
    """A proposal of the first revision is the same record after the upgrade, decision and all."""
    path = bare_database
    stored_at_first(path)
    with Historian.create(path) as historian:
        kept, bare = historian.proposal("p1"), historian.proposal("p2")
        assert kept is not None
        assert bare is not None
        assert kept.status is ProposalStatus.ACCEPTED
        assert kept.plan.reason == "in 12 iterations – done"
        assert kept.plan.moves["pump.setpoint"][0] == 5.125
        assert math.isnan(kept.plan.hold_cost_per_h)
        assert kept.forecast is not None
        assert kept.forecast.high["tank.level"].tolist() == [1.5, 2.5]
        assert bare.forecast is None
        decision = historian.decision("p1")
        assert decision is not None
        assert decision.by == "Ada"


def test_unpacking_plans_gives_back_the_text(bare_database: URL) -> None:
    """Down again, the first revision finds every byte as it left it, its rules included."""
    path = bare_database
    stored_at_first(path)
    before = triggers(path)
    upgrade(path, "0002")
    assert triggers(path) == before | {"proposal_has_plan"}
    upgrade(path)
    downgrade(path, "0001")
    assert triggers(path) == before
    kept = seen_by_hand(path, "SELECT plan, forecast FROM proposal")
    assert sorted(kept, key=str) == sorted([(OLD_PLAN, None), (OLD_PLAN, OLD_FORECAST)], key=str)
    if is_sqlite(path):
        assert seen_by_hand(path, "PRAGMA foreign_key_check") == []
    upgrade(path)
    with Historian.open(path) as historian:
        assert historian.proposal("p1") is not None


@pytest.mark.parametrize("revision", ["0001", "head"])
def test_a_stored_plan_cannot_be_changed_at_any_revision(bare_database: URL, revision: str) -> None:
    """Moving the columns does not lose the rule that guards them; a plan is never left out."""
    path = bare_database
    stored_at_first(path)
    upgrade(path, revision)
    for column in ("plan", "forecast", "setpoints"):
        with pytest.raises(REFUSED, match="only the status"):
            by_hand(path, f"UPDATE proposal SET {column} = NULL")


def test_a_proposal_without_a_plan_is_refused(bare_database: URL) -> None:
    """The packed column has a default, as SQLite asks; the database does not take it."""
    path = bare_database
    stored_at_first(path)
    upgrade(path)
    with pytest.raises(REFUSED, match="a proposal has a plan"):
        by_hand(
            path,
            "INSERT INTO proposal (proposal_id, plant, created_at, expires_at, open_until_wall, "
            "status, status_reason, status_at, reason, model, current_values, setpoints, binding, "
            "verdict) VALUES ('p3', 'small', 0, 1, 2, 'open', '', 0, '', '', '{}', '{}', '[]', '')",
        )


def stored_at_third(path: URL) -> None:
    """A database at the third revision: two samples and two gaps."""
    upgrade(path, "0003")
    by_hand(
        path,
        "INSERT INTO tag VALUES (1, 'small', 'tank.level', 'CV', 'cm')",
        "INSERT INTO sample VALUES (1, 1000, NULL, 2147483648, 999), (1, 0, 2.5, 0, 30)",
        "INSERT INTO last_value VALUES (1, 1000, NULL, 2147483648, 999)",
        "INSERT INTO gap VALUES ('small', '', 5, NULL, 0, 'away'), "
        "('small', 'tank.level', 5, 9, 1, 'sensor off')",
    )


def rows(path: URL) -> dict[str, list[tuple[object, ...]]]:
    return {
        table: seen_by_hand(path, f"SELECT * FROM {table} ORDER BY 1, 2, 3")
        for table in ("sample", "last_value", "gap")
    }


def test_readings_and_gaps_of_earlier_versions_are_kept(bare_database: URL) -> None:
    """They are live readings of the plant's one source; each arrived when it did."""
    path = bare_database
    stored_at_third(path)
    before = rows(path)
    with Historian.create(path) as historian:
        early, late = historian.readings("small", [LEVEL], moment(0), moment(1000))
        assert early == Reading(LEVEL, 2.5, GOOD, moment(0), moment(30))
        assert late == Reading(LEVEL, None, BAD, moment(1000), moment(999))
        assert historian.last_readings("small") == {LEVEL: late}
        assert historian.gaps("small") == [
            Gap(moment(5), None, "away"),
            Gap(moment(5), moment(9), "sensor off", LEVEL, True),
        ]
    downgrade(path, "0003")
    assert rows(path) == before


MANY = 80_000


def filled_at_third(path: URL) -> None:
    """A database at the third revision with a second-by-second record of a day and a gap."""
    upgrade(path, "0003")
    by_hand(
        path,
        "INSERT INTO tag VALUES (1, 'small', 'tank.level', 'CV', 'cm')",
        f"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {MANY - 1}) "
        "INSERT INTO sample SELECT 1, CAST(i AS BIGINT) * 1000000, i, 0, "
        "CAST(i AS BIGINT) * 1000000 + 500000 FROM n",
        f"INSERT INTO last_value VALUES (1, {MANY - 1}000000, {MANY - 1}, 0, {MANY - 1}500000)",
        "INSERT INTO gap VALUES ('small', '', 5, NULL, 0, 'away')",
    )


def upgrading(path: URL) -> subprocess.Popen[bytes]:
    """A process of its own that brings a database up to date."""
    url = path.render_as_string(hide_password=False)
    code = f"from twin.historian import Historian; Historian.create({url!r}).close()"
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(Path(__file__).parent.parent)},
        stderr=subprocess.PIPE,
    )


def holds_all(path: URL) -> None:
    """Everything that `filled_at_third` stored is there, at this version's schema."""
    with Historian.open(path) as historian:
        samples = historian.samples("small", [LEVEL], moment(0), moment(MANY * 1_000_000))[LEVEL]
        np.testing.assert_array_equal(samples.values, np.arange(MANY))
        last = historian.last_readings("small")[LEVEL]
        assert (last.value, last.arrival_time) == (
            MANY - 1,
            moment((MANY - 1) * 1_000_000 + 500_000),
        )
        assert historian.gaps("small") == [Gap(moment(5), None, "away")]
        assert historian.maintain(moment(MANY * 1_000_000), small_plant()).rolled_until is not None
    assert not [name for name in names(path) if name.startswith("old_")]


def test_an_upgrade_killed_in_the_middle_leaves_the_old_schema_whole(bare_database: URL) -> None:
    """kill -9 while a record is rewritten: nothing half; two at once then bring it up to date."""
    filled_at_third(bare_database)
    before = names(bare_database)
    killed = 0
    for pause_s in (0.0, 0.05):
        process = upgrading(bare_database)
        give_up_at = time.monotonic() + 60
        while not is_writing(bare_database) and process.poll() is None:
            assert time.monotonic() < give_up_at, "it upgrades"
        try:
            process.wait(pause_s)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
        while is_writing(bare_database):  # a server notices when it writes to its client
            assert time.monotonic() < give_up_at, "the killed one's lock is free"
        if current_revision(bare_database) == "0003":
            killed += 1
            assert names(bare_database) == before
    assert killed > 0, "at least one was killed in time"
    for process in [upgrading(bare_database) for _ in range(2)]:
        _, told = process.communicate()
        assert process.returncode == 0, told.decode()
    holds_all(bare_database)


def test_going_back_keeps_the_wider_of_gaps_that_began_together(bare_database: URL) -> None:
    """The earlier schema knows one gap a start: what may be missing stays missing."""
    path = bare_database
    with Historian.create(path) as historian:
        historian.add_gap("small", moment(5), moment(9), "b", source="lab", is_filled=True)
        historian.add_gap("small", moment(5), None, "a", filled_until=moment(7))
    downgrade(path, "0003")
    assert rows(path)["gap"] == [("small", "", 5, None, 0, "a")]


def test_upgrading_twice_keeps_what_is_stored(bare_database: URL) -> None:
    """`create` on a running plant's database is harmless."""
    url = bare_database
    with Historian.create(url) as historian:
        historian.register(small_plant())
        historian.store([level(0, 1.0)])
    with Historian.create(url) as historian:
        assert historian.last_readings("small")[LEVEL].value == 1.0


def test_processes_that_upgrade_at_once_all_succeed(bare_database: URL) -> None:
    """One builds the schema, the others wait and find it built."""
    path = bare_database
    starts = [upgrading(path) for _ in range(3)]
    for start in starts:
        _, told = start.communicate()
        assert start.returncode == 0, told.decode()
    assert current_revision(path) == head_revision()


def test_threads_that_upgrade_at_once_all_succeed(tmp_path: Path) -> None:
    """Alembic's context is global to a process; two threads must not mix theirs."""
    with ThreadPoolExecutor(4) as pool:
        paths = [tmp_path / f"{k}.db" for k in range(8)]
        assert set(pool.map(upgrade, paths)) == {head_revision()}


def test_opening_needs_the_right_schema(tmp_path: Path) -> None:
    """Missing file, no schema and another revision each name both sides and the remedy."""
    path = tmp_path / "h.db"
    remedy = rf"revision {head_revision()} is needed\. Run `plantwright db upgrade PLANT`"
    with pytest.raises(WrongMigration, match=rf"does not exist yet; {remedy}"):
        Historian.open(path)
    assert not path.exists(), "asking must not create a file"
    path.touch()
    with pytest.raises(WrongMigration, match=rf"has no schema yet; {remedy}"):
        Historian.open(path)
    upgrade(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    for open_it in (Historian.open, Historian.create):
        with pytest.raises(WrongMigration, match=rf"is at revision 9999.*{head_revision()}.*newer"):
            open_it(path)


def test_a_database_of_another_program_is_left_alone(bare_database: URL) -> None:
    """It gets neither our tables nor a migration mark."""
    by_hand(bare_database, "CREATE TABLE invoices (id INTEGER)")
    with pytest.raises(DatabaseUnavailable, match="belongs to another program"):
        Historian.create(bare_database)
    assert names(bare_database) == {"invoices"}


@pytest.mark.postgres
def test_an_empty_database_on_a_server_has_no_schema_yet(postgres: Server) -> None:
    """What a file says before it is there, a database says that nobody has prepared."""
    url = postgres.database()
    with pytest.raises(WrongMigration, match=r"has no schema yet; .*plantwright db upgrade"):
        Historian.open(url)
    Historian.create(url).close()
    by_hand(url, "UPDATE alembic_version SET version_num = '9999'")
    for open_it in (Historian.open, Historian.create):
        with pytest.raises(WrongMigration, match=rf"is at revision 9999.*{head_revision()}.*newer"):
            open_it(url)
    postgres.drop(url)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mysql://u:secret@db/plant", r"mysql://u:\*\*\*@db/plant: .*SQLite and PostgreSQL only"),
        ("postgresql://u:secret@db", r"u:\*\*\*@db: .*names no database"),
        (
            "postgresql://u:se:cret@x:no port/db",
            r"postgresql://\*\*\*@x:no port/db: not a database",
        ),
        (
            "postgresql://u@127.0.0.1:1/db?password=secret",
            r"u@127.0.0.1:1/db\?password=.*refused.*Check that the server runs",
        ),
        ("sqlite:///:memory:", "cannot be shared"),
        ("sqlite://", "cannot be shared"),
        ("no such: thing://", "not a database address"),
        ("{tmp}/missing/h.db", "does not exist.*Create it or name another"),
        ("{tmp}", "unable to open database file"),
        ("{tmp}/text.db", "not a database.*Name another file"),
        ("{tmp}/text.db/h.db", "does not exist"),
        ("/proc/h.db", "unable to open database file.*Check that its folder"),
    ],
)
def test_what_cannot_be_opened_says_why(tmp_path: Path, url: str, told: str) -> None:
    """One sentence with the address, the cause and what to do; passwords are never shown."""
    (tmp_path / "text.db").write_text("This is a letter, not a database.\n" * 40)
    with pytest.raises(DatabaseUnavailable, match=told) as caught:
        Historian.create(url.format(tmp=tmp_path))
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_is_reported_on_opening_too(tmp_path: Path) -> None:
    """`open` gives the same plain message as `create`."""
    (tmp_path / "text.db").write_text("This is a letter, not a database.\n" * 40)
    with pytest.raises(DatabaseUnavailable, match="not a database"):
        Historian.open(tmp_path / "text.db")


def test_scripts_are_found_in_a_wheel_and_in_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`twin/migrations` first, then `alembic` beside `twin`; the library's own never."""
    package = tmp_path / "twin"
    package.mkdir()
    (tmp_path / "alembic").mkdir()
    (tmp_path / "alembic" / "__init__.py").touch()
    monkeypatch.setattr("twin.__file__", str(package / "__init__.py"))
    with pytest.raises(DatabaseUnavailable, match="Install plantwright again"):
        migrations.script_folder()
    (tmp_path / "alembic" / "env.py").touch()
    assert migrations.script_folder() == tmp_path / "alembic"
    (package / "migrations").mkdir()
    (package / "migrations" / "env.py").touch()
    assert migrations.script_folder() == package / "migrations"


def test_the_checkout_never_hides_the_library() -> None:
    """alembic/ has no __init__.py: Python would import our scripts in the library's place."""
    assert not (Path(__file__).parent.parent / "alembic" / "__init__.py").exists()
