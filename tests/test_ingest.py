"""What the plant emits is what the historian holds: each reading once, and no gap untold."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from asyncua import ua
from each_database import locked
from one_tank import NOON, Tank, forget, free_port, live_tank, one_tank, until

from connectors import feed
from connectors.emulator import Emulator, load_truth
from connectors.ingest import PROCESS, Buffering, Progress, collect, holes
from connectors.intake import Intake
from connectors.spool import Spool
from connectors.storing import Store
from twin.clock import WALL_TIME
from twin.errors import EndpointUnavailable, NodeFault
from twin.historian import Gap, Historian
from twin.plant import Plant, read_plant
from twin.records import GOOD, Reading


@pytest.fixture
def historian(tmp_path: Path) -> Historian:
    return Historian.create(tmp_path / "plant.db")


@asynccontextmanager
async def collecting(
    plant: Plant, historian: Historian, **options: object
) -> AsyncIterator[list[Progress]]:
    """The collecting loop beside the test; ended in order at the end."""
    stop = asyncio.Event()
    told = [Progress(link="not begun")]
    task = asyncio.create_task(
        collect(plant, historian, stop=stop, on_progress=told.append, **options)  # type: ignore[arg-type]  # options are for every keyword
    )
    try:
        yield told
    finally:
        stop.set()
        await asyncio.wait_for(task, 20)


def all_readings(emulator: Emulator) -> set[tuple[str, datetime]]:
    return {
        (name, past.time_of(row))
        for name, past in emulator.past.items()
        for row in range(len(past.times_us))
    }


def stored(plant: Plant, historian: Historian) -> dict[tuple[str, datetime], Reading]:
    names = [tag.name for tag in plant.tags]
    far = timedelta(days=10)
    rows = historian.readings(plant, names, NOON - far, NOON + far)
    return {(row.tag, row.source_time): row for row in rows}


def is_filled(historian: Historian, plant: Plant) -> bool:
    """Whether every gap that has an end is filled; a source that stopped at the end has none."""
    gaps = [gap for gap in historian.gaps(plant) if gap.ended_at is not None]
    return bool(gaps) and all(gap.is_filled for gap in gaps)


def is_asked(historian: Historian, plant: Plant) -> bool:
    """Whether every gap that has an end is filled, or was asked for up to its end in vain."""
    gaps = [gap for gap in historian.gaps(plant) if gap.ended_at is not None]
    return bool(gaps) and all(gap.is_filled or gap.filled_until == gap.ended_at for gap in gaps)


def test_stored_equals_emitted_over_past_and_present(historian: Historian) -> None:
    """Two plant hours of history and a live stretch at 60×: nothing lost, nothing twice."""

    async def story() -> None:
        until_ = NOON + timedelta(minutes=10)
        async with live_tank(60, ends_at=until_, history_days=1 / 12) as emulator:
            plant = emulator.plant
            async with collecting(plant, historian):
                await until(lambda: emulator.truth.now >= until_, "the plant's last sample", 60)
                await until(lambda: is_filled(historian, plant), "the backfill")
                await until(lambda: historian.count(plant) == emulator.emitted, "every reading")
            held = stored(plant, historian)
            assert held.keys() == all_readings(emulator)
            assert emulator.emitted_live == 60 * len(plant.tags)
            bad = [r for r in held.values() if not r.is_good]
            assert bad
            assert {(r.tag, r.value) for r in bad} == {("tank.sensor", None)}

    asyncio.run(story())


def test_collecting_again_changes_nothing(historian: Historian) -> None:
    """A second run over the same past stores no reading twice and alters none."""

    async def story() -> None:
        async with live_tank(60, ends_at=NOON) as emulator:
            plant = emulator.plant
            before: dict[tuple[str, datetime], Reading] = {}
            for _ in range(2):
                async with collecting(plant, historian):
                    await until(lambda: is_filled(historian, plant), "the backfill")
                    await until(lambda: historian.count(plant) == emulator.emitted, "all")
                held = stored(plant, historian)
                assert before in ({}, held)
                before = held

    asyncio.run(story())


def test_a_plant_that_dies_and_comes_back_leaves_no_hole(historian: Historian) -> None:
    """The server is gone for a while; what it emitted meanwhile comes from its history."""

    async def story() -> None:
        port = free_port()
        plant = one_tank(port)
        truth = Tank(plant, seed=0, start=NOON - timedelta(days=0.025))
        async with collecting(plant, historian) as told:
            async with live_tank(60, plant=plant, truth=truth) as emulator:
                await until(lambda: historian.count(plant) > emulator.emitted - 30, "the past")
                await until(lambda: is_filled(historian, plant), "the backfill")
                past = emulator.past
            await until(lambda: "lost" in told[-1].link, "the loss of the link")
            away = truth.now + timedelta(minutes=20)
            ends_at = away + timedelta(minutes=5)
            async with live_tank(
                60, plant=plant, truth=truth, lived_until=away, ends_at=ends_at, past=past
            ) as again:
                await until(lambda: truth.now >= ends_at, "the last sample", 60)
                await until(lambda: historian.count(plant) == again.emitted, "every reading")
                await until(lambda: is_filled(historian, plant), "the gaps")
                assert stored(plant, historian).keys() == all_readings(again)
        gaps = [gap for gap in historian.gaps(plant) if gap.ended_at is not None]
        first, away_ = gaps
        assert first.reason == "before the first connection"
        assert away_.reason.startswith("not connected: ")
        assert {gap.source for gap in gaps} == {"opcua"}
        links = [each.message for each in reversed(historian.events(plant, kind="link"))]
        after_first = links[links.index("live") + 1 :]
        assert after_first[0].startswith("lost: ")
        assert "live" in after_first

    asyncio.run(story())


SERVE_ONE_TANK = """
    import asyncio, sys
    from datetime import datetime
    from connectors.emulator import serve
    from one_tank import Tank, one_tank

    began, start, until = (datetime.fromisoformat(text) for text in sys.argv[2:])
    asyncio.run(serve(
        one_tank(int(sys.argv[1])), seed=0, speed=60.0, began=began, start=start, until=until,
        truth_factory=Tank, on_ready=lambda live: print("ready", flush=True),
    ))
