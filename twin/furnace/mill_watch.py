"""The mill, minute by minute: since when it stands, when it wants the next slab, past stops.

A slab that is seen leaving is stronger than the bit: the mill takes none while it stands. What is
left of a stop is `stops`'.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from twin.furnace.faults import Faults, Silence
from twin.furnace.rollout import FASTEST, SLOWEST, is_pace
from twin.furnace.state import MillState, Stop
from twin.furnace.stops import LONGEST_S, StopRecord, stop_belief
from twin.plant.furnace import Mill

_AHEAD_S = 60.0  # a beginning so far ahead of the clock is still one; chosen: a row's minute
#: A slab that leaves later in a stop ends it. The one that a stop follows leaves in its first
#: minute; records that come one by one are all there after two.
_LAST_SLAB = timedelta(minutes=2)
_IDLE = timedelta(minutes=30)  # overdue; chosen: three times the slowest slab's time


class MillWatch:
    """One mill; stops are `known` from before. Numbers that are missing stay what they were."""

    def __init__(self, mill: Mill, told: Faults, known: Sequence[Stop] = ()) -> None:
        self._mill, self._told = mill, told
        self._record = StopRecord(known)
        self._belief = stop_belief(mill, known)
        self._silence = Silence(told)
        self._stands: bool | None = None
        self._is_overruled = False  # the bit shows that it stands, and slabs that it rolls
        self._since: datetime | None = None  # it stands, or it runs
        self._shown_since: datetime | None = None  # the bit shows this stop
        self._began_s = math.nan  # what the mill says of this stop …
        self._began_at: datetime | None = None  # … and since when it says so
        self._unseen_since: datetime | None = None  # the bit shows nothing
        self._left: datetime | None = None  # the last slab that was seen leaving
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
        instead = f"the last one, {self.pace:g}, counts"
        self._silence.see(at, mill.pace, is_silent=math.isnan(pace), instead=instead)
        if is_pace(pace):
            self.pace = pace
        elif not math.isnan(pace):
            why = f"{pace:g} is outside {SLOWEST:g} to {FASTEST:g}"
            self._told.note(mill.pace, f"{mill.pace}: {why}; {instead}", at)
        if self._record.see(at, running, began_s, restart_s):
            self._belief = stop_belief(mill, self._record.past)
        self._see_bit(at, running, is_held=is_held)
        self._held_since = (self._held_since or at) if is_held else None
        self._silence.see(
            at,
            mill.stopped_at,
            is_silent=bool(self._stands) and math.isnan(began_s),
            instead=f"the mill is taken to stand since {self._since_words}",
        )
        if self._stands:
            self._see_stop(at, began_s, restart_s)
        elif not is_held:
            self._see_idle(at)

    def lose_sight(self) -> None:
        """Minutes were not seen: a stop that ended in them is not learned from."""
        self._record.lose_sight()

    def slab_left(self, at: datetime, rolling_s: float, *, is_seen: bool = True) -> None:
        """A slab has left in the minute up to `at`; at pace 1 the mill takes `rolling_s` for it.

        Unless it `is_seen` that it was this minute, it says nothing of a stop. One that leaves well
        into a stop ends it: the mill rolls until its bit changes, or until no slab has left for so
        long that both say the same again.
        """
        # Half a minute ago is the best guess of when.
        self._due = at + timedelta(seconds=rolling_s / self.pace - 30.0)
        since = self._shown_since if self._stands else None
        is_late = since is not None and at - since > _LAST_SLAB
        if is_seen:
            self._left = at
            self._record.slab_left(at, refutes=is_late)
        if is_late:
            why = f"the mill stands since {since:%H:%M} UTC, but a slab has left"
            why += "; it is taken to roll until this changes" if is_seen else ""
            self._told.note("left while standing", f"{self._mill.running}: {why}", at)
        if is_seen and is_late:
            self._begin(at, stands=False)
            self._is_overruled = True

    def state(self, at: datetime) -> MillState:
        """The mill at `at`; what it wanted before a stop it wants when that is over."""
        moments = (self._due, self._since)
        return MillState(
            stopped_since=self._since if self._stands else None,
            expected_restart=self._restart if self._stands else None,
            due=max((each for each in moments if each is not None), default=at),
            stops=self._belief,
            held_since=self._held_since,
            unseen_since=self._unseen_since,
        )

    def _see_bit(self, at: datetime, running: float, *, is_held: bool) -> None:
        if not math.isfinite(running):
            self._unseen_since = self._unseen_since or at
            self._is_overruled = False  # it changes: what it shows next is believed
            self._told.note(self._mill.running, f"{self._mill.running}: no value; held", at)
            return
        self._unseen_since, stands = None, running < 0.5
        if not (stands and self._is_overruled):
            self._is_overruled = False
            if stands != self._stands:
                self._begin(at, stands=stands)
        elif self._due is not None and at - self._due > _IDLE and not is_held:
            self._is_overruled = False
            self._begin(self._left or at, stands=True)
            self._shown_since = at

    def _begin(self, at: datetime, *, stands: bool) -> None:
        """The mill stands, or rolls, since `at`."""
        self._stands, self._since, self._restart = stands, at, None
        self._shown_since, self._began_s, self._began_at = at, math.nan, None

    def _see_stop(self, at: datetime, began_s: float, restart_s: float) -> None:
        mill = self._mill
        self._see_beginning(at, began_s)
        if 0.0 < restart_s <= at.timestamp() + LONGEST_S:
            self._restart = datetime.fromtimestamp(restart_s, tz=UTC)
        elif restart_s > 0.0:
            why = f"is over {LONGEST_S / 86_400.0:g} days ahead; no crew expects that"
            told = f"{mill.expected_restart}: {_moment(restart_s)} {why}"
            self._told.note(mill.expected_restart, f"{told}. What it said before counts", at)
        longest = timedelta(minutes=mill.stop_min[1])
        if self._since is not None and at - self._since > longest:
            told = (
                f"{mill.running}: the mill has stood since {self._since:%Y-%m-%d %H:%M} UTC, "
                f"longer than the longest stop of {mill.stop_min[1]:g} min (plant file)"
            )
            self._told.note("longest stop", told, at)

    def _see_beginning(self, at: datetime, began_s: float) -> None:
        now_s = at.timestamp()
        if 0.0 < began_s <= now_s + _AHEAD_S and self._record.may_begin(at, began_s):
            if began_s != self._began_s:
                # Mills go on for one slab and stop again, which the bit need not show.
                if self._began_at is not None and at - self._began_at > _LAST_SLAB:
                    self._shown_since = at
                self._began_s, self._began_at = began_s, at
            self._since = datetime.fromtimestamp(began_s, tz=UTC)
        elif math.isfinite(began_s):
            if began_s == 0.0:
                why = "0 is no time; while the mill stands it must be when it stopped, UTC"
            elif not 0.0 < began_s <= now_s:
                why = f"{_moment(began_s)}; while the mill stands it must be in the past"
            elif began_s < now_s - LONGEST_S:
                why = f"{_moment(began_s)} is over {LONGEST_S / 86_400.0:g} days ago"
            else:
                why = f"{_moment(began_s)} is before the mill last rolled or a slab last left"
            told = f"{self._mill.stopped_at}: {why}"
            self._told.note(self._mill.stopped_at, f"{told}. {self._since_words} counts", at)

    @property
    def _since_words(self) -> str:
        return "nothing" if self._since is None else f"{self._since:%Y-%m-%d %H:%M} UTC"

    def _see_idle(self, at: datetime) -> None:
        if self._due is None or self._since is None:
            return
        due = max(self._due, self._since)
        if at - due > _IDLE:
            shown = "1" if self._unseen_since is None else "no value"
            told = (
                f"{self._mill.running}: {shown}, but no slab has left though one was due at "
                f"{due:%H:%M} UTC, more than {_IDLE.seconds / 60:g} min ago"
            )
            self._told.note("idle", told, at)


def _moment(since_1970_s: float) -> str:
    """In words that an operator can check against a clock, where there are such."""
    try:
        return f"{datetime.fromtimestamp(since_1970_s, tz=UTC):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, ValueError, OSError):
        return f"{since_1970_s:g} s since 1970"
