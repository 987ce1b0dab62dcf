"""The plant's own baseline against Plantwright: lockstep, paired over seeds, on emulated plants.

Every arm of a seed starts from the same plant after the same two days of history and meets the
same batches, trips, prices and noise. Plantwright's arms run the very functions of a live round
(`optimizer.cycle`, `twin.safety`); an accepting operator is assumed. The truth is only stepped,
written to and scored here; no model or planner sees it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from optimizer.controller import Controller, Model, Round, error_band
from optimizer.plan import Planner
from twin.dynamics.frames import cut, signals_of
from twin.dynamics.lineup import TrainingReport, train
from twin.dynamics.models import PHYSICS, PHYSICS_BIAS, PHYSICS_RESIDUAL, PhysicsModel
from twin.economics import Score, score
from twin.physics import Physics, load_physics
from twin.plant import Plant, Role, read_plant
from twin.plants.four_tank.baseline import PLAIN
from twin.records import (
    BAD,
    GOOD,
    Clearance,
    Decision,
    Forecast,
    Plan,
    Reading,
    Samples,
    Series,
    Stage,
)
from twin.safety import CLOSED_LOOP_DECIDER, NEVER_MOVED, GateContext, clear, tripped
from twin.simulation.statistics import FEWEST_RUNS, paired_difference
from twin.state import plant_state, window

TEST_SEEDS = tuple(range(2001, 2021))
HISTORY_H = 48.0
RUN_H = 12.0
START = datetime(2026, 1, 5, tzinfo=UTC)
_FORK_EVERY_H = 1.0
_CONTEXT_ROWS = 60
_CUT_STRIDE = 15
_HORIZONS_S = (300.0, 900.0, 1800.0, 3600.0)

#: Plantwright's arms -> the member of the line-up that each plans with.
_LEARNING = {
    "physics only": PHYSICS,
    "physics + bias": PHYSICS_BIAS,
    "physics + bias + residual": PHYSICS_RESIDUAL,
}
ARMS = ("hold", "baseline", "plain PI", *_LEARNING)


@dataclass
class ArmResult:
    """One arm of one seed. `fans` pairs a forecast with what the forked plant then did."""

    score: Score | None = None
    rounds: int = 0
    proposals: int = 0
    refused: int = 0
    writes: int = 0
    writes_outside_limits: int = 0
    planning_cpu_ms: list[float] = field(default_factory=list)
    fans: list[tuple[Forecast, dict[str, Series]]] = field(default_factory=list)
    seen: dict[str, Samples] = field(default_factory=dict)


@dataclass
class SeedResult:
    """All arms of one seed; forecast errors on realised inputs and under carried-out plans.

    `own_arm` is the arm that plans with the promoted model, as a live planner would.
    """

    seed: int
    promoted: str
    own_arm: str
    arms: dict[str, ArmResult]
    errors: dict[str, dict[float, dict[str, Series]]]
    planned_errors: list[dict[float, dict[str, tuple[float, bool]]]]


class _Recorder:
    """Keeps what a plant has emitted: the newest reading of every tag, and all samples."""

    def __init__(self, samples: Mapping[str, Samples]) -> None:
        self._times = {tag: [s.times_s] for tag, s in samples.items()}
        self._values = {tag: [s.values] for tag, s in samples.items()}
        self.last = {tag: _newest(tag, s) for tag, s in samples.items() if len(s.times_s)}

    def take(self, samples: Mapping[str, Samples]) -> None:
        for tag, new in samples.items():
            if len(new.times_s):
                self._times[tag].append(new.times_s)
                self._values[tag].append(new.values)
                self.last[tag] = _newest(tag, new)

    def since(self, start_s: float) -> dict[str, Samples]:
        """All samples from `start_s` on, in chunks as they came."""
        found = {}
        for tag, chunks in self._times.items():
            first = len(chunks)
            while first > 0 and chunks[first - 1][-1] >= start_s:
                first -= 1
            times = np.concatenate(chunks[first:]) if first < len(chunks) else np.empty(0)
            values = np.concatenate(self._values[tag][first:]) if len(times) else np.empty(0)
            keep = times >= start_s
            found[tag] = Samples(times[keep], values[keep])
        return found


def _newest(tag: str, samples: Samples) -> Reading:
    at = datetime.fromtimestamp(float(samples.times_s[-1]), tz=UTC)
    value = float(samples.values[-1])
    if math.isnan(value):
        return Reading(tag, None, BAD, at, at)
    return Reading(tag, value, GOOD, at, at)


class Lockstep:
    """One Plantwright arm on one emulated plant, stepped as fast as it can."""

    def __init__(
        self, plant: Plant, truth: Any, history: Mapping[str, Samples], controller: Controller
    ) -> None:
        self.plant = plant
        self.truth = truth
        self.recorder = _Recorder(history)
        self.controller = controller
        self.result = ArmResult()
        self._mvs = [tag.name for tag in plant.with_role(Role.MV)]
        self._last_moved = dict.fromkeys(self._mvs, NEVER_MOVED)
        rows = round(HISTORY_H * 3600 / plant.step_s)
        controller.observe(history, truth.now, min(rows, 26 * 60))

    def step(self) -> Round:
        """Advance the plant by one step, plan, ask the gate, write what it clears."""
        plant, truth = self.plant, self.truth
        now: datetime = truth.now + timedelta(seconds=plant.step_s)
        truth.write("plc.heartbeat", float(self.result.rounds))
        self.recorder.take(truth.advance_samples(now))
        longest_s = 180.0 + plant.step_s
        started = time.process_time()
        state = plant_state(plant, self.recorder.last, now)
        self.controller.observe(self.recorder.since(now.timestamp() - longest_s), now, 1)
        done = self.controller.round(state, self._context(now), now)
        self.result.planning_cpu_ms.append(1000 * (time.process_time() - started))
        self.result.rounds += 1
        for mv in tripped(plant, state):
            remote = plant.tag(mv).remote
            if remote is not None and state.value(remote.tag) == remote.remote:
                truth.write(remote.tag, float(remote.auto))
        if done.setpoints:
            self.result.proposals += 1
            self.result.refused += not done.verdict.is_clear
            if done.verdict.is_clear:
                self._write(done, now)
        return done

    def _write(self, done: Round, now: datetime) -> None:
        decision = Decision("lockstep", True, CLOSED_LOOP_DECIDER, "lockstep comparison", now)
        clearance = clear(
            self.plant, done.state, "lockstep", done.setpoints, done.context, decision, now
        )
        if not isinstance(clearance, Clearance):
            self.result.refused += 1
            return
        for mv, value in clearance.setpoints.items():
            tag = self.plant.tag(mv)
            pairs = [limits for limits in (tag.engineering, tag.operator) if limits is not None]
            outside = not all(limits.holds(value) for limits in pairs)
            self.result.writes += 1
            self.result.writes_outside_limits += outside
            refusal = self.truth.write(mv, value)
            if refusal is None:
                self._last_moved[mv] = now

    def _context(self, now: datetime) -> GateContext:
        hour = self.recorder.since(now.timestamp() - 3600)
        travel: dict[str, float | None] = {}
        for mv in self._mvs:
            values = hour[mv].values[np.isfinite(hour[mv].values)]
            travel[mv] = float(np.abs(np.diff(values)).sum()) if len(values) > 1 else None
        return GateContext(
            stages=dict.fromkeys(self._mvs, Stage.CLOSED_LOOP),
            trust=None,
            travel_last_h=travel,
            last_moved_at=dict(self._last_moved),
            is_stopped=False,
        )


def run_seed(
    plant: Plant, seed: int, *, hours: float = RUN_H, arms: Sequence[str] = ARMS
) -> SeedResult:
    """Two days of history, training on it, then every arm over the same `hours`."""
    physics = load_physics(plant)
    assert physics is not None
    truth = _truth(plant)(plant, seed=seed, start=START)
    history = truth.advance_samples(START + timedelta(hours=HISTORY_H))
    rows = round(HISTORY_H * 3600 / plant.step_s)
    report = train(plant, physics, window(plant, history, truth.now, rows), seed=seed)
    planner = Planner(plant, physics)
    ours = _own_arm(report)
    results: dict[str, ArmResult] = {}
    for arm in arms:
        own = _plain_pi(plant, seed) if arm == "plain PI" else truth.fork()
        if arm in _LEARNING:
            model = _model(arm, report)
            run = Lockstep(plant, own, history, Controller(plant, physics, model, planner=planner))
            results[arm] = _steer(run, hours, with_fans=arm == ours)
        else:
            results[arm] = _leave_alone(plant, own, hours, is_held=arm == "hold")
        results[arm].score = score(plant, own.true_record(truth.now), plant.step_s)
    chosen = results.get(ours)
    return SeedResult(
        seed=seed,
        promoted=report.promoted,
        own_arm=ours,
        arms=results,
        errors={} if chosen is None else _conditional_errors(plant, physics, report, chosen, hours),
        planned_errors=[] if chosen is None else _planned_errors(plant, physics, chosen),
    )


def _truth(plant: Plant) -> Any:
    return import_module(f"twin.plants.{plant.plant}.truth").Truth


def _own_arm(report: TrainingReport) -> str:
    """The arm that plans with what training promoted, as a live planner would."""
    if report.promoted == PHYSICS_RESIDUAL:
        return "physics + bias + residual"
    return "physics only" if report.promoted == PHYSICS else "physics + bias"


def _model(arm: str, report: TrainingReport) -> Model:
    name = _LEARNING[arm]
    member = report.models[name]
    assert isinstance(member, PhysicsModel)
    return Model(
        arm,
        member.residual,
        error_band(report.card.bands[name]),
        learns_bias=member.learns_bias,
    )


def _steer(run: Lockstep, hours: float, *, with_fans: bool) -> ArmResult:
    """One Plantwright arm; now and then its forecast is held against a fork of the plant."""
    plant = run.plant
    begin = run.truth.now
    every = round(_FORK_EVERY_H * 3600 / plant.step_s)
    for step in range(round(hours * 3600 / plant.step_s)):
        done = run.step()
        if with_fans and step % every == every // 2 and done.twin is not None:
            fan = run.controller.forecast(done, done.plan.moves, seed=step)
            run.result.fans.append((fan, _follow_plan(plant, run.truth.fork(), done.plan)))
    context_s = _CONTEXT_ROWS * plant.step_s
    run.result.seen = run.recorder.since(begin.timestamp() - context_s - 300.0)
    return run.result


def _follow_plan(plant: Plant, fork: Any, plan: Plan) -> dict[str, Series]:
    """What the sensors of a forked plant showed while the whole plan was carried out."""
    rows: dict[str, list[float]] = {tag.name: [] for tag in plant.with_role(Role.CV)}
    for step in range(plant.horizon_steps):
        fork.write("plc.heartbeat", float(step))
        for mv, path in plan.moves.items():
            fork.write(mv, float(path[step]))
        samples = fork.advance_samples(fork.now + timedelta(seconds=plant.step_s))
        for tag, values in rows.items():
            values.append(float(samples[tag].values[-1]))
    return {tag: np.array(values) for tag, values in rows.items()}


def _plain_pi(plant: Plant, seed: int) -> Any:
    """The same plant after the same two days under PI loops that know no order list."""
    truth = _truth(plant)(plant, seed=seed, start=START, baseline=PLAIN)
    truth.advance_samples(START + timedelta(hours=HISTORY_H))
    return truth


def _leave_alone(plant: Plant, own: Any, hours: float, *, is_held: bool) -> ArmResult:
    """An arm without Plantwright: the PLC's own control, or setpoints that never move."""
    held = {mv.name: own.read(mv.name) for mv in plant.with_role(Role.MV)} if is_held else {}
    for step in range(round(hours * 3600 / plant.step_s)):
        own.write("plc.heartbeat", float(step))
        if step == 0:
            for mv, value in held.items():
                own.write(mv, value)
        own.advance_samples(own.now + timedelta(seconds=plant.step_s))
    return ArmResult()


