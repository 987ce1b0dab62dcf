"""Blocks of a furnace line: the yard that brings slabs, the door that holds them, the mill.

Built from a LineState and read back into one; a block so built goes on exactly where the other
one stopped. The furnace between them is `line`'s: they reach it through the board alone.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace
from typing import Protocol

import simpy

from twin.furnace.rollout import rolling_s
from twin.furnace.state import Slab
from twin.plant.furnace import Furnace, Mill
from twin.simulation.blocks import Process
from twin.simulation.draws import quantile
from twin.simulation.line_state import LineSlab, Luck, RollingState, YardState

# Slabs in a campaign. Assumed, as a works' own lengths are not in its plant file; they matter only
# to slabs that nobody has in the yard yet.
_CAMPAIGN_SLABS = (4, 20)
_GAP_LOWEST = 0.8  # of the scheduled time, however quick a mill is
# The plant's own tracker against what a slab is, measured on training seeds 1000–1003: an error,
# and the share by which it takes an unusual slab to be nearer to what the spec wants.
_BELIEVED_SD_K, _BELIEVED_NEARER = 3.5, 0.12
_LOOKS_EVERY_S = 60.0  # that tracker, at a slab it holds
_HOUR_S = 3600.0


class Line(Protocol):
    """What door and mill act upon: the clock, the slab at the door, the beam, the record."""

    env: simpy.Environment

    def at_door(self) -> tuple[LineSlab, float]:
        """The slab that leaves next and its present mean temperature."""

    def move(self, held_s: float) -> LineSlab:
        """Let it leave: the beam steps and the yard's next slab is charged. The one that left."""

    def pace(self) -> float:
        """The mill's pace over its schedule now."""

    def happened(self, block: str, item: int, what: str) -> None:
        """Note an event at the present moment."""


class Yard:
    """The slabs that wait; then campaigns like those seen, each of a length drawn for it."""

    def __init__(self, state: YardState, luck: Luck) -> None:
        self._state, self._luck = state, luck
        self._waiting = deque(state.waiting)

    def present(self) -> YardState:
        """The block as it stands now."""
        return replace(self._state, waiting=tuple(self._waiting))

    def told(self, places: int) -> tuple[Slab, ...]:
        """The next slabs, as many as the plant tells: those that nobody has seen come into sight.

        Drawing them early changes nothing: their random numbers are those of their campaign.
        """
        while len(self._waiting) < places:
            self._waiting.append(self._unseen())
        return tuple(self._waiting)[:places]

    def take(self) -> tuple[Slab, int]:
        """The slab that is charged next, and the item of its random numbers."""
        item = self._state.next_item
        self._state = replace(self._state, next_item=item + 1)
        return (self._waiting.popleft() if self._waiting else self._unseen()), item

    def _unseen(self) -> Slab:
        """A slab that nobody has seen yet: of the last campaign while that goes on."""
        state = self._state
        low, high = _CAMPAIGN_SLABS
        while not state.left:
            kind, length = self._luck.campaign(state.next_campaign)
            if state.left is None:  # the last one seen: as long as it is at least
                least = max(low, state.known)
                left = int(least + length * (max(high, least) - least + 1)) - state.known
                state = replace(state, left=left)
            else:
                seen = state.kinds[int(kind * len(state.kinds))]
                left = int(low + length * (high - low + 1))
                state = replace(state, kind=seen, left=left)
            state = replace(state, next_campaign=state.next_campaign + 1)
        slab = replace(state.kind, number=state.next_number)
        self._state = replace(state, left=state.left - 1, next_number=state.next_number + 1)
        return slab


