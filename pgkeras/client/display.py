"""Renders responses for notebooks: the distribution of every observation, with the chosen action."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np

from pgkeras.protocol.values import flattened, plain, taken

if TYPE_CHECKING:
    from pgkeras.client.conversion import Actions

__all__ = ["html"]

_MOST_ROWS = 8
_MOST_NUMBERS = 32


def html(answer: Actions) -> str:
    """Renders a table with a row per observation: bars for probabilities, numbers for other parameters."""
    one_each = answer.log_prob if answer.log_prob is not None else answer.entropy
    is_batch = one_each is not None and one_each.ndim == 1
    rows = len(one_each) if one_each is not None and is_batch else 1
    parameters = flattened(answer.distribution)
    head = "".join(f"<th>{escape(name)}</th>" for name in ("action", *parameters))
    body = ""
    for row in range(min(rows, _MOST_ROWS)):
        at = row if is_batch else ...
        cells = [escape(str(plain(taken(answer.action, at))))]
        cells += [_cell(name, np.asarray(values[at]).ravel()) for name, values in parameters.items()]
        body += "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    more = f"<p>and {rows - _MOST_ROWS} more observations</p>" if rows > _MOST_ROWS else ""
    title = f"{escape(answer.policy)} version {answer.version}"
    return f"<table><caption>{title}</caption><tr>{head}</tr>{body}</table>{more}"


def _cell(name: str, values: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> str:
    shown = values[:_MOST_NUMBERS].tolist()
    more = " ..." if len(values) > _MOST_NUMBERS else ""
    if name.endswith("probabilities"):
        bars = (f'<meter min="0" max="1" value="{value:.4f}"></meter> {value:.1%}' for value in shown)
        return "<br>".join(bars) + more
    return ", ".join(f"{value:.4g}" for value in shown) + more
