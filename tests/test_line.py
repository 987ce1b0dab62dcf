"""The furnace line: slabs keep their order, nothing is lost, and a run can be cut anywhere."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest
from furnace_line import (
    AT,
    COLD,
    FURNACE,
    HOLD,
    HOT,
    MILL,
    PLANT,
    full_furnace,
    stands,
    with_blocks,
)
from pydantic import TypeAdapter

from twin.furnace.numbers import numbers
from twin.furnace.rollout import Rollout, rolling_s
from twin.furnace.state import DOUBT_SD_K, TRACKED_SD_K, FurnaceState
from twin.furnace.steel import enthalpy, steel
from twin.furnace.stops import remaining, stop_belief
from twin.plant import Plant
from twin.records import Series
from twin.simulation.line import LineRun, simulate_line
from twin.simulation.line_state import LineSlab, LineState, Luck, SureStop, live
from twin.simulation.line_steering import Policy
from twin.simulation.line_steering import seen as seen_by_planner

CALM = with_blocks(mean_between_h=8e5)  # no stops
STEADY = with_blocks(CALM, gap_sd=0.0, hold_below_c=0.0)  # and nobody holds or hurries a slab


def _run(
    plant: Plant = PLANT,
    state: FurnaceState | LineState | None = None,
    moves: Mapping[str, Series] | None = None,
    *,
    seed: int = 1,
    steps: int = 200,
    replication: int = 0,
    policy: Policy | None = None,
) -> LineRun:
    return simulate_line(
        plant,
        state or full_furnace(),
        HOLD if moves is None else moves,
        seed=seed,
        steps=steps,
        replication=replication,
        policy=policy,
    )


def _stops(run: LineRun) -> list[tuple[int, float]]:
    """After which slab each stop came, and how long it lasted if it ended."""
    found, last, began_s = [], 0, 0.0
    for event in run.events:
        if event.what == "leaves":
            last = event.item
        elif event.what == "stops":
            began_s = event.at_s
        elif event.what == "goes on":
            found.append((last, round(event.at_s - began_s, 3)))
    return found


def test_slabs_leave_in_their_order_and_none_is_lost() -> None:
    """What was charged and has not left is inside, one place behind the other."""
    for replication in range(20):
        run = _run(steps=240, replication=replication)
        left = [each.slab.number for each in run.left]
        assert left == list(range(100, 100 + len(left)))
        assert all(before.at < after.at for before, after in pairwise(run.left))
        came = [slab.number for slab in run.charged]
        assert came == list(range(128, 128 + len(came)))
        inside = [each.slab.number for each in run.end.slabs]
        assert inside == list(range(100 + len(left), 128 + len(came)))
        assert len(inside) == FURNACE.slots


def _heat_j(slabs: tuple[LineSlab, ...]) -> float:
    kg = [each.slab.thickness_m * numbers(FURNACE).face_m2 * 7850.0 for each in slabs]
    return sum(m * float(np.mean(each.enthalpy)) for m, each in zip(kg, slabs, strict=True))


def test_slabs_have_the_heat_that_they_took() -> None:
    """Inside at the start, charged and taken up, less what left, is inside at the end."""
    begin = live(FURNACE, MILL, full_furnace(), Luck(1, 0))
    run = _run(state=begin)
    left_j = sum(each.heat_j for each in run.left)
    account_j = _heat_j(begin.slabs) + run.charged_j + run.taken_j - left_j
    assert len(run.left) > 15
    assert _heat_j(run.end.slabs) == pytest.approx(account_j, rel=1e-9)


def test_a_furnaces_fuel_goes_where_heat_goes() -> None:
    """An hour of a standing mill at steady zones: fuel is flue gas, skids, walls and slabs."""
    standing = _run(state=full_furnace(stands(1.0, 400.0)), steps=60)
    run = _run(state=standing.end, steps=60)
    assert not run.left
    gas_c = np.array([run.values[zone.temperature] for zone in FURNACE.zones])
    assert np.ptp(gas_c, axis=1).max() < 1e-6
    n, gas = numbers(FURNACE), gas_c[:, 0]
    fuel_w = 1e6 * np.array([run.values[zone.fuel] for zone in FURNACE.zones]).mean(axis=1)
    air_c = min(n.preheat_share * gas[0], n.preheat_highest_c)
    flue = fuel_w.sum() * gas[0] * (n.flue[0] + n.flue[1] * gas[0])
    water = float((n.skid_w * ((gas + 273.15) / 1473.15) ** 4).sum())
    walls = [(a.wall_c, b.wall_c) for a, b in zip(standing.end.zones, run.end.zones, strict=True)]
    before_c, after_c = np.array(walls).T
    walls_w = float(n.lump_to_wall @ (gas - 0.5 * (before_c + after_c)))
    needed_w = flue + water + walls_w + run.taken_j / 3600.0
    assert fuel_w.sum() * (1.0 + n.air_per_k * (air_c - 25.0)) == pytest.approx(needed_w, rel=1e-3)


def test_a_slab_leaves_exactly_when_the_mill_wants_it() -> None:
    """No grain of a minute: the time between two slabs is the one's rolling time over the pace."""
    pace = {**HOLD, MILL.pace: np.array([0.8])}
    wanted_s = rolling_s(FURNACE, COLD) / 0.8
    run = _run(STEADY, moves=pace)
    apart_s = [(b.at - a.at).total_seconds() for a, b in pairwise(run.left)]
    assert len(apart_s) > 15
    assert apart_s == pytest.approx([wanted_s] * len(apart_s), abs=1e-5)
    assert any(each.at.second for each in run.left)


