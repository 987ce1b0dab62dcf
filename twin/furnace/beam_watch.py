"""How far the beam has moved: what records and discharges say of it, and since when not alike.

A slab that is told to have left has left, whatever the records say, until the records have stayed
otherwise for minutes. What that makes of slabs is `tracking`'s.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from twin.furnace.faults import Faults
from twin.furnace.numbers import STEP_S
from twin.furnace.records import Read, is_number
from twin.furnace.state import Slab
from twin.plant.furnace import Furnace

#: Of records that contradict the beam: a fault; the truth. Chosen: records that come one by one are
#: all there after a minute; what stays for most of a slab's time at the door is no such moment.
_TOLD_MIN, _BELIEVED_MIN = 2.0, 5.0


class BeamWatch:
    """The beam of one furnace, minute by minute."""

    def __init__(self, furnace: Furnace, told: Faults) -> None:
        self._number, self._told = furnace.discharged, told
        self._contradicted_min = 0.0
        self._last_left = math.nan
        self._is_discharge_dead = False

    def moves(
        self, seen: Mapping[str, float], tracked: Sequence[int], read: Read
    ) -> tuple[int, bool]:
        """How many places the beam has moved since `tracked` (numbers, slot 1 first).

        And whether records and discharges agree on it. Slab numbers begin at 1: a discharge of 0 (a
        restarted PLC) says nothing.
        """
        by_records = beam_steps(tracked, read.slots)
        number = seen[self._number]
        by_discharge: int | None = None
        if number == self._last_left:
            by_discharge = 0
        elif is_number(number) and number in tracked:
            by_discharge = len(tracked) - tracked.index(round(number))
        if is_number(number) and number != self._last_left:
            self._last_left, self._is_discharge_dead = number, False
        if by_discharge is None or self._is_discharge_dead:
            return by_records or 0, by_records is not None
        return by_discharge, by_records == by_discharge

    def is_record_believed(
        self,
        at: datetime,
        read: Read,
        inside: Collection[int],
        *,
        is_agreed: bool,
        is_elsewhere: bool,
    ) -> bool:
        """Whether the records have contradicted what is tracked for so long that now they count.

        `is_agreed` on the beam; `is_elsewhere`: a slab is said to be at another's place. They are
        not believed where the slab in the first slot has been `inside` (numbers) all the time, or
        there is none: then the records have moved without the beam.
        """
        if is_agreed and not is_elsewhere:
            self._contradicted_min = 0.0
            return False
        self._contradicted_min += STEP_S / 60.0
        if not is_agreed and self._contradicted_min >= _TOLD_MIN:
            text = "the slab records contradict the beam and the discharges"
            self._told.note("beam", f"{text}; slabs are tracked on without them", at)
        first = read.slots[0]
        is_possible = first is not None and (is_agreed or first.number not in inside)
        if self._contradicted_min < _BELIEVED_MIN or not is_possible:
            return False
        text = f"the slab records contradicted the beam for {_BELIEVED_MIN:g} min"
        self._told.note("believed", f"{text}: now they count", at)
        self._is_discharge_dead = not is_agreed
        self._contradicted_min = 0.0
        return True


def beam_steps(tracked: Sequence[int], slots: Sequence[Slab | None]) -> int | None:
    """How many places the beam has moved since `tracked` (numbers, slot 1 first).

    The number of steps that most records agree with; None where under half of those that can be
    compared agree with any: records and beam contradict each other. 0 where nothing can be
    compared.
    """
    best, agreeing, compared = None, 0.0, 0
    for steps in range(len(slots)):
        pairs = [
            (slab.number, number)
            for slab, number in zip(slots[steps:], tracked, strict=False)
            if slab is not None and number > 0
        ]
        # What only the last few records say is an accident of numbers.
        if len(pairs) < max(1, (len(slots) - steps) // 4):
            continue
        compared += 1
        share = sum(a == b for a, b in pairs) / len(pairs)
        if share > agreeing:
            best, agreeing = steps, share
        if share == 1.0:
            break
    if not compared:
        return 0
    return best if agreeing >= 0.5 else None
