"""Writing to a server that is not of our library: typed, read back, settled after a lost link."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from one_tank import free_port, until
from written_plant import propose

from connectors.handback import HandBacks
from connectors.opcua import Session
from connectors.readback import Writer
from connectors.stop import StopLatch
from connectors.writeback import settle_begun, write_accepted
from connectors.writer import run_writer
from twin.clock import wall_now
from twin.errors import EndpointUnavailable
from twin.historian import HandBackStatus, Historian
from twin.plant import Limits, OpcUaSource, Plant, RemoteMode, Role, Security, Tag
from twin.records import WriteOutcome, WriteStatus

pytestmark = pytest.mark.node

_SERVER = Path(__file__).parent / "node_opcua" / "written.js"
NAMESPACE = "urn:plantwright:test:written"
SAMPLE_S = 0.1
KINDS = {"double": "Double", "float": "Float", "int16": "Int16"}  # a loop of each
STEPPED, USED = "stepped", 8.0  # a loop that is taken over step by step, and where it stands


def _loop_tags(loop: str) -> tuple[Tag, ...]:
    setpoint = Tag(
        name=f"{loop}.setpoint",
        role=Role.MV,
        unit="cm**3/s",
        node=f"{loop}.setpoint",
        engineering=Limits(low=0, high=18),
        rate_limit_per_min=6,
        move_budget_per_h=120,
        requires=("tank.level",),
        remote=RemoteMode(tag=f"{loop}.mode"),
        downstream=f"{loop}.used" if loop == STEPPED else None,
        write_tolerance=0.01,
    )
    shown = {f"{loop}.mode": "", f"{loop}.used": "cm**3/s"}
    others = (Tag(name=name, role=Role.AUX, unit=u, node=name) for name, u in shown.items())
    return setpoint, *others


def written_plant(port: int) -> Plant:
    """The plant file's content, with its server at `port`, in real time."""
    level = Tag(name="tank.level", role=Role.CV, unit="cm", node="tank.level")
    return Plant(
        plant="written",
        title="Written",
        sample_s=SAMPLE_S,
        tags=(level, *(tag for loop in (*KINDS, STEPPED) for tag in _loop_tags(loop))),
        opcua=OpcUaSource(
            endpoint=f"opc.tcp://127.0.0.1:{port}/",
            namespace=NAMESPACE,
            security=Security(policy="None"),
            heartbeat_node="plc.heartbeat",
            stop_node="plc.stop",
        ),
    )