"""


def one_tank_process(port: int, *moments: datetime) -> subprocess.Popen[str]:
    """An emulator in a process of its own, ready."""
    tests = Path(__file__).parent
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SERVE_ONE_TANK), str(port), *map(str, moments)],
        env={**os.environ, "PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_killed_emulator_that_carries_on_loses_nothing(historian: Historian) -> None:
    """kill -9 in mid-stream and a start with the same seed and beginning: one unbroken story."""

    async def story() -> None:
        port = free_port()
        plant = one_tank(port)
        began, ends_at = NOON - timedelta(minutes=30), NOON + timedelta(minutes=15)
        process = await asyncio.to_thread(one_tank_process, port, began, NOON, ends_at)
        try:
            async with collecting(plant, historian) as told:
                live = NOON + timedelta(minutes=2)
                await until(lambda: (historian.newest(plant) or NOON) > live, "live readings")
                process.kill()
                process.wait()
                await until(lambda: "lost" in told[-1].link, "the loss of the link")
                later = NOON + timedelta(minutes=10)
                process = await asyncio.to_thread(one_tank_process, port, began, later, ends_at)
                await until(lambda: historian.newest(plant) == ends_at, "the last sample", 60)
                await until(lambda: is_filled(historian, plant), "the gaps")
        finally:
            process.kill()
            process.wait()
        rows: dict[str, list[datetime]] = {tag.name: [] for tag in plant.tags}
        for name, moment in sorted(stored(plant, historian), key=lambda key: key[1]):
            rows[name].append(moment)
        expected = [began + k * timedelta(seconds=10) for k in range(1, 45 * 6 + 1)]
        assert all(times == expected for times in rows.values())

    asyncio.run(story())


def test_what_the_plant_cannot_tell_any_more_stays_a_gap(historian: Historian) -> None:
    """A restarted plant without memory: the stretch is a row that says so, never a silence."""

    async def story() -> None:
        port = free_port()
        plant = one_tank(port)
        later = NOON + timedelta(hours=1)
        async with collecting(plant, historian) as told:
            async with live_tank(60, plant=plant, ends_at=NOON):
                await until(lambda: is_filled(historian, plant), "the backfill")
            await until(lambda: "lost" in told[-1].link, "the loss of the link")
            newcomer = Tank(plant, seed=0, start=later)
            async with live_tank(60, plant=plant, truth=newcomer, lived_until=later):
                await until(
                    lambda: any("history has" in gap.reason for gap in historian.gaps(plant)),
                    "the gap row",
                )
                await until(lambda: is_asked(historian, plant), "the rest of that gap")
        gaps = [gap for gap in historian.gaps(plant) if gap.ended_at is not None]
        left = [gap for gap in gaps if not gap.is_filled]
        assert [gap.source for gap in left] == ["opcua"]
        assert left[0].reason.endswith("the plant's history has no readings of it")
        assert left[0].filled_until == left[0].ended_at  # asked to the end: never again
        assert left[0].started_at == NOON
        assert left[0].ended_at is not None
        assert left[0].ended_at >= later

    asyncio.run(story())


def test_a_plant_whose_time_went_back_is_told_and_overwrites_nothing(
    historian: Historian,
) -> None:
    """An emulator started anew over an old database: the audit says so, the old rows stand."""

    async def story() -> None:
        async with live_tank(60) as emulator:
            plant = emulator.plant
            historian.register(plant)
            soon = NOON + timedelta(minutes=1)
            old = [
                Reading("tank.level", 3.0, 0, at, at) for at in (soon, NOON + timedelta(hours=1))
            ]
            historian.store(old, plant)
            async with collecting(plant, historian):
                await until(lambda: emulator.truth.now > soon, "the same time again")
                await until(lambda: bool(historian.events(plant, kind="clock")), "the event")
            assert stored(plant, historian)["tank.level", soon] == old[0]

    asyncio.run(story())


def test_a_database_that_is_away_for_a_while_loses_nothing(tmp_path: Path) -> None:
    """Another program locks it; afterwards every reading is there and the audit tells of it."""
    historian = Historian.create(tmp_path / "plant.db")
    impatient = Historian.open(tmp_path / "plant.db", busy_deadline_s=0.1)

    async def story() -> None:
        async with live_tank(60, ends_at=NOON + timedelta(minutes=5)) as emulator:
            plant = emulator.plant
            async with collecting(plant, impatient) as told:
                await until(lambda: historian.count(plant) > 0, "the first readings")
                with locked(tmp_path / "plant.db"):
                    await until(lambda: told[-1].database_trouble != "", "the trouble to be seen")
                    await until(lambda: told[-1].waiting > 30, "readings in memory")
                await until(lambda: historian.count(plant) == emulator.emitted, "all", 40)
                await until(lambda: is_filled(historian, plant), "the backfill")
            messages = [each.message for each in historian.events(plant, kind="database")]
            assert messages[0] == "back"
            assert messages[1].startswith("away: ")

    asyncio.run(story())


def test_a_spool_that_is_too_small_becomes_a_gap_and_is_filled(historian: Historian) -> None:
    """What did not fit while the database was away comes back from the plant's history."""

    async def story() -> None:
        ends_at = NOON + timedelta(minutes=30)
        async with live_tank(600, ends_at=ends_at) as emulator:
            plant = emulator.plant
            impatient = Historian.open(historian.path, busy_deadline_s=0.1)
            small = Buffering(quota_bytes=3_000)
            async with collecting(plant, impatient, buffering=small) as told:
                await until(lambda: historian.count(plant) > 0, "the first readings")
                with locked(historian.path):
                    await until(lambda: emulator.truth.now >= ends_at, "the last sample")
                    assert "quota" in told[-1].spool.losing
                    assert told[-1].spool.is_high
                    assert told[-1].spool.share < 1.5
                await until(lambda: historian.count(plant) == emulator.emitted, "all", 40)
                await until(lambda: is_filled(historian, plant), "the backfill")
                await until(lambda: told[-1].spool.losing == "", "room again")
            assert any("quota" in gap.reason for gap in historian.gaps(plant))
            assert any("lost" in each.message for each in historian.events(plant, kind="spool"))

    asyncio.run(story())


