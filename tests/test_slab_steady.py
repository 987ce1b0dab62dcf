"""The steady target: true to the twin, ranked, cheaper than custom, and honest when it fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from furnace_line import COLD, FURNACE, HOT, PLANT, full_furnace, with_blocks
from hypothesis import given
from hypothesis import strategies as st

from optimizer import slab_equations as eq
from optimizer.slab_mix import coming_mix
from optimizer.slab_steady import SteadyPlanner, TargetStatus, target_words
from twin.furnace import kernel
from twin.furnace.numbers import STEP_S, numbers
from twin.furnace.rollout import Passage, Rollout, leaving_steps
from twin.furnace.state import FurnaceState, Slab
from twin.furnace.steel import steel
from twin.plants.furnace.baseline import CUSTOMARY_C, CUSTOMARY_SLOPE
from twin.records import Series

PATIENT_S = 60.0  # a busy machine must not time out what is not about time
LONG_MIN = 960  # four passages: nothing of how the furnace began is left
MIXES = [[COLD], [COLD, HOT], [Slab(0, 0.25, 20.0, 2, 180.0), Slab(0, 0.22, 20.0, 0, 200.0)]]


@pytest.fixture(scope="module")
def planner() -> SteadyPlanner:
    return SteadyPlanner(PLANT, deadline_s=PATIENT_S)


def fed(mix: Sequence[Slab]) -> FurnaceState:
    """The furnace with a yard of nothing but `mix`, one after the other."""
    return replace(full_furnace(), yard=tuple(mix) * (200 // len(mix)))


def held(mix: Sequence[Slab], setpoints_c: Series) -> tuple[Passage, list[Slab]]:
    """The twin's rollout at constant setpoints, and which slabs leave."""
    state = fed(mix)
    leaves = leaving_steps(FURNACE, state, LONG_MIN, pace=1.0, restart_s=None)
    rollout = Rollout(FURNACE, state, leaves)
    return rollout.run(np.tile(setpoints_c, (LONG_MIN, 1))), list(rollout.leaving)


def last_means(mix: Sequence[Slab], passage: Passage, slabs: Sequence[Slab]) -> dict[float, float]:
    """Mean temperature of the last few slabs of each thickness."""
    late = list(zip(slabs, passage.mean_c.tolist(), strict=True))[-6 * len(mix) :]
    kinds = {slab.thickness_m for slab, _ in late}
    return {m: float(np.mean([c for s, c in late if s.thickness_m == m])) for m in kinds}


def fuel_mw(passage: Passage) -> float:
    """Mean of all zones over the last six hours, whole campaigns of every mix here."""
    return float(passage.fuel_w[-360:].sum(axis=1).mean()) / 1e6


# --- true to the twin


@pytest.mark.parametrize("mix", MIXES)
def test_the_twin_held_at_the_target_comes_to_the_same(
    planner: SteadyPlanner, mix: list[Slab]
) -> None:
    """Sixteen hours at its setpoints: each group within 2.5 K, the fuel within 1 %."""
    target = planner.target(fed(mix), mix)
    assert target.status is TargetStatus.SOLVED
    passage, slabs = held(mix, target.setpoints_c)
    means = last_means(mix, passage, slabs)
    for group in target.groups:
        assert group.mean_c == pytest.approx(means[group.slab.thickness_m], abs=2.5)
    assert target.fuel_mw.sum() == pytest.approx(fuel_mw(passage), rel=0.01)


@pytest.mark.parametrize("mix", MIXES)
def test_it_burns_less_than_the_customary_profile(planner: SteadyPlanner, mix: list[Slab]) -> None:
    """Same slabs, same mean temperature at the door, both rolled out by the twin."""
    target = planner.target(fed(mix), mix)
    passage, slabs = held(mix, target.setpoints_c)
    aim_c = np.mean(list(last_means(mix, passage, slabs).values()))
    low, high = -60.0, 120.0
    for _ in range(20):  # the customary profile's one number, by halving
        middle = 0.5 * (low + high)
        customary, slabs = held(mix, CUSTOMARY_C + CUSTOMARY_SLOPE * middle)
        is_hotter = np.mean(list(last_means(mix, customary, slabs).values())) > aim_c
        low, high = (low, middle) if is_hotter else (middle, high)
    assert fuel_mw(passage) < 0.99 * fuel_mw(customary)


