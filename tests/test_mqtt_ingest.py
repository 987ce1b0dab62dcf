"""From a broker into the historian: each message once, in order, also where something dies."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiomqtt
import pytest
from collected import collecting
from each_database import locked
from faulty_network import FaultyNetwork
from live_broker import OPEN, SAVES_AT_ONCE, Broker, device, publish_all, topic_plant
from one_tank import NOON, Tank, free_port, live_tank, one_tank, until

from connectors.buffering import Buffering
from connectors.progress import SourceState
from twin.historian import Historian
from twin.plant import MqttSource, Plant, Role, Tag
from twin.records import Mark, Reading
from twin.state import plant_state

pytestmark = pytest.mark.mosquitto

START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)


@pytest.fixture
def historian(tmp_path: Path) -> Iterator[Historian]:
    with Historian.create(tmp_path / "plant.db") as each:
        yield each


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path / "broker") as each:
        yield each


def at(number: float) -> datetime:
    """A second each since the start."""
    return START + timedelta(seconds=number)


def message(number: float) -> str:
    return json.dumps({"value": number, "time": at(number).isoformat()})


def stored(plant: Plant, historian: Historian, tag: str) -> list[Reading]:
    far = timedelta(days=400)
    return historian.readings(plant, [tag], START - far, START + far)


def holds_all(plant: Plant, historian: Historian, count: int) -> None:
    """The counter of tag `a` without a hole, without a double, each at its time."""
    rows = stored(plant, historian, "a")
    assert [row.value for row in rows] == list(range(count))
    assert [row.source_time for row in rows] == [at(n) for n in range(count)]


async def send_until_taken(port: int, numbers: range) -> None:
    """A device that keeps a message until the broker has it."""
    left = list(numbers)
    while left:
        with suppress(aiomqtt.MqttError):
            async with device(port) as gauge:
                while left:
                    await gauge.publish("a", message(left[0]), qos=1, timeout=2)
                    left.pop(0)
        await asyncio.sleep(0.05)


def test_a_broker_away_for_five_seconds_loses_nothing(tmp_path: Path, historian: Historian) -> None:
    """kill -9 of the broker, 5 s nothing, a restart: every message once, and the gap is told."""
    with Broker(tmp_path / "saving", (OPEN, *SAVES_AT_ONCE)) as broker:
        plant = topic_plant(broker.port, {"a": "a"})

        async def story() -> None:
            async with collecting(plant, historian, once_linked=True) as told:
                await send_until_taken(broker.port, range(50))
                await until(lambda: historian.count(plant) == 50, "what came before")
                broker.kill()
                sending = asyncio.create_task(send_until_taken(broker.port, range(50, 100)))
                await until(
                    lambda: told[-1].sources[0].state is SourceState.LOST, "the loss of the link"
                )
                await asyncio.sleep(5)  # the fault is held for its time
                broker.start()
                await sending
                await until(lambda: historian.count(plant) == 100, "every message", 60)
                await until(lambda: told[-1].sources[0].reconnects >= 1, "the new link")
            holds_all(plant, historian, 100)
            assert any("not connected" in gap.reason for gap in historian.gaps(plant))

        asyncio.run(story())


def test_what_is_sent_at_qos_2_comes_once_also_when_the_link_breaks_on_its_way(
    broker: Broker, historian: Historian
) -> None:
    """Resets amid a stream over a slow line: no message is missing, none is stored twice."""

    async def story() -> None:
        async with FaultyNetwork(broker.port) as network:
            plant = topic_plant(network.port, {"a": "a"}, qos=2)
            async with collecting(plant, historian, once_linked=True) as told:
                network.bytes_per_s = 40_000.0
                async with device(broker.port) as gauge:
                    for numbers in (range(300), range(300, 600), range(600, 900)):
                        before, links = historian.count(plant), told[-1].sources[0].reconnects
                        sent = [gauge.publish("a", message(number), qos=2) for number in numbers]
                        await asyncio.gather(*sent)
                        await until(lambda n=before: historian.count(plant) > n, "the first ones")  # type: ignore[misc]  # bound now
                        network.cut()
                        await until(
                            lambda n=links: told[-1].sources[0].reconnects > n,  # type: ignore[misc]  # bound now
                            "another link",
                        )
                network.bytes_per_s = 0.0
                await until(lambda: historian.count(plant) >= 900, "every message", 20)
            holds_all(plant, historian, 900)

    asyncio.run(story())


def test_what_is_sent_while_no_collector_runs_is_filled_in(
    broker: Broker, historian: Historian
) -> None:
    """The broker queues for us; the gap of our absence is a row, and it is filled."""
    plant = topic_plant(broker.port, {"a": "a"})

    async def story() -> None:
        async with collecting(plant, historian, once_linked=True):
            await publish_all(broker.port, "a", [message(n) for n in range(20)])
            await until(lambda: historian.count(plant) == 20, "the first messages")
        await publish_all(broker.port, "a", [message(n) for n in range(20, 300)])
        async with collecting(plant, historian, once_linked=True):
            await until(lambda: historian.count(plant) == 300, "what waited")
            await until(
                lambda: all(
                    gap.is_filled
                    for gap in historian.gaps(plant)
                    if gap.started_at >= at(0) and gap.ended_at is not None
                ),
                "the filled gap",
            )
        holds_all(plant, historian, 300)

    asyncio.run(story())


def test_what_finds_no_room_waits_at_the_broker(broker: Broker, historian: Historian) -> None:
    """The database away and a spool that is full: nothing is acknowledged, so nothing is lost."""
    plant = topic_plant(broker.port, {"a": "a"})

    async def story() -> None:
        impatient = Historian.open(historian.path, busy_deadline_s=0.1)
        async with collecting(
            plant, impatient, once_linked=True, buffering=Buffering(quota_bytes=1_000)
        ) as told:
            await publish_all(broker.port, "a", [message(n) for n in range(20)])
            await until(lambda: historian.count(plant) == 20, "the first messages")
            with locked(historian.path):
                sent = 20
                while not told[-1].spool.losing:
                    await publish_all(broker.port, "a", [message(n) for n in range(sent, sent + 9)])
                    sent += 9
                    assert sent < 20_000
                await publish_all(broker.port, "a", [message(n) for n in range(sent, sent + 99)])
            await until(lambda: historian.count(plant) == sent + 99, "every message", 60)
        holds_all(plant, historian, sent + 99)
        assert not [gap for gap in historian.gaps(plant) if "quota" in gap.reason]

    asyncio.run(story())


def test_a_wrong_message_is_a_bad_reading_and_told_once(
    broker: Broker, historian: Historian
) -> None:
    """A device that sends rubbish ten times: ten Bad readings, one line of the audit."""
    plant = topic_plant(broker.port, {"a": "a"})

    async def story() -> None:
        async with collecting(plant, historian, once_linked=True):
            await publish_all(broker.port, "a", ["rubbish"] * 10)
            await publish_all(broker.port, "a", [message(0)])
            await until(lambda: historian.count(plant) == 11, "every message")

    asyncio.run(story())
    rows = stored(plant, historian, "a")
    bad = [row for row in rows if row.value is None]
    assert len(bad) == 10
    assert all(row.quality >> 30 == 2 and row.marks & Mark.UNDATED for row in bad)
    told = [each for each in historian.events(plant) if "rubbish" in each.message]
    assert [each.subject for each in told] == ["a"]


def test_a_retained_value_ends_no_silence(broker: Broker, historian: Historian) -> None:
    """A broker's memory of a dead device is no life: the gap stays open until a live message."""
    plant = topic_plant(broker.port, {"a": "a"})

    async def story() -> None:
        async with device(broker.port) as gauge:
            await gauge.publish("a", message(0), qos=1, retain=True)
        async with collecting(plant, historian, once_linked=True):
            await until(lambda: historian.count(plant) == 1, "the retained value")
        async with collecting(plant, historian, once_linked=True):
            pass
        [row] = stored(plant, historian, "a")
        assert row.marks == Mark.BACKFILLED
        (gap,) = historian.gaps(plant)
        assert gap.ended_at is None

    asyncio.run(story())


