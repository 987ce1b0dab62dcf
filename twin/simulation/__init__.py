"""The SimPy twin: the plant's discrete part and its continuous unit in one clock."""

from twin.simulation.blocks import Event
from twin.simulation.engine import Residual, Steering, Trajectory, simulate
from twin.simulation.expectation import chance_active, demand_if_active, expected
from twin.simulation.twin_state import (
    Batch,
    BatchesState,
    MachineState,
    Order,
    TariffState,
    TwinState,
    twin_state,
)

__all__ = [
    "Batch",
    "BatchesState",
    "Event",
    "MachineState",
    "Order",
    "Residual",
    "Steering",
    "TariffState",
    "Trajectory",
    "TwinState",
    "chance_active",
    "demand_if_active",
    "expected",
    "simulate",
    "twin_state",
]
