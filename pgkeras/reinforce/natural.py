"""The natural gradient: the steepest direction when the size of a step is measured in the policy, not in its weights.

The plain gradient ``g`` is the steepest direction when a change is measured in the weights. How far two policies
differ is better measured by their Kullback-Leibler divergence. For small steps that is ``d^T F d / 2``, with
the Fisher information ``F`` of the policy over the states that it visits, and the steepest direction is ``F^-1 g``
(Amari 1998, "Natural gradient works efficiently in learning"; Kakade 2001, "A natural policy gradient"):

    F = mean over states s of J(s)^T I(s) J(s)

where ``J`` is the Jacobian of the distribution's parameters by the weights, and ``I`` the Fisher information of the
distribution (:meth:`pgkeras.policy.distributions.Distribution.fisher`). ``F`` has a row and a
column for every weight, too many to store. Conjugate gradients therefore solve ``(F + damping) x = g`` with products
``F d`` alone (Schulman et al. 2015, "Trust region policy optimization", appendix C). There is still one step per batch,
and the gradient ``g`` is the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.backend import tf
from pgkeras.environments.trajectory import Trajectory
from pgkeras.policy.policy import Policy

__all__ = ["Natural", "NaturalGradient", "solve"]

_ITERATIONS = 10
_SOLVED = 1e-10  # of the squared norm of the right side
_WHOLE = 0.9  # at least this share of a batch's episodes ends before the cut; only the longest are cut


@dataclass(frozen=True)
class Natural:
    """Settings of the natural gradient.

    Args:
        target_kl: Mean divergence per step by which a gradient step moves the policy, at the beginning.
        damping: What is added to the diagonal of the Fisher information.
        rows: Most steps of a batch that the Fisher information is computed from; with memory, padding counts, too.
    """

    target_kl: float
    damping: float
    rows: int


class NaturalGradient:
    """Natural gradients of a policy, and how far to go down them.

    Args:
        policy: The policy.
        settings: What they are computed by.
        pad: Whether episodes are padded to a power of two, as XLA compiles anew for every other size.
    """

    def __init__(self, policy: Policy, settings: Natural, *, pad: bool = False) -> None:
        self._policy, self._settings, self._pad = policy, settings, pad
        self.target_kl = tf.Variable(settings.target_kl, trainable=False, dtype=tf.float32)

    def states(self, trajectory: Trajectory, seed: int) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Draws the states that the Fisher information is computed from, without replacement.

        With memory, episodes are drawn, since a step's state depends on the steps before it. They are padded to one
        length, so a single long one would leave room for few others. All are therefore cut at the step by which nine of
        ten episodes of the whole batch have ended.

        Args:
            trajectory: The episodes.
            seed: Of the draw.

        Returns:
            Their observations, ``[N, ...]`` or with memory ``[T, B, ...]``, and a mask ``[N]`` or ``[T, B]``: 1 for
            real steps, 0 for padding.
        """
        policy, rows, mask = self._policy, self._settings.rows, trajectory.mask
        generator = np.random.default_rng(seed)
        if policy.batch_axes == 1:
            steps, episodes = np.nonzero(mask)
            drawn = generator.choice(len(steps), min(rows, len(steps)), replace=False)
            return trajectory.observations[steps[drawn], episodes[drawn]], np.ones(len(drawn), np.float32)
        end = int(np.quantile(trajectory.lengths, _WHOLE, method="higher"))
        if self._pad:
            end = 1 << (end - 1).bit_length()
        drawn = generator.permutation(len(trajectory.lengths))[: max(1, rows // end)]
        real = mask[:end, drawn]
        return policy.batch(trajectory.observations[:end, drawn], real), real.astype(np.float32)

    def __call__(
        self, gradients: Sequence[tf.Tensor], observation: tf.Tensor, real: tf.Tensor
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """The natural gradient, and the step size at which one step down it moves the policy by the target.

        The divergence of a step ``d`` is taken to be ``d^T (F + damping) d / 2``, so the policy moves by less than the
        target, the more so the larger the damping is. The step does not depend on the length of the gradients.

        Args:
            gradients: The plain one, by trainable variable.
            observation: Of the :meth:`states`.
            real: Likewise.

        Returns:
            The natural gradient by trainable variable, and the step size, a scalar; 0 where the gradient is 0.
        """
        shapes = [gradient.shape for gradient in gradients]

        def unpacked(flat: tf.Tensor) -> list[tf.Tensor]:
            parts = tf.split(flat, [math.prod(shape) for shape in shapes])
            return [tf.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]

        def damped(direction: tf.Tensor) -> tf.Tensor:
            return _packed(self._product(unpacked(direction), observation, real)) + self._settings.damping * direction

        packed = _packed(gradients)
        norm = tf.norm(packed)
        unit = tf.math.divide_no_nan(packed, norm)  # for float32's range
        direction, residual = solve(damped, unit, _ITERATIONS)
        squared = tf.tensordot(direction, unit - residual, 1)  # x^T (F + damping) x
        step_size = tf.math.divide_no_nan(tf.sqrt(tf.math.divide_no_nan(2.0 * self.target_kl, squared)), norm)
        return unpacked(norm * direction), step_size

    def _product(self, direction: Sequence[tf.Tensor], observation: tf.Tensor, real: tf.Tensor) -> Sequence[tf.Tensor]:
        """``F d``, by trainable variable.

        ``J d`` is the gradient of ``d^T (J^T w)`` with respect to ``w``, at any ``w``: here at zeros. So it takes two
        reverse passes and no forward-mode differentiation, and works for networks with loops, too.
        """
        policy = self._policy
        variables = policy.model.trainable_variables
        with tf.GradientTape() as forwards:
            with tf.GradientTape(persistent=True) as backwards:
                parameters = policy.unroll(observation)
            any_weight = tf.zeros_like(parameters)
            forwards.watch(any_weight)
            gradients = backwards.gradient(parameters, variables, any_weight, tf.UnconnectedGradients.ZERO)
            weighted = [tf.convert_to_tensor(gradient) for gradient in gradients]  # those of embeddings are sparse
        change = forwards.gradient(weighted, any_weight, list(direction))
        weight = tf.math.divide_no_nan(policy.flat(real), tf.reduce_sum(real))
        back = policy.distribution.fisher(tf.stop_gradient(parameters), change) * weight[:, tf.newaxis]
        products: Sequence[tf.Tensor] = backwards.gradient(parameters, variables, back, tf.UnconnectedGradients.ZERO)
        return products


def solve(product: Callable[[tf.Tensor], tf.Tensor], right: tf.Tensor, iterations: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Solves ``A x = right`` by conjugate gradients (Hestenes & Stiefel 1952), from zeros.

    Args:
        product: ``A`` times a vector ``[P]``; A is symmetric and positive definite.
        right: ``[P]``.
        iterations: At most; after as many as A has distinct eigenvalues, x is exact but for rounding.

    Returns:
        x, and the residual ``right - A x``.
    """

    def goes_on(*state: tf.Tensor) -> tf.Tensor:
        return state[-1] > _SOLVED * tf.tensordot(right, right, 1)

    def improved(x: tf.Tensor, residual: tf.Tensor, direction: tf.Tensor, left: tf.Tensor) -> list[tf.Tensor]:
        along = product(direction)
        length = left / tf.tensordot(direction, along, 1)
        residual -= length * along
        still_left = tf.tensordot(residual, residual, 1)
        return [x + length * direction, residual, residual + still_left / left * direction, still_left]

    begin = [tf.zeros_like(right), right, right, tf.tensordot(right, right, 1)]
    x, residual, *_ = tf.while_loop(goes_on, improved, begin, parallel_iterations=1, maximum_iterations=iterations)
    return x, residual


def _packed(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    return tf.concat([tf.reshape(tf.convert_to_tensor(tensor), [-1]) for tensor in tensors], 0)
