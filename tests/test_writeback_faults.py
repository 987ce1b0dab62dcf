"""What breaks in the middle of a write is settled: once written, never twice, never half held."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from asyncua import ua
from held_pumps import write
from one_tank import NOON, Tank, free_port, one_tank, until
from written_plant import Site, heartbeats, new_site, tell, told, writing

from connectors.emulator import Emulator
from connectors.opcua import Session
from connectors.writeback import settle_begun, write_accepted
from twin.errors import EndpointUnavailable
from twin.plant import Role
from twin.records import ProposalStatus, Reading, WriteStatus

PUMP, DRAIN = "pump.setpoint", "drain.setpoint"
SPEED = 60.0

_WRITER = """
import asyncio, sys
sys.path.insert(0, "tests")
from one_tank import one_tank
from connectors.readback import Writer
from connectors.writer import run_writer
from twin.historian import Historian
port, path = int(sys.argv[1]), sys.argv[2]
writer = Writer(one_tank(port), Historian.open(path), lambda: False)
asyncio.run(run_writer(writer, stop=asyncio.Event(), poll_s=0.02))
"""


@asynccontextmanager
async def another_writer(site: Site) -> AsyncIterator[asyncio.subprocess.Process]:
    """A writing process of its own for the site, killed at the end if it still lives."""
    assert site.plant.opcua is not None
    port = site.plant.opcua.endpoint.split(":")[2].split("/")[0]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _WRITER, port, str(site.historian.path), cwd=Path(__file__).parents[1]
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def test_a_killed_writers_work_is_taken_over(runner: asyncio.Runner, site: Site) -> None:
    """kill -9 in the middle of a read-back: the next one waits for the lease, then settles by
    reading, goes on writing, and keeps the PLC's heartbeat up."""

    async def story(session: Session) -> None:
        site.truth.drops_writes = True  # so that the first writer is still reading back
        waits: list[str] = []
        async with another_writer(site) as first:
            await until(lambda: bool(heartbeats(site)), "the first writer", 60)
            lost = await site.propose(session, {PUMP: 7.5})
            await until(lambda: bool(site.truth.setpoints_written), "its write")
            os.kill(first.pid, signal.SIGKILL)
            await first.wait()
            site.truth.drops_writes = False
            before = len(heartbeats(site))
            async with writing(site, on_waiting=waits.append):
                await until(lambda: site.status(lost) is ProposalStatus.FAILED, "its end", 40)
                await until(lambda: len(heartbeats(site)) > before, "a heartbeat")
                (end,) = site.historian.outcomes(site.plant, 1, lost)
                allowed = end.finished_at + timedelta(seconds=10)  # of its rate, from then on
                await until(lambda: session.clock.now() > allowed, "room for a move")
                newer = await site.propose(session, {PUMP: 5.25})  # its rate: it may have moved
                await until(lambda: bool(site.historian.outcomes(site.plant, 1, newer)), "a write")
                settled = (WriteStatus.VERIFIED, WriteStatus.FAILED, WriteStatus.REFUSED)
                await until(
                    lambda: site.historian.outcomes(site.plant, 1, newer)[0].status in settled,
                    "its outcome",
                )
                (outcome,) = site.historian.outcomes(site.plant, 1, newer)
                assert outcome.status is WriteStatus.VERIFIED, outcome.reason
        assert site.truth.setpoints_written == [(PUMP, 7.5), (PUMP, 5.25)]
        assert waits
        assert str(first.pid) in waits[0]

    tell(runner, site, story)


class Cutting(Tank):
    """A tank whose server loses every client with the first sample after a setpoint."""

    emulator: Emulator
    is_armed = False

    def __init__(self, *args: object, **named: object) -> None:
        super().__init__(*args, **named)  # type: ignore[arg-type]  # handed on as they are
        self._heard = 0

    def _row(self, row: int) -> list[Reading]:
        if self.is_armed and len(self.setpoints_written) > self._heard:
            self.is_armed = False
            for transport in list(self.emulator.server.iserver.asyncio_transports):
                transport.abort()
        self._heard = len(self.setpoints_written)
        return super()._row(row)


@asynccontextmanager
async def served(truth: type[Tank], kinds: dict[str, object]) -> AsyncIterator[Emulator]:
    """One tank, with some nodes of another type."""
    plant = one_tank(free_port())
    assert plant.opcua is not None
    start: datetime = NOON - timedelta(hours=1)
    emulator = Emulator(
        plant, truth(plant, seed=0, start=start), endpoint=plant.opcua.endpoint, speed=SPEED
    )
    emulator._types.update(kinds)
    await emulator.remember_until(NOON)
    async with emulator:
        running = asyncio.create_task(emulator.run())
        try:
            yield emulator
        finally:
            running.cancel()


