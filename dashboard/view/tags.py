"""One row per tag: value, setpoint, limits, target, next move, status words and age.

Works on a judged PlantState; it never judges freshness or quality itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from dashboard.view import text
from twin.plant import Plant, Role, Tag
from twin.records import PlantState, Proposal, ProposalStatus, Stage, TagState


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
    """One tag as the overview shows it, all of it text; `level` is the worst of `words`."""

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
    written: Mapping[str, float] | None = None,
) -> tuple[TagRow, ...]:
    """A row for every tag of the plant, in file order.

    `newest` is the newest proposal: its plan gives targets, and, while it is open, next moves.
    `written` holds what we last wrote to each MV, shown as its setpoint while it is in REMOTE.
    """
    return tuple(_row(plant, tag, state, stages, newest, written or {}) for tag in plant.tags)


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
        return Word("REMOTE")
    if round(mode) == tag.remote.auto:
        return Word("AUTO")
    return Word(f"MODE {mode:g}", Level.ATTENTION, f"{tag.remote.tag} has an undeclared value.")


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
    newest: Proposal | None,
    written: Mapping[str, float],
) -> TagRow:
    known = state.tags.get(tag.name)
    words = status_words(tag, known)
    setpoint = text.NOTHING
    if tag.role is Role.MV:
        mode = mode_word(plant, tag, state)
        stage = stages.get(tag.name, Stage.ADVISORY)
        words += tuple(w for w in (mode, Word(stage.value.upper())) if w is not None)
        if mode is not None and mode.text == "REMOTE":
            setpoint = text.number(written.get(tag.name), tag.decimals)
        elif mode is not None and mode.text == "AUTO":
            setpoint = "PLC"
    return TagRow(
        name=tag.name,
        role=tag.role,
        description=tag.description,
        unit=text.unit_label(tag.unit),
        value=text.number(known.value if known else None, tag.decimals),
        setpoint=setpoint,
        operator=text.span(tag.operator, tag.decimals),
        engineering=text.span(tag.engineering, tag.decimals),
        next_move=_next_move(tag, newest),
        target=_target(tag, newest),
        words=words,
        age=text.duration(known.source_age_s if known else None),
    )


def _next_move(tag: Tag, newest: Proposal | None) -> str:
    if newest is None or newest.status is not ProposalStatus.OPEN:
        return text.NOTHING
    proposed, current = newest.setpoints.get(tag.name), newest.current.get(tag.name)
    if proposed is None or current is None:
        return text.NOTHING
    return f"{text.signed(proposed - current, tag.decimals)} → " + text.number(
        proposed, tag.decimals
    )


def _target(tag: Tag, newest: Proposal | None) -> str:
    if newest is None:
        return text.NOTHING
    path = newest.plan.moves.get(tag.name)
    if path is None:
        path = newest.plan.predicted.get(tag.name)
    return (
        text.number(float(path[-1]), tag.decimals)
        if path is not None and len(path)
        else (text.NOTHING)
    )
