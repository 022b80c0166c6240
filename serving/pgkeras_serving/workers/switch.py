"""Switch: makes all workers serve new versions and labels from the same moment on.

Each worker loads new versions and keeps them pending under a generation number. When the workers agree, the supervisor
writes that number into shared memory, and from then on every worker serves the pending versions. A client that has seen
a version therefore never reaches a worker that does not serve it yet.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
from typing import Self

from pgkeras_serving.policies.contents import Contents
from pgkeras_serving.sessions.policies import ServedPolicies
from pgkeras_serving.settings.config import ServerConfig
from pgkeras_serving.workers.commands import Digest

__all__ = ["Switch", "SwitchedPolicies"]

_SIZE = mmap.PAGESIZE


class Switch:
    """A generation number in shared memory.

    Args:
        file: Descriptor of the mapped file. Child processes must inherit it.
    """

    def __init__(self, file: int) -> None:
        self.file = file
        self._memory = memoryview(mmap.mmap(file, _SIZE)).cast("Q")

    @classmethod
    def make(cls) -> Self:
        """Creates a switch at generation 0."""
        with tempfile.TemporaryFile() as file:
            file.truncate(_SIZE)
            return cls(os.dup(file.fileno()))

    @property
    def generation(self) -> int:
        """The current generation."""
        return self._memory[0]

    @generation.setter
    def generation(self, number: int) -> None:
        self._memory[0] = number  # an atomic store of eight bytes


class SwitchedPolicies(ServedPolicies):
    """Policies served from disk, as of the switch's generation.

    Args:
        config: The server's settings.
        switch: The switch.
    """

    def __init__(self, config: ServerConfig, switch: Switch) -> None:
        self._switch = switch
        self._lock = threading.Lock()
        self._served = Contents()
        self._pending: tuple[int, Contents] | None = None
        self._loading = 0
        self._has_loaded = False
        super().__init__(config)

    def load_generation(self, generation: int) -> Digest:
        """Loads new versions and keeps them pending for a generation; blocks.

        Returns:
            The loaded versions and labels. The keys of versions include the hash of their files.

        Raises:
            BundleError: There is no policy that can be served.
        """
        self._loading = generation
        if self._has_loaded or self._config.wait_for_policies:
            super().refresh()
        else:
            super().load()
        self._has_loaded = True
        found = self._served if self._pending is None else self._pending[1]
        digest: dict[tuple[object, ...], str] = {}
        for name, policies in found.policies.items():
            for number, policy in policies.items():
                digest[name, number, policy.version.spec_hash, policy.digest] = f"{name}/{number}"
        for name, labels in found.labels.items():
            for label, number in labels.items():
                digest[name, label, number] = f"label {label} of {name} on {number}"
        return digest

    def load(self) -> None:
        """Does nothing: the supervisor requests :meth:`load_generation`."""

    def refresh(self) -> None:
        """Does nothing: the supervisor requests :meth:`load_generation`."""

    @property
    def _contents(self) -> Contents:
        pending = self._pending
        if pending is not None and pending[0] <= self._switch.generation:
            with self._lock:
                self._apply_pending()
        return self._served

    @_contents.setter
    def _contents(self, contents: Contents) -> None:
        with self._lock:
            self._apply_pending()
            self._pending = self._loading, contents

    def _apply_pending(self) -> None:
        if self._pending is not None and self._pending[0] <= self._switch.generation:
            self._served, self._pending = self._pending[1], None
