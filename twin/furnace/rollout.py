"""Where every slab and zone goes along zone setpoints, from one state of the furnace.

A `Rollout` is prepared once and asked for many setpoint paths. When slabs leave is given, not
found: who stops the mill and for how long is the simulation's and the planner's to say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from twin.furnace import kernel
from twin.furnace.numbers import STEP_S, numbers
from twin.furnace.residual import forked, loops_of
from twin.furnace.state import FurnaceState, Slab, ZoneState
from twin.furnace.steel import enthalpy, steel
from twin.plant.furnace import Furnace
from twin.records import Series

NODES = 4  # of half a slab; their agreement with finer ones is tested
SLOWEST, FASTEST = 0.1, 10.0  # a mill's pace beyond is none; assumed, wide


@dataclass(frozen=True)
class Passage:
    """What one path does. Axes: slab in leaving order, step, zone.

    `mean_c`, `difference_k`, `surface_c`, `scale_kg_per_m2` at leaving; `fuel_w` and `gas_c` by
    step; `stored_j` is the heat of slabs inside, gas and walls at the end.
    """

    mean_c: Series
    difference_k: Series
    surface_c: Series
    scale_kg_per_m2: Series
    fuel_w: Series
    gas_c: Series
    hottest_c: float
    stored_j: float


class Rollout:
    """Rollouts of `furnace` from `state`. `leaves`: step at whose beginning each slab leaves.

    Slabs that are charged after the yard's last known one are like that one. `leaving` are the
    slabs that leave, in their order. Raises ValueError where `leaves` does not ascend, or as
    `check_full` does.
    """

    def __init__(self, furnace: Furnace, state: FurnaceState, leaves: Sequence[int]) -> None:
        check_full(furnace, state)
        self._furnace, self._steel = numbers(furnace), steel(furnace)
        self._leaves = np.asarray(leaves, dtype=np.int64)
        if (np.diff(self._leaves) < 0).any():
            raise ValueError(f"slabs leave in turn, but their steps do not ascend: {list(leaves)}")
        coming = _coming(state, len(leaves))
        self._slabs = _slabs(furnace, state, coming, self._steel)
        self._slots = furnace.slots
        self._zones = zones_of(state.zones)
        self._extra_w = np.array([zone.extra_w for zone in state.zones])
        self._loops = loops_of(state.loops, self._zones.ramped)
        inside = [each.slab for each in state.slabs]
        self.leaving: tuple[Slab, ...] = (*inside, *coming)[: len(self._leaves)]

    @property
    def begins_with_j(self) -> float:
        """The heat in store before the first step, counted as `Passage.stored_j` is."""
        return self._stored_j(self._slabs, self._zones, 0)

    def run(self, setpoints_c: Series) -> Passage:
        """Along `setpoints_c` (step, zone). The rollout itself stays as it was."""
        slabs = kernel.Slabs(*(field.copy() for field in self._slabs))
        zones = kernel.Zones(*(field.copy() for field in self._zones))
        left = np.zeros((len(self._leaves), 4))
        seen = np.empty((len(setpoints_c), 2 * setpoints_c.shape[1]))
        hottest_c = kernel.roll(
            self._steel, self._furnace, slabs, zones, forked(self._loops), self._extra_w,
            self._leaves, setpoints_c, STEP_S, left, seen,
        )  # fmt: skip
        count = setpoints_c.shape[1]
        return Passage(
            mean_c=left[:, kernel.MEAN],
            difference_k=left[:, kernel.DIFFERENCE],
            surface_c=left[:, kernel.FACE],
            scale_kg_per_m2=left[:, kernel.SCALE],
            fuel_w=seen[:, :count],
            gas_c=seen[:, count:],
            hottest_c=float(hottest_c),
            stored_j=self._stored_j(slabs, zones, len(setpoints_c)),
        )

    def _stored_j(self, slabs: kernel.Slabs, zones: kernel.Zones, steps: int) -> float:
        first = int(np.searchsorted(self._leaves, steps))
        inside = slice(first, first + self._slots)
        kg = slabs.thickness[inside] * self._furnace.face_m2 * kernel.DENSITY
        heat = float((slabs.enthalpy[inside].mean(axis=1) * kg).sum())
        lumps = self._furnace.lump_j_per_k @ zones.gas + self._furnace.wall_j_per_k @ zones.wall
        return heat + float(lumps)


def leaving_steps(
    furnace: Furnace,
    state: FurnaceState,
    steps: int,
    *,
    pace: float,
    pace_min: float = math.inf,
    restart_s: float | None,
) -> list[int]:
    """At which of `steps` each slab leaves, as its mill rate and `pace` say.

    `pace` scales every slab's rate for the next `pace_min` minutes. `restart_s`: how long the mill
    still stands, from now; None while it rolls. A slab leaves in the step in which it is due, as
    tracking would see it: the rounding does not add up. Raises ValueError as `check_full` does, and
    for a pace beyond `SLOWEST` and `FASTEST`.
    """
    check_full(furnace, state)
    if not is_pace(pace):
        raise ValueError(f"a pace of {pace:g} is none; give {SLOWEST:g} to {FASTEST:g}")
    due_s = max(0.0, (state.mill.due - state.at).total_seconds())
    due_s = max(due_s, restart_s or 0.0)
    leaves: list[int] = []
    inside = [each.slab for each in state.slabs]
    known = [*inside, *state.yard]
    while (step := math.ceil(due_s / STEP_S)) < steps:
        slab = known[min(len(leaves), len(known) - 1)]
        leaves.append(step)
        due_s += rolling_s(furnace, slab) / (pace if due_s < 60.0 * pace_min else 1.0)
    return leaves


def check_full(furnace: Furnace, state: FurnaceState) -> None:
    """Raises ValueError unless every slot of `state` holds a slab, as tracking always has it.

    The equations know no gap between slabs: a furnace that is filled or emptied is tracked with
    slabs like their neighbours in its empty slots, in doubt.
    """
    if len(state.slabs) != furnace.slots:
        raise ValueError(
            f"{len(state.slabs)} slabs are tracked at {state.at}, but {furnace.name} has "
            f"{furnace.slots} slots and each holds one; check the slab records"
        )


def is_pace(number: float) -> bool:
    """Whether a mill can have that pace, over its schedule's."""
    return SLOWEST <= number <= FASTEST


