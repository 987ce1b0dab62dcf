"""What we took we give back: when asked, when nobody renews it, never what is not ours."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from one_tank import PUMPS, live_tank, until
from written_plant import Site, new_site, tell, writing

from connectors.emulator import Emulator
from connectors.handback import HandBacks
from connectors.opcua import Session
from connectors.stop import StopLatch
from connectors.writeback import settle_begun, write_accepted
from twin.clock import wall_now
from twin.context import JUDGED
from twin.errors import EndpointUnavailable
from twin.historian import HandBack, HandBackCause, HandBackStatus, longest_hold
from twin.records import ProposalStatus, Stage, WriteOutcome, WriteStatus

PUMP, DRAIN = "pump.setpoint", "drain.setpoint"
SPEED = 100.0  # a clearance holds for 0.6 s by the wall, however busy the machine is
_AUTO, _REMOTE = 0, 1
_NOTHING_NEWER = "nothing newer was accepted for 60 min: in AUTO"


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as one:
        yield one


@pytest.fixture(scope="module")
def emulator(runner: asyncio.Runner) -> Iterator[Emulator]:
    """One fast server for all stories of this file."""
    living = live_tank(SPEED)
    yield runner.run(living.__aenter__())
    runner.run(living.__aexit__(None, None, None))


@pytest.fixture
def site(emulator: Emulator, tmp_path: Path) -> Site:
    return new_site(emulator, tmp_path)


class Rounds:
    """A writing process's rounds, one at a time; a new object is a restart."""

    def __init__(self, site: Site, session: Session) -> None:
        self._site, self._session = site, session
        self._hand_backs = HandBacks(site.writer)

    async def one(self) -> None:
        _, busy = await settle_begun(self._site.writer, self._session)
        await self._hand_backs.round(self._session, busy)
        await write_accepted(self._site.writer, self._session)


async def hold(site: Site, session: Session, **setpoints: float) -> str:
    """A proposal that is accepted, written and verified: the pumps are ours."""
    wanted = {f"{pump}.setpoint": value for pump, value in (setpoints or {"pump": 7.5}).items()}
    proposal = await site.propose(session, wanted)
    outcome = await write(site, session, proposal)
    assert outcome.status is WriteStatus.VERIFIED, outcome.reason
    return proposal


async def write(site: Site, session: Session, proposal: str) -> WriteOutcome:
    """Write it; again where the clearance lapsed on a busy machine before it was used."""
    while site.status(proposal) is ProposalStatus.ACCEPTED:
        await write_accepted(site.writer, session)
    return site.historian.outcomes(site.plant, 1, proposal)[0]


async def shown(site: Site, session: Session, pump: str, mode: int) -> None:
    """Wait until the plant's server shows what the truth's mode is."""
    give_up = asyncio.get_running_loop().time() + 20
    while (await session.read([f"{pump}.mode"]))[f"{pump}.mode"].value != mode:
        assert asyncio.get_running_loop().time() < give_up
        await asyncio.sleep(0.005)


def ask(site: Site, session: Session, mv: str = PUMP, by: str = "Bob") -> str | None:
    return site.historian.ask_back(site.plant, mv, by, "it rattles", session.clock.now())


def newest(site: Site) -> HandBack:
    return site.historian.hand_backs(site.plant, 1)[0]


def told(site: Site, kind: str) -> list[str]:
    """What the audit says of this kind, in order."""
    return [each.message for each in site.historian.events(site.plant, kind=kind)][::-1]


def modes_written(site: Site) -> list[tuple[str, float]]:
    return [(name, value) for name, value in site.truth.writes if name.endswith(".mode")]


