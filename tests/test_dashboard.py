"""The page's promises, kept by the real script on a real database, without a browser."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from lived_plant import NOON, beats, database, fill, four_tank, lived, proposal
from streamlit.testing.v1 import AppTest

import dashboard
from connectors.stop import StopLatch
from dashboard.beats import clock_detail
from dashboard.facts import last_hour_score
from dashboard.server import (
    DATABASE,
    PLANT,
    STARTED_AT,
    STATE_DIR,
    PageSettings,
    arguments,
    page_settings,
)
from dashboard.settings import Settings
from twin.clock import WALL_TIME, wall_now
from twin.errors import UsageError
from twin.historian import HandBackStatus, Historian
from twin.plant import Plant, read_plant
from twin.records import (
    BAD,
    GOOD,
    Clearance,
    Decision,
    ProposalStatus,
    Reading,
    Stage,
    WriteOutcome,
    WriteStatus,
)

APP = Path(dashboard.__file__).parent / "app.py"
SCREENS = ("overview", "trend", "advice", "stages", "data", "audit")


@pytest.fixture
def plant() -> Plant:
    """The shipped plant."""
    return four_tank()


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """The page's script, told about a database in a folder of its own."""
    settings = PageSettings("four_tank", database(tmp_path), tmp_path)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    return AppTest.from_file(str(APP), default_timeout=30)


@pytest.fixture
def historian(tmp_path: Path, plant: Plant) -> Iterator[Historian]:
    """A database with an hour of readings and living processes."""
    with Historian.create(database(tmp_path)) as opened:
        fill(opened, plant, hours=1.5)
        beats(opened, plant, wall_now())
        yield opened


@pytest.fixture
def latch(tmp_path: Path, plant: Plant) -> StopLatch:
    """The stop latch that the page looks at."""
    return StopLatch(Settings(state_dir=tmp_path).stop_latch(plant))


def turn_to(page: AppTest, screen: str) -> AppTest:
    """Open the page, then one of its screens."""
    page.run()
    return page.switch_page(f"screens/{screen}.py").run()


def shown(page: AppTest) -> str:
    """All HTML the script drew; a script that failed fails the test."""
    assert not page.exception, [error.value for error in page.exception]
    return "\n".join(element.proto.body for element in page.get("html"))


def buttons(page: AppTest) -> list[str]:
    """The labels of all buttons."""
    return [button.label for button in page.button]


def press(page: AppTest, label: str) -> AppTest:
    """Click the one button of that label."""
    (found,) = [button for button in page.button if button.label == label]
    return found.click().run()


def give_name(page: AppTest, name: str) -> AppTest:
    """Type a name where the shown screen asks for one."""
    (field,) = [field for field in page.text_input if field.label == "Your name"]
    return field.set_value(name).run()


@pytest.mark.parametrize("screen", SCREENS)
def test_every_screen_draws_a_lived_plant(
    page: AppTest, historian: Historian, plant: Plant, screen: str
) -> None:
    """No screen fails, and each carries plant time in the plant's zone and a stop button."""
    historian.store_proposal(proposal(plant, wall_now=wall_now()))
    html = shown(turn_to(page, screen))
    assert "2026-01-05 13:0" in html  # 12:00 UTC is 13:00 in Berlin in January
    assert "Europe/Berlin, UTC+01:00" in html
    assert "STOP" in buttons(page)


@pytest.mark.parametrize("screen", SCREENS)
def test_every_screen_says_what_to_do_without_readings(
    page: AppTest, tmp_path: Path, screen: str
) -> None:
    """A fresh database leads to a message, not to an empty table or a traceback."""
    Historian.create(database(tmp_path)).close()
    html = shown(turn_to(page, screen))
    assert "no readings" in html
    if screen in ("overview", "trend"):
        assert "plantwright collect four_tank" in html


def test_overview_shows_every_tag_with_limits_target_and_move(
    page: AppTest, historian: Historian, plant: Plant
) -> None:
    """One row per MV, CV and DV: value, both limit pairs, next move, target, stage and mode."""
    historian.store_proposal(proposal(plant, wall_now=wall_now()))
    html = shown(page.run())
    for role in ("MV", "CV", "DV"):
        for tag in plant.tags:
            assert tag.role != role or f"<b>{tag.name}</b>" in html
    assert "cm³/s" in html
    assert "5 … 17" in html
    assert "0 … 20" in html
    assert "+0.79 → 9.35" in html  # from where it reads now
    assert "REMOTE" in html
    assert "AUTO" in html
    assert "ADVISORY" in html
    assert "8.70 ct/h" in html
    assert "91 %" in html


