"""Who steers a run of the furnace line round by round, and what of the run such a planner sees.

It sees what tracking would show: slabs with its usual error, the yard's records, what the mill's
crew says. It sees nothing of what the run has drawn: no stop that is to come, no slab's emissivity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from twin.furnace.state import (
    FORGETS_MIN,
    TRACKED_SD_K,
    FurnaceState,
    MillState,
    Slab,
    SlabState,
)
from twin.simulation.line_state import LineSlab, LineState, TrackingError

#: Asked with what is seen now: MV -> setpoint from now on. An MV that it does not name stays.
Policy = Callable[[FurnaceState], Mapping[str, float]]


def seen(present: LineState, yard: tuple[Slab, ...]) -> FurnaceState:
    """A run's present as tracking would show it to a planner; `yard` are the slabs it is told.

    When a run begins, its slabs are seen as tracked; one charged since, as its record told. What
    that gets wrong beyond the usual fades, unless the slab is in doubt: then it stays. What grades
    take up stays as it was learned.
    """
    rolling, learned = present.rolling, present.learned
    told_due_s = rolling.due_s if rolling.told_due_s is None else rolling.told_due_s
    return FurnaceState(
        at=present.at,
        slabs=tuple(_seen_slab(each, present.at_s) for each in present.slabs),
        yard=yard,
        zones=present.zones,
        mill=MillState(
            stopped_since=_moment(rolling.stood_since_s),
            expected_restart=_moment(rolling.told_restart_s),
            due=datetime.fromtimestamp(told_due_s, tz=UTC),
            stops=learned.stops,
            held_since=_moment(present.at_s - rolling.held_s) if rolling.held_s else None,
        ),
        emissivity_percent=learned.emissivity_percent,
        emissivity_sd_k=learned.emissivity_sd_k,
        loops=present.loops,
    )


def _seen_slab(each: LineSlab, at_s: float) -> SlabState:
    left = _left(each.tracking, at_s)
    wrong_k = each.tracking.wrong_k * left
    return SlabState(
        slab=each.slab,
        node_c=tuple(max(node_c - wrong_k, 0.0) for node_c in each.node_c),
        face_c=max(each.face_c - wrong_k, 0.0),
        scale2=each.scale2,
        # Its temperatures are those of what it has really taken up.
        per_emissivity_k=(0.0,) * (len(each.node_c) + 1),
        sd_k=each.tracking.sd_k * left,
        doubt=each.tracking.doubt,
    )


def _left(tracking: TrackingError, at_s: float) -> float:
    """The share of an error that is left at `at_s`; it fades as in `chances.leaving_sd_k`."""
    if tracking.doubt or tracking.sd_k <= TRACKED_SD_K:
        return 1.0
    usual = (TRACKED_SD_K / tracking.sd_k) ** 2
    ago_min = (at_s - tracking.since_s) / 60.0
    return math.sqrt(usual + (1.0 - usual) * math.exp(-2.0 * ago_min / FORGETS_MIN))


def _moment(at_s: float | None) -> datetime | None:
    return None if at_s is None else datetime.fromtimestamp(at_s, tz=UTC)
