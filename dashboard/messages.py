"""What a person is told after a click: one message per place, for a while, then gone.

A message may be about one thing, such as a proposal; it is then never shown over another.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import streamlit as st

from dashboard import markup
from dashboard.view.tags import Level
from twin.clock import wall_now

_SHOWN = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Message:
    """A title, what it means, how urgent it is, and what it is about; "" is about nothing."""

    title: str
    text: str = ""
    level: Level = Level.CALM
    about: str = ""
    told_at: datetime = field(default_factory=wall_now)


def tell(place: str, message: Message) -> None:
    """Have `message` shown at `place` of this session instead of any earlier one."""
    st.session_state[place] = message


def forget(place: str) -> None:
    """Show nothing at `place` any more."""
    st.session_state.pop(place, None)


def show(place: str, about: str = "") -> None:
    """Draw the message of `place`, unless it is old or about something else than `about`.

    It has its place on the page also while there is none: a form below closes where it moves.
    """
    message: Message | None = st.session_state.get(place)
    is_recent = message is not None and wall_now() - message.told_at <= _SHOWN
    if message is not None and is_recent and message.about in ("", about):
        st.html(markup.note(message.title, message.text, message.level))
    else:
        st.empty()
