"""Where a furnace and its slabs go under given moves: fans per tag, and an outlook per slab.

Replications of the line (`twin.simulation.line`), all from the tracked present, spread by what
nobody knows yet: how hot each slab really is, when the mill stops and for how long, which slabs
come. Around each lies the model's own error. Nothing here plans or learns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np

from twin.forecast import HIGH_SHARE, LOW_SHARE, ErrorBand, fan, run_costs_per_h, with_error
from twin.furnace.chances import MEASURED
from twin.furnace.residual import ZoneResidual
from twin.furnace.state import DOUBT_SD_K, FORGETS_MIN, FurnaceState, SlabState
from twin.plant import Plant
from twin.plant.furnace import Furnace, SlabSpec
from twin.records import Forecast, Series, SlabOutlook
from twin.simulation.draws import normal_cdf, quantile
from twin.simulation.line import SlabLeft, line_of, simulate_line

# The model's own error by how long it looks ahead: standard deviations of what it missed on
# training seeds 1000–1005 under the plant's own setpoints, replications' spread apart. A zone errs
# more the nearer it is to charging, where the plant moves its setpoint most; another plant's zones
# err by their place.
_HORIZONS_S = (0.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0)
_ZONE_PLACES, _ZONE_SD_K = (0.15, 0.42, 0.68, 0.9), (4.6, 4.8, 3.5, 1.7)
_ZONE_SHARES = (0.65, 0.85, 1.0, 1.0, 1.0, 1.0)  # of that
_FUEL_SD = (0.04, 0.04, 0.045, 0.06, 0.08, 0.08)  # of the burners' highest
# Without stops ahead a slab would need 1.5 to 3.0 K. Chosen smaller, so that intervals with stops
# hold nine in ten: moves are taken as given, and a plant answers a stop that comes.
_SLAB_SD_K = (0.9, 0.9, 1.0, 1.1, 1.4, 2.2)
# A pyrometer shows more than its noise: a bias that stays for a while, now and then an old reading.
_SHOWN_OVER_NOISE = 1.2


def slab_forecast(
    plant: Plant,
    state: FurnaceState,
    moves: Mapping[str, Series],
    *,
    seed: int,
    replications: int = 50,
    steps: int | None = None,
    error_band: ErrorBand | None = None,
    model: str = "physics",
) -> Forecast:
    """The future of every zone and slab under `moves`, with 90 % intervals, from `state`.

    The same seed gives the same slabs and stops whatever the moves. `steps` defaults to the
    plant's horizon; `error_band` replaces the measured one. The outlook names the slabs inside and
    in the yard that leave within it in at least half of the replications. The cost is the plant
    file's; the minutes that the pyrometer shows a slab outside limits cost nothing in it.

    Raises ValueError as `simulate_line` does.
    """
    furnace, _ = line_of(plant)
    count = plant.horizon_steps if steps is None else steps
    runs = [
        simulate_line(plant, state, moves, seed=seed, steps=count, replication=i)
        for i in range(replications)
    ]
    signals = {tag: np.array([run.values[tag] for run in runs]) for tag in runs[0].values}
    residual = None if state.loops is None else state.loops.residual
    own = own_error(furnace, residual, trust=float(np.mean([run.trust for run in runs])))
    middle, low, high = fan(signals, plant.step_s, error_band or own)
    counted = {tag: values for tag, values in signals.items() if tag != furnace.pyrometer}
    return Forecast(
        start=state.at,
        step_s=plant.step_s,
        model=model,
        replications=replications,
        seed=seed,
        middle=middle,
        low=low,
        high=high,
        cost_per_h=float(run_costs_per_h(plant, counted).mean()),
        slabs=_outlooks(furnace.spec, state, [run.left for run in runs]),
    )


def own_error(
    furnace: Furnace, residual: ZoneResidual | None = None, *, trust: float = 1.0
) -> ErrorBand:
    """What the line's equations miss, and what the pyrometer adds, as measured.

    With a `residual` zones miss the share that its training found, as far as it is to be trusted:
    with `trust` 0 they miss as much as without it. That share is missed from the beginning on: on
    training seeds 1009 and 1010 it held 91 % of temperatures from 15 min on, half as wide as
    without, and 84 % five minutes ahead; had it grown likewise from two thirds of it, 78 %.
    """
    count = len(furnace.zones)
    shares = np.ones(2 * count) if residual is None else np.array(residual.error_share)
    grows = np.array(_ZONE_SHARES)
    sd = {furnace.pyrometer: np.hypot(_SLAB_SD_K, _SHOWN_OVER_NOISE * furnace.pyrometer_sd_k)}
    begins = 0.0
    for z, zone in enumerate(furnace.zones):
        place = 0.5 * (begins + zone.ends_at)
        widest_k = float(np.interp(place, _ZONE_PLACES, _ZONE_SD_K))
        narrowed = trust * np.minimum(grows, shares[z]) + (1.0 - trust) * grows
        sd[zone.temperature] = widest_k * narrowed
        of_fuel = 1.0 - trust * (1.0 - shares[count + z])
        sd[zone.fuel] = of_fuel * zone.fuel_mw[1] * np.array(_FUEL_SD)
        begins = zone.ends_at
    sd[furnace.fuel] = np.sqrt(sum(sd[zone.fuel] ** 2 for zone in furnace.zones))
    half = quantile(HIGH_SHARE)
    low, high = ({tag: side * half * each for tag, each in sd.items()} for side in (-1, 1))
    return ErrorBand(np.array(_HORIZONS_S), low, high)


def _outlooks(
    spec: SlabSpec, state: FurnaceState, runs: Sequence[Sequence[SlabLeft]]
) -> tuple[SlabOutlook, ...]:
    """Slab by slab, as slabs leave in the same order in every run."""
    yard_doubts = [*state.yard_doubts, *[""] * len(state.yard)][: len(state.yard)]
    doubts = [*(each.doubt for each in state.slabs), *yard_doubts]
    known = [*(each.slab for each in state.slabs), *state.yard]
    now_c = [
        *(_now_c(state, each) for each in state.slabs),
        *(slab.charge_c for slab in state.yard),
    ]
    needed = (len(runs) + 1) // 2
    found = []
    for i, (slab, doubt) in enumerate(zip(known, doubts, strict=True)):
        left = [run[i] for run in runs if len(run) > i]
        if len(left) < needed:
            break
        leaves_at = sorted(each.at for each in left)[needed - 1]
        ahead_s = (leaves_at - state.at).total_seconds()
        own_k = float(np.interp(ahead_s, _HORIZONS_S, _SLAB_SD_K))
        if doubt:
            own_k = math.hypot(own_k, _doubt_k(ahead_s, is_inside=i < len(state.slabs)))
        outlook = _outlook(spec, slab.number, leaves_at, left, own_k, doubt)
        found.append(replace(outlook, now_c=now_c[i]))
    return tuple(found)


def _doubt_k(ahead_s: float, *, is_inside: bool) -> float:
    """What a record in doubt makes a slab unsure by when it leaves, beyond what runs show.

    They begin with all of it for a slab that is inside, and forget it like any wrong temperature;
    a wrong thickness does not fade.
    """
    forgotten = 1.0 - math.exp(-2.0 * ahead_s / 60.0 / FORGETS_MIN) if is_inside else 1.0
    return DOUBT_SD_K * math.sqrt(forgotten)


def _now_c(state: FurnaceState, each: SlabState) -> float:
    """A slab's mean temperature as tracked, with what is known of its grade's emissivity."""
    percent = state.emissivity_percent.get(each.slab.grade, 0.0)
    return float(np.mean(np.array(each.node_c) + percent * np.array(each.per_emissivity_k[:-1])))


def _outlook(
    spec: SlabSpec,
    number: int,
    leaves_at: datetime,
    left: Sequence[SlabLeft],
    own_k: float,
    doubt: str,
) -> SlabOutlook:
    """One slab from all runs in which it leaves, the model's own error `own_k` around each."""
    mean_c, difference_k, surface_c = (
        np.array([getattr(each, key) for each in left])
        for key in ("mean_c", "difference_k", "surface_c")
    )
    (more_k, even_k), (hotter_k, hot_k) = MEASURED.difference_k, MEASURED.surface_k
    difference_k, surface_c = difference_k + more_k, surface_c + hotter_k
    cold = normal_cdf((spec.mean_c[0] - mean_c) / own_k)
    warm_enough = normal_cdf((spec.mean_c[1] - mean_c) / own_k) - cold
    even = normal_cdf((spec.difference_k - difference_k) / even_k)
    unburnt = normal_cdf((spec.surface_c - surface_c) / hot_k)
    half_k = np.array([quantile(HIGH_SHARE) * own_k])
    spread = with_error(mean_c[:, None], -half_k, half_k)
    low_c, high_c = np.quantile(spread, (LOW_SHARE, HIGH_SHARE), method="hazen").tolist()
    return SlabOutlook(
        number=number,
        leaves_at=leaves_at,
        mean_c=float(mean_c.mean()),
        sd_k=math.hypot(float(mean_c.std()), own_k),
        difference_k=float(difference_k.mean()),
        surface_c=float(surface_c.mean()),
        in_spec_chance=float((warm_enough * even * unburnt).mean()),
        cold_chance=float(cold.mean()),
        doubt=doubt,
        low_c=low_c,
        high_c=high_c,
    )
