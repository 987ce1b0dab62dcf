"""Where readings are missing a row says so, from when to when and why; what can be filled is."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from collected import all_readings, collecting, is_asked, is_filled, stored
from each_database import locked
from one_tank import NOON, Tank, forget, free_port, live_tank, one_tank, until

from connectors.emulator import Emulator
from connectors.ingest import Buffering
from connectors.intake import Intake
from connectors.spool import Spool
from connectors.storing import Store
from twin.historian import Historian
from twin.records import GOOD, Reading


@pytest.fixture
def historian(tmp_path: Path) -> Historian:
    return Historian.create(tmp_path / "plant.db")


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
                180, plant=plant, truth=truth, lived_until=away, ends_at=ends_at, past=past
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
        one_tank(int(sys.argv[1])), seed=0, speed=180.0, began=began, start=start, until=until,
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
                    await until(lambda: told[-1].spool.is_high, "the high water")
                    assert told[-1].spool.share < 1.5
                await until(lambda: historian.count(plant) == emulator.emitted, "all", 40)
                await until(lambda: is_filled(historian, plant), "the backfill")
                await until(lambda: told[-1].spool.losing == "", "room again")
            assert any("quota" in gap.reason for gap in historian.gaps(plant))
            assert any("lost" in each.message for each in historian.events(plant, kind="spool"))

    asyncio.run(story())


def store_past(historian: Historian, emulator: Emulator, but: Callable[[str], int]) -> None:
    """Store what the emulator remembers, except each tag's newest `but(tag)` readings."""
    historian.register(emulator.plant)
    for name, past in emulator.past.items():
        rows = range(len(past.times_us) - but(name))
        historian.store([past.reading(name, row) for row in rows], emulator.plant)


def test_a_stored_reading_of_the_future_hides_no_gap(historian: Historian) -> None:
    """What was missed since the last true reading is filled, whatever a wrong stamp says."""

    async def story() -> None:
        async with live_tank(60, ends_at=NOON) as emulator:
            plant = emulator.plant
            store_past(historian, emulator, lambda tag: 60)
            ahead = NOON + timedelta(days=3650)
            historian.store([Reading("tank.level", 3.0, GOOD, ahead, ahead)], plant)
            async with collecting(plant, historian):
                await until(lambda: is_filled(historian, plant), "the gap")
            assert stored(plant, historian).keys() == all_readings(emulator)

    asyncio.run(story())


def test_a_link_that_broke_between_two_tags_loses_neither(historian: Historian) -> None:
    """One tag was stored further than the others: theirs come from history all the same."""

    async def story() -> None:
        async with live_tank(60, ends_at=NOON) as emulator:
            plant = emulator.plant
            store_past(historian, emulator, lambda tag: 3 if tag == "tank.level" else 6)
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
