"""The learned dynamics: what is promised of the line-up, the residual and the registry."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from twin.dynamics import registry
from twin.dynamics.arx import fit_arx
from twin.dynamics.card import card_from_json
from twin.dynamics.fitting import Budget, Net, _Advance, _Runs
from twin.dynamics.following import bias_response, follow
from twin.dynamics.frames import Cuts, Past, columns, cut, held, past_of, signals_of
from twin.dynamics.lineup import TrainingReport, promote, train
from twin.dynamics.models import (
    ARX,
    PERSISTENCE,
    PHYSICS,
    PHYSICS_BIAS,
    PHYSICS_RESIDUAL,
    Persistence,
    PhysicsModel,
)
from twin.dynamics.residual import CONTEXT_ROWS, Residual, Trail
from twin.errors import ModelFault
from twin.physics import Physics, load_physics, stepper
from twin.plant import Limits, Plant, Role, Tag, read_plant
from twin.plants.four_tank.truth import Truth
from twin.records import Series, Window
from twin.state import window as resample

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
STEPS = 20
QUICK = Budget(hidden=4, iterations=((0.5, 15), (1.0, 25)), windows=48)


def _rates(x: Any, inputs: Any, p: Any, f: ModuleType) -> dict[str, Any]:
    """Torricelli's outflow from 300 cm², its root rounded off near an empty tank."""
    level = x["tank.level"]
    head = 0.5 * (level + f.sqrt(level * level + 0.01))
    return {"tank.level": (inputs["pump.flow"] - p["outlet"] * f.sqrt(head)) / 300.0}


def _none(*_: Any) -> dict[str, Any]:
    return {}


TANK_PHYSICS = Physics(
    states=("tank.level",),
    inputs=("pump.flow",),
    outputs=(),
    nominal={"outlet": 3.0},
    _actuators=lambda signals, p, f: {"pump.flow": signals["pump.flow"]},
    _rates=_rates,
    _outputs=_none,
    _planning_outputs=_none,
)
TANK = Plant(
    plant="tank",
    title="One tank with a free outlet",
    tags=(
        Tag(name="pump.flow", role=Role.MV, unit="cm**3/s"),
        Tag(name="tank.level", role=Role.CV, unit="cm", engineering=Limits(low=0)),
    ),
    horizon_steps=STEPS,
)
SIGNALS = signals_of(TANK, TANK_PHYSICS)
STEP = stepper(TANK, TANK_PHYSICS)


