"""Rows that cannot be read: passed over one by one, remembered, never mistaken for a yes.

A damaged row must not end those who read the others. What it may have said is unknown, and
unknown means no: who skips a row here must not conclude that it does not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Engine

from twin.errors import RecordUnreadable

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """One row that cannot be read: what it should have been, its key, and why not."""

    kind: str
    key: str
    why: str


class SkippingStore:
    """The part of the historian that passes over damaged rows and remembers which."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._skipped: dict[str, dict[tuple[str, str], Unreadable]] = {}
        self._told: set[Unreadable] = set()

    def unreadable(self, plant: str) -> list[Unreadable]:
        """The plant's rows that this object could not read so far, by kind and key."""
        found = self._skipped.get(plant, {})
        return [found[name] for name in sorted(found)]

    def _read(
        self, plant: str, kind: str, key: object, row: _R, parse: Callable[[_R], _T]
    ) -> _T | Unreadable:
        """What `parse` makes of a row; if it cannot, that is remembered."""
        try:
            return parse(row)
        except RecordUnreadable as fault:
            damaged = Unreadable(kind, str(key), str(fault))
            self._skipped.setdefault(plant, {})[kind, damaged.key] = damaged
            return damaged


def readable(found: Iterable[_T | Unreadable]) -> list[_T]:
    """What could be read, in the order given."""
    return [each for each in found if not isinstance(each, Unreadable)]