def test_what_a_person_asks_back_is_given_back_once(runner: asyncio.Runner, site: Site) -> None:
    """Also while stopped; who asked, why and what came of it is kept; a restart does nothing."""

    async def story(session: Session) -> None:
        await hold(site, session)
        assert ask(site, session) is None
        assert ask(site, session, by="Cy") == (
            "Bob has asked for pump.setpoint already; the writing process has yet to do it."
        )
        site.is_stopped = lambda: True
        await Rounds(site, session).one()
        assert site.truth.modes == {"pump": _AUTO, "drain": _AUTO}
        assert (newest(site).by, newest(site).status) == ("Bob", HandBackStatus.DONE)
        assert newest(site).result == "in AUTO"
        assert told(site, "give back")[0] == "asked: it rattles"
        assert told(site, "shed") == ["it rattles: in AUTO"]
        site.truth.modes["pump"] = _REMOTE  # by a person, since
        await shown(site, session, "pump", _REMOTE)
        await Rounds(site, session).one()
        assert modes_written(site) == [("pump.mode", 0.0)]
        assert ask(site, session) == (
            "Plantwright does not hold pump.setpoint: there is nothing to give back."
        )

    tell(runner, site, story)


@pytest.mark.parametrize("refusal", ["", "the key switch stands on local"])
def test_what_the_plc_refuses_is_tried_again_and_told_once(
    runner: asyncio.Runner, site: Site, refusal: str
) -> None:
    """Three rounds, one audit row; done as soon as the PLC lets us."""

    async def story(session: Session) -> None:
        await hold(site, session)
        ask(site, session)
        site.truth.refusal = refusal or None
        rounds = Rounds(site, session)
        for _ in range(3):
            await rounds.one()
        if refusal:
            assert newest(site).status is HandBackStatus.OPEN
            assert "refused by the plant" in newest(site).result
            assert len(told(site, "shed")) == 1
            site.truth.refusal = None
            await rounds.one()
        assert newest(site).status is HandBackStatus.DONE
        assert site.truth.modes["pump"] == _AUTO

    tell(runner, site, story)


def test_what_was_accepted_before_the_request_is_not_written_after_it(
    runner: asyncio.Runner, site: Site
) -> None:
    """Bob asks while Ada's acceptance waits: the pump goes back and stays; a new yes counts."""

    async def story(session: Session) -> None:
        await hold(site, session)
        waiting = await site.propose(session, {PUMP: 6.0})
        ask(site, session)
        rounds = Rounds(site, session)
        await rounds.one()
        await rounds.one()
        assert site.status(waiting) is ProposalStatus.SUPERSEDED
        assert site.truth.modes["pump"] == _AUTO
        anew = await site.propose(session, {PUMP: 6.5})
        await rounds.one()
        assert site.status(anew) is ProposalStatus.WRITTEN
        assert site.truth.modes["pump"] == _REMOTE

    tell(runner, site, story)


def test_a_request_from_before_a_later_acceptance_does_not_fire(
    runner: asyncio.Runner, site: Site
) -> None:
    """Asked while nobody could carry it out, then accepted and written anew: void."""

    async def story(session: Session) -> None:
        await hold(site, session)
        ask(site, session)
        await hold(site, session, pump=7.55)
        await Rounds(site, session).one()
        assert site.truth.modes["pump"] == _REMOTE
        assert newest(site).status is HandBackStatus.VOID
        assert "accepted later" in told(site, "give back")[-1]

    tell(runner, site, story)


def test_giving_back_ends_the_closed_loop(runner: asyncio.Runner, site: Site) -> None:
    """Else the next plan would take the pump again: it goes to advisory, in the person's name."""

    async def story(session: Session) -> None:
        now = session.clock.now()
        site.historian.set_stage(site.plant, PUMP, Stage.CLOSED_LOOP, "Ada", "trusted", now)
        await hold(site, session)
        ask(site, session)
        assert site.historian.stage(site.plant)[PUMP] is Stage.ADVISORY
        row = site.historian.events(site.plant, 1, kind="stage")[0]
        assert (row.by, row.message) == ("Bob", "advisory: given back to the plant: it rattles")

    tell(runner, site, story)


