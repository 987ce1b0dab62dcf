"""Bad input over the whole way: flagged, on record once, planned around or held, and over again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from broken_furnace import (
    BrokenFurnace,
    Lie,
    beam_counted_twice,
    contradicts_the_beam,
    has_thickness,
    lies_also_in,
    pyrometer_shows,
    vanishes,
)
from furnace_line import HOLD, full_furnace
from furnace_rounds import (
    FIVE_MIN,
    FURNACE,
    HISTORY_H,
    MILL,
    PLANT,
    SEED,
    START,
    Site,
    after,
    database_of,
    furnace_with_history,
    lying,
)

from dashboard.workers.history import recorded_stops
from optimizer.fault_record import standing_faults, tell_faults
from optimizer.slab_controller import SlabController
from twin.furnace.chances import leaving_sd_k
from twin.furnace.faults import Fault, Faults
from twin.furnace.hold import reasons_to_hold
from twin.furnace.mill_watch import MillWatch
from twin.furnace.state import FurnaceState
from twin.furnace.stops import StopRecord, remaining
from twin.furnace.tracking import Tracker
from twin.historian import Historian
from twin.plants.furnace.baseline import FAIR
from twin.plants.furnace.works import Works
from twin.records import PlanStatus
from twin.simulation.line_state import Luck, live
from twin.slab_forecast import slab_forecast
from twin.state import window

#: When the lies begin and end: the plant tells them from the first slab that leaves after.
LIES_FROM, LIES_TO = after(hours=HISTORY_H, minutes=10), after(hours=HISTORY_H, minutes=50)
MIDDLE, LATER = after(hours=HISTORY_H, minutes=40), after(hours=HISTORY_H, minutes=85)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> tuple[BrokenFurnace, Path]:
    """Six hours of the real furnace, and the database that holds them."""
    furnace, readings = furnace_with_history()
    return furnace, database_of(tmp_path_factory.mktemp("furnace") / "plant.db", readings)


@contextmanager
def lied_to(base: tuple[BrokenFurnace, Path], folder: Path, *lies: Lie) -> Iterator[Site]:
    furnace, path = lying(base, folder, lies, LIES_FROM, LIES_TO)
    with Historian.open(f"sqlite:///{path}") as historian:
        historian.register(PLANT)
        yield Site(furnace, historian)


def is_over(site: Site) -> None:
    """Every fault that began has ended, in the audit and in the tracking, and plans are made."""
    told = site.told("fault")
    began = [each for each in told if not each.message.startswith("over: ")]
    ended = [each for each in told if each.message.startswith("over: ")]
    assert began
    assert sorted(each.subject for each in began) == sorted(each.subject for each in ended)
    assert standing_faults(site.historian, PLANT) == ()
    assert site.controller.tracker.faults == ()
    plans = site.told("plan")
    assert not plans or plans[-1].subject == PlanStatus.SOLVED.value


def subjects(site: Site) -> list[str]:
    """Of what began, in that order."""
    return [e.subject for e in site.told("fault") if not e.message.startswith("over: ")]


def outlook_sd_k(state: FurnaceState, number: int) -> float:
    """How sure the forecast is of a slab."""
    zones = zip(FURNACE.zones, state.zones, strict=True)
    moves = {zone.setpoint: np.array([at.followed_c]) for zone, at in zones}
    found = slab_forecast(PLANT, state, moves, seed=1, replications=12, steps=240).slabs
    return next(each.sd_k for each in found if each.number == number)


# --- the six faults, one after the other


def planned_around(site: Site, number: int, subject: str) -> None:
    """The slab is in doubt: told once, with a wider interval for it alone; planning goes on."""
    site.run(LATER)
    assert subjects(site).count(subject) == 1
    state = site.states[MIDDLE]
    assert state is not None
    doubtful = site.slab(MIDDLE, number)
    assert doubtful.doubt
    place = state.slabs.index(doubtful)
    sd_k = leaving_sd_k(state, [7 * k for k in range(FURNACE.slots)])
    assert sd_k[place] > 11.0
    assert np.median(sd_k) < 5.0
    usual = [replace(each, doubt="", sd_k=1.5) for each in state.slabs]
    assert (
        outlook_sd_k(state, number) > outlook_sd_k(replace(state, slabs=tuple(usual)), number) + 3.0
    )
    assert reasons_to_hold(FURNACE, state) == ()
    assert site.told("plan") == []
    is_over(site)
    assert not site.slab(LATER, number).doubt


def test_a_record_that_contradicts_the_beam(
    honest: tuple[BrokenFurnace, Path], tmp_path: Path
) -> None:
    """Slot 9 claims slab 7777: whatever the beam brings there is doubted while it lies there."""
    with lied_to(honest, tmp_path, contradicts_the_beam(9, 7777)) as site:
        site.run(LATER)
        state = site.states[MIDDLE]
        assert state is not None
        (place,) = [k for k, each in enumerate(state.slabs) if each.doubt]
        assert leaving_sd_k(state, [7 * k for k in range(FURNACE.slots)])[place] > 11.0
        assert len(set(subjects(site))) == len(subjects(site)) >= 3
        assert all("record says slab 7777" in e.message for e in site.told("fault"))
        assert site.told("plan") == []
        is_over(site)


def test_a_slab_that_vanishes(honest: tuple[BrokenFurnace, Path], tmp_path: Path) -> None:
    """Its record is gone for forty minutes: it is carried on, its forecast wider."""
    number = int(honest[0].works.in_slot[11].number)
    with lied_to(honest, tmp_path, vanishes(number)) as site:
        planned_around(site, number, f"slab {number}")


def test_a_thickness_of_nothing(honest: tuple[BrokenFurnace, Path], tmp_path: Path) -> None:
    """0 mm: a neighbour's is taken, and the slab's forecast is wider."""
    number = int(honest[0].works.in_slot[11].number)
    with lied_to(honest, tmp_path, has_thickness(number)) as site:
        planned_around(site, number, f"slab {number}")


def test_a_thickness_of_nothing_in_the_yard(
    honest: tuple[BrokenFurnace, Path], tmp_path: Path
) -> None:
    """The slab waits at place 14: it is in doubt before it is charged."""
    number = int(honest[0].works.in_slot[0].number) + 14
    with lied_to(honest, tmp_path, has_thickness(number)) as site:
        site.run(MIDDLE)
        state = site.states[MIDDLE]
        assert state is not None
        place = [slab.number for slab in state.yard].index(number)
        assert "thickness 0 mm" in state.yard_doubts[place]
        leaves = [7 * k for k in range(FURNACE.slots + len(state.yard))]
        coming_k = leaving_sd_k(state, leaves)[FURNACE.slots :]
        assert coming_k[place] > 11.0
        assert np.delete(coming_k, place).max() < 5.0
        assert subjects(site) == ["yard"]


def test_two_slabs_in_one_slot(honest: tuple[BrokenFurnace, Path], tmp_path: Path) -> None:
    """Slab A stands in slot 20 too, over the slab there: neither record is believed."""
    number = int(honest[0].works.in_slot[8].number)
    with lied_to(honest, tmp_path, lies_also_in(number, 20)) as site:
        planned_around(site, number, f"slab {number} twice")


def test_a_pyrometer_that_sticks(honest: tuple[BrokenFurnace, Path], tmp_path: Path) -> None:
    """Nothing is learned from it, and what was learned grows less sure slab by slab."""
    with lied_to(honest, tmp_path, pyrometer_shows(1234.5)) as site:
        site.run(after(hours=HISTORY_H, minutes=30))
        before = site.controller.tracker.learned.sd_percent(0)
        site.run(LIES_TO)
        learned = site.controller.tracker.learned
        assert learned.sd_percent(0) > before
        assert subjects(site) == ["discharge.temperature stuck"]
        assert site.told("plan") == []
        site.run(LATER)
        is_over(site)


def test_a_stop_that_never_ends(tmp_path: Path) -> None:
    """Past the longest stop: told, what is left of it ever less sure; it ends, and all goes on."""
    stop_s, expected_s = 4.2 * 3600.0, 1800.0
    furnace, readings = furnace_with_history(
        Works(SEED, FAIR, stops={172: (stop_s, expected_s)}, has_stops=False)
    )
    path = database_of(tmp_path / "plant.db", readings)
    with Historian.open(f"sqlite:///{path}") as historian:
        historian.register(PLANT)
        site = Site(furnace, historian)
        site.run(after(hours=11, minutes=30), every=timedelta(minutes=15))
        stood = {at: s for at, s in site.states.items() if s is not None and s.mill.stopped_since}
        spans = []
        for state in (stood[min(stood)], stood[max(stood)]):
            left = remaining(MILL, state)
            assert left is not None
            spans.append(left.quantile_s(0.95) - left.quantile_s(0.05))
        assert spans[1] > 2.0 * spans[0]
        assert subjects(site) == ["longest stop"]
        assert "longest stop of 180 min" in site.told("fault")[0].message
        assert site.told("plan") == []  # planned all the time
        assert site.controller.tracker.stops[-1].lasted_s == pytest.approx(stop_s, abs=60.0)
        is_over(site)


# --- hold


def test_records_that_left_the_beam_are_held_for(
    honest: tuple[BrokenFurnace, Path], tmp_path: Path
) -> None:
    """Every record one slot ahead: no plan until they agree again; then planning goes on alone."""
    with lied_to(honest, tmp_path, beam_counted_twice) as site:
        site.is_stopped = False
        while len(site.told("plan")) < 2 and site.furnace.now < LATER:
            site.run(site.furnace.now + FIVE_MIN)
        site.run(site.furnace.now + FIVE_MIN)
        site.is_stopped = True  # proposals since then would tell no more
        site.run(LATER)
        held, goes_on = site.told("plan")
        assert held.subject == PlanStatus.HELD_NO_STATE.value
        assert "28 of 28 slabs are in doubt" in held.message
        assert goes_on.subject == PlanStatus.SOLVED.value
        made = [at for at, planned in site.planned.items() if planned.proposal is not None]
        assert not [at for at in made if held.at <= at < goes_on.at]
        assert made[-1] > goes_on.at
        assert site.planned[MIDDLE].reason.startswith("holding: ")
        assert "beam" in subjects(site)
        is_over(site)


def test_a_fault_that_stands_is_told_once_whoever_plans(
    honest: tuple[BrokenFurnace, Path], tmp_path: Path
) -> None:
    """The planner dies in the middle of it: the next one finds the fault and its row."""
    number = int(honest[0].works.in_slot[11].number)
    with lied_to(honest, tmp_path, vanishes(number)) as site:
        site.run(MIDDLE)
        site.restart()
        site.run(LATER)
        assert [e.subject for e in site.told("fault")] == [f"slab {number}"] * 2
        is_over(site)


def test_most_slabs_in_doubt_or_unsure_are_a_reason_to_hold() -> None:
    """Half of them are not; one more is."""
    state, half = full_furnace(), FURNACE.slots // 2
    for count, is_held in ((half, False), (half + 1, True)):
        doubted = [replace(s, doubt="no record") for s in state.slabs[:count]]
        unsure = [replace(s, sd_k=16.0) for s in state.slabs[:count]]
        rest = state.slabs[count:]
        for slabs in (doubted, unsure):
            reasons = reasons_to_hold(FURNACE, replace(state, slabs=(*slabs, *rest)))
            assert bool(reasons) is is_held
            assert not reasons or f"{count} of 28 slabs" in reasons[0]


def test_an_unlearned_grade_is_a_reason_to_hold() -> None:
    """Nobody knows what its slabs take up: all of them may leave out of spec."""
    state = replace(full_furnace(), emissivity_sd_k={0: 20.0})
    assert "known to no better than ±15 K" in reasons_to_hold(FURNACE, state)[0]


def test_an_unknown_furnace_is_held_for_in_the_words_of_its_faults() -> None:
    """A silent thermocouple is named; before anything was seen there is nothing to name."""
    fault = Fault("zone_2.temperature unknown", "zone_2.temperature: silent for over 30 min", START)
    assert reasons_to_hold(FURNACE, None, [fault]) == (fault.message,)
    assert reasons_to_hold(FURNACE, None) == ("no zone or slab has been seen yet",)


def test_a_furnace_taken_over_is_held_for_until_its_slabs_are_known(
    honest: tuple[BrokenFurnace, Path],
) -> None:
    """Whoever first sees it now plans in an hour or so, and not before."""
    furnace = honest[0].fork()
    samples = furnace.advance_samples(after(hours=HISTORY_H + 3))
    past = window(PLANT, samples, furnace.now, 170)
    tracker, held_min = Tracker(FURNACE, MILL), 0
    for row in range(past.rows):
        at = past.end - timedelta(minutes=past.rows - 1 - row)
        minute = {tag: past.values[tag][row : row + 1] for tag in tracker.tags}
        tracker.observe(replace(past, end=at, values=minute))
        held_min += bool(reasons_to_hold(FURNACE, tracker.state(), tracker.faults))
    assert 40 <= held_min <= 120
    assert reasons_to_hold(FURNACE, tracker.state(), tracker.faults) == ()


def test_a_furnace_that_is_emptied_is_tracked_in_doubt_and_then_held_for(
    honest: tuple[BrokenFurnace, Path],
) -> None:
    """No slab comes any more: empty slots are taken to hold slabs, until most of them are."""
    last = int(honest[0].works.in_slot[0].number)
    furnace = honest[0].fork()
    assert isinstance(furnace, BrokenFurnace)
    begun = Tracker(FURNACE, MILL)

    def comes_no_more(truth: object, told: dict[str, float]) -> None:
        for tag in [t for t in told if t.endswith(".slab") and told[t] > last]:
            for part in ("slab", "thickness", "charge", "grade", "rate"):
                told[tag.replace(".slab", f".{part}")] = 0.0
        if told["discharge.slab"] > last:
            told["discharge.slab"] = float(last)

    furnace._lies, furnace._since, furnace._until = (comes_no_more,), furnace.now, after(days=9)
    samples = furnace.advance_samples(after(hours=HISTORY_H + 4))
    past = window(PLANT, samples, furnace.now, 230)
    is_held = []
    for row in range(past.rows):
        at = past.end - timedelta(minutes=past.rows - 1 - row)
        minute = {tag: past.values[tag][row : row + 1] for tag in begun.tags}
        begun.observe(replace(past, end=at, values=minute))
        state = begun.state()
        assert state is not None
        assert len(state.slabs) == FURNACE.slots
        is_held.append(sum(bool(each.doubt) for each in state.slabs) > 14)
        assert bool(reasons_to_hold(FURNACE, state)) or not is_held[-1]
    assert is_held[-1]
    assert not is_held[75]


# --- on record


def fault(subject: str, began_min: int, ended_min: int | None = None) -> Fault:
    ended = None if ended_min is None else after(minutes=ended_min)
    return Fault(subject, f"{subject} is wrong", after(minutes=began_min), ended)


@pytest.fixture
def audit(tmp_path: Path) -> Iterator[Historian]:
    with Historian.create(f"sqlite:///{tmp_path / 'plant.db'}") as historian:
        historian.register(PLANT)
        yield historian


def rows(audit: Historian) -> list[tuple[str, float]]:
    """What is told, with its minute, the oldest first."""
    events = reversed(audit.events(PLANT, kind="fault"))
    return [(e.message, (e.at - START) / timedelta(minutes=1)) for e in events]


def tell(audit: Historian, faults: Sequence[Fault], now_min: int, since_min: int | None) -> None:
    since = None if since_min is None else after(minutes=since_min)
    tell_faults(audit, PLANT, faults, after(minutes=now_min), since=since)


def test_beginning_and_end_are_told_once(audit: Historian) -> None:
    """Every minute the same fault: one row; when it is over, another; then a new one."""
    for minute in (5, 6, 7):
        tell(audit, [fault("a", 5)], minute, minute - 1)
    for minute in (8, 9):
        tell(audit, [fault("a", 5, 8)], minute, minute - 1)
    tell(audit, [fault("a", 5, 8), fault("a", 20)], 20, 9)
    assert rows(audit) == [("a is wrong", 5.0), ("over: a is wrong", 8.0), ("a is wrong", 20.0)]
    (standing,) = standing_faults(audit, PLANT)
    assert (standing.subject, standing.at) == ("a", after(minutes=20))


def test_what_began_and_ended_between_two_rounds_is_told_too(audit: Historian) -> None:
    """Three minutes of a fault inside one round's five."""
    tell(audit, [fault("a", 11, 14)], 15, 10)
    assert rows(audit) == [("a is wrong", 11.0), ("over: a is wrong", 14.0)]


