"""Everything one refresh of the page needs, read from the historian in one go.

Reads; never writes, waits or computes anything heavy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from dashboard.beats import plant_moment, said
from dashboard.view.advice import written_setpoints
from dashboard.view.headline import ProcessRow, process_row, silent_after_s
from twin.context import told_trust
from twin.economics import Score, score
from twin.historian import Historian, ProcessBeat
from twin.plant import Plant, Role
from twin.records import PlantState, Proposal, ProposalStatus, Stage, WriteOutcome
from twin.safety import Trust
from twin.state import plant_state, window, window_start

_COLLECTOR = "collect"  # the name under which the collecting process beats


@dataclass(frozen=True)
class Facts:
    """The plant at one refresh. `now` is plant time.

    `link` is what the collector last told of its connection; None if it told nothing.
    """

    wall_now: datetime
    now: datetime
    speed: float
    state: PlantState
    newest_reading: datetime | None
    stages: Mapping[str, Stage]
    newest: Proposal | None
    open: Proposal | None
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
    proposals = historian.proposals(plant, limit=1)
    opened = historian.proposals(plant, statuses=[ProposalStatus.OPEN], limit=1)
    return Facts(
        wall_now=wall_now,
        now=now,
        speed=speed,
        state=plant_state(plant, last, now),
        newest_reading=newest,
        stages=historian.stage(plant),
        newest=proposals[0] if proposals else None,
        open=opened[0] if opened else None,
        outcomes=historian.outcomes(plant, limit=50),
        processes=[
            process_row(b.name, b.at, said(b.detail), wall_now, silent_after_s(plant, speed))
            for b in beats
        ],
        link=_link(beats),
        trust=told_trust(beats, wall_now),
    )


def _link(beats: Iterable[ProcessBeat]) -> str | None:
    told = (said(beat.detail).get("link") for beat in beats if beat.name == _COLLECTOR)
    return next((link for link in told if isinstance(link, str)), None)


def last_hour_score(historian: Historian, plant: Plant, now: datetime) -> Score | None:
    """Cost and limit minutes of the last plant hour; None without economics or readings."""
    if plant.economics is None:
        return None
    rows = round(3600 / plant.step_s)
    start = window_start(plant, now, rows)
    needed = {tag.name for tag in plant.with_role(Role.CV)}
    if plant.cost is not None:
        needed |= plant.cost.names
    samples = historian.samples(plant, sorted(needed), start, now)
    past = window(plant, samples, now, rows)
    return score(plant, past.values, plant.step_s)
