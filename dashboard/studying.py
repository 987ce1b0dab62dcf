"""`plantwright study`: a study file at its door, the plant's present, and the runs with a bar."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from dashboard.beats import plant_moment
from dashboard.settings import Settings
from optimizer.study import StudyResult, run_study
from optimizer.study_file import read_study
from optimizer.study_start import Present, present_of
from twin.clock import wall_now
from twin.errors import UsageError
from twin.historian import Historian
from twin.physics import Physics, load_physics
from twin.plant import Plant


def run_study_file(plant: Plant, settings: Settings, file: Path, console: Console) -> StudyResult:
    """Answer the question in `file`; without a start of its own it begins at the plant's present.

    Raises:
        FileFault: with every fault of the study file.
        UsageError: the plant has no physics to simulate.
        HistorianError: the present is asked for and the database cannot be used.
    """
    physics = load_physics(plant)
    if physics is None:
        raise UsageError(
            f"{plant.plant}: the plant file names no physics, and a study simulates it. Name one."
        )
    study = read_study(file, plant, physics)
    present = _present(plant, physics, settings) if study.start is None else None
    with Progress(console=console) as bar:
        task = bar.add_task(f"Runs of {study.study}", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        return run_study(plant, physics, study, present=present, progress=progress)


def _present(plant: Plant, physics: Physics, settings: Settings) -> Present | None:
    with Historian.open(settings.database_url(plant)) as historian:
        beats, newest = historian.processes(plant), historian.newest(plant)
        now, _ = plant_moment(plant, beats, newest, wall_now())
        return present_of(plant, physics, historian, now)
