"""A furnace in which nothing changes: equal slabs, constant zones. For tables of setpoints."""

from __future__ import annotations

import numpy as np

import twin.plants.furnace.heating as ht
from twin.plants.furnace.slabs import blank_slabs, place
from twin.records import Series


def steady(
    gas_c: Series, thickness_m: float, charge_c: float, interval_s: float, *, grade: float
) -> tuple[ht.Slabs, Series]:
    """One of many equal slabs after its passage at constant zone temperatures, and the fuel, W.

    The fuel (zone) holds the zones while a furnace full of such slabs draws heat: nominal heat
    value, no more leak than usual. It may lie outside what the burners can do.
    """
    slabs = blank_slabs(1, nodes=8)
    place(slabs, 0, thickness_m, charge_c, emissivity=0.65, grade=grade)
    drawn = ht.passage(ht.STEEL, slabs, gas_c, ht.zone_shares(), interval_s, 30.0)
    return slabs, _steady_fuel(gas_c, drawn, ht.DOOR_S / interval_s, leak=0.03)


def _steady_fuel(gas_c: Series, drawn_w: Series, door_share: float, leak: float) -> Series:
    """W per zone at which nothing in `_heat_zones` moves, walls included."""
    back = ht.preheated(gas_c[0])
    fuel = np.zeros(ht.ZONES)
    burned, arriving = 0.0, 0.0
    for z in range(ht.ZONES - 1, -1, -1):
        t = float(gas_c[z])
        wall = 1 / (1 / ht.LUMP_TO_WALL_W_PER_K[z] + 1 / ht.WALL_TO_HALL_W_PER_K[z])
        needs = ht.skid_water(z, t) + wall * (t - ht.HALL_C) + float(drawn_w[z])
        needs += sum(
            ht.BETWEEN_ZONES_W_PER_K * (t - gas_c[n]) for n in (z - 1, z + 1) if 0 <= n < ht.ZONES
        )
        if z in (0, ht.ZONES - 1):
            needs += door_share * ht.through_door(t)
        cold = leak * ht.AIR * (t - ht.HALL_C) if z == 0 else 0.0
        leaves = ht.flue(t) + cold
        fuel[z] = (needs + burned * leaves - arriving) / (1 + back - leaves)
        burned += fuel[z]
        arriving = burned * ht.flue(t)
    return fuel
