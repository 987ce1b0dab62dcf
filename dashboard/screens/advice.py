"""Advice: the proposal that waits, why, what it brings, and a person's yes or no."""

from __future__ import annotations

from datetime import timedelta

import streamlit as st

from dashboard import charts, markup, shell
from dashboard.decide import accept, last_message, reject
from dashboard.facts import Facts
from dashboard.shell import Door
from dashboard.view import advice, text, trend
from dashboard.view.tags import Level
from twin.plant import Role
from twin.records import Proposal, ProposalStatus

_PAST_SHOWN = 15
_HISTORY_REFRESH_S = 6.0
_DECIDED = (
    ProposalStatus.ACCEPTED,
    ProposalStatus.REJECTED,
    ProposalStatus.WRITTEN,
    ProposalStatus.FAILED,
    ProposalStatus.REFUSED,
    ProposalStatus.EXPIRED,
    ProposalStatus.SUPERSEDED,
)


def draw(door: Door, facts: Facts) -> None:
    """The waiting proposal, or the newest one and why it does not wait."""
    if (message := last_message(facts.wall_now)) is not None:
        st.html(markup.note(message.title, message.text, message.level))
    shown = facts.open or facts.newest
    if shown is None:
        st.html(
            markup.note("No proposal yet", advice.no_proposal(facts.newest_reading is not None))
        )
        return
    standing = advice.standing(shown, facts.now, facts.wall_now)
    tick = shell.tick()
    st.html(markup.live(markup.facts(advice.figures(door.plant, shown, standing)), tick))
    left, right = st.columns([3, 2])
    with left:
        moves = markup.move_table(advice.move_rows(door.plant, shown))
        st.html(markup.live(moves, tick))
        st.html(markup.note("Why", advice.why(shown)))
        _outlook(door, facts, shown, tick)
    with right:
        _verdict(shown)
        if standing.is_open:
            _form(door, shown)
        else:
            st.html(markup.note("It cannot be decided", standing.reason))


def history(door: Door, facts: Facts) -> None:
    """What became of the last proposals."""
    past = door.historian.proposals(door.plant, limit=_PAST_SHOWN)
    decisions = {
        p.proposal_id: found
        for p in past
        if p.status in _DECIDED and (found := door.historian.decision(p.proposal_id)) is not None
    }
    if past:
        rows = advice.past_rows(door.plant, past, decisions, facts.outcomes)
        st.html(markup.live(markup.past_table(rows), shell.tick()))


def _verdict(shown: Proposal) -> None:
    if shown.verdict.is_clear:
        st.html(markup.note("Safety gate: clear", "It is asked again just before the write."))
    else:
        reasons = "\n".join(shown.verdict.reasons)
        st.html(markup.note("Safety gate: refused", reasons, Level.ATTENTION))


def _form(door: Door, shown: Proposal) -> None:
    # The buttons carry the proposal they stand under: a newer one is never decided by mistake.
    chosen = shown.proposal_id
    shell.ask_name("advice_name")
    st.button(
        "Accept",
        key=f"accept {chosen}",
        type="primary",
        width="stretch",
        on_click=accept,
        args=(door, chosen),
    )
    with st.container(border=True):
        st.selectbox(
            "Reason for rejecting",
            advice.REJECT_REASONS,
            index=None,
            placeholder="Choose a reason",
            key="reject_reason",
        )
        st.text_input("In your own words (optional)", key="reject_words", max_chars=200)
        st.button(
            "Reject",
            key=f"reject {chosen}",
            width="stretch",
            on_click=reject,
            args=(door, chosen),
        )


def _outlook(door: Door, facts: Facts, shown: Proposal, tick: int) -> None:
    """Every CV and moved MV under the plan, with the last hour before it."""
    plant = door.plant
    tags = [tag.name for tag in plant.with_role(Role.CV)]
    tags += [name for name in shown.plan.moves if name not in tags]
    start = facts.now - timedelta(hours=1)
    samples = door.historian.samples(plant, tags, start, facts.now)
    panels = trend.panels(plant, tags, samples, shown)
    told = trend.message(
        plant, panels, start=start, now=facts.now, tick=tick, height_px=130, is_small=True
    )
    made = text.clock_time(shown.created_at, plant)
    st.subheader(f"Under this plan, made {made}", anchor=False)
    charts.trend(told, key="outlook")


shell.page(draw)
st.subheader("The last proposals", anchor=False)
shell.page(history, _HISTORY_REFRESH_S)
