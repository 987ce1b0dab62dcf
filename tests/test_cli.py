"""The command line answers everything typed into it: done, or one clear message and no harm."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from command_line import COMMAND, ROOT, Answer, CommandLine, clear_environment, environment, start
from each_database import Server
from lived_plant import NOON, beats, fill, four_tank, proposal
from one_tank import NAMESPACE, free_port
from test_opcua import odd_server, usual_values

from connectors.stop import StopLatch
from dashboard.claims import only_one
from dashboard.cli import annotate_app, app, certs_app, db_app
from twin.clock import WALL_TIME, wall_now
from twin.historian import Historian, head_revision, upgrade
from twin.records import Clearance, Decision, ProposalStatus, Stage, WriteOutcome, WriteStatus

MANY_FAULTS = str(Path(__file__).parent / "plants" / "many_faults.yaml")
STUDY = Path(__file__).parent / "plants" / "demand_study.yaml"

SMALL = """
plant: small
title: One tank
physics: {physics}
opcua:
  endpoint: {endpoint}
  security: {{policy: None}}
  namespace: {namespace}
tags:
  - {{name: tank.level, role: CV, unit: cm, node: {level_node}, rank: 1, soft_price_per_h: 36,
     engineering: {{low: 0, high: {high}}}, operator: {{low: 5, high: 17}}}}
  - {{name: tank.sensor, role: AUX, unit: cm, node: tank.sensor}}
economics:
  currency: ct
  parameters: {{rent: {{value: 1, unit: ct/h/cm}}}}
  cost_per_h: {cost}
"""


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state folder of a fresh installation."""
    clear_environment(monkeypatch, {"PLANTWRIGHT_STATE_DIR": str(tmp_path / "state")})
    return tmp_path / "state"


