"""A history that answers for some tags and not for others, as a gateway's does."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.ua.ua_binary import Primitives
from collected import collecting, is_asked, is_filled
from counted_source import CountingSource, counting_plant
from one_tank import NOON, Forgotten, forget, live_tank, until
from test_collecting_faults import numbers

from connectors.buffering import Buffering
from connectors.ingest import collect
from connectors.opcua import Session
from dashboard.workers.history import is_first_history_awaited
from twin.errors import EndpointUnavailable, Fault, NodeFault
from twin.historian import Gap, Historian
from twin.plant import Plant
from twin.records import Reading

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


def test_an_archive_that_takes_long_is_waited_for() -> None:
    """Longer than any other request may take: it reads from disks."""

    async def story() -> int:
        async with live_tank(60, ends_at=NOON) as emulator:
            service = emulator.server.iserver.history_manager
            inner = service.read_history

            async def read_slowly(params: Any) -> list[Any]:
                await asyncio.sleep(1.5)  # the fault is held for its time
                return list(await inner(params))

            service.read_history = read_slowly
            async with Session(emulator.plant, request_timeout_s=1.0) as session:
                past = session.history(NOON - timedelta(minutes=5), NOON, [SENSOR])
                return sum([len(batch) async for batch in past])

    assert asyncio.run(story()) == 31


def test_a_history_in_parts_is_followed_to_its_end() -> None:
    """Also where the server now and then forgets between two parts where it was, and tells of the
    ends of the time asked for though nobody asked: those are no readings."""

    async def story() -> list[Reading]:
        async with live_tank(60, ends_at=NOON) as emulator:
            inner, answers = emulator.server.iserver.history_manager.read_history, 0

            async def in_parts(params: Any) -> list[Any]:
                nonlocal answers
                answers += 1
                results: list[Any] = await inner(params)
                for wanted, result in zip(params.NodesToRead, results, strict=True):
                    values = result.HistoryData.DataValues
                    if wanted.ContinuationPoint and answers % 3:
                        unknown = ua.StatusCode(ua.StatusCodes.BadContinuationPointInvalid)
                        result.StatusCode, result.ContinuationPoint = unknown, None
                    elif len(values) > 5:
                        following = values[5].SourceTimestamp
                        result.ContinuationPoint = Primitives.DateTime.pack(following)
                        result.HistoryData.DataValues = values[:5]
                    else:
                        end = params.HistoryReadDetails.EndTime
                        nothing = ua.StatusCode(ua.StatusCodes.BadBoundNotFound)
                        values.append(ua.DataValue(StatusCode=nothing, SourceTimestamp=end))
                return results

            emulator.server.iserver.history_manager.read_history = in_parts
            async with Session(emulator.plant) as session:
                past = session.history(NOON - timedelta(seconds=300), NOON, [SENSOR, "tank.level"])
                return [each async for batch in past for each in batch]

    found = asyncio.run(story())
    times = {each.source_time for each in found if each.tag == SENSOR}
    assert times == {NOON - timedelta(seconds=10 * k) for k in range(31)}
    assert ua.StatusCodes.BadBoundNotFound not in {each.quality for each in found}


def test_a_history_that_leads_nowhere_is_left_for_later() -> None:
    """A server that says for ever that there is more: the tag waits, and no other for it."""

    async def story() -> list[Fault]:
        async with live_tank(60, ends_at=NOON) as emulator:
            inner = emulator.server.iserver.history_manager.read_history

            async def turning(params: Any) -> list[Any]:
                results: list[Any] = await inner(params)
                for wanted, result in zip(params.NodesToRead, results, strict=True):
                    if wanted.NodeId.Identifier == SENSOR:
                        start = params.HistoryReadDetails.StartTime
                        result.ContinuationPoint = Primitives.DateTime.pack(start)
                return results

            emulator.server.iserver.history_manager.read_history = turning
            async with Session(emulator.plant) as session:
                with pytest.raises(NodeFault) as told:
                    async for _ in session.history(NOON - timedelta(seconds=300), NOON):
                        pass
                return list(told.value.faults)

    (fault,) = asyncio.run(story())
    assert fault.where == SENSOR
    assert fault.may_pass


def test_a_lost_reading_of_one_moment_is_asked_for(tmp_path: Path) -> None:
    """A gap that begins and ends with it: the history has it."""
    plant = counting_plant(2)
    source = CountingSource(plant, time.monotonic() - 2.0, 0.05)
    with Historian.create(tmp_path / "plant.db") as historian:
        historian.register(plant)
        historian.store([r for r in source.samples(0, 40) if r.value != 8], plant)
        historian.add_gap(plant, source.at(8), source.at(8), "lost", source="opcua")

        async def story() -> None:
            async with collecting(plant, historian, connect=source.connect()):
                await until(lambda: is_filled(historian, plant), "the gaps")

        asyncio.run(story())
        assert numbers(historian, source, "counter0")[:41] == list(range(41))


def test_a_gap_that_gets_no_answer_holds_up_no_other(tmp_path: Path) -> None:
    """The newest is asked for first, and then the others all the same."""
    plant = counting_plant(2)
    source = CountingSource(plant, time.monotonic() - 2.0, 0.05)

    def refuse(_start: datetime, end: datetime) -> None:
        if end == source.at(30):
            raise EndpointUnavailable("no answer in time")

    source.on_question = refuse
    with Historian.create(tmp_path / "plant.db") as historian:
        historian.register(plant)
        historian.add_gap(plant, source.at(2), source.at(5), "early", source="opcua")
        historian.add_gap(plant, source.at(20), source.at(30), "late", source="opcua")

        async def story() -> None:
            async with collecting(plant, historian, connect=source.connect()):
                await until(lambda: "early" in filled(historian, plant), "the other")
                assert "late" not in filled(historian, plant)

        asyncio.run(story())


def test_a_history_that_takes_the_link_down_with_it_is_left_alone(tmp_path: Path) -> None:
    """Asked again at once only once: what comes live counts more."""
    plant = counting_plant(2)
    source = CountingSource(plant, time.monotonic(), 0.05)
    asked = 0

    def fall(_start: datetime, _end: datetime) -> None:
        nonlocal asked
        asked += 1
        source.answers.clear()
        source.cut()

    source.on_question = fall
    with Historian.create(tmp_path / "plant.db") as historian:

        async def story() -> None:
            async with collecting(plant, historian, connect=source.connect()) as told:
                await until(lambda: asked == 2, "two questions")
                await until(lambda: told[-1].sources[0].reconnects == 2, "a link")
                wanted = source.number + 40
                await until(lambda: source.number >= wanted, "a while")
                assert (asked, told[-1].sources[0].reconnects) == (2, 2)
                assert told[-1].link == "live"

        asyncio.run(story())


def filled(historian: Historian, plant: Plant) -> set[str]:
    """The reasons of the gaps that are filled."""
    return {gap.reason for gap in historian.gaps(plant) if gap.is_filled}


def gaps(historian: Historian, plant: Plant) -> dict[str | None, Gap]:
    """The gaps that have an end, by tag (None: all of them)."""
    return {gap.tag: gap for gap in historian.gaps(plant) if gap.ended_at is not None}


def counts(historian: Historian, plant: Plant) -> set[int]:
    """How many readings each tag has."""
    names = [tag.name for tag in plant.tags]
    rows = [row.tag for row in historian.readings(plant, names, FIRST, LAST)]
    return {rows.count(name) for name in names}
