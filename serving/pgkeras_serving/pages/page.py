"""Renders the status page as HTML. It has no scripts and no external resources, and reloads itself."""

from __future__ import annotations

import math
from html import escape
from importlib import resources

from pgkeras_serving.pages.charts import charts, drawn, learning_curve, number
from pgkeras_serving.pages.overview import Status, VersionStatus
from pgkeras_serving.telemetry.run import RunStatus

__all__ = ["render"]

_REFRESH_SECONDS = 5
_COLUMNS = ("version", "ready since", "answers / s", "median", "99th perc.", "episodes", "mean return", "length")
_STYLE = resources.files("pgkeras_serving.pages").joinpath("page.css").read_text(encoding="utf-8")


def render(status: Status) -> bytes:
    """Renders the page as UTF-8."""
    names = sorted({version.policy.name for version in status.versions})
    groups = {name: [v for v in status.versions if v.policy.name == name] for name in names}
    summary = _tiles(status) if status.run is None else _run(status.run)
    body = [_header(status), summary, *(_policy(name, versions) for name, versions in groups.items())]
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
    tiles = [
        (number(sum(r.answers_per_second for r in recents)), "answers / s"),
        (number(sum(r.observations_per_second for r in recents)), "observations / s"),
        (_milliseconds(slowest), "99th percentile"),
        (f"{status.sessions:,}", "open sessions"),
    ]
    if status.processes > 1 or status.restarts:
        restarts = f", {status.restarts} restarted" if status.restarts else ""
        tiles.append((f"{status.processes}", f"workers{restarts}"))
    return (
        f'<div class="tiles">{"".join(f"<div class=tile><b>{a}</b><small>{b}</small></div>" for a, b in tiles)}</div>'
    )


def _run(run: RunStatus) -> str:
    """Renders a training run: tiles, simulators and learning curve."""
    speed = sum(one.steps_per_second for one in run.simulators)
    tiles = (
        (number(run.epoch), "epochs"),
        (number(run.env_steps), "steps"),
        (number(speed), "steps / s"),
        (number(run.returns[-1] if run.returns else math.nan), "return, last epoch"),
        (number(run.entropy), "entropy, nats"),
        (number(run.episodes_lost), "episodes lost"),
    )
    rows = "".join(
        f"<tr><td>{escape(one.name) or '<i>no name</i>'}</td><td>{one.environments:,}</td>"
        f"<td>{number(one.steps_per_second)}</td><td>{one.episodes:,}</td></tr>"
        for one in run.simulators
    )
    heads = "".join(f"<th>{head}</th>" for head in ("simulator", "environments", "steps / s", "episodes"))
    none = '<span class="soft">No simulator is connected.</span>'
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>" if rows else none
    return (
        f'<div class="tiles">{"".join(f"<div class=tile><b>{a}</b><small>{b}</small></div>" for a, b in tiles)}</div>'
        f'<section><header><h2>{escape(run.name)} <span class="label">in training</span></h2>'
        f'<span class="soft">{escape(run.spaces)}</span></header>{table}'
        f'<div class="charts">{learning_curve(run.returns)}</div></section>'
    )


def _policy(name: str, versions: list[VersionStatus]) -> str:
    spec = versions[-1].policy.spec
    shown = drawn(versions)
    swatches = {one.version.number: one.swatch for one in shown} if len(shown) > 1 else {}
    rows = "".join(_row(version, swatches.get(version.number, "")) for version in reversed(versions))
    heads = "".join(f"<th>{head}</th>" for head in _COLUMNS)
    return (
        f'<section><header><h2>{escape(name)}</h2><span class="soft">{escape(str(spec.observation_space))} &rarr; '
        f"{escape(str(spec.action_space))}, {escape(spec.described_distribution.replace('_', ' '))}</span></header>"
        f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>{charts(shown)}</section>"
    )


def _row(version: VersionStatus, swatch: str) -> str:
    about, recent, episodes = version.policy.description, version.recent, version.episodes
    labels = "".join(f'<span class="label">{escape(label)}</span>' for label in version.labels)
    since = about.load_time.ToDatetime().strftime("%Y-%m-%d %H:%M")
    cells = (
        f"{swatch}<b>{about.version}</b> <small>{escape(about.engine)}</small>{labels}",
        f"{since} UTC",
        number(recent.answers_per_second),
        _milliseconds(recent.p50),
        _milliseconds(recent.p99),
        f"{episodes.count:,}",
        number(episodes.mean_return),
        number(episodes.mean_length),
    )
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


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
