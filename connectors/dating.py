"""Times for readings that have none to be believed: when they came, no two of a tag the same."""

from __future__ import annotations

from datetime import datetime, timedelta

_MICROSECOND = timedelta(microseconds=1)


class Dating:
    """One connection's; of two readings of a tag with one time only the first would be kept."""

    def __init__(self) -> None:
        self._last: dict[str, datetime] = {}

    def of(self, tag: str, arrival: datetime) -> datetime:
        """The arrival, or a microsecond after the last one of that tag where that is later."""
        dated = max(arrival, self._last.get(tag, arrival - _MICROSECOND) + _MICROSECOND)
        self._last[tag] = dated
        return dated
