"""`plantwright demo --headless`: one plant hour over the wire, and the comparison, in one record.

The wire hour starts the same processes as a demo with a screen, with every MV decided into
closed loop against the emulator on this machine. It is the only source of `readings_*`.
"""

from __future__ import annotations

import asyncio
import math
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from rich.console import Console
from rich.progress import Progress

from connectors.emulator import READINGS_EMITTED
from connectors.opcua import Session
from dashboard.comparison import TEST_SEEDS, check_whole_steps, compare, comparison_of
from dashboard.demo import create_database, emulator_process, keep_running, plant_processes
from dashboard.settings import Settings
from dashboard.workers import EMULATOR_START
from dashboard.workers.ending import sigterm_like_ctrl_c
from twin.errors import EndpointUnavailable, UsageError
from twin.historian import Historian
from twin.plant import Plant, Role
from twin.records import ProposalStatus, Stage, WriteStatus

_WIRE_SPEED = 60.0
_WIRE_SEED = 1
_SHORTEST_COMPARISON_H = 2.0
_LONGEST_START_S = 240.0  # after start and run together, whatever was stored is what counts
_CLEARED = tuple(
    status
    for status in ProposalStatus
    if status not in (ProposalStatus.REFUSED, ProposalStatus.SHADOW)
)


def headless_demo(
    name: str,
    settings: Settings,
    *,
    seeds: int | None,
    hours: float | None,
    wire_hours: float | None,
    console: Console,
) -> dict[str, Any]:
    """Run both parts side by side; every figure of the demo by name.

    `seeds`, `hours` and `wire_hours` None: as many as this kind of plant is compared on by itself.

    Raises:
        UsageError: too many seeds, a run that is too short, too long or no whole steps of the
            plant, or a plant that cannot be emulated or compared.
        KeyboardInterrupt: SIGINT or SIGTERM came; no process is left.
    """
    if seeds is not None and not 1 <= seeds <= len(TEST_SEEDS):
        raise UsageError(f"--seeds {seeds}: there are 1 to {len(TEST_SEEDS)} held-back seeds.")
    if hours is not None and not _SHORTEST_COMPARISON_H <= hours < math.inf:
        raise UsageError(f"--hours {hours:g}: forecasts are judged over an hour; give 2 or more.")
    plant = settings.plant(name)
    if hours is not None:
        check_whole_steps(plant, hours)
    comparison = comparison_of(plant)
    seeds, hours = seeds or comparison.seeds, hours or comparison.hours
    wire_hours = wire_hours or comparison.wire_hours
    if hours > comparison.longest_h:
        raise UsageError(
            f"--hours {hours:g}: an arm keeps its minutes for {comparison.longest_h:g} h only. "
            "Give no more."
        )
    with (
        tempfile.TemporaryDirectory(prefix="plantwright-") as folder,
        Progress(console=console) as bar,
        sigterm_like_ctrl_c(),
    ):
        own = _own_settings(settings, plant, Path(folder))
        wire_hour = _WireHour(name, own, wire_hours, logs_dir=settings.logs_dir() / "headless")
        bar.console.print(f"{seeds} held-back seeds × {hours:g} plant hours. {comparison.note}")
        bar.console.print(f"{wire_hours:g} plant hours over OPC UA at {_WIRE_SPEED:g}× run beside.")
        task = bar.add_task("Comparing on held-back seeds", total=seeds)
        with _beside(wire_hour) as wire:

            def on_seed(done: int) -> None:
                bar.update(task, completed=done)
                if wire.done():
                    wire.result()  # its fault, if it has one, shall not wait for all the seeds

            jobs = min(seeds, comparison.jobs)
            results = compare(plant, TEST_SEEDS[:seeds], hours=hours, jobs=jobs, on_seed=on_seed)
            compared = comparison.figures(results)
            wired = wire.result()
    compared["writes_outside_limits"] += wired.pop("writes_outside_limits")
    for count in ("proposals", "refused"):
        compared[f"{count}_in_comparison"] = compared.pop(count)
    return {"plant": plant.plant, **wired, **compared}


