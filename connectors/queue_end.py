"""Whether a broker's queue for us ended before we were back, told by the times of what came.

A broker keeps so many messages and drops those beyond without a word. Nothing is received here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from twin.clock import PlantClock
from twin.records import Reading

_HOLE_SAMPLES = 3.0  # a longer silence than so many samples is one of the broker's queue


class QueueEnd:
    """The holes in what one connection brings; `sample_s` of the plant."""

    def __init__(self, sample_s: float) -> None:
        self._longest = timedelta(seconds=_HOLE_SAMPLES * sample_s)
        self._newest: datetime | None = None  # of what the devices date themselves
        self._is_live = False
        self._has_refused = False  # there was no room for readings, and we are behind since

    def refused(self) -> None:
        """There is no room for readings: what comes meanwhile waits at the broker."""
        self._has_refused = True

    def caught_up(self) -> None:
        """Nothing waits there any more."""
        self._has_refused = False

    def parts(
        self, readings: Sequence[Reading], clock: PlantClock, *, has_waited: bool
    ) -> list[list[Reading]]:
        """The readings in order, each part but the first after a hole.

        Times of arrival and of retained messages say nothing of it.
        """
        parts: list[list[Reading]] = [[]]
        for each in readings:
            if not each.marks and self._is_jump(each.source_time, clock, has_waited):
                parts.append([])
            parts[-1].append(each)
        return parts

    def _is_jump(self, at: datetime, clock: PlantClock, has_waited: bool) -> bool:
        """Whether messages are missing before one that is dated so.

        Looked for where live ones follow what waited, and from a refusal on until we caught up.
        """
        before = self._newest
        if before is not None and at <= before:  # a late one says nothing
            return False
        self._newest = at
        if has_waited:
            return False
        is_looked_for = self._has_refused or not self._is_live
        self._is_live = True
        if self._has_refused and clock.now() - at <= self._longest:
            self._has_refused = False
        return is_looked_for and before is not None and at - before > self._longest
