"""A server of every kind of action distribution: its responses equal the outputs of the policy's own graph."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pgkeras.bundle import bundle
from pgkeras.client import PolicyClient
from pgkeras.engines import load, noise
from pgkeras.spaces import Box, MultiBinary, MultiDiscrete, Space
from tests.serving.conftest import export_random, run_cli, running

FLOAT64 = np.dtype(np.float64)
BOX = Box(np.array([[-1.0, 0.1], [-200.0, 2.0]]), np.array([[1.0, 0.7], [100.0, 3.0]]), FLOAT64)
HALF = Box(np.array([-1.0, 0.1, -np.inf, -np.inf]), np.array([1.0, np.inf, -0.3, np.inf]), FLOAT64)
HEADS: dict[str, tuple[Space, str]] = {
    "levers": (MultiDiscrete(np.array([2, 4, 3]), np.array([0, -1, 5])), "multi_categorical"),
    "switches": (MultiBinary((2, 2)), "multi_bernoulli"),
    "clipped": (HALF, "diagonal_gaussian"),
    "squashed": (HALF, "squashed_gaussian"),
    "kumaraswamy": (BOX, "kumaraswamy"),
}
OUTPUTS = ("log_prob", "entropy", "distribution", "greedy_action")
ROWS = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy of random weights for each head. Read only."""
    path = tmp_path_factory.mktemp("heads")
    generator = np.random.default_rng(0)
    for name, (space, family) in HEADS.items():
        export_random(path, name, space, generator, distribution=family)
    return path


@pytest.fixture(scope="module")
def target(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of all these policies."""
    with running(root, tmp_path_factory.mktemp("server")) as started:
        yield started.target


@pytest.mark.parametrize("name", HEADS)
def test_all_outputs_are_those_of_the_graph(root: Path, target: str, name: str) -> None:
    space, family = HEADS[name]
    found = bundle.open_bundle(bundle.find(root / name))
    drawn = noise.draw(noise.seeded(7), found.spec, len(ROWS))
    expected = load(found, "tensorflow").act({"observation": ROWS, "noise": drawn})
    with PolicyClient(target, name) as client:
        assert client.describe().spec == found.spec
        assert client.describe().spec.distribution.value == family
        answer = client.act(ROWS, seed=7, outputs=OUTPUTS)
        single = client.act(ROWS[0], seed=7, outputs=OUTPUTS)
        greedy = client.act(ROWS, mode="greedy", outputs=OUTPUTS)
    assert answer.action.dtype == space.dtype
    assert single.action.shape == space.shape
    close(answer.action, expected["action"])
    for arrays in (answer, greedy):
        close(arrays.entropy, expected["entropy"])
        close(arrays.greedy_action, expected["greedy_action"])
        assert set(arrays.distribution) == set(found.spec.distribution.parameters)
        for parameter, array in arrays.distribution.items():
            close(array, expected[parameter])
    close(answer.log_prob, expected["log_prob"])
    np.testing.assert_array_equal(greedy.action, greedy.greedy_action)
    close(single.log_prob, expected["log_prob"][0])


@pytest.mark.parametrize("name", HEADS)
def test_the_greedy_log_probability_is_that_of_the_distribution(root: Path, target: str, name: str) -> None:
    from pgkeras.policy import distributions

    space, family = HEADS[name]
    distribution = distributions.for_action_space(space, family)
    with PolicyClient(target, name) as client:
        greedy = client.act(ROWS, mode="greedy", outputs=OUTPUTS)
    # Recovers the network's outputs from the parameters of the distribution.
    values = [greedy.distribution[p].reshape(len(ROWS), -1).astype(np.float64) for p in greedy.distribution]
    if family == "kumaraswamy":
        parameters = np.concatenate([np.log(np.expm1(v - 1)) for v in values], axis=1)
    elif family == "multi_bernoulli":
        parameters = np.log(values[0]) - np.log1p(-values[0])
    elif len(values) == 2:
        parameters = np.concatenate([values[0], np.log(values[1])], axis=1)
    else:
        parameters = np.log(values[0])
    expected = distribution.log_prob(_tensor(parameters), distribution.mode(_tensor(parameters))).numpy()
    np.testing.assert_allclose(greedy.log_prob, expected, rtol=1e-4, atol=1e-4)


def close(got: Any, expected: Any) -> None:
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def _tensor(array: np.ndarray) -> Any:
    import tensorflow as tf

    return tf.constant(array)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("levers", [r" component 2", r"  [567] .* <- chosen"]),
        ("switches", [r"    3  probabilities 0\.\d+   chosen [01]"]),
        ("squashed", [r"    1  [+-]\d+\.\d+ \+- \d+\.\d+   chosen \+\d+\.\d+"]),
        ("kumaraswamy", [r"    0  a \d+(\.\d+)?   b \d+(\.\d+)?   chosen -?\d\.\d+"]),
    ],
)
def test_the_command_line_shows_every_distribution(target: str, name: str, lines: list[str]) -> None:
    result = run_cli("act", "--target", target, "--policy", name, "--observation", "[0.1, 0.2, -0.3, 0.4]")
    assert result.returncode == 0, result.stderr
    for line in lines:
        assert re.search(line, result.stdout), result.stdout
