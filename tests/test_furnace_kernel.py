"""The furnace's compiled equations: heat is neither made nor lost, and finer steps say the same."""

from __future__ import annotations

import ast
import inspect
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any

import numpy as np
import pytest

from twin.furnace import kernel
from twin.furnace.numbers import STEP_S, numbers
from twin.furnace.residual import LoopState, ZoneResidual, loops_of
from twin.furnace.steel import enthalpy, steel
from twin.plant import read_plant
from twin.plant.furnace import Furnace
from twin.plants.furnace import heating as truth
from twin.records import Series

PLANT = next(b for b in read_plant("furnace").discrete if isinstance(b, Furnace))
NUMBERS, STEEL = numbers(PLANT), steel(PLANT)
SETPOINTS_C = np.array([930.0, 1170.0, 1250.0, 1245.0])
FUEL_W = np.array([10e6, 30e6, 22e6, 5e6])


def cold_slabs(count: int, nodes: int = 4, at_c: float = 20.0) -> kernel.Slabs:
    """`count` slabs of 0.22 m and one temperature."""
    node = np.full((count, nodes), at_c)
    return kernel.Slabs(
        enthalpy=enthalpy(STEEL, node),
        node=node,
        face=np.full(count, at_c),
        scale2=np.zeros(count),
        thickness=np.full(count, 0.22),
        conductivity=np.ones(count),
        emissivity=np.full(count, PLANT.emissivity),
    )


def settled_zones() -> kernel.Zones:
    return kernel.Zones(SETPOINTS_C.copy(), SETPOINTS_C - 15.0, SETPOINTS_C.copy(), FUEL_W.copy())


def random_furnace(seed: int) -> tuple[kernel.Slabs, kernel.Zones]:
    """Slabs and zones as no furnace would have them all at once, but each as it could be."""
    rng = np.random.default_rng(seed)
    slabs = cold_slabs(34)
    slabs.node[:] = np.sort(rng.uniform(0.0, 1300.0, slabs.node.shape), axis=1)
    slabs.enthalpy[:] = enthalpy(STEEL, slabs.node)
    slabs.face[:] = slabs.node[:, -1] + rng.uniform(-20.0, 60.0, 34)
    slabs.scale2[:] = rng.uniform(0.0, 40.0, 34)
    slabs.thickness[:] = rng.uniform(0.1, 0.3, 34)
    slabs.conductivity[:] = rng.uniform(0.7, 1.0, 34)
    slabs.emissivity[:] = rng.uniform(0.4, 0.8, 34)
    gas = rng.uniform(700.0, 1320.0, 4)
    zones = kernel.Zones(
        gas, gas - rng.uniform(-30.0, 60.0, 4), gas + rng.uniform(-20.0, 20.0, 4), FUEL_W.copy()
    )
    return slabs, zones


def random_loops(rng: np.random.Generator) -> kernel.Loops:
    """Any residual with any memory, some of it beyond what it was trained on."""
    state = LoopState(tuple(rng.normal(0.0, 3.0, 24)), tuple(rng.uniform(0.0, 20.0, 4)))
    arrays = {
        "spread": rng.uniform(1.0, 4.0, 24),
        "highest": rng.uniform(2.0, 4.0, 24),
        "linear": rng.normal(0.0, 0.2, (8, 24)),
        "hidden": rng.normal(0.0, 0.3, (3, 24)),
        "readout": rng.normal(0.0, 0.3, (8, 3)),
        "most": rng.uniform(1.0, 20.0, 8),
        "seen_c": np.tile([750.0, 1250.0], (4, 1)),
        "error_share": np.ones(8),
    }
    residual = ZoneResidual(**{name: values.tolist() for name, values in arrays.items()})
    return loops_of(replace(state, residual=residual), SETPOINTS_C)


def heat_j(slabs: kernel.Slabs) -> Series:
    kg = slabs.thickness * NUMBERS.face_m2 * kernel.DENSITY
    found: Series = slabs.enthalpy.mean(axis=1) * kg
    return found


def test_what_faces_take_is_what_slabs_gain() -> None:
    """In a minute slabs gain the heat that is drawn from the zones, to rounding."""
    drawn_w = np.empty(4)
    for seed in range(20):
        slabs, zones = random_furnace(seed)
        before_j = heat_j(slabs)
        kernel.heat_slabs(STEEL, NUMBERS, slabs, 3, zones.gas, STEP_S, drawn_w)
        gained_j = heat_j(slabs) - before_j
        assert gained_j.sum() == pytest.approx(drawn_w.sum() * STEP_S, rel=1e-9)
        assert not gained_j[:3].any()  # they have left
        assert not gained_j[31:].any()  # they have not come yet