@pytest.mark.parametrize(
    ("stage", "judged", "says"),
    [
        (Stage.ADVISORY, "now", _NOTHING_NEWER),
        (Stage.CLOSED_LOOP, "now", ""),
        (Stage.CLOSED_LOOP, "never", _NOTHING_NEWER),
        (Stage.CLOSED_LOOP, "long ago", _NOTHING_NEWER),
        (Stage.CLOSED_LOOP, "far ahead", _NOTHING_NEWER),
        (Stage.SHADOW, "now", "its stage is shadow: computed only: in AUTO"),
    ],
)
def test_a_setpoint_holds_no_longer_than_anybody_judged_it(
    runner: asyncio.Runner, site: Site, stage: Stage, judged: str, says: str
) -> None:
    """For a plan's horizon; in closed loop for one from when a plan kept it. Shadow: not at all."""

    async def story(session: Session) -> None:
        await hold(site, session)
        rounds = Rounds(site, session)
        await rounds.one()
        assert site.truth.modes["pump"] == _REMOTE, "inside the horizon nothing happens"
        site.historian.set_stage(site.plant, PUMP, stage, "Ada", "a test", session.clock.now())
        limit = longest_hold(site.plant)
        if stage is not Stage.SHADOW:
            session.clock.trust(session.clock.now() + limit)
        if judged != "never":
            far = {"now": 0.0, "long ago": -1.1, "far ahead": 1.1}[judged] * limit
            beat = json.dumps({JUDGED: {PUMP: (session.clock.now() + far).isoformat()}})
            site.historian.beat(site.plant, "plan", wall_now(), os.getpid(), beat)
        await rounds.one()
        assert (site.truth.modes["pump"] == _AUTO) == bool(says)
        assert told(site, "shed") == ([says] if says else [])

    tell(runner, site, story)


def test_what_a_person_put_in_remote_is_left_alone(runner: asyncio.Runner, site: Site) -> None:
    """Never written by us, or given back since: no rule and no round of ours touches it."""

    async def story(session: Session) -> None:
        site.truth.modes = {"pump": _REMOTE, "drain": _REMOTE}
        await shown(site, session, "drain", _REMOTE)
        for mv in (PUMP, DRAIN):
            at = session.clock.now()
            site.historian.set_stage(site.plant, mv, Stage.SHADOW, "Ada", "a test", at)
            assert ask(site, session, mv) is not None
        await Rounds(site, session).one()
        assert site.truth.modes == {"pump": _REMOTE, "drain": _REMOTE}
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
        site.truth.modes["pump"] = _AUTO
        await shown(site, session, "pump", _AUTO)
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
        site.truth.modes["pump"] = _AUTO
        await shown(site, session, "pump", _AUTO)
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


def test_an_interlock_that_cannot_shed_is_told_once(runner: asyncio.Runner, site: Site) -> None:
    """The PLC refuses in every round; the audit has one row of it, and one of the end."""
    lock = replace(site.plant.interlocks[0], when="tank.level > 5", blocks=(PUMP,))
    site.plant = replace(site.plant, interlocks=())

    async def story(session: Session) -> None:
        await hold(site, session)
        site.plant = replace(site.plant, interlocks=(lock,))
        site.truth.refusal = "the key switch stands on local"
        rounds = Rounds(site, session)
        for _ in range(4):
            await rounds.one()
        assert len(told(site, "shed")) == 1
        assert "BadNotWritable" in told(site, "shed")[0]
        site.truth.refusal = None
        await rounds.one()
        await rounds.one()
        assert told(site, "shed")[1:] == [f"{lock.name}: {lock.message}: in AUTO"]
        assert site.historian.held(site.plant) == {}
        assert told(site, "mode") == []

    tell(runner, site, story)


