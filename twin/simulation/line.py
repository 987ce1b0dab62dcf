"""One run of a furnace line: yard, walking beam, discharge door and mill in one SimPy clock.

The furnace sleeps between events. Whoever moves a slab first has it brought up to that moment by
the compiled equations, minute by minute and the piece that is left, so that a slab leaves exactly
when it does and not when a minute ends. Built from plain data: a run that is stopped and built up
again goes on exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import simpy

from twin.furnace import kernel
from twin.furnace.numbers import STEP_S, numbers
from twin.furnace.residual import loops_of, state_of
from twin.furnace.rollout import FASTEST, SLOWEST, conductivity_of, is_pace, zones_of
from twin.furnace.state import FurnaceState, Slab, ZoneState
from twin.furnace.steel import steel
from twin.plant import Plant
from twin.plant.furnace import Furnace, Mill
from twin.records import Series
from twin.simulation.blocks import Event, Process
from twin.simulation.line_blocks import Rolling, Yard
from twin.simulation.line_state import LineSlab, LineState, Luck, charged, live
from twin.simulation.line_steering import Policy, seen

_MW = 1e-6


@dataclass(frozen=True, slots=True)
class SlabLeft:
    """A slab that left: when, and how it was then. `surface_c` is its face's highest on its way."""

    slab: Slab
    at: datetime
    mean_c: float
    difference_k: float
    surface_c: float
    scale_kg: float
    heat_j: float
    held_s: float


@dataclass(frozen=True)
class LineRun:
    """One run: every signal per step, which slabs left and came, what happened, where it stands.

    `values[tag][k]` is a temperature at `start` + (k + 1) × `step_s`, or a mean over the step that
    ends there. The pyrometer's is the last slab's, NaN before one has left. `taken_j` is the heat
    that slabs took up inside. `trust` is the least that the learned residual earned on the way, 1
    where all was like what it was trained on. `end` starts the continuation.
    """

    start: datetime
    step_s: float
    values: Mapping[str, Series]
    left: tuple[SlabLeft, ...]
    charged: tuple[Slab, ...]
    charged_j: float
    taken_j: float
    trust: float
    events: tuple[Event, ...]
    end: LineState


def simulate_line(
    plant: Plant,
    state: FurnaceState | LineState,
    moves: Mapping[str, Series],
    *,
    seed: int,
    steps: int,
    replication: int = 0,
    policy: Policy | None = None,
) -> LineRun:
    """Run the line of `plant` from `state` for `steps` plan steps.

    `moves` gives every zone's setpoint per step, and the pace (1 where it gives none); the last
    one is kept beyond its end. A `policy` is asked at the beginning, every planning round of the
    plant, and in the minute after the mill stops or goes on; what it says replaces the moves from
    then on. Random numbers depend on seed, replication, block and item alone:
    two plans on one seed meet the same slabs and stops. A run is continued with its own seed.

    Raises ValueError if `moves` lacks a zone or has a pace that no mill can have, or for a plant
    without furnace and mill; KeyError if `policy` names what is no setpoint of them.
    """
    furnace, mill = line_of(plant)
    luck = Luck(seed, replication)
    begin = state if isinstance(state, LineState) else live(furnace, mill, state, luck)
    run = _Run(furnace, mill, begin, _Path(furnace, mill, moves, steps), luck)
    if policy is not None:
        run.env.process(run.rounds(policy, plant.round_s))
    end = begin.at + timedelta(seconds=steps * STEP_S)
    run.env.run(until=end.timestamp())
    return run.told(end, steps)


def line_of(plant: Plant) -> tuple[Furnace, Mill]:
    """The plant's furnace and mill; ValueError where it has none."""
    furnace, mill = plant.furnace, plant.mill
    if furnace is None or mill is None:
        raise ValueError(f"{plant.plant} has no furnace with a mill (`discrete` in the plant file)")
    return furnace, mill


class _Path:
    """The moves as arrays: setpoints (step, zone) and the pace (step). A policy changes them."""

    def __init__(
        self, furnace: Furnace, mill: Mill, moves: Mapping[str, Series], steps: int
    ) -> None:
        missing = [zone.setpoint for zone in furnace.zones if not len(moves.get(zone.setpoint, ()))]
        if missing:
            raise ValueError(f"moves lack {', '.join(missing)}: give every zone at least one value")
        tags = [zone.setpoint for zone in furnace.zones]
        self.setpoints_c = np.column_stack([_kept(moves[tag], steps) for tag in tags])
        self.pace = _kept(moves.get(mill.pace, np.ones(1)), steps)
        if none := [pace for pace in self.pace if not is_pace(pace)]:
            raise ValueError(f"{mill.pace}: {none[0]:g} is none; give {SLOWEST:g} to {FASTEST:g}")
        self._by_tag = {tag: self.setpoints_c[:, z] for z, tag in enumerate(tags)}
        self._by_tag[mill.pace] = self.pace

    def move(self, step: int, setpoints: Mapping[str, float]) -> None:
        """From `step` on, every MV named stands where `setpoints` says."""
        for tag, value in setpoints.items():
            self._by_tag[tag][step:] = value


