"""Where the plant's states really are, and what the model misses: the only offset-free correction.

A fixed-gain observer follows every state; the rate that the model keeps missing collects in a
bias that planner and forecast add to the equations. Nothing else corrects for offset.

Source: Pannocchia and Rawlings, "Disturbance models for offset-free model-predictive control",
AIChE Journal 49(2), 2003, section 3 (one integrating disturbance per measured output). Gains from
the four-tank study (level 0.35, rate bias 0.05 per minute and round at 60 s).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Protocol

import numpy as np

from twin.physics import Physics, Stepper, stepper
from twin.plant import Plant
from twin.records import Estimate, Series, Window

STATE_GAIN = 0.35  # share of the innovation that moves the state in one step
BIAS_GAIN_PER_MIN = 0.05  # rate bias learned per minute from one unit of innovation
BAND_H = 24.0  # plant hours of innovations that set the 90 % band
BAND_MIN_H = 2.0  # fewer known ones than this many hours' worth give no band
_BAND_REFRESH_H = 0.5


def bias_gain_per_s(step_s: float) -> float:
    """Rate bias (unit/s) that one unit of innovation adds in one step of `step_s`."""
    return BIAS_GAIN_PER_MIN / 60 * (step_s / 60)


def correct(
    step: Stepper, predicted: Series, measured: Series, gain_per_s: float
) -> tuple[Series, Series, Series]:
    """The law for one row: corrected levels, innovations, what the bias gains (unit/s).

    The last axis of all arrays is the state. A level without a reading is the predicted one, a
    level without a prediction the measured one; without both it is NaN.
    """
    innovations = measured - predicted
    news = np.where(np.isnan(innovations), 0.0, innovations)
    followed = np.where(np.isnan(predicted), measured, predicted + STATE_GAIN * news)
    return np.maximum(followed, step.floors), innovations, gain_per_s * news


class MissedRates(Protocol):
    """A learned model of what the physics misses (`twin.dynamics`), as the estimator asks it."""

    def observe(self, trail: Any, levels: Series, inputs: Series) -> tuple[Series, Any]:
        """Take in one row: the rate per state over the step that ended there, and the next trail.

        The first `trail` is None. Orders are those of the physics' states and inputs; rates are
        in the tags' unit per second, a level that is not known is NaN.
        """
        ...


class Estimator:
    """Follows one plant, one plan step at a time.

    `residual` is what learned dynamics add; `learns_bias` is off only to show what it brings.
    """

    def __init__(
        self,
        plant: Plant,
        physics: Physics,
        residual: MissedRates | None = None,
        *,
        learns_bias: bool = True,
    ) -> None:
        self._physics = physics
        self._step = stepper(plant, physics)
        self._gain_per_s = bias_gain_per_s(plant.step_s) if learns_bias else 0.0
        self._residual = residual
        self._rows_per_hour = max(1, round(3600 / plant.step_s))
        #: What the residual carries from row to row; None before the first.
        self.trail: Any = None
        self._levels: Series | None = None
        self._inputs: dict[str, float] = {}
        self._bias = np.zeros(len(physics.states))
        self._innovations: list[Series] = []
        self._band: tuple[Series, Series] | None = None
        self._band_age_rows = 0

    def replay(self, window: Window) -> Estimate | None:
        """Follow every row of `window`; the estimate at its end, None if no state is known.

        The same as `update` row by row.
        """
        estimate = None
        for row in range(1, window.rows + 1):
            values = {tag: series[row - 1 : row] for tag, series in window.values.items()}
            end = window.end - timedelta(seconds=(window.rows - row) * window.step_s)
            estimate = self.update(Window(end, window.step_s, values))
        return estimate

    def update(self, window: Window) -> Estimate | None:
        """Take in the newest row of `window`.

        The row's levels are measured at `window.end`, its inputs are means over the step that
        ends there. An input that is not known keeps its last value; a state that is not
        measured follows the model. None until a row has every state measured and every input
        was known once.
        """
        names = self._physics.states
        measured = np.array([window.values[name][-1] for name in names], dtype=float)
        for name in self._physics.inputs:
            value = float(window.values[name][-1])
            if np.isfinite(value):
                self._inputs[name] = value
        if len(self._inputs) < len(self._physics.inputs):
            return None
        inputs = np.array([self._inputs[name] for name in self._physics.inputs])
        learned = self._learned(measured, inputs)
        if self._levels is not None:
            self._levels = self._followed(self._levels, measured, inputs, learned)
        elif np.isfinite(measured).all():
            self._levels = np.maximum(measured, self._step.floors)
        else:
            return None
        hit_share, count = self._coverage()
        return Estimate(
            at=window.end,
            states=dict(zip(names, self._levels.tolist(), strict=True)),
            bias=dict(zip(names, self._bias.tolist(), strict=True)),
            inputs=dict(self._inputs),
            coverage90=hit_share,
            coverage_count=count,
        )

    def _learned(self, measured: Series, inputs: Series) -> Series:
        """What the residual says was missed over the step just past; zero without one."""
        if self._residual is None:
            return np.zeros(len(measured))
        rates, self.trail = self._residual.observe(self.trail, measured, inputs)
        return rates

    def _followed(
        self, levels: Series, measured: Series, inputs: Series, learned: Series
    ) -> Series:
        """The levels after one more row; what the row taught is kept."""
        predicted = self._step.after(levels, inputs, self._bias + learned)
        followed, innovations, more = correct(self._step, predicted, measured, self._gain_per_s)
        self._bias = self._bias + more
        self._innovations.append(innovations)
        self._band_age_rows += 1
        del self._innovations[: -self._rows(BAND_H + 1)]
        # One bad rate must not stay: with neither prediction nor reading a level stands still.
        return np.where(np.isnan(followed), levels, followed)

    def _coverage(self) -> tuple[float | None, int]:
        """Share of the last hour's innovations inside the band set by the day before it."""
        if self._band is None or self._band_age_rows >= self._rows(_BAND_REFRESH_H):
            older = self._innovations[: -self._rows_per_hour]
            known = np.array(older, dtype=float).reshape(-1, len(self._physics.states))
            if np.isfinite(known).sum(axis=0).min() < self._rows(BAND_MIN_H):
                return None, 0
            low, high = np.nanquantile(known, (0.05, 0.95), axis=0)
            self._band, self._band_age_rows = (low, high), 0
        recent = np.array(self._innovations[-self._rows_per_hour :], dtype=float)
        known_count = int(np.isfinite(recent).sum())
        if known_count == 0:
            return None, 0
        inside = (recent >= self._band[0]) & (recent <= self._band[1])
        return float(inside.sum() / known_count), known_count

    def _rows(self, hours: float) -> int:
        return max(1, round(hours * self._rows_per_hour))
