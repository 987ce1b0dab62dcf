"""Train the line-up on a plant's own past, judge it on time held out, promote the best.

Everything is judged as it is used: in free run with realised inputs, on time that was never
fitted. Nothing here stores or activates a model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version

import numpy as np

from twin.dynamics.arx import fit_arx
from twin.dynamics.card import Card, fingerprint
from twin.dynamics.fitting import Budget, fit_residual
from twin.dynamics.frames import Array, Cuts, signals_of
from twin.dynamics.furnace_lineup import FurnaceLineUp, furnace_tags
from twin.dynamics.models import (
    ARX,
    PERSISTENCE,
    PHYSICS,
    PHYSICS_BIAS,
    PHYSICS_RESIDUAL,
    FurnaceModel,
    Model,
    Persistence,
    PhysicsModel,
)
from twin.dynamics.record import JUDGE_STRIDE, Record, root_mean_square, rounded, rows_needed
from twin.dynamics.residual import CONTEXT_ROWS, Residual
from twin.errors import ModelFault
from twin.furnace.residual import ZoneResidual
from twin.physics import Physics, stepper
from twin.plant import Plant
from twin.records import Window

SIMPLEST_FIRST = (PERSISTENCE, PHYSICS, PHYSICS_BIAS, ARX, PHYSICS_RESIDUAL)
# A more complex model must score this much better than every simpler one. Chosen: where the
# physics is exact, the scores of physics, bias and residual lie closer together than this.
PROMOTION_MARGIN = 0.03
_PACKAGES = ("plantwright", "numpy", "torch")


@dataclass(frozen=True)
class TrainingReport:
    """A trained line-up with its card. `promoted` names the model that did best."""

    models: Mapping[str, Model | FurnaceModel]
    card: Card

    @property
    def promoted(self) -> str:
        """The best model's name."""
        return self.card.promoted

    @property
    def residual(self) -> Residual | None:
        """The learned rate, if the model that carries it was promoted."""
        model = self.models[self.promoted]
        return model.residual if isinstance(model, PhysicsModel) else None

    @property
    def zone_residual(self) -> ZoneResidual | None:
        """What was learned of a furnace's zones, if the model that carries it was promoted."""
        model = self.models[self.promoted]
        return model.residual if isinstance(model, FurnaceModel) else None


def train(
    plant: Plant,
    physics: Physics | None,
    window: Window,
    *,
    seed: int,
    budget: Budget | None = None,
    progress: Callable[[float], None] | None = None,
) -> TrainingReport:
    """Fit, compare and promote on `window`, the plant's past on its planning grid.

    `progress` hears the share done, 0 to 1. Equal arguments give an equal report. Without
    physics, or where one of its states has no readings, the line-up is persistence and ARX. That
    of a furnace is persistence and its equations, which start from tracked slabs.

    Raises:
        ModelFault: the past is too short, or too little of it is known.
    """
    record = Record(plant, signals_of(plant, physics), window, CONTEXT_ROWS)
    held_out, validation = record.held_out(), record.validation(JUDGE_STRIDE)
    models: Mapping[str, Model | FurnaceModel]
    ahead: Callable[[Model | FurnaceModel, Cuts], Array]
    if plant.furnace is not None:
        furnace = FurnaceLineUp(record, (validation, held_out), seed, progress)
        models, ahead = furnace.models, furnace.ahead
    else:
        models = _fitted(record, physics, seed, budget or Budget(), progress)
        ahead = _ahead
    judged = {name: _errors(ahead(m, held_out), record, held_out) for name, m in models.items()}
    chosen = {name: _errors(ahead(m, validation), record, validation) for name, m in models.items()}
    if progress is not None:
        progress(1.0)
    return TrainingReport(models, _card(record, physics, seed, chosen, judged))


