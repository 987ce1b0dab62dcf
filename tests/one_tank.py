"""The smallest plant that can be emulated, written and read back: one tank, two pumps.

A tool of the tests: a plant and its truth, simple enough to work out on paper.
"""

from __future__ import annotations

import asyncio
import math
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from asyncua import ua

from connectors.emulator import Emulator, Secured
from twin.plant import Interlock, Limits, OpcUaSource, Plant, RemoteMode, Role, Security, Tag
from twin.records import BAD, GOOD, Reading, Samples, reading

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
NAMESPACE = "urn:plantwright:test:one_tank"

PUMPS = ("pump", "drain")


def _pump_tags(pump: str) -> tuple[Tag, Tag]:
    name = f"{pump}.setpoint"
    setpoint = Tag(
        name=name,
        role=Role.MV,
        unit="cm**3/s",
        node=name,
        engineering=Limits(low=0, high=18),
        operator=Limits(low=0, high=18),
        rate_limit_per_min=6,
        move_budget_per_h=120,
        requires=("tank.level", name),
        remote=RemoteMode(tag=f"{pump}.mode"),
        write_tolerance=0.01,
        max_age_s=120,
    )
    return setpoint, Tag(name=f"{pump}.mode", role=Role.AUX, unit="", node=f"{pump}.mode")


def one_tank(port: int, *, sample_s: float = 10.0, **source: object) -> Plant:
    """A plant file's content with its server on this machine's `port`."""
    opcua = {
        "endpoint": f"opc.tcp://127.0.0.1:{port}/one_tank",
        "security": Security(policy="None"),
        "namespace": NAMESPACE,
        "heartbeat_node": "plc.heartbeat",
        "stop_node": "plc.stop",
        "speed_node": "plc.speed",
        "publishing_interval_ms": 50,
        "history_days": 0.025,
    }
    return Plant(
        plant="one_tank",
        title="One tank",
        sample_s=sample_s,
        tags=(
            *(tag for pump in PUMPS for tag in _pump_tags(pump)),
            Tag(
                name="tank.level",
                role=Role.CV,
                unit="cm",
                node="tank.level",
                engineering=Limits(low=0, high=20),
                operator=Limits(low=5, high=17),
                rank=1,
                soft_price_per_h=36,
                max_age_s=120,
            ),
            Tag(name="tank.sensor", role=Role.AUX, unit="cm", node="tank.sensor"),
        ),
        interlocks=(
            Interlock(
                name="tank nearly full",
                when="tank.level > 19",
                blocks=("pump.setpoint", "drain.setpoint"),
                message="Pumps are left to the PLC while the tank is about to overflow.",
            ),
        ),
        opcua=OpcUaSource(**{**opcua, **source}),
    )


