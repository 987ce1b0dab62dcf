"""The estimator: where the levels are, what the physics misses, and how well it has done lately."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planned_tanks import AT, DEMAND, FOUR_TANK, INFLOW, LEVEL, physics_of, tank_plant

from twin.dynamics.following import follow
from twin.dynamics.frames import past_of, signals_of
from twin.estimator import STATE_GAIN, Estimator
from twin.physics import Physics, stepper
from twin.plant import Limits, Plant
from twin.records import Estimate, Series, Window

FLOW = 5.0  # ends at 10 cm


@pytest.fixture(scope="module")
def tank(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plant, Physics]:
    return tank_plant(tmp_path_factory.mktemp("tank"))


def lived(
    tank: tuple[Plant, Physics],
    rows: int,
    *,
    missed: float | Series = 0.0,
    noise: float = 0.0,
    seed: int = 1,
    start: float = 10.0,
) -> tuple[Window, Series]:
    """Rows of a tank whose level also moves by `missed` under a constant pump; its true level."""
    plant, physics = tank
    rates = np.broadcast_to(missed, rows)
    level, levels = start, [start]
    for rate in rates[1:]:
        inputs = {INFLOW: FLOW, DEMAND: 0.0}
        level = physics.advance({LEVEL: level}, inputs, plant.step_s, extra={LEVEL: rate})[LEVEL]
        levels.append(level)
    true = np.array(levels)
    measured = true + np.random.default_rng(seed).normal(0, noise, rows)
    values = {LEVEL: measured, INFLOW: np.full(rows, FLOW), DEMAND: np.zeros(rows)}
    return Window(AT, plant.step_s, values), true


def known(estimate: Estimate | None) -> Estimate:
    assert estimate is not None
    return estimate


def test_a_constant_missed_rate_is_learned_and_leaves_no_offset(
    tank: tuple[Plant, Physics],
) -> None:
    """After a few hours the bias is the missed rate and the level is the true one."""
    past, true = lived(tank, 300, missed=-0.003)
    estimate = known(Estimator(*tank).replay(past))
    assert estimate.bias[LEVEL] == pytest.approx(-0.003, rel=1e-3)
    assert estimate.states[LEVEL] == pytest.approx(true[-1], abs=1e-3)


def test_without_learning_the_bias_the_same_offset_stays(tank: tuple[Plant, Physics]) -> None:
    """The variant for comparisons keeps a bias of zero, and its level lags where paper says."""
    past, true = lived(tank, 300, missed=-0.003)
    estimate = known(Estimator(*tank, learns_bias=False).replay(past))
    assert estimate.bias == {LEVEL: 0.0}
    # Per step the error first shrinks by the tank's own decay d, then gains the missed rate, and
    # the gain takes its share: e = (1 − gain) (d e + r), with r from a tank at rest.
    decay = np.exp(-60 / 200)
    gained = 0.003 * 200 * (1 - decay)
    offset = (1 - STATE_GAIN) * gained / (1 - (1 - STATE_GAIN) * decay)
    assert estimate.states[LEVEL] - true[-1] == pytest.approx(offset, rel=1e-3)


def test_rows_without_a_reading_follow_the_model(tank: tuple[Plant, Physics]) -> None:
    """A level that is not measured moves by the physics; an unknown input keeps its last value."""
    plant, physics = tank
    past, _ = lived(tank, 30, start=2.0)
    estimator = Estimator(plant, physics)
    level = known(estimator.replay(past)).states[LEVEL]
    nothing = Window(AT, plant.step_s, {tag: np.array([np.nan]) for tag in past.values})
    for _ in range(5):
        estimate = known(estimator.update(nothing))
        level = physics.advance({LEVEL: level}, {INFLOW: FLOW, DEMAND: 0.0}, 60.0)[LEVEL]
    assert estimate.states[LEVEL] == pytest.approx(level, abs=1e-9)
    assert estimate.inputs == {INFLOW: FLOW, DEMAND: 0.0}


def test_nothing_is_estimated_before_everything_was_known(tank: tuple[Plant, Physics]) -> None:
    """No level is made up: without a reading, or without an input, there is no estimate."""
    past, _ = lived(tank, 3)
    no_level = Window(AT, 60.0, {**past.values, LEVEL: np.full(3, np.nan)})
    no_input = Window(AT, 60.0, {**past.values, DEMAND: np.full(3, np.nan)})
    assert Estimator(*tank).replay(no_level) is None
    assert Estimator(*tank).replay(no_input) is None


def test_coverage_is_unknown_until_three_hours_are(tank: tuple[Plant, Physics]) -> None:
    """Two hours set the band and one is judged; with less there is no figure to trust."""
    past, _ = lived(tank, 185, noise=0.1)
    estimator = Estimator(*tank)
    early = known(estimator.replay(Window(AT, 60.0, {t: v[:180] for t, v in past.values.items()})))
    assert (early.coverage90, early.coverage_count) == (None, 0)
    later = known(Estimator(*tank).replay(past))
    assert later.coverage90 is not None
    assert later.coverage_count == 60


def test_coverage_counts_hours_not_rows(tmp_path: Path) -> None:
    """A plant planned every five minutes has its figure after the same three hours."""
    slow = tank_plant(tmp_path, step_s=300)
    past, _ = lived(slow, 38, noise=0.1)
    assert known(Estimator(*slow).replay(past)).coverage_count == 12


def test_coverage_is_about_ninety_percent_on_a_steady_plant(tank: tuple[Plant, Physics]) -> None:
    """On stationary noise the 90 % band holds about 90 % of the readings, over many hours."""
    past, _ = lived(tank, 1800, noise=0.1)
    estimator, shares = Estimator(*tank), []
    for row in range(past.rows):
        values = {tag: series[row : row + 1] for tag, series in past.values.items()}
        estimate = known(estimator.update(Window(AT, 60.0, values)))
        if row >= 400 and row % 60 == 0:
            shares.append(estimate.coverage90)
    assert np.mean([share for share in shares if share is not None]) == pytest.approx(0.9, abs=0.02)


def test_coverage_falls_when_the_plant_changes(tank: tuple[Plant, Physics]) -> None:
    """A leak that opens now is seen in the figure within minutes, long before the hour is over."""
    leak = np.where(np.arange(620) < 600, 0.0, -0.02)
    past, _ = lived(tank, 620, missed=leak, noise=0.05)
    before = Window(AT, 60.0, {tag: series[:600] for tag, series in past.values.items()})
    steady = known(Estimator(*tank).replay(before)).coverage90
    leaking = known(Estimator(*tank).replay(past)).coverage90
    assert steady is not None
    assert leaking is not None
    assert leaking < steady - 0.1


@given(seed=st.integers(0, 10_000), share=st.floats(0, 0.4))
@settings(max_examples=10, deadline=None)
def test_replay_is_update_by_update(seed: int, share: float) -> None:
    """Following a stored past gives exactly what following it live gave, gaps included."""
    physics = physics_of(FOUR_TANK)
    rng = np.random.default_rng(seed)
    tags = dict.fromkeys((*physics.states, *physics.inputs), 8.0)
    values = {tag: rng.normal(at, 0.3, 200) for tag, at in tags.items()}
    for series in values.values():
        series[rng.random(200) < share] = np.nan
    past = Window(AT, 60.0, values)
    live, estimate = Estimator(FOUR_TANK, physics), None
    for row in range(past.rows):
        at = AT - timedelta(minutes=past.rows - 1 - row)
        estimate = live.update(Window(at, 60.0, {t: v[row : row + 1] for t, v in values.items()}))
    assert Estimator(FOUR_TANK, physics).replay(past) == estimate


@given(noise=st.lists(st.floats(-0.5, 0.3), min_size=2, max_size=40))
@settings(max_examples=30, deadline=None)
def test_no_level_is_ever_negative(noise: list[float]) -> None:
    """Around an empty tank noise goes both ways; the estimate does not go below empty."""
    physics = physics_of(FOUR_TANK)
    estimator = Estimator(FOUR_TANK, physics)
    for at in noise:
        values = {tag: np.array([at]) for tag in physics.states}
        values |= {tag: np.array([0.0]) for tag in physics.inputs}
        estimate = known(estimator.update(Window(AT, 60.0, values)))
        assert min(estimate.states.values()) >= 0.0


@given(seed=st.integers(0, 10_000), share=st.floats(0, 0.4), learns_bias=st.booleans())
@settings(max_examples=20, deadline=None)
def test_training_follows_a_record_as_the_estimator_does(
    seed: int, share: float, learns_bias: bool
) -> None:
    """One law: a model learns from exactly the levels and biases that the planner will start at."""
    physics = physics_of(FOUR_TANK)
    rng = np.random.default_rng(seed)
    values = {
        tag: rng.normal(8.0, 0.3, 120) for tag in dict.fromkeys((*physics.states, *physics.inputs))
    }
    for series in values.values():
        series[1:][rng.random(119) < share] = np.nan
    past = Window(AT, 60.0, values)
    estimate = known(Estimator(FOUR_TANK, physics, learns_bias=learns_bias).replay(past))
    record = past_of(signals_of(FOUR_TANK, physics), past)
    followed = follow(stepper(FOUR_TANK, physics), record, learns_bias=learns_bias)
    assert list(estimate.states.values()) == followed.levels[-1, 0].tolist()
    assert list(estimate.bias.values()) == followed.bias[-1, 0].tolist()


@pytest.mark.parametrize(
    ("low", "read", "seen"), [(0.0, -1.0, 0.0), (8.0, 4.0, 4.0), (None, -1.0, -1.0)]
)
def test_a_limit_that_a_plant_may_stand_beyond_pins_no_estimate(
    tank: tuple[Plant, Physics], low: float | None, read: float, seen: float
) -> None:
    """Zero is where a tank ends; a low limit of 8 cm is not: a level of 4 cm is seen as 4 cm."""
    plant, physics = tank
    tags = tuple(
        replace(tag, engineering=Limits(low=low, high=20.0)) if tag.name == LEVEL else tag
        for tag in plant.tags
    )
    moved = replace(plant, tags=tags)
    values = {LEVEL: np.array([read]), INFLOW: np.zeros(1), DEMAND: np.zeros(1)}
    estimate = known(Estimator(moved, physics).update(Window(AT, 60.0, values)))
    assert estimate.states[LEVEL] == seen


class Leak:
    """A learned rate: what the tank loses, NaN in the rows of `breaks`."""

    def __init__(self, rate: float, breaks: tuple[int, ...] = ()) -> None:
        self.rate, self.breaks = rate, breaks

    def observe(self, trail: int | None, levels: Series, inputs: Series) -> tuple[Series, int]:
        row = (trail or 0) + 1
        return np.array([np.nan if row in self.breaks else self.rate]), row


def test_what_a_residual_knows_the_bias_need_not_learn(tank: tuple[Plant, Physics]) -> None:
    """With the missed rate learned elsewhere the bias stays at zero and the level is right."""
    past, true = lived(tank, 100, missed=-0.003)
    estimate = known(Estimator(*tank, Leak(-0.003)).replay(past))
    assert estimate.bias[LEVEL] == pytest.approx(0, abs=1e-9)
    assert estimate.states[LEVEL] == pytest.approx(true[-1], abs=1e-9)


def test_one_broken_rate_does_not_stay(tank: tuple[Plant, Physics]) -> None:
    """A residual that once answers NaN costs that row, not the estimate for ever."""
    past, true = lived(tank, 100, missed=-0.003)
    estimate = known(Estimator(*tank, Leak(-0.003, breaks=(40, 41))).replay(past))
    assert estimate.states[LEVEL] == pytest.approx(true[-1], abs=1e-6)
