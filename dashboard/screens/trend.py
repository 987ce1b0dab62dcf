"""Trend: history, both limit pairs and the forecast fan of the newest plan; zoom is kept."""

from __future__ import annotations

from datetime import timedelta

import streamlit as st

from dashboard import charts, markup, shell
from dashboard.facts import Facts
from dashboard.shell import Door
from dashboard.view import overview, trend
from twin.plant import Plant

_REFRESH_S = 4.0
_HOURS = (1, 2, 4, 8, 12, 24, 48, 168, 720)


def choose(plant: Plant) -> tuple[list[str], int]:
    """Which tags, and how many hours back."""
    left, right = st.columns([5, 1])
    with left:
        chosen = st.multiselect(
            "Tags", trend.choices(plant), default=trend.default_tags(plant), key="tags"
        )
    with right:
        hours = st.selectbox("Hours back", _HOURS, index=_HOURS.index(4), key="hours")
    return chosen, hours


def draw(door: Door, facts: Facts, tags: list[str], hours: int) -> None:
    """The chosen tags' panels at one refresh."""
    if facts.newest_reading is None:
        st.html(markup.note("No readings yet", overview.no_readings(door.plant, facts.is_starting)))
        return
    if not tags:
        st.html(markup.note("No tag is chosen", "Choose one or more tags above."))
        return
    start = facts.now - timedelta(hours=hours)
    samples, step_s = trend.history_of(door.historian, door.plant, tags, start, facts.now)
    shown = trend.panels(door.plant, tags, samples, facts.newest, step_s=step_s)
    told = trend.message(door.plant, shown, start=start, now=facts.now, tick=shell.tick())
    charts.trend(told, key="trend")


def show() -> None:
    """The page."""
    plant, _ = shell.plant_and_latch()
    tags, hours = choose(plant)
    shell.page(lambda d, facts: draw(d, facts, tags, hours), _REFRESH_S)


show()
