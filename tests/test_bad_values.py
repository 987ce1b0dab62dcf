"""Bad values in plant and study files: told with place, value and rule, or harmless."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from optimizer.slab_study_file import read_slab_study
from optimizer.study_file import read_study
from optimizer.study_start import nominal_present
from twin.errors import Fault, FileFault
from twin.physics import load_physics
from twin.plant import read_plant
from twin.plant.checking import checked
from twin.plant.document import read_document
from twin.simulation import simulate
from twin.simulation.expectation import expected

PLANT = read_plant("four_tank")
_PHYSICS = load_physics(PLANT)
assert _PHYSICS is not None
PHYSICS = _PHYSICS
STUDY = Path(__file__).parent / "plants" / "demand_study.yaml"
STUDY_FILE = read_study(STUDY, PLANT, PHYSICS)

#: One tank with one part of every kind.
TANK = """\
plant: tank
title: One tank
step_s: 60
sample_s: 10
horizon_steps: 60
time_zone: UTC
proposal_open_s: 300
opcua:
  endpoint: opc.tcp://127.0.0.1:4840/tank
  namespace: urn:tank
  heartbeat_node: beat
  heartbeat_timeout_s: 600
  publishing_interval_ms: 250
  history_days: 2
files: {time_column: 1, step_s: 10, break_gap_s: 3600, start: 2001-01-01T00:00:00Z, breaks: [9]}
tags:
  - name: pump.setpoint
    role: MV
    unit: cm**3/s
    description: the pump
    node: a
    column: 2
    engineering: {low: 0, high: 18}
    operator: {low: 1, high: 15}
    rate_limit_per_min: 6
    move_budget_per_h: 60
    move_price: 0.1
    requires: [tank.level]
    relief: [{cv: tank.level, side: low, direction: up}]
    remote: {tag: turns, auto: 0, remote: 1}
    write_tolerance: 0.1
  - {name: tank.level, role: CV, unit: cm, node: b, operator: {low: 5, high: 17}, rank: 1,
     soft_price_per_h: 1, margin_low: 1, margin_high: 1, max_age_s: 60, decimals: 2}
  - {name: turns, role: DV, unit: "", node: c, aggregate: mean}
  - {name: price, role: DV, unit: ct/(W*h), node: d}
  - {name: next, role: DV, unit: ct/(W*h), node: e}
  - {name: power, role: AUX, unit: W, node: f}
  - {name: draw, role: DV, unit: cm**3/s, node: g}
  - {name: from, role: AUX, unit: s, node: h}
  - {name: size, role: AUX, unit: cm**3/s, node: i}
  - {name: length, role: AUX, unit: min, node: j}
economics:
  currency: ct
  parameters: {fee: {value: 2, unit: ct/h, source: chosen}}
  cost_per_h: power * price + fee
  limit_price_per_min: 1
  smallest_benefit_per_h: 1
interlocks: [{name: edge, when: tank.level > 19, blocks: [pump.setpoint], message: near the edge}]
discrete:
  - {kind: trips, name: trips, running: turns, mean_between_h: 8, repair_min: [3, 12]}
  - {kind: tariff, name: tariff, price: price, next: next}
  - {kind: batches, name: orders, demand: draw,
     slots: [{start: from, draw: size, duration: length}],
     start_error_sd_min: 4, start_error_limit_min: 10, draw_error_sd: 0.1, duration_error_sd: 0.1,
     notice_min: [30, 60], gap_min: [45, 123], draw: [6, 10], duration_min: [8, 16]}
"""
FURNACE_STUDY = """
study: everything
start: {at: 2026-01-05T06:00:00Z, hours: 4,
        mix: [{thickness: 220, charge: 20, grade: 0, rate: 200}]}
horizon_h: 8
settle_h: 1
replications: 20
seed: 7
steered_by: [held, plan]
base: {name: now, fix: {pace.setpoint: 0.95}}
variants:
  - name: a
    changes: {furnace.zones.3.fuel_mw: [1.0, 34], mill.gap_sd: 0.1}
    scale: {mill.mean_between_h: 0.5}
    fix: {zone_1.setpoint: 900}
    stops: [{at_min: 60, lasts_min: 40}]
    slabs: {thickness: 200, charge: 20, grade: 1, rate: 200}
    mix: [{thickness: 180, charge: 480, grade: 1, rate: 195}]
"""
ANYWHERE: tuple[Any, ...] = (None, [], [1], date(2020, 1, 1), True, -1, 0)
NUMBERS: tuple[Any, ...] = (math.nan, math.inf, 1e300, 1e-300, 10**400, "", "1e3")
TEXTS: tuple[Any, ...] = ("", "  ", "a" * 5000, "tank.lеvel", "bell\a", "zero\u200bwidth")
#: Shorter for study files, whose every reading parses YAML.
FEW_ANYWHERE: tuple[Any, ...] = (None, [1], -1)
FEW_NUMBERS: tuple[Any, ...] = (math.nan, 1e300, "1e3")
FEW_TEXTS: tuple[Any, ...] = ("", "a" * 5000, "bell\a")

Place = tuple[Any, ...]


def _places(node: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every place below `node`, and what stands there."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield (*place, key), value
        if isinstance(value, dict | list):
            yield from _places(value, (*place, key))


def _spoilt(
    content: dict[str, Any], anywhere: Place, numbers: Place, texts: Place
) -> Iterator[tuple[Place, Any, dict[str, Any]]]:
    """The content with one bad value after the other at every place of it."""
    for place, good in list(_places(content)):
        is_number = isinstance(good, int | float) and not isinstance(good, bool)
        more = numbers if is_number else texts if isinstance(good, str) else ()
        for bad in (*anywhere, *more):
            again = copy.deepcopy(content)
            here = again
            for step in place[:-1]:
                here = here[step]
            here[place[-1]] = bad
            yield place, bad, again


def _is_harmless(bad: Any) -> bool:
    """Whether a value may stand somewhere: of a plant's size, and seen whole."""
    if isinstance(bad, str):
        return len(bad) < 5000 and (bad == "" or bad.isspace() or bad.isprintable())
    return not isinstance(bad, float | int) or abs(bad) <= 1e12


