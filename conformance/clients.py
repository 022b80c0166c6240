"""The clients, as ``clients/<name>/client.toml`` describes them."""

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
    """A client and its commands. All commands run in the client's directory.

    Args:
        name: Name of the directory under ``clients/``.
        toolchain: Commands that must be installed.
        generate: Commands that generate the stubs, if they are committed.
        build: Commands that build the client.
        test: Commands that check it without a policy server: formatter, linter, generated code, the vectors.
        conformance: The conformance program; empty for a client that can only be compiled.
        cartpole: The simulator.
        teach: The simulator, with options that make it train a policy; empty if it cannot.
        bench: The benchmark program.
        optional: Whether the client may be skipped if ``--require all`` is given.
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
        """The client's directory."""
        return CLIENTS / self.name

    def missing(self) -> list[str]:
        """Returns the commands of the toolchain that are not installed."""
        return [command for command in self.toolchain if shutil.which(command) is None]

    def run(self, command: list[str], output: IO[str] | None = None) -> None:
        """Runs one of the client's commands to its end.

        Args:
            command: The command.
            output: File for the command's output. By default it goes to standard output.

        Raises:
            subprocess.CalledProcessError: The command failed.
        """
        subprocess.run(
            self.command(command), cwd=self.directory, env=environment(), stdout=output, check=True, timeout=1800
        )

    def command(self, command: list[str]) -> list[str]:
        """Returns a command of ``client.toml``, in which "python" is replaced by the running interpreter."""
        return [sys.executable, *command[1:]] if command[0] == "python" else command


# No server listens at this proxy address. Clients must not use a proxy for a server on their own machine.
_DEAD_PROXY = "http://127.0.0.1:9"
_PROXIES = dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY"), _DEAD_PROXY)


def playing_environment() -> dict[str, str]:
    """Returns the environment of a client that calls a server on its own machine."""
    return {**environment(), **_PROXIES, "no_proxy": "", "NO_PROXY": ""}


def environment() -> dict[str, str]:
    """Returns the environment of a client's commands. They find the same modules and commands as this interpreter."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path)}


def find_all() -> list[Client]:
    """Returns every client, sorted by name."""
    return [
        Client(file.parent.name, **tomllib.loads(file.read_text())) for file in sorted(CLIENTS.glob("*/client.toml"))
    ]
