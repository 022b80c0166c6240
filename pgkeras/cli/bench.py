"""``pgkeras bench``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click

from pgkeras import bench
from pgkeras.bench.load import Arrivals, Rpc, settings
from pgkeras.bench.plot import check_plotting, plot_latencies

__all__ = ["command"]

_KINDS: dict[str, Any] = {
    "policy_version": int,
    "rpc": click.Choice(get_args(Rpc)),
    "rate": float,
    "arrivals": click.Choice(get_args(Arrivals)),
    "concurrency": int,
}


def _option(setting: dataclasses.Field[Any]) -> Callable[[Any], Any]:
    return click.option(
        "--" + setting.name.replace("_", "-"),
        type=_KINDS.get(setting.name, type(setting.default) if setting.default is not None else str),
        default=setting.default,
        show_default=setting.default not in (None, ""),
        help=setting.metadata["help"],
    )


@click.command()
@click.option("--target", metavar="HOST:PORT", required=True, help="Address of the policy server.")
def command(as_json: bool, plot: Path | None, **options: Any) -> None:
    """Measure how fast a policy server answers, with random observations of the policy's space.

    With --rate, calls are sent on schedule, and a latency counts from the moment when its call was due: that is what
    callers see who do not wait for each other. Without it, every call waits for the one before: that finds the highest
    rate, at the latency of that rate.

    \b
    Examples:
      pgkeras bench --target 127.0.0.1:50051 --concurrency 64
      pgkeras bench --target 127.0.0.1:50051 --rate 500 --plot latency.png
      pgkeras bench --target 127.0.0.1:50051 --rpc play --batch 16 --concurrency 32
    """
    load = bench.Load(**options)
    if plot is not None:
        check_plotting()
    report = bench.run(load)
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else str(report))
    if plot is not None:
        plot_latencies(plot, report)
        click.echo(f"Wrote {plot}", err=as_json)


for _setting in settings():
    command = _option(_setting)(command)
command = click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)
command = click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw the latencies into this PNG file."
)(command)
