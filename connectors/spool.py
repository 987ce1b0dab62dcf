"""A disk-backed queue in front of the historian: first in, first out, and nothing twice lost.

What `put` took is on the disk, also after a power cut, and stays there until whoever stored it
says so. A parcel that cannot be read or never fits is set aside, counted, and blocks no other.
What parcels mean, and when they are stored, is not known here.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from connectors.ballast import BALLAST_BYTES, Ballast
from connectors.buffering import QUOTA_BYTES
from connectors.parcels import Parcel, by_columns, packed, rows_of, unpacked
from connectors.spool_file import (
    DAMAGED,
    SCHEMA,
    SET_ASIDE,
    SETTINGS,
    Columns,
    Unread,
    columns_of,
    identity_of,
    is_legible,
    is_ruin,
    is_sound,
    lost_of,
    opened,
    put_away,
    replaced,
    ruin,
    told,
)
from twin.errors import SpoolUnavailable

#: From this share of the quota on a person is told; below the second one it is over.
HIGH_WATER, HIGH_WATER_OVER = 0.8, 0.6

_ROW_BYTES = 60  # what SQLite needs beside each blob
_RESERVE = 1.05  # of the quota, for gap rows and audit lines of the time when it is full
_CACHE_ROWS = 40_000  # parcels just put are mostly stored at once: they need not be read again
_PAGES_KEPT = 4_096  # 16 MB: an emptied spool gives back what it has grown beyond that
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


_T = TypeVar("_T")
_Size = tuple[int, int, int]  # a parcel's number, how many readings, how many bytes


@dataclass(frozen=True, slots=True)
class Quarantined:
    """What was set aside: why, how many readings, and the parcel where it can still be read."""

    reason: str
    rows: int
    parcel: Parcel | None


class Spool:
    """One process's queue at `path`; open it with `with`. Its methods may be called by any thread.

    `identity` is the file's own name for ever: whoever has the file open is its only user.

    Raises on opening:
        SpoolTaken: another process has it open.
        SpoolUnavailable: it cannot be opened or made.
    """

    def __init__(
        self,
        path: Path,
        *,
        quota_bytes: int = QUOTA_BYTES,
        ballast_bytes: int = BALLAST_BYTES,
    ) -> None:
        self.path = path
        self.quota_bytes = quota_bytes
        self.rows = 0
        self.quarantined_rows = 0
        self.identity = ""
        self.newest_number = 0  # of what an earlier process left
        self.damaged_file: Path | None = None
        self._ballast = Ballast(path.with_name(f"{path.name}.ballast"), ballast_bytes)
        self._bytes = 0
        self._parcels = 0
        self._taken: list[_Size] = []  # handed out by `first`, the oldest first
        self._done = 0  # up to this number everything is stored, though it may still be in the file
        self._cache: dict[int, Parcel] = {}
        self._cached_rows = 0
        self._unread = Unread()  # by what was damaged, and is to be marked with what comes
        self._lock = threading.Lock()  # for the file
        self._counting = threading.Lock()  # for the numbers above; never held for long
        self._database: sqlite3.Connection

    def __enter__(self) -> Self:
        with told(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._open()
            except sqlite3.DatabaseError as error:
                self._open_anew(error)
        with contextlib.suppress(SpoolUnavailable):
            self.load_ballast()
        return self

    def __exit__(self, *_reason: object) -> None:
        with self._lock:
            if self.is_empty:
                with contextlib.suppress(sqlite3.Error):
                    self._delete_done()
            self._database.close()

    @property
    def bytes(self) -> int:
        """How much of the quota is taken."""
        return self._bytes

    @property
    def share(self) -> float:
        """How much of the quota is taken, 0 to 1 (a little more where gap rows came on top)."""
        return self._bytes / self.quota_bytes

    @property
    def is_empty(self) -> bool:
        """Whether everything that was put is stored."""
        return not self._parcels

    @property
    def has_room(self) -> bool:
        """Whether readings may still be put: below the quota, and the ballast is aboard."""
        return self._bytes < self.quota_bytes and self._ballast.is_aboard

    @property
    def has_reserve(self) -> bool:
        """Whether gap rows and audit lines may still be put."""
        return self._bytes < _RESERVE * self.quota_bytes

    # -- in and out ------------------------------------------------------------------------------

    def put(self, parcels: Sequence[Parcel]) -> None:
        """Take parcels, in order, all or none; when this returns they are on the disk.

        Raises:
            SpoolUnavailable: the disk is full or cannot be written; nothing was taken.
        """
        packs = [(each, columns_of(each)) for each in map(by_columns, parcels)]

        def put_all() -> list[tuple[int, Parcel, Columns]]:
            unread = Unread(self._unread.heard)
            with self._writing():
                self._delete_done()
                put = [
                    (self._database.execute(_PUT, row).lastrowid or 0, parcel, row)
                    for parcel, row in unread.marked(packs)
                ]
            self._unread = unread
            return put

        with self._lock, told(self.path):
            put = self._mended(put_all)
        with self._counting:
            for number, parcel, row in put:
                count = rows_of(parcel)
                self._parcels += 1
                self.rows += count
                self._bytes += len(row[-1]) + _ROW_BYTES
                if self._cached_rows + count <= _CACHE_ROWS:
                    self._cache[number] = parcel
                    self._cached_rows += count

    def first(self, rows: int) -> list[tuple[int, Parcel]]:
        """The oldest parcels with their numbers, about so many readings of them, at least one.

        A damaged one is set aside, and in its place stands where readings are lost.
        """
        with self._lock, told(self.path):
            return self._mended(partial(self._first, rows))

    def stored(self, number: int) -> None:
        """Parcels of `first` up to this number are stored: `put` and `tidy` may delete them."""
        with self._counting:
            while self._taken and self._taken[0][0] <= number:
                known, rows, size = self._taken.pop(0)
                self._parcels -= 1
                self.rows -= rows
                self._bytes -= size
                if self._cache.pop(known, None) is not None:
                    self._cached_rows -= rows
                self._done = known

    def tidy(self) -> None:
        """Delete what is stored, and give back disk space of a time that is over."""
        with self._lock, told(self.path):
            self._mended(self._write_done)
            (free,) = self._database.execute("PRAGMA freelist_count").fetchone()
            if self.is_empty and free > _PAGES_KEPT:
                # As a script: `execute` steps only once, which gives back one page.
                self._database.executescript("PRAGMA incremental_vacuum")
                self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    # -- what never fits -------------------------------------------------------------------------

    def set_aside(self, parcel: Parcel, reason: str) -> None:
        """Keep a parcel that will never be stored, for a person to look at."""
        row = (rows_of(parcel), reason, packed(parcel))

        def put_aside() -> None:
            with self._writing():
                self._database.execute(SET_ASIDE, row)

        with self._lock, told(self.path):
            self._mended(put_aside)
        self.quarantined_rows += rows_of(parcel)

    def put_back(self) -> int:
        """Let what was set aside, and can be read, wait for the database again; how many readings.

        All or none; raises SpoolUnavailable.
        """
        with self._lock, told(self.path):
            self._mended(self._put_back)
        with self._counting:
            before = self.rows
            self._count()
            return self.rows - before

    def _put_back(self) -> None:
        with self._writing():
            self._delete_done()
            found = self._database.execute("SELECT id, blob FROM quarantine ORDER BY id").fetchall()
            for number, blob in found:
                parcel = _readable(blob)
                if parcel is not None:
                    self._database.execute(_PUT, columns_of(parcel))
                    self._database.execute("DELETE FROM quarantine WHERE id = ?", (number,))

    def drop_quarantined(self) -> int:
        """Delete for ever what was set aside; how many readings. Raises SpoolUnavailable."""

        def drop() -> None:
            with self._writing():
                self._database.execute("DELETE FROM quarantine")

        with self._lock, told(self.path):
            self._mended(drop)
        dropped, self.quarantined_rows = self.quarantined_rows, 0
        return dropped

    def quarantined(self, limit: int = 100) -> list[Quarantined]:
        """What was set aside, the newest first."""
        query = "SELECT reason, rows, blob FROM quarantine ORDER BY id DESC LIMIT ?"
        with self._lock, told(self.path):
            found = self._mended(lambda: self._database.execute(query, (limit,)).fetchall())
        return [Quarantined(reason, rows, _readable(blob)) for reason, rows, blob in found]

    # -- a full disk -----------------------------------------------------------------------------

    def drop_ballast(self) -> None:
        """Give a full disk some room to empty the spool; readings are not taken meanwhile."""
        self._ballast.drop()

    def load_ballast(self) -> None:
        """Take that room again; raises SpoolUnavailable while the disk has none."""
        with told(self.path):
            self._ballast.load()

    # -- the file --------------------------------------------------------------------------------

    def _open(self) -> None:
        # Nobody else may read it. Only if it is not there: closing it would end another's lock.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL, 0o600))
        self._database = opened(self.path)
        try:
            for setting in SETTINGS:
                self._database.execute(f"PRAGMA {setting}").fetchall()
            self._database.execute("BEGIN EXCLUSIVE")  # and from now on no other process can
            for statement in SCHEMA.split(";"):
                self._database.execute(statement)
            known = identity_of(self._database)
            self.identity = known or self.identity or uuid.uuid4().hex
            if not known:
                self._database.execute("INSERT INTO spool VALUES (?)", (self.identity,))
            self._database.execute("COMMIT")
            self._count()
        except UnicodeDecodeError as error:  # as in `identity_of`
            self._database.close()
            raise ruin() from error
        except BaseException:
            self._database.close()
            raise

    def _count(self) -> None:
        # Not sum(), which fails where a damaged number is too large.
        sums = f"total(rows), total(length(blob) + {_ROW_BYTES}), max(id)"
        found = self._database.execute(f"SELECT count(*), {sums} FROM parcel").fetchone()
        self._parcels, self.rows, self._bytes, self.newest_number = (
            int(each or 0) for each in found
        )
        (rows,) = self._database.execute("SELECT total(rows) FROM quarantine").fetchone()
        self.quarantined_rows = int(rows)

    def _open_anew(self, error: sqlite3.DatabaseError) -> None:
        """Begin again with what can be read of a ruined file, or else with an empty one."""
        if not is_ruin(error):
            raise error
        with contextlib.closing(opened(self.path)) as damaged:
            self._database = damaged
            self._salvage()
        self._unread = Unread()  # whoever begins marks what it does not know as silent

    def _mended(self, work: Callable[[], _T]) -> _T:
        """The work's answer, if need be over what can be saved of a file that is damaged inside."""
        try:
            return work()
        except sqlite3.DatabaseError as error:
            if not is_ruin(error):
                raise
            self._salvage()
            return work()

    def _salvage(self) -> None:
        """Go on in a new file with what can be read; the old one is kept."""
        left, waited, unread = self.newest_number or sys.maxsize, self._parcels, Unread()
        try:
            self.damaged_file, newest = replaced(
                self.path, self._database, self._done, left, unread
            )
        except sqlite3.DatabaseError as error:
            if not is_ruin(error):
                raise
            self._database.close()
            self.damaged_file, newest = put_away(self.path), 0
            self._done = 0
        with self._counting:
            self._taken, self._cache, self._cached_rows = [], {}, 0
            self._open()
            self.newest_number = newest
        if waited and not self._parcels:
            unread.begin()
        if unread.heard is not None:
            self._unread = unread

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    def _delete_done(self) -> None:
        self._database.execute("DELETE FROM parcel WHERE id <= ?", (self._done,))

    def _write_done(self) -> None:
        with self._writing():
            self._delete_done()

    def _first(self, rows: int) -> list[tuple[int, Parcel]]:
        taken: list[_Size] = []
        count = 0
        for number, size, *head in self._database.execute(_FIRST, (self._done,)).fetchall():
            before = taken[-1][0] if taken else self._done  # 0: nobody knows
            is_next = number == before + 1 or not before
            if not (is_next and isinstance(size, int) and is_sound(*head)):
                raise ruin()
            held = head[0]
            taken.append((number, held, size))
            count += held
            if count >= rows:
                break
        if self._parcels and not taken:
            raise ruin()
        self._taken = taken
        return [(number, self._parcel(number)) for number, _, _ in taken]

    def _parcel(self, number: int) -> Parcel:
        if number in self._cache:
            return self._cache[number]
        query = "SELECT rows, source, first, last, crc, blob FROM parcel WHERE id = ?"
        found = self._database.execute(query, (number,)).fetchone()
        if found is None or not isinstance(found[-1], bytes):
            raise ruin()
        rows, source, first_us, last_us, crc, blob = found
        if is_legible(blob, crc):
            return unpacked(blob)
        lost = lost_of(source, first_us, last_us)
        with self._writing():
            self._database.execute(SET_ASIDE, (rows, DAMAGED, blob))
            self._database.execute(_REPLACE, (*columns_of(lost)[-2:], number))
        self.quarantined_rows += rows
        return lost


_FIRST = (
    f"SELECT id, length(blob) + {_ROW_BYTES}, rows, source, first, last FROM parcel "
    "WHERE id > ? ORDER BY id LIMIT 500"
)
_PUT = "INSERT INTO parcel (rows, source, first, last, crc, blob) VALUES (?, ?, ?, ?, ?, ?)"
_REPLACE = "UPDATE parcel SET crc = ?, blob = ? WHERE id = ?"


def _readable(blob: bytes) -> Parcel | None:
    try:
        return unpacked(blob)
    except ValueError:
        return None
