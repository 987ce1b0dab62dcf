"""The learned residual of a furnace: it finds what is there, is harmless elsewhere, and travels."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from furnace_line import FURNACE, HOLD, MILL, PLANT, full_furnace
from made_furnace import FEATURES, HOURLY, ZONES, made_past, made_residual
from pydantic import TypeAdapter

from dashboard.cli.models import as_tracked
from dashboard.comparison.slab_errors import forecast_figures, slab_forecast_errors
from dashboard.settings import Settings
from dashboard.workers.trainer import train_once
from optimizer.controller import Model
from optimizer.slab_controller import SlabController
from optimizer.slab_study_start import SlabPresent
from twin.dynamics import registry
from twin.dynamics.furnace_runs import discharges, follow
from twin.dynamics.lineup import TrainingReport, train
from twin.dynamics.models import PHYSICS, PHYSICS_BIAS, PHYSICS_RESIDUAL, FurnaceModel
from twin.dynamics.zone_fitting import Loops, fit_zones
from twin.errors import ModelFault
from twin.furnace import kernel
from twin.furnace.residual import LoopState, LoopWatch, ZoneResidual, loops_of
from twin.furnace.rollout import Rollout
from twin.furnace.tracking import Tracker
from twin.historian import Historian
from twin.records import GOOD, Reading, Series
from twin.simulation.line import LineState, simulate_line
from twin.slab_forecast import slab_forecast

LAGS = made_residual(off_per_k=-0.6, lost_mw_per_k=0.05)
FOLLOWED_C = np.array([945.0, 1200.0, 1275.0, 1262.0])


def answer(residual: ZoneResidual, memory: Series, followed_c: Series = FOLLOWED_C) -> Series:
    """K by zone, then MW by zone."""
    state = LoopState(tuple(memory.tolist()), (0.0,) * ZONES, residual)
    return loops_of(state, followed_c).answer


def lived(rng: np.random.Generator, rows: int) -> Series:
    """What is remembered minute by minute (row, feature) of moves and draws that come at random."""
    watch, seen = LoopWatch(ZONES), []
    for _ in range(rows):
        moved_k = rng.uniform(-8.0, 5.0, ZONES) * (rng.random(ZONES) < 0.2)
        watch.see(moved_k, 1e6 * rng.uniform(0.0, 20.0, ZONES))
        seen.append(watch.state(None).memory)
    return np.array(seen)


def loops(rng: np.random.Generator, rows: int, residual: ZoneResidual, noise: float) -> Loops:
    memory = lived(rng, rows)
    wanted = np.array([answer(residual, row) for row in memory])
    wanted += noise * rng.normal(size=wanted.shape)
    is_free = np.ones((rows, ZONES), dtype=np.bool_)
    followed_c = FOLLOWED_C + rng.uniform(-30.0, 30.0, (rows, ZONES))
    return Loops(memory, wanted, followed_c, is_free)


@cache
def learned() -> ZoneResidual:
    """Fitted to 900 minutes of loops that lag by 0.6 K per K and lose 50 kW per K meanwhile."""
    rng = np.random.default_rng(1)
    found = fit_zones(loops(rng, 900, LAGS, 0.1), loops(rng, 200, LAGS, 0.1), seed=0)
    assert found is not None
    return found


def test_what_loops_lag_and_lose_is_found() -> None:
    """On minutes it has not seen, five sixths of what was put in."""
    unseen = loops(np.random.default_rng(2), 300, LAGS, 0.0)
    said = np.array([answer(learned(), row) for row in unseen.memory])
    missed = np.sqrt(((said - unseen.wanted) ** 2).mean(axis=0))
    assert (missed < np.sqrt((unseen.wanted**2).mean(axis=0)) / 6.0).all()


def test_noise_teaches_next_to_nothing() -> None:
    """Where nothing can be known, answers stay a quarter of what was shown at most."""
    rng, nothing = np.random.default_rng(3), made_residual()
    found = fit_zones(loops(rng, 900, nothing, 1.0), loops(rng, 200, nothing, 1.0), seed=0)
    assert found is not None
    said = np.array([answer(found, row) for row in lived(rng, 200)])
    assert np.sqrt((said**2).mean(axis=0)).max() < 0.25


def test_loops_that_were_never_free_teach_nothing() -> None:
    """A furnace at its burners' ends, with a fuel meter that is dead, has no residual."""
    seen = loops(np.random.default_rng(4), 300, LAGS, 0.1)
    held = replace(seen, is_free=np.zeros_like(seen.is_free))
    held.wanted[:, ZONES:] = np.nan
    assert fit_zones(held, held, seed=0) is None


