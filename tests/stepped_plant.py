"""One tank whose PLC takes setpoints in steps, and says where its loops really stand.

A tool of the tests: in AUTO a loop uses a setpoint of its own; what a client wrote counts from
REMOTE on, at once, with whatever bump that makes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from one_tank import NOON, PUMPS, Tank, one_tank

from twin.plant import Limits, Plant, Role, Tag, WindUp
from twin.records import BAD, Reading

FREE, LOW, HIGH, STUCK = 0.0, 1.0, 2.0, 3.0


def stepped_tank(port: int, **source: object) -> Plant:
    """The one tank, with the setpoint that each loop uses and its limit status."""
    plant = one_tank(port, **source)
    tags = tuple(
        replace(
            tag,
            downstream=tag.name.replace("setpoint", "used"),
            windup=WindUp(tag.name.replace("setpoint", "limit")),
            engineering=Limits(low=0, high=16),
        )
        if tag.role is Role.MV
        else tag
        for tag in plant.tags
    )
    more = tuple(
        Tag(name=f"{pump}.{what}", role=Role.AUX, unit=unit, node=f"{pump}.{what}")
        for pump in PUMPS
        for what, unit in (("used", "cm**3/s"), ("limit", ""))
    )
    return replace(plant, tags=(*tags, *more), interlocks=())


class SteppedTank(Tank):
    """Its truth. `bumps` are the jumps that its loops have made; `heard` hears every write."""

    def __init__(self, plant: Plant, *, seed: int = 0, start: datetime = NOON) -> None:
        super().__init__(plant, seed=seed, start=start)
        self.renew()

    def renew(self) -> None:
        """As new: both loops in AUTO at 8, what was last written long ago still 5."""
        self.setpoints, self.modes = dict.fromkeys(PUMPS, 5.0), dict.fromkeys(PUMPS, 0)
        self.used = dict.fromkeys(PUMPS, 8.0)
        self.limits = dict.fromkeys(PUMPS, FREE)
        self.drift, self.most = 0.0, 18.0  # per sample in AUTO; what it clamps setpoints to
        self.most_used = 18.0  # what it clamps to behind the setpoint that it shows
        self.unknown: set[str] = set()
        self.is_stopped = self.drops_writes = self.is_frozen = False
        self.refusal = None
        self.heard: Callable[[str, float], None] = lambda name, value: None
        self.bumps: list[float] = []
        self.writes.clear()

    def _row(self, row: int) -> list[Reading]:
        for pump in PUMPS:
            if self.modes[pump] == 0:
                self.used[pump] += self.drift
        shown = {f"{pump}.used": self.used[pump] for pump in PUMPS}
        shown |= {f"{pump}.limit": self.limits[pump] for pump in PUMPS}
        extra = [Reading(name, value, 0, self.now, self.now) for name, value in shown.items()]
        return [
            replace(each, quality=BAD) if each.tag in self.unknown else each
            for each in (*super()._row(row), *extra)
        ]

    def write(self, name: str, value: float) -> str | None:
        if "." not in name or name.startswith("plc."):
            return super().write(name, value)
        self.writes.append((name, value))
        if self.refusal is not None:
            return self.refusal
        pump, kind = name.split(".")
        if kind == "mode":
            self.modes[pump] = int(value)
        elif not self.drops_writes:
            self.setpoints[pump] = min(value, self.most)
        if self.modes[pump] == 1:
            self.bumps.append(abs(self.setpoints[pump] - self.used[pump]))
            self.used[pump] = min(self.setpoints[pump], self.most_used)
        self.heard(name, value)
        return None