def test_empty_slots_before_the_door_leave_slabs_where_they_stand() -> None:
    """Five slabs in a furnace of 28 stand at charging, where the first zone's gas is."""
    slabs, drawn_w = cold_slabs(5), np.empty(4)
    kernel.heat_slabs(STEEL, NUMBERS, slabs, 5 - PLANT.slots, SETPOINTS_C, STEP_S, drawn_w)
    assert drawn_w[0] > 0
    assert not drawn_w[1:].any()


def test_quasi_steady_heating_has_the_profile_of_the_textbook() -> None:
    """Under a flux q a slab's face is q L / 2k hotter than its core (Carslaw and Jaeger, 3.8)."""
    slabs, drawn_w = cold_slabs(1, nodes=16, at_c=950.0), np.empty(4)
    slabs.emissivity[:] = 0.05  # so that the flux hardly changes while the profile settles
    alone = NUMBERS._replace(share=NUMBERS.share[-1:])
    for _ in range(720):
        before_j = heat_j(slabs)
        kernel.heat_slabs(STEEL, alone, slabs, 0, np.full(4, 1300.0), 10.0, drawn_w)
    flux = (heat_j(slabs) - before_j)[0] / 10.0 / (2.0 * NUMBERS.face_m2)
    half_m, conducts = 0.11, 27.3  # above 900 °C neither heat capacity nor conductivity changes
    on_paper_k = flux * half_m / (2.0 * conducts)
    assert slabs.face[0] - slabs.node[0, 0] == pytest.approx(on_paper_k, rel=0.03)


def test_steel_and_zone_borders_are_those_of_the_standard_and_the_plant() -> None:
    """0.8 MJ/kg from 20 to 1200 °C as the truth has it; every slot's shares add to one."""
    mine = np.interp([20.0, 735.0, 1200.0], np.arange(len(STEEL.enthalpy)), STEEL.enthalpy)
    theirs = [truth.enthalpy(truth.STEEL, t) for t in (20.0, 735.0, 1200.0)]
    assert mine == pytest.approx(theirs, rel=1e-3)
    np.testing.assert_allclose(NUMBERS.share, truth.zone_shares(), atol=1e-12)
    np.testing.assert_allclose(NUMBERS.share.sum(axis=1), 1.0)


@dataclass(frozen=True)
class Day:
    """What a day did: mean °C of the slabs that left, J burned, and J in less J out and kept."""

    left_c: Series
    burned_j: float
    missing_j: float


