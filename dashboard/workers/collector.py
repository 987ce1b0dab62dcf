"""The process that carries the plant's readings into the historian."""

from __future__ import annotations

import asyncio
import gc

from connectors.buffering import Buffering
from connectors.ingest import Progress, collect
from connectors.security import COLLECT
from dashboard.settings import Settings
from dashboard.workers.ending import say, told_to_end
from dashboard.workers.upkeep import keep_up
from twin.errors import DatabaseUnavailable
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

    # What is loaded by now stays. To look through all of it for garbage takes 0.1 s, while upkeep
    # may hold the database's write lock.
    gc.freeze()
    with _opened(settings.database_url(plant), settings.buffering(plant)) as historian:

        async def work() -> None:
            upkeep = asyncio.create_task(keep_up(plant, settings, historian))
            await collect(
                plant,
                historian,
                access=settings.access(COLLECT),
                buffering=settings.buffering(plant),
                stop=told_to_end(),
                first_answer_within_s=wait_s,
                on_progress=tell,
            )
            upkeep.cancel()

        asyncio.run(work())


def _opened(url: str, buffering: Buffering) -> Historian:
    """The database; one that is away comes back later, where we have collected into it before."""
    try:
        return Historian.create(url)
    except DatabaseUnavailable as away:
        if buffering.spool is None or not buffering.spool.exists():
            raise
        say(f"{away} Readings wait in {buffering.spool} until it is back.")
        return Historian(url)
