"""Policies and networks."""

from __future__ import annotations

import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from pgkeras.errors import UnsupportedSpaceError
from pgkeras.policy.policy import Policy
from pgkeras.settings.config import Config
from pgkeras.settings.effect import idle
from pgkeras.settings.groups import NetworkSettings
from pgkeras.spaces import ActionSpace, Box, Dict, Discrete, Space
from pgkeras.spaces.random_observations import random_observations

FLOAT32 = np.dtype(np.float32)
OBSERVATION = Box(np.full(4, -np.inf), np.full(4, np.inf), FLOAT32)
CONTINUOUS = Box(np.full(3, -1.0), np.full(3, 1.0), FLOAT32)


def observations(rows: int, size: int = 4, seed: int = 0) -> tf.Tensor:
    return tf.constant(np.random.default_rng(seed).normal(0, 3, (rows, size)).astype(np.float32))


IMAGE = Box(np.zeros((8, 8, 1)), np.full((8, 8, 1), 255.0), np.dtype(np.uint8))
CHOICES = {
    "hidden": ((5,), (6,)),
    "activation": ("tanh", "relu"),
    "network": ("mlp", "auto"),
    "normalize_observations": (True, False),
    "initial_log_std": (-1.0, 0.0),
}


@pytest.mark.parametrize("observed", [OBSERVATION, IMAGE, Dict({"a": IMAGE, "b": OBSERVATION}), Discrete(3)], ids=str)
@pytest.mark.parametrize(
    ("acts", "family"), [(Discrete(2), "auto"), (CONTINUOUS, "auto"), (CONTINUOUS, "kumaraswamy")], ids=str
)
def test_only_idle_settings_leave_the_policy_unchanged(observed: Space, acts: ActionSpace, family: str) -> None:
    for name, (value, other) in CHOICES.items():
        config = Config(env_id="E", distribution=family, **{name: value})
        one, two = (Policy(observed, acts, settings=c) for c in (config, dataclasses.replace(config, **{name: other})))
        rows = tf.constant(random_observations(one.spec.layout, 3, np.random.default_rng(0)))
        same = one.architecture == two.architecture and np.array_equal(one.parameters(rows), two.parameters(rows))
        assert same is (name in idle(config, observed, acts)), name


@pytest.mark.parametrize("n", [2, 18])
def test_a_fresh_policy_is_near_uniform_everywhere(n: int) -> None:
    policy = Policy(OBSERVATION, Discrete(n), seed=3)
    described = policy.distribution_of(observations(500))
    np.testing.assert_allclose(described["probabilities"], 1 / n, rtol=0.15)
    assert described["entropy"].numpy().min() > 0.99 * math.log(n)


@pytest.mark.parametrize("log_std", [0.0, -1.5])
def test_a_fresh_gaussian_has_mean_near_zero_and_the_given_deviation(log_std: float) -> None:
    described = Policy(OBSERVATION, CONTINUOUS, settings=NetworkSettings(initial_log_std=log_std)).distribution_of(
        observations(500)
    )
    assert np.abs(described["mean"]).max() < 0.15
    np.testing.assert_allclose(described["stddev"], math.exp(log_std), rtol=1e-6)


def test_the_default_network_is_orthogonal_layers_of_tanh() -> None:
    policy = Policy(
        OBSERVATION, Discrete(2), settings=NetworkSettings(hidden=(32, 16), normalize_observations=False), seed=5
    )
    shapes = [tuple(v.shape) for v in policy.variables]
    assert shapes == [(4, 32), (32,), (32, 16), (16,), (16, 2), (2,)]
    first, _, second, _, head, _ = (w.astype(np.float64) for w in policy.weights())
    # Rows (or columns, if there are fewer) are orthogonal and have the length of the gain: sqrt(2), sqrt(2), 0.01.
    np.testing.assert_allclose(first @ first.T, 2 * np.eye(4), atol=1e-5)
    np.testing.assert_allclose(second.T @ second, 2 * np.eye(16), atol=1e-5)
    np.testing.assert_allclose(head.T @ head, 1e-4 * np.eye(2), atol=1e-9)
    x = observations(7)
    expected = np.tanh(np.tanh(x.numpy() @ first) @ second) @ head
    np.testing.assert_allclose(policy.parameters(x), expected, atol=1e-6)


def test_the_seed_decides_the_initial_weights() -> None:
    one, same, other = (Policy(OBSERVATION, Discrete(2), seed=seed).weights() for seed in (1, 1, 2))
    for a, b in zip(one, same, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one[0], other[0])
    Policy(OBSERVATION, Discrete(2), seed=2**31 - 1)  # the largest seed that training uses


