"""Whatever breaks between us and a server: nothing lost, nothing twice, no hole untold, back soon.

The matrix runs against asyncua's server and against node-opcua, another people's in another
language; what came of each fault is a table at the end of the test run.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from counting_plant import (
    OPEN,
    Counting,
    CountingServer,
    Stack,
)
from fault_matrix import ENCRYPTED, FAULTS, SOURCE_FROZEN, Fault, Servers, at_once, reset
from faulty_network import FaultyNetwork
from one_tank import free_port, until
from plant_line import Line, live_through, summary, verdict

from connectors.ingest import collect
from connectors.opcua import Session
from connectors.security import Access, Secrets, TrustStore
from connectors.security.certificates import fingerprint
from twin.errors import SecurityFault
from twin.historian import Historian
from twin.plant import Plant, Security

BOTH = [
    pytest.param("asyncua"),
    pytest.param("node-opcua", marks=pytest.mark.node),
]
#: A link is dead after two keep-alives of .8 s and 1 s; the rest is for a busy machine.
LIVE_WITHOUT_DATA_S = 9.0
SOURCE_FROZEN_S = 8.0
#: Most readings of a line in memory and spool: 50 come in a second, and none waits for long.
MOST_WAITING = 1_000
#: How much larger all lines together may be at the end than when the first fault began.
MOST_GROWTH_MIB = 100
#: OPC 10000-5: the server's own count of sessions.
SESSION_COUNT = "nsu=http://opcfoundation.org/UA/;i=2277"


async def met(plant: Plant, folder: Path) -> Access:
    """Who we are, after a person has accepted the certificate that this plant's server shows."""
    access = Access(folder / "ours", Secrets(folder / "secrets.yaml", {}))
    with pytest.raises(SecurityFault, match="nobody has accepted it yet"):
        async with Session(plant, access=access):
            pass
    for rejected in TrustStore(access.pki).entries("rejected"):
        TrustStore(access.pki).accept(fingerprint(rejected.certificate))
    return access


async def lines_of(stack: Stack, folder: Path, servers: Servers) -> list[Line]:
    """A line for each fault, every one on a network and into a database of its own."""
    folder.mkdir()
    faults = at_once([*FAULTS, SOURCE_FROZEN, *ENCRYPTED])
    serving = await servers.start(faults)
    accesses: dict[CountingServer, Access] = {}
    lines = []
    for number, fault in enumerate(faults):
        server = serving[fault.name]
        network = await FaultyNetwork(server.port).__aenter__()
        security = Security() if fault.is_encrypted else OPEN
        plant = server.counting.plant(network.port, security=security)
        if fault.is_encrypted and server not in accesses:
            kept = folder / f"met{server.port}"
            accesses[server] = await met(plant, kept)
        historian = Historian.create(folder / f"{number}.db")
        access = accesses[server] if fault.is_encrypted else None
        lines.append(Line(fault, server, network, plant, historian, access))
    return lines


async def all_at_once(stack: Stack, folder: Path) -> tuple[list[Line], float]:
    """Every fault at the same time, as most only wait; and by how many MiB we grew meanwhile."""
    servers = Servers(stack, folder)
    try:
        lines = await lines_of(stack, folder / "lines", servers)
        before_mib = resident_mib()
        async with asyncio.TaskGroup() as tasks:
            for line in lines:
                is_hole = line.fault.name == SOURCE_FROZEN.name
                then = (lambda line=line: bool(line.holes())) if is_hole else line.is_filled
                tasks.create_task(live_through(line, then))
        grown_mib = resident_mib() - before_mib
        for line in lines:
            await line.network.__aexit__()
        return lines, grown_mib
    finally:
        servers.kill()


@pytest.fixture(scope="module", params=BOTH)
def matrix(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Line], float]:
    """A server's lines after all that happened, and how much memory they took."""
    return asyncio.run(all_at_once(request.param, tmp_path_factory.mktemp("matrix")))


def test_no_fault_loses_doubles_or_hides_anything(
    matrix: tuple[list[Line], float], record_property: Callable[[str, object], None]
) -> None:
    """All faults at once, each on a line of its own: rows in the database = values emitted."""
    lines, grown_mib = matrix
    came = {line.fault.name: verdict(line) for line in lines}
    for line in lines:
        record_property("fault", summary(line, came[line.fault.name]))
    assert [name for name, each in came.items() if not each.is_sound] == []
    for line in lines:
        assert line.longest_silent_live_s < LIVE_WITHOUT_DATA_S, line.fault.name
        assert line.most_waiting < MOST_WAITING, line.fault.name
        if line.fault.name != SOURCE_FROZEN.name:
            assert line.is_filled(), line.fault.name
    assert grown_mib < MOST_GROWTH_MIB


def test_a_frozen_source_is_never_live_and_its_hole_is_a_row(
    matrix: tuple[list[Line], float],
) -> None:
    """The connection stands and says that it is alive, but no reading comes: that is a state."""
    (line,) = (each for each in matrix[0] if each.fault.name == SOURCE_FROZEN.name)
    assert any(told.link.startswith("frozen") for told in line.told)
    for found in line.rows().values():
        times = [row.source_time for row in found]
        longest_s, before = max(
            ((after - before).total_seconds(), before) for before, after in pairwise(times)
        )
        assert longest_s > SOURCE_FROZEN_S - 1
        assert any(gap.started_at <= before + timedelta(seconds=0.1) for gap in line.holes())


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
    """Half of them left in order, half reset (RST): memory, tasks, the server's sessions stand."""

    async def leave(plant: Plant) -> None:
        async with Session(plant) as session:
            await heard(session)

    async def lose(plant: Plant, all_heard: asyncio.Barrier, network: FaultyNetwork) -> None:
        async with Session(plant, session_timeout_s=3.0) as session:
            await heard(session)
            if await all_heard.wait() == 0:
                network.cut()
            await asyncio.wait_for(session.until_lost(), 20)

    async def heard(session: Session) -> None:
        arrived = asyncio.Event()
        await session.subscribe(lambda _: arrived.set())
        await asyncio.wait_for(arrived.wait(), 20)

    async def story() -> None:
        server = CountingServer(Counting.now(), stack, free_port(), tmp_path)
        await server.start()
        try:
            async with FaultyNetwork(server.port) as network:
                plant, wire = (server.counting.plant(each.port) for each in (server, network))
                stood: list[tuple[int, float]] = []
                for number in range(10):
                    all_heard = asyncio.Barrier(10)
                    await asyncio.gather(
                        *(leave(plant) for _ in range(10)),
                        *(lose(wire, all_heard, network) for _ in range(10)),
                    )
                    if number in (1, 9):
                        await until_alone(server, plant)
                        stood.append((len(asyncio.all_tasks()), resident_mib()))
        finally:
            server.kill()
        (tasks, memory_mib), after = stood
        assert after[0] == tasks
        assert after[1] < memory_mib + 20

    asyncio.run(story())


async def until_alone(server: CountingServer, plant: Plant) -> None:
    """Wait until the server has no connection and no session of ours, as when they time out."""
    await until(lambda: server.connections() == 0, "the connections to be gone", 30)
    if server.stack == "asyncua":
        return  # it does not count sessions, and ends each with its connection
    async with Session(plant) as session, asyncio.timeout(30):
        while await session.read_node(SESSION_COUNT) != 1:
            await asyncio.sleep(0.05)


def resident_mib() -> float:
    """How much memory this process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
