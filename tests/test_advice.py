"""Advice at the plant: whole or not at all, only while it is good, and nothing but advice."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from one_tank import NAMESPACE, live_tank, until
from written_plant import Site, new_site, tell, told, writing

from connectors.advice import Advice, advice_number
from connectors.emulator import Emulator
from connectors.opcua import Session
from connectors.stop import StopLatch
from connectors.writeback import write_accepted
from twin.plant import Advisory
from twin.records import Decision, ProposalStatus

PUMP, DRAIN = "pump.setpoint", "drain.setpoint"
ID, UNTIL, BEAT = "advice.id", "advice.until", "advice.heartbeat"
NODES = Advisory(ID, {PUMP: "advice.pump", DRAIN: "advice.drain"}, UNTIL, BEAT)
SPEED = 100.0


class Panel:
    """What the plant's operator sees: the advisory nodes, with every change of them."""

    def __init__(self) -> None:
        self.written: list[tuple[str, float]] = []
        self.shown = dict.fromkeys(NODES.nodes, 0.0)
        self.faults: list[str] = []

    def take(self, node: str, value: float) -> None:
        self.written.append((node, value))
        if node not in (ID, BEAT) and self.shown[ID] != 0 and self.shown[node] != value:
            self.faults.append(f"{node} changed beside the id {self.shown[ID]}")
        self.shown[node] = value

    def advice(self) -> dict[str, float] | None:
        """MV -> advised value, None where none is shown."""
        if self.shown[ID] == 0:
            return None
        return {mv: self.shown[node] for mv, node in NODES.value_nodes.items()}

    def begin(self) -> None:
        self.written.clear()
        self.faults.clear()


@pytest.fixture(scope="module")
def emulator(runner: asyncio.Runner) -> Iterator[Emulator]:
    living = live_tank(SPEED, sample_s=2.0, advisory=NODES)
    yield runner.run(living.__aenter__())
    runner.run(living.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def panel(emulator: Emulator) -> Panel:
    seen = Panel()
    service = emulator.server.iserver.attribute_service
    inner = service.write

    async def write(params: Any, user: Any) -> list[Any]:
        results: list[Any] = await inner(params, user)
        for item, result in zip(params.NodesToWrite, results, strict=True):
            name = item.NodeId.Identifier
            if result.is_good() and name in NODES.nodes:
                seen.take(name, float(item.Value.Value.Value))
        return results

    service.write = write
    return seen


@pytest.fixture
def site(emulator: Emulator, panel: Panel, tmp_path: Path) -> Site:
    panel.begin()
    return new_site(emulator, tmp_path)


def decide(site: Site, session: Session, proposal: str, is_accepted: bool) -> None:
    now = session.clock.now()
    site.historian.decide(Decision(proposal, is_accepted, "Ada", "looks right", now))


def test_an_open_proposal_is_shown_whole_and_nothing_else_is_written(
    runner: asyncio.Runner, site: Site, panel: Panel
) -> None:
    """Values and time, then the id; the pump that rests shows where it stands. No pump moves."""

    async def story(session: Session) -> None:
        panel.begin()
        proposal = await site.propose(session, {PUMP: 7.5}, is_accepted=None)
        advice = Advice(site.writer)
        for _ in range(3):
            await advice.round(session)
            assert await write_accepted(site.writer, session) == []
        found = site.historian.proposal(proposal)
        assert found is not None
        number = advice_number(proposal)
        assert [node for node, _ in panel.written] == [ID, "advice.pump", "advice.drain", UNTIL, ID]
        assert panel.advice() == {PUMP: 7.5, DRAIN: 5.0}
        assert panel.shown[ID] == number
        assert 0 <= found.expires_at.timestamp() - panel.shown[UNTIL] < 1
        assert site.truth.writes == []
        (text,) = told(site, "advice")
        assert text.startswith(f"shown at the plant as no. {number} until ")
        await advice.withdraw(session, "a test ended")

    tell(runner, site, story)


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("accepted", "it is accepted"),
        ("rejected", "it is rejected"),
        ("expired", "expired"),
        ("stopped", "The stop latch is set"),
        ("stopped at the plant", "The plant's stop node plc.stop is set"),
        ("stale", "the gate would not let it through now"),
        ("superseded", "a newer proposal follows"),
    ],
)
def test_advice_ends_with_what_made_it_good(
    runner: asyncio.Runner, site: Site, panel: Panel, end: str, reason: str
) -> None:
    """Decided, too late, stopped, readings gone stale, overtaken: the id goes, and says why."""

    async def story(session: Session) -> None:
        stopped = [False]
        site.is_stopped = lambda: stopped[0]
        proposal = await site.propose(session, {PUMP: 7.5}, is_accepted=None)
        advice = Advice(site.writer)
        await advice.round(session)
        assert panel.shown[ID] == advice_number(proposal)
        newer = ""
        if end in ("accepted", "rejected"):
            decide(site, session, proposal, end == "accepted")
        elif end == "expired":
            found = site.historian.proposal(proposal)
            assert found is not None
            session.clock.trust(found.expires_at)
        elif end == "stopped":
            stopped[0] = True
        elif end == "stopped at the plant":
            await session.write("plc.stop", 1)
        elif end == "stale":
            for pump in ("pump", "drain"):
                site.truth.modes[pump] = 3  # somebody's own mode at the plant
            moved = site.truth.now
            await until(lambda: (site.truth.now - moved).total_seconds() > 20, "fresh samples")
        else:
            now = session.clock.now()
            gone = ProposalStatus.SUPERSEDED
            site.historian.set_status(proposal, gone, "the gate refuses it", now)
            newer = await site.propose(session, {PUMP: 6.5}, is_accepted=None)
        await advice.round(session)
        assert panel.shown[ID] == (advice_number(newer) if newer else 0)
        assert panel.faults == []
        assert any(text.startswith(f"withdrawn: {reason}") for text in told(site, "advice"))
        assert site.truth.setpoints_written == []
        await advice.withdraw(session, "a test ended")

    tell(runner, site, story)