def test_equal_arguments_give_an_equal_residual() -> None:
    """A training can be repeated."""
    rows = loops(np.random.default_rng(5), 300, LAGS, 0.1)
    assert fit_zones(rows, rows, seed=4) == fit_zones(rows, rows, seed=4)


def test_at_rest_it_says_nothing() -> None:
    """A loop that nobody has moved for long is on its setpoint."""
    assert (answer(learned(), np.zeros(FEATURES)) == 0.0).all()


def test_what_it_says_is_bounded_and_fades_outside_what_it_has_seen() -> None:
    """Whatever is remembered: never more than `most`; nothing at twice the largest memory seen."""
    residual, rng = learned(), np.random.default_rng(6)
    spread, highest = np.array(residual.spread), np.array(residual.highest)
    for _ in range(200):
        memory = rng.normal(0.0, 3.0, FEATURES) * spread
        assert (np.abs(answer(residual, memory)) <= np.array(residual.most)).all()
    edge = spread * highest
    assert np.abs(answer(residual, 0.99 * edge)).max() > 0.0
    assert (answer(residual, 2.0 * edge) == 0.0).all()


def test_it_says_nothing_far_from_the_setpoints_it_has_seen() -> None:
    """Half the width of the seen range beyond its end, in one zone, is too far for all."""
    residual = learned()
    memory = 0.5 * np.array(residual.spread) * np.array(residual.highest)
    low, high = np.array(residual.seen_c).T
    inside, outside_c = 0.5 * (low + high), 0.5 * (low + high)
    outside_c[2] = high[2] + 0.51 * (high[2] - low[2])
    assert np.abs(answer(residual, memory, inside)).max() > 0.0
    assert (answer(residual, memory, outside_c) == 0.0).all()


def test_a_run_with_a_residual_follows_it() -> None:
    """After a move of 5 K zones trail behind by what the residual says, and come after it."""
    state = replace(full_furnace(), loops=LoopState((0.0,) * FEATURES, (0.0,) * ZONES, LAGS))
    path = np.tile(FOLLOWED_C, (120, 1))
    path[60:] += 5.0
    plain = Rollout(FURNACE, full_furnace(), []).run(path)
    trailing = Rollout(FURNACE, state, []).run(path)
    behind_k = (plain.gas_c - trailing.gas_c)[60:]
    fading_k = 0.6 * 5.0 * np.exp(-np.arange(10) / 3.0)
    np.testing.assert_allclose(behind_k[:10, 1], fading_k, atol=0.2)
    np.testing.assert_allclose(behind_k[:10, 2], fading_k, atol=0.2)
    assert np.abs(behind_k[40:]).max() < 0.1


def test_a_run_cut_in_two_remembers() -> None:
    """The line goes on exactly from plain data, residual and memory included."""
    begin = replace(full_furnace(), loops=LoopState((0.0,) * FEATURES, (0.0,) * ZONES, LAGS))
    moves = {tag: values + 15.0 for tag, values in HOLD.items()}
    whole = simulate_line(PLANT, begin, moves, seed=5, steps=40)
    first = simulate_line(PLANT, begin, moves, seed=5, steps=10)
    adapter = TypeAdapter(LineState)
    again = adapter.validate_json(adapter.dump_json(first.end))
    assert again == first.end
    second = simulate_line(PLANT, again, moves, seed=5, steps=30)
    for zone in FURNACE.zones:
        for tag in (zone.temperature, zone.fuel):
            joined = np.concatenate([first.values[tag], second.values[tag]])
            np.testing.assert_allclose(joined, whole.values[tag], rtol=1e-9)


