"""The process that carries the plant's readings into the historian."""

from __future__ import annotations

import asyncio

from connectors.ingest import Buffering, Progress, collect
from connectors.security import COLLECT
from dashboard.settings import Settings
from dashboard.workers.ending import say, told_to_end
from twin.historian import Historian
from twin.plant import Plant


def run_collector(plant: Plant, settings: Settings, *, wait_s: float | None = None) -> None:
    """Carry readings into the historian until told to stop.

    Raises EndpointUnavailable if nothing answers within `wait_s`; None waits for ever.
    """
    seen = [""]

    def tell(progress: Progress) -> None:
        if progress.link != seen[0]:
            seen[0] = progress.link
            say(f"link {progress.link}")

    with Historian.create(settings.database_url(plant)) as historian:

        async def work() -> None:
            await collect(
                plant,
                historian,
                access=settings.access(COLLECT),
                stop=told_to_end(),
                first_answer_within_s=wait_s,
                on_progress=tell,
                buffering=Buffering(spool=None if historian.path else settings.spool(plant)),
            )

        asyncio.run(work())
