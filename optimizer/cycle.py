"""One live planning round: take in readings, settle what is open, plan, ask the gate, propose.

`plan_round` is one round against the historian; what is kept between rounds is the
`Controller`, which `catch_up` brings up to the present. Nothing here writes to a plant.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from optimizer.controller import WARM_UP_H, Controller, Model, Residual, Round
from twin.historian import Historian
from twin.plant import Batches, Plant, Role
from twin.records import (
    Decision,
    Forecast,
    Plan,
    PlanStatus,
    PlantState,
    Proposal,
    ProposalStatus,
    Stage,
    Verdict,
)
from twin.safety import CLOSED_LOOP_DECIDER, GateContext, check
from twin.state import plant_state, window_start

__all__ = [
    "PROPOSAL_OPEN_WALL_S",
    "REFUSAL_TOLD_AGAIN",
    "WARM_UP_H",
    "Controller",
    "Model",
    "Planned",
    "Residual",
    "Round",
    "catch_up",
    "describe",
    "is_same_refusal",
    "plan_round",
    "proposal",
    "step_floor",
]

PROPOSAL_OPEN_WALL_S = 60.0  # a person always gets at least this long
#: While the gate keeps refusing for the same reasons, a refusal is stored this often (plant
#: time): a trace of every hour, instead of a row a minute that hides what is new.
REFUSAL_TOLD_AGAIN = timedelta(hours=1)
_REFUSALS_COMPARED = 10  # refusals may take turns, as which MVs a plan moves changes
#: A number that stands alone, as an age or a percentage does; not the 1 of `tank_1`.
_NUMBER = re.compile(r"(?<![\w.])[+-]?\d+(?:\.\d+)?(?![\w.]*\w)")


@dataclass(frozen=True)
class Planned:
    """What one live round came to: a stored proposal, or else the reason why there is none.

    `refusals` are the gate's reasons against a move that was worth proposing.
    """

    proposal: Proposal | None
    reason: str = ""
    refusals: tuple[str, ...] = ()


def step_floor(plant: Plant, moment: datetime) -> datetime:
    """The newest moment of the plan step grid at or before `moment`."""
    seconds = math.floor(moment.timestamp() / plant.step_s) * plant.step_s
    return datetime.fromtimestamp(seconds, tz=UTC)


def catch_up(controller: Controller, historian: Historian, until: datetime) -> None:
    """Let the controller take in everything the historian holds up to `until`.

    `until` is on the step grid. While too little is known for a trust, the whole past is taken
    in afresh: history may still be arriving behind the live readings.
    """
    plant = controller.plant
    if controller.estimate is None or controller.estimate.coverage90 is None:
        controller.use(controller.model, forget=True)
    earliest = step_floor(plant, until - timedelta(hours=WARM_UP_H))
    since = controller.observed_until
    if since is not None and since < earliest:
        controller.use(controller.model, forget=True)
    since = controller.observed_until or earliest
    rows = round((until - since).total_seconds() / plant.step_s)
    if rows <= 0:
        return
    start = window_start(plant, until, rows)
    samples = historian.samples(plant, controller.followed_tags, start, until)
    controller.observe(samples, until, rows)


def describe(done: Round, plant: Plant) -> str:
    """Why this plan, in one or two sentences a person can check."""
    plan = done.plan
    if plan.status is not PlanStatus.SOLVED:
        return f"Holding the present setpoints: {plan.reason}."
    currency = plant.economics.currency if plant.economics else ""
    horizon_min = plant.horizon_steps * plant.step_s / 60
    benefit = plan.benefit_per_h
    verb = "saves" if benefit >= 0 else "costs"
    other = "against" if benefit >= 0 else "more than"
    text = (
        f"Over the next {horizon_min:g} min this {verb} "
        f"{abs(benefit):.2f} {currency}/h {other} holding."
    )
    coming = _next_batch(done, plant)
    if coming:
        text += f" Prepares for {coming}."
    if plan.binding:
        text += f" Limited by {', '.join(plan.binding)}."
    return text


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


def proposal(
    controller: Controller,
    done: Round,
    made_by_forecast: Forecast | None,
    *,
    proposal_id: str,
    wall_now: datetime,
    speed: float,
) -> Proposal:
    """The record a person decides on."""
    plant, stages = controller.plant, done.context.stages
    open_plant_s = max(plant.proposal_open_s, PROPOSAL_OPEN_WALL_S * speed)
    is_shadow = any(stages.get(mv) in (None, Stage.SHADOW) for mv in done.setpoints)
    if not done.verdict.is_clear:
        status = ProposalStatus.REFUSED
    else:
        status = ProposalStatus.SHADOW if is_shadow else ProposalStatus.OPEN
    return Proposal(
        proposal_id=proposal_id,
        plant=plant.plant,
        created_at=done.state.at,
        expires_at=done.state.at + timedelta(seconds=open_plant_s),
        open_until_wall=wall_now + timedelta(seconds=open_plant_s / speed),
        current={
            mv.name: value
            for mv in plant.with_role(Role.MV)
            if (value := done.state.last_known(mv.name)) is not None
        },
        setpoints=done.setpoints,
        plan=done.plan,
        forecast=made_by_forecast,
        verdict=done.verdict,
        status=status,
        reason=describe(done, plant),
        benefit_per_h=done.plan.benefit_per_h,
        binding=done.plan.binding,
        model=controller.model.version,
    )


def plan_round(
    controller: Controller,
    historian: Historian,
    context: GateContext,
    *,
    now: datetime,
    wall_now: datetime,
    speed: float,
    proposal_id: str,
) -> Planned:
    """One live round at plant time `now`: what is open is settled first, then maybe a proposal.

    Nothing is published while a proposal still waits for a person or for its write, and where
    the plan brings nothing worth a person's look (`smallest_benefit_per_h`). A proposal that the
    gate refuses is stored too, once for as long as the reasons stay (`REFUSAL_TOLD_AGAIN`).
    `context` need not know the trust; the round does. A proposal whose MVs are all in closed
    loop is accepted in the name of that stage.
    """
    plant = controller.plant
    # Read first: catching up takes seconds at a start, and what comes meanwhile is later than now.
    last = historian.last_readings(plant)
    catch_up(controller, historian, step_floor(plant, now))
    state = plant_state(plant, last, now)
    waiting = _still_pending(controller, historian, state, context, now, wall_now)
    if waiting is not None:
        return Planned(None, f"{waiting.proposal_id} is {waiting.status} and waits")
    done = controller.round(state, context, now)
    _tell_status(historian, plant, done.plan, now)
    if reason := _not_worth_it(done, plant):
        return Planned(None, reason)
    refusals = done.verdict.reasons
    if _is_told(historian, plant, done.verdict, now):
        return Planned(None, f"refused as before: {' '.join(refusals)}", refusals)
    fan = None
    if done.verdict.is_clear:
        fan = controller.compared_forecast(done, seed=int(now.timestamp()))
    new = proposal(controller, done, fan, proposal_id=proposal_id, wall_now=wall_now, speed=speed)
    historian.store_proposal(new)
    return Planned(_decided_by_stage(historian, new, context, now), refusals=refusals)


def _decided_by_stage(
    historian: Historian, new: Proposal, context: GateContext, now: datetime
) -> Proposal:
    """The proposal, accepted in the stage's name where every MV of it is in closed loop."""
    is_ours = all(context.stages.get(mv) is Stage.CLOSED_LOOP for mv in new.setpoints)
    if new.status is not ProposalStatus.OPEN or not is_ours:
        return new
    by, reason = CLOSED_LOOP_DECIDER, "every MV of it is in closed loop"
    if historian.decide(Decision(new.proposal_id, True, by, reason, now)).is_taken:
        return replace(new, status=ProposalStatus.ACCEPTED)
    return new


