"""What a stretch of a furnace's life came to: fuel, quality, throughput, money, limits passed.

Slabs are scored by what they really were, against the spec of the plant file. Fuel is corrected for
heat stored more at the end than at the beginning. Nothing here runs or plans anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from twin.economics import limit_minutes
from twin.furnace.numbers import STORED_WORTH
from twin.plant import Limits, Plant, Role
from twin.plant.furnace import SlabSpec
from twin.plants.furnace.truth import Minute
from twin.plants.furnace.works import Discharge
from twin.records import Samples, Series
from twin.simulation.line import line_of

_EDGE = 1e-6  # a header that stands at its limit has not passed it


@dataclass(frozen=True)
class Stretch:
    """What really happened over whole minutes, and what the sensors showed in them.

    Times are s on the works' own clock, which was at 0 at `zero_s` since 1970. `discharged` begins
    before the stretch; `stored_j` is the heat in store at its end above that at its beginning.
    """

    begin_s: float
    end_s: float
    zero_s: float
    discharged: Sequence[Discharge]
    minutes: Sequence[Minute]
    stored_j: float
    seen: Mapping[str, Samples]


@dataclass(frozen=True)
class SlabScore:
    """One arm of one seed over the scored hours.

    Costs are per tonne, in the plant's currency: fuel, steel lost to scale, slabs out of spec.
    `mill_limit_percent` is `mill_limit`. `limit_min` are minutes outside operator limits, the
    pyrometer's by what the slab that left last really was. `limits_passed` are those of the
    function. A figure is NaN where no slab left or where a value that it needs is not known.
    """

    fuel_gj_per_t: float
    in_spec_percent: float
    mean_c: float
    sd_k: float
    t_per_h: float
    mill_limit_percent: float
    held_min: float
    cold_percent: float
    warm_percent: float
    uneven_percent: float
    scale_percent: float
    fuel_cost_per_t: float
    scale_cost_per_t: float
    off_spec_cost_per_t: float
    limit_min: float
    hottest_c: float
    zone_c: float
    ramp_k_per_min: float
    header_mw: float
    limits_passed: tuple[str, ...] = ()


def score_slabs(plant: Plant, stretch: Stretch) -> SlabScore:
    """The score of one stretch; see `SlabScore` for what is not known."""
    furnace, _ = line_of(plant)
    spec, seen = furnace.spec, stretch.seen
    left = [slab for slab in stretch.discharged if stretch.begin_s <= slab.at_s < stretch.end_s]
    tonnes = math.fsum(each.slab.real_mass_kg for each in left) / 1000.0
    fuel_j = 60.0 * math.fsum(math.fsum(minute.fuel_w) for minute in stretch.minutes)
    gj_per_t = _per(1e-9 * (fuel_j - STORED_WORTH * stretch.stored_j), tonnes)
    scale_t = math.fsum(each.scale_kg for each in left) / 1000.0
    off_spec = sum(not in_spec(spec, each) for each in left)
    means_c = np.array([each.mean_c for each in left] or [math.nan])
    hottest_c = max(minute.hottest_c for minute in stretch.minutes)
    return SlabScore(
        fuel_gj_per_t=gj_per_t,
        in_spec_percent=_per(100.0 * (len(left) - off_spec), len(left)),
        mean_c=float(means_c.mean()),
        sd_k=float(means_c.std()),
        t_per_h=tonnes / ((stretch.end_s - stretch.begin_s) / 3600.0),
        mill_limit_percent=mill_limit(left),
        held_min=math.fsum(each.held_s for each in left) / 60.0,
        cold_percent=_per(100.0 * float((means_c < spec.mean_c[0]).sum()), len(left)),
        warm_percent=_per(100.0 * float((means_c > spec.mean_c[1]).sum()), len(left)),
        uneven_percent=_per(100.0 * sum(not _is_even(spec, each) for each in left), len(left)),
        scale_percent=_per(100.0 * scale_t, tonnes),
        fuel_cost_per_t=gj_per_t / 3.6 * spec.fuel_price_per_mwh,
        scale_cost_per_t=_per(scale_t * spec.steel_price_per_t, tonnes),
        off_spec_cost_per_t=_per(off_spec * spec.off_spec_price, tonnes),
        limit_min=_limit_min(plant, furnace.pyrometer, stretch),
        hottest_c=hottest_c,
        zone_c=_most(seen, [zone.temperature for zone in furnace.zones]),
        ramp_k_per_min=_most(seen, [tag.name for tag in plant.tags if tag.unit == "K/min"]),
        header_mw=_most(seen, [furnace.fuel]),
        limits_passed=limits_passed(plant, stretch.minutes, seen),
    )


def limits_passed(
    plant: Plant, minutes: Sequence[Minute], seen: Mapping[str, Samples]
) -> tuple[str, ...]:
    """The hard limits that were passed, or are not known to have been kept, each once, by name.

    By what really happened in `minutes`: the spec's surface, of the hottest face, and the header,
    whose name is that of its tag. As `seen`: the engineering limits of every CV, such as a zone's
    temperature and ramp.
    """
    furnace, _ = line_of(plant)
    hottest_c = max(minute.hottest_c for minute in minutes)
    fuel_mw = max(math.fsum(minute.fuel_w) for minute in minutes) / 1e6
    really = {
        "surface of a slab": hottest_c <= furnace.spec.surface_c + _EDGE,
        furnace.fuel: fuel_mw <= furnace.header_mw + _EDGE,
    }
    shown = {
        tag.name: _is_kept(tag.engineering, seen[tag.name].values)
        for tag in plant.with_role(Role.CV)
        if tag.engineering is not None
    }
    kept = shown | {name: is_kept and shown.get(name, True) for name, is_kept in really.items()}
    return tuple(sorted(name for name, is_kept in kept.items() if not is_kept))


def in_spec(spec: SlabSpec, left: Discharge) -> bool:
    """Whether a slab was what the mill wants."""
    low, high = spec.mean_c
    is_unburnt = left.hottest_c <= spec.surface_c
    return low <= left.mean_c <= high and _is_even(spec, left) and is_unburnt


def mill_limit(left: Sequence[Discharge]) -> float:
    """Tonnes per hour over what the mill alone could have rolled, %.

    Alone: the same slabs with the same stops and gaps at the schedule's pace, out of a furnace
    that has every slab ready in time. Slabs are paired, not counted in a window, so no slab more or
    less at its ends blurs it. NaN for fewer than two slabs.
    """
    if len(left) < 2:
        return math.nan
    needs_s = math.fsum(max(_rolling_s(each), each.slab.stop_s) for each in left[:-1])
    return 100.0 * needs_s / (left[-1].at_s - left[0].at_s)


def _rolling_s(left: Discharge) -> float:
    slab = left.slab
    return 3.6 * slab.mass_kg / slab.rate_t_per_h * slab.gap_factor


def _is_even(spec: SlabSpec, left: Discharge) -> bool:
    return left.difference_k <= spec.difference_k


def _per(what: float, of: float) -> float:
    return what / of if of else math.nan


def _most(seen: Mapping[str, Samples], tags: Sequence[str]) -> float:
    """The farthest from 0 that any of `tags` went; NaN if one value is not known."""
    values = np.concatenate([np.asarray(seen[tag].values) for tag in tags])
    return float(np.abs(values).max()) if len(values) else math.nan


def _is_kept(limits: Limits, values: Series) -> bool:
    """Whether all of `values` are known to lie inside; of none nothing is known."""
    low = -math.inf if limits.low is None else limits.low
    high = math.inf if limits.high is None else limits.high
    return len(values) > 0 and bool(((values >= low - _EDGE) & (values <= high + _EDGE)).all())


def _limit_min(plant: Plant, pyrometer: str, stretch: Stretch) -> float:
    """Minutes outside operator limits, all CVs that have any, by their values at minutes' ends."""
    ends_s = np.arange(stretch.begin_s + 60.0, stretch.end_s + 1.0, 60.0)
    levels = {
        tag.name: _held(stretch.seen[tag.name].times_s, stretch.seen[tag.name].values,
                        stretch.zero_s + ends_s)
        for tag in plant.with_role(Role.CV)
        if tag.operator is not None and tag.name != pyrometer
    }  # fmt: skip
    at_s = np.array([each.at_s for each in stretch.discharged])
    levels[pyrometer] = _held(at_s, np.array([e.mean_c for e in stretch.discharged]), ends_s)
    return math.fsum(limit_minutes(plant, levels, 60.0).values())


def _held(times_s: Series, values: Series, at_s: Series) -> Series:
    """The newest value at each moment; NaN before the first."""
    if not len(times_s):
        return np.full(len(at_s), math.nan)
    index = np.searchsorted(times_s, at_s, side="right") - 1
    held: Series = np.where(index >= 0, values[index], math.nan)
    return held
