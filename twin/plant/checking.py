"""All faults of a plant file at once: what pydantic finds, and the rules on what is left sound."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from twin.plant import schema_faults
from twin.plant.document import Document, Finding, Place
from twin.plant.rules import findings
from twin.plant.shape import Plant

ADAPTER = TypeAdapter(Plant)

_LISTS = ("tags", "interlocks", "discrete", "sources")
# Each round removes at least one faulty part; parts are nested four deep at most.
_ROUNDS = 8


def checked(document: Document, content: dict[str, Any]) -> tuple[Plant | None, list[Finding]]:
    """The plant and no findings, or None and everything that is wrong."""
    plant, errors = _validated(document, content)
    if plant is not None:
        broken = [*_repeated_names(content), *findings(plant, frozenset())]
        return (None, broken) if broken else (plant, [])
    told: dict[Place, Finding] = {}
    spoken_for: list[Place] = []
    for error in errors:
        finding, meant = schema_faults.finding(error, content)
        told.setdefault(finding.place, finding)
        spoken_for += [finding.place] if meant is None else [finding.place, meant]
    further = _rules_on_the_sound_part(document, content, errors)
    return None, [
        *told.values(),
        *_repeated_names(content),
        *(f for f in further if not any(p[: len(f.place)] == f.place for p in spoken_for)),
    ]


def _validated(
    document: Document, content: dict[str, Any]
) -> tuple[Plant | None, list[ErrorDetails]]:
    try:
        return ADAPTER.validate_python({**content, "path": document.path}), []
    except ValidationError as wrong:
        return None, wrong.errors(include_url=False)


def _rules_on_the_sound_part(
    document: Document, content: dict[str, Any], errors: list[ErrorDetails]
) -> list[Finding]:
    """The rules applied to the file without its faulty parts; places are those of the file."""
    if not isinstance(content.get("tags"), list):
        return []
    sound = {key: list(v) if key in _LISTS else v for key, v in content.items() if _fits(key, v)}
    kept = {key: list(range(len(sound.get(key, ())))) for key in _LISTS}
    plant: Plant | None = None
    for _ in range(_ROUNDS):
        dropped: set[Place] = set()
        for place, is_extra in sorted(
            {(schema_faults.place_of(e, sound), schema_faults.is_unknown_key(e)) for e in errors},
            key=lambda found: [str(step).rjust(8, "0") for step in found[0]],
            reverse=True,
        ):
            if not any(place[: len(gone)] == gone for gone in dropped):
                dropped.add(_removed(sound, kept, place, is_extra))
        plant, errors = _validated(document, sound)
        if plant is not None:
            break
    if plant is None:
        return []
    sound_names = {tag.name for tag in plant.tags}
    if plant.economics is not None:
        sound_names |= set(plant.economics.parameters)
    hidden = frozenset(_names(content) - sound_names)
    return [_in_file(finding, kept) for finding in findings(plant, hidden)]


def _names(content: dict[str, Any]) -> set[str]:
    """All names of tags and parameters in the file, sound or not."""
    economics = content.get("economics")
    parameters = economics.get("parameters") if isinstance(economics, dict) else None
    names = [tag.get("name") for tag in content["tags"] if isinstance(tag, dict)]
    names += list(parameters) if isinstance(parameters, dict) else []
    return {name for name in names if isinstance(name, str)}


def _repeated_names(content: dict[str, Any]) -> Iterator[Finding]:
    """Tag names given to two tags, told also where one of the two has other faults."""
    tags = content.get("tags")
    seen: set[str] = set()
    for position, tag in enumerate(tags if isinstance(tags, list) else ()):
        name = tag.get("name") if isinstance(tag, dict) else None
        if isinstance(name, str):
            if name in seen:
                message = f"{name!r} is already the name of an earlier tag."
                yield Finding(("tags", position, "name"), message, "Rename one.")
            seen.add(name)


def _fits(key: str, value: Any) -> bool:
    return key not in _LISTS or isinstance(value, list)


def _removed(
    sound: dict[str, Any], kept: dict[str, list[int]], place: Place, is_extra: bool
) -> Place:
    """Take the faulty part out and say what went: a key, else the item or section it is in."""
    if not place:
        return place
    section = str(place[0])
    if is_extra:
        _delete_key(sound, place)
        return place
    if section in _LISTS and len(place) > 1 and isinstance(place[1], int):
        items, position = sound[section], int(place[1])
        if len(place) > 2 and isinstance(items[position], dict) and place[2] in items[position]:
            items[position] = {k: v for k, v in items[position].items() if k != place[2]}
            return place[:3]
        del items[position], kept[section][position]
        return place[:2]
    if place[:2] == ("economics", "parameters") and len(place) > 2:
        _delete_key(sound, place[:3])
        return place[:3]
    if section in sound:
        del sound[section]
    else:
        # A required key of the top level: nothing else depends on what it says.
        sound[section] = "unreadable"
    return place[:1]


def _delete_key(sound: dict[str, Any], place: Place) -> None:
    """Delete one key deep inside, copying what is on the way: the file's content stays."""
    here: Any = sound
    for step in place[:-1]:
        here[step] = dict(here[step]) if isinstance(here[step], dict) else list(here[step])
        here = here[step]
    del here[place[-1]]


def _in_file(finding: Finding, kept: dict[str, list[int]]) -> Finding:
    place = finding.place
    if len(place) > 1 and place[0] in _LISTS and isinstance(place[1], int):
        place = (place[0], kept[str(place[0])][place[1]], *place[2:])
    return Finding(place, finding.message, finding.remedy)
