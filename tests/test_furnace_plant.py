"""A furnace and its mill in a plant file: the shipped one, and every fault with its remedy."""

from __future__ import annotations

import contextlib
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import yaml
from faulty_file import faults_of, put_any_value
from hypothesis import given, settings
from hypothesis import strategies as st

from twin.errors import PlantFileError
from twin.plant import Plant, Role, json_schema, read_plant
from twin.plant.furnace import RECORD, Furnace, FurnaceZone, Mill, SlabSpec
from twin.plants.furnace import heating as ht
from twin.plants.furnace import works, yard
from twin.plants.furnace.plc import PACE_HIGH, PACE_LOW
from twin.plants.furnace.truth import YARD_PLACES

PLANT = read_plant("furnace")
assert PLANT.path is not None
TEXT = PLANT.path.read_text(encoding="utf-8")


def block(plant: Plant, kind: type) -> object:
    (found,) = (each for each in plant.discrete if isinstance(each, kind))
    return found


FURNACE, MILL = block(PLANT, Furnace), block(PLANT, Mill)
assert isinstance(FURNACE, Furnace)
assert isinstance(MILL, Mill)


def test_what_the_builder_says_of_the_furnace_is_what_was_built() -> None:
    """Zones, burners, header, ramps, ranges: the plant's own; what no builder knows is absent."""
    zones = FURNACE.zones
    assert FURNACE.slots == ht.SLOTS
    assert FURNACE.yard_places == YARD_PLACES
    np.testing.assert_allclose([zone.ends_at for zone in zones], ht.ZONE_END)
    burners_w = np.array([zone.fuel_mw for zone in zones]) * 1e6
    np.testing.assert_allclose(burners_w[:, 0], ht.LOWEST_FUEL_W)
    np.testing.assert_allclose(burners_w[:, 1], ht.HIGHEST_FUEL_W)
    assert FURNACE.header_mw * 1e6 == ht.HEADER_W
    assert FURNACE.ramp_k_per_min == (ht.RAMP_UP_K_PER_MIN, ht.RAMP_DOWN_K_PER_MIN)
    assert FURNACE.hold_below_c == works.INTERLOCK_C
    assert FURNACE.hold_longest_min * 60 == works.INTERLOCK_LONGEST_S
    assert (FURNACE.slab_length_m, FURNACE.slab_width_m) == (ht.LENGTH_M, ht.WIDTH_M)
    for z, zone in enumerate(zones):
        limits = PLANT.tag(zone.setpoint).engineering
        assert limits is not None
        assert (limits.low, limits.high) == (ht.SETPOINT_LOW_C[z], ht.SETPOINT_HIGH_C[z])
    pace = PLANT.tag(MILL.pace).engineering
    assert pace is not None
    assert (pace.low, pace.high) == (PACE_LOW, PACE_HIGH)
    thick = [t for t in yard.THICKNESS_M if not 0.05 <= t <= 0.6]
    assert not thick
    assert not {field.name for field in fields(Furnace)} & {"leak", "doors", "skid_shade", "bias"}


def test_the_limits_that_are_never_passed_stand_in_the_file() -> None:
    """Surface 1290 °C, zones 1330 °C, ramps 10 K/min, header 105 MW; the lining's rate, 5 K/min."""
    limits = {tag.name: tag.engineering for tag in PLANT.with_role(Role.CV) if tag.engineering}
    assert limits["tracker.surface"].high == 1290
    assert limits["furnace.fuel"].high == 105
    for z in range(1, 5):
        assert limits[f"zone_{z}.temperature"].high == 1330
        assert (limits[f"zone_{z}.ramp"].low, limits[f"zone_{z}.ramp"].high) == (-10, 10)
        mv = PLANT.tag(f"zone_{z}.setpoint")
        assert mv.rate_limit_per_min == 5
        # Each way to leave these limits that a setpoint can undo has its relief.
        relief = {(r.cv, r.side): r.direction for r in mv.relief}
        assert relief == {
            (f"zone_{z}.temperature", "high"): "down",
            (f"zone_{z}.ramp", "high"): "down",
            (f"zone_{z}.ramp", "low"): "up",
            ("furnace.fuel", "high"): "down",
            ("tracker.surface", "high"): "down",
        }
        assert {r.cv for r in mv.relief} <= set(mv.requires)
    assert FURNACE.spec.surface_c == limits["tracker.surface"].high


