"""What a trend shows: history thinned to what a screen can carry, limits, and the forecast fan.

`panels` gives one panel per tag; `message` turns panels into what the browser's chart reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dashboard.view import text
from dashboard.view.kinds import is_slab_record, is_stepped, moment_tags
from twin.historian import Historian
from twin.plant import Limits, Plant, Role, Tag
from twin.records import Proposal, Samples, Series

BUCKETS = 360  # about one per two pixels of a wide screen; each keeps up to four points
#: From steps of so long on rollups are drawn. Chosen: a minute of two readings is no rollup's work.
_ROLLED_STEP_S = 60.0
_FAR_ENGINEERING = 2.5  # engineering limits further apart than this × the rest stay off the scale
_HEADROOM = 0.06  # of the value range, above and below


@dataclass(frozen=True)
class Future:
    """What a proposal's plan and forecast say of one tag.

    `low` and `high` bound 90 %; `holding` is where it goes if no MV moves.
    """

    times_s: Series
    middle: Series
    low: Series | None = None
    high: Series | None = None
    holding: Series | None = None

    @property
    def lines(self) -> list[Series]:
        """Every line there is."""
        lines = (self.middle, self.low, self.high, self.holding)
        return [line for line in lines if line is not None]


@dataclass(frozen=True)
class Panel:
    """One tag over time. `y_range` holds every line shown, so the scale stands still."""

    tag: Tag
    history: Samples
    future: Future | None
    y_range: tuple[float, float]


def history_of(
    historian: Historian, plant: Plant, tags: Sequence[str], start: datetime, end: datetime
) -> tuple[dict[str, Samples], float]:
    """What `panels` draws of a span, and its steps in s; 0 where it is the readings themselves.

    A long span is drawn from rollups: as many points, however many readings there are.
    """
    step_s = (end - start).total_seconds() / BUCKETS
    if step_s < _ROLLED_STEP_S:
        return historian.samples(plant, tags, start, end), 0.0
    found = historian.trend(plant, tags, start, end, BUCKETS)
    step_s = max((each.step_s for each in found.values()), default=0.0)
    return {name: each.outline() for name, each in found.items()}, step_s


def default_tags(plant: Plant) -> list[str]:
    """What a trend shows before anyone chose: the CVs that yield last, and every MV.

    Of a furnace also what leaves it and what it burns.
    """
    ranks = [tag.rank for tag in plant.with_role(Role.CV) if tag.rank is not None]
    first = [t.name for t in plant.with_role(Role.CV) if not ranks or t.rank == min(ranks)]
    furnace = plant.furnace
    of_furnace = [] if furnace is None else [furnace.pyrometer, furnace.fuel]
    mvs = [tag.name for tag in plant.with_role(Role.MV)]
    return list(dict.fromkeys([*of_furnace, *first, *mvs]))


def choices(plant: Plant) -> list[str]:
    """Every tag that can be drawn, in the order in which people look for them.

    MVs, CVs and DVs first, records of slabs last; a moment is no curve.
    """
    roles = list(Role)
    names = [tag for tag in plant.tags if tag.name not in moment_tags(plant)]
    ordered = sorted(names, key=lambda t: (is_slab_record(plant, t.name), roles.index(t.role)))
    return [tag.name for tag in ordered]


def foretold_tags(plant: Plant, shown: Proposal) -> list[str]:
    """What a proposal says something of: its CVs, then the MVs it plans."""
    cvs = [t.name for t in plant.with_role(Role.CV) if future_of(t.name, shown) is not None]
    return cvs + [name for name in shown.plan.moves if name not in cvs]


def panels(
    plant: Plant,
    tags: Iterable[str],
    samples: Mapping[str, Samples],
    newest: Proposal | None,
    buckets: int = BUCKETS,
    step_s: float = 0.0,
) -> list[Panel]:
    """One panel per tag: its history with broken lines at gaps, and its future if there is one.

    `samples` may be outlines of steps of `step_s`: then a gap is wider than two steps.
    """
    shown = []
    for name in tags:
        tag = plant.tag(name)
        history = samples.get(name, Samples(np.empty(0), np.empty(0)))
        longest_s = max(tag.max_age_s, 2.0 * step_s)
        history = thinned(broken_at_gaps(history, longest_s), buckets)
        future = future_of(name, newest)
        shown.append(Panel(tag, history, future, _y_range(tag, history, future)))
    return shown


def broken_at_gaps(samples: Samples, longest_s: float) -> Samples:
    """The same samples with a NaN inside every pause longer than `longest_s`."""
    places = np.flatnonzero(np.diff(samples.times_s) > longest_s) + 1
    if not len(places):
        return samples
    times_s = np.insert(samples.times_s, places, samples.times_s[places - 1] + longest_s)
    return Samples(times_s, np.insert(samples.values, places, np.nan))


def thinned(samples: Samples, buckets: int = BUCKETS) -> Samples:
    """At most four points of each of `buckets` equal spans of time: first, lowest, highest, last.

    A line through them covers the same pixels as one through all points as long as a span is
    not wider than a pixel. A NaN stays where it parts two pieces of a line.

    Source: Jugel et al., "M4: a visualization-oriented time series data aggregation", PVLDB
    7(10), 2014, section 4.
    """
    if len(samples.times_s) <= 4 * buckets:
        return samples
    is_number = np.isfinite(samples.values)
    begins_gap = ~is_number & np.concatenate(([True], is_number[:-1]))
    at = np.flatnonzero(is_number)
    kept = np.flatnonzero(begins_gap)
    if len(at):
        kept = np.union1d(kept, at[_extremes(samples.times_s[at], samples.values[at], buckets)])
    return Samples(samples.times_s[kept], samples.values[kept])


def future_of(tag: str, newest: Proposal | None) -> Future | None:
    """The forecast fan of a tag, else the plan's own line, each beside holding; else None."""
    if newest is None:
        return None
    plan, forecast = newest.plan, newest.forecast
    if tag in plan.moves:
        path, current = plan.moves[tag], newest.current.get(tag)
        still = None if current is None else np.full(len(path), current)
        return Future(_grid(plan.start, plan.step_s, range(len(path))), path, holding=still)
    if forecast is not None and tag in forecast.middle:
        path = forecast.middle[tag]
        times_s = _grid(forecast.start, forecast.step_s, range(1, len(path) + 1))
        low, high = forecast.low.get(tag), forecast.high.get(tag)
        return Future(times_s, path, low, high, forecast.holding.get(tag))
    if tag in plan.predicted:
        path = plan.predicted[tag]
        return Future(_grid(plan.start, plan.step_s, range(1, len(path) + 1)), path)
    return None


