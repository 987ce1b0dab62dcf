"""Whether moves are safe: the request's and the MVs' rows of the truth table.

Each `_of_...` function is one row and yields its reasons for no; silence is a yes. Decisions and
clearances are in `twin.safety.clearing`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from twin.errors import ExpressionError
from twin.expressions import parse
from twin.plant import Interlock, Plant, Role, Tag, WindUp
from twin.records import PlantState, Stage, Verdict
from twin.safety.context import RULES, GateContext, Trust
from twin.safety.facts import (
    Case,
    difference_unit,
    highest_low,
    is_same,
    is_zoned,
    lowest_high,
    number,
    outside,
    related,
    rounding,
    show,
    show_difference,
)


def check(
    plant: Plant,
    state: PlantState,
    setpoints: Mapping[str, float],
    context: GateContext,
    now: datetime,
) -> Verdict:
    """Whether moving these MVs to these setpoints together would be safe at plant time `now`.

    All or none: one MV's reason refuses the whole request. Reasons come in the order of the
    truth table, requests first, then MVs in the order of the plant file.
    """
    clock = _of_clock(plant, state, now)
    reasons = [*_of_request(plant, state, setpoints, context, clock)]
    if clock is None:
        case = Case(plant, {tag.name: tag for tag in plant.tags}, state, context, now)
        order = {name: place for place, name in enumerate(case.tags)}
        for name in sorted(setpoints, key=lambda mv: order.get(mv, len(order))):
            reasons += _of_mv(case, name, setpoints[name])
    return Verdict(not reasons, tuple(reasons), now, dict(setpoints))


def move_room(plant: Plant, mv: str, context: GateContext, now: datetime) -> float | None:
    """The largest |Δ| that rate and move budget would let through at `now`; None if unknown.

    In the MV's unit. For planners, so that the first move of a plan is one the gate can clear.
    """
    tag = plant.tag(mv)
    rate_room = _rate_room(plant, tag, context, now)
    budget_room = _budget_room(tag, context)
    if isinstance(rate_room, str) or isinstance(budget_room, str):
        return None
    return max(0.0, min(rate_room, budget_room))


def tripped(plant: Plant, state: PlantState) -> dict[str, str]:
    """MV -> message of an interlock that is certainly tripped: the PLC shall have it back.

    What cannot be judged trips nothing here (the gate refuses to write then): a sensor that
    drops out for a minute is no reason to take a pump away.
    """
    found: dict[str, str] = {}
    for interlock in plant.interlocks:
        condition = parse(interlock.when)
        values = {name: state.value(name) for name in condition.names}
        known = {name: value for name, value in values.items() if value is not None}
        if len(known) == len(values) and condition.holds(known):
            found |= dict.fromkeys(interlock.blocks, f"{interlock.name}: {interlock.message}")
    return found


def free_ways(windup: WindUp, status: float) -> tuple[str, ...]:
    """Which ways, "up" and "down", an MV may go while its wind-up tag reads `status`."""
    ends = {windup.free: ("up", "down"), windup.low: ("up",), windup.high: ("down",)}
    return ends.get(int(status), ()) if status == int(status) else ()


def _of_request(
    plant: Plant,
    state: PlantState,
    setpoints: Mapping[str, float],
    context: GateContext,
    clock: str | None,
) -> Iterator[str]:
    if context.is_stopped is None:
        yield (
            "The stop latch cannot be read; unreadable means stopped. Look at its file and the "
            "plant's stop node, then use `plantwright release PLANT`."
        )
    elif context.is_stopped is not False:
        yield "Stopped. When the plant may be steered again, use `plantwright release PLANT`."
    if clock is not None:
        yield clock
    if state.plant != plant.plant:
        yield (
            f"These readings belong to plant {state.plant!r}, the limits to {plant.plant!r}. "
            "Start the process with the right plant file."
        )
    if not setpoints:
        yield "No setpoint is asked for. Ask for at least one MV."
    yield from _of_trust(context.trust)


def _of_trust(trust: Trust | None) -> Iterator[str]:
    coverage = number(trust.coverage90) if trust is not None else None
    count = number(trust.count) if trust is not None else None
    if coverage is None or count is None or not 0 <= coverage <= 1:
        yield (
            "How well the model forecast the last plant hour is not known. Wait until enough "
            "forecasts have been judged."
        )
    elif count < RULES.min_coverage_count:
        yield (
            f"Only {count:.0f} forecasts of the last plant hour are judged; "
            f"{RULES.min_coverage_count} are needed. Wait for more readings."
        )
    elif coverage < RULES.min_coverage90:
        yield (
            f"The model's 90 % intervals held {100 * coverage:.1f} % of the last plant hour's "
            f"readings; below {100 * RULES.min_coverage90:.0f} % it is not trusted. Look for a "
            "changed plant or sensor, then retrain."
        )


def _of_clock(plant: Plant, state: PlantState, now: datetime) -> str | None:
    """Why ages cannot be told, or None."""
    for name, moment in (("The present", now), ("The readings' time", state.at)):
        if not is_zoned(moment):
            return f"{name} ({moment}) has no time zone; no age can be told. Pass aware times."
    ahead_s = (state.at - now).total_seconds()
    if ahead_s > plant.step_s:
        return (
            f"The readings are stamped {ahead_s:.0f} s ahead of now; more than one step of "
            f"{plant.step_s:.0f} s means that the clocks disagree. Check the clocks."
        )
    return None


def _of_mv(case: Case, name: str, asked: object) -> Iterator[str]:
    tag = case.tags.get(name)
    if tag is None or tag.role is not Role.MV:
        what = "is no tag" if tag is None else f"is a {tag.role}, not an MV,"
        mvs = ", ".join(mv.name for mv in case.plant.with_role(Role.MV)) or "none"
        yield f"{name} {what} of plant {case.plant.plant}. Its MVs are: {mvs}."
        return
    setpoint, present = number(asked), case.value(tag.stands_at)
    if setpoint is None:
        yield f"{name}: {asked!r} is no finite number. Ask for a number in {tag.unit or '1'}."
    if not isinstance(case.context.stages.get(name), Stage):
        yield f"{name}: no stage is stored. Set it to shadow, advisory or closed loop."
    for required in related(tag):
        known = case.known(required)
        if isinstance(known, str):
            why = known.rstrip(".")
            remedy = "Check the sensor and `plantwright collect PLANT`."
            yield f"{name} needs {required}: {why}. {remedy}"
    yield from _of_mode(case, tag, present)
    if setpoint is not None:
        yield from _of_engineering(tag, setpoint)
        yield from _of_operator(tag, setpoint, present)
    if setpoint is not None and present is not None:
        yield from _of_rate(case, tag, setpoint, present)
        yield from _of_budget(case, tag, setpoint, present)
        yield from _of_windup(case, tag, setpoint, present)
    for interlock in case.plant.interlocks:
        if name in interlock.blocks:
            yield from _of_interlock(case, tag, interlock)
    if setpoint is not None and present is not None:
        yield from _of_relief(case, tag, setpoint, present)


def _of_mode(case: Case, tag: Tag, present: float | None) -> Iterator[str]:
    mode = tag.remote
    shown = case.value(mode.tag) if mode is not None else None
    if mode is None or shown is None or shown == mode.remote:
        return
    if shown != mode.auto:
        yield (
            f"{tag.name}: its mode {mode.tag} reads {shown:g}, neither AUTO ({mode.auto}) nor "
            f"REMOTE ({mode.remote}), so the PLC takes no setpoint from us. Put it in AUTO there."
        )
    elif tag.downstream is not None and present is not None and not _is_inside(tag, present):
        yield (
            f"{tag.name}: the PLC holds it at {show(tag, present)}, outside its engineering "
            "limits, and taking it over begins with that setpoint. Bring it inside at the PLC."
        )


def _is_inside(tag: Tag, value: float) -> bool:
    return tag.engineering is not None and tag.engineering.holds(value)


def _of_engineering(tag: Tag, setpoint: float) -> Iterator[str]:
    limits = tag.engineering
    if limits is None or limits.low is None or limits.high is None or limits.low > limits.high:
        yield f"{tag.name}: the plant file gives no engineering limits low ≤ high. Add them there."
    elif not limits.low <= setpoint <= limits.high:
        limit = limits.low if setpoint < limits.low else limits.high
        yield (
            f"{outside(tag, setpoint, limit)} its engineering limit of "
            f"{show(tag, limit, setpoint)}. Stay inside; only the plant file moves this limit."
        )


def _of_operator(tag: Tag, setpoint: float, present: float | None) -> Iterator[str]:
    low, high = highest_low(tag.operator), lowest_high(tag.operator)
    if low > high:
        yield (
            f"{tag.name}: its low operator limit of {show(tag, low, high)} is above the high one "
            f"of {show(tag, high, low)}. Set low ≤ high."
        )
    elif not low <= setpoint <= high:
        is_towards = present is not None and (high < setpoint < present or present < setpoint < low)
        if not is_towards:
            limit = low if setpoint < low else high
            yield (
                f"{outside(tag, setpoint, limit)} its operator limit of "
                f"{show(tag, limit, setpoint)}, and not a move back towards it. Ask for a "
                "setpoint inside, or let an operator move the limit."
            )


def _of_rate(case: Case, tag: Tag, setpoint: float, present: float) -> Iterator[str]:
    room = _rate_room(case.plant, tag, case.context, case.now)
    if isinstance(room, str):
        yield room
    elif not abs(setpoint - present) <= room + rounding(setpoint, present, room):
        size = abs(setpoint - present)
        yield (
            f"{tag.name}: a move of {show_difference(tag, size, room)} (from "
            f"{show(tag, present, setpoint)} to {show(tag, setpoint, present)}) is more than the "
            f"{show_difference(tag, room, size)} that its rate of {tag.rate_limit_per_min:g} "
            f"{difference_unit(tag)} per minute allows since its last move, at most one planning "
            f"round of {case.plant.round_s:.0f} s. Ask for less or wait."
        )


def _rate_room(plant: Plant, tag: Tag, context: GateContext, now: datetime) -> float | str:
    """The largest |Δ| that the rate limit allows now, or why that is unknown."""
    if tag.rate_limit_per_min is None:
        return f"{tag.name}: the plant file gives no rate limit. Add rate_limit_per_min there."
    moved_at = context.last_moved_at.get(tag.name)
    if moved_at is None or not is_zoned(moved_at) or not is_zoned(now):
        return f"{tag.name}: when we last moved it is not known. Check the historian."
    since_s = (now - moved_at).total_seconds()
    if since_s < 0:
        return (
            f"{tag.name}: its last move is stamped {-since_s:.0f} s ahead of now. "
            "Check the clocks of planner and writer."
        )
    return tag.rate_limit_per_min * min(plant.round_s, since_s) / 60.0


def _of_budget(case: Case, tag: Tag, setpoint: float, present: float) -> Iterator[str]:
    room = _budget_room(tag, case.context)
    size = abs(setpoint - present)
    if isinstance(room, str):
        yield room
    elif not is_same(setpoint, present) and not size <= room + rounding(setpoint, present, room):
        budget = tag.move_budget_per_h or 0.0
        yield (
            f"{tag.name}: a move of {show_difference(tag, size, room)} on top of "
            f"{show_difference(tag, budget - room, budget)} in the last hour passes its move "
            f"budget of {show_difference(tag, budget)} per hour. Ask for a smaller move or wait."
        )


def _budget_room(tag: Tag, context: GateContext) -> float | str:
    """What is left of the hour's move budget (below zero if passed), or why that is unknown."""
    if tag.move_budget_per_h is None:
        return f"{tag.name}: the plant file gives no move budget. Add move_budget_per_h there."
    travel = number(context.travel_last_h.get(tag.name))
    if travel is None or travel < 0:
        return f"{tag.name}: its travel in the last hour is not known. Check the historian."
    return tag.move_budget_per_h - travel


