"""The act graph gives the same results in Keras, in the acting engines and after export."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from pgkeras import engines
from pgkeras.bundle import bundle
from pgkeras.engines import noise
from pgkeras.errors import ConfigError, ExportError
from pgkeras.policy.export import _compare, export_policy
from pgkeras.policy.policy import Policy
from pgkeras.reinforce.frozen_policy import FrozenPolicy
from pgkeras.settings.groups import NetworkSettings
from pgkeras.spaces import Box, Discrete, Space

FLOATS = Box(np.full(4, -np.inf), np.full(4, np.inf), np.dtype(np.float32))
DOUBLES = Box(np.full(4, -np.inf), np.full(4, np.inf), np.dtype(np.float64))
BYTES = Box(np.zeros(4), np.full(4, 255.0), np.dtype(np.uint8))
BINARY = Discrete(2)
SHIFTED = Discrete(5, start=-2)
CONTINUOUS = Box(np.full((2, 1), -1.0), np.full((2, 1), 1.0), np.dtype(np.float64))
SPACES = [(FLOATS, BINARY), (DOUBLES, SHIFTED), (BYTES, SHIFTED), (FLOATS, CONTINUOUS), (BYTES, CONTINUOUS)]


def randomise(policy: Policy, seed: int) -> None:
    generator = np.random.default_rng(seed)
    scale = 0.02 if policy.spec.observation_space == BYTES else 0.7
    for variable in policy.variables:
        variable.assign(generator.normal(0, scale, variable.shape).astype(np.float32))


def inputs(policy: Policy, rows: int, seed: int = 0) -> tuple[NDArray[Any], NDArray[np.float32]]:
    generator = np.random.default_rng(seed)
    space = policy.spec.observation_space
    if space == BYTES:
        observation: NDArray[Any] = generator.integers(0, 256, (rows, 4)).astype(np.uint8)
    else:
        observation = generator.normal(0, 2, (rows, 4)).astype(space.dtype)
    return policy.spec.layout.pack(observation), noise.draw(noise.seeded(seed), policy.spec, rows)


def close(got: NDArray[Any], expected: NDArray[Any]) -> None:
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    else:
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(("observation_space", "action_space"), SPACES)
def test_frozen_policies_sample_like_the_policy(observation_space: Space, action_space: Space) -> None:
    policy = Policy(observation_space, action_space, settings=NetworkSettings(hidden=(16,)))
    frozen = [FrozenPolicy(policy, engine) for engine in ("litert", "tensorflow")]
    assert [f.engine for f in frozen] == ["litert", "tensorflow"]
    for update, rows in enumerate([1, 3, 64, 7, 1, 33]):
        randomise(policy, update)
        for f in frozen:
            f.freeze()
        x, z = inputs(policy, rows, update)
        answer = policy.act(tf.constant(x), tf.constant(z))
        for f in frozen:
            sample, action, _ = f.act(x, z)
            assert len(sample) == len(action) == rows
            close(action, answer["action"].numpy())
            # The log-probability of the stored sample must be that of the action.
            log_prob = policy.distribution.log_prob(policy.parameters(tf.constant(x)), tf.constant(sample))
            close(log_prob.numpy(), answer["log_prob"].numpy())


def test_a_frozen_policy_keeps_its_weights_until_the_next_freeze() -> None:
    policy = Policy(FLOATS, CONTINUOUS, settings=NetworkSettings(hidden=(16,)))
    frozen = FrozenPolicy(policy, "litert")
    x, z = inputs(policy, 5)
    before = frozen.act(x, z)[0]
    randomise(policy, 1)
    np.testing.assert_array_equal(frozen.act(x, z)[0], before)
    frozen.freeze()
    after = frozen.act(x, z)[0]
    assert np.abs(after - before).max() > 0.1
    # A batch size that is new after an update must use the new weights.
    close(frozen.act(*(np.repeat(a, 2, axis=0) for a in (x, z)))[0][::2], after)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Policy, bundle.Bundle]]:
    root = tmp_path_factory.mktemp("exported")
    result = []
    for i, (observation_space, action_space) in enumerate(SPACES):
        policy = Policy(observation_space, action_space, settings=NetworkSettings(hidden=(16,)))
        randomise(policy, 10 + i)
        result.append((policy, export_policy(policy, root, f"policy-{i}", {"env_id": "Test-v0"})))
    return result


@pytest.mark.parametrize("engine", ["litert", "tensorflow"])
def test_every_form_of_a_bundle_gives_the_same_outputs(
    exported: list[tuple[Policy, bundle.Bundle]], engine: Any
) -> None:
    for policy, found in exported:
        assert found.flatbuffer is not None
        loaded = engines.load(found, engine)
        assert loaded.name == engine
        for rows in (1, 5, 64):
            x, z = inputs(policy, rows, rows)
            expected = policy.act(tf.constant(x), tf.constant(z))
            answer = loaded.act({"observation": x, "noise": z})
            assert set(answer) == set(expected)
            for name, tensor in expected.items():
                assert answer[name].shape == tensor.shape
                close(answer[name], tensor.numpy())


def test_a_bundle_describes_its_policy(exported: list[tuple[Policy, bundle.Bundle]]) -> None:
    policy, found = exported[1]
    again = bundle.open_bundle(found.path)
    assert again.spec == policy.spec
    assert (again.name, again.version, again.path.name) == ("policy-1", 1, "1")
    assert again.provenance["env_id"] == "Test-v0"
    assert again.provenance["packages"]["tensorflow"] == tf.__version__


_ELSEWHERE = """
import sys
import numpy as np, tensorflow as tf
for path, file in zip(sys.argv[1::2], sys.argv[2::2]):
    signatures = tf.saved_model.load(path).signatures
    given = np.load(file)
    x, z = tf.constant(given["observation"]), tf.constant(given["noise"])
    answers = {"act/" + k: v.numpy() for k, v in signatures["act"](observation=x, noise=z).items()}
    answers |= {"distribution/" + k: v.numpy() for k, v in signatures["distribution"](observation=x).items()}
    serve = signatures["serving_default"]
    many = tf.repeat(x[:1], 20000, axis=0)
    for name, seed, rows in [("a", 3, x), ("b", 3, x), ("c", 4, x), ("many", 5, many), ("negative", -7, x)]:
        drawn = serve(observation=rows, seed=tf.constant(seed, tf.int64))
        answers |= {f"{name}/{k}": v.numpy() for k, v in drawn.items()}
    np.savez(file + ".out.npz", **answers)