def test_an_outage_of_which_nothing_was_kept_is_not_called_filled(
    broker: Broker, historian: Historian
) -> None:
    """A broker that forgets: until the next message nothing is known, and then that it is lost."""
    plant = topic_plant(broker.port, {"a": "a"})

    def now() -> str:
        return json.dumps({"value": 1, "time": datetime.now(UTC).isoformat()})

    async def story() -> None:
        async with collecting(plant, historian, once_linked=True) as told:
            await publish_all(broker.port, "a", [now()])
            await until(lambda: told[-1].sources[0].state is SourceState.LIVE, "a message")
            broker.kill()
            await until(lambda: told[-1].sources[0].state is SourceState.LOST, "the loss")
            broker.start()
            await until(lambda: told[-1].sources[0].state is SourceState.FROZEN, "a link again")
            assert historian.gaps(plant)[-1].ended_at is None
            await publish_all(broker.port, "a", [now()])
            await until(lambda: historian.count(plant) == 2, "the next message")
            await until(lambda: historian.gaps(plant)[-1].filled_until is not None, "the end")
        gap = historian.gaps(plant)[-1]
        assert not gap.is_filled
        times = [row.source_time for row in stored(plant, historian, "a")]
        assert [gap.started_at, gap.ended_at] == times

    asyncio.run(story())


