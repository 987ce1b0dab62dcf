"""The MPC: right on paper, right against a second formulation, honest when it fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import casadi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planned_tanks import (
    DEMAND,
    FOUR_TANK,
    LEVEL,
    PUMP,
    constant,
    physics_of,
    tank_plant,
    torn_plant,
)

from optimizer.nmpc import Nmpc, Problem, Solution
from optimizer.transcription import interval_steps
from twin.economics import cost_per_h
from twin.physics import Physics
from twin.plant import Limits, Plant, Role

FREE = {PUMP: (-100.0, 100.0)}
PHYSICS = physics_of(FOUR_TANK)
PUMPS = ("pump_1.setpoint", "pump_2.setpoint")


def ask(
    plant: Plant,
    physics: Physics,
    *,
    level: float,
    pump: float,
    first_range: Mapping[str, tuple[float, float]] | None = None,
    demand: float = 0.0,
) -> Problem:
    """A tank's problem with everything constant."""
    return Problem(
        states=dict.fromkeys(physics.states, level),
        current={PUMP: pump},
        disturbances=constant(plant, {DEMAND: demand}),
        missed_rates=constant(plant, dict.fromkeys(physics.states, 0.0)),
        first_range=first_range or FREE,
    )


@pytest.fixture(scope="module")
def four_tank() -> Nmpc:
    return Nmpc(FOUR_TANK, PHYSICS)


def busy(seed: int = 0) -> Problem:
    """Four tanks with a batch coming on tank 1, one on tank 2 running, a price step ahead."""
    rng = np.random.default_rng(seed)
    at = np.arange(60)
    return Problem(
        states=dict(
            zip(PHYSICS.states, rng.uniform((6, 6, 0.8, 0.8), (14, 14, 4, 4)), strict=True)
        ),
        current=dict(zip(PUMPS, rng.uniform(4, 14, 2), strict=True)),
        disturbances={
            "tank_1.demand": np.where((at >= 20) & (at < 34), 8.0, 0.3),
            "tank_2.demand": np.where(at < 7, 7.0, 0.3),
            "pump_1.running": np.ones(60),
            "pump_2.running": np.ones(60),
            "price.now": np.where(at < 30, 5.0, 14.0),
            "price.next": np.full(60, 14.0),
        },
        missed_rates={
            name: np.full(60, rate)
            for name, rate in zip(PHYSICS.states, rng.normal(0, 1e-3, 4), strict=True)
        },
        first_range=dict.fromkeys(PUMPS, (-100.0, 100.0)),
    )


# -- the grid -----------------------------------------------------------------------------


def test_an_hour_is_planned_finely_first() -> None:
    """Sixty steps become 29 moves: twelve of one minute, then two, three and five minutes."""
    assert interval_steps(60) == (1,) * 12 + (2,) * 9 + (3,) * 5 + (5,) * 3


@given(steps=st.integers(1, 1000))
def test_intervals_add_up_to_any_horizon(steps: int) -> None:
    """No step of the horizon is left out or planned twice."""
    lengths = interval_steps(steps)
    assert sum(lengths) == steps
    assert min(lengths) >= 1


# -- answers known on paper ----------------------------------------------------------------


def test_a_pump_that_only_costs_is_stopped_at_its_rate(tmp_path: Path) -> None:
    """With no level to keep, the cheapest plan is the low limit, as fast as the rate lets it."""
    plant, physics = tank_plant(tmp_path, soft=0.0)
    moves = Nmpc(plant, physics).solve(ask(plant, physics, level=20, pump=10)).moves[PUMP]
    assert moves[:2] == pytest.approx([4.0, 0.0], abs=1e-3)
    assert np.abs(moves[2:]).max() < 1e-3


def test_a_priced_level_rests_where_slopes_cancel(tmp_path: Path) -> None:
    """The level rests where one more centimetre costs in pumping what it saves in limit price.

    Pumping: 7.2 ct/h per cm³/s times 0.5 cm³/s per cm. Limit price: 2 w h h', and at the limit
    itself h is half the corner's width of 0.05 cm and h' a half. So w = 144 rests at the limit.
    """
    plant, physics = tank_plant(tmp_path, price=2.0, soft=144.0, low=4.5, margin_low=0.5)
    solution = Nmpc(plant, physics).solve(ask(plant, physics, level=5.0, pump=2.5))
    assert solution.is_usable
    # 0.03: the grid turns from one- to two-minute moves after twelve.
    assert solution.moves[PUMP][:30] == pytest.approx(np.full(30, 2.5), abs=0.03)


