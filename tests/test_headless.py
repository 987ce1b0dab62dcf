"""The headless demo can be ended at any moment and leaves nothing running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from command_line import ROOT, environment

#: On training seeds: nothing may look at the held-back ones beside the comparison itself.
_ON_TRAINING_SEEDS = """
import sys
from dashboard.cli import main
if __name__ == "__main__":
    import dashboard.comparison
    dashboard.comparison.TEST_SEEDS = (1004, 1005)
    sys.argv = ["plantwright", "demo", sys.argv[1], "--headless", "--seeds", "2"]
    main()
"""
#: Ctrl-C in the middle of starting the processes that compare.
_INTERRUPTED_AT_START = """
import os, signal
from dashboard.comparison import compare
from twin.plant import read_plant
class Seeds(tuple):
    def __iter__(self):
        os.kill(os.getpid(), signal.SIGINT)
        return super().__iter__()
if __name__ == "__main__":
    try:
        compare(read_plant("four_tank"), Seeds((1004,)), hours=2.0, jobs=2)
    except KeyboardInterrupt:
        print("interrupted")
"""
_PROCESSES = {"emulate", "collect", "train", "propose", "write"}
_SECONDS_TO_END = 6.0  # two on an idle machine; the supervisor would use force after eight


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _all_running(demo: subprocess.Popen[str]) -> list[psutil.Process]:
    """Every process of the demo, once each of ours and two that compare are there."""
    give_up_s = time.monotonic() + 90
    while True:
        assert demo.poll() is None, demo.communicate()
        assert time.monotonic() < give_up_s, "the demo did not start all its processes"
        found = psutil.Process(demo.pid).children(recursive=True)
        lines = [_words(process) for process in found]
        comparing = sum("--process-name" in words for words in lines)
        if comparing == 2 and set().union(*lines) >= _PROCESSES:
            return found
        time.sleep(0.1)


@pytest.fixture
def demo(tmp_path: Path, request: pytest.FixtureRequest) -> subprocess.Popen[str]:
    """A headless demo in a terminal of its own, so that Ctrl-C reaches all its processes."""
    script = tmp_path / "demo.py"
    script.write_text(_ON_TRAINING_SEEDS)
    return subprocess.Popen(
        [sys.executable, str(script), request.param],
        cwd=ROOT,
        env=environment(tmp_path / "state", TMPDIR=str(tmp_path), PYTHONPATH=str(ROOT)),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@pytest.mark.parametrize(
    ("demo", "told"),
    [("four_tank", "Ctrl-C"), ("four_tank", "SIGTERM"), ("furnace", "SIGTERM")],
    indirect=["demo"],
)
def test_an_interrupted_demo_ends_at_once_with_one_line(
    demo: subprocess.Popen[str], tmp_path: Path, told: str
) -> None:
    """Exit code 130, no figures, one line that says why; no process and no folder is left."""
    processes = _all_running(demo)
    began_s = time.monotonic()
    if told == "Ctrl-C":
        os.killpg(demo.pid, signal.SIGINT)
    else:
        demo.terminate()
    out, err = demo.communicate(timeout=30)
    assert time.monotonic() - began_s < _SECONDS_TO_END
    assert (demo.returncode, out) == (130, ""), err
    assert err.splitlines()[-1] == "Interrupted before it was done."
    assert "Traceback" not in err
    assert not psutil.wait_procs(processes, timeout=5)[1]
    assert not list(tmp_path.glob("plantwright-*"))


def test_a_ctrl_c_while_processes_start_is_not_lost(tmp_path: Path) -> None:
    """They ignore it, this process must not: a person who pressed it at once waits for nothing."""
    script = tmp_path / "compare.py"
    script.write_text(_INTERRUPTED_AT_START)
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=ROOT,
        env=environment(tmp_path / "state", PYTHONPATH=str(ROOT)),
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("interrupted\n", "")


@pytest.mark.parametrize("demo", ["furnace"], indirect=True)
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties children to their parent")
def test_a_killed_demo_leaves_no_process(demo: subprocess.Popen[str]) -> None:
    """kill -9: nothing goes on comparing, emulating or writing unseen."""
    processes = _all_running(demo)
    demo.kill()
    demo.wait()
    assert not psutil.wait_procs(processes, timeout=60)[1]
