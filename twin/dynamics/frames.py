"""Windows of the past as arrays: which columns a model sees, and cuts of context and future.

Arrays are ordered (row or step, window, tag), so that many windows move as one batch. Nothing
here fills a missing value with a made-up number: it stays NaN until a model decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin.physics import Physics
from twin.plant import Plant, Role
from twin.records import Series, Window

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Signals:
    """The columns of a plant's models, by tag name.

    `levels` are what moves: the physics' states first, then CVs that are no state. `inputs`
    drive them: the physics' inputs or, without physics, every MV and DV. `cvs` are predicted.
    """

    levels: tuple[str, ...]
    inputs: tuple[str, ...]
    cvs: tuple[str, ...]

    @property
    def cv_columns(self) -> list[int]:
        """Where each CV stands among the levels."""
        return [self.levels.index(cv) for cv in self.cvs]


def signals_of(plant: Plant, physics: Physics | None) -> Signals:
    """Which tags the models of this plant use; of a furnace, the CVs that a rollout tells."""
    cvs = tuple(tag.name for tag in plant.with_role(Role.CV))
    furnace = plant.furnace
    if furnace is not None:
        told = {zone.temperature for zone in furnace.zones} | {furnace.fuel, furnace.pyrometer}
        mvs = tuple(tag.name for tag in plant.with_role(Role.MV))
        return Signals(cvs, mvs, tuple(cv for cv in cvs if cv in told))
    if physics is None:
        movers = (*plant.with_role(Role.MV), *plant.with_role(Role.DV))
        return Signals(cvs, tuple(tag.name for tag in movers), cvs)
    others = tuple(cv for cv in cvs if cv not in physics.states)
    return Signals((*physics.states, *others), tuple(physics.inputs), cvs)


@dataclass(frozen=True)
class Past:
    """What is known at a start, for many windows at once; NaN where nothing good is known.

    Axes: `levels` (row, window, level), `inputs` (row, window, input). The last row is the
    start; the inputs of a row held over the step that ends there.
    """

    levels: Array
    inputs: Array


@dataclass(frozen=True)
class Cuts:
    """Windows of one record: the `past` of each start, the realised `future`, the `truth`.

    Axes: `future` (step, window, input), `truth` (step, window, level) as measured; `starts`
    (window) is the row of the record at which each past ends.
    """

    past: Past
    future: Array
    truth: Array
    starts: NDArray[np.int64]

    @property
    def count(self) -> int:
        """How many windows."""
        return int(self.future.shape[1])

    def where(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> Cuts:
        """Only some of the windows."""
        past = Past(self.past.levels[:, keep], self.past.inputs[:, keep])
        return Cuts(past, self.future[:, keep], self.truth[:, keep], self.starts[keep])


def columns(values: Mapping[str, Series], names: Sequence[str]) -> Array:
    """The named tags side by side, (row, tag); NaN throughout where a tag is not known."""
    rows = len(next(iter(values.values()))) if values else 0
    unknown = np.full(rows, np.nan)
    return np.column_stack([np.asarray(values.get(name, unknown), dtype=float) for name in names])


def held(values: Array) -> Array:
    """The same rows, a missing value replaced by the last known one of its column."""
    order = np.arange(len(values)).reshape(-1, *([1] * (values.ndim - 1)))
    seen = np.maximum.accumulate(np.where(np.isnan(values), 0, order), axis=0)
    return np.take_along_axis(values, seen, axis=0)


def centre_and_spread(values: Array) -> tuple[Array, Array]:
    """Mean and standard deviation over all axes but the last, of what is known.

    A column that is nowhere known has centre 0; one that never moves has spread 1.
    """
    rows = values.reshape(-1, values.shape[-1])
    known = ~np.isnan(rows)
    count = np.maximum(known.sum(axis=0), 1)
    centre = np.where(known, rows, 0.0).sum(axis=0) / count
    square = np.where(known, rows - centre, 0.0) ** 2
    spread = np.sqrt(square.sum(axis=0) / count)
    return centre, np.where(spread > 0, spread, 1.0)


def past_of(signals: Signals, window: Window) -> Past:
    """A window as a batch of one."""
    levels = columns(window.values, signals.levels)[:, None]
    return Past(levels, columns(window.values, signals.inputs)[:, None])


def future_of(signals: Signals, future: Mapping[str, Series]) -> Array:
    """Future inputs as a batch of one, (step, 1, input)."""
    return columns(future, signals.inputs)[:, None]


def cut(
    signals: Signals,
    window: Window,
    *,
    context_rows: int,
    steps: int,
    first: int,
    last: int,
    stride: int,
) -> Cuts:
    """Overlapping windows whose futures lie in rows [first, last) of the record.

    One starts every `stride` rows. Its past may reach back before `first`: at that moment it
    was known. A window whose future inputs are not all known is left out.
    """
    levels = columns(window.values, signals.levels)
    inputs = columns(window.values, signals.inputs)
    starts = np.arange(max(first, context_rows) - 1, last - steps, stride)
    ahead = starts[None, :] + 1 + np.arange(steps)[:, None]
    known = ~np.isnan(inputs[ahead]).any(axis=(0, 2))
    starts, ahead = starts[known], ahead[:, known]
    back = starts[None, :] - np.arange(context_rows)[::-1, None]
    return Cuts(Past(levels[back], inputs[back]), inputs[ahead], levels[ahead], starts)
