"""The furnace's screen: nothing is coloured but what is odd, and what is odd says why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from furnace_line import HOLD, full_furnace
from furnace_line import PLANT as LINE_PLANT
from furnace_seen import FIRST, NOON, block, forecast, furnace_plant, outlook, seen, values
from lived_plant import database, four_tank
from streamlit.testing.v1 import AppTest

import dashboard
from dashboard import mimic
from dashboard.beats import clock_detail
from dashboard.server import PageSettings
from dashboard.view import furnace, kinds, overview, trend
from dashboard.view.headline import headline
from dashboard.view.slabs import SlabPlace, slab_cells, slab_places
from dashboard.view.tags import Level, tag_rows
from twin.clock import wall_now
from twin.historian import Event, Historian, stored
from twin.plant import Plant
from twin.records import (
    BAD,
    GOOD,
    Forecast,
    Plan,
    PlanStatus,
    Proposal,
    ProposalStatus,
    Reading,
    Verdict,
)
from twin.slab_forecast import slab_forecast

ALARM, ATTENTION = "#b3261e", "#d98a00"
APP = Path(dashboard.__file__).parent / "app.py"


@pytest.fixture
def plant() -> Plant:
    """The shipped furnace."""
    return furnace_plant()


def drawn(plant: Plant, changes: dict[str, float | None], told: Forecast | None = None) -> str:
    """The drawing of a furnace that is calm but for `changes`."""
    state = seen(plant, changes)
    return mimic.drawing(furnace.shown(plant, block(plant), state, told))


def places(
    plant: Plant, changes: dict[str, float | None], told: Forecast | None = None
) -> dict[str, SlabPlace]:
    """Every slab by where it lies."""
    return {each.where: each for each in slab_places(block(plant), seen(plant, changes), told)}


def test_a_calm_furnace_has_no_colour_at_all(plant: Plant) -> None:
    """All slabs in the order in which they leave; grey, whatever the temperatures."""
    told = forecast(*(outlook(FIRST + k, 10.0 * k) for k in range(6)))
    picture = drawn(plant, {}, told)
    assert ALARM not in picture
    assert ATTENTION not in picture
    assert "runs 195 t/h" in picture
    lying = slab_places(block(plant), seen(plant), told)
    assert [each.number for each in lying] == list(range(FIRST, FIRST + 28 + 16))
    assert {each.word.text for each in lying} == {"NORMAL"}
    assert (lying[0].where, lying[28].where) == ("slot 28", "yard 1")


def test_a_slab_is_as_high_as_it_is_thick_and_as_light_as_it_is_hot(plant: Plant) -> None:
    """Twice the thickness is twice the height; hotter is lighter; unknown is dashed, not cold."""
    told = forecast(outlook(FIRST, 5.0, now_c=1200.0), outlook(FIRST + 1, 9.0, now_c=300.0))
    changes: dict[str, float | None] = {"slot_28.thickness": 240.0, "slot_27.thickness": 120.0}
    first, second, third = (part for part in drawn(plant, changes, told).split("<g>")[5:8])
    high = [float(part.split('height="')[1].split('"')[0]) for part in (first, second)]
    assert high[0] == pytest.approx(2 * high[1], abs=0.2)
    assert mimic.grey(1200.0) in first
    assert mimic.grey(300.0) in second
    assert int(mimic.grey(1200.0)[1:3], 16) > int(mimic.grey(300.0)[1:3], 16)
    assert "dasharray" in third
    assert 'fill="none"' in third


@pytest.mark.parametrize(
    ("stopped_min", "restart_min", "said"),
    [
        (12, -25, "stopped 12 min ago, 25 more expected"),
        (40, 5, "stopped 40 min ago, expected back 5 min ago"),
        (3, None, "stopped 3 min ago"),
        (None, None, "stopped"),
    ],
)
def test_a_stopped_mill_says_since_when_and_for_how_long(
    plant: Plant, stopped_min: float | None, restart_min: float | None, said: str
) -> None:
    """From two moments in s since 1970; a stop is worth a colour."""

    def told(minutes_ago: float | None) -> float:
        return 0.0 if minutes_ago is None else NOON.timestamp() - 60.0 * minutes_ago

    changes = {
        "mill.running": 0.0,
        "mill.stopped_at": told(stopped_min),
        "mill.expected_restart": told(restart_min),
    }
    found = furnace.shown(plant, block(plant), seen(plant, changes), None).mill
    assert (found.text, found.level) == (said, Level.ATTENTION)


def test_a_mill_that_says_nothing_is_not_taken_to_roll(plant: Plant) -> None:
    """No reading is no rolling mill."""
    assert "Mill unknown" in drawn(plant, {"mill.running": None})


def test_records_that_cannot_be_are_marked_where_they_lie(plant: Plant) -> None:
    """Thickness 0, a slab twice, a slot without a number: each in the alarm's or doubt's colour."""
    bad: dict[str, float | None] = {
        "slot_12.thickness": 0.0,
        "slot_20.slab": None,
        "slot_05.slab": values(plant)["slot_07.slab"],
        "yard_03.slab": None,
    }
    lying = places(plant, bad)
    assert lying["slot 12"].word.text == "DOUBTFUL"
    assert "thickness 0 mm" in lying["slot 12"].word.reason
    assert lying["slot 20"].word.text == "NO RECORD"
    for slot in ("slot 5", "slot 7"):
        assert lying[slot].word.text == "TWICE"
        assert "slots 5 and 7" in lying[slot].word.reason
    assert lying["yard 3"].word.text == "NO RECORD"
    odd = [each for each in lying.values() if each.word.level is not Level.CALM]
    picture = drawn(plant, bad)
    assert len(odd) == 5
    assert picture.count(f'stroke="{ALARM}"') == 4
    assert picture.count(f'stroke="{ATTENTION}"') == 1


def test_out_of_spec_is_coloured_soon_and_told_later(plant: Plant) -> None:
    """Below nine in ten within the hour asks for a look; later slabs have plans before them."""
    cold = {"in_spec_chance": 0.6, "cold_chance": 0.35, "mean_c": 1207.0}
    hot = {"in_spec_chance": 0.8, "cold_chance": 0.0, "mean_c": 1231.0, "high_c": 1241.0}
    lying = places(
        plant,
        {},
        forecast(
            outlook(FIRST, 10, **cold),
            outlook(FIRST + 1, 18, **hot),
            outlook(FIRST + 2, 26, in_spec_chance=0.9),
            outlook(FIRST + 9, 90, **cold),
        ),
    )
    found = [lying[f"slot {slot}"].word for slot in (28, 27, 26, 19)]
    assert [word.text for word in found] == ["COLD?", "HOT?", "NORMAL", "COLD?"]
    assert [word.level is Level.ATTENTION for word in found] == [True, True, False, False]
    assert "60 %" in found[0].reason
    assert "1207 °C" in found[0].reason


def test_a_slab_is_called_after_what_it_most_likely_misses(plant: Plant) -> None:
    """1214 °C with 29 K inside is uneven, not hot, however wide its interval is."""
    wide = {"mean_c": 1214.0, "sd_k": 11.0, "low_c": 1196.0, "high_c": 1236.0}
    lying = places(
        plant,
        {},
        forecast(
            outlook(FIRST, 10, **wide, in_spec_chance=0.5, cold_chance=0.15, difference_k=29.0),
            outlook(FIRST + 1, 18, **wide, in_spec_chance=0.7, cold_chance=0.13, difference_k=26.0),
            outlook(FIRST + 2, 26, in_spec_chance=0.6, cold_chance=0.0, mean_c=1234.0, sd_k=5.0),
        ),
    )
    found = [lying[f"slot {slot}"].word.text for slot in (28, 27, 26)]
    assert found == ["UNEVEN?", "OUT OF SPEC?", "HOT?"]


def test_what_tracking_doubts_is_doubtful_and_cannot_write_html(plant: Plant) -> None:
    """A doubt is stored text: it is shown, never obeyed."""
    told = forecast(outlook(FIRST, 10, doubt="<script>alert(1)</script> vanished"))
    html = drawn(plant, {}, told) + mimic.slab_table(
        plant, slab_places(block(plant), seen(plant), told)
    )
    assert "DOUBTFUL" in html
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_the_list_says_where_when_and_how_sure(plant: Plant) -> None:
    """One line, in the plant's zone and in units of the control room."""
    told = forecast(outlook(FIRST, 31.0))
    line = slab_cells(plant, places(plant, {}, told)["slot 28"])
    assert line == (
        "101", "slot\u00a028", "220 mm", "20 °C", "0", "13:31", "1219 ± 4 °C", "12 K", "99 %",
    )  # fmt: skip
    assert slab_cells(plant, places(plant, {})["slot 28"])[5:] == ("–",) * 4


