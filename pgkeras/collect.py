"""Phase one: play whole episodes with the frozen policy, by sampling from it.

Which episodes train the network is fixed before they are played: slot i plays its quota. (Taking the first N episodes
to finish would favour short ones.)
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pgkeras import noise as noise_source
from pgkeras.environments import Environments, Transition
from pgkeras.errors import EnvironmentStepError
from pgkeras.spec import PolicySpec
from pgkeras.trajectory import Trajectory

__all__ = ["Actor", "Collector"]


class Actor(Protocol):
    """Whatever chooses actions: a policy in training, an exported one, or one behind a server."""

    @property
    def spec(self) -> PolicySpec:
        """What it observes and does."""

    def sample(self, observation: NDArray[Any], noise: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Chooses for a batch.

        Args:
            observation: ``[B, ...]`` as the act graph takes them.
            noise: ``[B, spec.noise_size]``, to sample with.

        Returns:
            Samples, which log-probabilities are taken of, and actions, which are played; each ``[B, ...]``.
        """


class Collector:
    """Plays whole episodes in all slots of some environments at once.

    Args:
        environments: The environments.
        actor: What chooses the actions. It must not change while episodes are played.
    """

    def __init__(self, environments: Environments, actor: Actor) -> None:
        self._environments = environments
        self._actor = actor
        self._tape = _Tape(environments.slots, 1024)
        self.idle_steps = 0

    def collect(self, episodes: int, seed: np.random.SeedSequence) -> Trajectory:
        """Plays ``episodes`` episodes: the same ones for the same seed and weights.

        Slot i plays every ``slots``-th of them, one after the other, and then idles until all slots are done.

        Raises:
            EnvironmentStepError: The environment raised, or gave an observation or reward that is not finite.
        """
        slots, spec = self._environments.slots, self._actor.spec
        words = seed.generate_state(slots + 4, np.uint32)
        generator = noise_source.seeded(int.from_bytes(words[:2].tobytes(), "little"))
        left = np.array([(episodes - i + slots - 1) // slots for i in range(slots)])
        live = left > 0
        observations = self._reset([int(word) >> 1 for word in words[4:]])
        noise = noise_source.draw(generator, spec, 0)
        tape = self._tape
        t = 0
        while live.any():
            if t % _NOISE_STEPS == 0:
                noise = noise_source.draw(generator, spec, _NOISE_STEPS * slots)
            row = noise[(t % _NOISE_STEPS) * slots :][:slots]
            seen = spec.to_graph(observations)
            samples, actions = self._actor.sample(seen, row)
            tape.before(t, seen, samples)
            try:
                step = self._environments.step(spec.from_graph(actions), live)
            except Exception as error:  # an environment may raise anything
                raise self._failure(f"step {t}", error) from error
            ended = (step.terminated | step.truncated) & step.real
            tape.after(t, step, ended)
            observations = step.observations
            t += 1
            if ended.any():
                left = left - ended
                live = left > 0
        trajectory = tape.cut(t, episodes)
        self.idle_steps = t * slots - trajectory.steps
        _check_finite(_name(self._environments), trajectory)
        return trajectory

    def _reset(self, seeds: list[int]) -> NDArray[Any]:
        try:
            observations = self._environments.reset(seeds)
        except Exception as error:  # an environment may raise anything
            raise self._failure("reset", error) from error
        expected = (self._environments.slots, *self._actor.spec.observation_space.shape)
        if observations.shape != expected:
            message = (
                f"{_name(self._environments)}: expected observations of shape {expected}, got {observations.shape}"
            )
            raise EnvironmentStepError(message)
        return observations

    def _failure(self, where: str, error: Exception) -> EnvironmentStepError:
        return EnvironmentStepError(f"{_name(self._environments)} failed at {where}: {type(error).__name__}: {error}")


_NOISE_STEPS = 256  # how many steps' noise is drawn at once


class _Tape:
    """What happened in each slot at each step, in memory that is used again; ``cut`` makes episodes of it."""

    def __init__(self, slots: int, steps: int) -> None:
        self._slots = slots
        self._size = steps
        self._arrays: dict[str, NDArray[Any]] = {
            "rewards": np.zeros((steps, slots)),
            "terminated": np.zeros((steps, slots), np.bool_),
            "ended": np.zeros((steps, slots), np.bool_),
            "real": np.zeros((steps, slots), np.bool_),
        }

    def before(self, t: int, observations: NDArray[Any], samples: NDArray[Any]) -> None:
        """Notes what was seen and drawn at step t."""
        if t == self._size:
            self._arrays = {k: np.concatenate([v, np.zeros_like(v)]) for k, v in self._arrays.items()}
            self._size *= 2
        if "samples" not in self._arrays:
            for name, array in (("observations", observations), ("samples", samples)):
                self._arrays[name] = np.zeros((self._size, *array.shape), array.dtype)
        self._arrays["observations"][t] = observations
        self._arrays["samples"][t] = samples

    def after(self, t: int, step: Transition, ended: NDArray[np.bool_]) -> None:
        """Notes what came of it."""
        arrays = self._arrays
        arrays["rewards"][t], arrays["terminated"][t] = step.rewards, step.terminated
        arrays["ended"][t], arrays["real"][t] = ended, step.real

    def cut(self, steps: int, episodes: int) -> Trajectory:
        """The episodes on the first ``steps`` steps, in the order of their slots."""
        tape = {name: array[:steps] for name, array in self._arrays.items()}
        # Slot-major lists of real steps: episode after episode, and slot after slot.
        slot, time = np.nonzero(tape["real"].T)
        last = np.flatnonzero(tape["ended"][time, slot])
        lengths = np.diff(last, prepend=-1)
        assert len(lengths) == episodes, "every slot plays its quota to the end"
        longest = int(lengths.max())
        index = np.minimum((last - lengths + 1) + np.arange(longest)[:, np.newaxis], len(time) - 1)
        rows, columns = time[index], slot[index]
        mask = np.arange(longest)[:, np.newaxis] < lengths
        return Trajectory(
            observations=tape["observations"][rows, columns],
            samples=tape["samples"][rows, columns],
            rewards=np.where(mask, tape["rewards"][rows, columns], 0.0),
            lengths=lengths.astype(np.int64),
            terminated=tape["terminated"][time[last], slot[last]],
        )


def _check_finite(name: str, trajectory: Trajectory) -> None:
    mask = trajectory.mask
    for field, array in (("observation", trajectory.observations), ("reward", trajectory.rewards)):
        finite = np.isfinite(array).reshape(*mask.shape, -1).all(axis=-1)
        if not (finite | ~mask).all():
            step, episode = np.argwhere(mask & ~finite)[0]
            raise EnvironmentStepError(
                f"{name}: {field} is not finite at step {step} of episode {episode} of this epoch"
            )


def _name(environments: Environments) -> str:
    return environments.spec.id if environments.spec is not None else "the environment"
