"""Clearances: who gets one, how long it lives, and that nobody else can make one."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, timedelta, timezone
from random import Random
from typing import Any

import pytest
from gate_cases import NAIVE, NOON, PAGE, Case, healthy, random_case, seconds
from gate_table import Told
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twin.records import Clearance, Stage, Verdict
from twin.safety import CLOSED_LOOP_DECIDER, RULES, clear, is_genuine

INLET, OUTLET = "inlet.setpoint", "outlet.setpoint"
CLOSED = {INLET: Stage.CLOSED_LOOP, OUTLET: Stage.CLOSED_LOOP}
manner = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
cases = st.randoms(use_true_random=False).map(random_case)


def _decision(**changes: Any) -> Callable[[Case], Case]:
    return lambda case: case.with_decision(**changes)


def _by_stage(case: Case) -> Case:
    return case.with_decision(by=CLOSED_LOOP_DECIDER).with_context(stages=CLOSED)


def _endpoint(address: str) -> Callable[[Case], Case]:
    def change(case: Case) -> Case:
        return _by_stage(case).with_plant(opcua=replace(case.plant.opcua, endpoint=address))

    return change


def _read_at(age_s: float) -> Callable[[Case], Case]:
    def change(case: Case) -> Case:
        return replace(case, state=replace(case.state, at=case.now - seconds(age_s)))

    return change


TABLE = [
    Told("proposal", "about this one", lambda case: case, None),
    Told("proposal", "about another", _decision(proposal_id="p7"), "'p7'.*'p1'"),
    Told(
        "proposal", "no id", lambda c: replace(_decision(proposal_id="")(c), proposal_id=""), "''"
    ),
    Told("accepted", "rejected", _decision(is_accepted=False), "night shift has not accepted"),
    Told("accepted", "a number is no acceptance", _decision(is_accepted=1), "has not accepted"),
    Told("by", "nobody", _decision(by=" "), "does not say who"),
    Told("decided", "just young enough", _decision(decided_at=NOON - seconds(300)), None),
    Told("decided", "too old", _decision(decided_at=NOON - seconds(301)), "301 s old.*300 s"),
    Told("decided", "a step ahead", _decision(decided_at=NOON + seconds(60)), None),
    Told("decided", "no zone", _decision(decided_at=NAIVE), "cannot be compared"),
    Told("newer", "a step older", _read_at(45), None),
    Told("newer", "older", _read_at(76), "61 s older than the decision"),
    Told(
        "permission",
        "shadow",
        lambda c: c.with_context(stages={**CLOSED, INLET: Stage.SHADOW}),
        "shadow",
    ),
    Told("permission", "a person in closed loop", lambda c: c.with_context(stages=CLOSED), None),
    Told("permission", "the stage itself", _by_stage, None),
    Told(
        "permission",
        "the stage for an advisory MV",
        lambda c: _by_stage(c).with_context(stages={**CLOSED, OUTLET: Stage.ADVISORY}),
        "outlet.setpoint is not in closed loop",
    ),
    Told("permission", "the stage, spelt freely", _decision(by=" Closed LOOP "), "a person must"),
    Told("loopback", "by name", _endpoint("opc.tcp://localhost:4840/x"), None),
    Told("loopback", "version 6", _endpoint("opc.tcp://[::1]:4840"), None),
    Told("loopback", "a real plant", _endpoint("opc.tcp://10.0.0.7:4840"), "10.0.0.7.*A person"),
    Told("loopback", "a lookalike", _endpoint("opc.tcp://127.0.0.1.example:4840"), "loopback"),
    Told("loopback", "no address", _endpoint("nonsense"), "loopback"),
    Told("loopback", "no endpoint", lambda c: _by_stage(c).with_plant(opcua=None), "no endpoint"),
    Told("lifetime", "the longest", lambda c: replace(c, lifetime_s=60.0), None),
    *(
        Told("lifetime", str(life), lambda c, life=life: replace(c, lifetime_s=life), "lives more")
        for life in (0.0, -1.0, 60.001, float("nan"), float("inf"), None)
    ),
]


@pytest.mark.parametrize("told", TABLE, ids=lambda told: f"{told.row}: {told.story}")
def test_every_cell_of_the_clearance_table_holds(told: Told) -> None:
    """A healthy case with one thing changed gets a clearance, or no with that row's reason."""
    answer = told.change(healthy()).clear()
    if told.reason is None:
        assert isinstance(answer, Clearance), answer.reasons
        return
    assert isinstance(answer, Verdict)
    assert not answer.is_clear
    assert any(re.search(told.reason, reason) for reason in answer.reasons), answer.reasons


