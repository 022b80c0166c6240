"""Collecting: scripted episodes through every kind of environment and autoreset."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from pgkeras import environments
from pgkeras.environments import Environments, PlainEnvironments, VectorEnvironments
from pgkeras.environments.collect import Choice, Collector
from pgkeras.environments.trajectory import Trajectory
from pgkeras.errors import EnvironmentSetupError, EnvironmentStepError
from pgkeras.spaces import actions_from_gymnasium, observations_from_gymnasium
from pgkeras.spaces.spec import DistributionKind, PolicySpec
from tests.environments.scripted import ENDED, Faulty, Scripted, reward_of

# Lengths of the episodes of each slot. With ten episodes, the slots play 3, 3, 2 and 2.
LENGTHS = [(3, 1, 5), (1, 1, 1), (40, 2), (7, 300)]
QUOTAS = [3, 3, 2, 2]


class ScriptedActor:
    """Acts by the observation or by the noise, and records the noise."""

    def __init__(self, environment: Environments, by_noise: bool = False) -> None:
        observation = observations_from_gymnasium(environment.observation_space)
        action = actions_from_gymnasium(environment.action_space)
        kind = DistributionKind.CATEGORICAL if action.shape == () else DistributionKind.DIAGONAL_GAUSSIAN
        self.spec = PolicySpec(observation, action, kind)
        self._by_noise = by_noise
        self.noise: list[NDArray[np.float32]] = []

    def act(self, observation: NDArray[Any], noise: NDArray[np.float32], state: Any) -> Choice:
        assert state is None
        self.noise.append(noise.copy())
        if self.spec.distribution is DistributionKind.DIAGONAL_GAUSSIAN:
            return noise, noise, None
        action = (noise[:, 0] > 0.5).astype(np.int64) if self._by_noise else choice(observation)
        return action, action, None


def choice(observation: NDArray[Any]) -> NDArray[np.int64]:
    return (np.nan_to_num(observation, posinf=0.0).sum(axis=-1) % 2).astype(np.int64)


def plain(**options: Any) -> Environments:
    return PlainEnvironments([Scripted(i, lengths, **options) for i, lengths in enumerate(LENGTHS)])


def synchronous(mode: AutoresetMode) -> Callable[..., Environments]:
    def make(**options: Any) -> Environments:
        makers = [lambda i=i, ls=ls: Scripted(i, ls, **options) for i, ls in enumerate(LENGTHS)]
        return VectorEnvironments(SyncVectorEnv(makers, autoreset_mode=mode))

    return make


KINDS = pytest.mark.parametrize(
    "make",
    [plain, *map(synchronous, AutoresetMode)],
    ids=["plain", *(f"vector {mode.value}" for mode in AutoresetMode)],
)


def check_scripted(trajectory: Trajectory, quotas: list[int], both: bool = False) -> None:
    """Checks every row against the script."""
    episodes = [(slot, e) for slot, quota in enumerate(quotas) for e in range(quota)]
    lengths = [LENGTHS[slot][e] for slot, e in episodes]
    assert trajectory.lengths.tolist() == lengths
    assert trajectory.terminated.tolist() == [both or e % 2 == 0 for _, e in episodes]
    assert trajectory.observations.shape == (max(lengths), len(episodes), 3)
    for b, (slot, e) in enumerate(episodes):
        for t in range(lengths[b]):
            observation = trajectory.observations[t, b]
            assert observation.tolist() == [slot, e, t]
            assert trajectory.samples[t, b] == choice(observation)
            assert trajectory.rewards[t, b] == reward_of(slot, e, t, int(trajectory.samples[t, b]))
        assert (trajectory.rewards[lengths[b] :, b] == 0).all()
    assert not (trajectory.observations[trajectory.mask][:, 2] == ENDED).any()
    assert trajectory.steps == sum(lengths)
    np.testing.assert_allclose(
        trajectory.episode_returns,
        [
            sum(reward_of(s, e, t, (s + e + t) % 2) for t in range(length))
            for (s, e), length in zip(episodes, lengths, strict=True)
        ],
    )


@KINDS
@pytest.mark.parametrize("both", [False, True])
def test_a_trajectory_is_the_scripted_episodes(make: Callable[..., Environments], both: bool) -> None:
    envs = make(both=both)
    collector = Collector(envs, ScriptedActor(envs))
    for epoch in range(2):  # the tape is reused
        check_scripted(collector.collect(10, np.random.SeedSequence(0, spawn_key=(epoch,))), QUOTAS, both)


@KINDS
@pytest.mark.parametrize(("episodes", "quotas"), [(1, [1]), (3, [1, 1, 1]), (4, [1, 1, 1, 1]), (5, [2, 1, 1, 1])])
def test_quotas_are_assigned_round_robin(make: Callable[..., Environments], episodes: int, quotas: list[int]) -> None:
    envs = make()
    check_scripted(Collector(envs, ScriptedActor(envs)).collect(episodes, np.random.SeedSequence(0)), quotas)


def test_the_tape_grows_beyond_its_initial_size() -> None:
    envs = PlainEnvironments([Scripted(0, (2500,)), Scripted(1, (3,))])
    trajectory = Collector(envs, ScriptedActor(envs)).collect(2, np.random.SeedSequence(0))
    assert trajectory.lengths.tolist() == [2500, 3]
    np.testing.assert_array_equal(trajectory.observations[:, 0, 2], np.arange(2500))


class Coin(gymnasium.Env[Any, Any]):
    """Episodes of 1 or 60 steps, each with probability 1/2."""

    observation_space = gymnasium.spaces.Box(0, 60, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._left = 60 if self.np_random.random() < 0.5 else 1
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._left -= 1
        return np.zeros(1, np.float32), 0.0, self._left == 0, False, {}


@pytest.mark.parametrize("episodes", [8, 24])
def test_short_episodes_are_not_favored(episodes: int) -> None:
    envs = PlainEnvironments([Coin() for _ in range(8)])
    collector = Collector(envs, ScriptedActor(envs))
    long = np.concatenate(
        [collector.collect(episodes, np.random.SeedSequence(s)).lengths for s in range(600 // episodes)]
    )
    # 600 fair coins: 4 standard deviations are 4 sqrt(600)/2 = 49. The first to finish would be mostly short.
    assert abs((long == 60).sum() - 300) < 49


def cartpole_next(state: NDArray[np.float64], action: int) -> NDArray[np.float64]:
    """Barto, Sutton & Anderson 1983, by Euler's method with 0.02 s: gravity 9.8, masses 1 and 0.1, half-length 0.5."""
    x, v, angle, turn = state
    force = 10.0 if action == 1 else -10.0
    sin, cos = math.sin(angle), math.cos(angle)
    push = (force + 0.05 * turn**2 * sin) / 1.1
    twist = (9.8 * sin - cos * push) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
    slide = push - 0.05 * twist * cos / 1.1
    return np.array([x + 0.02 * v, v + 0.02 * slide, angle + 0.02 * turn, turn + 0.02 * twist])


