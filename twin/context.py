"""What the gate is told besides the readings, put together from the historian.

One function for planner and writer, so that both ask the gate with the same facts. What the
historian does not know stays unknown, and the gate says no.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from twin.clock import utc
from twin.errors import RecordUnreadable
from twin.historian import Historian, ProcessBeat
from twin.plant import Plant, Role
from twin.records import WriteStatus
from twin.safety import NEVER_MOVED, GateContext, Trust

#: A planner that has not beaten for this long says nothing about the last plant hour any more.
TRUST_LIFETIME = timedelta(minutes=3)
#: What a planner's beat tells of MVs in closed loop: when a plan last judged that their setpoint
#: is best where it stands.
JUDGED = "judged"

_HOUR = timedelta(hours=1)
_RECENT_OUTCOMES = 50


def gate_context(
    plant: Plant,
    historian: Historian,
    *,
    now: datetime,
    wall_now: datetime,
    is_stopped: bool | None,
    trust: Trust | None = None,
) -> GateContext:
    """Stages, trust, travel and last moves at plant time `now`.

    An MV travels where it really stands (`Tag.stands_at`), not where its setpoint was written to.
    Without `trust` it is the one that the planner last told with its beat (`coverage90` and
    `coverage_count`), None if that is not from the last three wall minutes.
    """
    stands_at = {tag.name: tag.stands_at for tag in plant.with_role(Role.MV)}
    return GateContext(
        stages=historian.stage(plant),
        trust=told_trust(historian.processes(plant), wall_now) if trust is None else trust,
        travel_last_h={
            mv: historian.travel(plant, tag, now - _HOUR, now) for mv, tag in stands_at.items()
        },
        last_moved_at=_last_moved(plant, historian, stands_at),
        is_stopped=is_stopped,
    )


def told_trust(beats: Iterable[ProcessBeat], wall_now: datetime) -> Trust | None:
    """The trust that the newest beat with one tells; None where none is recent."""
    for beat in sorted(beats, key=lambda each: each.at, reverse=True):
        # A beat from ahead was left by a clock that has been set back: no one knows its age.
        if abs(wall_now - beat.at) > TRUST_LIFETIME:
            continue
        said = _said(beat)
        share, count = said.get("coverage90"), said.get("coverage_count")
        if isinstance(share, int | float) and isinstance(count, int) and math.isfinite(share):
            return Trust(float(share), count)
    return None


def told_judged(beats: Iterable[ProcessBeat]) -> dict[str, datetime]:
    """When a plan last judged an MV's setpoint best where it stands, as the newest beats tell."""
    judged: dict[str, datetime] = {}
    for beat in beats:
        told = _said(beat).get(JUDGED)
        for mv, at in told.items() if isinstance(told, dict) else ():
            try:
                moment = utc(datetime.fromisoformat(at))
            except (TypeError, ValueError, OverflowError):
                continue
            judged[mv] = max(moment, judged.get(mv, moment))
    return judged


def _said(beat: ProcessBeat) -> dict[str, Any]:
    """A beat's detail, empty where it is no record."""
    try:
        said = json.loads(beat.detail)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _last_moved(
    plant: Plant, historian: Historian, mvs: Iterable[str]
) -> dict[str, datetime | None]:
    """When each MV was last written; a write whose end is unknown or failed may have moved it."""
    moved = {mv: _verified_move(plant, historian, mv) for mv in mvs}
    for outcome in historian.outcomes(plant, limit=_RECENT_OUTCOMES):
        if outcome.status in (WriteStatus.UNKNOWN, WriteStatus.FAILED):
            for mv in outcome.setpoints:
                before = moved.get(mv, NEVER_MOVED)
                moved[mv] = None if before is None else max(before, outcome.finished_at)
    return moved


def _verified_move(plant: Plant, historian: Historian, mv: str) -> datetime | None:
    """When a write of an MV was last verified; None, the gate's no, where that cannot be read."""
    try:
        return historian.last_moved_at(plant, mv) or NEVER_MOVED
    except RecordUnreadable:
        return None
