"""What is missing between our readings, as gap rows, and filled from the plant's own history.

Every stretch without readings is a row before it can be forgotten. A gap stays a row when it is
filled, and stays open where the plant remembers nothing of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise

from connectors.opcua import Session
from connectors.storing import Store
from twin.errors import EndpointUnavailable, NodeFault
from twin.historian import Gap, Historian
from twin.plant import Plant

_HISTORY_PAUSE_S = 5.0
_HISTORY_SLACK = 1.25  # a first start some plant hours late still gets a plant's whole past
_HOLE_SAMPLES = 3.0  # a longer silence of all tags than so many samples is a gap
_OVERLAP_SAMPLES = 6.0  # each tag comes in order, but one may be behind another by some samples

#: Reason of the gap that a first start leaves until the plant's history has filled it.
FIRST_START = "before the first connection"
_AWAY = "not connected"
_NO_HISTORY = "the plant's history has no readings of it"


class Backfill:
    """One plant's gaps. `tell` writes to the audit; `on_share` hears how much of a gap is done."""

    def __init__(
        self,
        plant: Plant,
        historian: Historian,
        store: Store,
        tell: Callable[[str, str], None],
        on_share: Callable[[float | None], None],
    ) -> None:
        self._plant = plant
        self._historian = historian
        self._store = store
        self._tell = tell
        self._on_share = on_share
        self._has_gaps = asyncio.Event()

    def wake(self) -> None:
        """There are new gaps to fill."""
        self._has_gaps.set()

    async def open_gap(self, now: datetime) -> Gap:
        """Note what is missing after the newest stored reading, before newer ones hide it.

        What is stored of times that the plant has not reached yet says nothing of what is missing.
        """
        newest = await self._newest()
        known = await self._newest(until=now)
        for gap in await self._unfilled():
            if gap.ended_at is None and gap.tag is None:
                return gap  # of a connection that broke before it brought anything
        if known is None:
            history_days = self._plant.opcua.history_days if self._plant.opcua else 0.0
            gap = Gap(now - _HISTORY_SLACK * timedelta(days=history_days), None, FIRST_START)
        else:
            gap = Gap(known, None, _AWAY)
        if newest is not None and newest > now:
            told = f"the plant's time is {now}, before the newest stored reading of {newest}"
            self._tell("clock", f"{told}; what is stored already stays as it is")
        await self._store.store_gap(gap)
        return gap

    async def close_gap(self, gap: Gap, ended_at: datetime) -> None:
        """Live readings came in again at `ended_at`."""
        await self._store.store_gap(replace(gap, ended_at=max(gap.started_at, ended_at)))
        self.wake()

    async def keep_filling(self, session: Session) -> None:
        """Fill gaps whenever there are new ones, the newest first, for ever."""
        while True:
            await self._has_gaps.wait()
            self._has_gaps.clear()
            for gap in reversed(await self._unfilled()):
                while not await self._fill(session, gap):
                    await asyncio.sleep(_HISTORY_PAUSE_S)
            self._on_share(None)

    async def _newest(self, until: datetime | None = None) -> datetime | None:
        return await self._store.ask(partial(self._historian.newest, self._plant, until))

    async def _unfilled(self) -> list[Gap]:
        gaps = await self._store.ask(partial(self._historian.gaps, self._plant))
        return [gap for gap in gaps if not gap.is_filled]

    async def _fill(self, session: Session, gap: Gap) -> bool:
        """Read a gap from the plant's history; False where another try may help."""
        end = gap.ended_at or session.clock.now()
        try:
            times, without = await self._read(session, gap, end)
        except EndpointUnavailable as fault:
            self._tell("backfill", str(fault))
            return False
        if without is not None:
            self._tell("backfill", str(without))
            if not times:
                return True
        await self._settle(gap, end, times, without)
        told = f"{len(times)} source times from {gap.started_at} to {end} read"
        self._tell("backfill", told)
        return True

    async def _read(
        self, session: Session, gap: Gap, end: datetime
    ) -> tuple[set[datetime], NodeFault | None]:
        """The source times found in the gap, and which tags the plant remembers nothing of."""
        seconds = max((end - gap.started_at).total_seconds(), 1.0)
        start = gap.started_at - timedelta(seconds=_OVERLAP_SAMPLES * self._plant.sample_s)
        tags = None if gap.tag is None else [gap.tag]
        times: set[datetime] = set()
        try:
            async with contextlib.aclosing(session.history(start, end, tags)) as batches:
                async for batch in batches:
                    await self._store.store(batch)
                    times.update(each.source_time for each in batch)
                    done_s = (batch[-1].source_time - gap.started_at).total_seconds()
                    self._on_share(min(1.0, max(0.0, done_s / seconds)))
        except NodeFault as fault:
            return times, fault
        return times, None

    async def _settle(
        self, gap: Gap, end: datetime, times: set[datetime], without: NodeFault | None
    ) -> None:
        """Store what became of a gap: filled, with what is still missing as rows of their own."""
        # Our clock may be ahead of a plant that was away: what has not happened is not missing.
        newest = await self._newest(until=end)
        happened = end if newest is None else max(newest, gap.started_at)
        inside = sorted(time for time in times if time > gap.started_at)
        left = holes(inside, gap.started_at, happened, _HOLE_SAMPLES * self._plant.sample_s)
        if gap.reason == FIRST_START:  # a plant younger than the history we asked for
            left = [hole for hole in left if hole[0] > gap.started_at]
        rows = {gap.started_at: replace(gap, ended_at=end, is_filled=True)}
        rows |= {first: Gap(first, last, _NO_HISTORY, gap.tag) for first, last in left}
        for fault in without.faults if without is not None else ():
            await self._store.store_gap(Gap(gap.started_at, end, _NO_HISTORY, fault.where))
        for start in sorted(rows, reverse=True):  # the gap's own row last: nothing is forgotten
            await self._store.store_gap(rows[start])


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
