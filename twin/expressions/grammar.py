"""From the text of an expression to its tree. Nothing here evaluates or knows units."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, NoReturn

from twin.errors import ExpressionError

FUNCTIONS = ("sqrt", "exp", "log", "abs", "min", "max")
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")

_MAX_LENGTH = 4000  # the longest sensible cost of a plant with a few hundred tags
_MAX_BRACKETS = 30  # more than a person reads; the reader's own stack stays shallow
_MAX_DEPTH = 200  # as many terms in a row; the tree's functions stay far below Python's stack


@dataclass(frozen=True, slots=True)
class Number:
    """A number as written, or one worked out from numbers alone."""

    value: float
    start: int = 0
    end: int = 0
    depth: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class Name:
    """A tag or parameter name."""

    name: str
    start: int = 0
    end: int = 0
    depth: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class Operation:
    """An operator or function over parts; `neg` is the sign, `and`, `or`, `not` are logic."""

    operator: str
    parts: tuple[Node, ...]
    start: int = 0
    end: int = 0
    depth: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "depth", 1 + max(part.depth for part in self.parts))


Node = Number | Name | Operation


_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)"
    r"|(?P<sign>\*\*|<=|>=|==|!=|[-+*/()<>,]))",
    re.ASCII,
)
_WORDS = ("and", "or", "not")
# Ways of writing an operator that people bring from other languages.
_FOREIGN = {"^": "**", "&": "and", "|": "or", "!": "not", "=": "==", "×": "*", "÷": "/", "−": "-"}


def read(text: str) -> Node:
    """The tree of an expression; raises ExpressionError with the column where reading stopped."""
    if len(text) > _MAX_LENGTH:
        raise ExpressionError(
            f"An expression of {len(text)} characters is longer than {_MAX_LENGTH}. Split it."
        )
    return _Reader(text).whole()


def names(node: Node) -> set[str]:
    """Every name in the tree."""
    if isinstance(node, Name):
        return {node.name}
    if isinstance(node, Number):
        return set()
    return set().union(*(names(part) for part in node.parts))


def is_condition(node: Node) -> bool:
    """Whether the tree gives true or false rather than a number."""
    return isinstance(node, Operation) and (
        node.operator in COMPARISONS or node.operator in ("and", "or", "not")
    )


def shown(text: str) -> str:
    """The text in quotes, cut to what fits a message."""
    line = " ".join(text.split())
    return repr(line if len(line) <= 60 else f"{line[:57]}…")


class _Reader:
    """Precedence, loosest first: or, and, not, comparison, + -, * /, sign, **."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._depth = 0
        self._end = 0  # where the token read last ends
        self._advance_from(0)

    def whole(self) -> Node:
        node = self._either()
        if self._kind != "end":
            self._fail(f"{self._token!r} does not fit here; expected an operator or the end.")
        return node

    def _either(self) -> Node:
        return self._joined("or", self._both)

    def _both(self) -> Node:
        return self._joined("and", self._negated)

    def _joined(self, word: str, part: Callable[[], Node]) -> Node:
        node = part()
        while self._token == word:
            self._advance()
            node = self._logic(word, node, part())
        return node

    def _negated(self) -> Node:
        if self._token != "not":
            return self._compared()
        start = self._start
        self._deeper()
        self._advance()
        node = self._logic("not", self._negated(), start=start)
        self._depth -= 1
        return node

    def _compared(self) -> Node:
        left = self._sum()
        if self._token not in COMPARISONS:
            return left
        sign = self._token
        self._advance()
        right = self._sum()
        if self._token in COMPARISONS:
            self._fail("comparisons can't be chained. Write  a < b and b < c.")
        return self._number_operation(sign, left, right)

    def _sum(self) -> Node:
        node = self._product()
        while self._token in ("+", "-"):
            sign = self._token
            self._advance()
            node = self._number_operation(sign, node, self._product())
        return node

    def _product(self) -> Node:
        node = self._signed()
        while self._token in ("*", "/"):
            sign = self._token
            self._advance()
            node = self._number_operation(sign, node, self._signed())
        return node

    def _signed(self) -> Node:
        if self._token not in ("+", "-"):
            return self._power()
        start, sign = self._start, self._token
        self._deeper()
        self._advance()
        part = self._signed()
        self._depth -= 1
        if sign == "+":
            return part
        return self._number_operation("neg", part, start=start)

    def _power(self) -> Node:
        base = self._atom()
        if self._token != "**":
            return base
        self._deeper()
        self._advance()
        exponent = self._signed()
        self._depth -= 1
        return self._number_operation("**", base, exponent)

    def _atom(self) -> Node:
        start, token, kind = self._start, self._token, self._kind
        if kind == "number":
            if not math.isfinite(float(token)):
                self._fail(f"{token} is too large a number.")
            self._advance()
            return Number(float(token), start, self._end)
        if kind == "name" and token not in _WORDS:
            self._advance()
            return self._call(token, start) if self._token == "(" else self._named(token, start)
        if token != "(":
            found = "the expression ends" if kind == "end" else f"{token!r} stands"
            self._fail(f"{found} where a number, a tag or '(' is expected.")
        self._advance()
        node = self._inside()
        self._close(start)
        return node

    def _named(self, name: str, start: int) -> Node:
        if name in FUNCTIONS:
            self._fail(f"{name} is a function; write {name}(…).", start)
        return Name(name, start, self._end)

    def _call(self, name: str, start: int) -> Node:
        if name not in FUNCTIONS:
            self._fail(f"there is no function {name!r}; known are {', '.join(FUNCTIONS)}.", start)
        opened = self._start
        self._advance()
        parts = [self._inside()]
        while self._token == ",":
            self._advance()
            parts.append(self._inside())
        self._close(opened)
        wants_several = name in ("min", "max")
        if wants_several != (len(parts) > 1):
            wanted = "two or more numbers" if wants_several else "one number"
            self._fail(f"{name} takes {wanted}, not {len(parts)}.", start)
        return self._number_operation(name, *parts, start=start)

    def _inside(self) -> Node:
        self._deeper()
        node = self._either()
        self._depth -= 1
        return node

    def _close(self, opened: int) -> None:
        if self._token != ")":
            self._fail(f"the '(' of column {opened + 1} is not closed.")
        self._advance()

    def _number_operation(self, sign: str, *parts: Node, start: int | None = None) -> Node:
        for part in parts:
            if is_condition(part):
                found = shown(self._text[part.start : part.end])
                self._fail(f"{found} is true or false, but a number is needed.", part.start)
        return self._operation(sign, parts, start)

    def _logic(self, word: str, *parts: Node, start: int | None = None) -> Node:
        for part in parts:
            if not is_condition(part):
                found = shown(self._text[part.start : part.end])
                self._fail(
                    f"{word!r} joins conditions, but {found} is a number. "
                    f"Compare it, for example {found} > 0.5.",
                    part.start,
                )
        return self._operation(word, parts, start)

    def _operation(self, sign: str, parts: tuple[Node, ...], start: int | None) -> Node:
        begin = parts[0].start if start is None else start
        node = Operation(sign, parts, begin, self._end)
        if node.depth > _MAX_DEPTH:
            self._fail(f"more than {_MAX_DEPTH} terms in a row. Group them in brackets.", begin)
        return node

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > _MAX_BRACKETS:
            self._fail(f"more than {_MAX_BRACKETS} levels of brackets and signs.")

    def _advance(self) -> None:
        self._end = self._next
        self._advance_from(self._next)

    def _advance_from(self, place: int) -> None:
        """Read the token after `place` into `_kind`, `_token`, `_start` and `_next`."""
        rest = self._text[place:]
        self._start = place + len(rest) - len(rest.lstrip())
        found = _TOKEN.match(self._text, place)
        if found is not None:
            self._kind = str(found.lastgroup)
            self._token, self._next = found[self._kind], found.end()
        elif self._start == len(self._text):
            self._kind, self._token, self._next = "end", "", self._start
        else:
            character = self._text[self._start]
            hint = f" Write {_FOREIGN[character]!r}." if character in _FOREIGN else ""
            if not character.isascii() and not hint:  # it may look like a letter of ours
                hint = f" It is {unicodedata.name(character, f'U+{ord(character):04X}')}."
            self._fail(f"{character!r} is not part of an expression.{hint}")

    def _fail(self, message: str, start: int | None = None) -> NoReturn:
        column = (self._start if start is None else start) + 1
        raise ExpressionError(f"{shown(self._text)}, column {column}: {message}")