def _of_windup(case: Case, tag: Tag, setpoint: float, present: float) -> Iterator[str]:
    windup = tag.windup
    status = case.value(windup.tag) if windup is not None else None
    if windup is None or status is None or is_same(setpoint, present):
        return
    free = free_ways(windup, status)
    direction = "up" if setpoint > present else "down"
    if direction in free:
        return
    reads = f"{windup.tag} reads {status:g}"
    if free:
        end = "low" if status == windup.low else "high"
        yield (
            f"{tag.name}: what it drives is at its {end} end ({reads}), so a move {direction} only "
            f"winds it up. Move it {' or '.join(free)} or wait."
        )
    elif status == windup.both:
        yield f"{tag.name}: what it drives can't move ({reads}). Wait until it can."
    else:
        yield (
            f"{tag.name}: {reads}, which the plant file does not explain. Unknown counts as wound "
            "up; correct `windup` there."
        )


def _of_interlock(case: Case, tag: Tag, interlock: Interlock) -> Iterator[str]:
    holds = _evaluate(case, interlock)
    if isinstance(holds, str):
        yield (
            f"{tag.name}: the interlock “{interlock.name}” ({interlock.when}) cannot be judged: "
            f"{holds.rstrip('.')}. Unknown counts as tripped; check its tags."
        )
    elif holds:
        yield (
            f"{tag.name}: the interlock “{interlock.name}” ({interlock.when}) is tripped. "
            f"{interlock.message}"
        )


