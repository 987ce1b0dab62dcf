"""The plant file: what it promises once read, and every fault told at once with its line."""

from __future__ import annotations

import contextlib
import copy
import json
import pickle
from pathlib import Path

import pytest
import yaml
from faulty_file import faults_of, put_any_value
from hypothesis import given, settings
from hypothesis import strategies as st

from twin.errors import PlantFileError, UnknownTag
from twin.plant import (
    Limits,
    Role,
    is_loopback,
    is_opcua_address,
    json_schema,
    nearest,
    read_plant,
    shipped_plants,
)

PLANTS = Path(__file__).parent / "plants"
FOUR_TANK = read_plant("four_tank")

_SOURCES = """\
sources:
  - {{kind: opcua, endpoint: "opc.tcp://127.0.0.1:4841", namespace: "urn:two", {}}}
"""
_LAB = "{kind: mqtt, name: lab, broker: 'mqtt://127.0.0.1:1883'}"

SMALL = """\
plant: small
title: One tank, one pump
opcua:
  endpoint: opc.tcp://127.0.0.1:4840/small
  namespace: urn:small
tags:
  - name: pump.setpoint
    role: MV
    unit: cm**3/s
    node: pump.setpoint
    engineering: {low: 0, high: 18}
    operator: {low: 1, high: 15}
    rate_limit_per_min: 6
    move_budget_per_h: 60
    requires: [tank.level, pump.setpoint]
    relief:
      - {cv: tank.level, side: low, direction: up}
    remote: {tag: pump.mode}
  - name: tank.level
    role: CV
    unit: cm
    node: tank.level
    engineering: {low: 0, high: 20}
    operator: {low: 5, high: 17}
    rank: 1
  - {name: pump.mode, role: AUX, unit: "", node: pump.mode}
  - {name: pump.power, role: AUX, unit: W, node: pump.power}
  - {name: pump.running, role: DV, unit: "", node: pump.running}
  - {name: price, role: DV, unit: ct/(W*h), node: price}
economics:
  currency: ct
  cost_per_h: pump.power * price
interlocks:
  - name: near the edge
    when: tank.level > 19
    blocks: [pump.setpoint]
    message: The tank is about to overflow.
discrete:
  - {kind: trips, name: trips, running: pump.running, mean_between_h: 8, repair_min: [3, 12]}
"""


def line_of(text: str, part: str) -> int:
    """The line of the first occurrence."""
    return text[: text.index(part)].count("\n") + 1


def changed(old: str, new: str) -> str:
    """The small plant with one part changed."""
    assert SMALL.count(old) >= 1
    return SMALL.replace(old, new, 1)


def test_the_small_plant_is_sound(tmp_path):
    """What the fault tests change is without fault before the change."""
    path = tmp_path / "plant.yaml"
    path.write_text(SMALL)
    plant = read_plant(path)
    assert plant.path == path
    assert [tag.name for tag in plant.with_role(Role.MV)] == ["pump.setpoint"]


def test_shipped_plants_are_found_by_name():
    """A shipped plant is read by its name, wherever the command runs."""
    assert "four_tank" in shipped_plants()
    for name in shipped_plants():
        assert read_plant(name).plant == name


def test_a_plant_known_from_tables_alone_is_sound():
    """A recording without OPC UA, MVs and economics is a plant too."""
    recorded = read_plant(PLANTS / "evaporator.yaml")
    assert recorded.opcua is None
    assert recorded.cost is None
    assert len(recorded.tags) == 6


def test_four_tank_keeps_its_shape():
    """What other rooms count on: roles, states among the tags, costs and order lines."""
    assert len(FOUR_TANK.tags) == 32
    assert [tag.name for tag in FOUR_TANK.with_role(Role.MV)] == [
        *("pump_1.setpoint", "pump_2.setpoint")
    ]
    assert len(FOUR_TANK.with_role(Role.CV)) == 4
    assert FOUR_TANK.cost is not None
    assert FOUR_TANK.tag("pump_1.setpoint").engineering == Limits(0, 18)


