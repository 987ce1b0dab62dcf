"""A session tells the truth about the plant: every value, its quality, its time, or why not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from asyncua import Server, ua
from one_tank import NAMESPACE, NOON, forget, free_port, live_tank, one_tank, until

from connectors.opcua import Session
from twin.errors import EndpointUnavailable, NodeFault, WriteFault
from twin.records import GOOD, UNCERTAIN, Mark, Reading


@asynccontextmanager
async def odd_server(port: int, values: dict[str, Any]) -> AsyncIterator[Server]:
    """A server that holds whatever a test gives it, under the plant's node names."""
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/one_tank")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    await server.register_namespace("urn:somebody:else")  # our index is not the usual one
    index = await server.register_namespace(NAMESPACE)
    for name, value in values.items():
        node = await server.nodes.objects.add_variable(
            ua.NodeId(name, index), f"{index}:{name}", value
        )
        await node.set_writable()
    async with server:
        yield server


def usual_values(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "pump.setpoint": 5.0,
        "pump.mode": ua.Variant(0, ua.VariantType.Int32),
        "drain.setpoint": 5.0,
        "drain.mode": ua.Variant(0, ua.VariantType.Int32),
        "tank.level": 10.0,
        "tank.sensor": 10.0,
        "plc.heartbeat": ua.Variant(0, ua.VariantType.UInt32),
        "plc.stop": False,
        "plc.speed": 1.0,
    }
    return {**values, **changes}


async def put(server: Server, name: str, value: Any) -> None:
    """Show a data value on a node, as a driver would: without asking anybody."""
    index = await server.get_namespace_index(NAMESPACE)
    node = server.iserver.aspace[ua.NodeId(name, index)]
    attribute = node.attributes[ua.AttributeIds.Value]
    attribute.value = value
    for handle, callback in attribute.datachange_callbacks.items():
        await callback(handle, value)


def test_every_sample_arrives_also_when_the_value_does_not_change() -> None:
    """At 600 times the plant's speed each tag's source times come without a hole or a repeat."""

    async def story() -> None:
        async with live_tank() as emulator, Session(emulator.plant) as session:
            arrived: list[Reading] = []
            await session.subscribe(arrived.extend)
            await until(lambda: len(arrived) > 600, "600 readings")
            for tag in emulator.plant.tags:
                times = [each.source_time for each in arrived if each.tag == tag.name]
                steps = {(b - a).total_seconds() for a, b in pairwise(times)}
                assert steps == {10.0}, tag.name
            modes = {each.value for each in arrived if each.tag == "pump.mode"}
            assert modes == {0.0}

    asyncio.run(story())


def test_history_and_subscription_tell_the_same_story() -> None:
    """What was delivered live and what HistoryRead returns are equal in value and quality."""

    async def story() -> None:
        async with live_tank() as emulator, Session(emulator.plant) as session:
            live: list[Reading] = []
            await session.subscribe(live.extend)
            await until(lambda: len(live) > 200, "200 readings")
            start, end = live[0].source_time, live[150].source_time
            past = [each async for batch in session.history(start, end) for each in batch]
            told = {(r.tag, r.source_time): (r.value, r.quality) for r in past}
            seen = {
                (r.tag, r.source_time): (r.value, r.quality)
                for r in live
                if start <= r.source_time <= end
            }
            assert told == seen
            assert any(quality for _, quality in told.values())
            assert {r.marks for r in past} == {Mark.BACKFILLED}
            assert {r.marks for r in live} == {Mark.NONE}

    asyncio.run(story())


def test_history_longer_than_one_answer_comes_whole() -> None:
    """Continuation points are followed to the end, for every tag alike."""

    async def story() -> None:
        async with live_tank(history_days=1.0) as emulator, Session(emulator.plant) as session:
            expected = {name: len(past.times_us) for name, past in emulator.past.items()}
            batches = [batch async for batch in session.history(NOON - timedelta(days=2), NOON)]
            counts = dict.fromkeys(expected, 0)
            for each in (each for batch in batches for each in batch):
                counts[each.tag] += 1
            assert len(batches) > 3
            assert counts == dict.fromkeys(expected, 8640)

    asyncio.run(story())


