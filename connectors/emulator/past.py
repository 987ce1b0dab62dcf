"""What the emulator has emitted, kept in memory and served by HistoryRead."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from asyncua import ua

from twin.records import BAD, GOOD, Reading, Samples

_GOOD_STATUS = ua.StatusCode()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_KEPT_READINGS_PER_TAG = 500_000  # 58 plant days of 10 s samples, 10 MB per tag
_VALUES_PER_RESPONSE = 10_000  # about .1 s of this process's time per HistoryRead


def data_value(reading: Reading, kind: Any, server_time: datetime | None) -> Any:
    """The OPC UA form of a reading; Bad ones carry no value, as the standard asks."""
    status = ua.StatusCode(ua.UInt32(reading.quality))
    variant = ua.Variant(None)
    if reading.value is not None and not status.is_bad():
        is_whole = kind is ua.VariantType.Int32
        variant = ua.Variant(int(reading.value) if is_whole else reading.value, kind)
    return ua.DataValue(
        variant, status, SourceTimestamp=reading.source_time, ServerTimestamp=server_time
    )


class TagHistory:
    """One tag's emitted readings in time order, compact: 20 bytes each."""

    def __init__(self) -> None:
        self.times_us = array("q")
        self.values = array("d")
        self.qualities = array("I")

    def append(self, reading: Reading) -> bool:
        """Keep a reading newer than all others; False for one already emitted."""
        at_us = (reading.source_time - _EPOCH) // _MICROSECOND
        if self.times_us and at_us <= self.times_us[-1]:
            return False
        self.times_us.append(at_us)
        self.values.append(math.nan if reading.value is None else reading.value)
        self.qualities.append(reading.quality)
        self._forget_surplus()
        return True

    def extend(self, samples: Samples) -> int:
        """Keep samples newer than all others, NaN as Bad; how many these were.

        Five times as fast as one reading after the other.
        """
        times_us = np.round(1e6 * samples.times_s).astype(np.int64)
        first = np.searchsorted(times_us, self.times_us[-1], "right") if self.times_us else 0
        values = np.asarray(samples.values[first:], dtype=np.float64)
        qualities = np.where(np.isnan(values), BAD, GOOD).astype(np.uint32)
        self.times_us.frombytes(times_us[first:].tobytes())
        self.values.frombytes(values.tobytes())
        self.qualities.frombytes(qualities.tobytes())
        self._forget_surplus()
        return len(values)

    def _forget_surplus(self) -> None:
        if len(self.times_us) > _KEPT_READINGS_PER_TAG * 11 // 10:
            surplus = len(self.times_us) - _KEPT_READINGS_PER_TAG
            for column in (self.times_us, self.values, self.qualities):
                del column[:surplus]

    def rows(self, start: datetime, end: datetime) -> range:
        """Positions of the readings from `start` to `end`, both included."""
        first = bisect_left(self.times_us, (start - _EPOCH) // _MICROSECOND)
        return range(first, bisect_right(self.times_us, (end - _EPOCH) // _MICROSECOND))

    def time_of(self, row: int) -> datetime:
        """Source time of the reading at `row`."""
        return _EPOCH + self.times_us[row] * _MICROSECOND

    def reading(self, tag: str, row: int) -> Reading:
        """The reading at `row`, as it was emitted."""
        value, moment = self.values[row], self.time_of(row)
        number = value if value == value else None
        return Reading(tag, number, self.qualities[row], moment, moment)

    def at(self, row: int, kind: Any) -> Any:
        """The reading at `row` as HistoryRead sends it, without a server time."""
        if self.qualities[row]:
            return data_value(self.reading("", row), kind, None)
        value = self.values[row]  # the usual case, six times faster
        number = int(value) if kind is ua.VariantType.Int32 else value
        variant = ua.Variant(number, kind, None, False)
        return ua.DataValue(variant, _GOOD_STATUS, SourceTimestamp=self.time_of(row))


class HistoryService:
    """asyncua's history storage over what the emulator has emitted."""

    def __init__(self, by_node: Mapping[Any, tuple[TagHistory, Any]]) -> None:
        self._by_node = by_node

    async def init(self) -> None: ...

    async def stop(self) -> None: ...

    async def read_node_history(
        self, node_id: Any, start: datetime | None, end: datetime | None, count: int
    ) -> tuple[list[Any], datetime | None]:
        """Readings in time order, and the time of the first one left for a further request."""
        if node_id not in self._by_node:
            return [], None
        past, kind = self._by_node[node_id]
        latest = datetime.max.replace(tzinfo=UTC)
        rows = past.rows(max(start or _EPOCH, _EPOCH), end if end and end > _EPOCH else latest)
        taken = rows[: min(count or _VALUES_PER_RESPONSE, _VALUES_PER_RESPONSE)]
        rest = past.time_of(rows[len(taken)]) if len(taken) < len(rows) else None
        return [past.at(row, kind) for row in taken], rest
