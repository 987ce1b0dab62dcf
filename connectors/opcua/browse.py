"""What a server has: every variable below a node, with what it says of type, unit and range.

The walk follows hierarchical references breadth first, each node once, so that circles end; it asks
in requests the server takes and in parts that it can remember. Nothing here is subscribed, and
nothing becomes a plant file (see `connectors.draft`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from asyncua import ua

from connectors.opcua.deadline import deadline
from connectors.opcua.guard import Guard
from connectors.opcua.limits import Service
from connectors.opcua.link import LINK_ERRORS, Link, text
from connectors.opcua.nodes import Namespaces, UnusableNode
from connectors.opcua.requests import browse_next_request, browse_request
from connectors.opcua.units import unit_of
from connectors.opcua.values import judge_node, raw_value
from connectors.security import Access
from twin.errors import EndpointUnavailable, Fault, NodeFault
from twin.plant import Security
from twin.plant.values import odd_character

#: More nodes are not looked at: some 500 bytes each are remembered.
MOST_NODES = 1_000_000

_REQUEST_TIMEOUT_S = 60.0  # a folder of 100,000 variables may take a server seconds
_OPENING_S = 15.0  # who answers no word of greeting for so long is no server of ours
_NODES_PER_REQUEST = 250  # and 1,000 references of each at most: some megabytes per answer
_MOST = 1e12  # as in a plant file
_SCALAR = -1  # the ValueRank of a single value
_UNIT, _RANGE = "EngineeringUnits", "EURange"
_SERVER = ua.NodeId(ua.ObjectIds.Server)
_PROPERTY = ua.NodeId(ua.ObjectIds.PropertyType)


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable, told as in a plant file; `left_out` says why it cannot be a tag, "" if it can.

    `path`: browse names from below the start down. `unit` is the plant file's, `unit_told` the
    server's own symbol. `low` and `high` are of the same unit.
    """

    node: str
    path: tuple[str, ...]
    left_out: str = ""
    is_writable: bool = False
    unit: str = ""
    unit_told: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Browsed:
    """All that was found. `cut_short` says why the walk ended before the last node, if it did."""

    server: str
    namespaces: tuple[str, ...]
    nodes: int
    variables: tuple[Variable, ...]
    cut_short: str = ""


@dataclass(slots=True)
class _Found:
    """A node on the way: where it hangs, and the properties that a variable may have."""

    node_id: Any
    name: str
    parent: _Found | None
    is_variable: bool
    unit_node: Any | None = None
    range_node: Any | None = None

    @property
    def path(self) -> tuple[str, ...]:
        names: list[str] = []
        at: _Found | None = self
        while at is not None and at.parent is not None:
            names.append(at.name)
            at = at.parent
        return tuple(reversed(names))


@dataclass
class _Walk:
    """How far a walk has come."""

    seen: set[tuple[Any, int]]
    waiting: deque[_Found]
    variables: list[_Found] = field(default_factory=list)
    cut_short: str = ""


async def browse(
    endpoint: str,
    *,
    security: Security,
    access: Access | None,
    wall_now: Callable[[], datetime],
    under: str = "",
    most_variables: int | None = None,
    wanted: Callable[[tuple[str, ...]], bool] = lambda _path: True,
    on_progress: Callable[[int, int], None] = lambda _nodes, _variables: None,
) -> Browsed:
    """Every variable below the node `under` (told as in a plant file; "": all of the plant's own).

    Only those whose path is `wanted` are looked at closely, at most `most_variables` of them.
    `on_progress` hears how many nodes and variables were found so far.

    Raises:
        EndpointUnavailable: nothing answers, or the link was lost on the way.
        SecurityFault: certificates, policy or login will not do.
        NodeFault: there is no such node to begin at.
    """
    guard = Guard(endpoint, "opcua", security, access, wall_now, is_planned=False)
    link = Link(endpoint, _REQUEST_TIMEOUT_S, guard)
    try:
        async with deadline(_OPENING_S):
            await link.open()
        namespaces = Namespaces(tuple(await link.namespaces()), "")
        start = await _start(link, namespaces, under)
        # The server's own affairs are no plant's, unless they are asked for.
        walk = _Walk({_key(start), _key(_SERVER)}, deque([_Found(start, "", None, False)]))
        await _go(link, walk, wanted, most_variables, on_progress)
        variables = await _describe(link, namespaces, walk.variables)
        title = await _product(link)
    except LINK_ERRORS as reason:
        raise EndpointUnavailable(
            f"{endpoint}: browsing got no answer ({text(reason)}). Check that it is an OPC UA "
            "server's address and that the server runs."
        ) from reason
    finally:
        await link.close()
    return Browsed(title, tuple(namespaces.uris), len(walk.seen), tuple(variables), walk.cut_short)


