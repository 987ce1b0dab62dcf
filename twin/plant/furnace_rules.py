"""What the numbers of a furnace and its mill must be to each other and to the plant's tags."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise

from twin.errors import ExpressionError
from twin.plant.document import Finding, Place
from twin.plant.furnace import PLACE, RECORD, Furnace, Mill, SlabSpec, named_tags, record_tag
from twin.plant.shape import Plant, Role

_STEP_S = 60.0  # slabs are tracked and rolled out in these steps; see `twin.furnace.numbers`
_FLUE_C = (600.0, 1200.0)  # between them lies what leaves a furnace


def furnace_findings(plant: Plant, names: frozenset[str]) -> Iterator[Finding]:
    """Every broken rule of furnaces and mills; `names` are all tag names of the file."""
    places: dict[type, list[int]] = {Furnace: [], Mill: []}
    for position, block in enumerate(plant.discrete):
        if not isinstance(block, Furnace | Mill):
            continue
        places[type(block)].append(position)
        at: Place = ("discrete", position)
        yield from _named_twice(block, at)
        yield from _roles(plant, block, at)
        if isinstance(block, Mill):
            yield from _mill(block, at)
        else:
            yield from _zones(block, at)
            yield from _heat(block, at)
            yield from _spec(block.spec, (*at, "spec"))
            yield from _price(plant, block, (*at, "spec", "fuel_price_per_mwh"))
            yield from _records(plant, block, at, names)
    yield from _pair(plant, places[Furnace], places[Mill])


def _pair(plant: Plant, furnaces: Sequence[int], mills: Sequence[int]) -> Iterator[Finding]:
    for what, positions in (("furnace", furnaces), ("mill", mills)):
        for position in positions[1:]:
            message = f"is a second {what}; a plant file describes one."
            remedy = "Write a plant file of its own for it."
            yield Finding(("discrete", position), message, remedy)
    # Told of the whole list: it stays silent where the other one is there but has faults.
    if furnaces and not mills:
        message = "has a furnace without a mill: nothing says when slabs leave."
        yield Finding(("discrete",), message, "Add the block with kind: mill.")
    if mills and not furnaces:
        message = "has a mill without a furnace: nothing comes to it."
        yield Finding(("discrete",), message, "Add the block with kind: furnace.")
    if furnaces and plant.step_s != _STEP_S:
        message = f"{plant.step_s:g} s, but slabs are tracked and planned minute by minute."
        yield Finding(("step_s",), message, f"Write {_STEP_S:g}.")


def _named_twice(block: Furnace | Mill, at: Place) -> Iterator[Finding]:
    seen: set[str] = set()
    for place, name, _ in named_tags(block):
        if name in seen:
            message = f"{name!r} stands for two things in this block."
            yield Finding((*at, *place), message, "Every entry has a tag of its own.")
        seen.add(name)


def _roles(plant: Plant, block: Furnace | Mill, at: Place) -> Iterator[Finding]:
    roles = {tag.name: tag.role for tag in plant.tags}
    for place, name, _ in named_tags(block):
        role = roles.get(name)
        if role is None:
            continue
        if place[-1] in ("setpoint", "pace"):
            if role is not Role.MV:
                yield Finding((*at, *place), f"{name} is {role}, not an MV.", "It is to be moved.")
        elif role is Role.MV:
            yield Finding((*at, *place), f"{name} is an MV.", "Name what the plant measures.")
        elif place[-1] == "temperature" and role is Role.DV:
            message = f"{name} is DV; a zone's temperature is CV or AUX."
            yield Finding((*at, *place), message, "Correct its role.")


def _zones(furnace: Furnace, at: Place) -> Iterator[Finding]:
    zones = furnace.zones
    for number, (before, zone) in enumerate(pairwise(zones), start=1):
        if zone.ends_at <= before.ends_at:
            message = f"{zone.ends_at:g} is not beyond the end of the zone before, "
            remedy = "List zones from the charging end, each with its end."
            where = (*at, "zones", number, "ends_at")
            yield Finding(where, f"{message}{before.ends_at:g}.", remedy)
    if zones[-1].ends_at != 1.0:
        message = f"{zones[-1].ends_at:g}, but the last zone ends where the furnace does."
        yield Finding((*at, "zones", len(zones) - 1, "ends_at"), message, "Write 1.0.")
    for number, zone in enumerate(zones):
        low, high = zone.fuel_mw
        if low >= high:
            message = f"{low:g} MW at least is not below {high:g} MW at most."
            where = (*at, "zones", number, "fuel_mw")
            yield Finding(where, message, "Give the smaller number first.")
    pilots_mw = sum(zone.fuel_mw[0] for zone in zones)
    if pilots_mw >= furnace.header_mw:
        message = (
            f"{furnace.header_mw:g} MW is not more than the {pilots_mw:g} MW that all zones' "
            "burners burn at least."
        )
        yield Finding((*at, "header_mw"), message, "Correct it or the zones' fuel_mw.")


def _heat(furnace: Furnace, at: Place) -> Iterator[Finding]:
    if not furnace.grades:
        message = "describes no grade."
        yield Finding((*at, "grades"), message, "Add one, e.g. {0: 1.0} for carbon steel.")
    first, second = furnace.flue_heat
    for flue_c in reversed(_FLUE_C):
        lost = flue_c * (first + second * flue_c)
        if not 0.0 < lost < 1.0:
            message = (
                f"{first:g} and {second:g} let flue gas of {flue_c:g} °C carry {lost:.3g} of "
                "the heat burned; only 0 to 1 can be."
            )
            yield Finding((*at, "flue_heat"), message, "Give both per °C, about 4.5e-4 and 5.5e-8.")
            break
    _, preheat_c = furnace.air_preheat
    brought = furnace.air_heat_per_k * preheat_c
    if brought >= 1.0:
        message = (
            f"{furnace.air_heat_per_k:g} lets air of {preheat_c:g} °C bring {brought:.3g} of the "
            "heat burned; only less than 1 can be."
        )
        yield Finding((*at, "air_heat_per_k"), message, "Give it per K, about 3.7e-4.")


def _spec(spec: SlabSpec, at: Place) -> Iterator[Finding]:
    low, high = spec.mean_c
    if low >= high:
        message = f"{low:g} °C is not below {high:g} °C."
        yield Finding((*at, "mean_c"), message, "Give the smaller number first.")
    if spec.surface_c <= low:
        message = f"{spec.surface_c:g} °C is not above the lowest mean in spec, {low:g} °C."
        yield Finding((*at, "surface_c"), message, "No slab could be in spec; correct one.")


def _price(plant: Plant, furnace: Furnace, at: Place) -> Iterator[Finding]:
    """Fuel has one price, where `economics` lets one follow: its cost is the fuel's alone."""
    try:
        cost = plant.cost
    except ExpressionError:
        return  # told of `economics`
    if cost is None or cost.names != {furnace.fuel} or plant.tag(furnace.fuel).unit != "MW":
        return
    per_mwh = cost.evaluate({furnace.fuel: 2.0}) - cost.evaluate({furnace.fuel: 1.0})
    if not math.isclose(per_mwh, furnace.spec.fuel_price_per_mwh, rel_tol=1e-6, abs_tol=1e-9):
        message = (
            f"{furnace.spec.fuel_price_per_mwh:g} per MWh, but `economics` counts {per_mwh:g} for "
            f"each MWh of {furnace.fuel}."
        )
        yield Finding(at, message, "Plans and figures count with one price: correct one of them.")


