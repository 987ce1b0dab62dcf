"""Proposals and what people make of them, each step with an audit row in the same transaction.

What may follow what is guarded twice: by the statements here, which answer with a value, and
by the database's triggers, which refuse whoever else writes. A proposal's status moves along

    open      -> accepted, rejected (both only by `decide`), expired, superseded
    accepted  -> written, failed, refused (by the gate before the write), expired, superseded

and nowhere else. Whether a setpoint is safe is never judged here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, func, insert, select, update

from twin.errors import RecordRefused
from twin.historian import stored
from twin.historian.database import reading, writing
from twin.historian.operation import add_event
from twin.historian.samples import plant_name
from twin.historian.schema import decision, microseconds, moment, proposal
from twin.plant import Plant
from twin.records import Decision, Proposal, ProposalStatus

# From where a status may be reached by `set_status`; the first migration draws the same arrows.
_REACHED_FROM: Mapping[ProposalStatus, tuple[ProposalStatus, ...]] = {
    ProposalStatus.EXPIRED: (ProposalStatus.OPEN, ProposalStatus.ACCEPTED),
    ProposalStatus.SUPERSEDED: (ProposalStatus.OPEN, ProposalStatus.ACCEPTED),
    ProposalStatus.WRITTEN: (ProposalStatus.ACCEPTED,),
    ProposalStatus.FAILED: (ProposalStatus.ACCEPTED,),
    ProposalStatus.REFUSED: (ProposalStatus.ACCEPTED,),
}


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of a decision. `standing` is the decision that counts, if there is one."""

    is_taken: bool
    reason: str
    standing: Decision | None


