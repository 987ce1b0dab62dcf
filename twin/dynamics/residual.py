"""The rate that the physics misses, learned: inference with numpy alone (never torch).

A small gated recurrent unit remembers the recent innovations; its output and a linear part in
levels and inputs give a bounded rate per state. Outside the range it was trained on, the rate
fades to zero. How it is trained: `fitting`. Why this shape: docs/decisions/0004.

Source: Cho et al., "Learning phrase representations using RNN encoder-decoder", EMNLP 2014,
section 2.3 (the gated unit), in the variant with the reset gate after the recurrent product.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twin.dynamics.following import Followed, follow
from twin.dynamics.frames import Array, Signals, past_of
from twin.estimator import bias_gain_per_s, correct
from twin.physics import Stepper
from twin.records import Series, Window

CONTEXT_ROWS = 60  # rows of the past that warm the memory up: an hour at 60 s
INNOVATION_CLIP = 4.0  # standard deviations; one wild reading must not fill the memory
SUPPORT_FADE = 0.5  # of the trained range: this far outside it the learned rate has faded to zero


@dataclass(frozen=True)
class ResidualWeights:
    """Everything that training found. Features are levels, then inputs.

    `centre`, `spread` (feature): what normalises. `low`, `high` (feature): trained range, in
    normalised units. `innovation_spread` (state). `rate_scale` (state): the largest learned
    rate, unit/s. `input_kernel` (3 × hidden, feature + state), `recurrent_kernel` (3 × hidden,
    hidden), `input_offset`, `recurrent_offset` (3 × hidden): gates in the order reset, update,
    new. `linear` (state, feature), `readout` (state, hidden), `offset` (state).
    """

    centre: Array
    spread: Array
    low: Array
    high: Array
    innovation_spread: Array
    rate_scale: Array
    input_kernel: Array
    recurrent_kernel: Array
    input_offset: Array
    recurrent_offset: Array
    linear: Array
    readout: Array
    offset: Array


@dataclass(frozen=True)
class Trail:
    """Where a residual stands after a row.

    `levels`, `bias` (state,): of its own following, by physics and bias without itself.
    `hidden` (hidden,): its memory, as `Residual.rate` takes it.
    """

    levels: Array
    bias: Array
    hidden: Array


class Residual:
    """A learned rate beside one plant's physics. Rates are in each state's unit per second.

    `hidden` is its memory, a plain array (hidden,) that may be stored and copied. Axes of
    `levels`: (state,) or (window, state), in the order of the physics' states; `inputs` alike.
    """

    context_rows = CONTEXT_ROWS

    def __init__(self, step: Stepper, weights: ResidualWeights) -> None:
        self.weights = weights
        self._step = step
        physics = step.physics
        self._signals = Signals(physics.states, physics.inputs, ())
        self._states = len(physics.states)
        self._hidden = weights.recurrent_kernel.shape[1]
        self._fade = SUPPORT_FADE * (weights.high - weights.low)
        # Transposed once: a row times a matrix is the cheapest product there is here.
        features = len(weights.centre)
        self._feature_kernel = np.ascontiguousarray(weights.input_kernel[:, :features].T)
        self._news_kernel = np.ascontiguousarray(weights.input_kernel[:, features:].T)
        self._recurrent_kernel = np.ascontiguousarray(weights.recurrent_kernel.T)
        self._linear = np.ascontiguousarray(weights.linear.T)
        self._readout = np.ascontiguousarray(weights.readout.T)

    def start(self, context: Window) -> Series:
        """The memory at the context's last row. An hour (`context_rows`) is enough."""
        followed = self._followed(context)
        hidden: Series = self._memories(followed)[-1, 0]
        return hidden

    def rate(self, hidden: Array, levels: Array, inputs: Array) -> tuple[Array, Array]:
        """The rate missed over the step that starts at `levels` under `inputs`; next memory."""
        seen, trust = self._seen(levels, inputs)
        after = self._remember(hidden, seen)
        weights = self.weights
        bounded = np.tanh(seen @ self._linear + after @ self._readout + weights.offset)
        return trust * weights.rate_scale * bounded, after

    def observe(self, trail: Trail | None, levels: Array, inputs: Array) -> tuple[Array, Trail]:
        """Take in one row: the rate over the step that ended at it, and the next trail.

        `levels` (state,) as measured, NaN where not known; `inputs` held over that step. Row by
        row this gives `past_rates`; a first row has none.
        """
        if trail is None:
            nothing = np.zeros(self._states)
            trail = Trail(np.full(self._states, np.nan), nothing, np.zeros(self._hidden))
            predicted, rates = trail.levels, nothing
        else:
            known, _ = self.rate(trail.hidden, trail.levels, inputs)
            rates = np.where(np.isnan(known), 0.0, known)
            predicted = self._step.after(trail.levels, inputs, trail.bias)
        gain_per_s = bias_gain_per_s(self._step.step_s)
        followed, innovations, more = correct(self._step, predicted, levels, gain_per_s)
        seen, _ = self._seen(followed, inputs)
        hidden = trail.hidden
        if not np.isnan(seen).any():
            hidden = self._remember(hidden, seen, self._news(innovations))
        return rates, Trail(followed, trail.bias + more, hidden)

    def along(self, trail: Trail, levels: Array, inputs: Array) -> Array:
        """Rates (step, state) along a predicted path that begins where `trail` ends.

        `levels` (step, state) are those at the end of each step, as in Plan and Forecast;
        `inputs` (step, input) hold during it.
        """
        hidden = trail.hidden
        before = np.vstack([trail.levels, levels[:-1]])
        rates = np.empty((len(levels), self._states))
        for k in range(len(levels)):
            rates[k], hidden = self.rate(hidden, before[k], inputs[k])
        return rates

    def past_rates(self, context: Window) -> Array:
        """The rate over the step that ended at each row, (row, state), in one pass.

        Uses what was known when that step began; zero where nothing was.
        """
        return self.rates_while(self._followed(context))[:, 0]

    def rates_while(self, followed: Followed) -> Array:
        """The rate over the step that ended at each row, (row, window, state).

        `followed` is by physics and bias, without this residual. Uses what was known when the
        step began; zero where nothing was.
        """
        memories = self._memories(followed)
        rates, _ = self.rate(memories[:-1], followed.levels[:-1], followed.inputs[1:])
        first = np.zeros_like(followed.levels[:1])
        return np.concatenate([first, np.where(np.isnan(rates), 0.0, rates)])

    def memory(self, followed: Followed) -> Array:
        """The memory at the last row, (window, hidden); `followed` as in `rates_while`."""
        hidden: Array = self._memories(followed)[-1]
        return hidden

    def _followed(self, context: Window) -> Followed:
        return follow(self._step, past_of(self._signals, context), learns_bias=True)

    def _memories(self, followed: Followed) -> Array:
        """The memory after each row, (row, window, hidden); unchanged by an unknown row."""
        news = self._news(followed.innovations)
        seen, _ = self._seen(followed.levels, followed.inputs)
        known = np.asarray(~np.isnan(seen).any(axis=-1, keepdims=True))
        seen = np.where(known, seen, 0.0)
        rows, windows, _ = news.shape
        memories = np.empty((rows, windows, self._hidden))
        hidden = np.zeros((windows, self._hidden))
        for row in range(rows):
            after = self._remember(hidden, seen[row], news[row])
            hidden = memories[row] = np.where(known[row], after, hidden)
        return memories

    def _news(self, innovations: Array) -> Array:
        """Normalised innovations; an unknown one is no news, as in a free run."""
        news = innovations / self.weights.innovation_spread
        clipped: Array = np.clip(
            np.where(np.isnan(news), 0.0, news), -INNOVATION_CLIP, INNOVATION_CLIP
        )
        return clipped

    def _seen(self, levels: Array, inputs: Array) -> tuple[Array, Array]:
        """Normalised features kept inside the trained range, and how far to trust them (0–1)."""
        weights = self.weights
        raw = (np.concatenate([levels, inputs], axis=-1) - weights.centre) / weights.spread
        seen = np.minimum(np.maximum(raw, weights.low), weights.high)
        outside = np.abs(raw - seen) / self._fade
        trust = 1.0 - np.minimum(outside.max(axis=-1, keepdims=True), 1.0)
        return seen, trust

    def _remember(self, hidden: Array, seen: Array, news: Array | None = None) -> Array:
        size = self._hidden
        fresh = seen @ self._feature_kernel + self.weights.input_offset
        if news is not None:
            fresh += news @ self._news_kernel
        kept = hidden @ self._recurrent_kernel + self.weights.recurrent_offset
        gates = 0.5 + 0.5 * np.tanh(0.5 * (fresh[..., : 2 * size] + kept[..., : 2 * size]))
        reset, update = gates[..., :size], gates[..., size:]
        new = np.tanh(fresh[..., 2 * size :] + reset * kept[..., 2 * size :])
        return new + update * (hidden - new)