ODD_VALUES = {
    "nan": (ua.Variant(float("nan")), GOOD, None),
    "infinity": (ua.Variant(float("inf")), GOOD, None),
    "text": (ua.Variant("12.5"), GOOD, None),
    "array": (ua.Variant([1.0, 2.0]), GOOD, None),
    "nothing": (ua.Variant(None), GOOD, None),
    "bad": (ua.Variant(None), ua.StatusCodes.BadSensorFailure, None),
    "boolean": (ua.Variant(True), GOOD, 1.0),
    "int16": (ua.Variant(7, ua.VariantType.Int16), GOOD, 7.0),
}


def test_what_is_no_good_number_arrives_as_none_never_as_zero() -> None:
    """Read and subscription alike keep such a reading, with Bad quality and its source time."""

    async def story() -> None:
        port = free_port()
        async with odd_server(port, usual_values()) as server, Session(one_tank(port)) as session:
            arrived: list[Reading] = []
            await session.subscribe(arrived.extend, ["tank.level"])
            await until(lambda: len(arrived) == 1, "the present value")
            for row, (name, (variant, status, number)) in enumerate(ODD_VALUES.items(), 1):
                stamp = NOON + timedelta(seconds=row)
                shown = ua.DataValue(variant, ua.StatusCode(status), SourceTimestamp=stamp)
                await put(server, "tank.level", shown)
                await until(lambda at=stamp: arrived[-1].source_time == at, name)
                for each in (arrived[-1], (await session.read(["tank.level"]))["tank.level"]):
                    assert (each.value, each.source_time) == (number, stamp), name
                    assert (each.quality >> 30 == 2) is (number is None), name

    asyncio.run(story())


def test_a_reading_without_source_time_is_uncertain() -> None:
    """Nobody knows how old it is, so it is stored but never good."""

    async def story() -> None:
        port = free_port()
        async with odd_server(port, usual_values()) as server, Session(one_tank(port)) as session:
            await put(server, "tank.level", ua.DataValue(ua.Variant(9.0)))
            read = (await session.read())["tank.level"]
            assert (read.value, read.quality, read.is_good) == (9.0, UNCERTAIN, False)
            assert read.marks == Mark.UNDATED
            assert (await session.read())["tank.sensor"].quality == GOOD

    asyncio.run(story())


@pytest.mark.parametrize("year", [1601, 9999])
def test_the_earliest_and_the_latest_stamp_mean_no_time(year: int) -> None:
    """OPC UA's ends of time: such a value is uncertain, and the plant clock stays where it was."""

    async def story() -> None:
        port = free_port()
        async with odd_server(port, usual_values()) as server, Session(one_tank(port)) as session:
            before = session.clock.now()
            stamp = datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC)
            shown = ua.DataValue(ua.Variant(9.0), ua.StatusCode(0), SourceTimestamp=stamp)
            await put(server, "tank.level", shown)
            read = (await session.read())["tank.level"]
            assert (read.value, read.quality) == (9.0, UNCERTAIN)
            assert read.source_time == read.arrival_time
            assert session.clock.now() - before < timedelta(minutes=1)

    asyncio.run(story())


def test_a_bad_value_never_sets_the_clock() -> None:
    """A broken device that dates itself years ahead does not make every good reading old."""

    async def story() -> None:
        port = free_port()
        async with odd_server(port, usual_values()) as server:
            ahead = NOON + timedelta(days=3650)
            await put(server, "tank.level", stamped(10.0, NOON))
            await put(server, "tank.sensor", stamped(9.0, ahead, ua.StatusCodes.BadSensorFailure))
            for name in ("pump.setpoint", "drain.setpoint"):
                await put(server, name, stamped(5.0, NOON))
            for name in ("pump.mode", "drain.mode"):
                await put(server, name, stamped(ua.Variant(0, ua.VariantType.Int32), NOON))
            async with Session(one_tank(port)) as session:
                await session.read()
                assert session.clock.now() - NOON < timedelta(minutes=1)

    asyncio.run(story())


