"""How a process is told to end, and how it talks: SIGTERM and SIGINT, and lines for its log."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from dashboard.given import legible_lines
from twin.clock import wall_now

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def ending() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set inside; a loop waits on it instead of sleeping."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def sigterm_like_ctrl_c() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt inside, so that processes, folders and parts of files go."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def told_to_end() -> asyncio.Event:
    """The same for the running event loop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop.set)
    return stop


def until_told(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` until it ends or SIGTERM or SIGINT comes."""

    async def run() -> None:
        stop = asyncio.create_task(told_to_end().wait())
        job = asyncio.create_task(work)
        await asyncio.wait([job, stop], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if job.done():
            job.result()
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)

    asyncio.run(run())


def say(text: str) -> None:
    """One line for the process's log."""
    print(f"{wall_now():%Y-%m-%d %H:%M:%S} {legible_lines(text)}", file=sys.stderr, flush=True)
