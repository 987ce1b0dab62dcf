"""Taking a loop over makes no bump: it is followed, switched, and only then moved."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from held_pumps import Rounds, shown, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from one_tank import NOON, PUMPS, free_port, live_tank
from stepped_plant import FREE, HIGH, LOW, STUCK, SteppedTank, stepped_tank
from written_plant import Site, new_site, tell

from connectors.emulator import Emulator
from connectors.opcua import Session
from connectors.writeback import settle_begun, write_accepted
from twin.errors import EndpointUnavailable
from twin.records import WriteStatus

PUMP, DRAIN, MODE = "pump.setpoint", "drain.setpoint", "pump.mode"
SPEED = 60.0  # a clearance holds for a second by the wall, a step takes two samples at most
PER_SAMPLE = 1.0  # what the rate of 6 per minute allows in ten seconds


@pytest.fixture(scope="module")
def emulator(runner: asyncio.Runner) -> Iterator[Emulator]:
    plant = stepped_tank(free_port())
    truth = SteppedTank(plant, start=NOON - timedelta(hours=1))
    living = live_tank(SPEED, plant=plant, truth=truth)
    yield runner.run(living.__aenter__())
    runner.run(living.__aexit__(None, None, None))


@pytest.fixture
def site(emulator: Emulator, tmp_path: Path) -> Site:
    return renewed(emulator, tmp_path)


def renewed(emulator: Emulator, folder: Path) -> Site:
    site = new_site(emulator, folder)
    truth_of(site).renew()
    return site


def truth_of(site: Site) -> SteppedTank:
    assert isinstance(site.truth, SteppedTank)
    return site.truth


def test_a_loop_is_followed_switched_and_only_then_moved(
    runner: asyncio.Runner, site: Site
) -> None:
    """It stands at 8 though 5 was written last: 8 first, then REMOTE, then 8.5; nothing jumps."""

    async def story(session: Session) -> None:
        proposal = await site.propose(session, {PUMP: 8.5})
        outcome = await write(site, session, proposal)
        assert outcome.status is WriteStatus.VERIFIED, outcome.reason
        assert site.truth.writes == [(PUMP, 8.0), (MODE, 1.0), (PUMP, 8.5)]
        assert truth_of(site).bumps == [0.0, 0.5]

    tell(runner, site, story)


def test_two_loops_are_taken_over_together(runner: asyncio.Runner, site: Site) -> None:
    """Neither is moved before both are in REMOTE; one that is there already is only moved."""
    truth = truth_of(site)

    async def story(session: Session) -> None:
        truth.modes["drain"] = 1
        truth.setpoints["drain"] = 8.0
        await shown(site, session, "drain", 1)
        proposal = await site.propose(session, {PUMP: 7.5, DRAIN: 8.25})
        outcome = await write(site, session, proposal)
        assert outcome.status is WriteStatus.VERIFIED, outcome.reason
        assert truth.writes[:2] == [(PUMP, 8.0), (MODE, 1.0)]
        assert sorted(truth.writes[2:]) == [(DRAIN, 8.25), (PUMP, 7.5)]

    tell(runner, site, story)


def test_a_loop_that_moves_on_slowly_is_followed(runner: asyncio.Runner, site: Site) -> None:
    """Half of what its rate allows per sample: the jump at REMOTE is no more than that rate's."""
    truth_of(site).drift = 0.25

    async def story(session: Session) -> None:
        proposal = await site.propose(session, {PUMP: 9.0})
        outcome = await write(site, session, proposal)
        assert outcome.status is WriteStatus.VERIFIED, outcome.reason
        assert truth_of(site).bumps[0] <= PER_SAMPLE

    tell(runner, site, story)


