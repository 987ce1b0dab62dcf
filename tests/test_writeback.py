"""A setpoint reaches the plant only through the gate, once, and is believed only when read back."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from one_tank import live_tank, until
from small_plant import PUMP, accept, at, outcome, proposal, small_plant
from written_plant import Site, heartbeats, new_site, tell, told, writing

from connectors.emulator import Emulator
from connectors.handback import shed
from connectors.opcua import Session
from connectors.stop import StopLatch
from connectors.writeback import write_accepted
from connectors.writer import run_writer
from twin.clock import wall_now
from twin.errors import DatabaseUnavailable, EndpointUnavailable
from twin.historian import Historian
from twin.records import (
    Clearance,
    ProposalStatus,
    WriteOutcome,
    WriteStatus,
)

SPEED = 30.0


def be_impatient(site: Site) -> None:
    """The PLC waits a minute for a heartbeat, half a second by the wall for each of four."""
    assert site.plant.opcua is not None
    source = replace(site.plant.opcua, heartbeat_timeout_s=60.0)
    site.plant = replace(site.plant, opcua=source)


def away(*_: object) -> bool:
    """What every question to a database that is gone comes to."""
    raise DatabaseUnavailable("the disk is gone")


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
        events = site.historian.events(site.plant, subject=proposal)
        told = [event.kind for event in reversed(events)]
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


@pytest.mark.parametrize("damage", ["setpoints = 'x'", "verdict = '0'", "forecast = x'ff'"])
def test_an_accepted_proposal_that_cannot_be_read_is_never_written(
    runner: asyncio.Runner, site: Site, damage: str
) -> None:
    """Damaged after the acceptance: nothing of it is sent, and the next one is written."""

    async def story(session: Session) -> None:
        await site.propose(session, {"pump.setpoint": 7.5})
        with closing(sqlite3.connect(site.historian.path)) as raw, raw:
            raw.execute("DROP TRIGGER proposal_only_status")
            raw.execute(f"UPDATE proposal SET {damage}")
        assert await write_accepted(site.writer, session) == []
        assert site.truth.setpoints_written == []
        await site.propose(session, {"drain.setpoint": 4.0})
        (outcome,) = await write_accepted(site.writer, session)
        assert outcome.status is WriteStatus.VERIFIED
        assert site.truth.setpoints_written == [("drain.setpoint", 4.0)]

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


TRUSTED = json.dumps({"coverage90": 0.9, "coverage_count": 60})


@pytest.mark.parametrize(
    ("age_s", "told", "expected"),
    [
        (5, TRUSTED, WriteStatus.VERIFIED),
        (600, TRUSTED, WriteStatus.REFUSED),  # too old to count
        (5, "{}", WriteStatus.REFUSED),  # of now, but without a word on forecasts
    ],
)
def test_without_told_trust_nothing_is_written(
    runner: asyncio.Runner, site: Site, age_s: float, told: str, expected: WriteStatus
) -> None:
    """A planner that no longer says how good its model is leaves the gate with a no."""

    async def story(session: Session) -> None:
        await site.propose(session, {"pump.setpoint": 7.5})
        said_at = wall_now() - timedelta(seconds=age_s)
        site.historian.beat(site.plant, "plan", said_at, os.getpid(), told)
        (outcome,) = await write_accepted(site.writer, session)
        assert outcome.status is expected
        is_refused = expected is WriteStatus.REFUSED
        assert ("forecast" in outcome.reason) is is_refused
        assert (site.truth.setpoints_written == []) is is_refused

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
        await session.write("plc.stop", 1)
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

        broken.set_status = away  # type: ignore[method-assign]  # as a disk would: in mid-round
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
    """Letting go needs no permission; what stands in AUTO afterwards is read back."""

    async def story(session: Session) -> None:
        await site.propose(session, {"pump.setpoint": 7.5})
        await write_accepted(site.writer, session)
        assert site.truth.modes["pump"] == 1
        site.is_stopped = lambda: True
        assert await shed(site.writer, session, ["pump.setpoint"]) == []
        assert site.truth.modes["pump"] == 0

    tell(runner, site, story)


def test_the_writing_process_beats_stops_and_writes(
    runner: asyncio.Runner, site: Site, tmp_path: Path
) -> None:
    """Heartbeats go out, a set latch shows on the PLC's stop node, a release clears it again."""
    latch = StopLatch(tmp_path / "stop")
    site.is_stopped = latch.is_stopped
    be_impatient(site)

    async def story(session: Session) -> None:
        stop, outcomes = asyncio.Event(), list[WriteOutcome]()
        task = asyncio.create_task(
            run_writer(site.writer, stop=stop, poll_s=0.02, on_outcome=outcomes.append)
        )
        await until(lambda: len(heartbeats(site)) == 1, "the first heartbeat")
        await site.propose(session, {"pump.setpoint": 7.5})
        await until(lambda: bool(outcomes), "the write")
        assert outcomes[0].status is WriteStatus.VERIFIED
        latch.set("Ada", "smoke")
        await until(lambda: site.truth.is_stopped, "the stop at the PLC")
        assert site.truth.modes["pump"] == 0
        latch.release()
        await until(lambda: not site.truth.is_stopped, "the release at the PLC")
        await until(lambda: len(set(heartbeats(site))) > 1, "another heartbeat with another number")
        stop.set()
        await asyncio.wait_for(task, 10)
        names = [process.name for process in site.historian.processes(site.plant)]
        assert "write" in names

    tell(runner, site, story)


