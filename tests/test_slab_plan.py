"""The furnace's plan: what it costs in money, where slabs are aimed, and when the mill slows."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import numpy as np
import pytest
from furnace_line import AT, FURNACE, HOLD, MILL, full_furnace

from optimizer.slab_cost import Pricing, SlabCost
from optimizer.slab_plan import SlabPlan, SlabPlanner, Tuning
from twin.furnace.rollout import Passage, Rollout, leaving_steps
from twin.furnace.state import FurnaceState, MillState
from twin.plant.furnace import Furnace, Mill
from twin.records import Series

STILL_C = np.array([float(path[0]) for path in HOLD.values()])
LOW_C, HIGH_C = np.array([780.0, 950.0, 1100.0, 1150.0]), np.array([1120.0, 1290.0, 1310.0, 1285.0])
TUNING = Tuning()


def planned(
    state: FurnaceState,
    *,
    furnace: Furnace = FURNACE,
    mill: Mill = MILL,
    paces: tuple[float, ...] = (1.0,),
) -> SlabPlan:
    def blocks(row: Series) -> Series:
        return np.tile(row, (len(TUNING.block_edges_min), 1))

    low, high = blocks(LOW_C), blocks(HIGH_C)
    low[0], high[0] = STILL_C - 25.0, np.minimum(STILL_C + 25.0, HIGH_C)
    planner = SlabPlanner(furnace, mill)
    return planner.plan(state, blocks(STILL_C), low, high, STILL_C, paces)


def priced(**changes: float) -> Furnace:
    """The furnace with other prices."""
    return dataclasses.replace(FURNACE, spec=dataclasses.replace(FURNACE.spec, **changes))


def held(state: FurnaceState) -> tuple[Passage, tuple[int, ...]]:
    """Where everything goes while setpoints stay."""
    leaves = leaving_steps(FURNACE, state, TUNING.predict_min, pace=1.0, restart_s=None)
    return Rollout(FURNACE, state, leaves).run(np.tile(STILL_C, (TUNING.predict_min, 1))), tuple(
        leaves
    )


def test_an_unsure_slab_is_aimed_further_inside() -> None:
    """A record in doubt takes the middle of the spec; there is always something left to aim at."""
    cost = SlabCost(FURNACE, Pricing())
    state = full_furnace(doubt="its record contradicts the beam")
    _, leaves = held(state)
    aim = cost.aim(state, leaves)
    assert aim.mean_k[0] > aim.mean_k[1] + 1.0
    low, high = FURNACE.spec.mean_c
    assert (low + aim.mean_k < high - aim.mean_k).all()


def test_money_counts_fuel_scale_and_slabs_out_of_spec_each_by_its_price() -> None:
    """Prices scale their own part alone; nothing is priced twice."""
    state = full_furnace()
    passage, leaves = held(state)

    def money(**changes: float) -> float:
        furnace = priced(**changes)
        cost = SlabCost(furnace, Pricing())
        return cost.money(passage, cost.aim(state, leaves))

    free = dict.fromkeys(("fuel_price_per_mwh", "steel_price_per_t", "off_spec_price"), 0.0)
    parts = [money(**(free | {name: 7.0})) for name in free]
    assert money(**free) == 0.0
    assert money(**dict.fromkeys(free, 7.0)) == pytest.approx(sum(parts))
    assert money(**(free | {"off_spec_price": 14.0})) == pytest.approx(2.0 * parts[2])
    burned_t = 2.0 * passage.scale_kg_per_m2.sum() * 9.0 * 1.5 / 1000.0
    assert parts[1] == pytest.approx(7.0 * burned_t)


def test_a_plan_is_no_worse_than_holding_and_stays_in_its_bounds() -> None:
    plan = planned(full_furnace())
    assert plan.cost_per_h < plan.holding_per_h
    assert (np.abs(plan.blocks_c[0] - STILL_C) <= 25.0 + 1e-9).all()
    assert ((plan.blocks_c >= LOW_C - 1e-9) & (plan.blocks_c <= HIGH_C + 1e-9)).all()


def test_what_a_plan_costs_is_what_it_burns_and_adds_to_store() -> None:
    """Heat that was there before is no income: held setpoints cost about the fuel they burn."""
    plan = planned(full_furnace(), furnace=priced(steel_price_per_t=0.0, off_spec_price=0.0))
    hours = TUNING.predict_min / 60.0
    fuel_per_h = 60.0 * plan.holding.fuel_w.sum() / 3.6e9 * 30.0 / hours
    assert plan.holding_per_h == pytest.approx(fuel_per_h, rel=0.35)
    assert plan.cost_per_h > 0.0


def test_dearer_fuel_never_burns_more() -> None:
    """Price moves the plan in the direction in which money lies."""
    state = full_furnace(warmer_k=30.0)
    cheap = planned(state, furnace=priced(fuel_price_per_mwh=10.0))
    dear = planned(state, furnace=priced(fuel_price_per_mwh=90.0))
    assert dear.passage.fuel_w.sum() < cheap.passage.fuel_w.sum()


def test_the_mill_slows_only_where_that_saves_more_than_it_holds_back() -> None:
    """Slabs far too cold at the door: time heats them; whether it pays is the tonne's price."""
    cold = full_furnace(warmer_k=-45.0)
    paces = (1.0, 0.95)
    worthless = dataclasses.replace(MILL, tonne_worth=0.1)
    dear = dataclasses.replace(MILL, tonne_worth=1000.0)
    assert planned(cold, mill=worthless, paces=paces).pace == 0.95
    assert planned(cold, mill=dear, paces=paces).pace == 1.0
    unknown = dataclasses.replace(MILL, tonne_worth=None)
    assert planned(cold, mill=unknown, paces=paces).pace == 1.0


