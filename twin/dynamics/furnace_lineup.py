"""A furnace's line-up: what stays, its equations, those with what is learned online, and trained.

Every member runs free from tracked slabs along what really came. Comparing, promoting and writing
the card are `lineup`'s, the same for every plant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from twin.dynamics.frames import Array, Cuts
from twin.dynamics.furnace_runs import FurnaceRuns, follow, free_loops
from twin.dynamics.models import (
    PERSISTENCE,
    PHYSICS,
    PHYSICS_BIAS,
    PHYSICS_RESIDUAL,
    FurnaceModel,
    Model,
    Persistence,
)
from twin.dynamics.record import Record
from twin.dynamics.zone_fitting import Loops, fit_zones
from twin.furnace.residual import ZoneResidual
from twin.furnace.tracking import Tracker
from twin.plant import Plant
from twin.plant.furnace import Furnace, Mill

_TRACKING_SHARE = 0.45  # of the time that training takes, for each of two trackers


def furnace_tags(plant: Plant) -> tuple[str, ...]:
    """The tags that tracking and free runs of the plant's furnace need."""
    furnace, mill = _blocks(plant)
    return (*Tracker(furnace, mill).tags, *(zone.setpoint for zone in furnace.zones))


class FurnaceLineUp:
    """The line-up of one record, simplest first in `models`, fitted where that is its nature.

    `judged` are the windows whose free runs will be asked for: tracking keeps states there.
    """

    def __init__(
        self,
        record: Record,
        judged: tuple[Cuts, Cuts],
        seed: int,
        progress: Callable[[float], None] | None,
    ) -> None:
        furnace, mill = _blocks(record.plant)
        at_rows = np.concatenate([cuts.starts for cuts in judged]).tolist()

        def part(first: float) -> Callable[[float], None] | None:
            if progress is None:
                return None
            return lambda done: progress(first + _TRACKING_SHARE * done)

        self._furnace, self._record = furnace, record
        self._runs = FurnaceRuns(furnace, record.window, record.signals.cvs)
        past = record.window
        self._plain = follow(furnace, mill, past, at_rows, learns=False, progress=part(0.0))
        self._followed = follow(
            furnace, mill, past, at_rows, learns=True, progress=part(_TRACKING_SHARE)
        )
        self.models: dict[str, Model | FurnaceModel] = {
            PERSISTENCE: Persistence(record.signals),
            PHYSICS: FurnaceModel(PHYSICS),
            PHYSICS_BIAS: FurnaceModel(PHYSICS_BIAS),
        }
        fitted = self._fitted(seed)
        if fitted is not None:
            residual = replace(fitted, error_share=self._error_share(fitted, judged))
            self.models[PHYSICS_RESIDUAL] = FurnaceModel(PHYSICS_RESIDUAL, residual)

    def ahead(self, model: Model | FurnaceModel, cuts: Cuts) -> Array:
        """What a member says, (step, window, cv)."""
        if not isinstance(model, FurnaceModel):
            return model.run(cuts.past, cuts.future)
        followed = self._plain if model.name == PHYSICS else self._followed
        return self._runs.ahead(followed, cuts, model.residual)

    def _fitted(self, seed: int) -> ZoneResidual | None:
        record, seen = self._record, self._followed
        is_free = free_loops(self._furnace, record.window)
        rows = Loops(seen.memory, seen.wanted, seen.followed_c, is_free)
        fit = rows.rows(0, record.fitted_rows)
        return fit_zones(fit, rows.rows(record.fitted_rows, record.validated_rows), seed=seed)

    def _error_share(self, residual: ZoneResidual, judged: tuple[Cuts, Cuts]) -> tuple[float, ...]:
        """RMSE with the residual over that without: each zone's temperature, then each its fuel."""
        missed = [
            self._runs.zone_errors(self._followed, each, learned)
            for learned in (residual, None)
            for each in judged
        ]
        half = len(judged)
        with_it, without = np.concatenate(missed[:half]), np.concatenate(missed[half:])
        squares = np.nanmean(with_it**2, axis=0), np.nanmean(without**2, axis=0)
        shares = np.sqrt(squares[0] / np.maximum(squares[1], 1e-12))
        return tuple(np.clip(np.nan_to_num(shares, nan=1.0), 0.0, 1.0).tolist())


def _blocks(plant: Plant) -> tuple[Furnace, Mill]:
    """The furnace and its mill: a plant file has both or none."""
    furnace, mill = plant.furnace, plant.mill
    assert furnace is not None
    assert mill is not None
    return furnace, mill
