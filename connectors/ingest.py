"""The plant's readings into the historian: source, then spool, then database.

Every source has a link of its own (`connectors.feed`), all share one way in: what came is on the
disk (`connectors.intake`, `connectors.spool`) before it is stored (`connectors.storing`), and what
is missing is filled (`connectors.backfill`). Readings are stored as they come, never judged or
changed; one whose time cannot be true comes without it (see `connectors.opcua.Session`). Of all
processes that collect one plant into one database only one does so at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

from connectors.audit import PROCESS, Audit, Clocks
from connectors.backfill import Backfill
from connectors.buffering import Buffering
from connectors.ending import end_tasks
from connectors.feed import Feed
from connectors.intake import Intake
from connectors.progress import Progress, SourceProgress, SourceState, SpoolProgress
from connectors.security import Access
from connectors.sources import Connect, connector
from connectors.spool import Spool
from connectors.storing import FIRST_START, Store
from connectors.turns import Waiting, keep_lease
from twin.clock import wall_now as read_wall_clock
from twin.errors import DatabaseUnavailable, HistorianError, UsageError
from twin.historian import Historian
from twin.plant import Plant, Source

__all__ = [
    "FIRST_START",
    "PROCESS",
    "Buffering",
    "Progress",
    "SourceProgress",
    "SourceState",
    "SpoolProgress",
    "collect",
    "spool_path",
]

_BEAT_S = 1.0
_LAST_PUT_S, _LAST_STORE_S = 5.0, 10.0  # how long stopping waits for the disk and the database


async def collect(
    plant: Plant,
    historian: Historian,
    *,
    stop: asyncio.Event,
    endpoint: str | None = None,
    access: Access | None = None,
    first_answer_within_s: float | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    wall_now: Callable[[], datetime] = read_wall_clock,
    buffering: Buffering | None = None,
    connect: Connect | None = None,
) -> Progress:
    """Carry readings from the plant's sources to the historian until `stop` is set.

    Returns the final progress. Plant time, speed and what is being done are told with every beat,
    which `wall_now` dates. `access` is who we are and whom we trust (`connectors.security`),
    `connect` opens sources in another way than by their kind. While another process collects this
    plant into this database, this one waits, and takes over when that ends.

    Raises:
        NodeFault: at the first connection of the main source not one tag has a usable node. Single
            ones are left out, told in progress and audit, and tried again; all others go on.
        EndpointUnavailable: nothing answered within `first_answer_within_s` (None: wait for ever).
        HistorianError: the database cannot be used at the first start. Later ones collect into
            the spool until it can.
        SpoolUnavailable: the spool cannot be opened or made.
    """
    buffering = buffering or Buffering()
    path = spool_path(historian, buffering)
    is_away = False
    try:
        await asyncio.to_thread(historian.register, plant)
    except DatabaseUnavailable:
        if not path.exists():  # we have never stored anything there: a wrong address, perhaps
            raise
        is_away = True
    spool = Spool(path, quota_bytes=buffering.quota_bytes)
    connect = connect or connector(plant, wall_now, access, endpoint)
    waiting = Waiting(plant, historian, wall_now, on_progress, stop)
    if not await waiting.for_spool(spool):
        return Progress(link=SourceState.STOPPED.value)
    try:
        while True:
            collector = _Collector(
                plant, historian, spool, buffering, connect, wall_now, on_progress
            )
            if not await waiting.for_lease(collector.owner):
                return Progress(link=SourceState.STOPPED.value)
            await collector.run(stop, first_answer_within_s, is_away=is_away)
            if stop.is_set():
                return collector.progress()
    finally:
        spool.__exit__()


def spool_path(historian: Historian, buffering: Buffering) -> Path:
    """Where readings for this database wait; UsageError where no file can be thought of."""
    if buffering.spool is not None:
        return buffering.spool
    if historian.path is None:
        raise UsageError("Collecting into a database on a server needs a spool file: name one.")
    return historian.path.with_name(f"{historian.path.name}.spool")


class _Collector:
    """All sources of one plant on their way into one database, for as long as the lease is ours."""

    def __init__(
        self,
        plant: Plant,
        historian: Historian,
        spool: Spool,
        buffering: Buffering,
        connect: Connect,
        wall_now: Callable[[], datetime],
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._plant = plant
        self._historian = historian
        self._spool = spool
        self._wall_now = wall_now
        self._on_progress = on_progress
        self._clocks = Clocks(wall_now)
        self._audit = Audit(self._clocks, lambda note: self._intake.tell(note))
        self._open_gaps: dict[str, int] = {}
        # One spool file has one user at a time: whoever has it is the one who had the lease.
        self.owner = f"{socket.gethostname()} {spool.identity}"
        self._store = Store(
            plant,
            historian,
            spool,
            on_change=self._tell_progress,
            tell=self._audit.note,
            on_gap=self._wake,
        )
        self._intake = Intake(
            spool,
            on_spooled=self._store.wake,
            on_trouble=lambda message: self._audit.note("spool", str(spool.path), message),
            straight=self._store.straight,
            may_go_straight=self._store.may_go_straight,
        )
        self._backfills = {
            source.name: self._backfill(source, buffering) for source in plant.all_sources
        }
        self._feeds = {
            source.name: Feed(
                plant,
                source,
                self._intake,
                self._backfills[source.name],
                self._clocks,
                self._audit,
                connect,
                self._tell_progress,
            )
            for source in plant.all_sources
        }

    def _backfill(self, source: Source, buffering: Buffering) -> Backfill:
        return Backfill(
            self._plant,
            source,
            self._store,
            tell=lambda kind, message: self._feeds[source.name].tell(kind, message),
            on_share=partial(self._tell_share, source.name),
            readings_per_s=buffering.backfill_readings_per_s,
            ask_again_s=buffering.backfill_again_s,
        )

    # -- running ---------------------------------------------------------------------------------

    async def run(
        self, stop: asyncio.Event, first_answer_within_s: float | None, *, is_away: bool
    ) -> None:
        """Collect until `stop` is set or another process has the lease.

        `is_away`: the database is not known to be at this version's schema yet.
        """
        self._tell_damage()
        links = [
            asyncio.create_task(feed.keep_link(first_answer_within_s))
            for feed in self._feeds.values()
        ]
        storing = asyncio.create_task(self._store.keep_storing(is_away=is_away))
        spooling = asyncio.create_task(self._intake.keep_spooling())
        others = [
            asyncio.create_task(self._keep_telling()),
            asyncio.create_task(self._keep_beating()),
            asyncio.create_task(self._know_old_gaps()),
            # The only one that ends without a fault.
            asyncio.create_task(
                keep_lease(
                    self._historian, self._plant, self.owner, self._wall_now, self._store.is_allowed
                )
            ),
        ]
        stopped = asyncio.create_task(stop.wait())
        endless = [*links, storing, spooling, *others]
        try:
            await asyncio.wait([*endless, stopped], return_when=asyncio.FIRST_COMPLETED)
            for ended in (task for task in endless if task.done()):
                ended.result()
        finally:
            await end_tasks(stopped, *others, *links)
            await self._finish(spooling, storing)

    async def _finish(self, spooling: asyncio.Task[None], storing: asyncio.Task[None]) -> None:
        """Store what waits, if the database lets us, and say that this was all."""
        await self._intake.finish(spooling, _LAST_PUT_S)
        await self._store.finish(storing, _LAST_STORE_S)
        for feed in self._feeds.values():
            feed.stopped()
        with contextlib.suppress(HistorianError):
            await self._beat()
            if self._store.is_allowed.is_set():
                end = partial(self._historian.end_lease, self._plant, PROCESS, self.owner)
                await asyncio.to_thread(end)

    async def _know_old_gaps(self) -> None:
        """Tell the feeds how far an earlier process came and what was silent then; then rest."""
        await self._store.end_strangers_gaps()
        for source, feed in self._feeds.items():
            feed.know_newest(await self._store.newest(source, None, self._clocks.now()))
        for gap in await self._store.open_gaps():
            if gap.tag is not None:
                for feed in self._feeds.values():
                    feed.know_silent([gap.tag])
        await asyncio.Event().wait()

    # -- telling ---------------------------------------------------------------------------------

    async def _keep_telling(self) -> None:
        """Look after links and spool, for ever, however slow the database is; tell how we stand."""
        loop = asyncio.get_running_loop()
        while True:
            for feed in self._feeds.values():
                feed.look(loop.time())
            await self._intake.look()
            self._tell_damage()
            self._tell_progress()
            await asyncio.sleep(_BEAT_S)

    async def _keep_beating(self) -> None:
        """Tell the other processes, for ever."""
        while True:
            with contextlib.suppress(HistorianError):  # told by whoever has readings to store
                self._open_gaps = await asyncio.to_thread(
                    self._historian.count_unfilled, self._plant
                )
                await self._beat()
            await asyncio.sleep(_BEAT_S)

    def progress(self) -> Progress:
        """How collecting stands now."""
        feeds, clock = list(self._feeds.values()), self._clocks.main
        now_s = asyncio.get_running_loop().time()
        shares = [feed.share for feed in feeds if feed.share is not None]
        spool, intake = self._spool, self._intake
        return Progress(
            link=feeds[0].link if feeds else "no source",
            database_trouble=self._store.trouble,
            stored=self._store.stored,
            waiting=intake.rows + spool.rows,
            backfill_share=min(shares, default=None),
            plant_now=clock.now() if clock is not None else None,
            speed=clock.speed if clock is not None else 1.0,
            security=" ".join(feed.security for feed in feeds if feed.security),
            sources=tuple(
                feed.progress(now_s, self._open_gaps.get(name, 0))
                for name, feed in self._feeds.items()
            ),
            spool=SpoolProgress(
                rows=spool.rows,
                bytes=spool.bytes,
                quota_bytes=spool.quota_bytes,
                is_high=intake.is_high,
                quarantined_rows=spool.quarantined_rows,
                trouble=intake.trouble,
                losing=intake.losing,
            ),
        )

    def _wake(self) -> None:
        for backfill in self._backfills.values():
            backfill.wake()

    def _tell_share(self, source: str, share: float | None) -> None:
        self._feeds[source].share = share
        self._tell_progress()

    def _tell_progress(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self.progress())

    def _tell_damage(self) -> None:
        if self._spool.damaged_file is not None:
            told = f"was damaged and is kept as {self._spool.damaged_file}; a new one is begun"
            self._audit.note("spool", str(self._spool.path), told)
            self._spool.damaged_file = None

    async def _beat(self) -> None:
        told = (self._wall_now(), os.getpid(), self.progress().text())
        await asyncio.to_thread(self._historian.beat, self._plant, PROCESS, *told)
