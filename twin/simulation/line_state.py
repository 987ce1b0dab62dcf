"""A furnace line at one moment of a run as plain data, and how a run begins from what is tracked.

A live start, a snapshot in the middle of a run and a fork are the same thing: a LineState. Who
builds processes from it is `line_blocks` and `line`. Each random number belongs to an item of a
block (a slab in leaving order, a stop, a campaign), so runs that differ in a plan meet the same
slabs and stops.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np

from twin.furnace.numbers import STEP_S
from twin.furnace.residual import LoopState
from twin.furnace.rollout import check_full, rolling_s
from twin.furnace.state import (
    TRACKED_SD_K,
    FurnaceState,
    Slab,
    SlabState,
    StopBelief,
    ZoneState,
)
from twin.furnace.steel import enthalpy, steel
from twin.furnace.stops import remaining, stop_belief
from twin.plant.furnace import Furnace, Mill
from twin.records import Series
from twin.simulation.draws import stream

_AT_ONCE = 64  # slabs whose numbers are drawn together: a stream costs more than its numbers
_NORMALS = 5  # of a slab

# What a record does not tell of a slab. Assumed; what they leave out is the model's own error
# (twin/slab_forecast.py), which was measured.
_EMISSIVITY_SD = 0.01  # of one slab against its grade
_CHARGE_SD_K = 15.0  # of a slab that comes hot, against its record
_LEAST_PER_PERCENT_K = 0.3  # that a per cent of emissivity does at the door; assumed, usual 0.7
_COLD_C = 100.0  # below, a slab lay in the hall for long enough to be known


class Luck:
    """What one replication draws, by block and item: equal for equal seed and replication."""

    def __init__(self, seed: int, replication: int) -> None:
        self._seed, self._replication = seed, replication
        self._slabs: dict[int, Series] = {}

    def slab(self, item: int) -> SlabLuck:
        """Of the slab that is `item`-th to leave, counted from the run's live start."""
        part, row = divmod(item, _AT_ONCE)
        if part not in self._slabs:
            rng = stream(self._seed, self._replication, "slabs", part)
            self._slabs[part] = rng.standard_normal((_AT_ONCE, _NORMALS))
        return SlabLuck(*self._slabs[part][row].tolist())

    def stop(self, item: int) -> tuple[float, float]:
        """Shares in [0, 1): of how long it rolls before a stop, and of how long that lasts."""
        wait, length = stream(self._seed, self._replication, "stops", item).random(2)
        return float(wait), float(length)

    def estimate(self, item: int) -> float:
        """A standard normal: how wrong its crew is about the stop after the `item`-th slab."""
        return float(stream(self._seed, self._replication, "estimates", item).standard_normal())

    def grade(self, grade: int) -> float:
        """A standard normal: how far a grade's emissivity is from what was learned."""
        # Grades count from −1, what nobody has described; streams from 0.
        return float(stream(self._seed, self._replication, "grades", grade + 1).standard_normal())

    def campaign(self, item: int) -> tuple[float, float]:
        """Shares in [0, 1): of which kind a campaign is, and of its length."""
        kind, length = stream(self._seed, self._replication, "campaigns", item).random(2)
        return float(kind), float(length)

    def due(self) -> tuple[float, float]:
        """A normal and a share: when the mill really wants the first slab."""
        rng = stream(self._seed, self._replication, "due", 0)
        return float(rng.standard_normal()), float(rng.random())


@dataclass(frozen=True, slots=True)
class SlabLuck:
    """Standard normals of one slab."""

    tracked: float  # its temperature against the tracked one
    emissivity: float
    charge: float
    gap: float  # until the mill wants the next one
    believed: float  # the plant's own tracker against the truth


@dataclass(frozen=True, slots=True)
class TrackingError:
    """How tracking errs of a slab since `since_s` (s since 1970 UTC), when a run drew it.

    Then it was `wrong_k` warmer than tracked, which tracking took to be sure to `sd_k`. `doubt` is
    why it is less sure than usual for as long as the slab is inside, or "".
    """

    wrong_k: float
    sd_k: float
    since_s: float
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class LineSlab:
    """A slab inside as it is in this run: J/kg and °C from core to face, and its drawn emissivity.

    `item` names its random numbers, `hottest_c` is its face's highest so far. `tracking` tells what
    a planner sees of it.
    """

    slab: Slab
    item: int
    enthalpy: tuple[float, ...]
    node_c: tuple[float, ...]
    face_c: float
    hottest_c: float
    scale2: float
    emissivity: float
    tracking: TrackingError


