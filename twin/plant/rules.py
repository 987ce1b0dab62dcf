"""What the parts of a plant file must be to each other: economics, interlocks, blocks, sources."""

from __future__ import annotations

import zoneinfo
from collections.abc import Generator, Iterator
from functools import lru_cache

from twin.errors import ExpressionError, PlantFileError
from twin.expressions import Expression, parse, units
from twin.plant.document import Finding, Place
from twin.plant.furnace import Furnace, Mill, named_tags
from twin.plant.furnace_rules import furnace_findings
from twin.plant.physics_file import read_physics_file
from twin.plant.shape import Batches, Block, Plant, Role, Trips, nearest
from twin.plant.source_rules import source_findings
from twin.plant.tag_rules import tag_findings, unknown
from twin.plant.write_rules import write_findings

# Demand is foreseen by convolutions, whose time grows with the square: half a second of a round.
_MOST_STEPS_AHEAD = 5000


def findings(plant: Plant, hidden: frozenset[str]) -> Iterator[Finding]:
    """Every broken rule of a plant whose values are each allowed.

    `hidden` are names of tags of the file that are not in `plant` because they have faults of
    their own; nothing is said about what depends on them.
    """
    if not plant.tags:  # nothing that names a tag can be judged
        yield Finding(("tags",), "has no tags.", "Add at least one.")
        return
    names = frozenset(tag.name for tag in plant.tags) | hidden
    yield from tag_findings(plant, names)
    yield from write_findings(plant, names)
    yield from _steps_and_zone(plant)
    yield from source_findings(plant)
    yield from _economics(plant, names, hidden)
    yield from _interlocks(plant, names, hidden)
    yield from _blocks(plant, names)
    yield from furnace_findings(plant, names)
    yield from _physics(plant, names)


def _steps_and_zone(plant: Plant) -> Iterator[Finding]:
    if plant.step_s < plant.sample_s:
        message = f"{plant.step_s:g} s is shorter than sample_s, {plant.sample_s:g} s."
        yield Finding(("step_s",), message, "A planning step holds at least one sample.")
    if plant.plan_every_steps >= plant.horizon_steps:
        message = (
            f"{plant.plan_every_steps} steps from one round to the next are not less than the "
            f"{plant.horizon_steps} that a plan reaches."
        )
        yield Finding(("plan_every_steps",), message, "Plan more often or lengthen horizon_steps.")
    zones = _time_zones()
    if plant.time_zone not in zones:
        near = nearest(plant.time_zone, zones).strip()
        message = f"{plant.time_zone!r} is not a time zone."
        yield Finding(("time_zone",), message, near or "Write it like Europe/Berlin.")


@lru_cache(maxsize=1)
def _time_zones() -> frozenset[str]:
    """Every zone of this machine; finding them takes as long as all the other rules."""
    return frozenset(zoneinfo.available_timezones())


def _economics(plant: Plant, names: frozenset[str], hidden: frozenset[str]) -> Iterator[Finding]:
    economics = plant.economics
    if economics is None:
        return
    sound = economics.currency in units.CURRENCIES
    if not sound:
        near = nearest(economics.currency, units.CURRENCIES).strip()
        message = f"{economics.currency!r} is not a known currency."
        remedy = near or f"Known: {', '.join(units.CURRENCIES)}."
        yield Finding(("economics", "currency"), message, remedy)
    for name, quantity in economics.parameters.items():
        at: Place = ("economics", "parameters", name)
        if name in names:
            sound = False
            yield Finding(at, f"{name!r} is already a tag.", "Rename the parameter.")
        try:
            units.unit(quantity.unit)
        except ExpressionError as fault:
            sound = False
            yield Finding((*at, "unit"), str(fault))
    at = ("economics", "cost_per_h")
    known = names | hidden | set(economics.parameters)
    cost = yield from _parsed(at, economics.cost_per_h, known)
    if cost is None or not sound or cost.names & hidden or not _are_units_known(plant, cost):
        return
    try:
        _ = plant.cost
    except ExpressionError as fault:
        yield Finding(at, str(fault), f"The cost is money in {economics.currency} per hour.")


def _interlocks(plant: Plant, names: frozenset[str], hidden: frozenset[str]) -> Iterator[Finding]:
    roles = {tag.name: tag.role for tag in plant.tags}
    seen: set[str] = set()
    for position, interlock in enumerate(plant.interlocks):
        at: Place = ("interlocks", position)
        if interlock.name in seen:
            yield Finding((*at, "name"), f"{interlock.name!r} is used twice.", "Rename one.")
        seen.add(interlock.name)
        if not interlock.blocks:
            yield Finding((*at, "blocks"), "blocks no MV.", "Name the MVs it holds.")
        for number, name in enumerate(interlock.blocks):
            if name not in names:
                yield unknown((*at, "blocks", number), name, names)
            elif roles.get(name, Role.MV) is not Role.MV:
                message = f"{name} is {roles[name]}, not an MV."
                yield Finding((*at, "blocks", number), message, "An interlock blocks MVs.")
        condition = yield from _parsed((*at, "when"), interlock.when, names)
        if condition is None:
            continue
        if not condition.is_condition:
            message = f"{interlock.when!r} is a number, not a condition."
            yield Finding((*at, "when"), message, "Compare it, e.g. tank_1.level > 19.")
        elif not condition.names & hidden and _are_units_known(plant, condition):
            yield from _same_units((*at, "when"), plant, condition)


