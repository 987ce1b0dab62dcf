"""Where a furnace's study begins: as tracked in the historian, or run in on the simulated line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from optimizer.controller import WARM_UP_H, Model
from optimizer.moves import hard_range
from optimizer.slab_controller import SlabController
from optimizer.slab_moves import moved_mvs
from optimizer.slab_steering import SlabSteering
from optimizer.slab_study_file import Kind, RunIn
from twin.clock import on_grid
from twin.furnace.hold import reasons_to_hold
from twin.furnace.numbers import STEP_S
from twin.furnace.rollout import NODES
from twin.furnace.state import (
    TRACKED_SD_K,
    FurnaceState,
    MillState,
    Slab,
    SlabState,
    Stop,
    ZoneState,
)
from twin.historian import Historian
from twin.plant import Plant
from twin.plant.furnace import Furnace, Mill
from twin.simulation.line import line_of, simulate_line
from twin.simulation.line_steering import seen
from twin.state import plant_state, window_start

#: What comes where nobody says: cold and hot, thin and thick. Assumed, like the shipped furnace's.
_USUAL_MIX = (
    (220.0, 20.0, 200.0),
    (200.0, 450.0, 190.0),
    (250.0, 20.0, 180.0),
    (180.0, 500.0, 215.0),
)
_USUAL_AT = datetime(2026, 1, 5, 6, tzinfo=UTC)
_CAMPAIGN = 10  # slabs, in a furnace that is made up; about the mean of those that come later
_NO_STOPS_H = 8e5  # steady: no stop in a run-in
_SEED = 1  # of a run-in: it is one furnace for every study


@dataclass(frozen=True)
class SlabPresent:
    """A furnace as tracked, where its MVs stand, and how that is known."""

    state: FurnaceState
    setpoints: dict[str, float]
    source: str


@dataclass(frozen=True)
class NoPresent:
    """Why no study begins at the furnace as tracked: `reasons`, each in words."""

    reasons: tuple[str, ...]


def tracked_present(
    plant: Plant,
    historian: Historian,
    now: datetime,
    *,
    model: Model | None = None,
    stops: Sequence[Stop] = (),
) -> SlabPresent | NoPresent:
    """The furnace as its stored readings up to `now` show it, as a live round would know it.

    With the `model` in use (None: physics alone) and the mill's past `stops`, those before the
    readings that are tracked among them.

    Refused, with the reasons, where a live round would hold: a plan that no plant would be given
    is no answer to what it is worth.
    """
    controller = SlabController(plant, model, stops=stops)
    rows = round(WARM_UP_H * 3600.0 / plant.step_s)
    end = on_grid(now, plant.step_s)
    begin = window_start(plant, end, rows)
    tags = controller.followed_tags
    broken = historian.not_to_follow(plant, tags, begin, end)
    controller.observe(historian.samples(plant, tags, begin, end), end, rows, broken)
    state = controller.tracker.state()
    present = plant_state(plant, historian.last_readings(plant, at=now), now)
    stand = {mv: present.last_known(mv) for mv in moved_mvs(plant)}
    known = {mv: value for mv, value in stand.items() if value is not None}
    reasons = reasons_to_hold(controller.furnace, state, controller.tracker.faults) or tuple(
        f"{mv} has not been seen yet" for mv in stand if mv not in known
    )
    if state is None or reasons:
        return NoPresent(reasons)
    source = f"tracked from the plant's readings up to {state.at:%Y-%m-%d %H:%M} UTC"
    return SlabPresent(state, known, source)


def run_in(plant: Plant, start: RunIn | None = None, *, why: tuple[str, ...] = ()) -> SlabPresent:
    """A furnace that has run steadily under the plan, on `start`'s mix or else an assumed one.

    `why` it is not the one as tracked, where that was asked for; `source` tells it.
    """
    furnace, mill = line_of(plant)
    begin = start or RunIn(_USUAL_AT, _usual_mix(furnace))
    calm = _without_stops(plant)
    setpoints = {mv: _middle(plant, mv) for mv in moved_mvs(plant)}
    empty = _filled(furnace, mill, begin, setpoints)
    run = simulate_line(
        calm, empty, {mv: np.array([value]) for mv, value in setpoints.items()},
        seed=_SEED, steps=round(begin.hours * 3600.0 / STEP_S),
        policy=SlabSteering(calm, setpoints),
    )  # fmt: skip
    yard = run.end.yard.waiting[: furnace.yard_places]
    what = "the study's mix" if start is not None else "an assumed mix"
    source = f"a furnace run in for {begin.hours:g} h under the plan on {what}, without stops"
    if why:
        source += f" (not the furnace as tracked: {'; '.join(why)})"
    stand = {mv: float(run.values[mv][-1]) for mv in setpoints}
    return SlabPresent(seen(run.end, yard), stand, source)


def slab(kind: Kind, number: int) -> Slab:
    """One slab of a kind."""
    return Slab(number, kind.thickness / 1000.0, kind.charge, kind.grade, kind.rate)


def _middle(plant: Plant, mv: str) -> float:
    """Where a furnace that is made up begins: half-way for a zone, by the schedule for the pace."""
    if mv == line_of(plant)[1].pace:
        return 1.0
    low, high = hard_range(plant.tag(mv))
    return 0.5 * (low + high)


def _usual_mix(furnace: Furnace) -> tuple[Kind, ...]:
    grades = sorted(furnace.grades)
    return tuple(
        Kind(thickness, charge, grades[i % len(grades)], rate)
        for i, (thickness, charge, rate) in enumerate(_USUAL_MIX)
    )


def _without_stops(plant: Plant) -> Plant:
    blocks = [
        replace(block, mean_between_h=_NO_STOPS_H) if isinstance(block, Mill) else block
        for block in plant.discrete
    ]
    return replace(plant, discrete=tuple(blocks))


def _filled(
    furnace: Furnace, mill: Mill, begin: RunIn, setpoints: dict[str, float]
) -> FurnaceState:
    """Slabs warmed by their places under zones at their setpoints: what is wrong of it fades."""
    count = furnace.slots + furnace.yard_places
    kinds = [begin.mix[i // _CAMPAIGN % len(begin.mix)] for i in range(count)]
    slabs = [slab(kind, 1 + i) for i, kind in enumerate(kinds)]
    usual_c = 0.5 * sum(furnace.spec.mean_c)
    inside = []
    for i, each in enumerate(slabs[: furnace.slots]):
        share = ((furnace.slots - i - 0.5) / furnace.slots) ** 0.8
        at_c = each.charge_c + (usual_c - each.charge_c) * share
        node_c, per_k = (at_c,) * NODES, (0.0,) * (NODES + 1)
        inside.append(SlabState(each, node_c, at_c, 0.0, per_k, TRACKED_SD_K))
    zones = []
    for zone in furnace.zones:
        at_c = setpoints[zone.setpoint]
        zones.append(ZoneState(at_c, at_c, at_c, 0.5e6 * sum(zone.fuel_mw), 0.0))
    at = begin.at.astimezone(UTC)
    due = MillState(None, None, at + timedelta(seconds=STEP_S))
    return FurnaceState(at, tuple(inside), tuple(slabs[furnace.slots :]), tuple(zones), due)
