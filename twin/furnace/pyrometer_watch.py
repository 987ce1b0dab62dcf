"""What the pyrometer at the discharge door shows, slab by slab, and whether that can be believed.

It shows one number until the next slab leaves; where it saw nothing the old one stays. What its
readings teach is `learning`'s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime

from twin.furnace.faults import Faults
from twin.furnace.state import Slab
from twin.plant.furnace import Furnace

_STUCK = 4  # readings in a row that are one: two missed slabs in a row are no rarity, three are


class PyrometerWatch:
    """The pyrometer of one furnace."""

    def __init__(self, furnace: Furnace, told: Faults) -> None:
        self._tag, self._number, self._told = furnace.pyrometer, furnace.discharged, told
        self._last_c = math.nan
        self._repeats, self._far = 0, ""

    def of_slab(self, gone: Slab, seen: Mapping[str, float]) -> float:
        """What it shows of the slab that has just left, °C; NaN: nothing new, or another slab."""
        shown_c, number = seen[self._tag], seen[self._number]
        is_new = math.isfinite(shown_c) and shown_c != self._last_c
        self._repeats = 0 if is_new else self._repeats + 1
        is_other = math.isfinite(number) and gone.number > 0 and round(number) != gone.number
        return shown_c if is_new and not is_other else math.nan

    def judge(self, shown_c: float, expected_c: float, sd_k: float, *, is_near: bool) -> None:
        """Whether its last reading was near enough to what was expected to be learned from."""
        far = f"{shown_c:g} °C where {expected_c:.0f} ± {sd_k:.0f} °C was expected"
        self._far = "" if is_near else far

    def see(self, at: datetime, seen: Mapping[str, float]) -> None:
        """The minute is over: what it shows now is known."""
        self._last_c = seen[self._tag]
        if self._repeats >= _STUCK - 1:
            value = f"{self._last_c:g} °C" if math.isfinite(self._last_c) else "nothing"
            told = f"{self._tag}: {value} for {_STUCK} slabs in a row; no two are so alike"
            self._told.note(f"{self._tag} stuck", f"{told}. Nothing is learned from it", at)
        if self._far:
            told = f"{self._tag}: {self._far}; nothing is learned from it"
            self._told.note(f"{self._tag} far", told, at)
