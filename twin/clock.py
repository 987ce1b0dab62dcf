"""Plant time: the last trusted source time, carried on by this machine's monotonic clock.

Freshness is judged against this clock, never against the newest reading itself, so a frozen
source grows old. Leases, logins and expiry towards people use the wall clock instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


def utc(moment: datetime) -> datetime:
    """The same moment as an aware UTC time; a naive time raises ValueError."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone; times here are aware UTC")
    return moment.astimezone(UTC)


def wall_now() -> datetime:
    """The wall clock, aware UTC. Processes read it at their outermost loop only."""
    return datetime.now(UTC)


@dataclass
class PlantClock:
    """Plant time = `anchor` + speed × monotonic seconds since the anchor was set.

    `speed` is 1 unless an emulator declares another. `trust` moves the anchor when a good
    reading carries a later source time than the clock shows; it never moves time backwards.
    """

    anchor: datetime
    speed: float = 1.0
    monotonic: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        if not self.speed > 0:
            raise ValueError(f"clock speed {self.speed} must be above zero")
        self.anchor = utc(self.anchor)
        self._anchored_at_s = self.monotonic()

    def now(self) -> datetime:
        """The present moment of the plant, aware UTC."""
        elapsed_s = self.monotonic() - self._anchored_at_s
        return self.anchor + timedelta(seconds=self.speed * elapsed_s)

    def trust(self, source_time: datetime) -> None:
        """Move on to `source_time` if it is ahead of this clock."""
        if source_time > self.now():
            self.anchor = utc(source_time)
            self._anchored_at_s = self.monotonic()

    def wall_seconds(self, plant_seconds: float) -> float:
        """How many wall seconds `plant_seconds` of this plant take."""
        return plant_seconds / self.speed
