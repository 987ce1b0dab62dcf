"""The frozen records that travel through Plantwright, in the order they travel.

A record holds facts and can be stored; it never reads a clock, a file or a database. All times
are aware UTC. All values are in their tag's own unit (plant file).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntFlag, StrEnum

import numpy as np
from numpy.typing import NDArray

# OPC UA status codes (OPC 10000-4, 7.39): the top two bits are the severity.
GOOD = 0x0000_0000
UNCERTAIN = 0x4000_0000
BAD = 0x8000_0000

Series = NDArray[np.float64]


class Mark(IntFlag):
    """How a reading came, beside its quality."""

    NONE = 0
    BACKFILLED = 1  # from a source's history or from a file, not live
    UNDATED = 2  # the source gave no time of its own: it is the server's, or that of its arrival


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of a tag. `value` is None where the source gave no finite number."""

    tag: str
    value: float | None
    quality: int
    source_time: datetime
    arrival_time: datetime
    marks: Mark = Mark.NONE

    @property
    def is_good(self) -> bool:
        """A finite number whose OPC UA severity is Good."""
        return self.value is not None and math.isfinite(self.value) and self.quality >> 30 == 0


def reading(
    tag: str,
    raw: object,
    quality: int,
    source_time: datetime,
    arrival_time: datetime,
    marks: Mark = Mark.NONE,
) -> Reading:
    """Make a Reading of whatever a source delivered.

    A bool or a finite number is kept (also with Bad quality: a held value is worth seeing); NaN,
    infinity, text, arrays and nothing become None with at least Bad quality. Never zero.
    """
    number: float | None = None
    if isinstance(raw, (bool, int, float, np.integer, np.floating)) and math.isfinite(raw):
        number = float(raw)
    if number is None and quality >> 30 != 2:
        quality = BAD
    return Reading(tag, number, quality, source_time, arrival_time, marks)


@dataclass(frozen=True, slots=True)
class Samples:
    """One tag's readings in time order: `times_s` since 1970 UTC, `values` NaN where not good."""

    times_s: Series
    values: Series


@dataclass(frozen=True)
class Window:
    """The past on an even grid: row i is at `end` − (rows − 1 − i) × `step_s`.

    `values[tag]` has one float per row, NaN where nothing good is known. Tags whose plant file
    entry says `aggregate: mean` hold the mean over the step that ends at the row, others the
    last good value not older than the tag's `max_age_s`.
    """

    end: datetime
    step_s: float
    values: Mapping[str, Series]

    @property
    def rows(self) -> int:
        """How many rows the grid has."""
        return len(next(iter(self.values.values()))) if self.values else 0

    def tail(self, rows: int) -> Window:
        """The newest `rows` rows."""
        return Window(self.end, self.step_s, {t: v[-rows:] for t, v in self.values.items()})


@dataclass(frozen=True, slots=True)
class TagState:
    """What is known of one tag at one moment. `reason` says why it is not usable, if so."""

    value: float | None
    quality: int
    source_time: datetime | None
    source_age_s: float
    arrival_age_s: float
    is_usable: bool
    reason: str = ""


@dataclass(frozen=True)
class PlantState:
    """Every tag at the moment `at`, judged for freshness and quality."""

    plant: str
    at: datetime
    tags: Mapping[str, TagState]

    def value(self, tag: str) -> float | None:
        """The tag's value if it is usable, else None."""
        state = self.tags.get(tag)
        return state.value if state is not None and state.is_usable else None

    def last_known(self, tag: str) -> float | None:
        """The tag's newest number, however old or doubtful; None if there never was one."""
        state = self.tags.get(tag)
        return state.value if state is not None else None


@dataclass(frozen=True)
class Estimate:
    """The plant's continuous state and what the model misses, at the moment `at`.

    `states`: state tag -> best estimate. `bias`: state tag -> rate the model misses, in the
    tag's unit per second. `inputs`: physics input -> its present value. `coverage90`: share of
    one-round-ahead forecasts of the last plant hour whose 90 % interval held the reading, over
    `coverage_count` of them; None where too few are known.
    """

    at: datetime
    states: Mapping[str, float]
    bias: Mapping[str, float]
    inputs: Mapping[str, float] = field(default_factory=dict)
    coverage90: float | None = None
    coverage_count: int = 0


@dataclass(frozen=True, slots=True)
class SlabOutlook:
    """How one slab will leave the furnace: by slab, as temperatures of steel belong to slabs.

    `leaves_at`: as many futures have it leave before as after. `mean_c`, `difference_k` (face less
    core) and `surface_c` (highest of the face on its way) are means over those in which it leaves,
    `sd_k` is how sure the mean temperature is, all in all; `low_c` and `high_c` bound its central
    90 %, which stops make lopsided; `now_c` is its mean temperature where the forecast starts.
    `in_spec_chance` counts temperature, difference and surface, `cold_chance` a mean temperature
    below the spec's. `doubt` says why a slab is less sure than usual, or "".
    """

    number: int
    leaves_at: datetime
    mean_c: float
    sd_k: float
    difference_k: float
    surface_c: float
    in_spec_chance: float
    cold_chance: float
    doubt: str = ""
    low_c: float = math.nan
    high_c: float = math.nan
    now_c: float = math.nan


