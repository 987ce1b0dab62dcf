"""What a plant is: tags, limits, economics, interlocks and the discrete part, read from YAML.

`read_plant` returns a checked, frozen `Plant` or raises PlantFileError with every fault of the
file. Nothing here talks to a plant, a database or a solver.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twin.errors import Fault, PlantFileError
from twin.plant.checking import ADAPTER, checked
from twin.plant.document import Finding, read_document
from twin.plant.endpoint import is_loopback, is_mqtt_address, is_opcua_address
from twin.plant.shape import (
    Batches,
    Block,
    Economics,
    Interlock,
    Limits,
    OrderSlot,
    Plant,
    Quantity,
    Relief,
    RemoteMode,
    Role,
    Tag,
    Tariff,
    Trips,
    WindUp,
    nearest,
)
from twin.plant.sources import Advisory, FileSource, MqttSource, OpcUaSource, Security, Source

__all__ = [
    "Advisory",
    "Batches",
    "Block",
    "Economics",
    "FileSource",
    "Interlock",
    "Limits",
    "MqttSource",
    "OpcUaSource",
    "OrderSlot",
    "Plant",
    "Quantity",
    "Relief",
    "RemoteMode",
    "Role",
    "Security",
    "Source",
    "Tag",
    "Tariff",
    "Trips",
    "WindUp",
    "is_loopback",
    "is_mqtt_address",
    "is_opcua_address",
    "json_schema",
    "nearest",
    "read_plant",
    "shipped_plants",
]

_SHIPPED = Path(__file__).parent.parent / "plants"


def shipped_plants() -> tuple[str, ...]:
    """The names of the plants that come with Plantwright."""
    return tuple(sorted(path.parent.name for path in _SHIPPED.glob("*/plant.yaml")))


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a plant file, for editors."""
    schema = ADAPTER.json_schema()
    schema["properties"].pop("path")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Plantwright plant file"
    return schema


def read_plant(path_or_name: str | Path) -> Plant:
    """Read a plant file, or a shipped plant by its name.

    Raises:
        PlantFileError: with every fault of the file: where, line, value, rule, what to do.
    """
    document, wrong = read_document(_path(path_or_name))
    content = {key: value for key, value in document.content.items() if isinstance(key, str)}
    for key in document.content:
        if not isinstance(key, str):
            wrong.append(Finding((), f"{key!r} is not a known key.", "Remove it."))
    if content.pop("path", None) is not None:
        wrong.append(Finding(("path",), "is not a known key.", "Remove it."))
    plant, broken = checked(document, content)
    if plant is None or wrong:
        raise PlantFileError(str(document.path), document.faults(wrong + broken))
    return plant


def _path(path_or_name: str | Path) -> Path:
    path = Path(path_or_name)
    if path.suffix or len(path.parts) != 1 or path.is_file():
        return path.resolve()
    shipped = shipped_plants()
    if path.name not in shipped:
        near = nearest(path.name, shipped).strip() or f"Shipped: {', '.join(shipped)}."
        fault = Fault(path.name, "is neither a plant file (.yaml) nor a shipped plant.", None, near)
        raise PlantFileError(str(path_or_name), [fault])
    return (_SHIPPED / path.name / "plant.yaml").resolve()
