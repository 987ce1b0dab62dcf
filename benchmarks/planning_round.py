"""What one planning round costs, and what a persistent solver saves against a rebuilt one.

Closed loop in lockstep on the emulated four tanks (a training seed, never a test seed): per round
the CPU time of judging the present, estimating, planning, verifying and asking the gate; the
forecast fan is apart. A sample of the problems met is solved again by the same model built anew,
and by a second method that shares nothing but the equations: single shooting with SciPy's SLSQP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import process_time
from typing import Any

import casadi
import numpy as np
from rich.console import Console
from rich.progress import Progress
from scipy.optimize import minimize
from telling import run_and_tell

from optimizer.cycle import WARM_UP_H, Controller
from optimizer.moves import hard_range, largest_change
from optimizer.nmpc import Nmpc, Problem, Solution
from optimizer.plan import Planner
from optimizer.transcription import interval_steps, soft_limit_price
from twin.economics import cost_per_h
from twin.physics import Physics, load_physics
from twin.plant import Plant, Role, read_plant
from twin.plants.four_tank.truth import Truth
from twin.records import BAD, GOOD, PlanStatus, Reading, Samples, Series, Stage
from twin.safety import NEVER_MOVED, GateContext
from twin.state import plant_state

SEED = 1000
START = datetime(2026, 1, 5, tzinfo=UTC)
HISTORY = timedelta(hours=WARM_UP_H)
TARGET_CPU_MS = 50.0


@dataclass(frozen=True)
class Budget:
    """How much to run: rounds in lockstep, and how many of their problems go to the others."""

    rounds: int
    rebuilt: int
    compared: int


FULL = Budget(rounds=360, rebuilt=20, compared=30)
QUICK = Budget(rounds=20, rebuilt=2, compared=2)


@dataclass
class Met:
    """What the rounds met. CPU times in ms."""

    round_cpu_ms: list[float] = field(default_factory=list)
    solve_cpu_ms: list[float] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    solutions: list[Solution] = field(default_factory=list)
    held: int = 0
    refused: int = 0


def lockstep(plant: Plant, physics: Physics, rounds: int, progress: Progress) -> Met:
    """Steer one emulated plant for so many rounds, writing whatever the gate clears."""
    met = Met()
    nmpc = Nmpc(plant, physics)

    def solve(problem: Problem) -> Solution:
        began_s = process_time()
        solution = nmpc.solve(problem)
        met.solve_cpu_ms.append(1000 * (process_time() - began_s))
        met.problems.append(problem)
        met.solutions.append(solution)
        return solution

    controller = Controller(plant, physics, planner=Planner(plant, physics, solve=solve))
    truth = Truth(plant, seed=SEED, start=START)
    recent = truth.advance_samples(START + HISTORY)
    controller.observe(recent, truth.now, round(HISTORY.total_seconds() / plant.step_s))
    last = newest(recent)
    mvs = [tag.name for tag in plant.with_role(Role.MV)]
    moved = dict.fromkeys(mvs, NEVER_MOVED)
    kept = round(3600 / plant.sample_s)
    for number in progress.track(range(rounds), description="rounds"):
        now = truth.now + timedelta(seconds=plant.step_s)
        truth.write("plc.heartbeat", float(number))
        new = truth.advance_samples(now)
        recent = {tag: joined(recent[tag], new[tag], kept) for tag in new}
        last |= newest(new)
        travel = {mv: float(np.abs(np.diff(recent[mv].values)).sum()) for mv in mvs}
        stages = dict.fromkeys(mvs, Stage.CLOSED_LOOP)
        context = GateContext(stages, None, travel, dict(moved), False)
        began_s = process_time()
        state = plant_state(plant, last, now)
        controller.observe(recent, now, 1)
        done = controller.round(state, context, now)
        met.round_cpu_ms.append(1000 * (process_time() - began_s))
        met.held += done.plan.status is not PlanStatus.SOLVED
        met.refused += bool(done.setpoints) and not done.verdict.is_clear
        if done.verdict.is_clear:
            for mv, setpoint in done.setpoints.items():
                truth.write(mv, setpoint)
                moved[mv] = now
    return met


def joined(old: Samples, new: Samples, kept: int) -> Samples:
    """The newest `kept` samples of both."""
    times_s = np.concatenate([old.times_s[-kept:], new.times_s])
    return Samples(times_s[-kept:], np.concatenate([old.values[-kept:], new.values])[-kept:])


def newest(samples: dict[str, Samples]) -> dict[str, Reading]:
    """The last reading of every tag."""
    found = {}
    for tag, series in samples.items():
        at, value = datetime.fromtimestamp(series.times_s[-1], UTC), float(series.values[-1])
        is_good = bool(np.isfinite(value))
        found[tag] = Reading(tag, value if is_good else None, GOOD if is_good else BAD, at, at)
    return found


class Shooting:
    """The same question by single shooting: Runge–Kutta at 60 s, gradients by CasADi, SLSQP."""

    def __init__(self, plant: Plant, physics: Physics) -> None:
        self._plant, self._physics = plant, physics
        self._mvs = plant.with_role(Role.MV)
        self._dvs = [tag.name for tag in plant.with_role(Role.DV)]
        self._lengths = interval_steps(plant.horizon_steps)
        size, steps = len(self._lengths), plant.horizon_steps
        moves = casadi.SX.sym("moves", len(self._mvs), size)
        x = casadi.SX.sym("x", len(physics.states))
        current = casadi.SX.sym("current", len(self._mvs))
        dvs = casadi.SX.sym("dvs", len(self._dvs), steps)
        higher = casadi.SX.sym("higher", len(physics.states), steps)
        missed = casadi.SX.sym("missed", len(physics.states), steps)
        money = self._money(moves, x, current, dvs, higher, missed)
        flat = casadi.vec(moves)
        given = [x, current, dvs, higher, missed]
        self._cost = casadi.Function("cost", [flat, *given], [money, casadi.gradient(money, flat)])

    def _money(self, moves: Any, x: Any, current: Any, dvs: Any, higher: Any, missed: Any) -> Any:
        plant, physics, step, money = self._plant, self._physics, 0, 0.0
        shown: dict[str, Any] = {}
        names = [mv.name for mv in self._mvs]
        levels = dict(zip(physics.states, casadi.vertsplit(x), strict=True))
        for k, length in enumerate(self._lengths):
            for _ in range(length):
                signals = dict(zip(names, casadi.vertsplit(moves[:, k]), strict=True))
                signals |= _column(self._dvs, dvs, step)
                inputs = physics.actuate(signals, casadi)
                extra = _column(physics.states, missed, step)
                after = physics.advance(levels, inputs, plant.step_s, casadi, extra)
                middle = {name: 0.5 * (levels[name] + after[name]) for name in physics.states}
                shown = signals | middle | physics.planning_outputs(middle, inputs, casadi)
                money += plant.step_s / 3600 * cost_per_h(plant, shown, casadi)
                levels, step = after, step + 1
            # As in the MPC, soft limits are judged where an interval ends.
            shift = _column(physics.states, higher, step - 1)
            limits = soft_limit_price(plant, shown | levels, casadi, shift)
            money += length * plant.step_s / 3600 * limits
            before = moves[:, k - 1] if k else current
            prices = casadi.DM([mv.move_price for mv in self._mvs])
            money += casadi.dot(prices, (moves[:, k] - before) ** 2)
        return money

    def given(self, problem: Problem) -> list[Series]:
        """The problem's numbers in this formulation's order."""
        higher, none = problem.higher or {}, np.zeros(self._plant.horizon_steps)
        return [
            np.array([problem.states[name] for name in self._physics.states]),
            np.array([problem.current[mv.name] for mv in self._mvs]),
            np.array([problem.disturbances[name] for name in self._dvs]),
            np.array([higher.get(name, none) for name in self._physics.states]),
            np.array([problem.missed_rates[name] for name in self._physics.states]),
        ]

    def cost(self, problem: Problem, moves: dict[str, Series]) -> float:
        """What a plan costs, by this formulation."""
        first = np.cumsum((0, *self._lengths[:-1]))
        flat = np.array([moves[mv.name][first] for mv in self._mvs]).ravel(order="F")
        return float(self._cost(flat, *self.given(problem))[0])

    def best(self, problem: Problem) -> tuple[float, dict[str, float]]:
        """The least cost that SLSQP finds from holding, and its first moves."""
        given, width, size = self.given(problem), len(self._mvs), len(self._lengths)
        # Changes of the moves: first minus present, then each minus the one before.
        changes = np.eye(width * size) - np.eye(width * size, k=-width)
        present = np.concatenate([given[1], np.zeros(width * (size - 1))])
        most = np.tile([largest_change(self._plant, mv) for mv in self._mvs], size)
        bounds = [hard_range(mv) for mv in self._mvs] * size
        for i, mv in enumerate(self._mvs):
            low, high = problem.first_range[mv.name]
            bounds[i] = (max(bounds[i][0], low), min(bounds[i][1], high))

        def both(flat: Series) -> tuple[float, Series]:
            value, slope = self._cost(flat, *given)
            return float(value), np.asarray(slope).ravel()

        rate = {
            "type": "ineq",
            "fun": lambda flat: np.concatenate(
                [most - changes @ flat + present, most + changes @ flat - present]
            ),
            "jac": lambda _: np.vstack([-changes, changes]),
        }
        found = minimize(
            both,
            np.tile(given[1], size),
            jac=True,
            method="SLSQP",
            bounds=bounds,
            constraints=rate,
            options={"maxiter": 400, "ftol": 1e-7},
        )
        first = {mv.name: float(found.x[i]) for i, mv in enumerate(self._mvs)}
        return float(found.fun), first


def _column(names: Sequence[str], table: Any, step: int) -> dict[str, Any]:
    return dict(zip(names, casadi.vertsplit(table[:, step]), strict=True))


def rebuilt_cpu_ms(plant: Plant, physics: Physics, problem: Problem) -> float:
    """CPU time of building the model, compiling it and solving it once."""
    began_s = process_time()
    Nmpc(plant, physics).solve(problem)
    return 1000 * (process_time() - began_s)


def spread(name: str, values: list[float]) -> dict[str, float]:
    """Median, 95 % point and maximum."""
    found = np.array(values)
    return {
        f"{name}_median": float(np.median(found)),
        f"{name}_p95": float(np.quantile(found, 0.95)),
        f"{name}_max": float(found.max()),
    }


def run(budget: Budget) -> dict[str, Any]:
    """All figures, and one row per problem that was solved by both methods."""
    plant = read_plant("four_tank")
    physics = load_physics(plant)
    assert physics is not None
    with Progress(console=Console(stderr=True)) as progress:
        met = lockstep(plant, physics, budget.rounds, progress)
        usable = [i for i, solution in enumerate(met.solutions) if solution.is_usable]
        picked = np.linspace(0, len(usable) - 1, max(budget.compared, budget.rebuilt))
        sample = [usable[round(place)] for place in picked]
        built = [
            rebuilt_cpu_ms(plant, physics, met.problems[i])
            for i in progress.track(sample[: budget.rebuilt], description="rebuilt")
        ]
        shooting = Shooting(plant, physics)
        rows = []
        for i in progress.track(sample[: budget.compared], description="shooting"):
            problem, solution = met.problems[i], met.solutions[i]
            ours = shooting.cost(problem, dict(solution.moves))
            began_s = process_time()
            best, first = shooting.best(problem)
            rows.append(
                {
                    "round": i,
                    "ipopt_ct": ours,
                    "slsqp_ct": best,
                    "ipopt_above_percent": 100 * (ours - best) / abs(best),
                    "first_move_apart": max(
                        abs(float(solution.moves[mv][0]) - at) for mv, at in first.items()
                    ),
                    "slsqp_cpu_ms": 1000 * (process_time() - began_s),
                }
            )
    return {
        "benchmark": "planning_round",
        "figures": _figures(met, built, rows),
        "rows": rows,
    }


def _figures(met: Met, built: list[float], rows: list[dict[str, Any]]) -> dict[str, float]:
    above = [row["ipopt_above_percent"] for row in rows]
    solve_ms = float(np.median(met.solve_cpu_ms))
    return {
        "rounds": len(met.round_cpu_ms),
        "held": met.held,
        "refused": met.refused,
        **spread("round_cpu_ms", met.round_cpu_ms),
        "round_cpu_ms_target": TARGET_CPU_MS,
        **spread("solve_cpu_ms", met.solve_cpu_ms),
        **spread("iterations", [solution.iterations for solution in met.solutions]),
        "rebuilt_cpu_ms_median": float(np.median(built)),
        "rebuilt_over_persistent": float(np.median(built)) / solve_ms,
        "slsqp_cpu_ms_median": float(np.median([row["slsqp_cpu_ms"] for row in rows])),
        "ipopt_above_slsqp_percent_median": float(np.median(above)),
        "ipopt_above_slsqp_percent_max": float(np.max(above)),
        "ipopt_above_slsqp_percent_min": float(np.min(above)),
        **spread("first_move_apart", [row["first_move_apart"] for row in rows]),
    }


def main() -> None:
    """Run, and print the figures."""
    run_and_tell(__doc__, lambda is_quick: run(QUICK if is_quick else FULL))


if __name__ == "__main__":
    main()
