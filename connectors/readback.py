"""What every write to the plant needs: whose round it is, and reading back what became of it.

A write that the PLC acknowledges is not believed: it counts once a newer reading shows it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from connectors.opcua import SESSION_TIMEOUT_S, Session
from twin.clock import wall_now as read_wall_clock
from twin.historian import Historian
from twin.plant import Plant
from twin.records import Reading

#: Tells whether the stop latch is set; None where that cannot be found out, which means stopped.
StopQuestion = Callable[[], bool | None]

_READ_BACK_SAMPLES = 3.0  # the plant shows a write with its next sample
_READ_BACK_PAUSE_S = 0.05

_T = TypeVar("_T")


@dataclass(frozen=True)
class Writer:
    """What a round of writing needs besides the link.

    A write must read back within three samples of the plant and `read_back_wall_s` more. One that
    got no answer may still arrive for `late_wall_s`: until its session is over, and a bit. `latch`
    is the path of the stop latch that `is_stopped` asks, absolute; empty where it has none.
    """

    plant: Plant
    historian: Historian
    is_stopped: StopQuestion
    wall_now: Callable[[], datetime] = read_wall_clock
    read_back_wall_s: float = 2.0
    late_wall_s: float = SESSION_TIMEOUT_S + 5.0
    latch: str = ""

    def read_back_s(self, session: Session) -> float:
        """Wall seconds within which the plant must show a write."""
        samples_s = _READ_BACK_SAMPLES * self.plant.sample_s / session.clock.speed
        return samples_s + self.read_back_wall_s


@dataclass(frozen=True)
class Target:
    """What a tag shall read back as."""

    value: float
    tolerance: float = 0.0

    def is_met(self, reading: Reading) -> bool:
        """Whether a reading is good and near enough."""
        if not reading.is_good or reading.value is None:
            return False
        return abs(reading.value - self.value) <= self.tolerance


async def read_back(
    session: Session,
    wanted: Mapping[str, Target],
    before: Mapping[str, Reading],
    patience_s: float,
) -> tuple[list[str], dict[str, Reading]]:
    """What does not stand as wanted after `patience_s` wall seconds, and what was read last.

    `before` was read before the write: only newer readings count, unless the tag stood right
    already.
    """
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + patience_s
    while True:
        seen = await session.read(list(wanted))
        told = [_difference(name, wanted[name], seen[name], before.get(name)) for name in wanted]
        wrong = [text for text in told if text]
        if not wrong or loop.time() >= give_up_s:
            return wrong, seen
        await asyncio.sleep(_READ_BACK_PAUSE_S)


def _difference(name: str, target: Target, now: Reading, then: Reading | None) -> str:
    """Why a tag does not stand as wanted; empty if it does."""
    if not now.is_good or now.value is None:
        return f"{name} reads back as no good number."
    if not target.is_met(now):
        return f"{name} reads back as {now.value:g}, not {target.value:g}."
    if then is not None and now.source_time <= then.source_time and not target.is_met(then):
        return f"{name} has not been updated since the write."
    return ""


async def read_all(writer: Writer, session: Session) -> dict[str, Reading]:
    """Every tag now: straight from the plant; what another source delivers, as it came last.

    Raises EndpointUnavailable when the link is lost, HistorianError when the database is away.
    """
    fresh = await session.read()
    main = writer.plant.opcua.name if writer.plant.opcua is not None else ""
    here = {tag.name for tag in writer.plant.tags_of(main)}
    if all(tag.name in here for tag in writer.plant.tags):
        return fresh
    stored = await in_thread(writer.historian.last_readings, writer.plant)
    return {name: each for name, each in stored.items() if name not in here} | fresh


async def in_thread(work: Callable[..., _T], *arguments: object) -> _T:
    """The historian blocks, so it works in a thread; a started write there is never abandoned."""
    return await asyncio.shield(asyncio.to_thread(work, *arguments))
