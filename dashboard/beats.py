"""What processes tell each other with a beat: that they live, and what time the plant has.

Only the collector hears the plant's clock. It tells plant time and speed as JSON with every
beat, and any other process works out the plant's present from it and the wall. A beat that
stays away lets readings grow old, as it should.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from twin.clock import latest_believable, utc
from twin.historian import ProcessBeat
from twin.plant import Plant

# A collector beats once a second; what is newer than its last beat by more is no late arrival but
# a wrong stamp, and must not move the time of everything else.
_CATCHING_UP_WALL_S = 2.0

_WRITER = "write"
_WRITER_SILENT = timedelta(seconds=20)  # it beats every two seconds


def clock_detail(plant_now: datetime, speed: float, **more: object) -> str:
    """A beat's detail that tells plant time, speed and whatever else is worth showing."""
    return json.dumps({"plant_now": utc(plant_now).isoformat(), "speed": speed, **more})


def said(detail: str) -> Mapping[str, Any]:
    """What a process said with its beat; plain text is its `note`."""
    try:
        content = json.loads(detail)
    except (ValueError, RecursionError):
        content = None
    if isinstance(content, dict):
        return content
    return {"note": detail} if detail else {}


def plant_moment(
    plant: Plant, beats: Iterable[ProcessBeat], newest: datetime | None, wall_now: datetime
) -> tuple[datetime, float]:
    """Plant time at `wall_now`, and plant seconds per wall second.

    From the newest beat that tells both, moved on to the `newest` reading where that is a little
    ahead: it came after the beat, from a plant that was catching up. Without such a beat, a plant
    whose file names a speed node may run at any speed, so its time is that of the `newest` reading;
    any other runs by the wall, and no beat puts it further ahead of that than clocks may differ.
    """
    told = _clock_now(plant, beats, wall_now)
    if told is not None:
        now, speed = told
        is_later = newest is not None and now < newest <= now + timedelta(
            seconds=_CATCHING_UP_WALL_S * speed
        )
        return (newest if newest is not None and is_later else now), speed
    return (newest if _has_own_time(plant) and newest is not None else wall_now), 1.0


def is_time_known(
    plant: Plant, beats: Iterable[ProcessBeat], newest: datetime | None, wall_now: datetime
) -> bool:
    """Whether `plant_moment` is the plant's own time; else it is the wall's, for want of any."""
    is_told = _clock_now(plant, beats, wall_now) is not None
    return is_told or newest is not None or not _has_own_time(plant)


def latest_known(plant: Plant, beats: Iterable[ProcessBeat], wall_now: datetime) -> datetime | None:
    """The latest source time that can be true at `wall_now`; None where nothing tells it.

    Readings stored of later times are no present: ask the historian for those until then.
    """
    told = _clock_now(plant, beats, wall_now)
    if told is not None:
        return latest_believable(*told)
    return None if _has_own_time(plant) else latest_believable(wall_now)


def _clock_now(
    plant: Plant, beats: Iterable[ProcessBeat], wall_now: datetime
) -> tuple[datetime, float] | None:
    """Plant time and speed by the newest beat that tells a time that can be true."""
    for beat in sorted(beats, key=lambda b: b.at, reverse=True):
        told = told_clock(said(beat.detail))
        if told is None:
            continue
        moment, speed = told
        waited_s = max(0.0, (wall_now - beat.at).total_seconds())
        try:
            now = moment + timedelta(seconds=speed * waited_s)
        except OverflowError:
            continue  # nobody's plant runs so fast
        if _has_own_time(plant) or now <= latest_believable(wall_now):
            return now, speed
    return None


def _has_own_time(plant: Plant) -> bool:
    return plant.opcua is not None and plant.opcua.speed_node is not None


def is_stopped_at_plant(beats: Iterable[ProcessBeat], wall_now: datetime) -> bool:
    """Whether the plant's own stop is set, and not by us, as the living writer tells it."""
    return any(
        said(beat.detail).get("plant_stop") is True
        for beat in beats
        if beat.name == _WRITER and abs(wall_now - beat.at) <= _WRITER_SILENT
    )


def told_clock(content: Mapping[str, Any]) -> tuple[datetime, float] | None:
    """Plant time and speed at a beat, from what was said with it; None where it says neither."""
    moment, speed = content.get("plant_now"), content.get("speed")
    if not isinstance(moment, str) or not isinstance(speed, int | float):
        return None
    try:
        told = utc(datetime.fromisoformat(moment))
    except ValueError:
        return None
    return (told, float(speed)) if math.isfinite(speed) and speed > 0 else None
