"""What we took we give back: when asked, when nobody renews it, never what is not ours."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from asyncua import ua
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from one_tank import NAMESPACE, PUMPS, live_tank, until
from written_plant import Site, new_site, tell, writing

from connectors.emulator import Emulator
from connectors.handback import HandBacks
from connectors.opcua import Session
from connectors.safeguards import Safeguards
from connectors.stop import StopLatch
from connectors.writeback import settle_begun, write_accepted
from twin.errors import EndpointUnavailable
from twin.historian import HandBack, HandBackCause, HandBackStatus, longest_hold
from twin.records import ProposalStatus, Stage, WriteStatus

PUMP, DRAIN = "pump.setpoint", "drain.setpoint"
SPEED = 300.0
_AUTO, _REMOTE = 0, 1


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
    (outcome,) = await write_accepted(site.writer, session)
    assert outcome.status is WriteStatus.VERIFIED, outcome.reason
    return proposal


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
    ("stage", "goes", "says"),
    [
        (Stage.ADVISORY, True, "nothing newer was accepted for 60 min: in AUTO"),
        (Stage.CLOSED_LOOP, False, ""),
        (Stage.SHADOW, True, "its stage is shadow: computed only: in AUTO"),
    ],
)
def test_a_setpoint_holds_no_longer_than_anybody_judged_it(
    runner: asyncio.Runner, site: Site, stage: Stage, goes: bool, says: str
) -> None:
    """Advisory: for a plan's horizon. Closed loop: judged in every round. Shadow: not at all."""

    async def story(session: Session) -> None:
        await hold(site, session)
        rounds = Rounds(site, session)
        await rounds.one()
        assert site.truth.modes["pump"] == _REMOTE, "inside the horizon nothing happens"
        site.historian.set_stage(site.plant, PUMP, stage, "Ada", "a test", session.clock.now())
        if stage is not Stage.SHADOW:
            session.clock.trust(session.clock.now() + longest_hold(site.plant))
        await rounds.one()
        assert (site.truth.modes["pump"] == _AUTO) == goes
        assert told(site, "shed") == ([says] if goes else [])

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
        await site.propose(session, {PUMP: 7.5, DRAIN: 4.0})
        (outcome,) = await write_accepted(site.writer, session)
        assert outcome.status is WriteStatus.FAILED
        assert len(site.truth.setpoints_written) == 1
        assert site.truth.modes == {"pump": _AUTO, "drain": _AUTO}
        assert told(site, "shed")[0].endswith("failed: in AUTO")

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


def beat_of(site: Site) -> dict[str, object]:
    beats = [each for each in site.historian.processes(site.plant) if each.name == "write"]
    detail = json.loads(beats[0].detail) if beats else {}
    assert isinstance(detail, dict)
    return detail


def test_the_plants_own_stop_is_told_and_left_alone(
    runner: asyncio.Runner, site: Site, tmp_path: Path
) -> None:
    """In the beat while it lasts, once in the audit; our stop on top of it does not end it."""
    latch = StopLatch(tmp_path / "stop")
    site.is_stopped = latch.is_stopped

    async def story(session: Session) -> None:
        async with writing(site):
            await until(lambda: beat_of(site).get("plant_stop") is False, "no stop")
            await session.write("plc.stop", 1)
            await until(lambda: beat_of(site).get("plant_stop") is True, "the stop in the beat")
            latch.set("Ada", "smoke")
            beats = len(site.truth.writes)
            await until(lambda: site.truth.is_stopped, "stopped", 20)
            latch.release()
            proposal = await site.propose(session, {PUMP: 7.5})
            await until(lambda: site.status(proposal) is ProposalStatus.REFUSED, "a refusal")
            assert len(site.truth.setpoints_written) == 0
            assert ("plc.stop", 0.0) not in site.truth.writes[beats:]
            await session.write("plc.stop", 0)
            await until(lambda: beat_of(site).get("plant_stop") is False, "no stop any more")
        assert told(site, "plant stop") == [
            "set at the plant (plc.stop)",
            "cleared at the plant (plc.stop)",
        ]

    tell(runner, site, story)


