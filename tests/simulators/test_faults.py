"""Faults between a run and its simulators, and the errors that each side gets."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import gymnasium
import numpy as np
import pytest
from pgkeras_serving.settings.config import ServerConfig

from pgkeras import runs
from pgkeras.bundle import bundle
from pgkeras.cli import simulate
from pgkeras.client import PolicyClient
from pgkeras.environments.plain import action_splitter
from pgkeras.environments.simulate import Simulator
from pgkeras.environments.trajectory import Trajectory
from pgkeras.errors import (
    DeadlineExceededError,
    EnvironmentStepError,
    InvalidRequestError,
    PolicyNotFoundError,
    ServerUnavailableError,
)
from pgkeras.protocol.wire import encode_space
from pgkeras.runs.training import Training
from pgkeras.settings.config import Config
from pgkeras.simulators.dry_run import RandomActor, report
from pgkeras.simulators.source import Simulators
from pgkeras.spaces import Box, Dict, Discrete, actions_from_gymnasium
from tests.ports import free_ports
from tests.runs.small import assert_same_arrays
from tests.serving.conftest import wait_until
from tests.serving.pages.test_pages import browsed, drawn_in
from tests.simulators.scripted import ACTIONS, OBSERVATIONS, ScriptedSimulator
from tests.simulators.test_learning import EnoughError, played

ROOT = Path(__file__).parents[2]
ONE = np.zeros((1, 2), np.float32)
FALSE = np.zeros(1, np.bool_)


@contextmanager
def listening(**settings: Any) -> Iterator[Simulators]:
    with Simulators("streak", ServerConfig(port=0, drain_seconds=1.0, **settings)) as simulators:
        yield simulators


@contextmanager
def teaching(**settings: Any) -> Iterator[tuple[Simulators, PolicyClient]]:
    """A server that plays batches, and a client of it."""
    with (
        listening(**settings) as simulators,
        learning(simulators),
        PolicyClient(simulators.target, timeout=20.0) as client,
    ):
        yield simulators, client


@contextmanager
def learning(simulators: Simulators) -> Iterator[None]:
    """Plays batch after batch in a thread while the body runs."""
    over = threading.Event()

    def watch(steps: int, episodes: int) -> None:
        if over.is_set():
            raise InterruptedError

    def play() -> None:
        from tests.simulators.test_learning import Coin

        simulators.wait(over.is_set)
        collector = simulators.collector(Coin(), watch)
        while not over.is_set():
            try:
                collector.collect(4, np.random.SeedSequence(0))
            except InterruptedError:
                return

    playing = threading.Thread(target=play)
    playing.start()
    try:
        yield
    finally:
        over.set()
        playing.join(20)


def declared(**changes: Any) -> dict[str, Any]:
    return {"observation_space": OBSERVATIONS, "action_space": ACTIONS} | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"observation_space": Box(np.zeros(3), np.full(3, 10.0), np.dtype(np.float32))},
            "simulator.observation_space",
        ),
        ({"observation_space": Discrete(4)}, "simulator.observation_space: expected that of this run, Box"),
        ({"action_space": Discrete(3)}, r"simulator.action_space: expected that of this run, Discrete\(2\), got"),
        ({"mode": "greedy"}, "mode: expected sampled actions and nothing else, because the policy is in training"),
        ({"outputs": ["entropy"]}, "outputs: expected sampled actions and nothing else"),
        ({"environments": 2}, "observation: expected 2 observations, one for each of simulator.env"),
    ],
)
def test_an_unsuitable_simulator_is_rejected_with_the_field(changes: dict[str, Any], message: str) -> None:
    with listening() as simulators, learning(simulators), PolicyClient(simulators.target, timeout=20.0) as client:
        good = ScriptedSimulator(simulators.target)
        simulators.wait()
        with client.play(**declared(**changes)) as session, pytest.raises(InvalidRequestError, match=message):
            session.step(np.zeros((1, *session._observation_space.shape), session._observation_space.dtype))
        before = good.steps
        wait_until(lambda: good.steps > before + 5)  # the other simulator is not affected
        assert good.failure is None


INVALID: dict[str, tuple[Callable[[Any], Any], str]] = {
    "an observation that is not finite": (
        lambda session: session.step(np.full((1, 2), np.nan, np.float32), 0.0 * FALSE, FALSE, FALSE),
        "observation.*finite",
    ),
    "a reward that is not finite": (
        lambda session: session.step(ONE, np.array([np.inf]), FALSE, FALSE),
        "reward: expected finite numbers",
    ),
    "rewards of another shape": (
        lambda session: session.step(ONE, np.zeros(2), FALSE, FALSE),
        r"reward: expected shape \[1\]",
    ),
    "a transition without terminated": (lambda session: session.step(ONE, np.zeros(1)), "terminated: expected what"),
    "more environments": (
        lambda session: session.step(np.zeros((2, 2), np.float32), *[np.zeros(2, np.bool_)] * 3),
        "reward|observation: expected 1 observations",
    ),
}


@pytest.mark.parametrize("case", INVALID)
def test_an_invalid_message_is_rejected_and_the_session_continues(case: str) -> None:
    send, message = INVALID[case]
    with teaching() as (_, client), client.play(**declared()) as session:
        session.step(ONE)
        with pytest.raises(InvalidRequestError, match=message):
            send(session)
        session.step(ONE, np.zeros(1), FALSE, FALSE)


@pytest.mark.parametrize(
    ("space", "size"),
    [
        (Discrete(10**12), "1,000,000,000,000"),
        (
            Dict({str(i): Box(np.zeros(6_000_000), np.ones(6_000_000), np.dtype(np.float32)) for i in range(2)}),
            "12,000,000",
        ),
    ],
)
def test_a_space_that_exceeds_the_size_limit_is_rejected(space: Any, size: str) -> None:
    with listening() as simulators, PolicyClient(simulators.target, timeout=20.0) as client:
        with client.play(observation_space=OBSERVATIONS, action_space=ACTIONS) as session:
            session._next.simulator.observation_space.CopyFrom(encode_space(space))
            with pytest.raises(
                InvalidRequestError, match=f"observation_space: expected .*10,000,000 numbers, got {size}"
            ):
                session.step(ONE)
        assert not simulators.is_declared


def test_a_second_declaration_is_ignored() -> None:
    with teaching() as (_, client), client.play(**declared()) as session:
        session.step(ONE)
        session._next.simulator.name = "another"
        session.step(ONE, np.zeros(1), FALSE, FALSE)


def test_environments_beyond_the_batch_size_are_rejected() -> None:
    with teaching(max_batch_size=8) as (_, client), client.play(**declared()) as session:
        with pytest.raises(InvalidRequestError, match="at most 8 observations"):
            session.step(np.zeros((1008, 2), np.float32))
        session.step(np.zeros((8, 2), np.float32))


def test_clients_without_a_declaration_play_once_the_spaces_are_known() -> None:
    with listening() as simulators, learning(simulators), PolicyClient(simulators.target, timeout=2.0) as client:
        with pytest.raises(ServerUnavailableError, match="no simulator has declared its spaces yet"):
            client.describe()
        ScriptedSimulator(simulators.target)
        simulators.wait()
        wait_until(lambda: simulators._hub.codec is not None)
        assert client.describe().spec.action_space == ACTIONS
        with client.play() as session:
            assert session.step(ONE)[0] in (0, 1)
        with pytest.raises(ServerUnavailableError, match="streak is in training: open a session"):
            client.act(ONE)
        with PolicyClient(simulators.target, "another") as other, pytest.raises(PolicyNotFoundError, match="streak"):
            other.describe()


def test_a_silent_simulator_loses_only_its_own_episode() -> None:
    with listening(session_idle_seconds=1.0) as simulators:
        silent = ScriptedSimulator(simulators.target, 1, before=lambda sent: time.sleep(4.0) if sent == 1 else None)
        good = ScriptedSimulator(simulators.target, 1)
        wait_until(lambda: len(simulators.connected) == 2)
        trajectory, lost = played(simulators, 10)
        assert lost == 1
        assert good.steps >= trajectory.lengths.sum()
        silent.join(20)
        assert isinstance(silent.failure, DeadlineExceededError)


def test_a_restarted_episode_counts_as_lost() -> None:
    with listening() as simulators, PolicyClient(simulators.target, timeout=20.0) as client:
        found: list[Any] = []
        playing = threading.Thread(target=lambda: found.append(played(simulators, 2)))
        playing.start()
        with client.play(**declared()) as session:
            session.step(ONE)
            session.step(ONE, np.array([7.0]), FALSE, FALSE, episode_start=~FALSE)  # in the middle of the episode
            for reward in (1.0, 2.0):
                session.step(ONE, np.array([reward]), ~FALSE, FALSE)
                if reward == 1.0:
                    session.step(ONE, np.array([9.0]), FALSE, FALSE)
        playing.join(20)
    ((trajectory, lost),) = found
    assert lost == 1
    assert trajectory.rewards.sum(axis=0).tolist() == [1.0, 2.0]


def test_waiting_simulators_learn_of_the_end_of_the_run() -> None:
    with listening() as simulators:
        player = ScriptedSimulator(simulators.target, 1)
        simulators.wait()
        played(simulators, 3)
        began = time.monotonic()
    assert time.monotonic() - began < 5
    player.join(20)
    assert isinstance(player.failure, ServerUnavailableError)


def train(directory: Path, *options: str, steps: int = 1200) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "pgkeras",
        "train",
        "--listen",
        "127.0.0.1:0",
        "--no-export",
        "--steps",
        str(steps),
    ]
    command += ["--set", "hidden=8", "--set", "checkpoint_seconds=0", "--set", "loggers=none", *options]
    if "--resume" not in options:
        command += ["--name", "streak", "--out", str(directory), "--set", "episodes=4"]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def address(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    found = re.match(r"Listening on (\S+:\d+)\. ", process.stderr.readline())
    assert found is not None
    return found[1]


class Persistent(threading.Thread):
    """Plays Streak in one session after another, at the current target, as every client's example does."""

    def __init__(self, target: str) -> None:
        super().__init__(daemon=True)
        self.target, self.over = target, False
        self.start()

    def run(self) -> None:
        while not self.over:
            player = ScriptedSimulator(self.target, 4, before=lambda _: self.over)
            player.join()
            time.sleep(0.05)