def test_the_line_agrees_with_the_rollout() -> None:
    """Slabs that leave on whole minutes, nothing drawn: the two ways to move them are one."""
    rate = rolling_s(FURNACE, COLD) * COLD.rate_t_per_h / 420.0  # a slab every 7 min
    state = full_furnace()
    state = dataclasses.replace(
        state,
        slabs=tuple(
            dataclasses.replace(each, slab=dataclasses.replace(each.slab, rate_t_per_h=rate))
            for each in state.slabs
        ),
    )
    begin = live(FURNACE, MILL, state, Luck(1, 0))
    path = np.tile([HOLD[zone.setpoint][0] - 20.0 for zone in FURNACE.zones], (70, 1))
    passage = Rollout(FURNACE, state, [3 + 7 * i for i in range(10)]).run(path)
    sure = tuple(
        dataclasses.replace(
            each,
            node_c=known.node_c,
            face_c=known.face_c,
            enthalpy=tuple(enthalpy(steel(FURNACE), np.array(known.node_c)).tolist()),
            emissivity=FURNACE.emissivity,
        )
        for each, known in zip(begin.slabs, state.slabs, strict=True)
    )
    rolling = dataclasses.replace(begin.rolling, due_s=begin.at_s + 180.0)
    begin = dataclasses.replace(begin, slabs=sure, rolling=rolling)
    moves = {zone.setpoint: path[:, z] for z, zone in enumerate(FURNACE.zones)}
    run = _run(STEADY, state=begin, moves=moves, steps=70)
    assert len(run.left) == 10
    assert [each.mean_c for each in run.left] == pytest.approx(passage.mean_c.tolist(), abs=1e-3)


@pytest.mark.parametrize("cut", [1, 37, 60, 113])
def test_a_run_that_is_cut_and_built_up_again_goes_on_exactly(cut: int) -> None:
    """Stopped at any minute, stored as JSON and continued, it is the uninterrupted run."""
    adapter = TypeAdapter(LineState)
    lively = with_blocks(mean_between_h=0.7)
    for replication in range(12):
        cold = full_furnace(warmer_k=-15.0)
        whole = _run(lively, cold, steps=150, replication=replication)
        first = _run(lively, cold, steps=cut, replication=replication)
        stored = adapter.validate_json(adapter.dump_json(first.end))
        rest = _run(lively, stored, steps=150 - cut, replication=replication)
        assert (*first.events, *rest.events) == whole.events
        assert (*first.left, *rest.left) == whole.left
        assert rest.end == whole.end
        for tag in (FURNACE.fuel, MILL.running, FURNACE.interlock):
            joined = np.concatenate([first.values[tag], rest.values[tag]])
            assert joined == pytest.approx(whole.values[tag], abs=1e-9)


