"""The long-running processes end soon after they are told to, whatever they are doing."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from command_line import start
from lived_plant import fill, four_tank

from twin.historian import Historian

# Beside the large packages, Python's search for garbage on the way out took 1.1 s and more.
_LONGEST_WAY_OUT_CPU_S = 0.7


def _until(claim: Callable[[], bool], process: subprocess.Popen[str], within_s: float) -> None:
    give_up_s = time.monotonic() + within_s
    while not claim():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up_s, "waited in vain"
        time.sleep(0.05)


def _note(historian: Historian) -> str:
    """What the newest beat of any process tells."""
    told = historian.processes(four_tank())
    return told[0].detail if told else ""


def test_a_training_is_left_in_the_middle_when_told_to_end(tmp_path: Path) -> None:
    """SIGTERM while it trains: gone with exit code 0, no model in use, none half stored."""
    plant = four_tank()
    with Historian.create(f"sqlite:///{tmp_path / 'four_tank.db'}") as historian:
        fill(historian, plant, hours=25)
        trainer = start(tmp_path, "train", "four_tank", "--repeat", "--json")
        try:
            _until(lambda: _note(historian) == "training", trainer, within_s=60)
            trainer.terminate()
            out, err = trainer.communicate(timeout=30)
        finally:
            trainer.kill()
        assert (trainer.returncode, '"ended": true' in out) == (0, True), err
        assert "in the middle of a training" in err
        assert historian.active_model(plant) is None
    assert not list((tmp_path / "models").glob("**/*"))


def test_a_process_is_gone_soon_after_its_last_word(tmp_path: Path) -> None:
    """With all of planning loaded, hardly any work is left once `Ended.` is said."""
    with Historian.create(f"sqlite:///{tmp_path / 'four_tank.db'}") as historian:
        fill(historian, four_tank(), hours=0.1)
        planner = start(tmp_path, "propose", "four_tank", "--repeat")
        try:
            _until(lambda: "model" in _note(historian), planner, within_s=60)
            planner.send_signal(signal.SIGTERM)
            assert planner.stdout is not None
            assert planner.stdout.readline() == "Ended.\n"
            used = psutil.Process(planner.pid).cpu_times()
            _, status, usage = os.wait4(planner.pid, 0)
        finally:
            planner.kill()
    assert status == 0
    way_out_s = usage.ru_utime + usage.ru_stime - used.user - used.system
    assert way_out_s < _LONGEST_WAY_OUT_CPU_S
