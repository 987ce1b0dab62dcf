"""The guide page "Connect your plant" is true: its five commands lead to stored data."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_line import COMMAND, ROOT, environment, start
from one_tank import free_port

from dashboard.settings import Settings
from twin.errors import HistorianError
from twin.historian import Historian
from twin.plant import read_plant

_PAGE = (ROOT / "docs" / "guide" / "connect-your-plant.md").read_text(encoding="utf-8")
_EXAMPLE = (ROOT / "docs" / "examples" / "two_sources.yaml").read_text(encoding="utf-8")
_PORT_OF_THE_PAGE = "48400"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", _PAGE, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """The page's bash blocks: the stand-in for a plant, then the five commands."""
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    words = [shlex.split(line) for line in lines]
    assert all(each[0] == ".venv/bin/plantwright" for each in words)
    return [each[1:] for each in words]


@pytest.fixture
def port(tmp_path: Path) -> Iterator[str]:
    """The plant of the page, emulated at a free port, in a state folder of its own."""
    chosen = str(free_port())
    words = [*commands()[0], "--port", chosen]
    server = start(tmp_path / "plant", *words)
    try:
        yield chosen
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=60)


def until(claim: Callable[[], bool], within_s: float = 60) -> None:
    give_up_s = time.monotonic() + within_s
    while not claim():
        assert time.monotonic() < give_up_s, "waited in vain"
        time.sleep(0.2)


def test_five_commands_lead_from_an_endpoint_to_stored_data(port: str, tmp_path: Path) -> None:
    """browse (refused), certs accept, browse, check, collect, status: as the page has them."""
    state = tmp_path / "state"

    def run(words: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *words],
            cwd=tmp_path,
            env=environment(state, PYTHONPATH=str(ROOT)),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    _, ask, accept, ask_again, check, collect, status = (
        [word.replace(_PORT_OF_THE_PAGE, port) for word in words] for words in commands()
    )
    assert len({words[0] for words in (ask, accept, check, collect, status)}) == 5
    until(lambda: listens(port))
    refused = run(ask)
    assert refused.returncode == 1
    assert "nobody has accepted it yet" in refused.stderr
    found = re.search(r"certs accept ([0-9a-f]{64})", refused.stderr)
    assert found is not None
    done = run([found[1] if word == "FINGERPRINT" else word for word in accept])
    assert done.returncode == 0, done.stderr
    for words in (ask_again, check):
        done = run(words)
        assert done.returncode == 0, done.stderr
    collector = subprocess.Popen(
        [*COMMAND, *collect],
        cwd=tmp_path,
        env=environment(state, PYTHONPATH=str(ROOT)),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        until(lambda: has_readings(state, tmp_path / "plant.yaml"))
        stored = json.loads(run([*status, "--json"]).stdout)["readings_stored"]
        told = run(status)
    finally:
        collector.send_signal(signal.SIGINT)
        collector.communicate(timeout=60)
    assert stored > 0
    assert told.returncode == 0
    assert "live; last publish" in told.stdout
    assert "security: Basic256Sha256 SignAndEncrypt" in told.stdout
    assert "WARNING" not in told.stdout


def listens(port: str) -> bool:
    """Whether the server is up: until then a command would only find that nobody answers."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(port)), 1):
        return True
    return False


def has_readings(state: Path, plant_file: Path) -> bool:
    """Whether the collector has stored any; before its first start there is no database."""
    settings = Settings(state_dir=state, database=None)
    plant = read_plant(str(plant_file))
    try:
        with Historian.open(settings.database_url(plant)) as historian:
            return historian.newest(plant) is not None
    except HistorianError:
        return False


def test_the_pages_plant_files_are_parts_of_the_example() -> None:
    """Every YAML block stands, line by line, in the example that `check` is run on."""
    known = _EXAMPLE.splitlines()
    lines = [line for block in blocks("yaml") for line in block.splitlines()]
    assert lines
    assert [line for line in lines if line not in known] == []


def test_the_page_shows_the_port_of_the_stand_in() -> None:
    """Without options the emulator listens where the page says."""
    shipped = (ROOT / "twin/plants/four_tank/plant.yaml").read_text(encoding="utf-8")
    assert f"127.0.0.1:{_PORT_OF_THE_PAGE}/plantwright/four_tank" in shipped
