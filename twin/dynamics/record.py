"""A plant's past cut in time into a part to fit, one to choose by and one to judge by.

Here is decided what is compared with what: windows never reach into a later part, and the part
that judges is never fitted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from twin.dynamics.card import Band
from twin.dynamics.frames import Array, Cuts, Signals, centre_and_spread, columns, cut
from twin.errors import ModelFault
from twin.plant import Plant
from twin.records import Window

FIT_SHARE, VALIDATION_SHARE = 0.70, 0.15  # of the record; the rest judges
JUDGE_STRIDE = 5  # rows between the windows that judge
_SCORED_SHARES = (1 / 12, 1 / 4, 1 / 2, 1.0)  # of the horizon: 5, 15, 30, 60 min of an hour
_LOW_SHARE = 0.05  # below the 90 % band; as much lies above


@dataclass(frozen=True)
class Record:
    """One plant's past on its planning grid; `context_rows` of it are known at every start."""

    plant: Plant
    signals: Signals
    window: Window
    context_rows: int

    def __post_init__(self) -> None:
        plant, rows = self.plant, self.window.rows
        if self.window.step_s != plant.step_s:
            raise ValueError(
                f"rows of {self.window.step_s:g} s; the plan step is {plant.step_s:g} s"
            )
        needed = rows_needed(plant, self.context_rows)
        if rows < needed:
            raise ModelFault(
                f"{plant.plant}: {rows} rows of history; training needs at least {needed} "
                f"({needed * plant.step_s / 3600:.1f} h of {plant.step_s:g} s). Collect longer."
            )

    @property
    def fitted_rows(self) -> int:
        """How many rows, from the first on, may be fitted."""
        return round(FIT_SHARE * self.window.rows)

    @property
    def validated_rows(self) -> int:
        """How many rows, from the first on, are fitted or choose."""
        return round((FIT_SHARE + VALIDATION_SHARE) * self.window.rows)

    def fit(self, stride: int) -> Cuts:
        """Windows of the part that is fitted."""
        return self._cuts("fitted", 0, self.fitted_rows, stride)

    def validation(self, stride: int) -> Cuts:
        """Windows of the part that chooses."""
        return self._cuts("validation", self.fitted_rows, self.validated_rows, stride)

    def held_out(self) -> Cuts:
        """Windows of the part that judges."""
        return self._cuts("held-out", self.validated_rows, self.window.rows, JUDGE_STRIDE)

    def _cuts(self, part: str, first: int, last: int, stride: int) -> Cuts:
        cuts = cut(
            self.signals,
            self.window,
            context_rows=self.context_rows,
            steps=self.plant.horizon_steps,
            first=first,
            last=last,
            stride=stride,
        )
        if not cuts.count:
            raise ModelFault(
                f"{self.plant.plant}: nowhere in the {part} part of the history are "
                f"{', '.join(self.signals.inputs)} all known for {self.plant.horizon_steps} rows "
                "in a row. Check its gaps, or collect longer."
            )
        return cuts

    def knows(self, tags: Sequence[str]) -> bool:
        """Whether every one of these tags has readings in the part that is fitted."""
        seen = columns(self.window.values, tags)[: self.fitted_rows]
        return not np.isnan(seen).all(axis=0).any()

    def spread(self) -> Array:
        """Standard deviation of every CV over the part that is fitted."""
        seen = columns(self.window.values, self.signals.cvs)[: self.fitted_rows]
        return centre_and_spread(seen)[1]

    def support(self) -> dict[str, tuple[float, float]]:
        """Range of every level and input over the part that is fitted."""
        names = tuple(dict.fromkeys((*self.signals.levels, *self.signals.inputs)))
        seen = columns(self.window.values, names)[: self.fitted_rows]
        return {
            name: (rounded(np.nanmin(seen[:, i])), rounded(np.nanmax(seen[:, i])))
            for i, name in enumerate(names)
            if np.isfinite(seen[:, i]).any()
        }

    def moment(self, row: int) -> datetime:
        """When the step that ends at row `row` began; the record's end for its row count."""
        return self.window.end - timedelta(seconds=(self.window.rows - row) * self.window.step_s)

    @property
    def scored_steps(self) -> list[int]:
        """The steps, counted from 0, that the card tells and the score counts."""
        steps = self.plant.horizon_steps
        return sorted({max(1, round(share * steps)) - 1 for share in _SCORED_SHARES})

    def table(self, rmse: Array) -> dict[int, dict[str, float]]:
        """RMSE (step, cv) by horizon in s and CV; a CV without readings is left out."""
        return {
            round((k + 1) * self.plant.step_s): {
                cv: rounded(error)
                for cv, error in zip(self.signals.cvs, rmse[k], strict=True)
                if np.isfinite(error)
            }
            for k in self.scored_steps
        }

    def band(self, errors: Array) -> Band:
        """The 90 % band of errors (step, window, cv); a CV without readings is left out."""
        low: dict[str, tuple[float, ...]] = {}
        high: dict[str, tuple[float, ...]] = {}
        for i, cv in enumerate(self.signals.cvs):
            known = (~np.isnan(errors[..., i])).sum(axis=1).min()
            if known == 0:
                continue
            # Conformal: the next error is one more draw beside the `known` ones.
            tail = max(0.0, (_LOW_SHARE * (known + 1) - 1) / known)
            ends = np.nanquantile(errors[..., i], (tail, 1 - tail), axis=1)
            low[cv], high[cv] = (tuple(rounded(v) for v in end) for end in ends)
        horizons_s = tuple(self.plant.step_s * (k + 1) for k in range(len(errors)))
        return Band(horizons_s, low, high)


def rows_needed(plant: Plant, context_rows: int) -> int:
    """How long a past must be to hold one window to fit, and one to judge by."""
    judged = (plant.horizon_steps + JUDGE_STRIDE) / (1 - FIT_SHARE - VALIDATION_SHARE)
    fitted = (plant.horizon_steps + context_rows) / FIT_SHARE
    return math.ceil(max(judged, fitted))


def root_mean_square(errors: Array) -> Array:
    """Per (step, cv) of errors (step, window, cv); NaN where nothing is known."""
    known = (~np.isnan(errors)).sum(axis=1)
    total = np.nansum(errors**2, axis=1)
    mean: Array = np.divide(total, known, out=np.full(total.shape, np.nan), where=known > 0)
    return np.sqrt(mean)


def rounded(value: float) -> float:
    """Five significant digits: what a card is precise to."""
    return float(f"{value:.5g}")
