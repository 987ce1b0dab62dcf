"""The furnace's equations written out for a solver: smooth, scaled, one expression each.

The same physics as `twin.furnace.kernel`, whose compiled code no solver can read; tests hold the
two together. Kinks are rounded, the steel's table is a sum of hinges fitted to it. What the learned
residual knows is not in it: it fades where nothing moves. Nothing is solved here.

Units are chosen so that every number is about one: temperatures in hundreds of °C, enthalpies in
1e5 J/kg, fluxes in 1e5 W/m², heat flows in 10 MW.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyomo.environ as pyo

from twin.furnace import kernel
from twin.furnace.numbers import numbers
from twin.furnace.steel import steel, steel_tables
from twin.plant.furnace import Furnace

HUNDRED_K, ENTHALPY, FLUX, TEN_MW = 100.0, 1e5, 1e5, 1e7
KELVIN = kernel.KELVIN / HUNDRED_K
_HALL = kernel.HALL_C / HUNDRED_K
_SIGMA = 5.670374e-8 * HUNDRED_K**4 / FLUX  # Stefan and Boltzmann, CODATA 2018
_COLDEST, _HOTTEST = 0.2, 14.0  # where the table is fitted
#: Where the slope of temperature over enthalpy changes: fitted to within 1 K above 900 °C and to
#: 0.1 K above 1100 °C; 7 K at worst, at 20 °C, where a face takes up 0.05 % less for it.
_KNOTS, _KNOT_WIDTH = (1.5, 3.0, 4.0, 4.6, 5.0, 5.4, 5.9, 6.4), 0.15
_CORNER = 0.05  # width of a rounded corner, in 100 K
_CARBON_FLAT, _CARBON_SLOPE, _CARBON_KNEE = 27.3, 3.33, 8.018  # EN 1993-1-2, 3.4.1.3


def hinge(excess: Any, width: float = _CORNER) -> Any:
    """`excess` where it is positive, else 0; the corner rounded over `width`."""
    return 0.5 * (excess + pyo.sqrt(excess * excess + width * width))


class Once:
    """Expressions that a model uses in several places, written into its file once."""

    def __init__(self, model: pyo.ConcreteModel) -> None:
        model.once = pyo.Expression(pyo.NonNegativeIntegers)
        self._of = model.once

    def __call__(self, expression: Any) -> Any:
        """The same expression, to be used as often as wanted."""
        return self._of.add(len(self._of), expression)


def normal(z: Any) -> Any:
    """The standard normal distribution up to `z`, to 1.4e-4.

    Source: Bowling, Khasawneh, Kaewkuekool and Cho, J. Industrial Eng. and Management 2 (2009) 114.
    """
    return 0.5 * (1.0 + pyo.tanh(0.5 * (1.5976 * z + 0.07056 * z**3)))


@dataclass(frozen=True)
class SteelCurve:
    """Temperature over enthalpy: first + second × h + Σ weight × √((h − knot)² + width²)."""

    first: float
    second: float
    weights: tuple[float, ...]

    def temperature(self, h: Any) -> Any:
        """100 °C at `h` 1e5 J/kg."""
        bends = zip(self.weights, _KNOTS, strict=True)
        return (
            self.first
            + self.second * h
            + sum(w * pyo.sqrt((h - at) ** 2 + _KNOT_WIDTH**2) for w, at in bends)
        )


@lru_cache(maxsize=8)
def _curve(scale_kg2_per_m4_s: float, scale_j_per_mol: float) -> SteelCurve:
    table = steel_tables(scale_kg2_per_m4_s, scale_j_per_mol).enthalpy
    t = np.arange(len(table)) / HUNDRED_K
    is_used = (t >= _COLDEST) & (t <= _HOTTEST)
    h, t = table[is_used] / ENTHALPY, t[is_used]
    bends = [np.sqrt((h - at) ** 2 + _KNOT_WIDTH**2) for at in _KNOTS]
    found, *_ = np.linalg.lstsq(np.column_stack([np.ones_like(h), h, *bends]), t, rcond=None)
    first, second, *weights = found.tolist()
    return SteelCurve(first, second, tuple(weights))


def steel_curve(furnace: Furnace) -> SteelCurve:
    """The furnace's steel, as fitted to the table of its compiled equations."""
    return _curve(furnace.scale_kg2_per_m4_s, furnace.scale_j_per_mol)


def enthalpy_of(furnace: Furnace, t_c: float) -> float:
    """1e5 J/kg of steel at `t_c` °C, by the table."""
    table = steel(furnace).enthalpy
    return float(np.interp(t_c, np.arange(len(table)), table)) / ENTHALPY


