"""Every slab inside a furnace, computed twice: with the emissivity learned so far, and with more.

The difference is what more emissivity since charging would have done to each slab, so that what
is learned of it later counts for slabs that are already inside. Places count from the discharge
door. Which slab is where, and how sure that is, is `inside`'s.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from twin.furnace import kernel
from twin.furnace.numbers import STEP_S
from twin.furnace.rollout import NODES, conductivity_of
from twin.furnace.state import Slab
from twin.furnace.steel import enthalpy
from twin.plant.furnace import Furnace
from twin.records import Series

#: Of the plant file's emissivity, in the second copy. Far above rounding; a straight line through
#: both errs by 0.7 and 2.4 K for a slab that really took up 5 and 10 % less than it was charged
#: with, by 0.1 and 0.9 K for 5 and 10 % more (measured on slabs of 0.22 m).
_MORE_PERCENT = 3.0


class Copies:
    """The two copies. `count` slabs are inside, the last of them at the charging door."""

    def __init__(self, furnace: Furnace, numbers: kernel.Furnace, tables: kernel.Steel) -> None:
        self._furnace, self._numbers, self._tables = furnace, numbers, tables
        self._base, self._more = _blank(furnace.slots), _blank(furnace.slots)
        self._percent = np.zeros(furnace.slots)  # more than the plant file's, in the first copy
        self.count = 0

    def charge(self, slab: Slab, percent: float) -> None:
        """A slab comes in last, as hot as its record says; it takes up `percent` more than written.

        Raises ValueError where no slot is free.
        """
        place = self.count
        if place == self._furnace.slots:
            raise ValueError(f"all {place} slots are full")
        self.count += 1
        self._percent[place] = percent
        at_c = slab.charge_c
        for copy in (self._base, self._more):
            copy.node[place], copy.face[place], copy.scale2[place] = at_c, at_c, 0.0
            copy.enthalpy[place] = enthalpy(self._tables, copy.node[place])
        self.correct(place, slab)

    def correct(self, place: int, slab: Slab) -> None:
        """From now on the slab at `place` has the properties of `slab`; it is as hot as before."""
        for copy, more in ((self._base, 0.0), (self._more, _MORE_PERCENT)):
            copy.thickness[place] = slab.thickness_m
            copy.conductivity[place] = conductivity_of(self._furnace, slab.grade)
            percent = self._percent[place] + more
            copy.emissivity[place] = self._furnace.emissivity * (1.0 + percent / 100.0)

    def discharge(self) -> None:
        """The slab at the door is gone; all others are one place nearer to it."""
        self.arrange(range(1, self.count))

    def arrange(self, order: Sequence[int]) -> None:
        """Keep only the slabs at these places, in this order."""
        chosen = list(order)
        for copy in (self._base, self._more):
            for field in copy:
                field[: len(chosen)] = field[chosen]
        self._percent[: len(chosen)] = self._percent[chosen]
        self.count = len(chosen)

    def heat(self, gas_c: Series) -> Series:
        """A minute under gas of `gas_c` (zone); what the slabs took from each zone, W.

        While slots are empty, those before the discharge door are.
        """
        drawn_w = np.zeros(len(gas_c))
        empty = self._furnace.slots - self.count
        for copy in (self._more, self._base):
            if empty:
                copy = kernel.Slabs(*(field[: self.count] for field in copy))
            kernel.heat_slabs(self._tables, self._numbers, copy, -empty, gas_c, STEP_S, drawn_w)
        return drawn_w

    def mean_c(self, place: int) -> tuple[float, float]:
        """A slab's mean °C and K per per cent more emissivity.

        The mean is drawn out to the plant file's emissivity on a straight line, so that what is
        learned comes on top of it.
        """
        mean_c = float(self._base.node[place].mean())
        per_k = (float(self._more.node[place].mean()) - mean_c) / _MORE_PERCENT
        return mean_c - float(self._percent[place]) * per_k, per_k

    def profiles(self) -> tuple[Series, Series, Series]:
        """The same of every slab (slab, nodes from core to face and then the face); its scale²."""
        inside = slice(0, self.count)
        base, more = (
            np.column_stack([copy.node[inside], copy.face[inside]])
            for copy in (self._base, self._more)
        )
        per_k = (more - base) / _MORE_PERCENT
        return base - self._percent[inside, None] * per_k, per_k, self._base.scale2[inside]


def _blank(slots: int) -> kernel.Slabs:
    return kernel.Slabs(
        enthalpy=np.zeros((slots, NODES)),
        node=np.zeros((slots, NODES)),
        face=np.zeros(slots),
        scale2=np.zeros(slots),
        thickness=np.full(slots, 0.2),
        conductivity=np.ones(slots),
        emissivity=np.ones(slots),
    )
