"""``pgkeras train --listen``: a run whose episodes come from simulators that connect."""

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
    """The id of a run that learns from simulators: its policy's name, which a run that is resumed has already."""
    if env_id is not None:
        raise click.UsageError(f"--listen learns from simulators in place of an environment: leave out {env_id}")
    if name is None and resume is None:
        raise click.UsageError("--listen needs a name for the policy: give --name NAME")
    return None if resume is not None else name


def refuse_of_environments(address: str | None, settings: Iterable[str]) -> None:
    """Refuses settings of gymnasium environments where a run listens: there are none."""
    for name in settings:
        if address is not None and name in _OF_ENVIRONMENTS:
            raise click.UsageError(
                f"{name} is of gymnasium environments: with --listen, the simulators are the environment"
            )


@contextmanager
def listening(
    address: str | None, config: Config, spaces: Path | None, timeout: float, server_config: Path | None
) -> Iterator[Simulators | None]:
    """Simulators, for a run that listens for them."""
    if address is None:
        yield None
        return
    if config.collect == "ray":
        raise click.UsageError("--listen and --collect ray are two ways to get episodes: give one of them")
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
        click.echo(f"Warning: there is no such variable: {advice}", err=True)
    if server.workers_wanted > 1:
        origin = effective.origins["workers"]
        raise ConfigError(f"workers={server.workers}: a run listens by one process (given by {origin})")
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
    """Plays episodes of random actions, and tells what the simulators sent."""
    from pgkeras.simulators.dry_run import dry_run, report

    wait(simulators)
    for line in report(simulators, *dry_run(simulators, _DRY_EPISODES, seed)):
        click.echo(line)


def config_of_simulators(simulators: Simulators, env_id: str, preset: str | None, given: dict[str, Any]) -> Config:
    """The settings of a run, once the first simulator has told what the actions are."""
    from pgkeras.environments.default_config import config_for

    wait(simulators)
    return config_for(env_id, preset, given, simulators.action_space)


def wait(simulators: Simulators) -> None:
    """Waits until the spaces are known."""
    if not simulators.is_declared:
        click.echo("Waiting for the first simulator to declare its spaces.", err=True)
    simulators.wait()
