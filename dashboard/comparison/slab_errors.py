"""How far forecasts of slabs and zones are off an hour ahead, part by part of what is learned.

Along the setpoints and discharges that really came, so that what is scored is the model and not
luck with stops. Slabs are scored by what they really were; the truth is read here by scoring only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np

from dashboard.comparison.slab_history import HISTORY_H, START, joined, trained_on
from dashboard.comparison.slabs import LEARNED, ONLINE, PHYSICS_ONLY
from twin.dynamics.frames import columns
from twin.dynamics.furnace_runs import Followed, discharges, follow
from twin.dynamics.lineup import training_tags
from twin.furnace.residual import ZoneResidual
from twin.furnace.rollout import Rollout
from twin.plant import Plant
from twin.plants.furnace.truth import Truth
from twin.records import Series, Window
from twin.simulation.line import line_of
from twin.state import window

ARMS = (PHYSICS_ONLY, ONLINE, LEARNED)
_EVERY_MIN, _AHEAD_MIN = 20, 60


@dataclass(frozen=True)
class ArmErrors:
    """Forecast less what came, an hour ahead. Axes: slab; start; zone.

    `real_k` (slab) against what a slab really was, `shown_k` (slab) against the pyrometer, NaN
    where it saw nothing. `zone_k` (start, zone) of temperatures, `fuel_mw` (start) of the header.
    """

    real_k: Series
    shown_k: Series
    zone_k: Series
    fuel_mw: Series


@dataclass(frozen=True)
class SlabErrors:
    """Errors of one seed by arm; `promoted` is what the training on its history put to use.

    `residual` is None where that is none.
    """

    seed: int
    promoted: str
    residual: ZoneResidual | None
    arms: Mapping[str, ArmErrors]


def slab_forecast_errors(
    plant: Plant, seed: int, *, history_h: float = HISTORY_H, hours: float
) -> SlabErrors:
    """Forecasts every 20 min over `hours` of AUTO after `history_h`; each slab is judged once.

    A slab counts where it leaves 50 to 70 min after a forecast. Arms are `ARMS`: tracking that
    learns nothing, tracking that learns emissivity and losses, and the residual trained on the
    history beside it, where it was promoted. Raises ModelFault for a history too short to train on.
    """
    furnace, mill = line_of(plant)
    truth = Truth(plant, seed=seed, start=START)
    history = truth.advance_samples(START + timedelta(hours=history_h))
    report = trained_on(plant, history, truth.now, history_h, seed)
    seen = truth.advance_samples(truth.now + timedelta(hours=hours))
    whole = joined([history, seen])
    told = {tag: whole[tag] for tag in training_tags(plant, None)}
    past = window(plant, told, truth.now, round(60 * (history_h + hours)))
    starts = range(round(60 * history_h), past.rows - _AHEAD_MIN - _EVERY_MIN, _EVERY_MIN)
    plain = follow(furnace, mill, past, starts, learns=False)
    online = follow(furnace, mill, past, starts, learns=True)
    scoring = _Scoring(plant, past, truth)
    arms = {
        PHYSICS_ONLY: scoring.errors(plain, None),
        ONLINE: scoring.errors(online, None),
        LEARNED: scoring.errors(online, report.zone_residual),
    }
    return SlabErrors(seed, report.promoted, report.zone_residual, arms)


def first_promoted(results: Sequence[SlabErrors]) -> ZoneResidual | None:
    """The residual of the first seed whose training put one to use; None if none did."""
    return next((each.residual for each in results if each.residual is not None), None)


def forecast_figures(results: Sequence[SlabErrors]) -> dict[str, float]:
    """RMSE an hour ahead over all seeds, by arm, and that of the last arm over that of the first.

    `forecast_rmse_over_physics` is that of a slab's real mean temperature at discharge;
    `forecast_rmse_over_online` is against tracking that learns online, the stricter rival.
    """
    slabs = {arm: _rmse([result.arms[arm].real_k for result in results]) for arm in ARMS}
    zones = {arm: _rmse([result.arms[arm].zone_k for result in results]) for arm in ARMS}
    fuel = {arm: _rmse([result.arms[arm].fuel_mw for result in results]) for arm in ARMS}
    return {
        "forecast_rmse_over_physics": slabs[LEARNED] / slabs[PHYSICS_ONLY],
        "forecast_rmse_over_online": slabs[LEARNED] / slabs[ONLINE],
        "zone_forecast_rmse_over_physics": zones[LEARNED] / zones[PHYSICS_ONLY],
        "zone_forecast_rmse_over_online": zones[LEARNED] / zones[ONLINE],
        "fuel_forecast_rmse_over_physics": fuel[LEARNED] / fuel[PHYSICS_ONLY],
        "fuel_forecast_rmse_over_online": fuel[LEARNED] / fuel[ONLINE],
    }


def forecast_rows(results: Sequence[SlabErrors]) -> list[dict[str, float | str]]:
    """One row per arm: RMSE of slabs (K, real and shown), zones (K) and header (MW).

    NaN where there was none to judge: in a short run no slab leaves when a forecast ends.
    """
    return [
        {
            "arm": arm,
            "slab_k": _rmse([result.arms[arm].real_k for result in results]),
            "slab_bias_k": _mean(np.concatenate([r.arms[arm].real_k for r in results])),
            "shown_k": _rmse([result.arms[arm].shown_k for result in results]),
            "zone_k": _rmse([result.arms[arm].zone_k for result in results]),
            "fuel_mw": _rmse([result.arms[arm].fuel_mw for result in results]),
        }
        for arm in ARMS
    ]


class _Scoring:
    """One seed's past with what really left in it."""

    def __init__(self, plant: Plant, past: Window, truth: Truth) -> None:
        self._furnace, _ = line_of(plant)
        zones = self._furnace.zones
        self._real = {each.slab.number: each for each in truth.discharged}
        self._gone = past.values[self._furnace.discharged]
        self._setpoints_c = columns(past.values, [zone.setpoint for zone in zones])
        self._gas_c = columns(past.values, [zone.temperature for zone in zones])
        self._fuel_mw = columns(past.values, [zone.fuel for zone in zones]).sum(axis=1)

    def errors(self, followed: Followed, residual: ZoneResidual | None) -> ArmErrors:
        """Of forecasts from every state of `followed`."""
        real_k: list[float] = []
        shown_k: list[float] = []
        zone_k, fuel_mw = [], []
        for row, state in followed.states.items():
            ahead = slice(row + 1, row + 1 + _AHEAD_MIN + _EVERY_MIN)
            leaves = discharges(state, self._gone[ahead])
            assert state.loops is not None
            start = replace(state, loops=replace(state.loops, residual=residual))
            passage = Rollout(self._furnace, start, leaves).run(self._setpoints_c[ahead])
            last = row + _AHEAD_MIN
            zone_k.append(passage.gas_c[_AHEAD_MIN - 1] - self._gas_c[last])
            fuel_mw.append(passage.fuel_w[_AHEAD_MIN - 1].sum() / 1e6 - self._fuel_mw[last])
            numbers = [each.slab.number for each in state.slabs]
            for number, left, mean_c in zip(numbers, leaves, passage.mean_c, strict=False):
                if abs(left - _AHEAD_MIN - 0.5) < 0.5 * _EVERY_MIN:
                    real = self._real[number]
                    real_k.append(mean_c - real.mean_c)
                    shown_k.append(mean_c - real.pyrometer_c)
        return ArmErrors(*(np.array(each) for each in (real_k, shown_k, zone_k, fuel_mw)))


def _rmse(errors: Sequence[Series]) -> float:
    return math.sqrt(_mean(np.concatenate([each.ravel() for each in errors]) ** 2))


def _mean(values: Series) -> float:
    """The mean of what is known; NaN where nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan
