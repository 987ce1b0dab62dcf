"""The secret file as a person typed it: who logs in where, or every fault with its line.

Nothing that stands in it is ever repeated, for any of it may be a secret: faults name lines and
the keys that are known. Text is taken as typed, also 0123 and 2026-99-99, which YAML reads as
numbers and dates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from connectors.security.own import IDENTITIES
from twin.errors import Fault, SecurityFault
from twin.plant import nearest

#: What makes up a login: a name and its secret, or the files of a certificate and its key.
PASSWORD, CERTIFICATE = ("user", "password"), ("certificate", "key")

_PARTS = (*PASSWORD, *CERTIFICATE)
_NOTHING = "tag:yaml.org,2002:null"
_SHAPE = "Below each source's name stand `user` and `password`, or `certificate` and `key`."


@dataclass(frozen=True)
class Told:
    """What the file tells of one source: for every identity, and for some of them alone."""

    line: int
    parts: Mapping[str, str] = field(default_factory=dict, repr=False)
    identities: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)


def parsed(path: Path, content: bytes) -> dict[str, Told]:
    """What the file tells, by source; raises SecurityFault with all of its faults."""
    root = _root(path, content)
    faults: list[Fault] = []
    told: dict[str, Told] = {}
    if root is not None and not isinstance(root, yaml.MappingNode):
        faults.append(Fault("file", "no source is named in it.", 1, _SHAPE))
    elif root is not None:
        told = {name: _source(line, node, faults) for line, name, node in _entries(root, faults)}
    if faults:
        lines = "\n".join(f"  {each}" for each in sorted(faults, key=lambda fault: fault.line or 0))
        count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
        raise SecurityFault(f"{path}: {count}\n{lines}")
    return told


def _root(path: Path, content: bytes) -> yaml.Node | None:
    try:
        return yaml.compose(content, yaml.SafeLoader)
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        line = f" (line {mark.line + 1})" if mark is not None else ""
        # The parser's own text quotes the line, and that may hold a password.
        raise SecurityFault(f"{path}{line} is no YAML. Correct it.") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        raise SecurityFault(f"{path} is no YAML text. Correct it.") from None


def _source(line: int, node: yaml.Node, faults: list[Fault]) -> Told:
    """What is told of the source that is named in this line."""
    parts: dict[str, str] = {}
    identities: dict[str, dict[str, str]] = {}
    if not isinstance(node, yaml.MappingNode):
        faults.append(Fault("source", "a single text is no login.", line, _SHAPE))
        return Told(line)
    known = (*_PARTS, *IDENTITIES)
    for at, key, value in _entries(node, faults, known):
        if key in IDENTITIES and isinstance(value, yaml.MappingNode):
            own = _entries(value, faults, _PARTS)
            identities[key] = {name: _text(n, name, each, faults) for n, name, each in own}
        elif key in IDENTITIES:
            faults.append(Fault(f"`{key}`", "a single text is no login.", at, _SHAPE))
        else:
            parts[key] = _text(at, key, value, faults)
    return Told(line, parts, identities)


def _text(line: int, name: str, node: yaml.Node, faults: list[Fault]) -> str:
    """The text as typed; empty where none is."""
    if not isinstance(node, yaml.ScalarNode):
        faults.append(Fault(f"`{name}`", "one text is needed.", line, "Put quotes around it."))
        return ""
    return "" if node.tag == _NOTHING else str(node.value)


def _entries(
    node: yaml.MappingNode, faults: list[Fault], known: tuple[str, ...] = ()
) -> Iterator[tuple[int, str, yaml.Node]]:
    """Line, key and value of each entry, the keys of these alone if some are given."""
    first: dict[str, int] = {}
    for key, value in node.value:
        line = int(key.start_mark.line) + 1
        name = key.value if isinstance(key, yaml.ScalarNode) else ""
        if known and name not in known:
            remedy = nearest(name, known).strip() or f"Known are {', '.join(known)}."
            faults.append(Fault("key", "it is not known here.", line, remedy))
        elif not name:
            faults.append(Fault("source", "it has no name.", line, _SHAPE))
        elif name in first:
            what = f"`{name}`" if known else "source"
            lines = f"it is told twice (lines {first[name]} and {line})."
            faults.append(Fault(what, lines, line, "Keep one."))
        else:
            first[name] = line
            yield line, name, value
