"""Train the residual on long free runs. The only module here that imports torch.

The physics enters as one differentiable step whose Jacobian is taken by differences in numpy:
five times cheaper than letting torch record every operation of a Runge–Kutta step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from twin.dynamics.following import Followed, bias_response, follow
from twin.dynamics.frames import Array, Cuts, centre_and_spread
from twin.dynamics.residual import INNOVATION_CLIP, SUPPORT_FADE, ResidualWeights
from twin.physics import Stepper

_LEVEL_NUDGE = 1e-4  # of a level's spread: difference for the Jacobian
_RATE_NUDGE = 1e-3  # of the largest learned rate
_SUPPORT_PAD = 0.1  # standard deviations and share of the range: what still counts as trained
_RATE_SCALE = 3.0  # × RMS one-step rate error: the largest rate the residual may learn
_BIAS_PRICE = 0.1  # on the mean square of bias over rate scale, beside the free-run error
_START_RIDGE = 10.0  # of the one-step regression that the linear part starts from


@dataclass(frozen=True)
class Budget:
    """How long and how large training is. Chosen on training seeds 1000–1005 of four_tank."""

    hidden: int = 10
    iterations: tuple[tuple[float, int], ...] = ((1 / 3, 15), (2 / 3, 15), (1.0, 20))
    windows: int = 96  # per iteration
    learning_rate: float = 0.02
    weight_decay: float = 1e-3
    gradient_clip: float = 1.0
    check_every: int = 5  # iterations between looks at the validation windows
    stride: int = 4  # rows between overlapping windows


def fit_residual(
    step: Stepper,
    fit: Cuts,
    validation: Cuts,
    *,
    seed: int,
    budget: Budget,
    progress: Callable[[float], None] | None = None,
) -> ResidualWeights:
    """The weights that did best on `validation` while being fitted to `fit`.

    Each of `budget.iterations` is (share of the horizon, iterations). Equal arguments give equal
    weights. Raises ValueError if no window of `fit` is known well enough to learn from.
    """
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    runs, checks = _Runs.of(step, fit), _Runs.of(step, validation)
    if not runs.count:
        raise ValueError("no window of the record has known levels and inputs throughout")
    start = _start(step, runs, budget.hidden, rng)
    net = Net(step, start)
    optimiser = torch.optim.AdamW(
        net.parameters(), lr=budget.learning_rate, weight_decay=budget.weight_decay
    )
    total, done = sum(count for _, count in budget.iterations), 0
    best_error, best = math.inf, start
    for share, count in budget.iterations:
        horizon = max(1, round(share * len(fit.future)))
        for _ in range(count):
            for group in optimiser.param_groups:
                group["lr"] = budget.learning_rate * _pace(done / total)
            picked = rng.permutation(runs.count)[: budget.windows]
            loss = net.loss(runs.where(picked), horizon)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch types it not
            nn.utils.clip_grad_norm_(net.parameters(), budget.gradient_clip)
            optimiser.step()
            done += 1
            if progress is not None:
                progress(done / total)
            if checks.count and (done % budget.check_every == 0 or done == total):
                with torch.no_grad():
                    error = float(net.loss(checks, len(fit.future)))
                if error < best_error:
                    best_error, best = error, net.weights()
    return best if checks.count else net.weights()


def _pace(share: float) -> float:
    """Learning rate over training: a short rise, then half a cosine down to zero."""
    return min(1.0, 20 * share + 0.05) * 0.5 * (1 + math.cos(math.pi * share))


@dataclass(frozen=True)
class _Runs:
    """Windows with the past already followed by physics and bias."""

    cuts: Cuts
    followed: Followed

    @staticmethod
    def of(step: Stepper, cuts: Cuts) -> _Runs:
        """Only windows in which every level and input is known, filtered, at every row."""
        followed = follow(step, cuts.past, learns_bias=True)
        known = ~np.isnan(np.concatenate([followed.levels, followed.inputs], axis=-1))
        return _Runs(cuts, followed).where(known.all(axis=(0, 2)).nonzero()[0])

    @property
    def count(self) -> int:
        return self.cuts.count

    def where(self, keep: Any) -> _Runs:
        old = self.followed
        followed = Followed(
            old.levels[:, keep], old.innovations[:, keep], old.bias[:, keep], old.inputs[:, keep]
        )
        return _Runs(self.cuts.where(keep), followed)


def _start(step: Stepper, runs: _Runs, hidden: int, rng: np.random.Generator) -> ResidualWeights:
    """Normalisation from the record, linear part from one-step errors, a silent memory."""
    states = len(step.floors)
    old = runs.followed
    features = np.concatenate([old.levels, old.inputs], axis=-1)
    flat = features.reshape(-1, features.shape[-1])
    centre, spread = centre_and_spread(flat)
    low, high = (flat.min(axis=0) - centre) / spread, (flat.max(axis=0) - centre) / spread
    pad = _SUPPORT_PAD * (1 + high - low)
    seen = np.concatenate([old.levels[:-1], old.inputs[1:]], axis=-1)
    still = step.after(old.levels[:-1], old.inputs[1:], np.zeros_like(old.levels[:-1]))
    missed = (runs.cuts.past.levels[1:, :, :states] - still).reshape(-1, states) / step.step_s
    rate_scale = _RATE_SCALE * _root_mean_square(missed)
    linear, offset = _regression(
        (seen.reshape(-1, seen.shape[-1]) - centre) / spread, missed / rate_scale
    )
    feature_count, reach = flat.shape[1], 1 / math.sqrt(hidden)

    def random(*shape: int) -> Array:
        return rng.uniform(-reach, reach, shape)

    return ResidualWeights(
        centre=centre,
        spread=spread,
        low=low - pad,
        high=high + pad,
        innovation_spread=centre_and_spread(old.innovations)[1],
        rate_scale=rate_scale,
        input_kernel=random(3 * hidden, feature_count + states),
        recurrent_kernel=random(3 * hidden, hidden),
        input_offset=random(3 * hidden),
        recurrent_offset=random(3 * hidden),
        linear=linear,
        readout=np.zeros((states, hidden)),
        offset=offset,
    )


def _regression(features: Array, wanted: Array) -> tuple[Array, Array]:
    """Ridge regression per state with a free constant; missing targets are left out."""
    known = ~np.isnan(wanted).any(axis=1)
    seen = np.concatenate([features[known], np.ones((int(known.sum()), 1))], axis=1)
    penalty = np.full(seen.shape[1], _START_RIDGE)
    penalty[-1] = 1e-9
    solved = np.linalg.solve(seen.T @ seen + np.diag(penalty), seen.T @ wanted[known])
    return solved[:-1].T, solved[-1]


def _root_mean_square(errors: Array) -> Array:
    """Per state, of what is known; 1 where nothing is missed at all."""
    known = ~np.isnan(errors)
    square = np.where(known, errors, 0.0) ** 2
    size = np.sqrt(square.sum(axis=0) / np.maximum(known.sum(axis=0), 1))
    return np.where(size > 0, size, 1.0)


class _Advance(torch.autograd.Function):
    """One physics step as a torch operation; the Jacobian comes from forward differences."""

    @staticmethod
    def forward(
        ctx: Any, levels: Tensor, rates: Tensor, step: Stepper, inputs: Array, nudges: Array
    ) -> Tensor:
        """Levels after the step. `nudges`: differences per level, then per rate."""
        at, extra = levels.detach().numpy(), rates.detach().numpy()
        count = at.shape[-1]
        moved = np.repeat(np.concatenate([at, extra], axis=-1)[None], 1 + 2 * count, axis=0)
        for i in range(2 * count):
            moved[1 + i, :, i] += nudges[i]
        every_input = np.broadcast_to(inputs, (len(moved), *inputs.shape))
        after = step.after(moved[..., :count], every_input, moved[..., count:])
        slopes = (after[1:] - after[0]) / nudges[:, None, None]
        ctx.save_for_backward(torch.from_numpy(slopes))
        return torch.from_numpy(after[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Chain rule with the stored slopes."""
        (slopes,) = ctx.saved_tensors
        back = torch.einsum("jws,ws->wj", slopes, gradients[0])
        count = back.shape[-1] // 2
        return back[:, :count], back[:, count:], None, None, None


