"""A real server process that can be killed and started again at the same address."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["SHIPPED", "Server", "publish", "serving"]

SHIPPED = Path(__file__).parents[2] / "saved_models" / "cartpole-v1" / "1"
"""A small policy that is there without training."""


class Server:
    """``python -m pgkeras serve``, as a process.

    Args:
        root: What to serve.
        scratch: Where its port and its log are written.
        options: More arguments.
    """

    def __init__(self, root: Path, scratch: Path, *options: str) -> None:
        self._root, self._options = root, options
        self._port_file = scratch / "port"
        self.log = scratch / "log"
        self.port = 0
        self.process: subprocess.Popen[str]

    @property
    def target(self) -> str:
        """Its address."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it, at the address that it had before if it had one, and waits until it is ready."""
        command = [sys.executable, "-m", "pgkeras", "serve", str(self._root), "--port", str(self.port)]
        command += ["--port-file", str(self._port_file), *self._options]
        with self.log.open("a") as stderr:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
        assert self.process.stdout is not None
        if not self.process.stdout.readline():
            raise RuntimeError(f"the server did not start: {self.log.read_text()}")
        self.port = int(self._port_file.read_text())

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.communicate()

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=60)
        return self.process.returncode

    def rss_mb(self) -> float:
        """Resident memory, in MiB."""
        return self._status("VmRSS:") / 1024

    def _status(self, name: str) -> int:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.split(name)[1].split()[0])


@contextlib.contextmanager
def serving(root: Path, scratch: Path, *options: str) -> Iterator[Server]:
    """A server that is there for the length of the body."""
    server = Server(root, scratch, *options)
    server.start()
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.kill()


def publish(policy: Path, version: int, source: Path = SHIPPED) -> Path:
    """Copies a version beside its place and renames it, as an export does."""
    scratch = policy / f".copy-{version}"
    shutil.copytree(source, scratch)
    return scratch.rename(policy / str(version))
