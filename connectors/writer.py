"""The writing process: rounds of write-back over a lasting link, and the PLC's own safeguards.

The PLC lets go of its setpoints by itself: when our heartbeat ends, when its stop node is set, or
when it is told so (shed). What is written and whether it may be is `connectors.writeback`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count

from connectors.opcua import Session
from connectors.writeback import Target, Writer, in_thread, read_back, write_accepted
from twin.clock import PlantClock
from twin.errors import EndpointUnavailable, HistorianError, WriteFault
from twin.plant import Plant
from twin.records import WriteOutcome
from twin.safety import tripped
from twin.state import plant_state

PROCESS = "write"

_STOP_NODE = "stop node"  # kind of the audit rows that say what we told it last
_STOP_SHOWN, _STOP_CLEARED = "shown to the PLC", "cleared at the PLC"

_HEARTBEAT_WALL_S = 5.0
_HEARTBEATS_PER_TIMEOUT = 4.0
_BEAT_WALL_S = 2.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 15.0


async def heartbeat(session: Session, plant: Plant, number: int) -> None:
    """Show the PLC that we are well, where it asks for that: a `number` other than the last."""
    if plant.opcua is not None and plant.opcua.heartbeat_node is not None:
        await session.write(plant.opcua.heartbeat_node, number % 2**31)


async def show_stop(session: Session, plant: Plant, is_stopped: bool) -> None:
    """Set or release the PLC's own stop, where it has one."""
    if plant.opcua is not None and plant.opcua.stop_node is not None:
        await session.write(plant.opcua.stop_node, float(is_stopped))


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

    The PLC's heartbeat goes out only while `is_well()` and the stop latch is released; `is_well`
    is asked in a thread. A set latch is shown on the PLC's stop node within `poll_s`, whatever a
    round of writing waits for. Once it is released the node is cleared, also by a writer started
    since, but only where a writer of ours had set it: a stop set at the plant stays.

    Raises:
        NodeFault: nodes of the plant file are missing or have the wrong type.
    """
    pause_s = _FIRST_PAUSE_S
    clock: PlantClock | None = None
    duty = _Duty(writer, poll_s, is_well, on_outcome)
    while not stop.is_set():
        try:
            # The clock goes on: a frozen source does not grow young when we reconnect.
            async with Session(writer.plant, endpoint=endpoint, clock=clock) as session:
                pause_s, clock = _FIRST_PAUSE_S, session.clock
                await _serve(duty, session, stop, poll_s)
        except EndpointUnavailable as lost:
            await duty.beat({"link": f"lost: {lost}"})
            await _pause(stop, pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


async def _serve(duty: _Duty, session: Session, stop: asyncio.Event, poll_s: float) -> None:
    """Rounds of writing until `stop`; beside them the PLC is kept told of stop and heartbeat."""
    await duty.begin(session)
    beside = (
        asyncio.create_task(duty.keep_stop_shown(session)),
        asyncio.create_task(duty.keep_heart_beating(session)),
    )
    try:
        while not stop.is_set():
            for ended in (task for task in beside if task.done()):
                ended.result()
            await duty.round(session)
            await _pause(stop, poll_s)
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)


class _Duty:
    """What the writing process does in every round, and remembers between rounds."""

    def __init__(
        self,
        writer: Writer,
        poll_s: float,
        is_well: Callable[[], bool],
        on_outcome: Callable[[WriteOutcome], None] | None,
    ) -> None:
        self._writer = writer
        self._poll_s = poll_s
        self._is_well = is_well
        self._on_outcome = on_outcome
        self._numbers = count(1)
        self._beat_due_s = 0.0
        self._shown: bool | None = None  # what the PLC's stop node was told in this session
        self._troubles: dict[str, str] = {}

    async def begin(self, session: Session) -> None:
        """Tell a PLC anew that may have started anew."""
        self._shown = None
        await self._follow_stop(session)

    async def round(self, session: Session) -> None:
        """Let go of what an interlock blocks, write what is accepted, tell that we live."""
        said: dict[str, object] = {"link": "live"}
        try:
            await self._shed_interlocked(session)
            if not self._is_clearing_stop():
                for outcome in await write_accepted(self._writer, session):
                    if self._on_outcome is not None:
                        self._on_outcome(outcome)
        except HistorianError as away:
            said["database_trouble"] = str(away)
        if self._troubles:
            said["plc"] = " ".join(self._troubles.values())
        loop_s = asyncio.get_running_loop().time()
        if loop_s >= self._beat_due_s or len(said) > 1:
            self._beat_due_s = loop_s + _BEAT_WALL_S
            await self.beat(said)

    async def beat(self, said: Mapping[str, object]) -> None:
        """Tell the other processes that we live; silence tells the rest."""
        tell = partial(self._writer.historian.beat, self._writer.plant, PROCESS)
        with contextlib.suppress(HistorianError):
            await in_thread(tell, self._writer.wall_now(), os.getpid(), json.dumps(said))

    async def keep_stop_shown(self, session: Session) -> None:
        """Make the PLC's stop node follow the latch, until the link is lost."""
        while True:
            await self._follow_stop(session)
            await asyncio.sleep(self._poll_s)

    async def _follow_stop(self, session: Session) -> None:
        """Set the PLC's stop node with the latch; clear it after, if it was us who set it."""
        source = self._writer.plant.opcua
        node = source.stop_node if source is not None else None
        is_stopped = self._is_stopped()
        if node is None or is_stopped is self._shown:
            return
        with self._told("stop"):
            if is_stopped:
                await show_stop(session, self._writer.plant, True)
                await self._note_stop(session, node, _STOP_SHOWN)
            elif await self._last_note(node) == _STOP_SHOWN:
                if self._is_stopped():  # again, while the database was asked
                    return
                await show_stop(session, self._writer.plant, False)
                await self._note_stop(session, node, _STOP_CLEARED)
            self._shown = is_stopped

    async def keep_heart_beating(self, session: Session) -> None:
        """Show the PLC that we are well, for as long as we are, until the link is lost."""
        while True:
            with self._told("heartbeat"):
                if await in_thread(self._is_well) and not self._is_stopped():
                    await heartbeat(session, self._writer.plant, next(self._numbers))
                    await asyncio.sleep(_heartbeat_every_s(session))
            await asyncio.sleep(self._poll_s)

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Tell of what the PLC refuses, or of a database that is away, with the next beats."""
        try:
            yield
        except (WriteFault, HistorianError) as fault:
            self._troubles[what] = str(fault)
        else:
            self._troubles.pop(what, None)

    def _is_clearing_stop(self) -> bool:
        """Whether a release has yet to reach the PLC; what is accepted since can wait for that."""
        return self._shown is True and not self._is_stopped() and "stop" not in self._troubles

    def _is_stopped(self) -> bool:
        return self._writer.is_stopped() is not False

    async def _note_stop(self, session: Session, node: str, message: str) -> None:
        """Remember in the audit what we told this node last."""
        if await self._last_note(node) != message:
            note = partial(self._writer.historian.event, self._writer.plant, _STOP_NODE, node)
            await in_thread(note, message, session.clock.now(), PROCESS)

    async def _last_note(self, node: str) -> str:
        events = partial(self._writer.historian.events, self._writer.plant)
        last = await in_thread(events, 1, _STOP_NODE, node)
        return last[0].message if last else ""

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


def _heartbeat_every_s(session: Session) -> float:
    """Wall seconds between heartbeats: at most five, and several per timeout of the PLC."""
    source = session.plant.opcua
    timeout_s = source.heartbeat_timeout_s if source is not None else _HEARTBEAT_WALL_S
    return min(_HEARTBEAT_WALL_S, timeout_s / session.clock.speed / _HEARTBEATS_PER_TIMEOUT)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
