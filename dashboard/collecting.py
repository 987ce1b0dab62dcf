"""How the data path stands: sources, spool, gaps and database, for `status` and the page.

The collector tells of its links with every beat; gaps and readings are the historian's. What it
told last is no news once it is silent, and is then left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from connectors.progress import Progress, SourceProgress, SourceState
from connectors.security.certificates import days_left
from connectors.security.own import COLLECT, kept_identity
from dashboard.facts import COLLECTOR
from dashboard.upkeep_record import standing_trouble
from dashboard.view import text
from twin.errors import SecurityFault
from twin.historian import Event, Gap, Historian, ProcessBeat
from twin.plant import MqttSource, OpcUaSource, Plant, Source

#: How a link is called that neither encrypts nor signs.
NOT_PROTECTED = "not protected"

# A collector beats once a second; a busy disk may hold it up.
_SILENT = timedelta(seconds=20)
_GAPS_TOLD = 50  # so many of the newest, and of the newest not filled: a link can leave thousands
_COUNTED = 100_000  # a page redraws every second: no further are readings counted, for some ms


@dataclass(frozen=True)
class Collecting:
    """The data path at one moment.

    `progress` is what a living collector told last, `told_age_s` wall seconds ago; None where none
    tells. `gaps`: the newest of the `gaps_open`, which are not filled, and of the `gaps_filled`,
    newest first. `readings`: None where there are more than are counted here. `database` is the
    kind of database. `certificate_days`: until our own certificate expires, None where there is
    none or it cannot be read. `upkeep_trouble`: why the historian's upkeep fails.
    """

    progress: Progress | None
    told_age_s: float | None
    gaps: Sequence[Gap]
    gaps_open: int
    gaps_filled: int
    readings: int | None
    database: str
    size_bytes: int
    certificate_days: float | None
    upkeep_trouble: Event | None

    def source(self, name: str) -> SourceProgress | None:
        """What the collector tells of one source."""
        sources = self.progress.sources if self.progress is not None else ()
        return next((each for each in sources if each.name == name), None)


def read_collecting(
    historian: Historian, plant: Plant, wall_now: datetime, database_url: str, state_dir: Path
) -> Collecting:
    """Read how the data path stands, in a time that does not grow with the years."""
    beat = next((b for b in historian.processes(plant) if b.name == COLLECTOR), None)
    is_news = beat is not None and wall_now - beat.at <= _SILENT
    readings = historian.count_up_to(plant, _COUNTED + 1)
    told_age_s = (wall_now - beat.at).total_seconds() if beat is not None else None
    return Collecting(
        progress=_told(beat, told_age_s or 0.0) if beat is not None and is_news else None,
        told_age_s=told_age_s,
        gaps=_newest_gaps(historian, plant),
        gaps_open=sum(historian.count_unfilled(plant).values()),
        gaps_filled=historian.count_filled(plant),
        readings=readings if readings <= _COUNTED else None,
        database="PostgreSQL" if database_url.startswith("postgresql") else "SQLite",
        size_bytes=historian.size_bytes(),
        certificate_days=_certificate_days(plant, state_dir / "pki", wall_now),
        upkeep_trouble=standing_trouble(historian, plant),
    )


def _told(beat: ProcessBeat, age_s: float) -> Progress | None:
    """What a beat tells, its ages as they are now."""
    progress = Progress.of_text(beat.detail)
    if progress is None:
        return None
    sources = [
        replace(
            each,
            last_publish_age_s=_older(each.last_publish_age_s, age_s),
            last_reading_age_s=_older(each.last_reading_age_s, age_s),
        )
        for each in progress.sources
    ]
    return replace(progress, sources=tuple(sources))


def _older(age_s: float | None, by_s: float) -> float | None:
    return None if age_s is None else age_s + max(0.0, by_s)


def readings_in_words(readings: int | None) -> str:
    """How many readings are stored, as far as they are counted (`Collecting.readings`)."""
    return f"more than {_COUNTED:,}" if readings is None else f"{readings:,}"


def security_in_words(source: Source, certificate_days: float | None) -> str:
    """How a link is protected, as the plant file says it, and how long our certificate lasts."""
    if isinstance(source, MqttSource):
        kind = "TLS" if source.broker.startswith("mqtts:") else NOT_PROTECTED
        return f"{kind}, login {source.login}"
    security = source.security
    if security.is_none:
        return NOT_PROTECTED
    days = "" if certificate_days is None else f", our certificate {certificate_days:.0f} d"
    return f"{security.policy} {security.mode}, login {security.login}{days}"


def gap_state(gap: Gap) -> str:
    """filled, cannot be filled, being filled, or open."""
    if gap.is_filled:
        return "filled"
    if gap.cannot_be_filled:
        return "cannot be filled"
    return "being filled" if gap.filled_until is not None else "open"


def collecting_record(plant: Plant, found: Collecting) -> dict[str, Any]:
    """Everything as one record; ages in seconds, times aware UTC. What is not known is None."""
    progress, upkeep = found.progress, found.upkeep_trouble
    return {
        "database": {
            "kind": found.database,
            "bytes": found.size_bytes,
            "readings": found.readings,
            "trouble": progress.database_trouble if progress is not None else None,
        },
        "waits_for": progress.waits_for if progress is not None else None,
        "sources": [_source_record(source, found) for source in plant.all_sources],
        "spool": None
        if progress is None
        else {**asdict(progress.spool), "share": round(progress.spool.share, 4)},
        "backfill_share": progress.backfill_share if progress is not None else None,
        "upkeep": None if upkeep is None else {"fails_since": upkeep.at, "trouble": upkeep.message},
        "gaps": {
            "open": found.gaps_open,
            "filled": found.gaps_filled,
            "more": found.gaps_open + found.gaps_filled - len(found.gaps),
            "newest": [
                {
                    "from": gap.started_at,
                    "to": gap.ended_at,
                    "source": gap.source,
                    "tag": gap.tag,
                    "reason": gap.reason,
                    "state": gap_state(gap),
                    "filled_until": gap.filled_until,
                }
                for gap in found.gaps
            ],
        },
    }


def collecting_lines(record: Mapping[str, Any]) -> Iterable[str]:
    """The record as lines for people."""
    database, gaps, spool = record["database"], record["gaps"], record["spool"]
    size_mb = database["bytes"] / 1e6
    stored = readings_in_words(database["readings"])
    yield f"stored: {stored} readings; {database['kind']} has {size_mb:,.1f} MB"
    if database["trouble"]:
        yield f"database, AWAY: {database['trouble']}"
    if record["upkeep"]:
        since = f"{record['upkeep']['fails_since']:%Y-%m-%d %H:%M} UTC"
        yield f"upkeep, FAILING since {since}: {record['upkeep']['trouble']}"
    if record["waits_for"]:
        yield f"collecting: waits for {record['waits_for']}, which collects this plant"
    for source in record["sources"]:
        yield from _source_lines(source)
    if spool is not None and spool["quota_bytes"]:
        yield from _spool_lines(spool)
    share = record["backfill_share"]
    filling = "" if share is None else f"; {text.percent(share)} of one is read from the history"
    yield f"gaps: {gaps['open']} open, {gaps['filled']} filled{filling}"


def _source_record(source: Source, found: Collecting) -> dict[str, Any]:
    told = found.source(source.name)
    known = asdict(told) if told is not None else {"state": None, "reason": ""}
    return {
        **known,
        "name": source.name,
        "kind": source.kind,
        "address": told.address if told is not None else source.address,
        "protection": security_in_words(source, found.certificate_days),
        "warning": told.security if told is not None else "",
    }


def _source_lines(source: Mapping[str, Any]) -> Iterable[str]:
    state = source["state"]
    named = f"source {source['name']}: {source['address']}"
    if state is None:
        yield f"{named}: unknown, no collecting process tells of it"
    else:
        shown = state if state == SourceState.LIVE else str(state).upper()
        why = f" ({source['reason']})" if source["reason"] else ""
        yield (
            f"{named}: {shown}{why}; last publish {_ago(source['last_publish_age_s'])}, "
            f"{source['readings_per_s']:g} readings/s, {source['gaps_open']} open gaps, "
            f"{source['reconnects']} reconnects"
        )
        for key, meaning in (("faulty", "cannot be read"), ("silent", "bring nothing")):
            if source[key]:
                yield f"source {source['name']} has tags that {meaning}: {', '.join(source[key])}"
    yield f"source {source['name']}, security: {source['protection']}"
    if source["warning"]:
        yield f"source {source['name']}, WARNING: {source['warning']}"


def _spool_lines(spool: Mapping[str, Any]) -> Iterable[str]:
    used = f"{text.percent(spool['share'])} of {spool['quota_bytes'] / 1e6:,.0f} MB"
    waits = f"{spool['rows']:,} readings wait" if spool["rows"] else "nothing waits"
    yield f"spool: {waits}, {used}{'; HIGH WATER' if spool['is_high'] else ''}"
    if spool["quarantined_rows"]:
        yield (
            f"spool, SET ASIDE: {spool['quarantined_rows']:,} readings that the database refuses; "
            "see `plantwright quarantine`"
        )
    for key in ("trouble", "losing"):
        if spool[key]:
            yield f"spool, {key.upper()}: {spool[key]}"


def _ago(age_s: float | None) -> str:
    return "not yet" if age_s is None else f"{text.duration(age_s)} ago"


def _newest_gaps(historian: Historian, plant: Plant) -> list[Gap]:
    """The newest gaps and the newest that are not filled, newest first."""
    unfilled = historian.gaps(plant, unfilled=True, newest=_GAPS_TOLD)
    found = {*unfilled, *historian.gaps(plant, newest=_GAPS_TOLD)}
    return sorted(found, key=lambda gap: (gap.started_at, gap.source, gap.tag or ""), reverse=True)


def _certificate_days(plant: Plant, pki: Path, wall_now: datetime) -> float | None:
    has_own = any(isinstance(s, OpcUaSource) and not s.security.is_none for s in plant.all_sources)
    if not has_own:
        return None
    try:
        return days_left(kept_identity(pki, COLLECT).certificate, wall_now)
    except SecurityFault:
        return None
