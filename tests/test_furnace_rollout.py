"""Rollouts of the furnace, when slabs leave, how likely they are in spec, and how stops last."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from furnace_line import FURNACE, MILL, PLANT

from twin.furnace.chances import MEASURED, cold_chance, in_spec_chance, leaving_sd_k
from twin.furnace.faults import Faults
from twin.furnace.mill_watch import MillWatch
from twin.furnace.rollout import Passage, Rollout, leaving_steps, mass_t, rolling_s
from twin.furnace.state import (
    FurnaceState,
    MillState,
    Slab,
    SlabState,
    Stop,
    StopBelief,
    ZoneState,
)
from twin.furnace.stops import Remaining, StopRecord, remaining, stop_belief
from twin.furnace.tracking import Tracker
from twin.plants.furnace.truth import Truth
from twin.plants.furnace.yard import Yard
from twin.records import Series, Window
from twin.state import window

AT = datetime(2026, 1, 5, tzinfo=UTC)
SLAB = Slab(1, 0.22, 20.0, 0, 200.0)
SETPOINTS_C = np.array([930.0, 1170.0, 1250.0, 1245.0])
STEPS = 200


def furnace_state() -> FurnaceState:
    """A full furnace of equal slabs, each about as hot as its place; the mill rolls."""

    def inside(place: int) -> SlabState:
        at_c = 20.0 + 1190.0 * ((FURNACE.slots - place - 0.5) / FURNACE.slots) ** 0.8
        slab = replace(SLAB, number=place + 1)
        return SlabState(slab, (at_c,) * 4, at_c, 0.0, (1.0,) * 5, 1.5)

    fuel_w = (10e6, 30e6, 22e6, 5e6)
    return FurnaceState(
        at=AT,
        slabs=tuple(inside(place) for place in range(FURNACE.slots)),
        yard=tuple(replace(SLAB, number=100 + k) for k in range(FURNACE.yard_places)),
        zones=tuple(
            ZoneState(c, c - 15.0, c, w, 0.0)
            for c, w in zip(SETPOINTS_C.tolist(), fuel_w, strict=True)
        ),
        mill=MillState(None, None, AT + timedelta(minutes=2)),
    )


STATE = furnace_state()


def stood(minutes: float, expected_min: float | None) -> FurnaceState:
    """The mill has stood for `minutes`; its crew expected `expected_min` in all."""
    since = AT - timedelta(minutes=minutes)
    restart = None if expected_min is None else since + timedelta(minutes=expected_min)
    return replace(STATE, mill=replace(STATE.mill, stopped_since=since, expected_restart=restart))


def passed(state: FurnaceState = STATE, raise_k: float = 0.0, pace: float = 1.0) -> Passage:
    leaves = leaving_steps(FURNACE, state, STEPS, pace=pace, restart_s=None)
    path = np.tile(SETPOINTS_C + raise_k, (STEPS, 1))
    return Rollout(FURNACE, state, leaves).run(path)


# --- when slabs leave


def test_slabs_leave_at_their_rate_and_rounding_does_not_add_up() -> None:
    """23.3 t at 200 t/h is 7.0 min; in 200 min 29 leave, none a minute off."""
    assert mass_t(FURNACE, SLAB) == pytest.approx(0.22 * 9.0 * 1.5 * 7.85)
    each_s = rolling_s(FURNACE, SLAB)
    assert len(leaving_steps(FURNACE, STATE, STEPS, pace=1.0, restart_s=None)) == 29
    leaves = leaving_steps(FURNACE, STATE, STEPS, pace=0.95, restart_s=None)
    exact = [2.0 + k * each_s / 0.95 / 60.0 for k in range(len(leaves))]
    assert all(0.0 <= step - due < 1.0 for step, due in zip(leaves, exact, strict=True))


def test_pace_and_stops_move_every_slab() -> None:
    """At half the pace half as many leave; while the mill stands none does."""
    usual = leaving_steps(FURNACE, STATE, STEPS, pace=1.0, restart_s=None)
    slow = leaving_steps(FURNACE, STATE, STEPS, pace=0.5, restart_s=None)
    assert slow == usual[::2]
    later = leaving_steps(FURNACE, STATE, STEPS, pace=1.0, restart_s=3600.0)
    assert later[0] == 60
    assert leaving_steps(FURNACE, STATE, STEPS, pace=1.0, restart_s=1e6) == []


# --- rollouts


def test_a_rollout_may_be_asked_again() -> None:
    """Every run begins at the same state, whatever was run before."""
    leaves = leaving_steps(FURNACE, STATE, STEPS, pace=1.0, restart_s=None)
    rollout = Rollout(FURNACE, STATE, leaves)
    path = np.tile(SETPOINTS_C, (STEPS, 1))
    first = rollout.run(path)
    rollout.run(path + 40.0)
    again = rollout.run(path)
    np.testing.assert_array_equal(first.mean_c, again.mean_c)
    np.testing.assert_array_equal(first.fuel_w, again.fuel_w)
    assert [slab.number for slab in rollout.leaving] == [*range(1, 29), 100]


def test_hotter_zones_and_slower_mills_make_hotter_slabs() -> None:
    """More setpoint: hotter, more fuel, more scale. A slower mill: hotter and more even."""
    usual, hot, slow = passed(), passed(raise_k=20.0), passed(pace=0.8)
    assert (hot.mean_c[1:] > usual.mean_c[1:]).all()
    assert hot.fuel_w.sum() > usual.fuel_w.sum()
    assert hot.scale_kg_per_m2[-1] > usual.scale_kg_per_m2[-1]
    assert hot.stored_j > usual.stored_j
    both = len(slow.mean_c)
    assert (slow.mean_c[1:] > usual.mean_c[1:both]).all()
    assert (slow.difference_k[10:] < usual.difference_k[10:both]).all()


def test_what_is_learned_counts_for_slabs_inside_and_to_come() -> None:
    """8 % less exchange: the first slab by its own response, the last by its whole passage."""
    learned = replace(STATE, emissivity_percent={0: -8.0})
    usual, less = passed(), passed(learned)
    assert usual.mean_c[0] - less.mean_c[0] == pytest.approx(8.0, abs=1.0)
    assert usual.mean_c[-1] - less.mean_c[-1] > 2.0


def test_slabs_leave_in_turn() -> None:
    with pytest.raises(ValueError, match="do not ascend"):
        Rollout(FURNACE, STATE, [3, 2])


def test_a_rollout_balances_what_it_burns() -> None:
    """A zone that loses 1 MW more burns so much more, over what the flue gas takes along."""
    lossy = replace(STATE, zones=tuple(replace(zone, extra_w=2.5e5) for zone in STATE.zones))
    more_w = (passed(lossy).fuel_w - passed().fuel_w)[60:].sum(axis=1).mean()
    assert 1.0e6 < more_w < 2.2e6


# --- chances


def passage_at(mean_c: float, difference_k: float, surface_c: float) -> Passage:
    one = np.ones(1)
    return Passage(mean_c * one, difference_k * one, surface_c * one, one, one, one, surface_c, 0.0)


@pytest.mark.parametrize(
    ("mean_c", "difference_k", "surface_c"),
    [(1220.0, 15.0, 1240.0), (1206.0, 15.0, 1240.0), (1220.0, 29.5, 1240.0), (1230, 5, 1287.0)],
)
def test_chances_are_the_shares_of_many_draws(
    mean_c: float, difference_k: float, surface_c: float
) -> None:
    """Against brute force: means, differences and surfaces drawn 200,000 times."""
    spec, sd_k, rng = FURNACE.spec, np.array([4.0]), np.random.default_rng(1)
    passage = passage_at(mean_c, difference_k, surface_c)
    means = rng.normal(mean_c, 4.0, 200_000)
    differences = difference_k + rng.normal(*MEASURED.difference_k, means.size)
    surfaces = surface_c + rng.normal(*MEASURED.surface_k, means.size)
    is_mean = (means >= spec.mean_c[0]) & (means <= spec.mean_c[1])
    is_in = is_mean & (differences <= spec.difference_k) & (surfaces <= spec.surface_c)
    assert in_spec_chance(spec, passage, sd_k)[0] == pytest.approx(is_in.mean(), abs=5e-3)
    cold = (means < spec.mean_c[0]).mean()
    assert cold_chance(spec, passage, sd_k)[0] == pytest.approx(cold, abs=5e-3)


def test_what_is_unsure_now_fades_on_the_way_but_doubt_stays() -> None:
    """A slab 20 K unsure leaves nearly as unsure now and usual in three hours."""
    unsure = [replace(each, sd_k=20.0) for each in STATE.slabs]
    unsure[27] = replace(unsure[27], doubt="its record is gone")
    leaves = [7 * k for k in range(29)]
    sd_k = leaving_sd_k(replace(STATE, slabs=tuple(unsure)), leaves)
    usual_k = leaving_sd_k(STATE, leaves)
    assert sd_k[0] == pytest.approx(20.0, abs=0.2)
    assert sd_k[26] < usual_k[26] + 1.0
    assert sd_k[27] > 19.0
    assert sd_k[28] == usual_k[28]
    unlearned = leaving_sd_k(replace(STATE, emissivity_sd_k={0: 12.0}), leaves)
    assert (unlearned > 11.0).all()


@pytest.fixture(scope="module")
def real_day() -> tuple[Truth, Window]:
    truth = Truth(PLANT, seed=1004, start=AT)
    samples = truth.advance_samples(AT + timedelta(hours=30))
    return truth, window(PLANT, samples, truth.now, 30 * 60 - 30)


def test_forecasts_of_a_real_day_are_as_sure_as_they_say(real_day: tuple[Truth, Window]) -> None:
    """Along the real setpoints and stops: 90 % bands hold 80 to 97 %, chances add to the share."""
    truth, past = real_day
    real = {d.slab.number: d for d in truth.discharged}
    gone = past.values[FURNACE.discharged]
    setpoints = np.column_stack([past.values[zone.setpoint] for zone in FURNACE.zones])
    tracker, errors, sds, chances, are_in = Tracker(FURNACE, MILL), [], [], [], []
    for row in range(12 * 60, past.rows - STEPS, 90):
        head = {tag: series[: row + 1] for tag, series in past.values.items()}
        tracker.observe(Window(past.end - timedelta(minutes=past.rows - 1 - row), 60.0, head))
        state = tracker.state()
        assert state is not None
        numbers = [each.slab.number for each in state.slabs]
        leaves = [int(np.argmax(gone[row:] == number)) for number in numbers]
        leaves = [step for step in leaves if 0 < step < STEPS]
        passage = Rollout(FURNACE, state, leaves).run(setpoints[row + 1 : row + 1 + STEPS])
        sd_k = leaving_sd_k(state, leaves)
        truths = [real[number] for number in numbers[: len(leaves)]]
        errors += (np.array([d.mean_c for d in truths]) - passage.mean_c).tolist()
        sds += sd_k.tolist()
        chances += in_spec_chance(FURNACE.spec, passage, sd_k).tolist()
        are_in += [1205.0 <= d.mean_c <= 1235.0 and d.difference_k <= 30.0 for d in truths]
    assert len(errors) > 200
    held = np.abs(errors) < 1.645 * np.array(sds)
    assert 0.80 <= held.mean() <= 0.97
    assert np.mean(chances) == pytest.approx(np.mean(are_in), abs=0.05)
    sharp = np.array(chances) > 0.95
    assert np.mean(np.array(are_in)[sharp]) > 0.93


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_furnace_with_gaps_is_refused(count: int) -> None:
    """Tracking fills every slot; equations that know no gap are not asked about one."""
    state = replace(STATE, slabs=STATE.slabs[:count])
    with pytest.raises(ValueError, match=f"{count} slabs are tracked .* 28 slots"):
        leaving_steps(FURNACE, state, STEPS, pace=1.0, restart_s=None)
    with pytest.raises(ValueError, match=f"{count} slabs are tracked .* 28 slots"):
        Rollout(FURNACE, state, [])


def test_slabs_behind_an_empty_yard_are_like_the_last_one_and_in_doubt() -> None:
    """Nobody knows which come: they are planned for, and told to be less sure."""
    state = replace(STATE, yard=())
    leaves = leaving_steps(FURNACE, state, 240, pace=1.0, restart_s=None)
    rollout = Rollout(FURNACE, state, leaves)
    assert len(leaves) > FURNACE.slots
    assert rollout.leaving[-1] == state.slabs[-1].slab
    passage = rollout.run(np.tile(SETPOINTS_C, (240, 1)))
    assert np.isfinite(passage.mean_c).all()
    sd_k = leaving_sd_k(state, leaves)
    assert sd_k[: FURNACE.slots].max() < 5.0
    assert sd_k[FURNACE.slots :].min() > 12.0


def test_an_estimate_that_a_stop_has_outlasted_counts_no_more() -> None:
    """Half an hour was said: after forty minutes it still counts, after two hours it does not."""
    soon, late = remaining(MILL, stood(40.0, 30.0)), remaining(MILL, stood(120.0, 30.0))
    untold = remaining(MILL, stood(120.0, None))
    assert soon is not None
    assert soon.sigma < 0.5
    assert late == untold


# --- stops


def brute_left_s(median_s: float, sigma: float, age_s: float) -> Series:
    lasts = median_s * np.exp(sigma * np.random.default_rng(3).normal(size=4_000_000))
    left: Series = lasts[lasts > age_s] - age_s
    return left


@pytest.mark.parametrize("age_s", [0.0, 600.0, 3600.0, 7200.0])
def test_what_is_left_of_a_stop_is_what_brute_force_says(age_s: float) -> None:
    """Mean, quantiles and samples of a log-normal stop that has lasted for a while."""
    left, brute_s = Remaining(1200.0, 0.75, age_s), brute_left_s(1200.0, 0.75, age_s)
    assert left.mean_s() == pytest.approx(brute_s.mean(), rel=0.02)
    for share in (0.05, 0.5, 0.9):
        assert left.quantile_s(share) == pytest.approx(np.quantile(brute_s, share), rel=0.03)
    drawn_s = left.samples_s(np.random.default_rng(4).random(100_000))
    assert drawn_s.mean() == pytest.approx(brute_s.mean(), rel=0.03)
    assert drawn_s.min() >= 0.0


def test_a_stop_far_older_than_any_still_has_a_remainder() -> None:
    """No division by nothing: a week into a stop of minutes, what is left is finite and long."""
    left = Remaining(300.0, 0.1, 7 * 24 * 3600.0)
    assert 0.0 < left.mean_s() < left.age_s
    drawn_s = left.samples_s(np.linspace(0.0, 0.999, 50))
    assert np.isfinite(drawn_s).all()
    assert (np.diff(drawn_s) > 0.0).all()
    assert drawn_s.mean() == pytest.approx(left.mean_s(), rel=0.1)


def test_the_crews_estimate_counts_by_its_precision() -> None:
    """Against brute force: stops of the plant file whose estimate came out at 60 min."""
    rng, belief = np.random.default_rng(5), stop_belief(MILL)
    lasts_s = belief.median_s * np.exp(belief.sigma * rng.normal(size=4_000_000))
    told_s = lasts_s * np.exp(belief.estimate_sigma * rng.normal(size=lasts_s.size))
    alike_s = lasts_s[(np.abs(told_s / 3600.0 - 1.0) < 0.02) & (lasts_s > 1200.0)] - 1200.0
    left = remaining(MILL, stood(20.0, 60.0))
    assert left is not None
    assert left.mean_s() == pytest.approx(alike_s.mean(), rel=0.03)
    assert left.quantile_s(0.9) == pytest.approx(np.quantile(alike_s, 0.9), rel=0.03)


def test_the_longer_a_stop_lasts_the_longer_it_will_last() -> None:
    """As log-normals do past their middle; a fresh stop is the plant file's."""
    means = [remaining(MILL, stood(minutes, None)) for minutes in (0, 30, 60, 120, 179)]
    left_s = [each.mean_s() for each in means if each is not None]
    assert len(left_s) == 5
    assert left_s[1:] == sorted(left_s[1:])
    assert remaining(MILL, STATE) is None
    assert left_s[0] == pytest.approx(60.0 * MILL.stop_mean_min)


