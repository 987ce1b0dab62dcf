"""A session with an MQTT broker: what is published on the topics of a plant's tags, as readings.

The broker keeps for us what is sent while we are away: QoS 1, and a session that lasts a week.
A message is acknowledged only when its readings are safe with whoever listens, so a crash of ours
loses none; what comes twice has the same source time. One `MqttSession` is one connection and
never heals itself. What messages mean in the plant's tags is `connectors.topics`'.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from datetime import datetime
from functools import partial
from itertools import groupby
from math import inf
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from connectors.broker_faults import lost, refused
from connectors.ending import end_tasks
from connectors.queue_end import QueueEnd
from connectors.security import Access, PasswordLogin
from connectors.security.tls import TlsTrust
from connectors.topics import Sent, Topics
from twin.clock import PlantClock
from twin.clock import wall_now as read_wall_clock
from twin.errors import EndpointUnavailable, Fault, NodeFault, UsageError
from twin.plant import MqttSource, Plant
from twin.records import Reading

if TYPE_CHECKING:
    from aiomqtt import Client, Message

#: How long the broker shall keep what is sent while we are away, s: a week, so that a collector
#: that dies before a long weekend loses nothing. Brokers have limits of their own beside it.
SESSION_EXPIRY_S = 7 * 86_400

_KEEP_ALIVE_S = 5  # a broker that answers no ping for so long is lost
_UNACKNOWLEDGED = 65_535  # the most MQTT has numbers for; a broker's own default of 20 is slow
#: So many messages wait in memory at most: what is sent at QoS 0 no broker holds back.
MOST_WAITING = 2 * _UNACKNOWLEDGED
_LARGEST_PACKET = 8 << 20  # a bound for our memory; a larger one never leaves the broker
_TOPICS_PER_REQUEST = 500
_MESSAGES_AT_ONCE = 1_000
_HIGHEST_SUBSCRIPTION = 268_435_455  # MQTT 5.0, 3.8.2.1.2
# Also of messages sent at QoS 2: there the broker forgets a message before it is safe with us, and
# paho forgets it with the connection. What comes twice at QoS 1 is one row, by its source time.
_HIGHEST_QOS = 1

_QUIET_S = 1.0  # no message for so long: nothing waits any more
_OFFERED_AGAIN_S = 0.5  # between offers of readings for which there was no room
# So long at most a link stands on after trust in its broker was taken back.
_TRUST_LOOK_S = 2.0
_QUEUE_ENDED = "the broker's queue for us ended before we were back"

#: Safe with whoever listens: None at once, else when the future is done. Cancelled: no room now.
Kept = asyncio.Future[None] | None
OnReadings = Callable[[list[Reading]], Kept]


class MqttSession:
    """One connection to a broker; use it with `async with`.

    `clock` is the plant's; without one (no OPC UA source beside it) the plant lives in real time.
    `access` is who we are and whom we trust, needed for a password and for authorities other than
    this machine's. `faulty` names tags whose topic the broker refuses, always empty unless
    `is_strict` is False. `on_misdated` and `on_wrong` hear what `Topics` tells.

    Raises on connecting:
        EndpointUnavailable: nothing answers, it is no MQTT 5 broker, or it lets us not in.
        SecurityFault: no login is told, or it or the broker's certificate will not do.
        UsageError: the library aiomqtt is not installed.
    """

    #: The broker keeps what is not acknowledged, so what found no room is not lost.
    holds_back = True

    def __init__(
        self,
        plant: Plant,
        source: MqttSource,
        *,
        access: Access | None = None,
        clock: PlantClock | None = None,
        request_timeout_s: float = 4.0,
        most_waiting: int = MOST_WAITING,
        is_strict: bool = True,
        on_misdated: Callable[[str, datetime, datetime], None] = lambda _tag, _stamp, _latest: None,
        on_wrong: Callable[[str, str], None] = lambda _tag, _message: None,
        wall_now: Callable[[], datetime] = read_wall_clock,
    ) -> None:
        self.endpoint = source.broker
        self.faulty: tuple[str, ...] = ()
        self.was_kept_for = False  # the broker knew us, and kept for us what was sent meanwhile
        self.clock = clock or PlantClock.start([], wall=wall_now, has_own_time=False)
        self._owns_clock = source is plant.all_sources[0]
        self._plant = plant
        self._source = source
        self._client_id = source.client_id or f"plantwright-{plant.plant}-{source.name}"
        self._access = access
        self._request_timeout_s = request_timeout_s
        self._most_waiting = most_waiting
        self._is_strict = is_strict
        self._on_wrong = on_wrong
        self._tls = TlsTrust(self.endpoint, access.pki if access else None, wall_now)
        self._topics = Topics(plant, source.name, on_misdated=on_misdated, on_wrong=on_wrong)
        self._client: Client
        self._subscription = 1 + secrets.randbelow(_HIGHEST_SUBSCRIPTION)
        self._queue_end = QueueEnd(plant.sample_s)
        self._heard_s = self._connected_s = time.monotonic()
        self._on_readings: OnReadings
        self._on_missed: Callable[[str, Sequence[str]], None]
        self._receiving: asyncio.Task[None] | None = None

    # -- connecting ------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        mqtt = _library()
        self._client = self._new_client(mqtt)
        try:
            await self._client.__aenter__()
        except mqtt.MqttError as reason:
            login = self._login()
            raise refused(self.endpoint, login.user if login else "", reason) from reason
        self._connected_s = time.monotonic()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._receiving is not None:
            await end_tasks(self._receiving)
        with contextlib.suppress(_library().MqttError, OSError):
            await self._client.__aexit__(None, None, None)

    def _new_client(self, mqtt: Any) -> Client:
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        address = urlsplit(self.endpoint)
        wanted = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho says none
        wanted.SessionExpiryInterval = SESSION_EXPIRY_S
        wanted.ReceiveMaximum = _UNACKNOWLEDGED
        wanted.MaximumPacketSize = _LARGEST_PACKET
        login = self._login()
        client: Client = mqtt.Client(
            address.hostname or "",
            address.port or 0,
            username=login.user if login else None,
            password=login.password.get_secret_value() if login else None,
            identifier=self._client_id,
            protocol=mqtt.ProtocolVersion.V5,
            clean_start=False,
            properties=wanted,
            keepalive=_KEEP_ALIVE_S,
            timeout=self._request_timeout_s,
            tls_context=self._tls.context() if address.scheme == "mqtts" else None,
        )
        # aiomqtt has no door of its own for these of paho's: without manual acknowledgement paho
        # acknowledges what nobody has taken in yet, and a crash of ours loses it.
        client._client.manual_ack_set(True)

        def on_connect(paho: Any, data: Any, flags: Any, *rest: Any) -> None:
            self.was_kept_for = bool(flags.session_present)
            client._on_connect(paho, data, flags, *rest)

        client._client.on_connect = on_connect
        return client

    def _login(self) -> PasswordLogin | None:
        if self._source.login == "anonymous":
            return None
        if self._access is None:
            raise UsageError(f"{self.endpoint}: nobody said where our secrets are kept.")
        return self._access.secrets.password(self._source.name, self._access.identity)

    @property
    def security_warning(self) -> str:
        """What is not as safe as it should be, or soon will not be; else empty."""
        if urlsplit(self.endpoint).scheme != "mqtts":
            return (
                f"{self.endpoint} is not encrypted: any program on this machine can read it, "
                "change it or answer in its place."
            )
        return self._tls.warning

    # -- receiving -------------------------------------------------------------------------------

    async def subscribe(
        self,
        on_readings: OnReadings,
        *,
        on_missed: Callable[[str, Sequence[str]], None] = lambda _reason, _tags: None,
    ) -> None:
        """Call `on_readings` with what is published from now on, and first with what waited.

        It runs in this event loop and must be quick. Messages are acknowledged once the future it
        returns is done (None: at once). Where that is cancelled the same readings are offered
        again until there is room; the broker keeps what comes meanwhile. Where messages were
        lost, `on_missed` is told why before the readings that came after them.

        Raises NodeFault naming every tag whose topic the broker refuses; unless `is_strict` they
        are left out and named in `faulty`, as long as there are others.
        """
        self._on_readings, self._on_missed = on_readings, on_missed
        self._receiving = receiving = asyncio.create_task(self._receive())
        faults: list[Fault] = []
        topics = list(self._topics.tags)
        for first in range(0, len(topics), _TOPICS_PER_REQUEST):
            faults += await self._ask_for(topics[first : first + _TOPICS_PER_REQUEST], receiving)
        tags = self._plant.tags_of(self._source.name)
        if faults and (self._is_strict or len(faults) == len(tags)):
            raise NodeFault(self.endpoint, faults)
        self.faulty = tuple(sorted(fault.where for fault in faults))

    async def until_lost(self) -> str:
        """Wait until the connection is lost; says why."""
        if self._receiving is None:
            raise UsageError(f"{self.endpoint}: nothing is subscribed to yet.")
        distrusting = asyncio.create_task(self._until_distrusted())
        try:
            await asyncio.wait([self._receiving, distrusting], return_when=asyncio.FIRST_COMPLETED)
            if distrusting.done():
                return distrusting.result()
        finally:
            await end_tasks(distrusting)
        try:
            self._receiving.result()
        except _library().MqttError as reason:
            lived_s = time.monotonic() - self._connected_s
            return lost(reason.__cause__ or reason, self._client_id, lived_s)
        return "the broker ended the connection"

    async def _until_distrusted(self) -> str:
        """Why the broker's certificate is trusted no more, once it is not."""
        reason = ""
        while not reason:
            await asyncio.sleep(_TRUST_LOOK_S)
            reason = await asyncio.to_thread(self._tls.distrust)
        return reason

    async def history(
        self, start: datetime, end: datetime, tags: Sequence[str] | None = None
    ) -> AsyncGenerator[list[Reading], None]:
        """Nothing: what a broker keeps for us comes by itself, before anything newer of its topic.

        Whoever fills a gap finds it stored.
        """
        return
        yield []  # what makes it a generator

    @property
    def silent_s(self) -> float:
        """Seconds since the last message."""
        return time.monotonic() - self._heard_s

    async def _ask_for(self, topics: Sequence[str], receiving: asyncio.Task[None]) -> list[Fault]:
        """Subscribe to topics; the tags of those that the broker refuses."""
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties
        from paho.mqtt.subscribeoptions import SubscribeOptions

        # Messages carry the number of the subscription for which the broker took them: another one
        # than this connection's tells that they waited.
        numbered = Properties(PacketTypes.SUBSCRIBE)  # type: ignore[no-untyped-call]  # paho says none
        numbered.SubscriptionIdentifier = self._subscription
        qos = min(self._source.qos, _HIGHEST_QOS)
        wanted = [(topic, SubscribeOptions(qos=qos)) for topic in topics]
        asked = self._client.subscribe(wanted, properties=numbered, timeout=inf)
        codes = await self._answer(asked, receiving)
        faults: list[Fault] = []
        for topic, code in zip(topics, codes, strict=True):
            for tag in self._topics.tags[topic]:
                if code.is_failure:
                    faults.append(
                        Fault(tag, f"topic {topic}: {code}.", remedy="Have it allowed there.")
                    )
                elif code.value < qos:
                    granted = f"topic {topic}: the broker grants QoS {code.value} only"
                    self._on_wrong(tag, f"{granted}; what is sent while we are away is lost")
        return faults

    async def _answer(self, asked: Coroutine[Any, Any, Any], receiving: asyncio.Task[None]) -> Any:
        """The broker's answer, which comes behind all that waited: long, while messages come."""
        self._heard_s = time.monotonic()
        answer = asyncio.ensure_future(asked)
        try:
            while not answer.done():
                await asyncio.wait([answer], timeout=_QUIET_S / 4)
                if receiving.done() or self.silent_s > self._request_timeout_s:
                    break
            if not answer.done():
                told = f"{self.endpoint}: subscribing got no answer. Check the broker."
                raise EndpointUnavailable(told)
            return answer.result()
        except _library().MqttError as reason:
            told = f"{self.endpoint}: subscribing got no answer ({reason}). Check the broker."
            raise EndpointUnavailable(told) from reason
        finally:
            answer.cancel()

    async def _receive(self) -> None:
        """Take messages in, as many at once as are there, until the connection is lost."""
        waiting = self._client.messages
        async for message in waiting:
            messages = [message]
            while len(waiting) and len(messages) < _MESSAGES_AT_ONCE:
                messages.append(await anext(waiting))
            for has_waited, group in groupby(messages, self._has_waited):
                await self._take(list(group), has_waited)
            for topic in {each.topic.value for each in messages} - self._topics.tags.keys():
                await self._client.unsubscribe(topic)  # of an earlier plant file

    def _has_waited(self, message: Message) -> bool:
        """Whether the broker took it for an earlier connection of ours."""
        return self._subscription not in getattr(message.properties, "SubscriptionIdentifier", ())

    async def _take(self, messages: Sequence[Message], has_waited: bool) -> None:
        """Hand on what messages say, and acknowledge them when that is safe."""
        was_quiet, self._heard_s = self.silent_s > _QUIET_S, time.monotonic()
        sent = [
            Sent(each.topic.value, each.payload, bool(each.retain), has_waited)
            for each in messages
            if isinstance(each.payload, bytes)
        ]
        readings = self._topics.readings(sent, self.clock)
        if self._owns_clock and not has_waited:
            for each in readings:
                if each.is_good and not each.marks:
                    self.clock.trust(each.source_time)
        parts = self._queue_end.parts(readings, self.clock, has_waited=has_waited)
        if was_quiet:
            self._queue_end.caught_up()
        kept: list[asyncio.Future[None]] = []
        for number, part in enumerate(parts):
            if number:
                self._on_missed(_QUEUE_ENDED, ())
            offered = await self._offered(part) if part else None
            if offered is not None:
                kept.append(offered)
        if kept:
            asyncio.gather(*kept).add_done_callback(partial(self._acknowledge_safe, messages))
        else:
            self._acknowledge(messages)

    async def _offered(self, readings: list[Reading]) -> Kept:
        """Hand readings on, again and again until there is room.

        The link ends where too much comes meanwhile that the broker does not hold back (QoS 0).
        """
        kept = self._on_readings(readings)
        while kept is not None and kept.cancelled():
            if (waiting := len(self._client.messages)) > self._most_waiting:
                raise _library().MqttError(f"no room here, and {waiting} messages wait for it")
            self._queue_end.refused()
            await asyncio.sleep(_OFFERED_AGAIN_S)
            self._heard_s = time.monotonic()  # it is we who hold it up
            kept = self._on_readings(readings)
        return kept

    def _acknowledge_safe(
        self, messages: Sequence[Message], kept: asyncio.Future[list[None]]
    ) -> None:
        if not kept.cancelled() and kept.exception() is None:
            self._acknowledge(messages)

    def _acknowledge(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._client._client.ack(message.mid, message.qos)


def _library() -> Any:
    """aiomqtt, which only plants with an MQTT source need."""
    try:
        import aiomqtt
    except ModuleNotFoundError as missing:
        raise UsageError(
            "This plant has an MQTT source, and the library aiomqtt is not installed. Type "
            "pip install 'plantwright[mqtt]'."
        ) from missing
    return aiomqtt
