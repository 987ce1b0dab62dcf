"""The `plantwright` command: every command's door, none of its work.

A command reads its options, calls one function of another room and tells what came of it: text
for people, or one JSON object on stdout with `--json` (progress and logs go to stderr). Heavy
packages are imported inside the command that needs them. Exit code 0: done; 1: refused or failed,
with the reason; 2: called wrongly.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn
from urllib.parse import urlparse

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from dashboard.settings import Settings
from twin.clock import wall_now
from twin.errors import FileFault, NodeFault, PlantFileError, PlantwrightError, UsageError
from twin.plant import Plant, Role, read_plant
from twin.records import Stage

if TYPE_CHECKING:
    from twin.historian import Historian

app = typer.Typer(
    name="plantwright",
    help="A world model of a plant that proposes safe setpoints.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
db_app = typer.Typer(help="The database: bring it to this version's schema, see what it holds.")
app.add_typer(db_app, name="db")

console = Console(stderr=True)

_SHORTEST_COMPARISON_H = 2.0

PlantArgument = Annotated[
    str, typer.Argument(help="Path of a plant.yaml, or a shipped plant's name.")
]
ProposalArgument = Annotated[str, typer.Argument(help="The proposal's id.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
DatabaseOption = Annotated[
    str | None, typer.Option("--database", help="SQLAlchemy URL; default: a SQLite file.")
]
ByOption = Annotated[str, typer.Option("--by", help="Who decides this; kept in the audit.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; kept in the audit.")]


def main() -> None:
    """Run the command line; a person's mistake ends in one clear message, never a traceback."""
    try:
        sys.exit(app(standalone_mode=False))
    except PlantwrightError as fault:
        _end(str(fault), fault.exit_code, type(fault).__name__, _faults(fault))
    except typer.TyperException as wrong:
        text = wrong.format_message()
        if len(sys.argv) > 1:  # without a word we were asked for the help, which `text` is
            text = f"{text.rstrip('.')}. See `plantwright --help`."
        _end(text, wrong.exit_code, UsageError.__name__)
    except OSError as fault:
        name = f"{fault.filename}: " if fault.filename else ""
        text = f"{name}{fault.strerror or fault}. Check the path and who may use it."
        _end(text, 1, type(fault).__name__)


def _end(text: str, exit_code: int, error: str, faults: Sequence[Mapping[str, Any]] = ()) -> None:
    if "--json" in sys.argv:
        record: dict[str, Any] = {"error": error, "message": text}
        if faults:
            record["faults"] = list(faults)
        print(json.dumps(record))
    print(text, file=sys.stderr)
    sys.exit(exit_code)


def _faults(fault: PlantwrightError) -> list[dict[str, Any]]:
    """What is wrong with one thing, fault by fault."""
    if not isinstance(fault, PlantFileError | FileFault | NodeFault):
        return []
    return [{"file": fault.subject, **asdict(each)} for each in fault.faults]


def tell(as_json: bool, record: Mapping[str, Any], text: str | Table) -> None:
    """Print what came of a command: `record` as JSON, or `text` for people."""
    if as_json:
        print(json.dumps(record, default=_plain, allow_nan=False))
    elif isinstance(text, Table):
        Console().print(text)
    else:
        print(text)


def refuse(as_json: bool, record: Mapping[str, Any], reason: str) -> NoReturn:
    """Say why a command was refused, and end it with exit code 1."""
    if as_json:
        tell(True, record, "")
    print(reason, file=sys.stderr)
    raise typer.Exit(1)


def _ended(as_json: bool, plant: Plant) -> None:
    """What a command says that runs until it is told to stop."""
    tell(as_json, {"plant": plant.plant, "ended": True}, "Ended.")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    return str(value)


def _settings(database: str | None = None) -> Settings:
    """The settings, checked, with their state folder in place."""
    try:
        settings = Settings() if database is None else Settings(database=database)
    except ValidationError as wrong:
        faults = [
            f"PLANTWRIGHT_{str(each['loc'][0]).upper()}: {each['input']!r} is not usable: "
            f"{each['msg'].lower()}. Correct or unset it."
            for each in wrong.errors(include_url=False)
        ]
        raise UsageError("\n".join(faults)) from None
    try:
        settings.state_dir.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise UsageError(
            f"{settings.state_dir}: the state folder cannot be made ({fault.strerror}). "
            "Set PLANTWRIGHT_STATE_DIR to a folder that may be written."
        ) from fault
    return settings


