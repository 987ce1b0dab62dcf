"""What changes in the last moment before a write, or comes long after it, is not overlooked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from faulty_network import FaultyNetwork
from held_pumps import hold
from one_tank import free_port, live_tank, one_tank, until
from written_plant import Site, new_site, tell

from connectors.handback import HandBacks
from connectors.opcua import Session
from connectors.writeback import settle_begun, write_accepted
from twin.errors import EndpointUnavailable
from twin.records import ProposalStatus, WriteStatus

PUMP = "pump.setpoint"
SPEED = 60.0


class Watched(Session):
    """A session that calls `on_write` with the name just before a write goes out."""

    on_write: Callable[[str], None]

    async def write(self, name: str, value: float) -> None:
        self.on_write(name)
        await super().write(name, value)


@pytest.mark.parametrize("answers", range(1, 9))
def test_a_stop_set_after_any_look_at_the_latch_keeps_the_setpoint_back(
    runner: asyncio.Runner, site: Site, answers: int
) -> None:
    """The latch says no for the first time as soon as anything is waited for after a yes."""
    asked, is_set, late = 0, False, list[str]()

    def set_now() -> None:
        nonlocal is_set
        is_set = True

    def is_stopped() -> bool:
        nonlocal asked
        asked += 1
        if asked == answers:
            asyncio.get_running_loop().call_soon(set_now)
        return is_set

    async def story(session: Session) -> None:
        await site.propose(session, {PUMP: 7.5})
        site.is_stopped = is_stopped
        async with Watched(site.plant) as watched:
            watched.on_write = lambda name: late.append(name) if is_set else None
            await write_accepted(site.writer, watched)
        assert not late
        assert asked >= answers or site.truth.setpoints_written == [(PUMP, 7.5)]

    tell(runner, site, story)


@pytest.mark.parametrize(("what", "looks"), [
    *(("its time is over", looks) for looks in range(1, 6)),
    *(("a person asks for the pump", looks) for looks in range(1, 4)),  # before the last gate
])  # fmt: skip
def test_what_ends_a_yes_while_it_is_worked_on_keeps_the_setpoint_back(
    runner: asyncio.Runner, site: Site, what: str, looks: int
) -> None:
    """After any look at the latch, however long the database takes: nothing goes out any more."""

    async def story(session: Session) -> None:
        await hold(site, session, pump=5.25)
        rested = session.clock.now() + timedelta(seconds=30)
        await until(lambda: session.clock.now() > rested, "room for a move")
        proposal = await site.propose(session, {PUMP: 5.5}, expires_in_s=50)
        stored = site.historian.proposal(proposal)
        assert stored is not None
        asked = 0

        def is_stopped() -> bool:
            nonlocal asked
            asked += 1
            now = session.clock.now()
            if asked == looks and what == "its time is over":
                session.clock.trust(max(stored.expires_at, now))
            elif asked == looks:
                assert site.historian.ask_back(site.plant, PUMP, "Bob", "mine", now) is None
            return False

        site.truth.writes.clear()
        site.is_stopped = is_stopped
        outcomes = await write_accepted(site.writer, session)
        assert asked >= looks
        assert site.truth.setpoints_written == []
        assert all(each.status is not WriteStatus.VERIFIED for each in outcomes)

    tell(runner, site, story)


def test_readings_that_grew_old_while_the_database_was_slow_refuse_a_write(
    runner: asyncio.Runner, tmp_path: Path
) -> None:
    """The gate said yes long ago by then: it is asked again on what is read now."""
    plant = one_tank(free_port())
    tags = tuple(replace(tag, max_age_s=25.0) for tag in plant.tags)

    async def story() -> None:
        async with live_tank(SPEED, plant=replace(plant, tags=tags)) as emulator:
            site = new_site(emulator, tmp_path)
            shown = site.truth.now
            await until(lambda: site.truth.now > shown + timedelta(seconds=20), "samples")
            async with Session(site.plant) as session:
                proposal = await site.propose(session, {PUMP: 5.25})
                clock, aged = session.clock, list[bool]()

                def is_stopped() -> bool:
                    begun = site.historian.outcomes(site.plant, 1, proposal)
                    if begun and not aged:
                        aged.append(True)
                        clock.trust(clock.now() + timedelta(seconds=40))
                    return False

                site.is_stopped = is_stopped
                (outcome,) = await write_accepted(site.writer, session)
            assert aged
            assert outcome.status is WriteStatus.FAILED
            assert "Nothing was sent" in outcome.reason
            assert site.truth.setpoints_written == []

    runner.run(story())


@pytest.mark.parametrize("arrives", [True, False])
def test_a_write_without_an_answer_may_still_arrive(
    runner: asyncio.Runner, site: Site, arrives: bool
) -> None:
    """A network keeps it back for a while: until the session of it is over nothing is settled,
    nothing else is sent to that MV, and what arrives is ours."""
    site.late_wall_s = 30.0

    async def story(session: Session) -> None:
        server = int(session.endpoint.split(":")[2].split("/")[0])
        async with FaultyNetwork(server) as network:
            endpoint = session.endpoint.replace(str(server), str(network.port))
            await site.propose(session, {PUMP: 7.5})
            async with Watched(site.plant, endpoint=endpoint, request_timeout_s=1.0) as broken:
                await broken.write_refusals()
                broken.on_write = lambda _: network.swallow()
                with pytest.raises(EndpointUnavailable):
                    await write_accepted(site.writer, broken)
            assert await settle_begun(site.writer, session) == ([], {PUMP})
            newer = await site.propose(session, {PUMP: 6.0})
            assert await write_accepted(site.writer, session) == []
            assert site.status(newer) is ProposalStatus.ACCEPTED
            if arrives:
                network.heal()
                await until(lambda: bool(site.truth.setpoints_written), "the write")
            else:
                site.late_wall_s = -1.0  # its session is over
            settled = list[WriteStatus]()
            while not settled:
                outcomes, _ = await settle_begun(site.writer, session)
                settled += [each.status for each in outcomes]
            assert settled == [WriteStatus.VERIFIED if arrives else WriteStatus.FAILED]
            assert site.historian.held(site.plant).keys() == ({PUMP} if arrives else set())
            await HandBacks(site.writer).round(session, set())

    tell(runner, site, story)


def test_what_was_not_answered_is_not_sent_later(runner: asyncio.Runner, site: Site) -> None:
    """A link found dead is reset: its request leaves this machine no more when the line is back."""

    async def story(session: Session) -> None:
        server = int(session.endpoint.split(":")[2].split("/")[0])
        async with FaultyNetwork(server) as network:
            endpoint = session.endpoint.replace(str(server), str(network.port))
            async with Session(site.plant, endpoint=endpoint) as sound:
                await sound.write("plc.heartbeat", 1)
            assert network.resets == 0
            async with Session(site.plant, endpoint=endpoint, request_timeout_s=0.5) as broken:
                network.swallow()
                with pytest.raises(EndpointUnavailable):
                    await broken.write("plc.heartbeat", 2)
            network.heal()  # what the network itself had taken by then
            await until(lambda: network.resets == 1, "the reset")

    tell(runner, site, story)
