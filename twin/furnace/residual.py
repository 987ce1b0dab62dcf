"""The learned residual of a furnace: how far its zones are off their setpoints, and what they lose.

The equations let a zone reach its followed setpoint within a minute; real loops lag behind a ramp
and drop a few kelvin when colder slabs come, and doors open for them. All of that fades within half
an hour. What moved and what slabs draw is remembered as it fades, and a small net makes kelvin and
megawatts of it: zero at rest, bounded, and fading to zero outside what training has seen. Training
is `dynamics.zone_fitting`'s; torch stays there. Why this shape: docs/decisions/0010.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twin.furnace import kernel
from twin.records import Series

#: Time constants in which an input is remembered. Chosen on training seeds 1004–1007 among sets
#: from half a minute to 40 min: the loop's own lag, its reset, and between.
FADE_MIN = (1.0, 3.0, 8.0)

_Row = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ZoneResidual:
    """Everything that training found, as plain data; what features and answers are: `kernel.Loops`.

    `spread`, `highest` (feature), `linear` (answer, feature), `hidden` (unit, feature), `readout`
    (answer, unit), `most` (answer), `seen_c` (zone, lowest and highest). `error_share` (answer):
    RMSE of forecasts of the zone's temperature, and of its fuel, over those without the residual,
    on time that was not fitted.
    """

    spread: _Row
    highest: _Row
    linear: tuple[_Row, ...]
    hidden: tuple[_Row, ...]
    readout: tuple[_Row, ...]
    most: _Row
    seen_c: tuple[_Row, ...]
    error_share: _Row


@dataclass(frozen=True, slots=True)
class LoopState:
    """What the residual remembers at one moment, as plain data, and the residual itself.

    `memory` by feature, `drawn_mw` by zone, in the last minute. `residual` None: nothing was
    learned, or what was is not in use.
    """

    memory: tuple[float, ...]
    drawn_mw: tuple[float, ...]
    residual: ZoneResidual | None = None


def loops_of(state: LoopState | None, followed_c: Series) -> kernel.Loops:
    """The same as the compiled equations take it, while loops follow `followed_c` (zone).

    Without features where nothing was learned.
    """
    zones = len(followed_c)
    if state is None or state.residual is None:
        return _silent(zones)
    learned = state.residual
    loops = kernel.Loops(
        memory=np.array(state.memory),
        drawn_mw=np.array(state.drawn_mw),
        answer=np.zeros(2 * zones),
        trust=np.ones(1),
        fade_min=np.array(FADE_MIN),
        spread=np.array(learned.spread),
        highest=np.array(learned.highest),
        linear=np.array(learned.linear),
        hidden=np.array(learned.hidden).reshape(-1, len(learned.spread)),
        readout=np.array(learned.readout).reshape(2 * zones, -1),
        most=np.array(learned.most),
        seen_c=np.array(learned.seen_c),
    )
    kernel.answer(loops, followed_c)
    return loops


def forked(loops: kernel.Loops) -> kernel.Loops:
    """A copy whose memory goes its own way."""
    return loops._replace(
        memory=loops.memory.copy(),
        drawn_mw=loops.drawn_mw.copy(),
        answer=loops.answer.copy(),
        trust=loops.trust.copy(),
    )


class LoopWatch:
    """What the loops of one furnace are seen to do, remembered minute by minute.

    `is_new`: nothing has been seen yet, and there is no `state`.
    """

    def __init__(self, zones: int) -> None:
        self._zones = zones
        self.forget()

    def forget(self) -> None:
        """Minutes were not seen: as if nothing had moved for a long time."""
        memory = np.zeros(2 * self._zones * len(FADE_MIN))
        self._loops = _silent(self._zones)._replace(memory=memory, fade_min=np.array(FADE_MIN))
        self.is_new = True

    def see(self, moved_k: Series, drawn_w: Series) -> None:
        """A minute in which followed setpoints moved by `moved_k` and slabs drew `drawn_w`.

        The first is only what the next ones are compared with: what moved in it began unseen.
        """
        if self.is_new:
            self._loops.drawn_mw[:] = 1e-6 * drawn_w
            self.is_new = False
        else:
            kernel.remember(self._loops, moved_k, drawn_w)

    def state(self, residual: ZoneResidual | None) -> LoopState:
        """The memory as it is now, for `residual`."""
        return _plain(self._loops, residual)


def state_of(loops: kernel.Loops, residual: ZoneResidual | None) -> LoopState | None:
    """The plain data of `loops`, with the residual that they came from; None without one."""
    return None if residual is None else _plain(loops, residual)


def _plain(loops: kernel.Loops, residual: ZoneResidual | None) -> LoopState:
    return LoopState(tuple(loops.memory.tolist()), tuple(loops.drawn_mw.tolist()), residual)


def _silent(zones: int) -> kernel.Loops:
    none, per_answer = np.zeros(0), np.zeros((2 * zones, 0))
    return kernel.Loops(
        memory=none,
        drawn_mw=np.zeros(zones),
        answer=np.zeros(2 * zones),
        trust=np.ones(1),
        fade_min=none,
        spread=none,
        highest=none,
        linear=per_answer,
        hidden=np.zeros((0, 0)),
        readout=per_answer,
        most=np.zeros(2 * zones),
        seen_c=np.zeros((zones, 2)),
    )
