"""REINFORCE from the package's building blocks: the plain algorithm, without a baseline or tuning.

Run it with: python examples/reinforce_in_100_lines.py

``pgkeras train CartPole-v1 --preset textbook`` does the same (Williams 1992; Sutton & Barto, 2nd ed., section 13.3).
"""

from collections import deque
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from pgkeras import environments
from pgkeras.collect import Collector
from pgkeras.config import NetworkSettings
from pgkeras.policy import Policy
from pgkeras.reinforce import FrozenPolicy, discounted_returns, reinforce_loss
from pgkeras.spaces import actions_from_gymnasium, observations_from_gymnasium

GAMMA = 0.99
LEARNING_RATE = 0.001
SETTINGS = NetworkSettings(normalize_observations=False)
SOLVED = 475.0  # mean return of the last 100 episodes


class Reinforce:
    """A policy and its training: one episode per gradient step.

    Args:
        env_id: ID of a gymnasium environment.
        seed: Seed of the initial weights, the environment and the actions.
    """

    def __init__(self, env_id: str, seed: int = 0) -> None:
        self.environment = environments.make(environments.Recipe(env_id), 1, "plain")
        observation_space = observations_from_gymnasium(self.environment.observation_space)
        action_space = actions_from_gymnasium(self.environment.action_space)
        self.policy = Policy(observation_space, action_space, settings=SETTINGS, seed=seed)
        self.actor = FrozenPolicy(self.policy)
        self.collector = Collector(self.environment, self.actor)
        self.optimizer = keras.optimizers.Adam(LEARNING_RATE)
        self.optimizer.build(self.policy.model.trainable_variables)
        self.seed = seed

    def __iter__(self) -> Iterator[float]:
        """Repeats without end: plays an episode, learns from it and yields its undiscounted return."""
        epoch = 0
        while True:
            # Phase one: play a whole episode by sampling from the frozen policy.
            episode = self.collector.collect(1, np.random.SeedSequence(self.seed, spawn_key=(epoch,)))
            # Phase two: compute the return of every step, then take one gradient step. The episode is used once.
            returns = discounted_returns(episode.rewards, GAMMA)
            mask = episode.mask
            self.train_step(
                tf.constant(episode.observations[mask]),
                tf.constant(episode.samples[mask]),
                tf.constant(returns[mask], tf.float32),
            )
            self.actor.freeze()
            epoch += 1
            yield float(episode.episode_returns[0])

    @tf.function(reduce_retracing=True)
    def train_step(self, observation: tf.Tensor, action: tf.Tensor, returns: tf.Tensor) -> None:
        """Takes one gradient step, which increases the log-probability of each action in proportion to its return.

        Args:
            observation: ``[T, ...]``, the observations of one episode.
            action: ``[T, ...]``, the actions taken.
            returns: ``[T]``, the discounted returns R_t.
        """
        with tf.GradientTape() as tape:
            parameters = self.policy.unroll(observation)  # [T, P], here the logits of the actions
            log_prob = self.policy.distribution.log_prob(parameters, action)  # [T], log P(a_t | s_t)
            loss = reinforce_loss(log_prob, returns, episodes=tf.constant(1.0))  # -sum_t log P(a_t | s_t) R_t
        variables = self.policy.model.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)


def main() -> None:
    recent: deque[float] = deque(maxlen=100)
    for episode, episode_return in enumerate(Reinforce("CartPole-v1"), start=1):
        recent.append(episode_return)
        mean = sum(recent) / len(recent)
        if episode % 100 == 0 or mean >= SOLVED:
            print(f"episode {episode}: mean return of the last {len(recent)} episodes {mean:.1f}")
        if len(recent) == 100 and mean >= SOLVED:
            break


if __name__ == "__main__":
    main()