def test_past_stops_teach_how_long_stops_last() -> None:
    """Few stops hardly move the plant file's figures; many replace them."""
    rng, prior = np.random.default_rng(6), stop_belief(MILL)
    lasts_s = 3000.0 * np.exp(0.4 * rng.normal(size=400))
    told_s = lasts_s * 1.5 * np.exp(0.2 * rng.normal(size=400))
    stops = [Stop(0.0, a, b) for a, b in zip(lasts_s.tolist(), told_s.tolist(), strict=True)]
    few, many = stop_belief(MILL, stops[:2]), stop_belief(MILL, stops)
    assert prior.median_s < few.median_s < 2.0 * prior.median_s
    assert many.median_s == pytest.approx(3000.0, rel=0.1)
    assert many.sigma == pytest.approx(0.4, abs=0.1)
    assert many.estimate_factor == pytest.approx(1.5, rel=0.05)
    assert many.estimate_sigma == pytest.approx(0.2, abs=0.05)
    silent = stop_belief(MILL, [Stop(0.0, 1500.0, math.nan)])
    assert silent.estimate_factor == 1.0


def test_stops_are_read_from_the_record_of_a_real_day(real_day: tuple[Truth, Window]) -> None:
    """Every stop that began and ended in it, within a minute, with what its crew first said."""
    truth, past = real_day
    yard, began_s = Yard(1004), past.end.timestamp() - 60.0 * (past.rows - 1)
    zero_s = truth.zero.timestamp()
    real = [
        (yard.slab(d.slab.number).stop_s, yard.slab(d.slab.number).expected_stop_s)
        for d in truth.discharged
        if d.slab.stop_s > 0 and began_s < zero_s + d.at_s < past.end.timestamp() - d.slab.stop_s
    ]
    record = StopRecord()
    record.follow(MILL, past)
    seen = record.past
    assert len(real) >= 3
    assert len(seen) == len(real)
    for stop, (lasts_s, told_s) in zip(seen, real, strict=True):
        assert stop.lasted_s == pytest.approx(lasts_s, abs=60.0)
        assert stop.expected_s == pytest.approx(told_s, abs=1.0)


