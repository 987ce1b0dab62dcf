"""The plant file's nodes at this server: where they are, and whether each can hold its tag."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from asyncua import ua

from connectors.opcua.link import Link
from connectors.opcua.values import judge_node
from twin.errors import Fault, NodeFault


@dataclass(frozen=True)
class Node:
    """A checked node: its id at this server and the built-in type it holds, if known."""

    node_id: Any
    kind: Any | None


async def find_namespace(link: Link, namespace: str) -> int:
    """The namespace's index, which may change with every start of a server.

    Raises NodeFault where the server does not know it.
    """
    known = await link.namespaces()
    if namespace not in known:
        fault = Fault(
            "opcua.namespace",
            f"the server does not know {namespace}; it knows {', '.join(known)}.",
            remedy="Name the server's own namespace in the plant file.",
        )
        raise NodeFault(link.endpoint, [fault])
    return known.index(namespace)


async def check_nodes(
    link: Link, index: int, names: Mapping[str, str]
) -> tuple[dict[str, Node], list[Fault]]:
    """The usable nodes of `names` (name to identifier), and what is wrong with the others."""
    ids = {name: ua.NodeId(identifier, index) for name, identifier in names.items()}
    attributes = (ua.AttributeIds.DataType, ua.AttributeIds.ValueRank, ua.AttributeIds.Value)
    columns = [await link.read(list(ids.values()), each) for each in attributes]
    nodes: dict[str, Node] = {}
    faults: list[Fault] = []
    for name, data_type, rank, value in zip(ids, *columns, strict=True):
        kind, problem = judge_node(data_type, rank, value)
        if problem:
            remedy = "Check this node in the plant file and on the server."
            faults.append(Fault(name, f"node s={names[name]} {problem}.", remedy=remedy))
        else:
            nodes[name] = Node(ids[name], kind)
    return nodes, faults
