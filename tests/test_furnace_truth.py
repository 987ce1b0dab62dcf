"""The emulated furnace and its PLC: what they tell, what they take, what they refuse."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
import pytest
from broken_furnace import (
    BrokenFurnace,
    beam_counted_twice,
    contradicts_the_beam,
    has_thickness,
    lies_also_in,
    pyrometer_shows,
    vanishes,
    works_with_endless_stop,
)

from twin.errors import PlantFileError, UnknownTag
from twin.plant import Role, read_plant
from twin.plants.furnace import heating as ht
from twin.plants.furnace.baseline import FAIR
from twin.plants.furnace.truth import Truth
from twin.plants.furnace.works import Works
from twin.records import BAD, GOOD, Samples

PLANT = read_plant("furnace")
SEED = 1000  # a search seed: tests of the truth look at no held-back seed
START = datetime(2026, 1, 5, tzinfo=UTC)
ZONES = [f"zone_{z}" for z in range(1, 5)]
MVS = [tag.name for tag in PLANT.with_role(Role.MV)]


def new(**more: Any) -> Truth:
    """A furnace of its own, run in before."""
    return Truth(PLANT, **{"seed": SEED, "start": START, **more})


_begun = cache(new)


def truth() -> Truth:
    """The usual furnace at its start, quickly: a fork."""
    return _begun().fork()


def after(**span: float) -> datetime:
    return START + timedelta(**span)


def steer(plant: Truth, minute: int) -> None:
    """A computer that is well for half an hour and then falls silent."""
    if minute < 30 and minute % 7 == 0:
        assert plant.write("plc.heartbeat", minute) is None
        assert plant.write("zone_1.setpoint", 900.0 + minute) is None
        assert plant.write("pace.setpoint", 0.9) is None


@pytest.mark.parametrize("cut_s", [10, 70, 600])
def test_equal_writes_give_equal_readings_however_time_is_cut(cut_s: int) -> None:
    """By scans, across minutes or in long leaps: slabs, stops and a silent heartbeat included."""
    leaps, cuts = truth(), truth()
    one, other = [], []
    for minute in range(180):
        for plant in (leaps, cuts):
            steer(plant, minute)
        if minute < 35:  # both are written to at the same moments
            one += leaps.advance(after(minutes=minute + 1))
        for second in range(cut_s, 60, cut_s):
            other += cuts.advance(after(minutes=minute, seconds=second))
        other += cuts.advance(after(minutes=minute + 1))
    one += leaps.advance(after(minutes=180))
    assert one == other
    assert leaps.minutes == cuts.minutes


def test_long_cuts_change_nothing_either() -> None:
    """Hours at once, or pieces that end in the middle of a minute."""
    whole = truth().advance(after(hours=5))
    plant, cut = truth(), []
    for second in range(430, 5 * 3600, 430):
        cut += plant.advance(after(seconds=second))
    cut += plant.advance(after(hours=5))
    assert whole == cut


def test_samples_are_the_readings_column_by_column() -> None:
    """The same times and numbers; what is Bad is NaN."""
    readings, samples = truth().advance(after(hours=6)), truth().advance_samples(after(hours=6))
    assert list(samples) == [tag.name for tag in PLANT.tags]
    columns: dict[str, list[tuple[float, float | None]]] = {tag: [] for tag in samples}
    for each in readings:
        columns[each.tag].append((each.source_time.timestamp(), each.value))
    for tag, (times_s, values) in ((t, (s.times_s, s.values)) for t, s in samples.items()):
        np.testing.assert_array_equal(times_s, [time_s for time_s, _ in columns[tag]])
        expected = [np.nan if value is None else value for _, value in columns[tag]]
        np.testing.assert_array_equal(values, expected)


def test_fast_signals_come_with_every_scan_and_records_when_they_change() -> None:
    """Records come with the scan after a slab left, and all of them every ten minutes."""
    plant = truth()
    seen = plant.advance_samples(after(hours=4))
    assert len(seen["zone_1.temperature"].times_s) == 4 * 360
    left_s = [d.at_s + plant.zero.timestamp() for d in plant.discharged]
    left_s = [t for t in left_s if t >= START.timestamp()]
    grid_s = START.timestamp() + 600.0 * np.arange(1, 25)
    slot = seen["slot_03.slab"]
    told_s = sorted({START.timestamp() + 10.0, *(t + 10.0 for t in left_s), *grid_s})
    np.testing.assert_array_equal(slot.times_s, told_s)
    grade = seen["slot_03.grade"]  # a campaign's slabs are alike: seldom news
    assert set(grid_s) <= set(grade.times_s)
    assert len(grade.times_s) < len(slot.times_s)
    assert max(np.diff(grade.times_s)) == 600.0


def test_the_records_are_a_beam_that_steps() -> None:
    """What stood in a slot stands in the next one when a slab has left; the yard follows."""
    plant = truth()
    seen = plant.advance_samples(after(hours=2))
    held = {tag: _held(seen[tag], after(hours=2)) for tag in seen if tag.endswith(".slab")}
    order = [f"yard_{k:02}" for k in range(16, 0, -1)] + [f"slot_{k:02}" for k in range(1, 29)]
    rows = np.array([held[f"{place}.slab"] for place in order])
    assert np.all(np.diff(rows, axis=0) == -1), "numbers fall from the yard to the door"
    np.testing.assert_array_equal(rows[-1] - 1, held["discharge.slab"])
    last = plant.discharged[-1]
    assert seen["discharge.slab"].values[-1] == last.slab.number
    assert seen["discharge.tracker"].values[-1] == last.tracker_c


def _held(samples: Samples, until: datetime) -> np.ndarray:
    grid_s = np.arange(START.timestamp() + 10, until.timestamp() + 1, 10)
    held = samples.values[np.searchsorted(samples.times_s, grid_s, side="right") - 1]
    return np.nan_to_num(held, nan=-1.0)


def test_a_slab_that_the_pyrometer_did_not_see_is_bad_never_zero() -> None:
    """Some slabs in a hundred: no value, Bad quality, and no old value in its place."""
    plant = truth()
    shown = [r for r in plant.advance(after(hours=24)) if r.tag == "discharge.temperature"]
    out = [d for d in plant.discharged if d.slab.pyrometer_is_out]
    assert out
    assert {r.quality for r in shown} == {GOOD, BAD}
    assert all(r.value is None for r in shown if r.quality == BAD)
    assert min(r.value for r in shown if r.value is not None) > 1100.0
    bad_s = {r.source_time.timestamp() for r in shown if r.quality == BAD}
    for each in out:
        left_s = each.at_s + plant.zero.timestamp()
        assert left_s < START.timestamp() or left_s + 10.0 in bad_s


def test_without_a_heartbeat_the_plc_takes_no_setpoint() -> None:
    """A setpoint or REMOTE needs a computer that is known to be well; AUTO does not."""
    plant = truth()
    for name, value in (("zone_1.setpoint", 950.0), ("pace.setpoint", 0.9), ("zone_2.mode", 1)):
        refusal = plant.write(name, value)
        assert refusal is not None
        assert "heartbeat was never written" in refusal
    assert plant.write("zone_1.mode", 0) is None
    assert plant.write("plc.heartbeat", 1) is None
    assert plant.write("zone_1.setpoint", 950.0) is None


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("zone_1.setpoint", 1121.0, "outside the PLC's range 780 to 1120"),
        ("zone_4.setpoint", 1149.9, "outside the PLC's range 1150 to 1285"),
        ("zone_3.setpoint", float("nan"), "outside the PLC's range"),
        ("zone_3.setpoint", "hot", "'hot' is not a number"),
        ("zone_3.mode", 0.5, "neither 0 nor 1"),
        ("pace.setpoint", 1.06, "outside the PLC's range 0.8 to 1.05"),
        ("zone_5.setpoint", 1200.0, "no such writable node"),
        ("zone_1.fuel", 1.0, "no such writable node"),
    ],
)
def test_a_refused_write_says_why_and_changes_nothing(name: str, value: object, words: str) -> None:
    """The PLC's own ranges stand whatever the computer asks for."""
    plant = truth()
    plant.write("plc.heartbeat", 1)
    refusal = plant.write(name, value)
    assert refusal is not None
    assert words in refusal
    assert plant.advance(after(minutes=5)) == _heartbeaten().advance(after(minutes=5))


