"""The SimPy twin: one clock, states as plain data, and an expectation that agrees with its runs."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import process_time

import numpy as np
import pytest

from twin.physics import Physics, load_physics
from twin.plant import Plant, Role, Tag, read_plant
from twin.records import GOOD, Estimate, PlantState, Series, TagState, Window
from twin.simulation import (
    Batch,
    BatchesState,
    MachineState,
    Order,
    TariffState,
    Trajectory,
    TwinState,
    chance_active,
    demand_if_active,
    expected,
    simulate,
    twin_state,
)
from twin.simulation.statistics import mean_interval, paired_difference, t_quantile

AT = datetime(2026, 1, 5, 5, 40, tzinfo=UTC)
AT_S = AT.timestamp()
FOUR_TANK = read_plant("four_tank")
PHYSICS = load_physics(FOUR_TANK)
LEVELS = {"tank_1.level": 12.4, "tank_2.level": 12.7, "tank_3.level": 1.8, "tank_4.level": 1.4}
HOLD = {"pump_1.setpoint": np.full(60, 10.0), "pump_2.setpoint": np.full(60, 10.0)}

# One tank, 100 cm² wide: what a batch takes leaves it, what the pump gives enters it.
TANK_PHYSICS = """
STATES = ("tank.level",)
INPUTS = ("tank.inflow", "tank.demand")
OUTPUTS = ("tank.inflow",)
PARAMETERS = {"area": (100.0, "cm**2", "test")}
NOMINAL = {"area": 100.0}

def actuators(signals, p, f):
    return {
        "tank.inflow": signals["pump.setpoint"] * signals["pump.running"],
        "tank.demand": signals["tank.demand"],
    }

def rates(x, inputs, p, f):
    return {"tank.level": (inputs["tank.inflow"] - inputs["tank.demand"]) / p["area"]}

def outputs(x, inputs, p, f):
    return {"tank.inflow": inputs["tank.inflow"]}
