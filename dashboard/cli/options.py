"""The options that commands share, what they are checked against and what they open."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from dashboard.cli.door import tell
from dashboard.settings import Settings
from twin.clock import wall_now
from twin.errors import UsageError
from twin.plant import Plant

if TYPE_CHECKING:
    from twin.historian import Historian


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


#: Characters that the audit takes of a name or a reason; the pages' fields hold no more either.
LONGEST_TEXT = 200


def named(what: str, value: str) -> str:
    """A text for the audit; refuses one that is empty, too long to show, or no text."""
    if not value.strip():
        raise UsageError(f"--{what} {value!r} says nothing, and the audit keeps it. Fill it in.")
    if len(value) > LONGEST_TEXT:
        raise UsageError(f"--{what}: {len(value)} characters; the audit takes {LONGEST_TEXT}.")
    if not value.isprintable():
        raise UsageError(f"--{what} {value!r} holds signs that no screen can show. Use plain text.")
    return value.strip()


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
    from dashboard.beats import plant_moment

    now, _ = plant_moment(plant, historian.processes(plant), historian.newest(plant), wall_now())
    return now
