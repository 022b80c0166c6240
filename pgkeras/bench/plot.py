"""Plots latencies by percentile as a PNG file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pgkeras.bench.report import Report
from pgkeras.errors import BenchError, extra_needed
from pgkeras.files import whole_file

__all__ = ["check_plotting", "plot_latencies"]

_TICKS = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999)
_MAX_POINTS = 2000


def check_plotting() -> type[Any]:
    """Returns matplotlib's Figure class.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with extra_needed("plot", "plot latencies"):
        from matplotlib.figure import Figure
    figure: type[Any] = Figure
    return figure


def plot_latencies(path: Path, report: Report) -> None:
    """Plots latency against percentile, on a scale where each additional nine has the same width.

    Args:
        path: The PNG file, written atomically.
        report: The report of a load test.

    Raises:
        MissingExtraError: matplotlib is not installed.
        BenchError: No call was answered, or the file cannot be written.
    """
    figure = check_plotting()(figsize=(8, 4.5), layout="constrained")
    count = len(report.latencies)
    if not count:
        raise BenchError(f"no call was answered with OK, so there is no latency to plot: {report.codes}")
    # Equally spaced on the plotted scale, so that the tail keeps all of its points.
    shares = 1 - np.geomspace(1.0, 1 / count, min(count, _MAX_POINTS)) if count > 1 else np.zeros(1)
    values = report.latencies[np.minimum((shares * count).astype(np.int64), count - 1)]
    axes = figure.subplots()
    axes.plot(1 / (1 - shares), values * 1e3, color="#0072B2", linewidth=2)
    ticks = [share for share in _TICKS if 1 / (1 - share) <= max(2, count)]
    axes.set(xscale="log", yscale="log", ylabel="latency, ms", xlabel="percentile", title=_title(report))
    axes.set_xticks([1 / (1 - share) for share in ticks], [f"{share:.5%}".rstrip("0%").rstrip(".") for share in ticks])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    try:
        with whole_file(path) as scratch:
            figure.savefig(Path(scratch.name), format="png", dpi=120)
    except OSError as error:
        raise BenchError(f"cannot write {path}: {error}") from error


def _title(report: Report) -> str:
    load = report.load
    in_flight = f"{load.in_flight} {'sessions' if load.rpc == 'play' else 'in flight'}"
    how = f"{load.rate:,g}/s, open loop" if load.is_open else f"{in_flight}, closed loop"
    return f"{report.policy} version {report.version}: {load.rpc}, {how}, {report.answered_per_second:,.0f}/s answered"
