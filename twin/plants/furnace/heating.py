"""How the real furnace and the slabs in it heat up, in fine steps. The twin may never read this.

A slab is a column of nodes from its bottom to its top face, twice: once between the skids and once
over them, where a skid shades the bottom. Conduction is implicit and moves enthalpy, so what the
gas loses the steel gains, to rounding. Four zones (gas and hot face in one lump, a deep wall
behind) burn fuel; the flue gas of each passes those before it and leaves at the charging end.

Steel: EN 1993-1-2:2005, 3.4.1 (heat capacity, conductivity). Shape of the model (slabs in one
dimension, T⁴ exchange, lumped zones): Steinboeck, Wild, Kiefer and Kugi, Int. J. Heat Mass Transfer
53 (2010) 5933. Every size is assumed, chosen for plausibility: see docs/decisions/0006. All
compiled code is in this one file, because a cached function does not notice a changed neighbour.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from twin.records import Series

SLOTS, ZONES, COLUMNS, FACES = 28, 4, 2, 2
SCAN_S = 10.0  # the plant's computers scan, and its sensors report, this often
NODES = 12

LENGTH_M, WIDTH_M = 9.0, 1.5
FACE_M2 = LENGTH_M * WIDTH_M
DENSITY = 7850.0  # kg/m³
KELVIN = 273.15
_SIGMA = 5.670374e-8  # W/m²K⁴

# Zones; index 0 is the charging end.
ZONE_END = np.array([0.30, 0.55, 0.80, 1.00])  # share of the furnace's length
HIGHEST_FUEL_W = np.array([24e6, 44e6, 42e6, 14e6])
LOWEST_FUEL_W = np.array([0.6e6, 1.0e6, 1.0e6, 0.5e6])
HEADER_W = 105e6
SETPOINT_LOW_C = np.array([780.0, 950.0, 1100.0, 1150.0])
SETPOINT_HIGH_C = np.array([1120.0, 1290.0, 1310.0, 1285.0])
RAMP_UP_K_PER_MIN, RAMP_DOWN_K_PER_MIN = 5.0, 8.0
DOOR_S = 45.0  # both doors stay open so long for one slab
SKID_SHARE = 0.14  # of a slab that lies over skids
_BORDER_SLOTS = 1.5  # a zone's border is blended over so many slots to either side
_FUEL_RATE_W_PER_S = 3.6e6 / 60.0
LUMP_J_PER_K = np.array([16e6, 16e6, 16e6, 14e6])
WALL_J_PER_K = np.array([80e6, 80e6, 80e6, 60e6])
LUMP_TO_WALL_W_PER_K = np.array([25e3, 25e3, 25e3, 20e3])
WALL_TO_HALL_W_PER_K = np.array([380.0, 360.0, 340.0, 340.0])
_SKID_W = np.array([0.75e6, 0.85e6, 0.85e6, 0.65e6])  # cooling water at 1200 °C, grows with T⁴
BETWEEN_ZONES_W_PER_K = 12e3
HALL_C = 25.0
_FLUE_A, _FLUE_B = 0.445e-3, 0.055e-6  # heat in the flue gas per J burned: T (A + B T), T in °C
AIR = 0.37e-3  # heat in the combustion air per J burned and K
_PREHEAT_SHARE, _PREHEAT_HIGHEST_C = 0.45, 450.0
_DOOR_M2 = 4.5
_GAIN_W_PER_K, _RESET_S = 0.35e6, 350.0
_THERMOCOUPLE_S = 45.0
_BOTTOM = 0.97  # of the radiation that reaches the bottom between the skids
_SKID_SHADE = 0.45  # of the radiation that still reaches it over a skid
_SKID_EDGES_PER_M, _SKID_SPACING_M = 16.0 / LENGTH_M, 0.35  # heat flows sideways from the skids
_SCALE_KG2_PER_M4_S, _SCALE_J_PER_MOL, _GAS_J_PER_MOL_K = 1165.0, 138e3, 8.314
_TRACKER_EMISSIVITY = 0.65 * 0.95 * 0.95  # the level-2 tracker believes in 5 % less exchange


class Zones(NamedTuple):
    """What the zones' computation carries from scan to scan. Axis: zone; °C, W."""

    gas: Series
    wall: Series
    thermocouple: Series
    measured: Series
    fuel: Series
    integral: Series
    ramped: Series  # the setpoint the loops follow: `wanted`, ramped
    wanted: Series


