"""The real quadruple tank under its PLC, advanced in fine steps. The twin may never read this.

Physics with hard corners and this seed's own outlets, pump gains and fouling; sensors with lag,
noise and dropouts; one scan of the PLC's loops every 10 s. `Truth` wraps it in tags and times;
the baseline search runs it bare. Its numbers are its own and not those of `physics.py`, so that
nobody moves the truth by correcting the twin.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numba import njit

from twin.plants.four_tank import baseline as plc
from twin.plants.four_tank.disturbances import ROW_S, Disturbances, stream
from twin.records import Series

_STEP_S = 5.0
AREA = np.array([420.0, 480.0, 420.0, 480.0])  # cm²
_NOMINAL_OUTLET = np.array([0.071, 0.057, 0.071, 0.057])  # cm²
_SPLIT_1, _SPLIT_2 = 0.70, 0.60  # share of each pump's flow that goes to its lower tank
_TWO_G = 2 * 981.0  # cm/s²
_EDGE_CM = 20.0
_DRAW_EMPTY_CM, _DRAW_FULL_CM = 9.0, 10.0
_HEAD_CM, _HEAD_CURVE = 60.0, 0.185
_WATTS_PER_CM4 = 9.81e-5 / 0.35  # specific weight over efficiency
_IDLE_W = 0.03
_SENSOR_LAG_S = 20.0

_OUTLET_SPREAD, _GAIN_SPREAD, _FOULING_PER_12H = 0.10, 0.08, 0.05
_START_LEVELS_CM = (12.4, 12.7, 1.8, 1.4)
_START_FLOW = 10.0  # cm³/s

ROWS_PER_MIN = 60 // ROW_S

# Places in the state vector of plant and PLC.
LEVEL, SENSOR, SHOWN = 0, 4, 8  # true levels, lagged, last shown good value; cm
FILTERED, INTEGRAL = 12, 14  # of the two loops
SETPOINT, RAMPED, MODE = 16, 18, 20  # cm³/s, cm³/s after the ramp, 0 AUTO or 1 REMOTE
HEARTBEAT_S, STOP = 22, 23  # time of the last heartbeat, 1 while stopped
RUNNING, TRIPS = 24, 26  # running state in the last row, trips so far
PUMPED, DRAINED, TAKEN, OVERFLOWED = 28, 29, 30, 31  # cm³ so far
_STATE_SIZE = 35

# Columns that `march` writes for each 10 s row.
_OUT_SHOWN, _OUT_LEVEL = 0, 4  # at the end of the row, cm
_OUT_FLOW, _OUT_POWER, _OUT_TAKEN = 8, 10, 12  # means over the row
_OUT_SETPOINT, _OUT_MODE = 14, 16  # after the scan that ends the row
_OUT_SIZE = 18


# The cache notices edits of this file only: after one in baseline.py delete __pycache__. A test
# compares the machine code with its source.
@njit(cache=True)
def march(  # type: ignore[no-untyped-def]
    state, rows, first_s, demand, running, order_start, order_draw, noise, is_held,
    outlets, pump_gains, fouling, tuning, heartbeat_timeout_s, out,
):  # fmt: skip
    """Carry plant and PLC through `rows` rows of 10 s; changes `state`, fills `out`.

    Each row is two explicit Euler steps of 5 s, then the sensors, then one PLC scan; row k of
    the disturbances holds for all of it.
    """
    lag = 1.0 - math.exp(-_STEP_S / _SENSOR_LAG_S)
    ramp_step = plc.RAMP_CM3_PER_S_PER_MIN * _STEP_S / 60.0
    substeps = int(ROW_S / _STEP_S)
    leaves = np.empty(4)
    taken = np.empty(2)
    enters = np.empty(4)
    flow = np.empty(2)
    for k in range(rows):
        out[k, _OUT_FLOW:_OUT_SETPOINT] = 0.0
        for substep in range(substeps):
            time_s = first_s + k * ROW_S + substep * _STEP_S
            since_flush = time_s % 86400.0 / 43200.0
            for pump in range(2):
                away = state[SETPOINT + pump] - state[RAMPED + pump]
                state[RAMPED + pump] += min(max(away, -ramp_step), ramp_step)
                drive = state[RAMPED + pump] * running[k, pump]
                flow[pump] = min(pump_gains[pump] * drive, plc.HIGHEST_FLOW)
                state[PUMPED] += flow[pump] * _STEP_S
                head = _HEAD_CM + _HEAD_CURVE * flow[pump] ** 2
                power = _WATTS_PER_CM4 * flow[pump] * head
                if flow[pump] > 0.0:
                    power += _IDLE_W
                out[k, _OUT_FLOW + pump] += drive / substeps
                out[k, _OUT_POWER + pump] += power / substeps
            for tank in range(4):
                level = state[LEVEL + tank]
                clear = outlets[tank] * (1.0 - fouling[tank] * since_flush)
                leaves[tank] = min(clear * math.sqrt(_TWO_G * level), level * AREA[tank] / _STEP_S)
            for tank in range(2):
                share = (state[LEVEL + tank] - _DRAW_EMPTY_CM) / (_DRAW_FULL_CM - _DRAW_EMPTY_CM)
                taken[tank] = demand[k, tank] * min(max(share, 0.0), 1.0)
                out[k, _OUT_TAKEN + tank] += taken[tank] / substeps
            enters[0] = _SPLIT_1 * flow[0] + leaves[2] - taken[0]
            enters[1] = _SPLIT_2 * flow[1] + leaves[3] - taken[1]
            enters[2] = (1.0 - _SPLIT_2) * flow[1]
            enters[3] = (1.0 - _SPLIT_1) * flow[0]
            for tank in range(4):
                level = state[LEVEL + tank]
                # An emptied tank may end a rounding error below zero, where no root exists.
                level = max(level + _STEP_S * (enters[tank] - leaves[tank]) / AREA[tank], 0.0)
                if level > _EDGE_CM:
                    state[OVERFLOWED + tank] += (level - _EDGE_CM) * AREA[tank]
                    level = _EDGE_CM
                state[LEVEL + tank] = level
                state[SENSOR + tank] += lag * (level - state[SENSOR + tank])
            state[DRAINED] += (leaves[0] + leaves[1]) * _STEP_S
            state[TAKEN] += (taken[0] + taken[1]) * _STEP_S

        now_s = first_s + (k + 1) * ROW_S
        for tank in range(4):
            if not is_held[k, tank]:
                state[SHOWN + tank] = state[SENSOR + tank] + noise[k, tank]
            out[k, _OUT_SHOWN + tank] = state[SHOWN + tank]
            out[k, _OUT_LEVEL + tank] = state[LEVEL + tank]
        if state[STOP] > 0.0 or now_s - state[HEARTBEAT_S] > heartbeat_timeout_s:
            state[MODE : MODE + 2] = 0.0
        for loop in range(2):
            level = plc.filtered(state[FILTERED + loop], state[SHOWN + loop])
            state[FILTERED + loop] = level
            wanted = plc.level_setpoint(loop, now_s, order_start[k], order_draw[k], tuning)
            setpoint, integral = plc.scan(
                loop, state[MODE + loop] == 0.0, running[k, loop] > 0.0, wanted - level,
                state[SETPOINT + loop], state[INTEGRAL + loop], tuning,
            )  # fmt: skip
            state[SETPOINT + loop] = setpoint
            state[INTEGRAL + loop] = integral
            out[k, _OUT_SETPOINT + loop] = setpoint
            out[k, _OUT_MODE + loop] = state[MODE + loop]
            if running[k, loop] < state[RUNNING + loop]:
                state[TRIPS + loop] += 1.0
            state[RUNNING + loop] = running[k, loop]


@dataclass(frozen=True)
class RealPlant:
    """What one seed's plant is made of: outlets in cm², pump gains, fouling share per 12 h."""

    outlets: Series
    pump_gains: Series
    fouling: Series


