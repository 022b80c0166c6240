"""Plots learning curves as PNG files: one run in detail, or interquartile means with intervals over many."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgkeras.errors import RunError, extra_needed
from pgkeras.evaluation import statistics
from pgkeras.files import replacing
from pgkeras.runs.counters import MEAN_RETURN

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Curve", "Panel", "plot_bars", "plot_learning_curve", "plot_panels", "save_figure"]

# Okabe & Ito's palette, which colour-blind people tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LABELS = {MEAN_RETURN: "return per episode, last 100", "env_steps": "environment steps"}
_POINTS = 200  # of a common grid
_RESAMPLES = 2_000
_DPI = 120

Metrics = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Curve:
    """Runs that belong together: one, or several of different seeds.

    Args:
        label: What they are; empty if the panel's title says it.
        runs: The metrics of each by its name, as :func:`pgkeras.runs.read_metrics` gives them.
    """

    label: str
    runs: Mapping[str, Metrics]


@dataclass(frozen=True)
class Panel:
    """Curves that may be compared: those of one environment.

    Args:
        title: What it is called.
        curves: What to draw.
        threshold: A return to mark, such as the one that solves the environment.
    """

    title: str
    curves: Sequence[Curve] = field(default_factory=list)
    threshold: float | None = None


def plot_learning_curve(
    path: Path,
    metrics: Metrics,
    title: str,
    threshold: float | None = None,
    evaluations: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Draws one run's return against environment steps, and writes a PNG file whole.

    The line is the mean of the last 100 episodes; dots are the epochs' means and the band reaches from their lowest to
    their highest return; diamonds are evaluations.

    Args:
        path: Where to.
        metrics: As :func:`pgkeras.runs.read_metrics` gives them.
        title: Title of the picture.
        threshold: A return to mark, such as the one that solves the environment.
        evaluations: As :func:`pgkeras.runs.read_evaluations` gives them.

    Raises:
        MissingExtraError: matplotlib is not installed.
        RunError: The run has no epochs, or the file cannot be written.
    """
    if not metrics:
        raise RunError(f"{title}: there is no finished epoch to plot")
    figure = _figure((8, 4.5))
    axes = figure.subplots()
    colour = _COLOURS[0]
    steps = [m["env_steps"] for m in metrics]
    low, high = [m["return_min"] for m in metrics], [m["return_max"] for m in metrics]
    axes.fill_between(steps, low, high, color=colour, alpha=0.12, linewidth=0, label="lowest to highest")
    axes.plot(steps, [m["return_mean"] for m in metrics], ".", color=colour, alpha=0.5, label="mean of an epoch")
    axes.plot(
        steps, [m[MEAN_RETURN] for m in metrics], color=colour, linewidth=2, label="mean of the last 100 episodes"
    )
    modes = {"greedy": "evaluation, greedy", "sample": "evaluation, sampled"}
    for i, (mode, label) in enumerate(modes.items()):
        seen = [e for e in evaluations if e["mode"] == mode]
        if seen:
            x, y = [e["env_steps"] for e in seen], [e["mean"] for e in seen]
            axes.plot(x, y, "D-", color=_COLOURS[1 + i], linewidth=1, markersize=4, label=label)
    _finish(axes, title, threshold, "return per episode")
    axes.legend(frameon=False, loc="best")
    save_figure(figure, path)


