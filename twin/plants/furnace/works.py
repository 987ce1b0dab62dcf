"""One seed's real furnace between yard and mill, with its own computers. The twin never reads it.

`Works` moves slabs, keeps the interlock and the tracker, and follows whatever setpoints it is
given; `heating` does the thermodynamics, `yard` brings everything from outside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from twin.plants.furnace import heating as ht
from twin.plants.furnace import slabs as sl
from twin.plants.furnace.baseline import BaselineParameters, Level2, Sight
from twin.plants.furnace.yard import Slab, Weather, Yard, thermocouple_noise_k
from twin.records import Series

INTERLOCK_C, INTERLOCK_LONGEST_S = 1200.0, 600.0
_TRACKER_NODES, _MINUTE_S = 6, 60.0
_BIAS_SHARE = 0.12
_HOUR_ROWS = 360
_SHARES, _ZONE_OF_SLOT = ht.zone_shares(), ht.zone_of_slot()
_START_C = (930.0, 1170.0, 1250.0, 1245.0)
_START_FUEL_W = (10e6, 30e6, 22e6, 5e6)


@dataclass(frozen=True)
class Discharge:
    """A slab that left: what it was, then what the plant's instruments said. NaN: no reading."""

    at_s: float
    slab: Slab
    mean_c: float
    difference_k: float
    hottest_c: float
    scale_kg: float
    pyrometer_c: float
    tracker_c: float
    held_s: float


