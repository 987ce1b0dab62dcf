"""What an MQTT message says of a tag: a number with quality and time, or why it is none.

    21.5   true                                   a plain number or truth value
    {"value": 21.5, "time": "2026-01-05T12:00:00Z", "quality": "good"}
    {"oven": {"left": 21.5, "right": {"value": 22, "ts": 1767614400}}}    #oven.left, #oven.right

Time: `time`, `timestamp`, `ts` or `timestamp_ms` of the innermost object around the value that has
one, as ISO 8601 (without a zone: in the plant's) or as a number since 1970 UTC, whose size says
whether it counts s, ms, µs or ns. Quality: `quality` or `q`, as a word (good, uncertain, bad), a
truth value, an OPC UA status code or an OPC classic quality. A quality that says nothing known is
Uncertain, and so is 0: it is Good in OPC UA and Bad in OPC classic.

Nothing here raises: whatever a message holds, it is a value or a fault in words. No broker is
known here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from twin.records import BAD, GOOD, UNCERTAIN

#: A larger payload is not looked into: a message of one plant's tags is some kilobytes.
LARGEST_PAYLOAD = 1 << 20

# OPC UA status codes (OPC 10000-6, annex A).
BAD_DECODING_ERROR = 0x8007_0000
BAD_TOO_LARGE = 0x8008_0000  # Bad_EncodingLimitsExceeded
BAD_TYPE_MISMATCH = 0x8074_0000

_TIME_KEYS = ("time", "timestamp", "ts", "timestamp_ms")
_QUALITY_KEYS = ("quality", "q")
_WORDS = (("good", GOOD), ("uncertain", UNCERTAIN), ("bad", BAD))
# OPC classic (OPC DA 3.0, 6.8): the top two bits of a byte.
_CLASSIC = {3: GOOD, 1: UNCERTAIN, 0: BAD}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The years 1973 to 5138 as s are 1e8 to 1e11, as ms 1e11 to 1e14, and so on: they never overlap.
_UNITS = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (1e20, 1e9))
_YEARS_WITHOUT_TIME = 1970  # a clock never set counts from there


@dataclass(frozen=True, slots=True)
class Said:
    """A value as it came, its quality and its own time; `fault` says what is wrong, if anything."""

    raw: object
    quality: int
    time: datetime | None
    fault: str = ""


class Payload:
    """One message, read once for all tags in it; zone-less times are in `zone`.

    In the hour that comes twice, when clocks go back, the time is meant that is nearer to `near`.
    """

    def __init__(self, payload: bytes, zone: tzinfo = UTC, near: datetime | None = None) -> None:
        self._zone = zone
        self._near = near
        self._document, self._fault = _decoded(payload)

    def said(self, key: str = "") -> Said | None:
        """What it says of the value at `key` (object keys and list positions, by points).

        None where it is whole and says nothing of it: many devices send only what has changed.
        """
        if self._fault is not None:
            return self._fault
        value: Any = self._document
        around: list[Mapping[str, Any]] = []
        for step in key.split(".") if key else ():
            if isinstance(value, dict):
                around.insert(0, value)
            value = _inside(value, step)
            if value is _NOTHING:
                return None
        if isinstance(value, dict):
            around.insert(0, value)
            value = value.get("value", _NOTHING)
            if value is _NOTHING:
                return None
        return self._judged(value, around)

    def _judged(self, value: Any, around: Iterable[Mapping[str, Any]]) -> Said:
        around = list(around)
        time, fault = self._time(_first(around, _TIME_KEYS))
        quality, doubt = _quality(_first(around, _QUALITY_KEYS))
        if fault:
            quality = max(quality, UNCERTAIN)
        if not isinstance(value, bool | float):
            kind = _KINDS.get(type(value), "nothing")
            shown = f"{kind}, {_short(value)}" if isinstance(value, str) else kind
            message = f"it holds {shown}; a number or true or false is needed"
            return Said(None, BAD_TYPE_MISMATCH, time, message)
        if not math.isfinite(value):
            return Said(None, BAD_TYPE_MISMATCH, time, f"{value} is no finite number")
        return Said(value, quality, time, fault or doubt)

    def _time(self, stamp: Any) -> tuple[datetime | None, str]:
        """A moment in UTC, or what is wrong with the time; None and "" where there is none."""
        if stamp is _NOTHING or stamp is None:
            return None, ""
        try:
            moment = self._moment(stamp)
        except (ValueError, OverflowError, TypeError):
            return None, f"its time {_short(stamp)} is none that we know"
        if moment.year <= _YEARS_WITHOUT_TIME:
            return None, f"its time {_short(stamp)} is that of a clock never set"
        return moment, ""

    def _moment(self, stamp: Any) -> datetime:
        if isinstance(stamp, str):
            moment = datetime.fromisoformat(stamp.strip())
            if moment.tzinfo is not None:
                return moment.astimezone(UTC)
            passes = [moment.replace(tzinfo=self._zone, fold=n).astimezone(UTC) for n in (0, 1)]
            near = self._near or passes[0]
            return min(passes, key=lambda each: abs(each - near))
        if isinstance(stamp, bool) or not isinstance(stamp, float):
            raise TypeError("a time is a text or a number")
        per_s = next((per_s for most, per_s in _UNITS if abs(stamp) < most), None)
        if per_s is None:
            raise ValueError("no unit makes it a time of ours")
        return _EPOCH + timedelta(seconds=stamp / per_s)


_NOTHING = object()
_KINDS: Mapping[type, str] = {str: "a text", list: "a list", dict: "an object"}


def _decoded(payload: bytes) -> tuple[Any, Said | None]:
    if len(payload) > LARGEST_PAYLOAD:
        message = f"its {len(payload)} bytes are more than the {LARGEST_PAYLOAD} that are read"
        return None, Said(None, BAD_TOO_LARGE, None, message)
    try:
        text = payload.decode("utf-8-sig").strip()
        if text.lower() in ("true", "false"):
            return text.lower() == "true", None
        # As floats: the whole numbers of JSON have no end, and Python's take longer and longer.
        return json.loads(text, parse_int=float), None
    except UnicodeDecodeError:
        message = f"it begins with {_short(payload[:16])}, which is no UTF-8 text"
        return None, Said(None, BAD_DECODING_ERROR, None, message)
    except (ValueError, RecursionError):
        shown = _short(payload[:80].decode("utf-8", "replace"))
        message = f"{shown} is neither a number, true, false nor JSON"
        return None, Said(None, BAD_DECODING_ERROR, None, message)


def _inside(value: Any, step: str) -> Any:
    if isinstance(value, dict):
        return value.get(step, _NOTHING)
    if isinstance(value, list) and step.isascii() and step.isdigit() and len(step) < 8:
        return value[int(step)] if int(step) < len(value) else _NOTHING
    return _NOTHING


def _first(around: Iterable[Mapping[str, Any]], keys: Iterable[str]) -> Any:
    found = (each[key] for each in around for key in keys if key in each)
    return next(found, _NOTHING)


def _quality(told: Any) -> tuple[int, str]:
    """The status code of a told quality, and what is doubtful about it, if anything."""
    if told is _NOTHING or told is None:
        return GOOD, ""
    if isinstance(told, bool):
        return (GOOD if told else BAD), ""
    if isinstance(told, str):
        for word, quality in _WORDS:
            if told.strip().lower().startswith(word):
                return quality, ""
    elif isinstance(told, float) and told.is_integer():
        code = int(told)
        if UNCERTAIN <= code < 1 << 32:
            return code, ""
        if 0 < code < 256 and code >> 6 in _CLASSIC:
            return _CLASSIC[code >> 6], ""
    return UNCERTAIN, f"its quality {_short(told)} is none that we know"


def _short(told: object) -> str:
    shown = repr(told)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
