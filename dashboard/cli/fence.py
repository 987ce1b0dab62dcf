"""`emulate`, `collect`, `import`, `write`: readings in and setpoints out."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated
from urllib.parse import urlparse

import typer
from rich.progress import Progress

from dashboard.cli.door import console, tell
from dashboard.cli.options import (
    DatabaseOption,
    JsonOption,
    PlantArgument,
    above_zero,
    settings_of,
    until_told,
)
from dashboard.given import legible
from dashboard.settings import Settings
from twin.plant import Plant


def emulate(
    plant: PlantArgument,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port on this machine; 0: a free one.")
    ] = None,
    speed: Annotated[float, typer.Option(help="Plant seconds per wall second.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Which emulated plant, and which days of it.")] = 1,
    hours: Annotated[
        float | None, typer.Option(help="Stop emitting after so many plant hours.")
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%dT%H:%M:%S%z"],
            metavar="TIME",
            help="Carry on with the plant that went live then, as 2026-01-31T12:00:00+00:00.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve an emulated plant over OPC UA.

    On this machine only, without security. The plant has the past that its file's
    `history_days` ask for when it goes live.
    """
    from dashboard.workers.emulator import run_emulator

    above_zero(speed=speed, hours=hours)

    def work(found: Plant, _: Settings) -> None:
        if port is not None and found.opcua is not None:
            url = urlparse(found.opcua.endpoint)
            endpoint = f"{url.scheme}://{url.hostname}:{port}{url.path}"
            found = replace(found, opcua=replace(found.opcua, endpoint=endpoint))
        run_emulator(found, speed=speed, seed=seed, hours=hours, since=since)

    until_told(plant, None, as_json, work)


def collect(
    plant: PlantArgument,
    database: DatabaseOption = None,
    wait_s: Annotated[
        float | None,
        typer.Option(help="Give up if the plant has not answered so long; default: never."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Stream readings into the database until stopped."""
    from dashboard.workers.collector import run_collector

    above_zero(wait_s=wait_s)
    until_told(plant, database, as_json, partial(run_collector, wait_s=wait_s))


def import_(
    plant: PlantArgument,
    file: Annotated[Path, typer.Argument(help="Table, read as the plant file maps it.")],
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read a recorded table into the database.

    Doing it twice changes nothing.
    """
    from connectors.files import import_file
    from twin.clock import wall_now
    from twin.historian import Historian

    settings = settings_of(database)
    found = settings.plant(plant)
    with (
        Progress(console=console) as bar,
        Historian.create(settings.database_url(found)) as historian,
    ):
        task = bar.add_task(f"Reading {legible(file.name)}", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        report = import_file(found, historian, file, now=wall_now(), progress=progress)
    tell(as_json, asdict(report), report.text())


def write(
    plant: PlantArgument, database: DatabaseOption = None, as_json: JsonOption = False
) -> None:
    """Write accepted proposals until stopped.

    The gate is asked again before each, on fresh readings, and the plant is read back after.
    """
    from dashboard.workers.writer import run_writer_process

    until_told(plant, database, as_json, run_writer_process)