def _heartbeaten() -> Truth:
    plant = truth()
    plant.write("plc.heartbeat", 1)
    return plant


def test_every_engineering_limit_of_an_mv_is_the_plcs() -> None:
    """Inside the plant file's range the PLC takes a setpoint, just outside it does not."""
    plant = _heartbeaten()
    for name in MVS:
        limits = PLANT.tag(name).engineering
        assert limits is not None
        for value, off in ((limits.low, -1e-3), (limits.high, 1e-3)):
            assert value is not None
            assert plant.write(name, value) is None
            assert plant.write(name, value + off) is not None


def test_each_loop_goes_remote_alone_and_shows_it() -> None:
    """A written zone is in REMOTE with our setpoint, its neighbours follow the level 2."""
    plant = _heartbeaten()
    plant.write("zone_2.setpoint", 1111.0)
    seen = plant.advance_samples(after(minutes=3))
    modes = {zone: set(seen[f"{zone}.mode"].values) for zone in ZONES}
    assert modes == {"zone_1": {0}, "zone_2": {1}, "zone_3": {0}, "zone_4": {0}}
    assert set(seen["zone_2.setpoint"].values) == {1111.0}
    assert set(seen["pace.mode"].values) == {0.0}
    assert plant.read("zone_2.setpoint") == 1111.0
    plant.write("zone_2.mode", 0)
    seen = plant.advance_samples(after(minutes=6))
    assert set(seen["zone_2.mode"].values) == {0.0}
    assert seen["zone_2.setpoint"].values[-1] == truth_at(minutes=6)["zone_2.setpoint"]