def test_a_new_process_tells_what_stands_and_ends_what_does_not(audit: Historian) -> None:
    """It cannot know what was told of the past it reads again."""
    tell(audit, [fault("a", 5), fault("b", 6)], 7, 6)
    tell(audit, [fault("old", 1, 4), fault("a", 5)], 30, None)
    told = [message for message, _ in rows(audit)]
    assert told == ["a is wrong", "b is wrong", "over: b is wrong"]


def test_a_fault_keeps_its_first_words_and_ends_after_three_quiet_minutes() -> None:
    """One stretch with a gap of two minutes; its end is kept."""
    faults = Faults()
    for minute in (0, 1, 4):
        faults.note("a", f"wrong since {minute}", after(minutes=minute))
        assert [f.message for f in faults.present(after(minutes=minute))] == ["wrong since 0"]
    assert len(faults.present(after(minutes=6))) == 1
    assert faults.present(after(minutes=7)) == ()
    assert faults.past == (Fault("a", "wrong since 0", START, after(minutes=7)),)


# --- what stays known


def test_stops_of_weeks_are_learned_from_though_tracking_forgets(
    honest: tuple[BrokenFurnace, Path],
) -> None:
    """The record of all stops is read once; a tracking that begins anew keeps them."""
    with Historian.open(f"sqlite:///{honest[1]}") as historian:
        historian.register(PLANT)
        stops = recorded_stops(historian, PLANT, after(hours=HISTORY_H))
        samples = historian.samples(
            PLANT, (MILL.running, MILL.stopped_at, MILL.expected_restart), START, after(hours=6)
        )
    record = StopRecord()
    record.follow(MILL, window(PLANT, samples, after(hours=HISTORY_H), HISTORY_H * 60))
    assert len(stops) >= 1
    assert stops == record.past
    controller = SlabController(PLANT, stops=stops)
    controller.use(controller.model, forget=True)
    assert controller.tracker.stops == stops
    state = controller.tracker._mill.state(START)
    assert state.stops is not None
    assert state.stops.past == len(stops)


