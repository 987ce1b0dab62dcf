"""Accepted proposals to the plant: fresh readings, the gate once more, write, read back, outcome.

One round is one function. Every setpoint goes out under a used clearance, after a look at the
stop latch; what became of it is stored before and after, so that a crash in between is settled
by reading, never by writing again. Nothing is planned or repaired here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from datetime import timedelta
from functools import partial

from connectors.handback import carry_out
from connectors.opcua import Session
from connectors.readback import Target, Writer, in_thread, read_all, read_back
from connectors.sending import Sending, gate_facts, stop_reason
from connectors.takeover import in_auto, take_over
from twin.errors import RecordRefused, WriteFault
from twin.historian import HandBackCause, HandBackStatus
from twin.plant import Plant, is_loopback
from twin.records import (
    Clearance,
    Proposal,
    ProposalStatus,
    Reading,
    Verdict,
    WriteOutcome,
    WriteStatus,
)
from twin.safety import CLOSED_LOOP_DECIDER, RULES, GateContext, check, clear
from twin.state import plant_state

_CLEARANCE_WALL_S = 30.0

_SENT = "sent; not read back yet"
_UNSEEN = "Nobody saw its end (the link was lost, or the writer ended); it was read later."
_NEWER = "A newer accepted proposal moves the same MVs."
_GIVEN_BACK = "An MV of it was given back to the plant after this was accepted."
_TOO_LATE = "Accepted, but it expired before it could be written. Nothing was sent."

_ENDS_AS = {
    WriteStatus.VERIFIED: ProposalStatus.WRITTEN,
    WriteStatus.FAILED: ProposalStatus.FAILED,
    WriteStatus.REFUSED: ProposalStatus.REFUSED,
}


async def write_accepted(writer: Writer, session: Session) -> list[WriteOutcome]:
    """One round: settle unknown writes by reading, then write what is accepted, newest first.

    An outcome per proposal that was written, refused or settled. What another writer may still
    be writing is left to it, with every proposal for the same MVs. An older accepted proposal for
    the same MVs is superseded, and so is one accepted before a person asked to give an MV of it
    back to the plant; an expired one expires. None of these has an outcome.

    Raises:
        EndpointUnavailable: the link is lost; a write that was under way is stored as unknown.
        HistorianError: the database is away; nothing more was written.
    """
    outcomes, busy = await settle_begun(writer, session)
    accepted = await in_thread(writer.historian.proposals, writer.plant, [ProposalStatus.ACCEPTED])
    taken: set[str] = set()
    for proposal in accepted:
        if not busy & proposal.setpoints.keys():
            outcome = await _begin(writer, session, proposal, taken)
            outcomes += [outcome] if outcome is not None else []
        taken |= proposal.setpoints.keys()
    return outcomes


async def settle_begun(writer: Writer, session: Session) -> tuple[list[WriteOutcome], set[str]]:
    """End what an earlier round or writer began: outcomes, and MVs that may still be written.

    An unknown write is settled by reading. What its writer may still be sending is left alone.
    """
    historian, plant = writer.historian, writer.plant
    busy: set[str] = set()
    outcomes: list[WriteOutcome] = []
    for proposal in await in_thread(historian.proposals, plant, [ProposalStatus.ACCEPTED]):
        past = await in_thread(historian.outcomes, plant, 1, proposal.proposal_id)
        if not past:
            continue
        if _is_under_way(writer, session, past[0]):
            busy |= proposal.setpoints.keys()
        elif past[0].status is WriteStatus.UNKNOWN:
            outcome = await _settle(writer, session, past[0])
            if outcome is None:
                busy |= proposal.setpoints.keys()
            else:
                outcomes.append(outcome)
        else:  # its writer ended between the outcome and this
            await _set_status(writer, session, proposal, _ENDS_AS[past[0].status], past[0].reason)
    return outcomes, busy


async def _begin(
    writer: Writer, session: Session, proposal: Proposal, taken: Set[str]
) -> WriteOutcome | None:
    """Write a proposal, unless it was overtaken or its time is over."""
    if taken & proposal.setpoints.keys():
        await _set_status(writer, session, proposal, ProposalStatus.SUPERSEDED, _NEWER)
    elif session.clock.now() >= proposal.expires_at:
        await _set_status(writer, session, proposal, ProposalStatus.EXPIRED, _TOO_LATE)
    elif await in_thread(_is_given_back_since, writer, proposal):
        await _set_status(
            writer, session, proposal, ProposalStatus.SUPERSEDED, f"{_GIVEN_BACK} Nothing was sent."
        )
    else:
        return await _write(writer, session, proposal)
    return None


def _is_given_back_since(writer: Writer, about: Proposal | Clearance) -> bool:
    """Whether a person asked to give an MV of it back, and nobody accepted it after that."""
    asked_at = writer.historian.asked_back_at(writer.plant, about.setpoints.keys())
    decision = writer.historian.decision(about.proposal_id)
    return asked_at is not None and decision is not None and decision.decided_at <= asked_at


def _is_under_way(writer: Writer, session: Session, outcome: WriteOutcome) -> bool:
    """Whether another writer may still send and read back what it has announced."""
    if outcome.status is not WriteStatus.UNKNOWN or outcome.reason != _SENT:
        return False
    patience_s = session.clock.speed * writer.read_back_s(session) + _clearance_s(session)
    return session.clock.now() < outcome.finished_at + timedelta(seconds=patience_s)


def _clearance_s(session: Session) -> float:
    """Plant seconds for which a clearance holds."""
    return min(_CLEARANCE_WALL_S * session.clock.speed, RULES.max_lifetime_s)


async def _write(writer: Writer, session: Session, proposal: Proposal) -> WriteOutcome | None:
    """One accepted proposal through the gate to the plant and back.

    None where the clearance lapsed before it could be used, or another writer has begun with the
    same proposal: nothing was sent, ask again.
    """
    fresh = await read_all(writer, session)
    context = await gate_facts(writer, session)
    answer = await _ask_gate(writer, session, proposal, fresh, context)
    if isinstance(answer, Verdict):
        return await _refuse(writer, session, proposal, "; ".join(answer.reasons))
    historian, now = writer.historian, session.clock.now
    try:
        await in_thread(historian.store_clearance, answer)
    except RecordRefused:  # somebody moved the proposal on
        return None
    if not await in_thread(historian.use_clearance, answer.clearance_id, now()):
        return None
    opened = WriteOutcome(
        proposal.proposal_id,
        answer.clearance_id,
        WriteStatus.UNKNOWN,
        answer.setpoints,
        {},
        _SENT,
        now(),
    )
    await in_thread(historian.store_outcome, opened)
    sending = Sending(writer, session, answer, opened)
    refusal = await _send(sending, fresh, context)
    touched = [*sending.sent, *sending.doubtful]
    return await _close(writer, session, opened, fresh, refusal, touched)


async def _ask_gate(
    writer: Writer,
    session: Session,
    proposal: Proposal,
    fresh: Mapping[str, Reading],
    context: GateContext,
) -> Clearance | Verdict:
    """The gate's answer on readings that came straight from the plant.

    A clearance ends with its proposal: the database may take long to store what begins.
    """
    plant, now = writer.plant, session.clock.now()
    refusal = partial(Verdict, False, checked_at=now, setpoints=proposal.setpoints)
    decision = await in_thread(writer.historian.decision, proposal.proposal_id)
    if decision is None:
        return refusal(reasons=("Nobody's decision on this proposal is stored.",))
    if decision.by.strip().casefold() == CLOSED_LOOP_DECIDER and not is_loopback(session.endpoint):
        text = f"Closed loop is for an emulator on this machine, not for {session.endpoint}."
        return refusal(reasons=(text,))
    stopped = await stop_reason(writer, session)
    if stopped:
        return refusal(reasons=(f"{stopped}.",))
    left_s = (proposal.expires_at - now).total_seconds()
    if left_s <= 0:
        return refusal(reasons=("It expired while the plant was read.",))
    return clear(
        plant,
        plant_state(plant, fresh, now),
        proposal.proposal_id,
        proposal.setpoints,
        context,
        decision,
        now,
        min(left_s, _clearance_s(session)),
    )


async def _send(sending: Sending, fresh: Mapping[str, Reading], context: GateContext) -> str:
    """Take over what stands in AUTO, then move MV by MV; why it stopped, else empty.

    The gate is asked once more before: the database may have taken long to store what begins.
    """
    setpoints, plant = sending.clearance.setpoints, sending.writer.plant
    if reason := await _gate_again(sending, context):
        return f"{reason} Nothing was sent."
    if waiting := in_auto(plant, list(setpoints), fresh):
        reason = await take_over(sending, waiting, fresh)
        if reason := reason or await _gate_again(sending, context):
            return reason
    for mv, setpoint in setpoints.items():
        if reason := await sending.put(mv, mv, setpoint):
            return reason
    return ""


async def _gate_again(sending: Sending, before: GateContext) -> str:
    """Why the move is not safe or not wanted any more with what is known now; else empty.

    `before` knows when the MVs moved last; this write itself, which is begun, does not count.
    """
    writer, session = sending.writer, sending.session
    context = await gate_facts(writer, session)
    context = replace(context, last_moved_at=before.last_moved_at)
    fresh, now = await read_all(writer, session), session.clock.now()
    state = plant_state(writer.plant, fresh, now)
    verdict = check(writer.plant, state, sending.clearance.setpoints, context, now)
    if verdict.is_clear and await in_thread(_is_given_back_since, writer, sending.clearance):
        return _GIVEN_BACK
    return "; ".join(verdict.reasons)


def _taken(plant: Plant, sent: Sequence[str], before: Mapping[str, Reading]) -> list[str]:
    """The MVs of a write that were in AUTO before it: nobody but the write took them."""
    modes = {mv: mode for mv in sent if (mode := plant.tag(mv).remote)}
    known = {mv: before.get(mode.tag) for mv, mode in modes.items()}
    return [mv for mv, then in known.items() if then and then.value == modes[mv].auto]


async def _let_go_again(writer: Writer, session: Session, proposal_id: str) -> None:
    """Give back at once what only this failed write took.

    What does not go now stays ours by the record, and every round tries it again.
    """
    plant, historian = writer.plant, writer.historian
    waiting = await in_thread(historian.hand_backs, plant, 100, [HandBackStatus.OPEN])
    held = await in_thread(historian.held, plant)
    for each in waiting:
        holding = held.get(each.mv)
        if each.cause is HandBackCause.FAILED and holding and holding.proposal_id == proposal_id:
            await carry_out(writer, session, each)


async def _settle(writer: Writer, session: Session, unknown: WriteOutcome) -> WriteOutcome | None:
    """What became of a write whose end nobody saw: read, never written again.

    None while it does not stand as written and may still arrive.
    """
    past = await in_thread(writer.historian.outcomes, writer.plant, 3, unknown.proposal_id)
    readings = partial(writer.historian.last_readings, writer.plant, None)
    before = await in_thread(readings, past[-1].finished_at)
    late = timedelta(seconds=session.clock.speed * writer.late_wall_s)
    if session.clock.now() < unknown.finished_at + late:
        wanted = await _wanted(writer.plant, session, unknown.setpoints)
        wrong, _ = await read_back(session, wanted, before, 0.0)
        if wrong:
            return None
    return await _close(writer, session, unknown, before, "", None)


async def _close(
    writer: Writer,
    session: Session,
    opened: WriteOutcome,
    before: Mapping[str, Reading],
    refusal: str,
    sent: Sequence[str] | None,
) -> WriteOutcome:
    """Read back, compare, store the outcome, move the proposal on, give back what failed.

    `sent` went out before a refusal, or was refused and perhaps done; None where nobody saw it:
    then what stands as written.
    """
    plant, historian = writer.plant, writer.historian
    wanted = await _wanted(plant, session, opened.setpoints)
    patience_s = 0.0 if refusal else writer.read_back_s(session)
    wrong, seen = await read_back(session, wanted, before, patience_s)
    found = {mv: seen[mv].value for mv in opened.setpoints}
    unseen = _UNSEEN if sent is None and wrong else ""
    reason = " ".join(text for text in (unseen, refusal, *wrong) if text)
    status = WriteStatus.FAILED if reason else WriteStatus.VERIFIED
    outcome = replace(
        opened,
        status=status,
        read_back=found,
        reason=reason or await _as_written(writer, session, wanted, opened),
        finished_at=session.clock.now(),
    )
    taken: list[str] = []
    if status is WriteStatus.FAILED:
        taken = _taken(plant, _standing(plant, wanted, seen) if sent is None else sent, before)
    await in_thread(historian.store_outcome, outcome, taken)
    await _set_status(writer, session, opened, _ENDS_AS[status], outcome.reason)
    if taken:
        await _let_go_again(writer, session, opened.proposal_id)
    return outcome


async def _as_written(
    writer: Writer, session: Session, wanted: Mapping[str, Target], opened: WriteOutcome
) -> str:
    """The words for a verified write, with what the PLC uses instead where that is shown.

    A ramp in the PLC is no fault, and a clamp of its own shows nowhere else. It is given a sample.
    """
    tags = [writer.plant.tag(mv) for mv in opened.setpoints]
    used = {tag.downstream: wanted[tag.name] for tag in tags if tag.downstream is not None}
    patience_s = writer.plant.sample_s / session.clock.speed
    otherwise, _ = await read_back(session, used, {}, patience_s)
    return "; ".join(["read back as written", *(f"so far {text}" for text in otherwise)])


def _standing(plant: Plant, wanted: Mapping[str, Target], seen: Mapping[str, Reading]) -> list[str]:
    """The MVs that stand as written, in REMOTE: so far an unseen write came.

    One that is taken over step by step may have come to REMOTE and no further.
    """
    met = {name for name, target in wanted.items() if target.is_met(seen[name])}
    modes = {mv: mode.tag for mv in wanted if (mode := plant.tag(mv).remote)}
    in_steps = {mv for mv in modes if plant.tag(mv).downstream is not None}
    return [mv for mv, mode in modes.items() if mode in met and (mv in met or mv in in_steps)]


async def _wanted(
    plant: Plant, session: Session, setpoints: Mapping[str, float]
) -> dict[str, Target]:
    """What the setpoints read back as in their nodes' types, and the MVs' modes in REMOTE."""
    wanted: dict[str, Target] = {}
    for mv, setpoint in setpoints.items():
        tag = plant.tag(mv)
        try:
            held = await session.held(mv, setpoint)
        except WriteFault:  # it cannot stand there then, and that is what will be told
            held = setpoint
        wanted[mv] = Target(held, tag.write_tolerance or 0.0)
        if tag.remote is not None:
            wanted[tag.remote.tag] = Target(float(tag.remote.remote))
    return wanted


async def _refuse(
    writer: Writer, session: Session, proposal: Proposal, reason: str
) -> WriteOutcome | None:
    """Store the gate's no; None where another writer has begun meanwhile: that is its to end."""
    historian = writer.historian
    if await in_thread(historian.outcomes, writer.plant, 1, proposal.proposal_id):
        return None
    outcome = WriteOutcome(
        proposal.proposal_id,
        None,
        WriteStatus.REFUSED,
        proposal.setpoints,
        {},
        f"{reason} Nothing was sent.",
        session.clock.now(),
    )
    await in_thread(historian.store_outcome, outcome)
    await _set_status(writer, session, proposal, ProposalStatus.REFUSED, outcome.reason)
    return outcome


async def _set_status(
    writer: Writer,
    session: Session,
    about: Proposal | WriteOutcome,
    status: ProposalStatus,
    reason: str,
) -> None:
    change = writer.historian.set_status
    await in_thread(change, about.proposal_id, status, reason, session.clock.now())
