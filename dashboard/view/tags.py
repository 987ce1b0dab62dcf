"""One row per tag: value, setpoint, limits, target, next move, status words and age.

Works on a judged PlantState; it never judges freshness or quality itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from dashboard.view import kinds, text
from twin.plant import Plant, Role, Tag
from twin.records import PlantState, Proposal, Stage, TagState

_AUTO, _REMOTE = "AUTO", "REMOTE"


class Level(StrEnum):
    """How much a thing asks for attention; everything but CALM is coloured on the screen."""

    CALM = "calm"
    ATTENTION = "attention"
    ALARM = "alarm"


@dataclass(frozen=True, slots=True)
class Word:
    """One status word, and why it stands there."""

    text: str
    level: Level = Level.CALM
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TagRow:
    """One tag as the overview shows it, all of it text; `level` is the worst of `words`.

    `came` says when a late value was sampled and when it arrived; empty where it came at once.
    """

    name: str
    role: Role
    description: str
    unit: str
    value: str
    setpoint: str
    operator: str
    engineering: str
    next_move: str
    target: str
    words: tuple[Word, ...]
    age: str
    came: str = ""

    @property
    def level(self) -> Level:
        """The worst level among the status words."""
        return worst(word.level for word in self.words)


def worst(levels: Iterable[Level]) -> Level:
    """The most urgent of some levels; CALM for none."""
    found = set(levels)
    return next((level for level in (Level.ALARM, Level.ATTENTION) if level in found), Level.CALM)


def tag_rows(
    plant: Plant,
    state: PlantState,
    stages: Mapping[str, Stage],
    newest: Proposal | None = None,
    opened: Proposal | None = None,
    written: Mapping[str, float] | None = None,
) -> tuple[TagRow, ...]:
    """A row for every tag of the plant, in file order.

    `newest` is the newest proposal: its plan gives targets until its horizon is over. `opened`
    is the one that waits for a decision: it gives next moves. `written` holds what we last wrote
    to each MV, shown as its setpoint while it is in REMOTE.
    """
    rows = []
    for tag in plant.tags:
        setpoint = _setpoint(plant, tag, state, written or {})
        target = _target(tag, newest, state.at)
        rows.append(
            _row(plant, tag, state, stages, setpoint, _next_move(tag, opened, state), target)
        )
    return tuple(rows)


def status_words(tag: Tag, known: TagState | None) -> tuple[Word, ...]:
    """NORMAL, or every reason to look: NO DATA, BAD, STALE, LOW, HIGH and their doubles.

    LOW LOW and HIGH HIGH mean outside the engineering limits.
    """
    if known is None or (known.value is None and known.source_time is None):
        return (Word("NO DATA", Level.ALARM, "No reading of this tag was ever stored."),)
    words = []
    if known.value is None or known.quality >> 30 == 2:
        words.append(Word("BAD", Level.ALARM, known.reason or "The source marks it as bad."))
    elif known.quality >> 30 == 1:
        words.append(Word("UNCERTAIN", Level.ATTENTION, known.reason))
    if known.source_age_s > tag.max_age_s or known.arrival_age_s > tag.max_age_s:
        words.append(Word("STALE", Level.ALARM, known.reason or f"Older than {tag.max_age_s:g} s."))
    if known.value is not None:
        words += _limit_words(tag, known.value)
    if not words and not known.is_usable:
        words.append(Word("BAD", Level.ALARM, known.reason))
    return tuple(words) or (Word("NORMAL"),)


def mode_word(plant: Plant, tag: Tag, state: PlantState) -> Word | None:
    """AUTO (the plant's own control) or REMOTE (our setpoint), as the plant reports it."""
    if tag.remote is None:
        return None
    mode = state.value(tag.remote.tag)
    if mode is None:
        return Word("MODE?", Level.ATTENTION, f"{tag.remote.tag} is not known.")
    if round(mode) == tag.remote.remote:
        return Word(_REMOTE)
    if round(mode) == tag.remote.auto:
        return Word(_AUTO)
    return Word(f"MODE {mode:g}", Level.ATTENTION, f"{tag.remote.tag} has an undeclared value.")


def is_remote(plant: Plant, tag: Tag, state: PlantState) -> bool:
    """Whether an MV reads REMOTE: it stands at our setpoint."""
    mode = mode_word(plant, tag, state)
    return mode is not None and mode.text == _REMOTE


def _limit_words(tag: Tag, value: float) -> list[Word]:
    for limits, double, level in (
        (tag.engineering, True, Level.ALARM),
        (tag.operator, False, Level.ATTENTION),
    ):
        if limits is None or limits.holds(value):
            continue
        side = "LOW" if limits.low is not None and value < limits.low else "HIGH"
        kind = "engineering" if double else "operator"
        reason = f"Outside its {kind} limits {text.span(limits, tag.decimals)}."
        return [Word(f"{side} {side}" if double else side, level, reason)]
    return []


def _row(
    plant: Plant,
    tag: Tag,
    state: PlantState,
    stages: Mapping[str, Stage],
    setpoint: str,
    next_move: str,
    target: str,
) -> TagRow:
    known = state.tags.get(tag.name)
    words = status_words(tag, known)
    value, unit = text.number(known.value if known else None, tag.decimals), tag.unit
    if tag.name in kinds.moment_tags(plant):
        value, unit = kinds.moment_in_words(known.value if known else None, state.at, plant), ""
    if tag.role is Role.MV:
        mode, stage = mode_word(plant, tag, state), stages.get(tag.name)
        staged = Word("NO STAGE", Level.ATTENTION) if stage is None else Word(stage.value.upper())
        words += (staged,) if mode is None else (mode, staged)
    return TagRow(
        name=tag.name,
        role=tag.role,
        description=tag.description,
        unit=unit,
        value=value,
        setpoint=setpoint,
        operator=text.span(tag.operator, tag.decimals),
        engineering=text.span(tag.engineering, tag.decimals),
        next_move=next_move,
        target=target,
        words=words,
        age=text.duration(known.source_age_s if known else None),
        came=text.came(known) if known else "",
    )


def _setpoint(plant: Plant, tag: Tag, state: PlantState, written: Mapping[str, float]) -> str:
    if is_remote(plant, tag, state):
        return text.number(written.get(tag.name), tag.decimals)
    mode = mode_word(plant, tag, state)
    return "PLC" if mode is not None and mode.text == _AUTO else text.NOTHING


def _next_move(tag: Tag, opened: Proposal | None, state: PlantState) -> str:
    proposed = opened.setpoints.get(tag.name) if opened is not None else None
    current = state.value(tag.name)
    if proposed is None or current is None:
        return text.NOTHING
    change = text.signed(proposed - current, tag.decimals)
    return f"{change} → {text.number(proposed, tag.decimals)}"


def _target(tag: Tag, newest: Proposal | None, now: datetime) -> str:
    if newest is None:
        return text.NOTHING
    plan = newest.plan
    path = plan.moves.get(tag.name, plan.predicted.get(tag.name))
    if path is None or not len(path):
        return text.NOTHING
    ends_at = plan.start + timedelta(seconds=plan.step_s * len(path))
    return text.number(float(path[-1]), tag.decimals) if now < ends_at else text.NOTHING
