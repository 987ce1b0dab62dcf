"""The emulator is a plant you could not tell from a real one, and warns that it is none."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from asyncua import Client, ua
from one_tank import NOON, Tank, free_port, live_tank, one_tank, until

from connectors.emulator import (
    READINGS_EMITTED,
    READINGS_EMITTED_LIVE,
    SECURITY_WARNING,
    Emulator,
    Live,
    load_truth,
    serve,
)
from connectors.emulator.past import TagHistory
from connectors.opcua import Session
from twin.clock import on_grid
from twin.errors import EndpointUnavailable, UsageError, WriteFault
from twin.plant import Plant, read_plant
from twin.records import GOOD, Reading


def test_going_live_brings_a_past_and_carries_on_without_a_seam() -> None:
    """History ends with the sample before the first live one; source times are plant time."""

    async def story() -> None:
        plant = one_tank(free_port())
        ready: list[Live] = []
        serving = asyncio.create_task(
            serve(plant, seed=0, start=NOON, speed=600, truth_factory=Tank, on_ready=ready.append)
        )
        await until(lambda: bool(ready), "the server")
        rows = 216  # 36 minutes of 10 s samples
        assert ready[0].plant_time == NOON
        assert ready[0].past_readings == rows * len(plant.tags)
        async with Session(plant) as session:
            live: list[Reading] = []
            await session.subscribe(live.extend)
            await until(lambda: len(live) > 100, "live readings")
            end = live[-1].source_time
            batches = session.history(NOON - timedelta(hours=1), end, ["tank.level"])
            times = [each.source_time async for batch in batches for each in batch]
        step = timedelta(seconds=10)
        assert times == [NOON - (rows - 1 - k) * step for k in range(len(times))]
        assert times[-1] == end > NOON
        serving.cancel()

    asyncio.run(story())


def test_the_same_seed_is_the_same_plant_and_a_restart_carries_on() -> None:
    """A later start of the same beginning has the same past, so a restart has no seam."""

    async def past_of(start: datetime) -> list[tuple[float, str, float | None]]:
        plant = read_plant("four_tank")
        began = NOON - timedelta(hours=2)
        truth = load_truth(plant)(plant, seed=1003, start=began)
        emulator = Emulator(plant, truth, endpoint="opc.tcp://127.0.0.1:0")
        await emulator.remember_until(start)
        return [
            (reading.source_time.timestamp(), name, reading.value)
            for name, past in emulator.past.items()
            for reading in (past.reading(name, row) for row in range(720))
        ]

    first = asyncio.run(past_of(NOON))
    later = asyncio.run(past_of(NOON + timedelta(hours=1)))
    assert len(first) == 720 * 32
    assert first == later


def test_a_past_taken_in_at_once_is_the_one_taken_in_reading_by_reading() -> None:
    """The quick way into the history: same times, values and qualities, nothing twice."""
    plant = read_plant("four_tank")
    slow, quick = (load_truth(plant)(plant, seed=1003, start=NOON) for _ in range(2))
    one_by_one = {tag.name: TagHistory() for tag in plant.tags}
    at_once = {tag.name: TagHistory() for tag in plant.tags}
    for hours in (1, 24):
        to = NOON + timedelta(hours=hours)
        new = sum(one_by_one[reading.tag].append(reading) for reading in slow.advance(to))
        samples = quick.advance_samples(to)
        assert sum(at_once[tag].extend(each) for tag, each in samples.items()) == new
        assert not any(at_once[tag].extend(each) for tag, each in samples.items())
    for name, past in one_by_one.items():
        assert at_once[name].times_us == past.times_us
        assert at_once[name].qualities == past.qualities
        good = np.array(past.qualities) == GOOD
        assert (np.array(at_once[name].values)[good] == np.array(past.values)[good]).all()
    assert any(quality != GOOD for past in one_by_one.values() for quality in past.qualities)


def test_the_plc_accepts_and_refuses_where_the_client_sees_it() -> None:
    """Accepted setpoints show with the next sample; refusals come back as a status per write."""

    async def story() -> None:
        async with live_tank(60) as emulator, Session(emulator.plant) as session:
            await session.write("pump.setpoint", 7.25)
            before = (await session.read(["pump.setpoint"]))["pump.setpoint"]
            assert before.value == 5.0, "a write shows with a sample, never with an old time"
            give_up_s = time.monotonic() + 10
            while (shown := await session.read(["pump.setpoint", "pump.mode"])) and (
                shown["pump.setpoint"].value != 7.25
            ):
                assert time.monotonic() < give_up_s
                await asyncio.sleep(0.02)
            assert shown["pump.mode"].value == 1.0
            assert shown["pump.setpoint"].source_time > before.source_time
            for name, value, status in (
                ("pump.setpoint", 99.0, "BadOutOfRange"),
                ("tank.level", 10.0, "Nothing was sent"),
                ("plc.speed", 1000.0, "Nothing was sent"),
            ):
                with pytest.raises(WriteFault, match=status):
                    await session.write(name, value)
            await session.write("plc.stop", 1)
            assert await session.read_node("plc.stop") == 1.0
            with pytest.raises(WriteFault, match="BadNotWritable"):
                await session.write("pump.setpoint", 6.0)
            await session.write("plc.heartbeat", 17)
            assert await session.read_node("plc.heartbeat") == 17.0

    asyncio.run(story())


def test_the_counters_count_what_was_emitted() -> None:
    """Distinct tags and source times: all of them, and those since going live."""

    async def story() -> None:
        ends_at = NOON + timedelta(minutes=2)
        async with live_tank(600, ends_at=ends_at) as emulator, Session(emulator.plant) as session:
            await until(lambda: emulator.truth.now >= ends_at, "the last sample")
            tags = len(emulator.plant.tags)
            assert await session.read_node(READINGS_EMITTED_LIVE) == 12 * tags
            assert await session.read_node(READINGS_EMITTED) == (216 + 12) * tags
            assert emulator.emitted == (216 + 12) * tags

    asyncio.run(story())


def test_a_late_emulator_catches_up_without_skipping() -> None:
    """After the process was held up, every sample still comes, in order."""

    async def story() -> None:
        async with live_tank(600) as emulator, Session(emulator.plant) as session:
            live: list[Reading] = []
            await session.subscribe(live.extend, ["tank.level"])
            await until(lambda: len(live) > 5, "the first readings")
            held_until = time.monotonic() + 0.5
            while time.monotonic() < held_until:
                pass  # this process does nothing else for half a second: 30 samples
            await until(lambda: len(live) > 60, "the readings after")
            times = [each.source_time for each in live]
            assert times == [times[0] + k * timedelta(seconds=10) for k in range(len(times))]

    asyncio.run(story())


def test_a_taken_port_is_one_clear_message() -> None:
    """The address, the reason and what to do; nothing is left behind."""

    async def story() -> str:
        async with live_tank() as emulator:
            with pytest.raises(EndpointUnavailable) as caught:
                await serve(emulator.plant, seed=0, start=NOON, truth_factory=Tank)
        return str(caught.value)

    message = asyncio.run(story())
    assert "is taken" in message
    assert "--port" in message


def test_it_binds_this_machine_only_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    """No security, so no other machine may reach it; the warning is on every start."""
    plant = one_tank(free_port())
    with pytest.raises(EndpointUnavailable, match="no security"):
        asyncio.run(
            serve(plant, seed=0, start=NOON, endpoint="opc.tcp://0.0.0.0:0", truth_factory=Tank)
        )

    async def story() -> None:
        async with live_tank():
            pass

    with caplog.at_level(logging.WARNING):
        asyncio.run(story())
    assert SECURITY_WARNING in caplog.text


def test_a_plant_without_a_truth_cannot_be_emulated() -> None:
    """A user's own plant file names a real plant; the message says so, and which ones can be."""
    with pytest.raises(UsageError, match=r"^one_tank: .* or emulate four_tank or furnace\.$"):
        asyncio.run(serve(one_tank(free_port()), seed=0, start=NOON))


