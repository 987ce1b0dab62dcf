"""The linear member of the line-up: each horizon's CVs straight from past and future inputs.

One ridge regression per horizon (a direct multi-step ARX): nothing is fed back, so noise in the
readings neither biases the fit nor piles up along the run. Order and ridge weight are chosen on
validation data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from twin.dynamics.frames import Array, Cuts, Past, Signals, centre_and_spread, held
from twin.dynamics.models import ARX, predict_one
from twin.records import Series, Window

ORDERS = (1, 2, 4, 8)  # rows of the past that are looked at
RIDGES = (1.0, 10.0, 100.0, 1000.0)  # in normalised units, against a sum over windows
_CHOICE_SHARES = (0.1, 0.25, 0.5, 1.0)  # of the horizon: where order and ridge are judged


@dataclass(frozen=True)
class ArxWeights:
    """What the regressions found; features are 1, the past rows, the future inputs.

    `kernel` (step, feature, cv) in normalised units; `level_*` (level) and `input_*` (input)
    normalise; a level that was never known has an infinite spread and is left out.
    """

    kernel: Array
    level_centre: Array
    level_spread: Array
    input_centre: Array
    input_spread: Array


@dataclass(frozen=True)
class Arx:
    """A direct multi-step ARX model, for as many steps as it was fitted."""

    signals: Signals
    weights: ArxWeights
    name: str = ARX

    @property
    def order(self) -> int:
        """How many rows of the past it looks at."""
        steps, features, _ = self.weights.kernel.shape
        inputs = len(self.signals.inputs)
        return int((features - 1 - steps * inputs) // (len(self.signals.levels) + inputs))

    def predict(self, context: Window, future: Mapping[str, Series]) -> dict[str, Series]:
        """See `Model.predict`; raises ValueError for more steps than were fitted."""
        return predict_one(self, self.signals, context, future)

    def run(self, past: Past, future: Array) -> Array:
        """See `Model.run`; raises ValueError for more steps than were fitted."""
        steps = len(future)
        if steps > len(self.weights.kernel):
            fitted = len(self.weights.kernel)
            raise ValueError(f"{steps} steps asked for; this ARX was fitted for {fitted}")
        features = _features(self.weights, self.order, past, future)
        kernel = self.weights.kernel[:steps, : features.shape[1]]
        columns = self.signals.cv_columns
        ahead = np.einsum("wf,kfc->kwc", features, kernel)
        centre, spread = self.weights.level_centre[columns], self.weights.level_spread[columns]
        cvs: Array = centre + np.where(np.isinf(spread), np.nan, spread) * ahead
        return cvs


def fit_arx(signals: Signals, fit: Cuts, validation: Cuts) -> Arx:
    """The regression on `fit` whose order and ridge do best on `validation`."""
    steps = len(fit.future)
    judged = sorted({max(1, round(share * steps)) - 1 for share in _CHOICE_SHARES})
    scores = {}
    for order in ORDERS:
        for ridge, candidate in _candidates(signals, fit, order, RIDGES, judged).items():
            ahead = candidate.run(validation.past, validation.future)[judged]
            missed = ahead - validation.truth[judged][..., signals.cv_columns]
            spread = candidate.weights.level_spread[signals.cv_columns]
            scores[order, ridge] = float(np.nansum((missed / spread) ** 2))
    order, ridge = min(scores, key=lambda choice: scores[choice])
    return refit_arx(signals, fit, order, ridge)


def refit_arx(signals: Signals, fit: Cuts, order: int, ridge: float) -> Arx:
    """The regression with a given order and ridge weight."""
    return _candidates(signals, fit, order, (ridge,), range(len(fit.future)))[ridge]


def _candidates(
    signals: Signals, fit: Cuts, order: int, ridges: tuple[float, ...], steps: list[int] | range
) -> dict[float, Arx]:
    """One model per ridge weight; only the given steps are fitted, the others stay zero."""
    past, cvs = fit.past, signals.cv_columns
    level_centre, level_spread = centre_and_spread(past.levels)
    level_spread[np.isnan(past.levels).all(axis=(0, 1))] = np.inf
    input_centre, input_spread = centre_and_spread(fit.future)
    empty = ArxWeights(np.empty(0), level_centre, level_spread, input_centre, input_spread)
    features = _features(empty, order, past, fit.future)
    target = (fit.truth[..., cvs] - level_centre[cvs]) / level_spread[cvs]
    kernels = {r: np.zeros((len(fit.future), features.shape[1], len(cvs))) for r in ridges}
    usable = ~np.isnan(features).any(axis=1)
    features, target = features[usable], target[:, usable]
    width = features.shape[1] - len(fit.future) * fit.future.shape[2]
    square = features.T @ features
    for step in steps:
        count = width + (step + 1) * fit.future.shape[2]
        seen = features[:, :count]
        product = seen.T @ np.where(np.isnan(target[step]), 0.0, target[step])
        # A missing reading is left out of the sum; the rest stand for it.
        product *= len(seen) / np.maximum(1, (~np.isnan(target[step])).sum(axis=0))
        for ridge in ridges:
            penalty = np.full(count, ridge)
            penalty[0] = 1e-9  # the constant is free
            solved = np.linalg.solve(square[:count, :count] + np.diag(penalty), product)
            kernels[ridge][step, :count] = solved
    return {
        ridge: Arx(
            signals, ArxWeights(kernel, level_centre, level_spread, input_centre, input_spread)
        )
        for ridge, kernel in kernels.items()
    }


def _features(weights: ArxWeights, order: int, past: Past, future: Array) -> Array:
    """(window, feature): 1, the last rows' levels and inputs, then the inputs step by step."""
    windows = future.shape[1]
    levels = (held(past.levels)[-order:] - weights.level_centre) / weights.level_spread
    levels[..., np.isinf(weights.level_spread)] = 0.0
    inputs = (held(past.inputs)[-order:] - weights.input_centre) / weights.input_spread
    ahead = (future - weights.input_centre) / weights.input_spread
    parts = [np.ones((windows, 1))]
    parts += [part.transpose(1, 0, 2).reshape(windows, -1) for part in (levels, inputs, ahead)]
    return np.concatenate(parts, axis=1)
