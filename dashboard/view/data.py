"""The data path as people see it: figures, sources, gaps, tags that bring nothing, late values.

Grey where all is well; a word is coloured only where somebody should look.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from connectors.progress import SourceProgress, SourceState
from dashboard.collecting import (
    NOT_PROTECTED,
    Collecting,
    gap_state,
    readings_in_words,
    security_in_words,
)
from dashboard.view import text
from dashboard.view.tags import Level, Word, status_words
from twin.historian import Gap
from twin.plant import Plant, Source
from twin.records import PlantState, TagState

#: One figure: label, word, small print.
Figure = tuple[str, Word, str]

_GAPS_SHOWN = 30
_TAGS_SHOWN = 100
_NOBODY = "No collecting process tells of it."


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One source, all of it text; `under` says which of its tags bring nothing, and why."""

    name: str
    address: str
    state: Word
    security: Word
    publish: str
    reading: str
    rate: str
    gaps: str
    reconnects: str
    under: str


@dataclass(frozen=True, slots=True)
class GapRow:
    """One stretch without readings."""

    begins: str
    ends: str
    lasts: str
    about: str
    reason: str
    state: Word


@dataclass(frozen=True, slots=True)
class ComingRow:
    """One tag that is not as it should be, or whose values come late."""

    name: str
    description: str
    words: tuple[Word, ...]
    came: str
    limit: str


def figures(found: Collecting) -> list[Figure]:
    """What is stored, what waits, what is missing."""
    progress = found.progress
    size = f"{found.database}, {found.size_bytes / 1e6:,.1f} MB"
    shown: list[Figure] = [("Stored", Word(readings_in_words(found.readings)), f"readings; {size}")]
    if progress is not None:
        rate = sum(source.readings_per_s for source in progress.sources)
        shown.append(("Coming in", Word(f"{rate:,.1f} /s"), "readings of all sources"))
        spool = progress.spool
        waiting = Word(f"{spool.rows:,}" if spool.rows else "empty")
        if spool.is_high:
            waiting = Word(waiting.text, Level.ALARM, "Bring the database back.")
        quota = f"{text.percent(spool.share)} of {spool.quota_bytes / 1e6:,.0f} MB"
        shown.append(("Spool", waiting, f"readings that wait for the database; {quota}"))
        aside = Word(f"{spool.quarantined_rows:,}")
        if spool.quarantined_rows:
            aside = Word(aside.text, Level.ATTENTION, "The audit says why.")
        shown.append(("Set aside", aside, "readings that the database takes never"))
    level = Level.ATTENTION if found.gaps_open else Level.CALM
    open_ones = Word(f"{found.gaps_open:,}", level)
    shown.append(("Open gaps", open_ones, f"{found.gaps_filled:,} filled"))
    share = progress.backfill_share if progress is not None else None
    filling = Word("none" if share is None else text.percent(share))
    shown.append(("Backfill", filling, "of a gap, read from a source's history"))
    return shown


def troubles(plant: Plant, found: Collecting) -> list[tuple[str, str, Level]]:
    """What somebody must know at once: title, text, level; nothing where all is well."""
    progress, upkeep = found.progress, found.upkeep_trouble
    shown: list[tuple[str, str, Level]] = []
    if upkeep is not None:
        told = f"Since {text.date_time(upkeep.at, plant)}: {upkeep.message} Collecting goes on."
        shown.append(("The historian's upkeep fails", told, Level.ATTENTION))
    if progress is None:
        ago = (
            f" Its last sign was {text.duration(found.told_age_s)} ago." if found.told_age_s else ""
        )
        told = f"No collecting process tells of {plant.plant}.{ago} See `plantwright collect`."
        return [("Nothing is collected, as far as we know", told, Level.ALARM), *shown]
    if progress.waits_for:
        shown.append(("Another process collects", progress.waits_for, Level.ATTENTION))
    if progress.spool.losing:
        shown.append(("Readings are being lost", progress.spool.losing, Level.ALARM))
    if progress.database_trouble:
        kept = "What comes waits on the disk of the spool."
        told = f"{progress.database_trouble} {kept}"
        shown.append(("The database is away", told, Level.ALARM))
    if progress.spool.trouble:
        shown.append(("The spool cannot be written", progress.spool.trouble, Level.ALARM))
    shown += [
        (f"Security of {source.name}", source.security, Level.ATTENTION)
        for source in progress.sources
        if source.security
    ]
    return shown


