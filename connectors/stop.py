"""The stop latch: while its file exists, nothing is written to the plant, whatever it says.

It needs no database, planner, model or network, and works when they hang. Whoever writes to the
plant asks it before every single write.
"""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path

from twin.clock import wall_now


class StopLatch:
    """The latch whose file is `path`. Several processes may share it."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @property
    def name(self) -> str:
        """Its absolute path, the same for every process on this machine."""
        return str(self.path.parent.resolve() / self.path.name)

    def is_stopped(self) -> bool:
        """Whether nothing may be written; also where that cannot be found out."""
        try:
            os.stat(self.path)
        except FileNotFoundError:
            # Only a folder that can be read proves that the file is not in it.
            return not os.access(self.path.parent, os.R_OK | os.X_OK)
        except OSError:
            return True
        return True

    def set(self, by: str, reason: str, at: datetime | None = None) -> None:
        """Stop all writing. A latch that is set keeps its first note."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        moment = at if at is not None else wall_now()
        note = json.dumps({"by": by, "reason": reason, "at": moment.isoformat()})
        try:
            with self.path.open("x", encoding="utf-8") as file:
                file.write(note + "\n")
                file.flush()
                os.fsync(file.fileno())
        except FileExistsError:
            return

    def release(self) -> bool:
        """Let writing go on; whether the latch was set. The caller notes who released and why."""
        try:
            self.path.unlink()
        except FileNotFoundError:
            return False
        return True
