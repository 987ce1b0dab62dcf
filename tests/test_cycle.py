"""One planning round against a real historian, and the same controller in lockstep."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from planned_tanks import (
    AT,
    DEMAND,
    FOUR_TANK,
    INFLOW,
    LEVEL,
    PUMP,
    physics_of,
    readings_of,
    state_of,
    tank_plant,
)

from optimizer.cycle import (
    PROPOSAL_OPEN_WALL_S,
    Controller,
    Model,
    Planned,
    catch_up,
    is_same_refusal,
    plan_round,
)
from optimizer.plan import Planner
from twin.historian import AnnotationKind, Historian
from twin.physics import Physics
from twin.plant import Limits, Plant, Role
from twin.plants.four_tank.truth import Truth
from twin.records import (
    BAD,
    Clearance,
    Decision,
    Estimate,
    Proposal,
    ProposalStatus,
    Reading,
    Samples,
    Stage,
    Verdict,
    WriteOutcome,
    WriteStatus,
)
from twin.safety import CLOSED_LOOP_DECIDER, NEVER_MOVED, GateContext, move_room
from twin.state import plant_state

PHYSICS = physics_of(FOUR_TANK)
PUMPS = ("pump_1.setpoint", "pump_2.setpoint")
START = datetime(2026, 1, 5, tzinfo=UTC)
NOW = START + timedelta(hours=6)
WALL = datetime(2026, 7, 1, 9, tzinfo=UTC)
SPEED = 20.0
MINUTE = timedelta(minutes=1)


@pytest.fixture(scope="session")
def past() -> tuple[Truth, list[Reading]]:
    """Six hours of the emulated plant under its own control, and the plant at their end."""
    truth = Truth(FOUR_TANK, seed=1000, start=START)
    return truth, truth.advance(NOW)


@pytest.fixture(scope="session")
def database(past: tuple[Truth, list[Reading]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("past") / "plant.db"
    with Historian.create(f"sqlite:///{path}") as historian:
        historian.register(FOUR_TANK)
        historian.store(past[1])
    return path


@pytest.fixture
def historian(database: Path, tmp_path: Path) -> Iterator[Historian]:
    copy = shutil.copy(database, tmp_path / "plant.db")
    with Historian.open(f"sqlite:///{copy}") as opened:
        opened.register(FOUR_TANK)
        yield opened


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Historian]:
    with Historian.create(f"sqlite:///{tmp_path / 'empty.db'}") as created:
        created.register(FOUR_TANK)
        yield created


@pytest.fixture(scope="session")
def planner() -> Planner:
    return Planner(FOUR_TANK, PHYSICS)


@pytest.fixture
def controller(planner: Planner) -> Controller:
    return Controller(FOUR_TANK, PHYSICS, planner=planner)


def context(
    stage: Stage = Stage.ADVISORY, *, is_stopped: bool = False, **stages: Stage
) -> GateContext:
    """What the gate is told: every pump in one stage (`pump_1=…` for another), never moved."""
    return GateContext(
        stages={pump: stages.get(pump.split(".")[0], stage) for pump in PUMPS},
        trust=None,
        travel_last_h=dict.fromkeys(PUMPS, 0.0),
        last_moved_at=dict.fromkeys(PUMPS, NEVER_MOVED),
        is_stopped=is_stopped,
    )


def a_round(
    controller: Controller,
    historian: Historian,
    told: GateContext | None = None,
    *,
    now: datetime = NOW,
    wall_now: datetime = WALL,
    proposal_id: str = "p-1",
) -> Proposal | None:
    return planned(
        controller, historian, told, now=now, wall_now=wall_now, proposal_id=proposal_id
    ).proposal


def planned(
    controller: Controller,
    historian: Historian,
    told: GateContext | None = None,
    *,
    now: datetime = NOW,
    wall_now: datetime = WALL,
    proposal_id: str = "p-1",
) -> Planned:
    return plan_round(
        controller,
        historian,
        told or context(),
        now=now,
        wall_now=wall_now,
        speed=SPEED,
        proposal_id=proposal_id,
    )


def published(new: Proposal | None) -> Proposal:
    assert new is not None
    return new


def status(historian: Historian, proposal_id: str) -> ProposalStatus:
    return published(historian.proposal(proposal_id)).status


def live_on(past: tuple[Truth, list[Reading]], historian: Historian, until: datetime) -> None:
    """Let the plant run on, and collect it."""
    historian.store(past[0].fork().advance(until), FOUR_TANK)


# -- a live round -------------------------------------------------------------------------------


def test_a_round_closes_what_cannot_be_read_and_goes_on(
    controller: Controller, historian: Historian
) -> None:
    """Damaged since it was published: superseded with the reason, told once, replaced by a new."""
    a_round(controller, historian)
    with closing(sqlite3.connect(historian.path)) as raw, raw:
        raw.execute("DROP TRIGGER proposal_only_status")
        raw.execute("UPDATE proposal SET verdict = 'garbage'")
    new = published(a_round(controller, historian, proposal_id="p-2"))
    assert new.status is ProposalStatus.OPEN
    a_round(controller, historian, proposal_id="p-3")
    counts = historian.proposal_counts(FOUR_TANK)
    assert counts[ProposalStatus.SUPERSEDED] == counts[ProposalStatus.OPEN] == 1
    (told,) = historian.events(FOUR_TANK, kind="unreadable")
    assert (told.subject, told.by) == ("p-1", "planner")
    assert "verdict" in told.message


def test_a_round_publishes_one_open_proposal(controller: Controller, historian: Historian) -> None:
    """A person finds one open proposal with forecast, reason, benefit and time enough to decide."""
    new = published(a_round(controller, historian))
    assert new.status is ProposalStatus.OPEN
    assert new.verdict.is_clear
    assert set(new.setpoints) <= set(PUMPS)
    assert new.setpoints
    assert set(new.current) == set(PUMPS)
    assert new.benefit_per_h == pytest.approx(new.plan.hold_cost_per_h - new.plan.cost_per_h)
    assert f"{abs(new.benefit_per_h):.2f} ct/h" in new.reason
    costs = f"({new.plan.cost_per_h:.2f} instead of {new.plan.hold_cost_per_h:.2f} ct/h)"
    assert f"keeping both setpoints as they are {costs}; the PLC in AUTO" in new.reason
    assert "Over the next 60 min this" in new.reason
    assert new.expires_at > NOW
    assert new.open_until_wall >= WALL + timedelta(seconds=PROPOSAL_OPEN_WALL_S)
    assert new.model == "physics"
    assert new.forecast is not None
    assert new.forecast.replications >= 50
    low, high = (side["tank_1.level"] for side in (new.forecast.low, new.forecast.high))
    assert (low <= high).all()
    stored = historian.proposals(FOUR_TANK)
    assert [each.proposal_id for each in stored] == ["p-1"]
    assert stored[0].setpoints == new.setpoints


def test_the_reason_names_the_batch_that_is_coming(
    controller: Controller, historian: Historian
) -> None:
    """With an order on the list, the reason says which batch the plan prepares for."""
    start = NOW + timedelta(minutes=25)
    order = {"start": start.timestamp(), "draw": 7.5, "duration": 12.0}
    at = NOW + timedelta(seconds=10)
    historian.store(
        readings_of({f"order_1a.{key}": value for key, value in order.items()}, at).values()
    )
    new = published(a_round(controller, historian, now=at))
    assert "the batch of 7.5 cm**3/s on tank_1.demand due in 25 min" in new.reason


def test_while_one_is_open_no_other_is_published(
    controller: Controller, historian: Historian, past: tuple[Truth, list[Reading]]
) -> None:
    """A minute later the first one still waits for its person, alone."""
    published(a_round(controller, historian))
    live_on(past, historian, NOW + MINUTE)
    assert a_round(controller, historian, now=NOW + MINUTE, proposal_id="p-2") is None
    assert status(historian, "p-1") is ProposalStatus.OPEN
    assert len(historian.proposals(FOUR_TANK)) == 1


@pytest.mark.parametrize("is_accepted", [False, True])
def test_a_proposal_expires_when_both_clocks_say_so(
    controller: Controller,
    historian: Historian,
    past: tuple[Truth, list[Reading]],
    is_accepted: bool,
) -> None:
    """Plant time alone never takes a proposal from a person; then it goes, with the reason."""
    first = published(a_round(controller, historian))
    if is_accepted:
        historian.decide(Decision("p-1", True, "Ada", "looks right", NOW))
    late = first.expires_at + MINUTE
    live_on(past, historian, late)
    fast = WALL + timedelta(seconds=30)
    assert a_round(controller, historian, now=late, wall_now=fast, proposal_id="p-2") is None
    waits = ProposalStatus.ACCEPTED if is_accepted else ProposalStatus.OPEN
    assert status(historian, "p-1") is waits
    at = first.open_until_wall
    second = a_round(controller, historian, now=late, wall_now=at, proposal_id="p-2")
    assert status(historian, "p-1") is ProposalStatus.EXPIRED
    assert published(second).status is ProposalStatus.OPEN
    told = [event.message for event in historian.events(FOUR_TANK, subject="p-1")]
    why = "accepted, but not written in time" if is_accepted else "nobody decided"
    assert f"expired: {why}" in told


def test_what_the_gate_refuses_by_now_is_superseded(
    controller: Controller, historian: Historian
) -> None:
    """After a stop the open proposal may not be accepted any more; the next one is refused."""
    published(a_round(controller, historian))
    stopped = context(is_stopped=True)
    second = published(a_round(controller, historian, stopped, proposal_id="p-2"))
    assert status(historian, "p-1") is ProposalStatus.SUPERSEDED
    assert second.status is ProposalStatus.REFUSED
    assert second.forecast is None
    assert any("Stopped" in reason for reason in second.verdict.reasons)


def test_a_refusal_is_stored_once_for_as_long_as_its_reason_stays(
    controller: Controller, historian: Historian, past: tuple[Truth, list[Reading]]
) -> None:
    """A stop of an hour is one row, then one more: not sixty that hide what is new."""
    stopped = context(is_stopped=True)
    for minute in (0, 1, 2, 59, 60):
        now = NOW + minute * MINUTE
        live_on(past, historian, now)
        found = planned(controller, historian, stopped, now=now, proposal_id=f"p-{minute}")
        assert any("Stopped" in reason for reason in found.refusals)
        assert (found.proposal is None) == found.reason.startswith("refused as before: ")
    kept = {each.proposal_id for each in historian.proposals(FOUR_TANK)}
    assert kept == {"p-0", "p-60"}


def test_another_reason_to_refuse_is_stored_at_once(
    controller: Controller, historian: Historian
) -> None:
    """A new reason is a new row, and so is an old one after the gate has cleared something."""
    stopped, unstaged = context(is_stopped=True), replace(context(), stages={})
    for number, told in enumerate((stopped, unstaged, context(), stopped)):
        at = NOW + timedelta(seconds=number)
        assert a_round(controller, historian, told, now=at, proposal_id=f"p-{number}") is not None
        if number == 2:
            historian.decide(Decision("p-2", False, "Ada", "not now", at))
    refused = historian.proposals(FOUR_TANK, [ProposalStatus.REFUSED])
    assert {each.proposal_id for each in refused} == {"p-0", "p-1", "p-3"}


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("tank_1.level: 131 s old", "tank_1.level: 192.5 s old", True),
        ("held 88.1 % of the last hour's", "held 71 % of the last hour's", True),
        ("tank_1.level: 131 s old", "tank_2.level: 131 s old", False),
        ("with quality 0x80000000", "with quality 0x40000000", False),
        ("Only 12 forecasts are judged; 30 are needed.", "The plant is stopped.", False),
    ],
)
def test_a_refusal_is_told_by_its_words(one: str, other: str, is_same: bool) -> None:
    """Ages and shares change every minute, tags and causes do not."""
    first, second = (Verdict(False, (reason,), NOW, {}) for reason in (one, other))
    assert is_same_refusal(first, second) == is_same


def test_what_is_within_noise_is_not_proposed(historian: Historian, planner: Planner) -> None:
    """Below the plant file's smallest benefit nobody is asked, and the round says why."""
    controller = Controller(FOUR_TANK, PHYSICS, planner=planner)
    assert FOUR_TANK.economics is not None
    picky = replace(FOUR_TANK.economics, smallest_benefit_per_h=1000.0)
    controller.plant = replace(FOUR_TANK, economics=picky)
    found = planned(controller, historian)
    assert found.proposal is None
    assert "below 1000 ct/h nothing is proposed" in found.reason
    assert historian.proposals(FOUR_TANK) == []
    controller.plant = FOUR_TANK
    assert published(a_round(controller, historian)).benefit_per_h > 0.2


