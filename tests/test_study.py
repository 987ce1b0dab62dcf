"""Studies: one question, the same random numbers for every scenario, faults told all at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from optimizer.study import StudyResult, run_study
from optimizer.study_file import Scenario, Study, StudyControl, Total, read_study
from optimizer.study_plot import figure, plot
from optimizer.study_start import present_of
from tests.command_line import CommandLine
from twin.errors import FileFault
from twin.historian import AnnotationKind, Historian
from twin.physics import Physics, load_physics
from twin.plant import read_plant
from twin.records import GOOD, Reading

PLANT = read_plant("four_tank")
EXAMPLE = Path(__file__).parent / "plants" / "demand_study.yaml"
NOW = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)


def _physics() -> Physics:
    physics = load_physics(PLANT)
    assert physics is not None
    return physics


def _example(**changed: object) -> Study:
    study = read_study(EXAMPLE, PLANT, _physics())
    return replace(study, **{"horizon_h": 3.0, "replications": 8, **changed})  # type: ignore[arg-type]  # the caller names fields of Study


@pytest.fixture(scope="module")
def result() -> StudyResult:
    """The example, shortened."""
    return run_study(PLANT, _physics(), _example())


def test_the_example_in_the_guide_is_the_tested_one() -> None:
    """docs/examples shows the file that the tests run."""
    shown = Path(__file__).parent.parent / "docs" / "examples" / "demand_plus_30.yaml"
    assert shown.read_text(encoding="utf-8") == EXAMPLE.read_text(encoding="utf-8")


def test_more_demand_misses_more_and_the_interval_says_so(result: StudyResult) -> None:
    """30 % more demand: more volume missed, clearly; every figure has a unit and a mean."""
    missed = result.difference("missed volume", 1)
    assert missed.mean > 0
    assert missed.is_clear_of_zero
    assert result.difference("cost", 1).mean > 0
    assert result.units["cost"] == "ct/h"
    assert result.units["energy"] == "W*h"
    assert result.units["tank_1.level outside limits"] == "min"


def test_pairing_beats_unpaired_comparison(result: StudyResult) -> None:
    """On common random numbers the difference varies far less than either scenario."""
    base, more = (runs.figures["energy"] for runs in result.scenarios)
    assert (more - base).var() < (base.var() + more.var()) / 10


def test_equal_scenarios_do_not_differ() -> None:
    """A variant that changes nothing gives exactly the base's runs."""
    found = run_study(PLANT, _physics(), _example(variants=(Scenario("same"),)))
    for name in found.units:
        assert found.difference(name, 1).mean == 0.0


def test_a_fixed_setpoint_is_what_the_pump_does() -> None:
    """Both pumps fixed at 8 cm³/s use the energy of 8 cm³/s, whatever the loops want."""
    fixed = Scenario("fixed", fix={"pump_1.setpoint": 8.0, "pump_2.setpoint": 8.0})
    found = run_study(PLANT, _physics(), _example(variants=(fixed,), horizon_h=1.0))
    flow_power_w = 9.81e-5 * 8.0 * (60 + 0.185 * 64) / 0.35 + 0.03 * 8 / np.sqrt(64.01)
    most = found.scenarios[1].figures["energy"].max()  # a run without trips
    assert most == pytest.approx(2 * flow_power_w, rel=1e-6)


def test_a_level_given_is_where_the_scenario_begins() -> None:
    """A variant may start with another level than the base."""
    low = Scenario("low", levels={"tank_1.level": 6.0})
    found = run_study(PLANT, _physics(), _example(variants=(low,), horizon_h=0.5))
    first = [runs.levels["tank_1.level"][:, 0].mean() for runs in found.scenarios]
    assert first[0] - first[1] > 4


