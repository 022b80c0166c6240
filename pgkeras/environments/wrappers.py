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

__all__ = ["keeper_of_statistics", "unfit_for_vectors", "wrap", "wrap_vector"]

_STATISTICS = re.compile(r"_rms$|running_(mean|var)")  # obs_rms and return_rms in gymnasium's own


def wrap(env: gymnasium.Env[Any, Any], wrappers: Sequence[WrapperCall]) -> gymnasium.Env[Any, Any]:
    """Wraps one environment.

    Raises:
        EnvironmentSetupError: There is no such wrapper, or it refuses its arguments or the environment.
    """
    for call in wrappers:
        env = _apply(call, _find(call.name, "gymnasium.wrappers"), env)
        if not isinstance(env, gymnasium.Env):
            raise EnvironmentSetupError(f"wrapper {call.name}: made {type(env).__name__}, which is no gymnasium.Env")
    return env


def wrap_vector(env: VectorEnv[Any, Any, Any], wrappers: Sequence[WrapperCall]) -> VectorEnv[Any, Any, Any]:
    """Wraps a vector environment, by gymnasium's wrapper of the same name for these; see :func:`wrap`."""
    for call in wrappers:
        env = _apply(call, _find(call.name, "gymnasium.wrappers.vector"), env)
    return env


def unfit_for_vectors(wrappers: Sequence[WrapperCall]) -> str | None:
    """The name of the first wrapper that cannot wrap a vector environment, or None."""
    for call in wrappers:
        # Found first where it must be found in any case, so that a wrong name is not taken for an unfit wrapper.
        found = _find(call.name, "gymnasium.wrappers")
        if ":" not in call.name:
            found = getattr(importlib.import_module("gymnasium.wrappers.vector"), call.name, None)
        if not (isinstance(found, type) and issubclass(found, VectorWrapper)):
            return call.name
    return None


def keeper_of_statistics(env: Any) -> str | None:
    """The name of the outermost wrapper, or environment, that keeps statistics of what it has shown; None for none."""
    while env is not None:
        if any(_STATISTICS.search(name) or isinstance(value, RunningMeanStd) for name, value in vars(env).items()):
            return type(env).__name__
        env = env.env if isinstance(env, gymnasium.Wrapper | VectorWrapper) else None
    return None


def _find(name: str, home: str) -> Any:
    module_name, _, attribute = name.rpartition(":")
    try:
        module = importlib.import_module(module_name or home)
    except (Exception, SystemExit) as error:  # a module may raise anything
        raise EnvironmentSetupError(
            f"wrapper {name}: cannot import module {module_name!r}: {type(error).__name__}: {error}"
        ) from error
    found = getattr(module, attribute, None)
    if not callable(found):
        near = difflib.get_close_matches(attribute, dir(module), n=3, cutoff=0.6)
        advice = f"did you mean {' or '.join(near)}?" if near else "name one of your own as module:Name"
        raise EnvironmentSetupError(f"wrapper {name}: {module.__name__} has none of that name; {advice}")
    return found


def _apply(call: WrapperCall, wrapper: Any, env: Any) -> Any:
    try:
        return wrapper(env, **call.kwargs)
    except (Exception, SystemExit) as error:  # a wrapper may raise anything
        given = ", ".join(f"{key}={value!r}" for key, value in call.kwargs.items())
        raise EnvironmentSetupError(
            f"wrapper {call.name}({given}) cannot be applied: {type(error).__name__}: {error}"
        ) from error
