"""An emulated tank with a historian and a writer for it. A tool of the tests.

Its fixtures are known to every test file (see conftest.py).
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from one_tank import NOON, PUMPS, Tank, live_tank, until

from connectors.emulator import Emulator
from connectors.opcua import Session
from connectors.readback import Writer
from connectors.writer import run_writer
from twin.clock import wall_now
from twin.historian import Historian
from twin.plant import Plant
from twin.records import Decision, Plan, PlanStatus, Proposal, ProposalStatus, Verdict

_numbers = count(1)


@dataclass
class Site:
    """An emulated plant, its historian and a writer for it."""

    emulator: Emulator
    historian: Historian
    is_stopped: Callable[[], bool | None] = lambda: False
    read_back_wall_s: float = 0.5
    late_wall_s: float = -1.0  # over, also where a new session's clock is a little behind
    latch: str = ""
    plant: Plant = field(init=False)
    truth: Tank = field(init=False)

    def __post_init__(self) -> None:
        self.plant = self.emulator.plant
        assert isinstance(self.emulator.truth, Tank)
        self.truth = self.emulator.truth

    @property
    def writer(self) -> Writer:
        return Writer(
            self.plant,
            self.historian,
            self.is_stopped,
            read_back_wall_s=self.read_back_wall_s,
            late_wall_s=self.late_wall_s,
            latch=self.latch,
        )

    async def propose(
        self,
        session: Session,
        setpoints: dict[str, float],
        by: str = "Ada",
        expires_in_s: float | None = None,
        is_accepted: bool | None = True,
    ) -> str:
        """`propose` at this site."""
        decision = (is_accepted, by)
        return await propose(self.plant, self.historian, session, setpoints, decision, expires_in_s)

    def status(self, proposal_id: str) -> ProposalStatus:
        found = self.historian.proposal(proposal_id)
        assert found is not None
        return found.status


async def propose(
    plant: Plant,
    historian: Historian,
    session: Session,
    setpoints: dict[str, float],
    decision: tuple[bool | None, str] = (True, "Ada"),
    expires_in_s: float | None = None,
) -> str:
    """A proposal as the planner would store it, decided; fresh readings and trust beside it.

    `decision`: yes or no, and whose. Where it is None the proposal stays open. Unless told
    otherwise it is open for as long as the planner's: a minute by the wall.
    """
    by_rule_s = max(300.0, 60.0 * session.clock.speed)
    lifetime_s = by_rule_s if expires_in_s is None else expires_in_s
    historian.store((await session.read()).values(), plant)
    trust = json.dumps({"coverage90": 0.9, "coverage_count": 60})
    historian.beat(plant, "plan", wall_now(), os.getpid(), trust)
    now = session.clock.now()
    new = _proposal(plant, setpoints, now, now + timedelta(seconds=lifetime_s))
    historian.store_proposal(new)
    is_accepted, by = decision
    if is_accepted is not None:
        historian.decide(Decision(new.proposal_id, is_accepted, by, "looks right", now))
    return new.proposal_id


def _proposal(
    plant: Plant, setpoints: dict[str, float], now: datetime, expires_at: datetime
) -> Proposal:
    moves = {mv: np.array([value]) for mv, value in setpoints.items()}
    return Proposal(
        proposal_id=f"p{next(_numbers)}",
        plant=plant.plant,
        created_at=now,
        expires_at=expires_at,
        open_until_wall=wall_now() + timedelta(minutes=5),
        current=dict.fromkeys(setpoints, 5.0),
        setpoints=setpoints,
        plan=Plan(PlanStatus.SOLVED, "", now, plant.step_s, moves),
        forecast=None,
        verdict=Verdict(True, (), now, setpoints),
        status=ProposalStatus.OPEN,
        reason="a test",
        benefit_per_h=1.0,
        binding=(),
        model="physics",
    )


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as one:
        yield one


@pytest.fixture(scope="module")
def emulator(runner: asyncio.Runner, request: pytest.FixtureRequest) -> Iterator[Emulator]:
    """One server for all stories of a file, at its `SPEED`: starting one takes seconds.

    It samples often, so that no story waits long for a reading that is newer than a write.
    """
    living = live_tank(request.module.SPEED, sample_s=2.0)
    yield runner.run(living.__aenter__())
    runner.run(living.__aexit__(None, None, None))


@pytest.fixture
def site(emulator: Emulator, tmp_path: Path) -> Site:
    """The file's emulator as new, with a historian of the story's own."""
    return new_site(emulator, tmp_path)


def new_site(emulator: Emulator, folder: Path) -> Site:
    historian = Historian.create(folder / "plant.db")
    historian.register(emulator.plant)
    historian.start_stages(emulator.plant, NOON)
    site = Site(emulator, historian)
    truth = site.truth
    truth.setpoints, truth.modes = dict.fromkeys(PUMPS, 5.0), dict.fromkeys(PUMPS, 0)
    truth.is_stopped = truth.drops_writes = truth.drops_modes = truth.is_frozen = False
    truth.refusal, truth.on_setpoint = None, lambda: None
    truth.writes.clear()
    return site


def tell(runner: asyncio.Runner, site: Site, story: Callable[[Session], Awaitable[None]]) -> None:
    """Run a story over a session that begins after the plant has shown its present state."""

    async def whole() -> None:
        await fresh_samples(site)
        async with Session(site.plant) as session:
            await session.write("plc.stop", 0)
            site.truth.writes.clear()
            await story(session)

    runner.run(whole())


async def fresh_samples(site: Site) -> None:
    """Wait until the server shows what the plant is now: with a second sample the first is out."""
    seen = site.truth.now + timedelta(seconds=2 * site.plant.sample_s)
    await until(lambda: site.truth.now >= seen, "fresh samples")


def told(site: Site, kind: str) -> list[str]:
    """What the audit says of this kind, in order."""
    return [each.message for each in site.historian.events(site.plant, kind=kind)][::-1]


def heartbeats(site: Site) -> list[float]:
    return [value for name, value in site.truth.writes if name == "plc.heartbeat"]


@asynccontextmanager
async def writing(site: Site, **options: Any) -> AsyncIterator[None]:
    """The writing process beside the test; ended in order at the end."""
    stop = asyncio.Event()
    task = asyncio.create_task(run_writer(site.writer, stop=stop, poll_s=0.02, **options))
    try:
        yield
        assert not task.done(), "the writer lives"
    finally:
        stop.set()
        await asyncio.wait_for(task, 20)
