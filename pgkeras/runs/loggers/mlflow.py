"""Runs in MLflow, through its own library.

Where they go is its environment variables' matter: ``MLFLOW_TRACKING_URI`` and ``MLFLOW_EXPERIMENT_NAME``
(https://mlflow.org/docs/latest/ml/tracking/).
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pgkeras.errors import RunError
from pgkeras.files import write_whole
from pgkeras.runs.loggers.base import BUNDLE, Logger, Record, load_or_create_id

__all__ = ["MlflowLogger"]

logger = logging.getLogger(__name__)

_ID = "mlflow-id.txt"
_EXPERIMENT = "pgkeras"
# How often records are sent: a call for each epoch would cost more than the epoch.
_SEND_SECONDS = 1.0
_MOST_SECONDS = 600.0  # between two tries with a server that does not answer
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
_MOST_METRICS = 1_000  # of a call
_MOST_OF_A_VALUE = 6_000  # of a parameter's characters


class MlflowLogger(Logger):
    """Metrics over environment steps, settings, and what the run leaves.

    A tracking server that does not answer costs hardly any training: records wait for it, it is tried more and more
    rarely, and what it did not take by the end is told as a warning. So the library itself need not try again for
    minutes, as it does by default.

    Args:
        run: The run's directory.

    Raises:
        RunError: No tracking server is set, and the local database needs another package.
    """

    wants_films = True

    def __init__(self, run: Path) -> None:
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        self._directory = run
        try:
            self._client: Any = MlflowClient()
        except (ModuleNotFoundError, MlflowException) as error:
            raise RunError(
                "MLflow has no place for runs: without MLFLOW_TRACKING_URI that is a local database, which needs more "
                "than the extra mlflow; set MLFLOW_TRACKING_URI to a tracking server, or: pip install mlflow "
                f"(MLflow says: {error})"
            ) from error
        self._known: str | None = None
        self._waiting: list[Any] = []
        self._due, self._pause = 0.0, _SEND_SECONDS
        self._logged_epochs = 0

    def begin(self, config: Mapping[str, Any], *, anew: bool = False) -> None:
        """See :meth:`Logger.begin`.

        Raises:
            RunError: The tracking server does not answer, or refuses.
        """
        from mlflow.exceptions import MlflowException

        try:
            if anew:
                self._known = self._new_run()
                write_whole(self._directory / _ID, self._known)
            self._begin(config)
        except MlflowException as error:
            raise RunError(
                f"MLflow takes no run: {error}; set MLFLOW_TRACKING_URI, or leave mlflow out of loggers"
            ) from error

    def _begin(self, config: Mapping[str, Any]) -> None:
        from mlflow.entities import Param, RunTag

        values = {"env_id": config["env_id"], **config["config"]}
        texts = {name: v if isinstance(v, str) else json.dumps(v) for name, v in values.items()}
        there = self._client.get_run(self._id).data
        self._logged_epochs = int(there.metrics.get("epoch", 0))
        # A parameter cannot be changed: those of a run that was resumed with others stay the first ones.
        new = [Param(name, text[:_MOST_OF_A_VALUE]) for name, text in texts.items() if name not in there.params]
        tags = [RunTag(f"packages.{name}", version) for name, version in config["packages"].items()]
        self._client.log_batch(self._id, params=new, tags=[*tags, RunTag("device", config["device"])])

    def write(self, record: Record) -> None:
        """See :meth:`Logger.write`."""
        from mlflow.entities import Metric

        if int(record["epoch"] or 0) <= self._logged_epochs:
            return  # played again after a resume, by the same settings: the same
        now, step = int(time.time() * 1000), int(record["env_steps"] or 0)
        self._waiting += [Metric(name, value, now, step) for name, value in record.items() if value is not None]
        if time.monotonic() >= self._due:
            self._send()

    def forget_after(self, epoch: int, env_steps: int) -> None:
        """See :meth:`Logger.forget_after`: MLflow forgets nothing, and its run gets no others in their place."""

    def keep(self, what: str, path: Path) -> None:
        """See :meth:`Logger.keep`."""
        from mlflow.exceptions import MlflowException

        try:
            if what == BUNDLE:
                self._client.log_artifacts(self._id, str(path), f"{what}/{path.parent.name}/{path.name}")
            else:
                self._client.log_artifact(self._id, str(path))
        except MlflowException as error:
            logger.warning("MLflow did not take %s: %s", path, error)

    def close(self) -> None:
        """See :meth:`Logger.close`."""
        from mlflow.exceptions import MlflowException

        if self._known is None:
            return
        self._send()
        if self._waiting:
            logger.warning("MLflow did not take the last %d metrics; metrics.jsonl has them", len(self._waiting))
            return
        try:
            self._client.set_terminated(self._known)
        except MlflowException as error:
            logger.warning("MLflow shows the run as going on: %s", error)

    def _send(self) -> None:
        from mlflow.exceptions import MlflowException

        try:
            while self._waiting:
                self._client.log_batch(self._id, metrics=self._waiting[:_MOST_METRICS])
                del self._waiting[:_MOST_METRICS]
            self._pause = _SEND_SECONDS
        except MlflowException as error:
            self._pause = min(2 * self._pause, _MOST_SECONDS)
            logger.warning("MLflow does not take metrics, which wait for it: %s", error)
        self._due = time.monotonic() + self._pause

    @property
    def _id(self) -> str:
        """The run's id in MLflow, where it is made if need be."""
        if self._known is None:
            self._known = load_or_create_id(self._directory / _ID, self._new_run)
        return self._known

    def _new_run(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _EXPERIMENT)
        found = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if found is None else found.experiment_id
        return str(self._client.create_run(experiment, run_name=self._directory.name).info.run_id)
