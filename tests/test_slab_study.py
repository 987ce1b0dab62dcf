"""Studies of a furnace: what a change costs, with setpoints held and with the plan steering."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from command_line import CommandLine
from furnace_line import AT, FURNACE, HOLD, MILL, PLANT, full_furnace, with_blocks
from furnace_seen import values
from made_furnace import made_residual

from dashboard.cli.models import as_tracked
from dashboard.settings import Settings
from optimizer.controller import Model
from optimizer.slab_study import SlabStudyResult, run_slab_study
from optimizer.slab_study_file import Coming, Kind, RunIn, SlabScenario, SlabStudy, read_slab_study
from optimizer.slab_study_file import Stop as StudyStop
from optimizer.slab_study_plot import plot
from optimizer.slab_study_run import run_once
from optimizer.slab_study_start import NoPresent, SlabPresent, run_in, tracked_present
from twin.errors import FileFault
from twin.historian import Historian
from twin.plant import Plant
from twin.records import BAD, GOOD, Reading

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
CASES = sorted(path.stem for path in EXAMPLES.glob("furnace_*.yaml"))
STAND = {tag: float(path[0]) for tag, path in HOLD.items()} | {MILL.pace: 1.0}
PRESENT = SlabPresent(full_furnace(), STAND, "made by hand")
PRICES = ("furnace.spec.fuel_price_per_mwh", "economics.parameters.fuel_price.value")
CALM = with_blocks(mean_between_h=8e5)  # no stops


def _study(*variants: SlabScenario, **changed: object) -> SlabStudy:
    usual = {"horizon_h": 4.0, "replications": 6, "steered_by": ("held",)}
    return SlabStudy(study="a question", variants=variants, **{**usual, **changed})  # type: ignore[arg-type]  # fields of SlabStudy


def _found(study: SlabStudy, plant: Plant = PLANT) -> SlabStudyResult:
    return run_slab_study(plant, study, PRESENT, jobs=1)


@pytest.fixture(scope="module")
def stopped() -> SlabStudyResult:
    """A stop of 40 minutes after the first slab, with setpoints held and with the plan."""
    stop = SlabScenario("stop", stops=(StudyStop(4.0, 40.0),))
    study = _study(stop, horizon_h=1.0, replications=5, steered_by=("held", "plan"))
    return run_slab_study(CALM, study, PRESENT, jobs=1)


def test_a_scenario_that_changes_nothing_differs_in_nothing() -> None:
    """Both meet the same slabs, stops and errors: every difference is exactly zero."""
    study = _study(
        SlabScenario("same"), horizon_h=0.15, replications=5, steered_by=("held", "plan")
    )
    found = _found(study)
    for by in found.arms:
        for figure in found.units:
            change = found.difference(figure, by, 1)
            assert (change.mean, change.low, change.high) == (0.0, 0.0, 0.0), figure


def test_dearer_fuel_costs_money_and_moves_nothing() -> None:
    """Setpoints held, fuel a fifth dearer: what is burned and rolled is the same."""
    dearer = SlabScenario("dearer", scale=dict.fromkeys(PRICES, 1.2))
    found = _found(_study(dearer))
    for figure in found.units:
        change = found.difference(figure, "held", 1)
        assert change.is_clear_of_zero == (figure[:3] in ("mon", "mar")), figure
    mwh_per_h = found.mean("fuel", "held").mean * found.mean("throughput", "held").mean / 3.6
    price = FURNACE.spec.fuel_price_per_mwh
    more = found.difference("money", "held", 1).mean
    assert more == pytest.approx(0.2 * price * mwh_per_h, rel=0.02)


def test_a_smaller_burner_binds() -> None:
    """A zone that is to be very hot burns more than 34 MW, unless that is all its burners have."""
    hot = {FURNACE.zones[2].setpoint: 1310.0, FURNACE.zones[1].setpoint: 1150.0}
    study = _study(
        SlabScenario("34 MW", changes={"furnace.zones.3.fuel_mw": [1.0, 34]}, fix=hot),
        base=SlabScenario("42 MW", fix=hot),
    )
    found = _found(study)
    burned = [runs.levels[FURNACE.zones[2].fuel].max() for runs in found.arms["held"]]
    assert burned[0] > 36.0
    assert burned[1] == pytest.approx(34.0, abs=1e-9)
    assert found.difference("burners at their highest", "held", 1).low > 0.0


def test_cold_charge_burns_more() -> None:
    """The yard's slabs of 450 °C come at 20 °C instead: that heat has to be fired."""
    cold = SlabScenario("cold", slabs=Coming(charge=20.0))
    change = _found(_study(cold, horizon_h=6.0, settle_h=3.0)).difference("fuel", "held", 1)
    assert change.low > 0.05