def test_grid_times_are_floored_since_1970() -> None:
    """A start between two samples means the one before."""
    odd = datetime(2026, 1, 5, 12, 0, 19, 999999, tzinfo=UTC)
    assert on_grid(odd, 10.0) == NOON + timedelta(seconds=10)
    assert on_grid(NOON, 60.0) == NOON


SERVE_FOUR_TANK = """
    import asyncio, sys
    from datetime import UTC, datetime
    from connectors.emulator import serve
    from twin.plant import Plant, read_plant

    asyncio.run(serve(
        read_plant("four_tank"), seed=1001, speed=60.0,
        start=datetime(2026, 1, 5, 12, tzinfo=UTC), endpoint=sys.argv[1],
        on_ready=lambda live: print(live.endpoint, live.past_readings, flush=True),
    ))
"""


def test_four_tank_runs_in_a_process_of_its_own() -> None:
    """The shipped truth over the wire from another process: two days of past, live at 60×."""
    endpoint = f"opc.tcp://127.0.0.1:{free_port()}/plantwright/four_tank"
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SERVE_FOUR_TANK), endpoint],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().split() == [endpoint, str(2 * 8640 * 32)]
        asyncio.run(_look_at_four_tank(endpoint))
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
        assert SECURITY_WARNING in errors
    finally:
        process.kill()


