"""A file that appears under its name only when it is whole, and is on the disk by then."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole_or_not(path: Path) -> Iterator[Path]:
    """A file beside `path` to write, which takes its place at the end; after a fault, neither.

    Each of several writers at once has a file of its own, and the last one's stays. What a process
    that was killed left of such a file goes.

    Raises OSError that names `path` where it cannot be written; an older file of that name stands.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    _clear_left(path)
    try:
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(path)
    except OSError as fault:
        raise OSError(fault.errno, fault.strerror or str(fault), str(path)) from fault
    finally:
        part.unlink(missing_ok=True)


def _clear_left(path: Path) -> None:
    """Remove the parts of this file whose processes are no more."""
    with suppress(OSError):  # of a folder that cannot be read, writing will tell
        for each in path.parent.iterdir():
            begins, ends = f".{path.name}.", ".part"
            if each.name.startswith(begins) and each.name.endswith(ends):
                number = each.name[len(begins) : -len(ends)].partition("-")[0]
                if number.isdecimal() and not _is_running(int(number)):
                    each.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    """Whether this machine has a process of that number, or may have."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
