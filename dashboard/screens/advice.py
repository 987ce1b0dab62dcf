"""Advice: the proposal that waits, why, what it brings, and a person's yes or no."""

from __future__ import annotations

from datetime import timedelta

import streamlit as st

from dashboard import charts, holding, markup, messages, shell
from dashboard.decide import SAID, accept, reject
from dashboard.facts import Facts
from dashboard.given import LONGEST_TEXT
from dashboard.shell import Door
from dashboard.view import advice, text, trend
from dashboard.view.tags import Level
from twin.records import Proposal, ProposalStatus

_PAST_SHOWN = 15
_DECIDED = (
    ProposalStatus.ACCEPTED,
    ProposalStatus.REJECTED,
    ProposalStatus.WRITTEN,
    ProposalStatus.FAILED,
    ProposalStatus.REFUSED,
    ProposalStatus.EXPIRED,
    ProposalStatus.SUPERSEDED,
)

# Once it is written, or is not to be, the click's answer is told by how it ended.
_AS_CLICKED = (ProposalStatus.OPEN, ProposalStatus.ACCEPTED, ProposalStatus.REJECTED)


def draw(door: Door, facts: Facts) -> None:
    """What is held, the waiting proposal or the newest one and why it does not wait; the past."""
    holding.show(door, facts)
    shown = facts.open or facts.newest
    if shown is None:
        has_readings = facts.newest_reading is not None
        why = advice.no_proposal(door.plant, has_readings, facts.is_starting)
        st.html(markup.note("No proposal yet", why))
    else:
        _proposal(door, facts, shown)
    # In the same refresh: a row never says OPEN beside a card that says ACCEPTED.
    history(door, facts)


def _proposal(door: Door, facts: Facts, shown: Proposal) -> None:
    """One proposal: what it brings, what it moves and why, and the form while it is open."""
    standing = advice.standing(shown, facts.now, facts.wall_now)
    messages.show(SAID, shown.proposal_id if shown.status in _AS_CLICKED else "")
    tick = shell.tick()
    st.html(markup.live(markup.facts(advice.figures(door.plant, shown, standing)), tick))
    left, right = st.columns([3, 2])
    with left:
        moves = markup.move_table(advice.move_rows(door.plant, shown, facts.state))
        st.html(markup.live(moves, tick))
        st.html(markup.note("Why", advice.why(shown)))
        _outlook(door, facts, shown, tick)
    with right:
        _verdict(shown)
        if standing.is_open:
            _form(door, shown)
        else:
            st.html(markup.note(*advice.ended(shown, standing)))


def history(door: Door, facts: Facts) -> None:
    """What became of the last proposals."""
    past = door.historian.past(door.plant, limit=_PAST_SHOWN)
    decided = [p for p in past if isinstance(p, Proposal) and p.status in _DECIDED]
    decisions = {
        p.proposal_id: found
        for p in decided
        if (found := door.historian.decision(p.proposal_id)) is not None
    }
    if past:
        st.subheader("The last proposals", anchor=False)
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
        st.text_input("In your own words (optional)", key="reject_words", max_chars=LONGEST_TEXT)
        st.button(
            "Reject",
            key=f"reject {chosen}",
            width="stretch",
            on_click=reject,
            args=(door, chosen),
        )


def _outlook(door: Door, facts: Facts, shown: Proposal, tick: int) -> None:
    """Every CV and MV that the plan tells of, with the last hour before it."""
    plant = door.plant
    tags = trend.foretold_tags(plant, shown)
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
