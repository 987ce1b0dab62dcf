"""From an estimate to a verified plan: rollouts that are the physics, fallbacks with a reason."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from planned_tanks import (
    AT,
    DEMAND,
    FOUR_TANK,
    INFLOW,
    LEVEL,
    PUMP,
    constant,
    estimate_of,
    physics_of,
    readings_of,
    state_of,
    tank_plant,
)

from optimizer.moves import next_setpoints
from optimizer.plan import Planner, Rollout, first_move_range
from twin.economics import cost_per_h, limit_minutes
from twin.physics import Physics
from twin.plant import Plant, Role, WindUp
from twin.records import Plan, PlanStatus, PlantState
from twin.state import plant_state

PHYSICS = physics_of(FOUR_TANK)
PUMPS = ("pump_1.setpoint", "pump_2.setpoint")
VALUES = {
    "pump_1.mode": 1.0,
    "pump_2.mode": 1.0,
    "tank_1.level": 9.0,
    "tank_2.level": 8.0,
    "tank_3.level": 1.5,
    "tank_4.level": 1.5,
    "pump_1.setpoint": 8.0,
    "pump_2.setpoint": 8.0,
    "pump_1.running": 1.0,
    "pump_2.running": 1.0,
    "tank_1.demand": 0.0,
    "tank_2.demand": 0.0,
    "price.now": 5.0,
    "price.next": 14.0,
}
DVS = {tag.name: VALUES[tag.name] for tag in FOUR_TANK.with_role(Role.DV)}
LEVELS = {name: VALUES[name] for name in PHYSICS.states}


@pytest.fixture(scope="module")
def planner() -> Planner:
    return Planner(FOUR_TANK, PHYSICS)


def plan_four(
    planner: Planner,
    state: PlantState,
    disturbances: Mapping[str, float] | None = None,
    levels: Mapping[str, float] | None = None,
    room: float = 6.0,
) -> Plan:
    nothing = constant(FOUR_TANK, dict.fromkeys(PHYSICS.states, 0.0))
    lines = constant(FOUR_TANK, {**DVS, **(disturbances or {})})
    estimate = estimate_of(PHYSICS, levels or LEVELS)
    return planner.plan(state, estimate, lines, nothing, dict.fromkeys(PUMPS, room))


def plan_tank(plant: Plant, physics: Physics, *, level: float, pump: float) -> Plan:
    return Planner(plant, physics).plan(
        state_of(plant, {LEVEL: level, PUMP: pump, DEMAND: 0.0}),
        estimate_of(physics, {LEVEL: level}),
        constant(plant, {DEMAND: 0.0}),
        constant(plant, {LEVEL: 0.0}),
        {PUMP: 6.0},
    )


def holds(plan: Plan, setpoints: Mapping[str, float]) -> bool:
    return set(plan.moves) == set(setpoints) and all(
        (plan.moves[mv] == value).all() for mv, value in setpoints.items()
    )


# -- the rollout -------------------------------------------------------------------------------


def test_the_rollout_is_the_physics_step_by_step() -> None:
    """The compiled rollout gives what `Physics.advance` gives, and what the plant file charges."""
    rng = np.random.default_rng(7)
    moves = {pump: rng.uniform(0, 18, 60) for pump in PUMPS}
    disturbances = constant(FOUR_TANK, DVS) | {"tank_1.demand": rng.uniform(0, 10, 60)}
    missed = {name: rng.normal(0, 2e-3, 60) for name in PHYSICS.states}
    low = {**LEVELS, "tank_3.level": 0.1, "tank_4.level": 6.5}
    outlook = Rollout(FOUR_TANK, PHYSICS).follow(low, moves, disturbances, missed)
    x, spent = dict(low), 0.0
    for k in range(60):
        signals = {name: float(path[k]) for name, path in (moves | disturbances).items()}
        inputs = PHYSICS.actuate(signals)
        extra = {name: float(rate[k]) for name, rate in missed.items()}
        after = PHYSICS.advance(x, inputs, 60.0, extra=extra)
        after = {name: max(level, 0.0) for name, level in after.items()}
        middle = {name: 0.5 * (x[name] + after[name]) for name in x}
        shown = PHYSICS.outputs_at(middle, inputs)
        spent += cost_per_h(FOUR_TANK, {**signals, **middle, **shown}) / 60
        x = after
        for name, value in {**x, **shown}.items():
            assert outlook.values[name][k] == pytest.approx(value, abs=1e-9)
    outside_min = sum(limit_minutes(FOUR_TANK, outlook.values, 60.0).values())
    assert outside_min > 0
    assert outlook.cost_per_h == pytest.approx(spent + 0.2 * outside_min, rel=1e-9)


# -- plans that are used -------------------------------------------------------------------------


def test_a_plan_says_what_it_costs_and_what_holding_would(tmp_path: Path) -> None:
    """Stopping a pump that only costs saves what the plan file charges: 7.2 ct/h per cm³/s."""
    plant, physics = tank_plant(tmp_path, low=0.0, margin_low=0.0)
    plan = plan_tank(plant, physics, level=20, pump=5)
    assert plan.status is PlanStatus.SOLVED
    assert plan.reason == ""
    assert plan.hold_cost_per_h == pytest.approx(5 * 7.2)
    assert plan.cost_per_h == pytest.approx(0, abs=0.05)
    assert plan.first_move == {PUMP: pytest.approx(0, abs=1e-3)}
    assert plan.predicted[LEVEL][0] == pytest.approx(20 * math.exp(-0.3), rel=1e-3)


def test_a_minute_outside_limits_counts_in_the_benefit(tmp_path: Path) -> None:
    """A plan that pumps to leave a limit violation costs energy and still beats holding."""
    plant, physics = tank_plant(tmp_path, price=0.1, soft=50.0, low=10, margin_low=0.5)
    plan = plan_tank(plant, physics, level=9.5, pump=4)
    assert plan.status is PlanStatus.SOLVED
    assert plan.moves[PUMP].mean() > 4
    assert plan.hold_cost_per_h == pytest.approx(4 * 0.36 + 0.2 * 60, rel=1e-3)
    assert plan.cost_per_h < plan.hold_cost_per_h - 5


def test_binding_limits_are_named(tmp_path: Path) -> None:
    """A plan that ends on two limits says which, with number and unit; the others it leaves out.

    A level is kept its margin of 0.5 cm away, and nobody is told that it stands on the limit.
    """
    plant, physics = tank_plant(tmp_path, soft=144.0)
    resting = plan_tank(plant, physics, level=20, pump=10)
    assert resting.binding == (
        "pump.setpoint at its low limit 0 cm**3/s",
        "tank.level within 0.5 cm of its low limit 4.5 cm",
    )
    calm = plan_tank(*tank_plant(tmp_path / "calm", price=0.0), level=20, pump=10)
    assert calm.binding == ()


BATCH = np.where((np.arange(60) >= 15) & (np.arange(60) < 30), 8.0, 0.0)


def plan_for(planner: Planner, expected_share: float, ready_share: float | None) -> Plan:
    """A plan that expects a share of a batch on tank 1 and is to be ready for another."""
    lines = constant(FOUR_TANK, DVS)
    ready = None if ready_share is None else {**lines, "tank_1.demand": ready_share * BATCH}
    return planner.plan(
        state_of(FOUR_TANK, VALUES),
        estimate_of(PHYSICS, LEVELS),
        {**lines, "tank_1.demand": expected_share * BATCH},
        constant(FOUR_TANK, dict.fromkeys(PHYSICS.states, 0.0)),
        dict.fromkeys(PUMPS, 6.0),
        ready,
    )


def test_a_plan_is_ready_for_what_may_come(planner: Planner) -> None:
    """For a batch that may come in full the tank is filled higher; costs are told as expected."""
    ready, plain = plan_for(planner, 0.4, 1.0), plan_for(planner, 0.4, None)
    assert ready.status is plain.status is PlanStatus.SOLVED
    level = "tank_1.level"
    assert ready.predicted[level][15:25].mean() > plain.predicted[level][15:25].mean() + 0.5
    assert ready.hold_cost_per_h == plain.hold_cost_per_h
    assert ready.reason == ""


def test_where_being_ready_would_flood_the_expected_is_planned(planner: Planner) -> None:
    """A batch that hardly anyone expects is no reason to hold: the plan steps down, and says so."""
    plan = plan_for(planner, 0.0, 1.0)
    assert plan.status is PlanStatus.SOLVED
    assert plan.reason.startswith("prepared for the expected only: tank_1.level: the plan would")
    plain = plan_for(planner, 0.0, None)
    assert plan.first_move == pytest.approx(plain.first_move, abs=0.02)


# -- plans that are not ----------------------------------------------------------------------------


def test_a_plan_past_an_engineering_limit_is_not_used(tmp_path: Path) -> None:
    """Paid for pumping, the planner would flood the tank: the rollout sees it, and we hold."""
    plant, physics = tank_plant(tmp_path, price=-2.0, top=10.0, high=10.0)
    plan = plan_tank(plant, physics, level=8, pump=4)
    assert plan.status is PlanStatus.HELD_INFEASIBLE
    assert "tank.level" in plan.reason
    assert "engineering limit of 10 cm" in plan.reason
    assert holds(plan, {PUMP: 4.0})
    assert plan.cost_per_h == plan.hold_cost_per_h
    assert plan.predicted[LEVEL][-1] == pytest.approx(8.0, rel=1e-6)


def test_where_holding_floods_the_tank_the_better_plan_is_used(tmp_path: Path) -> None:
    """Already above its top, a level cannot be planned below it at once: lowering it still wins."""
    plant, physics = tank_plant(tmp_path, top=10.0, high=10.0, soft=144.0)
    plan = plan_tank(plant, physics, level=12, pump=8)
    assert plan.status is PlanStatus.SOLVED
    assert plan.moves[PUMP][0] < 8


def test_out_of_time_holds_with_the_reason() -> None:
    """A planner with no time holds where the plant stands, and says that time ran out."""
    plan = plan_four(Planner(FOUR_TANK, PHYSICS, deadline_s=1e-6), state_of(FOUR_TANK, VALUES))
    assert plan.status is PlanStatus.HELD_TIMED_OUT
    assert plan.reason
    assert holds(plan, dict.fromkeys(PUMPS, 8.0))
    assert math.isfinite(plan.hold_cost_per_h)


@pytest.mark.parametrize(
    ("disturbances", "levels", "named"),
    [
        ({"tank_1.demand": math.nan}, {}, "tank_1.demand"),
        ({"price.now": math.nan}, {}, "price.now"),
        ({}, {"tank_4.level": math.nan}, "tank_4.level"),
    ],
)
def test_a_number_that_is_missing_holds_with_its_name(
    planner: Planner, disturbances: dict[str, float], levels: dict[str, float], named: str
) -> None:
    """NaN among levels, demands or prices: no exception, no plan, and the tag is named."""
    state = state_of(FOUR_TANK, VALUES)
    plan = plan_four(planner, state, disturbances, {**LEVELS, **levels})
    assert plan.status is PlanStatus.HELD_NO_STATE
    assert named in plan.reason
    assert holds(plan, dict.fromkeys(PUMPS, 8.0))


def test_an_mv_that_was_never_read_means_no_plan(planner: Planner) -> None:
    """Where a pump stands is not guessed."""
    values = {tag: value for tag, value in VALUES.items() if tag != PUMPS[1]}
    plan = plan_four(planner, state_of(FOUR_TANK, values))
    assert plan.status is PlanStatus.HELD_NO_STATE
    assert PUMPS[1] in plan.reason
    assert plan.moves == {}


def test_with_no_usable_mv_there_is_no_plan(planner: Planner) -> None:
    """Both pumps' readings too old: nothing is planned, and both reasons are told."""
    late = AT + timedelta(minutes=10)
    old = readings_of(dict.fromkeys(PUMPS, 8.0), AT)
    state = plant_state(FOUR_TANK, {**readings_of(VALUES, late), **old}, late)
    plan = plan_four(planner, state)
    assert plan.status is PlanStatus.HELD_NO_STATE
    assert all(f"{pump}: last reading is 600 s old" in plan.reason for pump in PUMPS)


