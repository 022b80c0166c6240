"""``pgkeras train --listen``: a run that learns from connected simulators."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgkeras.cli.targets import is_address
from pgkeras.errors import ConfigError
from pgkeras.settings.recipe import READ

if TYPE_CHECKING:
    from pgkeras.settings.config import Config
    from pgkeras.simulators.source import Simulators

__all__ = [
    "config_of_simulators",
    "in_place_of_environment",
    "listening",
    "refuse_of_environments",
    "report_without_learning",
    "wait",
]

_DRY_EPISODES = 20
_OF_ENVIRONMENTS = {
    *READ,
    "action_masks",
    "env_restarts",
    "env_timeout_seconds",
    "env_workers",
    "envs",
    "vectorization",
}


def in_place_of_environment(env_id: str | None, name: str | None, resume: Path | None) -> str | None:
    """Returns the policy's name, which takes the place of the environment id; None for a resumed run, which has one."""
    if env_id is not None:
        raise click.UsageError(f"--listen learns from simulators instead of an environment: remove {env_id}")
    if name is None and resume is None:
        raise click.UsageError("--listen requires a name for the policy: give --name NAME")
    return None if resume is not None else name


def refuse_of_environments(address: str | None, settings: Iterable[str]) -> None:
    """Refuses settings of gymnasium environments if the run listens for simulators."""
    for name in settings:
        if address is not None and name in _OF_ENVIRONMENTS:
            raise click.UsageError(
                f"{name} applies to gymnasium environments only: with --listen, the simulators are the environment"
            )


@contextmanager
def listening(
    address: str | None, config: Config, spaces: Path | None, timeout: float, server_config: Path | None
) -> Iterator[Simulators | None]:
    """Context that listens for simulators if there is an address, and yields them or None."""
    if address is None:
        yield None
        return
    if config.collect == "ray":
        raise click.UsageError("--listen and --collect ray exclude each other: give one of them")
    from pgkeras_serving.settings.sources import resolve
    from pgkeras_serving.telemetry import logs

    from pgkeras.simulators.declaration import Declaration
    from pgkeras.simulators.source import Simulators

    flags: dict[str, Any] = {"session_idle_seconds": timeout}
    if address.startswith("unix:"):
        flags["listen"] = address
    else:
        host, _, port = address.rpartition(":")
        if not is_address(address):
            raise click.UsageError(f"--listen: expected HOST:PORT or unix:PATH, got {address!r}")
        flags |= {"host": host, "port": int(port)}
    declaration = None if spaces is None else Declaration.read(spaces)
    effective = resolve(flags, os.environ, server_config)
    server = effective.config
    for advice in effective.unknown:
        click.echo(f"Warning: unknown environment variable: {advice}", err=True)
    if server.workers_wanted > 1:
        origin = effective.origins["workers"]
        raise ConfigError(f"workers={server.workers}: a run listens with one process only (given by {origin})")
    if server.log_access:
        logs.configure(server)
    with Simulators(config.env_id, server, declaration, config.endless_steps) as simulators:
        click.echo(
            f"Listening on {simulators.target}. Simulators connect with any client, or with: "
            f"pgkeras simulate ENV_ID --target {simulators.target}",
            err=True,
        )
        yield simulators


def report_without_learning(simulators: Simulators, seed: int) -> None:
    """Plays episodes with random actions, and reports what the simulators sent."""
    from pgkeras.simulators.dry_run import dry_run, report

    wait(simulators)
    for line in report(simulators, *dry_run(simulators, _DRY_EPISODES, seed)):
        click.echo(line)


def config_of_simulators(simulators: Simulators, env_id: str, preset: str | None, given: dict[str, Any]) -> Config:
    """Waits for the first simulator's action space, and returns the settings that depend on it."""
    from pgkeras.environments.default_config import config_for

    wait(simulators)
    return config_for(env_id, preset, given, simulators.action_space)


def wait(simulators: Simulators) -> None:
    """Waits until a simulator has declared its spaces."""
    if not simulators.is_declared:
        click.echo("Waiting for the first simulator to declare its spaces.", err=True)
    simulators.wait()
