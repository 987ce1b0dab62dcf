"""An answer that comes just as our patience ends is a link that failed, and ends nothing else."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from counting_plant import Counting, CountingServer
from one_tank import free_port

from connectors.opcua import Session
from twin.errors import EndpointUnavailable
from twin.plant import Plant

_PATIENCE_S = 0.1  # for a request; for a whole connection three times as much


def test_a_busy_machine_that_misses_the_deadline_ends_no_process(tmp_path: Path) -> None:
    """Whatever is asked as the machine stands still: connected or not, but never "cancelled".

    The process that collects would take that for its own end, and would never connect again.
    """

    async def connect(plant: Plant) -> None:
        async with Session(plant, request_timeout_s=_PATIENCE_S):
            pass

    async def story() -> None:
        server = CountingServer(Counting.now(), "asyncua", free_port(), tmp_path)
        await server.start()
        try:
            plant, missed = server.counting.plant(server.port), 0
            for after_s in (0.004, 0.008, 0.012, 0.016, 0.02, 0.024):
                connecting = asyncio.create_task(connect(plant))
                asyncio.get_running_loop().call_later(after_s, time.sleep, 3.3 * _PATIENCE_S)
                await asyncio.wait([connecting])
                assert not connecting.cancelled(), f"stood still after {after_s} s"
                missed += isinstance(connecting.exception(), EndpointUnavailable)
            assert missed > 0
        finally:
            server.kill()

    asyncio.run(story())
