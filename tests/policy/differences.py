"""Gradients of distributions against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from pgkeras.policy.distributions import Distribution

STEP = 1e-5


def assert_gradients_are_right(
    distribution: Distribution, parameters: NDArray[np.float64], noise: NDArray[np.float64], **closeness: float
) -> None:
    """Checks the gradients of log-probability and entropy with respect to parameters ``[1, P]``, in float64."""
    sample = distribution.sample(tf.constant(parameters), tf.constant(noise))
    for function in (lambda p: distribution.log_prob(p, sample), distribution.entropy):
        p = tf.constant(parameters)
        with tf.GradientTape() as tape:
            tape.watch(p)
            value = function(p)
        gradient = tape.gradient(value, p).numpy()[0]
        for i, step in enumerate(np.eye(parameters.shape[1]) * STEP):
            rise = function(tf.constant(parameters + step)) - function(tf.constant(parameters - step))
            assert gradient[i] == pytest.approx(rise.numpy()[0] / (2 * STEP), **closeness)