class Tank:
    """A truth: the level rises by 0.01 cm per sample, the sensor fails in every tenth."""

    def __init__(self, plant: Plant, *, seed: int, start: datetime) -> None:
        self.plant = plant
        self.now = start
        self.setpoints = dict.fromkeys(PUMPS, 5.0 + seed)
        self.modes = dict.fromkeys(PUMPS, 0)
        self.is_stopped = False
        self.writes: list[tuple[str, float]] = []
        self.refusal: str | None = None
        self.drops_writes = self.drops_modes = False  # acknowledged, and not done
        self.is_frozen = False
        self.on_setpoint: Callable[[], None] = lambda: None

    def advance(self, to: datetime) -> list[Reading]:
        sample = timedelta(seconds=self.plant.sample_s)
        readings: list[Reading] = []
        while self.now + sample <= to:
            self.now += sample
            if not self.is_frozen:
                readings += self._row(round(self.now.timestamp() / self.plant.sample_s))
        return readings

    def advance_samples(self, to: datetime) -> dict[str, Samples]:
        past: dict[str, list[tuple[float, float]]] = {tag.name: [] for tag in self.plant.tags}
        for seen in self.advance(to):
            value = seen.value if seen.quality == GOOD and seen.value is not None else math.nan
            past[seen.tag].append((seen.source_time.timestamp(), value))
        tables = {tag: np.array(rows).reshape(-1, 2) for tag, rows in past.items()}
        return {tag: Samples(table[:, 0], table[:, 1]) for tag, table in tables.items()}

    def _row(self, row: int) -> list[Reading]:
        level = 10.0 + (row % 100) * 0.01
        values = {"tank.level": level, "tank.sensor": level}
        for pump in PUMPS:
            values[f"{pump}.setpoint"] = self.setpoints[pump]
            values[f"{pump}.mode"] = float(self.modes[pump])
        bad = {"tank.sensor"} if row % 10 == 0 else set()
        return [
            reading(name, value, BAD if name in bad else GOOD, self.now, self.now)
            for name, value in values.items()
        ]

    def write(self, name: str, value: float) -> str | None:
        self.writes.append((name, value))
        if name == "plc.heartbeat":
            return None
        if name == "plc.stop":
            self.is_stopped = bool(value)
            if self.is_stopped:
                self.modes = dict.fromkeys(PUMPS, 0)
            return None
        if self.refusal is not None:
            return self.refusal
        pump, kind = name.split(".")
        if kind == "mode":
            if not self.drops_modes:
                self.modes[pump] = int(value)
            return None
        if self.is_stopped:
            return "the stop node is set"
        if not 0 <= value <= 18:
            return f"{value} is outside 0 to 18"
        self.on_setpoint()
        if not self.drops_writes:
            self.setpoints[pump], self.modes[pump] = value, 1
        return None

    @property
    def setpoints_written(self) -> list[tuple[str, float]]:
        """Every setpoint that a client asked for, done or refused."""
        return [(name, value) for name, value in self.writes if name.endswith(".setpoint")]


def free_port() -> int:
    """A port of this machine that nothing listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@asynccontextmanager
async def live_tank(
    speed: float = 600.0,
    *,
    plant: Plant | None = None,
    truth: Tank | None = None,
    lived_until: datetime = NOON,
    ends_at: datetime | None = None,
    past: dict[str, Any] | None = None,
    secured: Secured | None = None,
    sample_s: float = 10.0,
    **source: object,
) -> AsyncIterator[Emulator]:
    """One tank on a free port, its past lived, running at `speed` until `ends_at`.

    `past` is what an emulator before this one remembered, as a plant with a good memory would.
    """
    plant = plant or one_tank(free_port(), sample_s=sample_s, **source)
    assert plant.opcua is not None
    start = NOON - timedelta(days=plant.opcua.history_days)
    truth = truth or Tank(plant, seed=0, start=start)
    emulator = Emulator(plant, truth, endpoint=plant.opcua.endpoint, speed=speed, secured=secured)
    if past is not None:
        emulator.past.update(past)
        emulator.emitted = sum(len(each.times_us) for each in past.values())
    await emulator.remember_until(lived_until)
    async with emulator:
        running = asyncio.create_task(emulator.run(ends_at))
        try:
            yield emulator
        finally:
            running.cancel()


@dataclass
class Forgotten:
    """What a server says of one node's history instead of telling it, until it `is_over`."""

    code: int = ua.StatusCodes.BadHistoryOperationUnsupported
    answers: int = 0
    is_over: bool = False


def forget(server: Any, name: str, forgotten: Forgotten | None = None) -> None:
    """Let the server keep no history of one node, as most do of most nodes."""
    service, said = server.iserver.history_manager, forgotten or Forgotten()
    inner = service.read_history

    async def read_history(params: Any) -> list[Any]:
        results: list[Any] = await inner(params)
        for wanted, result in zip(params.NodesToRead, results, strict=True):
            if wanted.NodeId.Identifier == name and not said.is_over:
                said.answers += 1
                result.StatusCode = ua.StatusCode(said.code)
                result.HistoryData = ua.HistoryData()
        return results

    service.read_history = read_history


async def until(condition: Callable[[], bool], what: str, within_s: float = 20.0) -> None:
    """Wait for a condition; fail with `what` when it does not come true in time."""
    give_up_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < give_up_s, f"waited {within_s} s in vain for: {what}"
        await asyncio.sleep(0.005)
