"""One Plantwright arm on one emulated plant: every step runs the functions of a live round.

The truth is only stepped and written to here; no model or planner sees it. An accepting operator
is assumed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from optimizer.controller import Round
from optimizer.cycle import Planning
from twin.economics import Score
from twin.plant import Plant, Role
from twin.records import (
    BAD,
    GOOD,
    Clearance,
    Decision,
    Forecast,
    Reading,
    Samples,
    Series,
    Stage,
)
from twin.safety import (
    CLOSED_LOOP_DECIDER,
    NEVER_MOVED,
    GateContext,
    Trust,
    check,
    clear,
    tripped,
)
from twin.state import plant_state, window_start

HISTORY_H = 48.0
_SURE = Trust(1.0, 1_000_000)  # what the gate asks of a model is more than met


@dataclass
class ArmResult:
    """One arm of one seed. `fans` pairs a forecast with what the forked plant then did.

    `refused` counts proposals that the gate did not clear, `untrusted` those of them that it would
    have cleared had it trusted the model.
    """

    score: Score | None = None
    rounds: int = 0
    proposals: int = 0
    refused: int = 0
    untrusted: int = 0
    writes: int = 0
    writes_outside_limits: int = 0
    planning_cpu_ms: list[float] = field(default_factory=list)
    fans: list[tuple[Forecast, dict[str, Series]]] = field(default_factory=list)
    seen: dict[str, Samples] = field(default_factory=dict)


class Lockstep:
    """One Plantwright arm on one emulated plant, stepped as fast as it can."""

    def __init__(
        self, plant: Plant, truth: Any, history: Mapping[str, Samples], controller: Planning
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

    def step(self) -> Round | None:
        """Advance the plant by one step; plan if a round is due, and write what the gate clears."""
        plant, truth = self.plant, self.truth
        now: datetime = truth.now + timedelta(seconds=plant.step_s)
        truth.write("plc.heartbeat", float(self.result.rounds))
        self.recorder.take(truth.advance_samples(now))
        begin_s = window_start(plant, now, 1).timestamp()
        followed = self.controller.followed_tags
        started = time.process_time()
        self.controller.observe(self.recorder.since(begin_s, followed), now, 1)
        if not self.controller.is_due(now):
            return None
        state = plant_state(plant, self.recorder.last, now)
        done = self.controller.round(state, self._context(now), now)
        self.result.planning_cpu_ms.append(1000 * (time.process_time() - started))
        self.result.rounds += 1
        for mv in tripped(plant, state):
            remote = plant.tag(mv).remote
            if remote is not None and state.value(remote.tag) == remote.remote:
                truth.write(remote.tag, float(remote.auto))
        if done.setpoints:
            self.result.proposals += 1
            if done.verdict.is_clear:
                self._write(done, now)
            else:
                self.result.refused += 1
                self.result.untrusted += self._is_for_trust_alone(done, now)
        return done

    def _is_for_trust_alone(self, done: Round, now: datetime) -> bool:
        """Whether the gate would have cleared the same round of a model that it trusts."""
        trusting = replace(done.context, trust=_SURE)
        return check(self.plant, done.state, done.setpoints, trusting, now).is_clear

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
        hour = self.recorder.since(now.timestamp() - 3600, self._mvs)
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


class _Recorder:
    """Keeps what a plant has emitted: the newest reading of every tag, and all samples."""

    def __init__(self, samples: Mapping[str, Samples]) -> None:
        self._kept = {tag: _Growing(s) for tag, s in samples.items()}
        self.last = {tag: _newest(tag, s) for tag, s in samples.items() if len(s.times_s)}

    def take(self, samples: Mapping[str, Samples]) -> None:
        for tag, new in samples.items():
            if len(new.times_s):
                self._kept[tag].append(new)
                self.last[tag] = _newest(tag, new)

    def since(self, start_s: float, tags: Iterable[str] | None = None) -> dict[str, Samples]:
        """All samples from `start_s` on; of `tags`, if given. Nobody may write into them."""
        kept = self._kept
        return {tag: kept[tag].since(start_s) for tag in (kept if tags is None else tags)}


class _Growing:
    """The samples of one tag, in arrays with room for more: asked every step, copied seldom."""

    def __init__(self, samples: Samples) -> None:
        self._count = len(samples.times_s)
        self._times_s, self._values = samples.times_s, samples.values

    def append(self, new: Samples) -> None:
        end = self._count + len(new.times_s)
        if end > len(self._times_s):
            room = np.full(end, np.nan)  # what was handed out stays as it was
            self._times_s = np.concatenate([self._times_s[: self._count], room])
            self._values = np.concatenate([self._values[: self._count], room])
        self._times_s[self._count : end] = new.times_s
        self._values[self._count : end] = new.values
        self._count = end

    def since(self, start_s: float) -> Samples:
        times_s = self._times_s[: self._count]
        first = times_s.searchsorted(start_s)
        return Samples(times_s[first:], self._values[first : self._count])


def _newest(tag: str, samples: Samples) -> Reading:
    at = datetime.fromtimestamp(float(samples.times_s[-1]), tz=UTC)
    value = float(samples.values[-1])
    if math.isnan(value):
        return Reading(tag, None, BAD, at, at)
    return Reading(tag, value, GOOD, at, at)
