"""What the emulator needs of a plant's `truth.py`, and how it finds one."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from twin.errors import UsageError
from twin.plant import Plant
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
    module_name = f"twin.plants.{plant.plant}.truth"
    package = f"twin.plants.{plant.plant}"
    if importlib.util.find_spec(package) is None or importlib.util.find_spec(module_name) is None:
        raise UsageError(
            f"{plant.plant}: no emulated plant of that name is shipped, so it cannot be emulated. "
            "Connect to the plant's own OPC UA server, or emulate four_tank."
        )
    factory: TruthFactory = importlib.import_module(module_name).Truth
    return factory
