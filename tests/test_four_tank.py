"""The four-tank truth and its baseline: a real plant's manners, the same for every controller."""

from __future__ import annotations

import hashlib
import importlib.util
import math
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from twin import economics
from twin.errors import PlantFileError, UnknownTag
from twin.plant import Batches, Plant, Role, Trips, read_plant
from twin.plants.four_tank import baseline, disturbances, physics, tanks
from twin.plants.four_tank.baseline import PLAIN, RULE, BaselineParameters
from twin.plants.four_tank.disturbances import DAY_ROWS, ROW_S, Disturbances
from twin.plants.four_tank.truth import Truth
from twin.records import BAD, Series

PLANT = read_plant("four_tank")
START = datetime(2026, 1, 5, tzinfo=UTC)
SEED = 1000  # a search seed: tests of the truth look at no held-back seed

FROZEN = {
    "baseline.py": "3b5a330902c8fb718269d2bad507ba060c4a42c7e9366d7c69b7a32767a50f45",
    "disturbances.py": "a3a6544acef59571dbebcde9ab560ae06e7f079e2818a47927dbb6f6488ea455",
    "tanks.py": "cea1ddc3946a44cb0c43d5955bff4a21b197bb2897536c223c77f340fb3807c5",
    "truth.py": "676e8f6cf9478d9454f178d66150e38503cd5e8f33c292d052973d47f96efe4b",
}


def after(**spans: float) -> datetime:
    return START + timedelta(**spans)


def truth(seed: int = SEED, auto: BaselineParameters | None = None) -> Truth:
    return Truth(PLANT, seed=seed, start=START, baseline=auto)


def in_remote(flow_1: float, flow_2: float) -> Truth:
    plant = truth()
    plant.write("plc.heartbeat", 1)
    assert plant.write("pump_1.setpoint", flow_1) is None
    assert plant.write("pump_2.setpoint", flow_2) is None
    return plant


def constant_flow(flow: float) -> Series:
    """An AUTO that never asks for more than its minimum flow."""
    never = BaselineParameters((0.0, 0.0), (0.0, 0.0), minimum_flow=flow, closed_loop_min=2.0)
    return never.vector()


def quiet_day(demand: float = 0.0) -> Disturbances:
    """A day without trips, dropouts, noise or orders, with constant draws."""
    rows = DAY_ROWS
    return Disturbances(
        first_s=START.timestamp(),
        demand=np.full((rows, 2), demand),
        running=np.ones((rows, 2)),
        order_start=np.zeros((rows, 4)),
        order_draw=np.zeros((rows, 4)),
        order_duration=np.zeros((rows, 4)),
        price=np.ones((rows + 1, 2)),
        noise=np.zeros((rows, 4)),
        is_held=np.zeros((rows, 4), dtype=np.bool_),
    )


def nominal(fouling: float = 0.0) -> tanks.RealPlant:
    outlets = np.array([physics.NOMINAL[f"outlet_{i}"] for i in (1, 2, 3, 4)])
    return tanks.RealPlant(outlets, np.ones(2), np.full(4, fouling))