def truth_at(minutes: float) -> dict[str, float]:
    seen = truth().advance_samples(after(minutes=minutes))
    return {tag: samples.values[-1] for tag, samples in seen.items() if len(samples.values)}


@pytest.mark.parametrize("how", ["mode", "silence", "stop"])
def test_every_way_back_to_auto_is_without_a_bump(how: str) -> None:
    """The setpoint that the loop follows never moves faster than 5 K/min up and 8 K/min down."""
    plant, paths = truth(), []
    for minute in range(60):
        if minute <= 20:
            plant.write("plc.heartbeat", minute)
            plant.write("zone_1.setpoint", 790.0)
            plant.write("pace.setpoint", 0.85)
        if minute == 20 and how == "mode":
            plant.write("zone_1.mode", 0)
            plant.write("pace.mode", 0)
        if minute == 20 and how == "stop":
            plant.write("plc.stop", 1)
        paths.append(plant.advance_samples(after(minutes=minute + 1)))
    followed = np.concatenate([p["zone_1.active_setpoint"].values for p in paths])
    per_min = 6.0 * np.diff(followed)
    assert per_min.min() >= -ht.RAMP_DOWN_K_PER_MIN - 1e-6
    assert per_min.max() <= ht.RAMP_UP_K_PER_MIN + 1e-6
    assert per_min.max() > 0.9 * ht.RAMP_UP_K_PER_MIN
    for loop in ("zone_1", "pace"):
        mode = np.concatenate([p[f"{loop}.mode"].values for p in paths])
        back_min = 20 if how != "silence" else 30
        assert np.flatnonzero(np.diff(mode)).tolist() == [6 * back_min - (how != "silence")]
    assert plant.read("pace.setpoint") == 1.0


def test_a_set_stop_refuses_remote_until_it_is_released() -> None:
    """And every loop stands in AUTO meanwhile."""
    plant = _heartbeaten()
    for name in MVS:
        plant.write(name, PLANT.tag(name).operator.low)  # type: ignore[union-attr]  # MVs have limits
    assert plant.write("plc.stop", 1) is None
    assert plant.is_stopped
    assert [plant.read(name.replace("setpoint", "mode")) for name in MVS] == [0.0] * 5
    assert "stop is set" in (plant.write("zone_3.setpoint", 1200.0) or "")
    assert plant.write("plc.stop", 0) is None
    assert plant.write("zone_3.setpoint", 1200.0) is None


def test_reading_what_is_no_writable_node_is_a_wrong_call() -> None:
    """Writable nodes answer, others do not exist for a reader."""
    plant = _heartbeaten()
    assert plant.read("plc.heartbeat") == START.timestamp()
    assert plant.read("plc.stop") == 0.0
    with pytest.raises(UnknownTag, match=r"zone_1\.fuel"):
        plant.read("zone_1.fuel")