def test_one_unusable_mv_is_planned_around(planner: Planner) -> None:
    """A pump whose reading is bad stands still in the plan; the other one still moves."""
    plan = plan_four(planner, state_of(FOUR_TANK, VALUES, bad=(PUMPS[0],)))
    assert plan.status is PlanStatus.SOLVED
    assert plan.first_move[PUMPS[0]] == 8.0
    assert abs(plan.first_move[PUMPS[1]] - 8.0) > 0.1


# -- where the first move may go ---------------------------------------------------------------


def first_range(
    room: float | None = 2.0,
    *,
    bad: tuple[str, ...] = (),
    plant: Plant = FOUR_TANK,
    **levels: float,
) -> tuple[float, float]:
    """Pump 1's range from 8 with tank levels changed: `tank_1=4.0` and the like."""
    values = VALUES | {f"{tank}.level": level for tank, level in levels.items()}
    mv = plant.tag(PUMPS[0])
    return first_move_range(mv, 8.0, room, state_of(plant, values, bad=bad), plant)


def test_the_room_is_the_range() -> None:
    """With everything known and inside, the range is the room both ways."""
    assert first_range() == (6.0, 10.0)
    assert first_range(room=0.0) == (8.0, 8.0)


def test_an_unknown_room_or_tag_leaves_no_range() -> None:
    """Unknown means standing still: no rate, or a required or relieving tag that is not usable."""
    assert first_range(room=None) == (8.0, 8.0)
    for tag in FOUR_TANK.tag(PUMPS[0]).requires:
        assert first_range(bad=(tag,)) == (8.0, 8.0)
    assert first_range(bad=("tank_3.level",)) == (6.0, 10.0)  # pump 2's tank


