"""The historian remembers everything once, and lets nothing past its safety rules."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path

import numpy as np
import pytest
from each_database import REFUSED, by_hand, is_sqlite, is_writing, seen_by_hand
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_plant import (
    DEMAND,
    LEVEL,
    NOON,
    PUMP,
    accept,
    at,
    level,
    outcome,
    permission,
    proposal,
    small_plant,
)
from sqlalchemy import URL

from twin.errors import DatabaseUnavailable, PlantFileError, RecordRefused, UnknownTag
from twin.historian import Gap, HandBackCause, Historian, stored
from twin.historian.database import connect, writing
from twin.historian.schema import microseconds
from twin.plant import Plant
from twin.readings import Readings
from twin.records import (
    BAD,
    GOOD,
    UNCERTAIN,
    Mark,
    Proposal,
    ProposalStatus,
    Reading,
    Stage,
    WriteStatus,
)

PLANT = small_plant()
NUMBERS = itertools.count()


@pytest.fixture
def historian(database: URL) -> Iterator[Historian]:
    with Historian.create(database) as opened:
        opened.register(PLANT)
        yield opened


# Readings


def test_a_reading_comes_back_as_it_went_in(historian: Historian) -> None:
    """Value, quality, marks and both times survive to the microsecond."""
    marks = Mark.BACKFILLED | Mark.UNDATED
    sent = Reading(LEVEL, 0.1 + 0.2, UNCERTAIN | 3, at(1.000001), at(2.999999), marks)
    assert historian.store([sent]) == 1
    assert historian.last_readings(PLANT) == {LEVEL: sent}
    assert historian.readings(PLANT, [LEVEL], at(0), at(5)) == [sent]


def test_storing_again_changes_nothing(historian: Historian) -> None:
    """Tag and source time identify a reading; the first one stands."""
    assert historian.store([level(0, 1.0), level(10, 2.0), level(10, 3.0)]) == 2
    assert historian.store([level(0, 9.0), level(20, 4.0)]) == 1
    assert historian.count(PLANT) == 3
    series = historian.samples(PLANT, [LEVEL], at(0), at(60))[LEVEL]
    assert series.values.tolist() == [1.0, 2.0, 4.0]
    assert series.times_s.tolist() == [at(s).timestamp() for s in (0, 10, 20)]


@pytest.mark.parametrize("days", [-30, -1e-11, 0, 30])
def test_a_reading_may_arrive_long_after_it_was_taken(historian: Historian, days: float) -> None:
    """A laboratory's weeks later, or before it was taken by clocks that differ."""
    sent = dataclasses.replace(level(0, 1.0), arrival_time=at(days * 86_400))
    historian.store([sent])
    assert historian.readings(PLANT, [LEVEL], at(0), at(0)) == [sent]


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_stored_as_such(historian: Historian, value: float | None) -> None:
    """It never becomes zero, and never counts as good."""
    historian.store([level(0, value, GOOD), level(10, value, BAD | 7)])
    first, second = historian.readings(PLANT, [LEVEL], at(0), at(10))
    assert (first.value, first.quality) == (None, BAD)
    assert (second.value, second.quality) == (None, BAD | 7)
    assert np.isnan(historian.samples(PLANT, [LEVEL], at(0), at(10))[LEVEL].values).all()


def test_a_held_value_of_bad_quality_is_kept_but_not_used(historian: Historian) -> None:
    """The number stays visible; series for models show a hole."""
    historian.store([level(0, 5.0, BAD), level(10, 6.0, UNCERTAIN), level(20, 7.0)])
    assert historian.last_readings(PLANT, at=at(5))[LEVEL].value == 5.0
    values = historian.samples(PLANT, [LEVEL], at(0), at(20))[LEVEL].values
    assert np.array_equal(values, [math.nan, math.nan, 7.0], equal_nan=True)


def test_of_two_readings_with_one_source_time_the_first_stands_everywhere(
    historian: Historian,
) -> None:
    """In one batch or in two: the last value is the stored sample, never the one left out."""
    historian.store([level(0, 1.0), level(10, 2.0), level(10, 3.0), level(10, 9.0, BAD)])
    assert historian.last_readings(PLANT)[LEVEL].value == 2.0
    assert historian.readings(PLANT, [LEVEL], at(10), at(10)) == [level(10, 2.0)]


def test_a_long_past_takes_no_more_memory_than_its_numbers(historian: Historian) -> None:
    """Two tags of 200,000 readings: what a driver makes of rows is never held for all of them."""
    count = 200_000
    times_us = microseconds(NOON) + 1_000_000 * np.arange(count)
    whole = np.zeros(count, np.int64)
    values = np.arange(count) / 7.0
    for tag in (LEVEL, PUMP):
        rows = Readings((tag,), whole, times_us, times_us, values, whole, whole)
        historian.store(rows, PLANT)
    tracemalloc.start()
    try:
        found = historian.samples(PLANT, [LEVEL, PUMP], NOON, at(count))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(found[PUMP].values, values)
    np.testing.assert_array_equal(found[LEVEL].times_s, times_us / 1e6)
    assert peak_bytes < 30e6, "as rows of a driver they are over 50 MB; the numbers are 6.4 MB"


