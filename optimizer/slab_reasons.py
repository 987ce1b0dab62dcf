"""Why a furnace's plan moves its zones, in the control room's words.

One sentence a person can check: which zones move by how much, what the mill does, what the plan
saves and what it risks. Reads one round and its forecast; computes no plan.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from optimizer.controller import Round
from twin.furnace.state import FurnaceState, Slab
from twin.furnace.stops import remaining_stop_s
from twin.plant import Plant
from twin.plant.furnace import Furnace, Mill
from twin.records import Forecast, SlabOutlook

# What a mix must change by to be worth telling. Chosen: more than half a usual step between two
# thicknesses, and clearly more than what a slab's charging temperature is known to.
_THICKER_MM, _WARMER_K = 10.0, 50.0
# How far ahead a slab's risk is told: later ones leave under plans that are not made yet.
_AHEAD = timedelta(minutes=60)
_WORTH_TELLING = 0.9  # the chance to be in spec below which it is told


def slab_reasons(plant: Plant, done: Round, fan: Forecast | None = None) -> str:
    """Why `done` moves what it moves: "zone 4 -18 K: mill stopped 12 min ago, 25 more expected; …".

    `fan` is the forecast of its plan; without one nothing is said of risks.
    """
    furnace = plant.furnace
    assert furnace is not None
    state = done.twin if isinstance(done.twin, FurnaceState) else None
    moved = ", ".join(_moves(plant, furnace, done)) or "every setpoint stays"
    why = [_money(plant, done)]
    if state is not None:
        situation = [_mill(plant.mill, state), _mix(state), *state.faults[:1]]
        why = [*filter(None, situation), *why]
    if fan is not None and (risk := _risk(fan.slabs, fan.start)):
        why.append(risk)
    text = f"{moved}: {'; '.join(why)}."
    if done.plan.binding:
        text += f" Limited by {', '.join(done.plan.binding)}."
    return f"{text} {done.steady}".rstrip()


def _moves(plant: Plant, furnace: Furnace, done: Round) -> list[str]:
    """By how much each zone's setpoint moves, then every other MV, from and to."""
    zones: Mapping[str, str] = {
        zone.setpoint: f"zone {place}" for place, zone in enumerate(furnace.zones, start=1)
    }
    parts = []
    for mv, proposed in done.setpoints.items():
        current = done.state.last_known(mv)
        decimals = plant.tag(mv).decimals
        if current is None:
            parts.append(f"{zones.get(mv, mv)} to {proposed:.{decimals}f}")
        elif mv in zones:
            change_k = proposed - current
            parts.append(f"{zones[mv]} {change_k:+.{0 if abs(change_k) >= 1 else decimals}f} K")
        else:
            parts.append(f"{mv} {current:.{decimals}f} to {proposed:.{decimals}f}")
    return parts


def _mill(mill: Mill | None, state: FurnaceState) -> str:
    """Since when the mill stands and how much longer; while it rolls, at which rate."""
    if mill is None:
        return ""
    since, left_s = state.mill.stopped_since, remaining_stop_s(mill, state)
    if since is None or left_s is None:
        return f"mill runs {state.slabs[0].slab.rate_t_per_h:.0f} t/h" if state.slabs else ""
    ago_min = (state.at - since).total_seconds() / 60
    return f"mill stopped {ago_min:.0f} min ago, {left_s / 60:.0f} more expected"


def _mix(state: FurnaceState) -> str:
    """How the slabs that come differ from those inside, where they clearly do."""
    inside, yard = [each.slab for each in state.slabs], state.yard
    if not inside or not yard:
        return ""
    thicker_mm = 1000 * (_mean(yard, "thickness_m") - _mean(inside, "thickness_m"))
    warmer_k = _mean(yard, "charge_c") - _mean(inside, "charge_c")
    said = []
    if abs(thicker_mm) >= _THICKER_MM:
        said.append(f"{abs(thicker_mm):.0f} mm {'thicker' if thicker_mm > 0 else 'thinner'}")
    if abs(warmer_k) >= _WARMER_K:
        said.append(f"charged {abs(warmer_k):.0f} K {'hotter' if warmer_k > 0 else 'colder'}")
    return f"slabs to come are {' and '.join(said)}" if said else ""


def _mean(slabs: Sequence[Slab], key: str) -> float:
    return math.fsum(getattr(slab, key) for slab in slabs) / len(slabs)


def _money(plant: Plant, done: Round) -> str:
    currency = plant.economics.currency if plant.economics is not None else ""
    benefit = done.plan.benefit_per_h
    if benefit < 0:
        return f"costs {-benefit:.0f} {currency}/h more than keeping all setpoints"
    return f"saves {benefit:.0f} {currency}/h against keeping all setpoints"


def _risk(slabs: Sequence[SlabOutlook], start: datetime) -> str:
    """The worst chances among the slabs that leave within the next hour."""
    soon = [slab for slab in slabs if slab.leaves_at <= start + _AHEAD]
    if not soon:
        return ""
    coldest = max(soon, key=lambda slab: slab.cold_chance)
    if coldest.cold_chance < 0.005:
        said = "risk cold below 1 %"
    else:
        said = f"risk cold {100 * coldest.cold_chance:.0f} % (slab {coldest.number})"
    worst = min(soon, key=lambda slab: slab.in_spec_chance)
    if worst.in_spec_chance < _WORTH_TELLING:
        said += f", in spec {100 * worst.in_spec_chance:.0f} % at worst (slab {worst.number})"
    return said
