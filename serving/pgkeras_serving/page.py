"""The status page: HTML from what is counted. No scripts, nothing from elsewhere; it asks for itself anew."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources

import numpy as np

from pgkeras_serving.catalog import LoadedPolicy
from pgkeras_serving.episodes import EpisodeSummary
from pgkeras_serving.live import Recent

__all__ = ["Status", "VersionStatus", "render"]

_REFRESH_SECONDS = 5
_MOST_BARS = 12
_COLUMNS = ("version", "ready since", "answers / s", "median", "99th perc.", "episodes", "mean return", "length")
_STYLE = resources.files("pgkeras_serving").joinpath("page.css").read_text(encoding="utf-8")


@dataclass(frozen=True)
class VersionStatus:
    """What the page tells of one version.

    Args:
        policy: The version.
        labels: Its labels.
        recent: How it fared in the last minute.
        episodes: The episodes played with it.
        returns: The returns of the last of them, the oldest first.
    """

    policy: LoadedPolicy
    labels: list[str]
    recent: Recent
    episodes: EpisodeSummary
    returns: list[float]


@dataclass(frozen=True)
class Status:
    """What the page tells of the server.

    Args:
        state: "serving", "loading" or "draining".
        target: Where it listens.
        uptime: Seconds since its start.
        release: pgkeras' version.
        sessions: How many are open.
        requests: Calls that have ended, by method and code.
        failures: Why versions are not served.
        versions: Those that are, by name, then by version.
    """

    state: str
    target: str
    uptime: float
    release: str
    sessions: int
    requests: dict[tuple[str, str], int]
    failures: list[str]
    versions: list[VersionStatus]


def render(status: Status) -> bytes:
    """The page, UTF-8."""
    names = sorted({version.policy.version.name for version in status.versions})
    groups = {name: [v for v in status.versions if v.policy.version.name == name] for name in names}
    body = [_header(status), _tiles(status), *(_policy(name, versions) for name, versions in groups.items())]
    if status.failures:
        reasons = escape("\n".join(status.failures))
        body.append(f'<section><header><h2 class="bad">Not served</h2></header><pre>{reasons}</pre></section>')
    body.append(_requests(status.requests))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>pgkeras: {escape(status.state)}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="refresh" content="{_REFRESH_SECONDS}"><style>{_STYLE}</style></head>'
        f"<body>{''.join(body)}</body></html>"
    ).encode()


def _header(status: Status) -> str:
    mood = "good" if status.state == "serving" else "bad"
    return (
        f'<header><h1>pgkeras</h1><span class="state {mood}">{escape(status.state)}</span>'
        f"<span>{escape(status.target)}</span>"
        f'<span class="soft">up {_duration(status.uptime)} &middot; version {escape(status.release)}</span></header>'
    )


def _tiles(status: Status) -> str:
    recents = [version.recent for version in status.versions]
    slowest = max((r.p99 for r in recents if not math.isnan(r.p99)), default=math.nan)
    tiles = (
        (_number(sum(r.answers_per_second for r in recents)), "answers / s"),
        (_number(sum(r.observations_per_second for r in recents)), "observations / s"),
        (_milliseconds(slowest), "99th percentile"),
        (f"{status.sessions:,}", "open sessions"),
    )
    return (
        f'<div class="tiles">{"".join(f"<div class=tile><b>{a}</b><small>{b}</small></div>" for a, b in tiles)}</div>'
    )


def _policy(name: str, versions: list[VersionStatus]) -> str:
    spec = versions[-1].policy.spec
    rows = "".join(_row(version) for version in reversed(versions))
    heads = "".join(
        f"<th>{head}</th>"
        for head in (
            "version",
            "ready since",
            "answers / s",
            "median",
            "99th perc.",
            "episodes",
            "mean return",
            "length",
        )
    )
    # The newest that did anything in the last minute stands for the policy.
    shown = next((v for v in reversed(versions) if any(v.recent.history) or v.returns), versions[-1])
    return (
        f'<section><header><h2>{escape(name)}</h2><span class="soft">{escape(str(spec.observation_space))} &rarr; '
        f"{escape(str(spec.action_space))}, {escape(spec.distribution.value.replace('_', ' '))}</span></header>"
        f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
        f'<div class="charts">{_rate(shown)}{_actions(shown)}{_returns(shown)}</div></section>'
    )


def _row(version: VersionStatus) -> str:
    about, recent, episodes = version.policy.description, version.recent, version.episodes
    labels = "".join(f'<span class="label">{escape(label)}</span>' for label in version.labels)
    since = about.load_time.ToDatetime().strftime("%Y-%m-%d %H:%M")
    cells = (
        f"<b>{about.version}</b> <small>{escape(about.engine)}</small>{labels}",
        f"{since} UTC",
        _number(recent.answers_per_second),
        _milliseconds(recent.p50),
        _milliseconds(recent.p99),
        f"{episodes.count:,}",
        _number(episodes.mean_return),
        _number(episodes.mean_length),
    )
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _rate(version: VersionStatus) -> str:
    history = version.recent.history
    top = max(history, default=0.0)
    points = _points(history, 0.0, top or 1.0)
    line = " ".join(points)
    area = f"0,100 {line} {points[-1].split(',')[0]},100" if points else ""
    figure = f'<polygon class="area" points="{area}"/><polyline class="stroke" points="{line}"/>'
    return _chart(
        f"Observations / s, version {version.policy.version.version}", figure, "a minute ago", f"peak {_number(top)}"
    )


def _returns(version: VersionStatus) -> str:
    returns = version.returns
    title = f"Return per episode, version {version.policy.version.version}"
    if not returns:
        return f'<div><h3>{title}</h3><span class="soft">No episode has been played in a session yet.</span></div>'
    low, high = min(returns), max(returns)
    dots = " ".join(f"M{point}h0" for point in _points(returns, low, high))
    ends = f"last {len(returns)}: {_number(low)} to {_number(high)}", f"mean {_number(version.episodes.mean_return)}"
    return _chart(title, f'<path class="dots" d="{dots}"/>', *ends)


def _actions(version: VersionStatus) -> str:
    meter, number = version.policy.meter, version.policy.version.version
    title = f"<h3>Actions, last minute, version {number}</h3>"
    total = meter.actions.total()
    if not total.any():
        return f'<div>{title}<span class="soft">None.</span></div>'
    if meter.start is not None:
        shares = total / total.sum()
        top = np.sort(np.argsort(-shares, kind="stable")[:_MOST_BARS])
        rest = "" if len(top) == len(shares) else f"<small>and {len(shares) - len(top)} less frequent ones</small>"
        bars = _bars((str(meter.start + i), shares[i], f"{shares[i]:.1%}") for i in top)
        return f"<div>{title}{bars}{rest}</div>"
    mean, deviation = meter.spread()
    rows = "".join(
        f"<tr><td>{i}</td><td>{mean[i]:+.4g}</td><td>&plusmn; {deviation[i]:.4g}</td></tr>"
        for i in range(min(len(mean), _MOST_BARS))
    )
    heads = "<thead><tr><th>component</th><th>mean</th><th>std</th></tr></thead>"
    return f"<div>{title}<table>{heads}<tbody>{rows}</tbody></table></div>"


def _requests(requests: dict[tuple[str, str], int]) -> str:
    rows = "".join(
        f'<tr><td>{escape(method)}</td><td class="{"good" if code == "OK" else "bad"}">{escape(code)}</td>'
        f"<td>{count:,}</td></tr>"
        for (method, code), count in sorted(requests.items())
    )
    if not rows:
        return ""
    heads = "<thead><tr><th>method</th><th>code</th><th>count</th></tr></thead>"
    return (
        f"<section><header><h2>Calls since the start</h2></header><table>{heads}<tbody>{rows}</tbody></table></section>"
    )


def _bars(bars: Iterable[tuple[str, float, str]]) -> str:
    cells = "".join(
        f'<span>{escape(name)}</span><i style="width:{share:.1%}"></i><span>{text}</span>' for name, share, text in bars
    )
    return f'<div class="bars">{cells}</div>'


def _chart(title: str, figure: str, left: str, right: str) -> str:
    return (
        f'<div><h3>{title}</h3><svg viewBox="0 0 100 100" preserveAspectRatio="none" role="img">{figure}</svg>'
        f'<div class="axis"><span>{left}</span><span>{right}</span></div></div>'
    )


def _points(values: Sequence[float], low: float, high: float) -> list[str]:
    """Points of a 100 x 100 picture, with a margin above and below."""
    span = (high - low) or 1.0
    step = 100 / max(len(values) - 1, 1)
    return [f"{i * step:.2f},{95 - 90 * (value - low) / span:.2f}" for i, value in enumerate(values)]


def _number(value: float) -> str:
    if math.isnan(value):
        return "&ndash;"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:,.1f}"


def _milliseconds(value: float) -> str:
    if math.isnan(value):
        return "&ndash;"
    return f"{value * 1000:.0f} &micro;s" if value < 1 else f"{value:.1f} ms"


def _duration(seconds: float) -> str:
    minutes, hours, days = seconds / 60, seconds / 3600, seconds / 86400
    if minutes < 2:
        return f"{seconds:.0f} s"
    if hours < 2:
        return f"{minutes:.0f} min"
    return f"{hours:.0f} h" if days < 2 else f"{days:.0f} days"
