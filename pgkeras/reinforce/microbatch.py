"""Micro-batches: batches as tensors, and the gradient of a batch that does not fit into memory at once.

The gradient is a sum over steps, so it may be added up part by part: the parts share the number of episodes that the
loss is divided by. What a single step computes is in :mod:`pgkeras.reinforce.reinforce`; this file only repeats it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgkeras.backend import tf
from pgkeras.environments.trajectory import Trajectory
from pgkeras.policy.policy import Policy
from pgkeras.spaces.layout import Layout

__all__ = [
    "AccumulatedStep",
    "Batch",
    "Gradient",
    "accumulated",
    "by_length",
    "dense",
    "divided",
    "micro_batches",
    "packed_metrics",
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


class Gradient(NamedTuple):
    """The gradient of the loss on one batch, and what was computed on the way."""

    sums: tf.Tensor  # the loss, the sum of entropies in nats, the number of real steps; with reuse, that of divergences
    log_prob: tf.Tensor  # [N]
    gradients: list[tf.Tensor]  # one for each trainable variable


def dense(tape: tf.GradientTape, loss: tf.Tensor, variables: Sequence[tf.Variable]) -> list[tf.Tensor]:
    """The gradient with respect to each variable, as a dense tensor of the variable's shape.

    The tape itself gives an embedding's gradient as slices, one per lookup, whose norm is not that of their sum. For a
    variable that the loss does not depend on, it gives None.
    """
    gradients = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return [tf.convert_to_tensor(gradient) for gradient in gradients]


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
    sample = policy.distribution.sample(
        tf.zeros([1, policy.distribution.parameter_size]), tf.zeros([1, policy.spec.noise_size])
    )
    rows = [None] * policy.batch_axes
    observation = policy.input_signature()["observation"]
    return Batch(
        tf.TensorSpec([*rows, *policy.spec.layout.shape], observation.dtype, "observation"),
        tf.TensorSpec([*rows, *sample.shape[1:]], sample.dtype, "sample"),
        tf.TensorSpec(rows, tf.float32, "advantage"),
        tf.TensorSpec(rows, tf.float32, "real"),
        tf.TensorSpec([], tf.float32, "episodes"),
    )


def packed_metrics(sums: tf.Tensor, norm: tf.Tensor, kl: tf.Tensor | None) -> tf.Tensor:
    """Loss, mean entropy, gradient norm and mean divergence, ``[4]``, from sums over steps: one transfer, not four.

    The divergence is NaN if it was not measured: ``kl`` is None.
    """
    loss, entropy, steps = tf.unstack(sums)
    return tf.stack([loss, entropy / steps, norm, float("nan") if kl is None else kl / steps])


def accumulated(
    gradient: Callable[..., Gradient], batches: Iterable[Sequence[Any]]
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Adds up the gradients of several batches, of which one at a time is there.

    Args:
        gradient: Computes the :class:`Gradient` of one batch.
        batches: What it takes, for each of them.

    Returns:
        The sums and the gradients, all added up; and the log-probabilities, by batch.
    """
    totals: list[tf.Tensor] = []
    log_probs = []
    for batch in batches:
        part = gradient(*batch)
        log_probs.append(part.log_prob)
        more = [part.sums, *part.gradients]
        totals = [total + one for total, one in zip(totals, more, strict=True)] if totals else more
    return totals, log_probs


class AccumulatedStep:
    """One gradient step on several batches, whose gradients are added up.

    Args:
        gradient: Computes the :class:`Gradient` of one batch; this and the others are compiled.
        descend: Moves the weights down a list of gradients; returns its norm and the weights afterwards.
        divergence: How far the weights have moved, summed over one batch's steps, from its log-probabilities before;
            None: it is not measured, and the batches are not copied to the device a second time for it.
    """

    def __init__(
        self,
        gradient: Callable[..., Gradient],
        descend: Callable[..., tuple[tf.Tensor, ...]],
        divergence: Callable[..., tf.Tensor] | None,
    ) -> None:
        self._gradient, self._descend, self._divergence = gradient, descend, divergence

    def __call__(self, batches: Sequence[Sequence[Any]], states: Sequence[tf.Tensor] = ()) -> tuple[tf.Tensor, ...]:
        """Takes the step; returns :func:`packed_metrics` and the weights afterwards.

        Args:
            batches: The batches.
            states: What ``descend`` takes beside the gradients.
        """
        (sums, *gradients), log_probs = accumulated(self._gradient, batches)
        norm, *weights = self._descend(gradients, *states)
        kl = None
        if self._divergence is not None:
            kl = tf.add_n([self._divergence(*batch, old) for batch, old in zip(batches, log_probs, strict=True)])
        return packed_metrics(sums, norm, kl), *weights


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
