"""A dry run: plays random actions with simulators, and reports the data that a policy would learn from."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.environments.trajectory import Trajectory
from pgkeras.simulators.source import Simulators
from pgkeras.spaces import ArraySpace, Box, Discrete
from pgkeras.spaces.masks import mask_parts
from pgkeras.spaces.sampling import draw_integers
from pgkeras.spaces.spec import ActionPart, PolicySpec

__all__ = ["RandomActor", "dry_run", "report"]


class RandomActor:
    """Draws random actions. Discrete actions and bounded numbers are uniform, under the action mask.

    Args:
        simulators: The simulators, whose spaces must be known.
        seed: Seed of the actions.
    """

    engine = "litert"  # fast enough to run on the event loop, like LiteRT

    def __init__(self, simulators: Simulators, seed: int) -> None:
        spaces = simulators.observation_space, simulators.action_space
        self.spec = PolicySpec.by_default(*spaces, simulators.mask_size)
        self._generator = np.random.default_rng(seed)

    def act(self, observation: NDArray[Any], noise: NDArray[np.float32], state: Any) -> tuple[Any, Any, None]:
        """See :meth:`pgkeras.environments.collect.Actor.act`."""
        allowed = {}
        if size := self.spec.mask_size:
            mask = observation[:, -size:] > 0
            allowed = {part.path: mask[:, part.start : part.stop] for part in mask_parts(self.spec.action_space)}
        actions = self.spec.packed([self._draw(part, len(noise), allowed.get(part.path)) for part in self.spec.parts])
        return actions, actions, None

    def _draw(self, part: ActionPart, rows: int, mask: NDArray[np.bool_] | None) -> NDArray[Any]:
        space = part.space
        if mask is not None:
            return self._draw_allowed(space, mask)
        if not (isinstance(space, Box) and space.dtype.kind == "f"):
            return draw_integers(space, rows, self._generator)
        with np.errstate(over="ignore"):  # a width that float32 cannot hold counts as unbounded
            bounded = np.isfinite((space.high - space.low).astype(np.float32))
        low, high = np.where(bounded, space.low, 0.0), np.where(bounded, space.high, 1.0)
        uniform = self._generator.uniform(low, high, (rows, *space.shape))
        normal = np.clip(self._generator.standard_normal((rows, *space.shape)), space.low, space.high)
        return np.where(bounded, uniform, normal).astype(np.float32)

    def _draw_allowed(self, space: ArraySpace, mask: NDArray[np.bool_]) -> NDArray[Any]:
        counts = [space.n] if isinstance(space, Discrete) else getattr(space, "nvec", np.zeros(0)).ravel().tolist()
        scores = np.where(mask, self._generator.random(mask.shape), -1.0)
        parts = np.split(scores, np.cumsum(counts)[:-1], axis=1)
        chosen = np.stack([part.argmax(axis=1) for part in parts], axis=1).reshape(-1, *space.shape)
        return np.asarray(chosen + getattr(space, "start", 0)).astype(space.dtype)


def dry_run(simulators: Simulators, episodes: int, seed: int) -> tuple[Trajectory, float]:
    """Plays episodes with random actions.

    Args:
        simulators: The simulators, whose spaces must be known.
        episodes: Number of episodes.
        seed: Seed of the actions.

    Returns:
        The episodes, and their duration in seconds.

    Raises:
        EnvironmentStepError: No episode ended for too long.
    """
    collector = simulators.collector(RandomActor(simulators, seed))
    began = time.monotonic()
    trajectory = collector.collect(episodes, np.random.SeedSequence(seed))
    return trajectory, time.monotonic() - began


def report(simulators: Simulators, trajectory: Trajectory, seconds: float) -> Iterator[str]:
    """Yields the lines of the report. Lines that begin with "Look:" are possible problems."""
    lengths, returns = trajectory.lengths, trajectory.episode_returns
    for one in simulators.connected:
        noun = "environment" if one.environments == 1 else "environments"
        yield f"simulator     {one.name or '(unnamed)'}, {one.environments} {noun}"
    yield f"observation   {simulators.observation_space}"
    yield f"action        {simulators.action_space}" + (", with masks" if simulators.mask_size else "")
    yield f"speed         {trajectory.steps / seconds:,.0f} steps/s, {trajectory.steps:,} steps in {seconds:.1f} s"
    yield f"episodes      {len(lengths)}, of {lengths.min()} to {lengths.max()} steps, {lengths.mean():.4g} on average"
    yield f"ends          {trajectory.terminated.sum()} terminated, {(~trajectory.terminated).sum()} truncated"
    yield f"returns       {returns.min():.4g} to {returns.max():.4g}, {returns.mean():.4g} on average"
    rewards = trajectory.rewards[trajectory.mask]
    if not rewards.any():
        yield "Look: every reward is 0: a policy cannot learn from that, unless rewards are too rare to appear here"
    elif np.ptp(returns) == 0 and len(returns) > 1:
        yield "Look: every episode returns the same, whatever the actions"
    if lengths.max() == 1:
        yield "Look: every episode ends after one step"
    yield from _check_observations(simulators.observation_space, simulators.mask_size, trajectory)


def _check_observations(space: Any, mask_size: int, trajectory: Trajectory) -> Iterator[str]:
    seen = trajectory.observations[trajectory.mask]
    seen = seen.reshape(len(seen), -1)
    seen = seen[:, : seen.shape[1] - mask_size]
    constant = int((seen == seen[0]).all(axis=0).sum())
    if constant and len(seen) > 1:
        yield f"Look: {constant} of {math.prod(seen.shape[1:])} numbers of the observation never changed"
    if isinstance(space, Box):
        outside = (seen < space.low.reshape(-1)) | (seen > space.high.reshape(-1))
        if outside.any():
            element = int(np.argmax(outside.any(axis=0)))
            worst = seen[:, element][outside[:, element]][0]
            low, high = space.low.reshape(-1)[element], space.high.reshape(-1)[element]
            bounds = f"outside its bounds {low:g} to {high:g}"
            yield f"Look: number {element} of the observation was {worst:.4g}, {bounds}"