assert not [m for m in sys.modules if m.startswith("pgkeras")], "it must stand alone"
"""


@pytest.fixture(scope="module")
def elsewhere(exported: list[tuple[Policy, bundle.Bundle]], tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Returns the outputs of a discrete and a continuous SavedModel in a process without pgkeras."""
    scratch = tmp_path_factory.mktemp("elsewhere")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    chosen, arguments = [exported[1], exported[3]], []
    for i, (policy, found) in enumerate(chosen):
        x, z = inputs(policy, 9)
        np.savez(scratch / f"{i}.npz", observation=x, noise=z)
        arguments += [str(found.path), str(scratch / f"{i}.npz")]
    command = [sys.executable, "-c", _ELSEWHERE, *arguments]
    subprocess.run(command, check=True, cwd=scratch, env=environment, capture_output=True)
    return [(policy, dict(np.load(scratch / f"{i}.npz.out.npz"))) for i, (policy, _) in enumerate(chosen)]


def test_a_saved_model_is_self_contained(elsewhere: list[Any]) -> None:
    for policy, answers in elsewhere:
        x, z = (tf.constant(a) for a in inputs(policy, 9))
        for prefix, expected in (("act", policy.act(x, z)), ("distribution", policy.distribution_of(x))):
            names = {key.partition("/")[2] for key in answers if key.startswith(prefix + "/")}
            assert names == set(expected)
            for name, tensor in expected.items():
                close(answers[f"{prefix}/{name}"], tensor.numpy())


def test_the_default_signature_draws_by_seed(elsewhere: list[Any]) -> None:
    for policy, answers in elsewhere:
        for name in policy.act(*(tf.constant(a) for a in inputs(policy, 1))):
            np.testing.assert_array_equal(answers[f"a/{name}"], answers[f"b/{name}"])
        assert not np.array_equal(answers["a/log_prob"], answers["c/log_prob"])
        assert np.isfinite(answers["negative/log_prob"]).all()


def test_the_default_signature_draws_from_the_distribution(elsewhere: list[Any]) -> None:
    (_, discrete), (_, continuous) = elsewhere
    p = discrete["many/probabilities"][0].astype(np.float64)
    counts = np.bincount(discrete["many/action"] - SHIFTED.start, minlength=5)
    often = p * 20000 > 5  # needed for the chi-square approximation
    assert counts[~often].sum() <= 30
    chi_square = ((counts - 20000 * p) ** 2 / (20000 * p))[often].sum()
    assert chi_square < 18.47  # 99.9 % point for at most 4 degrees of freedom
    mean, std = (continuous[f"many/{name}"][0].ravel().astype(np.float64) for name in ("mean", "stddev"))
    z = (np.array([-0.5, 0.0, 0.5])[:, np.newaxis] - mean) / std
    for d in range(2):
        drawn = continuous["many/action"].reshape(-1, 2)[:, d]
        for bound, expected in zip((-0.5, 0.0, 0.5), map(normal_below, z[:, d]), strict=True):
            # The share below a bound is binomial; clipping at -1 and 1 does not change it.
            assert abs((drawn < bound).mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / 20000) + 1e-3