def test_the_mills_record_is_doubted_where_it_cannot_be() -> None:
    """A beginning in the future counts as now; slabs that leave a standing mill are told."""
    told = Faults()
    mill = MillWatch(MILL, told)
    tomorrow_s = (AT + timedelta(days=1)).timestamp()
    for minute in range(5):
        at = AT + timedelta(minutes=minute)
        seen = dict(zip(mill.tags, (0.0, tomorrow_s, 0.0, math.nan), strict=True))
        mill.see(at, seen, is_held=False)
    assert mill.state(at).stopped_since == AT
    mill.slab_left(at, 420.0)
    texts = [fault.message for fault in told.present(at)]
    assert any("must be in the past" in text for text in texts)
    assert any("but a slab has left" in text for text in texts)


def test_pace_counts_for_when_the_next_slab_is_due() -> None:
    """At pace 0.8 a slab of seven minutes takes 8:45, from half a minute ago."""
    mill = MillWatch(MILL, Faults())
    mill.see(AT, dict(zip(mill.tags, (1.0, 0.0, 0.0, 0.8), strict=True)), is_held=False)
    mill.slab_left(AT, 420.0)
    assert mill.state(AT).due == AT + timedelta(seconds=525 - 30)


def test_belief_is_what_the_plant_file_says_before_any_stop() -> None:
    """Mean 25 min and sigma .75 make a median of 18.9 min."""
    belief = stop_belief(MILL)
    assert belief.median_s == pytest.approx(25 * 60 * math.exp(-(0.75**2) / 2))
    assert replace(belief, median_s=1.0) == StopBelief(1.0, 0.75, 1.0, 0.35, 0)