def test_windup_flags_say_when_a_loop_has_nothing_left_to_give() -> None:
    """All zones asked for their most: burners and header at their ends, and flagged; never more."""
    plant = truth()
    flags, fuel = [], []
    for minute in range(90):
        plant.write("plc.heartbeat", minute)
        for zone in ZONES:
            limits = PLANT.tag(f"{zone}.setpoint").engineering
            assert limits is not None
            plant.write(f"{zone}.setpoint", limits.high)
        seen = plant.advance_samples(after(minutes=minute + 1))
        flags.append([seen[f"{zone}.windup"].values for zone in ZONES])
        fuel.append([seen[f"{zone}.fuel"].values for zone in ZONES])
    held, burned = np.concatenate(flags, axis=1), np.concatenate(fuel, axis=1)
    highest = ht.HIGHEST_FUEL_W[:, None] * 1e-6
    assert np.all(burned <= highest + 1e-9)
    assert np.all(burned.sum(axis=0) <= ht.HEADER_W * 1e-6 + 1e-9)
    at_an_end = (burned > highest - 1e-6) | (burned < ht.LOWEST_FUEL_W[:, None] * 1e-6 + 1e-6)
    at_an_end |= burned.sum(axis=0) > ht.HEADER_W * 1e-6 - 1e-6
    np.testing.assert_array_equal(held.astype(bool), at_an_end)
    assert 0 < held.mean() < 1


def test_the_ramp_is_what_the_thermocouple_did_in_five_minutes() -> None:
    """From the first scan on: the run-in is remembered."""
    seen = truth().advance_samples(after(hours=1))
    for zone in ZONES:
        measured, ramp = seen[f"{zone}.temperature"].values, seen[f"{zone}.ramp"].values
        np.testing.assert_allclose(ramp[30:], (measured[30:] - measured[:-30]) / 5.0)
        assert np.abs(ramp[:30]).max() < 10.0


def test_what_is_burned_and_what_leaves_is_on_true_record() -> None:
    """Minutes add up to the fuel that the meters show; discharges carry true temperatures."""
    plant = truth()
    seen = plant.advance_samples(after(hours=3, seconds=30))
    assert len(plant.minutes) == 180
    burned_w = np.array([minute.fuel_w for minute in plant.minutes])
    shown_mw = [seen[f"{zone}.fuel"].values[:1080].reshape(180, 6).mean(axis=1) for zone in ZONES]
    np.testing.assert_allclose(burned_w.T * 1e-6, shown_mw)
    gas_c = np.array([minute.gas_c for minute in plant.minutes])
    assert np.abs(gas_c[:, 0] - seen["zone_1.temperature"].values[5:1080:6]).max() < 25.0
    left = [d for d in plant.discharged if d.at_s >= (START - plant.zero).total_seconds()]
    assert 15 < len(left) < 40
    assert all(abs(d.mean_c - 1220.0) < 60.0 for d in left)
    assert all(m.hottest_c >= d.hottest_c for d in left for m in [_minute_of(plant, d.at_s)])


