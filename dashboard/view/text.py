"""Numbers, units, money, ages and times as a person reads them.

Every time on the screen goes through `in_zone`, so no two places can show different zones.
Nothing here knows a page.
"""

from __future__ import annotations

import math
import re
from datetime import datetime
from zoneinfo import ZoneInfo

from twin.plant import Limits, Plant
from twin.records import TagState

_LONGEST = 1000  # characters, chosen: some ten lines of a table
# A value that took longer from its sample to us is told as late: a laboratory's, an analyser's. A
# busy machine alone makes an emulator's values at 60 times as fast seem minutes old.
_LATE_S = 300.0
NOTHING = "–"  # the mark for "no value"; a minus sign would look like a number

_SUPERSCRIPTS = {"**2": "²", "**3": "³", "**4": "⁴", "**5": "⁵"}
_PRODUCT = re.compile(r"(?<=\w)\*(?=\w)")
# Severities of OPC UA status codes, by their top two bits (OPC 10000-4, 7.39).
_SEVERITIES = ("good", "uncertain", "bad", "bad")
_CELSIUS = re.compile(r"\bdegC\b")
_STATUS_CODE = re.compile(r"\b0x([0-9a-fA-F]{8})\b")
_MANY_SECONDS = re.compile(r"(?<![\w.,])(\d{4,}) s(?![\w/])")
_ITSELF = re.compile(r"(?<!\S)(\S+) needs \1: \1: ")
_ISO_TIME = re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:\+00:00|Z)")
_SEAL = re.compile(r"\b([0-9a-f]{8})[0-9a-f]{24}\.[0-9a-f]{64}\b")


def in_zone(moment: datetime, plant: Plant) -> datetime:
    """The same moment on the plant's own clock: the only place where a zone is applied."""
    return moment.astimezone(ZoneInfo(plant.time_zone))


def clock_time(moment: datetime | None, plant: Plant) -> str:
    """Hours, minutes and seconds in the plant's zone."""
    return in_zone(moment, plant).strftime("%H:%M:%S") if moment is not None else NOTHING


def date_time(moment: datetime | None, plant: Plant) -> str:
    """Date and time in the plant's zone."""
    return in_zone(moment, plant).strftime("%Y-%m-%d %H:%M:%S") if moment is not None else NOTHING


def hour_minute(moment: datetime | None, plant: Plant) -> str:
    """Hours and minutes in the plant's zone."""
    return in_zone(moment, plant).strftime("%H:%M") if moment is not None else NOTHING


def zone_name(moment: datetime, plant: Plant) -> str:
    """The plant's zone and its present offset: "Europe/Berlin, UTC+01:00"; "UTC" alone."""
    if plant.time_zone == "UTC":
        return "UTC"
    offset = in_zone(moment, plant).strftime("%z")
    return f"{plant.time_zone}, UTC{offset[:3]}:{offset[3:]}"


def number(value: float | None, decimals: int = 2) -> str:
    """A number with that many decimals; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return NOTHING
    shown = f"{value:.{decimals}f}"
    return shown.removeprefix("-") if float(shown) == 0 else shown


def signed(value: float | None, decimals: int = 2) -> str:
    """A change with its sign; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{value:+.{decimals}f}" if float(f"{value:.{decimals}f}") else number(0.0, decimals)


def on_paper(sentence: str) -> str:
    """A sentence as one writes it for people: "7.4 cm**3/s" becomes "7.4 cm³/s", degC °C.

    A status code becomes its severity ("bad"), a tag that needs itself is named once, and thousands
    of seconds are told in larger units.
    """
    for power, sign in _SUPERSCRIPTS.items():
        sentence = sentence.replace(power, sign)
    sentence = _CELSIUS.sub("°C", sentence)
    sentence = _STATUS_CODE.sub(lambda code: _SEVERITIES[int(code[1], 16) >> 30], sentence)
    sentence = _ITSELF.sub(r"\1: ", sentence)
    return _PRODUCT.sub("·", with_durations(sentence))


def with_durations(sentence: str) -> str:
    """A sentence with thousands of seconds in larger units: "319 d 5 h old"; fewer stay seconds."""
    return _MANY_SECONDS.sub(lambda found: duration(float(found[1])), sentence)


def told(sentence: str, plant: Plant) -> str:
    """A stored sentence for the screen: its times in the plant's zone, seals by their beginning."""
    local = _ISO_TIME.sub(lambda found: _local(found[0], plant), shortened(sentence))
    return _SEAL.sub(r"\1", local)


def shortened(sentence: str, most: int = _LONGEST) -> str:
    """A sentence that cannot flood the page: its beginning, and how much was left out."""
    if len(sentence) <= most:
        return sentence
    return f"{sentence[:most]} … ({len(sentence) - most} more characters)"


def money(value: float | None, currency: str, per: str = "h") -> str:
    """An amount per hour (or per nothing, with `per` empty): "12.30 ct/h"."""
    amount = number(value, 2)
    return amount if amount == NOTHING else f"{amount} {currency}{'/' + per if per else ''}"


def span(limits: Limits | None, decimals: int) -> str:
    """A range as "5.00 … 17.00", an open side as a dash."""
    if limits is None or (limits.low is None and limits.high is None):
        return NOTHING
    return f"{_edge(limits.low, decimals)} … {_edge(limits.high, decimals)}"


def duration(seconds: float | None) -> str:
    """A length of time in its two largest units: "8 s", "3 min 5 s", "2 h 10 min", "3 d 4 h"."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return _two(whole, 60, "min", 1, "s")
    if whole < 86_400:
        return _two(whole, 3600, "h", 60, "min")
    return _two(whole, 86_400, "d", 3600, "h")


def came(known: TagState) -> str:
    """When a late value was sampled and when it arrived; empty for one that came as it should."""
    late_s = known.source_age_s - known.arrival_age_s
    if not (math.isfinite(late_s) and late_s >= _LATE_S):
        return ""
    return (
        f"sampled {duration(known.source_age_s)} ago, arrived {duration(known.arrival_age_s)} ago"
    )


def percent(share: float | None) -> str:
    """A share between 0 and 1 in percent."""
    return f"{100 * share:.0f} %" if share is not None and math.isfinite(share) else NOTHING


def _local(iso_time: str, plant: Plant) -> str:
    # Anybody may have written it: what is no time stays as it stands.
    try:
        return date_time(datetime.fromisoformat(iso_time), plant)
    except (ValueError, OverflowError):
        return iso_time


def _two(whole: int, large_s: int, large: str, small_s: int, small: str) -> str:
    count, rest = divmod(whole, large_s)
    parts = f"{count} {large}"
    return f"{parts} {rest // small_s} {small}" if rest // small_s else parts


def _edge(value: float | None, decimals: int) -> str:
    # Limits are round numbers: ".00" after each would only widen the table.
    shown = number(value, decimals)
    return shown.rstrip("0").rstrip(".") if "." in shown else shown