def test_table_data_and_picture_show_the_same_scenarios(
    result: StudyResult, tmp_path: Path
) -> None:
    """The text names figures and scenarios, the data survive JSON, the picture is a PNG."""
    text = result.table()
    assert "missed volume" in text
    assert "demand +30 %" in text
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert [s["name"] for s in plain["scenarios"]] == ["base", "demand +30 %"]
    shown = plain["scenarios"][1]["figures"]["cost"]["difference"]
    assert shown["low"] <= shown["mean"] <= shown["high"]
    path = tmp_path / "study.png"
    plot(result, path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_figure_without_a_number_is_told_and_not_averaged(recwarn) -> None:
    """0 / 0 while no batch runs: "not a number" in the table, None in the data, no warning."""
    ratio = Total("ratio", "tank_1.delivered / tank_1.demand", "h")
    found = run_study(PLANT, _physics(), _example(totals=(ratio,), horizon_h=0.5))
    assert found.without_number[0].startswith("ratio of base is not a number in 8 of 8 runs")
    assert found.table().count("not a number") == 3
    figures = json.loads(json.dumps(found.to_dict(), allow_nan=False))["scenarios"][1]["figures"]
    assert figures["ratio"]["mean"] is None
    assert figures["ratio"]["difference"]["low"] is None
    assert not [str(warning.message) for warning in recwarn]


def test_the_table_says_what_a_figure_means(result: StudyResult) -> None:
    """A reader learns why the base misses volume too."""
    assert "missed volume: What batches ask for and do not get. Also in the base" in result.table()


def test_the_picture_shows_the_base_above_a_scenario_that_equals_it() -> None:
    """The base's line is thinner, dashed and drawn later than what it would hide under."""
    found = run_study(PLANT, _physics(), _example(variants=(Scenario("same"),), horizon_h=0.5))
    by_name = {line.get_label(): line for line in figure(found).axes[0].get_lines()}
    base, same = by_name["base"], by_name["same"]
    assert base.get_zorder() > same.get_zorder()
    assert base.get_linewidth() < same.get_linewidth()
    assert (base.get_linestyle(), same.get_linestyle()) == ("--", "-")


def test_a_picture_that_cannot_be_written_leaves_nothing(
    result: StudyResult, tmp_path: Path
) -> None:
    """A full disk or a folder in its place: an OSError, and no half picture."""
    (tmp_path / "study.png").mkdir()
    with pytest.raises(OSError, match=r"study\.png"):
        plot(result, tmp_path / "study.png")
    assert [path.name for path in tmp_path.iterdir()] == ["study.png"]


def test_the_command_tells_table_and_fault_and_ends_in_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What could be found is shown all the same; what could not is on stderr, exit code 1."""
    text = EXAMPLE.read_text(encoding="utf-8").replace("horizon_h: 12", "horizon_h: 0.5")
    text = text.replace("+ pump_2.power", "* tank_1.demand / tank_1.demand")
    path = tmp_path / "study.yaml"
    path.write_text(text, encoding="utf-8")
    call = CommandLine(monkeypatch, capsys)
    answer = call("study", "four_tank", str(path))
    assert answer.code == 1
    assert "missed volume" in answer.out
    assert "energy of base is not a number in 30 of 30 runs" in answer.err
    answer = call("study", "four_tank", str(path), "--json")
    assert answer.code == 1
    assert len(answer.record["without_number"]) == 2


@pytest.mark.parametrize("name", [".", "x.pdf", "folder.png", "none/x.png"])
def test_a_place_where_no_picture_can_go_is_told_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    name: str,
) -> None:
    """A wrong call: one sentence with the path."""
    (tmp_path / "folder.png").mkdir()
    target = str(tmp_path / name) if name != "." else name
    answer = CommandLine(monkeypatch, capsys)("study", "four_tank", str(EXAMPLE), "--plot", target)
    assert answer.code == 2
    assert f"--plot {target}" in answer.err
    assert "figure" not in answer.out


def test_progress_counts_every_run() -> None:
    """A study tells how many runs are done and of how many."""
    told: list[tuple[int, int]] = []
    study = _example(horizon_h=0.2, replications=5)
    run_study(PLANT, _physics(), study, progress=lambda done, of: told.append((done, of)))
    assert told == [(i, 10) for i in range(1, 11)]


# -- from the plant's present ------------------------------------------------------------------


def _readings() -> Iterator[Reading]:
    """Four quiet hours, then a batch of tank 1 that has been drawing for 5 minutes."""
    values = {tag.name: 0.0 for tag in PLANT.tags}
    values |= {"tank_1.level": 12.4, "tank_2.level": 12.7, "tank_3.level": 1.8}
    values |= {"tank_4.level": 1.4, "pump_1.running": 1.0, "pump_2.running": 1.0}
    values |= {"pump_1.setpoint": 10.0, "pump_2.setpoint": 10.0, "pump_1.flow": 10.0}
    values |= {"pump_2.flow": 10.0, "price.now": 14.0, "price.next": 13.0}
    values |= {"order_1a.start": NOW.timestamp() - 200, "order_1a.draw": 8.0}
    values |= {"order_1a.duration": 12.0}
    for i in range(241):
        at = NOW - timedelta(minutes=240 - i)
        values["tank_1.demand"] = 8.5 if i >= 235 else 0.0
        yield from (Reading(tag, value, GOOD, at, at) for tag, value in values.items())


def test_a_study_without_a_start_begins_at_the_plants_present(tmp_path: Path) -> None:
    """Levels, standing setpoints and the batch under way come from the historian."""
    with Historian.create(f"sqlite:///{tmp_path / 'plant.db'}") as historian:
        historian.register(PLANT)
        assert present_of(PLANT, _physics(), historian, NOW) is None
        historian.store(_readings())
        present = present_of(PLANT, _physics(), historian, NOW)
    assert present is not None
    assert present.setpoints == {"pump_1.setpoint": 10.0, "pump_2.setpoint": 10.0}
    assert present.state.states["tank_2.level"] == pytest.approx(12.7, abs=0.3)
    (batch,) = present.state.batches["orders_1"].batches
    assert batch.starts_s == pytest.approx(NOW.timestamp() - 300, abs=61)
    study = _example(start=None, control=StudyControl(), horizon_h=0.5)
    found = run_study(PLANT, _physics(), study, present=present)
    assert found.start == NOW


def test_prices_that_somebody_called_bad_are_no_prices_of_tomorrow(tmp_path: Path) -> None:
    """Those of yesterday stand for tomorrow's up to the hour in which nothing true is known."""
    with Historian.create(tmp_path / "plant.db") as historian:
        historian.register(PLANT)
        historian.store(_readings())
        ago = [NOW - timedelta(hours=hours) for hours in range(23, 4, -1)]
        historian.store(Reading("price.now", float(t.hour), GOOD, t, t) for t in ago)
        present = present_of(PLANT, _physics(), historian, NOW)
        bad = (ago[4] - timedelta(minutes=1), ago[4] + timedelta(minutes=1))
        told = {"by": "Ada", "reason": "meter off", "at": NOW, "tags": ["price.now"]}
        historian.annotate(PLANT, AnnotationKind.BAD_DATA, *bad, **told)
        careful = present_of(PLANT, _physics(), historian, NOW)
    assert present is not None
    assert careful is not None
    (tariff,), (doubted,) = present.state.tariffs.values(), careful.state.tariffs.values()
    assert tariff.later[: len(ago) - 1] == tuple(float(t.hour) for t in ago[1:])
    assert doubted.later == tuple(float(t.hour) for t in ago[1:4])


def test_a_study_without_any_present_is_refused() -> None:
    """No start in the file and no readings: one clear sentence, nothing run."""
    with pytest.raises(FileFault, match="start: is missing"):
        run_study(PLANT, _physics(), _example(start=None))


# -- faults ----------------------------------------------------------------------------------------


def _faults(tmp_path: Path, text: str) -> FileFault:
    path = tmp_path / "study.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FileFault) as found:
        read_study(path, PLANT, _physics())
    return found.value


def test_an_unknown_tag_is_named_with_its_line_and_the_nearest_one(tmp_path: Path) -> None:
    """The message says which tag, where, and what was probably meant."""
    text = EXAMPLE.read_text(encoding="utf-8").replace("{tank_1.demand: 1.3", "{tank1.demand: 1.3")
    (fault,) = _faults(tmp_path, text).faults
    assert "tank1.demand" in str(fault)
    assert "Did you mean tank_1.demand" in str(fault)
    line = next(i for i, row in enumerate(text.splitlines(), start=1) if "tank1.demand" in row)
    assert fault.line == line


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("tank_1.demand: 1.3,", "tank_1.demand: -1.3,", "-1.3 must be 0 or above"),
        ("tank_1.demand: 1.3,", "tank_1.demand: 1.0e+308,", "1e+308 must be 100 or below"),
        ("tank_1.demand: 1.3,", "tank_1.demand: 1e308,", "'1e308' is not a number. Write it"),
        ("pump_1.power + pump_2.power", "pump_1.power / 0", "'0' is zero"),
        ("name: missed volume", "name: cost", "'cost' is the name of another figure"),
        ("at: 2026-01-05T06:00:00Z", "at: 7", "7 is not a time"),
        ("replications: 30", "replications: 9999", "7199280 rows a scenario; 2000000 fit"),
        ("replications: 30", "replications: yes", "True is not a whole number"),
    ],
)
def test_a_value_that_makes_no_sense_is_one_fault(
    tmp_path: Path, old: str, new: str, told: str
) -> None:
    """Told with its rule, once, before anything is run."""
    text = EXAMPLE.read_text(encoding="utf-8")
    assert text.count(old) == 1
    (fault,) = _faults(tmp_path, text.replace(old, new)).faults
    assert told in str(fault)


