"""One plant's way through a network into a database of its own, and what came of it.

A tool of the tests: collects while a fault happens, and compares what is stored with what the
server itself wrote down that it had emitted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise

from counting_plant import CountingServer
from fault_matrix import Fault, Rig, recover
from faulty_network import FaultyNetwork

from connectors.ingest import Progress, collect
from connectors.security import Access
from twin.historian import Gap, Historian
from twin.plant import Plant
from twin.records import Mark, Reading

_HOLE_SAMPLES = 3  # so long may a tag be silent without a gap (`connectors.backfill`)
_EDGE_SAMPLES = (
    8  # so far a gap's ends may lie from the readings beside it: one publish of each tag
)


_LOOK_S = 0.1  # a look at a database costs a millisecond, and there are many lines


@dataclass
class Line:
    """One plant's way into a database of its own, through a network of its own."""

    fault: Fault
    server: CountingServer
    network: FaultyNetwork
    plant: Plant
    historian: Historian
    access: Access | None = None
    told: list[Progress] = field(default_factory=lambda: [Progress(link="not begun")])
    recover_s: float | None = None
    longest_silent_live_s: float = 0.0
    most_waiting: int = 0
    emitted: list[int] = field(default_factory=list)  # as the server said at the end

    async def newest(self) -> object:
        return await asyncio.to_thread(self.historian.newest, self.plant)

    def rows(self) -> dict[str, list[Reading]]:
        """What is stored, per tag, in the order of time."""
        names = [tag.name for tag in self.plant.tags]
        far = timedelta(days=100)
        began = self.server.counting.time_of(0)
        found: dict[str, list[Reading]] = {name: [] for name in names}
        for row in self.historian.readings(self.plant, names, began - far, began + far):
            found[row.tag].append(row)
        return found

    def gaps(self) -> list[Gap]:
        return self.historian.gaps(self.plant)

    def holes(self) -> list[Gap]:
        """Gaps that were asked for and that the plant remembers nothing of."""
        return [gap for gap in self.gaps() if not gap.is_filled and gap.ended_at is not None]

    def is_live(self) -> bool:
        return self.told[-1].link == "live"

    def is_filled(self, but: str = "") -> bool:
        gaps = [gap for gap in self.gaps() if gap.tag != but]
        return bool(gaps) and all(gap.is_filled for gap in gaps)

    def has_all_emitted(self) -> bool:
        """Whether every tag is stored up to the newest that the server had emitted.

        On a busy machine a link may be lost once more on the way there: that gap is asked for too.
        """
        newest = self.server.counting.time_of(self.emitted[-1])
        names = [tag.name for tag in self.plant.tags]
        last = self.historian.last_readings(self.plant, names)
        if not all(name in last and last[name].source_time >= newest for name in names):
            return False
        before = [gap for gap in self.gaps() if gap.started_at < newest]
        return all(
            gap.is_filled or (gap.ended_at is not None and gap.filled_until == gap.ended_at)
            for gap in before
            if gap.tag is None
        )


async def live_through(line: Line, then: Callable[[], bool], within_s: float = 40.0) -> None:
    """Collect, let the fault happen, recover, and collect until `then` is true and all is here."""
    name, stop = line.fault.name, asyncio.Event()
    collecting = asyncio.create_task(
        collect(
            line.plant, line.historian, stop=stop, on_progress=line.told.append, access=line.access
        )
    )
    watching = asyncio.create_task(_watch(line))
    try:
        await until(lambda: line.is_live() and line.is_filled(), f"{name}: live", 90)
        line.recover_s = await recover(
            Rig(line.server, line.network), line.fault, line.newest, within_s
        )
        assert line.recover_s is not None, f"{name}: nothing new in {within_s} s"
        await until(line.is_live, f"{name}: live again", within_s)
        await until(then, f"{name}: what is asked of it", 90)
        line.emitted = line.server.emitted()
        await until(line.has_all_emitted, f"{name}: the newest of all tags", within_s)
    finally:
        watching.cancel()
        stop.set()
        await asyncio.wait([collecting], timeout=20)
        assert collecting.done(), f"{name}: it does not end"
        assert not collecting.cancelled(), f"{name}: it ended by itself"
        collecting.result()


async def until(condition: Callable[[], bool], what: str, within_s: float) -> None:
    """Wait for a condition of a line's; fail with `what` when it does not come true in time."""
    give_up_s = time.monotonic() + within_s
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < give_up_s, f"waited {within_s} s in vain for: {what}"
        await asyncio.sleep(_LOOK_S)


async def _watch(line: Line) -> None:
    """Note the longest time for which a link called itself live while nothing was stored."""
    stored, since_s = -1, time.monotonic()
    while True:
        now = line.told[-1]
        if now.stored != stored or not line.is_live():
            stored, since_s = now.stored, time.monotonic()
        silent_s = time.monotonic() - since_s
        line.longest_silent_live_s = max(line.longest_silent_live_s, silent_s)
        line.most_waiting = max(line.most_waiting, now.waiting)
        await asyncio.sleep(0.05)


@dataclass(frozen=True)
class Verdict:
    """What came of a fault; `emitted` is the server's word, `stored` and the rest the database's.

    `wrong`: rows that were never emitted so, are there twice, or came in the wrong order. `untold`:
    stretches of which nothing came live, and no gap says so.
    """

    emitted: int
    stored: int
    wrong: int
    untold: int

    @property
    def is_sound(self) -> bool:
        """Every value once, in order, and no hole but those that are told."""
        return self.stored == self.emitted and self.wrong == self.untold == 0


def verdict(line: Line) -> Verdict:
    """Compare, up to the newest sample of which the server said at the end that it was emitted."""
    counting, rows, gaps = line.server.counting, line.rows(), line.gaps()
    end = counting.time_of(line.emitted[-1])
    stored = wrong = untold = 0
    for tag, found in rows.items():
        expected = {(counting.time_of(k), *counting.stored(tag, k)) for k in line.emitted}
        until_end = [row for row in found if row.source_time <= end]
        seen = [(row.source_time, row.value, row.quality) for row in until_end]
        live = [row for row in until_end if not row.marks & Mark.BACKFILLED]
        stored += len(seen)
        wrong += len({*seen} - expected) + len(seen) - len({time for time, *_ in seen})
        wrong += sum(after.arrival_time < before.arrival_time for before, after in pairwise(live))
        untold += _untold(
            [row.source_time for row in live],
            [gap for gap in gaps if gap.tag in (None, tag)],
            timedelta(milliseconds=counting.period_ms),
        )
    return Verdict(len(line.emitted) * len(rows), stored, wrong, untold)


def _untold(times: Sequence[datetime], gaps: Sequence[Gap], period: timedelta) -> int:
    """How many stretches without any of these times no gap tells of."""
    edge = _EDGE_SAMPLES * period
    return sum(
        not any(
            gap.started_at <= before + edge
            and (gap.ended_at is None or gap.ended_at >= after - edge)
            for gap in gaps
        )
        for before, after in pairwise(times)
        if after - before > _HOLE_SAMPLES * period
    )


def summary(line: Line, came: Verdict) -> str:
    """A line of the matrix's table, see conftest."""
    gaps = line.gaps()
    recover_s = line.recover_s if line.recover_s is not None else float("nan")
    return (
        f"{line.fault.name:<28} {line.server.stack:<10} {came.emitted:>8} {came.stored:>7} "
        f"{came.wrong:>6} {came.untold:>7} {len(gaps):>5} {sum(gap.is_filled for gap in gaps):>7} "
        f"{line.most_waiting:>8} {line.longest_silent_live_s:>7.2f} {recover_s:>8.2f}"
    )
