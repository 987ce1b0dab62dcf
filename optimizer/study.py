"""What-if studies: scenarios of one plant, compared on the same random numbers.

Every scenario meets the same batches, trips and prices, replication by replication, so a
difference is the scenario's doing. `run_study` gives a StudyResult; its table, its plot and its
plain data are views of it. Reading and checking a study file is `optimizer.study_file`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from optimizer.moves import hard_range, largest_change
from optimizer.study_file import Scenario, Study, Tracking, simulated, steps_of
from optimizer.study_start import Present, nominal_present
from twin.economics import limit_minutes
from twin.errors import Fault, FileFault
from twin.expressions import parse
from twin.forecast import run_costs_per_h
from twin.physics import Physics
from twin.plant import Plant, Role, Tag
from twin.records import Series
from twin.simulation import Steering, Trajectory, TwinState, simulate
from twin.simulation.statistics import Interval, mean_interval, paired_difference

_NO_NUMBER = "not a number"
_START_REMEDY = "Give the study a start, or collect readings first."


@dataclass(frozen=True)
class ScenarioRuns:
    """One scenario's runs: a figure of interest or a CV per name, one row per replication."""

    name: str
    figures: Mapping[str, Series]
    levels: Mapping[str, Series]


@dataclass(frozen=True)
class StudyResult:
    """What a study found. The first of `scenarios` is the base; `units` go by figure name.

    `meanings` are the study file's words on its figures.
    """

    study: str
    plant: Plant
    start: datetime
    horizon_h: float
    replications: int
    seed: int
    units: Mapping[str, str]
    meanings: Mapping[str, str]
    scenarios: tuple[ScenarioRuns, ...]

    def mean(self, figure: str, scenario: int = 0) -> Interval:
        """A figure's mean over the replications of one scenario."""
        return mean_interval(self.scenarios[scenario].figures[figure])

    def difference(self, figure: str, scenario: int) -> Interval:
        """How much higher a figure is than in the base, replication by replication."""
        runs = self.scenarios
        return paired_difference(runs[scenario].figures[figure], runs[0].figures[figure])

    @property
    def without_number(self) -> tuple[str, ...]:
        """A sentence on each figure of a scenario that some run has no finite number for."""
        missing = [
            (figure, runs.name, int(np.isnan(runs.figures[figure]).sum()))
            for figure in self.units
            for runs in self.scenarios
        ]
        return tuple(
            f"{figure} of {name} is not a number in {count} of {self.replications} runs: "
            "its expression divides by zero, or has no result for another reason. "
            "Correct it, for example by max(divisor, 1)."
            for figure, name, count in missing
            if count
        )

    def table(self) -> str:
        """The comparison as aligned text, one line per figure and scenario; below it, meanings."""
        rows = [("figure", "scenario", "mean", "difference to base (95 %)", "unit")]
        for figure, unit in self.units.items():
            for i, runs in enumerate(self.scenarios):
                change = "" if i == 0 else shown_difference(self.difference(figure, i))
                mean = shown_mean(self.mean(figure, i))
                rows.append((figure if i == 0 else "", runs.name, mean, change, unit))
        meanings = [f"\n{figure}: {meaning}" for figure, meaning in self.meanings.items()]
        return "\n".join([aligned(rows), *meanings])

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data for --json; numbers that are not known are None."""
        return {
            "study": self.study,
            "plant": self.plant.plant,
            "start": self.start.isoformat(),
            "horizon_h": self.horizon_h,
            "replications": self.replications,
            "seed": self.seed,
            "base": self.scenarios[0].name,
            "without_number": list(self.without_number),
            "scenarios": [
                {
                    "name": runs.name,
                    "figures": {
                        figure: {
                            "unit": unit,
                            "meaning": self.meanings.get(figure, ""),
                            "mean": known(self.mean(figure, i).mean),
                            "difference": None if i == 0 else plain(self.difference(figure, i)),
                        }
                        for figure, unit in self.units.items()
                    },
                }
                for i, runs in enumerate(self.scenarios)
            ],
        }


def aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """A table of five columns as text: its head, a line, then one row each."""
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [
        f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:<{widths[3]}}  {e}".rstrip()
        for a, b, c, d, e in rows
    ]
    lines.insert(1, "-" * max(len(line) for line in lines))
    return "\n".join(lines)


def shown_mean(found: Interval) -> str:
    """A mean for a table."""
    return f"{found.mean:.3f}" if math.isfinite(found.mean) else _NO_NUMBER


def shown_difference(found: Interval) -> str:
    """A difference with its interval for a table."""
    if not math.isfinite(found.mean):
        return _NO_NUMBER
    return f"{found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def known(value: float) -> float | None:
    """A number for plain data; None for one that is not finite."""
    return value if math.isfinite(value) else None


def plain(found: Interval) -> dict[str, float | None]:
    """An interval as plain data."""
    return {"mean": known(found.mean), "low": known(found.low), "high": known(found.high)}


def run_study(
    plant: Plant,
    physics: Physics,
    study: Study,
    *,
    present: Present | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> StudyResult:
    """Run every scenario of `study` on common random numbers.

    `present` is where a study without a `start` of its own begins (see `present_of`).
    `progress` is told how many runs are done, and of how many.

    Raises:
        FileFault: the study has no start and no `present` is given, or nobody steers an MV.
    """
    begin = present if study.start is None else nominal_present(plant, study.start)
    if begin is None:
        fault = Fault("start", "is missing, and no present is known.", remedy=_START_REMEDY)
        raise FileFault(study.study, [fault])
    _check_steered(plant, study, begin)
    total = len(study.scenarios) * study.replications
    results: list[ScenarioRuns] = []
    for scenario in study.scenarios:
        state = replace(begin.state, states={**begin.state.states, **scenario.levels})
        runs = []
        for i in range(study.replications):
            steer = _steering(plant, study, scenario, begin.setpoints)
            runs.append(_run(plant, physics, study, scenario, state, steer, i))
            if progress is not None:
                progress(len(results) * study.replications + i + 1, total)
        results.append(_summary(plant, physics, study, scenario.name, runs))
    return StudyResult(
        study=study.study,
        plant=plant,
        start=begin.state.at,
        horizon_h=study.horizon_h,
        replications=study.replications,
        seed=study.seed,
        units=_units(plant, physics, study),
        meanings={total.name: total.meaning for total in study.totals if total.meaning},
        scenarios=tuple(results),
    )


def _run(
    plant: Plant,
    physics: Physics,
    study: Study,
    scenario: Scenario,
    state: TwinState,
    steer: Steering,
    replication: int,
) -> Trajectory:
    return simulate(
        plant,
        physics,
        state,
        steer,
        seed=study.seed,
        steps=steps_of(study, plant),
        replication=replication,
        scale=scenario.scale,
    )


def _check_steered(plant: Plant, study: Study, begin: Present) -> None:
    """Every MV must stand somewhere before anybody steers it."""
    free = [
        Fault("control", f"nothing says where {tag.name} stands.", remedy=f"Hold {tag.name}.")
        for tag in plant.with_role(Role.MV)
        if tag.name not in begin.setpoints and tag.name not in study.control.hold
    ]
    if free:
        raise FileFault(study.study, free)


def _steering(
    plant: Plant, study: Study, scenario: Scenario, setpoints: Mapping[str, float]
) -> Steering:
    """The study's controller for one run: fixed MVs, and PI loops that remember their past."""
    fixed = {**setpoints, **study.control.hold, **scenario.fix}
    loops = [
        _Loop(plant, loop, setpoints[loop.mv])
        for loop in study.control.track
        if loop.mv not in scenario.fix
    ]

    def steer(_: int, signals: Mapping[str, float]) -> Mapping[str, float]:
        return {**fixed, **{loop.mv: loop.next(signals) for loop in loops}}

    return steer


