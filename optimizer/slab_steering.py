"""The furnace's planner as it steers a simulated line: one policy per run.

It is asked every round with what tracking would show, plans, and moves zones and pace as far as
limits, rate and move budget let a live round go. What only a live plant has is not here: readings
that fail, interlocks, the gate. Nor is the steady target, to which a live plan leans a little: its
solver may run out of time on a busy machine, and equal runs shall be equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import numpy as np

from optimizer.controller import rounded_towards
from optimizer.slab_controller import PACE_STEP
from optimizer.slab_plan import SlabPlanner
from optimizer.transcription import hard_range
from twin.furnace.state import FurnaceState
from twin.plant import Plant
from twin.records import Series, Stage
from twin.safety import NEVER_MOVED, GateContext, move_room
from twin.simulation.line import line_of

_HOUR = timedelta(hours=1)


class SlabSteering:
    """Plans for one run of `plant`'s line, from `setpoints` (MV -> where it stands) on.

    `fixed` MVs stay where `setpoints` has them, and the plan knows it.
    """

    def __init__(
        self, plant: Plant, setpoints: Mapping[str, float], fixed: frozenset[str] = frozenset()
    ) -> None:
        furnace, mill = line_of(plant)
        self._plant, self._planner = plant, SlabPlanner(furnace, mill)
        self._mvs = [zone.setpoint for zone in furnace.zones]
        self._pace = mill.pace
        self._fixed = fixed
        self._stand = {mv: setpoints[mv] for mv in (*self._mvs, mill.pace)}
        self._moved: list[tuple[datetime, str, float]] = []  # the last hour's
        self._blocks_c: Series | None = None
        self._planned_at: datetime | None = None

    def __call__(self, seen: FurnaceState) -> Mapping[str, float]:
        """Where every zone's setpoint and the pace stand from now on."""
        current = np.array([self._stand[mv] for mv in self._mvs])
        context = self._context(seen.at)
        low, high = self._bounds(context, seen.at, current)
        found = self._planner.plan(
            seen, self._start(seen.at, current), low, high, current, self._paces(context, seen)
        )
        self._blocks_c, self._planned_at = found.blocks_c, seen.at
        targets = zip((*self._mvs, self._pace), (*found.blocks_c[0], found.pace), strict=True)
        for mv, target in targets:
            before = self._stand[mv]
            moved = rounded_towards(before, float(target), self._plant.tag(mv).decimals)
            if moved is not None:
                self._moved.append((seen.at, mv, abs(moved - before)))
                self._stand[mv] = moved
        return self._stand

    def _paces(self, context: GateContext, seen: FurnaceState) -> list[float]:
        """The paces that the mill may take now, the present one first."""
        present = self._stand[self._pace]
        room = move_room(self._plant, self._pace, context, seen.at)
        if room is None or self._pace in self._fixed or seen.mill.stopped_since is not None:
            return [present]
        low, high = hard_range(self._plant.tag(self._pace))
        low, high = max(low, present - room), min(high, present + room)
        beside = {round(present + change, 6) for change in (-PACE_STEP, PACE_STEP)} | {1.0}
        return [present, *sorted(each for each in beside - {present} if low <= each <= high)]

    def _start(self, now: datetime, current: Series) -> Series:
        """The last plan moved on to `now`, or standing still. (block, zone)"""
        if self._blocks_c is None or self._planned_at is None:
            return np.tile(current, (len(self._planner.tuning.block_edges_min), 1))
        passed_min = (now - self._planned_at).total_seconds() / 60.0
        return self._planner.moved_on(self._blocks_c, passed_min)

    def _bounds(
        self, context: GateContext, now: datetime, current: Series
    ) -> tuple[Series, Series]:
        """(block, zone) limits, and in the first block what rate and move budget leave."""
        ranges = np.array([hard_range(self._plant.tag(mv)) for mv in self._mvs])
        blocks = len(self._planner.tuning.block_edges_min)
        low, high = np.tile(ranges[:, 0], (blocks, 1)), np.tile(ranges[:, 1], (blocks, 1))
        for z, mv in enumerate(self._mvs):
            if mv in self._fixed:
                low[:, z] = high[:, z] = current[z]
                continue
            room = move_room(self._plant, mv, context, now) or 0.0
            low[0, z] = min(max(low[0, z], current[z] - room), high[0, z])
            high[0, z] = max(min(high[0, z], current[z] + room), low[0, z])
        return low, high

    def _context(self, now: datetime) -> GateContext:
        self._moved = [each for each in self._moved if now - each[0] < _HOUR]
        travel: dict[str, float | None] = {
            mv: sum(each[2] for each in self._moved if each[1] == mv) for mv in self._stand
        }
        last: dict[str, datetime | None] = {
            mv: max((each[0] for each in self._moved if each[1] == mv), default=NEVER_MOVED)
            for mv in self._stand
        }
        return GateContext(
            stages=dict.fromkeys(self._stand, Stage.CLOSED_LOOP),
            trust=None,
            travel_last_h=travel,
            last_moved_at=last,
            is_stopped=False,
        )
