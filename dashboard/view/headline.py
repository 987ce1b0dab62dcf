"""The line above every page: plant time, mode, ages, connection, stop.

Works on plain facts already read; it reads no clock and no database.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from dashboard.view import text
from dashboard.view.kinds import is_planned
from dashboard.view.tags import Level, Word, mode_word
from twin.plant import Plant, Role
from twin.records import PlantState, Stage

# Chosen: several missed beats of a loop that beats by the wall, and patience for a busy disk.
_SILENT_S = 20.0
# The planner beats once a plant step.
_SILENT_STEPS = 2.5
# Rounds that may be missed before the headline says so: a training beside may slow one down.
_LATE_STEPS, _LATE_ROUNDS = 10, 3


#: What a stop means that was not set here.
STOPPED_AT_PLANT = (
    "The plant's own stop is set, and not by Plantwright: nothing is written to the plant. "
    "Clear it at the plant; a release here does not."
)


@dataclass(frozen=True, slots=True)
class Item:
    """One fact of the headline: a label and a word that may be coloured."""

    label: str
    word: Word


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """One process: when it last said that it lives, in wall time."""

    name: str
    word: Word
    age: str
    detail: str


def headline(
    plant: Plant,
    state: PlantState,
    stages: Mapping[str, Stage],
    *,
    newest_reading: datetime | None,
    planned_at: datetime | None,
    link: str | None,
    processes: Iterable[ProcessRow],
    is_stopped: bool,
    is_stopped_at_plant: bool = False,
    is_starting: bool = False,
) -> list[Item]:
    """Mode, stage, connection, ages of data and planning, processes and stop, in reading order.

    While the processes are starting, what is not there yet is no fault.
    """
    has_readings = newest_reading is not None
    return [
        Item("Mode", _modes(plant, state) if has_readings else Word(text.NOTHING)),
        Item("Stage", _stages(plant, stages)),
        Item("Connection", link_word(link, is_starting)),
        Item("Data", _data_age(plant, state.at, newest_reading, is_starting)),
        Item("Planned", _plan_age(plant, state.at, planned_at, is_starting)),
        Item("Processes", _alive(list(processes), is_starting)),
        Item("Writing", stop_word(is_stopped, is_stopped_at_plant)),
    ]


def stop_word(is_stopped: bool, is_stopped_at_plant: bool = False) -> Word:
    """What the stop latch says, and the plant's own stop."""
    if is_stopped:
        return Word("STOPPED", Level.ALARM, "Nothing is written to the plant.")
    if is_stopped_at_plant:
        return Word("STOPPED AT THE PLANT", Level.ALARM, STOPPED_AT_PLANT)
    return Word("enabled")


def link_word(link: str | None, is_starting: bool = False) -> Word:
    """The collector's connection to the plant: live, live without some tags, or lost and why."""
    if is_starting and (link is None or link.startswith("lost")):
        return Word("starting", Level.CALM, link or "")
    if link is None:
        return Word("unknown", Level.ATTENTION, "The collector says nothing of its connection.")
    state, _, reason = link.partition(":")
    if state == "lost":
        return Word("lost", Level.ALARM, reason.strip())
    if ";" in link:
        return Word("live, in part", Level.ATTENTION, link)
    return Word(link)


def silent_after_s(plant: Plant, speed: float) -> float:
    """After how many wall seconds without a beat a process counts as silent."""
    return max(_SILENT_S, _SILENT_STEPS * plant.step_s / speed)


def process_row(
    name: str,
    at: datetime,
    told: Mapping[str, object],
    wall_now: datetime,
    silent_s: float,
    *,
    has_nothing_to_do: bool = False,
) -> ProcessRow:
    """How one process does, from its last beat and what it told with it.

    One that beats with its work and has done all of it so far is not silent but waits.
    """
    age_s = (wall_now - at).total_seconds()
    is_silent = age_s > silent_s
    word = Word(SILENT, Level.ALARM, "Is it running? See `plantwright status PLANT`.")
    if has_nothing_to_do:
        reason = "It has done its round for the newest reading, and says no more until one comes."
        word = Word(WAITS, Level.ATTENTION, reason)
    detail = ", ".join(
        _said(key, value)
        for key, value in told.items()
        if key not in _UNSAID and value is not None and value != ""
    )
    return ProcessRow(name, word if is_silent else Word("ALIVE"), text.duration(age_s), detail)