def stamped(value: Any, at: datetime, status: int = GOOD) -> ua.DataValue:
    variant = value if isinstance(value, ua.Variant) else ua.Variant(value)
    return ua.DataValue(variant, ua.StatusCode(status), SourceTimestamp=at)


IMPOSSIBLE = (None, ua.StatusCodes.BadInvalidTimestamp)


async def show_everything(server: Server, at: datetime) -> None:
    """Every tag of the plant shows a good value of one moment."""
    for name in ("pump.setpoint", "drain.setpoint", "tank.level", "tank.sensor"):
        await put(server, name, stamped(10.0, at))
    for name in ("pump.mode", "drain.mode"):
        await put(server, name, stamped(ua.Variant(0, ua.VariantType.Int32), at))


@pytest.mark.parametrize("speed_node", ["plc.speed", None])
def test_a_value_from_the_future_is_no_value_and_moves_no_clock(speed_node: str | None) -> None:
    """It comes at its arrival, Bad and told; every one is kept, and the next true one is good."""

    async def story() -> None:
        port, told = free_port(), []
        years = timedelta(days=3650)
        plant = one_tank(port, speed_node=speed_node)
        async with odd_server(port, usual_values()) as server:
            await show_everything(server, NOON)
            async with Session(
                plant, wall_now=lambda: NOON, on_misdated=lambda *about: told.append(about)
            ) as session:
                arrived: list[Reading] = []
                await session.subscribe(arrived.extend, ["tank.level"])
                await until(lambda: len(arrived) == 1, "the present value")
                ahead = [NOON + years + timedelta(seconds=k) for k in range(3)]
                for stamp in (*ahead, NOON + timedelta(hours=1)):
                    await put(server, "tank.level", stamped(3.0, stamp))
                await put(server, "tank.level", stamped(4.0, NOON + timedelta(seconds=10)))
                await until(lambda: len(arrived) == 6, "all that was shown")
                wrong, true = arrived[1:5], arrived[5]
                assert {(r.value, r.quality) for r in wrong} == {IMPOSSIBLE}
                assert len({r.source_time for r in wrong}) == 4
                assert all(NOON < r.source_time < NOON + timedelta(minutes=1) for r in wrong)
                assert (true.value, true.is_good) == (4.0, True)
                assert [about[:2] for about in told[:3]] == [("tank.level", at) for at in ahead]
                assert session.clock.now() < NOON + timedelta(minutes=1)
                await put(server, "tank.level", stamped(5.0, NOON + years))
                read = (await session.read(["tank.level"]))["tank.level"]
                assert (read.value, read.quality) == IMPOSSIBLE

    asyncio.run(story())


@pytest.mark.parametrize("speed_node", ["plc.speed", None])
def test_a_tag_that_is_years_ahead_at_the_first_connection_starts_no_clock(
    speed_node: str | None,
) -> None:
    """The others say what time it is, or the wall does."""

    async def story() -> None:
        port = free_port()
        async with odd_server(port, usual_values()) as server:
            await show_everything(server, NOON)
            await put(server, "tank.level", stamped(3.0, NOON + timedelta(days=3650)))
            plant = one_tank(port, speed_node=speed_node)
            async with Session(plant, wall_now=lambda: NOON) as session:
                assert timedelta(0) <= session.clock.now() - NOON < timedelta(minutes=1)
                read = await session.read()
                assert (read["tank.level"].value, read["tank.level"].quality) == IMPOSSIBLE
                assert read["tank.sensor"].is_good

    asyncio.run(story())


