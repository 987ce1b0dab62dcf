"""The process that writes accepted proposals to the plant, each behind the gate."""

from __future__ import annotations

import asyncio

from connectors.readback import Writer
from connectors.security import WRITE
from connectors.stop import StopLatch
from connectors.writer import run_writer
from dashboard.beats import plant_moment
from dashboard.settings import Settings
from dashboard.view.headline import silent_after_s
from dashboard.workers.ending import say, told_to_end
from twin.clock import wall_now
from twin.historian import Historian
from twin.plant import Plant

_POLL_S = 0.2


def run_writer_process(plant: Plant, settings: Settings) -> None:
    """Write accepted proposals, each behind the gate, until told to stop."""
    latch = StopLatch(settings.stop_latch(plant))
    with Historian.open(settings.database_url(plant)) as historian:

        async def work() -> None:
            await run_writer(
                Writer(plant, historian, latch.is_stopped, latch=latch.name),
                access=settings.access(WRITE),
                stop=told_to_end(),
                poll_s=_POLL_S,
                is_well=lambda: is_planner_alive(plant, historian),
                on_outcome=lambda outcome: say(f"{outcome.proposal_id} {outcome.status}"),
                on_waiting=lambda holder: say(f"waiting: {holder} writes to this plant"),
            )

        asyncio.run(work())


def is_planner_alive(plant: Plant, historian: Historian) -> bool:
    """Whether a planner still beats; without one the PLC shall take its pumps back."""
    beats = historian.processes(plant)
    _, speed = plant_moment(plant, beats, None, wall_now())
    limit_s = silent_after_s(plant, speed)
    # A beat from ahead was left by a clock that has been set back: no one knows its age.
    ages_s = [abs(wall_now() - beat.at).total_seconds() for beat in beats if beat.name == "plan"]
    return any(age_s <= limit_s for age_s in ages_s)