def test_an_unknown_tag_is_told_with_the_nearest_names():
    """A typing error comes back with what was probably meant."""
    with pytest.raises(UnknownTag, match=r"tank_1\.levl: no such tag.*Did you mean tank_1\.level"):
        FOUR_TANK.tag("tank_1.levl")
    with pytest.raises(UnknownTag, match=r"zzz: no such tag in plant four_tank\.$"):
        FOUR_TANK.tag("zzz")


def test_a_plant_travels_between_processes():
    """Copies are equal and work, also after costs and look-ups were prepared."""
    assert FOUR_TANK.cost is not None
    FOUR_TANK.tag("price.now")
    twin = pickle.loads(pickle.dumps(FOUR_TANK))
    assert twin == FOUR_TANK
    assert twin.cost == FOUR_TANK.cost
    assert twin.tag("price.now") == FOUR_TANK.tag("price.now")
    assert copy.deepcopy(FOUR_TANK) == FOUR_TANK


def test_limits_never_hold_what_is_not_a_number():
    """NaN is outside every range, infinity outside every closed one."""
    assert Limits(0, 1).holds(0)
    assert Limits(0, 1).holds(1)
    assert not Limits(0, 1).holds(float("nan"))
    assert not Limits().holds(float("nan"))
    assert not Limits(0, 1).holds(float("inf"))


def test_the_json_schema_knows_every_key_of_the_shipped_plant():
    """Editors complete and check plant files with it; `path` is ours, not the file's."""
    schema = json_schema()
    content = yaml.safe_load(FOUR_TANK.path.read_text(encoding="utf-8"))
    assert set(content) <= set(schema["properties"])
    assert "path" not in schema["properties"]
    assert json.loads(json.dumps(schema)) == schema
    tag = schema["$defs"]["Tag"]
    assert tag["additionalProperties"] is False
    assert all(set(entry) <= set(tag["properties"]) for entry in content["tags"])


