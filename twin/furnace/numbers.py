"""A plant file's furnace as the compiled equations take it, in SI units; its steel is `steel`'s."""

from __future__ import annotations

import numpy as np

from twin.furnace import kernel
from twin.plant.furnace import Furnace
from twin.records import Series

STEP_S = 60.0  # of the equations; their agreement with finer ones is tested
#: Fuel that a J in store saves: the inverse of a furnace's efficiency, some 0.77. Assumed; plans
#: and scores count with the same one.
STORED_WORTH = 1.3


def numbers(furnace: Furnace) -> kernel.Furnace:
    """The furnace's own numbers in SI units."""
    zones = furnace.zones
    return kernel.Furnace(
        share=zone_shares(furnace),
        face_m2=furnace.face_m2,
        fuel_low_w=np.array([1e6 * zone.fuel_mw[0] for zone in zones]),
        fuel_high_w=np.array([1e6 * zone.fuel_mw[1] for zone in zones]),
        header_w=1e6 * furnace.header_mw,
        fuel_rate_w_per_step=1e6 * furnace.fuel_mw_per_min * STEP_S / 60.0,
        lump_j_per_k=np.array([1e6 * zone.lump_mj_per_k for zone in zones]),
        wall_j_per_k=np.array([1e6 * zone.wall_mj_per_k for zone in zones]),
        lump_to_wall=np.array([1e3 * zone.lump_to_wall_kw_per_k for zone in zones]),
        wall_to_hall=np.array([1e3 * zone.wall_to_hall_kw_per_k for zone in zones]),
        skid_w=np.array([1e6 * zone.skid_mw for zone in zones]),
        between_w_per_k=1e3 * furnace.between_zones_kw_per_k,
        flue=np.array(furnace.flue_heat),
        air_per_k=furnace.air_heat_per_k,
        preheat_share=furnace.air_preheat[0],
        preheat_highest_c=furnace.air_preheat[1],
        ramp_up_k=furnace.ramp_k_per_min[0] * STEP_S / 60.0,
        ramp_down_k=furnace.ramp_k_per_min[1] * STEP_S / 60.0,
    )


def zone_shares(furnace: Furnace) -> Series:
    """(slot, zone): how much of a slot's surroundings is which zone's gas; rows add to 1."""
    middle = np.arange(furnace.slots) + 0.5
    inner = np.array([zone.ends_at for zone in furnace.zones[:-1]]) * furnace.slots
    edges = np.concatenate([[-np.inf], inner, [np.inf]])
    width = 2.0 * max(furnace.border_slots, 1e-6)
    passed = np.clip((middle[:, None] - edges) / width + 0.5, 0.0, 1.0)
    return np.ascontiguousarray(passed[:, :-1] - passed[:, 1:])