def test_tracking_remembers_what_a_run_remembers() -> None:
    """From what the plant shows: moves to the digit, draws as far as slabs are known."""
    past = made_past(5, LAGS)
    tracker = Tracker(FURNACE, MILL)
    tracker.observe(past)
    watch = LoopWatch(ZONES)
    followed_c = np.column_stack([past.values[zone.followed] for zone in FURNACE.zones])
    for moved_k in np.diff(followed_c, axis=0):
        watch.see(moved_k, np.zeros(ZONES))
    moves = FEATURES // 2
    assert tracker.loops is not None
    remembered = np.array(tracker.loops.memory)
    np.testing.assert_allclose(remembered[:moves], watch.state(None).memory[:moves], atol=1e-6)
    assert np.abs(remembered[moves:]).max() > 0.0


def test_taking_over_a_furnace_is_no_move_and_no_draw() -> None:
    """What is remembered of the first five minutes is no larger than what comes later."""
    memory = follow(FURNACE, MILL, made_past(4, LAGS), [], learns=True).memory
    for part in np.hsplit(np.abs(memory), [FEATURES // 2]):
        assert np.nanmax(part[:6]) < part[6:].max()
    known = np.flatnonzero(np.isfinite(memory).all(axis=1))
    assert known.tolist() == list(range(1, 240))
    assert not memory[1].any()


def test_no_slab_is_taken_to_leave_where_the_plant_tells_of_slab_0() -> None:
    """A slab without a record has number 0 too: nobody knows when it left."""
    full = full_furnace()
    first = full.slabs[0]
    state = replace(full, slabs=(replace(first, slab=replace(first.slab, number=0)),))
    assert discharges(full, np.array([0.0, first.slab.number, 0.0])) == [2]
    assert discharges(state, np.array([0.0, 0.0, 0.0])) == []


def test_minutes_of_which_nothing_is_remembered_teach_nothing() -> None:
    """A residual is the same with and without them, in what is fitted and in what judges it."""
    rows = loops(np.random.default_rng(8), 300, LAGS, 0.1)
    gap = replace(rows, memory=rows.memory.copy(), followed_c=rows.followed_c.copy())
    gap.memory[:5], gap.followed_c[:5] = np.nan, 2000.0
    assert fit_zones(gap, gap, seed=4) == fit_zones(rows.rows(5, 300), rows.rows(5, 300), seed=4)


@cache
def trained(*, lags: bool) -> TrainingReport:
    """A line-up trained on 16 hours of a made furnace; several tests look at it."""
    return train(HOURLY, None, made_past(16, LAGS if lags else None), seed=1)


def test_a_furnace_that_lags_gets_a_residual() -> None:
    """It halves what zones miss on time held out, and is put to use."""
    report = trained(lags=True)
    assert report.promoted == PHYSICS_RESIDUAL
    line_up = report.card.line_up
    for zone in FURNACE.zones:
        with_it, without = (
            sum(errors[zone.temperature] for errors in line_up[name].values())
            for name in (PHYSICS_RESIDUAL, PHYSICS_BIAS)
        )
        assert with_it < 0.5 * without


def test_a_furnace_that_the_equations_tell_gets_none() -> None:
    """Nothing is missed, so nothing more complex than the equations is put to use."""
    report = trained(lags=False)
    assert report.promoted in (PHYSICS, PHYSICS_BIAS)
    assert report.zone_residual is None


def test_a_stored_residual_comes_back_as_it_was(tmp_path: Path) -> None:
    """For the furnace it was trained on, and for no other one."""
    report = trained(lags=True)
    version = registry.save(tmp_path, report.card, report.models)
    stored = registry.load(tmp_path, version, HOURLY, None)
    assert stored.zone_residual == report.zone_residual
    assert stored.card == report.card
    other = replace(FURNACE, emissivity=0.7)
    blocks = tuple(other if block is FURNACE else block for block in HOURLY.discrete)
    with pytest.raises(ModelFault, match="another equations"):
        registry.load(tmp_path, version, replace(HOURLY, discrete=blocks), None)


def test_a_model_without_a_residual_comes_back_too(tmp_path: Path) -> None:
    """What was promoted is what is loaded."""
    report = trained(lags=False)
    version = registry.save(tmp_path, report.card, report.models)
    assert registry.load(tmp_path, version, HOURLY, None).model == FurnaceModel(report.promoted)


def test_a_training_on_the_stored_past_is_put_to_use(tmp_path: Path) -> None:
    """From readings in the database to the version that planner and study ask for."""
    past, settings = made_past(8, LAGS), Settings(state_dir=tmp_path)
    readings = []
    for tag, values in past.values.items():
        # What a row averages has been so since the row began.
        early_min = 1 if HOURLY.tag(tag).aggregate == "mean" else 0
        for row, value in enumerate(values.tolist()):
            at = past.end - timedelta(minutes=past.rows - 1 - row + early_min)
            readings.append(Reading(tag, value, GOOD, at, at))
    with Historian.create(settings.database_url(HOURLY)) as historian:
        historian.register(HOURLY)
        historian.store(readings, HOURLY)
        card = train_once(HOURLY, settings, historian, seed=0)
        active = historian.active_model(HOURLY)
    assert card.promoted == PHYSICS_RESIDUAL
    assert active is not None
    stored = registry.load(settings.models_dir(HOURLY), active.version, HOURLY, None)
    assert stored.zone_residual is not None
    present = as_tracked(HOURLY, settings)
    assert isinstance(present, SlabPresent), present
    assert present.state.loops is not None
    assert present.state.loops.residual == stored.zone_residual


def test_a_controller_takes_up_a_residual_without_forgetting_its_slabs() -> None:
    """Only a tracker that has learned what its model must not know begins anew."""
    controller = SlabController(PLANT)
    controller.tracker.observe(made_past(3))
    controller.use(Model("trained", zone_residual=LAGS))
    state = controller.tracker.state()
    assert state is not None
    assert state.loops is not None
    assert state.loops.residual == LAGS
    controller.use(Model(learns_bias=False))
    assert controller.tracker.state() is None


def test_loading_a_furnace_model_needs_no_torch() -> None:
    """A planner starts without it."""
    code = (
        "import sys, twin.dynamics.registry, twin.furnace.residual;sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_tracker_told_not_to_learns_nothing() -> None:
    """Slabs are carried along, but emissivity and losses stay the plant file's."""
    past = made_past(6)
    taught, plain = Tracker(FURNACE, MILL), Tracker(FURNACE, MILL, learns=False)
    for tracker in (taught, plain):
        tracker.observe(past)
    learns, kept = taught.state(), plain.state()
    assert learns is not None
    assert kept is not None
    assert any(learns.emissivity_percent.values())
    assert any(zone.extra_w for zone in learns.zones)
    assert not any(kept.emissivity_percent.values())
    assert not any(zone.extra_w for zone in kept.zones)
    assert [each.slab for each in kept.slabs] == [each.slab for each in learns.slabs]


def test_intervals_are_narrower_with_it_and_as_wide_as_before_where_it_is_not_to_be_trusted() -> (
    None
):
    """Zones miss the share that training found; outside what it has seen, all of it."""
    half = replace(LAGS, error_share=(0.5,) * (2 * ZONES))
    begin = full_furnace()

    def width_k(residual: ZoneResidual | None) -> float:
        state = replace(begin, loops=LoopState((0.0,) * FEATURES, (0.0,) * ZONES, residual))
        fan = slab_forecast(PLANT, state, HOLD, seed=2, replications=10, steps=30)
        tag = FURNACE.zones[1].temperature
        return float((fan.high[tag] - fan.low[tag])[-1])

    elsewhere = replace(half, seen_c=((100.0, 200.0),) * ZONES)
    assert width_k(half) == pytest.approx(0.5 * width_k(None), rel=0.1)
    assert width_k(elsewhere) == pytest.approx(width_k(None), rel=1e-6)


def test_without_a_residual_nothing_is_remembered_in_a_run() -> None:
    """Loops without features: the equations alone."""
    silent = loops_of(LoopState((1.0,) * FEATURES, (0.0,) * ZONES), FOLLOWED_C)
    assert len(silent.memory) == 0
    assert isinstance(silent, kernel.Loops)
    assert (silent.answer == 0.0).all()


def test_a_real_furnaces_slabs_and_zones_are_forecast_better() -> None:
    """An hour ahead on a training seed: what is learned takes three tenths off, and more."""
    figures = forecast_figures([slab_forecast_errors(PLANT, 1006, hours=4.0)])
    assert figures["forecast_rmse_over_physics"] < 0.7
    assert figures["zone_forecast_rmse_over_online"] < 0.8
    assert figures["forecast_rmse_over_online"] < 1.1
