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
    """Plays the episodes of some slots, with copies of an environment of its own.

    Args:
        settings: Of the environment, as :meth:`Recipe.read` takes them.
        first: The first of its slots.
        count: How many slots it plays.
        slots: How many there are in all.
        endless_steps: Steps of each slot without the end of an episode after which to give up.
    """

    def __init__(self, settings: Mapping[str, Any], first: int, count: int, slots: int, endless_steps: int) -> None:
        self._settings = settings
        self._first, self._count, self._slots = first, count, slots
        self._endless_steps = endless_steps
        self._environments: Environments | None = None
        self._ways: dict[int, tuple[LiteRTEngine, Collector]] = {}  # by the number of a graph

    def hello(self) -> dict[str, str]:
        """Makes the environments. Returns the versions of what runs here.

        Raises:
            EnvironmentSetupError: They cannot be made here.
        """
        self._made()
        return versions()

    def play(
        self,
        number: int,
        graph: SamplingGraph,
        weights: Sequence[NDArray[Any]],
        episodes: int,
        seed: np.random.SeedSequence,
    ) -> Part:
        """Plays its part of some episodes.

        Args:
            number: Of the graph: a run has one to sample by, and one for greedy evaluations.
            graph: What acts.
            weights: Its weights.
            episodes: How many are played by all slots together.
            seed: Of all of them.

        Raises:
            EnvironmentStepError: The environment failed.
        """
        began = time.perf_counter()
        if number not in self._ways:
            sampler, engine = Sampler.of(graph)
            collector = Collector(
                self._made(), sampler, endless_steps=self._endless_steps, first=self._first, slots=self._slots
            )
            self._ways[number] = engine, collector
        engine, collector = self._ways[number]
        engine.set_weights(weights)
        trajectory = collector.collect(episodes, seed)
        return Part(trajectory, time.perf_counter() - began)

    def _made(self) -> Environments:
        if self._environments is None:
            self._environments = make(Recipe.read(self._settings), self._count, "plain")
        return self._environments


def versions() -> dict[str, str]:
    """The versions on which what is played depends."""
    return {"pgkeras": __version__, "Python": platform.python_version(), "NumPy": np.__version__}