def _above_zero(**options: float | None) -> None:
    """Refuse an option that is not a number above zero."""
    for name, value in options.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UsageError(f"--{name.replace('_', '-')} {value:g}: give a number above 0.")


def _named(what: str, value: str) -> str:
    """A text for the audit; refuses an empty one."""
    if not value.strip():
        raise UsageError(f"--{what} {value!r} says nothing, and the audit keeps it. Fill it in.")
    return value.strip()


def _open(name: str, database: str | None) -> tuple[Plant, Settings, Historian]:
    """The plant, the settings, and its historian at this version's schema."""
    from twin.historian import Historian

    settings = _settings(database)
    plant = settings.plant(name)
    return plant, settings, Historian.open(settings.database_url(plant))


def _plant_now(plant: Plant, historian: Historian) -> datetime:
    """Plant time, as the collecting process last told it."""
    from dashboard.beats import plant_moment

    now, _ = plant_moment(plant, historian.processes(plant), historian.newest(plant), wall_now())
    return now


# -- the plant file ------------------------------------------------------------------------------


@app.command()
def check(plant: PlantArgument, as_json: JsonOption = False) -> None:
    """Read a plant file and report every fault with file, line and remedy."""
    from twin.physics import load_physics

    found = read_plant(plant)
    load_physics(found)
    roles = {
        role: sum(tag.role == role for tag in found.tags) for role in ("MV", "CV", "DV", "AUX")
    }
    counts = ", ".join(f"{count} {role}" for role, count in roles.items() if count)
    tell(
        as_json,
        {"plant": found.plant, "path": found.path, "tags": roles, "faults": []},
        f"{found.plant}: no faults. {len(found.tags)} tags: {counts}.",
    )


@app.command()
def schema(
    as_json: Annotated[bool, typer.Option("--json", help="It is JSON in any case.")] = False,
) -> None:
    """Print the JSON Schema of plant files, for editors."""
    from twin.plant import json_schema

    print(json.dumps(json_schema(), indent=2))


# -- the plant's fence ---------------------------------------------------------------------------


@app.command()
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
            help="Carry on with the plant that went live at this time (with its UTC offset).",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve an emulated plant over OPC UA on this machine, without security, two days old."""
    from dashboard.workers import run_emulator

    _above_zero(speed=speed, hours=hours)
    settings = _settings()
    found = settings.plant(plant)
    if port is not None and found.opcua is not None:
        url = urlparse(found.opcua.endpoint)
        endpoint = f"{url.scheme}://{url.hostname}:{port}{url.path}"
        found = settings.model_copy(update={"endpoint": endpoint}).plant(plant)
    run_emulator(found, speed=speed, seed=seed, hours=hours, since=since)
    _ended(as_json, found)


@app.command()
def collect(
    plant: PlantArgument,
    database: DatabaseOption = None,
    wait_s: Annotated[
        float | None,
        typer.Option(help="Give up if the plant has not answered so long; default: never."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Stream the plant's readings into the database until stopped."""
    from dashboard.workers import run_collector

    _above_zero(wait_s=wait_s)
    settings = _settings(database)
    found = settings.plant(plant)
    run_collector(found, settings, wait_s=wait_s)
    _ended(as_json, found)


