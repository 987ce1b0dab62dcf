"""A furnace full of one mix of slabs in which nothing changes, as a Pyomo model.

Written once per plant; `optimizer.slab_steady` compiles it and asks it rank by rank. Nothing here
solves anything. Each group's slab goes through all slots by the trapezoidal rule, one step in each;
zones stand at gas temperatures at which their heat balances.

Choices and measurements: docs/decisions/0009-slab-plan-gauss-newton-or-pyomo.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyomo.environ as pyo

from optimizer import slab_equations as eq
from optimizer.slab_cost import Pricing
from twin.furnace.chances import MEASURED
from twin.furnace.numbers import zone_shares
from twin.furnace.rollout import NODES
from twin.plant.furnace import Furnace, SlabSpec
from twin.records import Series

GROUPS = 4  # of like slabs; a yard's campaigns and those inside seldom are more
MONEY = 100.0  # money per hour in the model's unit
RANKS = ("limit", "quality", "money")  # variables that are spent, in the order they are settled
_SCALE = 10.0  # kg/m² of steel burned away in the model's unit
_AMONG = 1e-3  # share of a group that repeats another: its slacks must have a price too


@dataclass(frozen=True)
class Limits:
    """What must hold, °C: setpoints (zone) from `low_c` to `high_c`, slab faces."""

    low_c: Series
    high_c: Series
    surface_c: float


def steady_model(furnace: Furnace, limits: Limits, pricing: Pricing) -> pyo.ConcreteModel:
    """The model; its `parameter` holds the mix, what was learned, and the weights of the ranks.

    `limit` and `quality` are how far limits and spec give way, 100 K. Parameters are variables: a
    mutable Param would be folded into the .nl as a constant.
    """
    model, zones = pyo.ConcreteModel(), eq.ZoneEquations(furnace)
    groups, count = range(GROUPS), len(furnace.zones)
    of_group = ("thickness", "charge", "grade", "emissivity", "share", "sd")
    model.parameter = pyo.Var(
        [(name, g) for name in of_group for g in groups]
        + [("extra", z) for z in range(count)]
        + [("weight", rank) for rank in range(len(RANKS))]
        + [("interval", 0)],
        initialize=0.0,
    )
    middle = (limits.low_c + limits.high_c) / 2.0 / eq.HUNDRED_K
    model.gas = pyo.Var(range(count), initialize=dict(enumerate(middle)), bounds=(3.0, 14.0))
    model.fuel = pyo.Var(
        range(count), bounds=lambda _, z: (zones.fuel_low[z], zones.fuel_high[z]), initialize=1.0
    )
    model.limit = pyo.Var(
        [("surface", g) for g in groups]
        + [(side, z) for side in ("below", "above") for z in range(count)],
        bounds=(0.0, None),
        initialize=0.01,
    )
    model.quality = pyo.Var(["cold", "warm", "uneven"], groups, bounds=(0.0, None), initialize=0.01)
    model.holds = pyo.ConstraintList()
    drawn = _slabs(model, furnace, limits.surface_c)
    for z in range(count):
        needs = drawn[z] + model.parameter["extra", z]
        needs += zones.losses(z, model.gas) + zones.through_wall(z, model.gas[z])
        fuel = [model.fuel[n] for n in range(count)]
        model.holds.add(zones.surplus(z, model.gas, fuel, needs) == 0)
        model.holds.add(model.gas[z] >= limits.low_c[z] / eq.HUNDRED_K - model.limit["below", z])
        model.holds.add(model.gas[z] <= limits.high_c[z] / eq.HUNDRED_K + model.limit["above", z])
    model.holds.add(sum(model.fuel.values()) <= zones.header)
    _spend(model, furnace, pricing)
    return model


def _slabs(model: pyo.ConcreteModel, furnace: Furnace, surface_c: float) -> list[Any]:
    """Every group's way through the furnace; what the mix draws from each zone, 10 MW."""
    groups, slots = range(GROUPS), furnace.slots
    p, share, interval = model.parameter, zone_shares(furnace), model.parameter["interval", 0]
    nodes = range(NODES)
    way = np.linspace(0.3, 12.2, slots + 1)
    steps, inside = range(slots + 1), range(1, slots + 1)
    model.t = pyo.Var(
        groups, steps, nodes, initialize=lambda _, g, k, i: way[k], bounds=(-0.5, 14.5)
    )
    model.h = pyo.Var(
        groups, inside, nodes, initialize=lambda _, g, k, i: 0.68 * way[k], bounds=(-0.1, 9.9)
    )
    model.face = pyo.Var(
        groups, steps, initialize=lambda _, g, k: way[k] + 0.5, bounds=(-0.5, 14.5)
    )
    curve = eq.steel_curve(furnace)
    once = eq.Once(model)
    gas4 = [once((gas + eq.KELVIN) ** 4) for gas in model.gas.values()]
    edges = np.vstack([share[:1], 0.5 * (share[1:] + share[:-1]), share[-1:]])
    around4 = [
        once(sum(float(s) * g4 for s, g4 in zip(row, gas4, strict=True) if s)) for row in edges
    ]
    drawn = [0.0] * len(gas4)
    per_flux = eq.FLUX / eq.TEN_MW * furnace.face_m2  # two halves
    for g in groups:
        size, grade = p["thickness", g], p["grade", g]
        gained: list[list[Any]] = []
        inward: list[Any] = []
        for k in range(slots + 1):
            t, face = [model.t[g, k, i] for i in nodes], model.face[g, k]
            taken = eq.radiated(p["emissivity", g], around4[k], face)
            fluxes = [0.0, *eq.inward_fluxes(once, t, face, size, grade)]
            inward.append(fluxes[-1])
            model.holds.add(taken == inward[k])
            gained.append([fluxes[i + 1] - fluxes[i] for i in nodes])
            for i in nodes:
                h = model.h[g, k, i] if k else p["charge", g]
                model.holds.add(t[i] == curve.temperature(h))
                if k:
                    before = model.h[g, k - 1, i] if k > 1 else p["charge", g]
                    mean = 0.5 * (gained[k][i] + gained[k - 1][i])
                    step = eq.heating(mean, NODES, size, interval)
                    model.holds.add(h == before + step)
            if 2 * k > slots:
                limit = surface_c / eq.HUNDRED_K + model.limit["surface", g]
                model.holds.add(face <= limit)
        for k in range(slots):
            for z in range(len(gas4)):
                if share[k, z]:
                    part = per_flux * float(share[k, z]) * p["share", g]
                    drawn[z] += part * (inward[k] + inward[k + 1])  # their mean, twice: two faces
    return drawn


