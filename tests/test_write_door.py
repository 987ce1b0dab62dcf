"""Nothing but what the plant file names is ever sent to the plant, and that exactly."""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from asyncua import Server, ua
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from one_tank import free_port

from connectors.opcua import Session
from connectors.security import IDENTITIES, WRITE, Access, Secrets
from twin.errors import WriteFault
from twin.plant import Advisory, Limits, OpcUaSource, Plant, RemoteMode, Role, Security, Tag

NAMESPACE = "urn:plantwright:test:door"
WHOLE = {
    "SByte": (-(2**7), 2**7 - 1),
    "Byte": (0, 2**8 - 1),
    "Int16": (-(2**15), 2**15 - 1),
    "UInt16": (0, 2**16 - 1),
    "Int32": (-(2**31), 2**31 - 1),
    "UInt32": (0, 2**32 - 1),
    "Int64": (-(2**63), 2**63 - 1),
    "UInt64": (0, 2**64 - 1),
}
KINDS = (*WHOLE, "Boolean", "Float", "Double")
OF = {f"of.{kind.lower()}": f"node.{kind}" for kind in KINDS}  # a tag of each type, and its node
SHUT = ("nobody.writes", "others.write")
STRANGERS = ("tank.level", "plc.speed", "plc.secret")
manner = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def door_plant(port: int) -> Plant:
    mvs = tuple(
        Tag(name=name, role=Role.MV, unit="", node=node, engineering=Limits(low=0, high=1))
        for name, node in (OF | {each: each for each in SHUT}).items()
    )
    others = tuple(Tag(name=name, role=Role.CV, unit="", node=name) for name in ("tank.level",))
    moded = Tag(name="valve", role=Role.MV, unit="", node="valve", remote=RemoteMode("valve.mode"))
    mode = Tag(name="valve.mode", role=Role.AUX, unit="", node="valve.mode")
    advisory = Advisory("advice.id", {"valve": "advice.valve"}, "advice.until", "advice.beat")
    source = OpcUaSource(
        endpoint=f"opc.tcp://127.0.0.1:{port}/door",
        namespace=NAMESPACE,
        heartbeat_node="plc.heartbeat",
        stop_node="plc.stop",
        speed_node="plc.speed",
        advisory=advisory,
        security=Security(policy="None"),
    )
    return Plant(plant="door", title="Door", tags=(*mvs, moded, mode, *others), opcua=source)


@dataclass
class Plc:
    """A server that lets anybody write anything but what is shut, and counts what was sent."""

    plant: Plant
    server: Any
    index: int
    sent: list[tuple[str, Any]] = field(default_factory=list)

    def node(self, name: str) -> Any:
        return self.server.get_node(ua.NodeId(name, self.index))


@asynccontextmanager
async def serving() -> AsyncIterator[Plc]:
    plant = door_plant(free_port())
    assert plant.opcua is not None
    server = Server()
    await server.init()
    server.set_endpoint(plant.opcua.endpoint)
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    index = await server.register_namespace(NAMESPACE)
    plc = Plc(plant, server, index)
    written = dict.fromkeys((*plant.written_nodes.values(), *STRANGERS), "Double")
    written |= {f"node.{kind}": kind for kind in KINDS} | {"plc.stop": "Boolean"}
    written |= {"valve.mode": "Int32", "plc.heartbeat": "UInt32", "advice.id": "UInt32"}
    for name, kind in written.items():
        blank = {"Boolean": False, "Float": 1.0, "Double": 1.0}.get(kind, 1)
        await _add(plc, name, ua.Variant(blank, ua.VariantType[kind]))
    await _let(plc, SHUT[0], ua.AttributeIds.AccessLevel)
    await _let(plc, SHUT[1], ua.AttributeIds.UserAccessLevel)
    inner = server.iserver.attribute_service
    whole = inner.write

    async def write(params: Any, user: Any = None) -> Any:
        for item in params.NodesToWrite:
            if item.NodeId.NamespaceIndex == index:
                plc.sent.append((item.NodeId.Identifier, item.Value.Value))
        return await whole(params, user)

    async with server:
        inner.write = write
        yield plc


async def _add(plc: Plc, name: str, value: Any) -> None:
    objects = plc.server.nodes.objects
    node = await objects.add_variable(ua.NodeId(name, plc.index), f"{plc.index}:{name}", value)
    await node.set_writable()
    await node.write_value(ua.DataValue(value, SourceTimestamp=datetime.now(UTC)))


async def _let(plc: Plc, name: str, attribute: Any) -> None:
    only_read = ua.DataValue(ua.Variant(ua.AccessLevel.CurrentRead.mask, ua.VariantType.Byte))
    await plc.node(name).write_attribute(attribute, only_read)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as one:
        yield one


