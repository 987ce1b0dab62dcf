"""Everything one refresh of the page needs, read from the historian in one go.

Reads; never writes, waits or computes anything heavy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from dashboard.beats import (
    is_stopped_at_plant,
    is_time_known,
    latest_known,
    plant_moment,
    said,
    told_clock,
)
from dashboard.view.advice import standing, written_setpoints
from dashboard.view.headline import ProcessRow, process_row, silent_after_s
from twin.context import told_trust
from twin.economics import Score, score
from twin.historian import HandBack, HandBackStatus, Held, Historian, ProcessBeat
from twin.plant import Plant, Role
from twin.records import PlantState, Proposal, ProposalStatus, Stage, WriteOutcome
from twin.resampling import KNOWN_SHARE
from twin.safety import Trust
from twin.state import plant_state, window, window_start

#: The names under which two of the processes beat.
COLLECTOR = "collect"
_PLANNER = "plan"
_STARTING = timedelta(minutes=1)  # chosen: several times what a start takes on two cores


@dataclass(frozen=True)
class Facts:
    """The plant at one refresh. `now` is plant time.

    `open` is the proposal that can be decided at this moment. `planned_at` is when the planner
    last did a round, as far as it tells. `link` is what the collector last told of its
    connection; None if it told nothing or has fallen silent. `held` are the MVs we hold by the
    record, `asked_back` those that are asked back and not given back yet. `is_starting`: the
    processes were started less than a wall minute ago. `is_time_known`: `now` is the plant's, not
    merely the wall's for want of it.
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
    held: Mapping[str, Held]
    asked_back: Sequence[HandBack]
    outcomes: Sequence[WriteOutcome]
    processes: Sequence[ProcessRow]
    link: str | None
    trust: Trust | None
    is_stopped_at_plant: bool
    is_starting: bool
    is_time_known: bool

    @property
    def written(self) -> Mapping[str, float]:
        """What we last wrote to each MV."""
        return written_setpoints(self.outcomes)


def read_facts(
    historian: Historian, plant: Plant, wall_now: datetime, started_at: datetime | None = None
) -> Facts:
    """Read what the headline and every page need.

    `started_at` is when the plant's processes were started together with the page; None if they
    were not.
    """
    beats = historian.processes(plant)
    last = historian.last_readings(plant, at=latest_known(plant, beats, wall_now))
    newest = max((reading.source_time for reading in last.values()), default=None)
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
        held=historian.held(plant),
        asked_back=historian.hand_backs(plant, statuses=[HandBackStatus.OPEN]),
        outcomes=historian.outcomes(plant, limit=50),
        processes=[
            process_row(
                beat.name,
                beat.at,
                said(beat.detail),
                wall_now,
                silent_s,
                has_nothing_to_do=beat.name == _PLANNER and _has_planned(plant, beat, newest),
            )
            for beat in beats
        ],
        link=_link(b for b in beats if (wall_now - b.at).total_seconds() <= silent_s),
        trust=told_trust(beats, wall_now),
        is_stopped_at_plant=is_stopped_at_plant(beats, wall_now),
        is_starting=started_at is not None and wall_now - started_at < _STARTING,
        is_time_known=is_time_known(plant, beats, newest, wall_now),
    )


def _has_planned(plant: Plant, beat: ProcessBeat, newest: datetime | None) -> bool:
    """Whether the planner's last round was the one that the newest reading made due."""
    clock = told_clock(said(beat.detail))
    if clock is None or newest is None:
        return False
    return clock[0].timestamp() >= newest.timestamp() // plant.step_s * plant.step_s


def _link(beats: Iterable[ProcessBeat]) -> str | None:
    told = (said(beat.detail).get("link") for beat in beats if beat.name == COLLECTOR)
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
