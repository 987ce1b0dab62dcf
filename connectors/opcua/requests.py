"""The larger OPC UA requests, with every parameter stated: libraries' defaults lost data."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from asyncua import ua

_KEEP_ALIVE_COUNT = 8  # publishing intervals without data until the server says "still here"
_LIFETIME_COUNT = 10 * _KEEP_ALIVE_COUNT
_QUEUE_SIZE = 1_000  # samples the server keeps per tag: 2 min 47 s at 10 s samples and 60×
_NOTIFICATIONS_PER_PUBLISH = 10_000
_REFERENCES_PER_NODE = 1_000  # in one answer; some 100 bytes each
_VALUES_PER_HISTORY_REQUEST = 8_000  # about .1 s of a server's time


def read_request(node_ids: Sequence[Any], attribute: Any) -> Any:
    """One attribute of each node as it is now, with both its times."""
    request = ua.ReadParameters()
    request.MaxAge = 0
    request.TimestampsToReturn = ua.TimestampsToReturn.Both
    request.NodesToRead = [ua.ReadValueId(node, attribute) for node in node_ids]
    return request


def subscription_request(interval_ms: float) -> Any:
    """A subscription that says within eight publishing intervals that it is alive."""
    request = ua.CreateSubscriptionParameters()
    request.RequestedPublishingInterval = interval_ms
    request.RequestedMaxKeepAliveCount = _KEEP_ALIVE_COUNT
    request.RequestedLifetimeCount = _LIFETIME_COUNT
    request.MaxNotificationsPerPublish = _NOTIFICATIONS_PER_PUBLISH
    request.PublishingEnabled = True
    return request


def monitor_request(subscription: int, nodes: Sequence[tuple[int, Any, float]]) -> Any:
    """Monitor the values of (handle, node id, sampling interval in ms) with long queues."""
    request = ua.CreateMonitoredItemsParameters()
    request.SubscriptionId = subscription
    request.TimestampsToReturn = ua.TimestampsToReturn.Both
    for handle, node_id, sampling_ms in nodes:
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
    request.ReleaseContinuationPoints = False  # asyncua's default, True, asks for no values at all
    for node_id, continuation in nodes:
        value = ua.HistoryReadValueId()
        value.NodeId = node_id
        value.ContinuationPoint = continuation
        request.NodesToRead.append(value)
    return request


def browse_request(node_ids: Sequence[Any]) -> Any:
    """What hangs below each node: objects and variables, by hierarchical references."""
    request = ua.BrowseParameters()
    request.RequestedMaxReferencesPerNode = _REFERENCES_PER_NODE
    classes = ua.NodeClass.Object | ua.NodeClass.Variable
    told = ua.BrowseResultMask
    mask = told.NodeClass | told.BrowseName | told.TypeDefinition
    hierarchical = ua.NodeId(ua.ObjectIds.HierarchicalReferences)
    for node_id in node_ids:
        wanted = ua.BrowseDescription()
        wanted.NodeId = node_id
        wanted.BrowseDirection = ua.BrowseDirection.Forward
        wanted.ReferenceTypeId = hierarchical
        wanted.IncludeSubtypes = True
        wanted.NodeClassMask = classes
        wanted.ResultMask = mask
        request.NodesToBrowse.append(wanted)
    return request


def browse_next_request(points: Sequence[bytes]) -> Any:
    """Where browsing stopped, go on."""
    request = ua.BrowseNextParameters()
    request.ReleaseContinuationPoints = False
    request.ContinuationPoints = list(points)
    return request
