"""The real quadruple tank and its PLC, as the emulator plays them. The twin may never read this.

`Truth` gives tags, times and the PLC's own checks to what `tanks.py` computes and
`disturbances.py` brings. How this plant differs from `physics.py`, and why: docs/decisions/0002.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from twin.clock import utc
from twin.errors import Fault, PlantFileError, UnknownTag
from twin.plant import Plant
from twin.plants.four_tank import tanks
from twin.plants.four_tank.baseline import HIGHEST_FLOW, RULE, BaselineParameters
from twin.plants.four_tank.disturbances import DAY_ROWS, ROW_S, day
from twin.records import BAD, GOOD, Reading, Samples, Series

_RECORD_DAYS, _RECORD_PIECES = 8, 2000
_SWITCH = (0.0, 1.0)
_RANGE: Mapping[str, tuple[float, float]] = {
    "pump_1.setpoint": (0.0, HIGHEST_FLOW),
    "pump_2.setpoint": (0.0, HIGHEST_FLOW),
    "pump_1.mode": _SWITCH,
    "pump_2.mode": _SWITCH,
    "plc.heartbeat": (-1e15, 1e15),
    "plc.stop": _SWITCH,
}


@dataclass(frozen=True)
class Counters:
    """What happened since the start. Volumes in litres."""

    overflow: Mapping[str, float]
    trips: Mapping[str, int]
    pumped: float
    drained: float
    delivered: float
    stored: float


class Truth:
    """One seed's real plant with its PLC, standing at `now`.

    `start` is a whole minute, aware. `baseline` is what AUTO does (None: the frozen rule).
    Equal arguments and writes give equal readings, however `advance` is cut. Raises
    PlantFileError where the plant file asks for what this plant cannot emit.
    """

    def __init__(
        self,
        plant: Plant,
        *,
        seed: int,
        start: datetime,
        baseline: BaselineParameters | None = None,
    ) -> None:
        start_s = utc(start).timestamp()
        if start_s % 60:
            raise ValueError(f"start {start.isoformat()} is not a whole minute")
        faults = [
            Fault(tag.name, "the emulated four_tank has no such signal.")
            for tag in plant.tags
            if tag.name not in tanks.COLUMNS
        ]
        if plant.sample_s != ROW_S:
            told = f"{plant.sample_s:g} s, but the emulated sensors report every {ROW_S} s."
            faults.append(Fault("sample_s", told))
        if faults:
            raise PlantFileError(str(plant.path), faults)
        self._tags = tuple(tag.name for tag in plant.tags)
        self._heartbeat_timeout_s = plant.opcua.heartbeat_timeout_s if plant.opcua else 600.0
        self._seed = seed
        self._start_s = start_s
        self._rows_done = 0
        self._real = tanks.real_plant(seed)
        self._tuning = (baseline or RULE).vector()
        self._state = tanks.start_state()
        self._record: list[Series] = []

    @property
    def now(self) -> datetime:
        """The plant's time: the last row that was carried out."""
        return _moment(self._now_s)

    @property
    def _now_s(self) -> float:
        return self._start_s + ROW_S * self._rows_done

    @property
    def is_stopped(self) -> bool:
        """Whether the stop node is set."""
        return bool(self._state[tanks.STOP])

    @property
    def counters(self) -> Counters:
        """Volumes, overflow per tank and trips per pump since the start."""
        litres = self._state / 1000.0
        stored = float(self._state[tanks.LEVEL : tanks.LEVEL + 4] @ tanks.AREA) / 1000.0
        return Counters(
            overflow={f"tank_{i + 1}": float(litres[tanks.OVERFLOWED + i]) for i in range(4)},
            trips={f"pump_{i + 1}": int(self._state[tanks.TRIPS + i]) for i in range(2)},
            pumped=float(litres[tanks.PUMPED]),
            drained=float(litres[tanks.DRAINED]),
            delivered=float(litres[tanks.TAKEN]),
            stored=stored,
        )

    def advance(self, to: datetime) -> list[Reading]:
        """Let the plant run until `to`; every tag's readings of every 10 s in (now, to].

        Time order, tags in the plant file's order. A dropped-out sensor repeats its last value
        with Bad quality.
        """
        times_s, values, is_bad = self._advance_table(to)
        readings: list[Reading] = []
        for time_s, row, bad in zip(times_s, values.tolist(), is_bad.tolist(), strict=True):
            moment = _moment(time_s)
            readings += [
                Reading(tag, value, BAD if is_out else GOOD, moment, moment)
                for tag, value, is_out in zip(self._tags, row, bad, strict=True)
            ]
        return readings

    def advance_samples(self, to: datetime) -> dict[str, Samples]:
        """The same as `advance`, one array per tag; NaN where the quality is Bad."""
        times_s, values, is_bad = self._advance_table(to)
        values[is_bad] = np.nan
        return {
            tag: Samples(times_s, np.ascontiguousarray(values[:, column]))
            for column, tag in enumerate(self._tags)
        }

    def _advance_table(self, to: datetime) -> tuple[Series, Series, NDArray[np.bool_]]:
        """Times (row), values and whether Bad (row, tag of the plant file)."""
        goal = int((utc(to).timestamp() - self._start_s) // ROW_S)
        pieces = []
        while self._rows_done < goal:
            number, row = divmod(self._rows_done, DAY_ROWS)
            pieces.append(self._run(number, row, min(goal - self._rows_done, DAY_ROWS - row)))
        if not pieces:
            return np.empty(0), np.empty((0, len(self._tags))), np.empty((0, len(self._tags)), bool)
        picked = [tanks.COLUMNS[tag] for tag in self._tags]
        table, held = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
        is_bad = np.zeros((len(table), len(self._tags)), dtype=np.bool_)
        for sensor in range(4):
            name = f"tank_{sensor + 1}.level"
            if name in self._tags:
                is_bad[:, self._tags.index(name)] = held[:, sensor]
        times_s = self._now_s - ROW_S * np.arange(len(table) - 1, -1, -1.0)
        return times_s, table[:, picked], is_bad

    def _run(self, number: int, row: int, rows: int) -> tuple[Series, NDArray[np.bool_]]:
        """Carry out rows of one day: every signal (`tanks.COLUMNS`) and which sensors are out."""
        outside = day(self._seed, self._start_s, number)
        timeout_s = self._heartbeat_timeout_s
        out = tanks.carry(self._state, self._real, self._tuning, outside, row, rows, timeout_s)
        self._rows_done += rows
        self._record.append(tanks.true_rows(outside, row, out))
        if len(self._record) > _RECORD_PIECES:
            self._record = [np.concatenate(self._record)[-_RECORD_DAYS * DAY_ROWS :]]
        return tanks.signals(outside, row, out), outside.is_held[row : row + rows]

    def true_record(self, since: datetime | None = None) -> dict[str, Series]:
        """What really happened, per whole minute after `since` (None: the start).

        Element k of each series is the minute that ends at `since` + (k + 1) min: levels at that
        end, flows, powers, prices and the like as means over the minute. The newest eight days
        are kept; raises ValueError for an earlier `since`, or one off the minute grid.
        """
        since_s = self._start_s if since is None else utc(since).timestamp()
        rows = np.concatenate(self._record) if self._record else np.empty((0, len(tanks.TRUE)))
        skipped = (since_s - self._start_s) / ROW_S - (self._rows_done - len(rows))
        if skipped < 0 or since_s % 60:
            raise ValueError(f"{_moment(since_s).isoformat()} is not on a recorded whole minute")
        minutes = max(len(rows) - int(skipped), 0) // tanks.ROWS_PER_MIN
        table = rows[int(skipped) :][: minutes * tanks.ROWS_PER_MIN]
        return tanks.per_minute(table)

    def write(self, name: str, value: object) -> str | None:
        """What the PLC does with a write, at `now`: None when done, else why it refused.

        Setpoints need a fresh heartbeat and no stop; an accepted one takes its pump to REMOTE.
        Mode 0, stop 1 and a lost heartbeat return to AUTO. A refused write changes nothing.
        """
        refusal = self._refusal(name, value)
        if refusal is not None:
            return refusal
        number = float(value)  # type: ignore[arg-type]
        state = self._state
        if name == "plc.heartbeat":
            state[tanks.HEARTBEAT_S] = self._now_s
        elif name == "plc.stop":
            state[tanks.STOP] = number
            if number:
                state[tanks.MODE : tanks.MODE + 2] = 0.0
        else:
            pump = int(name[5]) - 1
            if name.endswith(".mode"):
                state[tanks.MODE + pump] = number
            else:
                state[tanks.MODE + pump] = 1.0
                state[tanks.SETPOINT + pump] = number
        return None

    def _refusal(self, name: str, value: object) -> str | None:
        """Why the PLC would not take this write, or None."""
        limits = _RANGE.get(name)
        if limits is None:
            return f"{name}: the PLC has no such writable node. Writable: {', '.join(_RANGE)}."
        if not isinstance(value, (bool, int, float, np.integer, np.floating)):
            return f"{name}: {value!r} is not a number. Nothing was changed."
        number = float(value)
        if not math.isfinite(number) or not limits[0] <= number <= limits[1]:
            low, high = limits
            return (
                f"{name}: {number:g} is outside the PLC's range {low:g} to {high:g}. "
                "Nothing was changed."
            )
        if limits == _SWITCH and number not in limits:
            return f"{name}: {number:g} is neither 0 nor 1. Nothing was changed."
        asks_for_remote = name.endswith(".setpoint") or (name.endswith(".mode") and number == 1)
        if asks_for_remote and self.is_stopped:
            return f"{name}: the stop is set (plc.stop = 1). Release it first. Nothing was changed."
        age_s = self._now_s - float(self._state[tanks.HEARTBEAT_S])
        if asks_for_remote and age_s > self._heartbeat_timeout_s:
            silence = "was never written" if math.isinf(age_s) else f"is {age_s:.0f} s old"
            return (
                f"{name}: plc.heartbeat {silence}; REMOTE needs one within "
                f"{self._heartbeat_timeout_s:g} s. Nothing was changed."
            )
        return None

    def read(self, name: str) -> float:
        """What a writable node shows at `now`; raises UnknownTag for any other name."""
        if name == "plc.heartbeat":
            return float(self._state[tanks.HEARTBEAT_S])
        if name == "plc.stop":
            return float(self._state[tanks.STOP])
        if name not in _RANGE:
            raise UnknownTag(f"{name}: the PLC has no such writable node")
        place = tanks.MODE if name.endswith(".mode") else tanks.SETPOINT
        return float(self._state[place + int(name[5]) - 1])

    def fork(self) -> Truth:
        """An independent copy: what is written to one never reaches the other."""
        twin = copy.copy(self)
        twin._state = self._state.copy()
        twin._record = list(self._record)
        return twin


def _moment(time_s: float) -> datetime:
    return datetime.fromtimestamp(time_s, UTC)
