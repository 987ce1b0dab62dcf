"""How much of a source's history is asked for at once, and how soon again: as it answers.

A server that does one thing after the other publishes nothing while it looks for its history. Asked
for much, a slow one looks dead, and asked for the same over every new link it is dead for ever.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from twin.errors import NodeFault

_LESS = 4.0  # what gave no answer is asked for in so many parts: each try may cost a link
_LEAST_SHARE = 1e-5
_QUICK_S = 0.5  # a link without a publish is taken for dead after five times as long
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 600.0


class Asking:
    """What the history of one source with so many `tags` could answer lately, over all its links.

    `share` of all there is to ask is asked for at once: a quarter after each question that got no
    answer, and twice as much again where that would be answered soon.
    """

    def __init__(self, tags: int) -> None:
        self.share = 1.0
        self._tags = tags
        self._unanswered = 0  # in a row

    @property
    def pause_s(self) -> float:
        """So long nothing is asked: not at all until a second question in a row got no answer."""
        if self._unanswered < 2:
            return 0.0
        return float(min(_FIRST_PAUSE_S * 2.0 ** (self._unanswered - 2), _LONGEST_PAUSE_S))

    def parts(self, tags: Sequence[str]) -> Iterator[Sequence[str]]:
        """The tags, so many at once as may be asked for by then."""
        at = 0
        while at < len(tags):
            part = tags[at : at + self._at_once]
            yield part
            at += len(part)

    @contextmanager
    def question(self, tags: int) -> Iterator[None]:
        """One question of so many tags: answered if this ends well, or with what nodes lack."""
        began_s, is_answered = time.monotonic(), False
        try:
            yield
            is_answered = True
        except NodeFault:
            is_answered = True
            raise
        finally:
            if is_answered:
                self._unanswered = 0
                took_s = time.monotonic() - began_s
                is_quick = took_s * self._at_once / tags < _QUICK_S
                self.share = min(1.0, 2 * self.share if is_quick else self.share)
            else:
                self._unanswered += 1
                self.share = max(_LEAST_SHARE, self.share / _LESS)

    @property
    def _at_once(self) -> int:
        return max(1, int(self.share * self._tags))
