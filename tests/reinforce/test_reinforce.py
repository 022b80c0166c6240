"""The loss and the gradient step: finite differences, closed forms, and an independent NumPy policy gradient."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from pgkeras.environments.trajectory import Trajectory
from pgkeras.policy.distributions import Categorical, DiagonalGaussian, Distribution
from pgkeras.policy.policy import Policy
from pgkeras.reinforce.baselines import from_batch
from pgkeras.reinforce.estimator import advantages
from pgkeras.reinforce.kl import approximate_kl
from pgkeras.reinforce.reinforce import reinforce_loss
from pgkeras.reinforce.train_step import TrainStep
from pgkeras.settings.groups import NetworkSettings
from pgkeras.spaces import Box, Discrete, Space

FLOAT32 = np.dtype(np.float32)
OBSERVATION = Box(np.full(3, -np.inf), np.full(3, np.inf), FLOAT32)
CONTINUOUS = Box(np.full(2, -np.inf), np.full(2, np.inf), FLOAT32)


def batch(lengths: list[int], action_space: Space, seed: int = 0, garbage: float = 0.0) -> Trajectory:
    """Returns random episodes with ``garbage`` in the padding of observations."""
    generator = np.random.default_rng(seed)
    counts = np.array(lengths)
    steps, mask = counts.max(), np.arange(counts.max())[:, np.newaxis] < counts
    shape = (steps, len(counts))
    observations = generator.normal(size=(*shape, 3)).astype(np.float32)
    if isinstance(action_space, Discrete):
        samples = generator.integers(0, action_space.n, shape)
    else:
        samples = generator.normal(size=(*shape, 2)).astype(np.float32)
    observations[~mask] = garbage
    return Trajectory(
        observations,
        samples,
        np.where(mask, generator.normal(size=shape), 0.0),
        counts,
        np.ones(len(counts), np.bool_),
        observations[-1],
    )


def policy_of(action_space: Space, seed: int = 0, mask_size: int = 0) -> Policy:
    """Returns a linear policy with weights that are not near 0."""
    settings = NetworkSettings(hidden=(), normalize_observations=False)
    policy = Policy(OBSERVATION, action_space, settings=settings, seed=seed, mask_size=mask_size)
    generator = np.random.default_rng(seed)
    for variable in policy.variables:
        variable.assign(generator.normal(0, 0.5, variable.shape).astype(np.float32))
    return policy


def gradients_by_loops(
    policy: Policy, trajectory: Trajectory, weights: np.ndarray, entropy_bonus: float = 0.0
) -> list[np.ndarray]:
    """Computes the loss gradient of a linear categorical policy in a loop: d log p_a / d logits = onehot(a) - p.

    If rows of observations end in a mask, forbidden actions have probability 0.
    """
    kernel, bias = (w.astype(np.float64) for w in policy.weights())
    d_kernel, d_bias = np.zeros_like(kernel), np.zeros_like(bias)
    episodes = len(trajectory.lengths)
    for b, length in enumerate(trajectory.lengths):
        for t in range(length):
            x, mask = np.split(trajectory.observations[t, b].astype(np.float64), [len(kernel)])
            e = np.exp(x @ kernel + bias) * (mask if mask.size else 1)
            p = e / e.sum()
            onehot = np.eye(len(p))[trajectory.samples[t, b]]
            log_p = np.log(p, where=p > 0, out=np.zeros_like(p))
            entropy = -(p * log_p).sum()
            # dH/dlogit_k = -p_k (ln p_k + H)
            d_logits = -(onehot - p) * weights[t, b] + entropy_bonus * p * (log_p + entropy)
            d_kernel += np.outer(x, d_logits) / episodes
            d_bias += d_logits / episodes
    return [d_kernel, d_bias]


@pytest.mark.parametrize("kind", ["categorical", "gaussian"])
def test_the_loss_gradient_matches_finite_differences(kind: str) -> None:
    # In float64: two dense layers, the distribution and the loss.
    distribution: Distribution = Categorical(4) if kind == "categorical" else DiagonalGaussian(CONTINUOUS)
    generator = np.random.default_rng(1)
    n, size = 30, distribution.parameter_size
    x, advantage = tf.constant(generator.normal(size=(n, 3))), tf.constant(generator.normal(size=n))
    sample = (
        tf.constant(generator.integers(0, 4, n))
        if kind == "categorical"
        else tf.constant(generator.normal(size=(n, 2)))
    )
    values = [generator.normal(0, 0.5, shape) for shape in [(3, 5), (5,), (5, size), (size,)]]

    def loss(*weights: tf.Tensor) -> tf.Tensor:
        w1, b1, w2, b2 = weights
        parameters = tf.tanh(x @ w1 + b1) @ w2 + b2
        value = reinforce_loss(distribution.log_prob(parameters, sample), advantage, tf.constant(5.0, tf.float64))
        return value - 0.01 * tf.reduce_sum(distribution.entropy(parameters))

    variables = [tf.Variable(v) for v in values]
    with tf.GradientTape() as tape:
        value = loss(*variables)
    assert value.dtype == tf.float64
    step = 1e-5
    for i, gradient in enumerate(tape.gradient(value, variables)):
        for index in np.ndindex(values[i].shape):
            around = []
            for sign in (1, -1):
                moved = [v.copy() for v in values]
                moved[i][index] += sign * step
                around.append(float(loss(*map(tf.constant, moved))))
            difference = (around[0] - around[1]) / (2 * step)
            assert gradient.numpy()[index] == pytest.approx(difference, rel=1e-6, abs=1e-8)


def test_the_loss_by_hand() -> None:
    # Two episodes: -(ln(1/2) * 3 + ln(1/4) * (-1) + ln(1) * 9)/2 = (3 ln 2 - 2 ln 2)/2 = ln(2)/2.
    log_prob = tf.constant(np.log([0.5, 0.25, 1.0]))
    got = reinforce_loss(log_prob, tf.constant([3.0, -1.0, 9.0], tf.float64), tf.constant(2.0, tf.float64))
    assert float(got) == pytest.approx(np.log(2) / 2)


def test_no_gradient_flows_through_advantages() -> None:
    x = tf.Variable([0.1, 0.2])
    with tf.GradientTape() as tape:
        loss = reinforce_loss(tf.constant([-1.0, -2.0]), x * 2, tf.constant(1.0))
    assert tape.gradient(loss, x) is None


def test_broadcasting_of_columns_is_rejected() -> None:
    with pytest.raises(ValueError, match="rank"):
        reinforce_loss(tf.zeros([3, 1]), tf.zeros([3]), tf.constant(1.0))
    with pytest.raises(ValueError, match="rank"):
        reinforce_loss(tf.zeros([3]), tf.zeros([3, 1]), tf.constant(1.0))


BANDIT_REWARDS = np.array([1.0, 3.0])  # of the two arms
BANDIT_LOGITS = np.array([0.4, -0.3])


def bandit_gradient() -> np.ndarray:
    """Returns the exact gradient of the expected reward: dJ/dlogit_k = p_k (r_k - J), where J = sum_k p_k r_k."""
    p = np.exp(BANDIT_LOGITS) / np.exp(BANDIT_LOGITS).sum()
    return p * (BANDIT_REWARDS - p @ BANDIT_REWARDS)


def bandit_batch(arms: np.ndarray) -> Trajectory:
    episodes = len(arms)
    return Trajectory(
        np.zeros((1, episodes, 3), np.float32),
        arms[np.newaxis],
        BANDIT_REWARDS[arms][np.newaxis],
        np.ones(episodes, np.int64),
        np.ones(episodes, np.bool_),
        np.zeros((episodes, 3), np.float32),
    )


def estimate(arms: np.ndarray, baseline: str) -> np.ndarray:
    """Returns the loss gradient with respect to the logits for these pulls, computed with the library."""
    trajectory = bandit_batch(arms)
    values = advantages(trajectory, 0.9, from_batch(baseline)).values[trajectory.mask]
    logits = tf.Variable(BANDIT_LOGITS)
    with tf.GradientTape() as tape:
        rows = tf.tile(logits[tf.newaxis], [len(arms), 1])
        log_prob = Categorical(2).log_prob(rows, tf.constant(arms))
        loss = reinforce_loss(log_prob, tf.constant(values), tf.constant(float(len(arms)), tf.float64))
    return tape.gradient(loss, logits).numpy()


@pytest.mark.parametrize(
    ("baseline", "factor"),
    # The time baseline includes the episode's own return, which scales the gradient by (n - 1)/n; see its docstring.
    [("none", 1.0), ("leave-one-out", 1.0), ("time", 2 / 3)],
)
def test_the_expected_estimate_is_the_exact_bandit_gradient(baseline: str, factor: float) -> None:
    # Exact, by enumeration of all eight outcomes of three pulls, weighted by their probabilities.
    p = np.exp(BANDIT_LOGITS) / np.exp(BANDIT_LOGITS).sum()
    expected = sum(
        p[list(arms)].prod() * estimate(np.array(arms), baseline) for arms in itertools.product([0, 1], repeat=3)
    )
    np.testing.assert_allclose(expected, -factor * bandit_gradient(), rtol=1e-12)


# Two steps. The second observation shows the first action. Rewards by (first, second) action.
TREE_REWARDS = np.array([[0.0, 2.0], [1.0, -1.0]])
TREE_FIRST = np.array([0.5, -1.0])


def tree_gradient(policy: Policy, gamma: float) -> list[np.ndarray]:
    """Returns E[sum_t grad log p(a_t) R_t] for the weights of a linear policy, by enumeration."""
    kernel, bias = (w.astype(np.float64) for w in policy.weights())
    total = [np.zeros_like(kernel), np.zeros_like(bias)]
    for first, second in itertools.product([0, 1], repeat=2):
        probability, terms = 1.0, []
        rewards = [TREE_FIRST[first], TREE_REWARDS[first, second]]
        for x, action in ((np.array([1.0, 0, 0]), first), (np.array([0, 1.0 - 2 * first, 0.5]), second)):
            e = np.exp(x @ kernel + bias)
            p = e / e.sum()
            probability *= p[action]
            score = np.eye(2)[action] - p
            terms.append((np.outer(x, score), score))
        returns = [rewards[0] + gamma * rewards[1], rewards[1]]
        for (d_kernel, d_bias), value in zip(terms, returns, strict=True):
            total[0] += probability * d_kernel * value
            total[1] += probability * d_bias * value
    return total


@pytest.mark.parametrize("baseline", [pytest.param("none", marks=pytest.mark.slow), "leave-one-out"])
def test_a_step_estimates_the_exact_gradient_without_bias(baseline: str) -> None:
    # 40,000 sampled episodes in batches of 4, each a step of TrainStep with plain SGD from the same weights; the mean
    # step must be the exact gradient, which enumeration gives, within 4.5 standard errors in every weight.
    gamma, rate, generator = 0.8, 1.0, np.random.default_rng(2)
    policy = policy_of(Discrete(2), seed=4)
    exact = tree_gradient(policy, gamma)
    start = policy.weights()
    step = TrainStep(policy, keras.optimizers.SGD(rate))
    moves = []
    for _ in range(1000):
        # 40 episodes are sampled at once and split into 10 batches of 4, which keeps the test fast.
        trajectory = play_tree(policy, generator, 40)
        values = np.concatenate(
            [
                advantages(select(trajectory, slice(i, i + 4)), gamma, from_batch(baseline)).values
                for i in range(0, 40, 4)
            ],
            axis=1,
        )
        step(trajectory, values)
        moves.append(np.concatenate([(w - s).ravel() for w, s in zip(policy.weights(), start, strict=True)]))
        for variable, weight in zip(policy.variables, start, strict=True):
            variable.assign(weight)
    sampled = np.array(moves, np.float64)
    error = sampled.std(axis=0) / np.sqrt(len(sampled))
    flat = np.concatenate([g.ravel() for g in exact])
    assert np.linalg.norm(flat) > 20 * np.linalg.norm(error)  # otherwise the test could not detect a bias
    assert (np.abs(sampled.mean(axis=0) - flat) < 4.5 * error + 1e-7).all()


def select(trajectory: Trajectory, episodes: slice) -> Trajectory:
    return Trajectory(*(a[:, episodes] for a in trajectory[:3]), *(a[episodes] for a in trajectory[3:]))


def play_tree(policy: Policy, generator: np.random.Generator, episodes: int) -> Trajectory:
    kernel, bias = policy.weights()

    def act(x: np.ndarray) -> np.ndarray:
        logits = x @ kernel + bias
        return (generator.random(episodes) < 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))).astype(np.int64)

    x0 = np.tile(np.array([1, 0, 0], np.float32), (episodes, 1))
    first = act(x0)
    x1 = np.stack([np.zeros(episodes), 1.0 - 2 * first, np.full(episodes, 0.5)], axis=1).astype(np.float32)
    second = act(x1)
    return Trajectory(
        np.stack([x0, x1]),
        np.stack([first, second]),
        np.stack([TREE_FIRST[first], TREE_REWARDS[first, second]]),
        np.full(episodes, 2),
        np.ones(episodes, np.bool_),
        x1,
    )


@pytest.mark.parametrize("entropy_bonus", [0.0, 0.3])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_one_sgd_step_moves_the_weights_by_minus_rate_times_gradient(entropy_bonus: float, jit_compile: bool) -> None:
    policy, trajectory = policy_of(Discrete(3)), batch([5, 2, 11], Discrete(3))
    values = advantages(trajectory, 0.9, from_batch("leave-one-out")).values
    expected = gradients_by_loops(policy, trajectory, values, entropy_bonus)
    before = policy.weights()
    step = TrainStep(policy, keras.optimizers.SGD(0.1), entropy_bonus=entropy_bonus, jit_compile=jit_compile)
    metrics = step(trajectory, values)
    for old, new, gradient in zip(before, policy.weights(), expected, strict=True):
        np.testing.assert_allclose(new, old - 0.1 * gradient, rtol=1e-5, atol=1e-6)
    norm = np.sqrt(sum((g**2).sum() for g in expected))
    assert metrics.gradient_norm == pytest.approx(norm, rel=1e-5)


def test_a_forbidden_action_does_not_contribute_to_the_gradient() -> None:
    policy = policy_of(Discrete(3), mask_size=3)
    trajectory = batch([5, 2, 11], Discrete(3))
    masks = np.random.default_rng(1).random((11, 3, 3)) < 0.5
    np.put_along_axis(masks, trajectory.samples[..., np.newaxis], True, axis=-1)  # the sampled actions are allowed
    assert not masks[trajectory.mask].all()
    rows = np.concatenate([trajectory.observations, masks], axis=-1).astype(np.float32)
    trajectory = trajectory._replace(observations=rows, final_observations=rows[-1])
    values = advantages(trajectory, 0.9, from_batch("leave-one-out")).values
    expected = gradients_by_loops(policy, trajectory, values, 0.3)
    before = policy.weights()
    TrainStep(policy, keras.optimizers.SGD(0.1), entropy_bonus=0.3)(trajectory, values)
    for old, new, gradient in zip(before, policy.weights(), expected, strict=True):
        np.testing.assert_allclose(new, old - 0.1 * gradient, rtol=1e-5, atol=1e-6)


def test_metrics_ignore_padding() -> None:
    policy, trajectory = policy_of(Discrete(3)), batch([5, 2, 11], Discrete(3))
    values = advantages(trajectory, 0.9).values
    kernel, bias = (w.astype(np.float64) for w in policy.weights())
    e = np.exp(trajectory.observations[trajectory.mask] @ kernel + bias)
    p = e / e.sum(axis=1, keepdims=True)
    log_p = np.log(p[np.arange(18), trajectory.samples[trajectory.mask]])
    for jit_compile in (False, True):
        step = TrainStep(policy, keras.optimizers.SGD(0.0), jit_compile=jit_compile)
        metrics = step(trajectory, values)
        assert metrics.loss == pytest.approx(-(log_p * values[trajectory.mask]).sum() / 3, rel=1e-4)
        assert metrics.entropy == pytest.approx(-(p * np.log(p)).sum(axis=1).mean(), rel=1e-5)


def test_the_kl_estimate_is_unbiased() -> None:
    generator = np.random.default_rng(0)
    old, new = generator.dirichlet([3.0, 2.0, 1.0, 4.0], 2)
    samples = generator.choice(4, 200_000, p=old)
    log_old, log_new = np.log(old)[samples], np.log(new)[samples]
    real = np.ones(len(samples))
    real[1000:1100], log_new[1000:1100] = 0, 500  # padding, with a ratio that overflows
    divergence = approximate_kl(*(tf.constant(a, tf.float32) for a in (log_old, log_new, real)))
    estimate = float(divergence) / real.sum()
    exact = float((old * np.log(old / new)).sum())
    terms = np.exp((log_new - log_old)[1100:]) - 1 - (log_new - log_old)[1100:]
    assert estimate == pytest.approx(exact, abs=5 * terms.std() / np.sqrt(len(terms)))
    assert exact > 0.1


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("action_space", [Discrete(3), CONTINUOUS])
def test_a_step_reports_its_kl_divergence(action_space: Space, jit_compile: bool) -> None:
    policy, trajectory = policy_of(action_space), batch([5, 2, 11], action_space)
    values = advantages(trajectory, 0.9).values

    def log_prob() -> np.ndarray:
        parameters = policy.parameters(tf.constant(trajectory.observations[trajectory.mask]))
        return policy.distribution.log_prob(parameters, tf.constant(trajectory.samples[trajectory.mask])).numpy()

    before = log_prob()
    step = TrainStep(policy, keras.optimizers.SGD(0.03), measure_kl=True, jit_compile=jit_compile)
    metrics = step(trajectory, values)
    ratio = log_prob() - before
    assert metrics.kl == pytest.approx((np.exp(ratio) - 1 - ratio).mean(), rel=1e-4)
    assert metrics.kl > 1e-4


@pytest.mark.parametrize("action_space", [Discrete(3), CONTINUOUS])
def test_padding_contributes_nothing(action_space: Space) -> None:
    weights = []
    for garbage in (0.0, 1e30, np.nan):
        policy, trajectory = policy_of(action_space), batch([5, 2, 11], action_space, garbage=garbage)
        values = advantages(trajectory, 0.9, from_batch("time"), rescale=True).values
        TrainStep(policy, keras.optimizers.SGD(0.1))(trajectory, values)
        weights.append(policy.weights())
    for other in weights[1:]:
        for a, b in zip(weights[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("action_space", [Discrete(3), CONTINUOUS])
def test_a_step_on_a_batch_is_the_mean_of_the_steps_on_its_episodes(action_space: Space) -> None:
    trajectory = batch([5, 2, 11, 1], action_space)
    values = advantages(trajectory, 0.9).values

    def moved(some: Trajectory, advantage: np.ndarray) -> np.ndarray:
        policy = policy_of(action_space)
        before = policy.weights()
        TrainStep(policy, keras.optimizers.SGD(1.0))(some, advantage)
        return np.concatenate([(n - o).ravel() for n, o in zip(policy.weights(), before, strict=True)])

    alone = [moved(select(trajectory, slice(i, i + 1)), values[:, i : i + 1]) for i in range(4)]
    np.testing.assert_allclose(moved(trajectory, values), np.mean(alone, axis=0), rtol=1e-4, atol=1e-5)


def test_a_gaussian_step_by_hand() -> None:
    # d log p / d mean = z / std, d log p / d log std = z**2 - 1, summed over steps, averaged over episodes.
    policy, trajectory = policy_of(CONTINUOUS), batch([3, 4], CONTINUOUS)
    values = advantages(trajectory, 0.9).values
    before = dict(zip([v.path for v in policy.model.trainable_variables], policy.weights(), strict=True))
    TrainStep(policy, keras.optimizers.SGD(1.0))(trajectory, values)
    after = dict(zip(before, policy.weights(), strict=True))
    (kernel,) = (name for name in before if name.endswith("kernel"))
    (bias,) = (name for name in before if name.endswith("bias"))
    (log_std,) = (name for name in before if name.endswith("numbers"))
    mask = trajectory.mask
    x, a = trajectory.observations[mask].astype(np.float64), values[mask][:, np.newaxis]
    std = np.exp(before[log_std].astype(np.float64))
    z = (trajectory.samples[mask] - (x @ before[kernel] + before[bias])) / std
    np.testing.assert_allclose(after[bias] - before[bias], (z / std * a).sum(axis=0) / 2, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(after[kernel] - before[kernel], x.T @ (z / std * a) / 2, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(after[log_std] - before[log_std], ((z**2 - 1) * a).sum(axis=0) / 2, rtol=1e-4, atol=1e-5)


def test_clipping_keeps_the_direction_and_limits_the_norm() -> None:
    trajectory = batch([5, 2, 11], Discrete(3))
    values = advantages(trajectory, 0.9).values
    exact = gradients_by_loops(policy_of(Discrete(3)), trajectory, values)
    norm = np.sqrt(sum((g**2).sum() for g in exact))
    for limit, factor in ((norm / 10, 0.1), (norm * 2, 1.0)):
        policy = policy_of(Discrete(3))
        before = policy.weights()
        metrics = TrainStep(policy, keras.optimizers.SGD(1.0), clip_norm=limit)(trajectory, values)
        assert metrics.gradient_norm == pytest.approx(norm, rel=1e-5)  # before clipping
        for old, new, gradient in zip(before, policy.weights(), exact, strict=True):
            np.testing.assert_allclose(old - new, factor * gradient, rtol=1e-4, atol=1e-6)


def test_episodes_of_any_length_share_one_trace() -> None:
    policy = policy_of(Discrete(3))
    step = TrainStep(policy, keras.optimizers.Adam(1e-3))
    for seed, lengths in enumerate([[1], [3, 1], [40, 2, 7], [1, 1, 1, 1, 1], [64], [65]]):
        trajectory = batch(lengths, Discrete(3), seed)
        step(trajectory, advantages(trajectory, 0.9).values)
    assert step.traces == 1


@pytest.mark.parametrize("action_space", [Discrete(3), pytest.param(CONTINUOUS, marks=pytest.mark.slow)])
def test_xla_takes_the_same_steps(action_space: Space) -> None:
    weights = []
    for jit_compile in (False, True):
        policy = policy_of(action_space)
        step = TrainStep(
            policy, keras.optimizers.Adam(0.01), clip_norm=0.5, entropy_bonus=0.01, jit_compile=jit_compile
        )
        for seed, lengths in enumerate([[5, 2, 11], [1], [8, 8], [3, 30]]):
            trajectory = batch(lengths, action_space, seed)
            step(trajectory, advantages(trajectory, 0.9, from_batch("leave-one-out")).values)
        weights.append(policy.weights())
        assert step.traces == 1
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