def test_a_late_old_reading_is_stored_but_is_not_the_last(historian: Historian) -> None:
    """Backfill arrives after live samples; the present stays the present."""
    historian.store([level(100, 2.0)])
    historian.store([level(50, 1.0)])
    assert historian.last_readings(PLANT)[LEVEL].value == 2.0
    assert historian.last_readings(PLANT, [LEVEL], at=at(99))[LEVEL].value == 1.0
    assert historian.last_readings(PLANT, [LEVEL], at=at(49)) == {}
    assert historian.newest(PLANT) == at(100)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_tag_that_never_told_anything_costs_no_search(historian: Historian) -> None:
    """A page asks each second: of silent tags a server would search every day it keeps."""
    historian.store([level(0, 1.0), level(10, 2.0), level(99, 3.0, tag=PUMP)])
    told: list[str] = []
    raw = historian._engine.raw_connection()
    raw.driver_connection.set_trace_callback(told.append)
    raw.close()  # back to the pool: the next question has this connection
    asked = historian.last_readings(PLANT, at=at(100))
    assert {name: each.value for name, each in asked.items()} == {LEVEL: 2.0, PUMP: 3.0}
    assert told, "the connection is another one"
    assert not [each for each in told if "sample" in each]
    assert {n: r.value for n, r in historian.last_readings(PLANT, at=at(5)).items()} == {LEVEL: 1.0}


def test_a_reading_of_the_future_does_not_hide_the_present(historian: Historian) -> None:
    """Asked for what was known until now, the historian answers with what is true."""
    historian.store([level(0, 1.0), level(10, 2.0), level(3e8, 9.0)])
    assert historian.newest(PLANT) == at(3e8)
    assert historian.newest(PLANT, until=at(10)) == at(10)
    assert historian.newest(PLANT, until=at(9)) == at(0)
    assert historian.newest(PLANT, until=at(-1)) is None


def test_an_empty_historian_knows_nothing(historian: Historian) -> None:
    """No readings is an answer, not an error."""
    assert historian.store([]) == 0
    assert historian.count(PLANT) == 0
    assert historian.newest(PLANT) is None
    assert historian.last_readings(PLANT) == {}
    assert historian.samples(PLANT, [LEVEL, PUMP], at(0), at(9))[PUMP].values.size == 0
    assert historian.travel(PLANT, PUMP, at(0), at(9)) is None
    assert historian.facts().oldest is None


def test_an_unknown_tag_stops_the_whole_batch(historian: Historian) -> None:
    """All unknown tags are named, and nothing is half stored."""
    with pytest.raises(UnknownTag, match=r"tank\.a, tank\.b: not registered for plant small"):
        historian.store([level(0, 1.0), level(0, 1.0, tag="tank.b"), level(0, 1.0, tag="tank.a")])
    assert historian.count(PLANT) == 0
    with pytest.raises(UnknownTag, match=r"tank\.a"):
        historian.samples(PLANT, ["tank.a"], at(0), at(9))


def test_a_naive_time_is_refused(historian: Historian) -> None:
    """A time without a zone could be any of 24 hours."""
    naive = dataclasses.replace(level(0, 1.0), source_time=at(0).replace(tzinfo=None))
    with pytest.raises(ValueError, match="no time zone"):
        historian.store([naive])


def test_plants_with_the_same_tags_do_not_mix(historian: Historian) -> None:
    """Two plants in one database each see their own readings, events and proposals."""
    other = small_plant("other")
    historian.register(other)
    with pytest.raises(ValueError, match="Readings of which plant"):
        historian.store([level(0, 1.0)])
    historian.store([level(0, 1.0)], PLANT)
    historian.store([level(0, 2.0)], "other")
    historian.store_proposal(proposal(plant="other"))
    assert historian.last_readings(PLANT)[LEVEL].value == 1.0
    assert historian.last_readings("other")[LEVEL].value == 2.0
    assert (historian.count(PLANT), historian.count(other)) == (1, 1)
    assert (len(historian.proposals(PLANT)), len(historian.proposals(other))) == (0, 1)
    assert (len(historian.events(PLANT)), len(historian.events(other))) == (0, 1)


def test_registering_again_keeps_the_readings(historian: Historian) -> None:
    """A changed plant file renames no row: tags keep their numbers."""
    historian.store([level(0, 1.0)])
    historian.register(PLANT)
    assert historian.last_readings(PLANT)[LEVEL].value == 1.0


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    batches=st.lists(
        st.lists(st.tuples(st.integers(-1, 1), st.integers(0, 40), st.sampled_from([LEVEL, PUMP])))
    )
)
def test_any_order_of_batches_gives_the_same_history(
    historian: Historian, batches: list[list[tuple[int, int, str]]]
) -> None:
    """Counting what `store` returns equals counting distinct (tag, source time); over days too."""
    plant = small_plant(f"plant_{next(NUMBERS)}")
    historian.register(plant)
    new, distinct = 0, set()
    for batch in batches:
        taken = [(86_400 * day + second, tag) for day, second, tag in batch]
        new += historian.store((level(s, float(s), tag=t) for s, t in taken), plant)
        distinct |= set(taken)
    assert new == historian.count(plant) == len(distinct)
    last = historian.last_readings(plant)
    for tag in (LEVEL, PUMP):
        times = sorted(s for s, t in distinct if t == tag)
        assert [last[t].source_time for t in last if t == tag] == [at(s) for s in times[-1:]]
        series = historian.samples(plant, [tag], at(-1e5), at(1e5))[tag]
        assert series.values.tolist() == times