def test_samples_from_the_future_are_kept_as_bad_and_blind_nothing(historian: Historian) -> None:
    """A server dates three samples years ahead: each is a row, told once, and the tag lives on."""

    async def story() -> None:
        async with live_tank(60) as emulator:
            plant = emulator.plant
            async with collecting(plant, historian) as told:
                await until(lambda: told[-1].link == "live", "the link")
                stamps = [NOON + timedelta(days=3650, seconds=k) for k in range(3)]
                for stamp in stamps:
                    await emulator._show(Reading("tank.level", 3.0, GOOD, stamp, stamp))
                wrong_at = emulator.truth.now

                def lives_on() -> bool:
                    last = historian.last_readings(plant).get("tank.level")
                    late = wrong_at + timedelta(minutes=2)
                    return last is not None and last.is_good and last.source_time > late

                await until(lives_on, "good readings after the wrong ones")
                plant_now = told[-1].plant_now
                assert plant_now is not None
                assert plant_now - emulator.truth.now < timedelta(hours=1)
            rows = stored(plant, historian)
            impossible = [r for r in rows.values() if r.quality == 0x80230000]
            assert [(r.tag, r.value) for r in impossible] == [("tank.level", None)] * 3
            assert all(NOON <= r.source_time < historian.newest(plant) for r in impossible)
            (event,) = historian.events(plant, kind="clock")
            assert event.subject == "tank.level"
            assert f"dates it {stamps[0]:%Y-%m-%d %H:%M:%S} UTC" in event.message
            assert "Check the server's clock" in event.message

    asyncio.run(story())


