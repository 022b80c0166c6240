"""Phase one: play whole episodes with the frozen policy, by sampling from it.

Which episodes train the network is fixed before they are played: slot i plays its quota. (Taking the first N episodes
to finish would favour short ones.)
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
    """Whatever chooses actions: a policy in training, an exported one, or one behind a server.

    It remembers nothing from step to step. What a policy with memory remembers, whoever plays the episodes keeps.
    """

    @property
    def spec(self) -> PolicySpec:
        """The spaces of its observations and actions."""

    def act(self, observation: NDArray[Any], noise: NDArray[np.float32], state: NDArray[Any] | None) -> Choice:
        """Chooses for a batch.

        Args:
            observation: ``[B, ...]`` as the act graph takes them.
            noise: ``[B, spec.noise_size]``, to sample with.
            state: ``[B, ...]``, the next state of the step before, with zeros in the rows whose episode begins; None
                where all begin, and for a policy without memory.

        Returns:
            Samples, which log-probabilities are taken of, actions, which are played, and the next state, which is None
            for a policy without memory; each ``[B, ...]``.
        """


class Watch(Protocol):
    """Is told of every step while episodes are played. What it raises ends the playing."""

    def __call__(self, steps: int, episodes: int) -> None:
        """Takes note of the steps so far, of all slots together, and of the episodes that are done."""


class Collector:
    """Plays whole episodes in all slots of some environments at once.

    Args:
        environments: The environments.
        actor: What chooses the actions. It must not change while episodes are played.
        watch: Is told of every step.
        endless_steps: Steps of each slot without the end of an episode after which to give up.
        first: Which of all slots the first of these environments plays, where others play elsewhere.
        slots: How many slots there are in all; None for those of these environments.

    Attributes:
        idle_steps: Steps of the last batch that belong to no episode, in environments that step all slots together.
        episodes_lost: Always 0: when an environment fails, the run ends or all episodes are played again.
        step_seconds: Mean time that the environments took for one step of one slot in the last batch.
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
        self._here = slice(first, first + environments.slots)
        self._all_slots = environments.slots if slots is None else slots
        self._actor = actor
        self._watch = watch
        self._endless_steps = endless_steps
        self._looks = (endless_steps // 10, endless_steps)
        self._tape = Tape(environments.slots, actor.spec.layout)
        self.idle_steps = self.episodes_lost = 0
        self.step_seconds = 0.0

    def collect(self, episodes: int, seed: np.random.SeedSequence) -> Trajectory:
        """Plays ``episodes`` episodes: the same ones for the same seed and weights.

        Slot i plays every ``slots``-th of them, one after the other, and then idles until all slots are done. What each
        plays follows from the seed and its number alone, so that it does not matter which slots are played here. If the
        environments fail and can be made again (:class:`RestartingEnvironments`), all are played again.

        Raises:
            EnvironmentStepError: The environment raised, or gave an observation or reward that is not finite.
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
        slots, every = environments.slots, self._all_slots
        words = seed.generate_state(every + 4, np.uint32)[4:][self._here]
        quota = quotas(episodes, every)[self._here]
        remaining, here = quota, int(quota.sum())
        acted = actor.spec.action_space
        casts = isinstance(acted, Dict | Tuple) or acted.dtype != graph_dtype(acted.dtype)
        since_end = environments.gap + 1  # steps from an episode's last one to the next one's first, in the same slot
        tape.clear()
        try:
            environments.reset([int(word) >> 1 for word in words], tape)
        except (Exception, SystemExit) as error:  # an environment may raise anything
            raise _failure(environments, "reset", error) from error
        t = last_end = -1
        stepped = slots if environments.lockstep else int(np.count_nonzero(remaining))
        steps, played, seconds = 0, 0, 0.0
        state: NDArray[Any] | None = None
        for rows in noise_source.steps(noise_source.of_batch(seed), actor.spec, every):
            t += 1
            if t == tape.size:
                tape.grow()
            if state is not None and t >= since_end:
                state = start_over(state, tape.ended[t - since_end])
            samples, actions, state = self._act(t, rows[self._here], state)
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
                if (so_far := here - int(remaining.sum())) > played:  # not of a slot that has nothing left to play
                    played, last_end = so_far, t
            if t - last_end in self._looks:
                self._warn_of_endless(t - last_end)
            if self._watch is not None:
                self._watch(steps, played)
        trajectory = tape.cut(quota, environments.gap)
        self.idle_steps = steps - trajectory.steps
        self.step_seconds = seconds / steps
        _check(name_of(environments), actor.spec, trajectory)
        return trajectory

    def _act(self, t: int, noise: NDArray[np.float32], state: NDArray[Any] | None) -> Choice:
        """The actor's choice at step t, where engines refuse integers that they have no weights for."""
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
        """Warns when no episode has ended for a tenth of the steps after which to give up; at all of them, gives up."""
        name, advice = name_of(self._environments), "end them with --set max_episode_steps=N"
        if steps < self._endless_steps:
            logger.warning("%s: no episode has ended for %d steps; if they never do, %s", name, steps, advice)
            return
        raise EnvironmentStepError(
            f"{name}: no episode ended within {steps:,} steps (endless_steps); whole episodes are needed: {advice}"
        )


def quotas(episodes: int, slots: int) -> NDArray[np.int64]:
    """How many of some episodes each slot plays, ``[slots]``: slot i every ``slots``-th, from the i-th on."""
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
    # Nothing is computed from a terminal observation. A truncated episode's last one may be bootstrapped from.
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
            raise EnvironmentStepError(f"{name}: an action mask is wrong: {error}") from error


def _finite(array: NDArray[Any], axes: int) -> NDArray[np.bool_]:
    """Whether all numbers behind the first axes are finite, of the shape of those."""
    return np.asarray(np.isfinite(array).reshape(*array.shape[:axes], -1).all(axis=-1))
