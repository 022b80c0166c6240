"""``pgkeras act``."""

from __future__ import annotations

import json
from typing import Any, get_args

import click

from pgkeras.cli import text as text_
from pgkeras.cli.connection import connection_options
from pgkeras.cli.targets import target_option, version_options
from pgkeras.client.client import Mode, PolicyClient
from pgkeras.errors import ConfigError

__all__ = ["command"]


@click.command()
@target_option()
@click.option(
    "--observation",
    metavar="JSON",
    required=True,
    help="One observation, or a list of observations, as JSON. A Dict observation is an object.",
)
@click.option(
    "--action-mask", metavar="JSON", help="Allowed actions: a list of 0 and 1, or one such list per observation."
)
@version_options
@click.option(
    "--mode",
    type=click.Choice(get_args(Mode)),
    default="sample",
    show_default=True,
    help="Sample an action, or take the most probable one.",
)
@click.option("--seed", type=int, help="Seed of the sampling, to make it reproducible.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@connection_options
def command(
    target: str,
    observation: str,
    action_mask: str | None,
    policy: str,
    policy_version: int | None,
    label: str | None,
    mode: Mode,
    seed: int | None,
    as_json: bool,
    connection: dict[str, Any],
) -> None:
    """Ask a policy server for an action.

    Prints the action distribution and the chosen action. Example:
    pgkeras act --target 127.0.0.1:50051 --observation '[0.0, 0.1, 0.0, -0.1]'
    """
    observations = _parse("--observation", observation, "[0.0, 0.1]")
    mask = None if action_mask is None else _parse("--action-mask", action_mask, "[1, 0]")
    with PolicyClient(target, policy, policy_version, label=label, **connection) as client:
        actions = client.act(observations, mode, seed, action_mask=mask)
        space = client.describe().spec.action_space
    click.echo(json.dumps(text_.actions_json(actions)) if as_json else text_.actions(actions, space))


def _parse(option: str, text: str, example: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{option}: expected JSON such as '{example}', got {text!r}: {error}") from error
