"""Train the residual of a furnace's zones on what their loops were seen to do (torch).

Its memory is made of what is known along a free run too (followed setpoints, what slabs draw), so
one pass over the record trains exactly what free runs will use.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from twin.dynamics.frames import Array
from twin.furnace.residual import ZoneResidual

_LARGEST = 2.0  # × the size that all but 1 % of what was wanted keep below: the largest answer
_START_RIDGE = 10.0  # of the regression that the linear part starts from
_SUPPORT_PAD = 0.1  # of the range that was seen: what still counts as seen
_LEAST_ROWS = 120  # of a zone whose loop was free; with fewer its answer stays zero


@dataclass(frozen=True)
class ZoneBudget:
    """How long and how large training is.

    The linear part does most of it. Mean square on the validation rows of training seeds 1004 and
    1006: 0.323 and 0.359 by regression alone, 0.295 and 0.328 after 200 iterations; with 3 or 12
    units no better, and after 400 forecasts an hour ahead (1008–1013) were no better either.
    """

    units: int = 6
    iterations: int = 200
    learning_rate: float = 0.01
    weight_decay: float = 1e-3
    check_every: int = 10  # iterations between looks at the validation rows


@dataclass(frozen=True)
class Loops:
    """Rows of a record: `memory` (row, feature), `wanted` (row, answer), the rest (row, zone).

    How far a loop is off is learned while it is free; what is unexplained, always. Nothing is
    learned from rows of which nothing is remembered (NaN).
    """

    memory: Array
    wanted: Array
    followed_c: Array
    is_free: NDArray[np.bool_]

    @property
    def counts(self) -> NDArray[np.bool_]:
        """(row, answer): what is learned from."""
        matters = np.hstack([self.is_free, np.ones_like(self.is_free)])
        return np.asarray(matters & np.isfinite(self.wanted))

    def rows(self, first: int, last: int) -> Loops:
        """Only rows from `first` up to `last`, that one not included."""
        return self._only(slice(first, last))

    def remembered(self) -> Loops:
        """Only rows of which something is remembered."""
        return self._only(np.asarray(np.isfinite(self.memory).all(axis=1)))

    def _only(self, part: slice | NDArray[np.bool_]) -> Loops:
        return Loops(
            self.memory[part], self.wanted[part], self.followed_c[part], self.is_free[part]
        )


def fit_zones(
    fit: Loops,
    validation: Loops,
    *,
    seed: int,
    budget: ZoneBudget | None = None,
    progress: Callable[[float], None] | None = None,
) -> ZoneResidual | None:
    """The residual that did best on `validation` while being fitted to `fit`.

    None where no loop was free for long enough to learn from, or a followed setpoint is nowhere
    known. Equal arguments give an equal one.
    """
    torch.set_num_threads(1)
    budget = budget or ZoneBudget()
    fit, validation = fit.remembered(), validation.remembered()
    is_unseen = np.isnan(fit.followed_c).all(axis=0).any()
    if is_unseen or (fit.counts.sum(axis=0) < _LEAST_ROWS).all():
        return None
    net = _Net(fit, budget.units, np.random.default_rng(seed))
    optimiser = torch.optim.AdamW(
        net.parameters(), lr=budget.learning_rate, weight_decay=budget.weight_decay
    )
    best_error, best = math.inf, net.residual()
    for done in range(budget.iterations + 1):
        if done % budget.check_every == 0:
            with torch.no_grad():
                error = float(net.loss(validation))
            if error < best_error:
                best_error, best = error, net.residual()
            if progress is not None:
                progress(done / max(1, budget.iterations))
        loss = net.loss(fit)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch types it not
        optimiser.step()
    return best


class _Net(nn.Module):
    """The residual as torch trains it, in double precision; `kernel.answer` is the same."""

    def __init__(self, fit: Loops, units: int, rng: np.random.Generator) -> None:
        super().__init__()
        counts = fit.counts
        self._spread = np.sqrt((fit.memory**2).mean(axis=0))
        self._spread[self._spread == 0.0] = 1.0
        seen = fit.memory / self._spread
        self._highest = (1.0 + _SUPPORT_PAD) * np.maximum(np.abs(seen).max(axis=0), 1e-6)
        wanted = np.where(counts, fit.wanted, 0.0)
        size = np.sqrt((wanted**2).sum(axis=0) / np.maximum(counts.sum(axis=0), 1))
        is_taught = (counts.sum(axis=0) >= _LEAST_ROWS) & (size > 0.0)
        self._size = np.where(is_taught, size, 1.0)
        self._most = np.zeros(len(size))
        for a in np.flatnonzero(is_taught):
            self._most[a] = _LARGEST * np.quantile(np.abs(wanted[counts[:, a], a]), 0.99)
        is_taught &= self._most > 0.0
        self._seen_c = _range(fit.followed_c)
        features = len(self._spread)
        linear = np.array([
            _regression(seen[counts[:, a]], wanted[counts[:, a], a] / self._most[a])
            if is_taught[a] else np.zeros(features)
            for a in range(len(is_taught))
        ])  # fmt: skip
        reach = 1.0 / math.sqrt(features)
        self.linear = nn.Parameter(torch.from_numpy(linear))
        self.hidden = nn.Parameter(torch.from_numpy(rng.uniform(-reach, reach, (units, features))))
        self.readout = nn.Parameter(torch.zeros(len(is_taught), units, dtype=torch.float64))

    def loss(self, part: Loops) -> Tensor:
        """Mean square of what is missed, each answer in its own size in the part that is fitted."""
        wanted = torch.from_numpy(np.nan_to_num(part.wanted))
        missed = (self._answer(part.memory) - wanted) / torch.from_numpy(self._size)
        counted = torch.from_numpy(part.counts & (self._most > 0.0))
        return torch.where(counted, missed**2, 0.0).sum() / max(1, int(counted.sum()))

    def residual(self) -> ZoneResidual:
        """The present weights, for inference."""
        linear, hidden, readout = (
            parameter.detach().numpy().tolist()
            for parameter in (self.linear, self.hidden, self.readout)
        )
        return ZoneResidual(
            spread=tuple(self._spread.tolist()),
            highest=tuple(self._highest.tolist()),
            linear=_rows(linear),
            hidden=_rows(hidden),
            readout=_rows(readout),
            most=tuple(self._most.tolist()),
            seen_c=_rows(self._seen_c.tolist()),
            error_share=(1.0,) * len(self._most),
        )

    def _answer(self, memory: Array) -> Tensor:
        limits = torch.from_numpy(self._highest)
        seen = torch.from_numpy(memory / self._spread)
        seen = torch.minimum(torch.maximum(seen, -limits), limits)
        total = seen @ self.linear.T + torch.tanh(seen @ self.hidden.T) @ self.readout.T
        answer: Tensor = torch.from_numpy(self._most) * torch.tanh(total)
        return answer


def _regression(seen: Array, wanted: Array) -> Array:
    """Ridge regression through zero: a loop at rest is on its setpoint."""
    square = seen.T @ seen + _START_RIDGE * np.eye(seen.shape[1])
    return np.asarray(np.linalg.solve(square, seen.T @ wanted), dtype=np.float64)


def _range(followed_c: Array) -> Array:
    """(zone, 2): lowest and highest of what is known, a little widened."""
    low, high = np.nanmin(followed_c, axis=0), np.nanmax(followed_c, axis=0)
    pad = _SUPPORT_PAD * (high - low) + 1.0
    return np.column_stack([low - pad, high + pad])


def _rows(values: list[list[float]]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in values)
