"""A study as a picture: where every CV goes in each scenario, and what it costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from optimizer.study import ScenarioRuns, StudyResult
from twin.forecast import HIGH_SHARE, LOW_SHARE

# Told apart in grey and by people who see colours differently (Okabe and Ito 2008).
COLOURS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")


def figure(result: StudyResult) -> Figure:
    """One panel per CV with mean, 90 % range and operator limits; one with the cost difference."""
    tags = list(result.scenarios[0].levels)
    has_cost = "cost" in result.units
    heights = [2.2] * len(tags) + [0.8 + 0.3 * len(result.scenarios)] * has_cost
    drawing = Figure(figsize=(9.0, sum(heights)), layout="constrained")
    axes = drawing.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, tag in zip(axes, tags, strict=False):
        _draw_levels(axis, result, tag)
    axes[0].legend(loc="upper right", fontsize="small", frameon=False)
    axes[len(tags) - 1].set_xlabel(f"hours from {result.start:%Y-%m-%d %H:%M} UTC")
    if has_cost:
        _draw_cost(axes[-1], result)
    drawing.suptitle(f"{result.study}: {result.replications} replications, seed {result.seed}")
    return drawing


def plot(result: StudyResult, path: Path) -> None:
    """Write the picture, a PNG, to `path`.

    Raises:
        OSError: it can't be written; nothing of it is left behind.
    """
    write(figure(result), path)


def write(drawing: Figure, path: Path) -> None:
    """Write a drawing as PNG, or raise OSError and leave nothing of it."""
    part = path.with_name(f"{path.name}.part")
    try:
        drawing.savefig(part, format="png", dpi=120)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def _draw_levels(axis: Axes, result: StudyResult, tag: str) -> None:
    limits = result.plant.tag(tag).operator
    for edge in (limits.low, limits.high) if limits is not None else ():
        if edge is not None:
            axis.axhline(edge, color="black", linewidth=0.8, linestyle=":")
    for number, runs in enumerate(result.scenarios):
        _draw_runs(axis, runs, tag, result.horizon_h, number)
    axis.set_ylabel(f"{tag}\n{result.plant.tag(tag).unit}", fontsize="small")
    axis.margins(x=0.0)


def _draw_runs(axis: Axes, runs: ScenarioRuns, tag: str, horizon_h: float, number: int) -> None:
    paths, colour = runs.levels[tag], COLOURS[number % len(COLOURS)]
    hours = horizon_h * np.arange(1, paths.shape[1] + 1) / paths.shape[1]
    low, high = np.quantile(paths, (LOW_SHARE, HIGH_SHARE), axis=0, method="hazen")
    mean = paths.mean(axis=0)
    if number == 0:
        # Thin, dashed and on top: scenarios often lie so close that either would hide the other.
        axis.fill_between(hours, low, high, color=colour, alpha=0.1, linewidth=0)
        axis.plot(hours, mean, color=colour, lw=1.0, linestyle="--", zorder=3, label=runs.name)
    else:
        axis.fill_between(hours, low, high, color=colour, alpha=0.2, linewidth=0)
        axis.plot(hours, mean, color=colour, linewidth=2.6, label=runs.name)


def _draw_cost(axis: Axes, result: StudyResult) -> None:
    for number, runs in enumerate(result.scenarios[1:], start=1):
        found = result.difference("cost", number)
        error = [[found.mean - found.low], [found.high - found.mean]]
        colour = COLOURS[number % len(COLOURS)]
        axis.errorbar([found.mean], [runs.name], xerr=error, fmt="o", color=colour, capsize=4)
    axis.axvline(0.0, color="black", linewidth=0.8)
    axis.set_xlabel(f"cost against {result.scenarios[0].name}, {result.units['cost']} (95 %)")
    axis.margins(x=0.2, y=0.5)
