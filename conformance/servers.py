"""Policy servers as child processes."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Server", "serve"]


@dataclass
class Server:
    """A running ``pgkeras serve``.

    Args:
        process: The process.
        target: HOST:PORT.
    """

    process: subprocess.Popen[str]
    target: str

    def stop(self) -> None:
        """Drains the server and waits until it has ended."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


@contextlib.contextmanager
def serve(root: Path, scratch: Path, *options: str) -> Iterator[Server]:
    """Starts a server of the policies under ``root`` and waits until it is ready.

    Args:
        root: A directory of policies, of one policy or of one version.
        scratch: Directory for the log and the port number.
        options: Further options of ``pgkeras serve``. Without ``--port`` the server uses a free port.

    Raises:
        RuntimeError: The server did not start. The message has its log.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    port_file, log = scratch / "port", scratch / "log"
    port = () if "--port" in options else ("--port", "0")
    command = [sys.executable, "-m", "pgkeras", "serve", str(root), "--port-file", str(port_file), *port, *options]
    with log.open("a") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RuntimeError(f"the server did not start: {log.read_text()}")
        yield Server(process, f"127.0.0.1:{int(port_file.read_text())}")
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()