def plot_panels(path: Path, panels: Sequence[Panel], title: str = "", metric: str = MEAN_RETURN) -> None:
    """Draws a panel an environment, and writes a PNG file whole.

    A single run is a line. Of several, the thick line is the interquartile mean over runs, the band what
    :func:`pgkeras.evaluation.statistics.band` gives, and thin lines are the runs. They are compared on a grid of steps;
    a run that ended early, because it had solved its environment, keeps its last value.

    Args:
        path: Where to.
        panels: What to draw.
        title: Title of the picture.
        metric: Which metric to draw; see ``docs/runs.md``.

    Raises:
        MissingExtraError: matplotlib is not installed.
        RunError: A run has no such metric, or the file cannot be written.
    """
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = _figure((8, 4.5) if len(panels) == 1 else (4.8 * columns, 3.5 * rows))
    for axes, panel in zip(figure.subplots(rows, columns, squeeze=False).flat, panels, strict=False):
        for i, curve in enumerate(panel.curves):
            _draw(axes, curve, metric, _COLOURS[i % len(_COLOURS)])
        _finish(axes, panel.title, panel.threshold if metric == MEAN_RETURN else None, _LABELS.get(metric, metric))
        axes.legend(frameon=False, loc="best", fontsize="small" if len(panels) > 1 else None)
    for axes in list(figure.axes)[len(panels) :]:
        axes.set_axis_off()
    if title:
        figure.suptitle(title)
    save_figure(figure, path)


def _draw(axes: Axes, curve: Curve, metric: str, colour: str) -> None:
    lines = [_points(name, metrics, metric) for name, metrics in curve.runs.items()]
    if len(lines) == 1:
        axes.plot(*lines[0], color=colour, linewidth=2, label=curve.label or "one run")
        return
    for steps, values in lines:
        axes.plot(steps, values, color=colour, linewidth=0.6, alpha=0.35)
    grid, together = statistics.on_grid(lines, _POINTS)
    low, high = statistics.band(together, resamples=_RESAMPLES)
    axes.fill_between(grid, low, high, color=colour, alpha=0.18, linewidth=0)
    middle = statistics.interquartile_mean(together)
    axes.plot(
        grid, middle, color=colour, linewidth=2, label=f"{curve.label or 'interquartile mean'} ({len(lines)} runs)"
    )


def plot_bars(path: Path, values: Mapping[str, float], title: str, xlabel: str) -> None:
    """Draws a horizontal bar for each value, the first at the top, into a PNG file.

    Args:
        path: The file.
        values: By name.
        title: Of the picture.
        xlabel: What the values are.

    Raises:
        MissingExtraError: Matplotlib is not installed.
    """
    figure = _figure((6.0, 1.2 + 0.3 * len(values)))
    axes = figure.subplots()
    axes.barh(list(values), list(values.values()), color="#2563a8")
    axes.invert_yaxis()
    axes.set(title=title, xlabel=xlabel)
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def _points(run: str, metrics: Metrics, metric: str) -> tuple[list[float], list[float]]:
    points = [(m["env_steps"], m[metric]) for m in metrics if m.get(metric) is not None]
    if not metrics:
        raise RunError(f"{run}: there is no finished epoch to plot")
    if not points:
        there = ", ".join(sorted({name for m in metrics for name, value in m.items() if value is not None}))
        raise RunError(f"{run}: no epoch has the metric {metric!r}; there is {there}")
    return [step for step, _ in points], [value for _, value in points]


def _figure(size: tuple[float, float]) -> Any:
    with extra_needed("train", "plot learning curves"):
        from matplotlib.figure import Figure
    return Figure(figsize=size, layout="constrained")


def _finish(axes: Axes, title: str, threshold: float | None, ylabel: str) -> None:
    if threshold is not None and math.isfinite(threshold):
        axes.axhline(threshold, color="0.4", linestyle="--", linewidth=1, label=f"solved: {threshold:g}")
    axes.set(title=title, xlabel=_LABELS["env_steps"], ylabel=ylabel)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(lambda value, _: _short(value))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def _short(steps: float) -> str:
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(steps) >= unit:
            return f"{steps / unit:g}{letter}"
    return f"{steps:g}"


def save_figure(figure: Any, path: Path, dpi: int = _DPI) -> None:
    """Writes a matplotlib figure as a PNG file, which appears whole or not at all."""
    with replacing(path) as scratch:
        figure.savefig(Path(scratch.name), format="png", dpi=dpi)