def _conditional_errors(
    plant: Plant, physics: Physics, report: TrainingReport, chosen: ArmResult, hours: float
) -> dict[str, dict[float, dict[str, Series]]]:
    """Model -> horizon -> CV -> errors of free runs on the inputs that really came."""
    end = datetime.fromtimestamp(float(next(iter(chosen.seen.values())).times_s[-1]), tz=UTC)
    rows = round(hours * 3600 / plant.step_s) + _CONTEXT_ROWS
    signals = signals_of(plant, physics)
    followed = {tag: chosen.seen[tag] for tag in (*signals.levels, *signals.inputs)}
    cuts = cut(
        signals,
        window(plant, followed, end, rows),
        context_rows=_CONTEXT_ROWS,
        steps=plant.horizon_steps,
        first=_CONTEXT_ROWS,
        last=rows,
        stride=_CUT_STRIDE,
    )
    errors: dict[str, dict[float, dict[str, Series]]] = {}
    for name, model in report.models.items():
        ahead = model.run(cuts.past, cuts.future)
        errors[name] = {
            horizon_s: {
                cv: ahead[k, :, i] - cuts.truth[k, :, signals.cv_columns[i]]
                for i, cv in enumerate(signals.cvs)
            }
            for horizon_s in _HORIZONS_S
            for k in [round(horizon_s / plant.step_s) - 1]
        }
    return errors