def day(nodes: int = 4, pieces: int = 1, hours: int = 24) -> Day:
    """A furnace of cold slabs at 7 min each, its setpoints 20 K up and down every two hours.

    Counts every stream of heat by itself, from temperatures alone.
    """
    slabs = cold_slabs(PLANT.slots + 60 * hours // 7 + 2, nodes)
    zones, at, drawn_w = settled_zones(), np.empty(4), np.empty(4)
    dt, part, extra_w = STEP_S / pieces, 1.0 / pieces, np.array([0.2e6, 0.0, 0.1e6, 0.0])
    first, left_c, burned_j, missing_j = 0, [], 0.0, 0.0
    stored_j = NUMBERS.lump_j_per_k @ zones.gas + NUMBERS.wall_j_per_k @ zones.wall
    for minute in range(60 * hours):
        if minute % 7 == 6:
            left_c.append(float(slabs.node[first].mean()))
            first += 1
        setpoints = SETPOINTS_C + (20.0 if minute % 240 < 120 else -20.0)
        for _ in range(pieces):
            wall, charging_c = zones.wall.copy(), zones.gas[0]
            kernel.ramp(NUMBERS, zones, setpoints, at, part)
            kernel.heat_slabs(STEEL, NUMBERS, slabs, first, at, dt, drawn_w)
            kernel.zone_step(NUMBERS, zones, at, drawn_w, extra_w, dt, part)
            share, highest_c = PLANT.air_preheat
            back = PLANT.air_heat_per_k * (min(share * charging_c, highest_c) - kernel.HALL_C)
            first_flue, second_flue = PLANT.flue_heat
            flue_w = zones.fuel.sum() * at[0] * (first_flue + second_flue * at[0])
            water_w = (NUMBERS.skid_w * ((at + kernel.KELVIN) / 1473.15) ** 4).sum()
            hall_w = (NUMBERS.wall_to_hall * (wall - kernel.HALL_C)).sum()
            in_w = zones.fuel.sum() * (1.0 + back)
            missing_j += (in_w - flue_w - water_w - hall_w - drawn_w.sum() - extra_w.sum()) * dt
            burned_j += zones.fuel.sum() * dt
    after_j = NUMBERS.lump_j_per_k @ zones.gas + NUMBERS.wall_j_per_k @ zones.wall
    return Day(np.array(left_c), burned_j, missing_j - float(after_j - stored_j))


def test_the_zones_account_closes() -> None:
    """What burns leaves by flue, water, walls and slabs, or stays: within 0.1 % on a day."""
    found = day()
    assert found.burned_j > 4e12
    assert abs(found.missing_j) < 1e-3 * found.burned_j


def test_minutes_and_four_nodes_say_what_finer_steps_say() -> None:
    """Against 10 s and 16 nodes: slabs that were heated all the way within 0.5 K, fuel 0.1 %."""
    usual, fine = day(), day(nodes=16, pieces=6)
    assert len(usual.left_c) > 200
    np.testing.assert_allclose(usual.left_c[30:], fine.left_c[30:], atol=0.5)
    assert usual.burned_j == pytest.approx(fine.burned_j, rel=1e-3)


def in_python() -> dict[str, Any]:
    """The kernel's functions as Python runs their source, calling one another likewise."""
    pure = dict(vars(kernel))
    for name, compiled in vars(kernel).items():
        source = getattr(compiled, "py_func", None)
        if source is not None:
            pure[name] = FunctionType(source.__code__, pure, name, source.__defaults__)
    return pure


def rolled(functions: dict[str, Any], seed: int) -> list[Series]:
    """Everything that every entry of the kernel leaves behind at one random state."""
    slabs, zones = random_furnace(seed)
    rng = np.random.default_rng(seed)
    path = rng.uniform(800.0, 1300.0, (2, 4))
    left, seen, extra_w = np.zeros((3, 4)), np.zeros((2, 8)), rng.uniform(-1e6, 1e6, 4)
    leaves = np.array([0, 1, 1])
    loops = random_loops(rng)
    functions["roll"](
        STEEL, NUMBERS, slabs, zones, loops, extra_w, leaves, path, STEP_S, left, seen
    )
    lost_w, hottest, followed = np.zeros(4), np.zeros(34), np.zeros((2, 12))
    drawn_w = rng.uniform(0.0, 1e7, 4)
    functions["surplus"](NUMBERS, zones, path[0], drawn_w, zones.fuel, STEP_S, lost_w)
    taken_j = functions["advance"](
        STEEL, NUMBERS, slabs, zones, loops, extra_w, path, 13.0, 95.0, STEP_S, hottest, followed
    )
    return [*slabs, *zones, *loops, left, seen, lost_w, hottest, followed, np.array([taken_j])]


def test_compiled_code_does_what_its_source_says() -> None:
    """At 100 random states compiled and interpreted results agree to rounding."""
    pure = in_python()
    for seed in range(100):
        for compiled, source in zip(rolled(vars(kernel), seed), rolled(pure, seed), strict=True):
            np.testing.assert_allclose(compiled, source, rtol=1e-8, atol=1e-7)


def test_nothing_from_another_file_is_compiled_in() -> None:
    """Numba's cache sees changes of this file alone.

    Of a tuple or a constant from a neighbour, old machine code would go on with what it was.
    """
    tree = ast.parse(inspect.getsource(kernel))
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    sources = [found.py_func for found in vars(kernel).values() if hasattr(found, "py_func")]
    used = {name for source in sources for name in source.__code__.co_names}
    assert len(sources) > 10
    assert used & imported == {"math", "np"}
    tuples = [found for found in vars(kernel).values() if hasattr(found, "_fields")]
    assert {found.__module__ for found in tuples} == {kernel.__name__}


def test_fuel_keeps_to_burners_rate_and_header() -> None:
    """Whatever is asked, no burner, no minute and no header gives more than it can."""
    zones, needs = settled_zones(), np.zeros(4)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        before_w = zones.fuel.copy()
        zones.ramped[:] = rng.uniform(700.0, 1320.0, 4)
        drawn_w = rng.uniform(0.0, 6e7, 4)
        kernel.zone_step(NUMBERS, zones, zones.gas.copy(), drawn_w, needs, STEP_S)
        assert (zones.fuel >= NUMBERS.fuel_low_w - 1e-6).all()
        assert (zones.fuel <= NUMBERS.fuel_high_w + 1e-6).all()
        assert zones.fuel.sum() <= NUMBERS.header_w + 1e-3
        assert (zones.fuel - before_w <= NUMBERS.fuel_rate_w_per_step + 1e-3).all()
        zones.gas[:] = SETPOINTS_C


def test_a_loss_that_the_numbers_do_not_know_is_found_in_the_balance() -> None:
    """Zones that lose what `extra_w` says, seen from outside, show a surplus of just that."""
    zones, extra_w = settled_zones(), np.array([0.5e6, -0.2e6, 0.3e6, 0.1e6])
    drawn_w, found_w = np.array([12e6, 20e6, 12e6, 3e6]), np.empty(4)
    for _ in range(30):
        before = kernel.Zones(*(field.copy() for field in zones))
        kernel.zone_step(NUMBERS, zones, zones.gas.copy(), drawn_w, extra_w, STEP_S)
    kernel.surplus(NUMBERS, before, zones.gas, drawn_w, zones.fuel, STEP_S, found_w)
    np.testing.assert_allclose(found_w, extra_w, atol=2e3)