@dataclass(frozen=True, slots=True)
class YardState:
    """Slabs that wait, and what comes when they are gone.

    `kinds` are the campaigns seen, each by one slab of it. `kind` is the one that comes, for
    `left` further slabs (None: not drawn yet; `known` of them were seen).
    """

    waiting: tuple[Slab, ...]
    kinds: tuple[Slab, ...]
    kind: Slab
    known: int
    left: int | None
    next_campaign: int
    next_number: int
    next_item: int


@dataclass(frozen=True, slots=True)
class SureStop:
    """A stop that comes in any case: with the first slab rolled after `at_s` (s since 1970 UTC)."""

    at_s: float
    lasts_s: float


@dataclass(frozen=True, slots=True)
class RollingState:
    """The mill in a run: when it wants a slab, how long one has been held, stops. Times in s UTC.

    `restarts_s` is None while it rolls. `rolls_h`: scheduled rolling until the next stop; None
    while not drawn. `next_stop` names that stop's random numbers; stops last log-normally, around
    `stop_median_s` with `stop_sigma`. `sure_stops`, in their order, come besides.

    What the control room sees: since when it stands, when its crew said it goes on, and when it
    wants the next slab by its schedule (None: `due_s`).
    """

    due_s: float
    held_s: float
    restarts_s: float | None
    rolls_h: float | None
    next_stop: int
    stop_median_s: float
    stop_sigma: float
    sure_stops: tuple[SureStop, ...] = ()
    stood_since_s: float | None = None
    told_restart_s: float | None = None
    told_due_s: float | None = None


@dataclass(frozen=True, slots=True)
class Learned:
    """What tracking had learned when a run began, as in `FurnaceState` and `MillState`."""

    emissivity_percent: dict[int, float] = field(default_factory=dict)
    emissivity_sd_k: dict[int, float] = field(default_factory=dict)
    stops: StopBelief | None = None


@dataclass(frozen=True)
class LineState:
    """Everything at `at` of one run. `slabs` in the order in which they leave.

    `emissivity_percent` (grade) is what its slabs take up more than the plant file says, as drawn;
    `learned` is what a planner of this furnace believes, `loops` what its zones' residual needs.
    """

    at: datetime
    slabs: tuple[LineSlab, ...]
    zones: tuple[ZoneState, ...]
    yard: YardState
    rolling: RollingState
    emissivity_percent: dict[int, float]
    learned: Learned = Learned()
    loops: LoopState | None = None

    @property
    def at_s(self) -> float:
        """`at` in seconds since 1970 UTC: the simulation's clock."""
        return self.at.timestamp()


def live(furnace: Furnace, mill: Mill, state: FurnaceState, luck: Luck) -> LineState:
    """How a run begins: what is tracked, with what nobody knows of it drawn.

    Raises ValueError as `check_full` does.
    """
    check_full(furnace, state)
    percent, at_s = _percent(state, luck), state.at.timestamp()
    return LineState(
        at=state.at,
        slabs=tuple(
            _tracked(furnace, percent, each, item, luck, at_s)
            for item, each in enumerate(state.slabs)
        ),
        zones=state.zones,
        yard=_yard(state),
        rolling=_rolling(furnace, mill, state, luck),
        emissivity_percent=percent,
        learned=Learned(state.emissivity_percent, state.emissivity_sd_k, state.mill.stops),
        loops=state.loops,
    )


def charged(
    furnace: Furnace,
    percent: dict[int, float],
    slab: Slab,
    item: int,
    luck: Luck,
    nodes: int,
    at_s: float,
) -> LineSlab:
    """A slab as it comes in: of one temperature, which its record tells with an error."""
    drawn = luck.slab(item)
    at_c = slab.charge_c
    tracking = TrackingError(TRACKED_SD_K * drawn.tracked, TRACKED_SD_K, at_s)
    if at_c > _COLD_C:
        at_c = max(at_c + _CHARGE_SD_K * drawn.charge, _COLD_C)
        sd_k = math.hypot(TRACKED_SD_K, _CHARGE_SD_K)
        tracking = TrackingError(at_c - slab.charge_c, sd_k, at_s)
    node = np.full(nodes, at_c)
    heat = enthalpy(steel(furnace), node)
    emissivity = _emissivity(furnace, percent, slab, drawn)
    heat_per_kg, node_c = tuple(heat.tolist()), tuple(node.tolist())
    return LineSlab(slab, item, heat_per_kg, node_c, at_c, at_c, 0.0, emissivity, tracking)