def test_a_zone_is_coloured_by_its_own_limits_and_a_held_slab_at_the_door(plant: Plant) -> None:
    """1331 °C of at most 1330 is an alarm; an interlock that holds is worth a look."""
    assert "Zone 3, HIGH HIGH" in drawn(plant, {"zone_3.temperature": 1331.0})
    held = drawn(plant, {"interlock.holding": 1.0})
    assert "holds a slab back as too cold" in held
    assert ATTENTION in held


def test_an_old_outlook_says_so(plant: Plant) -> None:
    """Predictions of an hour ago are not passed off as new."""
    state = seen(plant)
    later = type(state)(state.plant, NOON + timedelta(hours=1), state.tags)
    found = furnace.shown(plant, block(plant), later, forecast(outlook(FIRST, 5)))
    assert found.outlook.level is Level.ATTENTION
    assert "1 h old" in found.outlook_small
    assert furnace.shown(plant, block(plant), state, None).outlook.text == "none yet"


def test_a_stored_outlook_says_how_hot_each_slab_is_by_what_was_learned() -> None:
    """The drawing's grey: the tracked profile, moved by its grade's emissivity."""
    state = full_furnace()
    learned = replace(state, emissivity_percent={each.slab.grade: 2.0 for each in state.slabs})
    plain, moved = (
        slab_forecast(LINE_PLANT, each, HOLD, seed=1, replications=1, steps=60)
        for each in (state, learned)
    )
    first = state.slabs[0]
    kept = stored.forecast(stored.packed_forecast(plain)).slabs[0].now_c
    assert kept == pytest.approx(sum(first.node_c) / len(first.node_c))
    per_k = sum(first.per_emissivity_k[:-1]) / len(first.node_c)
    assert per_k > 0.0
    assert moved.slabs[0].now_c - kept == pytest.approx(2.0 * per_k)


