"""Expressions: what they mean, on which numbers, in which units, and how they refuse."""

from __future__ import annotations

import math
import pickle
import timeit

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin.errors import ExpressionError
from twin.expressions import parse, units

UNITS = {
    "pump_1.power": "W",
    "pump_2.power": "kW",
    "price.now": "ct/(W*h)",
    "missed_price": "ct/L",
    "tank_1.demand": "cm**3/s",
    "tank_1.delivered": "cm**3/s",
    "tank_1.level": "cm",
    "tank_2.level": "mm",
    "oven.temp": "degC",
    "oven_2.temp": "degC",
    "room.temp": "degF",
    "air.temp": "K",
    "valve.open": "%",
    "switch": "",
}
COST = (
    "(pump_1.power + pump_2.power) * price.now + missed_price * (tank_1.demand - tank_1.delivered)"
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("2 - 3 - 4", -5),
        ("24 / 4 / 2", 3),
        ("-2 ** 2", -4),
        ("2 ** 3 ** 2", 512),
        ("2 ** -1", 0.5),
        ("- - 2", 2),
        ("+a", 4),
        ("1.5e1 + .5", 15.5),
        ("sqrt(a) + exp(0) + log(1) + abs(-b.c)", 2 + 1 + 0 + 3),
        ("min(a, b.c, 7) + max(a, b.c, 7)", 10),
        ("a > 3 and b.c <= 3", True),
        ("a > 3 and b.c < 3 or a == 4", True),
        ("not a > 3 or b.c != 3", False),
        ("not (a < 3 or b.c >= 4)", True),
    ],
)
def test_an_expression_means_what_a_mathematician_reads(text, value):
    """Precedence, association, functions and logic on paper-sized examples."""
    assert parse(text).evaluate({"a": 4.0, "b.c": 3.0}) == value


def test_names_contain_dots_and_are_all_told():
    """The caller learns every tag an expression needs, with its full name."""
    assert parse(COST).names == {
        *("pump_1.power", "pump_2.power", "price.now", "missed_price"),
        *("tank_1.demand", "tank_1.delivered"),
    }
    assert parse("1 + 1").names == frozenset()


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("", 1, "expression ends"),
        ("a +", 4, "expression ends"),
        ("a b", 3, "does not fit"),
        ("(a", 3, "'(' of column 1 is not closed"),
        ("a)", 2, "does not fit"),
        ("foo(a)", 1, "no function 'foo'"),
        ("sqrt", 1, "is a function"),
        ("sqrt(a, b)", 1, "takes one number"),
        ("min(a)", 1, "two or more"),
        ("a = 3", 3, "Write '=='"),
        ("a ^ 2", 3, "Write '**'"),
        ("a > 1 & b > 1", 7, "Write 'and'"),
        ("1 < a < 3", 7, "can't be chained"),
        ("a and b > 1", 1, "Compare it"),
        ("not a", 5, "Compare it"),
        ("1 + (a > 2)", 6, "is true or false"),
        ("(a > 1) > 0", 2, "is true or false"),
        ("1e999 * a", 1, "too large"),
        ("a * (1 / 0)", 6, "no finite result"),
        ("sqrt(-1)", 1, "no finite result"),
        ("a / 0", 5, "'0' is zero"),
        ("a / (b / (3 - 3))", 11, "'3 - 3' is zero"),
        ("tank.lеvel", 7, "CYRILLIC SMALL LETTER IE"),
        ("a..b", 2, "not part of an expression"),
        ("a.1", 2, "does not fit"),
        ("[a]", 1, "not part of an expression"),
        ("a if b else c", 3, "does not fit"),
        ("lambda: 1", 7, "not part of an expression"),
        ("__import__('os')", 1, "no function"),
    ],
)
def test_a_malformed_expression_says_where_and_why(text, column, words):
    """One sentence with the column; Python beyond arithmetic has no way in."""
    with pytest.raises(ExpressionError) as told:
        parse(text)
    assert f"column {column}:" in str(told.value)
    assert words in str(told.value)


@pytest.mark.parametrize(
    "text",
    [
        *("(" * 5000 + "a" + ")" * 5000, "(" * 1500 + "a" + ")" * 1500, "-" * 3900 + "a"),
        *("not " * 900 + "a > 1", "+".join("a" * 1900), "2**" * 1200 + "2", "9**9**9**9 * a"),
        *("min(" * 900 + "a", "(" * 29 + "+".join("a" * 250) + ")+a" * 29),
    ],
)
def test_hostile_text_is_refused_at_once(text):
    """Depth and length have limits, so no text exhausts the stack or the clock."""
    with pytest.raises(ExpressionError):
        parse(text)