@pytest.fixture
def call(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    """Our command line on a fresh installation."""
    return CommandLine(monkeypatch, capsys)


@pytest.fixture
def lived(state: Path) -> Iterator[Historian]:
    """The quadruple tank's database with an hour of readings, and one open proposal, `p-1`."""
    state.mkdir()
    plant = four_tank()
    with Historian.create(f"sqlite:///{state / 'four_tank.db'}") as historian:
        fill(historian, plant, hours=1)
        beats(historian, plant, wall_now())
        historian.store_proposal(proposal(plant, "p-1", wall_now=wall_now(), open_wall_s=600))
        yield historian


def small(folder: Path, **changes: object) -> str:
    """A plant file with one tank; `changes` break it."""
    usual = {
        "endpoint": "opc.tcp://127.0.0.1:4840/",
        "namespace": NAMESPACE,
        "level_node": "tank.level",
        "high": 20,
        "cost": "rent * tank.level",
        "physics": "",
    }
    text = SMALL.format(**{**usual, **changes}).replace("physics: \n", "")
    path = folder / "small.yaml"
    path.write_text(text)
    return str(path)


def is_clear(answer: Answer, code: int, *told: str) -> None:
    """One message on stderr that has all of `told`, no traceback, nothing on stdout."""
    assert answer.code == code, answer
    assert answer.out == ""
    assert "Traceback" not in answer.err
    for words in told:
        assert words in answer.err, answer.err


def in_json_too(call: CommandLine, words: list[str], text: Answer) -> None:
    """With --json the same refusal is one object on stdout."""
    answer = call(*words, "--json")
    assert answer.code == text.code
    message = answer.record.get("message") or answer.record["reason"]
    assert message.strip() in answer.err


def commands() -> list[list[str]]:
    """Every command there is, as typed."""
    found = []
    for typer_app, before in (
        (app, []), (db_app, ["db"]), (certs_app, ["certs"]), (annotate_app, ["annotate"]),
    ):  # fmt: skip
        for each in typer_app.registered_commands:
            assert each.callback is not None
            found.append([*before, each.name or each.callback.__name__])
    return found


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_tells_its_use(call: CommandLine, words: list[str]) -> None:
    """--help: what it does in a sentence, its options, exit code 0; each knows --json."""
    answer = call(*words, "--help")
    assert answer.code == 0
    usage = answer.out.splitlines()[0]  # under `python -m` the program has a longer name
    assert usage.startswith("Usage: ")
    assert f"plantwright {' '.join(words)} " in usage
    assert "--json" in answer.out


def test_no_word_asks_for_the_help(call: CommandLine) -> None:
    """`plantwright` alone shows what there is; exit code 2, because nothing was done."""
    answer = call()
    assert answer.code == 2
    assert "Commands:" in answer.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["chek", "four_tank"], ["chek"]),
        (["check"], ["plant"]),
        (["check", "four_tank", "--jsn"], ["--jsn"]),
        (["stage", "four_tank", "pump_1.setpoint", "shdow"], ["shdow", "shadow"]),
        (["emulate", "four_tank", "--port", "70000"], ["--port", "65535"]),
        (["emulate", "four_tank", "--speed", "0"], ["--speed 0", "above 0"]),
        (["emulate", "four_tank", "--speed", "nan"], ["--speed nan", "above 0"]),
        (["demo", "four_tank", "--headless", "--hours=-1"], ["--hours -1", "above 0"]),
        (["demo", "four_tank", "--headless", "--seeds", "0"], ["--seeds 0", "held-back"]),
        (["demo", "four_tank", "--headless", "--hours", "0.2"], ["--hours 0.2", "2 or more"]),
        (["demo", "furnace", "--headless", "--hours", "2.01"], ["--hours 2.01", "whole steps"]),
        (["demo", "furnace", "--headless", "--hours", "200"], ["--hours 200", "192 h only"]),
        (["collect", "four_tank", "--wait-s=-1"], ["--wait-s -1", "above 0"]),
        (["accept", "four_tank", "p-1"], ["--by"]),
        (["accept", "four_tank", "p-1", "--by", " "], ["--by ' '", "audit"]),
        (["accept", "four_tank", "p-1", "--by", "closed loop"], ["not a person's name"]),
        (["reject", "four_tank", "p-1", "--by", "Ada", "--reason", ""], ["--reason ''"]),
        (["release", "four_tank", "--by", "", "--reason", "x"], ["--by ''"]),
        (["release", "four_tank", "--by", "Ada", "--reason", " "], ["--reason ' '"]),
        (["release", "four_tank", "--by", "Ada", "--reason", "\udcff"], ["--reason", "plain text"]),
        (["release", "four_tank", "--by", "A" * 201, "--reason", "x"], ["--by", "201", "200"]),
        (["release", "four_tank", "--by", "closed loop", "--reason", "x"], ["person's name"]),
        (["accept", "four_tank", "p\udcff", "--by", "Ada"], ["PROPOSAL", r"\udcff", "plain text"]),
        (["accept", "four_tank", "p" * 201, "--by", "Ada"], ["PROPOSAL", "201", "200"]),
        (["give-back", "four_tank", "\x1b[2J", "--by", "Ada", "--reason", "x"], ["MV", r"\x1b"]),
        (
            ["give-back", "four_tank", "m", "--by", " Closed  Loop", "--reason", "x"],
            ["person's name"],
        ),
        (["stage", "four_tank", "\x1b[2J"], ["MV", r"\x1b[2J", "plain text"]),
        (["stage", "four_tank", "m", "shadow", "--by", "A\x1b"], ["--by", r"\x1b", "plain text"]),
        (["stage", "four_tank", "m", "shadow", "--by", "closed loop"], ["person's name"]),
        (["stage", "four_tank", "m", "shadow", "--by", "A", "--reason", "\udcff"], ["--reason"]),
        (
            ["stage", "four_tank", "m", "shadow", "--by", "A", "--reason", "x" * 5000],
            ["--reason", "5000", "200"],
        ),
        (["study", "four_tank", "x.yaml", "--plot", "/nowhere/x.png"], ["/nowhere"]),
        (["study", "four_tank", "x.yaml", "--plot", "."], ["--plot .", ".png"]),
    ],
    ids=lambda each: ascii(" ".join(each))[:60],
)
def test_a_wrong_call_has_exit_code_2(call: CommandLine, words: list[str], told: list[str]) -> None:
    """What is wrong with the call, before anything is touched."""
    answer = call(*words)
    is_clear(answer, 2, *told)
    in_json_too(call, words, answer)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"PLANTWRIGHT_DASHBOARD_PORT": "abc"}, ["PLANTWRIGHT_DASHBOARD_PORT", "'abc'"]),
        ({"PLANTWRIGHT_DASHBOARD_PORT": "99999"}, ["PLANTWRIGHT_DASHBOARD_PORT", "65535"]),
        ({"PLANTWRIGHT_ENDPOINT": "opc.tcp://here:99999/"}, ["PLANTWRIGHT_ENDPOINT", "HOST:PORT"]),
        ({"PLANTWRIGHT_ENDPOINT": "garbage"}, ["PLANTWRIGHT_ENDPOINT", "'garbage'"]),
        ({"PLANTWRIGHT_KEEP_RAW_DAYS": "1000000"}, ["PLANTWRIGHT_KEEP_RAW_DAYS", "36500"]),
        ({"PLANTWRIGHT_KEEP_MINUTE_DAYS": "-1"}, ["PLANTWRIGHT_KEEP_MINUTE_DAYS", "'-1'"]),
        ({"PLANTWRIGHT_STATE_DIR": "/proc/nowhere"}, ["/proc/nowhere", "PLANTWRIGHT_STATE_DIR"]),
    ],
    ids=lambda each: "",
)
def test_wrong_settings_are_named_with_their_variable(
    call: CommandLine, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], told: list[str]
) -> None:
    """A person finds the variable, its value and what it may be."""
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    answer = call("status", "four_tank")
    is_clear(answer, 2, *told)
    in_json_too(call, ["status", "four_tank"], answer)


# -- the plant file ------------------------------------------------------------------------------


def test_check_lists_every_fault_as_an_object(call: CommandLine) -> None:
    """File, line, place, message and remedy of all faults at once; exit code 1."""
    is_clear(call("check", MANY_FAULTS), 1, "many_faults.yaml", "(line 19)", "low 20 is above")
    answer = call("check", MANY_FAULTS, "--json")
    faults = answer.record["faults"]
    assert answer.code == 1
    assert len(faults) > 40
    assert all({"file", "line", "where", "message", "remedy"} == each.keys() for each in faults)
    assert all(each["file"] == MANY_FAULTS for each in faults)


