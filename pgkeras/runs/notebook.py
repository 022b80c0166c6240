"""Progress of training in a notebook: a bar in the cell's output, by IPython's own display."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Any

from pgkeras.runs.stopping import share_of_limits

if TYPE_CHECKING:
    from pgkeras.runs.metrics import EpochMetrics
    from pgkeras.runs.training import Training

__all__ = ["with_progress_bar"]

_SHOW_SECONDS = 0.2


def with_progress_bar(training: Training) -> Iterator[EpochMetrics]:
    """Trains; where this process is a notebook's kernel, with a bar in the cell that runs."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if type(shell).__name__ != "ZMQInteractiveShell":  # none, or IPython in a terminal
        yield from training
        return
    from IPython.display import HTML, display

    shown: Any = display(HTML(_bar(training)), display_id=True)
    due = 0.0

    def show(steps: int = 0, *_: int) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + _SHOW_SECONDS
            shown.update(HTML(_bar(training, steps)))

    training.on_progress = show
    try:
        for metrics in training:
            show()
            yield metrics
    finally:
        shown.update(HTML(_bar(training)))


def _bar(training: Training, steps: int = 0) -> str:
    config, done = training.config, training.env_steps + steps
    share = share_of_limits(config, done, training.seconds)
    text = f"{escape(config.env_id)}: {done:,} steps"
    if training.episodes:
        text += f", mean return of the last 100 episodes {training.mean_return_100:.4g}"
    if training.stop_reason is not None:
        text += f"; {escape(training.stop_reason)}"
    return f'<progress max="1" value="{share:.3f}"></progress> {text}'
