"""How far the furnace's short forecasts can be trusted: the share that held in the last hour.

Every few minutes each zone's temperature is held against where the model would have taken it
along the setpoints as they came, and every slab that leaves against the pyrometer. A zone's band
is the wider the further the zone had to go (locally weighted: Lei et al., JASA 113 (2018) 1094) and
adapts so that nine of ten hold in the long run (Gibbs and Candès, NeurIPS 2021, adaptive conformal
inference), up to a width at which a forecast is of no use: beyond, the model stays untrusted
however long it has been wrong. Zones and slabs are scored apart, and the worse of both counts; a
zone that was mostly missed counts alone, for three right ones do not make it right.
"""

from __future__ import annotations

import math
from collections import deque
from datetime import datetime, timedelta

from twin.records import Series

_BAND = 1.645  # standard deviations of a central 90 % interval
_KEPT = timedelta(hours=1)
_FIRST_HALF_K = 5.0  # of a zone's band, before any error is known: a minute's ramp
#: Of the band per judged forecast: three misses double it. Chosen on training seed 1007.
_GAIN = 0.25
#: A zone that has so far to go is forecast twice as badly as one at rest. Chosen on seed 1007.
_DOUBLES_K = 8.0
_LEAST_HALF_K = 1.5  # the thermocouples' own noise
#: Chosen: 15 K in every zone move a slab by about its spec's half width, at 1.2 K per K.
_MOST_HALF_K = 15.0
#: A zone whose band is right is missed once in ten: seven of an hour's twelve once in 20,000 hours.
_MOSTLY, _FEWEST_OF_A_ZONE = 0.5, 6
#: Slabs leave some nine an hour, too few for a share: the last 30 are judged, from ten on.
_SLABS, _FEWEST_SLABS = 30, 10
#: How much wider than told a slab's band may grow: a pyrometer is off by some 3 K for a campaign.
_SLAB_GAIN, _WIDEST_SLAB = 0.1, 1.5


class SlabTrust:
    """One furnace's running score."""

    def __init__(self, zones: int) -> None:
        self._zones = range(zones)
        self._half_k = [_FIRST_HALF_K] * zones
        self._judged: deque[tuple[datetime, int, bool]] = deque()
        self._slabs: deque[bool] = deque(maxlen=_SLABS)
        self._slab_width = 1.0

    def judge_zones(self, at: datetime, forecast_c: Series, seen_c: Series, far_k: Series) -> None:
        """Take in what every zone came to, NaN where it was not seen, and how far it had to go."""
        for z, error_k in enumerate((seen_c - forecast_c).tolist()):
            if not math.isfinite(error_k):
                continue
            half_k = self._half_k[z] * (1.0 + abs(float(far_k[z])) / _DOUBLES_K)
            held = abs(error_k) <= min(half_k, _MOST_HALF_K)
            self._judged.append((at, z, held))
            moved = self._half_k[z] * math.exp(_GAIN * ((0.0 if held else 1.0) - 0.1))
            self._half_k[z] = min(max(moved, _LEAST_HALF_K), _MOST_HALF_K)

    def judge_slab(self, missed_k: float, sd_k: float) -> None:
        """Take in what the pyrometer showed of a slab; `sd_k` counts the pyrometer's own noise."""
        if math.isfinite(missed_k):
            held = abs(missed_k) <= self._slab_width * _BAND * sd_k
            self._slabs.append(held)
            moved = self._slab_width * math.exp(_SLAB_GAIN * ((0.0 if held else 1.0) - 0.1))
            self._slab_width = min(max(moved, 1.0), _WIDEST_SLAB)

    def score(self, at: datetime) -> tuple[float | None, int]:
        """Share that held, and of how many; None of none.

        The smallest of these: that of all zones in the hour up to `at`; that of a zone which held
        in fewer than half of its own; that of the last slabs that left.
        """
        while self._judged and self._judged[0][0] <= at - _KEPT:
            self._judged.popleft()
        shares = []
        if self._judged:
            shares.append(sum(held for _, _, held in self._judged) / len(self._judged))
            shares += [share for share in self._zone_shares() if share < _MOSTLY]
        if len(self._slabs) >= _FEWEST_SLABS:
            shares.append(sum(self._slabs) / len(self._slabs))
        return min(shares, default=None), len(self._judged) + len(self._slabs)

    def _zone_shares(self) -> list[float]:
        """Of each zone that was judged often enough, the share of its own that held."""
        by_zone = [[held for _, z, held in self._judged if z == zone] for zone in self._zones]
        return [sum(each) / len(each) for each in by_zone if len(each) >= _FEWEST_OF_A_ZONE]