def test_demand_that_is_known_ahead_is_met_ahead(tmp_path: Path) -> None:
    """The pump moves before a demand that it cannot follow fast enough, not after."""
    plant, physics = tank_plant(tmp_path, soft=144.0)
    demand = np.where(np.arange(60) < 10, 0.0, 15.0)
    problem = replace(ask(plant, physics, level=5.0, pump=2.5), disturbances={DEMAND: demand})
    moves = Nmpc(plant, physics).solve(problem).moves[PUMP]
    assert moves[:5].max() < 3.0
    assert moves[9] > 4.0
    assert moves[15:30] == pytest.approx(np.full(15, 17.5), abs=0.05)


@pytest.mark.parametrize(("rank_a", "rank_b", "rests_at"), [(1, 2, 11.2), (2, 1, 8.8)])
def test_the_better_rank_is_held_closer(
    tmp_path: Path, rank_a: int, rank_b: int, rests_at: float
) -> None:
    """Of two limits that exclude each other, 12 and 8 cm, the better rank weighs four times.

    Least 4 (12 − x)² + (x − 8)² is at 11.2, with the ranks swapped at 8.8.
    """
    plant, physics = torn_plant(tmp_path, rank_a=rank_a, rank_b=rank_b)
    solution = Nmpc(plant, physics).solve(ask(plant, physics, level=10, pump=5))
    assert solution.moves[PUMP][30:45] == pytest.approx(np.full(15, rests_at / 2), abs=0.02)


@pytest.mark.parametrize(("higher", "rests_at"), [(None, 8.0), (2.0, 6.0)])
def test_a_high_limit_is_kept_for_the_higher_level(
    tmp_path: Path, higher: float | None, rests_at: float
) -> None:
    """Paid for pumping, the level rests at its high limit, less what it may stand higher by.

    The numbers are those of the test above with their signs turned round.
    """
    plant, physics = tank_plant(tmp_path, price=-2.0, soft=144.0, low=0, margin_low=0, high=8.0)
    shift = None if higher is None else constant(plant, {LEVEL: higher})
    problem = replace(ask(plant, physics, level=rests_at, pump=rests_at / 2), higher=shift)
    moves = Nmpc(plant, physics).solve(problem).moves[PUMP]
    assert moves[:30] == pytest.approx(np.full(30, rests_at / 2), abs=0.03)


# -- limits that hold exactly ----------------------------------------------------------------


@given(
    level=st.floats(0, 40),
    pump=st.floats(0, 20),
    demand=st.floats(0, 30),
    room=st.floats(0, 6),
)
@settings(max_examples=40, deadline=None)
def test_limits_and_rates_hold_exactly_at_every_step(
    paper_tank: tuple[Plant, Physics, Nmpc], level: float, pump: float, demand: float, room: float
) -> None:
    """Whatever the plan is for, no move leaves a limit, its rate or the first move's range."""
    plant, physics, nmpc = paper_tank
    first = {PUMP: (pump - room, pump + room)}
    problem = ask(plant, physics, level=level, pump=pump, demand=demand, first_range=first)
    solution = nmpc.solve(problem)
    moves = solution.moves[PUMP]
    assert len(moves) == plant.horizon_steps
    assert moves.min() >= 0
    assert moves.max() <= 20
    assert np.abs(np.diff(moves, prepend=pump)).max() <= 6 + 1e-12
    assert pump - room <= moves[0] <= pump + room


@pytest.fixture(scope="module")
def paper_tank(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plant, Physics, Nmpc]:
    plant, physics = tank_plant(tmp_path_factory.mktemp("tank"), soft=144.0)
    return plant, physics, Nmpc(plant, physics)


@pytest.mark.parametrize("seed", range(6))
def test_limits_and_rates_hold_on_four_tanks(four_tank: Nmpc, seed: int) -> None:
    """The same on the shipped plant, from all over its range."""
    problem = busy(seed)
    solution = four_tank.solve(problem)
    assert solution.is_usable, solution.reason
    for pump in PUMPS:
        moves = solution.moves[pump]
        assert moves.min() >= 0
        assert moves.max() <= 18
        assert np.abs(np.diff(moves, prepend=problem.current[pump])).max() <= 6 + 1e-12


def test_a_range_of_one_value_pins_the_first_move(four_tank: Nmpc) -> None:
    """A pinned MV stands still for one step, exactly; the other is planned freely."""
    problem = busy()
    here = problem.current[PUMPS[0]]
    pinned = replace(problem, first_range={PUMPS[0]: (here, here), PUMPS[1]: (-100, 100)})
    solution = four_tank.solve(pinned)
    assert solution.is_usable, solution.reason
    assert solution.moves[PUMPS[0]][0] == here
    assert solution.moves[PUMPS[1]][0] != pytest.approx(problem.current[PUMPS[1]], abs=0.1)


