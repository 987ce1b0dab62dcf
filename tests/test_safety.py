"""The gate's answers to moves: every row of its truth table, and promises over random cases."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
from gate_cases import BROKEN, NOON, PAGE, Case, healthy, random_case, seconds
from gate_oracle import failing_rows, failing_rows_of_clearance
from gate_table import INLET, TABLE, Told, all_of, asking, in_context, reading, with_tag
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twin.plant import Limits, Role, Tag, WindUp, read_plant
from twin.records import BAD, GOOD, Clearance, PlantState, Stage, TagState
from twin.safety import NEVER_MOVED, GateContext, Trust, check, move_room, tripped

manner = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
cases = st.randoms(use_true_random=False).map(random_case)


@pytest.mark.parametrize("told", TABLE, ids=lambda told: f"{told.row}: {told.story}")
def test_every_cell_of_the_truth_table_holds(told: Told) -> None:
    """A healthy case with one thing changed gets yes, or no with exactly that row's reason."""
    verdict = told.change(healthy()).check()
    if told.reason is None:
        assert verdict.is_clear, verdict.reasons
    else:
        assert len(verdict.reasons) == 1, verdict.reasons
        assert re.search(told.reason, verdict.reasons[0])
        assert not verdict.is_clear


def test_every_row_of_the_decision_page_is_tested() -> None:
    """The rows on the page and the rows tested here are the same."""
    page = PAGE.read_text(encoding="utf-8").split("### Only for a clearance")[0]
    rows = set(re.findall(r"^\| (\w+) \|", page, flags=re.MULTILINE)) - {"row"}
    assert rows == {told.row for told in TABLE}


def test_all_reasons_come_at_once_in_the_order_of_the_table() -> None:
    """Whoever repairs a request sees everything that stands against it, requests first."""
    case = all_of(
        in_context(is_stopped=True, trust=None, stages={}),
        reading("sump.level", is_usable=False, reason="frozen"),
        asking(outlet=99.0, inlet=7.5),
    )(healthy())
    words = [
        *("^Stopped", "^How well", "^inlet.*stage", "^inlet.*move of", "^outlet.*stage"),
        *(
            "^outlet.* needs sump",
            "engineering",
            "operator",
            "^outlet.* move of",
            "^outlet.*budget",
        ),
    ]
    reasons = case.check().reasons
    assert len(reasons) == len(words)
    assert all(re.search(word, reason) for word, reason in zip(words, reasons, strict=True))


def test_one_no_refuses_the_whole_request() -> None:
    """A good move beside a bad one is not cleared on its own."""
    assert asking(inlet=6.0)(healthy()).check().is_clear
    assert not asking(inlet=6.0, outlet=9.5)(healthy()).check().is_clear


def test_the_answer_repeats_what_was_asked_unchanged() -> None:
    """The gate never repairs: its verdict carries the request as it came."""
    verdict = asking(inlet=99.0)(healthy()).check()
    assert verdict.setpoints == {INLET: 99.0}
    assert verdict.checked_at == NOON


def needed_tags(tag: Tag) -> tuple[str, ...]:
    """The tags without which the gate lets this MV go nowhere."""
    plc = (part.tag for part in (tag.remote, tag.windup) if part is not None)
    return (tag.name, tag.stands_at, *plc, *tag.requires)


@manner
@given(cases)
def test_what_is_clear_is_inside_everything(case: Case) -> None:
    """A yes means: inside limits or strictly towards them, within rate and budget, all fresh."""
    if not case.check().is_clear:
        return
    assert case.context.is_stopped is False
    assert case.setpoints
    for mv, setpoint in case.setpoints.items():
        tag = case.plant.tag(mv)
        present = case.state.tags[tag.stands_at].value
        assert present is not None
        assert tag.engineering.holds(setpoint)
        inside = tag.operator is None or tag.operator.holds(setpoint)
        assert inside or not tag.operator.holds(present)
        assert (
            abs(setpoint - present)
            <= tag.rate_limit_per_min * case.plant.step_s * case.plant.plan_every_steps / 60
        )
        travel = case.context.travel_last_h[mv]
        assert setpoint == present or travel + abs(setpoint - present) <= tag.move_budget_per_h
        if tag.remote is not None:
            assert case.state.tags[tag.remote.tag].value in (tag.remote.auto, tag.remote.remote)
        for name in needed_tags(tag):
            told = case.state.tags[name]
            assert told.is_usable
            assert case.now - told.source_time <= seconds(case.plant.tag(name).max_age_s)


