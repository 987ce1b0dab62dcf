"""Slab tracking: from records and thermocouples to which slab is where, how hot and how sure.

Slabs (`inside`) are carried along minute by minute with what the thermocouples show. What the
pyrometer shows at discharge tells how much more each grade takes up (`learning`); what the burners
give beyond the balance is what a zone loses besides. A record that contradicts itself or the beam
is told as a fault, and its slab is followed on with less certainty. What stands in for a silent
tag is told after minutes at the latest (`SILENT`); nothing is guessed in silence for longer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from twin.furnace import kernel
from twin.furnace.beam_watch import BeamWatch
from twin.furnace.faults import Fault, Faults, Silence
from twin.furnace.inside import SlabsInside, TrackedSlab
from twin.furnace.learning import Emissivity
from twin.furnace.mill_watch import MillWatch
from twin.furnace.numbers import STEP_S, numbers
from twin.furnace.pyrometer_watch import PyrometerWatch
from twin.furnace.records import Read, Records
from twin.furnace.residual import LoopState, LoopWatch, ZoneResidual
from twin.furnace.rollout import rolling_s
from twin.furnace.state import FurnaceState, Slab, Stop, ZoneState
from twin.furnace.zone_watch import UNKNOWN_MIN, ZoneWatch
from twin.plant.furnace import Furnace, Mill
from twin.records import Series, Window

#: Over which unexplained losses are averaged. Chosen: many ramps of a zone, whose swings are no
#: loss, and a small part of the day in which air drawn in drifts.
_LOSS_H = 2.0
#: Nothing is learned from less sure slabs: guesses are wrong together. A guess is as sure after
#: three hours, when a slab that was charged under our eyes leaves.
_LEARNED_SD_K = 2.2
_REMEMBERED = 60  # discharges; chosen: some seven hours of them, for who judges tracking
_STEP = timedelta(seconds=STEP_S)


@dataclass(frozen=True, slots=True)
class Left:
    """A slab that left: what was expected of it, its sd, and what the pyrometer showed (or NaN)."""

    at: datetime
    slab: Slab
    expected_c: float
    sd_k: float
    shown_c: float


class Tracker:
    """One furnace's slabs, followed minute by minute through windows of the plant's past.

    `faults` says what is wrong at `at`, in the order in which it began; `left` holds the newest
    discharges. `unexplained_w` (zone) is what the burners gave in the last minute beyond balance
    and learned losses, NaN where not known. Unless it `learns`, emissivity and losses stay the
    plant file's. States carry the learned `residual`, if there is one. `stops` of the mill are
    known from before.
    """

    def __init__(
        self,
        furnace: Furnace,
        mill: Mill,
        *,
        stops: Sequence[Stop] = (),
        learns: bool = True,
        residual: ZoneResidual | None = None,
    ) -> None:
        self.furnace, self.mill, self._learns = furnace, mill, learns
        self.residual = residual
        self.at: datetime | None = None
        self.left: list[Left] = []
        self.faults: tuple[Fault, ...] = ()
        self.learned = Emissivity(sorted(furnace.grades), furnace.pyrometer_sd_k)
        self._numbers = numbers(furnace)
        self._records = Records(furnace)
        self._told = Faults()
        self._silence = Silence(self._told)
        self._inside = SlabsInside(furnace, self._numbers, self.learned, self._told)
        self._zones = ZoneWatch(furnace, self._told)
        self._mill = MillWatch(mill, self._told, stops)
        self._pyrometer = PyrometerWatch(furnace, self._told)
        self._beam = BeamWatch(furnace, self._told)
        self._loops = LoopWatch(len(furnace.zones))
        self.unexplained_w = np.full(len(furnace.zones), np.nan)
        self._extra_w = np.zeros(len(furnace.zones))
        self._drawn_w = np.zeros(len(furnace.zones))
        self._shows_left = False  # the minute before told which slab left last
        self._yard: tuple[Slab, ...] = ()
        self._yard_doubts: tuple[str, ...] = ()

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags whose past `observe` needs."""
        furnace = self.furnace
        discharge = (furnace.discharged, furnace.pyrometer, furnace.interlock)
        return (*self._zones.tags, *self._records.tags, *discharge, *self._mill.tags)

    @property
    def stops(self) -> tuple[Stop, ...]:
        """The mill's past stops, those known from before included."""
        return self._mill.stops

    @property
    def pace(self) -> float:
        """The mill's pace as it was last told, over its schedule's."""
        return self._mill.pace

    @property
    def past_faults(self) -> tuple[Fault, ...]:
        """The newest faults that are over, in the order in which they ended."""
        return self._told.past

    def observe(self, past: Window) -> None:
        """Take in a window of one-minute rows; rows up to `at` are known and skipped.

        Minutes between `at` and the first row were not seen: a short gap is bridged, after a
        long one the furnace is taken over anew. Raises ValueError for rows that are no minute.
        """
        if past.step_s != STEP_S:
            raise ValueError(f"rows are {past.step_s:g} s apart; tracking takes {STEP_S:g} s")
        tags = self.tags
        rows = np.column_stack([past.values[tag] for tag in tags]).tolist()
        for row, values in enumerate(rows):
            at = past.end - (past.rows - 1 - row) * _STEP
            if self.at is None or at > self.at:
                self._minute(at, dict(zip(tags, values, strict=True)))

    def state(self) -> FurnaceState | None:
        """The furnace as tracked; None while zones or slabs are not known."""
        zones = self._zones.now
        if zones is None or not self._inside.numbers or self.at is None or self._zones.is_unknown:
            return None
        fields = np.column_stack([zones.gas, zones.wall, zones.ramped, zones.fuel, self._extra_w])
        _, per_k = self._inside.mean_c(0)
        return FurnaceState(
            at=self.at,
            slabs=self._inside.states(),
            yard=self._yard,
            zones=tuple(ZoneState(*row) for row in fields.tolist()),
            mill=self._mill.state(self.at),
            emissivity_percent=self.learned.percent,
            emissivity_sd_k={g: per_k * self.learned.sd_percent(g) for g in self.learned.percent},
            loops=self.loops,
            yard_doubts=self._yard_doubts,
            faults=tuple(fault.message for fault in self.faults),
        )

    @property
    def loops(self) -> LoopState | None:
        """What the zones' loops were asked for, remembered for the residual.

        None before slabs were followed for a minute.
        """
        return None if self._loops.is_new else self._loops.state(self.residual)

    def expected_c(self, place: int = 0) -> tuple[float, float]:
        """Mean °C and its sd of the slab `place` places from the discharge door, as it is now."""
        return self._inside.expected_c(place)

    def _minute(self, at: datetime, seen: Mapping[str, float]) -> None:
        minutes = 1 if self.at is None else round((at - self.at) / _STEP)
        unseen_min = max(minutes - 1, self._zones.blind_min)
        gas_c = self._zones.see(at, seen, minutes)
        self.at = at
        if minutes > 1:
            self._mill.lose_sight()
        if gas_c is not None:
            if self._inside.numbers and unseen_min > UNKNOWN_MIN and self._zones.blind_min == 0:
                text = f"nothing was seen for {unseen_min:.0f} min; slabs are taken over anew"
                self._told.note("gap", text, at)
                self._inside.clear()
                minutes = 1
                self._zones.begin_anew(gas_c)
            read = self._records.read(seen)
            self._note_records(at, read)
            self._see_mill(at, seen)
            is_followed = bool(self._inside.numbers)
            if is_followed:
                self._follow(at, seen, read, minutes, gas_c)
            else:
                self._inside.take_over(read.slots, gas_c)
            if not is_followed or unseen_min > 0:
                self._loops.forget()
            self._remember(seen, gas_c, is_followed=is_followed)
            if read.yard or not read.yard_faults:
                self._yard = read.yard
                faults = read.yard_faults
                self._yard_doubts = tuple(faults.get(k, "") for k in range(1, len(read.yard) + 1))
        self._pyrometer.see(at, seen)
        self.faults = self._told.present(at)

    def _see_mill(self, at: datetime, seen: Mapping[str, float]) -> None:
        """The mill's minute, and whether the plant holds a slab back for it."""
        held = seen[self.furnace.interlock]
        instead = "no slab is taken to be held back"
        self._silence.see(at, self.furnace.interlock, is_silent=math.isnan(held), instead=instead)
        self._mill.see(at, seen, is_held=held > 0.5)

    def _remember(self, seen: Mapping[str, float], gas_c: Series, *, is_followed: bool) -> None:
        """The minute is over: what is now, and what loops were asked for if slabs `is_followed`."""
        zones = self._zones.now
        assert zones is not None
        followed_c, was_guessed = zones.ramped.copy(), self._zones.guesses_followed
        self._zones.accept(gas_c, seen)
        if was_guessed or self._zones.guesses_followed:
            self._loops.forget()
        if is_followed:
            self._loops.see(zones.ramped - followed_c, self._drawn_w)

    def _follow(
        self, at: datetime, seen: Mapping[str, float], read: Read, minutes: int, gas_c: Series
    ) -> None:
        """Heat the slabs for `minutes` up to `gas_c`, and move them as the beam has moved."""
        assert self._zones.now is not None
        moves, is_agreed = self._beam.moves(seen, self._inside.numbers[::-1], read)
        moved, before_c = 0, self._zones.now.gas.copy()
        # Two at once, or one after a silence, may have left long ago.
        was_shown = self._shows_left
        self._shows_left = math.isfinite(seen[self.furnace.discharged])
        is_timed = moves == minutes == 1 and was_shown
        for minute in range(1, minutes + 1):
            share = (minute - 0.5) / minutes
            at_c = before_c + share * (gas_c - before_c)
            unsure_min = np.maximum(self._zones.unsure_min(), minute - 1)
            self._drawn_w = self._inside.heat(at_c, unsure_min)
            if minutes == 1:
                self._learn_losses(gas_c)
            kernel.soak(self._numbers, self._zones.now, at_c, STEP_S)
            while moved < moves * minute // minutes:
                moved += 1
                slot = moves - moved + 1
                left_at = at - (minutes - minute) * _STEP
                self._discharge(left_at, seen if slot == 1 else None, is_timed=is_timed)
                self._inside.charge(read.slots[slot - 1], self._yard)
        if moves > 1:
            self._inside.moved_unseen(moves - 1)
        self._settle(at, read, is_agreed=is_agreed)

    def _learn_losses(self, gas_c: Series) -> None:
        """What the burners gave beyond the balance of a minute up to `gas_c`, before walls soak."""
        zones = self._zones.now
        assert zones is not None
        self.unexplained_w = np.full(len(gas_c), np.nan)
        if not self._zones.fuel_is_seen or self._zones.unseen_min.any():
            return
        lost_w = np.zeros(len(gas_c))
        kernel.surplus(self._numbers, zones, gas_c, self._drawn_w, zones.fuel, STEP_S, lost_w)
        self.unexplained_w = lost_w - self._extra_w
        if self._learns:
            self._extra_w += self.unexplained_w * STEP_S / (3600.0 * _LOSS_H)

    def _settle(self, at: datetime, read: Read, *, is_agreed: bool) -> None:
        """Doubt what the records do not confirm; believe them once they have stayed."""
        is_dark = sum(slab is None for slab in read.slots) > 0.5 * self.furnace.slots
        is_elsewhere = self._inside.compare(at, read, is_told=is_agreed and not is_dark)
        # The last one charged is no slab that has been inside all the time.
        inside = self._inside.numbers[:-1]
        if self._beam.is_record_believed(
            at, read, inside, is_agreed=is_agreed, is_elsewhere=is_elsewhere
        ):
            self._inside.believe(read.slots)

    def _discharge(self, at: datetime, seen: Mapping[str, float] | None, *, is_timed: bool) -> None:
        """The slab at the door leaves; what the pyrometer says of it is learned from.

        `seen` None: it left while nobody looked. `is_timed`: it left in the minute up to `at`.
        """
        gone = self._inside.next_to_leave
        expected_c, sd_k = self.expected_c()
        shown_c = math.nan if seen is None else self._pyrometer.of_slab(gone.slab, seen)
        self.left = [*self.left, Left(at, gone.slab, expected_c, sd_k, shown_c)][-_REMEMBERED:]
        if self._learns:
            self._learn(gone, expected_c, sd_k, shown_c)
        self._mill.slab_left(at, rolling_s(self.furnace, gone.slab), is_seen=is_timed)
        self._inside.discharge()

    def _learn(self, gone: TrackedSlab, expected_c: float, sd_k: float, shown_c: float) -> None:
        """Take in what the pyrometer shows of the slab at the door, where it can teach anything."""
        self.learned.age()
        if math.isfinite(shown_c) and not gone.doubt and gone.unsure_k < _LEARNED_SD_K:
            mean_c, per_k = self._inside.mean_c(0)
            is_near = self.learned.learn(gone.slab.grade, shown_c - mean_c, per_k, gone.sd_k)
            self._pyrometer.judge(shown_c, expected_c, sd_k, is_near=is_near)

    def _note_records(self, at: datetime, read: Read) -> None:
        gone = [k for k, slab in enumerate(read.slots, 1) if slab is None]
        for number, where in read.twice.items():
            told = f"slab {number}: stands in slots {', '.join(map(str, where))} at once"
            self._told.note(f"slab {number} twice", told, at)
        if len(gone) > 0.5 * self.furnace.slots:
            told = f"{len(gone)} of {self.furnace.slots} slots have no slab record"
            self._told.note("records", f"{told}; slabs are not known to move", at)
        inside = self._inside.numbers
        unknown = [k for k in gone if not inside or inside[-k] == 0]
        if unknown:
            told = f"slot {unknown[0]}: no slab record; a slab like its neighbour is assumed"
            self._told.note("unknown slab", told, at)
        for place, told in read.yard_faults.items():
            self._told.note("yard", f"yard place {place}: {told}", at)