def _same_units(at: Place, plant: Plant, condition: Expression) -> Iterator[Finding]:
    """The gate takes readings as they are, so an interlock must not need a conversion."""
    try:
        converted = condition.in_units({tag.name: tag.unit for tag in plant.tags})
    except ExpressionError as fault:
        yield Finding(at, str(fault))
        return
    if converted.root != condition.root:
        message = "compares tags in different units of the same kind."
        yield Finding(at, message, "Give the tags one unit: interlocks convert nothing.")


def _blocks(plant: Plant, names: frozenset[str]) -> Iterator[Finding]:
    name_units = {tag.name: tag.unit for tag in plant.tags}
    seen: set[str] = set()
    for position, block in enumerate(plant.discrete):
        at: Place = ("discrete", position)
        if block.name in seen:
            yield Finding((*at, "name"), f"{block.name!r} is used twice.", "Rename one.")
        seen.add(block.name)
        for place, name, unit in _block_tags(block, name_units):
            if name not in names:
                yield unknown((*at, *place), name, names)
            elif unit is not None and name in name_units and name_units[name] != unit:
                message = f"{name} is in {name_units[name]!r}, but this entry is in {unit!r}."
                yield Finding((*at, *place), message, "Name another tag or correct its unit.")
        for key in ("notice_min", "draw", "duration_min", "repair_min"):
            low, high = getattr(block, key, (0.0, 0.0))
            if low > high:
                message = f"{low:g} is above {high:g}."
                yield Finding((*at, key), message, "Give the smaller number first.")
        if isinstance(block, Batches):
            yield from _batches(plant, block, at)


def _batches(plant: Plant, block: Batches, at: Place) -> Iterator[Finding]:
    if not block.slots:
        yield Finding((*at, "slots"), "has no lines.", "Add the lines of the order list.")
    ahead_min = block.notice_min[1] + block.start_error_limit_min
    steps = 60.0 * ahead_min / plant.step_s
    if steps > _MOST_STEPS_AHEAD:
        message = (
            f"with start_error_limit_min batches are known {ahead_min:g} min ahead, {steps:.0f} "
            f"steps of {plant.step_s:g} s; demand is foreseen for {_MOST_STEPS_AHEAD} at most."
        )
        yield Finding((*at, "notice_min"), message, "Shorten the notice or lengthen step_s.")


def _block_tags(
    block: Block, name_units: dict[str, str]
) -> Iterator[tuple[Place, str, str | None]]:
    """Every tag a block names, where, and the unit its entry is in."""
    if isinstance(block, Batches):
        yield ("demand",), block.demand, None
        for position, slot in enumerate(block.slots):
            at: Place = ("slots", position)
            yield (*at, "start"), slot.start, "s"
            yield (*at, "draw"), slot.draw, name_units.get(block.demand)
            yield (*at, "duration"), slot.duration, "min"
    elif isinstance(block, Trips):
        yield ("running",), block.running, ""
    elif isinstance(block, Furnace | Mill):
        yield from named_tags(block)
    else:
        yield ("price",), block.price, None
        yield ("next",), block.next, name_units.get(block.price)


def _physics(plant: Plant, names: frozenset[str]) -> Iterator[Finding]:
    if plant.physics is None or plant.path is None:
        return
    try:
        module = read_physics_file(plant.path.parent / plant.physics)
    except PlantFileError as faults:
        for fault in faults.faults:
            line = f", line {fault.line}" if fault.line is not None else ""
            message = f"{plant.physics}{line}: {fault.message}"
            yield Finding(("physics",), message, fault.remedy)
        return
    for part in ("STATES", "INPUTS", "OUTPUTS"):
        for name in getattr(module, part):
            if name not in names:
                near = nearest(name, names).strip() or "Add it under `tags`."
                message = f"{part} of {plant.physics} names {name!r}, which is not a tag."
                yield Finding(("physics",), message, near)


def _parsed(
    at: Place, text: str, known: frozenset[str]
) -> Generator[Finding, None, Expression | None]:
    """Parse an expression; returns it unless it does not parse or names what is not known."""
    try:
        expression = parse(text)
    except ExpressionError as fault:
        yield Finding(at, str(fault))
        return None
    strange = sorted(expression.names - known)
    for name in strange:
        yield unknown(at, name, known)
    return None if strange else expression


def _are_units_known(plant: Plant, expression: Expression) -> bool:
    """Whether every tag's unit parses; a wrong one is already told at its tag."""
    for tag in plant.tags:
        if tag.name in expression.names:
            try:
                units.unit(tag.unit)
            except ExpressionError:
                return False
    return True
