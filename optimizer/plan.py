"""From an estimate to a verified plan: ask the planner, roll the plan out, fall back to holding.

A plan is used only if a rollout of the physics on the full step grid stays finite, and passes no
engineering limit that holding would respect or pass by less. Whatever fails ends in holding the
present setpoints, with the reason; nothing here raises for a hard problem. The gate decides
afterwards, on its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import casadi
import numpy as np

from optimizer.moves import hard_range
from optimizer.nmpc import Nmpc, Problem, Solution
from twin.economics import cost_per_h, limit_minutes
from twin.physics import Physics, floors
from twin.plant import Plant, Role, Tag
from twin.records import Estimate, Plan, PlanStatus, PlantState, Series
from twin.safety import free_ways, related

_BINDING_SHARE = 0.01  # a limit binds when the plan comes within this share of its range

_Question = tuple[Mapping[str, Series], Mapping[str, Series] | None]  # disturbances, higher


@dataclass(frozen=True)
class Outlook:
    """What following a path of setpoints would do: states and outputs per plan step.

    `cost_per_h` is the mean over the horizon, with the price of minutes outside operator limits.
    """

    values: Mapping[str, Series]
    cost_per_h: float


class Rollout:
    """The physics on the plan's step grid, compiled: one Runge–Kutta step per plan step."""

    def __init__(self, plant: Plant, physics: Physics) -> None:
        self._plant = plant
        self._physics = physics
        self._mvs = [tag.name for tag in plant.with_role(Role.MV)]
        self._dvs = [tag.name for tag in plant.with_role(Role.DV)]
        x = casadi.SX.sym("x", len(physics.states))
        u = casadi.SX.sym("u", len(self._mvs))
        d = casadi.SX.sym("d", len(self._dvs))
        missed = casadi.SX.sym("missed", len(physics.states))
        states = {name: x[i] for i, name in enumerate(physics.states)}
        signals = {name: u[i] for i, name in enumerate(self._mvs)}
        signals |= {name: d[i] for i, name in enumerate(self._dvs)}
        inputs = physics.actuate(signals, casadi)
        extra = {name: missed[i] for i, name in enumerate(physics.states)}
        after = physics.advance(states, inputs, plant.step_s, casadi, extra)
        lowest = dict(zip(physics.states, floors(plant, physics), strict=True))
        after = {name: _at_least(lowest[name], value) for name, value in after.items()}
        middle = {name: 0.5 * (states[name] + after[name]) for name in physics.states}
        outputs = physics.outputs_at(middle, inputs, casadi)
        money = cost_per_h(plant, signals | middle | outputs, casadi)
        step = casadi.Function(
            "step",
            [x, u, d, missed],
            [
                casadi.vertcat(*[after[name] for name in physics.states]),
                casadi.vertcat(*[outputs[name] for name in physics.outputs], money),
            ],
        )
        self._run = step.mapaccum(plant.horizon_steps)

    def follow(
        self,
        states: Mapping[str, float],
        moves: Mapping[str, Series],
        disturbances: Mapping[str, Series],
        missed_rates: Mapping[str, Series],
    ) -> Outlook:
        """Where `moves` lead from `states`; series have one element per plan step."""
        after, shown = self._run(
            np.array([states[name] for name in self._physics.states]),
            np.array([moves[name] for name in self._mvs]),
            np.array([disturbances[name] for name in self._dvs]),
            np.array([missed_rates[name] for name in self._physics.states]),
        )
        paths, extra = np.asarray(after), np.asarray(shown)
        values = dict(zip(self._physics.states, paths, strict=True))
        values |= dict(zip(self._physics.outputs, extra[:-1], strict=True))
        return Outlook(values, float(extra[-1].mean()) + self._limit_cost_per_h(values))

    def _limit_cost_per_h(self, values: Mapping[str, Series]) -> float:
        plant = self._plant
        if plant.economics is None:
            return 0.0
        outside_min = sum(limit_minutes(plant, values, plant.step_s).values())
        hours = plant.horizon_steps * plant.step_s / 3600
        return plant.economics.limit_price_per_min * outside_min / hours


def _at_least(low: float, value: Any) -> Any:
    """The value, not below `low`; no number stays none: fmax would make it an empty tank."""
    return value if low == -math.inf else casadi.if_else(value < low, low, value)


