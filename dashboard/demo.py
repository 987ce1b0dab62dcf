"""`run`, `dashboard` and `demo`: which processes there are, started and watched together.

What the processes do is in `dashboard.workers`; the comparison at the end of a headless demo is
`dashboard.comparison`'s.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from dashboard.claims import claim_endpoint, claim_port, only_one
from dashboard.server import PageSettings, arguments
from dashboard.settings import Settings
from dashboard.supervisor import Child, Supervisor
from dashboard.view.kinds import is_planned
from dashboard.workers import EMULATOR_START
from dashboard.workers.ending import ending, say
from twin.clock import wall_now
from twin.errors import UsageError
from twin.plant import Plant, shipped_plants

_WATCH_S = 0.2


def command(*words: str) -> tuple[str, ...]:
    """The command line of one of our own commands."""
    return (sys.executable, "-m", "dashboard.cli", *words)


def plant_processes(name: str, plant: Plant, settings: Settings) -> list[Child]:
    """The processes that steer a plant: each can die and come back without the others.

    Only what is planned is trained for and written.
    """
    words: dict[str, tuple[str, ...]] = {"collect": ("collect", name)}
    if is_planned(plant):
        words |= {
            "train": ("train", name, "--repeat"),
            "plan": ("propose", name, "--repeat"),
            "write": ("write", name),
        }
    environment = settings.environment()
    return [Child(child, command(*said), environment) for child, said in words.items()]


def page_process(
    name: str, plant: Plant, settings: Settings, started_at: datetime | None = None
) -> Child:
    """The web page's process; `started_at` is when the plant's processes are started beside it."""
    told = PageSettings(name, settings.database_url(plant), settings.state_dir, started_at)
    return Child("dashboard", arguments(settings.dashboard_port), told.environment())


def run_plant(name: str, plant: Plant, settings: Settings, *, with_dashboard: bool) -> None:
    """Collect, train, plan, write and show until told to stop."""
    if plant.opcua is None:
        raise UsageError(f"{plant.plant}: the plant file has no `opcua` part to run from. Add one.")
    children = plant_processes(name, plant, settings)
    if not is_planned(plant):
        say(f"{plant.plant} names no physics: its readings are collected and shown, not planned on")
    lock = settings.state_dir / f"{plant.plant}.run.lock"
    with only_one(lock, f"`plantwright run` of {plant.plant}"):
        if with_dashboard:
            claim_port(settings.dashboard_port)
        create_database(plant, settings)
        if with_dashboard:
            children.append(page_process(name, plant, settings, wall_now()))
            say(f"web page: http://127.0.0.1:{settings.dashboard_port}")
        _keep_running_until_told(children, settings.logs_dir())


def run_page(name: str, plant: Plant, settings: Settings, port: int | None) -> None:
    """Serve the web page alone until told to stop."""
    chosen = settings if port is None else settings.model_copy(update={"dashboard_port": port})
    claim_port(chosen.dashboard_port)
    say(f"web page: http://127.0.0.1:{chosen.dashboard_port}")
    _keep_running_until_told([page_process(name, plant, chosen)], chosen.logs_dir())


def run_demo(name: str, settings: Settings, *, speed: float, seed: int, fresh: bool) -> None:
    """An emulated plant and everything that steers it, until told to stop."""
    folder = settings.state_dir / "demo"
    chosen = settings.model_copy(update={"state_dir": folder, "database": None})
    plant = chosen.plant(name)
    emulated = emulator_process(name, plant, chosen, speed=speed, seed=seed, since=wall_now())
    # Claimed before anything is deleted: an earlier demo may still be running.
    with only_one(settings.state_dir / "demo.lock", "A demo"):
        claim_port(chosen.dashboard_port)
        claim_endpoint(plant)
        if fresh:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        create_database(plant, chosen, EMULATOR_START)
        say("An emulated plant; its OPC UA server has no security, listens on this machine only.")
        say(f"Web page: http://127.0.0.1:{chosen.dashboard_port}   (Ctrl-C ends the demo)")
        say(f"Other commands reach this demo with PLANTWRIGHT_STATE_DIR={folder}")
        page = page_process(name, plant, chosen, wall_now())
        children = [emulated, *plant_processes(name, plant, chosen), page]
        _keep_running_until_told(children, chosen.logs_dir())


def emulator_process(
    name: str,
    plant: Plant,
    settings: Settings,
    *,
    speed: float,
    seed: int,
    hours: float | None = None,
    since: datetime | None = None,
) -> Child:
    """The emulated plant's process; with `since`, a restart carries on with the same plant."""
    if plant.opcua is None:
        raise UsageError(f"{plant.plant}: the plant file has no `opcua` part to emulate. Add one.")
    if importlib.util.find_spec(f"twin.plants.{plant.plant}") is None:
        raise UsageError(
            f"{plant.plant}: only shipped plants can be emulated: {', '.join(shipped_plants())}. "
            f"To steer your own, use `plantwright run {name}`."
        )
    words = ["emulate", name, "--speed", str(speed), "--seed", str(seed)]
    if hours is not None:
        words += ["--hours", str(hours)]
    if since is not None:
        words += ["--since", since.isoformat(timespec="seconds")]
    return Child("emulate", command(*words), settings.environment())


def create_database(plant: Plant, settings: Settings, plant_now: datetime | None = None) -> None:
    """Bring the database to this version's schema and make the plant's tags known.

    An MV whose stage nobody has decided yet starts as advisory: a decision that the audit keeps,
    at `plant_now`, or by the wall where nobody knows the plant's time yet.
    """
    from twin.historian import Historian

    with Historian.create(settings.database_url(plant)) as historian:
        historian.register(plant)
        historian.start_stages(plant, plant_now if plant_now is not None else wall_now())


def keep_running(
    children: Sequence[Child],
    logs_dir: Path,
    stop: threading.Event,
    *,
    is_over: Callable[[], bool] = lambda: False,
) -> None:
    """Keep the processes alive until `stop` is set or `is_over`; then end them all."""
    supervisor = Supervisor(children, logs_dir, on_event=say)
    try:
        while not stop.is_set() and not is_over():
            supervisor.watch()
            stop.wait(_WATCH_S)
    finally:
        supervisor.stop()


def _keep_running_until_told(children: Sequence[Child], logs_dir: Path) -> None:
    with ending() as stop:
        keep_running(children, logs_dir, stop)
