"""What the gate is told besides the plant's tags, and the few numbers that are its own.

Nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from twin.records import Stage

#: `GateContext.last_moved_at` of an MV that the historian knows we never moved. None is unknown.
NEVER_MOVED = datetime.min.replace(tzinfo=UTC)

#: `Decision.by` of the closed-loop stage itself; no person may carry this name.
CLOSED_LOOP_DECIDER = Stage.CLOSED_LOOP.value


@dataclass(frozen=True)
class GateRules:
    """The gate's own numbers; all others come from the plant file."""

    #: Least share of readings inside their 90 % interval. Three standard errors below 0.90 at 60
    #: independent forecasts is 0.784; neighbours are not independent, so a little less.
    min_coverage90: float = 0.75
    #: Least number of judged forecasts; of fewer, one bad quarter of an hour looks like luck.
    min_coverage_count: int = 30
    #: Longest life of a clearance in seconds: the readings behind it grow old with it.
    max_lifetime_s: float = 60.0
    #: Share of the numbers involved granted to floating-point rounding in differences.
    rounding: float = 1e-12


RULES = GateRules()


@dataclass(frozen=True)
class Trust:
    """How well the model did in the last plant hour.

    `coverage90`: share of readings inside their 90 % interval, over `count` forecasts.
    """

    coverage90: float | None
    count: int


@dataclass(frozen=True)
class GateContext:
    """What the gate must know besides the plant's tags. A missing key or None means unknown.

    `travel_last_h`: MV -> absolute travel of the last hour, in its unit. `last_moved_at`: MV ->
    plant time of our last write, or `NEVER_MOVED`. `is_stopped`: the stop latch.
    """

    stages: Mapping[str, Stage]
    trust: Trust | None
    travel_last_h: Mapping[str, float | None]
    last_moved_at: Mapping[str, datetime | None]
    is_stopped: bool | None