def test_a_killed_and_resumed_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    undisturbed = train(tmp_path / "undisturbed")
    player = Persistent(address(undisturbed))
    assert undisturbed.wait(60) == 0, undisturbed.stderr
    killed = train(tmp_path / "killed")
    player.target = address(killed)
    wait_until(lambda: (tmp_path / "killed" / "metrics.jsonl").exists() and _epochs(tmp_path / "killed") > 3)
    killed.kill()
    killed.wait()
    resumed = train(tmp_path / "killed", "--resume", str(tmp_path / "killed"))
    player.target = address(resumed)
    assert resumed.wait(60) == 0
    player.over = True
    one, other = (runs.RunDirectory(tmp_path / name, 2, resume=True) for name in ("undisturbed", "killed"))
    assert_same_arrays(one.checkpoints.read("last"), other.checkpoints.read("last"))


def _epochs(directory: Path) -> int:
    return len((directory / "metrics.jsonl").read_text().splitlines())


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_ends_the_run_and_its_simulators(number: signal.Signals, tmp_path: Path) -> None:
    run = train(tmp_path / "run", "--export", "--export-to", str(tmp_path / "policies"), steps=10**9)
    player = ScriptedSimulator(address(run), 4)
    wait_until(lambda: (tmp_path / "run" / "metrics.jsonl").exists() and _epochs(tmp_path / "run") > 3)
    run.send_signal(number)
    assert run.wait(60) == 128 + number
    player.join(20)
    assert isinstance(player.failure, ServerUnavailableError)
    assert "the run is over; connect again" in str(player.failure)
    assert (tmp_path / "policies" / "streak" / "1" / "saved_model.pb").exists()
    assert runs.read_summary(tmp_path / "run")["epochs"] == _epochs(tmp_path / "run")
    newest = max((tmp_path / "run" / "checkpoints").glob("epoch-*.npz"))
    assert int(newest.stem.rpartition("-")[2]) == _epochs(tmp_path / "run")


