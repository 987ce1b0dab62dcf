"""Who steers a run of the furnace line round by round, and what of the run such a planner sees.

It sees what tracking would show: slabs with its usual error, the yard's records, what the mill's
crew says. It sees nothing of what the run has drawn: no stop that is to come, no slab's emissivity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from twin.furnace.state import TRACKED_SD_K, FurnaceState, MillState, Slab, SlabState
from twin.simulation.line_state import LineSlab, LineState, Luck

#: Asked with what is seen now: MV -> setpoint from now on. An MV that it does not name stays.
Policy = Callable[[FurnaceState], Mapping[str, float]]


def seen(present: LineState, yard: tuple[Slab, ...], luck: Luck) -> FurnaceState:
    """A run's present as tracking would show it to a planner; `yard` are the slabs it is told.

    A slab that was tracked when the run began is as wrong now as it was then; one charged since is
    as wrong as slabs that were tracked all the way. What grades take up stays as it was learned.
    """
    rolling, learned = present.rolling, present.learned
    told_due_s = rolling.due_s if rolling.told_due_s is None else rolling.told_due_s
    return FurnaceState(
        at=present.at,
        slabs=tuple(_seen_slab(each, luck) for each in present.slabs),
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


def _seen_slab(each: LineSlab, luck: Luck) -> SlabState:
    # A run begins with true = tracked + sd × `tracked` (line_state): seen is tracked again.
    wrong_k = TRACKED_SD_K * luck.slab(each.item).tracked
    return SlabState(
        slab=each.slab,
        node_c=tuple(max(node_c - wrong_k, 0.0) for node_c in each.node_c),
        face_c=max(each.face_c - wrong_k, 0.0),
        scale2=each.scale2,
        # Its temperatures are those of what it has really taken up.
        per_emissivity_k=(0.0,) * (len(each.node_c) + 1),
        sd_k=TRACKED_SD_K,
    )


def _moment(at_s: float | None) -> datetime | None:
    return None if at_s is None else datetime.fromtimestamp(at_s, tz=UTC)
