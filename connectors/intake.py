"""From the sources onto the disk: in one order, bounded in memory, and never holding a source up.

What comes while there is no room is lost, and becomes a lost stretch before anything newer of that
source: the oldest readings are kept, for the newest are what a plant's own history still knows.
A source that can hold back what was refused loses nothing.
What becomes of what is on the disk is `connectors.storing`'s.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby

from connectors.ballast import BALLAST_BYTES
from connectors.ending import end_tasks
from connectors.parcels import Batch, Lost, Note, Parcel, rows_of
from connectors.spool import HIGH_WATER, HIGH_WATER_OVER, Spool
from twin.errors import SpoolUnavailable
from twin.records import Reading

_MEMORY_ROWS = 100_000  # 6 s of 15k readings a second, some 40 MB, while the disk is slow
_MEMORY_NOTES = 1_000
_PUT_ROWS = 20_000
_PUT_EVERY_S = 0.25  # of the second within which last values shall be stored
_TROUBLE_PAUSE_S = 0.5
_BALLAST_EVERY_S = 5.0
# Room again, before readings are taken again: else every other batch would be a lost stretch.
_ROOM_AGAIN_SHARE = 0.95

_NO_MEMORY = "the disk of the spool was too slow, and memory was full"
_NO_QUOTA = "the database was away for longer than the spool's quota lasts"
_NO_DISK = "the disk of the spool was full"


class Intake:
    """One process's way onto the disk.

    `trouble` says why the spool cannot be written, and `losing` why readings are being lost; both
    are empty when all is well. `on_spooled` is called when something new is on the disk,
    `on_trouble` with what the audit shall be told, and `straight` stores parcels past a spool that
    is empty and cannot be written (False: it cannot now; `may_go_straight` says so beforehand).
    """

    def __init__(
        self,
        spool: Spool,
        *,
        on_spooled: Callable[[], None],
        on_trouble: Callable[[str], None],
        straight: Callable[[Sequence[Parcel]], Awaitable[bool]],
        may_go_straight: Callable[[], bool] = lambda: False,
    ) -> None:
        self.trouble = ""
        self.losing = ""
        self.is_high = False
        self._spool = spool
        self._on_spooled = on_spooled
        self._on_trouble = on_trouble
        self._straight = straight
        self._may_go_straight = may_go_straight
        self._queue: deque[tuple[Parcel, asyncio.Future[None] | None]] = deque()
        self._rows = 0
        self._lost: dict[str, Lost] = {}
        self._has_work = asyncio.Event()
        self._ballast_at_s = 0.0
        self._is_ending = False

    @property
    def rows(self) -> int:
        """How many readings are in memory only."""
        return self._rows

    def take(
        self, source: str, readings: Sequence[Reading], holds_back: bool = False
    ) -> asyncio.Future[None]:
        """Keep readings of a source; the answer is done when they are on the disk.

        Where there is no room for them the answer is cancelled, and their loss is kept unless the
        source holds them back to offer them again.
        """
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if why := self._why_no_room(len(readings)):
            if not holds_back:
                self._lose(source, readings, why)
            kept.cancel()
            return kept
        if lost := self._lost.pop(source, None):
            self._append(lost)
        self._append(Batch(source, readings), kept)
        return kept

    def tell(self, parcel: Parcel) -> None:
        """Keep what is no reading: a mark in the order of the readings, or an audit line.

        Marks are few and small, and without one a hole would be hidden: they are always kept. Audit
        lines are not where the spool is over its quota, or many wait in memory.
        """
        is_full = len(self._queue) > _MEMORY_NOTES or not self._spool.has_reserve
        if not (is_full and isinstance(parcel, Note)):
            self._append(parcel)

    async def keep_spooling(self) -> None:
        """Put what comes onto the disk, a few times a second, until the end."""
        while not self._is_ending:
            await self._has_work.wait()
            self._has_work.clear()
            while self._queue:
                began_s = time.monotonic()
                await self._put(self._next())
                if not self._is_ending:
                    await asyncio.sleep(max(0.0, _PUT_EVERY_S - (time.monotonic() - began_s)))

    async def finish(self, spooling: asyncio.Task[None], within_s: float) -> None:
        """Put what is left, if the disk lets us in time; what was lost last is told too."""
        for lost in self._lost.values():
            self._append(lost)
        self._lost.clear()
        self._is_ending = True
        self._has_work.set()
        await asyncio.wait([spooling], timeout=within_s)
        await end_tasks(spooling)

    async def look(self) -> None:
        """Tell what was lost once there is room again, and a high water; get the ballast back.

        Called about once a second, also while no readings come.
        """
        if self._lost and not self._why_no_room(0):
            for source in list(self._lost):
                self._append(self._lost.pop(source))
        share, was_high = self._spool.share, self.is_high
        self.is_high = share >= (HIGH_WATER_OVER if was_high else HIGH_WATER)
        if self.is_high and not was_high:
            quota_mb = self._spool.quota_bytes / 1e6
            self._on_trouble(
                f"{share:.0%} of its {quota_mb:,.0f} MB are taken; at 100 % new readings are lost. "
                "Bring the database back."
            )
        elif was_high and not self.is_high:
            self._on_trouble(f"{share:.0%} of its quota are taken: there is room again")
        if time.monotonic() - self._ballast_at_s > _BALLAST_EVERY_S:
            self._ballast_at_s = time.monotonic()
            if self._spool.is_empty or _free_bytes(self._spool) > 3 * BALLAST_BYTES:
                await _tried(self._spool.load_ballast)

    # -- inside ----------------------------------------------------------------------------------

    def _append(self, parcel: Parcel, kept: asyncio.Future[None] | None = None) -> None:
        self._queue.append((parcel, kept))
        self._rows += rows_of(parcel)
        self._has_work.set()

    def _why_no_room(self, rows: int) -> str:
        """Why `rows` more cannot be taken; "" where they can."""
        is_back = bool(self.losing)  # then more room is needed than just for these
        if self._rows + rows > (_MEMORY_ROWS // 2 if is_back else _MEMORY_ROWS) and self._rows:
            why = self.losing or _NO_MEMORY
        elif self._is_past_spool():
            why = ""
        elif not self._spool.has_room or (is_back and self._spool.share > _ROOM_AGAIN_SHARE):
            why = self.losing or (_NO_QUOTA if self._spool.share >= 1 else _NO_DISK)
        else:
            why = ""
        if why != self.losing:
            self.losing = why
            self._on_trouble(f"readings are being lost: {why}" if why else "no more is being lost")
        return why

    def _is_past_spool(self) -> bool:
        """Whether the disk is full, but all is stored and the database takes more at once."""
        is_full = self._spool.share < 1 and not self._spool.has_room
        return is_full and self._spool.is_empty and self._may_go_straight()

    def _lose(self, source: str, readings: Sequence[Reading], why: str) -> None:
        times = [each.source_time for each in readings]
        known = self._lost.get(source)
        if known is not None:
            times += [known.first, known.last]
            why = known.reason
        self._lost[source] = Lost(source, min(times), max(times), why)

    def _next(self) -> list[Parcel]:
        """The oldest parcels of the queue, some `_PUT_ROWS` readings of them."""
        chosen, rows = [], 0
        for parcel, _ in self._queue:
            chosen.append(parcel)
            rows += rows_of(parcel)
            if rows >= _PUT_ROWS:
                break
        return chosen

    async def _put(self, chosen: Sequence[Parcel]) -> None:
        """Put these, the first of the queue; they leave memory when they are safe."""
        try:
            if not (self._is_past_spool() and await self._straight(chosen)):
                await asyncio.to_thread(self._spool.put, merged(chosen))
        except SpoolUnavailable as trouble:
            self._see(str(trouble))
            self._spool.drop_ballast()
            if not (self._spool.is_empty and await self._straight(chosen)):
                await asyncio.sleep(_TROUBLE_PAUSE_S)
                return
        else:
            self._see("")
        for parcel in chosen:
            _, kept = self._queue.popleft()
            self._rows -= rows_of(parcel)
            if kept is not None and not kept.done():
                kept.set_result(None)
        self._on_spooled()

    def _see(self, trouble: str) -> None:
        before, self.trouble = self.trouble, trouble
        if bool(trouble) != bool(before):
            self._on_trouble(trouble or "it can be written again")


def merged(parcels: Sequence[Parcel]) -> list[Parcel]:
    """The same in the same order, neighbouring batches of one source as one batch."""
    found: list[Parcel] = []
    for source, group in groupby(parcels, lambda p: p.source if isinstance(p, Batch) else None):
        if source is None:
            found += group
        else:
            batches = [each for each in group if isinstance(each, Batch)]
            readings = [reading for each in batches for reading in each.readings]
            found.append(Batch(source, readings))
    return found


def _free_bytes(spool: Spool) -> int:
    try:
        return shutil.disk_usage(spool.path.parent).free
    except OSError:  # the folder is away
        return 0


async def _tried(work: Callable[[], None]) -> None:
    try:
        await asyncio.to_thread(work)
    except SpoolUnavailable:
        return
