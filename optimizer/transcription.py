"""The plan as a Pyomo model: states at interval ends, moves per interval, money to spend.

Written once per plant; `optimizer.nmpc` compiles and solves it. Nothing here solves anything.

Source: direct transcription with the trapezoidal rule, Betts, "Practical Methods for Optimal
Control", 2nd ed., section 4.5. Choices and measurements: docs/decisions/0005-planner.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import pyomo.environ as pyo

from optimizer.moves import hard_range, largest_change
from twin.economics import cost_per_h
from twin.physics import Physics
from twin.plant import Plant, Role, Tag

#: (how many, steps each): moves are free every step at first and held longer further out.
_BLOCKS = ((12, 1), (9, 2), (5, 3))
_LAST_BLOCK_STEPS = 5

_HINGE_WIDTH = 0.05  # width of the corner of a soft limit, in the CV's unit
_RANK_FACTOR = 4.0  # how much dearer each better rank is; a rank yields only when it must


def interval_steps(horizon_steps: int) -> tuple[int, ...]:
    """Lengths of the plan's intervals in steps; they add up to the horizon."""
    lengths: list[int] = []
    for count, length in (*_BLOCKS, (horizon_steps, _LAST_BLOCK_STEPS)):
        for _ in range(count):
            left = horizon_steps - sum(lengths)
            if left <= 0:
                return tuple(lengths)
            lengths.append(min(length, left))
    return tuple(lengths)


def plan_model(
    plant: Plant, physics: Physics, mvs: tuple[Tag, ...], lengths: tuple[int, ...]
) -> pyo.ConcreteModel:
    """The plan as a Pyomo model: states at interval ends, moves per interval, money to spend.

    Parameters are variables here: a mutable Param would be folded into the .nl as a constant.
    States have no hard limits: a plant that stands outside one must still be planned for.
    States move under the disturbances to be ready for; their high limits are judged as much
    "higher" as the states would stand under the expected ones, so that a plan can insure against
    a batch that comes early without overfilling for one that comes late.
    """
    last = len(lengths)
    dvs = [tag.name for tag in plant.with_role(Role.DV)]
    model = pyo.ConcreteModel()
    model.parameter = pyo.Var(
        [("state", s, 0) for s in physics.states]
        + [("current", mv.name, 0) for mv in mvs]
        + [("missed", s, k) for s in physics.states for k in range(last)]
        + [("higher", s, k) for s in physics.states for k in range(last)]
        + [("dv", dv, k) for dv in dvs for k in range(last)],
        initialize=0.0,
    )
    model.state = pyo.Var(list(physics.states), range(1, last + 1), initialize=1.0)
    model.move = pyo.Var([mv.name for mv in mvs], range(last), initialize=1.0)
    for mv in mvs:
        low, high = hard_range(mv)
        for k in range(last):
            model.move[mv.name, k].setlb(None if math.isinf(low) else low)
            model.move[mv.name, k].setub(None if math.isinf(high) else high)
    model.dynamics = pyo.ConstraintList()
    model.rate = pyo.ConstraintList()
    spent = 0.0
    for k, length in enumerate(lengths):
        hours = length * plant.step_s / 3600
        before = _state_at(model, physics, k)
        after = _state_at(model, physics, k + 1)
        signals = {dv: model.parameter["dv", dv, k] for dv in dvs}
        signals |= {mv.name: model.move[mv.name, k] for mv in mvs}
        inputs = physics.actuate(signals, pyo)
        slope = (physics.rates(before, inputs, pyo), physics.rates(after, inputs, pyo))
        for state in physics.states:
            mean_rate = 0.5 * (slope[0][state] + slope[1][state])
            missed = model.parameter["missed", state, k]
            step = length * plant.step_s * (mean_rate + missed)
            model.dynamics.add(after[state] - before[state] - step == 0)
        middle = {state: 0.5 * (before[state] + after[state]) for state in physics.states}
        shown = signals | middle | physics.planning_outputs(middle, inputs, pyo)
        higher = {state: model.parameter["higher", state, k] for state in physics.states}
        spent += hours * (
            cost_per_h(plant, shown, pyo) + soft_limit_price(plant, shown | after, pyo, higher)
        )
        for mv in mvs:
            earlier = model.move[mv.name, k - 1] if k else model.parameter["current", mv.name, 0]
            change = model.move[mv.name, k] - earlier
            spent += mv.move_price * change * change
            most = largest_change(plant, mv)
            if math.isfinite(most):
                model.rate.add((-most, change, most))
    model.spent = pyo.Objective(expr=spent)
    return model


def _state_at(model: pyo.ConcreteModel, physics: Physics, k: int) -> dict[str, pyo.Var]:
    if k == 0:
        return {state: model.parameter["state", state, 0] for state in physics.states}
    return {state: model.state[state, k] for state in physics.states}


def soft_limit_price(
    plant: Plant, values: Mapping[str, Any], f: ModuleType, higher: Mapping[str, Any] | None = None
) -> Any:
    """Money per hour for CVs outside operator limits tightened by their margins.

    `higher`: CV -> how much higher than `values` it may stand where its high limit is judged.
    Quadratic with a rounded corner: a kink makes solvers stop early (measured on this plant).
    """
    worst_rank = max((cv.rank or 1 for cv in plant.with_role(Role.CV)), default=1)
    price = 0.0
    for cv in plant.with_role(Role.CV):
        if cv.operator is None or cv.name not in values or not cv.soft_price_per_h:
            continue
        weight = cv.soft_price_per_h * _RANK_FACTOR ** (worst_rank - (cv.rank or worst_rank))
        value = values[cv.name]
        highest = value + (higher or {}).get(cv.name, 0.0)
        if cv.operator.low is not None:
            price += weight * _hinge(cv.operator.low + cv.margin_low - value, f) ** 2
        if cv.operator.high is not None:
            price += weight * _hinge(highest - cv.operator.high + cv.margin_high, f) ** 2
    return price


def _hinge(excess: Any, f: ModuleType) -> Any:
    return 0.5 * (excess + f.sqrt(excess * excess + _HINGE_WIDTH**2))
