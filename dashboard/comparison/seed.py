"""Every arm of one seed, from the same plant after the same two days of history.

All arms meet the same batches, trips, prices and noise. The truth is stepped, written to and
scored here; no model or planner sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

from dashboard.comparison.forecasts import (
    CONTEXT_ROWS,
    PlannedErrors,
    RealisedErrors,
    planned_errors,
    realised_errors,
)
from dashboard.comparison.lockstep import HISTORY_H, ArmResult, Lockstep
from dashboard.comparison.steering import steer
from optimizer.controller import Controller, Model, error_band
from optimizer.plan import Planner
from twin.dynamics.lineup import TrainingReport, train
from twin.dynamics.models import PHYSICS, PHYSICS_BIAS, PHYSICS_RESIDUAL, PhysicsModel
from twin.economics import score
from twin.physics import load_physics
from twin.plant import Plant, Role
from twin.plants.four_tank.baseline import PLAIN
from twin.state import window

RUN_H = 12.0
_START = datetime(2026, 1, 5, tzinfo=UTC)
_FORK_EVERY_H = 1.0

#: Plantwright's arms -> the member of the line-up that each plans with.
_LEARNING = {
    "physics only": PHYSICS,
    "physics + bias": PHYSICS_BIAS,
    "physics + bias + residual": PHYSICS_RESIDUAL,
}
ARMS = ("hold", "baseline", "plain PI", *_LEARNING)


@dataclass
class SeedResult:
    """All arms of one seed; forecast errors on realised inputs and under carried-out plans.

    `own_arm` is the arm that plans with the promoted model, as a live planner would.
    """

    seed: int
    promoted: str
    own_arm: str
    arms: dict[str, ArmResult]
    errors: dict[str, RealisedErrors]
    planned_errors: list[PlannedErrors]


def run_seed(
    plant: Plant, seed: int, hours: float = RUN_H, arms: Sequence[str] = ARMS
) -> SeedResult:
    """Two days of history, training on it, then every arm over the same `hours`."""
    physics = load_physics(plant)
    assert physics is not None
    truth = _truth(plant)(plant, seed=seed, start=_START)
    history = truth.advance_samples(_START + timedelta(hours=HISTORY_H))
    rows = round(HISTORY_H * 3600 / plant.step_s)
    report = train(plant, physics, window(plant, history, truth.now, rows), seed=seed)
    planner = Planner(plant, physics)
    ours = _own_arm(report)
    results: dict[str, ArmResult] = {}
    for arm in arms:
        own = _plain_pi(plant, seed) if arm == "plain PI" else truth.fork()
        if arm in _LEARNING:
            model = _model(arm, report)
            run = Lockstep(plant, own, history, Controller(plant, physics, model, planner=planner))
            results[arm] = _steer(run, hours, with_fans=arm == ours)
        else:
            results[arm] = _leave_alone(plant, own, hours, is_held=arm == "hold")
        results[arm].score = score(plant, own.true_record(truth.now), plant.step_s)
    chosen = results.get(ours)
    return SeedResult(
        seed=seed,
        promoted=report.promoted,
        own_arm=ours,
        arms=results,
        errors={} if chosen is None else realised_errors(plant, physics, report, chosen, hours),
        planned_errors=[]
        if chosen is None
        else planned_errors(physics.states, plant.step_s, chosen.fans),
    )


def _truth(plant: Plant) -> Any:
    return import_module(f"twin.plants.{plant.plant}.truth").Truth


def _own_arm(report: TrainingReport) -> str:
    """The arm that plans with what training promoted, as a live planner would."""
    if report.promoted == PHYSICS_RESIDUAL:
        return "physics + bias + residual"
    return "physics only" if report.promoted == PHYSICS else "physics + bias"


def _model(arm: str, report: TrainingReport) -> Model:
    name = _LEARNING[arm]
    member = report.models[name]
    assert isinstance(member, PhysicsModel)
    return Model(
        arm,
        member.residual,
        error_band(report.card.bands[name]),
        learns_bias=member.learns_bias,
    )


def _steer(run: Lockstep, hours: float, *, with_fans: bool) -> ArmResult:
    """One Plantwright arm, and what its models are to be judged on."""
    begin = run.truth.now
    steer(run, hours, fan_every_h=_FORK_EVERY_H if with_fans else None)
    context_s = CONTEXT_ROWS * run.plant.step_s
    run.result.seen = run.recorder.since(begin.timestamp() - context_s - 300.0)
    return run.result


def _plain_pi(plant: Plant, seed: int) -> Any:
    """The same plant after the same two days under PI loops that know no order list."""
    truth = _truth(plant)(plant, seed=seed, start=_START, baseline=PLAIN)
    truth.advance_samples(_START + timedelta(hours=HISTORY_H))
    return truth


def _leave_alone(plant: Plant, own: Any, hours: float, *, is_held: bool) -> ArmResult:
    """An arm without Plantwright: the PLC's own control, or setpoints that never move."""
    held = {mv.name: own.read(mv.name) for mv in plant.with_role(Role.MV)} if is_held else {}
    for step in range(round(hours * 3600 / plant.step_s)):
        own.write("plc.heartbeat", float(step))
        if step == 0:
            for mv, value in held.items():
                own.write(mv, value)
        own.advance_samples(own.now + timedelta(seconds=plant.step_s))
    return ArmResult()
