"""How long the mill stands: what past stops teach, and how much is left of the present one.

Stops last log-normally. The plant file's figures count like a number of past stops; those that the
records show move them. What is left of a stop is what its age and its crew's estimate leave.
Nothing here says when the next stop begins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from scipy.special import log_ndtr, ndtr, ndtri

from twin.furnace.state import FurnaceState, Stop, StopBelief
from twin.plant.furnace import Mill
from twin.records import Series, Window

#: Past stops that the plant file's figures are worth: some two days of stops. After a week the
#: records weigh four times as much; after a shift they hardly count.
_PRIOR_STOPS = 10.0
#: An estimate that so few stops would outlast by now is refuted and counts no more. Chosen: one
#: stop in fifty; with it, a stop that was to last half an hour has lasted for nearly an hour.
_REFUTED = 0.02
#: A stop that began longer ago, or an estimate of one that lasts longer, is a clock set wrong.
#: Chosen: a month, more than any repair; a furnace is cold long before.
LONGEST_S = 31 * 86_400.0
_SHORTEST_S = 30.0  # an estimate below is none: half a minute is how well a stop's end is seen
_CLOCKS_S = 300.0  # the plant's clock against ours; chosen: more would be told as stale readings
#: So long after it began a stop may be declared, or shown again after a flicker of the bit, where
#: nobody knows when slabs left. Chosen: three times the slowest slab's time.
_LATE_S = 1800.0
_KEPT = 200  # past stops: some forty days of them, twenty times what the plant file counts for
_TINY = 1e-290  # a chance below this is none


class StopRecord:
    """The stops of a mill, seen minute by minute, after those `known` before; the newest are kept.

    A stop is known by its beginning: one seen twice counts once.
    """

    def __init__(self, known: Sequence[Stop] = ()) -> None:
        self._by_begin = {stop.began_s: stop for stop in known}
        self._began_s = self._expected_s = math.nan  # of the newest stop
        self._is_watched = False  # that stop, minute by minute: its end will be seen
        self._is_refuted = False  # a slab has left in it: until it rolls, nothing is a stop
        self._refuted_s = -math.inf  # a stop that began then, or before, is over
        self._rolled_s = self._stood_s = -math.inf  # when the mill was last seen to
        self._left_s = -math.inf  # when a slab was last seen leaving

    @property
    def past(self) -> tuple[Stop, ...]:
        """Those that are over, in the order in which they began."""
        return tuple(self._by_begin[began_s] for began_s in sorted(self._by_begin))

    def see(self, at: datetime, running: float, stopped_at_s: float, restart_s: float) -> bool:
        """One minute of `mill.running`, `mill.stopped_at` and `mill.expected_restart`.

        A stop counts when its beginning is on record and its end was seen. Of several estimates
        the first counts: later ones know how long it has lasted already. True when one is over.
        """
        now_s = at.timestamp()
        if not math.isfinite(running):
            self.lose_sight()
        elif running < 0.5 and not self._is_refuted:
            if stopped_at_s <= now_s and self.may_begin(at, stopped_at_s):
                self._stands(stopped_at_s, restart_s - stopped_at_s)
            self._stood_s = now_s
        elif running >= 0.5:
            self._rolled_s, self._is_refuted = now_s, False
            if self._is_watched:
                self._is_watched = False
                # It ended in the minute before: half of it is the best guess.
                lasted_s = max(now_s - 30.0 - self._began_s, 30.0)
                self._by_begin[self._began_s] = Stop(self._began_s, lasted_s, self._expected_s)
                if len(self._by_begin) > _KEPT:
                    del self._by_begin[min(self._by_begin)]
                return True
        return False

    def slab_left(self, at: datetime, *, refutes: bool) -> None:
        """A slab was seen leaving; it `refutes` a stop that `mill.running` still shows.

        Such a stop teaches nothing, nor does any until the mill is seen rolling: when it ended, or
        whether it was one, was not seen.
        """
        self._left_s = at.timestamp()
        if refutes:
            self._is_watched, self._is_refuted = False, True
            if math.isfinite(self._began_s):
                self._refuted_s = self._began_s

    def may_begin(self, at: datetime, stopped_at_s: float) -> bool:
        """Whether the stop that is seen at `at` can have begun then.

        Not weeks ago, and neither before the last slab left nor before an earlier stop was over;
        `mill.running` may show 1 for minutes more, and may flicker. Where no slab was seen leaving,
        it has to show 0 within half an hour.
        """
        earliest_s = max(at.timestamp() - LONGEST_S, 0.0, self._left_s - _CLOCKS_S)
        if not stopped_at_s >= earliest_s or stopped_at_s <= self._refuted_s:
            return False
        if self._was_seen_lately(at.timestamp(), stopped_at_s):
            return True
        before_s = max((each for each in self._by_begin if each < stopped_at_s), default=None)
        if before_s is not None:
            over_s = before_s + self._by_begin[before_s].lasted_s
            if stopped_at_s < over_s - _CLOCKS_S:
                return False
        return math.isfinite(self._left_s) or stopped_at_s >= self._rolled_s - _LATE_S

    def _was_seen_lately(self, now_s: float, stopped_at_s: float) -> bool:
        """Whether a stop that began then is on record, and the bit has only flickered since."""
        stood_s = self._stood_s if stopped_at_s == self._began_s else -math.inf
        if stopped_at_s in self._by_begin:
            stood_s = max(stood_s, stopped_at_s + self._by_begin[stopped_at_s].lasted_s)
        return now_s - stood_s <= _LATE_S

    def _stands(self, began_s: float, expected_s: float) -> None:
        """In a stop that began then; its crew expects it to last for `expected_s`, if anything."""
        if began_s != self._began_s:
            self._began_s, self._expected_s = began_s, math.nan
        self._is_watched = True
        if not math.isfinite(self._expected_s) and _SHORTEST_S <= expected_s <= LONGEST_S:
            self._expected_s = expected_s

    def follow(self, mill: Mill, past: Window) -> None:
        """Every minute of `past`, which comes after those seen."""
        tags = (mill.running, mill.stopped_at, mill.expected_restart)
        rows = np.column_stack([past.values[tag] for tag in tags])
        for row, values in enumerate(rows.tolist()):
            self.see(past.end - timedelta(seconds=(past.rows - 1 - row) * past.step_s), *values)

    def lose_sight(self) -> None:
        """Minutes are missing: a stop that is over after them was not seen to end.

        One that still stands, by its beginning, is watched on.
        """
        self._is_watched = False


def stop_belief(mill: Mill, past: Sequence[Stop] = ()) -> StopBelief:
    """What the plant file and past stops say about the next one.

    Conjugate for a normal variable of unknown mean and variance, for the logarithm of how long
    stops last and for that of the crew's estimate over it (Gelman et al., Bayesian Data Analysis,
    3rd ed., section 3.3); what is left unsure of the mean widens the spread.
    """
    lasted = np.array([stop.lasted_s for stop in past])
    told = np.array([stop.expected_s for stop in past])
    known = np.isfinite(told)
    middle = math.log(60.0 * mill.stop_mean_min) - mill.stop_sigma**2 / 2
    mean, sigma = _updated(middle, mill.stop_sigma, np.log(lasted))
    bias, estimate_sigma = _updated(0.0, mill.estimate_sd, np.log(told[known] / lasted[known]))
    return StopBelief(math.exp(mean), sigma, math.exp(bias), estimate_sigma, len(past))


@dataclass(frozen=True, slots=True)
class Remaining:
    """How much longer a stop lasts: log-normal by its whole length, known to exceed `age_s`."""

    median_s: float
    sigma: float
    age_s: float

    def beyond(self) -> float:
        """Which share of such stops has lasted for as long as this one, or will."""
        return float(ndtr(-self._age_z())) if self.age_s > 0 else 1.0

    def mean_s(self) -> float:
        """The mean of what is left."""
        return mean_beyond(self.median_s, self.sigma, self.age_s) - self.age_s

    def quantile_s(self, share: float) -> float:
        """What is left in `share` of cases at most; 0 ≤ share < 1."""
        return float(self.samples_s(np.array([share]))[0])

    def samples_s(self, uniform: Series) -> Series:
        """What is left for numbers drawn evenly from [0, 1): equal numbers, equal luck."""
        beyond = self.beyond()
        if beyond < _TINY:
            # So far in the tail the excess is exponential, with a hazard of z / (sigma age).
            scale_s = self.age_s * self.sigma / self._age_z()
            left: Series = -scale_s * np.log1p(-uniform)
            return left
        z = -ndtri(beyond * (1.0 - uniform))
        left = self.median_s * np.exp(self.sigma * z) - self.age_s
        return np.maximum(left, 0.0)

    def _age_z(self) -> float:
        return (math.log(self.age_s) - math.log(self.median_s)) / self.sigma


def remaining(mill: Mill, state: FurnaceState) -> Remaining | None:
    """How much longer the mill stands; None while it rolls.

    The crew's estimate is a reading of the stop's length with a log-normal error, what is believed
    of stops is its prior: their logarithms weigh by their precisions. Without an estimate, or with
    one that the stop has refuted by its age, the prior is all there is.
    """
    since, restart = state.mill.stopped_since, state.mill.expected_restart
    if since is None:
        return None
    age_s = max(0.0, (state.at - since).total_seconds())
    belief = state.mill.stops or stop_belief(mill)
    untold = Remaining(belief.median_s, belief.sigma, age_s)
    mean, precision = math.log(belief.median_s), belief.sigma**-2
    if restart is not None and restart > since:
        expected = math.log((restart - since).total_seconds() / belief.estimate_factor)
        weight = belief.estimate_sigma**-2
        mean = (precision * mean + weight * expected) / (precision + weight)
        precision += weight
    told = Remaining(math.exp(mean), precision**-0.5, age_s)
    return told if told.beyond() >= _REFUTED else untold


def remaining_stop_s(mill: Mill, state: FurnaceState) -> float | None:
    """The mean of what is left of the present stop; None while the mill rolls."""
    left = remaining(mill, state)
    return None if left is None else left.mean_s()


def mean_beyond(median: float, sigma: float, age: float) -> float:
    """Mean of a log-normal variable known to exceed `age`."""
    whole = math.log(median) + sigma**2 / 2
    if age <= 0.0:
        return math.exp(whole)
    z = (math.log(age) - math.log(median)) / sigma
    return math.exp(whole + float(log_ndtr(sigma - z)) - float(log_ndtr(-z)))


def _updated(mean: float, sigma: float, seen: Series) -> tuple[float, float]:
    """Predictive mean and spread of a normal variable after `seen`."""
    count, weight = len(seen), _PRIOR_STOPS + len(seen)
    if not count:
        return mean, sigma
    of_seen = float(seen.mean())
    squares = _PRIOR_STOPS * sigma**2 + float(((seen - of_seen) ** 2).sum())
    squares += _PRIOR_STOPS * count / weight * (of_seen - mean) ** 2
    new_mean = (_PRIOR_STOPS * mean + count * of_seen) / weight
    return new_mean, math.sqrt(squares / weight * (1.0 + 1.0 / weight))
