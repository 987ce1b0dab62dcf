"""Parquet in and out: the readings of a plant as a file that other tools read fast.

A file of readings has a row for each, sorted by tag and time: tag, source_time, value, quality,
marks, arrival_time. Its metadata name the plant and the tags' units. A wide file has a row for
each step. Only here is pyarrow imported: who needs no Parquet needs no pyarrow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from connectors.files import ImportReport, differing, keep_imported
from connectors.tables_out import READING_COLUMNS, TIME_COLUMN, Asked
from twin.clock import PLANT_YEARS, latest_believable
from twin.errors import Fault, FileFault
from twin.historian import Columns, Historian, Wide
from twin.plant import Plant, nearest
from twin.readings import Readings, Whole
from twin.records import GOOD, Mark

_KEY = b"plantwright"
_GROUP_ROWS = 200_000  # rows of one group: some MB; what is read or written at a time
_BATCH_ROWS = 20_000
_BUFFER_BYTES = 1 << 20  # of each column that is read; without one, all of a group's
_MAX_FAULTS = 40  # as many as a person reads at once
_MOMENT = pa.timestamp("us", tz="UTC")
_TO_MICROSECONDS = pc.CastOptions(_MOMENT, allow_time_truncate=True)
_TAG = pa.dictionary(pa.int32(), pa.string())
_TYPES = {
    "tag": _TAG, "source_time": _MOMENT, "value": pa.float64(), "quality": pa.uint32(),
    "marks": pa.int32(), "arrival_time": _MOMENT,
}  # fmt: skip
_NEEDED = ("tag", "source_time", "value")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST_US, _LATEST_US = (
    (datetime(year, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1) for year in PLANT_YEARS
)
_LARGEST_QUALITY = 2**32 - 1  # of a status code


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
        # With checksums: a damaged file is then told as one, and never read as other values.
        self._writer = pq.ParquetWriter(
            path, self._schema, compression="zstd", write_page_checksum=True
        )

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
        """Add even rows; null where nothing is to be learned from."""
        times_us = np.rint(part.times_s * 1e6).astype(np.int64)
        values = part.to_learn
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
    stored = done = differ = 0
    for batch in _batches(file):
        new = historian.store(batch, plant)
        if new < len(batch):
            is_other = differing(plant, historian, batch)
            differ += len({*zip(batch.tags[is_other], batch.times_us[is_other], strict=True)})
        stored += new
        done += len(batch)
        if progress is not None:
            progress(done, checked.rows)
    return ImportReport(
        path=str(path),
        rows=checked.rows,
        readings=checked.rows,
        stored=stored,
        rows_differing=differ,
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
    """One pass over a file, some rows at a time, collecting faults on the way."""

    def __init__(self, plant: Plant, path: Path, file: pq.ParquetFile, now: datetime) -> None:
        self._plant, self._path, self._file = plant, path, file
        self._latest_us = (latest_believable(now) - _EPOCH) // timedelta(microseconds=1)
        self._faults: list[Fault] = []
        self._known = {tag.name for tag in plant.tags}

    def done(self) -> _Checked:
        """What the file holds; raises FileFault with all its faults."""
        self._check_head()
        self._raise()
        times_us, tags, not_numbers = [], set[str](), 0
        for where, table in self._tables():
            tags |= set(pc.unique(table["tag"]).to_pylist()) - {None}
            not_numbers += len(table) - _count(pc.is_finite(table["value"]))
            times_us += self._check_rows(table, where)
        self._check_tags(tags)
        rows = self._file.metadata.num_rows
        if not rows:
            self._fault("file", "has no rows.", "Export it again.")
        self._raise()
        start, end = (_EPOCH + timedelta(microseconds=us) for us in (min(times_us), max(times_us)))
        return _Checked(rows, not_numbers, start, end, tuple(sorted(tags)))

    def _check_head(self) -> None:
        schema = self._file.schema_arrow
        for name in _NEEDED:
            if name not in schema.names:
                known = ", ".join(schema.names)[:200]
                self._fault(name, f"there is no such column; the file has {known}.", _AS_EXPORTED)
        for name, expected in _TYPES.items():
            found = [field.type for field in schema if field.name == name]
            if len(found) > 1:
                self._fault(name, f"{len(found)} columns have this name.", "Leave one of them.")
            elif found and not _is_like(found[0], expected):
                self._fault(name, f"is {found[0]} where {expected} is needed.", _AS_EXPORTED)
        told = _told(schema)
        if told.get("plant", self._plant.plant) != self._plant.plant:
            message = f"these are readings of {told['plant']}, not of {self._plant.plant}."
            self._fault("plant", message, "Name its own plant file.")
        units = told.get("units", {})
        for tag in self._plant.tags:
            if tag.name in units and units[tag.name] != tag.unit:
                message = f"is in {units[tag.name]!r} there, and in {tag.unit!r} in the plant file."
                self._fault(tag.name, message, "Convert the values, or correct the unit.")

    def _tables(self) -> Iterator[tuple[str, pa.Table]]:
        """The file's rows, some at a time, with where they are: a group may hold all of them."""
        batches = self._file.iter_batches(_GROUP_ROWS, columns=_columns(self._file))
        first = 1
        while True:
            with _readable(self._path):
                batch = next(batches, None)
            if batch is None:
                return
            last = first + len(batch) - 1
            yield f"rows {first} to {last}", pa.Table.from_batches([batch])
            first = last + 1

    def _check_rows(self, table: pa.Table, where: str) -> list[int]:
        """Tell what is wrong with rows; returns their first and last time, in microseconds."""
        for name in table.column_names:
            if name != "value" and table[name].null_count:
                count = table[name].null_count
                self._fault(where, f"{count} row(s) without {name}.", "Leave them out.")
        self._check_numbers(table, where, "quality", _LARGEST_QUALITY)
        self._check_numbers(table, where, "marks", _ALL_MARKS)
        try:
            times_us = _microseconds(table["source_time"])
            arrived_us = times_us
            if "arrival_time" in table.column_names:
                arrived_us = _microseconds(table["arrival_time"])
        except pa.ArrowInvalid:  # beyond what microseconds count, some 290,000 years
            self._fault(where, f"it holds times {_NO_TIME}.", "Correct them.")
            return []
        later = _count(pc.greater(times_us, self._latest_us))
        if later:
            self._fault(where, f"{later} row(s) are later than now.", "Correct their times.")
        odd = _count(pc.less(times_us, _EARLIEST_US)) + _count(pc.less(arrived_us, _EARLIEST_US))
        odd += _count(pc.greater(arrived_us, _LATEST_US))
        if odd:
            self._fault(where, f"{odd} time(s) {_NO_TIME}.", "Correct them.")
        ends = pc.min_max(times_us).as_py()
        return [us for us in ends.values() if us is not None]

    def _check_numbers(self, table: pa.Table, where: str, name: str, most: int) -> None:
        """Whether the whole numbers of a column, if there is one, are from 0 to `most`."""
        if name not in table.column_names:
            return
        ends = pc.min_max(table[name]).as_py()
        if ends["min"] is not None and not 0 <= ends["min"] <= ends["max"] <= most:
            message = f"{name} from {ends['min']} to {ends['max']}: it is 0 to {most}."
            self._fault(where, message, "Correct them.")

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
_NO_TIME = f"that no plant has, of before {PLANT_YEARS[0]} or after {PLANT_YEARS[1] - 1}"
_ALL_MARKS = int(Mark.BACKFILLED | Mark.UNDATED)


