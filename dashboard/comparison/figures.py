"""The comparison as one record: costs, paired saving, forecast errors, coverage, ablation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dashboard.comparison.forecasts import HORIZONS_S, PlannedErrors, RealisedErrors
from dashboard.comparison.lockstep import ArmResult
from dashboard.comparison.seed import ARMS, SeedResult
from twin.economics import Score
from twin.records import Series
from twin.simulation.statistics import FEWEST_RUNS, paired_difference


def figures(results: Sequence[SeedResult]) -> dict[str, Any]:
    """The comparison as one record: costs per hour, paired saving, errors, coverage, ablation."""
    ours = [result.arms[result.own_arm] for result in results]
    baseline = [result.arms["baseline"] for result in results]
    saving = _saving(baseline, ours)
    planned = [entry for result in results for entry in result.planned_errors]
    return {
        "seeds": [result.seed for result in results],
        "hours_per_seed": _score(ours[0]).hours,
        **totals(ours),
        "cv_limit_minutes": {
            "baseline": _mean(sum(_score(arm).limit_minutes.values()) for arm in baseline),
            "plantwright": _mean(sum(_score(arm).limit_minutes.values()) for arm in ours),
        },
        "cost_per_h": {
            "baseline": _mean(_score(arm).cost_per_h for arm in baseline),
            "plantwright": _mean(_score(arm).cost_per_h for arm in ours),
        },
        "saving_percent": saving,
        "saving_percent_against_plain_pi": _saving(
            [result.arms["plain PI"] for result in results], ours
        ),
        "forecast_rmse": pooled_rmse([result.errors for result in results]),
        "forecast_rmse_planned": planned_rmse(planned),
        "coverage90": coverage90(planned),
        "ablation": {
            arm: _mean(_score(result.arms[arm]).cost_per_h for result in results) for arm in ARMS
        },
        "promoted": {
            name: sum(result.promoted == name for result in results)
            for name in sorted({result.promoted for result in results})
        },
        "planning_cpu_ms": planning_cpu_ms(ours),
    }


def totals(ours: Sequence[ArmResult]) -> dict[str, int]:
    """What Plantwright's rounds wrote and proposed on all seeds together."""
    return {
        "writes_outside_limits": sum(arm.writes_outside_limits for arm in ours),
        "writes": sum(arm.writes for arm in ours),
        "proposals": sum(arm.proposals for arm in ours),
        "refused": sum(arm.refused for arm in ours),
    }


def planning_cpu_ms(ours: Sequence[ArmResult]) -> dict[str, float]:
    """CPU time of a round: the usual one and a slow one."""
    rounds = [ms for arm in ours for ms in arm.planning_cpu_ms]
    return {"median": float(np.median(rounds)), "p95": float(np.quantile(rounds, 0.95))}


def _score(arm: ArmResult) -> Score:
    assert arm.score is not None
    return arm.score


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _saving(baseline: Sequence[ArmResult], ours: Sequence[ArmResult]) -> dict[str, float | None]:
    """Paired saving in percent of the baseline's mean, with its 95 % t-interval over seeds."""
    base = np.array([_score(arm).cost_per_h for arm in baseline])
    cost = np.array([_score(arm).cost_per_h for arm in ours])
    scale = 100.0 / float(base.mean())
    if len(base) < FEWEST_RUNS:
        return {"mean": scale * float((base - cost).mean()), "low": None, "high": None}
    saved = paired_difference(base, cost)
    return {"mean": scale * saved.mean, "low": scale * saved.low, "high": scale * saved.high}


def pooled_rmse(
    errors: Sequence[Mapping[str, RealisedErrors]],
) -> dict[str, dict[str, dict[str, float]]]:
    """Model -> horizon -> CV -> RMSE over all seeds."""
    return {
        model: {
            f"{horizon_s:.0f}": {
                tag: _rmse([found[model][horizon_s][tag] for found in errors]) for tag in by_tag
            }
            for horizon_s, by_tag in by_horizon.items()
        }
        for model, by_horizon in errors[0].items()
    }


def _rmse(parts: Sequence[Series]) -> float:
    return float(np.sqrt(np.nanmean(np.concatenate(parts) ** 2)))


def planned_rmse(planned: Sequence[PlannedErrors]) -> dict[str, dict[str, float]]:
    """Error of the forecast's middle line when the plan is carried out, by horizon and CV."""
    found: dict[str, dict[str, float]] = {}
    for horizon_s in HORIZONS_S:
        errors: dict[str, list[float]] = {}
        for entry in planned:
            for tag, (error, _) in entry[horizon_s].items():
                errors.setdefault(tag, []).append(error)
        found[f"{horizon_s:.0f}"] = {tag: _rmse([np.array(e)]) for tag, e in errors.items()}
    return found


def coverage90(planned: Sequence[PlannedErrors]) -> dict[str, float]:
    """Share of readings inside the 90 % fan when the plan is carried out, by horizon."""
    return {
        f"{horizon_s:.0f}": _mean(
            is_inside for entry in planned for _, is_inside in entry[horizon_s].values()
        )
        for horizon_s in HORIZONS_S
    }