def test_a_cold_slab_waits_but_not_for_ever() -> None:
    """The plant's interlock: ten minutes at most, and the tag says so; a hot slab never waits."""
    frozen = _run(CALM, full_furnace(warmer_k=-150.0), steps=40)
    held = frozen.left[0].held_s
    assert 600.0 <= held < 660.0
    assert frozen.values[FURNACE.interlock].sum() * 60.0 == pytest.approx(
        sum(each.held_s for each in frozen.left), abs=600.0
    )
    hot = _run(CALM, full_furnace(warmer_k=60.0), steps=40)
    assert {each.held_s for each in hot.left} == {0.0}
    assert not hot.values[FURNACE.interlock].any()
    lukewarm = [
        each
        for replication in range(10)
        for each in _run(CALM, full_furnace(), steps=60, replication=replication).left
        if 0.0 < each.held_s < 600.0
    ]
    assert lukewarm
    assert {each.at.second for each in lukewarm} == {0}  # its tracker looks once a minute


def test_two_plans_on_one_seed_meet_the_same_stops_and_slabs() -> None:
    """A stop belongs to a slab: colder zones or a slower mill change when it comes, not where."""
    lively = with_blocks(mean_between_h=0.7)
    colder = {tag: path - 40.0 for tag, path in HOLD.items()}
    slower = {**HOLD, MILL.pace: np.array([0.9])}
    compared = 0
    for replication in range(10):
        runs = [
            _run(lively, moves=moves, replication=replication) for moves in (HOLD, colder, slower)
        ]
        stops = [_stops(run) for run in runs]
        common = min(map(len, stops))
        compared += common
        assert stops[0][:common] == stops[1][:common] == stops[2][:common]
        for other in runs[1:]:
            count = min(len(runs[0].charged), len(other.charged))
            assert runs[0].charged[:count] == other.charged[:count]
    assert compared > 10
    assert _stops(_run(lively, seed=2)) != _stops(_run(lively, seed=1))


def test_stops_come_and_last_as_the_plant_file_says() -> None:
    """Exponential in scheduled rolling, log-normal in length: over many replications."""
    often = with_blocks(mean_between_h=1.0)
    runs = [_run(often, steps=240, replication=replication) for replication in range(400)]
    rolled_h = sum(rolling_s(FURNACE, each.slab) for run in runs for each in run.left) / 3600.0
    begun = sum(event.what == "stops" for run in runs for event in run.events)
    # At most one stop follows a slab.
    slab_h = rolling_s(FURNACE, COLD) / 3600.0
    assert begun == pytest.approx(rolled_h * (1.0 - np.exp(-slab_h)) / slab_h, rel=0.1)
    # Those that follow one of the first slabs have had the time to end.
    lasted_s = [length for run in runs for after, length in _stops(run) if after < 104]
    assert len(lasted_s) > 100
    assert np.median(lasted_s) == pytest.approx(stop_belief(MILL).median_s, rel=0.2)
    assert np.log(lasted_s).std() == pytest.approx(MILL.stop_sigma, rel=0.2)


def test_a_standing_mill_takes_nothing_until_it_goes_on() -> None:
    """No slab moves, the tag says so, and what is left of the stop is as its age leaves it."""
    state = full_furnace(stands(10.0, 15.0))
    runs = [_run(CALM, state, steps=240, replication=i) for i in range(100)]
    restarts_s = np.array([next(e.at_s for e in r.events if e.what == "goes on") for r in runs])
    for run, restart_s in zip(runs, restarts_s, strict=True):
        assert run.left[0].at.timestamp() >= restart_s - 1e-5
        stood_min = (1.0 - run.values[MILL.running]).sum()
        assert stood_min == pytest.approx((restart_s - AT.timestamp()) / 60.0, abs=1e-6)
    left = remaining(MILL, state)
    assert left is not None
    assert (restarts_s - AT.timestamp()).mean() == pytest.approx(left.mean_s(), rel=0.25)


def test_the_yard_goes_on_like_what_was_seen() -> None:
    """Known slabs first, then more of the last campaign, then campaigns of kinds seen before."""
    ends = set()
    for replication in range(10):
        charged = _run(CALM, steps=900, replication=replication).charged
        assert [slab.number for slab in charged] == list(range(128, 128 + len(charged)))
        kinds = [dataclasses.replace(slab, number=0) for slab in charged]
        assert len(kinds) > 60
        assert kinds[:16] == [HOT] * 16
        assert set(kinds) <= {HOT, COLD}
        ends.add(next((i for i, kind in enumerate(kinds) if kind != HOT), 0))
    assert len(ends) > 3  # nobody knows how long that campaign is


