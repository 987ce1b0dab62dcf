"""The furnace's dynamic plan as one Pyomo model, beside Gauss–Newton on rollouts.

Both plan from the same states of a furnace steered in lockstep (training seeds, never test seeds)
and are judged by the same rollouts of the twin. The model is compiled once: which slabs stand
where and when are parameters, so nothing is rebuilt when the beam steps. To stay below 1,500
variables two or three neighbouring slabs are one, with three nodes and steps of 10 and 14 min.
Times are CPU times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from time import process_time
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from slab_pyomo_plan.model import PlanModel
from slab_pyomo_plan.packs import PAIRS, THREES, Grid, parameters
from telling import run_and_tell

from dashboard.comparison.lockstep import Lockstep
from dashboard.comparison.slab_history import START
from optimizer import slab_equations as eq
from optimizer.compiled import Accepted, Answer, CompiledModel
from optimizer.controller import Round
from optimizer.moves import within_room
from optimizer.slab_controller import SlabController
from optimizer.slab_cost import SlabCost
from optimizer.slab_moves import block_bounds
from optimizer.slab_plan import SlabPlanner, Tuning
from twin.furnace.rollout import Rollout, leaving_steps
from twin.furnace.state import FurnaceState
from twin.furnace.stops import remaining_stop_s
from twin.plant import Plant, read_plant
from twin.plant.furnace import Furnace
from twin.plants.furnace.truth import Truth
from twin.records import Series
from twin.safety import move_room
from twin.simulation.line import line_of

PLANT, SEEDS = "furnace", (1004, 1005)
HISTORY_H, RUN_IN_ROUNDS = 12.0, 24  # rounds come every five minutes
STATES, ROUNDS_APART = 5, 6  # of each seed
#: The plan as it was when the spike was made: the size of the Pyomo model follows from it.
_TUNING = Tuning(block_edges_min=(0, 10, 30, 60), predict_min=200, iterations=2)
_GRIDS = {"pairs": PAIRS, "threes": THREES}
_PREDICT_MIN = sum(PAIRS.steps_min)
_ACCEPTED = Accepted(violation=1e-4, slope=5e-2, gap=5e-2)


class PyomoPlanner:
    """The dynamic plan, compiled at construction."""

    def __init__(self, furnace: Furnace, grid: Grid, tuning: Tuning) -> None:
        began_s = process_time()
        self._furnace, self._grid = furnace, grid
        self._cost = SlabCost(furnace, tuning.pricing)
        model = PlanModel(furnace, grid, tuning.block_edges_min, tuning.pricing).model
        self._model = CompiledModel(
            model,
            model.parameter,
            _ACCEPTED,
            {
                "tol": 1e-5,
                "acceptable_tol": 1e-4,
                "max_iter": 200,
                "max_wall_time": 60.0,
                "mu_init": 1e-5,
            },
        )
        self.variables = len(self._model.lower)
        self.setup_s = process_time() - began_s

    def plan(
        self,
        state: FurnaceState,
        leaves: Sequence[int],
        low_c: Series,
        high_c: Series,
        begin: Answer | None = None,
    ) -> tuple[Series, Answer]:
        """Setpoints (block, zone) in °C, and the answer that the next may begin with."""
        model = self._model
        aim = self._cost.aim(state, tuple(leaves))
        told = parameters(self._furnace, self._grid, state, leaves, aim)
        lower, upper = model.lower.copy(), model.upper.copy()
        guess = model.start.copy()
        for (name, *index), i in model.place.items():
            if name == "setpoint":
                block, z = index
                lower[i], upper[i] = low_c[block, z] / eq.HUNDRED_K, high_c[block, z] / eq.HUNDRED_K
                guess[i] = state.zones[z].followed_c / eq.HUNDRED_K
            elif name == "wall":
                guess[i] = told["wall", index[1]]
            elif name == "fuel":
                guess[i] = state.zones[index[1]].fuel_w / eq.TEN_MW
            elif name == "h":
                guess[i] = told["begin", index[1], index[2]]
            elif name == "face":
                guess[i] = 0.9 * sum(
                    told["around", *index, z] * told["gas", z] for z in range(len(state.zones))
                )
        numbers_asked = np.array([told[index] for index in model.parameters])
        answer = model.solve(numbers_asked, lower, upper, begin or guess)
        blocks_c = np.empty_like(low_c)
        for block, z in np.ndindex(low_c.shape):
            blocks_c[block, z] = eq.HUNDRED_K * answer.values[model.place["setpoint", block, z]]
        return np.clip(blocks_c, low_c, high_c), answer


@dataclass(frozen=True)
class Met:
    """One round as it was met: what was known, the bounds, and what Gauss–Newton had planned."""

    state: FurnaceState
    low_c: Series
    high_c: Series
    still_c: Series
    planned_c: Series


def met_rounds(plant: Plant, seed: int, rounds: int, run_in: int) -> list[Met]:
    """So many rounds, one after the other, of a furnace steered by Gauss–Newton in lockstep."""
    truth = Truth(plant, seed=seed, start=START)
    history = truth.advance_samples(START + timedelta(hours=HISTORY_H))
    lockstep = Lockstep(plant, truth, history, SlabController(plant))
    found: list[Met] = []
    while len(found) < rounds:
        done = lockstep.step()
        if done is None or not isinstance(done.twin, FurnaceState):
            continue
        run_in -= 1
        if run_in < 0:
            found.append(_met(plant, done))
    return found


def _met(plant: Plant, done: Round) -> Met:
    furnace, _ = line_of(plant)
    mvs = [zone.setpoint for zone in furnace.zones]
    still = np.array([done.state.value(mv) for mv in mvs], dtype=float)
    rooms = [move_room(plant, mv, done.context, done.state.at) or 0.0 for mv in mvs]
    may_go = {
        mv: within_room(plant.tag(mv), at, room)
        for mv, at, room in zip(mvs, still, rooms, strict=True)
    }
    edges = _TUNING.block_edges_min
    low, high = block_bounds(plant, len(edges), still, may_go)
    planned = np.column_stack([done.plan.moves[mv][list(edges)] for mv in mvs])
    assert isinstance(done.twin, FurnaceState)
    return Met(done.twin, low, high, still, planned)


@dataclass
class Arm:
    """One way of planning: money in 200 min and CPU seconds by state; how many did not converge."""

    money: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    failed: int = 0


class Comparison:
    """Every arm on one state after the other."""

    def __init__(self, plant: Plant, ours: Mapping[str, PyomoPlanner]) -> None:
        self._furnace, self._mill = line_of(plant)
        self._theirs, self._ours = SlabPlanner(self._furnace, self._mill, _TUNING), ours
        self._cost = SlabCost(self._furnace, self._theirs.tuning.pricing)
        self.arms: dict[str, Arm] = {}

    def state(self, before: Met, met: Met) -> None:
        """Plan from `met` in every way; `before` is the round before it, to begin warm from."""
        holding = np.tile(met.still_c, (len(met.low_c), 1))
        self._note("holding", met, lambda: holding)
        for arm, start_c, rounds in (
            ("gauss-newton, one round", before.planned_c, 1),
            ("gauss-newton, one round from holding", holding, 1),
            ("gauss-newton, ten rounds", before.planned_c, 10),
        ):
            self._note(arm, met, partial(self._gauss_newton, met, start_c, rounds))
        for name, planner in self._ours.items():
            last = self._asked(planner, before, None)[1]
            begin = None if last.reason else last
            found = None
            for arm, start in ((f"pyomo, {name}, cold", None), (f"pyomo, {name}, warm", begin)):
                began_s = process_time()
                found, answer = self._asked(planner, met, start)
                self._note(arm, met, partial(lambda blocks_c: blocks_c, found), began_s)
                self.arms[arm].failed += bool(answer.reason)
            assert found is not None
            polish = partial(self._gauss_newton, met, found, 1)
            self._note(f"gauss-newton, one round from pyomo, {name}", met, polish)

    def _note(
        self, arm: str, met: Met, plan: Callable[[], Series], began_s: float | None = None
    ) -> None:
        began_s = process_time() if began_s is None else began_s
        blocks_c = plan()
        spent_s = process_time() - began_s
        noted = self.arms.setdefault(arm, Arm())
        noted.money.append(self._judged(met.state, blocks_c))
        noted.cpu_s.append(spent_s)

    def _judged(self, state: FurnaceState, blocks_c: Series) -> float:
        """What a plan is sought by, from the twin's rollout of it."""
        leaves, path = self._leaves(state), self._theirs.path(blocks_c)
        passage = Rollout(self._furnace, state, leaves).run(path)
        edges_min = self._theirs.tuning.block_edges_min
        ends = np.array([*edges_min[1:], _PREDICT_MIN]) - 1
        gaps_k = (path[ends] - passage.gas_c[ends]).ravel()
        return self._cost.judge(passage, self._cost.aim(state, tuple(leaves)), gaps_k).total

    def _gauss_newton(self, met: Met, start_c: Series, rounds: int) -> Series:
        found = start_c
        for _ in range(rounds):
            plan = self._theirs.plan(met.state, found, met.low_c, met.high_c, met.still_c)
            found = plan.blocks_c
        return found

    def _asked(
        self, planner: PyomoPlanner, met: Met, begin: Answer | None
    ) -> tuple[Series, Answer]:
        return planner.plan(met.state, self._leaves(met.state), met.low_c, met.high_c, begin)

    def _leaves(self, state: FurnaceState) -> list[int]:
        left_s = remaining_stop_s(self._mill, state)
        return leaving_steps(self._furnace, state, _PREDICT_MIN, pace=1.0, restart_s=left_s)


