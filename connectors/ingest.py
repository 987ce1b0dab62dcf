"""The plant's readings into the historian: live ones at once, missed ones from its history.

A lost link is opened again for ever; a database that is away is waited for. Every stretch without
readings is a gap row before it can be forgotten, and is filled from the plant's own history as
far as that reaches. Readings are stored as they come, never judged or changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

from connectors.opcua import Session
from twin.clock import PlantClock
from twin.clock import wall_now as read_wall_clock
from twin.errors import EndpointUnavailable, HistorianError, NodeFault
from twin.historian import Gap, Historian
from twin.plant import Plant
from twin.records import Reading

PROCESS = "collect"

_MEMORY_READINGS = 500_000  # 4.6 h of 30 tags at 1 s, about 100 MB, while the database is away
_BATCH_READINGS = 20_000
_BEAT_S = 1.0
_DATABASE_PAUSE_S = 0.5
_LAST_STORE_S = 10.0  # how long stopping waits for the database
_HISTORY_PAUSE_S = 5.0
_FIRST_LIVE_S = 3.0  # a new subscription's first readings come with its first publish
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
_HISTORY_SLACK = 1.25  # a first start some plant hours late still gets a plant's whole past
_HOLE_SAMPLES = 3.0  # a longer silence of all tags than so many samples is a gap

#: Reason of the gap that a first start leaves until the plant's history has filled it.
FIRST_START = "before the first connection"
_AWAY = "not connected"
_MEMORY_FULL = "the database was away for longer than memory could hold readings"
_NO_HISTORY = "the plant's history has no readings of it"

_T = TypeVar("_T")


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
    first_answer_within_s: float | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    wall_now: Callable[[], datetime] = read_wall_clock,
) -> Progress:
    """Carry readings from the plant to the historian until `stop` is set; the final progress.

    `wall_now` dates beats. Plant time, speed and what is being done are told with every beat.

    Raises:
        NodeFault: at the first connection nodes are missing or have the wrong type. Later such
            nodes are left out, told in the audit, and all others go on.
        EndpointUnavailable: nothing answered within `first_answer_within_s` (None: wait for ever).
        HistorianError: the database cannot be used at the start.
    """
    await asyncio.to_thread(historian.register, plant)
    collector = _Collector(plant, historian, endpoint, wall_now, on_progress)
    link = asyncio.create_task(collector.keep_link(first_answer_within_s))
    storing = asyncio.create_task(collector.keep_storing())
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
    return collector.progress


class _Collector:
    """What the link, the store and the beat share."""

    def __init__(
        self,
        plant: Plant,
        historian: Historian,
        endpoint: str | None,
        wall_now: Callable[[], datetime],
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self.progress = Progress(link="connecting")
        self._plant = plant
        self._historian = historian
        self._endpoint = endpoint
        self._wall_now = wall_now
        self._on_progress = on_progress
        self._clock: PlantClock | None = None
        self._waiting: deque[Reading] = deque()
        self._events: deque[tuple[str, str, datetime]] = deque(maxlen=1000)
        self._first_live: datetime | None = None
        self._is_live = asyncio.Event()
        self._has_work = asyncio.Event()
        self._has_gaps = asyncio.Event()
        self._dropped: tuple[datetime, datetime] | None = None
        self._writing = asyncio.Lock()
        self._jobs: set[asyncio.Future[Any]] = set()
        self._is_ending = False

    # -- the link --------------------------------------------------------------------------------

    async def keep_link(self, first_answer_within_s: float | None) -> None:
        """Connect, live, reconnect, for ever; see `collect` for what ends it."""
        pause_s, waited_s = _FIRST_PAUSE_S, 0.0
        while True:
            try:
                async with Session(
                    self._plant,
                    endpoint=self._endpoint,
                    clock=self._clock,
                    is_strict=self._clock is None,
                ) as session:
                    pause_s = _FIRST_PAUSE_S
                    reason = await self._live(session)
            except (EndpointUnavailable, NodeFault) as fault:
                is_first = self._clock is None
                too_long = first_answer_within_s is not None and waited_s >= first_answer_within_s
                if is_first and (isinstance(fault, NodeFault) or too_long):
                    raise
                reason = str(fault)
            self._tell_link(f"lost: {reason}")
            await asyncio.sleep(pause_s)
            waited_s += pause_s
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _live(self, session: Session) -> str:
        """Subscribe, then fill what is missing, until the link is lost; says why it was."""
        self._clock = session.clock
        gap = await self._open_gap(session.clock.now())
        self._first_live, self._is_live = None, asyncio.Event()
        await session.subscribe(self.take)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._is_live.wait(), _FIRST_LIVE_S)
        # Not the clock's now: that may run ahead of a plant that is late with its samples.
        ended_at = self._first_live or session.clock.now()
        await self._store_gap(replace(gap, ended_at=max(gap.started_at, ended_at)))
        left_out = f"; without {', '.join(session.faulty)}" if session.faulty else ""
        self._tell_link(f"live{left_out}")
        self._has_gaps.set()
        filling = asyncio.create_task(self._keep_filling(session))
        try:
            return await session.until_lost()
        finally:
            filling.cancel()
            await asyncio.gather(filling, return_exceptions=True)
            self._change(backfill_share=None)

    def take(self, readings: list[Reading]) -> None:
        """Keep readings for storing; the oldest go, remembered as a gap, when memory is full."""
        if self._first_live is None and readings:
            self._first_live = max(reading.source_time for reading in readings)
            self._is_live.set()
        self._waiting.extend(readings)
        while len(self._waiting) > _MEMORY_READINGS:
            lost_at = self._waiting.popleft().source_time
            first, last = self._dropped or (lost_at, lost_at)
            self._dropped = (min(first, lost_at), max(last, lost_at))
        self._has_work.set()

    def _tell_link(self, message: str) -> None:
        if message != self.progress.link:
            self._change(link=message)
            self._tell("link", message)

    # -- gaps ------------------------------------------------------------------------------------

    async def _open_gap(self, now: datetime) -> Gap:
        """Note what is missing after the newest stored reading, before newer ones hide it."""
        newest = await self._database(partial(self._historian.newest, self._plant))
        history_days = self._plant.opcua.history_days if self._plant.opcua else 0.0
        asked_from = now - _HISTORY_SLACK * timedelta(days=history_days)
        if newest is None:
            gap = Gap(asked_from, None, FIRST_START)
        else:
            gap = Gap(min(newest, now), None, _AWAY)
            if newest > now:
                told = f"the plant's time is {now}, before the newest stored reading of {newest}"
                self._tell("clock", f"{told}; what is stored already stays as it is")
        await self._store_gap(gap)
        return gap

    async def _store_gap(self, gap: Gap) -> None:
        add = partial(self._historian.add_gap, self._plant, gap.started_at, gap.ended_at)
        await self._database(partial(add, gap.reason, is_filled=gap.is_filled))

    async def _keep_filling(self, session: Session) -> None:
        """Fill gaps whenever there are new ones, the newest first."""
        while True:
            await self._has_gaps.wait()
            self._has_gaps.clear()
            gaps = await self._database(partial(self._historian.gaps, self._plant))
            for gap in reversed([gap for gap in gaps if not gap.is_filled]):
                while not await self._fill(session, gap):
                    await asyncio.sleep(_HISTORY_PAUSE_S)
            self._change(backfill_share=None)

    async def _fill(self, session: Session, gap: Gap) -> bool:
        """Read a gap from the plant's history; False where another try may help."""
        end = gap.ended_at or session.clock.now()
        seconds = max((end - gap.started_at).total_seconds(), 1.0)
        times: set[datetime] = set()
        try:
            async with contextlib.aclosing(session.history(gap.started_at, end)) as batches:
                async for batch in batches:
                    await self._store(batch)
                    times.update(reading.source_time for reading in batch)
                    done_s = (batch[-1].source_time - gap.started_at).total_seconds()
                    self._change(backfill_share=min(1.0, done_s / seconds))
        except EndpointUnavailable as fault:
            self._tell("backfill", str(fault))
            return False
        except NodeFault as fault:
            self._tell("backfill", str(fault))
            return True
        longest_s = _HOLE_SAMPLES * self._plant.sample_s
        # Our clock may be ahead of a plant that was away: what has not happened is not missing.
        newest = await self._database(partial(self._historian.newest, self._plant))
        happened = end if newest is None else min(end, max(newest, gap.started_at))
        left = holes(sorted(times), gap.started_at, happened, longest_s)
        if gap.reason == FIRST_START:  # a plant younger than the history we asked for
            left = [hole for hole in left if hole[0] > gap.started_at]
        await self._store_gap(replace(gap, ended_at=end, is_filled=True))
        for first, last in left:
            await self._store_gap(Gap(first, last, _NO_HISTORY))
        self._tell("backfill", f"{len(times)} source times from {gap.started_at} to {end} read")
        return True

    # -- storing ---------------------------------------------------------------------------------

    async def keep_storing(self) -> None:
        """Commit live readings as they come, one transaction at a time, until the end."""
        while not self._is_ending:
            await self._has_work.wait()
            self._has_work.clear()
            await self._store_waiting()

    async def finish(self, storing: asyncio.Task[None]) -> None:
        """Let what still waits be stored, if the database lets us within seconds."""
        self._is_ending = True
        self._has_work.set()
        await asyncio.wait([storing, *self._jobs], timeout=_LAST_STORE_S)
        storing.cancel()
        self._change(link="stopped")
        with contextlib.suppress(HistorianError):
            await asyncio.to_thread(self._beat)

    async def _store_waiting(self) -> None:
        while self._waiting:
            count = min(len(self._waiting), _BATCH_READINGS)
            await self._store([self._waiting.popleft() for _ in range(count)])
        if self._dropped is not None:
            (first, last), self._dropped = self._dropped, None
            await self._store_gap(Gap(first, last, _MEMORY_FULL))
            self._has_gaps.set()
        while self._events:
            await self._database(partial(self._audit, *self._events[0]))
            self._events.popleft()

    async def _store(self, batch: list[Reading]) -> None:
        async with self._writing:
            new = await self._database(partial(self._historian.store, batch, self._plant))
        self._change(stored=self.progress.stored + new)

    async def _database(self, work: Callable[[], _T]) -> _T:
        """Do it in the database, waiting for as long as that is away."""
        while True:
            job = asyncio.ensure_future(asyncio.to_thread(work))
            self._jobs.add(job)
            job.add_done_callback(self._jobs.discard)
            try:
                answer = await asyncio.shield(job)  # a thread cannot be cancelled, only awaited
            except HistorianError as trouble:
                if not self.progress.database_trouble:
                    self._tell("database", f"away: {trouble}")
                self._change(database_trouble=str(trouble))
                await asyncio.sleep(_DATABASE_PAUSE_S)
            else:
                if self.progress.database_trouble:
                    self._change(database_trouble="")
                    self._tell("database", "back")
                return answer

    # -- telling ---------------------------------------------------------------------------------

    async def keep_telling(self) -> None:
        """Beat and report progress, for ever."""
        while True:
            with contextlib.suppress(HistorianError):  # told by whoever has readings to store
                await asyncio.to_thread(self._beat)
            await asyncio.sleep(_BEAT_S)

    def _tell(self, kind: str, message: str) -> None:
        at = self._clock.now() if self._clock is not None else self._wall_now()
        self._events.append((kind, message, at))
        self._has_work.set()

    def _audit(self, kind: str, message: str, at: datetime) -> None:
        endpoint = self._plant.opcua.endpoint if self._plant.opcua else ""
        self._historian.event(self._plant, kind, self._endpoint or endpoint, message, at, PROCESS)

    def _beat(self) -> None:
        now = self._progress_now()
        detail: dict[str, Any] = {
            "link": now.link,
            "stored": now.stored,
            "waiting": now.waiting,
            "backfill_share": now.backfill_share,
            "database_trouble": now.database_trouble,
        }
        if now.plant_now is not None:
            detail |= {"plant_now": now.plant_now.isoformat(), "speed": now.speed}
        self._historian.beat(
            self._plant, PROCESS, self._wall_now(), os.getpid(), json.dumps(detail)
        )

    def _progress_now(self) -> Progress:
        clock = self._clock
        return replace(
            self.progress,
            waiting=len(self._waiting),
            plant_now=clock.now() if clock is not None else None,
            speed=clock.speed if clock is not None else 1.0,
        )

    def _change(self, **changes: Any) -> None:
        self.progress = replace(self.progress, **changes)
        self.progress = self._progress_now()
        if self._on_progress is not None:
            self._on_progress(self.progress)


def holes(
    times: Iterable[datetime], start: datetime, end: datetime, longest_s: float
) -> list[tuple[datetime, datetime]]:
    """Stretches from `start` to `end` longer than `longest_s` without any of the sorted times."""
    edges = [start, *times, end]
    return [
        (before, after)
        for before, after in pairwise(edges)
        if (after - before).total_seconds() > longest_s
    ]
