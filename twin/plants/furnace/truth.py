"""The real reheating furnace and its PLC, as the emulator plays them. The twin may never read this.

`Truth` gives tags and times to what `works.py` computes and `plc.py` is told. What of it the plant
file knows, and what it does not: docs/decisions/0006.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from twin.clock import utc
from twin.errors import Fault, PlantFileError
from twin.plant import Plant
from twin.plants.furnace import heating as ht
from twin.plants.furnace.baseline import FAIR, BaselineParameters
from twin.plants.furnace.plc import Plc
from twin.plants.furnace.works import Discharge, Works
from twin.plants.furnace.yard import Slab
from twin.records import BAD, GOOD, Reading, Samples, Series

YARD_PLACES = 16
RUN_IN_S = 12 * 3600.0  # a new furnace has been running for so long when its record begins

_RECORDS_S = 600.0  # slab records and discharges are told when they change, and this often
_KEPT_MINUTES = 8 * 24 * 60
_MW = 1e-6
_MINUTE_ROWS = round(60 / ht.SCAN_S)
_RAMP_MIN = 5
_RAMP_ROWS = _RAMP_MIN * _MINUTE_ROWS
_EDGE_MW = 1e-6  # so near to its limit a burner or the header stands at it
_HEADER_MW = ht.HEADER_W * _MW

#: What a slab's record tells, by the last part of its tag; see `_record`.
_PARTS = ("slab", "thickness", "charge", "grade", "rate")
_FOUR = range(1, ht.ZONES + 1)
#: Told at every scan. The first six kinds are one column per zone, in this order.
_FAST = (
    *(f"zone_{z}.temperature" for z in _FOUR),
    *(f"zone_{z}.fuel" for z in _FOUR),
    *(f"zone_{z}.active_setpoint" for z in _FOUR),
    *(f"zone_{z}.windup" for z in _FOUR),
    *(f"zone_{z}.setpoint" for z in _FOUR),
    *(f"zone_{z}.mode" for z in _FOUR),
    *(f"zone_{z}.ramp" for z in _FOUR),
    "furnace.fuel",
    "pace.setpoint",
    "pace.mode",
    "mill.rate",
    "interlock.holding",
    "tracker.surface",
    "mill.running",
    "mill.stopped_at",
    "mill.expected_restart",
)
#: Told when they change and every 10 minutes.
_LEFT = ("discharge.slab", "discharge.temperature", "discharge.tracker")
_SLOW = (
    *(f"slot_{k:02}.{part}" for k in range(1, ht.SLOTS + 1) for part in _PARTS),
    *(f"yard_{k:02}.{part}" for k in range(1, YARD_PLACES + 1) for part in _PARTS),
    *_LEFT,
)
_Columns = NDArray[np.int64]


@dataclass(frozen=True)
class _Piece:
    """Some scans in a row: fast signals (scan, `_FAST`), and which slow ones are told at which."""

    times_s: Series
    fast: Series
    news: tuple[tuple[int, _Columns, Series], ...]


@dataclass(frozen=True, slots=True)
class Minute:
    """What really happened in one minute: means of fuel W and gas °C per zone, hottest face °C."""

    fuel_w: tuple[float, ...]
    gas_c: tuple[float, ...]
    hottest_c: float


class Truth:
    """One seed's real plant with its PLC, standing at `now`.

    `start` is a whole minute, aware. `baseline` is what AUTO does (None: the frozen fair one).
    `works` takes over a furnace that a test or a study has made, seed and baseline with it; one
    younger than 12 h is run in. Equal arguments and writes give equal readings, however `advance`
    is cut. Raises PlantFileError where the plant file asks for what this plant cannot emit.
    """

    def __init__(
        self,
        plant: Plant,
        *,
        seed: int,
        start: datetime,
        baseline: BaselineParameters | None = None,
        works: Works | None = None,
    ) -> None:
        start_s = utc(start).timestamp()
        if start_s % 60:
            raise ValueError(f"start {start.isoformat()} is not a whole minute")
        self._fast_tags, self._fast_columns = _picked(plant, _FAST)
        self._slow_tags, self._slow_columns = _picked(plant, _SLOW)
        _check(plant)
        self._tags = [tag.name for tag in plant.tags]
        self.works = works or Works(seed, baseline or FAIR)
        if self.works.now_s % 60:
            raise ValueError(f"the works stand at {self.works.now_s} s, not at a whole minute")
        rows = self.works.advance(max(self.works.now_s, RUN_IN_S))
        measured = np.concatenate([self.works.zones.measured[None], rows[:, ht.MEASURED]])
        self._measured = measured[-_RAMP_ROWS:]
        self._zero_s = start_s - self.works.now_s
        timeout_s = plant.opcua.heartbeat_timeout_s if plant.opcua else 600.0
        self._plc = Plc(self.works, timeout_s)
        self._told: Series | None = None
        self._minutes: list[Minute] = []
        self._begun: list[Series] = []  # rows of the minute that is not over

    @property
    def now(self) -> datetime:
        """The plant's time: the last scan that was carried out."""
        return _moment(self._zero_s + self.works.now_s)

    @property
    def is_stopped(self) -> bool:
        """Whether the stop node is set."""
        return self._plc.is_stopped

    @property
    def zero(self) -> datetime:
        """When the works' own clock was at 0, from which discharges are counted."""
        return _moment(self._zero_s)

    @property
    def discharged(self) -> list[Discharge]:
        """Every slab that has left, as it really was and as the plant saw it, run-in included."""
        return self.works.discharged

    @property
    def minutes(self) -> list[Minute]:
        """Every whole minute since the start, the newest last; eight days of them are kept."""
        return self._minutes[-_KEPT_MINUTES:]

    def advance(self, to: datetime) -> list[Reading]:
        """Let the plant run until `to`; every reading in (now, to], in time order.

        Fast signals come every 10 s, slab records and discharges when they change and every 10 min.
        A slab that the pyrometer did not see is a Bad reading without value.
        """
        readings: list[Reading] = []
        for piece in self._pieces(to):
            news = {row: (columns, values) for row, columns, values in piece.news}
            table = piece.fast[:, self._fast_columns].tolist()
            for row, (time_s, values) in enumerate(zip(piece.times_s.tolist(), table, strict=True)):
                moment = _moment(time_s)
                readings += [
                    Reading(tag, value, GOOD, moment, moment)
                    for tag, value in zip(self._fast_tags, values, strict=True)
                ]
                if row in news:
                    readings += self._slow_readings(moment, *news[row])
        return readings

    def _slow_readings(self, moment: datetime, columns: _Columns, values: Series) -> list[Reading]:
        return [
            Reading(self._slow_tags[column], None, BAD, moment, moment)
            if math.isnan(value)
            else Reading(self._slow_tags[column], value, GOOD, moment, moment)
            for column, value in zip(columns.tolist(), values.tolist(), strict=True)
        ]

    def advance_samples(self, to: datetime) -> dict[str, Samples]:
        """The same as `advance`, one array per tag; NaN where the quality is Bad."""
        times, tables = [np.empty(0)], [np.empty((0, len(_FAST)))]
        at, columns, values = [np.empty(0)], [np.empty(0, dtype=np.int64)], [np.empty(0)]
        for piece in self._pieces(to):
            times.append(piece.times_s)
            tables.append(piece.fast)
            for row, changed, now in piece.news:
                at.append(np.full(len(changed), piece.times_s[row]))
                columns.append(changed)
                values.append(now)
        times_s, table = np.concatenate(times), np.concatenate(tables)[:, self._fast_columns]
        found = {
            tag: Samples(times_s, np.ascontiguousarray(table[:, column]))
            for column, tag in enumerate(self._fast_tags)
        }
        which = np.concatenate(columns)
        if not len(which):
            found |= dict.fromkeys(self._slow_tags, Samples(np.empty(0), np.empty(0)))
            return {tag: found[tag] for tag in self._tags}
        order = which.argsort(kind="stable")
        ends = np.searchsorted(which[order], np.arange(1, len(self._slow_tags)))
        told_s, told = np.concatenate(at)[order], np.concatenate(values)[order]
        parts = zip(np.split(told_s, ends), np.split(told, ends), strict=True)
        found |= {tag: Samples(*part) for tag, part in zip(self._slow_tags, parts, strict=False)}
        return {tag: found[tag] for tag in self._tags}

    def _pieces(self, to: datetime) -> Iterator[_Piece]:
        """Everything until `to`, in pieces in which no slab moves and no setpoint changes.

        Such a change can only come with a minute, with a slab that is due or with a heartbeat that
        stays silent, so cutting there shows each scan as it was.
        """
        works = self.works
        goal_s = (utc(to).timestamp() - self._zero_s) // ht.SCAN_S * ht.SCAN_S
        while works.now_s < goal_s:
            self._plc.watch()
            due_s = ht.SCAN_S * math.ceil(works.due_s / ht.SCAN_S)
            ends_s = ((works.now_s // 60 + 1) * 60, due_s, self._plc.silent_from_s)
            end_s = min([goal_s, *(end_s for end_s in ends_s if end_s > works.now_s)])
            count = len(works.discharged)
            rows = works.advance(end_s)
            times_s = self._zero_s + works.now_s - ht.SCAN_S * np.arange(len(rows) - 1, -1, -1.0)
            self._note(rows)
            news = self._news(times_s, has_left=len(works.discharged) > count)
            yield _Piece(times_s, self._fast(rows, times_s), news)

    def _note(self, rows: Series) -> None:
        """Keep what really happened."""
        self._begun.append(rows)
        if self.works.now_s % 60:
            return
        whole, self._begun = np.concatenate(self._begun), []
        self._minutes.append(
            Minute(
                fuel_w=tuple(whole[:, ht.FUEL].mean(axis=0).tolist()),
                gas_c=tuple(whole[:, ht.GAS].mean(axis=0).tolist()),
                hottest_c=float(whole[:, ht.HOTTEST].max()),
            )
        )
        if len(self._minutes) > 2 * _KEPT_MINUTES:
            del self._minutes[:-_KEPT_MINUTES]

    def _fast(self, rows: Series, times_s: Series) -> Series:
        """Every fast signal of these scans (scan, `_FAST`)."""
        works, plc = self.works, self._plc
        fuel_mw, measured = rows[:, ht.FUEL] * _MW, rows[:, ht.MEASURED]
        header_mw = fuel_mw.sum(axis=1, keepdims=True)
        # What holds a loop: its own burners' ends, or the header that gives nobody more.
        is_held = (
            (fuel_mw >= ht.HIGHEST_FUEL_W * _MW - _EDGE_MW)
            | (fuel_mw <= ht.LOWEST_FUEL_W * _MW + _EDGE_MW)
            | (header_mw >= _HEADER_MW - _EDGE_MW)
        )
        seen = np.concatenate([self._measured, measured])
        self._measured = seen[-_RAMP_ROWS:]
        before = seen[np.maximum(np.arange(len(rows)) + len(seen) - len(rows) - _RAMP_ROWS, 0)]
        mill = [
            works.pace,
            plc.pace_is_remote,
            works.in_slot[-1].rate_t_per_h,
            works.held_s > 0,
            # `Works` is pinned and tells its tracker's means only; the hottest face stays private.
            works._tracked.face.max(),
        ]
        stands = times_s - self._zero_s < works.stopped_until_s
        stop = (works.stopped_at_s, works.expected_restart_s)
        return np.concatenate(
            [
                measured,
                fuel_mw,
                rows[:, ht.RAMPED],
                is_held,
                np.tile([*works.zones.wanted, *works.is_remote], (len(rows), 1)),
                (measured - before) / _RAMP_MIN,
                header_mw,
                np.tile(mill, (len(rows), 1)),
                ~stands[:, None],
                np.where(stands[:, None], self._zero_s + np.array(stop), 0.0),
            ],
            axis=1,
        )

    def _news(self, times_s: Series, *, has_left: bool) -> tuple[tuple[int, _Columns, Series], ...]:
        """What is told of slab records and discharges: scan, columns of `_slow_tags`, values."""
        before, news = self._told, []
        if before is None or has_left:
            self._told = self._records()[self._slow_columns]
            is_new = np.ones(len(self._told), dtype=np.bool_)
            if before is not None:
                is_left = np.isin(self._slow_tags, _LEFT)
                is_new = (self._told != before) & ~np.isnan(self._told) | is_left
            news.append((0, np.flatnonzero(is_new), self._told[is_new]))
        assert self._told is not None
        if times_s[-1] % _RECORDS_S == 0:  # pieces end with the minute
            everything = np.arange(len(self._told))
            news = [n for n in news if n[0] != len(times_s) - 1]
            news.append((len(times_s) - 1, everything, self._told))
        return tuple(news)

    def _records(self) -> Series:
        """Every slow signal as it stands."""
        works = self.works
        yard = [works.yard.slab(works.next_number + k) for k in range(YARD_PLACES)]
        last = works.discharged[-1] if works.discharged else None
        left = (
            (math.nan,) * len(_LEFT)
            if last is None
            else (last.slab.number, last.pyrometer_c, last.tracker_c)
        )
        return np.array([*(x for slab in (*works.in_slot, *yard) for x in _record(slab)), *left])

    def write(self, name: str, value: object) -> str | None:
        """What the PLC does with a write, at `now`: None when done, else why it refused.

        Setpoints need a fresh heartbeat and no stop; an accepted one takes its loop to REMOTE.
        Mode 0, stop 1 and a lost heartbeat return to AUTO. A refused write changes nothing.
        """
        return self._plc.write(name, value)

    def read(self, name: str) -> float:
        """What a writable node shows at `now`; raises UnknownTag for any other name."""
        return self._plc.read(name, self._zero_s)

    def fork(self) -> Truth:
        """An independent copy: what is written to one never reaches the other."""
        twin = copy.copy(self)
        twin.works, twin._plc = copy.deepcopy((self.works, self._plc))
        twin._minutes, twin._begun = list(self._minutes), list(self._begun)
        return twin


def _record(slab: Slab) -> tuple[float, ...]:
    """The numbers of `_PARTS`: mm, °C and t/h where they have a unit."""
    thickness_mm = 1000.0 * slab.thickness_m
    return slab.number, thickness_mm, slab.charge_c, slab.grade, slab.rate_t_per_h


def _picked(plant: Plant, signals: tuple[str, ...]) -> tuple[list[str], _Columns]:
    """Those of `signals` that the plant file asks for, in its order, and where they stand."""
    columns = {name: column for column, name in enumerate(signals)}
    tags = [tag.name for tag in plant.tags if tag.name in columns]
    return tags, np.array([columns[tag] for tag in tags], dtype=np.int64)


def _check(plant: Plant) -> None:
    known = {*_FAST, *_SLOW}
    faults = [
        Fault(tag.name, "the emulated furnace has no such signal.")
        for tag in plant.tags
        if tag.name not in known
    ]
    if plant.sample_s != ht.SCAN_S:
        told = f"{plant.sample_s:g} s, but the emulated sensors report every {ht.SCAN_S:g} s."
        faults.append(Fault("sample_s", told))
    if faults:
        raise PlantFileError(str(plant.path), faults)


def _moment(time_s: float) -> datetime:
    return datetime.fromtimestamp(time_s, UTC)
