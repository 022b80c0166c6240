"""Whole runs: that they learn, that they can be repeated and resumed to the bit, and what they leave on disk."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import gymnasium
import keras
import numpy as np
import pytest
from gymnasium import spaces

import pgkeras
from pgkeras import environments
from pgkeras.environments.collect import Collector
from pgkeras.errors import ConfigError, RunError, UnsupportedSpaceError
from pgkeras.policy.policy import Policy
from pgkeras.reinforce.frozen_policy import FrozenPolicy
from pgkeras.runs import directory as runs
from pgkeras.runs.training import EpochMetrics, Training
from pgkeras.settings.config import Config, resolve
from pgkeras.settings.groups import NetworkSettings
from pgkeras.spaces import actions_from_gymnasium, observations_from_gymnasium
from tests.runs.small import assert_same_state, run_to_end, small

AIM = "tests.environments.scripted:Target-v0"


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_cartpole_is_solved(seed: int) -> None:
    training = pgkeras.train("CartPole-v1", seed=seed, steps=250_000)
    summary = training.summary()
    assert summary["solved"]
    assert training.mean_return_100 >= 475 == summary["stop_return"]
    assert summary["steps_to_threshold"] <= 250_000


def test_a_gaussian_policy_learns_to_aim() -> None:
    settings = {"steps": 60_000, "envs": 16, "episodes": 32, "gamma": 0.0, "learning_rate": 0.01, "hidden": (32,)}
    training = Training(resolve(AIM, overrides=settings))
    returns = [metrics.return_mean for metrics in training]
    # At first the deviation of 1 alone costs 2 a shot, and the target's own variance 2/3 + 1/4: -29 an episode.
    assert returns[0] == pytest.approx(-29, abs=5)
    assert training.mean_return_100 > -5
    assert float(training.policy.distribution_of(np.zeros((1, 2), np.float32))["stddev"].numpy().max()) < 0.6


def test_the_same_seed_gives_the_same_weights_to_the_bit(undisturbed: Training) -> None:
    assert_same_state(run_to_end(Training(small())), undisturbed)


def test_another_seed_gives_another_run(undisturbed: Training) -> None:
    other = run_to_end(Training(small(seed=1, steps=300)))
    assert not np.array_equal(other.policy.weights()[0], undisturbed.policy.weights()[0])


def test_metrics_add_up(undisturbed: Training) -> None:
    assert undisturbed.directory is not None
    metrics = runs.read_metrics(undisturbed.directory.path)
    assert set(metrics[0]) == set(EpochMetrics.__dataclass_fields__) - {"reported"}
    steps = seconds = 0.0
    for i, line in enumerate(metrics):
        steps += line["episode_length"] * 6
        seconds += line["collect_seconds"] + line["learn_seconds"]
        assert line["epoch"] == i + 1
        assert line["episodes"] == 6 * (i + 1)
        assert line["env_steps"] == pytest.approx(steps)
        assert line["seconds"] == pytest.approx(seconds)
        assert line["return_min"] <= line["return_mean"] <= line["return_max"]
        assert line["return_mean"] == pytest.approx(line["episode_length"])  # CartPole pays 1 a step
        assert 0 < line["entropy"] <= math.log(2)
        assert line["gradient_norm"] > 0
        assert line["explained_variance"] < 1
        assert line["idle_steps"] >= 0
        assert line["steps_per_second"] > 0
        assert math.isfinite(line["loss"])
    means = [line["return_mean"] for line in metrics]  # of six episodes each
    for i, line in enumerate(metrics[:16]):
        assert line["mean_return_100"] == pytest.approx(np.mean(means[: i + 1]))


def test_episodes_are_chosen_by_the_length_of_earlier_ones() -> None:
    training = Training(small(batch_steps=300, steps=6000, learning_rate=0.02))
    lines = list(training)
    training.finish()
    played = np.diff([0, *(line.episodes for line in lines)])
    # CartPole pays 1 a step, so that the mean return of the last hundred episodes is their mean length.
    expected = [max(1, round(300 / line.mean_return_100)) for line in lines[:-1]]
    assert played.tolist() == [6, *expected]
    assert len(set(expected)) > 3  # lengths changed
    assert np.mean([line.episode_length for line in lines] * played) == pytest.approx(300, rel=0.4)


def test_a_run_leaves_its_files(undisturbed: Training) -> None:
    assert undisturbed.directory is not None
    path = undisturbed.directory.path
    written = json.loads((path / "config.json").read_text())
    assert Config.from_json(written["config"]) == undisturbed.config
    assert written["seed"] == 0
    assert {"python", "pgkeras", "tensorflow", "keras", "gymnasium", "numpy"} <= set(written["packages"])
    summary = json.loads((path / "summary.json").read_text())
    assert summary["env_id"] == "CartPole-v1"
    assert (summary["solved"], summary["seconds_to_threshold"], summary["steps_to_threshold"]) == (False, None, None)
    assert (summary["env_steps"], summary["epochs"]) == (undisturbed.env_steps, undisturbed.epoch)
    assert summary["episodes"] == 6 * undisturbed.epoch
    assert summary["mean_return_100"] == pytest.approx(undisturbed.mean_return_100)
    assert summary["wall_seconds"] > summary["train_seconds"] > 0
    assert summary["steps_per_second"] == pytest.approx(undisturbed.env_steps / undisturbed.seconds)
    assert summary["bundle"] is None
    picture = (path / "learning_curve.png").read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert not [f.name for f in path.iterdir() if f.name.startswith(".")]


def test_without_a_baseline_no_variance_is_explained(tmp_path: Path) -> None:
    run_to_end(Training(small(baseline="none", steps=1), tmp_path / "run"))
    (line,) = runs.read_metrics(tmp_path / "run")
    assert line["explained_variance"] is None
    assert "NaN" not in (tmp_path / "run" / runs.METRICS).read_text()


def test_the_textbook_preset_takes_the_plain_step() -> None:
    # One episode, played here with the same seed, its returns from their definition, and a linear softmax policy whose
    # gradient is written out: w + rate * sum_t (onehot(a_t) - p_t) x_t R_t.
    overrides = {"hidden": (), "optimizer": "sgd", "learning_rate": 0.01, "gamma": 0.9, "seed": 5, "steps": 1}
    training = Training(resolve("CartPole-v1", "textbook", overrides))
    kernel, bias = (w.astype(np.float64) for w in training.policy.weights())
    envs = environments.make("CartPole-v1", 1, "plain")
    policy = Policy(
        observations_from_gymnasium(envs.observation_space),
        actions_from_gymnasium(envs.action_space),
        settings=NetworkSettings(hidden=()),
        seed=5,
    )
    episode = Collector(envs, FrozenPolicy(policy)).collect(1, np.random.SeedSequence(5, spawn_key=(0,)))
    (metrics,) = training
    assert metrics.env_steps == episode.steps == episode.lengths[0]
    move_kernel, move_bias, loss = np.zeros_like(kernel), np.zeros_like(bias), 0.0
    for t in range(episode.steps):
        value = sum(0.9 ** (k - t) * episode.rewards[k, 0] for k in range(t, episode.steps))
        x, action = episode.observations[t, 0].astype(np.float64), episode.samples[t, 0]
        e = np.exp(x @ kernel + bias)
        score = np.eye(2)[action] - e / e.sum()
        loss -= math.log(e[action] / e.sum()) * value
        move_kernel += 0.01 * np.outer(x, score) * value
        move_bias += 0.01 * score * value
    after_kernel, after_bias = training.policy.weights()
    np.testing.assert_allclose(after_kernel, kernel + move_kernel, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(after_bias, bias + move_bias, rtol=1e-4, atol=1e-6)
    assert metrics.loss == pytest.approx(loss, rel=1e-4)


def test_act_engines_train_alike() -> None:
    a, b = (run_to_end(Training(small(act_engine=engine, steps=400))) for engine in ("litert", "tensorflow"))
    assert (a.act_engine, b.act_engine) == ("litert", "tensorflow")
    assert a.env_steps == b.env_steps
    for x, y in zip(a.policy.weights(), b.policy.weights(), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-4)


def test_a_users_network_is_trained() -> None:
    network = keras.Sequential([keras.layers.Dense(8, activation="relu"), keras.layers.Dropout(0.1)])
    training = pgkeras.train("CartPole-v1", network=network, steps=300, envs=2, episodes=2)
    assert training.policy.weights()[0].shape == (4, 8)
    fresh = Policy(training.policy.spec.observation_space, training.policy.spec.action_space, network)
    np.testing.assert_array_equal(fresh.weights()[0], training.policy.weights()[0])  # the very network was trained


def test_layers_act_in_training_as_when_the_policy_plays() -> None:
    """Or the gradient would be that of another policy than the one that played the episodes."""
    layers = keras.layers.Dense(8), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)
    network = keras.Sequential([keras.Input((4,)), *layers])
    training = Training(small(steps=300, reuse=2, reuse_kl=1e9), network=network)
    batch = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
    np.testing.assert_array_equal(training.policy.unroll(batch), training.policy.unroll(batch))
    played = training.policy.model(batch, training=False)
    np.testing.assert_array_equal(training.policy.unroll(batch), played)
    run_to_end(training)
    assert [float(np.ptp(v.numpy())) for v in layers[1].non_trainable_variables] == [0.0, 0.0], "0 and 1, as at first"


def test_an_export_is_noted_in_the_summary_and_leaves_the_rest(tmp_path: Path) -> None:
    training = run_to_end(Training(small(steps=1), tmp_path / "run"))
    before = runs.read_summary(tmp_path / "run")
    found = training.export(tmp_path / "models")
    assert found.path == tmp_path / "models" / "cartpole-v1" / "1"
    assert runs.read_summary(tmp_path / "run") == {**before, "bundle": str(found.path)}
    assert found.provenance["config"] == training.config.to_json()
    assert found.provenance["results"]["env_steps"] == training.env_steps
    again = Training(small(steps=1), tmp_path / "run", resume=True).export(tmp_path / "models")
    assert again.version == 2
    assert runs.read_summary(tmp_path / "run") == {**before, "bundle": str(again.path)}


def test_an_occupied_directory_is_left_alone(undisturbed: Training) -> None:
    assert undisturbed.directory is not None
    path = undisturbed.directory.path
    before = {f: f.read_bytes() for f in path.rglob("*.*")}
    with pytest.raises(RunError, match=r"holds a run already.*--out.*--resume"):
        Training(small(), path)
    assert {f: f.read_bytes() for f in path.rglob("*.*")} == before


def test_directories_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunError, match=r"cannot create run directory .*file.*--out"):
            Training(small(), path)
    with pytest.raises(RunError, match="holds no run"):
        Training(small(), tmp_path / "nothing", resume=True)
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "adamm"}, "optimizer 'adamm'"),
        ({"optimizer": "LossScaleOptimizer"}, "optimizer 'LossScaleOptimizer'"),
        ({"activation": "tanhh"}, "activation 'tanhh'"),
    ],
)
def test_names_that_keras_does_not_know(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Training(small(**settings))


class Graphs(gymnasium.Env[Any, Any]):
    observation_space = gymnasium.spaces.Graph(gymnasium.spaces.Box(-1, 1), None)
    action_space = gymnasium.spaces.Discrete(2)


def test_unsupported_spaces_are_named() -> None:
    gymnasium.register("Graphs-v0", Graphs)
    with pytest.raises(UnsupportedSpaceError, match=r"observation space Graph\("):
        Training(Config(env_id="Graphs-v0"))


@pytest.mark.parametrize(
    ("env_id", "name"), [("CartPole-v1", "cartpole-v1"), ("module.sub:My-v0", "my-v0"), ("ALE/Pong-v5", "ale-pong-v5")]
)
def test_policy_names(env_id: str, name: str) -> None:
    from pgkeras.settings.recipe import slug

    assert slug(env_id) == name


def test_the_network_s_setting_has_the_name_of_the_argument_for_a_model() -> None:
    assert pgkeras.train("CartPole-v1", network="auto", steps=200, episodes=2, envs=2).config.network == "auto"
    with pytest.raises(ConfigError, match=r"network: expected one of auto, mlp, .*; got 'cnn'"):
        pgkeras.train("CartPole-v1", network="cnn")
    with pytest.raises(ConfigError, match="network: expected a Keras model or a value of the setting, got <f"):
        pgkeras.train("CartPole-v1", network=lambda observations: observations)


def test_what_would_change_nothing_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="loggers: a run without a directory leaves no files"):
        pgkeras.train("CartPole-v1", loggers="csv")
    model = keras.Sequential([keras.layers.Dense(4)])
    with pytest.raises(ConfigError, match="hidden: it changes nothing in a network of your own"):
        pgkeras.train("CartPole-v1", network=model, hidden=(8,))
    with pytest.raises(ConfigError, match="initial_log_std: it changes nothing where no action is Gaussian; leave it"):
        pgkeras.train("CartPole-v1", initial_log_std=-1.0)
    with pytest.raises(ConfigError, match="network: it changes nothing where the observation has no image; leave it"):
        pgkeras.train("CartPole-v1", network="mlp")


def test_what_is_no_callback_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match=r"callbacks: expected instances of pgkeras\.Callback, got 7"):
        pgkeras.train("CartPole-v1", callbacks=[7])


@pytest.mark.parametrize(
    ("convert", "space", "message"),
    [
        (
            observations_from_gymnasium,
            spaces.Dict(x=spaces.Box(0, 1), g=spaces.Tuple((spaces.Sequence(spaces.Discrete(3)),))),
            r"observation space, part g\.0: Sequence\(.*\) is not supported: .* a sequence .* to a padded Box",
        ),
        (
            actions_from_gymnasium,
            spaces.Dict(x=spaces.Tuple((spaces.OneOf((spaces.Discrete(2), spaces.Discrete(3))),))),
            r"action space, part x\.0: OneOf\(.*\) is not supported: .*TransformAction, .* a OneOf to a Discrete",
        ),
        (
            observations_from_gymnasium,
            spaces.Dict(x=spaces.Box(0, 9, (2,), np.uint64)),
            r"observation space, part x: Box.* is uint64, .*; change it with gymnasium\.wrappers\.DtypeObservation",
        ),
        (
            actions_from_gymnasium,
            spaces.Dict(x=spaces.Box(0, 9, (2,), np.uint64)),
            r"action space, part x: Box.* is uint64, .*; change it with gymnasium\.wrappers\.TransformAction",
        ),
    ],
)
def test_a_space_that_does_not_work_is_named_with_what_would(convert: Any, space: Any, message: str) -> None:
    with pytest.raises(UnsupportedSpaceError, match=message):
        convert(space)
