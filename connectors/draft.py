"""The draft of a plant file from what a server was found to have: true, but nobody's choice yet.

Every tag is AUX: which of them are controlled, and within what, only people know. Nothing here
connects.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from connectors.opcua.browse import Browsed, Variable
from twin.plant import Security

_LONGEST_NAME = 64
_LONGEST_DESCRIPTION = 500
_LEFT_OUT_SHOWN = 100
_NAMESPACE = re.compile(r"nsu=([^;]*);")


def draft(found: Browsed, endpoint: str, security: Security, now: datetime) -> str:
    """The text of a plant file that `plantwright check` accepts; `found` has a usable variable."""
    usable = [each for each in found.variables if not each.left_out]
    lines = _head(found, endpoint, security, now, usable)
    for name, variable in zip(tag_names([each.path for each in usable]), usable, strict=True):
        lines += _tag(name, variable)
    left_out = [each for each in found.variables if each.left_out]
    if left_out:
        lines += ["", f"# Left out, {len(left_out)} in all:"]
        lines += [
            f"#   {_plain(' / '.join(each.path))}: {each.left_out}"
            for each in left_out[:_LEFT_OUT_SHOWN]
        ]
    return "\n".join(lines) + "\n"


def tag_names(paths: Sequence[tuple[str, ...]]) -> list[str]:
    """A tag name for each path of browse names: like the path, without what all have in common."""
    shared = _shared(paths)
    taken: Counter[str] = Counter()
    names: list[str] = []
    for path in paths:
        name = _shortened([_word(part) for part in path[shared:]])
        taken[name] += 1
        number = taken[name]
        while number > 1:
            ending = f"_{number}"
            other = name[: _LONGEST_NAME - len(ending)].rstrip("._") + ending
            if other not in taken:
                taken[other] += 1
                name = other
                break
            number += 1
        names.append(name)
    return names


def _shared(paths: Sequence[tuple[str, ...]]) -> int:
    """How many parts all paths begin with, but for the last part of any."""
    most = min((len(path) - 1 for path in paths), default=0)
    first = paths[0] if paths else ()
    for count in range(most, 0, -1):
        if all(path[:count] == first[:count] for path in paths):
            return count
    return 0


def _word(text: str) -> str:
    """A part of a path as a part of a tag name."""
    plain = unicodedata.normalize("NFKD", text.replace("ß", "ss"))
    plain = plain.encode("ascii", "ignore").decode().lower()
    plain = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")
    if not plain:
        return "x"
    return plain if plain[0].isalpha() else f"n{plain}"


def _shortened(words: list[str]) -> str:
    """The words as a name; of a name too long the last words, which say most."""
    while len(words) > 1 and len(".".join(words)) > _LONGEST_NAME:
        del words[0]
    return ".".join(words)[:_LONGEST_NAME].rstrip("._")


def _head(
    found: Browsed, endpoint: str, security: Security, now: datetime, usable: Sequence[Variable]
) -> list[str]:
    namespaces = Counter(_namespace(each.node) for each in usable)
    (namespace, _), *_ = namespaces.most_common(1)
    title = found.server or "A plant"
    lines = [
        f"# Drafted by `plantwright browse` on {now:%Y-%m-%d %H:%M} UTC: {len(usable)} tags.",
        "# What to do now:",
        "# 1. Delete the tags you do not need, and give the others names your people know.",
        "# 2. Check units and limits; where a server tells none, both are missing here.",
        "# 3. Make tags MV, CV or DV; docs/guide tells what each of them needs.",
        "# 4. plantwright check FILE, then plantwright collect FILE.",
    ]
    if found.cut_short:
        lines.append(f"# Not all of the server is here: {found.cut_short}.")
    return [
        *lines,
        f"plant: {_word(title)[:_LONGEST_NAME].rstrip('_')}",
        f"title: {_text(title[:120])}",
        "opcua:",
        f"  endpoint: {_text(endpoint)}",
        f"  namespace: {_text(namespace)}",
        f"  security: {{policy: {_text(security.policy)}, mode: {security.mode}, "
        f"login: {security.login}}}",
        "tags:",
    ]


def _namespace(node: str) -> str:
    told = _NAMESPACE.match(node)
    return told.group(1) if told else ""


def _tag(name: str, variable: Variable) -> list[str]:
    path = " / ".join(variable.path)[:_LONGEST_DESCRIPTION]
    unknown = f"  # the server says {_plain(variable.unit_told)}: not known here"
    lines = [
        f"  - name: {name}",
        "    role: AUX",
        f"    unit: {_text(variable.unit)}"
        + (unknown if variable.unit_told and not variable.unit else ""),
        f"    description: {_text(_plain(path))}",
        f"    node: {_text(variable.node)}",
    ]
    if variable.low is not None and variable.high is not None:
        limits = f"{{low: {_number(variable.low)}, high: {_number(variable.high)}}}"
        lines.append(f"    engineering: {limits}")
    if variable.is_writable:
        lines.append("    # The server lets us write it: it could be an MV.")
    return lines


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _plain(text: str) -> str:
    """On one line, without what cannot be seen."""
    kept = (c if unicodedata.category(c)[0] not in "CZ" else " " for c in text)
    return " ".join("".join(kept).split())


def _number(value: float) -> str:
    """As YAML 1.1 reads it: an exponent needs a point before it."""
    told = repr(value)
    return told.replace("e", ".0e") if "e" in told and "." not in told else told
