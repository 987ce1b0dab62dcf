"""What the stored past tells before planning and training begin: is it here, how stops lasted."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import numpy as np

from connectors.ingest import FIRST_START
from twin.dynamics.past import past_to_learn
from twin.furnace.state import Stop
from twin.furnace.stops import StopRecord
from twin.historian import Gap, Historian
from twin.plant import Plant

#: Looked back for stops. Chosen: as many as are kept, at five a day (`StopRecord`); read once when
#: planning begins, some 50 ms a day.
_STOPS_DAYS = 40
_DAY = timedelta(days=1)
_MINUTE_S = 60.0


def is_first_history_awaited(gaps: Iterable[Gap]) -> bool:
    """Whether the readings from before the first connection are still arriving."""
    return any(gap.reason == FIRST_START and not gap.is_filled for gap in gaps)


def recorded_stops(historian: Historian, plant: Plant, until: datetime) -> tuple[Stop, ...]:
    """The mill's past stops up to `until`, in the order in which they began; () without a mill."""
    mill = plant.mill
    record, rows = StopRecord(), round(_DAY.total_seconds() / _MINUTE_S)
    if mill is None:
        return ()
    tags = (mill.running, mill.stopped_at, mill.expected_restart)
    for day in reversed(range(_STOPS_DAYS)):
        end = until - day * _DAY
        past = past_to_learn(plant, historian, tags, end, rows, _MINUTE_S)
        if np.isfinite(past.values[mill.running]).any():
            record.follow(mill, past)
        else:
            record.lose_sight()
    return record.past
