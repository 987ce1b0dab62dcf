"""One live planning round: take in readings, settle what is open, plan, ask the gate, propose.

`plan_round` is one round against the historian; what is kept between rounds is the
`Controller`, which `catch_up` brings up to the present. Nothing here writes to a plant.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from optimizer.controller import WARM_UP_H, Controller, Model, Residual, Round
from optimizer.fault_record import tell_faults
from optimizer.reasons import describe
from twin.clock import on_grid
from twin.errors import RecordRefused
from twin.furnace.faults import Fault
from twin.historian import Historian
from twin.plant import Plant, Role
from twin.records import (
    Decision,
    Estimate,
    Forecast,
    Plan,
    PlanStatus,
    PlantState,
    Proposal,
    ProposalStatus,
    Samples,
    Series,
    Stage,
    Verdict,
)
from twin.resampling import Breaks
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
    "is_same_refusal",
    "plan_round",
    "proposal",
]

PROPOSAL_OPEN_WALL_S = 60.0  # a person always gets at least this long
#: While the gate keeps refusing for the same reasons, a refusal is stored this often (plant
#: time): a trace of every hour, instead of a row a minute that hides what is new.
REFUSAL_TOLD_AGAIN = timedelta(hours=1)
_PENDING = (ProposalStatus.OPEN, ProposalStatus.ACCEPTED)
_REFUSALS_COMPARED = 10  # refusals may take turns, as which MVs a plan moves changes
#: A number that stands alone, as an age or a percentage does; not the 1 of `tank_1`.
_NUMBER = re.compile(r"(?<![\w.])[+-]?\d+(?:\.\d+)?(?![\w.]*\w)")


class Planning(Protocol):
    """What a round needs of a controller: four tanks and furnaces have one each."""

    @property
    def plant(self) -> Plant: ...

    @property
    def model(self) -> Model: ...

    @property
    def estimate(self) -> Estimate | None: ...

    @property
    def observed_until(self) -> datetime | None: ...

    @property
    def followed_tags(self) -> tuple[str, ...]: ...

    @property
    def faults(self) -> tuple[Fault, ...]: ...

    def use(self, model: Model, *, forget: bool = False) -> None: ...

    def is_due(self, now: datetime) -> bool: ...

    def observe(
        self,
        samples: Mapping[str, Samples],
        until: datetime,
        rows: int,
        broken: Mapping[str, Breaks] | None = None,
    ) -> None: ...

    def trusted(self, context: GateContext) -> GateContext: ...

    def round(self, state: PlantState, context: GateContext, now: datetime) -> Round: ...

    def forecast(self, done: Round, moves: Mapping[str, Series], seed: int) -> Forecast: ...

    def compared_forecast(self, done: Round, seed: int) -> Forecast: ...


@dataclass(frozen=True)
class Planned:
    """What one live round came to: a stored proposal, or else the reason why there is none.

    `refusals` are the gate's reasons against a move that was worth proposing. `kept` are the MVs
    in closed loop whose setpoint the plan judged best where it stands.
    """

    proposal: Proposal | None
    reason: str = ""
    refusals: tuple[str, ...] = ()
    kept: frozenset[str] = frozenset()


def catch_up(controller: Planning, historian: Historian, until: datetime) -> None:
    """Let the controller take in everything the historian holds up to `until`.

    `until` is on the step grid. While too little is known for a trust, the whole past is taken
    in afresh: history may still be arriving behind the live readings. Nothing is learned from bad
    data or across a gap that was not filled; who hears of more of these lets it forget first.
    """
    plant = controller.plant
    if controller.estimate is None or controller.estimate.coverage90 is None:
        controller.use(controller.model, forget=True)
    earliest = on_grid(until - timedelta(hours=WARM_UP_H), plant.step_s)
    since = controller.observed_until
    if since is not None and since < earliest:
        controller.use(controller.model, forget=True)
    since = controller.observed_until or earliest
    rows = round((until - since).total_seconds() / plant.step_s)
    if rows <= 0:
        return
    start = window_start(plant, until, rows)
    samples = historian.samples(plant, controller.followed_tags, start, until)
    broken = historian.not_to_follow(plant, controller.followed_tags, start, until)
    controller.observe(samples, until, rows, broken)


def proposal(
    controller: Planning,
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
            if (value := done.state.last_known(mv.stands_at)) is not None
        },
        setpoints=done.setpoints,
        plan=done.plan,
        forecast=made_by_forecast,
        verdict=done.verdict,
        status=status,
        reason=describe(done, plant, made_by_forecast),
        benefit_per_h=done.plan.benefit_per_h,
        binding=done.plan.binding,
        model=controller.model.version,
    )


def plan_round(
    controller: Planning,
    historian: Historian,
    context: GateContext,
    *,
    now: datetime,
    wall_now: datetime,
    speed: float,
    proposal_id: str,
    is_stopped_at_plant: bool = False,
) -> Planned:
    """One live round at plant time `now`: what is open is settled first, then maybe a proposal.

    Nothing is published while a proposal still waits for a person or for its write, and where
    the plan brings nothing worth a person's look (`smallest_benefit_per_h`). A proposal that the
    gate refuses is stored too, once for as long as the reasons stay (`REFUSAL_TOLD_AGAIN`).
    `context` need not know the trust; the round does. A proposal whose MVs are all in closed
    loop is accepted in the name of that stage; while the plant's own stop is set there is none,
    because nobody would write it.
    """
    plant = controller.plant
    # What came while this round was prepared is later than now: the next round's.
    last = historian.last_readings(plant, at=now)
    told_until = controller.observed_until
    catch_up(controller, historian, on_grid(now, plant.step_s))
    tell_faults(historian, plant, controller.faults, now, since=told_until)
    state = plant_state(plant, last, now)
    _close_unreadable(historian, plant, now)
    waiting = _still_pending(controller, historian, state, context, now, wall_now)
    if waiting is not None:
        return Planned(None, f"{waiting.proposal_id} is {waiting.status} and waits")
    if not controller.is_due(now):
        return Planned(None, "no round is due yet")
    done = controller.round(state, context, now)
    _tell_status(historian, plant, done.plan, now)
    if reason := _not_worth_it(done, plant):
        return Planned(None, reason, kept=_kept(done, plant, now, moved=()))
    if is_stopped_at_plant and _is_for_closed_loop(context, done.setpoints):
        return Planned(None, "the plant's own stop is set: nothing is decided in closed loop")
    refusals = done.verdict.reasons
    if _is_told(historian, plant, done.verdict, now):
        return Planned(None, f"refused as before: {' '.join(refusals)}", refusals)
    fan = None
    if done.verdict.is_clear:
        fan = controller.compared_forecast(done, seed=int(now.timestamp()))
    new = proposal(controller, done, fan, proposal_id=proposal_id, wall_now=wall_now, speed=speed)
    if (other := historian.publish(new)) is not None:
        return Planned(None, f"{other} of another planner was there first and waits")
    is_clear = done.verdict.is_clear
    kept = _kept(done, plant, now, done.setpoints) if is_clear else frozenset[str]()
    return Planned(_decided_by_stage(historian, new, context, now), refusals=refusals, kept=kept)


def _decided_by_stage(
    historian: Historian, new: Proposal, context: GateContext, now: datetime
) -> Proposal:
    """The proposal, accepted in the stage's name where every MV of it is in closed loop."""
    is_ours = _is_for_closed_loop(context, new.setpoints)
    if new.status is not ProposalStatus.OPEN or not is_ours:
        return new
    by, reason = CLOSED_LOOP_DECIDER, "every MV of it is in closed loop"
    if historian.decide(Decision(new.proposal_id, True, by, reason, now)).is_taken:
        return replace(new, status=ProposalStatus.ACCEPTED)
    return new


