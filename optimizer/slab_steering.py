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

from optimizer.moves import rounded_towards, within_room
from optimizer.slab_moves import block_bounds, moved_mvs, paces
from optimizer.slab_plan import LastPlan, SlabPlanner
from twin.furnace.state import FurnaceState
from twin.plant import Plant
from twin.records import Stage
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
        *self._mvs, self._pace = moved_mvs(plant)
        self._fixed = fixed
        self._keeps_pace = self._pace in fixed or mill.tonne_worth is None
        self._stand = {mv: setpoints[mv] for mv in moved_mvs(plant)}
        self._moved: list[tuple[datetime, str, float]] = []  # the last hour's
        self._last: LastPlan | None = None

    def __call__(self, seen: FurnaceState) -> Mapping[str, float]:
        """Where every zone's setpoint and the pace stand from now on."""
        current = np.array([self._stand[mv] for mv in self._mvs])
        context = self._context(seen.at)
        start_c = self._planner.start(seen.at, current, self._last)
        may_go = {mv: self._reach(mv, context, seen.at) for mv in self._mvs}
        low, high = block_bounds(self._plant, len(start_c), current, may_go, self._fixed)
        found = self._planner.plan(
            seen, start_c, low, high, current, self._paces(context, seen),
            keeps_pace=self._keeps_pace,
        )  # fmt: skip
        self._last = LastPlan(found.blocks_c, seen.at)
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
        may_go = self._reach(self._pace, context, seen.at)
        stands = self._pace in self._fixed or seen.mill.stopped_since is not None
        return paces(self._stand[self._pace], None if stands else may_go)

    def _reach(self, mv: str, context: GateContext, now: datetime) -> tuple[float, float]:
        """From where to where limits, rate and move budget let the MV go now."""
        # Without a rate or a budget in the plant file the gate lets nothing move.
        room = move_room(self._plant, mv, context, now) or 0.0
        return within_room(self._plant.tag(mv), self._stand[mv], room)

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
