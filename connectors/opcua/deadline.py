"""A deadline for what asyncua does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[None]:
    """As `asyncio.timeout`, also where an answer comes just as the time is over.

    asyncua then raises a CancelledError of its own kind, which Python 3.11's `asyncio.timeout` does
    not take for the one that it had asked for: whoever waited would end as if it were told to.
    """
    async with asyncio.timeout(seconds):
        try:
            yield
        except asyncio.CancelledError as cancelled:
            raise asyncio.CancelledError from cancelled
