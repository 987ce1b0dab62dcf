"""The emulated plant's OPC UA server: every tag of the plant file as a node, in plant time.

A node's identifier is the plant file's; its dots make the folders that a person browses.

It never judges a setpoint beyond what the truth's PLC does, and it binds the loopback interface
only: it has no security unless asked for.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from urllib.parse import urlparse

from asyncua import Server, ua

from connectors.emulator.past import HistoryService, TagHistory, data_value
from connectors.emulator.plc import PlcDoor
from connectors.emulator.secured import Doorkeeper, Secured, may_write
from connectors.emulator.truth import Truth
from connectors.opcua import quiet_library_log
from twin.clock import wall_now
from twin.errors import EndpointUnavailable, UsageError
from twin.plant import OpcUaSource, Plant, Role, Tag, is_loopback
from twin.records import Reading

SECURITY_WARNING = (
    "This OPC UA server has NO security: no encryption, no login. It is an emulator, listens on "
    "this machine only, and must never stand in front of a real plant."
)

#: Counts of distinct (tag, source time): all, and those since going live.
READINGS_EMITTED = "plc.readings_emitted"
READINGS_EMITTED_LIVE = "plc.readings_emitted_live"

_LOG = logging.getLogger(__name__)


def source_of(plant: Plant) -> OpcUaSource:
    """The plant file's `opcua` part; raises UsageError where there is none."""
    if plant.opcua is None:
        raise UsageError(f"{plant.plant}: the plant file has no `opcua` part. Add one.")
    return plant.opcua


