"""A furnace's study as a picture: fuel and discharge over time, and every figure's change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from optimizer.slab_study import STEERED, SlabStudyResult
from optimizer.slab_study_file import Steering
from optimizer.study_plot import COLOURS, write
from twin.records import Series
from twin.simulation.line import line_of

_COLUMNS = 3  # of differences
_SMOOTH_MIN = 30  # of a pyrometer that shows one slab in six minutes or so


def figure(result: SlabStudyResult) -> Figure:
    """Rows: header fuel, slabs at discharge; then one panel per figure with its differences.

    One column per who steers above; below, differences to the base with 95 % intervals.
    """
    steered = list(result.arms)
    rows = -(-len(result.units) // _COLUMNS)
    drawing = Figure(figsize=(11.0, 5.0 + 1.7 * rows), layout="constrained")
    parts = drawing.subfigures(2, 1, height_ratios=(4.6, 1.7 * rows), squeeze=False)
    above, below = parts[:, 0]
    axes = above.subplots(2, len(steered), squeeze=False, sharex=True, sharey="row")
    for column, by in enumerate(steered):
        _draw_times(axes[:, column], result, by)
    panels = below.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axis, (name, unit) in zip(panels, result.units.items(), strict=False):
        _draw_difference(axis, result, name, unit)
    for axis in panels[len(result.units) :]:
        axis.set_visible(False)
    drawing.suptitle(f"{result.study}: {result.replications} replications, seed {result.seed}")
    return drawing


def plot(result: SlabStudyResult, path: Path) -> None:
    """Write the picture, a PNG, to `path`.

    Raises:
        OSError: it can't be written; nothing of it is left behind.
    """
    write(figure(result), path)


def _draw_times(axes: Series, result: SlabStudyResult, by: Steering) -> None:
    furnace, _ = line_of(result.plant)
    axes[0].set_title(STEERED[by].capitalize(), fontsize="medium")
    for number, runs in enumerate(result.arms[by]):
        colour = COLOURS[number % len(COLOURS)]
        line = {"color": colour, "linestyle": "--" if number == 0 else "-", "lw": 1.5}
        for axis, tag in zip(axes, (furnace.fuel, furnace.pyrometer), strict=True):
            values = runs.levels[tag]
            hours = np.arange(1, values.shape[1] + 1) / 60.0
            axis.plot(hours, _mean(values), label=runs.name, **line)
    for edge_c in furnace.spec.mean_c:
        axes[1].axhline(edge_c, color="black", linewidth=0.8, linestyle=":")
    for axis in axes:
        axis.axvline(result.settle_h, color="black", linewidth=0.5)
        axis.margins(x=0.0)
    axes[0].set_ylabel("fuel, MW", fontsize="small")
    axes[1].set_ylabel("slabs leaving, °C", fontsize="small")
    axes[1].set_xlabel(f"hours from {result.start:%Y-%m-%d %H:%M} UTC", fontsize="small")
    axes[0].legend(fontsize="small", frameon=False)


def _mean(values: Series) -> Series:
    """Over runs, and over the half hour before; NaN before any slab has left."""
    known = np.isfinite(values)
    totals = np.where(known, values, 0.0).sum(axis=0)
    window = np.ones(_SMOOTH_MIN)
    counts = np.convolve(known.sum(axis=0), window)[: values.shape[1]]
    sums = np.convolve(totals, window)[: values.shape[1]]
    mean: Series = np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
    return mean


def _draw_difference(axis: Axes, result: SlabStudyResult, name: str, unit: str) -> None:
    labels: list[str] = []
    differs = False
    for by in result.arms:
        for i, runs in enumerate(result.arms[by][1:], start=1):
            found = result.difference(name, by, i)
            error = [[found.mean - found.low], [found.high - found.mean]]
            colour = COLOURS[i % len(COLOURS)]
            axis.errorbar(
                [found.mean], [-len(labels)], xerr=error, fmt="o", color=colour, capsize=3
            )
            differs = differs or found.low < found.high or found.mean != 0.0
            labels.append(f"{runs.name}, {by}")
    axis.axvline(0.0, color="black", linewidth=0.8)
    axis.set_yticks(-np.arange(len(labels)), labels, fontsize="x-small")
    axis.set_title(f"{name}, {unit}", fontsize="small")
    axis.tick_params(axis="x", labelsize="x-small")
    axis.margins(x=0.15, y=0.5)
    if not differs:
        axis.set_xlim(-1.0, 1.0)  # or the axis would show rounding
