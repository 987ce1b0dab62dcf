"""How likely a slab leaves in spec, or cold: a rollout's passage and how far off rollouts are.

Errors of mean, difference and surface are taken to be normal and independent. Which stops and slabs
come is not in them: that is the simulation's, or the planner's scenarios.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from twin.furnace.rollout import Passage
from twin.furnace.state import DOUBT_SD_K, FORGETS_MIN, TRACKED_SD_K, FurnaceState
from twin.plant.furnace import SlabSpec
from twin.records import Series


@dataclass(frozen=True)
class ModelError:
    """How far slabs leave from what a rollout of the real setpoints and stops said of them.

    `mean_sd_k` of the mean temperature by `minutes` until it leaves; bias and sd of the difference
    between face and core, and of the hottest face. `emissivity_sd_k` is in `mean_sd_k` already.
    """

    minutes: tuple[float, ...]
    mean_sd_k: tuple[float, ...]
    difference_k: tuple[float, float]
    surface_k: tuple[float, float]
    emissivity_sd_k: float


#: Training seeds 1000–1005, 10 to 36 h after tracking began, a rollout every 20 min along the
#: setpoints that were given and the slabs that left: 13,930 slabs. Setpoints decide where slabs go,
#: so the error hardly grows: sd by minutes until it leaves 0–5 1.72, 15–30 1.72, 30–60 1.75,
#: 90–120 1.77, 180–240 1.78 K; its mean was never above 0.1 K. The hottest face is hotter than the
#: computed one because skids shade only one side.
MEASURED = ModelError(
    minutes=(0.0, 30.0, 120.0, 240.0),
    mean_sd_k=(1.72, 1.74, 1.77, 1.78),
    difference_k=(0.2, 1.15),
    surface_k=(2.1, 1.5),
    emissivity_sd_k=1.4,
)


def leaving_sd_k(
    state: FurnaceState, leaves: Sequence[int], error: ModelError = MEASURED
) -> Series:
    """How sure a rollout's mean temperature is of each slab that leaves (`Rollout`'s order).

    What tracking is unsure of beyond the usual fades on the way, unless the slab's record is in
    doubt: then it stays. Slabs that come are as sure as their records; those behind the last
    record are taken to be like it, in doubt.
    """
    minutes = np.asarray(leaves, dtype=np.float64)
    square = np.square(np.interp(minutes, error.minutes, error.mean_sd_k))
    coming = state.yard or (state.slabs[-1].slab,)
    for i, until in enumerate(minutes):
        inside = state.slabs[i] if i < len(state.slabs) else None
        behind = min(max(i - len(state.slabs), 0), len(coming) - 1)
        grade = (inside.slab if inside is not None else coming[behind]).grade
        of_grade = state.emissivity_sd_k.get(grade, 0.0)
        square[i] += max(of_grade**2 - error.emissivity_sd_k**2, 0.0)
        if inside is None:
            square[i] += DOUBT_SD_K**2 if _is_doubtful(state, i - len(state.slabs)) else 0.0
        else:
            unusual = max(inside.sd_k**2 - TRACKED_SD_K**2, 0.0)
            fades = 1.0 if inside.doubt else float(np.exp(-2.0 * until / FORGETS_MIN))
            square[i] += unusual * fades
    return np.sqrt(square)


def _is_doubtful(state: FurnaceState, place: int) -> bool:
    """Whether nobody knows for sure which slab comes from the yard's `place`, counted from 0."""
    doubts = state.yard_doubts
    return place >= len(state.yard) or (place < len(doubts) and doubts[place] != "")


def in_spec_chance(
    spec: SlabSpec, passage: Passage, sd_k: Series, error: ModelError = MEASURED
) -> Series:
    """Chance (slab) that mean, difference and surface are all in spec; `sd_k` of the mean."""
    low, high = spec.mean_c
    mean = ndtr((high - passage.mean_c) / sd_k) - ndtr((low - passage.mean_c) / sd_k)
    bias, sd = error.difference_k
    difference = ndtr((spec.difference_k - passage.difference_k - bias) / sd)
    bias, sd = error.surface_k
    surface = ndtr((spec.surface_c - passage.surface_c - bias) / sd)
    chance: Series = mean * difference * surface
    return chance


def cold_chance(spec: SlabSpec, passage: Passage, sd_k: Series) -> Series:
    """Chance (slab) that the mean is below spec."""
    chance: Series = ndtr((spec.mean_c[0] - passage.mean_c) / sd_k)
    return chance