def _not_worth_it(done: Round, plant: Plant) -> str:
    """Why nobody need look at the plan's move; empty if it is worth proposing."""
    plan = done.plan
    if plan.status is not PlanStatus.SOLVED:
        return f"holding: {plan.reason}"
    if not done.setpoints:
        return "every setpoint is best where it stands"
    smallest = plant.economics.smallest_benefit_per_h if plant.economics is not None else 0.0
    # A plan that clearly costs more prepares for what may come; only noise says nothing at all.
    if abs(plan.benefit_per_h) < smallest:
        currency = plant.economics.currency if plant.economics is not None else ""
        return (
            f"moving changes the cost by {plan.benefit_per_h:+.2f} {currency}/h only; "
            f"below {smallest:g} {currency}/h nothing is proposed"
        )
    return ""


def _is_told(historian: Historian, plant: Plant, verdict: Verdict, now: datetime) -> bool:
    """Whether this refusal is stored already and nothing was cleared since."""
    if verdict.is_clear:
        return False
    for earlier in historian.proposals(plant, limit=_REFUSALS_COMPARED):
        is_recent = now - earlier.created_at < REFUSAL_TOLD_AGAIN
        if earlier.verdict.is_clear or not is_recent:
            return False
        if is_same_refusal(earlier.verdict, verdict):
            return True
    return False


def is_same_refusal(first: Verdict, second: Verdict) -> bool:
    """Whether two refusals have the same reasons, whatever numbers stand in them."""
    one, other = (
        {_NUMBER.sub("…", reason) for reason in verdict.reasons} for verdict in (first, second)
    )
    return one == other


def _tell_status(historian: Historian, plant: Plant, plan: Plan, now: datetime) -> None:
    """An audit row when planning steps down to holding, with the reason, or up again."""
    told = historian.events(plant, limit=1, kind="plan")
    before = told[0].subject if told else PlanStatus.SOLVED.value
    if plan.status.value != before:
        historian.event(plant, "plan", plan.status.value, plan.reason, now, "planner")


def _still_pending(
    controller: Controller,
    historian: Historian,
    state: PlantState,
    context: GateContext,
    now: datetime,
    wall_now: datetime,
) -> Proposal | None:
    """Close what is over or refused by now; a proposal that is left, which others wait for."""
    plant = controller.plant
    pending = None
    for earlier in historian.proposals(plant, (ProposalStatus.OPEN, ProposalStatus.ACCEPTED)):
        if now >= earlier.expires_at and wall_now >= earlier.open_until_wall:
            is_open = earlier.status is ProposalStatus.OPEN
            reason = "nobody decided" if is_open else "accepted, but not written in time"
            historian.set_status(earlier.proposal_id, ProposalStatus.EXPIRED, reason, now)
            continue
        if earlier.status is ProposalStatus.OPEN:
            trusted = controller.trusted(context)
            verdict = check(plant, state, earlier.setpoints, trusted, now)
            if not verdict.is_clear:
                reason = "the gate refuses it by now: " + " ".join(verdict.reasons)
                historian.set_status(earlier.proposal_id, ProposalStatus.SUPERSEDED, reason, now)
                continue
        pending = earlier
    return pending