async def _look_at_four_tank(endpoint: str) -> None:
    plant = read_plant("four_tank")
    async with Session(plant, endpoint=endpoint) as session:
        assert session.clock.speed == 60.0
        live: list[Reading] = []
        await session.subscribe(live.extend)
        await until(lambda: len(live) > 20 * 32, "20 rows of 32 tags", 60)
        emitted = await session.read_node(READINGS_EMITTED_LIVE)
        assert emitted is not None
        assert emitted >= len(live) - 32
        with pytest.raises(WriteFault):  # no heartbeat yet
            await session.write("pump_1.setpoint", 8.0)
        await session.write("plc.heartbeat", 1)
        await session.write("pump_1.setpoint", 8.0)
        await until(lambda: ("pump_1.mode", 1.0) in {(r.tag, r.value) for r in live}, "REMOTE")


COLD_START = """
    import asyncio, sys
    from dataclasses import replace
    from datetime import datetime
    from connectors.emulator import serve
    from twin.plant import Plant, read_plant

    plant = read_plant("four_tank")
    plant = replace(plant, opcua=replace(plant.opcua, history_days=0.1))
    began, start = (datetime.fromisoformat(text) for text in sys.argv[2:])
    asyncio.run(serve(
        plant, seed=1001, speed=60.0, began=began, start=start, endpoint=sys.argv[1],
        on_ready=lambda live: print("ready", flush=True),
    ))
"""


def test_a_killed_emulator_comes_back_as_a_plc_after_a_cold_start() -> None:
    """AUTO, no stop, no heartbeat, nowhere a trace of REMOTE; and AUTO goes on without a bump."""
    endpoint = f"opc.tcp://127.0.0.1:{free_port()}/plantwright/four_tank"
    began, start = NOON - timedelta(hours=2), NOON
    for story, lived in ((_go_remote, timedelta(0)), (_find_auto, timedelta(minutes=30))):
        moments = (str(began), str(start + lived))
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(COLD_START), endpoint, *moments],
            cwd=Path(__file__).parents[1],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            asyncio.run(story(endpoint))
        finally:
            process.kill()
            process.communicate()


async def _go_remote(endpoint: str) -> None:
    async with Session(read_plant("four_tank"), endpoint=endpoint) as session:
        live: list[Reading] = []
        await session.subscribe(live.extend, ["pump_1.mode"])
        await session.write("plc.heartbeat", 1)
        await session.write("pump_1.setpoint", 8.0)
        await until(lambda: bool(live) and live[-1].value == 1.0, "REMOTE")


