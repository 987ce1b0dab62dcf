"""A study file: one what-if question, read from YAML and checked against its plant.

`read_study` returns a frozen Study or raises FileFault with every fault of the file. Nothing
here runs a simulation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails

from twin.errors import ExpressionError, Fault, FileFault, PlantFileError
from twin.expressions import parse
from twin.physics import Physics
from twin.plant import Batches, Plant, Role, Tariff, Trips, nearest
from twin.plant.document import Document, Finding, Place, read_document
from twin.plant.schema_faults import said
from twin.plant.values import (
    Finite,
    Label,
    Lasting,
    Moment,
    Positive,
    Sentence,
    ShortText,
    TagName,
    Wait,
)
from twin.simulation.statistics import FEWEST_RUNS

_STRICT = ConfigDict(extra="forbid")
_MOST_ROWS = 2_000_000  # of one scenario: half a gigabyte where 32 tags are simulated
# A disturbance a hundred times as large is another plant.
Factor = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False, strict=True)]
Name = Annotated[Label, Field(max_length=60)]


@dataclass(frozen=True, config=_STRICT)
class Scenario:
    """What differs from the rest of the study.

    `scale`: disturbance -> factor (demand of 1.3 is 30 % more); `fix`: MV -> setpoint for the
    whole study, whatever the controller wants; `levels`: state -> value at the start.
    """

    name: Name
    scale: Mapping[TagName, Factor] = Field(default_factory=dict)
    fix: Mapping[TagName, Finite] = Field(default_factory=dict)
    levels: Mapping[TagName, Finite] = Field(default_factory=dict)


@dataclass(frozen=True, config=_STRICT)
class Announced:
    """An order on the list at the start: due so many minutes after it."""

    in_min: Wait
    draw: Positive
    duration_min: Lasting


@dataclass(frozen=True, config=_STRICT)
class Start:
    """A made-up present: moment, states, where MVs stand, prices per hour, orders, disturbances.

    `prices` begin with the hour of `at`; `held` are disturbances that no block describes.
    """

    at: Moment
    levels: Mapping[TagName, Finite]
    setpoints: Mapping[TagName, Finite] = Field(default_factory=dict)
    prices: Mapping[TagName, tuple[Finite, ...]] = Field(default_factory=dict)
    orders: Mapping[TagName, tuple[Announced, ...]] = Field(default_factory=dict)
    held: Mapping[TagName, Finite] = Field(default_factory=dict)


@dataclass(frozen=True, config=_STRICT)
class Tracking:
    """A plain PI loop: `mv` moves by `gain` per unit that `cv` is below `target`."""

    mv: TagName
    cv: TagName
    target: Finite
    gain: Finite
    reset_min: Positive


@dataclass(frozen=True, config=_STRICT)
class StudyControl:
    """Who steers: `hold` fixes MVs, `track` lets PI loops move them; others stay as they stand."""

    hold: Mapping[TagName, Finite] = Field(default_factory=dict)
    track: tuple[Tracking, ...] = ()


@dataclass(frozen=True, config=_STRICT)
class Total:
    """A figure of interest: an expression over tags, added up over the study's time.

    `meaning` is what a reader of the table must know of it, told below the table.
    """

    name: Name
    expression: str
    unit: ShortText
    meaning: Sentence = ""


@dataclass(frozen=True, config=_STRICT)
class Study:
    """One question: a base scenario, variants of it, and how to run them.

    Without `start` the study begins at the plant's present.
    """

    study: Name
    variants: Annotated[tuple[Scenario, ...], Field(max_length=50)]
    base: Scenario = Scenario("base")
    start: Start | None = None
    horizon_h: Annotated[float, Field(gt=0, le=168, strict=True)] = 12.0
    replications: Annotated[int, Field(ge=FEWEST_RUNS, le=10_000, strict=True)] = 30
    seed: Annotated[int, Field(ge=0, le=2**53, strict=True)] = 1
    control: StudyControl = StudyControl()
    totals: tuple[Total, ...] = ()

    @property
    def scenarios(self) -> tuple[Scenario, ...]:
        """The base and its variants, base first."""
        return (self.base, *self.variants)


_SHAPES = (Study, Scenario, Announced, Start, Tracking, StudyControl, Total)
_KEYS = sorted({field.name for shape in _SHAPES for field in dataclasses.fields(shape)})
_EXAMPLE = "docs/examples/demand_plus_30.yaml shows how."


def read_study(path: str | Path, plant: Plant, physics: Physics) -> Study:
    """Read a study file and check it against the plant.

    Raises:
        FileFault: with every fault, its line and what to do.
    """
    document, wrong = opened(path, _EXAMPLE)
    study = None
    try:
        study = TypeAdapter(Study).validate_python(document.content)
    except ValidationError as error:
        wrong += [said_of(found, _KEYS, _EXAMPLE) for found in error.errors(include_url=False)]
    if study is not None:
        wrong += _mismatches(study, plant, physics)
    if study is None or wrong:
        raise FileFault(str(path), document.faults(wrong))
    return study


def opened(path: str | Path, example: str) -> tuple[Document, list[Finding]]:
    """A study file's content, and what is wrong with its YAML without making it unreadable.

    Raises:
        FileFault: it can't be read at all; `example` is the remedy.
    """
    try:
        return read_document(Path(path))
    except PlantFileError as fault:
        faults = [Fault(f.where, f.message, f.line, example) for f in fault.faults]
        raise FileFault(str(path), faults) from None


def said_of(error: ErrorDetails, keys: Sequence[str], example: str) -> Finding:
    """Pydantic's verdict on one value in our words; `keys` are all that a study file may have."""
    place: Place = tuple(error["loc"])
    if error["type"] == "unexpected_keyword_argument":
        return Finding(
            place, "is not a known key.", nearest(str(place[-1]), keys).strip() or example
        )
    if error["type"] in ("missing", "missing_argument"):
        return Finding(place, "is missing.", example)
    message, remedy = said(error)
    return Finding(place, message, remedy)