def figures(arms: Mapping[str, Arm], ours: Mapping[str, PyomoPlanner]) -> dict[str, float]:
    """The figures by name, the Pyomo plan's by how many slabs are one."""
    one = arms["gauss-newton, one round"]
    told = {"states": float(len(one.money)), "gauss_newton_cpu_s": float(np.median(one.cpu_s))}
    for name, planner in ours.items():
        cold, warm = arms[f"pyomo, {name}, cold"], arms[f"pyomo, {name}, warm"]
        over = np.array(warm.money) - np.array(one.money)
        told |= {
            f"{name}_variables": float(planner.variables),
            f"{name}_setup_cpu_s": planner.setup_s,
            f"{name}_cold_cpu_s": float(np.median(cold.cpu_s)),
            f"{name}_warm_cpu_s": float(np.median(warm.cpu_s)),
            f"{name}_warm_cpu_s_max": float(np.max(warm.cpu_s)),
            f"{name}_not_converged": float(cold.failed + warm.failed),
            f"{name}_over_gauss_newton_money": float(over.mean()),
            f"{name}_better_states": float((over < 0.0).sum()),
        }
    return told


def rows(arms: Mapping[str, Arm]) -> list[dict[str, Any]]:
    """Each arm: money in 200 min above the best arm's of the same state, and CPU."""
    best = np.min([arm.money for arm in arms.values()], axis=0)
    found = []
    for name, arm in arms.items():
        over = np.array(arm.money) - best
        told = {"mean": over.mean(), "median": np.median(over), "max": over.max()}
        row: dict[str, Any] = {"arm": name}
        row |= {f"over_best_{key}": round(float(value), 2) for key, value in told.items()}
        found.append(row | {"cpu_s": round(float(np.median(arm.cpu_s)), 4)})
    return found


def run(*, is_quick: bool) -> dict[str, Any]:
    """All figures, and a row per arm; a smoke run is of one seed and two states."""
    plant = read_plant(PLANT)
    seeds, states, run_in = (SEEDS[:1], 2, 6) if is_quick else (SEEDS, STATES, RUN_IN_ROUNDS)
    furnace, _ = line_of(plant)
    ours = {name: PyomoPlanner(furnace, grid, _TUNING) for name, grid in _GRIDS.items()}
    comparison = Comparison(plant, ours)
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("States planned from", total=len(seeds) * states)
        for seed in seeds:
            met = met_rounds(plant, seed, states * ROUNDS_APART, run_in)
            for at in range(ROUNDS_APART - 1, len(met), ROUNDS_APART):
                comparison.state(met[at - 1], met[at])
                bar.advance(task)
    told, table = figures(comparison.arms, ours), rows(comparison.arms)
    return {"benchmark": "slab_pyomo", "figures": told, "rows": table}


def main() -> None:
    """Run, and print the figures and rows."""
    run_and_tell(__doc__, lambda is_quick: run(is_quick=is_quick), row_line=str)


if __name__ == "__main__":
    main()
