"""Environments stepped all together by a gymnasium vector environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from pgkeras.environments.protocol import Rows
from pgkeras.environments.trajectory import Tape
from pgkeras.spaces.layout import ACTION_MASK

__all__ = ["VectorEnvironments"]


class VectorEnvironments:
    """A gymnasium vector environment, in any of its autoreset modes.

    Args:
        environment: The vector environment.
        spec: The registered specification, where the environment does not know it.
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
        # Some vector environments have one generator for all slots and take one seed.
        self._one_seed = not hasattr(environment, "envs") and not hasattr(environment, "env_fns")

    def check(self) -> bool:
        """See :meth:`Environments.check`: gymnasium and EnvPool have checked their own."""
        return False

    def reset(self, seeds: Sequence[int], tape: Rows) -> None:
        """See :meth:`Environments.reset`."""
        self._ended[:] = False
        # gymnasium types the seed as an integer, and takes one per copy where each has a generator of its own.
        seed: Any = seeds[0] if self._one_seed else list(seeds)
        tape.put(0, slice(None), *self._environment.reset(seed=seed))

    def step(self, t: int, actions: Any, remaining: NDArray[np.int64], tape: Tape) -> bool:
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
            same_step = self._mode is AutoresetMode.SAME_STEP
            finals, final_info = (info["final_obs"], info.get("final_info", {})) if same_step else (observations, info)
            for i in np.flatnonzero(ended).tolist():
                tape.put_final(t, i, _row(finals, i), {key: _row(masks, i) for key, masks in _masks(final_info)})
            if self._mode is AutoresetMode.DISABLED:
                observations, begun = self._environment.reset(options={"reset_mask": ended})
                info = _merged(info, begun, ended)
        tape.put(t + 1, slice(None), observations, info)
        return any_ended

    def close(self) -> None:
        """See :meth:`Environments.close`."""
        self._environment.close()


def _merged(info: Mapping[str, Any], begun: Mapping[str, Any], ended: NDArray[np.bool_]) -> dict[str, Any]:
    """The observations of all slots after some were reset; a reset returns nothing for the others."""
    merged = {**info, **begun}
    for key, new in begun.items():
        old = info.get(key)
        if isinstance(new, Mapping) and isinstance(old, Mapping):
            merged[key] = _merged(old, new, ended)
        elif isinstance(new, np.ndarray) and isinstance(old, np.ndarray):
            merged[key] = np.where(ended.reshape(-1, *[1] * (new.ndim - 1)), new, old)
    return merged


def _masks(info: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Of the info, what a policy may use; the rest has any form."""
    return [(ACTION_MASK, info[ACTION_MASK])] if ACTION_MASK in info else []


def _row(batch: Any, i: int) -> Any:
    """The observation of slot i in a batch of structured observations."""
    if isinstance(batch, Mapping):
        return {key: _row(part, i) for key, part in batch.items()}
    if isinstance(batch, tuple) and not all(isinstance(part, str) for part in batch):
        return tuple(_row(part, i) for part in batch)
    return batch[i]
