"""The plant's own baseline against Plantwright: lockstep, paired over seeds, on emulated plants.

`compare` runs the seeds, `Comparison.figures` makes one record of them. Every arm of a seed starts
from the same plant and meets the same batches or slabs, trips or stops, prices and noise.
"""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import resource_tracker
from typing import Any

from joblib import Parallel, delayed
from joblib.externals.loky.backend import resource_tracker as loky_tracker

from dashboard.supervisor import end_with
from twin.errors import UsageError
from twin.plant import Plant, read_plant

__all__ = ["TEST_SEEDS", "Comparison", "check_whole_steps", "compare", "comparison_of"]

TEST_SEEDS = tuple(range(2001, 2021))


@dataclass(frozen=True)
class Comparison:
    """How plants of one kind are compared: every arm of one seed, and one record of all seeds.

    `seeds` of `hours` each, and `wire_hours` over the wire beside them, are run where nobody asks
    for others, seeds at most `jobs` at a time; `longest_h`: for so long an arm keeps every minute.
    `note` says what more there is.
    """

    run_seed: Callable[[Plant, int, float], Any]
    figures: Callable[[Sequence[Any]], dict[str, Any]]
    seeds: int
    hours: float
    wire_hours: float
    jobs: int = 2
    note: str = ""
    longest_h: float = math.inf


def comparison_of(plant: Plant) -> Comparison:
    """The comparison for this kind of plant; UsageError where nothing plans for it."""
    if plant.furnace is not None:
        return _of_slabs()
    if plant.physics is None:
        raise UsageError(
            f"{plant.plant}: the plant file names no physics and has no furnace, so nothing plans "
            "for it and nothing can be compared. Compare a shipped plant."
        )
    return _of_equations()


# Each kind brings libraries of its own, which the other one need not load.


def _of_equations() -> Comparison:
    from dashboard.comparison.figures import figures
    from dashboard.comparison.seed import RUN_H, run_seed

    return Comparison(run_seed, figures, len(TEST_SEEDS), RUN_H, wire_hours=1.0)


def _of_slabs() -> Comparison:
    from dashboard.comparison.slab_figures import slab_figures
    from dashboard.comparison.slab_seed import RUN_H, SEEDS, run_slab_seed
    from dashboard.comparison.slabs import LONGEST_H

    note = "The claims are those of benchmarks/furnace.py: 20 seeds × 48 h and a forced stop."
    return Comparison(
        run_slab_seed,
        slab_figures,
        SEEDS,
        RUN_H,
        wire_hours=2.0,  # its two days of slab records are read in and followed for one of them
        jobs=SEEDS,  # with one left over for the end, a second core would stand idle
        note=note,
        longest_h=LONGEST_H,
    )


def check_whole_steps(plant: Plant, hours: float) -> None:
    """Raise UsageError where finite `hours` of a comparison are no whole steps of `plant`.

    An arm that is stepped would end at another moment than one that runs through.
    """
    step = timedelta(seconds=plant.step_s)
    over = timedelta(hours=hours) % step
    if over:
        steps = timedelta(hours=hours) // step
        near = " or ".join(f"{n * plant.step_s / 3600:.12g}" for n in (steps, steps + 1))
        raise UsageError(
            f"--hours {hours:g}: ends {over.total_seconds():g} s into a step of {plant.plant}, and "
            f"every arm runs whole steps of {plant.step_s:g} s. Give {near}."
        )


def compare(
    plant: Plant,
    seeds: Sequence[int],
    *,
    hours: float,
    jobs: int,
    on_seed: Callable[[int], None] = lambda done: None,
) -> list[Any]:
    """Every arm on every seed, `jobs` seeds at a time; `on_seed` hears how many are done.

    To be called in the main thread. Any exception on the way, also a KeyboardInterrupt or one of
    `on_seed`, ends the processes.
    """
    results: list[Any] = []
    asked = (delayed(_named_seed)(plant.plant, seed, hours, os.getpid()) for seed in seeds)
    with _running(asked, jobs) as coming:
        for result in coming:
            results.append(result)
            on_seed(len(results))
    return results


@contextmanager
def _running(tasks: Iterable[Any], jobs: int) -> Iterator[Iterator[Any]]:
    """What other processes make of `tasks`, in their order; an exception inside ends them."""
    # Pyomo keeps a lock in every process. Where one is ended by force, Python's tracker removes the
    # lock and warns of it; a person who pressed Ctrl-C need not read that.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")
    # A Ctrl-C reaches every process of the terminal. Those started here inherit that it is blocked;
    # this one ends them, and is told afterwards of one that came meanwhile. Trackers unblock it
    # when they start, so they come first.
    loky_tracker.ensure_running()
    resource_tracker.ensure_running()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        results = Parallel(n_jobs=jobs, return_as="generator")(tasks)
    except BaseException:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        yield results
    except BaseException as fault:
        results.throw(fault)  # merely closed, joblib would warn that it has more to tell
        raise


def _named_seed(name: str, seed: int, hours: float, parent_pid: int) -> Any:
    """One seed for another process, which reads the plant file itself."""
    end_with(parent_pid)
    plant = read_plant(name)
    return comparison_of(plant).run_seed(plant, seed, hours)
