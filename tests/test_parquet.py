"""Readings leave and come back as files: exact, whole or not at all, faults told at once."""

from __future__ import annotations

import csv
import json
import math
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import CommandLine, clear_environment, start
from each_database import by_hand, seen_by_hand
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_plant import DEMAND, LEVEL, NOON, PUMP, at, level, small_plant
from sqlalchemy import make_url

from connectors.parquet import ParquetWriter, import_parquet
from connectors.tables_out import Asked, CsvWriter, export
from connectors.whole_file import whole_or_not
from twin.errors import FileFault
from twin.historian import AnnotationKind, Historian, Keep
from twin.historian.schema import microseconds
from twin.readings import Readings
from twin.records import BAD, GOOD, UNCERTAIN, Mark, Reading

PLANT = small_plant()
NOW = datetime(2026, 11, 1, tzinfo=UTC)
TAGS = (PUMP, DEMAND, LEVEL)  # by name
ALWAYS = Asked(TAGS, NOON - timedelta(days=400), NOON + timedelta(days=200))


@pytest.fixture
def historian(tmp_path: Path) -> Iterator[Historian]:
    with Historian.create(tmp_path / "plant.db") as opened:
        opened.register(PLANT)
        yield opened


def stored(historian: Historian) -> list[Reading]:
    found = historian.readings(PLANT, TAGS, ALWAYS.start, ALWAYS.end)
    return sorted(found, key=lambda r: (r.tag, r.source_time))


def written(path: Path, **columns: list[Any] | None) -> Path:
    """A Parquet file of one good reading, with some columns otherwise or (None) missing."""
    moment = pa.timestamp("us", tz="UTC")
    plain = {
        "tag": pa.array([LEVEL]), "source_time": pa.array([NOON], moment),
        "value": pa.array([1.0]), "quality": pa.array([GOOD], pa.uint32()),
        "marks": pa.array([0], pa.int32()), "arrival_time": pa.array([NOON], moment),
    }  # fmt: skip
    table = {name: column for name, column in (plain | columns).items() if column is not None}
    pq.write_table(pa.table(table), path)
    return path


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    readings=st.lists(
        st.builds(
            Reading,
            tag=st.sampled_from(TAGS),
            value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
            quality=st.sampled_from((GOOD, UNCERTAIN | 7, BAD, 0xFFFF_FFFF)),
            source_time=st.integers(-(10**13), 10**13).map(lambda us: at(us / 1e6)),
            arrival_time=st.integers(-(10**9), 10**13).map(lambda us: at(us / 1e6)),
            marks=st.sampled_from([Mark(n) for n in range(4)]),
        ),
        min_size=1,
        max_size=30,
        unique_by=lambda r: (r.tag, r.source_time),
    )
)
def test_what_leaves_as_parquet_comes_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, readings: list[Reading]
) -> None:
    """Value to the last bit, quality, marks, times to the microsecond; again adds nothing."""
    folder = tmp_path_factory.mktemp("parquet")
    path = folder / "all.parquet"
    with Historian.create(folder / "a.db") as first:
        first.register(PLANT)
        first.store(readings)
        report = export(PLANT, first, path, ALWAYS, ParquetWriter)
        kept = stored(first)
    assert report.rows == len(kept) == len(readings)
    with Historian.create(folder / "b.db") as second:
        told = import_parquet(PLANT, second, path, now=NOW)
        assert stored(second) == kept
        assert (told.stored, told.rows_differing) == (len(kept), 0)
        assert told.not_numbers == sum(r.value is None for r in kept)
        again = import_parquet(PLANT, second, path, now=NOW)
        assert (again.stored, again.readings, again.rows_differing) == (0, len(kept), 0)