@manner
@given(cases)
def test_the_oracle_agrees(case: Case) -> None:
    """An oracle written from the table alone gives the same answer to any request."""
    rows = failing_rows(case.plant, case.state, case.setpoints, case.context, case.now)
    assert case.check().is_clear == (not rows), rows


def test_the_oracle_agrees_on_yes_and_on_no_in_thousands_of_cases() -> None:
    """Neither a gate that always refuses nor one that always clears passes these tests."""
    count, moves, writes = 4000, 0, 0
    seen: set[str] = set()
    for seed in range(count):
        case = random_case(Random(seed))
        rows = failing_rows(case.plant, case.state, case.setpoints, case.context, case.now)
        verdict, answer = case.check(), case.clear()
        write_rows = failing_rows_of_clearance(
            case.plant,
            case.state,
            case.proposal_id,
            case.setpoints,
            case.context,
            case.decision,
            case.now,
            case.lifetime_s,
        )
        assert verdict.is_clear == (not rows), (seed, rows, verdict.reasons)
        assert verdict.is_clear == (not verdict.reasons), seed
        assert isinstance(answer, Clearance) == (not write_rows), (seed, write_rows)
        moves += verdict.is_clear
        writes += isinstance(answer, Clearance)
        seen |= write_rows
    assert 0.2 * count <= moves <= 0.8 * count
    assert 0.2 * count <= writes <= 0.8 * count
    page = PAGE.read_text(encoding="utf-8")
    assert seen == set(re.findall(r"^\| (\w+) \|", page, flags=re.MULTILINE)) - {"row"}


@manner
@given(cases, st.sampled_from((*BROKEN, "absent")), st.data())
def test_one_unknown_among_the_needed_facts_refuses(case: Case, bad: Any, data: Any) -> None:
    """Whatever was clear is refused when any needed number is lost, not finite or None."""
    if not case.check().is_clear:
        return
    mv = data.draw(st.sampled_from(sorted(case.setpoints)))
    tag = case.plant.tag(mv)
    needed = data.draw(st.sampled_from(needed_tags(tag)))
    context = case.context
    if bad == "absent":
        changed = [
            case.without_reading(needed),
            case.with_context(trust=None),
            *(
                case.with_context(
                    **{key: {k: v for k, v in getattr(context, key).items() if k != mv}}
                )
                for key in ("stages", "travel_last_h", "last_moved_at")
            ),
        ]
    else:
        changed = [
            *(
                case.with_reading(needed, **{k: bad})
                for k in ("value", "source_age_s", "arrival_age_s")
            ),
            replace(case, setpoints={**case.setpoints, mv: bad}),
            case.with_context(travel_last_h={**context.travel_last_h, mv: bad}),
            case.with_context(trust=Trust(bad, 60)),
            case.with_context(trust=Trust(0.9, bad)),
        ]
    for worse in changed:
        assert not worse.check().is_clear


@manner
@given(cases, st.sampled_from((*BROKEN, "absent")))
def test_an_unrelated_tag_never_blocks(case: Case, bad: Any) -> None:
    """What no asked MV requires, relieves or interlocks may be lost without any effect."""
    needed = set(case.setpoints)
    for mv in case.setpoints:
        if mv in {tag.name for tag in case.plant.with_role(Role.MV)}:
            tag = case.plant.tag(mv)
            needed |= {*needed_tags(tag), *(relief.cv for relief in tag.relief)}
    conditions = " ".join(interlock.when for interlock in case.plant.interlocks)
    before = case.check()
    for name in set(case.state.tags) - needed:
        if name not in conditions:
            worse = (
                case.without_reading(name)
                if bad == "absent"
                else case.with_reading(name, value=bad)
            )
            assert worse.check().reasons == before.reasons


def _at_end(case: Case, mv: str, status: float | None) -> Case:
    """The same with a word of the PLC on how far this MV's drive can go."""
    name = f"{mv}.end"
    shown = case.with_extra(name, 0.0).with_tag(mv, windup=WindUp(name))
    return shown if status is None else shown.with_reading(name, value=status)