def message(
    plant: Plant,
    shown: Sequence[Panel],
    *,
    start: datetime,
    now: datetime,
    tick: int,
    height_px: int = 150,
    is_small: bool = False,
) -> dict[str, Any]:
    """What the chart in the browser reads: plain lists, None where there is no number.

    `tick` differs at every refresh, so that the chart knows it is still being fed.
    """
    ends_s = [p.future.times_s[-1] for p in shown if p.future is not None and len(p.future.times_s)]
    return {
        "zone": plant.time_zone,
        "start_s": start.timestamp(),
        "now_s": now.timestamp(),
        "end_s": float(max([*ends_s, now.timestamp()])),
        "tick": tick,
        "height_px": height_px,
        "is_small": is_small,
        "panels": [_panel_message(plant, panel) for panel in shown],
    }


def _panel_message(plant: Plant, panel: Panel) -> dict[str, Any]:
    tag, future = panel.tag, panel.future
    digits = tag.decimals + 1
    fan: dict[str, Any] = {"times_s": [], "middle": [], "low": [], "high": [], "holding": []}
    if future is not None:
        fan = {
            "times_s": [round(t, 1) for t in future.times_s.tolist()],
            "middle": _plain(future.middle, digits),
            "low": _plain(future.low, digits),
            "high": _plain(future.high, digits),
            "holding": _plain(future.holding, digits),
        }
    return {
        "tag": tag.name,
        "description": tag.description,
        "unit": text.on_paper(tag.unit),
        "decimals": tag.decimals,
        "is_stepped": is_stepped(plant, tag),
        "times_s": [round(t, 1) for t in panel.history.times_s.tolist()],
        "values": _plain(panel.history.values, digits),
        "future": fan,
        "operator": _pair(tag.operator),
        "engineering": _pair(tag.engineering),
        "y_range": list(panel.y_range),
    }


def _grid(start: datetime, step_s: float, steps: range) -> Series:
    """Times in s since 1970, `steps` × `step_s` after `start`."""
    return np.array([start.timestamp() + step_s * k for k in steps], dtype=np.float64)


def _extremes(times_s: Series, values: Series, buckets: int) -> NDArray[np.intp]:
    """Indices of the first, last, lowest and highest value of each bucket of time."""
    span_s = max(times_s[-1] - times_s[0], 1e-9)
    bucket = np.minimum(((times_s - times_s[0]) / span_s * buckets).astype(np.intp), buckets - 1)
    first = np.flatnonzero(np.concatenate(([True], np.diff(bucket) > 0)))
    last = np.concatenate((first[1:], [len(bucket)])) - 1
    counts = last - first + 1
    found = [first, last]
    for reduce_at in (np.minimum.reduceat, np.maximum.reduceat):
        hits = np.flatnonzero(values == np.repeat(reduce_at(values, first), counts))
        found.append(hits[np.unique(bucket[hits], return_index=True)[1]])
    return np.unique(np.concatenate(found))


def _y_range(tag: Tag, history: Samples, future: Future | None) -> tuple[float, float]:
    series = [history.values]
    if future is not None:
        series += future.lines
    values = np.concatenate([*series, _edges(tag.operator)])
    values = values[np.isfinite(values)]
    engineering = _edges(tag.engineering)
    if len(engineering) and len(values):
        together = np.concatenate((values, engineering))
        if np.ptp(together) <= _FAR_ENGINEERING * max(np.ptp(values), 1e-9):
            values = together
    elif not len(values):
        values = engineering
    if not len(values):
        return 0.0, 1.0
    room = _HEADROOM * np.ptp(values) or max(0.5, 0.05 * abs(values[0]))
    return float(values.min() - room), float(values.max() + room)


def _edges(limits: Limits | None) -> Series:
    return np.array([edge for edge in _pair(limits) if edge is not None], dtype=float)


def _pair(limits: Limits | None) -> list[float | None]:
    return [limits.low, limits.high] if limits is not None else [None, None]


def _plain(values: Series | None, digits: int) -> list[float | None]:
    if values is None:
        return []
    rounded = np.round(values, digits)
    return [v if ok else None for v, ok in zip(rounded.tolist(), np.isfinite(values), strict=True)]
