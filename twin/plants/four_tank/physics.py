"""What the twin believes about the quadruple tank: equations and nominal parameters.

The equations are written once, over numbers, arrays, tensors or solver expressions: `f` is the
module that supplies `sqrt` for that kind (math, numpy, torch, pyomo.environ). Every formula is
smooth, so the same line serves simulation, training and the solver. What the real plant does
differently is not in this file and must never be.

Source: K. H. Johansson, "The quadruple-tank process", IEEE Trans. Control Systems Technology
8(3), 2000, eq. (1) and table I (minimum-phase setting), cited from two secondary sources.
Vessel areas are 15 times the paper's, outlets and pumps as in the paper, so that the time
constants are 6–23 min.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

STATES = ("tank_1.level", "tank_2.level", "tank_3.level", "tank_4.level")
INPUTS = ("pump_1.flow", "pump_2.flow", "tank_1.demand", "tank_2.demand")
OUTPUTS = (
    "pump_1.flow",
    "pump_2.flow",
    "pump_1.power",
    "pump_2.power",
    "tank_1.delivered",
    "tank_2.delivered",
)

#: name -> (value, unit, source)
PARAMETERS: Mapping[str, tuple[float, str, str]] = {
    "area_1": (420.0, "cm**2", "Johansson 2000: 28 cm² × 15"),
    "area_2": (480.0, "cm**2", "Johansson 2000: 32 cm² × 15"),
    "area_3": (420.0, "cm**2", "Johansson 2000: 28 cm² × 15"),
    "area_4": (480.0, "cm**2", "Johansson 2000: 32 cm² × 15"),
    "outlet_1": (0.071, "cm**2", "Johansson 2000"),
    "outlet_2": (0.057, "cm**2", "Johansson 2000"),
    "outlet_3": (0.071, "cm**2", "Johansson 2000"),
    "outlet_4": (0.057, "cm**2", "Johansson 2000"),
    "split_1": (0.70, "", "Johansson 2000, minimum-phase setting"),
    "split_2": (0.60, "", "Johansson 2000, minimum-phase setting"),
    "gravity": (981.0, "cm/s**2", "standard"),
    "overflow_edge": (20.0, "cm", "tank height of the laboratory plant"),
    "overflow_rate": (5.0, "cm**2/s", "chosen: the steepest that a 60 s RK4 step carries"),
    "draw_empty": (9.0, "cm", "chosen: a batch draws nothing below this level"),
    "draw_full": (10.0, "cm", "chosen: a batch draws its full flow above this level"),
    "draw_comfort": (10.5, "cm", "chosen on training seeds, see decision 0005"),
    "head": (60.0, "cm", "chosen: static lift of the pump line"),
    "head_curve": (0.185, "s**2/cm**5", "chosen: 78.5 cm of head at 10 cm³/s"),
    "specific_weight": (9.81e-5, "J/cm**4", "water, 1 g/cm³ × 981 cm/s²"),
    "efficiency": (0.35, "", "chosen: small centrifugal pump"),
    "idle_power": (0.03, "W", "chosen: drive electronics while running"),
}

NOMINAL: Mapping[str, float] = {name: value for name, (value, _, _) in PARAMETERS.items()}

_LEVEL_SMOOTHING_CM = 0.01  # width of the corner at an empty tank and at the overflow edge
_DRAW_SMOOTHING_CM = 0.05  # width of the corners of the delivery ramp; a tenth of its half width


def actuators(signals: Mapping[str, Any], p: Mapping[str, Any], f: ModuleType) -> dict[str, Any]:
    """Turn setpoints and disturbances into the `INPUTS` of the equations.

    `signals` holds each pump's setpoint (cm³/s) and running state (0–1), and the demand of each
    lower tank (cm³/s).
    """
    return {
        "pump_1.flow": signals["pump_1.setpoint"] * signals["pump_1.running"],
        "pump_2.flow": signals["pump_2.setpoint"] * signals["pump_2.running"],
        "tank_1.demand": signals["tank_1.demand"],
        "tank_2.demand": signals["tank_2.demand"],
    }


def rates(
    x: Mapping[str, Any], inputs: Mapping[str, Any], p: Mapping[str, Any], f: ModuleType
) -> dict[str, Any]:
    """How fast each level moves, in cm/s, for levels in cm and inputs in cm³/s."""
    flow_1, flow_2 = inputs["pump_1.flow"], inputs["pump_2.flow"]
    out = {i: _outflow(i, x[f"tank_{i}.level"], p, f) for i in (1, 2, 3, 4)}
    taken_1 = _delivered(1, x, inputs, p, f)
    taken_2 = _delivered(2, x, inputs, p, f)
    return {
        "tank_1.level": (p["split_1"] * flow_1 + out[3] - out[1] - taken_1) / p["area_1"],
        "tank_2.level": (p["split_2"] * flow_2 + out[4] - out[2] - taken_2) / p["area_2"],
        "tank_3.level": ((1 - p["split_2"]) * flow_2 - out[3]) / p["area_3"],
        "tank_4.level": ((1 - p["split_1"]) * flow_1 - out[4]) / p["area_4"],
    }


def outputs(
    x: Mapping[str, Any], inputs: Mapping[str, Any], p: Mapping[str, Any], f: ModuleType
) -> dict[str, Any]:
    """The measured quantities that follow from levels and inputs: flows, powers, deliveries."""
    return {
        "pump_1.flow": inputs["pump_1.flow"],
        "pump_2.flow": inputs["pump_2.flow"],
        "pump_1.power": _power(inputs["pump_1.flow"], p, f),
        "pump_2.power": _power(inputs["pump_2.flow"], p, f),
        "tank_1.delivered": _delivered(1, x, inputs, p, f),
        "tank_2.delivered": _delivered(2, x, inputs, p, f),
    }


def planning_outputs(
    x: Mapping[str, Any], inputs: Mapping[str, Any], p: Mapping[str, Any], f: ModuleType
) -> dict[str, Any]:
    """`outputs` as a planner should see them: a batch's missing level never looks hopeless.

    Below the level where a batch gets nothing, the true delivery is flat, so a planner that
    follows slopes would give up on the batch. Here the delivered flow keeps falling with the
    level: quadratic near the comfort level, then linear (pseudo-Huber).
    """
    planned = outputs(x, inputs, p, f)
    width = p["draw_full"] - p["draw_empty"]
    for tank in (1, 2):
        short = _positive(p["draw_comfort"] - x[f"tank_{tank}.level"], _DRAW_SMOOTHING_CM, f)
        missing = f.sqrt(0.25 + (short / width) * (short / width)) - 0.5
        planned[f"tank_{tank}.delivered"] = inputs[f"tank_{tank}.demand"] * (1 - missing)
    return planned


def _positive(value: Any, width: float, f: ModuleType) -> Any:
    """max(value, 0) with its corner rounded over about `width`."""
    return 0.5 * (value + f.sqrt(value * value + width * width))


def _outflow(tank: int, level: Any, p: Mapping[str, Any], f: ModuleType) -> Any:
    """Torricelli outlet flow plus what runs over the edge, cm³/s."""
    head = _positive(level, _LEVEL_SMOOTHING_CM, f)
    through_outlet = p[f"outlet_{tank}"] * f.sqrt(2 * p["gravity"] * head)
    over_edge = p["overflow_rate"] * _positive(level - p["overflow_edge"], _LEVEL_SMOOTHING_CM, f)
    return through_outlet + over_edge


def _delivered(
    tank: int, x: Mapping[str, Any], inputs: Mapping[str, Any], p: Mapping[str, Any], f: ModuleType
) -> Any:
    """What a running batch really gets, cm³/s: all of it when the level is high enough."""
    level = x[f"tank_{tank}.level"]
    above_empty = _positive(level - p["draw_empty"], _DRAW_SMOOTHING_CM, f)
    above_full = _positive(level - p["draw_full"], _DRAW_SMOOTHING_CM, f)
    share = (above_empty - above_full) / (p["draw_full"] - p["draw_empty"])
    return inputs[f"tank_{tank}.demand"] * share


def _power(flow: Any, p: Mapping[str, Any], f: ModuleType) -> Any:
    """Electric power of a pump, W: hydraulic power over efficiency, plus idle power."""
    head = p["head"] + p["head_curve"] * flow * flow
    running = flow / f.sqrt(flow * flow + 0.01)  # 0 at rest, 1 from about 0.5 cm³/s
    return p["specific_weight"] * flow * head / p["efficiency"] + p["idle_power"] * running
