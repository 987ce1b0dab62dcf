"""An edge box stays small: collecting needs none of the heavy packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPT = """
import sys
HEAVY = {
    "torch", "streamlit", "casadi", "pyomo", "simpy", "numba", "matplotlib", "joblib", "pandas",
    "aiomqtt", "paho"
}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in HEAVY:
            raise ModuleNotFoundError(f"{name} is not installed here")
sys.meta_path.insert(0, Absent())
sys.argv = ["plantwright", "collect", "four_tank", "--wait-s", "0.1"]
from dashboard.cli import main
main()
"""


def test_collect_runs_without_the_heavy_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With torch, Streamlit, the solvers and the like absent, `collect` gets to the plant."""
    monkeypatch.setenv("PLANTWRIGHT_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("PLANTWRIGHT_ENDPOINT", "opc.tcp://127.0.0.1:9/nobody")
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "does not answer" in done.stderr
    assert "Traceback" not in done.stderr
