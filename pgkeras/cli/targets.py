"""Options that name a policy on disk or on a server, and the directory to publish policies to."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

__all__ = [
    "DEFAULT_ROOT",
    "is_address",
    "name_option",
    "policy_option",
    "root_option",
    "target_option",
    "version_options",
]

DEFAULT_ROOT = Path("saved_models")
_VERSION = click.IntRange(1, 2**63 - 1)  # of a policy

_ADDRESS = re.compile(r"(\[[^\]]+\]|[^/\\:]+):\d{1,5}")


def is_address(target: str) -> bool:
    """Whether ``target`` is an address instead of a path. A URL counts as an address, which the client then refuses."""
    return target.startswith(("unix:", "http://", "https://")) or (
        _ADDRESS.fullmatch(target) is not None and not Path(target).exists()
    )


def target_option(about: str = "Address of the policy server.", required: bool = True) -> Callable[[Any], Any]:
    """Adds the option ``target``, the address of a server, with the help text ``about``."""
    return click.option("--target", metavar="HOST:PORT", required=required, help=about)


def policy_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the option ``policy``, the name of a policy, empty by default."""
    return click.option("--policy", default="", help="Name of the policy; optional if there is only one.")(command)


def version_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options ``policy``, ``policy_version`` and ``label``."""
    version = click.option("--policy-version", type=_VERSION, help="Version of the policy. [default: the newest]")
    label = click.option("--label", help="Label of the version, for policies on a server.")
    return policy_option(version(label(command)))


def root_option(flag: str, about: str = "Directory of policies to publish under.") -> Callable[[Any], Any]:
    """Adds the option ``root``, a directory of policies, with the help text ``about``."""
    return click.option(
        flag,
        "root",
        type=click.Path(path_type=Path),
        default=DEFAULT_ROOT,
        show_default=True,
        help=about,
    )


def name_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the option ``name``, the name to publish a policy under."""
    return click.option("--name", help="Name to publish under. [default: the environment's id in lower case]")(command)
