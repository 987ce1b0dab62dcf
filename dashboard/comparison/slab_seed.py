"""Every arm of one seed of a furnace, for the headless demo: a part of what its benchmark runs."""

from __future__ import annotations

from dataclasses import dataclass

from dashboard.comparison.forecasts import PlannedErrors, RealisedErrors, planned_errors
from dashboard.comparison.slab_errors import SlabErrors, slab_forecast_errors
from dashboard.comparison.slabs import BASELINES, HOLD, OURS, PHYSICS_ONLY, SlabArm, run_arm
from twin.plant import Plant, Role
from twin.simulation.line import line_of

SEEDS, RUN_H = 3, 24.0  # 20 seeds of 48 h, as the claims have, would take ten times as long
ARMS = (HOLD, *BASELINES, PHYSICS_ONLY, OURS)
_FORK_EVERY_H = 4.0
_AHEAD_S = 3600.0  # of the forecasts that `slab_errors` judges


@dataclass(frozen=True)
class SlabSeed:
    """All arms of one seed over `hours`; forecast errors on what came, and under carried-out plans.

    `promoted` is what training on the history put to use.
    """

    seed: int
    hours: float
    arms: dict[str, SlabArm]
    promoted: str
    errors: dict[str, RealisedErrors]
    planned_errors: list[PlannedErrors]


def run_slab_seed(plant: Plant, seed: int, hours: float = RUN_H) -> SlabSeed:
    """Every arm over the same `hours`."""
    arms = {name: run_arm(plant, seed, name, hours=hours) for name in ARMS if name != OURS}
    ours = run_arm(plant, seed, OURS, hours=hours, fan_every_h=min(_FORK_EVERY_H, hours))
    assert ours.steered is not None
    fans = ours.steered.fans
    told = frozenset[str]() if not fans else fans[0][0].middle.keys()
    cvs = [tag.name for tag in plant.with_role(Role.CV) if tag.name in told]
    return SlabSeed(
        seed=seed,
        hours=hours,
        arms=arms | {OURS: ours},
        promoted=ours.planned_with,
        errors=_by_tag(plant, slab_forecast_errors(plant, seed, hours=hours)),
        planned_errors=planned_errors(cvs, plant.step_s, fans),
    )


def _by_tag(plant: Plant, errors: SlabErrors) -> dict[str, RealisedErrors]:
    """Model -> horizon -> CV -> errors; a slab's against what it really was."""
    furnace, _ = line_of(plant)
    return {
        arm: {
            _AHEAD_S: {
                furnace.pyrometer: each.real_k,
                furnace.fuel: each.fuel_mw,
                **{zone.temperature: each.zone_k[:, z] for z, zone in enumerate(furnace.zones)},
            }
        }
        for arm, each in errors.arms.items()
    }
