"""The process that plans: once per plant step, with the model that is in use."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from connectors.stop import StopLatch
from dashboard.beats import clock_detail, is_stopped_at_plant, latest_known, plant_moment
from dashboard.settings import Settings
from dashboard.workers.ending import ending, say
from dashboard.workers.history import is_first_history_awaited, recorded_stops
from optimizer.controller import Controller, Model, error_band
from optimizer.cycle import Planned, Planning, plan_round
from optimizer.slab_controller import SlabController
from twin.clock import on_grid, wall_now
from twin.context import JUDGED, gate_context, told_judged
from twin.dynamics.models import PHYSICS
from twin.dynamics.registry import load, versions
from twin.errors import HistorianError, ModelFault, UsageError
from twin.furnace.state import Stop
from twin.historian import Gap, Historian, Period
from twin.physics import Physics, load_physics
from twin.plant import Plant

_POLL_S = 0.1
_RETRY_S = 2.0


def plan_once(plant: Plant, settings: Settings, historian: Historian) -> Planned:
    """One planning round now: the proposal it stored, or why there is none."""
    return _PlannerLoop(plant, settings, historian).poll()


def run_planner(plant: Plant, settings: Settings) -> None:
    """Plan once per plant step until told to stop."""
    with ending() as stop, Historian.open(settings.database_url(plant)) as historian:
        worker = _PlannerLoop(plant, settings, historian)
        while not stop.wait(_POLL_S):
            try:
                worker.poll()
            except HistorianError as fault:
                say(f"planning waits: {fault}")
                stop.wait(_RETRY_S)


def _controller(plant: Plant, model: Model, stops: Sequence[Stop]) -> Planning:
    """What plans for this plant: a furnace by its slabs, any other by its equations."""
    if plant.furnace is not None:
        return SlabController(plant, model, stops=stops)
    return Controller(plant, _physics(plant), model)


def _physics(plant: Plant) -> Physics:
    """The plant's equations; planning needs them in this version."""
    physics = load_physics(plant)
    if physics is None:
        raise UsageError(
            f"{plant.plant}: the plant file names no physics, and plans are made on it. Name one."
        )
    return physics


def active_version(historian: Historian, plant: Plant) -> str:
    """The version of the model in use; the physics' where there is none."""
    active = historian.active_model(plant)
    return PHYSICS if active is None else active.version


def model_or_why(plant: Plant, settings: Settings, version: str) -> tuple[Model, str]:
    """The model of this version and ""; where it cannot be loaded, the physics alone and why."""
    try:
        return _load_model(plant, settings, version), ""
    except ModelFault as fault:
        folder = settings.models_dir(plant)
        is_there = version in versions(folder)
        return Model(), str(fault) if is_there else _is_elsewhere(version, folder)


def _load_model(plant: Plant, settings: Settings, version: str) -> Model:
    if version == PHYSICS:
        return Model()
    stored = load(settings.models_dir(plant), version, plant, load_physics(plant))
    card = stored.card
    band = error_band(card.twin_band)
    return Model(version, stored.residual, band, zone_residual=stored.zone_residual)


def _is_elsewhere(version: str, folder: Path) -> str:
    return (
        f"The model in use, {version}, is not in {folder.absolute()}: it was trained with another "
        "PLANTWRIGHT_STATE_DIR. Use one such folder per database, or train here."
    )


