"""One Plantwright arm over some hours, its forecasts held against forks of the plant on the way."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np

from dashboard.comparison.forecasts import HORIZONS_S
from dashboard.comparison.lockstep import Lockstep
from twin.plant import Plant, Role
from twin.records import Plan, Series


def steer(run: Lockstep, hours: float, *, fan_every_h: float | None = None) -> None:
    """Step `run` for so long; its result grows.

    Every `fan_every_h` the forecast of a round is kept beside what a fork of the plant showed under
    the same plan, carried out to the last horizon that is judged.
    """
    plant = run.plant
    every = None if fan_every_h is None else round(fan_every_h * 3600 / plant.step_s)
    wanted_at = None if every is None else every // 2
    for step in range(round(hours * 3600 / plant.step_s)):
        done = run.step()
        if wanted_at is None or step < wanted_at or done is None or done.twin is None:
            continue
        fan = run.controller.forecast(done, done.plan.moves, seed=step)
        run.result.fans.append((fan, _follow_plan(plant, run.truth.fork(), done.plan)))
        assert every is not None
        wanted_at += every


def _follow_plan(plant: Plant, fork: Any, plan: Plan) -> dict[str, Series]:
    """What the sensors of a forked plant showed of every CV while the plan was carried out.

    A CV that tells nothing new in a step keeps what it told; NaN before it told anything.
    """
    steps = round(HORIZONS_S[-1] / plant.step_s)
    shown = {tag.name: np.full(steps, np.nan) for tag in plant.with_role(Role.CV)}
    for step in range(steps):
        fork.write("plc.heartbeat", float(step))
        for mv, path in plan.moves.items():
            fork.write(mv, float(path[step]))
        samples = fork.advance_samples(fork.now + timedelta(seconds=plant.step_s))
        for tag, values in shown.items():
            told = samples[tag].values
            values[step:] = told[-1] if len(told) else values[step]
    return shown
