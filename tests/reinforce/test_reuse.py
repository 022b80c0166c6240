"""Several gradient steps per batch, with clipped importance weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pgkeras.backend import keras, tf
from pgkeras.environments.trajectory import Trajectory
from pgkeras.policy.policy import Policy
from pgkeras.reinforce.batch import micro_batches
from pgkeras.reinforce.reinforce import policy_gradient
from pgkeras.reinforce.reuse import Reuse, clipped_surrogate, surrogate_gradient
from pgkeras.reinforce.train_step import TrainStep
from pgkeras.settings.groups import NetworkSettings
from pgkeras.spaces import Box, Discrete
from tests.reinforce.test_unbiased import EPISODES, MOVES, PREFERENCES, REWARDS, START, probabilities

VECTOR = Box(np.full(2, -np.inf), np.full(2, np.inf), np.dtype(np.float32))
CLIP = 0.2


def a_policy(seed=3, **settings):
    return Policy(VECTOR, Discrete(3), settings=NetworkSettings(hidden=(7,), **settings), seed=seed)


def episodes(seed=0, most=6, number=4):
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, most + 1, number)
    lengths[0] = most
    real = np.arange(most)[:, np.newaxis] < lengths
    trajectory = Trajectory(
        observations=generator.normal(size=(most, number, 2)).astype(np.float32),
        samples=generator.integers(0, 3, (most, number)),
        rewards=np.zeros((most, number)),
        lengths=lengths,
        terminated=np.ones(number, np.bool_),
        final_observations=np.zeros((number, 2), np.float32),
    )
    return trajectory, np.where(real, generator.normal(size=(most, number)), 0.0)


@pytest.mark.parametrize("memory", ["none", "gru"])
def test_the_first_step_is_the_reinforce_step(memory):
    policy = a_policy(memory=memory)
    trajectory, advantage = episodes()
    (batch,) = micro_batches(policy, trajectory, advantage, None, pad=False)
    exact = policy_gradient(policy, batch)
    surrogate = surrogate_gradient(policy, batch, exact.log_prob, CLIP)
    for a, b in zip(surrogate.gradients, exact.gradients, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-6)
    assert float(surrogate.sums.kl) == pytest.approx(0.0, abs=1e-6), "it has not moved"


def test_the_surrogate_and_its_gradient_by_hand():
    old = np.log(np.array([0.2, 0.2, 0.5, 0.5, 0.4], np.float32))
    new = np.log(np.array([0.22, 0.6, 0.3, 0.45, 0.4], np.float32))
    advantage = np.array([1.0, 2.0, -1.0, -3.0, 0.0], np.float32)
    ratio = np.exp(new - old)
    expected = np.minimum(ratio * advantage, np.clip(ratio, 0.8, 1.2) * advantage)
    variable = tf.Variable(new)
    with tf.GradientTape() as tape:
        value = clipped_surrogate(tf.convert_to_tensor(variable), tf.constant(old), tf.constant(advantage), CLIP)
    np.testing.assert_allclose(value.numpy(), expected, rtol=1e-6)
    # The gradient d(r A) / d log_prob is r A. It is 0 if a good action is already 1.2x as probable as before, or a bad
    # action 0.8x.
    pulls = np.array([True, False, False, True, True])
    gradient = tf.convert_to_tensor(tape.gradient(value, variable)).numpy()
    np.testing.assert_allclose(gradient, np.where(pulls, ratio * advantage, 0.0), rtol=1e-6)


def stepped(reuse, seed=3, optimizer=None, rows=None, **options):
    policy = a_policy(seed)
    step = TrainStep(policy, optimizer or keras.optimizers.SGD(0.05), reuse=reuse, **options)
    step.rows = rows
    metrics = step(*episodes())
    for ours, kept in zip(policy.weights(), step.weights, strict=True):
        np.testing.assert_array_equal(ours, kept)
    return metrics, policy.weights()


def test_steps_end_at_the_maximum_number_or_kl():
    once, after_one = stepped(None)
    assert once.gradient_steps == 1
    again, same = stepped(Reuse(1, CLIP, 1.0))
    assert again.gradient_steps == 1
    for a, b in zip(after_one, same, strict=True):
        np.testing.assert_array_equal(a, b)
    free, _ = stepped(Reuse(9, CLIP, 100.0))
    assert free.gradient_steps == 9
    assert free.kl > again.kl > 0
    limited, _ = stepped(Reuse(9, CLIP, again.kl / 2))
    assert limited.gradient_steps == 1, "the first step has gone too far already"
    some, _ = stepped(Reuse(9, CLIP, (free.kl + again.kl) / 2))
    assert 1 < some.gradient_steps < 9
    assert some.kl > (free.kl + again.kl) / 2, "the step that goes beyond it is the last one"


def test_parts_give_the_same_steps_as_the_whole_batch():
    options: dict[str, Any] = {"clip_norm": 0.5, "entropy_bonus": 0.1, "measure_kl": True}
    whole, expected = stepped(Reuse(5, CLIP, 100.0), **options)
    parts, got = stepped(Reuse(5, CLIP, 100.0), rows=4, **options)
    assert parts.gradient_steps == whole.gradient_steps == 5
    assert parts.kl == pytest.approx(whole.kl, rel=1e-3)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def importance_weighted(preferences, horizon):
    """Computes the expected gradient of the surrogate without clipping, by enumeration of all episodes.

    The episodes are played with PREFERENCES, and the gradient is computed at ``preferences``.
    """
    played, now = probabilities(PREFERENCES), probabilities(preferences)
    steps = []  # of all episodes: state, action, return, probability of the episode

    def visit(state, weight, terms):
        if state == 3 or len(terms) == horizon:
            rewards = np.array([reward for *_, reward in terms])
            steps.extend((s, a, rewards[t:].sum(), weight) for t, (s, a, _) in enumerate(terms))
            return
        for action in range(2):
            for after in range(4):
                chance = played[state, action] * MOVES[state, action, after]
                if chance:
                    visit(after, weight * chance, [*terms, (state, action, REWARDS[state, action])])

    for state in range(3):
        visit(state, START[state], [])
    states, actions, returns, chances = (np.array(column) for column in zip(*steps, strict=True))
    log_prob, old = (tf.constant(np.log(table[states, actions]), tf.float32) for table in (now, played))
    with tf.GradientTape() as tape:
        tape.watch(log_prob)
        surrogate = clipped_surrogate(log_prob, old, tf.constant(returns, tf.float32), clip=1e6)
    by_step = tape.gradient(surrogate, log_prob).numpy() * chances * (actions - now[states, 1])
    return np.bincount(states, by_step, minlength=3)


def exact_gradient(preferences, horizon):
    from tests.reinforce.test_unbiased import expected

    step = 1e-5
    return np.array(
        [
            (
                expected(preferences + step * np.eye(3)[i], lambda _, rewards: sum(rewards), horizon)
                - expected(preferences - step * np.eye(3)[i], lambda _, rewards: sum(rewards), horizon)
            )
            / (2 * step)
            for i in range(3)
        ]
    )


def test_later_steps_are_unbiased_only_for_episodes_of_one_step():
    """After the first step, the estimate is unbiased for episodes of one step and biased for longer ones.

    Each step is multiplied by the importance weight of its own action only. The weights of earlier actions, which led
    to the state, and of later actions, whose rewards are in the return, are missing.
    """
    moved = PREFERENCES + np.array([0.5, -0.4, 0.3])
    assert EPISODES > 1
    np.testing.assert_allclose(importance_weighted(PREFERENCES, 4), exact_gradient(PREFERENCES, 4), atol=1e-5)
    np.testing.assert_allclose(importance_weighted(moved, 1), exact_gradient(moved, 1), atol=1e-5)
    bias = importance_weighted(moved, 4) - exact_gradient(moved, 4)
    assert np.abs(bias).max() > 0.02


def test_importance_weights_of_padding_are_ignored():
    policy = a_policy()
    trajectory, advantage = episodes(most=5, number=3)
    (batch,) = micro_batches(policy, trajectory, advantage, None, pad=True)
    exact = policy_gradient(policy, batch)
    real = policy.flat(batch.real)
    assert tf.reduce_any(real == 0)
    old = tf.where(real > 0, exact.log_prob, exact.log_prob - 1e3)  # with an importance weight that overflows
    surrogate = surrogate_gradient(policy, batch, old, CLIP)
    for a, b in zip(surrogate.gradients, exact.gradients, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-6)
    np.testing.assert_allclose(surrogate.sums[2:], [tf.reduce_sum(real), 0.0], atol=1e-6)