def test_a_late_sample_that_waited_opens_no_gap_of_days(
    broker: Broker, historian: Historian
) -> None:
    """Only a sample of last week waits at a restart: the week between is no hole of the queue."""
    plant = topic_plant(broker.port, {"a": "a"})

    def dated(when: datetime) -> str:
        return json.dumps({"value": 1, "time": when.isoformat()})

    async def story() -> None:
        async with collecting(plant, historian, once_linked=True):
            await publish_all(broker.port, "a", [dated(datetime.now(UTC))])
            await until(lambda: historian.count(plant) == 1, "a live one")
        await publish_all(broker.port, "a", [dated(START - timedelta(days=7))])
        async with collecting(plant, historian, once_linked=True):
            await until(lambda: historian.count(plant) == 2, "what waited")
            await publish_all(broker.port, "a", [dated(datetime.now(UTC))])
            await until(lambda: historian.count(plant) == 3, "another live one")
            await until(
                lambda: all(gap.ended_at is not None for gap in historian.gaps(plant)), "the ends"
            )
        assert min(gap.started_at for gap in historian.gaps(plant)) >= START

    asyncio.run(story())


def test_a_late_sample_ends_no_outage_of_which_the_broker_kept_nothing(
    tmp_path: Path, historian: Historian
) -> None:
    """A broker that forgot us, and last week's sample first: the gap lasts until a live one."""
    with Broker(tmp_path / "forgetful") as broker:
        plant = topic_plant(broker.port, {"a": "a"})

        def dated(when: datetime) -> str:
            return json.dumps({"value": 1, "time": when.isoformat()})

        async def story() -> None:
            async with collecting(plant, historian, once_linked=True) as told:
                await publish_all(broker.port, "a", [dated(datetime.now(UTC))])
                await until(lambda: historian.count(plant) == 1, "a live one")
                broker.kill()
                await asyncio.sleep(4)  # the fault is held for longer than three samples
                broker.start()
                late = START - timedelta(days=7)
                while historian.count(plant) == 1:  # subscribed anew, and not a moment later
                    late += timedelta(seconds=1)
                    await publish_all(broker.port, "a", [dated(late)])
                back = datetime.now(UTC)
                await until(lambda: told[-1].sources[0].reconnects == 1, "the new link")
                await asyncio.sleep(4)
                await publish_all(broker.port, "a", [dated(datetime.now(UTC))])
                ended = lambda: all(gap.ended_at is not None for gap in historian.gaps(plant))  # noqa: E731  # read twice
                await until(ended, "the end")
            [outage] = [gap for gap in historian.gaps(plant) if "not connected" in gap.reason]
            assert outage.ended_at is not None
            assert outage.ended_at >= back
            assert not outage.is_filled

        asyncio.run(story())


