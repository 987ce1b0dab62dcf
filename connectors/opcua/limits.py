"""How much one request may ask of a server: what it states, and less where it took less.

A server that is asked for too much answers nothing of it, so a wrong guess must never end a link.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any, TypeVar

from asyncua import ua

#: What a request that asked for too much fails with (OPC 10000-4, 7.39.2).
TOO_MUCH = (
    ua.uaerrors.BadTooManyOperations,
    ua.uaerrors.BadRequestTooLarge,
    ua.uaerrors.BadResponseTooLarge,
    ua.uaerrors.BadEncodingLimitsExceeded,
)

_OPERATION_LIMIT = 1_000  # where the server states none: beyond it, some drop the connection

_Item = TypeVar("_Item")


class Service(StrEnum):
    """A kind of request with a limit of its own: the node in which servers state it."""

    READ = "MaxNodesPerRead"
    MONITOR = "MaxMonitoredItemsPerCall"
    HISTORY = "MaxNodesPerHistoryReadData"
    BROWSE = "MaxNodesPerBrowse"


class Limits:
    """The most items per request of each service."""

    def __init__(self) -> None:
        self._most = dict.fromkeys(Service, _OPERATION_LIMIT)

    def of(self, service: Service) -> int:
        """The most items that one request of this service may have; at least 1."""
        return self._most[service]

    def state(self, service: Service, most: object) -> None:
        """The server states its limit; 0 or nothing means that it has none."""
        if isinstance(most, int) and most > 0:
            self._most[service] = min(most, _OPERATION_LIMIT)

    def was_too_much(self, service: Service, count: int) -> bool:
        """The server refused `count` items at once: whether fewer can be tried."""
        self._most[service] = max(1, min(self._most[service], count // 2))
        return count > 1

    async def read(self, client: Any) -> None:
        """Ask the server for its limits."""
        stem = "Server_ServerCapabilities_OperationLimits_"
        ids = [ua.NodeId(getattr(ua.ObjectIds, stem + service)) for service in Service]
        found = await client.uaclient.read_attributes(ids, ua.AttributeIds.Value)
        for service, value in zip(Service, found, strict=True):
            if value.StatusCode.is_good() and value.Value is not None:
                self.state(service, value.Value.Value)

    async def ask(
        self,
        service: Service,
        items: Sequence[_Item],
        question: Callable[[Sequence[_Item]], Awaitable[Iterable[Any]]],
    ) -> list[Any]:
        """The answers to `items` in order, in as many requests as it takes.

        `question` is one request: an answer per item. Raises what it raises.
        """
        answers: list[Any] = []
        while len(answers) < len(items):
            part = items[len(answers) : len(answers) + self._most[service]]
            try:
                told = list(await question(part))
            except TOO_MUCH:
                if not self.was_too_much(service, len(part)):
                    raise
                continue
            if len(told) != len(part):
                raise ua.UaError(f"{len(told)} answers to {len(part)} questions")
            answers += told
        return answers