class _Loop:
    """A PI loop in velocity form: within limits and rate it needs no anti-windup."""

    def __init__(self, plant: Plant, loop: Tracking, setpoint: float) -> None:
        tag = plant.tag(loop.mv)
        self.mv = tag.name
        self._loop, self._step_min = loop, plant.step_s / 60.0
        self._most = largest_change(plant, tag)
        self._low, self._high = hard_range(tag)
        self._setpoint = setpoint
        self._error: float | None = None

    def next(self, signals: Mapping[str, float]) -> float:
        """The setpoint for the coming step."""
        error = self._loop.target - signals[self._loop.cv]
        before = error if self._error is None else self._error
        change = error - before + error * self._step_min / self._loop.reset_min
        self._error = error
        move = min(max(self._loop.gain * change, -self._most), self._most)
        self._setpoint = min(max(self._setpoint + move, self._low), self._high)
        return self._setpoint


def _cvs(plant: Plant, physics: Physics) -> list[Tag]:
    return [tag for tag in plant.with_role(Role.CV) if tag.name in simulated(plant, physics)]


def _units(plant: Plant, physics: Physics, study: Study) -> dict[str, str]:
    """Every figure of interest and its unit, in the order they are shown."""
    units = {}
    if plant.economics is not None:
        units["cost"] = f"{plant.economics.currency}/h"
    units |= {total.name: total.unit for total in study.totals}
    for tag in _cvs(plant, physics):
        if tag.operator is not None:
            units[f"{tag.name} outside limits"] = "min"
        units[f"{tag.name} lowest"] = tag.unit
        units[f"{tag.name} highest"] = tag.unit
    return units


def _summary(
    plant: Plant, physics: Physics, study: Study, name: str, runs: list[Trajectory]
) -> ScenarioRuns:
    signals = {tag: np.array([run.values[tag] for run in runs]) for tag in runs[0].values}
    hours = steps_of(study, plant) * plant.step_s / 3600.0
    currency = plant.economics.currency if plant.economics else None
    tag_units = {tag.name: tag.unit for tag in plant.tags if tag.name in signals}
    figures: dict[str, Series] = {}
    with np.errstate(all="ignore"):  # what has no number is told once, by the result
        if plant.economics is not None:
            figures["cost"] = _finite(run_costs_per_h(plant, signals))
        for total in study.totals:
            rate = parse(total.expression).in_units(
                tag_units, f"({total.unit})/h", currency=currency
            )
            per_h = np.broadcast_to(rate.evaluate(signals, np), next(iter(signals.values())).shape)
            figures[total.name] = _finite(per_h.mean(axis=1) * hours)
    levels = {tag.name: signals[tag.name] for tag in _cvs(plant, physics)}
    for tag, paths in levels.items():
        if plant.tag(tag).operator is not None:
            outside = [limit_minutes(plant, {tag: path}, plant.step_s)[tag] for path in paths]
            figures[f"{tag} outside limits"] = np.array(outside)
        figures[f"{tag} lowest"] = paths.min(axis=1)
        figures[f"{tag} highest"] = paths.max(axis=1)
    return ScenarioRuns(name, figures, levels)


def _finite(figures: Series) -> Series:
    return np.where(np.isfinite(figures), figures, np.nan)