class Planner:
    """The planner of one plant: compiled once, then asked every round.

    `solve` answers its problems; without one, an `Nmpc` of its own.
    """

    def __init__(
        self,
        plant: Plant,
        physics: Physics,
        *,
        deadline_s: float = 2.0,
        solve: Callable[[Problem], Solution] | None = None,
    ) -> None:
        self._plant = plant
        self._physics = physics
        self._solve = solve or Nmpc(plant, physics, deadline_s=deadline_s).solve
        self._rollout = Rollout(plant, physics)

    def outlook(
        self,
        estimate: Estimate,
        moves: Mapping[str, Series],
        disturbances: Mapping[str, Series],
        missed_rates: Mapping[str, Series],
    ) -> Outlook:
        """What `moves` would do, by the physics and the given missed rates."""
        return self._rollout.follow(estimate.states, moves, disturbances, missed_rates)

    def plan(
        self,
        state: PlantState,
        estimate: Estimate,
        disturbances: Mapping[str, Series],
        missed_rates: Mapping[str, Series],
        room: Mapping[str, float | None],
        ready_for: Mapping[str, Series] | None = None,
        likely_moves: Mapping[str, Series] | None = None,
        still: frozenset[str] = frozenset(),
    ) -> Plan:
        """The best verified plan from here, or holding with the reason why.

        `ready_for` are disturbances to be prepared for, by default the expected `disturbances`;
        how much higher states stand without them is worked out along `likely_moves` (default:
        holding). If no such plan can be used, the expected ones alone are planned for. Predictions
        and costs of the answer are always those of the expected ones.
        `room`: MV -> the largest next move that rate and move budget leave; None if unknown. An
        MV whose reading is not usable is planned around where it was last seen. `still`: MVs that
        nobody is going to move along the plan, so that no benefit counts on them.
        """
        current, unknown = self._standing(state)
        if unknown:
            return self._hold(state, current, PlanStatus.HELD_NO_STATE, unknown)
        first_range = {
            mv.name: first_move_range(mv, current[mv.name], room.get(mv.name), state, self._plant)
            for mv in self._plant.with_role(Role.MV)
        }
        holding = self._paths(current)
        held = self._rollout.follow(estimate.states, holding, disturbances, missed_rates)
        questions: list[_Question] = [(disturbances, None)]
        if ready_for is not None:
            along = likely_moves or holding
            shift = self._higher(estimate, along, disturbances, ready_for, missed_rates)
            questions.insert(0, (ready_for, shift))
        answer, spent_ms = None, 0.0
        for lines, higher in questions:
            solution = self._solve(
                Problem(estimate.states, current, lines, missed_rates, first_range, higher, still)
            )
            spent_ms += solution.solve_ms
            if not solution.is_usable:
                status, reason = _why_held(solution, held), solution.reason
                answer = answer or self._hold(state, current, status, reason, held, spent_ms)
                if solution.is_out_of_time:
                    break
                continue
            moves = solution.moves
            outlook = self._rollout.follow(estimate.states, moves, disturbances, missed_rates)
            doubt = self._doubt(outlook, held)
            if not doubt:
                return self._solved(state, moves, outlook, held, answer, spent_ms)
            status = PlanStatus.HELD_INFEASIBLE
            answer = answer or self._hold(state, current, status, doubt, held, spent_ms)
        assert answer is not None
        return answer

    def _standing(self, state: PlantState) -> tuple[dict[str, float], str]:
        """Where every MV was last seen, and why nothing can be planned from there, if so."""
        current: dict[str, float] = {}
        for mv in self._plant.with_role(Role.MV):
            at = state.last_known(mv.stands_at)
            if at is None:
                return {}, f"{mv.stands_at}: no reading yet"
            current[mv.name] = at
        shown = [self._plant.tag(mv).stands_at for mv in current]
        unusable = [tag for tag in shown if state.value(tag) is None]
        if len(unusable) < len(current):
            return current, ""
        return current, "; ".join(state.tags[tag].reason.rstrip(".") for tag in unusable)

    def _higher(
        self,
        estimate: Estimate,
        moves: Mapping[str, Series],
        disturbances: Mapping[str, Series],
        ready_for: Mapping[str, Series],
        missed_rates: Mapping[str, Series],
    ) -> dict[str, Series]:
        """How much higher each state stands if only the expected disturbances come."""
        expected = self._rollout.follow(estimate.states, moves, disturbances, missed_rates)
        ready = self._rollout.follow(estimate.states, moves, ready_for, missed_rates)
        return {
            name: np.maximum(expected.values[name] - ready.values[name], 0.0)
            for name in self._physics.states
        }

    def _solved(
        self,
        state: PlantState,
        moves: Mapping[str, Series],
        outlook: Outlook,
        held: Outlook,
        given_up: Plan | None,
        solve_ms: float,
    ) -> Plan:
        reason = f"prepared for the expected only: {given_up.reason}" if given_up else ""
        return Plan(
            status=PlanStatus.SOLVED,
            reason=reason,
            start=state.at,
            step_s=self._plant.step_s,
            moves=moves,
            predicted=outlook.values,
            cost_per_h=outlook.cost_per_h,
            hold_cost_per_h=held.cost_per_h,
            binding=self._binding(moves, outlook),
            solve_ms=solve_ms,
        )

    def _paths(self, current: Mapping[str, float]) -> dict[str, Series]:
        return {mv: np.full(self._plant.horizon_steps, at) for mv, at in current.items()}

    def _doubt(self, outlook: Outlook, held: Outlook) -> str:
        """Why a rolled-out plan cannot be used; empty if it can."""
        for name, path in outlook.values.items():
            if not np.isfinite(path).all():
                return f"{name}: the rollout of the plan is not finite"
            tag = self._plant.tag(name)
            high = tag.engineering.high if tag.engineering is not None else None
            # Where holding passes the limit too, the plan that passes it by less is the better.
            if high is not None and path.max() > max(high, held.values[name].max()):
                return (
                    f"{name}: the plan would reach {path.max():.2f} {tag.unit}, above the "
                    f"engineering limit of {high:g} {tag.unit}"
                )
        if not math.isfinite(outlook.cost_per_h):
            return "the rollout of the plan has no finite cost"
        return ""

    def _hold(
        self,
        state: PlantState,
        current: Mapping[str, float],
        status: PlanStatus,
        reason: str,
        held: Outlook | None = None,
        solve_ms: float = 0.0,
    ) -> Plan:
        cost = held.cost_per_h if held is not None else math.nan
        return Plan(
            status=status,
            reason=reason,
            start=state.at,
            step_s=self._plant.step_s,
            moves=self._paths(current),
            predicted=held.values if held is not None else {},
            cost_per_h=cost,
            hold_cost_per_h=cost,
            solve_ms=solve_ms,
        )

    def _binding(self, moves: Mapping[str, Series], outlook: Outlook) -> tuple[str, ...]:
        """Limits that the plan touches, in words."""
        found = []
        for tag in self._plant.tags:
            path = moves.get(tag.name) if tag.role is Role.MV else outlook.values.get(tag.name)
            if path is None or tag.role not in (Role.MV, Role.CV):
                continue
            low, high = hard_range(tag)
            width = high - low
            near = _BINDING_SHARE * (width if math.isfinite(width) else 1.0)
            if path.min() <= low + tag.margin_low + near:
                found.append(_touching(tag, "low", low, tag.margin_low))
            if path.max() >= high - tag.margin_high - near:
                found.append(_touching(tag, "high", high, tag.margin_high))
        return tuple(found)


