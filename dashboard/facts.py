"""Everything one refresh of the page needs, read from the historian in one go.

Reads; never writes, waits or computes anything heavy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from dashboard.beats import plant_moment, said, told_clock
from dashboard.view.advice import standing, written_setpoints
from dashboard.view.headline import ProcessRow, process_row, silent_after_s
from twin.context import told_trust
from twin.economics import Score, score
from twin.historian import Historian, ProcessBeat
from twin.plant import Plant, Role
from twin.records import PlantState, Proposal, ProposalStatus, Stage, WriteOutcome
from twin.safety import Trust
from twin.state import KNOWN_SHARE, plant_state, window, window_start

# The names under which two of the processes beat.
_COLLECTOR, _PLANNER = "collect", "plan"


@dataclass(frozen=True)
class Facts:
    """The plant at one refresh. `now` is plant time.

    `open` is the proposal that can be decided at this moment. `planned_at` is when the planner
    last did a round, as far as it tells. `link` is what the collector last told of its
    connection; None if it told nothing or has fallen silent.
    """

    wall_now: datetime
    now: datetime
    speed: float
    state: PlantState
    newest_reading: datetime | None
    stages: Mapping[str, Stage]
    newest: Proposal | None
    open: Proposal | None
    planned_at: datetime | None
    outcomes: Sequence[WriteOutcome]
    processes: Sequence[ProcessRow]
    link: str | None
    trust: Trust | None

    @property
    def written(self) -> Mapping[str, float]:
        """What we last wrote to each MV."""
        return written_setpoints(self.outcomes)


def read_facts(historian: Historian, plant: Plant, wall_now: datetime) -> Facts:
    """Read what the headline and every page need."""
    last = historian.last_readings(plant)
    newest = max((reading.source_time for reading in last.values()), default=None)
    beats = historian.processes(plant)
    now, speed = plant_moment(plant, beats, newest, wall_now)
    silent_s = silent_after_s(plant, speed)
    proposals = historian.proposals(plant, limit=1)
    waiting = historian.proposals(plant, statuses=[ProposalStatus.OPEN], limit=1)
    # Its clocks may have run out while no planner was there to close it.
    opened = [each for each in waiting if standing(each, now, wall_now).is_open]
    return Facts(
        wall_now=wall_now,
        now=now,
        speed=speed,
        state=plant_state(plant, last, now),
        newest_reading=newest,
        stages=historian.stage(plant),
        newest=proposals[0] if proposals else None,
        open=opened[0] if opened else None,
        planned_at=_planned_at(beats) or (proposals[0].created_at if proposals else None),
        outcomes=historian.outcomes(plant, limit=50),
        processes=[process_row(b.name, b.at, said(b.detail), wall_now, silent_s) for b in beats],
        link=_link(b for b in beats if (wall_now - b.at).total_seconds() <= silent_s),
        trust=told_trust(beats, wall_now),
    )


def _link(beats: Iterable[ProcessBeat]) -> str | None:
    told = (said(beat.detail).get("link") for beat in beats if beat.name == _COLLECTOR)
    return next((link for link in told if isinstance(link, str)), None)


def _planned_at(beats: Iterable[ProcessBeat]) -> datetime | None:
    """When the planner last did a round; while it waits for history it names no model."""
    told = (said(beat.detail) for beat in beats if beat.name == _PLANNER)
    clocks = (told_clock(detail) for detail in told if "model" in detail)
    return next((clock[0] for clock in clocks if clock is not None), None)


def last_hour_score(historian: Historian, plant: Plant, now: datetime) -> Score | None:
    """Cost and limit minutes over the known steps of the last plant hour.

    A step counts where `twin.state.window` knows every tag that the score needs; `Score.hours`
    says how much that is. None without economics, or where under half of the hour is known.
    """
    if plant.economics is None or plant.cost is None:
        return None
    rows = round(3600 / plant.step_s)
    limited = {tag.name for tag in plant.with_role(Role.CV) if tag.operator is not None}
    needed = sorted(limited | plant.cost.names)
    samples = historian.samples(plant, needed, window_start(plant, now, rows), now)
    past = window(plant, samples, now, rows).values
    is_known = np.all([np.isfinite(past[name]) for name in needed], axis=0)
    if np.count_nonzero(is_known) < KNOWN_SHARE * rows:
        return None
    return score(plant, {name: past[name][is_known] for name in needed}, plant.step_s)
