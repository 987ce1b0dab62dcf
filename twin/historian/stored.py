"""Records as JSON and back: verdicts and maps of numbers as text, plans and forecasts packed.

Single numbers keep every digit, series six significant ones. What is not a number becomes
null and comes back as NaN (None, where the record says so). Packed JSON is compressed by zlib, to
a quarter of its size. Nothing here knows tables.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np

from twin.records import Forecast, Plan, PlanStatus, Series, Verdict

# Six digits tell 10 µm in a 10 m tank; more would double the size of a stored forecast.
_SERIES_FORMAT = "%.6g"


def finite(value: float | None) -> float | None:
    """The number, or None where it is not finite."""
    return float(value) if value is not None and math.isfinite(value) else None


def number(value: float | None) -> float:
    """The stored number; NaN where none was."""
    return math.nan if value is None else float(value)


def numbers_text(numbers: Mapping[str, float | None]) -> str:
    """A map of numbers as JSON; the same map gives the same text."""
    return _text({name: finite(value) for name, value in sorted(numbers.items())})


def numbers(text: str) -> dict[str, float]:
    """The map of numbers; null comes back as NaN."""
    return {name: number(value) for name, value in json.loads(text).items()}


def names_text(names: tuple[str, ...]) -> str:
    """A list of names as JSON."""
    return _text(list(names))


def names(text: str) -> tuple[str, ...]:
    """The list of names."""
    return tuple(json.loads(text))


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


def plan(packed: bytes) -> Plan:
    """The stored plan."""
    stored = _unpacked(packed)
    return Plan(
        status=PlanStatus(stored["status"]),
        reason=stored["reason"],
        start=datetime.fromisoformat(stored["start"]),
        step_s=stored["step_s"],
        moves=_series(stored["moves"]),
        predicted=_series(stored["predicted"]),
        cost_per_h=number(stored["cost_per_h"]),
        hold_cost_per_h=number(stored["hold_cost_per_h"]),
        binding=tuple(stored["binding"]),
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
        }
    )


def forecast(packed: bytes) -> Forecast:
    """The stored forecast."""
    stored = _unpacked(packed)
    return Forecast(
        start=datetime.fromisoformat(stored["start"]),
        step_s=stored["step_s"],
        model=stored["model"],
        replications=stored["replications"],
        seed=stored["seed"],
        middle=_series(stored["middle"]),
        low=_series(stored["low"]),
        high=_series(stored["high"]),
        cost_per_h=number(stored["cost_per_h"]),
        holding=_series(stored.get("holding", {})),
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


def verdict(text: str) -> Verdict:
    """The stored verdict."""
    stored = json.loads(text)
    return Verdict(
        is_clear=stored["is_clear"],
        reasons=tuple(stored["reasons"]),
        checked_at=datetime.fromisoformat(stored["checked_at"]),
        setpoints={name: number(v) for name, v in stored["setpoints"].items()},
    )


def card_text(card: Mapping[str, Any]) -> str:
    """A model's card as JSON; raises ValueError for a number that is not finite."""
    return json.dumps(card, separators=(",", ":"), allow_nan=False)


def card(text: str) -> dict[str, Any]:
    """The stored card."""
    stored: dict[str, Any] = json.loads(text)
    return stored


def _text(content: object) -> str:
    return json.dumps(content, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def _packed(content: object) -> bytes:
    return zlib.compress(_text(content).encode())


def _unpacked(packed: bytes) -> Any:
    return json.loads(zlib.decompress(packed))


def _series_map(series: Mapping[str, Series]) -> dict[str, list[float | None]]:
    return {name: _rounded(values) for name, values in series.items()}


def _rounded(values: Series) -> list[float | None]:
    rounded = [float(_SERIES_FORMAT % value) for value in np.asarray(values).tolist()]
    return [value if math.isfinite(value) else None for value in rounded]


def _series(stored: Mapping[str, list[float | None]]) -> dict[str, Series]:
    return {name: np.array(values, dtype=np.float64) for name, values in stored.items()}