def _touching(tag: Tag, side: str, limit: float, margin: float) -> str:
    """A limit that a plan touches, in words; a CV is kept its margin away."""
    where = f"within {margin:g} {tag.unit}".rstrip() + " of" if margin else "at"
    return f"{tag.name} {where} its {side} limit {limit:g} {tag.unit}".rstrip()


def _why_held(solution: Solution, held: Outlook) -> PlanStatus:
    if solution.is_out_of_time:
        return PlanStatus.HELD_TIMED_OUT
    # Where not even holding can be worked out, it is the plant that is not known.
    is_known = math.isfinite(held.cost_per_h)
    return PlanStatus.HELD_FAILED if is_known else PlanStatus.HELD_NO_STATE


def first_move_range(
    mv: Tag, current: float, room: float | None, state: PlantState, plant: Plant
) -> tuple[float, float]:
    """Where the MV's next setpoint may lie, by what the gate is going to ask.

    The range holds only the present setpoint when the room or a tag that can block the MV is
    unknown. While a CV among those stands outside its limits, only the declared relieving
    direction is left; at an end of what the MV drives, only the way back.
    """
    names = related(mv)
    if room is None or any(state.value(tag) is None for tag in names):
        return current, current
    low, high = current - room, current + room
    if mv.windup is not None and (status := state.value(mv.windup.tag)) is not None:
        free = free_ways(mv.windup, status)
        low, high = low if "down" in free else current, high if "up" in free else current
    for name in names:
        cv, value = plant.tag(name), state.value(name)
        if cv.role is not Role.CV or value is None:
            continue
        lowest, highest = hard_range(cv)
        for side, is_outside in (("low", value < lowest), ("high", value > highest)):
            if not is_outside:
                continue
            declared = {r.direction for r in mv.relief if r.cv == name and r.side == side}
            if declared != {"up"}:
                high = current
            if declared != {"down"}:
                low = current
    return low, high
