"""A Pyomo model compiled once, solved by a persistent IPOPT, its answers doubted.

The model is written as an .nl file, read back by CasADi and kept compiled; a solve only changes
parameters and bounds, and may start from an earlier answer. Knows nothing of plants.

Choices and measurements: docs/decisions/0005-planner.md.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import casadi
import numpy as np
import pyomo.environ as pyo
from pyomo.repn.plugins.nl_writer import NLWriter

from twin.records import Series


@dataclass(frozen=True)
class Accepted:
    """What an answer may have left, in the model's own units: beyond, it is not used.

    `violation` of a constraint or bound, `slope` of the objective in a free direction, `gap`: the
    most objective that is put on a limit which is not reached.
    """

    violation: float
    slope: float
    gap: float


@dataclass(frozen=True)
class Answer:
    """What the solver found; `reason` says why it cannot be used and is empty if it can.

    `values` of the free variables, and what a solve that starts from here needs besides.
    """

    values: Series
    bound_prices: Series
    constraint_prices: Series
    objective: float
    reason: str
    is_out_of_time: bool
    iterations: int
    solve_ms: float


class CompiledModel:
    """A Pyomo model whose numbers change from solve to solve.

    `parameter` is a variable of `model` that holds these numbers: a mutable Param would be folded
    into the file as a constant. Those that the model does not read are not asked for.
    """

    def __init__(
        self,
        model: pyo.ConcreteModel,
        parameter: pyo.Var,
        accepted: Accepted,
        options: Mapping[str, Any],
    ) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.nl"
            with path.open("w") as stream:
                info = NLWriter().write(model, stream, linear_presolve=False, scale_model=False)
            builder = casadi.NlpBuilder()
            builder.import_nl(str(path))
        column = {id(variable): i for i, variable in enumerate(info.variables)}
        parameters = [v for v in parameter.values() if id(v) in column]
        free = [v for v in info.variables if v.parent_component() is not parameter]
        symbols = builder.x
        expressions: dict[str, Any] = {
            "x": casadi.vertcat(*[symbols[column[id(v)]] for v in free]),
            "p": casadi.vertcat(*[symbols[column[id(v)]] for v in parameters]),
            "f": builder.f,
            "g": casadi.vertcat(*builder.g) if isinstance(builder.g, list) else builder.g,
        }
        self._solver = casadi.nlpsol(
            "model",
            "ipopt",
            expressions,
            {
                "expand": True,
                "print_time": False,
                "error_on_fail": False,
                "show_eval_warnings": False,
                "ipopt": {
                    "print_level": 0,
                    "sb": "yes",
                    "warm_start_init_point": "yes",
                    "warm_start_bound_push": 1e-6,
                    "warm_start_mult_bound_push": 1e-6,
                    "bound_relax_factor": 0.0,
                    **options,
                },
            },
        )
        self._slopes = self._solver.get_function("nlp_grad")
        self._accepted = accepted
        #: Place of every free variable, by its component's name and its index.
        self.place = {(v.parent_component().local_name, *_index(v)): i for i, v in enumerate(free)}
        #: Index of every number that `solve` asks for, in its order.
        self.parameters = [v.index() for v in parameters]
        self.lower = np.array([-np.inf if v.lb is None else v.lb for v in free])
        self.upper = np.array([np.inf if v.ub is None else v.ub for v in free])
        self.start = np.array([v.value if v.value is not None else 0.0 for v in free])
        self._g_lower = np.array(builder.g_lb, dtype=float).ravel()
        self._g_upper = np.array(builder.g_ub, dtype=float).ravel()

    def solve(
        self, parameters: Series, lower: Series, upper: Series, begin: Series | Answer
    ) -> Answer:
        """The best values between `lower` and `upper`, sought from values or an earlier answer."""
        started = perf_counter()
        if isinstance(begin, Answer):
            point = begin.values, begin.bound_prices, begin.constraint_prices
        else:
            point = np.clip(begin, lower, upper), np.zeros(len(lower)), np.zeros(len(self._g_lower))
        answer = self._solver(
            x0=point[0], lam_x0=point[1], lam_g0=point[2], p=parameters,
            lbx=lower, ubx=upper, lbg=self._g_lower, ubg=self._g_upper,
        )  # fmt: skip
        stats = self._solver.stats()
        status = str(stats["return_status"])
        found = {name: np.asarray(answer[name]).ravel() for name in ("x", "g", "lam_x", "lam_g")}
        return Answer(
            values=found["x"],
            bound_prices=found["lam_x"],
            constraint_prices=found["lam_g"],
            objective=float(answer["f"]),
            reason=self._doubt(found, parameters, lower, upper, status),
            is_out_of_time="time" in status.lower(),
            iterations=int(stats["iter_count"]),
            solve_ms=1000 * (perf_counter() - started),
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
        if violation > self._accepted.violation:
            return f"the solver's plan breaks its own model by {violation:.2g} ({status})"
        if status not in ("Solve_Succeeded", "Solved_To_Acceptable_Level"):
            return f"the solver stopped early ({status})"
        slopes = self._slopes(found["x"], parameters, 1.0, found["lam_g"])[2]
        left = float(np.abs(np.asarray(slopes).ravel() + found["lam_x"]).max())
        if not left <= self._accepted.slope:
            return f"the solver's plan could still be improved by {left:.2g} per unit ({status})"
        gap = max(_gap(*each) for each in limited)
        if not gap <= self._accepted.gap:
            return f"the solver's plan leans on a limit out of reach, by {gap:.2g} ({status})"
        return ""


def _index(variable: Any) -> tuple[Any, ...]:
    index = variable.index()
    if index is None:
        return ()
    return index if isinstance(index, tuple) else (index,)


def _gap(values: Series, multipliers: Series, lower: Series, upper: Series) -> float:
    """The most that a limit out of reach is said to be worth: multiplier times distance to it.

    Further than one unit away, or where there is no limit, the multiplier is a slope left over.
    Without this any plan would pass: multipliers can be made up to cancel every slope.
    """
    distance = np.where(multipliers > 0.0, upper - values, values - lower)
    return float(np.abs(multipliers * np.minimum(distance, 1.0)).max(initial=0.0))
