"""The plant's own baseline against Plantwright: lockstep, paired over seeds, on emulated plants.

`compare` runs the seeds, `figures` makes one record of them. Every arm of a seed starts from the
same plant and meets the same batches, trips, prices and noise.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from joblib import Parallel, delayed

from dashboard.comparison.figures import figures
from dashboard.comparison.seed import ARMS, RUN_H, SeedResult, run_seed
from dashboard.supervisor import end_with
from twin.plant import Plant, read_plant

__all__ = ["ARMS", "RUN_H", "TEST_SEEDS", "SeedResult", "compare", "figures", "run_seed"]

TEST_SEEDS = tuple(range(2001, 2021))


def compare(
    plant: Plant,
    seeds: Sequence[int],
    *,
    hours: float = RUN_H,
    jobs: int = 2,
    on_seed: Callable[[int], None] = lambda done: None,
) -> list[SeedResult]:
    """Every arm on every seed, `jobs` seeds at a time; `on_seed` hears how many are done.

    To be called in the main thread. Any exception on the way, also a KeyboardInterrupt or one of
    `on_seed`, ends the processes.
    """
    results: list[SeedResult] = []
    asked = (delayed(_named_seed)(plant.plant, seed, hours, os.getpid()) for seed in seeds)
    with _running(asked, jobs) as coming:
        for result in coming:
            results.append(result)
            on_seed(len(results))
    return results


@contextmanager
def _running(tasks: Iterable[Any], jobs: int) -> Iterator[Iterator[SeedResult]]:
    """What other processes make of `tasks`, in their order; an exception inside ends them."""
    # Pyomo keeps a lock in every process. Where one is ended by force, Python's tracker removes the
    # lock and warns of it; a person who pressed Ctrl-C need not read that.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")
    # A Ctrl-C reaches every process of the terminal. Those started here inherit that they ignore
    # it; this one ends them.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        results = Parallel(n_jobs=jobs, return_as="generator")(tasks)
    finally:
        signal.signal(signal.SIGINT, handler)
    try:
        yield results
    except BaseException as fault:
        results.throw(fault)  # merely closed, joblib would warn that it has more to tell
        raise


def _named_seed(name: str, seed: int, hours: float, parent_pid: int) -> SeedResult:
    """`run_seed` for another process, which reads the plant file itself."""
    end_with(parent_pid)
    return run_seed(read_plant(name), seed, hours=hours)
