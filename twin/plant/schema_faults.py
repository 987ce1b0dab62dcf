"""Pydantic's verdict on a plant file in the words of this project."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from typing import Any

from pydantic_core import ErrorDetails

from twin.plant.document import Finding, Place
from twin.plant.shape import Plant, nearest
from twin.plant.values import ODD_CHARACTER, foreign_letter

_UNKNOWN_KEY = "unexpected_keyword_argument"


def finding(error: ErrorDetails, content: Any) -> tuple[Finding, Place | None]:
    """One fault, and the place that was meant if an unknown key is a misspelt known one."""
    place = place_of(error, content)
    if error["type"] == _UNKNOWN_KEY:
        known = sorted(known_keys(place[:-1], content))
        near = nearest(str(place[-1]), known)
        meant = near.removeprefix(" Did you mean ").removesuffix("?").split(" or ")[0]
        remedy = near.strip() or f"Known here: {', '.join(known)}."
        return Finding(place, "is not a known key.", remedy), (*place[:-1], meant) if near else None
    message, remedy = said(error)
    return Finding(place, message, remedy), None


def is_unknown_key(error: ErrorDetails) -> bool:
    """Whether the fault is a key that no plant file has at this place."""
    return error["type"] == _UNKNOWN_KEY


def place_of(error: ErrorDetails, content: Any) -> Place:
    """Pydantic's location without the names of union members, which the file does not have."""
    place: list[str | int] = []
    for step in error["loc"]:
        is_item = isinstance(content, list) and isinstance(step, int) and step < len(content)
        if is_item or (isinstance(content, dict) and step in content):
            content = content[step]
            place.append(step)
        elif isinstance(content, dict) and error["type"] == "missing" and step == error["loc"][-1]:
            place.append(step)
    return tuple(place)


def known_keys(place: Place, content: Any) -> set[str]:
    """The keys a plant file may have at a place."""
    here: list[Any] = [Plant]
    for step in place:
        content = content[step]
        if isinstance(step, str) and any(field.name == step for s in here for field in _fields(s)):
            here = [
                inner
                for shape in here
                if step in typing.get_type_hints(shape)
                for inner in _dataclasses_in(typing.get_type_hints(shape)[step])
            ]
        kind = content.get("kind") if isinstance(content, dict) else None
        chosen = [shape for shape in here if _kind(shape) == kind is not None]
        here = chosen or here
    return {field.name for shape in here for field in _fields(shape)} - {"path"}


def _fields(shape: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(shape)


def _kind(shape: Any) -> str | None:
    hint = typing.get_type_hints(shape).get("kind")
    return typing.get_args(hint)[0] if hint is not None else None


def _dataclasses_in(hint: Any) -> Iterator[Any]:
    if dataclasses.is_dataclass(hint):
        yield hint
    for part in typing.get_args(hint):
        if isinstance(part, type | types.UnionType | types.GenericAlias) or typing.get_args(part):
            yield from _dataclasses_in(part)


def said(error: ErrorDetails) -> tuple[str, str]:
    """What is wrong with one value, and what to do about it where that is not plain."""
    value = _value(error["input"])
    context: Mapping[str, Any] = error.get("ctx", {})
    kind = error["type"]
    if kind == "union_tag_not_found" and "sources" in error["loc"]:
        return "has no kind.", "Add kind: opcua or mqtt."
    if kind in _SAID:
        return _SAID[kind](value, context)
    if kind.endswith("_type") and kind.removesuffix("_type") in _KINDS:
        remedy = _NUMBER_RULE if kind == "float_type" and _reads_as_number(error["input"]) else ""
        return f"{value} is not {_KINDS[kind.removesuffix('_type')]}.", remedy
    return f"{value} does not fit: {error['msg']}.", ""


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "a block of keys"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if value is None:
        return "nothing"
    text = value.isoformat() if isinstance(value, date) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _reads_as_number(value: Any) -> bool:
    """Whether it is text that a person takes for a number: YAML's 1e3 is one."""
    try:
        return isinstance(value, str) and math.isfinite(float(value))
    except ValueError:
        return False


def _bound(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


_KINDS = {
    "float": "a number",
    "int": "a whole number",
    "string": "text; put it in quotes",
    "tuple": "a list",
    "list": "a list",
    "dataclass": "a block of keys",
    "mapping": "a block of keys",
    "dict": "a block of keys",
    "datetime": "a time",
}

_NAME_RULE = "Use lower-case letters, digits and _, parts joined by dots, e.g. pump_1.flow."


def _no_name(value: str, context: Mapping[str, Any]) -> tuple[str, str]:
    foreign = foreign_letter(value)
    return f"{value} is not a name{f': {foreign}' if foreign else ''}.", _NAME_RULE


_NUMBER_RULE = "Write it without quotes, with point and sign where it has an e, like 1.0e+3."
_TIME_RULE = "Write it like 2001-01-01T00:00:00Z, with its zone."
_Saying = Callable[[str, Mapping[str, Any]], tuple[str, str]]

_SAID: dict[str, _Saying] = {
    "missing": lambda value, c: ("is missing.", "Add it."),
    "finite_number": lambda value, c: (f"{value} is not a finite number.", ""),
    "greater_than": lambda value, c: (f"{value} must be above {_bound(c['gt'])}.", ""),
    "greater_than_equal": lambda value, c: (f"{value} must be {_bound(c['ge'])} or above.", ""),
    "less_than": lambda value, c: (f"{value} must be below {_bound(c['lt'])}.", ""),
    "less_than_equal": lambda value, c: (f"{value} must be {_bound(c['le'])} or below.", ""),
    "string_pattern_mismatch": _no_name,
    ODD_CHARACTER: lambda value, c: (
        f"{value} holds {c['odd']}, which nobody sees.",
        "Remove it; YAML's >- makes one line of several.",
    ),
    "string_too_long": lambda value, c: (
        f"{value} is longer than {c['max_length']} characters.",
        "Shorten it.",
    ),
    "string_too_short": lambda value, c: ("is empty.", "Give it or leave the key out."),
    "literal_error": lambda value, c: (f"{value} is not one of {c['expected']}.", ""),
    "enum": lambda value, c: (f"{value} is not one of {c['expected']}.", ""),
    "union_tag_invalid": lambda value, c: (
        f"kind {_value(c['tag'])} is not one of {c['expected_tags']}.",
        "",
    ),
    "union_tag_not_found": lambda value, c: (
        "has no kind.",
        "Add kind: batches, trips, tariff, furnace or mill.",
    ),
    "timezone_aware": lambda value, c: (f"{value} has no time zone.", _TIME_RULE),
    "datetime_parsing": lambda value, c: (f"{value} is not a time.", _TIME_RULE),
    "datetime_from_date_parsing": lambda value, c: (f"{value} is not a time.", _TIME_RULE),
    "too_long": lambda value, c: (f"holds {value}, but {c['max_length']} are needed.", ""),
    "too_short": lambda value, c: (f"holds {value}, but {c['min_length']} are needed.", ""),
}
