"""`check`, `schema`: the plant file."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from dashboard.cli.door import tell
from dashboard.cli.options import JsonOption, PlantArgument
from twin.plant import json_schema, read_plant


def check(plant: PlantArgument, as_json: JsonOption = False) -> None:
    """Read a plant file and report every fault.

    Each with file, line and remedy; also those of its physics.
    """
    from twin.physics import load_physics

    found = read_plant(plant)
    load_physics(found)
    roles = {
        role: sum(tag.role == role for tag in found.tags) for role in ("MV", "CV", "DV", "AUX")
    }
    counts = ", ".join(f"{count} {role}" for role, count in roles.items() if count)
    tell(
        as_json,
        {"plant": found.plant, "path": found.path, "tags": roles, "faults": []},
        f"{found.plant}: no faults. {len(found.tags)} tags: {counts}.",
    )


def schema(
    as_json: Annotated[bool, typer.Option("--json", help="It is JSON in any case.")] = False,
) -> None:
    """Print the JSON Schema of plant files, for editors."""
    print(json.dumps(json_schema(), indent=2))
