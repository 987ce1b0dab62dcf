"""How the data path stands is told: by `status`, as text and as a record, and by the page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from lived_plant import NOON, database, fill, four_tank
from made_certificates import server_pair
from one_tank import free_port, live_tank, until
from secured_server import access_in, secured_plant, secured_server
from sqlalchemy import insert
from streamlit.testing.v1 import AppTest

import dashboard
from connectors.ingest import collect
from connectors.progress import Progress, SourceProgress, SourceState, SpoolProgress
from dashboard.collecting import (
    Collecting,
    collecting_lines,
    collecting_record,
    gap_state,
    read_collecting,
)
from dashboard.server import PageSettings
from dashboard.upkeep_record import tell_trouble
from dashboard.view import text
from dashboard.view.data import coming_rows, figures, gap_rows, source_rows, troubles
from dashboard.view.tags import Level
from twin.clock import wall_now
from twin.historian import Gap, Historian
from twin.historian.database import writing
from twin.historian.schema import gap as gap_table
from twin.historian.schema import microseconds
from twin.plant import MqttSource, Plant, Security
from twin.records import GOOD, Reading
from twin.state import plant_state

APP = Path(dashboard.__file__).parent / "app.py"

LIVE = SourceProgress(
    name="opcua",
    kind="opcua",
    address="opc.tcp://127.0.0.1:4840/",
    state=SourceState.LIVE,
    last_publish_age_s=0.2,
    last_reading_age_s=0.3,
    readings_per_s=12.0,
    readings=4_000,
)
SPOOL = SpoolProgress(rows=0, bytes=0, quota_bytes=2_000_000_000)


def told(*sources: SourceProgress, **more: Any) -> Progress:
    return Progress(link="live", sources=sources or (LIVE,), **{"spool": SPOOL, **more})


def stands(progress: Progress | None, *gaps: Gap) -> Collecting:
    n_open = sum(not gap.is_filled for gap in gaps)
    counts = (n_open, len(gaps) - n_open, 4_000)
    return Collecting(progress, 0.5, gaps, *counts, "SQLite", 12_300_000, None, None)


def two_sources() -> Plant:
    gateway = MqttSource(kind="mqtt", name="gateway", broker="mqtts://broker:8883")
    return replace(four_tank(), sources=(gateway,))


def lines(plant: Plant, found: Collecting) -> str:
    return "\n".join(collecting_lines(collecting_record(plant, found)))


def test_all_well_is_grey() -> None:
    """A healthy encrypted link, an empty spool, no gap: not one coloured word."""
    plant = four_tank()
    assert plant.opcua is not None
    plant = replace(plant, opcua=replace(plant.opcua, security=Security()))
    found = stands(told())
    assert troubles(plant, found) == []
    words = [word for _, word, _ in figures(found)]
    [row] = source_rows(plant, found)
    assert {word.level for word in [*words, row.state, row.security]} == {Level.CALM}
    assert "WARNING" not in lines(plant, found)


def test_a_link_without_protection_says_so_for_as_long_as_it_stands() -> None:
    """Security policy None: the warning is on the page and in the text at every look."""
    warned = replace(LIVE, security="it is neither encrypted nor signed")
    found = stands(told(warned))
    [(title, message, level)] = troubles(four_tank(), found)
    assert (title, level) == ("Security of opcua", Level.ATTENTION)
    assert "neither encrypted" in message
    assert source_rows(four_tank(), found)[0].security.level is Level.ATTENTION
    assert "WARNING: it is neither encrypted nor signed" in lines(four_tank(), found)


@pytest.mark.parametrize(
    ("state", "level"),
    [
        (SourceState.LOST, Level.ALARM),
        (SourceState.FROZEN, Level.ALARM),
        (SourceState.CONNECTING, Level.ATTENTION),
    ],
)
def test_a_source_that_does_not_deliver_is_coloured(state: SourceState, level: Level) -> None:
    """Connected without data is no good state either; why stands beside it."""
    found = stands(told(replace(LIVE, state=state, reason="the cable is out")))
    [row] = source_rows(four_tank(), found)
    assert (row.state.text, row.state.level) == (state.value, level)
    assert "the cable is out" in row.under
    assert f"{state.value.upper()} (the cable is out)" in lines(four_tank(), found)


def test_tags_that_bring_nothing_are_named() -> None:
    """Live, but one node is wrong and one tag is silent: live in part, and which."""
    found = stands(told(replace(LIVE, faulty=("tank_1.level",), silent=("tank_2.level",))))
    [row] = source_rows(four_tank(), found)
    assert row.state.text == "live, in part"
    assert row.under == "cannot be read: tank_1.level; bring nothing: tank_2.level"
    assert "cannot be read: tank_1.level" in lines(four_tank(), found)


def test_each_source_has_its_row_also_where_nothing_is_told_of_it() -> None:
    """An MQTT source that the collector has not told of yet is unknown, not left out."""
    plant = two_sources()
    rows = source_rows(plant, stands(told()))
    assert [(row.name, row.state.text) for row in rows] == [
        ("opcua", "live"),
        ("gateway", "unknown"),
    ]
    assert rows[1].security.text == "TLS, login anonymous"
    record = collecting_record(plant, stands(told()))
    assert [source["state"] for source in record["sources"]] == ["live", None]


def test_a_silent_collector_is_an_alarm_and_its_last_words_are_left_out() -> None:
    """What it told last is no news: no rate, no state, no empty spool."""
    found = stands(None)
    [(_, message, level)] = troubles(four_tank(), found)
    assert level is Level.ALARM
    assert "plantwright collect" in message
    assert source_rows(four_tank(), found)[0].state.text == "unknown"
    assert collecting_record(four_tank(), found)["spool"] is None
    assert "unknown, no collecting process tells of it" in lines(four_tank(), found)


def test_a_spool_that_fills_and_loses_is_told_loudly() -> None:
    """High water, readings set aside, readings lost, database away: each by its own words."""
    spool = SpoolProgress(90_000, 1_700_000_000, 2_000_000_000, True, 7, "", "the quota is full")
    found = stands(told(spool=spool, database_trouble="it is locked"))
    titles = [title for title, _, level in troubles(four_tank(), found) if level is Level.ALARM]
    assert titles == ["Readings are being lost", "The database is away"]
    shown = {label: word for label, word, _ in figures(found)}
    assert (shown["Spool"].text, shown["Spool"].level) == ("90,000", Level.ALARM)
    assert (shown["Set aside"].text, shown["Set aside"].level) == ("7", Level.ATTENTION)
    read = lines(four_tank(), found)
    assert "spool: 90,000 readings wait, 85 % of 2,000 MB; HIGH WATER" in read
    assert "SET ASIDE: 7" in read
    assert "LOSING: the quota is full" in read
    assert "AWAY: it is locked" in read


def test_gaps_say_what_became_of_them() -> None:
    """Open, being filled, filled, and never to be filled; open ones first, in the zone."""
    later = NOON + timedelta(hours=1)
    gaps = (
        Gap(NOON, later, "not connected", is_filled=True, source="opcua"),
        Gap(NOON, later, "not connected", source="opcua", filled_until=NOON + timedelta(minutes=5)),
        Gap(NOON, later, "not connected", source="opcua", filled_until=later),
        Gap(NOON, None, "no readings", tag="tank_1.level", source="opcua"),
    )
    states = ["filled", "being filled", "cannot be filled", "open"]
    assert [gap_state(gap) for gap in gaps] == states
    rows = gap_rows(four_tank(), gaps)
    assert [row.state.text for row in rows] == [*states[1:], states[0]]
    assert [row.state.level for row in rows] == [Level.ATTENTION] * 3 + [Level.CALM]
    assert (rows[2].about, rows[2].ends) == ("tank_1.level", "still")
    assert (rows[3].begins, rows[3].lasts) == ("2026-01-05 13:00:00", "1 h")
    assert "gaps: 3 open, 1 filled" in lines(four_tank(), stands(told(), *gaps))


def test_what_years_left_behind_is_told_in_a_bounded_way(historian: Historian) -> None:
    """Thousands of gaps and readings: the newest, the newest unfilled ones, and how many more."""
    plant, hour = four_tank(), timedelta(hours=1)
    rows = [
        {
            "plant": plant.plant, "source": "opcua", "tag": "", "is_filled": int(i > 99),
            "started_at": microseconds(NOON + i * hour), "filled_until": None, "reason": "cable",
            "ended_at": microseconds(NOON + i * hour + hour / 2),
        }
        for i in range(2_000)
    ]  # fmt: skip
    with writing(historian._engine) as connection:
        connection.execute(insert(gap_table), rows)
    many = [
        Reading(tag.name, 1.0, GOOD, NOON + i * timedelta(seconds=1), NOON)
        for i in range(100_000 // len(plant.tags) + 1)
        for tag in plant.tags
    ]
    historian.store(many, plant)
    found = read_collecting(historian, plant, wall_now(), str(historian.url), Path())
    assert (found.gaps_open, found.gaps_filled, len(found.gaps)) == (100, 1_900, 100)
    assert next(gap.started_at for gap in found.gaps if not gap.is_filled) == NOON + 99 * hour
    assert found.gaps[0].started_at == NOON + 1_999 * hour
    record = collecting_record(plant, found)
    assert record["gaps"]["more"] == 1_900
    assert record["database"]["readings"] is None
    assert historian.facts().rows > 100_000
    assert "stored: more than 100,000 readings" in lines(plant, found)
    assert "gaps: 100 open, 1900 filled" in lines(plant, found)


def test_the_age_of_a_publish_grows_between_two_signs_of_life(historian: Historian) -> None:
    """A collector that hangs looks no fresher than it is."""
    plant, now = four_tank(), wall_now()
    historian.beat(plant, "collect", now - timedelta(seconds=15), 7, told(LIVE).text())
    found = read_collecting(historian, plant, now, str(historian.url), Path())
    source = found.source("opcua")
    assert source is not None
    assert source.last_publish_age_s == pytest.approx(15.2)
    assert source.last_reading_age_s == pytest.approx(15.3)
    assert "last publish 15 s ago" in lines(plant, found)


def test_upkeep_that_fails_is_told_until_it_is_over(historian: Historian) -> None:
    """Once in the audit when it begins and once when it ends, whoever starts anew meanwhile."""
    plant = four_tank()

    def look() -> Collecting:
        return read_collecting(historian, plant, wall_now(), str(historian.url), Path())

    for trouble in ("no such table: rollup_1m", "no such table: rollup_1m", "a full disk"):
        tell_trouble(historian, plant, trouble, NOON)
    assert [each.message for each in historian.events(plant, kind="upkeep")] == [
        "no such table: rollup_1m"
    ]
    read = lines(plant, look())
    assert "upkeep, FAILING since 2026-01-05 12:00 UTC: no such table: rollup_1m" in read
    titles = [title for title, _, _ in troubles(plant, look())]
    assert titles[-1] == "The historian's upkeep fails"
    for _ in range(2):
        tell_trouble(historian, plant, "", NOON + timedelta(hours=1))
    told_ = [each.message for each in historian.events(plant, kind="upkeep")]
    assert told_ == ["over: no such table: rollup_1m", "no such table: rollup_1m"]
    assert "upkeep" not in lines(plant, look())


def test_a_late_value_says_when_it_was_taken_and_when_it_came() -> None:
    """A laboratory sample of four hours ago that came two minutes ago; a fast tag is silent."""
    plant = four_tank()
    lab, fast = plant.tags[0], plant.tags[1]
    plant = replace(plant, tags=(replace(lab, max_age_s=8 * 3600.0), fast))
    sampled, arrived = NOON - timedelta(hours=4), NOON - timedelta(minutes=2)
    last = {
        lab.name: Reading(lab.name, 5.0, GOOD, sampled, arrived),
        fast.name: Reading(fast.name, 5.0, GOOD, NOON, NOON),
    }
    wrong, late = coming_rows(plant, plant_state(plant, last, NOON))
    assert wrong == []
    assert [row.came for row in late] == ["sampled 4 h ago, arrived 2 min ago"]
    assert late[0].limit == "at most 8 h old"
    assert text.came(plant_state(plant, last, NOON).tags[fast.name]) == ""


def test_a_stale_tag_is_listed_with_its_age() -> None:
    """A tag beyond its own `max_age_s`, late or not, is no value to steer by."""
    plant = replace(four_tank(), tags=four_tank().tags[:1])
    [tag] = plant.tags
    old = NOON - timedelta(seconds=tag.max_age_s + 60)
    state = plant_state(plant, {tag.name: Reading(tag.name, 5.0, GOOD, old, old)}, NOON)
    [row], late = coming_rows(plant, state)
    assert late == []
    assert [word.text for word in row.words] == ["STALE"]
    assert row.came.startswith("sampled ")


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """The page's script, told about a database in a folder of its own."""
    for name, value in (
        PageSettings("four_tank", database(tmp_path), tmp_path).environment().items()
    ):
        monkeypatch.setenv(name, value)
    return AppTest.from_file(str(APP), default_timeout=30)


