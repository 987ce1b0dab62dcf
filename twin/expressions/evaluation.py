"""From the tree of an expression to nested functions, generic over the kind of number."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

from twin.errors import ExpressionError
from twin.expressions.grammar import COMPARISONS, Name, Node, Number, Operation, is_condition, shown

Run = Callable[[Mapping[str, Any], Any], Any]


def replaced(node: Node, constants: Mapping[str, float]) -> Node:
    """The tree with names that have a constant turned into numbers."""
    if isinstance(node, Name) and node.name in constants:
        return Number(constants[node.name], node.start, node.end)
    if isinstance(node, Operation):
        parts = tuple(replaced(part, constants) for part in node.parts)
        return Operation(node.operator, parts, node.start, node.end)
    return node


def folded(node: Node, text: str) -> Node:
    """The tree with everything worked out that holds numbers only.

    Raises:
        ExpressionError: a number has no finite value, or something is divided by zero for ever.
    """
    if not isinstance(node, Operation):
        return node
    parts = tuple(folded(part, text) for part in node.parts)
    again = Operation(node.operator, parts, node.start, node.end)
    if is_condition(node) or not all(isinstance(part, Number) for part in parts):
        if node.operator == "/" and parts[1] == Number(0.0, parts[1].start, parts[1].end):
            zero = shown(text[node.parts[1].start : node.parts[1].end])
            place = f"{shown(text)}, column {node.parts[1].start + 1}"
            raise ExpressionError(f"{place}: {zero} is zero, and here something is divided by it.")
        return again
    try:
        value = float(compiled(again, is_strict=False)({}, math))
    except (ArithmeticError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        part = shown(text[node.start : node.end])
        raise ExpressionError(
            f"{shown(text)}, column {node.start + 1}: {part} has no finite result."
        )
    return Number(value, node.start, node.end)


def compiled(node: Node, *, is_strict: bool) -> Run:
    """The tree as nested functions. Strict: comparing NaN raises ArithmeticError (floats only)."""
    if isinstance(node, Number):
        value = node.value
        return lambda values, f: value
    if isinstance(node, Name):
        name = node.name
        return lambda values, f: values[name]
    parts = [compiled(part, is_strict=is_strict) for part in node.parts]
    if node.operator in _BINARY:
        apply = _BINARY[node.operator]
        if is_strict and node.operator in COMPARISONS:
            apply = _known(apply)
        left, right = parts
        return _arithmetic(node.operator, left, right) or (
            lambda values, f: apply(left(values, f), right(values, f))
        )
    if node.operator in ("min", "max"):
        pick = _smaller if node.operator == "min" else _larger
        return lambda values, f: reduce(
            lambda a, b: pick(a, b, f), [part(values, f) for part in parts]
        )
    part = parts[0]
    if node.operator in _UNARY:
        alone = _UNARY[node.operator]
        return lambda values, f: alone(part(values, f))
    function = node.operator
    return lambda values, f: getattr(f, function)(part(values, f))


def _arithmetic(sign: str, left: Run, right: Run) -> Run | None:
    """The four operators written out: a third of the time of a call through `operator`."""
    if sign == "+":
        return lambda values, f: left(values, f) + right(values, f)
    if sign == "-":
        return lambda values, f: left(values, f) - right(values, f)
    if sign == "*":
        return lambda values, f: left(values, f) * right(values, f)
    if sign == "/":
        return lambda values, f: left(values, f) / right(values, f)
    return None


def _raised(base: Any, exponent: Any) -> Any:
    result = base**exponent
    if isinstance(result, complex):
        raise ArithmeticError("a root of a negative number")
    return result


def _known(compare: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def compared(left: float, right: float) -> Any:
        if math.isnan(left) or math.isnan(right):
            raise ArithmeticError("a comparison with what is not a number")
        return compare(left, right)

    return compared


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": _raised,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "and": operator.and_,  # element by element for arrays, and the same as `and` for bools
    "or": operator.or_,
}
_UNARY: dict[str, Callable[[Any], Any]] = {
    "neg": operator.neg,
    "abs": abs,
    "not": lambda condition: condition ^ True,  # `~` would turn a Python True into -2
}


def _smaller(a: Any, b: Any, f: Any) -> Any:
    """The smaller one; NaN if either is."""
    if f is math:
        return a if a < b or a != a else b
    return _chosen(a, b, f, "minimum", "fmin", -1.0)


def _larger(a: Any, b: Any, f: Any) -> Any:
    """The larger one; NaN if either is."""
    if f is math:
        return a if a > b or a != a else b
    return _chosen(a, b, f, "maximum", "fmax", 1.0)


def _chosen(a: Any, b: Any, f: Any, array_name: str, symbol_name: str, sign: float) -> Any:
    if hasattr(f, "as_tensor"):  # torch takes tensors only
        return getattr(f, array_name)(f.as_tensor(a), f.as_tensor(b))
    for name in (array_name, symbol_name):
        if hasattr(f, name):
            return getattr(f, name)(a, b)
    return 0.5 * (a + b + sign * abs(a - b))  # Pyomo has neither