def _mismatches(study: Study, plant: Plant, physics: Physics) -> Iterator[Finding]:
    """Everything that does not fit the plant or the rest of the study."""
    if not study.variants:
        yield Finding(("variants",), "has no scenario to compare with the base.", _EXAMPLE)
    yield from _size_faults(study, plant)
    names = [study.base.name, *(v.name for v in study.variants)]
    for number, variant in enumerate(study.variants):
        if variant.name in names[: number + 1]:
            where = ("variants", number, "name")
            remedy = "Give each scenario its own."
            yield Finding(where, f"the name {variant.name!r} is taken.", remedy)
    places: list[tuple[Place, Scenario]] = [(("base",), study.base)]
    places += [(("variants", i), v) for i, v in enumerate(study.variants)]
    for place, scenario in places:
        yield from _scenario_faults(place, scenario, plant, physics)
    yield from _control_faults(study.control, plant, physics)
    taken = {"cost"}
    for number, total in enumerate(study.totals):
        yield from _total_faults(("totals", number), total, plant, physics)
        if total.name in taken:
            message = f"{total.name!r} is the name of another figure."
            yield Finding(("totals", number, "name"), message, "Give each figure its own.")
        taken.add(total.name)
    if study.start is not None:
        yield from _start_faults(study.start, plant, physics)
        standing = (study.start.setpoints, study.control.hold)
        for tag in plant.with_role(Role.MV):
            if not any(tag.name in setpoints for setpoints in standing):
                message = f"nothing says where {tag.name} stands."
                yield Finding(("start", "setpoints"), message, "Give it here, or hold it.")


def _size_faults(study: Study, plant: Plant) -> Iterator[Finding]:
    rows = study.replications * steps_of(study, plant)
    if rows > _MOST_ROWS:
        message = (
            f"{study.replications} replications of {study.horizon_h:g} h in steps of "
            f"{plant.step_s:g} s are {rows} rows a scenario; {_MOST_ROWS} fit in memory."
        )
        yield Finding(("replications",), message, "Ask for fewer replications or hours.")


def _scenario_faults(
    place: Place, scenario: Scenario, plant: Plant, physics: Physics
) -> Iterator[Finding]:
    disturbances = [tag.name for tag in plant.with_role(Role.DV)]
    yield from _unknown((*place, "scale"), scenario.scale, disturbances, "disturbance")
    yield from _setpoint_faults((*place, "fix"), scenario.fix, plant)
    yield from _level_faults((*place, "levels"), scenario.levels, plant, physics)


def _control_faults(control: StudyControl, plant: Plant, physics: Physics) -> Iterator[Finding]:
    yield from _setpoint_faults(("control", "hold"), control.hold, plant)
    mvs = [tag.name for tag in plant.with_role(Role.MV)]
    known = [tag.name for tag in plant.with_role(Role.CV) if tag.name in physics.states]
    taken = set(control.hold)
    for number, loop in enumerate(control.track):
        place = ("control", "track", number)
        yield from _unknown((*place, "mv"), [loop.mv], mvs, "MV")
        yield from _unknown((*place, "cv"), [loop.cv], known, "CV")
        if loop.mv in taken:
            remedy = "Hold it or track with it, once."
            yield Finding((*place, "mv"), f"{loop.mv} is steered twice.", remedy)
        taken.add(loop.mv)