def test_any_bad_value_in_a_plant_file_is_told_or_harmless(tmp_path: Path) -> None:
    """Each field in turn: a list of faults with lines, or a plant whose numbers make sense."""
    path = tmp_path / "plant.yaml"
    path.write_text(TANK, encoding="utf-8")
    assert read_plant(path).plant == "tank"
    document, _ = read_document(path)
    for place, bad, spoilt in _spoilt(document.content, ANYWHERE, NUMBERS, TEXTS):
        plant, broken = checked(document, spoilt)
        assert (plant is None) == bool(broken)
        told = [str(fault) for fault in document.faults(broken)]
        assert told or _is_harmless(bad), (place, bad)
        assert all("line " in fault and len(fault) < 400 for fault in told), (place, told)
        assert all(fault.isprintable() for fault in told), (place, told)


def test_any_bad_value_in_a_study_file_is_told_or_harmless(tmp_path: Path) -> None:
    """The same for the question asked of the twin."""
    path, content = tmp_path / "study.yaml", yaml.safe_load(STUDY.read_text(encoding="utf-8"))
    for place, bad, spoilt in _spoilt(content, FEW_ANYWHERE, FEW_NUMBERS, FEW_TEXTS):
        path.write_text(yaml.safe_dump(spoilt, allow_unicode=True), encoding="utf-8")
        told: tuple[Fault, ...] = ()
        try:
            read_study(path, PLANT, PHYSICS)
        except FileFault as fault:
            told = fault.faults
        assert told or _is_harmless(bad), (place, bad)
        assert all(fault.line and len(str(fault)) < 400 for fault in told), (place, told)


def test_any_bad_value_in_a_furnaces_study_file_is_told_or_harmless(tmp_path: Path) -> None:
    """The same for a furnace's question, whose changes are judged by the plant file's rules."""
    path, plant = tmp_path / "study.yaml", read_plant("furnace")
    path.write_text(FURNACE_STUDY, encoding="utf-8")
    assert read_slab_study(path, plant).variants[0].name == "a"
    content = yaml.safe_load(FURNACE_STUDY)
    for place, bad, spoilt in _spoilt(content, FEW_ANYWHERE, FEW_NUMBERS, FEW_TEXTS):
        path.write_text(yaml.safe_dump(spoilt, allow_unicode=True), encoding="utf-8")
        told: tuple[Fault, ...] = ()
        try:
            read_slab_study(path, plant)
        except FileFault as fault:
            told = fault.faults
        assert told or _is_harmless(bad), (place, bad)
        assert all(fault.line and len(str(fault)) < 400 for fault in told), (place, told)


@pytest.mark.parametrize(
    ("block", "field", "values"),
    [
        ("orders_1", "start_error_sd_min", (0.0, 1e-300, 10_080.0)),
        ("orders_1", "start_error_limit_min", (0.0, 1e-300, 4900.0)),
        ("orders_1", "draw_error_sd", (0.0, 1e-300, 1.0)),
        ("orders_1", "duration_error_sd", (0.0, 1e-300, 1.0)),
        ("orders_1", "notice_min", ((0.1, 0.1), (4900.0, 4900.0))),
        ("orders_1", "gap_min", ((0.0, 0.1), (10_080.0, 527_040.0))),
        ("orders_1", "draw", ((2e-12, 2e-12), (1e12, 1e12))),
        ("orders_1", "duration_min", ((0.1, 0.1), (10_080.0, 10_080.0))),
        ("trips_1", "mean_between_h", (1 / 60, 876_000.0)),
        ("trips_1", "repair_min", ((0.1, 0.1), (10_080.0, 10_080.0))),
    ],
)
def test_the_twin_runs_at_the_ends_of_what_a_plant_file_may_say(
    block: str, field: str, values: Place
) -> None:
    """What is let in can be simulated and foreseen, in finite numbers."""
    assert STUDY_FILE.start is not None
    for value in values:
        discrete = tuple(
            replace(each, **{field: value}) if each.name == block else each  # type: ignore[arg-type]  # the case names a field of the block
            for each in PLANT.discrete
        )
        plant = replace(PLANT, discrete=discrete)
        present = nominal_present(plant, STUDY_FILE.start)
        setpoints = present.setpoints
        run = simulate(plant, PHYSICS, present.state, lambda *_: setpoints, seed=1000, steps=60)  # noqa: B023  # called inside this round only
        for series in (*run.values.values(), *expected(plant, present.state, 60).values()):
            assert np.isfinite(series).all(), value
