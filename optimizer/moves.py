"""How far an MV may go from where it stands, and what of a plan is sent on its way.

Values, rooms and ranges are in the tag's own unit. Nothing here knows a model, a solver or a kind
of plant.
"""

from __future__ import annotations

import math

from twin.plant import Plant, Tag
from twin.records import Plan, PlanStatus, PlantState


def hard_range(tag: Tag) -> tuple[float, float]:
    """The range inside both limit pairs of a tag, infinite where a side is open."""
    pairs = [limits for limits in (tag.engineering, tag.operator) if limits is not None]
    lows = [limits.low for limits in pairs if limits.low is not None]
    highs = [limits.high for limits in pairs if limits.high is not None]
    return max(lows, default=-math.inf), min(highs, default=math.inf)


def largest_change(plant: Plant, mv: Tag) -> float:
    """How far an MV may go from one interval to the next: one plan step at its rate."""
    rate = mv.rate_limit_per_min
    return math.inf if rate is None else rate * plant.step_s / 60


def nearest_inside(mv: Tag, current: float, room: float) -> float:
    """Where the MV stands, or as far towards its limits as `room` lets it, if it is outside."""
    low, high = hard_range(mv)
    return min(max(current, min(low, current + room)), max(high, current - room))


def within_room(mv: Tag, current: float, room: float) -> tuple[float, float]:
    """From where to where moves of at most `room` take the MV inside its limits.

    Outside them it may only go towards them: from `nearest_inside` to itself.
    """
    low, high = hard_range(mv)
    at = nearest_inside(mv, current, room)
    return min(max(low, current - room), at), max(min(high, current + room), at)


def next_setpoints(plant: Plant, plan: Plan, state: PlantState) -> dict[str, float]:
    """The next setpoints of a solved plan that differ from where the MVs stand, else none.

    Rounded to the tag's decimals towards the present value, so that rounding can neither leave a
    limit nor exceed a rate. An MV whose present value is not usable is left out.
    """
    setpoints: dict[str, float] = {}
    if plan.status is not PlanStatus.SOLVED:
        return setpoints
    for name, target in plan.first_move.items():
        current = state.value(plant.tag(name).stands_at)
        if current is None:
            continue
        rounded = rounded_towards(current, target, plant.tag(name).decimals)
        if rounded is not None:
            setpoints[name] = rounded
    return setpoints


def rounded_towards(current: float, target: float, decimals: int) -> float | None:
    """`target` in so many decimals, between `current` and itself; None if that leaves no move."""
    scale = 10.0**decimals
    up = target > current
    grid = math.floor(target * scale) if up else math.ceil(target * scale)
    rounded = grid / scale
    if (rounded > target) if up else (rounded < target):  # the product was rounded past it
        rounded = (grid - 1 if up else grid + 1) / scale
    is_move = current < rounded if up else rounded < current
    return rounded if is_move else None
