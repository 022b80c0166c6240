"""A number that is not finite stops the run, and the error message names its origin."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from pgkeras.errors import EnvironmentStepError, TrainingError
from pgkeras.runs.checkpoints import Checkpoints
from pgkeras.runs.training import Training
from pgkeras.settings.config import Config
from tests.runs.small import assert_same_arrays, small


def fails(training: Training, message: str) -> None:
    """Asserts that the next epoch fails with this message and that the checkpoint of the epoch before is unchanged."""
    assert training.directory is not None
    training.checkpoint()
    before = training.directory.checkpoints.read()
    with pytest.raises(TrainingError, match=rf"^epoch {training.epoch}: {message}.*; the last checkpoint is intact"):
        next(iter(training))
    training.finish()
    assert_same_arrays(training.directory.checkpoints.read(), before)
    assert all(np.isfinite(array).all() for name, array in before.items() if name != "running_mean")


def begun(path: Path, epochs: int = 2, **settings: Any) -> Training:
    training = Training(small(steps=10**9, **settings), path / "run")
    assert len(list(itertools.islice(training, epochs))) == epochs
    return training


class Extreme(keras.layers.Layer):
    """Returns features unchanged until ``broken`` is set, then fails as ``kind`` says, forward or in the gradient."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.broken = kind, tf.Variable(0.0, trainable=False)

    def call(self, inputs: Any) -> Any:
        broken = self.broken

        @tf.custom_gradient
        def pass_on(x: tf.Tensor) -> Any:
            bad = tf.where(broken > 0, tf.constant(float("nan")), 1.0)
            return (x * bad if self.kind == "output" else x), lambda upstream: upstream * bad

        return pass_on(inputs)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("output", "the network's output is nan at step 0 of episode 0 of this epoch"),
        ("gradient", r"the gradient of .*kernel is not finite"),
    ],
)
def test_a_network_with_nonfinite_outputs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, message: str
) -> None:
    # The layer has a variable that Keras does not track, so the network cannot be exported.
    monkeypatch.setattr("pgkeras.runs.training.check_exportable", lambda policy: None)
    layer = Extreme(kind)
    network = keras.Sequential([keras.layers.Dense(8, activation="tanh"), layer])
    training = Training(small(steps=10**9, act_engine="tensorflow"), tmp_path / "run", network=network)
    next(iter(training))
    collect = training._phases.collector.collect

    def then_break(*arguments: Any) -> Any:
        episodes = collect(*arguments)
        layer.broken.assign(1.0)  # after the episodes were played
        return episodes

    training._phases.collector.collect = then_break  # type: ignore[method-assign]
    fails(training, message)


@pytest.mark.parametrize("settings", [{}, {"memory": "gru", "memory_units": 4, "act_engine": "tensorflow"}])
def test_a_nonfinite_weight_is_named(tmp_path: Path, settings: dict[str, Any]) -> None:
    training = begun(tmp_path, **settings)
    training.checkpoint()
    weights = training.policy.weights()
    weights[1][3] = np.nan
    training.policy.assign(weights)
    training._learner._step.weights = weights
    with pytest.raises(TrainingError, match=r"weight .*bias is not finite before the gradient step"):
        next(iter(training))


def test_statistics_are_checked_as_of_the_start_of_the_step(tmp_path: Path) -> None:
    training = begun(tmp_path, normalize_observations=True)
    training.checkpoint()
    assert training.policy.normalization is not None
    training.policy.normalization.mean.assign(np.full(4, np.nan))  # the epochs before had finite statistics
    with pytest.raises(TrainingError, match=r"weight .*normalization/mean is not finite before the gradient step"):
        next(iter(training))


@pytest.mark.parametrize("baseline", ["none", "leave-one-out"])
def test_rewards_that_overflow_are_named_as_returns(tmp_path: Path, baseline: str) -> None:
    config = small(steps=10**9, baseline=baseline, rescale=False, gamma=1.0)
    training = Training(
        Config(**{**config.to_json(), "env_id": "tests.environments.scripted:Faulty-v0"}), tmp_path / "run"
    )
    next(iter(training))
    for env in training._source._environments._environments:  # type: ignore[attr-defined]
        env.unwrapped._fault = "huge reward"
    fails(training, r"return is inf at step \d of episode \d of this epoch")


def test_a_policy_with_memory_is_diagnosed(tmp_path: Path) -> None:
    training = begun(tmp_path, memory="gru", memory_units=4, optimizer="sgd", clip_norm=None)
    training.checkpoint()
    collect = training._phases.collector.collect

    def spoil(*arguments: Any) -> Any:
        episodes = collect(*arguments)
        episodes.observations[1, 2, 0] = np.inf
        return episodes

    training._phases.collector.collect = spoil  # type: ignore[method-assign]
    fails(training, "observation is inf at step 1 of episode 2 of this epoch")


def test_rewards_beyond_float32_overflow_the_loss(tmp_path: Path) -> None:
    config = small(steps=10**9, baseline="none", rescale=False, gamma=0.0)
    training = Training(
        Config(**{**config.to_json(), "env_id": "tests.environments.scripted:Faulty-v0"}), tmp_path / "run"
    )
    next(iter(training))
    for env in training._source._environments._environments:  # type: ignore[attr-defined]
        env.unwrapped._fault = "large reward"
    fails(training, "the loss is inf: all log-probabilities and advantages are finite")


def test_a_nonfinite_observation_or_reward_is_named_by_the_collector(tmp_path: Path) -> None:
    for fault, field in (("nan observation", "observation"), ("nan reward", "reward")):
        config = Config(env_id="tests.environments.scripted:Faulty-v0", envs=2, episodes=2, hidden=(4,))
        training = Training(config, tmp_path / fault)
        next(iter(training))
        for env in training._source._environments._environments:  # type: ignore[attr-defined]
            env.unwrapped._fault = fault
        with pytest.raises(EnvironmentStepError, match=rf"{field}.* not finite|not finite.*{field}"):
            next(iter(training))
        training.finish()
        assert Checkpoints(tmp_path / fault, 1).read()["counters"][0] == 1


def test_a_value_network_with_nonfinite_outputs_is_named(tmp_path: Path) -> None:
    training = begun(tmp_path, baseline="value")
    training.checkpoint()
    value = training._learner._baseline._value
    assert value is not None
    value.variables[0].assign(value.variables[0] * np.nan)
    with pytest.raises(TrainingError, match=r"value prediction is nan at step 0 of episode 0 of this epoch"):
        next(iter(training))


def test_a_value_network_that_diverges_is_named(tmp_path: Path) -> None:
    training = begun(tmp_path, epochs=1, baseline="value")
    value = training._learner._baseline._value
    assert value is not None
    value.optimizer.learning_rate = 1e38
    with pytest.raises(TrainingError, match=r"the loss of the value network .* value_learning_rate"):
        list(itertools.islice(training, 3))
    assert training.directory is not None
    training.finish()
    assert all(np.isfinite(v).all() for n, v in training.directory.checkpoints.read().items() if n != "running_mean")


def test_a_too_large_step_is_distinguished_from_a_nonfinite_gradient(tmp_path: Path) -> None:
    training = begun(tmp_path, optimizer="sgd", clip_norm=None)
    training.checkpoint()
    training._learner._learning_rate.begin = lambda *_: 1e300  # type: ignore[method-assign]
    training._learner._step.optimizer.learning_rate = 1e300
    with pytest.raises(TrainingError, match="the gradient is finite, but the weights after the optimizer"):
        list(itertools.islice(training, 3))
