"""The gate stays small: importing it brings in no model, solver, database, plant link or page."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FORBIDDEN = ("torch", "pyomo", "simpy", "sqlalchemy", "asyncua", "streamlit", "casadi")


def test_importing_and_asking_the_gate_loads_nothing_heavy() -> None:
    """A fresh process that imports the gate and asks it once has loaded none of them."""
    script = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from gate_cases import healthy\n"
        "healthy().cleared()\n"
        "assert 'twin.safety' in sys.modules\n"
        f"print(*sorted({set(FORBIDDEN)!r} & {{name.split('.')[0] for name in sys.modules}}))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ran.stdout.split() == []


def test_the_gate_imports_only_its_neighbours() -> None:
    """Of Plantwright it imports plant, expressions, records and errors (and their own imports)."""
    script = (
        "import sys, twin.safety\n"
        "print(*sorted({'.'.join(n.split('.')[:2]) for n in sys.modules if n.startswith('twin.')}))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    allowed = {"twin.safety", "twin.plant", "twin.expressions", "twin.records", "twin.errors"}
    below = {"twin.clock", "twin.units"}  # what the plant file itself may need
    assert set(ran.stdout.split()) <= allowed | below