def test_a_plc_that_takes_no_advice_is_told_of_and_bars_nothing_else(
    runner: asyncio.Runner, site: Site, panel: Panel
) -> None:
    """A value node is read only: no id is shown, the beat tells why, accepted moves are written."""

    async def story(session: Session) -> None:
        server = site.emulator.server
        index = await server.get_namespace_index(NAMESPACE)
        node = server.get_node(ua.NodeId("advice.drain", index))
        both = ua.AccessLevel.CurrentRead.mask | ua.AccessLevel.CurrentWrite.mask
        await _allow(node, ua.AccessLevel.CurrentRead.mask)
        try:
            async with writing(site):
                await site.propose(session, {PUMP: 7.5}, is_accepted=None)
                await until(lambda: "advice.drain" in beat_of(site).get("plc", ""), "the reason")
                moved = await site.propose(session, {DRAIN: 4.5})
                await until(lambda: site.status(moved) is ProposalStatus.WRITTEN, "the write")
                assert panel.advice() is None
        finally:
            await _allow(node, both)

    tell(runner, site, story)


def test_an_id_that_will_not_go_holds_up_one_round_alone(
    runner: asyncio.Runner, site: Site, panel: Panel
) -> None:
    """The PLC says yes to "no advice" and keeps its id: told, and tried again without waiting."""
    service = site.emulator.server.iserver.attribute_service
    inner, site.read_back_wall_s = service.write, 1.5
    asked: list[float] = []

    async def write(params: Any, user: Any) -> list[Any]:
        (item,) = params.NodesToWrite
        if item.NodeId.Identifier != ID:
            return list(await inner(params, user))
        asked.append(float(item.Value.Value.Value))
        return [ua.StatusCode()]

    async def story(session: Session) -> None:
        await session.write(ID, 7)
        service.write = write
        try:
            advice = Advice(site.writer)
            async with asyncio.timeout(6):
                for _ in range(6):
                    await advice.round(session)
                    assert "advice.id shows 7.0, not 0" in advice.trouble
        finally:
            service.write = inner
        assert asked == [0.0] * 6
        await advice.round(session)
        assert advice.trouble == ""
        assert panel.advice() is None

    tell(runner, site, story)


