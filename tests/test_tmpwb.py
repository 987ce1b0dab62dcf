"""A setpoint reaches the plant only through the gate, once, and is believed only when read back."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from one_tank import PUMPS, Tank, live_tank, until

from connectors.emulator import Emulator
from connectors.opcua import Session
from connectors.stop import StopLatch
from connectors.writeback import Writer, write_accepted
from connectors.writer import run_writer, shed
from twin.clock import wall_now
from twin.errors import DatabaseUnavailable, EndpointUnavailable
from twin.historian import Historian
from twin.plant import Plant
from twin.records import (
    Decision,
    Plan,
    PlanStatus,
    Proposal,
    ProposalStatus,
    Verdict,
    WriteOutcome,
    WriteStatus,
)

SPEED = 30.0
_numbers = count(1)


@dataclass
class Site:
    """An emulated plant, its historian and a writer for it."""

    emulator: Emulator
    historian: Historian
    is_stopped: Callable[[], bool | None] = lambda: False
    plant: Plant = field(init=False)
    truth: Tank = field(init=False)

    def __post_init__(self) -> None:
        self.plant = self.emulator.plant
        assert isinstance(self.emulator.truth, Tank)
        self.truth = self.emulator.truth

    @property
    def writer(self) -> Writer:
        return Writer(self.plant, self.historian, self.is_stopped, read_back_wall_s=0.5)

    async def propose(
        self,
        session: Session,
        setpoints: dict[str, float],
        by: str = "Ada",
        expires_in_s: float = 300,
        is_accepted: bool = True,
    ) -> str:
        """A proposal as the planner would store it, decided; fresh readings and trust beside it."""
        self.historian.store((await session.read()).values(), self.plant)
        trust = json.dumps({"coverage90": 0.9, "coverage_count": 60})
        self.historian.beat(self.plant, "plan", wall_now(), os.getpid(), trust)
        now = session.clock.now()
        new = _proposal(self.plant, setpoints, now, now + timedelta(seconds=expires_in_s))
        self.historian.store_proposal(new)
        self.historian.decide(Decision(new.proposal_id, is_accepted, by, "looks right", now))
        return new.proposal_id

    def status(self, proposal_id: str) -> ProposalStatus:
        found = self.historian.proposal(proposal_id)
        assert found is not None
        return found.status


def _proposal(
    plant: Plant, setpoints: dict[str, float], now: datetime, expires_at: datetime
) -> Proposal:
    moves = {mv: np.array([value]) for mv, value in setpoints.items()}
    return Proposal(
        proposal_id=f"p{next(_numbers)}",
        plant=plant.plant,
        created_at=now,
        expires_at=expires_at,
        open_until_wall=wall_now() + timedelta(minutes=5),
        current=dict.fromkeys(setpoints, 5.0),
        setpoints=setpoints,
        plan=Plan(PlanStatus.SOLVED, "", now, plant.step_s, moves),
        forecast=None,
        verdict=Verdict(True, (), now, setpoints),
        status=ProposalStatus.OPEN,
        reason="a test",
        benefit_per_h=1.0,
        binding=(),
        model="physics",
    )


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as one:
        yield one


@pytest.fixture(scope="module")
def emulator(runner: asyncio.Runner) -> Iterator[Emulator]:
    """One server for all stories of this file: starting one takes seconds."""
    living = live_tank(SPEED)
    yield runner.run(living.__aenter__())
    runner.run(living.__aexit__(None, None, None))


@pytest.fixture
def site(emulator: Emulator, tmp_path: Path) -> Site:
    return new_site(emulator, tmp_path)


def new_site(emulator: Emulator, folder: Path) -> Site:
    historian = Historian.create(folder / "plant.db")
    historian.register(emulator.plant)
    site = Site(emulator, historian)
    truth = site.truth
    truth.setpoints, truth.modes = dict.fromkeys(PUMPS, 5.0), dict.fromkeys(PUMPS, 0)
    truth.is_stopped = truth.drops_writes = truth.is_frozen = False
    truth.refusal, truth.on_setpoint = None, lambda: None
    truth.writes.clear()
    return site


def tell(runner: asyncio.Runner, site: Site, story: Callable[[Session], Awaitable[None]]) -> None:
    """Run a story over a session that begins after the plant has shown its present state."""

    async def whole() -> None:
        shown = site.truth.now
        await until(lambda: site.truth.now > shown + timedelta(seconds=20), "fresh samples")
        async with Session(site.plant) as session:
            await session.write_node("plc.stop", 0)
            site.truth.writes.clear()
            await story(session)

    runner.run(whole())


def test_an_accepted_proposal_moves_the_plant_and_is_read_back(
    runner: asyncio.Runner, site: Site
) -> None:
    """Both pumps go to REMOTE with the new setpoints; outcome, status and audit say so."""

    async def story(session: Session) -> None:
        setpoints = {"pump.setpoint": 7.5, "drain.setpoint": 4.0}
        proposal = await site.propose(session, setpoints)
        (outcome,) = await write_accepted(site.writer, session)
        assert (outcome.status, outcome.read_back) == (WriteStatus.VERIFIED, setpoints)
        assert site.truth.setpoints == {"pump": 7.5, "drain": 4.0}
        assert site.truth.modes == {"pump": 1, "drain": 1}
        assert site.status(proposal) is ProposalStatus.WRITTEN
        told = [event.kind for event in reversed(site.historian.events(site.plant))]
        assert told == [
            "proposal",
            "decision",
            "clearance",
            "clearance",
            "write",
            "write",
            "proposal",
        ]
        assert await write_accepted(site.writer, session) == []
        assert len(site.truth.setpoints_written) == 2

    tell(runner, site, story)


def test_a_refusal_of_the_plc_is_a_failed_write_and_not_tried_again(
    runner: asyncio.Runner, site: Site
) -> None:
    """The status text of the PLC reaches the audit; one write was sent, no more."""

    async def story(session: Session) -> None:
        site.truth.refusal = "the key switch stands on local"
        proposal = await site.propose(session, {"pump.setpoint": 7.5})
        (outcome,) = await write_accepted(site.writer, session)
        assert outcome.status is WriteStatus.FAILED
        assert "BadNotWritable" in outcome.reason
        assert outcome.read_back == {"pump.setpoint": 5.0}
        assert site.status(proposal) is ProposalStatus.FAILED
        assert await write_accepted(site.writer, session) == []
        assert site.truth.setpoints_written == [("pump.setpoint", 7.5)]

    tell(runner, site, story)


def test_an_acknowledged_write_that_the_plc_drops_has_failed(
    runner: asyncio.Runner, site: Site
) -> None:
    """Good is not enough: the value must stand there, in REMOTE, in a newer reading."""

    async def story(session: Session) -> None:
        site.truth.drops_writes = True
        await site.propose(session, {"pump.setpoint": 7.5})
        (outcome,) = await write_accepted(site.writer, session)
        assert outcome.status is WriteStatus.FAILED
        assert "pump.setpoint reads back as 5, not 7.5" in outcome.reason
        assert "pump.mode reads back as 0, not 1" in outcome.reason

    tell(runner, site, story)


def test_the_gate_refuses_on_readings_that_have_grown_stale(
    runner: asyncio.Runner, site: Site
) -> None:
    """Accepted on good readings, but the plant froze since: nothing is sent."""

    async def story(session: Session) -> None:
        proposal = await site.propose(session, {"pump.setpoint": 7.5})
        session.clock.trust(session.clock.now() + timedelta(seconds=150))
        (outcome,) = await write_accepted(site.writer, session)
        assert outcome.status is WriteStatus.REFUSED
        assert "old" in outcome.reason
        assert outcome.clearance_id is None
        assert site.status(proposal) is ProposalStatus.REFUSED
        assert site.truth.setpoints_written == []

    tell(runner, site, story)


def test_without_told_trust_nothing_is_written(runner: asyncio.Runner, site: Site) -> None:
    """A planner that no longer says how good its model is leaves the gate with a no."""

    async def story(session: Session) -> None:
        await site.propose(session, {"pump.setpoint": 7.5})
        long_ago = wall_now() - timedelta(minutes=10)
        site.historian.beat(site.plant, "plan", long_ago, os.getpid(), "{}")
        (outcome,) = await write_accepted(site.writer, session)
        assert outcome.status is WriteStatus.REFUSED
        assert "forecast" in outcome.reason
        assert site.truth.setpoints_written == []

    tell(runner, site, story)


@pytest.mark.parametrize(
    ("latch", "reason"),
    [(True, "The stop latch is set"), (None, "The stop latch cannot be read")],
)
def test_a_stop_before_the_round_sends_nothing(
    runner: asyncio.Runner, site: Site, latch: bool | None, reason: str
) -> None:
    """Set, or unreadable: both mean stopped."""
    site.is_stopped = lambda: latch

    async def story(session: Session) -> None:
        await site.propose(session, {"pump.setpoint": 7.5})
        (outcome,) = await write_accepted(site.writer, session)
        assert outcome.status is WriteStatus.REFUSED
        assert reason in outcome.reason
        assert site.truth.setpoints_written == []

    tell(runner, site, story)


def test_a_stop_between_two_writes_keeps_the_second_back(
    runner: asyncio.Runner, site: Site
) -> None:
    """The latch is asked before every single write, not once per round."""
    site.is_stopped = lambda: bool(site.truth.setpoints_written)

    async def story(session: Session) -> None:
        await site.propose(session, {"pump.setpoint": 7.5, "drain.setpoint": 4.0})
        (outcome,) = await write_accepted(site.writer, session)
        assert len(site.truth.setpoints_written) == 1
        assert outcome.status is WriteStatus.FAILED
        assert "The stop latch is set: pump.setpoint was not written" in outcome.reason
        assert "before it: drain.setpoint" in outcome.reason

    tell(runner, site, story)


def test_the_plants_own_stop_is_a_stop(runner: asyncio.Runner, site: Site) -> None:
    """Set at the panel, without our latch: nothing is sent, and the reason names the node."""

    async def story(session: Session) -> None:
        await site.propose(session, {"pump.setpoint": 7.5})
        await session.write_node("plc.stop", 1)
        (outcome,) = await write_accepted(site.writer, session)
        assert outcome.status is WriteStatus.REFUSED
        assert "stop node plc.stop is set" in outcome.reason
        assert site.truth.setpoints_written == []

    tell(runner, site, story)


@pytest.mark.parametrize("drops", [False, True], ids=["it arrived", "it did not"])
def test_a_write_whose_answer_is_lost_is_read_again_never_sent_again(
    runner: asyncio.Runner, site: Site, drops: bool
) -> None:
    """The link breaks as the PLC takes the write; the next round settles it by reading."""
    site.truth.drops_writes = drops

    def cut() -> None:
        for transport in list(site.emulator.server.iserver.asyncio_transports):
            transport.abort()

    async def story(session: Session) -> None:
        proposal = await site.propose(session, {"pump.setpoint": 7.5})
        site.truth.on_setpoint = cut
        with pytest.raises(EndpointUnavailable):
            await write_accepted(site.writer, session)
        assert site.status(proposal) is ProposalStatus.ACCEPTED
        newest = site.historian.outcomes(site.plant, limit=1)[0]
        assert newest.status is WriteStatus.UNKNOWN
        site.truth.on_setpoint = lambda: None
        async with Session(site.plant) as again:
            (outcome,) = await write_accepted(site.writer, again)
        expected = WriteStatus.FAILED if drops else WriteStatus.VERIFIED
        assert outcome.status is expected
        stands = ProposalStatus.FAILED if drops else ProposalStatus.WRITTEN
        assert site.status(proposal) is stands
        assert site.truth.setpoints_written == [("pump.setpoint", 7.5)]

    tell(runner, site, story)


def test_a_writer_that_dies_after_the_outcome_does_not_write_again(
    runner: asyncio.Runner, site: Site
) -> None:
    """The database goes away before the proposal moves on; the next round only moves it on."""

    async def story(session: Session) -> None:
        proposal = await site.propose(session, {"pump.setpoint": 7.5})
        broken = Historian.open(site.historian.path)

        def away(*_: object) -> bool:
            raise DatabaseUnavailable("the disk is gone")

        broken.set_status = away  # type: ignore[method-assign]
        with pytest.raises(DatabaseUnavailable):
            await write_accepted(replace(site.writer, historian=broken), session)
        assert site.status(proposal) is ProposalStatus.ACCEPTED
        assert await write_accepted(site.writer, session) == []
        assert site.status(proposal) is ProposalStatus.WRITTEN
        assert site.truth.setpoints_written == [("pump.setpoint", 7.5)]

    tell(runner, site, story)


def test_late_and_older_proposals_are_let_go(runner: asyncio.Runner, site: Site) -> None:
    """An expired one expires, an older one for the same pump is superseded; one is written."""

    async def story(session: Session) -> None:
        older = await site.propose(session, {"pump.setpoint": 6.0})
        late = await site.propose(session, {"drain.setpoint": 6.0}, expires_in_s=0)
        newer = await site.propose(session, {"pump.setpoint": 7.0})
        outcomes = await write_accepted(site.writer, session)
        assert [outcome.proposal_id for outcome in outcomes] == [newer]
        assert site.status(older) is ProposalStatus.SUPERSEDED
        assert site.status(late) is ProposalStatus.EXPIRED
        assert site.truth.setpoints_written == [("pump.setpoint", 7.0)]

    tell(runner, site, story)


def test_closed_loop_never_reaches_beyond_this_machine(runner: asyncio.Runner, site: Site) -> None:
    """A plant file that names another host: what the stage accepted is not written there."""

    async def story(session: Session) -> None:
        await site.propose(session, {"pump.setpoint": 7.5}, by="closed loop")
        assert site.plant.opcua is not None
        remote = replace(site.plant.opcua, endpoint="opc.tcp://192.0.2.7:4840/plant")
        writer = replace(site.writer, plant=replace(site.plant, opcua=remote))
        (outcome,) = await write_accepted(writer, session)
        assert outcome.status is WriteStatus.REFUSED
        assert site.truth.setpoints_written == []

    tell(runner, site, story)


def test_shedding_gives_the_pumps_back_even_when_stopped(
    runner: asyncio.Runner, site: Site
) -> None:
    """Letting go needs no permission; what stands in AUTO afterwards is read back and told."""

    async def story(session: Session) -> None:
        await site.propose(session, {"pump.setpoint": 7.5})
        await write_accepted(site.writer, session)
        assert site.truth.modes["pump"] == 1
        site.is_stopped = lambda: True
        assert await shed(site.writer, session, ["pump.setpoint"], "the planner fell silent") == []
        assert site.truth.modes["pump"] == 0
        (event,) = site.historian.events(site.plant, kind="shed")
        assert event.message == "the planner fell silent: in AUTO"

    tell(runner, site, story)


def test_the_writing_process_beats_stops_and_writes(
    runner: asyncio.Runner, site: Site, tmp_path: Path
) -> None:
    """Heartbeats go out, a set latch shows on the PLC's stop node, a release clears it again."""
    latch = StopLatch(tmp_path / "stop")
    site.is_stopped = latch.is_stopped

    async def story(session: Session) -> None:
        stop, outcomes = asyncio.Event(), list[WriteOutcome]()
        task = asyncio.create_task(
            run_writer(site.writer, stop=stop, poll_s=0.02, on_outcome=outcomes.append)
        )
        beats = lambda: [v for n, v in site.truth.writes if n == "plc.heartbeat"]  # noqa: E731
        await until(lambda: len(beats()) == 1, "the first heartbeat")
        await site.propose(session, {"pump.setpoint": 7.5})
        await until(lambda: bool(outcomes), "the write")
        assert outcomes[0].status is WriteStatus.VERIFIED
        latch.set("Ada", "smoke")
        await until(lambda: site.truth.is_stopped, "the stop at the PLC")
        assert site.truth.modes["pump"] == 0
        latch.release()
        await until(lambda: not site.truth.is_stopped, "the release at the PLC")
        await until(lambda: len(set(beats())) > 1, "another heartbeat with another number")
        stop.set()
        await asyncio.wait_for(task, 10)
        names = [process.name for process in site.historian.processes(site.plant)]
        assert "write" in names

    tell(runner, site, story)