def test_overview_marks_what_is_bad_and_never_shows_it_as_zero(
    page: AppTest, historian: Historian, plant: Plant
) -> None:
    """A reading without a number is a dash and BAD."""
    historian.store([Reading("tank_1.level", None, BAD, NOON + timedelta(seconds=1), NOON)], plant)
    html = shown(page.run())
    row = html[html.index("<b>tank_1.level</b>") :].split("</tr>")[0]
    assert ">BAD<" in row
    assert "– <span" in row
    assert "0.00" not in row


def test_a_stored_reading_of_the_future_neither_blinds_its_tag_nor_moves_time(
    page: AppTest, historian: Historian, plant: Plant
) -> None:
    """The overview shows the last value that can be true, fresh, at the plant's own time."""
    ahead = NOON + timedelta(days=3650)
    historian.store([Reading("tank_1.level", 3.21, GOOD, ahead, ahead)], plant)
    html = shown(page.run())
    row = html[html.index("<b>tank_1.level</b>") :].split("</tr>")[0]
    assert "3.21" not in row
    assert ">STALE<" not in row
    assert ">BAD<" not in row
    assert "2036" not in html


def test_a_dead_collector_lets_values_grow_old(
    page: AppTest, historian: Historian, plant: Plant
) -> None:
    """Without beats and readings, plant time runs on: values are STALE, processes SILENT."""
    beats(historian, plant, wall_now() - timedelta(minutes=2))
    html = shown(page.run())
    assert "collect, plan, write SILENT" in html
    connection = html.split(">Connection</span>")[1].split("</div>")[0]
    assert "unknown" in connection, "what a silent collector last said is no news"
    row = html[html.index("<b>tank_1.level</b>") :].split("</tr>")[0]
    assert ">STALE<" in row
    assert "40 min" in row  # two wall minutes at speed 20


def test_what_has_expired_is_offered_nowhere(
    page: AppTest, historian: Historian, plant: Plant
) -> None:
    """With no planner to close it, an old proposal still stands as open in the database."""
    historian.store_proposal(proposal(plant, wall_now=wall_now() - timedelta(minutes=2)))
    html = shown(page.run())
    assert "nothing waits for a decision" in html
    assert "+0.54 → 9.35" not in html


@pytest.mark.parametrize(
    ("hole_min", "known_min"), [(0.0, 60), (1.5, 60), (7.0, 55), (25.0, 37), (40.0, None)]
)
def test_a_short_dropout_does_not_hide_the_hours_cost(
    tmp_path: Path, plant: Plant, hole_min: float, known_min: int | None
) -> None:
    """A level is held for two minutes; what is longer is left out, until too little is left."""
    ends = NOON - timedelta(minutes=10)
    hole = (ends - timedelta(minutes=hole_min), ends)
    with Historian.create(database(tmp_path)) as opened:
        opened.register(plant)
        opened.store(
            reading
            for reading in lived(plant, hours=1.5)
            if reading.tag != "tank_1.level" or not hole[0] < reading.source_time < hole[1]
        )
        found = last_hour_score(opened, plant, NOON)
    if known_min is None:
        assert found is None
    else:
        assert found is not None
        assert found.hours * 60 == pytest.approx(known_min, abs=1.01)
        assert found.cost_per_h > 0


def written(historian: Historian, at: datetime = NOON) -> None:
    """Proposal p-1 accepted by Ada, written to pump_1 and read back."""
    historian.decide(Decision("p-1", True, "Ada", "", at))
    seal = Clearance("c-1", "p-1", {"pump_1.setpoint": 9.35}, at, at + timedelta(seconds=30))
    historian.store_clearance(seal)
    assert historian.use_clearance("c-1", at)
    moves = dict(seal.setpoints)
    verified = WriteOutcome("p-1", "c-1", WriteStatus.VERIFIED, moves, moves, "as written", at)
    historian.store_outcome(verified)
    historian.set_status("p-1", ProposalStatus.WRITTEN, "as written", at)