def _percent(state: FurnaceState, luck: Luck) -> dict[int, float]:
    """Per grade what its slabs take up more than the plant file says: learned, and unsure."""
    per_k = max(_per_percent_k(state.slabs[0]), _LEAST_PER_PERCENT_K)
    return {
        grade: learned + luck.grade(grade) * state.emissivity_sd_k.get(grade, 0.0) / per_k
        for grade, learned in state.emissivity_percent.items()
    }


def _per_percent_k(each: SlabState) -> float:
    nodes = each.per_emissivity_k[:-1]
    return sum(nodes) / len(nodes)


def _tracked(
    furnace: Furnace,
    percent: dict[int, float],
    each: SlabState,
    item: int,
    luck: Luck,
    at_s: float,
) -> LineSlab:
    drawn = luck.slab(item)
    more = percent.get(each.slab.grade, 0.0)
    per_k = np.array(each.per_emissivity_k)
    believed_c = np.array([*each.node_c, each.face_c]) + more * per_k
    # The tables begin at 0 °C; a slab that has just come cold is not colder than that.
    wrong_k = max(each.sd_k * drawn.tracked, -float(believed_c.min()))
    true_c = np.maximum(believed_c + wrong_k, 0.0)
    node, face_c = true_c[:-1], float(true_c[-1])
    return LineSlab(
        slab=each.slab,
        item=item,
        enthalpy=tuple(enthalpy(steel(furnace), node).tolist()),
        node_c=tuple(node.tolist()),
        face_c=face_c,
        hottest_c=face_c,
        scale2=each.scale2,
        emissivity=_emissivity(furnace, percent, each.slab, drawn),
        tracking=TrackingError(wrong_k, each.sd_k, at_s, each.doubt),
    )


def _emissivity(furnace: Furnace, percent: dict[int, float], slab: Slab, drawn: SlabLuck) -> float:
    of_grade = 1.0 + percent.get(slab.grade, 0.0) / 100.0
    return furnace.emissivity * of_grade * (1.0 + _EMISSIVITY_SD * drawn.emissivity)


def _yard(state: FurnaceState) -> YardState:
    inside = [each.slab for each in state.slabs]
    seen = [*inside, *state.yard]
    campaigns = _campaigns([slab for slab in seen if slab.number > 0] or seen)
    last, known = campaigns[-1]
    return YardState(
        waiting=state.yard,
        kinds=tuple(kind for kind, _ in campaigns),
        kind=last,
        known=known,
        left=None,
        next_campaign=0,
        next_number=max(slab.number for slab in seen) + 1,
        next_item=len(inside),
    )


def _campaigns(slabs: Sequence[Slab]) -> list[tuple[Slab, int]]:
    """Runs of slabs that differ in nothing but their number: one of each, and how many."""
    found: list[tuple[Slab, int]] = []
    for slab in slabs:
        kind = replace(slab, number=0)
        if found and found[-1][0] == kind:
            found[-1] = kind, found[-1][1] + 1
        else:
            found.append((kind, 1))
    return found


def _rolling(furnace: Furnace, mill: Mill, state: FurnaceState, luck: Luck) -> RollingState:
    at_s = state.at.timestamp()
    told_s = state.mill.due.timestamp()
    gap, share = luck.due()
    # That a slab has left is seen at the end of the minute in which it did.
    wanted_s = told_s - STEP_S * share
    wanted_s += mill.gap_sd * gap * rolling_s(furnace, state.slabs[0].slab)
    left = remaining(mill, state)
    restarts_s = None if left is None else at_s + left.quantile_s(luck.stop(0)[1])
    belief = state.mill.stops or stop_belief(mill)
    return RollingState(
        due_s=max(wanted_s, at_s),
        held_s=_held_s(state) if restarts_s is None else 0.0,
        restarts_s=restarts_s,
        rolls_h=None,
        next_stop=1,
        stop_median_s=belief.median_s,
        stop_sigma=belief.sigma,
        stood_since_s=_seconds(state.mill.stopped_since),
        told_restart_s=_seconds(state.mill.expected_restart),
        told_due_s=told_s,
    )


def _held_s(state: FurnaceState) -> float:
    """For how long the interlock has held the slab at the door, however long ago it was due."""
    since = state.mill.held_since
    return 0.0 if since is None else max(0.0, (state.at - since).total_seconds())


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()