def test_a_stamp_of_long_ago_is_old_and_that_of_a_clock_never_set_is_none() -> None:
    """1999 stands as the time it says; 1970, where unset clocks begin, is no time."""

    async def story() -> None:
        port = free_port()
        async with odd_server(port, usual_values()) as server:
            await show_everything(server, NOON)
            async with Session(one_tank(port, speed_node=None), wall_now=lambda: NOON) as session:
                for year, quality in ((1999, GOOD), (1970, UNCERTAIN)):
                    stamp = datetime(year, 1, 1, 0, 5, tzinfo=UTC)
                    await put(server, "tank.level", stamped(9.0, stamp))
                    read = (await session.read(["tank.level"]))["tank.level"]
                    assert (read.value, read.quality) == (9.0, quality)
                    assert read.source_time == (stamp if quality == GOOD else read.arrival_time)
                    assert timedelta(0) <= session.clock.now() - NOON < timedelta(minutes=1)

    asyncio.run(story())


def test_a_past_that_lies_in_the_future_is_left_out() -> None:
    """What a server's history says of years to come is told and never handed on."""

    async def story() -> None:
        async with live_tank(ends_at=NOON) as emulator:
            stamp, told = NOON + timedelta(days=3650), []
            emulator.past["tank.level"].append(Reading("tank.level", 3.0, GOOD, stamp, stamp))
            async with Session(
                emulator.plant, on_misdated=lambda *about: told.append(about[:2])
            ) as session:
                start = NOON - timedelta(minutes=10)
                batches = [batch async for batch in session.history(start, stamp)]
                times = [r.source_time for batch in batches for r in batch if r.tag == "tank.level"]
                assert (times[0], times[-1], len(times)) == (start, NOON, 61)
                assert told == [("tank.level", stamp)]

    asyncio.run(story())


def test_a_plc_node_that_is_not_good_shows_nothing() -> None:
    """A stop node that says false with Bad quality has not said that we may write."""

    async def story() -> None:
        port = free_port()
        async with odd_server(port, usual_values()) as server, Session(one_tank(port)) as session:
            assert await session.read_node("plc.stop") == 0.0
            for status in (ua.StatusCodes.BadNoCommunication, ua.StatusCodes.UncertainInitialValue):
                await put(server, "plc.stop", stamped(False, NOON, status))
                assert await session.read_node("plc.stop") is None

    asyncio.run(story())


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan")])
def test_a_speed_that_no_clock_can_run_at_is_one_clear_message(speed: float) -> None:
    """The node, what it shows and what is needed; never a traceback, never a guess."""

    async def story() -> None:
        port = free_port()
        async with odd_server(port, usual_values(**{"plc.speed": speed})):
            with pytest.raises(NodeFault, match=r"plc\.speed shows .*above zero is needed"):
                async with Session(one_tank(port)):
                    pass

    asyncio.run(story())


def refuse_monitoring(server: Server, name: str) -> None:
    """Let the server refuse to monitor one node, as an access list would."""
    service = server.iserver.subscription_service
    inner = service.create_monitored_items

    async def create(params: Any, *rest: Any) -> list[Any]:
        results = await inner(params, *rest)
        for item, result in zip(params.ItemsToCreate, results, strict=True):
            if item.ItemToMonitor.NodeId.Identifier == name:
                result.StatusCode = ua.StatusCode(ua.StatusCodes.BadUserAccessDenied)
        return results

    service.create_monitored_items = create


def test_one_tag_that_cannot_be_monitored_does_not_silence_the_others() -> None:
    """A strict session names it and ends; another leaves it out, says so and hears the rest."""

    async def story() -> None:
        port = free_port()
        async with odd_server(port, usual_values()) as server:
            refuse_monitoring(server, "tank.sensor")
            async with Session(one_tank(port)) as session:
                with pytest.raises(NodeFault, match=r"tank\.sensor: cannot be monitored"):
                    await session.subscribe(lambda _: None)
            async with Session(one_tank(port), is_strict=False) as session:
                arrived: list[Reading] = []
                await session.subscribe(arrived.extend)
                assert session.faulty == ("tank.sensor",)
                await until(lambda: "tank.level" in {each.tag for each in arrived}, "the level")

    asyncio.run(story())


