"""What is wrong now, told once per stretch: a fault keeps the words with which it began.

A text that changed every minute would be a new audit event every minute.
"""

from __future__ import annotations

from datetime import datetime, timedelta

_CLEARED = timedelta(minutes=3)  # without a sign of it; shorter gaps belong to the same stretch


class Faults:
    """The faults of one furnace, each under a key that says what it is about."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[str, datetime]] = {}

    def note(self, key: str, text: str, at: datetime) -> None:
        """`key` is wrong at `at`. `text` counts only where the stretch begins."""
        began, _ = self._told.get(key, (text, at))
        self._told[key] = (began, at)

    def present(self, at: datetime) -> tuple[str, ...]:
        """What was noted in the minutes before `at`, in the order in which it began."""
        self._told = {k: told for k, told in self._told.items() if at - told[1] < _CLEARED}
        return tuple(text for text, _ in self._told.values())