def test_a_slow_mill_is_brought_back_where_nothing_is_gained() -> None:
    """The schedule's pace is tried whenever the mill is off it."""
    mill = dataclasses.replace(MILL, tonne_worth=20.0)
    assert planned(full_furnace(warmer_k=15.0), mill=mill, paces=(0.9, 0.95, 1.0)).pace == 1.0


def test_a_long_stop_is_planned_though_no_slab_leaves() -> None:
    """Nothing leaves within the horizon: fuel and store alone decide."""
    mill = MillState(AT.replace(hour=8), AT.replace(hour=20), AT)
    plan = planned(full_furnace(mill))
    assert np.isfinite(plan.cost_per_h)


def test_a_pace_that_nobody_may_move_stays_for_good() -> None:
    """At 0.85 some 29 slabs leave in 240 minutes, not the 33 of a mill that is back on schedule."""
    start_c = np.tile(STILL_C, (len(TUNING.block_edges_min), 1))
    planner, state = SlabPlanner(FURNACE, MILL), full_furnace()
    stays, moves = (
        planner.plan(state, start_c, start_c, start_c, STILL_C, (0.85,), keeps_pace=keeps)
        for keeps in (True, False)
    )
    assert list(stays.leaves) == leaving_steps(
        FURNACE, state, TUNING.predict_min, pace=0.85, restart_s=None
    )
    assert len(stays.leaves) < len(moves.leaves)


def test_what_a_stop_costs_is_expected_over_its_restarts() -> None:
    """People are told what the plan was sought by: an early restart costs, too, by its chance."""
    state = dataclasses.replace(
        full_furnace(), mill=MillState(AT - timedelta(minutes=20), None, AT)
    )
    start_c = np.tile(STILL_C - 60.0, (len(TUNING.block_edges_min), 1))

    def told(scenarios: tuple[tuple[float, float], ...]) -> tuple[float, float]:
        planner = SlabPlanner(FURNACE, MILL, dataclasses.replace(TUNING, stop_scenarios=scenarios))
        plan = planner.plan(state, start_c, start_c, start_c, STILL_C)
        return plan.cost_per_h, plan.holding_per_h

    apart = np.array([told(((share, 1.0),)) for share, _ in TUNING.stop_scenarios])
    weights = np.array([weight for _, weight in TUNING.stop_scenarios])
    assert np.ptp(apart[:, 0]) > 10.0
    assert told(TUNING.stop_scenarios) == pytest.approx(tuple(weights @ apart))