def test_moments_are_clock_times_and_no_curves(plant: Plant) -> None:
    """Seconds since 1970 are nobody's reading, neither in the table nor on a trend."""
    since_s = (NOON - timedelta(minutes=12)).timestamp()
    state = seen(plant, {"mill.running": 0.0, "mill.stopped_at": since_s})
    rows = {row.name: row for row in tag_rows(plant, state, {})}
    assert (rows["mill.stopped_at"].value, rows["mill.stopped_at"].unit) == ("12:48:00", "")
    assert rows["mill.expected_restart"].value == "–"
    assert not set(trend.choices(plant)) & kinds.moment_tags(plant)


def test_slab_records_stand_last_in_trends_and_not_among_other_signals(plant: Plant) -> None:
    """Of 260 tags 220 are slab records: whoever looks for a zone's fuel finds it before them."""
    choices = trend.choices(plant)
    records = [name for name in choices if kinds.is_slab_record(plant, name)]
    assert len(records) == 5 * (28 + 16)
    assert choices[-len(records) :] == records
    assert choices[0] == "zone_1.setpoint"
    others = overview.without_own_table(plant, tag_rows(plant, seen(plant), {}))
    assert "zone_1.fuel" in {row.name for row in others}
    assert not [row.name for row in others if row.name.startswith(("slot_", "yard_"))]


def test_a_reading_per_slab_is_drawn_as_steps(plant: Plant) -> None:
    """No slab ever had a temperature between those of two slabs."""
    stepped = {tag.name for tag in plant.tags if kinds.is_stepped(plant, tag)}
    assert {"discharge.temperature", "zone_1.setpoint", "mill.running"} <= stepped
    assert "zone_1.temperature" not in stepped


@pytest.mark.parametrize(("age_min", "level"), [(14, Level.CALM), (16, Level.ATTENTION)])
def test_a_plan_is_late_after_three_rounds(plant: Plant, age_min: int, level: Level) -> None:
    """This furnace plans every five minutes, not every minute."""
    items = headline(
        plant, seen(plant), {}, newest_reading=NOON,
        planned_at=NOON - timedelta(minutes=age_min), link="live", processes=(), is_stopped=False,
    )  # fmt: skip
    (word,) = [item.word for item in items if item.label == "Planned"]
    assert word.level is level
    assert "300 s" in word.reason or level is Level.CALM