def test_the_forecast_shows_what_holding_would_do(
    controller: Controller, historian: Historian
) -> None:
    """Beside the plan's fan stands the same future with every pump left where it is."""
    new = published(a_round(controller, historian))
    assert new.forecast is not None
    assert set(new.forecast.holding) == set(new.forecast.middle)
    for pump in PUMPS:
        assert new.forecast.holding[pump] == pytest.approx(np.full(60, new.current[pump]))
    apart = new.forecast.middle["tank_1.level"] - new.forecast.holding["tank_1.level"]
    assert abs(apart[0]) < 0.3
    assert np.abs(apart).max() > 0.5
    # Nobody's moves change what is drawn: only the plan parts the two.
    assert new.forecast.middle["price.now"] == pytest.approx(new.forecast.holding["price.now"])


def test_an_accepted_proposal_waits_for_the_writer(
    controller: Controller, historian: Historian
) -> None:
    """What a person accepted is the writer's; its own gate decides, and nothing is published."""
    published(a_round(controller, historian))
    historian.decide(Decision("p-1", True, "Ada", "looks right", NOW))
    assert a_round(controller, historian, context(is_stopped=True), proposal_id="p-2") is None
    assert status(historian, "p-1") is ProposalStatus.ACCEPTED


def test_a_write_that_was_begun_is_the_writers_to_end(
    controller: Controller, historian: Historian
) -> None:
    """The link broke in the middle and its time is over: it was not "not written in time"."""
    new = published(a_round(controller, historian))
    historian.decide(Decision("p-1", True, "Ada", "looks right", NOW))
    allowed = Clearance("c-1", "p-1", new.setpoints, NOW, NOW + timedelta(seconds=30))
    historian.store_clearance(allowed)
    assert historian.use_clearance("c-1", NOW)
    lost = WriteOutcome("p-1", "c-1", WriteStatus.UNKNOWN, new.setpoints, {}, "lost", NOW)
    historian.store_outcome(lost)
    late, late_wall = new.expires_at + timedelta(seconds=1), WALL + timedelta(hours=1)
    found = planned(controller, historian, now=late, wall_now=late_wall, proposal_id="p-2")
    assert found.reason == "p-1 is accepted and waits"
    assert status(historian, "p-1") is ProposalStatus.ACCEPTED