class Works:
    """A furnace that runs. Times are seconds since its start.

    `stops` replaces stops by slab number: (lasts, expected) in s. `burners_w` and `pieces` (finer
    steps) and `nodes` serve studies and tests.
    """

    def __init__(
        self,
        seed: int,
        parameters: BaselineParameters,
        *,
        stops: Mapping[int, tuple[float, float]] | None = None,
        has_stops: bool = True,
        burners_w: Series | None = None,
        nodes: int = ht.NODES,
        pieces: int = 1,
    ) -> None:
        self.seed = seed
        self.level2 = Level2(parameters)
        self.yard, self._weather = Yard(seed), Weather(seed)
        self._stops, self._has_stops, self._pieces = dict(stops or {}), has_stops, pieces
        self._burners_w = ht.HIGHEST_FUEL_W if burners_w is None else burners_w
        self.slabs = sl.blank_slabs(ht.SLOTS, nodes=nodes)
        self._tracked = sl.blank_slabs(ht.SLOTS, columns=1, nodes=_TRACKER_NODES)
        self.in_slot: list[Slab] = [self.yard.slab(k) for k in range(ht.SLOTS - 1, -1, -1)]
        self.next_number = ht.SLOTS
        self.zones = _zones()
        self.is_remote = np.zeros(ht.ZONES, dtype=np.bool_)
        self.pace = 1.0
        self.account_j = np.zeros(len(ht.ACCOUNT))
        self.charged_j = self.discharged_j = 0.0
        self.discharged: list[Discharge] = []
        self.now_s, self.due_s, self.held_s = 0.0, 300.0, 0.0
        self.stopped_at_s = self.stopped_until_s = self.expected_restart_s = -1.0
        self.bias_k = 0.0
        self._doors_left_s = np.zeros(2)
        for slot, slab in enumerate(self.in_slot):
            # It has been running: every slab is about as hot as its place.
            self._put(slot, slab, 20.0 + 1190.0 * ((slot + 0.5) / ht.SLOTS) ** 0.8)

    @property
    def is_stopped(self) -> bool:
        """Whether the mill stands."""
        return self.now_s < self.stopped_until_s

    def tracker_c(self, slot: int) -> float:
        """The level-2 tracker's mean temperature of a slab, with its learned bias."""
        return float(self._tracked.node[slot, 0].mean()) + self.bias_k

    def advance(self, to_s: float) -> Series:
        """Run until `to_s` (a multiple of 10 s); what every scan saw (row, `heating` columns)."""
        parts = [np.empty((0, ht.ROW_WIDTH))]
        while self.now_s < to_s:
            if self.now_s % _MINUTE_S == 0:
                self._minute()
            self._discharge_if_due()
            end_s = min(to_s, (self.now_s // _MINUTE_S + 1) * _MINUTE_S)
            if self.due_s > self.now_s:
                end_s = min(end_s, ht.SCAN_S * math.ceil(self.due_s / ht.SCAN_S))
            parts.append(self._march(round((end_s - self.now_s) / ht.SCAN_S)))
        return np.concatenate(parts)

    def _march(self, rows: int) -> Series:
        hour, row = divmod(round(self.now_s / ht.SCAN_S), _HOUR_ROWS)
        out: Series = ht.march(
            ht.STEEL,
            self.slabs,
            self.zones,
            _SHARES,
            self._burners_w,
            self._weather.heat_value(hour),
            self._weather.leak(hour),
            self._doors_left_s,
            thermocouple_noise_k(self.seed, hour)[row : row + rows],
            self._pieces,
            self.account_j,
        )
        self.now_s += rows * ht.SCAN_S
        return out

    def _minute(self) -> None:
        """The tracker's step, and the setpoints of the zones in AUTO."""
        measured = self.zones.measured
        ht.track(ht.STEEL, self._tracked, _ZONE_OF_SLOT, measured, _MINUTE_S)
        seen = [d.pyrometer_c for d in self.discharged[-20:] if not math.isnan(d.pyrometer_c)]
        asked = self.level2.setpoints_c(
            Sight(
                now_s=self.now_s,
                slabs=np.array([(slab.thickness_m, slab.charge_c) for slab in self.in_slot]),
                rate_t_per_h=self.in_slot[-1].rate_t_per_h,
                pyrometer_c=seen,
                stopped_since_s=self.stopped_at_s if self.is_stopped else None,
                expected_restart_s=self.expected_restart_s,
            )
        )
        self.zones.wanted[~self.is_remote] = asked[~self.is_remote]

    def _discharge_if_due(self) -> None:
        if self.is_stopped or self.now_s < self.due_s:
            return
        if self.tracker_c(-1) < INTERLOCK_C and self.held_s < INTERLOCK_LONGEST_S:
            # The tracker knows nothing new before the minute is over.
            self.held_s += _MINUTE_S - self.now_s % _MINUTE_S
            self.due_s = self.now_s + _MINUTE_S - self.now_s % _MINUTE_S
            return
        left = self._measure()
        self.discharged.append(left)
        if not math.isnan(left.pyrometer_c):
            self.bias_k += _BIAS_SHARE * (left.pyrometer_c - left.tracker_c)
        self.discharged_j += sl.heat_j(self.slabs, -1)
        sl.step_beam(self.slabs)
        sl.step_beam(self._tracked)
        self.in_slot[1:] = self.in_slot[:-1]
        self.in_slot[0] = self.yard.slab(self.next_number)
        self.next_number += 1
        self._put(0, self.in_slot[0], None)
        self.charged_j += sl.heat_j(self.slabs, 0)
        self._doors_left_s[:] = ht.DOOR_S
        self._roll(left.slab)

    def _roll(self, slab: Slab) -> None:
        """When the mill wants the next slab, after this one and a stop that may follow it."""
        hours = slab.mass_kg / 1000.0 / slab.rate_t_per_h
        # A slab that came in time leaves no trace of the scan's grain; a held one delays all.
        began_s = self.due_s if self.held_s == 0 else self.now_s
        self.due_s = began_s + 3600.0 * hours * slab.gap_factor / self.pace
        self.held_s = 0.0
        lasts_s, expected_s = (slab.stop_s, slab.expected_stop_s) if self._has_stops else (0.0, 0.0)
        lasts_s, expected_s = self._stops.get(slab.number, (lasts_s, expected_s))
        if lasts_s > 0:
            self.stopped_at_s = self.now_s
            self.stopped_until_s = self.now_s + lasts_s
            self.expected_restart_s = self.now_s + expected_s
            self.due_s = max(self.due_s, self.stopped_until_s)

    def _measure(self) -> Discharge:
        slab, slabs = self.in_slot[-1], self.slabs
        mean_c = sl.mean_c(slabs, -1)
        return Discharge(
            at_s=self.now_s,
            slab=slab,
            mean_c=mean_c,
            difference_k=sl.difference_k(slabs, -1),
            hottest_c=float(slabs.face[-1].max()),
            scale_kg=sl.scale_kg(slabs, -1),
            pyrometer_c=math.nan if slab.pyrometer_is_out else mean_c + slab.pyrometer_error_k,
            tracker_c=self.tracker_c(-1),
            held_s=self.held_s,
        )

    def _put(self, slot: int, slab: Slab, at_c: float | None) -> None:
        real_c = slab.real_charge_c if at_c is None else at_c
        known_c = slab.charge_c if at_c is None else at_c
        sl.place(
            self.slabs,
            slot,
            slab.real_thickness_m,
            real_c,
            emissivity=slab.real_emissivity,
            grade=slab.real_grade_k,
        )
        sl.place(self._tracked, slot, slab.thickness_m, known_c, emissivity=0.0, grade=1.0)


def _zones() -> ht.Zones:
    gas, fuel = np.array(_START_C), np.array(_START_FUEL_W)
    return ht.Zones(
        gas=gas,
        wall=gas - 15.0,
        thermocouple=gas.copy(),
        measured=gas.copy(),
        fuel=fuel,
        integral=fuel.copy(),
        ramped=gas.copy(),
        wanted=gas.copy(),
    )
