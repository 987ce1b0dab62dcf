"""One collector after the other, each killed somewhere; the last one may finish.

A tool of the tests, run as a process: FOLDER KILLS remembers|forgets. It loads everything once and
forks a collector for each kill. That dies by its own hand (SIGKILL) at its n-th call or return of
our code, as it leaves one of the functions between which nothing may get lost, or (SIGALRM, which
nobody handles) while the database commits.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType

from counted_source import CountingSource, counting_plant

from connectors.ingest import collect
from twin.historian import Historian
from twin.plant import Plant

# Between these a reading is on its way: queue, spool, database, and off the spool again.
SITES = ("store", "put", "stored", "add_gap", "tidy", "_delete_done", "event", "take_lease")
IN_COMMIT = "commit"
LONGEST_COMMIT_S = 0.008  # measured on a busy machine: from 0.2 to 15 ms, half below 7 ms
KILLED_FROM_OUTSIDE_S = 1.5  # where a collector never comes to the place where it shall die


def die_at(site: str | None, count: int, after_s: float) -> None:
    """Kill this process at its `count`-th return from `site` (None: call or return of ours).

    IN_COMMIT: `after_s` into the `count`-th commit of the database.
    """
    left = [count]

    def is_there(frame: FrameType, event: str, called: object) -> bool:
        if site == IN_COMMIT:
            return event == "c_call" and getattr(called, "__name__", "") == "commit"
        code = frame.f_code
        if event.startswith("c_"):
            return False
        if "connectors" not in code.co_filename and "historian" not in code.co_filename:
            return False
        return site is None or (code.co_name, event) == (site, "return")

    def see(frame: FrameType, event: str, called: object) -> None:
        if not is_there(frame, event, called):
            return
        left[0] -= 1
        if left[0] == 0 and site == IN_COMMIT:
            signal.setitimer(signal.ITIMER_REAL, after_s)
        elif left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(see)
    sys.setprofile(see)


def is_whole(historian: Historian, plant: Plant, source: CountingSource) -> bool:
    """Whether nothing more will come: all is stored, and all gaps were asked for."""
    newest = historian.newest(plant)
    if newest is None or source.last is None or newest < source.at(source.last):
        return False
    gaps = [gap for gap in historian.gaps(plant) if gap.ended_at is not None]
    if not source.remembers:
        return all(gap.is_filled or gap.filled_until == gap.ended_at for gap in gaps)
    everything = (source.last + 1) * len(plant.tags)
    return historian.count(plant) == everything and all(gap.is_filled for gap in gaps)


async def work(database: Path, plant: Plant, source: CountingSource, *, to_the_end: bool) -> None:
    """Collect until all is there, or for ever."""
    stop = asyncio.Event()
    with Historian.open(database) as historian:
        job = asyncio.create_task(collect(plant, historian, stop=stop, connect=source.connect()))
        while not (to_the_end and is_whole(historian, plant, source)):
            if job.done():
                job.result()
            await asyncio.sleep(0.1)
        stop.set()
        await job


def killed(child: int) -> int:
    """The signal that ended a child."""
    give_up_s = time.monotonic() + KILLED_FROM_OUTSIDE_S
    while time.monotonic() < give_up_s:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        time.sleep(0.005)
    else:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else -1


def main() -> None:
    """Tell, as JSON, which signal ended each, and the plant's last sample."""
    folder, kills, memory = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    database = folder / "plant.db"
    plant, dice = counting_plant(), random.Random(1000)
    source = CountingSource(plant, time.monotonic())
    source.remembers = memory == "remembers"
    safe = os.open(folder / "safe", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    source.on_kept = lambda first, last: os.write(safe, f"{first} {last}\n".encode())
    Historian.create(database).close()
    signals = []
    for number in range(kills):
        site = (SITES[number // 3 % len(SITES)], None, IN_COMMIT)[number % 3]
        count = dice.randint(1, 6) if site else int(10 ** dice.uniform(2, 4.2))
        after_s = dice.uniform(1e-5, LONGEST_COMMIT_S)
        child = os.fork()
        if child == 0:
            die_at(site, count, after_s)
            asyncio.run(work(database, plant, source, to_the_end=False))
            os._exit(0)
        signals.append(killed(child))
    source.last = source.number
    asyncio.run(asyncio.wait_for(work(database, plant, source, to_the_end=True), 60))
    print(json.dumps({"signals": signals, "last": source.last}))


if __name__ == "__main__":
    main()
