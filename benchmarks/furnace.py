"""The furnace under its own tables and under Plantwright: fuel, quality, throughput, limits.

Every arm of a seed meets the same slabs, stops and noise. Fuel is corrected for stored heat; slabs
are scored by what they really were. `--quick` runs one training seed for a few hours; the full run
is a look at held-back seeds and belongs into ledger.csv.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from rich.console import Console
from rich.progress import Progress
from scipy import stats

from dashboard.comparison.slabs import BASELINES, START, SlabArm, run_baseline, run_steered
from optimizer.controller import Model
from optimizer.slab_controller import SlabController
from twin.plant import Role, read_plant
from twin.plants.furnace.truth import Truth
from twin.simulation.line import simulate_line

PLANT = "furnace"
TEST_SEEDS, TRAINING_SEEDS = range(2001, 2021), range(1004, 1014)
_HISTORY_H, _RUN_H, _QUICK_H = 18.0, 48.0, 6.0
_SPEED_MIN = 200
_FAIR, _OURS = "fair", "plantwright"
#: Plantwright's arms -> what is switched on.
_STEERED = {"physics only": Model(learns_bias=False), _OURS: Model()}


def arm_of(seed: int, name: str, hours: float) -> SlabArm:
    """One arm of one seed."""
    plant = read_plant(PLANT)
    if name in BASELINES:
        return run_baseline(plant, seed, name, history_h=_HISTORY_H, hours=hours)
    return run_steered(plant, seed, model=_STEERED[name], history_h=_HISTORY_H, hours=hours)


def run(seeds: Sequence[int], names: Sequence[str], hours: float) -> dict[str, list[SlabArm]]:
    """Every arm of every seed, two at a time."""
    tasks = [(name, seed) for seed in seeds for name in names]
    found: dict[str, list[SlabArm]] = {name: [] for name in names}
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("Furnace arms", total=len(tasks))
        results = Parallel(n_jobs=2, return_as="generator")(
            delayed(arm_of)(seed, name, hours) for name, seed in tasks
        )
        for (name, _), arm in zip(tasks, results, strict=True):
            found[name].append(arm)
            bar.advance(task)
    return found


def paired(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """Mean difference over seeds, and the low end of its 95 % interval (Student's t)."""
    difference = np.array(ours) - np.array(theirs)
    if len(difference) < 2:
        return float(difference.mean()), float(difference.mean())  # one seed has no interval
    half = stats.t.ppf(0.975, len(difference) - 1) * stats.sem(difference)
    return float(difference.mean()), float(difference.mean() - half)


def figures(arms: Mapping[str, Sequence[SlabArm]]) -> dict[str, float]:
    """The figures by name; percentages."""

    def of(name: str, key: str) -> list[float]:
        return [float(getattr(arm.score, key)) for arm in arms[name]]

    ours, fair = of(_OURS, "fuel_gj_per_t"), of(_FAIR, "fuel_gj_per_t")
    best = of("least fuel", "fuel_gj_per_t")
    saving = [100.0 * (1.0 - mine / its) for mine, its in zip(ours, fair, strict=True)]
    mean, low = paired(saving, [0.0] * len(saving))
    rates = of(_OURS, "t_per_h"), of(_FAIR, "t_per_h")
    faster = [100.0 * (mine / its - 1.0) for mine, its in zip(*rates, strict=True)]
    rounds_ms = [
        ms for arm in arms[_OURS] if arm.steered is not None for ms in arm.steered.planning_cpu_ms
    ]
    return {
        "fuel_saving_percent_mean": mean,
        "fuel_saving_percent_low": low,
        "fuel_vs_optimal_table_percent": 100.0 * (1.0 - float(np.mean(ours) / np.mean(best))),
        "in_spec_percent": float(np.mean(of(_OURS, "in_spec_percent"))),
        "in_spec_difference_pp_low": paired(
            of(_OURS, "in_spec_percent"), of(_FAIR, "in_spec_percent")
        )[1],
        "throughput_difference_percent_low": paired(faster, [0.0] * len(faster))[1],
        "hard_limits_passed": float(sum(arm.score.hard_limits_passed for arm in arms[_OURS])),
        "round_ms_median": float(np.median(rounds_ms)),
        "round_ms_max": float(np.max(rounds_ms)),
    }


def twin_times_real() -> float:
    """How many times faster than life one replication of the line runs, physics only (CPU)."""
    plant = read_plant(PLANT)
    truth = Truth(plant, seed=TRAINING_SEEDS[0], start=START)
    now = START + timedelta(hours=6)
    controller = SlabController(plant)
    controller.observe(truth.advance_samples(now), now, 5 * 60)
    state = controller.tracker.state()
    assert state is not None
    moves = {mv.name: np.array([1200.0]) for mv in plant.with_role(Role.MV) if mv.unit == "degC"}
    spent_s = []
    for replication in range(20):
        began_s = time.process_time()
        simulate_line(plant, state, moves, seed=1, steps=_SPEED_MIN, replication=replication)
        spent_s.append(time.process_time() - began_s)
    return 60.0 * _SPEED_MIN / float(np.median(spent_s))


def rows(arms: Mapping[str, Sequence[SlabArm]]) -> list[dict[str, Any]]:
    """Mean score of every arm."""
    keys = asdict(next(iter(arms.values()))[0].score).keys()
    return [
        {"arm": name}
        | {key: round(float(np.mean([getattr(arm.score, key) for arm in each])), 4) for key in keys}
        for name, each in arms.items()
    ]


def main() -> None:
    """Run, and print a table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--quick", action="store_true", help="a smoke run on one training seed")
    parser.add_argument("--training", type=int, metavar="N", help="N training seeds instead")
    parser.add_argument("--hours", type=float, default=_RUN_H, help="plant hours per arm")
    asked = parser.parse_args()
    if asked.quick:
        arms = run(TRAINING_SEEDS[:1], [_FAIR, "least fuel", _OURS], _QUICK_H)
    else:
        seeds = TRAINING_SEEDS[: asked.training] if asked.training else TEST_SEEDS
        arms = run(seeds, [*BASELINES, *_STEERED], asked.hours)
    told = figures(arms) | {"twin_times_real": twin_times_real()}
    answer = {"benchmark": "furnace", "figures": told, "rows": rows(arms)}
    if asked.json:
        json.dump(answer, sys.stdout)
        return
    for name, value in answer["figures"].items():
        print(f"{name:36} {value:10.3f}")
    for row in answer["rows"]:
        print(row)


if __name__ == "__main__":
    main()
