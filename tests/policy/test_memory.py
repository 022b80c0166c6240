"""Policies with memory: single steps and whole episodes give the same results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

import pgkeras
from pgkeras import environments, evaluation
from pgkeras.engines import load
from pgkeras.environments.collect import Collector
from pgkeras.environments.trajectory import Trajectory
from pgkeras.policy.export import export_policy
from pgkeras.policy.policy import Policy
from pgkeras.reinforce.frozen_policy import FrozenPolicy
from pgkeras.reinforce.train_step import TrainStep
from pgkeras.settings.groups import NetworkSettings
from pgkeras.spaces import Box, Discrete

SPACE = Box(np.full(3, -1.0), np.full(3, 1.0), np.dtype(np.float32))
STEPS, EPISODES = 7, 4


def policy(kind: str = "gru", mask_size: int = 0, **settings: Any) -> Policy:
    network = NetworkSettings(memory=kind, memory_units=5, hidden=(6,), **settings)
    made = Policy(SPACE, Discrete(3), settings=network, mask_size=mask_size, seed=2)
    generator = np.random.default_rng(1)
    made.assign([generator.normal(0, 0.6, w.shape).astype(np.float32) for w in made.weights()])
    return made


def parameters(made: Policy, x: NDArray[Any]) -> NDArray[Any]:
    """Returns the parameters of all steps of whole episodes, ``[T, B, 3]``."""
    return made.unroll(x).numpy().reshape(*x.shape[:2], -1)


def sigmoid(x: NDArray[Any]) -> NDArray[Any]:
    return 1 / (1 + np.exp(-x))


def numpy_gru(weights: list[NDArray[Any]], x: NDArray[Any]) -> NDArray[Any]:
    """Logits ``[T, B, 3]``: Cho et al. 2014, with the reset gate after the product, as in cuDNN."""
    w0, b0, kernel, recurrent, bias, head, head_bias = (w.astype(np.float64) for w in weights)
    h = np.zeros((x.shape[1], 5))
    logits = []
    for row in x:
        f = np.tanh(row @ w0 + b0)
        xz, xr, xh = np.split(f @ kernel + bias[0], 3, axis=-1)
        hz, hr, hh = np.split(h @ recurrent + bias[1], 3, axis=-1)
        z, r = sigmoid(xz + hz), sigmoid(xr + hr)
        h = z * h + (1 - z) * np.tanh(xh + r * hh)
        logits.append(h @ head + head_bias)
    return np.array(logits)


def test_a_gru_matches_its_paper() -> None:
    made = policy()
    x = np.random.default_rng(0).normal(size=(STEPS, EPISODES, 3)).astype(np.float32)
    np.testing.assert_allclose(parameters(made, x), numpy_gru(made.weights(), x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "mask_size"), [("gru", 0), ("lstm", 0), ("gru", 3)])
def test_single_steps_match_whole_episodes(kind: str, mask_size: int) -> None:
    made = policy(kind, mask_size=mask_size)
    x = np.random.default_rng(0).normal(size=(STEPS, EPISODES, 3 + mask_size)).astype(np.float32)
    x[..., 3:] = np.random.default_rng(1).random((STEPS, EPISODES, mask_size)) < 0.5
    whole = parameters(made, x)
    state = tf.zeros([EPISODES, made.spec.state_size])
    for t in range(STEPS):
        step, state = made.step(tf.constant(x[t]), state, [tf.constant(w) for w in made.weights()])
        np.testing.assert_allclose(step, whole[t], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_every_form_of_a_bundle_has_the_same_memory(kind: str, tmp_path: Path) -> None:
    made = policy(kind)
    bundle = export_policy(made, tmp_path, "p", {})
    assert bundle.flatbuffer is not None
    assert bundle.spec.state_size == made.spec.state_size == (5 if kind == "gru" else 10)
    x = np.random.default_rng(0).normal(size=(STEPS, 2, 3)).astype(np.float32)
    noise = np.random.default_rng(1).random((STEPS, 2, 1), np.float32)
    expected = parameters(made, x)
    for engine in ("litert", "tensorflow"):
        loaded, state = load(bundle, engine), np.zeros((2, made.spec.state_size), np.float32)  # type: ignore[arg-type]
        for t in range(STEPS):
            answer = loaded.act({"observation": x[t], "noise": noise[t], "state": state})
            p = np.exp(expected[t]) / np.exp(expected[t]).sum(axis=-1, keepdims=True)
            np.testing.assert_allclose(answer["probabilities"], p, rtol=1e-4, atol=1e-5)
            state = answer["next_state"]


def test_padding_after_an_episode_does_not_change_the_gradient() -> None:
    generator = np.random.default_rng(3)
    lengths = np.array([7, 2, 5, 1])
    mask = np.arange(STEPS)[:, np.newaxis] < lengths
    observations = generator.normal(size=(STEPS, EPISODES, 3)).astype(np.float32)
    samples = generator.integers(3, size=(STEPS, EPISODES))
    advantage = generator.normal(size=(STEPS, EPISODES))

    def step(padding: float) -> list[NDArray[Any]]:
        made = policy()
        train = TrainStep(made, tf.keras.optimizers.SGD(0.1))
        filled = np.where(mask[..., np.newaxis], observations, np.float32(padding))
        train(
            Trajectory(filled, samples, np.where(mask, 1.0, 0.0), lengths, np.ones(EPISODES, bool), observations[0]),
            np.where(mask, advantage, np.nan),
        )
        return made.weights()

    expected = step(0.0)
    for padding in (50.0, np.nan):  # a terminal observation may contain anything
        for a, b in zip(expected, step(padding), strict=True):
            assert np.isfinite(a).all()
            np.testing.assert_array_equal(a, b)


class Recall(gymnasium.Env[Any, Any]):
    """Has episodes of 3, 1 and 2 steps. The observation is the number of steps so far, as a vector."""

    observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self) -> None:
        self._episode, self._t = -1, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self._episode = 0 if seed is not None else self._episode + 1
        self._t = 0
        return self._look(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._t += 1
        return self._look(), 1.0, self._t == (3, 1, 2)[self._episode % 3], False, {}

    def _look(self) -> NDArray[np.float32]:
        return np.eye(3, dtype=np.float32)[min(self._t, 2)]


@pytest.mark.parametrize("mode", ["plain", *gymnasium.vector.AutoresetMode])
def test_every_episode_starts_with_a_state_of_zeros(mode: Any) -> None:
    made = policy()
    if mode == "plain":
        envs: Any = environments.PlainEnvironments([Recall(), Recall()])
    else:
        vector = gymnasium.vector.SyncVectorEnv([Recall, Recall], autoreset_mode=mode)
        envs = environments.VectorEnvironments(vector)
    trajectory = Collector(envs, FrozenPolicy(made, mode="greedy")).collect(8, np.random.SeedSequence(0))
    assert trajectory.lengths.tolist() == [3, 1, 2, 3, 3, 1, 2, 3]
    expected = parameters(made, trajectory.observations).argmax(axis=-1)
    np.testing.assert_array_equal(trajectory.samples[trajectory.mask], expected[trajectory.mask])
    # With a state from the previous episode, the same observations would give other actions.
    twice = np.concatenate([trajectory.observations, trajectory.observations])
    later = parameters(made, twice)[len(expected) :].argmax(axis=-1)
    assert (later != expected)[trajectory.mask].any()


def test_a_policy_with_memory_solves_a_task_that_needs_memory(tmp_path: Path) -> None:
    settings = {"memory": "gru", "envs": 32, "episodes": 32, "steps": 300_000, "stop_return": 0.99}
    run = pgkeras.train("benchmarks.environments:TMaze-v0", preset="default", **settings)
    assert run.summary()["solved"]
    bundle = run.export(tmp_path)
    envs = environments.make("benchmarks.environments:TMaze-v0", 20, "plain")
    result = evaluation.evaluate(evaluation.EngineActor(bundle.spec, load(bundle), "greedy"), envs, 100, 1)
    assert result.mean >= 0.95  # 0.5 is the most that a policy without memory can expect
