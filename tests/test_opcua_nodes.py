"""Every node a plant file can tell is found, however many there are and whatever one of them is."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from asyncua import Server, ua
from asyncua.common.utils import ServiceError
from one_tank import NAMESPACE, free_port, until

from connectors.opcua import Session
from connectors.opcua.nodes import Namespaces, UnusableNode
from twin.errors import NodeFault
from twin.plant import OpcUaSource, Plant, Role, Security, Tag
from twin.records import Reading

OTHER = "urn:plantwright:test:other"
SERVED = Namespaces(("http://opcfoundation.org/UA/", OTHER, NAMESPACE), NAMESPACE)
GUID = "6b29fc40-ca47-1067-b31d-00dd010662da"

TOLD = {
    "tank.level": ("tank.level", 2),
    "s=tank.level": ("tank.level", 2),
    "i=4711": (4711, 2),
    f"g={GUID}": (uuid.UUID(GUID), 2),
    "b=AAECAw==": (b"\0\1\2\3", 2),
    f"nsu={OTHER};s=a;b=c": ("a;b=c", 1),
    f"nsu={OTHER};i=7": (7, 1),
    "nsu=http://opcfoundation.org/UA/;i=2258": (2258, 0),
}


@pytest.mark.parametrize("text", TOLD)
def test_a_node_told_in_text_is_that_node_and_no_other(text: str) -> None:
    """Identifier, kind and namespace come out, and told again they mean the same node."""
    identifier, index = TOLD[text]
    found = SERVED.node_id(text)
    assert (found.Identifier, found.NamespaceIndex) == (identifier, index)
    assert SERVED.node_id(SERVED.text(found)) == found


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("i=seven", "whole number"),
        ("i=4294967296", "whole number"),
        ("i=-1", "whole number"),
        ("g=6b29", "GUID"),
        ("b=***", "Base64"),
        ("nsu=urn:nobody;s=x", "does not know the namespace urn:nobody"),
        (f"nsu={OTHER}", "after nsu=URI; comes"),
        (f"nsu={OTHER};x", "after nsu=URI; comes"),
        ("nsu=;s=x", "after nsu=URI; comes"),
        ("ns=2;s=x", "write nsu=URI; instead"),
        ("i=" + "9" * 5000, "whole number"),
        ("s=", "nothing comes after s="),
        ("b=", "nothing comes after b="),
        (f"nsu={OTHER};s=", "nothing comes after s="),
    ],
)
def test_a_text_that_names_no_node_says_why(text: str, why: str) -> None:
    """Never taken for another node: a slip of the pen must not read another tag's value."""
    with pytest.raises(UnusableNode, match=why):
        SERVED.node_id(text)


def many_tags(port: int, nodes: dict[str, str]) -> Plant:
    """A plant of auxiliary tags only: name to node as told."""
    return Plant(
        plant="many",
        title="Many tags",
        sample_s=1.0,
        tags=tuple(Tag(name=n, role=Role.AUX, unit="", node=text) for n, text in nodes.items()),
        opcua=OpcUaSource(
            endpoint=f"opc.tcp://127.0.0.1:{port}/",
            namespace=NAMESPACE,
            security=Security(policy="None"),
            publishing_interval_ms=50,
        ),
    )


def source_of(plant: Plant) -> OpcUaSource:
    assert plant.opcua is not None
    return plant.opcua


async def many_nodes(port: int, namespaces: Sequence[str], nodes: Sequence[tuple[str, Any]]) -> Any:
    """A server with (namespace, identifier) nodes, all of value 1.0; not started yet."""
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    for uri in namespaces:
        await server.register_namespace(uri)
    for uri, identifier in nodes:
        node_id = ua.NodeId(identifier, await server.get_namespace_index(uri))
        await server.nodes.objects.add_variable(node_id, f"2:{identifier}", 1.0)
    return server


