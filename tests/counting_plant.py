"""A plant that counts, served by two OPC UA stacks: what it emitted is known without asking it.

A tool of the tests. Sample k of every tag is dated `began` + k × period and is a function of k
alone, whoever serves it and however often that was killed: this module's own process (asyncua) or
node_opcua/server.js. Both keep the whole history, unless told not to, and write down beside the
network which samples they emitted, so that no test has to ask our own database what was to come.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import psutil
from asyncua import Server, ua
from made_certificates import SERVER_URI, server_pair

from connectors.opcua import quiet_library_log
from twin.plant import OpcUaSource, Plant, Role, Security, Tag
from twin.records import BAD, UNCERTAIN

NAMESPACE = "urn:plantwright:test:counting"
SPEED_NODE = "plc.speed"
COUNTER = "count"
TAGS = (COUNTER, "steady", "odd", "quality")
UNDATED = "undated"  # has a server time only, which node-opcua cannot do
_TESTS = Path(__file__).parent
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HISTORY_VALUES = 5_000
OPEN = Security(policy="None")

Stack = Literal["asyncua", "node-opcua"]


@dataclass(frozen=True)
class Counting:
    """What is counted and how fast; times in ms since 1970, of plant and wall."""

    began_ms: int
    wall_ms: int
    period_ms: int = 100
    speed: float = 1.0
    tags: tuple[str, ...] = TAGS
    most_per_call: int = 1_000
    keeps_history: bool = True
    more_variables: int = 0  # that never change; of node-opcua alone
    is_secured: bool = False  # lets in whoever encrypts, beside those who do not

    @classmethod
    def now(cls, lived_s: float = 5.0, **changes: Any) -> Counting:
        """A plant in the present that has counted for `lived_s` wall seconds."""
        wall_ms = round(1000 * (time.time() - lived_s))
        return cls(began_ms=wall_ms, wall_ms=wall_ms, **changes)

    def time_of(self, k: int) -> datetime:
        """When sample k was measured."""
        return _EPOCH + timedelta(milliseconds=self.began_ms + k * self.period_ms)

    def newest(self) -> int:
        """The newest sample by now."""
        plant_ms = self.speed * (1000 * time.time() - self.wall_ms)
        return math.floor(plant_ms / self.period_ms)

    def value(self, tag: str, k: int) -> tuple[object, int]:
        """What sample k of a tag holds, and its status."""
        if tag == "odd" and k % 7 in (3, 4, 5):
            return {3: math.nan, 4: math.inf, 5: "off"}[k % 7], 0
        statuses = {4: ua.StatusCodes.BadSensorFailure, 7: ua.StatusCodes.UncertainLastUsableValue}
        status = statuses.get(k % 10, 0) if tag == "quality" else 0
        return 5.0 if tag == "steady" else float(k), int(status)

    def stored(self, tag: str, k: int) -> tuple[float | None, int]:
        """Value and quality of the reading that sample k must become."""
        value, status = self.value(tag, k)
        if not isinstance(value, float) or not math.isfinite(value):
            return None, BAD
        return value, UNCERTAIN if tag == UNDATED else status

    def plant(self, port: int, *, more: tuple[str, ...] = (), security: Security = OPEN) -> Plant:
        """The plant file's content, with its server at `port`; `more` tags may be wrong."""
        own_time, period_s = self.speed != 1.0, self.period_ms / 1000
        return Plant(
            plant="counting",
            title="Counting",
            sample_s=self.period_ms / 1000,
            tags=tuple(
                Tag(name=name, role=Role.AUX, unit="", node=name, max_age_s=20 * period_s)
                for name in (*self.tags, *more)
            ),
            opcua=OpcUaSource(
                endpoint=f"opc.tcp://127.0.0.1:{port}/",
                namespace=NAMESPACE,
                security=security,
                publishing_interval_ms=100,
                history_days=0.02 * self.speed,
                speed_node=SPEED_NODE if own_time else None,
            ),
        )


