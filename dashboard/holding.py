"""What we hold at the plant, and the form by which a person gives it back to the PLC.

Nothing is written here: the request is stored, and the writing process carries it out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import streamlit as st

from dashboard import markup, messages, shell
from dashboard.facts import Facts
from dashboard.messages import Message
from dashboard.shell import Door
from dashboard.view.holding import held_lines
from dashboard.view.tags import Level
from twin.errors import PlantwrightError

_SAID = "give_back_said"
_REASON = "give_back_reason"
_WHICH = "give_back_which"
_ALL = "all of them"
_ASKED = "asked"  # what an answer to a request is about, while the request stands


def show(door: Door, facts: Facts) -> None:
    """The MVs that we hold, with name, reason and button to give them back; nothing if none."""
    lines = held_lines(door.plant, facts.state, facts.stages, facts.held, facts.asked_back)
    # One part of the page, whether there is anything in it or not: what is below keeps its place.
    with st.container():
        messages.show(_SAID, _ASKED if facts.asked_back else "")
        if lines:
            _held(door, lines, {each.mv for each in facts.asked_back})


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
    st.text_input("Why?", key=_REASON, max_chars=200)
    st.button("Give back to the PLC", key="give_back", on_click=_give_back, args=(door, mvs))


def _give_back(door: Door, mvs: Sequence[str]) -> None:
    which, reason = st.session_state.get(_WHICH, _ALL), str(st.session_state.get(_REASON, ""))
    chosen = [which] if which in mvs else list(mvs)
    fault = shell.name_fault() or ("" if reason.strip() else "Say why the PLC shall have it back.")
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
        messages.tell(_SAID, Message(title, done, about=_ASKED))
        st.session_state.pop(_REASON, None)
