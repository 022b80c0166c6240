"""The learner's options: optimizers by name, schedules, and the state that it keeps from batch to batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pgkeras.backend import keras
from pgkeras.errors import ConfigError
from pgkeras.reinforce.learner import Learner
from pgkeras.reinforce.natural import Natural
from pgkeras.reinforce.reuse import Reuse
from pgkeras.reinforce.train_step import TrainStep
from pgkeras.settings.config import Config
from pgkeras.spaces import Discrete
from tests.reinforce.test_reinforce import OBSERVATION, batch, gradients_by_loops, policy_of

PLAIN = {
    "baseline": "none",
    "rescale": False,
    "clip_norm": None,
    "hidden": (),
    "gamma": 1.0,
    "normalize_observations": False,
}


def learner(**settings: Any) -> Learner:
    """A policy with a simple closed-form gradient, and weights that are not near 0."""
    made = Learner(Config(env_id="E", **PLAIN | settings), OBSERVATION, Discrete(3))
    made.policy.assign(policy_of(Discrete(3)).weights())
    return made


def by_sgd(weight: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    return weight - 0.01 * gradient


def by_rmsprop(weight: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    # Tieleman & Hinton 2012, with rho = 0.9: the initial mean square is 0.
    return weight - 0.01 * gradient / np.sqrt(0.1 * gradient**2 + 1e-7)


def by_adam(weight: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    # Kingma & Ba 2015: in the first step, both moments equal those of the gradient, so the step is its sign.
    return weight - 0.01 * np.sign(gradient)


def by_adamw(weight: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    # Loshchilov & Hutter 2019, with Keras's decay of 0.004 times the step size.
    return by_adam(weight * (1 - 0.01 * 0.004), gradient)


@pytest.mark.parametrize(
    ("name", "step"), [("sgd", by_sgd), ("rmsprop", by_rmsprop), ("adam", by_adam), ("AdamW", by_adamw)]
)
def test_named_optimizers_take_their_documented_first_step(name: str, step: Any) -> None:
    episodes = batch([4, 6, 2], Discrete(3))
    made = learner(optimizer=name, learning_rate=0.01)
    before = [w.astype(np.float64) for w in made.policy.weights()]
    returns = np.flip(np.cumsum(np.flip(episodes.rewards, 0), 0), 0)
    gradients = gradients_by_loops(made.policy, episodes, returns)
    assert made.learn(episodes, 0, 0.0).learning_rate == 0.01
    for old, gradient, new in zip(before, gradients, made.policy.weights(), strict=True):
        np.testing.assert_allclose(new, step(old, gradient), rtol=1e-3, atol=2e-6)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("threshold", r"it needs arguments other than the features of a layer \(threshold\(\) missing 2 required"),
        ("glu", "it returns a different number of features than it takes"),
        ("tanhh", "Keras has no activation of that name"),
    ],
)
def test_unsupported_activations_are_rejected_by_name(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^activation '{name}': {message}.*; try tanh or relu"):
        learner(activation=name)


def test_other_activations_are_accepted() -> None:
    for name in ("gelu", "mish", "softmax", "sparsemax", "hard_silu", "leaky_relu"):
        Learner(Config(env_id="E", activation=name), OBSERVATION, Discrete(3))


@pytest.mark.parametrize("name", ["adagrad", "nadam", "lion", "adadelta"])
def test_optimizers_learn_and_their_state_is_restored(name: str) -> None:
    episodes = batch([4, 6, 2], Discrete(3))
    a, b = learner(optimizer=name), learner(optimizer=name)
    a.learn(episodes, 0, 0.0)
    b.restore(a.state())
    for made in (a, b):
        made.learn(episodes, 1, 0.0)
    assert not np.array_equal(a.policy.weights()[0], policy_of(Discrete(3)).weights()[0])
    for x, y in zip(a.state().values(), b.state().values(), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_entropy_bonus_follows_its_schedule_after_restore(jit_compile: bool) -> None:
    episodes = batch([4, 6, 2], Discrete(3))
    settings = {"optimizer": "sgd", "jit_compile": jit_compile}
    scheduled = learner(**settings, entropy_bonus=0.4, entropy_schedule="linear")
    for progress, bonus in ((0.25, 0.3), (1.0, 0.0), (0.0, 0.4)):
        constant = learner(**settings, entropy_bonus=bonus)
        constant.policy.assign(scheduled.policy.weights())
        for made in (scheduled, constant):
            made.learn(episodes, 0, progress)
        for x, y in zip(scheduled.policy.weights(), constant.policy.weights(), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-7)


def test_the_running_mean_covers_earlier_batches_and_is_restored() -> None:
    settings = {"optimizer": "sgd", "learning_rate": 0.1}
    first, second = batch([4, 6, 2], Discrete(3), seed=1), batch([5, 1], Discrete(3), seed=2)
    made = learner(**settings, baseline="running-mean", running_mean_rate=0.5)
    plain = learner(**settings)
    for each in (made, plain):  # the first batch has no baseline
        each.learn(first, 0, 0.0)
    np.testing.assert_array_equal(made.policy.weights()[0], plain.policy.weights()[0])
    resumed = learner(**settings, baseline="running-mean", running_mean_rate=0.5)
    resumed.restore(made.state())
    returns = np.flip(np.cumsum(np.flip(second.rewards, 0), 0), 0)
    mean = np.flip(np.cumsum(np.flip(first.rewards, 0), 0), 0)[first.mask].mean()
    gradients = gradients_by_loops(made.policy, second, np.where(second.mask, returns - mean, 0.0))
    expected = [w - 0.1 * g for w, g in zip(made.policy.weights(), gradients, strict=True)]
    for each in (made, resumed):
        each.learn(second, 1, 0.0)
        for got, want in zip(each.policy.weights(), expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    assert float(made.state()["running_mean"]) == pytest.approx(0.5 * mean + 0.5 * returns[second.mask].mean())


def test_observation_statistics_are_updated_after_the_gradient_step() -> None:
    settings = PLAIN | {"optimizer": "sgd", "learning_rate": 0.1}
    first, second = batch([4, 6, 2], Discrete(3), seed=1, garbage=99.0), batch([5, 1], Discrete(3), seed=2)
    made, plain = (
        Learner(Config(env_id="E", **settings | {"normalize_observations": flag}), OBSERVATION, Discrete(3))
        for flag in (None, False)
    )
    seen = first.observations[first.mask].astype(np.float64)
    normalized = ((second.observations - seen.mean(axis=0)) / seen.std(axis=0)).astype(np.float32)
    # The statistics for the first batch are mean 0 and standard deviation 1; for the second batch, those of the first.
    for epoch, (raw, as_seen) in enumerate([(first, first), (second, second._replace(observations=normalized))]):
        made.learn(raw, epoch, 0.0)
        plain.learn(as_seen, epoch, 0.0)
        for got, want in zip(made.policy.weights(), plain.policy.weights(), strict=False):  # without the statistics
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    both = np.concatenate([seen, second.observations[second.mask]])
    np.testing.assert_allclose(made.policy.weights()[2], both.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(made.policy.weights()[3], 1 / both.std(axis=0), rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"returns": "episode", "discount_gradient": True}, "discount_gradient: .*returns=reward-to-go"),
        ({"returns": "episode", "baseline": "value"}, "baseline: .*returns=reward-to-go"),
        ({"returns": "episode", "reset_returns": True}, "reset_returns: .*returns=reward-to-go"),
        ({"optimizer": "natural"}, "target_kl: .*set it, such as to 0.01"),
        ({"optimizer": "natural", "target_kl": 0.01, "reuse": 2}, "reuse: .*with another optimizer"),
    ],
)
def test_incompatible_options_are_rejected(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Config(env_id="E", **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"clip_norm": 0.5, "rescale": True},
        {"baseline": "value", "normalize_observations": True, "target_kl": 0.01},
        {"memory": "gru", "memory_units": 4, "optimizer": "adamw", "entropy_bonus": 0.1},
        {"baseline": "running-mean", "jit_compile": True},
    ],
    ids=["plain", "value", "memory", "jit"],
)
def test_warm_up_restores_the_state_and_traces_everything(settings: dict[str, Any]) -> None:
    episodes = batch([4, 6, 2], Discrete(3))
    config = Config(env_id="E", hidden=(4,), **settings)
    rehearsed, other = (Learner(config, OBSERVATION, Discrete(3)) for _ in range(2))
    before = rehearsed.state()
    rehearsed.warm_up()
    for name, array in rehearsed.state().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)
    value = getattr(rehearsed._baseline, "_value", None)
    traced = [f.experimental_get_tracing_count() for f in (value._predict, value._fit)] if value is not None else []
    assert set(traced) <= {1}
    for epoch in range(2):
        lessons = [vars(made.learn(episodes, epoch, 0.0)) for made in (rehearsed, other)]
        assert lessons[0] == pytest.approx(lessons[1], rel=0, abs=0, nan_ok=True)
    for x, y in zip(rehearsed.state().values(), other.state().values(), strict=True):
        np.testing.assert_array_equal(x, y)
    if value is not None:
        assert [f.experimental_get_tracing_count() for f in (value._predict, value._fit)] == traced
    assert rehearsed._step.traces == 1


def test_epochs_without_a_gradient_keep_the_learning_rate() -> None:
    """Equal returns give no gradient. The learning rate must not grow then, because later steps would be too large."""
    made = learner(optimizer="adam", target_kl=0.01, learning_rate=0.01, baseline="leave-one-out")
    played = batch([4, 4, 4], Discrete(3), seed=1)
    silent = played._replace(rewards=np.zeros_like(played.rewards))
    for epoch in range(20):
        lesson = made.learn(silent, epoch, 0.0)
        assert (lesson.kl, lesson.gradient_norm) == (0.0, 0.0)
    assert lesson.learning_rate == pytest.approx(0.01)
    made.learn(played, 20, 0.0)
    assert made.learn(played, 21, 0.0).learning_rate != pytest.approx(0.01), (
        "a step that moves the policy sets the next"
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"returns": "episode"},
        {"discount_gradient": True},
        {"reset_returns": True},
        {"rescale": True},
        {"clip_norm": 0.01},
    ],
    ids=str,
)
def test_estimator_settings_change_the_step_as_documented(settings: dict[str, Any]) -> None:
    episodes = batch([4, 6, 2], Discrete(3))
    episodes = episodes._replace(rewards=np.where(np.arange(6)[:, np.newaxis] % 2, episodes.rewards, 0.0))
    made, gamma = learner(optimizer="sgd", learning_rate=0.1, **{"gamma": 0.9, **settings}), 0.9
    values = np.zeros_like(episodes.rewards)
    for b, length in enumerate(episodes.lengths):
        for t in range(length):
            first = 0 if "returns" in settings else t
            for k in range(first, length):
                values[t, b] += gamma ** (k - first) * episodes.rewards[k, b]
                if "reset_returns" in settings and episodes.rewards[k, b]:
                    break
            values[t, b] *= gamma**t if "discount_gradient" in settings else 1.0
    if "rescale" in settings:
        values /= np.sqrt(np.mean(values[episodes.mask] ** 2))
    before, gradients = made.policy.weights(), gradients_by_loops(made.policy, episodes, values)
    norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients))
    share = min(1.0, settings.get("clip_norm", np.inf) / norm)
    made.learn(episodes, 0, 0.0)
    for old, gradient, new in zip(before, gradients, made.policy.weights(), strict=True):
        np.testing.assert_allclose(new, old - 0.1 * share * gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({"reuse": 4, "reuse_clip": 0.01, "reuse_kl": 1e9}, {"reuse": Reuse(4, 0.01, 1e9)}),
        (
            {"optimizer": "natural", "target_kl": 0.02, "fisher_damping": 0.3, "fisher_steps": 5},
            {"natural": Natural(0.02, 0.3, 5)},
        ),
    ],
    ids=["reuse", "natural"],
)
def test_a_learner_passes_its_settings_to_the_step(settings: dict[str, Any], options: dict[str, Any]) -> None:
    episodes = batch([4, 6, 2], Discrete(3))
    made = learner(**{"optimizer": "sgd", "learning_rate": 0.1, **settings})
    policy = policy_of(Discrete(3))
    step = TrainStep(policy, keras.optimizers.SGD(0.1), **options)
    returns = np.flip(np.cumsum(np.flip(episodes.rewards, 0), 0), 0)
    assert made.learn(episodes, 0, 0.0).gradient_steps == step(episodes, returns).gradient_steps
    for ours, expected in zip(made.policy.weights(), policy.weights(), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-6)
