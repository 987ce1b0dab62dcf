"""How much more heat each grade takes up than the plant file says, learned from the pyrometer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from twin.records import Series

#: Prior and drift per slab of what is learned, % of emissivity: all slabs, then one grade's own.
#: Assumed: one number for gas, steel and skids is known to some 10 %, grades differ by 2 %, and
#: linings and burners age by 1 % in a few days.
_PRIOR_PERCENT, _DRIFT_PERCENT = (10.0, 2.0), (0.05, 0.01)
_FARTHEST_SD = 5.0  # a reading farther off than this is no reading of this slab
_REFUSED_MOST = 4  # in a row; after that what was learned may be what is wrong


class Emissivity:
    """A Kalman filter over per cents of emissivity: one that all slabs share, one of each grade."""

    def __init__(self, grades: Sequence[int], pyrometer_sd_k: float) -> None:
        self._grades = list(grades)
        self._noise_k = pyrometer_sd_k
        self._mean = np.zeros(1 + len(grades))
        self._prior = np.diag(np.square(self._each(_PRIOR_PERCENT)))
        self._drift = np.diag(np.square(self._each(_DRIFT_PERCENT)))
        self._covariance = self._prior
        self._refused = 0

    def age(self) -> None:
        """A slab has left: what was learned is a little less sure, whether it was seen or not."""
        self._covariance = self._covariance + self._drift

    def learn(self, grade: int, missed_k: float, per_k: float, slab_sd_k: float) -> bool:
        """Take in one discharge; False if it is too far off to be believed.

        `missed_k` is what the pyrometer showed above the plant file's emissivity, `per_k` what
        one per cent would have added, `slab_sd_k` how sure the slab was apart from emissivity.
        After a row of refusals everything learned is as unsure as in the beginning.
        """
        h = per_k * self._which(grade)
        surprise = missed_k - float(h @ self._mean)
        variance = float(h @ self._covariance @ h) + self._noise_k**2 + slab_sd_k**2
        if abs(surprise) > _FARTHEST_SD * math.sqrt(variance):
            self._refused += 1
            if self._refused >= _REFUSED_MOST:
                self._covariance, self._refused = self._prior, 0
            return False
        self._refused = 0
        gain = self._covariance @ h / variance
        self._mean = self._mean + gain * surprise
        self._covariance = self._covariance - np.outer(gain, h @ self._covariance)
        return True

    @property
    def percent(self) -> dict[int, float]:
        """Learned per cents by grade; −1 stands for a grade not described, with what all share."""
        shared = float(self._mean[0])
        own = {g: shared + float(self._mean[1 + i]) for i, g in enumerate(self._grades)}
        return {-1: shared} | own

    def of(self, grade: int) -> float:
        """Learned per cents of `grade`."""
        return float(self._which(grade) @ self._mean)

    def sd_percent(self, grade: int) -> float:
        """How sure that is."""
        h = self._which(grade)
        return math.sqrt(float(h @ self._covariance @ h))

    def _which(self, grade: int) -> Series:
        h = np.zeros(len(self._mean))
        h[0] = 1.0
        if grade in self._grades:
            h[1 + self._grades.index(grade)] = 1.0
        return h

    def _each(self, of: tuple[float, float]) -> Series:
        return np.array([of[0], *[of[1]] * len(self._grades)])