def fallen(state: NDArray[np.float64], margin: float) -> bool:
    return abs(state[0]) > 2.4 + margin or abs(state[2]) > 12 * 2 * math.pi / 360 + margin


def assert_obeys_cartpole(trajectory: Trajectory) -> None:
    """Every episode begins near the middle, obeys the equations, earns 1 per step and ends when the pole falls."""
    for b, length in enumerate(trajectory.lengths):
        states = trajectory.observations[:length, b].astype(np.float64)
        assert np.abs(states[0]).max() <= 0.05 + 1e-6
        assert (trajectory.rewards[:length, b] == 1).all()  # a reset's row, with reward 0, is not counted
        for t in range(length):
            following = cartpole_next(states[t], int(trajectory.samples[t, b]))
            if t + 1 < length:
                np.testing.assert_allclose(states[t + 1], following, atol=2e-6)
                assert not fallen(following, 1e-5)
        assert trajectory.terminated[b] == fallen(following, -1e-5)


@pytest.mark.parametrize(("slots", "vectorization"), [(6, "vector"), (6, "plain"), (1, "auto")])
def test_cartpole_episodes_obey_the_equations_of_motion(slots: int, vectorization: str) -> None:
    envs = environments.make("CartPole-v1", slots, vectorization)
    assert isinstance(envs, VectorEnvironments if vectorization == "vector" else PlainEnvironments)
    trajectory = Collector(envs, ScriptedActor(envs, by_noise=True)).collect(20, np.random.SeedSequence(3))
    assert len(trajectory.lengths) == 20
    assert len(set(trajectory.lengths.tolist())) > 3
    assert_obeys_cartpole(trajectory)
    envs.close()


