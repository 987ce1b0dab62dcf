"""What a stretch of the past lacks, told by the source times that are stored of it.

A hole of all tags is the source's, told once. A tag's own is told where that tag differs. Nothing
is read or written here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from twin.records import Series

_ROUNDING_S = 1e-6  # what a difference of floats of seconds since 1970 may be off, and more


@dataclass(frozen=True, slots=True)
class Hole:
    """Nothing is stored between `first` and `last`: of one tag, or (None) of all of them."""

    tag: str | None
    first: datetime
    last: datetime


class Holes:
    """The holes of a gap that is looked at from `start` on, stretch after stretch.

    `longest_s`: how long each tag may bring nothing. A silence of all together that lasts longer
    than `together_s` is a hole of theirs. `known`: up to where each tag is known, if not to
    `start`. Where the gap `is_first`, nothing is missing before the first time of all: there may
    have been no plant.
    """

    def __init__(
        self,
        start: datetime,
        *,
        longest_s: Mapping[str, float],
        together_s: float,
        known: Mapping[str, datetime],
        is_first: bool = False,
    ) -> None:
        self._longest_s = longest_s
        self._together_s = together_s
        self._last_s = {tag: known.get(tag, start).timestamp() for tag in longest_s}
        self._any_s = start.timestamp()
        self._is_before_all = is_first
        self._covered: list[tuple[float, float]] = []  # by holes of the source

    def without(self, tag: str) -> datetime | None:
        """From here on what a tag lacks is somebody else's to tell; None: it has been before."""
        last_s = self._last_s.pop(tag, None)
        return None if last_s is None else _moment(last_s)

    def up_to(self, times_s: Mapping[str, Series]) -> list[Hole]:
        """The holes that end with one of these sorted times of each tag."""
        together = np.unique(np.concatenate([*times_s.values(), np.empty(0)]))
        together = together[together > self._any_s]
        if together.size and self._is_before_all:
            self._is_before_all = False
            self._any_s = float(together[0])
            self._last_s = {tag: max(at_s, self._any_s) for tag, at_s in self._last_s.items()}
        found = [self._of_all(*span) for span in _breaks(self._any_s, together, self._together_s)]
        if together.size:
            self._any_s = float(together[-1])
        for tag in self._last_s.keys() & times_s.keys():
            newer = times_s[tag][times_s[tag] > self._last_s[tag]]
            if newer.size:
                found += self._of_one(tag, _breaks(self._last_s[tag], newer, self._longest_s[tag]))
                self._last_s[tag] = float(newer[-1])
        return found

    def to_the_end(self, end: datetime) -> list[Hole]:
        """The holes that last to the gap's end."""
        at_end = np.array([end.timestamp()])
        if self._is_before_all:
            return []
        found = [self._of_all(*span) for span in _breaks(self._any_s, at_end, self._together_s)]
        for tag in self._last_s:
            found += self._of_one(tag, _breaks(self._last_s[tag], at_end, self._longest_s[tag]))
        return found

    def _of_all(self, first_s: float, last_s: float) -> Hole:
        self._covered.append((first_s, last_s))
        return Hole(None, _moment(first_s), _moment(last_s))

    def _of_one(self, tag: str, spans: Sequence[tuple[float, float]]) -> list[Hole]:
        """Those beyond what is told of the source, give or take a silence the tag may have."""
        return [
            Hole(tag, _moment(first_s), _moment(last_s))
            for first_s, last_s in spans
            if self._uncovered_s(first_s, last_s) > self._longest_s[tag]
        ]

    def _uncovered_s(self, first_s: float, last_s: float) -> float:
        """The longest part of a span that no hole of the source covers, s."""
        longest_s, at_s = 0.0, first_s
        for before_s, after_s in sorted(self._covered):
            if after_s > at_s and before_s < last_s:
                longest_s = max(longest_s, before_s - at_s)
                at_s = after_s
        return max(longest_s, last_s - at_s)


def _breaks(last_s: float, times_s: Series, longest_s: float) -> list[tuple[float, float]]:
    """The steps from `last_s` through the sorted times that are longer than `longest_s`."""
    edges = np.concatenate([[last_s], times_s])
    wide = np.flatnonzero(np.diff(edges) > longest_s + _ROUNDING_S)
    return [(float(edges[at]), float(edges[at + 1])) for at in wide]


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
