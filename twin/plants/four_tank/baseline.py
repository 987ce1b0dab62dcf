"""The fair baseline of the quadruple tank: what its PLC does in AUTO, with frozen parameters.

Two PI loops (pump 1 holds tank 1, pump 2 holds tank 2) with level setpoints for day and night,
a minimum pump flow, and the rule that raises a tank's setpoint when a batch is announced. The
law sees what a PLC sees: measured levels (noisy, held in a dropout), the order list, the pumps'
running state and the time. It never sees true levels, real batches or future prices.

Tuning: SIMC (S. Skogestad, J. Process Control 13, 2003, section 3; rule cited from memory):
Kc = tau/(K (tc + theta)), Ti = min(tau, 4 (tc + theta)), at a level of 8 cm, where for a tank
K = split tau/area. The delay theta follows from the half rule: sensor lag 20 s, half of the 60 s
filter, half of the 10 s scan. Parameters come from `benchmarks/baseline_search.py`;
docs/decisions/0002 says how they were frozen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from twin.records import Series

SCAN_S = 10.0  # the PLC computes as often as the sensors report
RAMP_CM3_PER_S_PER_MIN = 6.0
HIGHEST_FLOW = 18.0  # cm³/s, end of the pumps' range

_FILTER_S = 60.0  # first-order filter on the measured level: keeps noise out of the pumps
_DELAY_S = 20.0 + _FILTER_S / 2 + SCAN_S / 2
_AREA_CM2 = (420.0, 480.0)
_OUTLET_CM2 = (0.071, 0.057)
_SPLIT = (0.70, 0.60)
_TUNING_LEVEL_CM = 8.0
_GRAVITY_CM_PER_S2 = 981.0
_RULE_DRAW = 4.5  # cm³/s: the draw at which the rule raises to exactly `raised_cm`
_NIGHT_ENDS_S = 6 * 3600.0  # night prices hold 00:00–06:00 UTC


@dataclass(frozen=True)
class BaselineParameters:
    """Everything the operator of the AUTO mode can set. `raised_cm` None means: no rule.

    The rule: from `lead_min` before an announced start until that batch has ended, the tank's
    setpoint is at least `raised_cm` + `slope_cm_per_flow` × (announced draw − 4.5 cm³/s).
    """

    day_cm: tuple[float, float]
    night_cm: tuple[float, float]
    minimum_flow: float
    closed_loop_min: float
    raised_cm: float | None = None
    slope_cm_per_flow: float = 0.0
    lead_min: float = 0.0
    source: str = ""

    def vector(self) -> Series:
        """The numbers in the order in which `scan` reads them."""
        gains, resets_s = zip(*(self._simc(loop) for loop in (0, 1)), strict=True)
        rule = (math.nan, 0.0, 0.0)
        if self.raised_cm is not None:
            rule = (self.raised_cm, self.slope_cm_per_flow, 60.0 * self.lead_min)
        numbers = (*self.day_cm, *self.night_cm, *gains, *resets_s, self.minimum_flow, *rule)
        return np.array(numbers, dtype=np.float64)

    def _simc(self, loop: int) -> tuple[float, float]:
        """Gain in cm³/s per cm and reset time in s of one loop."""
        area, outlet = _AREA_CM2[loop], _OUTLET_CM2[loop]
        tau_s = area / outlet * math.sqrt(2 * _TUNING_LEVEL_CM / _GRAVITY_CM_PER_S2)
        effect = _SPLIT[loop] * tau_s / area
        slowness_s = 60.0 * self.closed_loop_min + _DELAY_S
        return tau_s / (effect * slowness_s), min(tau_s, 4 * slowness_s)


_DAY, _NIGHT, _GAIN, _RESET_S = 0, 2, 4, 6
_MINIMUM, _RAISED, _SLOPE, _LEAD_S = 8, 9, 10, 11


@njit(cache=True)
def level_setpoint(loop, time_s, order_start, order_draw, tuning):  # type: ignore[no-untyped-def]
    """The level (cm) that loop 0 or 1 is asked to hold; order lines are 1a, 1b, 2a, 2b."""
    is_night = time_s % 86400.0 < _NIGHT_ENDS_S
    setpoint = tuning[_NIGHT + loop] if is_night else tuning[_DAY + loop]
    if not np.isnan(tuning[_RAISED]):
        for line in range(2 * loop, 2 * loop + 2):
            draw = order_draw[line]
            if draw > 0.0 and time_s >= order_start[line] - tuning[_LEAD_S]:
                raised = tuning[_RAISED] + tuning[_SLOPE] * (draw - _RULE_DRAW)
                setpoint = max(setpoint, raised)
    return setpoint


@njit(cache=True)
def scan(loop, is_auto, is_running, error, setpoint, integral, tuning):  # type: ignore[no-untyped-def]
    """One scan of a loop: the pump's new flow setpoint (cm³/s) and integral.

    `error` is wanted minus filtered level in cm. Out of AUTO the integral follows the setpoint,
    so that a return moves nothing. It stands still while the pump is tripped and when it would
    push further into a limit (anti-windup by conditional integration). In AUTO the setpoint
    moves no faster than the PLC's ramp.
    """
    gain = tuning[_GAIN + loop]
    if not is_auto:
        return setpoint, setpoint - gain * error
    moved = integral
    if is_running:
        moved += gain * error * SCAN_S / tuning[_RESET_S + loop]
    wanted = gain * error + moved
    allowed = min(max(wanted, tuning[_MINIMUM]), HIGHEST_FLOW)
    if (wanted - allowed) * error > 0.0:
        moved = integral
    step = RAMP_CM3_PER_S_PER_MIN * SCAN_S / 60.0
    return min(max(allowed, setpoint - step), setpoint + step), moved


@njit(cache=True)
def filtered(before, measured):  # type: ignore[no-untyped-def]
    """The level the loops use, cm: a first-order filter of what the sensor shows."""
    return before + (1.0 - math.exp(-SCAN_S / _FILTER_S)) * (measured - before)


_SOURCE = "baseline_search.py, search seed 7, seeds 1000–1059, 10 000 candidates, 2026-11-21"

#: The baseline that comparisons are fair against: PI with the announcement rule.
RULE = BaselineParameters(
    day_cm=(6.74, 6.59),
    night_cm=(8.41, 9.96),
    minimum_flow=7.8,
    closed_loop_min=1.2,
    raised_cm=15.03,
    slope_cm_per_flow=0.35,
    lead_min=21.55,
    source=_SOURCE,
)

#: The same loops without the rule, shown beside it.
PLAIN = BaselineParameters(
    day_cm=(14.62, 16.09),
    night_cm=(15.79, 16.31),
    minimum_flow=7.2,
    closed_loop_min=1.2,
    source=_SOURCE,
)
