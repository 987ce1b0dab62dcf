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

import numpy as np

from twin.plant import Plant
from twin.plant.physics_file import read_physics_file
from twin.records import Series

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


def floors(plant: Plant, physics: Physics) -> tuple[float, ...]:
    """The lowest value each state can have, in the order of `physics.states`.

    Zero where the engineering range begins at zero (a tank cannot be emptier than empty), else
    −∞: any other engineering limit is one that a plant may well stand beyond.
    """
    limits = {tag.name: tag.engineering for tag in plant.tags if tag.engineering is not None}
    return tuple(
        0.0 if name in limits and limits[name].low == 0 else -math.inf for name in physics.states
    )


@dataclass(frozen=True)
class Stepper:
    """A plant's physics, one plan step at a time, on arrays whose last axis is the state.

    `floors` are the lowest levels there are (see the function of that name).
    """

    physics: Physics
    step_s: float
    floors: tuple[float, ...]

    def after(self, levels: Series, inputs: Series, extra: Series) -> Series:
        """Levels after one step of constant `inputs`, with the rate `extra` (unit/s) added.

        Where an input or a level is not known, or the equations have no finite value, NaN.
        """
        if levels.ndim == 1:
            return self._kept(self._after_one(levels, inputs, extra))
        after = self.physics.advance(
            {name: levels[..., i] for i, name in enumerate(self.physics.states)},
            {name: inputs[..., i] for i, name in enumerate(self.physics.inputs)},
            self.step_s,
            np,
            {name: extra[..., i] for i, name in enumerate(self.physics.states)},
        )
        return self._kept(np.stack([after[name] for name in self.physics.states], axis=-1))

    def _after_one(self, levels: Series, inputs: Series, extra: Series) -> Series:
        """The same for one moment: plain floats are ten times faster than arrays of one."""
        try:
            after = self.physics.advance(
                dict(zip(self.physics.states, levels.tolist(), strict=True)),
                dict(zip(self.physics.inputs, inputs.tolist(), strict=True)),
                self.step_s,
                math,
                dict(zip(self.physics.states, extra.tolist(), strict=True)),
            )
        except (ValueError, OverflowError, ZeroDivisionError):
            return np.full(len(self.physics.states), np.nan)
        return np.array([after[name] for name in self.physics.states])

    def _kept(self, after: Series) -> Series:
        above: Series = np.maximum(np.where(np.isfinite(after), after, np.nan), self.floors)
        return above


def stepper(plant: Plant, physics: Physics) -> Stepper:
    """The plant's physics on its planning grid."""
    return Stepper(physics, plant.step_s, floors(plant, physics))
