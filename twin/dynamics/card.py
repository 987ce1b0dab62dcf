"""The score card: everything that is written about a trained line-up, and stored beside it.

Plain frozen data that survives a round trip through JSON. It states facts of one training; who
is active at present is the historian's to say.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from twin.dynamics.models import PHYSICS_BIAS, PHYSICS_RESIDUAL
from twin.errors import ModelFault
from twin.physics import Physics
from twin.plant import Plant


@dataclass(frozen=True)
class Band:
    """How far readings lay from a model's line: 5 % and 95 % quantiles of reading − line.

    From free runs over data the model was not fitted to. `low[tag][k]` and `high[tag][k]` belong
    to the horizon `horizons_s[k]`.
    """

    horizons_s: tuple[float, ...]
    low: Mapping[str, tuple[float, ...]]
    high: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Card:
    """What was trained, on what, and how good it was on time held out.

    `line_up[model][horizon_s][cv]`: RMSE of free runs with realised inputs, in the CV's unit.
    `scores[model]`: mean of RMSE over the CV's spread, over all CVs and horizons. `bands[model]`:
    its errors at every step, for the forecast's fan; their first step is the 90 % band of the
    one-step-ahead error. `support[tag]`: range of the data it was fitted to. `physics`:
    fingerprint of the equations it was trained beside. Rows before `fitted_until` were fitted,
    those up to `validated_until` chose, the rest judged.
    """

    plant: str
    promoted: str
    reason: str
    levels: tuple[str, ...]
    inputs: tuple[str, ...]
    cvs: tuple[str, ...]
    physics: str | None
    data_start: datetime
    data_end: datetime
    fitted_until: datetime
    validated_until: datetime
    rows: int
    step_s: float
    context_rows: int
    horizon_steps: int
    seed: int
    versions: Mapping[str, str]
    line_up: Mapping[str, Mapping[int, Mapping[str, float]]]
    scores: Mapping[str, float]
    bands: Mapping[str, Band]
    support: Mapping[str, tuple[float, float]]

    @property
    def twin_band(self) -> Band:
        """The band of the model that estimator and forecast run.

        Physics and bias, with the residual where it was promoted; the promoted model's own band
        for a plant without physics.
        """
        if self.promoted == PHYSICS_RESIDUAL or PHYSICS_BIAS not in self.bands:
            return self.bands[self.promoted]
        return self.bands[PHYSICS_BIAS]

    def facts(self) -> dict[str, Any]:
        """The card as plain JSON data, for the historian and for `--json`."""
        facts: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        return facts

    def to_json(self) -> str:
        """The card as JSON; `card_from_json` gives back an equal one."""
        return json.dumps(self.facts(), indent=1, sort_keys=True)


_ADAPTER: TypeAdapter[Card] = TypeAdapter(Card)


def card_from_json(text: str) -> Card:
    """Read what `Card.to_json` wrote; raises ModelFault for anything else."""
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as fault:
        first = fault.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "card"
        raise ModelFault(
            f"The model's card cannot be read: {where}: {first['msg']} "
            f"({fault.error_count()} faults). Train again or choose another version."
        ) from fault


def fingerprint(plant: Plant, physics: Physics | None) -> str | None:
    """A short name for a plant's equations: changes with their tags and nominal parameters.

    A furnace's equations are known by its block in the plant file, what it must deliver apart.
    """
    furnace = plant.furnace
    if furnace is not None:
        names = [field.name for field in fields(furnace) if field.name != "spec"]
        return _short([repr(getattr(furnace, name)) for name in names])
    if physics is None:
        return None
    return _short([physics.states, physics.inputs, physics.outputs, dict(physics.nominal)])


def _short(facts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
