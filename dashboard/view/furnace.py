"""What the furnace's page shows of zones, mill and discharge door, from the newest readings.

Slabs are `dashboard.view.slabs`'. Nothing here tracks a slab or predicts anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from dashboard.view import text
from dashboard.view.slabs import SlabPlace, measured, slab_places, to_look_at
from dashboard.view.tags import Level, Word, mode_word, status_words, worst
from twin.historian import Event
from twin.plant import Plant
from twin.plant.furnace import Furnace, Mill
from twin.records import Forecast, PlantState, Proposal

_OLD = timedelta(minutes=30)  # chosen: an outlook this old has missed several rounds


@dataclass(frozen=True, slots=True)
class ZoneShown:
    """A zone from `begins` to `ends` (shares of the furnace's length); all else is text."""

    name: str
    begins: float
    ends: float
    temperature: str
    setpoint: str
    fuel: str
    mode: str
    word: Word


@dataclass(frozen=True, slots=True)
class FurnaceShown:
    """One refresh of the furnace: `slabs` in the order in which they leave, then the yard."""

    slabs: tuple[SlabPlace, ...]
    zones: tuple[ZoneShown, ...]
    mill: Word
    interlock: Word
    left: Word
    left_small: str
    fuel: Word
    fuel_small: str
    outlook: Word
    outlook_small: str
    faults: Word
    faults_small: str


def newest_forecast(proposals: Iterable[Proposal]) -> Forecast | None:
    """The newest stored forecast that names slabs; refused proposals carry none."""
    forecasts = (each.forecast for each in proposals)
    return next((each for each in forecasts if each is not None and each.slabs), None)


def shown(
    plant: Plant,
    furnace: Furnace,
    state: PlantState,
    forecast: Forecast | None,
    faults: Sequence[Event] = (),
) -> FurnaceShown:
    """Everything the page shows of the furnace; `faults` stand by the record."""
    left, left_small = _left(plant, furnace, state)
    fuel, fuel_small = _fuel(plant, furnace, state)
    outlook, outlook_small = _outlook(plant, forecast, state.at)
    told, told_small = _faults(plant, faults)
    return FurnaceShown(
        slabs=slab_places(furnace, state, forecast),
        zones=_zones(plant, furnace, state),
        mill=mill_word(furnace, plant.mill, state),
        interlock=interlock_word(furnace, state),
        left=left,
        left_small=left_small,
        fuel=fuel,
        fuel_small=fuel_small,
        outlook=outlook,
        outlook_small=outlook_small,
        faults=told,
        faults_small=told_small,
    )


def figures(seen: FurnaceShown) -> list[tuple[str, Word, str]]:
    """The row above the picture: label, value, small print."""
    return [
        ("Mill", seen.mill, seen.mill.reason),
        ("Discharge door", seen.interlock, seen.interlock.reason),
        ("Left last", seen.left, seen.left_small),
        ("Fuel", seen.fuel, seen.fuel_small),
        ("Slabs", *to_look_at(seen.slabs)),
        ("Outlook of slabs", seen.outlook, seen.outlook_small),
        ("Records and instruments", seen.faults, seen.faults_small),
    ]


def fault_rows(plant: Plant, faults: Sequence[Event]) -> list[tuple[str, str, str]]:
    """The list of faults: since when, what about, what is wrong."""
    return [
        (text.date_time(each.at, plant), each.subject, text.told(each.message, plant))
        for each in faults
    ]


def mill_word(furnace: Furnace, mill: Mill | None, state: PlantState) -> Word:
    """What the mill does: "runs 195 t/h" or "stopped 12 min ago, 25 more expected"."""
    running = state.value(mill.running) if mill is not None else None
    if mill is None or running is None:
        return Word("unknown", Level.ATTENTION, "Nothing says whether the mill rolls.")
    if running >= 0.5:
        rate = state.value(furnace.slot_tag(furnace.slots, "rate"))
        pace = state.value(mill.pace)
        return Word("runs" if rate is None or pace is None else f"runs {rate * pace:.0f} t/h")
    since, restart = _moment(state, mill.stopped_at), _moment(state, mill.expected_restart)
    if since is None:
        return Word("stopped", Level.ATTENTION, "Nothing says since when.")
    said = f"stopped {_minutes(state.at - since)} min ago"
    if restart is None:
        return Word(said, Level.ATTENTION, "Its crew does not say for how long.")
    late = _minutes(state.at - restart)
    more = f"{-late} more expected" if late <= 0 else f"expected back {late} min ago"
    return Word(f"{said}, {more}", Level.ATTENTION, "Expected by its crew.")


def interlock_word(furnace: Furnace, state: PlantState) -> Word:
    """Whether the plant holds a slab back as too cold."""
    holding = state.value(furnace.interlock)
    if holding is None:
        return Word("unknown", Level.ATTENTION, f"{furnace.interlock} is not known.")
    if holding < 0.5:
        return Word("holds no slab back")
    reason = (
        f"The plant's own tracker takes it to be below {furnace.hold_below_c:g} °C; it is held "
        f"for {furnace.hold_longest_min:g} min at most."
    )
    return Word("holds a slab back as too cold", Level.ATTENTION, reason)


def _zones(plant: Plant, furnace: Furnace, state: PlantState) -> tuple[ZoneShown, ...]:
    begins, found = 0.0, []
    for place, zone in enumerate(furnace.zones, start=1):
        mode = mode_word(plant, plant.tag(zone.setpoint), state)
        names = (zone.temperature, zone.setpoint, zone.fuel)
        odd = [
            (name, word)
            for name in names
            for word in status_words(plant.tag(name), state.tags.get(name))
            if word.level is not Level.CALM
        ]
        level = worst(word.level for _, word in odd)
        found.append(
            ZoneShown(
                name=f"Zone {place}",
                begins=begins,
                ends=zone.ends_at,
                temperature=_shown(plant, state, zone.temperature),
                setpoint=_shown(plant, state, zone.setpoint),
                fuel=_shown(plant, state, zone.fuel),
                mode=mode.text if mode is not None else "",
                word=Word(
                    ", ".join(word.text for _, word in odd),
                    level,
                    " ".join(f"{name}: {word.text}. {word.reason}" for name, word in odd),
                ),
            )
        )
        begins = zone.ends_at
    return tuple(found)


def _left(plant: Plant, furnace: Furnace, state: PlantState) -> tuple[Word, str]:
    """How hot the slab was that left last, and which it was."""
    number = state.value(furnace.discharged)
    known = state.tags.get(furnace.pyrometer)
    odd = [w for w in status_words(plant.tag(furnace.pyrometer), known) if w.level != Level.CALM]
    small = f"slab {number:.0f}, by the pyrometer" if number else "by the pyrometer"
    shown_c = _shown(plant, state, furnace.pyrometer)
    if not odd:
        return Word(shown_c), small
    reason = " ".join(word.reason for word in odd)
    words = ", ".join(word.text for word in odd)
    return Word(shown_c, worst(word.level for word in odd), reason), f"{small}: {words}"


def _fuel(plant: Plant, furnace: Furnace, state: PlantState) -> tuple[Word, str]:
    """What is burned, and how much the header gives."""
    odd = status_words(plant.tag(furnace.fuel), state.tags.get(furnace.fuel))
    level = worst(word.level for word in odd)
    reason = " ".join(word.reason for word in odd)
    small = f"the header gives {furnace.header_mw:g} MW"
    return Word(_shown(plant, state, furnace.fuel), level, reason), small


def _outlook(plant: Plant, forecast: Forecast | None, now: datetime) -> tuple[Word, str]:
    if forecast is None:
        return Word("none yet"), "it comes with the first proposal that the gate clears"
    age = now - forecast.start
    small = f"with the plan of that time; model {forecast.model}"
    said = f"made {text.hour_minute(forecast.start, plant)}"
    if age <= _OLD:
        return Word(said), small
    reason = f"It is {text.duration(age.total_seconds())} old: no proposal was made since."
    return Word(said, Level.ATTENTION, reason), f"{text.duration(age.total_seconds())} old; {small}"


def _faults(plant: Plant, faults: Sequence[Event]) -> tuple[Word, str]:
    if not faults:
        return Word("no fault"), "nothing contradicts itself or the beam"
    newest = faults[-1]
    small = f"since {text.hour_minute(newest.at, plant)}: {text.told(newest.message, plant)}"
    reason = " ".join(text.told(each.message, plant) for each in faults)
    count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
    return Word(count, Level.ATTENTION, reason), small


def _shown(plant: Plant, state: PlantState, name: str) -> str:
    tag, value = plant.tag(name), state.last_known(name)
    return measured(text.number(value, tag.decimals), tag.unit)


def _moment(state: PlantState, tag: str) -> datetime | None:
    """A moment that the plant tells in s since 1970; 0 is none."""
    told_s = state.value(tag)
    return datetime.fromtimestamp(told_s, UTC) if told_s else None


def _minutes(span: timedelta) -> int:
    return round(span.total_seconds() / 60)
