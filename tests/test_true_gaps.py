"""A gap's row is true of every tag: filled only where each tag's history was read into it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from collected import collecting
from counted_source import CountingSource, counting_plant
from one_tank import until
from test_collecting_faults import numbers

from connectors.ingest import Progress
from connectors.storing import FIRST_START
from twin.historian import Gap, Historian
from twin.plant import Plant
from twin.records import Reading


@pytest.fixture
def historian(tmp_path: Path) -> Iterator[Historian]:
    with Historian.create(tmp_path / "plant.db") as each:
        yield each


def source_of(plant: Plant, every_s: float = 0.02) -> CountingSource:
    return CountingSource(plant, time.monotonic(), every_s)


def is_live(told: list[Progress]) -> Callable[[], bool]:
    return lambda: told[-1].link == "live"


def rows(historian: Historian, plant: Plant) -> list[Gap]:
    """The gaps after the first start's."""
    return [gap for gap in historian.gaps(plant) if not gap.reason.startswith(FIRST_START)]


def are_settled(historian: Historian, plant: Plant) -> Callable[[], bool]:
    """Whether there are gaps after the first start's, all filled or asked for to their end."""
    return lambda: (
        bool(rows(historian, plant))
        and all(gap.is_filled or gap.filled_until == gap.ended_at for gap in historian.gaps(plant))
    )


async def away_for(source: CountingSource, samples: int) -> None:
    """The link breaks, and so many samples later it can be had again."""
    source.cut(is_away=True)
    wanted = source.number + samples
    await until(lambda: source.number >= wanted, "the end of the fault")
    source.is_away = False


async def live_on(told: list[Progress], source: CountingSource, samples: int = 20) -> None:
    await until(is_live(told), "the link")
    wanted = source.number + samples
    await until(lambda: source.number >= wanted, "some samples")


def test_what_one_tags_history_lacks_is_a_row_of_that_tag(historian: Historian) -> None:
    """Two remember all, one no more than its newest ten: the source's row is filled, and one row
    names the tag."""
    plant = counting_plant(3)
    source = source_of(plant)
    source.is_remembered = lambda r: r.tag != "counter0" or (r.value or 0) > source.number - 10

    async def story() -> None:
        async with collecting(plant, historian, connect=source.connect()) as told:
            await live_on(told, source)
            await away_for(source, 50)
            await live_on(told, source)
            await until(are_settled(historian, plant), "the gaps")
            source.last = source.number
            await until(lambda: len(numbers(historian, source, "counter1")) > source.number, "all")

    asyncio.run(story())
    assert [(gap.tag, gap.is_filled) for gap in rows(historian, plant)] == [
        (None, True),
        ("counter0", False),
    ]
    assert missing(historian, source, "counter1") == []
    lacking = missing(historian, source, "counter0")
    (row,) = (gap for gap in rows(historian, plant) if gap.tag == "counter0")
    assert len(lacking) > 30
    assert all(row.started_at < source.at(n) < (row.ended_at or source.at(0)) for n in lacking)
    assert row.reason.endswith("no readings of it")


def missing(historian: Historian, source: CountingSource, tag: str) -> list[int]:
    """The numbers between a tag's first and its last that are not stored."""
    held = {int(number or 0) for number in numbers(historian, source, tag)}
    return sorted({*range(min(held), max(held))} - held)


def test_what_an_analyser_tells_late_is_not_lost_in_an_outage(historian: Historian) -> None:
    """Each tag is asked for from its own newest on, and what it still owes is no hole."""
    plant = counting_plant(3)
    source = source_of(plant)
    source.late = {"counter0": 30}

    async def story() -> None:
        async with collecting(plant, historian, connect=source.connect()) as told:
            await live_on(told, source, 60)
            await away_for(source, 40)
            await live_on(told, source, 60)
            await until(are_settled(historian, plant), "the gaps")

    asyncio.run(story())
    for tag in source.tags:
        assert missing(historian, source, tag) == []
    assert all(gap.is_filled for gap in rows(historian, plant))