class Slabs(NamedTuple):
    """The furnace's content; axes (slot[, column[, node or face]]). Thickness 0: an empty slot."""

    enthalpy: Series  # J/kg
    node: Series  # °C
    face: Series  # °C, bottom and top
    scale2: Series  # (slot, face) square of the steel burned away, kg²/m⁴
    thickness: Series  # m
    emissivity: Series
    grade: Series  # conductivity over that of carbon steel


@njit(cache=True)
def _heat_capacity(t):  # type: ignore[no-untyped-def]
    if t < 600.0:
        return 425.0 + 0.773 * t - 1.69e-3 * t * t + 2.22e-6 * t * t * t
    if t < 735.0:
        return 666.0 + 13002.0 / (738.0 - t)
    if t < 900.0:
        return 545.0 + 17820.0 / (t - 731.0)
    return 650.0


@njit(cache=True)
def _conductivity(t):  # type: ignore[no-untyped-def]
    return 54.0 - 0.0333 * t if t < 800.0 else 27.3


_TABLE_STEP_K = 0.5


def _enthalpy_table(top_c: float = 1500.0, pieces: int = 20) -> Series:
    """J/kg above 0 °C every half kelvin, by fine integration of the heat capacity."""
    t = np.linspace(0.0, top_c, round(top_c / _TABLE_STEP_K) * pieces + 1)
    c = np.array([_heat_capacity(max(x, 20.0)) for x in t])
    total: Series = np.concatenate([[0.0], np.cumsum(0.5 * (c[1:] + c[:-1]) * np.diff(t))])
    return total[::pieces]


STEEL = _enthalpy_table()  # an argument below: numba caches no function with a large global


@njit(cache=True)
def enthalpy(steel, t):  # type: ignore[no-untyped-def]
    """J/kg of steel at `t` °C; `steel` is STEEL."""
    x = min(max(t / _TABLE_STEP_K, 0.0), len(steel) - 1.001)
    i = int(x)
    return steel[i] + (x - i) * (steel[i + 1] - steel[i])


@njit(cache=True)
def _temperature(steel, h, near):  # type: ignore[no-untyped-def]
    """°C of steel at `h` J/kg; `near` is where the search begins."""
    i = min(max(int(near / _TABLE_STEP_K), 0), len(steel) - 2)
    while i > 0 and steel[i] > h:
        i -= 1
    while i < len(steel) - 2 and steel[i + 1] <= h:
        i += 1
    return _TABLE_STEP_K * (i + (h - steel[i]) / (steel[i + 1] - steel[i]))


def zone_shares() -> Series:
    """(slot, zone): how much of the gas around each slot is which zone's; rows add to 1."""
    middle = np.arange(SLOTS) + 0.5
    edges = np.concatenate([[-np.inf], ZONE_END[:-1] * SLOTS, [np.inf]])
    passed = np.clip((middle[:, None] - edges) / (2 * _BORDER_SLOTS) + 0.5, 0.0, 1.0)
    shares: Series = passed[:, :-1] - passed[:, 1:]
    return shares


def zone_of_slot() -> NDArray[np.int64]:
    """The zone in which each slot's middle lies."""
    middle = (np.arange(SLOTS) + 0.5) / SLOTS
    return np.asarray(np.digitize(middle, ZONE_END[:-1]), dtype=np.int64)


