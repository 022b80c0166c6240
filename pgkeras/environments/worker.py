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
from pgkeras.environments.wrappers import keeper_of_statistics
from pgkeras.errors import PgkerasError
from pgkeras.settings.recipe import Recipe
from pgkeras.spaces.layout import ACTION_MASK

__all__ = ["StepResult", "work"]

Shown = tuple[Any, dict[str, Any]]  # an observation, and of the info what a policy may use


class StepResult(NamedTuple):
    """The outcome of a step."""

    shown: Shown | None  # what to act on next: after an episode's end, the first of the next, if there is to be one
    reward: Any
    terminated: bool
    final: Shown | None  # the last observation, where an episode ended


def work(pipe: Connection, recipe: Recipe, slots: list[int], path: list[str]) -> None:
    """Makes environments for some slots, and resets and steps them as told until the pipe is closed.

    A task is a list of seeds, one a slot; or of slots, each with its action and whether it is to play another episode
    after the one that it is in; or an empty one, which asks for a check of the first environment. An answer is a pair:
    what went wrong, or None; and what came of it, each with its slot.
    """
    # A terminal sends its interrupt to all processes, and systemd and Slurm their SIGTERM; the one in charge closes the
    # pipe when it is done. What an environment starts can still be terminated: it inherits no handler.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: None)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.path[:] = path
    try:
        environments = {slot: make_one(recipe) for slot in slots}
        first = environments[slots[0]]
        facts = first.observation_space, first.action_space, keeper_of_statistics(first)
        pipe.send((None, cloudpickle.dumps(facts)))
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
                answer: Any = (None, [(check_interface(environments[slots[0]], recipe.env_id), slots[0])])
            elif isinstance(task[0], int):
                seed_globals(task)
                resets = [environments[slot].reset(seed=seed) for slot, seed in zip(slots, task, strict=True)]
                answer = (None, [(_shown(*reset), slot) for reset, slot in zip(resets, slots, strict=True)])
            else:
                answer = (None, [(_step(environments[slot], action, another), slot) for slot, action, another in task])
        except Exception as error:  # an environment may raise anything
            own = isinstance(error, PgkerasError)
            answer = (str(error) if own else describe_error(error), None)
        try:
            try:
                pipe.send(answer)
            except (BrokenPipeError, ConnectionError):
                raise
            except Exception as error:  # pickle raises anything; nothing has been sent
                pipe.send((_unsendable(answer[1], error), None))
        except (BrokenPipeError, ConnectionError):
            break
    for environment in environments.values():
        environment.close()


def _step(environment: gymnasium.Env[Any, Any], action: Any, another: bool) -> StepResult:
    observation, reward, terminated, truncated, info = environment.step(action)
    if not (terminated or truncated):
        return StepResult(_shown(observation, info), reward, False, None)
    final = copy.deepcopy(_shown(observation, info))  # which a reset may write over
    return StepResult(_shown(*environment.reset()) if another else None, reward, bool(terminated), final)


def _unsendable(outcomes: list[tuple[Any, int]], error: Exception) -> str:
    """What is wrong with outcomes that cannot be pickled: a reward that is no number, as it would be told here."""
    for outcome, _ in outcomes:
        if isinstance(outcome, StepResult):
            try:
                as_reward(outcome.reward)
            except PgkerasError as wrong:
                return str(wrong)
    return f"what it returned cannot be sent by its process: {describe_error(error)}; use vectorization=plain"


def _shown(observation: Any, info: dict[str, Any]) -> Shown:
    return observation, {ACTION_MASK: info[ACTION_MASK]} if ACTION_MASK in info else {}


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)  # whatever the environments are at
