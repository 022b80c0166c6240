"""Runs in Weights & Biases, through its own library.

Which server, project, entity and mode are its environment variables' matter: ``WANDB_PROJECT``, ``WANDB_MODE=offline``
and so on (https://docs.wandb.ai/guides/track/environment-variables).
"""

from __future__ import annotations

import os
import secrets
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pgkeras.errors import RunError
from pgkeras.files import write_whole
from pgkeras.runs.loggers.base import BUNDLE, Logger, Record, load_or_create_id

__all__ = ["WandbLogger"]

_ID = "wandb-id.txt"
_PROJECT = "pgkeras"


class _Open:
    """A run that is open, for all loggers of this process that write to it; it ends with the last of them.

    Raises:
        RunError: W&B refuses it.
    """

    def __init__(self, run_id: str, directory: Path) -> None:
        import wandb

        try:
            self.run: Any = wandb.init(
                project=os.environ.get("WANDB_PROJECT", _PROJECT),
                id=run_id,
                name=directory.name,
                dir=str(directory),
                resume="allow",
                reinit="create_new",  # several runs of one process are several
                settings=wandb.Settings(console="off", save_code=False, silent=True),
            )
        except wandb.Error as error:
            raise RunError(
                f"Weights & Biases cannot start a run: {str(error).rstrip('. ')}; log in with: wandb login, or set "
                "WANDB_MODE=offline, or leave wandb out of loggers"
            ) from error
        self.run.define_metric("*", step_metric="env_steps")
        weakref.finalize(self, self.run.finish).atexit = False  # W&B ends open runs by itself at exit


_opened: weakref.WeakValueDictionary[str, _Open] = weakref.WeakValueDictionary()


class WandbLogger(Logger):
    """Metrics by epoch and over environment steps, settings, and what the run leaves.

    The run in W&B ends when this logger is gone, or with the process: what is exported after training belongs to it.

    Args:
        run: The run's directory; W&B's own files go into it, too.
    """

    wants_films = True

    def __init__(self, run: Path) -> None:
        self._directory = run
        self._open: _Open | None = None

    def begin(self, config: Mapping[str, Any], *, anew: bool = False) -> None:
        """See :meth:`Logger.begin`."""
        if anew:
            run_id = secrets.token_hex(4)
            self._open = self._opened_as(run_id)
            write_whole(self._directory / _ID, run_id)
        self._run.config.update({"env_id": config["env_id"], **config["config"]}, allow_val_change=True)

    def write(self, record: Record) -> None:
        """See :meth:`Logger.write`."""
        finite = {name: value for name, value in record.items() if value is not None}
        self._run.log(finite, step=int(record["epoch"] or 0))

    def forget_after(self, epoch: int, env_steps: int) -> None:
        """See :meth:`Logger.forget_after`: W&B takes no step twice, and its run gets no others in their place."""

    def keep(self, what: str, path: Path) -> None:
        """See :meth:`Logger.keep`."""
        import wandb

        if what == BUNDLE:
            artifact = wandb.Artifact(path.parent.name, type="model", metadata={"version": path.name})
            artifact.add_dir(str(path))
            self._run.log_artifact(artifact)
        else:
            made = wandb.Image(str(path)) if path.suffix == ".png" else wandb.Video(str(path))
            self._run.log({what: made}, commit=False)  # to the last epoch's row: the next step is the next epoch's

    @property
    def _run(self) -> Any:
        if self._open is None:
            self._open = self._opened_as(load_or_create_id(self._directory / _ID, lambda: secrets.token_hex(4)))
        return self._open.run

    def _opened_as(self, run_id: str) -> _Open:
        opened = _opened.get(run_id)
        if opened is None:
            opened = _opened[run_id] = _Open(run_id, self._directory)
        return opened