@njit(cache=True)
def _column(steel, h, t, face, thickness, grade, gas, factors, dt, work, taken):  # type: ignore[no-untyped-def]
    """One column of nodes for `dt` s between gas of `gas` K; `taken` (bottom, top) gets W/m².

    `factors` (bottom, top): emissivity times the share of the radiation that reaches the face.
    Radiation is linearised at the face's last temperature, conduction is implicit; then the
    enthalpies move by the fluxes so found, and the temperatures follow from them.
    """
    n = len(h)
    dx = thickness / n
    lower, middle, upper, right, links, through = work
    for i in range(n):
        links[i] = 0.0
        if i < n - 1:
            links[i] = 0.5 * grade * (_conductivity(t[i]) + _conductivity(t[i + 1])) / dx
        before = links[i - 1] if i > 0 else 0.0
        store = DENSITY * dx * _heat_capacity(t[i]) / dt
        lower[i], upper[i] = -before, -links[i]
        middle[i] = store + before + links[i]
        right[i] = store * t[i]
    for side in range(FACES):
        end = 0 if side == 0 else n - 1
        hot = face[side] + KELVIN
        outside = _SIGMA * factors[side] * (gas * gas + hot * hot) * (gas + hot)
        inside = 2.0 * grade * _conductivity(t[end]) / dx
        through[side] = outside * inside / (outside + inside)
        through[2 + side] = inside
        middle[end] += through[side]
        right[end] += through[side] * (gas - KELVIN)
    for i in range(1, n):
        w = lower[i] / middle[i - 1]
        middle[i] -= w * upper[i - 1]
        right[i] -= w * right[i - 1]
    right[n - 1] /= middle[n - 1]
    for i in range(n - 2, -1, -1):
        right[i] = (right[i] - upper[i] * right[i + 1]) / middle[i]
    taken[0] = through[0] * (gas - KELVIN - right[0])
    taken[1] = through[1] * (gas - KELVIN - right[n - 1])
    arriving = taken[0]
    for i in range(n):
        onward = links[i] * (right[i] - right[i + 1]) if i < n - 1 else -taken[1]
        h[i] += (arriving - onward) * dt / (DENSITY * dx)
        t[i] = _temperature(steel, h[i], t[i])
        arriving = onward
    face[0] = t[0] + taken[0] / through[2]
    face[1] = t[n - 1] + taken[1] / through[3]


@njit(cache=True)
def _sideways(steel, h, t, thickness, grade, dt):  # type: ignore[no-untyped-def]
    """Heat that flows from between the skids to over them, node by node."""
    n = h.shape[1]
    dx = thickness / n
    for i in range(n):
        path = grade * _conductivity(t[0, i]) * dx * _SKID_EDGES_PER_M / _SKID_SPACING_M
        moved = path * (t[0, i] - t[1, i]) * dt / (DENSITY * dx)  # J/kg, times a column's share
        h[0, i] -= moved / (1.0 - SKID_SHARE)
        h[1, i] += moved / SKID_SHARE
        t[0, i] = _temperature(steel, h[0, i], t[0, i])
        t[1, i] = _temperature(steel, h[1, i], t[1, i])


@njit(cache=True)
def _heat_slabs(steel, slabs, gas_c, shares, dt, drawn_w):  # type: ignore[no-untyped-def]
    """Every slab for `dt` s; `drawn_w` (zone) gets the heat that the slabs take, W."""
    n = slabs.node.shape[2]
    work = np.empty((6, max(n, 4)))
    taken, factors = np.empty(FACES), np.empty(FACES)
    gas_k4 = (gas_c + KELVIN) ** 4
    drawn_w[:] = 0.0
    for s in range(len(slabs.thickness)):
        if slabs.thickness[s] <= 0.0:
            continue
        gas = math.sqrt(math.sqrt((shares[s] * gas_k4).sum()))
        total = 0.0
        for column in range(COLUMNS):
            reaches = _BOTTOM if column == 0 else _SKID_SHADE
            factors[0], factors[1] = slabs.emissivity[s] * reaches, slabs.emissivity[s]
            _column(
                steel, slabs.enthalpy[s, column], slabs.node[s, column], slabs.face[s, column],
                slabs.thickness[s], slabs.grade[s], gas, factors, dt, work, taken,
            )  # fmt: skip
            share = SKID_SHARE if column == 1 else 1.0 - SKID_SHARE
            total += share * (taken[0] + taken[1]) * FACE_M2
        _sideways(steel, slabs.enthalpy[s], slabs.node[s], slabs.thickness[s], slabs.grade[s], dt)
        for side in range(FACES):
            hot = slabs.face[s, 0, side] + KELVIN
            speed = math.exp(-_SCALE_J_PER_MOL / (_GAS_J_PER_MOL_K * hot))
            slabs.scale2[s, side] += _SCALE_KG2_PER_M4_S * speed * dt
        for z in range(ZONES):
            drawn_w[z] += shares[s, z] * total


