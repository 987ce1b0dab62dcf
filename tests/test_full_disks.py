"""A disk that is full or read-only, of the spool or of the database: nothing is torn, and what is
mended heals all of it.

Full disks here are real file systems in memory, small enough to be filled.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from collected import collecting, is_filled
from counted_source import CountingSource, counting_plant
from each_database import locked
from one_tank import until
from test_collecting_faults import are_all

from connectors.buffering import Buffering
from connectors.ingest import Progress
from connectors.parcels import Batch
from connectors.progress import SourceState
from connectors.spool import Spool
from twin.historian import Gap, Historian
from twin.records import Reading

TAGS = 200
DISK_BYTES = 24_000_000


@contextmanager
def disk(folder: Path) -> Iterator[Path]:
    """A disk of its own at `folder`."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    if os.getuid() or shutil.which("mount") is None or subprocess.run(mount).returncode:
        pytest.skip("only root may mount a small disk to fill")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with disk(tmp_path / "small_disk") as folder:
        yield folder


class Filler:
    """Somebody else's files, which take all there is for as long as they are there."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "somebody_elses"

    def take(self, but: int = 0) -> None:
        """Leave `but` bytes free, or fewer."""
        with self._file.open("ab") as file:
            while (free := shutil.disk_usage(self._file.parent).free) > but:
                file.write(bytes(min(free - but, 100_000)))
                file.flush()

    def remove(self) -> None:
        self._file.unlink()


def counted(every_s: float = 0.04) -> CountingSource:
    return CountingSource(counting_plant(TAGS), time.monotonic(), every_s)


def missing(historian: Historian, source: CountingSource) -> list[int]:
    """Samples of which any tag is not stored; every stored one is asserted to be true."""
    assert source.last is not None
    rows = historian.readings(source.plant, source.tags, source.at(0), source.at(source.last))
    held: dict[str, list[float | None]] = {tag: [] for tag in source.tags}
    for row in rows:
        assert row.source_time == source.at(int(row.value or 0))
        held[row.tag].append(row.value)
    for values in held.values():
        assert values == sorted({value for value in values if value is not None})
    everything = set.intersection(*({int(v or 0) for v in values} for values in held.values()))
    return sorted({*range(source.last + 1)} - everything)


def covers(gaps: list[Gap], source: CountingSource, number: int) -> bool:
    at = source.at(number)
    return any(gap.started_at <= at <= (gap.ended_at or at) for gap in gaps)


def is_live(told: list[Progress]) -> bool:
    return any(each.state is SourceState.LIVE for each in told[-1].sources)


@asynccontextmanager
async def collecting_live(
    source: CountingSource, historian: Historian, spool: Path
) -> AsyncIterator[list[Progress]]:
    """What is told while collecting, once the link is live and its first readings are stored."""
    options = {"connect": source.connect(), "buffering": Buffering(spool=spool)}
    async with collecting(source.plant, historian, **options) as told:
        await until(lambda: is_live(told) and told[-1].stored > 0, "the link", 60)
        yield told


async def all_stored(source: CountingSource, historian: Historian, told: list[Progress]) -> None:
    """Let the source end, and wait until what can be stored is."""
    source.last = source.number + 1
    last = source.at(source.last)
    await until(lambda: historian.newest(source.plant) == last, "the last sample", 60)
    await until(lambda: told[-1].waiting == 0, "an empty spool", 60)
    assert told[-1].spool.quarantined_rows == 0


def test_a_full_disk_of_the_spool_is_emptied_and_told(small_disk: Path, tmp_path: Path) -> None:
    """While the database is away too: the ballast lets it be emptied, what was lost is rows."""
    source = counted()
    source.remembers = False
    filler = Filler(small_disk)
    Historian.create(tmp_path / "plant.db").close()

    async def story() -> None:
        with Historian.open(tmp_path / "plant.db", busy_deadline_s=0.1) as historian:
            await collected(historian)

    async def collected(historian: Historian) -> None:
        async with collecting_live(source, historian, small_disk / "spool") as told:
            with locked(historian.path):
                await until(lambda: told[-1].database_trouble != "", "the lock to be seen", 60)
                filler.take(but=100_000)
                await until(lambda: told[-1].spool.losing != "", "a full disk", 60)
                assert "disk" in told[-1].spool.losing
                assert not (small_disk / "spool.ballast").exists()
                await until(lambda: told[-1].waiting > 0, "what waits")
            await until(lambda: told[-1].spool.losing == "", "readings again", 60)
            filler.remove()
            await until((small_disk / "spool.ballast").exists, "the ballast", 60)
            await until(lambda: told[-1].spool.trouble == "", "the disk", 60)
            await all_stored(source, historian, told)

    asyncio.run(story())
    with Historian.open(tmp_path / "plant.db") as historian:
        lost, gaps = missing(historian, source), historian.gaps(source.plant)
        assert lost, "the disk was full for a while"
        assert all(covers(gaps, source, number) for number in lost)
        assert any("the disk of the spool was full" in gap.reason for gap in gaps)
        told = [each.message for each in historian.events(source.plant, kind="spool")]
        assert any("readings are being lost" in message for message in told)


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """Its disk has no room."""
    filler = Filler(folder)
    filler.take()
    try:
        yield
    finally:
        filler.remove()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing in it can be changed, not even by those who have it open."""
    # But SQLite's shared memory, which on a disk that is read-only is none of the disk's.
    files = [str(folder), *(str(each) for each in folder.iterdir() if each.suffix != ".db-shm")]
    forbid = ["chattr", "+i", *files]
    if os.getuid() or shutil.which("chattr") is None or subprocess.run(forbid).returncode:
        pytest.skip("only root may forbid changes, and not on every file system")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", *files], check=True)