@pytest.fixture
def historian(tmp_path: Path) -> Iterator[Historian]:
    with Historian.create(database(tmp_path)) as opened:
        fill(opened, four_tank(), hours=0.5)
        yield opened


def screen(page: AppTest) -> str:
    page.run()
    page.switch_page("screens/data.py").run()
    assert not page.exception, [error.value for error in page.exception]
    return "\n".join(element.proto.body for element in page.get("html"))


def test_the_page_shows_sources_gaps_and_warnings(page: AppTest, historian: Historian) -> None:
    """One look: state, endpoint, rate, security, the open gap and its reason."""
    plant, now = four_tank(), wall_now()
    warned = replace(LIVE, security="it is neither encrypted nor signed")
    progress = replace(told(warned), plant_now=NOON, speed=20.0)
    historian.beat(plant, "collect", now, 101, progress.text())
    historian.add_gap(plant, NOON - timedelta(minutes=9), None, "the cable is out", source="opcua")
    html = screen(page)
    for part in ("opc.tcp://127.0.0.1:4840/", "12.0 /s", "neither encrypted", "the cable is out"):
        assert part in html
    assert "not protected" in html
    page.switch_page("screens/overview.py").run()
    overview = "\n".join(element.proto.body for element in page.get("html"))
    assert "readings_per_s" not in overview  # what the Data page shows, nobody reads as JSON


