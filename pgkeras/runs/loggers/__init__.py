"""Loggers: where an epoch's metrics go beside ``metrics.jsonl``. A module each; ``base`` says what a logger is."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pgkeras.errors import MissingExtraError

if TYPE_CHECKING:
    from pgkeras.runs.loggers.base import Logger

__all__ = ["check_loggers", "create_loggers"]

# By name in the setting: the module and its class, and the package that it needs, if one that an extra brings.
_LOGGERS = {
    "csv": ("table", "CsvLogger", None),
    "tensorboard": ("tensorboard", "TensorBoardLogger", None),
    "wandb": ("wandb", "WandbLogger", "wandb"),
    "mlflow": ("mlflow", "MlflowLogger", "mlflow"),
}


def create_loggers(names: Sequence[str], run: Path) -> list[Logger]:
    """The loggers that a setting names.

    Args:
        names: As the setting has them.
        run: The run's directory.

    Raises:
        MissingExtraError: The package of one is not installed.
    """
    check_loggers(names)
    found = []
    for name in dict.fromkeys(names):
        module, of_class, _ = _LOGGERS[name]
        found.append(getattr(importlib.import_module(f"{__name__}.{module}"), of_class)(run))
    return found


def check_loggers(names: Sequence[str]) -> None:
    """Checks that the packages of loggers are there, without importing them.

    Raises:
        MissingExtraError: The package of one is not installed.
    """
    for name in names:
        package = _LOGGERS[name][2]
        spec = None if package is None else importlib.util.find_spec(package)
        # A directory of that name, as W&B leaves in the current one, has a spec without an origin.
        if package is not None and (spec is None or spec.origin is None):
            raise MissingExtraError(package, name, f"log to {name}")
