"""Somebody sets a clock by an hour, ours or the server's: nothing is lost, doubled or hidden."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from collected import collecting
from counting_plant import COUNTER, TAGS, Counting, CountingServer
from fault_matrix import Fault, Rig, recover, reset
from faulty_network import FaultyNetwork
from one_tank import free_port, until
from plant_line import Line, verdict

from twin.clock import wall_now
from twin.historian import Historian
from twin.records import Mark, Reading

HOUR = timedelta(hours=1)
#: What a reading is kept as whose time cannot be true.
BAD_INVALID_TIMESTAMP = 0x80230000


@asynccontextmanager
async def line_to(server: CountingServer, folder: Path, name: str) -> AsyncIterator[Line]:
    """A way of its own from the server to a database of its own."""
    async with FaultyNetwork(server.port) as network:
        plant = server.counting.plant(network.port)
        with Historian.create(folder / f"{name}.db") as historian:
            yield Line(Fault(name, reset), server, network, plant, historian)


@asynccontextmanager
async def counting_server(folder: Path) -> AsyncIterator[CountingServer]:
    server = CountingServer(Counting.now(), "asyncua", free_port(), folder)
    await server.start()
    try:
        yield server
    finally:
        server.kill()


async def new_reading(line: Line, what: str) -> None:
    """Wait until a sample is stored that is not emitted yet."""
    counting = line.server.counting
    wanted = counting.time_of(counting.newest() + 2)
    await until(lambda: newest_good(line) >= wanted, f"{line.fault.name}: {what}", 60)


def newest_good(line: Line) -> object:
    """The newest source time of the counter among its good readings."""
    good = [row.source_time for row in line.rows()[COUNTER] if row.is_good]
    return max(good, default=line.server.counting.time_of(0) - timedelta(days=1))


async def our_wall_is_set(server: CountingServer, folder: Path, hours: int) -> None:
    """The link stands, breaks and comes back while our wall is wrong."""
    async with line_to(server, folder, f"our wall {hours:+} h") as line:
        step = timedelta(0)
        async with collecting(
            line.plant, line.historian, wall_now=lambda: wall_now() + step
        ) as told:
            line.told = told
            await until(lambda: line.is_live() and line.is_filled(), "the link", 60)
            step = hours * HOUR
            await new_reading(line, "after the step")
            recover_s = await recover(
                Rig(server, line.network), line.fault, line.newest, within_s=40
            )
            assert recover_s is not None
            await new_reading(line, "after another connection")
            step = timedelta(0)
            await new_reading(line, "when the wall is right again")
            plant_now = told[-1].plant_now
            assert plant_now is not None
            assert abs(plant_now - wall_now()) < timedelta(seconds=60)
            assert all(each.silent == () for each in told[-1].sources)
            await until(line.is_filled, "the gaps", 60)
            line.emitted = server.emitted()
            await until(line.has_all_emitted, "the newest of all tags", 60)
        assert len(line.emitted) > 20
        assert verdict(line).is_sound, verdict(line)
        assert not line.historian.events(line.plant, kind="clock")


async def the_server_is_ahead(folder: Path) -> None:
    """Its samples are kept as they came, with no time and so no value, and it is told."""
    async with counting_server(folder) as server, line_to(server, folder, "ahead") as line:
        async with collecting(line.plant, line.historian) as told:
            line.told = told
            await until(lambda: line.is_live() and line.is_filled(), "the link", 60)
            await server.set_clock(1)
            await until(lambda: len(misdated(line)) > 10, "samples that cannot be true", 60)
            await server.set_clock(0)
            await new_reading(line, "when its clock is right again")
        events = line.historian.events(line.plant, kind="clock")
        assert sorted(each.subject for each in events) == sorted(TAGS)
        assert "Check the server's clock" in events[0].message
        assert all(row.value is None and row.marks & Mark.UNDATED for row in misdated(line))
        values = [row.value for row in good(line)]
        assert values == sorted({value for value in values if value is not None})
        assert values[-1] == len(good(line)) + len(misdated(line)), "each sample is one row"


async def the_server_is_behind(folder: Path) -> None:
    """It never looks live meanwhile, and what is missing of the present is a row."""
    async with counting_server(folder) as server, line_to(server, folder, "behind") as line:
        async with collecting(line.plant, line.historian) as told:
            line.told = told
            await until(lambda: line.is_live() and line.is_filled(), "the link", 60)
            await server.set_clock(-1)
            await until(lambda: "none is newer" in told[-1].link, "it to be told", 60)
            assert not told[-1].sources[0].is_healthy
            await server.set_clock(0)
            await until(line.is_live, "the link to be live again", 60)
            await new_reading(line, "when its clock is right again")
            await until(lambda: bool(line.holes()), "the row", 60)
        times = [row.source_time for row in line.rows()[COUNTER]]
        late = [at for at in times if at < server.counting.time_of(0)]
        assert late, "what came with an old time is stored with it"
        (hole,) = (gap for gap in line.holes() if gap.tag is None)
        assert "check the clock of the source" in hole.reason
        assert hole.ended_at is not None
        inside = [at for at in times if hole.started_at < at < hole.ended_at]
        assert not inside
        assert hole.started_at in times


def misdated(line: Line) -> list[Reading]:
    return [row for row in line.rows()[COUNTER] if row.quality == BAD_INVALID_TIMESTAMP]


def good(line: Line) -> list[Reading]:
    return [row for row in line.rows()[COUNTER] if row.is_good]


def test_a_clock_that_is_set_by_an_hour_loses_and_hides_nothing(tmp_path: Path) -> None:
    """Ours ahead and back: every value stored, none aged. The server's: told, and rows say so."""

    async def story() -> None:
        async with counting_server(tmp_path) as server, asyncio.TaskGroup() as tasks:
            tasks.create_task(our_wall_is_set(server, tmp_path, 1))
            tasks.create_task(our_wall_is_set(server, tmp_path, -1))
            tasks.create_task(the_server_is_ahead(tmp_path))
            tasks.create_task(the_server_is_behind(tmp_path))

    asyncio.run(story())
