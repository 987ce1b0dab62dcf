"""Slabs and zones of a furnace in steps of a minute, compiled.

A slab is half a column of nodes, its core insulated, both faces alike. Fluxes are those in the
middle of a step (implicit midpoint rule), the radiation linearised; enthalpies move by them, so
heat is conserved to rounding and no latent heat is stepped over. Nodes are means over their cells,
and the face lies above the last by a parabola through them: against 24 nodes and 5 s, slabs of 4
nodes and 60 s leave within 0.3 K. A zone is a lump of gas and hot face with a deep wall behind;
its fuel is what lets it follow its setpoint, within its burners, their rate and the header. The
flue gas of each zone passes those before it.

Steel: EN 1993-1-2:2005, 3.4.1. Shape of the model: Steinboeck, Wild, Kiefer and Kugi, Int. J. Heat
Mass Transfer 53 (2010) 5933.

Numba's cache does not notice a changed neighbour. So all compiled code is in this file, and with it
the constants that are compiled in and the tuples: of those from elsewhere the cache would go on
reading a field by its old place. Tables come from `steel`; plant files, records and clocks never
enter.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from twin.records import Series

KELVIN = 273.15
_SIGMA = 5.670374e-8  # W/m²K⁴, CODATA 2018
DENSITY = 7850.0  # kg/m³, EN 1993-1-2, 3.2.2
HALL_C = 25.0  # assumed
_AT_END = 1.001  # a burner so near its limit stands at it
HOTTEST_C = 1490.0  # end of the tables
ENTHALPY_STEP = 500.0  # J/kg between entries of `Steel.by_enthalpy`, about 1 K


class Steel(NamedTuple):
    """Tables: °C by 500 J/kg above 0 °C; J/kgK, J/kg and growth of scale by whole °C."""

    by_enthalpy: Series
    heat_capacity: Series
    enthalpy: Series
    scale_growth: Series  # of the square of the steel burned away, kg²/m⁴s


class Slabs(NamedTuple):
    """Slabs in the order in which they leave. Axes: (slab[, node from core to face])."""

    enthalpy: Series  # J/kg
    node: Series  # °C
    face: Series  # °C
    scale2: Series  # square of the steel burned away on a face, kg²/m⁴
    thickness: Series  # m
    conductivity: Series  # over that of carbon steel
    emissivity: Series  # of gas and slab together


class Zones(NamedTuple):
    """Zones from charging to discharging. Axis: zone."""

    gas: Series  # °C
    wall: Series  # °C
    ramped: Series  # °C, the setpoint that the loop follows
    fuel: Series  # W


class Furnace(NamedTuple):
    """The furnace's own numbers; axis: zone, `share` (slot, zone)."""

    share: Series  # of a slot's surroundings that is each zone's gas; rows add to 1
    face_m2: float
    fuel_low_w: Series
    fuel_high_w: Series
    header_w: float
    fuel_rate_w_per_step: float
    lump_j_per_k: Series
    wall_j_per_k: Series
    lump_to_wall: Series  # W/K
    wall_to_hall: Series  # W/K
    skid_w: Series  # into cooling water at 1200 °C; grows with T⁴
    between_w_per_k: float
    flue: Series  # heat in flue gas per J burned: T (flue[0] + flue[1] T), T in °C
    air_per_k: float  # heat in combustion air per J burned and K
    preheat_share: float  # of the charging zone's temperature that the air reaches
    preheat_highest_c: float
    ramp_up_k: float  # per step
    ramp_down_k: float


class Loops(NamedTuple):
    """What was learned of how far zones are off the setpoint that their loops follow, and lose.

    The answer is, zone by zone, how many K a zone is off, and then how many MW it loses besides.
    An input is by how many K a zone's followed setpoint moved in a step, or by how many MW more
    its slabs drew than in the step before: first the moves of every zone, then the draws. Each
    input times each time constant is a feature: the input, added up and fading. A Loops without
    features has learned nothing.
    """

    memory: Series  # (feature), brought on
    drawn_mw: Series  # (zone) in the last step, brought on
    answer: Series  # (answer) now, brought on
    trust: Series  # (1,) the least so far, 0 to 1
    fade_min: Series  # (time constant)
    spread: Series  # (feature) of the record it was learned from
    highest: Series  # (feature) that was seen in it, in spreads
    linear: Series  # (answer, feature)
    hidden: Series  # (unit, feature)
    readout: Series  # (answer, unit)
    most: Series  # (answer)
    seen_c: Series  # (zone, 2) lowest and highest followed setpoint of that record


