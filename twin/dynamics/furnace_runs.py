"""A furnace's past as tracking followed it, and its models in free run from many moments of it.

A furnace is no row of levels: a free run starts from tracked slabs and meets the setpoints and the
discharges that really came. What a run is compared with is `record`'s, what is learned from the
past is `zone_fitting`'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from twin.dynamics.frames import Array, Cuts, columns
from twin.furnace.numbers import STEP_S
from twin.furnace.records import is_number
from twin.furnace.residual import FADE_MIN, ZoneResidual
from twin.furnace.rollout import Passage, Rollout
from twin.furnace.state import FurnaceState
from twin.furnace.tracking import Tracker
from twin.plant.furnace import Furnace, Mill
from twin.records import Window

_AT_END = 0.02  # of a burner's range: so near to its end a loop is not free to follow
#: To either side of a row: what a balance lacks for longer is left to the losses learned online.
#: Chosen on training seeds 1004 and 1007 among 30, 60 and no limit: fuel over an hour 0.86, 0.89
#: and 1.03 MW off.
_DRIFT_ROWS = 30
_FREE_ROWS = 10  # that a loop must have been free before anything is learned from it


@dataclass(frozen=True)
class Followed:
    """One pass of a tracker: its states at the rows asked for, and what loops did at every row.

    `memory` (row, feature) is what the residual would remember, `wanted` (row, answer) what it
    should have said: how far the thermocouples were off the followed setpoints, K, and what no
    balance explains beyond its mean around that row, MW. `followed_c` (row, zone). NaN where not
    known.
    """

    states: Mapping[int, FurnaceState]
    memory: Array
    wanted: Array
    followed_c: Array


def follow(
    furnace: Furnace,
    mill: Mill,
    past: Window,
    at_rows: Sequence[int],
    *,
    learns: bool,
    progress: Callable[[float], None] | None = None,
) -> Followed:
    """Track the whole of `past`; rows of `at_rows` where the furnace is not known have no state."""
    tracker, asked = Tracker(furnace, mill, learns=learns), set(at_rows)
    seen = {tag: past.values[tag] for tag in tracker.tags}
    states: dict[int, FurnaceState] = {}
    memory, unexplained_w = [], []
    nothing = (math.nan,) * (2 * len(furnace.zones) * len(FADE_MIN))
    for row in range(past.rows):
        end = past.end - timedelta(seconds=STEP_S * (past.rows - 1 - row))
        minute = {tag: values[row : row + 1] for tag, values in seen.items()}
        tracker.observe(Window(end, STEP_S, minute))
        memory.append(nothing if tracker.loops is None else tracker.loops.memory)
        unexplained_w.append(tracker.unexplained_w)
        if row in asked:
            state = tracker.state()
            if state is not None and state.at == end:
                states[row] = state
        if progress is not None and row % 100 == 0:
            progress(row / past.rows)
    shown = columns(past.values, [zone.temperature for zone in furnace.zones])
    followed_c = columns(past.values, [zone.followed for zone in furnace.zones])
    wanted = np.hstack([shown - followed_c, _without_drift(np.array(unexplained_w) / 1e6)])
    return Followed(states, np.array(memory), wanted, followed_c)


def _without_drift(values: Array) -> Array:
    """The rows (row, zone) less the mean of those around them; NaN where not known."""
    known = np.isfinite(values)
    nothing = np.zeros((1, values.shape[1]))
    total = np.concatenate([nothing, np.where(known, values, 0.0).cumsum(axis=0)])
    count = np.concatenate([nothing, known.cumsum(axis=0)])
    rows = np.arange(len(values))
    first, last = (np.clip(rows + by, 0, len(values)) for by in (-_DRIFT_ROWS, _DRIFT_ROWS + 1))
    drift: Array = (total[last] - total[first]) / np.maximum(count[last] - count[first], 1)
    return values - drift


def free_loops(furnace: Furnace, past: Window) -> NDArray[np.bool_]:
    """(row, zone): whether its burners and the header have let a loop do what it wants for long."""
    fuel_mw = columns(past.values, [zone.fuel for zone in furnace.zones])
    low, high = np.array([zone.fuel_mw for zone in furnace.zones]).T
    edge = _AT_END * (high - low)
    is_free = (fuel_mw > low + edge) & (fuel_mw < high - edge)
    is_free &= (fuel_mw.sum(axis=1) < (1.0 - _AT_END) * furnace.header_mw)[:, None]
    free = is_free.copy()
    for back in range(1, _FREE_ROWS):
        free[back:] &= is_free[:-back]
    free[:_FREE_ROWS] = False
    return np.asarray(free)


class FurnaceRuns:
    """Free runs of one furnace over one past, for whoever scores them."""

    def __init__(self, furnace: Furnace, past: Window, cvs: Sequence[str]) -> None:
        self._furnace, self._cvs = furnace, tuple(cvs)
        self._gone = past.values[furnace.discharged]
        self._setpoints_c = columns(past.values, [zone.setpoint for zone in furnace.zones])
        shown = [zone.temperature for zone in furnace.zones]
        self._zones = columns(past.values, [*shown, *(zone.fuel for zone in furnace.zones)])

    def ahead(self, followed: Followed, cuts: Cuts, residual: ZoneResidual | None) -> Array:
        """Every CV along what really came, (step, window, cv); NaN where a start is not known."""
        steps = len(cuts.future)
        found = np.full((steps, cuts.count, len(self._cvs)), np.nan)
        for i, row in enumerate(cuts.starts.tolist()):
            state = followed.states.get(row)
            if state is not None:
                found[:, i] = self._run(_with(state, residual), row, steps)
        return found

    def zone_errors(self, followed: Followed, cuts: Cuts, residual: ZoneResidual | None) -> Array:
        """What every zone's temperature (K) and fuel (MW) missed, (run × step, 2 × zone)."""
        missed = [np.empty((0, 2 * len(self._furnace.zones)))]
        steps = len(cuts.future)
        for row in cuts.starts.tolist():
            state = followed.states.get(row)
            if state is not None:
                passage, _ = self._passage(_with(state, residual), row, steps)
                told = np.hstack([passage.gas_c, passage.fuel_w / 1e6])
                missed.append(self._zones[row + 1 : row + 1 + steps] - told)
        return np.concatenate(missed)

    def _passage(self, state: FurnaceState, row: int, steps: int) -> tuple[Passage, list[int]]:
        ahead = slice(row + 1, row + 1 + steps)
        leaves = discharges(state, self._gone[ahead])
        return Rollout(self._furnace, state, leaves).run(self._setpoints_c[ahead]), leaves

    def _run(self, state: FurnaceState, row: int, steps: int) -> Array:
        passage, leaves = self._passage(state, row, steps)
        told = {zone.temperature: passage.gas_c[:, z] for z, zone in enumerate(self._furnace.zones)}
        told[self._furnace.fuel] = passage.fuel_w.sum(axis=1) / 1e6
        newest = np.searchsorted(leaves, np.arange(1, steps + 1), side="right")
        told[self._furnace.pyrometer] = np.concatenate([[np.nan], passage.mean_c])[newest]
        return np.column_stack([told[cv] for cv in self._cvs])


def discharges(state: FurnaceState, gone: Array) -> list[int]:
    """After how many rows of `gone` (the number of the last slab that left) each slab has left.

    Of the slabs inside and in the yard, in turn, until one has not left before the last row, or has
    no number to tell it by: a run over these rows ends before it does.
    """
    leaves: list[int] = []
    for slab in (*(each.slab for each in state.slabs), *state.yard):
        later = np.flatnonzero(gone[:-1] == slab.number)
        is_early = later.size and leaves and later[0] + 1 < leaves[-1]
        if not is_number(slab.number) or not later.size or is_early:
            break
        leaves.append(int(later[0]) + 1)
    return leaves


def _with(state: FurnaceState, residual: ZoneResidual | None) -> FurnaceState:
    loops = None if state.loops is None else replace(state.loops, residual=residual)
    return replace(state, loops=loops)
