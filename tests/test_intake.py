"""What waits in memory for the disk is bounded, and no mark of a hole is ever left out."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from one_tank import NOON

from connectors.ballast import Ballast
from connectors.intake import Intake
from connectors.parcels import Heard, Note, Parcel, Silence
from connectors.spool import Spool
from twin.records import Reading


def test_marks_of_holes_are_kept_where_audit_lines_are_not(tmp_path: Path) -> None:
    """A spool over its quota and its reserve: lines of the audit wait for better times."""

    async def straight(_parcels: object) -> bool:
        return False

    async def story() -> list[Parcel]:
        with Spool(tmp_path / "spool", quota_bytes=100) as spool:
            intake = Intake(
                spool, on_spooled=lambda: None, on_trouble=lambda _: None, straight=straight
            )
            spooling = asyncio.create_task(intake.keep_spooling())
            await intake.take(
                "opcua", [Reading("level", float(k), 0, NOON, NOON) for k in range(9)]
            )
            assert not spool.has_reserve
            for row in range(5):
                at = NOON + timedelta(seconds=row)
                intake.tell(Note("link", "opcua", "lost", at, "collect"))
                intake.tell(Silence("opcua", at, "not connected"))
                intake.tell(Heard("opcua", at))
            await intake.finish(spooling, 10)
            return [parcel for _, parcel in spool.first(100)]

    kinds = [type(each) for each in asyncio.run(story())[1:]]
    assert kinds == [Silence, Heard] * 5


def test_audit_lines_are_bounded_while_the_disk_takes_nothing(tmp_path: Path) -> None:
    """A disk that is away for days fills no memory with its own story."""

    async def straight(_parcels: object) -> bool:
        return False

    async def story() -> int:
        with Spool(tmp_path / "spool") as spool:
            intake = Intake(
                spool, on_spooled=lambda: None, on_trouble=lambda _: None, straight=straight
            )
            for row in range(5_000):
                intake.tell(Note("link", "opcua", f"lost {row}", NOON, "collect"))
            await intake.finish(asyncio.create_task(intake.keep_spooling()), 10)
            return len(spool.first(10_000))

    assert asyncio.run(story()) < 1_100


def test_a_disk_that_cannot_even_say_what_is_on_it_has_no_ballast(tmp_path: Path) -> None:
    """Whoever asks whether there is room hears no, and goes on."""
    ballast = Ballast(tmp_path / ("x" * 1_000))
    assert not ballast.is_aboard
    ballast.drop()
    assert not ballast.is_aboard
