"""Replicas: the devices, of one machine or of several, that share a gradient step.

Each computes the gradient of its share of a batch's steps, by weights of its own that are the same everywhere. The sums
are added up, then every replica descends by the total. The loss is divided by the number of all episodes before, so the
step is the one that a single device takes, but for rounding.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.backend import tf
from pgkeras.errors import ConfigError, TrainingError
from pgkeras.reinforce.batch import Arrays, Batch
from pgkeras.reinforce.reinforce import Gradient
from pgkeras.reinforce.tf_config import ROLES, TF_CONFIG, number_of_processes

__all__ = ["Replicas", "Share"]

Share = Sequence[Batch]
"""What the devices of one process compute at once, a batch for each of them."""


class Replicas:
    """The devices that share a gradient step.

    Args:
        strategy: TensorFlow's, which knows them.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self._strategy = strategy
        resolver = strategy.cluster_resolver
        spec = None if resolver is None else resolver.cluster_spec().as_dict()
        tasks = [] if spec is None else [(role, i) for role in ROLES for i in range(len(spec.get(role, ())))]
        self.processes = max(1, len(tasks))
        """How many processes take part."""
        self.process = 0 if resolver is None or not tasks else tasks.index((resolver.task_type, resolver.task_id))
        """Which of them this one is; the first one writes the run's files."""

        self._gather = self._gather_graph()

    @classmethod
    def of(cls, devices: str) -> Replicas | None:
        """The replicas of a setting ``devices``; None for "one".

        Must be called before TensorFlow has computed anything, if several processes take part.

        Raises:
            ConfigError: There is but one device, or TF_CONFIG makes no sense.
        """
        if devices == "one":
            return None
        named = os.environ.get(TF_CONFIG)
        if named and number_of_processes(named) > 1:
            return cls(_of_processes())
        for kind in ("GPU", "CPU"):
            found = tf.config.list_logical_devices(kind)
            if len(found) > 1 or (found and kind == "GPU"):
                return cls(_of_devices(tuple(device.name for device in found)))
        raise ConfigError(
            "devices: there is no GPU here, and one processor computes by all its cores already; leave it at one. If "
            "there should be a GPU, pgkeras doctor says what TensorFlow sees"
        )

    @property
    def count(self) -> int:
        """How many devices there are, in all processes together."""
        return int(self._strategy.num_replicas_in_sync)

    @property
    def _here(self) -> int:
        return self.count // self.processes

    @property
    def _first(self) -> int:
        return self.process * self._here

    def scope(self) -> AbstractContextManager[Any]:
        """Variables that are made in this context have a copy on each device, all with the same value."""
        scope: AbstractContextManager[Any] = self._strategy.scope()
        return scope

    def batches(self, arrays: Arrays, episodes: int, rows: int, axis: int) -> Sequence[Share]:
        """Divides a batch's arrays among the devices.

        Args:
            arrays: Those of a :class:`Batch` but for the number of episodes; ``real`` is the last.
            episodes: How many the whole batch has.
            rows: Most steps that one device computes at once.
            axis: The axis to divide: 0 for steps ``[N, ...]``, 1 for episodes ``[T, B, ...]``.

        Returns:
            What this process has to compute, one share after the other. All parts have one size, for which the last
            ones are padded.
        """
        length = arrays[-1].shape[axis]
        at_once = rows if axis == 0 else max(1, rows // arrays[-1].shape[0])
        rounds = math.ceil(length / (at_once * self.count))
        size = math.ceil(length / (rounds * self.count))
        missing = size * rounds * self.count - length
        padded = [np.pad(a, [(0, missing if i == axis else 0) for i in range(a.ndim)]) for a in arrays]

        def share(first: int) -> Share:
            begin = (first + self._first) * size
            ends = [begin + i * size for i in range(self._here + 1)]
            parts = zip(*(np.split(array, ends, axis)[1:-1] for array in padded), strict=True)
            return [Batch.of(part, episodes) for part in parts]

        return [share(i * self.count) for i in range(rounds)]

    def gradient(self, function: Callable[..., Gradient]) -> Callable[..., Gradient]:
        """Turns a function that computes the gradient of one device's batch into one that does so for a whole share.

        The new function also takes, after the share, what :meth:`each` returned for it.
        """
        found_on_one: Any = None  # for its structure and its shapes

        def of_part(share: Share, more: Sequence[Sequence[tf.Tensor]]) -> tuple[tf.Tensor, tf.Tensor]:
            nonlocal found_on_one
            mine = self._mine()
            found = function(share[mine], *(values[mine] for values in more))
            found_on_one = found.sums, found.gradients
            return found.log_prob, tf.concat([tf.reshape(value, [-1]) for value in tf.nest.flatten(found_on_one)], 0)

        def of_share(share: Share, *more: Sequence[tf.Tensor]) -> Gradient:
            log_prob, flat = self._strategy.run(of_part, (share, more))
            total = self._strategy.reduce(tf.distribute.ReduceOp.SUM, flat, axis=None)  # one transfer for all of them
            shapes = [value.shape for value in tf.nest.flatten(found_on_one)]
            parts = tf.split(total, [shape.num_elements() for shape in shapes])
            summed = [tf.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]
            sums, gradients = tf.nest.pack_sequence_as(found_on_one, summed)
            return Gradient(sums, self._strategy.experimental_local_results(log_prob), gradients)

        return self._compiled(of_share)

    def summed(self, function: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
        """As :meth:`gradient`, for a sum over the steps of a batch, from their log-probabilities before the step."""

        def of_part(share: Share, log_prob: Sequence[tf.Tensor]) -> tf.Tensor:
            mine = self._mine()
            return function(share[mine], log_prob[mine])

        def of_share(share: Share, log_prob: Sequence[tf.Tensor]) -> tf.Tensor:
            moved = self._strategy.run(of_part, (share, log_prob))
            return self._strategy.reduce(tf.distribute.ReduceOp.SUM, moved, axis=None)

        return self._compiled(of_share)

    def each(self, function: Callable[..., tf.Tensor]) -> Callable[..., Sequence[tf.Tensor]]:
        """Turns a function of one device's batch into one of a whole share, which returns a result per device."""

        def of_part(share: Share) -> tf.Tensor:
            return function(share[self._mine()])

        def of_share(share: Share) -> Sequence[tf.Tensor]:
            return tuple(self._strategy.experimental_local_results(self._strategy.run(of_part, (share,))))

        return self._compiled(of_share)

    def everywhere(self, function: Callable[..., tuple[tf.Tensor, ...]]) -> Callable[..., tuple[tf.Tensor, ...]]:
        """Turns a function into one that runs it on every device and returns the first device's results."""

        def run(*arguments: Any) -> tuple[tf.Tensor, ...]:
            results = self._strategy.run(function, arguments)
            return tuple(self._strategy.experimental_local_results(result)[0] for result in results)

        return self._compiled(run)

    def gather(self, arrays: Mapping[str, NDArray[Any]]) -> list[dict[str, NDArray[Any]]]:
        """What each process has, by process, from what this one has; all must call it.

        Raises:
            TrainingError: Another process is gone.
        """
        if self.processes == 1:
            return [dict(arrays)]
        file = io.BytesIO()
        np.savez(file, **arrays)  # type: ignore[arg-type]
        data = file.getvalue()
        words = np.frombuffer(data.ljust(-(-len(data) // 4) * 4, b"\0"), np.int32)
        nothing = [np.zeros(0, np.int32)] * (self._here - 1)  # of the other devices of this process
        sizes = self._gathered([np.array([len(words)], np.int32), *nothing])
        gathered = self._gathered([words, *nothing])
        parts = np.split(gathered, np.cumsum(sizes)[:-1])
        return [dict(np.load(io.BytesIO(part.tobytes()))) for part in parts]

    def agree(self, flag: bool) -> bool:
        """Whether any process says so; all must call it.

        Who says so knows the answer, and does not need those who have read it and are gone.

        Raises:
            TrainingError: Another process is gone, and this one does not know the answer.
        """
        try:
            return any(bool(said["flag"]) for said in self.gather({"flag": np.array(flag)}))
        except TrainingError:
            if not flag:
                raise
            return True

    def _compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A ``tf.function`` that computes with others, and says so when they are gone."""
        compiled = tf.function(function, autograph=False, reduce_retracing=True)

        def call(*arguments: Any) -> Any:
            try:
                return compiled(*arguments)
            except tf.errors.OpError as error:
                if self.processes == 1:
                    raise
                raise TrainingError(
                    "another process of the training is gone; the last checkpoint is intact. Start all of them again "
                    "with --resume"
                ) from error

        return call

    def _mine(self) -> int:
        """Which of this process's devices computes, while one does."""
        number = tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group)
        assert number is not None  # each device's graph is its own
        return int(number) - self._first

    def _gathered(self, shares: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """What all devices have, one after the other, from what those of this process have."""
        gathered: NDArray[Any] = self._gather(*map(tf.constant, shares)).numpy()
        return gathered

    def _gather_graph(self) -> Callable[..., tf.Tensor]:
        def mine(shares: Sequence[tf.Tensor]) -> tf.Tensor:
            return tf.identity(shares[self._mine()])

        def gather(*shares: tf.Tensor) -> tf.Tensor:
            return self._strategy.gather(self._strategy.run(mine, (shares,)), axis=0)

        return self._compiled(gather)


@cache  # two strategies in one process would mistake each other's collective operations for their own
def _of_devices(names: tuple[str, ...]) -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy(names)


@cache
def _of_processes() -> tf.distribute.Strategy:
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise ConfigError(
            "devices: the processes that TF_CONFIG names must be connected before TensorFlow has computed anything; "
            "train in a process of its own, such as pgkeras train"
        ) from error