def _spend(model: pyo.ConcreteModel, furnace: Furnace, pricing: Pricing) -> None:
    """What every group leaves like, what that and the fuel cost, and the ranked objective."""
    p, spec, groups, last = model.parameter, furnace.spec, range(GROUPS), furnace.slots
    names = ("mean", "difference", "scale", "chance")
    for name in names:
        setattr(model, name, pyo.Var(groups, initialize=0.5))
    for g in groups:
        model.scale[g].setlb(0.0)  # its square alone would have a negative root, which pays
    model.money = pyo.Var([0], initialize=20.0)
    face_t = 2.0 * furnace.face_m2 / 1000.0  # t per kg/m² of a face
    uneven_sd = math.hypot(MEASURED.difference_k[1], pricing.coming_sd_k[1]) / eq.HUNDRED_K
    per_slab = 0.0
    for g in groups:
        t = [model.t[g, last, i] for i in range(NODES)]
        model.holds.add(model.mean[g] == sum(t) / NODES)
        model.holds.add(model.difference[g] == model.face[g, last] - t[0])
        grown = [eq.growth(furnace, model.face[g, k]) for k in range(last + 1)]
        square = p["interval", 0] * (sum(grown) - 0.5 * (grown[0] + grown[last]))
        model.holds.add(model.scale[g] ** 2 == square / _SCALE**2)
        chance = _chance(spec, model.mean[g], model.difference[g], p["sd", g], uneven_sd)
        model.holds.add(model.chance[g] == chance)
        low, high = (limit / eq.HUNDRED_K for limit in spec.mean_c)
        model.holds.add(model.mean[g] >= low - model.quality["cold", g])
        model.holds.add(model.mean[g] <= high + model.quality["warm", g])
        most = spec.difference_k / eq.HUNDRED_K
        model.holds.add(model.difference[g] <= most + model.quality["uneven", g])
        burned = spec.steel_price_per_t * face_t * _SCALE * model.scale[g]
        off_spec = spec.off_spec_price * (1.0 - model.chance[g])
        money = burned + off_spec
        per_slab += p["share", g] * money
    fuel = spec.fuel_price_per_mwh * eq.TEN_MW / 1e6 * sum(model.fuel.values())
    per_h = fuel + per_slab * 3600.0 / p["interval", 0]
    model.holds.add(model.money[0] == per_h / MONEY)
    off = sum((p["share", g] + _AMONG) * model.quality[kind, g] for kind, g in model.quality)
    ranks = (sum(model.limit.values()), off, model.money[0])
    model.spent = pyo.Objective(expr=sum(p["weight", i] * rank for i, rank in enumerate(ranks)))


def _chance(spec: SlabSpec, mean: Any, difference: Any, sd: Any, uneven_sd: float) -> Any:
    """Chance that a slab is in spec, as `twin.furnace.chances` has it, but for its surface."""
    low, high = (limit / eq.HUNDRED_K for limit in spec.mean_c)
    most = (spec.difference_k - MEASURED.difference_k[0]) / eq.HUNDRED_K
    even = eq.normal((most - difference) / uneven_sd)
    return (eq.normal((high - mean) / sd) - eq.normal((low - mean) / sd)) * even
