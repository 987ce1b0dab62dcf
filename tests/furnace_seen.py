"""A furnace as its readings tell it at one moment, made by hand for tests of pages and reasons."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import numpy as np

from twin.plant import Plant, read_plant
from twin.plant.furnace import Furnace
from twin.records import (
    BAD,
    GOOD,
    Forecast,
    PlantState,
    SlabOutlook,
    TagState,
)

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
FIRST = 101  # the slab that leaves next


def furnace_plant() -> Plant:
    """The shipped plant."""
    return read_plant("furnace")


def block(plant: Plant) -> Furnace:
    """Its furnace."""
    assert plant.furnace is not None
    return plant.furnace


def values(
    plant: Plant, changes: Mapping[str, float | None] | None = None
) -> dict[str, float | None]:
    """A value of every tag: a calm furnace, but for `changes`; None is a reading without one."""
    furnace = block(plant)
    told: dict[str, float | None] = {tag.name: 0.0 for tag in plant.tags}
    for zone, celsius in zip(furnace.zones, (950.0, 1180.0, 1250.0, 1240.0), strict=True):
        told |= {zone.temperature: celsius, zone.setpoint: celsius, zone.fuel: 10.0}
    slab = {"thickness": 220.0, "charge": 20.0, "grade": 0.0, "rate": 195.0}
    for place in range(1, furnace.slots + 1):
        told |= {furnace.slot_tag(place, part): value for part, value in slab.items()}
        told[furnace.slot_tag(place, "slab")] = FIRST + furnace.slots - place
    for place in range(1, furnace.yard_places + 1):
        told |= {furnace.yard_tag(place, part): value for part, value in slab.items()}
        told[furnace.yard_tag(place, "slab")] = FIRST + furnace.slots + place - 1
    told |= {"mill.running": 1.0, "pace.setpoint": 1.0, "discharge.slab": FIRST - 1.0}
    told |= {"furnace.fuel": 40.0, "tracker.surface": 1230.0, "discharge.temperature": 1219.0}
    return {**told, **(changes or {})}


def seen(plant: Plant, changes: Mapping[str, float | None] | None = None) -> PlantState:
    """The same as a judged state at `NOON`, every reading fresh."""
    tags = {}
    for name, value in values(plant, changes).items():
        quality, reason = (BAD, f"{name} has no value.") if value is None else (GOOD, "")
        tags[name] = TagState(value, quality, NOON, 0.0, 0.0, value is not None, reason)
    return PlantState(plant.plant, NOON, tags)


def outlook(number: int, leaves_min: float, **changes: float | str) -> SlabOutlook:
    """A slab that leaves well, but for `changes`."""
    told = {
        "mean_c": 1219.0, "sd_k": 4.0, "difference_k": 12.0, "surface_c": 1240.0,
        "in_spec_chance": 0.99, "cold_chance": 0.0, "low_c": 1212.0, "high_c": 1226.0,
        "now_c": 900.0,
    }  # fmt: skip
    return SlabOutlook(number, NOON + timedelta(minutes=leaves_min), **{**told, **changes})  # type: ignore[arg-type]  # keys are its fields


def forecast(*slabs: SlabOutlook) -> Forecast:
    """A forecast made at `NOON` that names these slabs."""
    none = {"furnace.fuel": np.full(3, 40.0)}
    return Forecast(NOON, 60.0, "physics", 50, 1, none, none, none, 1200.0, slabs=slabs)