"""

TANK = """
plant: tank
title: One tank
step_s: 60
opcua: {endpoint: opc.tcp://127.0.0.1:48499/tank, namespace: urn:plantwright:test:tank}
physics: physics.py
tags:
  - name: pump.setpoint
    node: pump.setpoint
    role: MV
    unit: cm**3/s
    engineering: {low: 0, high: 20}
    operator: {low: 0, high: 20}
    rate_limit_per_min: 5
    move_budget_per_h: 100
    requires: [pump.setpoint, tank.level]
  - name: tank.level
    node: tank.level
    role: CV
    unit: cm
    engineering: {low: 0, high: 100}
    operator: {low: 5, high: 90}
    rank: 1
    soft_price_per_h: 1
  - {name: tank.demand, node: tank.demand, role: DV, unit: cm**3/s}
  - {name: pump.running, node: pump.running, role: DV, unit: ""}
  - {name: tank.inflow, node: tank.inflow, role: AUX, unit: cm**3/s}
  - {name: order.start, node: order.start, role: AUX, unit: s}
  - {name: order.draw, node: order.draw, role: AUX, unit: cm**3/s}
  - {name: order.duration, node: order.duration, role: AUX, unit: min}
discrete:
  - kind: batches
    name: orders
    demand: tank.demand
    slots: [{start: order.start, draw: order.draw, duration: order.duration}]
    start_error_sd_min: SD
    start_error_limit_min: LIMIT
    draw_error_sd: 0
    duration_error_sd: 0
    notice_min: [30, 60]
    gap_min: [45, 100000]
    draw: [6, 10]
    duration_min: [8, 16]
  - {kind: trips, name: trips, running: pump.running, mean_between_h: 100000, repair_min: [4, 10]}
"""


@pytest.fixture
def tank(tmp_path: Path) -> tuple[Plant, Physics]:
    """A tank whose batches come exactly as announced and whose pump practically never trips."""
    return _tank(tmp_path, sd=0, limit=0)


def _tank(folder: Path, sd: float, limit: float) -> tuple[Plant, Physics]:
    path = folder / "plant.yaml"
    path.write_text(TANK.replace("SD", str(sd)).replace("LIMIT", str(limit)), encoding="utf-8")
    (folder / "physics.py").write_text(TANK_PHYSICS, encoding="utf-8")
    plant = read_plant(path)
    physics = load_physics(plant)
    assert physics is not None
    return plant, physics


def _tank_state(*orders: Order, machine: MachineState | None = None, **known: object) -> TwinState:
    batches = tuple(Batch(i, order, **known) for i, order in enumerate(orders))  # type: ignore[arg-type]  # any field
    return TwinState(
        at=AT,
        states={"tank.level": 50.0},
        batches={"orders": BatchesState(batches, next_item=len(batches))},
        machines={"trips": machine or MachineState()},
    )


def _four_tank_state(pump_2_down: bool = False, with_orders: bool = True) -> TwinState:
    """A batch under way in tank 1, one announced for each lower tank, a price about to change."""
    running = Batch(0, Order(AT_S - 240, 8.0, 12.0), is_running=True, draw=8.4)
    later = Batch(1, Order(AT_S + 3300, 9.0, 10.0))
    other = Batch(0, Order(AT_S + 1500, 7.0, 10.0))
    return TwinState(
        at=AT,
        states=LEVELS,
        bias={"tank_1.level": 0.0005},
        batches={
            "orders_1": BatchesState((running, later), 2, True) if with_orders else BatchesState(),
            "orders_2": BatchesState((other,), 1) if with_orders else BatchesState(),
        },
        machines={
            "trips_1": MachineState(),
            "trips_2": MachineState(False, AT_S - 120) if pump_2_down else MachineState(),
        },
        tariffs={"tariff": TariffState(5.7, 14.3)},
    )


def _run(state: TwinState, replication: int = 0, steps: int = 60, **options: object) -> Trajectory:
    assert PHYSICS is not None
    return simulate(
        FOUR_TANK,
        PHYSICS,
        state,
        HOLD,
        seed=3,
        steps=steps,
        replication=replication,
        **options,  # type: ignore[arg-type]  # any of its options
    )


def test_a_disturbance_that_was_never_read_is_not_known_and_stops_nothing(
    tank: tuple[Plant, Physics],
) -> None:
    """It is NaN for whoever asks, never zero; what does not depend on it goes on."""
    plant, physics = tank
    air = Tag(name="air.temperature", role=Role.DV, unit="K", node="air.temperature")
    plant = replace(plant, tags=(*plant.tags, air))
    state = _tank_state()
    assert np.isnan(expected(plant, state, 3)["air.temperature"]).all()
    done = simulate(plant, physics, state, {"pump.setpoint": np.ones(1)}, seed=1, steps=3)
    assert np.isnan(done.values["air.temperature"]).all()
    assert done.values["tank.level"] == pytest.approx(50.0 + 0.6 * np.arange(1, 4))
    known = replace(state, held={"air.temperature": 281.0})
    assert expected(plant, known, 2)["air.temperature"].tolist() == [281.0, 281.0]


# -- one clock --------------------------------------------------------------------------------


def test_a_batch_drains_the_tank_by_exactly_what_it_takes(tank: tuple[Plant, Physics]) -> None:
    """10 cm³/s for 8.5 minutes out of 100 cm² lower the level by 51 cm, wherever steps fall."""
    plant, physics = tank
    state = _tank_state(Order(AT_S + 90, 10.0, 8.5))
    done = simulate(plant, physics, state, {"pump.setpoint": np.zeros(1)}, seed=1, steps=12)
    taken_s = np.clip(60.0 * np.arange(1, 13) - 90, 0, 510)
    assert done.values["tank.level"] == pytest.approx(np.maximum(50 - 0.1 * taken_s, 0.0))
    assert done.values["tank.demand"][:3] == pytest.approx([0, 5, 10])  # means over the step
    assert [(e.what, e.at_s - AT_S) for e in done.events] == [
        ("batch begins", 90),
        ("batch ends", 600),
    ]


def test_a_level_never_falls_below_an_empty_tank(tank: tuple[Plant, Physics]) -> None:
    """A state whose engineering range begins at zero stays at or above it."""
    plant, physics = tank
    state = _tank_state(Order(AT_S, 10.0, 16.0))
    done = simulate(plant, physics, state, {"pump.setpoint": np.zeros(1)}, seed=1, steps=15)
    assert done.values["tank.level"].min() == 0.0
    refilled = simulate(
        plant, physics, done.end, {"pump.setpoint": np.full(1, 10.0)}, seed=1, steps=3
    )
    assert refilled.values["tank.level"][-1] == pytest.approx(12.0)  # 1 min against the batch


def test_moves_change_at_step_boundaries_and_the_last_one_stays(
    tank: tuple[Plant, Physics],
) -> None:
    """moves[k] holds over step k; beyond their end the last one goes on."""
    plant, physics = tank
    moves = {"pump.setpoint": np.array([5.0, 10.0])}
    done = simulate(plant, physics, _tank_state(), moves, seed=1, steps=4)
    assert done.values["tank.level"] == pytest.approx([53, 59, 65, 71])
    assert done.values["tank.inflow"] == pytest.approx([5, 10, 10, 10])


def test_a_repair_ends_within_what_its_age_leaves(tank: tuple[Plant, Physics]) -> None:
    """Down for 6 of 4 to 10 minutes: it comes back within 4 more, evenly spread."""
    plant, physics = tank
    state = _tank_state(machine=MachineState(False, AT_S - 360))
    moves = {"pump.setpoint": np.full(1, 10.0)}
    ends_min = []
    for i in range(400):
        done = simulate(plant, physics, state, moves, seed=1, steps=5, replication=i)
        ends_min.append((done.events[0].at_s - AT_S) / 60)
    assert min(ends_min) > 0
    assert max(ends_min) < 4
    interval = mean_interval(np.array(ends_min))
    assert interval.low - 0.05 < 2.0 < interval.high + 0.05


def test_prices_change_on_the_full_hour() -> None:
    """At 05:40 with 5.7 now and 14.3 next, the price changes after 20 steps and then stays."""
    price = _run(_four_tank_state()).values["price.now"]
    assert price[:20] == pytest.approx(5.7)
    assert price[20:] == pytest.approx(14.3)


def test_missing_moves_or_states_are_named() -> None:
    """A run without a setpoint for every MV, or without a level, says which one is missing."""
    assert PHYSICS is not None
    with pytest.raises(ValueError, match=r"pump_2\.setpoint"):
        simulate(
            FOUR_TANK, PHYSICS, _four_tank_state(), {"pump_1.setpoint": np.ones(1)}, seed=1, steps=1
        )
    empty = TwinState(AT, {"tank_1.level": 1.0})
    with pytest.raises(ValueError, match=r"tank_2\.level"):
        simulate(FOUR_TANK, PHYSICS, empty, HOLD, seed=1, steps=1)


# -- one mechanism for live start, snapshot and fork --------------------------------------------


class _Drift:
    """A residual with memory, to see that snapshots keep it."""

    def rate(self, hidden: Series, levels: Series, inputs: Series) -> tuple[Series, Series]:
        memory = 0.9 * hidden + 0.001 * levels[:1]
        return memory[0] * np.array([1e-3, -1e-3, 0.0, 1e-4]), memory


@pytest.mark.parametrize("cut", [1, 17, 20, 41])
def test_a_stored_snapshot_continues_like_the_uninterrupted_run(cut: int) -> None:
    """Run to a step, store as JSON, build up again, go on: the same run, event for event."""
    assert PHYSICS is not None
    state = TwinState(**{**_four_tank_state(pump_2_down=True).__dict__, "hidden": (0.2,)})
    for replication in range(8):
        options = {"residual": _Drift()}
        whole = _run(state, replication, **options)
        first = _run(state, replication, steps=cut, **options)
        stored = TwinState.from_json(first.end.to_json())
        assert stored == first.end
        second = _run(stored, replication, steps=60 - cut, **options)
        assert first.events + second.events == whole.events
        assert second.end == whole.end
        for tag, values in whole.values.items():
            both = np.concatenate((first.values[tag], second.values[tag]))
            assert np.array_equal(both, values), tag


def test_a_fork_differs_only_by_its_moves() -> None:
    """Two continuations of one snapshot meet the same events whatever they do."""
    assert PHYSICS is not None
    at_10 = _run(_four_tank_state(), steps=10).end
    more = {mv: path + 4.0 for mv, path in HOLD.items()}
    forks = [simulate(FOUR_TANK, PHYSICS, at_10, moves, seed=3, steps=40) for moves in (HOLD, more)]
    assert forks[0].events == forks[1].events
    assert forks[0].values["tank_1.level"][-1] < forks[1].values["tank_1.level"][-1]
    assert np.array_equal(forks[0].values["tank_1.demand"], forks[1].values["tank_1.demand"])


def test_scaling_a_demand_changes_nothing_else() -> None:
    """A scenario's factor multiplies the draw and leaves every moment as it is."""
    state = _four_tank_state()
    base, more = _run(state), _run(state, scale={"tank_1.demand": 1.3})
    assert more.values["tank_1.demand"] == pytest.approx(1.3 * base.values["tank_1.demand"])
    assert more.events == base.events


# -- batches, conditional on what is known ------------------------------------------------------


def test_every_announced_batch_comes_once_and_within_its_errors() -> None:
    """Announced in 25 min, limits ±10 min: one batch per run, begun between 15 and 35 min."""
    begins = []
    for i in range(200):
        events = _run(_four_tank_state(), i).events
        mine = [e for e in events if e.block == "orders_2" and e.item == 0]
        assert [e.what for e in mine] == ["batch begins", "batch ends"]
        begins.append((mine[0].at_s - AT_S) / 60)
        assert 10 * 0.7 <= (mine[1].at_s - mine[0].at_s) / 60 <= 10 * 1.3
    assert min(begins) >= 15
    assert max(begins) <= 35
    assert np.std(begins) == pytest.approx(4.0, rel=0.15)


def test_an_overdue_batch_begins_at_once(tmp_path: Path) -> None:
    """A line still on the list after its latest possible start means: any moment now."""
    plant, physics = _tank(tmp_path, sd=4, limit=10)
    state = _tank_state(Order(AT_S - 660, 8.0, 10.0))
    done = simulate(plant, physics, state, {"pump.setpoint": np.zeros(1)}, seed=1, steps=12)
    assert [(e.what, e.at_s - AT_S) for e in done.events] == [
        ("batch begins", 0),
        ("batch ends", 600),
    ]
    assert expected(plant, state, 12)["tank.demand"] == pytest.approx([8.0] * 10 + [0, 0])


def test_nothing_begins_that_the_order_list_would_already_show() -> None:
    """An empty list rules out announcements within 30 min; real starts can be 10 min earlier."""
    begins = [
        (event.at_s - AT_S) / 60
        for i in range(300)
        for event in _run(_four_tank_state(with_orders=False), i).events
        if event.what == "batch begins"
    ]
    assert begins
    assert min(begins) > 20


def test_a_running_batch_lasts_at_least_until_now() -> None:
    """Whatever its unseen start was, a batch that runs ends in the future, at its measured draw."""
    for i in range(100):
        done = _run(_four_tank_state(), i, steps=30)
        mine = [e for e in done.events if e.block == "orders_1" and e.item == 0]
        assert [e.what for e in mine] == ["batch ends"]
        assert done.values["tank_1.demand"][0] <= 8.4 + 1e-9


# -- the expectation agrees with the runs ---------------------------------------------------------


def _assert_agrees(plant: Plant, physics: Physics, state: TwinState, tag: str, runs: int) -> None:
    """Mean over runs within 4 standard errors (and a little for the quadrature) of the formula."""
    steps = 60
    line = expected(plant, state, steps)[tag]
    moves = {t.name: np.zeros(1) for t in plant.tags if t.role == "MV"}
    drawn = np.array(
        [
            simulate(plant, physics, state, moves, seed=11, steps=steps, replication=i).values[tag]
            for i in range(runs)
        ]
    )
    error = drawn.std(axis=0) / math.sqrt(runs)
    allowed = 4 * error + 0.01 * max(1.0, line.max())
    assert np.all(np.abs(drawn.mean(axis=0) - line) < allowed)


@pytest.mark.parametrize(
    ("sd", "state"),
    [
        (4, _tank_state(Order(AT_S + 1500, 8.0, 12.0))),
        (4, _tank_state(Order(AT_S - 120, 8.0, 12.0))),
        (4, _tank_state(Order(AT_S - 120, 8.0, 12.0), is_running=True, draw=7.0)),
        (4, _tank_state(Order(AT_S, 8.0, 12.0), is_running=True, draw=7.0, starts_s=AT_S - 300)),
        (0, _tank_state(Order(AT_S + 600, 8.0, 12.0), Order(AT_S + 1980, 9.0, 9.0))),
    ],
    ids=["announced", "late", "running", "running since", "exact"],
)
def test_expected_demand_is_the_mean_of_the_runs(
    tmp_path: Path, sd: float, state: TwinState
) -> None:
    """Announced, late, running with and without a known start: formula and draws agree."""
    plant, physics = _tank(tmp_path, sd=sd, limit=10 if sd else 0)
    _assert_agrees(plant, physics, state, "tank.demand", runs=600)


def test_expected_demand_of_the_four_tanks_counts_unannounced_batches() -> None:
    """With an empty list, what may be announced later shows up in the last half hour."""
    assert PHYSICS is not None
    state = _four_tank_state(with_orders=False)
    line = expected(FOUR_TANK, state, 60)["tank_1.demand"]
    assert line[:19].max() == 0.0
    assert line[-1] > 0.2
    _assert_agrees(FOUR_TANK, PHYSICS, state, "tank_1.demand", runs=600)
    assert demand_if_active(FOUR_TANK, state, 60)["tank_1.demand"].max() == 0.0


@pytest.mark.parametrize("age_s", [0.0, 360.0])
def test_expected_repair_is_the_mean_of_the_runs(tmp_path: Path, age_s: float) -> None:
    """A tripped machine's chance to run grows over what its age leaves of the repair."""
    plant, physics = _tank(tmp_path, sd=0, limit=0)
    state = _tank_state(machine=MachineState(False, AT_S - age_s))
    _assert_agrees(plant, physics, state, "pump.running", runs=600)
    assert expected(plant, _tank_state(), 5)["pump.running"] == pytest.approx(1.0)


def test_expected_prices_are_means_over_their_step() -> None:
    """A step that the full hour cuts in half pays half of each price; later hours keep the last."""
    base = _four_tank_state()
    state = TwinState(**{**base.__dict__, "at": AT + timedelta(seconds=30)})
    lines = expected(FOUR_TANK, state, 100)
    assert lines["price.now"][18:21] == pytest.approx([5.7, 10.0, 14.3])
    assert lines["price.now"][-1] == pytest.approx(14.3)
    assert lines["price.next"] == pytest.approx(14.3)


@pytest.mark.parametrize(
    ("zone", "steps"), [("Europe/Berlin", 20), ("UTC", 20), ("Asia/Kolkata", 50)]
)
def test_the_full_hour_is_that_of_the_plants_clocks(zone: str, steps: int) -> None:
    """05:40 UTC is 11:10 in India: there the price changes in 50 minutes, not in 20."""
    assert PHYSICS is not None
    plant, state = replace(FOUR_TANK, time_zone=zone), _four_tank_state()
    wanted = [5.7] * steps + [14.3] * (60 - steps)
    assert expected(plant, state, 60)["price.now"] == pytest.approx(wanted)
    assert simulate(plant, PHYSICS, state, HOLD, seed=3, steps=60).values[
        "price.now"
    ] == pytest.approx(wanted)


def test_the_hedge_covers_the_time_in_which_an_announced_batch_may_run() -> None:
    """Announced in 25 min for 10 min: be ready from before until after, at its draw."""
    state = _four_tank_state()
    ready = demand_if_active(FOUR_TANK, state, 60)["tank_2.demand"]
    (minutes,) = np.nonzero(ready)
    assert set(ready) == {0.0, 7.0}
    assert 17 <= minutes[0] <= 20
    assert 38 <= minutes[-1] <= 43
    chance = chance_active(FOUR_TANK, state, 60)["tank_2.demand"]
    assert chance[30] > 0.7
    assert np.array_equal(chance >= 0.05, ready > 0)


def test_speed_of_expectation_and_runs() -> None:
    """A planning round can afford both: the expectation under 5 ms, a run under 50 (CI slack)."""
    state = _four_tank_state()
    expected(FOUR_TANK, state, 60)
    began = process_time()
    for _ in range(20):
        expected(FOUR_TANK, state, 60)
    assert (process_time() - began) / 20 < 0.005
    began = process_time()
    for i in range(10):
        _run(state, i)
    assert (process_time() - began) / 10 < 0.05


# -- from readings to the twin's present --------------------------------------------------------


def _readings(**changed: float | None) -> PlantState:
    values: dict[str, float | None] = {tag.name: 0.0 for tag in FOUR_TANK.tags}
    values |= {"pump_1.running": 1.0, "pump_2.running": 1.0, "price.now": 5.7, "price.next": 14.3}
    values |= {name.replace("__", "."): value for name, value in changed.items()}
    return PlantState(
        "four_tank",
        AT,
        {
            tag: TagState(value, GOOD, AT, 0.0, 0.0, value is not None)
            for tag, value in values.items()
        },
    )


ESTIMATE = Estimate(AT, LEVELS, {"tank_1.level": 0.0005})


def test_the_present_holds_orders_machines_and_prices() -> None:
    """Lines of the list become orders in time order; an empty line is none."""
    readings = _readings(
        order_1a__start=AT_S + 3000, order_1a__draw=7.0, order_1a__duration=9.0,
        order_1b__start=AT_S + 600, order_1b__draw=8.0, order_1b__duration=12.0,
        pump_2__running=0.0,
    )  # fmt: skip
    state = twin_state(FOUR_TANK, readings, ESTIMATE)
    known = state.batches["orders_1"]
    assert [b.order.draw for b in known.batches] == [8.0, 7.0]
    assert known.may_hide_more
    assert state.batches["orders_2"] == BatchesState()
    assert not state.machines["trips_2"].is_running
    assert state.tariffs["tariff"] == TariffState(5.7, 14.3)
    assert state.assumed == ()
    assert TwinState.from_json(state.to_json()) == state


def test_a_draw_belongs_to_the_order_that_can_have_begun() -> None:
    """A measured demand is the due order's batch, with the draw as measured."""
    readings = _readings(
        tank_1__demand=8.6,
        order_1a__start=AT_S - 60, order_1a__draw=8.0, order_1a__duration=12.0,
        order_1b__start=AT_S + 4000, order_1b__draw=7.0, order_1b__duration=9.0,
    )  # fmt: skip
    running, later = twin_state(FOUR_TANK, readings, ESTIMATE).batches["orders_1"].batches
    assert running.is_running
    assert running.draw == 8.6
    assert running.order.draw == 8.0
    assert running.starts_s is None
    assert not later.is_running


def test_a_draw_that_no_order_explains_is_a_batch_of_usual_length() -> None:
    """The order list may have lost its line; the demand is there all the same."""
    state = twin_state(FOUR_TANK, _readings(tank_2__demand=7.0), ESTIMATE)
    (batch,) = state.batches["orders_2"].batches
    assert batch.is_running
    assert batch.order.duration_min == 12.0


def test_the_recent_past_tells_since_when() -> None:
    """A batch that began in the middle of a step, a pump down since the step before."""
    rows = 30
    demand = np.concatenate((np.zeros(rows - 4), [4.0, 8.0, 8.0, 8.0]))
    running = np.concatenate((np.ones(rows - 2), [0.25, 0.0]))
    past = Window(AT, 60.0, {"tank_1.demand": demand, "pump_1.running": running})
    readings = _readings(tank_1__demand=8.0, pump_1__running=0.0)
    state = twin_state(FOUR_TANK, readings, ESTIMATE, window=past)
    assert state.batches["orders_1"].batches[0].starts_s == pytest.approx(AT_S - 3.5 * 60)
    assert state.machines["trips_1"].since_s == pytest.approx(AT_S - 1.75 * 60)
    unknown = Window(AT, 60.0, {"tank_1.demand": np.append(np.full(rows - 1, np.nan), 8.0)})
    state = twin_state(FOUR_TANK, readings, ESTIMATE, window=unknown)
    assert state.batches["orders_1"].batches[0].starts_s is None


def test_what_is_not_known_is_said() -> None:
    """A tag without a usable reading is listed; an unknown price is no number, not zero."""
    readings = _readings(price__now=None, price__next=None, pump_1__running=None)
    state = twin_state(FOUR_TANK, readings, ESTIMATE)
    assert set(state.assumed) == {"price.now", "price.next", "pump_1.running"}
    assert np.isnan(expected(FOUR_TANK, state, 3)["price.now"]).all()
    assert TwinState.from_json(state.to_json()) == state


# -- statistics ---------------------------------------------------------------------------------


def test_t_quantiles_match_the_table() -> None:
    """Student's table: 2.776 (4), 2.262 (9), 2.045 (29), 1.980 (120)."""
    for degrees, value in ((4, 2.776), (9, 2.262), (29, 2.045), (120, 1.980)):
        assert t_quantile(degrees) == pytest.approx(value, abs=1.1e-3)


def test_pairing_removes_what_runs_share() -> None:
    """Differences of 1 ± .1 between runs that spread by 10 are seen clearly."""
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 10, 20)
    found = paired_difference(shared + 1 + rng.normal(0, 0.1, 20), shared)
    assert found.is_clear_of_zero
    assert found.high - found.low < 0.2
    with pytest.raises(ValueError, match="too few"):
        mean_interval(np.ones(4))


def test_common_random_numbers_beat_independent_ones() -> None:
    """The level's difference under 10 % more demand varies far less on shared streams."""

    def means(offset: int, factor: float) -> Series:
        return np.array(
            [
                _run(_four_tank_state(), offset + i, scale={"tank_2.demand": factor})
                .values["tank_2.level"]
                .mean()
                for i in range(40)
            ]
        )

    base = means(0, 1.0)
    shared, independent = means(0, 1.1) - base, means(1000, 1.1) - base
    assert shared.var() < independent.var() / 10
