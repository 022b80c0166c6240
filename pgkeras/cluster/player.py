"""What a Ray actor does: it plays the episodes of some slots."""

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
    """The episodes of some slots, and how long they took."""

    trajectory: Trajectory
    seconds: float


class Player:
    """Plays the episodes of slots, with copies of an environment of its own.

    Args:
        settings: Of the environment, as :meth:`Recipe.read` takes them.
        slots: How many slots there are in all.
        endless_steps: Steps of each slot without the end of an episode after which to give up.
    """

    def __init__(self, settings: Mapping[str, Any], slots: int, endless_steps: int) -> None:
        self._settings = settings
        self._slots = slots
        self._endless_steps = endless_steps
        self._environments: dict[int, Environments] = {}  # by the first of their slots
        self._ways: dict[tuple[int, int], tuple[LiteRTEngine, Collector]] = {}  # by a graph's number and that slot

    def hello(self, first: int, count: int) -> dict[str, str]:
        """Makes the environments of the slots that it is going to play. Returns the versions of what runs here.

        Args:
            first: The first of the slots.
            count: How many they are.

        Raises:
            EnvironmentSetupError: They cannot be made here.
        """
        self._made(first, count)
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
        """Plays some slots' part of some episodes.

        Args:
            first: The first of the slots: its own, or those of an actor that has not started.
            count: How many they are.
            number: Of the graph: a run has one to sample by, and one for greedy evaluations.
            graph: What acts.
            weights: Its weights.
            episodes: How many are played by all slots together.
            seed: Of all of them.

        Raises:
            EnvironmentSetupError: The environments of another's slots cannot be made here.
            EnvironmentStepError: The environment failed.
        """
        began = time.perf_counter()
        if (number, first) not in self._ways:
            sampler, engine = Sampler.of(graph)
            environments = self._made(first, count)
            collector = Collector(
                environments, sampler, endless_steps=self._endless_steps, first=first, slots=self._slots
            )
            self._ways[number, first] = engine, collector
        engine, collector = self._ways[number, first]
        engine.set_weights(weights)
        trajectory = collector.collect(episodes, seed)
        return Part(trajectory, time.perf_counter() - began)

    def _made(self, first: int, count: int) -> Environments:
        if first not in self._environments:
            self._environments[first] = make(Recipe.read(self._settings), count, "plain")
        return self._environments[first]


def versions() -> dict[str, str]:
    """The versions on which what is played depends."""
    return {"pgkeras": __version__, "Python": platform.python_version(), "NumPy": np.__version__}
