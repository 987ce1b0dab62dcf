"""What is missing of a source, filled from its own history: in slices, and resumable after each.

A gap stays a row when it is filled, and stays unfilled where the source remembers nothing of it.
`filled_until` says how far it was asked; a gap that was asked to its end is not asked again.
A tag whose history gives no answer holds up no other: what is missing of it waits in a row of its
own, and is asked for again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise

from connectors.buffering import ASK_AGAIN_S, READINGS_PER_S
from connectors.sources import Past
from connectors.storing import FIRST_START, Store
from twin.errors import EndpointUnavailable, Fault, NodeFault
from twin.historian import Gap
from twin.plant import Plant
from twin.plant import Source as SourcePart

_HISTORY_PAUSE_S = 5.0
_HOLE_SAMPLES = 3.0  # a longer silence of all tags than so many samples is a gap
_OVERLAP_SAMPLES = 6.0  # each tag comes in order, but one may be behind another by some samples
_SLICE_READINGS = 100_000  # expected in one slice: two seconds of work are lost by a kill
_NO_HISTORY = "the plant's history has no readings of it"


@dataclass
class _Filling:
    """How far a gap is filled: `last` is the newest reading known of it or before.

    Where it `waits`, nobody answered for any tag left: it stays as it is for now.
    """

    gap: Gap
    end: datetime
    tags: list[str]
    at: datetime
    last: datetime
    found: int = 0
    waits: bool = False


class Backfill:
    """One source's gaps. `tell` writes to the audit; `on_share` hears how much of a gap is done.

    What got no answer is asked for again after `ask_again_s`, or when there are new gaps.
    """

    def __init__(
        self,
        plant: Plant,
        source: SourcePart,
        store: Store,
        *,
        tell: Callable[[str, str], None],
        on_share: Callable[[float | None], None],
        readings_per_s: float = READINGS_PER_S,
        ask_again_s: float = ASK_AGAIN_S,
    ) -> None:
        self._plant = plant
        self._source = source
        self._store = store
        self._tell = tell
        self._on_share = on_share
        self._readings_per_s = readings_per_s
        self._ask_again_s = ask_again_s
        self._some_wait = False
        self._told: set[str] = set()  # of what goes on the audit hears once
        self._has_gaps = asyncio.Event()
        self._has_gaps.set()  # those of an earlier process

    def wake(self) -> None:
        """There may be new gaps to fill."""
        self._has_gaps.set()

    async def keep_filling(self, past: Past) -> None:
        """Fill gaps whenever there are new ones, the newest first, for ever."""
        self._told.clear()
        while True:
            with contextlib.suppress(TimeoutError):
                within_s = self._ask_again_s if self._some_wait else None
                await asyncio.wait_for(self._has_gaps.wait(), within_s)
            self._has_gaps.clear()
            self._some_wait = False
            for gap in reversed(
                [gap for gap in await self._store.unfilled_gaps() if self._is_mine(gap, past)]
            ):
                while not await self._fill(past, gap):
                    await asyncio.sleep(_HISTORY_PAUSE_S)
            self._on_share(None)

    def _is_mine(self, gap: Gap, past: Past) -> bool:
        """Whether this source may have what is missing there, and was not asked for all of it."""
        if gap.is_filled or gap.ended_at is None or gap.tag in past.faulty:
            return False
        if gap.filled_until is not None and gap.filled_until >= gap.ended_at:
            return False
        is_only_source = len(self._plant.all_sources) == 1
        return gap.source == self._source.name or (gap.source == "" and is_only_source)

    async def _fill(self, past: Past, gap: Gap) -> bool:
        """Read a gap from the source's history; False where another try may help."""
        filling = await self._begun(past, gap)
        try:
            while filling.at < filling.end and filling.tags:
                await self._fill_slice(past, filling)
        except EndpointUnavailable as fault:
            self._tell_once(str(fault))
            return False
        if not filling.waits:
            await self._settle(filling)
        return True

    def _tell_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._tell("backfill", text)

    async def _begun(self, past: Past, gap: Gap) -> _Filling:
        """Where filling goes on."""
        end = gap.ended_at or gap.started_at
        at = gap.filled_until or gap.started_at
        tags = [tag.name for tag in self._plant.tags_of(self._source.name)]
        tags = [tag for tag in tags if tag not in past.faulty]  # their own gaps are still open
        last = await self._store.newest(self._source.name, gap.tag, at)
        return _Filling(
            gap,
            end,
            [gap.tag] if gap.tag is not None else tags,
            at,
            gap.started_at if gap.filled_until is None else max(last or at, gap.started_at),
        )

    async def _fill_slice(self, past: Past, filling: _Filling) -> None:
        slice_s = _SLICE_READINGS * self._plant.sample_s / len(filling.tags)
        to = min(filling.at + timedelta(seconds=slice_s), filling.end)
        overlap = timedelta(seconds=_OVERLAP_SAMPLES * self._plant.sample_s)
        times, faults = await self._read(past, filling, filling.at - overlap, to)
        if faults and len(faults) == len(filling.tags) and all(each.may_pass for each in faults):
            filling.waits = self._some_wait = True
            filling.tags.clear()
            return
        for fault in faults:
            await self._go_without(filling, fault)
        await self._tell_holes(filling, sorted(t for t in times if filling.last < t <= to))
        filling.found += len(times)
        filling.at = to
        filling.gap = replace(filling.gap, filled_until=to)
        if to < filling.end:
            await self._store.store_gap(filling.gap)

    async def _read(
        self, past: Past, filling: _Filling, start: datetime, end: datetime
    ) -> tuple[set[datetime], list[Fault]]:
        """Store the past of a slice: its source times, and the faults of tags without."""
        seconds = max((filling.end - filling.gap.started_at).total_seconds(), 1.0)
        times: set[datetime] = set()
        began_s, count = time.monotonic(), 0
        try:
            async with contextlib.aclosing(past.history(start, end, filling.tags)) as batches:
                async for batch in batches:
                    await self._store.store_past(batch)
                    times.update(each.source_time for each in batch)
                    count += len(batch)
                    done_s = (batch[-1].source_time - filling.gap.started_at).total_seconds()
                    self._on_share(min(1.0, max(0.0, done_s / seconds)))
                    ahead_s = count / self._readings_per_s - (time.monotonic() - began_s)
                    await asyncio.sleep(max(0.0, ahead_s))
        except NodeFault as fault:
            self._tell_once(str(fault))
            return times, [each for each in fault.faults if each.where in filling.tags]
        return times, []

    async def _go_without(self, filling: _Filling, fault: Fault) -> None:
        """From here on the gap is filled without a tag; what is missing of it is a row."""
        tag = fault.where
        filling.tags.remove(tag)
        if tag == filling.gap.tag:
            return
        of_tag = replace(filling.gap, tag=tag, source=self._source.name)
        if fault.may_pass:
            self._some_wait = True
            await self._store.store_gap(replace(of_tag, ended_at=filling.end))
        else:
            missing = self._unfillable(of_tag, filling.gap.started_at, filling.end)
            await self._store.store_gap(missing)

    async def _tell_holes(self, filling: _Filling, times: Sequence[datetime]) -> None:
        """Store what even the history lacks, up to the newest of the sorted `times`."""
        if not times:
            return
        left = holes(times, filling.last, times[-1], self._longest_s(filling.gap))
        for first, last in left:
            if first == filling.gap.started_at:  # one row cannot be filled and unfilled
                await self._cut(filling, last)
            else:
                await self._store.store_gap(self._unfillable(filling.gap, first, last))
        filling.last = times[-1]

    async def _cut(self, filling: _Filling, at: datetime) -> None:
        """The gap begins with a hole: what comes after it becomes a row of its own."""
        before, filling.gap = filling.gap, replace(filling.gap, started_at=at)
        if before.reason == FIRST_START:  # a plant younger than the history we asked for
            filling.gap = before
            return
        if at < filling.end:  # else nothing is left of it
            await self._store.store_gap(replace(filling.gap, filled_until=at))
        await self._store.store_gap(self._unfillable(before, before.started_at, at))

    async def _settle(self, filling: _Filling) -> None:
        """Store what became of a gap: filled, or not, or filled but for its end."""
        gap, end = filling.gap, filling.end
        if not filling.tags:
            await self._store.store_gap(self._unfillable(gap, gap.started_at, end))
            return
        if gap.started_at >= end:  # a hole to its end, which is a row by now
            return
        # Our clock may be ahead of a plant that was away: what has not happened is not missing.
        happened = await self._store.newest(self._source.name, gap.tag, end) or end
        whole = replace(gap, ended_at=end, is_filled=True, filled_until=end)
        for first, last in holes([], filling.last, happened, self._longest_s(gap)):
            if first != gap.started_at:
                await self._store.store_gap(self._unfillable(gap, first, last))
            elif gap.reason != FIRST_START:
                whole = self._unfillable(gap, first, last)
        await self._store.store_gap(whole)
        told = f"{filling.found} source times from {gap.started_at} to {end} read"
        self._tell("backfill", told)

    def _unfillable(self, gap: Gap, first: datetime, last: datetime) -> Gap:
        reason = gap.reason if _NO_HISTORY in gap.reason else f"{gap.reason}; {_NO_HISTORY}"
        return Gap(first, last, reason, gap.tag, False, gap.source, last)

    def _longest_s(self, gap: Gap) -> float:
        """How long its tags may be silent without a gap."""
        samples_s = _HOLE_SAMPLES * self._plant.sample_s
        return samples_s if gap.tag is None else max(samples_s, self._plant.tag(gap.tag).max_age_s)


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
