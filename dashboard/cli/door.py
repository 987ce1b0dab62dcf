"""In and out of every command: one clear message for a mistake, one way to tell what came of it."""

from __future__ import annotations

import atexit
import gc
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from dashboard.given import legible_lines
from twin.errors import FileFault, NodeFault, PlantFileError, PlantwrightError, UsageError

#: Progress bars and whatever else is not the answer.
console = Console(stderr=True)

_INTERRUPTED = 130  # what shells say of a command that Ctrl-C ended


def run(app: typer.Typer) -> NoReturn:
    """Run the command line; a person's mistake ends in one clear message, never a traceback."""
    # On its way out Python looks for garbage among all objects, several times: seconds of one core
    # where the large packages are loaded, in which a process that was told to end seems to hang.
    atexit.register(gc.freeze)
    try:
        code = app(standalone_mode=False)
    except PlantwrightError as fault:
        _end(str(fault), fault.exit_code, type(fault).__name__, _faults(fault))
    except typer.TyperException as wrong:
        text = wrong.format_message().replace("Value error, ", "")
        if len(sys.argv) > 1:  # without a word we were asked for the help, which `text` is
            context = getattr(wrong, "ctx", None)
            command = context.command_path if context is not None else "plantwright"
            end = "" if text.endswith("?") else "."
            text = f"{text.rstrip('.')}{end} See `{command} --help`."
        _end(text, wrong.exit_code, UsageError.__name__)
    except OSError as fault:
        name = f"{fault.filename}: " if fault.filename else ""
        text = f"{name}{fault.strerror or fault}. Check the path and who may use it."
        _end(text, 1, type(fault).__name__)
    if code == _INTERRUPTED:
        _end("Interrupted before it was done.", _INTERRUPTED, "Interrupted")
    sys.exit(code)


def say(text: str) -> None:
    """Tell a person something that is not the answer."""
    print(legible_lines(text), file=sys.stderr)


def _end(
    text: str, exit_code: int, error: str, faults: Sequence[Mapping[str, Any]] = ()
) -> NoReturn:
    if "--json" in sys.argv:
        record: dict[str, Any] = {"error": error, "message": text}
        if faults:
            record["faults"] = list(faults)
        print(json.dumps(record))
    say(text)
    sys.exit(exit_code)


def _faults(fault: PlantwrightError) -> list[dict[str, Any]]:
    """What is wrong with one thing, fault by fault."""
    if not isinstance(fault, PlantFileError | FileFault | NodeFault):
        return []
    known = ("line", "where", "message", "remedy")
    return [
        {"file": fault.subject, **{name: getattr(each, name) for name in known}}
        for each in fault.faults
    ]


def tell(as_json: bool, record: Mapping[str, Any], text: str | Table) -> None:
    """Print what came of a command: `record` as JSON, or `text` for people."""
    if as_json:
        print(json.dumps(record, default=_plain, allow_nan=False))
    elif isinstance(text, Table):
        Console(markup=False).print(text)  # a person's [words] are words
    else:
        print(legible_lines(text))


def refuse(as_json: bool, record: Mapping[str, Any], reason: str) -> NoReturn:
    """Say why a command was refused, and end it with exit code 1."""
    if as_json:
        tell(True, record, "")
    say(reason)
    raise typer.Exit(1)


def as_text(record: Mapping[str, Any]) -> str:
    """`record` as JSON that a person can read."""
    return json.dumps(record, indent=2, default=_plain)


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
