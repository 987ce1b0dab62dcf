"""The line above every page, the stop button, and its release.

The stop is drawn first and needs only the plant file and the latch: it works while the database
is away.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import streamlit as st

from connectors.stop import StopLatch
from dashboard import markup, messages, shell
from dashboard.facts import Facts
from dashboard.given import LONGEST_TEXT, kept
from dashboard.messages import Message
from dashboard.view import text
from dashboard.view.headline import STOPPED_AT_PLANT, headline
from dashboard.view.tags import Level
from twin.clock import WALL_TIME, wall_now
from twin.errors import HistorianError, PlantwrightError
from twin.plant import Plant

_ASKED = "stop_asked"
_SAID = "stop_said"
_ASKED_FOR = timedelta(seconds=20)  # an unconfirmed stop is forgotten


def show() -> None:
    """Plant, time, mode, ages and stop state, with the button that stops all writing."""
    with st.container():
        st.fragment(_draw, run_every=shell.REFRESH_S)()


def _draw() -> None:
    try:
        plant, latch = shell.plant_and_latch()
    except PlantwrightError as fault:
        shell.show_fault(fault)
        return
    left, right = st.columns([6, 1.4], vertical_alignment="top")
    is_stopped = latch.is_stopped()
    # Every place is filled, and before the database is asked: what a refresh leaves out stays until
    # its end, and would keep the red banner of a stop beside "Writing enabled".
    with right, st.empty() if is_stopped else st.container():
        if not is_stopped:
            _stop_button(latch)
    with st.container() if is_stopped else st.empty():
        if is_stopped:
            _stopped(plant, latch)
        else:
            messages.show(_SAID)
    with left:
        try:
            facts = shell.open_door().facts()
            _headline(plant, facts, is_stopped)
        except PlantwrightError as fault:
            shell.show_fault(fault)
            return
    if facts.is_stopped_at_plant:
        st.html(markup.note("STOPPED AT THE PLANT", STOPPED_AT_PLANT, Level.ALARM))
    else:
        st.empty()


def _headline(plant: Plant, facts: Facts, is_stopped: bool) -> None:
    items = headline(
        plant,
        facts.state,
        facts.stages,
        newest_reading=facts.newest_reading,
        planned_at=facts.planned_at,
        link=facts.link,
        processes=facts.processes,
        is_stopped=is_stopped,
        is_stopped_at_plant=facts.is_stopped_at_plant,
        is_starting=facts.is_starting,
    )
    clock = text.date_time(facts.now if facts.is_time_known else None, plant)
    zone = text.zone_name(facts.now, plant)
    st.html(markup.headline(plant.title, clock, zone, items, shell.tick()))


def _stop_button(latch: StopLatch) -> None:
    asked_at: datetime | None = st.session_state.get(_ASKED)
    if asked_at is None or wall_now() - asked_at > _ASKED_FOR:
        st.button("STOP", key="stop", on_click=_ask, width="stretch", help="Stop all writing")
        return
    st.button(
        "Confirm STOP",
        key="stop_confirm",
        type="primary",
        on_click=_stop,
        args=(latch,),
        width="stretch",
    )
    st.button("Cancel", key="stop_cancel", on_click=_cancel, width="stretch")


def _stopped(plant: Plant, latch: StopLatch) -> None:
    message = f"Nothing is written to the plant. {_note(plant, latch.path)}".strip()
    st.html(markup.note("STOPPED", message, Level.ALARM))
    with st.expander("Release the stop"):
        shell.ask_name("release_name")
        st.text_input("Why is it safe to go on?", key="release_reason", max_chars=LONGEST_TEXT)
        messages.show(_SAID)
        st.button("Release the stop", key="release", on_click=_release, args=(latch,))


def _note(plant: Plant, path: Path) -> str:
    """Who stopped and why, by whoever wrote the file; empty where it tells nothing."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        when = text.date_time(datetime.fromisoformat(told["at"]), plant)
        by, reason = (text.shortened(str(told[key]), LONGEST_TEXT) for key in ("by", "reason"))
        return f"Stopped by {by}: {reason} (wall clock {when})."
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _tell(title: str, said: str = "", level: Level = Level.ATTENTION) -> None:
    messages.tell(_SAID, Message(title, said, level))


def _ask() -> None:
    st.session_state[_ASKED] = wall_now()


def _cancel() -> None:
    st.session_state[_ASKED] = None


def _stop(latch: StopLatch) -> None:
    by = kept(shell.person(), "a person at this screen")
    st.session_state[_ASKED] = None
    messages.forget(_SAID)
    try:
        latch.set(by, "stop button", wall_now())
    except OSError as fault:
        _tell(
            "NOT STOPPED",
            f"The stop latch {latch.path} could not be set: {fault.strerror}. "
            "Stop the writing process itself, or use the plant's own stop.",
            Level.ALARM,
        )
        return
    _audit("set", "stop button", by)


def _release(latch: StopLatch) -> None:
    reason = str(st.session_state.get("release_reason", "")).strip()
    fault = shell.name_fault() or shell.reason_fault(reason, "Say why it is safe to go on.")
    if fault:
        _tell("Not released", fault)
        return
    try:
        was_set = latch.release()
    except OSError as trouble:
        _tell("Not released", f"{latch.path} could not be removed: {trouble.strerror}.")
        return
    st.session_state.pop("release_reason", None)
    _tell("Released", "Accepted setpoints are written again.", Level.CALM)
    if was_set:
        _audit("released", reason, shell.person())


def _audit(what: str, reason: str, by: str) -> None:
    # The latch stands whatever the database does: it is told afterwards, and may fail to hear.
    try:
        door = shell.open_door()
        facts = door.facts()
        message = f"{what}: {reason}"
        if not facts.is_time_known:
            message += f" {WALL_TIME}"
        door.historian.event(door.plant, "stop", door.plant.plant, message, facts.now, by)
    except HistorianError as fault:
        _tell(f"The latch is {what}, but the audit could not be told", str(fault))
