"""Checkpoints: all that a run needs to go on, bit for bit, as NumPy archives.

::

    <run>/checkpoints/
      epoch-00000120.npz    the last ones, by the number of epochs finished
      epoch-00000150.npz
      best.npz              where the policy was that evaluations liked best
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.errors import RunError
from pgkeras.files import replacing

__all__ = ["BEST", "LAST", "Checkpoints"]

LAST = "last"
BEST = "best"

Arrays = dict[str, NDArray[Any]]


class Checkpoints:
    """The checkpoints of one run. Each is written whole or not at all.

    Args:
        run: The run's directory.
        keep: How many of the last to keep, beside the best.
    """

    def __init__(self, run: Path, keep: int) -> None:
        self._run = run
        self._keep = keep
        self.path = run / "checkpoints"
        self._best = self.path / f"{BEST}.npz"

    def epochs(self) -> list[int]:
        """After which epochs there is one, ascending."""
        names = [file.stem.removeprefix("epoch-") for file in self.path.glob("epoch-*.npz")]
        return sorted(int(name) for name in names if name.isdecimal())  # beside copies of other names

    @property
    def has_best(self) -> bool:
        """Whether there is a best one."""
        return self._best.exists()

    def file(self, name: str = LAST) -> Path:
        """The file of a checkpoint.

        Args:
            name: "last", "best", or the number of epochs finished.

        Raises:
            RunError: There is none of that name.
        """
        epochs = self.epochs()
        if name == BEST and self.has_best:
            return self._best
        if name == LAST and epochs:
            return self._file(epochs[-1])
        if name.isdecimal() and int(name) in epochs:
            return self._file(int(name))
        there = [*map(str, epochs), *([BEST] if self.has_best else [])]
        why = "a run keeps the best only with evaluations (--evaluation-every); " if name == BEST else ""
        raise RunError(f"{self._run} has no checkpoint {name!r}; {why}it has: {', '.join(there) or 'none'}")

    def write(self, epoch: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Writes the checkpoint after an epoch, then drops those beyond the number to keep."""
        self._write(self._file(epoch), arrays)
        for old in self.epochs()[: -self._keep]:
            self._file(old).unlink(missing_ok=True)

    def write_best(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Replaces the best one."""
        self._write(self._best, arrays)

    def read(self, name: str = LAST) -> Arrays:
        """A checkpoint's arrays.

        Raises:
            RunError: There is none of that name, or it cannot be read; the message names the next older one.
        """
        file = self.file(name)
        try:
            with np.load(file, allow_pickle=False) as data:
                return dict(data)
        # A RuntimeError is zipfile's, of a way of packing that it does not know.
        except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise RunError(f"cannot read {file}: {error}; {self._advice(file)}") from error

    def forget_after(self, epoch: int, *, best: bool = False) -> None:
        """Drops the checkpoints after an epoch, which a run that goes on from it makes anew, and what a kill left.

        Args:
            epoch: The epoch.
            best: Whether to drop the best one, too.
        """
        if best:
            self._best.unlink(missing_ok=True)
        for later in self.epochs():
            if later > epoch:
                self._file(later).unlink()
        for scratch in self.path.glob(".*"):
            scratch.unlink()

    def _file(self, epoch: int) -> Path:
        return self.path / f"epoch-{epoch:08d}.npz"

    def _write(self, file: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
        try:
            self.path.mkdir(exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot create {self.path}: {error}") from error
        with replacing(file) as scratch:
            np.savez(scratch, allow_pickle=False, **arrays)

    def _advice(self, spoilt: Path) -> str:
        if spoilt == self._best:
            return "delete it to do without it"
        older = [epoch for epoch in self.epochs() if self._file(epoch) < spoilt]
        if not older:
            return "there is no older one"
        return f"go on from an older one with: pgkeras train --resume {self._run} --checkpoint {older[-1]}"