class DecisionStore:
    """The part of the historian that holds proposals and decisions."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def store_proposal(self, new: Proposal) -> None:
        """Store a proposal that is open, refused or shadow.

        Raises:
            RecordRefused: one of that id is stored already, or its status is another.
        """
        row = {
            "proposal_id": new.proposal_id,
            "plant": new.plant,
            "created_at": microseconds(new.created_at),
            "expires_at": microseconds(new.expires_at),
            "open_until_wall": microseconds(new.open_until_wall),
            "status": new.status.value,
            "status_reason": new.status_reason,
            "status_at": microseconds(new.created_at),
            "reason": new.reason,
            "benefit_per_h": stored.finite(new.benefit_per_h),
            "model": new.model,
            "current_values": stored.numbers_text(new.current),
            "setpoints": stored.numbers_text(new.setpoints),
            "binding": stored.names_text(new.binding),
            "plan": stored.packed_plan(new.plan),
            "forecast": None if new.forecast is None else stored.packed_forecast(new.forecast),
            "verdict": stored.verdict_text(new.verdict),
        }
        why = "; ".join(new.verdict.reasons) or new.reason
        with writing(self._engine) as connection:
            connection.execute(insert(proposal).values(row))
            message = f"{new.status}: {why}"
            add_event(
                connection,
                new.plant,
                "proposal",
                new.proposal_id,
                message,
                new.created_at,
                "planner",
            )

    def proposal(self, proposal_id: str) -> Proposal | None:
        """The proposal of that id, as it stands now; None if there is none."""
        with reading(self._engine) as connection:
            row = connection.execute(
                select(proposal).where(proposal.c.proposal_id == proposal_id)
            ).one_or_none()
        return None if row is None else _proposal(row)

    def proposals(
        self,
        plant: Plant | str,
        statuses: Collection[ProposalStatus] | None = None,
        limit: int = 100,
    ) -> list[Proposal]:
        """The newest proposals first; only those with one of `statuses`, if given."""
        query = select(proposal).where(proposal.c.plant == plant_name(plant))
        if statuses is not None:
            query = query.where(proposal.c.status.in_([status.value for status in statuses]))
        query = query.order_by(proposal.c.created_at.desc(), proposal.c.proposal_id).limit(limit)
        with reading(self._engine) as connection:
            return [_proposal(row) for row in connection.execute(query)]

    def proposal_counts(self, plant: Plant | str) -> dict[ProposalStatus, int]:
        """How many proposals stand at each status, of all that were ever stored."""
        query = (
            select(proposal.c.status, func.count())
            .where(proposal.c.plant == plant_name(plant))
            .group_by(proposal.c.status)
        )
        with reading(self._engine) as connection:
            counted: dict[str, int] = {row[0]: row[1] for row in connection.execute(query)}
        return {status: counted.get(status.value, 0) for status in ProposalStatus}

    def set_status(
        self, proposal_id: str, status: ProposalStatus, reason: str, at: datetime
    ) -> bool:
        """Move a proposal on, and say whether it moved.

        False, with nothing changed, where it does not stand where `status` can be reached from:
        somebody else moved it first. Accepting and rejecting is for `decide` alone.

        Raises:
            RecordRefused: no proposal has that id, or nothing leads to `status`.
        """
        before = _REACHED_FROM.get(status)
        if before is None:
            raise RecordRefused(f"{proposal_id}: no status change leads to {status}; see `decide`.")
        with writing(self._engine) as connection:
            return _move(connection, proposal_id, before, status, reason, at, "plantwright")

    def decide(self, taken: Decision) -> Decided:
        """Accept or reject an open proposal; of several decisions at once exactly one counts.

        Raises:
            RecordRefused: no proposal has that id.
        """
        status = ProposalStatus.ACCEPTED if taken.is_accepted else ProposalStatus.REJECTED
        with writing(self._engine) as connection:
            stands = _status(connection, taken.proposal_id)
            if stands is not ProposalStatus.OPEN:
                standing = _decision(connection, taken.proposal_id)
                who = f"{standing.by} has decided it" if standing else "only an open one is decided"
                reason = f"The proposal is {stands}; {who}."
                return Decided(is_taken=False, reason=reason, standing=standing)
            connection.execute(
                insert(decision).values(
                    proposal_id=taken.proposal_id,
                    is_accepted=int(taken.is_accepted),
                    actor=taken.by,
                    reason=taken.reason,
                    decided_at=microseconds(taken.decided_at),
                )
            )
            _move(
                connection,
                taken.proposal_id,
                (ProposalStatus.OPEN,),
                status,
                taken.reason,
                taken.decided_at,
                taken.by,
            )
        return Decided(is_taken=True, reason="", standing=taken)

    def decision(self, proposal_id: str) -> Decision | None:
        """Who accepted or rejected the proposal; None while nobody has."""
        with reading(self._engine) as connection:
            return _decision(connection, proposal_id)


def audit_proposal(
    connection: Connection, proposal_id: str, kind: str, message: str, at: datetime, by: str
) -> None:
    """Add an audit row about a proposal to the transaction that does what it tells."""
    plant = connection.execute(
        select(proposal.c.plant).where(proposal.c.proposal_id == proposal_id)
    ).scalar_one()
    add_event(connection, plant, kind, proposal_id, message, at, by)


def _status(connection: Connection, proposal_id: str) -> ProposalStatus:
    query = select(proposal.c.status).where(proposal.c.proposal_id == proposal_id)
    status = connection.execute(query).scalar_one_or_none()
    if status is None:
        raise RecordRefused(f"{proposal_id}: no proposal has this id.")
    return ProposalStatus(status)


def _move(
    connection: Connection,
    proposal_id: str,
    before: Collection[ProposalStatus],
    status: ProposalStatus,
    reason: str,
    at: datetime,
    by: str,
) -> bool:
    if _status(connection, proposal_id) not in before:
        return False
    connection.execute(
        update(proposal)
        .where(proposal.c.proposal_id == proposal_id)
        .values(status=status.value, status_reason=reason, status_at=microseconds(at))
    )
    kind = "decision" if ProposalStatus.OPEN in before and len(before) == 1 else "proposal"
    message = f"{status}: {reason}" if reason else str(status)
    audit_proposal(connection, proposal_id, kind, message, at, by)
    return True


def _decision(connection: Connection, proposal_id: str) -> Decision | None:
    query = select(decision).where(decision.c.proposal_id == proposal_id)
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    return Decision(
        proposal_id=row.proposal_id,
        is_accepted=bool(row.is_accepted),
        by=row.actor,
        reason=row.reason,
        decided_at=moment(row.decided_at),
    )


def _proposal(row: Row[Any]) -> Proposal:
    return Proposal(
        proposal_id=row.proposal_id,
        plant=row.plant,
        created_at=moment(row.created_at),
        expires_at=moment(row.expires_at),
        open_until_wall=moment(row.open_until_wall),
        current=stored.numbers(row.current_values),
        setpoints=stored.numbers(row.setpoints),
        plan=stored.plan(row.plan),
        forecast=None if row.forecast is None else stored.forecast(row.forecast),
        verdict=stored.verdict(row.verdict),
        status=ProposalStatus(row.status),
        status_reason=row.status_reason,
        reason=row.reason,
        benefit_per_h=stored.number(row.benefit_per_h),
        binding=stored.names(row.binding),
        model=row.model,
    )
