"""Readings into what planners work with: a judged present (PlantState) and an even past (Window).

Here it is decided whether a value is known at all: fresh, good and not from the future. What is
not known is NaN or unusable with a reason, never zero. Nothing here reads a clock or a database.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta

import numpy as np

from twin.clock import utc
from twin.plant import Plant, Tag
from twin.records import BAD, PlantState, Reading, Samples, TagState, Window
from twin.resampling import NO_BREAKS, Breaks, good, resampled

# Clocks of two machines kept by NTP differ by far less; beyond this a source time is wrong.
FUTURE_TOLERANCE_S = 5.0


def plant_state(plant: Plant, last: Mapping[str, Reading], now: datetime) -> PlantState:
    """Judge the last reading of every tag of the plant at plant time `now`.

    A tag is usable when its last reading is good, its source age and its arrival age are at
    most the tag's `max_age_s`, and its source time is at most 5 s ahead of `now`. Arrival times
    are plant time too: the plant clock of the collecting process when the reading came in.
    """
    moment = utc(now)
    tags = {tag.name: _tag_state(tag, last.get(tag.name), moment) for tag in plant.tags}
    return PlantState(plant.plant, moment, tags)


def window_start(plant: Plant, end: datetime, rows: int, step_s: float | None = None) -> datetime:
    """From when on samples are needed for a `window` whose first row is whole."""
    longest_hold_s = max(tag.max_age_s for tag in plant.tags)
    return utc(end) - timedelta(seconds=rows * (step_s or plant.step_s) + longest_hold_s)


def window(
    plant: Plant,
    samples: Mapping[str, Samples],
    end: datetime,
    rows: int,
    step_s: float | None = None,
    broken: Mapping[str, Breaks] | None = None,
) -> Window:
    """Resample `samples` to `rows` even rows that end at `end`, `plant.step_s` apart.

    At any moment a tag has its last good value, for at most the tag's `max_age_s`; after that
    it is unknown. A row holds the value at its moment or, for tags with `aggregate: mean`, the
    mean over the known part of the step that ends there, NaN if under half of it is known.
    Inside the `broken` stretches of a tag nothing is known, and no value is held across one.
    Samples after a row never enter it. `samples` should begin at `window_start`.

    Raises:
        UnknownTag: `samples` holds a tag that the plant does not have.
    """
    if rows < 1:
        raise ValueError(f"a window of {rows} rows; it needs at least one")
    step = step_s or plant.step_s
    end_s = utc(end).timestamp()
    edges_s = end_s - step * np.arange(rows, -1.0, -1.0)
    known = {tag.name: tag for tag in plant.tags}
    values = {}
    for name, series in samples.items():
        tag = known.get(name) or plant.tag(name)
        away = NO_BREAKS if broken is None else broken.get(name, NO_BREAKS)
        held = good(series, tag.max_age_s, away)
        values[name] = resampled(held, edges_s, tag.aggregate)
    return Window(utc(end), step, values)


def _tag_state(tag: Tag, last: Reading | None, now: datetime) -> TagState:
    if last is None:
        reason = f"{tag.name}: no reading yet. Check the collecting process and the tag's node."
        return TagState(None, BAD, None, math.inf, math.inf, False, reason)
    source_age_s = (now - last.source_time).total_seconds()
    arrival_age_s = (now - last.arrival_time).total_seconds()
    reason = _unusable(tag, last, source_age_s, arrival_age_s)
    return TagState(
        value=last.value,
        quality=last.quality,
        source_time=last.source_time,
        source_age_s=source_age_s,
        arrival_age_s=arrival_age_s,
        is_usable=not reason,
        reason=reason,
    )


def _unusable(tag: Tag, last: Reading, source_age_s: float, arrival_age_s: float) -> str:
    """Why the reading is not usable; empty if it is."""
    limit = f"readings older than {tag.max_age_s:g} s are not used."
    if source_age_s > tag.max_age_s:
        return f"{tag.name}: last reading is {source_age_s:.0f} s old; {limit}"
    if arrival_age_s > tag.max_age_s:
        return f"{tag.name}: last reading arrived {arrival_age_s:.0f} s ago; {limit}"
    if source_age_s < -FUTURE_TOLERANCE_S:
        return (
            f"{tag.name}: last reading is {-source_age_s:.0f} s ahead of the plant clock; "
            f"more than {FUTURE_TOLERANCE_S:g} s is not used. Check the clocks."
        )
    if not last.is_good:
        shown = "no number" if last.value is None else f"{last.value:g} {tag.unit}".rstrip()
        return (
            f"{tag.name}: last reading is {shown} with quality {last.quality:#010x}; "
            "only good ones are used."
        )
    return ""
