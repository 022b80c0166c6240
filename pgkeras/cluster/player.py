"""The class that runs in a Ray actor, and plays the episodes of some slots."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgkeras import __version__
from pgkeras.engines.litert import LiteRTEngine
from pgkeras.engines.sampling import Sampler, SamplingGraph
from pgkeras.environments import Environments, make
from pgkeras.environments.collect import Collector
from pgkeras.environments.trajectory import Trajectory
from pgkeras.settings.recipe import Recipe

__all__ = ["Part", "Player", "versions"]


class Part(NamedTuple):
    """The episodes of some slots, and their duration."""

    trajectory: Trajectory
    seconds: float


class Player:
    """Plays the episodes of some slots, with its own copies of the environment.

    Args:
        settings: The environment's settings, for :meth:`Recipe.read`.
        slots: Total number of slots of all actors.
        endless_steps: Steps per slot without the end of an episode after which collection fails.
    """

    def __init__(self, settings: Mapping[str, Any], slots: int, endless_steps: int) -> None:
        self._settings = settings
        self._slots = slots
        self._endless_steps = endless_steps
        self._environments: dict[int, Environments] = {}  # by their first slot
        self._collectors: dict[tuple[int, int], tuple[LiteRTEngine, Collector]] = {}  # by graph number and first slot

    def start(self, first: int, count: int) -> dict[str, str]:
        """Creates the environments of the actor's slots. Returns the versions in this process.

        Args:
            first: The first slot.
            count: Number of slots.

        Raises:
            EnvironmentSetupError: The environments cannot be created in this process.
        """
        self._environments_of(first, count)
        return versions()

    def play(
        self,
        first: int,
        count: int,
        number: int,
        graph: SamplingGraph,
        weights: Sequence[NDArray[Any]],
        episodes: int,
        seed: np.random.SeedSequence,
    ) -> Part:
        """Plays the episodes of some slots.

        Args:
            first: The first slot, of this actor or of one that has not started.
            count: Number of slots.
            number: Number of the graph: a run has one for sampling, and one for greedy evaluations.
            graph: The graph that chooses the actions.
            weights: The weights of the graph.
            episodes: Number of episodes of all slots of all actors.
            seed: Seed of the episodes.

        Raises:
            EnvironmentSetupError: The environments of another actor's slots cannot be created in this process.
            EnvironmentStepError: The environment failed.
        """
        began = time.perf_counter()
        if (number, first) not in self._collectors:
            sampler, engine = Sampler.of(graph)
            environments = self._environments_of(first, count)
            collector = Collector(
                environments, sampler, endless_steps=self._endless_steps, first=first, slots=self._slots
            )
            self._collectors[number, first] = engine, collector
        engine, collector = self._collectors[number, first]
        engine.set_weights(weights)
        trajectory = collector.collect(episodes, seed)
        return Part(trajectory, time.perf_counter() - began)

    def _environments_of(self, first: int, count: int) -> Environments:
        if first not in self._environments:
            self._environments[first] = make(Recipe.read(self._settings), count, "plain")
        return self._environments[first]


def versions() -> dict[str, str]:
    """Returns the versions that affect the episodes."""
    return {"pgkeras": __version__, "Python": platform.python_version(), "NumPy": np.__version__}
