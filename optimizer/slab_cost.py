"""What a furnace's passage costs: fuel, stored heat, scale and slabs out of spec, all in money.

Two views of the same prices. `money` is the expectation that people are told. `judge` is what a
plan is sought by: a chance has no slope far from its limit, so a slab outside its aim costs by the
square of the distance instead, as much as an even chance at the spec's limit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optimizer.rti import Judged
from twin.furnace.chances import MEASURED, in_spec_chance, leaving_sd_k
from twin.furnace.numbers import STORED_WORTH
from twin.furnace.rollout import Passage
from twin.furnace.state import FurnaceState
from twin.plant.furnace import Furnace
from twin.records import Series

_J_PER_MWH = 3.6e9
_FACES = 2.0  # of a slab that scale grows on
#: The least width that two margins leave between them, as a share of the spec's.
_LEAST_AIM = 0.2


@dataclass(frozen=True)
class Pricing:
    """What is weighed besides the plant file's prices. Chosen on training seeds 1004-1007."""

    #: A slab is aimed so many standard deviations inside its spec.
    sureness: float = 1.9
    #: Standard deviation of what stops and slabs that nobody knows yet do to a slab's mean, to the
    #: difference inside it and to its surface.
    coming_sd_k: tuple[float, float, float] = (4.0, 1.3, 5.0)
    gap_price: float = 0.08  # money/K² between a setpoint and the gas at a block's end
    gap_free_k: float = 2.0


@dataclass(frozen=True)
class Aim:
    """How sure each slab that leaves is, and how far inside its spec it is aimed. (slab), K."""

    sd_k: Series
    mean_k: Series
    difference_k: Series
    surface_k: Series


class SlabCost:
    """Prices of one furnace."""

    def __init__(self, furnace: Furnace, pricing: Pricing) -> None:
        self.spec = furnace.spec
        self.pricing = pricing
        self._surface_k = pricing.sureness * math.hypot(
            pricing.coming_sd_k[2], MEASURED.surface_k[1]
        )
        self._face_m2 = furnace.face_m2

    def aim(self, state: FurnaceState, leaves: Sequence[int]) -> Aim:
        """Where slabs that leave in `leaves` (steps, as a `Rollout`'s) are aimed.

        The less sure a slab is, the further inside; a record in doubt takes the middle.
        """
        spec, sureness = self.spec, self.pricing.sureness
        mean, difference, _ = self.pricing.coming_sd_k
        sd_k = np.hypot(leaving_sd_k(state, leaves), mean)
        widest = 0.5 * (1.0 - _LEAST_AIM) * (spec.mean_c[1] - spec.mean_c[0])
        count = len(leaves)
        return Aim(
            sd_k,
            np.minimum(sureness * sd_k, widest),
            np.full(count, sureness * math.hypot(difference, MEASURED.difference_k[1])),
            np.full(count, self._surface_k),
        )

    def judge(self, passage: Passage, aim: Aim, gaps_k: Series) -> Judged:
        """Money as a sum of a linear part and squares; `gaps_k` between setpoints and gas.

        A setpoint that the gas does not reach moves nothing, and a plan would lose its way back
        from there: what parts them costs a little. The hottest face of all on the way counts as
        one slab's.
        """
        spec = self.spec
        low, high = spec.mean_c
        outside = np.concatenate(
            [
                (low - passage.mean_c) / aim.mean_k + 1.0,
                (passage.mean_c - high) / aim.mean_k + 1.0,
                (passage.difference_k - spec.difference_k) / aim.difference_k + 1.0,
                (passage.surface_c - spec.surface_c) / aim.surface_k + 1.0,
                [(passage.hottest_c - spec.surface_c) / self._surface_k + 1.0],
            ]
        )
        off_spec = math.sqrt(0.5 * spec.off_spec_price) * np.maximum(outside, 0.0)
        gaps = np.maximum(np.abs(gaps_k) - self.pricing.gap_free_k, 0.0)
        residuals = [off_spec, math.sqrt(self.pricing.gap_price) * gaps]
        return Judged(self._heat_and_scale(passage), np.concatenate(residuals))

    def money(self, passage: Passage, aim: Aim, begins_with_j: float = 0.0) -> float:
        """What a passage is expected to cost, less what the heat is worth that it adds to store."""
        begins_with = self._worth(begins_with_j)
        return begins_with + self._heat_and_scale(passage) + self.off_spec(passage, aim)

    def off_spec(self, passage: Passage, aim: Aim) -> float:
        """The money that slabs out of spec are expected to cost."""
        chance = in_spec_chance(self.spec, passage, aim.sd_k)
        return self.spec.off_spec_price * float((1.0 - chance).sum())

    def _worth(self, stored_j: float) -> float:
        """The money that heat in store saves in fuel."""
        return STORED_WORTH * stored_j / _J_PER_MWH * self.spec.fuel_price_per_mwh

    def _heat_and_scale(self, passage: Passage) -> float:
        mwh = 60.0 * float(passage.fuel_w.sum()) / _J_PER_MWH
        burned_t = _FACES * float(passage.scale_kg_per_m2.sum()) * self._face_m2 / 1000.0
        burned = mwh * self.spec.fuel_price_per_mwh + burned_t * self.spec.steel_price_per_t
        return burned - self._worth(passage.stored_j)
