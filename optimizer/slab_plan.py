"""The furnace's plan: zone setpoints in a few blocks and the mill's pace, judged by every slab.

Setpoints are sought by Gauss-Newton steps on rollouts; a slower pace is tried where slabs out of
spec would cost more than the tonnes that it holds back. While the mill stands, setpoints serve an
early, a middle and a late restart, as its crew's estimate and its age let one expect.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np

from optimizer.rti import Judged, iterate
from optimizer.slab_cost import Aim, Pricing, SlabCost
from twin.furnace.rollout import Passage, Rollout, leaving_steps
from twin.furnace.state import FurnaceState, Slab
from twin.furnace.stops import remaining, remaining_stop_s
from twin.plant.furnace import Furnace, Mill
from twin.records import Series

_SLABS_AN_HOUR = 9  # about; whose rates tell what an hour at another pace holds back


@dataclass(frozen=True)
class Tuning:
    """How the plan is sought. Chosen on training seeds 1004-1007; see docs/decisions/0008."""

    block_edges_min: tuple[int, ...] = (0, 10, 30, 60, 110)
    predict_min: int = 240  # about the slowest slabs' way
    pace_min: int = 60  # for so long a pace other than the schedule's is planned
    iterations: int = 1
    trust_k: float = 20.0
    difference_k: float = 3.0
    damping: float = 8e-4  # money/K² of one variable
    pull: float = 4e-4  # money/K² between the last block and the steady target
    #: How long a running stop may still last: (share of cases, weight). Empty: its mean alone. What
    #: has cooled cannot be heated at once: the restart that comes first of twenty counts as much as
    #: the one that nine of ten come before.
    stop_scenarios: tuple[tuple[float, float], ...] = ((0.05, 0.25), (0.5, 0.5), (0.9, 0.25))
    pricing: Pricing = field(default_factory=Pricing)


@dataclass(frozen=True)
class SlabPlan:
    """Setpoints (block, zone) and the mill's pace, and what they and standing still do.

    Costs are money per hour, expected over the restarts while the mill stands: fuel less what is
    stored at the end, scale, slabs expected out of spec, and tonnes rolled less than by standing
    still. Passages are those of the mean restart. `leaving` are the slabs of `passage`, in
    their order; `leaves` the minute each leaves in.
    """

    blocks_c: Series
    pace: float
    passage: Passage
    holding: Passage
    leaving: tuple[Slab, ...]
    leaves: tuple[int, ...]
    cost_per_h: float
    holding_per_h: float
    binding: tuple[str, ...]
    solve_ms: float


@dataclass(frozen=True)
class LastPlan:
    """Setpoints (block, zone) as planned at a moment: what the next plan begins with."""

    blocks_c: Series
    at: datetime


@dataclass(frozen=True)
class _Course:
    """One course of the mill: its pace, which slabs leave when, and where they are aimed."""

    pace: float
    pace_min: float
    weight: float
    rollout: Rollout
    leaves: tuple[int, ...]
    aim: Aim
    rolled_t: float  # while its pace is planned


@dataclass(frozen=True)
class _Box:
    """Where setpoints (block, zone) start from, may go, and lean to (NaN: nowhere)."""

    start_c: Series
    low_c: Series
    high_c: Series
    towards_c: Series


@dataclass(frozen=True)
class _Option:
    """Setpoints for one pace, where they lead and what that costs."""

    blocks_c: Series
    course: _Course
    passage: Passage
    money: float


class SlabPlanner:
    """Plans for one furnace, round by round."""

    def __init__(self, furnace: Furnace, mill: Mill, tuning: Tuning | None = None) -> None:
        self.furnace, self.mill = furnace, mill
        self.tuning = tuning or Tuning()
        self._cost = SlabCost(furnace, self.tuning.pricing)

    def path(self, blocks_c: Series) -> Series:
        """(step, zone) setpoints of `blocks_c` (block, zone)."""
        edges = [*self.tuning.block_edges_min, self.tuning.predict_min]
        return np.repeat(blocks_c, np.diff(edges), axis=0)

    def start(self, now: datetime, still_c: Series, last: LastPlan | None) -> Series:
        """Where the search of `now` begins: `last` moved on to it, or standing still at `still_c`.

        `still_c` is (zone); the start is (block, zone).
        """
        edges = np.array(self.tuning.block_edges_min, dtype=float)
        if last is None:
            return np.tile(still_c, (len(edges), 1))
        passed_min = (now - last.at).total_seconds() / 60.0
        share = np.minimum(1.0, passed_min / np.diff(edges))[:, None]
        moved = last.blocks_c.copy()
        moved[:-1] += share * (last.blocks_c[1:] - last.blocks_c[:-1])
        return moved

    def plan(
        self,
        state: FurnaceState,
        start_c: Series,
        low_c: Series,
        high_c: Series,
        still_c: Series,
        paces: Sequence[float] = (1.0,),
        steady_c: Series | None = None,
        *,
        keeps_pace: bool = False,
    ) -> SlabPlan:
        """The best blocks found from `start_c` (block, zone) between the bounds.

        `still_c` (zone) is where the setpoints stand: what holding them costs is told beside.
        `paces` are those that the mill may take now, the present one first. `steady_c` (zone) is
        where the coming mix would like to be; the last block leans towards it a little.
        `keeps_pace`: the present one stays for good, as no plan may move it.
        """
        began = time.perf_counter()
        present, *others = paces
        pace_min = math.inf if keeps_pace else self.tuning.pace_min
        now = self._course(state, remaining_stop_s(self.mill, state), present, pace_min)
        still = np.tile(still_c, (len(start_c), 1))
        towards_c = np.full_like(start_c, np.nan)
        towards_c[-1] = np.nan if steady_c is None else steady_c
        box = _Box(start_c, low_c, high_c, towards_c)
        best = self._option(state, now, box)
        for pace in others:
            course = self._course(state, remaining_stop_s(self.mill, state), pace, pace_min)
            if self._may_pay(best, course):
                option = self._option(state, course, replace(box, start_c=best.blocks_c))
                best = min(best, option, key=lambda each: self._balance(each, now))
        hours = self.tuning.predict_min / 60.0
        return SlabPlan(
            best.blocks_c, best.course.pace, best.passage, now.rollout.run(self.path(still)),
            best.course.rollout.leaving, best.course.leaves,
            self._balance(best, now) / hours,
            self._expected(self._cases(state, now), still) / hours,
            self._binding(best.passage, best.course.aim),
            1000 * (time.perf_counter() - began),
        )  # fmt: skip

    def _course(
        self,
        state: FurnaceState,
        restart_s: float | None,
        pace: float,
        pace_min: float,
        weight: float = 1.0,
    ) -> _Course:
        tuning = self.tuning
        leaves = leaving_steps(
            self.furnace, state, tuning.predict_min,
            pace=pace, pace_min=pace_min, restart_s=restart_s,
        )  # fmt: skip
        rollout = Rollout(self.furnace, state, leaves)
        aim = self._cost.aim(state, leaves)
        soon = [each.slab.rate_t_per_h for each in state.slabs[:_SLABS_AN_HOUR]]
        rolled_t = pace * tuning.pace_min / 60.0 * math.fsum(soon) / max(1, len(soon))
        return _Course(pace, pace_min, weight, rollout, tuple(leaves), aim, rolled_t)

    def _cases(self, state: FurnaceState, course: _Course) -> list[_Course]:
        """While the mill stands: how long it may still do so, with weights; else `course` alone."""
        left = remaining(self.mill, state)
        if left is None or not self.tuning.stop_scenarios:
            return [course]
        return [
            self._course(state, left.quantile_s(share), course.pace, course.pace_min, weight)
            for share, weight in self.tuning.stop_scenarios
        ]

    def _option(self, state: FurnaceState, course: _Course, box: _Box) -> _Option:
        """The best setpoints for one course of the mill."""
        tuning = self.tuning
        cases = self._cases(state, course)

        def judge(blocks_c: Series) -> Judged:
            path = self.path(blocks_c)
            judged = [(each.weight, self._judge(each, path)) for each in cases]
            squares = [math.sqrt(weight) * each.residuals for weight, each in judged]
            moves = math.sqrt(tuning.damping) * (blocks_c - box.start_c).ravel()
            leaning = math.sqrt(tuning.pull) * np.nan_to_num(blocks_c - box.towards_c).ravel()
            linear = sum(weight * each.linear for weight, each in judged)
            return Judged(linear, np.concatenate([*squares, moves, leaning]))

        found = iterate(
            judge, box.start_c, box.low_c, box.high_c,
            iterations=tuning.iterations,
            trust=tuning.trust_k,
            difference=tuning.difference_k,
            damping=1e-8,
        ).best  # fmt: skip
        passage = course.rollout.run(self.path(found))
        return _Option(found, course, passage, self._expected(cases, found))

    def _expected(self, cases: Sequence[_Course], blocks_c: Series) -> float:
        """The money that setpoints are expected to cost, over `cases`."""
        path = self.path(blocks_c)
        return math.fsum(
            case.weight
            * self._cost.money(case.rollout.run(path), case.aim, case.rollout.begins_with_j)
            for case in cases
        )

    def _judge(self, course: _Course, path: Series) -> Judged:
        passage = course.rollout.run(path)
        ends = np.array([*self.tuning.block_edges_min[1:], self.tuning.predict_min]) - 1
        return self._cost.judge(passage, course.aim, (path[ends] - passage.gas_c[ends]).ravel())

    def _balance(self, option: _Option, now: _Course) -> float:
        """An option's money, with the tonnes that it holds back."""
        worth = self.mill.tonne_worth or 0.0
        return option.money + worth * (now.rolled_t - option.course.rolled_t)

    def _may_pay(self, best: _Option, course: _Course) -> bool:
        """A slower mill can save no more than what is out of spec; a faster one is worth a try."""
        held_back_t = best.course.rolled_t - course.rolled_t
        if self.mill.tonne_worth is None:
            return False
        at_stake = self._cost.off_spec(best.passage, best.course.aim)
        return held_back_t <= 0 or self.mill.tonne_worth * held_back_t < at_stake

    def _binding(self, passage: Passage, aim: Aim) -> tuple[str, ...]:
        """Limits that the plan touches."""
        touched = []
        spec = self.furnace.spec
        if passage.fuel_w.sum(axis=1).max() >= 0.995e6 * self.furnace.header_mw:
            touched.append("the header at its highest")
        for z, zone in enumerate(self.furnace.zones):
            if passage.fuel_w[:, z].max() >= 0.995e6 * zone.fuel_mw[1]:
                touched.append(f"{zone.fuel} at its highest")
        if (passage.mean_c <= spec.mean_c[0] + aim.mean_k + 0.5).any():
            touched.append(f"{self.furnace.pyrometer} near its low limit")
        if (passage.difference_k >= spec.difference_k - aim.difference_k - 0.5).any():
            touched.append("the difference inside a slab")
        return tuple(touched)