@pytest.mark.slow
def test_killed_simulators_lose_only_their_own_episodes(tmp_path: Path) -> None:
    run = train(tmp_path / "run", steps=3000)
    target = address(run)
    command = [sys.executable, "-m", "pgkeras", "simulate", "tests.simulators.scripted:Streak-v0", "--target", target]
    start = partial(subprocess.Popen, cwd=ROOT, stdout=subprocess.DEVNULL)
    players = [start([*command, "--environments", "2"]) for _ in range(2)]
    wait_until(lambda: (tmp_path / "run" / "metrics.jsonl").exists() and _epochs(tmp_path / "run") > 3)
    for _ in range(2):
        victim = players.pop(0)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        players.append(start([*command, "--patience", "2"]))
    assert run.wait(60) == 0
    lines = runs.read_metrics(tmp_path / "run")
    assert lines[-1]["env_steps"] >= 3000
    assert all(line["episodes_lost"] >= 0 for line in lines)
    for player in players:
        player.wait(60)


def ran(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_simulate_plays_a_trained_policy_and_is_rejected_with_other_spaces(tmp_path: Path) -> None:
    from benchmarks.soak.server import SHIPPED, serving

    with serving(SHIPPED, tmp_path) as server:
        command = [sys.executable, "-m", "pgkeras", "simulate", "--target", server.target, "--greedy"]
        run = ran([*command, "CartPole-v1", "--environments", "3", "--episodes", "6"])
        assert run.returncode == 0, run.stderr
        assert re.search(r"6 episodes, the last 6 returned (4[5-9]\d(\.\d+)?|500) on average", run.stdout), run.stdout
        other = ran([*command, "Acrobot-v1"])
        assert other.returncode == 1
        assert "simulator.observation_space: expected the policy's, Box" in other.stderr


def test_simulate_reports_waiting_and_the_end_of_the_run_once(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "pgkeras", "simulate", "tests.simulators.scripted:Streak-v0"]
    command += ["--target", f"127.0.0.1:{port}", "--environments", "2", "--patience", "40"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as player:
        assert player.stderr is not None
        assert player.stderr.readline() == f"Waiting for a run or a server at 127.0.0.1:{port}, for 40 s at most.\n"
        run = train(tmp_path / "run", "--listen", f"127.0.0.1:{port}", steps=200)
        assert run.wait(60) == 0
        line = player.stderr.readline()
        player.send_signal(signal.SIGINT)
        stdout, stderr = player.communicate(timeout=20)
    assert re.match(r"The (run is over|server is stopping)[^.]*\. Waiting for a run or a server at ", line), line
    assert stderr.split() == ["Interrupted."]
    assert not stdout.startswith("0 steps")


def test_the_reported_speed_excludes_waiting(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    played = SimpleNamespace(steps=0, episodes=0, returns=[])
    telling = simulate._Telling(cast("Any", played), None, "here", 30.0)
    for now, steps in ((60.0, 0), (100.0, 0), (101.0, 50), (102.0, 100), (132.0, 100), (140.0, 100)):
        clock[0], played.steps = now, steps
        telling()
    assert capsys.readouterr().out == "50 steps (50/s), 0 episodes\n"
    telling.tell()
    assert capsys.readouterr().out == "100 steps (50/s), 0 episodes\n"


def test_a_dry_run_reports_what_simulators_send(tmp_path: Path) -> None:
    run = train(tmp_path / "run", "--dry-run")
    target = address(run)
    player = ScriptedSimulator(target, 2, name="streaks")
    assert run.wait(60) == 0
    assert run.stdout is not None
    report = run.stdout.read()
    assert "simulator     streaks, 2 environments" in report
    assert re.search(r"speed         [\d,]+ steps/s, \d+ steps in", report)
    assert re.search(r"episodes      20, of 1 to [2-5] steps", report)
    assert "Look: 1 of 2 numbers of the observation never changed" in report
    assert not (tmp_path / "run").exists()
    player.join(20)


@pytest.mark.parametrize(
    ("space", "masked"),
    [
        (gymnasium.spaces.Discrete(4, start=2), True),
        (gymnasium.spaces.MultiDiscrete([3, 2]), True),
        (gymnasium.spaces.MultiBinary(3), False),
        (gymnasium.spaces.Box(np.array([-1.0, -np.inf]), np.array([1.0, np.inf]), dtype=np.float32), False),
        (gymnasium.spaces.Box(np.array([-1.7e308, 0.0]), np.array([1.7e308, 1e300]), dtype=np.float64), False),
    ],
)
def test_random_actions_are_in_the_space_and_allowed(space: Any, masked: bool) -> None:
    size = {"Discrete": 4, "MultiDiscrete": 5}.get(type(space).__name__, 0)
    mask = np.tile(np.array([1, 0, 1, 0, 1][:size], np.bool_), (50, 1))
    simulators = SimpleNamespace(
        observation_space=OBSERVATIONS, action_space=actions_from_gymnasium(space), mask_size=size if masked else 0
    )
    actor = RandomActor(simulators, seed=0)  # type: ignore[arg-type]
    observation = np.concatenate([np.zeros((50, 2), np.float32), mask], axis=1)
    actions = actor.act(observation, np.zeros((50, 1), np.float32), None)[1]
    assert all(space.contains(action if space.shape else space.dtype.type(action)) for action in actions)
    assert len(np.unique(actions, axis=0)) > 1
    if masked:
        first = (
            actions.reshape(50, -1)[:, 0] - getattr(space, "start", np.zeros(1)).flat[0] if size == 5 else actions - 2
        )
        assert set(np.unique(first)) == {0, 2}


def test_random_structured_actions_are_in_the_space_and_allowed() -> None:
    box = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    space = gymnasium.spaces.Dict(
        aim=box, move=gymnasium.spaces.Discrete(3), say=gymnasium.spaces.MultiDiscrete([2, 2])
    )
    simulators = SimpleNamespace(
        observation_space=OBSERVATIONS, action_space=actions_from_gymnasium(space), mask_size=7
    )
    actor = RandomActor(simulators, seed=0)  # type: ignore[arg-type]
    observation = np.tile(np.array([0, 0, 1, 0, 1, 0, 1, 1, 1], np.float32), (50, 1))
    actions = actor.spec.from_graph(actor.act(observation, np.zeros((50, 1), np.float32), None)[1])
    assert all(space.contains(one) for one in action_splitter(space)(actions))
    assert set(actions["move"].tolist()) == {0, 2}
    assert set(actions["say"][:, 0].tolist()) == {1}
    assert len(np.unique(actions["aim"])) > 50


@pytest.mark.parametrize("mask_size", [0, 2])
def test_a_dry_run_reports_possible_problems(mask_size: int) -> None:
    played = Trajectory(
        observations=np.full((1, 3, 2 + mask_size), 20.0, np.float32),
        samples=np.zeros((1, 3)),
        rewards=np.zeros((1, 3)),
        lengths=np.ones(3, np.int64),
        terminated=np.ones(3, np.bool_),
        final_observations=np.zeros((3, 2), np.float32),
    )
    simulators = SimpleNamespace(
        connected=[], observation_space=OBSERVATIONS, action_space=ACTIONS, mask_size=mask_size
    )
    looks = [line for line in report(simulators, played, 1.0) if line.startswith("Look: ")]  # type: ignore[arg-type]
    assert [look.split()[1:3] for look in looks] == [
        ["every", "reward"],
        ["every", "episode"],
        ["2", "of"],
        ["number", "0"],
    ]
    assert "was 20, outside its bounds 0 to 10" in looks[-1]


def test_the_status_page_shows_the_run(tmp_path: Path) -> None:
    with Simulators("streak", ServerConfig(port=0, http_port=0, drain_seconds=1.0)) as simulators:
        page = f"http://127.0.0.1:{simulators.http_port}/"
        assert "No simulator is connected." in urllib.request.urlopen(page).read().decode()
        ScriptedSimulator(simulators.target, 3, name="<streaks>")
        simulators.wait()
        settings: dict[str, Any] = {"hidden": (4,), "steps": 100, "stop_return": 1e6, "loggers": "none", "envs": 3}
        training = Training(Config(env_id="streak", episodes=3, **settings), source=simulators)
        for _ in training:
            shown = urllib.request.urlopen(page).read().decode()
        assert 'streak <span class="label">in training</span>' in shown
        assert "<td>&lt;streaks&gt;</td><td>3</td>" in shown
        assert "Return per epoch" in shown
        assert re.search(r"<b>[1-9]\d*</b><small>epochs", shown)
        metrics = urllib.request.urlopen(f"{page}metrics").read().decode()
        assert "pgkeras_sessions 1" in metrics
        pixels = browsed(page, tmp_path)
        assert drawn_in(pixels, (37, 99, 168)) > 200, "the learning curve, in the page's accent color"
        training.finish()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["CartPole-v1", "--dry-run"], "--dry-run requires --listen: give both, or neither"),
        (["CartPole-v1", "--spaces", "x.json"], "--spaces requires --listen: give both, or neither"),
        (["--listen", "127.0.0.1:0"], "--listen requires a name for the policy: give --name NAME"),
        (
            ["CartPole-v1", "--listen", "127.0.0.1:0", "--name", "x"],
            "instead of an environment: remove CartPole-v1",
        ),
        (["--listen", "127.0.0.1:0", "--name", "x", "--collect", "ray"], "exclude each other: give one of them"),
        (
            ["--listen", "127.0.0.1:0", "--name", "x", "--set", "max_episode_steps=9"],
            "applies to gymnasium environments only",
        ),
        (["--listen", "127.0.0.1", "--name", "x"], "expected HOST:PORT or unix:PATH, got '127.0.0.1'"),
        (["--listen", "127.0.0.1:0", "--name", "x", "--spaces", "nowhere.json"], "cannot read nowhere.json"),
    ],
)
def test_incompatible_options_are_rejected_immediately(options: list[str], message: str) -> None:
    process = ran([sys.executable, "-m", "pgkeras", "train", *options])
    assert process.returncode in (1, 2)
    assert message in " ".join(process.stderr.split())