def test_all_kinds_of_nodes_of_several_namespaces_are_one_plant() -> None:
    """The same plant file serves a server whose namespaces stand in another order."""
    nodes = [
        (NAMESPACE, "plain"),
        (NAMESPACE, 4711),
        (NAMESPACE, uuid.UUID(GUID)),
        (NAMESPACE, b"\0\1\2\3"),
        (OTHER, "a;b=c"),
    ]
    texts = {
        "plain": "plain",
        "number": "i=4711",
        "guid": f"g={GUID}",
        "bytes": "b=AAECAw==",
        "other": f"nsu={OTHER};s=a;b=c",
        "nobody": "nsu=urn:nobody;s=plain",
    }

    async def story(order: Sequence[str]) -> None:
        port = free_port()
        async with await many_nodes(port, order, nodes):
            async with Session(many_tags(port, texts), is_strict=False) as session:
                assert session.faulty == ("nobody",)
                read = await session.read()
                assert {name: each.value for name, each in read.items()} == dict.fromkeys(
                    set(texts) - {"nobody"}, 1.0
                )
            with pytest.raises(NodeFault, match="does not know the namespace urn:nobody"):
                async with Session(many_tags(port, texts)):
                    pass

    for order in ((NAMESPACE, OTHER), (OTHER, "urn:between", NAMESPACE)):
        asyncio.run(story(order))


def take_at_most(server: Server, most: int) -> list[int]:
    """Let the server refuse larger requests though it states no limit; how large they were."""
    sizes: list[int] = []
    inner_read = server.iserver.attribute_service.read
    inner_monitor = server.iserver.subscription_service.create_monitored_items

    def judge(items: Sequence[Any]) -> None:
        sizes.append(len(items))
        if len(items) > most:
            raise ServiceError(ua.StatusCodes.BadTooManyOperations)

    def read(params: Any, *rest: Any) -> Any:
        judge(params.NodesToRead)
        return inner_read(params, *rest)

    async def monitor(params: Any, *rest: Any) -> Any:
        judge(params.ItemsToCreate)
        return await inner_monitor(params, *rest)

    server.iserver.attribute_service.read = read
    server.iserver.subscription_service.create_monitored_items = monitor
    return sizes


def test_one_wrong_node_among_a_thousand_stops_none_of_the_others() -> None:
    """Also where the server takes 100 at once and does not say so: it is found out and kept to."""
    names = [f"t{row}" for row in range(1_000)]
    plant_nodes = dict(zip(names, names, strict=True)) | {"t500": "gone", "t501": "i=5"}

    async def story() -> None:
        port = free_port()
        server = await many_nodes(port, [NAMESPACE], [(NAMESPACE, name) for name in names])
        sizes = take_at_most(server, 100)
        async with server, Session(many_tags(port, plant_nodes), is_strict=False) as session:
            assert session.faulty == ("t500", "t501")
            arrived: list[Reading] = []
            await session.subscribe(arrived.extend)
            await until(lambda: len(arrived) >= 998, "the present values")
            assert {each.tag for each in arrived} == set(names) - {"t500", "t501"}
            refused = [size for size in sizes if size > 100]
            assert len(refused) <= 8  # 1,000, 500, 250, 125 of each of the two services
            assert len(await session.read()) == 998
            assert [size for size in sizes if size > 100] == refused

    asyncio.run(story())


def test_a_session_knows_the_tags_of_its_own_source_and_no_others() -> None:
    """A plant of two servers: each is asked for its own tags, at its own address and namespace."""

    async def story() -> None:
        main_port, lab_port = free_port(), free_port()
        plant = many_tags(main_port, {"flow": "flow"})
        lab = replace(
            source_of(plant),
            name="lab",
            endpoint=f"opc.tcp://127.0.0.1:{lab_port}/",
            namespace=OTHER,
        )
        purity = Tag(name="purity", role=Role.AUX, unit="", node="i=7", source="lab")
        plant = replace(plant, tags=(*plant.tags, purity), sources=(lab,))
        main = await many_nodes(main_port, [NAMESPACE], [(NAMESPACE, "flow")])
        async with main, await many_nodes(lab_port, [OTHER], [(OTHER, 7)]):
            for source, tag in ((None, "flow"), (lab, "purity")):
                async with Session(plant, source=source) as session:
                    assert list(await session.read()) == [tag]

    asyncio.run(story())


