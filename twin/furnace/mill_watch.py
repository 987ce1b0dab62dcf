"""The mill, minute by minute: since when it stands, when it wants the next slab, past stops.

What is left of a stop is `stops`'.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from twin.furnace.faults import Faults
from twin.furnace.rollout import FASTEST, SLOWEST, is_pace
from twin.furnace.state import MillState, Stop
from twin.furnace.stops import LONGEST_S, StopRecord, stop_belief
from twin.plant.furnace import Mill

_AHEAD_S = 60.0  # a beginning so far ahead of the clock is still one; chosen: a row's minute
_IDLE = timedelta(minutes=30)  # overdue; chosen: three times the slowest slab's time


class MillWatch:
    """One mill; stops are `known` from before. Numbers that are missing stay what they were."""

    def __init__(self, mill: Mill, told: Faults, known: Sequence[Stop] = ()) -> None:
        self._mill, self._told = mill, told
        self._record = StopRecord(known)
        self._belief = stop_belief(mill, known)
        self._stands: bool | None = None
        self._since: datetime | None = None  # it stands, or it runs
        self._restart: datetime | None = None
        self._due: datetime | None = None
        self._held_since: datetime | None = None
        self.pace = 1.0

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that `see` looks at."""
        mill = self._mill
        return (mill.running, mill.stopped_at, mill.expected_restart, mill.pace)

    @property
    def stops(self) -> tuple[Stop, ...]:
        """Past stops, in the order in which they began."""
        return self._record.past

    def see(self, at: datetime, seen: Mapping[str, float], *, is_held: bool) -> None:
        """One minute. `is_held`: the plant itself keeps a slab back."""
        mill = self._mill
        running, began_s, restart_s, pace = (seen[tag] for tag in self.tags)
        if is_pace(pace):
            self.pace = pace
        elif not math.isnan(pace):
            why = f"{pace:g} is outside {SLOWEST:g} to {FASTEST:g}"
            self._told.note(
                mill.pace, f"{mill.pace}: {why}; the last one, {self.pace:g}, counts", at
            )
        if self._record.see(at, running, began_s, restart_s):
            self._belief = stop_belief(mill, self._record.past)
        if not math.isfinite(running):
            self._told.note(mill.running, f"{mill.running}: no value; held", at)
        elif self._stands is None or self._stands != (running < 0.5):
            self._stands, self._since, self._restart = running < 0.5, at, None
        self._held_since = (self._held_since or at) if is_held else None
        if self._stands:
            self._see_stop(at, began_s, restart_s)
        elif not is_held:
            self._see_idle(at)

    def lose_sight(self) -> None:
        """Minutes were not seen: a stop that ended in them is not learned from."""
        self._record.lose_sight()

    def slab_left(self, at: datetime, rolling_s: float) -> None:
        """A slab has left in the minute up to `at`; at pace 1 the mill takes `rolling_s` for it."""
        # Half a minute ago is the best guess of when.
        self._due = at + timedelta(seconds=rolling_s / self.pace - 30.0)
        if self._stands and self._since is not None and at - self._since > timedelta(minutes=2):
            told = f"{self._mill.running}: 0 since {self._since:%H:%M} UTC, but a slab has left"
            self._told.note("left while standing", told, at)

    def state(self, at: datetime) -> MillState:
        """The mill at `at`; what it wanted before a stop it wants when that is over."""
        moments = (self._due, self._since)
        return MillState(
            stopped_since=self._since if self._stands else None,
            expected_restart=self._restart if self._stands else None,
            due=max((each for each in moments if each is not None), default=at),
            stops=self._belief,
            held_since=self._held_since,
        )

    def _see_stop(self, at: datetime, began_s: float, restart_s: float) -> None:
        mill = self._mill
        now_s = at.timestamp()
        if 0.0 < began_s <= now_s + _AHEAD_S and self._record.may_begin(at, began_s):
            self._since = datetime.fromtimestamp(began_s, tz=UTC)
        elif math.isfinite(began_s):
            why = "while the mill stands; it must be in the past"
            if 0.0 < began_s <= now_s:
                why = f"is before the mill last rolled or over {LONGEST_S / 86_400.0:g} days ago"
            told = f"{mill.stopped_at}: {began_s:g} s {why}"
            self._told.note(mill.stopped_at, f"{told}. The first minute seen counts", at)
        if 0.0 < restart_s <= now_s + LONGEST_S:
            self._restart = datetime.fromtimestamp(restart_s, tz=UTC)
        elif restart_s > 0.0:
            why = f"is over {LONGEST_S / 86_400.0:g} days ahead; no crew expects that"
            told = f"{mill.expected_restart}: {restart_s:g} s {why}"
            self._told.note(mill.expected_restart, told, at)
        longest = timedelta(minutes=mill.stop_min[1])
        if self._since is not None and at - self._since > longest:
            told = (
                f"{mill.running}: the mill has stood since {self._since:%Y-%m-%d %H:%M} UTC, "
                f"longer than the longest stop of {mill.stop_min[1]:g} min (plant file)"
            )
            self._told.note("longest stop", told, at)

    def _see_idle(self, at: datetime) -> None:
        if self._due is None or self._since is None:
            return
        due = max(self._due, self._since)
        if at - due > _IDLE:
            told = (
                f"{self._mill.running}: 1, but no slab has left though one was due at "
                f"{due:%H:%M} UTC, more than {_IDLE.seconds / 60:g} min ago"
            )
            self._told.note("idle", told, at)