def test_a_truncated_cartpole_episode_is_not_terminated() -> None:
    class Balancer(ScriptedActor):
        def act(self, observation: NDArray[Any], noise: NDArray[np.float32], state: Any) -> Choice:
            action = (observation @ np.array([0.1, 0.5, 5.0, 1.0]) > 0).astype(np.int64)
            return action, action, None

    for vectorization in ("vector", "plain"):
        envs = environments.make("CartPole-v1", 2, vectorization)
        trajectory = Collector(envs, Balancer(envs)).collect(4, np.random.SeedSequence(0))
        assert trajectory.lengths.tolist() == [500] * 4
        assert not trajectory.terminated.any()
        assert trajectory.steps == 2000


def assert_same(a: Trajectory, b: Trajectory) -> None:
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("vectorization", ["vector", "plain"])
def test_episodes_depend_on_the_seed_and_not_on_earlier_ones(vectorization: str) -> None:
    envs = environments.make("CartPole-v1", 3, vectorization)
    collector = Collector(envs, ScriptedActor(envs, by_noise=True))
    seeds = [np.random.SeedSequence(9, spawn_key=(epoch,)) for epoch in (0, 1)]
    first, second = collector.collect(7, seeds[0]), collector.collect(7, seeds[1])
    assert_same(collector.collect(7, seeds[0]), first)
    fresh = environments.make("CartPole-v1", 3, vectorization)
    assert_same(Collector(fresh, ScriptedActor(fresh, by_noise=True)).collect(7, seeds[1]), second)
    starts = np.concatenate([first.observations[0], second.observations[0]])
    assert len(np.unique(starts, axis=0)) == 14  # no two episodes begin alike


class Shared(Scripted):
    """Draws its rewards from the global generators of the process."""

    def step(self, action: Any) -> Any:
        observation, _, *rest = super().step(action)
        return observation, random.random() + float(np.random.random()), *rest


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("way", ["plain", "sync"])
def test_the_seed_determines_draws_from_global_generators(way: str, slots: int) -> None:
    gymnasium.register("Shared-v0", Shared)
    try:
        envs = environments.make("Shared-v0", slots, way)
        collector = Collector(envs, ScriptedActor(envs))
        first, again = (collector.collect(slots, np.random.SeedSequence(4)) for _ in range(2))
        assert_same(first, again)
        other = collector.collect(slots, np.random.SeedSequence(5))
        assert not np.array_equal(first.rewards, other.rewards)
    finally:
        del gymnasium.registry["Shared-v0"]


def test_seeds_are_unique_per_slot_epoch_and_run() -> None:
    slots = [Scripted(i) for i in range(4)]
    envs = PlainEnvironments(slots)
    collector = Collector(envs, ScriptedActor(envs))
    for run in range(3):
        for epoch in range(5):
            collector.collect(4, np.random.SeedSequence(run, spawn_key=(epoch,)))
    seeds = [seed for env in slots for seed in env.seeds]
    assert len(seeds) == len(set(seeds)) == 60
    assert all(type(seed) is int and 0 <= seed < 2**31 for seed in seeds)