class Emulator:
    """The server itself. `async with` listens; `emit` advances the plant by one sample."""

    def __init__(
        self,
        plant: Plant,
        truth: Truth,
        *,
        endpoint: str,
        speed: float = 1.0,
        secured: Secured | None = None,
    ) -> None:
        self.plant = plant
        self.truth = truth
        self.endpoint = endpoint
        self.speed = speed
        self._secured = secured
        self.emitted = 0
        self.emitted_live = 0
        self._source = source_of(plant)
        self.past: dict[str, TagHistory] = {tag.name: TagHistory() for tag in plant.tags}
        self._types = {tag.name: _variant_type(plant, tag) for tag in plant.tags}
        self._node_ids: dict[str, Any] = {}
        self.server: Any = None

    def claim(self) -> None:
        """Find out early whether the address can be had; port 0 becomes a free port."""
        url = urlparse(self.endpoint)
        if not is_loopback(self.endpoint):
            raise EndpointUnavailable(
                f"{self.endpoint} is not on this machine; the emulator has no security and binds "
                "the loopback interface only. Use opc.tcp://127.0.0.1:PORT/."
            )
        try:
            with socket.create_server((url.hostname or "127.0.0.1", url.port or 0)) as probe:
                port = probe.getsockname()[1]
        except OSError as reason:
            raise EndpointUnavailable(
                f"{self.endpoint}: port {url.port} is taken or not allowed ({reason.strerror}). "
                "Stop the other program or choose another port with --port."
            ) from reason
        self.endpoint = f"opc.tcp://{url.hostname}:{port}{url.path}"

    async def remember_until(self, moment: datetime) -> None:
        """Let the plant live its past, unobserved, up to `moment`."""
        hour, sample = timedelta(hours=1), timedelta(seconds=self.plant.sample_s)
        while self.truth.now + sample <= moment:
            to = min(self.truth.now + hour, moment)
            for tag, samples in (await asyncio.to_thread(self.truth.advance_samples, to)).items():
                self.emitted += self.past[tag].extend(samples)

    async def __aenter__(self) -> Self:
        quiet_library_log()
        self.claim()
        server = await self._built()
        await self._add_nodes(server)
        server.iserver.history_manager.set_storage(HistoryService(self._history_by_node()))
        server.iserver.attribute_service = PlcDoor(
            server.iserver.attribute_service,
            self._writable(),
            self._accept,
            may_write if self._secured else lambda _: True,
        )
        self.server = server
        await self._show_counts()
        try:
            await server.start()
        except OSError as reason:
            raise EndpointUnavailable(
                f"{self.endpoint} cannot be opened ({reason.strerror}). Choose another port."
            ) from reason
        warning = SECURITY_WARNING if self._secured is None else self._secured.told()
        _LOG.warning("%s Endpoint: %s", warning, self.endpoint)
        return self

    async def _built(self) -> Any:
        """The server without nodes, its endpoints as protected as it was asked for."""
        doorkeeper = Doorkeeper(self._secured, wall_now) if self._secured else None
        server = Server(user_manager=doorkeeper)
        await server.init()
        server.set_endpoint(self.endpoint)
        name = f"Plantwright emulator of {self.plant.plant}"
        if doorkeeper is not None:
            await doorkeeper.set_up(server)
        else:
            name += " (NO SECURITY)"
            server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        server.set_server_name(name)
        server.allow_remote_admin(False)
        return server

    async def __aexit__(self, *_: object) -> None:
        await self.server.stop()

    async def run(self, until: datetime | None = None, *, late_s: float = 0.0) -> None:
        """Emit at plant time = now + speed × monotonic time, catching up when late, for ever.

        `late_s`: so many wall seconds ago it should have begun.
        """
        began_at, began_s = self.truth.now, time.monotonic() - late_s
        sample = timedelta(seconds=self.plant.sample_s)
        while until is None or self.truth.now + sample <= until:
            due_s = (self.truth.now + sample - began_at).total_seconds() / self.speed
            await asyncio.sleep(max(0.0, began_s + due_s - time.monotonic()))
            await self.emit()
        await asyncio.Event().wait()

    async def emit(self) -> None:
        """Advance the plant by one sample and publish every tag of it."""
        for reading in self.truth.advance(self.truth.now + timedelta(seconds=self.plant.sample_s)):
            if self._remember(reading):
                self.emitted_live += 1
            await self._show(reading)
        await self._show_counts()

    def _remember(self, reading: Reading) -> bool:
        is_new = self.past[reading.tag].append(reading)
        self.emitted += is_new
        return is_new

    async def _show(self, reading: Reading) -> None:
        value = data_value(reading, self._types[reading.tag], datetime.now(UTC))
        await self.server.write_attribute_value(self._node_ids[reading.tag], value)

    async def _show_counts(self) -> None:
        for node, count in (
            (READINGS_EMITTED, self.emitted),
            (READINGS_EMITTED_LIVE, self.emitted_live),
        ):
            await self._show_plain(node, ua.Variant(count, ua.VariantType.UInt64))

    async def _show_plain(self, node: str, variant: Any) -> None:
        value = ua.DataValue(
            variant, SourceTimestamp=self.truth.now, ServerTimestamp=datetime.now(UTC)
        )
        await self.server.write_attribute_value(self._node_ids[node], value)

    async def _add_nodes(self, server: Any) -> None:
        index = await server.register_namespace(self._source.namespace)
        top = await server.nodes.objects.add_folder(index, self.plant.plant)
        folders: dict[tuple[str, ...], Any] = {(): top}
        readable = ua.AccessLevel.CurrentRead.mask
        writable = readable | ua.AccessLevel.CurrentWrite.mask
        historic = ua.AccessLevel.HistoryRead.mask
        written = self._writable_names()

        async def folder(path: tuple[str, ...]) -> Any:
            if path not in folders:
                above = await folder(path[:-1])
                folders[path] = await above.add_folder(index, path[-1])
            return folders[path]

        async def add(name: str, identifier: str, variant: Any, access: int, text: str) -> None:
            node_id = ua.NodeId(identifier, index)
            *path, leaf = identifier.split(".")
            parent = await folder(tuple(path))
            node = await parent.add_variable(node_id, f"{index}:{leaf}", variant)
            for attribute in (ua.AttributeIds.AccessLevel, ua.AttributeIds.UserAccessLevel):
                level = ua.DataValue(ua.Variant(access, ua.VariantType.Byte))
                await node.write_attribute(attribute, level)
            description = ua.DataValue(ua.LocalizedText(text))
            await node.write_attribute(ua.AttributeIds.Description, description)
            self._node_ids[name] = node_id

        for tag in self.plant.tags:
            access = (writable if tag.name in written else readable) | historic
            blank = ua.Variant(_blank(self._types[tag.name]), self._types[tag.name])
            text = f"{tag.description} [{tag.unit}]"
            await add(tag.name, tag.node or tag.name, blank, access, text)
        for node, variant, access, text in self._plc_nodes(readable, writable):
            await add(node, node, variant, access, text)
        for name, past in self.past.items():
            if past.times_us:
                value = past.at(len(past.times_us) - 1, self._types[name])
                await server.write_attribute_value(self._node_ids[name], value)

    def _plc_nodes(self, readable: int, writable: int) -> list[tuple[str, Any, int, str]]:
        kinds = ua.VariantType
        nodes = [
            (READINGS_EMITTED, ua.Variant(0, kinds.UInt64), readable, "Readings emitted"),
            (READINGS_EMITTED_LIVE, ua.Variant(0, kinds.UInt64), readable, "... since going live"),
        ]
        if self._source.heartbeat_node:
            text = "The computer changes this while it is well; without it, loops go to AUTO"
            nodes.append((self._source.heartbeat_node, ua.Variant(0, kinds.UInt32), writable, text))
        if self._source.stop_node:
            text = "While true every loop stays in AUTO"
            variant = ua.Variant(False, kinds.Boolean)
            nodes.append((self._source.stop_node, variant, writable, text))
        for node, kind in self._advisory_kinds().items():
            text = "Shown to the operator at the plant, obeyed by nobody"
            nodes.append((node, ua.Variant(_blank(kind), kind), writable, text))
        if self._source.speed_node:
            text = "Plant seconds per wall second"
            variant = ua.Variant(float(self.speed), kinds.Double)
            nodes.append((self._source.speed_node, variant, readable, text))
        return nodes

    def _advisory_kinds(self) -> dict[str, Any]:
        """The advisory nodes that the plant file names, and what they hold."""
        advisory, kinds = self._source.advisory, ua.VariantType
        if advisory is None:
            return {}
        counts = (advisory.id_node, advisory.heartbeat_node)
        return {node: kinds.UInt32 if node in counts else kinds.Double for node in advisory.nodes}

    def _writable_names(self) -> tuple[str, ...]:
        """Everything a client may write, by the name the truth knows it by."""
        names = [tag.name for tag in self.plant.tags if tag.role is Role.MV]
        modes = {tag.remote.tag for tag in self.plant.tags if tag.remote is not None}
        return (*names, *sorted(modes), *self._source.written_nodes)

    def _writable(self) -> dict[Any, tuple[str, Any]]:
        kinds: dict[str | None, Any] = {self._source.heartbeat_node: ua.VariantType.UInt32}
        kinds |= {self._source.stop_node: ua.VariantType.Boolean}
        kinds.update(self._advisory_kinds())
        return {
            self._node_ids[name]: (name, self._types.get(name) or kinds[name])
            for name in self._writable_names()
        }

    def _history_by_node(self) -> dict[Any, tuple[TagHistory, Any]]:
        return {self._node_ids[name]: (past, self._types[name]) for name, past in self.past.items()}

    async def _accept(self, name: str, variant: Any) -> int | None:
        """Hand a client's write to the plant; the OPC UA status code of a refusal, else None."""
        number = float(variant.Value)
        is_advice = name in self._advisory_kinds()
        reason = None if is_advice else self.truth.write(name, number)
        if reason is not None:
            _LOG.warning("%s = %s refused by the PLC: %s", name, variant.Value, reason)
            return self._refusal(name, number)
        if name not in self.past:  # a tag shows a write with its next sample
            await self._show_plain(name, variant)
        return None

    def _refusal(self, name: str, number: float) -> int:
        limits = self.plant.tag(name).engineering if name in self.past else None
        is_outside = limits is not None and not limits.holds(number)
        codes = ua.StatusCodes
        return int(codes.BadOutOfRange if is_outside else codes.BadNotWritable)


def _variant_type(plant: Plant, tag: Tag) -> Any:
    """Modes are whole numbers, everything else Double."""
    modes = {other.remote.tag for other in plant.tags if other.remote is not None}
    return ua.VariantType.Int32 if tag.name in modes else ua.VariantType.Double


def _blank(kind: Any) -> float | int:
    return 0.0 if kind is ua.VariantType.Double else 0