@pytest.mark.parametrize("is_released", ["while it writes", "while nobody writes"])
def test_a_release_clears_the_plcs_stop_also_after_a_restart(
    runner: asyncio.Runner, site: Site, tmp_path: Path, is_released: str
) -> None:
    """The writer that showed the stop is gone; the next one makes the node agree."""
    latch = StopLatch(tmp_path / "stop")
    site.is_stopped = latch.is_stopped

    async def story(session: Session) -> None:
        async with writing(site):
            latch.set("Ada", "smoke")
            shown = ["shown to the PLC"]
            await until(lambda: told(site, "stop node") == shown, "the stop at the PLC")
        assert site.truth.is_stopped
        if is_released == "while nobody writes":
            latch.release()
        async with writing(site):
            if latch.is_stopped():
                await session.write("plc.stop", 0)  # as a PLC that starts anew
                await until(lambda: site.truth.is_stopped, "the stop, shown again")
                latch.release()
            both = ["shown to the PLC", "cleared at the PLC"]
            await until(lambda: told(site, "stop node") == both, "the release at the PLC")
        assert not site.truth.is_stopped

    tell(runner, site, story)


def test_a_stop_set_at_the_plant_is_never_cleared_by_us(runner: asyncio.Runner, site: Site) -> None:
    """A writer that starts or reconnects without a latch leaves a stop that is not its own."""
    be_impatient(site)

    async def story(session: Session) -> None:
        await session.write("plc.stop", 1)
        for _ in range(2):
            before = len(heartbeats(site))
            async with writing(site):
                await until(lambda n=before: len(heartbeats(site)) > n + 1, "two heartbeats", 20)
        assert site.truth.is_stopped
        assert ("plc.stop", 0.0) not in site.truth.writes

    tell(runner, site, story)


def test_a_stop_reaches_the_plc_while_a_round_waits(
    runner: asyncio.Runner, site: Site, tmp_path: Path
) -> None:
    """The PLC lets go at once, also while a write that never shows is being read back."""
    latch = StopLatch(tmp_path / "stop")
    site.is_stopped = latch.is_stopped
    site.truth.drops_writes = True
    site.read_back_wall_s = 60.0

    async def story(session: Session) -> None:
        task = asyncio.create_task(run_writer(site.writer, stop=asyncio.Event(), poll_s=0.02))
        await site.propose(session, {"pump.setpoint": 7.5})
        await until(lambda: bool(site.truth.setpoints_written), "the write")
        latch.set("Ada", "smoke")
        await until(lambda: site.truth.is_stopped, "the stop at the PLC")
        newest = site.historian.outcomes(site.plant, limit=1)[0]
        assert newest.status is WriteStatus.UNKNOWN, "the round is still waiting"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    tell(runner, site, story)


def test_a_database_that_is_away_ends_heartbeats_and_not_the_writer(
    runner: asyncio.Runner, site: Site
) -> None:
    """Whether the planner lives is then unknown, so the PLC may take over; the writer waits."""
    answers: list[Callable[[], bool]] = [away]

    async def story(session: Session) -> None:
        asked = list[None]()

        def is_well() -> bool:
            asked.append(None)
            return answers[-1]()

        async with writing(site, is_well=is_well):
            await until(lambda: len(asked) > 3, "some questions")
            assert heartbeats(site) == []
            answers.append(lambda: True)
            await until(lambda: bool(heartbeats(site)), "a heartbeat")

    tell(runner, site, story)


def test_a_frozen_plant_does_not_grow_young_when_the_writer_reconnects(tmp_path: Path) -> None:
    """Its newest reading is as old as before the link broke, so nothing is written."""

    async def story() -> None:
        async with live_tank(600.0) as emulator:
            site = new_site(emulator, tmp_path)
            async with writing(site, on_outcome=lambda _: None):
                await until(lambda: bool(heartbeats(site)), "the first heartbeat")
                site.truth.is_frozen = True
                frozen = site.truth.now
                await until(lambda: site.truth.now > frozen + timedelta(minutes=10), "old readings")
                before = len(heartbeats(site))
                for transport in list(emulator.server.iserver.asyncio_transports):
                    transport.abort()
                await until(lambda: len(heartbeats(site)) > before, "the writer to be back")
                async with Session(site.plant) as young:
                    proposal = await site.propose(young, {"pump.setpoint": 7.5})
                settled = (ProposalStatus.OPEN, ProposalStatus.ACCEPTED)
                await until(lambda: site.status(proposal) not in settled, "the writer's answer")
            assert site.truth.setpoints_written == []

    asyncio.run(story())


