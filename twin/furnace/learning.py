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
#: What a pyrometer shows too much for as long as slabs of a kind pass: its standard deviation over
#: the noise of one reading, and what is left of it after a slab. Assumed: scale is read for steel.
#: Chosen on training seeds 1000–1003 among (0.25 to 0.6, 0.8 to 0.95): without it the hours after
#: tracking began seem surer than they are (tracked less real mean over its sd 1.2 five to eight
#: hours after, with it 1.1; 0.7 to 0.9 after a day); more of it learns slower and worse.
_BIAS_OVER_NOISE, _BIAS_STAYS = 0.3, 0.8
#: A reading farther off than this is no reading of this slab; so many of them in a row mean that
#: what was learned is wrong. Chosen: one honest reading in two million is refused, four are none.
_FARTHEST_SD = 5.0
_REFUSED_MOST = 4


class Emissivity:
    """A Kalman filter over per cents of emissivity: one that all slabs share, one of each grade.

    Beside them stands the pyrometer's bias of the moment, which is thrown away.
    """

    def __init__(self, grades: Sequence[int], pyrometer_sd_k: float) -> None:
        self._grades = list(grades)
        self._noise_k = pyrometer_sd_k
        bias_k = _BIAS_OVER_NOISE * pyrometer_sd_k
        self._mean = np.zeros(2 + len(grades))
        self._stays = np.array([*[1.0] * (1 + len(grades)), _BIAS_STAYS])
        self._prior = np.diag(np.square(self._each(_PRIOR_PERCENT, bias_k)))
        renewed_k = bias_k * math.sqrt(1.0 - _BIAS_STAYS**2)
        self._drift = np.diag(np.square(self._each(_DRIFT_PERCENT, renewed_k)))
        self._covariance = self._prior
        self._refused = 0

    def age(self) -> None:
        """A slab has left: what was learned is a little less sure, whether it was seen or not."""
        self._mean = self._stays * self._mean
        self._covariance = np.outer(self._stays, self._stays) * self._covariance + self._drift

    def learn(self, grade: int, missed_k: float, per_k: float, slab_sd_k: float) -> bool:
        """Take in one discharge; False if it is too far off to be believed.

        `missed_k` is what the pyrometer showed above the plant file's emissivity, `per_k` what
        one per cent would have added, `slab_sd_k` how sure the slab was apart from emissivity.
        After a row of refusals everything learned is as unsure as in the beginning.
        """
        h = per_k * self._which(grade)
        h[-1] = 1.0
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

    def _each(self, of: tuple[float, float], bias_k: float) -> Series:
        return np.array([of[0], *[of[1]] * len(self._grades), bias_k])