def test_a_loop_in_haste_is_left_to_the_plc(runner: asyncio.Runner, site: Site) -> None:
    """It moves by twice its rate per sample: followed three times, then let be, and told."""

    async def story(session: Session) -> None:
        proposal = await site.propose(session, {PUMP: 8.5})
        hurry(site)
        outcome = await write(site, session, proposal)
        assert outcome.status is WriteStatus.FAILED
        assert "faster than it can be followed" in outcome.reason
        assert (MODE, 1.0) not in site.truth.writes
        assert truth_of(site).bumps == []

    tell(runner, site, story)


def hurry(site: Site) -> None:
    """From the first write on the PLC moves its setpoint by 2 whenever one is written."""
    truth = truth_of(site)

    def run_away(name: str, value: float) -> None:
        if name == PUMP and truth.modes["pump"] == 0:
            truth.used["pump"] = value + 2.0 if value < 12 else value - 2.0

    truth.heard = run_away


def test_the_gate_is_asked_again_before_the_move(runner: asyncio.Runner, site: Site) -> None:
    """In REMOTE the loop shows that it is at its high end: it is not moved up, and goes back."""
    truth = truth_of(site)

    def reach_its_end(name: str, value: float) -> None:
        if (name, value) == (MODE, 1.0):
            truth.limits["pump"] = HIGH
            truth.unknown.add("tank.level")

    async def story(session: Session) -> None:
        proposal = await site.propose(session, {PUMP: 8.5})
        truth.heard = reach_its_end
        outcome = await write(site, session, proposal)
        assert outcome.status is WriteStatus.FAILED
        assert "needs tank.level" in outcome.reason
        assert site.truth.setpoints_written == [(PUMP, 8.0)]
        assert truth.modes["pump"] == 0

    tell(runner, site, story)


@pytest.mark.parametrize("after", [(PUMP, 8.0), (MODE, 1.0)])
def test_a_stop_on_the_way_ends_it_there(
    runner: asyncio.Runner, site: Site, after: tuple[str, float]
) -> None:
    """Asked before every single write; what was taken goes back to the plant."""
    site.is_stopped = lambda: after in site.truth.writes

    async def story(session: Session) -> None:
        proposal = await site.propose(session, {PUMP: 8.5})
        outcome = await write(site, session, proposal)
        assert outcome.status is WriteStatus.FAILED
        assert "top latch is set" in outcome.reason or "Stopped." in outcome.reason
        assert (PUMP, 8.5) not in site.truth.writes
        assert truth_of(site).modes["pump"] == 0

    tell(runner, site, story)


@pytest.mark.parametrize(
    ("change", "asked", "reason"),
    [
        (lambda t: t.modes.update(pump=2), 8.5, "reads 2, neither AUTO"),
        (lambda t: t.unknown.add("pump.mode"), 8.5, "needs pump.mode"),
        (lambda t: t.unknown.add("pump.used"), 8.5, "needs pump.used"),
        (lambda t: t.unknown.add("pump.limit"), 7.5, "needs pump.limit"),
        (lambda t: t.limits.update(pump=HIGH), 8.5, "high end"),
        (lambda t: t.limits.update(pump=LOW), 7.5, "low end"),
        (lambda t: t.limits.update(pump=STUCK), 7.5, "can't move"),
        (lambda t: t.used.update(pump=12.0), 5.5, "move of 6.50"),
        (lambda t: t.used.update(pump=17.0), 15.5, "outside its engineering limits"),
    ],
)
def test_what_the_plc_shows_can_refuse_a_write(
    runner: asyncio.Runner,
    site: Site,
    change: Callable[[SteppedTank], None],
    asked: float,
    reason: str,
) -> None:
    """A mode of its own, an end, a setpoint far away, anything unknown: nothing is sent."""
    change(truth_of(site))

    async def story(session: Session) -> None:
        proposal = await site.propose(session, {PUMP: asked})
        outcome = await write(site, session, proposal)
        assert outcome.status is WriteStatus.REFUSED
        assert reason in outcome.reason
        assert site.truth.writes == []

    tell(runner, site, story)


