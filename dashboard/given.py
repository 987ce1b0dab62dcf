"""Names and reasons as people give them: which of them the audit keeps.

One rule for the command line and the pages. Where they are stored is not known here.
"""

from __future__ import annotations

import unicodedata

from twin.safety import CLOSED_LOOP_DECIDER

#: Characters that the audit takes of a name or a reason; the pages' fields hold no more either.
LONGEST_TEXT = 200


def text_fault(given: str) -> str:
    """Why a text cannot be kept, as the rest of a sentence; "" if it can."""
    if not given.strip():
        return f"{given!r} says nothing, and the audit keeps it. Fill it in."
    if len(given) > LONGEST_TEXT:
        return f"has {len(given)} characters, and at most {LONGEST_TEXT} are taken. Shorten it."
    if not given.isprintable():
        return f"{given!r} holds signs that no screen can show. Use plain text."
    return ""


def name_fault(given: str) -> str:
    """Why no person can decide under this name, as the rest of a sentence; "" if one can."""
    if is_computers(given):
        return f"{given!r} is not a person's name. Give the name of who decides."
    return text_fault(given)


def is_computers(name: str) -> bool:
    """Whether a name reads as the one under which the closed loop decides."""
    as_read = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(as_read.split()) == CLOSED_LOOP_DECIDER


def legible(text: str) -> str:
    """The same text with an escape for every sign that no screen can show, or that steers one.

    Also for the end of a line; blanks of every width stay.
    """
    return "".join(
        sign
        if sign.isprintable() or unicodedata.category(sign) == "Zs"
        else sign.encode("unicode_escape").decode()
        for sign in text
    )


def legible_lines(text: str) -> str:
    """A text for a terminal or a log, whoever wrote the names in it: legible, line by line."""
    return "\n".join(legible(line) for line in text.split("\n"))


def kept(given: str, otherwise: str = "") -> str:
    """A text that is stored whatever it is like: legible, its beginning, or `otherwise`."""
    return legible(given.strip())[:LONGEST_TEXT] or otherwise