def real_plant(seed: int) -> RealPlant:
    """The plant of a seed: each parameter uniform around nominal, from its own stream."""

    def spread(kind: str, count: int, low: float, high: float) -> Series:
        return np.array([stream(seed, kind, i + 1).uniform(low, high) for i in range(count)])

    return RealPlant(
        outlets=_NOMINAL_OUTLET * spread("outlets", 4, 1 - _OUTLET_SPREAD, 1 + _OUTLET_SPREAD),
        pump_gains=spread("pump gains", 2, 1 - _GAIN_SPREAD, 1 + _GAIN_SPREAD),
        fouling=spread("fouling", 4, 0.0, _FOULING_PER_12H),
    )


def start_state() -> Series:
    """Plant and PLC at the start: nominal levels, AUTO, both pumps at 10 cm³/s, no heartbeat."""
    state = np.zeros(_STATE_SIZE)
    for place in (LEVEL, SENSOR, SHOWN):
        state[place : place + 4] = _START_LEVELS_CM
    state[FILTERED : FILTERED + 2] = _START_LEVELS_CM[:2]
    state[SETPOINT : SETPOINT + 2] = state[RAMPED : RAMPED + 2] = _START_FLOW
    state[INTEGRAL : INTEGRAL + 2] = _START_FLOW
    state[RUNNING : RUNNING + 2] = 1.0
    state[HEARTBEAT_S] = -np.inf
    return state


