"""The PLC's own safeguards, seen from us: its stop node and the heartbeat it asks for.

The PLC lets go of its setpoints by itself: when our heartbeat ends, or when its stop node is set.
The node follows our latches; a stop that was set at the plant is told and never cleared by us.
Writers on one database may obey a latch each: any of them sets the node, and whoever writes clears
it once every latch that the node was told of is released.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count, takewhile

from connectors.handback import STOP_NODE
from connectors.opcua import Session
from connectors.readback import Writer, in_thread
from connectors.stop import StopLatch
from twin.errors import HistorianError, WriteFault
from twin.plant import OpcUaSource

_PLANT_STOP = "plant stop"  # kind of the audit rows about a stop that is not ours
_SHOWN, _CLEARED = "shown to the PLC", "cleared at the PLC"
_OF = f"{_SHOWN}: "  # and the latch
_SHOWN_ROWS = 100  # latches told of since the node was last clear; there are seldom two

#: A writer that sets the node tells the audit right after; a busy machine takes a second for it.
_CLAIMED_WITHIN_S = 5.0
_HEARTBEAT_WALL_S = 5.0
_HEARTBEATS_PER_TIMEOUT = 4.0


class Safeguards:
    """Stop node and heartbeat of one writing process, over its sessions.

    `troubles` is what the PLC refuses, or a database that is away, in words.
    """

    def __init__(self, writer: Writer, is_well: Callable[[], bool], poll_s: float) -> None:
        source = writer.plant.opcua
        self._writer = writer
        self._is_well = is_well
        self._poll_s = poll_s
        self._stop_node = source.stop_node if source is not None else None
        self._heartbeat_nodes = _heartbeat_nodes(source)
        self._numbers = count(1)
        self._latch = writer.latch
        self._shown: bool | None = None  # what the node was told of our latch; None: to be told
        self._have_set = False  # by this process; the audit may not know it yet
        self._is_plants_own: bool | None = None  # as it was told last
        self._unclaimed_since_s: float | None = None  # set by whom is not known yet
        self._one_at_a_time = asyncio.Lock()
        self.troubles: dict[str, str] = {}

    async def begin(self, session: Session) -> None:
        """Tell a PLC anew that may have started anew."""
        self._shown = None
        await self.follow_latch(session)

    async def show_stop(self, session: Session) -> None:
        """Set the PLC's stop node, if need be, for a latch that is set. Anybody may stop."""
        async with self._one_at_a_time:
            with self._told("stop"):
                if self._stop_node is not None and self._is_stopped():
                    await self._show_stop(session, self._stop_node)

    async def keep_stop_shown(self, session: Session) -> None:
        """Make the PLC's stop node follow the latch, until the link is lost."""
        while True:
            await self.follow_latch(session)
            await asyncio.sleep(self._poll_s)

    async def keep_heart_beating(self, session: Session) -> None:
        """Show the PLC that we are well, for as long as we are, until the link is lost.

        The beat is a number other than the last; a PLC without such a node is shown nothing.
        """
        while True:
            with self._told("heartbeat"):
                if await in_thread(self._is_well) and not self._is_stopped():
                    number = next(self._numbers) % 2**31
                    for node in self._heartbeat_nodes:
                        await session.write(node, number)
                    await asyncio.sleep(_heartbeat_every_s(session))
            await asyncio.sleep(self._poll_s)

    def is_clearing_stop(self) -> bool:
        """Whether a release has yet to reach the PLC; what is accepted since can wait for that."""
        is_told = self._stop_node is None or self._shown is False
        return not (is_told or self._is_stopped() or "stop" in self.troubles)

    async def is_stopped_at_plant(self, session: Session) -> bool:
        """Whether the plant's stop node is set, and not by us; an audit row when that changes.

        While the node shows no good number, what it showed last stands. A node that no writer of
        ours has claimed yet counts as the plant's at once, and is told some seconds later.
        """
        node = self._stop_node
        if node is None:
            return False
        async with self._one_at_a_time:
            shown = await session.read_node(node)
            is_ours = bool(shown) and await self._is_ours(node)
            is_own = bool(shown) and not is_ours
            if is_ours and not self._is_stopped():
                self._shown = None  # set by whichever writer: it is this one's to clear
            elif not is_ours:
                self.troubles.pop("latch", None)
        plant = self._writer.plant.plant
        if self._is_plants_own is None:
            told = await self._last_note(_PLANT_STOP, plant)
            self._is_plants_own = told.startswith("set")
        if shown is None:
            is_own = self._is_plants_own or self._unclaimed_since_s is not None
        was_short = self._unclaimed_since_s is not None and not is_own and not is_ours
        if is_own and not self._is_plants_own:
            now_s = asyncio.get_running_loop().time()
            if self._unclaimed_since_s is None:
                self._unclaimed_since_s = now_s
            if now_s - self._unclaimed_since_s < _CLAIMED_WITHIN_S:
                return True
        self._unclaimed_since_s = None
        if was_short and not self._is_plants_own:
            await self._tell_plants_own(session, is_own=True)
        if is_own is not self._is_plants_own:
            await self._tell_plants_own(session, is_own=is_own)
        return is_own

    async def _tell_plants_own(self, session: Session, *, is_own: bool) -> None:
        text = f"{'set' if is_own else 'cleared'} at the plant ({self._stop_node})"
        await self._note(session, _PLANT_STOP, self._writer.plant.plant, text)
        self._is_plants_own = is_own

    async def follow_latch(self, session: Session) -> None:
        """Set the PLC's stop node with the latch; clear it after, if it was us who set it."""
        if self._stop_node is None or self._is_stopped() is self._shown:
            return
        async with self._one_at_a_time:
            with self._told("stop"):
                if self._is_stopped():
                    await self._show_stop(session, self._stop_node)
                else:
                    await self._clear_stop(session, self._stop_node)

    async def _show_stop(self, session: Session, node: str) -> None:
        """Set the node, unless the plant has set it: then that stop stands, and ours follows it."""
        if not await session.read_node(node):
            await session.write(node, 1.0)
            self._have_set = True
        elif not await self._is_ours(node):
            return
        if self._latch not in await self._latches_shown(node):
            text = f"{_OF}{self._latch}" if self._latch else _SHOWN
            await self._note(session, STOP_NODE, node, text)
        self._have_set = False  # from now on the audit knows, also of who clears it
        self._shown = True

    async def _clear_stop(self, session: Session, node: str) -> None:
        if await self._is_ours(node):
            shown = await self._latches_shown(node)
            others = [each for each in shown if each not in ("", self._latch)]
            self.troubles.pop("latch", None)
            for other in others:
                if StopLatch(other).is_stopped():
                    self.troubles["latch"] = (
                        f"{node} stays set: the stop latch {other} is set too, or cannot be read. "
                        "Release it there."
                    )
                    self._shown = False
                    return
            if self._is_stopped():  # again, while the database was asked
                return
            await session.write(node, 0.0)
            self._have_set = False
            await self._note(session, STOP_NODE, node, _CLEARED)
        self._shown = False

    async def _is_ours(self, node: str) -> bool:
        """Whether the stop node was set by a writer of ours, this one or an earlier one."""
        return self._have_set or bool(await self._latches_shown(node))

    async def _latches_shown(self, node: str) -> list[str]:
        """The latches that the stop node was told of since it was last cleared, "" for unnamed."""
        rows = await self._notes(STOP_NODE, node, _SHOWN_ROWS)
        return [
            text.removeprefix(_OF) if text.startswith(_OF) else ""
            for text in takewhile(lambda told: told.startswith(_SHOWN), rows)
        ]

    def _is_stopped(self) -> bool:
        return self._writer.is_stopped() is not False

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Tell of what the PLC refuses, or of a database that is away, with the next beats."""
        try:
            yield
        except (WriteFault, HistorianError) as fault:
            self.troubles[what] = str(fault)
        else:
            self.troubles.pop(what, None)

    async def _note(self, session: Session, kind: str, subject: str, message: str) -> None:
        note = partial(self._writer.historian.event, self._writer.plant, kind, subject, message)
        await in_thread(note, session.clock.now(), "write")

    async def _last_note(self, kind: str, subject: str) -> str:
        last = await self._notes(kind, subject, 1)
        return last[0] if last else ""

    async def _notes(self, kind: str, subject: str, limit: int) -> list[str]:
        """What the audit tells of it, the newest first."""
        events = partial(self._writer.historian.events, self._writer.plant)
        return [each.message for each in await in_thread(events, limit, kind, subject)]


def _heartbeat_nodes(source: OpcUaSource | None) -> tuple[str, ...]:
    """Where the PLC looks for our heartbeat: its own node, and that of its advice."""
    if source is None:
        return ()
    of_advice = source.advisory.heartbeat_node if source.advisory is not None else None
    return tuple(node for node in (source.heartbeat_node, of_advice) if node)


def _heartbeat_every_s(session: Session) -> float:
    """Wall seconds between heartbeats: at most five, and several per timeout of the PLC."""
    source = session.plant.opcua
    timeout_s = source.heartbeat_timeout_s if source is not None else _HEARTBEAT_WALL_S
    return min(_HEARTBEAT_WALL_S, timeout_s / session.clock.speed / _HEARTBEATS_PER_TIMEOUT)