def test_check_of_a_sound_file_says_so(call: CommandLine) -> None:
    """No faults, in words and as an object; exit code 0."""
    assert "no faults" in call("check", "four_tank").out
    record = call("check", "four_tank", "--json").record
    assert (record["faults"], record["tags"]["MV"]) == ([], 2)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"cost": "rent * tank.levl"}, ["cost_per_h", "tank.levl", "Did you mean", "line 15"]),
        ({"high": -3}, ["engineering", "low 0 is above high -3", "line 10"]),
        ({"physics": "gone.py"}, ["gone.py", "no such file"]),
    ],
    ids=["unknown tag in an expression", "limits crossed", "no such physics"],
)
def test_a_fault_of_a_plant_file_stops_every_command(
    call: CommandLine, state: Path, changes: dict[str, object], told: list[str]
) -> None:
    """The same message whichever command met the file, and no database was begun."""
    path = small(state.parent, **changes)
    for words in (["check", path], ["db", "upgrade", path], ["collect", path], ["run", path]):
        is_clear(call(*words), 1, path, *told)
    assert not list(state.glob("*.db")) if state.exists() else True


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("four_tanks", ["four_tanks", "four_tank"]),
        ("nowhere/plant.yaml", ["plant.yaml", "no such file"]),
        ("tests", ["tests"]),
    ],
)
def test_a_plant_that_is_not_there_is_one_message(
    call: CommandLine, name: str, told: list[str]
) -> None:
    """A typing error in the plant's name, whatever the command."""
    for words in (["check", name], ["status", name], ["demo", name], ["dashboard", name]):
        answer = call(*words)
        is_clear(answer, 1, *told)
        in_json_too(call, words, answer)


# -- the plant's fence ---------------------------------------------------------------------------