def test_the_printed_commands_export_and_resume_a_run_with_simulators(tmp_path: Path) -> None:
    run = train(tmp_path / "my run", steps=10**9)
    player = Persistent(address(run))
    wait_until(lambda: (tmp_path / "my run" / "metrics.jsonl").exists() and _epochs(tmp_path / "my run") > 3)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)
    player.over = True
    (resume_hint,) = re.findall(r"Resume with: pgkeras (.*)", said)
    assert re.fullmatch(r"train --resume '.*my run' --listen 127\.0\.0\.1:\d+", resume_hint)
    command = [sys.executable, "-m", "pgkeras"]
    exported = ran([*command, "export", str(tmp_path / "my run"), "--to", str(tmp_path / "models")])
    assert exported.returncode == 0, exported.stderr
    found = bundle.open_bundle(bundle.find(tmp_path / "models"))
    assert (found.spec.observation_space, found.spec.action_space) == (OBSERVATIONS, ACTIONS)
    alone = ran([*command, "train", "--resume", str(tmp_path / "my run")])
    assert (alone.returncode, "learns from simulators: give --listen" in alone.stderr) == (2, True)
    resumed = subprocess.Popen(
        [*command, *shlex.split(resume_hint), "--no-export", "--steps", "1"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    other = Persistent(address(resumed))
    assert resumed.wait(60) == 0
    other.over = True


def test_a_listening_run_warns_of_unknown_variables(tmp_path: Path) -> None:
    environment = {**os.environ, "PGKERAS_SERVE_TOKN_FILE": "x", "PGKERAS_SERVE_WORKERS": "2"}
    command = [sys.executable, "-m", "pgkeras", "train", "--listen", "127.0.0.1:0", "--name", "x"]
    process = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "unknown environment variable: PGKERAS_SERVE_TOKN_FILE" in process.stderr
    assert process.returncode == 1
    assert "workers=2: a run listens with one process only (given by PGKERAS_SERVE_WORKERS)" in process.stderr


class Lasting(gymnasium.Env[Any, Any]):
    """Environment with CartPole's spaces, whose episodes have a fixed length, which is also their return."""

    observation_space = gymnasium.make("CartPole-v1").observation_space
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, length: int) -> None:
        self.length, self.taken = length, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.taken = 0
        return np.zeros(4, np.float32), {}

    def step(self, action: Any) -> Any:
        self.taken += 1
        return np.zeros(4, np.float32), 1.0, self.taken == self.length, False, {}


def test_short_episodes_do_not_replace_long_ones(tmp_path: Path) -> None:
    from benchmarks.soak.server import SHIPPED, serving

    simulator = Simulator([Lasting(2), Lasting(30), Lasting(3)], episodes=5)
    with serving(SHIPPED, tmp_path) as server, PolicyClient(server.target) as client:
        simulator.run(client, lambda: simulator.episodes >= 5, 0.0)
    assert sorted(simulator.returns) == [2.0, 2.0, 3.0, 30.0, 30.0], "each plays its share"


class Fickle(gymnasium.Env[Any, Any]):
    """Episodes of five steps. Only steps return masks, rewards are arrays, and one reset may be slow."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(3)
    slow_reset, breaks_at = 0, 0

    def __init__(self) -> None:
        self.resets = self.taken = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.resets += 1
        self.taken = 0
        if self.resets == self.slow_reset:
            time.sleep(2.5)
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        assert action != 1 or not self.taken, "it was masked"
        self.taken += 1
        if self.resets == self.breaks_at:
            raise KeyError("no such thing")
        mask = np.array([1, 0, 1], np.int8)
        return np.zeros(2, np.float32), np.ones(1), self.taken == 5, False, {"action_mask": mask}


def simulating(target: str, environment: gymnasium.Env[Any, Any], patience: float = 20.0) -> threading.Thread:
    def play() -> None:
        with PolicyClient(target, timeout=20.0) as client, pytest.raises(ServerUnavailableError):
            Simulator([environment], 0, "fickle").run(client, lambda: False, patience)

    thread = threading.Thread(target=play, daemon=True)
    thread.start()
    return thread


def test_a_simulator_reconnects_after_an_idle_timeout() -> None:
    environment = Fickle()
    environment.slow_reset = 4  # the first reset is that of the interface check
    with listening(session_idle_seconds=1.0) as simulators:
        thread = simulating(simulators.target, environment, patience=1.0)
        simulators.wait()
        collector = simulators.collector(RandomActor(simulators, 0))
        assert collector.collect(6, np.random.SeedSequence(0)).lengths.tolist() == [5] * 6
    thread.join(20)
    assert not thread.is_alive()


def test_patience_is_measured_from_the_last_message_of_the_server() -> None:
    with listening() as simulators:
        thread = simulating(simulators.target, Fickle(), patience=3.0)
        simulators.wait()
        time.sleep(4.5)  # while the policy is being built, the simulator is told to wait
        port = int(simulators.target.rpartition(":")[2])
    time.sleep(1.0)
    assert thread.is_alive()
    with Simulators("streak", ServerConfig(port=port, drain_seconds=1.0)) as again:
        wait_until(lambda: bool(again.connected))
    thread.join(20)


def test_an_environment_that_fails_is_named() -> None:
    environment = Fickle()
    environment.breaks_at = 3
    found: list[str] = []

    def play() -> None:
        with PolicyClient(simulators.target, timeout=20.0) as client:
            try:
                Simulator([environment], 0, "fickle").run(client, lambda: False, 0.0)
            except EnvironmentStepError as error:
                found.append(str(error))

    def until_it_failed(steps: int, episodes: int) -> None:
        if found:
            raise EnoughError

    with listening() as simulators:
        threading.Thread(target=play, daemon=True).start()
        simulators.wait()
        with pytest.raises(EnoughError):
            simulators.collector(RandomActor(simulators, 0), until_it_failed).collect(5, np.random.SeedSequence(0))
    assert re.fullmatch(r"fickle failed at step: KeyError: 'no such thing' \(.*test_faults\.py, .* in step\)", found[0])


def test_simulators_in_processes_end_with_the_command(tmp_path: Path) -> None:
    with listening() as simulators:
        command = [sys.executable, "-m", "pgkeras", "simulate", "CartPole-v1", "--target", simulators.target]
        command += ["--processes", "2", "--environments", "2"]
        process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
        wait_until(lambda: len(simulators.connected) == 2, 60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) != 0
        wait_until(lambda: not simulators.connected, 20)
    wait_until(lambda: not subprocess.run(["pgrep", "-s", str(process.pid)], capture_output=True, check=False).stdout)


def test_a_signal_interrupts_an_evaluation_that_waits_for_simulators(tmp_path: Path) -> None:
    settings = {"steps": 10**9, "evaluation_every": 1, "evaluation_episodes": 50, "hidden": (8,), "episodes": 4}
    with listening() as simulators:
        leaves = threading.Event()
        ScriptedSimulator(simulators.target, 2, before=lambda _: leaves.is_set())
        simulators.wait()
        training = Training(Config(env_id="streak", stop_return=1e6, **settings), tmp_path / "run", source=simulators)
        _leave_in_an_evaluation(training, leaves)
        epochs = list(training)
        training.finish()
    assert len(epochs) == training.epoch == 1
    assert [line["epoch"] for line in runs.read_metrics(tmp_path / "run")] == [1]
    assert runs.read_evaluations(tmp_path / "run") == []


def _leave_in_an_evaluation(training: Training, leaves: threading.Event) -> None:
    """Disconnects the simulators after the first epoch, and interrupts the run a second later."""

    def watch() -> None:
        wait_until(lambda: training.epoch == 1, 20)
        leaves.set()
        time.sleep(1.0)
        training.interrupt()

    threading.Thread(target=watch, daemon=True).start()
