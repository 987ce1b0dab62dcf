"""Where a furnace would like to stand for the mix of slabs that comes, if nothing else changed.

A ranked target, each rank settled before the next is asked: the limits that must hold, every
slab in spec, money. A Pyomo model of slabs on their way through constant zones, compiled once,
solved anew with the mix and what tracking has learned. Stops are not in it: a plan deals with them.
Nothing here moves an MV.

Source of the ranks: lexicographic goal programming, Ignizio, "Goal Programming and Extensions".
Choices and measurements: docs/decisions/0009-slab-plan-gauss-newton-or-pyomo.md.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import numpy as np

from optimizer import slab_equations as eq
from optimizer.compiled import Accepted, Answer, CompiledModel
from optimizer.moves import hard_range
from optimizer.slab_cost import Pricing
from optimizer.slab_mix import SlabGroup, coming_mix
from optimizer.slab_steady_model import GROUPS, MONEY, RANKS, Limits, steady_model
from twin.furnace.chances import MEASURED
from twin.furnace.rollout import conductivity_of, mass_t, rolling_s
from twin.furnace.state import FurnaceState, Slab
from twin.plant import Plant
from twin.records import Series
from twin.simulation.line import line_of

#: Weights of limits, quality and money while each rank is settled: the later ones break ties.
_WEIGHTS = ((1e3, 1.0, 1e-3), (0.0, 1e3, 1e-2), (0.0, 0.0, 1.0))
_SETTLED = 1e-5  # how far a settled rank may still give way in the next, 100 K
_ACCEPTED = Accepted(violation=1e-5, slope=1e-2, gap=1e-2)  # in the model's units
_NOTICED_K, _TOUCHES_K, _TOUCHES_MW = 0.05, 0.5, 0.05
#: A target is asked for anew after so long: the 44 slabs of the mix change by a fifth meanwhile.
_KEPT = timedelta(minutes=60)
#: Iterations of one rank; 57 was the most seen on training seed 1004, 4 ms each.
_MOST_ITERATIONS = 100


class TargetStatus(StrEnum):
    """What became of asking for a target."""

    SOLVED = "solved"
    INFEASIBLE = "infeasible"
    NOT_CONVERGED = "not converged"
    TIMED_OUT = "timed out"
    NO_STATE = "no state"


@dataclass(frozen=True)
class SteadyTarget:
    """Where the mix would like to be. Axis of series: zone, from charging to discharging.

    `reason` says what is wrong unless SOLVED. An INFEASIBLE target still has numbers: those that
    break the limits least. `limits_k` and `quality_k` are what had to give way in the two ranks
    before money, by name, K; `binding` are limits it touches. `cost_per_h` is fuel, steel burned
    away and slabs expected out of spec.
    """

    status: TargetStatus
    reason: str
    setpoints_c: Series
    fuel_mw: Series
    groups: tuple[SlabGroup, ...]
    t_per_h: float
    cost_per_h: float
    limits_k: Mapping[str, float] = field(default_factory=dict)
    quality_k: Mapping[str, float] = field(default_factory=dict)
    binding: tuple[str, ...] = ()
    solve_ms: float = 0.0

    @property
    def is_usable(self) -> bool:
        """Whether it has numbers."""
        return self.status in (TargetStatus.SOLVED, TargetStatus.INFEASIBLE)

    @property
    def fuel_gj_per_t(self) -> float:
        """Fuel per tonne."""
        return float(self.fuel_mw.sum()) * 3.6 / self.t_per_h


#: A target that is being sought: settles one rank, and another whenever it is gone on with.
_Solving = Generator[None, None, SteadyTarget]


def _is_recent(asked_at: datetime, now: datetime) -> bool:
    return timedelta(0) <= now - asked_at < _KEPT


def _is_of_use(asked_at: datetime, target: SteadyTarget, now: datetime) -> bool:
    is_near = timedelta(0) <= now - asked_at < 2 * _KEPT
    return is_near and target.status is not TargetStatus.NO_STATE


def _one_rank_on(solving: _Solving) -> SteadyTarget | None:
    """Settle one more rank; the target if that was the last."""
    try:
        next(solving)
    except StopIteration as done:
        target: SteadyTarget = done.value
        return target
    return None


class SteadyPlanner:
    """The steady target of one plant: compiled at construction, then asked with every mix.

    `deadline_s` is for all ranks together; `pricing` is the plan's, so that both aim alike.
    """

    def __init__(
        self, plant: Plant, pricing: Pricing | None = None, *, deadline_s: float = 2.0
    ) -> None:
        self.furnace, _ = line_of(plant)
        ranges = np.array([hard_range(plant.tag(zone.setpoint)) for zone in self.furnace.zones])
        hottest = [hard_range(plant.tag(zone.temperature))[1] for zone in self.furnace.zones]
        self._limits = Limits(
            low_c=ranges[:, 0],
            high_c=np.minimum(ranges[:, 1], hottest),
            surface_c=self.furnace.spec.surface_c - MEASURED.surface_k[0],
        )
        self._pricing = pricing or Pricing()
        model = steady_model(self.furnace, self._limits, self._pricing)
        self._model = CompiledModel(
            model,
            model.parameter,
            _ACCEPTED,
            {
                "tol": 1e-7,
                "acceptable_tol": 1e-6,
                "max_iter": _MOST_ITERATIONS,
                "max_wall_time": deadline_s / len(RANKS),
            },
        )
        self._warm: Answer | None = None
        self._last: tuple[datetime, SteadyTarget] | None = None
        self._coming: tuple[datetime, _Solving] | None = None

    def recent(self, state: FurnaceState) -> SteadyTarget:
        """The target of the mix, sought anew every hour; one that failed is kept as long.

        One rank of it is settled in a call, so that a round does not wait for all of them, and the
        last one counts meanwhile. Where there is none of the last two hours, or it knew no slab or
        number, all of it is asked at once.
        """
        if self._last is None or not _is_of_use(*self._last, state.at):
            self._last, self._coming = (state.at, self.target(state)), None
        if _is_recent(self._last[0], state.at):
            return self._last[1]
        if self._coming is None or not _is_recent(self._coming[0], state.at):
            self._coming = (state.at, self._solving(state, None))
        (asked_at, solving), self._coming = self._coming, None  # gone, should it raise
        found = _one_rank_on(solving)
        if found is None:
            self._coming = (asked_at, solving)
        else:
            self._last = (asked_at, found)
        return self._last[1]

    def forget(self) -> None:
        """Ask anew next time: what was known of the furnace is no more."""
        self._last = self._coming = None

    def target(self, state: FurnaceState, slabs: Sequence[Slab] | None = None) -> SteadyTarget:
        """Where the mix of `slabs` would like to be; by default of all inside and in the yard.

        What tracking has learned of `state` is believed: emissivity and losses. Never raises
        for a hard problem: the status says what became of it.
        """
        solving = self._solving(state, slabs)
        while (found := _one_rank_on(solving)) is None:
            pass
        return found

    def _solving(self, state: FurnaceState, slabs: Sequence[Slab] | None) -> _Solving:
        known = slabs if slabs is not None else (*(s.slab for s in state.slabs), *state.yard)
        if not known:
            return self._none(TargetStatus.NO_STATE, "no slab is known")
        groups = coming_mix(self.furnace, known, GROUPS)
        interval_s = float(np.mean([rolling_s(self.furnace, slab) for slab in known]))
        numbers = self._numbers(state, groups, interval_s)
        unknown = [name for name, value in numbers.items() if not math.isfinite(value)]
        if unknown:
            return self._none(TargetStatus.NO_STATE, self._unknown(*unknown[0]))
        answer, spent_ms = yield from self._ranked(numbers)
        self._warm = None if answer.reason else answer
        if answer.reason:
            status = TargetStatus.TIMED_OUT if answer.is_out_of_time else TargetStatus.NOT_CONVERGED
            return replace(self._none(status, answer.reason), solve_ms=spent_ms)
        tonnes = float(np.mean([mass_t(self.furnace, slab) for slab in known]))
        return self._told(answer, groups, 3600.0 * tonnes / interval_s, spent_ms)

    def _unknown(self, name: str, i: int) -> str:
        what = f"the {name} of group {i + 1} of the mix"
        if name == "extra":
            what = f"{self.furnace.zones[i].temperature}: what its zone loses besides"
        elif name == "interval":
            what = "the mill's rate"
        return f"{what} is not known"

    def _none(self, status: TargetStatus, reason: str) -> SteadyTarget:
        nothing = np.full(len(self.furnace.zones), math.nan)
        return SteadyTarget(status, reason, nothing, nothing, (), math.nan, math.nan)

    def _numbers(
        self, state: FurnaceState, groups: Sequence[SlabGroup], interval_s: float
    ) -> dict[tuple[str, int], float]:
        """The model's numbers; a mix of fewer groups repeats one that counts for nothing."""
        numbers = {("interval", 0): interval_s}
        for z, zone in enumerate(state.zones):
            numbers["extra", z] = zone.extra_w / eq.TEN_MW
        for g in range(GROUPS):
            group = groups[min(g, len(groups) - 1)]
            slab = group.slab
            percent = state.emissivity_percent.get(slab.grade, 0.0)
            unsure_k = state.emissivity_sd_k.get(slab.grade, 0.0)
            excess = max(unsure_k**2 - MEASURED.emissivity_sd_k**2, 0.0)
            coming_sd_k = self._pricing.coming_sd_k[0]
            sd_k = math.sqrt(MEASURED.mean_sd_k[-1] ** 2 + coming_sd_k**2 + excess)
            numbers |= {
                ("thickness", g): slab.thickness_m,
                ("charge", g): eq.enthalpy_of(self.furnace, slab.charge_c),
                ("grade", g): conductivity_of(self.furnace, slab.grade),
                ("emissivity", g): self.furnace.emissivity * (1.0 + percent / 100.0),
                ("share", g): group.share if g < len(groups) else 0.0,
                ("sd", g): sd_k / eq.HUNDRED_K,
            }
        return numbers

    def _ranked(
        self, numbers: Mapping[tuple[str, int], float]
    ) -> Generator[None, None, tuple[Answer, float]]:
        """Settle rank by rank: what gave way in one may give way so far in the next, no further."""
        model, spent_ms = self._model, 0.0
        lower, upper = model.lower.copy(), model.upper.copy()
        begin: Series | Answer = self._warm or model.start
        for rank, weights in zip(RANKS, _WEIGHTS, strict=True):
            asked = {**numbers, **{("weight", i): weight for i, weight in enumerate(weights)}}
            parameters = np.array([asked[index] for index in model.parameters])
            answer = model.solve(parameters, lower, upper, begin)
            spent_ms += answer.solve_ms
            if answer.reason or rank == RANKS[-1]:
                break
            for (name, *_), i in model.place.items():
                if name == rank:
                    upper[i] = max(answer.values[i], 0.0) + _SETTLED
            begin = answer
            yield
        return answer, spent_ms

    def _told(
        self, answer: Answer, groups: Sequence[SlabGroup], t_per_h: float, spent_ms: float
    ) -> SteadyTarget:
        at = {key: float(answer.values[i]) for key, i in self._model.place.items()}
        zones = range(len(self.furnace.zones))
        gas_c = eq.HUNDRED_K * np.array([at["gas", z] for z in zones])
        fuel_mw = eq.TEN_MW / 1e6 * np.array([at["fuel", z] for z in zones])
        limits_k = self._slacks_k("limit", at)
        is_feasible = not limits_k
        return SteadyTarget(
            status=TargetStatus.SOLVED if is_feasible else TargetStatus.INFEASIBLE,
            reason="; ".join(f"{name} by {k:.1f} K" for name, k in limits_k.items()),
            setpoints_c=np.clip(gas_c, self._limits.low_c, self._limits.high_c),
            fuel_mw=fuel_mw,
            groups=tuple(_seen(group, g, at) for g, group in enumerate(groups)),
            t_per_h=t_per_h,
            cost_per_h=MONEY * at["money", 0],
            limits_k=limits_k,
            quality_k=self._slacks_k("quality", at),
            binding=self._binding(gas_c, fuel_mw, at, len(groups)),
            solve_ms=spent_ms,
        )

    def _slacks_k(self, rank: str, at: Mapping[tuple[Any, ...], float]) -> dict[str, float]:
        """What had to give way in a rank, in words and K; of groups the worst."""
        found: dict[str, float] = {}
        for key, value in at.items():
            if key[0] == rank and eq.HUNDRED_K * value > _NOTICED_K:
                name = self._words(str(key[1]), int(key[2]))
                found[name] = max(found.get(name, 0.0), eq.HUNDRED_K * value)
        return found

    def _words(self, kind: str, i: int) -> str:
        spec = self.furnace.spec
        if kind in ("below", "above"):
            return f"{self.furnace.zones[i].setpoint} {kind} its range"
        return {
            "surface": f"slab surface above {self._limits.surface_c:.0f} °C",
            "cold": f"slabs below {spec.mean_c[0]:g} °C",
            "warm": f"slabs above {spec.mean_c[1]:g} °C",
            "uneven": f"difference inside a slab above {spec.difference_k:g} K",
        }[kind]

    def _binding(
        self, gas_c: Series, fuel_mw: Series, at: Mapping[tuple[Any, ...], float], groups: int
    ) -> tuple[str, ...]:
        """Limits that the target touches, in words."""
        touched, spec = [], self.furnace.spec
        for z, zone in enumerate(self.furnace.zones):
            sides = {"low": self._limits.low_c[z], "high": self._limits.high_c[z]}
            touched += [
                f"{zone.setpoint} at its {side} limit {limit_c:g} °C"
                for side, limit_c in sides.items()
                if abs(gas_c[z] - limit_c) < _TOUCHES_K
            ]
            for side, limit_mw in zip(("lowest", "highest"), zone.fuel_mw, strict=True):
                if abs(fuel_mw[z] - limit_mw) < _TOUCHES_MW:
                    touched.append(f"{zone.fuel} at its {side}")
        if fuel_mw.sum() > self.furnace.header_mw - _TOUCHES_MW:
            touched.append("the header at its highest")
        means_c = [eq.HUNDRED_K * at["mean", g] for g in range(groups)]
        if min(means_c) < spec.mean_c[0] + _TOUCHES_K:
            touched.append(f"slabs at {spec.mean_c[0]:g} °C")
        if max(means_c) > spec.mean_c[1] - _TOUCHES_K:
            touched.append(f"slabs at {spec.mean_c[1]:g} °C")
        if max(eq.HUNDRED_K * at["difference", g] for g in range(groups)) > (
            spec.difference_k - _TOUCHES_K
        ):
            touched.append(f"difference inside a slab at {spec.difference_k:g} K")
        return tuple(touched)


