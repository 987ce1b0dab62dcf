"""`train`, `study`: the model is fitted to the past, and asked what if."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from dashboard.settings import Settings
from twin.clock import on_grid
from twin.errors import UsageError, WrongMigration
from twin.plant import Plant

if TYPE_CHECKING:
    from optimizer.slab_study import SlabStudyResult
    from optimizer.slab_study_start import NoPresent, SlabPresent
    from optimizer.study import StudyResult


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

    All scenarios meet the same random numbers. A furnace is studied with its present setpoints held
    and with the plan steering.
    """
    if plot is not None:
        _check_picture(plot)
    settings = settings_of(database)
    found = settings.plant(plant)
    asked = _study if found.furnace is None else _slab_study
    result, draw = asked(found, settings, file)
    missing = [*result.without_number]
    if plot is not None:
        try:
            draw(plot)
        except OSError as fault:
            missing.append(f"--plot {plot} was not written: {fault.strerror or fault}.")
    tell(as_json, result.to_dict(), result.table())
    if missing:
        say("\n".join(missing))
        raise typer.Exit(1)


def _study(
    plant: Plant, settings: Settings, file: Path
) -> tuple[StudyResult, Callable[[Path], None]]:
    """A study of a plant with physics, and what draws it."""
    from optimizer.study import run_study
    from optimizer.study_file import read_study
    from optimizer.study_start import present_of
    from twin.historian import Historian
    from twin.physics import load_physics

    physics = load_physics(plant)
    if physics is None:
        raise UsageError(f"{plant.plant}: the plant file names no physics to study. Name one.")
    asked = read_study(file, plant, physics)
    present = None
    if asked.start is None:
        with Historian.open(settings.database_url(plant)) as historian:
            now = plant_now(plant, historian)
            present = present_of(plant, physics, historian, now)
    with _progress(asked.study) as progress:
        result = run_study(plant, physics, asked, present=present, progress=progress)

    def draw(path: Path) -> None:
        from optimizer.study_plot import plot

        plot(result, path)

    return result, draw


def _slab_study(
    plant: Plant, settings: Settings, file: Path
) -> tuple[SlabStudyResult, Callable[[Path], None]]:
    """A furnace's study, and what draws it."""
    from optimizer.slab_study import run_slab_study
    from optimizer.slab_study_file import read_slab_study
    from optimizer.slab_study_start import NoPresent, run_in

    asked = read_slab_study(file, plant)
    # Where a Ctrl-C ends processes, Python's tracker of what they share warns; nobody need read it.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")
    with _progress(asked.study) as progress:
        present = run_in(plant, asked.start) if asked.start else as_tracked(plant, settings)
        if isinstance(present, NoPresent):
            why = "; ".join(present.reasons)
            say(f"The study begins with a furnace run in, not as tracked: {why}.")
            present = run_in(plant, why=present.reasons)
        result = run_slab_study(plant, asked, present, progress=progress)

    def draw(path: Path) -> None:
        from optimizer.slab_study_plot import plot

        plot(result, path)

    return result, draw


def as_tracked(plant: Plant, settings: Settings) -> SlabPresent | NoPresent:
    """The furnace as live planning knows it, or why it is not known well enough.

    With the model in use and the stops on record. What is wrong with a database is told at once,
    with its remedy, and so is a model that cannot be loaded: then it is the physics alone, as live.
    """
    from dashboard.workers.history import recorded_stops
    from dashboard.workers.planner import active_version, model_or_why
    from optimizer.slab_study_start import NoPresent, tracked_present
    from twin.historian import Historian

    try:
        with Historian.open(settings.database_url(plant)) as historian:
            now = plant_now(plant, historian)
            version = active_version(historian, plant)
            model, why = model_or_why(plant, settings, version)
            if why:
                say(f"{why} The study begins with the physics alone.")
            stops = recorded_stops(historian, plant, on_grid(now, plant.step_s))
            return tracked_present(plant, historian, now, model=model, stops=stops)
    except WrongMigration as fault:
        say(str(fault))
        return NoPresent(("its database cannot be read",))


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that is told how many runs are done, and of how many."""
    with Progress(console=console) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _check_picture(path: Path) -> None:
    """Raise UsageError where no picture can go, before a study is run for nothing."""
    if path.suffix.lower() != ".png":
        raise UsageError(f"--plot {path}: the picture is a PNG. Give it a name that ends in .png.")
    if path.is_dir():
        raise UsageError(f"--plot {path}: is a folder. Name a file in it.")
    if not path.parent.is_dir():
        raise UsageError(f"--plot {path}: there is no folder {path.parent}. Make it or name one.")
