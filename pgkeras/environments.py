"""Environments: several copies of one gymnasium environment, stepped side by side.

Two ways, which look the same to the collector: an environment's own vector entry point, where there is one (CartPole:
a million steps a second), and otherwise plain environments stepped one after the other in this process, which beats
worker processes for all but heavy simulators.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from pgkeras.errors import EnvironmentSetupError
from pgkeras.trajectory import Tape

__all__ = ["Environments", "PlainEnvironments", "VectorEnvironments", "make", "make_one"]

_T = TypeVar("_T")


class Environments(Protocol):
    """Copies of one environment, each in a slot of its own."""

    @property
    def slots(self) -> int:
        """How many there are."""

    @property
    def observation_space(self) -> gymnasium.Space[Any]:
        """The observation space of one copy."""

    @property
    def action_space(self) -> gymnasium.Space[Any]:
        """The action space of one copy."""

    @property
    def spec(self) -> gymnasium.envs.registration.EnvSpec | None:
        """The registered specification, or None for an environment that was never registered."""

    @property
    def gap(self) -> int:
        """How many steps of a slot lie between an episode's last and the next one's first: 1 if a reset takes one."""

    @property
    def lockstep(self) -> bool:
        """Whether slots are stepped all together, live or not."""

    def reset(self, seeds: Sequence[int], tape: Tape) -> None:
        """Starts a new episode in every slot from that slot's seed, and writes the observations to row 0."""

    def step(self, t: int, actions: NDArray[Any], live: NDArray[np.bool_], tape: Tape) -> bool:
        """Steps the live slots; the others may be stepped too, which nobody reads.

        What came of it is written to row ``t`` of the tape, and what to act on next to row ``t + 1`` of its
        observations: after an episode's end, the first observation of the next (once the gap has passed).

        Returns:
            Whether an episode ended in any slot.
        """

    def close(self) -> None:
        """Frees what the environments hold."""


class PlainEnvironments:
    """Environments stepped one after the other; one whose episode ended is reset at once, within the same step."""

    gap = 0
    lockstep = False

    def __init__(self, environments: Sequence[gymnasium.Env[Any, Any]]) -> None:
        self._environments = list(environments)
        first = self._environments[0]
        self.observation_space, self.action_space, self.spec = first.observation_space, first.action_space, first.spec
        self.slots = len(self._environments)
        self._discrete = isinstance(self.action_space, gymnasium.spaces.Discrete)

    def reset(self, seeds: Sequence[int], tape: Tape) -> None:
        """See :meth:`Environments.reset`."""
        for i, (env, seed) in enumerate(zip(self._environments, seeds, strict=True)):
            _put(tape.observations, 0, i, env.reset(seed=seed)[0])

    def step(self, t: int, actions: NDArray[Any], live: NDArray[np.bool_], tape: Tape) -> bool:
        """See :meth:`Environments.step`."""
        # Native integers, which environments handle faster than NumPy's.
        choices = actions.tolist() if self._discrete else actions
        any_ended = False
        for i, env in enumerate(self._environments):
            if live[i]:
                observation, tape.rewards[t, i], terminated, truncated, _ = env.step(choices[i])
                if terminated or truncated:
                    any_ended = tape.ended[t, i] = True
                    tape.terminated[t, i] = terminated
                    tape.final_observations[t, i] = np.array(observation)  # which a reset may write over
                    observation = env.reset()[0]
                _put(tape.observations, t + 1, i, observation)
        return any_ended

    def close(self) -> None:
        """See :meth:`Environments.close`."""
        for env in self._environments:
            env.close()


class VectorEnvironments:
    """A gymnasium vector environment, in any of its autoreset modes."""

    lockstep = True

    def __init__(self, environment: VectorEnv[Any, Any, Any]) -> None:
        self._environment = environment
        self.observation_space, self.action_space = (
            environment.single_observation_space,
            environment.single_action_space,
        )
        self.spec = environment.spec
        self.slots = environment.num_envs
        self._mode = environment.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        self.gap = int(self._mode is AutoresetMode.NEXT_STEP)
        self._ended = np.zeros(self.slots, np.bool_)
        # Some vector environments have one generator for all slots and take one seed.
        self._one_seed = not hasattr(environment, "envs") and not hasattr(environment, "env_fns")

    def reset(self, seeds: Sequence[int], tape: Tape) -> None:
        """See :meth:`Environments.reset`."""
        self._ended[:] = False
        # gymnasium types the seed as an integer, and takes one per copy where each has a generator of its own.
        seed: Any = seeds[0] if self._one_seed else list(seeds)
        _put(tape.observations, 0, slice(None), self._environment.reset(seed=seed)[0])

    def step(self, t: int, actions: NDArray[Any], live: NDArray[np.bool_], tape: Tape) -> bool:
        """See :meth:`Environments.step`."""
        observations, tape.rewards[t], tape.terminated[t], truncated, info = self._environment.step(actions)
        ended = tape.terminated[t] | truncated
        if self.gap:
            # The step after an episode's end ignores the action and gives the next episode's first observation.
            ended &= ~self._ended
            self._ended = ended
        any_ended = bool(ended.any())
        if any_ended:
            tape.ended[t] = ended
            finals = info["final_obs"] if self._mode is AutoresetMode.SAME_STEP else observations
            for i in np.flatnonzero(ended).tolist():
                tape.final_observations[t, i] = np.array(finals[i])
            if self._mode is AutoresetMode.DISABLED:
                observations, _ = self._environment.reset(options={"reset_mask": ended})
        _put(tape.observations, t + 1, slice(None), observations)
        return any_ended

    def close(self) -> None:
        """See :meth:`Environments.close`."""
        self._environment.close()


