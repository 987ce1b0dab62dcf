"""What a server has becomes a plant file that can be collected from, however large it is."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from asyncua import Server, ua
from command_line import COMMAND, Answer, CommandLine, clear_environment, environment
from counting_plant import Counting, CountingServer
from made_certificates import server_pair
from one_tank import NOON, free_port
from secured_server import PASSWORDS, Users, secured_server

from connectors.draft import draft, tag_names
from connectors.opcua import Session
from connectors.opcua.browse import Browsed, Variable, browse
from connectors.opcua.units import unit_of
from connectors.security.certificates import fingerprint
from twin.errors import EndpointUnavailable, NodeFault
from twin.plant import Role, Security, read_plant

OPEN = Security(policy="None")
PLANT = "urn:plantwright:test:works"


@asynccontextmanager
async def works(port: int) -> AsyncIterator[Server]:
    """A server with units, ranges, arrays, texts, strange names and a circle of references."""
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/works")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    await server.register_namespace("urn:somebody:else")
    index = await server.register_namespace(PLANT)
    boiler = await server.nodes.objects.add_folder(ua.NodeId("b", index), f"{index}:Boiler 1")
    drum = await boiler.add_folder(ua.NodeId("b.d", index), f"{index}:Drum")
    await drum.add_reference(boiler, ua.ObjectIds.HasEventSource)  # a circle
    level = await drum.add_variable(ua.NodeId("b.d.level", index), f"{index}:Füllstand [%]", 5.0)
    await level.set_writable()
    await add_unit(level, index, "P1", "%", (0.0, 100.0))
    heat = await drum.add_variable(ua.NodeId(77, index), f"{index}:Heat", 5.0)
    await add_unit(heat, index, "", "furlong-thing", (5.0, 5.0))
    await drum.add_variable(ua.NodeId("b.d.curve", index), f"{index}:Curve", [1.0, 2.0])
    await drum.add_variable(ua.NodeId("b.d.text", index), f"{index}:Text", "none")
    await boiler.add_variable(ua.NodeId("b.level", index), f"{index}:drum.Füllstand", 1)
    async with server:
        yield server


async def add_unit(
    node: Any, index: int, code: str, symbol: str, span: tuple[float, float]
) -> None:
    unit = ua.EUInformation()
    unit.NamespaceUri = "http://www.opcfoundation.org/UA/units/un/cefact"
    unit.UnitId = int.from_bytes(code.encode(), "big")
    unit.DisplayName = ua.LocalizedText(symbol)
    await node.add_property(0, "EngineeringUnits", unit)
    await node.add_property(0, "EURange", ua.Range(*span))


def walk(port: int, **options: Any) -> Any:
    endpoint = f"opc.tcp://127.0.0.1:{port}/works"
    return browse(endpoint, security=OPEN, access=None, wall_now=lambda: NOON, **options)


def test_every_variable_is_found_once_with_unit_range_and_rights() -> None:
    """A circle of references ends; what cannot be a tag says why."""

    async def story() -> Browsed:
        port = free_port()
        async with works(port):
            return await walk(port)

    found = {each.path[-1]: each for each in asyncio.run(story()).variables}
    assert len(found) == 5
    level = found["Füllstand [%]"]
    assert level.node == f"nsu={PLANT};s=b.d.level"
    assert level.path == ("Boiler 1", "Drum", "Füllstand [%]")
    assert (level.unit, level.low, level.high, level.is_writable) == ("percent", 0, 100, True)
    heat = found["Heat"]
    assert heat.node == f"nsu={PLANT};i=77"
    assert (heat.unit, heat.unit_told, heat.low, heat.is_writable) == (
        "",
        "furlong-thing",
        None,
        False,
    )
    assert found["Curve"].left_out == "holds an array; a single number is needed"
    assert found["Text"].left_out == "holds String; a number or Boolean is needed"


def test_a_walk_can_begin_below_be_narrowed_and_be_cut_short() -> None:
    """Beginning, pattern and limit; a node that is not there is told."""

    async def story() -> None:
        port = free_port()
        async with works(port):
            below = await walk(port, under=f"nsu={PLANT};s=b.d")
            firsts = {each.path[0] for each in below.variables}
            assert firsts == {"Füllstand [%]", "Heat", "Curve", "Text", "Boiler 1"}
            some = await walk(port, wanted=lambda path: "Heat" in path)
            assert [each.path[-1] for each in some.variables] == ["Heat"]
            cut = await walk(port, most_variables=2)
            assert len(cut.variables) == 2
            assert cut.cut_short == "only the first 2 variables were taken"
            with pytest.raises(NodeFault, match="nobody does not exist"):
                await walk(port, under=f"nsu={PLANT};s=nobody")

    asyncio.run(story())


def test_the_draft_is_a_plant_file_that_collects_at_once(tmp_path: Path) -> None:
    """From an address to live values: browse, check, connect; no line written by hand."""

    async def story() -> None:
        port = free_port()
        path = tmp_path / "plant.yaml"
        async with works(port):
            command = ["browse", f"opc.tcp://127.0.0.1:{port}/works", "--policy", "None"]
            made = await run(tmp_path, *command, "--output", str(path), "--json")
            assert (made.returncode, json.loads(made.stdout)["output"]) == (0, str(path))
            assert "nodes/s" in made.stderr
            again = await run(tmp_path, *command, "--output", str(path))
            assert again.returncode == 2
            assert "exists already" in again.stderr
            assert (await run(tmp_path, *command, "--output", str(path), "--force")).returncode == 0
            assert (await run(tmp_path, "check", str(path))).returncode == 0
            plant = read_plant(str(path))
            assert {tag.role for tag in plant.tags} == {Role.AUX}
            level = plant.tag("drum.fullstand")
            assert level.unit == "percent"
            assert level.engineering is not None
            assert (level.engineering.low, level.engineering.high) == (0, 100)
            async with Session(plant) as session:
                read = await session.read()
                assert {name: each.value for name, each in read.items()} == {
                    "drum.fullstand": 5.0,
                    "drum.heat": 5.0,
                    "drum_fullstand": 1.0,
                }
        text = path.read_text(encoding="utf-8")
        assert "it could be an MV" in text
        assert "the server says furlong-thing: not known here" in text
        assert "Curve: holds an array" in text

    asyncio.run(story())


async def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own, while this one's server goes on serving."""
    return await asyncio.to_thread(
        subprocess.run,
        [*COMMAND, *words],
        env={**environment(folder), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_tag_names_are_valid_unique_and_say_the_most(tmp_path: Path) -> None:
    """From whatever people named their nodes: digits first, one letter apart, far too long."""
    paths = [
        ("Works", "Line", "Temp"),
        ("Works", "Line", "temp"),
        ("Works", "Line", "TEMP_2"),
        ("Works", "2nd", "温度"),
        ("Works", *("Department of everything" for _ in range(5)), "Level"),
        ("Works", "x" * 100),
    ]
    names = tag_names(paths)
    assert names[:4] == ["line.temp", "line.temp_2", "line.temp_2_2", "n2nd.x"]
    assert names[4].endswith("department_of_everything.level")
    found = Browsed(
        "",
        (),
        6,
        tuple(Variable(f"nsu={PLANT};i={k}", path) for k, path in enumerate(paths)),
    )
    text = draft(found, "opc.tcp://127.0.0.1:4840/", OPEN, NOON)
    path = tmp_path / "names.yaml"
    path.write_text(text, encoding="utf-8")
    assert [tag.name for tag in read_plant(str(path)).tags] == names


@pytest.mark.parametrize(
    ("code", "symbol", "unit"),
    [
        ("CEL", "", "degC"),
        ("2J", "?", "cm**3/s"),
        ("", "m³/h", "m³/h"),
        ("", "°C", "degC"),
        ("", "kWh", "kWh"),
        ("", "pH", ""),  # never a picohenry
        ("", "C", ""),  # never a coulomb
        ("ZZZ", "Stück", ""),
        ("", "", ""),
    ],
)
def test_a_unit_is_known_for_sure_or_not_at_all(code: str, symbol: str, unit: str) -> None:
    """By its common code, else by its symbol; what a parser might misread stays open."""
    told = ua.EUInformation()
    told.NamespaceUri = "http://www.opcfoundation.org/UA/units/un/cefact"
    told.UnitId = int.from_bytes(code.encode(), "big")
    told.DisplayName = ua.LocalizedText(symbol)
    assert unit_of(told)[0] == unit


def test_nobody_at_the_address_is_one_clear_message() -> None:
    """Never a traceback, and never a file."""
    with pytest.raises(EndpointUnavailable, match="browsing got no answer"):
        asyncio.run(walk(free_port()))


@pytest.fixture
def plantwright(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    clear_environment(monkeypatch, {"PLANTWRIGHT_STATE_DIR": str(tmp_path / "state")})
    return CommandLine(monkeypatch, capsys)


@pytest.mark.parametrize(
    "typed", ["127.0.0.1:4840", "opc.tcp://127.0.0.1", "http://127.0.0.1:4840", "opc.tcp://h:99999"]
)
def test_what_is_no_address_is_a_wrong_call(plantwright: CommandLine, typed: str) -> None:
    """With how to write one; the other wrong calls name the help of the very command."""
    answer = plantwright("browse", typed)
    assert (answer.code, "opc.tcp://HOST:PORT/PATH" in answer.err) == (2, True)
    assert "See `plantwright browse --help`." in plantwright("browse").err
    assert "Did you mean 'browse'? See `plantwright --help`." in plantwright("brows").err


@pytest.mark.parametrize("under", ["blah", "ns=2;s=blah", "nsu=urn:x;blah", "i=x", "s="])
def test_a_start_that_names_no_node_is_a_wrong_call(plantwright: CommandLine, under: str) -> None:
    """With how to write one, before anybody is asked."""
    endpoint = f"opc.tcp://127.0.0.1:{free_port()}/"  # where nobody answers
    refused = plantwright("browse", endpoint, "--under", under, "--json")
    told = refused.record["message"]
    assert (refused.code, told.startswith(f"--under {under}: ")) == (2, True)
    assert "Write it as nsu=URI;s=NAME, or i=NUMBER" in told


def test_a_draft_that_could_not_be_written_is_refused_before_the_walk(
    plantwright: CommandLine, tmp_path: Path
) -> None:
    """Nobody waits for 100,000 nodes to hear of a wrong folder; nothing is made or changed."""
    (tmp_path / "there.yaml").write_text("mine")
    (tmp_path / "folder.yaml").mkdir()
    endpoint = f"opc.tcp://127.0.0.1:{free_port()}/"  # where nobody answers
    for name, told in (
        ("there.yaml", "exists already"),
        ("folder.yaml", "is a folder"),
        ("nowhere/plant.yaml", "there is no folder"),
    ):
        refused = plantwright("browse", endpoint, "--output", str(tmp_path / name), "--json")
        assert (refused.code, told in refused.record["message"]) == (2, True)
    assert (tmp_path / "there.yaml").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


def test_an_encrypted_server_is_browsed_by_who_has_its_password(
    plantwright: CommandLine, tmp_path: Path
) -> None:
    """Refused until its certificate is accepted, then by the user in the secret file alone."""
    secrets = tmp_path / "state" / "secrets.yaml"
    secrets.parent.mkdir(mode=0o700)
    secrets.touch(mode=0o600)
    port, password = free_port(), PASSWORDS["reader"]
    command = ["browse", f"opc.tcp://127.0.0.1:{port}/", "--login", "password", "--json"]

    async def call(*words: str) -> Answer:
        return await asyncio.to_thread(plantwright, *words)

    async def story() -> list[Answer]:
        users = Users(lets_anybody_in=False)
        async with secured_server(port, pair := server_pair(), users=users):
            secrets.write_text(yaml.safe_dump({"opcua": {"user": "reader", "password": "typo"}}))
            told = [await call(*command)]
            accept = ("certs", "accept", fingerprint(pair.certificate))
            assert (await call(*accept)).code == 0
            told.append(await call(*command))
            secrets.write_text(yaml.safe_dump({"opcua": {"user": "reader", "password": password}}))
            told.append(await call(*command, "--output", str(tmp_path / "plant.yaml")))
        return told

    strange, wrong, right = asyncio.run(story())
    assert "nobody has accepted it yet" in strange.out + strange.err
    assert "refused our login" in wrong.out + wrong.err
    assert (strange.code, wrong.code, right.code) == (1, 1, 0), right.err
    assert [each["path"] for each in right.record["variables"]] == [["level"]]
    source = read_plant(str(tmp_path / "plant.yaml")).opcua
    assert source is not None
    assert source.security == Security(login="password")
    said = right.out + right.err + (tmp_path / "plant.yaml").read_text()
    assert password not in said


@pytest.mark.node
def test_a_hundred_thousand_nodes_are_walked_without_losing_the_link(tmp_path: Path) -> None:
    """All in one folder of another people's server, with progress told and memory bounded."""
    most_mib = 600

    async def story() -> tuple[int, float]:
        counting = Counting.now(more_variables=100_000)
        server = CountingServer(counting, "node-opcua", free_port(), tmp_path)
        await server.start()
        try:
            words = ("browse", f"opc.tcp://127.0.0.1:{server.port}/", "--policy", "None", "--json")
            with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
                process = subprocess.Popen(
                    [*COMMAND, *words, "--output", str(tmp_path / "plant.yaml")],
                    env={**environment(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)},
                    stdout=out,
                    stderr=err,
                )
                # Not the kernel's own peak: that begins with the size of whoever started it.
                watched, most_bytes = psutil.Process(process.pid), 0
                while process.poll() is None:
                    with contextlib.suppress(psutil.Error):
                        most_bytes = max(most_bytes, watched.memory_info().rss)
                    await asyncio.sleep(0.1)
            return process.returncode, most_bytes / 2**20
        finally:
            server.kill()

    code, used_mib = asyncio.run(story())
    assert code == 0, (tmp_path / "err").read_text()
    found = json.loads((tmp_path / "out").read_text())
    paths = [tuple(each["path"]) for each in found["variables"]]
    assert len(paths) == len(set(paths))
    assert {("Plant", f"v{k}") for k in range(100_000)} <= set(paths)
    assert (found["cut_short"], used_mib < most_mib) == ("", True)
    assert (tmp_path / "plant.yaml").read_text().count("- name: ") == len(paths)