@pytest.mark.parametrize(("room", "path"), [(6.0, [14, 12, 12]), (1.0, [19, 13, 12])])
def test_outside_a_tightened_limit_the_way_back_is_the_fastest(
    tmp_path: Path, room: float, path: list[float]
) -> None:
    """A pump that stands above a new limit comes down at its rate, though the tank wants more."""
    plant, physics = tank_plant(tmp_path, soft=1000.0, low=49)
    tight = [
        replace(tag, operator=Limits(low=0, high=12)) if tag.name == PUMP else tag
        for tag in plant.tags
    ]
    tightened = replace(plant, tags=tuple(tight))
    first = {PUMP: (20.0 - room, 20.0 + room)}
    problem = ask(tightened, physics, level=30, pump=20, first_range=first)
    solution = Nmpc(tightened, physics).solve(problem)
    assert solution.is_usable, solution.reason
    assert solution.moves[PUMP][:3] == pytest.approx(path, abs=1e-3)
    assert solution.moves[PUMP][2:].max() <= 12


# -- against others ---------------------------------------------------------------------------


def second_formulation(problem: Problem) -> tuple[float, dict[str, float]]:
    """The same question written again, in CasADi alone; its least cost and its first moves.

    Nothing is shared with the Pyomo model but the physics and the plant file's cost.
    """
    opti = casadi.Opti()
    lengths = interval_steps(FOUR_TANK.horizon_steps)
    levels = opti.variable(4, len(lengths) + 1)
    flows = opti.variable(2, len(lengths))
    opti.subject_to(levels[:, 0] == np.array([problem.states[name] for name in PHYSICS.states]))
    money, begin = 0, 0
    before = np.array([problem.current[pump] for pump in PUMPS])
    for k, length in enumerate(lengths):
        rows = slice(begin, begin + length)
        begin += length
        signals: dict[str, Any] = {
            name: float(path[rows].mean()) for name, path in problem.disturbances.items()
        }
        signals |= {pump: flows[i, k] for i, pump in enumerate(PUMPS)}
        inputs = PHYSICS.actuate(signals, casadi)
        columns = [casadi.vertsplit(levels[:, k + j]) for j in (0, 1)]
        start, end = (dict(zip(PHYSICS.states, column, strict=True)) for column in columns)
        slope = [PHYSICS.rates(x, inputs, casadi) for x in (start, end)]
        for name in PHYSICS.states:
            missed = float(problem.missed_rates[name][rows].mean())
            gained = 60 * length * (0.5 * slope[0][name] + 0.5 * slope[1][name] + missed)
            opti.subject_to(end[name] == start[name] + gained)
        middle = {name: 0.5 * (start[name] + end[name]) for name in PHYSICS.states}
        shown = signals | middle
        shown |= PHYSICS.planning_outputs(middle, inputs, casadi)
        money += length / 60 * (cost_per_h(FOUR_TANK, shown, casadi) + soft_price(end))
        change = flows[:, k] - (before if k == 0 else flows[:, k - 1])
        money += 0.0005 * casadi.sumsqr(change)
        opti.subject_to(opti.bounded(-6, change, 6))
    opti.subject_to(opti.bounded(0, casadi.vec(flows), 18))
    opti.set_initial(levels, 8.0)
    opti.set_initial(flows, 8.0)
    opti.minimize(money)
    opti.solver("ipopt", {"print_time": False, "ipopt": {"print_level": 0, "sb": "yes"}})
    answer = opti.solve()
    first = np.asarray(answer.value(flows[:, 0])).ravel()
    return float(answer.value(money)), dict(zip(PUMPS, first, strict=True))


def soft_price(levels: Mapping[str, Any]) -> Any:
    """36 ct/h per cm², four times for the lower tanks, beyond the limits less their margins."""
    total = 0
    for i, (low, high, weight) in enumerate(
        [(5.6, 16.5, 144), (5.6, 16.5, 144), (0.5, 5.8, 36), (0.5, 5.8, 36)]
    ):
        at = levels[PHYSICS.states[i]]
        for outside in (low - at, at - high):
            total += weight * (0.5 * (outside + casadi.sqrt(outside**2 + 0.05**2))) ** 2
    return total


