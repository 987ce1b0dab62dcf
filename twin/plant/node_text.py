"""OPC UA nodes as they are told in a plant file: text forms, without any server.

A plain text is a string identifier in the source's own namespace; `s=TEXT`, `i=NUMBER`, `g=GUID`,
`b=BASE64` say the kind of identifier, `nsu=URI;` before one of them another namespace (OPC 10000-6,
5.3.1.10). Indexes of namespaces are never told: they may change with every start of a server.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable

#: What identifies a node within its namespace.
Identifier = str | int | uuid.UUID | bytes

_LARGEST_NUMBER = 2**32 - 1


def node_parts(text: str) -> tuple[str | None, Identifier]:
    """The namespace (None: the source's own) and the identifier of the node told as `text`.

    Raises:
        ValueError: it is no such text; the message says why.
    """
    uri, rest = None, text
    if text.startswith("nsu="):
        uri, separator, rest = text.removeprefix("nsu=").partition(";")
        if not uri or not separator or rest[:2] not in _FORMS:
            raise ValueError("after nsu=URI; comes s=, i=, g= or b=")
    elif text.startswith("ns=") and ";" in text:
        raise ValueError("an index of a namespace may change; write nsu=URI; instead of ns=")
    if rest in _FORMS:
        raise ValueError(f"nothing comes after {rest}")
    return uri, _FORMS[rest[:2]](rest[2:]) if rest[:2] in _FORMS else rest


def is_plain(text: str) -> bool:
    """Whether it is a string identifier as it stands."""
    return not text.startswith("nsu=") and text[:2] not in _FORMS


def _number(identifier: str) -> int:
    is_number = identifier.isascii() and identifier.isdigit() and len(identifier) <= 10
    if not is_number or int(identifier) > _LARGEST_NUMBER:
        raise ValueError(f"i= needs a whole number up to {_LARGEST_NUMBER}")
    return int(identifier)


def _guid(identifier: str) -> uuid.UUID:
    try:
        return uuid.UUID(identifier)
    except ValueError:
        raise ValueError("g= needs a GUID, 32 hexadecimal digits") from None


def _opaque(identifier: str) -> bytes:
    try:
        return base64.b64decode(identifier, validate=True)
    except ValueError:
        raise ValueError("b= needs bytes as Base64") from None


_FORMS: dict[str, Callable[[str], Identifier]] = {
    "s=": str,
    "i=": _number,
    "g=": _guid,
    "b=": _opaque,
}