# -- stages ---------------------------------------------------------------------------------------


def test_in_shadow_nothing_is_offered(controller: Controller, historian: Historian) -> None:
    """Shadow computes and stores, with verdict and forecast, and asks nobody."""
    new = published(a_round(controller, historian, context(Stage.SHADOW)))
    assert new.status is ProposalStatus.SHADOW
    assert new.verdict.is_clear
    assert new.forecast is not None
    assert (
        published(a_round(controller, historian, proposal_id="p-2")).status is ProposalStatus.OPEN
    )


def test_one_pump_in_shadow_does_not_hide_the_other(
    controller: Controller, historian: Historian
) -> None:
    """Stages are per MV: the plan leaves the shadow pump where it is and offers the other.

    It does so to its end: no benefit is told that counts on moves which nobody makes.
    """
    new = published(a_round(controller, historian, context(pump_1=Stage.SHADOW)))
    assert set(new.plan.moves[PUMPS[0]]) == {new.current[PUMPS[0]]}
    assert new.status is ProposalStatus.OPEN
    assert set(new.setpoints) == {PUMPS[1]}


def test_in_closed_loop_the_stage_decides(controller: Controller, historian: Historian) -> None:
    """With every MV in closed loop the proposal is accepted in the stage's name."""
    new = published(a_round(controller, historian, context(Stage.CLOSED_LOOP)))
    assert new.status is ProposalStatus.ACCEPTED
    assert status(historian, "p-1") is ProposalStatus.ACCEPTED
    taken = historian.decision("p-1")
    assert taken is not None
    assert taken.is_accepted
    assert taken.by == CLOSED_LOOP_DECIDER


