"""A tool of the tests: our command line, called as a person calls it, and what it answered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dashboard import cli

#: The start of a real command line; one thread, because processes run side by side.
COMMAND = (sys.executable, "-m", "dashboard.cli")
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Answer:
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def record(self) -> dict[str, Any]:
        """The one JSON object on stdout; fails where there is anything else."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


class CommandLine:
    """`plantwright`'s own `main` in this process: a hundred calls in the time of ten starts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *words: str) -> Answer:
        self._capsys.readouterr()
        self._monkeypatch.setattr(sys, "argv", ["plantwright", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = self._capsys.readouterr()
        code = ended.value.code
        return Answer(code if isinstance(code, int) else int(code is not None), out, err)


def environment(folder: Path, **more: str) -> dict[str, str]:
    """The environment of a real process that keeps everything it stores in `folder`."""
    ours = {name: value for name, value in os.environ.items() if "PLANTWRIGHT_" not in name}
    return {**ours, "PLANTWRIGHT_STATE_DIR": str(folder), "OMP_NUM_THREADS": "1", **more}


def start(folder: Path, *words: str, **more: str) -> subprocess.Popen[str]:
    """A real process of ours that runs until it is told to end."""
    return subprocess.Popen(
        [*COMMAND, *words],
        cwd=ROOT,
        env=environment(folder, **more),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def clear_environment(monkeypatch: pytest.MonkeyPatch, settings: Mapping[str, str]) -> None:
    """Only these settings of ours, whatever the machine has set."""
    for name in os.environ:
        if name.startswith("PLANTWRIGHT_") and name not in (
            "PLANTWRIGHT_BENCH_DATA",
            "PLANTWRIGHT_REQUIRE_ALL_TESTS",
        ):
            monkeypatch.delenv(name)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
