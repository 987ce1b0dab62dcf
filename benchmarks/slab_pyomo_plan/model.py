"""The furnace's dynamic plan as one Pyomo model, of fewer than 1,500 variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyomo.environ as pyo

from optimizer import slab_equations as eq
from optimizer.slab_cost import Pricing
from slab_pyomo_plan.packs import MOST_GONE, NODES, SCALE, Grid
from twin.furnace import kernel
from twin.furnace.numbers import STORED_WORTH, numbers
from twin.plant.furnace import Furnace

MONEY = 10.0  # money in the model's unit
_MWH = eq.TEN_MW / 1e6 / 60.0  # of 10 MW for a minute
_EARLY = 0.25  # weight of a step's first gas temperature in its mean: a move is over within 4 min
_LATE_PRICE = 0.8  # money per K and step that the gas is off its setpoint: more than that brings
_ROUGH = 0.03  # width of a rounded corner, in aims
_NO_SCALE = 1e-4  # keeps the slope of a root finite


class PlanModel:
    """The plan as a Pyomo model: setpoints by block; gas, walls, fuel and packs by step.

    Implicit midpoint rule. The gas is at its setpoint but for what a little money parts them.
    What it costs is what `SlabCost.judge` says, corners rounded.
    """

    def __init__(
        self, furnace: Furnace, grid: Grid, edges_min: Sequence[int], pricing: Pricing
    ) -> None:
        self._furnace, self._grid, self._edges_min = furnace, grid, edges_min
        self._pricing = pricing
        self._of, self._si = eq.ZoneEquations(furnace), numbers(furnace)
        self._zones, self._curve = range(len(furnace.zones)), eq.steel_curve(furnace)
        self.model = pyo.ConcreteModel()
        self._once = eq.Once(self.model)
        self._declare()
        self._cost = 0.0
        for k in range(len(self._grid.steps_min)):
            self._step(k)
        mwh = STORED_WORTH * self._stored_gj() / 3.6
        self._cost -= mwh * furnace.spec.fuel_price_per_mwh
        self.model.spent = pyo.Objective(expr=self._cost / MONEY)

    def _declare(self) -> None:
        model, zones = self.model, self._zones
        steps, places, nodes = (
            range(len(self._grid.steps_min)),
            range(self._grid.places),
            range(NODES),
        )
        asked: list[tuple[Any, ...]] = []
        asked += [(name, z) for name in ("extra", "gas", "wall") for z in zones]
        asked += [("begin", place, i) for place in places for i in nodes]
        asked += [("stays", place) for place in places]
        asked += [("shift", k, shift) for k in steps for shift in range(MOST_GONE + 1)]
        asked += [("around", k, place, z) for k in steps for place in places for z in zones]
        asked += [(name, 0) for name in ("uneven", "surface")]
        asked += [("scale", place) for place in places]
        of_pack = ("present", "size", "grade", "emissivity", "charge", "leaves", "aim")
        asked += [(name, k, place) for name in of_pack for k in steps for place in places]
        model.asked = pyo.Set(initialize=asked, dimen=None)
        model.parameter = pyo.Var(model.asked, initialize=0.0)
        blocks = range(len(self._edges_min))
        model.setpoint = pyo.Var(blocks, zones, initialize=12.0)
        model.late = pyo.Var(["up", "down"], steps, zones, bounds=(0.0, None), initialize=0.01)
        model.wall = pyo.Var(steps, zones, initialize=11.8)
        model.fuel = pyo.Var(
            steps, zones, initialize=1.0,
            bounds=lambda _, k, z: (self._of.fuel_low[z], self._of.fuel_high[z]),
        )  # fmt: skip
        model.h = pyo.Var(steps, places, nodes, initialize=5.0, bounds=(0.0, 9.5))
        model.face = pyo.Var(steps, places, initialize=9.0, bounds=(0.0, 14.0))
        model.scale2 = pyo.Var(steps, places, initialize=0.1, bounds=(0.0, None))
        model.holds = pyo.ConstraintList()

    def _gas(self, k: int, z: int) -> Any:
        """The gas at the end of step `k`; −1: at the beginning of the plan."""
        model = self.model
        if k < 0:
            return model.parameter["gas", z]
        begun = sum(self._grid.steps_min[:k])
        block = sum(edge <= begun for edge in self._edges_min) - 1
        return model.setpoint[block, z] + model.late["up", k, z] - model.late["down", k, z]

    def _before(self, k: int, place: int, i: int) -> Any:
        """Enthalpy at the beginning of step `k`, when packs have moved on into free places."""
        p, h = self.model.parameter, self.model.h
        if k == 0:
            return p["begin", place, i]
        came = [
            h[k - 1, place + shift, i]
            if place + shift < self._grid.places
            else p["charge", k, place]
            for shift in range(MOST_GONE + 1)
        ]
        return self._once(sum(p["shift", k, shift] * each for shift, each in enumerate(came)))

    def _step(self, k: int) -> None:
        """Zones through step `k`, the packs with them."""
        model, p, of, minutes = self.model, self.model.parameter, self._of, self._grid.steps_min[k]
        after = [self._gas(k, z) for z in self._zones]
        earlier = [self._gas(k - 1, z) for z in self._zones]
        gas = [self._once(_EARLY * earlier[z] + (1 - _EARLY) * after[z]) for z in self._zones]
        drawn, fuel = self._packs(k, gas), [model.fuel[k, z] for z in self._zones]
        per_k = eq.HUNDRED_K / (60.0 * minutes) / eq.TEN_MW
        up, down = (ramp * minutes / eq.HUNDRED_K for ramp in self._furnace.ramp_k_per_min)
        for z in self._zones:
            wall_before = model.wall[k - 1, z] if k else p["wall", z]
            wall = 0.5 * (wall_before + model.wall[k, z])
            into = of.into_wall(z, gas[z], wall)
            needs = drawn[z] + p["extra", z] + of.losses(z, gas) + into
            stored = float(self._si.lump_j_per_k[z]) * per_k * (after[z] - earlier[z])
            model.holds.add(of.surplus(z, gas, fuel, needs) == stored)
            kept = float(self._si.wall_j_per_k[z]) * per_k * (model.wall[k, z] - wall_before)
            model.holds.add(into - of.out_of_wall(z, wall) == kept)
            model.holds.add((-down, after[z] - earlier[z], up))
            late = model.late["up", k, z] + model.late["down", k, z]
            self._cost += _LATE_PRICE * eq.HUNDRED_K * late
        model.holds.add(sum(fuel) <= of.header)
        self._cost += _MWH * minutes * self._furnace.spec.fuel_price_per_mwh * sum(fuel)

    def _packs(self, k: int, gas: Sequence[Any]) -> list[Any]:
        """Every pack through step `k`; what they draw from each zone, 10 MW."""
        model, p, once, furnace = self.model, self.model.parameter, self._once, self._furnace
        gas4 = [once((at + eq.KELVIN) ** 4) for at in gas]
        drawn: list[Any] = [0.0 for _ in gas]
        faces_m2 = 2.0 * self._grid.together * furnace.slab_length_m * furnace.slab_width_m
        for place in range(self._grid.places):
            size, grade = p["size", k, place], p["grade", k, place]
            before = [self._before(k, place, i) for i in range(NODES)]
            after = [model.h[k, place, i] for i in range(NODES)]
            middle = [
                once(self._curve.temperature(0.5 * (b + a)))
                for b, a in zip(before, after, strict=True)
            ]
            around4 = sum(p["around", k, place, z] * gas4[z] for z in self._zones)
            face = model.face[k, place]
            fluxes = [0.0, *eq.inward_fluxes(once, middle, face, size, grade)]
            model.holds.add(eq.radiated(p["emissivity", k, place], around4, face) == fluxes[-1])
            seconds = 60.0 * self._grid.steps_min[k] * p["present", k, place]
            for i in range(NODES):
                net = fluxes[i + 1] - fluxes[i]
                model.holds.add(after[i] == before[i] + eq.heating(net, NODES, size, seconds))
            takes = once(eq.FLUX / eq.TEN_MW * faces_m2 * p["present", k, place] * fluxes[-1])
            for z in self._zones:
                drawn[z] += p["around", k, place, z] * takes
            grown = seconds * eq.growth(furnace, face) / SCALE**2
            model.holds.add(model.scale2[k, place] == self._scale_before(k, place) + grown)
            if place <= MOST_GONE:
                self._judge(k, place, [self._curve.temperature(h) for h in after])
        return drawn

    def _scale_before(self, k: int, place: int) -> Any:
        """Square of the steel burned away at the beginning of step `k`; none on what comes."""
        model, p = self.model, self.model.parameter
        if k == 0:
            return p["scale", place]
        moves = range(min(MOST_GONE + 1, self._grid.places - place))
        return sum(p["shift", k, shift] * model.scale2[k - 1, place + shift] for shift in moves)

    def _judge(self, k: int, place: int, at_end: Sequence[Any]) -> None:
        """What a pack costs if it leaves at the end of step `k`."""
        p, spec = self.model.parameter, self._furnace.spec
        t = [self._once(each) for each in at_end]
        mean = eq.HUNDRED_K * sum(t) / NODES
        ahead = (NODES - 1.0 / 3.0) / (2.0 * NODES - 2.0)  # as in `kernel`: the parabola's face
        face = eq.HUNDRED_K * (t[-1] + ahead * (t[-1] - t[-2]))
        outside = (
            (spec.mean_c[0] - mean) / p["aim", k, place],
            (mean - spec.mean_c[1]) / p["aim", k, place],
            (face - eq.HUNDRED_K * t[0] - spec.difference_k) / p["uneven", 0],
            (face - spec.surface_c) / p["surface", 0],
        )
        squares = sum(self._once(eq.hinge(each + 1.0, _ROUGH)) ** 2 for each in outside)
        price = 0.5 * spec.off_spec_price * squares
        faces_m2 = 2.0 * self._furnace.slab_length_m * self._furnace.slab_width_m
        burned_t = faces_m2 / 1e3 * SCALE * pyo.sqrt(self.model.scale2[k, place] + _NO_SCALE)
        price += spec.steel_price_per_t * burned_t
        self._cost += self._grid.together * p["leaves", k, place] * price

    def _stored_gj(self) -> Any:
        """Heat of slabs inside, gas and walls at the end."""
        furnace, model, last = self._furnace, self.model, len(self._grid.steps_min) - 1
        gj = eq.ENTHALPY / 1e9 * self._grid.together * furnace.slab_length_m * furnace.slab_width_m
        stored = 0.0
        for place in range(self._grid.places):
            metres = model.parameter["stays", place] * model.parameter["size", last, place]
            mean = sum(model.h[last, place, i] for i in range(NODES)) / NODES
            stored += gj * kernel.DENSITY * metres * mean
        for z in self._zones:
            lump, wall = self._si.lump_j_per_k[z], self._si.wall_j_per_k[z]
            at = float(lump) * self._gas(last, z) + float(wall) * model.wall[last, z]
            stored += eq.HUNDRED_K / 1e9 * at
        return stored