def _planned_errors(
    plant: Plant, physics: Physics, chosen: ArmResult
) -> list[dict[float, dict[str, tuple[float, bool]]]]:
    """Per fan: horizon -> CV -> (error of the middle line, was the reading inside the fan)."""
    found = []
    for fan, seen in chosen.fans:
        entry: dict[float, dict[str, tuple[float, bool]]] = {}
        for horizon_s in _HORIZONS_S:
            k = round(horizon_s / plant.step_s) - 1
            entry[horizon_s] = {
                cv: (
                    float(fan.middle[cv][k] - seen[cv][k]),
                    bool(fan.low[cv][k] <= seen[cv][k] <= fan.high[cv][k]),
                )
                for cv in physics.states
                if math.isfinite(seen[cv][k])
            }
        found.append(entry)
    return found


def compare(
    plant: Plant,
    seeds: Sequence[int],
    *,
    hours: float = RUN_H,
    jobs: int = 2,
    on_seed: Callable[[int], None] = lambda done: None,
) -> list[SeedResult]:
    """Every arm on every seed, `jobs` seeds at a time; `on_seed` hears how many are done."""
    results: list[SeedResult] = []
    pool = Parallel(n_jobs=jobs, return_as="generator")
    for result in pool(delayed(_named_seed)(plant.plant, seed, hours) for seed in seeds):
        results.append(result)
        on_seed(len(results))
    return results


