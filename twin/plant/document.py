"""A plant file as YAML: its content and the line of every part, without knowing what it means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from twin.errors import Fault, PlantFileError

Place = tuple[str | int, ...]  # keys and list positions from the top of the file downwards

_MAX_BYTES = 2_000_000  # a plant of ten thousand tags
_MAX_NODES = 500_000  # with repeated anchors written out
# What YAML makes more of than a text.
_PARSED = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("timestamp", "int", "float"))
_TEXT = "tag:yaml.org,2002:str"
_MAX_SHOWN = 64  # letters of a name or key in a message; no sound one is longer


@dataclass(frozen=True)
class Finding:
    """What is wrong at one place of a file, and what to do about it."""

    place: Place
    message: str
    remedy: str = ""


@dataclass(frozen=True)
class Document:
    """A YAML file that could be read; its top level is a mapping."""

    path: Path
    content: dict[str, Any]
    root: yaml.Node

    def line(self, place: Place) -> int:
        """The 1-based line of a place, or of the nearest part above it that the file has."""
        node, mark = self.root, self.root.start_mark
        for step in place:
            found = _below(node, step)
            if found is None:
                break
            node, mark = found
        return int(mark.line) + 1

    def where(self, place: Place) -> str:
        """A place as a person says it: tags[pump_1.setpoint].operator.low."""
        text, content = "", self.content
        for step in place:
            content = _item(content, step)
            if isinstance(step, str):
                key = step if _is_shown(step) else repr(step[:_MAX_SHOWN])
                text += f".{key}" if text else key
            else:
                name = content.get("name") if isinstance(content, dict) else None
                text += f"[{name if _is_shown(name) else f'no. {step + 1}'}]"
        return text or self.path.name

    def faults(self, findings: list[Finding]) -> list[Fault]:
        """The findings with place and line, in the order of the file."""
        faults = [
            Fault(self.where(f.place), f.message, self.line(f.place), f.remedy) for f in findings
        ]
        return sorted(dict.fromkeys(faults), key=lambda fault: fault.line or 0)


def read_document(path: Path) -> tuple[Document, list[Finding]]:
    """The file's content, and what is wrong with its YAML without making it unreadable.

    Raises:
        PlantFileError: it can't be read at all.
    """
    text = _text(path)
    try:
        loader = yaml.SafeLoader(text)
    except yaml.YAMLError as fault:  # a character that YAML does not allow
        raise _unreadable(path, f"is not YAML: {' '.join(str(fault).split())}.") from None
    try:
        root = loader.get_single_node()
        if root is None:
            raise _unreadable(path, "the file is empty.", remedy="Start from a shipped plant.")
        if _size(root, {}) > _MAX_NODES:
            raise _unreadable(path, f"has more than {_MAX_NODES} entries when written out.")
        repeated = list(_repeated_keys(root, (), set()))
        _leave_as_typed(loader, root)
        content = loader.construct_document(root)
    except yaml.MarkedYAMLError as fault:
        line = None if fault.problem_mark is None else fault.problem_mark.line + 1
        raise _unreadable(path, f"is not YAML: {_problem(fault)}.", line) from None
    except (yaml.YAMLError, ValueError) as fault:
        raise _unreadable(path, f"is not YAML: {' '.join(str(fault).split())}.") from None
    except RecursionError:
        raise _unreadable(path, "is nested too deeply.") from None
    finally:
        loader.dispose()
    if not isinstance(content, dict):
        raise _unreadable(
            path, "has no keys at its top level.", 1, "Start from a shipped plant's plant.yaml."
        )
    return Document(path, content, root), repeated


def _leave_as_typed(loader: yaml.SafeLoader, root: yaml.Node) -> None:
    """Take what reads as a date or number of YAML's and is none, such as 2026-02-30, as text.

    It is then judged where it stands, with its line, beside all other faults.
    """
    waiting, seen = [root], set[int]()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            waiting += [each for entry in node.value for each in entry]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif node.tag in _PARSED:
            try:
                loader.construct_object(node)
            except ValueError:
                node.tag = _TEXT
                loader.recursive_objects.pop(node, None)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:  # a device says that it is of no size, and has no end
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise _unreadable(path, f"is larger than {_MAX_BYTES // 1_000_000} MB.")
        return content.decode()
    except FileNotFoundError:
        raise _unreadable(path, "there is no such file.", remedy="Check the path.") from None
    except UnicodeDecodeError as fault:
        where = f"byte {fault.start} is not UTF-8 text."
        raise _unreadable(path, where, remedy="Save the file as UTF-8.") from None
    except OSError as fault:
        reason = (fault.strerror or str(fault)).lower()
        raise _unreadable(path, f"can't be read: {reason}.") from None


def _unreadable(
    path: Path, message: str, line: int | None = None, remedy: str = ""
) -> PlantFileError:
    return PlantFileError(str(path), [Fault(path.name, message, line, remedy)])


def _problem(fault: yaml.MarkedYAMLError) -> str:
    parts = [part for part in (fault.context, fault.problem) if part]
    return ", ".join(parts) or "its structure is broken"


def _below(node: yaml.Node, step: str | int) -> tuple[yaml.Node, yaml.Mark] | None:
    """The node one step down and where it begins (for a mapping: at its key)."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value == step:
                return value, key.start_mark
    elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step].start_mark
    return None


def _is_shown(name: Any) -> bool:
    """Whether a name can stand in a message as it is."""
    return isinstance(name, str) and name.isprintable() and 0 < len(name.strip()) <= _MAX_SHOWN


def _item(content: Any, step: str | int) -> Any:
    if isinstance(content, dict):
        return content.get(step)
    if isinstance(content, list) and isinstance(step, int) and step < len(content):
        return content[step]
    return None


def _size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """How many entries the node has when every anchor is written out."""
    if id(node) in sizes:
        return sizes[id(node)]
    sizes[id(node)] = _MAX_NODES + 1  # while it is being counted: it holds itself
    if isinstance(node, yaml.MappingNode):
        size = 1 + sum(_size(k, sizes) + _size(v, sizes) for k, v in node.value)
    elif isinstance(node, yaml.SequenceNode):
        size = 1 + sum(_size(child, sizes) for child in node.value)
    else:
        size = 1
    sizes[id(node)] = size
    return size


def _repeated_keys(node: yaml.Node, place: Place, seen: set[int]) -> Iterator[Finding]:
    """Keys given twice: YAML would silently keep the last one."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for position, child in enumerate(node.value):
            yield from _repeated_keys(child, (*place, position), seen)
    elif isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if key.value in first:
                lines = f"lines {first[key.value]} and {line}"
                yield Finding((*place, key.value), f"is given twice ({lines}).", "Keep one.")
            first.setdefault(key.value, line)
            yield from _repeated_keys(value, (*place, key.value), seen)
