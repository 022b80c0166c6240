"""Replicas: the devices, on one machine or several, that share a gradient step.

Each replica has its own copy of the weights and computes the gradient of its part of a batch. The gradients are added
up, and every replica applies the total. Each part divides its loss by the number of episodes of the whole batch, so the
step equals that of a single device up to rounding.
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

__all__ = ["LocalBatches", "Replicas"]

LocalBatches = Sequence[Batch]
"""One batch per device of this process. The devices compute them at the same time."""


class Replicas:
    """The devices that share a gradient step.

    Args:
        strategy: TensorFlow's strategy for these devices.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self._strategy = strategy
        resolver = strategy.cluster_resolver
        spec = None if resolver is None else resolver.cluster_spec().as_dict()
        tasks = [] if spec is None else [(role, i) for role in ROLES for i in range(len(spec.get(role, ())))]
        self.processes = max(1, len(tasks))
        """Number of processes."""
        self.process = 0 if resolver is None or not tasks else tasks.index((resolver.task_type, resolver.task_id))
        """Index of this process. Process 0 writes the run's files."""

        self._gather = self._gather_graph()

    @classmethod
    def of(cls, devices: str) -> Replicas | None:
        """Returns the replicas for a value of the setting ``devices``; None for "one".

        With several processes, this must be called before any other TensorFlow computation.

        Raises:
            ConfigError: There is only one CPU device and no GPU, or TF_CONFIG is invalid.
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
            "devices: TensorFlow finds no GPU, and a single CPU device already uses all cores; use devices=one. If "
            "this machine has a GPU, pgkeras doctor shows which devices TensorFlow finds"
        )

    @property
    def count(self) -> int:
        """Number of devices in all processes."""
        return int(self._strategy.num_replicas_in_sync)

    @property
    def _local_count(self) -> int:
        """Number of devices in this process."""
        return self.count // self.processes

    @property
    def _first_local(self) -> int:
        """Index of this process's first device among all devices."""
        return self.process * self._local_count

    def scope(self) -> AbstractContextManager[Any]:
        """Returns a context in which new variables get a copy on each device, all with the same value."""
        scope: AbstractContextManager[Any] = self._strategy.scope()
        return scope

    def batches(self, arrays: Arrays, episodes: int, rows: int, axis: int) -> Sequence[LocalBatches]:
        """Divides a batch's arrays among the devices.

        Args:
            arrays: The arrays of a :class:`Batch` except ``episodes``; ``real`` is the last.
            episodes: Number of episodes of the whole batch.
            rows: Maximum number of steps that one device computes at once.
            axis: The axis to divide: 0 for steps ``[N, ...]``, 1 for episodes ``[T, B, ...]``.

        Returns:
            The batches of this process's devices, in rounds that are computed one after the other. All batches have the
            same size, and the last ones are padded.
        """
        length = arrays[-1].shape[axis]
        at_once = rows if axis == 0 else max(1, rows // arrays[-1].shape[0])
        rounds = math.ceil(length / (at_once * self.count))
        size = math.ceil(length / (rounds * self.count))
        missing = size * rounds * self.count - length
        padded = [np.pad(a, [(0, missing if i == axis else 0) for i in range(a.ndim)]) for a in arrays]

        def local_batches(first: int) -> LocalBatches:
            start = (first + self._first_local) * size
            bounds = [start + i * size for i in range(self._local_count + 1)]
            parts = zip(*(np.split(array, bounds, axis)[1:-1] for array in padded), strict=True)
            return [Batch.of(part, episodes) for part in parts]

        return [local_batches(i * self.count) for i in range(rounds)]

    def gradient(self, function: Callable[..., Gradient]) -> Callable[..., Gradient]:
        """Returns a function that computes the total gradient of all devices' batches.

        Args:
            function: Computes the gradient of one batch.

        Returns:
            A function of the :data:`LocalBatches` and, optionally, of further results of :meth:`per_replica` for them.
        """
        template: Any = None  # one device's result, for its structure and shapes

        def on_replica(batches: LocalBatches, more: Sequence[Sequence[tf.Tensor]]) -> tuple[tf.Tensor, tf.Tensor]:
            nonlocal template
            index = self._local_index()
            found = function(batches[index], *(values[index] for values in more))
            template = found.sums, found.gradients
            return found.log_prob, tf.concat([tf.reshape(value, [-1]) for value in tf.nest.flatten(template)], 0)

        def total_gradient(batches: LocalBatches, *more: Sequence[tf.Tensor]) -> Gradient:
            log_prob, flat = self._strategy.run(on_replica, (batches, more))
            total = self._strategy.reduce(tf.distribute.ReduceOp.SUM, flat, axis=None)  # one transfer for all tensors
            shapes = [value.shape for value in tf.nest.flatten(template)]
            parts = tf.split(total, [shape.num_elements() for shape in shapes])
            summed = [tf.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]
            sums, gradients = tf.nest.pack_sequence_as(template, summed)
            return Gradient(sums, self._strategy.experimental_local_results(log_prob), gradients)

        return self._compiled(total_gradient)

    def summed(self, function: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
        """Returns a function that sums the results of all devices.

        Args:
            function: Computes a sum over the steps of one batch, from the batch and its log-probabilities.

        Returns:
            A function of the :data:`LocalBatches` and their log-probabilities.
        """

        def on_replica(batches: LocalBatches, log_prob: Sequence[tf.Tensor]) -> tf.Tensor:
            index = self._local_index()
            return function(batches[index], log_prob[index])

        def total(batches: LocalBatches, log_prob: Sequence[tf.Tensor]) -> tf.Tensor:
            found = self._strategy.run(on_replica, (batches, log_prob))
            return self._strategy.reduce(tf.distribute.ReduceOp.SUM, found, axis=None)

        return self._compiled(total)

    def per_replica(self, function: Callable[..., tf.Tensor]) -> Callable[..., Sequence[tf.Tensor]]:
        """Returns a function that applies ``function`` to each of the :data:`LocalBatches`: one result per device."""

        def on_replica(batches: LocalBatches) -> tf.Tensor:
            return function(batches[self._local_index()])

        def results(batches: LocalBatches) -> Sequence[tf.Tensor]:
            return tuple(self._strategy.experimental_local_results(self._strategy.run(on_replica, (batches,))))

        return self._compiled(results)

    def on_all(self, function: Callable[..., tuple[tf.Tensor, ...]]) -> Callable[..., tuple[tf.Tensor, ...]]:
        """Returns a function that runs ``function`` on every device and returns the results of the first one."""

        def run(*arguments: Any) -> tuple[tf.Tensor, ...]:
            results = self._strategy.run(function, arguments)
            return tuple(self._strategy.experimental_local_results(result)[0] for result in results)

        return self._compiled(run)

    def gather(self, arrays: Mapping[str, NDArray[Any]]) -> list[dict[str, NDArray[Any]]]:
        """Exchanges arrays between the processes. Every process must call this at the same point.

        Returns:
            The arrays of each process, in the order of the processes.

        Raises:
            TrainingError: Another process has ended.
        """
        if self.processes == 1:
            return [dict(arrays)]
        file = io.BytesIO()
        np.savez(file, **arrays)  # type: ignore[arg-type]
        data = file.getvalue()
        words = np.frombuffer(data.ljust(-(-len(data) // 4) * 4, b"\0"), np.int32)
        nothing = [np.zeros(0, np.int32)] * (self._local_count - 1)  # from the other devices of this process
        sizes = self._gathered([np.array([len(words)], np.int32), *nothing])
        gathered = self._gathered([words, *nothing])
        parts = np.split(gathered, np.cumsum(sizes)[:-1])
        return [dict(np.load(io.BytesIO(part.tobytes()))) for part in parts]

    def agree(self, flag: bool) -> bool:
        """Returns whether ``flag`` is true in any process. Every process must call this at the same point.

        A process whose own flag is true returns true even if the exchange fails, because the other processes may have
        received its flag and ended.

        Raises:
            TrainingError: Another process has ended, and this process's flag is false.
        """
        try:
            return any(bool(arrays["flag"]) for arrays in self.gather({"flag": np.array(flag)}))
        except TrainingError:
            if not flag:
                raise
            return True

    def _compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a ``tf.function`` that raises TrainingError if another process has ended."""
        compiled = tf.function(function, autograph=False, reduce_retracing=True)

        def call(*arguments: Any) -> Any:
            try:
                return compiled(*arguments)
            except tf.errors.OpError as error:
                if self.processes == 1:
                    raise
                raise TrainingError(
                    "another process of the training has ended; the last checkpoint is intact. Restart all processes "
                    "with --resume"
                ) from error

        return call

    def _local_index(self) -> int:
        """Returns the index, within this process, of the device whose graph is being traced."""
        number = tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group)
        assert number is not None  # each device has its own graph
        return int(number) - self._first_local

    def _gathered(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Concatenates the arrays of all devices of all processes; ``arrays`` has one for each device of this one."""
        gathered: NDArray[Any] = self._gather(*map(tf.constant, arrays)).numpy()
        return gathered

    def _gather_graph(self) -> Callable[..., tf.Tensor]:
        def on_replica(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
            return tf.identity(tensors[self._local_index()])

        def gather(*tensors: tf.Tensor) -> tf.Tensor:
            return self._strategy.gather(self._strategy.run(on_replica, (tensors,)), axis=0)

        return self._compiled(gather)


@cache  # because the collective operations of two strategies in one process would be mixed up
def _of_devices(names: tuple[str, ...]) -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy(names)


@cache
def _of_processes() -> tf.distribute.Strategy:
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise ConfigError(
            "devices: the processes in TF_CONFIG must connect before any other TensorFlow computation; train in a new "
            "process, such as pgkeras train"
        ) from error