def rolling_s(furnace: Furnace, slab: Slab) -> float:
    """How long the mill takes for a slab at its own rate, at pace 1."""
    return 3600.0 * mass_t(furnace, slab) / slab.rate_t_per_h


def mass_t(furnace: Furnace, slab: Slab) -> float:
    """A slab's tonnes."""
    return slab.thickness_m * furnace.face_m2 * kernel.DENSITY / 1000.0


def zones_of(zones: Sequence[ZoneState]) -> kernel.Zones:
    """Zones as the compiled equations take them, in arrays of their own."""
    return kernel.Zones(
        gas=np.array([zone.gas_c for zone in zones]),
        wall=np.array([zone.wall_c for zone in zones]),
        ramped=np.array([zone.followed_c for zone in zones]),
        fuel=np.array([zone.fuel_w for zone in zones]),
    )


def _coming(state: FurnaceState, count: int) -> tuple[Slab, ...]:
    known = state.yard or (state.slabs[-1].slab,)
    return (*known[:count], *(known[-1],) * max(0, count - len(known)))


def _slabs(
    furnace: Furnace, state: FurnaceState, coming: Sequence[Slab], tables: kernel.Steel
) -> kernel.Slabs:
    inside = state.slabs
    slabs = [*(each.slab for each in inside), *coming]
    percent = np.array([state.emissivity_percent.get(slab.grade, 0.0) for slab in slabs])
    node = np.empty((len(slabs), NODES))
    face = np.array([slab.charge_c for slab in slabs])
    node[:] = face[:, None]
    for i, each in enumerate(inside):
        per = np.array(each.per_emissivity_k)
        node[i] = np.array(each.node_c) + percent[i] * per[:-1]
        face[i] = each.face_c + percent[i] * per[-1]
    scale2 = np.zeros(len(slabs))
    scale2[: len(inside)] = [each.scale2 for each in inside]
    return kernel.Slabs(
        enthalpy=enthalpy(tables, node),
        node=node,
        face=face,
        scale2=scale2,
        thickness=np.array([slab.thickness_m for slab in slabs]),
        conductivity=np.array([conductivity_of(furnace, slab.grade) for slab in slabs]),
        emissivity=furnace.emissivity * (1.0 + percent / 100.0),
    )


def conductivity_of(furnace: Furnace, grade: int) -> float:
    """Conductivity over carbon steel's; a grade nobody has described is the mean of the known."""
    known = furnace.grades.get(grade)
    return known if known is not None else sum(furnace.grades.values()) / len(furnace.grades)
