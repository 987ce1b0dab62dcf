"""Live values: a subscription whose every publish is taken in, or told as missed.

Whoever listens is handed raw data values; what they mean is not judged here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asyncua import ua

from connectors.opcua.limits import Service
from connectors.opcua.link import Link
from connectors.opcua.requests import monitor_request, subscription_request
from connectors.opcua.values import has_overflowed
from twin.errors import Fault

_OVERFLOW = "the server's queue overflowed"
_MISSED = "a publish of the server did not arrive"


#: Takes (name, data value) pairs. What it returns is done when they are safe (None: at once).
OnValues = Callable[[list[tuple[str, Any]]], asyncio.Future[None] | None]
#: Hears why values were lost and of which names (none: of any), before those that come after.
OnMissed = Callable[[str, Sequence[str]], None]


@dataclass(frozen=True)
class Monitored:
    """A node to be monitored, and how often its server shall look at it (0: at every change).

    The plant makes a value of it every `sample_ms`.
    """

    node_id: Any
    sampling_ms: float
    sample_ms: float


async def subscribe(
    link: Link,
    nodes: Mapping[str, Monitored],
    publishing_ms: float,
    on_values: OnValues,
    on_missed: OnMissed,
    on_thin: Callable[[str, str], None],
) -> list[Fault]:
    """Monitor `nodes` from now on; what cannot be monitored comes back.

    `on_thin` hears the first of those whose values do not all come by what the server grants, and
    why: it says nothing of a queue of one that it writes over.

    The server is asked for no more values until those before are safe: what comes meanwhile waits
    in its queues. Raises one of LINK_ERRORS.
    """
    by_handle = dict(enumerate(nodes, start=1))
    inbox = Inbox(link, by_handle, on_values, on_missed)
    created = await link.services.create_subscription(
        subscription_request(publishing_ms), inbox.take
    )
    results = await link.limits.ask(
        Service.MONITOR,
        [(handle, nodes[name]) for handle, name in by_handle.items()],
        lambda part: link.services.create_monitored_items(
            monitor_request(
                created.SubscriptionId,
                [(handle, node.node_id, node.sampling_ms) for handle, node in part],
            )
        ),
    )
    faults = [
        Fault(name, f"cannot be monitored: {result.StatusCode.name}.")
        for name, result in zip(nodes, results, strict=True)
        if not result.StatusCode.is_good()
    ]
    if thin := _thin(nodes, results, created.RevisedPublishingInterval):
        first, why = next(iter(thin.items()))
        others = f" (and of {len(thin) - 1} other tags)" if len(thin) > 1 else ""
        on_thin(first, f"{why}{others}, so not all its values come. Change that at the server.")
    if len(faults) == len(nodes):
        await link.services.delete_subscriptions([created.SubscriptionId])
    else:
        # Only from now on: a server may be too busy to publish while it takes in 100,000 nodes.
        keep_alive_ms = created.RevisedMaxKeepAliveCount * created.RevisedPublishingInterval
        link.expect_publishes(created.SubscriptionId, 2e-3 * keep_alive_ms + 1.0)
    return faults


def _thin(
    nodes: Mapping[str, Monitored], granted: Sequence[Any], publishing_ms: float
) -> dict[str, str]:
    """The nodes of which fewer values come than the plant makes, and why."""
    thin: dict[str, str] = {}
    for (name, node), item in zip(nodes.items(), granted, strict=True):
        every_ms, queue = item.RevisedSamplingInterval, max(1, item.RevisedQueueSize)
        if not item.StatusCode.is_good():
            continue
        if node.sampling_ms and every_ms > node.sample_ms:
            thin[name] = f"the server looks at it every {every_ms:g} ms only"
        elif queue * node.sample_ms < publishing_ms:
            thin[name] = f"the server keeps {queue} of it for every {publishing_ms:g} ms"
    return thin


class Inbox:
    """Takes publishes in, in order."""

    def __init__(
        self,
        link: Link,
        by_handle: Mapping[int, str],
        on_values: OnValues,
        on_missed: OnMissed,
    ) -> None:
        self._link = link
        self._by_handle = by_handle
        self._on_values = on_values
        self._on_missed = on_missed
        self._number: int | None = None  # of the newest that brought something

    def take(self, result: Any) -> Coroutine[Any, Any, None] | None:
        """asyncua calls this with every publish, also with one that only says "still here".

        It waits for what this returns before it asks for the next one.
        """
        self._link.note_publish(result.SubscriptionId)
        unsafe: list[asyncio.Future[None]] = []
        is_taken = False
        try:
            told = result.NotificationMessage
            self._count(told.SequenceNumber, is_used=bool(told.NotificationData))
            for notification in result.NotificationMessage.NotificationData or ():
                if isinstance(notification, ua.DataChangeNotification):
                    unsafe += self._take_values(notification.MonitoredItems or ())
                elif isinstance(notification, ua.StatusChangeNotification):
                    ended = f"the server ended the subscription ({notification.Status.name})"
                    self._link.lose(ended)
            is_taken = True
        finally:
            if not is_taken:  # asyncua swallows what is raised here; readings must not go with it
                self._link.lose("a publish of the server could not be taken in")
        return self._until_safe(result.SubscriptionId, unsafe) if unsafe else None

    async def _until_safe(self, subscription: int, unsafe: list[asyncio.Future[None]]) -> None:
        self._link.excuse_publishes(subscription)
        await asyncio.wait(unsafe)
        self._link.note_publish(subscription)

    def _count(self, number: int, *, is_used: bool) -> None:
        """Tell of a hole in the numbers: asyncua drops a publish that it cannot decode.

        One that only says "still here" has the number that the next one will have (OPC UA part 4,
        5.14.1.1).
        """
        if self._number is not None and number > self._number + 1:
            self._on_missed(_MISSED, ())
        if number:
            self._number = number if is_used else number - 1

    def _take_values(self, items: Sequence[Any]) -> list[asyncio.Future[None]]:
        values = [(self._by_handle[item.ClientHandle], item.Value) for item in items]
        overflowed = {name: None for name, value in values if has_overflowed(value)}
        if overflowed:
            self._on_missed(_OVERFLOW, list(overflowed))
        kept = self._on_values(values) if values else None
        return [kept] if kept is not None and not kept.done() else []
