"""Trained models on disk: one folder per version, never changed once it is there.

A version holds `weights.safetensors` and `card.json` and is named by their content, so a
damaged file is noticed before it steers anything. Loading needs numpy only, never torch. Which
version is active is kept in the historian.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from twin.dynamics.arx import Arx, ArxWeights
from twin.dynamics.card import Card, card_from_json, fingerprint
from twin.dynamics.frames import Array, Signals, signals_of
from twin.dynamics.models import (
    ARX,
    PERSISTENCE,
    PHYSICS,
    PHYSICS_BIAS,
    PHYSICS_RESIDUAL,
    FurnaceModel,
    Model,
    Persistence,
    PhysicsModel,
)
from twin.dynamics.residual import Residual, ResidualWeights
from twin.errors import ModelFault
from twin.furnace.residual import ZoneResidual
from twin.physics import Physics, stepper
from twin.plant import Plant

_WEIGHTS, _CARD = "weights.safetensors", "card.json"
_DIGITS = 12  # of the content's SHA-256 in a version's name


@dataclass(frozen=True)
class StoredModel:
    """A version ready for inference: the promoted model and its card."""

    version: str
    card: Card
    model: Model | FurnaceModel

    @property
    def residual(self) -> Residual | None:
        """The learned rate, if the promoted model carries one."""
        return self.model.residual if isinstance(self.model, PhysicsModel) else None

    @property
    def zone_residual(self) -> ZoneResidual | None:
        """What was learned of a furnace's zones, if the promoted model carries it."""
        return self.model.residual if isinstance(self.model, FurnaceModel) else None


def save(folder: Path, card: Card, models: Mapping[str, Model | FurnaceModel]) -> str:
    """Store a trained line-up; its version's name. Storing the same again changes nothing sound.

    A version appears whole or not at all, also when the machine stops in the middle.
    """
    tensors: dict[str, Array] = {}
    for name, model in models.items():
        if isinstance(model, Arx):
            tensors |= _named(name, asdict(model.weights))
        elif isinstance(model, PhysicsModel) and model.residual is not None:
            tensors |= _named(name, asdict(model.residual.weights))
        elif isinstance(model, FurnaceModel) and model.residual is not None:
            arrays = {key: np.array(values) for key, values in asdict(model.residual).items()}
            tensors |= _named(name, arrays)
    weights, text = save_tensors(tensors), card.to_json().encode()
    version = _version(card.plant, text, weights)
    if _is_intact(folder, version):
        return version
    folder.mkdir(parents=True, exist_ok=True)
    # A damaged version of the same content: training again is what its reader was told to do.
    shutil.rmtree(folder / version, ignore_errors=True)
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=folder))
    try:
        _write(part / _WEIGHTS, weights)
        _write(part / _CARD, text)
        part.chmod(0o755)
        os.rename(part, folder / version)
    except OSError:
        shutil.rmtree(part, ignore_errors=True)
        if not _is_intact(folder, version):  # another process may just have stored the same
            raise
    return version


def load(folder: Path, version: str, plant: Plant, physics: Physics | None) -> StoredModel:
    """The promoted model of a version, for this plant and these equations.

    Raises:
        ModelFault: the version is missing, incomplete or damaged, or was trained for another
            plant, other tags or other equations.
    """
    try:
        text, weights = _read(folder, version)
    except OSError as fault:
        known = ", ".join(versions(folder)) or "none"
        raise ModelFault(
            f"Model {version}: {fault.strerror or fault}: {fault.filename}. "
            f"Stored versions: {known}. Choose one of them or train again."
        ) from fault
    card = card_from_json(text.decode(errors="replace"))
    if _version(card.plant, text, weights) != version:
        raise ModelFault(
            f"Model {version} is damaged: its files no longer have the content it is named by. "
            "Choose another version or train again."
        )
    _check_fits(card, version, plant, physics)
    try:
        tensors = load_tensors(weights)
        model = _model(card, tensors, plant, physics)
    except (SafetensorError, KeyError) as fault:
        raise ModelFault(
            f"Model {version}: the weights lack {fault}. Train again with this release."
        ) from fault
    return StoredModel(version, card, model)


