"""Money per hour: one definition for planners, studies and scores.

The cost is the plant file's expression over tags; time outside operator limits has a price per CV
and minute. Nothing here predicts, plans or stores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from twin.errors import PlantwrightError
from twin.plant import Plant, Role
from twin.records import Series


@dataclass(frozen=True)
class Score:
    """What a stretch of the plant's record cost, in the plant's currency per hour.

    `limit_minutes` are minutes outside operator limits per CV over the whole stretch. A figure
    is NaN where a value it needs is not known at every step.
    """

    cost_per_h: float
    operating_cost_per_h: float
    limit_cost_per_h: float
    limit_minutes: Mapping[str, float]
    hours: float


def cost_per_h(plant: Plant, signals: Mapping[str, Any], f: ModuleType = math) -> Any:
    """The plant file's cost in its currency per hour; limits are not priced in.

    `signals` holds each tag of the expression in the tag's own unit, as floats, arrays, tensors
    or solver expressions; `f` supplies their functions (math, numpy, torch, pyomo.environ,
    casadi).

    Raises:
        PlantwrightError: the plant file has no economics.
        ExpressionError: a signal that the cost needs is missing.
    """
    if plant.cost is None:
        raise PlantwrightError(
            f"{plant.plant}: the plant file says nothing about money. Add `economics` to it."
        )
    return plant.cost.evaluate(signals, f)


def limit_minutes(plant: Plant, levels: Mapping[str, Series], step_s: float) -> dict[str, float]:
    """Minutes outside operator limits, for each CV in `levels` that has any.

    `levels[cv]` has one true or predicted value per step. NaN if a value is not known.
    """
    minutes = {}
    for tag in plant.with_role(Role.CV):
        if tag.operator is None or tag.name not in levels:
            continue
        values = np.asarray(levels[tag.name], dtype=float)
        low = -math.inf if tag.operator.low is None else tag.operator.low
        high = math.inf if tag.operator.high is None else tag.operator.high
        outside = np.count_nonzero((values < low) | (values > high)) * step_s / 60.0
        minutes[tag.name] = math.nan if np.isnan(values).any() else float(outside)
    return minutes


def score(plant: Plant, signals: Mapping[str, Series], step_s: float) -> Score:
    """What a record cost: `signals[tag]` holds one value per step, `step_s` apart.

    Needs the tags of the plant's cost and every CV with operator limits.

    Raises:
        PlantwrightError: the plant file has no economics, or a series is missing or empty.
    """
    operating = np.asarray(cost_per_h(plant, signals, np), dtype=float)
    wanted = [tag.name for tag in plant.with_role(Role.CV) if tag.operator is not None]
    missing = [name for name in wanted if name not in signals]
    if missing:
        raise PlantwrightError(f"{plant.plant}: no score without {', '.join(missing)}.")
    steps = {len(np.atleast_1d(signals[name])) for name in (*wanted, *_cost_names(plant))}
    if len(steps) != 1 or 0 in steps:
        lengths = ", ".join(map(str, sorted(steps)))
        raise PlantwrightError(f"{plant.plant}: a score needs series of one length, not {lengths}.")
    hours = steps.pop() * step_s / 3600.0
    minutes = limit_minutes(plant, signals, step_s)
    price = plant.economics.limit_price_per_min if plant.economics is not None else 0.0
    limit_cost = price * sum(minutes.values()) / hours
    spent = float(operating.mean())
    return Score(spent + limit_cost, spent, limit_cost, minutes, hours)


def _cost_names(plant: Plant) -> frozenset[str]:
    return frozenset() if plant.cost is None else plant.cost.names
