"""Charts of the status page. Versions of one policy share a chart, so that they can be compared."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgkeras_serving.pages.overview import VersionStatus
from pgkeras_serving.telemetry.last_minute import SECONDS

__all__ = ["Drawn", "charts", "drawn", "learning_curve", "number"]

_MAX_VERSIONS = 4  # the number of hues in page.css
_MAX_BARS = 12


class Drawn(NamedTuple):
    """A version in charts."""

    version: VersionStatus
    hue: str  # CSS class of its elements

    @property
    def swatch(self) -> str:
        """The legend entry of its color, as HTML."""
        return f'<i class="swatch {self.hue}"></i>'


def drawn(versions: Sequence[VersionStatus]) -> list[Drawn]:
    """Selects the versions to show in charts: the newest active ones, or the newest version if none is active.

    Args:
        versions: The versions of one policy, by number, at least 1.
    """
    chosen = [version for version in versions if version.is_active][-_MAX_VERSIONS:] or [versions[-1]]
    return [Drawn(version, f"hue{i}") for i, version in enumerate(chosen)]


def charts(shown: Sequence[Drawn]) -> str:
    """Returns the charts of some versions of a policy, as HTML."""
    alike: dict[str, list[Drawn]] = {}
    for one in shown:
        alike.setdefault(str(one.version.policy.spec.action_space), []).append(one)
    return f'<div class="charts">{_rate(shown)}{"".join(map(_actions, alike.values()))}{_returns(shown)}</div>'


def learning_curve(returns: Sequence[float]) -> str:
    """Returns the chart of the mean returns of a run's epochs, as HTML."""
    if not returns:
        return '<div><h3>Return per epoch</h3><span class="soft">No epoch is finished yet.</span></div>'
    low, high = min(returns), max(returns)
    points = " ".join(_points(returns, low, high, max(len(returns), 2)))
    ends = f"<span>{number(low)} to {number(high)}</span><span>last {number(returns[-1])}</span>"
    return (
        f'<div><h3>Return per epoch</h3><svg viewBox="0 0 100 100" preserveAspectRatio="none" role="img">'
        f'<g class="hue0"><polyline class="stroke" points="{points}"/></g></svg>'
        f'<div class="axis">{ends}</div></div>'
    )


def number(value: float) -> str:
    """Formats a number, as HTML."""
    if math.isnan(value):
        return "&ndash;"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:,.1f}"


def _rate(shown: Sequence[Drawn]) -> str:
    top = max((rate for one in shown for rate in one.version.recent.history), default=0.0)
    figures = []
    for one in shown:
        points = _points(one.version.recent.history, 0.0, top or 1.0, SECONDS)
        area = f"{points[0].split(',')[0]},100 {' '.join(points)} 100,100" if points and len(shown) == 1 else ""
        figures.append(f'<polygon class="area" points="{area}"/><polyline class="stroke" points="{" ".join(points)}"/>')
    return _chart("Observations / s", shown, figures, ("a minute ago", f"peak {number(top)}"))


def _actions(shown: Sequence[Drawn]) -> str:
    """Returns the chart of the actions of versions with the same action space."""
    title = "Actions, last minute"
    acted = [one for one in shown if one.version.policy.meter.actions.total().any()]
    if not acted:
        return f'<div>{_title(title, shown)}<span class="soft">None.</span></div>'
    figure = _spread(acted) if acted[0].version.policy.meter.start is None else _shares(acted)
    return f"<div>{_title(title, acted)}{figure}</div>"


def _shares(acted: Sequence[Drawn]) -> str:
    counts = np.array([one.version.policy.meter.actions.total() for one in acted])
    shares = counts / counts.sum(axis=1, keepdims=True)
    top = np.sort(np.argsort(-shares.sum(axis=0), kind="stable")[:_MAX_BARS])
    left_out = shares.shape[1] - len(top)
    rest = f"<small>and {left_out} less frequent ones</small>" if left_out else ""
    return f'<div class="bars">{"".join(_bars(acted, shares, top))}</div>{rest}'


def _bars(acted: Sequence[Drawn], shares: NDArray[np.float64], actions: NDArray[np.int64]) -> Iterator[str]:
    first = acted[0].version.policy.meter.start or 0
    for action in actions.tolist():
        for i, one in enumerate(acted):
            name = "" if i else first + action
            share = f"{shares[i, action]:.1%}"
            yield f'<span>{name}</span><i class="{one.hue}" style="width:{share}"></i><span>{share}</span>'


def _spread(acted: Sequence[Drawn]) -> str:
    spreads = [one.version.policy.meter.spread() for one in acted]
    swatches = [one.swatch if len(acted) > 1 else "" for one in acted]
    heads = "".join(f"<th>{swatch}mean</th><th>std</th>" for swatch in swatches)
    rows = "".join(
        f"<tr><td>{i}</td>{''.join(f'<td>{m[i]:+.4g}</td><td>&plusmn; {std[i]:.4g}</td>' for m, std in spreads)}</tr>"
        for i in range(min(len(spreads[0][0]), _MAX_BARS))
    )
    return f"<table><thead><tr><th>component</th>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _returns(shown: Sequence[Drawn]) -> str:
    title = "Return per episode"
    played = [one for one in shown if one.version.returns]
    if not played:
        return (
            f'<div>{_title(title, shown)}<span class="soft">No episode has been played in a session yet.</span></div>'
        )
    returns = [one.version.returns for one in played]
    low, high, most = min(map(min, returns)), max(map(max, returns)), max(map(len, returns))
    means = [float(np.mean(values)) for values in returns]
    figures = []
    for values, mean in zip(returns, means, strict=True):
        dots = " ".join(f"M{point}h0" for point in _points(values, low, high, most))
        height = _height(mean, low, high)
        figures.append(
            f'<path class="dots" d="{dots}"/><line class="mean" x1="0" x2="100" y1="{height:.2f}" y2="{height:.2f}"/>'
        )
    ends = f"last {most}: {number(low)} to {number(high)}", f"mean {' and '.join(map(number, means))}"
    return _chart(title, played, figures, ends)


def _title(what: str, shown: Sequence[Drawn]) -> str:
    if len(shown) == 1:
        return f"<h3>{what}, version {shown[0].version.number}</h3>"
    return f"<h3>{what} {' '.join(f'<span>{one.swatch}v{one.version.number}</span>' for one in shown)}</h3>"


def _chart(title: str, shown: Sequence[Drawn], figures: Sequence[str], ends: tuple[str, str]) -> str:
    figure = "".join(f'<g class="{one.hue}">{part}</g>' for one, part in zip(shown, figures, strict=True))
    return (
        f'<div>{_title(title, shown)}<svg viewBox="0 0 100 100" preserveAspectRatio="none" role="img">{figure}</svg>'
        f'<div class="axis"><span>{ends[0]}</span><span>{ends[1]}</span></div></div>'
    )


def _points(values: Sequence[float], low: float, high: float, room: int) -> list[str]:
    """Returns points of a 100 x 100 picture that is ``room`` points wide, the last one at its right edge."""
    step = 100 / max(room - 1, 1)
    begin = 100 - step * (len(values) - 1)
    return [f"{begin + i * step:.2f},{_height(value, low, high):.2f}" for i, value in enumerate(values)]


def _height(value: float, low: float, high: float) -> float:
    """Returns a value's distance from the top of the picture, with margins at the top and the bottom."""
    return 95 - 90 * (value - low) / ((high - low) or 1.0)
