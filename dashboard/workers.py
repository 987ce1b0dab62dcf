"""The long-running processes: each one loops here, and does its rounds in another room.

Emulate, collect, plan, write and train are separate processes that meet only in the historian.
Every loop ends cleanly on SIGTERM, beats into the historian while it lives, and can be killed
and started again at any time.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from connectors.stop import StopLatch
from dashboard.beats import clock_detail, plant_moment
from dashboard.settings import Settings
from dashboard.view.headline import silent_after_s
from twin.clock import wall_now
from twin.context import gate_context
from twin.errors import HistorianError, ModelFault, UsageError
from twin.physics import Physics, load_physics
from twin.plant import Plant

if TYPE_CHECKING:
    from optimizer.controller import Controller, Model
    from twin.dynamics.card import Card
    from twin.historian import Gap, Historian
    from twin.records import Proposal

#: Where an emulated plant's clock stands when it goes live: fixed, so that a seed is a story.
EMULATOR_START = datetime(2026, 1, 7, tzinfo=UTC)
_POLL_S = 0.1
_WRITER_POLL_S = 0.2
_RETRY_S = 2.0
_TRAINER_POLL_S = 1.0
_FIRST_TRAINING_H = 24.0  # plant hours of history before the first training
_TRAINING_H = 48.0  # newest plant hours a training looks at
_RETRAIN_AFTER_H = 24.0  # plant hours between trainings


def ending() -> threading.Event:
    """An event that SIGTERM and SIGINT set; a loop waits on it instead of sleeping."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def say(text: str) -> None:
    """One line for the process's log."""
    print(f"{wall_now():%Y-%m-%d %H:%M:%S} {text}", file=sys.stderr, flush=True)


def run_emulator(
    plant: Plant,
    *,
    speed: float,
    seed: int,
    hours: float | None = None,
    since: datetime | None = None,
) -> None:
    """Serve the emulated plant until told to stop; after `hours` of plant time it stands still.

    `since` is the wall time at which this plant first went live: a later start carries on with
    the same plant, as much later as the wall clock has moved, so that no source time comes twice.
    """
    from connectors.emulator import Live, serve

    def ready(live: Live) -> None:
        say(f"live at {live.endpoint}, plant time {live.plant_time:%Y-%m-%d %H:%M} UTC, {speed:g}×")

    days = plant.opcua.history_days if plant.opcua is not None else 0.0
    lived_s = 0.0 if since is None else max(0.0, speed * (wall_now() - since).total_seconds())
    _until_told(
        serve(
            plant,
            seed=seed,
            start=EMULATOR_START + timedelta(seconds=lived_s),
            speed=speed,
            began=EMULATOR_START - timedelta(days=days),
            until=EMULATOR_START + timedelta(hours=hours) if hours is not None else None,
            lives_on=since is not None,
            on_ready=ready,
        )
    )


def run_collector(plant: Plant, settings: Settings, *, wait_s: float | None = None) -> None:
    """Carry readings into the historian until told to stop.

    Raises EndpointUnavailable if nothing answers within `wait_s`; None waits for ever.
    """
    from connectors.ingest import Progress, collect
    from twin.historian import Historian

    seen = [""]

    def tell(progress: Progress) -> None:
        if progress.link != seen[0]:
            seen[0] = progress.link
            say(f"link {progress.link}")

    with Historian.create(settings.database_url(plant)) as historian:

        async def work() -> None:
            await collect(
                plant,
                historian,
                stop=_told_to_stop(),
                first_answer_within_s=wait_s,
                on_progress=tell,
            )

        asyncio.run(work())


def run_writer_process(plant: Plant, settings: Settings) -> None:
    """Write accepted proposals, each behind the gate, until told to stop."""
    from connectors.writeback import Writer
    from connectors.writer import run_writer
    from twin.historian import Historian

    latch = StopLatch(settings.stop_latch(plant))
    with Historian.open(settings.database_url(plant)) as historian:

        async def work() -> None:
            await run_writer(
                Writer(plant, historian, latch.is_stopped),
                stop=_told_to_stop(),
                poll_s=_WRITER_POLL_S,
                is_well=lambda: _is_planner_alive(plant, historian),
                on_outcome=lambda outcome: say(f"{outcome.proposal_id} {outcome.status}"),
            )

        asyncio.run(work())


