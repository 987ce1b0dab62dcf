"""The writing process: rounds of write-back over a lasting link, and the PLC's own safeguards.

The PLC lets go of its setpoints by itself: when our heartbeat ends, when its stop node is set, or
when it is told so (shed). What is written and whether it may be is `connectors.writeback`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count

from connectors.opcua import Session
from connectors.writeback import Target, Writer, in_thread, read_back, write_accepted
from twin.errors import EndpointUnavailable, HistorianError, WriteFault
from twin.plant import Plant
from twin.records import WriteOutcome
from twin.safety import tripped
from twin.state import plant_state

PROCESS = "write"

_HEARTBEAT_WALL_S = 5.0
_HEARTBEATS_PER_TIMEOUT = 4.0
_BEAT_WALL_S = 2.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 15.0


async def heartbeat(session: Session, plant: Plant, number: int) -> None:
    """Show the PLC that we are well, where it asks for that: a `number` other than the last."""
    if plant.opcua is not None and plant.opcua.heartbeat_node is not None:
        await session.write_node(plant.opcua.heartbeat_node, number % 2**31)


async def show_stop(session: Session, plant: Plant, is_stopped: bool) -> None:
    """Set or release the PLC's own stop, where it has one."""
    if plant.opcua is not None and plant.opcua.stop_node is not None:
        await session.write_node(plant.opcua.stop_node, float(is_stopped))


async def shed(writer: Writer, session: Session, mvs: Sequence[str], reason: str) -> list[str]:
    """Give MVs back to the plant's own control; what does not stand in AUTO afterwards.

    Needs no clearance and no released stop: letting go is always allowed.

    Raises:
        EndpointUnavailable: the link is lost. The PLC lets go by itself when the heartbeat ends.
    """
    remotes = [mode for mode in (writer.plant.tag(mv).remote for mv in mvs) if mode is not None]
    before = await session.read([mode.tag for mode in remotes])
    faults: list[str] = []
    for mode in remotes:
        try:
            await session.write(mode.tag, mode.auto)
        except WriteFault as fault:
            faults.append(str(fault))
    wanted = {mode.tag: Target(float(mode.auto)) for mode in remotes}
    patience_s = 0.0 if faults else writer.read_back_s(session)
    wrong, _ = await read_back(session, wanted, before, patience_s)
    result = " ".join([*faults, *wrong]) or "in AUTO"
    note = partial(writer.historian.event, writer.plant, "shed", ", ".join(mvs))
    await in_thread(note, f"{reason}: {result}", session.clock.now(), PROCESS)
    return [*faults, *wrong]


async def run_writer(
    writer: Writer,
    *,
    stop: asyncio.Event,
    endpoint: str | None = None,
    poll_s: float = 0.5,
    is_well: Callable[[], bool] = lambda: True,
    on_outcome: Callable[[WriteOutcome], None] | None = None,
) -> None:
    """Write accepted proposals and beat for the PLC until `stop` is set; reconnect for ever.

    The PLC's heartbeat goes out only while `is_well()` and the stop latch is released. A set
    latch is shown on the PLC's stop node; only a release seen by this process, or `show_stop`
    called for a person, clears that node again.

    Raises:
        NodeFault: nodes of the plant file are missing or have the wrong type.
    """
    pause_s = _FIRST_PAUSE_S
    duty = _Duty(writer, is_well, on_outcome)
    while not stop.is_set():
        try:
            async with Session(writer.plant, endpoint=endpoint) as session:
                pause_s = _FIRST_PAUSE_S
                while not stop.is_set():
                    await duty.round(session)
                    await _pause(stop, poll_s)
        except EndpointUnavailable as lost:
            await duty.beat({"link": f"lost: {lost}"})
            await _pause(stop, pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


class _Duty:
    """What the writing process does in every round, and remembers between rounds."""

    def __init__(
        self,
        writer: Writer,
        is_well: Callable[[], bool],
        on_outcome: Callable[[WriteOutcome], None] | None,
    ) -> None:
        self._writer = writer
        self._is_well = is_well
        self._on_outcome = on_outcome
        self._numbers = count(1)
        self._heartbeat_due_s = 0.0
        self._beat_due_s = 0.0
        self._has_shown_stop = False

    async def round(self, session: Session) -> None:
        """Care for the PLC's safeguards, write what is accepted, tell that we live."""
        said: dict[str, object] = {"link": "live"}
        try:
            await self._care_for_plc(session)
            await self._shed_interlocked(session)
        except WriteFault as fault:
            said["plc"] = str(fault)
        try:
            for outcome in await write_accepted(self._writer, session):
                if self._on_outcome is not None:
                    self._on_outcome(outcome)
        except HistorianError as away:
            said["database_trouble"] = str(away)
        loop_s = asyncio.get_running_loop().time()
        if loop_s >= self._beat_due_s or len(said) > 1:
            self._beat_due_s = loop_s + _BEAT_WALL_S
            await self.beat(said)

    async def beat(self, said: Mapping[str, object]) -> None:
        """Tell the other processes that we live; silence tells the rest."""
        tell = partial(self._writer.historian.beat, self._writer.plant, PROCESS)
        with contextlib.suppress(HistorianError):
            await in_thread(tell, self._writer.wall_now(), os.getpid(), json.dumps(said))

    async def _shed_interlocked(self, session: Session) -> None:
        """Give an MV back to the PLC while an interlock of it is tripped."""
        plant = self._writer.plant
        if not plant.interlocks:
            return
        state = plant_state(plant, await session.read(), session.clock.now())
        for mv, message in tripped(plant, state).items():
            mode = plant.tag(mv).remote
            if mode is not None and state.value(mode.tag) == mode.remote:
                await shed(self._writer, session, [mv], message)

    async def _care_for_plc(self, session: Session) -> None:
        plant = self._writer.plant
        is_stopped = self._writer.is_stopped() is not False
        if is_stopped is not self._has_shown_stop:
            await show_stop(session, plant, is_stopped)
            self._has_shown_stop = is_stopped
        loop_s = asyncio.get_running_loop().time()
        if not is_stopped and self._is_well() and loop_s >= self._heartbeat_due_s:
            await heartbeat(session, plant, next(self._numbers))
            self._heartbeat_due_s = loop_s + _heartbeat_every_s(session)


def _heartbeat_every_s(session: Session) -> float:
    """Wall seconds between heartbeats: at most five, and several per timeout of the PLC."""
    source = session.plant.opcua
    timeout_s = source.heartbeat_timeout_s if source is not None else _HEARTBEAT_WALL_S
    return min(_HEARTBEAT_WALL_S, timeout_s / session.clock.speed / _HEARTBEATS_PER_TIMEOUT)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