def test_a_stop_costs_throughput(stopped: SlabStudyResult) -> None:
    """40 minutes of 60 without a slab: as much less is rolled, whoever steers."""
    for by in stopped.arms:
        runs = stopped.arms[by]
        stood_min = [(1.0 - each.levels[MILL.running]).sum(axis=1) for each in runs]
        assert stood_min[0] == pytest.approx(0.0)
        assert stood_min[1] == pytest.approx(40.0)
        change = stopped.difference("throughput", by, 1)
        assert change.high < 0.0
        whole = stopped.mean("throughput", by).mean
        slab_t = 25.0  # of some nine in the hour: one more or less
        assert change.mean == pytest.approx(-whole * 40.0 / 60.0, abs=1.5 * slab_t)


def test_the_plan_does_not_know_a_stop_before_it_comes(stopped: SlabStudyResult) -> None:
    """Minute by minute the same as without it, until the mill stands; then the plan turns down."""
    base, stop = stopped.arms["plan"]
    for i in range(stopped.replications):
        begins = int(np.argmax(stop.levels[MILL.running][i] < 1.0))
        assert begins >= 4
        for tag, path in stop.levels.items():
            before = path[i, :begins], base.levels[tag][i, :begins]
            assert np.array_equal(*before, equal_nan=True), tag
    late = slice(35, 44)  # it has stood for half an hour
    fuel_mw = [runs.levels[FURNACE.fuel][:, late].mean() for runs in (base, stop)]
    assert fuel_mw[1] < fuel_mw[0]
    zone = FURNACE.zones[3].temperature
    held = stopped.arms["held"][1].levels[zone][:, late].mean()
    assert stop.levels[zone][:, late].mean() < held


def test_stops_twice_as_often_roll_less() -> None:
    """Half the time between two stops: the mill stands longer."""
    often = SlabScenario("often", scale={"mill.mean_between_h": 0.5})
    found = _found(_study(often, horizon_h=8.0, replications=30))
    assert found.difference("throughput", "held", 1).high < 0.0


def test_a_rate_is_what_the_mill_rolls() -> None:
    """Every slab at 160 t/h, also those inside: that is rolled from the first hour on."""
    slow = SlabScenario("slow", slabs=Coming(rate=160.0))
    found = _found(_study(slow, horizon_h=3.0), CALM)
    assert found.mean("throughput", "held", 1).mean == pytest.approx(160.0, rel=0.04)
    assert found.difference("throughput", "held", 1).high < 0.0


def test_a_mix_is_what_comes() -> None:
    """A mix of one kind is the same as every slab that comes being of that kind."""
    kind = {"thickness": 180.0, "charge": 20.0, "grade": 1, "rate": 200.0}
    mix = SlabScenario("mix", mix=(Kind(**kind),))  # type: ignore[arg-type]  # fields of Kind
    all_same = SlabScenario("slabs", slabs=Coming(**{**kind, "rate": None}))  # type: ignore[arg-type]  # fields of Coming
    rate = SlabScenario("rate", slabs=Coming(rate=200.0))
    study = _study(mix, replace(all_same, slabs=Coming(**kind)), rate, horizon_h=5.0, settle_h=3.0)  # type: ignore[arg-type]  # fields of Coming
    found = _found(study, with_blocks(CALM, gap_sd=0.0))
    mixed, same = (found.arms["held"][i].figures for i in (1, 2))
    # Those inside keep their own rate under a mix: they leave a little later or earlier.
    assert mixed["fuel"].mean() == pytest.approx(same["fuel"].mean(), rel=0.02)
    assert found.difference("fuel", "held", 1).is_clear_of_zero


def test_a_fixed_setpoint_stays_whoever_steers() -> None:
    """The plan steers the other zones around it."""
    zone = FURNACE.zones[3]
    fixed = SlabScenario("fixed", fix={zone.setpoint: 1200.0})
    study = _study(fixed, horizon_h=0.75, steered_by=("plan",))
    run = run_once(CALM, study, fixed, "plan", PRESENT, 0)
    assert run.levels[zone.temperature][-1] == pytest.approx(1200.0, abs=4.0)
    usual = run_once(CALM, study, study.base, "plan", PRESENT, 0)
    assert usual.levels[zone.temperature][-1] != pytest.approx(1200.0, abs=10.0)


# -- what is told ----------------------------------------------------------------------------------


