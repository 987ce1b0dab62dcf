"""A session with an OPC UA server: read, write, subscribe, history, in the plant's tags.

One `Session` is one connection attempt and never heals itself. Whoever needs a lasting link opens
a new Session when `until_lost` returns. What a reading means is not judged here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Self

from connectors.dating import Dating
from connectors.opcua.deadline import deadline
from connectors.opcua.guard import Guard
from connectors.opcua.history import read_history
from connectors.opcua.link import LINK_ERRORS, SESSION_TIMEOUT_S, Link, text
from connectors.opcua.nodes import Namespaces, Node, UnusableNode, check_nodes
from connectors.opcua.subscription import Monitored, OnMissed, subscribe
from connectors.opcua.values import (
    misdated,
    quality_of,
    raw_value,
    reading_of,
    source_time_of,
    stamp_of,
)
from connectors.opcua.writing import WriteDoor
from connectors.security import WRITE, Access
from twin.clock import PlantClock, utc
from twin.clock import wall_now as read_wall_clock
from twin.errors import EndpointUnavailable, Fault, NodeFault, UsageError
from twin.plant import OpcUaSource, Plant, Tag
from twin.records import Mark, Reading, reading

#: Takes readings. What it returns is done when they are safe (None: at once).
OnReadings = Callable[[list[Reading]], asyncio.Future[None] | None]


class Session:
    """One connection to an OPC UA server of the plant; use it with `async with`.

    `source` is one of `plant.all_sources`, by default the main one; the session knows the tags of
    it and no others.

    Connecting resolves the namespace, checks every node of the plant file and starts the plant
    clock (`clock`) from the newest believable source time (`PlantClock.start`; a plant file with
    a speed node is an emulator's, which has a time of its own), or from the `clock` of an earlier
    session where that is ahead: a frozen source does not grow young by reconnecting. A further
    source lives by the `clock` it is given. `faulty`
    names tags left out, always empty unless `is_strict` is False.

    A value stamped later than can be true (`PlantClock.latest`) never moves the clock. It comes as
    a reading without value at the time of its arrival, quality Bad_InvalidTimestamp, and
    `on_misdated` hears its tag, its stamp and the latest that can be true. One stamped before
    1971 has no time, and one stamped any other time ago comes as it is: old, and so not usable.
    `on_wrong` hears a tag of which the server looks at, or keeps, too few values for the plant.

    A link that breaks leaves a session at the server, which that forgets after
    `session_timeout_s`. `access` is who we are and whom we trust; without it only a server on this
    machine can be reached whose plant file says security policy None.

    Raises on connecting:
        EndpointUnavailable: nothing answers, or it is no OPC UA server.
        SecurityFault: it is one, but certificates, policy or login will not do.
        NodeFault: the namespace, or nodes, are missing or have the wrong type (all of them).
    """

    def __init__(
        self,
        plant: Plant,
        *,
        source: OpcUaSource | None = None,
        endpoint: str | None = None,
        request_timeout_s: float = 4.0,
        session_timeout_s: float = SESSION_TIMEOUT_S,
        is_strict: bool = True,
        clock: PlantClock | None = None,
        on_misdated: Callable[[str, datetime, datetime], None] = lambda _tag, _stamp, _latest: None,
        on_wrong: Callable[[str, str], None] = lambda _tag, _message: None,
        wall_now: Callable[[], datetime] = read_wall_clock,
        access: Access | None = None,
    ) -> None:
        source = source or plant.opcua
        if source is None:
            raise UsageError(f"{plant.plant}: the plant file has no `opcua` part. Add one.")
        self.plant = plant
        self.endpoint = endpoint or source.endpoint
        self.faulty: tuple[str, ...] = ()
        self.clock: PlantClock
        self._earlier_clock = clock
        # Another source than the main one follows the plant's clock, and never moves it.
        self._owns_clock = source.name == plant.all_sources[0].name or clock is None
        self._on_misdated = on_misdated
        self._on_wrong = on_wrong
        self._wall_now = wall_now
        self._dating = Dating()
        self._source = source
        self._identity = access.identity if access is not None else WRITE
        self._tags = plant.tags_of(source.name)
        self._is_strict = is_strict
        self._request_timeout_s = request_timeout_s
        self._session_timeout_s = session_timeout_s
        self._guard = Guard(
            self.endpoint, self._source.name, self._source.security, access, wall_now
        )
        self._link: Link
        self._namespaces: Namespaces
        self._nodes: dict[str, Node] = {}
        self._door: WriteDoor

    # -- connecting ------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._link = Link(
            self.endpoint,
            self._request_timeout_s,
            self._guard,
            session_s=self._session_timeout_s,
        )
        try:
            async with deadline(3 * self._request_timeout_s):
                await self._link.open()
            # Each request has its own deadline: of a large plant there are very many.
            await self._prepare()
        except LINK_ERRORS as reason:
            await self._link.close()
            raise EndpointUnavailable(
                f"{self.endpoint} does not answer as an OPC UA server ({text(reason)}). Check that "
                f"it runs and that `{self._source.name}.endpoint` in the plant file is its address."
            ) from reason
        except BaseException:
            await self._link.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._link.close()

    @property
    def security_warning(self) -> str:
        """What is not as safe as it should be, or soon will not be, in sentences; else empty."""
        return " ".join(self._guard.warnings)

    async def _prepare(self) -> None:
        own = self._source.namespace
        self._namespaces = Namespaces(await self._link.namespaces(), own)
        self._door = WriteDoor(
            self._link, self.plant.written_nodes, self._namespaces.node_id, self._why_only_read()
        )
        texts = {tag.name: _told(tag) for tag in self._tags}
        texts |= {node: node for node in self._plc_nodes()}
        self._nodes, faults = await check_nodes(self._link, self._namespaces, texts)
        if faults and (self._is_strict or not self._usable()):
            self._namespaces.check_own(self.endpoint)
            raise NodeFault(self.endpoint, faults)
        self._leave_out(tag.name for tag in self._tags if tag.name not in self._nodes)
        await self._start_clock()

    def _why_only_read(self) -> str:
        """Why nothing is written over this session; empty where the writer's own may write."""
        if self._source != self.plant.opcua:
            return f"{self._source.name} is not the plant's main source, which alone is written to"
        if self._identity != WRITE:
            return f"this session is that of `{self._identity}`, which only reads"
        return ""

    def _plc_nodes(self) -> tuple[str, ...]:
        source = self._source
        nodes = (source.heartbeat_node, source.stop_node, source.speed_node)
        return tuple(node for node in nodes if node)

    def _usable(self) -> list[str]:
        """The source's tags that have a usable node."""
        return [tag.name for tag in self._tags if tag.name in self._nodes]

    def _leave_out(self, names: Iterable[str]) -> None:
        self.faulty = tuple(sorted({*self.faulty, *names}))

    async def _start_clock(self) -> None:
        if self._earlier_clock is not None and not self._owns_clock:
            self.clock = self._earlier_clock
            return
        values = await self._link.read([self._nodes[name].node_id for name in self._usable()])
        stamps = [(source_time_of(value), value) for value in values]
        times = [time for time, _ in stamps if time is not None]
        trusted = [time for time, value in stamps if time is not None and _is_good(value)]
        self.clock = PlantClock.start(
            trusted or times,
            wall=self._wall_now,
            has_own_time=self._source.speed_node is not None,
            speed=await self._speed(),
            earlier=self._earlier_clock,
        )

    async def _speed(self) -> float:
        """Plant seconds per second: as the server shows, else as it was, else 1."""
        node = self._source.speed_node
        if node is None or node not in self._nodes:
            return self._earlier_clock.speed if self._earlier_clock is not None else 1.0
        speed = await self.read_node(node)
        if speed is None or speed <= 0:
            shown = "no good number" if speed is None else f"{speed:g}"
            message = f"node s={node} shows {shown}; a speed above zero is needed."
            remedy = "Mend the server, or leave `speed_node` out for a plant in real time."
            raise NodeFault(self.endpoint, [Fault("opcua.speed_node", message, remedy=remedy)])
        return speed

    # -- reading ---------------------------------------------------------------------------------

    async def read(self, tags: Sequence[str] | None = None) -> dict[str, Reading]:
        """Read tags now, directly from the plant; all of them by default.

        Raises EndpointUnavailable when the link is lost or the server does not answer in time.
        """
        nodes = self._node_ids(tags)
        with self._link.asking("read"):
            values = await self._link.read(list(nodes.values()))
        return {each.tag: each for each in self.readings_of(list(zip(nodes, values, strict=True)))}

    async def read_node(self, node: str) -> float | None:
        """The good number in a node told as in the plant file, such as plc.speed, else None."""
        try:
            node_id = self._namespaces.node_id(node)
        except UnusableNode as wrong:
            raise NodeFault(self.endpoint, [Fault(node, f"{wrong}.")]) from wrong
        with self._link.asking("read"):
            values = await self._link.read([node_id])
        now = self._wall_now()
        shown = reading(node, raw_value(values[0]), quality_of(values[0]), now, now)
        return shown.value if shown.is_good else None

    def readings_of(self, raw: Sequence[tuple[str, Any]]) -> list[Reading]:
        """Readings of (tag, data value) pairs, stamped with their arrival in plant time."""
        for _, value in raw:
            source_time = source_time_of(value)
            if source_time is not None and self._owns_clock and _is_good(value):
                self.clock.trust(source_time)
        arrival, latest = self.clock.now(), self.clock.latest()
        return [self._reading(tag, value, arrival, latest) for tag, value in raw]

    def _reading(self, tag: str, value: Any, arrival: datetime, latest: datetime) -> Reading:
        stamp = stamp_of(value)
        if stamp is None:
            return reading_of(tag, value, self._dating.of(tag, arrival))
        if stamp <= latest:
            return reading_of(tag, value, arrival)
        self._on_misdated(tag, stamp, latest)
        return misdated(tag, self._dating.of(tag, arrival))

    def _node_ids(self, tags: Iterable[str] | None) -> dict[str, Any]:
        return {
            name: self._node(name).node_id for name in (self._usable() if tags is None else tags)
        }

    def _node(self, name: str) -> Node:
        if name not in self._nodes:
            raise NodeFault(self.endpoint, [Fault(name, "has no usable node on this server.")])
        return self._nodes[name]

    # -- writing ---------------------------------------------------------------------------------

    async def write(self, name: str, value: float) -> None:
        """Write an MV, its mode, or a PLC node of the plant file, in the node's own type.

        Nothing else is ever written (`Plant.written_nodes`). No timestamps are sent.

        Raises:
            WriteFault: it is not ours to write, or the server or the PLC refused; the text says.
            WriteInDoubt: it was refused with a word that leaves open whether it was done.
            EndpointUnavailable: no answer came. The write may or may not have happened: read.
        """
        await self._door.write(name, value)

    async def held(self, name: str, value: float) -> float:
        """The number that a node will hold once `value` is written: nodes of type Float round it.

        Raises what `write` raises before anything is sent.
        """
        return await self._door.held(name, value)

    async def write_refusals(self) -> list[str]:
        """Why which of the nodes that the plant file lets us write could not be written now."""
        return await self._door.refusals()

    # -- subscribing and looking back ------------------------------------------------------------

    async def subscribe(
        self,
        on_readings: OnReadings,
        tags: Sequence[str] | None = None,
        on_missed: OnMissed = lambda _reason, _tags: None,
    ) -> None:
        """Call `on_readings` with every change of value, status or source time from now on.

        The first call brings the present values. It runs in this event loop and must be quick;
        the server is asked for no more until the future that it returns, if any, is done.
        Where the server says that it dropped readings, `on_missed` is told why and of which tags
        (none named: of any), before the readings that came after them.

        Raises NodeFault naming every tag the server does not let us monitor; unless `is_strict`
        they are left out and named in `faulty`, as long as there are others.
        """
        names = self._usable() if tags is None else list(tags)
        faults = await self._monitor(names, on_readings, on_missed)
        if faults and (self._is_strict or len(faults) == len(names)):
            raise NodeFault(self.endpoint, faults)
        self._leave_out(fault.where for fault in faults)

    async def mend(self, on_readings: OnReadings, on_missed: OnMissed) -> list[str]:
        """Look again at the `faulty` tags, and subscribe to those that are usable now: these.

        Raises EndpointUnavailable where the link is lost.
        """
        texts = {tag.name: _told(tag) for tag in self._tags if tag.name in self.faulty}
        with self._link.asking("read"):
            self._namespaces = Namespaces(await self._link.namespaces(), self._source.namespace)
            found, _ = await check_nodes(self._link, self._namespaces, texts)
        self._nodes |= found
        faults = await self._monitor(list(found), on_readings, on_missed) if found else []
        mended = [name for name in found if name not in {fault.where for fault in faults}]
        self.faulty = tuple(name for name in self.faulty if name not in mended)
        return mended

    async def _monitor(
        self, names: Sequence[str], on_readings: OnReadings, on_missed: OnMissed
    ) -> list[Fault]:
        publishing_ms = self._source.publishing_interval_ms
        sample_ms = 1e3 * self.plant.sample_s / self.clock.speed
        sampling_ms = min(publishing_ms, sample_ms / 2)
        nodes: dict[str, Monitored] = {}
        for name in names:
            node = self._node(name)
            asked_ms = 0.0 if node.tells_changes else sampling_ms
            nodes[name] = Monitored(node.node_id, asked_ms, sample_ms)
        with self._link.asking("subscribe"):
            return await subscribe(
                self._link,
                nodes,
                publishing_ms,
                lambda values: on_readings(self.readings_of(values)),
                on_missed,
                self._on_wrong,
            )

    @property
    def silent_s(self) -> float:
        """Seconds since the last publish, with or without readings."""
        return self._link.silent_s

    async def until_lost(self) -> str:
        """Wait until the link is dead, also when it only looks alive; says why."""
        return await self._link.until_lost()

    async def history(
        self, start: datetime, end: datetime, tags: Sequence[str] | None = None
    ) -> AsyncGenerator[list[Reading], None]:
        """Batches of past readings from `start` to `end`, both included, roughly in time order.

        They are marked as backfilled. What has no time at all, or one that cannot be true, is not
        of that past: it is left out, and `on_misdated` hears of the latter.

        Raises:
            NodeFault: at the end, naming all tags of which the server keeps no history, or gave
                no answer just now (`Fault.may_pass`).
            EndpointUnavailable: the link broke; what was yielded stands.
        """
        nodes = self._node_ids(tags)
        past = read_history(self._link, nodes, utc(start), utc(end))
        async with contextlib.aclosing(past):
            async for batch in past:
                if readings := self._past_readings(batch):
                    yield readings

    def _past_readings(self, raw: Sequence[tuple[str, Any]]) -> list[Reading]:
        arrival, latest = self.clock.now(), self.clock.latest()
        readings: list[Reading] = []
        for tag, value in raw:
            stamp = stamp_of(value)
            if stamp is not None and stamp <= latest:
                readings.append(reading_of(tag, value, arrival, Mark.BACKFILLED))
            elif stamp is not None:
                self._on_misdated(tag, stamp, latest)
        return readings


def _told(tag: Tag) -> str:
    return tag.node or tag.name


def _is_good(value: Any) -> bool:
    return quality_of(value) >> 30 == 0