def test_travel_adds_up_how_far_an_mv_moved(historian: Historian) -> None:
    """5 → 7 → 4 → 4 is 5; bad readings between are passed over; the start value counts."""
    moves = [(-60, 5.0, GOOD), (10, 7.0, GOOD), (20, 99.0, BAD), (30, 4.0, GOOD), (40, 4.0, GOOD)]
    historian.store(level(s, v, q, PUMP) for s, v, q in moves)
    assert historian.travel(PLANT, PUMP, at(0), at(60)) == 5.0
    assert historian.travel(PLANT, PUMP, at(10), at(60)) == 3.0
    assert historian.travel(PLANT, PUMP, at(-90), at(-60)) == 0.0
    assert historian.travel(PLANT, PUMP, at(40), at(60)) is None


def test_gaps_that_are_not_filled_are_found_among_those_that_are(historian: Historian) -> None:
    """Filled ones gather for years; asked for are those still to fill, or still open."""
    lost = Gap(at(60), at(90), "connection lost", source="opcua")
    silent = Gap(at(70), None, "no readings", LEVEL, source="lab")
    for each in (
        Gap(at(0), at(30), "connection lost", is_filled=True, source="opcua"),
        lost,
        silent,
    ):
        historian.add_gap(
            PLANT,
            each.started_at,
            each.ended_at,
            each.reason,
            tag=each.tag,
            is_filled=each.is_filled,
            source=each.source,
        )
    historian.add_gap("other", at(0), None, "connection lost")
    assert historian.gaps(PLANT, unfilled=True) == [lost, silent]
    assert historian.gaps(PLANT, at(100), unfilled=True) == [silent]
    assert historian.gaps(PLANT, still_open=True) == [silent]
    assert historian.count_unfilled(PLANT) == {"opcua": 1, "lab": 1}
    assert historian.count_filled(PLANT) == 1
    historian.add_gap(PLANT, at(70), at(80), "no readings", tag=LEVEL, is_filled=True, source="lab")
    assert historian.gaps(PLANT, still_open=True) == []
    assert historian.count_unfilled(PLANT) == {"opcua": 1}


def test_gaps_are_rows_too(historian: Historian) -> None:
    """A gap is opened, closed and marked as filled under its start."""
    historian.add_gap(PLANT, at(0), None, "connection lost")
    historian.add_gap(PLANT, at(50), at(60), "sensor off", tag=LEVEL)
    assert historian.gaps(PLANT, since=at(1000)) == [Gap(at(0), None, "connection lost")]
    historian.add_gap(PLANT, at(0), at(30), "connection lost", is_filled=True)
    assert historian.gaps(PLANT) == [
        Gap(at(0), at(30), "connection lost", None, True),
        Gap(at(50), at(60), "sensor off", LEVEL, False),
    ]


def test_gaps_of_two_sources_that_began_together_are_two(historian: Historian) -> None:
    """Each is filled by itself, and says how far it is."""
    for source in ("", "laboratory"):
        historian.add_gap(PLANT, at(0), at(60), "away", source=source)
    historian.add_gap(PLANT, at(0), at(60), "away", source="laboratory", filled_until=at(20))
    assert historian.gaps(PLANT) == [
        Gap(at(0), at(60), "away"),
        Gap(at(0), at(60), "away", source="laboratory", filled_until=at(20)),
    ]


# From proposal to outcome


def assert_same(left: object, right: object) -> None:
    """Equal in every field, NaN equal to NaN."""
    if dataclasses.is_dataclass(left):
        assert type(left) is type(right)
        for part in dataclasses.fields(left):
            assert_same(getattr(left, part.name), getattr(right, part.name))
    elif isinstance(left, dict):
        assert isinstance(right, dict)
        assert left.keys() == right.keys()
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, np.ndarray | float):
        assert np.array_equal(left, right, equal_nan=True)  # type: ignore[arg-type]  # of one kind
    else:
        assert left == right


@pytest.mark.parametrize("has_forecast", [True, False])
def test_a_proposal_comes_back_whole(historian: Historian, has_forecast: bool) -> None:
    """Plan, forecast and verdict are the records that went in, NaN included."""
    new = proposal()
    if not has_forecast:
        new = dataclasses.replace(new, forecast=None, benefit_per_h=math.nan)
    historian.store_proposal(new)
    back = historian.proposal("p1")
    assert back is not None
    assert_same(new, back)


@given(st.lists(st.floats(), max_size=20))
def test_stored_series_keep_six_digits_and_never_invent_zero(values: list[float]) -> None:
    """Storing twice changes nothing more; NaN and infinity come back as NaN."""
    plan = dataclasses.replace(proposal().plan, moves={PUMP: np.array(values)})
    once = stored.plan(stored.packed_plan(plan)).moves[PUMP]
    again = dataclasses.replace(plan, moves={PUMP: once})
    twice = stored.plan(stored.packed_plan(again)).moves[PUMP]
    assert np.array_equal(once, twice, equal_nan=True)
    for before, after in zip(values, once, strict=True):
        if math.isfinite(before) and abs(before) < 1e300:
            assert after == pytest.approx(before, rel=5e-6, abs=0)
        elif not math.isfinite(before):
            assert math.isnan(after)


