"""What replications tell: means and paired differences with honest intervals.

Numbers in, numbers out: nothing here runs a simulation. Runs on common random numbers are
compared pair by pair, which is where those numbers pay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from twin.records import Series

FEWEST_RUNS = 5  # fewer give intervals so wide that they only mislead


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95 % confidence interval."""

    mean: float
    low: float
    high: float

    @property
    def is_clear_of_zero(self) -> bool:
        """Whether zero lies outside the interval."""
        return self.low > 0 or self.high < 0


def t_quantile(degrees: int, share: float = 0.975) -> float:
    """Student's t quantile, within .001 for 4 and more degrees of freedom.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5.
    """
    z = NormalDist().inv_cdf(share)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(z + sum(term / degrees**power for power, term in enumerate(terms, start=1)))


def mean_interval(values: Series) -> Interval:
    """The mean of independent runs with its 95 % t-interval.

    Raises ValueError for fewer than five runs.
    """
    count = len(values)
    if count < FEWEST_RUNS:
        raise ValueError(f"{count} runs are too few for an interval; take {FEWEST_RUNS} or more")
    mean = float(np.mean(values))
    half = t_quantile(count - 1) * float(np.std(values, ddof=1)) / math.sqrt(count)
    return Interval(mean, mean - half, mean + half)


def paired_difference(values: Series, base: Series) -> Interval:
    """Mean of `values` − `base` over runs that share their random numbers, with its interval."""
    if len(values) != len(base):
        raise ValueError(f"{len(values)} runs can't be paired with {len(base)}")
    return mean_interval(np.asarray(values) - np.asarray(base))
