"""`plantwright stop`: the latch first, and only then whatever could be in the way of it.

A stop works with a faulty plant file, without a database and with one that hangs; the audit is
told afterwards if it listens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from connectors.stop import StopLatch
from dashboard.settings import Settings
from twin.clock import WALL_TIME, wall_now
from twin.errors import HistorianError, PlantFileError, PlantwrightError
from twin.plant import Plant

_PLANT_LINE = re.compile(r"^plant:\s*[\"']?(\w+)", re.MULTILINE)
_LONGEST = 2_000_000  # characters of a plant file
_AUDIT_PATIENCE_S = 2.0
_WRITER_SILENT_S = 60.0  # a writer beats every few seconds, also while it reads back


@dataclass(frozen=True)
class Stopped:
    """The latch that is set now, and why the audit could not be told, if so.

    `has_writer`: a writing process that obeys this latch lately lived in the database of its
    state folder; None where that could not be read. Without one the stop may be in another folder
    than the plant's; `obeyed` is the latch that the living writer obeys instead, empty where none
    is known.
    """

    latch: Path
    trouble: str = ""
    has_writer: bool | None = None
    obeyed: str = ""


def set_stop(path_or_name: str, settings: Settings, by: str, reason: str) -> Stopped:
    """Set the plant's stop latch.

    Raises:
        PlantFileError: the file does not even say which plant it is about.
        PlantwrightError: the latch could not be set; writing goes on.
    """
    plant: Plant | None = None
    trouble = ""
    try:
        plant = settings.plant(path_or_name)
        name = plant.plant
    except PlantFileError as fault:
        name = _name_in(path_or_name, fault)
        trouble = f"the plant file has faults. See `plantwright check {path_or_name}`."
    latch = StopLatch(settings.stop_latch(name))
    try:
        latch.set(by, reason)
        cause = "it does not hold"
    except OSError as fault:
        cause = (fault.strerror or str(fault)).lower()
    if not latch.is_stopped():
        raise PlantwrightError(
            f"NOT STOPPED: the latch {latch.path} could not be set ({cause}). "
            "End the writing process, or use the plant's own stop."
        )
    stopped = Stopped(latch.path.absolute(), trouble)
    if plant is None:
        return stopped
    try:
        obeyed = _tell_audit(plant, settings, by, reason)
    except HistorianError as fault:
        return replace(stopped, trouble=str(fault))
    if obeyed == latch.name:
        return replace(stopped, has_writer=True)
    return replace(stopped, has_writer=False, obeyed=obeyed)


def _name_in(path_or_name: str, fault: PlantFileError) -> str:
    """The plant's name in a file that has faults."""
    try:
        with Path(path_or_name).open(encoding="utf-8") as file:
            found = _PLANT_LINE.search(file.read(_LONGEST))  # a device has no end
    except (OSError, UnicodeDecodeError):
        raise fault from None
    if found is None:
        raise fault
    return found[1]


def _tell_audit(plant: Plant, settings: Settings, by: str, reason: str) -> str:
    """Note the stop. The latch that the writing process obeys, empty where nobody writes.

    Raises HistorianError where the database does not listen.
    """
    from connectors.writer import LATCH, PROCESS
    from dashboard.beats import is_time_known, plant_moment, said
    from twin.historian import Historian

    url = settings.database_url(plant)
    with Historian.open(url, _AUDIT_PATIENCE_S, _AUDIT_PATIENCE_S) as historian:
        beats, newest, wall = historian.processes(plant), historian.newest(plant), wall_now()
        now, _ = plant_moment(plant, beats, newest, wall)
        message = f"set: {reason}"
        if not is_time_known(plant, beats, newest, wall):
            message += f" {WALL_TIME}"
        historian.event(plant, "stop", plant.plant, message, now, by)
    for beat in beats:
        if beat.name == PROCESS and (wall - beat.at).total_seconds() < _WRITER_SILENT_S:
            return str(said(beat.detail).get(LATCH) or "")
    return ""
