"""Plant files with faults, and what a person is told of them. A tool of the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from twin.errors import PlantFileError
from twin.plant import read_plant

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


def faults_of(tmp_path: Path, text: str) -> list[str]:
    """Every fault of a plant file with this text, as a person reads it."""
    path = tmp_path / "plant.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PlantFileError) as told:
        read_plant(path)
    return [str(fault) for fault in told.value.faults]


def put_any_value(here: Any, data: st.DataObject) -> None:
    """Put a value of any kind at one place, at any depth, of what a plant file says."""
    while True:
        key = data.draw(st.sampled_from(list(here) if isinstance(here, dict) else range(len(here))))
        is_leaf = not isinstance(here[key], dict | list) or not here[key]
        if is_leaf or data.draw(st.booleans()):
            break
        here = here[key]
    here[key] = data.draw(_VALUES)
