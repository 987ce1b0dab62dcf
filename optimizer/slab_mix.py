"""The mix of slabs that comes, as a few groups of like ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from twin.furnace.rollout import conductivity_of
from twin.furnace.state import Slab
from twin.plant.furnace import Furnace
from twin.records import Series

#: Differences that count as equally large: m of thickness, K of charging temperature, share of
#: conductivity. Chosen on rollouts: each moves the discharge of a slab of 0.22 m by 8 to 12 K.
_ALIKE = (0.01, 100.0, 0.1)


@dataclass(frozen=True)
class SlabGroup:
    """Like slabs of the mix: one that stands for them, and which share of the mix they are."""

    slab: Slab
    share: float
    mean_c: float = math.nan
    difference_k: float = math.nan
    surface_c: float = math.nan
    in_spec_chance: float = math.nan


def coming_mix(furnace: Furnace, slabs: Sequence[Slab], most: int) -> tuple[SlabGroup, ...]:
    """`slabs` as at most `most` groups of like ones, the largest first.

    The two groups whose joining blurs least are joined until few enough are left (Ward, J. Am.
    Stat. Assoc. 58 (1963) 236).
    """
    kinds: dict[tuple[float, float, float, int], list[Slab]] = {}
    for slab in slabs:
        grade = conductivity_of(furnace, slab.grade)
        kinds.setdefault((slab.thickness_m, slab.charge_c, grade, slab.grade), []).append(slab)
    found = list(kinds.values())
    while len(found) > most:
        pairs = [(i, j) for i in range(len(found)) for j in range(i)]
        i, j = min(pairs, key=lambda pair: _blur(furnace, found[pair[0]], found[pair[1]]))
        found[j] = found[j] + found.pop(i)
    found.sort(key=len, reverse=True)
    return tuple(SlabGroup(_middle(each), len(each) / len(slabs)) for each in found)


def _place(furnace: Furnace, slabs: Sequence[Slab]) -> Series:
    at = [(s.thickness_m, s.charge_c, conductivity_of(furnace, s.grade)) for s in slabs]
    middle: Series = np.mean(at, axis=0) / np.array(_ALIKE)
    return middle


def _blur(furnace: Furnace, one: Sequence[Slab], other: Sequence[Slab]) -> float:
    apart = _place(furnace, one) - _place(furnace, other)
    return len(one) * len(other) / (len(one) + len(other)) * float(apart @ apart)


def _middle(slabs: Sequence[Slab]) -> Slab:
    """The group's most usual slab with its mean thickness, charging temperature and rate."""
    grades = [slab.grade for slab in slabs]
    usual = max(set(grades), key=grades.count)
    return replace(
        slabs[0],
        number=0,
        grade=usual,
        thickness_m=float(np.mean([slab.thickness_m for slab in slabs])),
        charge_c=float(np.mean([slab.charge_c for slab in slabs])),
        rate_t_per_h=float(np.mean([slab.rate_t_per_h for slab in slabs])),
    )