@pytest.mark.parametrize("screen", ["overview", "advice"])
def test_what_we_hold_is_shown_and_given_back_by_a_named_person_with_a_reason(
    page: AppTest, historian: Historian, plant: Plant, screen: str
) -> None:
    """Since when, until when; without a reason nothing is asked, with one the request is kept."""
    historian.store_proposal(proposal(plant, wall_now=wall_now()))
    assert "Held by Plantwright" not in shown(turn_to(page, screen))
    written(historian)
    html = shown(page.run())
    assert "pump_1.setpoint: REMOTE, held at 9.35 cm³/s since 13:00 (" in html
    assert "back to the PLC at 14:00" in html
    give_name(page, "Nora")
    assert "Say why the PLC shall have it back" in shown(press(page, "Give back to the PLC"))
    assert historian.hand_backs(plant) == []
    page.text_input(key="give_back_reason").set_value("night shift").run()
    html = shown(press(page, "Give back to the PLC"))
    (asked,) = historian.hand_backs(plant)
    assert (asked.mv, asked.by, asked.reason) == ("pump_1.setpoint", "Nora", "night shift")
    assert "Nora has asked to give it back" in html
    assert "Give back to the PLC" not in buttons(page)


@pytest.mark.parametrize(
    ("status", "title"),
    [(HandBackStatus.DONE, "Given back: pump_1"), (HandBackStatus.VOID, "Not given back: pump_1")],
)
def test_who_asked_an_mv_back_is_told_how_it_ended(
    page: AppTest, historian: Historian, plant: Plant, status: HandBackStatus, title: str
) -> None:
    """A quick writer has done it before the page is drawn again: the click is answered still."""
    historian.store_proposal(proposal(plant, wall_now=wall_now()))
    written(historian)
    turn_to(page, "overview")
    give_name(page, "Nora")
    page.text_input(key="give_back_reason").set_value("night shift").run()
    assert "Asked: pump_1.setpoint back to the PLC" in shown(press(page, "Give back to the PLC"))
    (asked,) = historian.hand_backs(plant)
    historian.end_hand_back(plant, asked, status, "it read AUTO", NOON)
    html = shown(page.run())
    assert "Asked: pump_1.setpoint" not in html
    assert title in html
    assert "it read AUTO" in html
    assert title in shown(page.run()), "it stays for longer than a refresh"


def test_an_answer_is_not_shown_over_another_proposal(
    page: AppTest, historian: Historian, plant: Plant
) -> None:
    """ "Accepted" belongs to the one that was; table and card agree in the same refresh."""
    historian.store_proposal(proposal(plant, wall_now=wall_now()))
    turn_to(page, "advice")
    give_name(page, "Ada")
    html = shown(press(page, "Accept"))
    assert "Accepted: pump_1.setpoint" in html
    assert ">OPEN<" not in html
    newer = proposal(plant, "p-2", created_at=NOON + timedelta(minutes=1), wall_now=wall_now())
    historian.store_proposal(newer)
    html = shown(page.run())
    assert "Accept" in buttons(page)
    assert "Accepted: pump_1.setpoint" not in html


def test_once_it_is_written_nothing_says_that_it_will_be(
    page: AppTest, historian: Historian, plant: Plant
) -> None:
    """The click's answer makes way for how it ended."""
    historian.store_proposal(proposal(plant, wall_now=wall_now()))
    turn_to(page, "advice")
    give_name(page, "Ada")
    assert "then it is written" in shown(press(page, "Accept"))
    historian.set_status("p-1", ProposalStatus.WRITTEN, "read back as written", NOON)
    html = shown(page.run())
    assert "then it is written" not in html
    assert "Written to the plant" in html


def test_a_stop_at_the_plant_is_told_on_every_page(
    page: AppTest, historian: Historian, plant: Plant
) -> None:
    """As the living writer tells it; a writer long silent tells nothing."""
    told = '{"link": "live", "plant_stop": true}'
    historian.beat(plant, "write", wall_now(), 103, told)
    html = shown(page.run())
    assert "STOPPED AT THE PLANT" in html
    assert "Clear it at the plant" in html
    writing = html.split(">Writing</span>")[1].split("</div>")[0]
    assert "enabled" not in writing
    historian.beat(plant, "write", wall_now() - timedelta(minutes=1), 103, told)
    assert "STOPPED AT THE PLANT" not in shown(page.run())


