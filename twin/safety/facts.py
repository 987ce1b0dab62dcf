"""What the gate takes as known at one moment, and how it says numbers.

Whatever is not known here is a text that says why; no value is ever filled in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from numbers import Real

from twin.plant import Limits, Plant, RemoteMode, Tag, WindUp
from twin.records import PlantState, TagState
from twin.safety.context import RULES, GateContext

#: How a plant file may spell degrees Celsius: what Pint knows as `degree_Celsius`.
_CELSIUS = frozenset({"degC", "°C", "celsius", "degreeC", "degree_Celsius"})


@dataclass(frozen=True)
class Case:
    """One request's surroundings, with the plant's tags by name."""

    plant: Plant
    tags: Mapping[str, Tag]
    state: PlantState
    context: GateContext
    now: datetime
    _asked: dict[str, float | str] = field(default_factory=dict, repr=False, compare=False)

    def known(self, name: str) -> float | str:
        """The tag's good, fresh, finite value at `now`, or why there is none."""
        if name not in self._asked:
            self._asked[name] = self._judged(name)
        return self._asked[name]

    def value(self, name: str) -> float | None:
        """The tag's known value or None."""
        value = self.known(name)
        return None if isinstance(value, str) else value

    def _judged(self, name: str) -> float | str:
        tag, at = self.tags.get(name), self.state.tags.get(name)
        if tag is None:
            return f"plant {self.plant.plant} has no such tag"
        if at is None:
            return "no reading of it is known"
        if at.is_usable is not True:
            return at.reason.removeprefix(f"{name}: ") or "its reading is not usable"
        value = number(at.value)
        if value is None:
            return f"its value is {at.value}, which is no finite number"
        if not isinstance(at.quality, int) or at.quality >> 30 != 0:
            return f"its quality is {at.quality!r}, which is not Good"
        return self._old(tag, at) or value

    def _old(self, tag: Tag, at: TagState) -> str:
        """Why the reading's age rules it out at `now`; empty if it does not."""
        source_age_s, arrival_age_s = number(at.source_age_s), number(at.arrival_age_s)
        if at.source_time is None or not is_zoned(at.source_time):
            return "its source time is not known"
        if source_age_s is None or arrival_age_s is None:
            return "its age is not known"
        stamped_s = (self.now - at.source_time).total_seconds()
        since_state_s = (self.now - self.state.at).total_seconds()
        ages_s = (stamped_s, source_age_s + since_state_s, arrival_age_s + since_state_s)
        if max(ages_s) > tag.max_age_s:
            return (
                f"its last reading is {max(ages_s):.0f} s old, and readings older than "
                f"{tag.max_age_s:.0f} s are not used"
            )
        if min(ages_s) < -self.plant.step_s:
            return f"its last reading is stamped {-min(ages_s):.0f} s ahead of now"
        return ""


def number(value: object) -> float | None:
    """`value` as a finite float, or None; a truth value is no number."""
    if isinstance(value, float):  # by far the most frequent kind, and the quickest to judge
        return value if math.isfinite(value) else None
    if not isinstance(value, Real) or isinstance(value, bool):
        return None
    try:
        plain = float(value)
    except OverflowError:
        return None
    return plain if math.isfinite(plain) else None


def is_zoned(moment: datetime) -> bool:
    """Whether the moment names a zone; without one it cannot be compared."""
    return moment.utcoffset() is not None


def related(tag: Tag) -> tuple[str, ...]:
    """The tags that can block this MV, its own first.

    Where it stands, its mode and its wind-up status are among them: unknown, they mean no.
    """
    shown = (tag.stands_at, *_named(tag.remote), *_named(tag.windup))
    cvs = (relief.cv for relief in tag.relief)
    return tuple(dict.fromkeys((tag.name, *shown, *tag.requires, *cvs)))


def _named(part: RemoteMode | WindUp | None) -> tuple[str, ...]:
    return () if part is None else (part.tag,)


def highest_low(*pairs: Limits | None) -> float:
    """The low limit that binds, −inf where none is given."""
    return max((p.low for p in pairs if p is not None and p.low is not None), default=-math.inf)


def lowest_high(*pairs: Limits | None) -> float:
    """The high limit that binds, +inf where none is given."""
    return min((p.high for p in pairs if p is not None and p.high is not None), default=math.inf)


def rounding(*numbers: float) -> float:
    """What floating-point rounding may add to a difference of these numbers."""
    return RULES.rounding * max(abs(each) for each in numbers)


def is_same(setpoint: float, present: float) -> bool:
    """Whether the setpoint leaves the MV where it is."""
    return abs(setpoint - present) <= rounding(setpoint, present)


def outside(tag: Tag, value: float, limit: float) -> str:
    """“name: value is above” or “below”, for a limit to follow."""
    side = "above" if value > limit else "below"
    return f"{tag.name}: {show(tag, value, limit)} is {side}"


def show(tag: Tag, value: float, beside: float | None = None) -> str:
    """The value in the tag's decimals and unit, with more digits if `beside` would look alike."""
    return f"{_digits(tag, value, beside)} {tag.unit}".rstrip()


def show_difference(tag: Tag, size: float, beside: float | None = None) -> str:
    """The same of a difference between two of the tag's values, in `difference_unit`."""
    return f"{_digits(tag, size, beside)} {difference_unit(tag)}".rstrip()


def difference_unit(tag: Tag) -> str:
    """The unit of a difference between two of the tag's values: K where they are in °C."""
    return "K" if tag.unit in _CELSIUS else tag.unit


def _digits(tag: Tag, value: float, beside: float | None) -> str:
    decimals = tag.decimals
    if beside is not None and beside != value:
        while decimals < 15 and f"{value:.{decimals}f}" == f"{beside:.{decimals}f}":
            decimals += 1
    return f"{value:.{decimals}f}" if abs(value) < 1e12 else f"{value:g}"
