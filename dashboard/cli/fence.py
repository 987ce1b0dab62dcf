"""`emulate`, `collect`, `write`: readings in and setpoints out."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Annotated
from urllib.parse import urlparse

import typer

from dashboard.cli.options import (
    DatabaseOption,
    JsonOption,
    PlantArgument,
    above_zero,
    until_told,
)
from dashboard.settings import Settings
from twin.errors import UsageError
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
    secure: Annotated[
        bool, typer.Option("--secure", help="Encrypted endpoints, for clients it knows.")
    ] = False,
    trust_any_client: Annotated[
        bool, typer.Option("--trust-any-client", help="With --secure: also those nobody accepted.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Serve an emulated plant over OPC UA.

    On this machine only; without security, or with --secure as a plant's server has it: then only
    the user of the secret file's `emulator` entry may write. The plant has the past that its
    file's `history_days` ask for when it goes live.
    """
    from dashboard.workers.emulator import run_emulator, secured_by

    above_zero(speed=speed, hours=hours)
    if trust_any_client and not secure:
        raise UsageError("--trust-any-client: only with --secure; without it all clients come in.")

    def work(found: Plant, settings: Settings) -> None:
        if port is not None and found.opcua is not None:
            url = urlparse(found.opcua.endpoint)
            endpoint = f"{url.scheme}://{url.hostname}:{port}{url.path}"
            found = replace(found, opcua=replace(found.opcua, endpoint=endpoint))
        secured = None
        if secure:
            secured = secured_by(settings, trusts_any_client=trust_any_client)
        run_emulator(found, speed=speed, seed=seed, hours=hours, since=since, secured=secured)

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


def write(
    plant: PlantArgument, database: DatabaseOption = None, as_json: JsonOption = False
) -> None:
    """Write accepted proposals until stopped.

    The gate is asked again before each, on fresh readings, and the plant is read back after.
    """
    from dashboard.workers.writer import run_writer_process

    until_told(plant, database, as_json, run_writer_process)