def test_an_endpoint_that_does_not_answer_is_told_at_once_and_given_up_if_asked(
    call: CommandLine, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`collect --wait-s`: the address, why, what to check; without it, it would try for ever."""
    monkeypatch.setenv("PLANTWRIGHT_ENDPOINT", f"opc.tcp://127.0.0.1:{free_port()}/x")
    answer = call("collect", "four_tank", "--wait-s", "0.5")
    is_clear(answer, 1, "does not answer as an OPC UA server", "opcua.endpoint", "link lost")
    with Historian.open(f"sqlite:///{state / 'four_tank.db'}") as historian:
        assert historian.count(four_tank()) == 0


def test_collecting_ends_cleanly_when_told(tmp_path: Path) -> None:
    """SIGTERM while nothing answers: one object on stdout, exit code 0, the reason in the log."""
    endpoint = f"opc.tcp://127.0.0.1:{free_port()}/x"
    process = start(tmp_path, "collect", "four_tank", "--json", PLANTWRIGHT_ENDPOINT=endpoint)
    assert process.stderr is not None
    assert any("link lost" in line for line in process.stderr), "it ended before it was told"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert json.loads(out) == {"plant": "four_tank", "ended": True}
    assert "Traceback" not in err


@contextmanager
def serving(**changes: object) -> Iterator[str]:
    """An OPC UA server in a thread of its own; its endpoint."""
    port, ready, ended = free_port(), threading.Event(), threading.Event()

    async def serve() -> None:
        async with odd_server(port, usual_values(**changes)):
            ready.set()
            await asyncio.to_thread(ended.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(30)
        yield f"opc.tcp://127.0.0.1:{port}/one_tank"
    finally:
        ended.set()
        thread.join()


def test_missing_and_wrong_nodes_are_all_named(call: CommandLine, state: Path) -> None:
    """A node that does not exist and one that holds text: both in one message, nothing stored."""
    with serving(**{"tank.sensor": "text"}) as endpoint:
        path = small(state.parent, endpoint=endpoint, level_node="tank.lvl")
        answer = call("collect", path, "--json")
    assert answer.code == 1
    assert "Traceback" not in answer.err
    assert [(f["where"], f["file"]) for f in answer.record["faults"]] == [
        ("tank.level", endpoint),
        ("tank.sensor", endpoint),
    ]
    assert "tank.lvl" in answer.err
    assert "holds String" in answer.err
    with closing(sqlite3.connect(state / "small.db")) as connection:
        assert connection.execute("SELECT count(*) FROM sample").fetchone() == (0,)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that another program has."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def test_a_taken_port_is_named_with_what_to_do(
    call: CommandLine, state: Path, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    """Emulator and web page, alone and together: the port, and how to choose another."""
    answer = call("emulate", "four_tank", "--port", str(taken))
    is_clear(answer, 1, str(taken), "--port")
    is_clear(call("dashboard", "four_tank", "--port", str(taken)), 1, str(taken))
    monkeypatch.setenv("PLANTWRIGHT_DASHBOARD_PORT", str(taken))
    for words in (["dashboard", "four_tank"], ["run", "four_tank"], ["demo", "four_tank"]):
        answer = call(*words)
        is_clear(answer, 1, str(taken), "PLANTWRIGHT_DASHBOARD_PORT")
        in_json_too(call, words, answer)


@pytest.mark.parametrize("variable", ["PLANTWRIGHT_DASHBOARD_PORT", "PLANTWRIGHT_ENDPOINT"])
def test_a_second_demo_leaves_the_first_ones_data_alone(
    call: CommandLine, state: Path, monkeypatch: pytest.MonkeyPatch, taken: int, variable: str
) -> None:
    """`demo` forgets what an earlier one stored only when no other has its ports."""
    kept = state / "demo" / "four_tank.db"
    kept.parent.mkdir(parents=True)
    kept.write_text("the running demo's")
    monkeypatch.setenv("PLANTWRIGHT_DASHBOARD_PORT", str(free_port()))
    value = str(taken) if "PORT" in variable else f"opc.tcp://127.0.0.1:{taken}/x"
    monkeypatch.setenv(variable, value)
    is_clear(call("demo", "four_tank"), 1, str(taken), variable)
    assert kept.read_text() == "the running demo's"


@pytest.mark.parametrize(
    ("words", "lock"),
    [(["demo", "four_tank"], "demo.lock"), (["run", "four_tank"], "four_tank.run.lock")],
    ids=["demo", "run"],
)
def test_a_plant_is_steered_by_one_only(
    call: CommandLine, state: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], lock: str
) -> None:
    """A second one at other ports is refused with the first one's process, and touches nothing."""
    kept = state / "demo" / "four_tank.db"
    kept.parent.mkdir(parents=True)
    kept.write_text("the running demo's")
    monkeypatch.setenv("PLANTWRIGHT_DASHBOARD_PORT", str(free_port()))
    monkeypatch.setenv("PLANTWRIGHT_ENDPOINT", f"opc.tcp://127.0.0.1:{free_port()}/x")
    with only_one(state / lock, "The first"):
        answer = call(*words)
        is_clear(answer, 1, "runs already", f"process {os.getpid()}", "PLANTWRIGHT_STATE_DIR")
        in_json_too(call, words, answer)
    assert kept.read_text() == "the running demo's"
    assert not (state / "four_tank.db").exists()


def test_only_shipped_plants_are_emulated(call: CommandLine, state: Path) -> None:
    """A plant file of one's own has no truth to emulate: exit code 2 and the way to go."""
    path = small(state.parent)
    is_clear(call("demo", path), 2, "small", "four_tank", "plantwright run")
    is_clear(call("emulate", path), 2, "small", "four_tank")


# -- the database --------------------------------------------------------------------------------


def _nowhere(folder: Path) -> str:
    return f"sqlite:///{folder / 'nowhere' / 'x.db'}"


def _garbage(folder: Path) -> str:
    (folder / "garbage.db").write_text("this is a letter to grandmother, not a database" * 99)
    return f"sqlite:///{folder / 'garbage.db'}"


def _other_revision(folder: Path) -> str:
    path = folder / "newer.db"
    upgrade(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    return f"sqlite:///{path}"


def _of_another_program(folder: Path) -> str:
    with closing(sqlite3.connect(folder / "music.db")) as connection, connection:
        connection.execute("CREATE TABLE song (name TEXT)")
    return f"sqlite:///{folder / 'music.db'}"


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (_nowhere, ["nowhere"]),
        (_garbage, ["garbage.db", "not a database"]),
        (_other_revision, ["newer.db", "9999", head_revision()]),
        (_of_another_program, ["music.db"]),
        (lambda folder: "mysql://me:secret@host/db", ["mysql://me:***@host/db", "PostgreSQL"]),
        (lambda folder: "postgresql://me:secret@127.0.0.1:1/db", ["me:***@127", "server runs"]),
    ],
    ids=["no folder", "garbage", "another revision", "another program's", "another kind", "away"],
)
def test_a_database_that_cannot_be_used_is_left_as_it_was(
    call: CommandLine, state: Path, make: Callable[[Path], str], told: list[str]
) -> None:
    """Reading, upgrading and collecting: each names the database and what to do."""
    url = make(state.parent)
    before = {path: path.read_bytes() for path in state.parent.glob("*.db")}
    for words in (["status"], ["db", "upgrade"], ["collect"], ["write"], ["train"]):
        words = [*words, "four_tank", "--database", url]
        answer = call(*words)
        is_clear(answer, 1, *told)
        assert "secret" not in answer.err
        in_json_too(call, words, answer)
    assert {path: path.read_bytes() for path in state.parent.glob("*.db")} == before


