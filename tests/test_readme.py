"""The README is true: its commands run, its example plant has no faults, its links exist."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import COMMAND, ROOT, environment, start
from one_tank import free_port

from twin.errors import HistorianError
from twin.historian import Historian

_README = (ROOT / "README.md").read_text(encoding="utf-8")
#: Shown in the table of commands, but they do not end by themselves: `demo` and `run` are started
#: and ended below, the others by tests/test_demo.py, tests/test_cli.py and tests/test_browser.py.
_ENDLESS = {"demo", "emulate", "collect", "write", "run", "dashboard"}


def _blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", _README, flags=re.MULTILINE | re.DOTALL)


def test_every_command_of_the_readme_runs(tmp_path: Path) -> None:
    """The console block, line by line, on a fresh machine's empty folder."""
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    lines = [line[2:] for block in _blocks("console") for line in block.splitlines() if line]
    assert len(lines) >= 8
    for line in lines:
        words = shlex.split(line)
        assert words[0] == ".venv/bin/plantwright"
        done = subprocess.run(
            [*COMMAND, *words[1:]],
            cwd=tmp_path,
            env=environment(tmp_path / "state"),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert (tmp_path / "study.png").stat().st_size > 10_000


def _answers(port: int) -> bool:
    """Whether a web page is served at this port."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as page:
            return page.status == 200
    except OSError:
        return False


def _until(claim: Callable[[], bool], process: subprocess.Popen[str], within_s: float) -> None:
    give_up_s = time.monotonic() + within_s
    while not claim():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up_s, "waited in vain"
        time.sleep(0.1)


def test_make_demo_shows_readings_and_ends_when_told(tmp_path: Path) -> None:
    """What `make demo` starts: a page, readings in the folder that the README names, Ctrl-C."""
    made = subprocess.run(
        ["make", "-n", "--no-print-directory", "demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    program, *words = shlex.split(made.stdout.splitlines()[-1])
    assert program.endswith("/plantwright")
    port = free_port()
    addresses = {
        "PLANTWRIGHT_DASHBOARD_PORT": str(port),
        "PLANTWRIGHT_ENDPOINT": f"opc.tcp://127.0.0.1:{free_port()}/plantwright/four_tank",
    }
    demo = start(tmp_path, *words, **addresses)
    database = f"sqlite:///{tmp_path / 'demo' / 'four_tank.db'}"

    def has_readings() -> bool:
        try:
            with Historian.open(database) as historian:
                return historian.newest("four_tank") is not None
        except HistorianError:
            return False

    try:
        _until(lambda: has_readings() and _answers(port), demo, within_s=90)
        assert "PLANTWRIGHT_STATE_DIR" in _README
        demo.send_signal(signal.SIGINT)
        out, err = demo.communicate(timeout=60)
    finally:
        demo.kill()
    assert (demo.returncode, out) == (0, "Ended.\n"), err
    assert "Traceback" not in err


def test_run_collects_and_shows_the_example_plant(tmp_path: Path) -> None:
    """`run` of a plant without physics plans nothing, says so, and serves the page."""
    (block,) = _blocks("yaml")
    (tmp_path / "plant.yaml").write_text(block, encoding="utf-8")
    port = free_port()
    addresses = {
        "PLANTWRIGHT_DASHBOARD_PORT": str(port),
        "PLANTWRIGHT_ENDPOINT": f"opc.tcp://127.0.0.1:{free_port()}/x",
    }
    run = start(tmp_path, "run", str(tmp_path / "plant.yaml"), "--json", **addresses)
    try:
        _until(lambda: _answers(port), run, within_s=60)
        run.send_signal(signal.SIGTERM)
        out, err = run.communicate(timeout=60)
    finally:
        run.kill()
    assert json.loads(out) == {"plant": "my_plant", "ended": True}
    assert "not planned on" in err
    assert {path.stem for path in (tmp_path / "logs").glob("*.log")} == {"collect", "dashboard"}


def test_the_example_plant_has_no_faults(tmp_path: Path) -> None:
    """The ten lines under "Bring your own plant" pass `plantwright check`."""
    (block,) = _blocks("yaml")
    assert len(block.splitlines()) <= 10
    (tmp_path / "plant.yaml").write_text(block, encoding="utf-8")
    done = subprocess.run(
        [*COMMAND, "check", "plant.yaml"],
        cwd=tmp_path,
        env=environment(tmp_path / "state"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_table_names_every_command_and_no_other() -> None:
    """What `--help` lists is what the README lists."""
    helped = subprocess.run(
        [*COMMAND, "--help"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    listed = set(re.findall(r"^  ([a-z-]+) {2,}", helped.split("Commands:")[1], re.MULTILINE))
    table = "\n".join(line for line in _README.splitlines() if line.startswith("| `"))
    shown = set(re.findall(r"`(?:plantwright )?([a-z-]+)(?: [^`]*)?`", table))
    assert shown == listed
    assert listed >= _ENDLESS


@pytest.mark.parametrize("target", ["demo", "test", "check", "bench"])
def test_make_knows_the_promised_targets(target: str) -> None:
    """`make demo` and its kin exist; what they start is tested elsewhere."""
    subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, timeout=60, check=True)


def test_every_link_of_the_readme_leads_somewhere() -> None:
    """Relative links and pictures exist in the repository."""
    for link in re.findall(r"\]\(([^)#]+)\)", _README):
        if "://" not in link:
            assert (ROOT / link).exists(), link
