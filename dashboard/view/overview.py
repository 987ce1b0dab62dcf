"""The overview beside its tag table: figures, announced batches, what to do without readings."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime

from dashboard.view import text
from dashboard.view.advice import holding, horizon
from dashboard.view.kinds import is_slab_record
from dashboard.view.tags import Level, TagRow, Word
from twin.economics import Score
from twin.plant import Batches, OrderSlot, Plant
from twin.records import PlantState, Proposal
from twin.safety import RULES, Trust

_TOO_LITTLE = "readings are missing for most of the hour"

#: What a figure is shown as: label, value, small print.
Figure = tuple[str, Word, str]


def figures(
    plant: Plant,
    opened: Proposal | None,
    last_hour: Score | None,
    trust: Trust | None,
) -> list[Figure]:
    """Benefit of the open proposal, cost and limit minutes of the last hour, trust.

    `last_hour` is None where too little of the hour is known.
    """
    currency = plant.economics.currency if plant.economics else ""
    shown: list[Figure] = []
    if opened is not None:
        shown.append(_benefit(plant, opened, currency))
    else:
        shown.append(("Open proposal", Word("none"), "nothing waits for a decision"))
    if plant.economics is not None:
        shown.append(_cost(last_hour, currency))
        shown.append(_limit_minutes(last_hour))
    shown.append(_trust(trust))
    return shown


def no_readings(plant: Plant, is_starting: bool = False) -> str:
    """What to do when the database holds nothing of this plant."""
    if is_starting:
        return "The processes are starting; readings follow within seconds. Nothing is to be done."
    endpoint = plant.opcua.endpoint if plant.opcua is not None else "the plant"
    return (
        f"The database holds nothing of {plant.plant}. Start `plantwright collect {plant.plant}` "
        f"and see that {endpoint} answers. This page goes on by itself."
    )


def announced_batches(plant: Plant, state: PlantState) -> list[tuple[str, str, str, str]]:
    """The order list: demand tag, start, draw and duration of every line in use, by start."""
    lines = []
    for block in plant.discrete:
        if not isinstance(block, Batches):
            continue
        for slot in block.slots:
            known = _order(state, slot)
            if known is not None:
                lines.append((known, plant.tag(block.demand)))
    lines.sort(key=lambda line: line[0])
    return [
        (
            tag.name,
            text.date_time(datetime.fromtimestamp(start_s, UTC), plant),
            f"{text.number(draw, tag.decimals)} {tag.unit}",
            f"{text.number(minutes, 0)} min",
        )
        for (start_s, draw, minutes), tag in lines
    ]


def without_own_table(plant: Plant, rows: Iterable[TagRow]) -> list[TagRow]:
    """The rows without the order list and slab records, which are shown as such."""
    blocks = [block for block in plant.discrete if isinstance(block, Batches)]
    slots = [slot for block in blocks for slot in block.slots]
    names = {name for slot in slots for name in (slot.start, slot.draw, slot.duration)}
    return [row for row in rows if row.name not in names and not is_slab_record(plant, row.name)]


def _benefit(plant: Plant, opened: Proposal, currency: str) -> Figure:
    """What the open proposal saves, and the two costs that part it from the last hour's."""
    benefit, plan = opened.benefit_per_h, opened.plan
    label = "Open proposal costs more" if benefit < 0 else "Open proposal saves"
    costs = (
        f"next {horizon(plant)}: {text.money(plan.cost_per_h, currency)}, "
        f"holding {text.money(plan.hold_cost_per_h, currency)}"
    )
    return (label, Word(text.money(abs(benefit), currency)), f"{costs} ({holding(plant)})")


def _order(state: PlantState, slot: OrderSlot) -> tuple[float, float, float] | None:
    start_s, draw = state.value(slot.start), state.value(slot.draw)
    minutes = state.value(slot.duration)
    if start_s is None or not draw or minutes is None:
        return None
    return start_s, draw, minutes


def _trust(trust: Trust | None) -> Figure:
    if trust is None or trust.coverage90 is None:
        return ("Trust", Word("unknown"), "the planner does not know its forecasts' coverage yet")
    share = text.percent(trust.coverage90)
    small = f"of {trust.count} forecasts in the last hour held their 90 % band"
    is_low = trust.coverage90 < RULES.min_coverage90 or trust.count < RULES.min_coverage_count
    reason = f"The gate asks for {RULES.min_coverage90:.0%} of {RULES.min_coverage_count} or more."
    return ("Trust", Word(share, Level.ATTENTION, reason) if is_low else Word(share), small)


def _cost(last_hour: Score | None, currency: str) -> Figure:
    if last_hour is None or not math.isfinite(last_hour.cost_per_h):
        return ("Cost, last hour", Word("unknown"), _TOO_LITTLE)
    limits = f"limits: {text.money(last_hour.limit_cost_per_h, currency)}"
    cost = Word(text.money(last_hour.cost_per_h, currency))
    return ("Cost, last hour", cost, _with_hours(limits, last_hour))


def _limit_minutes(last_hour: Score | None) -> Figure:
    if last_hour is None or not all(map(math.isfinite, last_hour.limit_minutes.values())):
        return ("Outside limits, last hour", Word("unknown"), _TOO_LITTLE)
    minutes = last_hour.limit_minutes
    total = sum(minutes.values())
    worst = ", ".join(f"{name} {m:.0f}" for name, m in minutes.items() if m >= 0.5)
    word = Word(f"{total:.0f} min", Level.ATTENTION if total >= 0.5 else Level.CALM)
    small = worst or "every CV inside its operator limits"
    return ("Outside limits, last hour", word, _with_hours(small, last_hour))


def _with_hours(small: str, last_hour: Score) -> str:
    """The small print, and how much of the hour it is about where that is not all of it."""
    known_min = round(60 * last_hour.hours)
    return small if known_min >= 60 else f"{small}; over {known_min} of 60 min"