def test_one_advisory_mv_keeps_the_decision_with_a_person(
    controller: Controller, historian: Historian
) -> None:
    """All or none: a proposal that moves an advisory MV too is not accepted by any stage."""
    mixed = context(Stage.CLOSED_LOOP, pump_1=Stage.ADVISORY)
    new = published(a_round(controller, historian, mixed))
    assert set(new.setpoints) == set(PUMPS)
    assert new.status is ProposalStatus.OPEN
    assert historian.decision("p-1") is None


def test_a_round_says_which_closed_loop_setpoints_it_judged_best_kept(
    controller: Controller, historian: Historian
) -> None:
    """Kept by a clear plan: not what waits for a person, not advisory ones, not while one waits."""
    pump_1, pump_2 = PUMPS
    joint = planned(controller, historian, context(Stage.CLOSED_LOOP, pump_1=Stage.ADVISORY))
    assert joint.proposal is not None
    assert (set(joint.proposal.setpoints), joint.kept) == (set(PUMPS), frozenset())
    told = context(Stage.CLOSED_LOOP)
    assert planned(controller, historian, told, proposal_id="p-2").kept == frozenset()
    historian.set_status("p-1", ProposalStatus.EXPIRED, "", NOW)
    alone = replace(told, last_moved_at={**told.last_moved_at, pump_2: NOW})
    moved = planned(controller, historian, alone, proposal_id="p-3")
    assert moved.proposal is not None
    assert set(moved.proposal.setpoints) == {pump_1}
    assert moved.kept == {pump_2}


