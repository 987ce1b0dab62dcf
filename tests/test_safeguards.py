"""Whoever stops, stops the plant: whichever writer writes, and whichever latch each obeys."""

from __future__ import annotations

import asyncio
import json
import tempfile
from contextlib import AsyncExitStack
from itertools import takewhile
from pathlib import Path

from asyncua import ua
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from one_tank import NAMESPACE, until
from written_plant import Site, new_site, tell, told, writing

from connectors.emulator import Emulator
from connectors.opcua import Session
from connectors.safeguards import Safeguards
from connectors.stop import StopLatch
from twin.records import ProposalStatus

PUMP = "pump.setpoint"
SPEED = 100.0


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
        await node.write_value(False)
        assert not await seen.is_stopped_at_plant(session)
        assert len(told(site, "plant stop")) == 2, "set and cleared, once each"

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
            assert "neither encrypted nor signed" in str(beat_of(site).get("security"))
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


def obeying(site: Site, latch: StopLatch) -> Site:
    """The same plant and database, for a writer that obeys this latch."""
    other = Site(site.emulator, site.historian, latch.is_stopped)
    other.latch = latch.name
    return other


def two_latches(folder: Path) -> tuple[StopLatch, StopLatch]:
    latches = StopLatch(folder / "one" / "stop"), StopLatch(folder / "two" / "stop")
    for each in latches:
        each.path.parent.mkdir()
    return latches


def test_a_writer_that_waits_still_stops_the_plant(
    runner: asyncio.Runner, site: Site, tmp_path: Path
) -> None:
    """Two state folders, one database: either latch stops; the node is clear once both are."""
    one, two = two_latches(tmp_path)
    first, second = obeying(site, one), obeying(site, two)
    waits: list[str] = []

    async def story(session: Session) -> None:
        async with writing(first):
            await until(lambda: beat_of(site).get("latch") == one.name, "the first writer")
            async with writing(second, on_waiting=waits.append):
                await until(lambda: bool(waits), "the second to wait")
                two.set("Ada", "smoke")
                await until(lambda: site.truth.is_stopped, "the stop at the plant")
                await until(lambda: two.name in str(beat_of(site).get("plc")), "the reason")
                one.set("Bob", "smoke")
                await until(lambda: len(told(site, "stop node")) == 2, "both latches told")
                one.release()
                await until(lambda: two.name in str(beat_of(site).get("plc")), "the other latch")
                assert site.truth.is_stopped
                two.release()
                await until(lambda: not site.truth.is_stopped, "the end of the stop")
        assert told(site, "plant stop") == []

    tell(runner, site, story)


def test_whoever_has_the_lease_clears_what_another_had_set(
    runner: asyncio.Runner, site: Site, tmp_path: Path
) -> None:
    """The first writer ends while its latch is set; the second obeys its own, and both count."""
    one, two = two_latches(tmp_path)

    async def story(session: Session) -> None:
        async with writing(obeying(site, one)):
            one.set("Ada", "smoke")
            await until(lambda: site.truth.is_stopped, "the stop at the plant")
        async with writing(obeying(site, two)):
            await until(lambda: one.name in str(beat_of(site).get("plc")), "whose stop it is")
            assert site.truth.is_stopped
            one.release()
            await until(lambda: not site.truth.is_stopped, "the end of the stop")
            await until(lambda: "plc" not in beat_of(site), "nothing more to tell")
            proposal = await site.propose(session, {PUMP: 7.5})
            await until(lambda: site.status(proposal) is ProposalStatus.WRITTEN, "the write")

    tell(runner, site, story)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(before=st.integers(0, 3), after=st.integers(1, 3), is_claimed=st.booleans())
def test_a_node_is_the_plants_only_if_no_writer_claims_it(
    runner: asyncio.Runner, emulator: Emulator, before: int, after: int, is_claimed: bool
) -> None:
    """Another writer sets the node and tells the audit a moment later; we may look in between.

    Until then it counts as the plant's, and nothing is told. What nobody claims is told, also if
    it was cleared soon.
    """

    async def looks(site: Site) -> None:
        holder = Safeguards(site.writer, lambda: True, 0.02)
        async with Session(site.plant) as session:
            await session.write("plc.stop", 0)
            assert not await holder.is_stopped_at_plant(session)
            await session.write("plc.stop", 1)
            for _ in range(before):
                assert await holder.is_stopped_at_plant(session)
            assert told(site, "plant stop") == []
            if is_claimed:
                text, now = "shown to the PLC: another", session.clock.now()
                site.historian.event(site.plant, "stop node", "plc.stop", text, now, "write")
            for _ in range(after):
                assert await holder.is_stopped_at_plant(session) is not is_claimed
            await session.write("plc.stop", 0)
            assert not await holder.is_stopped_at_plant(session)

    with tempfile.TemporaryDirectory() as folder:
        site = new_site(emulator, Path(folder))
        runner.run(looks(site))
        both = ["set at the plant (plc.stop)", "cleared at the plant (plc.stop)"]
        assert told(site, "plant stop") == ([] if is_claimed else both)
        site.historian.close()


_LATCHES = st.lists(
    st.tuples(st.sampled_from(["set", "release", "round", "change"]), st.sampled_from([0, 1])),
    min_size=1,
    max_size=10,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=_LATCHES)
def test_the_stop_node_is_set_while_any_latch_is_that_was_shown(
    runner: asyncio.Runner, emulator: Emulator, steps: list[tuple[str, int]]
) -> None:
    """Two writers, each with its latch; either may have the lease, in any order of everything.

    After both have had their turn the node is set exactly while a latch is, and the audit names
    every latch that is: whoever writes next must know what to wait for.
    """
    with tempfile.TemporaryDirectory() as folder:
        site = new_site(emulator, Path(folder))
        latches = two_latches(Path(folder))
        runner.run(_take_turns(site, latches, steps))
        site.historian.close()


async def _take_turns(
    site: Site, latches: tuple[StopLatch, StopLatch], steps: list[tuple[str, int]]
) -> None:
    writers = [Safeguards(obeying(site, each).writer, lambda: True, 0.02) for each in latches]
    holder = 0
    async with Session(site.plant) as session:
        await session.write("plc.stop", 0)
        for each in writers:
            await each.begin(session)
        for what, number in [*steps, ("round", 0)]:
            await writers[holder].is_stopped_at_plant(session)  # a latch may move just after
            if what == "change":
                holder = number
                await writers[holder].begin(session)
            elif what == "set":
                latches[number].set("Ada", "smoke")
            elif what == "release":
                latches[number].release()
            await writers[1 - holder].show_stop(session)
            await writers[holder].is_stopped_at_plant(session)
            await writers[holder].follow_latch(session)
            assert site.truth.is_stopped == any(each.is_stopped() for each in latches)
            named = " ".join(since_clear(site))
            assert all(each.name in named for each in latches if each.is_stopped())


def since_clear(site: Site) -> list[str]:
    """What the stop node was told of since it was cleared last."""
    rows = told(site, "stop node")[::-1]
    return list(takewhile(lambda text: text.startswith("shown"), rows))
