"""What `plantwright status` tells: processes, ages, gaps, model, stages, proposals.

What a process said last is no news once it is silent or gone, and is not told as if it were.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from connectors.stop import StopLatch
from dashboard.collecting import collecting_lines, collecting_record, read_collecting
from dashboard.facts import COLLECTOR, read_facts
from dashboard.given import legible
from dashboard.settings import Settings
from dashboard.view import text
from dashboard.view.headline import SILENT
from optimizer.fault_record import standing_faults
from twin.historian import Historian, ProcessBeat
from twin.plant import Plant

# A process may be between two beats, or be one of another machine that shares the file: only one
# that is both late and not there has ended. Every process but the planner beats within seconds.
_BEAT_IS_DUE_S = 5.0
_SHOWN = 3  # unusable tags in the text; all are in the record


def status_of(
    plant: Plant, settings: Settings, historian: Historian, wall_now: datetime
) -> dict[str, Any]:
    """Everything as one record; ages in seconds, times aware UTC. What is not known is None."""
    facts = read_facts(historian, plant, wall_now)
    collecting = collecting_record(
        plant,
        read_collecting(
            historian, plant, wall_now, settings.database_url(plant), settings.state_dir
        ),
    )
    model = historian.active_model(plant)
    unusable = [state.reason for state in facts.state.tags.values() if not state.is_usable]
    newest = facts.newest_reading
    silent = {row.name for row in facts.processes if row.word.text == SILENT}
    processes = [
        _process(beat, beat.name in silent, wall_now) for beat in historian.processes(plant)
    ]
    is_collecting = any(p["name"] == COLLECTOR and p["state"] == "alive" for p in processes)
    trust = facts.trust.coverage90 if facts.trust is not None else None
    return {
        "plant": plant.plant,
        "plant_time": facts.now,
        "speed": facts.speed,
        "stopped": StopLatch(settings.stop_latch(plant)).is_stopped(),
        "stopped_at_plant": facts.is_stopped_at_plant,
        "link": facts.link if is_collecting else None,
        "data_age_s": None if newest is None else _seconds(newest, facts.now),
        "readings_stored": collecting["database"]["readings"],
        "database_bytes": collecting["database"]["bytes"],
        "gaps_open": collecting["gaps"]["open"],
        "collecting": collecting,
        "tags": len(plant.tags),
        "unusable_tags": unusable,
        "faults": [
            {"since": each.at, "about": each.subject, "message": each.message}
            for each in standing_faults(historian, plant)
        ],
        "model": model.version if model is not None else "physics",
        "coverage90": None if trust is None else round(trust, 4),
        "stages": {mv: stage.value for mv, stage in facts.stages.items()},
        "open_proposal": facts.open.proposal_id if facts.open is not None else None,
        "proposals": {
            status.value: count for status, count in historian.proposal_counts(plant).items()
        },
        "unreadable": [f"{each.kind} {each.key}" for each in historian.unreadable(plant.plant)],
        "processes": processes,
    }


def status_text(record: Mapping[str, Any]) -> str:
    """The record as lines for people."""
    age, trust = record["data_age_s"], record["coverage90"]
    lines = {
        "plant": record["plant"],
        "plant time": _clock(record["plant_time"], record["speed"]),
        "stopped": _stopped(record),
        "link": record["link"] or "unknown: no collecting process tells of it",
        "newest reading": "none yet" if age is None else f"{text.duration(age)} old",
        "unusable tags": _unusable(record["unusable_tags"], record["tags"]),
        "model": record["model"],
        "trust": "not known yet"
        if trust is None
        else f"{text.percent(trust)} of the last plant hour inside the 90 % interval",
        "stages": _listed(record["stages"]),
        "open proposal": record["open_proposal"] or "none",
        "proposals": _listed({each: n for each, n in record["proposals"].items() if n}),
    }
    if record["faults"]:
        lines["faults"] = _faults(record["faults"])
    if record["unreadable"]:
        lines["unreadable rows"] = ", ".join(record["unreadable"])
    told = [f"{name}: {value}" for name, value in lines.items()]
    told += collecting_lines(record["collecting"])
    told += [_process_line(each) for each in record["processes"]]
    if not record["processes"]:
        told.append("processes: none has reported to this database")
    return "\n".join(legible(line) for line in told)


def _process(beat: ProcessBeat, is_silent: bool, wall_now: datetime) -> dict[str, Any]:
    age_s = _seconds(beat.at, wall_now)
    is_gone = age_s > _BEAT_IS_DUE_S and not _is_running(beat.pid)
    return {
        "name": beat.name,
        "state": "ended" if is_gone else "silent" if is_silent else "alive",
        "pid": beat.pid,
        "last_beat": beat.at,
        "beat_age_s": age_s,
        "detail": beat.detail,
    }


def _is_running(pid: int) -> bool:
    """Whether this machine has a process of that number."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _process_line(process: Mapping[str, Any]) -> str:
    ago = f"{text.duration(process['beat_age_s'])} ago"
    if process["state"] == "alive":
        return f"process {process['name']}: alive, pid {process['pid']}, last beat {ago}"
    since = f"{process['last_beat']:%Y-%m-%d %H:%M:%S} UTC, {ago}"
    why = "ENDED" if process["state"] == "ended" else f"SILENT (pid {process['pid']})"
    return f"process {process['name']}: {why}; last beat {since}"


def _seconds(since: datetime, now: datetime) -> float:
    return round((now - since).total_seconds(), 1)


def _clock(now: datetime, speed: float) -> str:
    shown = f"{now:%Y-%m-%d %H:%M:%S} UTC"
    return shown if speed == 1 else f"{shown}, {speed:g} times as fast as the wall"


def _stopped(record: Mapping[str, Any]) -> str:
    here = "by the stop latch" if record["stopped"] else ""
    there = "at the plant (clear it there)" if record["stopped_at_plant"] else ""
    return " and ".join(each for each in (here, there) if each) or "no"


def _unusable(reasons: Sequence[str], tags: int) -> str:
    if not reasons:
        return "none"
    first = text.with_durations(" ".join(reasons[:_SHOWN]))
    rest = f" … and {len(reasons) - _SHOWN} more (--json tells all)."
    return f"{len(reasons)} of {tags}. {first}{rest if len(reasons) > _SHOWN else ''}"


def _faults(faults: Sequence[Mapping[str, Any]]) -> str:
    told = [f"since {each['since']:%Y-%m-%d %H:%M} UTC {each['message']}" for each in faults]
    rest = f"; … and {len(told) - _SHOWN} more (--json tells all)" if len(told) > _SHOWN else ""
    return "; ".join(told[-_SHOWN:]) + rest


def _listed(items: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {item}" for key, item in items.items()) or "none"
