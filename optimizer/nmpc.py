"""Nonlinear MPC on a plant's physics: the Pyomo model compiled once, solved by a persistent IPOPT.

The Pyomo model is written as an .nl file once, read back by CasADi and kept compiled; a round
only changes parameters and warm-starts from the round before. What the physics misses enters as
rates along the plan (bias, learned residual). This module plans; it does not verify, gate or
write.

Choices and measurements: docs/decisions/0005-planner.md.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import casadi
import numpy as np
from pyomo.repn.plugins.nl_writer import NLWriter

from optimizer.transcription import hard_range, interval_steps, largest_change, plan_model
from twin.physics import Physics
from twin.plant import Plant, Role
from twin.records import Series

_ACCEPTED_VIOLATION = 1e-4  # largest constraint residual of a plan we use, in the tags' units
_ACCEPTED_SLOPE = 1e-2  # largest slope left, money per unit of a tag; four_tank: below 1e-4
_ACCEPTED_GAP = 1e-2  # most money put on a limit that is not reached; four_tank: below 1e-4


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
        self._build(deadline_s)
        self._warm: dict[str, Series] | None = None

    # -- the model, written once -----------------------------------------------------------

    def _build(self, deadline_s: float) -> None:
        model = plan_model(self._plant, self._physics, self._mvs, self._lengths)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "plan.nl"
            with path.open("w") as stream:
                info = NLWriter().write(model, stream, linear_presolve=False, scale_model=False)
            builder = casadi.NlpBuilder()
            builder.import_nl(str(path))
        column = {id(variable): i for i, variable in enumerate(info.variables)}
        # A disturbance that neither the physics nor the economics reads is not in the file.
        parameters = [v for v in model.parameter.values() if id(v) in column]
        free = [v for v in info.variables if v.parent_component() is not model.parameter]
        self._free_index = {
            (v.parent_component().local_name, *v.index()): i for i, v in enumerate(free)
        }
        symbols = builder.x
        expressions: dict[str, Any] = {
            "x": casadi.vertcat(*[symbols[column[id(v)]] for v in free]),
            "p": casadi.vertcat(*[symbols[column[id(v)]] for v in parameters]),
            "f": builder.f,
            "g": casadi.vertcat(*builder.g) if isinstance(builder.g, list) else builder.g,
        }
        options: dict[str, Any] = {
            "expand": True,
            "print_time": False,
            "error_on_fail": False,
            "show_eval_warnings": False,
            "ipopt": {
                "print_level": 0,
                "sb": "yes",
                "tol": 1e-5,
                "acceptable_tol": 1e-4,
                "acceptable_iter": 3,
                "max_iter": 80,
                "max_wall_time": deadline_s,
                "mu_init": 1e-3,
                "warm_start_init_point": "yes",
                "warm_start_bound_push": 1e-6,
                "warm_start_mult_bound_push": 1e-6,
                "bound_relax_factor": 0.0,
            },
        }
        self._solver = casadi.nlpsol("plan", "ipopt", expressions, options)
        self._slopes = self._solver.get_function("nlp_grad")
        self._parameter_names = [v.index() for v in parameters]
        self._lower = np.array([-np.inf if v.lb is None else v.lb for v in free])
        self._upper = np.array([np.inf if v.ub is None else v.ub for v in free])
        self._g_lower = np.array(builder.g_lb, dtype=float).ravel()
        self._g_upper = np.array(builder.g_ub, dtype=float).ravel()
        self._start_point = np.array([v.value if v.value is not None else 0.0 for v in free])

    # -- one round --------------------------------------------------------------------------

    def solve(self, problem: Problem) -> Solution:
        """Plan from `problem`. Never raises for a hard problem: the reason is in the answer."""
        started = perf_counter()
        parameters = self._parameters(problem)
        unknown = self._unknown(problem, parameters)
        if unknown:
            return Solution({}, is_usable=False, is_out_of_time=False, reason=unknown)
        lower, upper = self._bounds(problem)
        guess = self._guess(problem, lower, upper)
        answer = self._solver(
            x0=guess["x"], lam_x0=guess["lam_x"], lam_g0=guess["lam_g"],
            p=parameters, lbx=lower, ubx=upper, lbg=self._g_lower, ubg=self._g_upper,
        )  # fmt: skip
        stats = self._solver.stats()
        status = str(stats["return_status"])
        found = {name: np.asarray(answer[name]).ravel() for name in ("x", "g", "lam_x", "lam_g")}
        reason = self._doubt(found, parameters, lower, upper, status)
        self._warm = found if not reason else None
        return Solution(
            moves=self._moves(found["x"], problem, lower, upper),
            is_usable=not reason,
            is_out_of_time="time" in status.lower(),
            reason=reason,
            iterations=int(stats["iter_count"]),
            solve_ms=1000 * (perf_counter() - started),
            objective=float(answer["f"]),
        )

    def _doubt(
        self,
        found: Mapping[str, Series],
        parameters: Series,
        lower: Series,
        upper: Series,
        status: str,
    ) -> str:
        """Why the answer cannot be used; empty if it can. The status alone is never trusted.

        Source: Nocedal and Wright, "Numerical Optimization", 2nd ed., theorem 12.1 (the
        Karush–Kuhn–Tucker conditions).
        """
        if not all(np.isfinite(series).all() for series in found.values()):
            return f"the solver returned no finite plan ({status})"
        limited = (
            (found["g"], found["lam_g"], self._g_lower, self._g_upper),
            (found["x"], found["lam_x"], lower, upper),
        )
        violation = max(
            float(np.maximum(values - high, low - values).max(initial=0.0))
            for values, _, low, high in limited
        )
        if violation > _ACCEPTED_VIOLATION:
            return f"the solver's plan breaks its own model by {violation:.2g} ({status})"
        if status not in ("Solve_Succeeded", "Solved_To_Acceptable_Level"):
            return f"the solver stopped early ({status})"
        slopes = self._slopes(found["x"], parameters, 1.0, found["lam_g"])[2]
        left = float(np.abs(np.asarray(slopes).ravel() + found["lam_x"]).max())
        if not left <= _ACCEPTED_SLOPE:
            return f"the solver's plan could still be improved by {left:.2g} per unit ({status})"
        gap = max(_gap(*each) for each in limited)
        if not gap <= _ACCEPTED_GAP:
            return f"the solver's plan leans on a limit out of reach, by {gap:.2g} ({status})"
        return ""

    def _unknown(self, problem: Problem, parameters: Series) -> str:
        """Which number of the problem is missing; empty if none is."""
        for (_, name, _), value in zip(self._parameter_names, parameters, strict=True):
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
        for kind, name, _ in self._parameter_names:
            if (kind, name) not in known:
                known[kind, name] = lines[kind](name)
        return np.array([known[kind, name][k] for kind, name, k in self._parameter_names])

    def _interval_means(self, series: Series) -> Series:
        means: Series = np.add.reduceat(series, self._starts[:-1]) / np.asarray(self._lengths)
        return means

    def _bounds(self, problem: Problem) -> tuple[Series, Series]:
        """Variable bounds of this round: limits for the whole plan, `first_range` for move 0.

        An MV that stands outside a tightened limit comes back to it as fast as it may.
        """
        lower, upper = self._lower.copy(), self._upper.copy()
        for mv in self._mvs:
            low, high = hard_range(mv)
            if mv.name in problem.still:
                low = high = problem.current[mv.name]
            first_low, first_high = problem.first_range[mv.name]
            top, bottom = max(high, first_low), min(low, first_high)
            for k in range(len(self._lengths)):
                i = self._free_index["move", mv.name, k]
                lower[i], upper[i] = bottom, top
                step = largest_change(self._plant, mv)
                top, bottom = max(high, top - step), min(low, bottom + step)
            first = self._free_index["move", mv.name, 0]
            lower[first] = max(lower[first], first_low)
            upper[first] = min(upper[first], first_high)
        return lower, upper

    def _guess(self, problem: Problem, lower: Series, upper: Series) -> dict[str, Series]:
        if self._warm is not None:
            return self._warm
        point = self._start_point.copy()
        for state in self._physics.states:
            for k in range(1, len(self._lengths) + 1):
                point[self._free_index["state", state, k]] = problem.states[state]
        for mv in self._mvs:
            for k in range(len(self._lengths)):
                point[self._free_index["move", mv.name, k]] = problem.current[mv.name]
        return {
            "x": np.clip(point, lower, upper),
            "lam_x": np.zeros(len(point)),
            "lam_g": np.zeros(len(self._g_lower)),
        }

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
                i = self._free_index["move", mv.name, k]
                wanted = min(max(float(values[i]), at - step), at + step)
                at = min(max(wanted, float(lower[i])), float(upper[i]))
                path.append(at)
            moves[mv.name] = np.repeat(path, self._lengths)
        return moves


def _gap(values: Series, multipliers: Series, lower: Series, upper: Series) -> float:
    """The most that a limit out of reach is said to be worth: multiplier times distance to it.

    Further than one unit away, or where there is no limit, the multiplier is a slope left over.
    Without this any plan would pass: multipliers can be made up to cancel every slope.
    """
    distance = np.where(multipliers > 0.0, upper - values, values - lower)
    return float(np.abs(multipliers * np.minimum(distance, 1.0)).max(initial=0.0))
