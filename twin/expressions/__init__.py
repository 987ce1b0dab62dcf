"""Expressions over tags, as a plant file states economics and interlocks: read, checked, evaluated.

A small grammar of our own: numbers, tag names, + - * / **, comparisons, and/or/not, and the
functions sqrt, exp, log, abs, min, max. Python's eval is never used, and nothing here knows a
plant: names, units and values come from the caller.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import ModuleType
from typing import Any

from twin.errors import ExpressionError
from twin.expressions import grammar, units
from twin.expressions.conversion import Conversion, to_result
from twin.expressions.evaluation import Run, compiled, folded, replaced

__all__ = ["Expression", "parse", "units"]


@dataclass(frozen=True)
class Expression:
    """A parsed expression; `text` is what the plant file says, `names` what it needs.

    Immutable and cheap to evaluate: the tree is turned into nested functions once.
    """

    text: str
    root: grammar.Node = field(repr=False)
    names: frozenset[str] = field(init=False, compare=False)
    _run: Run = field(init=False, repr=False, compare=False)
    _run_strict: Run = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", frozenset(grammar.names(self.root)))
        object.__setattr__(self, "_run", compiled(self.root, is_strict=False))
        object.__setattr__(self, "_run_strict", compiled(self.root, is_strict=True))

    def __reduce__(self) -> tuple[type[Expression], tuple[str, grammar.Node]]:
        return Expression, (self.text, self.root)

    @property
    def is_condition(self) -> bool:
        """Whether the result is true or false rather than a number."""
        return grammar.is_condition(self.root)

    def evaluate(self, values: Mapping[str, Any], f: ModuleType = math) -> Any:
        """The expression's value over whatever numbers `values` holds.

        `f` is the module that supplies sqrt and the like for them: math for floats, numpy,
        torch, pyomo.environ or casadi. Numbers are taken as they are, without units: see
        `in_units`. Over floats a division by zero or the root of a negative number is NaN.

        Raises:
            ExpressionError: a name has no value.
        """
        try:
            return self._run(values, f)
        except KeyError as missing:
            raise ExpressionError(f"{grammar.shown(self.text)}: no value for {missing}.") from None
        except (ArithmeticError, ValueError):
            if f is not math:
                raise
            return math.nan

    def holds(self, values: Mapping[str, float | None]) -> bool | None:
        """Whether a condition is true for these floats; None where it can't be known.

        It can't be known when any value it names is missing, None or not a finite number, or
        when its arithmetic has no result.
        """
        for name in self.names:
            value = values.get(name)
            if value is None or not math.isfinite(value):
                return None
        try:
            return bool(self._run_strict(values, math))
        except (ArithmeticError, ValueError):
            return None

    def in_units(
        self,
        name_units: Mapping[str, str],
        result: str | None = None,
        *,
        currency: str | None = None,
        constants: Mapping[str, float] | None = None,
    ) -> Expression:
        """The same expression with every unit conversion put in, worked out once.

        It takes each name in its own unit (`name_units`) and gives `result`, or the unit that
        follows where `result` is None. `constants` replaces names by numbers. `ct` means a
        hundredth of `currency`. A bare number beside a quantity is in that quantity's unit.

        Raises:
            ExpressionError: the units do not fit; the text names both sides.
        """
        root, measured = Conversion(self.text, name_units, currency).measured(self.root)
        if result is not None:
            root = to_result(self.text, root, measured, units.unit(result, currency))
        return Expression(self.text, folded(replaced(root, constants or {}), self.text))

    def result_unit(self, name_units: Mapping[str, str], *, currency: str | None = None) -> str:
        """The unit that follows from the names' units; "" for a plain number or a condition.

        Raises:
            ExpressionError: the units do not fit.
        """
        _, measured = Conversion(self.text, name_units, currency).measured(self.root)
        return "" if measured is None or not measured._units else f"{measured:~C}"


@lru_cache(maxsize=1024)
def parse(text: str) -> Expression:
    """Read an expression.

    Raises:
        ExpressionError: with the column where reading stopped, what was expected there, and why.
    """
    return Expression(text, folded(grammar.read(text), text))
