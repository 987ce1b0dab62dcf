"""The plant's readings into the historian: live ones at once, missed ones from its history.

A lost link is opened again for ever. What is missing meanwhile is `connectors.backfill`'s, what
waits for the database `connectors.storing`'s. Readings are stored as they come, never judged or
changed; one whose time cannot be true comes without it (see `connectors.opcua.Session`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from connectors.backfill import FIRST_START, Backfill, holes
from connectors.opcua import Session
from connectors.security import Access
from connectors.storing import Note, Store
from twin.clock import WALL_TIME, PlantClock
from twin.clock import wall_now as read_wall_clock
from twin.errors import EndpointUnavailable, HistorianError, NodeFault
from twin.historian import Historian
from twin.plant import Plant
from twin.records import Reading

__all__ = ["FIRST_START", "PROCESS", "Progress", "collect", "holes"]

PROCESS = "collect"

_BEAT_S = 1.0
_FIRST_LIVE_S = 3.0  # a new subscription's first readings come with its first publishes
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
_LONGEST_FIRST_PAUSE_S = 2.0  # a plant that has never answered may be starting beside us
_TAGS_NAMED = 3  # of what a server dropped; the gap is of all tags in any case
_MISDATED_TOLD_AGAIN = timedelta(hours=1)  # of plant time without a wrong stamp of that tag


@dataclass(frozen=True)
class Progress:
    """How collecting stands. `backfill_share` is None while nothing is being filled."""

    link: str
    database_trouble: str = ""
    stored: int = 0
    waiting: int = 0
    backfill_share: float | None = None
    plant_now: datetime | None = None
    speed: float = 1.0


async def collect(
    plant: Plant,
    historian: Historian,
    *,
    stop: asyncio.Event,
    endpoint: str | None = None,
    access: Access | None = None,
    first_answer_within_s: float | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    wall_now: Callable[[], datetime] = read_wall_clock,
) -> Progress:
    """Carry readings from the plant to the historian until `stop` is set; the final progress.

    `wall_now` dates beats. Plant time, speed and what is being done are told with every beat.

    Raises:
        NodeFault: at the first connection nodes are missing, have the wrong type or cannot be
            monitored. Later such nodes are left out, told in the audit, and all others go on.
        EndpointUnavailable: nothing answered within `first_answer_within_s` (None: wait for ever).
        HistorianError: the database cannot be used at the start.
    """
    await asyncio.to_thread(historian.register, plant)
    collector = _Collector(plant, historian, endpoint, access, wall_now, on_progress)
    link = asyncio.create_task(collector.keep_link(first_answer_within_s))
    storing = asyncio.create_task(collector.store.keep_storing())
    telling = asyncio.create_task(collector.keep_telling())
    stopped = asyncio.create_task(stop.wait())
    endless = (link, storing, telling)
    try:
        await asyncio.wait([*endless, stopped], return_when=asyncio.FIRST_COMPLETED)
        for ended in (task for task in endless if task.done()):
            ended.result()
    finally:
        for task in (stopped, telling, link):
            task.cancel()
        await asyncio.gather(stopped, telling, link, return_exceptions=True)
        await collector.finish(storing)
    return collector.progress()


class _Collector:
    """One plant's link, and what it tells about itself."""

    def __init__(
        self,
        plant: Plant,
        historian: Historian,
        endpoint: str | None,
        access: Access | None,
        wall_now: Callable[[], datetime],
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._plant = plant
        self._historian = historian
        self._endpoint = endpoint
        self._access = access
        self._security = ""
        self._wall_now = wall_now
        self._on_progress = on_progress
        self._link = "connecting"
        self._share: float | None = None
        self._clock: PlantClock | None = None
        self._has_lived = False
        self._is_live = asyncio.Event()
        self._unheard: set[str] = set()  # tags without a reading in this session
        self._first_live: datetime | None = None  # by then every tag heard is live
        self._heard: datetime | None = None
        self._missed = ""
        self._misdated: dict[str, datetime] = {}  # when each tag last had a time that is not true
        self.store = Store(
            plant,
            historian,
            on_change=self._tell_progress,
            on_trouble=lambda message: self._tell("database", message),
            on_gap=lambda: self._backfill.wake(),
        )
        self._backfill = Backfill(plant, historian, self.store, self._tell, self._tell_share)

    # -- the link --------------------------------------------------------------------------------

    async def keep_link(self, first_answer_within_s: float | None) -> None:
        """Connect, live, reconnect, for ever; see `collect` for what ends it."""
        loop = asyncio.get_running_loop()
        began_s, pause_s = loop.time(), _FIRST_PAUSE_S
        while True:
            try:
                async with Session(
                    self._plant,
                    endpoint=self._endpoint,
                    access=self._access,
                    clock=self._clock,
                    is_strict=not self._has_lived,
                    on_misdated=self._tell_misdated,
                    wall_now=self._wall_now,
                ) as session:
                    pause_s = _FIRST_PAUSE_S
                    reason = await self._live(session)
            except (EndpointUnavailable, NodeFault) as fault:
                waited_s = loop.time() - began_s
                too_long = first_answer_within_s is not None and waited_s >= first_answer_within_s
                if not self._has_lived and (isinstance(fault, NodeFault) or too_long):
                    raise
                reason = str(fault)
            self._tell_link(f"lost: {reason}")
            await asyncio.sleep(pause_s)
            longest_s = _LONGEST_PAUSE_S if self._has_lived else _LONGEST_FIRST_PAUSE_S
            pause_s = min(2 * pause_s, longest_s)

    async def _live(self, session: Session) -> str:
        """Subscribe, then fill what is missing, until the link is lost; says why it was."""
        self._clock = session.clock
        self._tell_security(session.security_warning)
        gap = await self._backfill.open_gap(session.clock.now())
        left_out = {*session.faulty}
        self._unheard = {tag.name for tag in self._plant.tags} - left_out
        self._first_live, self._missed, self._is_live = None, "", asyncio.Event()
        await session.subscribe(self._take, on_missed=self._miss)
        self._has_lived = True
        self._unheard -= {*session.faulty}
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._is_live.wait(), _FIRST_LIVE_S)
        # Not the clock's now: that may run ahead of a plant that is late with its samples.
        await self._backfill.close_gap(gap, self._first_live or session.clock.now())
        self._tell_link(f"live; without {', '.join(session.faulty)}" if session.faulty else "live")
        filling = asyncio.create_task(self._backfill.keep_filling(session))
        lost = asyncio.create_task(session.until_lost())
        try:
            await asyncio.wait([filling, lost], return_when=asyncio.FIRST_COMPLETED)
            if filling.done():
                filling.result()
            return lost.result()
        finally:
            filling.cancel()
            lost.cancel()
            await asyncio.gather(filling, lost, return_exceptions=True)
            self._tell_share(None)

    def _take(self, readings: list[Reading]) -> None:
        """Hand readings on for storing, after what was missed before them."""
        newest = max(each.source_time for each in readings)
        if self._heard is None or newest > self._heard:  # a stamp long ago ends no gap
            if self._missed:
                self.store.miss(self._heard or newest, newest, self._missed)
                self._missed = ""
            self._heard = newest
        if not self._is_live.is_set():
            self._hear({each.tag: each.source_time for each in reversed(readings)})
        self.store.take(readings)

    def _hear(self, first: dict[str, datetime]) -> None:
        """The first readings of tags: the gap before ends when all of them are live."""
        for tag in self._unheard & first.keys():
            self._first_live = max(first[tag], self._first_live or first[tag])
        self._unheard -= first.keys()
        if not self._unheard:
            self._is_live.set()

    def _miss(self, reason: str, tags: Sequence[str]) -> None:
        self._missed = f"{reason} ({', '.join(tags)})" if 0 < len(tags) <= _TAGS_NAMED else reason

    # -- telling ---------------------------------------------------------------------------------

    async def keep_telling(self) -> None:
        """Beat and report progress, for ever."""
        while True:
            self._tell_progress()
            with contextlib.suppress(HistorianError):  # told by whoever has readings to store
                await asyncio.to_thread(self._beat)
            await asyncio.sleep(_BEAT_S)

    async def finish(self, storing: asyncio.Task[None]) -> None:
        """Store what waits, if the database lets us, and say that this was all."""
        await self.store.finish(storing)
        self._link = "stopped"
        self._tell_progress()
        with contextlib.suppress(HistorianError):
            await asyncio.to_thread(self._beat)

    def progress(self) -> Progress:
        """How collecting stands now."""
        clock = self._clock
        return Progress(
            link=self._link,
            database_trouble=self.store.trouble,
            stored=self.store.stored,
            waiting=self.store.waiting,
            backfill_share=self._share,
            plant_now=clock.now() if clock is not None else None,
            speed=clock.speed if clock is not None else 1.0,
        )

    def _tell_link(self, message: str) -> None:
        if message != self._link:
            self._link = message
            self._tell_progress()
            self._tell("link", message)

    def _tell_security(self, warning: str) -> None:
        if warning != self._security:
            self._security = warning
            if warning:
                self._tell("security", warning)

    def _tell_misdated(self, tag: str, stamp: datetime, latest: datetime) -> None:
        """Tell the audit of a tag's wrong time, once for as long as it goes on."""
        now = self._plant_now()
        last = self._misdated.get(tag)
        self._misdated[tag] = now
        if last is not None and now - last < _MISDATED_TOLD_AGAIN:
            return
        message = (
            f"the server dates it {stamp:%Y-%m-%d %H:%M:%S} UTC; now no time after "
            f"{latest:%Y-%m-%d %H:%M:%S} can be true, so its value is not used "
            "(Bad_InvalidTimestamp). Check the server's clock, then this machine's."
        )
        self.store.note(Note("clock", tag, message, now, PROCESS))

    def _tell_share(self, share: float | None) -> None:
        self._share = share
        self._tell_progress()

    def _tell_progress(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self.progress())

    def _tell(self, kind: str, message: str) -> None:
        endpoint = self._plant.opcua.endpoint if self._plant.opcua else ""
        if self._clock is None:
            message += f" {WALL_TIME}"
        self.store.note(Note(kind, self._endpoint or endpoint, message, self._plant_now(), PROCESS))

    def _plant_now(self) -> datetime:
        return self._clock.now() if self._clock is not None else self._wall_now()

    def _beat(self) -> None:
        now = self.progress()
        detail: dict[str, Any] = {
            "link": now.link,
            "stored": now.stored,
            "waiting": now.waiting,
            "backfill_share": now.backfill_share,
            "database_trouble": now.database_trouble,
            "security": self._security,
        }
        if now.plant_now is not None:
            detail |= {"plant_now": now.plant_now.isoformat(), "speed": now.speed}
        self._historian.beat(
            self._plant, PROCESS, self._wall_now(), os.getpid(), json.dumps(detail)
        )
