"""The numerically stable functions in TensorFlow and LiteRT, against NumPy in long double."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from pgkeras.engines.litert import LiteRTEngine
from pgkeras.policy.distributions import stable
from pgkeras.policy.export import convert

WIDE = np.concatenate([np.linspace(-110, 110, 4401), [-1e30, -1e5, 1e5, 1e30], np.logspace(-30, 0, 61)])
UNIFORM = np.concatenate([np.logspace(-30, -1, 500), np.linspace(0.1, 1 - 2.0**-24, 1000)])
POSITIVE = np.concatenate([np.logspace(-30, 1.8, 3000), np.linspace(0.6, 0.8, 200)])
CASES: list[tuple[Callable[[Any], Any], NDArray[Any], Callable[[Any], Any], Callable[[Any], Any]]] = [
    (stable.softplus, WIDE, lambda x: np.logaddexp(0, x), lambda x: 1 / (1 + np.exp(-x))),
    (stable.log_sigmoid, WIDE, lambda x: -np.logaddexp(0, -x), lambda x: 1 / (1 + np.exp(x))),
    (
        stable.log1mexp,
        POSITIVE,
        lambda t: np.where(t < 1, np.log(-np.expm1(-t)), np.log1p(-np.exp(-t))),
        lambda t: 1 / np.expm1(t),
    ),
    (stable.minus_log1m, UNIFORM, lambda u: -np.log1p(-u), lambda u: 1 / (1 - u)),
]


@pytest.mark.parametrize(
    ("function", "x", "oracle", "derivative"), CASES, ids=["softplus", "log_sigmoid", "log1mexp", "minus_log1m"]
)
def test_values_and_gradients_match_the_oracle(function: Any, x: NDArray[Any], oracle: Any, derivative: Any) -> None:
    x = x.astype(np.float32)
    with np.errstate(over="ignore", divide="ignore", under="ignore"):
        exact = oracle(x.astype(np.longdouble)).astype(np.float64)
        slope = derivative(x.astype(np.longdouble)).astype(np.float64)
    normal = np.abs(exact) > 1e-37  # smaller numbers may be flushed to 0
    with tf.GradientTape() as tape:
        given = tf.constant(x)
        tape.watch(given)
        value = function(given)
    np.testing.assert_allclose(value.numpy()[normal], exact[normal], rtol=1e-6)
    np.testing.assert_allclose(value.numpy()[~normal], 0, atol=1e-36)
    np.testing.assert_allclose(tape.gradient(value, given), slope, rtol=1e-5, atol=1e-30)

    def graph(observation: tf.Tensor, noise: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"action": function(observation) + noise}

    signature = {name: tf.TensorSpec([None, 1], tf.float32, name) for name in ("observation", "noise")}
    concrete = tf.function(graph, autograph=False).get_concrete_function(**signature)
    engine = LiteRTEngine(convert(concrete, tf.Module()))
    answer = engine.act({"observation": x[:, np.newaxis], "noise": np.zeros((len(x), 1), np.float32)})["action"]
    np.testing.assert_allclose(answer[normal, 0], exact[normal], rtol=1e-5)  # the exp of LiteRT is less precise
