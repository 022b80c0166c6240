"""Switch: the moment at which all workers go over to new versions and labels.

Each worker loads what is new and keeps it aside, under the number of a generation. When they agree on what they have
found, the supervisor writes that number into memory that all share, and from then on each serves it. So no client that
has seen a version can reach a worker that has not got it yet.
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
    """A number that processes share.

    Args:
        file: Descriptor of the file that holds it; a child process has to inherit it.
    """

    def __init__(self, file: int) -> None:
        self.file = file
        self._memory = memoryview(mmap.mmap(file, _SIZE)).cast("Q")

    @classmethod
    def make(cls) -> Self:
        """A new one, at 0."""
        with tempfile.TemporaryFile() as file:
            file.truncate(_SIZE)
            return cls(os.dup(file.fileno()))

    @property
    def generation(self) -> int:
        """The number."""
        return self._memory[0]

    @generation.setter
    def generation(self, number: int) -> None:
        self._memory[0] = number  # one store of eight bytes, which nobody can see half of


class SwitchedPolicies(ServedPolicies):
    """The policies on disk as they were when the switch's generation was looked at.

    Args:
        config: Where the policies are and how to run them.
        switch: The switch.
    """

    def __init__(self, config: ServerConfig, switch: Switch) -> None:
        self._switch = switch
        self._lock = threading.Lock()
        self._served = Contents()
        self._aside: tuple[int, Contents] | None = None
        self._looking_for = 0
        self._has_loaded = False
        super().__init__(config)

    def look(self, generation: int) -> Digest:
        """Loads what is new and keeps it aside for a generation; blocks.

        Returns:
            What was found. Versions are told from each other by the digests of what was loaded, too.

        Raises:
            BundleError: There is no policy that can be served.
        """
        self._looking_for = generation
        if self._has_loaded or self._config.wait_for_policies:
            super().refresh()
        else:
            super().load()
        self._has_loaded = True
        found = self._served if self._aside is None else self._aside[1]
        digest: dict[tuple[object, ...], str] = {}
        for name, policies in found.policies.items():
            for number, policy in policies.items():
                digest[name, number, policy.version.spec_hash, policy.digest] = f"{name}/{number}"
        for name, labels in found.labels.items():
            for label, number in labels.items():
                digest[name, label, number] = f"label {label} of {name} on {number}"
        return digest

    def load(self) -> None:
        """Nothing: the supervisor says when to look."""

    def refresh(self) -> None:
        """Nothing: the supervisor says when to look."""

    @property
    def _contents(self) -> Contents:
        aside = self._aside
        if aside is not None and aside[0] <= self._switch.generation:
            with self._lock:
                self._go_over()
        return self._served

    @_contents.setter
    def _contents(self, contents: Contents) -> None:
        with self._lock:
            self._go_over()
            self._aside = self._looking_for, contents

    def _go_over(self) -> None:
        if self._aside is not None and self._aside[0] <= self._switch.generation:
            self._served, self._aside = self._aside[1], None
