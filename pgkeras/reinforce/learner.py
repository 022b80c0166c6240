"""Learner: all state that training changes, and the order in which an update changes it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.backend import keras, tf
from pgkeras.environments.trajectory import Trajectory
from pgkeras.errors import ConfigError, TrainingError
from pgkeras.policy.policy import Policy
from pgkeras.reinforce import diagnosis, estimator, schedules
from pgkeras.reinforce.adam import Adam
from pgkeras.reinforce.baselines import NoBaseline, RunningMean, ValueBaseline, from_batch
from pgkeras.reinforce.estimator import Advantages
from pgkeras.reinforce.learning_rate import (
    AdaptiveLearningRate,
    LearningRate,
    NaturalLearningRate,
    ScheduledLearningRate,
)
from pgkeras.reinforce.natural import Natural
from pgkeras.reinforce.observation_statistics import ObservationStatistics
from pgkeras.reinforce.replicas import Replicas
from pgkeras.reinforce.reuse import Reuse
from pgkeras.reinforce.settling import Settling
from pgkeras.reinforce.train_step import StepMetrics, TrainStep
from pgkeras.reinforce.value import ValueFunction
from pgkeras.settings.config import Config
from pgkeras.settings.groups import NATURAL
from pgkeras.spaces import ActionSpace, Space
from pgkeras.spaces.random_observations import random_observations

__all__ = ["Learner", "UpdateMetrics"]


@dataclass(frozen=True, kw_only=True)
class UpdateMetrics:
    """Metrics of one update on a batch of episodes."""

    loss: float
    entropy: float  # mean per step, nats
    gradient_norm: float  # before clipping
    kl: float  # KL(policy before || policy after), mean per step; NaN without target_kl or reuse
    gradient_steps: int  # on this batch
    explained_variance: float  # of the returns, by the baseline; NaN without one
    value_loss: float  # mean squared error divided by the variance of the returns; NaN without a value function
    learning_rate: float


class Learner:
    """A policy with its optimizer, baseline and observation statistics.

    Args:
        config: Settings.
        observation_space: The space of observations.
        action_space: The space of actions.
        network: A Keras model from observations to features, which replaces the configured one.
        mask_size: Length of the environment's action masks; 0 without masks.
        replicas: The devices that share the gradient steps; None for a single device.

    Raises:
        ConfigError: Keras has no such optimizer or activation.
        UnsupportedSpaceError: A space is not supported.
    """

    def __init__(
        self,
        config: Config,
        observation_space: Space,
        action_space: ActionSpace,
        network: keras.Model | None = None,
        mask_size: int = 0,
        replicas: Replicas | None = None,
    ) -> None:
        self._config = config
        seed = config.seed % 2**31
        _check_activation(config)
        spaces = observation_space, action_space
        with nullcontext() if replicas is None else replicas.scope():
            self.policy = Policy(*spaces, network, settings=config, mask_size=mask_size, seed=seed)
            self._step = TrainStep(
                self.policy,
                _optimizer(config),
                clip_norm=config.clip_norm,
                entropy_bonus=config.entropy_bonus,
                jit_compile=config.jit_compile,
                measure_kl=config.target_kl is not None,
                reuse=_reuse(config),
                natural=_natural(config),
                replicas=replicas,
            )
        self._learning_rate = _learning_rate(config, self._step)
        self._entropy_bonus = schedules.Scheduled(
            config.entropy_bonus, config.entropy_schedule, self._step.set_entropy_bonus, config.entropy_bonus
        )
        self._settling = Settling() if config.target_kl_settles else None
        self._baseline = self._make_baseline(seed)
        normalization, shape = self.policy.normalization, self.policy.spec.layout.shape
        self._statistics = None if normalization is None else ObservationStatistics(normalization, shape)
        self._stateful = [part for part in (self._settling, self._baseline, self._statistics) if part is not None]
        self._advantages = partial(
            estimator.advantages,
            gamma=config.gamma,
            baseline=self._baseline,
            rescale=config.rescale,
            returns=config.returns,
            discount_gradient=config.discount_gradient,
            reset_returns=config.reset_returns,
        )

    @property
    def weights(self) -> list[NDArray[Any]]:
        """The policy's weights after the last update."""
        # The weights that the step returns save reading each variable. With normalization they are out of date, because
        # the observation statistics are updated after the step.
        return self._step.weights if self.policy.normalization is None else self.policy.weights()

    def learn(self, trajectory: Trajectory, epoch: int, progress: float) -> UpdateMetrics:
        """Takes one gradient step on a batch of whole episodes (several with ``reuse``), then updates the rest.

        The baseline and the observation statistics are updated after the step. During the step the statistics are the
        same as when the episodes were played, because the policy must be trained on the observations that it saw.

        Args:
            trajectory: The episodes.
            epoch: Number of the epoch. It seeds the shuffling for the value function.
            progress: Progress of the training, from 0 to 1, for the schedules.

        Raises:
            TrainingError: The loss, the gradient or a weight after the step is not finite.
        """
        advantages = self._advantages(trajectory)
        self._learning_rate.begin(progress, 1.0 if self._settling is None else self._settling.update(advantages.rms))
        self._entropy_bonus.begin(progress)
        before = self._step.weights
        step = self._step(trajectory, advantages.values)
        self._check_finite(step, before, trajectory, advantages, epoch)
        # If all advantages are 0, the policy did not move. A KL divergence of 0 must not raise the learning rate then.
        learning_rate = self._learning_rate.end(progress, step.kl if step.gradient_norm else math.nan)
        value_loss = self._baseline.fit(trajectory, advantages.returns, epoch)
        if self._statistics is not None:
            self._statistics.update(trajectory)
        return UpdateMetrics(
            **step._asdict(),
            explained_variance=advantages.explained_variance,
            value_loss=value_loss,
            learning_rate=learning_rate,
        )

    def _check_finite(
        self,
        step: StepMetrics,
        before: list[NDArray[np.float32]],
        trajectory: Trajectory,
        advantages: Advantages,
        epoch: int,
    ) -> None:
        if all(map(_finite, [step.loss, step.gradient_norm, *self._step.weights])):
            return
        smaller = "learning_rate or clip_norm" if self._config.target_kl is None else "target_kl"
        trained = len(self.policy.model.trainable_variables)
        # The step does not change non-trainable weights. Their current values are right; those in ``before`` are as old
        # as the previous step, and the observation statistics have been updated since.
        before = [*before[:trained], *self.policy.weights()[trained:]]
        reason = diagnosis.explain_nonfinite(self.policy, before, trajectory, advantages, self._baseline)
        raise TrainingError(
            f"epoch {epoch}: {reason} (loss {step.loss}, gradient norm {step.gradient_norm}); the last checkpoint is "
            f"intact. A smaller {smaller} may help"
        )

    def _make_baseline(self, seed: int) -> NoBaseline:
        config = self._config
        if config.baseline == "value":
            return ValueBaseline(ValueFunction(self.policy.spec.layout, config, self.policy.normalization, seed))
        if config.baseline == "running-mean":
            return RunningMean(config.running_mean_rate)
        return from_batch(config.baseline)

    def warm_up(self) -> None:
        """Learns from a synthetic episode of one step, then restores the state.

        TensorFlow traces and optimizes a graph in its first run, which takes longer than hundreds of later runs. The
        warm-up moves this time into the setup.
        """
        before = self.state()
        observation = random_observations(self.policy.spec.layout, 1, np.random.default_rng(0))
        episode = Trajectory(
            observations=observation[np.newaxis],
            samples=self.policy.example_sample().numpy()[np.newaxis],
            rewards=np.zeros((1, 1)),
            lengths=np.ones(1, np.int64),
            terminated=np.ones(1, np.bool_),
            final_observations=observation,
        )
        self._step(episode, np.zeros((1, 1)))
        self._baseline.fit(episode, np.zeros((1, 1)), epoch=0)
        self._baseline.rewards(episode, self._config.gamma)
        self.restore(before)

    def state(self) -> dict[str, NDArray[Any]]:
        """Returns all state that training changes, by name."""
        found = {f"variable_{i}": v.numpy() for i, v in enumerate(self._variables())}
        for part in self._stateful:
            found |= part.state()
        return found

    def policy_weights(self, state: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Returns the policy's weights from a :meth:`state`."""
        return [state[f"variable_{i}"] for i in range(len(self.policy.variables))]

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restores a :meth:`state`.

        Raises:
            ValueError: The state is from a learner with other settings.
        """
        for name, array in self.state().items():
            if name not in state or np.shape(state[name]) != np.shape(array):
                got = np.shape(state[name]) if name in state else "nothing"
                raise ValueError(f"{name} should be of shape {np.shape(array)}, got {got}")
        self._learning_rate.invalidate()
        self._step.weights = self.policy_weights(state)
        for i, variable in enumerate(self._variables()):
            variable.assign(state[f"variable_{i}"])
        for part in self._stateful:
            part.restore(state)

    def _variables(self) -> list[tf.Variable]:
        return [*self.policy.variables, *(v.value for v in self._step.optimizer.variables)]


def _finite(numbers: Any) -> bool:
    return bool(np.isfinite(numbers).all())


def _check_activation(config: Config) -> None:
    try:
        activation = keras.activations.get(config.activation)
    except ValueError as error:
        raise ConfigError(
            f"activation {config.activation!r}: Keras has no activation of that name; try tanh or relu"
        ) from error
    features = tf.zeros((1, 4))  # an even number of features, because glu halves it
    try:
        fits = activation(features).shape == features.shape
    except Exception as error:  # Keras raises errors of any type when an argument is missing
        raise ConfigError(
            f"activation {config.activation!r}: it needs arguments other than the features of a layer ({error}); try "
            "tanh or relu"
        ) from error
    if not fits:
        raise ConfigError(
            f"activation {config.activation!r}: it returns a different number of features than it takes; try tanh or "
            "relu"
        )


def _reuse(config: Config) -> Reuse | None:
    return None if config.reuse == 1 else Reuse(config.reuse, config.reuse_clip, config.reuse_kl)


def _natural(config: Config) -> Natural | None:
    if config.optimizer != NATURAL or config.target_kl is None:
        return None
    return Natural(config.target_kl, config.fisher_damping, config.fisher_steps)


def _optimizer(config: Config) -> keras.optimizers.Optimizer:
    if config.optimizer == NATURAL:
        return keras.optimizers.SGD()
    try:
        optimizer = keras.optimizers.get({"class_name": config.optimizer, "config": {}})
    except (KeyError, TypeError, ValueError) as error:  # KeyError: an optimizer that only wraps another one
        raise ConfigError(
            f"optimizer {config.optimizer!r}: Keras has no optimizer of that name that can be created without "
            "arguments; try adam, sgd or natural"
        ) from error
    if type(optimizer) is keras.optimizers.Adam:
        optimizer = Adam()
    optimizer.learning_rate = config.learning_rate
    return optimizer


def _learning_rate(config: Config, step: TrainStep) -> LearningRate:
    schedule = config.learning_rate_schedule
    if config.target_kl is None:
        return ScheduledLearningRate(step.optimizer, config.learning_rate, schedule)
    if config.optimizer == NATURAL:
        return NaturalLearningRate(step.optimizer, schedule, config.target_kl, step.set_target_kl)
    return AdaptiveLearningRate(step.optimizer, config.learning_rate, schedule, config.target_kl)