def test_half_a_write_leaves_no_pump_in_remote(runner: asyncio.Runner, site: Site) -> None:
    """The second setpoint is kept back: what the first one took goes back at once."""
    site.is_stopped = lambda: bool(site.truth.setpoints_written)

    async def story(session: Session) -> None:
        proposal = await site.propose(session, {PUMP: 7.5, DRAIN: 4.0})
        outcome = await write(site, session, proposal)
        assert outcome.status is WriteStatus.FAILED
        assert len(site.truth.setpoints_written) == 1
        assert site.truth.modes == {"pump": _AUTO, "drain": _AUTO}
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
        await shown(site, session, "drain", _REMOTE)
        moved = site.truth.now
        await until(lambda: site.truth.now > moved + timedelta(seconds=40), "fresh samples")
        for _ in range(2):
            await rounds.one()
        assert site.truth.modes == {"pump": _AUTO, "drain": _AUTO}
        assert site.historian.held(site.plant) == {}
        assert not site.historian.hand_backs(site.plant, statuses=[HandBackStatus.OPEN])

    tell(runner, site, story)


@pytest.mark.parametrize("mode_before", [_AUTO, _REMOTE])
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
        changed = site.truth.now
        await until(lambda: site.truth.now > changed + timedelta(seconds=20), "fresh samples")
        rounds = Rounds(site, session)
        for _ in range(2):
            await rounds.one()
        assert site.historian.held(site.plant) == {}
        if setpoint == 7.5:
            assert site.truth.modes["pump"] == _AUTO
            return
        assert site.truth.writes[1:] == []
        assert site.truth.modes["pump"] == _REMOTE
        (text,) = told(site, "mode")
        assert "in REMOTE at 4, not at our 7.5" in text

    tell(runner, site, story)


def test_a_request_that_cannot_be_read_is_ended_and_blocks_only_what_was_before(
    runner: asyncio.Runner, site: Site
) -> None:
    """Told once; the pump stays ours, may be asked back anew, and a new yes is written."""

    async def story(session: Session) -> None:
        await hold(site, session)
        ask(site, session)
        with closing(sqlite3.connect(site.historian.path)) as raw, raw:
            (guard,) = raw.execute(
                "SELECT sql FROM sqlite_master WHERE name = 'hand_back_ended_once'"
            ).fetchone()
            raw.execute("DROP TRIGGER hand_back_ended_once")
            raw.execute(f"UPDATE hand_back SET asked_at = {2**62}")
            raw.execute(guard)
        before = await site.propose(session, {PUMP: 7.0})
        rounds = Rounds(site, session)
        for _ in range(2):
            await rounds.one()
        assert site.status(before) is ProposalStatus.SUPERSEDED
        assert site.truth.modes["pump"] == _REMOTE
        ended = [text for text in told(site, "give back") if text.startswith("void")]
        assert len(ended) == 1
        assert "cannot be read" in ended[0]
        assert len(told(site, "unreadable")) == 1
        anew = await site.propose(session, {PUMP: 7.55})
        await rounds.one()
        assert site.status(anew) is ProposalStatus.WRITTEN
        assert ask(site, session) is None
        await rounds.one()
        assert site.truth.modes["pump"] == _AUTO

    tell(runner, site, story)


_BEFORE = st.sampled_from([_AUTO, _REMOTE])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    modes=st.tuples(_BEFORE, _BEFORE),
    fails_at=st.integers(0, 1),
    refused_rounds=st.integers(0, 2),
    restarts=st.booleans(),
)
def test_a_failed_write_takes_nothing_for_good(
    runner: asyncio.Runner,
    emulator: Emulator,
    modes: tuple[int, int],
    fails_at: int,
    refused_rounds: int,
    restarts: bool,
) -> None:
    """Whatever half of it went out, however often the PLC refuses: all modes end as they were.

    Until then the record says that what it took is ours, and nothing else.
    """
    with tempfile.TemporaryDirectory() as folder:
        site = new_site(emulator, Path(folder))
        site.plant = replace(site.plant, interlocks=())
        before = dict(zip(PUMPS, modes, strict=True))
        site.truth.modes = dict(before)
        tell(runner, site, lambda session: _fail(site, session, fails_at, refused_rounds, restarts))
        assert site.truth.modes == before
        site.historian.close()


