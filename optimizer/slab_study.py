"""What-if studies of a furnace: scenarios with setpoints held and with the plan steering.

Every scenario meets the same slabs, stops and errors, replication by replication, so a difference
is the scenario's doing. `run_slab_study` gives a SlabStudyResult; its table, its plot and its plain
data are views of it. Reading and checking a study file is `optimizer.slab_study_file`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from optimizer.slab_study_file import SlabScenario, SlabStudy, Steering
from optimizer.slab_study_run import MEANINGS, StudyRun, figure_units, run_once
from optimizer.slab_study_start import SlabPresent
from optimizer.study import ScenarioRuns, aligned, known, plain, shown_difference, shown_mean
from twin.plant import Plant
from twin.simulation.line import line_of
from twin.simulation.statistics import Interval, mean_interval, paired_difference

STEERED: Mapping[Steering, str] = {
    "held": "the present setpoints held",
    "plan": "Plantwright's plan in closed loop",
}

#: Planning rounds that take longer than a process needs to load what it works with: some 10 s.
_WORTH_PROCESSES = 200


@dataclass(frozen=True)
class SlabStudyResult:
    """What a study found: per who steers, the runs of every scenario, the first of them the base.

    `source` says where it begins; `units` go by figure name.
    """

    study: str
    plant: Plant
    start: datetime
    source: str
    horizon_h: float
    settle_h: float
    replications: int
    seed: int
    units: Mapping[str, str]
    arms: Mapping[Steering, tuple[ScenarioRuns, ...]]

    def mean(self, figure: str, steered_by: Steering, scenario: int = 0) -> Interval:
        """A figure's mean over the replications of one scenario."""
        return mean_interval(self.arms[steered_by][scenario].figures[figure])

    def difference(self, figure: str, steered_by: Steering, scenario: int) -> Interval:
        """How much higher a figure is than in the base, replication by replication."""
        runs = self.arms[steered_by]
        return paired_difference(runs[scenario].figures[figure], runs[0].figures[figure])

    def against_held(self, figure: str, scenario: int) -> Interval:
        """How much higher a figure is with the plan steering than with setpoints held."""
        plan, held = self.arms["plan"][scenario], self.arms["held"][scenario]
        return paired_difference(plan.figures[figure], held.figures[figure])

    @property
    def without_number(self) -> tuple[str, ...]:
        """A sentence on each figure of a scenario that some run has no number for."""
        missing = [
            (figure, runs.name, steered_by, int(np.isnan(runs.figures[figure]).sum()))
            for figure in self.units
            for steered_by, arm in self.arms.items()
            for runs in arm
        ]
        return tuple(
            f"{figure} of {name}, {STEERED[steered_by]}: no number in {count} of "
            f"{self.replications} runs, as no slab left. Study more hours."
            for figure, name, steered_by, count in missing
            if count
        )

    @property
    def passed_limits(self) -> tuple[str, ...]:
        """A sentence on each scenario in some run of which a slab's surface was too hot."""
        limit_c = line_of(self.plant)[0].spec.surface_c
        return tuple(
            f"{runs.name}, {STEERED[steered_by]}: a slab's surface came to {highest_c:.0f} °C in "
            f"the worst run; {limit_c:g} °C is the most that the spec lets it."
            for steered_by, arm in self.arms.items()
            for runs in arm
            if (highest_c := float(runs.figures["hottest surface"].max())) > limit_c
        )

    def table(self) -> str:
        """The comparison as aligned text: who steers, figure by figure; below it, meanings."""
        text = [f"{self.study}: begins at {self.start:%Y-%m-%d %H:%M} UTC, {self.source}."]
        text.append(
            f"{self.replications} replications, seed {self.seed}; counted from "
            f"{self.settle_h:g} h to {self.horizon_h:g} h."
        )
        for steered_by in self.arms:
            text += ["", f"{STEERED[steered_by].capitalize()}", aligned(self._rows(steered_by))]
        if len(self.arms) > 1:
            text += ["", "What the plan changes against setpoints held", aligned(self._gains())]
        text += ["", *(f"{name}: {MEANINGS[name]}" for name in self.units if name in MEANINGS)]
        return "\n".join([*text, *self.passed_limits])

    def _rows(self, steered_by: Steering) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = [
            ("figure", "scenario", "mean", "difference to base (95 %)", "unit")
        ]
        for figure, unit in self.units.items():
            for i, runs in enumerate(self.arms[steered_by]):
                mean = shown_mean(self.mean(figure, steered_by, i))
                change = "" if i == 0 else shown_difference(self.difference(figure, steered_by, i))
                rows.append((figure if i == 0 else "", runs.name, mean, change, unit))
        return rows

    def _gains(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = [("figure", "scenario", "", "plan less held (95 %)", "unit")]
        for figure, unit in self.units.items():
            for i, runs in enumerate(self.arms["plan"]):
                gain = shown_difference(self.against_held(figure, i))
                rows.append((figure if i == 0 else "", runs.name, "", gain, unit))
        return rows

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data for --json; numbers that are not known are None."""
        return {
            "study": self.study,
            "plant": self.plant.plant,
            "start": self.start.isoformat(),
            "source": self.source,
            "horizon_h": self.horizon_h,
            "settle_h": self.settle_h,
            "replications": self.replications,
            "seed": self.seed,
            "base": next(iter(self.arms.values()))[0].name,
            "without_number": list(self.without_number),
            "passed_limits": list(self.passed_limits),
            "steered_by": {
                steered_by: [self._told(steered_by, i) for i in range(len(arm))]
                for steered_by, arm in self.arms.items()
            },
        }

    def _told(self, steered_by: Steering, i: int) -> dict[str, Any]:
        is_gain = steered_by == "plan" and "held" in self.arms
        figures = {
            figure: {
                "unit": unit,
                "meaning": MEANINGS.get(figure, ""),
                "mean": known(self.mean(figure, steered_by, i).mean),
                "highest": known(float(self.arms[steered_by][i].figures[figure].max())),
                "difference": plain(self.difference(figure, steered_by, i)) if i else None,
                "against_held": plain(self.against_held(figure, i)) if is_gain else None,
            }
            for figure, unit in self.units.items()
        }
        return {"name": self.arms[steered_by][i].name, "figures": figures}


def run_slab_study(
    plant: Plant,
    study: SlabStudy,
    present: SlabPresent,
    *,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SlabStudyResult:
    """Run every scenario of `study` on common random numbers, `jobs` runs at a time.

    Without `jobs`, one on every core where planning takes longer than it takes to start them.
    `progress` is told how many runs are done, and of how many.
    """
    # Planning takes fifty times as long as holding: in turns, so that progress is even.
    tasks = [
        (steered_by, scenario, replication)
        for replication in range(study.replications)
        for steered_by in study.steered_by
        for scenario in study.scenarios
    ]
    cores = os.cpu_count() or 1
    at_once = jobs or (cores if study.rounds(plant) > _WORTH_PROCESSES else 1)
    coming = Parallel(n_jobs=at_once, return_as="generator")(
        delayed(run_once)(plant, study, scenario, steered_by, present, replication)
        for steered_by, scenario, replication in tasks
    )
    found: list[StudyRun] = []
    for run in coming:
        found.append(run)
        if progress is not None:
            progress(len(found), len(tasks))
    grouped = {
        (steered_by, scenario.name): [
            run
            for run, (by, of, _) in zip(found, tasks, strict=True)
            if by == steered_by and of is scenario
        ]
        for steered_by in study.steered_by
        for scenario in study.scenarios
    }
    return SlabStudyResult(
        study=study.study,
        plant=plant,
        start=present.state.at,
        source=present.source,
        horizon_h=study.horizon_h,
        settle_h=study.settle_h,
        replications=study.replications,
        seed=study.seed,
        units=figure_units(plant),
        arms={
            by: tuple(_runs(each, grouped[by, each.name]) for each in study.scenarios)
            for by in study.steered_by
        },
    )


def _runs(scenario: SlabScenario, runs: list[StudyRun]) -> ScenarioRuns:
    return ScenarioRuns(
        scenario.name,
        {name: np.array([run.figures[name] for run in runs]) for name in runs[0].figures},
        {tag: np.array([run.levels[tag] for run in runs]) for tag in runs[0].levels},
    )
