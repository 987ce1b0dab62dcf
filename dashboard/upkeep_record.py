"""The historian's upkeep on record: one audit row where it begins to fail, one where that is over.

The audit itself says what stands, so a process that starts anew repeats nothing. What upkeep does
is `twin.historian.upkeep`'s.
"""

from __future__ import annotations

from datetime import datetime

from dashboard.facts import COLLECTOR
from twin.historian import Event, Historian
from twin.plant import Plant

KIND = "upkeep"
_OVER = "over: "


def standing_trouble(historian: Historian, plant: Plant) -> Event | None:
    """The row that tells why upkeep fails and since when; None while it goes on well."""
    newest = next(iter(historian.events(plant, 1, kind=KIND)), None)
    return None if newest is None or newest.message.startswith(_OVER) else newest


def tell_trouble(historian: Historian, plant: Plant, trouble: str, now: datetime) -> None:
    """Bring the audit up to the last call of upkeep: why it failed, "" if it did not."""
    standing = standing_trouble(historian, plant)
    if trouble and standing is None:
        historian.event(plant, KIND, plant.plant, trouble, now, COLLECTOR)
    if standing is not None and not trouble:
        message = f"{_OVER}{standing.message}"
        historian.event(plant, KIND, plant.plant, message, now, COLLECTOR)
