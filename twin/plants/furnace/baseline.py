"""The furnace's own setpoints in AUTO: what its level-2 computer asks of the zones, frozen.

The fair baseline is what a good works has: a table of zone setpoints over thickness, charging
temperature and rolling rate with the customary profile, each zone by the slabs that are in it; an
hourly trim from the pyrometer; a set-back while the mill stands. It sees what a level 2 sees: slab
records (with their errors), pyrometer, mill state and the crew's estimate of a stop. Beside it: the
naive one (fixed setpoints for the worst slab) and a table of least fuel.

Tables and trim come from `benchmarks/furnace_baseline.py`; docs/decisions/0006 says how they were
frozen. Customary profile, trim gain and set-back are assumed, chosen as usual practice.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.interpolate import RegularGridInterpolator

from twin.plants.furnace.heating import SETPOINT_HIGH_C, SETPOINT_LOW_C, ZONES, zone_of_slot
from twin.records import Series

#: The grid of the tables.
THICKNESS_M = (0.18, 0.20, 0.22, 0.25)
CHARGE_C = (20.0, 300.0, 600.0)
RATE_T_PER_H = (175.0, 200.0, 225.0)

#: The customary profile: zone setpoint = first + second × x, x by the table. °C and K per unit.
CUSTOMARY_C = np.array([900.0, 1165.0, 1240.0, 1240.0])
CUSTOMARY_SLOPE = np.array([1.6, 1.1, 0.6, 0.15])

_TRIM_EVERY_S, _TRIM_SHARE, _TRIM_READINGS, _TRIM_FEWEST = 3600.0, 0.35, 10, 5
_TRIM_LIMIT_K = 40.0
_SET_BACK_K = np.array([100.0, 80.0, 50.0, 25.0])
_SET_BACK_AFTER_S, _SET_BACK_FULL_MIN = 600.0, 30.0
_ZONE_OF_SLOT = zone_of_slot()
_TABLES = Path(__file__).with_name("tables.csv")


@dataclass(frozen=True)
class Sight:
    """What a level 2 sees once a minute.

    `slabs` (slot: thickness m, charging °C) by record; `rate_t_per_h` of the slab next to leave;
    `pyrometer_c` the newest good readings, oldest first; times in s on any one clock.
    """

    now_s: float
    slabs: Series
    rate_t_per_h: float
    pyrometer_c: Sequence[float]
    stopped_since_s: float | None
    expected_restart_s: float


@dataclass(frozen=True)
class BaselineParameters:
    """`table` names a set of tables.csv, `trim_c` the mean that the trim aims at.

    Without a table, `fixed_c` is asked for ever.
    """

    table: str | None = None
    trim_c: float = 1220.0
    has_set_back: bool = True
    fixed_c: tuple[float, float, float, float] | None = None


class Level2:
    """The AUTO setpoints of one furnace, minute by minute."""

    def __init__(self, parameters: BaselineParameters) -> None:
        self.parameters = parameters
        self.trim_k = 0.0
        self._next_trim_s: float | None = None

    def setpoints_c(self, sight: Sight) -> Series:
        """What every zone should be at, °C."""
        if self.parameters.table is None:
            return np.array(self.parameters.fixed_c)
        self._trim(sight)
        table = _table(self.parameters.table)
        points = np.column_stack([sight.slabs, np.full(len(sight.slabs), sight.rate_t_per_h)])
        found = table(points)
        of_slab = found[:, :ZONES] + self.trim_k * found[:, ZONES:]
        wanted = np.array([of_slab[z == _ZONE_OF_SLOT, z].mean() for z in range(ZONES)])
        wanted -= self._set_back_k(sight)
        inside: Series = np.clip(wanted, SETPOINT_LOW_C, SETPOINT_HIGH_C)
        return inside

    def _trim(self, sight: Sight) -> None:
        """Once an hour, a share of what the last slabs were off the aim."""
        if self._next_trim_s is None:
            self._next_trim_s = sight.now_s + _TRIM_EVERY_S
        if sight.now_s < self._next_trim_s:
            return
        self._next_trim_s = sight.now_s + _TRIM_EVERY_S
        seen = sight.pyrometer_c[-_TRIM_READINGS:]
        if len(seen) >= _TRIM_FEWEST:
            off_k = self.parameters.trim_c - math.fsum(seen) / len(seen)
            trim_k = self.trim_k + _TRIM_SHARE * off_k
            self.trim_k = min(max(trim_k, -_TRIM_LIMIT_K), _TRIM_LIMIT_K)

    def _set_back_k(self, sight: Sight) -> Series:
        since_s = sight.stopped_since_s
        if not self.parameters.has_set_back or since_s is None:
            return np.zeros(ZONES)
        if sight.now_s - since_s < _SET_BACK_AFTER_S:
            return np.zeros(ZONES)
        left_min = max(0.0, sight.expected_restart_s - sight.now_s) / 60.0
        return _SET_BACK_K * min(1.0, left_min / _SET_BACK_FULL_MIN)


@lru_cache(maxsize=4)
def _table(name: str) -> RegularGridInterpolator:
    """(thickness, charge, rate) -> four setpoints, then their change per K of discharge."""
    shape = (len(THICKNESS_M), len(CHARGE_C), len(RATE_T_PER_H), 2 * ZONES)
    values = np.full(shape, np.nan)
    with _TABLES.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            if row["table"] == name:
                at = (
                    THICKNESS_M.index(float(row["thickness_m"])),
                    CHARGE_C.index(float(row["charge_c"])),
                    RATE_T_PER_H.index(float(row["rate_t_per_h"])),
                )
                values[at] = [
                    float(row[f"zone_{z + 1}_{k}"]) for k in ("c", "per_k") for z in range(ZONES)
                ]
    if np.isnan(values).any():
        raise ValueError(f"{_TABLES.name}: the table {name!r} is not complete")
    grid = (THICKNESS_M, CHARGE_C, RATE_T_PER_H)
    return RegularGridInterpolator(grid, values, bounds_error=False, fill_value=None)


#: The baseline that comparisons are fair against.
FAIR = BaselineParameters(table="customary", trim_c=1220.0)
#: Fuel's least at each point of the table, mixes and stops disregarded; shown beside it.
LEAST_FUEL = BaselineParameters(table="least fuel", trim_c=1220.0)
#: Fixed setpoints for the thickest cold slab at the highest rate.
NAIVE = BaselineParameters(fixed_c=(1032.0, 1255.7, 1289.5, 1252.4))