def _microseconds(times: Any) -> Any:
    """Times of any unit as microseconds since 1970; ArrowInvalid where 64 bits cannot hold one."""
    return times.cast(options=_TO_MICROSECONDS).cast(pa.int64())


def _count(is_so: pa.ChunkedArray) -> int:
    return int(pc.sum(is_so).as_py() or 0)


def _opened(path: Path) -> pq.ParquetFile:
    try:
        path.open("rb").close()
    except OSError as fault:
        why = f"can't be opened: {(fault.strerror or str(fault)).lower()}."
        remedy = "Check the path and who may read it."
        raise FileFault(str(path), [Fault("file", why, None, remedy)]) from fault
    with _readable(path):
        return pq.ParquetFile(path, buffer_size=_BUFFER_BYTES, page_checksum_verification=True)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Tell what pyarrow says of a damaged file, some of it as OSError, as a fault of the file."""
    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as fault:
        why = f"is no whole Parquet file: {str(fault).rstrip('.') or type(fault).__name__}."
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


def _batches(file: pq.ParquetFile) -> Iterator[Readings]:
    for batch in file.iter_batches(_BATCH_ROWS, columns=_columns(file)):
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        # As text first: a file's own dictionary may name tags that no row has.
        tags = columns["tag"].cast(pa.string()).dictionary_encode()
        times_us = _whole(_microseconds(columns["source_time"]))
        arrivals_us, quality = times_us, np.full_like(times_us, GOOD)
        marks = np.full_like(times_us, int(Mark.BACKFILLED))
        if "arrival_time" in columns:
            arrivals_us = _whole(_microseconds(columns["arrival_time"]))
        if "quality" in columns:
            quality = _whole(columns["quality"])
        if "marks" in columns:
            marks = _whole(columns["marks"])
        values = columns["value"].cast(pa.float64()).to_numpy(zero_copy_only=False)  # null: NaN
        names = tuple(tags.dictionary.to_pylist())
        yield Readings(names, _whole(tags.indices), times_us, arrivals_us, values, quality, marks)


def _whole(numbers: pa.Array) -> Whole:
    return np.asarray(numbers.cast(pa.int64()), dtype=np.int64)


def _columns(file: pq.ParquetFile) -> list[str]:
    """The columns that are read; what else a file holds is not looked at."""
    return [name for name in READING_COLUMNS if name in file.schema_arrow.names]