@pytest.mark.parametrize("seed", range(3))
def test_a_second_formulation_finds_the_same_plan(four_tank: Nmpc, seed: int) -> None:
    """Written again without Pyomo, the problem has the same least cost and first moves."""
    problem = busy(seed)
    solution = four_tank.solve(problem)
    cost, first = second_formulation(problem)
    assert solution.objective == pytest.approx(cost, rel=1e-2)  # as far as local optima go
    for pump in PUMPS:
        assert solution.moves[pump][0] == pytest.approx(first[pump], abs=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_a_warm_start_gives_the_cold_answer_sooner(seed: int) -> None:
    """What was planned a moment ago changes how fast the answer comes, not the next move.

    Far out there are local optima, up to 1 % apart in cost on 12 such problems.
    """
    problem, cold, warm = busy(seed), Nmpc(FOUR_TANK, PHYSICS), Nmpc(FOUR_TANK, PHYSICS)
    moved = {name: level + 0.05 for name, level in problem.states.items()}
    warm.solve(replace(problem, states=moved))
    first, second = cold.solve(problem), warm.solve(problem)
    assert second.iterations < first.iterations
    assert second.objective == pytest.approx(first.objective, rel=1e-2)
    for pump in PUMPS:
        assert second.moves[pump][0] == pytest.approx(first.moves[pump][0], abs=0.02)


# -- when it cannot ------------------------------------------------------------------------------


def test_out_of_time_is_an_answer(four_tank: Nmpc) -> None:
    """A microsecond is not enough, and the answer says so instead of a half-made plan."""
    solution = Nmpc(FOUR_TANK, PHYSICS, deadline_s=1e-6).solve(busy())
    assert not solution.is_usable
    assert solution.is_out_of_time
    assert "time" in solution.reason.lower()


class OtherAnswer:
    """A solver that answers for other prices, with multipliers made up so that no slope is left."""

    def __init__(self, nmpc: Nmpc, named: str, factor: float) -> None:
        model = nmpc._model
        self._true, self._slopes = model._solver, model._slopes
        self._factors = np.array([factor if n == named else 1 for _, n, _ in model.parameters])

    def __call__(self, **asked: Any) -> dict[str, Any]:
        answer = self._true(**{**asked, "p": asked["p"] * self._factors})
        slopes = self._slopes(answer["x"], asked["p"], 1.0, answer["lam_g"])[2]
        return {**answer, "lam_x": -slopes.T}

    def stats(self) -> Any:
        return self._true.stats()


def test_a_feasible_plan_that_is_not_the_best_is_found_out(four_tank: Nmpc) -> None:
    """Feasible, "optimal" and without slope is not enough: limits not reached have no price."""
    assert four_tank.solve(busy()).is_usable
    fooled = Nmpc(FOUR_TANK, PHYSICS)
    fooled._model._solver = OtherAnswer(fooled, "price.now", 1.0)
    assert fooled.solve(busy()).is_usable
    fooled._model._solver = OtherAnswer(Nmpc(FOUR_TANK, PHYSICS), "price.now", 3.0)
    assert refused(fooled.solve(busy()), "limit out of reach")


def refused(solution: Solution, *words: str) -> bool:
    return not solution.is_usable and all(word in solution.reason for word in words)


def test_what_is_not_known_is_named(four_tank: Nmpc) -> None:
    """A NaN in levels, disturbances, rates or MVs gives a reason with the tag's name, no plan."""
    problem = busy()
    nan = {"tank_2.level": np.nan}
    gap = np.where(np.arange(60) == 40, np.nan, 1.0)
    demand = {**problem.disturbances, "tank_1.demand": gap}
    rates = {**problem.missed_rates, "tank_3.level": gap}
    here = {**problem.current, PUMPS[1]: np.nan}
    for asked, name in (
        (replace(problem, states={**problem.states, **nan}), "tank_2.level"),
        (replace(problem, disturbances=demand), "tank_1.demand"),
        (replace(problem, missed_rates=rates), "tank_3.level"),
        (replace(problem, current=here), PUMPS[1]),
    ):
        assert refused(four_tank.solve(asked), name, "not known")
    assert four_tank.solve(problem).is_usable  # and nothing of it stays


def test_a_disturbance_nobody_reads_may_be_unknown(four_tank: Nmpc) -> None:
    """The next hour's price is in neither physics nor cost: it cannot hold a plan up."""
    problem = busy()
    unread = {**problem.disturbances, "price.next": np.full(60, np.nan)}
    assert four_tank.solve(replace(problem, disturbances=unread)).is_usable


def test_a_first_move_that_no_rate_allows_is_refused(tmp_path: Path) -> None:
    """A range out of the rate's reach is infeasible: a reason, not an exception."""
    plant, physics = tank_plant(tmp_path)
    problem = ask(plant, physics, level=5, pump=2, first_range={PUMP: (15.0, 16.0)})
    assert not Nmpc(plant, physics).solve(problem).is_usable


def test_every_mv_and_state_is_planned() -> None:
    """The plan covers each MV of the plant file over every step of its horizon."""
    solution = Nmpc(FOUR_TANK, PHYSICS).solve(busy())
    assert set(solution.moves) == {tag.name for tag in FOUR_TANK.with_role(Role.MV)}
    assert {len(path) for path in solution.moves.values()} == {FOUR_TANK.horizon_steps}
