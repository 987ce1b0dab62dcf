"""How the plant is operated: stages, the audit, processes' heartbeats and the active model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from twin.historian import stored
from twin.historian.database import reading, upserting, writing
from twin.historian.samples import plant_name
from twin.historian.schema import event, microseconds, model, moment, process, stage, tag
from twin.historian.unreadable import SkippingStore, readable
from twin.plant import Plant, Role
from twin.records import Stage

#: The kind of the audit rows that tell of a row which cannot be read.
UNREADABLE = "unreadable"

_OURSELVES = "plantwright"


@dataclass(frozen=True, slots=True)
class Event:
    """One row of the audit: what happened to whom, told by whom."""

    number: int
    plant: str
    kind: str
    subject: str
    message: str
    at: datetime
    by: str


@dataclass(frozen=True, slots=True)
class ProcessBeat:
    """The last sign of life of one process. `at` is wall time."""

    name: str
    at: datetime
    pid: int
    detail: str


@dataclass(frozen=True, slots=True)
class ActiveModel:
    """The model version in use since `activated_at`, with its card."""

    version: str
    card: Mapping[str, Any]
    activated_at: datetime


def add_event(
    connection: Connection,
    plant: str,
    kind: str,
    subject: str,
    message: str,
    at: datetime,
    by: str,
) -> None:
    """Add an audit row to the transaction that does what it tells."""
    connection.execute(
        insert(event).values(
            plant=plant, kind=kind, subject=subject, message=message, at=microseconds(at), actor=by
        )
    )


class OperationStore(SkippingStore):
    """The part of the historian that holds stages, audit, heartbeats and models."""

    def stage(self, plant: Plant) -> dict[str, Stage]:
        """The stage of every MV: the last one decided; shadow before any, or if it is unreadable.

        A closed loop that was decided for an emulator counts as advisory once the plant file
        names another host.
        """
        newest = select(func.max(stage.c.id)).where(stage.c.plant == plant.plant)
        query = select(stage).where(stage.c.id.in_(newest.group_by(stage.c.mv)))
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        decided = {row.mv: self._read(plant.plant, "stage", row.id, row, _stage) for row in rows}
        answer: dict[str, Stage] = {}
        for mv in plant.with_role(Role.MV):
            found = decided.get(mv.name)
            answer[mv.name] = found if isinstance(found, Stage) else Stage.SHADOW
        if not plant.is_on_this_machine:
            return {
                mv: Stage.ADVISORY if at is Stage.CLOSED_LOOP else at for mv, at in answer.items()
            }
        return answer

    def set_stage(
        self, plant: Plant, mv: str, to: Stage, by: str, reason: str, at: datetime
    ) -> str | None:
        """Store a person's decision about an MV's stage; None when done, else why it is refused.

        Raises:
            UnknownTag: the plant has no such tag.
        """
        refusal = _stage_refusal(plant, mv, to, by, reason)
        with writing(self._engine) as connection:
            if refusal is None:
                decide_stage(connection, plant.plant, mv, to, by, reason, at)
            else:
                message = f"{to} refused: {refusal}"
                add_event(connection, plant.plant, "stage", mv, message, at, by)
        return refusal

    def start_stages(self, plant: Plant, at: datetime) -> None:
        """Let every MV whose stage nobody has decided yet start as advisory: a person accepts."""
        known = select(stage.c.mv).where(stage.c.plant == plant.plant)
        reason = "first start: a person accepts or rejects"
        with writing(self._engine) as connection:
            decided = set(connection.execute(known).scalars())
            new = [mv.name for mv in plant.with_role(Role.MV) if mv.name not in decided]
            for mv in new:
                decide_stage(connection, plant.plant, mv, Stage.ADVISORY, _OURSELVES, reason, at)

    def tell_unreadable(self, plant: Plant | str, at: datetime, by: str) -> None:
        """Tell once in the audit of every row of the plant that this object could not read."""
        name = plant_name(plant)
        for each in self.unreadable(name):
            if each in self._told:
                continue
            subject = each.key if each.kind == "proposal" else f"{each.kind} {each.key}"
            with writing(self._engine) as connection:
                known = select(event.c.id).where(
                    event.c.plant == name, event.c.kind == UNREADABLE, event.c.subject == subject
                )
                if connection.execute(known.limit(1)).first() is None:
                    add_event(connection, name, UNREADABLE, subject, each.why, at, by)
            self._told.add(each)

    def plants(self) -> list[str]:
        """The names of all plants that were ever made known to this database."""
        with reading(self._engine) as connection:
            found = connection.execute(select(tag.c.plant).distinct().order_by(tag.c.plant))
            return list(found.scalars())

    def event(
        self, plant: Plant | str, kind: str, subject: str, message: str, at: datetime, by: str
    ) -> None:
        """Add an audit row. It can never be changed or deleted."""
        with writing(self._engine) as connection:
            add_event(connection, plant_name(plant), kind, subject, message, at, by)

    def events(
        self,
        plant: Plant | str,
        limit: int = 100,
        kind: str | None = None,
        subject: str | None = None,
    ) -> list[Event]:
        """The newest audit rows first; only of one kind or subject, if given."""
        query = select(event).where(event.c.plant == plant_name(plant))
        if kind is not None:
            query = query.where(event.c.kind == kind)
        if subject is not None:
            query = query.where(event.c.subject == subject)
        with reading(self._engine) as connection:
            rows = connection.execute(query.order_by(event.c.id.desc()).limit(limit)).all()
        name = plant_name(plant)
        return readable(self._read(name, "event", row.id, row, _event) for row in rows)

    def beat(
        self, plant: Plant | str, process_name: str, at: datetime, pid: int, detail: str = ""
    ) -> None:
        """Note that a process lives. `at` is wall time."""
        values = {"at": microseconds(at), "pid": pid, "detail": detail}
        statement = upserting(self._engine, process).values(
            plant=plant_name(plant), name=process_name, **values
        )
        with writing(self._engine) as connection:
            connection.execute(
                statement.on_conflict_do_update(index_elements=["plant", "name"], set_=values)
            )

    def processes(self, plant: Plant | str) -> list[ProcessBeat]:
        """Every process that ever beat, by name; one whose beat cannot be read is left out."""
        query = select(process).where(process.c.plant == plant_name(plant)).order_by(process.c.name)
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        name = plant_name(plant)
        return readable(self._read(name, "process", row.name, row, _beat) for row in rows)

    def set_active_model(
        self,
        plant: Plant | str,
        version: str,
        card: Mapping[str, Any],
        at: datetime,
        by: str = "training",
    ) -> None:
        """Put a model version to use; the earlier ones stay on record."""
        name = plant_name(plant)
        with writing(self._engine) as connection:
            connection.execute(
                insert(model).values(
                    plant=name,
                    version=version,
                    card=stored.card_text(card),
                    activated_at=microseconds(at),
                )
            )
            add_event(connection, name, "model", version, f"{version} is in use", at, by)

    def active_model(self, plant: Plant | str) -> ActiveModel | None:
        """The model in use; None before the first, or where its row cannot be read."""
        models = self.models(plant, limit=1)
        return models[0] if models else None

    def models(self, plant: Plant | str, limit: int = 100) -> list[ActiveModel]:
        """Every model that was ever put to use, the newest first."""
        query = (
            select(model)
            .where(model.c.plant == plant_name(plant))
            .order_by(model.c.id.desc())
            .limit(limit)
        )
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        name = plant_name(plant)
        return readable(self._read(name, "model", row.id, row, _model) for row in rows)


def decide_stage(
    connection: Connection, plant: str, mv: str, to: Stage, by: str, reason: str, at: datetime
) -> None:
    values = {"plant": plant, "mv": mv, "stage": to.value, "actor": by, "reason": reason}
    connection.execute(insert(stage).values(decided_at=microseconds(at), **values))
    add_event(connection, plant, "stage", mv, f"{to}: {reason}", at, by)


def _stage(row: Row[Any]) -> Stage:
    return stored.one_of(Stage, row.stage)


def _event(row: Row[Any]) -> Event:
    return Event(row.id, row.plant, row.kind, row.subject, row.message, moment(row.at), row.actor)


def _beat(row: Row[Any]) -> ProcessBeat:
    return ProcessBeat(row.name, moment(row.at), row.pid, row.detail)


def _model(row: Row[Any]) -> ActiveModel:
    return ActiveModel(row.version, stored.card(row.card), moment(row.activated_at))


def _stage_refusal(plant: Plant, mv: str, to: Stage, by: str, reason: str) -> str | None:
    if plant.tag(mv).role is not Role.MV:
        return f"{mv} is not an MV; only MVs have a stage."
    if not by.strip() or not reason.strip():
        return "A stage is changed by a named person with a reason."
    if to is not Stage.CLOSED_LOOP or plant.is_on_this_machine:
        return None
    endpoint = plant.opcua.endpoint if plant.opcua is not None else ""
    return (
        f"Closed loop is for an emulator on this machine; {plant.plant} is at "
        f"{endpoint or 'no OPC UA endpoint'}. Use advisory."
    )