def test_a_file_with_many_faults_tells_all_of_them_at_once():
    """One reading of tests/plants/many_faults.yaml gives the whole list, in file order."""
    with pytest.raises(PlantFileError) as told:
        read_plant(PLANTS / "many_faults.yaml")
    found = [(fault.line, fault.where) for fault in told.value.faults]
    assert found == sorted(found, key=lambda fault: fault[0])
    assert found == [
        (2, "title"),
        (3, "time_zone"),
        (4, "step_s"),
        (5, "horizon_steps"),
        (6, "horizon"),
        (7, "physics"),
        (10, "opcua.endpoint"),
        (11, "opcua.namespace"),
        (15, "tags[pump.setpoint].rate_limit_per_min"),
        (19, "tags[pump.setpoint].engineering"),
        (20, "tags[pump.setpoint].move_budget_per_h"),
        (21, "tags[pump.setpoint].requires[no. 1]"),
        (23, "tags[pump.setpoint].relief[no. 1].cv"),
        (24, "tags[pump.setpoint].remote.tag"),
        (24, "tags[pump.setpoint].remote"),
        (25, "tags[valve.setpoint].engineering"),
        (25, "tags[valve.setpoint].rate_limit_per_min"),
        (25, "tags[valve.setpoint].move_budget_per_h"),
        (25, "tags[valve.setpoint].requires"),
        (27, "tags[valve.setpoint].unit"),
        (28, "tags[valve.setpoint].node"),
        (29, "tags[tank.level].rank"),
        (33, "tags[tank.level].enginering"),
        (34, "tags[tank.level].operator"),
        (35, "tags[tank.level].name"),
        (36, "tags[tank.level].role"),
        (43, "tags[tank.height].operator.low"),
        (43, "tags[tank.height].operator.high"),
        (45, "tags[tank.height].margin_low"),
        (47, "tags[pump.flow].rank"),
        (48, "tags[Pump Power].name"),
        (49, "tags[pump.power].max_age_s"),
        (50, "tags[price].node"),
        (51, "tags[no. 10]"),
        (56, "economics.parameters.missed.value"),
        (57, "economics.cost_per_h"),
        (60, "interlocks[edge].when"),
        (61, "interlocks[edge].name"),
        (61, "interlocks[edge].blocks[no. 1]"),
        (61, "interlocks[edge].when"),
        (62, "interlocks[number].blocks[no. 1]"),
        (62, "interlocks[number].when"),
        (65, "discrete[trips].running"),
        (65, "discrete[trips].repair_min"),
        (66, "discrete[strike]"),
    ]
    assert str(told.value).startswith(f"{PLANTS / 'many_faults.yaml'}: 45 faults\n")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        # values
        ("role: MV", "role: XV", ["'XV' is not one of 'MV', 'CV', 'DV' or 'AUX'"]),
        ("rate_limit_per_min: 6", "rate_limit_per_min: fast", ["'fast' is not a number"]),
        ("rate_limit_per_min: 6", 'rate_limit_per_min: "6"', ["'6' is not a number"]),
        ("rate_limit_per_min: 6", "rate_limit_per_min: yes", ["True is not a number"]),
        ("rate_limit_per_min: 6", "rate_limit_per_min: 0", ["0 must be above 1e-12"]),
        ("rate_limit_per_min: 6", "rate_limit_per_min: .nan", ["nan"]),
        ("rank: 1", "rank: 1.5", ["1.5 is not a whole number"]),
        ("rank: 1", "rank: 0", ["0 must be 1 or above"]),
        ("name: pump.mode", "name: Pump Mode", ["'Pump Mode' is not a name", "lower-case"]),
        ("requires: [tank.level, pump.setpoint]", "requires: tank.level", ["is not a list"]),
        ("engineering: {low: 0, high: 20}", "engineering: 20", ["20 is not a block of keys"]),
        ("repair_min: [3, 12]", "repair_min: [3]", ["is missing"]),
        ("repair_min: [3, 12]", "repair_min: [3, 12, 4]", ["a list of 3, but 2"]),
        ("kind: trips", "kind: strikes", ["'strikes' is not one of"]),
        ("kind: trips, ", "", ["has no kind"]),
        # keys
        ("rate_limit_per_min", "rate_limit_per_minute", ["Did you mean rate_limit_per_min"]),
        ("mean_between_h", "mean_between_hours", ["Did you mean mean_between_h"]),
        ("currency: ct", "currency: ct\n  path: x", ["not a known key"]),
        ("title: One", "path: /etc\ntitle: One", ["path", "not a known key"]),
        ("title: One", "7: x\ntitle: One", ["7 is not a known key"]),
        ("title: One tank, one pump\n", "", ["title", "is missing"]),
        ("plant: small", "plant: small\nplant: twice", ["given twice (lines 1 and 2)"]),
        # tags among themselves
        ("name: pump.mode", "name: tank.level", ["already the name of an earlier tag"]),
        ("node: pump.mode", "node: tank.level", ["already that of tank.level"]),
        ("unit: W", "unit: parsnip", ["unknown unit 'parsnip'"]),
        ("{low: 5, high: 17}", "{low: 17, high: 5}", ["low 17 is above high 5 cm"]),
        ("{low: 5, high: 17}", "{low: 5, high: 21}", ["21 is outside", "limit 20 cm"]),
        ("{low: 5, high: 17}", "{low: -5, high: 17}", ["-5 is outside", "limit 0 cm"]),
        ("{low: 5, high: 17}", "{}", ["neither low nor high"]),
        ("rank: 1", "margin_low: 12\n    rank: 1", ["margins 12 + 0 leave nothing"]),
        ("    rank: 1\n", "", ["rank", "is missing: a CV with operator limits"]),
        ("unit: W,", "unit: W, rank: 1,", ["no meaning for a tag with role AUX"]),
        ("engineering: {low: 0, high: 18}", "engineering: {low: 0}", ["on both sides"]),
        ("    rate_limit_per_min: 6\n", "", ["rate limit in cm**3/s per minute"]),
        ("    move_budget_per_h: 60\n", "", ["move budget in cm**3/s per hour"]),
        ("    requires: [tank.level, pump.setpoint]\n", "", ["requires", "is missing"]),
        ("requires: [tank.level,", "requires: [tank.levl,", ["Did you mean tank.level?"]),
        ("requires: [tank.level,", "requires: [pump.setpoint,", ["named twice"]),
        ("cv: tank.level", "cv: tank.lvel", ["'tank.lvel' is not a tag", "tank.level"]),
        ("cv: tank.level", "cv: pump.power", ["pump.power is AUX, not a CV"]),
        (
            "direction: up}",
            "direction: up}\n      - {cv: tank.level, side: low, direction: down}",
            ["relieved both up and down"],
        ),
        ("remote: {tag: pump.mode}", "remote: {tag: pump.mod}", ["Did you mean pump.mode"]),
        ("{tag: pump.mode}", "{tag: pump.mode, auto: 1}", ["auto and remote are both 1"]),
        (", node: pump.power}", "}", ["is missing: the tag is read from opcua"]),
        # interlocks
        ("tank.level > 19", "tank.level >", ["expression ends"]),
        ("tank.level > 19", "tank.lvel > 19", ["'tank.lvel' is not a tag", "tank.level"]),
        ("tank.level > 19", "tank.level + 19", ["is a number, not a condition"]),
        ("tank.level > 19", "tank.level > pump.power", ["in cm", "in W"]),
        ("blocks: [pump.setpoint]", "blocks: []", ["blocks no MV"]),
        ("blocks: [pump.setpoint]", "blocks: [tank.level]", ["is CV, not an MV"]),
        ("blocks: [pump.setpoint]", "blocks: [pump.setpont]", ["Did you mean pump.setpoint"]),
        # economics
        ("currency: ct", "currency: EURO", ["'EURO' is not a known currency", "EUR"]),
        ("pump.power * price", "pump.power", ["in W", "ct/h", "is needed"]),
        ("pump.power * price", "pump.power > price", ["in W", "in ct/h/W"]),
        ("pump.power * price", "pump.pwer * price", ["'pump.pwer' is not a tag", "pump.power"]),
        ("pump.power * price", "pump.power * price +", ["expression ends"]),
        ("unit: ct/(W*h)", "unit: EUR/(W*h)", ["in EUR/h", "ct/h", "is needed"]),
        (
            "currency: ct",
            "currency: ct\n  parameters: {price: {value: 1, unit: ct}}",
            ["'price' is already a tag"],
        ),
        (
            "currency: ct",
            "currency: ct\n  parameters: {fee: {value: 1, unit: cm/parsnip}}",
            ["unknown unit 'parsnip'"],
        ),
        # blocks, steps, sources
        ("running: pump.running", "running: pump.runing", ["Did you mean pump.running"]),
        ("running: pump.running", "running: tank.level", ["is in 'cm'"]),
        ("repair_min: [3, 12]", "repair_min: [12, 3]", ["12 is above 3"]),
        ("title: One", "step_s: 5\ntitle: One", ["5 s is shorter than sample_s, 10 s"]),
        ("title: One", "time_zone: Mars/Base\ntitle: One", ["'Mars/Base' is not a time zone"]),
        ("title: One", "physics: gone.py\ntitle: One", ["gone.py: there is no such file"]),
        ("opc.tcp://127.0.0.1:4840/small", "127.0.0.1", ["is not an OPC UA address"]),
        ("opc.tcp://127.0.0.1:4840/small", "opc.tcp://me@plc:4840", ["without a user"]),
        ("namespace: urn:small", 'namespace: ""', ["is empty"]),
        ("plant: small", f"plant: {'a' * 5000}", ["'aaa", "longer than 64 characters"]),
        ("title: One", "sample_s: 1.0e-300\ntitle: One", ["1e-300 must be 0.01 or above"]),
        ("title: One", "step_s: 1.0e+30\ntitle: One", ["1e+30 must be 3600 or below"]),
        ("title: One", "step_s: 1e30\ntitle: One", ["'1e30' is not a number", "1.0e+3"]),
        ("title: One", "horizon_steps: 9999\ntitle: One", ["9999 must be 1000 or below"]),
        ("namespace: urn", "history_days: 9999\n  namespace: urn", ["must be 366 or below"]),
        ("title: One tank, one pump", 'title: "One\\apump"', ["U+0007", "which nobody sees"]),
        ("name: pump.mode", "name: pump.mоde", ["CYRILLIC SMALL LETTER O"]),
        ("pump.power * price", "pump.power * price / 0", ["'0' is zero", "divided"]),
        ("pump.power * price", "pump.power * price / (2 - 2)", ["'2 - 2' is zero"]),
        (
            "cost_per_h: pump.power * price",
            "parameters: {share: {value: 0, unit: ''}}\n  cost_per_h: pump.power * price / share",
            ["'share' is zero"],
        ),
        # security and further sources
        (
            "opc.tcp://127.0.0.1:4840/small",
            "opc.tcp://plc:4840\n  security: {policy: None}",
            ["is None, but opc.tcp://plc:4840 is another machine", "Choose a policy"],
        ),
        (
            "namespace: urn:small",
            "namespace: urn:small\n  security: {policy: None, login: password}",
            ["password needs a policy that encrypts"],
        ),
        (
            "namespace: urn:small",
            "namespace: urn:small\n  security: {policy: Basic128}",
            ["'Basic128' is not one of 'Basic256Sha256'"],
        ),
        (
            "namespace: urn:small",
            "namespace: urn:small\n  security: {password: secret}",
            ["password", "is not a known key"],
        ),
        ("title: One", f"{_SOURCES.format('name: opcua')}title: One", ["'opcua' is used twice"]),
        ("title: One", f"{_SOURCES.format('nme: lab')}title: One", ["nme", "Did you mean name"]),
        (
            "title: One",
            "sources: [{name: lab, broker: 'mqtt://127.0.0.1:1883'}]\ntitle: One",
            ["has no kind", "opcua or mqtt"],
        ),
        (
            "title: One",
            "sources: [{kind: mqtt, name: lab, broker: 'http://lab'}]\ntitle: One",
            ["'http://lab' is not an MQTT address"],
        ),
        (
            "title: One",
            "sources: [{kind: mqtt, name: lab, broker: 'mqtt://lab:1883'}]\ntitle: One",
            ["mqtt://lab:1883 is another machine, reached without encryption", "mqtts://"],
        ),
        ("name: pump.power,", "name: pump.power, source: lab,", ["'lab' is not a source"]),
        (
            "unit: cm\n    node: tank.level",
            "unit: cm\n    windup: {tag: pump.mode}\n    node: tank.level",
            ["windup", "has no meaning for a tag with role CV"],
        ),
    ],
)
def test_each_kind_of_fault_is_told_with_value_and_remedy(tmp_path, old, new, words):
    """One change to the sound plant, one clear sentence that holds the value."""
    faults = "\n".join(faults_of(tmp_path, changed(old, new)))
    for word in words:
        assert word in faults, faults