@pytest.mark.parametrize("name", FROZEN)
def test_truth_and_baseline_are_frozen(name: str) -> None:
    """Nobody changes the plant or its opponent in passing: figures would lose their meaning."""
    content = (Path(baseline.__file__).parent / name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == FROZEN[name], (
        f"{name} has changed. It was frozen before the optimizer was built: a change needs a "
        "page in docs/decisions (see 0002) and new figures for baseline and Plantwright."
    )


def test_water_is_neither_made_nor_lost() -> None:
    """What was pumped in has run out, was delivered, went over the edge, or is still there."""
    for plant, hours in ((truth(), 30), (in_remote(18, 18), 2)):
        before = plant.counters.stored
        plant.write("plc.heartbeat", 1)
        for minute in range(60 * hours):
            plant.write("plc.heartbeat", 1)
            plant.advance_samples(after(minutes=minute + 1))
        now = plant.counters
        gone = now.drained + now.delivered + sum(now.overflow.values())
        assert now.pumped - gone == pytest.approx(now.stored - before, abs=1e-6)
    assert sum(now.overflow.values()) > 0, "the second run floods on purpose"


def test_settles_where_torricelli_says() -> None:
    """Constant pumps end at the levels whose outflow equals their inflow (worked out by hand)."""
    q = 9.0
    state = tanks.start_state()
    out = tanks.carry(state, nominal(), constant_flow(q), quiet_day(), 0, DAY_ROWS, 600.0)
    inflow = {3: 0.4 * q, 4: 0.3 * q, 1: 0.7 * q + 0.4 * q, 2: 0.6 * q + 0.3 * q}
    minutes = tanks.per_minute(tanks.true_rows(quiet_day(), 0, out))
    for tank, flow in inflow.items():
        level = (flow / physics.NOMINAL[f"outlet_{tank}"]) ** 2 / (2 * 981)
        assert minutes[f"tank_{tank}.level"][-1] == pytest.approx(level, rel=1e-6)
    watts = 9.81e-5 * q * (60 + 0.185 * q * q) / 0.35 + 0.03
    assert minutes["pump_1.power"][-1] == pytest.approx(watts, rel=1e-9)


def test_fouling_raises_levels_until_the_flush_at_midnight() -> None:
    """With 5 % per 12 h, levels near midnight stand 1/0.9² higher; the flush takes that away."""
    day = quiet_day()
    state = tanks.start_state()
    tuning = constant_flow(8.0)
    clean = tanks.start_state()
    tanks.carry(clean, nominal(), tuning, day, 0, DAY_ROWS, 600.0)
    out = tanks.carry(state, nominal(fouling=0.05), tuning, day, 0, DAY_ROWS, 600.0)
    levels = tanks.per_minute(tanks.true_rows(day, 0, out))["tank_3.level"]
    assert levels[-1] == pytest.approx(clean[tanks.LEVEL + 2] / 0.9**2, rel=3e-3)
    next_day = Disturbances(**{**vars(day), "first_s": day.first_s + 86_400})
    tanks.carry(state, nominal(fouling=0.05), tuning, next_day, 0, 360, 600.0)
    assert state[tanks.LEVEL + 2] == pytest.approx(clean[tanks.LEVEL + 2], rel=1e-2)


@pytest.mark.parametrize(
    ("level", "share"), [(12.0, 1.0), (10.0, 1.0), (9.5, 0.5), (9.0, 0.0), (4.0, 0.0)]
)
def test_a_batch_gets_what_the_level_allows(level: float, share: float) -> None:
    """Full delivery from 10 cm up, none below 9 cm, a straight line between."""
    state = tanks.start_state()
    state[tanks.LEVEL] = level
    day = quiet_day(demand=8.0)
    out = tanks.carry(state, nominal(), constant_flow(9.0), day, 0, 1, 600.0)
    first = tanks.true_rows(day, 0, out)[0, tanks.TRUE.index("tank_1.delivered")]
    assert first == pytest.approx(8.0 * share, abs=0.4 if 9 <= level <= 10 else 1e-9)


def test_same_seed_same_readings_however_time_is_cut() -> None:
    """One leap, many steps, readings or columns: the same plant."""
    leap = truth().advance(after(hours=2))
    stepping = truth()
    steps = [r for m in range(120) for r in stepping.advance(after(minutes=m + 1))]
    assert leap == steps
    assert len(leap) == 720 * len(PLANT.tags)
    assert [r.tag for r in leap[: len(PLANT.tags)]] == [tag.name for tag in PLANT.tags]
    assert leap[0].source_time == START + timedelta(seconds=10)
    columns = truth().advance_samples(after(hours=2))
    for tag, samples in columns.items():
        told = [r.value if r.is_good else math.nan for r in leap if r.tag == tag]
        np.testing.assert_array_equal(samples.values, told)
    assert leap != truth(seed=SEED + 1).advance(after(hours=2))


def test_a_long_run_does_not_depend_on_the_cut_at_days() -> None:
    """Three days in one go and a stop in between end in the same place."""
    leap, halting = truth(), truth()
    one = leap.advance_samples(after(days=3))
    halting.advance_samples(after(hours=31))
    other = halting.advance_samples(after(days=3))
    for tag, samples in other.items():
        np.testing.assert_array_equal(one[tag].values[-len(samples.values) :], samples.values)


def test_two_controllers_meet_the_same_world() -> None:
    """Batches, trips, prices, dropouts and orders do not care who drives the pumps."""
    auto, remote = truth(), in_remote(3.0, 16.0)
    seen = auto.advance_samples(after(hours=8))
    for minute in range(8 * 60):
        remote.write("plc.heartbeat", 1)
        remote.advance_samples(after(minutes=minute + 1))
    other = remote.true_record()
    mine = auto.true_record()
    assert not np.allclose(mine["tank_1.level"], other["tank_1.level"])
    for tag in ("tank_1.demand", "tank_2.demand", "pump_1.running", "price.now"):
        np.testing.assert_array_equal(mine[tag], other[tag])
    again = truth(auto=PLAIN).advance_samples(after(hours=8))
    outside = [t.name for t in PLANT.with_role(Role.DV)]
    outside += [t.name for t in PLANT.tags if t.name.startswith("order_")]
    for tag in outside:
        np.testing.assert_array_equal(seen[tag].values, again[tag].values)
    for tank in (1, 2, 3, 4):
        is_out = [np.isnan(run[f"tank_{tank}.level"].values) for run in (seen, again)]
        np.testing.assert_array_equal(*is_out)


def test_a_dropped_out_sensor_holds_its_value_and_says_so() -> None:
    """Bad quality, the last good value repeated, for one to five minutes, about every 4 h."""
    spells: list[int] = []
    readings = [
        r for r in truth().advance(after(hours=48)) if r.tag.endswith("level") or not r.is_good
    ]
    for tank in (1, 2, 3, 4):
        held, rows = None, 0
        for reading in (r for r in readings if r.tag == f"tank_{tank}.level"):
            if reading.quality == BAD:
                assert reading.value == held
                rows += 1
            else:
                held = reading.value
                spells += [rows] if rows else []
                rows = 0
    assert all(6 <= rows <= 30 for rows in spells)
    assert 24 <= len(spells) <= 72, f"{len(spells)} dropouts of 4 sensors in 48 h"
    assert all(r.is_good for r in readings if not r.tag.endswith("level"))


def test_sensors_lag_and_are_noisy() -> None:
    """Readings scatter by 0.1 cm around a level 20 s old; noise of sensors is independent."""
    plant = truth()
    shown = plant.advance_samples(after(hours=12))
    true = plant.true_record()
    errors = [shown[f"tank_{i}.level"].values[5::6] - true[f"tank_{i}.level"] for i in (3, 4)]
    for error in errors:
        assert np.nanstd(error) == pytest.approx(0.1, rel=0.35)
    both = ~np.isnan(errors[0] + errors[1])
    assert abs(np.corrcoef(errors[0][both], errors[1][both])[0, 1]) < 0.2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pump_1.setpoint", math.nan),
        ("pump_1.setpoint", math.inf),
        ("pump_1.setpoint", -0.01),
        ("pump_2.setpoint", 18.01),
        ("pump_2.setpoint", "9"),
        ("pump_2.setpoint", None),
        ("pump_1.mode", 0.5),
        ("pump_1.mode", 2),
        ("plc.stop", math.nan),
        ("plc.heartbeat", math.nan),
        ("tank_1.level", 5.0),
        ("pump_3.setpoint", 5.0),
    ],
)
def test_plc_refuses_what_it_must_not_take(name: str, value: object) -> None:
    """A refusal names the node and changes nothing, whatever the sender believes."""
    plant = in_remote(9.0, 9.0)
    untouched = plant.fork()
    reason = plant.write(name, value)
    assert reason is not None
    assert reason.startswith(name)
    assert plant.advance(after(minutes=5)) == untouched.advance(after(minutes=5))


