"""Who holds an MV: we, since a verified write of ours, until it is given back to the plant.

A person may ask for an MV to be given back; the writer does it and ends what was asked. Whatever
else let go (the advisory stage's limit, shadow, an interlock, a stop, the plant itself) leaves a
row of the same kind. How an MV is let go at the plant is never known here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, func, insert, or_, select, update

from twin.errors import RecordUnreadable
from twin.historian import stored
from twin.historian.database import reading, writing
from twin.historian.operation import add_event, decide_stage
from twin.historian.samples import plant_name
from twin.historian.schema import (
    EARLIEST,
    LATEST,
    decision,
    hand_back,
    microseconds,
    moment,
    proposal,
    stage,
    write_outcome,
    written_value,
)
from twin.historian.unreadable import SkippingStore, readable
from twin.plant import Plant, Role
from twin.records import Stage, WriteStatus

_KIND = "give back"  # of the audit rows that tell what was asked and what came to nothing


class HandBackCause(StrEnum):
    """Why an MV goes, or went, back to the plant's own control."""

    ASKED = "asked"  # by a person
    HORIZON = "horizon"  # advisory, and nobody accepted anything newer for a plan's horizon
    SHADOW = "shadow"  # its stage is "compute only"
    INTERLOCK = "interlock"
    FAILED = "failed"  # a write took it from AUTO and then failed
    STOP = "stop"  # with a stop of ours
    PLANT = "plant"  # the plant took it: heartbeat lost, or an operator at the PLC


class HandBackStatus(StrEnum):
    """How far a hand-back is."""

    OPEN = "open"  # asked, and not carried out yet
    DONE = "done"  # the MV stood in AUTO
    VOID = "void"  # there was nothing to give back


@dataclass(frozen=True, slots=True)
class HandBack:
    """One hand-back, asked or noticed. Times are plant time.

    `result` is how it ended; while it is open, what stood against it at the last attempt.
    """

    number: int
    mv: str
    cause: HandBackCause
    by: str
    reason: str
    asked_at: datetime
    status: HandBackStatus
    result: str
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Held:
    """An MV that we hold by the record: written, verified and not let go since.

    Or taken from AUTO by a write that failed, and not given back yet.
    """

    mv: str
    proposal_id: str
    setpoint: float
    decided_at: datetime
    written_at: datetime


def longest_hold(plant: Plant) -> timedelta:
    """How long a setpoint holds after its last verified write.

    A plan's horizon, in plant time: beyond it nobody has judged what the setpoint does. Then the
    writer gives the MV back. In closed loop a plan that is clear and keeps the setpoint judges it
    anew; the horizon counts from there.
    """
    return timedelta(seconds=plant.horizon_steps * plant.step_s)


