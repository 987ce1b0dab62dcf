"""Records as JSON and back: verdicts and maps of numbers as text, plans and forecasts packed.

Single numbers keep every digit, series six significant ones. What is not a number becomes
null and comes back as NaN (None, where the record says so). Packed JSON is compressed by zlib, to
a quarter of its size. What does not read as what it should be raises RecordUnreadable: whoever
can write to the database file can damage or forge a row. Nothing here knows tables.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

import numpy as np

from twin.clock import utc
from twin.errors import RecordUnreadable
from twin.records import Forecast, Plan, PlanStatus, Series, SlabOutlook, Verdict

# Six digits tell 10 µm in a 10 m tank; more would double the size of a stored forecast.
_SERIES_FORMAT = "%.6g"
# The largest plan or forecast, unpacked: a hundred times that of four tanks.
_LARGEST_BYTES = 32 << 20

# What a slab's row holds after its number, its time and its doubt.
_SLAB_NUMBERS = (
    "mean_c", "sd_k", "difference_k", "surface_c", "in_spec_chance", "cold_chance",
    "low_c", "high_c", "now_c",
)  # fmt: skip

_E = TypeVar("_E", bound=StrEnum)


@contextmanager
def _read_as(what: str) -> Iterator[None]:
    """Turn whatever goes wrong with a damaged text into one error that says what it was."""
    try:
        yield
    except KeyError as missing:
        raise RecordUnreadable(f"{what}: {missing} is missing") from missing
    except (
        ValueError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
        zlib.error,
    ) as fault:
        raise RecordUnreadable(f"{what}: {fault!s:.120}") from fault


def one_of(kind: type[_E], text: str) -> _E:
    """The member of a word list that is stored under its word."""
    with _read_as(kind.__name__):
        return kind(text)


def finite(value: float | None) -> float | None:
    """The number, or None where it is not finite."""
    return float(value) if value is not None and math.isfinite(value) else None


def number(value: float | None) -> float:
    """The stored number; NaN where none was."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r:.40} is no number")
    return float(value)


def numbers_text(numbers: Mapping[str, float | None]) -> str:
    """A map of numbers as JSON; the same map gives the same text."""
    return _text({name: finite(value) for name, value in sorted(numbers.items())})


def numbers(text: str, what: str = "numbers") -> dict[str, float]:
    """The map of numbers, called `what` where it cannot be read; null comes back as NaN."""
    with _read_as(what):
        return {name: number(value) for name, value in json.loads(text).items()}


def names_text(names: tuple[str, ...]) -> str:
    """A list of names as JSON."""
    return _text(list(names))


@_read_as("names")
def names(text: str) -> tuple[str, ...]:
    """The list of names."""
    return _words(json.loads(text))


def packed_plan(plan: Plan) -> bytes:
    """A plan as packed JSON."""
    return _packed(
        {
            "status": plan.status.value,
            "reason": plan.reason,
            "start": plan.start.isoformat(),
            "step_s": plan.step_s,
            "moves": _series_map(plan.moves),
            "predicted": _series_map(plan.predicted),
            "cost_per_h": finite(plan.cost_per_h),
            "hold_cost_per_h": finite(plan.hold_cost_per_h),
            "binding": list(plan.binding),
            "solve_ms": finite(plan.solve_ms),
        }
    )


@_read_as("plan")
def plan(packed: bytes) -> Plan:
    """The stored plan."""
    stored = _unpacked(packed)
    return Plan(
        status=PlanStatus(stored["status"]),
        reason=_word(stored["reason"]),
        start=_time(stored["start"]),
        step_s=_above_zero(stored["step_s"]),
        moves=_series(stored["moves"]),
        predicted=_series(stored["predicted"]),
        cost_per_h=number(stored["cost_per_h"]),
        hold_cost_per_h=number(stored["hold_cost_per_h"]),
        binding=_words(stored["binding"]),
        solve_ms=number(stored["solve_ms"]),
    )


def packed_forecast(forecast: Forecast) -> bytes:
    """A forecast as packed JSON."""
    return _packed(
        {
            "start": forecast.start.isoformat(),
            "step_s": forecast.step_s,
            "model": forecast.model,
            "replications": forecast.replications,
            "seed": forecast.seed,
            "middle": _series_map(forecast.middle),
            "low": _series_map(forecast.low),
            "high": _series_map(forecast.high),
            "cost_per_h": finite(forecast.cost_per_h),
            "holding": _series_map(forecast.holding),
            "slabs": [_slab_row(slab) for slab in forecast.slabs],
        }
    )


