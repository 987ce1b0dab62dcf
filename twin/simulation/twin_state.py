"""The twin's present as plain data: what a simulation starts from, stops at and forks from.

A live start, a snapshot in the middle of a run and a fork are the same thing here: a TwinState.
Processes are built from it (`twin.simulation.blocks`), never stored. Nothing in this module
draws a random number or knows a particular plant.

What has been observed and what a run has drawn live side by side: `Batch.starts_s` is None where
nobody can know it yet, and a number in the snapshot of a run that has drawn it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter

from twin.plant import Batches, Plant, Role, Tariff, Trips
from twin.records import Estimate, PlantState, Window
from twin.simulation.draws import FACTOR_LIMITS

# A demand reading above this share of the smallest announced draw means that a batch runs.
# Chosen: far above a zero's noise, far below the smallest real draw (FACTOR_LIMITS × smallest).
_RUNNING_SHARE = 0.1
_MACHINE_IS_UP = 0.5  # a running tag is 1 or 0; the middle parts them
_SHARE_EDGE = 0.02  # of a step: closer to none or all of it than this is none or all
_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Order:
    """A batch as announced: start (s since 1970 UTC), draw (demand's unit), duration (min)."""

    start_s: float
    draw: float
    duration_min: float

    @property
    def end_s(self) -> float:
        """The announced end, s since 1970 UTC."""
        return self.start_s + 60.0 * self.duration_min


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch of a block: its announcement, and how it really goes as far as that is fixed.

    `item` names its random stream within the block. `starts_s`, `ends_s` (s since 1970 UTC) and
    `draw` are None while open: observed or drawn, they are numbers.
    """

    item: int
    order: Order
    is_running: bool = False
    starts_s: float | None = None
    ends_s: float | None = None
    draw: float | None = None


@dataclass(frozen=True, slots=True)
class BatchesState:
    """All known batches in announced order, and the number of the next unknown one's stream.

    `may_hide_more`: the order list has no empty line, so its silence on further batches means
    nothing. `is_future_drawn`: a run has already drawn the batch that follows the list.
    """

    batches: tuple[Batch, ...] = ()
    next_item: int = 0
    may_hide_more: bool = False
    is_future_drawn: bool = False


@dataclass(frozen=True, slots=True)
class MachineState:
    """A machine that runs or is under repair, since when (None: unknown), and what is drawn.

    `changes_s`: the drawn moment of the next trip or the end of the repair; None while open.
    """

    is_running: bool = True
    since_s: float | None = None
    changes_s: float | None = None
    next_item: int = 0


@dataclass(frozen=True, slots=True)
class TariffState:
    """Prices of this hour, the next one and those after it; None where no number is known.

    Hours beyond the last known price keep it.
    """

    now: float | None
    next: float | None
    later: tuple[float, ...] = ()

    def hours(self) -> tuple[float, ...]:
        """Price per hour from this one on; the last entry stays. NaN where nothing is known."""
        now = self.now if self.now is not None else self.next
        known = (now, self.next if self.next is not None else now, *self.later)
        return tuple(math.nan if price is None else price for price in known)


@dataclass(frozen=True)
class TwinState:
    """The plant at the moment `at`, as far as a simulation needs it. Blocks go by their name.

    `states` and `bias` as in Estimate; `held` are disturbances no block describes, kept as they
    are; `hidden` is the learned residual's memory; `assumed` names the tags whose reading was
    missing or too old, so that their last known or usual value had to stand in.
    """

    at: datetime
    states: Mapping[str, float]
    bias: Mapping[str, float] = field(default_factory=dict)
    batches: Mapping[str, BatchesState] = field(default_factory=dict)
    machines: Mapping[str, MachineState] = field(default_factory=dict)
    tariffs: Mapping[str, TariffState] = field(default_factory=dict)
    held: Mapping[str, float] = field(default_factory=dict)
    hidden: tuple[float, ...] = ()
    assumed: tuple[str, ...] = ()

    @property
    def at_s(self) -> float:
        """`at` in seconds since 1970 UTC: the simulation's clock."""
        return self.at.timestamp()

    def to_json(self) -> str:
        """The state as JSON; `from_json` gives back an equal one."""
        return _ADAPTER.dump_json(self).decode()

    @staticmethod
    def from_json(text: str) -> TwinState:
        """Read what `to_json` wrote; pydantic's ValidationError for anything else."""
        return _ADAPTER.validate_json(text)


_ADAPTER: TypeAdapter[TwinState] = TypeAdapter(TwinState)


def twin_state(
    plant: Plant,
    plant_state: PlantState,
    estimate: Estimate,
    *,
    window: Window | None = None,
    hidden: tuple[float, ...] = (),
    later_prices: Mapping[str, tuple[float, ...]] | None = None,
) -> TwinState:
    """The twin's present from readings and the estimated continuous state.

    `window`, where given, tells since when a batch runs or a machine is down; without it both
    stay unknown and are drawn from what is possible. `later_prices`: price tag -> prices of the
    hours after the next one.
    """
    view = _View(plant_state)
    at_s = plant_state.at.timestamp()
    batches: dict[str, BatchesState] = {}
    machines: dict[str, MachineState] = {}
    tariffs: dict[str, TariffState] = {}
    covered: set[str] = set()
    for block in plant.discrete:
        if isinstance(block, Batches):
            batches[block.name] = _batches_state(block, view, at_s, window)
            covered.add(block.demand)
        elif isinstance(block, Trips):
            machines[block.name] = _machine_state(block, view, window)
            covered.add(block.running)
        elif isinstance(block, Tariff):
            later = (later_prices or {}).get(block.price, ())
            tariffs[block.name] = TariffState(view.get(block.price), view.get(block.next), later)
            covered.update((block.price, block.next))
    others = {t.name: view.get(t.name) for t in plant.with_role(Role.DV) if t.name not in covered}
    return TwinState(
        at=plant_state.at,
        states=dict(estimate.states),
        bias=dict(estimate.bias),
        batches=batches,
        machines=machines,
        tariffs=tariffs,
        held={name: value for name, value in others.items() if value is not None},
        hidden=hidden,
        assumed=tuple(view.assumed),
    )


def hour_start_s(plant: Plant, at_s: float) -> float:
    """When the full hour on the plant's own clocks began, s since 1970 UTC.

    Not everywhere the full hour of UTC: India's clocks are half an hour off it.
    """
    offset = datetime.fromtimestamp(at_s, ZoneInfo(plant.time_zone)).utcoffset()
    offset_s = 0.0 if offset is None else offset.total_seconds()
    return _HOUR_S * math.floor((at_s + offset_s) / _HOUR_S) - offset_s


class _View:
    """Usable values first, last known ones where there are none; remembers which."""

    def __init__(self, plant_state: PlantState) -> None:
        self._state = plant_state
        self.assumed: list[str] = []

    def get(self, tag: str) -> float | None:
        value = self._state.value(tag)
        if value is not None:
            return value
        self.assumed.append(tag)
        return self._state.last_known(tag)


def _batches_state(block: Batches, view: _View, at_s: float, window: Window | None) -> BatchesState:
    limit_s = 60.0 * block.start_error_limit_min
    orders: list[Order] = []
    for slot in block.slots:
        parts = (view.get(slot.start), view.get(slot.draw), view.get(slot.duration))
        start, draw, duration = parts
        if start is None or draw is None or duration is None or draw <= 0 or duration <= 0:
            continue
        orders.append(Order(start, draw, duration))
    is_full = len(orders) == len(block.slots)
    demand = view.get(block.demand) or 0.0
    is_active = demand > _RUNNING_SHARE * block.draw[0]
    # A line that outlived its latest possible end, with nothing running, is a forgotten one.
    orders = sorted(
        (o for o in orders if is_active or _latest_end_s(block, o) > at_s),
        key=lambda order: order.start_s,
    )
    batches: list[Batch] = []
    if is_active:
        began_s = _since(window, block.demand, lambda value: value / demand)
        if orders and orders[0].start_s - limit_s <= at_s:
            order = orders.pop(0)
        else:  # nothing on the list explains it: a batch of usual length
            order = Order(began_s or at_s, demand, 0.5 * sum(block.duration_min))
        batches.append(Batch(0, order, is_running=True, starts_s=began_s, draw=demand))
    batches += [Batch(i, order) for i, order in enumerate(orders, start=len(batches))]
    return BatchesState(tuple(batches), next_item=len(batches), may_hide_more=is_full)


def _machine_state(block: Trips, view: _View, window: Window | None) -> MachineState:
    running = view.get(block.running)
    if running is None or running > _MACHINE_IS_UP:
        return MachineState(is_running=True)
    return MachineState(is_running=False, since_s=_since(window, block.running, lambda v: 1.0 - v))


def _latest_end_s(block: Batches, order: Order) -> float:
    longest_s = 60.0 * FACTOR_LIMITS[1] * order.duration_min
    return order.start_s + 60.0 * block.start_error_limit_min + longest_s


def _since(window: Window | None, tag: str, active: Callable[[float], float]) -> float | None:
    """Since when (s since 1970 UTC) a condition has held without a break, None if untold.

    `active` gives the share of a row's step during which a value says that it held.
    """
    if window is None or tag not in window.values:
        return None
    end_s = window.end.timestamp()
    since_s = end_s
    for age, value in enumerate(reversed(window.values[tag])):
        if not math.isfinite(value):
            return None
        share = active(float(value))
        if share < _SHARE_EDGE:
            return since_s
        since_s = end_s - (age + min(share, 1.0)) * window.step_s
        if share < 1.0 - _SHARE_EDGE:
            return since_s
    return None  # longer than the window reaches back