def proposal(plant: Plant, told: Forecast) -> Proposal:
    """An open proposal with this forecast."""
    moves = {"zone_4.setpoint": 1222.0}
    plan = Plan(PlanStatus.SOLVED, "", NOON, plant.step_s, {}, cost_per_h=9.0, hold_cost_per_h=50.0)
    return Proposal(
        proposal_id="p-1", plant=plant.plant, created_at=NOON,
        expires_at=NOON + timedelta(minutes=20), open_until_wall=wall_now() + timedelta(minutes=1),
        current={"zone_4.setpoint": 1240.0}, setpoints=moves, plan=plan, forecast=told,
        verdict=Verdict(True, (), NOON, moves), status=ProposalStatus.OPEN,
        reason="Zone 4 -18 K.", benefit_per_h=41.0, binding=(), model="physics",
    )  # fmt: skip


def readings(plant: Plant, at: datetime) -> Iterator[Reading]:
    """One of every tag."""
    for name, value in values(plant).items():
        yield Reading(name, value, BAD if value is None else GOOD, at, at)


def live(folder: Path, plant: Plant) -> Historian:
    """A database with a reading of every tag, and a process that collects more."""
    historian = Historian.create(database(folder))
    historian.register(plant)
    historian.start_stages(plant, NOON)
    historian.store(readings(plant, NOON), plant)
    historian.beat(plant, "collect", wall_now(), 1, clock_detail(NOON, 1.0, link="live"))
    return historian


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """The page's script, told about a furnace's database in a folder of its own."""
    settings = PageSettings("furnace", database(tmp_path), tmp_path)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    return AppTest.from_file(str(APP), default_timeout=60)


def html_of(page: AppTest) -> str:
    """All that was drawn; a script that failed fails the test."""
    assert not page.exception, [error.value for error in page.exception]
    parts = [element.proto.body for element in page.get("html")]
    return "\n".join([*parts, *(element.value for element in page.markdown)])


def test_the_page_shows_the_stored_outlook_of_the_stored_records(
    page: AppTest, tmp_path: Path, plant: Plant
) -> None:
    """From database to screen: picture, list and figures."""
    with live(tmp_path, plant) as historian:
        told = forecast(outlook(FIRST, 10, in_spec_chance=0.5, cold_chance=0.45, mean_c=1205.0))
        historian.store_proposal(proposal(plant, told))
        gone = "slab 120: its record is gone"
        historian.event(plant, "fault", "slab 120", gone, NOON, "planner")
        page.run()
        html = html_of(page.switch_page("screens/furnace.py").run())
    assert "1 fault" in html
    assert html.count(gone) >= 2  # in the figures and in the list
    assert "<svg" in html
    assert "runs 195 t/h" in html
    assert "made 13:00" in html
    assert "1205 ± 4 °C" in html
    assert "COLD?" in html
    assert "1 to look at" in html


def test_the_page_says_what_to_do_without_readings(page: AppTest, tmp_path: Path) -> None:
    """An empty database leads to a message."""
    Historian.create(database(tmp_path)).close()
    page.run()
    html = html_of(page.switch_page("screens/furnace.py").run())
    assert "plantwright collect furnace" in html


@pytest.mark.parametrize("screen", ["overview", "trend", "advice", "stages", "audit"])
def test_every_other_page_carries_a_furnace(
    page: AppTest, tmp_path: Path, plant: Plant, screen: str
) -> None:
    """260 tags draw on every page, and no page says that nothing can be planned."""
    with live(tmp_path, plant):
        page.run()
        html = html_of(page.switch_page(f"screens/{screen}.py").run())
    assert "Walking-beam" in html
    assert "physics.py" not in html
    assert "pump" not in html


def test_only_a_plant_with_a_furnace_has_the_page(plant: Plant) -> None:
    """Four tanks have none."""
    assert plant.furnace is not None
    assert four_tank().furnace is None


def test_what_is_wrong_is_told_with_since_when() -> None:
    """Faults of the record: counted, the newest in words, all of them in the list."""
    plant = furnace_plant()
    at = NOON - timedelta(minutes=5)
    faults = [
        Event(1, plant.plant, "fault", "slab 120", "slab 120: its record is gone", at, "planner"),
        Event(
            2, plant.plant, "fault", "zone_2.temperature", "zone_2: <b>still</b>", NOON, "planner"
        ),
    ]
    found = furnace.shown(plant, block(plant), seen(plant), None, faults)
    assert (found.faults.text, found.faults.level) == ("2 faults", Level.ATTENTION)
    assert "zone_2: <b>still</b>" in found.faults_small
    row = furnace.fault_rows(plant, faults)[0]
    assert row[1:] == ("slab 120", "slab 120: its record is gone")
    assert ":55" in row[0]
    none = furnace.shown(plant, block(plant), seen(plant), None)
    assert (none.faults.text, none.faults.level) == ("no fault", Level.CALM)