def test_a_proposal_of_a_whole_plant_stays_small(historian: Historian) -> None:
    """Eighteen tags an hour ahead with all their digits take 15 kB at most, a third of the text."""
    rng = np.random.default_rng(3)

    def lines(count: int) -> dict[str, np.ndarray]:
        """Half of a plant's tags move, the others (prices, idle pumps) stand still for long."""
        moving = {f"tag_{k}.level": 10 + rng.normal(0, 0.1, 60).cumsum() for k in range(count // 2)}
        return moving | {f"tag_{k}.flow": np.repeat(rng.random(2), 30) for k in range(count // 2)}

    new = proposal()
    assert new.forecast is not None
    fan = {side: lines(18) for side in ("middle", "low", "high", "holding")}
    forecast = dataclasses.replace(new.forecast, **fan)
    plan = dataclasses.replace(new.plan, moves=lines(2), predicted=lines(10))
    historian.store_proposal(dataclasses.replace(new, plan=plan, forecast=forecast))
    (sizes,) = seen_by_hand(historian.url, "SELECT length(plan), length(forecast) FROM proposal")
    assert sum(sizes) <= 15_000, sizes


def test_why_a_proposal_ended_is_told_with_it(historian: Historian) -> None:
    """Nothing while it is open; then the reason of whoever moved it last."""
    historian.store_proposal(proposal("p1"))
    historian.store_proposal(proposal("p2"))
    assert [p.status_reason for p in historian.proposals(PLANT)] == ["", ""]
    historian.set_status("p1", ProposalStatus.SUPERSEDED, "the gate refuses it by now", at(30))
    historian.decide(accept("p2", is_accepted=False))
    told = {p.proposal_id: p.status_reason for p in historian.proposals(PLANT)}
    assert told == {"p1": "the gate refuses it by now", "p2": "looks right"}


def test_an_unknown_proposal_is_none_or_refused(historian: Historian) -> None:
    """Reading says None; changing says so."""
    assert historian.proposal("ghost") is None
    assert historian.decision("ghost") is None
    with pytest.raises(RecordRefused, match="ghost: no proposal"):
        historian.decide(accept("ghost"))
    with pytest.raises(RecordRefused, match="ghost: no proposal"):
        historian.set_status("ghost", ProposalStatus.EXPIRED, "", at(1))


def test_proposals_come_newest_first_and_by_status(historian: Historian) -> None:
    """The advice page asks for the open ones."""
    historian.store_proposal(proposal("old", seconds=0))
    historian.store_proposal(proposal("refused", ProposalStatus.REFUSED, seconds=60))
    historian.store_proposal(proposal("new", seconds=120))

    def ids(found: list[Proposal]) -> list[str]:
        return [p.proposal_id for p in found]

    assert ids(historian.proposals(PLANT)) == ["new", "refused", "old"]
    assert ids(historian.proposals(PLANT, limit=1)) == ["new"]
    assert ids(historian.proposals(PLANT, [ProposalStatus.OPEN])) == ["new", "old"]
    assert historian.proposals(PLANT, []) == []


def test_proposals_are_counted_without_a_limit(historian: Historian) -> None:
    """All of them, by where they stand now; another plant's are not among them."""
    for number in range(120):
        historian.store_proposal(proposal(f"r{number}", ProposalStatus.REFUSED, seconds=number))
    historian.store_proposal(proposal("open"))
    historian.store_proposal(proposal("gone"))
    historian.set_status("gone", ProposalStatus.EXPIRED, "nobody decided", at(400))
    historian.store_proposal(proposal("theirs", plant="other"))
    counts = historian.proposal_counts(PLANT)
    assert counts.keys() == set(ProposalStatus)
    assert {status: count for status, count in counts.items() if count} == {
        ProposalStatus.REFUSED: 120,
        ProposalStatus.OPEN: 1,
        ProposalStatus.EXPIRED: 1,
    }


def put_at(historian: Historian, status: ProposalStatus) -> None:
    """Store proposal p1 and lead it to `status` on the legal way."""
    born = status if status in {ProposalStatus.SHADOW, ProposalStatus.REFUSED} else None
    historian.store_proposal(proposal(status=born or ProposalStatus.OPEN))
    if status is ProposalStatus.REJECTED:
        historian.decide(accept(is_accepted=False))
    elif status in {ProposalStatus.ACCEPTED, ProposalStatus.WRITTEN, ProposalStatus.FAILED}:
        historian.decide(accept())
    if status not in {ProposalStatus.OPEN, ProposalStatus.ACCEPTED, ProposalStatus.REJECTED, born}:
        assert historian.set_status("p1", status, "", at(30))


OPEN_ENDS = {ProposalStatus.EXPIRED, ProposalStatus.SUPERSEDED}
ACCEPTED_ENDS = OPEN_ENDS | {ProposalStatus.WRITTEN, ProposalStatus.FAILED, ProposalStatus.REFUSED}


@pytest.mark.parametrize("before", ProposalStatus)
@pytest.mark.parametrize("after", sorted(ACCEPTED_ENDS))
def test_a_status_moves_along_its_arrows_only(
    historian: Historian, before: ProposalStatus, after: ProposalStatus
) -> None:
    """An illegal change answers False and changes nothing; a shell is refused as well."""
    put_at(historian, before)
    is_legal = (before is ProposalStatus.OPEN and after in OPEN_ENDS) or (
        before is ProposalStatus.ACCEPTED and after in ACCEPTED_ENDS
    )
    if not is_legal:
        with pytest.raises(REFUSED, match="no such change"):
            by_hand(historian.url, f"UPDATE proposal SET status = '{after}'")
    assert historian.set_status("p1", after, "why", at(40)) is is_legal
    stands = historian.proposal("p1")
    assert stands is not None
    assert stands.status is (after if is_legal else before)


def test_only_a_decision_accepts(historian: Historian) -> None:
    """Neither `set_status` nor a shell makes an accepted proposal without a named person."""
    historian.store_proposal(proposal())
    with pytest.raises(RecordRefused, match="decide"):
        historian.set_status("p1", ProposalStatus.ACCEPTED, "", at(1))
    with pytest.raises(REFUSED, match="by a decision only"):
        by_hand(historian.url, "UPDATE proposal SET status = 'accepted'")
    for status in (ProposalStatus.ACCEPTED, ProposalStatus.WRITTEN):
        with pytest.raises(RecordRefused, match="open, refused or shadow"):
            historian.store_proposal(proposal("p2", status))


def test_of_many_people_deciding_at_once_one_wins(historian: Historian) -> None:
    """Everybody is told whose decision stands."""
    historian.store_proposal(proposal())
    people = [f"person {k}" for k in range(8)]
    start = threading.Barrier(len(people))

    def press(person: str) -> tuple[str, bool, str]:
        start.wait()
        answer = historian.decide(accept(by=person, is_accepted=person != "person 3"))
        assert answer.standing is not None
        return person, answer.is_taken, answer.standing.by

    with ThreadPoolExecutor(len(people)) as pool:
        answers = list(pool.map(press, people))
    winners = [person for person, is_taken, _ in answers if is_taken]
    assert len(winners) == 1
    assert {standing for _, _, standing in answers} == set(winners)
    decided = historian.decision("p1")
    assert decided is not None
    assert decided.by == winners[0]


@pytest.mark.parametrize(
    "status", [s for s in ProposalStatus if s not in {ProposalStatus.OPEN}], ids=str
)
def test_what_is_not_open_cannot_be_decided(historian: Historian, status: ProposalStatus) -> None:
    """A refused or expired proposal stays what it is."""
    put_at(historian, status)
    answer = historian.decide(accept(by="Bob"))
    assert not answer.is_taken
    assert str(status) in answer.reason
    stands = historian.proposal("p1")
    assert stands is not None
    assert stands.status is status


def test_a_clearance_is_used_once(historian: Historian) -> None:
    """Of eight writers exactly one may write."""
    historian.store_proposal(proposal())
    historian.decide(accept())
    historian.store_clearance(permission())
    start = threading.Barrier(8)

    def use(_: int) -> bool:
        start.wait()
        return historian.use_clearance("c1", at(25))

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(use, range(8))) == 1


@pytest.mark.parametrize(
    ("seconds", "is_usable"), [(19.9, False), (20, True), (49.999999, True), (50, False)]
)
def test_a_clearance_expires(historian: Historian, seconds: float, is_usable: bool) -> None:
    """It holds from its issue up to, not including, its end; an unknown one never does."""
    historian.store_proposal(proposal())
    historian.decide(accept())
    historian.store_clearance(permission())
    assert not historian.use_clearance("ghost", at(25))
    assert historian.use_clearance("c1", at(seconds)) is is_usable


def test_a_clearance_needs_an_accepted_proposal(historian: Historian) -> None:
    """Open, rejected and unknown proposals get none."""
    historian.store_proposal(proposal())
    with pytest.raises(RecordRefused, match="for an accepted proposal"):
        historian.store_clearance(permission())
    historian.decide(accept(is_accepted=False))
    with pytest.raises(RecordRefused, match="for an accepted proposal"):
        historian.store_clearance(permission())
    with pytest.raises(RecordRefused):
        historian.store_clearance(permission(proposal_id="ghost"))


def cleared(historian: Historian, proposal_id: str = "p1", clearance_id: str = "c1") -> None:
    historian.store_proposal(proposal(proposal_id))
    historian.decide(accept(proposal_id))
    historian.store_clearance(permission(clearance_id, proposal_id))


@pytest.mark.parametrize("status", [s for s in WriteStatus if s is not WriteStatus.REFUSED])
def test_no_write_is_recorded_without_a_used_clearance(
    historian: Historian, status: WriteStatus
) -> None:
    """None, an unused one and one of another proposal are refused; a used one is taken."""
    cleared(historian)
    cleared(historian, "p2", "c2")
    for wrong in (None, "c1", "ghost"):
        with pytest.raises(RecordRefused):
            historian.store_outcome(outcome(status, wrong))
    assert historian.use_clearance("c1", at(25))
    with pytest.raises(RecordRefused, match="used clearance of its own proposal"):
        historian.store_outcome(outcome(status, "c1", "p2"))
    assert historian.outcomes(PLANT) == []
    historian.store_outcome(outcome(status))
    assert historian.outcomes(PLANT) == [outcome(status)]


def test_a_refusal_is_recorded_without_a_clearance(historian: Historian) -> None:
    """Nothing was sent, so nothing had to be cleared; an expired clearance may be named."""
    cleared(historian)
    historian.store_outcome(outcome(WriteStatus.REFUSED, None))
    historian.store_outcome(outcome(WriteStatus.REFUSED, "c1"))
    assert [o.clearance_id for o in historian.outcomes(PLANT)] == ["c1", None]


def test_an_unknown_outcome_is_settled_once(historian: Historian) -> None:
    """Unknown may be said again; the settled answer is final."""
    cleared(historian)
    historian.use_clearance("c1", at(25))
    for status in (WriteStatus.UNKNOWN, WriteStatus.UNKNOWN, WriteStatus.VERIFIED):
        historian.store_outcome(outcome(status))
    with pytest.raises(RecordRefused):
        historian.store_outcome(outcome(WriteStatus.FAILED))
    found = historian.outcomes(PLANT, proposal_id="p1")
    assert [o.status for o in found] == ["verified", "unknown", "unknown"]
    assert historian.outcomes(PLANT, proposal_id="p2") == []


def test_only_a_verified_write_moved_an_mv(historian: Historian) -> None:
    """What failed or is unknown did not move it, as far as anybody knows."""
    cleared(historian)
    historian.use_clearance("c1", at(25))
    historian.store_outcome(outcome(WriteStatus.UNKNOWN))
    assert historian.last_moved_at(PLANT, PUMP) is None
    historian.store_outcome(outcome())
    assert historian.last_moved_at(PLANT, PUMP) == at(25)
    assert historian.last_moved_at(PLANT, PUMP, before=at(24)) is None
    assert historian.last_moved_at(PLANT, LEVEL) is None
    assert historian.last_moved_at("other", PUMP) is None


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE event SET message = 'nothing happened'", "event is append only"),
        ("DELETE FROM event", "event is append only"),
        ("INSERT INTO event SELECT * FROM event LIMIT 1", "stored already"),
        ("UPDATE decision SET actor = 'Eve'", "decision is append only"),
        ("DELETE FROM decision", "decision is append only"),
        ("DELETE FROM proposal", "kept for ever"),
        ("UPDATE proposal SET setpoints = '{}'", "only the status"),
        ("INSERT INTO proposal SELECT * FROM proposal", "stored already|a new proposal is"),
        ("UPDATE clearance SET used_at = NULL", "used once"),
        ("UPDATE clearance SET expires_at = expires_at * 2", "used once"),
        ("DELETE FROM clearance", "kept for ever"),
        ("UPDATE stage SET stage = 'closed loop'", "stage is append only"),
        ("DELETE FROM write_outcome", "write_outcome is append only"),
        ("UPDATE written_value SET setpoint = 0", "written_value is append only"),
        ("DELETE FROM model", "model is append only"),
    ],
)
def test_what_people_may_be_asked_about_cannot_be_changed(
    historian: Historian, statement: str, told: str
) -> None:
    """Also not with a shell of the database."""
    lived_through(historian)
    with pytest.raises(REFUSED, match=told):
        by_hand(historian.url, statement)


def lived_through(historian: Historian) -> None:
    """One row at least in every table that people may be asked about."""
    cleared(historian)
    historian.use_clearance("c1", at(25))
    historian.store_outcome(outcome())
    historian.set_stage(PLANT, PUMP, Stage.SHADOW, "Ada", "first days", at(1))
    historian.set_active_model(PLANT, "v1", {}, at(1))
    historian.note_let_go(PLANT, PUMP, HandBackCause.PLANT, "heartbeat lost", at(2))


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("table", ["event", "proposal", "decision", "clearance", "hand_back"])
def test_no_row_is_replaced_in_sqlite(historian: Historian, table: str) -> None:
    """OR REPLACE deletes the old row without a word to the rule that forbids deleting."""
    lived_through(historian)
    with pytest.raises(REFUSED, match=r"stored already|a new proposal is|is not open|for an acc"):
        by_hand(historian.url, f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}")


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
@pytest.mark.postgres
@pytest.mark.parametrize(
    "statement",
    [
        "TRUNCATE event",
        "TRUNCATE proposal CASCADE",
        "TRUNCATE stage, model",
        "INSERT INTO event SELECT * FROM event ON CONFLICT (id) DO UPDATE SET message = ''",
        "MERGE INTO event USING (SELECT 1) AS one ON true WHEN MATCHED THEN DELETE",
    ],
)
def test_no_row_is_replaced_or_cut_off_in_postgres(historian: Historian, statement: str) -> None:
    """What only PostgreSQL can do is refused there as well."""
    lived_through(historian)
    with pytest.raises(REFUSED, match=r"append only|kept for ever|stored already"):
        by_hand(historian.url, statement)


def test_every_step_leaves_an_audit_row(historian: Historian) -> None:
    """Proposal, decision, clearance, its use and the write, each with who said it."""
    cleared(historian)
    historian.use_clearance("c1", at(25))
    historian.store_outcome(outcome())
    historian.set_status("p1", ProposalStatus.WRITTEN, "read back 5.125", at(26))
    told = [(e.kind, e.by, e.at) for e in reversed(historian.events(PLANT, subject="p1"))]
    assert told == [
        ("proposal", "planner", at(0)),
        ("decision", "Ada", at(10)),
        ("clearance", "gate", at(20)),
        ("clearance", "writer", at(25)),
        ("write", "writer", at(25)),
        ("proposal", "plantwright", at(26)),
    ]
    (wrote,) = historian.events(PLANT, kind="write")
    tag = PLANT.tag(PUMP)
    assert wrote.message.startswith(f"{PUMP} {outcome().setpoints[PUMP]:g} {tag.unit} verified")


# Operation


def test_an_mv_is_in_shadow_until_somebody_decides(historian: Historian) -> None:
    """The last decision counts; all of them are on record."""
    assert historian.stage(PLANT) == {PUMP: Stage.SHADOW}
    for to in (Stage.SHADOW, Stage.CLOSED_LOOP):
        assert historian.set_stage(PLANT, PUMP, to, "Ada", "test run", at(1)) is None
        assert historian.stage(PLANT) == {PUMP: to}
    told = [(e.by, e.message) for e in historian.events(PLANT, kind="stage")]
    assert told == [("Ada", "closed loop: test run"), ("Ada", "shadow: test run")]


def test_the_first_start_is_a_decision_that_overrides_none(historian: Historian) -> None:
    """A person accepts, from the first start on; it is on record once, and undoes no other."""
    historian.start_stages(PLANT, at(1))
    historian.start_stages(PLANT, at(2))
    assert historian.stage(PLANT) == {PUMP: Stage.ADVISORY}
    (told,) = historian.events(PLANT, kind="stage")
    assert (told.subject, told.at, told.by) == (PUMP, at(1), "plantwright")
    historian.set_stage(PLANT, PUMP, Stage.SHADOW, "Ada", "new pump", at(3))
    historian.start_stages(PLANT, at(4))
    assert historian.stage(PLANT) == {PUMP: Stage.SHADOW}


@pytest.mark.parametrize(
    ("endpoint", "is_loopback"),
    [
        ("opc.tcp://127.0.0.1:4840/x", True),
        ("opc.tcp://127.9.9.9:4840", True),
        ("opc.tcp://localhost:4840", True),
        ("opc.tcp://[::1]:4840", True),
        ("opc.tcp://192.168.0.7:4840", False),
        ("opc.tcp://127.0.0.1.example.org:4840", False),
        ("opc.tcp://localhost.example.org:4840", False),
        ("opc.tcp://127.0.0.1@10.0.0.1:4840", False),
        ("opc.tcp://[::1", False),
        ("opc.tcp://0.0.0.0:4840", False),
        ("", False),
    ],
)
def test_closed_loop_is_for_an_emulator_on_this_machine(
    historian: Historian, endpoint: str, is_loopback: bool
) -> None:
    """A real plant is refused with a reason, also when the plant file changes afterwards."""
    plant = small_plant(endpoint=endpoint)
    refusal = historian.set_stage(plant, PUMP, Stage.CLOSED_LOOP, "Ada", "trial", at(1))
    assert (refusal is None) == is_loopback
    assert historian.set_stage(PLANT, PUMP, Stage.CLOSED_LOOP, "Ada", "trial", at(2)) is None
    expected = Stage.CLOSED_LOOP if is_loopback else Stage.ADVISORY
    assert historian.stage(plant) == {PUMP: expected}


def test_a_stage_needs_an_mv_a_name_and_a_reason(historian: Historian) -> None:
    """Each refusal says why and is on record too."""
    for mv, by, reason, told in [
        (LEVEL, "Ada", "trial", "not an MV"),
        (PUMP, " ", "trial", "named person"),
        (PUMP, "Ada", "", "reason"),
    ]:
        refusal = historian.set_stage(PLANT, mv, Stage.SHADOW, by, reason, at(1))
        assert refusal is not None
        assert told in refusal
    assert historian.stage(PLANT) == {PUMP: Stage.SHADOW}
    assert len(historian.events(PLANT, kind="stage")) == 3
    with pytest.raises(UnknownTag):
        historian.set_stage(PLANT, "ghost", Stage.SHADOW, "Ada", "trial", at(1))


def test_processes_show_their_last_sign_of_life(historian: Historian) -> None:
    """One row per process, the newest beat."""
    historian.beat(PLANT, "collect", at(0), 11)
    historian.beat(PLANT, "advise", at(1), 12, "solving")
    historian.beat(PLANT, "collect", at(5), 13, "restarted")
    beats = [(b.name, b.at, b.pid, b.detail) for b in historian.processes(PLANT)]
    assert beats == [("advise", at(1), 12, "solving"), ("collect", at(5), 13, "restarted")]


def test_the_active_model_is_the_last_one_put_to_use(historian: Historian) -> None:
    """Going back to an earlier version is a promotion like any other."""
    assert historian.active_model(PLANT) is None
    for seconds, version in enumerate(["physics", "v1", "physics"]):
        historian.set_active_model(PLANT, version, {"rmse": {"3600": 0.25}}, at(seconds))
    active = historian.active_model(PLANT)
    assert active is not None
    assert (active.version, active.activated_at) == ("physics", at(2))
    assert active.card == {"rmse": {"3600": 0.25}}
    assert [m.version for m in historian.models(PLANT)] == ["physics", "v1", "physics"]
    assert [e.subject for e in historian.events(PLANT, kind="model")] == [
        "physics",
        "v1",
        "physics",
    ]


def test_facts_say_how_much_is_stored(historian: Historian) -> None:
    """Rows, bytes and the span of time over all plants; of one plant, its own alone."""
    historian.store([level(0, 1.0), level(70, 2.0), level(5, 2.0, tag=DEMAND)])
    beside = small_plant("beside")
    historian.register(beside)
    assert historian.span(beside) == (None, None)
    historian.store([level(-900, 1.0), level(900, 1.0)], beside)
    facts = historian.facts()
    assert (facts.rows, facts.oldest, facts.newest) == (5, at(-900), at(900))
    assert facts.size_bytes > 0
    assert [historian.count_up_to(PLANT, most) for most in (2, 3, 100)] == [2, 3, 3]
    assert historian.span(PLANT) == (at(0), at(70))


# Several processes, and what happens when one dies


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_child_has_connections_of_its_own(historian: Historian) -> None:
    """Both go on with what they have open; neither reads what the other asked."""
    historian.store([level(0, 1.0)])
    child = os.fork()
    if not child:  # no way back into the test run from here
        is_right = False
        try:
            for second in range(1, 200, 2):
                historian.store([level(second, 2.0)], PLANT)
                historian.last_readings(PLANT)
            is_right = True
        finally:
            os._exit(0 if is_right else 1)
    for second in range(2, 200, 2):
        historian.store([level(second, 3.0)])
        assert historian.count_up_to(PLANT, 3) >= 1
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert historian.count(PLANT) == 200


def test_two_writers_both_get_through(historian: Historian) -> None:
    """A backfill and single decisions share the file; nobody gives up."""
    bulk = [level(s, float(s), tag=t) for s in range(40_000) for t in (LEVEL, PUMP)]
    with Historian.open(historian.url) as second, ThreadPoolExecutor(1) as pool:
        job = pool.submit(historian.store, bulk)
        for k in range(30):
            second.event(PLANT, "note", str(k), "while the backfill runs", at(k), "test")
        assert job.result() == 80_000
        assert len(second.events(PLANT)) == 30


def test_a_lock_that_never_opens_ends_in_a_message(historian: Historian) -> None:
    """After the deadline: what happened and what to do; the next write works again."""
    with Historian.open(historian.url, busy_deadline_s=0.1) as second:
        with writing(connect(historian.url)):
            assert second.count(PLANT) == 0  # readers do not wait
            with pytest.raises(DatabaseUnavailable, match=r"lock.*Another process"):
                second.beat(PLANT, "x", at(0), 1)
        second.beat(PLANT, "x", at(0), 1)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_reader_waits_for_the_one_who_repairs_the_log(historian: Historian) -> None:
    """After a kill one process holds everything for a moment; the others' reading is not lost."""
    historian.store([level(0, 1.0)])
    holder = sqlite3.connect(historian.path, isolation_level=None, check_same_thread=False)
    with Historian.open(historian.path) as second, ThreadPoolExecutor(1) as pool:
        historian.close()
        second.close()
        holder.execute("PRAGMA locking_mode = EXCLUSIVE")
        holder.execute("BEGIN EXCLUSIVE")
        begun = threading.Event()

        def read() -> int:
            begun.set()
            return second.count(PLANT)

        job = pool.submit(read)
        assert begun.wait(10)
        with pytest.raises(FutureTimeout):
            job.result(timeout=0.3)  # a round of a waiting writer is .04 s
        holder.close()
        assert job.result(timeout=20) == 1


KILLED = """
import sys
from small_plant import LEVEL, PUMP, level, small_plant
from twin.historian import Historian
historian = Historian.open(sys.argv[1])
historian.register(small_plant())
print("storing", flush=True)
historian.store(level(s, float(s), tag=t) for s in range(80_000) for t in (LEVEL, PUMP))
"""


def test_killed_in_the_middle_of_storing_nothing_is_torn(historian: Historian) -> None:
    """kill -9 during a backfill: the database is sound, and storing again completes it."""
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, historian.url.render_as_string(hide_password=False)],
        cwd=Path(__file__).parent,
        env={"PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parent.parent}"},
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"storing\n"
    give_up_at = time.monotonic() + 60
    while historian.count(PLANT) == 0 or not is_writing(historian.url):
        assert child.poll() is None
        assert time.monotonic() < give_up_at
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    with Historian.open(historian.url) as opened:
        survived = opened.count(PLANT)
        assert 0 < survived < 160_000
        if is_sqlite(opened.url):
            assert seen_by_hand(opened.url, "PRAGMA integrity_check") == [("ok",)]
        for tag, last in opened.last_readings(PLANT).items():
            series = opened.samples(PLANT, [tag], NOON, at(80_000))[tag]
            assert last.source_time.timestamp() == series.times_s[-1]
            assert np.array_equal(series.times_s - NOON.timestamp(), series.values)
        opened.register(PLANT)
        again = (level(s, float(s), tag=t) for s in range(80_000) for t in (LEVEL, PUMP))
        assert opened.store(again) == 160_000 - survived


def test_a_unit_that_readings_are_stored_in_does_not_change(historian: Historian) -> None:
    """Else all of the past would mean something else; both units are told, and what to do."""

    def in_unit(unit: str) -> Plant:
        named = (dataclasses.replace(t, unit=unit) if t.name == LEVEL else t for t in PLANT.tags)
        return dataclasses.replace(PLANT, tags=tuple(named))

    historian.register(in_unit("mm"))  # nothing is stored yet
    historian.register(PLANT)
    historian.store([level(0, 20.0)], PLANT)
    historian.register(in_unit("centimeter"))
    historian.register(PLANT)
    with pytest.raises(PlantFileError, match="readings are in cm, and the plant file says m"):
        historian.register(in_unit("m"))
    historian.register(PLANT)
