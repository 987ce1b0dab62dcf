"""The past from a server's own history, in batches that are followed to their end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from asyncua import ua
from asyncua.ua.ua_binary import struct_from_binary

from connectors.opcua.limits import TOO_MUCH, Service
from connectors.opcua.link import Link
from connectors.opcua.requests import history_request
from connectors.opcua.values import is_unanswered
from twin.errors import Fault, NodeFault

#: An archive on disks may take so long; that the link lives is told by its publishes meanwhile.
_ANSWER_WITHIN_S = 30.0

#: What a server says of a node whose history it has, but cannot bring just now, beside
#: `is_unanswered` (OPC 10000-4, 7.39.2).
_BUSY = (
    ua.StatusCodes.BadNotConnected,
    ua.StatusCodes.BadDeviceFailure,
    ua.StatusCodes.BadResourceUnavailable,
    ua.StatusCodes.BadOutOfMemory,
    ua.StatusCodes.BadInternalError,
    ua.StatusCodes.BadNoContinuationPoints,  # also of one node: others of ours hold them all
)
#: What a server says instead of any answer that keeps no history, or lets us see none: most PLCs.
_NONE = (
    ua.uaerrors.BadServiceUnsupported,
    ua.uaerrors.BadHistoryOperationUnsupported,
    ua.uaerrors.BadHistoryOperationInvalid,
    ua.uaerrors.BadNotSupported,
    ua.uaerrors.BadNotImplemented,
    ua.uaerrors.BadUserAccessDenied,
)


async def read_history(
    link: Link, nodes: Mapping[str, Any], start: datetime, end: datetime
) -> AsyncGenerator[list[tuple[str, Any]], None]:
    """Batches of (name, data value) from `start` to `end`, both included, roughly in time order.

    Raises:
        NodeFault: at the end, naming all nodes of which the server keeps no history, or gave no
            answer just now (the fault may pass: a gateway's device is away). Of these some values
            may have been yielded.
        EndpointUnavailable: the link broke; what was yielded stands.
    """
    faults: list[Fault] = []
    left = list(nodes)
    while left:
        most = link.limits.of(Service.HISTORY)
        part, left = left[:most], left[most:]
        pending: dict[str, Any] = dict.fromkeys(part)
        request = asyncio.ensure_future(_ask(link, nodes, pending, start, end))
        try:
            while pending:
                with link.asking("history"):
                    told = await request
                answers = _sort(link, pending, told)
                faults += answers.faults
                pending = answers.rest
                if pending:  # the server works on the next part while this one is stored
                    request = asyncio.ensure_future(_ask(link, nodes, pending, start, end))
                if answers.values:
                    yield answers.values
                left = answers.again + left
        finally:
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)
    if faults:
        raise NodeFault(link.endpoint, faults)


@dataclass(frozen=True)
class _Answers:
    """What came, where each name that has more goes on, and who has to be asked again alone."""

    values: list[tuple[str, Any]] = field(default_factory=list)
    rest: dict[str, Any] = field(default_factory=dict)
    again: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


async def _ask(
    link: Link, nodes: Mapping[str, Any], pending: Mapping[str, Any], start: datetime, end: datetime
) -> list[Any] | None:
    """An answer per name, or None where the server took the request for too large.

    A server that keeps no history at all says so of every name.
    """
    continued = [(nodes[name], point) for name, point in pending.items()]
    try:
        told = await _results(link, history_request(continued, start, end))
    except TOO_MUCH:
        if not link.limits.was_too_much(Service.HISTORY, len(pending)):
            raise
        return None
    except _NONE as refusal:
        return [ua.HistoryReadResult(StatusCode=ua.StatusCode(refusal.code)) for _ in pending]
    if len(told) != len(pending):
        raise ua.UaError(f"{len(told)} answers to {len(pending)} questions")
    return told


async def _results(link: Link, parameters: Any) -> list[Any]:
    request = ua.HistoryReadRequest()
    request.Parameters = parameters
    answer = await link.ask(request, _ANSWER_WITHIN_S)
    response = struct_from_binary(ua.HistoryReadResponse, answer)
    response.ResponseHeader.ServiceResult.check()
    return list(response.Results or ())


def _sort(link: Link, pending: Mapping[str, Any], told: list[Any] | None) -> _Answers:
    answers = _Answers()
    if told is None:
        answers.again.extend(pending)
        return answers
    for name, result in zip(pending, told, strict=True):
        status = result.StatusCode
        if status.value == ua.StatusCodes.BadNoData:
            continue
        if status.value == ua.StatusCodes.BadNoContinuationPoints and len(pending) > 1:
            answers.again.append(name)  # the server remembers where it was for so many only
        elif is_unanswered(status) or status.value in _BUSY:
            told_of = f"its history got no answer: {status.name}."
            answers.faults.append(Fault(name, told_of, may_pass=True))
        elif status.is_bad():
            answers.faults.append(Fault(name, f"no history: {status.name}."))
        else:
            values = getattr(result.HistoryData, "DataValues", None) or ()
            answers.values.extend((name, value) for value in values)
            if result.ContinuationPoint:
                answers.rest[name] = result.ContinuationPoint
    if answers.again:
        link.limits.was_too_much(Service.HISTORY, len(pending))
    return answers
