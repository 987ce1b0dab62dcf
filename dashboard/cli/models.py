"""`train`, `study`: the model is fitted to the past, and asked what if."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from dashboard.cli.door import console, say, tell
from dashboard.cli.options import (
    DatabaseOption,
    JsonOption,
    PlantArgument,
    opened,
    plant_now,
    settings_of,
    until_told,
)
from twin.errors import UsageError


def train(
    plant: PlantArgument,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
    repeat: Annotated[bool, typer.Option(help="Again every plant day, until stopped.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the training.")] = 0,
) -> None:
    """Fit the models to the plant's history.

    The best of them, judged on time held out, is put to use.
    """
    from dashboard.workers.trainer import run_trainer, train_once

    if repeat:
        until_told(plant, database, as_json, run_trainer)
        return
    found, settings, historian = opened(plant, database)
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


def study(
    plant: PlantArgument,
    file: Annotated[Path, typer.Argument(help="The study file.")],
    plot: Annotated[Path | None, typer.Option(help="Write a picture (PNG) here.")] = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask what if: compare scenarios, with intervals.

    All scenarios meet the same random numbers.
    """
    from optimizer.study import run_study
    from optimizer.study_file import read_study
    from optimizer.study_start import present_of
    from twin.historian import Historian
    from twin.physics import load_physics

    if plot is not None:
        _check_picture(plot)
    settings = settings_of(database)
    found = settings.plant(plant)
    physics = load_physics(found)
    if physics is None:
        raise UsageError(f"{found.plant}: the plant file names no physics to study. Name one.")
    asked = read_study(file, found, physics)
    present = None
    if asked.start is None:
        with Historian.open(settings.database_url(found)) as historian:
            now = plant_now(found, historian)
            present = present_of(found, physics, historian, now)
    with Progress(console=console) as bar:
        task = bar.add_task(asked.study, total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        result = run_study(found, physics, asked, present=present, progress=progress)
    missing = [*result.without_number]
    if plot is not None:
        from optimizer.study_plot import plot as draw

        try:
            draw(result, plot)
        except OSError as fault:
            missing.append(f"--plot {plot} was not written: {fault.strerror or fault}.")
    tell(as_json, result.to_dict(), result.table())
    if missing:
        say("\n".join(missing))
        raise typer.Exit(1)


def _check_picture(path: Path) -> None:
    """Raise UsageError where no picture can go, before a study is run for nothing."""
    if path.suffix.lower() != ".png":
        raise UsageError(f"--plot {path}: the picture is a PNG. Give it a name that ends in .png.")
    if path.is_dir():
        raise UsageError(f"--plot {path}: is a folder. Name a file in it.")
    if not path.parent.is_dir():
        raise UsageError(f"--plot {path}: there is no folder {path.parent}. Make it or name one.")
