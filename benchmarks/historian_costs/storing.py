"""Storing beside a bare driver, batch by batch in turns: rows per second, and their ratio."""

from __future__ import annotations

import sqlite3
import statistics
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.progress import Progress
from sqlalchemy import URL

from historian_costs.made import SEED, Budget, batch, create, plant_of
from twin.historian import Historian
from twin.plant import Plant
from twin.readings import Readings
from twin.records import Reading

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Tags of the plants into which readings are stored.
TAGS = 1000

_NEWER = (
    "ON CONFLICT (tag_id) DO UPDATE SET ts = excluded.ts, value = excluded.value, "
    "quality = excluded.quality, delay = excluded.delay, marks = excluded.marks "
    "WHERE excluded.ts > last_value.ts"
)

Row = tuple[int, int, float, int, int, int]


def storing_figures(
    folder: Path, url: URL | None, budget: Budget, progress: Progress
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """How fast readings are stored, and one row for each way."""
    into = {"sqlite": partial(sqlite_rates, folder)}
    if url is not None:
        into["postgres"] = partial(postgres_rates, url)
    rows = []
    for database, rates in into.items():
        for seconds, batches, by_records in (
            (1, 5 * budget.batches, False),
            (20, budget.batches // 2, True),
            (20, budget.batches, False),
        ):
            what = "records" if by_records else "columns"
            told = f"{database}, {what}, batches of {seconds} s"
            task = progress.add_task(told, total=batches)
            found = rates(Turns(seconds, batches, partial(progress.advance, task), by_records))
            rows.append(
                {
                    "database": database,
                    "batch_rows": TAGS * seconds,
                    "from": what,
                    "ours_rows_per_s": found.ours,
                    "bare_rows_per_s": found.bare,
                    "ours_over_bare": found.ratio,
                }
            )
    names = {"sqlite": "sqlite_insert_over_bare", "postgres": "postgres_insert_over_bare_copy"}
    return {names[row["database"]]: row["ours_over_bare"] for row in rows}, rows


@dataclass(frozen=True)
class Rates:
    """Rows per second of each side over all turns, and the median of the turns' ratios."""

    ours: float
    bare: float
    ratio: float


@dataclass(frozen=True)
class Turns:
    """So many batches of so many seconds of all tags; `by_records`: ours gets no columns."""

    seconds: int
    batches: int
    tick: Callable[[], object]
    by_records: bool = False


def by_turns(
    plant: Plant,
    turns: Turns,
    ours: Callable[[Sequence[Reading]], object],
    bare: Callable[[list[Row]], object],
) -> Rates:
    """Both sides, batch by batch in turns."""
    ids = {tag.name: i + 1 for i, tag in enumerate(plant.tags)}
    spent_s: list[tuple[float, float]] = []
    for i in range(turns.batches):
        readings = batch(plant, i * turns.seconds, turns.seconds, SEED + i)
        rows = tuples(readings, ids)
        given = readings if turns.by_records else Readings.of(readings)
        sides = {"ours": partial(ours, given), "bare": partial(bare, rows)}
        took_s = {}
        for name in sorted(sides, reverse=bool(i % 2)):
            began_s = perf_counter()
            sides[name]()
            took_s[name] = perf_counter() - began_s
        spent_s.append((took_s["ours"], took_s["bare"]))
        turns.tick()
    count = turns.batches * turns.seconds * len(plant.tags)
    ours_s, bare_s = map(sum, zip(*spent_s, strict=True))
    ratio = statistics.median(theirs / own for own, theirs in spent_s)
    return Rates(count / ours_s, count / bare_s, ratio)


def newest(rows: Sequence[Row]) -> list[Row]:
    """The last row of each tag."""
    return [*{row[0]: row for row in rows}.values()]


def sqlite_rates(folder: Path, turns: Turns) -> Rates:
    """Into SQLite: ours, and sqlite3's executemany."""
    plant = plant_of(TAGS)
    name = f"{turns.seconds}_{turns.by_records}.db"
    with Historian.create(folder / f"bare_{name}") as prepared:
        prepared.register(plant)
    with (
        Historian.create(folder / f"ours_{name}") as historian,
        closing(sqlite3.connect(folder / f"bare_{name}", isolation_level=None)) as connection,
    ):
        historian.register(plant)
        for setting in ("synchronous = FULL", "foreign_keys = ON", "cache_size = -16000"):
            connection.execute(f"PRAGMA {setting}")
        into = "INSERT INTO {} VALUES (?, ?, ?, ?, ?, ?) {}"

        def bare(rows: list[Row]) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(into.format("sample", "ON CONFLICT DO NOTHING"), rows)
            connection.executemany(into.format("last_value", _NEWER), newest(rows))
            connection.execute("COMMIT")

        return by_turns(plant, turns, lambda r: historian.store(r, plant), bare)


def postgres_rates(url: URL, turns: Turns) -> Rates:
    """Into PostgreSQL: ours, and psycopg's COPY."""
    import psycopg

    plant = plant_of(TAGS)
    create(url, "ours", "bare")
    bare_url = url.set(drivername="postgresql+psycopg", database="bare")
    with Historian.create(bare_url) as prepared:
        prepared.register(plant)
        prepared.store(batch(plant, -1, 1, SEED), plant)  # the day's partition is there
    plain = url.set(drivername="postgresql", database="bare")
    arrays = "%s::int4[], %s::int8[], %s::float8[], %s::int8[], %s::int8[], %s::int2[]"
    into_last = f"INSERT INTO last_value SELECT * FROM unnest({arrays}) {_NEWER}"
    with (
        Historian.create(bare_url.set(database="ours")) as historian,
        psycopg.connect(plain.render_as_string(hide_password=False)) as connection,
    ):
        historian.register(plant)
        historian.store(batch(plant, -1, 1, SEED), plant)

        def bare(rows: list[Row]) -> None:
            with connection.transaction(), connection.cursor(binary=True) as cursor:
                with cursor.copy("COPY sample FROM STDIN (FORMAT BINARY)") as copy:
                    copy.set_types(("int4", "int8", "float8", "int8", "int8", "int2"))
                    for row in rows:
                        copy.write_row(row)
                columns = zip(*newest(rows), strict=True)
                cursor.execute(into_last, [list(column) for column in columns])

        return by_turns(plant, turns, lambda r: historian.store(r, plant), bare)


def tuples(readings: Sequence[Reading], ids: dict[str, int]) -> list[Row]:
    """The same as a bare driver wants them: ready, and in the order of the key."""
    us = timedelta(microseconds=1)
    rows = [
        (ids[r.tag], (r.source_time - _EPOCH) // us, float(r.value or 0), r.quality, 500_000, 0)
        for r in readings
    ]
    return sorted(rows)
