"""The stored past as training may see it: without unfilled gaps and without bad data.

Training and the record of the mill's stops read it here. What follows the present (planning,
trust, a study's start) learns from `Historian.not_to_follow`, which leaves a gap that still lasts
to the tags' ages. What is made of the past is `record`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from twin.historian import Historian
from twin.plant import Plant
from twin.records import Window
from twin.state import window, window_start


def past_to_learn(
    plant: Plant,
    historian: Historian,
    tags: Sequence[str],
    end: datetime,
    rows: int,
    step_s: float | None = None,
) -> Window:
    """The `rows` rows up to `end` of the tags, `step_s` (else the plan step) apart.

    NaN wherever a tag lies in an unfilled gap or in a period that somebody annotated as bad data:
    no reading from inside is in any row, and no value is held into one.
    """
    start = window_start(plant, end, rows, step_s)
    samples = historian.samples(plant, tags, start, end)
    away = historian.not_to_learn(plant, tags, start, end)
    return window(plant, samples, end, rows, step_s, broken=away)
