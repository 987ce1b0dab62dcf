"""The steel that a plant file's furnace heats, as tables for the compiled equations.

Heat capacity: EN 1993-1-2:2005, 3.4.1.2; its conductivity and density are `kernel`'s.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from twin.furnace.kernel import ENTHALPY_STEP, HOTTEST_C, KELVIN, Steel
from twin.plant.furnace import Furnace
from twin.records import Series

_GAS_J_PER_MOL_K = 8.314


def steel(furnace: Furnace) -> Steel:
    """The steel's tables; nobody may write into them."""
    return steel_tables(furnace.scale_kg2_per_m4_s, furnace.scale_j_per_mol)


@lru_cache(maxsize=8)
def steel_tables(scale_kg2_per_m4_s: float, scale_j_per_mol: float) -> Steel:
    """The same; scale grows parabolically with an Arrhenius rate of these numbers."""
    fine = np.arange(0.0, HOTTEST_C + 10.0, 0.05)
    capacity = np.array([_heat_capacity(max(t, 20.0)) for t in fine])
    pieces = 0.5 * (capacity[1:] + capacity[:-1]) * np.diff(fine)
    enthalpy_j = np.concatenate([[0.0], np.cumsum(pieces)])
    whole = np.arange(0.0, HOTTEST_C + 9.0)
    speed = np.exp(-scale_j_per_mol / (_GAS_J_PER_MOL_K * (whole + KELVIN)))
    return Steel(
        by_enthalpy=np.interp(np.arange(0.0, enthalpy_j[-1], ENTHALPY_STEP), enthalpy_j, fine),
        heat_capacity=np.interp(whole, fine, capacity),
        enthalpy=np.interp(whole, fine, enthalpy_j),
        scale_growth=scale_kg2_per_m4_s * speed,
    )


def enthalpy(tables: Steel, t_c: Series) -> Series:
    """J/kg of steel at `t_c` °C."""
    found: Series = np.interp(t_c, np.arange(len(tables.enthalpy)), tables.enthalpy)
    return found


def _heat_capacity(t: float) -> float:
    """J/kgK at `t` °C: EN 1993-1-2, 3.4.1.2."""
    if t < 600.0:
        return 425.0 + 0.773 * t - 1.69e-3 * t**2 + 2.22e-6 * t**3
    if t < 735.0:
        return 666.0 + 13002.0 / (738.0 - t)
    if t < 900.0:
        return 545.0 + 17820.0 / (t - 731.0)
    return 650.0
