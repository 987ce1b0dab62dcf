"""A furnace's past made of the twin's own equations, with or without a residual that we know.

A tool of tests: what training must find in it, or must not, is known exactly.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import timedelta

import numpy as np
from furnace_line import AT, COLD, FURNACE, HOLD, MILL, PLANT, full_furnace

from twin.furnace.numbers import STEP_S
from twin.furnace.residual import FADE_MIN, LoopState, ZoneResidual
from twin.furnace.rollout import Rollout
from twin.furnace.state import Slab
from twin.records import Series, Window

ZONES = len(FURNACE.zones)
FEATURES = 2 * ZONES * len(FADE_MIN)
#: Runs of an hour are enough for tests, and need less of a past.
HOURLY = dataclasses.replace(PLANT, horizon_steps=60)
_NOISE_K, _PYROMETER_K = 0.3, 6.0
_MINUTES_PER_SLAB, _MINUTES_PER_MOVE = 7, 17


def made_residual(*, off_per_k: float = 0.0, lost_mw_per_k: float = 0.0) -> ZoneResidual:
    """Zones that are off by `off_per_k`, and lose `lost_mw_per_k`, for a K moved 3 min ago (e⁻¹).

    Spreads are 1, so that numbers are per K and per MW; it may be trusted everywhere.
    """
    most, linear = (100.0,) * 2 * ZONES, np.zeros((2 * ZONES, FEATURES))
    for z in range(ZONES):
        moved = z * len(FADE_MIN) + FADE_MIN.index(3.0)
        linear[z, moved] = off_per_k / most[z]
        linear[ZONES + z, moved] = lost_mw_per_k / most[ZONES + z]
    return ZoneResidual(
        spread=(1.0,) * FEATURES,
        highest=(1e6,) * FEATURES,
        linear=tuple(tuple(row) for row in linear.tolist()),
        hidden=(),
        readout=((),) * (2 * ZONES),
        most=most,
        seen_c=((0.0, 2000.0),) * ZONES,
        error_share=(1.0,) * (2 * ZONES),
    )


def made_past(hours: int, residual: ZoneResidual | None = None, *, seed: int = 3) -> Window:
    """What the plant showed: a slab every 7 min, every zone's setpoint moved every 17 min."""
    rows, rng = hours * 60, np.random.default_rng(seed)
    inside = full_furnace()
    coming = tuple(
        dataclasses.replace(COLD, number=128 + n, thickness_m=(0.18, 0.22, 0.25)[n // 9 % 3])
        for n in range(rows // _MINUTES_PER_SLAB + 20)
    )
    loops = LoopState((0.0,) * FEATURES, (0.0,) * ZONES, residual)
    state = dataclasses.replace(inside, yard=coming, loops=loops)
    leaves = list(range(_MINUTES_PER_SLAB, rows, _MINUTES_PER_SLAB))
    setpoints_c = np.column_stack(
        [HOLD[zone.setpoint][0] * np.ones(rows) for zone in FURNACE.zones]
    )
    moves = rng.uniform(-25.0, 25.0, (rows // _MINUTES_PER_MOVE + 1, ZONES))
    setpoints_c += np.repeat(moves, _MINUTES_PER_MOVE, axis=0)[:rows]
    passage = Rollout(FURNACE, state, leaves).run(setpoints_c)
    shown_c = passage.mean_c + rng.normal(0.0, _PYROMETER_K, len(leaves))
    values = _told([each.slab for each in inside.slabs] + list(coming), leaves, shown_c, rows)
    gas_c = passage.gas_c + rng.normal(0.0, _NOISE_K, passage.gas_c.shape)
    followed_c = _ramped(np.array([zone.followed_c for zone in inside.zones]), setpoints_c)
    for z, zone in enumerate(FURNACE.zones):
        values[zone.temperature], values[zone.followed] = gas_c[:, z], followed_c[:, z]
        values[zone.setpoint] = setpoints_c[:, z]
        values[zone.fuel] = passage.fuel_w[:, z] / 1e6
    values[FURNACE.fuel] = passage.fuel_w.sum(axis=1) / 1e6
    return Window(AT + timedelta(hours=hours), STEP_S, values)


def _ramped(now_c: Series, setpoints_c: Series) -> Series:
    up, down = FURNACE.ramp_k_per_min
    rows = []
    for wanted_c in setpoints_c:
        now_c = now_c + np.clip(wanted_c - now_c, -down, up)
        rows.append(now_c)
    return np.array(rows)


def _told(
    slabs: Sequence[Slab], leaves: Sequence[int], shown_c: Series, rows: int
) -> dict[str, Series]:
    """Slab records, discharges and a mill that rolls, row by row."""
    gone = np.searchsorted(leaves, np.arange(1, rows + 1), side="right")
    number = np.array([99.0, *(slab.number for slab in slabs[: len(leaves)])])
    values = {
        FURNACE.discharged: number[gone],
        FURNACE.pyrometer: np.array([1200.0, *shown_c])[gone],
        FURNACE.interlock: np.zeros(rows),
        MILL.running: np.ones(rows),
        MILL.pace: np.ones(rows),
        MILL.stopped_at: np.zeros(rows),
        MILL.expected_restart: np.zeros(rows),
    }
    places = [(FURNACE.slot_tag, k, FURNACE.slots - k) for k in range(1, FURNACE.slots + 1)]
    places += [
        (FURNACE.yard_tag, k, FURNACE.slots + k - 1) for k in range(1, FURNACE.yard_places + 1)
    ]
    records = np.array(
        [(s.number, 1000.0 * s.thickness_m, s.charge_c, s.grade, s.rate_t_per_h) for s in slabs]
    )
    for tag, place, behind in places:
        told = records[gone + behind]
        for column, part in enumerate(("slab", "thickness", "charge", "grade", "rate")):
            values[tag(place, part)] = told[:, column]
    return values