def test_a_level_outside_leaves_the_relieving_direction() -> None:
    """A low tank lets its pump only up, a full one only down; both at once let it stand."""
    assert first_range(tank_1=4.0) == (8.0, 10.0)
    assert first_range(tank_4=6.5) == (6.0, 8.0)
    assert first_range(tank_1=4.0, tank_4=6.5) == (8.0, 8.0)
    assert first_range(tank_3=9.0) == (6.0, 10.0)


WINDUP = WindUp(tag="pump_1.running", free=1, low=2, high=3, both=4)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(1, (6.0, 10.0)), (2, (8.0, 10.0)), (3, (6.0, 8.0)), (4, (8.0, 8.0)), (7, (8.0, 8.0))],
)
def test_nothing_is_planned_further_into_an_end(
    status: float, expected: tuple[float, float]
) -> None:
    """At its low end a pump is planned up or to stand, at its high end down; else as the gate."""
    tags = [replace(t, windup=WINDUP) if t.name == PUMPS[0] else t for t in FOUR_TANK.tags]
    plant = replace(FOUR_TANK, tags=tuple(tags))
    values = VALUES | {"pump_1.running": float(status)}
    mv = plant.tag(PUMPS[0])
    assert first_move_range(mv, 8.0, 2.0, state_of(plant, values), plant) == expected


