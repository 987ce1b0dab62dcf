"""A furnace's comparison in figures: fuel, quality and throughput, paired seed by seed.

`slab_figures` is the record of a headless demo, `criteria` what the benchmark tells by name.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy import stats

from dashboard.comparison.figures import (
    coverage90,
    planned_rmse,
    planning_cpu_ms,
    pooled_rmse,
    totals,
)
from dashboard.comparison.forced_stop import StopEffect
from dashboard.comparison.lockstep import ArmResult
from dashboard.comparison.slab_score import SlabScore
from dashboard.comparison.slab_seed import ARMS, SlabSeed
from dashboard.comparison.slabs import FAIR_TABLE, LEAST_FUEL_TABLE, OURS, SlabArm
from twin.simulation.statistics import Interval

#: Arm -> seed -> what it came to. Arms are compared on the seeds that both have run.
Arms = Mapping[str, Mapping[int, SlabArm]]


def interval(values: Sequence[float]) -> Interval | None:
    """The mean with its 95 % t-interval; None of fewer than two.

    Told of three seeds too: it is wide then, and true.
    """
    if len(values) < 2:
        return None
    mean = float(np.mean(values))
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return Interval(mean, mean - half, mean + half)


def criteria(arms: Arms, stops: Sequence[StopEffect]) -> dict[str, float]:
    """What the benchmark judges of fuel, quality, throughput, limits and rounds, by name.

    Percentages, each of its own seed; `_low` is the low end of the 95 % interval, NaN of one seed.
    `hard_limits_passed` covers every minute that Plantwright steers: each seed from the takeover
    on, the hours of running in included, and both runs of its forced `stops`. It counts limits, a
    limit once per seed and once more per seed of the stops; `slab_score.limits_passed` says by
    what. `round_ms` is CPU of tracking, plan and gate; a live round forecasts besides.
    """
    saving = saved_percent(arms, OURS, FAIR_TABLE)
    spec = _differences(
        arms, OURS, FAIR_TABLE, lambda mine, its: mine.in_spec_percent - its.in_spec_percent
    )
    faster = _differences(
        arms, OURS, FAIR_TABLE, lambda mine, its: 100.0 * (mine.t_per_h / its.t_per_h - 1.0)
    )
    ours = list(arms[OURS].values())
    rounds_ms = [ms for result in steered(ours) for ms in result.planning_cpu_ms]
    passed = [*(arm.limits_passed for arm in ours), *(stop.limits_passed for stop in stops)]
    return {
        "fuel_saving_percent_mean": float(np.mean(saving)),
        "fuel_saving_percent_low": _low(saving),
        "fuel_vs_optimal_table_percent": float(
            np.mean(saved_percent(arms, OURS, LEAST_FUEL_TABLE))
        ),
        "in_spec_percent": _mean(ours, lambda score: score.in_spec_percent),
        "in_spec_difference_pp_low": _low(spec),
        "throughput_difference_percent_low": _low(faster),
        "mill_limit_percent": _mean(ours, lambda score: score.mill_limit_percent),
        "hard_limits_passed": float(sum(len(names) for names in passed)),
        "round_ms_median": float(np.median(rounds_ms)),
        "round_ms_max": float(np.max(rounds_ms)),
    }


def saved_percent(arms: Arms, arm: str, base: str) -> list[float]:
    """How much less fuel per tonne `arm` burns than `base`, seed by seed."""
    return _differences(
        arms, arm, base, lambda mine, its: 100.0 * (1.0 - mine.fuel_gj_per_t / its.fuel_gj_per_t)
    )


def rows(arms: Arms) -> list[dict[str, Any]]:
    """Mean score of every arm over its seeds, and how often its rounds asked and were refused.

    Of what has a hard limit the worst seed counts, not the mean. `limits_passed` tells of the
    running in of what Plantwright steered too, every other figure of the scored hours alone.

    `saving_percent` is fuel against the fair table on the arm's own seeds, `saving_low` the low
    end of its interval.
    """
    told = []
    for name, by_seed in arms.items():
        each = list(by_seed.values())
        scores = [asdict(arm.score) for arm in each]
        for score in scores:
            del score["limits_passed"]
        passed = sorted({name for arm in each for name in arm.limits_passed})
        saving = saved_percent(arms, name, FAIR_TABLE)
        row: dict[str, Any] = {"arm": name, "seeds": len(each)}
        row |= {"saving_percent": float(np.mean(saving)), "saving_low": _low(saving)}
        for key in scores[0]:
            of_seeds = [score[key] for score in scores]
            row[key] = float(np.max(of_seeds) if key in _WORST else np.mean(of_seeds))
        row["limits_passed"] = ", ".join(passed)
        if results := steered(each):
            row |= {key: sum(getattr(result, key) for result in results) for key in _COUNTS}
        told.append({key: _rounded(value) for key, value in row.items()})
    return told


_WORST = frozenset({"hottest_c", "zone_c", "ramp_k_per_min", "header_mw"})
_COUNTS = ("rounds", "proposals", "refused", "untrusted")


def _known(value: Any) -> Any:
    """None for whatever is not known, however deep it stands."""
    if isinstance(value, dict):
        return {key: _known(each) for key, each in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def _rounded(value: Any) -> Any:
    """Four decimals, and None for what is not known."""
    if not isinstance(value, float):
        return value
    return None if math.isnan(value) else round(value, 4)


def steered(arms: Sequence[SlabArm]) -> list[ArmResult]:
    """What Lockstep tells of the arms that Plantwright steered."""
    return [arm.steered for arm in arms if arm.steered is not None]


def slab_figures(results: Sequence[SlabSeed]) -> dict[str, Any]:
    """The comparison as one record, of the same shape as that of a plant with equations.

    `hard_limits_passed` counts from the takeover on, the hours of running in included.
    `saving_percent` is fuel per tonne against the fair table, `cost_per_h` and `ablation` are the
    fuel's money; what scale and slabs out of spec cost stands apart, per tonne, in `arms`. None
    stands for what is not known.
    """
    arms = {name: {result.seed: result.arms[name] for result in results} for name in ARMS}
    ours, fair = (list(arms[name].values()) for name in (OURS, FAIR_TABLE))
    pair = {"baseline": fair, "plantwright": ours}
    planned = [entry for result in results for entry in result.planned_errors]
    least_fuel = saved_percent(arms, OURS, LEAST_FUEL_TABLE)
    record = {
        "seeds": [result.seed for result in results],
        "hours_per_seed": results[0].hours,
        **totals(steered(ours)),
        "cv_limit_minutes": {
            side: _mean(each, lambda score: score.limit_min) for side, each in pair.items()
        },
        "cost_per_h": {side: _mean(each, _fuel_per_h) for side, each in pair.items()},
        "saving_percent": _told(saved_percent(arms, OURS, FAIR_TABLE)),
        "saving_percent_against_least_fuel_table": _told(least_fuel),
        "in_spec_percent": {
            side: _mean(each, lambda score: score.in_spec_percent) for side, each in pair.items()
        },
        "t_per_h": {side: _mean(each, lambda score: score.t_per_h) for side, each in pair.items()},
        "hard_limits_passed": sum(len(arm.limits_passed) for arm in ours),
        "forecast_rmse": pooled_rmse([result.errors for result in results]),
        "forecast_rmse_planned": planned_rmse(planned),
        "coverage90": coverage90(planned),
        "ablation": {
            "baseline" if name == FAIR_TABLE else name: _mean(list(each.values()), _fuel_per_h)
            for name, each in arms.items()
        },
        "promoted": Counter(result.promoted for result in results),
        "planning_cpu_ms": planning_cpu_ms(steered(ours)),
        "arms": rows(arms),
    }
    return {key: _known(value) for key, value in record.items()}


def _fuel_per_h(score: SlabScore) -> float:
    return score.fuel_cost_per_t * score.t_per_h


def _mean(arms: Sequence[SlabArm], of: Callable[[SlabScore], float]) -> float:
    return float(np.mean([of(arm.score) for arm in arms]))


def _differences(
    arms: Arms, arm: str, base: str, of: Callable[[SlabScore, SlabScore], float]
) -> list[float]:
    """Seed by seed, of the score of `arm` and of `base`."""
    return [
        of(arms[arm][seed].score, arms[base][seed].score)
        for seed in arms[arm]
        if seed in arms[base]
    ]


def _low(values: Sequence[float]) -> float:
    found = interval(values)
    return math.nan if found is None else found.low


def _told(values: Sequence[float]) -> dict[str, float | None]:
    found = interval(values)
    if found is None:
        return {"mean": float(np.mean(values)), "low": None, "high": None}
    return asdict(found)