def conductivity(t: Any) -> Any:
    """W/mK of carbon steel at `t` 100 °C."""
    return _CARBON_FLAT + _CARBON_SLOPE * hinge(_CARBON_KNEE - t, 0.2)


def inward_fluxes(once: Once, t: Sequence[Any], face: Any, thickness: Any, grade: Any) -> list[Any]:
    """Fluxes from each node of half a slab towards its core; the last one comes from the face.

    At the face it is the slope of a parabola through nodes and face.
    """
    nodes = len(t)
    per_dx = 2.0 * nodes / thickness * HUNDRED_K / FLUX * grade
    conducts = [once(conductivity(at)) for at in t]
    fluxes = [
        once(0.5 * per_dx * (conducts[i] + conducts[i + 1]) * (t[i + 1] - t[i]))
        for i in range(nodes - 1)
    ]
    slope = 2.0 * nodes / (nodes - 1.0 / 3.0)
    return [*fluxes, once(slope * per_dx * conducts[-1] * (face - t[-1]))]


def radiated(emissivity: Any, around4: Any, face: Any) -> Any:
    """Flux into a face at `face` 100 °C from surroundings of `around4` (100 K)⁴."""
    return _SIGMA * emissivity * (around4 - (face + KELVIN) ** 4)


def heating(flux: Any, nodes: int, thickness: Any, seconds: Any) -> Any:
    """What a net flux into one node adds to its enthalpy in `seconds`."""
    per_kg = 2.0 * nodes / (kernel.DENSITY * thickness) * FLUX / ENTHALPY
    return per_kg * seconds * flux


def growth(furnace: Furnace, face: Any) -> Any:
    """How fast the square of the steel burned away grows on a face, kg²/m⁴ per s."""
    per_k = furnace.scale_j_per_mol / 8.314 / HUNDRED_K
    return furnace.scale_kg2_per_m4_s * pyo.exp(-per_k / (face + KELVIN))


class ZoneEquations:
    """Heat flows of a furnace's zones, all in 10 MW; `gas` and `wall` (zone) in 100 °C."""

    def __init__(self, furnace: Furnace) -> None:
        self._of = numbers(furnace)
        self._count = len(furnace.zones)
        self.fuel_low = self._of.fuel_low_w / TEN_MW
        self.fuel_high = self._of.fuel_high_w / TEN_MW
        self.header = self._of.header_w / TEN_MW

    def surplus(self, z: int, gas: Sequence[Any], fuel: Sequence[Any], needs: Any) -> Any:
        """What heats zone `z`: its fuel and the flue gas of the zones behind, less its needs."""
        burned_behind = sum(fuel[z + 1 :])
        arriving = burned_behind * self._flue(gas[z + 1]) if z + 1 < self._count else 0.0
        brings = fuel[z] * (1.0 + self._preheated(gas[0])) + arriving
        return brings - (burned_behind + fuel[z]) * self._flue(gas[z]) - needs

    def losses(self, z: int, gas: Sequence[Any]) -> Any:
        """Into cooling water and neighbouring zones."""
        of = self._of
        hot = (gas[z] + KELVIN) / ((1200.0 + kernel.KELVIN) / HUNDRED_K)
        lost = float(of.skid_w[z]) / TEN_MW * hot**4
        near = [n for n in (z - 1, z + 1) if 0 <= n < self._count]
        between = of.between_w_per_k * HUNDRED_K / TEN_MW
        return lost + sum(between * (gas[z] - gas[n]) for n in near)

    def into_wall(self, z: int, gas: Any, wall: Any) -> Any:
        """From the hot face into the lining."""
        return float(self._of.lump_to_wall[z]) * HUNDRED_K / TEN_MW * (gas - wall)

    def out_of_wall(self, z: int, wall: Any) -> Any:
        """From the lining into the hall."""
        return float(self._of.wall_to_hall[z]) * HUNDRED_K / TEN_MW * (wall - _HALL)

    def through_wall(self, z: int, gas: Any) -> Any:
        """From the hot face into the hall once the lining has settled."""
        of = self._of
        through = 1.0 / (1.0 / of.lump_to_wall[z] + 1.0 / of.wall_to_hall[z])
        return float(through) * HUNDRED_K / TEN_MW * (gas - _HALL)

    def _flue(self, t: Any) -> Any:
        first, second = self._of.flue * np.array([HUNDRED_K, HUNDRED_K**2])
        return t * (float(first) + float(second) * t)

    def _preheated(self, charging: Any) -> Any:
        of = self._of
        highest = of.preheat_highest_c / HUNDRED_K
        air = highest - hinge(highest - of.preheat_share * charging)
        return of.air_per_k * HUNDRED_K * (air - _HALL)
