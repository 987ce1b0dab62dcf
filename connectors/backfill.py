"""What is missing of a source, filled from its own history: in slices, and resumable after each.

A gap stays a row when it is filled, and stays unfilled where the source remembers nothing of it.
What one tag lacks beyond the others is a row of that tag: "filled" is true of every tag that has
no other row there. `filled_until` says how far a gap was asked for; one that was asked for to its
end is not asked for again. A tag whose history gives no answer holds up no other: what is missing
of it waits in a row of its own, and is asked for again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from connectors.asking import Asking
from connectors.buffering import ASK_AGAIN_S, READINGS_PER_S
from connectors.holes import Hole, Holes
from connectors.sources import Past, reach_of
from connectors.storing import FIRST_START, Store
from twin.errors import EndpointUnavailable, Fault, NodeFault
from twin.historian import Gap
from twin.plant import Plant
from twin.plant import Source as SourcePart
from twin.records import Series

_HISTORY_PAUSE_S = 5.0
_HOLE_SAMPLES = 3.0  # a longer silence of all tags than so many samples is a gap
_OVERLAP_SAMPLES = 6.0  # each tag comes in order, but one may be behind another by some samples
_WIDER = 4.0  # a tag that is behind is asked for with others, up to so many times as far behind
_SLICE_READINGS = 100_000  # expected in one slice: two seconds of work are lost by a kill
_SLICE_SAMPLES = 20.0  # at least: three times what is read twice for the overlap
_NO_HISTORY = "the plant's history has no readings of it"
_NEW_TAG = "before its first reading"


@dataclass
class _Filling:
    """How far a gap is filled: up to `at`, of its `tags` without those whose history is `mute`.

    `behind` are tags that the next slice asks for from earlier on. Tags that are `silent` have a
    gap of their own that is still open: it tells what is missing of them. Where the gap `waits`,
    nobody answered for any tag: it stays as it is for now.
    """

    gap: Gap
    end: datetime
    at: datetime
    tags: list[str]
    silent: frozenset[str]
    holes: Holes
    behind: list[tuple[datetime, list[str]]]
    has_begun: bool  # something of its time is stored
    mute: set[str] = field(default_factory=set)
    rows: list[Gap] = field(default_factory=list)  # of holes, to be stored at the next checkpoint
    found: int = 0
    is_over: bool = False  # what was left of it is a hole to its end, and a row by now
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
        self._asking = Asking(len(plant.tags_of(source.name)))
        self._is_heard: Callable[[str], bool] = lambda _tag: False
        self._some_wait = False
        self._told: set[str] = set()  # of what goes on the audit hears once
        self._has_gaps = asyncio.Event()
        self._has_gaps.set()  # those of an earlier process

    def wake(self) -> None:
        """There may be new gaps to fill."""
        self._has_gaps.set()

    async def keep_filling(self, past: Past, is_heard: Callable[[str], bool]) -> None:
        """Fill gaps whenever there are new ones, the newest first, for ever.

        `is_heard`: whether a tag has brought something over this connection.
        """
        self._told.clear()
        self._is_heard = is_heard
        await asyncio.sleep(self._asking.pause_s)  # the last link may have ended over it
        while True:
            with contextlib.suppress(TimeoutError):
                within_s = self._ask_again_s if self._some_wait else None
                await asyncio.wait_for(self._has_gaps.wait(), within_s)
            self._has_gaps.clear()
            self._some_wait = False
            gaps = [gap for gap in await self._store.unfilled_gaps() if self._is_mine(gap, past)]
            for gap in reversed(gaps):
                if not await self._fill(past, gap):
                    self._has_gaps.set()  # again, when each of the others has had its turn
                    await asyncio.sleep(max(_HISTORY_PAUSE_S, self._asking.pause_s))
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
            await self._fill_slice(past, filling)  # of a single moment too: its reading may be lost
            while filling.at < filling.end and not filling.waits:
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

    # -- from where on ---------------------------------------------------------------------------

    async def _begun(self, past: Past, gap: Gap) -> _Filling:
        """Where filling goes on: for each tag at its own newest reading, not at the source's."""
        end, at = gap.ended_at or gap.started_at, gap.filled_until or gap.started_at
        tags = [tag.name for tag in self._plant.tags_of(self._source.name)]
        tags = [tag for tag in tags if tag not in past.faulty]  # their own gaps are still open
        tags = [gap.tag] if gap.tag is not None else tags
        others = [each for each in await self._store.unfilled_gaps() if each != gap]
        silent = {each.tag for each in others if each.ended_at is None and each.tag is not None}
        newest = {tag: last.source_time for tag, last in (await self._store.last(tags, at)).items()}
        known = newest if gap.tag is not None else _told_elsewhere(newest, gap, tags, others)
        if gap.tag is None and gap.filled_until is None and gap.reason != FIRST_START:
            known = await self._with_rows_behind(gap, {*tags} - silent, known)
        return _Filling(
            gap,
            end,
            at,
            tags,
            frozenset(silent),
            self._holes(gap, max([gap.started_at, *newest.values()]), {*tags} - silent, known),
            self._behind(at, {tag: known[tag] for tag in known.keys() - silent}),
            has_begun=bool(newest) or gap.reason not in (FIRST_START, _NEW_TAG),
        )

    def _holes(
        self, gap: Gap, start: datetime, tags: set[str], known: Mapping[str, datetime]
    ) -> Holes:
        is_first = gap.reason in (FIRST_START, _NEW_TAG) and not known
        if gap.tag is not None:
            alone_s = self._longest_s(gap.tag)
            return Holes(start, longest_s={}, together_s=alone_s, known={}, is_first=is_first)
        return Holes(
            start,
            longest_s={tag: self._longest_s(tag) for tag in tags},
            together_s=_HOLE_SAMPLES * self._plant.sample_s,
            known={tag: known.get(tag, gap.started_at) for tag in tags},
            is_first=is_first,
        )

    async def _with_rows_behind(
        self, gap: Gap, tags: set[str], known: Mapping[str, datetime]
    ) -> dict[str, datetime]:
        """What a tag lacks from long before the gap is a row of its own, filled on its own.

        A tag of which nothing was ever stored is asked for as far back as at a first start.
        """
        reach = reach_of(self._source)
        rows, since = [], dict(known)
        for tag in tags:
            first = known.get(tag, gap.started_at - reach)
            if (gap.started_at - first).total_seconds() > self._longest_s(tag):
                reason = gap.reason if tag in known else _NEW_TAG
                rows.append(Gap(first, gap.started_at, reason, tag, source=self._source.name))
                since[tag] = gap.started_at
        if rows:
            await self._store.store_gaps(rows)
            self._has_gaps.set()
        return since

    def _behind(
        self, at: datetime, known: Mapping[str, datetime]
    ) -> list[tuple[datetime, list[str]]]:
        """From when on tags are asked for that are behind the others, in a few groups."""
        groups: list[tuple[datetime, list[str]]] = []
        nearest_s = _OVERLAP_SAMPLES * self._plant.sample_s
        for tag, last in sorted(known.items(), key=lambda each: each[1]):
            behind_s = (at - last).total_seconds()
            if behind_s <= nearest_s:
                break
            if not groups or (at - groups[-1][0]).total_seconds() > _WIDER * behind_s:
                groups.append((last, []))
            groups[-1][1].append(tag)
        return groups

    # -- slice by slice --------------------------------------------------------------------------

    async def _fill_slice(self, past: Past, filling: _Filling) -> None:
        samples = self._asking.share * _SLICE_READINGS / max(1, len(filling.tags))
        to = min(filling.at + self._samples(max(_SLICE_SAMPLES, samples)), filling.end)
        overlap = self._samples(_OVERLAP_SAMPLES)
        faults: list[Fault] = []
        times: set[datetime] = set()
        groups = [*filling.behind]
        apart = {tag for _, tags in groups for tag in tags}
        groups.append((filling.at - overlap, [tag for tag in filling.tags if tag not in apart]))
        for since, tags in groups:
            for part in self._asking.parts([tag for tag in tags if tag not in filling.mute]):
                faults += await self._read(past, filling, since, to, part, times)
        filling.found += len(times)
        if faults and len(faults) == len(filling.tags) and all(each.may_pass for each in faults):
            filling.waits = self._some_wait = True
            return
        for fault in faults:
            await self._go_without(filling, fault)
        times_s: dict[str, Series] = {}
        for since, tags in groups:
            times_s |= await self._store.times_s(tags, since, to)
        filling.rows += self._rows(filling, filling.holes.up_to(times_s))
        filling.at, filling.behind = to, []
        filling.gap = replace(filling.gap, filled_until=to)
        if to < filling.end:
            await self._store.store_gaps([filling.gap, *filling.rows])
            filling.rows.clear()

    async def _read(
        self,
        past: Past,
        filling: _Filling,
        start: datetime,
        end: datetime,
        asked: Sequence[str],
        times: set[datetime],
    ) -> list[Fault]:
        """Store the past of some tags in a slice, note its times; the faults of those without."""
        seconds = max((filling.end - filling.gap.started_at).total_seconds(), 1.0)
        began_s, count = time.monotonic(), 0
        try:
            with self._asking.question(len(asked)):
                async with contextlib.aclosing(past.history(start, end, asked)) as batches:
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
            return [each for each in fault.faults if each.where in asked]
        return []

    async def _go_without(self, filling: _Filling, fault: Fault) -> None:
        """From here on a tag is not asked for; where its history may answer later, a row waits."""
        tag = fault.where
        if not fault.may_pass:
            filling.mute.add(tag)
            return
        self._some_wait = True
        filling.tags.remove(tag)
        first = filling.holes.without(tag)
        if first is not None and first < filling.end:
            of_tag = Gap(first, filling.end, filling.gap.reason, tag, source=self._source.name)
            await self._store.store_gaps([of_tag])

    # -- what became of it -----------------------------------------------------------------------

    async def _settle(self, filling: _Filling) -> None:
        """Store what became of a gap: filled, or not, or filled but for its end."""
        end, gap = filling.end, filling.gap
        lasting = await self._but_late(filling.holes.to_the_end(end), end)
        rows = filling.rows + self._rows(filling, lasting)
        if not filling.is_over:
            lasted = end - gap.started_at
            is_empty = not (filling.has_begun or filling.found) and lasted > self._samples(
                _HOLE_SAMPLES
            )
            whole = replace(filling.gap, ended_at=end, is_filled=True, filled_until=end)
            rows.append(self._unfillable(gap, gap.started_at, end) if is_empty else whole)
        await self._store.store_gaps(rows)
        if gap.started_at < end:
            told = f"{filling.found} source times from {gap.started_at} to {end} read"
            self._tell("backfill", told)

    async def _but_late(self, found: Sequence[Hole], end: datetime) -> list[Hole]:
        """Holes to the end, without those of tags that are heard, and owe what they tell late."""
        heard = [hole.tag for hole in found if hole.tag is not None and self._is_heard(hole.tag)]
        newest = await self._store.last(heard, None) if heard else {}
        late = {tag for tag in heard if tag not in newest or newest[tag].source_time <= end}
        return [hole for hole in found if hole.tag not in late]

    def _rows(self, filling: _Filling, found: Sequence[Hole]) -> list[Gap]:
        """The rows of what even the history lacks."""
        rows = []
        for hole in found:
            gap = filling.gap
            if hole.tag is not None:
                of_tag = replace(gap, tag=hole.tag, source=self._source.name)
                rows.append(self._unfillable(of_tag, hole.first, hole.last))
            else:
                rows.append(self._unfillable(gap, hole.first, hole.last))
                if hole.first == gap.started_at:  # one row cannot be filled and unfilled
                    filling.gap = replace(gap, started_at=hole.last)
                    filling.is_over = hole.last >= filling.end
        return rows

    def _unfillable(self, gap: Gap, first: datetime, last: datetime) -> Gap:
        reason = gap.reason if _NO_HISTORY in gap.reason else f"{gap.reason}; {_NO_HISTORY}"
        return Gap(first, last, reason, gap.tag, False, gap.source, last)

    def _samples(self, count: float) -> timedelta:
        return timedelta(seconds=count * self._plant.sample_s)

    def _longest_s(self, tag: str) -> float:
        """How long a tag may be silent without a gap."""
        return max(_HOLE_SAMPLES * self._plant.sample_s, self._plant.tag(tag).max_age_s)


def _told_elsewhere(
    newest: Mapping[str, datetime], gap: Gap, tags: Sequence[str], others: Sequence[Gap]
) -> dict[str, datetime]:
    """Up to where each tag is stored, or what is missing of it before a gap is another row's."""
    known = dict(newest)
    for each in others:
        if each.ended_at is None or each.started_at > gap.started_at:
            continue
        if each.tag is not None and each.tag in tags:
            known[each.tag] = max(each.ended_at, known.get(each.tag, each.ended_at))
        elif each.tag is None and each.source == gap.source and each.ended_at <= gap.started_at:
            known |= {tag: max(last, each.ended_at) for tag, last in known.items()}
    return known
