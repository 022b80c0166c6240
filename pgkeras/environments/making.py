"""Making environments from their ids, with an advice where that fails."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Callable
from typing import Any, TypeVar

import gymnasium

from pgkeras.environments.plain import PlainEnvironments
from pgkeras.environments.protocol import Environments
from pgkeras.environments.vector import VectorEnvironments
from pgkeras.errors import EnvironmentSetupError

__all__ = ["make", "make_one"]

_T = TypeVar("_T")


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