@njit(cache=True)
def flue(t):  # type: ignore[no-untyped-def]
    """Heat that flue gas at `t` °C carries, J per J burned."""
    return t * (_FLUE_A + _FLUE_B * t)


@njit(cache=True)
def preheated(charging_c):  # type: ignore[no-untyped-def]
    """Heat that the combustion air brings back, J per J burned."""
    return AIR * (min(_PREHEAT_SHARE * charging_c, _PREHEAT_HIGHEST_C) - HALL_C)


@njit(cache=True)
def through_door(t):  # type: ignore[no-untyped-def]
    """What an open door radiates into the hall, W."""
    return _DOOR_M2 * _SIGMA * ((t + KELVIN) ** 4 - (HALL_C + KELVIN) ** 4)


@njit(cache=True)
def skid_water(z, t):  # type: ignore[no-untyped-def]
    """What the skids' cooling water takes from zone `z`, W."""
    return _SKID_W[z] * ((t + KELVIN) / (1200.0 + KELVIN)) ** 4


@njit(cache=True)
def _heat_zones(zones, drawn_w, heat_value, leak, doors, dt, account_j):  # type: ignore[no-untyped-def]
    """The four zones for `dt` s, given what slabs draw; `account_j` collects ACCOUNT.

    `heat_value`: real over nominal energy of the fuel. `leak`: air drawn in over air burned.
    `doors` (charging, discharging): how open, 0–1.
    """
    gas, wall = zones.gas, zones.wall
    back = preheated(gas[0])
    gain = np.empty(ZONES)
    burned, arriving = 0.0, 0.0
    for z in range(ZONES - 1, -1, -1):
        real = zones.fuel[z] * heat_value
        burned += real
        leaving = burned * flue(gas[z])
        gain[z] = real * (1.0 + back) + arriving - leaving
        arriving = leaving
    account_j[0] += burned * dt
    account_j[1] += (arriving - burned * back) * dt
    for z in range(ZONES):
        water = skid_water(z, gas[z])
        into_wall = LUMP_TO_WALL_W_PER_K[z] * (gas[z] - wall[z])
        to_hall = WALL_TO_HALL_W_PER_K[z] * (wall[z] - HALL_C)
        gain[z] -= water + into_wall + drawn_w[z]
        wall[z] += (into_wall - to_hall) * dt / WALL_J_PER_K[z]
        account_j[2] += to_hall * dt
        account_j[3] += water * dt
        account_j[6] += drawn_w[z] * dt
        if z > 0:
            mixed = BETWEEN_ZONES_W_PER_K * (gas[z] - gas[z - 1])
            gain[z] -= mixed
            gain[z - 1] += mixed
    for door in range(2):
        z = 0 if door == 0 else ZONES - 1
        out = doors[door] * through_door(gas[z])
        gain[z] -= out
        account_j[4] += out * dt
    # Air drawn in cold at the doors leaves as hot as the charging zone.
    cold = leak * burned * AIR * (gas[0] - HALL_C)
    gain[0] -= cold
    account_j[5] += cold * dt
    for z in range(ZONES):
        gas[z] += gain[z] * dt / LUMP_J_PER_K[z]


#: What `march` adds up, J: every stream of heat into (the first) and out of the zones.
ACCOUNT = ("burned", "flue", "walls", "skids", "doors", "leak", "slabs")


