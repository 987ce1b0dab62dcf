"""`import`, `export`: recorded readings in and out as files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import Progress

from dashboard.cli.door import console, tell
from dashboard.cli.options import (
    DatabaseOption,
    ForceOption,
    JsonOption,
    PlantArgument,
    above_zero,
    check_output,
    moment_of,
    opened,
    settings_of,
    tags_of,
)
from dashboard.given import legible
from twin.errors import UsageError

if TYPE_CHECKING:
    from connectors.tables_out import Asked, Writer
    from twin.historian import Historian
    from twin.plant import Plant

_PARQUET = ".parquet"
_SHORTEST_STEP_S = 0.001  # no plant is read faster
_LONGEST_STEP_S = 366 * 86_400  # of even rows: a year


def import_(
    plant: PlantArgument,
    file: Annotated[
        Path, typer.Argument(help="Parquet as exported, or a table as the plant file maps it.")
    ],
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read recorded readings into the database.

    Doing it twice changes nothing. What is read in is annotated as to keep.
    """
    from connectors.files import import_file
    from dashboard.workers.upkeep import roll_up
    from twin.clock import wall_now
    from twin.historian import Historian

    read = import_file
    if file.suffix == _PARQUET:
        _need_pyarrow()
        from connectors.parquet import import_parquet

        read = import_parquet
    settings = settings_of(database)
    found = settings.plant(plant)
    with (
        _bar(f"Reading {legible(file.name)}") as progress,
        Historian.create(settings.database_url(found)) as historian,
    ):
        report = read(found, historian, file, now=wall_now(), progress=progress)
        roll_up(found, historian)
    tell(as_json, asdict(report), report.text())


def export(
    plant: PlantArgument,
    file: Annotated[Path, typer.Argument(help="NAME.parquet or NAME.csv.")],
    since: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Default: the oldest reading.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Default: the newest reading.")
    ] = None,
    tags: Annotated[str, typer.Option(help="Only these, parted by commas; default: all.")] = "",
    wide: Annotated[
        float | None, typer.Option(metavar="STEP_S", help="Even rows so many seconds apart.")
    ] = None,
    force: ForceOption = False,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write stored readings to a file.

    Every reading as it is stored, or with --wide one column a tag: empty where nothing good is
    known, in gaps, and in what somebody annotated as bad data.
    """
    from connectors.tables_out import Asked, all_tags, export
    from dashboard.workers.ending import sigterm_like_ctrl_c

    above_zero(wide=wide)
    if wide is not None and wide > _LONGEST_STEP_S:
        raise UsageError(f"--wide {wide:g}: give at most {_LONGEST_STEP_S} s, a year.")
    if wide is not None and wide < _SHORTEST_STEP_S:
        raise UsageError(f"--wide {wide:g}: give at least {_SHORTEST_STEP_S} s.")
    open_writer = _writer_of(file)
    check_output(file, force)
    found, _, historian = opened(plant, database)
    with historian, _bar(f"Writing {legible(file.name)}") as progress:
        names = all_tags(found, historian, tags_of(found, tags))
        if not names:
            raise UsageError(f"{found.plant}: nothing is stored yet. Collect or import first.")
        start, end = _period(found, historian, since, until)
        if wide is not None:  # a step of the epoch's grid, so that two files fit together
            start = _next_on_grid(start, end, wide)
        asked = Asked(names, start, end, wide)
        with sigterm_like_ctrl_c():
            report = export(found, historian, file, asked, open_writer, progress)
    tell(as_json, asdict(report), report.text())


def _writer_of(file: Path) -> Callable[[Path, Plant, Asked], Writer]:
    if file.suffix == ".csv":
        from connectors.tables_out import CsvWriter

        return CsvWriter
    if file.suffix != _PARQUET:
        raise UsageError(f"{file}: give it a name that ends in .parquet or .csv.")
    _need_pyarrow()
    from connectors.parquet import ParquetWriter

    return ParquetWriter


def _need_pyarrow() -> None:
    try:
        import_module("pyarrow")
    except ImportError:
        raise UsageError(
            "Parquet needs the package pyarrow, which is not installed here. "
            "Install it (pip install pyarrow), or use .csv."
        ) from None


def _period(
    plant: Plant, historian: Historian, since: str | None, until: str | None
) -> tuple[datetime, datetime]:
    """What was asked for, by default from the oldest reading to the newest."""
    oldest, newest = historian.span(plant)
    start = moment_of(plant, since, "--from") if since else oldest
    end = moment_of(plant, until, "--to") if until else newest
    if start is None or end is None or end < start:
        raise UsageError(
            f"The period from {start} to {end} ends before it begins. Give --from and --to; "
            "without them it is from the oldest reading to the newest."
        )
    return start, end


def _next_on_grid(start: datetime, end: datetime, step_s: float) -> datetime:
    """The first step of the epoch's grid in the period."""
    from twin.clock import on_grid

    at = on_grid(start, step_s)
    if at < start and step_s <= (end - at).total_seconds():
        at += timedelta(seconds=step_s)
    if at < start:
        raise UsageError(
            f"--wide {step_s:g}: no step is between {start} and {end}. Give a smaller one."
        )
    return at


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that is told how much is done, and of how much."""
    with Progress(console=console) as bar:
        task = bar.add_task(escape(what), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
