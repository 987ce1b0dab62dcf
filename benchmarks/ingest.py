"""How much of what a server sends is stored, and what that costs, beside a client that stores none.

One asyncua server sends a thousand counters as fast as it can; in turns a bare asyncua client that
throws every value away and our collector (with spool and SQLite database) subscribe to it with the
same parameters. A second server sends 15,000 values a second, and the CPU time of the collector's
process, database and all, is measured.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from asyncua import Client, Server, ua
from rich.console import Console
from rich.progress import Progress
from telling import run_and_tell

from connectors.ingest import collect
from connectors.opcua import quiet_library_log
from connectors.opcua.requests import monitor_request, subscription_request
from twin.historian import Historian
from twin.plant import OpcUaSource, Plant, Role, Security, Tag

NAMESPACE = "urn:plantwright:benchmark:ingest"
TAGS = 1_000
PUBLISHING_MS = 250.0
RATE_PER_S = 15_000


@dataclass(frozen=True)
class Budget:
    """`pairs` turns of both clients, each `seconds` long."""

    pairs: int
    seconds: float


FULL = Budget(pairs=3, seconds=20.0)
QUICK = Budget(pairs=1, seconds=6.0)

#: Values per second (0: as fast as it can) until told to end.
Work = Callable[..., None]


def plant_at(port: int) -> Plant:
    """A plant file's content of a thousand tags."""
    return Plant(
        plant="benchmark",
        title="Benchmark",
        tags=tuple(
            Tag(name=f"tag{k}", role=Role.AUX, unit="", node=f"tag{k}") for k in range(TAGS)
        ),
        sample_s=1.0,
        opcua=OpcUaSource(
            endpoint=f"opc.tcp://127.0.0.1:{port}/",
            namespace=NAMESPACE,
            security=Security(policy="None"),
            publishing_interval_ms=PUBLISHING_MS,
            history_days=0.001,
        ),
    )


# -- the server's process ------------------------------------------------------------------------


def serve(pipe: Connection, rate_per_s: float) -> None:
    """Serve on a free port, which is told, until the pipe says anything."""
    quiet_library_log()
    asyncio.run(_serve(pipe, rate_per_s))


async def _serve(pipe: Connection, rate_per_s: float) -> None:
    port = _free_port()
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    index = await server.register_namespace(NAMESPACE)
    ids = [ua.NodeId(f"tag{k}", index) for k in range(TAGS)]
    for node_id in ids:
        await server.nodes.objects.add_variable(node_id, str(node_id.Identifier), 0.0)
    async with server:
        pipe.send(port)
        began_s, written = time.monotonic(), 0
        while not pipe.poll():
            at = datetime.now(UTC)
            for node_id in ids:
                written += 1
                value = ua.DataValue(ua.Variant(float(written)), SourceTimestamp=at)
                await server.write_attribute_value(node_id, value)
                if written % 100 == 0:
                    await asyncio.sleep(0)
            if rate_per_s:
                ahead_s = written / rate_per_s - (time.monotonic() - began_s)
                await asyncio.sleep(max(0.0, ahead_s))


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


# -- both clients --------------------------------------------------------------------------------


def throw_away(pipe: Connection, port: int, seconds: float) -> None:
    """The bare client: how many values it is sent per second, and CPU cores it takes."""
    quiet_library_log()
    asyncio.run(_throw_away(pipe, port, seconds))


async def _throw_away(pipe: Connection, port: int, seconds: float) -> None:
    count = 0

    def take(result: Any) -> None:
        nonlocal count
        for notification in result.NotificationMessage.NotificationData or ():
            count += len(notification.MonitoredItems or ())

    client = Client(f"opc.tcp://127.0.0.1:{port}/", 10, watchdog_intervall=10)
    async with client:
        index = await client.get_namespace_index(NAMESPACE)
        created = await client.uaclient.create_subscription(
            subscription_request(PUBLISHING_MS), take
        )
        wanted = [(k + 1, ua.NodeId(f"tag{k}", index), PUBLISHING_MS) for k in range(TAGS)]
        await client.uaclient.create_monitored_items(
            monitor_request(created.SubscriptionId, wanted)
        )
        await asyncio.sleep(1.0)  # the present values, and the server's first hurry
        began_s, cpu_s, before = time.monotonic(), _cpu_s(), count
        await asyncio.sleep(seconds)
        elapsed_s = time.monotonic() - began_s
        pipe.send(((count - before) / elapsed_s, (_cpu_s() - cpu_s) / elapsed_s))