def test_plc_refuses_setpoints_without_heartbeat_or_under_stop() -> None:
    """REMOTE needs a living master and no stop; AUTO can always be had."""
    plant = truth()
    assert "never written" in str(plant.write("pump_1.setpoint", 9.0))
    assert plant.write("plc.heartbeat", 1) is None
    assert plant.write("pump_1.setpoint", 9.0) is None
    assert plant.read("pump_1.setpoint") == 9.0
    assert plant.read("pump_1.mode") == 1.0
    assert plant.write("plc.stop", 1) is None
    assert plant.is_stopped
    assert plant.read("pump_1.mode") == 0.0
    assert "stop" in str(plant.write("pump_1.setpoint", 9.0))
    assert "stop" in str(plant.write("pump_1.mode", 1))
    assert plant.write("pump_1.mode", 0) is None
    assert plant.write("plc.stop", 0) is None
    assert plant.write("pump_1.setpoint", 9.0) is None
    with pytest.raises(UnknownTag):
        plant.read("tank_1.level")


def test_one_pump_in_remote_leaves_the_other_in_auto() -> None:
    """An accepted setpoint takes only its own pump."""
    plant = truth()
    plant.write("plc.heartbeat", 1)
    plant.write("pump_2.setpoint", 9.0)
    seen = plant.advance_samples(after(minutes=5))
    assert set(seen["pump_1.mode"].values) == {0.0}
    assert set(seen["pump_2.mode"].values) == {1.0}
    assert set(seen["pump_2.setpoint"].values) == {9.0}
    assert len(set(seen["pump_1.setpoint"].values)) > 2