def test_what_is_not_worth_moving_is_kept_only_where_the_gate_would_keep_it(
    historian: Historian, planner: Planner
) -> None:
    """Below the smallest benefit every setpoint in closed loop is best; under a stop none is."""
    assert FOUR_TANK.economics is not None
    economics = replace(FOUR_TANK.economics, smallest_benefit_per_h=1e6)
    picky = Controller(replace(FOUR_TANK, economics=economics), PHYSICS, planner=planner)
    mixed = context(Stage.CLOSED_LOOP, pump_1=Stage.ADVISORY)
    done = planned(picky, historian, mixed)
    assert "nothing is proposed" in done.reason
    assert done.kept == {PUMPS[1]}
    assert planned(picky, historian, replace(mixed, is_stopped=True)).kept == frozenset()


@pytest.mark.parametrize("stage", [Stage.CLOSED_LOOP, Stage.ADVISORY])
def test_while_the_plant_is_stopped_closed_loop_decides_nothing(
    controller: Controller, historian: Historian, stage: Stage
) -> None:
    """Else every minute brought a decision and its refusal. A person may still look at advice."""
    done = plan_round(
        controller,
        historian,
        context(stage),
        now=NOW,
        wall_now=WALL,
        speed=SPEED,
        proposal_id="p-1",
        is_stopped_at_plant=True,
    )
    if stage is Stage.ADVISORY:
        assert published(done.proposal).status is ProposalStatus.OPEN
        return
    assert done.proposal is None
    assert "the plant's own stop is set" in done.reason
    assert historian.proposals(FOUR_TANK) == []
    assert historian.events(FOUR_TANK, kind="decision") == []


# -- when too little is known --------------------------------------------------------------------


def test_without_a_trust_the_proposal_is_stored_as_refused(
    controller: Controller, empty: Historian, past: tuple[Truth, list[Reading]]
) -> None:
    """An hour of history judges no model: the gate says no, and why is kept with the proposal."""
    empty.store([each for each in past[1] if each.source_time > NOW - timedelta(hours=1)])
    new = published(a_round(controller, empty))
    assert new.status is ProposalStatus.REFUSED
    assert any("forecast the last plant hour is not known" in r for r in new.verdict.reasons)
    assert published(empty.proposal("p-1")).verdict.reasons == new.verdict.reasons


