"""`run`, `dashboard`, `demo`, `status`, `stop`, `release`: the whole plant at once."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from dashboard.cli.door import as_text, console, refuse, say, tell
from dashboard.cli.options import (
    ByOption,
    DatabaseOption,
    JsonOption,
    PlantArgument,
    ReasonOption,
    above_zero,
    dated,
    opened,
    settings_of,
    until_told,
)
from dashboard.given import is_computers, kept
from dashboard.settings import Settings
from twin.clock import wall_now
from twin.plant import Plant

_SOMEBODY = "a person at this machine"
_PLANTS_OWN_STOP = (
    "The plant's own stop is set, so nothing is written. Clear it at the plant: Plantwright never "
    "clears a stop that it did not set."
)


def stop(
    plant: PlantArgument,
    by: Annotated[str, typer.Option(help="Who stops; kept in the audit.")] = _SOMEBODY,
    reason: Annotated[str, typer.Option(help="Why; kept in the audit.")] = "",
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop all writing to the plant.

    Sets the stop latch: nothing is written while it is set.
    """
    from dashboard.stopping import set_stop

    # The stop comes first, whatever the texts are like: the audit gets what can be kept of them.
    who = _SOMEBODY if is_computers(by) else kept(by, _SOMEBODY)
    stopped = set_stop(plant, settings_of(database), who, kept(reason))
    text = f"Stopped. Latch: {stopped.latch}"
    if stopped.trouble:
        say(f"The audit could not be told: {stopped.trouble}")
    if stopped.obeyed:
        say(
            f"CHECK: the writing process obeys another latch, {stopped.obeyed}, and may go on. "
            "Stop it with its PLANTWRIGHT_STATE_DIR, or at the plant."
        )
    elif not stopped.has_writer:
        found = f"no writing process is known in {stopped.latch.parent}"
        if stopped.has_writer is None:
            found = "whether a writing process obeys this latch could not be read"
        say(
            f"CHECK: {found}. One that runs with another PLANTWRIGHT_STATE_DIR goes on: stop it "
            "there, or at the plant."
        )
    tell(as_json, {"stopped": True, **asdict(stopped)}, text)


def release(
    plant: PlantArgument,
    by: ByOption,
    reason: ReasonOption,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Release the stop latch.

    Who and why goes into the audit. A stop that was set at the plant is cleared there.
    """
    from connectors.stop import StopLatch
    from dashboard.beats import is_stopped_at_plant

    found, settings, historian = opened(plant, database)
    with historian:
        latch = StopLatch(settings.stop_latch(found))
        if latch.is_stopped():
            # The note comes first: a release that cannot be noted does not happen.
            message, now = dated(found, historian, f"released: {reason}")
            historian.event(found, "stop", found.plant, message, now, by)
        was_set = latch.release()
        at_plant = is_stopped_at_plant(historian.processes(found), wall_now())
    text = "Released." if was_set else "The stop latch was not set."
    record: dict[str, object] = {"stopped": False, "was_set": was_set}
    if at_plant:
        record |= {"stopped_at_plant": True, "reason": _PLANTS_OWN_STOP}
        text += f" {_PLANTS_OWN_STOP}"
        if not was_set:
            refuse(as_json, record, text)
    tell(as_json, record, text)


def status(
    plant: PlantArgument, database: DatabaseOption = None, as_json: JsonOption = False
) -> None:
    """Show processes, ages, gaps, model and proposals."""
    from dashboard.status import status_of, status_text

    found, settings, historian = opened(plant, database)
    with historian:
        record = status_of(found, settings, historian, wall_now())
    tell(as_json, record, status_text(record))


def run(
    plant: PlantArgument,
    database: DatabaseOption = None,
    with_dashboard: Annotated[
        bool, typer.Option("--dashboard/--no-dashboard", help="Serve the web page too.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Run everything until stopped.

    Collects, trains, plans, writes and shows; what dies is started again.
    """
    from dashboard.demo import run_plant

    def work(found: Plant, settings: Settings) -> None:
        run_plant(plant, found, settings, with_dashboard=with_dashboard)

    until_told(plant, database, as_json, work)


def dashboard(
    plant: PlantArgument,
    database: DatabaseOption = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port on this machine.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve the web page alone.

    On this machine only.
    """
    from dashboard.demo import run_page

    def work(found: Plant, settings: Settings) -> None:
        run_page(plant, found, settings, port)

    until_told(plant, database, as_json, work)


def demo(
    plant: Annotated[str, typer.Argument(help="A shipped plant's name.")] = "furnace",
    headless: Annotated[bool, typer.Option(help="No web page; ends with the comparison.")] = False,
    speed: Annotated[float, typer.Option(help="Plant seconds per wall second.")] = 20.0,
    seed: Annotated[int, typer.Option(help="Which emulated plant.")] = 1,
    seeds: Annotated[
        int | None, typer.Option(help="Headless: how many held-back seeds (20; furnace 3).")
    ] = None,
    hours: Annotated[
        float | None, typer.Option(help="Headless: plant hours per seed (12; furnace 24).")
    ] = None,
    wire_hours: Annotated[
        float | None,
        typer.Option(help="Headless: plant hours over the wire, at 60× (1; furnace 2)."),
    ] = None,
    fresh: Annotated[bool, typer.Option(help="Forget what an earlier demo stored.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Steer an emulated plant in your browser.

    OPC UA server, database, training, proposals and web page, until stopped. With --headless:
    some hours over the wire and the comparison with the plant's own control, without a page.
    """
    above_zero(speed=speed, hours=hours, wire_hours=wire_hours)
    if headless:
        from dashboard.headless import headless_demo

        report = headless_demo(
            plant, settings_of(), seeds=seeds, hours=hours, wire_hours=wire_hours, console=console
        )
        tell(as_json, report, as_text(report))
        return
    from dashboard.demo import run_demo

    def work(_: Plant, settings: Settings) -> None:
        run_demo(plant, settings, speed=speed, seed=seed, fresh=fresh)

    until_told(plant, None, as_json, work)
