"""How well the models foresaw one arm: on inputs that really came, and under carried-out plans."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from dashboard.comparison.lockstep import ArmResult
from twin.dynamics.frames import cut, signals_of
from twin.dynamics.lineup import TrainingReport
from twin.dynamics.models import FurnaceModel
from twin.physics import Physics
from twin.plant import Plant
from twin.records import Forecast, Series
from twin.state import window

HORIZONS_S = (300.0, 900.0, 1800.0, 3600.0)
CONTEXT_ROWS = 60
_CUT_STRIDE = 15

#: Horizon -> CV -> errors of free runs, one per start.
RealisedErrors = dict[float, dict[str, Series]]
#: Horizon -> CV -> (error of the middle line, was the reading inside the fan), of one fan.
PlannedErrors = dict[float, dict[str, tuple[float, bool]]]


def realised_errors(
    plant: Plant, physics: Physics, report: TrainingReport, chosen: ArmResult, hours: float
) -> dict[str, RealisedErrors]:
    """Model -> horizon -> CV -> errors of free runs on the inputs that really came."""
    end = datetime.fromtimestamp(float(next(iter(chosen.seen.values())).times_s[-1]), tz=UTC)
    rows = round(hours * 3600 / plant.step_s) + CONTEXT_ROWS
    signals = signals_of(plant, physics)
    followed = {tag: chosen.seen[tag] for tag in (*signals.levels, *signals.inputs)}
    cuts = cut(
        signals,
        window(plant, followed, end, rows),
        context_rows=CONTEXT_ROWS,
        steps=plant.horizon_steps,
        first=CONTEXT_ROWS,
        last=rows,
        stride=_CUT_STRIDE,
    )
    errors: dict[str, RealisedErrors] = {}
    for name, model in report.models.items():
        assert not isinstance(model, FurnaceModel)
        ahead = model.run(cuts.past, cuts.future)
        errors[name] = {
            horizon_s: {
                cv: ahead[k, :, i] - cuts.truth[k, :, signals.cv_columns[i]]
                for i, cv in enumerate(signals.cvs)
            }
            for horizon_s in HORIZONS_S
            for k in [round(horizon_s / plant.step_s) - 1]
        }
    return errors


def planned_errors(
    cvs: Iterable[str], step_s: float, fans: Sequence[tuple[Forecast, Mapping[str, Series]]]
) -> list[PlannedErrors]:
    """Per fan: horizon -> CV -> (error of the middle line, was the reading inside the fan)."""
    names = tuple(cvs)
    found = []
    for fan, seen in fans:
        entry: PlannedErrors = {}
        for horizon_s in HORIZONS_S:
            k = round(horizon_s / step_s) - 1
            entry[horizon_s] = {
                cv: (
                    float(fan.middle[cv][k] - seen[cv][k]),
                    bool(fan.low[cv][k] <= seen[cv][k] <= fan.high[cv][k]),
                )
                for cv in names
                if math.isfinite(seen[cv][k])
            }
        found.append(entry)
    return found