def test_history_that_arrives_late_is_taken_in(
    controller: Controller, empty: Historian, past: tuple[Truth, list[Reading]]
) -> None:
    """Live readings first, the backfill behind them: the next round knows the whole past."""
    border = NOW - timedelta(hours=1)
    empty.store([each for each in past[1] if each.source_time > border])
    catch_up(controller, empty, NOW)
    early = controller.estimate
    assert early is not None
    assert early.coverage90 is None
    empty.store([each for each in past[1] if each.source_time <= border])
    catch_up(controller, empty, NOW)
    late = controller.estimate
    assert late is not None
    assert late.coverage90 is not None
    assert late.coverage_count > 200


def test_catching_up_step_by_step_is_catching_up_at_once(
    planner: Planner, historian: Historian
) -> None:
    """A planner that was restarted stands where one that never stopped stands."""
    steady, restarted = (Controller(FOUR_TANK, PHYSICS, planner=planner) for _ in range(2))
    for minutes in (5, 4, 2, 1, 0):
        catch_up(steady, historian, NOW - minutes * MINUTE)
    catch_up(restarted, historian, NOW)
    assert steady.estimate is not None
    assert restarted.estimate is not None
    assert steady.estimate.states == pytest.approx(restarted.estimate.states, abs=1e-9)
    assert steady.estimate.bias == pytest.approx(restarted.estimate.bias, abs=1e-12)
    assert steady.observed_until == restarted.observed_until == NOW


def test_nothing_is_learned_from_what_a_person_called_bad(
    planner: Planner, empty: Historian, past: tuple[Truth, list[Reading]], tmp_path: Path
) -> None:
    """A transmitter that lied for an hour costs, once annotated, neither bias nor trust."""
    begins, ends = NOW - 2 * timedelta(hours=1), NOW - timedelta(hours=1)

    def lied(each: Reading) -> Reading:
        is_bad = each.tag == "tank_1.level" and begins <= each.source_time <= ends
        return replace(each, value=25.0) if is_bad else each

    def learned(historian: Historian) -> Estimate:
        controller = Controller(FOUR_TANK, PHYSICS, planner=planner)
        catch_up(controller, historian, NOW)
        assert controller.estimate is not None
        return controller.estimate

    with Historian.create(tmp_path / "lied.db") as lying:
        lying.register(FOUR_TANK)
        lying.store([lied(each) for each in past[1]])
        empty.store(past[1])
        assert learned(lying) != learned(empty)
        for each in (lying, empty):
            told = {"by": "Ada", "reason": "stuck", "at": NOW, "tags": ["tank_1.level"]}
            each.annotate(FOUR_TANK, AnnotationKind.BAD_DATA, begins, ends, **told)
        assert learned(lying) == learned(empty)


def test_after_two_days_away_the_old_past_is_dropped(
    controller: Controller, historian: Historian
) -> None:
    """Rows far apart are never joined as if they were neighbours."""
    catch_up(controller, historian, NOW)
    later = NOW + timedelta(hours=48)
    catch_up(controller, historian, later)
    assert controller.observed_until == later
    assert controller.estimate is None  # nothing was collected since


def test_steps_that_do_not_follow_are_refused(controller: Controller) -> None:
    """A gap between two calls would shift the past in time: the call is wrong."""
    nothing = {tag: Samples(np.empty(0), np.empty(0)) for tag in controller.followed_tags}
    controller.observe(nothing, NOW, 10)
    with pytest.raises(ValueError, match="do not follow"):
        controller.observe(nothing, NOW + 5 * MINUTE, 1)


def test_before_any_level_is_known_nothing_is_proposed(
    controller: Controller, empty: Historian
) -> None:
    """An empty database is no error; the audit says once why nothing is planned."""
    for minute in range(3):
        now = NOW + minute * MINUTE
        assert a_round(controller, empty, now=now, proposal_id=f"p-{minute}") is None
    events = empty.events(FOUR_TANK, kind="plan")
    assert [event.subject for event in events] == ["held: plant state unknown"]
    assert "no level has been measured yet" in events[0].message


