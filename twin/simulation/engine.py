"""One run of the twin: discrete blocks and the continuous unit in one SimPy clock.

The unit sleeps between events. Whoever changes one of its inputs first has it integrated up to
that moment, so its inputs are constant over every piece it integrates and nothing is missed
between the steps of a plan. The clock counts seconds since 1970 UTC: a run that is stopped, stored
and built up again meets the very same moments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

import numpy as np
import simpy

from twin.physics import Physics, floors
from twin.plant import Batches, Plant, Role, Tariff, Trips
from twin.records import Series
from twin.simulation.blocks import BatchesBlock, Event, Process, TariffBlock, TripsBlock
from twin.simulation.draws import stream
from twin.simulation.twin_state import TwinState, hour_start_s

#: MVs for a step, given its number (0 first) and the present signals and states.
Steering = Callable[[int, Mapping[str, float]], Mapping[str, float]]


class Residual(Protocol):
    """The rate that the physics misses, learned: one evaluation per plan step."""

    def rate(self, hidden: Series, levels: Series, inputs: Series) -> tuple[Series, Series]:
        """Missing rate per state (unit per second) and the next hidden state.

        `levels` and `inputs` are in the order of the physics' states and inputs.
        """


@dataclass(frozen=True)
class Trajectory:
    """One run: every signal per step, what happened, and the state at its end.

    `values[tag][k]`: a state at `start` + (k + 1) × `step_s`; an MV, a disturbance or an output
    as its mean over the step that ends there. `end` starts the continuation.
    """

    start: datetime
    step_s: float
    values: Mapping[str, Series]
    events: tuple[Event, ...]
    end: TwinState


def simulate(
    plant: Plant,
    physics: Physics,
    state: TwinState,
    moves: Mapping[str, Series] | Steering,
    *,
    seed: int,
    steps: int,
    replication: int = 0,
    residual: Residual | None = None,
    scale: Mapping[str, float] | None = None,
) -> Trajectory:
    """Run the twin from `state` for `steps` plan steps.

    `moves` gives every MV per step (the last one is kept beyond its end), or steers by itself.
    `scale` multiplies disturbances: tag -> factor. The random numbers depend on seed,
    replication, block and item alone, never on moves or scale.

    Raises ValueError if `moves` lacks an MV or the state lacks one of the physics' states.
    """
    steer = moves if callable(moves) else _following(plant, moves, steps)
    run = _Run(plant, physics, state, steer, seed, replication, residual, scale or {})
    run.env.run(until=run.env.process(run.steps(steps)))
    return Trajectory(
        start=state.at,
        step_s=plant.step_s,
        values=run.columns(),
        events=tuple(run.events),
        end=run.present(state.at + timedelta(seconds=steps * plant.step_s), state),
    )


def _following(plant: Plant, moves: Mapping[str, Series], steps: int) -> Steering:
    missing = [t.name for t in plant.with_role(Role.MV) if not len(moves.get(t.name, ()))]
    if missing:
        raise ValueError(f"moves lack {', '.join(missing)}: give every MV at least one value")
    paths = {mv: np.asarray(path, dtype=np.float64).tolist() for mv, path in moves.items()}
    rows = [{mv: p[min(k, len(p) - 1)] for mv, p in paths.items()} for k in range(steps)]
    return lambda step, _: rows[step]


class _Run:
    """The board that blocks act upon, with the continuous unit behind it."""

    def __init__(
        self,
        plant: Plant,
        physics: Physics,
        state: TwinState,
        steer: Steering,
        seed: int,
        replication: int,
        residual: Residual | None,
        scale: Mapping[str, float],
    ) -> None:
        missing = [name for name in physics.states if name not in state.states]
        if missing:
            raise ValueError(f"the state at {state.at} lacks {', '.join(missing)}")
        self.env = simpy.Environment(initial_time=state.at_s)
        self.events: list[Event] = []
        self._plant, self._physics, self._steer, self._scale = plant, physics, steer, scale
        self._residual, self._hidden = residual, np.array(state.hidden)
        # A disturbance that was never read is not known; it is NaN wherever it matters.
        self._signals = dict.fromkeys((dv.name for dv in plant.with_role(Role.DV)), math.nan)
        self._signals |= {tag: v * scale.get(tag, 1.0) for tag, v in state.held.items()}
        self._levels: dict[str, float] = {name: state.states[name] for name in physics.states}
        self._floors = dict(zip(physics.states, floors(plant, physics), strict=True))
        self._bias = {name: state.bias.get(name, 0.0) for name in physics.states}
        self._extra = dict(self._bias)
        self._inputs: dict[str, float] | None = None
        self._outputs: dict[str, float] = {}
        self._since_s = state.at_s
        self._sums: dict[str, float] = {}
        self._rows: list[dict[str, float]] = []
        self._batches: dict[str, BatchesBlock] = {}
        self._machines: dict[str, TripsBlock] = {}
        self._tariffs: dict[str, TariffBlock] = {}
        for block in plant.discrete:
            streams = partial(stream, seed, replication, block.name)
            if isinstance(block, Batches):
                known = state.batches[block.name]
                self._batches[block.name] = BatchesBlock(block, known, self, streams)
            elif isinstance(block, Trips):
                machine = state.machines[block.name]
                self._machines[block.name] = TripsBlock(block, machine, self, streams)
            elif isinstance(block, Tariff):
                tariff, hour_s = state.tariffs[block.name], hour_start_s(plant, state.at_s)
                self._tariffs[block.name] = TariffBlock(block, tariff, self, hour_s)

    def set(self, tag: str, value: float) -> None:
        """Change a signal from now on."""
        self._commit()
        self._signals[tag] = value * self._scale.get(tag, 1.0)
        self._inputs = None

    def happened(self, block: str, item: int, what: str) -> None:
        """Note an event at the present moment."""
        self.events.append(Event(float(self.env.now), block, item, what))

    def steps(self, count: int) -> Process:
        """The plan's clock: new moves at each step's start, a row at its end."""
        start_s = float(self.env.now)
        for step in range(count):
            setpoints = self._steer(step, self._signals | self._levels)
            self._signals.update(setpoints)
            self._inputs = None
            self._learn()
            yield self.env.timeout(start_s + (step + 1) * self._plant.step_s - self.env.now)
            self._commit()
            means = {tag: total / self._plant.step_s for tag, total in self._sums.items()}
            self._rows.append(means | self._levels)
            self._sums = {}

    def columns(self) -> dict[str, Series]:
        """The rows as one series per tag."""
        tags = list(self._rows[0]) if self._rows else []
        table = np.array([[row[tag] for tag in tags] for row in self._rows])
        return {tag: table[:, i] for i, tag in enumerate(tags)}

    def present(self, at: datetime, start: TwinState) -> TwinState:
        """Everything a continuation needs, as plain data."""
        return TwinState(
            at=at,
            states=dict(self._levels),
            bias=dict(start.bias),
            batches={name: block.present() for name, block in self._batches.items()},
            machines={name: block.present() for name, block in self._machines.items()},
            tariffs={name: block.present() for name, block in self._tariffs.items()},
            held=dict(start.held),
            hidden=tuple(self._hidden.tolist()),
            assumed=start.assumed,
        )

    def _commit(self) -> None:
        """Integrate the unit up to now: inputs have been constant since the last call."""
        now_s = float(self.env.now)
        piece_s = now_s - self._since_s
        if piece_s <= 0:
            return
        physics, sums = self._physics, self._sums
        if self._inputs is None:
            self._inputs = physics.actuate(self._signals)
            self._outputs = physics.outputs_at(self._levels, self._inputs)
        after = physics.advance(self._levels, self._inputs, piece_s, math, self._extra)
        for name, floor in self._floors.items():
            if after[name] < floor:
                after[name] = floor
        outputs = physics.outputs_at(after, self._inputs)
        for tag, value in self._signals.items():
            if tag not in outputs:
                sums[tag] = sums.get(tag, 0.0) + piece_s * value
        for tag, value in outputs.items():
            sums[tag] = sums.get(tag, 0.0) + piece_s * 0.5 * (value + self._outputs[tag])
        self._levels, self._outputs, self._since_s = after, outputs, now_s

    def _learn(self) -> None:
        """Ask the residual, once per step, for the rate that the physics misses."""
        if self._residual is None:
            return
        inputs = self._physics.actuate(self._signals)
        rates, self._hidden = self._residual.rate(
            self._hidden,
            np.array([self._levels[name] for name in self._physics.states]),
            np.array([inputs[name] for name in self._physics.inputs]),
        )
        learned = zip(self._physics.states, rates.tolist(), strict=True)
        self._extra = {name: self._bias[name] + rate for name, rate in learned}
