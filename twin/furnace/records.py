"""Slab records as the plant shows them: read and doubted.

One moment at a time: what a record was before, and what is believed in the end, is `tracking`'s.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from twin.furnace.state import Slab
from twin.plant.furnace import RECORD, Furnace

# What a slab can be; a record beyond is a typing error or a dead sensor. Assumed, wide.
_THICKNESS_M = (0.05, 0.6)
_CHARGE_C = (-40.0, 1250.0)
_RATE_T_PER_H = (1.0, 2000.0)
#: Where neither the record nor a neighbour says: a middling slab, charged cold.
_STAND_IN = Slab(0, 0.22, 20.0, -1, 200.0)
UNDESCRIBED = -1  # the grade of a slab whose grade the plant file does not describe


@dataclass(frozen=True)
class Read:
    """One minute's records: slot 1 first, None where none is usable; the yard; what is odd.

    `doubts` (slot) says what of a usable record was replaced, `twice` (number) in which slots a
    slab is said to stand at once, `yard_faults` what is wrong with the yard, by place.
    """

    slots: tuple[Slab | None, ...]
    yard: tuple[Slab, ...]
    doubts: Mapping[int, str]
    twice: Mapping[int, tuple[int, ...]]
    yard_faults: Mapping[int, str]


class Records:
    """The slab records of one furnace."""

    def __init__(self, furnace: Furnace) -> None:
        self._grades = frozenset(furnace.grades)
        self._slots = [
            tuple(furnace.slot_tag(k, part) for part in RECORD) for k in range(1, furnace.slots + 1)
        ]
        self._yard = [
            tuple(furnace.yard_tag(k, part) for part in RECORD)
            for k in range(1, furnace.yard_places + 1)
        ]
        self.tags = tuple(tag for tags in (*self._slots, *self._yard) for tag in tags)
        self._last: tuple[list[float], Read] | None = None

    def read(self, seen: Mapping[str, float]) -> Read:
        """Every record of one moment. A number that stands in two slots is believed in neither."""
        numbers = [seen[tag] for tag in self.tags]
        if self._last is None or not _same(self._last[0], numbers):
            self._last = numbers, self._read(seen)
        return self._last[1]

    def _read(self, seen: Mapping[str, float]) -> Read:
        slots: list[Slab | None] = []
        doubts: dict[int, str] = {}
        records = [[seen[tag] for tag in tags] for tags in self._slots]
        near = next((s for s, doubt in map(self._slab, records) if s and not doubt), None)
        for k, record in enumerate(records, start=1):
            slab, doubt = self._slab(record, near)
            near = slab or near
            if doubt:
                doubts[k] = doubt
            slots.append(slab)
        counted = Counter(slab.number for slab in slots if slab is not None)
        twice = {}
        for number in (number for number, times in counted.items() if times > 1):
            where = [k for k, s in enumerate(slots, 1) if s is not None and s.number == number]
            twice[number] = tuple(where)
            for k in where:
                slots[k - 1] = None
        yard, faults = self._read_yard(seen, next((s for s in slots if s is not None), None))
        return Read(tuple(slots), yard, doubts, twice, faults)

    def _read_yard(
        self, seen: Mapping[str, float], near: Slab | None
    ) -> tuple[tuple[Slab, ...], dict[int, str]]:
        """Slabs in the order in which they come; a gap is filled with one like the one before it.

        A yard may end early: empty places (number 0) behind the last slab are no fault.
        """
        yard: list[Slab] = []
        faults: dict[int, str] = {}
        records = [[seen[tag] for tag in tags] for tags in self._yard]
        filled = [k for k, record in enumerate(records) if is_number(record[0])]
        for k, record in enumerate(records):
            slab, doubt = self._slab(record, near)
            if slab is not None and doubt:
                faults[k + 1] = f"slab {slab.number}: {doubt}"
            if slab is None:
                is_end = record[0] == 0.0 and (not filled or k > filled[-1])
                if not is_end:
                    faults[k + 1] = "no slab record; one like the slab before it is expected"
                if not filled or k > filled[-1]:
                    continue
                slab = replace(near or _STAND_IN, number=0)
            near = slab
            yard.append(slab)
        return tuple(yard), faults

    def _slab(self, numbers: Sequence[float], near: Slab | None = None) -> tuple[Slab | None, str]:
        """The slab of a record and what had to be replaced in it; None without a number."""
        number, thickness_mm, charge_c, grade, rate = numbers
        if not is_number(number):
            return None, ""
        like = near or _STAND_IN
        odd = []
        thickness_m = thickness_mm / 1000.0
        if not _inside(thickness_m, _THICKNESS_M):
            low, high = (1000.0 * limit for limit in _THICKNESS_M)
            thickness_m = like.thickness_m
            why = _why("thickness", thickness_mm, f"{low:g} to {high:g}", "mm")
            odd.append(f"{why}; {1000.0 * thickness_m:g} mm is taken")
        if not _inside(charge_c, _CHARGE_C):
            low, high = _CHARGE_C
            why = _why("charge temperature", charge_c, f"{low:g} to {high:g}", "°C")
            odd.append(f"{why}; {like.charge_c:g} °C is taken")
            charge_c = like.charge_c
        if not _inside(rate, _RATE_T_PER_H):
            low, high = _RATE_T_PER_H
            why = _why("rate", rate, f"{low:g} to {high:g}", "t/h")
            odd.append(f"{why}; {like.rate_t_per_h:g} t/h is taken")
            rate = like.rate_t_per_h
        kind = round(grade) if math.isfinite(grade) else UNDESCRIBED
        if kind not in self._grades:
            known = ", ".join(map(str, sorted(self._grades)))
            told = f"{grade:g} is not described" if math.isfinite(grade) else "is not told"
            odd.append(f"grade {told} (described: {known})")
            kind = UNDESCRIBED
        return Slab(round(number), thickness_m, charge_c, kind, rate), "; ".join(odd)


def is_number(number: float) -> bool:
    """Whether it can be a slab's: 0 is an empty place, NaN is not known."""
    return math.isfinite(number) and number >= 1.0


def _why(what: str, number: float, limits: str, unit: str) -> str:
    """What is wrong with a part of a record."""
    if math.isnan(number):
        return f"{what} is not told"
    return f"{what} {number:g} {unit} is outside {limits} {unit}"


def _inside(number: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= number <= limits[1]  # never true of NaN


def _same(one: Sequence[float], other: Sequence[float]) -> bool:
    """Equal, NaN being equal to itself."""
    return all(a == b or (a != a and b != b) for a, b in zip(one, other, strict=True))