def test_a_stop_seen_twice_counts_once(honest: tuple[BrokenFurnace, Path]) -> None:
    """Read from the record and then observed again: the same stop, by its beginning."""
    with Historian.open(f"sqlite:///{honest[1]}") as historian:
        historian.register(PLANT)
        stops = recorded_stops(historian, PLANT, after(hours=HISTORY_H))
        controller = SlabController(PLANT, stops=stops)
        samples = historian.samples(PLANT, controller.followed_tags, START, after(hours=HISTORY_H))
    controller.observe(samples, after(hours=HISTORY_H), 330)
    assert [stop.began_s for stop in controller.tracker.stops] == [s.began_s for s in stops]


def test_walls_go_on_soaking_while_fuel_is_unseen(honest: tuple[BrokenFurnace, Path]) -> None:
    """An hour without a fuel meter: walls follow the gas as they would have with one."""
    furnace = honest[0].fork()
    samples = furnace.advance_samples(after(hours=HISTORY_H + 3))
    past = window(PLANT, samples, furnace.now, 170)
    blind = {tag: series.copy() for tag, series in past.values.items()}
    for zone in FURNACE.zones:
        blind[zone.fuel][60:] = math.nan
    walls = []
    for values in (past.values, blind):
        tracker = Tracker(FURNACE, MILL)
        tracker.observe(replace(past, values=values))
        state = tracker.state()
        assert state is not None
        walls.append([zone.wall_c for zone in state.zones])
    assert walls[1] == pytest.approx(walls[0], abs=1e-6)


