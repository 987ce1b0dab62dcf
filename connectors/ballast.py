"""A file to be thrown overboard where a full disk leaves no room to empty the spool."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

#: Enough for SQLite to empty the spool on a full disk: its log may grow to 4 MB before it is kept.
BALLAST_BYTES = 8_000_000


class Ballast:
    """The file at `path`, so many bytes of the disk."""

    def __init__(self, path: Path, size_bytes: int = BALLAST_BYTES) -> None:
        self._path = path
        self._size_bytes = size_bytes

    @property
    def is_aboard(self) -> bool:
        """Whether its room is taken, as far as the disk can say."""
        try:
            return self._path.exists()
        except OSError:
            return False

    def drop(self) -> None:
        """Give its room back; a disk that is read-only keeps it."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def load(self) -> None:
        """Take its room again; raises OSError while the disk has none."""
        if self.is_aboard:
            return
        made = self._path.with_suffix(".new")
        try:
            descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(os.urandom(self._size_bytes))  # no file system packs that
                file.flush()
                os.fsync(file.fileno())
            made.rename(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                made.unlink(missing_ok=True)
            raise