def test_the_longest_allowed_sum_evaluates():
    """What the limits allow also runs: two hundred terms, thirty brackets."""
    assert parse("+".join(["a"] * 200)).evaluate({"a": 1.0}) == 200
    assert parse("(" * 29 + "a" + ")" * 29).evaluate({"a": 1.0}) == 1


@given(st.text(alphabet="ab.1+-*/()<>=, andortmisq", max_size=40))
def test_any_text_parses_or_is_refused_with_a_reason(text):
    """No text leads to anything but an Expression or an ExpressionError."""
    try:
        expression = parse(text)
    except ExpressionError:
        return
    result = expression.evaluate(dict.fromkeys(expression.names, 0.5))
    assert isinstance(result, bool | float)


_NUMBERS = st.floats(-1e3, 1e3).map(lambda v: repr(v) if v >= 0 else f"({v!r})")
_TEXTS = st.recursive(
    _NUMBERS | st.sampled_from(["a", "b.c"]),
    lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(
        lambda p: f"({p[0]} {p[1]} {p[2]})"
    ),
    max_leaves=12,
)


@given(_TEXTS, st.floats(-10, 10), st.floats(-10, 10))
def test_arithmetic_agrees_with_python(text, a, b):
    """For sums, differences and products the result is bit for bit Python's."""
    pythons = eval(text.replace("b.c", "b"), {"a": a, "b": b})
    assert parse(text).evaluate({"a": a, "b.c": b}) == pythons


def test_arithmetic_without_result_is_nan_and_never_zero():
    """A division by zero, the root of a negative number and an overflow are not numbers."""
    for text in ("1 / a", "sqrt(a - 1)", "log(a)", "(a - 1) ** 0.5", "exp(1e6 + a)"):
        assert math.isnan(parse(text).evaluate({"a": 0.0})), text


def test_min_and_max_pass_nan_on():
    """Not-a-number wins whichever side it stands on."""
    for text in ("min(a, b)", "min(b, a)", "max(a, b)", "max(b, a)"):
        assert math.isnan(parse(text).evaluate({"a": math.nan, "b": 1.0})), text


def test_a_missing_value_is_an_error_not_a_guess():
    """Without a value for a name there is no result."""
    with pytest.raises(ExpressionError, match=r"no value for 'b\.c'"):
        parse("a + b.c").evaluate({"a": 1.0})


def test_a_condition_is_unknown_when_anything_it_names_is():
    """None, missing, NaN and infinite values make it unknown, also where they would not matter."""
    condition = parse("a > 1 or b > 1")
    assert condition.holds({"a": 2.0, "b": 0.0}) is True
    assert condition.holds({"a": 0.0, "b": 0.0}) is False
    for unknown in (None, math.nan, math.inf, -math.inf):
        assert condition.holds({"a": 2.0, "b": unknown}) is None
    assert condition.holds({"a": 2.0}) is None


def test_a_condition_without_arithmetic_result_is_unknown():
    """Comparing what has no value must not come out as false."""
    for text in ("1 / a > 5", "sqrt(a - 1) > 5", "1e300 * b * b - 1e300 * b * b > 5"):
        assert parse(text).holds({"a": 0.0, "b": 1e10}) is None, text


def test_every_kind_of_number_gives_the_same_result():
    """Floats, arrays, tensors, Pyomo and CasADi expressions go through the same tree."""
    casadi = pytest.importorskip("casadi")
    pyo = pytest.importorskip("pyomo.environ")
    torch = pytest.importorskip("torch")
    text = "sqrt(a) + exp(-b.c / 3) * log(2 + a) - abs(b.c - 4) + min(a, b.c, 1) + max(a, 2) ** 2"
    expression = parse(text)
    values = {"a": 0.7, "b.c": 3.1}
    expected = expression.evaluate(values)
    a, b = np.full(3, 0.7), np.full(3, 3.1)
    assert expression.evaluate({"a": a, "b.c": b}, np) == pytest.approx(np.full(3, expected))
    tensors = {name: torch.tensor(v, dtype=torch.float64) for name, v in values.items()}
    assert float(expression.evaluate(tensors, torch)) == pytest.approx(expected)
    model = pyo.ConcreteModel()
    model.a, model.b = pyo.Var(initialize=0.7), pyo.Var(initialize=3.1)
    formula = expression.evaluate({"a": model.a, "b.c": model.b}, pyo)
    assert pyo.value(formula) == pytest.approx(expected)
    x, y = casadi.SX.sym("x"), casadi.SX.sym("y")
    formula = casadi.Function("f", [x, y], [expression.evaluate({"a": x, "b.c": y}, casadi)])
    assert float(formula(0.7, 3.1)) == pytest.approx(expected)


