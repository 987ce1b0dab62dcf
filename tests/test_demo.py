"""The whole way over the wire: real processes, an OPC UA server, a person's decision, a stop.

An emulated plant runs sixty times as fast as life. Nothing here calls a process: like ours, these
tests look into the database and type commands. Each test waits for what it needs, so that any of
them can run alone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import pytest
from command_line import COMMAND, ROOT, environment
from one_tank import free_port

from dashboard.demo import create_database, emulator_process, plant_processes
from dashboard.settings import Settings
from dashboard.supervisor import Supervisor
from twin.clock import wall_now
from twin.historian import Historian
from twin.plant import Plant, Role
from twin.records import Proposal, ProposalStatus, WriteOutcome, WriteStatus

_SPEED = 60.0
_AUTO, _REMOTE = 0.0, 1.0

_T = TypeVar("_T")


@dataclass
class Site:
    """A running plant: its processes, its database, the command line beside it."""

    plant: Plant
    settings: Settings
    supervisor: Supervisor
    historian: Historian

    def until(self, question: Callable[[], _T | None], what: str, within_s: float = 60.0) -> _T:
        """Ask until the answer is neither None nor False; fail with the logs after `within_s`."""
        give_up_s = time.monotonic() + within_s
        while True:
            self.supervisor.watch()
            answer = question()
            if answer is not None and answer is not False:
                return answer
            assert time.monotonic() < give_up_s, f"waited in vain for {what}\n{self.logs()}"
            time.sleep(0.05)

    def logs(self) -> str:
        """What a person needs who reads why a test failed."""
        told = [
            f"{new.created_at:%H:%M} {new.status}: {'; '.join(new.verdict.reasons)}"
            for new in self.historian.proposals(self.plant, limit=5)
        ]
        told += [f"gap {gap}" for gap in self.historian.gaps(self.plant)]
        paths = sorted(self.settings.logs_dir().glob("*.log"))
        ends = [f"-- {path.stem}\n{path.read_text()[-1500:]}" for path in paths]
        return "\n".join(["-- newest proposals", *told, *ends])

    def type(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command as a person types it."""
        told = environment(self.settings.state_dir, **self.settings.environment())
        return subprocess.run(
            [*COMMAND, *words], env=told, cwd=ROOT, capture_output=True, text=True, timeout=60
        )

    def newest(self) -> datetime | None:
        """The newest source time stored."""
        return self.historian.newest(self.plant)

    def plant_time(self) -> datetime:
        """The newest source time, when there is one."""
        return self.until(self.newest, "a first reading")

    def lives_on(self, seconds: float) -> None:
        """Wait until readings of so many plant seconds later than now are stored."""
        later = self.plant_time() + timedelta(seconds=seconds)
        self.until(lambda: self.plant_time() >= later, f"readings after {later}")

    def open_proposal(self) -> Proposal | None:
        """The proposal that waits for a decision, if there is one."""
        found = self.historian.proposals(self.plant, [ProposalStatus.OPEN], limit=1)
        return found[0] if found else None

    def modes(self) -> dict[str, float | None]:
        """The mode of each MV as the plant last showed it."""
        tags = {
            mv.name: mv.remote.tag for mv in self.plant.with_role(Role.MV) if mv.remote is not None
        }
        last = self.historian.last_readings(self.plant, list(tags.values()))
        return {mv: last[tag].value if tag in last else None for mv, tag in tags.items()}

    def accepted_and_written(self) -> WriteOutcome:
        """Accept proposals until one of them has been written and verified."""

        def one_more() -> WriteOutcome | None:
            waiting = self.open_proposal()
            if waiting is None:
                return None
            words = ("accept", "four_tank", waiting.proposal_id, "--by", "tester", "--json")
            ended = self.type(*words)
            if ended.returncode != 0:  # superseded or expired since we looked
                assert json.loads(ended.stdout)["reason"]
                return None
            outcome = self.until(
                lambda: self._settled(waiting.proposal_id), "the writer", within_s=20
            )
            # The gate may have refused it on readings that are newer than the proposal.
            return outcome if outcome.status is not WriteStatus.REFUSED else None

        return self.until(one_more, "an accepted proposal that the gate lets through", 200)

    def _settled(self, proposal_id: str) -> WriteOutcome | None:
        found = self.historian.outcomes(self.plant, 1, proposal_id)
        return found[0] if found and found[0].status is not WriteStatus.UNKNOWN else None


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Emulator, collector, planner and writer of the quadruple tank, in a folder of their own."""
    settings = Settings(
        state_dir=tmp_path_factory.mktemp("site"),
        database=None,
        endpoint=f"opc.tcp://127.0.0.1:{free_port()}/plantwright/four_tank",
    )
    plant = settings.plant("four_tank")
    create_database(plant, settings)
    children = [
        emulator_process("four_tank", plant, settings, speed=_SPEED, seed=1, since=wall_now()),
        *(
            child
            for child in plant_processes("four_tank", plant, settings)
            if child.name != "train"
        ),
    ]
    supervisor = Supervisor(children, settings.logs_dir())
    with Historian.open(settings.database_url(plant)) as historian:
        try:
            yield Site(plant, settings, supervisor, historian)
        finally:
            supervisor.stop()


def test_an_accepted_proposal_moves_the_plant(site: Site) -> None:
    """Sensor to setpoint: readings, proposal, a person's yes, clearance, write, read back."""
    outcome = site.accepted_and_written()
    assert outcome.status is WriteStatus.VERIFIED, outcome.reason
    for mv, setpoint in outcome.setpoints.items():
        assert outcome.read_back[mv] == pytest.approx(setpoint, abs=0.01)
        site.until(lambda mv=mv: site.modes()[mv] == _REMOTE, f"{mv} in REMOTE")
    proposal = site.historian.proposal(outcome.proposal_id)
    assert proposal is not None
    assert proposal.status is ProposalStatus.WRITTEN
    assert proposal.forecast is not None


