"""A file that appears under its name only when it is whole, and is on the disk by then."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_or_not(path: Path) -> Iterator[Path]:
    """A file beside `path` to write, which takes its place at the end; after a fault, neither.

    Raises OSError that names `path` where it cannot be written; an older file of that name stands.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(path)
    except OSError as fault:
        raise OSError(fault.errno, fault.strerror or str(fault), str(path)) from fault
    finally:
        part.unlink(missing_ok=True)
