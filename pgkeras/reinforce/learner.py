"""Learner: all the state that training changes, and the order in which an update changes it."""

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
    """The metrics of learning from one batch of episodes."""

    loss: float
    entropy: float  # mean per step, nats
    gradient_norm: float  # before clipping
    kl: float  # mean per step, from the policy before; NaN without target_kl or reuse
    gradient_steps: int  # on this batch
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
        replicas: The devices that share the gradient steps; None for the one that there is.

    Raises:
        ConfigError: Keras knows no such optimizer or activation.
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
        self._remembering = [part for part in (self._settling, self._baseline, self._statistics) if part is not None]
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
        # The step gives back its weights without reading each variable anew, but the statistics change after it.
        return self._step.weights if self.policy.normalization is None else self.policy.weights()

    def learn(self, trajectory: Trajectory, epoch: int, progress: float) -> UpdateMetrics:
        """Takes a gradient step on a batch of whole episodes, with ``reuse`` several; updates baseline and statistics.

        The statistics of observations stay as they are until the step is done, so that the policy is trained on the
        observations as it saw them.

        Args:
            trajectory: The episodes.
            epoch: Number of the epoch, which the shuffling for the value function derives from.
            progress: How far training is, from 0 to 1; what the schedules go by.

        Raises:
            TrainingError: The loss or the gradient is not finite, or the step left weights that are not.
        """
        advantages = self._advantages(trajectory)
        self._learning_rate.begin(progress, 1.0 if self._settling is None else self._settling.note(advantages.rms))
        self._entropy_bonus.begin(progress)
        before = self._step.weights
        step = self._step(trajectory, advantages.values)
        self._check_finite(step, before, trajectory, advantages, epoch)
        # Where all advantages are 0, nothing moved, and that says nothing about the step size.
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
        # What is not trained is still as the step found it, where ``before`` has it as the last step did.
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
        """Learns from a made-up episode of one step and restores the state: nothing changes.

        TensorFlow traces and optimises a graph in its first run, which takes longer than hundreds of later ones. Here
        it counts as setup.
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
        """All that changes, by name."""
        found = {f"variable_{i}": v.numpy() for i, v in enumerate(self._variables())}
        for part in self._remembering:
            found |= part.state()
        return found

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
        for i, variable in enumerate(self._variables()):
            variable.assign(state[f"variable_{i}"])
        for part in self._remembering:
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
            f"activation {config.activation!r}: Keras knows none of that name; try tanh or relu"
        ) from error
    features = tf.zeros((1, 4))  # an even number, which glu halves
    try:
        fits = activation(features).shape == features.shape
    except Exception as error:  # what it needs beside the features, Keras says in errors of any kind
        raise ConfigError(
            f"activation {config.activation!r}: it takes more than the features of a layer ({error}); try tanh or relu"
        ) from error
    if not fits:
        raise ConfigError(
            f"activation {config.activation!r}: it does not give as many features as it takes; try tanh or relu"
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
    except (KeyError, TypeError, ValueError) as error:  # the first of one that only wraps another
        raise ConfigError(
            f"optimizer {config.optimizer!r}: Keras makes none of that name; try adam, sgd or natural"
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
