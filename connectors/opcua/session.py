"""A session with an OPC UA server: read, write, subscribe, history.

One `Session` is one connection attempt and never heals itself: asyncua's own reconnect was seen
to lose data or to stay "connected" without any. Whoever needs a lasting link opens a new Session
when `until_lost` returns. What a reading means is not judged here.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Self

from asyncua import Client, ua

from connectors.opcua.address import check_address, quiet_library_log
from connectors.opcua.requests import (
    Limits,
    history_request,
    monitor_request,
    parts,
    read_limits,
    subscription_request,
)
from connectors.opcua.values import (
    is_unanswered,
    judge_node,
    quality_of,
    raw_value,
    reading_of,
    typed,
)
from twin.clock import PlantClock, utc
from twin.errors import EndpointUnavailable, Fault, NodeFault, UsageError, WriteFault
from twin.plant import Plant
from twin.records import Reading, reading

#: Everything a broken link, a silent server or a service fault raises in asyncua.
LINK_ERRORS = (OSError, TimeoutError, ua.UaError)

_HEALTH_CHECK_S = 10.0  # asyncua's own default of 1 s declares a busy server dead
_SESSION_TIMEOUT_MS = 60_000.0
_DISCONNECT_S = 3.0


@dataclass(frozen=True)
class _Node:
    """A checked node: its id at this server and the built-in type it holds, if known."""

    node_id: Any
    kind: Any | None


class Session:
    """One connection to the plant's OPC UA server; use it with `async with`.

    Connecting resolves the namespace, checks every node of the plant file and starts the plant
    clock (`clock`) from the newest source time, or from the `clock` of an earlier session where
    that is ahead: a frozen source does not grow young by reconnecting. `faulty` names tags left
    out, always empty unless `is_strict` is False.

    Raises on connecting:
        EndpointUnavailable: nothing answers, or it is no OPC UA server.
        NodeFault: the namespace, or nodes, are missing or have the wrong type (all of them).
    """

    def __init__(
        self,
        plant: Plant,
        *,
        endpoint: str | None = None,
        request_timeout_s: float = 4.0,
        is_strict: bool = True,
        clock: PlantClock | None = None,
    ) -> None:
        if plant.opcua is None:
            raise UsageError(f"{plant.plant}: the plant file has no `opcua` part. Add one.")
        self.plant = plant
        self.endpoint = endpoint or plant.opcua.endpoint
        self.faulty: tuple[str, ...] = ()
        self.clock: PlantClock
        self._earlier_clock = clock
        self._source = plant.opcua
        self._is_strict = is_strict
        self._request_timeout_s = request_timeout_s
        self._client: Any = None
        self._namespace = 0
        self._nodes: dict[str, _Node] = {}
        self._limits = Limits()
        self._lost = asyncio.Event()
        self._loss_reason = ""
        self._last_publish_s: float | None = None
        self._stale_after_s = math.inf

    # -- connecting ------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        quiet_library_log()
        check_address(self.endpoint)
        client = Client(self.endpoint, self._request_timeout_s, watchdog_intervall=_HEALTH_CHECK_S)
        client.session_timeout = _SESSION_TIMEOUT_MS
        client.name = client.description = "Plantwright"
        self._client = client
        try:
            async with asyncio.timeout(3 * self._request_timeout_s):
                await client.connect()
                await self._prepare()
        except LINK_ERRORS as reason:
            await self._disconnect()
            raise EndpointUnavailable(
                f"{self.endpoint} does not answer as an OPC UA server ({_text(reason)}). Check "
                "that it runs and that `opcua.endpoint` in the plant file is its address."
            ) from reason
        except BaseException:
            await self._disconnect()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._disconnect()

    async def _disconnect(self) -> None:
        """Leave within seconds, whatever the server does."""
        self._lose("closed by us")
        with contextlib.suppress(*LINK_ERRORS):
            await asyncio.wait_for(self._client.disconnect(), _DISCONNECT_S)
        self._client.disconnect_socket()

    async def _prepare(self) -> None:
        self._limits = await read_limits(self._client)
        self._namespace = await self._find_namespace()
        names = {tag.name: tag.node or tag.name for tag in self.plant.tags}
        names |= {node: node for node in self._plc_nodes()}
        self._nodes, faults = await self._check_nodes(names)
        if faults and (self._is_strict or len(faults) == len(names)):
            raise NodeFault(self.endpoint, faults)
        tags = {tag.name for tag in self.plant.tags}
        self.faulty = tuple(sorted(tags - self._nodes.keys()))
        await self._start_clock()

    def _plc_nodes(self) -> tuple[str, ...]:
        source = self._source
        nodes = (source.heartbeat_node, source.stop_node, source.speed_node)
        return tuple(node for node in nodes if node)

    async def _find_namespace(self) -> int:
        known: list[str] = await self._client.get_namespace_array()
        if self._source.namespace not in known:
            fault = Fault(
                "opcua.namespace",
                f"the server does not know {self._source.namespace}; it knows {', '.join(known)}.",
                remedy="Name the server's own namespace in the plant file.",
            )
            raise NodeFault(self.endpoint, [fault])
        return known.index(self._source.namespace)

    async def _check_nodes(self, names: Mapping[str, str]) -> tuple[dict[str, _Node], list[Fault]]:
        ids = {name: ua.NodeId(node, self._namespace) for name, node in names.items()}
        attributes = (
            ua.AttributeIds.DataType,
            ua.AttributeIds.ValueRank,
            ua.AttributeIds.Value,
        )
        columns = [await self._read_raw(list(ids.values()), each) for each in attributes]
        nodes: dict[str, _Node] = {}
        faults: list[Fault] = []
        for name, data_type, rank, value in zip(ids, *columns, strict=True):
            kind, problem = judge_node(data_type, rank, value)
            if problem:
                remedy = "Check this node in the plant file and on the server."
                faults.append(Fault(name, f"node s={names[name]} {problem}.", remedy=remedy))
            else:
                nodes[name] = _Node(ids[name], kind)
        return nodes, faults

    async def _start_clock(self) -> None:
        speed = 1.0
        if self._source.speed_node in self._nodes and self._source.speed_node is not None:
            speed = await self.read_node(self._source.speed_node) or 1.0
        raw = await self._read_raw([node.node_id for node in self._tag_nodes().values()])
        times = [utc(each.SourceTimestamp) for each in raw if each.SourceTimestamp is not None]
        if self._earlier_clock is not None:
            times.append(self._earlier_clock.now())
        self.clock = PlantClock(max(times, default=datetime.now(UTC)), speed=speed)

    def _tag_nodes(self) -> dict[str, _Node]:
        return {t.name: self._nodes[t.name] for t in self.plant.tags if t.name in self._nodes}

    # -- reading ---------------------------------------------------------------------------------

    async def read(self, tags: Sequence[str] | None = None) -> dict[str, Reading]:
        """Read tags now, directly from the plant; all of them by default.

        Raises EndpointUnavailable when the link is lost or the server does not answer in time.
        """
        names = list(self._tag_nodes()) if tags is None else list(tags)
        nodes = [self._node(name).node_id for name in names]
        with self._link("read"):
            values = await self._read_raw(nodes)
        return {each.tag: each for each in self._readings(list(zip(names, values, strict=True)))}

    async def read_node(self, identifier: str) -> float | None:
        """The number in a node of the plant's namespace, such as plc.speed; None without one."""
        with self._link("read"):
            values = await self._read_raw([ua.NodeId(identifier, self._namespace)])
        now = datetime.now(UTC)
        return reading(identifier, raw_value(values[0]), quality_of(values[0]), now, now).value

    async def _read_raw(self, node_ids: Sequence[Any], attribute: Any = None) -> list[Any]:
        attribute = ua.AttributeIds.Value if attribute is None else attribute
        values: list[Any] = []
        for part in parts(node_ids, self._limits.read):
            values += await self._client.uaclient.read_attributes(list(part), attribute)
        return values

    def _readings(self, raw: Sequence[tuple[str, Any]]) -> list[Reading]:
        """Readings of (tag, data value) pairs, stamped with their arrival in plant time."""
        for _, value in raw:
            if value.SourceTimestamp is not None and quality_of(value) >> 30 == 0:
                self.clock.trust(value.SourceTimestamp)
        arrival = self.clock.now()
        return [reading_of(tag, value, arrival) for tag, value in raw]

    # -- writing ---------------------------------------------------------------------------------

    async def write(self, tag: str, value: float) -> None:
        """Write one tag in the node's own type, without timestamps.

        Raises:
            WriteFault: the server or the PLC refused; the text has the status.
            EndpointUnavailable: no answer came. The write may or may not have happened: read.
        """
        await self.write_node(tag, value)

    async def write_node(self, name: str, value: float) -> None:
        """As `write`, for a tag or for one of the plant file's PLC nodes (heartbeat, stop)."""
        node = self._node(name)
        variant = ua.Variant(typed(name, value, node.kind), node.kind)
        data = ua.DataValue(variant, StatusCode=None)
        with self._link("write"):
            results = await self._client.uaclient.write_attributes([node.node_id], [data])
        status = results[0]
        if is_unanswered(status):
            raise EndpointUnavailable(
                f"{name} = {value:g}: the server got no answer from the plant ({status.name}); "
                "whether it was written is unknown. Read it."
            )
        if not status.is_good():
            raise WriteFault(
                f"{name} = {value:g} was refused by the plant: {status.name} ({status.doc})"
            )

    def _node(self, name: str) -> _Node:
        if name not in self._nodes:
            raise NodeFault(self.endpoint, [Fault(name, "has no usable node on this server.")])
        return self._nodes[name]

    @contextlib.contextmanager
    def _link(self, what: str) -> Iterator[None]:
        try:
            yield
        except LINK_ERRORS as reason:
            raise EndpointUnavailable(
                f"{self.endpoint}: {what} got no answer ({_text(reason)}). Check the server."
            ) from reason

    # -- subscribing -----------------------------------------------------------------------------

    async def subscribe(
        self, on_readings: Callable[[list[Reading]], None], tags: Sequence[str] | None = None
    ) -> None:
        """Call `on_readings` with every change of value, status or source time from now on.

        The first call brings the present values. It runs in this event loop and must be quick.
        Raises NodeFault naming every tag the server does not let us monitor.
        """
        names = list(self._tag_nodes()) if tags is None else list(tags)
        by_handle = dict(enumerate(names, start=1))
        request = subscription_request(self._source.publishing_interval_ms)
        on_publish = partial(self._take_publish, by_handle, on_readings)
        with self._link("subscribe"):
            created = await self._client.uaclient.create_subscription(request, on_publish)
            self._last_publish_s = time.monotonic()
            keep_alives, interval_ms = (
                created.RevisedMaxKeepAliveCount,
                created.RevisedPublishingInterval,
            )
            self._stale_after_s = 2e-3 * keep_alives * interval_ms + 1.0
            faults: list[Fault] = []
            for part in parts(list(by_handle.items()), self._limits.monitor):
                faults += await self._monitor(created.SubscriptionId, part)
        if faults:
            raise NodeFault(self.endpoint, faults)

    async def _monitor(self, subscription: int, part: Sequence[tuple[int, str]]) -> list[Fault]:
        sample_ms = 1e3 * self.plant.sample_s / self.clock.speed
        sampling_ms = min(self._source.publishing_interval_ms, sample_ms / 2)
        nodes = [(handle, self._node(name).node_id) for handle, name in part]
        request = monitor_request(subscription, nodes, sampling_ms)
        results = await self._client.uaclient.create_monitored_items(request)
        return [
            Fault(name, f"cannot be monitored: {result.StatusCode.name}.")
            for (_, name), result in zip(part, results, strict=True)
            if not result.StatusCode.is_good()
        ]

    def _take_publish(
        self,
        by_handle: Mapping[int, str],
        on_readings: Callable[[list[Reading]], None],
        result: Any,
    ) -> None:
        self._last_publish_s = time.monotonic()
        is_taken = False
        try:
            found: list[tuple[str, Any]] = []
            for notification in result.NotificationMessage.NotificationData or ():
                if isinstance(notification, ua.DataChangeNotification):
                    items = notification.MonitoredItems
                    found += [(by_handle[item.ClientHandle], item.Value) for item in items]
                elif isinstance(notification, ua.StatusChangeNotification):
                    self._lose(f"the server ended the subscription ({notification.Status.name})")
            if found:
                on_readings(self._readings(found))
            is_taken = True
        finally:
            if not is_taken:  # asyncua swallows what is raised here; readings must not go with it
                self._lose("a publish of the server could not be taken in")

    async def until_lost(self) -> str:
        """Wait until the link is dead, also when it only looks alive; says why."""
        while not self._lost.is_set():
            if self._last_publish_s is not None:
                silent_s = time.monotonic() - self._last_publish_s
                if silent_s > self._stale_after_s:
                    self._lose(f"no publish for {silent_s:.1f} s though the connection stands")
            if str(self._client.state.value) == "disconnected":
                self._lose("the connection broke")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._lost.wait(), 0.25)
        return self._loss_reason

    def _lose(self, reason: str) -> None:
        if not self._lost.is_set():
            self._loss_reason = reason
            self._lost.set()

    # -- history ---------------------------------------------------------------------------------

    async def history(
        self, start: datetime, end: datetime, tags: Sequence[str] | None = None
    ) -> AsyncGenerator[list[Reading], None]:
        """Batches of past readings from `start` to `end`, both included, roughly in time order.

        Raises:
            NodeFault: the server keeps no history of some of the tags (all named).
            EndpointUnavailable: the link broke; what was yielded stands.
        """
        names = list(self._tag_nodes()) if tags is None else list(tags)
        for part in parts(names, self._limits.history):
            pending: dict[str, Any] = dict.fromkeys(part)
            request = asyncio.ensure_future(self._history_request(pending, start, end))
            try:
                while pending:
                    with self._link("history"):
                        results = await request
                    batch, pending = self._history_batch(pending, results)
                    if pending:  # the server works on the next part while this one is stored
                        request = asyncio.ensure_future(self._history_request(pending, start, end))
                    if batch:
                        yield batch
            finally:
                request.cancel()
                await asyncio.gather(request, return_exceptions=True)

    async def _history_request(
        self, pending: Mapping[str, Any], start: datetime, end: datetime
    ) -> list[Any]:
        nodes = [(self._node(name).node_id, point) for name, point in pending.items()]
        request = history_request(nodes, utc(start), utc(end))
        return list(await self._client.uaclient.history_read(request))

    def _history_batch(
        self, pending: Mapping[str, Any], results: Sequence[Any]
    ) -> tuple[list[Reading], dict[str, Any]]:
        faults: list[Fault] = []
        batch: list[Reading] = []
        rest: dict[str, Any] = {}
        arrival = self.clock.now()
        for name, result in zip(pending, results, strict=True):
            if result.StatusCode.value == ua.StatusCodes.BadNoData:
                continue
            if result.StatusCode.is_bad():
                faults.append(Fault(name, f"no history: {result.StatusCode.name}."))
                continue
            values = getattr(result.HistoryData, "DataValues", None) or ()
            batch += [reading_of(name, value, arrival) for value in values]
            if result.ContinuationPoint:
                rest[name] = result.ContinuationPoint
        if faults:
            raise NodeFault(self.endpoint, faults)
        return batch, rest


def _text(reason: BaseException) -> str:
    return str(reason) or type(reason).__name__