def lived(missed: Callable[[float], float], *, rows: int = 900, noise: float = 0.02) -> Window:
    """A past in which the level also moved by `missed(level)` per second, under random flows."""
    rng = np.random.default_rng(5)
    flow = np.repeat(rng.uniform(5, 13, rows // 15 + 1), 15)[:rows]
    level, levels = 10.0, []
    for row in range(rows):
        extra = {"tank.level": missed(level)}
        after = TANK_PHYSICS.advance(
            {"tank.level": level}, {"pump.flow": flow[row]}, 60.0, extra=extra
        )
        level = after["tank.level"]
        levels.append(level)
    readings = np.array(levels) + rng.normal(0, noise, rows)
    return Window(NOON, 60.0, {"pump.flow": flow, "tank.level": readings})


def leaking(level: float) -> float:
    """A leak that grows with the level, cm/s."""
    return 0.004 - 0.0008 * level


@cache
def trained() -> TrainingReport:
    """A line-up trained on the leaking tank; several tests look at it."""
    return train(TANK, TANK_PHYSICS, lived(leaking), seed=1, budget=QUICK)


def residual_of(report: TrainingReport) -> Residual:
    """The learned rate, promoted or not."""
    model = report.models[PHYSICS_RESIDUAL]
    assert isinstance(model, PhysicsModel)
    assert model.residual is not None
    return model.residual


def with_gap(window: Window, tag: str, rows: slice) -> Window:
    """The same past with no good reading of a tag in some rows."""
    values = {name: series.copy() for name, series in window.values.items()}
    values[tag][rows] = np.nan
    return replace(window, values=values)


def test_residual_learns_a_rate_that_grows_with_the_level() -> None:
    """What the bias can't follow, because it changes with the level, the residual knows."""
    report = trained()
    residual = residual_of(report)
    context = lived(leaking).tail(CONTEXT_ROWS)
    for level in (7.0, 9.0, 11.0):
        rate, _ = residual.rate(residual.start(context), np.array([level]), np.array([level]))
        assert rate[0] == pytest.approx(leaking(level), abs=0.0012)
    hour = report.card.line_up
    last = STEPS * 60
    assert hour[PHYSICS_RESIDUAL][last]["tank.level"] < 0.5 * hour[PHYSICS_BIAS][last]["tank.level"]
    assert report.promoted == PHYSICS_RESIDUAL
    assert report.residual is residual


def test_residual_learns_a_constant_rate_rather_than_leaving_it_to_the_bias() -> None:
    """A constant could be either's; the residual carries it, so it holds without a bias too."""
    report = train(TANK, TANK_PHYSICS, lived(lambda _: -0.004), seed=1, budget=QUICK)
    residual = residual_of(report)
    context = lived(lambda _: -0.004).tail(CONTEXT_ROWS)
    rate, _ = residual.rate(residual.start(context), np.array([8.0]), np.array([9.0]))
    assert rate[0] == pytest.approx(-0.004, rel=0.3)


def test_nothing_is_promoted_over_physics_that_is_right() -> None:
    """Where the physics describes the plant, learning on its noise must not win."""
    report = train(TANK, TANK_PHYSICS, lived(lambda _: 0.0), seed=1, budget=QUICK)
    assert report.promoted == PHYSICS
    assert report.residual is None
    assert "held out" in report.card.reason


def test_a_complex_model_needs_a_clear_lead() -> None:
    """One per cent better is not better; five per cent is."""
    assert promote({PHYSICS: 1.0, PHYSICS_RESIDUAL: 0.99})[0] == PHYSICS
    assert promote({PHYSICS: 1.0, PHYSICS_RESIDUAL: 0.95})[0] == PHYSICS_RESIDUAL
    assert promote({PHYSICS: 1.0, PHYSICS_BIAS: 0.5, PHYSICS_RESIDUAL: 0.6})[0] == PHYSICS_BIAS


@pytest.mark.parametrize("name", [PERSISTENCE, PHYSICS, PHYSICS_BIAS, ARX, PHYSICS_RESIDUAL])
def test_every_model_predicts_every_cv_for_every_step(name: str) -> None:
    """`predict` gives one finite number per CV and step, also for fewer steps than trained."""
    model = trained().models[name]
    context = lived(leaking).tail(CONTEXT_ROWS)
    assert model.name == name
    for steps in (STEPS, 3):
        ahead = model.predict(context, {"pump.flow": np.full(steps, 9.0)})
        assert list(ahead) == ["tank.level"]
        assert ahead["tank.level"].shape == (steps,)
        assert np.isfinite(ahead["tank.level"]).all()


def test_a_batch_of_windows_is_the_windows_one_by_one() -> None:
    """The batch that training uses and the single window that planning uses agree."""
    past_all = lived(leaking)
    cuts = cut(
        SIGNALS, past_all, context_rows=CONTEXT_ROWS, steps=STEPS, first=0, last=400, stride=50
    )
    for model in trained().models.values():
        together = model.run(cuts.past, cuts.future)
        alone = model.run(
            Past(cuts.past.levels[:, :1], cuts.past.inputs[:, :1]), cuts.future[:, :1]
        )
        np.testing.assert_allclose(together[:, :1], alone, atol=1e-9)


def test_a_gap_in_the_readings_is_bridged_not_zeroed() -> None:
    """Ten minutes without a level cost what the model misses in them, not the level."""
    context = lived(leaking).tail(CONTEXT_ROWS)
    gap = with_gap(context, "tank.level", slice(-10, None))
    future = {"pump.flow": np.full(STEPS, 9.0)}
    for name in (PHYSICS, PHYSICS_BIAS, PHYSICS_RESIDUAL):
        model = trained().models[name]
        whole, broken = (model.predict(c, future)["tank.level"] for c in (context, gap))
        np.testing.assert_allclose(broken, whole, atol=1.5)  # a zero would cost 9 cm
    last_seen = context.values["tank.level"][-11]
    assert Persistence(SIGNALS).predict(gap, future)["tank.level"][0] == last_seen


def test_what_was_never_known_is_never_invented() -> None:
    """Without a single reading of the level, or of the flow, every forecast is NaN."""
    context = lived(leaking).tail(CONTEXT_ROWS)
    blind = with_gap(context, "tank.level", slice(None))
    deaf = with_gap(context, "pump.flow", slice(None))
    future = {"pump.flow": np.full(STEPS, 9.0)}
    for model in trained().models.values():
        assert np.isnan(model.predict(blind, future)["tank.level"]).all()
    assert np.isnan(trained().models[ARX].predict(deaf, future)["tank.level"]).all()
    unknown = {"pump.flow": np.full(STEPS, np.nan)}
    assert np.isnan(
        trained().models[PHYSICS_RESIDUAL].predict(context, unknown)["tank.level"]
    ).all()


def test_training_survives_dropouts() -> None:
    """Missing readings are left out of the fit: the residual is still found."""
    window = lived(leaking)
    for start in range(40, window.rows, 97):
        window = with_gap(window, "tank.level", slice(start, start + 4))
    window = with_gap(window, "pump.flow", slice(300, 303))
    report = train(TANK, TANK_PHYSICS, window, seed=1, budget=QUICK)
    assert report.promoted == PHYSICS_RESIDUAL


def test_held_takes_the_last_known_value_and_nothing_before_the_first() -> None:
    """Holding looks back only."""
    rows = np.array([[np.nan, 1.0], [2.0, np.nan], [np.nan, np.nan]])
    np.testing.assert_array_equal(held(rows), [[np.nan, 1.0], [2.0, 1.0], [2.0, 1.0]])


def test_windows_never_see_their_own_future() -> None:
    """The past of a cut ends where its future begins, and the future stays inside its part."""
    rows = np.arange(200.0)
    record = Window(NOON, 60.0, {"pump.flow": rows, "tank.level": rows})
    cuts = cut(SIGNALS, record, context_rows=30, steps=10, first=100, last=150, stride=7)
    assert cuts.count == 6
    np.testing.assert_array_equal(cuts.past.levels[-1] + 1, cuts.truth[0])
    assert cuts.truth.min() >= 100
    assert cuts.truth.max() < 150


def test_same_seed_same_model() -> None:
    """Training is repeatable to the last digit; another seed gives another model."""
    again = train(TANK, TANK_PHYSICS, lived(leaking), seed=1, budget=QUICK)
    other = train(TANK, TANK_PHYSICS, lived(leaking), seed=2, budget=QUICK)
    kernel = residual_of(trained()).weights.input_kernel
    assert again.card == trained().card
    np.testing.assert_array_equal(residual_of(again).weights.input_kernel, kernel)
    assert not np.array_equal(residual_of(other).weights.input_kernel, kernel)


@given(level=st.floats(-1e6, 1e6), flow=st.floats(-1e6, 1e6), memory=st.floats(-1, 1))
def test_learned_rate_is_bounded_everywhere(level: float, flow: float, memory: float) -> None:
    """Whatever is asked, the rate stays inside what training set as its largest."""
    residual = residual_of(trained())
    hidden = np.full(QUICK.hidden, memory)
    rate, after = residual.rate(hidden, np.array([level]), np.array([flow]))
    assert np.all(np.abs(rate) <= residual.weights.rate_scale)
    assert np.all(np.abs(after) <= 1)


def test_learned_rate_fades_out_beyond_what_was_trained() -> None:
    """Half a trained range outside, nothing learned is left; inside, something is."""
    residual = residual_of(trained())
    hidden = residual.start(lived(leaking).tail(CONTEXT_ROWS))
    inside, _ = residual.rate(hidden, np.array([8.0]), np.array([9.0]))
    outside, _ = residual.rate(hidden, np.array([40.0]), np.array([9.0]))
    assert inside[0] != 0
    assert outside[0] == 0


def hourly_cuts() -> Cuts:
    """Runs of a leaking tank's past, one begun every hour."""
    return cut(
        SIGNALS,
        lived(leaking),
        context_rows=CONTEXT_ROWS,
        steps=STEPS,
        first=0,
        last=500,
        stride=60,
    )


def test_numpy_says_what_torch_trained() -> None:
    """Inference without torch agrees with the trained network to 1e-5 cm over a free run."""
    residual = residual_of(trained())
    cuts = hourly_cuts()
    runs = _Runs.of(STEP, cuts)
    net = Net(STEP, residual.weights)
    with torch.no_grad():
        path, bias = net.run(runs, STEPS)
    learned = residual.rates_while(runs.followed)
    response = bias_response(CONTEXT_ROWS - 1, 60.0)[::-1]
    left = runs.followed.bias[-1] - np.einsum("r,rws->ws", response, learned[1:])
    np.testing.assert_allclose(bias.numpy(), left, atol=1e-9)
    levels, hidden = runs.followed.levels[-1], residual.memory(runs.followed)
    for k in range(STEPS):
        rates, hidden = residual.rate(hidden, levels, cuts.future[k])
        levels = STEP.after(levels, cuts.future[k], rates + left)
        np.testing.assert_allclose(path[k].numpy(), levels, atol=1e-5)


def test_the_bias_that_training_expects_is_the_bias_that_is_left() -> None:
    """The response used in training gives the bias of following, but for slow feedback."""
    cuts = hourly_cuts()
    plain = follow(STEP, cuts.past, learns_bias=True)
    learned = np.full_like(plain.levels, 0.003)
    beside = follow(STEP, cuts.past, learns_bias=True, learned=learned)
    share = bias_response(CONTEXT_ROWS - 1, 60.0).sum()
    np.testing.assert_allclose(beside.bias[-1], plain.bias[-1] - 0.003 * share, atol=2e-4)


def test_slopes_of_a_step_are_those_torch_would_find() -> None:
    """The Jacobian by differences equals torch's own gradient through the same equations."""
    plant = read_plant("four_tank")
    physics = load_physics(plant)
    assert physics is not None
    step = stepper(plant, physics)
    levels = torch.tensor([[9.5, 8.0, 1.5, 1.2]], dtype=torch.float64, requires_grad=True)
    rates = torch.tensor([[1e-3, 0.0, -1e-3, 0.0]], dtype=torch.float64, requires_grad=True)
    inputs = np.array([[8.0, 9.0, 7.0, 0.0]])
    weight = torch.tensor([[1.0, -2.0, 0.5, 3.0]], dtype=torch.float64)
    nudges = np.array([1e-5] * 4 + [1e-8] * 4)
    (weight * _Advance.apply(levels, rates, step, inputs, nudges)).sum().backward()
    found = (levels.grad.clone(), rates.grad.clone())
    levels.grad = rates.grad = None
    after = physics.advance(
        {name: levels[0, i] for i, name in enumerate(physics.states)},
        {name: torch.tensor(inputs[0, i]) for i, name in enumerate(physics.inputs)},
        plant.step_s,
        torch,
        {name: rates[0, i] for i, name in enumerate(physics.states)},
    )
    sum(weight[0, i] * after[name] for i, name in enumerate(physics.states)).backward()
    for by_differences, by_torch in zip(found, (levels.grad, rates.grad), strict=True):
        torch.testing.assert_close(by_differences, by_torch, rtol=1e-3, atol=1e-3)


def trail_of(residual: Residual, context: Window) -> Trail:
    """What observing every row of the context leaves."""
    past, trail = past_of(SIGNALS, context), None
    for levels, inputs in zip(past.levels[:, 0], past.inputs[:, 0], strict=True):
        _, trail = residual.observe(trail, levels, inputs)
    assert trail is not None
    return trail


def test_rates_along_a_path_are_those_of_the_free_run() -> None:
    """The planner's rates along the model's own path are the rates that made this path."""
    residual = residual_of(trained())
    context = lived(leaking).tail(CONTEXT_ROWS)
    flow = np.linspace(6, 12, STEPS)[:, None]
    hidden = residual.start(context)
    level = follow(STEP, past_of(SIGNALS, context), learns_bias=True).levels[-1, 0]
    levels, rates = np.empty((STEPS, 1)), np.empty((STEPS, 1))
    for k in range(STEPS):
        rates[k], hidden = residual.rate(hidden, level, flow[k])
        level = levels[k] = STEP.after(level, flow[k], rates[k])
    trail = trail_of(residual, context)
    np.testing.assert_allclose(residual.along(trail, levels, flow), rates, atol=1e-9)


def test_the_rate_of_the_step_just_past_needs_no_reading_of_its_end() -> None:
    """A rate uses what was known when its step began."""
    residual = residual_of(trained())
    context = lived(leaking).tail(CONTEXT_ROWS)
    blind = with_gap(context, "tank.level", slice(-1, None))
    assert residual.past_rates(context)[-1, 0] == residual.past_rates(blind)[-1, 0] != 0


def test_observing_row_by_row_is_following_the_whole_past() -> None:
    """The estimator's cheap way, one row at a time, gives the rates and memory of a replay."""
    residual = residual_of(trained())
    context = with_gap(lived(leaking).tail(200), "tank.level", slice(50, 55))
    context = with_gap(context, "tank.level", slice(0, 2))
    past = past_of(SIGNALS, context)
    trail, rates = None, []
    for levels, inputs in zip(past.levels[:, 0], past.inputs[:, 0], strict=True):
        rate, trail = residual.observe(trail, levels, inputs)
        rates.append(rate)
    assert trail is not None
    np.testing.assert_allclose(rates, residual.past_rates(context), atol=1e-12)
    np.testing.assert_allclose(trail.hidden, residual.start(context), atol=1e-12)


def test_without_physics_the_line_up_is_persistence_and_arx() -> None:
    """A plant without equations still gets a model, chosen and stored like any other."""
    report = train(TANK, None, lived(leaking), seed=1)
    assert list(report.models) == [PERSISTENCE, ARX]
    assert report.promoted == ARX
    assert report.card.physics is None


def test_physics_with_an_unmeasured_state_stays_out() -> None:
    """Equations that can't be started from readings are no model; ARX does without them."""

    def rates(x: Any, inputs: Any, p: Any, f: ModuleType) -> dict[str, Any]:
        return _rates(x, inputs, p, f) | {"wall.temperature": 0.0 * x["wall.temperature"]}

    physics = replace(TANK_PHYSICS, states=("tank.level", "wall.temperature"), _rates=rates)
    report = train(TANK, physics, lived(leaking), seed=1)
    assert list(report.models) == [PERSISTENCE, ARX]
    assert report.promoted == ARX


def test_a_past_without_readings_teaches_nothing() -> None:
    """Without any reading of a CV there is nothing to judge by, and that is said."""
    flow_only = {"pump.flow": lived(leaking).values["pump.flow"]}
    with pytest.raises(ModelFault, match="no CV is known"):
        train(TANK, TANK_PHYSICS, replace(lived(leaking), values=flow_only), seed=1)


def test_arx_finds_a_linear_plant() -> None:
    """On a linear plant the regression predicts to the noise, also its last step."""
    rng = np.random.default_rng(3)
    flow, level = np.repeat(rng.uniform(4, 16, 60), 15), np.zeros(900)
    for row in range(1, 900):
        level[row] = 0.95 * level[row - 1] + 0.05 * flow[row]
    readings = level + rng.normal(0, 0.02, 900)
    window = Window(NOON, 60.0, {"pump.flow": flow, "tank.level": readings})
    parts = [
        cut(SIGNALS, window, context_rows=CONTEXT_ROWS, steps=STEPS, first=a, last=b, stride=2)
        for a, b in ((0, 600), (600, 750), (750, 900))
    ]
    arx = fit_arx(SIGNALS, parts[0], parts[1])
    missed = arx.run(parts[2].past, parts[2].future) - parts[2].truth
    assert float(np.sqrt(np.mean(missed[-1] ** 2))) < 0.1
    with pytest.raises(ValueError, match="fitted for 20"):
        arx.run(parts[2].past, np.repeat(parts[2].future, 2, axis=0))


def test_too_little_history_is_said_with_what_is_needed() -> None:
    """A short past is refused with its length, the need and what to do; nothing is trained."""
    with pytest.raises(ModelFault, match=r"100 rows of history; .* at least 167 .* Collect longer"):
        train(TANK, TANK_PHYSICS, lived(leaking, rows=100), seed=1)
    unknown = with_gap(lived(leaking), "pump.flow", slice(None, None, 10))
    with pytest.raises(ModelFault, match=r"pump\.flow"):
        train(TANK, TANK_PHYSICS, unknown, seed=1)
    with pytest.raises(ValueError, match="plan step is 60 s"):
        train(TANK, TANK_PHYSICS, replace(lived(leaking), step_s=10.0), seed=1)


def test_progress_is_told_to_the_end() -> None:
    """Whoever waits sees the share done grow to 1."""
    shares: list[float] = []
    train(TANK, TANK_PHYSICS, lived(leaking), seed=1, budget=QUICK, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_card_says_what_was_trained_on_what() -> None:
    """The card holds span, rows, seed, versions, line-up, bands and support."""
    card = trained().card
    assert (card.plant, card.rows, card.seed) == ("tank", 900, 1)
    assert card.data_end == NOON
    assert card.data_start == NOON - timedelta(minutes=900)
    assert card.fitted_until == card.data_start + timedelta(minutes=630)
    assert card.validated_until == card.data_start + timedelta(minutes=765)
    assert set(card.versions) == {"plantwright", "numpy", "torch"}
    assert list(card.line_up[PHYSICS]) == [120, 300, 600, 1200]
    band = card.bands[card.promoted]
    assert -0.2 < band.low["tank.level"][0] < 0 < band.high["tank.level"][0] < 0.2
    assert card.bands[PHYSICS].horizons_s == tuple(60.0 * k for k in range(1, STEPS + 1))
    flow = lived(leaking).values["pump.flow"][:630]
    assert card.support["pump.flow"] == pytest.approx((flow.min(), flow.max()), rel=1e-4)
    assert card_from_json(card.to_json()) == card
    json.dumps(card.facts(), allow_nan=False)


def test_the_fan_is_as_wide_as_the_model_that_draws_it() -> None:
    """The twin runs physics and bias, with the residual only where that was promoted."""
    card = trained().card
    assert card.twin_band == card.bands[PHYSICS_RESIDUAL]
    assert replace(card, promoted=ARX).twin_band == card.bands[PHYSICS_BIAS]
    alone = train(TANK, None, lived(leaking), seed=1).card
    assert alone.twin_band == alone.bands[ARX]


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Path, str]:
    """A folder with one stored version."""
    return tmp_path, registry.save(tmp_path, trained().card, trained().models)


def test_what_is_stored_predicts_what_was_trained(stored: tuple[Path, str]) -> None:
    """A loaded model gives the same numbers to the last digit; saving twice is saving once."""
    folder, version = stored
    model = registry.load(folder, version, TANK, TANK_PHYSICS)
    context, future = lived(leaking).tail(CONTEXT_ROWS), {"pump.flow": np.full(STEPS, 9.0)}
    fresh = trained().models[trained().promoted].predict(context, future)
    np.testing.assert_array_equal(
        model.model.predict(context, future)["tank.level"], fresh["tank.level"]
    )
    assert model.card == trained().card
    assert model.residual is not None
    assert registry.save(folder, trained().card, trained().models) == version
    assert registry.versions(folder) == (version,)
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", [PERSISTENCE, PHYSICS, PHYSICS_BIAS, ARX])
def test_any_member_of_the_line_up_can_be_the_stored_one(tmp_path: Path, name: str) -> None:
    """Whichever model was promoted comes back as that model."""
    card = replace(trained().card, promoted=name)
    version = registry.save(tmp_path, card, trained().models)
    assert registry.load(tmp_path, version, TANK, TANK_PHYSICS).model.name == name


@pytest.mark.parametrize("file", ["card.json", "weights.safetensors"])
def test_a_damaged_model_is_never_loaded(stored: tuple[Path, str], file: str) -> None:
    """One changed byte anywhere is noticed; so is a missing, cut or empty file."""
    folder, version = stored
    path = folder / version / file
    content = path.read_bytes()
    for place in (len(content) // 3, len(content) - 4):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ModelFault):
            registry.load(folder, version, TANK, TANK_PHYSICS)
    for broken in (content[:-10], b""):
        path.write_bytes(broken)
        with pytest.raises(ModelFault):
            registry.load(folder, version, TANK, TANK_PHYSICS)
    path.unlink()
    with pytest.raises(ModelFault, match="No such file"):
        registry.load(folder, version, TANK, TANK_PHYSICS)


@pytest.mark.parametrize("file", ["card.json", "weights.safetensors"])
def test_training_again_mends_a_damaged_version(stored: tuple[Path, str], file: str) -> None:
    """The same record gives the same version; storing it replaces what was cut, as was advised."""
    folder, version = stored
    (folder / version / file).write_bytes(b"cut")
    assert registry.save(folder, trained().card, trained().models) == version
    assert registry.load(folder, version, TANK, TANK_PHYSICS).card == trained().card
    assert registry.versions(folder) == (version,)


def test_a_model_for_something_else_is_refused(stored: tuple[Path, str]) -> None:
    """Another plant, other equations, another step: each is named in the refusal."""
    folder, version = stored
    faster = replace(TANK_PHYSICS, nominal={"outlet": 3.5})
    with pytest.raises(ModelFault, match="another plant: tank, here it is pot"):
        registry.load(folder, version, replace(TANK, plant="pot"), TANK_PHYSICS)
    with pytest.raises(ModelFault, match="another equations"):
        registry.load(folder, version, TANK, faster)
    with pytest.raises(ModelFault, match="another step"):
        registry.load(folder, version, replace(TANK, step_s=30), TANK_PHYSICS)
    with pytest.raises(ModelFault, match=f"Stored versions: {version}"):
        registry.load(folder, "tank-000000000000", TANK, TANK_PHYSICS)


def test_a_half_written_version_is_not_a_version(stored: tuple[Path, str]) -> None:
    """What a crash leaves behind is neither listed nor loaded."""
    folder, version = stored
    shutil.copytree(folder / version, folder / ".part-x")
    assert registry.versions(folder) == (version,)
    assert registry.versions(folder / "nowhere") == ()


def test_inference_needs_no_torch() -> None:
    """Loading and running a model imports numpy only: planner and forecast stay small."""
    code = (
        "import sys, twin.dynamics.registry, twin.dynamics.models;sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_residual_beats_physics_on_the_four_tanks() -> None:
    """A day of AUTO is enough: at 60 min, on the hours after it, below 0.8 × physics."""
    plant = read_plant("four_tank")
    physics = load_physics(plant)
    assert physics is not None
    start = datetime(2026, 2, 1, tzinfo=UTC)
    truth = Truth(plant, seed=1007, start=start)
    end = start + timedelta(hours=32)
    whole = resample(plant, truth.advance_samples(end), end, 32 * 60)
    past: dict[str, Series] = {tag: series[: 24 * 60] for tag, series in whole.values.items()}
    budget = Budget(iterations=((1 / 3, 10), (2 / 3, 10), (1.0, 10)))
    report = train(
        plant, physics, Window(end - timedelta(hours=8), 60.0, past), seed=1, budget=budget
    )
    signals = signals_of(plant, physics)
    unseen = cut(signals, whole, context_rows=60, steps=60, first=24 * 60, last=32 * 60, stride=10)
    rmse = {}
    for name in (PHYSICS, PHYSICS_RESIDUAL):
        missed = report.models[name].run(unseen.past, unseen.future)[-1] - unseen.truth[-1]
        rmse[name] = float(np.sqrt(np.nanmean(missed[:, :2] ** 2)))
    assert report.promoted == PHYSICS_RESIDUAL
    assert rmse[PHYSICS_RESIDUAL] <= 0.8 * rmse[PHYSICS]
    assert np.isfinite(columns(whole.values, signals.levels)).mean() > 0.95
