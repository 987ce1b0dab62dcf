"""The furnace under its own tables and under Plantwright: fuel, quality, throughput, limits.

Every arm of a seed meets the same slabs, stops and noise. Fuel is corrected for stored heat; slabs
are scored by what they really were. A forced stop is run with and without, slab against slab. Parts
of Plantwright are switched on one after the other on fewer seeds; each row says on how many.
`--quick` runs one training seed for an hour; the full run is a look at held-back seeds and belongs
into ledger.csv.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from rich.console import Console
from rich.progress import Progress

from dashboard.comparison import TEST_SEEDS, check_whole_steps
from dashboard.comparison.forced_stop import StopEffect, stop_effect, stop_figures
from dashboard.comparison.slab_errors import (
    SlabErrors,
    first_promoted,
    forecast_figures,
    forecast_rows,
    slab_forecast_errors,
)
from dashboard.comparison.slab_figures import criteria, rows
from dashboard.comparison.slab_history import START
from dashboard.comparison.slabs import (
    BASELINES,
    FAIR_TABLE,
    HOLD,
    LEAST_FUEL_TABLE,
    LONGEST_H,
    OURS,
    STEERED,
    SlabArm,
    Steered,
    run_arm,
    steering,
)
from optimizer.controller import Model
from optimizer.slab_controller import SlabController
from twin.errors import UsageError
from twin.furnace.residual import ZoneResidual
from twin.plant import Role, read_plant
from twin.plants.furnace.truth import Truth
from twin.simulation.line import simulate_line

PLANT = "furnace"
TRAINING_SEEDS = tuple(range(1004, 1024))
_SPEED_MIN = 200
_SPEED_HISTORY_H = 6.0  # by then every slab inside was charged under our eyes
_SPEED_STEPS = 60  # in which forecasts are timed
_FORECAST_H = 24.0  # of AUTO on which forecasts are judged


@dataclass(frozen=True)
class Extent:
    """How much is run: main arms on all `seeds`, the others on the first few of them."""

    seeds: Sequence[int]
    hours: float
    ablation_seeds: int
    stop_seeds: int
    forecast_seeds: int


@dataclass(frozen=True)
class Task:
    """Something to run on one seed: an arm, a forced stop under it, or forecasts judged."""

    seed: int
    arm: str = ""
    is_stop: bool = False


def tasks(extent: Extent) -> Iterator[Task]:
    """What has to be run; what takes longest comes first."""
    few = extent.seeds[: extent.ablation_seeds]
    yield from (Task(seed, OURS) for seed in extent.seeds)
    yield from (Task(seed, arm) for arm in STEERED if not is_ours(arm) for seed in few)
    stops = extent.seeds[: extent.stop_seeds]
    yield from (Task(seed, arm, is_stop=True) for arm in (OURS, FAIR_TABLE) for seed in stops)
    yield from (Task(seed) for seed in extent.seeds[: extent.forecast_seeds])
    main = (FAIR_TABLE, LEAST_FUEL_TABLE)
    yield from (Task(seed, arm) for arm in main for seed in extent.seeds)
    rest = [arm for arm in (*BASELINES, HOLD) if arm not in main]
    yield from (Task(seed, arm) for arm in rest for seed in few)


def is_ours(arm: str) -> bool:
    """Whether an arm is Plantwright as shipped, under whatever name."""
    return STEERED[arm] == STEERED[OURS]


def do(task: Task, extent: Extent) -> SlabArm | StopEffect | SlabErrors:
    """Run one task; in whatever process."""
    plant = read_plant(PLANT)
    if task.is_stop:
        return stop_effect(plant, task.seed, task.arm)
    if not task.arm:
        hours = min(extent.hours, _FORECAST_H)
        return slab_forecast_errors(plant, task.seed, hours=hours)
    return run_arm(plant, task.seed, task.arm, hours=extent.hours)


@dataclass(frozen=True)
class Found:
    """Everything that was run: arm -> seed -> what it came to; arm -> what the stop did."""

    arms: dict[str, dict[int, SlabArm]]
    stops: dict[str, list[StopEffect]]
    errors: list[SlabErrors]


def run(extent: Extent, jobs: int) -> Found:
    """Every task, `jobs` at a time."""
    asked = list(tasks(extent))
    found = Found({}, {}, [])
    with Progress(console=Console(stderr=True)) as bar:
        results = Parallel(n_jobs=jobs, batch_size=1, return_as="generator")(
            delayed(do)(task, extent) for task in asked
        )
        for task, result in zip(bar.track(asked, description="Furnace"), results, strict=True):
            if isinstance(result, StopEffect):
                found.stops.setdefault(task.arm, []).append(result)
            elif isinstance(result, SlabErrors):
                found.errors.append(result)
            else:
                found.arms.setdefault(task.arm, {})[task.seed] = result
    few = extent.seeds[: extent.ablation_seeds]
    for arm in STEERED:
        if is_ours(arm) and arm != OURS and few:
            found.arms[arm] = {seed: found.arms[OURS][seed] for seed in few}
    return found


def stop_rows(stops: dict[str, list[StopEffect]]) -> list[dict[str, Any]]:
    """What the forced stop did to the twelve slabs behind it, by arm."""
    return [
        {
            "arm": f"{arm}, 40-min stop",
            "seeds": len(effects),
            "change_k": round(float(np.mean([effect.change_k for effect in effects])), 2),
            "change_per_slab_k": round(
                float(np.mean([effect.change_per_slab_k for effect in effects])), 2
            ),
            "excess_k": round(float(np.mean([effect.excess_k for effect in effects])), 2),
            "in_spec_percent": round(float(np.mean([e.in_spec_percent for e in effects])), 1),
            "limits_passed": ", ".join(sorted({n for e in effects for n in e.limits_passed})),
        }
        for arm, effects in stops.items()
    ]


def twin_times_real(residual: ZoneResidual | None = None) -> float:
    """How many times faster than life one replication of the line runs (CPU).

    With a `residual` if one is given, else on physics alone.
    """
    plant = read_plant(PLANT)
    truth = Truth(plant, seed=TRAINING_SEEDS[0], start=START)
    now = START + timedelta(hours=_SPEED_HISTORY_H)
    controller = SlabController(plant)
    controller.observe(truth.advance_samples(now), now, 5 * 60)
    controller.tracker.residual = residual
    state = controller.tracker.state()
    assert state is not None
    moves = {mv.name: np.array([1200.0]) for mv in plant.with_role(Role.MV) if mv.unit == "degC"}
    spent_s = []
    for replication in range(20):
        began_s = time.process_time()
        simulate_line(plant, state, moves, seed=1, steps=_SPEED_MIN, replication=replication)
        spent_s.append(time.process_time() - began_s)
    return 60.0 * _SPEED_MIN / float(np.median(spent_s))


def forecast_ms(residual: ZoneResidual | None = None) -> float:
    """CPU (ms) that a live round spends beyond tracking, plan and gate: the median of an hour's.

    It is what every proposal that the gate clears shows: all replications of the plan, and all of
    no MV moved. With a `residual` if one is given.
    """
    plant, seed = read_plant(PLANT), TRAINING_SEEDS[0]
    truth = Truth(plant, seed=seed, start=START)
    steered = Steered(model=Model(zone_residual=residual), is_trained=False)
    lockstep = steering(plant, truth, seed, steered, history_h=_SPEED_HISTORY_H)
    spent_ms = []
    for step in range(_SPEED_STEPS):
        done = lockstep.step()
        if done is None or done.twin is None:
            continue
        began_s = time.process_time()
        lockstep.controller.compared_forecast(done, seed=step)
        spent_ms.append(1000.0 * (time.process_time() - began_s))
    return float(np.median(spent_ms)) if spent_ms else math.nan


def extent_of(asked: argparse.Namespace) -> Extent:
    """What the command line asks for."""
    if asked.quick:
        return Extent(TRAINING_SEEDS[:1], 1.0, ablation_seeds=0, stop_seeds=1, forecast_seeds=1)
    seeds = TRAINING_SEEDS[: asked.training] if asked.training else TEST_SEEDS
    few = (asked.ablation_seeds, asked.stop_seeds, asked.forecast_seeds)
    return Extent(seeds, asked.hours, *(min(count, len(seeds)) for count in few))


def _some(text: str) -> int:
    """A number of at least one: the figures need every part."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: give 1 or more")
    return int(text)