def test_a_laboratorys_sample_comes_hours_late(broker: Broker, historian: Historian) -> None:
    """Both its times are kept; it moves no clock, is nobody's newest, and rollups learn of it."""
    plant = topic_plant(broker.port, {"a": "a", "lab": "lab"})
    fast, lab = plant.tags
    plant = replace(plant, tags=(fast, replace(lab, max_age_s=8 * 3600.0)))
    now = datetime.now(UTC)
    taken = (now - timedelta(hours=4)).replace(microsecond=0)

    def at_now(value: float, moment: datetime) -> str:
        return json.dumps({"value": value, "time": moment.isoformat()})

    async def story() -> None:
        async with collecting(plant, historian, once_linked=True) as told:
            await publish_all(broker.port, "a", [at_now(1, now)])
            await until(lambda: historian.count(plant) == 1, "the fast value")
            assert historian.maintain(now, plant).due == 0
            before = told[-1].plant_now
            await publish_all(broker.port, "lab", [at_now(42, taken)])
            await until(lambda: historian.count(plant) == 2, "the sample")
            await until(lambda: told[-1].waiting == 0, "the end of it")
            after = told[-1].plant_now
            assert before is not None
            assert after is not None
            assert after >= before

    asyncio.run(story())
    last = historian.last_readings(plant)
    assert last["lab"].source_time == taken
    assert last["lab"].arrival_time >= now
    assert last["a"].source_time == now
    assert historian.newest(plant) == now
    state = plant_state(plant, last, now + timedelta(seconds=1))
    assert state.value("lab") == 42  # four hours old, and its tag lets it be eight
    assert state.tags["lab"].source_age_s > 4 * 3600
    assert historian.maintain(now, plant).rolled_stretches >= 1


def test_a_late_sample_over_opc_ua_is_treated_the_same(historian: Historian) -> None:
    """An analyser whose source time is four hours behind: both times kept, the clock goes on."""

    class Analyser(Tank):
        def _row(self, row: int) -> list[Reading]:
            taken = self.now - timedelta(hours=4)
            return [
                replace(each, source_time=taken) if each.tag == "tank.sensor" else each
                for each in super()._row(row)
            ]

    async def story() -> None:
        plant = one_tank(free_port())
        ends_at = NOON + timedelta(minutes=2)
        assert plant.opcua is not None
        start = NOON - timedelta(days=plant.opcua.history_days)
        truth = Analyser(plant, seed=0, start=start)
        async with live_tank(60, plant=plant, truth=truth, ends_at=ends_at) as emulator:
            async with collecting(plant, historian, once_linked=True) as told:
                await until(lambda: truth.now >= ends_at, "the last sample", 60)
                await until(lambda: historian.newest(plant) == ends_at, "the last reading")
                plant_now = told[-1].plant_now
                assert plant_now is not None
                assert plant_now >= ends_at - timedelta(seconds=30)
            assert emulator.truth.now == ends_at
        late = historian.last_readings(plant)["tank.sensor"]
        delay = late.arrival_time - late.source_time
        assert timedelta(hours=3.9) < delay < timedelta(hours=4.2)
        assert historian.last_readings(plant)["tank.level"].source_time == ends_at

    asyncio.run(story())


