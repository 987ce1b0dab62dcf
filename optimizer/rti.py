"""One real-time iteration and more: linearise a rollout, solve a box QP, keep what is better.

For models that are rolled out and not written down for a solver. Gauss–Newton: the cost is linear
in part and a sum of squares in the rest, so its curvature needs first differences only. Source:
Diehl, Bock and Schlöder, SIAM J. Control Optim. 43 (2005) 1714, for iterating once per round; line
search and trust box are this module's own caution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular
from scipy.optimize import lsq_linear

from twin.records import Series

_SHARES = (1.0, 0.5, 0.25)  # of a step that the line search tries


@dataclass(frozen=True)
class Judged:
    """What one candidate costs: `linear` plus the squares of `residuals`."""

    linear: float
    residuals: Series

    @property
    def total(self) -> float:
        """The whole cost."""
        return self.linear + float(self.residuals @ self.residuals)


@dataclass(frozen=True)
class Iterated:
    """The best candidate found, what it costs, and what the start would have cost."""

    best: Series
    judged: Judged
    begun_with: float
    rollouts: int


def iterate(
    judge: Callable[[Series], Judged],
    start: Series,
    low: Series,
    high: Series,
    *,
    iterations: int,
    trust: float,
    difference: float,
    damping: float,
) -> Iterated:
    """Improve `start` inside [low, high], at most `trust` per iteration and variable.

    `difference` is the step of the finite differences, `damping` the least curvature (cost per
    squared unit). Never worse than `start`, which need not lie inside: what it is outside is
    taken to the nearest bound first.
    """
    at = np.clip(start, low, high)
    now = judge(at)
    begun_with, rollouts = now.total, 1
    for _ in range(iterations):
        gradient, slopes = _slopes(judge, at, now, difference)
        rollouts += at.size
        step = _box_step(gradient, slopes, now.residuals, at, low, high, trust, damping)
        found = None
        for share in _SHARES:
            candidate = at + share * step
            judged = judge(candidate)
            rollouts += 1
            if judged.total < now.total:
                found = candidate, judged
                break
        if found is None:
            break
        at, now = found
    return Iterated(at, now, begun_with, rollouts)


def _slopes(
    judge: Callable[[Series], Judged], at: Series, now: Judged, difference: float
) -> tuple[Series, Series]:
    """Gradient of the linear part, and the residuals' Jacobian (residual, variable)."""
    gradient = np.empty(at.size)
    slopes = np.empty((now.residuals.size, at.size))
    for i in range(at.size):
        moved = at.copy()
        moved.flat[i] += difference
        judged = judge(moved)
        gradient[i] = (judged.linear - now.linear) / difference
        slopes[:, i] = (judged.residuals - now.residuals) / difference
    return gradient, slopes


def _box_step(
    gradient: Series,
    slopes: Series,
    residuals: Series,
    at: Series,
    low: Series,
    high: Series,
    trust: float,
    damping: float,
) -> Series:
    """Minimise gradient·x + |residuals + slopes·x|² + damping |x|² inside box and trust."""
    curvature = slopes.T @ slopes + damping * np.eye(at.size)
    slope = 0.5 * gradient + slopes.T @ residuals
    root = np.linalg.cholesky(curvature)
    down = np.maximum((low - at).ravel(), -trust)
    up = np.maximum(np.minimum((high - at).ravel(), trust), down + 1e-9)
    aim = -solve_triangular(root, slope, lower=True)
    found: Series = lsq_linear(root.T, aim, bounds=(down, up), method="bvls").x
    return found.reshape(at.shape)