@pytest.mark.parametrize(("limit", "asked"), [(HIGH, 7.5), (LOW, 8.5), (FREE, 8.5)])
def test_a_way_back_from_an_end_is_written(
    runner: asyncio.Runner, site: Site, limit: float, asked: float
) -> None:
    """Relieving moves clear."""
    truth_of(site).limits["pump"] = limit

    async def story(session: Session) -> None:
        proposal = await site.propose(session, {PUMP: asked})
        outcome = await write(site, session, proposal)
        assert outcome.status is WriteStatus.VERIFIED, outcome.reason
        assert truth_of(site).used["pump"] == asked

    tell(runner, site, story)


def test_a_plc_that_clamps_has_not_done_what_was_agreed(runner: asyncio.Runner, site: Site) -> None:
    """It takes 8.25 of 8.5: failed, with both numbers, and the loop goes back to AUTO."""
    truth_of(site).most = 8.25

    async def story(session: Session) -> None:
        proposal = await site.propose(session, {PUMP: 8.5})
        outcome = await write(site, session, proposal)
        assert outcome.status is WriteStatus.FAILED
        assert "pump.setpoint reads back as 8.25, not 8.5" in outcome.reason
        assert outcome.read_back == {PUMP: 8.25}
        assert truth_of(site).modes["pump"] == 0

    tell(runner, site, story)


def test_a_plc_that_uses_less_than_it_shows_is_told(runner: asyncio.Runner, site: Site) -> None:
    """Its setpoint reads 8.5, but it goes to 8.25: written as agreed, and said where it stands."""
    truth_of(site).most_used = 8.25

    async def story(session: Session) -> None:
        proposal = await site.propose(session, {PUMP: 8.5})
        outcome = await write(site, session, proposal)
        assert outcome.status is WriteStatus.VERIFIED
        assert outcome.reason == (
            "read back as written; so far pump.used reads back as 8.25, not 8.5."
        )
        assert truth_of(site).modes["pump"] == 1

    tell(runner, site, story)


def test_a_plc_that_acknowledges_and_drops_is_never_switched(
    runner: asyncio.Runner, site: Site
) -> None:
    """The setpoint to start from does not show, so REMOTE would be a jump to an old one."""
    truth_of(site).drops_writes = True

    async def story(session: Session) -> None:
        proposal = await site.propose(session, {PUMP: 8.5})
        outcome = await write(site, session, proposal)
        assert outcome.status is WriteStatus.FAILED
        assert "pump.setpoint reads back as 5, not 8" in outcome.reason
        assert (MODE, 1.0) not in site.truth.writes
        assert truth_of(site).bumps == []

    tell(runner, site, story)


def test_an_operator_who_takes_the_loop_back_meanwhile_keeps_it(
    runner: asyncio.Runner, site: Site
) -> None:
    """AUTO at the panel in the moment of our move: failed, told, and not fought."""
    truth = truth_of(site)

    def turn_the_key(name: str, value: float) -> None:
        if (name, value) == (PUMP, 8.5):
            truth.modes["pump"] = 0

    async def story(session: Session) -> None:
        proposal = await site.propose(session, {PUMP: 8.5})
        truth.heard = turn_the_key
        outcome = await write(site, session, proposal)
        assert outcome.status is WriteStatus.FAILED
        assert "pump.mode reads back as 0, not 1" in outcome.reason
        await Rounds(site, session).one()
        assert site.truth.writes.count((MODE, 1.0)) == 1
        assert truth.modes["pump"] == 0

    tell(runner, site, story)


