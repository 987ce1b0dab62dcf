"""What rollups say already, read: up to when, where not yet, and their sums over a span.

Averages and trends ask here which parts of a span rollups answer and which only readings do.
Making rollups is `rollups`' and `upkeep`'s.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from sqlalchemy import Connection, Table, func, select

from twin.historian import rollups
from twin.historian.database import fetch
from twin.historian.rollups import HOUR_US, Buckets
from twin.historian.schema import EARLIEST, microseconds, rollup_1h, rollup_1m, upkeep

#: From when, and until before when, in µs since 1970.
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a span, in µs since 1970: what rollups say of it, or only readings do."""

    since: int
    until: int
    is_rolled: bool


@dataclass(frozen=True, slots=True)
class Rolled:
    """Up to when a plant's rollups say all that is stored, but for what is `due` yet.

    `due`, by tag number: whole hours, in order and apart. None is older than the readings that are
    kept: there rollups are all there is. Before `raw_from` minutes may be all that is left, before
    `minutes_from` hours.
    """

    until: int
    raw_from: int
    minutes_from: int
    due: Mapping[int, Sequence[Span]]

    def parts(self, tag_id: int, span: Span, width_us: int) -> Iterator[Part]:
        """A span of one tag cut in parts, in order, those that rollups tell in whole buckets.

        The last of them ends with the rollups, if these end within the span.
        """
        since, until = span
        last = self.until if self.until <= until else rollups.floor(until, width_us)
        unaligned = [(since, rollups.ceiling(since, width_us)), (last, until)]
        for begins, ends in _joined([*unaligned, *self.due.get(tag_id, ())], span):
            if since < begins:
                yield Part(since, begins, is_rolled=True)
            yield Part(begins, ends, is_rolled=False)
            since = ends
        if since < until:
            yield Part(since, until, is_rolled=True)


def rolled(connection: Connection, plant: str, ages_s: Mapping[int, float], span: Span) -> Rolled:
    """How far the rollups of a plant's tags are, as far as it concerns a span.

    `ages_s`: by tag number, for how long a value holds: so far a late one changes what follows.
    """
    columns = (upkeep.c.watermark, upkeep.c.raw_from, upkeep.c.minutes_from)
    state = connection.execute(select(*columns).where(upkeep.c.plant == plant)).one_or_none()
    beginning = microseconds(EARLIEST)
    if state is None or state.watermark is None:
        return Rolled(beginning, beginning, beginning, {})
    marks = ", ".join("?" * len(ages_s)) or "NULL"
    query = f"SELECT tag_id, since, until FROM rollup_due WHERE tag_id IN ({marks}) AND since < ?"
    due: dict[int, list[Span]] = {}
    for tag_id, since, until in fetch(connection, query, (*ages_s, span[1])):
        age_us = round(ages_s[tag_id] * 1e6)
        if state.raw_from is not None:
            since = max(since, rollups.ceiling(state.raw_from + age_us, HOUR_US))
        stretch = (rollups.floor(since, HOUR_US), rollups.ceiling(until + age_us, HOUR_US))
        due.setdefault(tag_id, []).append(stretch)
    raw_from = beginning if state.raw_from is None else state.raw_from
    minutes_from = beginning if state.minutes_from is None else state.minutes_from
    told = {number: _joined(each, span) for number, each in due.items()}
    return Rolled(state.watermark, raw_from, minutes_from, told)


def sums(connection: Connection, tag_id: int, span: Span) -> tuple[float, float]:
    """Integral and known seconds of a span of whole minutes, from hours and minutes."""
    first, last = span
    hour, after = rollups.ceiling(first, HOUR_US), rollups.floor(last, HOUR_US)
    spans = [(rollup_1m, first, last)]
    if hour < after:
        spans = [(rollup_1m, first, hour), (rollup_1h, hour, after), (rollup_1m, after, last)]
    area = known_s = 0.0
    for table, begins, ends in spans:
        inside = (table.c.tag_id == tag_id, table.c.bucket >= begins, table.c.bucket < ends)
        summed = select(func.sum(table.c.area), func.sum(table.c.known_s)).where(*inside)
        found = connection.execute(summed).one()
        area, known_s = area + (found[0] or 0.0), known_s + (found[1] or 0.0)
    return area, known_s


def steps(
    connection: Connection, table: Table, tag_ids: Sequence[int], part: Part, grid: tuple[int, int]
) -> dict[int, Buckets]:
    """Each tag's buckets of a part as wider ones, added up by the database.

    These are those of a grid (from when on, how wide; µs).
    """
    origin, width = grid
    marks = ", ".join("?" * len(tag_ids))
    query = (
        "SELECT tag_id, (bucket - ?) / ?, SUM(n), SUM(n_good), COALESCE(SUM(total), ?), "
        "COALESCE(MIN(low), ?), COALESCE(MAX(high), ?), SUM(area), SUM(known_s) "
        f"FROM {table.name} WHERE tag_id IN ({marks}) AND bucket >= ? AND bucket < ? "
        "GROUP BY 1, 2 ORDER BY 1, 2"
    )
    none = (math.inf,) * 3
    rows = fetch(connection, query, (origin, width, *none, *tag_ids, part.since, part.until))
    flat = np.fromiter(chain.from_iterable(rows), dtype=np.float64, count=9 * len(rows))
    found = np.where(np.isfinite(flat), flat, np.nan).reshape(-1, 9)
    answer = {}
    for number in tag_ids:
        first, after = np.searchsorted(found[:, 0], (number, number + 1))
        mine = np.full((after - first, len(rollups.COLUMNS)), np.nan)
        mine[:, rollups.BUCKET] = found[first:after, 1] * width + origin
        mine[:, rollups.N : rollups.HIGH + 1] = found[first:after, 2:7]
        mine[:, rollups.AREA :] = found[first:after, 7:]
        answer[number] = mine
    return answer


def _joined(stretches: Iterable[Span], span: Span) -> list[Span]:
    """Stretches, in any order, as far as they lie in the span; those that touch are one."""
    together: list[Span] = []
    for since, until in sorted(stretches):
        since, until = max(since, span[0]), min(until, span[1])
        if since >= until:
            continue
        if together and since <= together[-1][1]:
            together[-1] = (together[-1][0], max(together[-1][1], until))
        else:
            together.append((since, until))
    return together
