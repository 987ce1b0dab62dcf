"""One run of a furnace's study: a scenario, who steers, a replication; and the figures of it.

Equal replications of all scenarios meet the same slabs, stops and errors of crew and tracker.
Fuel is corrected for heat stored more at the end than at the beginning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from optimizer.slab_steering import SlabSteering
from optimizer.slab_study_file import Coming, SlabScenario, SlabStudy, Steering
from optimizer.slab_study_start import SlabPresent, slab
from optimizer.study_changes import changed_plant
from twin.furnace.chances import MEASURED
from twin.furnace.kernel import DENSITY
from twin.furnace.numbers import STEP_S, STORED_WORTH, numbers
from twin.furnace.rollout import mass_t
from twin.furnace.state import FurnaceState, Slab
from twin.furnace.stops import stop_belief
from twin.plant import Plant
from twin.plant.furnace import Furnace, Mill
from twin.records import Series
from twin.simulation.line import LineRun, SlabLeft, line_of, simulate_line
from twin.simulation.line_state import LineState, Luck, SureStop, YardState, live

_J_PER_MWH = 3.6e9
_AT_HIGHEST = 0.995  # of what a burner can


@dataclass(frozen=True)
class StudyRun:
    """Figures by name, and per tag one value per step of the whole run."""

    figures: Mapping[str, float]
    levels: Mapping[str, Series]


def figure_units(plant: Plant) -> dict[str, str]:
    """Every figure of a run and its unit, in the order in which they are shown."""
    currency = plant.economics.currency if plant.economics is not None else "money"
    has_worth = line_of(plant)[1].tonne_worth is not None
    return {
        "fuel": "GJ/t",
        "money": f"{currency}/h",
        "money per tonne": f"{currency}/t",
        **({"margin": f"{currency}/h"} if has_worth else {}),
        "in spec": "%",
        "throughput": "t/h",
        "cold": "%",
        "hottest surface": "degC",
        "held": "min",
        "header peak": "MW",
        "burners at their highest": "min",
    }


MEANINGS = {
    "fuel": "Per tonne discharged, less what is stored more at the end than at the beginning.",
    "money": "Fuel, steel burned away and slabs out of spec, by the prices in the furnace's spec. "
    "What tonnes bring is not in it.",
    "margin": "What tonnes rolled bring (the mill's tonne_worth), less that money.",
    "in spec": "By the simulated line, which plays the plant and is what the plan knows. A plant "
    "differs more from it, so differences tell more than levels.",
    "cold": "Slabs whose mean temperature is below the spec's lowest.",
    "hottest surface": "The highest of a run; its mean over all runs.",
    "held": "Minutes in which the plant's interlock keeps a slab at the door.",
    "header peak": "The highest minute of a run; its mean over all runs.",
    "burners at their highest": "Minutes times burners.",
}


def run_once(
    plant: Plant,
    study: SlabStudy,
    scenario: SlabScenario,
    steered_by: Steering,
    present: SlabPresent,
    replication: int,
) -> StudyRun:
    """One replication of `scenario`, from `present` to the study's end.

    Raises ValueError for changes that the plant file's rules refuse; reading a file tells them all.
    """
    changed, faults = changed_plant(plant, scenario.changes, scenario.scale)
    if faults:
        raise ValueError(f"{scenario.name}: {faults[0].message} {faults[0].remedy}".strip())
    furnace, mill = line_of(changed)
    setpoints = {**present.setpoints, **scenario.fix}
    policy = None
    if steered_by == "plan":
        policy = SlabSteering(changed, setpoints, frozenset(scenario.fix))
    state = _believed(present.state, line_of(plant)[1], mill)
    begin = _with_inputs(live(furnace, mill, state, Luck(study.seed, replication)), scenario)
    settle = round(3600.0 * study.settle_h / STEP_S)
    steps = max(1, round(3600.0 * study.horizon_h / STEP_S) - settle)
    levels: list[Mapping[str, Series]] = []
    for part in (settle, steps):
        if part:
            stand = {mv: np.array([value]) for mv, value in setpoints.items()}
            counted_from = begin
            run = simulate_line(
                changed, begin, stand,
                seed=study.seed, steps=part, replication=replication, policy=policy,
            )  # fmt: skip
            begin = run.end
            setpoints = {mv: float(run.values[mv][-1]) for mv in setpoints}
            levels.append(run.values)
    zones = (tag for zone in furnace.zones for tag in (zone.temperature, zone.fuel))
    shown = (furnace.fuel, furnace.pyrometer, mill.running, *zones)
    return StudyRun(
        figures=_figures(furnace, mill, counted_from, run),
        levels={tag: np.concatenate([part[tag] for part in levels]) for tag in shown},
    )


def _believed(state: FurnaceState, mill: Mill, changed: Mill) -> FurnaceState:
    """What was learned of stops, moved as the scenario moves what the plant file says of them."""
    belief = state.mill.stops
    before, after = stop_belief(mill), stop_belief(changed)
    if belief is None or before == after:
        return state
    moved = replace(
        belief,
        median_s=belief.median_s * after.median_s / before.median_s,
        sigma=belief.sigma * after.sigma / before.sigma,
        estimate_sigma=after.estimate_sigma,
    )
    return replace(state, mill=replace(state.mill, stops=moved))


def _with_inputs(begin: LineState, scenario: SlabScenario) -> LineState:
    """The run's beginning with what comes of slabs and stops as the scenario says."""
    stops = sorted(scenario.stops, key=lambda stop: stop.at_min)
    sure = tuple(SureStop(begin.at_s + 60.0 * s.at_min, 60.0 * s.lasts_min) for s in stops)
    yard, coming = begin.yard, scenario.slabs
    if scenario.mix is not None:
        first = min((each.number for each in yard.waiting), default=yard.next_number)
        kinds = tuple(slab(kind, 0) for kind in scenario.mix)
        # No slab is left of a campaign: the next one is drawn from the kinds.
        yard = replace(
            yard, waiting=(), kinds=kinds, kind=kinds[0], known=0, left=0, next_number=first
        )
    inside = begin.slabs
    if coming.rate is not None:
        inside = tuple(
            replace(each, slab=replace(each.slab, rate_t_per_h=coming.rate)) for each in inside
        )
    rolling = replace(begin.rolling, sure_stops=sure)
    return replace(begin, slabs=inside, yard=_changed_yard(yard, coming), rolling=rolling)


