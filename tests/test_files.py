"""Tables into the historian: nothing lost, nothing invented, faults told before storing."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.files import Table, import_file, read_table
from twin.errors import FileFault
from twin.historian import Historian
from twin.plant import FileSource, Plant, Role, Tag, read_plant
from twin.records import BAD, GOOD
from twin.state import window

START = datetime(2001, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 1, tzinfo=UTC)
EVAPORATOR = Path(__file__).parent / "plants" / "evaporator.yaml"
DATA = os.environ.get("PLANTWRIGHT_BENCH_DATA", "")


def plant(time_zone: str = "UTC", flow: int | str = "flow", level: int | str = 3, **files) -> Plant:
    """Two tags read from a table; by default ten seconds a row from 2001 on."""
    source = {"start": START, "step_s": 10.0} if "time_column" not in files else {}
    return Plant(
        plant="table",
        title="Table",
        tags=(
            Tag(name="flow", role=Role.DV, unit="L/min", column=flow),
            Tag(name="level", role=Role.CV, unit="cm", column=level),
            Tag(name="unmapped", role=Role.AUX, unit=""),
        ),
        time_zone=time_zone,
        files=FileSource(**(source | files)),
    )


@pytest.fixture
def table(tmp_path):
    """Write a table and give its path."""

    def write(text: str | bytes) -> Path:
        path = tmp_path / "table.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.fixture
def historian(tmp_path):
    with Historian.create(f"sqlite:///{tmp_path / 'plantwright.db'}") as opened:
        yield opened


def read(given_plant: Plant, path: Path) -> Table:
    return read_table(given_plant, path, now=NOW)


def faults_of(given_plant: Plant, path: Path) -> list[str]:
    with pytest.raises(FileFault) as told:
        read(given_plant, path)
    return [str(fault) for fault in told.value.faults]


def seconds(found) -> list[float]:
    return [(time - START).total_seconds() for time in found.times]


def test_columns_go_to_their_tags_by_name_and_by_number(table):
    """The order of the file does not matter, other columns are left alone."""
    found = read(plant(), table("note,flow,x\na,1.5,2\nb,2.5,3e1\n"))
    assert list(found.values["flow"]) == [1.5, 2.5]
    assert list(found.values["level"]) == [2.0, 30.0]
    assert seconds(found) == [0.0, 10.0]


@pytest.mark.parametrize(
    ("separator", "text"),
    [
        ("comma", 'note,flow,x\n"a, b", 1.5 ,2\n\n'),
        ("semicolon", "note;flow;x\na;1.5;2\n"),
        ("tab", "note\tflow\tx\na b\t1.5\t2\n"),
        ("whitespace", "  note flow\t x \r\n\r\n a   1.5 \t 2 \r\n"),
        ("comma", "\ufeffnote,flow,x\na,1.5,2"),
    ],
)
def test_separators_quotes_blank_lines_and_byte_order_marks(table, separator, text):
    """Tables as plant historians and spreadsheets write them."""
    found = read(plant(separator=separator), table(text))
    assert (list(found.values["flow"]), list(found.values["level"])) == ([1.5], [2.0])


def test_a_decimal_comma_is_read_when_declared(table):
    """1,5 is one and a half where the plant file says so."""
    found = read(
        plant(separator="semicolon", decimal="comma"), table("note;flow;x\na;1,5;-2,25e1\n")
    )
    assert (list(found.values["flow"]), list(found.values["level"])) == ([1.5], [-22.5])


def test_a_decimal_comma_that_is_not_declared_is_a_fault(table):
    """A whole column would silently be no numbers."""
    faults = faults_of(plant(separator="semicolon"), table("note;flow;x\na;1,5;2\n"))
    assert faults == [
        "flow (line 2): '1,5' has a decimal comma. Add `decimal: comma` under `files`."
    ]


@pytest.mark.parametrize(
    "cell", ["", "NaN", "nan", "inf", "-inf", "1e400", "Bad", "--", "1_000", "0x10", "1 2", "١"]
)
def test_what_is_not_a_number_is_stored_without_value_and_never_as_zero(table, historian, cell):
    """The reading is kept with Bad quality: that something was missing is a fact too."""
    given_plant = plant()
    report = import_file(given_plant, historian, table(f"n,flow,x\na,{cell},2\nb,1,3\n"), now=NOW)
    assert (report.readings, report.stored, report.not_numbers) == (4, 4, 1)
    first = historian.last_readings(given_plant, ["flow"], at=START)["flow"]
    assert first.value is None
    assert first.quality == BAD
    assert not first.is_good
    assert "1 are not numbers" in report.text()


def test_a_good_number_keeps_value_quality_and_both_times(table, historian):
    """A record counts as arrived when it was measured."""
    given_plant = plant()
    import_file(given_plant, historian, table("n,flow,x\na,1.5,2\n"), now=NOW)
    found = historian.last_readings(given_plant)
    assert set(found) == {"flow", "level"}
    assert (found["flow"].value, found["flow"].quality) == (1.5, GOOD)
    assert found["flow"].source_time == found["flow"].arrival_time == START


def test_importing_twice_changes_nothing(table, historian):
    """The same table again stores nothing new and the same gaps."""
    given_plant = plant(breaks=(3,))
    path = table("n,flow,x\n" + "".join(f"a,{i},2\n" for i in range(5)))
    first = import_file(given_plant, historian, path, now=NOW)
    assert (first.rows, first.readings, first.stored, first.gaps) == (5, 10, 10, 1)
    gaps = historian.gaps(given_plant)
    again = import_file(given_plant, historian, path, now=NOW)
    assert (again.stored, again.readings) == (0, 10)
    assert historian.count(given_plant) == 10
    assert historian.gaps(given_plant) == gaps
    assert "10 were there already" in again.text()


def test_what_differs_from_a_stored_reading_is_told_and_changes_nothing(table, historian):
    """Another value for a known time is left out, never silently: rows are counted and told."""
    given_plant = plant()
    import_file(given_plant, historian, table("n,flow,x\na,1,2\na,3,4\na,,6\n"), now=NOW)
    other = table("n,flow,x\na,1.5,2.5\na,3,4\na,5,6\na,7,8\n")
    report = import_file(given_plant, historian, other, now=NOW)
    assert (report.readings, report.stored, report.rows_differing) == (8, 2, 2)
    assert "2 row(s) differ from what is stored and were left out" in report.text()
    kept = historian.readings(given_plant, ["flow"], START, NOW)
    assert [each.value for each in kept] == [1, 3, None, 7]
    again = import_file(given_plant, historian, table("n,flow,x\na,1,2\n"), now=NOW)
    assert again.rows_differing == 0
    assert "differ" not in again.text()


def test_a_file_whose_name_is_no_text_goes_in_and_is_named(tmp_path, historian):
    """Bytes of another system that are no UTF-8 are spelt out where the name is kept."""
    given_plant = plant(breaks=(2,))
    path = Path(os.fsdecode(bytes(tmp_path) + b"/essai d'\xe9t\xe9.csv"))
    path.write_text("n,flow,x\na,1,2\na,3,4\na,5,6\n")
    assert import_file(given_plant, historian, path, now=NOW).stored == 6
    (kept,) = historian.annotations(given_plant)
    assert kept.reason == "imported from essai d'\\udce9t\\udce9.csv"
    (gap,) = historian.gaps(given_plant)
    assert gap.reason.endswith("essai d'\\udce9t\\udce9.csv")


def test_nothing_continues_across_an_experiment_break(table, historian):
    """A break moves the next experiment away and is stored as a gap; the window between is NaN."""
    given_plant = plant(breaks=(4, 6), break_gap_s=3600.0)
    import_file(
        given_plant,
        historian,
        table("n,flow,x\n" + "".join(f"a,{i},{i}\n" for i in range(7))),
        now=NOW,
    )
    found = historian.samples(given_plant, ["level"], START, START + timedelta(days=1))["level"]
    shown = found.times_s - START.timestamp()
    assert shown.tolist() == [0, 10, 20, 3620, 3630, 7230, 7240]
    gaps = historian.gaps(given_plant)
    assert [(gap.started_at, gap.ended_at) for gap in gaps] == [
        (START + timedelta(seconds=20), START + timedelta(seconds=3620)),
        (START + timedelta(seconds=3630), START + timedelta(seconds=7230)),
    ]
    assert "begins with row 4" in gaps[0].reason
    past = window(given_plant, {"level": found}, START + timedelta(seconds=3600), 2, 60.0)
    assert np.isnan(past.values["level"]).all()


@pytest.mark.parametrize(
    ("files", "cells", "expected"),
    [
        ({"time_unit": "iso8601"}, ["2001-01-01T00:00:05Z", "2001-01-01 00:01:00+00:00"], [5, 60]),
        ({"time_unit": "s"}, ["978307205", "978307206.5"], [5, 6.5]),
        ({"time_unit": "ms", "start": START}, ["0", "250"], [0, 0.25]),
        ({"time_unit": "min", "start": START}, ["1", "2.5"], [60, 150]),
        ({"time_unit": "h", "start": START}, ["0.5", "24"], [1800, 86400]),
    ],
)
def test_time_columns_in_every_unit(table, files, cells, expected):
    """Numbers count from `start`, from 1970 without one; text says its own zone."""
    text = "time,flow,x\n" + "".join(f"{cell},1,2\n" for cell in cells)
    assert seconds(read(plant(time_column="time", **files), table(text))) == expected


def test_text_times_without_zone_are_in_the_plants(table):
    """A logger in Berlin writes local time: midnight there is 23:00 UTC."""
    found = read(
        plant(time_column=1, time_zone="Europe/Berlin"), table("t,flow,x\n2001-01-01 00:00,1,2\n")
    )
    assert found.times == [datetime(2000, 12, 31, 23, tzinfo=UTC)]


def test_an_experiment_whose_time_restarts_is_moved_behind_the_break(table):
    """Each experiment may count from zero; its own steps are kept."""
    files = {"time_column": "t", "time_unit": "s", "start": START, "breaks": (3,)}
    found = read(
        plant(**files, break_gap_s=1000.0), table("t,flow,x\n0,1,1\n5,1,1\n0,1,1\n7,1,1\n")
    )
    assert seconds(found) == [0, 5, 1005, 1012]
    assert len(found.gaps) == 1


def test_every_fault_of_a_table_is_told_at_once_with_its_line(table, historian):
    """Missing columns, short rows, wrong times: one list, and nothing is stored."""
    given_plant = plant(flow="flwo", level=9, time_column="when", breaks=(40,))
    path = table(
        "when,flow,x\n"
        "2001-01-01T00:00:00Z,1,2\n"
        "2001-01-01T00:00:10Z,1\n"
        "soon,1,2\n"
        "\n"
        "2001-01-01T00:00:00Z,1,2\n"
        "2000-12-31T00:00:00Z,1,2\n"
        "2001-01-01T00:00:20Z,1,2,3\n"
    )
    assert faults_of(given_plant, path) == [
        "flow (line 1): there is no column 'flwo'. Did you mean flow?",
        "level (line 1): column 9 is beyond the 3 columns of the table. "
        "Correct `column` in the plant file.",
        "row (line 3): 2 fields where the first line has 3. Check quotes and separators.",
        "time (line 4): 'soon' is not a time. Correct the row or time_unit.",
        "time (line 6): 2001-01-01T00:00:00+00:00 is not after the row before, "
        "2001-01-01T00:00:00+00:00. Sort the rows, or declare `breaks`.",
        "time (line 7): 2000-12-31T00:00:00+00:00 is not after the row before, "
        "2001-01-01T00:00:00+00:00. Sort the rows, or declare `breaks`.",
        "row (line 8): 4 fields where the first line has 3. Check quotes and separators.",
        "breaks: the break before row 40 is beyond the last row, 6. "
        "Correct `breaks` in the plant file.",
    ]
    with pytest.raises(FileFault):
        import_file(given_plant, historian, path, now=NOW)
    historian.register(given_plant)
    assert historian.count(given_plant) == 0


def test_rows_of_the_future_are_told_and_nothing_is_stored(table, historian):
    """One row of the year 2099 would be the tag's last reading for decades."""
    given_plant = plant(time_column="t", time_zone="Europe/Berlin")
    path = table(
        "t,flow,x\n"
        "2026-11-01T00:29:00Z,1,2\n"
        "2026-11-01T01:01:00Z,1,2\n"
        "2099-01-01 00:00,1,2\n"
        "9999-12-30 00:00,1,2\n"
    )
    remedy = "Correct the row, `time_unit` or `start`."
    late = "is later than now, 2026-11-01T00:00:00+00:00."
    assert faults_of(given_plant, path) == [
        f"time (line 3): 2026-11-01T01:01:00+00:00 {late} {remedy}",
        f"time (line 4): 2098-12-31T23:00:00+00:00 {late} {remedy}",
        f"time (line 5): 9999-12-29T23:00:00+00:00 {late} {remedy}",
    ]
    with pytest.raises(FileFault):
        import_file(given_plant, historian, path, now=NOW)
    historian.register(given_plant)
    assert historian.count(given_plant) == 0
    import_file(given_plant, historian, path, now=datetime(9999, 12, 29, 23, tzinfo=UTC))
    assert historian.count(given_plant) == 8


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has no rows"),
        (b"n,flow,x\n", "has no rows"),
        (b"n,flow,flow\na,1,2\n", "2 columns are named 'flow'"),
        (b"n,flow,x\na,\xff,2\n", "not UTF-8"),
        (b'n,flow,x\na,"1,2\n', "can't be read"),
    ],
)
def test_unusable_tables_are_told(table, content, words):
    """Empty, ambiguous and damaged tables are no tables."""
    assert words in "\n".join(faults_of(plant(), table(content)))