class Net(nn.Module):
    """The residual as torch trains it, in double precision; `Residual` is the same in numpy."""

    def __init__(self, step: Stepper, start: ResidualWeights) -> None:
        super().__init__()
        self._step, self._fixed = step, start
        hidden = start.recurrent_kernel.shape[1]
        self.memory = nn.GRU(start.input_kernel.shape[1], hidden, dtype=torch.float64)
        parts = (
            start.input_kernel,
            start.recurrent_kernel,
            start.input_offset,
            start.recurrent_offset,
        )
        with torch.no_grad():
            for parameter, values in zip(self.memory.parameters(), parts, strict=True):
                parameter.copy_(torch.from_numpy(values))
        self.linear = nn.Parameter(torch.from_numpy(start.linear.copy()))
        self.readout = nn.Parameter(torch.from_numpy(start.readout.copy()))
        self.offset = nn.Parameter(torch.from_numpy(start.offset.copy()))
        self._nudges = np.concatenate(
            [
                _LEVEL_NUDGE * start.spread[: len(start.rate_scale)],
                _RATE_NUDGE * start.rate_scale,
            ]
        )

    def weights(self) -> ResidualWeights:
        """The present weights, for inference."""
        kernel, recurrent, offset, recurrent_offset = (
            parameter.detach().numpy().copy() for parameter in self.memory.parameters()
        )
        fixed = self._fixed
        return ResidualWeights(
            fixed.centre, fixed.spread, fixed.low, fixed.high, fixed.innovation_spread,
            fixed.rate_scale, kernel, recurrent, offset, recurrent_offset,
            self.linear.detach().numpy().copy(), self.readout.detach().numpy().copy(),
            self.offset.detach().numpy().copy(),
        )  # fmt: skip

    def loss(self, runs: _Runs, horizon: int) -> Tensor:
        """Mean squared free-run error over `horizon` steps, in squared spreads of each level.

        Plus a price on the bias that is left: without it nothing would tell a constant rate
        apart from the bias, and the residual could learn any.
        """
        path, bias = self.run(runs, horizon)
        states = path.shape[-1]
        truth = torch.from_numpy(runs.cuts.truth[:horizon, :, :states])
        known = ~torch.isnan(truth)
        spread = torch.from_numpy(self._fixed.spread[:states])
        missed = torch.where(known, (path - torch.nan_to_num(truth)) / spread, 0.0)
        left = bias / torch.from_numpy(self._fixed.rate_scale)
        return (missed**2).sum() / known.sum().clamp(min=1) + _BIAS_PRICE * (left**2).mean()

    def run(self, runs: _Runs, horizon: int) -> tuple[Tensor, Tensor]:
        """Free run of every window, (step, window, state), and the bias it keeps to."""
        followed = runs.followed
        memories = self._memories(followed)
        levels = torch.from_numpy(followed.levels)
        inputs = torch.from_numpy(followed.inputs)
        learned, _ = self.rate(memories[:-1], levels[:-1], inputs[1:])
        # The estimator keeps as bias what the residual leaves; this is that share of it.
        response = torch.from_numpy(bias_response(len(learned), self._step.step_s)[::-1].copy())
        bias = torch.from_numpy(followed.bias[-1]) - torch.einsum("r,rws->ws", response, learned)
        hidden, at = memories[-1], levels[-1]
        path = []
        for k in range(horizon):
            now = runs.cuts.future[k]
            rates, hidden = self.rate(hidden[None], at[None], torch.from_numpy(now)[None])
            hidden = hidden[0]
            at = _Advance.apply(  # type: ignore[no-untyped-call]  # torch types it not
                at, rates[0] + bias, self._step, now, self._nudges
            )
            path.append(at)
        return torch.stack(path), bias

    def rate(self, hidden: Tensor, levels: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """`Residual.rate` for a batch of batches: axes (any, window, …)."""
        seen, trust = self._seen(levels, inputs)
        rows, windows, _ = seen.shape
        silence = seen.new_zeros(rows, windows, len(self._fixed.rate_scale))
        fresh = torch.cat([seen, silence], dim=-1).reshape(1, rows * windows, -1)
        after, _ = self.memory(fresh, hidden.reshape(1, rows * windows, -1))
        after = after.reshape(rows, windows, -1)
        bounded = torch.tanh(seen @ self.linear.T + after @ self.readout.T + self.offset)
        return trust * torch.from_numpy(self._fixed.rate_scale) * bounded, after

    def _memories(self, followed: Followed) -> Tensor:
        news = torch.nan_to_num(
            torch.from_numpy(followed.innovations / self._fixed.innovation_spread)
        )
        news = torch.clamp(news, -INNOVATION_CLIP, INNOVATION_CLIP)
        levels, inputs = torch.from_numpy(followed.levels), torch.from_numpy(followed.inputs)
        seen, _ = self._seen(levels, inputs)
        memories, _ = self.memory(torch.cat([seen, news], dim=-1))
        result: Tensor = memories
        return result

    def _seen(self, levels: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
        fixed = self._fixed
        centre, spread = torch.from_numpy(fixed.centre), torch.from_numpy(fixed.spread)
        low, high = torch.from_numpy(fixed.low), torch.from_numpy(fixed.high)
        raw = (torch.cat([levels, inputs], dim=-1) - centre) / spread
        seen = torch.minimum(torch.maximum(raw, low), high)
        outside = (raw - seen).abs() / (SUPPORT_FADE * (high - low))
        return seen, 1 - outside.amax(dim=-1, keepdim=True).clamp(max=1.0)
