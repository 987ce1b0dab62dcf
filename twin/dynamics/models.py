"""The line-up behind one protocol: what each model says of the future under known inputs.

Every prediction here is a free run: it starts from the past and sees future inputs, never a
future reading. The linear model has its own module (`arx`); training is in `fitting`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from twin.dynamics.following import Followed, follow
from twin.dynamics.frames import Array, Past, Signals, future_of, held, past_of
from twin.dynamics.residual import Residual
from twin.furnace.residual import ZoneResidual
from twin.physics import Stepper
from twin.records import Series, Window

PERSISTENCE = "persistence"
ARX = "arx"
PHYSICS = "physics"
PHYSICS_BIAS = "physics+bias"
PHYSICS_RESIDUAL = "physics+residual"


class Model(Protocol):
    """One member of the line-up."""

    @property
    def name(self) -> str:
        """What the score card calls it."""
        ...

    def predict(self, context: Window, future: Mapping[str, Series]) -> dict[str, Series]:
        """Every CV after each step, in its tag's unit, for the inputs that `future` gives.

        `future[input][k]` holds during step k after `context.end`; the answer's element k is
        the value at the end of that step. NaN where the context does not tell enough.
        """
        ...

    def run(self, past: Past, future: Array) -> Array:
        """The same for many windows: inputs (step, window, input) to CVs (step, window, cv)."""
        ...


def predict_one(
    model: Model, signals: Signals, context: Window, future: Mapping[str, Series]
) -> dict[str, Series]:
    """`Model.predict` in terms of `Model.run`."""
    ahead = model.run(past_of(signals, context), future_of(signals, future))
    return {cv: ahead[:, 0, i] for i, cv in enumerate(signals.cvs)}


@dataclass(frozen=True)
class FurnaceModel:
    """A member of a furnace's line-up: by its name what is learned online, beside what was trained.

    It starts from tracked slabs, not from rows of levels: who runs it is `furnace_runs`.
    """

    name: str
    residual: ZoneResidual | None = None


@dataclass(frozen=True)
class Persistence:
    """Every CV stays where it was last seen."""

    signals: Signals
    name: str = PERSISTENCE

    def predict(self, context: Window, future: Mapping[str, Series]) -> dict[str, Series]:
        """See `Model.predict`."""
        return predict_one(self, self.signals, context, future)

    def run(self, past: Past, future: Array) -> Array:
        """See `Model.run`."""
        last = held(past.levels)[-1][:, self.signals.cv_columns]
        return np.broadcast_to(last, (len(future), *last.shape)).copy()


@dataclass(frozen=True)
class PhysicsModel:
    """The plant's equations in free run, as far as asked with what they were seen to miss.

    `learns_bias`: the rate missed over the context is added all along. `residual`: so is what
    the learned model says; the bias then is what that leaves.
    """

    signals: Signals
    step: Stepper
    learns_bias: bool = False
    residual: Residual | None = None

    @property
    def name(self) -> str:
        """See `Model.name`."""
        if self.residual is not None:
            return PHYSICS_RESIDUAL
        return PHYSICS_BIAS if self.learns_bias else PHYSICS

    def predict(self, context: Window, future: Mapping[str, Series]) -> dict[str, Series]:
        """See `Model.predict`."""
        return predict_one(self, self.signals, context, future)

    def run(self, past: Past, future: Array) -> Array:
        """See `Model.run`."""
        followed, hidden = self.start(past)
        levels, bias = followed.levels[-1], followed.bias[-1]
        path = np.empty((len(future), *levels.shape))
        for k, inputs in enumerate(future):
            extra = bias
            if self.residual is not None and hidden is not None:
                rates, hidden = self.residual.rate(hidden, levels, inputs)
                extra = bias + rates
            levels = path[k] = self.step.after(levels, inputs, extra)
        return self._cvs(path, future)

    def start(self, past: Past) -> tuple[Followed, Array | None]:
        """The past as this model follows it, and the residual's memory at its end."""
        plain = follow(self.step, past, learns_bias=self.learns_bias or self.residual is not None)
        if self.residual is None:
            return plain, None
        learned = self.residual.rates_while(plain)
        beside = follow(self.step, past, learns_bias=self.learns_bias, learned=learned)
        return beside, self.residual.memory(plain)

    def _cvs(self, path: Array, future: Array) -> Array:
        """The CVs that follow from states (step, window, state) and inputs."""
        physics = self.step.physics
        x = {name: path[..., i] for i, name in enumerate(physics.states)}
        inputs = {name: future[..., i] for i, name in enumerate(physics.inputs)}
        known = x if set(self.signals.cvs) <= set(x) else {**physics.outputs_at(x, inputs, np), **x}
        return np.stack([known[cv] for cv in self.signals.cvs], axis=-1)
