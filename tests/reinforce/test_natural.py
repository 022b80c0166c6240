"""Natural gradients, against an explicit Fisher matrix and the target of the KL divergence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pgkeras.backend import keras, tf
from pgkeras.environments.trajectory import Trajectory
from pgkeras.policy.policy import Policy
from pgkeras.reinforce.batch import micro_batches
from pgkeras.reinforce.learner import Learner
from pgkeras.reinforce.natural import Natural, NaturalGradient, conjugate_gradients
from pgkeras.reinforce.reinforce import policy_gradient
from pgkeras.reinforce.train_step import TrainStep
from pgkeras.settings.config import Config
from pgkeras.settings.groups import NetworkSettings
from pgkeras.spaces import Discrete, Space
from tests.reinforce.test_reinforce import CONTINUOUS, OBSERVATION, batch, policy_of

LENGTHS = [5, 2, 11]
ALL = 1000


def advantage(seed: int = 4) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(max(LENGTHS), len(LENGTHS)))


def remembering(seed: int = 3) -> Policy:
    settings = NetworkSettings(hidden=(), memory="gru", memory_units=3, normalize_observations=False)
    policy = Policy(OBSERVATION, Discrete(3), settings=settings, seed=seed)
    generator = np.random.default_rng(seed)
    policy.assign([generator.normal(0, 0.7, weight.shape).astype(np.float32) for weight in policy.weights()])
    return policy


def fisher_matrix(policy: Policy, trajectory: Trajectory) -> NDArray[np.float64]:
    """Returns the mean over real steps of ``J^T I J``, with Jacobians from TensorFlow and explicit matrices I."""
    (flat,) = micro_batches(policy, trajectory, advantage(), None, pad=False)
    with tf.GradientTape(persistent=True) as tape:
        parameters = policy.unroll(flat.observation)
    variables = policy.model.trainable_variables
    parts = tape.jacobian(parameters, variables, experimental_use_pfor=False)
    rows = parameters.shape[0]
    jacobian = np.concatenate([np.reshape(part, [rows, parameters.shape[1], -1]) for part in parts], 2)
    information = []
    for row in parameters.numpy().astype(np.float64):
        if isinstance(policy.spec.action_space, Discrete):
            p = np.exp(row - row.max())
            p /= p.sum()
            information.append(np.diag(p) - np.outer(p, p))
        else:
            information.append(np.diag([*np.exp(-2 * row[2:]), 2.0, 2.0]))
    real = policy.flat(flat.real).numpy()
    terms = np.einsum("npi,npq,nqj->nij", jacobian, np.array(information), jacobian, optimize=True)
    return np.asarray(np.einsum("n,nij->ij", real / real.sum(), terms))


def flat(weights: Any) -> NDArray[np.float64]:
    return np.concatenate([np.asarray(weight, np.float64).ravel() for weight in weights])


def natural_step(
    policy: Policy, trajectory: Trajectory, settings: Natural, rows: int | None = None, **more: Any
) -> Any:
    step = TrainStep(policy, keras.optimizers.SGD(), natural=settings, measure_kl=True, **more)
    step.rows = rows
    return step(trajectory, advantage()), float(step.optimizer.learning_rate.numpy())


@pytest.mark.parametrize("kind", ["discrete", "continuous", pytest.param("memory", marks=pytest.mark.slow)])
def test_a_step_matches_the_explicit_fisher_matrix(kind: str) -> None:
    space: Space = CONTINUOUS if kind == "continuous" else Discrete(3)
    policy = remembering() if kind == "memory" else policy_of(space)
    trajectory = batch(LENGTHS, space, garbage=1e3)
    damping, target = 0.3, 0.02
    matrix = fisher_matrix(policy, trajectory)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)
    assert np.linalg.eigvalsh(matrix).max() > 0.1
    (parts,) = micro_batches(policy, trajectory, advantage(), None, pad=False)
    plain = flat(policy_gradient(policy, parts).gradients)
    damped = matrix + damping * np.eye(len(matrix))
    direction = np.linalg.solve(damped, plain)
    step_size = np.sqrt(2 * target / (direction @ damped @ direction))
    before = flat(policy.weights())
    metrics, learning_rate = natural_step(policy, trajectory, Natural(target, damping, ALL))
    np.testing.assert_allclose(before - flat(policy.weights()), step_size * direction, rtol=1e-2, atol=2e-4)
    assert learning_rate == pytest.approx(step_size, rel=1e-3)
    assert metrics.gradient_norm == pytest.approx(np.linalg.norm(plain), rel=1e-4)


@pytest.mark.parametrize("kind", ["discrete", "continuous", "embedded"])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_step_has_the_target_kl_at_any_gradient_scale(kind: str, scale: float) -> None:
    space: Space = CONTINUOUS if kind == "continuous" else Discrete(3)
    policy, trajectory = policy_of(space), batch(LENGTHS, space)
    if kind == "embedded":
        policy = Policy(Discrete(5000), space, settings=NetworkSettings(hidden=()), seed=0)
        numbers = np.random.default_rng(1).integers(0, 5000, (max(LENGTHS), len(LENGTHS)))
        trajectory = trajectory._replace(observations=numbers, final_observations=numbers[-1])
    observations = tf.constant(trajectory.observations[trajectory.mask])
    old = policy.parameters(observations).numpy().astype(np.float64)
    step = TrainStep(policy, keras.optimizers.SGD(), natural=Natural(1e-4, 1e-6, ALL))
    step(trajectory, scale * advantage())
    new = policy.parameters(observations).numpy().astype(np.float64)
    if isinstance(space, Discrete):
        p, q = (np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in (old, new))
        divergence = (p * np.log(p / q)).sum(axis=1).mean()
    else:
        (m, s), (n, t) = ((x[:, :2], np.exp(x[:, 2:])) for x in (old, new))
        divergence = (np.log(t / s) + (s**2 + (m - n) ** 2) / (2 * t**2) - 0.5).sum(axis=1).mean()
    assert divergence == pytest.approx(1e-4, rel=0.05)


def test_a_zero_gradient_gives_no_step() -> None:
    policy, trajectory = policy_of(Discrete(3)), batch(LENGTHS, Discrete(3))
    before = policy.weights()
    step = TrainStep(policy, keras.optimizers.SGD(), natural=Natural(0.1, 0.01, ALL))
    step(trajectory, np.zeros_like(advantage()))
    for old, new in zip(before, policy.weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("memory", "jit_compile"),
    [
        (False, False),
        pytest.param(False, True, marks=pytest.mark.slow),
        pytest.param(True, False, marks=pytest.mark.slow),
    ],
)
def test_parts_and_xla_give_the_same_step(memory: bool, jit_compile: bool) -> None:
    weights = []
    for rows, compiled in ((None, False), (7, jit_compile)):
        policy = remembering() if memory else policy_of(Discrete(3))
        natural_step(policy, batch(LENGTHS, Discrete(3)), Natural(0.02, 0.3, ALL), rows, jit_compile=compiled)
        weights.append(flat(policy.weights()))
    np.testing.assert_allclose(weights[1], weights[0], rtol=1e-3, atol=1e-4)


def test_parts_of_other_sizes_do_not_retrace() -> None:
    policy = policy_of(Discrete(3))
    step = TrainStep(policy, keras.optimizers.SGD(), natural=Natural(0.02, 0.3, 10))
    for rows, lengths in ((7, [5, 2, 11]), (4, [3, 9]), (20, [30])):
        step.rows = rows
        step(batch(lengths, Discrete(3)), np.ones((max(lengths), len(lengths))))
    parts = step._accumulated_step
    traced = [f.experimental_get_tracing_count() for f in (parts._gradient, parts._descend)]  # type: ignore[union-attr]
    assert traced == [1, 1]


@pytest.mark.parametrize(
    ("memory", "rows", "pad", "expected"),
    [(False, 6, False, 6), (False, ALL, False, 18), (True, 30, False, 22), (True, 40, True, 22), (True, 3, False, 11)],
)
def test_states_are_drawn_without_replacement(memory: bool, rows: int, pad: bool, expected: int) -> None:
    policy = remembering() if memory else policy_of(Discrete(3))
    trajectory = batch(LENGTHS, Discrete(3))
    natural = NaturalGradient(policy, Natural(0.1, 0.1, rows), pad=pad)
    draws = []
    for seed in range(8):
        observation, real = natural.states(trajectory, seed)
        assert real.size == expected
        columns = observation[0] if memory else observation
        among = trajectory.observations[0] if memory else trajectory.observations[trajectory.mask]
        assert len(np.unique(columns, axis=0)) == len(columns)
        assert all((one == among).all(axis=1).any() for one in columns)
        draws.append(columns.tolist())
    assert draws.count(draws[0]) < len(draws) or expected == 18


def test_one_long_episode_does_not_displace_the_others() -> None:
    lengths = [4, 6] * 10 + [200]
    natural = NaturalGradient(remembering(), Natural(0.1, 0.1, 60))
    observation, real = natural.states(batch(lengths, Discrete(3)), 0)
    assert observation.shape[:2] == real.shape == (6, 10)
    assert set(real.sum(axis=0)) <= {4, 6}


def test_conjugate_gradients_solve_the_system() -> None:
    generator = np.random.default_rng(0)
    root = generator.normal(size=(6, 6))
    matrix, right = root @ root.T + 0.5 * np.eye(6), generator.normal(size=6)
    for iterations in (2, 20):
        x, residual = conjugate_gradients(
            lambda x: tf.linalg.matvec(tf.constant(matrix), x), tf.constant(right), iterations
        )
        np.testing.assert_allclose(residual, right - matrix @ x.numpy(), atol=1e-9)
    np.testing.assert_allclose(x, np.linalg.solve(matrix, right), rtol=1e-4)


def test_a_restored_learner_continues_the_target_schedule() -> None:
    settings: dict[str, Any] = {"optimizer": "natural", "target_kl": 1e-3, "learning_rate_schedule": "linear"}
    config = Config(env_id="E", hidden=(), normalize_observations=False, fisher_damping=1e-5, **settings)
    a, b = (Learner(config, OBSERVATION, Discrete(3)) for _ in range(2))
    episodes = batch(LENGTHS, Discrete(3))
    moved = [a.learn(episodes, epoch, progress) for epoch, progress in enumerate((0.0, 0.75))]
    assert moved[0].kl == pytest.approx(1e-3, rel=0.4)
    assert moved[1].kl == pytest.approx(moved[0].kl / 4, rel=0.3)
    assert moved[0].learning_rate > 0
    b.restore(a.state())
    for made in (a, b):
        made.learn(episodes, 2, 0.8)
    for x, y in zip(a.state().values(), b.state().values(), strict=True):
        np.testing.assert_array_equal(x, y)


def test_every_step_draws_new_states():
    policy, trajectory = policy_of(Discrete(3)), batch(LENGTHS, Discrete(3))
    step, drawn = TrainStep(policy, keras.optimizers.SGD(), natural=Natural(0.02, 0.3, 6)), []
    for _ in range(4):
        prepared = step.batch(trajectory, advantage())
        drawn.append(prepared.states[0].numpy().tolist())
        step.apply(prepared)
    assert drawn.count(drawn[0]) < 4
