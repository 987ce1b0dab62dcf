"""Servers that are large and slow, keep no time, or lose a publish without a word."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from asyncua import Server, ua
from faulty_network import FaultyNetwork
from one_tank import NOON, free_port, one_tank

from connectors.opcua import Session
from connectors.opcua.link import Link
from connectors.opcua.subscription import Inbox
from connectors.opcua.values import judge_node
from twin.clock import PlantClock
from twin.plant import OpcUaSource, Plant, Role, Security, Tag
from twin.records import Mark

URI = "urn:plantwright:test:slow"


def test_a_large_plant_behind_a_slow_line_is_opened() -> None:
    """Asking for every node takes longer than any one answer may: each request has its own time."""

    async def story() -> float:
        port = free_port()
        server = Server()
        await server.init()
        server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        index = await server.register_namespace(URI)
        names = [f"tag{k}" for k in range(60)]
        for name in names:
            await server.nodes.objects.add_variable(ua.NodeId(name, index), name, 0.0)
        limits = ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead
        await server.get_node(ua.NodeId(limits)).write_value(ua.Variant(1, ua.VariantType.UInt32))
        async with server, FaultyNetwork(port) as network:
            network.delay_s = 0.01
            plant = Plant(
                plant="large",
                title="Large",
                sample_s=1.0,
                tags=tuple(Tag(name=name, role=Role.AUX, unit="", node=name) for name in names),
                opcua=OpcUaSource(
                    endpoint=f"opc.tcp://127.0.0.1:{network.port}/",
                    namespace=URI,
                    security=Security(policy="None"),
                    history_days=0.0,
                ),
            )
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            async with Session(plant, request_timeout_s=1.0) as session:
                assert len(await session.read()) == 60
            return loop.time() - began_s

    assert asyncio.run(story()) > 3.0, "too quick to show anything"


def test_values_without_any_time_are_all_kept() -> None:
    """Ten values of one tag in one publish: dated by their arrival, each with a time of its own."""
    session = Session(one_tank(free_port()))
    session.clock = PlantClock(NOON)
    never = datetime(1970, 1, 1, 0, 5, tzinfo=UTC)
    values = [
        ("tank.level", ua.DataValue(ua.Variant(float(k)), SourceTimestamp=never)) for k in range(10)
    ]
    found = session.readings_of(values)
    assert len({each.source_time for each in found}) == 10
    assert [each.value for each in sorted(found, key=lambda each: each.source_time)] == [*range(10)]
    assert all(each.marks is Mark.UNDATED for each in found)
    ahead = ua.DataValue(ua.Variant(0.0), SourceTimestamp=NOON + timedelta(days=9))
    found += session.readings_of([("tank.level", ahead)])
    assert len({each.source_time for each in found}) == 11, "nor is one whose time cannot be true"


def published(number: int, *, is_alive_only: bool) -> Any:
    """What a server sends, with a change or only to say that it is there."""
    data = [] if is_alive_only else [ua.DataChangeNotification()]
    message = SimpleNamespace(SequenceNumber=number, NotificationData=data)
    return SimpleNamespace(SubscriptionId=1, NotificationMessage=message)


@pytest.mark.parametrize(
    ("sent", "missed"),
    [
        ([(1, False), (2, False), (3, True), (3, False)], 0),
        ([(1, True), (1, False), (2, False)], 0),
        ([(1, False), (2, False), (4, False)], 1),
        ([(1, False), (2, False), (3, True), (4, False)], 1),
        ([(1, False), (3, True), (3, False)], 1),
    ],
)
def test_a_lost_publish_is_noticed_also_around_a_sign_of_life(
    sent: list[tuple[int, bool]], missed: int
) -> None:
    """A sign of life has the number that the next publish will have, and takes none itself."""
    reasons: list[str] = []

    async def story() -> None:
        link = Link("opc.tcp://127.0.0.1:4840/", 1.0, None)  # type: ignore[arg-type]  # never opened
        inbox = Inbox(link, {}, lambda _values: None, lambda why, _tags: reasons.append(why))
        for number, is_alive_only in sent:
            inbox.take(published(number, is_alive_only=is_alive_only))

    asyncio.run(story())
    assert len(reasons) == missed


def test_a_server_that_says_nothing_of_a_nodes_type_stops_nobody() -> None:
    """Good, and no value: what the node holds is not known, as of a gateway's before it answers."""
    nothing, number = ua.DataValue(), ua.DataValue(ua.Variant(1.5))
    assert judge_node(nothing, nothing, nothing) == (None, "")
    assert judge_node(nothing, nothing, number) == (ua.VariantType.Double, "")


def test_no_silence_is_a_servers_while_what_it_sent_is_put_on_the_disk() -> None:
    """Also where its first publish comes before all nodes are monitored: nobody asks for more."""

    async def story() -> str:
        link = Link("opc.tcp://127.0.0.1:4840/", 1.0, None)  # type: ignore[arg-type]  # never opened
        link.excuse_publishes(1)
        link.expect_publishes(1, stale_after_s=0.0)
        return await link.until_lost()

    assert asyncio.run(story()) == "the connection broke"
