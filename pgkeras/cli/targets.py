"""Finds a policy on disk or behind a server, and the directory to publish policies to."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

__all__ = ["DEFAULT_ROOT", "VERSION", "is_address", "name_option", "root_option"]

DEFAULT_ROOT = Path("saved_models")
VERSION = click.IntRange(1, 2**63 - 1)  # of a policy

_ADDRESS = re.compile(r"(\[[^\]]+\]|[^/\\:]+):\d{1,5}")


def is_address(target: str) -> bool:
    """Whether ``target`` is HOST:PORT, unix:PATH or a URL, which the client refuses, rather than a path."""
    return target.startswith(("unix:", "http://", "https://")) or (
        _ADDRESS.fullmatch(target) is not None and not Path(target).exists()
    )


def root_option(flag: str) -> Callable[[Any], Any]:
    """Adds the option ``root``: the directory of policies to publish under."""
    return click.option(
        flag,
        "root",
        type=click.Path(path_type=Path),
        default=DEFAULT_ROOT,
        show_default=True,
        help="Directory of policies to publish under.",
    )


def name_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the option ``name``: what to publish a policy as."""
    return click.option("--name", help="Name to publish it by. [default: the environment's, in lower case]")(command)