def test_a_file_says_what_is_in_it(historian: Historian, tmp_path: Path) -> None:
    """Plant and units in the metadata; sorted by tag and time, in groups, with zstd."""
    historian.store([level(float(i % 50), 1.0 * i, tag=TAGS[i // 50]) for i in range(150)])
    path = tmp_path / "all.parquet"
    export(PLANT, historian, path, ALWAYS, ParquetWriter)
    file = pq.ParquetFile(path)
    told = json.loads(file.schema_arrow.metadata[b"plantwright"])
    assert told == {"plant": "small", "units": {tag.name: tag.unit for tag in PLANT.tags}}
    assert file.metadata.row_group(0).column(2).compression == "ZSTD"
    table = file.read()
    keys = list(zip(table["tag"].to_pylist(), table["source_time"].to_pylist(), strict=True))
    assert keys == sorted(keys)
    assert len(keys) == 150


def test_only_what_is_asked_for_is_written(historian: Historian, tmp_path: Path) -> None:
    """Some tags, some hours, both ends included."""
    historian.store([level(60.0 * i, 1.0, tag=tag) for i in range(10) for tag in TAGS])
    path = tmp_path / "some.parquet"
    export(PLANT, historian, path, Asked((LEVEL,), at(60), at(180)), ParquetWriter)
    table = pq.read_table(path)
    assert set(table["tag"].to_pylist()) == {LEVEL}
    assert table["source_time"].to_pylist() == [at(60), at(120), at(180)]


def test_more_readings_than_one_part_holds_are_all_written(
    historian: Historian, tmp_path: Path
) -> None:
    """Parts of 100,000 join without a reading lost or doubled at their seams."""
    historian.store([level(i / 100, float(i)) for i in range(200_001)])
    path = tmp_path / "many.parquet"
    assert export(PLANT, historian, path, ALWAYS, ParquetWriter).rows == 200_001
    values = pq.read_table(path)["value"].to_numpy()
    np.testing.assert_array_equal(values, np.arange(200_001))
    assert pq.ParquetFile(path).num_row_groups == 3


def rows_of(historian: Historian, path: Path, step_s: float) -> list[list[float | None]]:
    """Seconds after noon, level and pump of the rows of a wide file; None where nothing stands."""
    asked = Asked((LEVEL, PUMP), at(60), at(240), step_s)
    if path.suffix == ".csv":
        export(PLANT, historian, path, asked, CsvWriter)
        _, *lines = csv.reader(path.open(encoding="utf-8"))
        seconds = [(datetime.fromisoformat(line[0]) - NOON).total_seconds() for line in lines]
        numbers = [[float(text) if text else None for text in line[1:]] for line in lines]
        return [[second, *row] for second, row in zip(seconds, numbers, strict=True)]
    export(PLANT, historian, path, asked, ParquetWriter)
    table = pq.read_table(path)
    assert json.loads(table.schema.metadata[b"plantwright"])["step_s"] == step_s
    seconds = [(moment - NOON).total_seconds() for moment in table["time"].to_pylist()]
    columns = (table[LEVEL].to_pylist(), table[PUMP].to_pylist())
    return [list(row) for row in zip(seconds, *columns, strict=True)]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_even_rows_hold_what_planners_would_see(
    historian: Historian, tmp_path: Path, suffix: str
) -> None:
    """The last good value while it holds; nothing in a gap, in bad data, or before the first."""
    historian.store([level(30, 1.5), level(110, 2.5), level(230, 3.5)])
    historian.store([level(170, 7.0, tag=PUMP)])
    told = {"by": "Ada", "reason": "cleaned", "at": at(0), "tags": [LEVEL]}
    historian.annotate(PLANT, AnnotationKind.BAD_DATA, at(235), at(240), **told)
    assert rows_of(historian, tmp_path / f"wide{suffix}", 60.0) == [
        [60, 1.5, None], [120, 2.5, None], [180, None, 7.0], [240, None, 7.0],
    ]  # fmt: skip


def test_csv_says_the_same_as_parquet(historian: Historian, tmp_path: Path) -> None:
    """One line a reading, times with their offset, numbers to the last bit, nothing for none."""
    sent = [Reading(LEVEL, 0.1 + 0.2, UNCERTAIN, at(0.000001), at(9), Mark.UNDATED)]
    sent += [Reading(LEVEL, None, BAD, at(1), at(2))]
    historian.store(sent)
    path = tmp_path / "all.csv"
    export(PLANT, historian, path, Asked((LEVEL,), at(0), at(5)), CsvWriter)
    head, *lines = csv.reader(path.open(encoding="utf-8"))
    assert head == ["tag", "source_time", "value", "quality", "marks", "arrival_time"]
    assert [float(line[2]) if line[2] else None for line in lines] == [0.1 + 0.2, None]
    assert [datetime.fromisoformat(line[1]) for line in lines] == [at(0.000001), at(1)]
    assert [datetime.fromisoformat(line[5]) for line in lines] == [at(9), at(2)]
    assert [(int(line[3]), int(line[4])) for line in lines] == [(UNCERTAIN, 2), (BAD, 0)]


MOMENT = pa.timestamp("us", tz="UTC")


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"value": None, "tag": None}, ["value: there is no such column", "tag: there is no such"]),
        ({"source_time": pa.array([NOON.replace(tzinfo=None)])}, ["source_time", "is timestamp"]),
        ({"value": pa.array(["1,5"])}, ["value: is string"]),
        ({"tag": pa.array(["tank.levl"])}, ["tank.levl: the plant file has no such", LEVEL]),
        ({"source_time": pa.array([NOW + timedelta(days=9)], MOMENT)}, ["later than now"]),
        ({"source_time": pa.array([5_000], MOMENT), "tag": pa.array(["x"])}, ["x: the plant"]),
        ({"source_time": pa.array([-(2**62)], MOMENT)}, ["that no plant has"]),
        ({"source_time": pa.array([2**62], pa.timestamp("ms", tz="UTC"))}, ["that no plant has"]),
        ({"arrival_time": pa.array([2**62], MOMENT)}, ["that no plant has"]),
        ({"source_time": pa.array([None], MOMENT)}, ["without source_time"]),
        ({"tag": pa.array([None], pa.string())}, ["without tag"]),
        ({"marks": pa.array([9], pa.int32())}, ["marks from 9"]),
        ({"quality": pa.array([-1])}, ["quality from -1"]),
        ({"quality": pa.array([2**32])}, ["0 to 4294967295"]),
        ({"quality": pa.array([1.5])}, ["quality: is double"]),
    ],
)
def test_every_fault_is_told_and_nothing_is_stored(
    historian: Historian, tmp_path: Path, columns: dict[str, Any], told: list[str]
) -> None:
    """What is wrong where; a faulty file leaves no reading behind."""
    path = written(tmp_path / "bad.parquet", **columns)
    with pytest.raises(FileFault) as fault:
        import_parquet(PLANT, historian, path, now=NOW)
    for words in told:
        assert words in str(fault.value)
    assert historian.count(PLANT) == 0


