"""A furnace whose records lie: what the bad input of issue and guide looks like on the wire.

A tool of the tests. What really happens in the furnace is untouched; a lie changes what the PLC
tells of slabs and discharges from the first slab that leaves after `since` until the first one
after `until`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from twin.plant import Plant
from twin.plants.furnace.baseline import FAIR
from twin.plants.furnace.truth import _PARTS, _SLOW, YARD_PLACES, Truth
from twin.plants.furnace.works import Works
from twin.records import Series

_SLOTS = 28
_PLACES = (
    *(f"slot_{k:02}" for k in range(1, _SLOTS + 1)),
    *(f"yard_{k:02}" for k in range(1, YARD_PLACES + 1)),
)
_FOR_EVER_S = 1e9
_EVER = datetime(2100, 1, 1, tzinfo=UTC)

#: Changes what is told (tag to value) of a furnace.
Lie = Callable[[Truth, dict[str, float]], None]


class BrokenFurnace(Truth):
    """A truth whose records lie between `since` and `until`."""

    def __init__(
        self,
        plant: Plant,
        *,
        lies: Sequence[Lie],
        since: datetime,
        until: datetime = _EVER,
        **truth: Any,
    ) -> None:
        self._lies, self._since, self._until = lies, since, until
        super().__init__(plant, **truth)

    def _records(self) -> Series:
        honest = super()._records()
        if not self._since <= self.now < self._until:
            return honest
        told = dict(zip(_SLOW, honest.tolist(), strict=True))
        for lie in self._lies:
            lie(self, told)
        for column, tag in enumerate(_SLOW):
            honest[column] = told[tag]
        return honest


def contradicts_the_beam(slot: int, number: int) -> Lie:
    """The record of `slot` says that slab `number` lies there, whatever the beam brings."""

    def lie(furnace: Truth, told: dict[str, float]) -> None:
        told[f"slot_{slot:02}.slab"] = float(number)

    return lie


def beam_counted_twice(furnace: Truth, told: dict[str, float]) -> None:
    """Every record stands one slot further than its slab; slot 1 is empty."""
    for k in range(_SLOTS, 1, -1):
        for part in _PARTS:
            told[f"slot_{k:02}.{part}"] = told[f"slot_{k - 1:02}.{part}"]
    for part in _PARTS:
        told[f"slot_01.{part}"] = 0.0


def vanishes(number: int) -> Lie:
    """Slab `number` has no record any more: its slot shows zeros, as an empty one does."""

    def lie(furnace: Truth, told: dict[str, float]) -> None:
        for place in _where(told, number):
            for part in _PARTS:
                told[f"{place}.{part}"] = 0.0

    return lie


def has_thickness(number: int, thickness_mm: float = 0.0) -> Lie:
    """The record of slab `number` says so, wherever it lies."""

    def lie(furnace: Truth, told: dict[str, float]) -> None:
        for place in _where(told, number):
            told[f"{place}.thickness"] = thickness_mm

    return lie


def lies_also_in(number: int, slot: int) -> Lie:
    """Slab `number` stands where it is, and in `slot` over the one that lies there."""

    def lie(furnace: Truth, told: dict[str, float]) -> None:
        for place in _where(told, number)[:1]:
            for part in _PARTS:
                told[f"slot_{slot:02}.{part}"] = told[f"{place}.{part}"]

    return lie


def pyrometer_shows(stuck_c: float) -> Lie:
    """The pyrometer shows the same for every slab."""

    def lie(furnace: Truth, told: dict[str, float]) -> None:
        told["discharge.temperature"] = stuck_c

    return lie


def works_with_endless_stop(seed: int, number: int, expected_s: float) -> Works:
    """After slab `number` the mill stands for ever; its crew expects it back in `expected_s`."""
    return Works(seed, FAIR, stops={number: (_FOR_EVER_S, expected_s)}, has_stops=False)


def _where(told: dict[str, float], number: int) -> list[str]:
    return [place for place in _PLACES if told[f"{place}.slab"] == number]