@contextmanager
def _beside(wire_hour: _WireHour) -> Iterator[Future[dict[str, Any]]]:
    """The wire hour in a thread of its own; leaving ends it, whether it is over or not."""
    stop = threading.Event()
    with ThreadPoolExecutor(max_workers=1) as thread:
        try:
            yield thread.submit(wire_hour.run, stop)
        finally:
            stop.set()


def _own_settings(settings: Settings, plant: Plant, folder: Path) -> Settings:
    """Settings of a run of its own: its folder, its database, a free port."""
    if plant.opcua is None:
        raise UsageError(f"{plant.plant}: the plant file has no `opcua` part to emulate. Add one.")
    url = urlparse(plant.opcua.endpoint)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    endpoint = f"{url.scheme}://127.0.0.1:{port}{url.path}"
    return settings.model_copy(update={"state_dir": folder, "database": None, "endpoint": endpoint})


class _WireHour:
    """The processes of a demo without a page, over the wire, until the emulator stands still."""

    def __init__(self, name: str, settings: Settings, hours: float, *, logs_dir: Path) -> None:
        self._settings = settings
        self._hours = hours
        self._logs_dir = logs_dir  # apart from the folder of `settings`, which is not kept
        self._plant = plant = settings.plant(name)
        self._children = [
            emulator_process(
                name, plant, settings, speed=_WIRE_SPEED, seed=_WIRE_SEED, hours=hours
            ),
            *plant_processes(name, plant, settings),
        ]
        self._emitted = -1
        self._first_proposal_s: float | None = None

    def run(self, stop: threading.Event) -> dict[str, Any]:
        """Run it until it is over or `stop` is set; count what was emitted, stored and written."""
        plant, settings = self._plant, self._settings
        create_database(plant, settings)
        with Historian.open(settings.database_url(plant)) as historian:
            for mv in plant.with_role(Role.MV):
                reason = "headless demo against the emulator on this machine"
                refusal = historian.set_stage(
                    plant, mv.name, Stage.CLOSED_LOOP, "demo", reason, EMULATOR_START
                )
                if refusal is not None:
                    raise UsageError(refusal)
            self._began_s = time.monotonic()
            self._give_up_s = self._began_s + _LONGEST_START_S + self._hours * 3600 / _WIRE_SPEED
            keep_running(
                self._children, self._logs_dir, stop, is_over=lambda: self._is_over(historian)
            )
            return self._counts(historian)

    def _is_over(self, historian: Historian) -> bool:
        plant = self._plant
        if self._first_proposal_s is None and historian.proposals(plant, _CLEARED, limit=1):
            self._first_proposal_s = time.monotonic() - self._began_s
        newest = historian.newest(plant)
        end = EMULATOR_START + timedelta(hours=self._hours)
        if newest is not None and newest >= end:
            self._emitted = asyncio.run(self._read_emitted())
            if historian.count(plant) == self._emitted:
                return True
        return time.monotonic() > self._give_up_s

    async def _read_emitted(self) -> int:
        try:
            async with Session(self._plant) as session:
                return round(await session.read_node(READINGS_EMITTED) or -1)
        except EndpointUnavailable:
            return -1

    def _counts(self, historian: Historian) -> dict[str, Any]:
        plant = self._plant
        everything = historian.proposals(plant, limit=100_000)
        outcomes = historian.outcomes(plant, limit=100_000)
        written = [o for o in outcomes if o.status is not WriteStatus.REFUSED]
        return {
            "readings_emitted": self._emitted,
            "readings_stored": historian.count(plant),
            "seconds_to_first_proposal": self._first_proposal_s,
            "proposals": len(everything),
            "refused": sum(p.status is ProposalStatus.REFUSED for p in everything),
            "writes_verified": sum(o.status is WriteStatus.VERIFIED for o in outcomes),
            "writes_outside_limits": sum(
                not limits.holds(value)
                for outcome in written
                for mv, value in outcome.setpoints.items()
                for limits in (plant.tag(mv).engineering, plant.tag(mv).operator)
                if limits is not None
            ),
        }
