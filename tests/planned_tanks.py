"""Tanks so simple that their best plan is known on paper, and records that planners are asked with.

A tool of the tests. Every tank has a linear outlet of 0.5 cm²/s over 100 cm², so a constant
inflow u ends at the level 2u with a time constant of 200 s.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from twin.physics import Physics, load_physics
from twin.plant import Plant, read_plant
from twin.records import BAD, GOOD, Estimate, PlantState, Reading, Series
from twin.state import plant_state

AT = datetime(2026, 1, 5, 12, tzinfo=UTC)
PUMP, LEVEL, DEMAND, INFLOW = "pump.setpoint", "tank.level", "tank.demand", "tank.inflow"
FOUR_TANK = read_plant("four_tank")

_PHYSICS = """
STATES = {states}
INPUTS = ("tank.inflow", "tank.demand")
OUTPUTS = ("tank.inflow",)
NOMINAL = {{"area": 100.0, "outlet": 0.5}}

def actuators(signals, p, f):
    return {{"tank.inflow": signals["pump.setpoint"], "tank.demand": signals["tank.demand"]}}

def rates(x, inputs, p, f):
    flow = inputs["tank.inflow"] - inputs["tank.demand"]
    return {{name: (flow - p["outlet"] * x[name]) / p["area"] for name in STATES}}

def outputs(x, inputs, p, f):
    return {{"tank.inflow": inputs["tank.inflow"]}}
"""

_PLANT = """
plant: tank
title: Tanks behind one pump
step_s: {step_s}
sample_s: {step_s}
horizon_steps: 60
opcua:
  endpoint: opc.tcp://127.0.0.1:48499/tank
  namespace: urn:plantwright:test:tank
  security: {{policy: None}}
physics: physics.py
tags:
  - name: pump.setpoint
    node: pump.setpoint
    role: MV
    unit: cm**3/s
    engineering: {{low: 0, high: 20}}
    operator: {{low: 0, high: {pump_high}}}
    rate_limit_per_min: 6
    move_budget_per_h: 500
    requires: [pump.setpoint, {first}]
    relief:
      - {{cv: {first}, side: low, direction: up}}
      - {{cv: {first}, side: high, direction: down}}
    max_age_s: 1200
{cvs}
  - name: tank.demand
    node: tank.demand
    role: DV
    unit: cm**3/s
    aggregate: mean
    max_age_s: 1200
  - name: tank.inflow
    node: tank.inflow
    role: AUX
    unit: cm**3/s
    aggregate: mean
    max_age_s: 1200
economics:
  currency: ct
  parameters: {{pump_price: {{value: {price}, unit: ct/L}}}}
  cost_per_h: pump_price * pump.setpoint
  limit_price_per_min: 0.2
"""

_CV = """
  - name: {name}
    node: {name}
    role: CV
    unit: cm
    engineering: {{low: 0, high: {top}}}
    operator: {{low: {low}, high: {high}}}
    rank: {rank}
    soft_price_per_h: {soft}
    margin_low: {margin_low}
    max_age_s: 1200
"""


def tank_plant(
    folder: Path,
    *,
    price: float = 2.0,
    soft: float = 0.0,
    low: float = 4.5,
    high: float = 50.0,
    margin_low: float = 0.5,
    top: float = 60.0,
    pump_high: float = 20.0,
    step_s: int = 60,
) -> tuple[Plant, Physics]:
    """One tank. Pumping costs 3.6 × `price` ct/h for each cm³/s."""
    cv = {"name": LEVEL, "low": low, "high": high, "rank": 1, "soft": soft}
    return _read(
        folder,
        [cv | {"margin_low": margin_low, "top": top}],
        {"price": price, "pump_high": pump_high, "step_s": step_s},
    )


def torn_plant(folder: Path, *, rank_a: int, rank_b: int) -> tuple[Plant, Physics]:
    """Two equal tanks behind one pump: a wants at least 12 cm, b at most 8 cm."""
    common = {"soft": 100, "margin_low": 0, "top": 60}
    a = {"name": "tank_a.level", "low": 12, "high": 50, "rank": rank_a}
    b = {"name": "tank_b.level", "low": 1, "high": 8, "rank": rank_b}
    return _read(folder, [a | common, b | common], {"price": 0.0, "pump_high": 20, "step_s": 60})


def _read(
    folder: Path, cvs: list[dict[str, object]], values: Mapping[str, object]
) -> tuple[Plant, Physics]:
    folder.mkdir(parents=True, exist_ok=True)
    names = tuple(str(cv["name"]) for cv in cvs)
    (folder / "physics.py").write_text(_PHYSICS.format(states=names), encoding="utf-8")
    blocks = "".join(_CV.format(**cv) for cv in cvs)
    path = folder / "plant.yaml"
    path.write_text(_PLANT.format(cvs=blocks, first=names[0], **values), encoding="utf-8")
    plant = read_plant(path)
    return plant, physics_of(plant)


def physics_of(plant: Plant) -> Physics:
    """The plant's equations, which every plant here has."""
    physics = load_physics(plant)
    assert physics is not None
    return physics


def readings_of(
    values: Mapping[str, float | None], at: datetime, bad: tuple[str, ...] = ()
) -> dict[str, Reading]:
    """The newest reading of each tag, taken at `at`; those in `bad` have Bad quality."""
    return {
        tag: Reading(tag, value, BAD if tag in bad else GOOD, at, at)
        for tag, value in values.items()
    }


def state_of(
    plant: Plant,
    values: Mapping[str, float],
    at: datetime = AT,
    *,
    bad: tuple[str, ...] = (),
) -> PlantState:
    """The plant at `at`; a tag that has no value was never read."""
    return plant_state(plant, readings_of(values, at, bad), at)


def estimate_of(physics: Physics, levels: Mapping[str, float], at: datetime = AT) -> Estimate:
    """These levels, with nothing missed."""
    return Estimate(at, dict(levels), dict.fromkeys(physics.states, 0.0))


def constant(plant: Plant, values: Mapping[str, float]) -> dict[str, Series]:
    """Each value over the plant's whole horizon."""
    return {name: np.full(plant.horizon_steps, value) for name, value in values.items()}


def steps_after(start: datetime, count: int, step_s: float = 60.0) -> datetime:
    """So many plan steps later."""
    return start + timedelta(seconds=count * step_s)