@njit(cache=True, fastmath=True)
def conductivity(t):  # type: ignore[no-untyped-def]  # compiled: numba infers the types
    """W/mK of carbon steel at `t` °C: EN 1993-1-2, 3.4.1.3."""
    return 54.0 - 0.0333 * t if t < 800.0 else 27.3


@njit(cache=True, fastmath=True)
def _solve(t, s, thickness, grade, outside, gas_c, dt, heat_capacity, work):  # type: ignore[no-untyped-def]  # compiled
    """Slab `s`'s temperatures after half of `dt` s into row 2 of `work`, by the Thomas algorithm.

    `outside` W/m²K lies between gas of `gas_c` °C and face; row 0 of `work` gets the links between
    nodes, W/m²K, row 1 how each node follows the next. The links face to node and gas to node.
    """
    n = t.shape[1]
    dx = 0.5 * thickness / n
    per_dx, mass = 1.0 / dx, DENSITY * dx / (0.5 * dt)
    conducts, before, gone = grade * conductivity(t[s, 0]), 0.0, 0.0
    for i in range(n - 1):
        store = mass * heat_capacity[int(min(max(t[s, i], 0.0), HOTTEST_C))]
        onward = grade * conductivity(t[s, i + 1])
        link = 0.5 * (conducts + onward) * per_dx
        conducts = onward
        pivot = 1.0 / (store + before + link)
        known = (store * t[s, i] + gone) * pivot
        carry = link * pivot
        work[0, i], work[1, i], work[2, i] = link, carry, known
        before, gone = link - carry * link, link * known
    store = mass * heat_capacity[int(min(max(t[s, n - 1], 0.0), HOTTEST_C))]
    inside = 2.0 * conducts * per_dx * n / (n - 1.0 / 3.0)  # a parabola's slope at its end
    through = outside * inside / (outside + inside)
    work[2, n - 1] = (store * t[s, n - 1] + gone + through * gas_c) / (store + before + through)
    for i in range(n - 2, -1, -1):
        work[2, i] += work[1, i] * work[2, i + 1]
    return inside, through


@njit(cache=True, fastmath=True)
def _slab_step(  # type: ignore[no-untyped-def]  # compiled
    h, t, s, thickness, grade, emissivity, gas_k, dt, by_enthalpy, heat_capacity, work
):
    """Slab `s` for `dt` s under gas of `gas_k` K: W/m² into a face, and the face's °C.

    `h` J/kg and `t` °C (slab, node) are brought on; `work` is (3, node) of scratch. Whole arrays
    are handed on, and rows of them nowhere: a view of a row costs as much as a slab.
    """
    n = h.shape[1]
    ahead = (n - 1.0 / 3.0) / (2.0 * n - 2.0)  # the same parabola's face
    hot_k = t[s, n - 1] + ahead * (t[s, n - 1] - t[s, n - 2]) + KELVIN
    outside = _SIGMA * emissivity * (gas_k * gas_k + hot_k * hot_k) * (gas_k + hot_k)
    gas_c = gas_k - KELVIN
    inside, through = _solve(t, s, thickness, grade, outside, gas_c, dt, heat_capacity, work)
    taken = through * (gas_c - work[2, n - 1])
    per_flux = dt * n / (DENSITY * 0.5 * thickness)
    arriving, last = 0.0, len(by_enthalpy) - 2
    for i in range(n):
        onward = work[0, i] * (work[2, i] - work[2, i + 1]) if i < n - 1 else -taken
        h[s, i] += (arriving - onward) * per_flux
        x = h[s, i] / ENTHALPY_STEP
        j = min(max(int(x), 0), last)
        t[s, i] = by_enthalpy[j] + (x - j) * (by_enthalpy[j + 1] - by_enthalpy[j])
        arriving = onward
    return taken, t[s, n - 1] + taken / inside