def test_table_data_and_picture_show_the_same(stopped: SlabStudyResult, tmp_path: Path) -> None:
    """Where it begins, who steers, what the plan gains; numbers survive JSON; the plot is a PNG."""
    text = stopped.table()
    for told in ("made by hand", "present setpoints held", "plan in closed loop", "plan less held"):
        assert told in text
    plain = json.loads(json.dumps(stopped.to_dict(), allow_nan=False))
    base, stop = plain["steered_by"]["plan"]
    assert (base["name"], stop["name"]) == ("base", "stop")
    for figure, told in stop["figures"].items():
        assert told["difference"]["low"] <= told["difference"]["high"], figure
        assert base["figures"][figure]["difference"] is None
        assert told["against_held"] is not None
    plot(stopped, tmp_path / "study.png")
    assert (tmp_path / "study.png").read_bytes().startswith(b"\x89PNG")


def test_a_figure_without_a_slab_is_told() -> None:
    """The mill stands all the time: no share in spec, and one sentence on it; no crash."""
    never = SlabScenario("never", stops=(StudyStop(0.0, 400.0),))
    found = _found(_study(never, horizon_h=1.0, settle_h=0.5), CALM)
    assert any(each.startswith("in spec of never") for each in found.without_number)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["without_number"]
    assert "not a number" in found.table()


def test_progress_counts_every_run() -> None:
    """Of two scenarios with five replications each."""
    told: list[tuple[int, int]] = []
    study = _study(SlabScenario("same"), horizon_h=0.1, replications=5)
    run_slab_study(PLANT, study, PRESENT, jobs=1, progress=lambda *each: told.append(each))
    assert told == [(i, 10) for i in range(1, 11)]


# -- where a study begins --------------------------------------------------------------------------


def _readings(hours: float) -> Iterator[Reading]:
    """A calm furnace, minute by minute: a slab's records every 10 min, as its PLC tells them."""
    told = values(PLANT)
    slow = [tag for tag in told if tag.startswith(("slot_", "yard_"))]
    warm = {zone.temperature for zone in FURNACE.zones}
    for minute in range(round(60 * hours) + 1):
        at = AT - timedelta(minutes=round(60 * hours) - minute)
        for tag, steady in told.items():
            # A live thermocouple trembles.
            value = steady if steady is None or tag not in warm else steady + 0.1 * (minute % 2)
            if tag not in slow or minute % 10 == 0:
                yield Reading(tag, value, BAD if value is None else GOOD, at, at)


def test_a_study_begins_at_the_furnace_as_tracked(tmp_path: Path) -> None:
    """Slabs, zones and setpoints come from the historian, once a live plan would go by them.

    Without readings nothing is known; half an hour after taking over, slabs are a guess.
    """
    with Historian.create(f"sqlite:///{tmp_path / 'plant.db'}") as historian:
        historian.register(PLANT)
        unknown = tracked_present(PLANT, historian, AT)
        assert isinstance(unknown, NoPresent)
        assert unknown.reasons == ("no zone or slab has been seen yet",)
        historian.store(_readings(2.0))
        guessed = tracked_present(PLANT, historian, AT - timedelta(minutes=90))
        assert isinstance(guessed, NoPresent)
        assert "known to no better than ±15 K" in guessed.reasons[0]
        present = tracked_present(PLANT, historian, AT)
    assert isinstance(present, SlabPresent)
    assert present.state.at == AT
    assert present.setpoints[FURNACE.zones[1].setpoint] == 1180.0
    assert len(present.state.slabs) == FURNACE.slots
    study = _study(SlabScenario("same"), horizon_h=0.5)
    found = run_slab_study(PLANT, study, present, jobs=1)
    assert found.start == AT
    assert "tracked from the plant's readings" in found.table()


