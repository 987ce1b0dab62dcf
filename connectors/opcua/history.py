"""The past from a server's own history, in batches that are followed to their end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from datetime import datetime
from typing import Any

from asyncua import ua

from connectors.opcua.link import Link
from connectors.opcua.requests import history_request, parts
from connectors.opcua.values import is_unanswered
from twin.errors import EndpointUnavailable, Fault, NodeFault


async def read_history(
    link: Link, nodes: Mapping[str, Any], start: datetime, end: datetime
) -> AsyncGenerator[list[tuple[str, Any]], None]:
    """Batches of (name, data value) from `start` to `end`, both included, roughly in time order.

    Raises:
        NodeFault: at the end, naming all nodes of which the server keeps no history.
        EndpointUnavailable: the link broke; what was yielded stands.
    """
    faults: list[Fault] = []
    for part in parts(list(nodes), link.limits.history):
        pending: dict[str, Any] = dict.fromkeys(part)
        request = asyncio.ensure_future(_ask(link, nodes, pending, start, end))
        try:
            while pending:
                with link.asking("history"):
                    results = await request
                batch, pending = _sort_answers(link, pending, results, faults)
                if pending:  # the server works on the next part while this one is stored
                    request = asyncio.ensure_future(_ask(link, nodes, pending, start, end))
                if batch:
                    yield batch
        finally:
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)
    if faults:
        raise NodeFault(link.endpoint, faults)


async def _ask(
    link: Link, nodes: Mapping[str, Any], pending: Mapping[str, Any], start: datetime, end: datetime
) -> list[Any]:
    continued = [(nodes[name], point) for name, point in pending.items()]
    return list(await link.services.history_read(history_request(continued, start, end)))


def _sort_answers(
    link: Link, pending: Mapping[str, Any], results: list[Any], faults: list[Fault]
) -> tuple[list[tuple[str, Any]], dict[str, Any]]:
    """What came, and where each name that has more goes on; `faults` grows by those without."""
    batch: list[tuple[str, Any]] = []
    rest: dict[str, Any] = {}
    for name, result in zip(pending, results, strict=True):
        status = result.StatusCode
        if status.value == ua.StatusCodes.BadNoData:
            continue
        if is_unanswered(status):
            raise EndpointUnavailable(
                f"{link.endpoint}: the history of {name} got no answer ({status.name})."
            )
        if status.is_bad():
            faults.append(Fault(name, f"no history: {status.name}."))
            continue
        values = getattr(result.HistoryData, "DataValues", None) or ()
        batch += [(name, value) for value in values]
        if result.ContinuationPoint:
            rest[name] = result.ContinuationPoint
    return batch, rest
