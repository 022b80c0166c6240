"""Runs with simulators: the weights equal those of a local run, and disconnects do not bias the gradient."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from numpy.typing import NDArray
from pgkeras_serving.settings.config import ServerConfig

from pgkeras.client import PolicyClient
from pgkeras.environments.simulate import Simulator
from pgkeras.environments.trajectory import Trajectory
from pgkeras.errors import EnvironmentStepError, ServerUnavailableError
from pgkeras.runs.training import Training
from pgkeras.settings.config import Config
from pgkeras.simulators.batch import Batch
from pgkeras.simulators.source import Simulators
from pgkeras.spaces.spec import DistributionKind, PolicySpec
from tests.runs.small import assert_same_arrays, assert_same_state, run_to_end
from tests.serving.conftest import wait_until
from tests.simulators.scripted import ACTIONS, OBSERVATIONS, ScriptedSimulator, exact_gradient

SETTINGS: dict[str, Any] = {"hidden": (8,), "steps": 200, "stop_return": 1e6, "loggers": "none", "gamma": 0.9}
P = 0.6


@pytest.fixture
def simulators() -> Iterator[Simulators]:
    with Simulators("streak", ServerConfig(port=0, drain_seconds=1.0)) as listening:
        yield listening


class Coin:
    """Chooses action 1 with probability P, whatever the observation."""

    spec = PolicySpec(OBSERVATIONS, ACTIONS, DistributionKind.CATEGORICAL)

    def act(self, observation: NDArray[Any], noise: NDArray[np.float32], state: Any) -> Any:
        actions = (noise[:, 0] < P).astype(np.int64)
        return actions, actions, None


def played(simulators: Simulators, episodes: int, seed: int = 0) -> tuple[Trajectory, int]:
    """Returns a batch of episodes played by Coin, and the number of lost episodes."""
    simulators.wait()
    collector = simulators.collector(Coin())
    trajectory = collector.collect(episodes, np.random.SeedSequence(0, spawn_key=(seed,)))  # like an epoch's seed
    assert len(trajectory.lengths) == episodes
    return trajectory, collector.episodes_lost


def gradients(trajectory: Trajectory) -> NDArray[np.float64]:
    """Returns each episode's estimate of the gradient with respect to the logit of P(action 1)."""
    returns = np.flip(np.cumsum(np.flip(trajectory.rewards, 0), 0), 0)
    return np.asarray((((trajectory.samples - P) * returns) * trajectory.mask).sum(axis=0))


# If the message that ends an episode has the next episode's first observation, as in local environments, slots may play
# several episodes. The final observation, which a value network needs, is then lost.
@pytest.mark.parametrize(
    ("same_step", "memory", "baseline"),
    [
        (False, "none", "leave-one-out"),
        pytest.param(False, "gru", "leave-one-out", marks=pytest.mark.slow),
        (False, "none", "value"),
        pytest.param(False, "gru", "value", marks=pytest.mark.slow),
        (True, "none", "leave-one-out"),
        (True, "gru", "leave-one-out"),
    ],
)
def test_one_session_gives_the_same_weights_as_a_local_run(
    simulators: Simulators, same_step: bool, memory: str, baseline: str
) -> None:
    episodes = 6 if same_step else 4
    settings = {**SETTINGS, "envs": 4, "episodes": episodes, "memory": memory, "memory_units": 4, "baseline": baseline}
    here = run_to_end(Training(Config(env_id="tests.simulators.scripted:Streak-v0", vectorization="plain", **settings)))
    player = ScriptedSimulator(simulators.target, 4, same_step=same_step)
    simulators.wait()
    there = run_to_end(Training(Config(env_id="streak", **settings), source=simulators))
    assert here.epoch == there.epoch > 5
    assert_same_state(here, there)
    player.join(20)
    assert "run is over" in str(player.failure) or "stopping" in str(player.failure)


@pytest.mark.parametrize("name", ["Gamepad", "Desk"])
def test_a_policy_with_structured_actions_learns_from_simulators(simulators: Simulators, name: str) -> None:
    copies = [gymnasium.make(f"tests.reinforce.bandits:{name}-v0") for _ in range(8)]
    simulator = Simulator(copies, seed=1)  # the environments check every action

    def play() -> None:
        with PolicyClient(simulators.target, timeout=20.0) as client, contextlib.suppress(ServerUnavailableError):
            simulator.run(client, lambda: False, patience=0.0)  # until the run is over

    player = threading.Thread(target=play, daemon=True)
    player.start()
    simulators.wait()
    settings = {"envs": 8, "episodes": 16, "gamma": 0.0, "learning_rate": 0.02, "hidden": (16,), "steps": 6_000}
    returns = [m.return_mean for m in Training(Config(env_id=name, stop_return=1e6, **settings), source=simulators)]
    assert np.mean(returns[-5:]) > np.mean(returns[:5]) + 1
    assert simulator.episodes >= 16 * len(returns)