def store(pipe: Connection, port: int, seconds: float, folder: str) -> None:
    """The collector: how many values it stores per second, and CPU cores with its database."""
    quiet_library_log()
    asyncio.run(_store(pipe, port, seconds, Path(folder)))


async def _store(pipe: Connection, port: int, seconds: float, folder: Path) -> None:
    plant, stop = plant_at(port), asyncio.Event()
    stored = [0]

    with Historian.create(folder / "benchmark.db") as historian:
        job = asyncio.create_task(
            collect(
                plant,
                historian,
                stop=stop,
                on_progress=lambda now: stored.__setitem__(0, now.stored),
            )
        )
        while stored[0] < 3 * TAGS and not job.done():
            await asyncio.sleep(0.1)
        began_s, cpu_s, before = time.monotonic(), _cpu_s(), stored[0]
        await asyncio.sleep(seconds)
        elapsed_s, cores = time.monotonic() - began_s, _cpu_s() - cpu_s
        pipe.send(((stored[0] - before) / elapsed_s, cores / elapsed_s))
        stop.set()
        await job


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# -- the measuring process -----------------------------------------------------------------------


def served(rate_per_s: float, work: Callable[[int], dict[str, float]]) -> dict[str, float]:
    """What `work` measures at a server of its own."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(theirs, rate_per_s), daemon=True)
    server.start()
    try:
        return work(int(ours.recv()))
    finally:
        ours.send("end")
        server.join(10)
        server.kill()


def measured(work: Work, *given: object) -> tuple[float, float]:
    """Values per second and CPU cores of one client in a process of its own."""
    ours, theirs = multiprocessing.Pipe()
    client = multiprocessing.Process(target=work, args=(theirs, *given), daemon=True)
    client.start()
    try:
        rate, cores = ours.recv()
    finally:
        client.join(30)
        client.kill()
    return rate, cores


def pair(port: int, seconds: float) -> dict[str, float]:
    """Both clients, one after the other."""
    bare_per_s, bare_cores = measured(throw_away, port, seconds)
    folder = tempfile.mkdtemp(prefix="plantwright-ingest-")
    try:
        stored_per_s, cores = measured(store, port, seconds, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "bare_per_s": bare_per_s,
        "bare_cores": bare_cores,
        "stored_per_s": stored_per_s,
        "collector_cores": cores,
    }


def run(budget: Budget) -> dict[str, Any]:
    """All figures, and a row per pair."""
    rows: list[dict[str, Any]] = []
    with Progress(console=Console(stderr=True)) as progress:
        for _ in progress.track(range(budget.pairs), description="pairs"):
            rows.append({"server": "limit", **served(0, lambda port: pair(port, budget.seconds))})
            rows.append(
                {"server": "15k/s", **served(RATE_PER_S, lambda port: pair(port, budget.seconds))}
            )
    return {"benchmark": "ingest", "figures": _figures(rows), "rows": rows}


def _figures(rows: list[dict[str, Any]]) -> dict[str, float]:
    limit = [row for row in rows if row["server"] == "limit"]
    paced = [row for row in rows if row["server"] != "limit"]
    stored, bare = (
        statistics.fmean(row[n] for row in limit) for n in ("stored_per_s", "bare_per_s")
    )
    # Where the server could not keep its pace, the cores are of what it sent.
    cores = [row["collector_cores"] * RATE_PER_S / max(row["stored_per_s"], 1.0) for row in paced]
    return {
        "stored_over_bare_client": stored / bare,
        "collector_cores_at_15k": statistics.median(cores),
        "stored_per_s_at_limit": stored,
        "bare_per_s_at_limit": bare,
        "stored_per_s_paced": statistics.fmean(row["stored_per_s"] for row in paced),
        "collector_cores_paced": statistics.fmean(row["collector_cores"] for row in paced),
        "bare_cores_paced": statistics.fmean(row["bare_cores"] for row in paced),
    }


def main() -> None:
    """Run, and print the figures."""
    run_and_tell(__doc__, lambda is_quick: run(QUICK if is_quick else FULL))


if __name__ == "__main__":
    main()
