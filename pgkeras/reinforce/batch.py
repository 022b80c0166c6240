"""Batches of whole episodes as tensors, split into parts if a batch does not fit into memory.

The gradients of the parts can be added up (:mod:`pgkeras.reinforce.accumulation`), because the loss is a sum over
steps, and each part divides it by the number of episodes of the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgkeras.backend import tf
from pgkeras.environments.trajectory import Trajectory
from pgkeras.policy.policy import Policy
from pgkeras.spaces.layout import Layout

__all__ = [
    "Arrays",
    "Batch",
    "batch_arrays",
    "group_by_length",
    "micro_batches",
    "padded",
    "rows_at_once",
    "signature",
    "split",
]

# On a GPU a part may have this many times the steps of a part on a CPU, because preparing and copying a part takes
# longer there than computing its gradient (docs/benchmarks.md).
_GPU_FACTOR = 8

Arrays = Sequence[NDArray[Any]]


class Batch(NamedTuple):
    """Steps of whole episodes, as tensors.

    Policies without memory: the real steps of all episodes, ``[N, ...]``. Rows of zeros may follow as padding for XLA
    or replicas. Policies with memory: padded episodes, ``[T, B, ...]``.
    """

    observation: tf.Tensor
    sample: tf.Tensor
    advantage: tf.Tensor  # [N] or [T, B], 0 for padding
    real: tf.Tensor  # [N] or [T, B], 1 for real steps and 0 for padding
    episodes: tf.Tensor  # scalar, the number of episodes of the whole batch, also in its parts

    @classmethod
    def of(cls, arrays: Arrays, episodes: int) -> Batch:
        """Copies the arrays of :func:`batch_arrays`, or of a part of them, to the device."""
        return cls._make(map(tf.constant, [*arrays, np.float32(episodes)]))


def batch_arrays(policy: Policy, trajectory: Trajectory, advantage: NDArray[np.float64]) -> Arrays:
    """Returns all arrays of a :class:`Batch` except ``episodes``, from episodes and advantages ``[T, B]``."""
    mask = trajectory.mask
    weights = np.where(mask, advantage, 0.0).astype(np.float32)
    arrays = trajectory.observations, trajectory.samples, weights, mask.astype(np.float32)
    return [policy.batch(array, mask) for array in arrays]


def micro_batches(
    policy: Policy, trajectory: Trajectory, advantage: NDArray[np.float64], rows: int | None, pad: bool
) -> Sequence[Batch]:
    """Splits episodes into batches whose gradients fit into memory. In most cases this is a single batch.

    A single batch is copied to the device immediately. Several batches are copied one at a time, when they are read.
    For a policy with memory, episodes of very different lengths go into separate batches, to save padding.

    Args:
        policy: The policy.
        trajectory: The episodes.
        advantage: ``[T, B]``.
        rows: Maximum number of steps in a batch. A single episode of a policy with memory may be longer. None for a
            limit that fits the memory.
        pad: Whether to pad each batch to a power of two, for XLA.
    """
    arrays = batch_arrays(policy, trajectory, advantage)
    rows = rows or rows_at_once(policy.spec.layout)
    # No groups with XLA, because it would compile again for every number of episodes in a group.
    grouped = policy.batch_axes == 2 and not pad
    groups = group_by_length(arrays, trajectory.lengths) if grouped else [arrays]
    parts = [part for group in groups for part in split(group, rows, policy.batch_axes)]
    batches = _LazyBatches(parts, len(trajectory.lengths), pad)
    return batches if len(batches) > 1 else [batches[0]]


class _LazyBatches(Sequence[Batch]):
    """Batches that are copied to the device each time they are read."""

    def __init__(self, parts: list[Arrays], episodes: int, pad: bool) -> None:
        self._parts, self._episodes, self._pad = parts, episodes, pad

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, i: Any) -> Any:
        arrays = padded(self._parts[i]) if self._pad else self._parts[i]
        return Batch.of(arrays, self._episodes)


def rows_at_once(layout: Layout) -> int:
    """Returns the maximum number of steps whose gradient the device computes at once."""
    return layout.rows_at_once * (_GPU_FACTOR if tf.config.list_logical_devices("GPU") else 1)


def signature(policy: Policy) -> Batch:
    """Returns the shapes and dtypes of a policy's batches, as the input signature of a ``tf.function``."""
    sample = policy.example_sample()
    rows = [None] * policy.batch_axes
    observation = policy.input_signature()["observation"]
    return Batch(
        tf.TensorSpec([*rows, *policy.spec.layout.shape], observation.dtype, "observation"),
        tf.TensorSpec([*rows, *sample.shape[1:]], sample.dtype, "sample"),
        tf.TensorSpec(rows, tf.float32, "advantage"),
        tf.TensorSpec(rows, tf.float32, "real"),
        tf.TensorSpec([], tf.float32, "episodes"),
    )


def group_by_length(arrays: Arrays, lengths: NDArray[np.int64]) -> Iterator[Arrays]:
    """Groups whole episodes by length, if padding all of them to the same length would more than double the steps.

    A group is padded to its longest episode. Every other episode of the group is more than half as long.

    Args:
        arrays: ``[T, B, ...]``.
        lengths: ``[B]``, steps of each episode.
    """
    if len(arrays[0]) * len(lengths) <= 2 * lengths.sum():
        yield arrays
        return
    doublings = np.ceil(np.log2(lengths))
    for doubling in np.unique(doublings):
        group = np.flatnonzero(doublings == doubling)
        yield [array[: lengths[group].max(), group] for array in arrays]


def split(arrays: Arrays, rows: int, axes: int) -> Iterator[Arrays]:
    """Splits the arrays of a batch into parts.

    Args:
        arrays: Steps ``[N, ...]`` or whole episodes ``[T, B, ...]``.
        rows: Maximum number of steps in a part. Episodes are not split, so a part with one episode may be longer.
        axes: 1 for steps, 2 for episodes.
    """
    if axes == 2:
        steps, episodes = arrays[0].shape[:2]
        size = max(1, rows // steps)
        for i in range(0, episodes, size):
            yield [array[:, i : i + size] for array in arrays]
    else:
        for i in range(0, len(arrays[0]), rows):
            yield [array[i : i + rows] for array in arrays]


def padded(arrays: Arrays) -> Arrays:
    """Pads axis 0 with zeros to a power of two, because XLA compiles again for every size."""
    size = 1 << (len(arrays[0]) - 1).bit_length()
    return [np.concatenate([a, np.zeros((size - len(a), *a.shape[1:]), a.dtype)]) for a in arrays]