def _training(text: str) -> int:
    """How many training seeds, of those there are."""
    if _some(text) > len(TRAINING_SEEDS):
        raise argparse.ArgumentTypeError(f"{text}: there are {len(TRAINING_SEEDS)}")
    return int(text)


def _none_or_more(text: str) -> int:
    """A number of seeds that may be none."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text}: give 0 or more")
    return int(text)


def _hours(text: str) -> float:
    """Plant hours that are scored: one at least, in which slabs leave, and what is kept at most.

    Whole steps of the plant, so that every arm is scored over the same minutes.
    """
    try:
        hours = float(text)
    except ValueError:
        hours = math.nan
    if not 1.0 <= hours <= LONGEST_H:
        raise argparse.ArgumentTypeError(f"{text}: give 1 to {LONGEST_H:g}")
    try:
        check_whole_steps(read_plant(PLANT), hours)
    except UsageError as fault:
        raise argparse.ArgumentTypeError(str(fault).removeprefix("--hours ")) from fault
    return hours


def _known(row: dict[str, Any]) -> dict[str, Any]:
    """None for what is not known: JSON has no NaN."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in row.items()
    }


def main() -> None:
    """Run, and print a table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--quick", action="store_true", help="a smoke run on one training seed")
    parser.add_argument("--training", type=_training, metavar="N", help="N training seeds instead")
    parser.add_argument("--hours", type=_hours, default=48.0, help="plant hours per arm")
    # So many that the full run takes half an hour on two cores.
    parser.add_argument(
        "--ablation-seeds", type=_none_or_more, default=3, help="of the part by part"
    )
    parser.add_argument("--stop-seeds", type=_some, default=10, help="seeds of the forced stop")
    parser.add_argument("--forecast-seeds", type=_some, default=10, help="seeds of forecast errors")
    parser.add_argument("--jobs", type=_some, default=2, help="processes")
    asked = parser.parse_args()
    extent = extent_of(asked)
    found = run(extent, asked.jobs)
    told = criteria(found.arms, found.stops[OURS])
    told |= stop_figures(found.stops[OURS], found.stops[FAIR_TABLE])
    told |= forecast_figures(found.errors)
    told |= {"twin_times_real": twin_times_real()}
    residual = first_promoted(found.errors)
    told["twin_times_real_with_residual"] = (
        math.nan if residual is None else twin_times_real(residual)
    )
    told["forecast_ms_median"] = forecast_ms(residual)
    figures = _known(told)
    tables = [rows(found.arms), stop_rows(found.stops), forecast_rows(found.errors)]
    if asked.json:
        all_rows = [_known(row) for table in tables for row in table]
        report = {"benchmark": "furnace", "figures": figures, "rows": all_rows}
        json.dump(report, sys.stdout, allow_nan=False)
        return
    print(
        f"{len(extent.seeds)} seeds × {extent.hours:g} h; parts one by one on "
        f"{extent.ablation_seeds}, the forced stop on {extent.stop_seeds}, forecasts on "
        f"{extent.forecast_seeds}\n"
    )
    for name, value in figures.items():
        print(f"{name:36} {'not known' if value is None else format(value, '10.3f')}")
    for table in tables:
        print(f"\n{pd.DataFrame(table).set_index('arm').T.to_string(na_rep='none')}")


if __name__ == "__main__":
    main()