@dataclass(frozen=True)
class Forecast:
    """The future of tags under a plan, one array element per step after `start`.

    Element k is at `start` + (k + 1) × `step_s`. `middle` is the mean over replications, `low`
    and `high` bound the central 90 %; NaN while no replication knows the tag. `cost_per_h` is the
    expected money per hour. `holding` is the mean on the same draws if no MV moves; empty where
    that was not asked. `slabs`, in the order in which they leave, where the plant has a furnace.
    """

    start: datetime
    step_s: float
    model: str
    replications: int
    seed: int
    middle: Mapping[str, Series]
    low: Mapping[str, Series]
    high: Mapping[str, Series]
    cost_per_h: float
    holding: Mapping[str, Series] = field(default_factory=dict)
    slabs: tuple[SlabOutlook, ...] = ()


class PlanStatus(StrEnum):
    """How a plan came about: solved, or which fallback was taken."""

    SOLVED = "solved"
    HELD_INFEASIBLE = "held: infeasible"
    HELD_TIMED_OUT = "held: out of time"
    HELD_FAILED = "held: solver failed"
    HELD_NO_STATE = "held: plant state unknown"


@dataclass(frozen=True)
class Plan:
    """Future setpoints: `moves[mv][k]` holds from `start` + k × `step_s` for one step.

    `predicted[tag][k]` is the planner's own middle line at `start` + (k + 1) × `step_s`.
    `binding` names limits the plan touches. `cost_per_h` is the planner's expected money per
    hour over the horizon, `hold_cost_per_h` the same for not moving.
    """

    status: PlanStatus
    reason: str
    start: datetime
    step_s: float
    moves: Mapping[str, Series]
    predicted: Mapping[str, Series] = field(default_factory=dict)
    cost_per_h: float = math.nan
    hold_cost_per_h: float = math.nan
    binding: tuple[str, ...] = ()
    solve_ms: float = 0.0

    @property
    def benefit_per_h(self) -> float:
        """Money per hour that the plan saves against not moving; negative where it costs more."""
        return self.hold_cost_per_h - self.cost_per_h

    @property
    def first_move(self) -> dict[str, float]:
        """The setpoints to write now."""
        return {mv: float(path[0]) for mv, path in self.moves.items()}


class Stage(StrEnum):
    """How far an MV is trusted to the computer."""

    SHADOW = "shadow"
    ADVISORY = "advisory"
    CLOSED_LOOP = "closed loop"


@dataclass(frozen=True)
class Verdict:
    """The gate's answer. `reasons` is empty exactly when `is_clear`."""

    is_clear: bool
    reasons: tuple[str, ...]
    checked_at: datetime
    setpoints: Mapping[str, float]


@dataclass(frozen=True)
class Clearance:
    """The gate's permission for one write of exactly these setpoints. Single use; expires.

    Only `twin.safety.clear` makes one that the writer accepts.
    """

    clearance_id: str
    proposal_id: str
    setpoints: Mapping[str, float]
    issued_at: datetime
    expires_at: datetime


class ProposalStatus(StrEnum):
    """Where a proposal stands."""

    OPEN = "open"
    REFUSED = "refused"  # the gate said no; kept for ever, never shown as acceptable
    SHADOW = "shadow"  # computed only
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    WRITTEN = "written"
    FAILED = "failed"


@dataclass(frozen=True)
class Proposal:
    """A plan's next setpoints with everything a person needs to decide. Stored for ever.

    `created_at` and `expires_at` are plant time; `open_until_wall` is wall time and never less
    than 60 s after publication. `benefit_per_h` is money per hour against holding.
    `status_reason` says why it left the status it was born with: who decided what, what it was
    superseded or refused for; "" while it has not.
    """

    proposal_id: str
    plant: str
    created_at: datetime
    expires_at: datetime
    open_until_wall: datetime
    current: Mapping[str, float]
    setpoints: Mapping[str, float]
    plan: Plan
    forecast: Forecast | None
    verdict: Verdict
    status: ProposalStatus
    reason: str
    benefit_per_h: float
    binding: tuple[str, ...]
    model: str
    status_reason: str = ""


@dataclass(frozen=True)
class Decision:
    """Accept or reject, by a named person or by the closed-loop stage, with a reason."""

    proposal_id: str
    is_accepted: bool
    by: str
    reason: str
    decided_at: datetime


class WriteStatus(StrEnum):
    """How a write ended. UNKNOWN is read again, never blindly repeated."""

    VERIFIED = "verified"
    REFUSED = "refused"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class WriteOutcome:
    """What became of one clearance: per MV the value read back after writing."""

    proposal_id: str
    clearance_id: str | None
    status: WriteStatus
    setpoints: Mapping[str, float]
    read_back: Mapping[str, float | None]
    reason: str
    finished_at: datetime
