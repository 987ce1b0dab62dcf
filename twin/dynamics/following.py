"""Carry physics through a record: filtered levels, missing rate and innovations.

The estimator's fixed-gain law, over many windows at once, so that a model is trained and judged
from the same starting level and the same missing rate that the planner will start from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from twin.dynamics.frames import Array, Past, held
from twin.estimator import BIAS_GAIN_PER_MIN, STATE_GAIN
from twin.physics import Physics
from twin.plant import Plant


@dataclass(frozen=True)
class Stepper:
    """A plant's physics, one plan step at a time, on arrays whose last axis is the state.

    `floors` are the lowest levels there are (low engineering limit, −∞ without one).
    """

    physics: Physics
    step_s: float
    floors: tuple[float, ...]

    def after(self, levels: Array, inputs: Array, extra: Array) -> Array:
        """Levels after one step of constant `inputs`, with the rate `extra` (unit/s) added.

        Where an input or a level is not known, or the equations have no value, NaN.
        """
        if levels.ndim == 1:
            return self._after_one(levels, inputs, extra)
        after = self.physics.advance(
            {name: levels[..., i] for i, name in enumerate(self.physics.states)},
            {name: inputs[..., i] for i, name in enumerate(self.physics.inputs)},
            self.step_s,
            np,
            {name: extra[..., i] for i, name in enumerate(self.physics.states)},
        )
        stacked = np.stack([after[name] for name in self.physics.states], axis=-1)
        above: Array = np.maximum(stacked, self.floors)
        return above

    def _after_one(self, levels: Array, inputs: Array, extra: Array) -> Array:
        """The same for one moment: plain floats are ten times faster than arrays of one."""
        try:
            after = self.physics.advance(
                dict(zip(self.physics.states, levels.tolist(), strict=False)),
                dict(zip(self.physics.inputs, inputs.tolist(), strict=True)),
                self.step_s,
                math,
                dict(zip(self.physics.states, extra.tolist(), strict=True)),
            )
        except (ValueError, OverflowError, ZeroDivisionError):
            return np.full(len(self.physics.states), np.nan)
        return np.maximum([after[name] for name in self.physics.states], self.floors)


def stepper(plant: Plant, physics: Physics) -> Stepper:
    """The plant's physics on its planning grid."""
    tags = {tag.name: tag for tag in plant.tags}
    floors: list[float] = []
    for name in physics.states:
        limits = tags[name].engineering if name in tags else None
        low = limits.low if limits is not None else None
        floors.append(-math.inf if low is None else low)
    return Stepper(physics, plant.step_s, tuple(floors))


@dataclass(frozen=True)
class Followed:
    """What following showed, row by row; axes (row, window, state), rates in unit per second.

    `levels`: filtered. `innovations`: reading − one-step prediction, NaN where either is
    unknown. `bias`: the rate still missed. `inputs` (row, window, input): last known values.
    """

    levels: Array
    innovations: Array
    bias: Array
    inputs: Array


def follow(
    step: Stepper, past: Past, *, learns_bias: bool, learned: Array | None = None
) -> Followed:
    """Follow the rows of `past`; the last row is the present.

    `learned` (row, window, state): a rate added over the step that ends at each row. A state
    without a reading runs on with the physics; one that was never known takes its first reading
    as it is. An input that is not known keeps its last known value.
    """
    if past.levels.shape[1] == 1:  # plain floats inside: see Stepper
        one = Past(past.levels[:, 0], past.inputs[:, 0])
        alone = _follow(step, one, learns_bias, None if learned is None else learned[:, 0])
        return Followed(
            alone.levels[:, None],
            alone.innovations[:, None],
            alone.bias[:, None],
            alone.inputs[:, None],
        )
    return _follow(step, past, learns_bias, learned)


def _follow(step: Stepper, past: Past, learns_bias: bool, learned: Array | None) -> Followed:
    measured = past.levels[..., : len(step.floors)]
    inputs = held(past.inputs)
    levels, innovations = np.full_like(measured, np.nan), np.full_like(measured, np.nan)
    bias = np.zeros_like(measured)
    gain_per_s = bias_gain_per_s(step.step_s) if learns_bias else 0.0
    levels[0] = measured[0]
    for row in range(1, len(measured)):
        missed = bias[row - 1] if learned is None else bias[row - 1] + learned[row]
        predicted = step.after(levels[row - 1], inputs[row], missed)
        levels[row], innovations[row], more = correct(step, predicted, measured[row], gain_per_s)
        bias[row] = bias[row - 1] + more
    return Followed(levels, innovations, bias, inputs)


def correct(
    step: Stepper, predicted: Array, measured: Array, gain_per_s: float
) -> tuple[Array, Array, Array]:
    """The estimator's law for one row: corrected levels, innovations, what the bias gains."""
    innovations = measured - predicted
    news = np.where(np.isnan(innovations), 0.0, innovations)
    corrected = np.maximum(predicted + STATE_GAIN * news, step.floors)
    levels = np.where(np.isnan(predicted), measured, corrected)
    return levels, innovations, gain_per_s * news


def bias_gain_per_s(step_s: float) -> float:
    """Rate bias (unit/s) that one unit of innovation adds in one step."""
    return BIAS_GAIN_PER_MIN / 60 * (step_s / 60)


def bias_response(rows: int, step_s: float) -> Array:
    """How much of a rate missed `k` steps before the present stands in the bias now, (k,).

    The law is linear but for the physics' own slow feedback, which is left out here: training
    uses this to know what bias the estimator would leave beside a learned rate.
    """
    response, error, bias = [], 0.0, 0.0
    for row in range(rows):
        error += step_s * ((1.0 if row == 0 else 0.0) - bias)
        bias += bias_gain_per_s(step_s) * error
        error *= 1 - STATE_GAIN
        response.append(bias)
    return np.array(response)