def _total_faults(place: Place, total: Total, plant: Plant, physics: Physics) -> Iterator[Finding]:
    currency = plant.economics.currency if plant.economics else None
    units = {tag.name: tag.unit for tag in plant.tags if tag.name in simulated(plant, physics)}
    try:
        expression = parse(total.expression)
    except ExpressionError as error:
        yield Finding((*place, "expression"), str(error))
        return
    unknown = sorted(expression.names - set(units))
    yield from _unknown((*place, "expression"), unknown, list(units), "simulated tag")
    if unknown:
        return
    try:
        expression.in_units(units, f"({total.unit})/h", currency=currency)
    except ExpressionError as error:
        yield Finding((*place, "unit"), str(error), f"{total.name} is added up over hours.")


def _start_faults(start: Start, plant: Plant, physics: Physics) -> Iterator[Finding]:
    yield from _setpoint_faults(("start", "setpoints"), start.setpoints, plant)
    yield from _level_faults(("start", "levels"), start.levels, plant, physics)
    missing = [name for name in physics.states if name not in start.levels]
    if missing:
        message = f"{', '.join(missing)} missing."
        yield Finding(("start", "levels"), message, "Give every state a value.")
    prices = [block.price for block in plant.discrete if isinstance(block, Tariff)]
    yield from _unknown(("start", "prices"), start.prices, prices, "price of a tariff")
    for name in prices:
        if not start.prices.get(name):
            remedy = "Give its price per hour from the start on."
            yield Finding(("start", "prices"), f"{name} missing.", remedy)
    demands = [block.demand for block in plant.discrete if isinstance(block, Batches)]
    yield from _unknown(("start", "orders"), start.orders, demands, "demand of an order list")
    others = free_disturbances(plant)
    yield from _unknown(("start", "held"), start.held, others, "disturbance without a block")
    lacking = [name for name in others if name not in start.held]
    if lacking:
        message = f"{', '.join(lacking)} missing."
        yield Finding(("start", "held"), message, "Give each a value to stay at.")


def steps_of(study: Study, plant: Plant) -> int:
    """How many plan steps of the plant a study lasts."""
    return max(1, round(3600.0 * study.horizon_h / plant.step_s))


def simulated(plant: Plant, physics: Physics) -> frozenset[str]:
    """The tags that a simulation of the plant gives values for."""
    steered = [tag.name for tag in plant.tags if tag.role in (Role.MV, Role.DV)]
    return frozenset((*physics.states, *physics.outputs, *steered))


def free_disturbances(plant: Plant) -> list[str]:
    """Disturbances that no block of the discrete part describes."""
    covered: set[str] = set()
    for block in plant.discrete:
        if isinstance(block, Batches):
            covered.add(block.demand)
        elif isinstance(block, Tariff):
            covered.update((block.price, block.next))
        elif isinstance(block, Trips):
            covered.add(block.running)
    return [tag.name for tag in plant.with_role(Role.DV) if tag.name not in covered]


def _unknown(
    place: Place, names: Mapping[str, Any] | Sequence[str], known: list[str], kind: str
) -> Iterator[Finding]:
    for name in names:
        if name not in known:
            loc = (*place, name) if isinstance(names, Mapping) else place
            remedy = nearest(name, known).strip() or f"Known: {', '.join(known) or 'none'}."
            yield Finding(loc, f"{name} is no {kind} of this plant.", remedy)


def _setpoint_faults(
    place: Place, setpoints: Mapping[str, float], plant: Plant
) -> Iterator[Finding]:
    mvs = [tag.name for tag in plant.with_role(Role.MV)]
    yield from _unknown(place, setpoints, mvs, "MV")
    yield from _out_of_range(place, setpoints, plant, mvs.__contains__)


def _level_faults(
    place: Place, levels: Mapping[str, float], plant: Plant, physics: Physics
) -> Iterator[Finding]:
    yield from _unknown(place, levels, list(physics.states), "state")
    yield from _out_of_range(place, levels, plant, physics.states.__contains__)


def _out_of_range(
    place: Place, values: Mapping[str, float], plant: Plant, is_known: Callable[[str], bool]
) -> Iterator[Finding]:
    for name, value in values.items():
        limits = plant.tag(name).engineering if is_known(name) else None
        if limits is not None and not limits.holds(value):
            unit = plant.tag(name).unit
            rule = f"is outside the engineering limits {limits.low} to {limits.high} {unit}"
            yield Finding((*place, name), f"{value} {rule}.", "Choose a value inside them.")
