"""Why a plan moves what it moves, in words a person can check before deciding.

Any plant's round; a furnace's has words of its own (`slab_reasons`). Reads one round and its
forecast, computes no plan; why nothing is proposed, or the gate says no, is told where that is
decided.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from optimizer.controller import Round
from optimizer.slab_reasons import slab_reasons
from twin.plant import Batches, Plant, Role
from twin.records import Forecast, Plan, PlanStatus


def describe(done: Round, plant: Plant, fan: Forecast | None = None) -> str:
    """Why this plan, in one or two sentences a person can check; `fan` is its forecast."""
    plan = done.plan
    if plan.status is not PlanStatus.SOLVED:
        return f"Holding the present setpoints: {plan.reason}."
    if plant.furnace is not None:
        return slab_reasons(plant, done, fan)
    horizon_min = plant.horizon_steps * plant.step_s / 60
    text = f"Over the next {horizon_min:g} min this {_against_holding(plan, plant)}."
    coming = _next_batch(done, plant)
    if coming:
        text += f" Prepares for {coming}."
    if plan.binding:
        text += f" Limited by {', '.join(plan.binding)}."
    return text


def _against_holding(plan: Plan, plant: Plant) -> str:
    """What the plan saves or costs, and against what: no PLC in AUTO would hold for so long."""
    money = f"{plant.economics.currency if plant.economics else ''}/h"
    mvs, benefit = plant.with_role(Role.MV), plan.benefit_per_h
    verb = f"saves {benefit:.2f} {money} against"
    if benefit < 0:
        verb = f"costs {-benefit:.2f} {money} more than"
    kept, them = f"{'both' if len(mvs) == 2 else 'all'} setpoints as they are", "them"
    if len(mvs) == 1:
        kept, them = "the setpoint as it is", "it"
    words = (
        f"{verb} keeping {kept} ({plan.cost_per_h:.2f} instead of "
        f"{plan.hold_cost_per_h:.2f} {money})"
    )
    has_own_control = any(mv.remote for mv in mvs)
    return f"{words}; the PLC in AUTO would move {them} itself" if has_own_control else words


def _next_batch(done: Round, plant: Plant) -> str:
    """The nearest announced batch inside the horizon, in words; empty if there is none."""
    horizon = timedelta(seconds=plant.horizon_steps * plant.step_s)
    known: list[tuple[datetime, str]] = []
    for block in plant.discrete:
        if not isinstance(block, Batches):
            continue
        for slot in block.slots:
            start_s, draw = done.state.value(slot.start), done.state.value(slot.draw)
            if start_s is None or not draw:
                continue
            start = datetime.fromtimestamp(start_s, tz=UTC)
            if done.state.at <= start <= done.state.at + horizon:
                unit = plant.tag(block.demand).unit
                due_min = (start - done.state.at).total_seconds() / 60
                words = f"the batch of {draw:.1f} {unit} on {block.demand} due in {due_min:.0f} min"
                known.append((start, words))
    return min(known)[1] if known else ""