def _minute_of(plant: Truth, at_s: float) -> object:
    return plant.minutes[int(at_s - (START - plant.zero).total_seconds() - 1) // 60]


def test_a_stop_is_told_as_the_crew_sees_it() -> None:
    """Running 0, since when, and when the crew expects to go on; zeros while it rolls."""
    number = truth().works.discharged[-1].slab.number + 3
    works = Works(SEED, FAIR, stops={number: (2400.0, 1800.0)}, has_stops=False)
    plant = new(works=works)
    seen = plant.advance_samples(after(hours=2))
    running = seen["mill.running"].values
    assert (running == 0).sum() == 240 - 1  # the scan in which it starts again shows it rolling
    stops_at = seen["mill.running"].times_s[np.argmin(running)] - 10.0
    stopped_at, expected = seen["mill.stopped_at"].values, seen["mill.expected_restart"].values
    assert set(stopped_at) == {0.0, stops_at}
    assert set(expected) == {0.0, stops_at + 1800.0}
    np.testing.assert_array_equal(stopped_at == 0.0, running == 1.0)


def test_a_slower_pace_makes_slabs_wait() -> None:
    """At 0.8 of the schedule fewer slabs leave; the PLC goes back to the schedule by itself."""
    usual, slow = truth(), truth()
    for minute in range(0, 240, 5):
        slow.write("plc.heartbeat", minute)
        assert slow.write("pace.setpoint", 0.8) is None
        for plant in (usual, slow):
            plant.advance_samples(after(minutes=minute + 5))
    assert len(slow.discharged) < len(usual.discharged)


def test_a_fork_goes_its_own_way() -> None:
    """What is written to one reaches neither the other's plant nor its record."""
    plant = _heartbeaten()
    plant.advance(after(minutes=30))
    twin = plant.fork()
    plant.write("plc.heartbeat", 2)
    plant.write("zone_3.setpoint", 1110.0)
    here, there = plant.advance(after(minutes=60)), twin.advance(after(minutes=60))
    assert here != there
    assert there == _silent_since_start().advance(after(minutes=60))
    assert plant.minutes[:30] == twin.minutes[:30]
    assert len(plant.minutes) == len(twin.minutes) == 60
    assert plant.minutes[-1] != twin.minutes[-1]


def _silent_since_start() -> Truth:
    plant = _heartbeaten()
    plant.advance(after(minutes=30))
    return plant


def test_other_seeds_and_starts_are_other_stories() -> None:
    """A seed is one plant whenever it starts; a works that was made stands as it was made."""
    first = new().advance_samples(after(hours=1))
    other = new(seed=SEED + 1).advance_samples(after(hours=1))
    assert not np.array_equal(first["zone_3.fuel"].values, other["zone_3.fuel"].values)
    later = new(start=after(days=1)).advance_samples(after(days=1, hours=1))
    np.testing.assert_array_equal(first["zone_3.fuel"].values, later["zone_3.fuel"].values)
    old = Works(SEED, FAIR)
    old.advance(13 * 3600.0)
    assert new(works=old).works.now_s == 13 * 3600.0


def test_what_the_emulated_plant_cannot_emit_is_told() -> None:
    """A tag it does not have, another sampling period, a start between two minutes."""
    strange = replace(PLANT.tags[0], name="zone_9.temperature")
    with pytest.raises(PlantFileError, match=r"zone_9\.temperature.*no such signal"):
        Truth(replace(PLANT, tags=(*PLANT.tags, strange)), seed=SEED, start=START)
    with pytest.raises(PlantFileError, match="report every 10 s"):
        Truth(replace(PLANT, sample_s=1.0), seed=SEED, start=START)
    with pytest.raises(ValueError, match="whole minute"):
        new(start=after(seconds=10))
    crooked = Works(SEED, FAIR)
    crooked.advance(90.0)
    with pytest.raises(ValueError, match=r"90\.0 s, not at a whole minute"):
        new(works=crooked)


def test_a_plant_file_may_ask_for_less() -> None:
    """Fewer tags, in its own order, give the same numbers."""
    few = ("mill.running", "slot_07.slab", "zone_4.fuel")
    small = replace(PLANT, tags=tuple(PLANT.tag(name) for name in few))
    seen = Truth(small, seed=SEED, start=START).advance_samples(after(hours=1))
    whole = truth().advance_samples(after(hours=1))
    assert tuple(seen) == few
    for name in few:
        np.testing.assert_array_equal(seen[name].values, whole[name].values)
        np.testing.assert_array_equal(seen[name].times_s, whole[name].times_s)


def test_the_tests_own_broken_furnace_lies_as_told_and_only_then() -> None:
    """Each bad input is on the wire between `since` and `until`; the furnace itself is unharmed."""
    number = truth().works.in_slot[10].number
    lies = {
        "slot_05.slab": contradicts_the_beam(5, 9999),
        "slot_22.slab": vanishes(number),
        "slot_22.thickness": has_thickness(number),
        "slot_02.slab": lies_also_in(number, 2),
        "discharge.temperature": pyrometer_shows(1234.5),
        "slot_01.slab": beam_counted_twice,
    }
    since, until = after(hours=1), after(hours=2)
    honest = truth().advance_samples(after(hours=3))
    for where, lie in lies.items():
        broken = BrokenFurnace(PLANT, lies=[lie], since=since, until=until, seed=SEED, start=START)
        told = broken.advance_samples(after(hours=3))
        rows = {
            tag: _held(told[tag], after(hours=3)) != _held(honest[tag], after(hours=3))
            for tag in told
        }
        lied = {tag: np.flatnonzero(differs) for tag, differs in rows.items() if differs.any()}
        assert where in lied
        assert all(tag.startswith(("slot", "yard", "discharge")) for tag in lied)
        assert all(at.min() >= 360 for at in lied.values())
        assert all(at.max() < 3 * 360 - 90 for at in lied.values())


def test_a_stop_that_never_ends_never_ends() -> None:
    """The crew's estimate passes and the mill still stands."""
    number = truth().works.discharged[-1].slab.number + 2
    plant = new(works=works_with_endless_stop(SEED, number, 1800.0))
    seen = plant.advance_samples(after(hours=12))
    assert set(seen["mill.running"].values[-6 * 600 :]) == {0.0}
    assert plant.discharged[-1].slab.number == number
    assert seen["mill.expected_restart"].values[-1] < plant.now.timestamp()