@pytest.fixture(scope="module")
def plc(runner: asyncio.Runner) -> Iterator[Plc]:
    living = serving()
    yield runner.run(living.__aenter__())
    runner.run(living.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def session(runner: asyncio.Runner, plc: Plc) -> Iterator[Session]:
    opened = Session(plc.plant)
    yield runner.run(opened.__aenter__())
    runner.run(opened.__aexit__(None, None, None))


def refused(runner: asyncio.Runner, session: Session, name: str, value: Any) -> str:
    with pytest.raises(WriteFault) as fault:
        runner.run(session.write(name, value))
    return str(fault.value)


@manner
@given(
    name=st.sampled_from((*STRANGERS, "i=2253", "nsu=urn:x;s=node.Double", "", "node.Double"))
    | st.text(max_size=20),
    value=st.floats(),
)
def test_no_other_name_is_ever_sent(
    runner: asyncio.Runner, plc: Plc, session: Session, name: str, value: float
) -> None:
    """Whatever is asked for: what the plant file does not let us write never leaves the house."""
    if name in plc.plant.written_nodes:
        return
    before = len(plc.sent)
    assert "Nothing was sent" in refused(runner, session, name, value)
    assert len(plc.sent) == before


def test_what_the_plant_file_lets_us_write_is_all_there_is(plc: Plc) -> None:
    """MVs, their modes, heartbeat, stop and advice; no CV, no speed, nobody's secret."""
    written = set(plc.plant.written_nodes)
    assert written == {
        *OF,
        *SHUT,
        *("valve", "valve.mode", "plc.heartbeat", "plc.stop"),
        *("advice.id", "advice.valve", "advice.until", "advice.beat"),
    }


@manner
@given(
    kind=st.sampled_from(KINDS),
    value=st.floats()
    | st.integers(-(2**65), 2**65).map(float)
    | st.sampled_from([0.0, 1.0, -1.0, 0.5, 2.0, 3.5e38])
    | st.sampled_from([float(edge) for pair in WHOLE.values() for edge in pair]),
)
def test_a_number_arrives_exactly_or_is_not_sent(
    runner: asyncio.Runner, plc: Plc, session: Session, kind: str, value: float
) -> None:
    """In the node's own type, within its range, whole where it must be; Float rounds as told."""
    name, before = f"of.{kind.lower()}", len(plc.sent)
    if not fits(kind, value):
        refused(runner, session, name, value)
        assert len(plc.sent) == before
        return
    held = runner.run(session.held(name, value))
    runner.run(session.write(name, value))
    ((node, sent),) = plc.sent[before:]
    assert node == OF[name]
    assert (sent.VariantType, sent.is_array) == (ua.VariantType[kind], False)
    shown = runner.run(session.read([name]))[name].value
    assert shown == held
    if kind == "Float":
        assert held == struct.unpack("<f", struct.pack("<f", value))[0]
    else:
        assert held == value


def fits(kind: str, value: float) -> bool:
    """By the standard (OPC 10000-6, 5.1.2): which numbers a type holds."""
    if not math.isfinite(value):
        return False
    if kind in WHOLE:
        low, high = WHOLE[kind]
        return value == int(value) and low <= int(value) <= high
    if kind == "Boolean":
        return value in (0, 1)
    return kind == "Double" or abs(value) <= 3.4028234e38


@pytest.mark.parametrize(("name", "who"), [(SHUT[0], "anybody"), (SHUT[1], "our user")])
def test_what_the_server_would_refuse_is_told_and_not_tried(
    runner: asyncio.Runner, plc: Plc, session: Session, name: str, who: str
) -> None:
    """AccessLevel and UserAccessLevel are asked before the first write to a node."""
    before = len(plc.sent)
    text = refused(runner, session, name, 1.0)
    assert f"does not let {who} write its node {name}" in text
    assert len(plc.sent) == before
    assert text in runner.run(session.write_refusals())


def test_only_the_writers_own_identity_writes(
    runner: asyncio.Runner, plc: Plc, tmp_path: Path
) -> None:
    """Whoever connects as the collector reads, whatever the server would let it do."""

    async def story() -> None:
        for identity in IDENTITIES:
            access = Access(tmp_path / "pki", Secrets(tmp_path / "secrets.yaml", {}), identity)
            async with Session(plc.plant, access=access) as session:
                before = len(plc.sent)
                if identity == WRITE:
                    await session.write("of.double", 5.0)
                    assert len(plc.sent) == before + 1
                    continue
                with pytest.raises(WriteFault, match="`collect`, which only reads"):
                    await session.write("of.double", 6.0)
                assert len(plc.sent) == before

    runner.run(story())


def test_a_further_source_is_never_written_to(runner: asyncio.Runner, plc: Plc) -> None:
    """Its tags are read; the plant is moved through its main source alone."""
    assert plc.plant.opcua is not None
    second = replace(plc.plant.opcua, name="second", heartbeat_node=None, stop_node=None)
    second = replace(second, speed_node=None, advisory=None)
    tags = tuple(replace(tag, source="second") for tag in plc.plant.tags)
    plant = replace(plc.plant, sources=(second,), tags=tags)

    async def story() -> None:
        async with Session(plant, source=second) as session:
            with pytest.raises(WriteFault, match="second is not the plant's main source"):
                await session.write("of.double", 6.0)

    runner.run(story())


def test_a_node_that_becomes_an_array_or_another_type_takes_nothing(
    runner: asyncio.Runner, plc: Plc
) -> None:
    """Found at the first write, or by the server's refusal; after that by looking again."""

    async def story() -> None:
        node = OF["of.double"]
        async with Session(plc.plant) as session:
            await session.write("of.double", 2.0)
            await _become(plc, node, ua.Variant(3, ua.VariantType.Int16))
            with pytest.raises(WriteFault, match="BadTypeMismatch"):
                await session.write("of.double", 3.0)
            await session.write("of.double", 4.0)
            assert plc.sent[-1][1] == ua.Variant(4, ua.VariantType.Int16)
            await _become(plc, node, ua.Variant([1.0], ua.VariantType.Double))
            async with Session(plc.plant, is_strict=False) as other:
                before = len(plc.sent)
                with pytest.raises(WriteFault, match="array"):
                    await other.write("of.double", 3.0)
                assert len(plc.sent) == before
            await _become(plc, node, ua.Variant(1.0, ua.VariantType.Double))

    runner.run(story())


async def _become(plc: Plc, name: str, value: Any) -> None:
    """The node holds another type from now on, as after a download to the PLC."""
    await plc.server.delete_nodes([plc.node(name)])
    await _add(plc, name, value)
