"""A person's decision on a proposal: judged again at the click, stored, answered in one sentence.

A click may come late: between drawing and clicking a proposal can expire, be superseded or be
decided by somebody else. Then nothing is stored and the person is told.
"""

from __future__ import annotations

import streamlit as st

from dashboard import messages, shell
from dashboard.messages import Message
from dashboard.shell import Door
from dashboard.view import advice
from dashboard.view.tags import Level
from twin.errors import PlantwrightError
from twin.records import Decision

#: Where the answer to a click is shown: about the proposal that was decided, or about none.
SAID = "decision_said"


def accept(door: Door, proposal_id: str) -> None:
    """Accept the proposal in the name of the person at the screen."""
    _decide(door, proposal_id, True, "")


def reject(door: Door, proposal_id: str) -> None:
    """Reject it; a reason from the list or in own words is required."""
    picked = st.session_state.get("reject_reason")
    words = str(st.session_state.get("reject_words", "")).strip()
    reason = advice.rejection(picked, words)
    fault = shell.reason_fault(words or reason, "Choose a reason or write one.")
    if fault:
        messages.tell(SAID, Message("Say why you reject it", fault, Level.ATTENTION, proposal_id))
        return
    _decide(door, proposal_id, False, reason)


def _decide(door: Door, proposal_id: str, is_accepted: bool, reason: str) -> None:
    fault = shell.name_fault()
    if fault:
        messages.tell(SAID, Message("Not decided yet", fault, Level.ATTENTION, proposal_id))
        return
    try:
        _store(door, proposal_id, is_accepted, reason)
    except PlantwrightError as trouble:
        messages.tell(SAID, Message("Nothing was decided", str(trouble), Level.ALARM))


def _store(door: Door, proposal_id: str, is_accepted: bool, reason: str) -> None:
    facts = door.facts()
    proposal = door.historian.proposal(proposal_id)
    if proposal is None:
        _refuse(f"There is no proposal {proposal_id}.")
        return
    moves = advice.moves_in_words(door.plant, proposal)
    standing = advice.standing(proposal, facts.now, facts.wall_now)
    if not standing.is_open:
        _refuse(f"{moves}: {standing.reason}")
        return
    taken = Decision(proposal_id, is_accepted, shell.person(), reason, facts.now)
    decided = door.historian.decide(taken)
    if not decided.is_taken:
        _refuse(f"{moves}: {decided.reason}")
    elif is_accepted:
        messages.tell(
            SAID, Message(f"Accepted: {moves}", advice.NOT_YET_WRITTEN, about=proposal_id)
        )
    else:
        messages.tell(SAID, Message(f"Rejected: {moves}", reason, about=proposal_id))
        for key in ("reject_reason", "reject_words"):
            st.session_state.pop(key, None)


def _refuse(reason: str) -> None:
    # About no proposal: it is read best over the one that stands there instead.
    messages.tell(SAID, Message("Nothing was decided", reason, Level.ATTENTION))
