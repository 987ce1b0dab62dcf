"""How collecting stands, as records, and as the text in a beat that other processes read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, Self


class SourceState(StrEnum):
    """What is known of the link to a source. Only `LIVE` is healthy."""

    CONNECTING = "connecting"
    LIVE = "live"  # connected, and readings come
    FROZEN = "frozen"  # connected, and no tag brings readings
    LOST = "lost"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class SourceProgress:
    """One source. Ages in seconds of this machine's clock; None: never since this start.

    `reason` says why the state is not live. `faulty` tags have no usable node, `silent` ones bring
    no readings though the link lives. `backfill_share` is None while no gap is being filled.
    `security` is what is not as safe as it should be, or soon will not be, in sentences.
    """

    name: str
    kind: str
    address: str
    state: SourceState = SourceState.CONNECTING
    reason: str = ""
    last_publish_age_s: float | None = None
    last_reading_age_s: float | None = None
    readings_per_s: float = 0.0
    readings: int = 0
    reconnects: int = 0
    gaps_open: int = 0
    backfill_share: float | None = None
    faulty: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    security: str = ""

    @property
    def is_healthy(self) -> bool:
        """Live, and every tag brings readings."""
        return self.state is SourceState.LIVE and not self.faulty and not self.silent


@dataclass(frozen=True, slots=True)
class SpoolProgress:
    """The spool. `trouble` says why it cannot be written, `losing` why readings are being lost."""

    rows: int = 0
    bytes: int = 0
    quota_bytes: int = 0
    is_high: bool = False
    quarantined_rows: int = 0
    trouble: str = ""
    losing: str = ""

    @property
    def share(self) -> float:
        """How much of the quota is taken."""
        return self.bytes / self.quota_bytes if self.quota_bytes else 0.0


@dataclass(frozen=True)
class Progress:
    """How collecting stands. `backfill_share` is None while nothing is being filled.

    `link` is the main source's state in words, `stored` counts readings that were new to the
    database, `waiting` those in memory or spool, and `waits_for` names another process that
    collects this plant, for which this one waits. `security` is what is not as safe as it should
    be, in sentences.
    """

    link: str
    database_trouble: str = ""
    stored: int = 0
    waiting: int = 0
    backfill_share: float | None = None
    plant_now: datetime | None = None
    speed: float = 1.0
    waits_for: str = ""
    security: str = ""
    sources: tuple[SourceProgress, ...] = ()
    spool: SpoolProgress = SpoolProgress()

    def text(self) -> str:
        """One JSON object, for a beat."""
        told = asdict(self)
        if self.plant_now is None:  # a beat that tells no plant time has neither
            del told["plant_now"], told["speed"]
        else:
            told["plant_now"] = self.plant_now.isoformat()
        return json.dumps(told)

    @classmethod
    def of_text(cls, detail: str) -> Self | None:
        """What a beat told; None where it is none of a collector's, or of another version's."""
        try:
            told = json.loads(detail)
            given = _known(cls, told)
            given["sources"] = tuple(_source(each) for each in told.get("sources", ()))
            given["spool"] = SpoolProgress(**_known(SpoolProgress, told.get("spool", {})))
            if given.get("plant_now") is not None:
                given["plant_now"] = datetime.fromisoformat(given["plant_now"])
            return cls(**given)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


def _source(told: Mapping[str, Any]) -> SourceProgress:
    given = _known(SourceProgress, told)
    given["state"] = SourceState(given["state"])
    for name in ("faulty", "silent"):
        given[name] = tuple(given.get(name, ()))
    return SourceProgress(**given)


def _known(kind: type, told: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a record among those told: a newer version's others are passed over."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in told.items() if name in names}
