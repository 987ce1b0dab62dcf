"""The supervisor keeps processes alive and leaves none behind."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from dashboard.supervisor import Child, Supervisor

_FOREVER = (sys.executable, "-c", "import signal; signal.pause()")
_DIES = (sys.executable, "-c", "print('no plant'); raise SystemExit(3)")


def _until(claim: Callable[[], bool], supervisor: Supervisor, deadline_s: float = 20.0) -> None:
    end = time.monotonic() + deadline_s
    while not claim():
        assert time.monotonic() < end, "the condition did not come true in time"
        supervisor.watch()
        time.sleep(0.02)


def test_a_killed_process_is_started_again(tmp_path: Path) -> None:
    """kill -9 on a child: another one takes its place, and the event says what happened."""
    events: list[str] = []
    supervisor = Supervisor([Child("sleeper", _FOREVER)], tmp_path, on_event=events.append)
    supervisor.watch()
    first = supervisor.pid("sleeper")
    assert first is not None
    os.kill(first, signal.SIGKILL)
    _until(lambda: supervisor.pid("sleeper") not in (None, first), supervisor)
    supervisor.stop()
    assert events
    assert "SIGKILL" in events[0]


def test_a_process_that_keeps_dying_is_started_ever_more_slowly(tmp_path: Path) -> None:
    """The pauses double; what the process printed is in its log."""
    events: list[str] = []
    supervisor = Supervisor([Child("broken", _DIES)], tmp_path, on_event=events.append)
    _until(lambda: len(events) >= 3, supervisor)
    supervisor.stop()
    pauses = [float(text.split("again in ")[1].split(" s")[0]) for text in events[:3]]
    assert pauses == [0.5, 1.0, 2.0]
    assert "no plant" in supervisor.log("broken").read_text()


def test_stop_ends_every_process_and_starts_none_again(tmp_path: Path) -> None:
    """After stop no child is alive, and watching again starts nothing."""
    supervisor = Supervisor([Child("a", _FOREVER), Child("b", _FOREVER)], tmp_path)
    supervisor.watch()
    pids = [supervisor.pid("a"), supervisor.pid("b")]
    supervisor.stop()
    supervisor.watch()
    assert supervisor.pid("a") is None
    assert not any(pid is not None and psutil.pid_exists(pid) for pid in pids)


def test_a_process_that_will_not_end_is_ended_by_force_and_told(tmp_path: Path) -> None:
    """Deaf to SIGTERM: killed once the patience is over, with its log named; the others are not."""
    deaf = (
        sys.executable,
        "-c",
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True)\n"
        "while True: signal.pause()",
    )
    events: list[str] = []
    children = [Child("deaf", deaf), Child("polite", _FOREVER)]
    supervisor = Supervisor(children, tmp_path, on_event=events.append, patience_s=0.5)
    _until(lambda: "deaf" in _log(supervisor, "deaf"), supervisor)
    pid = supervisor.pid("deaf")
    supervisor.stop()
    assert pid is not None
    assert not psutil.pid_exists(pid)
    assert len(events) == 1
    assert "deaf did not end within 0.5 s" in events[0]
    assert str(supervisor.log("deaf")) in events[0]


def _log(supervisor: Supervisor, name: str) -> str:
    path = supervisor.log(name)
    return path.read_text() if path.exists() else ""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties children to their parent")
def test_children_do_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    """kill -9 on the supervisor itself leaves no collector or writer running unseen."""
    script = (
        "import sys, time, pathlib\n"
        "from dashboard.supervisor import Child, Supervisor\n"
        f"s = Supervisor([Child('x', {list(_FOREVER)!r})], pathlib.Path({str(tmp_path)!r}))\n"
        "s.watch(); print(s.pid('x'), flush=True); time.sleep(60)\n"
    )
    parent = psutil.Popen([sys.executable, "-c", script], stdout=-1)
    child = int(parent.stdout.readline())
    assert psutil.pid_exists(child)
    parent.kill()
    parent.wait()
    psutil.wait_procs([psutil.Process(child)] if psutil.pid_exists(child) else [], timeout=20)
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie"
