"""Units of measurement and money: one Pint registry for the whole of Plantwright.

Each currency is a dimension of its own, so different currencies never mix. `ct` is a hundredth of
the currency it is used with; on its own (currency `ct`) it is a currency like the others. Nothing
here knows tags or expressions.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import pint

from twin.errors import ExpressionError

CURRENCIES = (
    *("ct", "AUD", "BRL", "CAD", "CHF", "CNY", "CZK", "DKK", "EUR", "GBP", "HUF", "IDR", "INR"),
    *("JPY", "KRW", "MXN", "NOK", "NZD", "PLN", "SEK", "SGD", "TRY", "USD", "ZAR"),
)

_ALLOWED = re.compile(r"[\w*/^().°%µμΩ²³⁻¹· -]{0,60}")
# A number in a unit is a one-digit exponent or the 1 of "1/min": larger ones are typing errors,
# and a tower of exponents would keep the machine busy for ever.
_NUMBER = re.compile(r"(?<![\w.])\d[\d.]*(?:e\d+)?", re.IGNORECASE)
_EXPONENT = re.compile(r"(?:\*\*|\^)\s*\(?\s*-?\s*$")
_TOWER = re.compile(r"(?:\*\*|\^)\s*[\s(\-]*[\d.]+[\s)]*(?:\*\*|\^)")


@lru_cache(maxsize=1)
def registry() -> Any:
    """The one unit registry; made at first use because it takes a fifth of a second."""
    # Pint's own `ct` is the carat; here it is money, and Pint need not warn of it each time.
    units = pint.UnitRegistry(cache_folder=None, on_redefinition="ignore")
    for currency in CURRENCIES:
        units.define(f"{currency} = [money_{currency}]")
        units.define(f"cent_{currency} = 0.01 * {currency}")
    return units


@lru_cache(maxsize=1024)
def unit(text: str, currency: str | None = None) -> Any:
    """The Pint unit written in `text` ("" is a plain number).

    With `currency` given, `ct` means a hundredth of it.

    Raises:
        ExpressionError: the text is not a unit.
    """
    parsed = _parsed(text)
    if currency is None or currency == "ct" or "ct" not in dict(parsed._units):
        return parsed
    return registry().Unit(parsed._units.rename("ct", f"cent_{currency}"))


def factor(source: Any, target: Any) -> float | None:
    """What a number in `source` is multiplied by to be in `target`; None where they do not fit.

    Neither unit may have an offset (see `has_offset`).
    """
    if source == target:
        return 1.0
    if source.dimensionality != target.dimensionality:
        return None
    return float(registry().convert(1.0, source, target))


def has_offset(measured: Any) -> bool:
    """Whether the unit's zero is not the zero of its quantity: degC, degF, decibels."""
    if not measured._units:
        return False
    return bool(registry().Quantity(0.0, measured).to_base_units().magnitude != 0.0)


def difference(measured: Any) -> Any | None:
    """The unit of a difference of two values in an offset unit; None where there is none."""
    name = f"delta_{measured}"
    return registry().Unit(name) if name in registry() else None


def is_plain(measured: Any) -> bool:
    """Whether no two parts of the unit measure the same thing, as L and cm**3 in ct/L*cm**3/s."""
    kinds = [frozenset(_base(part).items()) for part in dict(measured._units)]
    return len(kinds) == len(set(kinds))


@lru_cache(maxsize=256)
def _base(part: str) -> Any:
    """The one base dimension a simple unit is a power of, or its dimensions as they are."""
    dimensions = dict(registry().Unit(part).dimensionality)
    return dict.fromkeys(dimensions, 1) if len(dimensions) == 1 else dimensions


def _parsed(text: str) -> Any:
    fault = f'{text!r} is not a unit; write it like cm**3/s, ct/(W*h) or degC, or "" for none.'
    if not _ALLOWED.fullmatch(text) or _TOWER.search(text) or _has_odd_number(text):
        raise ExpressionError(fault)
    try:
        return registry().parse_units(text)
    except pint.UndefinedUnitError as unknown:
        names = unknown.unit_names
        name = names if isinstance(names, str) else ", ".join(names)
        raise ExpressionError(f"{text!r}: unknown unit {name!r}.") from None
    # Pint has no common class for what its tokenizer and its tree raise on malformed text.
    except (pint.PintError, ValueError, TypeError, AttributeError, AssertionError, SyntaxError):
        raise ExpressionError(fault) from None


def _has_odd_number(text: str) -> bool:
    for number in _NUMBER.finditer(text):
        is_exponent = _EXPONENT.search(text[: number.start()]) is not None
        if not (
            re.fullmatch(r"\d(\.\d)?", number.group()) if is_exponent else number.group() == "1"
        ):
            return True
    return False