async def _fail(
    site: Site, session: Session, fails_at: int, refused_rounds: int, restarts: bool
) -> None:
    before = dict(site.truth.modes)
    count = iter(range(2))

    def refuse_from_now_on() -> None:
        if next(count) == fails_at:
            site.truth.refusal = "the key switch stands on local"
            site.truth.drops_writes = fails_at == 1

    site.truth.on_setpoint = refuse_from_now_on
    proposal = await site.propose(session, {PUMP: 7.5, DRAIN: 4.0})
    outcome = await write(site, session, proposal)
    assert outcome.status is WriteStatus.FAILED, outcome.reason
    rounds = Rounds(site, session)
    for _ in range(refused_rounds):
        taken = {pump for pump in PUMPS if site.truth.modes[pump] != before[pump]}
        assert {mv.split(".")[0] for mv in site.historian.held(site.plant)} >= taken
        rounds = Rounds(site, session) if restarts else rounds
        await rounds.one()
    site.truth.refusal, site.truth.drops_writes = None, False
    moved = site.truth.now
    await until(lambda: site.truth.now > moved + timedelta(seconds=40), "fresh samples")
    await rounds.one()
    assert not site.historian.hand_backs(site.plant, statuses=[HandBackStatus.OPEN])
    assert site.historian.held(site.plant) == {}


def test_a_new_yes_keeps_the_pump_at_the_horizons_end(runner: asyncio.Runner, site: Site) -> None:
    """Accepted in time, written in this very round: the pump does not pass through AUTO."""

    site.plant = replace(site.plant, horizon_steps=2)

    async def story(session: Session) -> None:
        await hold(site, session)
        late = session.clock.now() + 1.5 * longest_hold(site.plant)
        await until(lambda: site.truth.now > late, "the horizon's end")
        anew = await site.propose(session, {PUMP: 7.0}, expires_in_s=900)
        await Rounds(site, session).one()
        assert site.status(anew) is ProposalStatus.WRITTEN
        assert modes_written(site) == []
        assert told(site, "shed") == []

    tell(runner, site, story)


_ACTIONS = st.sampled_from(
    ["accept", "ask", "shadow", "advisory", "closed loop", "wait", "restart", "plant", "person"]
)
_HAS_ROUND = st.sampled_from([True, True, False])
_STEPS = st.lists(st.tuples(_ACTIONS, st.sampled_from(PUMPS), _HAS_ROUND), min_size=2, max_size=8)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=_STEPS)
@example(steps=[("ask", "pump", True), ("person", "pump", False), ("shadow", "pump", True)])
@example(steps=[("accept", "pump", False), ("ask", "pump", True)])
@example(steps=[("shadow", "drain", True), ("wait", "pump", True)])
@example(steps=[("ask", "pump", False), ("accept", "pump", True), ("restart", "pump", True)])
@example(steps=[("plant", "pump", True), ("shadow", "pump", False), ("person", "pump", True)])
def test_whatever_happens_we_let_go_of_ours_alone_and_take_nothing_twice(
    runner: asyncio.Runner, emulator: Emulator, steps: list[tuple[str, str, bool]]
) -> None:
    """Writes, requests, stages, time, restarts, the PLC and persons at it, in any order.

    Both pumps are ours at first. A mode is only ever written to AUTO, and only of a pump that a
    write of ours took and nobody has let go of since. A setpoint is written once, under a yes of
    its own, and never under one from before somebody asked for the pump back. What was asked is
    over after a round, and so is what no rule lets us hold.
    """
    with tempfile.TemporaryDirectory() as folder:
        site = new_site(emulator, Path(folder))
        # Readings stay fresh for long: this story is about who holds, and its clock jumps.
        tags = tuple(replace(tag, max_age_s=1e6) for tag in site.plant.tags)
        site.plant = replace(site.plant, horizon_steps=2, interlocks=(), tags=tags)
        tell(runner, site, lambda session: Life(site, session).lives(steps))
        site.historian.close()


