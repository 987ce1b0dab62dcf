"""Where readings wait for the database and how fast a plant's past is asked for, as settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

#: 3 days of 1,000 tags at 1 s, at the 8 bytes that a reading takes on the disk.
QUOTA_BYTES = 2_000_000_000

#: Readings per second asked of a plant's history at most: a shipped plant's week takes a minute,
#: and live readings keep half of one core's database.
READINGS_PER_S = 50_000.0

#: A history that gave no answer is asked again in so long: a device behind a gateway is seldom back
#: sooner, and it costs one request per gap that waits.
ASK_AGAIN_S = 60.0


@dataclass(frozen=True)
class Buffering:
    """How a collector buffers. `spool` is the file; None: beside a SQLite database's own.

    A database on a server has no folder: its spool is named.
    """

    spool: Path | None = None
    quota_bytes: int = QUOTA_BYTES
    backfill_readings_per_s: float = READINGS_PER_S
    backfill_again_s: float = ASK_AGAIN_S
