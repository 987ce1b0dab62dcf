"""Live values: a subscription whose every publish is taken in, or told as missed.

Whoever listens is handed raw data values; what they mean is not judged here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from asyncua import ua

from connectors.opcua.limits import Service
from connectors.opcua.link import Link
from connectors.opcua.requests import monitor_request, subscription_request
from connectors.opcua.values import has_overflowed
from twin.errors import Fault

_OVERFLOW = "the server's queue overflowed"
_MISSED = "a publish of the server did not arrive"


async def subscribe(
    link: Link,
    nodes: Mapping[str, Any],
    intervals_ms: tuple[float, float],
    on_values: Callable[[list[tuple[str, Any]]], None],
    on_missed: Callable[[str, Sequence[str]], None],
) -> list[Fault]:
    """Monitor `nodes` (name to node id) from now on; what cannot be monitored comes back.

    `intervals_ms`: of publishing and of sampling. `on_missed` is told why values were lost
    and of which names (none: of any), before the values that come after them.

    Raises one of LINK_ERRORS.
    """
    by_handle = dict(enumerate(nodes, start=1))
    inbox = _Inbox(link, by_handle, on_values, on_missed)
    publishing_ms, sampling_ms = intervals_ms
    request = subscription_request(publishing_ms)
    created = await link.services.create_subscription(request, inbox.take)
    keep_alive_ms = created.RevisedMaxKeepAliveCount * created.RevisedPublishingInterval
    wanted = [(handle, nodes[name]) for handle, name in by_handle.items()]
    results = await link.limits.ask(
        Service.MONITOR,
        wanted,
        lambda part: link.services.create_monitored_items(
            monitor_request(created.SubscriptionId, part, sampling_ms)
        ),
    )
    # Only from now on: a server may well be too busy to publish while it takes in 100,000 nodes.
    link.expect_publishes(2e-3 * keep_alive_ms + 1.0)
    return [
        Fault(name, f"cannot be monitored: {result.StatusCode.name}.")
        for name, result in zip(nodes, results, strict=True)
        if not result.StatusCode.is_good()
    ]


class _Inbox:
    """Takes publishes in, in order."""

    def __init__(
        self,
        link: Link,
        by_handle: Mapping[int, str],
        on_values: Callable[[list[tuple[str, Any]]], None],
        on_missed: Callable[[str, Sequence[str]], None],
    ) -> None:
        self._link = link
        self._by_handle = by_handle
        self._on_values = on_values
        self._on_missed = on_missed
        self._number = 0

    def take(self, result: Any) -> None:
        """asyncua calls this with every publish, also with one that only says "still here"."""
        self._link.note_publish()
        is_taken = False
        try:
            self._count(result.NotificationMessage.SequenceNumber)
            for notification in result.NotificationMessage.NotificationData or ():
                if isinstance(notification, ua.DataChangeNotification):
                    self._take_values(notification.MonitoredItems or ())
                elif isinstance(notification, ua.StatusChangeNotification):
                    ended = f"the server ended the subscription ({notification.Status.name})"
                    self._link.lose(ended)
            is_taken = True
        finally:
            if not is_taken:  # asyncua swallows what is raised here; readings must not go with it
                self._link.lose("a publish of the server could not be taken in")

    def _count(self, number: int) -> None:
        """Tell of a hole in the numbers: asyncua drops a publish that it cannot decode."""
        if self._number and number > self._number + 1:
            self._on_missed(_MISSED, ())
        self._number = number or self._number

    def _take_values(self, items: Sequence[Any]) -> None:
        values = [(self._by_handle[item.ClientHandle], item.Value) for item in items]
        overflowed = {name: None for name, value in values if has_overflowed(value)}
        if overflowed:
            self._on_missed(_OVERFLOW, list(overflowed))
        if values:
            self._on_values(values)