def test_a_cut_that_is_shorter_than_a_sample_leaves_nothing_open(historian: Historian) -> None:
    """Nothing is missing, so there is nothing to wait for."""
    plant = counting_plant(2)
    source = source_of(plant, 1.0)

    async def story() -> None:
        async with collecting(plant, historian, connect=source.connect()) as told:
            await until(is_live(told), "the link")
            for cut in range(1, 3):
                number = source.number
                await until(lambda n=number: source.number > n, "a sample")  # type: ignore[misc]  # bound now
                await until(lambda: historian.newest(plant) == source.at(source.number), "it")
                source.cut()
                await until(lambda n=cut: told[-1].sources[0].reconnects == n, "a link")  # type: ignore[misc]  # bound now
            await until(is_live(told), "the link")
            await until(lambda: len(rows(historian, plant)) == 2, "their rows")
            await until(lambda: not historian.count_unfilled(plant), "the end of them")

    asyncio.run(story())


def test_only_a_reading_ends_the_gap_of_a_dead_tag(historian: Historian) -> None:
    """What is filled in of its source meanwhile leaves its own row open."""
    plant = counting_plant(3)
    source = source_of(plant, 0.05)
    is_dead = False

    def alive(readings: list[Reading]) -> list[Reading]:
        return [r for r in readings if not (is_dead and r.tag == "counter0")]

    async def story() -> None:
        nonlocal is_dead
        source.altered = alive
        source.without_history = {"counter0"}
        async with collecting(plant, historian, connect=source.connect()) as told:
            await live_on(told, source)
            is_dead = True
            source.answers.clear()
            await away_for(source, 20)
            await until(lambda: open_rows(historian, plant) == ["counter0"], "its row")
            source.answers.set()
            await until(
                lambda: any(g.is_filled for g in rows(historian, plant) if not g.tag), "the others"
            )
            assert open_rows(historian, plant) == ["counter0"]
            is_dead = False
            await until(lambda: open_rows(historian, plant) == [], "its next reading")

    asyncio.run(story())


def open_rows(historian: Historian, plant: Plant) -> list[str | None]:
    return [gap.tag for gap in historian.gaps(plant) if gap.ended_at is None]


def test_the_open_gap_of_what_the_plant_file_has_no_more_is_ended(historian: Historian) -> None:
    """A source by another name: nobody will ever be heard of the old one, and the row says so."""
    plant = counting_plant(2)
    assert plant.opcua is not None
    renamed = replace(plant, opcua=replace(plant.opcua, name="line_1"))
    source = source_of(plant)

    async def story() -> None:
        async with collecting(plant, historian, connect=source.connect()) as told:
            await live_on(told, source)
            source.cut(is_away=True)
            await until(lambda: open_rows(historian, plant) == [None], "its row")
        source.is_away, source.plant = False, renamed
        async with collecting(renamed, historian, connect=source.connect()) as told:
            await until(is_live(told), "the link")
            await until(
                lambda: all(gap.ended_at for gap in historian.gaps(plant) if gap.source == "opcua"),
                "the end of the old source's row",
            )
            await until(lambda: not historian.count_unfilled(plant), "no gap of the new one")

    asyncio.run(story())


def test_a_history_too_slow_for_all_tags_at_once_is_asked_for_less(historian: Historian) -> None:
    """A server that looks for its history publishes nothing meanwhile: asked for six tags it looks
    dead, over each new link again. Asked for fewer it answers, and nothing is lost."""
    plant = counting_plant(6)
    source = source_of(plant)
    source.answer_s, source.patience_s = 0.2, 0.9
    connections = 0

    def connect(*given: Any) -> Any:
        nonlocal connections
        connections += 1
        return source.connect()(*given)

    async def story() -> None:
        async with collecting(plant, historian, connect=connect) as told:
            await until(is_live(told), "the link")
            await until(lambda: any(g.is_filled for g in historian.gaps(plant)), "the past")
            source.last = source.number
            await until(lambda: historian.count(plant) == 6 * (source.number + 1), "all")

    asyncio.run(story())
    assert connections < 5
