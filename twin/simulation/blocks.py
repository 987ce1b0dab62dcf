"""Blocks of the discrete part as SimPy processes, built from a TwinState and read back into one.

Each block owns its tags on the board and nothing else. A block built from the state that another
one reported goes on exactly where that one stopped: all it has drawn is in that state.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import simpy

from twin.plant import Batches, Tariff, Trips
from twin.simulation.draws import factor, remaining_repair_s, start_error_s
from twin.simulation.twin_state import Batch, BatchesState, MachineState, Order, TariffState

_TRIES = 64  # of drawing a past that fits the present, before it is forced to fit
_HOUR_S = 3600.0

Streams = Callable[[int], np.random.Generator]
Process = Generator[simpy.Event, Any, None]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a run: when (s since 1970 UTC), to which block and item, what."""

    at_s: float
    block: str
    item: int
    what: str


class Board(Protocol):
    """What blocks act upon: the clock, the signals of the plant, the record of events."""

    env: simpy.Environment

    def set(self, tag: str, value: float) -> None:
        """Change a disturbance; the continuous unit is brought up to now first."""

    def happened(self, block: str, item: int, what: str) -> None:
        """Note an event at the present moment."""


class BatchesBlock:
    """Batches that begin and end around their announcements, and further ones after the list."""

    def __init__(self, block: Batches, state: BatchesState, board: Board, streams: Streams) -> None:
        self._block, self._board, self._streams = block, board, streams
        self._now_s: Callable[[], float] = lambda: float(board.env.now)
        self._next_item = state.next_item
        self._may_hide_more = state.may_hide_more
        self._batches = {b.item: self._fixed(b) for b in state.batches}
        self._show()
        for batch in list(self._batches.values()):
            self._board.env.process(self._run(batch))
        if not state.is_future_drawn:
            newest = state.batches[-1] if state.batches else None
            self._add_next(newest, is_first=True)

    def present(self) -> BatchesState:
        """The block as it stands now."""
        return BatchesState(
            tuple(self._batches.values()), self._next_item, self._may_hide_more, True
        )

    def _run(self, batch: Batch) -> Process:
        assert batch.starts_s is not None
        assert batch.ends_s is not None
        env = self._board.env
        if not batch.is_running:
            yield env.timeout(max(0.0, batch.starts_s - env.now))
            self._batches[batch.item] = replace(batch, is_running=True)
            self._show()
            self._board.happened(self._block.name, batch.item, "batch begins")
            if batch.item == self._next_item - 1:
                self._add_next(batch, is_first=False)
        yield env.timeout(max(0.0, batch.ends_s - env.now))
        del self._batches[batch.item]
        self._show()
        self._board.happened(self._block.name, batch.item, "batch ends")

    def _show(self) -> None:
        drawn = sum(b.draw or 0.0 for b in self._batches.values() if b.is_running)
        self._board.set(self._block.demand, drawn)

    def _fixed(self, batch: Batch) -> Batch:
        """The batch with its real start, end and draw; what is known stays as it is."""
        if batch.starts_s is not None and batch.ends_s is not None and batch.draw is not None:
            return batch
        rng = self._streams(batch.item)
        u_start, u_draw, u_length = rng.random(3)
        block, order, now_s = self._block, batch.order, self._now_s()
        length_s = 60.0 * order.duration_min
        draw = batch.draw
        if draw is None:
            draw = order.draw * factor(block.draw_error_sd, u_draw)
        if not batch.is_running:
            starts_s = order.start_s + start_error_s(block, u_start, now_s - order.start_s)
            ends_s = starts_s + length_s * factor(block.duration_error_sd, u_length)
        elif batch.starts_s is not None:
            starts_s = batch.starts_s
            least = (now_s - starts_s) / length_s
            ends_s = starts_s + length_s * factor(block.duration_error_sd, u_length, least)
        else:
            starts_s, ends_s = self._past(order, rng, (u_start, u_length))
        return replace(batch, starts_s=starts_s, ends_s=ends_s, draw=draw)

    def _past(
        self, order: Order, rng: np.random.Generator, first: tuple[float, float]
    ) -> tuple[float, float]:
        """Start and end of a running batch whose start was not seen: begun, and not yet over."""
        block, now_s, length_s = self._block, self._now_s(), 60.0 * order.duration_min
        u_start, u_length = first
        for _ in range(_TRIES):
            error_s = start_error_s(block, u_start, up_to_s=now_s - order.start_s)
            starts_s = order.start_s + error_s
            ends_s = starts_s + length_s * factor(block.duration_error_sd, u_length)
            if ends_s > now_s:
                return starts_s, ends_s
            u_start, u_length = rng.random(2)
        least = (now_s - starts_s) / length_s
        return starts_s, starts_s + length_s * factor(block.duration_error_sd, u_length, least)

    def _add_next(self, newest: Batch | None, is_first: bool) -> None:
        """Announce and start the batch that follows `newest`.

        The first one after the order list is known not to be on it, unless the list is full.
        """
        block, now_s, item = self._block, self._now_s(), self._next_item
        rng = self._streams(item)
        rng.random(3)  # reserved for this batch's real start, draw and duration
        free_s = now_s if newest is None else newest.order.end_s + 60.0 * block.gap_min[0]
        must_be_unlisted = is_first and not self._may_hide_more
        for _ in range(_TRIES):
            u_gap, u_draw, u_length, u_notice = rng.random(4)
            # Without memory: up to now nothing has been announced for, so the wait starts anew.
            start_s = max(free_s, now_s) - 60.0 * block.gap_min[1] * float(np.log1p(-u_gap))
            notice_s = 60.0 * _between(block.notice_min, u_notice)
            if not must_be_unlisted or start_s - notice_s > now_s:
                break
        order = Order(start_s, _between(block.draw, u_draw), _between(block.duration_min, u_length))
        self._next_item += 1
        batch = self._fixed(Batch(item, order))
        self._batches[item] = batch
        self._board.env.process(self._run(batch))