@app.command(name="import")
def import_(
    plant: PlantArgument,
    file: Annotated[Path, typer.Argument(help="Table, read as the plant file maps it.")],
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read a recorded table into the database; doing it twice changes nothing."""
    from connectors.files import import_file
    from twin.historian import Historian

    settings = _settings(database)
    found = settings.plant(plant)
    with (
        Progress(console=console) as bar,
        Historian.create(settings.database_url(found)) as historian,
    ):
        task = bar.add_task(f"Reading {file.name}", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        report = import_file(found, historian, file, progress)
    tell(as_json, asdict(report), report.text())


@app.command()
def write(
    plant: PlantArgument, database: DatabaseOption = None, as_json: JsonOption = False
) -> None:
    """Write accepted proposals to the plant, each behind the gate, until stopped."""
    from dashboard.workers import run_writer_process

    settings = _settings(database)
    found = settings.plant(plant)
    run_writer_process(found, settings)
    _ended(as_json, found)


# -- planning and deciding -----------------------------------------------------------------------


@app.command()
def propose(
    plant: PlantArgument,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
    repeat: Annotated[bool, typer.Option(help="Once per plant step, until stopped.")] = False,
) -> None:
    """Plan once from what the database knows, and store the proposal."""
    from dashboard.workers import plan_once, run_planner

    if repeat:
        settings = _settings(database)
        found = settings.plant(plant)
        run_planner(found, settings)
        _ended(as_json, found)
        return
    found, settings, historian = _open(plant, database)
    with historian:
        if historian.newest(found) is None:
            text = f"No reading of {found.plant} is stored yet. Run `plantwright collect {plant}`."
            refuse(as_json, {"proposal": None, "reason": text}, text)
        new = plan_once(found, settings, historian)
    if new is None:
        text = "No proposal: one is waiting, or every setpoint is best where it stands."
        tell(as_json, {"proposal": None, "reason": text}, text)
        return
    moves = {mv: {"from": new.current.get(mv), "to": to} for mv, to in new.setpoints.items()}
    record = {
        "proposal": new.proposal_id,
        "status": new.status.value,
        "setpoints": moves,
        "benefit_per_h": new.benefit_per_h,
        "reason": new.reason,
        "refused_because": list(new.verdict.reasons),
    }
    lines = [f"{new.proposal_id} ({new.status}): {new.reason}"]
    lines += [f"  {mv}: {move['from']} → {move['to']}" for mv, move in moves.items()]
    lines += [f"  The gate refuses: {reason}" for reason in new.verdict.reasons]
    tell(as_json, record, "\n".join(lines))
    if new.verdict.reasons:
        raise typer.Exit(1)


@app.command()
def accept(
    plant: PlantArgument,
    proposal: ProposalArgument,
    by: ByOption,
    reason: ReasonOption = "",
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Accept an open proposal; the writer then asks the gate again and writes it."""
    _decide(plant, proposal, True, by, reason, database, as_json)


@app.command()
def reject(
    plant: PlantArgument,
    proposal: ProposalArgument,
    by: ByOption,
    reason: ReasonOption,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Reject an open proposal and say why."""
    _decide(plant, proposal, False, by, reason, database, as_json)


def _decide(
    name: str,
    proposal_id: str,
    is_accepted: bool,
    by: str,
    reason: str,
    database: str | None,
    as_json: bool,
) -> None:
    from dashboard.facts import read_facts
    from dashboard.view.advice import standing
    from twin.records import Decision

    if _named("by", by).casefold() == Stage.CLOSED_LOOP.value:
        raise UsageError(f"--by {by!r} is not a person's name. Give the name of who decides.")
    if not is_accepted:
        _named("reason", reason)
    plant, _, historian = _open(name, database)
    with historian:
        found = historian.proposal(proposal_id)
        if found is None:
            raise UsageError(f"{proposal_id}: no such proposal. See `plantwright status {name}`.")
        facts = read_facts(historian, plant, wall_now())
        stands = standing(found, facts.now, facts.wall_now)
        refusal = None if stands.is_open else stands.reason
        if refusal is None:
            taken = Decision(proposal_id, is_accepted, by, reason, facts.now)
            decided = historian.decide(taken)
            refusal = None if decided.is_taken else decided.reason
    verb = "accepted" if is_accepted else "rejected"
    record = {"proposal": proposal_id, "done": refusal is None, "reason": refusal or ""}
    if refusal is not None:
        refuse(as_json, record, f"{proposal_id} was not {verb}. {refusal}")
    tell(as_json, record, f"{proposal_id} is {verb}.")


@app.command()
def stage(
    plant: PlantArgument,
    mv: Annotated[str | None, typer.Argument(help="The MV; none shows all.")] = None,
    to: Annotated[Stage | None, typer.Argument(help="The stage to set.")] = None,
    by: Annotated[str, typer.Option("--by", help="Who decides this.")] = "",
    reason: ReasonOption = "",
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how far each MV is trusted to the computer, or decide it."""
    found, _, historian = _open(plant, database)
    with historian:
        refusal = None
        if mv is not None and found.tag(mv).role is not Role.MV:
            raise UsageError(f"{mv} is not an MV; only MVs have a stage.")
        if mv is not None and to is not None:
            now = _plant_now(found, historian)
            refusal = historian.set_stage(found, mv, to, by, reason, now)
        stages = {name: at.value for name, at in historian.stage(found).items()}
    record = {"stages": stages, "refused": refusal}
    if refusal is not None:
        refuse(as_json, record, f"{refusal} Give --by and --reason." if not by else refusal)
    shown = [f"{name}: {at}" for name, at in stages.items() if mv in (None, name)]
    tell(as_json, record, "\n".join(shown))


@app.command()
def stop(
    plant: PlantArgument,
    by: ByOption = "a person at this machine",
    reason: ReasonOption = "",
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set the stop latch: nothing is written to the plant while it is set."""
    from dashboard.stopping import set_stop

    stopped = set_stop(plant, _settings(database), by, reason)
    text = f"Stopped. Latch: {stopped.latch}"
    if stopped.trouble:
        print(f"The audit could not be told: {stopped.trouble}", file=sys.stderr)
    tell(as_json, {"stopped": True, **asdict(stopped)}, text)


@app.command()
def release(
    plant: PlantArgument,
    by: ByOption,
    reason: ReasonOption,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Release the stop latch; who and why goes into the audit."""
    from connectors.stop import StopLatch

    by, reason = _named("by", by), _named("reason", reason)
    found, settings, historian = _open(plant, database)
    with historian:
        # The note comes first: a release that cannot be noted does not happen.
        now = _plant_now(found, historian)
        historian.event(found, "stop", found.plant, f"released: {reason}", now, by)
        was_set = StopLatch(settings.stop_latch(found)).release()
    text = "Released." if was_set else "The stop latch was not set."
    tell(as_json, {"stopped": False, "was_set": was_set}, text)


@app.command()
def status(
    plant: PlantArgument, database: DatabaseOption = None, as_json: JsonOption = False
) -> None:
    """All processes, ages, gaps, the model in use and what is proposed."""
    from dashboard.status import status_of, status_text

    found, settings, historian = _open(plant, database)
    with historian:
        record = status_of(found, settings, historian, wall_now())
    tell(as_json, record, status_text(record))


# -- everything together -------------------------------------------------------------------------


@app.command()
def run(
    plant: PlantArgument,
    database: DatabaseOption = None,
    with_dashboard: Annotated[
        bool, typer.Option("--dashboard/--no-dashboard", help="Serve the web page too.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Collect, train, plan, write and show, restarting what dies, until stopped."""
    from dashboard.demo import run_plant

    settings = _settings(database)
    found = settings.plant(plant)
    run_plant(plant, settings, with_dashboard=with_dashboard)
    _ended(as_json, found)


@app.command()
def dashboard(
    plant: PlantArgument,
    database: DatabaseOption = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port on this machine.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve the web page alone, on this machine only."""
    from dashboard.demo import run_page

    settings = _settings(database)
    found = settings.plant(plant)
    run_page(plant, settings, port)
    _ended(as_json, found)


@app.command()
def demo(
    plant: Annotated[str, typer.Argument(help="A shipped plant's name.")] = "four_tank",
    headless: Annotated[bool, typer.Option(help="No web page; ends with the comparison.")] = False,
    speed: Annotated[float, typer.Option(help="Plant seconds per wall second.")] = 20.0,
    seed: Annotated[int, typer.Option(help="Which emulated plant.")] = 1,
    seeds: Annotated[int, typer.Option(help="Headless: how many held-back seeds.")] = 20,
    hours: Annotated[float, typer.Option(help="Headless: plant hours per seed.")] = 12.0,
    wire_hours: Annotated[
        float, typer.Option(help="Headless: plant hours over the wire, at 60×.")
    ] = 1.0,
    fresh: Annotated[bool, typer.Option(help="Forget what an earlier demo stored.")] = True,
    as_json: JsonOption = False,
) -> None:
    """An emulated plant, steered: OPC UA, database, training, proposals, web page."""
    _above_zero(speed=speed, hours=hours, wire_hours=wire_hours)
    settings = _settings()
    if headless:
        from dashboard.headless import headless_demo

        if hours < _SHORTEST_COMPARISON_H:
            raise UsageError(
                f"--hours {hours:g}: forecasts are judged over an hour; give 2 or more."
            )

        report = headless_demo(
            plant, settings, seeds=seeds, hours=hours, wire_hours=wire_hours, console=console
        )
        tell(as_json, report, json.dumps(report, indent=2, default=_plain))
    else:
        from dashboard.demo import run_demo

        found = settings.plant(plant)
        run_demo(plant, settings, speed=speed, seed=seed, fresh=fresh)
        _ended(as_json, found)


# -- what if ---------------------------------------------------------------------------------------


@app.command()
def study(
    plant: PlantArgument,
    file: Annotated[Path, typer.Argument(help="The study file.")],
    plot: Annotated[Path | None, typer.Option(help="Write a picture (PNG) here.")] = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare what-if scenarios on the same random numbers, with intervals."""
    from optimizer.study import run_study
    from optimizer.study_file import read_study
    from optimizer.study_start import present_of
    from twin.historian import Historian
    from twin.physics import load_physics

    if plot is not None and not plot.parent.is_dir():
        raise UsageError(f"--plot {plot}: there is no folder {plot.parent}. Make it or name one.")
    settings = _settings(database)
    found = settings.plant(plant)
    physics = load_physics(found)
    if physics is None:
        raise UsageError(f"{found.plant}: the plant file names no physics to study. Name one.")
    asked = read_study(file, found, physics)
    present = None
    if asked.start is None:
        with Historian.open(settings.database_url(found)) as historian:
            now = _plant_now(found, historian)
            present = present_of(found, physics, historian, now)
    with Progress(console=console) as bar:
        task = bar.add_task(asked.study, total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        result = run_study(found, physics, asked, present=present, progress=progress)
    if plot is not None:
        from optimizer.study_plot import plot as draw

        draw(result, plot)
    tell(as_json, result.to_dict(), result.table())


@app.command()
def train(
    plant: PlantArgument,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
    repeat: Annotated[bool, typer.Option(help="Again every plant day, until stopped.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the training.")] = 0,
) -> None:
    """Fit the line-up of models to the plant's history; the best one is put to use."""
    from dashboard.workers import run_trainer, train_once

    if repeat:
        settings = _settings(database)
        found = settings.plant(plant)
        run_trainer(found, settings)
        _ended(as_json, found)
        return
    found, settings, historian = _open(plant, database)
    with historian, Progress(console=console) as bar:
        task = bar.add_task(f"Training on the history of {found.plant}", total=1.0)
        card = train_once(
            found,
            settings,
            historian,
            seed=seed,
            progress=lambda done: bar.update(task, completed=done),
        )
    table = Table("model", "score", *(f"{h} s" for h in next(iter(card.line_up.values()))))
    for name, errors in card.line_up.items():
        means = [f"{sum(by_cv.values()) / len(by_cv):.3f}" for by_cv in errors.values()]
        table.add_row(name, f"{card.scores[name]:.3f}", *means)
    table.caption = card.reason
    tell(as_json, json.loads(card.to_json()), table)


# -- the database ----------------------------------------------------------------------------------


@db_app.command("upgrade")
def db_upgrade(
    plant: PlantArgument, database: DatabaseOption = None, as_json: JsonOption = False
) -> None:
    """Create the database or bring it to this version's schema."""
    from twin.historian import upgrade

    settings = _settings(database)
    url = settings.database_url(settings.plant(plant))
    revision = upgrade(url)
    tell(as_json, {"database": url, "revision": revision}, f"{url} is at revision {revision}.")


@db_app.command("status")
def db_status(
    plant: PlantArgument, database: DatabaseOption = None, as_json: JsonOption = False
) -> None:
    """How much is stored, of which time, at which schema."""
    _, _, historian = _open(plant, database)
    with historian:
        facts = asdict(historian.facts())
    tell(as_json, facts, "\n".join(f"{name}: {value}" for name, value in facts.items()))


if __name__ == "__main__":
    main()