def test_what_tracking_learned_moves_the_target(planner: SteadyPlanner) -> None:
    """Slabs that take up more heat want cooler zones; a leak in a zone costs its heat in fuel."""
    usual = planner.target(fed([COLD]), [COLD])
    state = replace(fed([COLD]), emissivity_percent={COLD.grade: 10.0})
    keen = planner.target(state, [COLD])
    assert keen.setpoints_c.mean() < usual.setpoints_c.mean() - 5.0
    zones = (*state.zones[:1], replace(state.zones[1], extra_w=2e6), *state.zones[2:])
    leaky = planner.target(replace(fed([COLD]), zones=zones), [COLD])
    assert leaky.fuel_mw.sum() > usual.fuel_mw.sum() + 2.0


# --- the ranks


def test_a_face_that_may_not_be_hot_comes_before_the_spec() -> None:
    """Faces up to 1180 °C only: slabs leave colder than the spec, and both are said."""
    spec = replace(FURNACE.spec, surface_c=1180.0)
    target = SteadyPlanner(with_blocks(spec=spec), deadline_s=PATIENT_S).target(fed([COLD]), [COLD])
    assert target.status is TargetStatus.SOLVED
    assert target.limits_k == {}
    assert target.groups[0].surface_c <= 1180.0
    (name,) = target.quality_k
    assert name == "slabs below 1205 °C"
    assert target.quality_k[name] == pytest.approx(1205.0 - target.groups[0].mean_c, abs=0.1)


def test_the_spec_comes_before_money() -> None:
    """A slab out of spec costs nothing here: it is heated into spec all the same, no further."""
    spec = replace(FURNACE.spec, off_spec_price=0.0)
    target = SteadyPlanner(with_blocks(spec=spec), deadline_s=PATIENT_S).target(fed([COLD]), [COLD])
    assert target.groups[0].mean_c == pytest.approx(1205.0, abs=0.1)
    assert "slabs at 1205 °C" in target.binding


def test_a_dearer_slab_out_of_spec_is_kept_further_inside(planner: SteadyPlanner) -> None:
    """What a pass is worth decides how far from the edge a slab is aimed."""
    spec = replace(FURNACE.spec, off_spec_price=1000.0)
    dear = SteadyPlanner(with_blocks(spec=spec), deadline_s=PATIENT_S).target(fed([COLD]), [COLD])
    usual = planner.target(fed([COLD]), [COLD])
    assert dear.groups[0].mean_c > usual.groups[0].mean_c + 1.0
    assert dear.groups[0].in_spec_chance > usual.groups[0].in_spec_chance


def test_what_burners_cannot_do_is_infeasible_and_named(planner: SteadyPlanner) -> None:
    """A hole in zone 1: its burners cannot keep it at its lowest setpoint."""
    state = fed([COLD])
    zones = (replace(state.zones[0], extra_w=40e6), *state.zones[1:])
    target = planner.target(replace(state, zones=zones), [COLD])
    assert target.status is TargetStatus.INFEASIBLE
    assert "zone_1.setpoint below its range by" in target.reason
    assert target.limits_k["zone_1.setpoint below its range"] > 10.0
    assert np.isfinite(target.setpoints_c).all()


# --- when it cannot, and again


def test_an_earlier_answer_changes_how_it_is_found_not_what() -> None:
    """Asked for another mix in between, the same question has the same answer."""
    planner = SteadyPlanner(PLANT, deadline_s=PATIENT_S)
    first = planner.target(fed([COLD]), [COLD])
    planner.target(fed([COLD, HOT]), [COLD, HOT])
    again = planner.target(fed([COLD]), [COLD])
    assert again.setpoints_c == pytest.approx(first.setpoints_c, abs=0.5)
    assert again.cost_per_h == pytest.approx(first.cost_per_h, rel=1e-4)


