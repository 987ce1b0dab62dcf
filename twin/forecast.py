"""The one question put to the twin: where does every tag go if these moves are made?

The fan has two parts. Replications of the SimPy twin, all started from the present, spread by
what nobody knows yet: when batches really begin, what they take, which machine trips. Around
each of them lies the model's own error, as its score card measured it on past data. Nothing
here plans, and nothing here learns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from twin.economics import cost_per_h, limit_minutes
from twin.physics import Physics
from twin.plant import Plant, Role
from twin.records import Forecast, Series
from twin.simulation import Residual, TwinState, simulate

LOW_SHARE, HIGH_SHARE = 0.05, 0.95  # of the central 90 %
# Equally likely errors laid around every replication. Chosen: with 30 of them the 5 % and the
# 95 % point are nodes themselves, so a model's error alone gives back its measured band.
_ERROR_NODES = 30
_NODES = np.array(
    [NormalDist().inv_cdf((i + 0.5) / _ERROR_NODES) for i in range(_ERROR_NODES)]
) / NormalDist().inv_cdf(HIGH_SHARE)


@dataclass(frozen=True)
class ErrorBand:
    """How far readings lie from the model's line: 5 % and 95 % quantiles of reading − line.

    `horizons_s` (ascending) are the horizons they were measured at; `low[tag]` and `high[tag]`
    hold one value for each. Between horizons they are interpolated, beyond them they stay.
    """

    horizons_s: Series
    low: Mapping[str, Series]
    high: Mapping[str, Series]

    def at(self, tag: str, horizons_s: Series) -> tuple[Series, Series] | None:
        """Low and high quantile at each of `horizons_s`; None for a tag that was not measured."""
        if tag not in self.low or tag not in self.high:
            return None
        low: Series = np.interp(horizons_s, self.horizons_s, self.low[tag])
        high: Series = np.interp(horizons_s, self.horizons_s, self.high[tag])
        return low, high


def forecast(
    plant: Plant,
    physics: Physics,
    state: TwinState,
    moves: Mapping[str, Series],
    *,
    seed: int,
    replications: int = 50,
    steps: int | None = None,
    residual: Residual | None = None,
    error_band: ErrorBand | None = None,
    model: str = "physics",
) -> Forecast:
    """The future of every tag under `moves`, with a 90 % interval, from the present `state`.

    The same seed gives the same batches and trips whatever the moves, so two forecasts differ
    by their moves alone. `steps` defaults to the plant's horizon. A residual's hidden state is
    `state.hidden`. The cost counts money spent and the price of minutes outside operator limits.
    """
    count = plant.horizon_steps if steps is None else steps
    runs = [
        simulate(
            plant, physics, state, moves,
            seed=seed, steps=count, replication=i, residual=residual,
        )
        for i in range(replications)
    ]  # fmt: skip
    signals = {tag: np.array([run.values[tag] for run in runs]) for tag in runs[0].values}
    middle, low, high = fan(signals, plant.step_s, error_band)
    return Forecast(
        start=state.at,
        step_s=plant.step_s,
        model=model,
        replications=replications,
        seed=seed,
        middle=middle,
        low=low,
        high=high,
        cost_per_h=float(run_costs_per_h(plant, signals).mean()),
    )


def fan(
    signals: Mapping[str, Series], step_s: float, error_band: ErrorBand | None
) -> tuple[dict[str, Series], dict[str, Series], dict[str, Series]]:
    """Per tag the middle, low and high line of runs, the model's own error around each of them.

    `signals[tag]` has axes (run, step). A step counts the runs that know the tag: NaN where none
    does.
    """
    middle, low, high = {}, {}, {}
    for tag, values in signals.items():
        horizons_s = step_s * np.arange(1.0, values.shape[1] + 1.0)
        band = error_band.at(tag, horizons_s) if error_band is not None else None
        spread = values if band is None else with_error(values, *band)
        if np.isnan(values).any():
            middle[tag], low[tag], high[tag] = _of_known(values, spread)
            continue
        middle[tag] = values.mean(axis=0)
        low[tag], high[tag] = np.quantile(spread, (LOW_SHARE, HIGH_SHARE), axis=0, method="hazen")
    return middle, low, high


def _of_known(values: Series, spread: Series) -> tuple[Series, Series, Series]:
    """Mean of `values` and bounds of `spread` over the runs that know a step; NaN where none."""
    found = np.full((3, values.shape[1]), np.nan)
    known = ~np.isnan(values).all(axis=0)
    found[0, known] = np.nanmean(values[:, known], axis=0)
    found[1:, known] = np.nanquantile(
        spread[:, known], (LOW_SHARE, HIGH_SHARE), axis=0, method="hazen"
    )
    return found[0], found[1], found[2]


def run_costs_per_h(plant: Plant, signals: Mapping[str, Series]) -> Series:
    """Money per hour of each run; `signals[tag]` has axes (run, step). NaN without economics.

    Counts the plant file's cost and the price of every CV's minutes outside operator limits.
    """
    runs, steps = next(iter(signals.values())).shape
    if plant.economics is None:
        return np.full(runs, math.nan)
    spent = np.broadcast_to(cost_per_h(plant, signals, np), (runs, steps)).mean(axis=1)
    levels = [tag.name for tag in plant.with_role(Role.CV) if tag.name in signals]
    hours = steps * plant.step_s / 3600.0
    outside_min = np.array(
        [
            sum(limit_minutes(plant, {n: signals[n][i] for n in levels}, plant.step_s).values())
            for i in range(runs)
        ]
    )
    total: Series = spent + plant.economics.limit_price_per_min * outside_min / hours
    return total


def with_error(values: Series, low: Series, high: Series) -> Series:
    """Every run with equally likely model errors around it; axes (run × error, step).

    A normal error through the two measured quantiles, the same share along the whole horizon.
    """
    centre, half = 0.5 * (high + low), 0.5 * (high - low)
    errors = centre + _NODES[:, None] * half
    return np.asarray((values[:, None, :] + errors).reshape(-1, values.shape[1]))
