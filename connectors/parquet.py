"""Parquet in and out: the readings of a plant as a file that other tools read fast.

A file of readings has a row for each, sorted by tag and time: tag, source_time, value, quality,
marks, arrival_time. Its metadata name the plant and the tags' units. A wide file has a row for
each step. Only here is pyarrow imported: who needs no Parquet needs no pyarrow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from connectors.files import ImportReport, keep_imported, rows_differing
from connectors.tables_out import READING_COLUMNS, TIME_COLUMN, Asked, usable
from twin.clock import latest_believable
from twin.errors import Fault, FileFault
from twin.historian import Columns, Historian, Wide
from twin.plant import Plant, nearest
from twin.records import GOOD, Mark, Reading

_KEY = b"plantwright"
_GROUP_ROWS = 200_000  # rows of one group: some MB; what is read or written at a time
_BATCH_ROWS = 20_000
_MAX_FAULTS = 40  # as many as a person reads at once
_MOMENT = pa.timestamp("us", tz="UTC")
_TAG = pa.dictionary(pa.int32(), pa.string())
_TYPES = {
    "tag": _TAG, "source_time": _MOMENT, "value": pa.float64(), "quality": pa.uint32(),
    "marks": pa.int32(), "arrival_time": _MOMENT,
}  # fmt: skip
_NEEDED = ("tag", "source_time", "value")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Readings are of the last two centuries; whoever has others has a wrong unit of time.
_EARLIEST_US, _LATEST_US = (
    (datetime(year, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
    for year in (1900, 2200)
)


class ParquetWriter:
    """Readings or even rows as Parquet, compressed with zstd, a group of rows at a time."""

    def __init__(self, path: Path, plant: Plant, asked: Asked) -> None:
        told: dict[str, Any] = {
            "plant": plant.plant,
            "units": {name: plant.tag(name).unit for name in asked.tags},
        }
        if asked.step_s is None:
            fields = [pa.field(name, _TYPES[name]) for name in READING_COLUMNS]
        else:
            told["step_s"] = asked.step_s
            fields = [pa.field(TIME_COLUMN, _MOMENT)]
            fields += [pa.field(name, pa.float64()) for name in asked.tags]
        self._schema = pa.schema(fields, metadata={_KEY: json.dumps(told).encode()})
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")

    def readings(self, tag: str, part: Columns) -> None:
        """Add readings of one tag."""
        count = len(part.times_us)
        names = pa.DictionaryArray.from_arrays(np.zeros(count, dtype=np.int32), [tag])
        columns = [
            names,
            pa.array(part.times_us, type=_MOMENT),
            pa.array(part.values, from_pandas=True),  # NaN is no number: null
            pa.array(part.quality, type=pa.uint32()),
            pa.array(part.marks, type=pa.int32()),
            pa.array(part.times_us + part.delay_us, type=_MOMENT),
        ]
        self._write(columns)

    def rows(self, part: Wide) -> None:
        """Add even rows; null where nothing usable is known."""
        times_us = np.rint(part.times_s * 1e6).astype(np.int64)
        values = usable(part)
        series = [pa.array(values[:, i], from_pandas=True) for i in range(values.shape[1])]
        self._write([pa.array(times_us, type=_MOMENT), *series])

    def close(self) -> None:
        """Write the file's end."""
        self._writer.close()

    def _write(self, columns: list[Any]) -> None:
        table = pa.Table.from_arrays(columns, schema=self._schema)
        self._writer.write_table(table, row_group_size=_GROUP_ROWS)