def _kept(path: Series, steps: int) -> Series:
    path = np.asarray(path, dtype=np.float64)[:steps]
    return np.concatenate([path, np.full(steps - len(path), path[-1])])


class _Run:
    """The board of door and mill, with beam and furnace behind it."""

    def __init__(
        self, furnace: Furnace, mill: Mill, state: LineState, path: _Path, luck: Luck
    ) -> None:
        self.env = simpy.Environment(initial_time=state.at_s)
        self._furnace, self._mill, self._path, self._luck = furnace, mill, path, luck
        self._numbers, self._steel = numbers(furnace), steel(furnace)
        self._start, self._start_s = state.at, state.at_s
        self._since_s = 0.0  # after the start: so far the furnace has been brought
        self._percent = state.emissivity_percent
        self._learned = state.learned
        self._inside = list(state.slabs)
        self._slabs = _slabs(furnace, state.slabs)
        self._hottest_c = np.array([each.hottest_c for each in state.slabs])
        self._zones = zones_of(state.zones)
        self._extra_w = np.array([zone.extra_w for zone in state.zones])
        self._residual = None if state.loops is None else state.loops.residual
        self._loops = loops_of(state.loops, self._zones.ramped)
        self._seen = np.zeros((len(path.pace), 3 * len(state.zones)))
        self._events: list[Event] = []
        self._left: list[SlabLeft] = []
        self._charged: list[Slab] = []
        self._charged_j = self._taken_j = 0.0
        self._yard = Yard(state.yard, luck)
        self._rolling = Rolling(furnace, mill, state.rolling, self, luck)

    def happened(self, block: str, item: int, what: str) -> None:
        """Note an event at the present moment."""
        self._events.append(Event(float(self.env.now), block, item, what))

    def pace(self) -> float:
        """The mill's pace now."""
        step = int((self.env.now - self._start_s) / STEP_S)
        return float(self._path.pace[min(step, len(self._path.pace) - 1)])

    def at_door(self) -> tuple[LineSlab, float]:
        """The slab that leaves next, with its mean temperature now."""
        self._commit()
        return self._inside[0], float(self._slabs.node[0].mean())

    def move(self, held_s: float) -> LineSlab:
        """The slab at the door leaves, all others move on one place, and one is charged."""
        self._commit()
        gone = self._inside.pop(0)
        self._left.append(self._measured(gone, held_s))
        self.happened(self._furnace.name, gone.slab.number, "leaves")
        slab, item = self._yard.take()
        came = charged(
            self._furnace, self._percent, slab, item, self._luck,
            self._slabs.node.shape[1], float(self.env.now),
        )  # fmt: skip
        self._inside.append(came)
        for field in (*self._slabs, self._hottest_c):
            field[:-1] = field[1:].copy()
        _put(self._furnace, self._slabs, -1, came)
        self._hottest_c[-1] = came.hottest_c
        self._charged.append(slab)
        self._charged_j += self._heat_j(-1)
        return gone

    def rounds(self, policy: Policy, round_s: float) -> Process:
        """Ask the policy whenever a round is due; plants are looked at once a minute."""
        asked_s, stood = -math.inf, False
        while True:
            now_s, stands = float(self.env.now), self._rolling.stands
            if now_s - asked_s >= round_s or stands != stood:
                asked_s, stood = now_s, stands
                step = round((now_s - self._start_s) / STEP_S)
                self._path.move(step, policy(self._tracked(now_s)))
            yield self.env.timeout(STEP_S)

    def _tracked(self, now_s: float) -> FurnaceState:
        self._commit()
        present = self._present(datetime.fromtimestamp(now_s, tz=UTC))
        return seen(present, self._yard.told(self._furnace.yard_places))

    def told(self, end: datetime, steps: int) -> LineRun:
        """The run as a record, brought up to `end`."""
        self._commit()
        return LineRun(
            start=self._start,
            step_s=STEP_S,
            values=self._values(steps),
            left=tuple(self._left),
            charged=tuple(self._charged),
            charged_j=self._charged_j,
            taken_j=self._taken_j,
            trust=float(self._loops.trust[0]),
            events=tuple(self._events),
            end=self._present(end),
        )

    def _commit(self) -> None:
        """Bring the furnace up to now: no slab has moved since the last call."""
        until_s = float(self.env.now) - self._start_s
        if until_s > self._since_s:
            self._taken_j += kernel.advance(
                self._steel, self._numbers, self._slabs, self._zones, self._loops, self._extra_w,
                self._path.setpoints_c, self._since_s, until_s, STEP_S,
                self._hottest_c, self._seen,
            )  # fmt: skip
            self._since_s = until_s

    def _heat_j(self, place: int) -> float:
        kg = float(self._slabs.thickness[place]) * self._numbers.face_m2 * kernel.DENSITY
        return kg * float(self._slabs.enthalpy[place].mean())

    def _measured(self, gone: LineSlab, held_s: float) -> SlabLeft:
        left = np.empty(4)
        kernel.leave(self._slabs, 0, left)
        return SlabLeft(
            slab=gone.slab,
            at=datetime.fromtimestamp(float(self.env.now), tz=UTC),
            mean_c=float(left[kernel.MEAN]),
            difference_k=float(left[kernel.DIFFERENCE]),
            surface_c=float(self._hottest_c[0]),
            scale_kg=2.0 * float(left[kernel.SCALE]) * self._numbers.face_m2,
            heat_j=self._heat_j(0),
            held_s=held_s,
        )

    def _values(self, steps: int) -> dict[str, Series]:
        furnace, mill, count = self._furnace, self._mill, len(self._furnace.zones)
        values: dict[str, Series] = {}
        for z, zone in enumerate(furnace.zones):
            values[zone.fuel] = _MW * self._seen[:, z]
            values[zone.temperature] = self._seen[:, count + z]
            values[zone.followed] = self._seen[:, 2 * count + z]
            values[zone.setpoint] = self._path.setpoints_c[:, z]
        values[furnace.fuel] = _MW * self._seen[:, :count].sum(axis=1)
        stood, held = self._rolling.shares(self._start_s, STEP_S, steps)
        values[mill.running] = 1.0 - np.array(stood)
        values[furnace.interlock] = np.array(held)
        values[mill.pace] = self._path.pace
        ends_s = self._start_s + STEP_S * np.arange(1.0, steps + 1.0)
        newest = np.searchsorted([left.at.timestamp() for left in self._left], ends_s, "right")
        shown = np.array([np.nan, *(left.mean_c for left in self._left)])
        values[furnace.pyrometer] = shown[newest]
        return values

    def _present(self, at: datetime) -> LineState:
        slabs, zones = self._slabs, self._zones
        inside = tuple(
            LineSlab(
                slab=each.slab,
                item=each.item,
                enthalpy=tuple(slabs.enthalpy[i].tolist()),
                node_c=tuple(slabs.node[i].tolist()),
                face_c=float(slabs.face[i]),
                hottest_c=float(self._hottest_c[i]),
                scale2=float(slabs.scale2[i]),
                emissivity=each.emissivity,
                tracking=each.tracking,
            )
            for i, each in enumerate(self._inside)
        )
        lumps = zip(zones.gas, zones.wall, zones.ramped, zones.fuel, self._extra_w, strict=True)
        return LineState(
            at=at,
            slabs=inside,
            zones=tuple(ZoneState(*(float(value) for value in lump)) for lump in lumps),
            yard=self._yard.present(),
            rolling=self._rolling.present(),
            emissivity_percent=self._percent,
            learned=self._learned,
            loops=state_of(self._loops, self._residual),
        )


def _slabs(furnace: Furnace, inside: tuple[LineSlab, ...]) -> kernel.Slabs:
    count, nodes = len(inside), len(inside[0].node_c)
    slabs = kernel.Slabs(
        enthalpy=np.empty((count, nodes)),
        node=np.empty((count, nodes)),
        face=np.empty(count),
        scale2=np.empty(count),
        thickness=np.empty(count),
        conductivity=np.empty(count),
        emissivity=np.empty(count),
    )
    for place, each in enumerate(inside):
        _put(furnace, slabs, place, each)
    return slabs


def _put(furnace: Furnace, slabs: kernel.Slabs, place: int, each: LineSlab) -> None:
    slabs.enthalpy[place], slabs.node[place] = each.enthalpy, each.node_c
    slabs.face[place], slabs.scale2[place] = each.face_c, each.scale2
    slabs.thickness[place] = each.slab.thickness_m
    slabs.conductivity[place] = conductivity_of(furnace, each.slab.grade)
    slabs.emissivity[place] = each.emissivity
