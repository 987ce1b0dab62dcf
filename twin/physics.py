"""A plant's equations, loaded from the file its plant file names, and stepped in time.

The equations themselves live beside the plant file (`physics.py`), written once over whatever
numbers the caller brings. This module knows no plant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from twin.plant import Plant
from twin.plant.physics_file import read_physics_file

Equation = Callable[[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any], ModuleType], Any]


@dataclass(frozen=True)
class Physics:
    """Continuous part of a plant: dx/dt = rates(x, inputs), and outputs that follow from both.

    Every function takes `f`, the module that supplies sqrt, exp and the like for the numbers in
    use (math, numpy, torch, pyomo.environ), and returns dictionaries by tag name.
    """

    states: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nominal: Mapping[str, float]
    _actuators: Callable[[Mapping[str, Any], Mapping[str, Any], ModuleType], dict[str, Any]]
    _rates: Equation
    _outputs: Equation
    _planning_outputs: Equation

    def actuate(self, signals: Mapping[str, Any], f: ModuleType = math) -> dict[str, Any]:
        """The physics inputs that follow from MVs and DVs."""
        return self._actuators(signals, self.nominal, f)

    def rates(
        self, x: Mapping[str, Any], inputs: Mapping[str, Any], f: ModuleType = math
    ) -> dict[str, Any]:
        """Rate of every state, in its unit per second."""
        rates: dict[str, Any] = self._rates(x, inputs, self.nominal, f)
        return rates

    def outputs_at(
        self, x: Mapping[str, Any], inputs: Mapping[str, Any], f: ModuleType = math
    ) -> dict[str, Any]:
        """Every output tag that follows from states and inputs."""
        outputs: dict[str, Any] = self._outputs(x, inputs, self.nominal, f)
        return outputs

    def planning_outputs(
        self, x: Mapping[str, Any], inputs: Mapping[str, Any], f: ModuleType = math
    ) -> dict[str, Any]:
        """The outputs as planners see them: the plant's own relaxation, or the outputs."""
        outputs: dict[str, Any] = self._planning_outputs(x, inputs, self.nominal, f)
        return outputs

    def advance(
        self,
        x: Mapping[str, Any],
        inputs: Mapping[str, Any],
        dt_s: float,
        f: ModuleType = math,
        extra: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """States after `dt_s` seconds of constant inputs: one classic Runge–Kutta step.

        `extra` adds a constant rate per state (bias, learned residual), in its unit per second.
        """

        def slope(at: Mapping[str, Any]) -> dict[str, Any]:
            rates = self.rates(at, inputs, f)
            if extra is None:
                return rates
            return {name: rate + extra.get(name, 0.0) for name, rate in rates.items()}

        k1 = slope(x)
        k2 = slope({name: x[name] + 0.5 * dt_s * k1[name] for name in self.states})
        k3 = slope({name: x[name] + 0.5 * dt_s * k2[name] for name in self.states})
        k4 = slope({name: x[name] + dt_s * k3[name] for name in self.states})
        return {
            name: x[name] + dt_s / 6.0 * (k1[name] + 2 * k2[name] + 2 * k3[name] + k4[name])
            for name in self.states
        }


def load_physics(plant: Plant) -> Physics | None:
    """The plant's equations, or None where its file names none.

    Raises PlantFileError if the named file is missing, does not run or lacks a required part.
    """
    if plant.physics is None or plant.path is None:
        return None
    module = read_physics_file(plant.path.parent / plant.physics)
    return Physics(
        states=module.STATES,
        inputs=module.INPUTS,
        outputs=module.OUTPUTS,
        nominal=module.NOMINAL,
        _actuators=module.actuators,
        _rates=module.rates,
        _outputs=module.outputs,
        _planning_outputs=getattr(module, "planning_outputs", module.outputs),
    )