def test_stepping_down_to_holding_and_up_again_are_events(
    controller: Controller, empty: Historian, past: tuple[Truth, list[Reading]]
) -> None:
    """Without any price nothing is planned, with the reason; once it comes, planning goes on."""
    prices = ("price.now", "price.next")
    empty.store([each for each in past[1] if each.tag not in prices])
    assert a_round(controller, empty) is None
    assert "price.now" in empty.events(FOUR_TANK, kind="plan")[0].message
    empty.store([each for each in past[1] if each.tag in prices])
    published(a_round(controller, empty, proposal_id="p-2"))
    assert [each.subject for each in empty.events(FOUR_TANK, kind="plan")] == [
        "solved",
        "held: plant state unknown",
    ]


# -- setpoints and blocked MVs -----------------------------------------------------------------


def test_an_interlocked_pump_is_planned_around(
    controller: Controller, historian: Historian
) -> None:
    """With tank 4 near its edge pump 1 is the PLC's; pump 2 is still offered, and clears."""
    at = NOW + timedelta(seconds=10)
    historian.store(readings_of({"tank_4.level": 19.5}, at).values())
    new = published(a_round(controller, historian, now=at))
    assert new.verdict.is_clear
    assert set(new.setpoints) == {PUMPS[1]}


@pytest.mark.parametrize("tag", ["tank_4.level", "pump_1.setpoint"])
def test_an_unusable_pump_is_planned_around(
    controller: Controller, historian: Historian, tag: str
) -> None:
    """A bad reading that only pump 1 requires holds up pump 1 alone."""
    at = NOW + timedelta(seconds=10)
    before = historian.last_readings(FOUR_TANK, [tag])[tag]
    historian.store([replace(before, quality=BAD, source_time=at, arrival_time=at)])
    new = published(a_round(controller, historian, now=at))
    assert new.verdict.is_clear
    assert set(new.setpoints) == {PUMPS[1]}


def test_a_stored_reading_of_the_future_blinds_no_tag(
    controller: Controller, historian: Historian
) -> None:
    """A wrong stamp of years ahead is no last value: the true one before it still counts."""
    ahead = NOW + timedelta(days=3650)
    historian.store(readings_of({"tank_4.level": 9.0, PUMPS[0]: 9.0}, ahead).values())
    new = published(a_round(controller, historian))
    assert new.verdict.is_clear
    assert set(new.setpoints) == set(PUMPS)


def test_what_comes_while_a_round_is_prepared_is_the_next_rounds(
    controller: Controller, historian: Historian
) -> None:
    """Readings a moment newer than the round's present neither refuse its move nor enter it."""
    soon = NOW + timedelta(seconds=8)
    moved = {tag.name: 3.0 for tag in FOUR_TANK.with_role(Role.CV)}
    historian.store(readings_of(moved, soon).values())
    new = published(a_round(controller, historian))
    assert new.verdict.is_clear, new.verdict.reasons
    assert set(new.setpoints) == set(PUMPS)


def test_a_pump_outside_its_limit_is_brought_back(
    historian: Historian,
) -> None:
    """An operator limit was tightened: the proposal moves the pump towards it, and clears."""
    here = historian.last_readings(FOUR_TANK, [PUMPS[1]])[PUMPS[1]].value
    assert here is not None
    tight = Limits(low=0.0, high=round(here - 3.0, 2))
    tags = [replace(t, operator=tight) if t.name == PUMPS[1] else t for t in FOUR_TANK.tags]
    plant = replace(FOUR_TANK, tags=tuple(tags))
    new = published(a_round(Controller(plant, PHYSICS), historian))
    assert new.verdict.is_clear, new.verdict.reasons
    assert tight.high is not None
    assert new.setpoints[PUMPS[1]] <= tight.high + 0.01