# -- steered round by round ------------------------------------------------------------------------


def test_a_constant_policy_is_fixed_moves() -> None:
    """Asked every five minutes and answering the same: every slab, event and number is the same."""
    colder = {tag: path - 20.0 for tag, path in HOLD.items()} | {MILL.pace: np.array([0.95])}
    constant = {tag: float(path[0]) for tag, path in colder.items()}
    lively = with_blocks(mean_between_h=0.7)
    for replication in range(5):
        fixed = _run(lively, moves=colder, replication=replication)
        run = _run(lively, replication=replication, policy=lambda seen: constant)
        assert run.events == fixed.events
        assert run.left == fixed.left
        assert run.end.slabs == fixed.end.slabs
        for tag, path in fixed.values.items():
            assert np.array_equal(run.values[tag], path, equal_nan=True), tag


def test_what_a_policy_says_holds_from_then_on() -> None:
    """A setpoint named in one round stays in the next ones, and the others where they were."""
    zone, other = (FURNACE.zones[z].setpoint for z in (0, 1))
    answers = iter([{}, {zone: 900.0}])
    run = _run(CALM, steps=30, policy=lambda seen: next(answers, {}))
    assert run.values[zone].tolist() == [HOLD[zone][0]] * 5 + [900.0] * 25
    assert run.values[other].tolist() == [HOLD[other][0]] * 30


def test_a_policy_is_asked_every_round_and_when_the_mill_stops_or_goes_on() -> None:
    """Five minutes apart at most; in the minute after a stop or a restart besides."""
    asked: list[FurnaceState] = []
    lively = with_blocks(mean_between_h=0.7)

    def note(seen: FurnaceState) -> dict[str, float]:
        asked.append(seen)
        return {}

    run = _run(lively, policy=note)
    minutes = [(seen.at - AT).total_seconds() / 60.0 for seen in asked]
    assert minutes[0] == 0.0
    assert max(after - before for before, after in pairwise(minutes)) == 5.0
    turns_min = [
        (event.at_s - AT.timestamp()) / 60.0
        for event in run.events
        if event.what in ("stops", "goes on")
    ]
    assert len(turns_min) >= 2
    for turn_min in turns_min:
        assert any(0.0 <= minute - turn_min <= 1.0 for minute in minutes)


@pytest.mark.parametrize("sd_k", [TRACKED_SD_K, DOUBT_SD_K, 40.0])
def test_a_policy_sees_what_tracking_would_and_no_more(sd_k: float) -> None:
    """At first what was tracked; then the yard, a stop since when and how long its crew thinks."""
    asked: list[FurnaceState] = []

    def note(seen: FurnaceState) -> dict[str, float]:
        asked.append(seen)
        return {}

    state = full_furnace(sd_k=sd_k, doubt="its record is gone")
    stop = SureStop(AT.timestamp() + 1800.0, 2400.0)
    luck = Luck(1, 0)
    begin = live(FURNACE, MILL, state, luck)
    begin = dataclasses.replace(
        begin, rolling=dataclasses.replace(begin.rolling, sure_stops=(stop,))
    )
    run = _run(CALM, begin, steps=120, policy=note)
    first = asked[0]
    assert first.yard == state.yard
    assert first.mill == state.mill
    for seen, known in zip(first.slabs, state.slabs, strict=True):
        assert seen.slab == known.slab
        assert seen.node_c == pytest.approx(known.node_c, abs=1e-6)
        assert seen.face_c == pytest.approx(known.face_c, abs=1e-6)
        assert (seen.sd_k, seen.doubt) == (known.sd_k, known.doubt)
    standing = [seen for seen in asked if seen.mill.stopped_since is not None]
    (began_s,) = {
        seen.mill.stopped_since.timestamp() for seen in standing if seen.mill.stopped_since
    }
    assert began_s == next(event.at_s for event in run.events if event.what == "stops")
    (restart,) = {seen.mill.expected_restart for seen in standing}
    assert restart is not None
    expected_s = restart.timestamp() - began_s
    assert 0.3 * 2400.0 < expected_s < 3.0 * 2400.0
    assert expected_s != pytest.approx(2400.0, abs=1.0)  # its crew errs
    assert all(len(seen.yard) == FURNACE.yard_places for seen in asked)
    for seen in asked:
        following = [slab.number for slab in seen.yard]
        next_number = seen.slabs[-1].slab.number + 1
        assert following == list(range(next_number, next_number + len(following)))


