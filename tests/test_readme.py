"""README and guide are true: commands run, examples have no faults, numbers and links are right."""

from __future__ import annotations

import functools
import json
import re
import shlex
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from command_line import COMMAND, ROOT, environment, start
from one_tank import free_port

from optimizer.slab_study_file import read_slab_study
from twin.errors import HistorianError
from twin.historian import Historian
from twin.plant import read_plant

_README = (ROOT / "README.md").read_text(encoding="utf-8")
_FURNACE = "docs/guide/furnace.md"
_PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
}
_GUIDE = {name: text for name, text in _PAGES.items() if name.startswith(("README", "docs/guide/"))}
#: Shown in the table of commands, but they do not end by themselves: `demo` and `run` are started
#: and ended below, the others by tests/test_demo.py, tests/test_cli.py and tests/test_browser.py.
_ENDLESS = {"demo", "emulate", "collect", "write", "run", "dashboard"}


def _blocks(kind: str, page: str = "README.md") -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", _PAGES[page], flags=re.MULTILINE | re.DOTALL)


def _lines(kind: str, page: str) -> list[str]:
    return [line for block in _blocks(kind, page) for line in block.splitlines() if line]


@pytest.mark.parametrize("page", sorted(_GUIDE))
def test_every_command_of_a_page_runs(page: str, tmp_path: Path) -> None:
    """The console blocks, line by line, on a fresh machine's empty folder."""
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    lines = [line.removeprefix("$ ") for line in _lines("console", page)]
    assert lines
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
        if "--plot" in words:
            assert (tmp_path / words[words.index("--plot") + 1]).stat().st_size > 10_000


@pytest.mark.parametrize("page", sorted(_GUIDE))
def test_what_takes_long_is_at_least_spelled_right(page: str) -> None:
    """The sh blocks: files are there, and commands and benchmarks know the options shown."""
    for line in _lines("sh", page):
        words = shlex.split(line, comments=True)
        if words[0] == ".venv/bin/plantwright":
            told = _help_of(*COMMAND, words[1])
        elif words[0] == ".venv/bin/python":
            told = _help_of(COMMAND[0], words[1])
        else:
            assert words[0] in ("make", "export"), line
            continue
        for option in (word for word in words if word.startswith("--")):
            assert option in told, line
        for path in (word for word in words[1:] if "/" in word):
            assert (ROOT / path).exists(), line


@functools.cache
def _help_of(*command: str) -> str:
    told = subprocess.run(
        [*command, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert told.returncode == 0, told.stderr
    return told.stdout


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
    assert words == ["demo", "furnace"]
    port = free_port()
    addresses = {
        "PLANTWRIGHT_DASHBOARD_PORT": str(port),
        "PLANTWRIGHT_ENDPOINT": f"opc.tcp://127.0.0.1:{free_port()}/plantwright/furnace",
    }
    demo = start(tmp_path, *words, **addresses)
    database = f"sqlite:///{tmp_path / 'demo' / 'furnace.db'}"

    def has_readings() -> bool:
        try:
            with Historian.open(database) as historian:
                return historian.newest("furnace") is not None
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


@pytest.mark.parametrize("page", sorted(_PAGES))
def test_every_link_of_a_page_leads_somewhere(page: str) -> None:
    """Relative links and pictures exist in the repository, and so do the headings they name."""
    for link in re.findall(r"\]\(([^)]+)\)", _PAGES[page]):
        if "://" in link:
            continue
        target, _, heading = link.partition("#")
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), link
        assert not heading or heading in _headings(path), link


def _headings(page: Path) -> set[str]:
    """A page's headings as a link names them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_furnaces_parameters_are_those_of_its_plant_file() -> None:
    """Every row of the guide's table, number by number; no number of the blocks is left out."""
    text = _PAGES[_FURNACE]
    rows = re.findall(r"^\| `((?:furnace|mill)\.\S+)` \| ([^|]+) \|", text, flags=re.MULTILINE)
    shown = {key: [float(number) for number in re.findall(r"[\d.]+", told)] for key, told in rows}
    written: dict[str, list[float]] = {}
    for block in read_plant("furnace").discrete:
        for key, number in _numbers(asdict(block), block.name):
            written.setdefault(key, []).append(number)
    assert shown.keys() == written.keys()
    for key, numbers in written.items():
        assert shown[key] == pytest.approx(numbers), key


def _numbers(value: Any, key: str) -> Iterator[tuple[str, float]]:
    """Every number of a block and its key; the parts of a list share one."""
    if isinstance(value, int | float):
        yield key, value
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield from _numbers(part, f"{key}.{name}" if isinstance(name, str) else key)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _numbers(part, key)


def test_the_guides_study_has_no_faults(tmp_path: Path) -> None:
    """The example of one's own question."""
    (block,) = _blocks("yaml", _FURNACE)
    (tmp_path / "study.yaml").write_text(block, encoding="utf-8")
    assert read_slab_study(tmp_path / "study.yaml", read_plant("furnace")).variants