SILENT, WAITS = "SILENT", "waits for readings"

#: What is shown elsewhere on the page, or says nothing to a person.
_UNSAID = ("plant_now", "coverage90", "coverage_count", "sources", "spool", "security")


def _said(key: str, value: object) -> str:
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    return shown.rstrip(".") if key == "note" else f"{key.replace('_', ' ')} {shown}"


def _modes(plant: Plant, state: PlantState) -> Word:
    words = [w for tag in plant.with_role(Role.MV) if (w := mode_word(plant, tag, state))]
    if not words:
        return Word(text.NOTHING)
    return _counted(words)


def _stages(plant: Plant, stages: Mapping[str, Stage]) -> Word:
    words = [
        Word(stages[tag.name].value) if tag.name in stages else Word("unknown", Level.ATTENTION)
        for tag in plant.with_role(Role.MV)
    ]
    return _counted(words) if words else Word(text.NOTHING)


def _counted(words: list[Word]) -> Word:
    """One word if all agree, else how many say what."""
    texts = [word.text for word in words]
    level = max((w.level for w in words), key=[Level.CALM, Level.ATTENTION, Level.ALARM].index)
    reason = " ".join(word.reason for word in words if word.reason)
    if len(set(texts)) == 1:
        return Word(texts[0], level, reason)
    counts = ", ".join(f"{texts.count(t)} {t}" for t in dict.fromkeys(texts))
    return Word(counts, level, reason)


def _data_age(plant: Plant, now: datetime, newest: datetime | None, is_starting: bool) -> Word:
    if newest is None and is_starting:
        return Word("starting")
    if newest is None:
        return Word("no readings", Level.ALARM, "Is `plantwright collect PLANT` running?")
    age_s = (now - newest).total_seconds()
    longest_s = min((t.max_age_s for t in plant.tags if t.role in (Role.MV, Role.CV)), default=60.0)
    if age_s > longest_s and is_starting:
        return Word("starting", Level.CALM, f"The newest reading is {text.duration(age_s)} old.")
    if age_s > longest_s:
        reason = f"Older than {longest_s:g} s; nothing is decided on it. Check `collect`."
        return Word(f"{text.duration(age_s)} old", Level.ALARM, reason)
    return Word(f"{text.duration(age_s)} old")


def _plan_age(plant: Plant, now: datetime, planned_at: datetime | None, is_starting: bool) -> Word:
    if not is_planned(plant):
        return Word("never", Level.CALM, "Planning needs a physics.py; the plant file names none.")
    if planned_at is None:
        return Word("not yet", Level.CALM, "The first plan follows the first good readings.")
    age_s = (now - planned_at).total_seconds()
    round_s = plant.plan_every_steps * plant.step_s
    longest_s = max(_LATE_STEPS * plant.step_s, _LATE_ROUNDS * round_s)
    if age_s > longest_s and not is_starting:
        reason = f"A round is due every {round_s:g} s. See `plantwright status PLANT`."
        return Word(f"{text.duration(age_s)} ago", Level.ATTENTION, reason)
    return Word(f"{text.duration(age_s)} ago")


def _alive(rows: list[ProcessRow], is_starting: bool) -> Word:
    silent = [row.name for row in rows if row.word.text == SILENT]
    if is_starting and (silent or not rows):
        return Word("starting")
    if not rows:
        return Word("none seen", Level.ATTENTION, "No process has reported to this database.")
    if silent:
        return Word(f"{', '.join(silent)} {SILENT}", Level.ALARM, "See `plantwright status PLANT`.")
    waiting = [row for row in rows if row.word.text == WAITS]
    if waiting:
        names = ", ".join(row.name for row in waiting)
        return Word(f"{names} {WAITS}", Level.ATTENTION, waiting[0].word.reason)
    return Word(f"{len(rows)} alive")
