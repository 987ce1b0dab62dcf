"""Carry physics through a record: filtered levels, missing rate and innovations.

The estimator's law (`twin.estimator.correct`) over many windows at once, so that a model is
trained and judged from the same starting level and the same missing rate that the planner will
start from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twin.dynamics.frames import Array, Past, held
from twin.estimator import STATE_GAIN, bias_gain_per_s, correct
from twin.physics import Stepper


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
    without a reading runs on with the physics; one that was never known takes its first reading.
    An input that is not known keeps its last known value.
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
    levels[0] = np.maximum(measured[0], step.floors)
    for row in range(1, len(measured)):
        missed = bias[row - 1] if learned is None else bias[row - 1] + learned[row]
        predicted = step.after(levels[row - 1], inputs[row], missed)
        levels[row], innovations[row], more = correct(step, predicted, measured[row], gain_per_s)
        bias[row] = bias[row - 1] + more
    return Followed(levels, innovations, bias, inputs)


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
