"""Every slab of beam and yard with its outlook, and whether it is to be looked at.

Reads the newest readings and the newest stored forecast; it tracks no slab and predicts nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from dashboard.view import text
from dashboard.view.tags import Level, Word, worst
from twin.furnace.records import Read, Records
from twin.furnace.state import Slab
from twin.plant import Plant
from twin.plant.furnace import Furnace, SlabSpec
from twin.records import Forecast, PlantState, SlabOutlook

#: A slab is marked below this chance to be in spec …
IN_SPEC_WANTED = 0.9
#: … if it leaves so soon: those behind it leave under plans that are not made yet.
MARKED_AHEAD = timedelta(minutes=60)
_NOTHING_ODD = Word("NORMAL")


@dataclass(frozen=True, slots=True)
class SlabPlace:
    """A place of beam or yard and what lies in it; `number` 0: nobody knows which slab.

    `word` says whether to look at it and why; `outlook` is None where no forecast names it.
    """

    place: int
    is_inside: bool
    number: int
    thickness_mm: float | None
    charge_c: float | None
    grade: str
    outlook: SlabOutlook | None
    word: Word

    @property
    def where(self) -> str:
        """The place in words."""
        return f"{'slot' if self.is_inside else 'yard'} {self.place}"

    @property
    def now_c(self) -> float | None:
        """How hot it was when the outlook was made; in the yard, how hot it is told to be."""
        if not self.is_inside:
            return self.charge_c
        told = self.outlook.now_c if self.outlook is not None else math.nan
        return told if math.isfinite(told) else None


def slab_places(
    furnace: Furnace, state: PlantState, forecast: Forecast | None
) -> tuple[SlabPlace, ...]:
    """Every slab inside in the order in which they leave, then the yard as it will come."""
    records = Records(furnace)
    read = records.read({tag: _known(state, tag) for tag in records.tags})
    outlooks = {each.number: each for each in forecast.slabs} if forecast is not None else {}
    places = []
    for place in range(furnace.slots, 0, -1):
        slab = read.slots[place - 1]
        outlook = outlooks.get(slab.number) if slab is not None else None
        word = _inside_word(furnace, read, place, slab, outlook, state.at)
        places.append(_place(place, True, slab, outlook, word))
    for place, slab in enumerate(read.yard, start=1):
        fault = read.yard_faults.get(place, "")
        word = Word("DOUBTFUL", Level.ATTENTION, fault) if fault else _NOTHING_ODD
        if slab.number == 0:
            word = Word("NO RECORD", Level.ALARM, fault)
        places.append(_place(place, False, slab, outlooks.get(slab.number), word))
    return tuple(places)


def slab_cells(plant: Plant, each: SlabPlace) -> tuple[str, ...]:
    """One slab's line of the list, as text, without its status."""
    seen = each.outlook
    spread = mean = difference = chance = leaves = text.NOTHING
    if seen is not None:
        leaves = text.hour_minute(seen.leaves_at, plant)
        mean, difference = text.number(seen.mean_c, 0), text.number(seen.difference_k, 0)
        spread, chance = f"± {text.number(seen.sd_k, 0)}", text.percent(seen.in_spec_chance)
    return (
        str(each.number) if each.number else text.NOTHING,
        each.where.replace(" ", "\u00a0"),
        measured(text.number(each.thickness_mm, 0), "mm"),
        measured(text.number(each.charge_c, 0), "°C"),
        each.grade,
        leaves,
        measured(f"{mean} {spread}" if seen is not None else mean, "°C"),
        measured(difference, "K"),
        chance,
    )


def to_look_at(slabs: Iterable[SlabPlace]) -> tuple[Word, str]:
    """How many slabs ask for a look, and what for."""
    counts: dict[str, int] = {}
    odd = [each.word for each in slabs if each.word.level is not Level.CALM]
    for word in odd:
        counts[word.text] = counts.get(word.text, 0) + 1
    if not odd:
        return Word("nothing odd"), "those that leave within the hour are predicted in spec"
    small = ", ".join(f"{count} {said}" for said, count in counts.items())
    return Word(f"{len(odd)} to look at", worst(word.level for word in odd)), small


def measured(number: str, unit: str) -> str:
    """A number with its unit; a dash alone."""
    return number if number.startswith(text.NOTHING) else f"{number} {unit}".rstrip()


def _place(
    place: int, is_inside: bool, slab: Slab | None, outlook: SlabOutlook | None, word: Word
) -> SlabPlace:
    # A stand-in's measures are a neighbour's: nothing is known of the slab itself.
    if slab is None or slab.number == 0:
        return SlabPlace(place, is_inside, 0, None, None, text.NOTHING, None, word)
    grade = str(slab.grade) if slab.grade >= 0 else "?"
    thickness_mm = 1000.0 * slab.thickness_m
    return SlabPlace(
        place, is_inside, slab.number, thickness_mm, slab.charge_c, grade, outlook, word
    )


def _inside_word(
    furnace: Furnace,
    read: Read,
    place: int,
    slab: Slab | None,
    outlook: SlabOutlook | None,
    now: datetime,
) -> Word:
    """Whether the slab in a slot is faulty, doubtful, or predicted out of spec soon."""
    for number, where in read.twice.items():
        if place in where:
            slots = " and ".join(map(str, where))
            return Word("TWICE", Level.ALARM, f"Slab {number} is said to lie in slots {slots}.")
    if slab is None:
        reason = "The record of this slot names no slab, or is too old to be believed."
        return Word("NO RECORD", Level.ALARM, reason)
    doubt = read.doubts.get(place) or (outlook.doubt if outlook is not None else "")
    if doubt:
        return Word("DOUBTFUL", Level.ATTENTION, doubt)
    return _spec_word(furnace.spec, outlook, now) if outlook is not None else _NOTHING_ODD


def _spec_word(spec: SlabSpec, outlook: SlabOutlook, now: datetime) -> Word:
    """COLD, HOT, UNEVEN or OUT OF SPEC with a question mark, or nothing odd."""
    chance = outlook.in_spec_chance
    if not math.isfinite(chance) or chance >= IN_SPEC_WANTED:
        return _NOTHING_ODD
    low_c, high_c = spec.mean_c
    reason = (
        f"In spec with {text.percent(chance)}; predicted {outlook.mean_c:.0f} °C of {low_c:g} to "
        f"{high_c:g} °C, {outlook.difference_k:.0f} K from face to core of {spec.difference_k:g} K."
    )
    said = _likeliest(spec, outlook)
    if outlook.leaves_at > now + MARKED_AHEAD:
        return Word(said, Level.CALM, f"{reason} Plans to come still act on it.")
    return Word(said, Level.ATTENTION, reason)


def _likeliest(spec: SlabSpec, outlook: SlabOutlook) -> str:
    """What most of the chance to miss the spec is made of; no word where nothing stands out."""
    missed = 1.0 - outlook.in_spec_chance
    hot = 0.0
    if outlook.sd_k > 0.0:
        hot = 0.5 * math.erfc((spec.mean_c[1] - outlook.mean_c) / (math.sqrt(2.0) * outlook.sd_k))
    shares = {
        "COLD?": outlook.cold_chance,
        "HOT?": hot,
        "UNEVEN?": missed - outlook.cold_chance - hot,
    }
    said = max(shares, key=lambda word: shares[word])
    return said if shares[said] >= 0.5 * missed else "OUT OF SPEC?"


def _known(state: PlantState, tag: str) -> float:
    value = state.value(tag)
    return math.nan if value is None else value