def test_a_stop_of_the_plants_that_follows_ours_stays(
    runner: asyncio.Runner, site: Site, tmp_path: Path
) -> None:
    """Ours was cleared by another writer meanwhile: what stands now, this one did not set."""
    latch = StopLatch(tmp_path / "stop")
    site.is_stopped = latch.is_stopped

    async def story(session: Session) -> None:
        first = Safeguards(site.writer, lambda: True, 0.02)
        latch.set("Ada", "smoke")
        await first.begin(session)
        latch.release()
        await Safeguards(site.writer, lambda: True, 0.02).begin(session)
        assert not site.truth.is_stopped, "the second cleared it"
        await session.write("plc.stop", 1)
        await first.begin(session)
        assert site.truth.is_stopped
        assert await first.is_stopped_at_plant(session)

    tell(runner, site, story)


def test_a_stop_node_without_a_good_number_is_not_cleared(
    runner: asyncio.Runner, site: Site
) -> None:
    """The plant's own stop was set; what the node shows since then is unknown."""

    async def story(session: Session) -> None:
        seen = Safeguards(site.writer, lambda: True, 0.02)
        await session.write("plc.stop", 1)
        assert await seen.is_stopped_at_plant(session)
        server = site.emulator.server
        index = await server.get_namespace_index(NAMESPACE)
        node = server.get_node(ua.NodeId("plc.stop", index))
        await node.write_value(ua.DataValue(ua.Variant(True), ua.StatusCode(ua.StatusCodes.Bad)))
        assert await seen.is_stopped_at_plant(session)
        assert told(site, "plant stop") == ["set at the plant (plc.stop)"]
        await node.write_value(True)

    tell(runner, site, story)


def test_a_link_that_breaks_at_once_leaves_no_lease_behind(
    runner: asyncio.Runner, site: Site
) -> None:
    """Between two sessions nobody renews; else every try would leave one more who does."""

    def cut() -> bool:
        for transport in list(site.emulator.server.iserver.asyncio_transports):
            transport.abort()
        return True

    def renewing() -> list[str]:
        return [
            name for task in asyncio.all_tasks() if "Lease.keep" in (name := str(task.get_coro()))
        ]

    async def story(session: Session) -> None:
        site.is_stopped = cut
        async with writing(site):
            await until(lambda: "lost" in str(beat_of(site).get("link")), "the lost link")
            await until(lambda: not renewing(), "an end of renewing", 0.2)

    tell(runner, site, story)


def test_one_writer_at_a_time(runner: asyncio.Runner, site: Site) -> None:
    """A second one waits and says for whom; it takes over when the first has ended."""
    waits: list[str] = []

    async def story(session: Session) -> None:
        async with AsyncExitStack() as first:
            await first.enter_async_context(writing(site))
            await until(lambda: beat_of(site).get("link") == "live", "the first writer")
            async with writing(site, on_waiting=waits.append):
                await until(lambda: bool(waits), "the second to wait")
                proposal = await site.propose(session, {PUMP: 7.5})
                await until(lambda: site.status(proposal) is ProposalStatus.WRITTEN, "the write")
                await first.aclose()
                newer = await site.propose(session, {PUMP: 7.0})
                await until(lambda: site.status(newer) is ProposalStatus.WRITTEN, "the second")
        assert "process" in waits[0]
        assert [value for _, value in site.truth.setpoints_written] == [7.5, 7.0]

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
        site.plant = replace(site.plant, horizon_steps=2, interlocks=())
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
            later = session.clock.now() + 1.5 * longest_hold(site.plant)
            await until(lambda: site.truth.now > later, "time")
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

    def must_go(self, pump: str, since: datetime) -> bool:
        """Whether a rule, or a request, wants it back."""
        site, mv = self.site, f"{pump}.setpoint"
        asked = site.historian.hand_backs(site.plant, statuses=[HandBackStatus.OPEN])
        stage = site.historian.stage(site.plant)[mv]
        is_late = self.session.clock.now() - since > longest_hold(site.plant)
        is_late &= pump not in self.accepted  # then it is written, and held anew
        is_asked = mv in {each.mv for each in asked}
        return is_asked or stage is Stage.SHADOW or (stage is Stage.ADVISORY and is_late)