def test_faults_stand_at_their_line(tmp_path):
    """The line is the one to edit, also in nested blocks and flow style."""
    text = changed("direction: up}", "direction: sideways}")
    assert faults_of(tmp_path, text) == [
        "tags[pump.setpoint].relief[no. 1].direction "
        f"(line {line_of(text, 'sideways')}): 'sideways' is not one of 'up' or 'down'."
    ]
    text = changed("    rank: 1\n", "")
    assert faults_of(tmp_path, text)[0].startswith(
        f"tags[tank.level].rank (line {line_of(text, '- name: tank.level')}): is missing"
    )


def test_a_date_off_the_calendar_is_told_with_its_line_beside_other_faults(tmp_path):
    """YAML reads 2026-02-30 as a date, and what it is not it would not say where."""
    text = changed("name: tank.level", "name: 2026-02-30").replace("rank: 1", "rank: 0b_")
    faults = faults_of(tmp_path, text)
    told = [fault for fault in faults if f"(line {line_of(text, '2026-02-30')})" in fault]
    assert told
    assert "2026-02-30" in told[0]
    assert any(f"(line {line_of(text, '0b_')})" in fault for fault in faults)


def test_one_fault_is_told_once(tmp_path):
    """A misspelt key or a wrong value does not drag a tail of follow-up faults behind it."""
    for old, new in (
        ("engineering: {low: 0, high: 18}", "enginering: {low: 0, high: 18}"),
        ("engineering: {low: 0, high: 18}", "engineering: {low: 0, high: much}"),
        ("name: tank.level\n    role: CV", "name: tank.level\n    role: CVX"),
        ("unit: W", "unit: parsnip"),
        ("  endpoint: opc.tcp://127.0.0.1:4840/small\n", ""),
        ("- {name: price, role: DV", "- {name: price, role: DV, rol: 1"),
        ("name: trips, ", ""),
    ):
        assert len(faults_of(tmp_path, changed(old, new))) == 1, new


