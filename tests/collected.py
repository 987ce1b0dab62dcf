"""Collecting beside a test, and what came of it.

A tool of the tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from one_tank import NOON, until

from connectors.emulator import Emulator
from connectors.ingest import Progress, collect
from connectors.progress import SourceState
from twin.historian import Historian
from twin.plant import Plant
from twin.records import Reading


@asynccontextmanager
async def collecting(
    plant: Plant, historian: Historian, *, once_linked: bool = False, **options: object
) -> AsyncIterator[list[Progress]]:
    """The collecting loop beside the test, `once_linked` if so; ended in order at the end."""
    stop = asyncio.Event()
    told = [Progress(link="not begun")]
    task = asyncio.create_task(
        collect(plant, historian, stop=stop, on_progress=told.append, **options)  # type: ignore[arg-type]  # options are for every keyword
    )
    try:
        if once_linked:
            await until(lambda: task.done() or is_linked(told[-1]), "a link")
        yield told
    finally:
        stop.set()
        await asyncio.wait_for(task, 20)


def is_linked(progress: Progress) -> bool:
    """Whether we are subscribed everywhere, and live or waiting for the first reading."""
    states = {source.state for source in progress.sources}
    return bool(states) and states <= {SourceState.LIVE, SourceState.FROZEN}


def all_readings(emulator: Emulator) -> set[tuple[str, datetime]]:
    """Tag and time of everything that it remembers."""
    return {
        (name, past.time_of(row))
        for name, past in emulator.past.items()
        for row in range(len(past.times_us))
    }


def stored(plant: Plant, historian: Historian) -> dict[tuple[str, datetime], Reading]:
    """What is stored within ten days of noon, by tag and time."""
    names = [tag.name for tag in plant.tags]
    far = timedelta(days=10)
    rows = historian.readings(plant, names, NOON - far, NOON + far)
    return {(row.tag, row.source_time): row for row in rows}


def is_filled(historian: Historian, plant: Plant) -> bool:
    """Whether every gap that has an end is filled; a source that stopped at the end has none."""
    gaps = [gap for gap in historian.gaps(plant) if gap.ended_at is not None]
    return bool(gaps) and all(gap.is_filled for gap in gaps)


def is_asked(historian: Historian, plant: Plant) -> bool:
    """Whether every gap that has an end is filled, or was asked for up to its end in vain."""
    gaps = [gap for gap in historian.gaps(plant) if gap.ended_at is not None]
    return bool(gaps) and all(gap.is_filled or gap.filled_until == gap.ended_at for gap in gaps)
