"""Environments that are stepped together by a gymnasium vector environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from pgkeras.environments.check import check_interface
from pgkeras.environments.plain import seed_globals
from pgkeras.environments.protocol import Rows, name_of
from pgkeras.environments.trajectory import Tape
from pgkeras.spaces import actions_from_gymnasium
from pgkeras.spaces.layout import ACTION_MASK
from pgkeras.spaces.masks import flat_mask

__all__ = ["VectorEnvironments"]

_GIVEN = "_{}"  # gymnasium's key for the flags of the slots that returned a part of the info


class VectorEnvironments:
    """A gymnasium vector environment, in any of its autoreset modes.

    Args:
        environment: The vector environment.
        spec: The registered specification, if the environment does not have it.
    """

    lockstep = True

    def __init__(self, environment: VectorEnv[Any, Any, Any], spec: EnvSpec | None = None) -> None:
        self._environment = environment
        self.observation_space, self.action_space = (
            environment.single_observation_space,
            environment.single_action_space,
        )
        self.spec = spec or environment.spec
        self.slots = environment.num_envs
        self._mode = environment.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        self.gap = int(self._mode is AutoresetMode.NEXT_STEP)
        self._ended = np.zeros(self.slots, np.bool_)
        # Some vector environments have one generator for all slots, and accept one seed.
        self._one_seed = not hasattr(environment, "envs") and not hasattr(environment, "env_fns")

    def check(self) -> bool:
        """See :meth:`Environments.check`. Environments without Python copies are not checked."""
        environments: Sequence[Any] = getattr(self._environment, "envs", ())
        return bool(environments) and check_interface(environments[0], name_of(self))

    def reset(self, seeds: Sequence[int], tape: Rows) -> None:
        """See :meth:`Environments.reset`."""
        self._ended[:] = False
        seed_globals(seeds)
        # gymnasium types the seed as an integer, but accepts one per copy if each copy has a generator.
        seed: Any = seeds[0] if self._one_seed else list(seeds)
        observations, info = self._environment.reset(seed=seed)
        tape.put(0, slice(None), observations, self._with_all_masks(info))

    def step(self, t: int, actions: Any, remaining: NDArray[np.int64], tape: Tape) -> bool:
        """See :meth:`Environments.step`."""
        observations, tape.rewards[t], tape.terminated[t], truncated, info = self._environment.step(actions)
        ended = tape.terminated[t] | truncated
        if self.gap:
            # The step after an episode's end ignores the action and returns the next episode's first observation.
            ended &= ~self._ended
            self._ended = ended
        any_ended = bool(ended.any())
        if any_ended:
            tape.ended[t] = ended
            same_step = self._mode is AutoresetMode.SAME_STEP
            finals, final_info = (info["final_obs"], info.get("final_info", {})) if same_step else (observations, info)
            for i in np.flatnonzero(ended).tolist():
                mask = _mask_of(final_info, ACTION_MASK, i)
                tape.put_final(t, i, _row(finals, i), {} if mask is None else {ACTION_MASK: mask})
            if self._mode is AutoresetMode.DISABLED:
                observations, reset_info = self._environment.reset(options={"reset_mask": ended})
                info = _merge(info, reset_info, ended)
        tape.put(t + 1, slice(None), observations, self._with_all_masks(info))
        return any_ended

    def close(self) -> None:
        """See :meth:`Environments.close`."""
        self._environment.close()

    def _with_all_masks(self, info: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns the info with a mask for every slot. gymnasium has zeros, or None, for slots without a mask."""
        if _is_complete(info, ACTION_MASK):
            return info
        actions = actions_from_gymnasium(self.action_space)
        masks = [_mask_of(info, ACTION_MASK, i) for i in range(self.slots)]
        return {ACTION_MASK: np.stack([flat_mask(mask, actions, 0) for mask in masks])}


def _merge(info: Mapping[str, Any], reset_info: Mapping[str, Any], ended: NDArray[np.bool_]) -> dict[str, Any]:
    """Merges the info of a step with that of a partial reset, which has values only for the slots that were reset."""
    merged = {**info, **reset_info}
    if ACTION_MASK in info and ACTION_MASK not in reset_info:  # the masks of ended episodes are outdated
        merged[_GIVEN.format(ACTION_MASK)] = ~ended & info.get(_GIVEN.format(ACTION_MASK), True)
    for key, new in reset_info.items():
        old = info.get(key)
        if isinstance(new, Mapping) and isinstance(old, Mapping):
            merged[key] = _merge(old, new, ended)
        elif isinstance(new, np.ndarray) and isinstance(old, np.ndarray):
            merged[key] = np.where(ended.reshape(-1, *[1] * (new.ndim - 1)), new, old)
    return merged


def _is_complete(info: Mapping[str, Any], key: str) -> bool:
    """Returns whether a part of the info is missing, or is an array or structure of arrays with all slots' values."""
    if not np.all(info.get(_GIVEN.format(key), True)):
        return False
    part = info.get(key)
    if isinstance(part, Mapping):
        return all(_is_complete(part, inner) for inner in part)
    return part is None or np.asarray(part).dtype != object


def _mask_of(info: Mapping[str, Any], key: str, i: int) -> Any:
    """Returns the mask that the environment of slot i returned, or None."""
    given = info.get(_GIVEN.format(key))
    if key not in info or (given is not None and not given[i]):
        return None
    part = info[key]
    if not isinstance(part, Mapping):
        return _row(part, i)
    flags = {_GIVEN.format(inner) for inner in part}
    return {inner: _mask_of(part, inner, i) for inner in part if inner not in flags}


def _row(batch: Any, i: int) -> Any:
    """Returns the observation of slot i from a batch of structured observations."""
    if isinstance(batch, Mapping):
        return {key: _row(part, i) for key, part in batch.items()}
    if isinstance(batch, tuple) and not all(isinstance(part, str) for part in batch):
        return tuple(_row(part, i) for part in batch)
    return batch[i]
