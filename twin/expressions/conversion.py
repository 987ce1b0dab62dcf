"""Units through the tree of an expression: check that they fit and put conversion factors in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from twin.errors import ExpressionError
from twin.expressions import units
from twin.expressions.grammar import COMPARISONS, Name, Node, Number, Operation, is_condition, shown


class Conversion:
    """Walks a tree from its names' units upwards and puts conversion factors in."""

    def __init__(self, text: str, name_units: Mapping[str, str], currency: str | None) -> None:
        self._text = text
        self._name_units = name_units
        self._currency = currency

    def measured(self, node: Node) -> tuple[Node, Any]:
        """The converted tree and its unit; the unit is None for a bare number or a condition."""
        if isinstance(node, Number):
            return node, None
        if isinstance(node, Name):
            return node, self._unit_of(node)
        parts = [self.measured(part) for part in node.parts]
        if node.operator in ("and", "or", "not"):
            return self._again(node, [part for part, _ in parts]), None
        if node.operator in ("*", "/"):
            return self._product(node, parts)
        if node.operator == "**":
            return self._power(node, parts)
        if node.operator in ("sqrt", "exp", "log"):
            return self._function(node, parts[0])
        return self._aligned(node, parts)

    def _unit_of(self, node: Name) -> Any:
        if node.name not in self._name_units:
            self._fail(node, f"{node.name} has no known unit.")
        return units.unit(self._name_units[node.name], self._currency)

    def _product(self, node: Operation, parts: list[tuple[Node, Any]]) -> tuple[Node, Any]:
        (left, left_unit), (right, right_unit) = parts
        for part, measured in zip(node.parts, (left_unit, right_unit), strict=True):
            self._refuse_offset(part, measured)
        again = self._again(node, [left, right])
        if left_unit is None and right_unit is None:
            return again, None
        plain = units.unit("")
        left_unit = plain if left_unit is None else left_unit
        right_unit = plain if right_unit is None else right_unit
        return again, left_unit * right_unit if node.operator == "*" else left_unit / right_unit

    def _power(self, node: Operation, parts: list[tuple[Node, Any]]) -> tuple[Node, Any]:
        (base, base_unit), (exponent, exponent_unit) = parts
        exponent = self._plain(node.parts[1], exponent, exponent_unit)
        if base_unit is None:
            again = self._again(node, [base, exponent])
            return again, None if exponent_unit is None else units.unit("")
        if base_unit.dimensionless:
            return self._again(node, [self._plain(node.parts[0], base, base_unit), exponent]), (
                units.unit("")
            )
        self._refuse_offset(node.parts[0], base_unit)
        if not isinstance(exponent, Number):
            self._fail(node, f"a quantity in {base_unit:~C} can only be raised to a fixed number.")
        return self._again(node, [base, exponent]), base_unit**exponent.value

    def _function(self, node: Operation, part: tuple[Node, Any]) -> tuple[Node, Any]:
        inner, measured = part
        if measured is None:
            return self._again(node, [inner]), None
        if node.operator == "sqrt":
            self._refuse_offset(node.parts[0], measured)
            return self._again(node, [inner]), measured**0.5
        return self._again(node, [self._plain(node.parts[0], inner, measured)]), units.unit("")

    def _aligned(self, node: Operation, parts: list[tuple[Node, Any]]) -> tuple[Node, Any]:
        """Sums, signs, min, max, abs and comparisons: all parts in the unit of the first."""
        known = [(n, u) for n, (_, u) in zip(node.parts, parts, strict=True) if u is not None]
        if not known:
            return self._again(node, [part for part, _ in parts]), None
        first, common = known[0]
        converted = [
            self._in_common(node, (first, common), original, part, measured)
            for original, (part, measured) in zip(node.parts, parts, strict=True)
        ]
        again = self._again(node, converted)
        if node.operator in COMPARISONS:
            return again, None
        if not units.has_offset(common) and not any(units.has_offset(u) for _, u in known):
            return again, common
        return again, self._offset_result(node, [measured for _, measured in parts])

    def _in_common(
        self, node: Operation, common: tuple[Node, Any], original: Node, part: Node, measured: Any
    ) -> Node:
        """`part` converted to the common unit; a bare number already is, where that is clear."""
        common_part, common_unit = common
        if measured is None:
            if units.is_plain(common_unit) or part == Number(0.0, part.start, part.end):
                return part
            self._fail(
                original,
                f"it is not clear in which unit the bare number beside {self._shown(common_part)}"
                f" is, which mixes {common_unit:~C}. Give the number as a parameter with its unit.",
            )
        if measured == common_unit:
            return part
        by = None
        if not units.has_offset(measured) and not units.has_offset(common_unit):
            by = units.factor(measured, common_unit)
        elif node.operator in ("+", "-") and not units.has_offset(measured):
            step = units.difference(common_unit)
            by = None if step is None else units.factor(measured, step)
        if by is None:
            self._fail(
                original,
                f"{self._shown(common_part)} is in {_named_unit(common_unit)} and "
                f"{self._shown(original)} in {_named_unit(measured)}; they do not fit together.",
            )
        return part if by == 1.0 else Operation("*", (Number(by), part), part.start, part.end)

    def _offset_result(self, node: Operation, parts: list[Any]) -> Any:
        """Units such as degC: differences are fine, sums of two readings and signs are not."""
        is_point = [measured is not None and units.has_offset(measured) for measured in parts]
        is_shift = is_point == [True, False] or (node.operator == "+" and is_point.count(True) == 1)
        if node.operator in ("min", "max") or (node.operator in ("+", "-") and is_shift):
            return parts[is_point.index(True)]
        if node.operator == "-" and is_point == [True, True]:
            step = units.difference(parts[0])
            if step is not None:
                return step
        self._refuse_offset(node.parts[is_point.index(True)], parts[is_point.index(True)])
        return None

    def _plain(self, original: Node, part: Node, measured: Any) -> Node:
        """`part` as a plain number, so that a percentage becomes a share."""
        if measured is None:
            return part
        by = units.factor(measured, units.unit(""))
        if by is None:
            self._fail(
                original, f"{self._shown(original)} is in {measured:~C}, not a plain number."
            )
        return part if by == 1.0 else Operation("*", (Number(by), part), part.start, part.end)

    def _refuse_offset(self, node: Node, measured: Any) -> None:
        if measured is not None and units.has_offset(measured):
            self._fail(
                node,
                f"{self._shown(node)} is in {measured:~C}, whose zero is not the zero of its"
                " quantity; use it in comparisons, differences, min and max, or give the tag in K.",
            )

    def _again(self, node: Operation, parts: list[Node]) -> Operation:
        return Operation(node.operator, tuple(parts), node.start, node.end)

    def _shown(self, node: Node) -> str:
        return shown(self._text[node.start : node.end])

    def _fail(self, node: Node, message: str) -> NoReturn:
        raise ExpressionError(f"{shown(self._text)}, column {node.start + 1}: {message}")


def _named_unit(measured: Any) -> str:
    return f"{measured:~C}" if measured._units else "plain numbers"


def to_result(text: str, root: Node, measured: Any, wanted: Any) -> Node:
    """The converted tree `root`, found to be in `measured`, turned into the `wanted` unit."""
    if is_condition(root):
        raise ExpressionError(
            f"{shown(text)} is true or false, not a number in {_named_unit(wanted)}."
        )
    found = units.unit("") if measured is None else measured
    if found == wanted:
        return root
    by = None
    if not units.has_offset(found) and not units.has_offset(wanted):
        by = units.factor(found, wanted)
    if by is None:
        raise ExpressionError(
            f"{shown(text)} is in {_named_unit(found)} ({found.dimensionality}), "
            f"but {_named_unit(wanted)} ({wanted.dimensionality}) is needed."
        )
    return root if by == 1.0 else Operation("*", (Number(by), root), root.start, root.end)
