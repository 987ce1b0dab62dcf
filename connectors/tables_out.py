"""Stored readings out of the historian as a file: as they are, or as even rows for other tools.

Parquet's own ways are `parquet`'s.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import numpy as np

from connectors.whole_file import whole_or_not
from twin.errors import PlantwrightError
from twin.historian import Columns, Historian, Wide
from twin.plant import Plant

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: The columns of a file of readings, in order.
READING_COLUMNS = ("tag", "source_time", "value", "quality", "marks", "arrival_time")
#: The column of a wide file that says when a row is.
TIME_COLUMN = "time"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Asked:
    """What is to be written: of which tags, from `start` to `end`, both included.

    With `step_s`, even rows so far apart, one column a tag; else every reading, one row each.
    """

    tags: tuple[str, ...]
    start: datetime
    end: datetime
    step_s: float | None = None


@dataclass(frozen=True)
class ExportReport:
    """What was written: `rows` lines of `tags` tags, with `numbers` values that are known."""

    path: str
    rows: int
    numbers: int
    tags: int
    start: datetime
    end: datetime
    size_bytes: int

    def text(self) -> str:
        """The report as a person reads it."""
        span = f"from {self.start:%Y-%m-%d %H:%M:%S} to {self.end:%Y-%m-%d %H:%M:%S} UTC"
        size = f"{self.size_bytes / 1e6:.1f} MB"
        told = f"{Path(self.path).name}: {self.rows} rows of {self.tags} tag(s) {span}, {size}."
        return told if self.numbers else f"{told}\nNot one value in it is known: all are empty."


class Writer(Protocol):
    """A file being written: CSV here, Parquet in `parquet`."""

    def readings(self, tag: str, part: Columns) -> None:
        """Add readings of one tag, which come by tag and time."""

    def rows(self, part: Wide) -> None:
        """Add even rows."""

    def close(self) -> None:
        """Write what is left."""


def export(
    plant: Plant,
    historian: Historian,
    path: Path,
    asked: Asked,
    open_writer: Callable[[Path, Plant, Asked], Writer],
    progress: Progress | None = None,
) -> ExportReport:
    """Write what is stored; `progress` hears of parts done and in all.

    Raises:
        UnknownTag: a tag is not the plant's, or nothing was ever stored of it.
        PlantwrightError: there are no rows; no file appears, and an older one stands.
        OSError: the file can't be written; none of that name appears, and an older one stands.
    """
    with whole_or_not(path) as part:
        writer = open_writer(part, plant, asked)
        try:
            rows, numbers = _write(plant, historian, asked, writer, progress)
        finally:
            writer.close()
        if not rows:
            raise PlantwrightError(
                f"{path} is not written: of {_some(asked.tags)} nothing is stored from "
                f"{asked.start:%Y-%m-%d %H:%M:%S} to {asked.end:%Y-%m-%d %H:%M:%S} UTC. Give "
                "another --from, --to or --tags."
            )
    size = path.stat().st_size
    return ExportReport(str(path), rows, numbers, len(asked.tags), asked.start, asked.end, size)


class CsvWriter:
    """Readings or even rows as CSV; what is not known is left empty."""

    def __init__(self, path: Path, plant: Plant, asked: Asked) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._csv = csv.writer(self._file)
        is_wide = asked.step_s is not None
        self._csv.writerow([TIME_COLUMN, *asked.tags] if is_wide else READING_COLUMNS)

    def readings(self, tag: str, part: Columns) -> None:
        """Add readings of one tag."""
        whole = (part.quality.tolist(), part.marks.tolist(), part.delay_us.tolist())
        columns = (part.times_us.tolist(), part.values.tolist(), *whole)
        for ts, value, quality, marks, delay in zip(*columns, strict=True):
            number = "" if math.isnan(value) else repr(value)
            times = (_iso(ts), _iso(ts + delay))
            self._csv.writerow([tag, times[0], number, quality, marks, times[1]])

    def rows(self, part: Wide) -> None:
        """Add even rows."""
        for time_s, values in zip(part.times_s.tolist(), part.to_learn.tolist(), strict=True):
            numbers = ["" if math.isnan(value) else repr(value) for value in values]
            self._csv.writerow([_iso(round(time_s * 1e6)), *numbers])

    def close(self) -> None:
        """End the file."""
        self._file.close()


def _write(
    plant: Plant, historian: Historian, asked: Asked, writer: Writer, progress: Progress | None
) -> tuple[int, int]:
    """How many rows were written, and how many values of them are known."""
    tell = progress or (lambda _done, _total: None)
    rows = numbers = 0
    if asked.step_s is not None:
        span = (asked.start - timedelta(seconds=asked.step_s), asked.end)
        total = int((asked.end - span[0]).total_seconds() / asked.step_s)
        for wide in historian.windows(plant, asked.tags, *span, asked.step_s):
            writer.rows(wide)
            rows += len(wide.times_s)
            numbers += int(np.isfinite(wide.to_learn).sum())
            tell(rows, total)
        return rows, numbers
    for done, tag in enumerate(asked.tags):
        for part in historian.columns(plant, tag, asked.start, asked.end):
            writer.readings(tag, part)
            rows += len(part.times_us)
            numbers += int(np.isfinite(part.values).sum())
        tell(done + 1, len(asked.tags))
    return rows, numbers


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _iso(us: int) -> str:
    """A time since 1970 as text; empty where it is one of no calendar, as in a damaged row."""
    try:
        return (_EPOCH + timedelta(microseconds=us)).isoformat()
    except OverflowError:
        return ""


def all_tags(plant: Plant, historian: Historian, given: Sequence[str]) -> tuple[str, ...]:
    """The tags asked for, or else all of the plant that something is stored of; sorted by name."""
    known = historian.last_readings(plant)
    return tuple(sorted(set(given) or {tag.name for tag in plant.tags} & known.keys()))