def test_the_audit_tells_every_step_in_order(site: Site) -> None:
    """Who proposed, decided, cleared and wrote, in the order in which it happened."""
    outcome = site.accepted_and_written()
    rows = site.historian.events(site.plant, subject=outcome.proposal_id)[::-1]
    kinds = list(dict.fromkeys(row.kind for row in rows))
    steps = [kind for kind in kinds if kind in ("proposal", "decision", "clearance", "write")]
    assert steps == ["proposal", "decision", "clearance", "write"]
    assert [row.by for row in rows if row.kind == "decision"] == ["tester"]
    assert [row.at for row in rows] == sorted(row.at for row in rows)


@pytest.mark.parametrize("name", ["collect", "plan", "write", "emulate"])
def test_a_killed_process_comes_back_and_nothing_is_lost(site: Site, name: str) -> None:
    """kill -9: another one takes its place and does its work; no hole is left in the readings."""
    site.lives_on(60)
    killed = site.supervisor.pid(name)
    assert killed is not None
    before = site.plant_time()
    os.kill(killed, signal.SIGKILL)
    fresh = site.until(
        lambda: next(
            (pid for pid in (site.supervisor.pid(name),) if pid not in (None, killed)), None
        ),
        f"another {name}",
    )
    site.lives_on(120)
    if name != "emulate":  # the emulator is the plant: it tells no beat
        beats = site.historian.processes
        site.until(
            lambda: any(b.name == name and b.pid == fresh for b in beats(site.plant)),
            f"a beat of the new {name}",
        )
    site.until(lambda: all(gap.is_filled for gap in site.historian.gaps(site.plant)), "no open gap")
    after = site.plant_time()
    stored = site.historian.samples(site.plant, ["tank_1.level"], before, after)["tank_1.level"]
    steps_s = {round(b - a) for a, b in zip(stored.times_s, stored.times_s[1:], strict=False)}
    assert steps_s == {round(site.plant.sample_s)}


def test_nothing_is_written_after_a_stop(site: Site) -> None:
    """`plantwright stop`: the pumps go back to the plant's own control and stay there."""
    site.accepted_and_written()
    assert site.type("stop", "four_tank", "--by", "tester").returncode == 0
    site.until(lambda: set(site.modes().values()) == {_AUTO}, "every pump in AUTO")
    told = [row for row in site.historian.events(site.plant, kind="stop") if row.by == "tester"]
    assert len(told) == 1
    written = [each for each in site.historian.outcomes(site.plant) if each.read_back]
    site.lives_on(300)
    assert set(site.modes().values()) == {_AUTO}
    assert [each for each in site.historian.outcomes(site.plant) if each.read_back] == written
    assert site.open_proposal() is None, "the gate refuses every proposal while stopped"
    assert site.type("release", "four_tank", "--by", "tester", "--reason", "end").returncode == 0
