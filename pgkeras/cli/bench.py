"""``pgkeras bench``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from pgkeras import bench
from pgkeras.bench.plot import check_plotting, plot_latencies
from pgkeras.cli.connection import connection_options
from pgkeras.cli.setting_options import options_of
from pgkeras.cli.targets import target_option
from pgkeras.errors import ConfigError

__all__ = ["command"]


@click.command()
@target_option()
@options_of(bench.Load)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw the latencies into this PNG file.")
@connection_options
def command(as_json: bool, plot: Path | None, connection: dict[str, Any], **options: Any) -> None:
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
    load = bench.Load(**{name: value for name, value in options.items() if value is not None})
    if plot is not None:
        check_plotting()
        if not plot.parent.is_dir():
            raise ConfigError(f"--plot {plot}: there is no directory {plot.parent}; make it, or name another file")
    report = bench.run(load, **connection)
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else str(report))
    if plot is not None:
        plot_latencies(plot, report)
        click.echo(f"Wrote {plot}", err=as_json)
    if not len(report.latencies):
        raise click.ClickException("no call was answered with OK")