def target_words(target: SteadyTarget, currency: str) -> str:
    """The target in a sentence or two that a person can check; why there is none, if so."""
    if not target.is_usable:
        return f"Where the slabs that come would like the zones is not known: {target.reason}."
    mix = ", ".join(
        f"{100 * group.share:.0f} % of {1000 * group.slab.thickness_m:.0f} mm at "
        f"{group.slab.charge_c:.0f} °C"
        for group in target.groups
    )
    zones = " / ".join(f"{setpoint_c:.0f}" for setpoint_c in target.setpoints_c)
    text = (
        f"The slabs that come ({mix}) would like zones at {zones} °C: "
        f"{target.fuel_gj_per_t:.2f} GJ/t, {target.cost_per_h:.0f} {currency}/h at "
        f"{target.t_per_h:.0f} t/h."
    )
    given_up = {**target.limits_k, **target.quality_k}
    if given_up:
        text += f" Even so {', '.join(f'{name} by {k:.0f} K' for name, k in given_up.items())}."
    if target.binding:
        text += f" Limited by {', '.join(target.binding)}."
    return text


def _seen(group: SlabGroup, g: int, at: Mapping[tuple[Any, ...], float]) -> SlabGroup:
    hottest = max(value for key, value in at.items() if key[:2] == ("face", g))
    return replace(
        group,
        mean_c=eq.HUNDRED_K * at["mean", g],
        difference_k=eq.HUNDRED_K * at["difference", g],
        surface_c=eq.HUNDRED_K * hottest,
        in_spec_chance=at["chance", g],
    )