async def _find_auto(endpoint: str) -> None:
    pumps = ("pump_1", "pump_2")
    async with Session(read_plant("four_tank"), endpoint=endpoint) as session:
        live: list[Reading] = []
        await session.subscribe(live.extend)
        at_start = session.clock.now()
        assert await session.read_node("plc.stop") == 0.0
        assert await session.read_node("plc.heartbeat") == 0.0
        with pytest.raises(WriteFault, match="BadNotWritable"):
            await session.write("pump_1.setpoint", 8.0)
        await until(lambda: len(live) > 12 * 32, "two minutes of live rows")
        names = [f"{pump}.{kind}" for pump in pumps for kind in ("mode", "setpoint")]
        past = session.history(NOON - timedelta(hours=1), live[-1].source_time, names)
        rows = [each async for batch in past for each in batch]
        for pump in pumps:
            modes = {each.value for each in [*rows, *live] if each.tag == f"{pump}.mode"}
            assert modes == {0.0}
            path = {r.source_time: r.value for r in rows if r.tag == f"{pump}.setpoint"}
            steps = [abs(b - a) for a, b in pairwise(path[at] for at in sorted(path))]
            assert max(path) > at_start
            assert max(steps) <= 3 * max(steps[: len(steps) // 2]), "no bump at the restart"


def test_what_no_client_may_write_is_refused_and_nothing_else_happens() -> None:
    """An empty write, a level, the speed: another client than ours hears so; the server goes on."""

    async def story() -> None:
        async with live_tank(60) as emulator, Session(emulator.plant) as session:
            node = session._node("pump.setpoint").node_id
            (status,) = await session._link.services.write_attributes([node], [ua.DataValue()])
            assert status.name == "BadTypeMismatch"
            data = ua.DataValue(ua.Variant(11.0, ua.VariantType.Double))
            for name in ("tank.level", "plc.speed"):
                nodes = [session._node(name).node_id]
                (status,) = await session._link.services.write_attributes(nodes, [data])
                assert status.name == "BadNotWritable"
            assert (await session.read(["pump.setpoint"]))["pump.setpoint"].value == 5.0

    asyncio.run(story())


def test_a_plant_that_lived_on_while_its_server_was_down_catches_up_at_once() -> None:
    """A minute late at sixty times life: an hour of samples follows, none is left out."""

    async def story() -> None:
        plant = one_tank(free_port())
        assert plant.opcua is not None
        truth = Tank(plant, seed=0, start=NOON)
        emulator = Emulator(plant, truth, endpoint=plant.opcua.endpoint, speed=60)
        async with emulator:
            running = asyncio.create_task(emulator.run(late_s=60))
            await until(lambda: truth.now >= NOON + timedelta(hours=1), "an hour", within_s=15)
            running.cancel()
        assert emulator.emitted >= 360 * len(plant.tags)

    asyncio.run(story())


def short_furnace(port: int, **source: object) -> Plant:
    """The shipped furnace on another port, with two hours of past."""
    plant = read_plant("furnace")
    assert plant.opcua is not None
    endpoint = f"opc.tcp://127.0.0.1:{port}/furnace"
    more = {"endpoint": endpoint, "history_days": 1 / 12, "publishing_interval_ms": 50.0}
    return replace(plant, opcua=replace(plant.opcua, **{**more, **source}))


def _shown(live: list[Reading]) -> set[tuple[str, float | None]]:
    return {(each.tag, each.value) for each in live}


def test_the_furnace_is_laid_out_as_its_supplier_would_and_takes_setpoints() -> None:
    """Folders by identifiers, records that are seldom told; each zone goes REMOTE by itself."""

    async def story() -> None:
        plant = short_furnace(free_port())
        ready: list[Live] = []
        serving = asyncio.create_task(
            serve(plant, seed=1000, start=NOON, speed=60, on_ready=ready.append)
        )
        await until(lambda: bool(ready), "the furnace's server", 60)
        assert plant.opcua is not None
        async with Client(plant.opcua.endpoint) as client:
            index = await client.get_namespace_index(plant.opcua.namespace)
            top = await client.nodes.objects.get_child(f"{index}:furnace")
            folders = {(await each.read_browse_name()).Name for each in await top.get_children()}
            assert folders == {
                "zones",
                "header",
                "tracker",
                "discharge",
                "mill",
                "beam",
                "yard",
                "plc",
            }
            path = [f"{index}:{part}" for part in ("beam", "slot_28", "number")]
            slab = await top.get_child(path)
            assert slab.nodeid.Identifier == plant.tag("slot_28.slab").node
            assert await slab.read_value() >= 28
        async with Session(plant) as session:
            with pytest.raises(WriteFault, match="BadNotWritable"):  # no heartbeat yet
                await session.write("zone_2.setpoint", 1111.0)
            await session.write("plc.heartbeat", 1)
            with pytest.raises(WriteFault, match="BadOutOfRange"):
                await session.write("zone_2.setpoint", 1291.0)
            live: list[Reading] = []
            await session.subscribe(live.extend, ["zone_2.setpoint", "zone_2.mode", "zone_1.mode"])
            await session.write("zone_2.setpoint", 1111.0)
            await until(lambda: ("zone_2.setpoint", 1111.0) in _shown(live), "our setpoint")
            await until(lambda: ("zone_2.mode", 1.0) in _shown(live), "REMOTE")
            assert ("zone_1.mode", 1.0) not in _shown(live)
        serving.cancel()

    asyncio.run(story())


def test_slow_signals_are_published_only_when_they_are_told() -> None:
    """Ten minutes bring a record some times, a thermocouple sixty times; all are counted."""

    async def story() -> None:
        plant = short_furnace(free_port())
        truth = load_truth(plant)(plant, seed=1000, start=NOON - timedelta(hours=2))
        assert plant.opcua is not None
        emulator = Emulator(plant, truth, endpoint=plant.opcua.endpoint, speed=600)
        await emulator.remember_until(NOON)
        past = {name: len(each.times_us) for name, each in emulator.past.items()}
        assert past["zone_1.temperature"] == 720
        assert 12 <= past["slot_05.grade"] < past["slot_05.slab"] < 60
        assert emulator.emitted == sum(past.values())
        async with emulator, Session(plant) as session:
            live: list[Reading] = []
            await session.subscribe(live.extend, ["zone_1.temperature", "yard_16.grade"])
            ends_at = NOON + timedelta(minutes=10)
            running = asyncio.create_task(emulator.run(ends_at))
            await until(lambda: truth.now >= ends_at, "ten minutes", 60)
            await until(lambda: live[-1].source_time == ends_at, "the last publish")
            running.cancel()
            told = {tag: {r.source_time for r in live if r.tag == tag} for tag in
                    ("zone_1.temperature", "yard_16.grade")}  # fmt: skip
            assert len(told["zone_1.temperature"] - {NOON}) == 60
            assert 1 <= len(told["yard_16.grade"]) <= 5
            counted = await session.read_node(READINGS_EMITTED)
            assert counted == sum(len(each.times_us) for each in emulator.past.values())

    asyncio.run(story())
