"""Stages: how far each MV is trusted to the computer, and who changed that."""

from __future__ import annotations

import streamlit as st

from dashboard import markup, shell
from dashboard.facts import Facts
from dashboard.given import LONGEST_TEXT
from dashboard.shell import Door
from dashboard.view import text
from dashboard.view.kinds import is_planned
from dashboard.view.tags import Level, mode_word
from twin.errors import PlantwrightError
from twin.plant import Role
from twin.records import Stage

_MEANING = {
    Stage.SHADOW: "computed only, nothing is proposed",
    Stage.ADVISORY: "a person accepts or rejects",
    Stage.CLOSED_LOOP: "written without asking; only against an emulator on this machine",
}
_NOT_PLANNED = "nothing is proposed: planning needs a physics.py, and the plant file names none"
_SAID = "stage_said"


def draw(door: Door, facts: Facts) -> None:
    """Stage and mode of every MV."""
    rows = []
    for tag in door.plant.with_role(Role.MV):
        mode = mode_word(door.plant, tag, facts.state)
        stage = facts.stages[tag.name]
        shown = mode.text if mode is not None else text.NOTHING
        meaning = _MEANING[stage] if is_planned(door.plant) else _NOT_PLANNED
        rows.append((tag.name, tag.description, shown, stage.value, meaning))
    heads = ("MV", "Description", "Mode", "Stage", "That means")
    st.html(markup.live(markup.text_table(heads, rows, "Stages"), shell.tick()))


def change(door: Door, _facts: Facts) -> None:
    """The form that changes a stage."""
    st.subheader("Change a stage", anchor=False)
    if (said := st.session_state.pop(_SAID, None)) is not None:
        st.html(markup.note(said[0], said[1], said[2]))
    first, second = st.columns(2)
    with first:
        st.selectbox("MV", [tag.name for tag in door.plant.with_role(Role.MV)], key="stage_mv")
        shell.ask_name("stage_name")
    with second:
        st.selectbox("New stage", [stage.value for stage in Stage], index=1, key="stage_to")
        st.text_input("Reason", key="stage_reason", max_chars=LONGEST_TEXT)
    st.button("Change the stage", key="stage_change", on_click=_change, args=(door,))


def _change(door: Door) -> None:
    mv, to = str(st.session_state["stage_mv"]), Stage(st.session_state["stage_to"])
    reason = str(st.session_state.get("stage_reason", "")).strip()
    try:
        fault = (
            shell.name_fault()
            or shell.reason_fault(reason, "Say why the stage changes.")
            or door.historian.set_stage(
                door.plant, mv, to, shell.person(), reason, door.facts().now
            )
        )
    except PlantwrightError as trouble:
        fault = str(trouble)
    if fault:
        st.session_state[_SAID] = ("The stage stays as it is", fault, Level.ATTENTION)
    else:
        st.session_state[_SAID] = (f"{mv} is now {to.value}", _MEANING[to], Level.CALM)


shell.page(draw)
shell.page(change, None)
