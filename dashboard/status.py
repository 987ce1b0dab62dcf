"""What `plantwright status` tells: processes, ages, gaps, model, stages, proposals."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from connectors.stop import StopLatch
from dashboard.facts import read_facts
from dashboard.settings import Settings
from twin.historian import Historian
from twin.plant import Plant


def status_of(
    plant: Plant, settings: Settings, historian: Historian, wall_now: datetime
) -> dict[str, Any]:
    """Everything as one record; ages in seconds, times aware UTC."""
    facts = read_facts(historian, plant, wall_now)
    storage = historian.facts()
    model = historian.active_model(plant)
    unusable = [state.reason for state in facts.state.tags.values() if not state.is_usable]
    newest = facts.newest_reading
    return {
        "plant": plant.plant,
        "plant_time": facts.now,
        "speed": facts.speed,
        "stopped": StopLatch(settings.stop_latch(plant)).is_stopped(),
        "link": facts.link,
        "data_age_s": None if newest is None else (facts.now - newest).total_seconds(),
        "readings_stored": storage.rows,
        "database_bytes": storage.size_bytes,
        "gaps_open": sum(not gap.is_filled for gap in historian.gaps(plant)),
        "unusable_tags": unusable,
        "model": model.version if model is not None else "physics",
        "coverage90": facts.trust.coverage90 if facts.trust is not None else None,
        "stages": {mv: stage.value for mv, stage in facts.stages.items()},
        "open_proposal": facts.open.proposal_id if facts.open is not None else None,
        "proposals": {
            status.value: count for status, count in historian.proposal_counts(plant).items()
        },
        "processes": [
            {
                "name": beat.name,
                "pid": beat.pid,
                "beat_age_s": (wall_now - beat.at).total_seconds(),
                "detail": beat.detail,
            }
            for beat in historian.processes(plant)
        ],
    }


def status_text(record: Mapping[str, Any]) -> str:
    """The record as lines for people."""
    lines = []
    for name, value in record.items():
        if name == "processes":
            lines += [
                f"process {p['name']}: pid {p['pid']}, last beat {p['beat_age_s']:.0f} s ago"
                for p in value
            ]
        elif isinstance(value, Mapping):
            shown = ", ".join(f"{key} {item}" for key, item in value.items() if item)
            lines.append(f"{name}: {shown or 'none'}")
        elif isinstance(value, list):
            lines += [f"{name}: {item}" for item in value]
        else:
            lines.append(f"{name}: {value}")
    return "\n".join(lines)