def _named_seed(name: str, seed: int, hours: float) -> SeedResult:
    """`run_seed` for another process, which reads the plant file itself."""
    return run_seed(read_plant(name), seed, hours=hours)


def figures(plant: Plant, results: Sequence[SeedResult]) -> dict[str, Any]:
    """The comparison as one record: costs per hour, paired saving, errors, coverage, ablation."""
    ours = [result.arms[result.own_arm] for result in results]
    baseline = [result.arms["baseline"] for result in results]
    saving = _saving(baseline, ours)
    return {
        "seeds": [result.seed for result in results],
        "hours_per_seed": _score(ours[0]).hours,
        "writes_outside_limits": sum(arm.writes_outside_limits for arm in ours),
        "writes": sum(arm.writes for arm in ours),
        "proposals": sum(arm.proposals for arm in ours),
        "refused": sum(arm.refused for arm in ours),
        "cv_limit_minutes": {
            "baseline": _mean(sum(_score(arm).limit_minutes.values()) for arm in baseline),
            "plantwright": _mean(sum(_score(arm).limit_minutes.values()) for arm in ours),
        },
        "cost_per_h": {
            "baseline": _mean(_score(arm).cost_per_h for arm in baseline),
            "plantwright": _mean(_score(arm).cost_per_h for arm in ours),
        },
        "saving_percent": saving,
        "saving_percent_against_plain_pi": _saving(
            [result.arms["plain PI"] for result in results], ours
        ),
        "forecast_rmse": _pooled_rmse([result.errors for result in results]),
        "forecast_rmse_planned": _planned_rmse(results),
        "coverage90": _coverage(results),
        "ablation": {
            arm: _mean(_score(result.arms[arm]).cost_per_h for result in results) for arm in ARMS
        },
        "promoted": {
            name: sum(result.promoted == name for result in results)
            for name in sorted({result.promoted for result in results})
        },
        "planning_cpu_ms": {
            "median": float(np.median([ms for arm in ours for ms in arm.planning_cpu_ms])),
            "p95": float(np.quantile([ms for arm in ours for ms in arm.planning_cpu_ms], 0.95)),
        },
    }


