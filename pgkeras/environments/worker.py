"""The worker process of :class:`pgkeras.environments.ProcessEnvironments`."""

from __future__ import annotations

import copy
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

import cloudpickle
import gymnasium

from pgkeras.environments.check import check_interface, describe_error
from pgkeras.environments.plain import seed_globals
from pgkeras.environments.rows import as_reward
from pgkeras.environments.single import make_one
from pgkeras.environments.wrappers import statistics_owner
from pgkeras.errors import PgkerasError
from pgkeras.settings.recipe import Recipe
from pgkeras.spaces.layout import ACTION_MASK

__all__ = ["StepResult", "work"]

View = tuple[Any, dict[str, Any]]  # an observation, and the part of the info that a policy uses


class StepResult(NamedTuple):
    """The result of a step."""

    next: View | None  # the next observation; after an episode's end, the first of the next episode, None without one
    reward: Any
    terminated: bool
    final: View | None  # the last observation if an episode ended


def work(pipe: Connection, recipe: Recipe, slots: list[int], path: list[str]) -> None:
    """Creates environments for some slots, and runs tasks until the pipe is closed.

    A task is a list: seeds, one per slot, for a reset; or ``(slot, action, has_next_episode)`` for a step of each slot;
    or an empty list for a check of the first environment. The response is ``(error message or None, results)``, where
    each result is paired with its slot.
    """
    # Terminals send SIGINT, and systemd and Slurm SIGTERM, to all processes; the main process closes the pipe when it
    # is done. Child processes of an environment can still be terminated, because they do not inherit this handler.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: None)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.path[:] = path
    try:
        environments = {slot: make_one(recipe) for slot in slots}
        first = environments[slots[0]]
        description = first.observation_space, first.action_space, statistics_owner(first)
        pipe.send((None, cloudpickle.dumps(description)))
    except Exception as error:  # an environment may raise anything
        pipe.send((str(error), None))
        return
    while True:
        try:
            task: list[Any] = pipe.recv()
        except (EOFError, OSError):
            break
        try:
            if not task:
                response: Any = (None, [(check_interface(environments[slots[0]], recipe.env_id), slots[0])])
            elif isinstance(task[0], int):
                seed_globals(task)
                resets = [environments[slot].reset(seed=seed) for slot, seed in zip(slots, task, strict=True)]
                response = (None, [(_view(*reset), slot) for reset, slot in zip(resets, slots, strict=True)])
            else:
                response = (None, [(_step(environments[slot], action, more), slot) for slot, action, more in task])
        except Exception as error:  # an environment may raise anything
            own = isinstance(error, PgkerasError)
            response = (str(error) if own else describe_error(error), None)
        try:
            try:
                pipe.send(response)
            except (BrokenPipeError, ConnectionError):
                raise
            except Exception as error:  # pickle may raise anything; nothing has been sent
                pipe.send((_describe_unpicklable(response[1], error), None))
        except (BrokenPipeError, ConnectionError):
            break
    for environment in environments.values():
        environment.close()


def _step(environment: gymnasium.Env[Any, Any], action: Any, has_next_episode: bool) -> StepResult:
    observation, reward, terminated, truncated, info = environment.step(action)
    if not (terminated or truncated):
        return StepResult(_view(observation, info), reward, False, None)
    final = copy.deepcopy(_view(observation, info))  # a reset may overwrite it
    return StepResult(_view(*environment.reset()) if has_next_episode else None, reward, bool(terminated), final)


def _describe_unpicklable(results: list[tuple[Any, int]], error: Exception) -> str:
    """Returns an error message for results that cannot be pickled, with the invalid reward if there is one."""
    for result, _ in results:
        if isinstance(result, StepResult):
            try:
                as_reward(result.reward)
            except PgkerasError as invalid_reward:
                return str(invalid_reward)
    return f"the result cannot be sent by the worker process: {describe_error(error)}; use vectorization=plain"


def _view(observation: Any, info: dict[str, Any]) -> View:
    return observation, {ACTION_MASK: info[ACTION_MASK]} if ACTION_MASK in info else {}


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)  # without waiting for the environments
