"""Several sources of one plant, and a past that is read while somebody kills us."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from collected import collecting, is_filled
from counted_source import CountingSource, counting_plant
from one_tank import until
from test_collecting_faults import numbers

from connectors.ingest import Progress
from connectors.progress import SourceState
from connectors.sources import Connect
from twin.errors import EndpointUnavailable
from twin.historian import Historian
from twin.plant import OpcUaSource, Plant

MAIN, LAB, FAR = "opcua", "lab", "far"


def three_sources() -> Plant:
    """A plant whose counters come from three servers, two of each."""
    plant = counting_plant(6)
    assert plant.opcua is not None
    further: list[OpcUaSource] = [
        replace(plant.opcua, name=name, endpoint=f"opc.tcp://127.0.0.1:{port}/")
        for name, port in ((LAB, 4841), (FAR, 4842))
    ]
    owners = ("", "", LAB, LAB, FAR, FAR)
    tags = tuple(replace(tag, source=owner) for tag, owner in zip(plant.tags, owners, strict=True))
    return replace(plant, tags=tags, sources=tuple(further))


class Sources:
    """A counting source for each of the plant's, each to be ended on its own."""

    def __init__(self, plant: Plant) -> None:
        began_s = time.monotonic()
        self.each = {
            source.name: CountingSource(
                replace(plant, tags=plant.tags_of(source.name)), began_s, 0.02
            )
            for source in plant.all_sources
        }
        self.away: set[str] = set()

    def connect(self) -> Connect:
        """For `collect`."""

        @asynccontextmanager
        async def opened(source, clock, misdated, wrong):  # type: ignore[no-untyped-def]  # Connect's
            if source.name in self.away:
                raise EndpointUnavailable(f"{source.endpoint} does not answer.")
            inner = self.each[source.name].connect()
            async with inner(source, clock, misdated, wrong) as session:
                yield session

        return opened

    def end(self, name: str) -> None:
        """It dies, and does not come back."""
        self.away.add(name)
        lost = self.each[name].lost
        assert lost is not None
        lost.set()


def state_of(told: list[Progress], name: str) -> SourceState:
    return next(each.state for each in told[-1].sources if each.name == name)


def are_live(told: list[Progress], *names: str) -> Callable[[], bool]:
    return lambda: (
        bool(told[-1].sources) and all(state_of(told, name) is SourceState.LIVE for name in names)
    )


def test_one_source_that_dies_takes_no_other_with_it(tmp_path: Path) -> None:
    """The others go on, the gap names the one, and when it is back its past is filled."""
    plant = three_sources()
    sources = Sources(plant)

    async def story() -> None:
        with Historian.create(tmp_path / "plant.db") as historian:
            async with collecting(plant, historian, connect=sources.connect()) as told:
                await until(are_live(told, MAIN, LAB, FAR), "all three", 60)
                sources.end(LAB)
                await until(lambda: state_of(told, LAB) is SourceState.LOST, "the loss", 60)
                others = sources.each[MAIN], sources.each[FAR]
                wanted = [float(each.number + 100) for each in others]
                await until(
                    lambda: all(
                        (numbers(historian, each, tag) or [0.0])[-1] >= number  # type: ignore[operator]  # numbers
                        for each, number in zip(others, wanted, strict=True)
                        for tag in each.tags
                    ),
                    "the others to go on",
                    60,
                )
                assert are_live(told, MAIN, FAR)()
                (gap,) = (gap for gap in historian.gaps(plant) if gap.ended_at is None)
                assert (gap.source, gap.tag) == (LAB, None)
                assert "does not answer" in gap.reason or "wire" in gap.reason
                sources.away.clear()
                await until(are_live(told, MAIN, LAB, FAR), "all three again", 60)
                for each in sources.each.values():
                    each.last = each.number
                for each in sources.each.values():
                    wanted = [float(number) for number in range((each.last or 0) + 1)]
                    await until(
                        lambda each=each, wanted=wanted: all(  # type: ignore[misc]  # bound now
                            numbers(historian, each, tag) == wanted for tag in each.tags
                        ),
                        "every number",
                        60,
                    )
                await until(lambda: is_filled(historian, plant), "the gaps", 60)

    asyncio.run(story())


FILL = """
    import asyncio, sys, time
    from pathlib import Path
    from counted_source import CountingSource, counting_plant
    from connectors.buffering import Buffering
    from connectors.ingest import collect
    from twin.historian import Historian

    async def main():
        plant = counting_plant(20)
        source = CountingSource(plant, 0.0)
        source.last = 15_000
        with Historian.open(Path(sys.argv[1])) as historian:
            await collect(
                plant, historian, stop=asyncio.Event(), connect=source.connect(),
                buffering=Buffering(backfill_readings_per_s=60_000.0),
            )

    asyncio.run(main())
"""
SAMPLES = 15_000  # of the history: three slices of 20 tags


def start_filling(database: Path) -> subprocess.Popen[bytes]:
    tests = Path(__file__).parent
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(FILL), str(database)],
        env={**os.environ, "PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}"},
    )


def test_a_past_that_was_half_read_goes_on_where_it_was(tmp_path: Path) -> None:
    """kill -9 after each slice: the next process asks for what is left, and nothing is doubled."""
    plant = counting_plant(20)
    source = CountingSource(plant, 0.0)
    database = tmp_path / "plant.db"
    checkpoints = [source.at(0)]
    with Historian.create(database) as historian:
        historian.register(plant)

        def is_further() -> bool:
            for gap in historian.gaps(plant):
                if not gap.is_filled and gap.filled_until and gap.filled_until > checkpoints[-1]:
                    checkpoints.append(gap.filled_until)
                    return True
            return False

        def waited(is_so: Callable[[], bool]) -> None:
            process = start_filling(database)
            try:
                give_up_s = time.monotonic() + 60
                while not is_so():
                    assert process.poll() is None
                    assert time.monotonic() < give_up_s
                    time.sleep(0.005)
            finally:
                process.send_signal(signal.SIGKILL)
                process.wait()

        told_of = partial(historian.events, plant, kind="backfill")
        waited(is_further)
        waited(is_further)
        waited(lambda: is_filled(historian, plant) and bool(told_of()))
        ended = source.at(SAMPLES)
        rows = historian.readings(plant, source.tags, source.at(0), ended)
        (told,) = told_of()
    for tag in source.tags:
        values = [row.value for row in rows if row.tag == tag]
        assert values == [float(number) for number in range(int(values[0] or 0), SAMPLES + 1)]
    everything = len(rows) / len(source.tags)
    assert everything > 10_000
    assert int(told.message.split()[0]) < everything / 2, "the last process read the last slice"