def test_a_study_without_variants_has_nothing_to_compare(tmp_path: Path) -> None:
    """One fault, which names them."""
    (fault,) = _faults(tmp_path, "study: a\nvariants: []\n").faults
    assert fault.where == "variants"


def test_every_fault_of_a_study_is_told_at_once(tmp_path: Path) -> None:
    """Wrong tag, role, range, double steering, formula, unit, missing states: one message."""
    faults = _faults(
        tmp_path,
        """
study: everything wrong
start: {at: 2026-01-05T06:00:00Z, levels: {tank_1.level: 25}, orders: {price.now: []}}
control:
  hold: {pump_1.setpoint: 40}
  track: [{mv: pump_1.setpoint, cv: price.now, target: 1, gain: 1, reset_min: 5}]
variants:
  - {name: base, scale: {tank_1.level: 2}}
totals:
  - {name: broken, expression: "pump_1.power +", unit: W*h}
  - {name: strange, expression: pump_1.powr, unit: W*h}
  - {name: mixed, expression: pump_1.power, unit: L}
""",
    ).faults
    told = "\n".join(str(fault) for fault in faults)
    for part in (
        "'base' is taken",
        "tank_1.level is no disturbance",
        "40.0 is outside the engineering limits",
        "price.now is no CV",
        "pump_1.setpoint is steered twice",
        "pump_1.powr is no simulated tag",
        "Did you mean pump_1.power",
        "25.0 is outside",
        "tank_2.level, tank_3.level, tank_4.level missing",
        "price.now missing",
        "price.now is no demand",
        "where pump_2.setpoint stands",
        "totals[broken].expression",
        "totals[mixed].unit",
    ):
        assert part in told
    assert all(fault.line for fault in faults)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("study: a\nvariants: [{name: b}]\nreplicatons: 9\n", "Did you mean replications"),
        ("study: a\nvariants: [{name: b}]\nreplications: 2\n", "2 must be 5 or above"),
        ("study: a\n", "variants"),
        ("study: [\n", "not YAML"),
        ("- 1\n", "no keys at its top level"),
        ("study: a\nvariants: [{name: b}]\nstart: {at: 2026-01-05T06:00:00, levels: {}}\n", "at"),
        (
            "study: a\nvariants: [{name: b}]\nstart: {at: 9999-12-31T23:59:00Z, levels: {}}\n",
            "2200",
        ),
    ],
)
def test_a_malformed_file_gets_a_clear_message(tmp_path: Path, text: str, told: str) -> None:
    """Misspelt keys, numbers out of range, missing parts and broken YAML are told apart."""
    fault = _faults(tmp_path, text)
    assert told in str(fault)
    assert fault.faults[0].line is not None


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    """The path is named; nothing else happens."""
    with pytest.raises(FileFault, match="no such file"):
        read_study(tmp_path / "none.yaml", PLANT, _physics())
