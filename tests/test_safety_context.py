"""What the gate is told from the historian: as much as is known, and never a guess."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_plant import PUMP, accept, at, level, outcome, permission, proposal, small_plant

from twin.context import TRUST_LIFETIME, gate_context, told_trust
from twin.historian import Historian, ProcessBeat
from twin.plant import Role, Tag
from twin.records import Stage, WriteStatus
from twin.safety import NEVER_MOVED, GateContext, Trust

PLANT = small_plant()
WALL = at(0) + timedelta(days=200)  # the wall's time has nothing to do with the plant's


@pytest.fixture
def historian(tmp_path: Path) -> Iterator[Historian]:
    with Historian.create(tmp_path / "plant.db") as opened:
        opened.register(PLANT)
        yield opened


def told(historian: Historian, now: datetime) -> GateContext:
    return gate_context(PLANT, historian, now=now, wall_now=WALL, is_stopped=False)


def beat(age_s: float, name: str = "plan", **said: object) -> ProcessBeat:
    return ProcessBeat(name, WALL - timedelta(seconds=age_s), 1, json.dumps(said))


FORECASTS = {"coverage90": 0.91, "coverage_count": 240}


@given(age_s=st.floats(-86_400, 86_400))
def test_only_a_recent_beat_tells_the_trust(age_s: float) -> None:
    """Older than three minutes it is unknown; so is one from ahead, whose age nobody can tell."""
    is_recent = abs(timedelta(seconds=age_s)) <= TRUST_LIFETIME
    expected = Trust(0.91, 240) if is_recent else None
    assert told_trust([beat(age_s, **FORECASTS)], WALL) == expected


def test_a_beat_from_ahead_does_not_hide_the_one_of_now() -> None:
    """The clock was set back: what was told before that is passed over, not believed."""
    ahead = beat(-3600, "earlier", coverage90=0.99, coverage_count=999)
    assert told_trust([ahead, beat(10, **FORECASTS)], WALL) == Trust(0.91, 240)


@pytest.mark.parametrize(
    "detail",
    [
        "",
        "{",
        "[0.91, 240]",
        "{}",
        '{"coverage90": 0.91}',
        '{"coverage90": null, "coverage_count": 240}',
        '{"coverage90": NaN, "coverage_count": 240}',
        '{"coverage90": "0.91", "coverage_count": 240}',
        '{"coverage90": 0.91, "coverage_count": 240.5}',
    ],
)
def test_a_beat_that_tells_no_trust_is_no_trust(detail: str) -> None:
    """Damaged, incomplete or not a number: unknown, and the next process's word may count."""
    broken = ProcessBeat("write", WALL, 1, detail)
    assert told_trust([broken], WALL) is None
    assert told_trust([broken, beat(30, **FORECASTS)], WALL) == Trust(0.91, 240)


def test_an_empty_historian_leaves_everything_unknown(historian: Historian) -> None:
    """No trust, no travel, no stage but shadow, so the gate says no; never moved is a fact."""
    context = told(historian, at(60))
    assert context.trust is None
    assert context.travel_last_h == {PUMP: None}
    assert context.last_moved_at == {PUMP: NEVER_MOVED}
    assert context.stages == {PUMP: Stage.SHADOW}


def test_travel_is_that_of_the_last_plant_hour(historian: Historian) -> None:
    """5 → 7 lies more than an hour back; 7 → 4 counts, though its start was read before it."""
    moves = [(-7000, 5.0), (-4000, 7.0), (-600, 4.0)]
    historian.store(level(seconds, value, tag=PUMP) for seconds, value in moves)
    assert told(historian, at(0)).travel_last_h == {PUMP: 3.0}


def test_travel_is_that_of_the_setpoint_which_the_plc_uses(historian: Historian) -> None:
    """We wrote 5 → 9; the PLC went 5 → 6: one unit of the hour's budget is used, not four."""
    used = Tag(name="pump.used", role=Role.AUX, unit="cm**3/s", node="pump.used")
    tags = tuple(replace(t, downstream=used.name) if t.name == PUMP else t for t in PLANT.tags)
    plant = replace(PLANT, tags=(*tags, used))
    historian.register(plant)
    for tag, last in ((PUMP, 9.0), (used.name, 6.0)):
        historian.store((level(s, v, tag=tag) for s, v in ((-600, 5.0), (-300, last))), plant)
    context = gate_context(plant, historian, now=at(0), wall_now=WALL, is_stopped=False)
    assert context.travel_last_h == {PUMP: 1.0}


@pytest.mark.parametrize("status", WriteStatus)
def test_a_write_whose_end_is_not_known_may_have_moved_the_mv(
    historian: Historian, status: WriteStatus
) -> None:
    """Verified, failed and unknown writes start the rate limit anew; a refused one sent nothing."""
    historian.store_proposal(proposal())
    historian.decide(accept())
    historian.store_clearance(permission())
    historian.use_clearance("c1", at(24))
    historian.store_outcome(outcome(status))
    moved = NEVER_MOVED if status is WriteStatus.REFUSED else at(25)
    assert told(historian, at(60)).last_moved_at == {PUMP: moved}


def test_of_several_writes_the_latest_counts(historian: Historian) -> None:
    """A verified write after an unknown one, and the other way round."""
    for number, (status, seconds) in enumerate(
        [(WriteStatus.UNKNOWN, 100.0), (WriteStatus.VERIFIED, 160.0), (WriteStatus.UNKNOWN, 220.0)]
    ):
        pid, cid = f"p{number}", f"c{number}"
        historian.store_proposal(proposal(pid))
        historian.decide(accept(pid))
        historian.store_clearance(permission(cid, pid))
        historian.use_clearance(cid, at(24))
        historian.store_outcome(replace(outcome(status, cid, pid), finished_at=at(seconds)))
        assert told(historian, at(300)).last_moved_at == {PUMP: at(seconds)}