def _is_planner_alive(plant: Plant, historian: Historian) -> bool:
    """Whether a planner still beats; without one the PLC shall take its pumps back."""
    beats = historian.processes(plant)
    _, speed = plant_moment(plant, beats, None, wall_now())
    limit_s = silent_after_s(plant, speed)
    return any(
        beat.name == "plan" and (wall_now() - beat.at).total_seconds() <= limit_s for beat in beats
    )


def _told_to_stop() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def _until_told(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` until it ends or SIGTERM or SIGINT comes."""

    async def run() -> None:
        stop = asyncio.create_task(_told_to_stop().wait())
        job = asyncio.create_task(work)
        await asyncio.wait([job, stop], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if job.done():
            job.result()
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)

    asyncio.run(run())


def plan_once(plant: Plant, settings: Settings, historian: Historian) -> Proposal | None:
    """One planning round now; the proposal it published, if any."""
    return _PlannerLoop(plant, settings, historian).poll()


def run_planner(plant: Plant, settings: Settings) -> None:
    """Plan once per plant step until told to stop."""
    from twin.historian import Historian

    stop = ending()
    with Historian.open(settings.database_url(plant)) as historian:
        worker = _PlannerLoop(plant, settings, historian)
        while not stop.wait(_POLL_S):
            try:
                worker.poll()
            except HistorianError as fault:
                say(f"planning waits: {fault}")
                stop.wait(_RETRY_S)


def is_first_history_awaited(gaps: Iterable[Gap]) -> bool:
    """Whether the readings from before the first connection are still arriving."""
    from connectors.ingest import FIRST_START

    return any(gap.reason == FIRST_START and not gap.is_filled for gap in gaps)


def _physics(plant: Plant) -> Physics:
    """The plant's equations; planning needs them in this version."""
    physics = load_physics(plant)
    if physics is None:
        raise UsageError(
            f"{plant.plant}: the plant file names no physics, and plans are made on it. Name one."
        )
    return physics


def _active_version(historian: Historian, plant: Plant) -> str:
    active = historian.active_model(plant)
    return "physics" if active is None else active.version


def _load_model(plant: Plant, settings: Settings, version: str) -> Model:
    from optimizer.controller import Model, error_band
    from twin.dynamics.models import PHYSICS
    from twin.dynamics.registry import load

    if version == PHYSICS:
        return Model()
    stored = load(settings.models_dir(plant), version, plant, load_physics(plant))
    card = stored.card
    return Model(version, stored.residual, error_band(card.twin_band))


class _PlannerLoop:
    """Plans when the plant's clock passes a step of the grid, and follows the active model."""

    def __init__(self, plant: Plant, settings: Settings, historian: Historian) -> None:
        self._plant = plant
        self._settings = settings
        self._historian = historian
        self._controller: Controller | None = None
        self._done_until: datetime | None = None
        self._filled_gaps = 0

    def poll(self) -> Proposal | None:
        """One round if a step is due; the proposal it published, if any."""
        from optimizer.cycle import plan_round, step_floor

        plant, historian = self._plant, self._historian
        newest = historian.newest(plant)
        beats = historian.processes(plant)
        if newest is None:
            return None
        now, speed = plant_moment(plant, beats, newest, wall_now())
        gaps = historian.gaps(plant)
        if is_first_history_awaited(gaps):
            self._tell(None, now, speed)
            return None
        due = step_floor(plant, newest)
        if self._done_until is not None and due <= self._done_until:
            return None
        self._done_until = due
        controller = self._following_active_model()
        filled = sum(gap.is_filled for gap in gaps)
        if filled != self._filled_gaps:
            # Readings have arrived behind those already followed: follow all of them anew.
            controller.use(controller.model, forget=True)
            self._filled_gaps = filled
        context = gate_context(
            plant,
            historian,
            now=now,
            wall_now=wall_now(),
            is_stopped=StopLatch(self._settings.stop_latch(plant)).is_stopped(),
        )
        new = plan_round(
            controller,
            historian,
            context,
            now=now,
            wall_now=wall_now(),
            speed=speed,
            proposal_id=secrets.token_hex(8),
        )
        self._tell(controller, now, speed)
        return new

    def _following_active_model(self) -> Controller:
        from optimizer.controller import Controller

        version = _active_version(self._historian, self._plant)
        if self._controller is None:
            model = _load_model(self._plant, self._settings, version)
            self._controller = Controller(self._plant, _physics(self._plant), model)
        elif self._controller.model.version != version:
            self._controller.use(_load_model(self._plant, self._settings, version))
            say(f"planning with {version} from now on")
        return self._controller

    def _tell(self, controller: Controller | None, now: datetime, speed: float) -> None:
        detail: dict[str, object] = {"note": "waiting for the plant's history"}
        if controller is not None:
            detail = {"model": controller.model.version}
        estimate = controller.estimate if controller is not None else None
        if estimate is not None:
            detail["coverage90"] = estimate.coverage90
            detail["coverage_count"] = estimate.coverage_count
        beat = clock_detail(now, speed, **detail)
        self._historian.beat(self._plant, "plan", wall_now(), os.getpid(), beat)


def train_once(
    plant: Plant,
    settings: Settings,
    historian: Historian,
    *,
    seed: int,
    progress: Callable[[float], None] | None = None,
) -> Card:
    """Fit the line-up to the newest two plant days, store it, put the best model to use.

    Raises:
        ModelFault: there is too little history.
    """
    import torch

    from twin.dynamics.frames import signals_of
    from twin.dynamics.lineup import train
    from twin.dynamics.registry import save
    from twin.state import window, window_start

    torch.set_num_threads(1)
    newest = historian.newest(plant)
    if newest is None:
        raise ModelFault(f"{plant.plant}: the database has no readings. Run `plantwright collect`.")
    physics = load_physics(plant)
    signals = signals_of(plant, physics)
    oldest = historian.facts().oldest or newest
    hours = min(_TRAINING_H, (newest - oldest).total_seconds() / 3600)
    rows = max(1, int(hours * 3600 / plant.step_s))
    tags = tuple(dict.fromkeys((*signals.levels, *signals.inputs)))
    samples = historian.samples(plant, tags, window_start(plant, newest, rows), newest)
    past = window(plant, samples, newest, rows)
    report = train(plant, physics, past, seed=seed, progress=progress)
    version = save(settings.models_dir(plant), report.card, report.models)
    historian.set_active_model(plant, version, json.loads(report.card.to_json()), newest)
    return report.card


def run_trainer(plant: Plant, settings: Settings) -> None:
    """Train when there is enough history, and again every plant day, until told to stop."""
    from twin.historian import Historian

    stop = ending()
    with Historian.open(settings.database_url(plant)) as historian:
        while not stop.wait(_TRAINER_POLL_S):
            try:
                newest = historian.newest(plant)
                historian.beat(plant, "train", wall_now(), os.getpid(), "waiting for history")
                if newest is not None and _is_training_due(plant, historian, newest):
                    historian.beat(plant, "train", wall_now(), os.getpid(), "training")
                    card = train_once(plant, settings, historian, seed=0)
                    say(f"in use: {card.promoted}. {card.reason}")
            except (HistorianError, ModelFault) as fault:
                say(f"training waits: {fault}")
                stop.wait(_RETRY_S)


def _is_training_due(plant: Plant, historian: Historian, newest: datetime) -> bool:
    active = historian.active_model(plant)
    if active is not None:
        return newest - active.activated_at >= timedelta(hours=_RETRAIN_AFTER_H)
    oldest = historian.facts().oldest
    enough = timedelta(hours=_FIRST_TRAINING_H)
    is_complete = not is_first_history_awaited(historian.gaps(plant))
    return is_complete and oldest is not None and newest - oldest >= enough