def test_every_clearance_row_of_the_decision_page_is_tested() -> None:
    """The rows on the page and the rows tested here are the same."""
    page = PAGE.read_text(encoding="utf-8").split("### Only for a clearance")[1]
    assert {told.row for told in TABLE} == set(re.findall(r"^\| (\w+) \|", page, re.MULTILINE)) - {
        "row"
    }


@manner
@given(cases)
def test_a_clearance_needs_a_clear_check_on_the_state_at_hand(case: Case) -> None:
    """The gate runs again: whatever `check` refuses, no acceptance can write."""
    answer = case.clear()
    verdict = case.check()
    if isinstance(answer, Clearance):
        assert verdict.is_clear
    else:
        assert set(verdict.reasons) <= set(answer.reasons)
        assert answer.reasons


def test_newer_readings_turn_an_accepted_move_down() -> None:
    """A tank that filled up after the proposal refuses the move that was clear before."""
    case = healthy()
    assert isinstance(case.clear(), Clearance)
    answer = case.with_reading("tank.level", value=18.5).clear()
    assert isinstance(answer, Verdict)
    assert "tank.level: 18.50 cm is above its limit of 18.00 cm" in answer.reasons[0]


def test_a_clearance_is_for_exactly_what_was_asked() -> None:
    """It carries the proposal, the setpoints as numbers, and its expiry."""
    case = replace(healthy(), setpoints={INLET: 6, OUTLET: 4.5}, lifetime_s=20.0)
    given_one = case.cleared()
    assert given_one.proposal_id == "p1"
    assert given_one.setpoints == {INLET: 6.0, OUTLET: 4.5}
    assert given_one.issued_at == NOON
    assert given_one.expires_at == NOON + seconds(20)


def test_a_clearance_expires() -> None:
    """Genuine from its issue until just before its end, and never after."""
    given_one = healthy().cleared()
    assert is_genuine(given_one, NOON)
    assert is_genuine(given_one, NOON + timedelta(seconds=29.999))
    assert not is_genuine(given_one, NOON + seconds(30))
    assert not is_genuine(given_one, NOON - timedelta(microseconds=1))
    assert not is_genuine(given_one, NAIVE)


def test_no_clearance_outlives_a_minute() -> None:
    """The longest life that can be asked for is the gate's own 60 s."""
    assert RULES.max_lifetime_s == 60.0
    given_one = replace(healthy(), lifetime_s=RULES.max_lifetime_s).cleared()
    assert given_one.expires_at - given_one.issued_at == seconds(60)


def test_two_clearances_never_share_an_id() -> None:
    """Ids cannot be guessed: 128 random bits and a seal, new for each clearance."""
    ids = {healthy().cleared().clearance_id for _ in range(200)}
    assert len(ids) == 200
    assert min(len(each) for each in ids) >= 64


def test_ids_can_be_repeated_where_a_test_needs_it() -> None:
    """The random part is an argument; within one process the id is then the same."""
    case = healthy()
    asked = (case.plant, case.state, "p1", case.setpoints, case.context, case.decision, NOON)
    first, again = (clear(*asked, nonce=lambda: "n1") for _ in range(2))
    assert isinstance(first, Clearance)
    assert first == again
    assert first.clearance_id.startswith("n1.")
    assert is_genuine(first, NOON)


