"""The process that plays the plant: an OPC UA server around an emulated one."""

from __future__ import annotations

from datetime import datetime, timedelta

from connectors.emulator import Live, Secured, serve
from connectors.security import COLLECT
from dashboard.settings import Settings
from dashboard.workers import EMULATOR_START
from dashboard.workers.ending import say, until_told
from twin.clock import wall_now
from twin.plant import Plant


def secured_by(settings: Settings, *, trusts_any_client: bool) -> Secured:
    """An emulated server's security: its certificates, and the user of the secrets' `emulator`."""
    operator = settings.access(COLLECT).secrets.told_password("emulator")
    return Secured(settings.emulator_pki(), operator, trusts_any_client)


def run_emulator(
    plant: Plant,
    *,
    speed: float,
    seed: int,
    hours: float | None = None,
    since: datetime | None = None,
    secured: Secured | None = None,
) -> None:
    """Serve the emulated plant until told to stop; after `hours` of plant time it stands still.

    `since` is the wall time at which this plant first went live: a later start carries on with
    the same plant, as much later as the wall clock has moved, so that no source time comes twice.
    """

    def ready(live: Live) -> None:
        if secured is not None:
            say(secured.told())
        say(f"live at {live.endpoint}, plant time {live.plant_time:%Y-%m-%d %H:%M} UTC, {speed:g}×")

    days = plant.opcua.history_days if plant.opcua is not None else 0.0
    lived_s = 0.0 if since is None else max(0.0, speed * (wall_now() - since).total_seconds())
    until_told(
        serve(
            plant,
            seed=seed,
            start=EMULATOR_START + timedelta(seconds=lived_s),
            speed=speed,
            began=EMULATOR_START - timedelta(days=days),
            until=EMULATOR_START + timedelta(hours=hours) if hours is not None else None,
            lives_on=since is not None,
            secured=secured,
            on_ready=ready,
        )
    )
