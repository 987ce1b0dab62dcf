"""What kind of plant and of tag a page has before it: what is planned, what tells a moment.

Read from the plant file's blocks, so that no page asks for them itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from dashboard.view import text
from twin.plant import Batches, Plant, Role, Tag
from twin.plant.furnace import PLACE, RECORD, Mill


def is_planned(plant: Plant) -> bool:
    """Whether plans can be made: the plant file names equations, or describes a furnace."""
    return plant.physics is not None or plant.furnace is not None


def moment_tags(plant: Plant) -> frozenset[str]:
    """Tags whose value is a moment, in s since 1970 UTC; 0 where there is none."""
    return frozenset(_moments(plant))


def moment_in_words(told_s: float | None, now: datetime, plant: Plant) -> str:
    """Such a value on the plant's clock, with its date if that is not today's."""
    if not told_s:
        return text.NOTHING
    try:
        moment = datetime.fromtimestamp(told_s, UTC)
    except (ValueError, OverflowError, OSError):
        return text.number(told_s, 0)
    is_today = text.in_zone(moment, plant).date() == text.in_zone(now, plant).date()
    return (text.clock_time if is_today else text.date_time)(moment, plant)


def is_slab_record(plant: Plant, tag: str) -> bool:
    """Whether a tag is part of the record of a slab, of which a plant has hundreds."""
    furnace = plant.furnace
    if furnace is None:
        return False
    record, _, part = tag.rpartition(".")
    patterns = [pattern.partition(PLACE) for pattern in (furnace.slot, furnace.yard)]
    return part in RECORD and any(
        record.startswith(begin)
        and record.endswith(end)
        and record[len(begin) : len(record) - len(end)].isdigit()
        for begin, _, end in patterns
    )


def is_stepped(plant: Plant, tag: Tag) -> bool:
    """Whether a value stands until the next one: what is set, and what is told slab by slab."""
    if tag.role in (Role.MV, Role.DV):
        return True
    furnace = plant.furnace
    return furnace is not None and tag.name in (furnace.pyrometer, furnace.discharged)


def _moments(plant: Plant) -> Iterator[str]:
    for block in plant.discrete:
        if isinstance(block, Mill):
            yield from (block.stopped_at, block.expected_restart)
        elif isinstance(block, Batches):
            yield from (slot.start for slot in block.slots)