def test_every_record_of_beam_and_yard_has_its_tags() -> None:
    """Five per place, in units, and old enough to be told only when they change."""
    for place in range(1, FURNACE.slots + 1):
        for part, unit in RECORD.items():
            tag = PLANT.tag(FURNACE.slot_tag(place, part))
            assert (tag.unit, tag.role) == (unit, Role.AUX)
            assert tag.max_age_s >= 2 * 600
    assert PLANT.tag(FURNACE.yard_tag(16, "rate")).node == "yard.place_16.rate"


def test_editors_are_told_what_every_key_means() -> None:
    """Each key of the furnace, its zones and the mill has a sentence in the schema."""
    shapes = json_schema()["$defs"]
    for shape in (Furnace, FurnaceZone, SlabSpec, Mill):
        for field in fields(shape):
            if field.name not in ("kind", "name", "zones", "spec"):
                assert shapes[shape.__name__]["properties"][field.name].get("description"), field
    assert json_schema()["properties"]["plan_every_steps"]["description"]


def changed(old: str, new: str, times: int = 1) -> str:
    assert TEXT.count(old) >= times
    return TEXT.replace(old, new, times)


def without(*names: str) -> str:
    """The shipped file without these tags, each of which has a line of its own."""
    lines = TEXT.splitlines(keepends=True)
    kept = [line for line in lines if not any(f"{{name: {name}," in line for name in names)]
    assert len(lines) - len(kept) == len(names)
    return "".join(kept)


