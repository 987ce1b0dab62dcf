"""Where the plant's states really are, and what the model misses: the only offset-free correction.

A fixed-gain observer follows every state; the rate that the model keeps missing collects in a
bias that planner and forecast add to the equations. Nothing else corrects for offset.

Source: Pannocchia and Rawlings, "Disturbance models for offset-free model-predictive control",
AIChE Journal 49(2), 2003, section 3 (one integrating disturbance per measured output). Gains from
the four-tank study (level 0.35, rate bias 0.05 per minute and round at 60 s).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol

import numpy as np

from twin.physics import Physics
from twin.plant import Plant
from twin.records import Estimate, Series, Window

STATE_GAIN = 0.35  # share of the innovation that moves the state in one step
BIAS_GAIN_PER_MIN = 0.05  # rate bias learned per minute from one unit of innovation
BAND_H = 24.0  # plant hours of innovations that set the 90 % band
BAND_MIN_H = 2.0  # fewer known ones than this many hours' worth give no band
_BAND_REFRESH_H = 0.5


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
        self._plant = plant
        self._bias_gain = BIAS_GAIN_PER_MIN if learns_bias else 0.0
        self._physics = physics
        self._residual = residual
        self._rows_per_hour = max(1, round(3600 / plant.step_s))
        self._lowest = {name: _lowest(plant, name) for name in physics.states}
        #: What the residual carries from row to row; None before the first.
        self.trail: Any = None
        self._state: dict[str, float] | None = None
        self._inputs: dict[str, float] = {}
        self._bias = dict.fromkeys(physics.states, 0.0)
        self._innovations: list[list[float]] = []
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
        measured = {s: float(window.values[s][-1]) for s in self._physics.states}
        for name in self._physics.inputs:
            value = float(window.values[name][-1])
            if np.isfinite(value):
                self._inputs[name] = value
        learned = self._learned(measured)
        if self._state is None:
            if len(self._inputs) < len(self._physics.inputs) or any(
                not np.isfinite(v) for v in measured.values()
            ):
                return None
            self._state = {name: max(at, self._lowest[name]) for name, at in measured.items()}
        else:
            self._follow(measured, learned)
        hit_share, count = self._coverage()
        return Estimate(
            at=window.end,
            states=dict(self._state),
            bias=dict(self._bias),
            inputs=dict(self._inputs),
            coverage90=hit_share,
            coverage_count=count,
        )

    def _learned(self, measured: Mapping[str, float]) -> Series:
        """What the residual says was missed over the step just past; zero without one."""
        if self._residual is None or len(self._inputs) < len(self._physics.inputs):
            return np.zeros(len(self._physics.states))
        levels = np.array([measured[name] for name in self._physics.states])
        inputs = np.array([self._inputs[name] for name in self._physics.inputs])
        rates, self.trail = self._residual.observe(self.trail, levels, inputs)
        return rates

    def _follow(self, measured: Mapping[str, float], learned: Series) -> None:
        assert self._state is not None
        missed = {
            name: self._bias[name] + float(rate)
            for name, rate in zip(self._physics.states, learned, strict=True)
        }
        predicted = self._physics.advance(
            self._state, self._inputs, self._plant.step_s, extra=missed
        )
        gain_per_s = self._bias_gain / 60 * (self._plant.step_s / 60)
        innovations = []
        for state in self._physics.states:
            innovation = measured[state] - predicted[state]
            innovations.append(innovation)
            if math.isfinite(innovation):
                predicted[state] += STATE_GAIN * innovation
                self._bias[state] += gain_per_s * innovation
            elif not math.isfinite(predicted[state]):
                # One bad rate must not stay: take the reading, or stand still without one.
                known = math.isfinite(measured[state])
                predicted[state] = measured[state] if known else self._state[state]
            predicted[state] = max(predicted[state], self._lowest[state])
        self._state = predicted
        self._innovations.append(innovations)
        self._band_age_rows += 1
        del self._innovations[: -self._rows(BAND_H + 1)]

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


def _lowest(plant: Plant, state: str) -> float:
    """The lowest value there is: the low engineering limit (an empty tank), −∞ without one."""
    limits = plant.tag(state).engineering
    return limits.low if limits is not None and limits.low is not None else -math.inf