class Rolling:
    """The mill: it takes a slab whenever it is due, unless it stands or the door holds it."""

    def __init__(
        self, furnace: Furnace, mill: Mill, state: RollingState, line: Line, luck: Luck
    ) -> None:
        self._furnace, self._mill, self._line, self._luck = furnace, mill, line, luck
        self._state = state
        self._stands = Spans(state.restarts_s is not None, float(line.env.now))
        self._holds = Spans(state.held_s > 0.0, float(line.env.now))
        line.env.process(self._live())

    def present(self) -> RollingState:
        """The block as it stands now."""
        return self._state

    @property
    def stands(self) -> bool:
        """Whether the mill stands now."""
        return self._state.restarts_s is not None

    def shares(self, start_s: float, step_s: float, steps: int) -> tuple[list[float], list[float]]:
        """Of every step, the share that the mill stood for and that a slab was held for."""
        until_s = start_s + step_s * steps
        stood, held = self._stands.until(until_s), self._holds.until(until_s)
        return _shares(stood, start_s, step_s, steps), _shares(held, start_s, step_s, steps)

    def _live(self) -> Process:
        env = self._line.env
        while True:
            if self._state.restarts_s is not None:
                yield env.timeout(max(0.0, self._state.restarts_s - env.now))
                self._restart()
            yield env.timeout(max(0.0, self._state.due_s - env.now))
            yield from self._hold()
            self._roll(self._line.move(self._state.held_s))

    def _hold(self) -> Process:
        """The plant's interlock: a slab that its tracker takes to be cold waits, but not for ever.

        That tracker knows nothing new before the minute is over.
        """
        env = self._line.env
        longest_s = 60.0 * self._furnace.hold_longest_min
        while self._state.held_s < longest_s and self._believed_c() < self._furnace.hold_below_c:
            waits_s = _LOOKS_EVERY_S - env.now % _LOOKS_EVERY_S
            if self._state.held_s == 0.0:
                slab, _ = self._line.at_door()
                self._line.happened(self._furnace.name, slab.slab.number, "is held")
                self._holds.begin(float(env.now))
            self._state = replace(
                self._state, held_s=self._state.held_s + waits_s, due_s=env.now + waits_s
            )
            yield env.timeout(waits_s)
        self._holds.end(float(env.now))

    def _believed_c(self) -> float:
        slab, mean_c = self._line.at_door()
        usual_c = 0.5 * sum(self._furnace.spec.mean_c)
        nearer_c = mean_c + _BELIEVED_NEARER * (usual_c - mean_c)
        return nearer_c + _BELIEVED_SD_K * self._luck.slab(slab.item).believed

    def _roll(self, left: LineSlab) -> None:
        """When the mill wants the next slab, after this one and a stop that may follow it.

        A stop belongs to a slab, not to a time: whoever rolls faster meets the same stops.
        """
        now_s, state = float(self._line.env.now), self._state
        hours = rolling_s(self._furnace, left.slab) / _HOUR_S
        gap = max(_GAP_LOWEST, 1.0 + self._mill.gap_sd * self._luck.slab(left.item).gap)
        told_s = _HOUR_S * hours / self._line.pace()
        due_s = now_s + gap * told_s
        state = replace(state, held_s=0.0, told_due_s=now_s + told_s)
        rolls_h = state.rolls_h
        if rolls_h is None:  # exponential: how long it has rolled already tells nothing
            wait, _ = self._luck.stop(state.next_stop)
            rolls_h = -self._mill.mean_between_h * math.log1p(-wait)
        rolls_h -= hours
        lasts_s = 0.0
        state = replace(state, rolls_h=rolls_h)
        if rolls_h <= 0.0:
            lasts_s = self._stop_s(state.next_stop)
            state = replace(state, rolls_h=None, next_stop=state.next_stop + 1)
        if state.sure_stops and state.sure_stops[0].at_s <= now_s:
            lasts_s = max(lasts_s, state.sure_stops[0].lasts_s)
            state = replace(state, sure_stops=state.sure_stops[1:])
        self._state = replace(state, due_s=due_s)
        if lasts_s > 0.0:
            self._stop(now_s, lasts_s, left.item)

    def _stop(self, now_s: float, lasts_s: float, after: int) -> None:
        """The mill stands from now on; its crew tells once how long it expects that to last."""
        state, estimate_sd = self._state, self._mill.estimate_sd
        expected_s = lasts_s * math.exp(estimate_sd * self._luck.estimate(after))
        self._state = replace(
            state,
            due_s=max(state.due_s, now_s + lasts_s),
            restarts_s=now_s + lasts_s,
            stood_since_s=now_s,
            told_restart_s=now_s + expected_s,
        )
        self._stands.begin(now_s)
        self._line.happened(self._mill.name, state.next_stop - 1, "stops")

    def _stop_s(self, item: int) -> float:
        low_min, high_min = self._mill.stop_min
        _, length = self._luck.stop(item)
        lasts_s = self._state.stop_median_s * math.exp(self._state.stop_sigma * quantile(length))
        return min(max(lasts_s, 60.0 * low_min), 60.0 * high_min)

    def _restart(self) -> None:
        self._state = replace(self._state, restarts_s=None, stood_since_s=None, told_restart_s=None)
        self._stands.end(float(self._line.env.now))
        self._line.happened(self._mill.name, self._state.next_stop - 1, "goes on")


class Spans:
    """When something was so, s since 1970 UTC."""

    def __init__(self, is_so: bool, now_s: float) -> None:
        self._ended: list[tuple[float, float]] = []
        self._since_s = now_s if is_so else None

    def begin(self, now_s: float) -> None:
        """From now on it is so."""
        self._since_s = now_s

    def end(self, now_s: float) -> None:
        """From now on it is not."""
        if self._since_s is not None:
            self._ended.append((self._since_s, now_s))
            self._since_s = None

    def until(self, now_s: float) -> list[tuple[float, float]]:
        """From when to when it has been so."""
        return self._ended if self._since_s is None else [*self._ended, (self._since_s, now_s)]


def _shares(
    spans: list[tuple[float, float]], start_s: float, step_s: float, steps: int
) -> list[float]:
    shares = [0.0] * steps
    for since_s, until_s in spans:
        begins, ends = (since_s - start_s) / step_s, (until_s - start_s) / step_s
        for k in range(max(0, int(begins)), min(steps, math.ceil(ends))):
            shares[k] += min(ends, k + 1.0) - max(begins, float(k))
    return shares
