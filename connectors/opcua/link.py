"""One connection to a server: asked with a deadline, closed in seconds, and known when it is dead.

A `Link` never heals itself: asyncua's own reconnect was seen to lose data or to stay "connected"
without any. What nodes and values mean is not known here.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from typing import Any

from asyncua import Client, ua

from connectors.opcua.address import check_address, quiet_library_log
from connectors.opcua.deadline import deadline
from connectors.opcua.guard import Guard
from connectors.opcua.limits import Limits, Service
from connectors.opcua.requests import read_request
from twin.errors import EndpointUnavailable

#: Everything a broken link, a silent server or a service fault raises in asyncua.
LINK_ERRORS = (OSError, TimeoutError, ua.UaError)

_HEALTH_CHECK_S = 10.0  # asyncua's own default of 1 s declares a busy server dead
#: A session that a broken link leaves behind counts against the server's limit for so long; a link
#: that stands says something at least every 10 s.
SESSION_TIMEOUT_S = 30.0
_CHANNEL_S = 3_600.0  # asyncua's default, and the most that many servers grant
_DISCONNECT_S, _ABANDON_S = 3.0, 0.5  # of a link that stands, and of one found dead
_LOOK_S = 0.25  # how often a link is looked at for signs of death
# So long at most a link stands on after trust in its server was taken back: reading the trust store
# costs a few milliseconds.
_TRUST_LOOK_S = 2.0


class Link:
    """A connection to `endpoint`, as protected as `guard` makes it.

    `services` are asyncua's services while it stands. Its keys are changed in three quarters of
    `channel_s`; the server forgets a session `session_s` after its link broke.
    """

    def __init__(
        self,
        endpoint: str,
        request_timeout_s: float,
        guard: Guard,
        channel_s: float = _CHANNEL_S,
        session_s: float = SESSION_TIMEOUT_S,
    ) -> None:
        quiet_library_log()
        check_address(endpoint)
        self.endpoint = endpoint
        self.limits = Limits()
        self._guard = guard
        self._request_timeout_s = request_timeout_s
        self._client: Any = Client(endpoint, request_timeout_s, watchdog_intervall=_HEALTH_CHECK_S)
        self._client.session_timeout = 1e3 * session_s
        self._client.secure_channel_timeout = round(1e3 * channel_s)
        self._client.name = self._client.description = "Plantwright"
        self._trusting: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()
        self._loss_reason = ""
        self._is_unanswered = False
        self._published_s: dict[int, float] = {}  # by subscription
        self._stale_after_s: dict[int, float] = {}

    @property
    def services(self) -> Any:
        """asyncua's calls, one per OPC UA service."""
        return self._client.uaclient

    async def open(self) -> None:
        """Connect, once; raises one of LINK_ERRORS, or SecurityFault."""
        await self._guard.prepare(self._client, self._request_timeout_s)
        try:
            await self._client.connect()
        except AssertionError as reason:
            # asyncua asserts that a channel was opened; who does not trust us answers with a fault.
            refused = ConnectionError("the server opened no channel")
            self._guard.explain(refused)
            raise refused from reason
        except LINK_ERRORS as reason:
            self._guard.explain(reason)
            raise
        self._trusting = asyncio.create_task(self._end_without_trust())
        await self.limits.read(self._client)

    async def _end_without_trust(self) -> None:
        """End the link, also under whoever only asks and writes, once its server is refused."""
        reason = ""
        while not reason:
            await asyncio.sleep(_TRUST_LOOK_S)
            reason = await asyncio.to_thread(self._guard.distrust)
        self.lose(reason)
        self._client.disconnect_socket()

    async def close(self) -> None:
        """Leave within seconds, whatever the server does."""
        within_s = _ABANDON_S if self._lost.is_set() else _DISCONNECT_S
        if self._lost.is_set() or self._is_unanswered:
            self._drop_unsent()
        self.lose("closed by us")
        if self._trusting is not None:
            self._trusting.cancel()
        try:
            with contextlib.suppress(*LINK_ERRORS):
                async with deadline(within_s):
                    await self._client.disconnect()
        finally:
            self._client.disconnect_socket()

    def _drop_unsent(self) -> None:
        """Closing resets the connection: a request that was not answered is not sent later on."""
        protocol = self._client.uaclient.protocol
        transport = protocol.transport if protocol is not None else None
        if transport is not None and not transport.is_closing():
            at_once = struct.pack("ii", 1, 0)
            transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, at_once
            )

    @contextlib.contextmanager
    def asking(self, what: str) -> Iterator[None]:
        """Turn a question's failing into EndpointUnavailable that says `what` was asked."""
        try:
            yield
        except LINK_ERRORS as reason:
            self._is_unanswered = True
            told = self._loss_reason or text(reason)
            raise EndpointUnavailable(
                f"{self.endpoint}: {what} got no answer ({told}). Check the server."
            ) from reason

    async def ask(self, request: Any, within_s: float) -> Any:
        """The server's answer in bytes, to a request that may take longer than others.

        Raises one of LINK_ERRORS.
        """
        protocol = self._client.uaclient.protocol
        if protocol is None:
            raise ConnectionError("the connection broke")
        return await protocol.send_request(request, within_s)

    async def namespaces(self) -> list[str]:
        """The server's namespaces, by index."""
        return [str(each) for each in await self._client.get_namespace_array()]

    async def read(self, node_ids: Sequence[Any], attribute: Any = None) -> list[Any]:
        """A data value per node, of its value by default, in as many requests as it takes."""
        attribute = ua.AttributeIds.Value if attribute is None else attribute
        return await self.limits.ask(
            Service.READ,
            node_ids,
            lambda part: self.services.read(read_request(part, attribute)),
        )

    def expect_publishes(self, subscription: int, stale_after_s: float) -> None:
        """From now on the link is dead once this one published nothing for so long."""
        self._stale_after_s[subscription] = stale_after_s
        if self._published_s.get(subscription) != math.inf:  # one may be excused already
            self.note_publish(subscription)

    def note_publish(self, subscription: int) -> None:
        """The server has just published."""
        self._published_s[subscription] = time.monotonic()

    def excuse_publishes(self, subscription: int) -> None:
        """We ask for no publish just now: until the next one, silence says nothing."""
        self._published_s[subscription] = math.inf

    @property
    def silent_s(self) -> float:
        """Seconds since the server last published, with or without values; inf if it never did."""
        if not self._published_s:
            return math.inf
        return max(0.0, time.monotonic() - max(self._published_s.values()))

    def lose(self, reason: str) -> None:
        """The link is dead; the first reason counts."""
        if not self._lost.is_set():
            self._loss_reason = reason
            self._lost.set()

    async def until_lost(self) -> str:
        """Wait until the link is dead, also when it only looks alive; says why."""
        while not self._lost.is_set():
            for subscription, most_s in self._stale_after_s.items():
                silent_s = time.monotonic() - self._published_s[subscription]
                if silent_s > most_s:
                    self.lose(f"no publish for {silent_s:.1f} s though the connection stands")
            if str(self._client.state.value) == "disconnected":
                self.lose("the connection broke")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._lost.wait()
        return self._loss_reason


def text(reason: BaseException) -> str:
    """What an error says, or at least its name."""
    return str(reason) or type(reason).__name__
