"""The larger OPC UA requests, with every parameter stated: libraries' defaults lost data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from asyncua import ua

_KEEP_ALIVE_COUNT = 8  # publishing intervals without data until the server says "still here"
_LIFETIME_COUNT = 10 * _KEEP_ALIVE_COUNT
_QUEUE_SIZE = 1_000  # samples the server keeps per tag: 2 min 47 s at 10 s samples and 60×
_NOTIFICATIONS_PER_PUBLISH = 10_000
_VALUES_PER_HISTORY_REQUEST = 8_000  # about .1 s of a server's time
_OPERATION_LIMIT = 1_000  # where the server states none

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Limits:
    """The most items the server takes per request."""

    read: int = _OPERATION_LIMIT
    monitor: int = _OPERATION_LIMIT
    history: int = _OPERATION_LIMIT


async def read_limits(client: Any) -> Limits:
    """What the server states of its limits; ours where it states none, or more."""
    stem = "Server_ServerCapabilities_OperationLimits_"
    names = ("MaxNodesPerRead", "MaxMonitoredItemsPerCall", "MaxNodesPerHistoryReadData")
    ids = [ua.NodeId(getattr(ua.ObjectIds, stem + name)) for name in names]
    found = await client.uaclient.read_attributes(ids, ua.AttributeIds.Value)
    stated = [value.Value.Value if value.StatusCode.is_good() else None for value in found]
    return Limits(*(min(limit or _OPERATION_LIMIT, _OPERATION_LIMIT) for limit in stated))


def parts(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    """The items in order, at most `size` at a time."""
    for first in range(0, len(items), size):
        yield items[first : first + size]


def subscription_request(interval_ms: float) -> Any:
    """A subscription that says within eight publishing intervals that it is alive."""
    request = ua.CreateSubscriptionParameters()
    request.RequestedPublishingInterval = interval_ms
    request.RequestedMaxKeepAliveCount = _KEEP_ALIVE_COUNT
    request.RequestedLifetimeCount = _LIFETIME_COUNT
    request.MaxNotificationsPerPublish = _NOTIFICATIONS_PER_PUBLISH
    request.PublishingEnabled = True
    return request


def monitor_request(subscription: int, nodes: Sequence[tuple[int, Any]], sampling_ms: float) -> Any:
    """Monitor the values of (handle, node id) pairs with long queues."""
    request = ua.CreateMonitoredItemsParameters()
    request.SubscriptionId = subscription
    request.TimestampsToReturn = ua.TimestampsToReturn.Both
    for handle, node_id in nodes:
        item = ua.MonitoredItemCreateRequest()
        item.ItemToMonitor.NodeId = node_id
        item.ItemToMonitor.AttributeId = ua.AttributeIds.Value
        item.MonitoringMode = ua.MonitoringMode.Reporting
        wanted = ua.MonitoringParameters()
        wanted.ClientHandle = handle
        wanted.SamplingInterval = sampling_ms
        wanted.QueueSize = _QUEUE_SIZE
        wanted.DiscardOldest = True
        # An unchanged value with a new source time is news: the sensor is alive.
        wanted.Filter = ua.DataChangeFilter(Trigger=ua.DataChangeTrigger.StatusValueTimestamp)
        item.RequestedParameters = wanted
        request.ItemsToCreate.append(item)
    return request


def history_request(nodes: Sequence[tuple[Any, Any]], start: datetime, end: datetime) -> Any:
    """Raw values of (node id, continuation point) pairs, a bounded number per answer."""
    details = ua.ReadRawModifiedDetails()
    details.IsReadModified = False
    details.StartTime, details.EndTime = start, end
    details.NumValuesPerNode = max(1, _VALUES_PER_HISTORY_REQUEST // len(nodes))
    details.ReturnBounds = False
    request = ua.HistoryReadParameters()
    request.HistoryReadDetails = details
    request.TimestampsToReturn = ua.TimestampsToReturn.Both
    for node_id, continuation in nodes:
        value = ua.HistoryReadValueId()
        value.NodeId = node_id
        value.ContinuationPoint = continuation
        request.NodesToRead.append(value)
    return request