@pytest.mark.parametrize("drops", [False, True], ids=["it stands", "the PLC dropped it"])
def test_a_link_lost_between_write_and_read_back_is_settled_by_reading(
    runner: asyncio.Runner, tmp_path: Path, drops: bool
) -> None:
    """The PLC said yes, and nobody saw it stand: unknown until it is read; never sent again."""

    async def story() -> None:
        async with served(Cutting, {}) as emulator:
            site = new_site(emulator, tmp_path)
            assert isinstance(site.truth, Cutting)
            site.truth.emulator, site.truth.drops_writes = emulator, drops
            async with Session(site.plant) as session:
                proposal = await site.propose(session, {PUMP: 7.5})
                site.truth.is_armed = True
                with pytest.raises(EndpointUnavailable):
                    await write_accepted(site.writer, session)
                (newest,) = site.historian.outcomes(site.plant, 1, proposal)
                assert newest.status is WriteStatus.UNKNOWN
                assert site.status(proposal) is ProposalStatus.ACCEPTED
                clock = session.clock
            async with Session(site.plant, clock=clock) as again:
                # Another writer might still read it back: it is left alone until that is over.
                assert await settle_begun(site.writer, again) == ([], {PUMP})
                again.clock.trust(newest.finished_at + timedelta(minutes=10))
                ((outcome,), _) = await settle_begun(site.writer, again)
            expected = WriteStatus.FAILED if drops else WriteStatus.VERIFIED
            assert outcome.status is expected, outcome.reason
            assert site.truth.setpoints_written == [(PUMP, 7.5)]

    runner.run(story())


def test_a_node_that_holds_less_exactly_is_read_back_as_it_can(
    runner: asyncio.Runner, tmp_path: Path
) -> None:
    """A Float shows 7.3 as the Float next to it: verified. A whole number cannot hold 4.5: told."""
    kinds = {PUMP: ua.VariantType.Float, DRAIN: ua.VariantType.Int32}

    async def story() -> None:
        async with served(Tank, kinds) as emulator:
            site = new_site(emulator, tmp_path)
            async with Session(site.plant) as session:
                outcome = await write(site, session, await site.propose(session, {PUMP: 7.3}))
                assert outcome.status is WriteStatus.VERIFIED, outcome.reason
                assert outcome.read_back[PUMP] != 7.3
                assert outcome.read_back[PUMP] == pytest.approx(7.3, rel=1e-6)
                before = len(site.truth.setpoints_written)
                outcome = await write(site, session, await site.propose(session, {DRAIN: 4.5}))
                assert outcome.status is WriteStatus.FAILED
                assert "whole numbers" in outcome.reason
                assert len(site.truth.setpoints_written) == before

    runner.run(story())


def test_a_node_that_rounds_further_than_the_tolerance_is_not_written(
    runner: asyncio.Runner, tmp_path: Path
) -> None:
    """The plant file wants a billionth; a Float at 7.3 is off by more, and that is told first."""

    async def story() -> None:
        async with served(Tank, {PUMP: ua.VariantType.Float}) as emulator:
            site = new_site(emulator, tmp_path)
            tags = (replace(tag, write_tolerance=1e-9) for tag in site.plant.with_role(Role.MV))
            others = (tag for tag in site.plant.tags if tag.role is not Role.MV)
            site.plant = replace(site.plant, tags=(*tags, *others))
            async with Session(site.plant) as session:
                outcome = await write(site, session, await site.propose(session, {PUMP: 7.3}))
                assert outcome.status is WriteStatus.FAILED
                assert "further off than the tolerance of 1e-09" in outcome.reason
                assert site.truth.setpoints_written == []

    runner.run(story())


def test_a_heartbeat_that_ends_gives_the_pump_back_and_is_told(
    runner: asyncio.Runner, site: Site
) -> None:
    """The PLC sheds when our heartbeat ends; the writer that comes back tells so and holds none."""

    async def story(session: Session) -> None:
        async with writing(site):
            held = await site.propose(session, {PUMP: 7.5})
            await until(lambda: site.status(held) is ProposalStatus.WRITTEN, "the write")
        site.truth.modes["pump"] = 0  # the PLC's own watchdog, when the beats were over
        async with writing(site):
            await until(lambda: bool(told(site, "mode")), "the note")
        assert told(site, "mode")[0].startswith("the plant took pump.setpoint back to AUTO")
        assert site.historian.held(site.plant) == {}
        assert site.truth.setpoints_written == [(PUMP, 7.5)]

    tell(runner, site, story)
