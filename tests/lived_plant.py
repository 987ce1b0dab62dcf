"""A few hours of the quadruple tank and proposals for it, made up for tests of the page.

A tool of the tests: readings come from the twin's own equations under a fixed daily routine, so
that every picture has a shape an operator knows. Nothing here is the truth of any comparison.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from dashboard.beats import clock_detail
from twin.historian import Historian
from twin.physics import load_physics
from twin.plant import Plant, Role, Tag, read_plant
from twin.records import (
    GOOD,
    Forecast,
    Plan,
    PlanStatus,
    Proposal,
    ProposalStatus,
    Reading,
    Series,
    Verdict,
)

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
_BATCHES = ((1, 2100.0, 900.0, 8.0), (2, 5400.0, 780.0, 7.0), (1, 9300.0, 840.0, 9.0))
_EMPTY_ORDER = {"start": 0.0, "draw": 0.0, "duration": 0.0}


def four_tank() -> Plant:
    """The shipped plant."""
    return read_plant("four_tank")


def lived(plant: Plant, end: datetime = NOON, hours: float = 4.0) -> Iterator[Reading]:
    """Every tag each `sample_s` up to `end`."""
    physics = load_physics(plant)
    assert physics is not None
    levels = dict(zip(physics.states, (9.5, 11.0, 1.3, 1.2), strict=True))
    rng = np.random.default_rng(5)
    steps = round(hours * 3600 / plant.sample_s)
    for i in range(steps + 1):
        at = end - timedelta(seconds=(steps - i) * plant.sample_s)
        signals = _signals(i * plant.sample_s, hours * 3600, end)
        inputs = physics.actuate(signals)
        for name, value in {**signals, **physics.outputs_at(levels, inputs), **levels}.items():
            noise = rng.normal(0, 0.04) if name in levels else 0.0
            yield Reading(name, value + noise, GOOD, at, at)
        levels = physics.advance(levels, inputs, plant.sample_s)


def _signals(elapsed_s: float, total_s: float, end: datetime) -> dict[str, float]:
    """MVs, DVs, modes and order list `elapsed_s` after the first reading."""
    running_s = total_s - elapsed_s  # before the end
    signals = {
        "pump_1.setpoint": 8.4 + 1.1 * math.sin(elapsed_s // 600 / 3),
        "pump_2.setpoint": 8.0 + 1.4 * math.cos(elapsed_s // 600 / 4),
        "pump_1.running": 0.0 if 3000 < running_s < 3360 else 1.0,
        "pump_2.running": 1.0,
        "tank_1.demand": 0.0,
        "tank_2.demand": 0.0,
        "price.now": 14.286 if elapsed_s % 7200 > 3600 else 12.9,
        "price.next": 13.4,
        "pump_1.mode": 1.0,
        "pump_2.mode": 0.0,
    }
    for tank, starts_s, lasts_s, draw in _BATCHES:
        if starts_s <= elapsed_s < starts_s + lasts_s:
            signals[f"tank_{tank}.demand"] = draw
    for slot in ("1a", "1b", "2a", "2b"):
        signals |= {f"order_{slot}.{key}": value for key, value in _EMPTY_ORDER.items()}
    signals["order_2a.start"] = (end + timedelta(minutes=31)).timestamp()
    signals |= {"order_2a.draw": 7.4, "order_2a.duration": 12.0}
    return signals


def fill(historian: Historian, plant: Plant, end: datetime = NOON, hours: float = 4.0) -> None:
    """Register the plant, with its first stages, and store what it lived through."""
    historian.register(plant)
    historian.start_stages(plant, end - timedelta(hours=hours))
    historian.store(lived(plant, end, hours))


def beats(
    historian: Historian,
    plant: Plant,
    wall_now: datetime,
    plant_now: datetime = NOON,
    speed: float = 20.0,
) -> None:
    """A sign of life of each process; the collector's tells the plant's clock."""
    historian.beat(plant, "collect", wall_now, 101, clock_detail(plant_now, speed, link="live"))
    told = '{"coverage90": 0.91, "coverage_count": 240}'
    historian.beat(plant, "plan", wall_now, 102, told)
    historian.beat(plant, "write", wall_now, 103, "waiting for accepted proposals")


def proposal(
    plant: Plant,
    proposal_id: str = "p-1",
    *,
    created_at: datetime = NOON,
    wall_now: datetime,
    open_wall_s: float = 60.0,
    setpoints: Mapping[str, float] | None = None,
    refusals: tuple[str, ...] = (),
    speed: float = 20.0,
) -> Proposal:
    """A proposal as the planner publishes it: open, or refused where `refusals` says why."""
    moves = {"pump_1.setpoint": 9.35, "pump_2.setpoint": 7.6} if setpoints is None else setpoints
    steps = plant.horizon_steps
    ramp = np.linspace(0, 1, steps)
    paths = {"pump_1.setpoint": 9.35 - 1.5 * ramp, "pump_2.setpoint": 7.6 + 1.1 * ramp}
    plan = Plan(
        status=PlanStatus.SOLVED,
        reason="solved",
        start=created_at,
        step_s=plant.step_s,
        moves=paths,
        predicted={tag.name: fan_middle(i, steps) for i, tag in _cvs(plant)},
        cost_per_h=32.4,
        hold_cost_per_h=41.1,
        binding=("tank_1.level low",),
        solve_ms=24.0,
    )
    return Proposal(
        proposal_id=proposal_id,
        plant=plant.plant,
        created_at=created_at,
        expires_at=created_at + timedelta(seconds=open_wall_s * speed),
        open_until_wall=wall_now + timedelta(seconds=open_wall_s),
        current={"pump_1.setpoint": 8.81, "pump_2.setpoint": 8.02},
        setpoints=moves,
        plan=plan,
        forecast=_forecast(plant, created_at, steps),
        verdict=Verdict(not refusals, refusals, created_at, moves),
        status=ProposalStatus.REFUSED if refusals else ProposalStatus.OPEN,
        reason=(
            "Over the next hour this saves 8.70 ct/h against holding. "
            "Prepares for the batch of 7.4 cm**3/s on tank_2.demand."
        ),
        benefit_per_h=8.7,
        binding=plan.binding,
        model="physics+residual 3",
    )


def fan_middle(number: int, steps: int) -> Series:
    """A level's path: a start of its own, a slow rise, a dip for a batch."""
    at = np.arange(1, steps + 1)
    start = (9.5, 11.0, 1.3, 1.2)[number]
    dip = np.where((at > 30) & (at <= 44), at - 30, np.where(at > 44, 14 * 0.94 ** (at - 44), 0))
    depth = (0.02, 0.14, 0.0, 0.0)[number]
    return start + 0.02 * at * (number < 2) - depth * dip


def _forecast(plant: Plant, start: datetime, steps: int) -> Forecast:
    width = 0.15 + 0.02 * np.arange(1, steps + 1)
    middle = {tag.name: fan_middle(i, steps) for i, tag in _cvs(plant)}
    share = {name: 0.35 if values[0] < 5 else 1.0 for name, values in middle.items()}
    return Forecast(
        start=start,
        step_s=plant.step_s,
        model="physics+residual 3",
        replications=50,
        seed=7,
        middle=middle,
        low={name: values - share[name] * width for name, values in middle.items()},
        high={name: values + share[name] * width for name, values in middle.items()},
        cost_per_h=32.4,
        holding={name: values - share[name] * 2.5 * width for name, values in middle.items()},
    )


def _cvs(plant: Plant) -> list[tuple[int, Tag]]:
    return list(enumerate(plant.with_role(Role.CV)))


def database(folder: Path) -> str:
    """The URL of a database file in `folder`."""
    return f"sqlite:///{folder / 'page.db'}"
