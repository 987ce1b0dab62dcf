"""The slabs inside a furnace, as they are tracked: which is where, how hot and how sure.

Places count from the discharge door. Slabs are heated and moved on as the caller says (`copies`);
what their records say makes them doubted, corrected or somebody else. Zones, the beam and the
mill are `tracking`'s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from twin.furnace import kernel
from twin.furnace.copies import Copies
from twin.furnace.faults import Faults
from twin.furnace.learning import Emissivity
from twin.furnace.numbers import STEP_S
from twin.furnace.records import Read
from twin.furnace.rollout import rolling_s
from twin.furnace.state import DOUBT_SD_K, FORGETS_MIN, TRACKED_SD_K, Slab, SlabState
from twin.furnace.steel import steel
from twin.plant.furnace import Furnace
from twin.records import Series

#: Of a slab whose past was not seen. Measured on training seeds 1000–1005: 22 K at first, 16 K an
#: hour later, 7.5 K after two; 40 K that fade as below is 35, 19 and 7.
_GUESS_SD_K = 40.0
_CHARGE_SD_K = 15.0  # of a slab's temperature at charging, against its record; assumed
_GAS_DRIFT_K_PER_MIN = 2.5  # of a zone nobody sees: half of what its lining may be driven
_PLACE_SD_K = 3.0  # for every place that the beam moved unseen: 17 K of gas for some ten minutes


@dataclass
class TrackedSlab:
    """One slab, beside its rows in the copies. `unsure_k` fades with the minutes."""

    slab: Slab
    unsure_k: float
    doubt: str = ""

    @property
    def sd_k(self) -> float:
        """Of its mean temperature, what is not known of its emissivity apart."""
        return math.hypot(TRACKED_SD_K, self.unsure_k, DOUBT_SD_K if self.doubt else 0.0)


class SlabsInside:
    """The slabs of one furnace, the next to leave first; none until they are taken over.

    `learned` is read as it is at that moment; doubts are `told`.
    """

    def __init__(
        self, furnace: Furnace, own: kernel.Furnace, learned: Emissivity, told: Faults
    ) -> None:
        self._furnace, self._share, self._learned, self._told = furnace, own.share, learned, told
        self._copies = Copies(furnace, own, steel(furnace))
        self._row: list[TrackedSlab] = []

    @property
    def numbers(self) -> tuple[int, ...]:
        """Slab numbers by place; 0 where nobody knows which slab it is."""
        return tuple(each.slab.number for each in self._row)

    @property
    def next_to_leave(self) -> TrackedSlab:
        """The slab at the discharge door; raises IndexError where there is none."""
        return self._row[0]

    def mean_c(self, place: int) -> tuple[float, float]:
        """A slab's mean °C with the plant file's emissivity, and K per per cent more of it."""
        return self._copies.mean_c(place)

    def expected_c(self, place: int) -> tuple[float, float]:
        """A slab's mean °C and its sd, with what is learned of its grade's emissivity."""
        mean_c, per_k = self._copies.mean_c(place)
        each = self._row[place]
        sd_k = math.hypot(each.sd_k, per_k * self._learned.sd_percent(each.slab.grade))
        return mean_c + self._learned.of(each.slab.grade) * per_k, sd_k

    def states(self) -> tuple[SlabState, ...]:
        """Every slab as it is now, the next to leave first."""
        profiles = (field.tolist() for field in self._copies.profiles())
        return tuple(
            SlabState(
                slab=each.slab,
                node_c=tuple(profile_c[:-1]),
                face_c=profile_c[-1],
                scale2=scale2,
                per_emissivity_k=tuple(per_k),
                sd_k=each.sd_k,
                doubt=each.doubt,
            )
            for each, profile_c, per_k, scale2 in zip(self._row, *profiles, strict=True)
        )

    def clear(self) -> None:
        """Nothing is known any more of what is inside."""
        self._copies.arrange(())
        self._row = []

    def take_over(self, slots: Sequence[Slab | None], gas_c: Series) -> None:
        """Take over a furnace whose past was not seen: as if the gas had always been as it is.

        `slots`: its records, slot 1 first. Nothing happens while under half of them are there.
        """
        known = [slab for slab in slots if slab is not None]
        if len(known) < 0.5 * self._furnace.slots:
            return
        for slab in reversed(slots):
            coming = slab or _unknown(known[0])
            if self._row:
                for _ in range(round(rolling_s(self._furnace, coming) / STEP_S)):
                    self._copies.heat(gas_c)
            self._append(coming, _GUESS_SD_K)

    def heat(self, gas_c: Series, unsure_min: Series) -> Series:
        """A minute under gas of `gas_c` (zone), not seen for `unsure_min` (zone).

        What slabs took from each zone, W.
        """
        drawn_w = self._copies.heat(gas_c)
        rise_k = self._share @ (unsure_min * _GAS_DRIFT_K_PER_MIN) / FORGETS_MIN
        fades = math.exp(-STEP_S / 60.0 / FORGETS_MIN)
        for each, rise in zip(self._row, reversed(rise_k.tolist()), strict=True):
            each.unsure_k = min(each.unsure_k * fades + rise, _GUESS_SD_K)
        return drawn_w

    def discharge(self) -> None:
        """The slab at the door is gone; all others are one place nearer to it."""
        self._copies.discharge()
        self._row.pop(0)

    def charge(self, slab: Slab | None, yard: Sequence[Slab]) -> None:
        """A slab comes in; without a record it is the yard's next, or like the one before it."""
        numbers = self.numbers
        for told in (slab, *yard[:1], None):
            slab = told
            if slab is not None and slab.number not in numbers:
                break
        self._append(slab or _unknown(self._row[-1].slab), _CHARGE_SD_K if slab else _GUESS_SD_K)

    def moved_unseen(self, places: int) -> None:
        """The beam has moved by so many places at moments that nobody saw."""
        for each in self._row:
            each.unsure_k = math.hypot(each.unsure_k, _PLACE_SD_K * places)

    def compare(self, at: datetime, read: Read, *, is_told: bool) -> bool:
        """Doubt slabs with no or odd records; whether one is said to be at another's place."""
        numbers = set(self.numbers)
        is_elsewhere = False
        for place, each in enumerate(self._row):
            slot = self._furnace.slots - place
            slab = read.slots[slot - 1]
            if slab is None:
                twice = each.slab.number in read.twice
                each.doubt = "stands in two slots at once" if twice else "its record is gone"
            elif each.slab.number == 0:
                self._correct(place, slab)
            elif slab.number != each.slab.number:
                each.doubt = f"where the beam brought it the record says slab {slab.number}"
                is_elsewhere |= slab.number in numbers
            else:
                each.doubt = read.doubts.get(slot, "")
                if not each.doubt and slab != each.slab:
                    self._correct(place, slab)
            if each.doubt and is_told and each.slab.number:
                told = f"slab {each.slab.number}: {each.doubt}"
                self._told.note(f"slab {each.slab.number}", told, at)
        return is_elsewhere

    def believe(self, slots: Sequence[Slab | None]) -> None:
        """Take the slabs to stand where the records say; one never seen is as hot as its place."""
        at_number = {number: place for place, number in enumerate(self.numbers)}
        claimed = {slab.number for slab in slots if slab is not None}
        order, row = [], []
        for place, each in enumerate(self._row):
            stays = each.slab if each.slab.number not in claimed else _unknown(each.slab)
            slab = slots[self._furnace.slots - 1 - place] or stays
            source = at_number.get(slab.number) if slab.number else None
            order.append(place if source is None else source)
            unsure_k = _GUESS_SD_K if source is None else self._row[source].unsure_k
            row.append(TrackedSlab(slab, math.hypot(unsure_k, DOUBT_SD_K)))
        self._copies.arrange(order)
        self._row = row
        for place, each in enumerate(row):
            self._copies.correct(place, each.slab)

    def _append(self, coming: Slab, unsure_k: float) -> None:
        self._copies.charge(coming, self._learned.of(coming.grade))
        self._row.append(TrackedSlab(coming, unsure_k))

    def _correct(self, place: int, slab: Slab) -> None:
        """The slab at `place` turns out to be `slab`: its past was computed with other numbers."""
        each = self._row[place]
        each.slab, each.doubt = slab, ""
        each.unsure_k = math.hypot(each.unsure_k, DOUBT_SD_K)
        self._copies.correct(place, slab)


def _unknown(like: Slab) -> Slab:
    """A slab of which nobody knows anything, taken to be like `like`."""
    return replace(like, number=0)
