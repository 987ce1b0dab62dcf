"""What a plant file must say of what is written: where an MV stands, its wind-up, PLC nodes."""

from __future__ import annotations

from collections.abc import Iterator

from twin.plant.document import Finding, Place
from twin.plant.shape import Plant, Role, Tag
from twin.plant.sources import Advisory
from twin.plant.tag_rules import unknown


def write_findings(plant: Plant, names: frozenset[str]) -> Iterator[Finding]:
    """Every broken rule about writing; `names` are all tag names of the file."""
    known = {tag.name: tag for tag in plant.tags}
    shown_of: dict[str, str] = {}
    for position, tag in enumerate(plant.tags):
        at: Place = ("tags", position)
        if tag.role is Role.MV and tag.downstream is not None:
            yield from _downstream(tag, known.get(tag.downstream), at, names)
            first = shown_of.setdefault(tag.downstream, tag.name)
            if first != tag.name:
                message = f"{tag.downstream!r} is already that of {first}."
                yield Finding((*at, "downstream"), message, "Every MV has its own.")
        if tag.role is Role.MV and tag.remote is not None:
            yield from _mode(plant, known.get(tag.remote.tag), at)
        if tag.role is Role.MV and tag.windup is not None:
            yield from _windup(tag, at, names)
    if plant.opcua is not None and plant.opcua.advisory is not None:
        yield from _advisory(plant, plant.opcua.advisory, names)
    yield from _nodes(plant)


def _downstream(tag: Tag, shown: Tag | None, at: Place, names: frozenset[str]) -> Iterator[Finding]:
    here: Place = (*at, "downstream")
    if tag.downstream is not None and tag.downstream not in names:
        yield unknown(here, tag.downstream, names)
    if shown is None:
        return
    if shown.role is Role.MV and shown.name != tag.name:
        message = f"{shown.name} is another MV."
        yield Finding(here, message, "Name the tag that shows the setpoint the PLC really uses.")
    if shown.unit != tag.unit:
        message = f"{shown.name} is in {shown.unit!r}, not in {tag.unit!r}."
        yield Finding(here, message, "Both need one unit: the gate converts nothing.")


def _mode(plant: Plant, mode: Tag | None, at: Place) -> Iterator[Finding]:
    if mode is not None and plant.opcua is not None and mode.source not in ("", plant.opcua.name):
        message = f"{mode.name} is read from {mode.source}, which is not written to."
        yield Finding((*at, "remote", "tag"), message, "Name the mode tag of the main source.")


def _windup(tag: Tag, at: Place, names: frozenset[str]) -> Iterator[Finding]:
    assert tag.windup is not None
    windup, here = tag.windup, (*at, "windup")
    if windup.tag not in names:
        yield unknown((*here, "tag"), windup.tag, names)
    elif windup.tag == tag.name:
        message = "is the MV itself."
        yield Finding((*here, "tag"), message, "Name the tag with the PLC's status of it.")
    values = (windup.free, windup.low, windup.high, windup.both)
    if len(set(values)) < len(values):
        told = ", ".join(f"{value:g}" for value in values)
        message = f"free, low, high and both are {told}: two are the same."
        yield Finding(here, message, "Give a value of its own even to what the PLC never shows.")


def _advisory(plant: Plant, advisory: Advisory, names: frozenset[str]) -> Iterator[Finding]:
    at: Place = ("opcua", "advisory", "value_nodes")
    if not advisory.value_nodes:
        yield Finding(at, "names no MV.", "Give each MV's advised value its node.")
    roles = {tag.name: tag.role for tag in plant.tags}
    for mv in advisory.value_nodes:
        if mv not in names:
            yield unknown((*at, mv), mv, names)
        elif roles.get(mv, Role.MV) is not Role.MV:
            message = f"{mv} is {roles[mv]}, not an MV."
            yield Finding((*at, mv), message, "Advice is given for MVs.")
    missing = [mv.name for mv in plant.with_role(Role.MV) if mv.name not in advisory.value_nodes]
    if missing:
        message = f"has no node for {', '.join(missing)}."
        yield Finding(at, message, "A proposal may move every MV; advise all or none.")


def _nodes(plant: Plant) -> Iterator[Finding]:
    """A PLC node that is ours to write is nobody else's."""
    if plant.opcua is None:
        return
    taken = {tag.node or tag.name: tag.name for tag in plant.tags_of(plant.opcua.name)}
    taken |= {tag.name: tag.name for tag in plant.tags}
    if plant.opcua.speed_node is not None:
        taken[plant.opcua.speed_node] = "speed_node"
    for place, node in _places(plant):
        if node in taken:
            message = f"{node!r} is already that of {taken[node]}."
            yield Finding(place, message, "What is written needs a node of its own.")
        taken[node] = ".".join(str(part) for part in place)


def _places(plant: Plant) -> Iterator[tuple[Place, str]]:
    source = plant.opcua
    assert source is not None
    for key in ("heartbeat_node", "stop_node"):
        if node := getattr(source, key):
            yield ("opcua", key), node
    if (advisory := source.advisory) is None:
        return
    for key in ("id_node", "valid_until_node", "heartbeat_node"):
        if node := getattr(advisory, key):
            yield ("opcua", "advisory", key), node
    for mv, node in advisory.value_nodes.items():
        yield ("opcua", "advisory", "value_nodes", mv), node
