"""Overview: every tag with its limits and status, what is to be gained, who is alive."""

from __future__ import annotations

from datetime import timedelta

import streamlit as st

from dashboard import holding, markup, shell
from dashboard.facts import Facts, last_hour_score
from dashboard.shell import Door
from dashboard.view import overview
from dashboard.view.tags import tag_rows
from twin.economics import Score
from twin.plant import Role

_SCORE_REFRESH_S = 10.0


def draw(door: Door, facts: Facts) -> None:
    """The tables of one refresh."""
    plant = door.plant
    if facts.newest_reading is None:
        st.html(markup.note("No readings yet", overview.no_readings(plant, facts.is_starting)))
        return
    holding.show(door, facts)
    rows = tag_rows(plant, facts.state, facts.stages, facts.newest, facts.open, facts.written)
    shown = overview.figures(plant, facts.open, _score(door, facts), facts.trust)
    tick = shell.tick()
    batches = overview.announced_batches(plant, facts.state)
    st.html(markup.live(markup.facts(shown), tick))
    st.html(markup.live(markup.tag_table(rows, (Role.MV, Role.CV, Role.DV)), tick))
    if batches:
        heads = ("Announced batch on", "Start", "Draw", "Duration")
        st.html(markup.live(markup.text_table(heads, batches, "Announced batches"), tick))
    st.html(markup.live(markup.process_table(facts.processes), tick))
    with st.expander("Other signals"):
        others = overview.without_own_table(plant, rows)
        st.html(markup.live(markup.tag_table(others, (Role.AUX,)), tick))


def _score(door: Door, facts: Facts) -> Score | None:
    """The last hour's cost, worked out once per plant step or ten wall seconds."""
    now = facts.now.replace(second=0, microsecond=0)
    kept = st.session_state.get("score")
    if kept is not None and facts.wall_now - kept[0] < timedelta(seconds=_SCORE_REFRESH_S):
        found: Score | None = kept[1]
        return found
    found = last_hour_score(door.historian, door.plant, now)
    st.session_state["score"] = (facts.wall_now, found)
    return found


shell.page(draw)
