"""A furnace's study file: one what-if question, read from YAML and checked against its plant.

`read_slab_study` returns a frozen SlabStudy or raises FileFault with every fault of the file.
Nothing here runs a simulation.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from optimizer.moves import hard_range
from optimizer.slab_moves import moved_mvs
from optimizer.study_changes import changed_plant
from optimizer.study_file import Factor, Name, opened, said_of
from twin.errors import FileFault
from twin.plant import Plant, Role, nearest
from twin.plant.document import Finding, Place
from twin.plant.furnace import Furnace, Grade
from twin.plant.values import Finite, Lasting, Moment, TagName, Wait
from twin.simulation.line import line_of
from twin.simulation.statistics import FEWEST_RUNS

_STRICT = ConfigDict(extra="forbid")

#: What a slab can be; beyond is a typing error. Records are doubted outside 50 to 600 mm (twin's
#: records); no furnace passes more than some 500 t/h, and below 20 t/h it is no more than kept hot.
Thickness = Annotated[float, Field(ge=50, le=600, allow_inf_nan=False, strict=True)]
Charge = Annotated[float, Field(ge=0, le=1250, allow_inf_nan=False, strict=True)]
Rate = Annotated[float, Field(ge=20, le=500, allow_inf_nan=False, strict=True)]

Steering = Literal["held", "plan"]

_MOST_H = 72.0  # three days: beyond, what a present has to say is long gone
_MOST_RUNS = 200  # an interval a third as wide as that of 20
#: Planning rounds of a whole study, at 50 ms each: two hours of one core.
_MOST_ROUNDS = 150_000


@dataclass(frozen=True, config=_STRICT)
class Kind:
    """The slabs of a campaign, as their records tell them: mm, °C, a key of `grades`, t/h."""

    thickness: Thickness
    charge: Charge
    grade: Grade
    rate: Rate


@dataclass(frozen=True, config=_STRICT)
class Coming:
    """What every slab that is charged from now on has, whatever its campaign; None: as it is.

    `rate` holds for the slabs inside as well: it is the mill's schedule.
    """

    thickness: Thickness | None = None
    charge: Charge | None = None
    grade: Grade | None = None
    rate: Rate | None = None


@dataclass(frozen=True, config=_STRICT)
class Stop:
    """A stop of the mill that comes for sure: with the first slab rolled after `at_min`."""

    at_min: Wait
    lasts_min: Lasting


@dataclass(frozen=True, config=_STRICT)
class SlabScenario:
    """What differs from the rest of the study.

    `changes`: path in the plant file's furnace, mill or economics -> value; `scale`: path ->
    factor; `fix`: MV -> setpoint for the whole study, whoever steers. `mix` are the kinds of
    campaigns that come, drawn evenly, instead of those in the yard and like them; `slabs` holds for
    every slab that comes.
    """

    name: Name
    changes: Mapping[str, Any] = Field(default_factory=dict)
    scale: Mapping[str, Factor] = Field(default_factory=dict)
    fix: Mapping[TagName, Finite] = Field(default_factory=dict)
    stops: tuple[Stop, ...] = ()
    slabs: Coming = Coming()
    mix: tuple[Kind, ...] | None = None


@dataclass(frozen=True, config=_STRICT)
class RunIn:
    """A made-up present: a furnace that has run steadily on campaigns of `mix` under the plan."""

    at: Moment
    mix: tuple[Kind, ...]
    hours: Annotated[float, Field(ge=1, le=24, allow_inf_nan=False, strict=True)] = 8.0


@dataclass(frozen=True, config=_STRICT)
class SlabStudy:
    """One question: a base scenario, variants of it, who steers, and how to run them.

    Without `start` it begins at the plant's present, or where a live plan would hold, with a
    furnace run in on an assumed mix. Figures count from `settle_h` to `horizon_h`.
    """

    study: Name
    variants: Annotated[tuple[SlabScenario, ...], Field(max_length=20)]
    base: SlabScenario = SlabScenario("base")
    start: RunIn | None = None
    horizon_h: Annotated[float, Field(gt=0, le=_MOST_H, allow_inf_nan=False, strict=True)] = 8.0
    settle_h: Annotated[float, Field(ge=0, le=_MOST_H, allow_inf_nan=False, strict=True)] = 0.0
    replications: Annotated[int, Field(ge=FEWEST_RUNS, le=_MOST_RUNS, strict=True)] = 20
    seed: Annotated[int, Field(ge=0, le=2**53, strict=True)] = 1
    steered_by: Annotated[tuple[Steering, ...], Field(min_length=1)] = ("held", "plan")

    @property
    def scenarios(self) -> tuple[SlabScenario, ...]:
        """The base and its variants, base first."""
        return (self.base, *self.variants)

    def rounds(self, plant: Plant) -> int:
        """How many planning rounds the study takes."""
        runs = len(self.scenarios) * self.replications * ("plan" in self.steered_by)
        return round(runs * 3600.0 * self.horizon_h / plant.round_s)


_SHAPES = (SlabStudy, SlabScenario, RunIn, Stop, Coming, Kind)
_KEYS = sorted({field.name for shape in _SHAPES for field in dataclasses.fields(shape)})
_EXAMPLE = "docs/examples/furnace_stop_40.yaml shows how."
_ADAPTER = TypeAdapter(SlabStudy)
_PASSES = 8  # each takes out at least one faulty part; parts are nested four deep


def read_slab_study(path: str | Path, plant: Plant) -> SlabStudy:
    """Read a furnace's study file and check it against the plant.

    Raises:
        FileFault: with every fault, its line and what to do.
    """
    document, wrong = opened(path, _EXAMPLE)
    study, errors = _validated(document.content)
    wrong += [said_of(error, _KEYS, _EXAMPLE) for error in errors]
    told = [finding.place for finding in wrong]
    sound = study if study is not None else _sound_part(document.content, errors)
    if sound is not None:
        # What only follows from a faulty part that was taken out is not said.
        wrong += [
            f for f in _mismatches(sound, plant) if not any(_is_near(f.place, p) for p in told)
        ]
    if study is None or wrong:
        raise FileFault(str(path), document.faults(wrong))
    return study


def _validated(content: Mapping[str, Any]) -> tuple[SlabStudy | None, list[Any]]:
    try:
        return _ADAPTER.validate_python(content), []
    except ValidationError as error:
        return None, error.errors(include_url=False)


def _sound_part(content: Mapping[str, Any], errors: list[Any]) -> SlabStudy | None:
    """The study without its faulty parts, so that the rest can be judged in the same breath."""
    left = copy.deepcopy(dict(content))
    study = None
    for _ in range(_PASSES):
        for error in errors:
            _take_out(left, error["loc"])
        study, errors = _validated(left)
        if study is not None:
            break
    return study


def _take_out(content: dict[str, Any], place: Place) -> None:
    """Delete the innermost key on the way to `place`; a name is made up instead."""
    way: list[Any] = [content]
    for step in place:
        here = way[-1]
        is_there = isinstance(here, dict) and step in here
        is_item = isinstance(here, list) and isinstance(step, int) and step < len(here)
        if not (is_there or is_item):
            break
        way.append(here[step])
    holder = way[min(len(place), len(way)) - 1]
    if place[-1] in ("name", "study") and isinstance(holder, dict):
        holder[place[-1]] = "/".join(map(str, place))
        return
    for here, step in reversed(list(zip(way[:-1], place, strict=False))):
        if isinstance(here, dict):
            del here[step]
            return


def _is_near(place: Place, told: Place) -> bool:
    length = min(len(place), len(told))
    return place[:length] == told[:length]


def _mismatches(study: SlabStudy, plant: Plant) -> Iterator[Finding]:
    """Everything that does not fit the plant or the rest of the study."""
    if not study.variants:
        yield Finding(("variants",), "has no scenario to compare with the base.", _EXAMPLE)
    if study.settle_h >= study.horizon_h:
        message = f"{study.settle_h:g} h leave nothing to count of {study.horizon_h:g} h."
        yield Finding(("settle_h",), message, "Choose it below horizon_h.")
    if study.rounds(plant) > _MOST_ROUNDS:
        message = f"{study.rounds(plant)} planning rounds; a study has {_MOST_ROUNDS} at most."
        yield Finding(("replications",), message, "Choose fewer replications or hours.")
    if len(set(study.steered_by)) < len(study.steered_by):
        yield Finding(("steered_by",), "names one of them twice.", "Name each once.")
    furnace, _ = line_of(plant)
    if study.start is not None:
        yield from _mix_faults(("start", "mix"), study.start.mix, furnace)
    names = [study.base.name]
    yield from _scenario_faults(("base",), study.base, study, plant)
    for number, variant in enumerate(study.variants):
        place = ("variants", number)
        if variant.name in names:
            message = f"the name {variant.name!r} is taken."
            yield Finding((*place, "name"), message, "Give each scenario its own.")
        names.append(variant.name)
        yield from _scenario_faults(place, variant, study, plant)


def _scenario_faults(
    place: Place, scenario: SlabScenario, study: SlabStudy, plant: Plant
) -> Iterator[Finding]:
    yield from changed_plant(plant, scenario.changes, scenario.scale, place)[1]
    for number, stop in enumerate(scenario.stops):
        if stop.at_min >= 60.0 * study.horizon_h:
            message = f"{stop.at_min:g} min is not within the study's {study.horizon_h:g} h."
            yield Finding((*place, "stops", number, "at_min"), message, "Choose an earlier one.")
    furnace, _ = line_of(plant)
    if scenario.mix is not None:
        yield from _mix_faults((*place, "mix"), scenario.mix, furnace)
    if scenario.slabs.grade is not None:
        yield from _grade_faults((*place, "slabs", "grade"), scenario.slabs.grade, furnace)
    yield from _fix_faults((*place, "fix"), scenario.fix, plant)


def _mix_faults(place: Place, mix: tuple[Kind, ...], furnace: Furnace) -> Iterator[Finding]:
    if not mix:
        yield Finding(place, "is empty: no slab would come.", "Name at least one kind of slab.")
    for number, kind in enumerate(mix):
        yield from _grade_faults((*place, number, "grade"), kind.grade, furnace)


def _grade_faults(place: Place, grade: int, furnace: Furnace) -> Iterator[Finding]:
    if grade not in furnace.grades:
        known = ", ".join(map(str, sorted(furnace.grades)))
        yield Finding(place, f"{grade} is no grade of the plant file.", f"Known: {known}.")


def _fix_faults(place: Place, setpoints: Mapping[str, float], plant: Plant) -> Iterator[Finding]:
    moved = moved_mvs(plant)
    mvs = [tag.name for tag in plant.with_role(Role.MV) if tag.name in moved]
    for name, value in setpoints.items():
        if name not in mvs:
            remedy = nearest(name, mvs).strip() or f"Known: {', '.join(mvs)}."
            yield Finding((*place, name), f"{name} is no MV of furnace or mill.", remedy)
            continue
        tag = plant.tag(name)
        limits = tag.engineering
        if limits is not None and not limits.holds(value):
            low, high = hard_range(dataclasses.replace(tag, operator=None))
            message = f"{value:g} is outside the engineering limits {low:g} to {high:g} {tag.unit}"
            yield Finding((*place, name), f"{message.strip()}.", "Choose a value inside them.")
