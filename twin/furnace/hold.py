"""When no plan for a furnace can be honest, so that its setpoints are better left where they are.

Holding is safe for minutes to hours: setpoints stay inside their limits, the PLC's own loops and
its interlock go on, and an MV that no plan moves goes back to AUTO after one horizon. So a hold is
asked for only where a plan would be made for a furnace that is not this one; whatever merely makes
slabs less sure widens their intervals instead.

Not held for, on purpose: one slab in doubt, or one zone unseen for minutes (wider intervals); a
pyrometer that sticks (slabs are tracked without it, and emissivity grows less sure by the slab);
a stop that never ends (what is left of it grows with its age, and a furnace that waits for hours
must be let down, which setpoints that are held would not do).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta

from twin.furnace.faults import Fault
from twin.furnace.state import FurnaceState, SlabState
from twin.plant.furnace import Furnace

#: More than this share of the slabs inside. Chosen: below it, most of what a plan is judged by is
#: right, and each zone's setpoint is the compromise of seven slabs.
_MOST = 0.5
#: For so long a plan may take the mill for what it last was. Chosen: a slab leaves every seven
#: minutes or so, and a stop that a plan knows nothing of costs little in its first ten, in which
#: the plant's own tables leave setpoints alone, too.
_MILL_UNSEEN = timedelta(minutes=10)
_TOLD = 3  # faults that are named; the newest began when the furnace was lost from sight


def reasons_to_hold(
    furnace: Furnace, state: FurnaceState | None, faults: Sequence[Fault] = ()
) -> tuple[str, ...]:
    """Why nothing should be planned from `state` (None: not known), each in words; () to go on.

    `faults` are those that stand; they say why a state is not known.

    Held while most slabs are in doubt (records contradict the beam, are gone, or never came: which
    slab is where would be a guess), or while most could be off by more than half the range in
    which they must leave (after a gap, or a zone unseen: in spec or not would be a guess). Held,
    too, while nothing has shown for over 10 min whether the mill rolls (when slabs leave would be).
    """
    if state is None:
        newest = tuple(fault.message for fault in faults[-_TOLD:])
        return newest or ("no zone or slab has been seen yet",)
    reasons = []
    doubtful = [each for each in state.slabs if each.doubt]
    if len(doubtful) > _MOST * len(state.slabs):
        reasons.append(
            f"{len(doubtful)} of {len(state.slabs)} slabs are in doubt; the one nearest to the "
            f"door: {doubtful[0].doubt}"
        )
    low_c, high_c = furnace.spec.mean_c
    most_k = 0.5 * (high_c - low_c)
    unsure = [each for each in state.slabs if _sd_k(state, each) > most_k]
    if len(unsure) > _MOST * len(state.slabs):
        reasons.append(
            f"{len(unsure)} of {len(state.slabs)} slabs are known to no better than ±{most_k:g} K; "
            "they grow surer the longer they are seen on their way"
        )
    unseen = state.mill.unseen_since
    if unseen is not None and state.at - unseen > _MILL_UNSEEN:
        reasons.append(
            f"nothing has shown since {unseen:%Y-%m-%d %H:%M} UTC whether the mill rolls, for more "
            f"than {_MILL_UNSEEN.seconds / 60:g} min"
        )
    return tuple(reasons)


def _sd_k(state: FurnaceState, each: SlabState) -> float:
    """How sure a slab's mean is, what its grade takes up included."""
    return math.hypot(each.sd_k, state.emissivity_sd_k.get(each.slab.grade, 0.0))