@pytest.mark.postgres
def test_a_database_on_a_server_is_used_like_a_file(
    call: CommandLine, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upgraded, asked and planned on by its address; what is printed never has the password."""
    url = postgres.database().set(password="secret")
    monkeypatch.setenv("PLANTWRIGHT_DATABASE", url.render_as_string(hide_password=False))
    told = [
        call("status", "four_tank"),
        call("db", "upgrade", "four_tank"),
        call("db", "upgrade", "four_tank", "--json"),
        call("db", "status", "four_tank"),
        call("db", "status", "four_tank", "--json"),
        call("status", "four_tank", "--json"),
    ]
    is_clear(told[0], 1, "has no schema yet", "plantwright db upgrade")
    assert told[2].record["revision"] == head_revision()
    assert told[4].record["rows"] == 0
    assert told[4].record["size_bytes"] > 0
    assert told[5].record["readings_stored"] == 0
    assert str(url.database) in told[2].record["database"]
    for each in told:
        assert "secret" not in each.out + each.err
    postgres.drop(url)


def test_a_database_that_is_not_there_yet_is_not_made_by_asking(
    call: CommandLine, state: Path
) -> None:
    """The remedy is a command; after it the same question has an answer."""
    answer = call("status", "four_tank")
    is_clear(answer, 1, "does not exist yet", "plantwright db upgrade", "PLANTWRIGHT_STATE_DIR")
    assert str(state.absolute() / "four_tank.db") in answer.err
    assert not list(state.glob("*.db"))
    assert call("db", "upgrade", "four_tank", "--json").record["revision"] == head_revision()
    assert call("status", "four_tank", "--json").record["readings_stored"] == 0
    assert call("db", "status", "four_tank", "--json").record["rows"] == 0
    is_clear(call("propose", "four_tank"), 1, "No reading", "plantwright collect four_tank")


@pytest.mark.parametrize(
    ("plant", "table", "told"),
    [
        ("four_tank", "1 2 3\n", ["files", "how to read tables"]),
        ("evaporator", None, ["table.dat", "no such file"]),
        ("evaporator", "1 2 3\n", ["table.dat", "column 4", "line 1"]),
        ("evaporator", "", ["table.dat", "has no rows"]),
    ],
    ids=["no mapping", "no file", "too few columns", "empty"],
)
def test_a_table_that_cannot_be_read_is_not_half_imported(
    call: CommandLine, state: Path, plant: str, table: str | None, told: list[str]
) -> None:
    """Every fault with its line, and not one reading stored."""
    name = plant if plant == "four_tank" else str(ROOT / "tests" / "plants" / f"{plant}.yaml")
    path = state.parent / "table.dat"
    if table is not None:
        path.write_text(table)
    words = ["import", name, str(path)]
    answer = call(*words)
    is_clear(answer, 1, *told)
    in_json_too(call, words, answer)
    with closing(sqlite3.connect(state / f"{plant}.db")) as connection:
        assert connection.execute("SELECT count(*) FROM sample").fetchone() == (0,)


# -- what if -------------------------------------------------------------------------------------


def test_a_study_with_an_unknown_tag_names_it(call: CommandLine, state: Path) -> None:
    """The tag, its line, the one that was meant; no scenario runs, no picture is drawn."""
    study, picture = state.parent / "study.yaml", state.parent / "study.png"
    text = STUDY.read_text().replace("scale: {tank_1.demand", "scale: {tank_1.demnd")
    study.write_text(text)
    words = ["study", "four_tank", str(study), "--plot", str(picture)]
    answer = call(*words)
    is_clear(answer, 1, "study.yaml", "tank_1.demnd", "tank_1.demand", "line ")
    in_json_too(call, words, answer)
    assert not picture.exists()
    is_clear(call("study", "four_tank", "gone.yaml"), 1, "gone.yaml", "no such file")


# -- deciding ------------------------------------------------------------------------------------


def test_an_open_proposal_is_accepted_once(call: CommandLine, lived: Historian) -> None:
    """Exit code 0 the first time; the second click is told that it came too late."""
    words = ["accept", "four_tank", "p-1", "--by", "Ada"]
    assert "accepted" in call(*words).out
    is_clear(call(*words), 1, "p-1 was not accepted", "accepted")
    is_clear(call("reject", *words[1:], "--reason", "no"), 1, "p-1 was not rejected")
    taken = lived.decision("p-1")
    assert taken is not None
    assert (taken.by, taken.is_accepted) == ("Ada", True)


def test_a_rejection_keeps_its_reason(call: CommandLine, lived: Historian) -> None:
    """With --json: what was done, as one object."""
    words = ["reject", "four_tank", "p-1", "--by", "Ada", "--reason", "maintenance", "--json"]
    assert call(*words).record["done"] is True
    found, taken = lived.proposal("p-1"), lived.decision("p-1")
    assert found is not None
    assert taken is not None
    assert (found.status, taken.reason) == (ProposalStatus.REJECTED, "maintenance")


def test_what_cannot_be_accepted_is_refused_with_the_reason(
    call: CommandLine, lived: Historian
) -> None:
    """Unknown, expired, refused by the gate: nothing is stored, and each says why."""
    plant, late = four_tank(), NOON - timedelta(hours=1)
    for new in (
        proposal(plant, "p-old", created_at=late, wall_now=wall_now() - timedelta(hours=1)),
        proposal(plant, "p-no", wall_now=wall_now(), refusals=("tank_1.level is stale",)),
    ):
        lived.store_proposal(new)
    is_clear(call("accept", "four_tank", "p-9", "--by", "Ada"), 2, "p-9", "no such proposal")
    for name, reason in (("p-old", "expired"), ("p-no", "gate refused")):
        answer = call("accept", "four_tank", name, "--by", "Ada")
        is_clear(answer, 1, name, reason)
        answer = call("accept", "four_tank", name, "--by", "Ada", "--json")
        assert (answer.code, answer.record["done"]) == (1, False)
        assert lived.decision(name) is None


def test_a_damaged_proposal_is_decided_by_nobody(call: CommandLine, lived: Historian) -> None:
    """`accept` says what is wrong with it; `status` tells of it, and goes on."""
    with closing(sqlite3.connect(lived.path)) as raw, raw:
        raw.execute("DROP TRIGGER proposal_only_status")
        raw.execute("UPDATE proposal SET setpoints = 'garbage'")
    words = ["accept", "four_tank", "p-1", "--by", "Ada"]
    answer = call(*words)
    is_clear(answer, 1, "p-1 was not accepted", "cannot be read", "setpoints", "damaged")
    in_json_too(call, words, answer)
    is_clear(call("reject", *words[1:], "--reason", "x"), 1, "p-1 was not rejected")
    assert lived.decision("p-1") is None
    assert call("status", "four_tank", "--json").record["unreadable"] == ["proposal p-1"]
    assert "unreadable rows: proposal p-1" in call("status", "four_tank").out


def test_no_stored_or_typed_name_steers_the_terminal(
    call: CommandLine, lived: Historian, tmp_path: Path
) -> None:
    """Rows that anybody may have written, a file's name, a path: their signs are shown as escapes.

    A line's end in a name makes no line of its own. What cannot be encoded ends in one message.
    """
    with closing(sqlite3.connect(lived.path)) as raw, raw:
        raw.execute("DROP TRIGGER proposal_only_status")
        raw.execute(
            "UPDATE proposal SET proposal_id = ?, setpoints = 'x'", ("\x1b[2J\nstopped: no",)
        )
    told = call("status", "four_tank").out
    assert r"unreadable rows: proposal \x1b[2J\nstopped: no" in told
    assert "\x1b" not in told
    for words in (
        ["check", f"{tmp_path}/\x1b[2J.yaml"],
        ["import", "four_tank", f"{tmp_path}/\x1b[2J.csv"],
        ["import", "four_tank", f"{tmp_path}/\udcff.csv"],
        ["status", "four_tank", "--database", f"sqlite:///{tmp_path}/\udcff.db"],
        ["status", "four_tank", "--database", "\x1b[2J"],
        ["status", "\udcff"],
        ["\x1b[2J"],
    ):
        answer = call(*words)
        assert answer.code in (1, 2)
        assert not any(sign in answer.err for sign in ("\x1b", "\udcff", "Traceback")), answer
        in_json = call(*words, "--json")
        assert in_json.record["message"]
        assert in_json.out.strip().isprintable()


# -- status --------------------------------------------------------------------------------------


def test_the_status_is_a_page_a_person_can_read(call: CommandLine, lived: Historian) -> None:
    """Ages, sizes and shares with their units, nothing unknown as None, no list that floods."""
    lived.beat(four_tank(), "write", wall_now(), os.getpid(), '{"plant_stop": true}')
    told = call("status", "four_tank").out
    lines = dict(line.split(": ", 1) for line in told.splitlines())
    assert len(lines) == len(told.splitlines()) < 25
    assert lines["stopped"] == "at the plant (clear it there)"
    assert lines["link"] == "live"
    assert lines["trust"] == "91 % of the last plant hour inside the 90 % interval"
    assert lines["stored"].endswith(" MB")
    assert lines["proposals"] == "open 1"
    assert lines["stages"] == "pump_1.setpoint advisory, pump_2.setpoint advisory"
    assert "None" not in told
    assert call("status", "four_tank", "--json").record["stopped_at_plant"] is True


def test_the_status_of_many_unusable_tags_names_a_few(call: CommandLine, lived: Historian) -> None:
    """An hour without readings makes all of them stale: how many, the first, where the rest is."""
    beats(lived, four_tank(), wall_now(), NOON + timedelta(hours=1))
    (line,) = [line for line in call("status", "four_tank").out.splitlines() if "unusable" in line]
    tags = len(four_tank().tags)
    assert line.startswith(f"unusable tags: {tags} of {tags}. ")
    assert f"{tags - 3} more" in line
    assert "last reading is 1 h old;" in line
    assert len(call("status", "four_tank", "--json").record["unusable_tags"]) == tags


def test_the_status_names_the_faults_that_stand(call: CommandLine, lived: Historian) -> None:
    """The newest of them by their words, how many there are, and none that is over."""
    for count in range(5):
        lived.event(four_tank(), "fault", f"slab {count}", f"slab {count}: gone", NOON, "planner")
    lived.event(four_tank(), "fault", "slab 4", "over: slab 4: gone", NOON, "planner")
    (line,) = [line for line in call("status", "four_tank").out.splitlines() if "faults" in line]
    assert line.startswith("faults: since 2026-01-05 12:00 UTC slab 1: gone; ")
    assert line.endswith("slab 3: gone; … and 1 more (--json tells all)")
    assert len(call("status", "four_tank", "--json").record["faults"]) == 4


def test_the_status_after_the_end_tells_of_no_link(call: CommandLine, lived: Historian) -> None:
    """Processes that are gone have ended, at once and with their last sign; silent ones still run.

    What the collector said last is no news then.
    """
    plant, before = four_tank(), wall_now() - timedelta(seconds=10)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    detail = lived.processes(plant)[0].detail
    lived.beat(plant, "collect", before, gone.pid, detail)
    lived.beat(plant, "plan", before - timedelta(minutes=5), os.getpid())
    answer = call("status", "four_tank", "--json").record
    states = {each["name"]: each["state"] for each in answer["processes"]}
    assert states == {"collect": "ended", "plan": "silent", "write": "alive"}
    assert answer["link"] is None
    told = call("status", "four_tank").out
    assert "link: unknown" in told
    assert f"process collect: ENDED; last beat {before:%Y-%m-%d %H:%M:%S} UTC" in told
    assert f"process plan: SILENT (pid {os.getpid()})" in told


def test_a_stage_is_decided_by_a_named_person_with_a_reason(
    call: CommandLine, lived: Historian
) -> None:
    """No name, no MV, no such tag: refused. Named and reasoned: done, and shown."""
    mv = "pump_1.setpoint"
    is_clear(call("stage", "four_tank", mv, "shadow"), 1, "--by", "--reason")
    is_clear(call("stage", "four_tank", "pump_9.setpoint"), 1, "pump_9.setpoint", "Did you mean")
    is_clear(call("stage", "four_tank", "tank_1.level"), 2, "tank_1.level", "not an MV")
    answer = call("stage", "four_tank", mv, "shadow", "--by", "Ada", "--reason", "new pump")
    assert answer.out == f"{mv}: shadow\n"
    assert lived.stage(four_tank())[mv] is Stage.SHADOW


def test_an_mv_that_we_hold_is_asked_back_by_name(call: CommandLine, lived: Historian) -> None:
    """Stored for the writing process; twice, or of what we do not hold, it is refused."""
    mv, now = "pump_1.setpoint", NOON
    words = ["give-back", "four_tank", mv, "--by", "Bo", "--reason", "it rattles"]
    answer = call(*words)
    is_clear(answer, 1, f"does not hold {mv}")
    in_json_too(call, words, answer)
    is_clear(call("give-back", "four_tank", "tank_1.level", *words[3:]), 2, "not an MV")
    lived.decide(Decision("p-1", True, "Ada", "", now))
    permit = Clearance("c1", "p-1", {mv: 9.35}, now, now + timedelta(seconds=60))
    lived.store_clearance(permit)
    assert lived.use_clearance("c1", now)
    verified = WriteStatus.VERIFIED
    lived.store_outcome(WriteOutcome("p-1", "c1", verified, {mv: 9.35}, {mv: 9.35}, "", now))
    done = call(*words, "--json").record
    assert done == {"mv": mv, "done": True, "reason": "", "stage": "advisory"}
    (asked,) = lived.hand_backs(four_tank())
    assert (asked.by, asked.reason) == ("Bo", "it rattles")
    is_clear(call(*words), 1, "Bo has asked")


# -- stop ----------------------------------------------------------------------------------------


def test_a_release_does_not_end_the_plants_own_stop(call: CommandLine, lived: Historian) -> None:
    """Refused without a latch, told beside the release of one: it is cleared at the plant."""
    lived.beat(four_tank(), "write", wall_now(), 103, '{"plant_stop": true}')
    words = ["release", "four_tank", "--by", "Bo", "--reason", "leak fixed"]
    answer = call(*words)
    is_clear(answer, 1, "was not set", "Clear it at the plant")
    assert call(*words, "--json").record["stopped_at_plant"] is True
    call("stop", "four_tank", "--by", "Ada")
    both = call(*words)
    assert (both.code, both.out.startswith("Released. The plant's own stop is set")) == (0, True)


def test_stop_and_release_are_in_the_audit(call: CommandLine, lived: Historian) -> None:
    """Who and why, both times; a stop needs neither name nor reason."""
    latch = Path(call("stop", "four_tank", "--by", "Ada", "--json").record["latch"])
    assert latch.exists()
    assert call("status", "four_tank", "--json").record["stopped"] is True
    release = call("release", "four_tank", "--by", "Bo", "--reason", "leak fixed", "--json")
    assert release.record == {"stopped": False, "was_set": True}
    assert not latch.exists()
    told = [(event.by, event.message) for event in lived.events(four_tank(), kind="stop")]
    assert told == [("Bo", "released: leak fixed"), ("Ada", "set: ")]


@pytest.mark.parametrize(
    "given", ["\udcff", "\x1b[2J", "x" * 5000, "", "closed loop"], ids=range(5)
)
def test_a_stop_is_set_whatever_its_texts_are_like(
    call: CommandLine, lived: Historian, given: str
) -> None:
    """Nobody in a hurry is turned away for a sign; the audit gets what can be shown of it."""
    answer = call("stop", "four_tank", "--by", given, "--reason", given)
    assert (answer.code, "Traceback" in answer.err) == (0, False)
    assert call("status", "four_tank", "--json").record["stopped"] is True
    (event,) = lived.events(four_tank(), kind="stop")
    assert event.by.isprintable()
    assert event.message.isprintable()
    assert 0 < len(event.by) <= 200
    assert len(event.message) <= 205
    assert event.by != "closed loop"


def test_a_release_before_the_first_beat_says_what_time_it_is_dated_by(
    call: CommandLine, state: Path
) -> None:
    """The audit's rows are of plant time; one of wall time must say so."""
    plant = four_tank()
    call("db", "upgrade", "four_tank")
    call("stop", "four_tank")
    call("release", "four_tank", "--by", "Bo", "--reason", "leak fixed")
    with Historian.open(f"sqlite:///{state / 'four_tank.db'}") as historian:
        newest = historian.events(plant, kind="stop")[0]
    assert newest.message == f"released: leak fixed {WALL_TIME}"


def test_a_stop_before_the_first_beat_says_what_time_it_is_dated_by(
    call: CommandLine, state: Path
) -> None:
    """Like a release: nobody may take the wall's time for the plant's."""
    call("db", "upgrade", "four_tank")
    call("stop", "four_tank", "--by", "Ada", "--reason", "leak")
    with Historian.open(f"sqlite:///{state / 'four_tank.db'}") as historian:
        (event,) = historian.events(four_tank(), kind="stop")
    assert event.message == f"set: leak {WALL_TIME}"


def test_a_stop_that_cannot_look_for_a_writer_does_not_say_that_there_is_none(
    call: CommandLine, state: Path
) -> None:
    """A database of an older version may belong to a writing process that obeys this very latch."""
    state.mkdir()
    upgrade(state / "four_tank.db", "0001")
    answer = call("stop", "four_tank")
    assert answer.code == 0
    assert "no writing process" not in answer.err
    assert "CHECK: whether a writing process obeys this latch could not be read" in answer.err
    assert call("stop", "four_tank", "--json").record["has_writer"] is None


def test_a_stop_where_nobody_writes_says_so(call: CommandLine, lived: Historian) -> None:
    """In the wrong state folder a stop must not look as if it had stopped the plant."""
    lived.beat(four_tank(), "write", wall_now() - timedelta(hours=1), 1)
    lonely = call("stop", "four_tank")
    assert "CHECK: no writing process" in lonely.err
    latch = lonely.out.split("Latch: ")[1].strip()
    assert Path(latch).is_absolute()
    lived.beat(four_tank(), "write", wall_now(), 1, '{"latch": "/elsewhere/four_tank.stop"}')
    other = call("stop", "four_tank")
    assert "CHECK" in other.err
    assert "/elsewhere/four_tank.stop" in other.err
    lived.beat(four_tank(), "write", wall_now(), 1, json.dumps({"latch": StopLatch(latch).name}))
    assert call("stop", "four_tank").err == ""


def test_a_release_of_nothing_leaves_no_trace(call: CommandLine, lived: Historian) -> None:
    """The audit tells of releases that released something."""
    answer = call("release", "four_tank", "--by", "Bo", "--reason", "leak fixed")
    assert "was not set" in answer.out
    assert not lived.events(four_tank(), kind="stop")


@pytest.mark.parametrize("trouble", ["no database", "garbage", "faulty plant file"])
def test_a_stop_works_whatever_else_is_broken(call: CommandLine, state: Path, trouble: str) -> None:
    """The latch is set, exit code 0, and stderr tells that the audit did not hear of it."""
    name, latch = "four_tank", state / "four_tank.stop"
    if trouble == "garbage":
        state.mkdir()
        (state / "four_tank.db").write_text("no database" * 999)
    if trouble == "faulty plant file":
        name, latch = MANY_FAULTS, state / "many_faults.stop"
    answer = call("stop", name, "--json")
    assert (answer.code, answer.record["stopped"]) == (0, True)
    assert latch.exists()
    assert answer.record["trouble"] in answer.err
    assert "audit could not be told" in answer.err
    assert "Traceback" not in answer.err


def test_a_stop_that_could_not_be_set_says_so_loudly(call: CommandLine, state: Path) -> None:
    """Where the latch cannot be written, the person must know at once."""
    state.mkdir()
    (state / "four_tank.stop").symlink_to(state / "nowhere" / "latch")
    is_clear(call("stop", "four_tank"), 1, "NOT STOPPED", "four_tank.stop")


# -- the real command ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code"),
    [(["check", "four_tank"], 0), (["check", MANY_FAULTS], 1), (["check"], 2)],
    ids=["done", "refused", "called wrongly"],
)
def test_the_installed_command_ends_with_the_same_codes(
    tmp_path: Path, words: list[str], code: int
) -> None:
    """`plantwright` beside this Python is the command that all the tests above call."""
    installed = Path(sys.executable).parent / "plantwright"
    for command in ([str(installed)], list(COMMAND)):
        ended = subprocess.run(
            [*command, *words], env=environment(tmp_path), cwd=ROOT, capture_output=True, text=True
        )
        assert ended.returncode == code
        assert "Traceback" not in ended.stderr