def test_what_a_policy_is_told_of_a_slab_is_off_by_what_it_is_told() -> None:
    """An hour on: what was guessed is surer by e, a record in doubt is not; nobody is too sure."""
    state = full_furnace(stands(10.0, 400.0), sd_k=40.0, doubt="its record is gone")
    off: list[list[float]] = []
    for replication in range(40):
        end = _run(CALM, state, steps=60, replication=replication).end
        told = seen_by_planner(end, state.yard)
        assert told.slabs[0].sd_k == DOUBT_SD_K
        assert told.slabs[0].doubt == "its record is gone"
        unusual_k = math.sqrt(40.0**2 - TRACKED_SD_K**2) * math.exp(-1.0)
        guessed_k = [each.sd_k for each in told.slabs[1:]]
        assert guessed_k == pytest.approx([math.hypot(unusual_k, TRACKED_SD_K)] * len(guessed_k))
        off.append(
            [
                (each.node_c[0] - true.node_c[0]) / each.sd_k
                for each, true in zip(told.slabs, end.slabs, strict=True)
            ]
        )
    # The last ones are so cold that no table reaches as far down as the guess.
    spread = np.array(off)[:, :20]
    assert np.abs(spread.mean()) < 0.1
    assert spread.std() == pytest.approx(1.0, abs=0.1)
    assert spread[:, 0].std() == pytest.approx(1.0, abs=0.35)


def test_a_hot_slab_comes_in_as_its_record_tells() -> None:
    """What its record gets wrong is not seen, and fades like any wrong temperature."""
    fresh, older = [], []
    for replication in range(6):
        end = _run(STEADY, steps=90, replication=replication).end
        told = seen_by_planner(end, ())
        pairs = [
            (each, true)
            for each, true in zip(told.slabs, end.slabs, strict=True)
            if each.slab.number >= 128
        ]
        assert len(pairs) > 5
        fresh.append(pairs[-1])
        older.append(pairs[0])
    newest_k = np.array([true.node_c[0] - each.node_c[0] for each, true in fresh])
    assert 5.0 < newest_k.std() < 30.0
    assert all(10.0 < each.sd_k < 16.0 for each, _ in fresh)
    assert all(each.sd_k < 6.0 for each, _ in older)


def test_a_stop_that_is_sure_comes_once_and_lasts() -> None:
    """With the first slab after its time, for as long as it says; then the mill goes on."""
    begin = live(FURNACE, MILL, full_furnace(), Luck(1, 0))
    stops = (SureStop(AT.timestamp() + 1800.0, 2400.0), SureStop(AT.timestamp() + 7200.0, 600.0))
    rolling = dataclasses.replace(begin.rolling, sure_stops=stops)
    run = _run(CALM, dataclasses.replace(begin, rolling=rolling), steps=240)
    stood = [event for event in run.events if event.what in ("stops", "goes on")]
    assert [event.what for event in stood] == ["stops", "goes on"] * 2
    lasted_s = [
        after.at_s - before.at_s for before, after in zip(stood[::2], stood[1::2], strict=True)
    ]
    assert lasted_s == pytest.approx([2400.0, 600.0], abs=1e-3)
    for event, stop in zip(stood[::2], stops, strict=True):
        assert 0.0 <= event.at_s - stop.at_s < 600.0
    assert run.end.rolling.sure_stops == ()


def test_what_cannot_be_simulated_is_said() -> None:
    """A zone without setpoints, a furnace without slabs: an error with the value and a remedy."""
    zone = FURNACE.zones[1].setpoint
    with pytest.raises(ValueError, match=zone):
        _run(moves={tag: path for tag, path in HOLD.items() if tag != zone})
    with pytest.raises(ValueError, match="0 slabs are tracked"):
        _run(state=dataclasses.replace(full_furnace(), slabs=()))