FORGERIES: list[tuple[str, Callable[[Clearance], Clearance]]] = [
    ("other setpoint", lambda c: replace(c, setpoints={**c.setpoints, INLET: 6.000001})),
    ("one MV more", lambda c: replace(c, setpoints={**c.setpoints, "valve.setpoint": 1.0})),
    ("one MV less", lambda c: replace(c, setpoints={INLET: c.setpoints[INLET]})),
    ("other proposal", lambda c: replace(c, proposal_id="p2")),
    ("longer life", lambda c: replace(c, expires_at=c.expires_at + seconds(3600))),
    ("earlier issue", lambda c: replace(c, issued_at=c.issued_at - seconds(1))),
    ("other id", lambda c: replace(c, clearance_id="0" * 97)),
    ("no seal", lambda c: replace(c, clearance_id=c.clearance_id.split(".")[0])),
    ("empty id", lambda c: replace(c, clearance_id="")),
    ("odd signs", lambda c: replace(c, clearance_id="n.\udcff€")),
    ("seal of another token", lambda c: replace(c, clearance_id="n" + c.clearance_id)),
]


@pytest.mark.parametrize(("story", "forge"), FORGERIES, ids=[story for story, _ in FORGERIES])
def test_a_changed_clearance_is_not_genuine(
    story: str, forge: Callable[[Clearance], Clearance]
) -> None:
    """Whoever edits a clearance, in memory or in the database, loses it."""
    assert not is_genuine(forge(healthy().cleared()), NOON)


def test_changing_the_setpoints_in_place_breaks_the_seal() -> None:
    """The mapping inside a frozen record is not frozen; the seal covers it."""
    given_one = healthy().cleared()
    given_one.setpoints[INLET] = 9.0
    assert not is_genuine(given_one, NOON)


def test_a_hand_made_clearance_is_not_genuine() -> None:
    """Only `clear` makes clearances that the writer accepts."""
    made = Clearance("a" * 32 + "." + "b" * 64, "p1", {INLET: 6.0}, NOON, NOON + seconds(30))
    assert not is_genuine(made, NOON)


def test_a_clearance_survives_storage() -> None:
    """The same facts in another zone or another order are the same permission."""
    given_one = healthy().cleared()
    zone = timezone(timedelta(hours=2))
    stored = Clearance(
        given_one.clearance_id,
        given_one.proposal_id,
        dict(reversed(given_one.setpoints.items())),
        given_one.issued_at.astimezone(zone),
        given_one.expires_at.astimezone(zone),
    )
    assert is_genuine(stored, NOON.astimezone(zone))


def test_another_process_s_clearance_is_not_genuine() -> None:
    """The key never leaves the process: a restarted writer accepts nothing from before."""
    script = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from gate_cases import healthy\n"
        "print(healthy().cleared().clearance_id)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=PAGE.parents[2],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    foreign = replace(healthy().cleared(), clearance_id=ran.stdout.strip())
    assert len(foreign.clearance_id) == 97
    assert not is_genuine(foreign, NOON)


@manner
@given(st.integers(0, 2**32), st.integers(-120, 120))
def test_genuine_means_made_by_clear_and_in_time(seed: int, later_s: int) -> None:
    """For any clearance and any moment: genuine exactly between issue and expiry."""
    answer = random_case(Random(seed)).clear()
    if isinstance(answer, Clearance):
        now = answer.issued_at + seconds(later_s)
        assert is_genuine(answer, now) == (answer.issued_at <= now < answer.expires_at)
        assert answer.expires_at - answer.issued_at <= seconds(60)
        assert answer.issued_at.tzinfo is not None


def test_a_naive_now_is_refused_and_not_an_accident() -> None:
    """A time without zone is an answer with a reason, in `clear` as in `check`."""
    answer = replace(healthy(), now=NAIVE).clear()
    assert isinstance(answer, Verdict)
    assert any("no time zone" in reason for reason in answer.reasons)
    assert NOON.tzinfo is UTC
