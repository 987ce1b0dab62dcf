"""A second opinion on the gate, written from the truth table (decision page 0003) alone.

It shares nothing with `twin.safety`: exact fractions instead of floats, one flat list of failing
row names instead of texts, and its own reading of interlocks (comparisons of a tag with a number,
joined by `or`). It is slow and has no use outside the tests.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

from twin.plant import Plant, Role
from twin.records import Decision, PlantState, Stage

STEP_WORDS = {">": 1, "<": -1}


def failing_rows(
    plant: Plant, state: PlantState, setpoints: Mapping[str, Any], context: Any, now: datetime
) -> set[str]:
    """The rows of the table that say no to this request; empty means yes."""
    no: set[str] = set()
    if context.is_stopped is None or context.is_stopped:
        no.add("stop")
    if state.plant != plant.plant:
        no.add("plant")
    if len(setpoints) == 0:
        no.add("empty")
    if not _is_trusted(context.trust):
        no.add("trust")
    step = timedelta(seconds=plant.step_s)
    if now.tzinfo is None or state.at.tzinfo is None or state.at - now > step:
        return no | {"clock"}
    for mv, asked in setpoints.items():
        no |= _rows_of_one(plant, state, mv, asked, context, now)
    return no


def failing_rows_of_clearance(
    plant: Plant,
    state: PlantState,
    proposal_id: str,
    setpoints: Mapping[str, Any],
    context: Any,
    decision: Decision,
    now: datetime,
    lifetime_s: float,
) -> set[str]:
    """The rows that say no to a clearance; empty means that one is due."""
    no = failing_rows(plant, state, setpoints, context, now)
    if proposal_id == "" or proposal_id != decision.proposal_id:
        no.add("proposal")
    if decision.is_accepted is not True:
        no.add("accepted")
    if decision.by.strip() == "":
        no.add("by")
    step = timedelta(seconds=plant.step_s)
    if any(t.tzinfo is None for t in (decision.decided_at, now, state.at)):
        no.add("decided")
    else:
        earliest, latest = now - timedelta(seconds=plant.proposal_open_s), now + step
        if decision.decided_at < earliest or decision.decided_at > latest:
            no.add("decided")
        if decision.decided_at > state.at + step:
            no.add("newer")
    stages = [context.stages.get(mv) for mv in setpoints]
    if Stage.SHADOW in stages:
        no.add("permission")
    if decision.by.strip().lower() == "closed loop":
        if any(stage != Stage.CLOSED_LOOP for stage in stages):
            no.add("permission")
        endpoint = plant.opcua.endpoint if plant.opcua else ""
        if not endpoint.startswith(("opc.tcp://127.", "opc.tcp://localhost:", "opc.tcp://[::1]")):
            no.add("loopback")
    if not (lifetime_s > 0 and lifetime_s <= 60):
        no.add("lifetime")
    return no


def _is_trusted(trust: Any) -> bool:
    if trust is None or trust.coverage90 is None or trust.count is None:
        return False
    return 0.75 <= trust.coverage90 <= 1.0 and trust.count >= 30


def _rows_of_one(
    plant: Plant, state: PlantState, mv: str, asked: Any, context: Any, now: datetime
) -> set[str]:
    by_name = {tag.name: tag for tag in plant.tags}
    if mv not in by_name or by_name[mv].role != Role.MV:
        return {"mv"}
    tag = by_name[mv]
    no: set[str] = set()
    good = {name: _good_value(plant, state, name, now) for name in by_name}

    if context.stages.get(mv) not in {Stage.SHADOW, Stage.ADVISORY, Stage.CLOSED_LOOP}:
        no.add("stage")
    where = tag.downstream if tag.downstream is not None else mv
    relatives = {mv, where} | set(tag.requires) | {relief.cv for relief in tag.relief}
    relatives |= {part.tag for part in (tag.remote, tag.windup) if part is not None}
    if any(good.get(name) is None for name in relatives):
        no.add("required")
    if any(_may_be_tripped(i.when, good) for i in plant.interlocks if mv in i.blocks):
        no.add("interlock")

    s, p = _exact(asked), good.get(where)
    if tag.remote is not None and (mode := good.get(tag.remote.tag)) is not None:
        is_taken_over = mode == tag.remote.auto and tag.downstream is not None and p is not None
        held_outside = is_taken_over and not _within(tag.engineering, p)
        if mode not in (tag.remote.auto, tag.remote.remote) or held_outside:
            no.add("mode")
    if s is None:
        return no | {"number"}

    inner, outer = tag.operator, tag.engineering
    has_both = outer is not None and outer.low is not None and outer.high is not None
    if not (has_both and Fraction(outer.low) <= s <= Fraction(outer.high)):
        no.add("engineering")
    if inner is not None and not _operator_lets(inner.low, inner.high, s, p):
        no.add("operator")
    if p is None:
        return no

    size = abs(s - p)
    moved = context.last_moved_at.get(mv)
    if tag.rate_limit_per_min is None or moved is None or moved.tzinfo is None or moved > now:
        no.add("rate")
    else:
        microseconds = (now - moved) // timedelta(microseconds=1)
        minutes = Fraction(microseconds, 60_000_000)
        one_round = Fraction(plant.step_s) * plant.plan_every_steps / 60
        allowed = min(minutes, one_round)
        if size > Fraction(tag.rate_limit_per_min) * allowed:
            no.add("rate")
    travel = _exact(context.travel_last_h.get(mv))
    known_budget = tag.move_budget_per_h is not None and travel is not None and travel >= 0
    if not (known_budget and (size == 0 or travel + size <= Fraction(tag.move_budget_per_h))):
        no.add("budget")

    if size != 0 and tag.windup is not None:
        status = good.get(tag.windup.tag)
        ways = {tag.windup.free: "up down", tag.windup.low: "up", tag.windup.high: "down"}
        free = ways.get(int(status), "") if status is not None and status.denominator == 1 else ""
        if status is not None and ("up" if s > p else "down") not in free:
            no.add("windup")
    if size != 0:
        heading = "up" if s > p else "down"
        for name in relatives:
            value = good.get(name)
            if value is None or by_name[name].role != Role.CV:
                continue
            for side in _sides_passed(by_name[name], value):
                told = [r.direction for r in tag.relief if (r.cv, r.side) == (name, side)]
                if not told or any(direction != heading for direction in told):
                    no.add("relief")
    return no


def _within(pair: Any, value: Fraction | None) -> bool:
    if pair is None or value is None:
        return False
    low = pair.low is None or Fraction(pair.low) <= value
    return low and (pair.high is None or value <= Fraction(pair.high))


def _exact(number: Any) -> Fraction | None:
    if number is None or isinstance(number, (bool, str)) or not math.isfinite(number):
        return None
    return Fraction(number)


def _good_value(plant: Plant, state: PlantState, name: str, now: datetime) -> Fraction | None:
    told = state.tags.get(name)
    if told is None or not told.is_usable or told.value is None or told.source_time is None:
        return None
    if told.quality not in range(0x4000_0000) or told.source_time.tzinfo is None:
        return None
    value, since = _exact(told.value), (now - state.at).total_seconds()
    ages = [told.source_age_s, told.arrival_age_s]
    if any(age is None or not math.isfinite(age) for age in ages):
        return None
    ages = [age + since for age in ages] + [(now - told.source_time).total_seconds()]
    (limit,) = (tag.max_age_s for tag in plant.tags if tag.name == name)
    return value if all(-plant.step_s <= age <= limit for age in ages) else None


def _operator_lets(low: float | None, high: float | None, s: Fraction, p: Fraction | None) -> bool:
    if low is not None and high is not None and low > high:
        return False
    if high is not None and s > Fraction(high):
        return p is not None and s < p
    if low is not None and s < Fraction(low):
        return p is not None and s > p
    return True


def _sides_passed(cv: Any, value: Fraction) -> set[str]:
    passed: set[str] = set()
    for pair in (cv.operator, cv.engineering):
        if pair is not None and pair.low is not None and value < Fraction(pair.low):
            passed.add("low")
        if pair is not None and pair.high is not None and value > Fraction(pair.high):
            passed.add("high")
    return passed


def _may_be_tripped(when: str, good: Mapping[str, Fraction | None]) -> bool:
    """Whether `tag > number or tag < number or …` is true, or has an unknown part."""
    tripped = False
    for comparison in when.split(" or "):
        words = comparison.split()
        if len(words) != 3 or words[1] not in STEP_WORDS or good.get(words[0]) is None:
            return True
        over = (good[words[0]] or Fraction(0)) - Fraction(words[2])
        tripped |= over * STEP_WORDS[words[1]] > 0
    return tripped