def test_a_file_of_another_plant_or_unit_is_refused(historian: Historian, tmp_path: Path) -> None:
    """Both are told at once."""
    told = {"plant": "other", "units": {LEVEL: "m"}}
    moment = pa.array([NOON], MOMENT)
    table = pa.table({"tag": [LEVEL], "source_time": moment, "value": [1.0]})
    path = tmp_path / "other.parquet"
    meta = {b"plantwright": json.dumps(told).encode()}
    pq.write_table(table.replace_schema_metadata(meta), path)
    with pytest.raises(FileFault, match="not of small") as fault:
        import_parquet(PLANT, historian, path, now=NOW)
    assert f"{LEVEL}: is in 'm' there, and in 'cm'" in str(fault.value)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"tag;value\n"])
def test_what_is_no_parquet_is_told(historian: Historian, tmp_path: Path, content: bytes) -> None:
    """A cut or foreign file is a fault of the file, not of ours."""
    path = tmp_path / "cut.parquet"
    path.write_bytes(content)
    with pytest.raises(FileFault, match="no whole Parquet file"):
        import_parquet(PLANT, historian, path, now=NOW)


def test_a_damaged_file_is_told_and_never_read_as_other_values(
    historian: Historian, tmp_path: Path
) -> None:
    """Whatever bits of an exported file flip: a fault of the file, or exactly what was written."""
    historian.store([level(i, float(i)) for i in range(200)])
    before = stored(historian)
    export(PLANT, historian, tmp_path / "sound.parquet", ALWAYS, ParquetWriter)
    sound = (tmp_path / "sound.parquet").read_bytes()
    place = random.Random(1001)
    told = 0
    for _ in range(60):
        damaged = bytearray(sound)
        damaged[place.randrange(len(damaged))] ^= 1 << place.randrange(8)
        path = tmp_path / "damaged.parquet"
        path.write_bytes(damaged)
        try:
            import_parquet(PLANT, historian, path, now=NOW)
        except FileFault:
            told += 1
        assert stored(historian) == before
    assert told > 20