def carry(
    state: Series,
    real: RealPlant,
    tuning: Series,
    outside: Disturbances,
    row: int,
    rows: int,
    heartbeat_timeout_s: float,
) -> Series:
    """`march` through rows of one day; returns its columns, changes `state`."""
    out = np.empty((rows, _OUT_SIZE))
    here = slice(row, row + rows)
    march(
        state,
        rows,
        outside.first_s + ROW_S * row,
        outside.demand[here],
        outside.running[here],
        outside.order_start[here],
        outside.order_draw[here],
        outside.noise[here],
        outside.is_held[here],
        real.outlets,
        real.pump_gains,
        real.fouling,
        tuning,
        heartbeat_timeout_s,
        out,
    )
    return out


def signals(outside: Disturbances, row: int, out: Series) -> Series:
    """Every signal at the end of each row, in the order of `COLUMNS`.

    Flows, powers, demands and running states are those of the row that ends; prices are those
    from then on.
    """
    here, ends = slice(row, row + len(out)), slice(row + 1, row + len(out) + 1)
    parts = (
        out[:, _OUT_SHOWN : _OUT_SHOWN + 4],
        out[:, _OUT_FLOW:_OUT_SIZE],
        outside.demand[here],
        outside.running[here],
        outside.price[ends],
        outside.order_start[here],
        outside.order_draw[here],
        outside.order_duration[here],
    )
    return np.concatenate(parts, axis=1)


COLUMNS: Mapping[str, int] = {
    name: column
    for column, name in enumerate(
        [
            *(f"tank_{i}.level" for i in (1, 2, 3, 4)),
            *(f"pump_{i}.{what}" for what in ("flow", "power") for i in (1, 2)),
            *(f"tank_{i}.delivered" for i in (1, 2)),
            *(f"pump_{i}.{what}" for what in ("setpoint", "mode") for i in (1, 2)),
            *(f"tank_{i}.demand" for i in (1, 2)),
            *(f"pump_{i}.running" for i in (1, 2)),
            *("price.now", "price.next"),
            *(
                f"order_{line}.{what}"
                for what in ("start", "draw", "duration")
                for line in ("1a", "1b", "2a", "2b")
            ),
        ]
    )
}

TRUE = (
    *(f"tank_{i}.level" for i in (1, 2, 3, 4)),
    *(f"pump_{i}.{what}" for what in ("flow", "power") for i in (1, 2)),
    *(f"tank_{i}.delivered" for i in (1, 2)),
    *(f"tank_{i}.demand" for i in (1, 2)),
    *(f"pump_{i}.running" for i in (1, 2)),
    "price.now",
)


def true_rows(outside: Disturbances, row: int, out: Series) -> Series:
    """The true values of each row, in the order of `TRUE`."""
    here = slice(row, row + len(out))
    parts = (
        out[:, _OUT_LEVEL:_OUT_SETPOINT],
        outside.demand[here],
        outside.running[here],
        outside.price[here, :1],
    )
    return np.concatenate(parts, axis=1)


def per_minute(rows: Series) -> dict[str, Series]:
    """Whole minutes of `true_rows`: levels at the minute's end, everything else its mean."""
    by_minute = rows.reshape(-1, ROWS_PER_MIN, len(TRUE))
    means, ends = by_minute.mean(axis=1), by_minute[:, -1]
    return {
        tag: np.ascontiguousarray((ends if tag.endswith(".level") else means)[:, column])
        for column, tag in enumerate(TRUE)
    }