async def _product(link: Link) -> str:
    """What the server calls itself; "" if it does not."""
    node = ua.NodeId(ua.ObjectIds.Server_ServerStatus_BuildInfo_ProductName)
    (told,) = await link.read([node])
    name = raw_value(told)
    return name if isinstance(name, str) and not odd_character(name) else ""


async def _start(link: Link, namespaces: Namespaces, under: str) -> Any:
    if not under:
        return ua.NodeId(ua.ObjectIds.ObjectsFolder)
    told = under if under.startswith("nsu=") else f"nsu={namespaces.uris[0]};{under}"
    try:
        start = namespaces.node_id(told)
    except UnusableNode as wrong:
        raise NodeFault(link.endpoint, [Fault("--under", f"{wrong}.")]) from wrong
    (found,) = await link.read([start], ua.AttributeIds.NodeClass)
    if found.StatusCode.is_bad():
        fault = Fault("--under", f"node {under} does not exist ({found.StatusCode.name}).")
        raise NodeFault(link.endpoint, [fault])
    return start


async def _go(
    link: Link,
    walk: _Walk,
    wanted: Callable[[tuple[str, ...]], bool],
    most_variables: int | None,
    on_progress: Callable[[int, int], None],
) -> None:
    while walk.waiting and not walk.cut_short:
        most = min(link.limits.of(Service.BROWSE), _NODES_PER_REQUEST)
        part = [walk.waiting.popleft() for _ in range(min(most, len(walk.waiting)))]
        for parent, references in await _children(link, part):
            for reference in references:
                found = _take(walk, parent, reference)
                if found is not None and found.is_variable and wanted(found.path):
                    walk.variables.append(found)
        if most_variables is not None and len(walk.variables) > most_variables:
            del walk.variables[most_variables:]
            walk.cut_short = f"only the first {most_variables} variables were taken"
        elif len(walk.seen) >= MOST_NODES:
            walk.cut_short = f"only the first {MOST_NODES} nodes were looked at"
        on_progress(len(walk.seen), len(walk.variables))


async def _children(link: Link, part: Sequence[_Found]) -> list[tuple[_Found, list[Any]]]:
    """The references of each node of `part`, all of them, however many requests it takes."""
    told: list[tuple[_Found, list[Any]]] = []
    left = list(part)
    while left:
        asked = left[: link.limits.of(Service.BROWSE)]
        results = await link.limits.ask(
            Service.BROWSE,
            [each.node_id for each in asked],
            lambda ids: link.services.browse(browse_request(ids)),
        )
        left = left[len(asked) :]
        crowded = 0
        for each, result in zip(asked, results, strict=True):
            if result.StatusCode.value == ua.StatusCodes.BadNoContinuationPoints:
                left.append(each)  # the server remembers where it was for so many only
                crowded += 1
            elif not result.StatusCode.is_bad():
                rest = await _rest(link, result.ContinuationPoint)
                told.append((each, [*(result.References or ()), *rest]))
        if crowded and not link.limits.was_too_much(Service.BROWSE, len(asked)):
            raise ua.uaerrors.BadNoContinuationPoints
    return told


async def _rest(link: Link, point: bytes | None) -> list[Any]:
    references: list[Any] = []
    while point:
        (result,) = await link.services.browse_next(browse_next_request([point]))
        result.StatusCode.check()
        references += result.References or ()
        point = result.ContinuationPoint
    return references


