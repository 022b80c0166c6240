"""evaluate and record play the environment that the policy was trained on; what is filmed is what was played."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
import pytest

from pgkeras.bundle import bundle
from pgkeras.bundle.labels import change_labels
from pgkeras.evaluation.frames import ACCENT, BAR, Painter
from pgkeras.spaces import Box, Discrete
from pgkeras.spaces.spec import DistributionKind, PolicySpec
from tests.cli.conftest import Finished, Invoke, blocking, python
from tests.serving.conftest import Server, running

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def special(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that was trained with keyword arguments, a wrapper and a limit: returns are -20 / 4, or -1 / 4."""
    from pgkeras import train

    root = tmp_path_factory.mktemp("special")
    training = train(
        "CartPole-v1",
        steps=20,
        hidden=(4,),
        episodes=2,
        envs=2,
        max_episode_steps=7,
        env_kwargs={"sutton_barto_reward": True},
        wrappers=[{"name": "ClipReward", "kwargs": {"min_reward": 0.25, "max_reward": 1}}],
    )
    training.export(root, "special")
    training.export(root, "special")
    change_labels(root / "special", {"stable": 1})
    return root


@pytest.fixture(scope="module")
def server(special: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(special, tmp_path_factory.mktemp("server")) as started:
        yield started


def evaluated(invoke: Invoke, *arguments: object) -> dict[str, Any]:
    result = invoke("evaluate", *arguments, "--episodes", 3, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)  # type: ignore[no-any-return]


def test_the_environment_is_made_as_it_was_for_training(invoke: Invoke, special: Path) -> None:
    # Rewards of 0, and -1 at the end, are clipped to a quarter each.
    report = evaluated(invoke, special)
    assert report["env_id"] == "CartPole-v1"
    assert report["max"] <= 7 / 4
    assert report["mean"] == report["mean_length"] / 4
    other = evaluated(invoke, special, "--set", "wrappers=none", "--set", "env_kwargs.sutton_barto_reward=false")
    assert other["mean"] == other["mean_length"] == report["mean_length"]
    longer = evaluated(invoke, special, "--set", "max_episode_steps=none")
    assert longer["mean_length"] > 7
    bare = evaluated(invoke, special, "--env", "CartPole-v1")
    assert bare["mean"] == bare["mean_length"] == longer["mean_length"]


@pytest.mark.parametrize(
    "played",
    [
        ("--episodes", 40),  # of which the first slot plays two
        ("--episodes", 20, "--set", "max_episode_steps=none"),  # of which others last longer than its own
    ],
)
def test_steps_are_shown_up_to_the_end_of_the_first_episode(invoke: Invoke, special: Path, played: Any) -> None:
    report = json.loads(invoke("evaluate", special, "--show-steps", 1000, "--json", *played).output)
    assert len(report["first_steps"]) == 4 * report["returns"][0]  # each step returns a quarter
    observations = [tuple(step["observation"]) for step in report["first_steps"]]
    assert len(set(observations)) == len(observations)
    assert (0.0, 0.0, 0.0, 0.0) not in observations


def test_it_is_the_same_through_a_server_by_label(invoke: Invoke, special: Path, server: Server) -> None:
    report = evaluated(invoke, special)
    for arguments in ((server.target,), ("--target", server.target), ("--target", server.target, "--label", "stable")):
        through = evaluated(invoke, *arguments)
        assert through["returns"] == report["returns"]
    text = invoke("evaluate", "--target", server.target, "--label", "beta")
    assert (text.exit_code, "beta" in text.stderr) == (1, True)


RECORDED = {"name": "RecordVideo", "kwargs": {"video_folder": "films"}}
HOSTILE: dict[str, dict[str, Any]] = {
    "module": {"env_id": "this:CartPole-v1"},
    "wrapper": {"wrappers": ["this:s"]},
    "function": {"wrappers": ["ClipReward", "importlib"]},
    "films": {"wrappers": [RECORDED]},
    "old": {"env_id": "GymV21Environment-v0", "env_kwargs": {"env_id": "this:Any-v0"}},
}


@pytest.fixture(scope="module")
def hostile(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose policies say that they were trained on what would run code or write files."""
    root, good = tmp_path_factory.mktemp("hostile"), bundle.open_bundle(bundle.find(finished.models))
    for name, settings in HOSTILE.items():
        with bundle.draft(root, name, good.spec) as work:
            work.provenance = {**good.provenance, "config": {**good.provenance["config"], **settings}}
            shutil.copytree(good.path, work.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("policy.json"))
    with running(root, tmp_path_factory.mktemp("hostile-server")) as started:
        yield started


@pytest.mark.parametrize("name", HOSTILE)
def test_a_server_has_nothing_imported_or_written_here(name: str, hostile: Server, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pgkeras.cli import _pgkeras\n"
        "try: _pgkeras(sys.argv[1:], standalone_mode=False)\n"
        "except Exception as error: print(error)\n"
        "print('imported:', 'this' in sys.modules)"
    )
    for command in ("evaluate", "record"):
        result = python("-c", code, command, hostile.target, "--policy", name, cwd=tmp_path)
        told, imported = result.stdout.splitlines()[-2:]
        assert told.startswith(f"{hostile.target} names "), result.stdout + result.stderr
        assert told.endswith("or give --trust-server if you trust the server")
        assert imported == "imported: False"
    assert list(tmp_path.iterdir()) == []


def test_what_one_names_oneself_or_trusts_is_played(invoke: Invoke, hostile: Server) -> None:
    one = (hostile.target, "--episodes", 1, "--policy")
    for options in (("module", "--env", "CartPole-v1"), ("wrapper", "--set", "wrappers=RecordEpisodeStatistics")):
        result = invoke("evaluate", *one, *options)
        assert result.exit_code == 0, result.output
    trusted = invoke("evaluate", *one, "module", "--trust-server")
    assert trusted.exit_code == 0, trusted.output
    assert "this" in sys.modules


def test_bad_input_about_who_plays(invoke: Invoke, special: Path) -> None:
    for command in ("evaluate", "record"):
        for arguments, code, message in (
            ([], 2, "give either PATH, HOST:PORT or --target"),
            ([special, "--target", "127.0.0.1:1"], 2, "give either PATH"),
            ([special, "--label", "stable"], 2, "--label applies to servers only"),
            ([special, "--trust-server"], 2, "--trust-server applies to servers only"),
            ([special, "--set", "gamma=0.5"], 1, "--set gamma: expected a setting of the environment: env_kwargs"),
            ([special, "--set", "env_kwargs.gravitas=1"], 1, "gravitas"),
        ):
            result = invoke(command, *arguments)
            assert (result.exit_code, message in result.stderr) == (code, True), result.stderr


def bars_of(frame: np.ndarray, painter: Painter, actions: int) -> tuple[list[int], list[int]]:
    """How many pixels of each action's bar are filled, and which bars are orange, on a frame."""
    lengths, chosen = [], []
    for i in range(actions):
        left, top, right, bottom = painter.bar(i, actions)
        row = frame[(top + bottom) // 2, left:right, :3].astype(int)
        near = {colour: np.abs(row - colour).sum(axis=-1) < 60 for colour in (BAR, ACCENT)}
        lengths.append(int((near[BAR] | near[ACCENT]).sum()))
        if near[ACCENT].any():
            chosen.append(i)
    return lengths, chosen


def cartpole_painter() -> Painter:
    spec = PolicySpec(Box(np.zeros(4), np.ones(4), np.dtype(np.float32)), Discrete(2), DistributionKind.CATEGORICAL)
    return Painter(spec, "CartPole-v1", "", np.zeros((400, 600, 3), np.uint8))  # as CartPole's pictures are


def test_the_bars_of_a_film_are_the_probabilities(invoke: Invoke, finished: Finished, tmp_path: Path) -> None:
    same = [finished.models, "--seed", 3, "--set", "max_episode_steps=30"]
    result = invoke("record", *same, "--sample", "--output", "film.gif")
    assert result.exit_code == 0, result.output
    report = json.loads(
        invoke("evaluate", *same, "--mode", "sample", "--episodes", 1, "--show-steps", 30, "--json").output
    )
    steps = report["first_steps"][: int(report["mean_length"])]
    frames = imageio.mimread(tmp_path / "film.gif", memtest=False)
    assert len(frames) == len(steps) + 1
    painter = cartpole_painter()
    assert frames[0].shape[:2] == (painter.height, painter.width) == (400, 1000)
    for frame, step in zip(frames, steps, strict=False):
        left, _, right, _ = painter.bar(0, 2)
        lengths, chosen = bars_of(frame, painter, 2)
        assert np.abs(np.array(lengths) - np.array(step["probabilities"]) * (right - left)).max() <= 1
        assert chosen == [step["action"]]
    assert bars_of(frames[-1], painter, 2) == ([0, 0], [])  # the end has no distribution
    assert re.fullmatch(rf"Wrote film.gif: {len(frames)} frames, \d\.\d s; return {len(steps)}\n", result.output)


def test_a_film_of_several_episodes_as_mp4(invoke: Invoke, finished: Finished, tmp_path: Path) -> None:
    same = [finished.models, "--seed", 5, "--set", "max_episode_steps=9"]
    result = invoke("record", *same, "--episodes", 2)
    assert result.exit_code == 0, result.output
    with imageio.get_reader(tmp_path / "cartpole-v1.mp4") as reader:
        assert reader.get_meta_data()["fps"] == 50  # as CartPole says
    frames = imageio.mimread(tmp_path / "cartpole-v1.mp4", memtest=False)
    assert len(frames) == 2 * (9 + 1)
    assert frames[0].shape == (400, 1000, 3)
    assert [entry.name for entry in tmp_path.iterdir()] == ["cartpole-v1.mp4"]
    painter = cartpole_painter()
    chosen = [bars_of(frame, painter, 2)[1] for frame in frames]
    assert [len(some) for some in chosen] == ([1] * 9 + [0]) * 2


def test_a_film_through_a_server(invoke: Invoke, server: Server, tmp_path: Path) -> None:
    result = invoke("record", "--target", server.target, "--label", "stable", "--output", "film.mp4", "--fps", 10)
    assert result.exit_code == 0, result.output
    with imageio.get_reader(tmp_path / "film.mp4") as reader:
        assert reader.get_meta_data()["fps"] == 10
    assert len(imageio.mimread(tmp_path / "film.mp4", memtest=False)) == 8


def test_what_cannot_be_filmed(invoke: Invoke, finished: Finished, tmp_path: Path) -> None:
    for arguments, message in (
        (["--output", "film.avi"], "film.avi: expected a file that ends in .mp4 or .gif"),
        (["--output", "no/such/film.mp4"], "cannot write no/such/film.mp4"),
        (
            ["--env", "tests.environments.scripted:Scripted-v0"],
            "tests.environments.scripted:Scripted-v0 cannot be recorded",
        ),
        (["--env", "Pendulum-v1"], "observation space is"),
        (["--env", "CartPoel-v1"], "did you mean CartPole-v1"),
    ):
        result = invoke("record", finished.models, *arguments)
        assert (result.exit_code, message in result.stderr) == (1, True), result.stderr
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", ["imageio", "PIL"])
def test_a_missing_package_is_named_with_the_extra(module: str, finished: Finished, tmp_path: Path) -> None:
    result = python(*blocking(module, "record", finished.models), cwd=tmp_path)
    assert result.returncode == 1
    assert (
        result.stderr == f'Error: {module} is needed to record videos; install it with: pip install "pgkeras[video]"\n'
    )


def test_a_policy_on_disk_is_named_as_a_servers_is(invoke: Invoke, special: Path, server: Server) -> None:
    first = invoke("evaluate", special, "--policy-version", 1, "--episodes", 1)
    assert first.exit_code == 0, first.output
    for arguments in ((special, "--policy", "special"), (special / "special", "--policy-version", 2)):
        assert evaluated(invoke, *arguments)["env_id"] == "CartPole-v1"
    for arguments, message in (
        ((special, "--policy-version", 7), "has version 1"),
        ((special, "--policy", "nonsense"), "nonsense"),
        ((server.target, "--engine", "tensorflow"), "--engine applies to policies on disk only"),
    ):
        refused = invoke("evaluate", *arguments)
        assert refused.exit_code in (1, 2)
        assert message in refused.stderr
