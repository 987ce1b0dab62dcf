"""Furnace arms of one seed: the same slabs, stops and noise under AUTO and under Plantwright.

Fuel is corrected for heat stored more at the end than at the beginning; slabs are scored by what
they really were. The truth is stepped, written to and scored here; no model or planner sees it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

import numpy as np

from dashboard.comparison.lockstep import ArmResult, Lockstep
from optimizer.controller import Model
from optimizer.slab_controller import SlabController
from optimizer.slab_plan import Tuning
from twin.plant import Plant
from twin.plants.furnace import slabs as sl
from twin.plants.furnace.baseline import FAIR, LEAST_FUEL, NAIVE

START = datetime(2026, 1, 5, tzinfo=UTC)
RUN_IN_H = 6.0  # Plantwright steers for so long before anything is scored
STORED_WORTH = 1.3  # fuel that a J in store saves: the inverse of the furnace's efficiency

BASELINES = {"fair": FAIR, "least fuel": LEAST_FUEL, "naive": NAIVE}


@dataclass(frozen=True)
class SlabScore:
    """One arm of one seed over the scored hours."""

    fuel_gj_per_t: float
    in_spec_percent: float
    mean_c: float
    sd_k: float
    t_per_h: float
    held_min: float
    cold_percent: float
    warm_percent: float
    uneven_percent: float
    scale_percent: float
    hottest_c: float
    zone_c: float
    ramp_k_per_min: float
    header_mw: float

    @property
    def hard_limits_passed(self) -> int:
        """How many of surface, zone, ramp and header were passed."""
        return sum(
            (self.hottest_c > 1290.0, self.zone_c > 1330.0, self.ramp_k_per_min > 10.0,
             self.header_mw > 105.0 + 1e-6)
        )  # fmt: skip


@dataclass(frozen=True)
class SlabArm:
    """What one arm came to. `steered` is None where Plantwright only looked on."""

    score: SlabScore
    steered: ArmResult | None


def run_baseline(plant: Plant, seed: int, name: str, *, history_h: float, hours: float) -> SlabArm:
    """The furnace under one of its own AUTO tables."""
    factory = import_module("twin.plants.furnace.truth").Truth
    truth = factory(plant, seed=seed, start=START, baseline=BASELINES[name])
    begin = START + timedelta(hours=history_h + RUN_IN_H)
    truth.advance_samples(begin)
    before_j = _stored_j(truth)
    seen = truth.advance_samples(begin + timedelta(hours=hours))
    return SlabArm(_score(truth, begin, before_j, seen), None)


def run_steered(
    plant: Plant,
    seed: int,
    tuning: Tuning | None = None,
    model: Model | None = None,
    *,
    history_h: float,
    hours: float,
) -> SlabArm:
    """The same furnace, steered by Plantwright after a history under the fair table."""
    factory = import_module("twin.plants.furnace.truth").Truth
    truth = factory(plant, seed=seed, start=START)
    now = START + timedelta(hours=history_h)
    history = truth.advance_samples(now)
    controller = SlabController(plant, model, tuning=tuning)
    lockstep = Lockstep(plant, truth, history, controller)
    begin = now + timedelta(hours=RUN_IN_H)
    for _ in range(round(RUN_IN_H * 60)):
        lockstep.step()
    before_j = _stored_j(truth)
    for _ in range(round(hours * 60)):
        lockstep.step()
    seen = lockstep.recorder.since(begin.timestamp())
    return SlabArm(_score(truth, begin, before_j, seen), lockstep.result)


def _stored_j(truth: Any) -> float:
    return float(sl.stored_j(truth.works.slabs, truth.works.zones))


def _score(truth: Any, begin: datetime, before_j: float, seen: Any) -> SlabScore:
    begin_s = (begin - truth.zero).total_seconds()
    left = [slab for slab in truth.discharged if slab.at_s >= begin_s]
    minutes = truth.minutes[-round((truth.now - begin).total_seconds() / 60) :]
    fuel_j = 60.0 * math.fsum(math.fsum(minute.fuel_w) for minute in minutes)
    tonnes = math.fsum(each.slab.real_mass_kg for each in left) / 1000.0
    means = np.array([each.mean_c for each in left])
    stored_j = _stored_j(truth) - before_j

    def most(tags: Sequence[str]) -> float:
        return max(float(np.abs(seen[tag].values).max()) for tag in tags)

    zones = [f"zone_{z}.temperature" for z in range(1, 5)]
    return SlabScore(
        fuel_gj_per_t=(fuel_j - STORED_WORTH * stored_j) / 1e9 / tonnes,
        in_spec_percent=100.0 * float(np.mean([_is_in_spec(each) for each in left])),
        mean_c=float(means.mean()),
        sd_k=float(means.std()),
        t_per_h=tonnes / ((truth.now - begin).total_seconds() / 3600.0),
        held_min=math.fsum(each.held_s for each in left) / 60.0,
        cold_percent=100.0 * float((means < 1205.0).mean()),
        warm_percent=100.0 * float((means > 1235.0).mean()),
        uneven_percent=100.0 * float(np.mean([each.difference_k > 30.0 for each in left])),
        scale_percent=100.0
        * float(np.mean([each.scale_kg / each.slab.real_mass_kg for each in left])),
        hottest_c=max(minute.hottest_c for minute in minutes),
        zone_c=most(zones),
        ramp_k_per_min=most([zone.replace(".temperature", ".ramp") for zone in zones]),
        header_mw=most(["furnace.fuel"]),
    )


def _is_in_spec(left: Any) -> bool:
    is_even = left.difference_k <= 30.0 and left.hottest_c <= 1290.0
    return bool(is_even and abs(left.mean_c - 1220.0) <= 15.0)
