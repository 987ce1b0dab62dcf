"""What happens to the real quadruple tank from outside: batches, trips, dropouts, noise, prices.

Every random thing has its own stream, chosen by (seed, kind, item) and never touched by a
controller, so two controllers on one seed and start meet exactly the same events at the same
times. The numbers are the truth's own: the twin reads its beliefs from plant.yaml.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from twin.records import Series

ROW_S = 10  # every event falls on the grid on which the PLC scans and the sensors report
DAY_ROWS = 86_400 // ROW_S

_RUN_IN_S = 12 * 3600.0  # orders begin this long before the plant, so its first hours are usual
_NOTICE_MIN = (30.0, 60.0)
_GAP_LEAST_MIN, _GAP_MEAN_EXTRA_MIN = 45.0, 123.0
_DRAW_CM3_PER_S = (6.0, 10.0)
_DURATION_MIN = (8.0, 16.0)
_START_ERROR_SD_MIN, _START_ERROR_LIMIT_MIN = 4.0, 10.0
_SIZE_ERROR_SD, _SIZE_FACTOR_LIMITS = 0.1, (0.7, 1.3)
_TRIP_MEAN_H, _REPAIR_MIN = 8.0, (3.0, 12.0)
_DROPOUT_MEAN_H, _DROPOUT_MIN = 4.0, (1.0, 5.0)
_NOISE_SD_CM = 0.1
_PRICE_MEAN_CT_PER_WH, _DAY_TO_NIGHT, _PRICE_NOISE = 10.0, 2.5, 0.1
NIGHT_ENDS_S = 6 * 3600.0  # the cheap hours are 00:00–06:00 UTC


@dataclass(frozen=True, slots=True)
class Batch:
    """One order as announced, and what really came of it. Times in s since 1970 UTC."""

    start_s: float
    draw: float
    duration_min: float
    shown_from_s: float
    real_start_s: float
    real_end_s: float
    real_draw: float


@dataclass(frozen=True)
class Disturbances:
    """One day of everything that comes from outside, a row per 10 s.

    Row k describes the 10 s that begin at `first_s` + 10 k. Order lines are 1a, 1b, 2a, 2b.
    """

    first_s: float
    demand: Series  # (row, lower tank) cm³/s
    running: Series  # (row, pump) 1 or 0
    order_start: Series  # (row, line) s since 1970 UTC, 0 where empty
    order_draw: Series  # (row, line) cm³/s, 0 where empty
    order_duration: Series  # (row, line) min, 0 where empty
    price: Series  # (row, this hour and the next) ct/Wh; one row more, for the day's last moment
    noise: Series  # (row, level sensor) cm
    is_held: NDArray[np.bool_]  # (row, level sensor) the sensor has dropped out


def stream(seed: int, kind: str, item: int, part: int = 0) -> np.random.Generator:
    """The random numbers of one thing, independent of those of every other thing."""
    return np.random.default_rng([seed, zlib.crc32(kind.encode()), item, part])


def batches(seed: int, tank: int, start_s: float, until_s: float) -> list[Batch]:
    """The orders of a lower tank that are shown before `until_s`, in order of time."""
    rng = stream(seed, "batches", tank)
    orders: list[Batch] = []
    end_s = start_s - _RUN_IN_S
    while True:
        gap_s = 60.0 * (_GAP_LEAST_MIN + rng.exponential(_GAP_MEAN_EXTRA_MIN))
        announced_s = 60.0 * np.ceil((end_s + gap_s) / 60.0)
        draw = round(rng.uniform(*_DRAW_CM3_PER_S), 2)
        duration_min = round(rng.uniform(*_DURATION_MIN), 1)
        # A line shown during a row is read at that row's end: one row more keeps the notice.
        notice_s = ROW_S * (1 + 60.0 * rng.uniform(*_NOTICE_MIN) // ROW_S)
        error_min = np.clip(
            rng.normal(0, _START_ERROR_SD_MIN), -_START_ERROR_LIMIT_MIN, _START_ERROR_LIMIT_MIN
        )
        draw_factor, duration_factor = np.clip(
            1 + rng.normal(0, _SIZE_ERROR_SD, size=2), *_SIZE_FACTOR_LIMITS
        )
        real_start_s = announced_s + ROW_S * round(60.0 * error_min / ROW_S)
        real_s = ROW_S * round(60.0 * duration_min * duration_factor / ROW_S)
        end_s = announced_s + 60.0 * duration_min
        if announced_s - 60.0 * _NOTICE_MIN[1] > until_s:
            return orders
        orders.append(
            Batch(
                start_s=float(announced_s),
                draw=draw,
                duration_min=duration_min,
                shown_from_s=float(announced_s - notice_s),
                real_start_s=float(real_start_s),
                real_end_s=float(real_start_s + real_s),
                real_draw=float(draw * draw_factor),
            )
        )


def outages(
    seed: int, kind: str, item: int, start_s: float, until_s: float
) -> list[tuple[float, float]]:
    """Spans (from, to) in which a thing is out: exponential time up, uniform time out.

    `kind` is "trips" (pumps) or "dropouts" (level sensors). Spans go by the clock, not by what
    a controller did meanwhile.
    """
    mean_h, out_min = {
        "trips": (_TRIP_MEAN_H, _REPAIR_MIN),
        "dropouts": (_DROPOUT_MEAN_H, _DROPOUT_MIN),
    }[kind]
    rng = stream(seed, kind, item)
    spans: list[tuple[float, float]] = []
    back_s = start_s
    while back_s < until_s:
        out_s = back_s + ROW_S * round(3600.0 * rng.exponential(mean_h) / ROW_S)
        back_s = out_s + ROW_S * round(60.0 * rng.uniform(*out_min) / ROW_S)
        spans.append((out_s, back_s))
    return spans


@lru_cache(maxsize=32)
def day(seed: int, start_s: float, number: int) -> Disturbances:
    """Day `number` (from 0) after `start_s` of a seed's plant; the arrays are read-only.

    `start_s` is a whole minute. The same arguments give the same day, whatever ran before.
    """
    rows = DAY_ROWS
    first_s = start_s + 86_400.0 * number
    until_s = first_s + 86_400.0

    def rows_of(from_s: float, to_s: float) -> slice:
        """The rows that begin in [from, to), cut to this day."""
        begin, end = (int((moment - first_s) // ROW_S) for moment in (from_s, to_s))
        return slice(max(begin, 0), max(end, 0))

    demand, running = np.zeros((rows, 2)), np.ones((rows, 2))
    lines = {name: np.zeros((rows, 4)) for name in ("start", "draw", "duration")}
    for tank in (0, 1):
        for number_in_line, batch in enumerate(batches(seed, tank + 1, start_s, until_s)):
            demand[rows_of(batch.real_start_s, batch.real_end_s), tank] = batch.real_draw
            # Neighbours overlap on the list, next but one never do (gap against errors): two
            # lines, used in turn, are enough.
            line = 2 * tank + number_in_line % 2
            shown = rows_of(batch.shown_from_s, batch.real_end_s)
            lines["start"][shown, line] = batch.start_s
            lines["draw"][shown, line] = batch.draw
            lines["duration"][shown, line] = batch.duration_min
        for out_s, back_s in outages(seed, "trips", tank + 1, start_s, until_s):
            running[rows_of(out_s, back_s), tank] = 0.0
    is_held = np.zeros((rows, 4), dtype=np.bool_)
    noise = np.empty((rows, 4))
    for sensor in range(4):
        for out_s, back_s in outages(seed, "dropouts", sensor + 1, start_s, until_s):
            is_held[rows_of(out_s, back_s), sensor] = True
        noise[:, sensor] = stream(seed, "noise", sensor + 1, number).normal(
            0, _NOISE_SD_CM, size=rows
        )
    made = Disturbances(
        first_s=first_s,
        demand=demand,
        running=running,
        order_start=lines["start"],
        order_draw=lines["draw"],
        order_duration=lines["duration"],
        price=_prices(seed, start_s, first_s),
        noise=noise,
        is_held=is_held,
    )
    for column in (demand, running, *lines.values(), made.price, noise, is_held):
        column.flags.writeable = False
    return made


def _prices(seed: int, start_s: float, first_s: float) -> Series:
    """Price of the running hour and of the next one, per row and one more, ct/Wh."""
    start_hour = int(start_s // 3600)
    hour = ((first_s + ROW_S * np.arange(DAY_ROWS + 1)) // 3600).astype(np.int64)
    hours = np.arange(start_hour, int(hour[-1]) + 2)
    factor = np.exp(stream(seed, "tariff", 1).normal(0, _PRICE_NOISE, size=len(hours)))
    night = 2 * _PRICE_MEAN_CT_PER_WH / (1 + _DAY_TO_NIGHT)
    is_night = (hours % 24) * 3600.0 < NIGHT_ENDS_S
    by_hour = np.where(is_night, night, night * _DAY_TO_NIGHT) * factor
    return np.stack([by_hour[hour - start_hour], by_hour[hour - start_hour + 1]], axis=1)