def test_a_table_in_any_order_unit_and_zone_is_read_and_compared(
    historian: Historian, tmp_path: Path
) -> None:
    """What was there before with another value is counted, not stumbled over."""
    historian.store([level(i, float(i)) for i in range(3)])
    times = [at(2), at(9), at(0), at(1), at(1)]
    columns: dict[str, list[Any]] = {
        "tag": pa.array([LEVEL] * 4 + [DEMAND]),
        "source_time": pa.array(times, pa.timestamp("ns", tz="Europe/Berlin")),
        "value": pa.array([2.0, 9.0, 7.0, math.inf, 1.0]),
    }
    unsaid: dict[str, None] = dict.fromkeys(("quality", "marks", "arrival_time"))
    path = written(tmp_path / "mixed.parquet", **columns, **unsaid)
    report = import_parquet(PLANT, historian, path, now=NOW)
    assert (report.stored, report.rows_differing) == (2, 2)
    assert [r.value for r in stored(historian) if r.tag == LEVEL] == [0.0, 1.0, 2.0, 9.0]
    again = import_parquet(PLANT, historian, path, now=NOW)
    assert (again.stored, again.rows_differing) == (0, 2)


def test_two_columns_of_one_name_are_told(historian: Historian, tmp_path: Path) -> None:
    """Nobody knows which of them is meant."""
    moment, path = pa.array([NOON], MOMENT), tmp_path / "twice.parquet"
    names = ["tag", "source_time", "value", "value"]
    columns = [pa.array([LEVEL]), moment, pa.array([1.0]), pa.array([2.0])]
    pq.write_table(pa.Table.from_arrays(columns, names=names), path)
    with pytest.raises(FileFault, match="2 columns have this name"):
        import_parquet(PLANT, historian, path, now=NOW)


def test_a_plain_table_of_three_columns_is_enough(historian: Historian, tmp_path: Path) -> None:
    """Without the others a reading is good, backfilled, and arrived when it was measured."""
    path = written(tmp_path / "plain.parquet", quality=None, marks=None, arrival_time=None)
    import_parquet(PLANT, historian, path, now=NOW)
    assert stored(historian) == [Reading(LEVEL, 1.0, GOOD, NOON, NOON, Mark.BACKFILLED)]


def test_what_is_not_a_number_is_stored_as_none(historian: Historian, tmp_path: Path) -> None:
    """NaN and infinity become bad readings without a value, never zero."""
    for i, wrong in enumerate((math.nan, math.inf)):
        moment = pa.array([at(i)], MOMENT)
        path = written(tmp_path / "nan.parquet", value=pa.array([wrong]), source_time=moment)
        assert import_parquet(PLANT, historian, path, now=NOW).not_numbers == 1
    assert [(r.value, r.quality) for r in stored(historian)] == [(None, BAD)] * 2


def test_what_was_read_in_is_kept(historian: Historian, tmp_path: Path) -> None:
    """A record of years ago is not deleted by the next upkeep; twice read in is said once."""
    historian.store([level(-400 * 86_400.0, 1.0)])
    path = tmp_path / "old.parquet"
    export(PLANT, historian, path, Asked((LEVEL,), at(-5e7), NOON), ParquetWriter)
    kept_first: list[int] = []
    for _ in range(2):
        import_parquet(
            PLANT,
            historian,
            path,
            now=NOW,
            progress=lambda *_done: kept_first.append(len(historian.annotations(PLANT))),
        )
    assert kept_first == [1, 1], "said before the first rows can be called too old"
    (kept,) = historian.annotations(PLANT)
    assert (kept.kind, kept.tags) == (AnnotationKind.KEEP, (LEVEL,))
    assert "old.parquet" in kept.reason
    historian.store([level(-86_400.0 * day, 1.0) for day in range(4)])
    historian.maintain(at(300), PLANT, Keep(raw_days=1.0))
    left = [-400, -1, 0]
    assert [(r.source_time - NOON).days for r in stored(historian)] == left


class DiskFull(CsvWriter):
    """A disk that is full after the first part."""

    def close(self) -> None:
        super().close()
        raise OSError(28, "No space left on device")


def test_a_file_is_whole_or_not_there(historian: Historian, tmp_path: Path) -> None:
    """Where writing fails, no half file is left, and an older one of that name stands."""
    historian.store([level(0, 1.0)])
    path = tmp_path / "out.csv"
    for before in (None, "older"):
        if before is not None:
            path.write_text(before, encoding="utf-8")
        with pytest.raises(OSError, match="space"):
            export(PLANT, historian, path, ALWAYS, DiskFull)
        left = [file.name for file in tmp_path.iterdir() if file.name.endswith((".part", ".csv"))]
        assert left == ([] if before is None else ["out.csv"])
    assert path.read_text(encoding="utf-8") == "older"