class TripsBlock:
    """A machine that trips after random running times and is repaired."""

    def __init__(self, block: Trips, state: MachineState, board: Board, streams: Streams) -> None:
        self._block, self._board, self._streams = block, board, streams
        self._state = state
        board.set(block.running, 1.0 if state.is_running else 0.0)
        board.env.process(self._live())

    def present(self) -> MachineState:
        """The block as it stands now."""
        return self._state

    def _live(self) -> Process:
        env, name = self._board.env, self._block.name
        while True:
            state = self._fixed(self._state)
            self._state = state
            assert state.changes_s is not None
            yield env.timeout(max(0.0, state.changes_s - env.now))
            now_s = float(env.now)
            if state.is_running:
                self._state = MachineState(False, now_s, next_item=state.next_item)
                self._board.set(self._block.running, 0.0)
                self._board.happened(name, state.next_item, "trips")
            else:
                self._state = MachineState(True, now_s, next_item=state.next_item + 1)
                self._board.set(self._block.running, 1.0)
                self._board.happened(name, state.next_item, "is repaired")

    def _fixed(self, state: MachineState) -> MachineState:
        if state.changes_s is not None:
            return state
        now_s = float(self._board.env.now)
        u_run, u_repair = self._streams(state.next_item).random(2)
        if state.is_running:  # exponential: how long it has run already tells nothing
            remaining_s = -_HOUR_S * self._block.mean_between_h * float(np.log1p(-u_run))
        else:
            age_s = None if state.since_s is None else now_s - state.since_s
            remaining_s = remaining_repair_s(self._block, u_repair, age_s)
        return replace(state, changes_s=now_s + remaining_s)


class TariffBlock:
    """A price that changes on the full hour, known as far ahead as the state says.

    `hour_start_s`: when the present full hour began, s since 1970 UTC.
    """

    def __init__(
        self, block: Tariff, state: TariffState, board: Board, hour_start_s: float
    ) -> None:
        self._block, self._board, self._hours = block, board, state.hours()
        self._first_s = hour_start_s
        self._show()
        board.env.process(self._live())

    def present(self) -> TariffState:
        """The block as it stands now."""
        known = [None if price != price else price for price in self._hours]
        hour = self._hour()
        last = len(known) - 1
        later = tuple(price for price in known[hour + 2 :] if price is not None)
        return TariffState(known[min(hour, last)], known[min(hour + 1, last)], later)

    def _live(self) -> Process:
        env = self._board.env
        while self._hour() < len(self._hours):
            yield env.timeout(self._first_s + (self._hour() + 1) * _HOUR_S - env.now)
            self._show()

    def _show(self) -> None:
        last = len(self._hours) - 1
        self._board.set(self._block.price, self._hours[min(self._hour(), last)])
        self._board.set(self._block.next, self._hours[min(self._hour() + 1, last)])

    def _hour(self) -> int:
        return int((self._board.env.now - self._first_s) // _HOUR_S)


def _between(bounds: tuple[float, float], u: float) -> float:
    return bounds[0] + float(u) * (bounds[1] - bounds[0])
