"""Furnace arms of one seed: the same slabs, stops and noise under AUTO and under Plantwright.

Every arm has the same history under the fair table, or under its own, and hours of running in
before anything is scored; hard limits are watched from the takeover on. The truth is stepped,
written to and scored here; no model or planner sees it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from dashboard.comparison.lockstep import ArmResult, Lockstep
from dashboard.comparison.slab_history import HISTORY_H, START, joined, trained_on
from dashboard.comparison.slab_score import SlabScore, Stretch, limits_passed, score_slabs
from dashboard.comparison.steering import steer
from optimizer.controller import Model
from optimizer.slab_controller import SlabController
from optimizer.slab_plan import Tuning
from twin.plant import Plant
from twin.plants.furnace import slabs as sl
from twin.plants.furnace.baseline import FAIR, LEAST_FUEL, NAIVE
from twin.plants.furnace.truth import Truth
from twin.records import Samples
from twin.simulation.line import line_of

RUN_IN_H = 6.0  # it steers for so long before anything is scored
LONGEST_H = 192.0  # eight days: of so many the truth keeps the minutes that are scored

FAIR_TABLE, LEAST_FUEL_TABLE, HOLD, OURS = "fair", "least fuel", "hold", "plantwright"
PHYSICS_ONLY, ONLINE, LEARNED = "physics only", "+ online parameters", "+ residual"
BASELINES = {FAIR_TABLE: FAIR, LEAST_FUEL_TABLE: LEAST_FUEL, "naive": NAIVE}
_BEAT = timedelta(minutes=5)  # the PLC takes a heartbeat that is twice as old


@dataclass(frozen=True)
class Steered:
    """What an arm of Plantwright's plans with.

    `is_trained`: with the residual that training on the arm's own history puts to use, if it does.
    """

    tuning: Tuning = Tuning()  # noqa: RUF009 - frozen, as its fields are
    model: Model = Model()  # noqa: RUF009 - frozen, as its fields are
    is_trained: bool = True


_NO_SCENARIOS = replace(Tuning(), stop_scenarios=())
#: Plantwright's arms, each with one part more than the one before; the last is as shipped.
STEERED = {
    PHYSICS_ONLY: Steered(_NO_SCENARIOS, Model(learns_bias=False), is_trained=False),
    ONLINE: Steered(_NO_SCENARIOS, is_trained=False),
    LEARNED: Steered(_NO_SCENARIOS),
    "+ stop scenarios": Steered(),
    OURS: Steered(),
}


@dataclass(frozen=True)
class SlabArm:
    """What one arm came to. `steered` is None where Plantwright only looked on.

    `planned_with` is the version of its model, "" where there was none. `passed_before` names the
    hard limits that it passed while it ran in.
    """

    score: SlabScore
    steered: ArmResult | None
    planned_with: str = ""
    passed_before: tuple[str, ...] = ()

    @property
    def limits_passed(self) -> tuple[str, ...]:
        """The hard limits passed in what is scored or while it ran in, each once, by name."""
        return tuple(sorted({*self.passed_before, *self.score.limits_passed}))


def run_arm(
    plant: Plant,
    seed: int,
    name: str,
    *,
    history_h: float = HISTORY_H,
    hours: float,
    fan_every_h: float | None = None,
) -> SlabArm:
    """One arm by its name: `HOLD`, one of `BASELINES` or of `STEERED`."""
    if name == HOLD:
        return _run_held(plant, seed, history_h=history_h, hours=hours)
    if name in BASELINES:
        return _run_baseline(plant, seed, name, history_h=history_h, hours=hours)
    return _run_steered(plant, seed, STEERED[name], history_h, hours, fan_every_h)


def _run_baseline(
    plant: Plant, seed: int, name: str, *, history_h: float = HISTORY_H, hours: float
) -> SlabArm:
    """The furnace under one of its own AUTO tables."""
    truth = Truth(plant, seed=seed, start=START, baseline=BASELINES[name])
    begin = START + timedelta(hours=history_h + RUN_IN_H)
    truth.advance_samples(begin)
    before_j = _stored_j(truth)
    seen = truth.advance_samples(begin + timedelta(hours=hours))
    return SlabArm(_score(plant, truth, begin, before_j, seen), None)


def _run_held(plant: Plant, seed: int, *, history_h: float = HISTORY_H, hours: float) -> SlabArm:
    """The furnace with setpoints that stay where the fair table had them; the interlock goes on."""
    truth = Truth(plant, seed=seed, start=START)
    truth.advance_samples(START + timedelta(hours=history_h))
    truth.write("plc.heartbeat", 0.0)
    for zone in line_of(plant)[0].zones:
        truth.write(zone.setpoint, truth.read(zone.setpoint))
    begin = truth.now + timedelta(hours=RUN_IN_H)
    _hold(truth, begin)
    before_j = _stored_j(truth)
    seen = _hold(truth, begin + timedelta(hours=hours))
    return SlabArm(_score(plant, truth, begin, before_j, seen), None)


def _run_steered(
    plant: Plant,
    seed: int,
    steered: Steered,
    history_h: float,
    hours: float,
    fan_every_h: float | None,
) -> SlabArm:
    truth = Truth(plant, seed=seed, start=START)
    lockstep = steering(plant, truth, seed, steered, history_h=history_h)
    takeover = truth.now
    steer(lockstep, RUN_IN_H)
    begin, before_j = truth.now, _stored_j(truth)
    passed_before = passed_since(lockstep, takeover)
    steer(lockstep, hours, fan_every_h=fan_every_h)
    score = _score(plant, truth, begin, before_j, _seen_after(lockstep, begin))
    return SlabArm(score, lockstep.result, lockstep.controller.model.version, passed_before)


def steering(
    plant: Plant, truth: Truth, seed: int, steered: Steered, *, history_h: float
) -> Lockstep:
    """Plantwright before its first round: `truth` has run, and been seen, for `history_h`."""
    history = truth.advance_samples(truth.now + timedelta(hours=history_h))
    model = steered.model
    if steered.is_trained:
        report = trained_on(plant, history, truth.now, history_h, seed)
        model = replace(model, version=report.promoted, zone_residual=report.zone_residual)
    controller = SlabController(plant, model, tuning=steered.tuning)
    return Lockstep(plant, truth, history, controller)


def passed_since(lockstep: Lockstep, begin: datetime) -> tuple[str, ...]:
    """The hard limits that a steered furnace has passed from `begin` to its present, by name.

    `begin` is a whole minute, some days back at most (`Truth.minutes`).
    """
    truth = lockstep.truth
    minutes = truth.minutes[-_minutes_between(begin, truth.now) :]
    return limits_passed(lockstep.plant, minutes, _seen_after(lockstep, begin))


def _seen_after(lockstep: Lockstep, begin: datetime) -> dict[str, Samples]:
    """What was seen of the minutes after `begin`: a reading at it tells of the one before."""
    return lockstep.recorder.since(begin.timestamp() + 1.0)


def _minutes_between(begin: datetime, end: datetime) -> int:
    return round((end - begin).total_seconds() / 60)


def _hold(truth: Truth, until: datetime) -> dict[str, Samples]:
    """Keep every loop in REMOTE until then."""
    parts = []
    while truth.now < until:
        truth.write("plc.heartbeat", truth.now.timestamp())
        parts.append(truth.advance_samples(min(truth.now + _BEAT, until)))
    return joined(parts)


def _stored_j(truth: Truth) -> float:
    return float(sl.stored_j(truth.works.slabs, truth.works.zones))


def _score(
    plant: Plant, truth: Truth, begin: datetime, before_j: float, seen: Mapping[str, Samples]
) -> SlabScore:
    zero = truth.zero
    stretch = Stretch(
        begin_s=(begin - zero).total_seconds(),
        end_s=(truth.now - zero).total_seconds(),
        zero_s=zero.timestamp(),
        discharged=truth.discharged,
        minutes=truth.minutes[-_minutes_between(begin, truth.now) :],
        stored_j=_stored_j(truth) - before_j,
        seen=seen,
    )
    return score_slabs(plant, stretch)
