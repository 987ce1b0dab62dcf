"""What goes wrong beside the link, of the plant's data, the database and the collector itself.

Each story ends with every number of the plant stored once, or a row that says where it is missing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from collected import collecting
from counted_source import CountingSource, counting_plant
from each_database import locked
from one_tank import until
from test_faults import resident_mib

from connectors import ending
from connectors.buffering import Buffering
from connectors.ingest import Progress
from connectors.progress import SourceState
from connectors.sources import Live
from connectors.spool import Spool
from twin.errors import DatabaseUnavailable
from twin.historian import Gap, Historian
from twin.plant import Plant
from twin.records import BAD, Mark, Reading


@pytest.fixture
def historian(tmp_path: Path) -> Historian:
    return Historian.create(tmp_path / "plant.db")


def source_of(plant: Plant, every_s: float = 0.02) -> CountingSource:
    return CountingSource(plant, time.monotonic(), every_s)


def numbers(historian: Historian, source: CountingSource, tag: str) -> list[float | None]:
    rows = historian.readings(source.plant, [tag], source.at(-1_000_000), source.at(1_000_000))
    return [row.value for row in rows]


def are_all(historian: Historian, source: CountingSource) -> bool:
    """Whether every number up to the newest one is stored, in order and once."""
    wanted = [float(number) for number in range(source.number + 1)]
    return all(numbers(historian, source, tag) == wanted for tag in source.tags)


def is_told(told: list[Progress], state: SourceState) -> Callable[[], bool]:
    return lambda: any(each.state is state for each in told[-1].sources)


def test_a_frozen_source_is_never_healthy_and_its_silence_is_a_row(historian: Historian) -> None:
    """The link stands, nothing comes: told within seconds, closed and filled when it thaws."""
    plant = counting_plant()
    source = source_of(plant)

    async def story() -> None:
        async with collecting(plant, historian, connect=source.connect()) as told:
            await until(is_told(told, SourceState.LIVE), "the link")
            source.last = source.number
            await until(is_told(told, SourceState.FROZEN), "the silence")
            (state,) = told[-1].sources
            assert not state.is_healthy
            assert told[-1].link.startswith("frozen: ")
            await until(lambda: open_gap(historian, plant) is not None, "its row")
            source.last = None
            await until(is_told(told, SourceState.LIVE), "the thaw")
            await until(lambda: open_gap(historian, plant) is None, "the end of the row")
            source.last = source.number
            await until(lambda: are_all(historian, source), "every number")

    asyncio.run(story())


def test_a_frozen_source_is_found_also_while_the_database_hangs(historian: Historian) -> None:
    """Whoever looks after the links waits for no transaction."""
    plant = counting_plant()
    source = source_of(plant)
    patient = Historian.open(historian.path, busy_deadline_s=60)

    async def story() -> None:
        async with collecting(plant, patient, connect=source.connect()) as told:
            await until(is_told(told, SourceState.LIVE), "the link")
            with locked(historian.path):
                source.last = source.number
                await until(is_told(told, SourceState.FROZEN), "the silence")
            await until(lambda: are_all(historian, source), "every number")

    asyncio.run(story())


def open_gap(historian: Historian, plant: Plant) -> Gap | None:
    return next((gap for gap in historian.gaps(plant) if gap.ended_at is None), None)


def test_one_silent_tag_has_a_gap_of_its_own(historian: Historian) -> None:
    """The others go on; the row names the tag, and ends with its next reading."""
    plant = counting_plant()
    source = source_of(plant)

    async def story() -> None:
        async with collecting(plant, historian, connect=source.connect()) as told:
            await until(is_told(told, SourceState.LIVE), "the link")
            source.altered = lambda readings: [r for r in readings if r.tag != "counter3"]
            await until(lambda: told[-1].sources[0].silent == ("counter3",), "the silence")
            assert told[-1].sources[0].state is SourceState.LIVE
            assert not told[-1].sources[0].is_healthy
            await until(lambda: open_gap(historian, plant) is not None, "its row")
            gap = open_gap(historian, plant)
            assert gap is not None
            assert (gap.tag, gap.source) == ("counter3", "opcua")
            source.altered = lambda readings: readings
            await until(lambda: told[-1].sources[0].silent == (), "its next reading")
            source.last = source.number
            await until(lambda: are_all(historian, source), "every number")

    asyncio.run(story())


def test_what_the_database_never_takes_blocks_no_other(historian: Historian) -> None:
    """Readings of an unknown tag are in quarantine, counted and told; all others are stored."""
    plant = counting_plant()
    source = source_of(plant)

    def with_ghost(readings: list[Reading]) -> list[Reading]:
        return [*readings, replace(readings[0], tag="ghost")]

    async def story() -> None:
        source.altered = with_ghost
        async with collecting(plant, historian, connect=source.connect()) as told:
            await until(lambda: told[-1].spool.quarantined_rows > 3, "the quarantine")
            source.last = source.number
            await until(lambda: are_all(historian, source), "every other number")
            await until(lambda: bool(historian.events(plant, kind="quarantine")), "the event")
            assert told[-1].database_trouble == ""

    asyncio.run(story())
    assert historian.path is not None
    with Spool(historian.path.with_name("plant.db.spool")) as spool:
        assert "ghost" in spool.quarantined()[0].reason


def test_odd_readings_are_stored_as_they_are(historian: Historian) -> None:
    """Bad and undated ones, duplicates, a wrong order, and some of last week: each once."""
    plant = counting_plant(1)
    source = source_of(plant)
    week = timedelta(days=7)

    def odd(readings: list[Reading]) -> list[Reading]:
        late = [replace(r, source_time=r.source_time - week) for r in readings]
        marked = [replace(r, marks=Mark.UNDATED) for r in readings]
        return [*reversed(marked), *late, *readings, *late]

    async def story() -> None:
        source.altered = odd
        async with collecting(plant, historian, connect=source.connect()) as told:
            await until(is_told(told, SourceState.LIVE), "the link")
            await until(lambda: source.number > 60, "some samples")
            source.last = source.number
            last = source.at(source.last)
            await until(lambda: historian.newest(plant) == last, "the last")
            await until(lambda: told[-1].waiting == 0, "an empty spool")

    asyncio.run(story())
    rows = historian.readings(plant, source.tags, source.at(0) - week, source.at(10_000))
    times = [row.source_time for row in rows]
    assert times == sorted(set(times))
    assert all(
        row.value in (float(n), None) for row in rows for n in [number_of(source, row, week)]
    )
    assert any(row.marks & Mark.UNDATED for row in rows)
    assert all(row.quality != BAD for row in rows)


def number_of(source: CountingSource, row: Reading, week: timedelta) -> int:
    at = row.source_time if row.source_time >= source.at(0) else row.source_time + week
    return round((at - source.at(0)).total_seconds() / 10)


class SlowHistorian(Historian):
    """A database that takes `pause_s` for every batch, however small."""

    pause_s = 5.0

    def store(self, *given: object, **named: object) -> int:
        time.sleep(self.pause_s)
        return super().store(*given, **named)  # type: ignore[arg-type]  # the same as it was given


def test_a_slow_database_lets_no_memory_grow(tmp_path: Path) -> None:
    """The spool takes what waits, memory stands; in the end every number is stored."""
    Historian.create(tmp_path / "plant.db").close()
    plant = counting_plant(200)
    source = source_of(plant, 0.02)

    async def story() -> None:
        with SlowHistorian.open(tmp_path / "plant.db") as historian:
            async with collecting(plant, historian, connect=source.connect()) as told:
                await until(lambda: told[-1].spool.rows > 60_000, "a full spool", 60)
                stood_mib = resident_mib()
                await until(lambda: told[-1].spool.rows > 120_000, "more in the spool", 60)
                assert resident_mib() < stood_mib + 10  # as objects they would take 25 MiB
                assert told[-1].waiting - told[-1].spool.rows < 20_000  # in memory
                historian.pause_s = 0.5
                source.last = source.number
                await until(lambda: told[-1].waiting == 0, "an empty spool", 60)
                await until(lambda: are_all(historian, source), "every number", 60)

    asyncio.run(story())


def test_a_stop_ends_what_misses_being_told_once(
    historian: Historian, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library may drop a cancellation, while it connects or later: all ends all the same."""
    monkeypatch.setattr(ending, "_AGAIN_S", 0.2)
    plant = counting_plant()
    source = source_of(plant)
    is_connecting = asyncio.Event()
    missed: list[str] = []

    async def for_ever(what: str) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            missed.append(what)

    async def never_lost() -> str:
        await for_ever("being live")
        return await asyncio.Future()

    @asynccontextmanager
    async def opened(*given: Any) -> AsyncIterator[Live]:
        is_connecting.set()
        await for_ever("connecting")
        async with source.connect()(*given) as session:
            session.until_lost = never_lost  # type: ignore[method-assign]  # of this one
            yield session

    async def story() -> None:
        async with collecting(plant, historian, connect=opened):
            await asyncio.wait_for(is_connecting.wait(), 20)

    asyncio.run(story())
    assert missed == ["connecting", "being live"]