def _mill(mill: Mill, at: Place) -> Iterator[Finding]:
    shortest, longest = mill.stop_min
    if shortest > longest:
        message = f"{shortest:g} is above {longest:g}."
        yield Finding((*at, "stop_min"), message, "Give the smaller number first.")
    elif not shortest <= mill.stop_mean_min <= longest:
        message = f"{mill.stop_mean_min:g} min is outside stop_min, {shortest:g} to {longest:g}."
        yield Finding((*at, "stop_mean_min"), message, "Correct one of the two.")


def _records(plant: Plant, furnace: Furnace, at: Place, names: frozenset[str]) -> Iterator[Finding]:
    """Patterns of slab records, and the tags that they name."""
    name_units = {tag.name: tag.unit for tag in plant.tags}
    for key, pattern, places in (
        ("slot", furnace.slot, furnace.slots),
        ("yard", furnace.yard, furnace.yard_places),
    ):
        rest = pattern.replace(PLACE, "", 1)
        if rest == pattern or "{" in rest or "}" in rest:
            message = f"{pattern!r} must hold {PLACE} once, and no other braces."
            yield Finding((*at, key), message, f'Write it like "{key}_{PLACE}".')
        else:
            yield from _missing((*at, key), pattern, places, names)
            yield from _units((*at, key), pattern, places, name_units)
            beyond = record_tag(pattern, places + 1, "slab")
            if key == "slot" and beyond in names:
                message = f"{places}, but there is a tag {beyond} of one more."
                remedy = "Correct the number, or leave out the tags of slots that are not there."
                yield Finding((*at, "slots"), message, remedy)
    if furnace.slot == furnace.yard:
        message = f"{furnace.yard!r} is already the pattern of the slots."
        yield Finding((*at, "yard"), message, "Slots and yard have tags of their own.")


def _missing(at: Place, pattern: str, places: int, names: frozenset[str]) -> Iterator[Finding]:
    """Records without tags: one sentence for neighbouring places that lack the same parts."""
    lacks = [
        tuple(part for part in RECORD if record_tag(pattern, place, part) not in names)
        for place in range(1, places + 1)
    ]
    first = 1
    for parts, group in groupby(lacks):
        last = first + len(list(group)) - 1
        if parts:
            yield Finding(at, _lack(pattern, first, last, parts), "Add them under `tags`.")
        first = last + 1


def _lack(pattern: str, first: int, last: int, parts: Sequence[str]) -> str:
    shown = "*" if len(parts) == len(RECORD) else ", ".join(parts)
    where = record_tag(pattern, first, shown)
    if last > first:
        where += f" to {record_tag(pattern, last, shown)}"
    count = (last - first + 1) * len(parts)
    return f"{where}: {count} tag{' is' if count == 1 else 's are'} missing."


def _units(
    at: Place, pattern: str, places: int, name_units: Mapping[str, str]
) -> Iterator[Finding]:
    for part, unit in RECORD.items():
        tags = [record_tag(pattern, place, part) for place in range(1, places + 1)]
        wrong = [tag for tag in tags if name_units.get(tag, unit) != unit]
        if wrong:
            more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
            message = f"{wrong[0]}{more}: in {name_units[wrong[0]]!r}, but {part} is in {unit!r}."
            yield Finding(at, message, "Name other tags or correct their unit.")