def test_what_the_server_had_to_drop_is_told_before_what_came_after() -> None:
    """An overflow bit and a hole in the numbers of publishes both mean: readings are missing."""

    async def story() -> None:
        port = free_port()
        async with odd_server(port, usual_values()) as server, Session(one_tank(port)) as session:
            heard: list[object] = []
            await session.subscribe(
                lambda readings: heard.extend(each.source_time for each in readings),
                ["tank.level"],
                on_missed=lambda reason, tags: heard.append((reason, list(tags))),
            )
            await until(lambda: len(heard) == 1, "the present value")
            overflow = 0x480  # Good; its low bits are about the value; values were dropped
            await put(server, "tank.level", stamped(11.0, NOON, overflow))
            await until(lambda: NOON in heard, "the value after the dropped ones")
            (subscription,) = server.iserver.subscription_service.subscriptions.values()
            subscription._notification_seq += 1
            later = NOON + timedelta(seconds=1)
            await put(server, "tank.level", stamped(12.0, later))
            await until(lambda: later in heard, "the value after the lost publish")
            assert heard[1:] == [
                ("the server's queue overflowed", ["tank.level"]),
                NOON,
                ("a publish of the server did not arrive", []),
                later,
            ]

    asyncio.run(story())


def test_a_tag_without_history_is_named_after_the_others_have_told_theirs() -> None:
    """One node that nobody historises does not hide what all others remember."""

    async def story() -> None:
        async with live_tank(ends_at=NOON) as emulator, Session(emulator.plant) as session:
            forget(emulator.server, "tank.sensor")
            told: set[str] = set()

            async def listen() -> None:
                async for batch in session.history(NOON - timedelta(hours=1), NOON):
                    told.update(each.tag for each in batch)

            with pytest.raises(NodeFault) as caught:
                await listen()
            assert [fault.where for fault in caught.value.faults] == ["tank.sensor"]
            assert told == {tag.name for tag in emulator.plant.tags} - {"tank.sensor"}

    asyncio.run(story())


def test_all_missing_and_wrong_nodes_are_named_at_once() -> None:
    """Connecting fails with one message that names every node and what is wrong with it."""

    async def story() -> str:
        port = free_port()
        values = usual_values(**{"tank.level": "ten", "tank.sensor": [1.0, 2.0]})
        del values["pump.mode"]
        async with odd_server(port, values):
            with pytest.raises(NodeFault) as caught:
                async with Session(one_tank(port)):
                    pass
            async with Session(one_tank(port), is_strict=False) as session:
                assert session.faulty == ("pump.mode", "tank.level", "tank.sensor")
                assert set(await session.read()) == {
                    "pump.setpoint",
                    "drain.setpoint",
                    "drain.mode",
                }
        return str(caught.value)

    message = asyncio.run(story())
    assert "pump.mode: node s=pump.mode does not exist (BadNodeIdUnknown)" in message
    assert "tank.level: node s=tank.level holds String; a number or Boolean is needed" in message
    assert "tank.sensor: node s=tank.sensor holds an array" in message
    assert "pump.setpoint" not in message


def test_an_unknown_namespace_is_named_with_those_there_are() -> None:
    """The message says what the plant file asks for and what the server offers."""

    async def story() -> str:
        port = free_port()
        async with odd_server(port, usual_values()):
            with pytest.raises(NodeFault) as caught:
                async with Session(one_tank(port, namespace="urn:not:there")):
                    pass
        return str(caught.value)

    message = asyncio.run(story())
    assert "urn:not:there" in message
    assert NAMESPACE in message


