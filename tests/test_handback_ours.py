"""Ours to give back is what a write of ours took, finished or not: never what others took."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from held_pumps import (
    AUTO,
    DRAIN,
    PUMP,
    REMOTE,
    Rounds,
    ask,
    hold,
    modes_written,
    newest,
    shown,
    write,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from one_tank import PUMPS, until
from written_plant import Site, fresh_samples, new_site, tell, told, writing

from connectors.emulator import Emulator
from connectors.opcua import Session
from connectors.stop import StopLatch
from connectors.writeback import settle_begun, write_accepted
from twin.errors import EndpointUnavailable
from twin.historian import HandBackCause, HandBackStatus
from twin.records import Stage, WriteStatus

SPEED = 100.0  # a clearance holds for 0.6 s by the wall, however busy the machine is


def test_what_a_person_put_in_remote_is_left_alone(runner: asyncio.Runner, site: Site) -> None:
    """Never written by us, or given back since: no rule and no round of ours touches it."""

    async def story(session: Session) -> None:
        site.truth.modes = {"pump": REMOTE, "drain": REMOTE}
        await shown(site, session, "drain", REMOTE)
        for mv in (PUMP, DRAIN):
            at = session.clock.now()
            site.historian.set_stage(site.plant, mv, Stage.SHADOW, "Ada", "a test", at)
            assert ask(site, session, mv) is not None
        await Rounds(site, session).one()
        assert site.truth.modes == {"pump": REMOTE, "drain": REMOTE}
        assert site.truth.writes == []

    tell(runner, site, story)


@pytest.mark.parametrize("was_away", [False, True])
def test_what_the_plant_takes_back_is_told_once(
    runner: asyncio.Runner, site: Site, was_away: bool
) -> None:
    """An operator at the PLC or a lost heartbeat: one audit row, also for what nobody saw."""

    async def story(session: Session) -> None:
        await hold(site, session)
        rounds = Rounds(site, session)
        if not was_away:
            await rounds.one()
        site.truth.modes["pump"] = AUTO
        await shown(site, session, "pump", AUTO)
        for _ in range(3):
            await rounds.one()
        await Rounds(site, session).one()
        (text,) = told(site, "mode")
        assert text.startswith("the plant took pump.setpoint back to AUTO")
        assert ("seen at" in text) == was_away
        assert newest(site).cause is HandBackCause.PLANT
        assert modes_written(site) == []

    tell(runner, site, story)


def test_what_is_seen_to_go_is_not_said_to_have_gone_unseen(
    runner: asyncio.Runner, site: Site
) -> None:
    """The writer has been there all along, with nothing to hold at first."""
    site.plant = replace(site.plant, interlocks=())

    async def story(session: Session) -> None:
        rounds = Rounds(site, session)
        await rounds.one()
        await hold(site, session)
        site.truth.modes["pump"] = AUTO
        await shown(site, session, "pump", AUTO)
        await rounds.one()
        assert told(site, "mode") == ["the plant took pump.setpoint back to AUTO"]

    tell(runner, site, story)


def test_a_pump_that_went_with_our_stop_is_not_blamed_on_the_plant(
    runner: asyncio.Runner, site: Site, tmp_path: Path
) -> None:
    """The audit says that it was our stop."""
    latch = StopLatch(tmp_path / "stop")
    site.is_stopped = latch.is_stopped

    async def story(session: Session) -> None:
        await hold(site, session)
        async with writing(site):
            latch.set("Ada", "smoke")
            await until(lambda: bool(told(site, "mode")), "the note")
        assert told(site, "mode") == ["pump.setpoint went back to AUTO with our stop"]
        assert newest(site).cause is HandBackCause.STOP

    tell(runner, site, story)


def test_half_a_write_leaves_no_pump_in_remote(runner: asyncio.Runner, site: Site) -> None:
    """The second setpoint is kept back: what the first one took goes back at once."""
    site.is_stopped = lambda: bool(site.truth.setpoints_written)

    async def story(session: Session) -> None:
        proposal = await site.propose(session, {PUMP: 7.5, DRAIN: 4.0})
        outcome = await write(site, session, proposal)
        assert outcome.status is WriteStatus.FAILED
        assert len(site.truth.setpoints_written) == 1
        assert site.truth.modes == {"pump": AUTO, "drain": AUTO}
        assert told(site, "shed")[0].endswith("failed: in AUTO")

    tell(runner, site, story)


def test_what_a_failed_write_took_and_cannot_give_back_stays_ours(
    runner: asyncio.Runner, site: Site
) -> None:
    """The PLC refuses AUTO at first: it is ours by the record, and goes as soon as it can."""

    def turn_the_key() -> None:
        site.truth.refusal = "the key switch stands on local"

    async def story(session: Session) -> None:
        site.truth.on_setpoint = turn_the_key
        proposal = await site.propose(session, {PUMP: 7.5, DRAIN: 4.0})
        outcome = await write(site, session, proposal)
        assert outcome.status is WriteStatus.FAILED
        assert list(site.historian.held(site.plant)) == [DRAIN], "the first that was sent"
        rounds = Rounds(site, session)
        for _ in range(3):
            await rounds.one()
        assert site.historian.hand_backs(site.plant, 1)[0].status is HandBackStatus.OPEN
        # What the mode reads back as may join the refusal later: that is news, a round is not.
        assert len(set(told(site, "shed"))) == len(told(site, "shed")) <= 2
        assert ask(site, session, DRAIN) is None, "a person may ask for it too"
        site.truth.refusal = None
        await shown(site, session, "drain", REMOTE)
        await fresh_samples(site)
        for _ in range(2):
            await rounds.one()
        assert site.truth.modes == {"pump": AUTO, "drain": AUTO}
        assert site.historian.held(site.plant) == {}
        assert not site.historian.hand_backs(site.plant, statuses=[HandBackStatus.OPEN])

    tell(runner, site, story)


def test_an_auto_from_before_the_write_is_no_sign_that_the_pump_went_back(
    runner: asyncio.Runner, site: Site
) -> None:
    """The PLC acknowledges our AUTO and drops it, while its last sample still shows the AUTO of
    before: the pump stays ours by the record, and goes once the PLC lets it."""
    site.truth.drops_modes = True
    site.truth.on_setpoint = lambda: setattr(site.truth, "is_frozen", True)
    site.is_stopped = lambda: bool(site.truth.setpoints_written)

    async def story(session: Session) -> None:
        proposal = await site.propose(session, {PUMP: 7.5, DRAIN: 4.0})
        outcome = await write(site, session, proposal)
        assert outcome.status is WriteStatus.FAILED
        assert (site.truth.modes["drain"], modes_written(site)) == (REMOTE, [("drain.mode", 0.0)])
        assert list(site.historian.held(site.plant)) == [DRAIN]
        site.truth.is_frozen = site.truth.drops_modes = False
        await fresh_samples(site)
        await Rounds(site, session).one()
        assert site.truth.modes == {"pump": AUTO, "drain": AUTO}
        assert site.historian.held(site.plant) == {}

    tell(runner, site, story)


@pytest.mark.parametrize("mode_before", [AUTO, REMOTE])
def test_a_write_that_ends_half_done_unseen_leaves_no_pump_in_remote(
    runner: asyncio.Runner, site: Site, mode_before: int
) -> None:
    """The link breaks after the first of two setpoints: what that one took goes back, no more."""

    def cut() -> None:
        for transport in list(site.emulator.server.iserver.asyncio_transports):
            transport.abort()

    async def story(session: Session) -> None:
        site.truth.modes = dict.fromkeys(PUMPS, mode_before)
        for pump in PUMPS:
            await shown(site, session, pump, mode_before)
        await site.propose(session, {PUMP: 7.5, DRAIN: 4.0})
        site.truth.on_setpoint = cut
        with pytest.raises(EndpointUnavailable):
            await write_accepted(site.writer, session)
        site.truth.on_setpoint = lambda: None
        async with Session(site.plant) as again:
            ((outcome,), _) = await settle_begun(site.writer, again)
        assert outcome.status is WriteStatus.FAILED
        assert len(site.truth.setpoints_written) == 1
        assert site.truth.modes == dict.fromkeys(PUMPS, mode_before)

    tell(runner, site, story)


@pytest.mark.parametrize("setpoint", [4.0, 7.5])
def test_what_a_person_set_in_remote_while_we_were_away_is_theirs(
    runner: asyncio.Runner, site: Site, setpoint: float
) -> None:
    """Back with the next start: another setpoint than ours is left alone, whatever was asked."""

    async def story(session: Session) -> None:
        await hold(site, session)
        ask(site, session)
        site.truth.setpoints["pump"] = setpoint
        await fresh_samples(site)
        rounds = Rounds(site, session)
        for _ in range(2):
            await rounds.one()
        assert site.historian.held(site.plant) == {}
        if setpoint == 7.5:
            assert site.truth.modes["pump"] == AUTO
            return
        assert site.truth.writes[1:] == []
        assert site.truth.modes["pump"] == REMOTE
        (text,) = told(site, "mode")
        assert "in REMOTE at 4, not at our 7.5" in text

    tell(runner, site, story)


_BEFORE = st.sampled_from([AUTO, REMOTE])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    modes=st.tuples(_BEFORE, _BEFORE),
    fails_at=st.integers(0, 1),
    refused_rounds=st.integers(0, 2),
    restarts=st.booleans(),
    is_unseen=st.booleans(),
)
def test_a_failed_write_takes_nothing_for_good(
    runner: asyncio.Runner,
    emulator: Emulator,
    modes: tuple[int, int],
    fails_at: int,
    refused_rounds: int,
    restarts: bool,
    is_unseen: bool,
) -> None:
    """Whatever half of it went out, however often the PLC refuses: all modes end as they were.

    Also where the PLC drops our AUTO and shows nothing newer than the write. Until then the record
    says that what it took is ours, and nothing else.
    """
    with tempfile.TemporaryDirectory() as folder:
        site = new_site(emulator, Path(folder))
        site.plant = replace(site.plant, interlocks=())
        before = dict(zip(PUMPS, modes, strict=True))
        site.truth.modes = dict(before)
        rounds = (refused_rounds, restarts)
        tell(runner, site, lambda session: _fail(site, session, fails_at, *rounds, is_unseen))
        assert site.truth.modes == before
        site.historian.close()


async def _fail(
    site: Site,
    session: Session,
    fails_at: int,
    refused_rounds: int,
    restarts: bool,
    is_unseen: bool,
) -> None:
    before = dict(site.truth.modes)
    count = iter(range(2))

    def fail_from_now_on() -> None:
        if next(count) != fails_at:
            return
        if is_unseen:
            site.truth.drops_modes = site.truth.is_frozen = True
        else:
            site.truth.refusal = "the key switch stands on local"
            site.truth.drops_writes = fails_at == 1

    site.truth.on_setpoint = fail_from_now_on
    site.is_stopped = lambda: is_unseen and len(site.truth.setpoints_written) > fails_at
    proposal = await site.propose(session, {PUMP: 7.5, DRAIN: 4.0})
    outcome = await write(site, session, proposal)
    assert outcome.status is WriteStatus.FAILED, outcome.reason
    rounds = Rounds(site, session)
    site.truth.is_frozen = False
    await fresh_samples(site)
    for _ in range(refused_rounds):
        taken = {pump for pump in PUMPS if site.truth.modes[pump] != before[pump]}
        assert {mv.split(".")[0] for mv in site.historian.held(site.plant)} >= taken
        rounds = Rounds(site, session) if restarts else rounds
        await rounds.one()
    site.truth.refusal, site.truth.drops_writes, site.truth.drops_modes = None, False, False
    await fresh_samples(site)
    await rounds.one()
    assert not site.historian.hand_backs(site.plant, statuses=[HandBackStatus.OPEN])
    assert site.historian.held(site.plant) == {}
