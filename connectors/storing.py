"""From memory into the historian: in order, and patient while the database is away.

Readings wait in memory. What does not fit there is lost, and becomes a gap row before anything
newer is stored, so that no crash can hide it. Where readings come from is not known here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from twin.errors import HistorianError
from twin.historian import Gap, Historian
from twin.plant import Plant
from twin.records import Reading

_MEMORY_READINGS = 500_000  # 4.6 h of 30 tags at 1 s, about 100 MB, while the database is away
_BATCH_READINGS = 20_000
_EVENTS = 1_000
_DATABASE_PAUSE_S = 0.5
_LAST_STORE_S = 10.0  # how long stopping waits for the database
_MEMORY_FULL = "the database was away for longer than memory could hold readings"

_T = TypeVar("_T")


@dataclass(frozen=True)
class Note:
    """An audit row to come."""

    kind: str
    subject: str
    message: str
    at: datetime
    by: str


class Store:
    """One plant's way into the historian.

    `stored` counts readings that were new, `trouble` says why the database is away. `on_change`
    is called when something was stored or could not be, `on_trouble` with what the audit shall
    be told of that, and `on_gap` after a lost stretch was noted.
    """

    def __init__(
        self,
        plant: Plant,
        historian: Historian,
        *,
        on_change: Callable[[], None],
        on_trouble: Callable[[str], None],
        on_gap: Callable[[], None],
    ) -> None:
        self.stored = 0
        self.trouble = ""
        self._plant = plant
        self._historian = historian
        self._on_change = on_change
        self._on_trouble = on_trouble
        self._on_gap = on_gap
        self._readings: deque[Reading] = deque()
        self._notes: deque[Note] = deque(maxlen=_EVENTS)
        self._lost: dict[str, tuple[datetime, datetime]] = {}
        self._has_work = asyncio.Event()
        self._writing = asyncio.Lock()
        self._jobs: set[asyncio.Future[Any]] = set()
        self._is_ending = False

    @property
    def waiting(self) -> int:
        """How many readings are in memory only."""
        return len(self._readings)

    def take(self, readings: Sequence[Reading]) -> None:
        """Keep readings for storing; when memory is full the oldest go."""
        self._readings.extend(readings)
        while len(self._readings) > _MEMORY_READINGS:
            at = self._readings.popleft().source_time
            self.miss(at, at, _MEMORY_FULL)
        self._has_work.set()

    def miss(self, first: datetime, last: datetime, reason: str) -> None:
        """Readings from `first` to `last` are lost: note that before newer ones are stored."""
        known_first, known_last = self._lost.get(reason, (first, last))
        self._lost[reason] = (min(first, known_first), max(last, known_last))
        self._has_work.set()

    def note(self, note: Note) -> None:
        """Tell the audit, as soon as the database listens."""
        self._notes.append(note)
        self._has_work.set()

    async def keep_storing(self) -> None:
        """Commit as it comes, one transaction at a time, until the end."""
        while not self._is_ending:
            await self._has_work.wait()
            self._has_work.clear()
            while self._readings or self._lost:
                await self._store_lost()
                count = min(len(self._readings), _BATCH_READINGS)
                await self.store([self._readings.popleft() for _ in range(count)])
            while self._notes:
                await self._audit(self._notes.popleft())

    async def finish(self, storing: asyncio.Task[None]) -> None:
        """Let what still waits be stored, if the database lets us within seconds."""
        self._is_ending = True
        self._has_work.set()
        await asyncio.wait([storing, *self._jobs], timeout=_LAST_STORE_S)
        storing.cancel()
        await asyncio.gather(storing, return_exceptions=True)

    async def store(self, batch: Sequence[Reading]) -> None:
        """Store readings now, in turn with others."""
        if not batch:
            return
        async with self._writing:
            self.stored += await self.ask(partial(self._historian.store, batch, self._plant))
        self._on_change()

    async def store_gap(self, gap: Gap) -> None:
        """Store a gap row, or change the one that begins there."""
        add = partial(self._historian.add_gap, self._plant, gap.started_at, gap.ended_at)
        await self.ask(partial(add, gap.reason, tag=gap.tag, is_filled=gap.is_filled))

    async def ask(self, work: Callable[[], _T]) -> _T:
        """Do it in the database, waiting for as long as that is away."""
        while True:
            job = asyncio.ensure_future(asyncio.to_thread(work))
            self._jobs.add(job)
            job.add_done_callback(self._end)
            try:
                answer = await asyncio.shield(job)  # a thread cannot be cancelled, only awaited
            except HistorianError as trouble:
                self._see_trouble(str(trouble))
                await asyncio.sleep(_DATABASE_PAUSE_S)
            else:
                self._see_trouble("")
                return answer

    async def _store_lost(self) -> None:
        for reason, (first, last) in list(self._lost.items()):
            await self.store_gap(Gap(first, last, reason))
            if self._lost[reason] == (first, last):  # else it has grown meanwhile
                del self._lost[reason]
            self._on_gap()

    async def _audit(self, note: Note) -> None:
        tell = partial(self._historian.event, self._plant, note.kind, note.subject, note.message)
        await self.ask(partial(tell, note.at, note.by))

    def _see_trouble(self, trouble: str) -> None:
        before, self.trouble = self.trouble, trouble
        if trouble and not before:
            self._on_trouble(f"away: {trouble}")
        elif before and not trouble:
            self._on_trouble("back")
        if trouble or before:
            self._on_change()

    def _end(self, job: asyncio.Future[Any]) -> None:
        self._jobs.discard(job)
        if not job.cancelled():
            job.exception()  # seen: whoever asked may be gone by now
