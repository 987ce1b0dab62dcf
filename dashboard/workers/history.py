"""Whether the plant's past has arrived: planning and training wait for it."""

from __future__ import annotations

from collections.abc import Iterable

from connectors.ingest import FIRST_START
from twin.historian import Gap


def is_first_history_awaited(gaps: Iterable[Gap]) -> bool:
    """Whether the readings from before the first connection are still arriving."""
    return any(gap.reason == FIRST_START and not gap.is_filled for gap in gaps)