@pytest.mark.parametrize("cause", ["mode", "stop", "heartbeat"])
@pytest.mark.parametrize("flow", [7.0, 14.0])
def test_return_to_auto_is_bumpless(cause: str, flow: float) -> None:
    """However AUTO comes back, the setpoint goes on from where it stands."""
    plant = in_remote(flow, flow)
    plant.advance_samples(after(minutes=5))
    if cause == "mode":
        plant.write("pump_1.mode", 0)
    if cause == "stop":
        plant.write("plc.stop", 1)
    seen = plant.advance_samples(after(minutes=20))
    mode, setpoint = seen["pump_1.mode"].values, seen["pump_1.setpoint"].values
    back = int(np.argmin(mode))
    assert mode[back] == 0.0
    before = flow if back == 0 else setpoint[back - 1]
    assert before == flow
    # The integral's share and the filtered noise, less than the ramp would allow.
    assert abs(setpoint[back] - before) < 0.95


@pytest.mark.parametrize("error", [-6.0, -0.3, 0.0, 4.0])
def test_the_loop_follows_while_it_is_not_in_charge(error: float) -> None:
    """Back in AUTO with the same level, the first scan moves by the integral's share alone."""
    tuning = RULE.vector()
    setpoint, integral = baseline.scan(0, False, True, error, 11.0, 99.0, tuning)
    assert setpoint == 11.0
    again, _ = baseline.scan(0, True, True, error, setpoint, integral, tuning)
    assert again - setpoint == pytest.approx(tuning[4] * error * 10 / tuning[6])


def test_the_integral_rests_in_a_trip_and_at_a_limit() -> None:
    """Nothing winds up while the pump cannot answer."""
    tuning = RULE.vector()
    assert baseline.scan(0, True, False, 1.0, 11.0, 10.0, tuning)[1] == 10.0
    assert baseline.scan(0, True, True, 5.0, 18.0, 10.0, tuning) == (18.0, 10.0)
    low, rests = baseline.scan(0, True, True, -5.0, RULE.minimum_flow, 6.0, tuning)
    assert (low, rests) == (RULE.minimum_flow, 6.0)


