"""What is wrong now, told once per stretch: a fault keeps the words with which it began.

A text that changed every minute would be a new audit event every minute. Who writes these events
is the planner's round.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

#: Without a sign of it; shorter gaps belong to the same stretch. Chosen: a slab's minute at the
#: door and one for a reading that came late.
_CLEARED = timedelta(minutes=3)
#: For so long a tag may show nothing untold. Chosen: a reading that comes late is there by then.
SILENT = timedelta(minutes=5)
_KEPT = 200  # stretches that are over; some days of a furnace on which much is wrong


@dataclass(frozen=True, slots=True)
class Fault:
    """One stretch in which something was wrong with `subject`, in the words of its first minute.

    `ended` is the minute in which it counted as over; None while it stands.
    """

    subject: str
    message: str
    began: datetime
    ended: datetime | None = None


class Faults:
    """The faults of one furnace, each under a subject that says what it is about.

    `past` are the newest stretches that are over, in the order in which they ended.
    """

    def __init__(self) -> None:
        self._standing: dict[str, tuple[Fault, datetime]] = {}
        self.past: tuple[Fault, ...] = ()

    def note(self, subject: str, text: str, at: datetime) -> None:
        """`subject` is wrong at `at`. `text` counts only where the stretch begins."""
        fault, _ = self._standing.get(subject, (Fault(subject, text, at), at))
        self._standing[subject] = (fault, at)

    def present(self, at: datetime) -> tuple[Fault, ...]:
        """What was noted in the minutes before `at`, in the order in which it began."""
        for fault, seen in list(self._standing.values()):
            if at - seen >= _CLEARED:
                del self._standing[fault.subject]
                self.past = (*self.past, replace(fault, ended=at))[-_KEPT:]
        return tuple(fault for fault, _ in self._standing.values())


class Silence:
    """Since when tags have shown nothing usable; told after `SILENT`."""

    def __init__(self, told: Faults) -> None:
        self._told = told
        self._since: dict[str, datetime] = {}

    def see(
        self, at: datetime, tag: str, *, is_silent: bool, instead: str, is_told: bool = True
    ) -> bool:
        """Whether `tag` has now been silent for `SILENT`; `instead`: what then counts.

        Unless it `is_told`, another fault tells enough.
        """
        if not is_silent:
            self._since.pop(tag, None)
            return False
        is_long = at - self._since.setdefault(tag, at) >= SILENT
        if is_long and is_told:
            why = f"nothing usable for {SILENT.seconds / 60:g} min"
            self._told.note(f"{tag} silent", f"{tag}: {why}; {instead}", at)
        return is_long