@njit(cache=True, fastmath=True)
def heat_slabs(steel, furnace, slabs, first, gas_c, dt, drawn_w):  # type: ignore[no-untyped-def]  # compiled
    """The slabs inside for `dt` s. The hottest face, °C.

    Slab `first` stands at the discharge door; negative: so many slots before it are empty.
    `gas_c` (zone) is what surrounds them, `drawn_w` (zone) gets what they take, W.
    """
    enthalpy, node, face_c, scale2, thickness, grade, emissivity = slabs
    by_enthalpy, heat_capacity, _, growth = steel
    share, slots, zones = furnace.share, furnace.share.shape[0], furnace.share.shape[1]
    work, gas_k4 = np.empty((3, node.shape[1])), np.empty(zones)
    for z in range(zones):
        k2 = (gas_c[z] + KELVIN) * (gas_c[z] + KELVIN)
        gas_k4[z] = k2 * k2
        drawn_w[z] = 0.0
    hottest = -KELVIN
    for i in range(max(first, 0), min(first + slots, len(face_c))):
        slot = slots - 1 - (i - first)
        around_k4 = 0.0
        for z in range(zones):
            around_k4 += share[slot, z] * gas_k4[z]
        gas_k = math.sqrt(math.sqrt(around_k4))
        taken, face = _slab_step(
            enthalpy, node, i, thickness[i], grade[i], emissivity[i], gas_k, dt,
            by_enthalpy, heat_capacity, work,
        )  # fmt: skip
        face_c[i] = face
        scale2[i] += growth[int(min(max(face, 0.0), HOTTEST_C))] * dt
        hottest = max(hottest, face)
        for z in range(zones):
            drawn_w[z] += share[slot, z] * taken * 2.0 * furnace.face_m2
    return hottest


@njit(cache=True, fastmath=True)
def losses(furnace, zones, at, drawn_w, extra_w, needs_w):  # type: ignore[no-untyped-def]  # compiled
    """`needs_w` (zone): what leaves each zone at temperatures `at` °C, flue and fuel apart.

    `extra_w` (zone) is what was learned to leave besides what the numbers say.
    """
    last = len(at) - 1
    for z in range(last + 1):
        hot = (at[z] + KELVIN) / (1200.0 + KELVIN)
        water = furnace.skid_w[z] * hot * hot * hot * hot
        needs = drawn_w[z] + extra_w[z] + water + furnace.lump_to_wall[z] * (at[z] - zones.wall[z])
        if z > 0:
            needs += furnace.between_w_per_k * (at[z] - at[z - 1])
        if z < last:
            needs += furnace.between_w_per_k * (at[z] - at[z + 1])
        needs_w[z] = needs


@njit(cache=True, fastmath=True)
def _flue(furnace, t):  # type: ignore[no-untyped-def]  # compiled
    """Heat that flue gas at `t` °C carries, J per J burned."""
    return t * (furnace.flue[0] + furnace.flue[1] * t)


@njit(cache=True, fastmath=True)
def _preheated(furnace, charging_c):  # type: ignore[no-untyped-def]  # compiled
    """Heat that combustion air brings back, J per J burned, at the charging zone's °C."""
    air_c = min(furnace.preheat_share * charging_c, furnace.preheat_highest_c)
    return furnace.air_per_k * (air_c - HALL_C)