def test_a_lost_heartbeat_returns_to_auto_after_its_timeout() -> None:
    """600 s after the last heartbeat, not before, and a new one is needed to go back."""
    plant = in_remote(9.0, 9.0)
    mode = plant.advance_samples(after(minutes=12))["pump_1.mode"].values
    assert list(mode) == [1.0] * 60 + [0.0] * 12
    assert "s old" in str(plant.write("pump_1.setpoint", 9.0))


def test_the_drive_ramps_and_a_trip_takes_the_flow() -> None:
    """The flow follows a setpoint by 6 cm³/s per min and is zero while the pump is down."""
    plant = in_remote(16.0, 4.0)
    flow = plant.advance_samples(after(minutes=3))["pump_1.flow"].values
    assert np.all(np.diff(flow) <= 1.0 + 1e-9)
    assert flow[-1] == pytest.approx(16.0)
    run = truth()
    seen = run.advance_samples(after(hours=48))
    stopped = seen["pump_1.running"].values == 0
    assert stopped.any()
    assert np.all(seen["pump_1.flow"].values[stopped] == 0)
    assert np.all(seen["pump_1.power"].values[stopped] == 0)
    assert run.counters.trips["pump_1"] == np.sum(np.diff(seen["pump_1.running"].values) < 0)


def test_orders_are_announced_in_time_and_err_within_bounds() -> None:
    """Every batch stands on the list 30–60 min ahead, and comes about as announced."""
    hours = 96
    seen = truth().advance_samples(after(hours=hours))
    batches = 0
    for tank in (1, 2):
        demand = seen[f"tank_{tank}.demand"].values
        starts: list[float] = []
        for line in "ab":
            start, draw, minutes = (
                seen[f"order_{tank}{line}.{what}"].values for what in ("start", "draw", "duration")
            )
            times_s = seen[f"order_{tank}{line}.start"].times_s
            for begin in np.unique(start[start > 0]):
                rows = np.flatnonzero(start == begin)
                if rows[0] == 0 or rows[-1] == len(start) - 1:
                    continue
                batches += 1
                starts.append(begin)
                assert 30 <= (begin - times_s[rows[0]]) / 60 <= 60
                assert 6 <= draw[rows[0]] <= 10
                assert 8 <= minutes[rows[0]] <= 16
                # The batch before may still run while this one is announced.
                idle = rows[demand[rows] == 0]
                drawn = rows[rows > idle[-1]]
                assert drawn[-1] == rows[-1], "the line goes when the batch has ended"
                assert demand[rows[-1] + 1] == 0
                real_start_s = times_s[drawn[0]] - ROW_S
                assert abs(real_start_s - begin) <= 600
                assert 0.7 <= demand[drawn[0]] / draw[rows[0]] <= 1.3
                assert 0.69 <= len(drawn) * ROW_S / 60 / minutes[rows[0]] <= 1.31
        gaps_min = np.diff(sorted(starts)) / 60
        assert gaps_min.min() >= 45 + 8
    assert 2 * hours / 4.5 <= batches <= 2 * hours / 2, f"{batches} batches"


