"""A furnace full of slabs as tracking would find it, for tests of the line and its forecast."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import numpy as np

from twin.furnace.state import FurnaceState, MillState, Slab, SlabState, ZoneState
from twin.plant import Plant, read_plant
from twin.plant.furnace import Furnace, Mill
from twin.records import Series
from twin.simulation.line import line_of

AT = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
PLANT = read_plant("furnace")
FURNACE, MILL = line_of(PLANT)
ROLLS = MillState(None, None, AT + timedelta(seconds=200))
_ZONES_C = (945.0, 1200.0, 1275.0, 1262.0)
_FUEL_W = (10e6, 26e6, 17e6, 4e6)
COLD, HOT = Slab(0, 0.22, 20.0, 0, 200.0), Slab(0, 0.20, 450.0, 1, 190.0)

#: Setpoints that keep the furnace as it is.
HOLD: dict[str, Series] = {
    zone.setpoint: np.array([at_c]) for zone, at_c in zip(FURNACE.zones, _ZONES_C, strict=True)
}


def full_furnace(
    mill: MillState = ROLLS, *, warmer_k: float = 0.0, sd_k: float = 1.5, doubt: str = ""
) -> FurnaceState:
    """28 cold slabs from number 100 on, heated by their places, and 16 hot ones that wait.

    `doubt` is cast on the slab at the door, which makes it 12 K unsure.
    """
    slabs = []
    for i in range(FURNACE.slots):
        at_c = 20.0 + (1195.0 + warmer_k) * ((FURNACE.slots - i - 0.3) / FURNACE.slots) ** 0.8
        slabs.append(
            SlabState(
                slab=dataclasses.replace(COLD, number=100 + i),
                node_c=(at_c - 10.0, at_c - 5.0, at_c, at_c + 5.0),
                face_c=at_c + 10.0,
                scale2=0.0,
                per_emissivity_k=(0.8,) * 5,
                sd_k=12.0 if doubt and i == 0 else sd_k,
                doubt=doubt if i == 0 else "",
            )
        )
    zones = zip(_ZONES_C, _FUEL_W, strict=True)
    return FurnaceState(
        at=AT,
        slabs=tuple(slabs),
        yard=tuple(dataclasses.replace(HOT, number=128 + k) for k in range(16)),
        zones=tuple(ZoneState(at_c, at_c - 15.0, at_c, fuel_w, 0.0) for at_c, fuel_w in zones),
        mill=mill,
    )


def stands(since_min: float, expected_min: float | None) -> MillState:
    """A mill that has stood for `since_min`; its crew expects to go on `expected_min` from now."""
    restart = None if expected_min is None else AT + timedelta(minutes=expected_min)
    return MillState(AT - timedelta(minutes=since_min), restart, AT)


def with_blocks(plant: Plant = PLANT, **changes: object) -> Plant:
    """The plant with fields of its furnace or mill changed; each goes to the block that has it."""
    blocks = []
    for block in plant.discrete:
        if isinstance(block, Furnace | Mill):
            mine = {key: value for key, value in changes.items() if hasattr(block, key)}
            block = dataclasses.replace(block, **mine)  # type: ignore[arg-type]  # any field
        blocks.append(block)
    return dataclasses.replace(plant, discrete=tuple(blocks))