def test_noise_is_fresh_for_every_step_slot_and_epoch() -> None:
    envs = PlainEnvironments([Scripted(0, (600,)), Scripted(1, (600,))])
    actor = ScriptedActor(envs)
    collector = Collector(envs, actor)
    for epoch in range(2):
        collector.collect(2, np.random.SeedSequence(0, spawn_key=(epoch,)))
    noise = np.concatenate(actor.noise)[:, 0]
    assert len(noise) == 2400
    # 2400 draws of 24 bits have n**2/2/2**24 = 0.17 expected collisions.
    assert len(np.unique(noise)) >= 2397


def test_steps_of_idle_slots_are_counted_separately() -> None:
    envs = synchronous(AutoresetMode.SAME_STEP)()
    collector = Collector(envs, ScriptedActor(envs))
    trajectory = collector.collect(10, np.random.SeedSequence(0))
    # Slot 3 plays 307 steps; the tape has 4 slots times that.
    assert collector.idle_steps == 4 * 307 - trajectory.steps


def test_actions_have_the_type_of_the_action_space() -> None:
    seen: list[Any] = []

    class Recording(Faulty):
        def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
            seen.append(action)
            return super().step(action)

    for kind in ("discrete", "continuous"):
        envs = PlainEnvironments([Recording(action=kind)])
        Collector(envs, ScriptedActor(envs)).collect(1, np.random.SeedSequence(0))
    assert all(type(action) is int for action in seen[:4])
    assert all(action.dtype == np.float64 and action.shape == (2,) for action in seen[4:])


def test_observations_keep_their_fractions_after_an_integer_start() -> None:
    envs = PlainEnvironments([Faulty("integers first")])
    trajectory = Collector(envs, ScriptedActor(envs)).collect(2, np.random.SeedSequence(0))
    assert trajectory.observations.dtype == np.float32
    assert trajectory.observations[:, :, 0].T.tolist() == [[0, 1.5, 2.5, 3.5]] * 2


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("step raises", r"step 1: OSError: the simulator is gone"),
        ("reset raises", r"reset: OSError: the simulator is gone"),
        ("second reset raises", r"step 3: OSError: the simulator is gone"),
        ("nan observation", r"observation is not finite at step 2 of episode 0"),
        ("infinite observation", r"observation is not finite at step 2 of episode 0"),
        ("nan reward", r"reward is not finite at step 1 of episode 0"),
        ("no reward", r"expected a number as reward, or an array of one element, got None"),
        ("shape", r"step 1.*\(3,\).*\(2,\)"),
        ("broadcast shape", r"step 1.*\(3,\).*\(1,\)"),
        ("scalar", r"step 1.*\(3,\).*\(\)"),
        ("first shape", r"\(3,\).*\(4,\)"),
        ("floats in bytes", r"reset: .*uint8"),
    ],
)
def test_a_failing_environment_is_named_with_the_step(fault: str, message: str) -> None:
    envs = environments.PlainEnvironments([gymnasium.make("Faulty-v0", fault=fault, disable_env_checker=True)])
    with pytest.raises(EnvironmentStepError, match=r"Faulty-v0.*" + message):
        Collector(envs, ScriptedActor(envs)).collect(2, np.random.SeedSequence(0))


@pytest.mark.parametrize(("episodes", "resets"), [(1, [1, 1]), (2, [1, 1]), (3, [2, 1]), (6, [3, 3])])
def test_there_is_no_reset_after_the_last_episode_of_a_slot(episodes: int, resets: list[int]) -> None:
    counts = [0, 0]

    def counting(slot: int) -> gymnasium.Env[Any, Any]:
        class Counting(Scripted):
            def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
                counts[slot] += 1
                return super().reset(**options)

        return Counting(slot, LENGTHS[slot])

    envs = PlainEnvironments([counting(0), counting(1)])
    Collector(envs, ScriptedActor(envs)).collect(episodes, np.random.SeedSequence(0))
    assert counts == resets


def test_an_environment_without_faults_passes() -> None:
    envs = environments.make("tests.environments.scripted:Faulty-v0", 2)
    assert Collector(envs, ScriptedActor(envs)).collect(3, np.random.SeedSequence(0)).lengths.tolist() == [4, 4, 4]


