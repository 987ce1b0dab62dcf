"""Where a furnace's plan may go: which MVs it moves, bounds of its blocks, and paces to try.

For a live round, which asks the gate how far each MV may go now, and for a simulated line, where
rate and move budget alone say so. Nothing here asks either, and nothing plans.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from optimizer.moves import hard_range
from twin.plant import Plant
from twin.records import Series
from twin.simulation.line import line_of

#: Paces beside the present one that a round tries. Chosen: one slab in twenty.
_PACE_STEP = 0.05


def moved_mvs(plant: Plant) -> tuple[str, ...]:
    """What a plan may move: every zone's setpoint, then the mill's pace."""
    furnace, mill = line_of(plant)
    return (*(zone.setpoint for zone in furnace.zones), mill.pace)


def block_bounds(
    plant: Plant,
    blocks: int,
    current_c: Series,
    may_go: Mapping[str, tuple[float, float]],
    still: Collection[str] = (),
) -> tuple[Series, Series]:
    """(block, zone) bounds of the zones' setpoints, °C, which stand at `current_c` (zone).

    `may_go`: MV -> from where to where it may go now, the first block's bounds; later blocks, and
    an MV not named, have its limits. Those in `still` stay where they are over the whole plan.
    """
    *zone_mvs, _ = moved_mvs(plant)
    ranges = np.array([hard_range(plant.tag(mv)) for mv in zone_mvs])
    low, high = np.tile(ranges[:, 0], (blocks, 1)), np.tile(ranges[:, 1], (blocks, 1))
    for z, mv in enumerate(zone_mvs):
        if mv in still:
            low[:, z] = high[:, z] = current_c[z]
        elif mv in may_go:
            low[0, z], high[0, z] = may_go[mv]
    return low, high


def paces(present: float, may_go: tuple[float, float] | None) -> list[float]:
    """The paces to try, the present one first; it alone where the pace may go nowhere (None).

    All over the schedule's, as `may_go` is: 0.95 rolls one slab in twenty fewer.
    """
    if may_go is None:
        return [present]
    low, high = may_go
    beside = {round(present - _PACE_STEP, 6), round(present + _PACE_STEP, 6), 1.0} - {present}
    return [present, *sorted(each for each in beside if low <= each <= high)]
