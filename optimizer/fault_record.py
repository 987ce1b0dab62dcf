"""What is wrong at the plant, on record: one audit row where a fault begins and one where it ends.

The audit itself says what stands, so a process that starts anew repeats nothing. What is wrong is
found elsewhere (`twin.furnace.tracking`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from twin.furnace.faults import Fault
from twin.historian import Event, Historian
from twin.plant import Plant

KIND = "fault"
_OVER = "over: "
#: Rows looked at. Chosen: twice what all slots and yard places of a large furnace make on a bad
#: day; a fault that began before them is told again.
_ROWS = 400


def standing_faults(historian: Historian, plant: Plant) -> tuple[Event, ...]:
    """The rows of the faults that stand by the record, in the order in which they began."""
    newest: dict[str, Event] = {}
    for event in historian.events(plant, _ROWS, kind=KIND):
        newest.setdefault(event.subject, event)
    standing = [event for event in newest.values() if not event.message.startswith(_OVER)]
    return tuple(reversed(standing))


def tell_faults(
    historian: Historian,
    plant: Plant,
    faults: Iterable[Fault],
    now: datetime,
    *,
    since: datetime | None,
) -> None:
    """Bring the audit up to `faults`: those that stand at `now` and the newest that are over.

    `since` is up to when the faults were told before; None: by another process, or never. Then
    only what stands is told: nobody planned by what began and ended meanwhile.
    """
    on_record = {event.subject: event.message for event in standing_faults(historian, plant)}
    standing = []
    for fault in faults:
        if fault.ended is None:
            standing.append(fault)
        elif since is not None and fault.ended > since:
            if fault.subject not in on_record:
                _begin(historian, plant, fault)
            message = on_record.pop(fault.subject, fault.message)
            _end(historian, plant, fault.subject, message, fault.ended)
    for subject in on_record.keys() - {fault.subject for fault in standing}:
        _end(historian, plant, subject, on_record[subject], now)
    for fault in standing:
        if fault.subject not in on_record:
            _begin(historian, plant, fault)


def _begin(historian: Historian, plant: Plant, fault: Fault) -> None:
    historian.event(plant, KIND, fault.subject, fault.message, fault.began, "planner")


def _end(historian: Historian, plant: Plant, subject: str, message: str, at: datetime) -> None:
    historian.event(plant, KIND, subject, f"{_OVER}{message}", at, "planner")
