"""Plant time: the last trusted source time, carried on by this machine's monotonic clock.

Freshness is judged against this clock, never against the newest reading itself, so a frozen
source grows old. A source time that cannot be true yet never moves it. Leases, logins and expiry
towards people use the wall clock instead.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

#: A plant's times are from the first of these years on and before the second; whoever has others
#: has a wrong unit of time, or typed one that nobody meant.
PLANT_YEARS = (1900, 2200)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# How far clocks may differ: a wrong summer time, of an hour, must not pass for the present; a clock
# that nobody sets drifts by some minutes a month.
_CLOCKS_DIFFER_S = 1_740.0
# How late a whole plant may be, as after a stall of an emulator: wall time, so it grows with speed.
# At most a day: at no speed may years ahead pass for a delay.
_LATE_WALL_S, _LATE_AT_MOST_S = 60.0, 86_400.0
_END_OF_TIME = datetime.max.replace(tzinfo=UTC)

#: Said in the audit of what is dated by the wall, for want of the plant's time.
WALL_TIME = "(wall clock; the plant's time is not known yet)"


def utc(moment: datetime) -> datetime:
    """The same moment as an aware UTC time; a naive time raises ValueError."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone; times here are aware UTC")
    return moment.astimezone(UTC)


def wall_now() -> datetime:
    """The wall clock, aware UTC. Processes read it at their outermost loop only."""
    return datetime.now(UTC)


def on_grid(moment: datetime, step_s: float) -> datetime:
    """The last multiple of `step_s` since 1970 UTC at or before `moment`."""
    seconds = (utc(moment) - _EPOCH).total_seconds()
    return _EPOCH + timedelta(seconds=math.floor(seconds / step_s) * step_s)


def latest_believable(now: datetime, speed: float = 1.0) -> datetime:
    """The latest source time that can be true at plant time `now`: 30 min ahead at speed 1.

    A later one is a fault of a clock or of a file, and is never taken for a measurement's time.
    """
    ahead_s = _CLOCKS_DIFFER_S + min(_LATE_WALL_S * speed, _LATE_AT_MOST_S)
    return min(utc(now), _END_OF_TIME - timedelta(seconds=ahead_s)) + timedelta(seconds=ahead_s)


@dataclass
class PlantClock:
    """Plant time = `anchor` + speed × monotonic seconds since the anchor was set.

    `speed` is 1 unless an emulator declares another. `trust` moves the anchor when a good
    reading carries a later source time than the clock shows; it never moves time backwards, nor
    beyond what can be true: near this clock or, for a plant that lives in real time, near `wall`.
    A `wall` that somebody sets back is carried on as it was (`start` sees to that).
    """

    anchor: datetime
    speed: float = 1.0
    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], datetime] | None = None

    def __post_init__(self) -> None:
        if not self.speed > 0:
            raise ValueError(f"clock speed {self.speed} must be above zero")
        self.anchor = utc(self.anchor)
        self._anchored_at_s = self.monotonic()

    @classmethod
    def start(
        cls,
        source_times: Iterable[datetime],
        *,
        wall: Callable[[], datetime],
        has_own_time: bool,
        speed: float = 1.0,
        earlier: PlantClock | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> Self:
        """A clock that begins at the newest of the tags' source times that can be the present.

        That is one near the wall or near the `earlier` clock, so that a wall that was set since
        then ages nothing. A plant that `has_own_time` (an emulator) may live in any year: there it
        is one near the middle one of the times, so that under half of the tags may be wrong. Where
        none is, or there are none, it begins at the wall or at the `earlier` clock, behind which
        it never falls.
        """
        times = sorted(source_times)
        begun = [earlier.now()] if earlier is not None else []
        if has_own_time:
            voters = times or begun or [wall()]
            presents = [voters[(len(voters) - 1) // 2]]
        else:
            presents = [utc(wall()), *begun]
        most = latest_believable(presents[0], speed) - presents[0]
        near = [time for time in times if any(abs(time - each) <= most for each in presents)]
        anchor = max([*(near or presents[:1]), *begun])
        if has_own_time:
            return cls(anchor, speed, monotonic, None)
        known = earlier.wall if earlier is not None else None
        return cls(anchor, speed, monotonic, known or _never_set_back(wall, monotonic))

    def now(self) -> datetime:
        """The present moment of the plant, aware UTC."""
        elapsed_s = self.monotonic() - self._anchored_at_s
        return self.anchor + timedelta(seconds=self.speed * elapsed_s)

    def latest(self) -> datetime:
        """The latest source time that can be true now."""
        present = self.now() if self.wall is None else self.wall()
        return latest_believable(present, self.speed)

    def trust(self, source_time: datetime) -> None:
        """Move on to `source_time` if it is ahead of this clock and can be true."""
        if self.now() < source_time <= self.latest():
            self.anchor = utc(source_time)
            self._anchored_at_s = self.monotonic()

    def wall_seconds(self, plant_seconds: float) -> float:
        """How many wall seconds `plant_seconds` of this plant take."""
        return plant_seconds / self.speed


def _never_set_back(
    wall: Callable[[], datetime], monotonic: Callable[[], float]
) -> Callable[[], datetime]:
    """The wall or, where that is earlier, what it showed now and the seconds passed since."""
    began, began_s = utc(wall()), monotonic()
    return lambda: max(utc(wall()), began + timedelta(seconds=monotonic() - began_s))
