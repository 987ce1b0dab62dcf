"""Of all processes that collect one plant into one database, one does so at a time.

On one machine the spool says who, for all machines a lease in the database, which runs out by
itself when its holder is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta

from connectors.audit import PROCESS
from connectors.progress import Progress
from connectors.spool import Spool
from twin.errors import HistorianError, SpoolTaken
from twin.historian import Historian
from twin.plant import Plant

_LEASE = timedelta(seconds=20)  # a killed collector on another machine is in the way for so long
_RENEW_S, _RENEW_AGAIN_S = 5.0, 1.0  # and where nobody could say
_WAIT_S = 1.0  # between two looks at whether another collector has ended


async def keep_lease(
    historian: Historian,
    plant: Plant,
    owner: str,
    wall_now: Callable[[], datetime],
    is_ours: asyncio.Event,
) -> None:
    """Renew the lease until another process has it, and let `is_ours` tell whose it is.

    While nobody can say, it stands.
    """
    while True:
        try:
            holder = await asyncio.to_thread(_take_lease, historian, plant, owner, wall_now())
        except HistorianError:
            await asyncio.sleep(_RENEW_AGAIN_S)
            continue
        if holder != owner:
            is_ours.clear()
            return
        is_ours.set()
        await asyncio.sleep(_RENEW_S)


class Waiting:
    """What a second collector does: nothing but say for whom it waits."""

    def __init__(
        self,
        plant: Plant,
        historian: Historian,
        wall_now: Callable[[], datetime],
        on_progress: Callable[[Progress], None] | None,
        stop: asyncio.Event,
    ) -> None:
        self._plant = plant
        self._historian = historian
        self._wall_now = wall_now
        self._on_progress = on_progress
        self._stop = stop

    async def for_spool(self, spool: Spool) -> bool:
        """Open the spool, once no other process has it; False where we shall stop instead."""
        while True:
            try:
                await asyncio.to_thread(spool.__enter__)
            except SpoolTaken:
                if await self._is_stopped("another process on this machine"):
                    return False
            else:
                return True

    async def for_lease(self, owner: str) -> bool:
        """Take the lease, once no other has it; False where we shall stop instead.

        A database that is away cannot say: two that collect into spools of their own do no harm.
        """
        while True:
            try:
                holder = await asyncio.to_thread(
                    _take_lease, self._historian, self._plant, owner, self._wall_now()
                )
            except HistorianError:
                return True
            if holder == owner:
                return True
            if await self._is_stopped(holder):
                return False

    async def _is_stopped(self, waits_for: str) -> bool:
        if self._on_progress is not None:
            link = f"waiting for {waits_for}, which collects this plant"
            self._on_progress(Progress(link=link, waits_for=waits_for))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_WAIT_S):
                await self._stop.wait()
        return self._stop.is_set()


def _take_lease(historian: Historian, plant: Plant, owner: str, now: datetime) -> str:
    """Take or renew the right to collect this plant into this database; who has it now."""
    return historian.take_lease(plant, PROCESS, owner, now, now + _LEASE)
