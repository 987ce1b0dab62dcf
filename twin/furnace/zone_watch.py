"""What the zones' instruments show, minute by minute, and what is held while one is silent.

A thermocouple that shows nothing, or nothing that can be, keeps its last value; how long it has
been silent is told, and after half an hour the furnace is not known any more. A followed setpoint
keeps its last value for minutes; then the zone's own temperature counts for it, and that is told.
How slabs take that is `tracking`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from twin.furnace import kernel
from twin.furnace.faults import Faults, Silence
from twin.plant.furnace import Furnace
from twin.records import Series

#: After so many minutes without a thermocouple slabs are not known: at the pace at which a lining
#: may be driven they could be 20 K off by then, more than half of the range they must leave in.
UNKNOWN_MIN = 30.0
_PLAUSIBLE_C = (0.0, 1600.0)  # of a furnace's thermocouple; type S ends there
#: Of what a zone's burners burn at most, by the plant file: beyond, a meter is broken. Chosen: no
#: meter is off by half, and the plant file may be a burner behind.
_PLAUSIBLE_FUEL = 2.0
#: A thermocouple that shows one number to the last digit for so long is dead. Chosen: where a
#: tenth is shown two minutes in a row are often alike, twenty never.
_STILL_MIN = 20.0
_WALL_BELOW_GAS_K = 15.0  # where nothing is known of the walls: in balance they are about so


class ZoneWatch:
    """The zones of one furnace. `now` is None until every thermocouple has shown something once.

    `unseen_min` (zone): for how many minutes each thermocouple has shown nothing new.
    `guesses_followed`: a zone's temperature counts for the setpoint that its loop follows.
    """

    def __init__(self, furnace: Furnace, told: Faults) -> None:
        self._zones, self._told = furnace.zones, told
        self.now: kernel.Zones | None = None
        self.unseen_min = np.zeros(len(furnace.zones))
        self.fuel_is_seen = self.guesses_followed = False
        self._silence = Silence(told)
        self._is_unfollowed = np.zeros(len(furnace.zones), dtype=np.bool_)
        self._still_min = np.zeros(len(furnace.zones))

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that `see` looks at."""
        each = ((zone.temperature, zone.followed, zone.fuel) for zone in self._zones)
        return tuple(tag for tags in each for tag in tags)

    @property
    def blind_min(self) -> float:
        """For how many minutes no thermocouple at all has been seen."""
        return float(self.unseen_min.min())

    @property
    def is_unknown(self) -> bool:
        """Whether a zone has been silent for too long for slabs to be known."""
        return bool((self.unseen_min > UNKNOWN_MIN).any())

    def see(self, at: datetime, seen: Mapping[str, float], minutes: int) -> Series | None:
        """The gas at the end of the minute, `minutes` after the last, °C by zone; None: unknown.

        `now` keeps the minute's beginning, its fuel excepted, until `accept`.
        """
        shown = np.array([seen[zone.temperature] for zone in self._zones])
        is_seen = _can_be(shown)
        if self.now is None:
            if not is_seen.all():
                return None
            self.now = kernel.Zones(shown.copy(), shown.copy(), shown.copy(), np.zeros(len(shown)))
            self.begin_anew(shown)
        gas = np.where(is_seen, shown, self.now.gas)
        self.unseen_min = np.where(is_seen, 0.0, self.unseen_min + minutes)
        is_still = is_seen & (gas == self.now.gas)
        self._still_min = np.where(is_still, self._still_min + minutes, 0.0)
        self._tell(at, seen, gas)
        self._see_fuel(at, seen)
        return gas

    def _see_fuel(self, at: datetime, seen: Mapping[str, float]) -> None:
        """Take in what all meters show, or nothing of any where one shows what cannot be."""
        assert self.now is not None
        lost = [
            f"{zone.fuel} ({seen[zone.fuel]:g} MW)" if np.isfinite(seen[zone.fuel]) else zone.fuel
            for zone in self._zones
            if not 0.0 <= seen[zone.fuel] <= _PLAUSIBLE_FUEL * zone.fuel_mw[1]
        ]
        self.fuel_is_seen = not lost
        if self.fuel_is_seen:
            self.now.fuel[:] = 1e6 * np.array([seen[zone.fuel] for zone in self._zones])
        else:
            told = f"{', '.join(lost)}: no fuel is seen; what zones lose besides is not learned"
            self._told.note("fuel", told, at)

    def begin_anew(self, gas: Series) -> None:
        """Walls are taken to be in balance with `gas`: what happened since is not known."""
        assert self.now is not None
        self.now.wall[:] = gas - _WALL_BELOW_GAS_K

    def accept(self, gas: Series, seen: Mapping[str, float]) -> None:
        """The minute is over: `gas` and the followed setpoints of `seen` are what is now.

        One that cannot be stays what it was for `SILENT`: a ramp of 5 to 8 K/min takes it 25 to
        40 K further by then, more than a loop's gas is off. So the gas counts for it later, where
        the thermocouple is seen.
        """
        assert self.now is not None
        self.now.gas[:] = gas
        followed = np.array([seen[zone.followed] for zone in self._zones])
        instead = np.where(self._is_unfollowed & (self.unseen_min == 0), gas, self.now.ramped)
        self.now.ramped[:] = np.where(_can_be(followed), followed, instead)
        self.guesses_followed = bool(self._is_unfollowed.any())

    def unsure_min(self) -> Series:
        """By zone, for how many minutes its gas has only been held."""
        stuck_min = np.where(self._still_min >= _STILL_MIN, self._still_min, 0.0)
        longest: Series = np.minimum(np.maximum(self.unseen_min, stuck_min), UNKNOWN_MIN)
        return longest

    def _tell(self, at: datetime, seen: Mapping[str, float], gas: Series) -> None:
        low, high = _PLAUSIBLE_C
        for z, zone in enumerate(self._zones):
            tag = zone.temperature
            if self.unseen_min[z] > 0:
                why = f"{seen[tag]:g} °C is outside {low:g} to {high:g} °C"
                why = why if np.isfinite(seen[tag]) else "no value"
                self._told.note(tag, f"{tag}: {why}; its last one, {gas[z]:.0f} °C, is held", at)
            if self.unseen_min[z] > UNKNOWN_MIN:
                told = f"{tag}: silent for over {UNKNOWN_MIN:g} min; slabs are not known"
                self._told.note(f"{tag} unknown", told, at)
            if self._still_min[z] >= _STILL_MIN:
                told = f"{tag}: exactly {gas[z]:g} °C for {_STILL_MIN:g} min; a live one trembles"
                self._told.note(f"{tag} still", told, at)
            followed_c = seen[zone.followed]
            is_followed = bool(_can_be(followed_c))
            self._is_unfollowed[z] = self._silence.see(
                at,
                zone.followed,
                is_silent=not is_followed,
                instead=f"{tag} counts for it",
                is_told=self.unseen_min[z] == 0,
            )
            if not np.isnan(followed_c) and not is_followed:
                told = f"{zone.followed}: {followed_c:g} °C is outside {low:g} to {high:g} °C"
                self._told.note(zone.followed, f"{told}; its last one is held", at)


def _can_be(shown_c: Series | float) -> NDArray[np.bool_]:
    """Whether a furnace can be so hot; not of NaN."""
    possible: NDArray[np.bool_] = (np.asarray(shown_c) >= _PLAUSIBLE_C[0]) & (
        np.asarray(shown_c) <= _PLAUSIBLE_C[1]
    )
    return possible
