"""What goes out under one clearance: each write asks for the stop and the clearance first.

Whatever is sent is noted, so that a write that fails half-way can be given back whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

from connectors.opcua import Session
from connectors.readback import Writer, in_thread
from twin.context import gate_context
from twin.errors import EndpointUnavailable, WriteFault, WriteInDoubt
from twin.records import Clearance, WriteOutcome
from twin.safety import GateContext, is_genuine


@dataclass
class Sending:
    """The writes of one clearance.

    `opened` is stored already; `sent` are the MVs of which anything was written, `doubtful` those
    of which something was refused that may have been done all the same. A lost link is stored as an
    unknown outcome and raised.
    """

    writer: Writer
    session: Session
    clearance: Clearance
    opened: WriteOutcome
    sent: list[str] = field(default_factory=list)
    doubtful: list[str] = field(default_factory=list)

    async def put(self, mv: str, name: str, value: float) -> str:
        """Write the MV's node `name`; why nothing was written, else empty.

        Raises EndpointUnavailable: whether it was written is not known.
        """
        ending = "was not written"
        try:
            reason = await stop_reason(self.writer, self.session)
            if not reason:
                reason = await self._rounds_too_much(name, value)
            if not reason:
                reason = self._last_word()  # nothing is waited for between this and the write
            if not reason:
                await self.session.write(name, value)
        except WriteInDoubt as fault:
            self.doubtful.append(mv)
            reason, ending = str(fault).rstrip("."), "may have been written all the same"
        except WriteFault as fault:
            reason = str(fault).rstrip(".")
        except EndpointUnavailable as lost:
            now = self.session.clock.now()
            unknown = replace(self.opened, reason=f"{name}: {lost}", finished_at=now)
            await in_thread(self.writer.historian.store_outcome, unknown)
            raise
        if reason:
            before = ", ".join(self.sent) or "none"
            return f"{reason}: {name} {ending}; written before it: {before}."
        if mv not in self.sent:
            self.sent.append(mv)
        return ""

    def _last_word(self) -> str:
        if reason := latch_reason(self.writer):
            return reason
        if not is_genuine(self.clearance, self.session.clock.now()):
            return "The clearance has expired"
        return ""

    async def _rounds_too_much(self, name: str, value: float) -> str:
        """Why the node's type cannot hold the value near enough; empty if it can."""
        tag = self.writer.plant.tag(name)
        held = await self.session.held(name, value)
        if tag.write_tolerance is None or abs(held - value) <= tag.write_tolerance:
            return ""
        return (
            f"The node would hold {held!r} of {value!r}, which is further off than the tolerance "
            f"of {tag.write_tolerance:g}"
        )


def latch_reason(writer: Writer) -> str:
    """Why our latch lets nothing be written; empty if it does."""
    latch = writer.is_stopped()
    if latch is False:
        return ""
    return "The stop latch is set" if latch else "The stop latch cannot be read"


async def stop_reason(writer: Writer, session: Session) -> str:
    """Why nothing may be written now: the latch, or the plant's own stop; empty if it may."""
    if reason := latch_reason(writer):
        return reason
    node = writer.plant.opcua.stop_node if writer.plant.opcua is not None else None
    if node is None:
        return ""
    shown = await session.read_node(node)
    if shown is None:
        return f"The plant's stop node {node} cannot be read"
    return f"The plant's stop node {node} is set" if shown else ""


async def gate_facts(writer: Writer, session: Session) -> GateContext:
    """What the gate is told besides the readings, as the historian has it now."""
    known = partial(
        gate_context,
        writer.plant,
        writer.historian,
        now=session.clock.now(),
        wall_now=writer.wall_now(),
        is_stopped=writer.is_stopped(),
    )
    return await in_thread(known)
