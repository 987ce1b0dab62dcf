"""What a fault of server or network costs: our collector beside asyncua's own reconnecting client.

Each fault of the tests' matrix happens to both, each at a server of its own that keeps its history
(node-opcua where it is installed, else asyncua's). Ours stores in SQLite; the peer keeps what it
hears in memory, the cheapest store there is. Recovery is counted from the fault's end to the first
newer value kept; a collector that keeps none within the time watched has not recovered. What is
emitted and lost is counted over one stretch of time for both: from just before the fault until the
slower of the two is back or was watched in vain.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from asyncua import Client, ua
from rich.console import Console
from rich.progress import Progress as Bar
from telling import run_and_tell

from connectors.ingest import Progress, collect
from connectors.opcua import quiet_library_log
from twin.historian import Historian

_TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(_TESTS))

from counting_plant import COUNTER, NAMESPACE, Stack, stacks_here  # noqa: E402  found there only
from fault_matrix import FAULTS, Fault, Rig, Servers, recover  # noqa: E402  found there only
from faulty_network import FaultyNetwork  # noqa: E402  found there only

WATCHED_S = 25.0
FILLED_WITHIN_S = 30.0
TARGET_RECOVER_S = 3.0
QUICK = ("TCP reset", "network away 5 s", "kill -9 and restart")
OURS, PEER = "plantwright", "asyncua auto_reconnect=True"

#: The source times of the counter that a collector has kept.
Kept = Callable[[], set[datetime]]


@dataclass(frozen=True)
class Outcome:
    """What came of one fault. `recover_s` None: nothing newer was kept in the time watched."""

    fault: str
    collector: str
    emitted: int
    lost: int
    recover_s: float | None


class Window:
    """The stretch of time over which both collectors are counted."""

    def __init__(self) -> None:
        self._both = asyncio.Barrier(2)
        self._began_s, self._ended_s = 0.0, 0.0

    async def begin(self) -> None:
        """Wait for the other; from now on it counts."""
        await self._both.wait()
        self._began_s = self._began_s or time.monotonic()

    async def end(self) -> float:
        """Wait for the other; how many seconds it was, the same for both."""
        await self._both.wait()
        self._ended_s = self._ended_s or time.monotonic()
        return self._ended_s - self._began_s


@asynccontextmanager
async def ours(rig: Rig, folder: Path) -> AsyncIterator[tuple[Kept, Kept]]:
    """Our collector; what it has stored, and the same once every gap is filled."""
    plant = rig.server.counting.plant(rig.network.port)
    historian = Historian.create(folder / "ours.db")
    historian.register(plant)
    began = rig.server.counting.time_of(0)
    stop, told = asyncio.Event(), [Progress(link="not begun")]

    def kept() -> set[datetime]:
        far = timedelta(days=100)
        rows = historian.readings(plant, [COUNTER], began - far, began + far)
        return {row.source_time for row in rows}

    def filled() -> set[datetime]:
        return kept() if all(gap.is_filled for gap in historian.gaps(plant)) else set()

    task = asyncio.create_task(collect(plant, historian, stop=stop, on_progress=told.append))
    try:
        yield kept, filled
    finally:
        stop.set()
        await asyncio.wait_for(task, 30)


@asynccontextmanager
async def peer(rig: Rig, folder: Path) -> AsyncIterator[tuple[Kept, Kept]]:
    """asyncua's client with its own reconnect, as its documentation shows it."""
    heard: set[datetime] = set()

    class Handler:
        """What asyncua calls with every change."""

        def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
            heard.add(data.monitored_item.Value.SourceTimestamp)

    client = Client(f"opc.tcp://127.0.0.1:{rig.network.port}/", auto_reconnect=True)
    await client.connect()
    index = await client.get_namespace_index(NAMESPACE)
    subscription = await client.create_subscription(100, Handler())
    nodes = [client.get_node(ua.NodeId(COUNTER, index))]
    await subscription.subscribe_data_change(nodes, queuesize=1_000)
    try:
        yield lambda: set(heard), lambda: set(heard)
    finally:
        try:
            await asyncio.wait_for(client.disconnect(), 3)
        except (OSError, TimeoutError, ua.UaError):
            client.disconnect_socket()


