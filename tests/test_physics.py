"""Equations: the same over every kind of number, and honest about what they need."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import numpy as np
import pytest

import twin
from twin.errors import PlantFileError
from twin.physics import Physics, load_physics
from twin.plant import Plant, read_plant
from twin.plant.physics_file import read_physics_file

FOUR_TANK = read_plant("four_tank")
SIGNALS = ("pump_1.setpoint", "pump_2.setpoint", "pump_1.running", "pump_2.running")
STATES = 100
TOLERANCE = {"rel": 1e-9, "abs": 1e-13}


@pytest.fixture(scope="module")
def physics() -> Physics:
    found = load_physics(FOUR_TANK)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def moments(physics) -> list[tuple[dict[str, float], dict[str, float]]]:
    """A hundred random states and signals, also beyond the edges and with pumps at rest."""
    random = np.random.default_rng(7)
    found = []
    for _ in range(STATES):
        levels = {name: float(random.uniform(-0.5, 21.0)) for name in physics.states}
        signals = {name: float(random.uniform(0.0, 18.0)) for name in SIGNALS[:2]}
        signals |= {name: float(random.integers(0, 2)) for name in SIGNALS[2:]}
        signals |= {f"tank_{i}.demand": float(random.choice([0.0, 6.0, 10.0])) for i in (1, 2)}
        found.append((levels, signals))
    return found


def _everything(physics: Physics, levels, signals, f=math) -> dict[str, object]:
    """Inputs, rates, outputs and one step, under names that do not collide."""
    inputs = physics.actuate(signals, f)
    step = physics.advance(levels, inputs, 60.0, f, extra={"tank_1.level": 1e-3})
    parts = _equations(physics, levels, signals, f)
    return parts | {f"next {name}": value for name, value in step.items()}


def _equations(physics: Physics, levels, signals, f=math) -> dict[str, object]:
    inputs = physics.actuate(signals, f)
    parts = {
        "input": inputs,
        "rate": physics.rates(levels, inputs, f),
        "output": physics.outputs_at(levels, inputs, f),
    }
    return {
        f"{kind} {name}": value for kind, named in parts.items() for name, value in named.items()
    }


def test_numpy_agrees_with_floats(physics, moments):
    """All hundred states at once give what they give one by one."""
    levels = {name: np.array([x[name] for x, _ in moments]) for name in moments[0][0]}
    signals = {name: np.array([s[name] for _, s in moments]) for name in moments[0][1]}
    found = _everything(physics, levels, signals, np)
    for k, (x, s) in enumerate(moments):
        for name, value in _everything(physics, x, s).items():
            assert found[name][k] == pytest.approx(value, **TOLERANCE), name


def test_torch_agrees_with_floats(physics, moments):
    """Training sees the physics that planning sees."""
    torch = pytest.importorskip("torch")
    levels = {
        name: torch.tensor([x[name] for x, _ in moments], dtype=torch.float64)
        for name in moments[0][0]
    }
    signals = {
        name: torch.tensor([s[name] for _, s in moments], dtype=torch.float64)
        for name in moments[0][1]
    }
    found = _everything(physics, levels, signals, torch)
    for k, (x, s) in enumerate(moments):
        for name, value in _everything(physics, x, s).items():
            assert float(found[name][k]) == pytest.approx(value, **TOLERANCE), name


def test_pyomo_agrees_with_floats(physics, moments):
    """The planner's model has the value of the equations wherever the solver looks.

    Without the step: as one Pyomo expression it is a tree of some hundred thousand nodes.
    """
    pyo = pytest.importorskip("pyomo.environ")
    model = pyo.ConcreteModel()
    model.x = pyo.Var(list(moments[0][0]), initialize=1.0)
    model.s = pyo.Var(list(moments[0][1]), initialize=1.0)
    formulas = _equations(
        physics,
        {name: model.x[name] for name in moments[0][0]},
        {name: model.s[name] for name in moments[0][1]},
        pyo,
    )
    for x, s in moments:
        for name, value in x.items():
            model.x[name].set_value(value)
        for name, value in s.items():
            model.s[name].set_value(value)
        for name, value in _equations(physics, x, s).items():
            assert pyo.value(formulas[name]) == pytest.approx(value, **TOLERANCE), name


def test_casadi_agrees_with_floats(physics, moments):
    """The compiled function of the solver gives the equations' values."""
    casadi = pytest.importorskip("casadi")
    x = {name: casadi.SX.sym(name) for name in moments[0][0]}
    s = {name: casadi.SX.sym(name) for name in moments[0][1]}
    formulas = _everything(physics, x, s, casadi)
    outputs = [casadi.SX(formula) for formula in formulas.values()]
    compiled = casadi.Function("equations", [*x.values(), *s.values()], outputs)
    for levels, signals in moments:
        values = compiled(*levels.values(), *signals.values())
        expected = _everything(physics, levels, signals)
        for name, value in zip(formulas, values, strict=True):
            assert float(value) == pytest.approx(expected[name], **TOLERANCE), name