def _after(state: FurnaceState, minutes: int) -> FurnaceState:
    return replace(state, at=state.at + timedelta(minutes=minutes))


def test_a_target_is_kept_for_an_hour_and_sought_anew_rank_by_rank() -> None:
    """The mix changes slowly, and no round waits for three solves: the old one counts meanwhile."""
    planner, state = SteadyPlanner(PLANT, deadline_s=PATIENT_S), fed([COLD])
    target = planner.recent(state)
    assert planner.recent(_after(state, 59)) is target
    assert [planner.recent(_after(state, minutes)) for minutes in (61, 66)] == [target] * 2
    anew = planner.recent(_after(state, 71))
    assert anew is not target
    assert anew.setpoints_c == pytest.approx(target.setpoints_c, abs=0.5)
    assert planner.recent(_after(state, 120)) is anew  # an hour counts from when it was asked
    assert planner.recent(_after(state, 122)) is anew  # the first rank of the next one


@pytest.mark.parametrize("hours", [5, -5])
def test_after_a_long_break_the_mix_of_now_is_asked_at_once(
    planner: SteadyPlanner, hours: int
) -> None:
    """What was known or begun hours ago, or by a clock that was wrong, is of no use."""
    state = fed([COLD])
    planner.recent(state)
    planner.recent(_after(state, 61))
    hot = replace(fed([HOT]), at=state.at + timedelta(hours=hours))
    assert planner.recent(hot).groups[0].slab == HOT


def test_what_failed_with_an_error_is_begun_again(planner: SteadyPlanner) -> None:
    """A state that cannot be read is an error once; it does not end all seeking."""
    state = fed([COLD])
    target = planner.recent(state)
    broken = replace(_after(state, 61), zones=())
    with pytest.raises(KeyError):
        planner.recent(broken)
    assert [planner.recent(_after(state, minutes)) for minutes in (62, 67)] == [target] * 2
    assert planner.recent(_after(state, 72)) is not target


def test_nothing_known_is_asked_again_at_once() -> None:
    """Before the first slab is seen there is no target, and then there is one."""
    planner, state = SteadyPlanner(PLANT, deadline_s=PATIENT_S), fed([COLD])
    assert planner.recent(replace(state, slabs=(), yard=())).status is TargetStatus.NO_STATE
    assert planner.recent(state).status is TargetStatus.SOLVED


def test_out_of_time_is_an_answer() -> None:
    """A microsecond is not enough, and the answer says so."""
    target = SteadyPlanner(PLANT, deadline_s=1e-6).target(fed([COLD]), [COLD])
    assert target.status is TargetStatus.TIMED_OUT
    assert not target.is_usable
    assert "time" in target.reason.lower()


def test_what_is_not_known_is_named(planner: SteadyPlanner) -> None:
    """No slab, or a number that is none: a reason, no exception."""
    state = fed([COLD])
    nobody = planner.target(replace(state, slabs=(), yard=()))
    assert (nobody.status, nobody.reason) == (TargetStatus.NO_STATE, "no slab is known")
    zones = (replace(state.zones[0], extra_w=float("nan")), *state.zones[1:])
    unknown = planner.target(replace(state, zones=zones))
    assert unknown.status is TargetStatus.NO_STATE
    assert unknown.reason == "zone_1.temperature: what its zone loses besides is not known"
    assert "not known" in target_words(unknown, "EUR")


def test_a_person_is_told_mix_zones_and_limits(planner: SteadyPlanner) -> None:
    """Shares, thickness, charge, setpoints and what limits it: all in one text."""
    target = planner.target(fed([COLD, HOT]), [COLD, HOT])
    text = target_words(target, "EUR")
    for words in ("50 % of 220 mm at 20 °C", "50 % of 200 mm at 450 °C", "GJ/t", "EUR/h"):
        assert words in text
    assert " / ".join(f"{setpoint_c:.0f}" for setpoint_c in target.setpoints_c) in text
    assert all(limit in text for limit in target.binding)