def test_logic_works_element_by_element_on_arrays():
    """An interlock over a whole record gives one answer per moment."""
    condition = parse("not a > 1 and (b < 2 or a == 0)")
    a, b = np.array([0.0, 1.0, 2.0]), np.array([5.0, 1.0, 1.0])
    assert condition.evaluate({"a": a, "b": b}, np).tolist() == [True, True, False]


def test_the_cost_of_four_tank_comes_out_in_money_per_hour():
    """W, kW, ct/(W*h), ct/L and cm³/s meet in one sum; 2 cm³/s at 5 ct/L are 36 ct/h."""
    cost = parse(COST).in_units(UNITS, "ct/h", constants={"missed_price": 5.0})
    values = {"pump_1.power": 2.0, "pump_2.power": 0.003, "price.now": 10.0}
    values |= {"tank_1.demand": 8.0, "tank_1.delivered": 6.0}
    assert cost.evaluate(values) == pytest.approx(5 * 10 + 36)
    assert "missed_price" not in cost.names
    assert parse(COST).result_unit(UNITS) == "ct/h"
    in_cent_per_day = parse(COST).in_units(UNITS, "ct/day")
    assert in_cent_per_day.evaluate({**values, "missed_price": 5.0}) == pytest.approx(86 * 24)


def test_the_registry_is_made_without_a_word_of_warning(caplog):
    """Pint's carat is called ct as well; ours is money, and no log tells of it at every start."""
    made = units.registry.__wrapped__()  # the cached one may have been made before
    assert str(made.Unit("ct").dimensionality) == "[money_ct]"
    assert caplog.records == []


def test_units_agree_with_pint_itself():
    """An independent evaluation with Pint quantities gives the same number."""
    registry = units.registry()
    values = {name: 0.1 * (k + 2) for k, name in enumerate(sorted(parse(COST).names))}
    quantities = {n.replace(".", "_"): registry.Quantity(v, UNITS[n]) for n, v in values.items()}
    pints = eval(
        COST.replace("pump_1.", "pump_1_")
        .replace("pump_2.", "pump_2_")
        .replace("tank_1.", "tank_1_")
        .replace("price.", "price_"),
        {},
        quantities,
    )
    ours = parse(COST).in_units(UNITS, "ct/h").evaluate(values)
    assert ours == pytest.approx(pints.to("ct/h").magnitude, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tank_1.level + pump_1.power", ["in cm", "in W"]),
        ("tank_1.level > pump_1.power", ["in cm", "in W"]),
        ("tank_1.level + switch", ["in cm", "plain numbers"]),
        ("exp(tank_1.level)", ["in cm", "not a plain number"]),
        ("2 ** tank_1.level", ["not a plain number"]),
        ("tank_1.level ** switch", ["fixed number"]),
        ("max(tank_1.level, pump_1.power)", ["in cm", "in W"]),
        ("missed_price * tank_1.demand > 3", ["not clear in which unit"]),
        ("oven.temp * 2", ["zero"]),
        ("oven.temp + oven_2.temp", ["zero"]),
        ("-oven.temp", ["zero"]),
        ("oven.temp - room.temp", ["degC", "degF"]),
        ("oven.temp > room.temp", ["degC", "degF"]),
        ("oven.temp > air.temp", ["degC", "K"]),
        ("nothing * 2", ["no known unit"]),
    ],
)
def test_units_that_do_not_fit_are_refused_naming_both_sides(text, words):
    """The message holds each side and its unit."""
    with pytest.raises(ExpressionError) as told:
        parse(text).result_unit(UNITS)
    for word in words:
        assert word.replace("degC", "°C").replace("degF", "°F") in str(told.value), told.value


