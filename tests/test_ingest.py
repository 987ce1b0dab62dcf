"""What the plant emits is what the historian holds: each reading once, and no gap untold."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from asyncua import ua
from collected import all_readings, collecting, is_filled, stored
from one_tank import NOON, free_port, live_tank, one_tank, until

from connectors import feed
from connectors.emulator import Emulator, load_truth
from connectors.ingest import PROCESS, collect
from twin.clock import WALL_TIME
from twin.errors import EndpointUnavailable, NodeFault
from twin.historian import Gap, Historian
from twin.plant import Plant, read_plant
from twin.records import GOOD, Reading


@pytest.fixture
def historian(tmp_path: Path) -> Historian:
    return Historian.create(tmp_path / "plant.db")


def test_stored_equals_emitted_over_past_and_present(historian: Historian) -> None:
    """Two plant hours of history and a live stretch at 200×: nothing lost, nothing twice."""

    async def story() -> None:
        until_ = NOON + timedelta(minutes=10)
        async with live_tank(200, ends_at=until_, history_days=1 / 12) as emulator:
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


def test_a_furnaces_readings_are_all_stored_the_seldom_ones_too(historian: Historian) -> None:
    """260 tags, most told when they change: stored equals emitted, and no silence is a gap."""

    async def story() -> None:
        shipped = read_plant("furnace")
        assert shipped.opcua is not None
        endpoint = f"opc.tcp://127.0.0.1:{free_port()}/furnace"
        plant = replace(
            shipped, opcua=replace(shipped.opcua, endpoint=endpoint, history_days=1 / 24)
        )
        truth = load_truth(plant)(plant, seed=1000, start=NOON - timedelta(hours=1))
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
        # By then all were told; what comes after the plant's last sample is rightly a silence.
        ten = NOON + timedelta(minutes=10)
        (gap,) = (gap for gap in historian.gaps(plant) if gap.started_at < ten)
        assert gap.is_filled

    asyncio.run(story())