class Life:
    """A plant whose story is random, and what must be true of each round of it."""

    def __init__(self, site: Site, session: Session) -> None:
        self.site, self.session = site, session
        self.rounds = Rounds(site, session)
        self.accepted = dict[str, str]()  # pump -> the proposal that may be written now
        self.ours = dict[str, datetime]()  # pump -> since when, as we see it from outside
        self.number = 0

    async def lives(self, steps: list[tuple[str, str, bool]]) -> None:
        for pump in PUMPS:
            await self.does("accept", pump)
        await self.round()
        reasons = [each.reason for each in self.site.historian.outcomes(self.site.plant)]
        assert set(self.ours) == set(PUMPS), reasons
        for action, pump, has_round in steps:
            await self.does(action, pump)
            if has_round:
                await self.round()
        await self.round()

    async def does(self, action: str, pump: str) -> None:
        site, session, mv = self.site, self.session, f"{pump}.setpoint"
        if action == "accept":
            self.number += 1
            value = 5 + 0.1 * self.number
            self.accepted[pump] = await site.propose(session, {mv: value})
        elif action == "ask":
            # By the record: whether it still reads REMOTE only the next round can see.
            if ask(site, session, mv) is None:
                self.accepted.pop(pump, None)
        elif action in ("shadow", "advisory", "closed loop"):
            now = session.clock.now()
            site.historian.set_stage(site.plant, mv, Stage(action), "Ada", "a test", now)
        elif action == "wait":
            session.clock.trust(session.clock.now() + 1.5 * longest_hold(site.plant))
        elif action == "restart":
            self.rounds = Rounds(site, session)
        else:
            mode = _AUTO if action == "plant" else _REMOTE
            site.truth.modes[pump] = mode
            await shown(site, session, pump, mode)

    async def round(self) -> None:
        site = self.site
        for pump in PUMPS:
            if site.truth.modes[pump] == _AUTO:
                self.ours.pop(pump, None)
        has_to_go = {pump for pump, since in self.ours.items() if self.must_go(pump, since)}
        site.truth.writes.clear()
        await self.rounds.one()
        while self.waits():  # a clearance lapsed on a busy machine before it was used: asked again
            await self.rounds.one()
        sent, shed = set[str](), set[str]()
        for name, value in site.truth.writes:
            pump, kind = name.split(".")
            if kind == "mode":
                assert value == _AUTO
                assert pump in self.ours, f"{pump} is not ours"
                shed.add(pump)
            else:
                assert pump in self.accepted, f"{pump} without a yes of its own"
                assert pump not in sent, f"{pump} written twice"
                sent.add(pump)
        assert has_to_go <= shed | sent, "held too long"
        for pump in shed:
            self.ours.pop(pump)
        for pump in sent:
            assert site.status(self.accepted[pump]) is ProposalStatus.WRITTEN
            self.ours[pump] = site.historian.held(site.plant)[f"{pump}.setpoint"].written_at
        self.accepted.clear()
        assert not site.historian.hand_backs(site.plant, statuses=[HandBackStatus.OPEN])

    def waits(self) -> bool:
        """Whether an accepted proposal is neither written nor refused so far."""
        return any(
            self.site.status(each) is ProposalStatus.ACCEPTED for each in self.accepted.values()
        )

    def must_go(self, pump: str, since: datetime) -> bool:
        """Whether a rule, or a request, wants it back."""
        site, mv = self.site, f"{pump}.setpoint"
        asked = site.historian.hand_backs(site.plant, statuses=[HandBackStatus.OPEN])
        stage = site.historian.stage(site.plant)[mv]
        is_late = self.session.clock.now() - since > longest_hold(site.plant)
        is_late &= pump not in self.accepted  # then it is written, and held anew
        is_asked = mv in {each.mv for each in asked}
        return is_asked or stage is Stage.SHADOW or is_late
