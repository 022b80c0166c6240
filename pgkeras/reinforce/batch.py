"""Batches of whole episodes as tensors, in parts where one would not fit into memory.

The gradient is a sum over steps, so it may be added up part by part (:mod:`pgkeras.reinforce.accumulation`): the parts
share the number of episodes that the loss is divided by.
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
    "by_length",
    "divided",
    "micro_batches",
    "padded",
    "rows_at_once",
    "signature",
    "whole_batch",
]

# A GPU computes this many times the rows at once that a CPU does: preparing and copying a part takes longer there than
# computing its gradient (docs/benchmarks.md).
_TIMES_ON_GPU = 8

Arrays = Sequence[NDArray[Any]]


class Batch(NamedTuple):
    """Steps of whole episodes, as tensors.

    The real steps, flat, ``[N, ...]``; rows of zeros may follow that pad them for XLA or replicas. For a policy with
    memory: the episodes as they are, ``[T, B, ...]``, with their padding.
    """

    observation: tf.Tensor
    sample: tf.Tensor
    advantage: tf.Tensor  # [N] or [T, B], zero where a step is padding
    real: tf.Tensor  # [N] or [T, B], zero where a step is padding and one elsewhere
    episodes: tf.Tensor  # scalar: of the whole batch, also where this is a part of it

    @classmethod
    def of(cls, arrays: Arrays, episodes: int) -> Batch:
        """Puts the arrays of a :func:`whole_batch`, or of a part of it, on the device."""
        return cls._make(map(tf.constant, [*arrays, np.float32(episodes)]))


def whole_batch(policy: Policy, trajectory: Trajectory, advantage: NDArray[np.float64]) -> Arrays:
    """The arrays of a :class:`Batch` but for the number of episodes, from episodes and advantages ``[T, B]``."""
    mask = trajectory.mask
    weights = np.where(mask, advantage, 0.0).astype(np.float32)
    whole = trajectory.observations, trajectory.samples, weights, mask.astype(np.float32)
    return [policy.batch(array, mask) for array in whole]


def micro_batches(
    policy: Policy, trajectory: Trajectory, advantage: NDArray[np.float64], rows: int | None, pad: bool
) -> Sequence[Batch]:
    """Turns episodes into batches whose gradients fit into memory: a single one in most cases.

    A single batch is on the device. Of several, each is put there when it is taken, so that they are not there at once.
    Episodes of very different lengths are several batches for a policy with memory.

    Args:
        policy: The policy; one with memory takes whole episodes.
        trajectory: The episodes.
        advantage: ``[T, B]``.
        rows: The maximum number of steps in a batch; a single episode of a policy with memory may have more. None: as
            many as memory should hold.
        pad: Whether to pad each batch to a power of two, for XLA.
    """
    arrays = whole_batch(policy, trajectory, advantage)
    rows = rows or rows_at_once(policy.spec.layout)
    # XLA would compile anew for every number of episodes in a group.
    grouped = policy.batch_axes == 2 and not pad
    groups = by_length(arrays, trajectory.lengths) if grouped else [arrays]
    parts = [part for group in groups for part in divided(group, rows, policy.batch_axes)]
    batches = _OnDemand(parts, len(trajectory.lengths), pad)
    return batches if len(batches) > 1 else [batches[0]]


class _OnDemand(Sequence[Batch]):
    """Batches that are made from arrays whenever they are taken."""

    def __init__(self, parts: list[Arrays], episodes: int, pad: bool) -> None:
        self._parts, self._episodes, self._pad = parts, episodes, pad

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, i: Any) -> Any:
        arrays = padded(self._parts[i]) if self._pad else self._parts[i]
        return Batch.of(arrays, self._episodes)


def rows_at_once(layout: Layout) -> int:
    """The maximum number of steps whose gradient is computed at once on the device that there is."""
    return layout.rows_at_once * (_TIMES_ON_GPU if tf.config.list_logical_devices("GPU") else 1)


def signature(policy: Policy) -> Batch:
    """The shapes and dtypes of a policy's batches, as a ``tf.function`` takes them."""
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


def by_length(arrays: Arrays, lengths: NDArray[np.int64]) -> Iterator[Arrays]:
    """Groups whole episodes by length, if padding all of them to one length would more than double the steps.

    A group is padded to its longest episode only, and its other episodes are more than half as long.

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


def divided(arrays: Arrays, rows: int, axes: int) -> Iterator[Arrays]:
    """Cuts the arrays of a batch into parts.

    Args:
        arrays: ``[N, ...]``, a row for each step; or ``[T, B, ...]``, whole episodes side by side.
        rows: The maximum number of steps in a part. Episodes are not cut: a part with a single one may have more.
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
    """Pads the arrays with zeros to a power of two of rows or steps, because XLA compiles anew for every number."""
    size = 1 << (len(arrays[0]) - 1).bit_length()
    return [np.concatenate([a, np.zeros((size - len(a), *a.shape[1:]), a.dtype)]) for a in arrays]