def test_a_node_that_appears_later_is_taken_in_while_the_session_lasts() -> None:
    """A server that is still loading its plant at the first look leaves no tag out for ever."""

    async def story() -> None:
        port = free_port()
        server = await many_nodes(port, [NAMESPACE], [(NAMESPACE, "early")])
        plant = many_tags(port, {"early": "early", "late": "late"})
        async with server, Session(plant, is_strict=False) as session:
            arrived: list[Reading] = []
            heard = (arrived.extend, lambda _reason, _tags: None)
            await session.subscribe(arrived.extend)
            assert session.faulty == ("late",)
            assert await session.mend(*heard) == []
            node_id = ua.NodeId("late", await server.get_namespace_index(NAMESPACE))
            await server.nodes.objects.add_variable(node_id, "2:late", 7.0)
            assert await session.mend(*heard) == ["late"]
            assert session.faulty == ()
            await until(lambda: 7.0 in {each.value for each in arrived}, "the late tag's value")

    asyncio.run(story())


def test_a_server_waits_with_values_until_those_before_are_safe() -> None:
    """Whoever stores slowly is not flooded: nothing new comes, nothing is lost, the link lives."""

    async def story() -> None:
        port = free_port()
        server = await many_nodes(port, [NAMESPACE], [(NAMESPACE, "count")])
        async with server, Session(many_tags(port, {"count": "count"})) as session:
            arrived: list[float | None] = []
            safe = asyncio.get_running_loop().create_future()

            def take(readings: list[Reading]) -> asyncio.Future[None]:
                arrived.extend(each.value for each in readings)
                return safe

            await session.subscribe(take)
            await until(lambda: arrived == [1.0], "the present value")
            node = server.get_node(ua.NodeId("count", await server.get_namespace_index(NAMESPACE)))
            for value in range(2, 12):
                await node.write_value(float(value))
                await asyncio.sleep(0.05)  # ten publishing intervals are held
            assert arrived == [1.0]
            safe.set_result(None)
            await until(lambda: len(arrived) == 11, "what waited at the server")
            assert arrived == [float(value) for value in range(1, 12)]

    asyncio.run(story())


@pytest.mark.parametrize(
    ("least_ms", "granted", "told"),
    [
        (0.0, {"RevisedQueueSize": 1}, "keeps 1 of it for every 500 ms (and of 1 other tags)"),
        (250.0, {"RevisedSamplingInterval": 250.0}, "looks at it every 250 ms only"),
        (0.0, {}, ""),
    ],
)
def test_a_server_that_grants_too_little_for_all_values_is_told(
    least_ms: float, granted: dict[str, float], told: str
) -> None:
    """It says nothing of what it writes over between two publishes, so we do."""
    names = ["fast", "faster"]

    async def story() -> list[str]:
        port = free_port()
        server = await many_nodes(port, [NAMESPACE], [(NAMESPACE, name) for name in names])
        inner = server.iserver.subscription_service.create_monitored_items
        least = ua.AttributeIds.MinimumSamplingInterval
        for name in names:
            node = server.get_node(ua.NodeId(name, await server.get_namespace_index(NAMESPACE)))
            await node.write_attribute(least, ua.DataValue(least_ms))

        async def grant(params: Any, *rest: Any) -> Any:
            results = await inner(params, *rest)
            for each in results:
                for name, value in granted.items():
                    setattr(each, name, value)
            return results

        server.iserver.subscription_service.create_monitored_items = grant
        plant = many_tags(port, {name: name for name in names})
        source = replace(source_of(plant), publishing_interval_ms=500)
        plant = replace(plant, opcua=source, sample_s=0.1)
        heard: list[str] = []
        async with server, Session(plant, on_wrong=lambda _, text: heard.append(text)) as session:
            await session.subscribe(lambda _: None)
        return heard

    heard = asyncio.run(story())
    assert len(heard) == bool(told)
    assert told in "".join(heard)
