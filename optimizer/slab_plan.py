"""The furnace's plan: zone setpoints in a few blocks, judged by every slab that will leave.

Money: fuel less the heat that is stored at the end. Quality: squares of how far each slab leaves
outside a range that lies inside the spec, so that what nobody knows has room. The mill's schedule
is given; a stop lasts as long as its crew's estimate and its age let one expect.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from optimizer.rti import Judged, iterate
from twin.furnace.rollout import Passage, Rollout, leaving_steps
from twin.furnace.state import FurnaceState, Slab
from twin.furnace.stops import remaining, remaining_stop_s
from twin.plant.furnace import Furnace, Mill
from twin.records import Series

_GJ = 1e-9


@dataclass(frozen=True)
class Tuning:
    """How the plan is sought. Chosen on training seeds 1000–1009; see benchmarks/furnace.py."""

    block_edges_min: tuple[int, ...] = (0, 10, 30, 60)
    predict_min: int = 200
    iterations: int = 2
    trust_k: float = 20.0
    difference_k: float = 3.0
    damping: float = 1e-4  # GJ/K² of one variable
    margin_k: tuple[float, float] = (10.0, 8.0)  # inside the spec's low and high mean
    difference_margin_k: float = 5.5
    surface_margin_k: float = 15.0
    weight: float = 0.03  # GJ/K² of a slab
    gap_weight: float = 0.01  # GJ/K² between a setpoint and the gas at a block's end
    gap_free_k: float = 2.0
    #: How long a running stop may still last: (share of cases, weight). Empty: its mean alone.
    stop_scenarios: tuple[tuple[float, float], ...] = ()
    stored_worth: float = (
        1.3  # of fuel that a J in store saves; its inverse is a furnace's efficiency
    )


@dataclass(frozen=True)
class SlabPlan:
    """Setpoints (block, zone) and what they and standing still do.

    Costs are money per hour: fuel, less what is stored more at the end, and slabs out of spec.
    `leaving` are the slabs of both passages, in their order; `leaves` the minute each leaves in.
    """

    blocks_c: Series
    passage: Passage
    holding: Passage
    leaving: tuple[Slab, ...]
    leaves: tuple[int, ...]
    cost_per_h: float
    holding_per_h: float
    binding: tuple[str, ...]
    solve_ms: float


class SlabPlanner:
    """Plans for one furnace, round by round."""

    def __init__(self, furnace: Furnace, mill: Mill, tuning: Tuning | None = None) -> None:
        self.furnace, self.mill = furnace, mill
        self.tuning = tuning or Tuning()
        self._face_m2 = furnace.slab_length_m * furnace.slab_width_m

    def path(self, blocks_c: Series) -> Series:
        """(step, zone) setpoints of `blocks_c` (block, zone)."""
        edges = [*self.tuning.block_edges_min, self.tuning.predict_min]
        return np.repeat(blocks_c, np.diff(edges), axis=0)

    def plan(
        self, state: FurnaceState, start_c: Series, low_c: Series, high_c: Series, still_c: Series
    ) -> SlabPlan:
        """The best blocks found from `start_c` (block, zone) between the bounds.

        `still_c` (zone) is where the setpoints stand: what holding them costs is told beside.
        """
        began = time.perf_counter()
        tuning = self.tuning
        leaves = self._leaves(state, remaining_stop_s(self.mill, state))
        rollout = Rollout(self.furnace, state, leaves)
        cases = self._cases(state) or [(1.0, rollout)]

        def judge(blocks_c: Series) -> Judged:
            path = self.path(blocks_c)
            judged = [(weight, self.judge(case.run(path), path)) for weight, case in cases]
            moves = (blocks_c - start_c).ravel() * math.sqrt(tuning.damping)
            return Judged(
                sum(weight * each.linear for weight, each in judged),
                np.concatenate(
                    [*(math.sqrt(weight) * each.residuals for weight, each in judged), moves]
                ),
            )

        found = iterate(
            judge, start_c, low_c, high_c,
            iterations=tuning.iterations,
            trust=tuning.trust_k,
            difference=tuning.difference_k,
            damping=1e-9,
        ).best  # fmt: skip
        passage = rollout.run(self.path(found))
        holding = rollout.run(self.path(np.tile(still_c, (len(start_c), 1))))
        return SlabPlan(
            found, passage, holding, rollout.leaving, tuple(leaves),
            self._money_per_h(passage, holding), self._money_per_h(holding, holding),
            self._binding(found, passage),
            1000 * (time.perf_counter() - began),
        )  # fmt: skip

    def _leaves(self, state: FurnaceState, restart_s: float | None) -> list[int]:
        steps = self.tuning.predict_min
        return leaving_steps(self.furnace, state, steps, pace=1.0, restart_s=restart_s)

    def _cases(self, state: FurnaceState) -> list[tuple[float, Rollout]]:
        """While the mill stands: rollouts of how long it may still do so, with their weights."""
        left = remaining(self.mill, state)
        if left is None:
            return []
        return [
            (weight, Rollout(self.furnace, state, self._leaves(state, left.quantile_s(share))))
            for share, weight in self.tuning.stop_scenarios
        ]

    def _money_per_h(self, passage: Passage, holding: Passage) -> float:
        """Fuel less what is stored above `holding`'s end, steel burned away, slabs out of spec."""
        tuning, spec = self.tuning, self.furnace.spec
        hours = tuning.predict_min / 60.0
        stored_j = tuning.stored_worth * (passage.stored_j - holding.stored_j)
        mwh = (60.0 * float(passage.fuel_w.sum()) - stored_j) / 3.6e9
        low, high = spec.mean_c
        is_off = (passage.mean_c < low) | (passage.mean_c > high)
        is_off |= passage.difference_k > spec.difference_k
        scale_t = 2.0 * float(passage.scale_kg_per_m2.sum()) * self._face_m2 / 1000.0
        money = mwh * spec.fuel_price_per_mwh + scale_t * spec.steel_price_per_t
        return (money + float(is_off.sum()) * spec.off_spec_price) / hours

    def _binding(self, blocks_c: Series, passage: Passage) -> tuple[str, ...]:
        """Limits that the plan touches."""
        touched = []
        tuning, spec = self.tuning, self.furnace.spec
        if passage.fuel_w.sum(axis=1).max() >= 0.995e6 * self.furnace.header_mw:
            touched.append("the header at its highest")
        for z, zone in enumerate(self.furnace.zones):
            if passage.fuel_w[:, z].max() >= 0.995e6 * zone.fuel_mw[1]:
                touched.append(f"{zone.fuel} at its highest")
        if len(passage.mean_c):
            if passage.mean_c.min() <= spec.mean_c[0] + tuning.margin_k[0] + 0.5:
                touched.append(f"{self.furnace.pyrometer} near its low limit")
            if passage.difference_k.max() >= spec.difference_k - tuning.difference_margin_k - 0.5:
                touched.append("the difference inside a slab")
        return tuple(touched)

    def judge(self, passage: Passage, path: Series) -> Judged:
        """GJ of fuel less stored heat; hinges of every slab that leaves.

        A setpoint that the gas does not reach moves nothing, and a plan would lose its way back
        from there: what parts them at the end of each block costs a little.
        """
        tuning, spec = self.tuning, self.furnace.spec
        low = spec.mean_c[0] + tuning.margin_k[0]
        high = spec.mean_c[1] - tuning.margin_k[1]
        hinges = np.concatenate(
            [
                np.maximum(low - passage.mean_c, 0.0),
                np.maximum(passage.mean_c - high, 0.0),
                np.maximum(
                    passage.difference_k - spec.difference_k + tuning.difference_margin_k, 0.0
                ),
                np.maximum(passage.surface_c - spec.surface_c + tuning.surface_margin_k, 0.0),
            ]
        )
        fuel_gj = _GJ * 60.0 * float(passage.fuel_w.sum())
        linear = fuel_gj - tuning.stored_worth * _GJ * passage.stored_j
        ends = np.array([*tuning.block_edges_min[1:], tuning.predict_min]) - 1
        gaps = np.abs(path[ends] - passage.gas_c[ends]).ravel() - tuning.gap_free_k
        residuals = [
            math.sqrt(tuning.weight) * hinges,
            math.sqrt(tuning.gap_weight) * np.maximum(gaps, 0.0),
        ]
        return Judged(linear, np.concatenate(residuals))