# --- the mix

_SLABS = st.builds(
    Slab,
    number=st.just(0),
    thickness_m=st.sampled_from([0.18, 0.20, 0.22, 0.25]),
    charge_c=st.sampled_from([20.0, 400.0, 450.0, 500.0, 600.0]),
    grade=st.sampled_from([0, 1, 2]),
    rate_t_per_h=st.floats(175.0, 225.0),
)


@given(slabs=st.lists(_SLABS, min_size=1, max_size=40), most=st.integers(1, 5))
def test_groups_are_few_and_lose_no_slab(slabs: list[Slab], most: int) -> None:
    """Shares add up, the largest come first, and the mix keeps its mean thickness and charge."""
    groups = coming_mix(FURNACE, slabs, most)
    shares = [group.share for group in groups]
    assert len(groups) <= most
    assert sum(shares) == pytest.approx(1.0)
    assert shares == sorted(shares, reverse=True)
    for key in ("thickness_m", "charge_c"):
        mean = sum(group.share * getattr(group.slab, key) for group in groups)
        assert mean == pytest.approx(np.mean([getattr(slab, key) for slab in slabs]))


def test_unlike_slabs_are_told_apart() -> None:
    """Two thicknesses that differ little become one group before cold and hot ones do."""
    slabs = [replace(COLD, thickness_m=0.22), replace(COLD, thickness_m=0.225), HOT]
    groups = coming_mix(FURNACE, slabs, 2)
    assert [group.share for group in groups] == pytest.approx([2 / 3, 1 / 3])
    assert groups[1].slab.charge_c == HOT.charge_c


# --- the equations against the compiled ones

_ZONE_C = st.floats(850.0, 1300.0)


@given(
    gas_c=st.tuples(_ZONE_C, _ZONE_C, _ZONE_C, _ZONE_C),
    wall_c=st.tuples(_ZONE_C, _ZONE_C, _ZONE_C, _ZONE_C),
    fuel_mw=st.tuples(*(st.floats(0.6, 40.0),) * 4),
)
def test_zones_balance_as_in_the_compiled_equations(
    gas_c: tuple[float, ...], wall_c: tuple[float, ...], fuel_mw: tuple[float, ...]
) -> None:
    """What fuel brings and nothing explains is the same by both, but for one rounded corner."""
    count, of = len(gas_c), eq.ZoneEquations(FURNACE)
    zones = kernel.Zones(np.array(gas_c), np.array(wall_c), np.array(gas_c), np.zeros(count))
    expected_w = np.zeros(count)
    kernel.surplus(
        numbers(FURNACE), zones, np.array(gas_c), np.zeros(count), 1e6 * np.array(fuel_mw),
        STEP_S, expected_w,
    )  # fmt: skip
    gas = [at / eq.HUNDRED_K for at in gas_c]
    fuel = [1e6 * mw / eq.TEN_MW for mw in fuel_mw]
    for z in range(count):
        needs = of.losses(z, gas) + of.into_wall(z, gas[z], wall_c[z] / eq.HUNDRED_K)
        found_mw = eq.TEN_MW / 1e6 * of.surplus(z, gas, fuel, needs)
        assert found_mw == pytest.approx(expected_w[z] / 1e6, abs=0.001 * max(fuel_mw) + 1e-6)


def test_the_steel_is_that_of_the_table() -> None:
    """Within a degree above 900 °C, and 8 K where a slab is cold and it does not matter."""
    curve, table = eq.steel_curve(FURNACE), steel(FURNACE).enthalpy
    off_k = [
        eq.HUNDRED_K * float(curve.temperature(table[t_c] / eq.ENTHALPY)) - t_c
        for t_c in range(20, 1400)
    ]
    assert np.abs(off_k).max() < 8.0
    assert np.abs(off_k[880:]).max() < 1.0
