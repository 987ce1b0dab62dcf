"""A furnace's advice says why in one sentence: what moves, the mill, money, risk."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from furnace_seen import FIRST, NOON, forecast, furnace_plant, outlook, seen

from optimizer.controller import Round
from optimizer.reasons import describe
from optimizer.slab_reasons import slab_reasons
from twin.furnace.state import FurnaceState, MillState, Slab, SlabState, StopBelief, ZoneState
from twin.records import Plan, PlanStatus, Verdict
from twin.safety import GateContext

PLANT = furnace_plant()


def round_of(
    mill: MillState, *, yard: tuple[Slab, ...] = (), moves: dict[str, float] | None = None
) -> Round:
    """One round that found the calm furnace with this mill and yard."""
    slab = SlabState(Slab(FIRST, 0.22, 20.0, 0, 195.0), (1200.0,) * 3, 1230.0, 0.0, (1.0,) * 4, 3.0)
    zones = (ZoneState(1200.0, 900.0, 1200.0, 1e7, 0.0),) * 4
    twin = FurnaceState(NOON, (slab,) * 3, yard, zones, mill)
    setpoints = {"zone_4.setpoint": 1222.0} if moves is None else moves
    plan = Plan(
        PlanStatus.SOLVED, "", NOON, 60.0, {"zone_4.setpoint": np.full(3, 1222.0)},
        cost_per_h=1000.0, hold_cost_per_h=1041.0, binding=("the header at its highest",),
    )  # fmt: skip
    verdict = Verdict(True, (), NOON, setpoints)
    context = GateContext(
        stages={}, trust=None, travel_last_h={}, last_moved_at={}, is_stopped=False
    )
    return Round(seen(PLANT), None, twin, plan, setpoints, verdict, context)


def rolling() -> MillState:
    """A mill that rolls."""
    return MillState(None, None, NOON)


def test_a_stop_is_the_reason_with_its_age_and_what_is_left() -> None:
    """What the planner reckons with, not only what the crew said."""
    since = NOON - timedelta(minutes=12)
    sure = StopBelief(1500.0, 5.0, 1.0, 0.01, 9)  # the crew is always right
    mill = MillState(since, NOON + timedelta(minutes=25), NOON, sure)
    told = slab_reasons(PLANT, round_of(mill), forecast(outlook(FIRST, 30, cold_chance=0.01)))
    assert told == (
        "zone 4 -18 K: mill stopped 12 min ago, 25 more expected; saves 41 EUR/h against keeping "
        f"all setpoints; risk cold 1 % (slab {FIRST}). Limited by the header at its highest."
    )


def test_a_rolling_mill_and_another_mix_are_told() -> None:
    """Thicker and hotter slabs to come are why zones move while nothing else happens."""
    yard = (Slab(200, 0.25, 420.0, 0, 180.0),) * 3
    told = slab_reasons(PLANT, round_of(rolling(), yard=yard))
    assert "mill runs 195 t/h; slabs to come are 30 mm thicker and charged 400 K hotter" in told
    assert "risk" not in told


@pytest.mark.parametrize(("leaves_min", "is_told"), [(30, True), (90, False)])
def test_only_slabs_that_leave_under_this_plan_are_its_risk(
    leaves_min: float, is_told: bool
) -> None:
    """An hour ahead; what leaves later, later plans answer for."""
    fan = forecast(
        outlook(FIRST, 10),
        outlook(FIRST + 1, leaves_min, cold_chance=0.4, in_spec_chance=0.55),
    )
    told = slab_reasons(PLANT, round_of(rolling()), fan)
    assert ("risk cold 40 % (slab 102), in spec 55 % at worst (slab 102)" in told) is is_told
    assert ("risk cold below 1 %" in told) is not is_told


def test_other_mvs_are_named_from_and_to() -> None:
    """A pace is no temperature."""
    told = slab_reasons(PLANT, round_of(rolling(), moves={"pace.setpoint": 0.95}))
    assert told.startswith("pace.setpoint 1.000 to 0.950: ")


def test_a_plan_that_costs_more_says_so() -> None:
    """Negative savings are costs."""
    done = round_of(rolling())
    dear = replace(done, plan=replace(done.plan, cost_per_h=1100.0))
    assert "costs 59 EUR/h more than keeping all setpoints" in slab_reasons(PLANT, dear)


def test_a_proposal_of_a_furnace_carries_these_reasons() -> None:
    """The words come from the same door as every other plant's."""
    done = round_of(rolling())
    assert describe(done, PLANT) == slab_reasons(PLANT, done)