@njit(cache=True)
def _control(zones, burners_w, dt):  # type: ignore[no-untyped-def]
    """One scan of the temperature loops: setpoint ramps, PI, burner rates, the header's limit."""
    asked = np.empty(ZONES)
    for z in range(ZONES):
        step = zones.wanted[z] - zones.ramped[z]
        up, down = RAMP_UP_K_PER_MIN * dt / 60.0, RAMP_DOWN_K_PER_MIN * dt / 60.0
        zones.ramped[z] += min(max(step, -down), up)
        error = zones.ramped[z] - zones.measured[z]
        integral = zones.integral[z] + _GAIN_W_PER_K * error * dt / _RESET_S
        demand = _GAIN_W_PER_K * error + integral
        held = min(max(demand, LOWEST_FUEL_W[z]), burners_w[z])
        if (demand - held) * error <= 0.0:  # anti-windup by conditional integration
            zones.integral[z] = integral
        most = _FUEL_RATE_W_PER_S * dt
        asked[z] = min(max(held, zones.fuel[z] - most), zones.fuel[z] + most)
    least = LOWEST_FUEL_W.sum()
    # What the header cannot give, every zone lacks in proportion to what it asks above its pilot.
    share = min(1.0, (HEADER_W - least) / max(asked.sum() - least, 1.0))
    for z in range(ZONES):
        zones.fuel[z] = LOWEST_FUEL_W[z] + share * (asked[z] - LOWEST_FUEL_W[z])


#: Columns of what `march` returns: four zones each, then the hottest face anywhere.
MEASURED, FUEL, RAMPED, GAS, HOTTEST = slice(0, 4), slice(4, 8), slice(8, 12), slice(12, 16), 16
ROW_WIDTH = 17


@njit(cache=True)
def march(  # type: ignore[no-untyped-def]
    steel, slabs, zones, shares, burners_w, heat_value, leak, doors_left_s, noise_k, pieces,
    account_j,
):  # fmt: skip
    """Scan after scan for as many rows as `noise_k` (row, zone) has; what each row saw at its end.

    `doors_left_s` (charging, discharging) counts down. `pieces` divides a scan into finer steps.
    """
    rows = len(noise_k)
    out = np.empty((rows, ROW_WIDTH))
    drawn_w, doors = np.zeros(ZONES), np.zeros(2)
    dt = SCAN_S / pieces
    for row in range(rows):
        _control(zones, burners_w, SCAN_S)
        for door in range(2):
            doors[door] = min(doors_left_s[door], SCAN_S) / SCAN_S
            doors_left_s[door] = max(0.0, doors_left_s[door] - SCAN_S)
        for _ in range(pieces):
            _heat_slabs(steel, slabs, zones.gas, shares, dt, drawn_w)
            _heat_zones(zones, drawn_w, heat_value, leak, doors, dt, account_j)
        for z in range(ZONES):
            follows = 1.0 - math.exp(-SCAN_S / _THERMOCOUPLE_S)
            zones.thermocouple[z] += follows * (zones.gas[z] - zones.thermocouple[z])
            zones.measured[z] = zones.thermocouple[z] + noise_k[row, z]
        out[row, 0:4], out[row, 4:8] = zones.measured, zones.fuel
        out[row, 8:12], out[row, 12:16] = zones.ramped, zones.gas
        out[row, 16] = slabs.face.max()
    return out


@njit(cache=True)
def track(steel, slabs, zone_of, measured_c, dt):  # type: ignore[no-untyped-def]
    """The level-2 tracker for `dt` s: one plain column per slab, sharp zones, as measured."""
    n = slabs.node.shape[2]
    work = np.empty((6, max(n, 4)))
    taken, factors = np.empty(FACES), np.full(FACES, _TRACKER_EMISSIVITY)
    for s in range(len(slabs.thickness)):
        if slabs.thickness[s] > 0.0:
            _column(
                steel, slabs.enthalpy[s, 0], slabs.node[s, 0], slabs.face[s, 0],
                slabs.thickness[s], 1.0, measured_c[zone_of[s]] + KELVIN, factors, dt, work, taken,
            )  # fmt: skip


@njit(cache=True)
def passage(steel, slabs, gas_c, shares, interval_s, dt):  # type: ignore[no-untyped-def]
    """Mean W that each zone gives one slab on its way through, `interval_s` in every slot."""
    drawn_w, total_j = np.zeros(ZONES), np.zeros(ZONES)
    pieces = max(1, round(interval_s / dt))
    for slot in range(SLOTS):
        for _ in range(pieces):
            _heat_slabs(steel, slabs, gas_c, shares[slot : slot + 1], interval_s / pieces, drawn_w)
            total_j += drawn_w * interval_s / pieces
    return total_j / interval_s