def test_a_failing_vector_environment_is_named_too() -> None:
    makers = [lambda: Scripted(0, (3,)), lambda: Faulty("step raises")]
    envs = VectorEnvironments(SyncVectorEnv(makers, observation_mode="different"))
    with pytest.raises(EnvironmentStepError, match=r"step 1: OSError: the simulator is gone"):
        Collector(envs, ScriptedActor(envs)).collect(2, np.random.SeedSequence(0))


def test_close_closes_every_environment() -> None:
    slots = [Scripted(i) for i in range(3)]
    PlainEnvironments(slots).close()
    assert all(slot.closed for slot in slots)


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("CartPoel-v1", "did you mean CartPole-v1"),
        ("cartpole", r"unknown environment 'cartpole'; did you mean CartPole-v1\? "),
        ("CartPole", r"did you mean CartPole-v1\? "),
        ("CartPole-v9", "CartPole-v1"),
        ("phys2d/CartPol-v1", r"did you mean phys2d/CartPole-v1"),
        ("Zzzzzz-v0", "pgkeras doctor --environments"),
        ("no_such_module:Foo-v0", "cannot import module 'no_such_module'"),
        ("tests.environments.scripted:Scriptde-v0", "did you mean Scripted-v0"),
        # The standard library hides a local ./textwrap.py.
        ("textwrap:Own-v0", r"\(the imported module textwrap is .*textwrap\.py\)"),
        ("tests.environments.scripted:NeedsMore-v0", r'pip install "gymnasium\[robots-and-more\]"'),
        ("ALE/Pong-v5", r'pip install "gymnasium\[atari\]"'),
        ("not an id", "unknown"),
        ("", "unknown"),
    ],
)
def test_environments_that_cannot_be_created(env_id: str, message: str) -> None:
    with pytest.raises(EnvironmentSetupError, match=message) as caught:
        environments.make(env_id, 2)
    assert env_id in str(caught.value)


def test_a_missing_vector_entry_point_is_an_error() -> None:
    with pytest.raises(EnvironmentSetupError, match="Pendulum-v1 has no vector entry point"):
        environments.make("Pendulum-v1", 2, "vector")
    assert isinstance(environments.make("Pendulum-v1", 2), PlainEnvironments)
    assert isinstance(environments.make("CartPole-v1", 2), VectorEnvironments)
    assert isinstance(environments.make("CartPole-v1", 1), PlainEnvironments)


