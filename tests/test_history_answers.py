"""A history that answers for some tags and not for others, as a gateway's does."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import ServiceError
from collected import collecting, is_asked
from one_tank import NOON, Forgotten, forget, live_tank, until

from connectors.buffering import Buffering
from connectors.ingest import collect
from dashboard.workers.history import is_first_history_awaited
from twin.historian import Gap, Historian
from twin.plant import Plant

SENSOR = "tank.sensor"
FIRST, LAST = NOON - timedelta(days=1), NOON + timedelta(days=1)


@pytest.mark.parametrize("code", ["BadCommunicationError", "BadInternalError"])
def test_a_tag_whose_history_gives_no_answer_costs_itself_alone(code: str, tmp_path: Path) -> None:
    """The others' past is filled; its own gap waits, is told once, and ends when it answers."""

    async def story() -> None:
        silence = Forgotten(getattr(ua.StatusCodes, code))
        stop, often = asyncio.Event(), Buffering(backfill_again_s=0.1)
        async with live_tank(60, ends_at=NOON) as emulator:
            plant = emulator.plant
            forget(emulator.server, SENSOR, silence)
            with Historian.create(tmp_path / "plant.db") as historian:
                historian.register(plant)
                collecting = asyncio.create_task(
                    collect(plant, historian, stop=stop, buffering=often)
                )
                await until(lambda: {None, SENSOR} <= gaps(historian, plant).keys(), "its row")
                await until(lambda: gaps(historian, plant)[None].is_filled, "the others' past")
                await until(lambda: silence.answers > 3, "that it is asked again and again")
                whole, waiting = gaps(historian, plant)[None], gaps(historian, plant)[SENSOR]
                assert not waiting.is_filled
                assert (waiting.started_at, waiting.ended_at) == (whole.started_at, whole.ended_at)
                told = [each.message for each in historian.events(plant, kind="backfill")]
                assert sum(code in text for text in told) == 1
                silence.is_over = True
                await until(lambda: gaps(historian, plant)[SENSOR].is_filled, "its own past")
                stop.set()
                await asyncio.wait_for(collecting, 20)
                assert counts(historian, plant) == {216}

    asyncio.run(story())


def test_a_server_without_any_history_is_asked_once(tmp_path: Path) -> None:
    """Most PLCs refuse the whole service: what is missing stays a gap, and nobody waits for it."""

    async def story() -> None:
        asked = 0

        async def refuse(_params: Any) -> list[Any]:
            nonlocal asked
            asked += 1
            raise ServiceError(ua.StatusCodes.BadServiceUnsupported)

        async with live_tank(60, ends_at=NOON) as emulator:
            plant = emulator.plant
            emulator.server.iserver.history_manager.read_history = refuse
            with Historian.create(tmp_path / "plant.db") as historian:
                async with collecting(plant, historian):
                    await until(lambda: is_asked(historian, plant), "the end of asking")
                assert asked == 1
                (first,) = gaps(historian, plant).values()
                assert not first.is_filled
                assert not is_first_history_awaited([first]), "or no plan would ever be made"
                (told,) = historian.events(plant, kind="backfill")[-1:]
                assert "BadServiceUnsupported" in told.message

    asyncio.run(story())


def gaps(historian: Historian, plant: Plant) -> dict[str | None, Gap]:
    """The gaps that have an end, by tag (None: all of them)."""
    return {gap.tag: gap for gap in historian.gaps(plant) if gap.ended_at is not None}


def counts(historian: Historian, plant: Plant) -> set[int]:
    """How many readings each tag has."""
    names = [tag.name for tag in plant.tags]
    rows = [row.tag for row in historian.readings(plant, names, FIRST, LAST)]
    return {rows.count(name) for name in names}