@manner
@given(cases, st.sampled_from((0.0, 1.0, 2.0, 3.0, 4.0, -1.0, 1.5)), st.data())
def test_nothing_is_moved_further_into_its_end_and_everything_out_of_it(
    case: Case, status: float, data: Any
) -> None:
    """Beside a status "free": rests and ways back are answered alike, ways further in refused.

    So a gate that refuses every move of an MV at its end fails here as one that clears them all.
    """
    mvs = sorted(set(case.setpoints) & {tag.name for tag in case.plant.with_role(Role.MV)})
    if not mvs:
        return
    mv = data.draw(st.sampled_from(mvs))
    free, shown = _at_end(case, mv, None).check(), _at_end(case, mv, status).check()
    present = case.state.value(case.plant.tag(mv).stands_at)
    asked = case.setpoints[mv]
    if not free.is_clear:
        assert not shown.is_clear
        return
    is_free = {0.0: True, 1.0: asked >= present, 2.0: asked <= present}
    assert shown.is_clear == (asked == present or is_free.get(status, False))


@manner
@given(cases, st.sampled_from((*BROKEN, "absent", "stale", "bad")), st.data())
def test_a_wind_up_that_is_not_known_lets_nothing_move(case: Case, how: Any, data: Any) -> None:
    """Neither further in nor back: it may stand at either end."""
    if not case.check().is_clear:
        return
    mv = data.draw(st.sampled_from(sorted(case.setpoints)))
    known, name = _at_end(case, mv, 0.0), f"{mv}.end"
    assert known.check().is_clear
    unknown = {
        "absent": lambda: known.without_reading(name),
        "stale": lambda: known.with_reading(name, source_age_s=1e4),
        "bad": lambda: known.with_reading(name, quality=BAD),
    }.get(how, lambda: known.with_reading(name, value=how))()
    assert not unknown.check().is_clear


def _tightened(case: Case, r: Random) -> Case:
    """The same with one limit tightened; none of these may turn a no into a yes."""
    tag = r.choice([t for t in case.plant.tags if t.role in (Role.MV, Role.CV)])
    pair_name = r.choice(("engineering", "operator"))
    if tag.role is Role.MV and tag.engineering is None:
        pair_name = "operator"  # engineering limits that are missing are unknown, not wide
    pair = getattr(tag, pair_name) or Limits(-20, 40)
    by = r.randint(1, 40) / 4
    low = pair.low + by if pair.low is not None and r.random() < 0.5 else pair.low
    high = pair.high - by if pair.high is not None and r.random() < 0.5 else pair.high
    kind = r.randint(0, 5)
    if kind <= 1:
        return case.with_tag(tag.name, **{pair_name: Limits(low, high)})
    if kind == 2 and tag.rate_limit_per_min is not None:
        return case.with_tag(tag.name, rate_limit_per_min=tag.rate_limit_per_min / 2)
    if kind == 3 and tag.move_budget_per_h is not None:
        return case.with_tag(tag.name, move_budget_per_h=tag.move_budget_per_h / 2)
    if kind == 4:
        return case.with_tag(tag.name, max_age_s=tag.max_age_s / 4)
    return case.with_tag(tag.name, requires=tuple(t.name for t in case.plant.with_role(Role.CV)))


def _in_unit(case: Case, unit: str) -> Case:
    """The same numbers in another unit."""
    tags = tuple(replace(tag, unit=unit) for tag in case.plant.tags)
    return case.with_plant(tags=tags)


#: Where a reason tells a difference: a move, its room, its rate, what was moved, the budget.
_DIFFERENCE = re.compile(
    r"(?:a move of|more than the|its rate of|on top of|budget of) -?[\d.]+(?:e[+-]?\d+)? (\S+)"
)


@pytest.mark.parametrize("unit", ["degC", "°C", "celsius"])
def test_a_refused_move_of_a_temperature_tells_k_and_its_limits_in_c(unit: str) -> None:
    """30 °C is warm and 30 K is a step; an operator who reads one as the other asks too much."""
    case = _in_unit(asking(inlet=9.5)(healthy()), unit)
    limit, rate = case.check().reasons
    assert f"9.50 {unit} is above its operator limit of 9.00 {unit}" in limit
    assert f"a move of 4.50 K (from 5.00 {unit} to 9.50 {unit})" in rate
    assert "more than the 2.00 K that its rate of 2 K per minute" in rate
    moved = in_context(travel_last_h={INLET: 19.25, "outlet.setpoint": 0.0})(healthy())
    (budget,) = _in_unit(moved, unit).check().reasons
    assert "a move of 1.00 K on top of 19.25 K in the last hour" in budget
    assert "budget of 20.00 K per hour" in budget


