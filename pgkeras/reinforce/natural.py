"""The natural gradient: the direction of steepest descent per unit of KL divergence.

The plain gradient ``g`` is the steepest direction if the size of a step ``d`` is measured by the change of the weights.
A better measure is the Kullback-Leibler divergence between the policies before and after the step. For small steps it
is ``d^T F d / 2``, where ``F`` is the Fisher information matrix of the policy over the states that it visits. The
steepest direction is then ``F^-1 g`` (Amari 1998, "Natural gradient works efficiently in learning"; Kakade 2001, "A
natural policy gradient"):

    F = mean over states s of J(s)^T I(s) J(s)

``J`` is the Jacobian of the distribution's parameters with respect to the weights, and ``I`` is the Fisher information
of the distribution (:meth:`pgkeras.policy.distributions.Distribution.fisher`). ``F`` has a row and a column per weight,
which is too large to store. The conjugate gradient method therefore solves ``(F + damping) x = g`` with products ``F
d`` only (Schulman et al. 2015, "Trust region policy optimization", appendix C). As in REINFORCE, there is one step per
batch, and ``g`` is the same gradient.
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

__all__ = ["Natural", "NaturalGradient", "conjugate_gradients"]

_ITERATIONS = 10
_TOLERANCE = 1e-10  # squared norm of the residual, relative to that of the right-hand side
_COMPLETE = 0.9  # at least this share of a batch's episodes is not cut


@dataclass(frozen=True)
class Natural:
    """Settings of the natural gradient.

    Args:
        target_kl: Initial target of the KL divergence of a gradient step, mean per step.
        damping: Constant added to the diagonal of the Fisher information matrix.
        rows: Maximum number of a batch's steps from which the Fisher information is computed. For policies with memory,
            padding counts as steps.
    """

    target_kl: float
    damping: float
    rows: int


class NaturalGradient:
    """Natural gradients of a policy, with their step sizes.

    Args:
        policy: The policy.
        settings: The settings.
        pad: Whether to pad episodes to a power of two, because XLA compiles again for every size.
    """

    def __init__(self, policy: Policy, settings: Natural, *, pad: bool = False) -> None:
        self._policy, self._settings, self._pad = policy, settings, pad
        self.target_kl = tf.Variable(settings.target_kl, trainable=False, dtype=tf.float32)

    def states(self, trajectory: Trajectory, seed: int) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Draws the states for the Fisher information, without replacement.

        For a policy with memory, whole episodes are drawn, because a step's state depends on the steps before it. All
        episodes are padded to the same length, so one long episode would leave room for only a few others. They are
        therefore cut at the step where 90 % of the batch's episodes have ended.

        Args:
            trajectory: The episodes.
            seed: Seed of the draw.

        Returns:
            The observations, ``[N, ...]`` or with memory ``[T, B, ...]``, and a mask ``[N]`` or ``[T, B]``: 1 for real
            steps, 0 for padding.
        """
        policy, rows, mask = self._policy, self._settings.rows, trajectory.mask
        generator = np.random.default_rng(seed)
        if policy.batch_axes == 1:
            steps, episodes = np.nonzero(mask)
            drawn = generator.choice(len(steps), min(rows, len(steps)), replace=False)
            return trajectory.observations[steps[drawn], episodes[drawn]], np.ones(len(drawn), np.float32)
        end = int(np.quantile(trajectory.lengths, _COMPLETE, method="higher"))
        if self._pad:
            end = 1 << (end - 1).bit_length()
        drawn = generator.permutation(len(trajectory.lengths))[: max(1, rows // end)]
        real = mask[:end, drawn]
        return policy.batch(trajectory.observations[:end, drawn], real), real.astype(np.float32)

    def __call__(
        self, gradients: Sequence[tf.Tensor], observation: tf.Tensor, real: tf.Tensor
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Computes the natural gradient ``x`` and the step size whose KL divergence is the target.

        With ``A = F + damping``, the step size is ``sqrt(2 target_kl / (x^T A x))``, because ``d^T A d / 2`` is taken
        as the divergence of a step ``d``. The actual divergence is smaller than the target, and the difference grows
        with the damping. The step does not depend on the norm of the plain gradient.

        Args:
            gradients: The plain gradient, one tensor per trainable variable.
            observation: The observations from :meth:`states`.
            real: The mask from :meth:`states`.

        Returns:
            The natural gradient, one tensor per trainable variable, and the step size, a scalar. The step size is 0 if
            the gradient is 0.
        """
        shapes = [gradient.shape for gradient in gradients]

        def unpacked(flat: tf.Tensor) -> list[tf.Tensor]:
            parts = tf.split(flat, [math.prod(shape) for shape in shapes])
            return [tf.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]

        def damped(direction: tf.Tensor) -> tf.Tensor:
            return _packed(self._product(unpacked(direction), observation, real)) + self._settings.damping * direction

        packed = _packed(gradients)
        norm = tf.norm(packed)
        unit = tf.math.divide_no_nan(packed, norm)  # normalized, to stay within the range of float32
        direction, residual = conjugate_gradients(damped, unit, _ITERATIONS)
        squared = tf.tensordot(direction, unit - residual, 1)  # x^T (F + damping) x
        step_size = tf.math.divide_no_nan(tf.sqrt(tf.math.divide_no_nan(2.0 * self.target_kl, squared)), norm)
        return unpacked(norm * direction), step_size

    def _product(self, direction: Sequence[tf.Tensor], observation: tf.Tensor, real: tf.Tensor) -> Sequence[tf.Tensor]:
        """Computes ``F d``, one tensor per trainable variable.

        ``J^T w`` is linear in ``w``, so ``J d`` is the gradient of ``d^T (J^T w)`` with respect to ``w``, at any ``w``,
        here zeros. This takes two reverse passes and no forward-mode differentiation, and therefore also works for
        networks with loops.
        """
        policy = self._policy
        variables = policy.model.trainable_variables
        with tf.GradientTape() as outer:
            with tf.GradientTape(persistent=True) as inner:
                parameters = policy.unroll(observation)
            w = tf.zeros_like(parameters)
            outer.watch(w)
            gradients = inner.gradient(parameters, variables, w, tf.UnconnectedGradients.ZERO)
            jacobian_w = [tf.convert_to_tensor(gradient) for gradient in gradients]  # J^T w; sparse for embeddings
        jacobian_d = outer.gradient(jacobian_w, w, list(direction))  # J d
        weight = tf.math.divide_no_nan(policy.flat(real), tf.reduce_sum(real))
        fisher_d = policy.distribution.fisher(tf.stop_gradient(parameters), jacobian_d) * weight[:, tf.newaxis]  # I J d
        products: Sequence[tf.Tensor] = inner.gradient(parameters, variables, fisher_d, tf.UnconnectedGradients.ZERO)
        return products


def conjugate_gradients(
    product: Callable[[tf.Tensor], tf.Tensor], right: tf.Tensor, iterations: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Solves ``A x = right`` by conjugate gradients (Hestenes & Stiefel 1952), starting at zeros.

    Args:
        product: Multiplies ``A`` by a vector ``[P]``. A must be symmetric and positive definite.
        right: ``[P]``, the right-hand side.
        iterations: Maximum number of iterations. With as many iterations as A has distinct eigenvalues, x is exact up
            to rounding.

    Returns:
        ``x`` and the residual ``right - A x``.
    """

    def is_unsolved(*state: tf.Tensor) -> tf.Tensor:
        return state[-1] > _TOLERANCE * tf.tensordot(right, right, 1)

    def iterate(x: tf.Tensor, residual: tf.Tensor, direction: tf.Tensor, squared: tf.Tensor) -> list[tf.Tensor]:
        """One iteration; ``squared`` is the squared norm of the residual."""
        a_direction = product(direction)
        step = squared / tf.tensordot(direction, a_direction, 1)
        residual -= step * a_direction
        next_squared = tf.tensordot(residual, residual, 1)
        return [x + step * direction, residual, residual + next_squared / squared * direction, next_squared]

    start = [tf.zeros_like(right), right, right, tf.tensordot(right, right, 1)]
    x, residual, *_ = tf.while_loop(is_unsolved, iterate, start, parallel_iterations=1, maximum_iterations=iterations)
    return x, residual


def _packed(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    return tf.concat([tf.reshape(tf.convert_to_tensor(tensor), [-1]) for tensor in tensors], 0)
