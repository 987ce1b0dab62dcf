"""What only one may do: ask about an MV, write to a plant, end a hand-back."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from each_database import REFUSED, by_hand, forgetting
from hypothesis import given, settings
from hypothesis import strategies as st
from small_plant import NOON, PUMP, accept, at, outcome, permission, proposal, small_plant
from sqlalchemy import URL

from twin.errors import RecordRefused
from twin.historian import HandBackStatus, Historian
from twin.historian.schema import LATEST
from twin.plant import RemoteMode
from twin.records import ProposalStatus

PLANT = replace(
    small_plant(),
    tags=tuple(
        replace(tag, remote=RemoteMode(tag="tank.level")) if tag.name == PUMP else tag
        for tag in small_plant().tags
    ),
)


@pytest.fixture
def historian(database: URL) -> Iterator[Historian]:
    with Historian.create(database) as opened:
        opened.register(PLANT)
        yield opened


def written(historian: Historian) -> None:
    """The pump is ours since 25 s after noon."""
    historian.store_proposal(proposal())
    historian.decide(accept())
    historian.store_clearance(permission())
    assert historian.use_clearance("c1", at(22))
    historian.store_outcome(outcome())


def test_of_planners_that_publish_at_once_one_asks(historian: Historian) -> None:
    """Eight planners, one pump: one proposal is open, the others hear whose."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(historian.publish, [proposal(f"p{n}") for n in range(8)]))
    (found,) = historian.proposals(PLANT)
    assert sorted(map(str, answers)) == sorted(["None", *[found.proposal_id] * 7])


@pytest.mark.parametrize("status", [ProposalStatus.OPEN, ProposalStatus.ACCEPTED])
def test_while_one_waits_no_other_asks_about_its_mvs(
    historian: Historian, status: ProposalStatus
) -> None:
    """Open or accepted; another MV, another plant and a refusal may come; then it is free again."""
    historian.publish(proposal("first"))
    if status is ProposalStatus.ACCEPTED:
        historian.decide(accept("first"))
    assert historian.publish(proposal("second")) == "first"
    assert historian.publish(replace(proposal("other"), setpoints={"drain": 1.0})) is None
    assert historian.publish(proposal("theirs", plant="other")) is None
    assert historian.publish(proposal("no", ProposalStatus.REFUSED)) is None
    historian.set_status("first", ProposalStatus.EXPIRED, "", at(400))
    assert historian.publish(proposal("third")) is None


_TURNS = st.lists(
    st.tuples(st.sampled_from("ABC"), st.integers(0, 8), st.booleans()), min_size=1, max_size=20
)


@settings(max_examples=60, deadline=None)
@given(turns=_TURNS)
def test_a_lease_has_one_holder_at_any_time(turns: list[tuple[str, int, bool]]) -> None:
    """Whoever asks, renews or leaves in whatever order: another gets it only when it is free."""
    with tempfile.TemporaryDirectory() as folder, Historian.create(Path(folder) / "h.db") as held:
        now, length = NOON, timedelta(seconds=6)
        holder, until = "", NOON
        for who, waited_s, leaves in turns:
            now += timedelta(seconds=waited_s)
            if leaves:
                held.end_lease(PLANT, "write", who)
                holder = "" if who == holder else holder
                continue
            if holder in ("", who) or now >= until:
                holder, until = who, now + length
            assert held.take_lease(PLANT, "write", who, now, now + length) == holder


def test_a_lease_of_a_clock_that_was_set_back_stands_in_nobodys_way(historian: Historian) -> None:
    """Its owner was killed an hour ahead of now; half a length ahead is another machine's clock."""
    length = timedelta(seconds=6)
    for ahead, holder in ((timedelta(seconds=3), "A"), (timedelta(hours=1), "B")):
        then = NOON + ahead
        historian.take_lease(PLANT, "write", "A", then, then + length)
        assert historian.take_lease(PLANT, "write", "B", NOON, NOON + length) == holder


def test_a_hand_back_is_asked_and_ended_once(historian: Historian) -> None:
    """By name and with a reason, of an MV that we hold; then we hold it no more."""
    assert "does not hold" in str(historian.ask_back(PLANT, PUMP, "Ada", "it rattles", at(30)))
    written(historian)
    assert historian.held(PLANT)[PUMP].written_at == at(25)
    assert "named person" in str(historian.ask_back(PLANT, PUMP, " ", "it rattles", at(30)))
    assert "no MV" in str(historian.ask_back(PLANT, "tank.demand", "Ada", "x", at(30)))
    assert historian.ask_back(PLANT, PUMP, "Ada", "it rattles", at(30)) is None
    (asked,) = historian.hand_backs(PLANT, statuses=[HandBackStatus.OPEN])
    historian.end_hand_back(PLANT, asked, HandBackStatus.DONE, "in AUTO", at(31))
    assert historian.held(PLANT) == {}
    with pytest.raises(RecordRefused, match="ended once"):
        historian.end_hand_back(PLANT, asked, HandBackStatus.VOID, "", at(32))


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM hand_back",
        "UPDATE hand_back SET actor = 'Eve'",
        "UPDATE hand_back SET status = 'gone', ended_at = 1",
        "UPDATE hand_back SET status = 'done'",
        "INSERT INTO hand_back SELECT * FROM hand_back",
    ],
)
def test_nobody_changes_what_was_asked(historian: Historian, statement: str) -> None:
    """The database itself refuses, whoever writes."""
    written(historian)
    assert historian.ask_back(PLANT, PUMP, "Ada", "it rattles", at(30)) is None
    with pytest.raises(REFUSED):
        by_hand(historian.url, statement)


def test_a_damaged_hand_back_is_passed_over(historian: Historian) -> None:
    """It is named as unreadable, and what we hold is still told."""
    written(historian)
    historian.ask_back(PLANT, PUMP, "Ada", "it rattles", at(30))
    unguarded = forgetting(historian.url, "hand_back_ended_once", "hand_back")
    by_hand(historian.url, unguarded, "UPDATE hand_back SET cause = 'garbage'")
    assert historian.hand_backs(PLANT) == []
    assert historian.asked_back_at(PLANT, [PUMP]) == LATEST, "it may have been a person's"
    assert [each.kind for each in historian.unreadable(PLANT.plant)] == ["hand-back"]
    assert PUMP in historian.held(PLANT)


@pytest.mark.parametrize("damaged", [-(2**62), 2**62])
def test_a_request_of_unknown_time_counts_as_later_than_any_yes(
    historian: Historian, damaged: int
) -> None:
    """It keeps its own MV from being written, and no other."""
    written(historian)
    historian.ask_back(PLANT, PUMP, "Ada", "it rattles", at(30))
    unguarded = forgetting(historian.url, "hand_back_ended_once", "hand_back")
    by_hand(historian.url, unguarded, f"UPDATE hand_back SET asked_at = {damaged}")
    asked_at = historian.asked_back_at(PLANT, [PUMP])
    assert asked_at is not None
    assert asked_at > at(1e9)
    assert historian.ask_back(PLANT, PUMP, "Bob", "it rattles", at(40)) is None, "anew"
    historian.end_unreadable_hand_backs(PLANT, at(50))
    historian.end_unreadable_hand_backs(PLANT, at(60))
    assert historian.asked_back_at(PLANT, [PUMP]) == at(50), "only what was accepted before"
    (left,) = historian.hand_backs(PLANT, statuses=[HandBackStatus.OPEN])
    assert left.by == "Bob"
    assert historian.asked_back_at(PLANT, ["drain"]) is None
