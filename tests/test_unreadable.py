"""One row that cannot be read ends nobody, is told of once, and never means yes."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import pytest
from each_database import by_hand, forgetting
from hypothesis import given
from hypothesis import strategies as st
from small_plant import (
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
from sqlalchemy import URL, insert, select

from twin.context import gate_context
from twin.errors import RecordUnreadable
from twin.historian import Historian, stored
from twin.historian.database import connect, writing
from twin.historian.schema import microseconds
from twin.historian.schema import proposal as table
from twin.records import ProposalStatus, Stage, WriteStatus

PLANT = small_plant()
_FAR = 10**18  # microseconds: the year 33658
_DEEP = "[" * 100_000

#: Column, and what stands in it: texts, packed plans and times that are none.
DAMAGES: list[tuple[str, object]] = [
    ("setpoints", "garbage"),
    ("setpoints", "[]"),
    ("setpoints", '{"pump.setpoint": "5"}'),
    ("setpoints", '{"pump.setpoint": true}'),
    ("setpoints", _DEEP),
    ("setpoints", '{"pump.setpoint": 1' + "0" * 400 + "}"),
    ("current_values", ""),
    ("binding", '"tank"'),
    ("verdict", "{}"),
    ("verdict", '{"is_clear": true, "reasons": [], "checked_at": "noon", "setpoints": {}}'),
    ("plan", b"garbage"),
    ("plan", zlib.compress(b"{}")),
    ("plan", zlib.compress(b'{"status": "solved"}' * 50)[:-9]),
    ("plan", zlib.compress(b" " * (40 << 20))),
    ("forecast", b"\x00"),
    ("created_at", _FAR),
    ("expires_at", -_FAR),
    ("open_until_wall", _FAR),
]


@pytest.fixture
def historian(database: URL) -> Iterator[Historian]:
    """A plant with one sound open proposal, `p1`."""
    with Historian.create(database) as opened:
        opened.register(PLANT)
        opened.store_proposal(proposal())
        yield opened


def forge(historian: Historian, name: str, like: str = "p1", **columns: object) -> None:
    """A new open proposal by hand, as the one called `like` but for these columns."""
    with writing(connect(historian.url)) as connection:
        found = connection.execute(select(table).where(table.c.proposal_id == like)).one()
        row = {**found._mapping, "proposal_id": name, "status": "open", **columns}
        connection.execute(insert(table).values(row))


def ids(historian: Historian) -> list[str]:
    """The proposals that are shown and planned around."""
    return [each.proposal_id for each in historian.proposals(PLANT)]


@pytest.mark.parametrize(("column", "value"), DAMAGES, ids=lambda v: repr(v)[:24])
def test_a_damaged_proposal_is_nobodys_to_decide_and_hides_no_other(
    historian: Historian, column: str, value: object
) -> None:
    """Passed over, named with what is wrong, never accepted; it can still be closed by its id."""
    forge(historian, "bad", **{column: value})
    assert ids(historian) == ["p1"]
    assert [p.proposal_id for p in historian.proposals(PLANT, limit=1)] == ["p1"]
    with pytest.raises(RecordUnreadable, match="bad cannot be read"):
        historian.proposal("bad")
    refused = historian.decide(accept("bad"))
    assert not refused.is_taken
    assert "damaged" in refused.reason
    assert historian.decision("bad") is None
    (found,) = historian.unreadable_proposals(PLANT, [ProposalStatus.OPEN])
    assert found.key == "bad"
    assert historian.set_status("bad", ProposalStatus.SUPERSEDED, found.why, NOON)
    assert not historian.unreadable_proposals(PLANT, [ProposalStatus.OPEN])
    assert len(historian.past(PLANT)) == 2


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_bytes_that_are_no_text_hide_no_other_row(historian: Historian) -> None:
    """SQLite stores them as text; a name made of them can be neither shown nor addressed."""
    forge(historian, "ok", reason="fine")
    copy = "INSERT INTO proposal SELECT {} FROM proposal WHERE proposal_id = 'p1'"
    with closing(sqlite3.connect(historian.path)) as connection, connection:
        names = [row[1] for row in connection.execute("PRAGMA table_info(proposal)")]
        columns = ", ".join(
            "CAST(x'ff41' AS TEXT)" if name == "proposal_id" else name for name in names
        )
        connection.execute(copy.format(columns))
    assert sorted(ids(historian)) == ["ok", "p1"]
    for name in ("ok", "p1"):
        historian.set_status(name, ProposalStatus.SUPERSEDED, "", NOON)
    assert historian.publish(proposal("p2")) is None, "the nameless one is in nobody's way"


def test_every_unreadable_row_is_told_once(historian: Historian) -> None:
    """By whoever says so, at a time of the plant; reading alone writes nothing."""
    forge(historian, "bad", setpoints="garbage")
    by_hand(
        historian.url,
        f"INSERT INTO stage VALUES (1, 'small', '{PUMP}', 'closed-ish', 'mallory', '', 0)",
        "INSERT INTO process VALUES ('small', 'plan', 9000000000000000000, 1, '')",
        "INSERT INTO model VALUES (1, 'small', 'v1', '[1]', 0)",
    )
    assert ids(historian) == ["p1"]
    assert historian.stage(PLANT) == {PUMP: Stage.SHADOW}
    assert historian.processes(PLANT) == []
    assert historian.active_model(PLANT) is None
    assert not historian.events(PLANT, kind="unreadable")
    for seconds in (1, 2):
        historian.tell_unreadable(PLANT, at(seconds), "planner")
    with Historian.open(historian.url) as restarted:
        restarted.proposals(PLANT)
        restarted.tell_unreadable(PLANT, at(3), "planner")
    told = {(e.subject, e.at) for e in historian.events(PLANT, kind="unreadable")}
    assert told == {(each, at(1)) for each in ("bad", "model 1", "process plan", "stage 1")}
    assert len(historian.events(PLANT, kind="unreadable")) == 4


def test_a_damaged_reading_hides_no_other(historian: Historian) -> None:
    """One whose arrival is no time is passed over and named; the numbers are there still."""
    historian.store([level(0, 1.0), level(10, 2.0), level(20, 3.0)])
    us = microseconds(at(10))
    by_hand(historian.url, f"UPDATE sample SET delay = {_FAR} WHERE ts = {us}")
    assert historian.readings(PLANT, [LEVEL], at(0), at(20)) == [level(0, 1.0), level(20, 3.0)]
    assert [each.key for each in historian.unreadable("small")] == [f"{LEVEL} {us}"]
    assert historian.samples(PLANT, [LEVEL], at(0), at(20))[LEVEL].values.tolist() == [1, 2, 3]


def test_a_damaged_last_value_hides_no_present(historian: Historian) -> None:
    """Who stops, annotates or exports asks for the newest reading: that of the other tags."""
    historian.store([level(0, 1.0), level(10, 2.0, tag=PUMP)])
    by_hand(historian.url, f"UPDATE last_value SET ts = {_FAR} WHERE ts = {microseconds(at(10))}")
    assert historian.newest(PLANT) == at(0)
    assert historian.span(PLANT) == (at(0), at(10)), "its samples are there still"


def test_an_unreadable_event_hides_no_other(historian: Historian) -> None:
    """The audit goes on around it."""
    by_hand(historian.url, f"INSERT INTO event VALUES (99, 'small', 'stop', '', '', {_FAR}, 'Ada')")
    assert [event.kind for event in historian.events(PLANT)] == ["proposal"]


@pytest.mark.parametrize(
    ("status", "time_us"), [("verifide", 0), ("refused", _FAR)], ids=["status", "time"]
)
def test_an_unreadable_outcome_is_a_failed_write(
    historian: Historian, status: str, time_us: int
) -> None:
    """Begun and never repeated: neither "not written yet" nor "written"."""
    historian.decide(accept())
    historian.store_clearance(permission())
    assert historian.use_clearance("c1", at(25))
    by_hand(
        historian.url,
        f"INSERT INTO write_outcome VALUES (7, 'p1', 'c1', '{status}', '', {time_us})",
        f"INSERT INTO written_value VALUES (7, '{PUMP}', 5.125, NULL, 0)",
    )
    (found,) = historian.outcomes(PLANT, proposal_id="p1")
    assert found.status is WriteStatus.FAILED
    assert found.setpoints == {PUMP: 5.125}
    assert "cannot be read" in found.reason


def test_a_move_of_unknown_time_is_unknown_to_the_gate(historian: Historian) -> None:
    """Not "never moved": the gate has no time, and says no."""
    historian.decide(accept())
    historian.store_clearance(permission())
    historian.use_clearance("c1", at(25))
    historian.store_outcome(outcome())
    told = partial(gate_context, PLANT, historian, now=at(60), wall_now=NOON, is_stopped=False)
    assert told().last_moved_at == {PUMP: at(25)}
    by_hand(
        historian.url,
        forgetting(historian.url, "write_outcome_never_update", "write_outcome"),
        f"UPDATE write_outcome SET finished_at = {_FAR}",
    )
    assert told().last_moved_at == {PUMP: None}


def test_an_unreadable_reading_or_gap_hides_no_other(historian: Historian) -> None:
    """The tag has no reading; the others keep theirs."""
    historian.store([level(1, 2.0), level(1, 3.0, tag=PUMP)], PLANT)
    by_hand(
        historian.url,
        f"UPDATE last_value SET ts = {_FAR} WHERE value = 2.0",
        f"INSERT INTO gap VALUES ('small', '', '', {_FAR}, NULL, 0, NULL, 'forged')",
    )
    assert list(historian.last_readings(PLANT)) == [PUMP]
    assert historian.gaps(PLANT) == []


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["status", "start", "step_s", "moves", "reasons", "is_clear", "x"]),
            inner,
            max_size=7,
        )
    ),
    max_leaves=12,
)


@given(_JSON, st.binary(max_size=40))
def test_whatever_is_stored_reads_whole_or_is_unreadable(content: object, noise: bytes) -> None:
    """No other exception leaves the reading of a text, whoever wrote it."""
    text = json.dumps(content)
    for read in (stored.numbers, stored.names, stored.verdict, stored.card):
        for each in (text, noise.decode(errors="replace")):
            with contextlib.suppress(RecordUnreadable):
                read(each)
    for unpack in (stored.plan, stored.forecast):
        for packed in (noise, zlib.compress(text.encode()), zlib.compress(noise)):
            with contextlib.suppress(RecordUnreadable):
                unpack(packed)


@given(st.data(), _JSON)
def test_one_wrong_field_makes_a_plan_unreadable_or_is_none(
    data: st.DataObject, content: object
) -> None:
    """A plan that reads has an aware start, a step above zero and series of numbers."""
    packed = stored.packed_plan(proposal().plan)
    fields = json.loads(zlib.decompress(packed))
    field = data.draw(st.sampled_from(sorted(fields)))
    forged = zlib.compress(json.dumps({**fields, field: content}).encode())
    with contextlib.suppress(RecordUnreadable):
        plan = stored.plan(forged)
        assert plan.start.utcoffset() is not None
        assert plan.step_s > 0
        assert all(series.ndim == 1 for series in plan.moves.values())
        assert all(isinstance(limit, str) for limit in (plan.reason, *plan.binding))