def test_two_collectors_take_turns(historian: Historian, tmp_path: Path) -> None:
    """The second one waits and says for whom; when the first ends it takes over."""
    plant = counting_plant()
    source = source_of(plant)
    other = Buffering(spool=tmp_path / "other.spool")

    async def story() -> None:
        first = collecting(plant, historian, connect=source.connect())
        told = await first.__aenter__()
        await until(is_told(told, SourceState.LIVE), "the first")
        async with collecting(
            plant, historian, connect=source.connect(), buffering=other
        ) as second:
            await until(lambda: second[-1].waits_for != "", "the second to wait")
            assert not second[-1].sources
            await first.__aexit__(None, None, None)
            await until(is_told(second, SourceState.LIVE), "the take-over")
            source.last = source.number
            await until(lambda: are_all(historian, source), "every number")

    asyncio.run(story())


def test_a_first_start_without_a_database_fails_and_a_later_one_waits(tmp_path: Path) -> None:
    """A wrong address is told at once; a database that was there is waited for, with readings."""
    plant = counting_plant()
    source = source_of(plant)
    place = tmp_path / "plant.db"

    async def first() -> None:
        place.mkdir()  # nothing can be opened there
        with pytest.raises(DatabaseUnavailable):
            async with collecting(plant, Historian(place), connect=source.connect()) as told:
                await until(lambda: told[-1].waiting > 0, "nothing")

    async def later() -> None:
        with Spool(tmp_path / "plant.db.spool"):
            pass
        with Historian(place) as historian:
            async with collecting(plant, historian, connect=source.connect()) as told:
                await until(lambda: told[-1].spool.rows > 100, "readings in the spool")
                assert told[-1].database_trouble
                place.rmdir()
                source.last = source.number
                await until(lambda: told[-1].stored > 0 and are_all(historian, source), "all", 30)

    asyncio.run(first())
    asyncio.run(later())
