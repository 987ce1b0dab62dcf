"""What one stop of the mill does to the slabs behind it: the same furnace with and without it.

A stop of 40 min after a set slab, no other stop before or after, everything else alike. Slabs are
paired by their number, not by time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import numpy as np

from dashboard.comparison.slab_history import HISTORY_H, START
from dashboard.comparison.slab_score import in_spec
from dashboard.comparison.slabs import (
    BASELINES,
    RUN_IN_H,
    STEERED,
    passed_since,
    steering,
)
from twin.plant import Plant
from twin.plant.furnace import Mill
from twin.plants.furnace.baseline import FAIR
from twin.plants.furnace.truth import RUN_IN_S, Truth
from twin.plants.furnace.works import Discharge, Works
from twin.plants.furnace.yard import Yard
from twin.records import Series
from twin.simulation.line import line_of

STOP_S, SLABS_AFTER = 2400.0, 12
_SCORED_AFTER_H = 1.0  # from the end of running in to the stop
_ESTIMATE_STREAM = 40  # of a seed: the crew's estimate of this stop, which nothing else draws from


@dataclass(frozen=True)
class StopEffect:
    """One arm of one seed: the slabs behind the stop against the same slabs without it.

    `changes_k` (slab) is how much hotter the stop made each, `excess_k` how far they were above
    the middle of the spec with it (mean; colder ones count 0), `in_spec_percent` how many were in.
    `limits_passed` names the hard limits that Plantwright passed from its takeover on, with the
    stop or without; none under the plant's own tables, which are not watched.
    """

    seed: int
    changes_k: Series
    excess_k: float
    in_spec_percent: float
    limits_passed: tuple[str, ...] = ()

    @property
    def change_k(self) -> float:
        """What the stop did to the mean of these slabs, up or down."""
        return float(self.changes_k.mean())

    @property
    def change_per_slab_k(self) -> float:
        """How much the stop changed a slab, up or down: nothing cancels out between slabs."""
        return float(np.abs(self.changes_k).mean())


def stop_effect(plant: Plant, seed: int, arm: str, *, history_h: float = HISTORY_H) -> StopEffect:
    """What the stop did under `arm`, one of `BASELINES` or of `STEERED`."""
    furnace, mill = line_of(plant)
    last = stopped_slab(seed, history_h)
    steered, spec = None if arm in BASELINES else STEERED[arm], furnace.spec
    baseline = BASELINES.get(arm, FAIR)
    runs = []
    passed: set[str] = set()
    for stops in ({}, {last: (STOP_S, _expected_s(seed, mill))}):
        works = Works(seed, baseline, stops=stops, has_stops=False)
        truth = Truth(plant, seed=seed, start=START, works=works)
        if steered is not None:
            lockstep = steering(plant, truth, seed, steered, history_h=history_h)
            # Both have the same history: what was trained on it need not be trained again.
            steered = replace(steered, model=lockstep.controller.model, is_trained=False)
            takeover = truth.now
            runs.append(_behind(truth, last, lockstep.step))
            passed.update(passed_since(lockstep, takeover))
        else:
            runs.append(_behind(truth, last, partial(_advance, truth)))
    without, behind = runs
    means_c = np.array([slab.mean_c for slab in behind])
    return StopEffect(
        seed=seed,
        changes_k=means_c - np.array([slab.mean_c for slab in without]),
        excess_k=float(np.maximum(means_c - 0.5 * sum(spec.mean_c), 0.0).mean()),
        in_spec_percent=100.0 * float(np.mean([in_spec(spec, slab) for slab in behind])),
        limits_passed=tuple(sorted(passed)),
    )


def stopped_slab(seed: int, history_h: float) -> int:
    """The slab after which the mill stops, the same for every arm: an hour after running in.

    Counted from the slabs' own rolling times, as if every one were ready in time.
    """
    yard, rolled_h, number = Yard(seed), 0.0, 0
    while rolled_h < RUN_IN_S / 3600.0 + history_h + RUN_IN_H + _SCORED_AFTER_H:
        slab = yard.slab(number)
        rolled_h += slab.mass_kg / 1000.0 / slab.rate_t_per_h * slab.gap_factor
        number += 1
    return number


def stop_figures(ours: Sequence[StopEffect], baseline: Sequence[StopEffect]) -> dict[str, float]:
    """Ours over the baseline's, means over seeds of what the stop does to the slabs behind it.

    `stop_change_over_baseline` is of the mean of a seed's slabs, up or down: within a seed a slab
    made hotter makes up for one made colder. `stop_change_per_slab_over_baseline` is of single
    slabs, up or down, where nothing makes up for anything. `stop_excess_over_baseline` is of how
    far slabs were above the middle of the spec.
    """

    def ratio(of: Callable[[StopEffect], float]) -> float:
        mine, its = ([of(effect) for effect in arm] for arm in (ours, baseline))
        return float(np.mean(mine) / np.mean(its))

    return {
        "stop_change_over_baseline": ratio(lambda effect: abs(effect.change_k)),
        "stop_change_per_slab_over_baseline": ratio(lambda effect: effect.change_per_slab_k),
        "stop_excess_over_baseline": ratio(lambda effect: effect.excess_k),
        "stop_in_spec_percent": float(np.mean([effect.in_spec_percent for effect in ours])),
    }


def _expected_s(seed: int, mill: Mill) -> float:
    """What the crew expects of this stop, in whole minutes: as wrong as it usually is."""
    log_error = np.random.default_rng([seed, _ESTIMATE_STREAM]).normal(0.0, mill.estimate_sd)
    return 60.0 * round(STOP_S / 60.0 * math.exp(log_error))


def _behind(truth: Truth, last: int, step: Callable[[], object]) -> list[Discharge]:
    """The slabs that leave next after `last`, as `step` brings the furnace on."""
    while not truth.discharged or truth.discharged[-1].slab.number < last + SLABS_AFTER:
        step()
    return [slab for slab in truth.discharged if last < slab.slab.number <= last + SLABS_AFTER]


def _advance(truth: Truth) -> None:
    truth.advance_samples(truth.now + timedelta(minutes=10))
