"""Recorded tables as a source of readings: CSV and whitespace tables, mapped by the plant file.

A table is read and checked whole before anything is stored, so a faulty one leaves nothing half
written. What is not a number becomes a reading without value and of Bad quality, never zero.
"""

from __future__ import annotations

import csv
import math
import re
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from twin.clock import latest_believable, utc
from twin.errors import Fault, FileFault
from twin.historian import AnnotationKind, Gap, Historian
from twin.plant import FileSource, Plant, nearest
from twin.readings import Readings
from twin.records import BAD, GOOD

_BATCH_READINGS = 20_000  # one short transaction
_MAX_FAULTS = 40  # as many as a person reads at once; the rest is counted
_DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t"}
_SECONDS = {"s": 1.0, "ms": 1e-3, "min": 60.0, "h": 3600.0}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


@dataclass(frozen=True)
class Table:
    """A checked table: row i is at `times[i]`; `values[tag][i]` is NaN where no number stood."""

    path: Path
    times: Sequence[datetime]
    values: Mapping[str, Sequence[float]]
    gaps: tuple[Gap, ...]

    @property
    def not_numbers(self) -> int:
        """How many readings have no value."""
        return sum(int(np.isnan(np.asarray(column)).sum()) for column in self.values.values())

    def batches(self) -> Iterator[Readings]:
        """The readings of a number of rows at a time, tag by tag, as databases store them fastest.

        A record does not say when a value arrived: it counts as arrived when it was measured.
        """
        names = tuple(self.values)
        step = max(1, _BATCH_READINGS // len(names))
        columns = [np.asarray(column) for column in self.values.values()]
        for first in range(0, len(self.times), step):
            times = self.times[first : first + step]
            at_us = np.tile([(time - _EPOCH) // _MICROSECOND for time in times], len(names))
            values = np.concatenate([each[first : first + step] for each in columns])
            quality = np.where(np.isnan(values), BAD, GOOD)
            tags = np.repeat(np.arange(len(names)), len(times))
            yield Readings(names, tags, at_us, at_us, values, quality, np.zeros_like(tags))


@dataclass(frozen=True)
class ImportReport:
    """What became of one table. `stored` counts readings that were not there before.

    `rows_differing` counts rows left out because another value of that time was there before.
    """

    path: str
    rows: int
    readings: int
    stored: int
    rows_differing: int
    not_numbers: int
    gaps: int
    start: datetime
    end: datetime

    def text(self) -> str:
        """The report as a person reads it."""
        known = self.readings - self.stored
        lines = [
            f"{Path(self.path).name}: {self.rows} rows, {self.readings} readings from "
            f"{self.start:%Y-%m-%d %H:%M:%S} to {self.end:%Y-%m-%d %H:%M:%S} UTC.",
            f"{self.stored} are new" + (f", {known} were there already." if known else "."),
        ]
        if self.rows_differing:
            lines.append(
                f"{self.rows_differing} row(s) differ from what is stored and were left out: a "
                "stored reading is never changed."
            )
        if self.not_numbers:
            lines.append(f"{self.not_numbers} are not numbers: stored without value, quality Bad.")
        if self.gaps:
            lines.append(f"{self.gaps} experiment break(s) stored as gaps.")
        return "\n".join(lines)


def import_file(
    plant: Plant,
    historian: Historian,
    path: Path,
    *,
    now: datetime,
    progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Read a table into the historian; doing it twice changes nothing.

    `now` is the wall's; `progress` is told rows done and rows in all.

    Raises:
        FileFault: the table can't be used; nothing is stored.
        HistorianError: the database can't be used; import again to complete.
    """
    table = read_table(plant, path, now=now)
    historian.register(plant)
    keep_imported(plant, historian, path, table.times[0], table.times[-1], [*table.values], now)
    stored = done = differ = 0
    for batch in table.batches():
        new = historian.store(batch, plant)
        if new < len(batch):  # a row is all that was measured at one time
            differ += len(np.unique(batch.times_us[differing(plant, historian, batch)]))
        stored += new
        done += len(batch) // len(table.values)
        if progress is not None:
            progress(done, len(table.times))
    for gap in table.gaps:
        historian.add_gap(plant, gap.started_at, gap.ended_at, gap.reason)
    return ImportReport(
        path=str(path),
        rows=len(table.times),
        readings=len(table.times) * len(table.values),
        stored=stored,
        rows_differing=differ,
        not_numbers=table.not_numbers,
        gaps=len(table.gaps),
        start=table.times[0],
        end=table.times[-1],
    )


def keep_imported(
    plant: Plant,
    historian: Historian,
    path: Path,
    start: datetime,
    end: datetime,
    tags: Sequence[str],
    now: datetime,
) -> None:
    """See to it that what a person read in is not deleted for its age; who wants it gone withdraws.

    Records are of long ago, and upkeep goes on beside the import: say it before the first row.
    """
    reason = f"imported from {name_shown(path)}"
    for each in historian.annotations(plant, [AnnotationKind.KEEP]):
        if (each.started_at, each.ended_at, each.tags) == (start, end, tuple(tags)):
            return
    historian.annotate(
        plant, AnnotationKind.KEEP, start, end, by="plantwright", reason=reason, at=now, tags=tags
    )


def name_shown(path: Path) -> str:
    """A file's name as a text that can be stored: bytes that are no UTF-8 are spelt out."""
    return path.name.encode("utf-8", "backslashreplace").decode()


def differing(plant: Plant, historian: Historian, batch: Readings) -> NDArray[np.bool_]:
    """Which readings of a batch are stored with another value, in whatever order they are."""
    found = np.zeros(len(batch), dtype=bool)
    for number, name in enumerate(batch.names):
        mine = np.flatnonzero(batch.tags == number)
        times_us, values = batch.times_us[mine], batch.values[mine]
        values = np.where(np.isfinite(values), values, np.nan)  # as they are stored
        ends = (_EPOCH + timedelta(microseconds=int(us)) for us in (times_us.min(), times_us.max()))
        for part in historian.columns(plant, name, *ends):
            place = np.minimum(np.searchsorted(part.times_us, times_us), len(part.times_us) - 1)
            there = part.values[place]
            is_same = (there == values) | (np.isnan(there) & np.isnan(values))
            found[mine[(part.times_us[place] == times_us) & ~is_same]] = True
    return found


def read_table(plant: Plant, path: Path, *, now: datetime) -> Table:
    """Read and check a whole table as the plant file's `files` and `column` entries say.

    No row may be later than the wall's `now`, by more than clocks may differ.

    Raises:
        FileFault: with every fault of the table and its line.
    """
    if plant.files is None:
        remedy = "Add `files` and a `column` for each tag of the table."
        fault = Fault("files", "the plant file does not say how to read tables.", None, remedy)
        raise FileFault(str(plant.path or plant.plant), [fault])
    return _Reader(plant, plant.files, path, now).table()


class _Reader:
    """One pass over one file, collecting faults on the way."""

    def __init__(self, plant: Plant, source: FileSource, path: Path, now: datetime) -> None:
        self._now, self._latest = utc(now), latest_believable(now)
        self._path = path
        self._source = source
        self._zone = ZoneInfo(plant.time_zone)
        self._columns = {t.name: t.column for t in plant.tags if t.column is not None}
        self._faults: list[Fault] = []
        self._fault_count = 0
        self._times: list[datetime] = []
        self._values = {name: array("d") for name in self._columns}
        self._gaps: list[Gap] = []
        self._shift = timedelta(0)  # of the experiments after a break

    def table(self) -> Table:
        places: dict[str, int] | None = None
        time_place, width = None, 0
        rows = 0
        for line, fields in self._lines():
            if places is None:
                width = len(fields)
                places, time_place = self._places(fields, line)
                if self._source.has_header:
                    continue
            rows += 1
            if len(fields) != width:
                message = f"{len(fields)} fields where the first line has {width}."
                self._fault("row", message, line, "Check quotes and separators.")
                continue
            self._add(rows, line, fields, places, time_place)
        self._check_ends(rows)
        if self._faults:
            left = self._fault_count - len(self._faults)
            rest = [Fault("file", f"and {left} more faults.")] if left else []
            raise FileFault(str(self._path), self._faults + rest)
        return Table(self._path, self._times, self._values, tuple(self._gaps))

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        """Every line that is not blank as its 1-based number and its fields without blanks."""
        try:
            with self._path.open(encoding="utf-8-sig", newline="") as file:
                if self._source.separator == "whitespace":
                    for line, text in enumerate(file, start=1):
                        if fields := text.split():
                            yield line, fields
                    return
                reader = csv.reader(
                    file, delimiter=_DELIMITERS[self._source.separator], strict=True
                )
                try:
                    for cells in reader:
                        if any(cell.strip() for cell in cells):
                            yield reader.line_num, [cell.strip() for cell in cells]
                except csv.Error as fault:
                    self._fault("row", f"can't be read: {fault}.", reader.line_num)
        except UnicodeDecodeError:
            self._fault("file", "is not UTF-8 text.", None, "Save it as UTF-8.")
        except OSError as fault:
            self._fault("file", f"can't be opened: {(fault.strerror or str(fault)).lower()}.")

    def _places(self, fields: list[str], line: int) -> tuple[dict[str, int], int | None]:
        """Where each tag and the time stand in a row, counted from 0; faults for those missing."""
        places = {}
        for tag, column in self._columns.items():
            place = self._place(tag, column, fields, line)
            if place is not None:
                places[tag] = place
        if self._source.time_column is None:
            return places, None
        return places, self._place("time", self._source.time_column, fields, line)

    def _place(self, what: str, column: int | str, fields: list[str], line: int) -> int | None:
        if isinstance(column, int):
            if column <= len(fields):
                return column - 1
            message = f"column {column} is beyond the {len(fields)} columns of the table."
            self._fault(what, message, line, "Correct `column` in the plant file.")
            return None
        found = [place for place, name in enumerate(fields) if name == column]
        if len(found) == 1:
            return found[0]
        if found:
            message = f"{len(found)} columns are named {column!r}."
            self._fault(what, message, line, "Give the column's number from 1.")
        else:
            known = nearest(column, fields).strip() or f"The header has {', '.join(fields)[:200]}."
            self._fault(what, f"there is no column {column!r}.", line, known)
        return None

    def _add(
        self, row: int, line: int, fields: list[str], places: dict[str, int], time_place: int | None
    ) -> None:
        time = self._time(row, line, None if time_place is None else fields[time_place])
        if time is None:
            return
        if self._times and row in self._source.breaks:
            reason = f"another experiment begins with row {row} of {name_shown(self._path)}"
            self._gaps.append(Gap(self._times[-1], time, reason, None, False))
        self._times.append(time)
        for tag, place in places.items():
            text = fields[place]
            if self._source.decimal == "comma":
                text = text.replace(",", ".")
            elif _DECIMAL_COMMA.fullmatch(text):
                remedy = "Add `decimal: comma` under `files`."
                self._fault(tag, f"{text!r} has a decimal comma.", line, remedy)
            self._values[tag].append(_number(text))

    def _time(self, row: int, line: int, text: str | None) -> datetime | None:
        """The row's moment; None with a fault where it has none or lies not after the last."""
        source = self._source
        last = self._times[-1] if self._times else None
        is_break = row in source.breaks and last is not None
        try:
            if text is not None:
                time = self._read_time(text)
            elif source.time_column is not None or source.start is None or source.step_s is None:
                return None  # its column is missing, which is told already
            else:
                time = source.start + timedelta(seconds=(row - 1) * source.step_s)
                if is_break:
                    self._shift += timedelta(seconds=source.break_gap_s - source.step_s)
            time = time.astimezone(UTC) + self._shift
            if is_break and last is not None and time <= last and source.time_unit != "iso8601":
                # Each experiment counts its time from zero.
                restart = last + timedelta(seconds=source.break_gap_s)
                self._shift += restart - time
                time = restart
        except (ValueError, OverflowError):
            rule = "a time" if source.time_unit == "iso8601" else f"a number of {source.time_unit}"
            self._fault("time", f"{text!r} is not {rule}.", line, "Correct the row or time_unit.")
            return None
        if last is not None and time <= last:
            message = f"{time.isoformat()} is not after the row before, {last.isoformat()}."
            self._fault("time", message, line, "Sort the rows, or declare `breaks`.")
            return None
        if time > self._latest:
            message = (
                f"{time.isoformat()} is later than now, {self._now.isoformat('T', 'seconds')}."
            )
            self._fault("time", message, line, "Correct the row, `time_unit` or `start`.")
            return None
        return time

    def _read_time(self, text: str) -> datetime:
        if self._source.time_unit == "iso8601":
            time = datetime.fromisoformat(text)
            return time if time.tzinfo is not None else time.replace(tzinfo=self._zone)
        count = _number(text.replace(",", ".") if self._source.decimal == "comma" else text)
        seconds = count * _SECONDS[self._source.time_unit]
        return (self._source.start or _EPOCH) + timedelta(seconds=seconds)

    def _check_ends(self, rows: int) -> None:
        if rows == 0 and not self._faults:
            self._fault("file", "has no rows.")
        for row in self._source.breaks:
            if rows and row > rows:
                message = f"the break before row {row} is beyond the last row, {rows}."
                self._fault("breaks", message, None, "Correct `breaks` in the plant file.")

    def _fault(self, where: str, message: str, line: int | None = None, remedy: str = "") -> None:
        self._fault_count += 1
        if len(self._faults) < _MAX_FAULTS:
            self._faults.append(Fault(where, message, line, remedy))


def _number(text: str) -> float:
    """The number that stands there; NaN for anything else, also for one too large."""
    if not _NUMBER.fullmatch(text):
        return math.nan
    value = float(text)
    return value if math.isfinite(value) else math.nan
