"""A furnace full of slabs at one moment, as plain data: tracking finds it, rollouts start from it.

Numbers are what the twin believes. A fork is a copy. Nothing here computes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from twin.furnace.residual import LoopState

#: How sure the mean of a slab is that was tracked all the way, emissivity apart; and the time in
#: which a wrong temperature fades by e. Measured on training seeds 1000–1005.
TRACKED_SD_K, FORGETS_MIN = 1.5, 60.0
#: Of a slab whose record is odd or missing: a neighbour's thickness makes 15 K at most.
DOUBT_SD_K = 12.0


@dataclass(frozen=True, slots=True)
class Slab:
    """One slab by its record. `number` 0: nobody knows which it is; `grade` −1: not described."""

    number: int
    thickness_m: float
    charge_c: float
    grade: int
    rate_t_per_h: float


@dataclass(frozen=True, slots=True)
class SlabState:
    """A slab inside: nodes from core to face and the face in °C, steel burned away squared.

    Temperatures are those of the plant file's emissivity; `per_emissivity_k` (node, then face) is
    what one per cent more since it was charged would have added. `sd_k` is how sure its mean
    temperature is, emissivity apart, `doubt` why it is less sure than usual, or "".

    What all slabs have in common halfway and lose again before the door is not in `sd_k`: in the
    colder two thirds the tracked mean is some 10 K too low (training seeds 1000–1003, after a day).
    """

    slab: Slab
    node_c: tuple[float, ...]
    face_c: float
    scale2: float
    per_emissivity_k: tuple[float, ...]
    sd_k: float
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class Stop:
    """A stop of the mill that is over: when it began, how long it lasted, what was first expected.

    `began_s` counts from 1970 UTC; `expected_s` is its crew's, NaN where nobody said.
    """

    began_s: float
    lasted_s: float
    expected_s: float


@dataclass(frozen=True, slots=True)
class StopBelief:
    """How long a stop lasts, and its crew's estimate over that; both log-normal.

    `past` is how many stops of this mill have been learned from.
    """

    median_s: float
    sigma: float
    estimate_factor: float
    estimate_sigma: float
    past: int


@dataclass(frozen=True, slots=True)
class MillState:
    """The mill: since when it stands (None: it rolls) and when its crew expects to go on.

    `due` is when it wants the next slab, as far as the last one and the last stop tell. `stops`
    None: nothing is known of stops beyond the plant file. `held_since`: since when the plant has
    held the slab at the door back as too cold; None: it does not. `unseen_since`: since when
    nothing has shown whether it rolls; None: it is shown.
    """

    stopped_since: datetime | None
    expected_restart: datetime | None
    due: datetime
    stops: StopBelief | None = None
    held_since: datetime | None = None
    unseen_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class ZoneState:
    """One zone: gas and wall °C, the setpoint its loop follows, fuel W, unexplained loss W."""

    gas_c: float
    wall_c: float
    followed_c: float
    fuel_w: float
    extra_w: float


@dataclass(frozen=True)
class FurnaceState:
    """Everything at `at`. `slabs` in the order in which they leave, `yard` as they will come.

    Every slot holds a slab: one of which nobody knows is taken to be like its neighbour, in doubt.
    `yard_doubts`: why a yard place is less sure than usual, or ""; shorter than `yard`: no doubts.

    `emissivity_percent` (grade) is what its slabs take up more than the plant file says (−1: a
    grade not described), `emissivity_sd_k` (grade) how unsure that makes a slab at the discharge
    door.
    `loops` is what the learned residual needs of the past; None: there is none. `faults` is what
    contradicts itself or cannot be.
    """

    at: datetime
    slabs: tuple[SlabState, ...]
    yard: tuple[Slab, ...]
    zones: tuple[ZoneState, ...]
    mill: MillState
    emissivity_percent: dict[int, float] = field(default_factory=dict)
    emissivity_sd_k: dict[int, float] = field(default_factory=dict)
    loops: LoopState | None = None
    yard_doubts: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
