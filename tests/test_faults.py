"""Whatever breaks between us and a server: nothing lost, nothing twice, no hole untold, back soon.

The matrix runs against asyncua's server and against node-opcua, another people's in another
language; what came of each fault is a table at the end of the test run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from counting_plant import CountingServer, Stack
from fault_matrix import FAULTS, Fault, Rig, Servers, recover
from faulty_network import FaultyNetwork
from one_tank import until

from connectors.ingest import Progress, collect
from twin.historian import Gap, Historian
from twin.plant import Plant
from twin.records import Reading

BOTH = [
    pytest.param("asyncua"),
    pytest.param("node-opcua", marks=pytest.mark.node),
]
#: A link is dead after two keep-alives of .8 s and 1 s; the rest is for a busy machine.
LIVE_WITHOUT_DATA_S = 6.0


@dataclass
class Line:
    """One plant's way into a database of its own, through a network of its own."""

    fault: Fault
    server: CountingServer
    network: FaultyNetwork
    plant: Plant
    historian: Historian
    told: list[Progress] = field(default_factory=lambda: [Progress(link="not begun")])
    recover_s: float | None = None
    longest_silent_live_s: float = 0.0

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

    def is_live(self) -> bool:
        return self.told[-1].link == "live"

    def is_filled(self) -> bool:
        gaps = self.gaps()
        return bool(gaps) and all(gap.is_filled for gap in gaps)


async def watch(line: Line) -> None:
    """Note the longest time for which a link called itself live while nothing was stored."""
    stored, since_s = -1, time.monotonic()
    while True:
        now = line.told[-1]
        if now.stored != stored or not line.is_live():
            stored, since_s = now.stored, time.monotonic()
        silent_s = time.monotonic() - since_s
        line.longest_silent_live_s = max(line.longest_silent_live_s, silent_s)
        await asyncio.sleep(0.05)


async def live_through(line: Line, then: Callable[[], bool], within_s: float = 20.0) -> None:
    """Collect, let the fault happen, recover, and collect until `then` is true."""
    stop = asyncio.Event()
    collecting = asyncio.create_task(
        collect(line.plant, line.historian, stop=stop, on_progress=line.told.append)
    )
    watching = asyncio.create_task(watch(line))
    try:
        await until(lambda: line.is_live() and line.is_filled(), f"{line.fault.name}: live", 40)
        rig = Rig(line.server, line.network)
        line.recover_s = await recover(rig, line.fault, line.newest, within_s)
        assert line.recover_s is not None, f"{line.fault.name}: nothing new in {within_s} s"
        await until(line.is_live, f"{line.fault.name}: live again", within_s)
        await until(then, f"{line.fault.name}: what is asked of it", 40)
    finally:
        watching.cancel()
        stop.set()
        await asyncio.wait_for(collecting, 20)


def assert_all_stored(line: Line) -> int:
    """Every sample once, in order, with its value and quality; how many rows that is."""
    counting, rows = line.server.counting, line.rows()
    stored_until = min(found[-1].source_time for found in rows.values())
    newest = (stored_until - counting.time_of(0)) // timedelta(milliseconds=counting.period_ms)
    for tag, found in rows.items():
        expected = [(counting.time_of(k), *counting.stored(tag, k)) for k in range(1, newest + 1)]
        seen = [(row.source_time, row.value, row.quality) for row in found][:newest]
        assert seen == expected, f"{line.fault.name}: {tag}"
    return newest * len(rows)


def summary(line: Line, stack: str, emitted: int, stored: int) -> str:
    """A line of the matrix's table, see conftest."""
    gaps = line.gaps()
    filled = sum(gap.is_filled for gap in gaps)
    recover_s = line.recover_s if line.recover_s is not None else float("nan")
    return (
        f"{line.fault.name:<32} {stack:<11} {emitted:>8} {stored:>8} {len(gaps):>5} {filled:>7} "
        f"{recover_s:>13.2f}"
    )


@pytest.mark.parametrize("stack", BOTH)
def test_no_fault_loses_doubles_or_hides_anything(
    stack: Stack, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """All faults at once, each on a line of its own: rows in the database = values emitted."""

    async def story() -> list[Line]:
        servers = Servers(stack, tmp_path)
        try:
            serving = await servers.start(FAULTS)
            lines = []
            for number, fault in enumerate(FAULTS):
                server = serving[fault.name]
                network = await FaultyNetwork(server.port).__aenter__()
                plant = server.counting.plant(network.port)
                historian = Historian.create(tmp_path / f"{number}.db")
                lines.append(Line(fault, server, network, plant, historian))
            async with asyncio.TaskGroup() as tasks:
                for line in lines:
                    tasks.create_task(live_through(line, line.is_filled))
            for line in lines:
                await line.network.__aexit__()
            return lines
        finally:
            servers.kill()

    for line in asyncio.run(story()):
        emitted = assert_all_stored(line)
        record_property("fault", summary(line, stack, emitted, emitted))
        assert line.longest_silent_live_s < LIVE_WITHOUT_DATA_S, line.fault.name
        assert all(gap.is_filled for gap in line.gaps()), line.fault.name