def test_a_plan_begins_where_the_plc_really_holds_the_pump() -> None:
    """Its own node says 8, the setpoint in use 3: the first move starts from 3."""
    used = replace(FOUR_TANK.tag("pump_1.running"), name="pump_1.used", node="pump_1.used")
    tags = [replace(t, downstream=used.name) if t.name == PUMPS[0] else t for t in FOUR_TANK.tags]
    plant = replace(FOUR_TANK, tags=(*tags, replace(used, unit="cm**3/s", role=Role.AUX)))
    state = state_of(plant, VALUES | {used.name: 3.0})
    moves = {PUMPS[0]: np.array([4.0]), PUMPS[1]: np.array([8.0])}
    plan = Plan(PlanStatus.SOLVED, "", AT, 60.0, moves)
    assert next_setpoints(plant, plan, state) == {PUMPS[0]: 4.0}
    held = plan_four(Planner(plant, PHYSICS), state, room=0.0)
    assert held.first_move == pytest.approx({PUMPS[0]: 3.0, PUMPS[1]: 8.0})


def test_without_one_declared_direction_there_is_no_move() -> None:
    """Neither no direction nor two of them tell which way helps; the gate would refuse both."""
    mv = FOUR_TANK.tag(PUMPS[0])
    none = tuple(relief for relief in mv.relief if relief.cv != "tank_1.level")
    up = next(r for r in mv.relief if r.cv == "tank_1.level" and r.side == "low")
    both = (*mv.relief, replace(up, direction="down"))
    for relief in (none, both):
        tags = [replace(t, relief=relief) if t is mv else t for t in FOUR_TANK.tags]
        plant = replace(FOUR_TANK, tags=tuple(tags))
        assert first_range(plant=plant, tank_1=4.0) == (8.0, 8.0)


def test_outputs_are_predicted_too(planner: Planner) -> None:
    """A plan shows every state and output of the physics over the whole horizon."""
    plan = plan_four(planner, state_of(FOUR_TANK, VALUES))
    assert set(plan.predicted) == {*PHYSICS.states, *PHYSICS.outputs}
    assert {len(path) for path in plan.predicted.values()} == {60}
    assert plan.start == AT
    assert INFLOW not in plan.predicted