@pytest.mark.parametrize(
    ("text", "values", "result", "expected"),
    [
        ("tank_1.level + tank_2.level", (10, 20), "cm", 12),
        ("tank_2.level + tank_1.level", (20, 10), "mm", 120),
        ("max(tank_1.level - 5, 0)", (7,), "m", 0.02),
        ("max(0, tank_1.level - 5)", (7,), "m", 0.02),
        ("sqrt(tank_1.level * tank_2.level)", (1, 10), "cm", 1),
        ("tank_1.level ** 2", (3,), "mm**2", 900),
        ("tank_1.level / tank_2.level", (1, 10), "", 1),
        ("exp(tank_1.level / tank_2.level)", (1, 10), "", math.e),
        ("valve.open * pump_1.power", (50, 8), "W", 4),
        ("valve.open + 10", (50,), "", 0.6),
        ("2 ** valve.open", (100,), "", 2),
        ("oven.temp - oven_2.temp", (30, 20), "K", 10),
        ("max(oven.temp, 25) - oven_2.temp", (20, 20), "delta_degF", 9),
        ("(oven.temp - oven_2.temp) * pump_1.power", (30, 20, 2), "K*W", 20),
        ("air.temp * 2", (300,), "K", 600),
    ],
)
def test_conversions_are_right(text, values, result, expected):
    """Small cases worked out on paper, in the order in which the names stand."""
    expression = parse(text)
    order = sorted(expression.names, key=text.index)
    assert expression.in_units(UNITS, result).evaluate(
        dict(zip(order, map(float, values), strict=True))
    ) == pytest.approx(expected)


def test_bare_numbers_are_in_the_unit_beside_them():
    """`tank_1.level > 19` means 19 of what tank_1.level is in, and converts nothing."""
    condition = parse("tank_1.level > 19 or oven.temp >= 100")
    assert condition.in_units(UNITS).root == condition.root
    mixed = parse("tank_1.level > tank_2.level").in_units(UNITS)
    assert mixed.holds({"tank_1.level": 2.0, "tank_2.level": 19.0}) is True
    assert mixed.holds({"tank_1.level": 2.0, "tank_2.level": 21.0}) is False


def test_currencies_never_mix_and_ct_belongs_to_the_one_in_use():
    """100 ct are 1 EUR in a plant that counts EUR, and nothing at all in dollars."""
    given_units = {"price": "ct/(kW*h)", "power": "kW", "fee": "USD/h"}
    cost = parse("price * power")
    assert cost.in_units(given_units, "EUR/h", currency="EUR").evaluate(
        {"price": 20.0, "power": 5.0}
    ) == pytest.approx(1.0)
    with pytest.raises(ExpressionError, match="is needed"):
        cost.in_units(given_units, "USD/h", currency="EUR")
    with pytest.raises(ExpressionError, match="do not fit together"):
        parse("price * power + fee").result_unit(given_units, currency="EUR")
    with pytest.raises(ExpressionError, match="is needed"):
        cost.in_units(given_units, "EUR/h", currency="ct")


def test_the_result_must_be_what_is_asked_for():
    """A wrong dimension tells both sides; a condition is not money."""
    with pytest.raises(ExpressionError, match=r"in W .*ct/h .*is needed"):
        parse("pump_1.power").in_units(UNITS, "ct/h")
    with pytest.raises(ExpressionError, match="true or false"):
        parse("pump_1.power > 1").in_units(UNITS, "ct/h")
    with pytest.raises(ExpressionError, match="plain numbers"):
        parse("1 + 1").in_units(UNITS, "ct/h")


@pytest.mark.parametrize(
    "text",
    [
        *("parsnip", "2*cm", "cm**", "9**9**9", "m**9**9", "m)(", "m,s", "1e9", "m**1e9", "cm+"),
        *("€", "[m]", "m" * 70, "\x00", "m\nm", "import os", "nan", "-m"),
    ],
)
def test_text_that_is_no_unit_is_refused(text):
    """Neither nonsense nor towers of exponents pass as units."""
    with pytest.raises(ExpressionError):
        units.unit(text)


def test_expressions_travel_between_processes():
    """A converted expression pickles, and the copy gives the same number."""
    cost = parse(COST).in_units(UNITS, "ct/h", constants={"missed_price": 5.0})
    copy = pickle.loads(pickle.dumps(cost))
    assert copy == cost
    values = dict.fromkeys(cost.names, 2.0)
    assert copy.evaluate(values) == cost.evaluate(values)


def test_evaluating_a_cost_takes_microseconds():
    """A planner evaluates it thousands of times per round: less than 10 µs a time."""
    cost = parse(COST).in_units(UNITS, "ct/h", constants={"missed_price": 5.0})
    values = dict.fromkeys(cost.names, 2.0)
    best_s = min(timeit.repeat(lambda: cost.evaluate(values), number=2000, repeat=5)) / 2000
    assert best_s < 10e-6