async def endure(
    fault: Fault, stack: Stack, collector: str, folder: Path, window: Window
) -> Outcome:
    """One fault, one collector, one server."""
    servers = Servers(stack, folder)
    serving = await servers.start((fault,))
    server = serving[fault.name]
    how = ours if collector == OURS else peer
    try:
        async with FaultyNetwork(server.port) as network:
            rig = Rig(server, network)
            async with how(rig, folder) as (kept, settled):
                await _until(lambda: len(settled()) > 5)
                await window.begin()
                first = server.counting.newest()

                async def newest() -> datetime | None:
                    return max(await asyncio.to_thread(kept), default=None)

                recover_s = await recover(rig, fault, newest, WATCHED_S)
                plant_ms = 1e3 * fault.speed * await window.end()
                count = int(plant_ms // fault.period_ms)
                wanted = {server.counting.time_of(first + k) for k in range(1, count + 1)}
                await _until(lambda: wanted <= settled(), FILLED_WITHIN_S if recover_s else 0.0)
                lost = len(wanted - kept())
    finally:
        servers.kill()
    return Outcome(fault.name, collector, len(wanted), lost, recover_s)


async def _until(condition: Callable[[], bool], within_s: float = FILLED_WITHIN_S) -> None:
    give_up_s = time.monotonic() + within_s
    while time.monotonic() < give_up_s and not await asyncio.to_thread(condition):
        await asyncio.sleep(0.1)


async def both(fault: Fault, stack: Stack) -> list[Outcome]:
    """What the fault cost ours and the peer, side by side."""
    outcomes = []
    with tempfile.TemporaryDirectory() as told:
        folders = [Path(told) / name for name in ("ours", "peer")]
        for folder in folders:
            folder.mkdir()
        pairs, window = zip((OURS, PEER), folders, strict=True), Window()
        outcomes = await asyncio.gather(
            *(endure(fault, stack, who, at, window) for who, at in pairs)
        )
    return list(outcomes)


def run(names: tuple[str, ...]) -> dict[str, Any]:
    """The figures and rows of these faults."""
    quiet_library_log()
    stack = stacks_here()[-1]
    outcomes: list[Outcome] = []
    with Bar(console=Console(stderr=True)) as bar:
        for fault in bar.track([each for each in FAULTS if each.name in names]):
            outcomes += asyncio.run(both(fault, stack))
    return {
        "benchmark": "faults",
        "figures": _figures(outcomes),
        "rows": [{"server": stack, **each.__dict__} for each in outcomes],
    }


def _figures(outcomes: list[Outcome]) -> dict[str, float]:
    mine = [each for each in outcomes if each.collector == OURS]
    others = [each for each in outcomes if each.collector == PEER]
    back = [each.recover_s for each in others if each.recover_s is not None]
    return {
        "faults": len(mine),
        "lost_with_history": sum(each.lost for each in mine),
        "recover_s_max": max(
            each.recover_s if each.recover_s is not None else WATCHED_S for each in mine
        ),
        "recover_s_target": TARGET_RECOVER_S,
        "never_back": sum(each.recover_s is None for each in mine),
        "peer_lost": sum(each.lost for each in others),
        "peer_recover_s_max_of_those_back": max(back, default=WATCHED_S),
        "peer_never_back": sum(each.recover_s is None for each in others),
        "watched_s": WATCHED_S,
    }


def main() -> None:
    """Run, and print the figures."""
    every = tuple(each.name for each in FAULTS)
    run_and_tell(__doc__, lambda is_quick: run(QUICK if is_quick else every), row_line=_row_line)


def _row_line(row: Mapping[str, Any]) -> str:
    recover_s = "never" if row["recover_s"] is None else f"{row['recover_s']:.2f} s"
    return (
        f"{row['fault']:<32} {row['collector']:<28} "
        f"{row['lost']:>5} of {row['emitted']:>4} lost, back after {recover_s}"
    )


if __name__ == "__main__":
    main()
