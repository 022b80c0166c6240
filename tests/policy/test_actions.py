"""All kinds of actions, from the environment to the exported policy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import pgkeras
from pgkeras import engines, environments, evaluation
from pgkeras.bundle import bundle
from pgkeras.cli.info import command as info
from pgkeras.cli.train import command as train
from pgkeras.engines import noise
from pgkeras.errors import UnsupportedSpaceError
from pgkeras.runs.training import Training
from pgkeras.settings.config import resolve

HEADS = [
    ("Choice", "categorical"),
    ("Levers", "multi_categorical"),
    ("Switches", "multi_bernoulli"),
    ("Knobs", "diagonal_gaussian"),
    pytest.param("Knobs", "squashed_gaussian", marks=pytest.mark.slow),
    ("Sliders", "squashed_gaussian"),
    pytest.param("Sliders", "kumaraswamy", marks=pytest.mark.slow),
    ("Notches", "multi_categorical"),
    pytest.param("Dial", "diagonal_gaussian", marks=pytest.mark.slow),
    pytest.param("Dial", "squashed_gaussian", marks=pytest.mark.slow),
    ("Dial", "kumaraswamy"),
]


@pytest.mark.parametrize(("name", "family"), HEADS)
def test_it_learns_is_exported_and_plays(name: str, family: str, tmp_path: Path) -> None:
    env_id = f"tests.reinforce.bandits:{name}-v0"
    settings = {"envs": 16, "episodes": 32, "gamma": 0.0, "learning_rate": 0.02, "hidden": (16,), "stop_return": 1e6}
    training = Training(resolve(env_id, overrides={"steps": 20_000, "distribution": family, **settings}))
    first, *_ = training
    training.finish()
    # Ten pulls with rewards of at most 1. A policy that ignores the observation gets at most 7.5 (discrete actions: 5).
    assert training.mean_return_100 > 8.5 > first.return_mean + 1
    # The export compares the three forms. The evaluation uses LiteRT, and the environment checks the actions.
    exported = training.export(tmp_path)
    found = bundle.open_bundle(exported.path)
    assert found.spec.distribution.value == family
    for mode in ("greedy", "sample"):
        actor = evaluation.FirstSteps(evaluation.EngineActor(found.spec, engines.load(found, "litert"), mode), 3)
        result = evaluation.evaluate(actor, environments.make(env_id, 4), 20, seed=1)
        assert result.mean > 8.2
        assert all(set(step) == {"observation", "action", *found.spec.distribution.parameters} for step in actor.steps)


def test_both_engines_give_the_same_actions(tmp_path: Path) -> None:
    training = pgkeras.train("tests.reinforce.bandits:Levers-v0", seed=0, steps=100, hidden=(8,))
    found = bundle.open_bundle(training.export(tmp_path).path)
    observation = np.linspace(-1, 1, 200, dtype=np.float32)[:, np.newaxis]
    inputs = {"observation": observation, "noise": noise.draw(noise.seeded(0), found.spec, 200)}
    litert, tensorflow = (engines.load(found, name).act(inputs) for name in ("litert", "tensorflow"))
    np.testing.assert_array_equal(litert["action"], tensorflow["action"])
    assert litert["action"].shape == (200, 2, 1)


def test_a_family_that_does_not_fit_the_action_space_is_rejected() -> None:
    with pytest.raises(UnsupportedSpaceError, match=r"needs finite bounds.*use diagonal_gaussian or squashed_gaussian"):
        pgkeras.train("tests.reinforce.bandits:Knobs-v0", steps=10, distribution="kumaraswamy")


def test_the_selected_distribution_is_reported(tmp_path: Path) -> None:
    paths = ["--out", str(tmp_path / "run"), "--export-to", str(tmp_path)]
    result = CliRunner().invoke(train, ["tests.reinforce.bandits:Levers-v0", "--steps", "200", *paths])
    assert result.exit_code == 0, result.output
    assert "multi_categorical" in result.output
    described = CliRunner().invoke(info, [str(tmp_path / "levers-v0")])
    assert "MultiDiscrete([[2], [3]], start=[[-1], [4]])" in described.output
    assert "multi_categorical" in described.output