def test_episodes_that_never_end_are_an_error() -> None:
    class Endless(gymnasium.Env[np.ndarray, Any]):
        observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, **_: Any) -> tuple[np.ndarray, dict[str, Any]]:
            return np.zeros(1, np.float32), {}

        def step(self, _action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
            return np.zeros(1, np.float32), 0.0, False, False, {}

    envs = PlainEnvironments([Endless()])
    with pytest.raises(EnvironmentStepError, match=r"no episode ended within 1,000 steps.*max_episode_steps"):
        Collector(envs, ScriptedActor(envs), endless_steps=1000).collect(1, np.random.SeedSequence(0))


class EndlessTwin(gymnasium.Env[np.ndarray, Any]):
    """Episodes of every second copy never end. Those of the other copies have five steps."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    copies = 0

    def __init__(self) -> None:
        EndlessTwin.copies += 1
        self._endless = not EndlessTwin.copies % 2

    def reset(self, **_: Any) -> tuple[np.ndarray, dict[str, Any]]:
        self._steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, _action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        return np.zeros(1, np.float32), 0.0, self._steps == 5 and not self._endless, False, {}


def test_idle_slots_do_not_hide_an_episode_that_never_ends() -> None:
    EndlessTwin.copies = 0
    envs = VectorEnvironments(SyncVectorEnv([EndlessTwin] * 2))
    with pytest.raises(EnvironmentStepError, match=r"no episode ended within 1,000 steps.*max_episode_steps"):
        Collector(envs, ScriptedActor(envs), endless_steps=1000).collect(2, np.random.SeedSequence(0))


@pytest.mark.parametrize("vectorization", ["vector", "plain"])
def test_episodes_are_truncated_at_max_episode_steps(vectorization: str) -> None:
    envs = environments.make("CartPole-v1", 4, vectorization, max_episode_steps=5)
    trajectory = Collector(envs, ScriptedActor(envs)).collect(4, np.random.SeedSequence(0))
    assert trajectory.lengths.max() == 5
    assert not trajectory.terminated[trajectory.lengths == 5].any()


class Buffered(gymnasium.Env[np.ndarray, Any]):
    """Episodes of three steps. All observations share one array."""

    observation_space = gymnasium.spaces.Box(-10.0, 10.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, length: int = 3) -> None:
        self.length = length
        self.buffer = np.zeros(1, np.float32)

    def reset(self, **_: Any) -> tuple[np.ndarray, dict[str, Any]]:
        self.buffer[0] = 0
        return self.buffer, {}

    def step(self, _action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.buffer[0] += 1
        return self.buffer, 0.0, self.buffer[0] == self.length, False, {}


def test_a_reset_does_not_overwrite_final_observations() -> None:
    envs = PlainEnvironments([Buffered()])
    trajectory = Collector(envs, ScriptedActor(envs)).collect(2, np.random.SeedSequence(0))
    assert trajectory.final_observations.tolist() == [[3.0], [3.0]]


def test_idle_steps_are_counted_in_lockstep_environments_only() -> None:
    plain = PlainEnvironments([Buffered(2), Buffered(9)])
    collector = Collector(plain, ScriptedActor(plain))
    assert collector.collect(2, np.random.SeedSequence(0)).lengths.tolist() == [2, 9]
    assert collector.idle_steps == 0  # the first slot was not stepped while the second played on
    vector = environments.make("CartPole-v1", 4, "vector")
    collector = Collector(vector, ScriptedActor(vector))
    lengths = collector.collect(4, np.random.SeedSequence(0)).lengths
    assert collector.idle_steps == 4 * lengths.max() - lengths.sum() > 0


def test_the_callback_receives_the_number_of_steps() -> None:
    taken: list[int] = []

    class Counted(Scripted):
        def step(self, action: Any) -> Any:
            taken.append(1)
            return super().step(action)

    envs = PlainEnvironments([Counted(i, lengths) for i, lengths in enumerate(LENGTHS)])
    reported: list[tuple[int, int]] = []
    collector = Collector(envs, ScriptedActor(envs), lambda steps, _: reported.append((steps, len(taken))))
    # Three slots play. The last of them plays on alone for most of the time.
    trajectory = collector.collect(3, np.random.SeedSequence(0))
    assert len(reported) == trajectory.lengths.max() - 1
    assert all(steps == counted for steps, counted in reported)


def test_a_missing_module_of_an_environment_is_named() -> None:
    def needy() -> None:
        import no_such_simulator  # noqa: F401

    gymnasium.register("Needy-v0", entry_point=needy)
    try:
        with pytest.raises(EnvironmentSetupError, match=r"Needy-v0 needs the module 'no_such_simulator'.*pip install"):
            environments.make("Needy-v0", 1)
    finally:
        del gymnasium.registry["Needy-v0"]


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_episodes_of_one_step_stay_within_their_epoch(mode: AutoresetMode) -> None:
    envs = VectorEnvironments(SyncVectorEnv([lambda i=i: Scripted(i, (1,)) for i in range(3)], autoreset_mode=mode))
    collector = Collector(envs, ScriptedActor(envs))
    for epoch in range(3):
        assert collector.collect(3, np.random.SeedSequence(epoch)).lengths.tolist() == [1, 1, 1]


gymnasium.register("SharedByModule-v0", Shared)


def test_the_seed_determines_draws_from_global_generators_in_workers() -> None:
    envs = environments.make(f"{__name__}:SharedByModule-v0", 3, "async", workers=1)
    try:
        collector = Collector(envs, ScriptedActor(envs))
        first, again = (collector.collect(3, np.random.SeedSequence(4)) for _ in range(2))
        assert_same(first, again)
    finally:
        envs.close()