@njit(cache=True, fastmath=True)
def _ask(furnace, zones, at, needs_w, back, dt, part, asked_w):  # type: ignore[no-untyped-def]  # compiled
    """`asked_w` (zone): fuel that lets the gas reach `ramped` in `dt` s, as far as burners can."""
    most = part * furnace.fuel_rate_w_per_step
    burned, arriving = 0.0, 0.0
    for z in range(len(at) - 1, -1, -1):
        flue = _flue(furnace, at[z])
        follow = furnace.lump_j_per_k[z] * (zones.ramped[z] - zones.gas[z]) / dt
        fuel = (needs_w[z] + follow + burned * flue - arriving) / (1.0 + back - flue)
        fuel = min(max(fuel, furnace.fuel_low_w[z]), furnace.fuel_high_w[z])
        asked_w[z] = min(max(fuel, zones.fuel[z] - most), zones.fuel[z] + most)
        burned += asked_w[z]
        arriving = burned * flue


@njit(cache=True, fastmath=True)
def _burn(furnace, zones, at, needs_w, dt, part):  # type: ignore[no-untyped-def]  # compiled
    """Burn what the zones ask for, as far as the header can; fuel and gas are brought on.

    What the header cannot give, every zone lacks in proportion to what it asks above its pilot.
    """
    back = _preheated(furnace, zones.gas[0])
    asked_w = np.empty(len(at))
    _ask(furnace, zones, at, needs_w, back, dt, part, asked_w)
    least = furnace.fuel_low_w.sum()
    share = min(1.0, (furnace.header_w - least) / max(asked_w.sum() - least, 1.0))
    burned, arriving = 0.0, 0.0
    for z in range(len(at) - 1, -1, -1):
        zones.fuel[z] = furnace.fuel_low_w[z] + share * (asked_w[z] - furnace.fuel_low_w[z])
        burned += zones.fuel[z]
        leaving = burned * _flue(furnace, at[z])
        gain = zones.fuel[z] * (1.0 + back) + arriving - leaving - needs_w[z]
        arriving = leaving
        zones.gas[z] += gain * dt / furnace.lump_j_per_k[z]


@njit(cache=True, fastmath=True)
def soak(furnace, zones, at, dt):  # type: ignore[no-untyped-def]  # compiled
    """The walls behind zones that stand at `at` °C, for `dt` s."""
    for z in range(len(at)):
        into = furnace.lump_to_wall[z] * (at[z] - zones.wall[z])
        out = furnace.wall_to_hall[z] * (zones.wall[z] - HALL_C)
        zones.wall[z] += (into - out) * dt / furnace.wall_j_per_k[z]


@njit(cache=True, fastmath=True)
def zone_step(furnace, zones, at, drawn_w, extra_w, dt, part=1.0):  # type: ignore[no-untyped-def]  # compiled
    """The zones for `dt` s towards `ramped`, given what slabs draw at temperatures `at`.

    `part`: which part of a step that is.
    """
    needs_w = np.empty(len(at))
    losses(furnace, zones, at, drawn_w, extra_w, needs_w)
    _burn(furnace, zones, at, needs_w, dt, part)
    soak(furnace, zones, at, dt)


@njit(cache=True, fastmath=True)
def ramp(furnace, zones, setpoint_c, at, part=1.0):  # type: ignore[no-untyped-def]  # compiled
    """Move the followed setpoints on; `at` gets the gas temperatures halfway through the step.

    `part`: for which part of a step.
    """
    for z in range(len(at)):
        step = setpoint_c[z] - zones.ramped[z]
        zones.ramped[z] += min(max(step, -part * furnace.ramp_down_k), part * furnace.ramp_up_k)
    _halfway(furnace, zones, zones.ramped, at)


@njit(cache=True, fastmath=True)
def _halfway(furnace, zones, aim_c, at):  # type: ignore[no-untyped-def]  # compiled
    """`at` (zone): the gas halfway through a step in which it goes to `aim_c` (zone)."""
    for z in range(len(at)):
        off = aim_c[z] - zones.gas[z]
        # A burner at its end lets the zone drift; the flue gas of the zones behind holds it up.
        drifts = (off < 0.0 and zones.fuel[z] <= _AT_END * furnace.fuel_low_w[z]) or (
            off > 0.0 and _AT_END * zones.fuel[z] >= furnace.fuel_high_w[z]
        )
        at[z] = zones.gas[z] if drifts else zones.gas[z] + 0.5 * off