def test_the_page_without_a_collector_says_what_to_start(
    page: AppTest, historian: Historian
) -> None:
    """Nobody tells of the links: an alarm with the command, not an empty table."""
    assert "plantwright collect" in screen(page)


def test_a_servers_certificate_that_ends_soon_is_told_of(tmp_path: Path) -> None:
    """Ten days ahead: by `status` as text and record, and on the page, of a real encrypted link."""
    pair, port = server_pair(ends=timedelta(days=10)), free_port()
    plant, url = secured_plant(port), f"sqlite:///{tmp_path}/real.db"

    async def story() -> None:
        with Historian.create(url) as historian:
            async with secured_server(port, pair):
                stop, access = asyncio.Event(), access_in(tmp_path, pair)
                task = asyncio.create_task(collect(plant, historian, stop=stop, access=access))

                def found() -> Collecting:
                    return read_collecting(historian, plant, wall_now(), url, tmp_path)

                def is_live() -> bool:
                    source = found().source("opcua")
                    return source is not None and source.state is SourceState.LIVE

                try:
                    await until(is_live, "a live link")
                    seen = found()
                finally:
                    stop.set()
                    await asyncio.wait_for(task, 20)
        day = f"{pair.certificate.not_valid_after_utc:%Y-%m-%d}"
        [source] = collecting_record(plant, seen)["sources"]
        assert f"the server's certificate expires on {day}" in source["warning"]
        assert "our certificate 18" in source["protection"], "five years are 1825 days"
        assert f"WARNING: opc.tcp://127.0.0.1:{port}/: the server's" in lines(plant, seen)
        [row] = source_rows(plant, seen)
        assert row.security.level is Level.ATTENTION
        assert any(day in each[1] for each in troubles(plant, seen))

    asyncio.run(story())


def test_a_real_collector_is_told_of_rightly(tmp_path: Path) -> None:
    """What a running collector says comes out at the other end: live, its rate, its warning."""
    url = f"sqlite:///{tmp_path}/real.db"

    async def story() -> None:
        with Historian.create(url) as historian:
            async with live_tank(60) as emulator:
                plant, stop = emulator.plant, asyncio.Event()
                task = asyncio.create_task(collect(plant, historian, stop=stop))

                def found() -> Collecting:
                    return read_collecting(historian, plant, wall_now(), url, tmp_path)

                def is_live() -> bool:
                    source = found().source("opcua")
                    return source is not None and source.readings_per_s > 0

                try:
                    await until(is_live, "a rate")
                    seen = found()
                finally:
                    stop.set()
                    await asyncio.wait_for(task, 20)
                record = collecting_record(plant, seen)
                json.dumps(record, default=str)
                [source] = record["sources"]
                assert source["state"] == "live"
                assert "neither encrypted nor signed" in source["warning"]
                assert source["protection"] == "not protected"
                assert record["spool"]["quota_bytes"] > 0
                assert record["database"]["kind"] == "SQLite"
                assert record["gaps"]["newest"]

    asyncio.run(story())
