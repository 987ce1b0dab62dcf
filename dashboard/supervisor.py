"""Starts processes, restarts those that die, and ends them all together.

A process that keeps dying is started ever more slowly, up to once a minute; one that lived for
a while starts again at once. What the processes do is not known here.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 60.0
_LIVED_LONG_S = 30.0  # a process that lived this long has earned a quick restart
_END_PATIENCE_S = 8.0
_LOG_LIMIT_BYTES = 10_000_000
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True)
class Child:
    """One process to keep alive: its name, command line and added environment."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Watched:
    child: Child
    process: subprocess.Popen[bytes] | None = None
    started_at_s: float = 0.0
    start_again_at_s: float = 0.0
    pause_s: float = _FIRST_PAUSE_S
    restarts: int = 0


def end_with(parent_pid: int) -> None:
    """Have the kernel end this process when the one that started it is gone, however it went.

    On Linux; elsewhere nothing is done.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent_pid:  # it went before we could ask
            os._exit(1)


class Supervisor:
    """Keeps `children` alive. Call `watch` often, `stop` once; both are safe to repeat.

    `stop` grants the children `patience_s` to end by themselves.
    """

    def __init__(
        self,
        children: Sequence[Child],
        logs_dir: Path,
        *,
        on_event: Callable[[str], None] = lambda text: None,
        patience_s: float = _END_PATIENCE_S,
    ) -> None:
        self._watched = [_Watched(child) for child in children]
        self._logs_dir = logs_dir
        self._on_event = on_event
        self._patience_s = patience_s
        logs_dir.mkdir(parents=True, exist_ok=True)

    def watch(self) -> None:
        """Start what is due; notice what died and plan its next start."""
        now_s = time.monotonic()
        for watched in self._watched:
            process = watched.process
            if process is not None and process.poll() is not None:
                self._mourn(watched, process, now_s)
            if watched.process is None and now_s >= watched.start_again_at_s:
                self._start(watched, now_s)

    def pid(self, name: str) -> int | None:
        """The process id of a child, None while it is down."""
        for watched in self._watched:
            if watched.child.name == name and watched.process is not None:
                return watched.process.pid
        return None

    def log(self, name: str) -> Path:
        """Where a child's output goes."""
        return self._logs_dir / f"{name}.log"

    def stop(self) -> None:
        """Ask every child to end; end by force, and tell, those that do not within some seconds."""
        alive = [
            (watched.child.name, watched.process)
            for watched in self._watched
            if watched.process is not None and watched.process.poll() is None
        ]
        for _, process in alive:
            process.terminate()
        give_up_at_s = time.monotonic() + self._patience_s
        for name, process in alive:
            try:
                process.wait(max(0.1, give_up_at_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                self._on_event(
                    f"{name} did not end within {self._patience_s:g} s of being told to; it was "
                    f"ended by force. Its log: {self.log(name)}"
                )
        for watched in self._watched:
            watched.process = None
            watched.start_again_at_s = float("inf")

    def _start(self, watched: _Watched, now_s: float) -> None:
        path = self.log(watched.child.name)
        if path.exists() and path.stat().st_size > _LOG_LIMIT_BYTES:
            path.replace(path.with_suffix(".log.1"))
        with path.open("ab") as log:
            watched.process = subprocess.Popen(
                watched.child.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **watched.child.environment},
                preexec_fn=partial(end_with, os.getpid()),
            )
        watched.started_at_s = now_s

    def _mourn(self, watched: _Watched, process: subprocess.Popen[bytes], now_s: float) -> None:
        if now_s - watched.started_at_s > _LIVED_LONG_S:
            watched.pause_s = _FIRST_PAUSE_S
        watched.process = None
        watched.restarts += 1
        watched.start_again_at_s = now_s + watched.pause_s
        self._on_event(
            f"{watched.child.name} ended with {_how(process.returncode)}; it starts again in "
            f"{watched.pause_s:g} s. Its log: {self.log(watched.child.name)}"
        )
        watched.pause_s = min(2 * watched.pause_s, _LONGEST_PAUSE_S)


def _how(returncode: int) -> str:
    if returncode < 0:
        return f"signal {signal.Signals(-returncode).name}"
    return f"exit code {returncode}"
