"""What the sources of a plant file must be, to themselves and to the tags they deliver."""

from __future__ import annotations

from collections.abc import Iterator

from twin.plant.document import Finding, Place
from twin.plant.endpoint import is_loopback, is_mqtt_address, is_opcua_address
from twin.plant.node_text import node_parts
from twin.plant.shape import Plant, Role, Tag, nearest
from twin.plant.sources import FileSource, MqttSource, OpcUaSource, Source


def source_findings(plant: Plant) -> Iterator[Finding]:
    """Every broken rule about where readings come from."""
    if not plant.all_sources and plant.files is None:
        message = "says neither `opcua`, `sources` nor `files`: nothing to read the plant from."
        yield Finding(("opcua",), message, "Add one of the three.")
    places: list[Place] = [("opcua",)] if plant.opcua is not None else []
    places += [("sources", position) for position in range(len(plant.sources))]
    names: list[str] = []
    for at, source in zip(places, plant.all_sources, strict=True):
        if source.name in names:
            yield Finding((*at, "name"), f"{source.name!r} is used twice.", "Rename one.")
        names.append(source.name)
        yield from _address(source, at)
        yield from _own_nodes(source, at)
        if at != ("opcua",):
            yield from _only_of_the_main(source, at)
    for position, tag in enumerate(plant.tags):
        yield from _tag(plant, tag, ("tags", position), names)
    if plant.files is not None:
        yield from _tables(plant, plant.files)


def _address(source: Source, at: Place) -> Iterator[Finding]:
    if isinstance(source, MqttSource):
        if not is_mqtt_address(source.broker):
            message = f"{source.broker!r} is not an MQTT address."
            remedy = "Write it like mqtts://host:8883, without blanks and without a user."
            yield Finding((*at, "broker"), message, remedy)
        elif not source.broker.startswith("mqtts:") and not is_loopback(source.broker):
            message = f"{source.broker} is another machine, reached without encryption."
            yield Finding((*at, "broker"), message, "Use mqtts://, or a broker on this machine.")
        return
    if not is_opcua_address(source.endpoint):
        message = f"{source.endpoint!r} is not an OPC UA address."
        remedy = "Write it like opc.tcp://host:4840/path, without blanks and without a user."
        yield Finding((*at, "endpoint"), message, remedy)
    elif source.security.is_none and not is_loopback(source.endpoint):
        message = f"is None, but {source.endpoint} is another machine."
        remedy = "Choose a policy; None is for a server on this machine, by a loopback address."
        yield Finding((*at, "security", "policy"), message, remedy)
    if source.security.is_none and source.security.login != "anonymous":
        message = f"{source.security.login} needs a policy that encrypts; None shows it to anybody."
        yield Finding((*at, "security", "login"), message, "Choose a policy or log in anonymously.")


def _own_nodes(source: Source, at: Place) -> Iterator[Finding]:
    """What is wrong with nodes that are no tags: heartbeat, stop, speed and advisory nodes."""
    if not isinstance(source, OpcUaSource):
        return
    keys = ("heartbeat_node", "stop_node", "speed_node")
    told: list[tuple[Place, str | None]] = [((*at, key), getattr(source, key)) for key in keys]
    if (advisory := source.advisory) is not None:
        inside = (*at, "advisory")
        keys = ("id_node", "valid_until_node", "heartbeat_node")
        told += [((*inside, key), getattr(advisory, key)) for key in keys]
        told += [((*inside, "value_nodes", mv), node) for mv, node in advisory.value_nodes.items()]
    for place, node in told:
        if node and (fault := _node_fault(node)):
            yield _no_node(place, node, fault)


def _no_node(place: Place, node: str, fault: str) -> Finding:
    remedy = "Write it as nsu=URI;s=NAME, or as a plain NAME."
    return Finding(place, f"{node!r} is no node: {fault}.", remedy)