def import_parquet(
    plant: Plant,
    historian: Historian,
    path: Path,
    *,
    now: datetime,
    progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Read a file of readings into the historian; doing it twice changes nothing.

    The whole file is checked before the first reading is stored. `quality`, `marks` and
    `arrival_time` may be missing: then readings are good, backfilled, and arrived when measured.

    Raises:
        FileFault: the file can't be used, with all its faults; nothing is stored.
        HistorianError: the database can't be used; import again to complete.
    """
    file = _opened(path)
    checked = _Check(plant, path, file, now).done()
    historian.register(plant)
    keep_imported(plant, historian, path, checked.start, checked.end, checked.tags, now)
    stored = done = differing = 0
    for batch in _batches(file):
        new = historian.store(batch, plant)
        if new < len(batch):
            differing += rows_differing(plant, historian, batch)
        stored += new
        done += len(batch)
        if progress is not None:
            progress(done, checked.rows)
    return ImportReport(
        path=str(path),
        rows=checked.rows,
        readings=checked.rows,
        stored=stored,
        rows_differing=differing,
        not_numbers=checked.not_numbers,
        gaps=0,
        start=checked.start,
        end=checked.end,
    )


@dataclass(frozen=True)
class _Checked:
    rows: int
    not_numbers: int
    start: datetime
    end: datetime
    tags: tuple[str, ...]


class _Check:
    """One pass over a file, group by group, collecting faults on the way."""

    def __init__(self, plant: Plant, path: Path, file: pq.ParquetFile, now: datetime) -> None:
        self._plant, self._path, self._file = plant, path, file
        self._latest_us = (latest_believable(now) - _EPOCH) // timedelta(microseconds=1)
        self._faults: list[Fault] = []
        self._known = {tag.name for tag in plant.tags}

    def done(self) -> _Checked:
        """What the file holds; raises FileFault with all its faults."""
        self._check_head()
        self._raise()
        starts, ends, tags, not_numbers = [], [], set[str](), 0
        for group in range(self._file.num_row_groups):
            table = self._file.read_row_group(group)
            times_us = _microseconds(table["source_time"])
            starts.append(pc.min(times_us).as_py())
            ends.append(pc.max(times_us).as_py())
            tags |= set(pc.unique(table["tag"]).to_pylist()) - {None}
            finite = pc.is_finite(table["value"])
            not_numbers += len(table) - _count(finite)
            self._check_group(table, group)
        self._check_tags(tags)
        rows = self._file.metadata.num_rows
        if not rows:
            self._fault("file", "has no rows.", "Export it again.")
        self._raise()
        start, end = (_EPOCH + timedelta(microseconds=us) for us in (min(starts), max(ends)))
        return _Checked(rows, not_numbers, start, end, tuple(sorted(tags)))

    def _check_head(self) -> None:
        schema = self._file.schema_arrow
        for name in _NEEDED:
            if name not in schema.names:
                known = ", ".join(schema.names)[:200]
                self._fault(name, f"there is no such column; the file has {known}.", _AS_EXPORTED)
        for name, expected in _TYPES.items():
            if name in schema.names and not _is_like(schema.field(name).type, expected):
                found = schema.field(name).type
                self._fault(name, f"is {found} where {expected} is needed.", _AS_EXPORTED)
        told = _told(schema)
        if told.get("plant", self._plant.plant) != self._plant.plant:
            message = f"these are readings of {told['plant']}, not of {self._plant.plant}."
            self._fault("plant", message, "Name its own plant file.")
        units = told.get("units", {})
        for tag in self._plant.tags:
            if tag.name in units and units[tag.name] != tag.unit:
                message = f"is in {units[tag.name]!r} there, and in {tag.unit!r} in the plant file."
                self._fault(tag.name, message, "Convert the values, or correct the unit.")

    def _check_group(self, table: pa.Table, group: int) -> None:
        where = f"row group {group}"
        for name in ("tag", "source_time", "quality", "marks", "arrival_time"):
            if name in table.column_names and table[name].null_count:
                count = table[name].null_count
                self._fault(where, f"{count} row(s) without {name}.", "Leave them out.")
        times_us = _microseconds(table["source_time"])
        later = _count(pc.greater(times_us, self._latest_us))
        if later:
            self._fault(where, f"{later} row(s) are later than now.", "Correct their times.")
        if "arrival_time" in table.column_names:
            late_us = _microseconds(table["arrival_time"])
            early = _count(pc.less(late_us, _EARLIEST_US)) + _count(pc.greater(late_us, _LATEST_US))
        else:
            early = 0
        early += _count(pc.less(times_us, _EARLIEST_US))
        if early:
            self._fault(where, f"{early} row(s) have no time a plant can have.", "Correct them.")
        if "marks" in table.column_names:
            most = pc.max(table["marks"]).as_py()
            least = pc.min(table["marks"]).as_py()
            if most is not None and not 0 <= least <= most <= _ALL_MARKS:
                self._fault(where, f"marks from {least} to {most}: they are 0 to {_ALL_MARKS}.", "")

    def _check_tags(self, tags: set[str]) -> None:
        for name in sorted(tags - self._known):
            known = nearest(name, self._known).strip()
            self._fault(name, "the plant file has no such tag.", known)

    def _fault(self, where: str, message: str, remedy: str) -> None:
        if len(self._faults) < _MAX_FAULTS:
            self._faults.append(Fault(where, message, None, remedy))

    def _raise(self) -> None:
        if self._faults:
            raise FileFault(str(self._path), self._faults)


_AS_EXPORTED = "Write it as `plantwright export` does."
_ALL_MARKS = int(Mark.BACKFILLED | Mark.UNDATED)


def _microseconds(times: pa.ChunkedArray) -> pa.ChunkedArray:
    """Times of any unit as microseconds since 1970."""
    return times.cast(_MOMENT, safe=False).cast(pa.int64())


def _count(is_so: pa.ChunkedArray) -> int:
    return int(pc.sum(is_so).as_py() or 0)


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except OSError as fault:
        why = f"can't be opened: {(fault.strerror or str(fault)).lower()}."
        raise FileFault(str(path), [Fault("file", why)]) from fault
    except pa.ArrowException as fault:
        why = f"is no whole Parquet file: {fault}."
        raise FileFault(str(path), [Fault("file", why, None, "Copy it again.")]) from fault


def _told(schema: pa.Schema) -> dict[str, Any]:
    """What the file's metadata say of its plant; {} where they say nothing of ours."""
    try:
        told = json.loads((schema.metadata or {}).get(_KEY, b"{}"))
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _is_like(found: pa.DataType, expected: pa.DataType) -> bool:
    if expected is _TAG:
        plain = found.value_type if pa.types.is_dictionary(found) else found
        return bool(pa.types.is_string(plain) or pa.types.is_large_string(plain))
    if expected is _MOMENT:
        return bool(pa.types.is_timestamp(found) and found.tz is not None)
    if pa.types.is_integer(expected):
        return bool(pa.types.is_integer(found))
    return bool(pa.types.is_floating(found) or pa.types.is_integer(found))


def _batches(file: pq.ParquetFile) -> Iterator[list[Reading]]:
    for batch in file.iter_batches(batch_size=_BATCH_ROWS):
        columns = {name: batch.column(name).to_pylist() for name in batch.schema.names}
        times = columns["source_time"]
        count = len(times)
        yield [
            Reading(tag, value, quality, at, arrival, Mark(marks))
            for tag, value, quality, at, arrival, marks in zip(
                columns["tag"],
                columns["value"],
                columns.get("quality", [GOOD] * count),
                times,
                columns.get("arrival_time", times),
                columns.get("marks", [Mark.BACKFILLED] * count),
                strict=True,
            )
        ]
