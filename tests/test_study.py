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
from optimizer.study_file import Scenario, Study, StudyControl, read_study
from optimizer.study_plot import plot
from optimizer.study_start import present_of
from twin.errors import FileFault
from twin.historian import Historian
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
    for figure in found.units:
        assert found.difference(figure, 1).mean == 0.0


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
        ("study: a\nvariants: [{name: b}]\nreplications: 2\n", "2 does not fit"),
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