def _only_of_the_main(source: Source, at: Place) -> Iterator[Finding]:
    if isinstance(source, OpcUaSource):
        for key in ("heartbeat_node", "stop_node", "speed_node", "advisory"):
            if getattr(source, key) is not None:
                message = "is for `opcua`, the main source, alone: only that is written to."
                yield Finding((*at, key), message, "Move it there or remove it.")


def _topic_fault(node: str) -> str:
    """Why it is not one topic, with or without a key behind #; empty if it is."""
    topic, mark, key = node.partition("#")
    if not topic:
        return "names no topic before its #"
    if "+" in topic or (mark and not key):
        return "holds a wildcard"
    if topic.startswith("$share/"):  # MQTT 5.0, 4.8.2: each message goes to one of the group only
        return "shares its messages with others"
    return ""


def _tag(plant: Plant, tag: Tag, at: Place, names: list[str]) -> Iterator[Finding]:
    if tag.source and tag.source not in names:
        near = nearest(tag.source, names).strip() or "Add it under `sources`."
        yield Finding((*at, "source"), f"{tag.source!r} is not a source of this plant.", near)
        return
    wanted = tag.source or next(iter(names), "")
    source = next((each for each in plant.all_sources if each.name == wanted), None)
    if source is not None and not tag.node:
        remedy = "Give the topic." if isinstance(source, MqttSource) else "Give the tag's node."
        yield Finding((*at, "node"), f"is missing: the tag is read from {source.name}.", remedy)
    if isinstance(source, OpcUaSource) and (fault := _node_fault(tag.node)):
        yield _no_node((*at, "node"), tag.node, fault)
    if isinstance(source, MqttSource) and tag.node and (fault := _topic_fault(tag.node)):
        message = f"{tag.node!r} {fault}; a tag has one topic."
        yield Finding((*at, "node"), message, "Write TOPIC, or TOPIC#KEY for JSON.")
    if tag.role is Role.MV and plant.opcua is not None and tag.source not in ("", plant.opcua.name):
        message = "is not the main source: an MV is written there."
        yield Finding((*at, "source"), message, "Leave `source` out for an MV.")
    if plant.files is None:
        return
    if tag.column is None:
        if not plant.all_sources:
            remedy = "Give the column's name or its number from 1."
            yield Finding((*at, "column"), "is missing: this plant is read from tables.", remedy)
    elif isinstance(tag.column, str) and not plant.files.has_header:
        message = f"{tag.column!r} is a name, but the tables have no header."
        yield Finding((*at, "column"), message, "Give the column's number from 1.")


def _node_fault(text: str) -> str:
    try:
        node_parts(text)
    except ValueError as wrong:
        return str(wrong)
    return ""


def _tables(plant: Plant, files: FileSource) -> Iterator[Finding]:
    if all(tag.column is None for tag in plant.tags) and plant.all_sources:
        yield Finding(
            ("files",), "no tag names a column.", "Add `column` to the tags of the table."
        )
    if files.time_column is None:
        for key, what in (("start", "the time of the first row"), ("step_s", "the row's distance")):
            if getattr(files, key) is None:
                message = f"is missing: without a time column {what} is needed."
                yield Finding(("files", key), message, f"Add {key} or time_column.")
    elif isinstance(files.time_column, str) and not files.has_header:
        message = f"{files.time_column!r} is a name, but the tables have no header."
        yield Finding(("files", "time_column"), message, "Give the column's number from 1.")
    if files.separator == "comma" and files.decimal == "comma":
        message = "the comma can't both part columns and begin decimals."
        yield Finding(("files", "decimal"), message, "Correct separator or decimal.")
    oldest = max(plant.tags, key=lambda tag: tag.max_age_s, default=None)
    if files.breaks and oldest is not None and oldest.max_age_s >= files.break_gap_s:
        message = f"{files.break_gap_s:g} s is not longer than max_age_s of {oldest.name}."
        yield Finding(
            ("files", "break_gap_s"), message, "Or its last value would reach across the break."
        )
    if list(files.breaks) != sorted(set(files.breaks)):
        yield Finding(("files", "breaks"), "do not rise from row to row.", "Sort them.")