def _score(arm: ArmResult) -> Score:
    assert arm.score is not None
    return arm.score


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _saving(baseline: Sequence[ArmResult], ours: Sequence[ArmResult]) -> dict[str, float | None]:
    """Paired saving in percent of the baseline's mean, with its 95 % t-interval over seeds."""
    base = np.array([_score(arm).cost_per_h for arm in baseline])
    cost = np.array([_score(arm).cost_per_h for arm in ours])
    scale = 100.0 / float(base.mean())
    if len(base) < FEWEST_RUNS:
        return {"mean": scale * float((base - cost).mean()), "low": None, "high": None}
    saved = paired_difference(base, cost)
    return {"mean": scale * saved.mean, "low": scale * saved.low, "high": scale * saved.high}


def _pooled_rmse(
    errors: Sequence[Mapping[str, Mapping[float, Mapping[str, Series]]]],
) -> dict[str, dict[str, dict[str, float]]]:
    return {
        model: {
            f"{horizon_s:.0f}": {
                tag: _rmse([found[model][horizon_s][tag] for found in errors])
                for tag in errors[0][model][horizon_s]
            }
            for horizon_s in _HORIZONS_S
        }
        for model in errors[0]
    }


def _rmse(parts: Sequence[Series]) -> float:
    return float(np.sqrt(np.nanmean(np.concatenate(parts) ** 2)))


def _planned_rmse(results: Sequence[SeedResult]) -> dict[str, dict[str, float]]:
    """Error of the forecast's middle line when the plan is carried out, by horizon and CV."""
    found: dict[str, dict[str, float]] = {}
    for horizon_s in _HORIZONS_S:
        errors: dict[str, list[float]] = {}
        for result in results:
            for entry in result.planned_errors:
                for tag, (error, _) in entry[horizon_s].items():
                    errors.setdefault(tag, []).append(error)
        found[f"{horizon_s:.0f}"] = {tag: _rmse([np.array(e)]) for tag, e in errors.items()}
    return found


def _coverage(results: Sequence[SeedResult]) -> dict[str, float]:
    """Share of readings inside the 90 % fan when the plan is carried out, by horizon."""
    return {
        f"{horizon_s:.0f}": _mean(
            is_inside
            for result in results
            for entry in result.planned_errors
            for _, is_inside in entry[horizon_s].values()
        )
        for horizon_s in _HORIZONS_S
    }