def _take(walk: _Walk, parent: _Found, reference: Any) -> _Found | None:
    """The node that a reference leads to, if it is a new one of this server; it is walked later."""
    node_id = ua.NodeId(reference.NodeId.Identifier, reference.NodeId.NamespaceIndex)
    name = str(reference.BrowseName.Name)
    is_elsewhere = bool(getattr(reference.NodeId, "ServerIndex", 0))
    key = _key(node_id)
    if is_elsewhere or key in walk.seen:
        return None
    walk.seen.add(key)
    is_variable = reference.NodeClass == ua.NodeClass.Variable
    if is_variable and reference.TypeDefinition == _PROPERTY:  # it says something of its parent
        if name == _UNIT:
            parent.unit_node = node_id
        elif name == _RANGE:
            parent.range_node = node_id
        return None
    found = _Found(node_id, name, parent, is_variable)
    walk.waiting.append(found)
    return found


def _key(node_id: Any) -> tuple[Any, int]:
    return node_id.Identifier, node_id.NamespaceIndex


async def _describe(link: Link, namespaces: Namespaces, found: Sequence[_Found]) -> list[Variable]:
    """What the server says of each: whether it can be a tag, its rights, unit and range."""
    ids = [each.node_id for each in found]
    of = ua.AttributeIds
    types, ranks, rights = [
        await link.read(ids, each) for each in (of.DataType, of.ValueRank, of.UserAccessLevel)
    ]
    values = await _doubtful(link, ids, types, ranks)
    units = await _properties(link, [each.unit_node for each in found], ua.EUInformation)
    ranges = await _properties(link, [each.range_node for each in found], ua.Range)
    variables: list[Variable] = []
    columns = zip(found, types, ranks, values, rights, units, ranges, strict=True)
    for each, data_type, rank, value, right, unit, span in columns:
        _, problem = judge_node(data_type, rank, value)
        node, fault = _text(namespaces, each.node_id)
        mask = raw_value(right) if right.StatusCode.is_good() else 0
        told = unit_of(unit) if unit is not None else ("", "")
        low, high = _limits(span)
        variables.append(
            Variable(
                node=node,
                path=each.path,
                left_out=problem or fault,
                is_writable=isinstance(mask, int) and bool(mask & ua.AccessLevel.CurrentWrite.mask),
                unit=told[0],
                unit_told=told[1],
                low=low,
                high=high,
            )
        )
    return variables


async def _doubtful(
    link: Link, ids: Sequence[Any], types: Sequence[Any], ranks: Sequence[Any]
) -> list[Any]:
    """The value of each node that type and rank alone do not say enough of; of others, nothing."""
    nothing = ua.DataValue()
    values = [nothing] * len(ids)
    facts = enumerate(zip(types, ranks, strict=True))
    doubtful = [
        place
        for place, (kind, rank) in facts
        if raw_value(rank) != _SCALAR or judge_node(kind, rank, nothing)[0] is None
    ]
    told = await link.read([ids[place] for place in doubtful])
    for place, value in zip(doubtful, told, strict=True):
        values[place] = value
    return values


async def _properties(link: Link, nodes: Sequence[Any | None], kind: type[Any]) -> list[Any | None]:
    """The value of each property that there is and that is of this kind."""
    present = [node for node in nodes if node is not None]
    values = iter(await link.read(present) if present else [])
    found: list[Any | None] = []
    for node in nodes:
        value = raw_value(next(values)) if node is not None else None
        found.append(value if isinstance(value, kind) else None)
    return found


def _text(namespaces: Namespaces, node_id: Any) -> tuple[str, str]:
    """The node as a plant file tells it, and why it cannot be told, if so."""
    if node_id.NamespaceIndex >= len(namespaces.uris):
        return str(node_id), f"is of namespace {node_id.NamespaceIndex}, which the server lacks"
    told = namespaces.text(node_id)
    odd = odd_character(told)
    return told, f"has a name that holds {odd}" if odd else ""


def _limits(span: Any | None) -> tuple[float | None, float | None]:
    """A range as limits; what no plant can have, or says nothing, is none."""
    if span is None or not (math.isfinite(span.Low) and math.isfinite(span.High)):
        return None, None
    if not -_MOST <= span.Low < span.High <= _MOST:
        return None, None
    return float(span.Low), float(span.High)