@pytest.mark.parametrize("action_space", [Discrete(3), CONTINUOUS])
def test_act_is_a_pure_function_of_observation_noise_and_weights(action_space: Space) -> None:
    policy = Policy(OBSERVATION, action_space, seed=1)
    x = observations(64)
    noise = tf.constant(np.random.default_rng(1).random((64, policy.spec.noise_size), np.float32))
    weights = [np.random.default_rng(2).normal(0, 0.7, w.shape).astype(np.float32) for w in policy.weights()]
    before = policy.weights()
    given = policy.act(x, noise, weights=[tf.constant(w) for w in weights])
    for a, b in zip(before, policy.weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    own = policy.act(x, noise)
    again = policy.act(x, noise)
    for variable, weight in zip(policy.variables, weights, strict=True):
        variable.assign(weight)
    assigned = policy.act(x, noise)
    alone = policy.act(x[5:6], noise[5:6])
    for name, tensor in own.items():
        np.testing.assert_array_equal(tensor, again[name])
        np.testing.assert_allclose(given[name], assigned[name], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(alone[name][0], assigned[name][5], rtol=1e-5, atol=1e-6)
    assert not np.allclose(own["entropy"], given["entropy"]) or not np.allclose(own["log_prob"], given["log_prob"])


def test_act_returns_the_log_probability_of_its_action() -> None:
    policy = Policy(OBSERVATION, Discrete(3, start=10), seed=1)
    for variable in policy.variables:
        variable.assign(np.random.default_rng(0).normal(0, 0.5, variable.shape).astype(np.float32))
    answer = policy.act(observations(100), tf.constant(np.random.default_rng(1).random((100, 1), np.float32)))
    p, action = answer["probabilities"].numpy(), answer["action"].numpy()
    assert set(action.tolist()) == {10, 11, 12}
    np.testing.assert_allclose(answer["log_prob"], np.log(p[np.arange(100), action - 10]), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(answer["greedy_action"], 10 + p.argmax(axis=1))
    assert set(answer) == {"action", "greedy_action", "log_prob", "entropy", *policy.distribution.kind.parameters}


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(6, activation="relu")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return self.dense(inputs)


def functional() -> keras.Model:
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(6, activation="relu")(inputs))


def sequential() -> keras.Model:
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(6, activation="relu")])


def unbuilt() -> keras.Model:
    return keras.Sequential([keras.layers.Dense(6, activation="relu")])


@pytest.mark.parametrize("network", [functional, sequential, unbuilt, Subclassed])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_keras_model_can_be_the_network(network: type, dtype: type) -> None:
    space = Box(np.full(4, -np.inf), np.full(4, np.inf), np.dtype(dtype))
    policy = Policy(space, Discrete(2), network())
    kernel, bias, head, head_bias = (w.astype(np.float64) for w in policy.weights())
    x = observations(9)
    expected = np.maximum(x.numpy() @ kernel + bias, 0) @ head + head_bias
    np.testing.assert_allclose(policy.parameters(x), expected, rtol=1e-4, atol=1e-6)
    assert len(policy.model.trainable_variables) == 4


def test_layers_of_the_same_name_keep_separate_statistics() -> None:
    x, inner = keras.Input((4,)), keras.Input((4,))
    halves = [keras.Model(inner, keras.layers.BatchNormalization(name="same")(inner))(x) for _ in range(2)]
    policy = Policy(OBSERVATION, Discrete(2), keras.Model(x, keras.layers.Concatenate()(halves)))
    generator = np.random.default_rng(0)
    policy.assign([generator.uniform(0.5, 2, w.shape).astype(np.float32) for w in policy.weights()])
    rows = observations(5)
    np.testing.assert_allclose(policy.step(rows, weights=policy.weights())[0], policy.parameters(rows), rtol=1e-5)


@pytest.mark.parametrize("network", [functional, sequential])
def test_a_network_accepts_bytes(network: type) -> None:
    policy = Policy(Box(np.zeros(4), np.full(4, 255.0), np.dtype(np.uint8)), Discrete(2), network())
    x = np.array([[0, 1, 200, 255]], np.uint8)
    as_floats = Policy(OBSERVATION, Discrete(2), network())
    for variable, weight in zip(as_floats.variables, policy.weights(), strict=True):
        variable.assign(weight)
    np.testing.assert_allclose(
        policy.parameters(tf.constant(x)), as_floats.parameters(tf.constant(x.astype(np.float32))), rtol=1e-5
    )


def wrong_input() -> keras.Model:
    return keras.Sequential([keras.Input((5,)), keras.layers.Dense(6)], name="five_wide")


def wrong_input_subclassed() -> keras.Model:
    model = Subclassed()
    model.name = "five_wide"
    model(np.zeros((1, 5), np.float32))
    return model


def wrong_rank() -> keras.Model:
    return keras.Sequential([keras.Input((4,)), keras.layers.Reshape((2, 2))], name="five_wide")


def two_inputs() -> keras.Model:
    a, b = keras.Input((4,)), keras.Input((4,))
    return keras.Model([a, b], a + b, name="five_wide")


def two_outputs() -> keras.Model:
    a = keras.Input((4,))
    return keras.Model(a, [a, a + 1], name="five_wide")


@pytest.mark.parametrize("network", [wrong_input, wrong_input_subclassed, wrong_rank, two_inputs, two_outputs])
def test_a_network_that_does_not_fit_is_named(network: type) -> None:
    with pytest.raises(UnsupportedSpaceError, match=r"(?s)'five_wide'.*expected inputs of shape \(None, 4\)"):
        Policy(OBSERVATION, Discrete(2), network())


@pytest.mark.parametrize("space", [Box(np.zeros(0), np.ones(0), FLOAT32), Dict({})])
def test_empty_observation_spaces_are_named(space: Space) -> None:
    with pytest.raises(UnsupportedSpaceError) as caught:
        Policy(space, Discrete(2))
    assert str(space) in str(caught.value)


def test_no_hidden_layer_gives_a_linear_policy() -> None:
    policy = Policy(OBSERVATION, Discrete(2), settings=NetworkSettings(hidden=(), normalize_observations=False))
    (kernel, bias), x = policy.weights(), observations(3)
    np.testing.assert_allclose(policy.parameters(x), x.numpy() @ kernel + bias, rtol=1e-5, atol=1e-6)


def test_with_weights_restores_the_weights_after_an_exception():
    policy = Policy(OBSERVATION, Discrete(3))
    own = policy.weights()
    with pytest.raises(OSError, match="full"), policy.with_weights([weight + 1 for weight in own]):
        raise OSError("full")
    for a, b in zip(own, policy.weights(), strict=True):
        np.testing.assert_array_equal(a, b)
