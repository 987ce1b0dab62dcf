"""What travels from a source to the historian, in one order, and how it lies on the disk.

A parcel is a batch of readings, a mark of where readings are missing, or a line of the audit.
Who keeps parcels, and what becomes of them, is not known here.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from twin.readings import Readings
from twin.records import Reading

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# Readings come by the thousand, twice a second: the fastest level is already 8 bytes a reading.
_LEVEL = 1
_FORM = 1  # of the bytes; a later version reads this one too


@dataclass(frozen=True, slots=True)
class Batch:
    """Readings of one source, in the order in which they came: of many, better `Readings`."""

    source: str
    readings: Sequence[Reading]


@dataclass(frozen=True, slots=True)
class Lost:
    """Readings of a source from `first` to `last` came and could not be kept, or never came."""

    source: str
    first: datetime
    last: datetime
    reason: str
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class Silence:
    """From the newest reading before `at` on nothing comes: a gap without an end yet.

    `tag` None: of every tag of the source. Where nothing was ever stored, it begins `reach_s`
    (plant seconds) before `at`: so far back the source may remember.
    """

    source: str
    at: datetime
    reason: str
    tag: str | None = None
    reach_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Heard:
    """At `at` readings came again: a silence of the source, or of one tag, is over."""

    source: str
    at: datetime
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """An audit row to come."""

    kind: str
    subject: str
    message: str
    at: datetime
    by: str


Parcel = Batch | Lost | Silence | Heard | Note


def rows_of(parcel: Parcel) -> int:
    """How many readings a parcel holds."""
    return len(parcel.readings) if isinstance(parcel, Batch) else 0


def span_of(parcel: Parcel) -> tuple[str, datetime, datetime]:
    """The source ("" for all), and the earliest and the latest time, that a parcel is about."""
    match parcel:
        case Batch(source, Readings(times_us=times_us)):
            return source, moment_of(int(times_us.min())), moment_of(int(times_us.max()))
        case Batch(source, readings):
            times = [each.source_time for each in readings]
            return source, min(times), max(times)
        case Lost(source, first, last):
            return source, first, last
        case Silence(source, at) | Heard(source, at):
            return source, at, at
        case Note():
            return "", parcel.at, parcel.at


def by_columns(parcel: Parcel) -> Parcel:
    """The same, its readings as columns: smaller, and what packing and storing want."""
    if not isinstance(parcel, Batch):
        return parcel
    return Batch(parcel.source, Readings.of(parcel.readings))


def packed(parcel: Parcel) -> bytes:
    """The parcel as bytes; raises OverflowError for a quality or mark that OPC UA has not."""
    head, body = _batch_parts(parcel) if isinstance(parcel, Batch) else (_fields(parcel), b"")
    text = json.dumps({"form": _FORM, "is": type(parcel).__name__, **head}).encode()
    return zlib.compress(len(text).to_bytes(4, "little") + text + body, _LEVEL)


def unpacked(stored: bytes) -> Parcel:
    """The parcel that `packed` made bytes of; raises ValueError for any other bytes."""
    try:
        whole = zlib.decompress(stored)
        body = 4 + int.from_bytes(whole[:4], "little")
        head = json.loads(whole[4:body])
        if head.pop("form") != _FORM:
            raise ValueError("written by a newer version of Plantwright")
        kind = head.pop("is")
        if kind == Batch.__name__:
            return _batch(head, whole[body:])
        for name in _TIMES & head.keys():
            head[name] = moment_of(head[name])
        return _KINDS[kind](**head)
    except (zlib.error, KeyError, TypeError, AttributeError) as reason:
        raise ValueError(f"no parcel: {reason!r}") from reason


_KINDS = {each.__name__: each for each in (Lost, Silence, Heard, Note)}
_TIMES = {"first", "last", "at"}


def _fields(parcel: Lost | Silence | Heard | Note) -> dict[str, object]:
    given = {name: getattr(parcel, name) for name in parcel.__slots__}
    return {n: microseconds_of(v) if isinstance(v, datetime) else v for n, v in given.items()}


def _batch_parts(batch: Batch) -> tuple[dict[str, object], bytes]:
    """Columns, times as differences: a thousand tags at one moment are then nearly nothing."""
    given = Readings.of(batch.readings)
    wide = (
        given.tags,
        np.diff(given.times_us, prepend=0),
        np.diff(given.arrivals_us, prepend=0),
        given.values,
        given.quality,
        given.marks,
    )
    columns = [column.astype(kind) for column, kind in zip(wide, _COLUMNS, strict=True)]
    if not all(np.array_equal(*pair, equal_nan=True) for pair in zip(wide, columns, strict=True)):
        raise OverflowError("a quality or mark is none that OPC UA has")
    head = {"source": batch.source, "tags": list(given.names), "rows": len(given)}
    return head, b"".join(column.tobytes() for column in columns)


_COLUMNS = (np.uint32, np.int64, np.int64, np.float64, np.uint32, np.uint8)


def _batch(head: dict[str, object], body: bytes) -> Batch:
    names, rows = head["tags"], head["rows"]
    if not isinstance(names, list) or not isinstance(rows, int):
        raise ValueError("no parcel: a batch without tags or rows")
    columns, at = [], 0
    for kind in _COLUMNS:
        columns.append(np.frombuffer(body, kind, rows, at))
        at += rows * np.dtype(kind).itemsize
    tags, times, arrivals, values, quality, marks = columns
    if rows and int(tags.max()) >= len(names):
        raise ValueError("no parcel: a reading of a tag without a name")
    found = Readings(
        tuple(names),
        tags.astype(np.int64),
        np.cumsum(times),
        np.cumsum(arrivals),
        values.astype(np.float64),
        quality.astype(np.int64),
        marks.astype(np.int64),
    )
    return Batch(str(head["source"]), found)


def microseconds_of(moment: datetime) -> int:
    """Microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def moment_of(us: int) -> datetime:
    """The time so many microseconds after 1970."""
    return _EPOCH + timedelta(microseconds=us)
