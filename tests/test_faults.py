"""Whatever breaks between us and a server: nothing lost, nothing twice, no hole untold, back soon.

The matrix runs against asyncua's server and against node-opcua, another people's in another
language; what came of each fault is a table at the end of the test run.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from counting_plant import COUNTER, Counting, CountingServer, Stack
from fault_matrix import FAULTS, SOURCE_FROZEN, Fault, Rig, Servers, recover, reset
from faulty_network import FaultyNetwork
from one_tank import free_port, until

from connectors.ingest import Progress, collect
from connectors.opcua import Session
from twin.historian import Gap, Historian
from twin.plant import Plant
from twin.records import Reading

BOTH = [
    pytest.param("asyncua"),
    pytest.param("node-opcua", marks=pytest.mark.node),
]
#: A link is dead after two keep-alives of .8 s and 1 s; the rest is for a busy machine.
LIVE_WITHOUT_DATA_S = 6.0
SOURCE_FROZEN_S = 8.0
#: OPC 10000-5: the server's own count of sessions.
SESSION_COUNT = "nsu=http://opcfoundation.org/UA/;i=2277"


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

    def is_filled(self, but: str = "") -> bool:
        gaps = [gap for gap in self.gaps() if gap.tag != but]
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


async def live_through(line: Line, then: Callable[[], bool], within_s: float = 40.0) -> None:
    """Collect, let the fault happen, recover, and collect until `then` is true."""
    stop = asyncio.Event()
    collecting = asyncio.create_task(
        collect(line.plant, line.historian, stop=stop, on_progress=line.told.append)
    )
    watching = asyncio.create_task(watch(line))
    try:
        await until(lambda: line.is_live() and line.is_filled(), f"{line.fault.name}: live", 90)
        rig = Rig(line.server, line.network)
        line.recover_s = await recover(rig, line.fault, line.newest, within_s)
        assert line.recover_s is not None, f"{line.fault.name}: nothing new in {within_s} s"
        await until(line.is_live, f"{line.fault.name}: live again", within_s)
        await until(then, f"{line.fault.name}: what is asked of it", 90)
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


@pytest.mark.parametrize("stack", BOTH)
def test_a_frozen_source_is_never_live_and_its_hole_is_a_row(
    stack: Stack, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The connection stands and says that it is alive, but no reading comes: that is a state."""

    async def story() -> Line:
        servers = Servers(stack, tmp_path)
        try:
            (server,) = (await servers.start((SOURCE_FROZEN,))).values()
            async with FaultyNetwork(server.port) as network:
                plant = server.counting.plant(network.port)
                historian = Historian.create(tmp_path / "frozen.db")
                line = Line(SOURCE_FROZEN, server, network, plant, historian)
                await live_through(line, lambda: bool(holes_of(line)))
            return line
        finally:
            servers.kill()

    line = asyncio.run(story())
    assert any(told.link.startswith("frozen") for told in line.told)
    times = [row.source_time for row in line.rows()[COUNTER]]
    longest_s, before = max(
        ((after - before).total_seconds(), before) for before, after in pairwise(times)
    )
    assert longest_s > SOURCE_FROZEN_S - 1
    assert any(gap.started_at <= before + timedelta(seconds=0.1) for gap in holes_of(line))
    record_property("fault", summary(line, stack, len(times), len(times)))


def holes_of(line: Line) -> list[Gap]:
    """Gaps that were asked for and that the plant remembers nothing of."""
    return [gap for gap in line.gaps() if not gap.is_filled and gap.ended_at is not None]


@pytest.mark.node
def test_a_thousand_tags_one_of_them_wrong_at_a_server_that_takes_a_hundred_at_once(
    tmp_path: Path,
) -> None:
    """Past and present of 1,000 tags come whole; the 1,001st is named, and is a gap of its own."""
    names = tuple(f"t{number}" for number in range(1_000))

    async def story() -> Line:
        counting = Counting.now(tags=names, period_ms=1_000, most_per_call=100)
        server = CountingServer(counting, "node-opcua", free_port(), tmp_path)
        await server.start()
        try:
            async with FaultyNetwork(server.port) as network:
                plant = counting.plant(network.port, more=("wrong",))
                historian = Historian.create(tmp_path / "thousand.db")
                historian.register(plant)
                line = Line(Fault("one wrong node", reset), server, network, plant, historian)
                stop = asyncio.Event()
                collecting = asyncio.create_task(
                    collect(plant, historian, stop=stop, on_progress=line.told.append)
                )
                await until(lambda: line.is_filled(but="wrong"), "the past", 60)
                await until(lambda: line.told[-1].stored > 8_000, "the present", 60)
                stop.set()
                await asyncio.wait_for(collecting, 30)
            return line
        finally:
            server.kill()

    line = asyncio.run(story())
    assert {told.link for told in line.told if told.link.startswith("live")} == {
        "live; without wrong"
    }
    rows = line.rows()
    assert rows.pop("wrong") == []
    counting = line.server.counting
    for tag, found in rows.items():
        counts = [round((row.source_time - counting.time_of(0)).total_seconds()) for row in found]
        assert counts == list(range(1, len(found) + 1)), tag
    assert {gap.tag for gap in line.gaps() if not gap.is_filled} == {"wrong"}


@pytest.mark.parametrize("stack", BOTH)
def test_two_hundred_reconnects_leave_nothing_behind(stack: Stack, tmp_path: Path) -> None:
    """Memory, tasks and the server's sessions stand after 200 as they stood after 20."""

    async def once(plant: Plant) -> None:
        async with Session(plant) as session:
            arrived = asyncio.Event()
            await session.subscribe(lambda _: arrived.set())
            await asyncio.wait_for(arrived.wait(), 20)

    async def story() -> None:
        server = CountingServer(Counting.now(), stack, free_port(), tmp_path)
        await server.start()
        try:
            plant = server.counting.plant(server.port)
            stood: list[tuple[int, float, float | None]] = []
            for number in range(20):
                await asyncio.gather(*(once(plant) for _ in range(10)))
                if number in (1, 19):
                    async with Session(plant) as session:
                        sessions = await session.read_node(SESSION_COUNT)
                    stood.append((len(asyncio.all_tasks()), resident_mib(), sessions))
        finally:
            server.kill()
        (tasks, memory_mib, sessions), after = stood
        assert after[0] == tasks
        assert after[1] < memory_mib + 20
        assert after[2] == sessions

    asyncio.run(story())


def resident_mib() -> float:
    """How much memory this process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