def test_a_step_of_a_minute_is_as_good_as_sixty_of_a_second(physics):
    """The planning step is short enough for one Runge–Kutta step, also at the overflow edge."""
    x = {"tank_1.level": 19.9, "tank_2.level": 9.5, "tank_3.level": 0.4, "tank_4.level": 5.0}
    inputs = {"pump_1.flow": 15.0, "pump_2.flow": 12.0, "tank_1.demand": 0.0, "tank_2.demand": 8.0}
    coarse, fine = x, x
    for _ in range(10):
        coarse = physics.advance(coarse, inputs, 60.0)
        for _ in range(60):
            fine = physics.advance(fine, inputs, 1.0)
    for name in x:
        assert coarse[name] == pytest.approx(fine[name], abs=0.02), name


def test_every_state_input_and_output_is_a_tag(physics):
    """What the equations speak of can be read, forecast and shown."""
    for name in (*physics.states, *physics.inputs, *physics.outputs):
        assert FOUR_TANK.tag(name).name == name


def test_shipped_equations_import_little():
    """Equations take their functions from the argument `f`, so every backend can run them."""
    shipped = list((Path(twin.__file__).parent / "plants").glob("*/physics.py"))
    assert shipped
    for path in shipped:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                assert {alias.name for alias in node.names} <= {"math"}, path
            elif isinstance(node, ast.ImportFrom):
                assert node.module in ("__future__", "collections.abc", "types", "typing"), path


GOOD_FILE = """
STATES = ("level",)
INPUTS = ("flow",)
OUTPUTS = ()
NOMINAL = {"area": 2.0}
def actuators(signals, p, f):
    return {"flow": signals["flow"]}
def rates(x, inputs, p, f):
    return {"level": inputs["flow"] / p["area"]}
def outputs(x, inputs, p, f):
    return {}
"""


def test_a_plants_own_equations_are_loaded(tmp_path):
    """A file beside the plant file is all it takes: 3 cm³/s into 2 cm² for 10 s are 15 cm."""
    (tmp_path / "own.py").write_text(GOOD_FILE)
    plant = Plant(plant="own", title="Own", tags=(), physics="own.py", path=tmp_path / "plant.yaml")
    own = load_physics(plant)
    assert own is not None
    assert own.advance({"level": 1.0}, {"flow": 3.0}, 10.0) == {"level": pytest.approx(16.0)}


def test_a_plant_without_equations_has_none():
    """Physics is optional; the learned line-up stands in."""
    assert load_physics(Plant(plant="bare", title="Bare", tags=())) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def rates(:", ["is not Python", "line 1"]),
        ("import torch", ["imports torch", "line 1", "argument `f`"]),
        ("from os import path", ["imports os"]),
        ("from .neighbour import x", ["imports .neighbour"]),
        ("def late():\n    import numpy\n" + GOOD_FILE, ["imports numpy", "line 2"]),
        ("1 / 0", ["stops while it is imported", "ZeroDivisionError"]),
        ("undefined_name", ["stops while it is imported", "NameError"]),
        ("x = 1", ["STATES", "INPUTS", "OUTPUTS", "NOMINAL", "actuators", "rates", "outputs"]),
        (GOOD_FILE.replace('("level",)', '["level"]'), ["STATES"]),
        (GOOD_FILE.replace("2.0", "float('nan')"), ["parameter area is nan"]),
        (GOOD_FILE.replace("2.0", "'two'"), ["parameter area is 'two'"]),
    ],
)
def test_faulty_equations_are_refused_with_their_line(tmp_path, text, words):
    """No traceback: what is wrong with the file, where, and what to do."""
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(PlantFileError) as told:
        read_physics_file(path)
    for word in words:
        assert word in str(told.value)


def test_missing_equations_are_told(tmp_path):
    """A name in the plant file without a file beside it."""
    with pytest.raises(PlantFileError, match="no such file"):
        read_physics_file(tmp_path / "nothing.py")


def test_changed_equations_are_read_again(tmp_path):
    """An edited file takes effect with the next reading."""
    path = tmp_path / "edited.py"
    path.write_text("x = 1")
    with pytest.raises(PlantFileError):
        read_physics_file(path)
    path.write_text(GOOD_FILE)
    assert read_physics_file(path).NOMINAL == {"area": 2.0}
