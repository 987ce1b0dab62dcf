"""The process that trains: when there is enough history, and again every plant day."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import datetime, timedelta

import torch

from dashboard.beats import latest_known
from dashboard.settings import Settings
from dashboard.workers.ending import ending, say
from dashboard.workers.history import is_first_history_awaited
from twin.clock import wall_now
from twin.dynamics.card import Card
from twin.dynamics.lineup import history_needed, train, training_tags
from twin.dynamics.past import past_to_learn
from twin.dynamics.registry import save
from twin.errors import HistorianError, ModelFault
from twin.historian import Historian
from twin.physics import load_physics
from twin.plant import Plant

_POLL_S = 1.0
_RETRY_S = 2.0
_FIRST_TRAINING_H = 24.0  # plant hours of history before the first training
_TRAINING_H = 48.0  # newest plant hours a training looks at
_RETRAIN_AFTER_H = 24.0  # plant hours between trainings
_HOUR = timedelta(hours=1)


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
    torch.set_num_threads(1)
    newest = _newest(plant, historian)
    if newest is None:
        empty = "the database has no readings. Run `plantwright collect PLANT`."
        raise ModelFault(f"{plant.plant}: {empty}")
    physics = load_physics(plant)
    oldest = historian.oldest(plant, newest - timedelta(hours=_TRAINING_H)) or newest
    hours = min(_TRAINING_H, (newest - oldest).total_seconds() / 3600)
    rows = max(1, int(hours * 3600 / plant.step_s))
    tags = training_tags(plant, physics)
    past = past_to_learn(plant, historian, tags, newest, rows)
    report = train(plant, physics, past, seed=seed, progress=progress)
    version = save(settings.models_dir(plant), report.card, report.models)
    historian.set_active_model(plant, version, json.loads(report.card.to_json()), newest)
    return report.card


def run_trainer(plant: Plant, settings: Settings) -> None:
    """Train when there is enough history, and again every plant day, until told to stop."""
    with ending() as stop, Historian.open(settings.database_url(plant)) as historian:

        def go_on(share_done: float) -> None:
            if stop.is_set():
                raise _ToldToEnd

        while not stop.wait(_POLL_S):
            try:
                newest = _newest(plant, historian)
                historian.beat(plant, "train", wall_now(), os.getpid(), "waiting for history")
                if newest is not None and _is_training_due(plant, historian, newest):
                    historian.beat(plant, "train", wall_now(), os.getpid(), "training")
                    card = train_once(plant, settings, historian, seed=0, progress=go_on)
                    say(f"in use: {card.promoted}. {card.reason}")
            except (HistorianError, ModelFault) as fault:
                say(f"training waits: {fault}")
                stop.wait(_RETRY_S)
            except _ToldToEnd:
                say("told to end in the middle of a training; nothing of it is kept")


class _ToldToEnd(Exception):
    """Leaves a training in the middle: it stores nothing before its end."""


def _newest(plant: Plant, historian: Historian) -> datetime | None:
    """The newest reading whose time can be true."""
    until = latest_known(plant, historian.processes(plant), wall_now())
    return historian.newest(plant, until)


def _is_training_due(plant: Plant, historian: Historian, newest: datetime) -> bool:
    active = historian.active_model(plant)
    if active is not None:
        return newest - active.activated_at >= timedelta(hours=_RETRAIN_AFTER_H)
    enough = max(timedelta(hours=_FIRST_TRAINING_H), history_needed(plant))
    looked_at = 2 * enough
    oldest = historian.oldest(plant, newest - looked_at)
    if oldest is None or newest - oldest < enough:
        return False
    if is_first_history_awaited(historian.gaps(plant, unfilled=True)):
        return False
    # One old stamp is no history: as many hours must be known, the one begun first among them.
    return historian.hours_known(plant, round(looked_at / _HOUR), newest) > enough / _HOUR