def test_a_plant_needs_a_source(tmp_path):
    """Neither OPC UA nor tables: there is nothing to read the plant from."""
    start, end = SMALL.index("opcua:"), SMALL.index("tags:")
    faults = faults_of(tmp_path, SMALL[:start] + SMALL[end:])
    assert any("neither `opcua`, `sources` nor `files`" in fault for fault in faults)


TABLE = """\
plant: table
title: A recorded table
files:
  start: 2001-01-01T00:00:00Z
  step_s: 10
tags:
  - {name: flow, role: DV, unit: L/min, column: flow}
  - {name: level, role: AUX, unit: cm, column: 3}
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (", column: flow}", "}", ["is missing: this plant is read from tables"]),
        ("column: 3", "column: 0", ["0 must be 1 or above"]),
        ("column: 3", "column: flow", ["'flow' is already that of flow"]),
        ("  step_s: 10\n", "  step_s: 10\n  has_header: false\n", ["'flow' is a name"]),
        ("  step_s: 10\n", "", ["step_s", "without a time column the row's distance"]),
        ("  start: 2001-01-01T00:00:00Z\n", "", ["start", "the time of the first row"]),
        ("00:00:00Z", "00:00:00", ["has no time zone"]),
        ("2001-01-01T00:00:00Z", "soon", ["'soon' is not a time"]),
        ("  step_s: 10\n", "  step_s: 10\n  breaks: [30, 20]\n", ["do not rise"]),
        ("  step_s: 10\n", "  step_s: 10\n  breaks: [1]\n", ["1 must be 2 or above"]),
        (
            "  step_s: 10\n",
            "  step_s: 10\n  breaks: [5]\n  break_gap_s: 60\n",
            ["60 s is not longer than max_age_s of flow"],
        ),
        ("  step_s: 10\n", "  step_s: 10\n  decimal: comma\n", ["can't both part columns"]),
    ],
)
def test_tables_are_checked_too(tmp_path, old, new, words):
    """Column, time and experiment entries have rules of their own."""
    assert TABLE.count(old) == 1
    faults = "\n".join(faults_of(tmp_path, TABLE.replace(old, new)))
    for word in words:
        assert word in faults, faults


def test_physics_must_speak_of_tags(tmp_path):
    """States, inputs and outputs of the equations are tags of the file."""
    (tmp_path / "own.py").write_text(
        "STATES = ('tank.levl',)\nINPUTS = ('pump.flow',)\nOUTPUTS = ()\nNOMINAL = {}\n"
        "def actuators(s, p, f): ...\ndef rates(x, i, p, f): ...\ndef outputs(x, i, p, f): ...\n"
    )
    faults = faults_of(tmp_path, changed("title: One", "physics: own.py\ntitle: One"))
    assert len(faults) == 2
    assert "STATES of own.py names 'tank.levl', which is not a tag. Did you mean" in faults[0]
    assert "INPUTS of own.py names 'pump.flow'" in faults[1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"# nothing yet\n", "the file is empty"),
        (b"- a\n- b\n", "no keys at its top level"),
        (b"plant: [1, 2\ntitle: x\n", "is not YAML"),
        (b"plant: a\n\ttitle: b\n", "is not YAML"),
        (b"plant: a\n---\nplant: b\n", "is not YAML"),
        (b"plant: !!python/object/apply:os.system [ls]\n", "is not YAML"),
        (b"plant: *nobody\n", "is not YAML"),
        (b"plant: a\x00b\n", "is not YAML"),
        (b"? [a]\n: b\n", "is not YAML"),
        (b"plant: \xff\xfe\n", "not UTF-8"),
        (b"[" * 20_000, "is"),
        (
            b"a: &a [x]\n"
            + b"".join(
                b"%c: &%c [%s]\n" % (98 + i, 98 + i, b",".join([b"*%c" % (97 + i)] * 10))
                for i in range(12)
            ),
            "when written out",
        ),
        (b"plant: &p [*p]\n", "when written out"),
    ],
)
def test_what_is_no_plant_file_at_all_is_told_in_one_sentence(tmp_path, content, words):
    """Broken, hostile and foreign files end in a fault, never in a traceback or a long wait."""
    path = tmp_path / "plant.yaml"
    path.write_bytes(content)
    with pytest.raises(PlantFileError, match=words) as told:
        read_plant(path)
    assert len(told.value.faults) == 1


def test_what_can_not_be_opened_is_told(tmp_path):
    """A missing file, a folder, a name that no shipped plant has."""
    with pytest.raises(PlantFileError, match="is larger than 2 MB"):
        read_plant(Path("/dev/zero"))  # of no size, it says, and without an end
    with pytest.raises(PlantFileError, match="there is no such file"):
        read_plant(tmp_path / "none.yaml")
    with pytest.raises(PlantFileError, match="can't be read"):
        read_plant(tmp_path)
    with pytest.raises(PlantFileError, match="Did you mean four_tank"):
        read_plant("for_tank")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_value_anywhere_is_a_fault_or_fine(tmp_path_factory, data):
    """Whatever stands at one place of the file, the answer is a Plant or a list of faults."""
    content = yaml.safe_load(SMALL)
    put_any_value(content, data)
    path = tmp_path_factory.mktemp("any") / "plant.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    with contextlib.suppress(PlantFileError):
        read_plant(path)


def test_nearest_suggests_only_what_is_alike():
    """No suggestion is better than a misleading one."""
    assert nearest("tank.levl", ["tank.level", "price"]) == " Did you mean tank.level?"
    assert nearest("zzz", ["tank.level", "price"]) == ""


@pytest.mark.parametrize(
    ("endpoint", "is_address", "is_here"),
    [
        ("opc.tcp://127.0.0.1:4840/x", True, True),
        ("opc.tcp://127.9.9.9:4840", True, True),
        ("opc.tcp://localhost:4840", True, True),
        ("opc.tcp://[::1]:4840", True, True),
        ("opc.tcp://127.0.0.1.evil.example:4840", True, False),
        ("opc.tcp://127.0.0.1@10.0.0.1:4840", False, False),
        ("opc.tcp://localhost.example.org:4840", True, False),
        ("opc.tcp://192.168.1.7:4840", True, False),
        ("opc.tcp://0.0.0.0:4840", True, False),
        ("opc.tcp://plc:4840", True, False),
        ("opc.tcp://plc", False, False),
        ("opc.tcp://:4840", False, False),
        ("opc.tcp://plc:484000", False, False),
        ("opc.tcp://plc:four", False, False),
        ("opc.tcp://[::1:4840", False, False),
        (f"opc.tcp://{'a' * 63}:4840", True, False),
        (f"opc.tcp://{'a' * 64}:4840", False, False),
        ("opc.tcp://plc..works:4840", False, False),
        ("http://plc:4840", False, False),
        ("plc:4840", False, False),
        ("", False, False),
    ],
)
def test_an_endpoint_says_whether_it_is_an_address_and_of_this_machine(
    tmp_path: Path, endpoint: str, is_address: bool, is_here: bool
) -> None:
    """A wrong one is a fault of the file with its line; what only looks like here is elsewhere."""
    assert is_opcua_address(endpoint) is is_address
    assert is_loopback(endpoint) is is_here
    path = tmp_path / "plant.yaml"
    path.write_text(SMALL.replace("opc.tcp://127.0.0.1:4840/small", f'"{endpoint}"'))
    if is_address:
        assert read_plant(path).is_on_this_machine is is_here
    else:
        with pytest.raises(PlantFileError, match=r"opcua\.endpoint \(line 4\).*OPC UA address"):
            read_plant(path)


def _names_us(text: str) -> bool:
    return any(word in text.lower() for word in ("localhost", "127.", "::"))


@given(st.text(max_size=40))
def test_no_text_is_an_endpoint_by_accident(text: str) -> None:
    """Whatever somebody types is judged without an exception, and names no machine of ours."""
    for endpoint in (text, f"opc.tcp://{text}", f"opc.tcp://plc-{text}:4840/"):
        is_opcua_address(endpoint)
        assert not is_loopback(endpoint) or _names_us(text)


def test_further_sources_have_their_own_tags(tmp_path):
    """A tag without `source` is the main source's; two sources may have nodes of one name."""
    text = changed("title: One", f"sources: [{_LAB}]\ntitle: One")
    text = text.replace("name: pump.power, ", "name: pump.power, source: lab, ")
    text = text.replace("node: pump.power", "node: tank.level")
    path = tmp_path / "plant.yaml"
    path.write_text(text)
    plant = read_plant(path)
    assert [source.name for source in plant.all_sources] == ["opcua", "lab"]
    assert [tag.name for tag in plant.tags_of("lab")] == ["pump.power"]
    assert len(plant.tags_of("opcua")) == len(plant.tags) - 1
    assert plant.opcua is not None
    assert not plant.opcua.security.is_none, "what the file does not say is encrypted"


