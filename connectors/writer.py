"""The writing process: rounds over a lasting link, by one process at a time.

Every round lets go of what must go back to the plant, then writes what is accepted. What may be
written is `connectors.writeback`'s, what goes back `connectors.handback`'s, and what the PLC is
shown beside it `connectors.safeguards`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable, Mapping
from functools import partial

from connectors.advice import Advice
from connectors.ending import end_tasks
from connectors.handback import HandBacks
from connectors.lease import WriterLease
from connectors.opcua import Session
from connectors.readback import Writer, in_thread
from connectors.safeguards import Safeguards
from connectors.security import Access
from connectors.writeback import settle_begun, write_accepted
from twin.clock import PlantClock
from twin.errors import EndpointUnavailable, HistorianError
from twin.plant import Plant
from twin.records import WriteOutcome

PROCESS = "write"
LATCH = "latch"  # in its beat: the path of the stop latch that it obeys

_BEAT_WALL_S = 2.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 15.0


async def run_writer(
    writer: Writer,
    *,
    stop: asyncio.Event,
    endpoint: str | None = None,
    access: Access | None = None,
    poll_s: float = 0.5,
    is_well: Callable[[], bool] = lambda: True,
    on_outcome: Callable[[WriteOutcome], None] = lambda _: None,
    on_waiting: Callable[[str], None] = lambda _: None,
) -> None:
    """Write accepted proposals and beat for the PLC until `stop` is set; reconnect for ever.

    While another process writes to this plant it waits; `on_waiting` hears who that is. Its latch
    is shown at the plant all the same.
    The PLC's heartbeat goes out only while `is_well()` and the stop latch is released; `is_well`
    is asked in a thread. A set latch is shown on the PLC's stop node within `poll_s`, whatever a
    round of writing waits for. Once it is released the node is cleared, also by a writer started
    since, but only where a writer of ours had set it: a stop set at the plant stays, and the
    beat tells of it (`plant_stop`).

    Raises:
        NodeFault: nodes of the plant file are missing or have the wrong type.
    """
    pause_s = _FIRST_PAUSE_S
    clock: PlantClock | None = None
    lease = WriterLease(writer)
    duty = _Duty(writer, Safeguards(writer, is_well, poll_s), on_outcome)
    waits_for = ""
    try:
        while not stop.is_set():
            holder = await lease.take()
            if holder and holder != waits_for:
                on_waiting(holder)
            waits_for = holder
            if holder:
                await _stand_by(duty, lease, stop, endpoint, access)
                await _pause(stop, _FIRST_PAUSE_S)
                continue
            try:
                # The clock goes on: a frozen source does not grow young when we reconnect.
                async with Session(
                    writer.plant, endpoint=endpoint, clock=clock, access=access
                ) as session:
                    pause_s, clock = _FIRST_PAUSE_S, session.clock
                    await _serve(duty, lease, session, stop, poll_s)
            except EndpointUnavailable as lost:
                await duty.beat({"link": f"lost: {lost}"})
                await _pause(stop, pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
    finally:
        await lease.give_up()


async def _stand_by(
    duty: _Duty,
    lease: WriterLease,
    stop: asyncio.Event,
    endpoint: str | None,
    access: Access | None,
) -> None:
    """While another process writes and our latch is set: the stop reaches the plant all the same.

    The holder of the lease may obey another latch.
    """
    if not duty.is_stopped():
        return
    with contextlib.suppress(EndpointUnavailable):  # asked again after a pause
        async with Session(duty.plant, endpoint=endpoint, access=access) as session:
            while duty.is_stopped() and not stop.is_set() and await lease.take():
                await duty.safeguards.show_stop(session)
                await _pause(stop, _FIRST_PAUSE_S)


async def _serve(
    duty: _Duty, lease: WriterLease, session: Session, stop: asyncio.Event, poll_s: float
) -> None:
    """Rounds of writing until `stop`, or until another process has the lease."""
    leased = asyncio.create_task(lease.keep())
    beside: list[asyncio.Task[None]] = []
    try:
        await duty.begin(session)
        beside += [
            asyncio.create_task(duty.safeguards.keep_stop_shown(session)),
            asyncio.create_task(duty.safeguards.keep_heart_beating(session)),
        ]
        while not (stop.is_set() or leased.done()):
            for ended in (task for task in beside if task.done()):
                ended.result()
            await duty.round(session)
            await _pause(stop, poll_s)
        if not leased.done():
            await duty.end(session)
    finally:
        await end_tasks(leased, *beside)


class _Duty:
    """What the writing process does in every round, and remembers between rounds."""

    def __init__(
        self,
        writer: Writer,
        safeguards: Safeguards,
        on_outcome: Callable[[WriteOutcome], None],
    ) -> None:
        self.safeguards = safeguards
        self._writer = writer
        self._hand_backs = HandBacks(writer)
        self._advice = Advice(writer)
        self._unwritable: list[str] = []
        self._on_outcome = on_outcome
        self._beat_due_s = 0.0
        self._said: dict[str, object] = {}

    @property
    def plant(self) -> Plant:
        return self._writer.plant

    def is_stopped(self) -> bool:
        """Whether our latch is set, or cannot be read."""
        return self._writer.is_stopped() is not False

    async def begin(self, session: Session) -> None:
        """A new session: the PLC may have started anew, and let go meanwhile."""
        self._hand_backs.begin()
        self._advice.begin()
        await self.safeguards.begin(session)
        self._unwritable = await session.write_refusals()

    async def round(self, session: Session) -> None:
        """Let go of what must go, write what is accepted, tell that we live."""
        said: dict[str, object] = {"link": "live"}
        try:
            said["plant_stop"] = await self.safeguards.is_stopped_at_plant(session)
            outcomes, busy = await settle_begun(self._writer, session)
            await self._hand_backs.round(session, busy)
            await self._advice.round(session)
            if not self.safeguards.is_clearing_stop():
                outcomes += await write_accepted(self._writer, session)
            for outcome in outcomes:
                self._on_outcome(outcome)
        except HistorianError as away:
            said["database_trouble"] = str(away)
        if session.security_warning:
            said["security"] = session.security_warning
        troubles = [*self.safeguards.troubles.values(), self._advice.trouble, *self._unwritable]
        if text := " ".join(dict.fromkeys(each for each in troubles if each)):
            said["plc"] = text
        loop_s = asyncio.get_running_loop().time()
        if loop_s >= self._beat_due_s or said != self._said:
            self._beat_due_s = loop_s + _BEAT_WALL_S
            await self.beat(said)
            self._said = said

    async def end(self, session: Session) -> None:
        """Leave in order: nobody keeps an advice true from now on."""
        with contextlib.suppress(HistorianError):
            await self._advice.withdraw(session, "the writing process ended")

    async def beat(self, said: Mapping[str, object]) -> None:
        """Tell the other processes that we live; silence tells the rest."""
        tell = partial(self._writer.historian.beat, self._writer.plant, PROCESS)
        detail = json.dumps({**said, LATCH: self._writer.latch})
        with contextlib.suppress(HistorianError):
            await in_thread(tell, self._writer.wall_now(), os.getpid(), detail)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
