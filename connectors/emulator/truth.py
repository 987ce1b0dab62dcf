"""What the emulator needs of a plant's `truth.py`, and how it finds one."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from twin.errors import UsageError
from twin.plant import Plant, shipped_plants
from twin.records import Reading, Samples


class Truth(Protocol):
    """What the emulator needs of a plant's `truth.py`."""

    @property
    def now(self) -> datetime:
        """The plant time reached so far."""

    def advance(self, to: datetime) -> list[Reading]:
        """Let the plant run until `to`; every reading on the way, in time order."""

    def advance_samples(self, to: datetime) -> Mapping[str, Samples]:
        """The same as `advance`, one array per tag; NaN where the quality is Bad."""

    def write(self, name: str, value: float) -> str | None:
        """Write a node as a client would; None when done, else why the PLC refuses."""


class TruthFactory(Protocol):
    """Makes a truth that begins at `start`."""

    def __call__(self, plant: Plant, *, seed: int, start: datetime) -> Truth: ...


def load_truth(plant: Plant) -> TruthFactory:
    """The truth class of a shipped plant; raises UsageError where it ships none."""
    if not _has_truth(plant.plant):
        shipped = " or ".join(filter(_has_truth, shipped_plants()))
        raise UsageError(
            f"{plant.plant}: no emulated plant of that name is shipped, so it cannot be emulated. "
            f"Connect to the plant's own OPC UA server, or emulate {shipped}."
        )
    factory: TruthFactory = importlib.import_module(f"{_package(plant.plant)}.truth").Truth
    return factory


def _has_truth(name: str) -> bool:
    package = _package(name)
    is_shipped = importlib.util.find_spec(package) is not None
    return is_shipped and importlib.util.find_spec(f"{package}.truth") is not None


def _package(name: str) -> str:
    return f"twin.plants.{name}"