class HoldingStore(SkippingStore):
    """The part of the historian that knows which MVs we hold, and how we let go of them."""

    def held(self, plant: Plant) -> dict[str, Held]:
        """The MVs we hold by the record. What they read now is for the plant to say."""
        with reading(self._engine) as connection:
            found = [_held(connection, plant, tag.name) for tag in plant.with_role(Role.MV)]
        return {each.mv: each for each in found if each is not None}

    def ask_back(self, plant: Plant, mv: str, by: str, reason: str, at: datetime) -> str | None:
        """Ask for an MV to be given back to the plant; None when stored, else why not.

        An MV in closed loop goes to advisory with it: the next plan would take it again.

        Raises:
            UnknownTag: the plant has no such tag.
        """
        with writing(self._engine) as connection:
            refusal = self._refusal(connection, plant, mv, by, reason)
            if refusal is None:
                asked = _new(plant.plant, mv, HandBackCause.ASKED, by, reason, at)
                connection.execute(insert(hand_back).values(asked))
                _leave_closed_loop(connection, plant, mv, by, reason, at)
            message = f"asked: {reason}" if refusal is None else f"refused: {refusal}"
            add_event(connection, plant.plant, _KIND, mv, message, at, by)
        return refusal

    def hand_backs(
        self,
        plant: Plant | str,
        limit: int = 100,
        statuses: Collection[HandBackStatus] | None = None,
    ) -> list[HandBack]:
        """The newest hand-backs first; only those with one of `statuses`, if given."""
        query = select(hand_back).where(hand_back.c.plant == plant_name(plant))
        if statuses is not None:
            query = query.where(hand_back.c.status.in_([each.value for each in statuses]))
        with reading(self._engine) as connection:
            rows = connection.execute(query.order_by(hand_back.c.id.desc()).limit(limit)).all()
        return self._readable(plant_name(plant), rows)

    def asked_back_at(self, plant: Plant | str, mvs: Collection[str]) -> datetime | None:
        """When a person last asked for one of these MVs; None if nobody did.

        A request whose time cannot be read, or a row that may have been one, counts as later than
        any yes until it is ended; then as asked when it ended.
        """
        asked_at, ended_at = hand_back.c.asked_at, hand_back.c.ended_at
        noticed = [each.value for each in HandBackCause if each is not HandBackCause.ASKED]
        of_mvs = (hand_back.c.plant == plant_name(plant), hand_back.c.mv.in_(sorted(mvs)))
        is_asked = hand_back.c.cause == HandBackCause.ASKED.value
        is_known = is_asked & asked_at.between(microseconds(EARLIEST), microseconds(LATEST))
        newest = select(func.max(asked_at)).where(*of_mvs, is_known)
        damaged = select(ended_at).where(*of_mvs, ~is_known, hand_back.c.cause.not_in(noticed))
        with reading(self._engine) as connection:
            known = connection.execute(newest).scalar_one()
            ends = connection.execute(damaged).scalars().all()
        times = [LATEST if us is None else _time(us, LATEST) for us in ends]
        return max([*times, *([] if known is None else [moment(known)])], default=None)

    def end_unreadable_hand_backs(self, plant: Plant | str, at: datetime) -> None:
        """End what waits for the writer and cannot be read, each with its audit row.

        What it asked for is unknown: it is not carried out, and what was accepted before is not
        written. From now on the MV may be accepted, and asked back, anew.
        """
        name = plant_name(plant)
        of_plant = (hand_back.c.plant == name, hand_back.c.status == HandBackStatus.OPEN.value)
        with reading(self._engine) as connection:
            rows = connection.execute(select(hand_back).where(*of_plant)).all()
        for row in rows:
            found = self._read(name, "hand-back", row.id, row, _hand_back)
            if isinstance(found, HandBack):
                continue
            result = f"cannot be read: {found.why}"
            ended = {"status": HandBackStatus.VOID.value, "result": result}
            with writing(self._engine) as connection:
                connection.execute(
                    update(hand_back)
                    .where(hand_back.c.id == row.id)
                    .values(ended_at=microseconds(at), **ended)
                )
                message = f"{HandBackStatus.VOID}: {result}. Ask again if it is still wanted."
                add_event(connection, name, _KIND, row.mv, message, at, "write")

    def note_attempt(self, plant: Plant | str, asked: HandBack, result: str, at: datetime) -> None:
        """Tell what stands against an open hand-back; an audit row where that is news."""
        if result == asked.result:
            return
        with writing(self._engine) as connection:
            connection.execute(
                update(hand_back).where(hand_back.c.id == asked.number).values(result=result)
            )
            told = f"{asked.reason}: {result}"
            add_event(connection, plant_name(plant), "shed", asked.mv, told, at, "write")

    def end_hand_back(
        self,
        plant: Plant | str,
        asked: HandBack,
        status: HandBackStatus,
        result: str,
        at: datetime,
    ) -> None:
        """End an open hand-back, once, with its audit row.

        Raises:
            RecordRefused: it has ended already.
        """
        name = plant_name(plant)
        with writing(self._engine) as connection:
            connection.execute(
                update(hand_back)
                .where(hand_back.c.id == asked.number)
                .values(
                    status=status.value,
                    result=result,
                    ended_at=microseconds(at),
                    outcome_id=_newest_outcome(connection, name, asked.mv),
                )
            )
            kind = "shed" if status is HandBackStatus.DONE else _KIND
            message = f"{asked.reason}: {result}" if kind == "shed" else f"{status}: {result}"
            add_event(connection, name, kind, asked.mv, message, at, "write")

    def note_let_go(
        self, plant: Plant, mv: str, cause: HandBackCause, reason: str, at: datetime
    ) -> None:
        """Note that an MV stands in AUTO again, and why: from now on we do not hold it.

        The audit row is of kind "mode" where the plant let go, "shed" where we did.
        """
        is_ours = cause not in (HandBackCause.STOP, HandBackCause.PLANT)
        with writing(self._engine) as connection:
            connection.execute(
                insert(hand_back).values(
                    _new(plant.plant, mv, cause, "write", reason, at)
                    | {
                        "status": HandBackStatus.DONE.value,
                        "result": "in AUTO",
                        "ended_at": microseconds(at),
                        "outcome_id": _newest_outcome(connection, plant.plant, mv),
                    }
                )
            )
            kind, message = ("shed", f"{reason}: in AUTO") if is_ours else ("mode", reason)
            add_event(connection, plant.plant, kind, mv, message, at, "write")

    def _refusal(
        self, connection: Connection, plant: Plant, mv: str, by: str, reason: str
    ) -> str | None:
        tag = plant.tag(mv)
        if tag.role is not Role.MV or tag.remote is None:
            return f"{mv} is no MV with a mode of its own; only such an MV can be given back."
        if not by.strip() or not reason.strip():
            return "An MV is given back by a named person with a reason."
        asked = select(hand_back).where(
            hand_back.c.plant == plant.plant,
            hand_back.c.mv == mv,
            hand_back.c.cause == HandBackCause.ASKED.value,
            hand_back.c.status == HandBackStatus.OPEN.value,
        )
        waiting = self._readable(plant.plant, connection.execute(asked).all())
        if waiting:
            who = waiting[0].by
            return f"{who} has asked for {mv} already; the writing process has yet to do it."
        if _held(connection, plant, mv) is None:
            return f"Plantwright does not hold {mv}: there is nothing to give back."
        return None

    def _readable(self, plant: str, rows: Iterable[Row[Any]]) -> list[HandBack]:
        return readable(self._read(plant, "hand-back", row.id, row, _hand_back) for row in rows)