def test_a_stored_reading_of_the_future_hides_no_gap(historian: Historian) -> None:
    """What was missed since the last true reading is filled, whatever a wrong stamp says."""

    async def story() -> None:
        async with live_tank(60, ends_at=NOON) as emulator:
            plant = emulator.plant
            historian.register(plant)
            for name, past in emulator.past.items():
                rows = range(len(past.times_us) - 60)
                historian.store([past.reading(name, row) for row in rows], plant)
            ahead = NOON + timedelta(days=3650)
            historian.store([Reading("tank.level", 3.0, GOOD, ahead, ahead)], plant)
            async with collecting(plant, historian):
                await until(lambda: is_filled(historian, plant), "the gap")
            assert stored(plant, historian).keys() == all_readings(emulator)

    asyncio.run(story())


def test_beats_tell_the_plants_clock(historian: Historian) -> None:
    """Other processes learn plant time and speed from the collector's beat alone."""

    async def story() -> None:
        async with live_tank(600) as emulator, collecting(emulator.plant, historian):
            await until(lambda: "plant_now" in beat(historian, emulator.plant), "a beat")
            told = beat(historian, emulator.plant)
            plant_now = datetime.fromisoformat(str(told["plant_now"]))
            assert told["speed"] == 600
            assert abs(plant_now - emulator.truth.now) < timedelta(minutes=30)

    asyncio.run(story())


def beat(historian: Historian, plant: Plant) -> dict[str, object]:
    told = [each.detail for each in historian.processes(plant) if each.name == PROCESS]
    content: dict[str, object] = json.loads(told[0]) if told else {}
    return content


def misspelt(plant: Plant, beginning: str) -> Plant:
    """The plant with wrong nodes for all tags whose names begin so."""
    tags = (
        replace(tag, node=f"{tag.node}.typo") if tag.name.startswith(beginning) else tag
        for tag in plant.tags
    )
    return replace(plant, tags=tuple(tags))


def test_a_plant_file_without_one_right_node_ends_the_start(historian: Historian) -> None:
    """Before anything is stored, one message names all nodes the server does not have."""

    async def story() -> str:
        async with live_tank() as emulator:
            with pytest.raises(NodeFault) as caught:
                await collect(misspelt(emulator.plant, ""), historian, stop=asyncio.Event())
        return str(caught.value)

    message = asyncio.run(story())
    assert "tank.level" in message
    assert "tank.sensor" in message


def test_a_wrong_node_stops_no_other_and_is_a_gap(historian: Historian) -> None:
    """The others are stored from the start on; the wrong one is told and its gap is a row."""

    async def story() -> None:
        async with live_tank(60, ends_at=NOON) as emulator:
            plant = misspelt(emulator.plant, "tank.sensor")
            async with collecting(plant, historian) as told:
                await until(lambda: historian.count(plant) == 5 * 216, "the others")
                await until(lambda: told[-1].link.startswith("live"), "the link")
                assert told[-1].link == "live; without tank.sensor"
                (source,) = told[-1].sources
                assert source.faulty == ("tank.sensor",)
                assert not source.is_healthy
                await until(lambda: "tank.sensor" in gaps_of_tags(historian, plant), "its gap")
            assert "node" in gaps_of_tags(historian, plant)["tank.sensor"].reason

    asyncio.run(story())


