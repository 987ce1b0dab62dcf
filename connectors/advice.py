"""Advice at the plant: the open proposal, where the PLC has nodes to show it, while it is good.

Whoever reads those nodes sees a proposal whole or not at all: its id goes first when they change
and comes last. Nothing here moves the plant.
"""

from __future__ import annotations

import asyncio
import math
import zlib
from collections.abc import Mapping
from functools import partial

from connectors.opcua import Session
from connectors.readback import Target, Writer, in_thread, read_all
from connectors.sending import gate_facts, latch_reason, stop_reason
from twin.errors import WriteFault
from twin.plant import Advisory
from twin.records import PlantState, Proposal, ProposalStatus
from twin.safety import check
from twin.state import plant_state

#: What the id node shows while there is no advice.
NO_ADVICE = 0

_KIND = "advice"  # of the audit rows
_PAUSE_S = 0.05
_WHOLE_SECOND = 1.0  # a node that holds times less exactly than this cannot say until when


def advice_number(proposal_id: str) -> int:
    """What the id node shows of a proposal: a number from 1 on that any 32-bit node holds."""
    return zlib.crc32(proposal_id.encode()) % (2**31 - 1) + 1


class Advice:
    """What one writing process shows; what it has withdrawn it does not show again.

    `trouble` says why advice is not shown, or not withdrawn, that should be.
    """

    def __init__(self, writer: Writer) -> None:
        source = writer.plant.opcua
        self._writer = writer
        self._nodes = source.advisory if source is not None else None
        self._shown: str | None = None  # a proposal's id, "" none; None: not known
        self._done_with = ""  # the proposal that was withdrawn, or not taken by the PLC, last
        self._will_not_go = False  # the id was not seen to go: asked in every round, not waited for
        self.trouble = ""

    def begin(self) -> None:
        """A new session: what the nodes show is not known."""
        self._shown = None

    async def round(self, session: Session) -> None:
        """Show the newest open proposal that the gate would let through now; else show none.

        Raises:
            EndpointUnavailable: the link is lost; what was shown holds until its time is over.
            HistorianError: the database is away.
        """
        if self._nodes is None:
            return
        found = await self._wanted(session)
        if isinstance(found, str):
            self._done_with = self._shown or self._done_with
            self.trouble = ""
            await self.withdraw(session, found)
            return
        proposal, state = found
        if proposal.proposal_id == self._shown:
            return
        await self.withdraw(session, "a newer proposal follows")
        if self._shown == "" and proposal.proposal_id != self._done_with:
            await self._show(session, self._nodes, proposal, state)

    async def withdraw(self, session: Session, reason: str) -> None:
        """Show no advice; a row in the audit where one was shown."""
        if self._nodes is None or self._shown == "":
            return
        try:
            nothing = {self._nodes.id_node: Target(float(NO_ADVICE))}
            wrong = await self._write(session, nothing, is_withdrawal=True)
        except WriteFault as fault:
            wrong = str(fault)
        self._will_not_go = bool(wrong)
        if wrong:
            self.trouble = f"The advice could not be withdrawn: {wrong}"
            return
        shown, self._shown, self.trouble = self._shown, "", ""
        if shown:
            await self._note(session, shown, f"withdrawn: {reason}")

    async def _wanted(self, session: Session) -> tuple[Proposal, PlantState] | str:
        """What is to be shown on these readings, or why nothing is."""
        writer, now = self._writer, session.clock.now()
        if stopped := await stop_reason(writer, session):
            return stopped
        historian, plant = writer.historian, writer.plant
        proposals = await in_thread(historian.proposals, plant, [ProposalStatus.OPEN])
        if all(now >= each.expires_at for each in proposals):
            return "expired" if proposals else await self._ended()
        state = plant_state(plant, await read_all(writer, session), session.clock.now())
        context = await gate_facts(writer, session)
        reasons: list[str] = []
        for proposal in proposals:
            if now < proposal.expires_at:
                verdict = check(plant, state, proposal.setpoints, context, state.at)
                if verdict.is_clear:
                    return proposal, state
                reasons += verdict.reasons
        return f"the gate would not let it through now: {' '.join(reasons)}"

    async def _ended(self) -> str:
        if not self._shown:
            return "nothing is open"
        shown = await in_thread(self._writer.historian.proposal, self._shown)
        return f"it is {shown.status}" if shown is not None else "it is gone"

    async def _show(
        self, session: Session, nodes: Advisory, proposal: Proposal, state: PlantState
    ) -> None:
        """Values and time first, the id last; each is read back before the next."""
        self._done_with = proposal.proposal_id
        targets = self._targets(nodes, proposal, state)
        if isinstance(targets, str):
            self.trouble = targets
            return
        number = {nodes.id_node: Target(float(advice_number(proposal.proposal_id)))}
        try:
            wrong = await self._write(session, targets) or await self._write(session, number)
        except WriteFault as fault:
            wrong = str(fault)
        if wrong:
            self._shown = None  # the id may stand there all the same
            self.trouble = f"The advice is not shown at the plant: {wrong}"
            return
        self._shown, self._done_with, self.trouble = proposal.proposal_id, "", ""
        until = proposal.expires_at.isoformat(timespec="seconds")
        told = f"shown at the plant as no. {advice_number(proposal.proposal_id)} until {until}"
        await self._note(session, proposal.proposal_id, told)

    def _targets(
        self, nodes: Advisory, proposal: Proposal, state: PlantState
    ) -> dict[str, Target] | str:
        """What the value nodes and the time shall show; an MV that rests shows where it stands."""
        targets: dict[str, Target] = {}
        for mv, node in nodes.value_nodes.items():
            tag = self._writer.plant.tag(mv)
            value = proposal.setpoints.get(mv, state.value(tag.stands_at))
            if value is None:
                return f"The advice is not shown at the plant: {tag.stands_at} is not known."
            targets[node] = Target(value, tag.write_tolerance or math.inf)
        until_s = math.floor(proposal.expires_at.timestamp())
        return targets | {nodes.valid_until_node: Target(float(until_s), _WHOLE_SECOND)}

    async def _write(
        self, session: Session, targets: Mapping[str, Target], *, is_withdrawal: bool = False
    ) -> str:
        """Write PLC nodes and wait until they show it; what they do not show, else empty.

        A node may round a value by the target's tolerance. A stop lets only withdrawals pass.
        """
        held = {node: await session.held(node, target.value) for node, target in targets.items()}
        for node, target in targets.items():
            stopped = "" if is_withdrawal else await stop_reason(self._writer, session)
            if not (stopped or is_withdrawal):
                stopped = latch_reason(self._writer)  # it may have been set while that was asked
            if stopped:
                return f"{stopped}."
            await session.write(node, target.value)
        is_waited_for = not (is_withdrawal and self._will_not_go)
        patience_s = self._writer.read_back_s(session) if is_waited_for else 0.0
        give_up_s = asyncio.get_running_loop().time() + patience_s
        while True:
            seen = {node: await session.read_node(node) for node in targets}
            wrong = [
                f"{node} shows {seen[node]}, not {target.value:g}."
                for node, target in targets.items()
                if seen[node] != held[node] or abs(held[node] - target.value) > target.tolerance
            ]
            if not wrong or asyncio.get_running_loop().time() >= give_up_s:
                return " ".join(wrong)
            await asyncio.sleep(_PAUSE_S)

    async def _note(self, session: Session, proposal_id: str, message: str) -> None:
        note = partial(self._writer.historian.event, self._writer.plant, _KIND, proposal_id)
        await in_thread(note, message, session.clock.now(), "write")
