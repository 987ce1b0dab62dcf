"""What comes to the real furnace from outside: slabs, campaigns, mill stops, drifts and noise.

Every random thing has its own stream, chosen by (seed, kind, item) and never touched by a
controller. A stop belongs to a slab, not to a time, so two controllers meet the same stops even
when one of them rolls faster. Sizes are assumed, chosen for plausibility.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from twin.plants.furnace.heating import DENSITY, FACE_M2
from twin.records import Series

THICKNESS_M = (0.18, 0.20, 0.22, 0.25)
RATE_T_PER_H = (175.0, 225.0)
COLD_C = 20.0
HOT_C = (400.0, 600.0)
_COLD_SHARE = 0.6
_CHARGE_CHANGES = 0.6  # chance that a campaign draws anew whether it is charged cold
_CAMPAIGN_SLABS = (4, 20)
_GRADE_K = (1.0, 0.92, 0.80)
_EMISSIVITY, _EMISSIVITY_GRADE_SD, _EMISSIVITY_SLAB_SD = 0.65, 0.02, 0.01
_THICKNESS_SD = 0.006  # of the slab, against its record
_CHARGE_SD_K = 15.0  # a hot slab, against its record
_GAP_SD = 0.04
_STOP_MEAN_BETWEEN_H, _STOP_MEAN_MIN, _STOP_SIGMA, _STOP_MIN = 4.0, 25.0, 0.75, (3.0, 180.0)
_ESTIMATE_SD = 0.35
_PYROMETER_SD_K, _PYROMETER_OUT = 6.0, 0.04
_SCALE_BIAS_SD_K = 2.5  # of the pyrometer, one draw per campaign
_HEAT_VALUE_SWING, _HEAT_VALUE_H, _HEAT_VALUE_SD = 0.02, 14.0, 0.004
_LEAK_MEAN, _LEAK_SD, _LEAK_H = 0.03, 0.012, 24.0
_THERMOCOUPLE_SD_K = 1.0
_HOUR_ROWS = 360


@dataclass(frozen=True, slots=True)
class Slab:
    """One slab as its record says, and as it is (`real_`)."""

    number: int
    campaign: int
    grade: int
    thickness_m: float
    charge_c: float
    rate_t_per_h: float
    real_thickness_m: float
    real_charge_c: float
    real_grade_k: float
    real_emissivity: float
    gap_factor: float
    stop_s: float
    expected_stop_s: float
    pyrometer_error_k: float
    pyrometer_is_out: bool

    @property
    def mass_kg(self) -> float:
        return self.thickness_m * FACE_M2 * DENSITY

    @property
    def real_mass_kg(self) -> float:
        return self.real_thickness_m * FACE_M2 * DENSITY


def stream(seed: int, kind: str, item: int) -> np.random.Generator:
    """The random numbers of one thing, independent of those of every other thing."""
    return np.random.default_rng([seed, zlib.crc32(kind.encode()), item])


class Yard:
    """One seed's slabs, in the order in which they are charged, made when asked for."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._slabs: list[Slab] = []
        self._campaigns = 0
        self._place: int | None = None
        self._is_cold: bool | None = None

    def slab(self, number: int) -> Slab:
        """Slab `number`, from 0."""
        while len(self._slabs) <= number:
            self._add_campaign()
        return self._slabs[number]

    def _add_campaign(self) -> None:
        seed, campaign = self._seed, self._campaigns
        self._campaigns += 1
        rng = stream(seed, "campaign", campaign)
        count = int(rng.integers(_CAMPAIGN_SLABS[0], _CAMPAIGN_SLABS[1] + 1))
        # Mills roll neighbouring thicknesses after one another, and hot charging comes in spells.
        first = self._place is None
        step = int(rng.integers(len(THICKNESS_M)) if first else rng.integers(-1, 2))
        self._place = min(max((self._place or 0) + step, 0), len(THICKNESS_M) - 1)
        thickness_m = THICKNESS_M[self._place]
        grade = int(rng.integers(len(_GRADE_K)))
        rate = round(float(rng.uniform(*RATE_T_PER_H)), 1)
        if self._is_cold is None or rng.random() < _CHARGE_CHANGES:
            self._is_cold = bool(rng.random() < _COLD_SHARE)
        is_cold = self._is_cold
        charge_c = COLD_C if is_cold else round(float(rng.uniform(*HOT_C)))
        bias_k = rng.normal(0, _SCALE_BIAS_SD_K)
        of_grade = 1 + stream(seed, "grade", grade).normal(0, _EMISSIVITY_GRADE_SD)
        for _ in range(count):
            number = len(self._slabs)
            own = stream(seed, "slab", number)
            emissivity = _EMISSIVITY * of_grade * (1 + own.normal(0, _EMISSIVITY_SLAB_SD))
            real_thickness = thickness_m * (1 + own.normal(0, _THICKNESS_SD))
            real_charge = charge_c if is_cold else charge_c + own.normal(0, _CHARGE_SD_K)
            gap = max(0.8, 1 + own.normal(0, _GAP_SD))
            pyrometer = bias_k + own.normal(0, _PYROMETER_SD_K)
            is_out = bool(own.random() < _PYROMETER_OUT)
            hours = thickness_m * FACE_M2 * DENSITY / 1000.0 / rate
            stop_s, told_s = self._stop(number, hours)
            self._slabs.append(
                Slab(
                    number, campaign, grade, thickness_m, charge_c, rate,
                    real_thickness, real_charge, _GRADE_K[grade], emissivity,
                    gap, stop_s, told_s, pyrometer, is_out,
                )
            )  # fmt: skip

    def _stop(self, number: int, hours: float) -> tuple[float, float]:
        """How long the mill stops after this slab, and what the crew expects. 0: it rolls on."""
        rng = stream(self._seed, "stop", number)
        if rng.random() >= 1 - math.exp(-hours / _STOP_MEAN_BETWEEN_H):
            return 0.0, 0.0
        middle = math.log(_STOP_MEAN_MIN) - _STOP_SIGMA**2 / 2
        lasts_min = float(np.clip(rng.lognormal(middle, _STOP_SIGMA), *_STOP_MIN))
        expected_min = lasts_min * math.exp(rng.normal(0, _ESTIMATE_SD))
        return 60.0 * round(lasts_min), 60.0 * round(max(expected_min, 2.0))