def test_a_wrong_node_that_is_mended_is_taken_in(
    historian: Historian, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked for again while the link stands; with its first reading its gap ends."""
    monkeypatch.setattr(feed, "_MEND_EVERY_S", 0.2)  # ten minutes are too long for a test

    async def story() -> None:
        async with live_tank(60) as emulator:
            plant = misspelt(emulator.plant, "tank.sensor")
            assert plant.opcua is not None
            async with collecting(plant, historian) as told:
                await until(lambda: "tank.sensor" in gaps_of_tags(historian, plant), "its gap")
                connects = told[-1].sources[0].reconnects
                index = await emulator.server.get_namespace_index(plant.opcua.namespace)
                node_id = ua.NodeId("tank.sensor.typo", index)
                node = await emulator.server.nodes.objects.add_variable(node_id, "typo", 0.0)
                at = emulator.truth.now + timedelta(minutes=1)
                await node.write_value(ua.DataValue(ua.Variant(7.5), SourceTimestamp=at))
                await until(lambda: told[-1].sources[0].faulty == (), "the node")
                await until(
                    lambda: gaps_of_tags(historian, plant)["tank.sensor"].ended_at == at,
                    "the end of its gap",
                )
                assert told[-1].sources[0].reconnects == connects
                assert stored(plant, historian)["tank.sensor", at].value == 7.5

    asyncio.run(story())


def gaps_of_tags(historian: Historian, plant: Plant) -> dict[str, Gap]:
    return {gap.tag: gap for gap in historian.gaps(plant) if gap.tag is not None}


def test_nobody_at_the_endpoint_ends_a_patient_start(historian: Historian) -> None:
    """With a deadline for the first answer, the start fails with the address and what to do."""
    plant = one_tank(free_port())
    with pytest.raises(EndpointUnavailable, match="does not answer"):
        asyncio.run(collect(plant, historian, stop=asyncio.Event(), first_answer_within_s=0))


def test_what_is_told_before_the_plants_time_is_known_says_so(historian: Historian) -> None:
    """The audit's rows are of plant time; the first row of a start can only have the wall's."""
    plant = one_tank(free_port())
    with pytest.raises(EndpointUnavailable):
        asyncio.run(collect(plant, historian, stop=asyncio.Event(), first_answer_within_s=0.3))
    (told,) = historian.events(plant, kind="link")
    assert told.message.startswith("lost: ")
    assert told.message.endswith(WALL_TIME)


def test_a_silent_endpoint_counts_against_the_patience_too(historian: Historian) -> None:
    """Time spent connecting is time waited: one attempt of four seconds uses up one second."""

    async def story() -> float:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            plant = one_tank(silent.getsockname()[1])
            began_s = time.monotonic()
            with pytest.raises(EndpointUnavailable):
                await collect(plant, historian, stop=asyncio.Event(), first_answer_within_s=1)
            return time.monotonic() - began_s

    assert asyncio.run(story()) < 8


def test_a_link_that_broke_between_two_tags_loses_neither(historian: Historian) -> None:
    """One tag was stored further than the others: theirs come from history all the same."""

    async def story() -> None:
        async with live_tank(60, ends_at=NOON) as emulator:
            plant = emulator.plant
            historian.register(plant)
            for name, past in emulator.past.items():
                rows = len(past.times_us) - (3 if name == "tank.level" else 6)
                historian.store([past.reading(name, row) for row in range(rows)], plant)
            async with collecting(plant, historian):
                await until(lambda: is_filled(historian, plant), "the backfill")
                await until(lambda: historian.count(plant) == emulator.emitted, "every reading")
            assert stored(plant, historian).keys() == all_readings(emulator)

    asyncio.run(story())


def test_a_tag_that_the_plant_does_not_historise_is_a_gap_of_its_own(historian: Historian) -> None:
    """The others' past is stored; what is missing of the one is a row that names it."""

    async def story() -> None:
        async with live_tank(60, ends_at=NOON) as emulator:
            plant = emulator.plant
            forget(emulator.server, "tank.sensor")
            async with collecting(plant, historian):
                await until(lambda: len(historian.gaps(plant)) == 2, "the rows")
                await until(lambda: len(stored(plant, historian)) == 5 * 216 + 1, "the others")
                await until(
                    lambda: any(gap.is_filled for gap in historian.gaps(plant)), "what was filled"
                )
            whole, missing = sorted(historian.gaps(plant), key=lambda gap: gap.tag or "")
            assert (whole.tag, whole.is_filled) == (None, True)
            assert (missing.tag, missing.is_filled) == ("tank.sensor", False)

    asyncio.run(story())


def test_what_the_server_lost_becomes_a_gap_and_is_filled(historian: Historian) -> None:
    """A publish that never arrived leaves a row, and its readings come from the history."""

    async def story() -> None:
        async with live_tank(60, ends_at=NOON + timedelta(minutes=3)) as emulator:
            plant = emulator.plant
            async with collecting(plant, historian) as told:
                await until(lambda: told[-1].link == "live", "the link")
                (sent,) = emulator.server.iserver.subscription_service.subscriptions.values()
                sent._notification_seq += 1
                await until(
                    lambda: any("did not arrive" in gap.reason for gap in historian.gaps(plant)),
                    "the gap row",
                )
                await until(lambda: historian.count(plant) == emulator.emitted, "every reading")
                await until(lambda: is_filled(historian, plant), "the backfill")

    asyncio.run(story())


def test_what_was_lost_is_a_row_before_anything_newer_is_stored(
    historian: Historian, tmp_path: Path
) -> None:
    """So a crash at any moment leaves either the gap row or the readings still missing."""
    plant = one_tank(free_port())
    historian.register(plant)
    moments = [NOON + timedelta(seconds=10 * row) for row in range(40)]
    rows_seen: list[tuple[int, int]] = []

    def see() -> None:
        rows_seen.append((historian.count(plant), len(historian.gaps(plant))))

    async def story() -> None:
        with Spool(tmp_path / "spool", quota_bytes=2_000) as spool:
            store = Store(
                plant, historian, spool, on_change=see, tell=lambda *_: None, on_gap=lambda: None
            )
            intake = Intake(
                spool,
                on_spooled=store.wake,
                on_trouble=lambda _: None,
                straight=store.straight,
            )
            spooling = asyncio.create_task(intake.keep_spooling())
            for at in moments[:-1]:
                intake.take("opcua", [Reading("tank.level", 1.0, 0, at, at)])
                await until(lambda: intake.rows == 0, "the disk")
            storing = asyncio.create_task(store.keep_storing())
            store.is_allowed.set()
            await until(lambda: spool.is_empty, "what was kept")
            assert not historian.gaps(plant)
            intake.take("opcua", [Reading("tank.level", 1.0, 0, moments[-1], moments[-1])])
            await intake.finish(spooling, 10)
            await store.finish(storing, 10)

    asyncio.run(story())
    (gap,) = historian.gaps(plant)
    kept = moments.index(gap.started_at)
    assert 5 < kept < 30
    assert gap.ended_at == moments[-2]
    assert historian.count(plant) == kept + 1
    assert (kept, 1) in rows_seen
    assert (kept + 1, 0) not in rows_seen


def test_holes_are_where_nothing_was_heard_for_too_long() -> None:
    """Both ends count: silence at the start and at the end is silence too."""
    times = [NOON + timedelta(seconds=s) for s in (10, 20, 80, 90)]
    start, end = NOON, NOON + timedelta(seconds=200)
    assert holes(times, start, end, 30) == [(times[1], times[2]), (times[3], end)]
    assert holes([], start, end, 30) == [(start, end)]
    assert holes(times, start, times[3], 60) == []


def test_a_furnaces_readings_are_all_stored_the_seldom_ones_too(historian: Historian) -> None:
    """260 tags, most told when they change: stored equals emitted, and no silence is a gap."""

    async def story() -> None:
        shipped = read_plant("furnace")
        assert shipped.opcua is not None
        endpoint = f"opc.tcp://127.0.0.1:{free_port()}/furnace"
        plant = replace(
            shipped, opcua=replace(shipped.opcua, endpoint=endpoint, history_days=1 / 12)
        )
        truth = load_truth(plant)(plant, seed=1000, start=NOON - timedelta(hours=2))
        emulator = Emulator(plant, truth, endpoint=endpoint, speed=120)
        await emulator.remember_until(NOON)
        ends_at = NOON + timedelta(minutes=11)  # all records are told every ten
        async with emulator:
            running = asyncio.create_task(emulator.run(ends_at))
            async with collecting(plant, historian):
                await until(lambda: truth.now >= ends_at, "the plant's last sample", 60)
                await until(lambda: is_filled(historian, plant), "the backfill", 60)
                await until(lambda: historian.count(plant) == emulator.emitted, "every reading", 60)
            running.cancel()
        held = stored(plant, historian)
        assert held.keys() == all_readings(emulator)
        for name, past in emulator.past.items():
            for row in range(len(past.times_us)):
                assert held[name, past.time_of(row)].value == past.reading(name, row).value
        assert all(gap.is_filled for gap in historian.gaps(plant))
        assert len(historian.gaps(plant)) == 1

    asyncio.run(story())
