"""What messages on a plant's topics mean in its tags: readings, dated and marked.

A tag's node is its topic, or TOPIC#KEY for a value inside the topic's JSON. Without a time of its
own a reading is dated by its arrival (Mark.UNDATED); it is then Uncertain at best where the
message is a retained one or waited for us, for nobody knows how long ago that was. A retained
value is of the past (Mark.BACKFILLED). No broker is known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from zoneinfo import ZoneInfo

from connectors.dating import Dating
from connectors.payloads import Payload, Said
from twin.clock import PlantClock
from twin.plant import Plant
from twin.records import UNCERTAIN, Mark, Reading, reading

_BAD_INVALID_TIMESTAMP = 0x8023_0000  # OPC 10000-6, annex A


@dataclass(frozen=True, slots=True)
class Sent:
    """One message. `has_waited`: the broker kept it for us; `is_retained`: its topic's last one."""

    topic: str
    payload: bytes
    is_retained: bool = False
    has_waited: bool = False


class Topics:
    """The topics of one source; `tags`: topic -> tag -> key in its JSON, "" for a plain value.

    `on_misdated` hears a tag, its stamp and the latest that can be true, where a time cannot be:
    the reading then has no value, as in `connectors.opcua.Session`. `on_wrong` hears a tag and
    what is wrong with its message.
    """

    def __init__(
        self,
        plant: Plant,
        source: str,
        *,
        on_misdated: Callable[[str, datetime, datetime], None],
        on_wrong: Callable[[str, str], None],
    ) -> None:
        self.tags: dict[str, dict[str, str]] = {}
        for tag in plant.tags_of(source):
            topic, _, key = tag.node.partition("#")
            self.tags.setdefault(topic, {})[tag.name] = key
        self._zone = ZoneInfo(plant.time_zone)
        self._on_misdated = on_misdated
        self._on_wrong = on_wrong
        self._dating = Dating()

    def readings(self, messages: Iterable[Sent], clock: PlantClock) -> list[Reading]:
        """What messages say, in their order, arriving now by the plant's `clock`."""
        arrival, latest = clock.now(), clock.latest()
        return [
            self._reading(tag, said, message, arrival, latest)
            for message in messages
            for tag, said in self._said(message, arrival)
        ]

    def _said(self, message: Sent, arrival: datetime) -> Iterable[tuple[str, Said]]:
        payload = Payload(message.payload, self._zone, arrival)
        for tag, key in self.tags.get(message.topic, {}).items():
            said = payload.said(key)
            if said is not None:
                if said.fault:
                    self._on_wrong(tag, self._told(message.topic, key, said))
                yield tag, said

    def _told(self, topic: str, key: str, said: Said) -> str:
        """What is wrong, where, what became of it, what to do."""
        place = f"topic {topic}, key {key}" if key else f"topic {topic}"
        became = "its value is not used" if said.raw is None else "its value is Uncertain at best"
        return f"{place}: {said.fault}; {became}. Mend what its device sends."

    def _reading(
        self, tag: str, said: Said, message: Sent, arrival: datetime, latest: datetime
    ) -> Reading:
        if said.time is not None and said.time <= latest:
            made = reading(tag, said.raw, said.quality, said.time, arrival)
        elif said.time is not None:
            self._on_misdated(tag, said.time, latest)
            dated = self._dating.of(tag, arrival)
            made = Reading(tag, None, _BAD_INVALID_TIMESTAMP, dated, dated, Mark.UNDATED)
        else:
            is_old = message.is_retained or message.has_waited
            quality = max(said.quality, UNCERTAIN) if is_old else said.quality
            dated = self._dating.of(tag, arrival)
            made = reading(tag, said.raw, quality, dated, dated, Mark.UNDATED)
        return replace(made, marks=made.marks | Mark.BACKFILLED) if message.is_retained else made
