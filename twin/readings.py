"""Many readings as columns: how they travel by the thousand, from the spool to the database.

They read as a sequence of `Reading` records, each made only when somebody looks at it: a record
costs a microsecond, as much as storing it. Where they come from and go to is not known here.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Self, overload

import numpy as np
from numpy.typing import NDArray

from twin.records import Mark, Reading, Series

Whole = NDArray[np.int64]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MARKS = tuple(map(Mark, range(int(Mark.BACKFILLED | Mark.UNDATED) + 1)))


@dataclass(frozen=True, slots=True, eq=False)
class Readings(Sequence[Reading]):
    """Readings in the order in which they came, one entry of each column for each.

    `tags`: place of its name among `names`; `times_us` and `arrivals_us`: since 1970 UTC; `values`:
    NaN where there is no number; `marks`: a `Mark` as a number.
    """

    names: tuple[str, ...]
    tags: Whole
    times_us: Whole
    arrivals_us: Whole
    values: Series
    quality: Whole
    marks: Whole

    @classmethod
    def of(cls, readings: Iterable[Reading]) -> Readings:
        """These readings as columns.

        Raises:
            ValueError: a time has no zone.
            TypeError: a value is no number.
            OverflowError: a number does not fit into 64 bits.
        """
        if isinstance(readings, Readings):
            return readings
        given = readings if isinstance(readings, Sequence) else list(readings)
        places: dict[str, int] = {}
        tags = [places.setdefault(each.tag, len(places)) for each in given]
        # Of an array, as numpy would take a text for the number that it spells.
        values = array("d", [math.nan if each.value is None else each.value for each in given])
        return cls(
            tuple(places),
            np.array(tags, np.int64),
            _microseconds([each.source_time for each in given]),
            _microseconds([each.arrival_time for each in given]),
            np.array(values, np.float64),
            np.array([each.quality for each in given], np.int64),
            np.array([int(each.marks) for each in given], np.int64),
        )

    @classmethod
    def joined(cls, parts: Sequence[Readings]) -> Readings:
        """Readings one after the other."""
        if len(parts) == 1:
            return parts[0]
        places: dict[str, int] = {}
        tags = [
            np.array([places.setdefault(name, len(places)) for name in part.names], np.int64)[
                part.tags
            ]
            for part in parts
        ]
        whole = ([getattr(part, name) for part in parts] for name in _COLUMNS[1:])
        return cls(tuple(places), *map(np.concatenate, (tags, *whole)))

    def __len__(self) -> int:
        return len(self.tags)

    @overload
    def __getitem__(self, place: int) -> Reading: ...
    @overload
    def __getitem__(self, place: slice) -> Self: ...
    def __getitem__(self, place: int | slice) -> Reading | Self:
        if isinstance(place, slice):
            columns = (getattr(self, name)[place] for name in _COLUMNS)
            return type(self)(self.names, *columns)
        at = range(len(self))[place]
        (only,) = self[at : at + 1]
        return only

    def __iter__(self) -> Iterator[Reading]:
        columns = (getattr(self, name).tolist() for name in _COLUMNS)
        for tag, time_us, arrival_us, value, quality, marks in zip(*columns, strict=True):
            yield reading_of(self.names[tag], time_us, arrival_us, value, quality, marks)

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # arrays have none


_COLUMNS = tuple(field.name for field in fields(Readings))[1:]


def reading_of(
    tag: str, time_us: int, arrival_us: int, value: float | None, quality: int, marks: int
) -> Reading:
    """One reading of numbers: NaN is no value; raises OverflowError for a time of no calendar."""
    number = None if value is None or value != value else value
    source_time = _EPOCH + timedelta(microseconds=time_us)
    arrival = _EPOCH + timedelta(microseconds=arrival_us)
    mark = _MARKS[marks] if 0 <= marks < len(_MARKS) else Mark(marks)
    return Reading(tag, number, quality, source_time, arrival, mark)


def _microseconds(times: Sequence[datetime]) -> Whole:
    """Microseconds since 1970 UTC, exact."""
    # Many readings have one time: each is looked at once.
    known: dict[int, int] = {}
    found = []
    try:
        for time in times:
            us = known.get(id(time))
            if us is None:
                since = time - _EPOCH
                us = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
                known[id(time)] = us
            found.append(us)
    except TypeError:
        raise ValueError(f"{time.isoformat()} has no time zone; times are aware UTC") from None
    return np.array(found, np.int64)
