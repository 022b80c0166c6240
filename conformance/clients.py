"""The clients: what is in ``clients/<name>/client.toml``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

__all__ = ["Client", "find_all"]

CLIENTS = Path(__file__).parents[1] / "clients"


@dataclass(frozen=True)
class Client:
    """A client and how to use it.

    Args:
        name: Its directory's name under ``clients/``.
        toolchain: Commands that have to be installed.
        generate: Commands that generate its stubs, if they are committed; run in its directory, like the others.
        build: Commands that build it.
        test: Commands that check it without a policy server: formatter, linter, generated code, the vectors.
        conformance: Its conformance program; empty for a client that can only be compiled here.
        cartpole: Its simulator.
        teach: Its simulator, as it teaches a policy in training; empty where it cannot.
        bench: Its benchmark program.
        optional: Whether it may be skipped even where all are required.
    """

    name: str
    toolchain: list[str] = field(default_factory=list)
    generate: list[list[str]] = field(default_factory=list)
    build: list[list[str]] = field(default_factory=list)
    test: list[list[str]] = field(default_factory=list)
    conformance: list[str] = field(default_factory=list)
    cartpole: list[str] = field(default_factory=list)
    teach: list[str] = field(default_factory=list)
    bench: list[str] = field(default_factory=list)
    optional: bool = False

    @property
    def directory(self) -> Path:
        """Where it is."""
        return CLIENTS / self.name

    def missing(self) -> list[str]:
        """Commands of its toolchain that are not installed."""
        return [command for command in self.toolchain if shutil.which(command) is None]

    def run(self, command: list[str], output: IO[str] | None = None) -> None:
        """Runs one of its commands to its end.

        Args:
            command: The command.
            output: Where what it prints goes, instead of to standard output.

        Raises:
            subprocess.CalledProcessError: It failed.
        """
        subprocess.run(
            self.command(command), cwd=self.directory, env=environment(), stdout=output, check=True, timeout=1800
        )

    def command(self, command: list[str]) -> list[str]:
        """A command of its ``client.toml``, in which "python" is the Python that runs this."""
        return [sys.executable, *command[1:]] if command[0] == "python" else command


# No proxy stands between a machine and itself: a client that asks this one, finds nobody.
_DEAD_PROXY = "http://127.0.0.1:9"
_PROXIES = dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY"), _DEAD_PROXY)


def playing_environment() -> dict[str, str]:
    """The environment of a client that calls a server on its own machine."""
    return {**environment(), **_PROXIES, "no_proxy": "", "NO_PROXY": ""}


def environment() -> dict[str, str]:
    """The environment of a client's commands, which run elsewhere: what this Python finds, they find too."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path)}


def find_all() -> list[Client]:
    """Every client, by name."""
    return [
        Client(file.parent.name, **tomllib.loads(file.read_text())) for file in sorted(CLIENTS.glob("*/client.toml"))
    ]
