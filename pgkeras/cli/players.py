"""Options of the commands that play episodes: the policy and the environment."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from pgkeras.bundle import bundle
from pgkeras.cli.connection import connection_options
from pgkeras.cli.targets import is_address, target_option, version_options
from pgkeras.client.client import Mode, PolicyClient, PolicyInfo
from pgkeras.engines import EngineName, load
from pgkeras.errors import ConfigError, extra_needed
from pgkeras.settings import config as config_
from pgkeras.settings.recipe import READ, Recipe

if TYPE_CHECKING:
    from pgkeras.evaluation.actors import EngineActor, RemoteActor

__all__ = ["Player", "environment_settings", "player_options"]

_OPTIONS = (
    click.argument("policy_or_address", metavar="[PATH|HOST:PORT]", required=False),
    target_option("Address of a policy server, instead of the argument.", required=False),
    click.option("--env", "env_id", help="Environment to play. [default: the environment of the training]"),
    click.option(
        "--set",
        "pairs",
        multiple=True,
        metavar="KEY=VALUE",
        help=f"A setting of the environment: {', '.join(READ)}; may be repeated.",
    ),
    click.option(
        "--trust-server",
        is_flag=True,
        help="Allow any module and wrapper that the server names for the environment; their code runs on this machine.",
    ),
    click.option(
        "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the environments and of sampling."
    ),
    version_options,
    click.option(
        "--engine",
        type=click.Choice(get_args(EngineName)),
        default="auto",
        show_default=True,
        help="Engine that computes a policy from disk.",
    ),
)


@dataclass(frozen=True)
class Player:
    """The policy that plays, and its environment.

    Args:
        target: The path or address.
        name: The policy's name and version, as text.
        recipe: The environment.
        seed: Seed of the environments and of sampling.
        act: Creates the actor for a mode.
        most_rows: Maximum number of observations per call.
    """

    target: str
    name: str
    recipe: Recipe
    seed: int
    act: Callable[[Mode], EngineActor | RemoteActor]
    most_rows: float


def player_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options. The command gets ``player``."""

    @connection_options
    @functools.wraps(command)
    def wrapped(
        policy_or_address: str | None,
        target: str | None,
        env_id: str | None,
        pairs: tuple[str, ...],
        trust_server: bool,
        seed: int,
        policy: str,
        policy_version: int | None,
        label: str | None,
        engine: EngineName,
        connection: dict[str, Any],
        **arguments: Any,
    ) -> Any:
        if (policy_or_address is None) == (target is None):
            raise click.UsageError("give either PATH, HOST:PORT or --target HOST:PORT")
        where = target or policy_or_address or ""
        with extra_needed("train", "play episodes"):
            from pgkeras.evaluation.actors import RemoteActor
        act: Callable[[Mode], EngineActor | RemoteActor]
        remote = target is not None or is_address(where)
        if trust_server and not remote:
            raise click.UsageError("--trust-server applies to servers only; a policy on disk is always trusted")
        if remote:
            if engine != "auto":
                raise click.UsageError(
                    "--engine applies to policies on disk only; a server's settings choose its engine"
                )
            client = PolicyClient(where, policy, policy_version, label=label, **connection)
            info = client.describe()
            name, version, provenance, most_rows = info.name, info.version, info.provenance, _most_rows(info)
            act = functools.partial(RemoteActor, client)
        else:
            if label is not None:
                raise click.UsageError("--label applies to servers only; give a version's directory instead")
            found = bundle.open_bundle(bundle.find(_place(Path(where), policy, policy_version)))
            name, version, provenance, most_rows = found.name, found.version, found.provenance, math.inf
            act = functools.partial(_local, found, engine)
        recipe = _recipe(where, provenance, env_id, pairs)
        if remote and env_id is None and not trust_server:
            _check_harmless(where, recipe, "wrappers" in environment_settings(pairs))
        return command(**arguments, player=Player(where, f"{name}, version {version}", recipe, seed, act, most_rows))

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def _most_rows(info: PolicyInfo) -> float:
    return math.inf if info.limits is None else info.limits.max_batch_size


def _place(path: Path, policy: str, version: int | None) -> Path:
    """Returns the path of a policy, given a directory, and optionally a name and a version."""
    if policy:
        path /= bundle.check_name(policy)
    if version is not None:
        path = (path if policy else bundle.find(path).parent) / str(version)
    return path


def _local(found: bundle.Bundle, engine: EngineName, mode: Mode) -> EngineActor:
    from pgkeras.cli.native_output import quiet
    from pgkeras.evaluation.actors import EngineActor

    with quiet():
        return EngineActor(found.spec, load(found, engine), mode)


def environment_settings(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Parses the environment's settings given by ``--set``.

    Raises:
        ConfigError: A setting does not belong to the environment.
    """
    given = config_.assignments(pairs)
    for key in given:
        if key not in READ:
            raise ConfigError(f"--set {key}: expected a setting of the environment: {', '.join(READ)}")
    return given


def _recipe(where: str, provenance: Mapping[str, Any], env_id: str | None, pairs: tuple[str, ...]) -> Recipe:
    given = environment_settings(pairs)
    trained_on = provenance.get("config") or provenance
    if env_id is not None:
        trained_on = {"env_id": env_id}  # the settings of the training may not apply to another environment
    elif not provenance.get("is_environment", True):
        raise ConfigError(
            f"{where} learned from connected simulators: serve it with pgkeras serve and connect a simulator, or name "
            "a gymnasium environment with the same spaces with --env"
        )
    elif trained_on.get("env_id") is None:
        raise ConfigError(f"{where} does not name the environment of its training: give --env")
    return Recipe.read(config_.overlay(trained_on, given))


def _check_harmless(where: str, recipe: Recipe, own_wrappers: bool) -> None:
    """Refuses an environment with which a server could run arbitrary code or write files on this machine.

    Args:
        where: The server.
        recipe: The environment that it names.
        own_wrappers: Whether the user gave the wrappers, instead of the server.

    Raises:
        ConfigError: The environment is not in gymnasium's registry, or a wrapper is not gymnasium's or writes files.
    """
    with extra_needed("train", "play episodes"):
        from gymnasium import wrappers
    called = [] if own_wrappers else [call.name for call in recipe.wrappers]
    harmless = set(wrappers.__all__) - {"RecordVideo"}
    named = [f"wrapper {name}" for name in called if name not in harmless]
    if ":" in recipe.env_id or recipe.env_id.startswith("GymV"):  # these ids can create environments from modules, too
        named.insert(0, f"environment {recipe.env_id}")
    if named:
        raise ConfigError(
            f"{where} names {' and '.join(named)}, which could run arbitrary code here or write files: name the "
            "environment yourself with --env and --set, or give --trust-server if you trust the server"
        )