@manner
@given(cases)
def test_only_a_differences_unit_depends_on_what_is_measured(case: Case) -> None:
    """In °C the gate decides as in cm, in the same words, and tells no difference in °C."""
    cold, long = _in_unit(case, "degC").check(), case.check()
    assert cold.is_clear == long.is_clear
    assert set(_DIFFERENCE.findall(" ".join(cold.reasons))) <= {"K"}
    told = [_DIFFERENCE.sub("", reason) for reason in cold.reasons]
    assert not any(re.search(r"\d K\b", reason) for reason in told), told
    assert [re.sub(r"\b(K|degC)\b", "cm", reason) for reason in cold.reasons] == [*long.reasons]


def test_random_cases_tell_differences_and_limits_of_temperatures() -> None:
    """The promise above is kept by reasons that are really given."""
    reasons = [
        reason
        for seed in range(1000)
        for reason in _in_unit(random_case(Random(seed)), "degC").check().reasons
    ]
    assert sum(bool(_DIFFERENCE.search(reason)) for reason in reasons) > 50
    assert sum("limit of" in reason and "degC" in reason for reason in reasons) > 50


@manner
@given(st.randoms(use_true_random=False))
def test_tightening_never_turns_no_into_yes(r: Random) -> None:
    """Limits, rates, budgets, ages and required tags only ever take permissions away.

    This holds for the towards-move, too: what it grants was granted inside the wider limits.
    """
    case = random_case(r)
    tighter = _tightened(case, r)
    assert case.check().is_clear or not tighter.check().is_clear


@manner
@given(
    st.lists(st.tuples(st.integers(1, 180), st.floats(0, 10)), min_size=2, max_size=25),
    st.booleans(),
)
def test_many_writes_never_move_faster_than_the_rate(
    wishes: list[tuple[int, float]], is_greedy: bool
) -> None:
    """Between any two writes, however many lie between, the setpoint keeps to its rate."""
    case = all_of(with_tag(INLET, operator=None, move_budget_per_h=1e6), asking(inlet=5.0))(
        healthy()
    )
    rate = case.plant.tag(INLET).rate_limit_per_min
    now, level, moved_at = NOON, 5.0, NEVER_MOVED
    writes: list[tuple[datetime, float]] = []
    for wait_s, wish in wishes:
        now += seconds(wait_s)
        context = replace(case.context, last_moved_at={INLET: moved_at})
        room = move_room(case.plant, INLET, context, now)
        step = min(room, abs(wish - level)) if is_greedy else abs(wish - level)
        target = level + (step if wish > level else -step)
        state = replace(case.with_reading(INLET, value=level).state, at=now)
        fresh = {n: replace(t, source_time=now) for n, t in state.tags.items()}
        verdict = check(case.plant, replace(state, tags=fresh), {INLET: target}, context, now)
        assert verdict.is_clear or not is_greedy
        if verdict.is_clear:
            level, moved_at = target, now
            writes.append((now, level))
    for i, (early, before) in enumerate(writes):
        for late, after in writes[i + 1 :]:
            assert abs(after - before) <= rate * (late - early).total_seconds() / 60 + 1e-9


@manner
@given(cases, st.integers(0, 8))
def test_the_room_told_to_planners_is_the_gates_own(case: Case, place: int) -> None:
    """A move of exactly the room passes rate and budget, a larger one does not."""
    mvs = case.plant.with_role(Role.MV)
    mv = mvs[place % len(mvs)].name
    room = move_room(case.plant, mv, case.context, case.now)
    present = case.state.value(case.plant.tag(mv).stands_at)
    if room is None or present is None:
        return
    for size, is_fine in ((room, True), (room + 0.25, False)):
        asked = {mv: present + size}
        rows = failing_rows(case.plant, case.state, asked, case.context, case.now)
        if not {"required", "number", "clock"} & rows:
            assert (not {"rate", "budget"} & rows) == is_fine
            assert (not rows) == replace(case, setpoints=asked).check().is_clear


def test_the_room_is_unknown_where_the_gate_would_say_unknown() -> None:
    """No rate, no budget, no last move or no travel: None, never a number."""
    case = healthy()
    for worse in (
        case.with_tag(INLET, rate_limit_per_min=None),
        case.with_tag(INLET, move_budget_per_h=None),
        case.with_context(last_moved_at={}),
        case.with_context(travel_last_h={}),
    ):
        assert move_room(worse.plant, INLET, worse.context, worse.now) is None


