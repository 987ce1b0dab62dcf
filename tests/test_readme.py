"""The README is true: its commands run, its example plant has no faults, its links exist."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from command_line import COMMAND, ROOT, environment

_README = (ROOT / "README.md").read_text(encoding="utf-8")
#: Shown in the table of commands, and run by other tests because they do not end by themselves.
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
    listed = set(re.findall(r"^  ([a-z]+) {2,}", helped.split("Commands:")[1], re.MULTILINE))
    table = "\n".join(line for line in _README.splitlines() if line.startswith("| `"))
    shown = set(re.findall(r"`(?:plantwright )?([a-z]+)(?: [^`]*)?`", table))
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