MILL_TEXT = TEXT[TEXT.index("  - kind: mill") :]
FURNACE_TEXT = TEXT[TEXT.index("  - kind: furnace") : TEXT.index("  - kind: mill")]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("ends_at: 0.55", "ends_at: 0.25", ["zones[no. 2].ends_at", "0.25", "before, 0.3."]),
        ("ends_at: 0.80", "ends_at: 0.55", ["zones[no. 3].ends_at", "0.55 is not beyond"]),
        ("ends_at: 1.0", "ends_at: 0.95", ["zones[no. 4].ends_at", "0.95", "Write 1.0."]),
        ("ends_at: 1.0", "ends_at: 1.5", ["zones[no. 4].ends_at", "1.5 must be 1 or below"]),
        ("fuel_mw: [0.6, 24]", "fuel_mw: [24, 0.6]", ["24 MW at least is not below 0.6 MW"]),
        ("header_mw: 105", "header_mw: 3", ["3 MW is not more than the 3.1 MW"]),
        ("mean_c: [1205, 1235]", "mean_c: [1235, 1205]", ["1235 °C is not below 1205 °C"]),
        ("fuel_price_per_mwh: 30", "fuel_price_per_mwh: 40", ["40 per MWh", "counts 30 for each"]),
        ("value: 30, unit: EUR", "value: 36, unit: EUR", ["30 per MWh", "counts 36 for each"]),
        ("surface_c: 1290", "surface_c: 1200", ["1200 °C is not above the lowest mean", "1205"]),
        ("{0: 1.0, 1: 0.92, 2: 0.80}", "{}", ["grades", "describes no grade"]),
        ("{0: 1.0, 1: 0.92, 2: 0.80}", "{-1: 1.0}", ["grades", "-1 must be 0 or above"]),
        ("{0: 1.0, 1: 0.92, 2: 0.80}", "{0: 0}", ["grades", "0 must be above"]),
        ("flue_heat: [0.445e-3, ", "flue_heat: [0.445, ", ["1200 °C carry 534", "4.5e-4"]),
        ("flue_heat: [0.445e-3, 0.055e-6]", "flue_heat: [-1.0, 0.000834]", ["600 °C carry -3"]),
        ("air_heat_per_k: 0.37e-3", "air_heat_per_k: 0.37", ["air of 450 °C bring 166", "3.7e-4"]),
        ("slots: 28", "slots: 27", ["slots", "27, but there is a tag slot_28.slab of one more"]),
        ("stop_sigma: 0.75", "stop_sigma: 50", ["stop_sigma", "50 must be 3 or below"]),
        ("stop_sigma: 0.75", "stop_sigma: 0.001", ["stop_sigma", "0.001 must be 0.01 or above"]),
        ("estimate_sd: 0.35", "estimate_sd: 0", ["estimate_sd", "0 must be 0.01 or above"]),
        ("stop_min: [3, 180]", "stop_min: [180, 3]", ["180 is above 3"]),
        ("stop_min: [3, 180]", "stop_min: [30, 180]", ["25 min is outside stop_min, 30 to 180"]),
        ('slot: "slot_{place}"', 'slot: "slot"', ["'slot' must hold {place} once"]),
        ('slot: "slot_{place}"', 'slot: "{place}_{place}"', ["must hold {place} once"]),
        ('slot: "slot_{place}"', 'slot: "slot_{place}_{row}"', ["no other braces", "slot_{place}"]),
        ('yard: "yard_{place}"', 'yard: "{yard_{place}"', ["no other braces", "yard_{place}"]),
        ('yard: "yard_{place}"', 'yard: "slot_{place}"', ["already the pattern of the slots"]),
        ("setpoint: zone_2.setpoint", "setpoint: zone_2.mode", ["zone_2.mode is AUX, not an MV"]),
        ("pace: pace.setpoint", "pace: mill.rate", ["mill.rate is DV, not an MV"]),
        ("- temperature: zone_1.temperature", "- temperature: zone_1.setpoint", ["is an MV"]),
        ("temperature: zone_3.temperature", "temperature: mill.rate", ["is DV; a zone's"]),
        ("followed: zone_2.active_setpoint", "followed: zone_1.active_setpoint", ["two things"]),
        ("fuel: zone_4.fuel", "fuel: zone_4.temperature", ["is in 'degC'", "in 'MW'"]),
        ("fuel: zone_4.fuel", "fuel: zone_4.feul", ["Did you mean zone_4.fuel"]),
        ("running: mill.running", "running: mill.runing", ["Did you mean mill.running"]),
        ("step_s: 60", "step_s: 30", ["30 s, but slabs are tracked", "Write 60."]),
        ("plan_every_steps: 5", "plan_every_steps: 0", ["0 must be 1 or above"]),
        ("plan_every_steps: 5", "plan_every_steps: 121", ["121 must be 120 or below"]),
        ("horizon_steps: 240", "horizon_steps: 4", ["plan_every_steps", "5 steps", "the 4 that"]),
        ("slots: 28", "slots: 3", ["3 must be 4 or above"]),
        ("emissivity: 0.65", "emisivity: 0.65", ["Did you mean emissivity"]),
        ("skid_mw: 0.65", "skid_mv: 0.65", ["zones[no. 4].skid_mv", "Did you mean skid_mw"]),
        (MILL_TEXT, "", ["furnace without a mill", "kind: mill"]),
        (FURNACE_TEXT, "", ["mill without a furnace", "kind: furnace"]),
        (
            MILL_TEXT,
            MILL_TEXT + MILL_TEXT.replace("name: mill\n", "name: other\n"),
            ["a second mill"],
        ),
        (
            MILL_TEXT,
            MILL_TEXT + FURNACE_TEXT.replace("name: furnace\n", "name: other\n"),
            ["is a second furnace", "plant file of its own"],
        ),
    ],
)
def test_each_fault_of_a_furnace_is_told_with_value_and_remedy(
    tmp_path: Path, old: str, new: str, words: list[str]
) -> None:
    """One change to the shipped file: one clear sentence, and no tail of follow-up faults."""
    faults = faults_of(tmp_path, changed(old, new))
    assert any(all(word in fault for word in words) for fault in faults), faults
    # A tag of another kind also has another unit, and a misspelt key leaves its place empty.
    assert len(faults) <= 2