@_read_as("forecast")
def forecast(packed: bytes) -> Forecast:
    """The stored forecast."""
    stored = _unpacked(packed)
    return Forecast(
        start=_time(stored["start"]),
        step_s=_above_zero(stored["step_s"]),
        model=_word(stored["model"]),
        replications=_whole(stored["replications"]),
        seed=_whole(stored["seed"]),
        middle=_series(stored["middle"]),
        low=_series(stored["low"]),
        high=_series(stored["high"]),
        cost_per_h=number(stored["cost_per_h"]),
        # Forecasts stored by earlier versions know neither.
        holding=_series(stored.get("holding", {})),
        slabs=tuple(_slab(row) for row in stored.get("slabs", [])),
    )


def verdict_text(verdict: Verdict) -> str:
    """A verdict as JSON."""
    return _text(
        {
            "is_clear": verdict.is_clear,
            "reasons": list(verdict.reasons),
            "checked_at": verdict.checked_at.isoformat(),
            "setpoints": {name: finite(v) for name, v in verdict.setpoints.items()},
        }
    )


@_read_as("verdict")
def verdict(text: str) -> Verdict:
    """The stored verdict."""
    stored = json.loads(text)
    return Verdict(
        # Anything but a plain yes is a no.
        is_clear=stored["is_clear"] is True,
        reasons=_words(stored["reasons"]),
        checked_at=_time(stored["checked_at"]),
        setpoints={name: number(v) for name, v in stored["setpoints"].items()},
    )


def card_text(card: Mapping[str, Any]) -> str:
    """A model's card as JSON; raises ValueError for a number that is not finite."""
    return json.dumps(card, separators=(",", ":"), allow_nan=False)


@_read_as("card")
def card(text: str) -> dict[str, Any]:
    """The stored card."""
    stored = json.loads(text)
    if not isinstance(stored, dict):
        raise TypeError(f"{text:.40} is no object")
    return stored


def _text(content: object) -> str:
    return json.dumps(content, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def _packed(content: object) -> bytes:
    return zlib.compress(_text(content).encode())


def _unpacked(packed: bytes) -> Any:
    unpacking = zlib.decompressobj()
    text = unpacking.decompress(packed, _LARGEST_BYTES)
    if not unpacking.eof:
        raise ValueError(f"cut short, or more than {_LARGEST_BYTES} bytes")
    return json.loads(text)


def _word(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value


def _words(values: object) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError(f"{values!r:.40} is no list")
    return tuple(_word(value) for value in values)


def _time(text: object) -> datetime:
    return utc(datetime.fromisoformat(_word(text)))


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r:.40} is no whole number")
    return value


def _above_zero(value: float | None) -> float:
    if not number(value) > 0:
        raise ValueError(f"{value!r:.40} is not above 0")
    return number(value)


def _slab_row(slab: SlabOutlook) -> list[object]:
    """One slab as a row: a list of keys for every slab would double a stored forecast."""
    numbers = (getattr(slab, key) for key in _SLAB_NUMBERS)
    return [slab.number, slab.leaves_at.isoformat(), slab.doubt, *(finite(n) for n in numbers)]


def _slab(row: list[Any]) -> SlabOutlook:
    whole, leaves_at, doubt, *told = row
    known = dict(zip(_SLAB_NUMBERS, map(number, told), strict=True))
    return SlabOutlook(_whole(whole), _time(leaves_at), doubt=_word(doubt), **known)


def _series_map(series: Mapping[str, Series]) -> dict[str, list[float | None]]:
    return {name: _rounded(values) for name, values in series.items()}


def _rounded(values: Series) -> list[float | None]:
    rounded = [float(_SERIES_FORMAT % value) for value in np.asarray(values).tolist()]
    return [value if math.isfinite(value) else None for value in rounded]


def _series(stored: Mapping[str, list[float | None]]) -> dict[str, Series]:
    series = {name: np.array(values, dtype=np.float64) for name, values in stored.items()}
    for name, values in series.items():
        if values.ndim != 1:
            raise ValueError(f"{name} is no series of numbers")
    return series