def test_a_study_believes_what_live_planning_believes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stops of weeks ago, the newest with them, and the residual in use; told where it is gone."""
    settings = Settings(state_dir=tmp_path)
    residual, days = made_residual(off_per_k=-0.6), (30, 20, 10)
    with Historian.create(settings.database_url(PLANT)) as historian:
        historian.register(PLANT)
        historian.store(_readings(2.0))
        historian.store(reading for day in days for reading in _a_stop(AT - timedelta(days=day)))
        plain = as_tracked(PLANT, settings)
        assert isinstance(plain, SlabPresent)
        assert plain.state.mill.stops is not None
        assert plain.state.mill.stops.past == len(days)
        told = tracked_present(PLANT, historian, AT, model=Model("trained", zone_residual=residual))
        assert isinstance(told, SlabPresent)
        assert told.state.loops is not None
        assert told.state.loops.residual == residual
        assert capsys.readouterr().err == ""
        historian.set_active_model(PLANT, "trained-elsewhere", {}, AT)
        assert as_tracked(PLANT, settings) == plain
    assert "The study begins with the physics alone." in " ".join(capsys.readouterr().err.split())


def _a_stop(at: datetime) -> Iterator[Reading]:
    """A stop of 40 min that was told to last half an hour, as its tags show it."""
    begin_s = at.timestamp()
    for minute in range(-5, 60):
        then = at + timedelta(minutes=minute)
        stands = 0 <= minute < 40
        told = {
            MILL.running: float(not stands),
            MILL.stopped_at: begin_s if stands else 0.0,
            MILL.expected_restart: begin_s + 1800.0 if stands else 0.0,
        }
        for tag, value in told.items():
            yield Reading(tag, value, GOOD, then, then)


def test_a_furnace_run_in_is_steady() -> None:
    """Slabs in their order, warmer towards the door, and leaving as hot as the mill wants them."""
    mix = (Kind(thickness=220.0, charge=20.0, grade=0, rate=200.0),)
    present = run_in(PLANT, RunIn(AT, mix, 3.0))
    assert present.state.at == AT + timedelta(hours=3)
    means_c = [float(np.mean(each.node_c)) for each in present.state.slabs]
    assert means_c == sorted(means_c, reverse=True)
    numbers = [each.slab.number for each in present.state.slabs]
    assert numbers == list(range(numbers[0], numbers[0] + FURNACE.slots))
    run = run_once(CALM, _study(horizon_h=1.0), SlabScenario("base"), "held", present, 0)
    assert run.levels[FURNACE.pyrometer][-1] == pytest.approx(1220.0, abs=20.0)
    assert "the study's mix" in present.source
    assert "tracked" not in present.source
    instead = run_in(PLANT, RunIn(AT, mix, 1.0), why=("most slabs are in doubt",))
    assert "not the furnace as tracked: most slabs are in doubt" in instead.source


# -- files -----------------------------------------------------------------------------------------


def test_there_is_an_example_of_every_case() -> None:
    """The seven questions that a furnace's people ask."""
    assert len(CASES) == 7


@pytest.mark.parametrize("case", CASES)
def test_an_example_can_be_run(case: str) -> None:
    """It has no fault, and its first hours give every figure, whoever steers."""
    study = read_slab_study(EXAMPLES / f"{case}.yaml", PLANT)
    assert study.replications >= 20
    assert study.steered_by == ("held", "plan")
    short = replace(study, horizon_h=2.0, settle_h=min(study.settle_h, 1.0))
    shorter = replace(study, horizon_h=0.5, settle_h=0.0)
    (variant,) = study.variants
    runs = [run_once(PLANT, short, variant, "held", PRESENT, i) for i in (0, 1)]
    runs += [run_once(PLANT, shorter, variant, "plan", PRESENT, i) for i in (0, 1)]
    for run in runs:
        assert all(np.isfinite(value) for value in run.figures.values()), run.figures


WRONG = """
study: all wrong
horizon_h: 8
settle_h: 9
steered_by: [held, pan]
variants:
  - name: stop at a negative time
    stops: [{at_min: -5, lasts_min: 40}]
  - name: MTBF 0
    changes: {mill.mean_between_h: 0}
  - name: MTBF 0
    mix: []
  - name: too fast
    slabs: {rate: 2000}
    fix: {pace.setpoint: 1.3, zone_9.setpoint: 1200}
  - name: no such zone
    changes: {furnace.zones.7.fuel_mw: [1, 34], furnace.zones.3.fuel_mw: [1, 0.5]}
  - name: unknown change
    chnges: {mill.mean_between_h: 3}
    scale: {mill.mean_betwen_h: 2}
  - slabs: {grade: 9}
    stops: [{at_min: 4000, lasts_min: 40}]
"""
TOLD = (
    "settle_h (line 4): 9 h leave nothing to count of 8 h.",
    "steered_by[no. 2] (line 5): 'pan' is not one of 'held' or 'plan'.",
    "variants[stop at a negative time].stops[no. 1].at_min (line 8): -5 must be 0 or above.",
    "variants[MTBF 0].changes.mill.mean_between_h (line 10): 0 must be 0.0166667 or above.",
    "variants[MTBF 0].name (line 11): the name 'MTBF 0' is taken.",
    "variants[MTBF 0].mix (line 12): is empty: no slab would come. Name at least one kind",
    "variants[too fast].slabs.rate (line 14): 2000 must be 500 or below.",
    "(line 15): 1.3 is outside the engineering limits 0.8 to 1.05. Choose a value inside them.",
    "(line 15): zone_9.setpoint is no MV of furnace or mill. Did you mean zone_4.setpoint",
    "changes.furnace.zones.7.fuel_mw (line 17): is no number of the plant file's furnace, mill or "
    "economics. furnace.zones are 1 to 4.",
    "(line 17): 1 MW at least is not below 0.5 MW at most. Give the smaller number first.",
    "variants[unknown change].chnges (line 19): is not a known key. Did you mean changes",
    "scale.mill.mean_betwen_h (line 20): is no number of the plant file's furnace, mill or "
    "economics. Did you mean mill.mean_between_h",
    "variants[no. 7].name (line 21): is missing.",
    "variants[no. 7].slabs.grade (line 21): 9 is no grade of the plant file. Known: 0, 1, 2.",
    "variants[no. 7].stops[no. 1].at_min (line 22): 4000 min is not within the study's 8 h.",
)


