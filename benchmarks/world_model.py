"""How well each model of the line-up foresees the four tanks: `python benchmarks/world_model.py`.

Per seed: 48 plant hours in AUTO are the past, the 12 hours after them the test. Free runs on the
flows and demands that really came ("realised"), every 5 minutes, against the measured levels.
Only search seeds (1000–1029) are used here; test seeds belong to the headless comparison.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from twin.dynamics.frames import Cuts, cut, signals_of
from twin.dynamics.lineup import TrainingReport, train
from twin.dynamics.models import PHYSICS, PHYSICS_RESIDUAL
from twin.dynamics.residual import CONTEXT_ROWS
from twin.physics import Physics, load_physics
from twin.plant import Plant, Role, read_plant
from twin.plants.four_tank.truth import Truth
from twin.records import Series, Window
from twin.state import window

SEEDS, QUICK_SEEDS = tuple(range(1006, 1018)), (1006,)
START = datetime(2026, 2, 2, tzinfo=UTC)
PAST_H, QUICK_PAST_H, TEST_H = 48, 24, 12
HORIZONS_S = (300, 900, 1800, 3600)
STRIDE = 5


@dataclass(frozen=True)
class Result:
    """One seed: squared errors and share inside the 90 % band, both (step, cv), per model."""

    seed: int
    promoted: str
    cpu_s: float
    square: dict[str, Series]
    inside: dict[str, Series]


def lived(plant: Plant, seed: int, past_h: int) -> tuple[Window, Window]:
    """The past to train on, and the same past with the test hours after it."""
    end = START + timedelta(hours=past_h + TEST_H)
    samples = Truth(plant, seed=seed, start=START).advance_samples(end)
    whole = window(plant, samples, end, round((past_h + TEST_H) * 3600 / plant.step_s))
    rows = round(past_h * 3600 / plant.step_s)
    values = {tag: series[:rows] for tag, series in whole.values.items()}
    return Window(START + timedelta(hours=past_h), plant.step_s, values), whole


def run_seed(plant: Plant, physics: Physics, seed: int, past_h: int) -> Result:
    """Train on the past, judge on the hours after it."""
    past, whole = lived(plant, seed, past_h)
    began_s = time.process_time()
    report = train(plant, physics, past, seed=seed)
    cpu_s = time.process_time() - began_s
    unseen = cut(
        signals_of(plant, physics),
        whole,
        context_rows=CONTEXT_ROWS,
        steps=plant.horizon_steps,
        first=past.rows,
        last=whole.rows,
        stride=STRIDE,
    )
    judged = {name: judge(report, name, unseen) for name in report.models}
    return Result(
        seed,
        report.promoted,
        cpu_s,
        {name: square for name, (square, _) in judged.items()},
        {name: inside for name, (_, inside) in judged.items()},
    )


def judge(report: TrainingReport, name: str, unseen: Cuts) -> tuple[Series, Series]:
    """Mean squared error and share inside the card's band, both (step, cv)."""
    cvs, band = report.card.cvs, report.card.bands[name]
    ahead = report.models[name].run(unseen.past, unseen.future)
    errors = unseen.truth[..., [report.card.levels.index(cv) for cv in cvs]] - ahead
    low, high = (np.array([side[cv] for cv in cvs]).T[:, None] for side in (band.low, band.high))
    known = ~np.isnan(errors)
    inside = ((errors >= low) & (errors <= high)).sum(axis=1) / known.sum(axis=1)
    return np.nanmean(errors**2, axis=1), inside


def summary(plant: Plant, results: Sequence[Result]) -> dict[str, object]:
    """Figures over all seeds, and a row per model and horizon."""
    cvs = plant.with_role(Role.CV)
    first_rank = [i for i, tag in enumerate(cvs) if tag.rank == 1]
    steps = {horizon_s: round(horizon_s / plant.step_s) - 1 for horizon_s in HORIZONS_S}
    square = {n: np.mean([r.square[n] for r in results], axis=0) for n in results[0].square}
    inside = {n: np.mean([r.inside[n] for r in results], axis=0) for n in results[0].inside}
    last = steps[HORIZONS_S[-1]]

    def ratio(error: dict[str, Series], model: str) -> float:
        shares = [error[name][last, first_rank].mean() for name in (model, PHYSICS)]
        return float(np.sqrt(shares[0] / shares[1]))

    cpu_s = [result.cpu_s for result in results]
    figures: dict[str, float] = {"seeds": len(results), "cpu_s_mean": float(np.mean(cpu_s))}
    figures["cpu_s_most"] = max(cpu_s)
    for name in square:
        figures[f"ratio_60min_{name}"] = ratio(square, name)
        figures[f"coverage90_60min_{name}"] = float(inside[name][last].mean())
    figures["ratio_60min_worst_seed"] = max(ratio(r.square, PHYSICS_RESIDUAL) for r in results)
    figures["promoted_residual"] = sum(r.promoted == PHYSICS_RESIDUAL for r in results)
    rows = [
        {
            "model": name,
            "horizon_s": horizon_s,
            "rmse": {tag.name: float(np.sqrt(square[name][k, i])) for i, tag in enumerate(cvs)},
            "coverage90": {tag.name: float(inside[name][k, i]) for i, tag in enumerate(cvs)},
        }
        for name in square
        for horizon_s, k in steps.items()
    ]
    return {"benchmark": "world_model", "figures": figures, "rows": rows}


def show(found: dict[str, object], console: Console) -> None:
    """The same as tables for a person."""
    figures, rows = found["figures"], found["rows"]
    assert isinstance(figures, dict)
    assert isinstance(rows, list)
    tags = list(rows[0]["rmse"])
    table = Table("model", "horizon s", *tags, title="RMSE on realised inputs, cm (in 90 % band)")
    for row in rows:
        cells = [f"{row['rmse'][tag]:.3f} ({row['coverage90'][tag]:.0%})" for tag in tags]
        table.add_row(row["model"], str(row["horizon_s"]), *cells)
    console.print(table)
    for name, value in figures.items():
        console.print(f"{name}: {value:.3g}")


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--quick", action="store_true", help="one seed, one day of past")
    arguments = parser.parse_args()
    plant = read_plant("four_tank")
    physics = load_physics(plant)
    assert physics is not None
    seeds, past_h = (QUICK_SEEDS, QUICK_PAST_H) if arguments.quick else (SEEDS, PAST_H)
    console = Console(stderr=arguments.json)
    bar = track(seeds, "seeds", console=Console(stderr=True))
    found = summary(plant, [run_seed(plant, physics, seed, past_h) for seed in bar])
    if arguments.json:
        print(json.dumps(found))
    else:
        show(found, console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
