"""A server process that can be killed and started again at the same address."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["SHIPPED", "Server", "publish", "serving"]

SHIPPED = Path(__file__).parents[2] / "saved_models" / "cartpole-v1" / "1"
"""A small policy that needs no training."""


class Server:
    """``python -m pgkeras serve``, as a process.

    Args:
        root: The directory to serve.
        scratch: Directory for the port number and the log. An earlier log is deleted.
        options: Further arguments.
        prelude: Python code that runs first.
    """

    def __init__(self, root: Path, scratch: Path, *options: str, prelude: str = "") -> None:
        self._root, self._options = root, options
        code = f"{prelude}\nfrom pgkeras.cli import main\nmain()"
        self._program = ["-c", code] if prelude else ["-m", "pgkeras"]
        self._port_file = scratch / "port"
        self.log = scratch / "log"
        self.log.unlink(missing_ok=True)
        self.port = 0
        self.ready = ""
        """The line that the server prints when it is ready."""
        self.process: subprocess.Popen[str]

    @property
    def target(self) -> str:
        """The address of the server."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts the server, at its previous address if it had one, and waits until it is ready."""
        command = [sys.executable, *self._program, "serve", str(self._root), "--port", str(self.port)]
        command += ["--port-file", str(self._port_file), *self._options]
        with self.log.open("a") as stderr:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
        assert self.process.stdout is not None
        self.ready = self.process.stdout.readline().strip()
        if not self.ready:
            self.kill()
            raise RuntimeError(f"the server did not start: {self.log.read_text()}")
        self.port = int(self._port_file.read_text())

    def kill(self) -> None:
        """Kills the server with SIGKILL."""
        self.process.kill()
        self.process.communicate()

    def stop(self) -> int:
        """Stops the server with SIGTERM. Returns its exit status."""
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=60)
        return self.process.returncode

    def said(self) -> str:
        """Returns the log when it no longer grows, because a thread of the server writes it with a delay."""
        text = None
        while (now := self.log.read_text()) != text:
            text = now
            time.sleep(0.1)
        return now

    def rss_mb(self) -> float:
        """Returns the resident memory in MiB."""
        return self._status("VmRSS:") / 1024

    def _status(self, name: str) -> int:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.split(name)[1].split()[0])


@contextlib.contextmanager
def serving(root: Path, scratch: Path, *options: str, prelude: str = "") -> Iterator[Server]:
    """Runs a :class:`Server` during the body of a with statement."""
    server = Server(root, scratch, *options, prelude=prelude)
    server.start()
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait()
        assert server.process.stdout is not None
        server.process.stdout.close()


def publish(policy: Path, version: int, source: Path = SHIPPED) -> Path:
    """Copies a version under a hidden name next to its destination and renames it, like an export."""
    scratch = policy / f".copy-{version}"
    shutil.copytree(source, scratch)
    return scratch.rename(policy / str(version))
