"""Finds wrappers by name and applies them."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Sequence
from typing import Any

import gymnasium
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.wrappers.utils import RunningMeanStd

from pgkeras.errors import EnvironmentSetupError
from pgkeras.settings.recipe import WrapperCall

__all__ = ["not_for_vectors", "statistics_owner", "wrap", "wrap_vector"]

_STATISTICS = re.compile(r"_rms$|running_(mean|var)")  # obs_rms and return_rms in gymnasium's wrappers


def wrap(env: gymnasium.Env[Any, Any], wrappers: Sequence[WrapperCall]) -> gymnasium.Env[Any, Any]:
    """Wraps one environment.

    Raises:
        EnvironmentSetupError: A wrapper does not exist, or raises an error.
    """
    for call in wrappers:
        env = _apply(call, _find(call.name, "gymnasium.wrappers"), env)
        if not isinstance(env, gymnasium.Env):
            raise EnvironmentSetupError(
                f"wrapper {call.name}: expected it to return a gymnasium.Env, got {type(env).__name__}"
            )
    return env


def wrap_vector(env: VectorEnv[Any, Any, Any], wrappers: Sequence[WrapperCall]) -> VectorEnv[Any, Any, Any]:
    """Wraps a vector environment with the gymnasium vector wrappers of the same names; see :func:`wrap`."""
    for call in wrappers:
        env = _apply(call, _find(call.name, "gymnasium.wrappers.vector"), env)
    return env


def not_for_vectors(wrappers: Sequence[WrapperCall]) -> str | None:
    """Returns the name of the first wrapper that cannot wrap a vector environment, or None."""
    for call in wrappers:
        found = _find(call.name, "gymnasium.wrappers")  # raises an error for a misspelled name
        if ":" not in call.name:
            found = getattr(importlib.import_module("gymnasium.wrappers.vector"), call.name, None)
        if not (isinstance(found, type) and issubclass(found, VectorWrapper)):
            return call.name
    return None


def statistics_owner(env: Any) -> str | None:
    """Returns the class name of the outermost wrapper or environment that keeps running statistics, or None."""
    while env is not None:
        if any(_STATISTICS.search(name) or isinstance(value, RunningMeanStd) for name, value in vars(env).items()):
            return type(env).__name__
        env = env.env if isinstance(env, gymnasium.Wrapper | VectorWrapper) else None
    return None


def _find(name: str, default_module: str) -> Any:
    module_name, _, attribute = name.rpartition(":")
    try:
        module = importlib.import_module(module_name or default_module)
    except (Exception, SystemExit) as error:  # a module may raise anything
        raise EnvironmentSetupError(
            f"wrapper {name}: cannot import module {module_name!r}: {type(error).__name__}: {error}"
        ) from error
    found = getattr(module, attribute, None)
    if not callable(found):
        similar = difflib.get_close_matches(attribute, dir(module), n=3, cutoff=0.6)
        advice = f"did you mean {' or '.join(similar)}?" if similar else "give your own wrapper as module:Name"
        raise EnvironmentSetupError(f"wrapper {name}: {module.__name__} has no wrapper {attribute!r}; {advice}")
    return found


def _apply(call: WrapperCall, wrapper: Any, env: Any) -> Any:
    try:
        return wrapper(env, **call.kwargs)
    except (Exception, SystemExit) as error:  # a wrapper may raise anything
        given = ", ".join(f"{key}={value!r}" for key, value in call.kwargs.items())
        raise EnvironmentSetupError(
            f"wrapper {call.name}({given}) cannot be applied: {type(error).__name__}: {error}"
        ) from error
