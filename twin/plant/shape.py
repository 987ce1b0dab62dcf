"""The shape of a plant file: what a plant is, as frozen dataclasses checked by pydantic.

What one value may be stands in `values`; what values must be to each other stands in `rules`.
Nothing here reads a file.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from twin.errors import UnknownTag
from twin.expressions import Expression, parse
from twin.plant.endpoint import is_loopback
from twin.plant.furnace import Furnace, Mill
from twin.plant.sources import FileSource, OpcUaSource, Source
from twin.plant.values import (
    Age,
    BetweenTrips,
    Column,
    FileName,
    Finite,
    Label,
    Lasting,
    MeanGap,
    Message,
    NodeText,
    NonNegative,
    Patience,
    PlanStep,
    PlantName,
    Positive,
    Rank,
    RelativeError,
    SamplePeriod,
    Sentence,
    ShortText,
    SourceName,
    TagName,
    Wait,
    Whole,
)

_STRICT = ConfigDict(extra="forbid")

_EVERY = "A planning round comes every so many steps, and whenever a mill stops or starts."
RoundSteps = Annotated[int, Field(ge=1, le=120, strict=True, description=_EVERY)]


class Role(StrEnum):
    """What a tag is to the controller."""

    MV = "MV"  # manipulated: we may move it
    CV = "CV"  # controlled: kept inside limits
    DV = "DV"  # disturbance: measured, not ours to move
    AUX = "AUX"  # auxiliary: shown and stored


@dataclass(frozen=True, config=_STRICT)
class Limits:
    """A closed range in the tag's unit; an open side is left out of the file."""

    low: Finite | None = None
    high: Finite | None = None

    def holds(self, value: float) -> bool:
        """Whether `value` lies inside; NaN never does."""
        above = self.low is None or value >= self.low
        below = self.high is None or value <= self.high
        return above and below and value == value


@dataclass(frozen=True, config=_STRICT)
class Relief:
    """While a CV is outside on `side`, the MV may only move in `direction`."""

    cv: TagName
    side: Literal["low", "high"]
    direction: Literal["up", "down"]


@dataclass(frozen=True, config=_STRICT)
class RemoteMode:
    """How the PLC is told to take our setpoint: the mode tag and its two values."""

    tag: TagName
    auto: Whole = 0
    remote: Whole = 1


@dataclass(frozen=True, config=_STRICT)
class WindUp:
    """The tag that says whether what an MV drives is at its end, and its values for that.

    The defaults are OPC UA's limit bits (OPC 10000-4, 7.39.1): 0 free, 1 low, 2 high, 3 can't
    move. Any other value is unknown.
    """

    tag: TagName
    free: Whole = 0
    low: Whole = 1
    high: Whole = 2
    both: Whole = 3


@dataclass(frozen=True, config=_STRICT)
class Tag:
    """One named signal of the plant, with unit, role and where it is read.

    `source` names one of the plant's sources, "" its main one; `node` is the address there. Of an
    MV, `downstream` is the tag that shows the setpoint which the PLC really uses.
    """

    name: TagName
    role: Role
    unit: ShortText
    description: Sentence = ""
    source: SourceName | Literal[""] = ""
    node: NodeText = ""
    column: Column | None = None
    engineering: Limits | None = None
    operator: Limits | None = None
    rank: Rank | None = None
    soft_price_per_h: NonNegative | None = None
    margin_low: NonNegative = 0.0
    margin_high: NonNegative = 0.0
    rate_limit_per_min: Positive | None = None
    move_budget_per_h: Positive | None = None
    move_price: NonNegative = 0.0
    requires: tuple[TagName, ...] = ()
    relief: tuple[Relief, ...] = ()
    remote: RemoteMode | None = None
    downstream: TagName | None = None
    windup: WindUp | None = None
    write_tolerance: Positive | None = None
    aggregate: Literal["last", "mean"] = "last"
    max_age_s: Age = 60.0
    decimals: Annotated[int, Field(ge=0, le=9, strict=True)] = 2

    @property
    def stands_at(self) -> str:
        """The tag that shows where an MV really stands: its `downstream`, else its own."""
        return self.downstream or self.name


@dataclass(frozen=True, config=_STRICT)
class Quantity:
    """A number with its unit."""

    value: Finite
    unit: ShortText
    source: Sentence = ""


@dataclass(frozen=True, config=_STRICT)
class Economics:
    """Money: an expression over tags and parameters whose unit is `currency` per hour.

    `limit_price_per_min` is charged per CV and minute outside its operator limits. A plan whose
    benefit against holding is below `smallest_benefit_per_h` is not worth a proposal.
    """

    currency: ShortText
    cost_per_h: str
    parameters: Mapping[str, Quantity] = Field(default_factory=dict)
    limit_price_per_min: NonNegative = 0.0
    smallest_benefit_per_h: NonNegative = 0.0


@dataclass(frozen=True, config=_STRICT)
class Interlock:
    """While `when` is true or unknown, the `blocks` MVs may not be moved by us."""

    name: Label
    when: str
    blocks: tuple[TagName, ...]
    message: Message


@dataclass(frozen=True, config=_STRICT)
class OrderSlot:
    """One line of the plant's order list: three tags that announce one batch.

    `start`: seconds since 1970 UTC; `draw`: the demand tag's unit, 0 for an empty line;
    `duration`: minutes.
    """

    start: TagName
    draw: TagName
    duration: TagName


