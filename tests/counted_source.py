"""A plant that counts: each tag shows the number of its sample, so a lost one cannot hide.

A tool of the tests: a live source without a network, which goes on whether anybody listens or not
and remembers everything, or what it is told to.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import datetime, timedelta
from typing import Self

from one_tank import NOON

from connectors.sources import Connect, OnMissed, OnReadings
from twin.clock import PlantClock
from twin.errors import EndpointUnavailable, Fault, NodeFault
from twin.plant import OpcUaSource, Plant, Role, Security, Tag
from twin.records import GOOD, Mark, Reading

SAMPLE_S = 10.0


def counting_plant(tags: int = 6, **source: object) -> Plant:
    """A plant file's content of so many counters."""
    given = {"endpoint": "opc.tcp://127.0.0.1:4840/counting", "namespace": "urn:counting"}
    opcua = OpcUaSource(
        **{**given, "security": Security(policy="None"), "history_days": 1.0, **source}
    )
    counters = tuple(Tag(name=f"counter{k}", role=Role.AUX, unit="") for k in range(tags))
    return Plant(plant="counting", title="Counting", tags=counters, opcua=opcua, sample_s=SAMPLE_S)


class CountingSource:
    """The plant from `began_s` (monotonic) on: a sample of every tag every `every_s` of wall time.

    `last`: the number of its last sample, from which on it is frozen. `altered` may change the
    readings of a batch before they are handed over live. `is_remembered` says which of the past
    are still known; of tags `without_history` none ever were, and the history says so. Tags may be
    told so many samples `late`. While it `is_away` nobody can connect, and the history waits for
    `answers`, after `on_question` has heard its span; it takes `answer_s` for each tag, and a
    question that takes longer than `patience_s` ends the link. `on_kept` hears which samples are
    safe.
    """

    def __init__(self, plant: Plant, began_s: float, every_s: float = 0.005) -> None:
        self.plant = plant
        self.tags = [tag.name for tag in plant.tags]
        self.began_s = began_s
        self.every_s = every_s
        self.last: int | None = None
        self.remembers = True
        self.altered: Callable[[list[Reading]], list[Reading]] = lambda readings: readings
        self.is_remembered: Callable[[Reading], bool] = lambda _reading: True
        self.late: dict[str, int] = {}
        self.without_history: set[str] = set()
        self.answers = asyncio.Event()
        self.answers.set()
        self.on_question: Callable[[datetime, datetime], object] = lambda _start, _end: None
        self.answer_s, self.patience_s = 0.0, math.inf
        self.is_away = False
        self.on_kept: Callable[[int, int], object] = lambda _first, _last: None
        self.lost: asyncio.Event | None = None

    @property
    def number(self) -> int:
        """The number of its newest sample; the first is 0."""
        return int(self._passed)

    @property
    def now(self) -> datetime:
        """Plant time, which is at or after its newest sample; it stands where that is frozen."""
        return NOON + timedelta(seconds=SAMPLE_S * self._passed)

    @property
    def _passed(self) -> float:
        passed = (time.monotonic() - self.began_s) / self.every_s
        return passed if self.last is None else min(passed, self.last)

    def cut(self, *, is_away: bool = False) -> None:
        """The link breaks; `is_away`: and there is no other until that is over."""
        assert self.lost is not None
        self.is_away = is_away
        self.lost.set()

    def connect(self) -> Connect:
        """For `collect`."""
        return lambda _source, clock, _misdated, _wrong: _Connection(self, clock)

    def at(self, number: int) -> datetime:
        """When a sample was taken, in plant time."""
        return NOON + timedelta(seconds=SAMPLE_S * number)

    def samples(self, first: int, last: int, marks: Mark = Mark.NONE) -> list[Reading]:
        """The readings of samples `first` to `last`."""
        return [
            Reading(tag, float(number), GOOD, self.at(taken), self.at(number), marks)
            for number in range(first, last + 1)
            for tag in self.tags
            for taken in [number - self.late.get(tag, 0)]
        ]


class _Connection:
    """One connection to it."""

    def __init__(self, source: CountingSource, clock: PlantClock | None) -> None:
        self._source = source
        self.faulty: tuple[str, ...] = ()
        speed = SAMPLE_S / source.every_s
        self.clock = PlantClock(source.now, speed)
        self._lost = asyncio.Event()
        self._sending: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._source.is_away:
            raise EndpointUnavailable("The counting plant is away.")
        self._source.lost = self._lost
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._sending is not None:
            self._sending.cancel()

    async def subscribe(
        self, on_readings: OnReadings, *, on_missed: OnMissed = lambda _reason, _tags: None
    ) -> None:
        self._sending = asyncio.create_task(self._send(on_readings))

    async def _send(self, on_readings: OnReadings) -> None:
        source = self._source
        sent = source.number - 1  # the present values come first
        while True:
            if (number := source.number) > sent:
                kept = on_readings(source.altered(source.samples(sent + 1, number)))
                if kept is not None:
                    kept.add_done_callback(lambda _, n=number, s=sent: source.on_kept(s + 1, n))
                sent = number
            await asyncio.sleep(0.01)

    async def until_lost(self) -> str:
        await self._lost.wait()
        return "the wire was cut"

    async def history(
        self, start: datetime, end: datetime, tags: Sequence[str] | None = None
    ) -> AsyncGenerator[list[Reading], None]:
        source = self._source
        source.on_question(start, end)
        await source.answers.wait()
        if not source.remembers:
            return
        wanted = set(tags or source.tags)
        answer_s = source.answer_s * len(wanted)
        await asyncio.sleep(min(answer_s, source.patience_s))
        if answer_s > source.patience_s:
            source.cut()
            raise EndpointUnavailable("The counting plant's history got no answer.")
        first = max(0, round((start - NOON).total_seconds() / SAMPLE_S))
        last = int((end - NOON).total_seconds() // SAMPLE_S) + max(source.late.values(), default=0)
        last = min(source.number, last)
        for number in range(first, last + 1, 100):
            past = source.samples(number, min(number + 99, last), Mark.BACKFILLED)
            known = [each for each in past if each.tag in wanted - source.without_history]
            known = [each for each in known if start <= each.source_time <= end]
            if known := [each for each in known if source.is_remembered(each)]:
                yield known
            await asyncio.sleep(0)
        if faults := [Fault(tag, "no history.") for tag in wanted & source.without_history]:
            raise NodeFault("the counting plant", faults)