def _is_for_closed_loop(context: GateContext, mvs: Iterable[str]) -> bool:
    return all(context.stages.get(mv) is Stage.CLOSED_LOOP for mv in mvs)


def _kept(done: Round, plant: Plant, now: datetime, moved: Collection[str]) -> frozenset[str]:
    """The MVs in closed loop that a solved plan leaves where they are, and the gate would too."""
    if done.plan.status is not PlanStatus.SOLVED:
        return frozenset()
    stages, present = done.context.stages, done.state.value
    return frozenset(
        mv
        for mv in done.plan.moves
        if stages.get(mv) is Stage.CLOSED_LOOP and mv not in moved
        if (value := present(mv)) is not None
        and check(plant, done.state, {mv: value}, done.context, now).is_clear
    )


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


def _close_unreadable(historian: Historian, plant: Plant, now: datetime) -> None:
    """Close what waits for a person or a write and cannot be read; tell the audit of it, once."""
    for damaged in historian.unreadable_proposals(plant, _PENDING):
        # One whose very id is damaged cannot be named; it is passed over like the others.
        with suppress(RecordRefused):
            historian.set_status(damaged.key, ProposalStatus.SUPERSEDED, damaged.why, now)
    historian.tell_unreadable(plant, now, "planner")


def _still_pending(
    controller: Planning,
    historian: Historian,
    state: PlantState,
    context: GateContext,
    now: datetime,
    wall_now: datetime,
) -> Proposal | None:
    """Close what is over or refused by now; a proposal that is left, which others wait for."""
    plant = controller.plant
    pending = None
    for earlier in historian.proposals(plant, _PENDING):
        is_open = earlier.status is ProposalStatus.OPEN
        if not is_open and historian.outcomes(plant, 1, earlier.proposal_id):
            pending = earlier  # its write was begun: how it ended is the writer's to find out
            continue
        if now >= earlier.expires_at and wall_now >= earlier.open_until_wall:
            reason = "nobody decided" if is_open else "accepted, but not written in time"
            historian.set_status(earlier.proposal_id, ProposalStatus.EXPIRED, reason, now)
            continue
        if is_open:
            trusted = controller.trusted(context)
            verdict = check(plant, state, earlier.setpoints, trusted, now)
            if not verdict.is_clear:
                reason = "the gate refuses it by now: " + " ".join(verdict.reasons)
                historian.set_status(earlier.proposal_id, ProposalStatus.SUPERSEDED, reason, now)
                continue
        pending = earlier
    return pending