def test_the_interlock_holds_no_longer_than_it_has_held() -> None:
    """After a stop of 40 min the slab at the door was due long ago, and held for no minute yet."""
    mill, tags = MillWatch(MILL, Faults()), MillWatch(MILL, Faults()).tags

    def see(minute: int, running: float, began_s: float = 0.0, *, is_held: bool = False) -> None:
        numbers = (running, began_s, began_s and began_s + 600.0, 1.0)
        mill.see(after(minutes=minute), dict(zip(tags, numbers, strict=True)), is_held=is_held)

    see(0, 1.0)
    mill.slab_left(after(minutes=0), 420.0)
    for minute in range(1, 41):
        see(minute, 0.0, after(minutes=1).timestamp())
    see(41, 1.0)
    state = replace(full_furnace(), at=after(minutes=42))
    rolls = mill.state(after(minutes=42))
    assert rolls.due == after(minutes=41)
    assert live(FURNACE, MILL, replace(state, mill=rolls), Luck(1, 0)).rolling.held_s == 0.0
    for minute in (42, 43, 44):
        see(minute, 1.0, is_held=True)
    held = replace(state, at=after(minutes=44), mill=mill.state(after(minutes=44)))
    assert live(FURNACE, MILL, held, Luck(1, 0)).rolling.held_s == 120.0


def test_a_forecast_is_as_unsure_of_a_yard_record_as_tracking_is() -> None:
    """In doubt, and wider than its neighbours."""
    state = full_furnace()
    doubts = ("", "slab 129: thickness 0 mm", *[""] * 14)
    found = slab_forecast(
        PLANT, replace(state, yard_doubts=doubts), HOLD, seed=5, replications=12, steps=300
    )
    by_number = {each.number: each for each in found.slabs}
    assert by_number[129].doubt == "slab 129: thickness 0 mm"
    assert by_number[129].sd_k > by_number[128].sd_k + 5.0
