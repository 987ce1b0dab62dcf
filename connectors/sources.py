"""What a live source is to the collector, and how each kind of the plant file's is opened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

from connectors.mqtt import MqttSession
from connectors.opcua import Session
from connectors.security import Access
from twin.clock import PlantClock
from twin.plant import OpcUaSource, Plant, Source
from twin.records import Reading

_HISTORY_SLACK = 1.25  # a first start some plant hours late still gets a plant's whole past

#: Takes readings. What it returns is done when they are safe on the disk (None: at once), and
#: cancelled where there was no room for them.
OnReadings = Callable[[list[Reading]], asyncio.Future[None] | None]
#: Hears why readings were missed, and of which tags (none named: of any).
OnMissed = Callable[[str, Sequence[str]], None]
#: Hears a tag's wrong time: tag, stamp, and the latest that can be true.
OnMisdated = Callable[[str, datetime, datetime], None]


class Live(Protocol):
    """One connection to a source, which never heals itself.

    `clock` is plant time, and `faulty` names tags that this source has but cannot deliver now.
    """

    clock: PlantClock
    faulty: tuple[str, ...]

    async def subscribe(self, on_readings: OnReadings, *, on_missed: OnMissed = ...) -> None:
        """Hand over every reading from now on; say why some were missed, before later ones."""
        ...

    async def until_lost(self) -> str:
        """Wait until the connection is dead, also when it only looks alive; says why."""
        ...


@runtime_checkable
class Past(Protocol):
    """A connection to a source that remembers."""

    faulty: tuple[str, ...]

    def history(
        self, start: datetime, end: datetime, tags: Sequence[str] | None = None
    ) -> AsyncGenerator[list[Reading], None]:
        """Batches of past readings, both ends included; NodeFault at the end names tags without.

        Where a fault of it may pass, the tag's past is there but did not come, or not to its end.
        """
        ...


@runtime_checkable
class Mending(Protocol):
    """A connection whose faulty tags may become usable while it stands."""

    async def mend(self, on_readings: OnReadings, on_missed: OnMissed) -> Sequence[str]:
        """Look again, and subscribe to the tags that are usable now: these."""
        ...


@runtime_checkable
class Published(Protocol):
    """A connection that knows when the source last said anything."""

    @property
    def silent_s(self) -> float:
        """Seconds since the last publish, with or without readings."""
        ...


@runtime_checkable
class HoldingBack(Protocol):
    """A connection that offers readings again for which there was no room."""

    holds_back: bool


@runtime_checkable
class NewsOnly(Protocol):
    """A connection that does not tell at its beginning how things stand, only what is new.

    `was_kept_for`: the source has kept for it what was new since the connection before.
    """

    was_kept_for: bool


@runtime_checkable
class Guarded(Protocol):
    """A connection that can be more or less safe."""

    @property
    def security_warning(self) -> str:
        """What is not as safe as it should be, in sentences; else empty."""
        ...


#: Hears a tag, and what is wrong with what is sent of it.
OnWrong = Callable[[str, str], None]
#: Opens one connection to a source, given the plant time known so far.
Connect = Callable[
    [Source, PlantClock | None, OnMisdated, OnWrong], AbstractAsyncContextManager[Live]
]


def address_of(source: Source) -> str:
    """Where the source is."""
    return source.address


def reach_of(source: Source) -> timedelta:
    """How far back the source is asked for what it may remember."""
    days = source.history_days if isinstance(source, OpcUaSource) else 0.0
    return timedelta(days=_HISTORY_SLACK * days)


def connector(
    plant: Plant,
    wall_now: Callable[[], datetime],
    access: Access | None = None,
    endpoint: str | None = None,
) -> Connect:
    """How the plant's sources are opened; `endpoint` instead of the main one's own."""

    def connect(
        source: Source, clock: PlantClock | None, on_misdated: OnMisdated, on_wrong: OnWrong
    ) -> AbstractAsyncContextManager[Live]:
        if isinstance(source, OpcUaSource):
            return Session(
                plant,
                source=source,
                endpoint=endpoint if source is plant.opcua else None,
                clock=clock,
                is_strict=False,
                on_misdated=on_misdated,
                on_wrong=on_wrong,
                wall_now=wall_now,
                access=access,
            )
        return MqttSession(
            plant,
            source,
            access=access,
            clock=clock,
            is_strict=False,
            on_misdated=on_misdated,
            on_wrong=on_wrong,
            wall_now=wall_now,
        )

    return connect
