"""The Python file beside a plant file that holds its equations: found, checked, imported.

It may import little, so that the same lines run under numpy, torch and a solver. That check keeps
honest files portable; it is no wall against hostile ones: a plant file is trusted like a program.
"""

from __future__ import annotations

import ast
import importlib.util
import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from twin.errors import Fault, PlantFileError

_NAMES = ("STATES", "INPUTS", "OUTPUTS")
_FUNCTIONS = ("actuators", "rates", "outputs")
_ALLOWED = (
    *("__future__", "collections", "collections.abc", "dataclasses", "functools", "itertools"),
    *("math", "types", "typing", "twin.errors", "twin.expressions", "twin.plant"),
)


def read_physics_file(path: Path) -> ModuleType:
    """The module with a plant's equations.

    Raises:
        PlantFileError: it is missing, does not run, imports what it must not, or lacks a part.
    """
    if not path.is_file():
        fault = Fault(
            path.name, "there is no such file.", remedy="Give `physics` from the plant file."
        )
        raise PlantFileError(str(path), [fault])
    return _module(path.resolve(), path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _module(path: Path, changed_ns: int) -> ModuleType:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    except SyntaxError as fault:
        broken = Fault(path.name, f"is not Python: {fault.msg}.", fault.lineno)
        raise PlantFileError(str(path), [broken]) from None
    except ValueError:
        raise PlantFileError(str(path), [Fault(path.name, "is not UTF-8 text.")]) from None
    except OSError as fault:
        reason = (fault.strerror or str(fault)).lower()
        raise PlantFileError(str(path), [Fault(path.name, f"can't be read: {reason}.")]) from None
    foreign = list(_foreign_imports(path.name, tree))
    if foreign:
        raise PlantFileError(str(path), foreign)
    spec = importlib.util.spec_from_file_location(f"plantwright_physics_{path.parent.name}", path)
    if spec is None or spec.loader is None:
        raise PlantFileError(str(path), [Fault(path.name, "is not a Python file (.py).")])
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (ArithmeticError, AttributeError, ImportError, LookupError) as fault:
        raise _stopped(path, fault) from None
    except (NameError, TypeError, ValueError) as fault:
        raise _stopped(path, fault) from None
    faults = list(_missing_parts(path.name, module))
    if faults:
        raise PlantFileError(str(path), faults)
    return module


def _stopped(path: Path, fault: Exception) -> PlantFileError:
    message = f"stops while it is imported: {type(fault).__name__}: {fault}."
    return PlantFileError(str(path), [Fault(path.name, message)])


def _foreign_imports(name: str, tree: ast.Module) -> Iterator[Fault]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = ["." * node.level + (node.module or "")]
        else:
            continue
        for module in modules:
            if module not in _ALLOWED:
                yield Fault(
                    name,
                    f"imports {module}, which equations may not.",
                    node.lineno,
                    "Take sqrt, exp and the like from the argument `f`.",
                )


def _missing_parts(name: str, module: ModuleType) -> Iterator[Fault]:
    for part in _NAMES:
        tags = getattr(module, part, None)
        if not isinstance(tags, tuple) or not all(isinstance(tag, str) for tag in tags):
            yield Fault(name, f"{part} is missing or not a tuple of tag names.")
    nominal = getattr(module, "NOMINAL", None)
    if not isinstance(nominal, Mapping):
        yield Fault(name, "NOMINAL is missing or not a mapping of parameter values.")
    else:
        for parameter, value in nominal.items():
            if not isinstance(value, int | float) or not math.isfinite(value):
                yield Fault(name, f"parameter {parameter} is {value!r}, not a finite number.")
    for function in _FUNCTIONS:
        if not callable(getattr(module, function, None)):
            yield Fault(name, f"the function {function} is missing.")