def stacks_here() -> tuple[Stack, ...]:
    """The servers that this machine has: node-opcua, another people's, may not be installed."""
    has_node = shutil.which("node") and (_TESTS / "node_opcua" / "node_modules").is_dir()
    return ("asyncua", "node-opcua") if has_node else ("asyncua",)


class CountingServer:
    """A server's process, on this machine's `port`."""

    def __init__(self, counting: Counting, stack: Stack, port: int, folder: Path) -> None:
        self.counting = counting
        self.stack = stack
        self.port = port
        self._pki, self._ledger = folder / f"pki{port}", folder / f"emitted{port}"
        self._process: subprocess.Popen[str] | None = None

    def emitted(self) -> list[int]:
        """Every sample that its processes say they have emitted until now, or remember, in order.

        In each line stand the first and the last of some; the last line may be half written.
        """
        whole = self._ledger.read_text().rpartition("\n")[0]
        told = (line.split() for line in whole.splitlines())
        stretches = [range(int(first), int(last) + 1) for first, last in told]
        return sorted({k for each in stretches for k in each})

    async def start(self, namespaces: tuple[str, ...] = (NAMESPACE,)) -> None:
        """Start it and wait until it listens."""
        wanted = {
            **self.counting.__dict__,
            "port": self.port,
            "namespace": NAMESPACE,
            "namespaces": namespaces,
            "speed_node": SPEED_NODE,
            "folder": str(self._pki),
            "ledger": str(self._ledger),
        }
        if self.counting.is_secured and not self._pki.exists():
            server_pair().kept(self._pki, "server")  # the same after every restart
        servers = {
            "asyncua": [sys.executable, str(_TESTS / "counting_plant.py")],
            "node-opcua": ["node", str(_TESTS / "node_opcua" / "server.js")],
        }
        self._process = subprocess.Popen(
            [*servers[self.stack], json.dumps(wanted)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(_TESTS.parent)},
        )
        await self._told("ready")

    def connections(self) -> int:
        """How many clients are connected, as the kernel knows."""
        assert self._process is not None
        open_now = psutil.Process(self._process.pid).net_connections("tcp")
        return sum(each.status == psutil.CONN_ESTABLISHED for each in open_now)

    async def freeze(self) -> None:
        """Emit nothing from now on, while everything else goes on."""
        await self._ask("freeze")

    async def thaw(self) -> None:
        """Emit again; what was not measured meanwhile is not in the history either."""
        await self._ask("thaw")

    async def set_clock(self, hours: int) -> None:
        """Date what is emitted from now on so far ahead of the true time; 0 mends it.

        The history has nothing of what was dated wrongly.
        """
        await self._ask(f"clock {hours}")

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """SIGSTOP: every connection stands, nobody answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def _ask(self, word: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        await self._told(word)

    async def _told(self, word: str) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while (line := await asyncio.to_thread(self._process.stdout.readline)) != f"{word}\n":
            assert line, f"{self.stack} on port {self.port} ended before it was {word}"


# -- the asyncua server's own process ------------------------------------------------------------


class _Emission:
    """Which samples were emitted: all up to `shown` but those of frozen stretches."""

    def __init__(self, counting: Counting, ledger: str) -> None:
        self.counting = counting
        self.shown = max(0, counting.newest() - 1)
        self._ledger = open(ledger, "ab", buffering=0)  # noqa: SIM115  for as long as we live
        self.write_down(1)
        self.frozen: list[tuple[int, float]] = []
        self.misdated: set[int] = set()
        self.ahead = timedelta(0)

    def write_down(self, first: int) -> None:
        """Samples from this one to the one shown are emitted; what was written survives kill -9."""
        self._ledger.write(f"{first} {self.shown}\n".encode())

    def holds(self, k: int) -> bool:
        return not any(first <= k <= last for first, last in self.frozen)

    def hear(self, word: str) -> None:
        if word == "freeze":
            self.frozen.append((self.shown + 1, math.inf))
        elif word == "thaw":
            self.frozen[-1] = (self.frozen[-1][0], self.counting.newest())
        elif word.startswith("clock"):
            self.ahead = timedelta(hours=int(word.split()[1]))

    def shown_value(self, tag: str) -> Any:
        """The present value, as its clock dates it."""
        if self.ahead:
            self.misdated.add(self.shown)
        return self.data_value(tag, self.shown, self.ahead)

    def data_value(self, tag: str, k: int, ahead: timedelta = timedelta(0)) -> Any:
        value, status = self.counting.value(tag, k)
        at = self.counting.time_of(k) + ahead
        source = None if tag == UNDATED else at
        return ua.DataValue(
            ua.Variant(value), ua.StatusCode(status), SourceTimestamp=source, ServerTimestamp=at
        )


class _Past:
    """asyncua's history storage over what was emitted."""

    def __init__(self, emission: _Emission, tags: dict[Any, str]) -> None:
        self._emission = emission
        self._tags = tags

    async def init(self) -> None: ...

    async def stop(self) -> None: ...

    async def read_node_history(
        self, node_id: Any, start: datetime, end: datetime, count: int
    ) -> tuple[list[Any], datetime | None]:
        began, period = self._emission.counting.time_of(0), self._emission.counting.period_ms
        first = max(1, math.ceil((start - began) / timedelta(milliseconds=period)))
        last = min(self._emission.shown, (end - began) // timedelta(milliseconds=period))
        found = [k for k in range(first, last + 1) if self._emission.holds(k)]
        found = [k for k in found if k not in self._emission.misdated]
        most = min(count or _HISTORY_VALUES, _HISTORY_VALUES)
        tag = self._tags[node_id]
        rest = self._emission.counting.time_of(found[most]) if len(found) > most else None
        return [self._emission.data_value(tag, k) for k in found[:most]], rest


async def _serve(wanted: dict[str, Any]) -> None:
    quiet_library_log()
    fields = Counting.__dataclass_fields__
    counting = Counting(**{name: wanted[name] for name in fields})
    emission = _Emission(counting, wanted["ledger"])
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{wanted['port']}/")
    policies = [ua.SecurityPolicyType.NoSecurity]
    if counting.is_secured:
        await server.set_application_uri(SERVER_URI)
        await server.load_certificate(str(Path(wanted["folder"]) / "server.der"))
        await server.load_private_key(str(Path(wanted["folder"]) / "server.pem"))
        policies.append(ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt)
    server.set_security_policy(policies)
    for uri in wanted["namespaces"]:
        await server.register_namespace(uri)
    index = await server.get_namespace_index(wanted["namespace"])
    ids = {tag: ua.NodeId(tag, index) for tag in counting.tags}
    for tag, node_id in ids.items():
        await server.nodes.objects.add_variable(node_id, f"{index}:{tag}", 0.0)
    speed_id = ua.NodeId(wanted["speed_node"], index)
    await server.nodes.objects.add_variable(speed_id, f"{index}:speed", counting.speed)
    if counting.keeps_history:
        past = _Past(emission, {node_id: tag for tag, node_id in ids.items()})
        server.iserver.history_manager.set_storage(past)

    async def show() -> None:
        # As a driver would: asyncua's own way refuses what a node did not declare.
        for tag, node_id in ids.items():
            attribute = server.iserver.aspace[node_id].attributes[ua.AttributeIds.Value]
            attribute.value = emission.shown_value(tag)
            for handle, callback in attribute.datachange_callbacks.items():
                await callback(handle, attribute.value)

    await show()
    loop = asyncio.get_running_loop()
    heard = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(heard), sys.stdin)
    async with server:
        emitting = asyncio.create_task(_emit(emission, show))
        print("ready", flush=True)
        while line := (await heard.readline()).decode().strip():
            emission.hear(line)
            print(line, flush=True)
        emitting.cancel()  # whoever started us is gone


async def _emit(emission: _Emission, show: Any) -> None:
    counting = emission.counting
    while True:
        while emission.shown < counting.newest():
            emission.shown += 1
            if emission.holds(emission.shown):
                emission.write_down(emission.shown)
                await show()
        await asyncio.sleep(counting.period_ms / counting.speed / 4000)


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(sys.argv[1])))