Hurt = Callable[[Path], AbstractContextManager[None]]
FAULTS = [pytest.param(full, id="full"), pytest.param(read_only, id="read-only")]


@pytest.fixture
def hurt_folder(request: pytest.FixtureRequest, hurt: Hurt, tmp_path: Path) -> Path:
    """Where the fault can be made: what has a file open may write it in memory whatever it is."""
    if hurt is full:
        folder: Path = request.getfixturevalue("small_disk")
        return folder
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


@pytest.mark.parametrize("hurt", FAULTS)
def test_past_a_spool_that_takes_nothing_readings_go_straight_into_the_database(
    hurt: Hurt, hurt_folder: Path, tmp_path: Path
) -> None:
    """A spool's disk alone loses nothing, be it full or read-only: the database takes them."""
    source = counted()

    async def story() -> None:
        with Historian.create(tmp_path / "plant.db") as historian:
            async with collecting_live(source, historian, hurt_folder / "spool") as told:
                with hurt(hurt_folder):
                    await until(lambda: told[-1].spool.trouble != "", "it to be told", 60)
                    wanted = source.at(source.number + 50)
                    await until(lambda: newest(historian, source) >= wanted, "new readings", 60)
                    assert told[-1].database_trouble == ""
                await until(lambda: told[-1].spool.trouble == "", "the disk again", 60)
                await until((hurt_folder / "spool.ballast").exists, "the ballast", 60)
                await all_stored(source, historian, told)
            assert are_all(historian, source)

    asyncio.run(story())


def newest(historian: Historian, source: CountingSource) -> datetime:
    return historian.newest(source.plant) or source.at(0)


@pytest.mark.parametrize("hurt", FAULTS)
def test_a_database_that_takes_nothing_costs_nothing(
    hurt: Hurt, hurt_folder: Path, tmp_path: Path
) -> None:
    """The spool on another disk holds what comes; written again, every number is stored."""
    source = counted()

    async def story() -> None:
        with Historian.create(hurt_folder / "plant.db") as historian:
            async with collecting_live(source, historian, tmp_path / "spool") as told:
                with hurt(hurt_folder):
                    await until(lambda: told[-1].database_trouble != "", "it to be told", 60)
                    await until(lambda: told[-1].spool.rows > 10_000, "readings in the spool", 60)
                    trouble = told[-1].database_trouble
                    assert told[-1].spool.losing == ""
                    assert told[-1].waiting - told[-1].spool.rows < 20_000  # in memory
                await until(lambda: told[-1].database_trouble == "", "to write again", 60)
                source.last = source.number
                await until(lambda: are_all(historian, source), "every number", 60)
                await until(lambda: is_filled(historian, source.plant), "the past", 60)
            remedy = "Free space" if hurt is full else "Check the disk"
            assert remedy in trouble
            messages = [each.message for each in historian.events(source.plant, kind="database")]
            assert messages[0] == "back"
            assert remedy in messages[1]

    asyncio.run(story())


@pytest.mark.parametrize("hurt", FAULTS)
def test_what_cannot_be_set_aside_yet_is_not_lost_and_no_fault_of_the_database(
    hurt: Hurt, hurt_folder: Path, tmp_path: Path
) -> None:
    """A tag that the database refuses, and a spool that takes nothing: told as the spool's."""
    source = counted()

    def with_ghost(readings: list[Reading]) -> list[Reading]:
        ghosts = [replace(each, tag="ghost") for each in readings if each.tag == "counter0"]
        return [*readings, *ghosts]

    async def story() -> int:
        with Historian.create(tmp_path / "plant.db") as historian:
            async with collecting_live(source, historian, hurt_folder / "spool") as told:
                with hurt(hurt_folder):
                    await until(lambda: told[-1].spool.trouble != "", "it to be told", 60)
                    first = source.number + 1
                    source.altered = with_ghost
                    await until(lambda: source.number > first + 50, "readings meanwhile", 60)
                    source.altered = lambda readings: readings
                await until(lambda: told[-1].spool.trouble == "", "the disk again", 60)
                source.last = source.number
                await until(lambda: are_all(historian, source), "every number", 60)
                await until(lambda: told[-1].spool.quarantined_rows > 10, "the refused", 60)
                assert not any(each.database_trouble for each in told)
            spools = [each.message for each in historian.events(source.plant, kind="spool")]
            remedies = ("Free space on that disk", "may be written", "Check the disk")
            assert any(remedy in each for remedy in remedies for each in spools)
        return first

    first = asyncio.run(story())
    with Spool(hurt_folder / "spool") as spool:
        asides = [each.parcel for each in spool.quarantined(1_000)]
        numbers = {
            reading.value
            for parcel in asides
            if isinstance(parcel, Batch)
            for reading in parcel.readings
        }
    assert numbers >= {float(number) for number in range(first + 5, first + 40)}
