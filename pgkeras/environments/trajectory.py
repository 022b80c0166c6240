"""Trajectory: a batch of whole episodes. Tape: the recording that they are cut from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgkeras.environments.rows import action_mask
from pgkeras.errors import EnvironmentStepError
from pgkeras.memory import available_bytes
from pgkeras.spaces.layout import Layout

__all__ = ["Tape", "Trajectory"]


class Trajectory(NamedTuple):
    """``B`` whole episodes side by side, padded to the ``T`` steps of the longest.

    In episode b, rows from ``lengths[b]`` on are padding. Rewards are 0 there; the other arrays have arbitrary values.
    """

    observations: NDArray[Any]  # [T, B, ...] inputs of the act graph
    samples: NDArray[Any]  # [T, B, ...] samples of the distribution; the action is a function of the sample
    rewards: NDArray[np.float64]  # [T, B] rewards of the actions; 0 in padding
    lengths: NDArray[np.int64]  # [B] steps in each episode, at least 1
    terminated: NDArray[np.bool_]  # [B] whether the episode ended in a terminal state; otherwise it was truncated
    final_observations: NDArray[Any]  # [B, ...] observations after the last action; the policy did not act on them

    @property
    def mask(self) -> NDArray[np.bool_]:
        """``[T, B]``: True for real steps, False for padding."""
        return np.arange(len(self.rewards))[:, np.newaxis] < self.lengths

    @property
    def steps(self) -> int:
        """Number of real steps."""
        return int(self.lengths.sum())

    @classmethod
    def join(cls, parts: Sequence[Trajectory]) -> Trajectory:
        """Concatenates the episodes of several trajectories, in order."""
        if len(parts) == 1:
            return parts[0]
        longest = max(len(part.rewards) for part in parts)

        def padded(name: str) -> NDArray[Any]:
            arrays = [getattr(part, name) for part in parts]
            rows = [[(0, longest - len(a)), *[(0, 0)] * (a.ndim - 1)] for a in arrays]
            return np.concatenate([np.pad(a, width) for a, width in zip(arrays, rows, strict=True)], axis=1)

        return cls(
            *(padded(name) for name in ("observations", "samples", "rewards")),
            *(np.concatenate([getattr(part, name) for part in parts]) for name in cls._fields[3:]),
        )

    @property
    def episode_returns(self) -> NDArray[np.float64]:
        """``[B]``: the sum of each episode's rewards, undiscounted."""
        return np.asarray(self.rewards.sum(axis=0))


class Tape:
    """Recording of every step of every slot. The memory grows as needed and is reused.

    Row t of ``observations`` is the policy's input at step t. Row t of the other arrays has its samples at that step
    and the results of the step.

    Args:
        slots: Number of environments that run side by side.
        layout: Layout of the observations.
    """

    def __init__(self, slots: int, layout: Layout) -> None:
        self.slots = slots
        self.size = 512
        self._layout = layout
        self.observations: NDArray[Any] = np.zeros((self.size + 1, slots, *layout.shape), layout.dtype)
        self.samples: NDArray[Any] | None = None  # allocated with the shape of the first samples
        self.rewards = np.zeros((self.size, slots))
        self.final_observations: dict[tuple[int, int], NDArray[Any]] = {}  # (step, slot) of the episode's end
        self.terminated = np.zeros((self.size, slots), np.bool_)
        self.ended = np.zeros((self.size, slots), np.bool_)  # terminated or truncated

    def clear(self) -> None:
        """Clears the ends of episodes. The other arrays are overwritten before they are read."""
        self.terminated[:] = self.ended[:] = False
        self.final_observations.clear()

    def grow(self) -> None:
        """Doubles the capacity.

        Raises:
            EnvironmentStepError: There is not enough memory.
        """
        arrays = (self.observations, self.rewards, *([] if self.samples is None else [self.samples]))
        size, free = sum(array.nbytes for array in arrays), available_bytes()
        if size + self.observations.nbytes > free:  # the added memory, and a second copy of one array
            raise EnvironmentStepError(
                f"the steps of this epoch take {size / 2**30:.1f} GB, and there is not enough memory to double that "
                f"({free / 2**30:.1f} GB are free): end episodes earlier with max_episode_steps=N, or use fewer envs"
            )
        for name in ("observations", "samples", "rewards", "terminated", "ended"):
            array = getattr(self, name)
            setattr(self, name, np.concatenate([array, np.zeros((self.size, *array.shape[1:]), array.dtype)]))
        self.size *= 2

    def put(self, t: int, slot: int | slice, observation: Any, info: Mapping[str, Any]) -> None:
        """Stores the observation, with its action mask, of one slot at step t; of all slots for ``slice(None)``.

        Raises:
            ValueError: The observation does not have the shape or type that the environment declares.
        """
        self._layout.write(self.observations[t, slot, ...], observation, self._mask(observation, info))

    def put_final(self, t: int, slot: int, observation: Any, info: Mapping[str, Any]) -> None:
        """Stores the final observation of an episode that ended at step t; see :meth:`put`."""
        row = np.zeros(self._layout.shape, self._layout.dtype)
        self._layout.write(row, observation, self._mask(observation, info))
        self.final_observations[t, slot] = row

    def _mask(self, observation: Any, info: Mapping[str, Any]) -> Any:
        return action_mask(observation, info) if self._layout.mask_size else None

    def put_samples(self, t: int, samples: NDArray[Any]) -> None:
        """Stores the samples drawn at step t."""
        if self.samples is None:
            self.samples = np.zeros((self.size, *samples.shape), samples.dtype)
        self.samples[t] = samples

    def cut(self, quota: NDArray[np.int64], gap: int) -> Trajectory:
        """Returns the first ``quota[i]`` episodes of every slot i, in the order of the slots.

        Args:
            quota: ``[slots]``.
            gap: Number of rows between the last step of an episode and the first of the next.
        """
        slot, end = np.nonzero(self.ended.T)
        first = np.flatnonzero(np.diff(slot, prepend=-1))
        rank = np.arange(len(slot)) - np.repeat(first, np.diff(first, append=len(slot)))
        start = np.where(rank == 0, 0, np.roll(end, 1) + 1 + gap)
        wanted = rank < quota[slot]
        return self.cut_out(slot[wanted], start[wanted], end[wanted])

    def cut_out(self, slot: NDArray[np.int64], start: NDArray[np.int64], end: NDArray[np.int64]) -> Trajectory:
        """Returns the episodes at the given positions.

        Args:
            slot: ``[B]``, the slots of the episodes.
            start: ``[B]``, their first steps.
            end: ``[B]``, their last steps, for which ``final_observations`` has entries.
        """
        assert self.samples is not None
        lengths = end - start + 1
        longest = int(lengths.max())
        columns: Any
        if len(slot) == self.slots and not start.any():
            rows: Any = slice(longest)  # the usual case: one episode per slot, each from the first row
            columns = slice(None)
        else:
            rows = np.minimum(start + np.arange(longest)[:, np.newaxis], end)
            columns = slot
        mask = np.arange(longest)[:, np.newaxis] < lengths
        return Trajectory(
            observations=self.observations[rows, columns].copy(),
            samples=self.samples[rows, columns].copy(),
            rewards=np.where(mask, self.rewards[rows, columns], 0.0),
            lengths=lengths.astype(np.int64),
            terminated=self.terminated[end, slot],
            final_observations=np.array(
                [self.final_observations[key] for key in zip(end.tolist(), slot.tolist(), strict=True)],
                self.observations.dtype,
            ),
        )