def test_a_planner_that_has_planned_the_newest_reading_waits(
    page: AppTest, historian: Historian, plant: Plant
) -> None:
    """With a frozen link it says nothing more; a dead one owes a round and is silent."""
    long_ago = wall_now() - timedelta(minutes=2)
    beats(historian, plant, long_ago)
    historian.beat(plant, "collect", wall_now(), 101, clock_detail(NOON, 20.0, link="live"))
    for planned_at, says in ((NOON, True), (NOON - 2 * timedelta(seconds=plant.step_s), False)):
        historian.beat(plant, "plan", long_ago, 102, clock_detail(planned_at, 20.0, model="m"))
        row = shown(page.run()).split('data-label="Process">plan<')[1].split("</tr>")[0]
        assert ("waits for readings" in row) == says
        assert ("SILENT" in row) != says


def test_while_everything_starts_nothing_is_coloured(
    page: AppTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No wall time poses as the plant's, nobody is told to start what is starting."""
    with Historian.create(database(tmp_path)) as opened:
        opened.register(four_tank())
        opened.beat("four_tank", "collect", wall_now(), 1, '{"link": "lost: nothing answers"}')
    started = {"now": wall_now(), "then": wall_now() - timedelta(minutes=2)}
    html = {}
    for when, moment in started.items():
        monkeypatch.setenv(STARTED_AT, moment.isoformat())
        html[when] = shown(page.run())
        assert '<span class="pw-clock">–</span>' in html[when]
    assert "pw-word pw-" not in html["now"]
    assert "The processes are starting" in html["now"]
    assert "pw-word pw-alarm" in html["then"]
    assert "Start `plantwright collect four_tank`" in html["then"]


def test_a_stop_before_the_first_reading_says_what_time_it_is_dated_by(
    page: AppTest, tmp_path: Path
) -> None:
    """The audit's rows are of plant time; one of wall time must say so."""
    with Historian.create(database(tmp_path)) as opened:
        opened.register(four_tank())
        press(press(page.run(), "STOP"), "Confirm STOP")
        (event,) = opened.events("four_tank", kind="stop")
    assert event.message == f"set: stop button {WALL_TIME}"


def test_a_plant_without_physics_is_told_what_planning_needs(
    page: AppTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is sent to look for a planner that there is not by design."""
    shipped = four_tank().path
    assert shipped is not None
    lines = shipped.read_text(encoding="utf-8").splitlines(keepends=True)
    bare = tmp_path / "plant.yaml"
    bare.write_text("".join(line for line in lines if not line.startswith("physics:")))
    monkeypatch.setenv(PLANT, str(bare))
    with Historian.create(database(tmp_path)) as opened:
        opened.register(read_plant(str(bare)))
    html = shown(turn_to(page, "advice"))
    assert "planning needs the plant" in html
    assert "planner alive" not in html
    assert "planning needs a physics.py" in shown(turn_to(page, "stages"))


def test_a_flood_of_text_hides_no_form(
    page: AppTest, historian: Historian, plant: Plant, latch: StopLatch
) -> None:
    """Anybody may have written the latch file or an audit row: both are cut short."""
    latch.set("x" * 100_000, "y" * 100_000, wall_now())
    historian.event(plant, "stop", plant.plant, "z" * 100_000, NOON, "Ada")
    html = shown(turn_to(page, "audit"))
    assert len(html) < 30_000
    assert "Release the stop" in buttons(page)


def test_accepting_stores_a_named_decision(
    page: AppTest, historian: Historian, plant: Plant
) -> None:
    """One click with a name accepts exactly the proposal that was shown."""
    historian.store_proposal(proposal(plant, wall_now=wall_now()))
    turn_to(page, "advice")
    give_name(page, "Ada")
    assert "Accepted" in shown(press(page, "Accept"))
    decision = historian.decision("p-1")
    assert decision is not None
    assert (decision.is_accepted, decision.by) == (True, "Ada")
    assert NOON <= decision.decided_at < NOON + timedelta(minutes=20)
    assert "Accept" not in buttons(page.run())


@pytest.mark.parametrize("name", ["", "  ", "closed loop", "Closed \u2002 Loop", "A\x1bda"])
def test_nobody_decides_without_a_name_of_their_own(
    page: AppTest, historian: Historian, plant: Plant, name: str
) -> None:
    """An empty name and the computer's own name store nothing and say so."""
    historian.store_proposal(proposal(plant, wall_now=wall_now()))
    turn_to(page, "advice")
    give_name(page, name)
    assert "Not decided yet" in shown(press(page, "Accept"))
    assert historian.decision("p-1") is None


def test_no_page_keeps_a_reason_that_no_screen_can_show(
    page: AppTest, historian: Historian, plant: Plant, latch: StopLatch
) -> None:
    """As on the command line: every form says so, and nothing is stored."""
    historian.store_proposal(proposal(plant, "p-1", wall_now=wall_now()))
    written(historian)
    historian.store_proposal(proposal(plant, "p-2", wall_now=wall_now(), open_wall_s=600))
    latch.set("Ada", "a leak")
    turn_to(page, "advice")
    page.text_input(key="advice_name").set_value("Ada").run()
    for key, label in (
        ("reject_words", "Reject"),
        ("give_back_reason", "Give back to the PLC"),
        ("release_reason", "Release the stop"),
    ):
        page.text_input(key=key).set_value("x\x1b[2J").run()
        assert "no screen can show" in shown(press(page, label)), key
    page.switch_page("screens/stages.py").run()
    page.text_input(key="stage_reason").set_value("x\x1b[2J").run()
    assert "no screen can show" in shown(press(page, "Change the stage"))
    assert historian.decision("p-2") is None
    assert historian.hand_backs(plant) == []
    assert latch.is_stopped()
    assert historian.stage(plant)["pump_1.setpoint"] is Stage.ADVISORY


def test_rejecting_needs_a_reason(page: AppTest, historian: Historian, plant: Plant) -> None:
    """Without a reason nothing is stored; with one it is kept word for word."""
    historian.store_proposal(proposal(plant, wall_now=wall_now()))
    turn_to(page, "advice")
    give_name(page, "Ada")
    assert "Say why you reject it" in shown(press(page, "Reject"))
    assert historian.decision("p-1") is None
    page.selectbox(key="reject_reason").set_value("A reading looks wrong").run()
    page.text_input(key="reject_words").set_value("tank 3 sticks").run()
    press(page, "Reject")
    decision = historian.decision("p-1")
    assert decision is not None
    assert (decision.is_accepted, decision.reason) == (
        False,
        "A reading looks wrong: tank 3 sticks",
    )
    assert "tank 3 sticks" in shown(page.run())


def test_a_refused_proposal_shows_its_reasons_and_no_button(
    page: AppTest, historian: Historian, plant: Plant
) -> None:
    """What the gate refused can be read and not accepted."""
    refused = proposal(plant, wall_now=wall_now(), refusals=("tank_1.level: 130 s old.",))
    historian.store_proposal(refused)
    html = shown(turn_to(page, "advice"))
    assert "Safety gate: refused" in html
    assert "tank_1.level: 130 s old." in html
    assert not {"Accept", "Reject"} & set(buttons(page))


def test_a_click_that_comes_too_late_is_told_why(
    page: AppTest, historian: Historian, plant: Plant
) -> None:
    """A proposal superseded between drawing and clicking is not accepted, nor is its successor."""
    historian.store_proposal(proposal(plant, wall_now=wall_now()))
    turn_to(page, "advice")
    give_name(page, "Ada")
    historian.set_status("p-1", ProposalStatus.SUPERSEDED, "the gate refuses it now", NOON)
    newer = proposal(plant, "p-2", created_at=NOON + timedelta(minutes=1), wall_now=wall_now())
    historian.store_proposal(newer)
    html = shown(press(page, "Accept"))
    assert "Nothing was decided" in html
    assert "It is superseded" in html
    assert historian.decision("p-1") is None
    assert historian.decision("p-2") is None


def test_an_expired_proposal_cannot_be_decided(
    page: AppTest, historian: Historian, plant: Plant
) -> None:
    """Past its wall time a proposal has no buttons, whatever its stored status says."""
    historian.store_proposal(proposal(plant, wall_now=wall_now() - timedelta(minutes=2)))
    html = shown(turn_to(page, "advice"))
    assert "It has expired" in html
    assert "Accept" not in buttons(page)


def test_history_tells_what_became_of_a_proposal(
    page: AppTest, historian: Historian, plant: Plant
) -> None:
    """Decision, person and write outcome stand in one line; a failed write tells its reason."""
    historian.store_proposal(proposal(plant, wall_now=wall_now()))
    historian.decide(Decision("p-1", True, "Ada", "", NOON))
    seal = Clearance("c-1", "p-1", {"pump_1.setpoint": 9.35}, NOON, NOON + timedelta(seconds=30))
    historian.store_clearance(seal)
    assert historian.use_clearance("c-1", NOON)
    reason = "read back 8.81 instead of 9.35"
    failed = WriteOutcome(
        "p-1",
        "c-1",
        WriteStatus.FAILED,
        dict(seal.setpoints),
        {"pump_1.setpoint": 8.81},
        reason,
        NOON,
    )
    historian.store_outcome(failed)
    historian.set_status("p-1", ProposalStatus.FAILED, reason, NOON)
    html = shown(turn_to(page, "advice"))
    assert "WRITE FAILED" in html
    assert reason in html
    assert "Ada" in html


def test_the_stop_takes_two_steps_and_its_release_a_name_and_a_reason(
    page: AppTest, historian: Historian, plant: Plant, latch: StopLatch
) -> None:
    """One click stops nothing, two do; it stays stopped until a named person says why not."""
    press(page.run(), "STOP")
    assert not latch.is_stopped()
    press(page, "Cancel")
    assert not latch.is_stopped()
    press(press(page, "STOP"), "Confirm STOP")
    assert latch.is_stopped()
    assert "STOPPED" in shown(page)

    assert "Give your name first" in shown(press(page, "Release the stop"))
    assert "Give your name first" in shown(page.run()), "it stays for longer than a refresh"
    give_name(page, "Ada")
    assert "Say why it is safe" in shown(press(page, "Release the stop"))
    assert latch.is_stopped()
    page.text_input(key="release_reason").set_value("valve replaced").run()
    html = shown(press(page, "Release the stop"))
    assert "Accepted setpoints are written again" in html
    assert "Say why it is safe" not in html
    assert "STOPPED" not in html
    assert not latch.is_stopped()
    told = [(event.message, event.by) for event in historian.events(plant, kind="stop")]
    assert told[0] == ("released: valve replaced", "Ada")
    assert told[1][0] == "set: stop button"


def test_the_stop_works_without_a_database(page: AppTest, latch: StopLatch) -> None:
    """Where the database is away, the page says so and still stops."""
    html = shown(page.run())
    assert "This page cannot show the plant" in html
    assert "plantwright db upgrade" in html
    press(press(page, "STOP"), "Confirm STOP")
    assert latch.is_stopped()


#: What a database can come to beneath the page.
_DAMAGES = {
    "a table is gone": "DROP TABLE process",
    "a time of no year": "UPDATE process SET at = 1000000000000000000",
    "a beat of no speed": """UPDATE process SET detail = '{"speed": 1e300, "plant_now":
        "9999-12-31T23:59:59+00:00"}'""",
    "a reading of no year": "UPDATE last_value SET ts = 1000000000000000000 WHERE tag_id = 1",
    "a stage of no kind": "INSERT INTO stage VALUES (99, 'four_tank', 'pump_1.setpoint', 'x', "
    "'mallory', '', 0)",
    "an event of no time": "INSERT INTO event VALUES (99, 'four_tank', 'x', '', '', -1000000000000"
    "000000, '')",
    "no database any more": "PRAGMA writable_schema = 1; DELETE FROM sqlite_master",
}


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("damage", _DAMAGES.values(), ids=_DAMAGES.keys())
def test_the_stop_works_whatever_the_database_holds(
    page: AppTest, historian: Historian, latch: StopLatch, tmp_path: Path, damage: str, screen: str
) -> None:
    """Every screen draws or says why not, and two clicks stop the plant."""
    historian.close()
    with sqlite3.connect(tmp_path / "page.db") as raw:
        raw.executescript(damage)
    shown(turn_to(page, screen))
    shown(press(press(page, "STOP"), "Confirm STOP"))
    assert latch.is_stopped()


def test_an_unreadable_proposal_is_shown_and_stands_in_nobodys_way(
    page: AppTest, historian: Historian, plant: Plant
) -> None:
    """A forged row has its line in the table; the sound one below it can be accepted."""
    historian.store_proposal(proposal(plant, wall_now=wall_now()))
    with sqlite3.connect(historian.path) as raw:
        columns = [row[1] for row in raw.execute("PRAGMA table_info(proposal)")]
        forged = {"proposal_id": "'forged'", "setpoints": "'garbage'", "created_at": "9e17"}
        copied = ", ".join(forged.get(name, name) for name in columns)
        raw.execute(f"INSERT INTO proposal ({', '.join(columns)}) SELECT {copied} FROM proposal")
    html = shown(turn_to(page, "advice"))
    assert "UNREADABLE" in html
    assert "forged cannot be read" in html
    give_name(page, "Ada")
    press(page, "Accept")
    assert historian.decision("p-1") is not None
    assert historian.decision("forged") is None


def test_a_database_at_another_migration_is_named(page: AppTest, tmp_path: Path) -> None:
    """The page tells which schema it found instead of showing anything."""
    Historian.create(database(tmp_path)).close()
    with sqlite3.connect(tmp_path / "page.db") as raw:
        raw.execute("UPDATE alembic_version SET version_num = '0999'")
    html = shown(page.run())
    assert "0999" in html
    assert 'pw-table"' not in html


def test_a_plant_file_with_faults_is_named(
    page: AppTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page shows the plant file's faults instead of the plant."""
    broken = tmp_path / "plant.yaml"
    broken.write_text("plant: four_tank\ntitle: No tags\n")
    monkeypatch.setenv(PLANT, str(broken))
    assert "tags" in shown(page.run())


def test_a_stage_is_changed_by_a_named_person_with_a_reason(
    page: AppTest, historian: Historian, plant: Plant
) -> None:
    """Without a reason the stage stays; with one it changes and the audit knows."""
    turn_to(page, "stages")
    give_name(page, "Ada")
    page.selectbox(key="stage_to").set_value("shadow").run()
    assert "stays as it is" in shown(press(page, "Change the stage"))
    assert historian.stage(plant)["pump_1.setpoint"] is Stage.ADVISORY
    page.text_input(key="stage_reason").set_value("commissioning").run()
    assert "pump_1.setpoint is now shadow" in shown(press(page, "Change the stage"))
    assert historian.stage(plant)["pump_1.setpoint"] is Stage.SHADOW


def test_the_audit_can_be_filtered(page: AppTest, historian: Historian, plant: Plant) -> None:
    """One kind shows only events of that kind."""
    historian.store_proposal(proposal(plant, wall_now=wall_now()))
    historian.event(plant, "stop", "latch", "set: smoke", NOON, "Ada")
    turn_to(page, "audit")
    html = shown(page.selectbox(key="kind").set_value("stop").run())
    assert "set: smoke" in html
    assert "p-1" not in html


def test_the_trend_carries_history_limits_and_fan(
    page: AppTest, historian: Historian, plant: Plant
) -> None:
    """The default panels are the lower tanks and the setpoints, with both limit pairs."""
    historian.store_proposal(proposal(plant, wall_now=wall_now()))
    turn_to(page, "trend")
    assert not page.exception
    assert page.multiselect(key="tags").value == [
        "tank_1.level",
        "tank_2.level",
        "pump_1.setpoint",
        "pump_2.setpoint",
    ]
    (chart,) = page.get("bidi_component")
    told = json.loads(chart.proto.json)
    first = told["panels"][0]
    assert first["operator"] == [5, 17]
    assert first["engineering"] == [0, 20]
    assert len(first["values"]) > 300
    assert len(first["future"]["low"]) == plant.horizon_steps
    assert told["zone"] == "Europe/Berlin"


def test_a_trend_without_tags_asks_for_some(page: AppTest, historian: Historian) -> None:
    """Taking the last tag away is no fault."""
    turn_to(page, "trend")
    assert "No tag is chosen" in shown(page.multiselect(key="tags").set_value([]).run())


def test_the_server_is_local_silent_and_told_everything() -> None:
    """The command line binds to the loopback, reports nothing home and watches no files."""
    line = arguments(8599)
    assert line[3:5] == ["run", str(APP)]
    assert "--server.address=127.0.0.1" in line
    assert "--server.port=8599" in line
    assert "--browser.gatherUsageStats=false" in line
    assert "--server.headless=true" in line


def test_settings_travel_through_the_environment() -> None:
    """What is handed over arrives; what is missing is named, all of it."""
    settings = PageSettings("four_tank", "sqlite:///a.db", Path("state"), wall_now())
    assert page_settings(settings.environment()) == settings
    with pytest.raises(UsageError, match=f"{DATABASE}, {STATE_DIR}"):
        page_settings({PLANT: "four_tank"})