def versions(folder: Path) -> tuple[str, ...]:
    """Every complete version in the folder, in the order of their names."""
    if not folder.is_dir():
        return ()
    return tuple(
        sorted(p.name for p in folder.iterdir() if p.name[0] != "." and (p / _CARD).is_file())
    )


def _read(folder: Path, version: str) -> tuple[bytes, bytes]:
    """Card and weights as they are stored."""
    return (folder / version / _CARD).read_bytes(), (folder / version / _WEIGHTS).read_bytes()


def _is_intact(folder: Path, version: str) -> bool:
    """Whether the version is stored and still has the content it is named by."""
    try:
        text, weights = _read(folder, version)
    except OSError:
        return False
    return _version(version.rpartition("-")[0], text, weights) == version


def _check_fits(card: Card, version: str, plant: Plant, physics: Physics | None) -> None:
    signals = signals_of(plant, physics)
    pairs = (
        ("plant", card.plant, plant.plant),
        ("levels", card.levels, signals.levels),
        ("inputs", card.inputs, signals.inputs),
        ("CVs", card.cvs, signals.cvs),
        ("step", card.step_s, plant.step_s),
        ("equations", card.physics, fingerprint(plant, physics)),
    )
    for what, trained, present in pairs:
        if trained != present:
            raise ModelFault(
                f"Model {version} was trained for another {what}: {trained}, here it is "
                f"{present}. Train again or choose another version."
            )


def _model(
    card: Card, tensors: Mapping[str, Array], plant: Plant, physics: Physics | None
) -> Model | FurnaceModel:
    signals = Signals(card.levels, card.inputs, card.cvs)
    name = card.promoted
    if name == PERSISTENCE:
        return Persistence(signals)
    is_equations = name in (PHYSICS, PHYSICS_BIAS, PHYSICS_RESIDUAL)
    if is_equations and plant.furnace is not None:
        return FurnaceModel(name, _zone_residual(tensors) if name == PHYSICS_RESIDUAL else None)
    if name == ARX:
        return Arx(signals, ArxWeights(**_unnamed(ARX, tensors, ArxWeights)))
    if physics is None or not is_equations:
        raise ModelFault(f"{card.plant}: no model is called {name}. Train again.")
    step = stepper(plant, physics)
    if name == PHYSICS:
        return PhysicsModel(signals, step)
    if name == PHYSICS_BIAS:
        return PhysicsModel(signals, step, learns_bias=True)
    weights = ResidualWeights(**_unnamed(PHYSICS_RESIDUAL, tensors, ResidualWeights))
    return PhysicsModel(signals, step, learns_bias=True, residual=Residual(step, weights))


def _zone_residual(tensors: Mapping[str, Array]) -> ZoneResidual:
    arrays = _unnamed(PHYSICS_RESIDUAL, tensors, ZoneResidual)
    return ZoneResidual(**{key: _plain(values.tolist()) for key, values in arrays.items()})


def _plain(values: Any) -> Any:
    """Lists within lists as tuples."""
    return tuple(map(_plain, values)) if isinstance(values, list) else values


def _named(model: str, weights: Mapping[str, Array]) -> dict[str, Array]:
    return {f"{model}/{name}": np.ascontiguousarray(values) for name, values in weights.items()}


def _unnamed(
    model: str,
    tensors: Mapping[str, Array],
    kind: type[ArxWeights | ResidualWeights | ZoneResidual],
) -> dict[str, Array]:
    return {field.name: tensors[f"{model}/{field.name}"] for field in fields(kind)}


def _version(plant: str, card: bytes, weights: bytes) -> str:
    content = hashlib.sha256(hashlib.sha256(card).digest() + hashlib.sha256(weights).digest())
    return f"{plant}-{content.hexdigest()[:_DIGITS]}"


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