def test_all_faults_come_at_once_and_at_their_lines(tmp_path: Path) -> None:
    """A reader corrects the file in one go: numbers against each other, two in a line, missing."""
    text = without("slot_07.grade")
    wrong = {
        "header_mw: 105": "header_mw: 1",
        "ends_at: 0.80": "ends_at: 0.1",
        "stop_mean_min: 25": "stop_mean_min: 200",
        "mean_c: [1205, 1235]": "mean_c: [1235, 1205]",
    }
    for old, new in wrong.items():
        text = text.replace(old, new)
    faults = faults_of(tmp_path, text)
    assert len(faults) == 5
    for new in wrong.values():
        line = text[: text.index(new)].count("\n") + 1
        where = f"{new.split(':')[0]} (line {line})"
        assert any(where in fault for fault in faults), faults


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        (("slot_07.grade",), "slot_07.grade: 1 tag is missing."),
        (tuple(f"slot_07.{part}" for part in RECORD), "slot_07.*: 5 tags are missing."),
        (("slot_28.slab", "slot_28.rate"), "slot_28.slab, rate: 2 tags are missing."),
        (
            tuple(f"slot_{k:02}.{part}" for k in range(3, 29) for part in RECORD),
            "slot_03.* to slot_28.*: 130 tags are missing.",
        ),
        (
            tuple(f"yard_{k:02}.rate" for k in range(1, 17)),
            "yard_01.rate to yard_16.rate: 16 tags are missing.",
        ),
    ],
)
def test_missing_slab_records_are_one_sentence(
    tmp_path: Path, gone: tuple[str, ...], told: str
) -> None:
    """A place without its tags is one fault, and so are neighbours that lack the same."""
    faults = faults_of(tmp_path, without(*gone))
    assert len(faults) == 1
    assert told in faults[0]
    assert faults[0].endswith("Add them under `tags`.")


def test_wrong_units_of_slab_records_are_one_sentence(tmp_path: Path) -> None:
    """28 thicknesses in cm are one mistake."""
    faults = faults_of(tmp_path, TEXT.replace("unit: mm", "unit: cm"))
    assert len(faults) == 2
    assert "slot_01.thickness and 27 more: in 'cm', but thickness is in 'mm'." in faults[0]
    assert "yard_01.thickness and 15 more" in faults[1]


def test_a_faulty_tag_of_a_record_is_not_missing_as_well(tmp_path: Path) -> None:
    """What is there but wrong is told once, where it is wrong."""
    line = next(line for line in TEXT.splitlines() if "{name: slot_09.rate," in line)
    faults = faults_of(tmp_path, TEXT.replace(line, line.replace("role: AUX", "role: AXU")))
    assert len(faults) == 1
    assert "'AXU' is not one of" in faults[0]


#: The shipped file up to its blocks, without slab records: a faulty file that is read quickly.
HEAD = "".join(
    line
    for line in TEXT[: TEXT.index("\ndiscrete:")].splitlines(keepends=True)
    if not line.startswith(("  - {name: slot", "  - {name: yard"))
)
BLOCKS = TEXT[TEXT.index("\ndiscrete:") :]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_value_anywhere_in_the_blocks_is_a_fault_or_fine(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever stands at one place of furnace or mill, the answer is a list of faults, no crash."""
    content = yaml.safe_load(BLOCKS)
    put_any_value(content["discrete"], data)
    path = tmp_path_factory.mktemp("any") / "plant.yaml"
    path.write_text(f"{HEAD}\n{yaml.safe_dump(content, allow_unicode=True)}", encoding="utf-8")
    with contextlib.suppress(PlantFileError):
        read_plant(path)
