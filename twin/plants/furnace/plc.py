"""The real furnace's PLC: what it lets a computer write, and when its own level 2 takes over again.

It moves no slab and burns nothing: it hands setpoints to `Works`. The twin may never read this.
Times are the works' own seconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from twin.errors import UnknownTag
from twin.plants.furnace import heating as ht
from twin.plants.furnace.works import Works

PACE_LOW, PACE_HIGH = 0.80, 1.05  # the mill rolls 5 % faster than scheduled at most

_ZONES = range(1, ht.ZONES + 1)
_SWITCH = (0.0, 1.0)
_WRITABLE: Mapping[str, tuple[float, float]] = {
    **{
        f"zone_{z}.setpoint": (float(ht.SETPOINT_LOW_C[z - 1]), float(ht.SETPOINT_HIGH_C[z - 1]))
        for z in _ZONES
    },
    **{f"zone_{z}.mode": _SWITCH for z in _ZONES},
    "pace.setpoint": (PACE_LOW, PACE_HIGH),
    "pace.mode": _SWITCH,
    "plc.heartbeat": (-1e15, 1e15),
    "plc.stop": _SWITCH,
}


class Plc:
    """The loops of one furnace: AUTO follows the level 2, REMOTE the last setpoint written.

    An AUTO zone keeps its setpoint until the level 2 asks anew, within a minute, and every change
    goes through the setpoint's ramp: no return is a bump.
    """

    def __init__(self, works: Works, heartbeat_timeout_s: float) -> None:
        self._works = works
        self._timeout_s = heartbeat_timeout_s
        self._heartbeat_s = -math.inf
        self.is_stopped = False
        self.pace_is_remote = False

    @property
    def silent_from_s(self) -> float:
        """The first scan at which the heartbeat is too old; infinite while nothing is REMOTE."""
        if not (self._works.is_remote.any() or self.pace_is_remote):
            return math.inf
        last_s = self._heartbeat_s + self._timeout_s
        return (math.floor(last_s / ht.SCAN_S) + 1) * ht.SCAN_S

    def watch(self) -> None:
        """Return everything to AUTO if the heartbeat has been silent for too long."""
        if self._works.now_s - self._heartbeat_s > self._timeout_s:
            self._return_to_auto()

    def write(self, name: str, value: object) -> str | None:
        """What becomes of a write: None when done, else why it was refused and changed nothing."""
        refusal = self._refusal(name, value)
        if refusal is not None:
            return refusal
        number = float(value)  # type: ignore[arg-type]  # `_refusal` has seen a number
        loop, _, what = name.partition(".")
        is_remote = what == "setpoint" or bool(number)
        if name == "plc.heartbeat":
            self._heartbeat_s = self._works.now_s
        elif name == "plc.stop":
            self.is_stopped = bool(number)
            if self.is_stopped:
                self._return_to_auto()
        elif loop == "pace":
            self._set_pace(number if what == "setpoint" else self._works.pace, is_remote)
        else:
            zone = int(loop[-1]) - 1
            self._works.is_remote[zone] = is_remote
            if what == "setpoint":
                self._works.zones.wanted[zone] = number
        return None

    def read(self, name: str, zero_s: float) -> float:
        """What a writable node shows, with the heartbeat's time counted from `zero_s`.

        Raises UnknownTag for any other name.
        """
        if name == "plc.heartbeat":
            return zero_s + self._heartbeat_s
        if name == "plc.stop":
            return float(self.is_stopped)
        if name not in _WRITABLE:
            raise UnknownTag(f"{name}: the PLC has no such writable node")
        loop, _, what = name.partition(".")
        if loop == "pace":
            return self._works.pace if what == "setpoint" else float(self.pace_is_remote)
        shown = self._works.zones.wanted if what == "setpoint" else self._works.is_remote
        return float(shown[int(loop[-1]) - 1])

    def _set_pace(self, pace: float, is_remote: bool) -> None:
        """The mill takes it with its next slab; in AUTO it keeps its schedule."""
        self.pace_is_remote = is_remote
        self._works.pace = pace if is_remote else 1.0

    def _return_to_auto(self) -> None:
        self._works.is_remote[:] = False
        self._set_pace(1.0, is_remote=False)

    def _refusal(self, name: str, value: object) -> str | None:
        limits = _WRITABLE.get(name)
        if limits is None:
            return f"{name}: the PLC has no such writable node. Writable: {', '.join(_WRITABLE)}."
        if not isinstance(value, (bool, int, float, np.integer, np.floating)):
            return f"{name}: {value!r} is not a number. Nothing was changed."
        number = float(value)
        if not math.isfinite(number) or not limits[0] <= number <= limits[1]:
            low, high = limits
            return (
                f"{name}: {number:g} is outside the PLC's range {low:g} to {high:g}. "
                "Nothing was changed."
            )
        if limits == _SWITCH and number not in limits:
            return f"{name}: {number:g} is neither 0 nor 1. Nothing was changed."
        if name.endswith(".setpoint") or (name.endswith(".mode") and number == 1):
            return self._no_remote(name)
        return None

    def _no_remote(self, name: str) -> str | None:
        """Why no loop may go to REMOTE now, or None."""
        if self.is_stopped:
            return f"{name}: the stop is set (plc.stop = 1). Release it first. Nothing was changed."
        age_s = self._works.now_s - self._heartbeat_s
        if age_s <= self._timeout_s:
            return None
        silence = "was never written" if math.isinf(age_s) else f"is {age_s:.0f} s old"
        return (
            f"{name}: plc.heartbeat {silence}; REMOTE needs one within {self._timeout_s:g} s. "
            "Nothing was changed."
        )