@njit(cache=True, fastmath=True)
def remember(loops, moved_k, drawn_w, part=1.0):  # type: ignore[no-untyped-def]  # compiled
    """Take a step into `loops.memory`: what followed setpoints moved, what slabs drew in it."""
    zones, taus = len(moved_k), len(loops.fade_min)
    for t in range(taus):
        stays = math.exp(-part / loops.fade_min[t])
        for z in range(zones):
            draw, more = (zones + z) * taus + t, 1e-6 * drawn_w[z] - loops.drawn_mw[z]
            loops.memory[z * taus + t] = stays * loops.memory[z * taus + t] + moved_k[z]
            loops.memory[draw] = stays * loops.memory[draw] + more
    for z in range(zones):
        loops.drawn_mw[z] = 1e-6 * drawn_w[z]


@njit(cache=True, fastmath=True)
def _trust(loops, ramped):  # type: ignore[no-untyped-def]  # compiled
    """1 inside what was seen in training, falling to 0 half its width outside."""
    outside = 0.0
    for f in range(len(loops.memory)):
        outside = max(outside, abs(loops.memory[f]) / loops.spread[f] / loops.highest[f] - 1.0)
    for z in range(len(ramped)):
        low, high = loops.seen_c[z, 0], loops.seen_c[z, 1]
        beyond = max(low - ramped[z], ramped[z] - high)
        outside = max(outside, beyond / (0.5 * (high - low)))
    return 1.0 - min(outside, 1.0)


@njit(cache=True, fastmath=True)
def answer(loops, ramped):  # type: ignore[no-untyped-def]  # compiled
    """`loops.answer` while zones follow `ramped` (zone)."""
    features, units = len(loops.memory), len(loops.hidden)
    trust = _trust(loops, ramped)
    loops.trust[0] = min(loops.trust[0], trust)
    seen, fired = np.empty(features), np.empty(units)
    for f in range(features):
        x = loops.memory[f] / loops.spread[f]
        seen[f] = min(max(x, -loops.highest[f]), loops.highest[f])
    for u in range(units):
        total = 0.0
        for f in range(features):
            total += loops.hidden[u, f] * seen[f]
        fired[u] = math.tanh(total)
    for a in range(len(loops.answer)):
        total = 0.0
        for f in range(features):
            total += loops.linear[a, f] * seen[f]
        for u in range(units):
            total += loops.readout[a, u] * fired[u]
        loops.answer[a] = trust * loops.most[a] * math.tanh(total)


@njit(cache=True, fastmath=True)
def _step(  # type: ignore[no-untyped-def]  # compiled
    steel, furnace, slabs, first, zones, loops, extra_w, setpoint_c, at, drawn_w, dt, part
):
    """Slabs and zones for `part` of a step, `dt` s, in place; the hottest face, °C.

    `at` and `drawn_w` (zone) get the gas halfway through it, °C, and what slabs drew, W.
    """
    moved_k = -zones.ramped
    ramp(furnace, zones, setpoint_c, at, part)
    moved_k += zones.ramped
    zone_count = len(moved_k)
    if len(loops.memory):
        _halfway(furnace, zones, zones.ramped + loops.answer[:zone_count], at)
    hottest = heat_slabs(steel, furnace, slabs, first, at, dt, drawn_w)
    aimed, lost_w = zones, extra_w
    if len(loops.memory):
        remember(loops, moved_k, drawn_w, part)
        answer(loops, zones.ramped)
        aim_c = zones.ramped + loops.answer[:zone_count]
        aimed = Zones(zones.gas, zones.wall, aim_c, zones.fuel)
        lost_w = extra_w + 1e6 * loops.answer[zone_count:]
    zone_step(furnace, aimed, at, drawn_w, lost_w, dt, part)
    return hottest


#: Columns of what leaves: mean °C, face minus core K, face °C, steel burned away per face kg/m².
MEAN, DIFFERENCE, FACE, SCALE = range(4)