@dataclass
class Plc:
    """The other party's server and the PLC behind it, in a process of its own."""

    plant: Plant
    process: subprocess.Popen[str]

    def hears(self, word: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        while not (line := self.process.stdout.readline()).startswith("answer "):
            assert line, "the server has ended"  # what else it says is its library's talk
        return line.removeprefix("answer ")

    def writes(self) -> list[tuple[str, str, Any]]:
        """Node, type and value of all that was written since this was asked last."""
        return [tuple(each) for each in json.loads(self.hears("writes"))]


@pytest.fixture(scope="module")
def plc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plc]:
    port = free_port()
    loops = [{"name": name, "type": kind, "used": 5.0} for name, kind in KINDS.items()]
    stepped = {"name": STEPPED, "type": "Double", "used": USED, "has_steps": True}
    wanted = {
        "port": port,
        "folder": str(tmp_path_factory.mktemp("pki")),
        "namespace": NAMESPACE,
        "sample_ms": round(1000 * SAMPLE_S),
        "loops": [*loops, stepped],
    }
    process = subprocess.Popen(
        ["node", str(_SERVER), json.dumps(wanted)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        while (line := process.stdout.readline()) != "ready\n":
            assert line, "the server ended before it was ready"
        yield Plc(written_plant(port), process)
    finally:
        process.kill()
        process.wait()


@dataclass
class Desk:
    """A story's own historian and writer for the plant, and a session with it."""

    writer: Writer
    session: Session

    async def accept(self, setpoints: dict[str, float]) -> str:
        return await propose(self.writer.plant, self.writer.historian, self.session, setpoints)

    async def write(self, setpoints: dict[str, float]) -> WriteOutcome:
        await self.accept(setpoints)
        (outcome,) = await write_accepted(self.writer, self.session)
        return outcome


def tell(plc: Plc, folder: Path, story: Callable[[Desk], Awaitable[None]]) -> None:
    """Run a story with every loop in AUTO and nothing written yet."""

    async def whole() -> None:
        with Historian.create(folder / "plant.db") as historian:
            historian.register(plc.plant)
            historian.start_stages(plc.plant, wall_now())
            latch = StopLatch(folder / "stop")
            writer = Writer(
                plc.plant, historian, latch.is_stopped, read_back_wall_s=0.5, latch=latch.name
            )
            async with Session(plc.plant) as session:
                for loop in (*KINDS, STEPPED):
                    await session.write(f"{loop}.mode", 0.0)
                await shows(session, {f"{loop}.mode": 0.0 for loop in (*KINDS, STEPPED)})
                plc.writes()
                await story(Desk(writer, session))

    asyncio.run(whole())


async def shows(session: Session, wanted: dict[str, float]) -> None:
    """Wait until the server shows these values."""
    give_up_s = asyncio.get_running_loop().time() + 20
    while {tag: at.value for tag, at in (await session.read(list(wanted))).items()} != wanted:
        assert asyncio.get_running_loop().time() < give_up_s
        await asyncio.sleep(0.01)


async def let_go(writer: Writer, session: Session) -> None:
    """Rounds of hand-backs until none is open."""
    rounds, give_up_s = HandBacks(writer), asyncio.get_running_loop().time() + 20
    while writer.historian.hand_backs(writer.plant, statuses=[HandBackStatus.OPEN]):
        assert asyncio.get_running_loop().time() < give_up_s
        await rounds.round(session, set())


@pytest.mark.parametrize(("loop", "value", "held"), [
    ("double", 5.3, 5.3),
    ("float", 5.3, 5.300000190734863),
    ("int16", 6.0, 6.0),
])  # fmt: skip
def test_a_setpoint_arrives_in_the_nodes_own_type_and_is_verified(
    plc: Plc, tmp_path: Path, loop: str, value: float, held: float
) -> None:
    """One write, of exactly that type; a Float reads back as the nearest that it can hold."""

    async def story(desk: Desk) -> None:
        mv = f"{loop}.setpoint"
        outcome = await desk.write({mv: value})
        assert outcome.status is WriteStatus.VERIFIED, outcome.reason
        assert outcome.read_back == {mv: held}
        assert plc.writes() == [(mv, KINDS[loop], held)]

    tell(plc, tmp_path, story)


def test_a_number_that_the_nodes_type_does_not_have_is_not_sent(plc: Plc, tmp_path: Path) -> None:
    """5.5 for a node of whole numbers: failed, with the reason, and nothing was written."""

    async def story(desk: Desk) -> None:
        outcome = await desk.write({"int16.setpoint": 5.5})
        assert outcome.status is WriteStatus.FAILED
        assert "whole numbers" in outcome.reason
        assert plc.writes() == []

    tell(plc, tmp_path, story)


def test_a_loop_is_taken_over_without_a_bump(plc: Plc, tmp_path: Path) -> None:
    """It stands at 8: that is written first, then the mode in its own type, then the move."""

    async def story(desk: Desk) -> None:
        outcome = await desk.write({f"{STEPPED}.setpoint": 8.5})
        assert outcome.status is WriteStatus.VERIFIED, outcome.reason
        assert plc.writes() == [
            (f"{STEPPED}.setpoint", "Double", USED),
            (f"{STEPPED}.mode", "UInt16", 1),
            (f"{STEPPED}.setpoint", "Double", 8.5),
        ]

    tell(plc, tmp_path, story)


def test_a_plc_that_clamps_has_not_done_what_was_agreed(plc: Plc, tmp_path: Path) -> None:
    """It answers Good and takes less: failed, with both numbers; the loop goes back to AUTO."""

    async def story(desk: Desk) -> None:
        plc.hears("clamp 6.25")
        try:
            outcome = await desk.write({"double.setpoint": 7.5})
        finally:
            plc.hears("clamp Infinity")
        assert outcome.status is WriteStatus.FAILED
        assert "double.setpoint reads back as 6.25, not 7.5" in outcome.reason
        assert outcome.read_back == {"double.setpoint": 6.25}
        mode = ("double.mode", "UInt16", 0)
        assert plc.writes() == [("double.setpoint", "Double", 7.5), mode]
        await shows(desk.session, {"double.mode": 0.0})

    tell(plc, tmp_path, story)


@pytest.mark.parametrize("answer", ["Uncertain", "BadOutOfRange"])
def test_a_plc_that_refuses_and_does_it_all_the_same_gets_its_loop_back(
    plc: Plc, tmp_path: Path, answer: str
) -> None:
    """The loop went to REMOTE by our write: it is not left there, held by nobody."""

    async def story(desk: Desk) -> None:
        plc.hears(f"answer {answer}")
        try:
            outcome = await desk.write({"double.setpoint": 5.75})
        finally:
            plc.hears("answer Good")
        assert outcome.status is WriteStatus.FAILED
        assert answer in outcome.reason
        assert "may have been written all the same" in outcome.reason
        await let_go(desk.writer, desk.session)
        await shows(desk.session, {"double.mode": 0.0, "double.setpoint": 5.75})
        first, *others = plc.writes()
        assert first == ("double.setpoint", "Double", 5.75)
        assert set(others) == {("double.mode", "UInt16", 0)}

    tell(plc, tmp_path, story)


def test_a_loop_that_was_never_taken_is_not_waited_for_for_ever(plc: Plc, tmp_path: Path) -> None:
    """A PLC that drops our write and stamps only what changes shows no newer AUTO: its hand-back
    ends once nothing of the write can still come."""

    async def story(desk: Desk) -> None:
        writer = replace(desk.writer, late_wall_s=1.5)
        await desk.accept({"double.setpoint": 5.5})
        plc.hears("ignore")
        try:
            (outcome,) = await write_accepted(writer, desk.session)
            assert outcome.status is WriteStatus.FAILED
            await let_go(writer, desk.session)
        finally:
            plc.hears("heed")
        assert desk.writer.historian.held(plc.plant) == {}

    tell(plc, tmp_path, story)


@pytest.mark.parametrize(
    ("fault", "expected"), [("cut", WriteStatus.VERIFIED), ("drop", WriteStatus.FAILED)]
)
def test_a_link_lost_between_write_and_read_back_is_settled_by_reading(
    plc: Plc, tmp_path: Path, fault: str, expected: WriteStatus
) -> None:
    """The server answered Good, then let everybody go: unknown until it is read; sent once."""

    async def story(desk: Desk) -> None:
        mv, historian = "double.setpoint", desk.writer.historian
        setpoint = 6.5 if expected is WriteStatus.VERIFIED else 7.25
        proposal = await desk.accept({mv: setpoint})
        plc.hears(fault)
        with pytest.raises(EndpointUnavailable):
            await write_accepted(desk.writer, desk.session)
        (unknown,) = historian.outcomes(plc.plant, 1, proposal)
        assert unknown.status is WriteStatus.UNKNOWN
        async with Session(plc.plant, clock=desk.session.clock) as again:
            # Another writer might still read it back: it is left alone until that is over.
            assert await settle_begun(desk.writer, again) == ([], {mv})
            again.clock.trust(unknown.finished_at + timedelta(minutes=10))
            ((outcome,), _) = await settle_begun(desk.writer, again)
        assert outcome.status is expected, outcome.reason
        assert ("Nobody saw its end" in outcome.reason) is (expected is WriteStatus.FAILED)
        assert plc.writes()[:1] == [(mv, "Double", setpoint)]

    tell(plc, tmp_path, story)


def test_the_writing_process_beats_writes_and_stops(plc: Plc, tmp_path: Path) -> None:
    """Heartbeat and stop node in their own types; a stop gives the loop back, a release clears."""

    async def story(desk: Desk) -> None:
        stop, outcomes = asyncio.Event(), list[WriteOutcome]()
        task = asyncio.create_task(
            run_writer(desk.writer, stop=stop, poll_s=0.05, on_outcome=outcomes.append)
        )
        latch = StopLatch(tmp_path / "stop")
        await desk.accept({"float.setpoint": 6.5})
        await until(lambda: bool(outcomes), "the write")
        assert outcomes[0].status is WriteStatus.VERIFIED, outcomes[0].reason
        latch.set("Ada", "smoke")
        await shows(desk.session, {"float.mode": 0.0})
        latch.release()
        writes: list[tuple[str, str, Any]] = []

        def has_cleared() -> bool:
            writes.extend(plc.writes())
            return ("plc.stop", "Boolean", False) in writes

        await until(has_cleared, "the release at the PLC")
        stop.set()
        await asyncio.wait_for(task, 20)
        assert ("plc.heartbeat", "UInt32", 1) in writes
        assert ("plc.stop", "Boolean", True) in writes

    tell(plc, tmp_path, story)