def test_two_sources_of_one_plant_meet_in_one_historian(
    broker: Broker, historian: Historian
) -> None:
    """An OPC UA server and an MQTT broker: each its own link, one clock, nothing lost."""

    async def story() -> None:
        ends_at = NOON + timedelta(minutes=5)
        async with live_tank(60, ends_at=ends_at) as emulator:
            gateway = MqttSource(
                kind="mqtt", name="gateway", broker=f"mqtt://127.0.0.1:{broker.port}"
            )
            gas = Tag(name="gas.flow", role=Role.DV, unit="", source="gateway", node="gas")
            plant = replace(emulator.plant, sources=(gateway,), tags=(*emulator.plant.tags, gas))
            sent = [
                json.dumps({"value": n, "time": (NOON + timedelta(seconds=n)).isoformat()})
                for n in range(100)
            ]
            async with collecting(plant, historian, once_linked=True) as told:
                await publish_all(broker.port, "gas", sent)
                await until(lambda: emulator.truth.now >= ends_at, "the last sample", 60)
                await until(
                    lambda: historian.count(plant) == emulator.emitted + 100, "every reading"
                )
                names = [each.name for each in told[-1].sources]
            assert names == ["opcua", "gateway"]
            far = timedelta(days=1)
            rows = historian.readings(plant, ["gas.flow"], NOON - far, NOON + far)
            assert [row.value for row in rows] == list(range(100))

    asyncio.run(story())


def test_a_seldom_sample_that_is_not_due_is_no_frozen_source(
    broker: Broker, historian: Historian
) -> None:
    """A laboratory's tag stays well over a new link, until its age is over since it was heard."""
    old = {"lab": 3600.0, "gauge": 5.0}

    async def story() -> None:
        async with FaultyNetwork(broker.port) as network:
            plant = topic_plant(network.port, {name: name for name in old})
            aged = tuple(replace(tag, max_age_s=old[tag.name]) for tag in plant.tags)
            plant = replace(plant, tags=aged)
            async with collecting(plant, historian, once_linked=True) as told:
                for name in old:
                    await publish_all(broker.port, name, [message(0)])
                await until(lambda: told[-1].link == "live", "its first readings")
                await until(lambda: historian.count(plant) == 2, "both")
                network.cut()
                await until(lambda: told[-1].sources[0].reconnects == 1, "another link")
                await until(lambda: told[-1].link == "live", "that nothing is due")
                assert not told[-1].sources[0].silent
                assert not told[-1].sources[0].last_reading_age_s < 2.0, "nothing has come"
                frozen = SourceState.FROZEN
                await until(lambda: told[-1].sources[0].state is frozen, "the gauge's age")

    asyncio.run(story())


COLLECT = """
    import asyncio, sys
    from pathlib import Path
    from live_broker import topic_plant
    from connectors.ingest import collect
    from twin.historian import Historian

    async def work():
        plant = topic_plant(int(sys.argv[1]), {"a": "a"})
        with Historian.create(Path(sys.argv[2])) as historian:
            await collect(plant, historian, stop=asyncio.Event())

    asyncio.run(work())
"""


def test_a_collector_killed_again_and_again_loses_nothing(broker: Broker, tmp_path: Path) -> None:
    """kill -9 at random moments while messages come: the broker keeps what was not safe."""
    path, plant = tmp_path / "killed.db", topic_plant(broker.port, {"a": "a"})
    tests, chance = Path(__file__).parent, random.Random(1000)
    environment = {**os.environ, "PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}"}
    command = [sys.executable, "-c", textwrap.dedent(COLLECT), str(broker.port), str(path)]

    async def story() -> None:
        with Historian.create(path) as historian:

            def count() -> int:
                historian.register(plant)
                return historian.count(plant)

            sent = 0
            for life in range(4):
                process = subprocess.Popen(command, env=environment)
                try:
                    if life == 0:  # from here on the broker knows us
                        await until(lambda: bool(historian.events(plant, kind="link")), "a link")
                    more = range(sent, sent + 400)
                    sent += 400
                    sending = asyncio.create_task(
                        publish_all(broker.port, "a", [message(n) for n in more])
                    )
                    if life < 3:
                        goal = more.start + chance.randrange(1, 400)
                        await until(lambda: count() >= goal, "some of them")  # noqa: B023  # waited for at once
                    else:
                        await until(lambda: count() == 1600, "all of them", 60)
                    await sending
                finally:
                    process.kill()
                    process.wait()
            holds_all(plant, historian, sent)

    asyncio.run(story())
