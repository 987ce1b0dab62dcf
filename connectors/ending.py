"""Ending tasks that would go on for ever, for certain."""

from __future__ import annotations

import asyncio
from typing import Any

# Chosen: longer than leaving a server in order takes (3 s), which is not to be disturbed, and such
# that a second try still ends within the supervisor's patience (8 s).
_AGAIN_S = 4.0


async def end_tasks(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait until every one has ended, also one that misses being told once.

    A cancellation can get lost: Python 3.11's `asyncio.wait_for`, which libraries use, drops one
    that comes just as what it waits for is done (CPython issue 86296), and an endless loop goes
    on. Ours meanwhile is raised when all have ended; what they raised is in their `result`.
    """
    left, is_cancelled = {task for task in tasks if not task.done()}, False
    while left:
        for task in left:
            task.cancel()
        try:
            _, left = await asyncio.wait(left, timeout=_AGAIN_S)
        except asyncio.CancelledError:
            is_cancelled = True
            left = {task for task in left if not task.done()}
    for task in tasks:
        if not task.cancelled():
            task.exception()  # seen
    if is_cancelled:
        raise asyncio.CancelledError
