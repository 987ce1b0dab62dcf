"""Where a study begins: the plant's present from the historian, or one made up in the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from optimizer.study_file import Start
from twin.clock import on_grid
from twin.estimator import Estimator
from twin.historian import Historian
from twin.physics import Physics
from twin.plant import Batches, Plant, Role, Tariff, Trips
from twin.records import Samples
from twin.resampling import Breaks, inside
from twin.simulation import (
    Batch,
    BatchesState,
    MachineState,
    Order,
    TariffState,
    TwinState,
    twin_state,
)
from twin.state import plant_state, window, window_start

_FOLLOWED_H = 3.0  # readings that the estimator follows up to the present; bias settles in one
_DAY_H = 24
_HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Present:
    """Where a study begins: the plant's state, and the setpoints that stand."""

    state: TwinState
    setpoints: Mapping[str, float]


def nominal_present(plant: Plant, start: Start) -> Present:
    """The present that a study file makes up: machines run, no batch runs, no bias is known."""
    at = start.at.astimezone(UTC)
    batches, machines, tariffs = {}, {}, {}
    for block in plant.discrete:
        if isinstance(block, Batches):
            orders = [
                Order(at.timestamp() + 60.0 * order.in_min, order.draw, order.duration_min)
                for order in start.orders.get(block.demand, ())
            ]
            orders.sort(key=lambda order: order.start_s)
            listed = tuple(Batch(item, order) for item, order in enumerate(orders))
            is_full = len(listed) >= len(block.slots)
            batches[block.name] = BatchesState(listed, len(listed), is_full)
        elif isinstance(block, Trips):
            machines[block.name] = MachineState()
        elif isinstance(block, Tariff):
            prices = start.prices[block.price]
            following = prices[1] if len(prices) > 1 else None
            tariffs[block.name] = TariffState(prices[0], following, tuple(prices[2:]))
    state = TwinState(
        at=at,
        states=dict(start.levels),
        batches=batches,
        machines=machines,
        tariffs=tariffs,
        held=dict(start.held),
    )
    return Present(state, dict(start.setpoints))


def present_of(
    plant: Plant, physics: Physics, historian: Historian, now: datetime
) -> Present | None:
    """The plant's present, followed from its stored readings; None while a state is unknown.

    Prices beyond the next hour are taken from the same hours of the day before.
    """
    rows = round(_FOLLOWED_H * 3600.0 / plant.step_s)
    end = on_grid(now, plant.step_s)
    disturbances = [tag.name for tag in plant.with_role(Role.DV)]
    tags = list(dict.fromkeys((*physics.states, *physics.inputs, *disturbances)))
    begin = window_start(plant, end, rows)
    samples = historian.samples(plant, tags, begin, end)
    broken = historian.not_to_follow(plant, tags, begin, end)
    past = window(plant, samples, end, rows, broken=broken)
    estimate = Estimator(plant, physics).replay(past)
    if estimate is None:
        return None
    present = plant_state(plant, historian.last_readings(plant, at=now), now)
    state = twin_state(
        plant, present, estimate, window=past, later_prices=_later_prices(plant, historian, now)
    )
    standing = {mv.name: present.last_known(mv.name) for mv in plant.with_role(Role.MV)}
    return Present(state, {mv: value for mv, value in standing.items() if value is not None})


def _later_prices(
    plant: Plant, historian: Historian, now: datetime
) -> dict[str, tuple[float, ...]]:
    """Price tag -> prices from the hour after next on, as they were a day before.

    Up to the first hour of which none is known; what is bad data is not.
    """
    prices = [block.price for block in plant.discrete if isinstance(block, Tariff)]
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    begin = this_hour - _DAY_H * _HOUR
    past = historian.samples(plant, prices, begin, now) if prices else {}
    broken = historian.not_to_follow(plant, prices, begin, now)
    return {price: _by_hour(past[price], broken[price], this_hour) for price in past}


def _by_hour(past: Samples, broken: Breaks, this_hour: datetime) -> tuple[float, ...]:
    is_known = np.isfinite(past.values) & ~inside(past.times_s, broken)
    known: list[float] = []
    for ahead in range(2, _DAY_H):
        begin_s = (this_hour + (ahead - _DAY_H) * _HOUR).timestamp()
        is_then = (past.times_s >= begin_s) & (past.times_s < begin_s + _HOUR.total_seconds())
        values = past.values[is_then & is_known]
        if not len(values):
            break
        known.append(float(values[-1]))
    return tuple(known)
