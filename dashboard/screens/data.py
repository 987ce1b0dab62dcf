"""Data: every source and how its readings come, what is missing, and what waits."""

from __future__ import annotations

import os

import streamlit as st

from dashboard import markup, shell
from dashboard.collecting import read_collecting
from dashboard.facts import Facts
from dashboard.server import page_settings
from dashboard.shell import Door
from dashboard.view.data import coming_rows, figures, gap_rows, source_rows, troubles


def draw(door: Door, facts: Facts) -> None:
    """Troubles first, then figures, sources, tags and gaps."""
    settings = page_settings(os.environ)
    found = read_collecting(
        door.historian, door.plant, facts.wall_now, settings.database, settings.state_dir
    )
    notes = [markup.note(*trouble) for trouble in troubles(door.plant, found)]
    wrong, late = coming_rows(door.plant, facts.state)
    parts = [
        *notes,
        markup.facts(figures(found)),
        markup.source_table(source_rows(door.plant, found)),
    ]
    if wrong:
        parts.append(markup.coming_table(wrong, "Tags without a usable reading"))
    if late:
        parts.append(markup.coming_table(late, "Values that come late"))
    if found.gaps:
        rows = gap_rows(door.plant, found.gaps)
        parts.append(markup.gap_table(rows))
        if more := found.gaps_open + found.gaps_filled - len(rows):
            parts.append(markup.note(f"{more:,} more gaps", "The database keeps all of them."))
    else:
        parts.append(markup.note("No gaps", "Every stretch without readings is kept here."))
    tick = shell.tick()
    for part in parts:
        st.html(markup.live(part, tick))


shell.page(draw)
