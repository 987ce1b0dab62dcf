"""How far an MV may go: never faster than it may move, never away from limits it stands outside."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from furnace_line import FURNACE, HOLD, MILL, PLANT, full_furnace
from hypothesis import given
from hypothesis import strategies as st
from small_plant import PUMP, small_plant

from optimizer.moves import hard_range, rounded_towards, within_room
from optimizer.slab_moves import block_bounds
from optimizer.slab_steering import SlabSteering
from twin.plant import Limits, Tag

MV = dataclasses.replace(small_plant().tag(PUMP), operator=Limits(low=2.0, high=9.0))
STAND = {tag: float(path[0]) for tag, path in HOLD.items()} | {MILL.pace: 1.0}


@given(
    current=st.floats(-100, 100),
    target=st.floats(-100, 100),
    decimals=st.integers(0, 6),
)
def test_rounding_never_goes_past_the_target(current: float, target: float, decimals: int) -> None:
    """Between where the MV stands and where the plan wants it: no limit, no rate is passed."""
    rounded = rounded_towards(current, target, decimals)
    if rounded is None:
        assert abs(target - current) < 1.01 * 10.0**-decimals
    else:
        assert min(current, target) <= rounded <= max(current, target)
        assert rounded != current
        assert rounded == pytest.approx(round(rounded, decimals), abs=1e-9)


@given(current=st.floats(-20, 30), room=st.floats(0, 10))
def test_wherever_an_mv_stands_it_moves_no_further_than_its_room(
    current: float, room: float
) -> None:
    """Inside its limits it stays inside; outside them it goes back as far as it may."""
    low, high = within_room(MV, current, room)
    assert current - room <= low <= high <= current + room
    lowest, highest = hard_range(MV)
    outside = max(lowest - current, current - highest, 0.0)
    if outside <= room:
        assert lowest <= low <= high <= highest
    else:
        assert low == high
        assert max(lowest - low, low - highest) == pytest.approx(outside - room)


def test_a_study_brings_a_setpoint_back_no_faster_than_a_live_round() -> None:
    """A zone stands 200 K above its limit: back as fast as its rate lets it, not in one jump."""
    zone: Tag = PLANT.tag(FURNACE.zones[2].setpoint)
    _, highest = hard_range(zone)
    begun = highest + 200.0
    told = SlabSteering(PLANT, {**STAND, zone.name: begun})(full_furnace())
    assert zone.rate_limit_per_min is not None
    assert begun - told[zone.name] == pytest.approx(zone.rate_limit_per_min * PLANT.round_s / 60.0)


def test_what_stands_still_does_so_over_the_whole_plan() -> None:
    """A fixed zone has no room in any block; of another's only the first block is narrower."""
    first, second, *_ = (zone.setpoint for zone in FURNACE.zones)
    current_c = np.array([float(path[0]) for path in HOLD.values()])
    low, high = block_bounds(PLANT, 3, current_c, {first: (900.0, 910.0)}, {second})
    lowest, highest = hard_range(PLANT.tag(first))
    assert low[:, 0].tolist() == [900.0, lowest, lowest]
    assert high[:, 0].tolist() == [910.0, highest, highest]
    assert low[:, 1].tolist() == high[:, 1].tolist() == [current_c[1]] * 3
