"""The options that commands share, what they are checked against and what they open."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer
from pydantic import ValidationError

from dashboard.cli.door import tell
from dashboard.given import name_fault, text_fault
from dashboard.settings import Settings
from twin.clock import PLANT_YEARS, WALL_TIME, wall_now
from twin.errors import UsageError
from twin.plant import Plant

if TYPE_CHECKING:
    from twin.historian import Historian


PlantArgument = Annotated[
    str, typer.Argument(help="Path of a plant.yaml, or a shipped plant's name.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite the file if there is one.")]
DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database", help="SQLAlchemy URL, of SQLite or PostgreSQL; default: a SQLite file."
    ),
]


def _text(param: typer.CallbackParam, given: str | None) -> str | None:
    """A free text as typed, without blanks around it; refused if it cannot be kept or shown."""
    return _checked(param, given, text_fault)


def person(param: typer.CallbackParam, given: str | None) -> str | None:
    """The name of a person; the computer's own is refused too."""
    return _checked(param, given, name_fault)


def _checked(
    param: typer.CallbackParam, given: str | None, fault_of: Callable[[str], str]
) -> str | None:
    if not given and not param.required:
        return given
    fault = fault_of(given or "")
    if fault:
        name = param.opts[0] if param.opts[0].startswith("-") else param.opts[0].upper()
        raise UsageError(f"{name} {fault}")
    return given.strip() if given else given


ProposalArgument = Annotated[str, typer.Argument(callback=_text, help="The proposal's id.")]
MvArgument = Annotated[str, typer.Argument(callback=_text, help="The MV, by its tag name.")]
OptionalMvArgument = Annotated[
    str | None, typer.Argument(callback=_text, help="The MV; none shows all.")
]
ByOption = Annotated[
    str, typer.Option("--by", callback=person, help="Who decides this; kept in the audit.")
]
ReasonOption = Annotated[
    str, typer.Option("--reason", callback=_text, help="Why; kept in the audit.")
]

FromOption = Annotated[
    str, typer.Option("--from", metavar="TIME", help="As 2026-01-31T12:00, in the plant's zone.")
]
ToOption = Annotated[
    str, typer.Option("--to", metavar="TIME", help="As 2026-01-31T12:00, in the plant's zone.")
]


def moment_of(plant: Plant, given: str, option: str) -> datetime:
    """The moment that a person typed; without an offset it is one of the plant's zone.

    Raises UsageError where it is none, or not of a plant's years: nothing could be read back that
    was stored of it.
    """
    try:
        moment = datetime.fromisoformat(given)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=ZoneInfo(plant.time_zone))
        moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{option} {given}: is no time. Write it as 2026-01-31T12:00 or 2026-01-31T12:00+01:00."
        ) from None
    first, end = PLANT_YEARS
    if not first <= moment.year < end:
        raise UsageError(f"{option} {given}: give a time of the years {first} to {end - 1}.")
    return moment


def check_output(file: Path, force: bool) -> None:
    """Refuse a file that could not be written, or is there, before the long work for it."""
    if file.is_dir():
        raise UsageError(f"{file} is a folder. Give the name of a file.")
    if not file.parent.is_dir():
        raise UsageError(f"{file}: there is no folder {file.parent}. Make it or name another.")
    if file.exists() and not force:
        raise UsageError(f"{file} exists already. Choose another name, or add --force.")
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise UsageError(f"{file}: nothing can be written to {file.parent}. Name another.")


def tags_of(plant: Plant, given: str) -> tuple[str, ...]:
    """The tags that a person typed, parted by commas, none where nothing was typed.

    Raises UnknownTag, and UsageError where no tag is between the commas.
    """
    names = [name.strip() for name in given.split(",") if name.strip()]
    if given and not names:  # none would mean all
        raise UsageError(f"--tags {given!r} names no tag. Name some, or leave it out.")
    return tuple(plant.tag(name).name for name in names)


def settings_of(database: str | None = None) -> Settings:
    """The settings, checked, with their state folder in place."""
    try:
        settings = Settings() if database is None else Settings(database=database)
    except ValidationError as wrong:
        faults = [
            f"PLANTWRIGHT_{str(each['loc'][0]).upper()}: {each['input']!r} is not usable: "
            f"{_as_clause(each['msg'])}. Correct or unset it."
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


def _as_clause(message: str) -> str:
    """A sentence of pydantic's as the end of one of ours."""
    text = message.removeprefix("Value error, ")
    return text[0].lower() + text[1:]


def above_zero(**options: float | None) -> None:
    """Refuse an option that is not a number above zero."""
    for name, value in options.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UsageError(f"--{name.replace('_', '-')} {value:g}: give a number above 0.")


def opened(name: str, database: str | None) -> tuple[Plant, Settings, Historian]:
    """The plant, the settings, and its historian at this version's schema."""
    from twin.historian import Historian

    settings = settings_of(database)
    plant = settings.plant(name)
    return plant, settings, Historian.open(settings.database_url(plant))


def until_told(
    name: str, database: str | None, as_json: bool, work: Callable[[Plant, Settings], None]
) -> None:
    """A command that does `work` until it is told to end, and says then that it has ended."""
    settings = settings_of(database)
    plant = settings.plant(name)
    work(plant, settings)
    tell(as_json, {"plant": plant.plant, "ended": True}, "Ended.")


def plant_now(plant: Plant, historian: Historian) -> datetime:
    """Plant time, as the collecting process last told it."""
    now, _ = _plant_time(plant, historian)
    return now


def dated(plant: Plant, historian: Historian, message: str) -> tuple[str, datetime]:
    """What is told in the audit, and its plant time; it says so where that is the wall's."""
    now, is_known = _plant_time(plant, historian)
    return (message if is_known else f"{message} {WALL_TIME}"), now


def _plant_time(plant: Plant, historian: Historian) -> tuple[datetime, bool]:
    from dashboard.beats import is_time_known, plant_moment

    told = (plant, historian.processes(plant), historian.newest(plant), wall_now())
    now, _ = plant_moment(*told)
    return now, is_time_known(*told)
