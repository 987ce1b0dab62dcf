"""Readings summed up by minute and by hour: what a bucket says, and how it is computed.

A bucket is always computed whole from what is stored, so computing it again changes nothing and
late, doubled or unordered readings come out right. Its time-weighted part follows
`twin.resampling` without breaks: what people say of the past may change, and no bucket is computed
again for it. When buckets are computed is `upkeep`'s, what is asked of them `trends`'.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Table, select

from twin.historian.database import change, fetch
from twin.historian.schema import rollup_1h, rollup_1m, upkeep
from twin.readings import Whole
from twin.records import Samples, Series
from twin.resampling import CLOCK_S, MOST_AREA, good, known_between

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
#: Late readings of one tag further apart than this are two stretches to roll, not one.
_APART_US = HOUR_US

# Rows of a driver that are held at a time: some 10 MB.
_PART_READINGS = 50_000
_TIME_AND_VALUE = np.dtype([("time_us", np.int64), ("value", np.float64)])

#: Rows of buckets in time order, one column for each of `COLUMNS`; NaN where nothing is known.
Buckets = NDArray[np.float64]
COLUMNS = (
    "bucket", "n", "n_good", "total", "low", "high", "first", "last", "area", "known_s",
)  # fmt: skip
BUCKET, N, N_GOOD, TOTAL, LOW, HIGH, FIRST, LAST, AREA, KNOWN_S = range(len(COLUMNS))
_INSIDE = "WHERE tag_id = ? AND bucket >= ? AND bucket < ?"

_MARK = (
    "INSERT INTO rollup_due (tag_id, since, until) VALUES (?, ?, ?) "
    "ON CONFLICT (tag_id, since) DO UPDATE SET until = CASE "
    "WHEN excluded.until > rollup_due.until THEN excluded.until ELSE rollup_due.until END"
)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of one tag, in µs since 1970, whose buckets must be computed (again)."""

    tag_id: int
    since: int
    until: int


def mark_late(connection: Connection, plant: str, tag_ids: Whole, times_us: Whole) -> None:
    """Mark what readings older than the plant's watermark change, where they are stored.

    To be called in the transaction that stores them, with their tag numbers and source times in
    that order. Newer readings are rolled when the watermark passes them.
    """
    # Locked until that transaction ends: the watermark must not pass readings it can't see yet.
    asked = select(upkeep.c.watermark).where(upkeep.c.plant == plant).with_for_update(read=True)
    watermark = connection.execute(asked).scalar()
    if watermark is None:
        return
    is_late = times_us < watermark
    if is_late.any():
        late = zip(tag_ids[is_late].tolist(), times_us[is_late].tolist(), strict=True)
        mark(connection, _stretches([*late]))


def mark(connection: Connection, stretches: Iterable[Stretch]) -> None:
    """Remember stretches whose buckets must be computed."""
    rows = [(s.tag_id, s.since, s.until) for s in stretches]
    if rows:
        change(connection, _MARK, rows)


def unmark(connection: Connection, done: Stretch) -> None:
    """Forget a stretch, but for one that has become longer since it was read."""
    forget = "DELETE FROM rollup_due WHERE tag_id = ? AND since = ? AND until <= ?"
    change(connection, forget, [(done.tag_id, done.since, done.until)])


def floor(us: int, width_us: int) -> int:
    """The start of the bucket that holds a moment."""
    return us // width_us * width_us


