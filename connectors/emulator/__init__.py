"""A plant to connect to when you have none: an OPC UA server around a plant's truth.

Serves every tag of the plant file with source times in plant time, HistoryRead of its past, and
the few nodes a PLC lets a computer write. Nothing of it knows the twin.

It keeps nothing on disk, so its restart is a PLC's cold start: every loop stands in AUTO, the stop
node is clear, REMOTE needs a new heartbeat. What was written before is forgotten, and the past is
simulated anew as if AUTO had run all along: the plant may stand elsewhere than before the restart,
but AUTO carries on from there without a bump.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from connectors.emulator.secured import Secured
from connectors.emulator.server import (
    READINGS_EMITTED,
    READINGS_EMITTED_LIVE,
    SECURITY_WARNING,
    Emulator,
    source_of,
)
from connectors.emulator.truth import Truth, TruthFactory, load_truth
from twin.clock import on_grid
from twin.plant import Plant

__all__ = [
    "READINGS_EMITTED",
    "READINGS_EMITTED_LIVE",
    "SECURITY_WARNING",
    "Emulator",
    "Live",
    "Secured",
    "Truth",
    "TruthFactory",
    "load_truth",
    "serve",
]


@dataclass(frozen=True)
class Live:
    """Facts of an emulator that has just gone live."""

    endpoint: str
    plant_time: datetime
    speed: float
    past_readings: int


async def serve(
    plant: Plant,
    *,
    seed: int,
    start: datetime,
    speed: float = 1.0,
    endpoint: str | None = None,
    began: datetime | None = None,
    until: datetime | None = None,
    lives_on: bool = False,
    truth_factory: TruthFactory | None = None,
    secured: Secured | None = None,
    on_ready: Callable[[Live], None] | None = None,
) -> None:
    """Simulate the past, go live at the plant time `start` and serve until cancelled.

    `endpoint` defaults to the plant file's, `began` (where the truth begins) to the plant file's
    `history_days` before `start`. A restart that shall carry on with the same plant passes the
    same seed and `began` and a later `start`; what was written before is not remembered. With
    `lives_on` the plant is at `start` when this is called, and what it lives through while its
    past is simulated follows at once. After the plant time `until` nothing changes any more; the
    server goes on answering. With `secured` its endpoints are encrypted and it must know its
    clients; without, it has no security at all.

    Raises:
        EndpointUnavailable: the port is taken, or the address is not on this machine.
        UsageError: the plant file has no `opcua` part, or the plant no truth.
    """
    called_s = time.monotonic()
    source = source_of(plant)
    live_from = on_grid(start, plant.sample_s)
    past = timedelta(days=source.history_days)
    begin = on_grid(live_from - past if began is None else began, plant.step_s)
    factory = load_truth(plant) if truth_factory is None else truth_factory
    truth = factory(plant, seed=seed, start=begin)
    emulator = Emulator(
        plant, truth, endpoint=endpoint or source.endpoint, speed=speed, secured=secured
    )
    emulator.claim()
    await emulator.remember_until(live_from)
    async with emulator:
        if on_ready is not None:
            on_ready(Live(emulator.endpoint, truth.now, speed, emulator.emitted))
        await emulator.run(until, late_s=time.monotonic() - called_s if lives_on else 0.0)