@pytest.mark.parametrize("node", ["nsu=urn:x", "ns=2;s=level", "i=-1", "g=6b29", "b=***", "s="])
def test_a_node_that_no_server_can_have_is_a_fault_of_the_file(tmp_path, node):
    """Told with its line before anybody connects, and not only in the collector's log."""
    path = tmp_path / "plant.yaml"
    path.write_text(changed("node: tank.level", f'node: "{node}"'))
    with pytest.raises(PlantFileError, match=r"tank\.level\]\.node \(line \d+\): .* is no node"):
        read_plant(path)


def test_an_mv_is_the_main_sources(tmp_path):
    """Only the main source is written to, so nothing of another can be an MV, nor its heartbeat."""
    text = changed("title: One", f"sources: [{_LAB}]\ntitle: One")
    text = text.replace("    role: MV", "    role: MV\n    source: lab")
    assert any("an MV is written there" in fault for fault in faults_of(tmp_path, text))
    second = _SOURCES.format("name: two, stop_node: stop")
    text = changed("title: One", f"{second}title: One")
    assert any("the main source, alone" in fault for fault in faults_of(tmp_path, text))


def test_a_topic_has_no_wildcard(tmp_path):
    """One tag, one topic; what follows # is the key of a JSON object."""
    text = changed("title: One", f"sources: [{_LAB}]\ntitle: One")
    text = text.replace("name: pump.power, ", "name: pump.power, source: lab, ")
    for node, why in (
        ("lab/+/viscosity#value", "holds a wildcard"),
        ("lab/#", "holds a wildcard"),
        ("#value", "names no topic"),
        ("$share/group/lab", "shares its messages"),
    ):
        wrong = text.replace("node: pump.power", f'"node": "{node}"')
        assert any(why in fault for fault in faults_of(tmp_path, wrong)), node
    path = tmp_path / "plant.yaml"
    path.write_text(text.replace("node: pump.power", '"node": "lab/1/viscosity#value"'))
    assert read_plant(path).tag("pump.power").node == "lab/1/viscosity#value"