def test_in_lockstep_the_gate_finds_nothing_to_refuse(
    controller: Controller, past: tuple[Truth, list[Reading]]
) -> None:
    """Forty minutes in closed loop: every proposal is one that limits, rates and budget allow."""
    truth, readings = past
    truth = truth.fork()
    samples = samples_of(readings)
    controller.observe(samples, NOW, 6 * 60)
    last = {each.tag: each for each in readings}
    moved, count = dict.fromkeys(PUMPS, NEVER_MOVED), 0
    for minute in range(1, 41):
        now = NOW + minute * MINUTE
        truth.write("plc.heartbeat", minute)
        new = truth.advance(now)
        readings = [*readings[-32 * 30 :], *new]
        last |= {each.tag: each for each in new}
        controller.observe(samples_of(readings), now, 1)
        told = replace(context(Stage.CLOSED_LOOP), last_moved_at=dict(moved))
        done = controller.round(plant_state(FOUR_TANK, last, now), told, now)
        if not done.setpoints:
            continue
        assert done.verdict.is_clear, done.verdict.reasons
        for pump, setpoint in done.setpoints.items():
            room = move_room(FOUR_TANK, pump, told, now)
            assert room is not None
            assert abs(setpoint - (done.state.value(pump) or 0.0)) <= room + 1e-9
            assert 0 <= setpoint <= 18
            assert truth.write(pump, setpoint) is None
            moved[pump], count = now, count + 1
    assert count > 20


def samples_of(readings: list[Reading]) -> dict[str, Samples]:
    times: dict[str, list[float]] = {}
    values: dict[str, list[float]] = {}
    for each in readings:
        times.setdefault(each.tag, []).append(each.source_time.timestamp())
        value = each.value if each.is_good else None
        values.setdefault(each.tag, []).append(np.nan if value is None else value)
    return {tag: Samples(np.array(times[tag]), np.array(values[tag])) for tag in times}


# -- no offset ------------------------------------------------------------------------------------


def run_leaking(plant: Plant, physics: Physics, *, learns_bias: bool, minutes: int = 240) -> float:
    """The true level in the end, when the real tank loses 0.004 cm/s that nobody modelled."""
    controller = Controller(plant, physics, Model(learns_bias=learns_bias))
    level, pump, clear = 5.0, 3.0, 0
    history: dict[str, list[float]] = {tag: [] for tag in (LEVEL, INFLOW, DEMAND)}
    times: list[float] = []
    for minute in range(minutes):
        now = AT + minute * MINUTE
        times.append(now.timestamp())
        for tag, value in ((LEVEL, level), (INFLOW, pump), (DEMAND, 0.0)):
            history[tag].append(value)
        samples = {
            tag: Samples(np.array(times[-3:]), np.array(values[-3:]))
            for tag, values in history.items()
        }
        controller.observe(samples, now, 1)
        told = GateContext({PUMP: Stage.CLOSED_LOOP}, None, {PUMP: 0.0}, {PUMP: NEVER_MOVED}, False)
        state = state_of(plant, {LEVEL: level, PUMP: pump, DEMAND: 0.0}, now)
        done = controller.round(state, told, now)
        pump = done.setpoints.get(PUMP, pump)
        clear += done.verdict.is_clear
        inputs: Mapping[str, float] = {INFLOW: pump, DEMAND: 0.0}
        level = physics.advance({LEVEL: level}, inputs, 60.0, extra={LEVEL: -0.004})[LEVEL]
    return level


def test_an_unmodelled_leak_leaves_no_offset(tmp_path: Path) -> None:
    """The best level on paper is 5 cm (see test_nmpc); a leak of 0.24 cm/min does not shift it."""
    plant, physics = tank_plant(tmp_path, soft=144.0, low=4.5, margin_low=0.5)
    assert run_leaking(plant, physics, learns_bias=True) == pytest.approx(5.0, abs=0.05)


def test_without_the_bias_the_leak_shows(tmp_path: Path) -> None:
    """The same plant without the learned bias ends well away from its best level."""
    plant, physics = tank_plant(tmp_path, soft=144.0, low=4.5, margin_low=0.5)
    assert abs(run_leaking(plant, physics, learns_bias=False, minutes=120) - 5.0) > 0.2
