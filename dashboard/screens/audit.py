"""Audit: every event, newest first. Nothing here can be changed."""

from __future__ import annotations

import streamlit as st

from dashboard import markup, shell
from dashboard.facts import Facts
from dashboard.shell import Door
from dashboard.view import text

_REFRESH_S = 4.0
_SHOWN = 100
_ALL = "all kinds"
#: Kinds that the rooms write; others are found under "all kinds".
_KINDS = (
    _ALL,
    "proposal",
    "decision",
    "clearance",
    "write",
    "give back",
    "shed",
    "mode",
    "stop",
    "plant stop",
    "stage",
    "plan",
    "fault",
    "model",
    "link",
    "security",
    "trust",
    "backfill",
    "database",
    "unreadable",
)


def draw(door: Door, kind: str) -> None:
    """The newest events of one kind, or of all."""
    found = door.historian.events(door.plant, _SHOWN, kind=None if kind == _ALL else kind)
    if not found:
        st.html(markup.note("No events yet", "Every step from proposal to write is kept here."))
        return
    rows = [
        (
            str(event.number),
            text.date_time(event.at, door.plant),
            event.kind,
            event.subject,
            text.told(event.message, door.plant),
            event.by,
        )
        for event in found
    ]
    heads = ("No.", "Plant time", "Kind", "About", "What happened", "By")
    st.html(markup.live(markup.text_table(heads, rows, "Audit"), shell.tick()))


def _draw_chosen(door: Door, _facts: Facts) -> None:
    draw(door, str(st.session_state.get("kind", _ALL)))


st.selectbox("Kind of event", _KINDS, key="kind")
shell.page(_draw_chosen, _REFRESH_S)