@dataclass(frozen=True, config=_STRICT)
class Batches:
    """Batches drawn as announced by an order list, with errors in time and size."""

    kind: Literal["batches"]
    name: Label
    demand: TagName
    slots: tuple[OrderSlot, ...]
    start_error_sd_min: Wait
    start_error_limit_min: Wait
    draw_error_sd: RelativeError
    duration_error_sd: RelativeError
    notice_min: tuple[Lasting, Lasting]
    gap_min: tuple[Wait, MeanGap]
    draw: tuple[Positive, Positive]
    duration_min: tuple[Lasting, Lasting]


@dataclass(frozen=True, config=_STRICT)
class Trips:
    """A machine that trips at random and is repaired: tag 1 while running, else 0."""

    kind: Literal["trips"]
    name: Label
    running: TagName
    mean_between_h: BetweenTrips
    repair_min: tuple[Lasting, Lasting]


@dataclass(frozen=True, config=_STRICT)
class Tariff:
    """A price that changes on the full hour; `next` announces the following hour's."""

    kind: Literal["tariff"]
    name: Label
    price: TagName
    next: TagName


Block = Annotated[Batches | Trips | Tariff | Furnace | Mill, Field(discriminator="kind")]


@dataclass(frozen=True, config=_STRICT)
class Plant:
    """A checked plant file. `path` is where it was read."""

    plant: PlantName
    title: Label
    tags: tuple[Tag, ...]
    step_s: PlanStep = 60.0
    sample_s: SamplePeriod = 10.0
    plan_every_steps: RoundSteps = 1
    horizon_steps: Annotated[int, Field(ge=2, le=1000, strict=True)] = 60
    time_zone: ShortText = "UTC"
    physics: FileName | None = None
    economics: Economics | None = None
    interlocks: tuple[Interlock, ...] = ()
    discrete: tuple[Block, ...] = ()
    opcua: OpcUaSource | None = None
    sources: tuple[Source, ...] = ()
    files: FileSource | None = None
    proposal_open_s: Patience = 300.0
    path: Path | None = None

    def tag(self, name: str) -> Tag:
        """The tag of that name; raises UnknownTag with the nearest names."""
        tag = self._by_name.get(name)
        if tag is None:
            near = nearest(name, self._by_name)
            raise UnknownTag(f"{name}: no such tag in plant {self.plant}.{near}")
        return tag

    def with_role(self, role: Role) -> tuple[Tag, ...]:
        """All tags of one role, in file order."""
        return tuple(tag for tag in self.tags if tag.role is role)

    @property
    def all_sources(self) -> tuple[Source, ...]:
        """Every live source, the main one first: `opcua` if there is one, else the first other."""
        return ((self.opcua,) if self.opcua is not None else ()) + self.sources

    def tags_of(self, source: str) -> tuple[Tag, ...]:
        """The tags that the source of that name delivers, in file order."""
        main = self.all_sources[0].name if self.all_sources else ""
        return tuple(tag for tag in self.tags if (tag.source or main) == source)

    @cached_property
    def written_nodes(self) -> Mapping[str, str]:
        """Name -> node of all that may ever be written: MVs, their modes, the PLC's own nodes.

        A tag goes by its name, a PLC node (heartbeat, stop, advisory) by its node.
        """
        if self.opcua is None:
            return {}
        modes = {tag.remote.tag for tag in self.tags if tag.remote is not None}
        written = {
            tag.name: tag.node or tag.name
            for tag in self.tags_of(self.opcua.name)
            if tag.role is Role.MV or tag.name in modes
        }
        return written | {node: node for node in self.opcua.written_nodes}

    @property
    def furnace(self) -> Furnace | None:
        """The furnace of the discrete part; a plant file that has one has its mill too."""
        return next((block for block in self.discrete if isinstance(block, Furnace)), None)

    @property
    def mill(self) -> Mill | None:
        """The mill of the discrete part."""
        return next((block for block in self.discrete if isinstance(block, Mill)), None)

    @property
    def round_s(self) -> float:
        """Plant seconds between two planning rounds."""
        return self.plan_every_steps * self.step_s

    @property
    def is_on_this_machine(self) -> bool:
        """Whether its OPC UA server is on this machine: only there a closed loop is allowed."""
        return self.opcua is not None and is_loopback(self.opcua.endpoint)

    @cached_property
    def cost(self) -> Expression | None:
        """Money per hour over tags in their own units, with parameters and conversions put in.

        None where the plant file states no economics. Raises ExpressionError if it does not fit.
        """
        if self.economics is None:
            return None
        given = self.economics.parameters
        name_units = {tag.name: tag.unit for tag in self.tags}
        name_units |= {name: quantity.unit for name, quantity in given.items()}
        return parse(self.economics.cost_per_h).in_units(
            name_units,
            f"{self.economics.currency}/h",
            currency=self.economics.currency,
            constants={name: quantity.value for name, quantity in given.items()},
        )

    @cached_property
    def _by_name(self) -> dict[str, Tag]:
        return {tag.name: tag for tag in self.tags}


def nearest(wrong: str, known: Iterable[str]) -> str:
    """A sentence with the names most like `wrong`, with a leading blank; "" if none is like it."""
    names = difflib.get_close_matches(wrong, list(known), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(names)}?" if names else ""
