"""The one door through which a session writes: what the plant file names, to its own node, exactly.

What may be written is an allow-list of names with their node ids; anything else is refused before
a byte is sent. The first write to a node asks the server whether we may at all. Whether a value is
safe is never judged here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from asyncua import ua

from connectors.opcua.link import Link
from connectors.opcua.values import is_surely_refused, is_unanswered, judge_node, typed
from twin.errors import EndpointUnavailable, WriteFault, WriteInDoubt

_CAN_WRITE = ua.AccessLevel.CurrentWrite.mask
_ASKED = (
    ua.AttributeIds.DataType,
    ua.AttributeIds.ValueRank,
    ua.AttributeIds.Value,
    ua.AttributeIds.AccessLevel,
    ua.AttributeIds.UserAccessLevel,
)


@dataclass(frozen=True)
class _Target:
    """A node that the server lets us write, and the built-in type it holds."""

    node_id: Any
    kind: Any


class WriteDoor:
    """Writes over one link to the nodes of `allowed` (name -> node as the plant file tells it).

    `node_id` turns such a text into the id at this server, or raises ValueError. `why_shut` says
    why nothing at all is written over this link; empty where something may be.
    """

    def __init__(
        self,
        link: Link,
        allowed: Mapping[str, str],
        node_id: Callable[[str], Any],
        why_shut: str = "",
    ) -> None:
        self._link = link
        self._allowed = dict(allowed)
        self._node_id = node_id
        self._why_shut = why_shut
        self._targets: dict[str, _Target] = {}

    async def write(self, name: str, value: float) -> None:
        """Write `value` in the node's own type, without timestamps.

        Raises:
            WriteFault: it is not ours to write, or the server refused it.
            WriteInDoubt: the answer is not Good, and leaves open whether it was done all the same.
            EndpointUnavailable: no answer came. The write may or may not have happened: read.
        """
        target = await self._target(name)
        held = typed(name, value, target.kind)
        data = ua.DataValue(ua.Variant(held, target.kind), StatusCode=None)
        with self._link.asking("write"):
            results = await self._link.services.write_attributes([target.node_id], [data])
        status = results[0]
        if is_unanswered(status):
            raise EndpointUnavailable(
                f"{name} = {value:g}: the server got no answer from the plant "
                f"({status.name}); whether it was written is unknown. Read it."
            )
        if not status.is_good():
            self._targets.pop(name, None)  # its type or our rights may have changed
            refused = WriteFault if is_surely_refused(status) else WriteInDoubt
            raise refused(
                f"{name} = {value:g} was refused by the plant: {status.name} ({status.doc})"
            )

    async def held(self, name: str, value: float) -> float:
        """The number that the node will hold once `value` is written: Float nodes round it.

        Raises WriteFault where its type cannot hold it, and what `write` raises before sending.
        """
        target = await self._target(name)
        whole = float(typed(name, value, target.kind))
        if target.kind is ua.VariantType.Float:
            (whole,) = struct.unpack("<f", struct.pack("<f", whole))
        return whole

    async def refusals(self) -> list[str]:
        """Why which of the allowed nodes could not be written now, a sentence each."""
        told: list[str] = []
        for name in self._allowed:
            try:
                await self._target(name)
            except WriteFault as fault:
                told.append(str(fault))
        return told

    async def _target(self, name: str) -> _Target:
        if name not in self._targets:
            self._targets[name] = await self._found(name)
        return self._targets[name]

    async def _found(self, name: str) -> _Target:
        """The node of an allowed name, if it is a node of its own that the server lets us write."""
        if self._why_shut:
            raise WriteFault(f"{name} is not written: {self._why_shut}. Nothing was sent.")
        if name not in self._allowed:
            raise WriteFault(
                f"{name} is not written: the plant file names it neither as an MV or an MV's mode "
                "nor as a heartbeat, stop or advisory node. Nothing was sent."
            )
        node_id = self._own_id(name)
        with self._link.asking("read"):
            answers = [(await self._link.read([node_id], each))[0] for each in _ASKED]
        data_type, rank, value, access, user_access = answers
        kind, problem = judge_node(data_type, rank, value)
        if problem or kind is None:
            why = problem or "has no known number type"
            raise WriteFault(f"{name}: its node {why}. Nothing was sent.")
        for level, who in ((access, "anybody"), (user_access, "our user")):
            if not _can_write(level):
                raise WriteFault(
                    f"{name}: the server does not let {who} write its node "
                    f"{self._allowed[name]}. Nothing was sent. Give the writer's user the right."
                )
        return _Target(node_id, kind)

    def _own_id(self, name: str) -> Any:
        ids: dict[str, Any] = {}
        for each, text in self._allowed.items():
            try:
                ids[each] = self._node_id(text)
            except ValueError as wrong:
                if each == name:
                    raise WriteFault(f"{name}: {wrong}. Nothing was sent.") from wrong
        twins = [each for each in ids if each != name and ids[each] == ids[name]]
        if twins:
            raise WriteFault(
                f"{name}: its node {self._allowed[name]} is also that of {', '.join(twins)}, so "
                "nothing is written to it. Correct the plant file."
            )
        return ids[name]


def _can_write(level: Any) -> bool:
    """Whether an access level, asked of the server, says so; unknown means no."""
    shown = level.Value.Value if level.Value is not None and level.StatusCode.is_good() else None
    return isinstance(shown, int) and bool(shown & _CAN_WRITE)
