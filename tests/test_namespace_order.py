"""A server whose namespaces come back in another order is written to by URI, never by index."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from asyncua import Server, ua
from one_tank import NAMESPACE, free_port, one_tank, until

from connectors.opcua import Session
from connectors.readback import Writer
from connectors.writer import run_writer
from twin.historian import Historian
from twin.plant import Plant

#: A machine of the same make beside ours: the same names in a namespace of its own.
TWIN = "urn:plantwright:test:machine_2"


class Machines:
    """One server with two machines of the same make, and what was written to which."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.written: dict[str, list[str]] = {NAMESPACE: [], TWIN: []}

    @asynccontextmanager
    async def serving(self, order: Sequence[str]) -> AsyncIterator[None]:
        """Listen, with the namespaces in this order."""
        assert self.plant.opcua is not None
        server = Server()
        await server.init()
        server.set_endpoint(self.plant.opcua.endpoint)
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        names = {tag.name for tag in self.plant.tags} | {*self.plant.opcua.written_nodes}
        for uri in order:
            index = await server.register_namespace(uri)
            for name in (*names, "plc.speed"):
                node_id = ua.NodeId(name, index)
                node = await server.nodes.objects.add_variable(node_id, f"{index}:{name}", 1.0)
                await node.set_writable()
                await node.write_value(ua.DataValue(1.0, SourceTimestamp=datetime.now(UTC)))
        service = server.iserver.attribute_service
        inner = service.write

        async def write(params: Any, user: Any = None) -> Any:
            for item in params.NodesToWrite:
                if (place := item.NodeId.NamespaceIndex - 2) >= 0:  # below: the server's own
                    self.written[order[place]].append(item.NodeId.Identifier)
            return await inner(params, user)

        async with server:
            service.write = write
            yield


def test_the_writer_finds_its_machine_again_by_uri_at_each_connection(tmp_path: Path) -> None:
    """Index 2 was ours and is the neighbour's now: not one write of ours ever gets there."""
    machines = Machines(one_tank(free_port()))
    ours, stop = machines.written[NAMESPACE], asyncio.Event()

    async def story(historian: Historian) -> None:
        historian.register(machines.plant)
        writer = Writer(machines.plant, historian, lambda: False)
        writing: asyncio.Task[None] | None = None
        try:
            for order in ([NAMESPACE, TWIN], [TWIN, NAMESPACE]):
                async with machines.serving(order):
                    ours.clear()
                    if writing is None:
                        writing = asyncio.create_task(run_writer(writer, stop=stop, poll_s=0.02))
                    await until(lambda: "plc.heartbeat" in ours, "a heartbeat")
                    async with Session(machines.plant) as session:
                        await session.write("pump.setpoint", 4.0)
                        assert (await session.read(["pump.setpoint"]))["pump.setpoint"].value == 4
        finally:
            stop.set()
            if writing is not None:
                await asyncio.wait_for(writing, 20)

    with Historian.create(tmp_path / "plant.db") as historian:
        asyncio.run(story(historian))
    assert machines.written[TWIN] == []