def source_rows(plant: Plant, found: Collecting) -> list[SourceRow]:
    """A row for every source of the plant, the main one first."""
    return [_source_row(source, found) for source in plant.all_sources]


def gap_rows(plant: Plant, gaps: Iterable[Gap]) -> list[GapRow]:
    """The newest gaps that are not filled, then the newest that are, up to a screenful."""
    sorted_ = sorted(gaps, key=lambda gap: gap.is_filled)  # keeps the order among equals
    return [_gap_row(plant, gap) for gap in sorted_[:_GAPS_SHOWN]]


def coming_rows(plant: Plant, state: PlantState) -> tuple[list[ComingRow], list[ComingRow]]:
    """Tags whose readings are stale, bad or missing; and usable ones whose values come late."""
    wrong: list[ComingRow] = []
    late: list[ComingRow] = []
    for tag in plant.tags:
        known = state.tags.get(tag.name)
        words = tuple(w for w in status_words(tag, known) if w.text in _NOTHING_USABLE)
        came = text.came(known) if known is not None else ""
        limit = f"at most {text.duration(tag.max_age_s)} old"
        row = ComingRow(tag.name, tag.description, words, came or _age(known), limit)
        if words:
            wrong.append(row)
        elif came:
            late.append(row)
    return wrong[:_TAGS_SHOWN], late[:_TAGS_SHOWN]


_NOTHING_USABLE = ("NO DATA", "BAD", "STALE", "UNCERTAIN")

_STATES = {
    SourceState.LIVE: Level.CALM,
    SourceState.CONNECTING: Level.ATTENTION,
    SourceState.STOPPED: Level.ATTENTION,
    SourceState.FROZEN: Level.ALARM,
    SourceState.LOST: Level.ALARM,
}


def _source_row(source: Source, found: Collecting) -> SourceRow:
    told = found.source(source.name)
    protection = security_in_words(source, found.certificate_days)
    warning = told.security if told is not None else ""
    is_doubtful = bool(warning) or protection.startswith(NOT_PROTECTED)
    return SourceRow(
        name=source.name,
        address=told.address if told is not None else source.address,
        state=_state_word(told),
        security=Word(protection, Level.ATTENTION if is_doubtful else Level.CALM, warning),
        publish=text.duration(told.last_publish_age_s if told else None),
        reading=text.duration(told.last_reading_age_s if told else None),
        rate=f"{told.readings_per_s:,.1f} /s" if told else text.NOTHING,
        gaps=str(told.gaps_open) if told else text.NOTHING,
        reconnects=str(told.reconnects) if told else text.NOTHING,
        under=_under(told),
    )


def _state_word(told: SourceProgress | None) -> Word:
    if told is None:
        return Word("unknown", Level.ATTENTION, _NOBODY)
    if told.state is SourceState.LIVE and not told.is_healthy:
        return Word("live, in part", Level.ATTENTION, _under(told))
    return Word(told.state.value, _STATES[told.state], told.reason)


def _under(told: SourceProgress | None) -> str:
    if told is None:
        return ""
    parts = [told.reason] if told.reason else []
    silent = [tag for tag in told.silent if tag not in told.faulty]
    for tags, meaning in ((told.faulty, "cannot be read"), (silent, "bring nothing")):
        if tags:
            shown = ", ".join(tags[:5]) + (f" and {len(tags) - 5} more" if len(tags) > 5 else "")
            parts.append(f"{meaning}: {shown}")
    return "; ".join(parts)


def _gap_row(plant: Plant, gap: Gap) -> GapRow:
    state = gap_state(gap)
    lasts_s = (gap.ended_at - gap.started_at).total_seconds() if gap.ended_at else None
    return GapRow(
        begins=text.date_time(gap.started_at, plant),
        ends=text.date_time(gap.ended_at, plant) if gap.ended_at else "still",
        lasts=text.duration(lasts_s),
        about=gap.tag or gap.source or "all sources",
        reason=gap.reason,
        state=Word(state, Level.CALM if gap.is_filled else Level.ATTENTION),
    )


def _age(known: TagState | None) -> str:
    return f"sampled {text.duration(known.source_age_s)} ago" if known is not None else text.NOTHING
