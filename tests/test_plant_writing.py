"""What a plant file says of writing fits together, or is told before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from faulty_file import faults_of

from twin.plant import read_plant

LOOP = """\
plant: loop
title: A valve and a fan
opcua:
  endpoint: opc.tcp://127.0.0.1:4840/loop
  namespace: urn:loop
  heartbeat_node: plc.heartbeat
  stop_node: plc.stop
  speed_node: plc.speed
  advisory:
    id_node: advice.id
    value_nodes: {valve.setpoint: advice.valve, fan.setpoint: advice.fan}
    valid_until_node: advice.until
    heartbeat_node: advice.heartbeat
tags:
  - name: valve.setpoint
    role: MV
    unit: degC
    node: valve.setpoint
    engineering: {low: 0, high: 100}
    rate_limit_per_min: 5
    move_budget_per_h: 50
    requires: [valve.setpoint]
    remote: {tag: valve.mode}
    downstream: valve.used
    windup: {tag: valve.limit}
  - {name: valve.mode, role: AUX, unit: "", node: valve.mode}
  - {name: valve.used, role: AUX, unit: degC, node: valve.used}
  - {name: valve.limit, role: AUX, unit: "", node: valve.limit}
  - {name: pressure, role: AUX, unit: bar, node: pressure}
  - name: fan.setpoint
    role: MV
    unit: degC
    node: fan.setpoint
    engineering: {low: 0, high: 100}
    rate_limit_per_min: 5
    move_budget_per_h: 50
    requires: [fan.setpoint]
"""


def test_the_loop_is_sound_and_says_what_may_be_written(tmp_path: Path) -> None:
    """MVs, modes and the PLC's own nodes; not the tag that shows where the valve stands."""
    path = tmp_path / "plant.yaml"
    path.write_text(LOOP)
    plant = read_plant(path)
    assert plant.tag("valve.setpoint").stands_at == "valve.used"
    assert plant.tag("pressure").stands_at == "pressure"
    assert dict(plant.written_nodes) == {
        name: name
        for name in (
            *("valve.setpoint", "valve.mode", "fan.setpoint", "plc.heartbeat", "plc.stop"),
            *("advice.heartbeat", "advice.valve", "advice.fan", "advice.until", "advice.id"),
        )
    }


def test_an_mv_whose_own_node_tracks_may_name_itself(tmp_path: Path) -> None:
    """Then it is taken over like any other that says where it stands."""
    path = tmp_path / "plant.yaml"
    path.write_text(LOOP.replace("downstream: valve.used", "downstream: valve.setpoint"))
    assert read_plant(path).tag("valve.setpoint").downstream == "valve.setpoint"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("downstream: valve.used", "downstream: valve.usd", ["'valve.usd'", "valve.used"]),
        ("downstream: valve.used", "downstream: pressure", ["pressure is in 'bar', not in 'degC'"]),
        (
            "downstream: valve.used",
            "downstream: fan.setpoint",
            ["fan.setpoint is another MV", "really uses"],
        ),
        (
            "requires: [fan.setpoint]",
            "requires: [fan.setpoint]\n    downstream: valve.used",
            ["already that of valve.setpoint", "its own"],
        ),
        ("windup: {tag: valve.limit}", "windup: {tag: valve.limt}", ["valve.limt", "valve.limit"]),
        ("windup: {tag: valve.limit}", "windup: {tag: valve.setpoint}", ["is the MV itself"]),
        (
            "windup: {tag: valve.limit}",
            "windup: {tag: valve.limit, low: 2}",
            ["0, 2, 2, 3: two are the same"],
        ),
        ("advice.fan}", "advice.fan, valve.used: x}", ["valve.used is AUX, not an MV"]),
        ("advice.fan}", "advice.fan, ghost: x}", ["'ghost' is not a tag"]),
        ("advice.fan}", "advice.valve}", ["'advice.valve' is al"]),
        (", fan.setpoint: advice.fan", "", ["has no node for fan.setpoint", "all or none"]),
        ("id_node: advice.id", "id_node: advice.until", ["'advice.until' is already that of"]),
        ("id_node: advice.id", "id_node: plc.stop", ["'plc.stop' is already that of"]),
        ("id_node: advice.id", "id_node: plc.speed", ["already that of speed_node"]),
        ("id_node: advice.id", "id_node: valve.mode", ["already that of valve.mode"]),
        ("stop_node: plc.stop", "stop_node: plc.heartbeat", ["'plc.heartbeat' is already that"]),
        ("heartbeat_node: plc.heartbeat", "heartbeat_node: pressure", ["already that of pressure"]),
    ],
)
def test_each_fault_of_writing_is_told(
    tmp_path: Path, old: str, new: str, words: list[str]
) -> None:
    """One change to the sound plant, one clear sentence; nothing is written twice or elsewhere."""
    assert old in LOOP
    faults = "\n".join(faults_of(tmp_path, LOOP.replace(old, new, 1)))
    for word in words:
        assert word in faults, faults


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("heartbeat_node: plc.heartbeat", "opcua.heartbeat_node"),
        ("stop_node: plc.stop", "opcua.stop_node"),
        ("speed_node: plc.speed", "opcua.speed_node"),
        ("id_node: advice.id", "opcua.advisory.id_node"),
        ("valid_until_node: advice.until", "opcua.advisory.valid_until_node"),
        ("heartbeat_node: advice.heartbeat", "opcua.advisory.heartbeat_node"),
        ("valve.setpoint: advice.valve", "opcua.advisory.value_nodes.valve.setpoint"),
    ],
)
@pytest.mark.parametrize("wrong", ["s=", "ns=2;s=stop", "i=one"])
def test_a_node_beside_the_tags_that_no_server_can_have_is_a_fault_of_its_line(
    tmp_path: Path, line: str, place: str, wrong: str
) -> None:
    """A stop node with a slip of the pen is found by a person at a desk, not by the stop."""
    key = line.partition(": ")[0]
    (fault,) = faults_of(tmp_path, LOOP.replace(line, f"{key}: {wrong!r}", 1))
    number = next(at for at, each in enumerate(LOOP.splitlines(), 1) if line in each)
    assert fault.startswith(f"{place} (line {number}): {wrong!r} is no node: ")


def test_a_mode_that_is_read_elsewhere_cannot_be_written(tmp_path: Path) -> None:
    """Only the main source is written to."""
    broker = "  - {kind: mqtt, name: lab, broker: 'mqtt://127.0.0.1:1883'}\n"
    text = LOOP.replace("tags:\n", f"sources:\n{broker}tags:\n")
    text = text.replace("name: valve.mode,", "name: valve.mode, source: lab,")
    assert "valve.mode is read from lab, which is not written to" in "\n".join(
        faults_of(tmp_path, text)
    )
