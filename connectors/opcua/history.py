"""The past from a server's own history, in batches that are followed to their end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from asyncua import ua
from asyncua.ua.ua_binary import struct_from_binary

from connectors.opcua.limits import TOO_MUCH, Service
from connectors.opcua.link import Link
from connectors.opcua.requests import history_request
from connectors.opcua.values import is_unanswered, stamp_of
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
    ua.StatusCodes.BadContinuationPointInvalid,
    ua.StatusCodes.BadNoContinuationPoints,  # also of one node: others of ours hold them all
)
#: What some send where they were not asked for values at the ends (OPC 10000-11, 6.5.3).
_BOUNDS = (ua.StatusCodes.BadBoundNotFound, ua.StatusCodes.BadBoundNotSupported)
#: Answers in a row without anything newer, and still more to come: some pause so, none so often.
_IDLE_ANSWERS = 100
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
    left = [(start, list(nodes))]
    while left:
        since, names = left.pop(0)
        most = link.limits.of(Service.HISTORY)
        left = [(since, names[most:]), *left] if names[most:] else left
        asked = _Asked(since, dict.fromkeys(names[:most]), dict.fromkeys(names, since))
        request = asyncio.ensure_future(_ask(link, nodes, asked.pending, since, end))
        try:
            while asked.pending:
                with link.asking("history"):
                    told = await request
                answers = _sort(link, asked, told)
                faults += answers.faults
                asked.pending = answers.rest
                if asked.pending:  # the server works on the next part while this one is stored
                    request = asyncio.ensure_future(_ask(link, nodes, asked.pending, since, end))
                if answers.values:
                    yield answers.values
                left = [(since, answers.again), *left] if answers.again else left
                left += [(asked.reached[name], [name]) for name in answers.forgotten]
        finally:
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)
    if faults:
        raise NodeFault(link.endpoint, faults)


@dataclass
class _Asked:
    """What was asked from `since` on: where each name goes on that has more to come.

    Each has `reached` some time. `idle` counts answers in a row that brought a name no further.
    """

    since: datetime
    pending: dict[str, Any]
    reached: dict[str, datetime]
    idle: Counter[str] = field(default_factory=Counter)

    def has_more(self, name: str) -> bool:
        """Whether something of it came, so that asking from there on leads further."""
        return self.reached[name] > self.since

    def note(self, name: str, values: Sequence[Any]) -> bool:
        """Note an answer that says that there is more; False where that leads nowhere."""
        newest = stamp_of(values[-1]) if values else None
        if newest is not None and newest > self.reached[name]:
            self.reached[name] = newest
            self.idle[name] = 0
        else:
            self.idle[name] += 1
        return self.idle[name] < _IDLE_ANSWERS


@dataclass(frozen=True)
class _Answers:
    """What came, where each name that has more goes on, and who has to be asked again alone.

    Of names that are `forgotten` the server knows no more where it was.
    """

    values: list[tuple[str, Any]] = field(default_factory=list)
    rest: dict[str, Any] = field(default_factory=dict)
    again: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
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


def _sort(link: Link, asked: _Asked, told: list[Any] | None) -> _Answers:
    answers = _Answers()
    if told is None:
        answers.again.extend(asked.pending)
        return answers
    for name, result in zip(asked.pending, told, strict=True):
        status = result.StatusCode
        if status.value == ua.StatusCodes.BadNoData:
            continue
        if status.value == ua.StatusCodes.BadNoContinuationPoints and len(asked.pending) > 1:
            answers.again.append(name)  # the server remembers where it was for so many only
        elif status.value == ua.StatusCodes.BadContinuationPointInvalid and asked.has_more(name):
            answers.forgotten.append(name)
        elif is_unanswered(status) or status.value in _BUSY:
            told_of = f"its history got no answer: {status.name}."
            answers.faults.append(Fault(name, told_of, may_pass=True))
        elif status.is_bad():
            answers.faults.append(Fault(name, f"no history: {status.name}."))
        else:
            values = getattr(result.HistoryData, "DataValues", None) or ()
            answers.values.extend((name, value) for value in values if not _is_bound(value))
            if not result.ContinuationPoint:
                continue
            if asked.note(name, values):
                answers.rest[name] = result.ContinuationPoint
            else:
                told_of = f"its history has no end: {_IDLE_ANSWERS} answers brought nothing newer."
                answers.faults.append(Fault(name, told_of, may_pass=True))
    if answers.again:
        link.limits.was_too_much(Service.HISTORY, len(asked.pending))
    return answers


def _is_bound(value: Any) -> bool:
    """Whether it only says that nothing is known at an end of the time asked for."""
    return value.StatusCode is not None and value.StatusCode.value in _BOUNDS