def normal_below(z: float) -> float:
    import math

    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


def test_version_numbers_increase_and_gaps_are_not_filled(tmp_path: Path) -> None:
    policy = Policy(FLOATS, BINARY, settings=NetworkSettings(hidden=(4,)))
    (tmp_path / "p" / "7").mkdir(parents=True)
    (tmp_path / "p" / "notes").mkdir()
    (tmp_path / "p" / "8").write_text("no directory")  # the number is used nevertheless
    assert export_policy(policy, tmp_path, "p", {}).version == 9
    assert sorted(f.name for f in (tmp_path / "p").iterdir()) == ["7", "8", "9", "notes"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_not_published(tmp_path: Path, value: float) -> None:
    policy = Policy(FLOATS, BINARY, settings=NetworkSettings(hidden=(4,)))
    assert policy.normalization is not None  # clipping makes its output finite for any statistics
    policy.variables[-1].assign(tf.fill(policy.variables[-1].shape, np.float32(value)))
    with pytest.raises(ExportError, match="not finite"):
        export_policy(policy, tmp_path, "broken", {})
    assert not list((tmp_path / "broken").iterdir())


class Inconstant(Policy):
    """Gives other outputs in the exported graph than when called directly."""

    def act(self, observation: Any, noise: Any, state: Any = None, weights: Any = None) -> dict[str, Any]:
        answer = super().act(observation, noise, state, weights)
        return answer if weights is None else {**answer, "entropy": answer["entropy"] + 1e-3}


def test_forms_that_disagree_are_not_published(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="SavedModel disagrees with the Keras model on 'entropy'"):
        export_policy(Inconstant(FLOATS, BINARY, settings=NetworkSettings(hidden=(4,))), tmp_path, "p", {})
    assert not list((tmp_path / "p").iterdir())


def test_an_unwritable_root_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="file"):
        export_policy(Policy(FLOATS, BINARY, settings=NetworkSettings(hidden=(4,))), tmp_path / "file", "p", {})


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Simulates a full disk: limits the size of files to this number of bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [100, 3000, 20_000])
def test_a_full_disk_leaves_no_partial_bundle(tmp_path: Path, size: int) -> None:
    policy = Policy(FLOATS, BINARY, settings=NetworkSettings(hidden=(64, 64)))
    with largest_file(size), pytest.raises(ExportError, match=r"cannot write.*nothing was published"):
        export_policy(policy, tmp_path, "p", {})
    assert not list((tmp_path / "p").iterdir())
    assert export_policy(policy, tmp_path, "p", {}).version == 1


@pytest.mark.parametrize("name", ["../escape", "a/b", "", ".hidden", "x" * 129, "a b"])
def test_policy_names_are_checked(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="policy name"):
        export_policy(Policy(FLOATS, BINARY, settings=NetworkSettings(hidden=(4,))), tmp_path / "root", name, {})
    assert not (tmp_path / "root").exists()


def test_a_manifest_is_plain_json(exported: list[tuple[Policy, bundle.Bundle]]) -> None:
    data = json.loads((exported[0][1].path / bundle.MANIFEST).read_text())
    assert data["schema_version"] == 1
    assert set(data["files"]) >= {"saved_model.pb", bundle.FLATBUFFER.as_posix()}


@pytest.mark.parametrize(
    "scale", [pytest.param(3.0, marks=pytest.mark.slow), pytest.param(10.0, marks=pytest.mark.slow), 100.0]
)
def test_a_policy_with_large_logits_is_exported(scale: float, tmp_path: Path) -> None:
    # Large logits, for example from unscaled bytes, have larger rounding errors, and so has their entropy.
    pixels = Box(np.zeros((7, 7, 3)), np.full((7, 7, 3), 255.0), np.dtype(np.uint8))
    for seed in range(2):
        policy = Policy(pixels, Discrete(7), settings=NetworkSettings(hidden=(64, 64)))
        for variable in policy.variables:
            spread = scale / np.sqrt(max(variable.shape))
            variable.assign(np.random.default_rng(seed).normal(0.0, spread, variable.shape).astype(np.float32))
        assert export_policy(policy, tmp_path, "sure", {}).version == seed + 1


@pytest.mark.parametrize(("wrong", "refused"), [(1, False), (2, False), (3, True)])
def test_one_action_in_a_hundred_may_differ_by_rounding(wrong: int, refused: bool) -> None:
    policy = Policy(Box(np.full(3, -9.0), np.full(3, 9.0), np.dtype(np.float32)), Discrete(2))
    expected = np.zeros(256, np.int64)
    got = expected.copy()
    got[:wrong] = 1
    with pytest.raises(ExportError, match="for 3 observations") if refused else nullcontext():
        _compare("SavedModel", "action", policy.spec, 1.0, got, expected)
