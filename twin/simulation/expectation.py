"""What each disturbance is expected to be, worked out from the distributions without drawing.

The planner reads these lines; the replications of `twin.simulation.engine` are the check on
them. Everything is conditional on the present: a batch that has not begun, one that still runs,
a line that is not on the order list. One value per step, the mean over that step.

Two simplifications, both stated where they are used: a machine that runs is expected to go on
running, and only the first batch after the order list is conditioned on not being listed.
"""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist

import numpy as np

from twin.plant import Batches, Plant, Role, Tariff, Trips
from twin.records import Series
from twin.simulation.draws import FACTOR_LIMITS, normal_cdf
from twin.simulation.twin_state import (
    Batch,
    BatchesState,
    MachineState,
    TariffState,
    TwinState,
    hour_start_s,
)

_FACTOR_NODES = 9  # nodes of a duration's distribution; equal shares of probability
_START_NODES = 24  # nodes of an unknown past start
_MASS_FLOOR = 1e-4  # further batches with less probability than this are left out


def expected(plant: Plant, state: TwinState, steps: int) -> dict[str, Series]:
    """Expected value of every disturbance tag on each of the next `steps` steps.

    Demand: probability that a batch runs times its draw, also for batches that nobody has
    announced yet. Running: 1 for a machine that runs (the plan does not hedge against trips),
    the probability of being repaired for one that is down. Prices as announced, the last one
    going on. Other disturbances stay as they are; one that was never read is NaN.
    """
    middles_s = _middles_s(plant, state, steps)
    unknown = dict.fromkeys((dv.name for dv in plant.with_role(Role.DV)), np.nan)
    lines: dict[str, Series] = {
        tag: np.full(steps, value) for tag, value in {**unknown, **state.held}.items()
    }
    for block in plant.discrete:
        if isinstance(block, Batches):
            known = state.batches[block.name]
            line = _unlisted(block, known, state.at_s, plant.step_s, steps)
            for batch in known.batches:
                line = line + _draw(batch) * _active(block, batch, state.at_s, middles_s)
            lines[block.demand] = line
        elif isinstance(block, Trips):
            lines[block.running] = _repaired(block, state.machines[block.name], state, middles_s)
        elif isinstance(block, Tariff):
            tariff = state.tariffs[block.name]
            edges_s = state.at_s + plant.step_s * np.arange(steps + 1.0)
            hour_s = hour_start_s(plant, state.at_s)
            lines[block.price] = _mean_price(tariff, hour_s, edges_s)
            lines[block.next] = _mean_price(tariff, hour_s, edges_s, hours_ahead=1)
    return lines


def chance_active(plant: Plant, state: TwinState, steps: int) -> dict[str, Series]:
    """Demand tag -> probability, per step, that a listed or running batch is drawing."""
    middles_s = _middles_s(plant, state, steps)
    chances: dict[str, Series] = {}
    for block in plant.discrete:
        if isinstance(block, Batches):
            none = np.ones(steps)
            for batch in state.batches[block.name].batches:
                none = none * (1.0 - _active(block, batch, state.at_s, middles_s))
            chances[block.demand] = 1.0 - none
    return chances


def demand_if_active(
    plant: Plant, state: TwinState, steps: int, probability: float = 0.05
) -> dict[str, Series]:
    """Demand tag -> draw to be ready for: a listed batch's, where it may be running, else 0.

    "May" means with at least `probability` on that step. Batches that nobody has announced are
    not in it: being ready for them at any time is a matter of cost, not of the list.
    """
    middles_s = _middles_s(plant, state, steps)
    lines: dict[str, Series] = {}
    for block in plant.discrete:
        if isinstance(block, Batches):
            line = np.zeros(steps)
            for batch in state.batches[block.name].batches:
                may_run = _active(block, batch, state.at_s, middles_s) >= probability
                line = np.maximum(line, _draw(batch) * may_run)
            lines[block.demand] = line
    return lines


