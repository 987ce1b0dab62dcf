"""Money per hour: the same definition for floats, arrays and solver expressions."""

from __future__ import annotations

import math
import timeit

import numpy as np
import pytest

from twin.economics import cost_per_h, limit_minutes, score
from twin.errors import ExpressionError, PlantwrightError
from twin.plant import Economics, FileSource, Limits, Plant, Quantity, Role, Tag, read_plant

FOUR_TANK = read_plant("four_tank")
MOMENT = {
    "pump_1.power": 2.5,
    "pump_2.power": 1.5,
    "price.now": 10.0,
    "tank_1.demand": 8.0,
    "tank_1.delivered": 6.0,
    "tank_2.demand": 0.0,
    "tank_2.delivered": 0.0,
}
# 4 W at 10 ct/Wh, and 2 cm³/s short = 7.2 L/h at 5 ct/L.
MOMENT_CT_PER_H = 4 * 10 + 7.2 * 5


def _levels(steps: int, **changed: list[float]) -> dict[str, np.ndarray]:
    levels = {f"tank_{i}.level": np.full(steps, 5.5) for i in (1, 2, 3, 4)}
    return levels | {f"tank_{n[-1]}.level": np.array(v) for n, v in changed.items()}


def test_four_tank_costs_what_paper_says():
    """Energy and missed demand in ct/h, with all units converted."""
    assert cost_per_h(FOUR_TANK, MOMENT) == pytest.approx(MOMENT_CT_PER_H)


def test_arrays_and_solver_expressions_cost_the_same():
    """The planner's objective is the scores' definition, not a copy of it."""
    pyo = pytest.importorskip("pyomo.environ")
    arrays = {name: np.full((2, 3), value) for name, value in MOMENT.items()}
    assert cost_per_h(FOUR_TANK, arrays, np) == pytest.approx(np.full((2, 3), MOMENT_CT_PER_H))
    model = pyo.ConcreteModel()
    model.tags = pyo.Var(list(MOMENT), initialize=MOMENT)
    formula = cost_per_h(FOUR_TANK, {name: model.tags[name] for name in MOMENT}, pyo)
    assert pyo.value(formula) == pytest.approx(MOMENT_CT_PER_H)


def test_costing_a_moment_takes_less_than_ten_microseconds():
    """Planners and studies call it for every step of every replication."""
    best = min(timeit.repeat(lambda: cost_per_h(FOUR_TANK, MOMENT), number=2000, repeat=5))
    assert best / 2000 < 10e-6


def test_a_missing_signal_is_told_and_unknown_stays_unknown():
    """No signal is replaced by zero: a missing one is an error, NaN makes the cost NaN."""
    partial = {name: value for name, value in MOMENT.items() if name != "price.now"}
    with pytest.raises(ExpressionError, match=r"price\.now"):
        cost_per_h(FOUR_TANK, partial)
    assert math.isnan(cost_per_h(FOUR_TANK, MOMENT | {"price.now": math.nan}))


def test_limit_minutes_count_steps_outside_operator_limits():
    """On the limit is inside; every step outside counts its whole length."""
    levels = _levels(4, t1=[4.9, 5.0, 17.0, 17.1], t3=[0.3, 6.0, 6.1, 9.0])
    assert limit_minutes(FOUR_TANK, levels, 30.0) == {
        "tank_1.level": 1.0,
        "tank_2.level": 0.0,
        "tank_3.level": 1.0,
        "tank_4.level": 0.0,
    }
    assert limit_minutes(FOUR_TANK, {"tank_2.level": np.array([20.0])}, 60.0) == {
        "tank_2.level": 1.0
    }


def test_limit_minutes_of_an_unknown_level_are_unknown():
    """NaN neither counts as inside nor as outside."""
    minutes = limit_minutes(FOUR_TANK, _levels(2, t1=[10.0, math.nan]), 60.0)
    assert math.isnan(minutes["tank_1.level"])
    assert minutes["tank_2.level"] == 0.0


def test_a_score_adds_the_price_of_limit_minutes():
    """One of two hours outside on one CV: 60 min at .2 ct over two hours is 6 ct/h more."""
    signals = {name: np.full(120, value) for name, value in MOMENT.items()}
    signals |= _levels(120, t2=[18.0] * 60 + [10.0] * 60)
    told = score(FOUR_TANK, signals, 60.0)
    assert told.operating_cost_per_h == pytest.approx(MOMENT_CT_PER_H)
    assert told.limit_cost_per_h == pytest.approx(6.0)
    assert told.cost_per_h == pytest.approx(MOMENT_CT_PER_H + 6.0)
    assert told.limit_minutes["tank_2.level"] == 60.0
    assert told.hours == 2.0


def test_a_score_refuses_records_with_holes():
    """Missing tags, empty and uneven series are told instead of scored."""
    signals = {name: np.full(3, value) for name, value in MOMENT.items()} | _levels(3)
    without = {name: series for name, series in signals.items() if name != "tank_4.level"}
    with pytest.raises(PlantwrightError, match=r"tank_4\.level"):
        score(FOUR_TANK, without, 60.0)
    with pytest.raises(PlantwrightError, match="one length"):
        score(FOUR_TANK, signals | {"tank_4.level": np.full(2, 5.0)}, 60.0)
    with pytest.raises(PlantwrightError, match="one length"):
        score(FOUR_TANK, {name: series[:0] for name, series in signals.items()}, 60.0)


def test_a_plant_without_economics_has_no_cost():
    """Free of charge is not the same as unknown."""
    level = Tag(name="level", role=Role.CV, unit="cm", operator=Limits(low=1), rank=1)
    plant = Plant(plant="bare", title="Bare", tags=(level,), files=FileSource())
    with pytest.raises(PlantwrightError, match="says nothing about money"):
        cost_per_h(plant, {"level": 1.0})


def test_a_plant_may_count_in_euro_and_be_billed_in_cents():
    """`ct` is a hundredth of the plant's currency."""
    power = Tag(name="power", role=Role.AUX, unit="kW", node="power")
    economics = Economics(
        currency="EUR",
        cost_per_h="power * price",
        parameters={"price": Quantity(value=25, unit="ct/(kW*h)")},
    )
    plant = Plant(plant="billed", title="Billed", tags=(power,), economics=economics)
    assert cost_per_h(plant, {"power": 4.0}) == pytest.approx(1.0)