@njit(cache=True, fastmath=True)
def leave(slabs, i, left):  # type: ignore[no-untyped-def]  # compiled
    """Note in `left` (column) how slab `i` leaves."""
    left[0] = slabs.node[i].mean()
    left[1] = slabs.face[i] - slabs.node[i, 0]
    left[2] = slabs.face[i]
    left[3] = math.sqrt(slabs.scale2[i])


@njit(cache=True, fastmath=True)
def roll(  # type: ignore[no-untyped-def]  # compiled
    steel, furnace, slabs, zones, loops, extra_w, leaves, setpoints_c, dt, left, seen
):
    """Steps of `dt` s along `setpoints_c` (step, zone), in place; the hottest face, °C.

    `leaves` (slab, ascending): the step at whose beginning each leaves. `left` (slab, column) gets
    how they leave; `seen` (step, 2 × zone) every step's fuel in W and gas in °C at its end.
    """
    count = setpoints_c.shape[1]
    at, drawn_w = np.empty(count), np.empty(count)
    first, hottest = 0, -KELVIN
    for k in range(len(setpoints_c)):
        while first < len(leaves) and leaves[first] <= k:
            leave(slabs, first, left[first])
            first += 1
        face = _step(
            steel, furnace, slabs, first, zones, loops, extra_w, setpoints_c[k], at, drawn_w,
            dt, 1.0,
        )  # fmt: skip
        hottest = max(hottest, face)
        seen[k, :count], seen[k, count:] = zones.fuel, zones.gas
    return hottest


@njit(cache=True, fastmath=True)
def advance(  # type: ignore[no-untyped-def]  # compiled
    steel, furnace, slabs, zones, loops, extra_w, setpoints_c, since_s, until_s, dt, hottest_c, seen
):
    """From `since_s` to `until_s` along `setpoints_c` (step, zone), in place; J taken by the slabs.

    Both count from the beginning of the first step of `dt` s and may lie inside one; no slab moves
    meanwhile. `hottest_c` (slab) is each slab's hottest face so far. `seen` (step, 3 × zone) gets
    the fuel's mean in W, then gas and followed setpoint in °C at the step's end or `until_s`.
    """
    count = setpoints_c.shape[1]
    at, drawn_w = np.empty(count), np.empty(count)
    taken_j, now_s = 0.0, since_s
    while now_s < until_s:
        k = int(now_s / dt)
        end_s = min((k + 1) * dt, until_s)
        piece_s = end_s - now_s
        part = piece_s / dt
        _step(
            steel, furnace, slabs, 0, zones, loops, extra_w, setpoints_c[k], at, drawn_w,
            piece_s, part,
        )  # fmt: skip
        for i in range(len(hottest_c)):
            hottest_c[i] = max(hottest_c[i], slabs.face[i])
        for z in range(count):
            seen[k, z] += part * zones.fuel[z]
            seen[k, count + z] = zones.gas[z]
            seen[k, 2 * count + z] = zones.ramped[z]
            taken_j += drawn_w[z] * piece_s
        now_s = end_s
    return taken_j


@njit(cache=True, fastmath=True)
def surplus(furnace, zones, gas_after, drawn_w, fuel_w, dt, extra_w):  # type: ignore[no-untyped-def]  # compiled
    """`extra_w` (zone): heat that went elsewhere in a step seen to burn `fuel_w` (zone).

    `zones` supplies gas and walls at the step's beginning, `gas_after` (zone) is the gas at its
    end.
    """
    count = len(fuel_w)
    at, needs_w = 0.5 * (zones.gas + gas_after), np.empty(count)
    losses(furnace, zones, at, drawn_w, np.zeros(count), needs_w)
    back = _preheated(furnace, zones.gas[0])
    burned, arriving = 0.0, 0.0
    for z in range(count - 1, -1, -1):
        burned += fuel_w[z]
        leaving = burned * _flue(furnace, at[z])
        stored = furnace.lump_j_per_k[z] * (gas_after[z] - zones.gas[z]) / dt
        extra_w[z] = fuel_w[z] * (1.0 + back) + arriving - leaving - needs_w[z] - stored
        arriving = leaving
