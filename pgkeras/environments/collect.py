"""Phase one: plays whole episodes by sampling from the frozen policy.

The episodes to train on are fixed before they are played: each slot plays its quota. Taking the first N episodes that
finish would favor short episodes.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pgkeras.engines import noise as noise_source
from pgkeras.engines.state import start_over
from pgkeras.environments import Environments, name_of
from pgkeras.environments.check import describe_error
from pgkeras.environments.restarting import RestartingEnvironments
from pgkeras.environments.trajectory import Tape, Trajectory
from pgkeras.errors import EnvironmentStepError, InvalidRequestError
from pgkeras.settings.groups import EnvironmentSettings
from pgkeras.spaces import Dict, Tuple
from pgkeras.spaces.layout import graph_dtype
from pgkeras.spaces.spec import PolicySpec, check_mask

__all__ = ["Actor", "Choice", "Collector", "Watch", "quotas"]

logger = logging.getLogger(__name__)


Choice = tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]


class Actor(Protocol):
    """Chooses actions: a policy in training, an exported policy, or a policy behind a server.

    An actor is stateless. The caller keeps the recurrent state of a policy with memory.
    """

    @property
    def spec(self) -> PolicySpec:
        """The spaces of the observations and actions."""

    def act(self, observation: NDArray[Any], noise: NDArray[np.float32], state: NDArray[Any] | None) -> Choice:
        """Chooses actions for a batch.

        Args:
            observation: ``[B, ...]``, the input of the act graph.
            noise: ``[B, spec.noise_size]``, noise for sampling.
            state: ``[B, ...]``, the next state of the previous step, with zeros in the rows whose episode begins; None
                if all episodes begin, and for a policy without memory.

        Returns:
            The samples, for log-probabilities; the actions to play; and the next state, None for a policy without
            memory. Each is ``[B, ...]``.
        """


class Watch(Protocol):
    """Callback that runs at every step while episodes are played. An exception that it raises ends the collection."""

    def __call__(self, steps: int, episodes: int) -> None:
        """Receives the number of steps so far, summed over all slots, and the number of finished episodes."""


class Collector:
    """Plays whole episodes in all slots of the environments at the same time.

    Args:
        environments: The environments to step.
        actor: Chooses the actions. It must not change while episodes are played.
        watch: Callback that runs at every step.
        endless_steps: Steps per slot without the end of an episode after which collection fails.
        first: Index of the first of these slots among all slots, if other processes play the rest.
        slots: Total number of slots in all processes; None if these environments have all of them.

    Attributes:
        idle_steps: Steps of the last batch that belong to no episode, in environments that step all slots together.
        episodes_lost: Always 0: when an environment fails, the run ends or all episodes are played again.
        step_seconds: Mean time of one environment step in one slot in the last batch.
    """

    def __init__(
        self,
        environments: Environments,
        actor: Actor,
        watch: Watch | None = None,
        endless_steps: int = EnvironmentSettings.endless_steps,
        *,
        first: int = 0,
        slots: int | None = None,
    ) -> None:
        self._environments = environments
        self._own_slots = slice(first, first + environments.slots)
        self._all_slots = environments.slots if slots is None else slots
        self._actor = actor
        self._watch = watch
        self._endless_steps = endless_steps
        self._check_steps = (endless_steps // 10, endless_steps)
        self._tape = Tape(environments.slots, actor.spec.layout)
        self.idle_steps = self.episodes_lost = 0
        self.step_seconds = 0.0

    def collect(self, episodes: int, seed: np.random.SeedSequence) -> Trajectory:
        """Plays ``episodes`` episodes. The same seed and weights give the same episodes.

        Slot i plays every ``slots``-th episode, one after the other, and then idles until all slots are done. The
        episodes of a slot depend only on the seed and the slot's index, so the slots can be split over processes. If
        the environments fail and can be restarted (:class:`RestartingEnvironments`), all episodes are played again.

        Raises:
            EnvironmentStepError: The environment raised an error, or returned an observation or reward that is not
                finite.
        """
        while True:
            try:
                return self._play(episodes, seed)
            except EnvironmentStepError as error:
                environments = self._environments
                if not (isinstance(environments, RestartingEnvironments) and environments.restart(error)):
                    raise

    def _play(self, episodes: int, seed: np.random.SeedSequence) -> Trajectory:
        environments, actor, tape = self._environments, self._actor, self._tape
        slots, all_slots = environments.slots, self._all_slots
        seeds = seed.generate_state(all_slots + 4, np.uint32)[4:][self._own_slots]  # after the 4 words of the noise
        quota = quotas(episodes, all_slots)[self._own_slots]
        remaining, total = quota, int(quota.sum())
        space = actor.spec.action_space
        casts = isinstance(space, Dict | Tuple) or space.dtype != graph_dtype(space.dtype)
        since_end = environments.gap + 1  # steps from an episode's last step to the next episode's first in a slot
        tape.clear()
        try:
            environments.reset([int(word) >> 1 for word in seeds], tape)
        except (Exception, SystemExit) as error:  # an environment may raise anything
            raise _failure(environments, "reset", error) from error
        t = last_end = -1
        stepped = slots if environments.lockstep else int(np.count_nonzero(remaining))
        steps, played, seconds = 0, 0, 0.0
        state: NDArray[Any] | None = None
        for noise in noise_source.steps(noise_source.of_batch(seed), actor.spec, all_slots):
            t += 1
            if t == tape.size:
                tape.grow()
            if state is not None and t >= since_end:
                state = start_over(state, tape.ended[t - since_end])
            samples, actions, state = self._act(t, noise[self._own_slots], state)
            tape.put_samples(t, samples)
            if casts:
                actions = actor.spec.from_graph(actions)
            began = time.perf_counter()
            try:
                any_ended = environments.step(t, actions, remaining, tape)
            except (Exception, SystemExit) as error:  # an environment may raise anything
                raise _failure(environments, f"step {t}", error) from error
            seconds += time.perf_counter() - began
            steps += stepped
            if any_ended:
                remaining = np.maximum(remaining - tape.ended[t], 0)
                if not remaining.any():
                    break
                if not environments.lockstep:
                    stepped = int(np.count_nonzero(remaining))
                if (so_far := total - int(remaining.sum())) > played:  # ignores slots that have met their quota
                    played, last_end = so_far, t
            if t - last_end in self._check_steps:
                self._warn_of_endless(t - last_end)
            if self._watch is not None:
                self._watch(steps, played)
        trajectory = tape.cut(quota, environments.gap)
        self.idle_steps = steps - trajectory.steps
        self.step_seconds = seconds / steps
        _check(name_of(environments), actor.spec, trajectory)
        return trajectory

    def _act(self, t: int, noise: NDArray[np.float32], state: NDArray[Any] | None) -> Choice:
        """Returns the actor's choice at step t. Engines raise an error for integers that are out of range."""
        rows, layout = self._tape.observations[t], self._actor.spec.layout
        try:
            return self._actor.act(rows, noise, state)
        except Exception as error:
            inside = layout.inside(rows)
            if inside.all():
                raise
            slot = int(inside.argmin())
            part, what = layout.outside(rows[slot])
            raise EnvironmentStepError(
                f"{name_of(self._environments)}: {part} is outside its space after {t} steps in slot {slot}: it holds "
                f"{what}"
            ) from error

    def _warn_of_endless(self, steps: int) -> None:
        """Warns if no episode has ended for 10 % of ``endless_steps``, and raises at 100 %."""
        name, advice = name_of(self._environments), "limit their length with --set max_episode_steps=N"
        if steps < self._endless_steps:
            logger.warning("%s: no episode has ended for %d steps; if episodes never end, %s", name, steps, advice)
            return
        raise EnvironmentStepError(
            f"{name}: no episode ended within {steps:,} steps (endless_steps); training needs whole episodes: {advice}"
        )


