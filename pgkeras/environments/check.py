"""Checks the return values of an environment once before training, and reports where it failed."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from pgkeras.environments.random_action import random_action
from pgkeras.environments.rows import action_mask, as_reward
from pgkeras.errors import EnvironmentSetupError, EnvironmentStepError

__all__ = ["check_interface", "check_spaces", "describe_error"]

_HERE = Path(__file__).parent
_OLD_GYM = (
    "this is the interface of the old Gym. Wrap the environment with shimmy.GymV21CompatibilityV0 (pip install "
    "shimmy), or use gymnasium's interface: reset(seed=..., options=...) returns (observation, info), and step(action) "
    "returns (observation, reward, terminated, truncated, info)"
)


def check_spaces(env: gymnasium.Env[Any, Any], env_id: str) -> None:
    """Checks that the environment's spaces are gymnasium spaces.

    Raises:
        EnvironmentSetupError: A space has another type; the message names it.
    """
    for name in ("observation_space", "action_space"):
        space = getattr(env, name, None)
        if not isinstance(space, gymnasium.Space):
            raise EnvironmentSetupError(
                f"{env_id}: {name} is {_kind(space)}, expected a space of gymnasium.spaces, such as "
                "gymnasium.spaces.Box(-1.0, 1.0, (3,)) or gymnasium.spaces.Dict({...})"
            )


def check_interface(env: gymnasium.Env[Any, Any], env_id: str) -> bool:
    """Resets and steps an environment once, and checks the return values. Leaves it in the middle of an episode.

    Returns:
        Whether the step returned an action mask.

    Raises:
        EnvironmentSetupError: A call fails, or does not return what gymnasium's interface requires.
    """
    try:
        begun = env.reset(seed=0)
    except TypeError as error:
        if "seed" not in str(error):
            raise _failed(env_id, "reset", error) from error
        raise EnvironmentSetupError(f"{env_id}: reset() accepts no seed: {_OLD_GYM}") from error
    except (Exception, SystemExit) as error:  # an environment may raise anything
        raise _failed(env_id, "reset", error) from error
    if not isinstance(begun, tuple) or len(begun) != 2:
        raise EnvironmentSetupError(f"{env_id}: reset() returned {_kind(begun)}, expected 2 values: {_OLD_GYM}")
    _check_info(env_id, "reset", begun[1])
    env.action_space.seed(0)
    try:
        stepped = env.step(random_action(env.action_space, action_mask(*begun)))
    except (Exception, SystemExit) as error:  # an environment may raise anything
        raise _failed(env_id, "step", error) from error
    if not isinstance(stepped, tuple) or len(stepped) != 5:
        raise EnvironmentSetupError(f"{env_id}: step() returned {_kind(stepped)}, expected 5 values: {_OLD_GYM}")
    observation, reward, terminated, truncated, info = stepped
    try:
        as_reward(reward)
    except EnvironmentStepError as error:
        raise EnvironmentSetupError(f"{env_id}: step(): {error}") from error
    for name, value in (("terminated", terminated), ("truncated", truncated)):
        if not isinstance(value, bool | np.bool_ | int) and not _is_flag(value):
            raise EnvironmentSetupError(f"{env_id}: step() returned {_kind(value)} as {name}, expected True or False")
    _check_info(env_id, "step", info)
    return action_mask(observation, info) is not None


def describe_error(error: BaseException) -> str:
    """Describes an error of user code with its location: "KeyError: 'x' (file.py, line 3, in step)"."""
    kind, words = type(error).__name__, str(error)
    return f"{kind}: {words}{_location_of(error)}" if words else f"{kind}{_location_of(error)}"


def _failed(env_id: str, method: str, error: BaseException) -> EnvironmentSetupError:
    return EnvironmentSetupError(f"{env_id} failed at {method}: {describe_error(error)}")


def _check_info(env_id: str, method: str, info: Any) -> None:
    if not isinstance(info, Mapping):
        raise EnvironmentSetupError(f"{env_id}: {method}() returned {_kind(info)} as info, expected a dictionary")


def _is_flag(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in "bui"


def _kind(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{len(value)} values"
    return "None" if value is None else f"an object of type {type(value).__name__}"


def _location_of(error: BaseException) -> str:
    """Returns where an error was raised; empty if it was raised in this package."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).parent != _HERE]
    own = [f for f in frames if "gymnasium" not in Path(f.filename).parts]
    if not (own or frames):
        return ""
    frame = (own or frames)[-1]
    return f" ({frame.filename}, line {frame.lineno}, in {frame.name})"