def give_back_failed(
    connection: Connection, mvs: Iterable[str], outcome_id: int, why: str, at: datetime
) -> None:
    """Note in a failed write's own transaction what it took from AUTO: ours, and to go back."""
    of_outcome = select(proposal.c.plant).join(
        write_outcome, write_outcome.c.proposal_id == proposal.c.proposal_id
    )
    plant = connection.execute(of_outcome.where(write_outcome.c.id == outcome_id)).scalar_one()
    for mv in mvs:
        row = _new(plant, mv, HandBackCause.FAILED, "write", why, at) | {"outcome_id": outcome_id}
        connection.execute(insert(hand_back).values(row))


def _new(
    plant: str, mv: str, cause: HandBackCause, by: str, reason: str, at: datetime
) -> dict[str, object]:
    return {
        "plant": plant,
        "mv": mv,
        "cause": cause.value,
        "actor": by,
        "reason": reason,
        "asked_at": microseconds(at),
        "status": HandBackStatus.OPEN.value,
        "result": "",
    }


def _leave_closed_loop(
    connection: Connection, plant: Plant, mv: str, by: str, reason: str, at: datetime
) -> None:
    """Set an MV that stands in closed loop to advisory."""
    of_mv = select(stage.c.stage).where(stage.c.plant == plant.plant, stage.c.mv == mv)
    newest = connection.execute(of_mv.order_by(stage.c.id.desc()).limit(1)).scalars().first()
    if newest != Stage.CLOSED_LOOP.value:
        return
    why = f"given back to the plant: {reason}"
    decide_stage(connection, plant.plant, mv, Stage.ADVISORY, by, why, at)


def _held(connection: Connection, plant: Plant, mv: str) -> Held | None:
    """The newest verified write of an MV, or failed one that took it, if not let go since."""
    taken = select(hand_back.c.id).where(
        hand_back.c.outcome_id == write_outcome.c.id,
        hand_back.c.mv == mv,
        hand_back.c.cause == HandBackCause.FAILED.value,
        hand_back.c.status == HandBackStatus.OPEN.value,
    )
    written = (
        select(
            written_value.c.outcome_id,
            written_value.c.setpoint,
            write_outcome.c.proposal_id,
            write_outcome.c.finished_at,
            decision.c.decided_at,
        )
        .join(write_outcome, write_outcome.c.id == written_value.c.outcome_id)
        .join(proposal, proposal.c.proposal_id == write_outcome.c.proposal_id)
        .join(decision, decision.c.proposal_id == proposal.c.proposal_id)
        .where(written_value.c.mv == mv, proposal.c.plant == plant.plant)
        .where(or_(write_outcome.c.status == WriteStatus.VERIFIED.value, taken.exists()))
        .order_by(written_value.c.outcome_id.desc())
        .limit(1)
    )
    row = connection.execute(written).one_or_none()
    let_go = select(func.max(hand_back.c.outcome_id)).where(
        hand_back.c.plant == plant.plant,
        hand_back.c.mv == mv,
        hand_back.c.status == HandBackStatus.DONE.value,
    )
    if row is None or row.outcome_id <= (connection.execute(let_go).scalar_one() or 0):
        return None
    # Where a time cannot be read, nothing holds by it.
    times = (_time(row.decided_at, EARLIEST), _time(row.finished_at, EARLIEST))
    return Held(mv, row.proposal_id, row.setpoint, *times)


def _time(us: int, unreadable: datetime) -> datetime:
    try:
        return moment(us)
    except RecordUnreadable:
        return unreadable


def _newest_outcome(connection: Connection, plant: str, mv: str) -> int | None:
    newest = (
        select(func.max(written_value.c.outcome_id))
        .join(write_outcome, write_outcome.c.id == written_value.c.outcome_id)
        .join(proposal, proposal.c.proposal_id == write_outcome.c.proposal_id)
        .where(written_value.c.mv == mv, proposal.c.plant == plant)
    )
    number: int | None = connection.execute(newest).scalar_one()
    return number


def _hand_back(row: Row[Any]) -> HandBack:
    return HandBack(
        number=row.id,
        mv=row.mv,
        cause=stored.one_of(HandBackCause, row.cause),
        by=row.actor,
        reason=row.reason,
        asked_at=moment(row.asked_at),
        status=stored.one_of(HandBackStatus, row.status),
        result=row.result,
        ended_at=None if row.ended_at is None else moment(row.ended_at),
    )
