"""Learning curves as PNG files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from pgkeras.errors import MissingExtraError, RunError

__all__ = ["plot_learning_curves"]

# Okabe & Ito's palette, which colour-blind people tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def plot_learning_curves(
    path: Path, runs: Mapping[str, Sequence[Mapping[str, float]]], title: str, threshold: float | None = None
) -> None:
    """Draws return against environment steps, one curve a run, and writes a PNG file whole.

    The line is the mean of the last 100 episodes. For a single run, dots are the epochs' means and the band reaches
    from their lowest to their highest return.

    Args:
        path: Where to.
        runs: Metrics as :func:`pgkeras.runs.read_metrics` gives them, by label.
        title: Title of the picture.
        threshold: A return to mark, such as the one that solves the environment.

    Raises:
        MissingExtraError: matplotlib is not installed.
        RunError: A run has no epochs, or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "train", "plot learning curves") from error
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for i, (label, metrics) in enumerate(runs.items()):
        if not metrics:
            raise RunError(f"{label}: there is no finished epoch to plot")
        colour = _COLOURS[i % len(_COLOURS)]
        steps = [m["env_steps"] for m in metrics]
        if len(runs) == 1:
            low, high = [m["return_min"] for m in metrics], [m["return_max"] for m in metrics]
            axes.fill_between(steps, low, high, color=colour, alpha=0.12, linewidth=0, label="lowest to highest")
            axes.plot(
                steps, [m["return_mean"] for m in metrics], ".", color=colour, alpha=0.5, label="mean of an epoch"
            )
            label = "mean of the last 100 episodes"  # noqa: PLW2901 - one run needs no name of its own
        axes.plot(steps, [m["mean_return_100"] for m in metrics], color=colour, linewidth=2, label=label)
    if threshold is not None and math.isfinite(threshold):
        axes.axhline(threshold, color="0.4", linestyle="--", linewidth=1, label=f"solved: {threshold:g}")
    axes.set(title=title, xlabel="environment steps", ylabel="return per episode")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="best")
    scratch = path.with_name(f".{path.name}.partial")
    try:
        figure.savefig(scratch, format="png", dpi=120)
        scratch.replace(path)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error}") from error
    finally:
        scratch.unlink(missing_ok=True)
