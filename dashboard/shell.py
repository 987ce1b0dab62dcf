"""What every page stands in: the door to plant and database, the refresh, the person's name.

Pages draw; this module opens, repeats and catches. A fault a person can act on becomes one
message on the page, never a traceback.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import streamlit as st

from connectors.stop import StopLatch
from dashboard import given, markup
from dashboard.facts import Facts, read_facts
from dashboard.server import page_settings
from dashboard.settings import Settings
from dashboard.view.tags import Level
from twin.clock import wall_now
from twin.errors import PlantwrightError
from twin.historian import Historian
from twin.plant import Plant, read_plant

REFRESH_S = 2.0
_STYLE = Path(__file__).parent / "style.css"
_NAME = "person"
_NAME_FIELDS = "name_fields"
_TICK = "tick"


@dataclass(frozen=True)
class Door:
    """One plant with its database, and when its processes were started beside the page, if so."""

    plant: Plant
    historian: Historian
    started_at: datetime | None = None

    def facts(self) -> Facts:
        """What is known at this moment."""
        return read_facts(self.historian, self.plant, wall_now(), self.started_at)


def open_door() -> Door:
    """The plant and database that the environment names.

    Raises:
        PlantwrightError: a setting is missing, the plant file has faults, or the database does
            not open or stands at another migration.
    """
    settings = page_settings(os.environ)
    return Door(_plant(settings.plant), _historian(settings.database), settings.started_at)


def plant_and_latch() -> tuple[Plant, StopLatch]:
    """The plant and its stop latch; needs no database.

    Raises:
        PlantwrightError: a setting is missing or the plant file has faults.
    """
    settings = page_settings(os.environ)
    plant = _plant(settings.plant)
    return plant, StopLatch(Settings(state_dir=settings.state_dir).stop_latch(plant))


def page(draw: Callable[[Door, Facts], None], every_s: float | None = REFRESH_S) -> None:
    """Draw a part of a page now and every `every_s` seconds."""

    def part() -> None:
        try:
            door = open_door()
            draw(door, door.facts())
        except PlantwrightError as fault:
            show_fault(fault)

    # Streamlit knows a fragment by its function's name and its container; the name is shared.
    with st.container():
        st.fragment(part, run_every=every_s)()


def is_open() -> bool:
    """Whether plant and database open; if not, the script runs again once they do."""
    try:
        open_door()
    except PlantwrightError:
        st.fragment(_try_again, run_every=REFRESH_S)()
        return False
    return True


def show_fault(fault: PlantwrightError) -> None:
    """A fault as one message with its remedy."""
    st.html(markup.note("This page cannot show the plant", str(fault), Level.ALARM))


def style() -> None:
    """The look of every page."""
    st.html(f"<style>\n{_STYLE.read_text(encoding='utf-8')}\n</style>")


def tick() -> int:
    """A number that differs at every refresh of this session."""
    st.session_state[_TICK] = st.session_state.get(_TICK, 0) + 1
    return int(st.session_state[_TICK])


def ask_name(key: str) -> None:
    """An input for the person's name, remembered on all pages of this session."""
    # Set once: setting it at every refresh would wipe out what is being typed.
    if key not in st.session_state:
        st.session_state[key] = person()
    st.session_state.setdefault(_NAME_FIELDS, set()).add(key)
    st.text_input("Your name", key=key, on_change=_remember, args=(key,), max_chars=60)


def person() -> str:
    """The name given in this session; empty if none was."""
    return str(st.session_state.get(_NAME, ""))


def name_fault() -> str:
    """Why the given name cannot stand under a decision; empty if it can."""
    if not person():
        return "Give your name first; every decision is kept with a name."
    fault = given.name_fault(person())
    return f"The name {fault}" if fault else ""


def reason_fault(reason: str, ask: str) -> str:
    """Why a reason cannot be kept, empty if it can; `ask` is what is said where there is none."""
    if not reason:
        return ask
    fault = given.text_fault(reason)
    return f"The reason {fault}" if fault else ""


def _remember(key: str) -> None:
    st.session_state[_NAME] = name = str(st.session_state[key]).strip()
    for field in st.session_state[_NAME_FIELDS]:
        st.session_state[field] = name


def _try_again() -> None:
    try:
        open_door()
    except PlantwrightError:
        return
    st.rerun()


# One of each per process, shared by every session.
_plant: Callable[[str], Plant] = st.cache_resource(read_plant, show_spinner=False)
_historian: Callable[[str], Historian] = st.cache_resource(Historian.open, show_spinner=False)
