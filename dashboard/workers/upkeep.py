"""The historian's upkeep beside the collecting: rollups brought up to date, what is old deleted.

What is imported without a collector is rolled up here, too.
"""

from __future__ import annotations

import asyncio
import contextlib

from dashboard.beats import latest_known
from dashboard.facts import COLLECTOR
from dashboard.settings import Settings
from dashboard.upkeep_record import tell_trouble
from dashboard.workers.ending import say
from twin.clock import wall_now
from twin.errors import HistorianError
from twin.historian import Historian, Keep
from twin.plant import Plant

_EVERY_S = 60.0  # a minute's rollup is asked for no sooner
_AGAIN_S = 5.0  # while a backlog is left
# A process that is told to end waits for no more than this.
_MOST_S = 2.0


def keep_once(plant: Plant, settings: Settings, historian: Historian) -> bool:
    """One round of upkeep up to the newest reading that can be true; True once nothing is left.

    Nothing is done while the plant's time is not known: what is too old is then not known either.
    """
    until = latest_known(plant, historian.processes(plant), wall_now())
    newest = None if until is None else historian.newest(plant, until)
    if newest is None:
        return True
    keep = Keep(settings.keep_raw_days or None, settings.keep_minute_days or None)
    return historian.maintain(newest, plant, keep, _MOST_S).due == 0


def roll_up(plant: Plant, historian: Historian) -> None:
    """Sum up all that is stored, however long it takes; nothing is deleted.

    Where the plant's time is not known, it is that of the newest reading.
    """
    until = latest_known(plant, historian.processes(plant), wall_now())
    newest = historian.newest(plant, until)
    keeps_all = Keep(None, None)
    while newest is not None and historian.maintain(newest, plant, keeps_all).due:
        pass


async def keep_up(
    plant: Plant, settings: Settings, historian: Historian, every_s: float = _EVERY_S
) -> None:
    """Upkeep every minute, for ever, whatever happens; when it fails, the audit says why."""
    said, wait_s = "", every_s
    while True:
        await asyncio.sleep(wait_s)
        is_done, trouble = await asyncio.to_thread(_keep_and_tell, plant, settings, historian)
        if trouble not in ("", said):
            say(f"upkeep waits: {trouble}")
        said, wait_s = trouble, every_s if is_done or trouble else min(_AGAIN_S, every_s)


def _keep_and_tell(plant: Plant, settings: Settings, historian: Historian) -> tuple[bool, str]:
    """One round, told: whether nothing is left, and why it failed, "" if it did not."""
    is_done, trouble = False, ""
    try:
        is_done = keep_once(plant, settings, historian)
    except HistorianError as fault:
        trouble = str(fault)
    except Exception as bug:  # noqa: BLE001  # the outermost loop of this work: collecting goes on
        trouble = f"{type(bug).__name__}: {bug}"
    with contextlib.suppress(HistorianError):  # a database that is away, the collecting tells
        historian.tell_unreadable(plant, wall_now(), COLLECTOR)
        tell_trouble(historian, plant, trouble, wall_now())
    return is_done, trouble