def test_the_latch_is_set_by_anybody_once_and_unreadable_means_stopped(tmp_path: Path) -> None:
    """Its file decides; a folder that is not there proves nothing."""
    latch = StopLatch(tmp_path / "folder" / "stop")
    assert latch.is_stopped(), "no folder: nothing is known"
    latch.set("Ada", "smoke")
    latch.set("Bob", "also smoke")
    assert json.loads(latch.path.read_text())["by"] == "Ada"
    assert latch.is_stopped()
    assert latch.release()
    assert not latch.release()
    assert not latch.is_stopped()
    (tmp_path / "file").touch()
    assert StopLatch(tmp_path / "file" / "stop").is_stopped()


MVS = st.sampled_from(["pump.setpoint", "drain.setpoint"])
NAMES = MVS | st.just("tank.level")
REACHABLE = st.floats(0.0, 10.5)  # from 5 at 6 per minute
ANYTHING = st.floats(-5, 25) | st.sampled_from([float("nan"), float("inf"), 0.0, 18.0])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    setpoints=st.dictionaries(MVS, REACHABLE, min_size=1)
    | st.dictionaries(NAMES, ANYTHING, min_size=1),
    trouble=st.sampled_from(
        ["none"] * 5 + ["stopped", "latch unreadable", "rejected", "expired", "stale"]
    ),
)
def test_no_setpoint_is_ever_written_without_a_used_clearance(
    runner: asyncio.Runner,
    emulator: Emulator,
    setpoints: dict[str, float],
    trouble: str,
) -> None:
    """Whatever is proposed and whatever stands against it: each write has its own permission."""
    with tempfile.TemporaryDirectory() as folder:
        site = new_site(emulator, Path(folder))
        site.is_stopped = lambda: {"stopped": True, "latch unreadable": None}.get(trouble, False)

        async def story(session: Session) -> None:
            await site.propose(
                session,
                setpoints,
                expires_in_s=0 if trouble == "expired" else 300,
                is_accepted=trouble != "rejected",
            )
            if trouble == "stale":
                session.clock.trust(session.clock.now() + timedelta(seconds=150))
            await write_accepted(site.writer, session)
            told = [each.message for each in site.historian.events(site.plant, kind="clearance")]
            used = sum(message.endswith("used") for message in told)
            written = site.truth.setpoints_written
            print("WROTE" if written else "none", setpoints, trouble, file=open("/tmp/wrote","a"))
            assert not written or (trouble == "none" and used == 1)
            assert dict(written).items() <= setpoints.items()
            assert len(written) <= len(setpoints)
            assert all(0 <= value <= 18 for _, value in written)

        tell(runner, site, story)
        site.historian.close()