@pytest.mark.parametrize("at", [(PUMP, 8.0), (MODE, 1.0), (PUMP, 8.5)])
def test_a_link_that_breaks_on_the_way_is_settled_by_reading(
    runner: asyncio.Runner, site: Site, at: tuple[str, float]
) -> None:
    """Whichever step was the last: what came whole is verified, what came half goes back."""
    truth = truth_of(site)

    def cut(name: str, value: float) -> None:
        if (name, value) == at:
            truth.heard = lambda name, value: None
            for transport in list(site.emulator.server.iserver.asyncio_transports):
                transport.abort()

    async def story(session: Session) -> None:
        proposal = await site.propose(session, {PUMP: 8.5})
        truth.heard = cut
        with pytest.raises(EndpointUnavailable):
            await write_accepted(site.writer, session)
        sent = list(truth.writes)
        assert sent[-1] == at
        async with Session(site.plant) as again:
            ((outcome,), _) = await settle_begun(site.writer, again)
        is_whole = at == (PUMP, 8.5)
        assert outcome.status is (WriteStatus.VERIFIED if is_whole else WriteStatus.FAILED)
        assert truth.modes["pump"] == int(is_whole)
        assert [each for each in truth.writes[len(sent) :] if each != (MODE, 0.0)] == []
        assert site.status(proposal).value == ("written" if is_whole else "failed")

    tell(runner, site, story)


_FAULTS = st.sampled_from(["none", "none", "none", "stop", "refuse", "override", "end", "clamp"])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    used=st.sampled_from([0.0, 3.0, 8.0, 15.5, 16.0, 17.0]),
    move=st.sampled_from([-2.0, -0.5, 0.25, 2.0, 7.0]),
    mode=st.sampled_from([0, 0, 0, 1, 2]),
    limit=st.sampled_from([FREE, FREE, LOW, HIGH, STUCK]),
    drift=st.sampled_from([0.0, 0.0, 0.125, -0.25, 2.0]),
    fault=_FAULTS,
    after=st.integers(1, 3),
)
def test_no_take_over_bumps_the_plant_or_leaves_half_a_loop(
    runner: asyncio.Runner,
    emulator: Emulator,
    used: float,
    move: float,
    mode: int,
    limit: float,
    drift: float,
    fault: str,
    after: int,
) -> None:
    """Whatever stands where and whatever goes wrong after whichever write.

    Every setpoint that is written lies inside the engineering limits; the step to REMOTE moves the
    loop no further than its rate does in a sample and a half; and at the end the loop is either at
    the accepted setpoint in REMOTE, or back in the mode that it was found in.
    """
    with tempfile.TemporaryDirectory() as folder:
        site = renewed(emulator, Path(folder))
        truth = truth_of(site)
        truth.used, truth.modes, truth.limits["pump"] = dict.fromkeys(PUMPS, used), {}, limit
        truth.modes = {"pump": mode, "drain": 0}
        if mode == 1:
            truth.setpoints["pump"] = used
        site.is_stopped = lambda: fault == "stop" and len(truth.writes) >= after

        def go_wrong(name: str, value: float) -> None:
            if len(truth.writes) >= after and fault == "refuse":
                truth.refusal = "the key switch stands on local"
            elif len(truth.writes) >= after and fault == "override":
                truth.modes["pump"] = 0
            elif len(truth.writes) >= after and fault == "end":
                truth.limits["pump"] = STUCK

        async def story(session: Session) -> None:
            truth.drift = drift
            target = used + move
            proposal = await site.propose(session, {PUMP: target})
            truth.heard = go_wrong
            truth.most = used if fault == "clamp" else 18.0
            outcome = await write(site, session, proposal)
            sent = [value for _, value in truth.setpoints_written]
            assert all(0 <= value <= 16 for value in sent)
            if mode == 0 and (MODE, 1.0) in truth.writes:
                assert truth.bumps[0] <= PER_SAMPLE + 2 * abs(drift)
            if outcome.status is WriteStatus.VERIFIED:
                assert (truth.setpoints["pump"], truth.modes["pump"]) == (target, 1)
                return
            truth.refusal, truth.heard = None, lambda name, value: None
            rounds = Rounds(site, session)
            await shown(site, session, "pump", truth.modes["pump"])
            for _ in range(2):
                await rounds.one()
            assert truth.modes["pump"] == (0 if fault == "override" and sent else mode)

        tell(runner, site, story)
        site.historian.close()
