"""From clearance to outcome: each step of a write stored with an audit row beside it.

A clearance is used once, before it expires; an outcome that is not a refusal names a used
clearance of its own proposal. The database's triggers hold both, whoever writes. Whether a
setpoint is safe is never judged here.

An outcome that cannot be read is a failed write: begun, perhaps sent, never written again.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from twin.errors import RecordUnreadable
from twin.historian import stored
from twin.historian.database import reading, writing
from twin.historian.decisions import audit_proposal
from twin.historian.holding import give_back_failed
from twin.historian.samples import plant_name
from twin.historian.schema import (
    EARLIEST,
    clearance,
    microseconds,
    moment,
    proposal,
    tag,
    write_outcome,
    written_value,
)
from twin.historian.unreadable import SkippingStore, Unreadable
from twin.plant import Plant
from twin.records import Clearance, WriteOutcome, WriteStatus


class WriteStore(SkippingStore):
    """The part of the historian that holds clearances and how writes ended."""

    def store_clearance(self, new: Clearance) -> None:
        """Store the gate's permission, so that it can be used once.

        Raises:
            RecordRefused: its proposal is not accepted, or the clearance is stored already.
        """
        with writing(self._engine) as connection:
            connection.execute(
                insert(clearance).values(
                    clearance_id=new.clearance_id,
                    proposal_id=new.proposal_id,
                    setpoints=stored.numbers_text(new.setpoints),
                    issued_at=microseconds(new.issued_at),
                    expires_at=microseconds(new.expires_at),
                )
            )
            message = f"clearance {new.clearance_id} until {new.expires_at.isoformat()}"
            told = (message, new.issued_at, "gate")
            audit_proposal(connection, new.proposal_id, "clearance", *told)

    def use_clearance(self, clearance_id: str, at: datetime) -> bool:
        """Take a clearance for one write; True exactly once, and only before it expires.

        False too while another clearance of the same proposal is in use or once a write of it
        was begun: two writers may hold a clearance each, but only one of them writes.
        """
        begun = select(write_outcome.c.id).where(
            write_outcome.c.proposal_id == clearance.c.proposal_id
        )
        other = clearance.alias("other")
        in_use = select(other.c.clearance_id).where(
            other.c.proposal_id == clearance.c.proposal_id,
            other.c.used_at.is_not(None),
            other.c.expires_at > microseconds(at),
        )
        use = (
            update(clearance)
            .where(clearance.c.clearance_id == clearance_id)
            .where(clearance.c.used_at.is_(None))
            .where(clearance.c.issued_at <= microseconds(at))
            .where(clearance.c.expires_at > microseconds(at))
            .where(~in_use.exists(), ~begun.exists())
            .values(used_at=microseconds(at))
            .returning(clearance.c.proposal_id)
        )
        with writing(self._engine) as connection:
            proposal_id = connection.execute(use).scalar_one_or_none()
            if proposal_id is None:
                return False
            message = f"clearance {clearance_id} used"
            audit_proposal(connection, proposal_id, "clearance", message, at, "writer")
        return True

    def store_outcome(self, new: WriteOutcome, taken: Collection[str] = ()) -> None:
        """Store how a write ended. An unknown outcome may be followed by one settled one.

        `taken` are the MVs that a failed write took from AUTO: they are ours, with an open
        hand-back each.

        Raises:
            RecordRefused: it is no refusal and names no used clearance of its proposal, or that
                clearance has a settled outcome already.
        """
        with writing(self._engine) as connection:
            number = connection.execute(
                insert(write_outcome)
                .values(
                    proposal_id=new.proposal_id,
                    clearance_id=new.clearance_id,
                    status=new.status.value,
                    reason=new.reason,
                    finished_at=microseconds(new.finished_at),
                )
                .returning(write_outcome.c.id)
            ).scalar_one()
            values = _written_rows(number, new)
            if values:
                connection.execute(insert(written_value), values)
            outcome = f"{_moves(connection, new)} {new.status}".lstrip()
            message = f"{outcome}: {new.reason}" if new.reason else outcome
            told = (message, new.finished_at, "writer")
            audit_proposal(connection, new.proposal_id, "write", *told)
            why = f"the write of {new.proposal_id} failed"
            give_back_failed(connection, taken, number, why, new.finished_at)

    def outcomes(
        self, plant: Plant | str, limit: int = 100, proposal_id: str | None = None
    ) -> list[WriteOutcome]:
        """The newest outcomes first; only those of one proposal, if given.

        One that cannot be read is FAILED and says so; a time that is lost is the earliest there is.
        """
        query = (
            select(write_outcome)
            .join(proposal, proposal.c.proposal_id == write_outcome.c.proposal_id)
            .where(proposal.c.plant == plant_name(plant))
            .order_by(write_outcome.c.id.desc())
            .limit(limit)
        )
        if proposal_id is not None:
            query = query.where(write_outcome.c.proposal_id == proposal_id)
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
            numbers = [row.id for row in rows]
            values = connection.execute(
                select(written_value).where(written_value.c.outcome_id.in_(numbers))
            ).all()
        answer = []
        for row in rows:
            moved = [value for value in values if value.outcome_id == row.id]
            found = self._read(plant_name(plant), "outcome", row.id, row, partial(_outcome, moved))
            answer.append(_lost(moved, row, found) if isinstance(found, Unreadable) else found)
        return answer

    def last_moved_at(
        self, plant: Plant | str, mv: str, before: datetime | None = None
    ) -> datetime | None:
        """When the last verified write of an MV finished (at or before `before`); else None.

        Raises:
            RecordUnreadable: there was one, and its time cannot be read.
        """
        query = (
            select(func.max(write_outcome.c.finished_at))
            .join(written_value, written_value.c.outcome_id == write_outcome.c.id)
            .join(proposal, proposal.c.proposal_id == write_outcome.c.proposal_id)
            .where(proposal.c.plant == plant_name(plant), written_value.c.mv == mv)
            .where(write_outcome.c.status == WriteStatus.VERIFIED.value)
        )
        if before is not None:
            query = query.where(write_outcome.c.finished_at <= microseconds(before))
        with reading(self._engine) as connection:
            finished_at = connection.execute(query).scalar_one()
        return None if finished_at is None else moment(finished_at)


def _moves(connection: Connection, new: WriteOutcome) -> str:
    """What was to be written, with units: "pump_1.setpoint 7.43 cm**3/s, ..."."""
    query = (
        select(tag.c.name, tag.c.unit)
        .join(proposal, proposal.c.plant == tag.c.plant)
        .where(proposal.c.proposal_id == new.proposal_id, tag.c.name.in_(new.setpoints))
    )
    units = {row.name: row.unit for row in connection.execute(query)}
    return ", ".join(
        f"{mv} {setpoint:.6g} {units.get(mv, '')}".rstrip()
        for mv, setpoint in new.setpoints.items()
    )


def _written_rows(number: int, new: WriteOutcome) -> list[dict[str, object]]:
    return [
        {
            "outcome_id": number,
            "mv": mv,
            "setpoint": stored.finite(new.setpoints.get(mv)),
            "read_back": stored.finite(new.read_back.get(mv)),
            "is_read_back": int(mv in new.read_back),
        }
        for mv in {**new.setpoints, **new.read_back}
    ]


def _outcome(values: list[Row[Any]], row: Row[Any]) -> WriteOutcome:
    return WriteOutcome(
        proposal_id=row.proposal_id,
        clearance_id=row.clearance_id,
        status=stored.one_of(WriteStatus, row.status),
        setpoints={v.mv: v.setpoint for v in values if v.setpoint is not None},
        read_back={v.mv: v.read_back for v in values if v.is_read_back},
        reason=row.reason,
        finished_at=moment(row.finished_at),
    )


def _lost(values: list[Row[Any]], row: Row[Any], damaged: Unreadable) -> WriteOutcome:
    """What is left of an outcome that cannot be read."""
    try:
        finished_at = moment(row.finished_at)
    except RecordUnreadable:
        finished_at = EARLIEST
    return WriteOutcome(
        proposal_id=row.proposal_id,
        clearance_id=row.clearance_id,
        status=WriteStatus.FAILED,
        setpoints={v.mv: v.setpoint for v in values if v.setpoint is not None},
        read_back={},
        reason=f"What became of this write cannot be read ({damaged.why}). Look at the plant.",
        finished_at=finished_at,
    )
