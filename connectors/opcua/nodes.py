"""The plant file's nodes at this server: where they are, and whether each can hold its tag.

How a node is told there stands in `twin.plant.node_text`.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asyncua import ua

from connectors.opcua.link import Link
from connectors.opcua.values import judge_node, tells_changes
from twin.errors import Fault, NodeFault
from twin.plant.node_text import is_plain, node_parts


@dataclass(frozen=True)
class Node:
    """A checked node's id at this server.

    The server notes every change of it by itself where `tells_changes`; others it samples.
    """

    node_id: Any
    tells_changes: bool


class UnusableNode(ValueError):
    """A node's text that names no node of this server; its message says why, as "node X ..."."""


@dataclass(frozen=True)
class Namespaces:
    """The namespaces that a server has now, by index, and the one that plain texts mean."""

    uris: Sequence[str]
    own: str

    def check_own(self, endpoint: str) -> None:
        """Raise NodeFault where the server does not know the plant file's namespace."""
        if self.own not in self.uris:
            fault = Fault(
                "opcua.namespace",
                f"the server does not know {self.own}; it knows {', '.join(self.uris)}.",
                remedy="Name the server's own namespace in the plant file.",
            )
            raise NodeFault(endpoint, [fault])

    def node_id(self, text: str) -> Any:
        """The id at this server of the node told as `text`; raises UnusableNode."""
        try:
            told, identifier = node_parts(text)
        except ValueError as wrong:
            raise UnusableNode(f"node {text}: {wrong}") from wrong
        uri = self.own if told is None else told
        if uri not in self.uris:
            raise UnusableNode(f"node {text}: the server does not know the namespace {uri}")
        return ua.NodeId(identifier, self.uris.index(uri))

    def text(self, node_id: Any) -> str:
        """The text form of a node id of this server, with the URI of its namespace."""
        identifier = node_id.Identifier
        if isinstance(identifier, bytes):
            plain = "b=" + base64.b64encode(identifier).decode()
        else:
            letter = {int: "i", uuid.UUID: "g"}.get(type(identifier), "s")
            plain = f"{letter}={identifier}"
        return f"nsu={self.uris[node_id.NamespaceIndex]};{plain}"


async def check_nodes(
    link: Link, namespaces: Namespaces, texts: Mapping[str, str]
) -> tuple[dict[str, Node], list[Fault]]:
    """The usable nodes of `texts` (name to node as told), and what is wrong with the others."""
    ids: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for name, text in texts.items():
        try:
            ids[name] = namespaces.node_id(text)
        except UnusableNode as wrong:
            problems[name] = f"{wrong}."
    of = ua.AttributeIds
    attributes = (of.DataType, of.ValueRank, of.Value, of.MinimumSamplingInterval)
    columns = [await link.read(list(ids.values()), each) for each in attributes]
    nodes: dict[str, Node] = {}
    for name, data_type, rank, value, interval in zip(ids, *columns, strict=True):
        _, problem = judge_node(data_type, rank, value)
        if problem:
            problems[name] = f"node {_shown(texts[name])} {problem}."
        else:
            nodes[name] = Node(ids[name], tells_changes(interval))
    remedy = "Check this node in the plant file and on the server."
    faults = [Fault(name, problems[name], remedy=remedy) for name in texts if name in problems]
    return nodes, faults


def _shown(text: str) -> str:
    return f"s={text}" if is_plain(text) else text