def test_two_writers_on_one_proposal_write_once(runner: asyncio.Runner, site: Site) -> None:
    """Both find it accepted and hold a clearance each; one uses its own, the other waits."""

    async def story(session: Session) -> None:
        second = replace(site.writer, historian=Historian.open(site.historian.path))
        async with Session(site.plant) as other:
            for mv in ("pump.setpoint", "drain.setpoint"):
                site.truth.writes.clear()
                proposal = await site.propose(session, {mv: 6.0})
                answers = await asyncio.gather(
                    write_accepted(site.writer, session), write_accepted(second, other)
                )
                assert site.truth.setpoints_written == [(mv, 6.0)]
                outcomes = [outcome for answer in answers for outcome in answer]
                assert [outcome.status for outcome in outcomes] == [WriteStatus.VERIFIED]
                assert site.status(proposal) is ProposalStatus.WRITTEN

    tell(runner, site, story)


def test_what_another_writer_has_begun_is_left_to_it_until_it_must_be_over(
    runner: asyncio.Runner, site: Site
) -> None:
    """Announced and not yet ended: neither settled nor written; after its time it is settled."""

    async def story(session: Session) -> None:
        proposal = await site.propose(session, {"pump.setpoint": 7.5})
        now = session.clock.now()
        setpoints = {"pump.setpoint": 7.5}
        permit = Clearance("theirs", proposal, setpoints, now, now + timedelta(seconds=60))
        site.historian.store_clearance(permit)
        assert site.historian.use_clearance("theirs", now)
        said = "sent; not read back yet"
        site.historian.store_outcome(
            WriteOutcome(proposal, "theirs", WriteStatus.UNKNOWN, setpoints, {}, said, now)
        )
        newer = await site.propose(session, {"pump.setpoint": 6.0})
        assert await write_accepted(site.writer, session) == []
        assert site.status(newer) is ProposalStatus.ACCEPTED
        session.clock.trust(now + timedelta(minutes=30))
        (outcome, *_) = await write_accepted(site.writer, session)
        assert (outcome.proposal_id, outcome.status) == (proposal, WriteStatus.FAILED)
        assert site.truth.setpoints_written == []

    tell(runner, site, story)


@settings(max_examples=40, deadline=None)
@given(
    lives=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 40)), min_size=2, max_size=6),
    uses=st.lists(st.tuples(st.integers(0, 90), st.integers(0, 5)), min_size=2, max_size=15),
)
def test_of_one_proposals_clearances_at_most_one_is_in_use(
    lives: list[tuple[int, int]], uses: list[tuple[int, int]]
) -> None:
    """Whoever asks, in whatever order: a second is used only after the first has expired."""
    with tempfile.TemporaryDirectory() as folder, Historian.create(Path(folder) / "p.db") as held:
        held.register(small_plant())
        held.store_proposal(proposal())
        held.decide(accept())
        for name, (issued_s, lived_s) in enumerate(lives):
            end = at(issued_s + lived_s)
            held.store_clearance(Clearance(f"c{name}", "p1", {PUMP: 5.125}, at(issued_s), end))
        in_use: list[tuple[int, int]] = []
        for moment_s, name in sorted(uses):
            if name < len(lives) and held.use_clearance(f"c{name}", at(moment_s)):
                in_use.append((moment_s, sum(lives[name])))
        for (_, expired_s), (used_s, _) in pairwise(in_use):
            assert used_s >= expired_s
        first = [s for s, n in sorted(uses) if n < len(lives) and lives[n][0] <= s < sum(lives[n])]
        assert [used_s for used_s, _ in in_use[:1]] == first[:1], "the first in time gets its own"
        if in_use:
            held.store_outcome(outcome(clearance_id=used_name(held)))
            held.store_clearance(Clearance("late", "p1", {PUMP: 5.125}, at(200), at(230)))
            assert not held.use_clearance("late", at(210)), "a write was begun"


def used_name(historian: Historian) -> str:
    told = [each.message for each in historian.events("small", kind="clearance")]
    return next(text for text in told if text.endswith("used")).split()[1]


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
            assert not written or (trouble == "none" and used == 1)
            assert dict(written).items() <= setpoints.items()
            assert len(written) <= len(setpoints)
            assert all(0 <= value <= 18 for _, value in written)

        tell(runner, site, story)
        site.historian.close()