def test_files_that_can_not_be_opened_are_told(tmp_path):
    """A missing file, a folder, a plant without `files`."""
    assert "no such file" in faults_of(plant(), tmp_path / "none.csv")[0]
    assert "can't be opened" in faults_of(plant(), tmp_path)[0]
    with pytest.raises(FileFault, match="does not say how to read tables"):
        read(read_plant("four_tank"), tmp_path / "none.csv")


def test_a_long_list_of_faults_ends_in_a_count(table):
    """A person reads forty lines, and is told how many more there are."""
    faults = faults_of(plant(), table("n,flow,x\n" + "a,1\n" * 100))
    assert len(faults) == 41
    assert faults[-1] == "file: and 60 more faults."


def test_times_beyond_the_calendar_are_told(table):
    """A number of hours that no date can hold is a fault, not a crash."""
    files = {"time_column": "t", "time_unit": "h", "start": START}
    for cell in ("1e300", "nan", "", "9e9"):
        assert (
            "is not a number of h" in faults_of(plant(**files), table(f"t,flow,x\n{cell},1,2"))[0]
        )


def test_progress_is_told_while_importing(table, historian):
    """Rows done and rows in all, ending with all."""
    told: list[tuple[int, int]] = []
    path = table("n,flow,x\n" + "a,1,2\n" * 24_000)
    import_file(
        plant(), historian, path, now=NOW, progress=lambda done, rows: told.append((done, rows))
    )
    assert told == [(10_000, 24_000), (20_000, 24_000), (24_000, 24_000)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(allow_nan=True, allow_infinity=True), st.text("0123456789.eE+-n ", max_size=6)
        ),
        min_size=1,
        max_size=20,
    )
)
def test_every_cell_becomes_exactly_one_reading(tmp_path_factory, rows):
    """Whatever stands in the cells, a finite number keeps its value and the rest has none."""
    path = tmp_path_factory.mktemp("any") / "t.csv"
    path.write_text("n,flow,x\n" + "".join(f"a,{number!r},{text}\n" for number, text in rows))
    readings = [r for batch in read(plant(), path).batches() for r in batch]
    assert len(readings) == 2 * len(rows)
    flows, levels = readings[: len(rows)], readings[len(rows) :]  # tag by tag
    for (number, text), flow, level in zip(rows, flows, levels, strict=True):
        assert (flow.tag, level.tag) == ("flow", "level")
        assert flow.value == (number if np.isfinite(number) else None)
        assert level.value is None or level.value == float(text)
        assert flow.is_good == (flow.value is not None)


@pytest.mark.data
def test_the_evaporator_goes_in_with_a_plant_file_and_no_code(historian):
    """6305 rows of six real signals without a time column, in two experiments."""
    evaporator = read_plant(EVAPORATOR)
    path = Path(DATA) / "daisy" / "evaporator.dat"
    report = import_file(evaporator, historian, path, now=NOW)
    assert (report.rows, report.readings, report.stored) == (6305, 37830, 37830)
    assert (report.not_numbers, report.gaps) == (0, 1)
    assert historian.count(evaporator) == 37830
    gap = historian.gaps(evaporator)[0]
    assert gap.started_at == datetime(2000, 1, 1, tzinfo=UTC) + timedelta(minutes=3299)
    table = np.loadtxt(path)
    found = historian.samples(
        evaporator, ["feed.flow", "product.temperature"], report.start, report.end
    )
    assert np.array_equal(found["feed.flow"].values, table[:, 0])
    assert np.array_equal(found["product.temperature"].values, table[:, 5])
    assert np.flatnonzero(np.diff(found["feed.flow"].times_s) != 60.0).tolist() == [3299]
    assert import_file(evaporator, historian, path, now=NOW).stored == 0