class _PlannerLoop:
    """Plans when the plant's clock passes a step of the grid, and follows the active model."""

    def __init__(self, plant: Plant, settings: Settings, historian: Historian) -> None:
        self._plant = plant
        self._settings = settings
        self._historian = historian
        self._controller: Planning | None = None
        self._done_until: datetime | None = None
        self._filled_gaps = 0
        self._lost_gaps: frozenset[Gap] = frozenset()
        self._bad_data: list[Period] = []

    def poll(self) -> Planned:
        """One round if a step is due: the proposal it stored, or why there is none."""
        plant, historian = self._plant, self._historian
        beats, wall = historian.processes(plant), wall_now()
        newest = historian.newest(plant, until=latest_known(plant, beats, wall))
        if newest is None:
            return Planned(None, "no reading is stored yet")
        now, speed = plant_moment(plant, beats, newest, wall)
        gaps = historian.gaps(plant, unfilled=True)
        if is_first_history_awaited(gaps):
            waiting = "waiting for the plant's history"
            self._tell(None, now, speed, waiting, told_judged(beats))
            return Planned(None, waiting)
        due = on_grid(min(newest, now), plant.step_s)
        if self._done_until is not None and due <= self._done_until:
            return Planned(None, "no step is due yet")
        self._done_until = due
        controller = self._following(now, gaps)
        context = gate_context(
            plant,
            historian,
            now=now,
            wall_now=wall_now(),
            is_stopped=StopLatch(self._settings.stop_latch(plant)).is_stopped(),
        )
        planned = plan_round(
            controller,
            historian,
            context,
            now=now,
            wall_now=wall_now(),
            speed=speed,
            proposal_id=secrets.token_hex(8),
            is_stopped_at_plant=is_stopped_at_plant(beats, wall),
        )
        judged = told_judged(beats) | dict.fromkeys(planned.kept, now)
        self._tell(controller, now, speed, planned.reason, judged)
        return planned

    def _following(self, now: datetime, gaps: Iterable[Gap]) -> Planning:
        """The controller, which follows the past anew where that is not what it was."""
        filled = self._historian.count_filled(self._plant)
        # While one is being filled it changes by the minute.
        over = [gap for gap in gaps if gap.ended_at is not None]
        lost = frozenset(g for g in over if g.filled_until is None or g.cannot_be_filled)
        bad = self._historian.bad_periods(self._plant)
        if bad != self._bad_data:
            self._controller = None  # the record of stops, too, is read without them
        controller = self._following_active_model(now)
        if filled != self._filled_gaps or not lost <= self._lost_gaps:
            controller.use(controller.model, forget=True)
        self._filled_gaps, self._lost_gaps, self._bad_data = filled, lost, bad
        return controller

    def _following_active_model(self, now: datetime) -> Planning:
        version = active_version(self._historian, self._plant)
        if self._controller is None:
            model = self._model(version, now)
            stops = recorded_stops(self._historian, self._plant, on_grid(now, self._plant.step_s))
            self._controller = _controller(self._plant, model, stops)
        elif self._controller.model.version != version:
            model = self._model(version, now)
            if model.version != self._controller.model.version:
                self._controller.use(model)
                say(f"planning with {model.version} from now on")
        return self._controller

    def _model(self, version: str, now: datetime) -> Model:
        """The model in use; the physics alone where it cannot be loaded, which is told once."""
        model, why = model_or_why(self._plant, self._settings, version)
        if not why:
            return model
        message = f"{why} Until then it is planned with the physics."
        told = self._historian.events(self._plant, kind="model", subject=version)
        if message not in (event.message for event in told):
            say(message)
            self._historian.event(self._plant, "model", version, message, now, "planner")
        return model

    def _tell(
        self,
        controller: Planning | None,
        now: datetime,
        speed: float,
        note: str,
        judged: Mapping[str, datetime],
    ) -> None:
        detail: dict[str, object] = {"note": note}
        if judged:
            detail[JUDGED] = {mv: at.isoformat() for mv, at in judged.items()}
        if controller is not None:
            detail["model"] = controller.model.version
        estimate = controller.estimate if controller is not None else None
        if estimate is not None:
            detail["coverage90"] = estimate.coverage90
            detail["coverage_count"] = estimate.coverage_count
        beat = clock_detail(now, speed, **detail)
        self._historian.beat(self._plant, "plan", wall_now(), os.getpid(), beat)
