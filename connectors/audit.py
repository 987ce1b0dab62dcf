"""The collector's lines for the audit, in the plant's time as far as that is known.

They travel with the readings (`connectors.intake`), so none is lost while the database is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from connectors.parcels import Note
from twin.clock import WALL_TIME, PlantClock

PROCESS = "collect"

_TOLD_AGAIN = timedelta(hours=1)  # of plant time without that fault of that tag


class Clocks:
    """The one plant time of all sources: the main source's, once it has answered."""

    def __init__(self, wall_now: Callable[[], datetime]) -> None:
        self.main: PlantClock | None = None
        self.is_known = asyncio.Event()
        self._wall_now = wall_now

    def follow(self, clock: PlantClock) -> None:
        """The main source has (again) answered."""
        self.main = clock
        self.is_known.set()

    def now(self) -> datetime:
        """Plant time; the wall's until it is known."""
        return self.main.now() if self.main is not None else self._wall_now()


class Audit:
    """Hands lines for the audit to `keep`; a lasting fault of a tag is told once."""

    def __init__(self, clocks: Clocks, keep: Callable[[Note], None]) -> None:
        self._clocks = clocks
        self._keep = keep
        self._told_at: dict[tuple[str, str], datetime] = {}  # kind and tag -> when it last was so

    def note(self, kind: str, subject: str, message: str) -> None:
        """One line about `subject`; it says so where it has the wall's time."""
        if self._clocks.main is None:
            message += f" {WALL_TIME}"
        self._keep(Note(kind, subject, message, self._clocks.now(), PROCESS))

    def misdated(self, tag: str, stamp: datetime, latest: datetime) -> None:
        """Tell the audit of a tag's wrong time, once for as long as it goes on."""
        if self._is_told_already("clock", tag):
            return
        self.note(
            "clock",
            tag,
            f"the server dates it {stamp:%Y-%m-%d %H:%M:%S} UTC; now no time after "
            f"{latest:%Y-%m-%d %H:%M:%S} can be true, so its value is not used "
            "(Bad_InvalidTimestamp). Check the server's clock, then this machine's.",
        )

    def wrong(self, tag: str, message: str) -> None:
        """Tell the audit of what cannot be read as a value of a tag, once while it goes on."""
        if not self._is_told_already("message", tag):
            self.note("message", tag, message)

    def _is_told_already(self, kind: str, tag: str) -> bool:
        now = self._clocks.now()
        last = self._told_at.get((kind, tag))
        self._told_at[kind, tag] = now
        return last is not None and now - last < _TOLD_AGAIN