def test_episodes_match_what_the_simulator_played(simulators: Simulators) -> None:
    ScriptedSimulator(simulators.target, 3)
    trajectory, lost = played(simulators, 7)
    assert lost == 0
    for b, length in enumerate(trajectory.lengths):
        actions = trajectory.samples[:length, b]
        assert trajectory.observations[:length, b, 0].tolist() == list(range(length))
        assert trajectory.final_observations[b, 0] == length
        assert actions[:-1].all()
        assert trajectory.rewards[:, b].sum() == actions.sum()
        assert bool(trajectory.terminated[b]) is not bool(actions[-1])


@pytest.mark.parametrize("holds", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_slow_late_and_disconnecting_simulators_do_not_bias_the_gradient(simulators: Simulators, holds: bool) -> None:
    """Returns grow with the length here, so a preference for short episodes would be visible."""
    over = threading.Event()

    def slowly(sent: int) -> bool:
        time.sleep(0.0005 * (sent % 4))
        return over.is_set()

    def briefly(sent: int) -> bool:  # disconnects when its episodes have begun, independent of their returns
        return sent == 1 or over.is_set()

    def come_and_go() -> None:
        while not over.is_set():
            ScriptedSimulator(simulators.target, 2, holds=holds, before=briefly).join(10)

    ScriptedSimulator(simulators.target, 4, holds=holds, before=lambda _: over.is_set())
    ScriptedSimulator(simulators.target, 1, holds=holds, before=slowly)
    simulators.wait()
    coming = threading.Thread(target=come_and_go, daemon=True)
    coming.start()
    found, lost = [], 0
    for seed in range(60):
        trajectory, missing = played(simulators, 40, seed)
        found.append(gradients(trajectory))
        lost += missing
    over.set()  # the end of the run ends the sessions that wait for a response
    estimates = np.concatenate(found)
    error = estimates.std(ddof=1) / np.sqrt(len(estimates))
    assert abs(estimates.mean() - exact_gradient(P)) < 4 * error
    assert error < 0.1 * exact_gradient(P), "the interval is narrow enough"
    assert lost > 10


def test_other_simulators_play_the_remaining_episodes_of_a_disconnected_one(simulators: Simulators) -> None:
    stays = ScriptedSimulator(simulators.target, 1, before=lambda _: time.sleep(0.002))
    leaves = ScriptedSimulator(simulators.target, 4, before=lambda sent: sent == 2)
    wait_until(lambda: len(simulators.connected) == 2)
    trajectory, lost = played(simulators, 50)
    leaves.join(20)
    assert leaves.sent == 2
    assert 0 < lost <= 4
    assert stays.steps >= trajectory.lengths.sum() - 8


def test_waiting_simulators_take_over_from_the_last_player(simulators: Simulators) -> None:
    """A simulator may reconnect before the server notices that its old connection is dead."""
    over = threading.Event()
    leaves = ScriptedSimulator(simulators.target, 1, before=lambda _: over.wait(0.002))
    trajectories: list[Trajectory] = []
    playing = threading.Thread(target=lambda: trajectories.append(played(simulators, 60)[0]), daemon=True)
    playing.start()
    wait_until(lambda: leaves.steps > 20)
    waiting = [ScriptedSimulator(simulators.target, rows) for rows in (1, 2)]
    wait_until(lambda: len(simulators.connected) == 3 and all(one.sent for one in waiting))
    assert [one.steps for one in waiting] == [0, 0], "all episodes are assigned already"
    over.set()
    playing.join(30)
    assert [len(trajectory.lengths) for trajectory in trajectories] == [60]
    assert all(one.steps for one in waiting)


def test_a_run_waits_for_a_simulator(simulators: Simulators) -> None:
    ScriptedSimulator(simulators.target, 2, before=lambda sent: sent == 3)
    simulators.wait()
    later = threading.Timer(1.0, lambda: ScriptedSimulator(simulators.target, 1))
    later.start()
    trajectory, _ = played(simulators, 30)
    later.join()
    assert trajectory.lengths.sum() > 30


def test_a_new_simulator_plays_from_the_next_batch(simulators: Simulators) -> None:
    first = ScriptedSimulator(simulators.target, 1)
    simulators.wait()
    played(simulators, 5)
    second = ScriptedSimulator(simulators.target, 1)
    wait_until(lambda: [one.environments for one in simulators.connected] == [1, 1])
    before = first.steps
    trajectory, _ = played(simulators, 10, seed=1)
    assert second.steps > 0
    assert first.steps - before < trajectory.lengths.sum()


def test_evaluating_a_policy_learned_from_simulators_needs_an_environment(
    simulators: Simulators, tmp_path: Path
) -> None:
    ScriptedSimulator(simulators.target, 2)
    simulators.wait()
    training = run_to_end(Training(Config(env_id="streak", **SETTINGS | {"envs": 2, "episodes": 2}), source=simulators))
    training.export(tmp_path)
    command = [sys.executable, "-m", "pgkeras", "evaluate", str(tmp_path), "--episodes", "3"]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 1
    assert "learned from connected simulators: serve it with pgkeras serve" in refused.stderr
    environment = ["--env", "tests.simulators.scripted:Streak-v0"]
    played = subprocess.run([*command, *environment], capture_output=True, text=True, timeout=60, check=False)
    assert played.returncode == 0, played.stderr


def test_an_error_of_the_policy_ends_the_run(simulators: Simulators) -> None:
    class Failing(Coin):
        def act(self, observation: NDArray[Any], noise: NDArray[np.float32], state: Any) -> Any:
            raise MemoryError("no room")

    ScriptedSimulator(simulators.target, 2)
    simulators.wait()
    with pytest.raises(MemoryError, match="no room"):
        simulators.collector(Failing()).collect(3, np.random.SeedSequence(0))


def test_more_environments_than_episodes_take_turns(simulators: Simulators) -> None:
    players = [ScriptedSimulator(simulators.target, 2, timeout=3.0) for _ in range(3)]
    simulators.wait()
    simulators.collector(Coin())
    wait_until(lambda: len(simulators._hub.ready_sessions) == 3)
    for seed in range(6):
        played(simulators, 2, seed)
    assert [one.episodes for one in simulators.connected] == [4, 4, 4]
    assert all(player.failure is None for player in players)


@pytest.mark.parametrize("every", [0, 1])
def test_the_turn_depends_on_the_epoch(tmp_path: Path, every: int) -> None:
    """The turn must not change after a resume or with evaluations, if there are fewer episodes than environments."""
    settings = {**SETTINGS, "envs": 5, "episodes": 2, "evaluation_episodes": 3, "checkpoint_seconds": 0}

    def taught(directory: Path, most: int | None = None, **more: Any) -> Training:
        with Simulators("streak", ServerConfig(port=0, drain_seconds=1.0)) as listening:
            ScriptedSimulator(listening.target, 5)
            listening.wait()
            config = Config(env_id="streak", **settings, **more)
            training = Training(config, directory, source=listening, resume=directory.exists())
            assert list(itertools.islice(training, most))
            training.finish()
        return training

    undisturbed = taught(tmp_path / "undisturbed")
    taught(tmp_path / "run", 3, evaluation_every=every)
    resumed = taught(tmp_path / "run", evaluation_every=every)
    assert_same_arrays(resumed._learner.state(), undisturbed._learner.state())
    assert resumed.epoch == undisturbed.epoch > 5


def test_waiting_messages_are_sent_while_others_play(simulators: Simulators) -> None:
    """Waking the session does not delay the messages."""
    ScriptedSimulator(simulators.target, 1, before=lambda _: time.sleep(0.01))
    simulators.wait()
    waits = ScriptedSimulator(simulators.target, 1, timeout=3.0)
    simulators.collector(Coin())
    wait_until(lambda: len(simulators._hub.ready_sessions) == 2)
    session = simulators._hub.ready_sessions[1]
    until = time.monotonic() + 5
    while time.monotonic() < until:
        simulators._loop.call_soon_threadsafe(session.wake)
        time.sleep(0.1)
    assert waits.is_alive()
    assert waits.failure is None


def test_evaluations_play_greedily_and_do_not_train(simulators: Simulators) -> None:
    settings = {**SETTINGS, "envs": 2, "episodes": 2}
    ScriptedSimulator(simulators.target, 2)
    simulators.wait()
    without = Training(Config(env_id="streak", **settings), source=simulators)
    epochs = iter(without)
    next(epochs)
    before = without.policy.weights()
    evaluation = without.evaluate(6)
    assert len(evaluation.returns) == 6
    assert len(set(evaluation.returns.tolist())) == 1, "the most probable action is always the same here"
    for mine, now in zip(before, without.policy.weights(), strict=True):
        np.testing.assert_array_equal(mine, now)
    next(epochs)
    without.finish()


def test_waiting_messages_prevent_a_timeout(simulators: Simulators) -> None:
    player = ScriptedSimulator(simulators.target, 1, timeout=3.0)
    simulators.wait()
    time.sleep(5.0)  # building or updating a policy may take this long
    trajectory, _ = played(simulators, 3)
    assert player.failure is None
    assert trajectory.steps > 0


class Hundred(gymnasium.Env[Any, Any]):
    """Episodes of 100 steps. The observation is the number of steps."""

    observation_space = gymnasium.spaces.Box(0.0, 100.0, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.taken = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        self.taken += 1
        time.sleep(0.001)
        return np.full(2, self.taken, np.float32), 1.0, self.taken == 100, False, {}


class EnoughError(Exception):
    """Ends a batch."""


@pytest.mark.parametrize("patience", [0.0, 0.5])
def test_whole_episodes_are_played_after_an_interrupted_batch(simulators: Simulators, patience: float) -> None:
    simulator, over = Simulator([Hundred() for _ in range(3)]), threading.Event()

    def play() -> None:
        with PolicyClient(simulators.target, timeout=20.0) as client, contextlib.suppress(ServerUnavailableError):
            simulator.run(client, over.is_set, patience=0.0)  # until the run is over

    player = threading.Thread(target=play, daemon=True)
    player.start()
    simulators.wait()

    def enough(steps: int, episodes: int) -> None:
        if steps > 150:
            raise EnoughError

    with pytest.raises(EnoughError):
        simulators.collector(Coin(), enough).collect(50, np.random.SeedSequence(0))
    time.sleep(patience)
    trajectory, _ = played(simulators, 7)
    assert trajectory.lengths.tolist() == [100] * 7
    np.testing.assert_array_equal(trajectory.episode_returns, 100)
    np.testing.assert_array_equal(trajectory.observations[:, :, 0], np.tile(np.arange(100)[:, None], 7))
    over.set()


@pytest.mark.parametrize("in_thread", [False, True])
def test_each_simulator_receives_the_actions_for_its_observations(in_thread):
    go = threading.Event()

    class Echo:
        def act(self, observation, noise, state):
            assert go.wait(60)
            return observation, 10 * observation, state + 1

    async def ask():
        batch = Batch(Echo(), 9, np.random.SeedSequence(0), in_thread, 10**6)
        observations = [np.arange(n, dtype=np.float32)[:, np.newaxis] + 100 * n for n in (1, 3, 2, 4)]
        tasks = [asyncio.create_task(batch.act(o, np.zeros((len(o), 1), np.float32), -o)) for o in observations]
        await asyncio.sleep(0)
        tasks.pop(1).cancel()  # its simulator has disconnected
        observations.pop(1)
        go.set()
        async with asyncio.timeout(60):
            return observations, [await task for task in tasks]

    for observation, (samples, actions, state) in zip(*asyncio.run(ask()), strict=True):
        np.testing.assert_array_equal(samples, observation)
        np.testing.assert_array_equal(actions, 10 * observation)
        np.testing.assert_array_equal(state, 1 - observation)


def test_episodes_that_never_end_are_an_error():
    with Simulators("hundred", ServerConfig(port=0, drain_seconds=1.0), endless_steps=50) as simulators:

        def play():
            with PolicyClient(simulators.target, timeout=60.0) as client, contextlib.suppress(ServerUnavailableError):
                Simulator([Hundred() for _ in range(2)]).run(client, lambda: False, patience=0.0)

        playing = threading.Thread(target=play, daemon=True)
        playing.start()
        simulators.wait()
        with pytest.raises(EnvironmentStepError, match="no episode of any simulator ended within 50 steps"):
            simulators.collector(Coin()).collect(4, np.random.SeedSequence(0))
    playing.join(60)