def make(env_id: str, slots: int, vectorization: str = "auto", max_episode_steps: int | None = None) -> Environments:
    """Makes ``slots`` copies of an environment.

    Args:
        env_id: A gymnasium id, or ``module:id`` to import the module that registers it first.
        slots: How many copies.
        vectorization: "vector" for the environment's vector entry point, "plain" for plain copies, "auto" for the
            former where there is one and ``slots`` is more than 1.
        max_episode_steps: When episodes are truncated; None for the environment's own limit.

    Raises:
        EnvironmentSetupError: The id is unknown, it has no vector entry point, or its environment cannot be made.
    """
    has_entry_point = _find_spec(env_id).vector_entry_point is not None
    if vectorization == "vector" and not has_entry_point:
        raise EnvironmentSetupError(f"{env_id} has no vector entry point; use vectorization=plain")
    if vectorization == "vector" or (vectorization == "auto" and has_entry_point and slots > 1):
        mode = gymnasium.VectorizeMode.VECTOR_ENTRY_POINT
        options: dict[str, Any] = {} if max_episode_steps is None else {"max_episode_steps": max_episode_steps}
        return VectorEnvironments(
            _made(env_id, lambda: gymnasium.make_vec(env_id, slots, vectorization_mode=mode, **options))
        )
    return PlainEnvironments([make_one(env_id, max_episode_steps) for _ in range(slots)])


def make_one(env_id: str, max_episode_steps: int | None = None) -> gymnasium.Env[Any, Any]:
    """Makes one environment; see :func:`make`."""
    _find_spec(env_id)
    return _made(env_id, lambda: gymnasium.make(env_id, max_episode_steps=max_episode_steps, disable_env_checker=True))


def _put(observations: NDArray[Any], t: int, slot: int | slice, observation: Any) -> None:
    """Writes one observation, or all of a step; refuses what would be broadcast to fit, or lose its fractions."""
    row = observations[t, slot, ...]
    array = observation if isinstance(observation, np.ndarray) else np.asarray(observation)
    if array.shape != row.shape:
        raise ValueError(f"expected an observation of shape {row.shape}, got {array.shape}")
    if array.dtype == row.dtype:
        row[...] = array
    else:
        np.copyto(row, array, casting="same_kind")


def _find_spec(env_id: str) -> gymnasium.envs.registration.EnvSpec:
    # gymnasium.make takes module:id, but gymnasium.spec does not.
    module, _, name = env_id.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except Exception as error:  # a module may raise anything
            raise EnvironmentSetupError(
                f"{env_id}: cannot import module {module!r}, which should register it: {type(error).__name__}: {error}"
            ) from error
    try:
        return gymnasium.spec(name)
    except gymnasium.error.Error as error:
        near = difflib.get_close_matches(name, gymnasium.registry, n=3, cutoff=0.6)
        advice = f"did you mean {' or '.join(near)}?" if near else "list them with: pgkeras doctor --environments"
        if name.startswith("ALE/"):
            advice = f'install Atari games with: pip install "gymnasium[atari]", and name it ale_py:{name}'
        raise EnvironmentSetupError(f"environment {env_id!r} is unknown to gymnasium; {advice}") from error


def _made(env_id: str, build: Callable[[], _T]) -> _T:
    try:
        return build()
    except gymnasium.error.DependencyNotInstalled as error:
        extra = re.search(r"gymnasium\[([\w-]+)\]", str(error))
        command = f'pip install "gymnasium[{extra[1]}]"' if extra else str(error)
        raise EnvironmentSetupError(
            f"{env_id} needs packages that are not installed; install them with: {command}"
        ) from error
    except ModuleNotFoundError as error:
        raise EnvironmentSetupError(
            f"{env_id} needs the module {error.name!r}, which is not installed; install it, or the gymnasium extra "
            'that the environment belongs to, such as: pip install "gymnasium[mujoco]"'
        ) from error
    except Exception as error:  # an environment's constructor may raise anything
        raise EnvironmentSetupError(
            f"{env_id}: its environment cannot be made: {type(error).__name__}: {error}"
        ) from error
