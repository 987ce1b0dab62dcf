"""Nonlinear MPC on a plant's physics: the Pyomo model compiled once, solved by a persistent IPOPT.

The Pyomo model is written as an .nl file once, read back by CasADi and kept compiled; a round
only changes parameters and warm-starts from the round before. What the physics misses enters as
rates along the plan (bias, learned residual). This module plans; it does not verify, gate or
write.

Choices and measurements: docs/decisions/0005-planner.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from optimizer.compiled import Accepted, Answer, CompiledModel
from optimizer.moves import hard_range, largest_change
from optimizer.transcription import interval_steps, plan_model
from twin.physics import Physics
from twin.plant import Plant, Role
from twin.records import Series

#: In the tags' units; money per unit of a tag (four_tank: below 1e-4); money (below 1e-4 too).
_ACCEPTED = Accepted(violation=1e-4, slope=1e-2, gap=1e-2)


@dataclass(frozen=True)
class Problem:
    """One round's question. Series have one element per plan step; rates are per second.

    `disturbances` are those to be ready for; `higher` says how much higher each state would stand
    under the expected ones (None: no higher).
    `first_range` bounds each MV's next setpoint beyond its limits; a range of one value pins it.
    MVs in `still` stay where they stand over the whole plan.
    """

    states: Mapping[str, float]
    current: Mapping[str, float]
    disturbances: Mapping[str, Series]
    missed_rates: Mapping[str, Series]
    first_range: Mapping[str, tuple[float, float]]
    higher: Mapping[str, Series] | None = None
    still: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Solution:
    """The solver's answer; `moves` per plan step. `reason` is empty when it can be used.

    `objective` is the money of the whole horizon, soft limits and moves priced in.
    """

    moves: Mapping[str, Series]
    is_usable: bool
    is_out_of_time: bool
    reason: str
    iterations: int = 0
    solve_ms: float = 0.0
    objective: float = math.nan


class Nmpc:
    """A plant's MPC, compiled at construction (about a second), then asked once per round."""

    def __init__(self, plant: Plant, physics: Physics, *, deadline_s: float = 2.0) -> None:
        self._plant = plant
        self._physics = physics
        self._mvs = plant.with_role(Role.MV)
        self._lengths = interval_steps(plant.horizon_steps)
        self._starts = np.concatenate(([0], np.cumsum(self._lengths)))
        model = plan_model(plant, physics, self._mvs, self._lengths)
        # A disturbance that neither the physics nor the economics reads is not asked for.
        self._model = CompiledModel(
            model,
            model.parameter,
            _ACCEPTED,
            {
                "tol": 1e-5,
                "acceptable_tol": 1e-4,
                "acceptable_iter": 3,
                "max_iter": 80,
                "max_wall_time": deadline_s,
                "mu_init": 1e-3,
            },
        )
        self._warm: Answer | None = None

    # -- one round --------------------------------------------------------------------------

    def solve(self, problem: Problem) -> Solution:
        """Plan from `problem`. Never raises for a hard problem: the reason is in the answer."""
        started = perf_counter()
        parameters = self._parameters(problem)
        unknown = self._unknown(problem, parameters)
        if unknown:
            return Solution({}, is_usable=False, is_out_of_time=False, reason=unknown)
        lower, upper = self._bounds(problem)
        begin = self._warm or self._guess(problem)
        answer = self._model.solve(parameters, lower, upper, begin)
        self._warm = None if answer.reason else answer
        return Solution(
            moves=self._moves(answer.values, problem, lower, upper),
            is_usable=not answer.reason,
            is_out_of_time=answer.is_out_of_time,
            reason=answer.reason,
            iterations=answer.iterations,
            solve_ms=1000 * (perf_counter() - started),
            objective=answer.objective,
        )

    def _unknown(self, problem: Problem, parameters: Series) -> str:
        """Which number of the problem is missing; empty if none is."""
        for (_, name, _), value in zip(self._model.parameters, parameters, strict=True):
            if not math.isfinite(value):
                return f"{name}: its value over the coming steps is not known"
        for name, (low, high) in problem.first_range.items():
            if not (math.isfinite(problem.current[name]) and low <= high):
                return f"{name}: where its next setpoint may lie is not known"
        return ""

    def _parameters(self, problem: Problem) -> Series:
        ends = self._starts[1:] - 1
        level = np.zeros(self._plant.horizon_steps)
        lines: dict[str, Callable[[str], Series]] = {
            "state": lambda name: np.array([problem.states[name]]),
            "current": lambda name: np.array([problem.current[name]]),
            "missed": lambda name: self._interval_means(problem.missed_rates[name]),
            "dv": lambda name: self._interval_means(problem.disturbances[name]),
            "higher": lambda name: (problem.higher or {}).get(name, level)[ends],
        }
        known: dict[tuple[str, str], Series] = {}
        for kind, name, _ in self._model.parameters:
            if (kind, name) not in known:
                known[kind, name] = lines[kind](name)
        return np.array([known[kind, name][k] for kind, name, k in self._model.parameters])

    def _interval_means(self, series: Series) -> Series:
        means: Series = np.add.reduceat(series, self._starts[:-1]) / np.asarray(self._lengths)
        return means

    def _bounds(self, problem: Problem) -> tuple[Series, Series]:
        """Variable bounds of this round: limits for the whole plan, `first_range` for move 0.

        An MV that stands outside a tightened limit comes back to it as fast as it may.
        """
        lower, upper = self._model.lower.copy(), self._model.upper.copy()
        for mv in self._mvs:
            low, high = hard_range(mv)
            if mv.name in problem.still:
                low = high = problem.current[mv.name]
            first_low, first_high = problem.first_range[mv.name]
            top, bottom = max(high, first_low), min(low, first_high)
            for k in range(len(self._lengths)):
                i = self._model.place["move", mv.name, k]
                lower[i], upper[i] = bottom, top
                step = largest_change(self._plant, mv)
                top, bottom = max(high, top - step), min(low, bottom + step)
            first = self._model.place["move", mv.name, 0]
            lower[first] = max(lower[first], first_low)
            upper[first] = min(upper[first], first_high)
        return lower, upper

    def _guess(self, problem: Problem) -> Series:
        point = self._model.start.copy()
        for state in self._physics.states:
            for k in range(1, len(self._lengths) + 1):
                point[self._model.place["state", state, k]] = problem.states[state]
        for mv in self._mvs:
            for k in range(len(self._lengths)):
                point[self._model.place["move", mv.name, k]] = problem.current[mv.name]
        return point

    def _moves(
        self, values: Series, problem: Problem, lower: Series, upper: Series
    ) -> dict[str, Series]:
        """The moves per plan step, put exactly inside bounds and rates.

        The solver keeps both but for its tolerance.
        """
        moves = {}
        for mv in self._mvs:
            step, at, path = largest_change(self._plant, mv), problem.current[mv.name], []
            for k in range(len(self._lengths)):
                i = self._model.place["move", mv.name, k]
                wanted = min(max(float(values[i]), at - step), at + step)
                at = min(max(wanted, float(lower[i])), float(upper[i]))
                path.append(at)
            moves[mv.name] = np.repeat(path, self._lengths)
        return moves