async def _allow(node: Any, access: int) -> None:
    level = ua.DataValue(ua.Variant(access, ua.VariantType.Byte))
    await node.write_attribute(ua.AttributeIds.UserAccessLevel, level)


def beat_of(site: Site) -> dict[str, str]:
    beats = [each for each in site.historian.processes(site.plant) if each.name == "write"]
    detail = json.loads(beats[0].detail) if beats else {}
    assert isinstance(detail, dict)
    return detail


def test_the_writing_process_shows_beats_and_withdraws_at_its_end(
    runner: asyncio.Runner, site: Site, panel: Panel, tmp_path: Path
) -> None:
    """Its heartbeat is the advice's too; a stop takes the advice away, and so does its end."""
    latch = StopLatch(tmp_path / "stop")
    site.is_stopped = latch.is_stopped

    async def story(session: Session) -> None:
        panel.begin()
        async with writing(site):
            first = await site.propose(session, {PUMP: 7.5}, is_accepted=None)
            await until(lambda: panel.shown[ID] == advice_number(first), "the advice")
            beats = {value for node, value in panel.written if node == BEAT}
            await until(lambda: panel.shown[BEAT] not in beats, "another heartbeat")
            latch.set("Ada", "smoke")
            await until(lambda: panel.shown[ID] == 0, "the end of the advice")
            latch.release()
            decide(site, session, first, is_accepted=False)
            second = await site.propose(session, {PUMP: 6.5}, is_accepted=None)
            await until(lambda: panel.shown[ID] == advice_number(second), "the next advice")
        assert panel.shown[ID] == 0
        assert panel.faults == []
        assert site.truth.setpoints_written == []

    tell(runner, site, story)


@given(st.text(min_size=1))
def test_every_advice_has_a_number_that_any_node_holds(proposal: str) -> None:
    """From 1 to what a signed 32-bit node holds; 0 is no advice."""
    assert 1 <= advice_number(proposal) < 2**31


_STEPS = st.lists(
    st.sampled_from(
        ["propose", "propose", "accept", "reject", "expire", "stop", "release", "restart", "local"]
    ),
    min_size=2,
    max_size=7,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=_STEPS)
def test_whatever_happens_the_panel_shows_a_whole_open_proposal_or_none(
    runner: asyncio.Runner, emulator: Emulator, panel: Panel, steps: list[str]
) -> None:
    """After every round; values never change beside an id, and no pump is written unaccepted."""
    with tempfile.TemporaryDirectory() as folder:
        site = new_site(emulator, Path(folder))
        site.truth.modes = dict.fromkeys(site.truth.modes, 0)
        panel.begin()
        tell(runner, site, lambda session: _lives(site, session, panel, steps))
        site.historian.close()


async def _lives(site: Site, session: Session, panel: Panel, steps: list[str]) -> None:
    stopped = [False]
    site.is_stopped = lambda: stopped[0]
    advice, newest = Advice(site.writer), ""
    for number, step in enumerate(steps):
        is_open = bool(newest) and site.status(newest) is ProposalStatus.OPEN
        if step == "propose" and not is_open:
            newest = await site.propose(session, {PUMP: 5 + 0.1 * number}, is_accepted=None)
        elif step in ("accept", "reject") and is_open:
            decide(site, session, newest, step == "accept")
        elif step == "expire" and is_open:
            now = session.clock.now()
            site.historian.set_status(newest, ProposalStatus.EXPIRED, "nobody decided", now)
        elif step in ("stop", "release"):
            stopped[0] = step == "stop"
        elif step == "restart":
            advice = Advice(site.writer)
        elif step == "local":
            site.truth.modes["pump"] = 3 - site.truth.modes["pump"]
        await advice.round(session)
        assert panel.faults == []
        shown = panel.advice()
        if shown is not None:
            found = site.historian.proposal(newest)
            assert found is not None
            assert found.status is ProposalStatus.OPEN
            assert not stopped[0]
            assert panel.shown[ID] == advice_number(newest)
            assert shown == {PUMP: found.setpoints[PUMP], DRAIN: 5.0}
        assert site.truth.setpoints_written == []
    await advice.withdraw(session, "a test ended")