@lru_cache(maxsize=64)
def thermocouple_noise_k(seed: int, hour: int) -> Series:
    """(row of 10 s, zone) K, for one hour of the plant's life."""
    noise: Series = stream(seed, "thermocouples", hour).normal(
        0, _THERMOCOUPLE_SD_K, (_HOUR_ROWS, 4)
    )
    noise.flags.writeable = False
    return noise


class Weather:
    """Heat value and air leak of one seed, constant over each hour."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        rng = stream(seed, "weather", 0)
        self._phase = rng.uniform(0, 2 * math.pi)
        self._leak = [float(rng.normal(0, 1.0))]

    def heat_value(self, hour: int) -> float:
        """Real over nominal energy of the fuel."""
        swing = _HEAT_VALUE_SWING * math.sin(2 * math.pi * hour / _HEAT_VALUE_H + self._phase)
        return 1 + swing + float(stream(self._seed, "heat value", hour).normal(0, _HEAT_VALUE_SD))

    def leak(self, hour: int) -> float:
        """Air drawn in over air burned."""
        stay = math.exp(-1 / _LEAK_H)
        while len(self._leak) <= hour:
            push = stream(self._seed, "leak", len(self._leak)).normal(0, math.sqrt(1 - stay**2))
            self._leak.append(stay * self._leak[-1] + float(push))
        return max(0.0, _LEAK_MEAN + _LEAK_SD * self._leak[hour])
