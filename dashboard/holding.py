"""What we hold at the plant, and the form by which a person gives it back to the PLC.

Nothing is written here: the request is stored, and the writing process carries it out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import streamlit as st

from dashboard import markup, messages, shell
from dashboard.facts import Facts
from dashboard.given import LONGEST_TEXT
from dashboard.messages import Message
from dashboard.shell import Door
from dashboard.view.holding import held_lines
from dashboard.view.tags import Level
from twin.errors import PlantwrightError
from twin.historian import HandBackCause, HandBackStatus

_SAID = "give_back_said"
_REASON = "give_back_reason"
_WHICH = "give_back_which"
_ALL = "all of them"
_WAITS = "give_back_waits"  # the MVs that this session asked back, until it is told how it ended


def show(door: Door, facts: Facts) -> None:
    """The MVs that we hold, with name, reason and button to give them back; nothing if none."""
    lines = held_lines(door.plant, facts.state, facts.stages, facts.held, facts.asked_back)
    # One part of the page, whether there is anything in it or not: what is below keeps its place.
    with st.container():
        _tell_how_it_ended(door, {each.mv for each in facts.asked_back})
        messages.show(_SAID)
        if lines:
            _held(door, lines, {each.mv for each in facts.asked_back})


def _tell_how_it_ended(door: Door, still_open: Set[str]) -> None:
    """Answer this session's request once the writing process has ended it, however quickly."""
    waits: Sequence[str] = st.session_state.get(_WAITS, ())
    if not waits or not still_open.isdisjoint(waits):
        return
    st.session_state.pop(_WAITS)
    asked = [h for h in door.historian.hand_backs(door.plant) if h.cause is HandBackCause.ASKED]
    ends = [next((each for each in asked if each.mv == mv), None) for mv in waits]
    is_done = all(each is not None and each.status is HandBackStatus.DONE for each in ends)
    title = f"{'Given back' if is_done else 'Not given back'}: {', '.join(waits)}"
    results = "\n".join(f"{each.mv}: {each.result}" for each in ends if each is not None)
    level = Level.CALM if is_done else Level.ATTENTION
    messages.tell(_SAID, Message(title, results, level))


def _held(door: Door, lines: Mapping[str, str], asked: Set[str]) -> None:
    st.html(
        markup.live(markup.note("Held by Plantwright", "\n".join(lines.values())), shell.tick())
    )
    left = [mv for mv in lines if mv not in asked]
    if left:
        with st.expander("Give back to the PLC"):
            _form(door, left)


def _form(door: Door, mvs: Sequence[str]) -> None:
    if len(mvs) > 1:
        st.selectbox("Which", [_ALL, *mvs], key=_WHICH)
    shell.ask_name("give_back_name")
    st.text_input("Why?", key=_REASON, max_chars=LONGEST_TEXT)
    st.button("Give back to the PLC", key="give_back", on_click=_give_back, args=(door, mvs))


def _give_back(door: Door, mvs: Sequence[str]) -> None:
    which, reason = st.session_state.get(_WHICH, _ALL), str(st.session_state.get(_REASON, ""))
    chosen = [which] if which in mvs else list(mvs)
    ask = "Say why the PLC shall have it back."
    fault = shell.name_fault() or shell.reason_fault(reason.strip(), ask)
    if fault:
        messages.tell(_SAID, Message("Nothing was asked", fault, Level.ATTENTION))
        return
    try:
        now = door.facts().now
        answers = [
            door.historian.ask_back(door.plant, mv, shell.person(), reason.strip(), now)
            for mv in chosen
        ]
    except PlantwrightError as trouble:
        messages.tell(_SAID, Message("Nothing was asked", str(trouble), Level.ALARM))
        return
    refusals = [answer for answer in answers if answer is not None]
    if refusals:
        messages.tell(_SAID, Message("Not given back", "\n".join(refusals), Level.ATTENTION))
    else:
        title = f"Asked: {', '.join(chosen)} back to the PLC"
        done = "The writing process does it; AUTO shows when it is done."
        messages.tell(_SAID, Message(title, done))
        st.session_state[_WAITS] = chosen
        st.session_state.pop(_REASON, None)
