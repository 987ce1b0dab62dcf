"""Slabs on their way as the Pyomo plan sees them: few packs of neighbours, given as numbers.

Where a pack stands, when it leaves and what it is are parameters of the model: nothing is built
anew when the beam steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optimizer import slab_equations as eq
from optimizer.slab_cost import Aim
from twin.furnace.numbers import zone_shares
from twin.furnace.rollout import conductivity_of
from twin.furnace.state import FurnaceState, Slab
from twin.plant.furnace import Furnace
from twin.records import Series

NODES = 3  # of half a slab
SCALE = 10.0  # kg/m² of steel burned away in the model's unit
MOST_GONE = 2  # packs that leave within a step, at most


@dataclass(frozen=True)
class Grid:
    """How coarse the plan is: slabs `together` as one pack, steps in minutes.

    `places`: packs that can be inside within one step: a full furnace and what leaves and comes.
    Every block of the plan's setpoints ends with a step.
    """

    together: int
    places: int
    steps_min: tuple[int, ...] = (10,) * 6 + (14,) * 10


#: A pair that is charged in the last minutes of a step may find no place before the next one.
PAIRS, THREES = Grid(together=2, places=15), Grid(together=3, places=12)


@dataclass(frozen=True)
class Schedule:
    """Packs on their way. Axes: step, place (0 leaves next), zone.

    `around` is each zone's part of a pack's surroundings while it is inside, `present` the share of
    the step that it is. `first` (edge between steps): the pack at place 0. `leaves`: pack that
    leaves within the plan -> the step it does so in.
    """

    around: Series
    present: Series
    first: tuple[int, ...]
    leaves: Mapping[int, int]


def schedule(furnace: Furnace, grid: Grid, leaves: Sequence[int]) -> Schedule:
    """Where packs stand while slabs leave at minutes `leaves`."""
    edges = np.concatenate([[0], np.cumsum(grid.steps_min)])
    share = zone_shares(furnace)
    gone = np.searchsorted(np.asarray(leaves), np.arange(edges[-1] + 1), side="right")  # by minute
    first = [int(gone[edge]) // grid.together for edge in edges]
    around = np.tile(share[0], (len(grid.steps_min), grid.places, 1))
    present = np.zeros((len(grid.steps_min), grid.places))
    for k, length in enumerate(grid.steps_min):
        for place in range(grid.places):
            slabs = grid.together * (first[k] + place) + np.arange(grid.together)
            slots = furnace.slots - 1 - (slabs[:, None] - gone[None, edges[k] : edges[k + 1]])
            inside = slots[(slots >= 0) & (slots < furnace.slots)]
            present[k, place] = len(inside) / length / grid.together
            if len(inside):
                around[k, place] = share[inside].mean(axis=0)
    ends = [leaves[grid.together * (p + 1) - 1] for p in range(len(leaves) // grid.together)]
    steps = {p: int(np.searchsorted(edges, end, side="left")) - 1 for p, end in enumerate(ends)}
    return Schedule(around, present, tuple(first), {p: k for p, k in steps.items() if k >= 0})


def parameters(
    furnace: Furnace, grid: Grid, state: FurnaceState, leaves: Sequence[int], aim: Aim
) -> dict[tuple[Any, ...], float]:
    """The model's numbers, but for the bounds of its setpoints."""
    when = schedule(furnace, grid, leaves)
    known = [*(each.slab for each in state.slabs), *(state.yard or (state.slabs[-1].slab,))]
    packs = [_together(furnace, grid, state, known, p) for p in range(when.first[-1] + grid.places)]
    told: dict[tuple[Any, ...], float] = {
        ("uneven", 0): float(aim.difference_k.mean()),
        ("surface", 0): float(aim.surface_k.mean()),
    }
    for z, zone in enumerate(state.zones):
        told["extra", z] = zone.extra_w / eq.TEN_MW
        told["gas", z] = zone.gas_c / eq.HUNDRED_K
        told["wall", z] = zone.wall_c / eq.HUNDRED_K
    for place in range(grid.places):
        pack = packs[when.first[0] + place]
        told |= {("begin", place, i): h for i, h in enumerate(pack.nodes)}
        told["scale", place] = pack.scale2 / SCALE**2
    for k in range(len(grid.steps_min)):
        for shift in range(MOST_GONE + 1):
            moved = when.first[k] - when.first[max(k - 1, 0)]
            told["shift", k, shift] = float(min(moved, MOST_GONE) == shift)
        for place in range(grid.places):
            pack = packs[when.first[k] + place]
            told["present", k, place] = when.present[k, place]
            told |= {("around", k, place, z): w for z, w in enumerate(when.around[k, place])}
            told["size", k, place] = pack.thickness_m
            told["grade", k, place] = pack.grade
            told["emissivity", k, place] = pack.emissivity
            told["charge", k, place] = pack.charge
            among = slice(grid.together * pack.number, grid.together * (pack.number + 1))
            is_judged = pack.number in when.leaves
            told["aim", k, place] = float(aim.mean_k[among].mean()) if is_judged else 1.0
            told["leaves", k, place] = float(when.leaves.get(when.first[k] + place) == k)
    for place in range(grid.places):
        number = when.first[-2] + place
        slabs = grid.together * number + np.arange(grid.together)
        gone = int(np.searchsorted(leaves, sum(grid.steps_min), side="right"))
        told["stays", place] = float(np.mean((slabs >= gone) & (slabs < gone + furnace.slots)))
    return told


@dataclass(frozen=True)
class _Pack:
    """Neighbouring slabs as one: their means. `nodes` (core to face) and `charge` 1e5 J/kg."""

    number: int
    thickness_m: float
    grade: float
    emissivity: float
    charge: float
    nodes: tuple[float, ...]
    scale2: float  # kg²/m⁴


def _together(
    furnace: Furnace, grid: Grid, state: FurnaceState, known: Sequence[Slab], number: int
) -> _Pack:
    both = [min(grid.together * number + i, len(known) - 1) for i in range(grid.together)]
    slabs = [known[i] for i in both]
    percent = [state.emissivity_percent.get(slab.grade, 0.0) for slab in slabs]
    charge = float(np.mean([eq.enthalpy_of(furnace, slab.charge_c) for slab in slabs]))
    nodes = []
    for i, more in zip(both, percent, strict=True):
        if i < len(state.slabs):
            each = state.slabs[i]
            t_c = np.array(each.node_c) + more * np.array(each.per_emissivity_k[:-1])
            nodes.append(_resampled([eq.enthalpy_of(furnace, t) for t in t_c]))
        else:
            nodes.append(np.full(NODES, eq.enthalpy_of(furnace, known[i].charge_c)))
    inside = [state.slabs[i].scale2 if i < len(state.slabs) else 0.0 for i in both]
    return _Pack(
        number,
        float(np.mean([slab.thickness_m for slab in slabs])),
        float(np.mean([conductivity_of(furnace, slab.grade) for slab in slabs])),
        furnace.emissivity * (1.0 + float(np.mean(percent)) / 100.0),
        charge,
        tuple(np.mean(nodes, axis=0).tolist()),
        float(np.mean(inside)),
    )


def _resampled(h: Sequence[float]) -> Series:
    """Cells' enthalpies on `NODES` cells; what lies in them together stays."""
    up_to = np.concatenate([[0.0], np.cumsum(h)]) / len(h)
    at = np.linspace(0.0, 1.0, NODES + 1)
    cells: Series = np.diff(np.interp(at, np.linspace(0.0, 1.0, len(h) + 1), up_to)) * NODES
    return cells
