"""Evaluator: plays the policy in training without learning from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from pgkeras.errors import ConfigError
from pgkeras.evaluation.evaluation import Evaluation
from pgkeras.policy.policy import Policy
from pgkeras.reinforce.frozen_policy import FrozenPolicy
from pgkeras.runs.phases import EpochDropped
from pgkeras.runs.sources import EpisodeCollector, EpisodeSource

__all__ = ["Evaluator"]

_SPAWN_KEY = (0, 0)  # of the seeds of evaluations; those of training have (epoch,)


class Evaluator:
    """Plays episodes by the policy as it is, from the same seeds each time.

    Args:
        source: What is played.
        policy: The policy.
        engine: What computes it; see :class:`FrozenPolicy`.
        sampler: Acts by sampling, as training does, so that its graph is there already.
        modes: The modes that will be asked for. They are prepared now, since converting a graph takes a moment.
        is_interrupted: Whether the run is to end soon.
    """

    def __init__(
        self,
        source: EpisodeSource,
        policy: Policy,
        engine: str,
        sampler: FrozenPolicy,
        modes: Iterable[str],
        is_interrupted: Callable[[], bool],
    ) -> None:
        self._source = source
        self._policy = policy
        self._engine = engine
        self._sampler = sampler
        self._is_interrupted, self._was_interrupted = is_interrupted, False
        self._players: dict[str, tuple[FrozenPolicy, EpisodeCollector]] = {}  # by mode
        for mode in modes:
            self._player(mode)

    def evaluate(self, episodes: int, mode: str, seed: int) -> Evaluation:
        """Plays episodes.

        Args:
            episodes: How many.
            mode: "greedy" for the most probable actions, "sample" to draw them.
            seed: The run's seed.

        Raises:
            ConfigError: There are no episodes to play.
            EnvironmentStepError: The environment failed.
            EpochDropped: The run was interrupted meanwhile; one that begins after that is played.
        """
        if episodes < 1:  # which would have no end to wait for
            raise ConfigError(f"episodes: expected a whole number of at least 1, got {episodes}")
        actor, collector = self._player(mode)
        self._was_interrupted = self._is_interrupted()
        actor.freeze()
        played = collector.collect(episodes, np.random.SeedSequence(seed, spawn_key=_SPAWN_KEY))
        return Evaluation(played.episode_returns, played.lengths)

    def _player(self, mode: str) -> tuple[FrozenPolicy, EpisodeCollector]:
        if mode not in self._players:
            actor = self._sampler if mode == "sample" else FrozenPolicy(self._policy, self._engine, mode)
            self._players[mode] = actor, self._source.collector(actor, self._watch)
        return self._players[mode]

    def _watch(self, steps: int, episodes: int) -> None:
        if self._is_interrupted() and not self._was_interrupted:
            raise EpochDropped
