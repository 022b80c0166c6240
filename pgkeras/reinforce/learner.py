"""Learner: all the state that training changes, and the order in which one lesson changes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.backend import keras, tf
from pgkeras.environments.trajectory import Trajectory
from pgkeras.errors import ConfigError, TrainingError
from pgkeras.policy.moments import Moments
from pgkeras.policy.policy import Policy
from pgkeras.reinforce import diagnosis, estimator, reinforce, schedules
from pgkeras.reinforce.learning_rate import AdaptiveLearningRate, LearningRate
from pgkeras.reinforce.returns import running_mean
from pgkeras.reinforce.value import ValueFunction
from pgkeras.settings.config import Config
from pgkeras.spaces import ArraySpace, Space
from pgkeras.spaces import random_observations as examples

__all__ = ["Learner", "Lesson"]

_ADVICE = "the last checkpoint is intact. A smaller learning_rate or clip_norm may help"


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """The metrics of learning from one batch of episodes."""

    loss: float
    entropy: float  # mean per step, nats
    gradient_norm: float  # before clipping
    kl: float  # mean per step, from the policy before; NaN without target_kl
    explained_variance: float  # of returns by the baseline; NaN without one
    value_loss: float  # mean squared error in units of the returns' variance; NaN without a value function
    learning_rate: float


class Learner:
    """A policy with its optimizer, its baseline and its statistics of observations.

    Args:
        config: Settings.
        observation_space: What the policy observes.
        action_space: What it does.
        network: A Keras model from observations to features, in place of the configured one.
        mask_size: Length of the environment's action masks, 0 for none.

    Raises:
        ConfigError: Keras knows no such optimizer or activation.
        UnsupportedSpaceError: A space is not supported.
    """

    def __init__(
        self,
        config: Config,
        observation_space: Space,
        action_space: ArraySpace,
        network: keras.Model | None = None,
        mask_size: int = 0,
    ) -> None:
        self._config = config
        seed = config.seed % 2**31
        _check_activation(config)
        self.policy = Policy(
            observation_space,
            action_space,
            network,
            hidden=config.hidden,
            activation=config.activation,
            images=config.network,
            memory=config.memory,
            memory_units=config.memory_units,
            mask_size=mask_size,
            distribution=config.distribution,
            initial_log_std=config.initial_log_std,
            normalize=config.normalize_observations,
            seed=seed,
        )
        self._step = reinforce.TrainStep(
            self.policy,
            _optimizer(config),
            clip_norm=config.clip_norm,
            entropy_bonus=config.entropy_bonus,
            jit_compile=config.jit_compile,
            measure_kl=config.target_kl is not None,
        )
        self._entropy_bonus = config.entropy_bonus  # of the last step
        self._learning_rate = _learning_rate(config, self._step.optimizer)
        self._running_mean: float | None = None  # of returns; None before the first batch
        self._observations = Moments.zeros(self.policy.spec.layout.shape)
        self._value: ValueFunction | None = None
        if config.baseline == "value":
            self._value = ValueFunction(
                self.policy.spec.layout,
                config.hidden,
                config.activation,
                config.network,
                self.policy.normalization,
                learning_rate=config.value_learning_rate,
                passes=config.value_passes,
                batch_size=config.value_batch_size,
                seed=seed,
            )

    @property
    def weights(self) -> list[NDArray[Any]]:
        """The policy's weights after the last lesson."""
        # The step gives back its weights without reading each variable anew, but the statistics change after it.
        return self._step.weights if self.policy.normalization is None else self.policy.weights()

    def learn(self, trajectory: Trajectory, epoch: int, progress: float) -> Lesson:
        """Takes one gradient step on a batch of whole episodes, then updates baseline and statistics.

        The statistics of observations stay as they are until the step is done, so that the policy is trained on the
        observations as it saw them.

        Args:
            trajectory: The episodes.
            epoch: Number of the epoch, which the shuffling for the value function derives from.
            progress: How far training is, from 0 to 1; what the schedules go by.

        Raises:
            TrainingError: The loss or the gradient is not finite, or the step left weights that are not.
        """
        config, mask = self._config, trajectory.mask
        learning_rate = self._learning_rate.begin(progress)
        self._set_entropy_bonus(config.entropy_bonus * schedules.factor(config.entropy_schedule, progress))
        value = self._value.predict if self._value is not None else None
        advantages = estimator.advantages(
            trajectory,
            config.gamma,
            config.baseline,
            config.rescale,
            value,
            returns=config.returns,
            discount_gradient=config.discount_gradient,
            running_mean=self._running_mean or 0.0,
        )
        before = self._step.weights
        step = self._step(trajectory, advantages.values)
        if not (_finite([step.loss, step.gradient_norm]) and all(map(_finite, self._step.weights))):
            reason = diagnosis.culprit(self.policy, before, trajectory, advantages, value)
            raise TrainingError(
                f"epoch {epoch}: {reason} (loss {step.loss}, gradient norm {step.gradient_norm}); {_ADVICE}"
            )
        self._learning_rate.end(progress, step.kl)
        observations = trajectory.observations[mask]
        value_loss = self._update_baseline(observations, advantages.returns, mask, epoch)
        if self.policy.normalization is not None:
            self._observations.update(observations)
            self.policy.normalization.freeze(self._observations)
        return Lesson(
            **step._asdict(),
            explained_variance=advantages.explained_variance,
            value_loss=value_loss,
            learning_rate=learning_rate,
        )

    def _set_entropy_bonus(self, weight: float) -> None:
        if weight != self._entropy_bonus:  # assigning it is an operation of its own
            self._step.set_entropy_bonus(weight)
            self._entropy_bonus = weight

    def _update_baseline(
        self, observations: NDArray[Any], returns: NDArray[np.float64], mask: NDArray[np.bool_], epoch: int
    ) -> float:
        """Learns the baseline of the next batch from this one; returns the value function's loss, NaN without one."""
        if self._config.baseline == "running-mean":
            self._running_mean = running_mean(self._running_mean, returns, mask, self._config.running_mean_rate)
        if self._value is None:
            return float("nan")
        loss = self._value.fit(observations, returns[mask], epoch)
        if not (_finite(loss) and all(_finite(v.numpy()) for v in self._value.variables)):
            raise TrainingError(
                f"epoch {epoch}: the value network's fit left loss {loss} and weights that are not finite; "
                f"{_ADVICE.replace('learning_rate', 'value_learning_rate')}"
            )
        return loss

    def rehearse(self) -> None:
        """Learns from a made-up episode of one step and restores the state: nothing changes.

        TensorFlow traces and optimises a graph in its first run, which takes longer than hundreds of later ones. Here
        it counts as setup.
        """
        before = self.state()
        observation = examples.random_observations(self.policy.spec.layout, 1, np.random.default_rng(0))
        sample = self.policy.distribution.sample(
            tf.zeros([1, self.policy.distribution.parameter_size]), tf.zeros([1, self.policy.spec.noise_size])
        )
        episode = Trajectory(
            observations=observation[np.newaxis],
            samples=sample.numpy()[np.newaxis],
            rewards=np.zeros((1, 1)),
            lengths=np.ones(1, np.int64),
            terminated=np.ones(1, np.bool_),
            final_observations=observation,
        )
        self._step(episode, np.zeros((1, 1)))
        if self._value is not None:
            self._value.fit(observation, np.zeros(1), epoch=0)
            self._value.predict(observation)
        self.restore(before)

    def state(self) -> dict[str, NDArray[Any]]:
        """All that changes, by name."""
        variables, moments = self._parts()
        state = {f"variable_{i}": v.numpy() for i, v in enumerate(variables)}
        state["running_mean"] = np.array(np.nan if self._running_mean is None else self._running_mean)
        for i, m in enumerate(moments):
            state |= {f"mean_{i}": m.mean, f"squares_{i}": m.squares, f"count_{i}": np.array(m.count)}
        return state

    def policy_weights(self, state: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The policy's weights in a :meth:`state`."""
        return [state[f"variable_{i}"] for i in range(len(self.policy.variables))]

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restores a :meth:`state`.

        Raises:
            ValueError: It is not that of a learner with these settings.
        """
        for name, array in self.state().items():
            if name not in state or np.shape(state[name]) != np.shape(array):
                got = np.shape(state[name]) if name in state else "nothing"
                raise ValueError(f"{name} should be of shape {np.shape(array)}, got {got}")
        self._learning_rate.forget()
        self._step.weights = self.policy_weights(state)
        mean = float(state["running_mean"])
        self._running_mean = None if np.isnan(mean) else mean
        variables, moments = self._parts()
        for i, variable in enumerate(variables):
            variable.assign(state[f"variable_{i}"])
        for i, m in enumerate(moments):
            m.mean, m.squares, m.count = state[f"mean_{i}"], state[f"squares_{i}"], float(state[f"count_{i}"])

    def _parts(self) -> tuple[list[tf.Variable], list[Moments]]:
        variables = [*self.policy.variables, *(v.value for v in self._step.optimizer.variables)]
        if self._value is None:
            return variables, [self._observations]
        variables += [*self._value.variables, *(v.value for v in self._value.optimizer.variables)]
        return variables, [self._observations, self._value.returns]


def _finite(numbers: Any) -> bool:
    return bool(np.isfinite(numbers).all())


def _check_activation(config: Config) -> None:
    try:
        keras.activations.get(config.activation)
    except ValueError as error:
        raise ConfigError(
            f"activation {config.activation!r}: Keras knows none of that name; try tanh or relu"
        ) from error


def _optimizer(config: Config) -> keras.optimizers.Optimizer:
    try:
        optimizer = keras.optimizers.get({"class_name": config.optimizer, "config": {}})
    except (TypeError, ValueError) as error:
        raise ConfigError(f"optimizer {config.optimizer!r}: Keras knows none of that name; try adam or sgd") from error
    optimizer.learning_rate = config.learning_rate
    return optimizer


def _learning_rate(config: Config, optimizer: keras.optimizers.Optimizer) -> LearningRate:
    if config.target_kl is None:
        return LearningRate(optimizer, config.learning_rate, config.learning_rate_schedule)
    return AdaptiveLearningRate(optimizer, config.learning_rate, config.learning_rate_schedule, config.target_kl)