def test_prices_change_on_the_hour_and_the_next_one_is_told() -> None:
    """At a full hour the new price holds; it is the one that was announced."""
    seen = truth().advance_samples(after(hours=26))
    now, coming = seen["price.now"].values, seen["price.next"].values
    hour = (seen["price.now"].times_s // 3600).astype(int)
    assert set(np.flatnonzero(np.diff(now))) == set(np.flatnonzero(np.diff(hour)))
    turn = np.flatnonzero(np.diff(hour))
    np.testing.assert_array_equal(now[turn + 1], coming[turn])
    night = now[(hour % 24) < 6].mean()
    assert now[(hour % 24) >= 6].mean() / night == pytest.approx(2.5, rel=0.2)


def test_a_fork_lives_its_own_life() -> None:
    """Writes and time in the fork never reach the original, and both share the same future."""
    plant = truth()
    plant.advance(after(hours=1))
    twin, same = plant.fork(), plant.fork()
    twin.write("plc.heartbeat", 1)
    twin.write("pump_1.setpoint", 0.0)
    twin.advance(after(hours=2))
    assert plant.now == after(hours=1)
    assert len(plant.true_record()["price.now"]) == 60
    assert plant.advance(after(hours=2)) == same.advance(after(hours=2))
    assert plant.counters != twin.counters


def test_true_record_starts_where_it_is_told() -> None:
    """Minutes after `since`, whole ones only, and an error for what was never recorded."""
    plant = truth()
    plant.advance(after(minutes=90, seconds=40))
    whole, tail = plant.true_record(), plant.true_record(after(hours=1))
    for tag, series in tail.items():
        np.testing.assert_array_equal(series, whole[tag][60:])
    assert len(whole["price.now"]) == 90
    with pytest.raises(ValueError, match="recorded"):
        plant.true_record(after(minutes=-1))


def test_truth_names_what_it_cannot_emit() -> None:
    """A plant file with foreign tags or another sample time is refused with every fault."""
    tags = (*PLANT.tags, type(PLANT.tags[0])(name="tank_9.level", role=Role.AUX, unit="cm"))
    other = Plant(plant="four_tank", title="other", tags=tags, sample_s=5)
    with pytest.raises(PlantFileError) as caught:
        Truth(other, seed=1, start=START)
    assert len(caught.value.faults) == 2
    with pytest.raises(ValueError, match="whole minute"):
        Truth(PLANT, seed=1, start=after(seconds=30))


def test_the_rule_raises_before_an_announced_start() -> None:
    """Day and night setpoints hold; a listed order raises its own tank `lead_min` ahead."""
    tuning = RULE.vector()
    night_s, noon_s = START.timestamp(), after(hours=12).timestamp()
    none = np.zeros(4)

    def wanted(loop: int, time_s: float, start: Series, draw: Series) -> float:
        return float(baseline.level_setpoint(loop, time_s, start, draw, tuning))

    assert wanted(0, night_s, none, none) == RULE.night_cm[0]
    assert wanted(1, noon_s, none, none) == RULE.day_cm[1]
    start, draw = np.array([0.0, noon_s, 0, 0]), np.array([0.0, 8.0, 0, 0])
    assert RULE.raised_cm is not None
    raised = RULE.raised_cm + RULE.slope_cm_per_flow * 3.5
    lead_s = 60 * RULE.lead_min
    assert wanted(0, noon_s - lead_s - 1, start, draw) == RULE.day_cm[0]
    assert wanted(0, noon_s - lead_s, start, draw) == pytest.approx(raised)
    assert wanted(0, noon_s + 900, start, draw) == pytest.approx(raised)
    assert wanted(1, noon_s, start, draw) == RULE.day_cm[1]
    assert baseline.level_setpoint(0, noon_s, start, draw, PLAIN.vector()) == PLAIN.day_cm[0]


def test_simc_gives_the_gains_of_the_rule() -> None:
    """Kc = area/(split (tc + theta)) for a tank; Ti = 4 (tc + theta) where that is shorter."""
    made = BaselineParameters((10, 10), (10, 10), minimum_flow=5, closed_loop_min=2.0).vector()
    assert made[4] == pytest.approx(420 / (0.7 * 175))
    assert made[5] == pytest.approx(480 / (0.6 * 175))
    assert made[6] == pytest.approx(4 * 175)


def test_the_compiled_plant_does_what_its_source_says() -> None:
    """The cached machine code equals the Python it came from, also after an edit elsewhere."""
    outside = disturbances.day(SEED, START.timestamp(), 0)
    compiled = tanks.carry(
        tanks.start_state(), tanks.real_plant(SEED), RULE.vector(), outside, 0, 1500, 600.0
    )
    real, state, plain = tanks.real_plant(SEED), tanks.start_state(), np.empty_like(compiled)
    tanks.march.py_func(
        state, 1500, outside.first_s, outside.demand, outside.running, outside.order_start,
        outside.order_draw, outside.noise, outside.is_held, real.outlets, real.pump_gains,
        real.fouling, RULE.vector(), 600.0, plain,
    )  # fmt: skip
    np.testing.assert_allclose(
        compiled, plain, rtol=1e-9, atol=1e-9,
        err_msg="stale machine code: delete twin/plants/four_tank/__pycache__",
    )  # fmt: skip


def test_truth_and_twin_share_only_the_public_facts() -> None:
    """Nominal numbers and the statistics in plant.yaml are the ones the truth was built on."""
    for i in range(4):
        assert tanks.AREA[i] == physics.NOMINAL[f"area_{i + 1}"]
    spread = [tanks.real_plant(seed) for seed in range(1000, 1060)]
    outlets = np.array([real.outlets for real in spread])
    nominal_outlets = np.array([physics.NOMINAL[f"outlet_{i}"] for i in (1, 2, 3, 4)])
    assert np.all(np.abs(outlets / nominal_outlets - 1) <= 0.10)
    assert np.abs(outlets / nominal_outlets - 1).max() > 0.09
    gains = np.array([real.pump_gains for real in spread])
    assert np.all(np.abs(gains - 1) <= 0.08)
    fouling = np.array([real.fouling for real in spread])
    assert fouling.min() >= 0
    assert 0.04 < fouling.max() <= 0.05
    batches = [block for block in PLANT.discrete if isinstance(block, Batches)]
    trips = [block for block in PLANT.discrete if isinstance(block, Trips)]
    assert {b.gap_min for b in batches} == {(45, 123)}
    assert {(b.draw, b.duration_min, b.notice_min) for b in batches} == {
        ((6, 10), (8, 16), (30, 60))
    }
    assert {(t.mean_between_h, t.repair_min) for t in trips} == {(8, (3, 12))}


def _load_search() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "baseline_search.py"
    spec = importlib.util.spec_from_file_location("baseline_search", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their own module up there
    spec.loader.exec_module(module)
    return module


SEARCH = _load_search()


@pytest.mark.parametrize("auto", [RULE, PLAIN])
def test_the_search_minimises_the_one_definition_of_cost(auto: BaselineParameters) -> None:
    """The search's fast formula and bare loop equal `Truth` scored by `twin.economics`."""
    seeds = (1000, 1001, 1002)
    found = SEARCH.evaluate(PLANT, auto, seeds)
    costs, minutes = [], []
    for seed in seeds:
        plant = Truth(PLANT, seed=seed, start=SEARCH.START, baseline=auto)
        midnight = SEARCH.START + timedelta(hours=SEARCH.RUN_IN_H)
        plant.advance_samples(midnight + timedelta(hours=SEARCH.SCORED_H))
        told = economics.score(PLANT, plant.true_record(midnight), 60.0)
        costs.append(told.cost_per_h)
        minutes.append(sum(told.limit_minutes.values()))
    assert found.cost_per_h == pytest.approx(np.mean(costs), rel=1e-9)
    assert found.limit_minutes == pytest.approx(np.mean(minutes))


@pytest.mark.parametrize("seed", [1, 20, 2001, 999])
def test_the_search_never_runs_a_held_back_seed(seed: int) -> None:
    """Seeds of comparisons are refused, not merely avoided."""
    with pytest.raises(ValueError, match="kept for tests"):
        SEARCH.run(RULE, seed)


def test_the_search_finds_its_way_downhill() -> None:
    """A short search ends cheaper than the middle of its space and is repeatable."""
    winner, found, tried = SEARCH.search("rule", PLANT, SEARCH.QUICK, 7, lambda: None)
    low, high = np.array(list(SEARCH.SPACES["rule"].values())).T
    middle = SEARCH.parameters("rule", (low + high) / 2)
    assert found.total < SEARCH.evaluate(PLANT, middle, SEARCH.QUICK.search_seeds).total
    assert tried == 80
    assert SEARCH.search("rule", PLANT, SEARCH.QUICK, 7, lambda: None)[0] == winner
