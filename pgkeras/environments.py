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
from typing import Any, NamedTuple, Protocol, TypeVar

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from pgkeras.errors import EnvironmentSetupError

__all__ = ["Environments", "PlainEnvironments", "Transition", "VectorEnvironments", "make", "make_one"]

_T = TypeVar("_T")


class Transition(NamedTuple):
    """What one step of every slot gave. Rows of slots that were not stepped hold their last values."""

    observations: NDArray[Any]  # [slots, ...] what to act on next; a new episode's first after an episode's end
    rewards: NDArray[np.float64]  # [slots]
    terminated: NDArray[np.bool_]  # [slots] the episode ended in a terminal state
    truncated: NDArray[np.bool_]  # [slots] the episode was cut off
    real: NDArray[np.bool_]  # [slots] false where this was no step of an episode, but a reset or an idle slot


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

    def reset(self, seeds: Sequence[int]) -> NDArray[Any]:
        """Starts a new episode in every slot from that slot's seed; gives the observations ``[slots, ...]``."""

    def step(self, actions: NDArray[Any], live: NDArray[np.bool_]) -> Transition:
        """Steps the live slots. The others may be stepped too, but what comes of it is not real."""

    def close(self) -> None:
        """Frees what the environments hold."""


class PlainEnvironments:
    """Environments stepped one after the other; one whose episode ended is reset at once, within the same step."""

    def __init__(self, environments: Sequence[gymnasium.Env[Any, Any]]) -> None:
        self._environments = list(environments)
        first = self._environments[0]
        self.observation_space, self.action_space, self.spec = first.observation_space, first.action_space, first.spec
        self.slots = len(self._environments)
        self._discrete = isinstance(self.action_space, gymnasium.spaces.Discrete)
        self._rewards = np.zeros(self.slots)
        self._terminated = np.zeros(self.slots, np.bool_)
        self._truncated = np.zeros(self.slots, np.bool_)
        self._shape = self.observation_space.shape
        self._observations: NDArray[Any] = np.empty(0)

    def reset(self, seeds: Sequence[int]) -> NDArray[Any]:
        """See :meth:`Environments.reset`."""
        firsts = [env.reset(seed=seed)[0] for env, seed in zip(self._environments, seeds, strict=True)]
        observations = np.stack([np.asarray(first) for first in firsts])
        # An environment may begin with integers and go on with floats; not the other way round, which would lose them.
        self._observations = observations.astype(self.observation_space.dtype, casting="same_kind")
        self._terminated[:] = self._truncated[:] = False
        return self._observations

    def step(self, actions: NDArray[Any], live: NDArray[np.bool_]) -> Transition:
        """See :meth:`Environments.step`."""
        # Native integers, which environments handle faster than NumPy's.
        choices = actions.tolist() if self._discrete else actions
        for i, env in enumerate(self._environments):
            if live[i]:
                observation, reward, terminated, truncated, _ = env.step(choices[i])
                self._rewards[i], self._terminated[i], self._truncated[i] = reward, terminated, truncated
                following = env.reset()[0] if terminated or truncated else observation
                if np.shape(following) != self._shape:  # NumPy would stretch it to fit
                    raise ValueError(f"expected an observation of shape {self._shape}, got {np.shape(following)}")
                self._observations[i] = following
        return Transition(self._observations, self._rewards, self._terminated, self._truncated, live)

    def close(self) -> None:
        """See :meth:`Environments.close`."""
        for env in self._environments:
            env.close()


class VectorEnvironments:
    """A gymnasium vector environment, in any of its autoreset modes."""

    def __init__(self, environment: VectorEnv[Any, Any, Any]) -> None:
        self._environment = environment
        self.observation_space, self.action_space = (
            environment.single_observation_space,
            environment.single_action_space,
        )
        self.spec = environment.spec
        self.slots = environment.num_envs
        self._mode = environment.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        self._ended = np.zeros(self.slots, np.bool_)
        # Some vector environments have one generator for all slots and take one seed.
        self._one_seed = not hasattr(environment, "envs") and not hasattr(environment, "env_fns")

    def reset(self, seeds: Sequence[int]) -> NDArray[Any]:
        """See :meth:`Environments.reset`."""
        self._ended[:] = False
        # gymnasium types the seed as an integer, and takes one per copy where each has a generator of its own.
        seed: Any = seeds[0] if self._one_seed else list(seeds)
        return np.asarray(self._environment.reset(seed=seed)[0])

    def step(self, actions: NDArray[Any], live: NDArray[np.bool_]) -> Transition:
        """See :meth:`Environments.step`."""
        observations, rewards, terminated, truncated, _ = self._environment.step(actions)
        real = live
        if self._mode is AutoresetMode.NEXT_STEP:
            # The step after an episode's end ignores the action and gives the next episode's first observation.
            real = live & ~self._ended
            self._ended = (terminated | truncated) & real
        elif self._mode is AutoresetMode.DISABLED and (terminated | truncated).any():
            observations, _ = self._environment.reset(options={"reset_mask": terminated | truncated})
        return Transition(observations, rewards, terminated, truncated, real)

    def close(self) -> None:
        """See :meth:`Environments.close`."""
        self._environment.close()


def make(env_id: str, slots: int, vectorization: str = "auto") -> Environments:
    """Makes ``slots`` copies of an environment.

    Args:
        env_id: A gymnasium id, or ``module:id`` to import the module that registers it first.
        slots: How many copies.
        vectorization: "vector" for the environment's vector entry point, "plain" for plain copies, "auto" for the
            former where there is one and ``slots`` is more than 1.

    Raises:
        EnvironmentSetupError: The id is unknown, it has no vector entry point, or its environment cannot be made.
    """
    has_entry_point = _find_spec(env_id).vector_entry_point is not None
    if vectorization == "vector" and not has_entry_point:
        raise EnvironmentSetupError(f"{env_id} has no vector entry point; use vectorization=plain")
    if vectorization == "vector" or (vectorization == "auto" and has_entry_point and slots > 1):
        mode = gymnasium.VectorizeMode.VECTOR_ENTRY_POINT
        return VectorEnvironments(_made(env_id, lambda: gymnasium.make_vec(env_id, slots, vectorization_mode=mode)))
    return PlainEnvironments([make_one(env_id) for _ in range(slots)])


def make_one(env_id: str, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
    """Makes one environment; see :func:`make`."""
    _find_spec(env_id)
    # An environment that cannot render need not take a render_mode.
    options: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}
    return _made(env_id, lambda: gymnasium.make(env_id, disable_env_checker=True, **options))


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
    except Exception as error:  # an environment's constructor may raise anything
        raise EnvironmentSetupError(
            f"{env_id}: its environment cannot be made: {type(error).__name__}: {error}"
        ) from error