def test_an_endpoint_that_does_not_answer_is_one_clear_message() -> None:
    """Nobody there, somebody silent, and a wrong address: never a traceback, never for ever."""

    async def story() -> None:
        nobody = one_tank(free_port())
        with pytest.raises(EndpointUnavailable, match="does not answer as an OPC UA server"):
            async with Session(nobody):
                pass
        with socket.create_server(("127.0.0.1", 0)) as silent:
            plant = one_tank(silent.getsockname()[1])
            with pytest.raises(EndpointUnavailable, match=r"opcua\.endpoint"):
                async with Session(plant, request_timeout_s=0.2):
                    pass
        long = f"opc.tcp://{'a' * 70}:4840"  # no name may be looked up that is longer than 63
        for wrong in ("http://127.0.0.1:4840", "opc.tcp://127.0.0.1", "opc.tcp://a:b/c", long, ""):
            with pytest.raises(EndpointUnavailable, match="no OPC UA address"):
                async with Session(nobody, endpoint=wrong or "nonsense"):
                    pass

    asyncio.run(story())


def test_a_write_has_the_nodes_own_type_and_no_timestamps() -> None:
    """Many PLCs refuse a Double for their Float, or any timestamp from a client."""

    async def story() -> None:
        port = free_port()
        values = usual_values(
            **{
                "pump.setpoint": ua.Variant(5.0, ua.VariantType.Float),
                "pump.mode": ua.Variant(0, ua.VariantType.SByte),
            }
        )
        async with odd_server(port, values) as server, Session(one_tank(port)) as session:
            await session.write("pump.setpoint", 7.5)
            await session.write("pump.mode", 1)
            await session.write("plc.stop", 1)
            index = await server.get_namespace_index(NAMESPACE)
            for name, kind, value in (
                ("pump.setpoint", ua.VariantType.Float, 7.5),
                ("pump.mode", ua.VariantType.SByte, 1),
                ("plc.stop", ua.VariantType.Boolean, True),
            ):
                shown = server.read_attribute_value(ua.NodeId(name, index))
                assert (shown.Value.VariantType, shown.Value.Value) == (kind, value)
                assert shown.SourceTimestamp is None
            with pytest.raises(WriteFault, match="whole numbers"):
                await session.write("pump.mode", 0.5)
            with pytest.raises(WriteFault, match="only finite numbers"):
                await session.write("pump.setpoint", float("nan"))

    asyncio.run(story())


def test_a_server_that_only_looks_alive_is_found_dead() -> None:
    """The connection stands, but nothing is published: the link counts as lost, with a reason."""

    async def story() -> str:
        async with live_tank() as emulator, Session(emulator.plant) as session:
            await session.subscribe(lambda _: None)
            service = emulator.server.iserver.subscription_service
            for subscription in service.subscriptions.values():
                await subscription.stop()
            return await asyncio.wait_for(session.until_lost(), 20)

    assert "no publish for" in asyncio.run(story())


def test_a_server_that_ends_is_noticed_at_once() -> None:
    """A closed connection ends the wait; reading it raises EndpointUnavailable."""

    async def story() -> None:
        async with live_tank() as emulator:
            session = Session(emulator.plant)
            await session.__aenter__()
            await session.subscribe(lambda _: None)
        assert await asyncio.wait_for(session.until_lost(), 5)
        with pytest.raises(EndpointUnavailable):
            await session.read()
        with pytest.raises(EndpointUnavailable):
            await session.write("pump.setpoint", 6.0)
        await asyncio.wait_for(session.__aexit__(), 5)

    asyncio.run(story())


def test_the_plant_clock_runs_at_the_plants_speed_and_never_backwards() -> None:
    """It starts at the newest source time and an earlier session's clock keeps it going."""

    async def story() -> None:
        async with live_tank(speed=600) as emulator:
            async with Session(emulator.plant) as session:
                assert session.clock.speed == 600
                ahead = session.clock.now() - emulator.truth.now
                assert abs(ahead) < timedelta(seconds=300)
                late = session.clock
                late.trust(emulator.truth.now + timedelta(hours=1))
            async with Session(emulator.plant, clock=late) as again:
                assert again.clock.now() >= late.anchor

    asyncio.run(story())
