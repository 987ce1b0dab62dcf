"""Proposals and what people make of them, each step with an audit row in the same transaction.

What may follow what is guarded twice: by the statements here, which answer with a value, and
by the database's triggers, which refuse whoever else writes. A proposal's status moves along

    open      -> accepted, rejected (both only by `decide`), expired, superseded
    accepted  -> written, failed, refused (by the gate before the write), expired, superseded

and nowhere else. Whether a setpoint is safe is never judged here.

A row that cannot be read is no proposal: nobody is asked about it, nobody can decide it, and
nothing of it is ever written. It can only be moved to where it is over, by its id.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, insert, select, update

from twin.errors import RecordRefused, RecordUnreadable
from twin.historian import stored
from twin.historian.database import REPLACED, reading, writing
from twin.historian.operation import add_event
from twin.historian.samples import plant_name
from twin.historian.schema import decision, microseconds, moment, proposal
from twin.historian.unreadable import SkippingStore, Unreadable, readable
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


class DecisionStore(SkippingStore):
    """The part of the historian that holds proposals and decisions."""

    def store_proposal(self, new: Proposal) -> None:
        """Store a proposal that is open, refused or shadow.

        Raises:
            RecordRefused: one of that id is stored already, or its status is another.
        """
        with writing(self._engine) as connection:
            _store(connection, new)

    def publish(self, new: Proposal) -> str | None:
        """Store a proposal, unless it is open and one that waits moves the same MVs: that one's id.

        One transaction: of several planners at once, at most one asks about an MV.

        Raises:
            RecordRefused: as `store_proposal`.
        """
        with writing(self._engine) as connection:
            if new.status is ProposalStatus.OPEN:
                waiting = _waiting_for(connection, new)
                if waiting is not None:
                    return waiting
            _store(connection, new)
        return None

    def proposal(self, proposal_id: str) -> Proposal | None:
        """The proposal of that id, as it stands now; None if there is none.

        Raises:
            RecordUnreadable: there is one, and it cannot be read.
        """
        with reading(self._engine) as connection:
            row = connection.execute(
                select(proposal).where(proposal.c.proposal_id == proposal_id)
            ).one_or_none()
        return None if row is None else _proposal(row)

    def past(self, plant: Plant | str, limit: int = 100) -> list[Proposal | Unreadable]:
        """The newest proposals first, with those that cannot be read in their place."""
        with reading(self._engine) as connection:
            rows = connection.execute(_newest_first(plant).limit(limit)).all()
        return [self._parsed(row) for row in rows]

    def unreadable_proposals(
        self, plant: Plant | str, statuses: Collection[ProposalStatus]
    ) -> list[Unreadable]:
        """The proposals of these statuses that cannot be read."""
        with reading(self._engine) as connection:
            rows = connection.execute(_newest_first(plant, statuses)).all()
        return [each for row in rows if isinstance(each := self._parsed(row), Unreadable)]

    def proposals(
        self,
        plant: Plant | str,
        statuses: Collection[ProposalStatus] | None = None,
        limit: int = 100,
    ) -> list[Proposal]:
        """The newest proposals first; only those with one of `statuses`, if given.

        What cannot be read is passed over: it hides none of the `limit` that can.
        """
        query = _newest_first(plant, statuses)
        found: list[Proposal] = []
        asked = 0
        with reading(self._engine) as connection:
            while (missing := limit - len(found)) > 0:
                rows = connection.execute(query.limit(missing).offset(asked)).all()
                if not rows:
                    break
                asked += len(rows)
                found += readable(self._parsed(row) for row in rows)
        return found

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
            if fault := _damage(connection, taken.proposal_id):
                return Decided(is_taken=False, reason=fault, standing=None)
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
        """Who accepted or rejected the proposal; None while nobody has, or it cannot be read."""
        with reading(self._engine) as connection:
            return _decision(connection, proposal_id)

    def _parsed(self, row: Row[Any]) -> Proposal | Unreadable:
        return self._read(row.plant, "proposal", row.proposal_id, row, _proposal)


def _store(connection: Connection, new: Proposal) -> None:
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
    connection.execute(insert(proposal).values(row))
    told = (f"{new.status}: {why}", new.created_at, "planner")
    add_event(connection, new.plant, "proposal", new.proposal_id, *told)


def _waiting_for(connection: Connection, new: Proposal) -> str | None:
    """The open or accepted proposal that moves an MV of the new one; unreadable means it does."""
    pending = (ProposalStatus.OPEN.value, ProposalStatus.ACCEPTED.value)
    query = select(proposal.c.proposal_id, proposal.c.setpoints).where(
        proposal.c.plant == new.plant, proposal.c.status.in_(pending)
    )
    for proposal_id, setpoints in connection.execute(query):
        if REPLACED in proposal_id:  # nobody can name it: not to decide it, not to close it
            continue
        try:
            moved = stored.numbers(setpoints)
        except RecordUnreadable:
            return str(proposal_id)
        if moved.keys() & new.setpoints.keys():
            return str(proposal_id)
    return None


def audit_proposal(
    connection: Connection, proposal_id: str, kind: str, message: str, at: datetime, by: str
) -> None:
    """Add an audit row about a proposal to the transaction that does what it tells."""
    plant = connection.execute(
        select(proposal.c.plant).where(proposal.c.proposal_id == proposal_id)
    ).scalar_one()
    add_event(connection, plant, kind, proposal_id, message, at, by)


def _newest_first(
    plant: Plant | str, statuses: Collection[ProposalStatus] | None = None
) -> Select[Any]:
    query = select(proposal).where(proposal.c.plant == plant_name(plant))
    if statuses is not None:
        query = query.where(proposal.c.status.in_([status.value for status in statuses]))
    return query.order_by(proposal.c.created_at.desc(), proposal.c.proposal_id)


def _damage(connection: Connection, proposal_id: str) -> str:
    """Why a stored proposal cannot be decided by anybody; empty if it can be read."""
    query = select(proposal).where(proposal.c.proposal_id == proposal_id)
    try:
        _proposal(connection.execute(query).one())
    except RecordUnreadable as fault:
        return str(fault)
    return ""


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
    try:
        decided_at = moment(row.decided_at)
    except RecordUnreadable:
        return None
    return Decision(
        proposal_id=row.proposal_id,
        is_accepted=bool(row.is_accepted),
        by=row.actor,
        reason=row.reason,
        decided_at=decided_at,
    )


def _proposal(row: Row[Any]) -> Proposal:
    try:
        return _parsed(row)
    except RecordUnreadable as fault:
        raise RecordUnreadable(
            f"Proposal {row.proposal_id} cannot be read: its row in the database is damaged "
            f"({fault}). Nobody can decide it and nothing of it is written."
        ) from fault


def _parsed(row: Row[Any]) -> Proposal:
    if REPLACED in row.proposal_id:  # then no statement would find it by its id
        raise RecordUnreadable("its id is no text")
    return Proposal(
        proposal_id=row.proposal_id,
        plant=row.plant,
        created_at=moment(row.created_at),
        expires_at=moment(row.expires_at),
        open_until_wall=moment(row.open_until_wall),
        current=stored.numbers(row.current_values, "current values"),
        setpoints=stored.numbers(row.setpoints, "setpoints"),
        plan=stored.plan(row.plan),
        forecast=None if row.forecast is None else stored.forecast(row.forecast),
        verdict=stored.verdict(row.verdict),
        status=stored.one_of(ProposalStatus, row.status),
        status_reason=row.status_reason,
        reason=row.reason,
        benefit_per_h=stored.number(row.benefit_per_h),
        binding=stored.names(row.binding),
        model=row.model,
    )
