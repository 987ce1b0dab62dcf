"""Faults between a counting server and whoever collects from it, each held for its stated time.

A tool of the tests and of `benchmarks/faults.py`: what breaks, for how long, and how long it takes
until a new value is stored. Who collects is not known here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from counting_plant import NAMESPACE, TAGS, UNDATED, Counting, CountingServer, Stack
from faulty_network import FaultyNetwork
from one_tank import free_port

#: The newest source time that a collector has stored, None before the first.
Newest = Callable[[], Awaitable[datetime | None]]

_LOOK_S = 0.05
_OTHER_ORDER = ("urn:somebody:else", "urn:between", NAMESPACE)


@dataclass
class Rig:
    """A server, and the network in front of it."""

    server: CountingServer
    network: FaultyNetwork


async def reset(rig: Rig) -> None:
    rig.network.cut()


async def away(rig: Rig) -> None:
    rig.network.refuse()
    rig.network.cut()
    await asyncio.sleep(5)
    await rig.network.accept()


async def black_hole(rig: Rig) -> None:
    rig.network.swallow()
    await asyncio.sleep(10)
    rig.network.heal()


async def slow(rig: Rig) -> None:
    rig.network.delay_s, rig.network.bytes_per_s = 0.3, 20_000.0
    await asyncio.sleep(5)
    rig.network.delay_s, rig.network.bytes_per_s = 0.0, 0.0


async def stopped(rig: Rig) -> None:
    rig.server.stop()
    await asyncio.sleep(10)
    rig.server.go_on()


async def killed(rig: Rig) -> None:
    rig.server.kill()
    await rig.server.start()


async def reordered(rig: Rig) -> None:
    rig.server.kill()
    await rig.server.start(_OTHER_ORDER)


async def frozen(rig: Rig) -> None:
    await rig.server.freeze()
    await asyncio.sleep(8)
    await rig.server.thaw()


@dataclass(frozen=True)
class Fault:
    """What happens, and to which server: one serves all faults of the network."""

    name: str
    happen: Callable[[Rig], Awaitable[None]]
    server: str = "any"
    speed: float = 1.0
    period_ms: int = 100
    is_encrypted: bool = False


FAULTS = (
    Fault("TCP reset", reset),
    Fault("network away 5 s", away),
    Fault("network away 10 min at 120x", away, "fast", speed=120, period_ms=12_000),
    Fault("black hole 10 s", black_hole),
    Fault("slow line 5 s", slow),
    Fault("server stopped 10 s", stopped, "stopped"),
    Fault("kill -9 and restart", killed, "killed"),
    Fault("back, namespaces reordered", reordered, "reordered"),
)
SOURCE_FROZEN = Fault("source frozen 8 s", frozen, "frozen")
#: Over a link that is encrypted and signed, with the same certificates before and after.
ENCRYPTED = (
    Fault("TCP reset, encrypted", reset, is_encrypted=True),
    Fault("black hole 10 s, encrypted", black_hole, is_encrypted=True),
    Fault("kill -9, restart, encrypted", killed, "killed", is_encrypted=True),
)


def at_once(faults: Sequence[Fault]) -> list[Fault]:
    """The faults, where each that befalls a server happens once, to all its lines at once."""
    shared: dict[str, list[Fault]] = {}
    for fault in faults:
        shared.setdefault(fault.server, []).append(fault)
    together = {
        name: _together(befalls[0].happen, len(befalls))
        for name, befalls in shared.items()
        if name != Fault.server and len(befalls) > 1
    }
    return [
        replace(each, happen=together[each.server]) if each.server in together else each
        for each in faults
    ]


def _together(happen: Callable[[Rig], Awaitable[None]], count: int) -> Callable[[Rig], Any]:
    all_ready, all_over = asyncio.Barrier(count), asyncio.Barrier(count)

    async def once(rig: Rig) -> None:
        if await all_ready.wait() == 0:
            await happen(rig)
        await all_over.wait()

    return once


async def recover(rig: Rig, fault: Fault, newest: Newest, within_s: float) -> float | None:
    """Let it happen; seconds from its end to the first newer value stored, None if none came."""
    await fault.happen(rig)
    ended_s, ended_at = time.monotonic(), rig.server.counting.time_of(rig.server.counting.newest())
    while time.monotonic() < ended_s + within_s:
        at = await newest()
        if at is not None and at > ended_at:
            return time.monotonic() - ended_s
        await asyncio.sleep(_LOOK_S)
    return None


class Servers:
    """The servers that a matrix needs: one for all faults of the network, one for each other."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        self._named: dict[str, CountingServer] = {}

    async def start(self, faults: Sequence[Fault]) -> dict[str, CountingServer]:
        """A running server per fault's name; those that start begin at once."""
        encrypting = {each.server for each in faults if each.is_encrypted}
        tags = TAGS if self._stack == "node-opcua" else (*TAGS, UNDATED)
        for fault in faults:
            if fault.server not in self._named:
                counting = Counting.now(
                    speed=fault.speed,
                    period_ms=fault.period_ms,
                    tags=tags,
                    is_secured=fault.server in encrypting,
                )
                server = CountingServer(counting, self._stack, free_port(), self._folder)
                self._named[fault.server] = server
        await asyncio.gather(*(server.start() for server in self._named.values()))
        return {fault.name: self._named[fault.server] for fault in faults}

    def kill(self) -> None:
        """End them all."""
        for server in self._named.values():
            server.kill()
