"""Which MVs stand at a setpoint that was accepted here, since when, and until when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from dashboard.view import text
from dashboard.view.tags import is_remote
from twin.historian import HandBack, Held, longest_hold
from twin.plant import Plant
from twin.records import PlantState, Stage


def held_lines(
    plant: Plant,
    state: PlantState,
    stages: Mapping[str, Stage],
    held: Mapping[str, Held],
    asked: Iterable[HandBack],
) -> dict[str, str]:
    """A sentence for every MV that we hold and that reads REMOTE, by its name.

    `asked` are the hand-backs that a person asked for and that are not carried out yet.
    """
    waiting = {each.mv: each for each in asked}
    lines = {}
    for mv, holding in held.items():
        if not is_remote(plant, plant.tag(mv), state):
            continue
        ends = _ends(plant, holding, stages.get(mv), waiting.get(mv), state.at)
        lines[mv] = f"{mv}: REMOTE, {_since(plant, holding, state.at)}; {ends}"
    return lines


def _since(plant: Plant, holding: Held, now: datetime) -> str:
    tag, since = plant.tag(holding.mv), holding.written_at
    lasted = text.duration((now - since).total_seconds() // 60 * 60)
    setpoint = f"{text.number(holding.setpoint, tag.decimals)} {tag.unit}".rstrip()
    return f"held at {setpoint} since {text.hour_minute(since, plant)} ({lasted})"


def _ends(
    plant: Plant, holding: Held, stage: Stage | None, asked: HandBack | None, now: datetime
) -> str:
    """What will let go of the MV, and when."""
    if asked is not None:
        against = f": {asked.result}" if asked.result else ""
        return f"{asked.by} has asked to give it back, which is not done yet{against}"
    if stage is Stage.CLOSED_LOOP:
        return "the closed loop moves it on"
    until = holding.written_at + longest_hold(plant)
    if stage is Stage.SHADOW or now >= until:
        return "it goes back to the PLC now"
    return f"back to the PLC at {text.hour_minute(until, plant)}"