def _card(
    record: Record,
    physics: Physics | None,
    seed: int,
    chosen: Mapping[str, Array],
    judged: Mapping[str, Array],
) -> Card:
    """What is written about errors (step, window, cv) on the part that chose, and that judges."""
    rmse = {name: root_mean_square(errors) for name, errors in judged.items()}
    scores = {name: _score(record, errors) for name, errors in rmse.items()}
    promoted, reason = promote(scores)
    plant, signals, window = record.plant, record.signals, record.window
    return Card(
        plant=plant.plant,
        promoted=promoted,
        reason=reason,
        levels=signals.levels,
        inputs=signals.inputs,
        cvs=signals.cvs,
        physics=fingerprint(plant, physics),
        data_start=record.moment(0),
        data_end=window.end,
        fitted_until=record.moment(record.fitted_rows),
        validated_until=record.moment(record.validated_rows),
        rows=window.rows,
        step_s=window.step_s,
        context_rows=record.context_rows,
        horizon_steps=plant.horizon_steps,
        seed=seed,
        versions={package: version(package) for package in _PACKAGES},
        line_up={name: record.table(errors) for name, errors in rmse.items()},
        scores=scores,
        bands={
            name: record.band(np.concatenate([chosen[name], judged[name]], axis=1))
            for name in judged
        },
        support=record.support(),
    )


def training_tags(plant: Plant, physics: Physics | None) -> tuple[str, ...]:
    """The tags whose past `train` needs."""
    signals = signals_of(plant, physics)
    tags = (*signals.levels, *signals.inputs)
    if plant.furnace is not None:
        tags = (*tags, *furnace_tags(plant))
    return tuple(dict.fromkeys(tags))


def history_needed(plant: Plant) -> timedelta:
    """The shortest past that `train` takes."""
    return timedelta(seconds=plant.step_s * rows_needed(plant, CONTEXT_ROWS))


def promote(scores: Mapping[str, float]) -> tuple[str, str]:
    """The model to use and why: a more complex one only if it is clearly better.

    `scores` (lower is better) come simplest model first.
    """
    names = list(scores)
    best = names[0]
    for name in names[1:]:
        if scores[name] < (1 - PROMOTION_MARGIN) * scores[best]:
            best = name
    others = [name for name in names if name != best]
    if not others:
        return best, f"{best} is the only model."
    second = min(others, key=lambda name: scores[name])
    return best, (
        f"{best} scores {scores[best]:.3f} on time held out; the best of the others, {second}, "
        f"{scores[second]:.3f}. A more complex model must be {PROMOTION_MARGIN:.0%} better."
    )


def _fitted(
    record: Record,
    physics: Physics | None,
    seed: int,
    budget: Budget,
    progress: Callable[[float], None] | None,
) -> dict[str, Model]:
    """The whole line-up, simplest first."""
    signals = record.signals
    fit, validation = record.fit(budget.stride), record.validation(budget.stride)
    models: dict[str, Model] = {
        PERSISTENCE: Persistence(signals),
        ARX: fit_arx(signals, fit, validation),
    }
    if physics is not None and record.knows(physics.states):
        step = stepper(record.plant, physics)
        weights = fit_residual(step, fit, validation, seed=seed, budget=budget, progress=progress)
        models[PHYSICS] = PhysicsModel(signals, step)
        models[PHYSICS_BIAS] = PhysicsModel(signals, step, learns_bias=True)
        models[PHYSICS_RESIDUAL] = PhysicsModel(
            signals, step, learns_bias=True, residual=Residual(step, weights)
        )
    return {name: models[name] for name in SIMPLEST_FIRST if name in models}


def _ahead(model: Model | FurnaceModel, cuts: Cuts) -> Array:
    assert not isinstance(model, FurnaceModel)
    return model.run(cuts.past, cuts.future)


def _errors(ahead: Array, record: Record, cuts: Cuts) -> Array:
    """Reading − prediction, (step, window, cv); NaN where no reading is known."""
    return cuts.truth[..., record.signals.cv_columns] - ahead


def _score(record: Record, rmse: Array) -> float:
    """Mean over CVs and scored horizons of RMSE over the CV's spread."""
    relative = rmse[record.scored_steps] / record.spread()
    if np.isnan(relative).all():
        plant = record.plant.plant
        raise ModelFault(f"{plant}: no CV is known in the held-out part; nothing to judge by.")
    return rounded(float(np.nanmean(relative)))