def _mean_price(
    tariff: TariffState, first_s: float, edges_s: Series, hours_ahead: int = 0
) -> Series:
    """Mean price between consecutive `edges_s`; it changes each hour from `first_s` on.

    Both in s since 1970 UTC; `first_s` begins the hour of the tariff's present price.
    """
    hours = tariff.hours()
    count = int((edges_s[-1] - first_s) // 3600.0) + 1 + hours_ahead
    prices = np.array([hours[min(i, len(hours) - 1)] for i in range(hours_ahead, count)])
    knots_s = first_s + 3600.0 * np.arange(len(prices) + 1)
    paid = np.concatenate(([0.0], np.cumsum(3600.0 * prices)))
    mean: Series = np.diff(np.interp(edges_s, knots_s, paid)) / np.diff(edges_s)
    return mean


def _middles_s(plant: Plant, state: TwinState, steps: int) -> Series:
    return np.asarray(state.at_s + plant.step_s * (np.arange(steps) + 0.5), dtype=np.float64)


def _draw(batch: Batch) -> float:
    return batch.order.draw if batch.draw is None else batch.draw


@lru_cache(maxsize=32)
def _factors(sd: float) -> Series:
    """Equally likely values of real over announced size."""
    if sd == 0:
        return np.ones(1)
    shares = (np.arange(_FACTOR_NODES) + 0.5) / _FACTOR_NODES
    nodes = 1.0 + sd * np.array([NormalDist().inv_cdf(share) for share in shares])
    return np.clip(nodes, *FACTOR_LIMITS)


def _begun(block: Batches, error_s: Series) -> Series:
    """Probability that real minus announced start is at most `error_s`."""
    sd_s, limit_s = 60.0 * block.start_error_sd_min, 60.0 * block.start_error_limit_min
    if sd_s == 0:
        return (error_s >= 0).astype(np.float64)
    inside = normal_cdf(error_s / sd_s)
    return np.where(error_s >= limit_s, 1.0, np.where(error_s < -limit_s, 0.0, inside))


def _active(block: Batches, batch: Batch, at_s: float, times_s: Series) -> Series:
    """Probability that a known batch is drawing at each of `times_s`."""
    if batch.ends_s is not None and batch.starts_s is not None:  # a run has drawn it
        is_on = (times_s >= batch.starts_s) & (times_s < batch.ends_s)
        return is_on.astype(np.float64)
    if batch.is_running:
        return _still_running(block, batch, at_s, times_s)
    durations_s = 60.0 * batch.order.duration_min * _factors(block.duration_error_sd)
    errors_s = times_s - batch.order.start_s
    past = float(_begun(block, np.array([at_s - batch.order.start_s]))[0])
    if past >= 1.0 - 1e-12:  # overdue: it begins now
        return np.asarray((times_s[:, None] < at_s + durations_s).mean(axis=1))
    lags_s = np.concatenate(([0.0], durations_s))
    begun = _begun(block, errors_s[:, None] - lags_s)
    begun = np.maximum(begun - past, 0.0) / (1.0 - past)
    return np.asarray(begun[:, 0] - begun[:, 1:].mean(axis=1))


def _still_running(block: Batches, batch: Batch, at_s: float, times_s: Series) -> Series:
    """Probability that a running batch has not ended; its start may be unknown."""
    if batch.starts_s is not None:
        starts_s, weights = np.array([batch.starts_s]), np.ones(1)
    else:
        starts_s, weights = _past_starts(block, batch, at_s)
    length_s = 60.0 * batch.order.duration_min
    times = np.concatenate(([at_s], times_s))
    lasts = 1.0 - _size_cdf((times[:, None] - starts_s) / length_s, block.duration_error_sd)
    survival = lasts @ weights
    if survival[0] < 1e-9:  # longer than the plant file allows: it ends any moment
        return np.zeros(len(times_s))
    return np.asarray(survival[1:] / survival[0])


def _past_starts(block: Batches, batch: Batch, at_s: float) -> tuple[Series, Series]:
    """Possible starts up to now and their probabilities, before it is known that it still runs."""
    limit_s = 60.0 * block.start_error_limit_min
    latest_s = min(at_s - batch.order.start_s, limit_s)
    if latest_s <= -limit_s:
        return np.array([at_s]), np.ones(1)
    edges_s = np.linspace(-limit_s, latest_s, _START_NODES + 1)
    begun = _begun(block, edges_s)
    begun[0] = 0.0
    mass = np.diff(begun)
    if mass.sum() < 1e-12:
        return np.array([min(at_s, batch.order.start_s)]), np.ones(1)
    return batch.order.start_s + 0.5 * (edges_s[1:] + edges_s[:-1]), mass / mass.sum()


def _size_cdf(ratio: Series, sd: float) -> Series:
    """Probability that real over announced size is at most `ratio`."""
    if sd == 0:
        return (ratio >= 1.0).astype(np.float64)
    inside = normal_cdf((ratio - 1.0) / sd)
    low, high = FACTOR_LIMITS
    return np.where(ratio >= high, 1.0, np.where(ratio < low, 0.0, inside))


def _unlisted(
    block: Batches, known: BatchesState, at_s: float, step_s: float, steps: int
) -> Series:
    """Expected demand of batches that are not on the list yet."""
    if known.is_future_drawn:
        return np.zeros(steps)
    lead = int(np.ceil(60.0 * block.start_error_limit_min / step_s))
    cells = max(steps, int(np.ceil(60.0 * block.notice_min[1] / step_s))) + lead
    edges_s = step_s * np.arange(cells + 1)  # from now on
    free_s = 0.0  # when the next batch may be announced for, from now on
    if known.batches:
        free_s = max(0.0, known.batches[-1].order.end_s + 60.0 * block.gap_min[0] - at_s)
    waits_s = np.maximum(edges_s - free_s, 0.0)
    mass = -np.diff(np.exp(-waits_s / (60.0 * block.gap_min[1])))
    if not known.may_hide_more:
        soonest_s, latest_s = 60.0 * block.notice_min[0], 60.0 * block.notice_min[1]
        middles_s = edges_s[:-1] + 0.5 * step_s
        span_s = max(latest_s - soonest_s, step_s)
        mass = mass * np.clip((middles_s - soonest_s) / span_s, 0.0, 1.0)
        beyond = float(np.exp(-waits_s[-1] / (60.0 * block.gap_min[1])))
        mass = mass / max(float(mass.sum()) + beyond, 1e-12)
    again, active = _renewal(block, step_s, cells), _usual_demand(block, step_s, cells)
    starts, latest = mass, mass
    while float(latest[: steps + lead].sum()) > _MASS_FLOOR:
        latest = np.convolve(latest, again)[:cells]
        starts = starts + latest
    # `active` is counted from the earliest real start, `lead` cells before the announced one.
    return np.asarray(np.convolve(starts, active)[lead : lead + steps])


@lru_cache(maxsize=32)
def _renewal(block: Batches, step_s: float, cells: int) -> Series:
    """Probability per step that the batch after next is announced that long after the next."""
    edges_s = step_s * np.arange(cells + 1)
    lengths_s = 60.0 * np.linspace(*block.duration_min, 33)
    waits_s = np.maximum(edges_s[:, None] - lengths_s - 60.0 * block.gap_min[0], 0.0)
    mass: Series = -np.diff(np.exp(-waits_s / (60.0 * block.gap_min[1])).mean(axis=1))
    return mass


@lru_cache(maxsize=32)
def _usual_demand(block: Batches, step_s: float, cells: int) -> Series:
    """Mean draw of a batch of the usual kind, per step from its earliest possible start on."""
    lead_s = step_s * np.ceil(60.0 * block.start_error_limit_min / step_s)
    errors_s = step_s * np.arange(cells) - lead_s
    lengths_s = 60.0 * np.linspace(*block.duration_min, 33)
    lags_s = (lengths_s[:, None] * _factors(block.duration_error_sd)).ravel()
    ended = _begun(block, errors_s[:, None] - lags_s).mean(axis=1)
    return np.asarray(0.5 * sum(block.draw) * (_begun(block, errors_s) - ended))


def _repaired(block: Trips, machine: MachineState, state: TwinState, times_s: Series) -> Series:
    """Probability that a machine runs; one that runs now is taken to go on running."""
    if machine.is_running:
        return np.ones(len(times_s))
    if machine.changes_s is not None:
        return (times_s >= machine.changes_s).astype(np.float64)
    low_s, high_s = 60.0 * block.repair_min[0], 60.0 * block.repair_min[1]
    age_s = 0.0 if machine.since_s is None else state.at_s - machine.since_s
    age_s = age_s if age_s < high_s else 0.0
    known_s = max(low_s, age_s)
    lasted_s = times_s - state.at_s + age_s
    return np.clip((lasted_s - known_s) / max(high_s - known_s, 1e-9), 0.0, 1.0)
