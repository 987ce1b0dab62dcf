"""What questions cost, how large a file is, and how long others wait while it is kept up."""

from __future__ import annotations

import gc
import multiprocessing
import statistics
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter, process_time

from rich.progress import Progress
from sqlalchemy import URL

from historian_costs.made import NOON, SEED, Budget, batch, plant_of
from historian_costs.storing import TAGS as STORED_TAGS
from twin.historian import Historian, Keep
from twin.historian.database import writing
from twin.historian.rollups import Stretch, mark
from twin.historian.schema import microseconds
from twin.plant import Plant

_TAGS = 50


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
    plant = plant_of(_TAGS)
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


def last_value_figures(folder: Path, url: URL | None, budget: Budget) -> dict[str, float]:
    """How long the last values of a thousand tags take, beside what was stored there."""
    plant = plant_of(STORED_TAGS)
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


def median_ms(asked: int, work: Callable[[], object], clock: Callable[[], float]) -> float:
    """The median time of doing it, after once for warming up."""
    work()
    spent = []
    for _ in range(asked):
        began_s = clock()
        work()
        spent.append(1000 * (clock() - began_s))
    return statistics.median(spent)
