"""Furnace: zones, slabs, mill and discharge door in one picture, and the list of slabs."""

from __future__ import annotations

import streamlit as st

from dashboard import markup, mimic, shell
from dashboard.facts import Facts
from dashboard.shell import Door
from dashboard.view import furnace, overview
from optimizer.fault_record import standing_faults

_LOOKED_BACK = 20  # proposals: refused ones carry no forecast, and are stored once an hour at most


def draw(door: Door, facts: Facts) -> None:
    """The picture and the list of one refresh."""
    block = door.plant.furnace
    if block is None:
        st.html(markup.note("No furnace", "The plant file describes none."))
        return
    if facts.newest_reading is None:
        st.html(markup.note("No readings yet", overview.no_readings(door.plant, facts.is_starting)))
        return
    newest = [facts.newest] if facts.newest is not None else []
    forecast = furnace.newest_forecast(newest) or furnace.newest_forecast(
        door.historian.proposals(door.plant, limit=_LOOKED_BACK)
    )
    faults = standing_faults(door.historian, door.plant)
    seen = furnace.shown(door.plant, block, facts.state, forecast, faults)
    tick = shell.tick()
    st.html(markup.live(markup.facts(furnace.figures(seen)), tick))
    # st.html would drop the drawing.
    st.markdown(markup.live(mimic.drawing(seen), tick), unsafe_allow_html=True)
    if faults:
        heads, rows = ("Since", "About", "What is wrong"), furnace.fault_rows(door.plant, faults)
        st.html(markup.live(markup.text_table(heads, rows, "Faults"), tick))
    st.html(markup.live(mimic.slab_table(door.plant, seen.slabs), tick))


shell.page(draw)
