"""A person's decision on a proposal: judged again at the click, stored, answered in one sentence.

A click may come late: between drawing and clicking a proposal can expire, be superseded or be
decided by somebody else. Then nothing is stored and the person is told.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import streamlit as st

from dashboard import shell
from dashboard.shell import Door
from dashboard.view import advice
from dashboard.view.tags import Level
from twin.clock import wall_now
from twin.errors import PlantwrightError
from twin.records import Decision

_MESSAGE = "decision_message"
_SHOWN = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Message:
    """What a person is told after a click."""

    title: str
    text: str = ""
    level: Level = Level.CALM
    told_at: datetime = field(default_factory=wall_now)


def accept(door: Door, proposal_id: str) -> None:
    """Accept the proposal in the name of the person at the screen."""
    _decide(door, proposal_id, True, "")


def reject(door: Door, proposal_id: str) -> None:
    """Reject it; a reason from the list or in own words is required."""
    picked = st.session_state.get("reject_reason")
    words = str(st.session_state.get("reject_words", "")).strip()
    reason = advice.rejection(picked, words)
    if not reason:
        _tell("Say why you reject it", "Choose a reason or write one.", Level.ATTENTION)
        return
    _decide(door, proposal_id, False, reason)


def last_message(now: datetime) -> Message | None:
    """What the last click led to, for a while."""
    message: Message | None = st.session_state.get(_MESSAGE)
    is_recent = message is not None and now - message.told_at < _SHOWN
    return message if is_recent else None


def _decide(door: Door, proposal_id: str, is_accepted: bool, reason: str) -> None:
    fault = shell.name_fault()
    if fault:
        _tell("Not decided yet", fault, Level.ATTENTION)
        return
    try:
        _store(door, proposal_id, is_accepted, reason)
    except PlantwrightError as trouble:
        _tell("Nothing was decided", str(trouble), Level.ALARM)


def _store(door: Door, proposal_id: str, is_accepted: bool, reason: str) -> None:
    facts = door.facts()
    proposal = door.historian.proposal(proposal_id)
    if proposal is None:
        _tell("Nothing was decided", f"There is no proposal {proposal_id}.", Level.ATTENTION)
        return
    standing = advice.standing(proposal, facts.now, facts.wall_now)
    if not standing.is_open:
        _tell("Nothing was decided", standing.reason, Level.ATTENTION)
        return
    taken = Decision(proposal_id, is_accepted, shell.person(), reason, facts.now)
    decided = door.historian.decide(taken)
    if not decided.is_taken:
        _tell("Nothing was decided", decided.reason, Level.ATTENTION)
    elif is_accepted:
        moves = advice.moves_in_words(door.plant, proposal)
        _tell(f"Accepted: {moves}", "The gate looks again at fresh readings; then it is written.")
    else:
        _tell(f"Rejected: {advice.moves_in_words(door.plant, proposal)}", reason)
        for key in ("reject_reason", "reject_words"):
            st.session_state.pop(key, None)


def _tell(title: str, text: str, level: Level = Level.CALM) -> None:
    st.session_state[_MESSAGE] = Message(title, text, level)