@pytest.mark.parametrize("tenths", range(71))
def test_decimal_numbers_are_not_refused_for_their_rounding(tenths: int) -> None:
    """0.9 − 0.7 is a little more than 0.2 in floats; a full move in decimals still clears."""
    case = all_of(
        with_tag(INLET, operator=None, rate_limit_per_min=0.2), reading(INLET, value=tenths / 10)
    )(healthy())
    assert asking(inlet=(tenths + 2) / 10)(case).check().is_clear
    assert not asking(inlet=(tenths + 2) / 10 + 1e-9)(case).check().is_clear


def _four_tanks() -> tuple[Any, PlantState, GateContext]:
    plant = read_plant("four_tank")
    values = {tag.name: 10.0 for tag in plant.tags} | {"tank_3.level": 3.0, "tank_4.level": 3.0}
    values |= {"pump_1.mode": 1.0, "pump_2.mode": 0.0}
    told = {n: TagState(v, GOOD, NOON, 0.0, 0.0, True) for n, v in values.items()}
    mvs = [tag.name for tag in plant.with_role(Role.MV)]
    context = GateContext(
        stages=dict.fromkeys(mvs, Stage.ADVISORY),
        trust=Trust(0.9, 60),
        travel_last_h=dict.fromkeys(mvs, 10.0),
        last_moved_at=dict.fromkeys(mvs, NOON - seconds(60)),
        is_stopped=False,
    )
    return plant, PlantState(plant.plant, NOON, told), context


def test_the_shipped_plant_can_be_moved_by_its_whole_rate() -> None:
    """Four tanks in good order: both pumps may move by 6 cm³/s, and no further."""
    plant, state, context = _four_tanks()
    for move, is_clear in ((6.0, True), (6.01, False)):
        asked = {"pump_1.setpoint": 10.0 + move, "pump_2.setpoint": 10.0 - move}
        verdict = check(plant, state, asked, context, NOON)
        assert verdict.is_clear is is_clear, verdict.reasons


def test_the_shipped_plants_interlock_stops_only_its_pump() -> None:
    """Tank 4 at 19.5 cm leaves pump 1 to the PLC; pump 2 may still move down."""
    plant, state, context = _four_tanks()
    full = replace(state.tags["tank_4.level"], value=19.5)
    state = replace(state, tags={**state.tags, "tank_4.level": full})
    first = check(plant, state, {"pump_1.setpoint": 9.0}, context, NOON)
    assert any("about to overflow" in reason for reason in first.reasons)
    assert check(plant, state, {"pump_2.setpoint": 9.0}, context, NOON).is_clear


def test_a_check_takes_less_than_a_third_of_a_millisecond() -> None:
    """The gate costs nothing in a planning round of 50 ms (CPU time, best of several)."""
    plant, state, context = _four_tanks()
    asked = {"pump_1.setpoint": 11.0, "pump_2.setpoint": 9.0}
    best_ms = float("inf")
    for _ in range(20):
        begun = time.process_time()
        for _ in range(20):
            check(plant, state, asked, context, NOON)
        best_ms = min(best_ms, 1000 * (time.process_time() - begun) / 20)
    assert best_ms < 0.3


def test_never_moved_is_a_moment_and_not_unknown() -> None:
    """The fact that we never moved an MV opens one step's worth of room, no more."""
    assert datetime.min.replace(tzinfo=UTC) == NEVER_MOVED
    case = healthy()
    assert move_room(case.plant, INLET, case.context, NOON) == 2.0


@given(levels=st.tuples(*[st.none() | st.floats(0, 20)] * 4))
def test_only_a_certain_interlock_takes_a_pump_back(levels: tuple[float | None, ...]) -> None:
    """`tripped` names the blocked MVs exactly when a condition is known to hold."""
    plant = read_plant("four_tank")
    known = dict(zip((f"tank_{i}.level" for i in (1, 2, 3, 4)), levels, strict=True))
    tags = {
        name: TagState(level, GOOD, NOON, 0.0, 0.0, is_usable=level is not None)
        for name, level in known.items()
    }
    state = PlantState(plant.plant, NOON, tags)

    def is_certain(*tanks: int) -> bool:
        heights = [levels[tank - 1] for tank in tanks]
        return None not in heights and any(h is not None and h > 19 for h in heights)

    expected = {mv for mv, tanks in (("pump_1.setpoint", (1, 4)), ("pump_2.setpoint", (2, 3)))
                if is_certain(*tanks)}  # fmt: skip
    assert set(tripped(plant, state)) == expected