# The commands


@pytest.fixture
def plantwright(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    clear_environment(monkeypatch, {"PLANTWRIGHT_STATE_DIR": str(tmp_path)})
    return CommandLine(monkeypatch, capsys)


def test_a_person_exports_and_imports(plantwright: CommandLine, tmp_path: Path) -> None:
    """Out of one database, into another: the same; and again: nothing new."""
    from twin.plant import read_plant

    tanks = read_plant("four_tank")
    tag = tanks.tags[0].name
    with Historian.create(tmp_path / "four_tank.db") as historian:
        historian.register(tanks)
        historian.store([Reading(tag, float(i), GOOD, at(i), at(i)) for i in range(300)])
        beside = small_plant("beside")
        historian.register(beside)
        historian.store([level(-9e7, 1.0)], beside)
    path = tmp_path / "tanks.parquet"
    answer = plantwright("export", "four_tank", str(path), "--json")
    assert (answer.code, answer.record["rows"]) == (0, 300)
    other = ("--database", f"sqlite:///{tmp_path / 'other.db'}", "--json")
    assert plantwright("import", "four_tank", str(path), *other).record["stored"] == 300
    assert plantwright("import", "four_tank", str(path), *other).record["stored"] == 0
    summed = seen_by_hand(
        make_url(f"sqlite:///{tmp_path}/other.db"), "SELECT n FROM rollup_1m ORDER BY bucket"
    )
    assert summed == [(60,)] * 3, "what is imported is summed up without a collector"
    for more, told in (
        (("--from", "2026-01-05T12:00:01+00:00", "--wide", "3600"), "no step is between"),
        (("--from", "2030-01-01"), "ends before it begins"),
        (("--to", "2020-01-01"), "ends before it begins"),
        (("--from", "1066-10-14"), "the years 1900 to 2199"),
    ):
        refused = plantwright("export", "four_tank", str(tmp_path / "no.csv"), *more, "--json")
        assert refused.code == 2
        assert told in refused.record["message"]
        assert not (tmp_path / "no.csv").exists()
    stood = path.read_bytes()
    for more, code, told in (
        ((), 2, "exists already"),
        (
            ("--force", "--from", "2026-01-05T13:30+00:00", "--to", "2026-01-06"),
            1,
            "is not written",
        ),
    ):
        refused = plantwright("export", "four_tank", str(path), *more, "--json")
        assert (refused.code, told in refused.record["message"]) == (code, True)
        assert path.read_bytes() == stood
    assert plantwright("export", "four_tank", str(path), "--force").code == 0
    wide = (str(tmp_path / "wide.csv"), "--wide", "10", "--tags", tag, "--from", "2026-01-05T12:01")
    zone = "+00:00"
    answer = plantwright("export", "four_tank", *wide[:-1], wide[-1] + zone, "--json")
    assert (answer.code, answer.record["rows"]) == (0, 24)
    answer = plantwright("export", "four_tank", str(tmp_path / "all.csv"), "--wide", "60", "--json")
    assert (answer.code, answer.record["rows"]) == (0, 5), "not back to the other plant's beginning"
    empty = (str(tmp_path / "empty.csv"), "--wide", "60", "--from", "2025-01-05", "--to")
    answer = plantwright("export", "four_tank", *empty, "2025-01-06")
    assert (answer.code, "Not one value in it is known" in answer.out) == (0, True)


def test_a_file_of_one_large_group_is_read_in_parts(historian: Historian, tmp_path: Path) -> None:
    """As other tools write them: memory is bounded, and a fault is told with its rows."""
    count, moment = 1_000_000, pa.timestamp("us", tz="UTC")
    times_us = microseconds(NOON) + np.arange(count)
    table = {
        "tag": pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), [LEVEL]),
        "source_time": pa.array(times_us, moment),
        "value": np.random.default_rng(1000).normal(size=count),
        "marks": np.where(np.arange(count) == 700_000, 99, 0),
    }
    path = tmp_path / "large.parquet"
    pq.write_table(pa.table(table), path, row_group_size=count)
    before, pool = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    pa.set_memory_pool(pool)
    try:
        with pytest.raises(FileFault, match=r"rows 600001 to 800000: marks from 0 to 99"):
            import_parquet(PLANT, historian, path, now=NOW)
    finally:
        pa.set_memory_pool(before)
    assert pool.max_memory() < 20e6, "the whole group takes 28 MB"
    assert historian.count(PLANT) == 0