def _changed_yard(yard: YardState, coming: Coming) -> YardState:
    def changed(each: Slab) -> Slab:
        thickness_m = None if coming.thickness is None else coming.thickness / 1000.0
        return Slab(
            each.number,
            each.thickness_m if thickness_m is None else thickness_m,
            each.charge_c if coming.charge is None else coming.charge,
            each.grade if coming.grade is None else coming.grade,
            each.rate_t_per_h if coming.rate is None else coming.rate,
        )

    return replace(
        yard,
        waiting=tuple(map(changed, yard.waiting)),
        kinds=tuple(map(changed, yard.kinds)),
        kind=changed(yard.kind),
    )


def _figures(furnace: Furnace, mill: Mill, begin: LineState, run: LineRun) -> dict[str, float]:
    """By name, as in `figure_units`; NaN for what needs a slab where none has left."""
    spec, minutes = furnace.spec, STEP_S / 60.0
    fuel_mw = run.values[furnace.fuel]
    hours = len(fuel_mw) * STEP_S / 3600.0
    stored_j = _stored_j(furnace, run.end) - _stored_j(furnace, begin)
    fuel_j = 1e6 * STEP_S * float(fuel_mw.sum()) - STORED_WORTH * stored_j
    tonnes = sum(mass_t(furnace, left.slab) for left in run.left)
    is_good = np.array([_is_in_spec(furnace, left) for left in run.left], dtype=np.bool_)
    mean_c = np.array([left.mean_c for left in run.left])
    scale_t = sum(left.scale_kg for left in run.left) / 1000.0
    money = fuel_j / _J_PER_MWH * spec.fuel_price_per_mwh + scale_t * spec.steel_price_per_t
    money += float((~is_good).sum()) * spec.off_spec_price
    hottest_c = [*(left.surface_c for left in run.left), *(s.hottest_c for s in run.end.slabs)]
    at_highest = [run.values[z.fuel] >= _AT_HIGHEST * z.fuel_mw[1] for z in furnace.zones]
    return {
        "fuel": fuel_j / 1e9 / tonnes if tonnes else np.nan,
        "money": money / hours,
        "money per tonne": money / tonnes if tonnes else np.nan,
        "margin": ((mill.tonne_worth or 0.0) * tonnes - money) / hours,
        "in spec": _percent(is_good),
        "throughput": tonnes / hours,
        "cold": _percent(mean_c < spec.mean_c[0]),
        "hottest surface": max(hottest_c) + MEASURED.surface_k[0],
        "held": minutes * float(run.values[furnace.interlock].sum()),
        "header peak": float(fuel_mw.max()),
        "burners at their highest": minutes * float(np.sum(at_highest)),
    }


def _is_in_spec(furnace: Furnace, left: SlabLeft) -> bool:
    """With what slabs usually are off from what a run says of them."""
    low_c, high_c = furnace.spec.mean_c
    is_even = left.difference_k + MEASURED.difference_k[0] <= furnace.spec.difference_k
    is_unburnt = left.surface_c + MEASURED.surface_k[0] <= furnace.spec.surface_c
    return low_c <= left.mean_c <= high_c and is_even and is_unburnt


def _percent(claims: NDArray[np.bool_]) -> float:
    return 100.0 * float(np.mean(claims)) if len(claims) else float("nan")


def _stored_j(furnace: Furnace, state: LineState) -> float:
    n = numbers(furnace)
    slabs_j = sum(
        each.slab.thickness_m * n.face_m2 * DENSITY * float(np.mean(each.enthalpy))
        for each in state.slabs
    )
    gas = np.array([zone.gas_c for zone in state.zones])
    wall = np.array([zone.wall_c for zone in state.zones])
    return slabs_j + float(n.lump_j_per_k @ gas + n.wall_j_per_k @ wall)
