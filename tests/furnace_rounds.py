"""A furnace that may lie, planned for round by round through a real historian: a tool of tests."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from broken_furnace import BrokenFurnace, Lie

from optimizer.cycle import Planned, plan_round
from optimizer.slab_controller import SlabController
from twin.context import gate_context
from twin.furnace.state import FurnaceState, SlabState
from twin.historian import Event, Historian
from twin.plant import read_plant
from twin.plants.furnace.truth import Truth
from twin.plants.furnace.works import Works
from twin.records import Reading
from twin.simulation.line import line_of

PLANT = read_plant("furnace")
FURNACE, MILL = line_of(PLANT)
START = datetime(2026, 1, 5, tzinfo=UTC)
SEED = 1000  # a training seed
HISTORY_H = 6
FIVE_MIN = timedelta(minutes=5)


def after(**span: float) -> datetime:
    return START + timedelta(**span)


def furnace_with_history(works: Works | None = None) -> tuple[BrokenFurnace, list[Reading]]:
    """A furnace that has run for `HISTORY_H` and told nothing but the truth, and its readings."""
    far = after(days=300)
    furnace = BrokenFurnace(PLANT, seed=SEED, start=START, works=works, lies=(), since=far)
    return furnace, furnace.advance(after(hours=HISTORY_H))


def database_of(path: Path, readings: list[Reading]) -> Path:
    """A new database that holds them."""
    with Historian.create(f"sqlite:///{path}") as historian:
        historian.register(PLANT)
        historian.store(readings)
    return path


@dataclass
class Site:
    """One furnace with its database and the planner on it; what every round came to.

    While it `is_stopped` the gate refuses every plan, which spares the forecasts of proposals.
    """

    furnace: Truth
    historian: Historian
    is_stopped: bool = True
    controller: SlabController = field(default_factory=lambda: SlabController(PLANT))
    planned: dict[datetime, Planned] = field(default_factory=dict)
    states: dict[datetime, FurnaceState | None] = field(default_factory=dict)

    def run(self, until: datetime, every: timedelta = FIVE_MIN) -> None:
        """A round every `every` until then."""
        while self.furnace.now < until:
            now = self.furnace.now + every
            self.historian.store(self.furnace.advance(now))
            context = gate_context(
                PLANT, self.historian, now=now, wall_now=now, is_stopped=self.is_stopped
            )
            self.planned[now] = plan_round(
                self.controller, self.historian, context,
                now=now, wall_now=now, speed=1.0, proposal_id=f"{now:%d%H%M}",
            )  # fmt: skip
            self.states[now] = self.controller.tracker.state()

    def restart(self) -> None:
        """The planner dies and another one takes over."""
        self.controller = SlabController(PLANT)

    def told(self, kind: str) -> list[Event]:
        """The audit rows of one kind, the oldest first."""
        return list(reversed(self.historian.events(PLANT, 500, kind)))

    def slab(self, at: datetime, number: int) -> SlabState:
        """A slab as tracked then."""
        state = self.states[at]
        assert state is not None
        return next(each for each in state.slabs if each.slab.number == number)

    def number_in(self, slot: int) -> int:
        """The slab that really lies in `slot`."""
        return int(self.furnace.works.in_slot[slot - 1].number)


def lying(
    base: tuple[BrokenFurnace, Path], folder: Path, lies: Sequence[Lie], since: datetime,
    until: datetime,
) -> tuple[BrokenFurnace, Path]:  # fmt: skip
    """A fork of a furnace that lies from `since` to `until`, and a copy of its database."""
    furnace = base[0].fork()
    assert isinstance(furnace, BrokenFurnace)
    furnace._lies, furnace._since, furnace._until = tuple(lies), since, until
    return furnace, Path(shutil.copy(base[1], folder / "plant.db"))
