"""The forecast: a fan that knows what is announced, what has tripped and how wrong the model is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from twin.forecast import ErrorBand, forecast
from twin.physics import load_physics
from twin.plant import read_plant
from twin.records import Forecast
from twin.simulation import Batch, BatchesState, MachineState, Order, TariffState, TwinState

AT = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
AT_S = AT.timestamp()
PLANT = read_plant("four_tank")
LEVELS = {"tank_1.level": 12.4, "tank_2.level": 12.7, "tank_3.level": 1.8, "tank_4.level": 1.4}
HOLD = {"pump_1.setpoint": np.full(60, 10.0), "pump_2.setpoint": np.full(60, 10.0)}
QUIET = TwinState(
    at=AT,
    states=LEVELS,
    batches={"orders_1": BatchesState(), "orders_2": BatchesState()},
    machines={"trips_1": MachineState(), "trips_2": MachineState()},
    tariffs={"tariff": TariffState(10.0, 10.0)},
)
HORIZONS_S = np.array([60.0, 900.0, 3600.0])
BAND = ErrorBand(
    HORIZONS_S,
    {"tank_1.level": np.array([-0.2, -0.5, -1.0])},
    {"tank_1.level": np.array([0.2, 0.5, 1.2])},
)


def _forecast(state: TwinState = QUIET, seed: int = 5, **options: object) -> Forecast:
    physics = load_physics(PLANT)
    assert physics is not None
    return forecast(
        PLANT,
        physics,
        state,
        HOLD,
        seed=seed,
        **options,  # type: ignore[arg-type]  # any of its options
    )


def _without_chance(plant_state: TwinState) -> TwinState:
    """The same present with every coming batch and trip drawn beyond the horizon."""
    far_s = AT_S + 1e6
    far = BatchesState(
        (Batch(0, Order(far_s, 8.0, 9.0), False, far_s, far_s + 1, 8.0),), 1, True, True
    )
    return replace(
        plant_state,
        batches={"orders_1": far, "orders_2": far},
        machines={name: MachineState(changes_s=far_s) for name in ("trips_1", "trips_2")},
    )


def test_a_pump_that_is_down_now_lowers_and_widens_the_fan() -> None:
    """A tripped pump starves its tanks, and nobody knows when it comes back."""
    tripped = replace(QUIET, machines={**QUIET.machines, "trips_2": MachineState(False)})
    running, down = (_forecast(state, replications=200) for state in (QUIET, tripped))
    minute = 9  # the repair takes 3 to 12 min
    for level in ("tank_2.level", "tank_3.level"):
        assert down.middle[level][minute] < running.middle[level][minute] - 0.5
        widths = [f.high[level][minute] - f.low[level][minute] for f in (down, running)]
        assert widths[0] > widths[1] + 0.2
    assert down.middle["pump_2.running"][0] == 0.0
    assert 0.0 < down.middle["pump_2.running"][minute] < 1.0


def test_an_announced_batch_lowers_and_widens_the_fan_around_its_start() -> None:
    """A batch announced in 30 min moves nothing before 20 min and the level after it."""
    order = BatchesState((Batch(0, Order(AT_S + 1800, 9.0, 12.0)),), 1)
    quiet = _forecast()
    announced = _forecast(replace(QUIET, batches={**QUIET.batches, "orders_1": order}))
    assert announced.middle["tank_1.demand"][:19].max() == 0.0
    assert announced.middle["tank_1.demand"][34] > 5.0
    assert announced.middle["tank_1.level"][40] < quiet.middle["tank_1.level"][40] - 1.0
    width = announced.high["tank_1.level"] - announced.low["tank_1.level"]
    assert width[30] > width[10] + 1.0


def test_a_models_error_alone_gives_back_its_band() -> None:
    """Nothing random ahead: the interval is the line plus the measured 5 and 95 % errors."""
    found = _forecast(_without_chance(QUIET), error_band=BAND)
    line = found.middle["tank_1.level"]
    below, above = line - found.low["tank_1.level"], found.high["tank_1.level"] - line
    for k, low, high in ((0, 0.2, 0.2), (14, 0.5, 0.5), (59, 1.0, 1.2)):
        assert below[k] == pytest.approx(low, abs=1e-6)
        assert above[k] == pytest.approx(high, abs=1e-6)
    assert found.low["tank_2.level"] == pytest.approx(found.middle["tank_2.level"])


def test_both_parts_of_the_fan_add_up_like_independent_errors() -> None:
    """With batches ahead the band widens the fan, by less than its own whole width."""
    order = BatchesState((Batch(0, Order(AT_S + 1500, 9.0, 12.0)),), 1)
    state = replace(QUIET, batches={**QUIET.batches, "orders_1": order})
    bare, banded = _forecast(state), _forecast(state, error_band=BAND)
    level, k = "tank_1.level", 30
    widths = [f.high[level][k] - f.low[level][k] for f in (bare, banded)]
    band_width = 2 * np.interp(60.0 * (k + 1), HORIZONS_S, [0.2, 0.5, 1.1])
    assert widths[0] < widths[1] < widths[0] + band_width
    assert np.array_equal(bare.middle[level], banded.middle[level])


def test_the_seed_repeats_the_fan_and_another_gives_another() -> None:
    """At least 50 replications, the same again for the same seed, other ones for another."""
    first, again, other = _forecast(), _forecast(), _forecast(seed=6)
    assert first.replications >= 50
    for tag, line in first.middle.items():
        assert np.array_equal(line, again.middle[tag])
        assert np.all(first.low[tag] <= first.high[tag])
    assert not np.array_equal(first.middle["tank_1.demand"], other.middle["tank_1.demand"])
    assert {"tank_1.level", "tank_1.demand", "pump_1.power", "price.now"} <= set(first.middle)
    assert first.start == AT


def test_the_cost_counts_money_and_limit_minutes() -> None:
    """Two held pumps cost their power at 10 ct/Wh; a level above its limit adds .2 ct/min."""
    calm = _forecast(_without_chance(QUIET))
    power = calm.middle["pump_1.power"] + calm.middle["pump_2.power"]
    assert calm.cost_per_h == pytest.approx(10.0 * power.mean(), rel=1e-6)
    high = replace(QUIET, states={**LEVELS, "tank_1.level": 19.0})
    flooded = _forecast(_without_chance(high))
    outside_min = int((flooded.middle["tank_1.level"] > 17).sum())
    assert outside_min > 3
    assert flooded.cost_per_h == pytest.approx(10.0 * power.mean() + 0.2 * outside_min, rel=1e-6)