def quotas(episodes: int, slots: int) -> NDArray[np.int64]:
    """Returns how many episodes each slot plays, ``[slots]``: slot i plays episodes i, i + slots, i + 2 slots, ..."""
    return (episodes - np.arange(slots) + slots - 1) // slots


def _failure(environments: Environments, where: str, error: BaseException) -> EnvironmentStepError:
    own = isinstance(error, EnvironmentStepError)
    what = str(error) if own else describe_error(error)
    return EnvironmentStepError(f"{name_of(environments)} failed at {where}: {what}")


def _check(name: str, spec: PolicySpec, trajectory: Trajectory) -> None:
    mask, layout = trajectory.mask, spec.layout
    observations, rewards, finals = trajectory.observations, trajectory.rewards, trajectory.final_observations
    for array, right, fault, explain in (
        (observations, _finite(observations, 2), "is not finite", layout.not_finite),
        (observations, layout.inside(observations), "is outside its space", layout.outside),
        (rewards, np.isfinite(rewards), "is not finite", lambda reward: ("reward", str(reward))),
    ):
        if not (right | ~mask).all():
            step, episode = np.argwhere(mask & ~right)[0]
            part, what = explain(array[step, episode])
            raise EnvironmentStepError(
                f"{name}: {part} {fault} at step {step} of episode {episode} of this epoch: it holds {what}"
            )
    # Terminal observations are not used. The final observation of a truncated episode may be bootstrapped from.
    for right, fault, explain in (
        (_finite(finals, 1), "is not finite", layout.not_finite),
        (layout.inside(finals), "is outside its space", layout.outside),
    ):
        if not (right | trajectory.terminated).all():
            episode = int((~right & ~trajectory.terminated).argmax())
            part, what = explain(finals[episode])
            raise EnvironmentStepError(
                f"{name}: final {part} {fault} after step {trajectory.lengths[episode] - 1} of episode {episode} of "
                f"this epoch, which was truncated: it holds {what}"
            )
    if spec.mask_size:
        masks = trajectory.observations[..., -spec.mask_size :]
        try:
            check_mask(masks[mask], spec)
        except InvalidRequestError as error:
            raise EnvironmentStepError(f"{name}: an action mask is invalid: {error}") from error


def _finite(array: NDArray[Any], axes: int) -> NDArray[np.bool_]:
    """Returns whether all numbers behind the first ``axes`` axes are finite, with the shape of those axes."""
    return np.asarray(np.isfinite(array).reshape(*array.shape[:axes], -1).all(axis=-1))