def _evaluate(case: Case, interlock: Interlock) -> bool | str:
    """Whether the interlock is tripped, or why that is unknown."""
    try:
        condition = parse(interlock.when)
    except ExpressionError as fault:
        return str(fault)
    if not condition.is_condition:
        return "it is a number, not a condition"
    values: dict[str, float] = {}
    for name in sorted(condition.names):
        known = case.known(name)
        if isinstance(known, str):
            return f"{name}: {known}"
        values[name] = known
    holds = condition.holds(values)
    return "its arithmetic has no finite result" if holds is None else holds


def _of_relief(case: Case, tag: Tag, setpoint: float, present: float) -> Iterator[str]:
    if is_same(setpoint, present):
        return
    direction = "up" if setpoint > present else "down"
    for name in related(tag):
        cv, value = case.tags.get(name), case.value(name)
        if cv is None or cv.role is not Role.CV or value is None:
            continue
        low = highest_low(cv.operator, cv.engineering)
        high = lowest_high(cv.operator, cv.engineering)
        for side, limit, is_outside in (("low", low, value < low), ("high", high, value > high)):
            declared = {r.direction for r in tag.relief if r.cv == name and r.side == side}
            if is_outside and declared != {direction}:
                yield (
                    f"{tag.name}: {outside(cv, value, limit)} its limit of "
                    f"{show(cv, limit, value)}, and {direction} is not the relieving direction "
                    f"(declared: {' and '.join(sorted(declared)) or 'none'}). Hold this MV, or "
                    "correct `relief` in the plant file."
                )
