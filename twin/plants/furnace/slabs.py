"""Slabs in a row of slots: put in, moved on, measured. How they heat up is in `heating`."""

from __future__ import annotations

import numpy as np

from twin.plants.furnace.heating import (
    COLUMNS,
    DENSITY,
    FACE_M2,
    FACES,
    LUMP_J_PER_K,
    NODES,
    SKID_SHARE,
    STEEL,
    WALL_J_PER_K,
    Slabs,
    Zones,
    enthalpy,
)


def blank_slabs(slots: int, *, columns: int = COLUMNS, nodes: int = NODES) -> Slabs:
    """Empty slots."""
    return Slabs(
        enthalpy=np.zeros((slots, columns, nodes)),
        node=np.zeros((slots, columns, nodes)),
        face=np.zeros((slots, columns, FACES)),
        scale2=np.zeros((slots, FACES)),
        thickness=np.zeros(slots),
        emissivity=np.zeros(slots),
        grade=np.ones(slots),
    )


def place(
    slabs: Slabs, slot: int, thickness_m: float, at_c: float, *, emissivity: float, grade: float
) -> None:
    """Put a slab of one temperature into a slot."""
    slabs.enthalpy[slot], slabs.node[slot], slabs.face[slot] = enthalpy(STEEL, at_c), at_c, at_c
    slabs.scale2[slot] = 0.0
    slabs.thickness[slot] = thickness_m
    slabs.emissivity[slot], slabs.grade[slot] = emissivity, grade


def step_beam(slabs: Slabs) -> None:
    """Move every slab one slot towards the discharge door; the first slot is left as it was."""
    for field in slabs:
        field[1:] = field[:-1].copy()


_COLUMN_SHARES = np.array([1.0 - SKID_SHARE, SKID_SHARE])


def mean_c(slabs: Slabs, slot: int) -> float:
    """A slab's mean temperature, over skids included."""
    return float(slabs.node[slot].mean(axis=1) @ _COLUMN_SHARES)


def difference_k(slabs: Slabs, slot: int) -> float:
    """Between the hottest and the coldest place of a slab's regular section."""
    section = np.concatenate([slabs.node[slot, 0], slabs.face[slot, 0]])
    return float(section.max() - section.min())


def scale_kg(slabs: Slabs, slot: int) -> float:
    """Steel that a slab has lost to scale."""
    return float(np.sqrt(slabs.scale2[slot]).sum()) * FACE_M2


def heat_j(slabs: Slabs, slot: int) -> float:
    """A slab's heat above 0 °C."""
    per_kg = float(slabs.enthalpy[slot].mean(axis=1) @ _COLUMN_SHARES)
    return per_kg * float(slabs.thickness[slot]) * FACE_M2 * DENSITY


def stored_j(slabs: Slabs, zones: Zones) -> float:
    """Heat above 0 °C of all slabs, the gas and hot faces, and the walls."""
    inside = sum(heat_j(slabs, slot) for slot in range(len(slabs.thickness)))
    return float(inside + LUMP_J_PER_K @ zones.gas + WALL_J_PER_K @ zones.wall)