def ceiling(us: int, width_us: int) -> int:
    """The start of the first bucket that begins at a moment or after it."""
    return -(-us // width_us) * width_us


def of_samples(times_us: NDArray[np.int64], values: NDArray[np.float64]) -> Buckets:
    """Readings as buckets of one each, without any time they hold for."""
    single = np.full((len(times_us), len(COLUMNS)), np.nan)
    single[:, BUCKET] = times_us
    single[:, N], single[:, N_GOOD] = 1.0, np.isfinite(values)
    single[:, TOTAL : LAST + 1] = values[:, None]
    single[:, AREA:] = 0.0
    return single


def grouped(buckets: Buckets, width_us: int, origin_us: int = 0) -> Buckets:
    """The same as fewer, wider buckets that begin at `origin_us` + k × `width_us`.

    One whose integral is beyond `MOST_AREA` has no known time, as in `twin.resampling`, and one
    whose total is has none.
    """
    if not len(buckets):
        return buckets
    index = (buckets[:, BUCKET].astype(np.int64) - origin_us) // width_us
    starts = np.flatnonzero(np.concatenate(([True], np.diff(index) > 0)))
    wider = np.empty((len(starts), len(COLUMNS)))
    wider[:, BUCKET] = index[starts] * width_us + origin_us
    for column in (N, N_GOOD, AREA, KNOWN_S):
        wider[:, column] = np.add.reduceat(buckets[:, column], starts)
    with np.errstate(over="ignore", invalid="ignore"):
        totals = np.where(buckets[:, N_GOOD] > 0, buckets[:, TOTAL], 0.0)
        wider[:, TOTAL] = np.where(wider[:, N_GOOD] > 0, np.add.reduceat(totals, starts), np.nan)
    wider[~(np.abs(wider[:, TOTAL]) <= MOST_AREA), TOTAL] = np.nan
    wider[~(np.abs(wider[:, AREA]) <= MOST_AREA), AREA:] = 0.0
    wider[:, LOW] = np.fmin.reduceat(buckets[:, LOW], starts)
    wider[:, HIGH] = np.fmax.reduceat(buckets[:, HIGH], starts)
    place, is_good = np.arange(len(buckets)), buckets[:, N_GOOD] > 0
    first = np.minimum.reduceat(np.where(is_good, place, len(buckets)), starts)
    last = np.maximum.reduceat(np.where(is_good, place, -1), starts)
    wider[:, FIRST] = np.where(last >= 0, buckets[first.clip(max=len(buckets) - 1), FIRST], np.nan)
    wider[:, LAST] = np.where(last >= 0, buckets[last, LAST], np.nan)
    return wider


def between(
    times_us: NDArray[np.int64],
    values: NDArray[np.float64],
    span: tuple[int, int],
    width_us: int,
    max_age_s: float,
    before: tuple[int, float] | None = None,
) -> Buckets:
    """The buckets of readings in a span (µs: from, and until before); NaN is no good value.

    The first and the last say only what is inside it. `before` is the last good reading (µs, value)
    before it, which may still hold.
    """
    start_us, end_us = span
    counted = grouped(of_samples(times_us, values), width_us)
    held_us, held_values = times_us, values
    if before is not None:
        held_us = np.concatenate(([before[0]], times_us))
        held_values = np.concatenate(([before[1]], values))
    first_us = floor(start_us, width_us)
    buckets_us = np.arange(first_us, end_us, width_us)
    edges_us = np.append(buckets_us, end_us).clip(min=start_us)
    series = Samples((held_us - start_us) / 1e6, held_values)  # from the start: exact to the µs
    known = known_between(good(series, max_age_s), (edges_us - start_us) / 1e6)
    whole = np.full((len(buckets_us), len(COLUMNS)), np.nan)
    whole[:, BUCKET], whole[:, N], whole[:, N_GOOD] = buckets_us, 0.0, 0.0
    if len(counted):
        whole[(counted[:, BUCKET].astype(np.int64) - first_us) // width_us] = counted
    whole[:, AREA], whole[:, KNOWN_S] = known.area, known.seconds
    kept: Buckets = whole[(whole[:, N] > 0) | (whole[:, KNOWN_S] > 0)]
    return kept


def last_before(
    connection: Connection, tag_id: int, start_us: int, max_age_s: float
) -> tuple[int, float] | None:
    """The last good reading (µs, value) before `start_us` that may still hold there."""
    query = (
        "SELECT ts, value FROM sample WHERE tag_id = ? AND ts >= ? AND ts < ? "
        "AND value IS NOT NULL AND quality < 1073741824 ORDER BY ts DESC LIMIT 1"
    )
    rows = fetch(connection, query, (tag_id, start_us - round(max_age_s * 1e6), start_us))
    return (rows[0][0], rows[0][1]) if rows else None


def read(connection: Connection, table: Table, tag_id: int, start_us: int, end_us: int) -> Buckets:
    """One tag's stored buckets that begin in [`start_us`, `end_us`)."""
    query = f"SELECT {', '.join(COLUMNS)} FROM {table.name} {_INSIDE} ORDER BY bucket"
    rows = fetch(connection, query, (tag_id, start_us, end_us))
    return np.array(rows, dtype=np.float64).reshape(-1, len(COLUMNS))


def replace(
    connection: Connection,
    table: Table,
    stretch: Stretch,
    buckets: Buckets,
    whole_from_us: int | None,
) -> None:
    """Store the buckets of a stretch instead of those that are there.

    Before `whole_from_us` not all that they counted may be kept any more: there a stored bucket
    gives way only to one that may count all it did, as when an old record comes bit by bit.
    """
    since = stretch.since if whole_from_us is None else max(stretch.since, whole_from_us)
    tag_id, name = stretch.tag_id, table.name
    change(connection, f"DELETE FROM {name} {_INSIDE}", [(tag_id, since, stretch.until)])
    if since > stretch.since:
        older = read(connection, table, tag_id, stretch.since, min(since, stretch.until))
        stands = _standing(older, buckets)
        buckets = buckets[~np.isin(buckets[:, BUCKET], stands)]
        given_up = np.setdiff1d(older[:, BUCKET], stands).tolist()
        one = f"DELETE FROM {name} WHERE tag_id = ? AND bucket = ?"
        change(connection, one, [(tag_id, int(bucket)) for bucket in given_up])
    if len(buckets):
        places = ", ".join("?" * (1 + len(COLUMNS)))
        into = f"INSERT INTO {name} (tag_id, {', '.join(COLUMNS)}) VALUES ({places})"
        change(connection, into, _rows(tag_id, buckets))


def _standing(stored: Buckets, computed: Buckets) -> Series:
    """Which of the stored buckets no computed one may replace, by when they begin.

    One that counts the same readings and more has no fewer of them, no narrower range, and no
    less time in which a value is known.
    """
    _, old, new = np.intersect1d(stored[:, BUCKET], computed[:, BUCKET], return_indices=True)
    before, after = stored[old], computed[new]
    is_more = (after[:, (N, N_GOOD)] >= before[:, (N, N_GOOD)]).all(axis=1)
    is_more &= after[:, KNOWN_S] >= before[:, KNOWN_S] - CLOCK_S
    is_more &= ~(after[:, LOW] > before[:, LOW]) & ~(after[:, HIGH] < before[:, HIGH])
    return np.setdiff1d(stored[:, BUCKET], before[is_more, BUCKET])


def roll_hours(connection: Connection, rolled: Stretch, whole_from_us: int | None) -> None:
    """Compute every hour that a stretch of stored minutes touches."""
    hours = Stretch(rolled.tag_id, floor(rolled.since, HOUR_US), ceiling(rolled.until, HOUR_US))
    found = read(connection, rollup_1m, hours.tag_id, hours.since, hours.until)
    replace(connection, rollup_1h, hours, grouped(found, HOUR_US), whole_from_us)


def samples_of(
    connection: Connection, tag_id: int, start_us: int, end_us: int, most: int | None = None
) -> tuple[Whole, Series]:
    """One tag's source times (µs) and values in [`start_us`, `end_us`); NaN where not good.

    Of more than `most` the first ones. However many there are, they become numbers part by part: a
    row of a driver takes ten times as much memory as its two numbers.
    """
    query = (
        "SELECT ts, CASE WHEN quality < 1073741824 THEN value END FROM sample "
        "WHERE tag_id = ? AND ts >= ? AND ts < ? ORDER BY ts LIMIT ?"
    )
    parts: list[NDArray[np.void]] = []
    left, since = math.inf if most is None else most, start_us
    while left > 0:
        count = int(min(left, _PART_READINGS))
        rows = fetch(connection, query, (tag_id, since, end_us, count))
        parts.append(np.fromiter(rows, _TIME_AND_VALUE, len(rows)))  # None becomes NaN
        since = rows[-1][0] + 1 if rows else end_us
        left = left - count if len(rows) == count else 0
    found = np.concatenate(parts) if len(parts) > 1 else parts[0]
    return found["time_us"], found["value"]


def _stretches(late: Sequence[tuple[int, int]]) -> Iterator[Stretch]:
    """Late readings, in order, as stretches of whole minutes."""
    tag_id, first = late[0]
    last = first
    for number, ts in [*late[1:], (-1, 0)]:
        if number == tag_id and ts - last <= _APART_US:
            last = ts
            continue
        yield Stretch(tag_id, floor(first, MINUTE_US), floor(last, MINUTE_US) + MINUTE_US)
        tag_id, first, last = number, ts, ts


def _rows(tag_id: int, buckets: Buckets) -> Iterator[tuple[float | int | None, ...]]:
    for bucket, n, n_good, *numbers in buckets.tolist():
        known = [number if math.isfinite(number) else None for number in numbers]
        yield (tag_id, int(bucket), int(n), int(n_good), *known)
