"""From the spool into the historian: in order, patient while the database is away.

What the database refuses for ever is found and set aside, and blocks nothing. Marks of where
readings are missing become gap rows at their place in the order, so that no crash can hide one:
a silence begins at the newest reading that is stored by then. Where parcels come from is not
known here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from connectors.ending import end_tasks
from connectors.parcels import Batch, Heard, Lost, Note, Parcel, Silence, rows_of, span_of
from connectors.spool import Spool
from twin.errors import HistorianError, RecordRefused, SpoolUnavailable, UnknownTag
from twin.historian import Gap, Historian, upgrade
from twin.plant import Plant
from twin.readings import Readings
from twin.records import Reading, Series

_BATCH_ROWS = 20_000
_MANY_ROWS = 1_000  # a batch as large is stored at most every `_MANY_EVERY_S`: fewer, fuller pages
_MANY_EVERY_S = 0.5
_TIDY_AFTER_S = 1.0
_TROUBLE_PAUSE_S = 0.5
_LIVE_FIRST_ROWS = 2_000  # with more live readings waiting, the past waits
_PAST_ROWS = 10_000  # of the past at a time, so that live readings never wait long
_EVENTS_LOOKED_BACK = 1_000

#: Reason of the gap that a first start leaves until the plant's history has filled it.
FIRST_START = "before the first connection"

_NOT_IN_FILE = "the plant file has it no more"

#: What the database will say of such rows again and again: it is not away.
_REFUSALS = (RecordRefused, UnknownTag, ValueError, OverflowError)

_T = TypeVar("_T")


class Store:
    """One plant's way from the spool into the historian.

    `stored` counts readings that were new, `trouble` says why the database is away. `on_change` is
    called when something was stored or could not be, `tell` with kind, subject and text of what
    the audit shall hear, and `on_gap` when there is a gap that may be filled. While `is_allowed`
    is not set nothing is stored: another process does.
    """

    def __init__(
        self,
        plant: Plant,
        historian: Historian,
        spool: Spool,
        *,
        on_change: Callable[[], None],
        tell: Callable[[str, str, str], None],
        on_gap: Callable[[], None],
    ) -> None:
        self.stored = 0
        self.trouble = ""
        self.is_allowed = asyncio.Event()
        self._plant = plant
        self._historian = historian
        self._spool = spool
        self._on_change = on_change
        self._tell = tell
        self._on_gap = on_gap
        self._has_work = asyncio.Event()
        self._has_work.set()  # what an earlier process left in the spool
        self._left_over = spool.newest_number  # so far it may have been stored before
        self._told_refusals: set[str] = set()
        self._spool_trouble = ""
        self._writing = asyncio.Lock()
        self._telling_gaps = asyncio.Lock()
        self._jobs: set[asyncio.Future[Any]] = set()
        self._is_ending = False

    def wake(self) -> None:
        """There is something new in the spool."""
        self._has_work.set()

    async def keep_storing(self, *, is_away: bool = False) -> None:
        """Store what the spool holds as it comes, until the end.

        `is_away`: the database was, and may be at another schema or know nothing of the plant.
        """
        if is_away:
            await self.ask(self._prepare)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TIDY_AFTER_S):
                    await self._has_work.wait()
            if not self._has_work.is_set():
                await self._tidy()
                await self._has_work.wait()
            self._has_work.clear()
            await self._empty()
            if self._is_ending and self._spool.is_empty:
                return

    async def finish(self, storing: asyncio.Task[None], within_s: float) -> None:
        """Let what still waits be stored, if the database lets us in time; the rest stays."""
        self._is_ending = True
        self._has_work.set()
        if self.is_allowed.is_set():
            await asyncio.wait([storing], timeout=within_s)
        await end_tasks(storing)
        if self._jobs:  # a thread cannot be cancelled, and uses what is closed next
            await asyncio.wait(self._jobs)

    async def straight(self, parcels: Sequence[Parcel]) -> bool:
        """Store parcels past the spool; False while the database is away or another's."""
        if not self.may_go_straight():
            return False
        await self._take_in(parcels)
        return True

    def may_go_straight(self) -> bool:
        """Whether the database is there and ours."""
        return not self.trouble and self.is_allowed.is_set()

    async def store_past(self, batch: Sequence[Reading]) -> None:
        """Store readings of the past now; live ones go first."""
        for first in range(0, len(batch), _PAST_ROWS):
            while self._spool.rows > _LIVE_FIRST_ROWS or not self.is_allowed.is_set():
                await asyncio.sleep(_TROUBLE_PAUSE_S / 10)
            await self._store(batch[first : first + _PAST_ROWS])

    async def store_gaps(self, gaps: Sequence[Gap]) -> None:
        """Store rows of gaps that have an end; one that is open by now stays so.

        Only a reading ends an open gap, and then all of it is asked for.
        """
        async with self._telling_gaps:
            still_open = {_key(gap) for gap in await self.open_gaps()}
            for gap in gaps:
                if _key(gap) not in still_open:
                    await self._store_gap(gap)

    async def _store_gap(self, gap: Gap) -> None:
        """Store a gap row, or change the one that begins there."""
        add = partial(self._historian.add_gap, self._plant, gap.started_at, gap.ended_at)
        more = {"tag": gap.tag, "source": gap.source, "filled_until": gap.filled_until}
        await self.ask(partial(add, gap.reason, is_filled=gap.is_filled, **more))

    async def unfilled_gaps(self) -> list[Gap]:
        """The plant's gaps that are not filled, in time order."""
        return await self.ask(partial(self._historian.gaps, self._plant, unfilled=True))

    async def open_gaps(self) -> list[Gap]:
        """Those of them that have no end yet."""
        return await self.ask(partial(self._historian.gaps, self._plant, still_open=True))

    async def end_strangers_gaps(self) -> None:
        """End the open gaps of sources and tags that the plant file has no more where it has them.

        Nobody would: what is missing of a tag from there on is a gap of the source it has now.
        """
        owners = {source.name for source in self._plant.all_sources}
        owned = {(s, None) for s in owners} | {
            (s, tag.name) for s in owners for tag in self._plant.tags_of(s)
        }
        await self.is_allowed.wait()
        async with self._telling_gaps:
            for gap in await self.open_gaps():
                if gap.source and (gap.source, gap.tag) not in owned:
                    newest = await self.ask(partial(self._historian.newest, self._plant))
                    end = max(newest or gap.started_at, gap.started_at)
                    reason = f"{gap.reason}; {_NOT_IN_FILE}"
                    ended = replace(gap, ended_at=end, filled_until=end, reason=reason)
                    await self._store_gap(replace(ended, is_filled=end == gap.started_at))

    async def newest(
        self, source: str, tag: str | None = None, until: datetime | None = None
    ) -> datetime | None:
        """The latest stored source time of the source's tags, or of one; not after `until`."""
        names = [tag] if tag is not None else [each.name for each in self._plant.tags_of(source)]
        known = await self.last(names, until)
        return max((each.source_time for each in known.values()), default=None)

    async def last(self, tags: Sequence[str], until: datetime | None) -> dict[str, Reading]:
        """The newest stored reading of each tag not after `until`; without tags that have none."""
        return await self.ask(partial(self._historian.last_readings, self._plant, tags, until))

    async def times_s(
        self, tags: Sequence[str], start: datetime, end: datetime
    ) -> dict[str, Series]:
        """The stored source times of each tag from `start` to `end`, in s since 1970 UTC."""
        held = await self.ask(partial(self._historian.samples, self._plant, tags, start, end))
        return {tag: samples.times_s for tag, samples in held.items()}

    async def ask(self, work: Callable[[], _T]) -> _T:
        """Do it in the database, waiting for as long as that is away.

        Raises what the database will not take however often it is asked.
        """
        while True:
            job = asyncio.ensure_future(asyncio.to_thread(work))
            self._jobs.add(job)
            job.add_done_callback(self._end)
            try:
                answer = await asyncio.shield(job)  # a thread cannot be cancelled, only awaited
            except _REFUSALS:
                self._see_trouble("")
                raise
            except HistorianError as trouble:
                self._see_trouble(str(trouble))
                await asyncio.sleep(_TROUBLE_PAUSE_S)
            else:
                self._see_trouble("")
                return answer

    def _prepare(self) -> None:
        """Bring a database that was away at the start to where it can take readings."""
        upgrade(self._historian.url)
        self._historian.register(self._plant)

    # -- from the spool --------------------------------------------------------------------------

    async def _empty(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self.is_allowed.wait()
            began_s = loop.time()
            try:
                some = await asyncio.to_thread(self._spool.first, _BATCH_ROWS)
            except SpoolUnavailable as trouble:
                self._see_spool_trouble(str(trouble))
                await asyncio.sleep(_TROUBLE_PAUSE_S)
                continue
            self._see_spool_trouble("")
            if not some:
                return
            rows = await self._take_in([parcel for _, parcel in some], [n for n, _ in some])
            if _MANY_ROWS <= rows < _BATCH_ROWS and not self._is_ending:
                await asyncio.sleep(max(0.0, _MANY_EVERY_S - (loop.time() - began_s)))

    async def _take_in(self, parcels: Sequence[Parcel], numbers: Sequence[int] = ()) -> int:
        """Store parcels in order, neighbouring batches at once; how many readings those had."""
        rows, at = 0, 0
        while at < len(parcels):
            first = parcels[at]
            if isinstance(first, Batch):
                parts: list[Sequence[Reading]] = []
                while at < len(parcels) and isinstance(batch := parcels[at], Batch):
                    parts.append(batch.readings)
                    at += 1
                await self._store(_in_one(parts))
                rows += sum(map(len, parts))
            else:
                is_left_over = bool(numbers) and numbers[at] <= self._left_over
                try:
                    await self._take_mark(first, is_left_over=is_left_over)
                except _REFUSALS as refusal:
                    await self._set_aside(first, str(refusal))
                at += 1
            if numbers:
                self._spool.stored(numbers[at - 1])
            self._on_change()
        return rows

    async def _take_mark(self, mark: Lost | Silence | Heard | Note, *, is_left_over: bool) -> None:
        match mark:
            case Lost(source, first, last, reason, tag):
                await self.store_gaps([Gap(first, last, reason, tag, source=source)])
                self._on_gap()
            case Silence():
                async with self._telling_gaps:
                    await self._begin(mark, is_left_over=is_left_over)
            case Heard(source, at, tag):
                async with self._telling_gaps:
                    for gap in await self._gaps_open_of(source, tag):
                        await self._store_gap(replace(gap, ended_at=max(gap.started_at, at)))
                self._on_gap()
            case Note():
                if not (is_left_over and await self._is_told(mark)):
                    tell = partial(self._historian.event, self._plant, mark.kind, mark.subject)
                    await self.ask(partial(tell, mark.message, mark.at, mark.by))

    async def _begin(self, silence: Silence, *, is_left_over: bool) -> None:
        """Open a gap where the silence begins, unless one is open."""
        source, at, tag = silence.source, silence.at, silence.tag
        if await self._gaps_open_of(source, tag):
            return
        newest = await self.newest(source, tag, at)
        if newest is None and tag is None:
            started_at, reason = at - timedelta(seconds=silence.reach_s), FIRST_START
        else:
            started_at, reason = newest or at, silence.reason
        await self._store_gap(Gap(started_at, None, reason, tag, source=source))
        beyond = None if is_left_over else await self.newest(source, tag)
        if beyond is not None and beyond > at:
            told = f"the plant's time is {at}, before the newest stored reading of {beyond}"
            self._tell("clock", source, f"{told}; what is stored already stays as it is")

    async def _gaps_open_of(self, source: str, tag: str | None) -> list[Gap]:
        return [
            gap for gap in await self.open_gaps() if gap.tag == tag and gap.source in ("", source)
        ]

    async def _is_told(self, note: Note) -> bool:
        """Whether a killed process had stored this line already."""
        look = partial(self._historian.events, self._plant, _EVENTS_LOOKED_BACK, kind=note.kind)
        told = (note.subject, note.message, note.at)
        return told in [(each.subject, each.message, each.at) for each in await self.ask(look)]

    # -- into the database -----------------------------------------------------------------------

    async def _store(self, readings: Sequence[Reading]) -> None:
        """Store readings in one go; those that never fit are set aside."""
        async with self._writing:
            try:
                self.stored += await self._ask_to_store(readings)
            except _REFUSALS as refusal:
                await self._store_what_fits(readings, refusal)
        self._on_change()

    async def _ask_to_store(self, readings: Sequence[Reading]) -> int:
        return await self.ask(partial(self._historian.store, readings, self._plant))

    async def _store_what_fits(self, readings: Sequence[Reading], refusal: Exception) -> None:
        """Halve until what is refused stands alone; an unknown tag's readings are all refused."""
        if len(readings) == 1 or (
            isinstance(refusal, UnknownTag) and len({each.tag for each in readings}) == 1
        ):
            await self._set_aside(Batch("", readings), str(refusal))
            return
        in_order = sorted(readings, key=lambda each: each.tag)
        middle = len(readings) // 2
        for half in (in_order[:middle], in_order[middle:]):
            try:
                self.stored += await self._ask_to_store(half)
            except _REFUSALS as still:
                await self._store_what_fits(half, still)

    async def _set_aside(self, parcel: Parcel, reason: str) -> None:
        while True:
            try:
                await asyncio.to_thread(self._spool.set_aside, parcel, reason)
            except SpoolUnavailable as trouble:
                self._see_spool_trouble(str(trouble))
                self._spool.drop_ballast()
                await asyncio.sleep(_TROUBLE_PAUSE_S)
            else:
                self._see_spool_trouble("")
                break
        about = parcel.readings[0].tag if isinstance(parcel, Batch) else type(parcel).__name__
        if about not in self._told_refusals:
            self._told_refusals.add(about)
            _, first, last = span_of(parcel)
            told = f"{rows_of(parcel)} readings from {first} to {last} are in quarantine: {reason}"
            self._tell("quarantine", about, told)

    async def _tidy(self) -> None:
        with contextlib.suppress(SpoolUnavailable):
            await asyncio.to_thread(self._spool.tidy)

    def _see_trouble(self, trouble: str) -> None:
        before, self.trouble = self.trouble, trouble
        if trouble and not before:
            self._tell("database", self._plant.plant, f"away: {trouble}")
        elif before and not trouble:
            self._tell("database", self._plant.plant, "back")
        if trouble or before:
            self._on_change()

    def _see_spool_trouble(self, trouble: str) -> None:
        """Tell what keeps us from reading the spool or setting aside, once while it goes on."""
        before, self._spool_trouble = self._spool_trouble, trouble
        if trouble and not before:
            self._tell("spool", str(self._spool.path), trouble)

    def _end(self, job: asyncio.Future[Any]) -> None:
        self._jobs.discard(job)
        if not job.cancelled():
            job.exception()  # seen: whoever asked may be gone by now


def _key(gap: Gap) -> tuple[str, str | None, datetime]:
    """What a gap's row goes by."""
    return gap.source, gap.tag, gap.started_at


def _in_one(parts: Sequence[Sequence[Reading]]) -> Sequence[Reading]:
    """All readings in order; as columns if they came so."""
    columns = [each for each in parts if isinstance(each, Readings)]
    if len(columns) == len(parts):
        return Readings.joined(columns)
    return [reading for each in parts for reading in each]
