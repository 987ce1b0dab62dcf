"""The past that every arm of a furnace's comparison has, and what training on it puts to use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np

from twin.dynamics.lineup import TrainingReport, train, training_tags
from twin.plant import Plant
from twin.records import Samples
from twin.state import window

START = datetime(2026, 1, 5, tzinfo=UTC)
#: Seen before Plantwright steers or forecasts. Enough for a training (`twin.dynamics.record`): its
#: last 15 % hold runs of the whole horizon.
HISTORY_H = 36.0


def trained_on(
    plant: Plant, history: Mapping[str, Samples], until: datetime, hours: float, seed: int
) -> TrainingReport:
    """What training on the `hours` of `history` up to `until` finds.

    Raises ModelFault for a history too short to train on.
    """
    samples = {tag: history[tag] for tag in training_tags(plant, None)}
    rows = round(3600.0 * hours / plant.step_s)
    return train(plant, None, window(plant, samples, until, rows), seed=seed)


def joined(parts: Sequence[Mapping[str, Samples]]) -> dict[str, Samples]:
    """Samples by tag of stretches that follow each other, as of one; all have the same tags."""
    return {
        tag: Samples(
            np.concatenate([part[tag].times_s for part in parts]),
            np.concatenate([part[tag].values for part in parts]),
        )
        for tag in parts[0]
    }
