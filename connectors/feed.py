"""One source's supervised link: opened for ever, and never "live" while nothing comes.

Every stretch without readings, of the source or of one tag, is marked where it begins and ends in
the order of the readings. Filling it is `connectors.backfill`'s, keeping it `connectors.intake`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from connectors.audit import Audit, Clocks
from connectors.backfill import Backfill
from connectors.ending import end_tasks
from connectors.intake import Intake
from connectors.parcels import Heard, Lost, Silence
from connectors.progress import SourceProgress, SourceState
from connectors.sources import (
    Connect,
    Guarded,
    HoldingBack,
    Live,
    Mending,
    NewsOnly,
    Past,
    Published,
    address_of,
    reach_of,
)
from twin.errors import EndpointUnavailable, NodeFault, SecurityFault
from twin.plant import Plant, Source
from twin.records import Mark, Reading

_FIRST_LIVE_S = 3.0  # a new subscription's first readings come with its first publishes
# Between attempts: whoever is back is heard again within seconds, however long it was away. A
# server that answers but does not let us in is asked seldom: haste locks accounts.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _LONGEST_REFUSED_PAUSE_S = 0.25, 1.0, 30.0
_MAIN_CLOCK_S = 5.0  # so long another source waits for the main one's clock
_MEND_EVERY_S = 600.0
_LATE_S = 3.0  # of wall time: so late a reading may be on a busy machine, beyond its tag's age
_MANY_TAGS = 20  # of more tags than these no rows of their own are written for one overflow

_AWAY = "not connected"
_NOT_RUNNING = "the collector was not running"
_FROZEN = "no readings of any tag though the link is live"
_NOTHING_YET = "no readings yet though the link is live"
_NO_ROOM = "no room for readings here; the source holds them back"
_NONE_NEWER = "readings come, but none is newer than before; check the clock of the source"
_SILENT = "no readings though the link is live"
_NO_NODE = "its node cannot be used on this server"


class Feed:
    """One source's link. `on_change` is called when its state changes."""

    def __init__(
        self,
        plant: Plant,
        source: Source,
        intake: Intake,
        backfill: Backfill,
        clocks: Clocks,
        audit: Audit,
        connect: Connect,
        on_change: Callable[[], None],
    ) -> None:
        self.source = source
        self.link = SourceState.CONNECTING.value
        self.security = ""
        self.share: float | None = None
        self._plant = plant
        self._is_main = source is plant.all_sources[0]
        self._tags = {tag.name: tag for tag in plant.tags_of(source.name)}
        self._intake = intake
        self._backfill = backfill
        self._clocks = clocks
        self._audit = audit
        self._connect = connect
        self._on_change = on_change
        self._state = SourceState.CONNECTING
        self._reason = ""
        self._session: Live | None = None
        self._has_lived = False
        self._is_marked = False  # that nothing comes
        self._connects = 0
        self._readings = 0
        self._rate = 0.0
        self._rated_at_s, self._rated_readings = 0.0, 0
        self._live_since_s = 0.0
        self._arrived_s: float | None = None  # when something newer last came
        self._repeated_s = 0.0  # when something last came that was no newer
        self._heard_s: dict[str, float] = {}  # when each tag last brought something
        self._newest: dict[str, datetime] = {}  # source time of each tag's newest reading
        self._heard: datetime | None = None  # the newest of those
        self._heard_before: datetime | None = None  # the same when this session began
        self._missed: dict[str, str] = {}  # tag ("" all) -> why readings of it were missed
        self._silent: set[str] = set()  # tags with a gap of their own that has no end yet
        self._unheard: set[str] = set()  # tags without a reading in this session
        self._first_live: datetime | None = None  # by then every tag heard is live
        self._all_heard = asyncio.Event()

    # -- the link --------------------------------------------------------------------------------

    async def keep_link(self, first_answer_within_s: float | None = None) -> None:
        """Connect, live, reconnect, for ever.

        Raises, of the main source only and until it has lived once:
            EndpointUnavailable: nothing answered within `first_answer_within_s`.
            NodeFault: not one of its tags has a usable node.
        """
        loop = asyncio.get_running_loop()
        if not self._is_main:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_MAIN_CLOCK_S):
                    await self._clocks.is_known.wait()
        began_s, pause_s = loop.time(), _FIRST_PAUSE_S
        while True:
            longest_s = _LONGEST_PAUSE_S
            try:
                told = (self._audit.misdated, self._audit.wrong)
                async with self._connect(self.source, self._clocks.main, *told) as session:
                    pause_s = _FIRST_PAUSE_S
                    reason = await self._live(session)
            except (EndpointUnavailable, NodeFault) as fault:
                waited_s = loop.time() - began_s
                too_long = first_answer_within_s is not None and waited_s >= first_answer_within_s
                is_final = isinstance(fault, NodeFault) or too_long
                if self._is_main and not self._has_lived and is_final:
                    raise
                reason = str(fault)
                if isinstance(fault, SecurityFault | NodeFault):
                    longest_s = _LONGEST_REFUSED_PAUSE_S
            self._end(reason)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, longest_s)

    async def _live(self, session: Live) -> str:
        """Subscribe, then fill what is missing, until the link is lost; says why it was."""
        if self._is_main:
            self._clocks.follow(session.clock)
        self._connects += 1
        self._tell_security(session.security_warning if isinstance(session, Guarded) else "")
        self._begin(session)
        await session.subscribe(self._take, on_missed=self._miss)
        self._has_lived = True
        self._unheard -= {*session.faulty}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_LIVE_S):
                await self._all_heard.wait()
        self._leave_out(session.faulty, session.clock.now())
        if self._first_live is not None and not self._is_late(session, self._first_live):
            self._is_heard(self._first_live)
        elif isinstance(session, NewsOnly) and session.was_kept_for and self._is_nothing_due():
            self._is_heard(session.clock.now())
        else:  # the gap stays open: nobody knows yet what is missing
            reason = _NOTHING_YET if self._first_live is None else _NONE_NEWER
            self._set(SourceState.FROZEN, reason)
        lost = asyncio.create_task(session.until_lost())
        tasks: list[asyncio.Task[None]] = []
        if isinstance(session, Past):
            filling = self._backfill.keep_filling(session, lambda tag: tag not in self._unheard)
            tasks.append(asyncio.create_task(filling))
        if isinstance(session, Mending):
            tasks.append(asyncio.create_task(self._keep_mending(session)))
        try:
            await asyncio.wait([lost, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for ended in (task for task in tasks if task.done()):
                ended.result()
            return lost.result()
        finally:
            await end_tasks(lost, *tasks)
            self.share = None

    def _begin(self, session: Live) -> None:
        """Mark what is missing before this session, before anything newer hides it."""
        now, loop = session.clock.now(), asyncio.get_running_loop()
        if not self._is_marked:
            reach_s = reach_of(self.source).total_seconds()
            self._mark(Silence(self.source.name, now, _NOT_RUNNING, reach_s=reach_s))
            self._is_marked = True
        self._session = session
        self._live_since_s = loop.time()
        if not isinstance(session, NewsOnly):
            self._heard_s.clear()
        self._missed.clear()
        self._unheard = self._tags.keys() - {*session.faulty}
        self._first_live, self._all_heard = None, asyncio.Event()
        self._heard_before = self._heard

    def _is_late(self, session: Live, first: datetime) -> bool:
        """Whether all that came is older than the silence before this session, and ends it not.

        Only of a source that tells news: another one repeats what has not changed, by its old time.
        """
        before = self._heard_before
        return isinstance(session, NewsOnly) and before is not None and first <= before

    def _end(self, reason: str) -> None:
        """The link is lost, or could not be opened."""
        self._session = None
        if self._has_lived and not self._is_marked:
            self._mark(Silence(self.source.name, self._clocks.now(), f"{_AWAY}: {reason}"))
            self._is_marked = True
        self._set(SourceState.LOST, reason)

    async def _keep_mending(self, session: Mending) -> None:
        """Look for faulty nodes again, now and then: a person may have put them there."""
        while True:
            await asyncio.sleep(_MEND_EVERY_S)
            if self._session is None or not self._session.faulty:
                continue
            with contextlib.suppress(EndpointUnavailable):  # `until_lost` tells of it
                await session.mend(self._take, self._miss)
            self._set(self._state, self._reason)

    # -- readings --------------------------------------------------------------------------------

    def _take(self, readings: list[Reading]) -> asyncio.Future[None]:
        """Hand readings on, after what was missed before them, and mark whom we hear again."""
        now_s = asyncio.get_running_loop().time()
        newest = max(each.source_time for each in readings)
        if self._missed:
            self._tell_missed(readings)
        if self._heard is None or newest > self._heard:  # a stamp long ago ends no gap
            self._heard = newest
        holds_back = isinstance(self._session, HoldingBack)
        kept = self._intake.take(self.source.name, readings, holds_back)
        if kept.cancelled() and holds_back:
            return kept
        self._readings += len(readings)
        # What a broker remembers of a device is no life of that device.
        if live := [each for each in readings if not each.marks & Mark.BACKFILLED]:
            self._see_life(live, now_s)
        return kept

    def _see_life(self, readings: Sequence[Reading], now_s: float) -> None:
        """Tags are heard: silences of them are over.

        A reading that is no newer than another of its tag is no life, or a server whose clock went
        back would look well while nothing comes of the present.
        """
        if self._unheard:
            self._hear({each.tag: each.source_time for each in reversed(readings)})
        newer: list[Reading] = []
        for each in readings:
            known = self._newest.get(each.tag)
            if known is None or each.source_time > known:
                self._newest[each.tag] = each.source_time
                newer.append(each)
        if not newer:
            self._repeated_s = now_s
            return
        self._heard_s.update(dict.fromkeys([each.tag for each in newer], now_s))
        self._arrived_s = now_s
        if self._state is SourceState.FROZEN:
            first = {each.tag: each.source_time for each in reversed(newer)}
            self._is_heard(max(first.values()))
        if self._silent:
            self._hear_silent(newer)

    def _is_heard(self, at: datetime) -> None:
        """The source brings readings again, the first ones of `at`."""
        self._mark(Heard(self.source.name, at))
        self._is_marked = False
        self._set(SourceState.LIVE)

    def _hear(self, first: dict[str, datetime]) -> None:
        """The first readings of tags: the gap before ends when all of them are live."""
        for tag in self._unheard & first.keys():
            self._first_live = max(first[tag], self._first_live or first[tag])
        self._unheard -= first.keys()
        if not self._unheard:
            self._all_heard.set()

    def _hear_silent(self, readings: Iterable[Reading]) -> None:
        first = {each.tag: each.source_time for each in readings if each.tag in self._silent}
        for tag, at in first.items():
            self._mark(Heard(self.source.name, at, tag))
        if first:
            self._silent -= first.keys()
            self._on_change()

    def _miss(self, reason: str, tags: Sequence[str]) -> None:
        """Some readings will never come, or not live: known before the next ones are."""
        few = tags if len(tags) <= _MANY_TAGS else ()
        self._missed.update(dict.fromkeys(few or [""], reason))

    def _tell_missed(self, readings: Sequence[Reading]) -> None:
        """Mark the stretches of what was missed, now that what came after it is known."""
        first: dict[str, datetime] = {}
        for each in readings:
            first.setdefault(each.tag, each.source_time)
        newest = max(first.values())
        if "" in self._missed and (self._heard is None or newest > self._heard):
            reason = self._missed.pop("")
            self._mark(Lost(self.source.name, self._heard or newest, newest, reason))
        for tag in self._missed.keys() & first.keys():
            reason, at = self._missed.pop(tag), first[tag]
            self._mark(Lost(self.source.name, self._newest.get(tag, at), at, reason, tag))

    def know_newest(self, at: datetime | None) -> None:
        """So far an earlier process came: what is older is late, and ends nothing."""
        if at is not None:
            self._heard = max(at, self._heard or at)

    def know_silent(self, tags: Iterable[str]) -> None:
        """These tags have a gap without an end from before this start."""
        for tag in self._tags.keys() & {*tags}:
            if tag in self._heard_s:
                self._mark(Heard(self.source.name, self._newest[tag], tag))
            else:
                self._silent.add(tag)

    def look(self, now_s: float) -> None:
        """Find what brings nothing though the link is live; count the rate. About once a second."""
        elapsed_s = now_s - self._rated_at_s
        self._rate = (self._readings - self._rated_readings) / elapsed_s
        self._rated_at_s, self._rated_readings = now_s, self._readings
        if self._session is None:
            return
        if isinstance(self._session, Guarded):  # a certificate comes near its end meanwhile
            self._tell_security(self._session.security_warning)
        if self._state is not SourceState.LIVE or not (stale := self._stale()):
            return
        clock = self._session.clock
        arrived_s = max(self._arrived_s or 0.0, self._live_since_s)
        shortest_s = min(self._tags[tag].max_age_s for tag in stale)
        if (now_s - arrived_s) * clock.speed > shortest_s + _LATE_S * clock.speed:
            reason = _NONE_NEWER if self._repeated_s > arrived_s else _FROZEN
            if self._intake.losing and isinstance(self._session, HoldingBack):
                reason = _NO_ROOM
            self._mark(Silence(self.source.name, clock.now(), reason))
            self._set(SourceState.FROZEN, reason)
            return
        for tag in sorted(stale):
            self._mark(Silence(self.source.name, clock.now(), _SILENT, tag))
        self._silent |= stale
        self._on_change()

    def _is_nothing_due(self) -> bool:
        """Whether some tag was heard before this session, and none should have been in it."""
        return bool(self._heard_s.keys() - self._silent) and not self._stale()

    def _stale(self) -> set[str]:
        """The tags that should have brought something by now, and are not known to be silent."""
        if self._session is None:
            return set()
        now_s, speed = asyncio.get_running_loop().time(), self._session.clock.speed

        def is_stale(tag: str) -> bool:
            age_s = (now_s - self._heard_s.get(tag, self._live_since_s)) * speed
            return age_s > self._tags[tag].max_age_s + _LATE_S * speed

        return {*filter(is_stale, self._tags.keys() - {*self._session.faulty} - self._silent)}

    def _leave_out(self, faulty: Sequence[str], now: datetime) -> None:
        """Tags without a usable node have a gap of their own; the others go on."""
        for tag in {*faulty} - self._silent:
            self._mark(Silence(self.source.name, now, _NO_NODE, tag))
        self._silent |= {*faulty}

    # -- telling ---------------------------------------------------------------------------------

    def progress(self, now_s: float, gaps_open: int) -> SourceProgress:
        """How the source stands at the event loop's time `now_s`."""
        session, arrived_s = self._session, self._arrived_s
        is_known = isinstance(session, Published) and session.silent_s < float("inf")
        return SourceProgress(
            name=self.source.name,
            kind=self.source.kind,
            address=address_of(self.source),
            state=self._state,
            reason=self._reason,
            last_publish_age_s=session.silent_s
            if is_known and isinstance(session, Published)
            else None,
            last_reading_age_s=None if arrived_s is None else now_s - arrived_s,
            readings_per_s=round(self._rate, 1),
            readings=self._readings,
            reconnects=max(0, self._connects - 1),
            gaps_open=gaps_open,
            backfill_share=self.share,
            faulty=session.faulty if session is not None else (),
            silent=tuple(sorted(self._silent)),
            security=self.security,
        )

    def tell(self, kind: str, message: str) -> None:
        """A line of the audit about this source."""
        self._audit.note(kind, address_of(self.source), message)

    def stopped(self) -> None:
        """This was all."""
        self._session = None
        self._state, self.link = SourceState.STOPPED, SourceState.STOPPED.value
        self._on_change()

    def _set(self, state: SourceState, reason: str = "") -> None:
        self._state, self._reason = state, reason
        link = f"{state}: {reason}" if reason else state.value
        if self._session is not None and self._session.faulty:
            link += f"; without {', '.join(self._session.faulty)}"
        if link != self.link:
            self.link = link
            self._on_change()
            self.tell("link", link)

    def _tell_security(self, warning: str) -> None:
        if warning and warning != self.security:
            self.tell("security", warning)
        self.security = warning

    def _mark(self, mark: Silence | Heard | Lost) -> None:
        self._intake.tell(mark)