def test_every_fault_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    """With its line, value, rule and remedy; what only follows from another one is not told."""
    path = tmp_path / "study.yaml"
    path.write_text(WRONG, encoding="utf-8")
    with pytest.raises(FileFault) as found:
        read_slab_study(path, PLANT)
    told = [str(fault) for fault in found.value.faults]
    assert len(told) == len(TOLD)
    for sentence in TOLD:
        assert sum(sentence in fault for fault in told) == 1, sentence


@pytest.mark.parametrize(
    ("variant", "told"),
    [
        ("changes: {furnace.slots: 30}", "is how the furnace is built"),
        ("changes: {furnace.header_mw: 2}", "2 MW is not more than the 3.1 MW"),
        ("scale: {furnace.spec.fuel_price_per_mwh: 1.2}", "count with one price: correct one"),
        ("changes: {furnace.fuel: 3}", "no number of the plant file's furnace, mill"),
        ("changes: {furnace.emissivity: .nan}", "nan is not a finite number"),
        ("changes: {furnace.zones.3.fuel_mw: 34}", "is not a list"),
        ("changes: {mill.gap_sd: 0.1}\n    scale: {mill.gap_sd: 2}", "is changed twice"),
        ("scale: {mill.mean_between_h: 0}", "0.0 must be 0.0166667 or above"),
        ("scale: {mill.mean_between_h: -1}", "-1 must be 0 or above"),
        ("mix: [{thickness: 0, charge: 20, grade: 0, rate: 200}]", "0 must be 50 or above"),
        ("stops: [{at_min: 5}]", "is missing"),
    ],
)
def test_a_change_that_makes_no_sense_is_one_fault(tmp_path: Path, variant: str, told: str) -> None:
    """In the plant file's own words where it has a rule for it."""
    path = tmp_path / "study.yaml"
    path.write_text(f"study: one\nvariants:\n  - name: v\n    {variant}\n", encoding="utf-8")
    with pytest.raises(FileFault) as found:
        read_slab_study(path, PLANT)
    (fault,) = found.value.faults
    assert told in str(fault)
    assert fault.line is not None


def test_a_study_too_large_is_refused(tmp_path: Path) -> None:
    """Days of planning are a typing error: told with the number of rounds."""
    path = tmp_path / "study.yaml"
    text = "study: one\nhorizon_h: 72\nreplications: 200\nvariants: [{name: v}]\n"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FileFault, match="345600 planning rounds; a study has 150000 at most"):
        read_slab_study(path, PLANT)


# -- the command -----------------------------------------------------------------------------------


def test_the_command_studies_a_furnace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Without readings it begins with a furnace run in and says so; a bad file is one message."""
    monkeypatch.setenv("PLANTWRIGHT_STATE_DIR", str(tmp_path / "state"))
    call = CommandLine(monkeypatch, capsys)
    path = tmp_path / "study.yaml"
    path.write_text(WRONG, encoding="utf-8")
    answer = call("study", "furnace", str(path))
    assert answer.code == 1
    assert "study.yaml: 16 faults" in answer.err
    path.write_text(
        "study: short\nhorizon_h: 0.2\nreplications: 5\nsteered_by: [held]\n"
        "start: {at: 2026-01-05T06:00:00Z, hours: 1, mix: "
        "[{thickness: 220, charge: 20, grade: 0, rate: 200}]}\n"
        "variants: [{name: v, changes: {furnace.header_mw: 80}}]\n",
        encoding="utf-8",
    )
    picture = tmp_path / "study.png"
    answer = call("study", "furnace", str(path), "--json", "--plot", str(picture))
    assert answer.code == 0, answer.err
    assert answer.record["source"].startswith("a furnace run in for 1 h")
    assert picture.stat().st_size > 10_000
