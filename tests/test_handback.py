"""What we took we give back: when asked, and when nobody renews it."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from held_pumps import (
    AUTO,
    PUMP,
    REMOTE,
    Rounds,
    ask,
    hold,
    modes_written,
    newest,
    shown,
)
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from one_tank import PUMPS, until
from written_plant import Site, new_site, tell, told

from connectors.emulator import Emulator
from connectors.opcua import Session
from twin.clock import wall_now
from twin.context import JUDGED
from twin.historian import HandBackStatus, longest_hold
from twin.records import ProposalStatus, Stage

SPEED = 100.0  # a clearance holds for 0.6 s by the wall, however busy the machine is
_NOTHING_NEWER = "nothing newer was accepted for 60 min: in AUTO"


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
        assert site.truth.modes == {"pump": AUTO, "drain": AUTO}
        assert (newest(site).by, newest(site).status) == ("Bob", HandBackStatus.DONE)
        assert newest(site).result == "in AUTO"
        assert told(site, "give back")[0] == "asked: it rattles"
        assert told(site, "shed") == ["it rattles: in AUTO"]
        site.truth.modes["pump"] = REMOTE  # by a person, since
        await shown(site, session, "pump", REMOTE)
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
        assert site.truth.modes["pump"] == AUTO

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
        assert site.truth.modes["pump"] == AUTO
        anew = await site.propose(session, {PUMP: 6.5})
        await rounds.one()
        assert site.status(anew) is ProposalStatus.WRITTEN
        assert site.truth.modes["pump"] == REMOTE

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
        assert site.truth.modes["pump"] == REMOTE
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
        assert site.truth.modes["pump"] == REMOTE, "inside the horizon nothing happens"
        site.historian.set_stage(site.plant, PUMP, stage, "Ada", "a test", session.clock.now())
        limit = longest_hold(site.plant)
        if stage is not Stage.SHADOW:
            session.clock.trust(session.clock.now() + limit)
        if judged != "never":
            far = {"now": 0.0, "long ago": -1.1, "far ahead": 1.1}[judged] * limit
            beat = json.dumps({JUDGED: {PUMP: (session.clock.now() + far).isoformat()}})
            site.historian.beat(site.plant, "plan", wall_now(), os.getpid(), beat)
        await rounds.one()
        assert (site.truth.modes["pump"] == AUTO) == bool(says)
        assert told(site, "shed") == ([says] if says else [])

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
        assert site.truth.modes["pump"] == REMOTE
        ended = [text for text in told(site, "give back") if text.startswith("void")]
        assert len(ended) == 1
        assert "cannot be read" in ended[0]
        assert len(told(site, "unreadable")) == 1
        anew = await site.propose(session, {PUMP: 7.55})
        await rounds.one()
        assert site.status(anew) is ProposalStatus.WRITTEN
        assert ask(site, session) is None
        await rounds.one()
        assert site.truth.modes["pump"] == AUTO

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
            mode = AUTO if action == "plant" else REMOTE
            site.truth.modes[pump] = mode
            await shown(site, session, pump, mode)

    async def round(self) -> None:
        site = self.site
        for pump in PUMPS:
            if site.truth.modes[pump] == AUTO:
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
                assert value == AUTO
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
