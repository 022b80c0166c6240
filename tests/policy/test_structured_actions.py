"""Structured actions: the joint distribution against those of the parts, masks, noise, training and export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import tensorflow as tf
from gymnasium import spaces as gym

from pgkeras import engines, environments, evaluation
from pgkeras.bundle import bundle
from pgkeras.engines import noise
from pgkeras.environments.plain import action_splitter
from pgkeras.errors import EnvironmentStepError, InvalidRequestError, UnsupportedSpaceError
from pgkeras.policy import distributions
from pgkeras.policy.export import _noise, _part_specs, export_policy
from pgkeras.policy.policy import Policy
from pgkeras.runs.training import Training
from pgkeras.settings.config import resolve
from pgkeras.settings.groups import NetworkSettings
from pgkeras.spaces import Box, Dict, Tuple, actions_from_gymnasium, observations_from_gymnasium
from pgkeras.spaces.layout import Layout
from pgkeras.spaces.masks import check_mask, flat_mask, mask_size_of
from pgkeras.spaces.spec import DistributionKind, PolicySpec
from tests.policy.differences import assert_gradients_are_right

GAME = gym.Dict(
    {
        "aim": gym.Box(np.array([-1.0, 0.0]), np.array([0.5, 10.0]), dtype=np.float64),
        "hands": gym.Tuple([gym.MultiBinary(3), gym.MultiDiscrete([2, 4], start=[0, -1])]),
        "move": gym.Discrete(5, start=-2),
    }
)
OURS = actions_from_gymnasium(GAME)


@pytest.mark.parametrize("family", ["auto", "squashed_gaussian", "kumaraswamy"])
def test_the_joint_distribution_is_the_product_of_its_parts(family: str) -> None:
    joint = distributions.for_action_space(OURS, family)
    assert isinstance(joint, distributions.Structured)
    generator = np.random.default_rng(0)
    own = [generator.normal(0, 1, (6, one.parameter_size)).astype(np.float32) for one in joint.distributions]
    free = [one.state_independent_size for one in joint.distributions]
    dependent = [p[:, : p.shape[1] - n] for p, n in zip(own, free, strict=True)]
    parameters = np.concatenate([*dependent, *(p[:, p.shape[1] - n :] for p, n in zip(own, free, strict=True))], axis=1)
    assert parameters.shape[1] == joint.parameter_size
    assert joint.state_independent_size == sum(free)
    drawn = tf.constant(generator.random((6, 8)).astype(np.float32))
    parameters = tf.constant(parameters)
    own = [tf.constant(p) for p in own]
    sample = joint.sample(parameters, drawn)
    columns = tf.split(drawn, [2, 3, 2, 1], axis=1)
    samples = [one.sample(p, u) for one, p, u in zip(joint.distributions, own, columns, strict=True)]
    log_prob = sum(one.log_prob(p, x) for one, p, x in zip(joint.distributions, own, samples, strict=True))
    np.testing.assert_allclose(joint.log_prob(parameters, sample), log_prob, rtol=1e-5)
    entropy = sum(one.entropy(p) for one, p in zip(joint.distributions, own, strict=True))
    np.testing.assert_allclose(joint.entropy(parameters), entropy, rtol=1e-5)
    actions = [one.action(x).numpy().reshape(6, -1) for one, x in zip(joint.distributions, samples, strict=True)]
    np.testing.assert_allclose(joint.action(sample), np.concatenate(actions, axis=1), rtol=1e-6)
    named = joint.named_parameters(parameters)
    for part, one, p in zip(joint.parts, joint.distributions, own, strict=True):
        for name, tensor in one.named_parameters(p).items():
            np.testing.assert_allclose(named[part.outputs[name]], tensor, rtol=1e-6)


def test_joint_gradients_match_finite_differences() -> None:
    joint = distributions.for_action_space(OURS)
    parameters = np.random.default_rng(0).normal(0, 1, (1, joint.parameter_size))
    drawn = np.random.default_rng(1).random((1, 8))
    assert_gradients_are_right(joint, parameters, drawn, rel=1e-6, abs=1e-8)


def test_a_mask_applies_to_the_discrete_parts() -> None:
    joint = distributions.for_action_space(OURS)
    assert isinstance(joint, distributions.Structured)
    assert mask_size_of(OURS) == 2 + 4 + 5
    parameters = tf.constant(np.random.default_rng(0).normal(0, 1, (500, joint.parameter_size)).astype(np.float32))
    mask = np.tile(flat_mask({"hands": (None, [[1, 0], [0, 1, 1, 0]]), "move": [0, 1, 0, 0, 1]}, OURS, 0), (500, 1))
    masked = joint.masked(parameters, tf.constant(mask.astype(np.float32)))
    drawn = tf.constant(np.random.default_rng(1).random((500, 8)).astype(np.float32))
    sample = joint.sample(masked, drawn).numpy()
    assert set(sample[:, 5]) == {0}
    assert set(sample[:, 6]) == {1, 2}
    assert set(sample[:, 7]) == {1, 4}
    assert set(sample[:, 2]) == {0, 1}  # bits are not masked
    named = joint.named_parameters(masked)
    np.testing.assert_array_equal(named["probabilities_move"].numpy()[:, [0, 2, 3]], 0)
    np.testing.assert_allclose(named["mean_aim"], joint.named_parameters(parameters)["mean_aim"])


def test_masks_of_all_forms_are_accepted() -> None:
    flat = [1, 0, 0, 1, 1, 0, 0, 1, 0, 0, 1]
    nested = {"hands": (None, np.array([1, 0, 0, 1, 1, 0])), "move": np.array([0, 1, 0, 0, 1], np.int8)}
    np.testing.assert_array_equal(flat_mask(np.array(flat), OURS, 0), flat)
    np.testing.assert_array_equal(flat_mask(nested, OURS, 0), flat)
    np.testing.assert_array_equal(flat_mask({"move": nested["move"]}, OURS, 0), [1] * 6 + flat[6:])
    np.testing.assert_array_equal(flat_mask(None, OURS, 0), [1] * 11)
    batch = {"move": np.array([[0, 1, 0, 0, 1], [1, 1, 1, 1, 0]]), "_move": np.array([True, True])}
    np.testing.assert_array_equal(flat_mask(batch, OURS, 1)[:, 6:], batch["move"])
    np.testing.assert_array_equal(check_mask(np.array(flat), OURS), [flat])
    with pytest.raises(InvalidRequestError, match=r"at least one allowed action for component 1 of hands\.1"):
        check_mask(np.array([1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1]), OURS)
    with pytest.raises(InvalidRequestError, match="at least one allowed action for move"):
        check_mask(np.array([1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0]), OURS)
    with pytest.raises(ValueError, match="the parts aim, hands, move, got one of jump"):
        flat_mask({"jump": [1, 0]}, OURS, 0)
    with pytest.raises(ValueError, match="is not discrete and cannot be masked"):
        flat_mask({"aim": [1, 0]}, OURS, 0)


def test_parts_of_similar_names_have_separate_outputs() -> None:
    names = ("a b", "a b_2", "a-b", "a_b", "a_b_3")
    actions = actions_from_gymnasium(gym.Dict({name: gym.Discrete(2) for name in names}))
    outputs = PolicySpec.by_default(OURS, actions).parameter_outputs
    assert len(set(outputs)) == len(names)
    assert outputs[:2] == ("probabilities_a_b", "probabilities_a_b_2")


def test_parts_of_similar_names_have_separate_inputs() -> None:
    names = ("a b", "a b_2", "a-b", "a_b", "a_b_3")
    observations = observations_from_gymnasium(gym.Dict({name: gym.Discrete(2) for name in names}))
    inputs = list(_part_specs(Layout.of(observations)))
    assert len(inputs) == len(names)
    assert inputs[:2] == ["observation_a_b", "observation_a_b_2"]


@pytest.mark.parametrize("shape", [(2, 2), (1, 3), (2, 1, 2), (4,)])
@pytest.mark.parametrize("same", [False, True])
def test_a_mask_of_several_axes_may_be_nested_like_gymnasiums(shape: tuple[int, ...], same: bool) -> None:
    generator = np.random.default_rng(0)
    nvec = np.full(shape, 3) if same else np.arange(2, 2 + np.prod(shape)).reshape(shape)
    theirs = gym.MultiDiscrete(nvec, seed=0)
    allowed = [np.eye(n, dtype=np.int8)[generator.integers(n)] for n in nvec.ravel()]

    def nested(axes: tuple[int, ...], arrays: list[Any]) -> Any:
        if len(axes) == 1:
            return tuple(arrays)
        size = len(arrays) // axes[0]
        return tuple(nested(axes[1:], arrays[i * size : (i + 1) * size]) for i in range(axes[0]))

    mask = nested(shape, allowed)
    ours = actions_from_gymnasium(theirs)
    flat = flat_mask(mask, ours, 0)
    np.testing.assert_array_equal(flat, np.concatenate(allowed))
    only = theirs.sample(mask=mask)  # each component has one value left
    np.testing.assert_array_equal(only.ravel(), [part.argmax() for part in np.split(flat, np.cumsum(nvec)[:-1])])
    batch = nested(shape, [np.stack([one, one]) for one in allowed])
    np.testing.assert_array_equal(flat_mask(batch, ours, 1), np.stack([flat, flat]))


def test_a_mask_with_wrong_component_lengths_is_rejected() -> None:
    with pytest.raises(ValueError, match="components of 2, 3 values, got 3, 2"):
        flat_mask(([1, 1, 1], [1, 1]), actions_from_gymnasium(gym.MultiDiscrete([2, 3])), 0)


def test_a_flat_mask_of_a_tuple_may_be_a_list() -> None:
    pair = actions_from_gymnasium(gym.Tuple([gym.Discrete(2), gym.MultiDiscrete([2, 1])]))
    for mask in ([1, 0, 0, 1, 1], ([1, 0], [0, 1, 1]), ([1, 0], ([0, 1], [1]))):
        np.testing.assert_array_equal(flat_mask(mask, pair, 0), [1, 0, 0, 1, 1])
    rows = [[1, 0, 0, 1, 1], [0, 1, 1, 0, 1]]
    for mask in (rows, ([[1, 0], [0, 1]], [[0, 1, 1], [1, 0, 1]])):
        np.testing.assert_array_equal(flat_mask(mask, pair, 1), rows)
    alike = actions_from_gymnasium(gym.Tuple([gym.Discrete(2), gym.Discrete(2)]))
    np.testing.assert_array_equal(flat_mask([[1, 0], [0, 1]], alike, 0), [1, 0, 0, 1])
    np.testing.assert_array_equal(flat_mask((None, None), alike, 0), [1, 1, 1, 1])


def test_a_mask_of_combinations_is_rejected_with_a_remedy() -> None:
    which = "cannot depend on the others. Use a Discrete space of 8 actions"
    with pytest.raises(ValueError, match=which):
        flat_mask({"hands": (None, np.ones((2, 4)))}, OURS, 0)
    with pytest.raises(ValueError, match=which):
        flat_mask(np.ones((3, 2, 4)), actions_from_gymnasium(gym.MultiDiscrete([2, 4])), 1)
    with pytest.raises(EnvironmentStepError, match=which):
        next(iter(Training(resolve("tests.policy.test_structured_actions:Combined-v0", overrides={"steps": 40}))))


def test_each_part_gets_its_kind_of_noise() -> None:
    spec = PolicySpec.by_default(actions_from_gymnasium(gym.Discrete(2)), OURS)
    assert spec.noise == "mixed"
    drawn = noise.draw(noise.seeded(0), spec, 200_000)
    assert drawn.shape == (200_000, 8)
    normal, uniform = drawn[:, :2].astype(np.float64), drawn[:, 2:]
    np.testing.assert_allclose(normal.mean(axis=0), 0, atol=0.01)
    for power, moment in ((2, 1), (4, 3), (6, 15)):
        np.testing.assert_allclose((normal**power).mean(axis=0), moment, rtol=0.05)
    np.testing.assert_allclose(np.corrcoef(drawn.T), np.eye(8), atol=0.01)
    np.testing.assert_allclose(np.quantile(uniform, [0.1, 0.5, 0.9], axis=0).T, [[0.1, 0.5, 0.9]] * 6, atol=0.005)
    assert uniform.max() < 1
    # A row does not depend on the number of rows.
    np.testing.assert_array_equal(noise.draw(noise.seeded(0), spec, 5), drawn[:5])


def test_actions_have_the_structure_of_the_environments_space() -> None:
    spec = PolicySpec.by_default(actions_from_gymnasium(gym.Discrete(2)), OURS)
    packed = np.array([[0.25, 3, 1, 0, 1, 1, -1, 2], [-1, 10, 0, 0, 0, 0, 2, -2]], np.float32)
    actions = spec.from_graph(packed)
    for one in action_splitter(GAME)(actions):
        assert GAME.contains(one), one
    np.testing.assert_array_equal(spec.to_graph(actions), packed)
    vector = gymnasium.vector.utils.batch_space(GAME, 2)
    assert vector.contains(actions)


def test_a_family_applies_to_the_leaves_that_support_it() -> None:
    space = actions_from_gymnasium(
        gym.Dict({"aim": gym.Box(-1, 1, (2,)), "move": gym.Discrete(3), "push": gym.Box(-np.inf, 1, (1,))})
    )
    kinds = {
        "auto": ["diagonal_gaussian", "categorical", "diagonal_gaussian"],
        "structured": ["diagonal_gaussian", "categorical", "diagonal_gaussian"],
        "squashed_gaussian": ["squashed_gaussian", "categorical", "squashed_gaussian"],
        "kumaraswamy": ["kumaraswamy", "categorical", "diagonal_gaussian"],
    }
    for family, wanted in kinds.items():
        distribution = distributions.for_action_space(space, family)
        assert isinstance(distribution, distributions.Structured)
        assert [part.kind.value for part in distribution.parts] == wanted
        assert [one.kind.value for one in distribution.distributions] == wanted
    pushes = actions_from_gymnasium(gym.Dict({"hand": gym.Dict({"push": gym.Box(-np.inf, 1, (1,))})}))
    message = (
        "kumaraswamy needs finite bounds, but those of component 0 of part hand.push of .* are -inf and 1; use dia"
    )
    with pytest.raises(UnsupportedSpaceError, match=message):
        distributions.for_action_space(pushes, "kumaraswamy")


def test_unsupported_actions_are_rejected_by_name() -> None:
    with pytest.raises(UnsupportedSpaceError, match="action space, part say: Text"):
        actions_from_gymnasium(gym.Dict({"say": gym.Text(5), "move": gym.Discrete(2)}))
    with pytest.raises(UnsupportedSpaceError, match="a OneOf to a Discrete"):
        actions_from_gymnasium(gym.Tuple([gym.OneOf([gym.Discrete(2), gym.Discrete(3)])]))
    with pytest.raises(UnsupportedSpaceError, match="keys must not contain"):
        actions_from_gymnasium(gym.Dict({"a.b": gym.Discrete(2)}))
    with pytest.raises(UnsupportedSpaceError, match="kumaraswamy is not supported by any part"):
        distributions.for_action_space(Tuple((OURS.spaces["move"],)), "kumaraswamy")  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="have no categorical distribution"):
        PolicySpec(OURS, OURS, DistributionKind.CATEGORICAL)
    with pytest.raises(ValueError, match=r"expected 4 part_distributions for .*, got 0"):
        PolicySpec(OURS, OURS, DistributionKind.STRUCTURED)


class Combined(gymnasium.Env[Any, Any]):
    """Has a mask of the combinations of its two components, which is not supported."""

    observation_space = gym.Box(-1, 1, (1,), np.float32)
    action_space = gym.MultiDiscrete([2, 4])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {"action_mask": np.ones((2, 4), np.int8)}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.zeros(1, np.float32), 0.0, True, False, {"action_mask": np.ones((2, 4), np.int8)}


gymnasium.register("Combined-v0", Combined)


@pytest.mark.parametrize(
    ("name", "vectorization"),
    [("Gamepad", "plain"), pytest.param("Gamepad", "sync", marks=pytest.mark.slow), ("Desk", "async")],
)
def test_it_learns_is_exported_and_plays(name: str, vectorization: str, tmp_path: Path) -> None:
    env_id = f"tests.reinforce.bandits:{name}-v0"
    settings = {"envs": 16, "episodes": 32, "gamma": 0.0, "learning_rate": 0.02, "hidden": (16,), "stop_return": 1e6}
    ways = {"vectorization": vectorization, "env_workers": 2 if vectorization == "async" else None}
    steps = 25_000 if vectorization == "plain" else 2_000
    training = Training(resolve(env_id, overrides={"steps": steps, **settings, **ways}))
    first, *_ = training
    training.finish()
    if vectorization != "plain":
        return
    assert training.mean_return_100 > 8 > first.return_mean + 1
    exported = training.export(tmp_path)
    found = bundle.open_bundle(exported.path)
    assert found.flatbuffer is not None
    assert found.spec.distribution is DistributionKind.STRUCTURED
    assert isinstance(found.spec.action_space, Dict | Tuple)
    for mode in ("greedy", "sample"):
        for engine in ("litert", "tensorflow"):
            actor = evaluation.FirstSteps(evaluation.EngineActor(found.spec, engines.load(found, engine), mode), 3)
            result = evaluation.evaluate(actor, environments.make(env_id, 4), 20, seed=1)
            assert result.mean > 7.5
            wanted = {"observation", "action", *found.spec.parameter_outputs}
            assert all(set(step) == wanted for step in actor.steps)
            assert all(type(step["action"]) is (dict if name == "Gamepad" else list) for step in actor.steps)
    served = tf.saved_model.load(str(exported.path)).signatures["serving_default"]
    answer = served(observation=tf.ones([3, 1]), seed=tf.constant(1, tf.int64))
    assert {name for name in answer if name.startswith("action_")} == {
        "action" + part.suffix for part in found.spec.parts
    }


def test_the_default_signature_samples_and_unpacks_parts(tmp_path):
    policy = Policy(
        Box(np.full(3, -9.0), np.full(3, 9.0), np.dtype(np.float32)), OURS, settings=NetworkSettings(hidden=())
    )
    generator = np.random.default_rng(0)
    policy.assign([generator.normal(0, 0.5, weight.shape).astype(np.float32) for weight in policy.weights()])
    drawn = _noise(policy.spec, tf.constant(20_000), tf.constant(3, tf.int64)).numpy().astype(np.float64)
    # The first two columns are normal, with a fourth moment of 3. The others are uniform.
    np.testing.assert_allclose((drawn[:, :2] ** 4).mean(axis=0), 3, rtol=0.2)
    np.testing.assert_allclose(np.quantile(drawn[:, 2:], [0.1, 0.9], axis=0).T, [[0.1, 0.9]] * 6, atol=0.02)
    x = generator.normal(size=(7, 3)).astype(np.float32)
    expected = policy.act(tf.constant(x), tf.zeros([7, policy.spec.noise_size]))["greedy_action"].numpy()
    exported = tf.saved_model.load(str(export_policy(policy, tmp_path, "p", {}).path))
    served = exported.signatures["serving_default"](observation=tf.constant(x), seed=tf.constant(1, tf.int64))
    for part in policy.spec.parts:
        got = served[f"greedy_action{part.suffix}"].numpy().reshape(7, -1)
        np.testing.assert_allclose(got, expected[:, part.start : part.stop], rtol=1e-5, atol=1e-5)
