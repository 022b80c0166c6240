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
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Plot the latencies to this PNG file.")
@connection_options
def command(as_json: bool, plot: Path | None, connection: dict[str, Any], **options: Any) -> None:
    """Measure the latency and throughput of a policy server with random observations.

    With --rate, calls are sent on a schedule (open loop). A latency starts when its call was due, as for independent
    callers. Without --rate, every call waits for the previous one (closed loop). This measures the highest rate, and
    the latency at that rate.

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
            raise ConfigError(f"--plot {plot}: directory {plot.parent} does not exist; create it, or give another file")
    report = bench.run(load, **connection)
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else str(report))
    if plot is not None:
        plot_latencies(plot, report)
        click.echo(f"Wrote {plot}", err=as_json)
    if not len(report.latencies):
        raise click.ClickException("no call was answered with OK")