def test_a_damaged_arrival_ends_no_export(historian: Historian, tmp_path: Path) -> None:
    """A time of no calendar is left empty; the value and the rows around it are there."""
    historian.store([level(0, 1.0), level(10, 2.0)])
    by_hand(historian.url, f"UPDATE sample SET delay = {10**18} WHERE ts = {microseconds(NOON)}")
    path = tmp_path / "x.csv"
    assert export(PLANT, historian, path, ALWAYS, CsvWriter).rows == 2
    first, second = [*csv.DictReader(path.open(encoding="utf-8"))]
    assert (first["value"], first["arrival_time"]) == ("1.0", "")
    assert second["arrival_time"] == at(11).isoformat()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("x.txt",), ".parquet or .csv"),
        (("nowhere/x.csv",), "no folder"),
        (("x.csv", "--wide", "0"), "--wide"),
        (("x.csv", "--wide", "1e300"), "a year"),
        (("x.csv", "--wide", "1e-9"), "at least 0.001 s"),
        (("x.csv", "--tags", ","), "names no tag"),
        (("x.csv",), "nothing is stored"),
        (("x.csv", "--tags", "nix"), "nix"),
    ],
)
def test_a_wrong_export_is_told(
    plantwright: CommandLine, tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    """What is wrong, and what to write; no file is left."""
    plantwright("db", "upgrade", "four_tank")
    answer = plantwright("export", "four_tank", str(tmp_path / words[0]), *words[1:])
    assert answer.code in (1, 2)
    assert told in answer.err
    assert not (tmp_path / words[0]).exists()


def test_of_two_that_write_one_file_each_writes_its_own(tmp_path: Path) -> None:
    """At the same time: what stands in the end is one of them, whole, and neither fails."""
    path, together = tmp_path / "x.csv", threading.Barrier(2, timeout=30)
    left = tmp_path / f".x.csv.{2**22 + 1}-7.part"  # of a process that was killed; Linux has fewer
    left.write_text("half")

    def write(letter: str) -> None:
        with whole_or_not(path) as part, part.open("w") as file:
            for _ in range(2):
                file.write(10 * letter)
                file.flush()
                together.wait()

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(write, letter) for letter in "ab"]:
            done.result()
    assert path.read_text() in (20 * "a", 20 * "b")
    assert [*tmp_path.iterdir()] == [path]


def test_an_export_that_is_ended_leaves_nothing_behind(tmp_path: Path) -> None:
    """SIGTERM in the middle, as of a service that is stopped: no file, no part of one."""
    from twin.plant import read_plant

    tanks, count = read_plant("four_tank"), 400_000
    times_us = microseconds(NOON) + 1_000_000 * np.arange(count)
    whole = np.zeros(count, np.int64)
    with Historian.create(tmp_path / "four_tank.db") as historian:
        historian.register(tanks)
        names = (tanks.tags[0].name,)
        historian.store(
            Readings(names, whole, times_us, times_us, whole * 1.0, whole, whole), tanks
        )
    with start(tmp_path, "export", "four_tank", str(tmp_path / "x.csv")) as exporting:
        give_up_at = time.monotonic() + 60
        while not any(part.stat().st_size for part in tmp_path.glob(".x.csv.*part")):
            assert time.monotonic() < give_up_at
            time.sleep(0.01)
        exporting.terminate()
        _, told = exporting.communicate(timeout=60)
    assert (exporting.returncode, "Interrupted before it was done" in told) == (130, True)
    assert not [*tmp_path.glob("*x.csv*"), *tmp_path.glob(".x*")]


def test_an_edge_box_without_pyarrow_is_told(tmp_path: Path) -> None:
    """There, CSV works, and Parquet says what is missing and what to do."""
    without = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "sys.argv = ['plantwright', *sys.argv[1:]]\n"
        "from dashboard import cli; cli.main()"
    )
    command = [sys.executable, "-c", without, "export", "four_tank", str(tmp_path / "x.parquet")]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert answer.returncode == 2
    assert "pip install pyarrow" in answer.stderr
    assert "Traceback" not in answer.stderr
