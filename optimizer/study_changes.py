"""A plant file's numbers changed for a study: by their paths, under the plant file's own rules.

`furnace.zones.3.fuel_mw` is a key of the third zone of the block named furnace. A change is refused
with the sentence that the plant file itself would get. Nothing here runs a simulation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from twin.plant import Economics, Plant, nearest
from twin.plant.document import Finding, Place
from twin.plant.furnace import Furnace, Mill
from twin.plant.furnace_rules import furnace_findings
from twin.plant.schema_faults import said

#: How many slabs lie where is the furnace itself: no run could go on from the present one.
_BUILT = frozenset({"slots", "yard_places"})
_SHAPES: dict[type, TypeAdapter[Any]] = {
    kind: TypeAdapter(kind) for kind in (Furnace, Mill, Economics)
}
_ECONOMICS = -1  # beside the positions of blocks
_EXAMPLE = "Write it like mill.mean_between_h or furnace.zones.3.fuel_mw."


@dataclasses.dataclass(frozen=True)
class _Number:
    """A number, or list of numbers: position of its block, steps inside that, value."""

    block: int
    steps: tuple[Any, ...]
    value: Any


@dataclasses.dataclass(frozen=True)
class _Asked:
    """What shall stand there instead, and where in the study file that is said."""

    number: _Number
    value: Any
    place: Place


def changed_plant(
    plant: Plant, values: Mapping[str, Any], factors: Mapping[str, float], place: Place = ()
) -> tuple[Plant, list[Finding]]:
    """The plant with every path of `values` set and those of `factors` scaled; all their faults.

    It is the given plant where there is any fault. `place` is where in a study file they stand,
    below it as `changes` and `scale`.
    """
    known = _numbers_of(plant)
    findings = [
        *_unknown(values, known, (*place, "changes")),
        *_unknown(factors, known, (*place, "scale")),
    ]
    asked = [
        _Asked(known[path], value, (*place, "changes", path))
        for path, value in values.items()
        if path in known
    ]
    for path, factor in factors.items():
        where = (*place, "scale", path)
        if path in values:
            findings.append(Finding(where, "is changed twice.", "Give it once."))
        elif path in known:
            asked.append(_Asked(known[path], _scaled(known[path].value, factor), where))
    parts: dict[int, Any] = {}
    for position, (_, part) in _parts(plant).items():
        mine = [each for each in asked if each.number.block == position]
        if mine:
            parts[position], wrong = _changed(part, mine)
            findings += wrong
    found = dataclasses.replace(
        plant,
        economics=parts.get(_ECONOMICS, plant.economics),
        discrete=tuple(parts.get(i, block) for i, block in enumerate(plant.discrete)),
    )
    names = frozenset(tag.name for tag in plant.tags)
    for broken in furnace_findings(found, names):
        findings.append(Finding(_cause(broken.place[1:], asked), broken.message, broken.remedy))
    return (plant if findings else found), findings


def _parts(plant: Plant) -> dict[int, tuple[str, Furnace | Mill | Economics]]:
    """What of the plant file can be changed, with its name, by position."""
    parts: dict[int, tuple[str, Furnace | Mill | Economics]] = {
        position: (block.name, block)
        for position, block in enumerate(plant.discrete)
        if isinstance(block, Furnace | Mill)
    }
    return parts | ({_ECONOMICS: ("economics", plant.economics)} if plant.economics else {})


def _numbers_of(plant: Plant) -> dict[str, _Number]:
    """Path -> what stands there, for every number and list of numbers of what can be changed."""
    return {
        f"{name}.{path}": _Number(position, steps, value)
        for position, (name, part) in _parts(plant).items()
        for path, steps, value in _numbers(dataclasses.asdict(part))
        if path not in _BUILT
    }


def _numbers(content: Any) -> Iterator[tuple[str, tuple[Any, ...], Any]]:
    """Path, steps and value of all numbers below; places in lists are counted from 1."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for step, value in items:
        name = str(step) if isinstance(content, dict) else str(step + 1)
        if isinstance(value, int | float) or _is_numbers(value):
            yield name, (step,), value
        elif isinstance(value, dict | list | tuple):
            for path, steps, number in _numbers(value):
                yield f"{name}.{path}", (step, *steps), number


def _is_numbers(value: Any) -> bool:
    is_list = isinstance(value, list | tuple) and len(value) > 0
    return is_list and all(isinstance(each, int | float) for each in value)


def _unknown(
    paths: Mapping[str, Any], known: Mapping[str, _Number], place: Place
) -> Iterator[Finding]:
    for path in paths:
        if path in known:
            continue
        if path.rpartition(".")[2] in _BUILT:
            message = "is how the furnace is built; what lies in it now would not fit."
            yield Finding((*place, path), message, "Leave it out.")
        else:
            message = "is no number of the plant file's furnace, mill or economics."
            remedy = _numbered(path, known) or nearest(path, known).strip() or _EXAMPLE
            yield Finding((*place, path), message, remedy)


def _numbered(path: str, known: Mapping[str, _Number]) -> str:
    """How many there are, where a path counts beyond the end of a list."""
    parts = path.split(".")
    for i, part in enumerate(parts):
        before = ".".join([*parts[:i], ""])
        there = {p.removeprefix(before).split(".")[0] for p in known if p.startswith(before)}
        if part.isdigit() and part not in there and there and all(map(str.isdigit, there)):
            listed = sorted(map(int, there))
            return f"{before[:-1]} are {listed[0]} to {listed[-1]}."
    return ""


def _scaled(value: Any, factor: float) -> Any:
    return [factor * each for each in value] if _is_numbers(value) else factor * value


def _changed(part: Any, asked: Sequence[_Asked]) -> tuple[Any, list[Finding]]:
    content = _open(dataclasses.asdict(part))
    for each in asked:
        here = content
        for step in each.number.steps[:-1]:
            here = here[step]
        here[each.number.steps[-1]] = each.value
    try:
        found = _SHAPES[type(part)].validate_python(content)
    except ValidationError as error:
        wrong = error.errors(include_url=False)
        return part, [Finding(_cause(each["loc"], asked), *said(each)) for each in wrong]
    return found, []


def _open(content: Any) -> Any:
    """The same with lists for tuples, which can be written into."""
    if isinstance(content, dict):
        return {key: _open(value) for key, value in content.items()}
    return [_open(each) for each in content] if isinstance(content, list | tuple) else content


def _cause(at: Sequence[Any], asked: Sequence[_Asked]) -> Place:
    """Where the study file asks for what is wrong at `at`: steps inside a block, maybe behind it.

    A rule between two numbers may name the one that was not changed: then the first change.
    """
    for each in asked:
        steps = each.number.steps
        for told in (tuple(at), tuple(at[1:])):
            if told and (told[: len(steps)] == steps or steps[: len(told)] == told):
                return each.place
    return asked[0].place if asked else ()
