"""The writing process's lease: of all that share a database, one writes to a plant.

It runs out by itself when its holder is gone. A database that is away is no reason to leave the
plant alone: nothing can be written then, and a stop must still reach the PLC.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from datetime import timedelta

from connectors.readback import Writer, in_thread
from twin.errors import HistorianError

_ROLE = "write"
# Chosen: after a killed writer the next one is there before an emulator at 60 times the speed
# misses the heartbeat (10 s); four chances to renew it.
_LIFETIME = timedelta(seconds=6)
_RENEW_WALL_S = 1.5


class WriterLease:
    """One writing process's claim on a plant."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._owner = f"process {os.getpid()} on {socket.gethostname()} ({secrets.token_hex(4)})"

    async def take(self) -> str:
        """Take or renew it; who else has it, empty if nobody."""
        now = self._writer.wall_now()
        historian, plant = self._writer.historian, self._writer.plant
        try:
            holder = await in_thread(
                historian.take_lease, plant, _ROLE, self._owner, now, now + _LIFETIME
            )
        except HistorianError:
            return ""
        return "" if holder == self._owner else holder

    async def keep(self) -> str:
        """Renew it for as long as it is ours; then who has it."""
        while True:
            if holder := await self.take():
                return holder
            await asyncio.sleep(_RENEW_WALL_S)

    async def give_up(self) -> None:
        """Let another have it at once."""
        try:
            historian = self._writer.historian
            await in_thread(historian.end_lease, self._writer.plant, _ROLE, self._owner)
        except HistorianError:
            return  # it runs out by itself
