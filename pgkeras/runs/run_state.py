"""RunState: the state of a run between two epochs. It is resumed, evaluated, summarised and exported from here."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgkeras import environments
from pgkeras.backend import keras, tf
from pgkeras.bundle import bundle
from pgkeras.environments.collect import Collector
from pgkeras.errors import ConfigError, RunError
from pgkeras.evaluation.evaluation import Evaluation
from pgkeras.policy.export import export_policy, package_versions
from pgkeras.reinforce.frozen_policy import FrozenPolicy
from pgkeras.reinforce.learner import Learner
from pgkeras.runs import directory as runs
from pgkeras.runs.callbacks import WINDOW, Callback, ReturnReached, configured, evaluation_modes
from pgkeras.runs.checkpoints import BEST
from pgkeras.settings.config import Config
from pgkeras.settings.recipe import slug
from pgkeras.spaces import actions_from_gymnasium

__all__ = ["Best", "RunState"]

_EVALUATION = (0, 0)  # the spawn key of evaluations' seeds; training's are (epoch,)


class Best(NamedTuple):
    """The policy that did best so far, as :meth:`RunState.keep_best` was told."""

    score: float
    epoch: int
    env_steps: int
    weights: list[NDArray[Any]]  # of :attr:`pgkeras.policy.policy.Policy.variables`


class RunState:
    """A policy in training, its environments, what watches the run, and how far it has come.

    Arguments and errors are those of :class:`pgkeras.runs.training.Training`.
    """

    def __init__(
        self,
        config: Config,
        directory: Path | None,
        network: keras.Model | None,
        callbacks: Sequence[Callback],
        resume: bool,
        checkpoint: str,
    ) -> None:
        self._began = time.perf_counter()
        _check(network, callbacks)
        self.config = config
        self._environments = environments.make(
            environments.Recipe.read(config.to_json()),
            config.envs,
            config.vectorization,
            workers=config.env_workers,
            timeout=config.env_timeout_seconds,
        )
        self.stop_return = _stop_return(config, self._environments)
        look = environments.look(self._environments, config.seed, config.action_masks)
        action_space = actions_from_gymnasium(self._environments.action_space)
        self._learner = Learner(config, look.observation_space, action_space, network, look.mask_size)
        self._learner.rehearse()
        self.policy = self._learner.policy
        self._frozen = FrozenPolicy(self.policy, config.act_engine)
        self._evaluators: dict[str, tuple[FrozenPolicy, Collector]] = {}  # by mode
        for mode in evaluation_modes(config):
            self._evaluator(mode)  # made now, since converting a graph takes a moment
        stops, after = configured(config, self.stop_return)
        self._goal = next((stop for stop in stops if isinstance(stop, ReturnReached)), None)
        self._callbacks: list[Callback] = [*stops, *callbacks, *after]
        self.stop_reason: str | None = None
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._recent_lengths: deque[int] = deque(maxlen=WINDOW)
        self.epoch = self.env_steps = self.episodes = 0
        self.seconds = 0.0
        self.best: Best | None = None
        self.directory: runs.RunDirectory | None = None
        if directory is not None:
            self.directory = runs.RunDirectory(directory, config.keep_checkpoints, config.loggers, resume=resume)
        self._checkpoint_due = config.checkpoint_seconds
        self._bundle: bundle.Bundle | None = None
        if resume:
            self._restore(checkpoint)
        if self.directory is not None and self.directory.config() != config.to_json():
            self.directory.write_config({**self.provenance(), "stop_return": self.stop_return})
        if self.directory is not None and not resume:
            self.checkpoint()  # so that there is always one to go on from
        self.setup_seconds = time.perf_counter() - self._began

    @property
    def device(self) -> str:
        """Where the gradient step runs, such as "GPU: NVIDIA H100" or "CPU"."""
        gpus = tf.config.list_physical_devices("GPU")
        if not gpus:
            return "CPU"
        return f"GPU: {tf.config.experimental.get_device_details(gpus[0]).get('device_name', gpus[0].name)}"

    @property
    def act_engine(self) -> str:
        """The engine that computes actions while episodes are played: "litert" or "tensorflow"."""
        return self._frozen.engine

    @property
    def mean_return_100(self) -> float:
        """Mean return of the last hundred training episodes, or of all so far; NaN before the first."""
        return float(np.mean(self._recent)) if self._recent else float("nan")

    @property
    def solved_at(self) -> tuple[float, int] | None:
        """Seconds of training and environment steps after which the return to stop at was reached; None before."""
        return self._goal.at if self._goal is not None else None

    def evaluate(self, episodes: int, mode: str = "greedy") -> Evaluation:
        """Plays episodes by the policy as it is now, from the same seeds each time; nothing is learnt from them.

        Args:
            episodes: How many.
            mode: "greedy" for the most probable actions, "sample" to draw them.

        Raises:
            EnvironmentStepError: The environment failed.
        """
        actor, collector = self._evaluators.get(mode) or self._evaluator(mode)
        actor.freeze()
        played = collector.collect(episodes, np.random.SeedSequence(self.config.seed, spawn_key=_EVALUATION))
        return Evaluation(played.episode_returns, played.lengths)

    def _evaluator(self, mode: str) -> tuple[FrozenPolicy, Collector]:
        # Sampling is what training does, too, so that its graph is there already.
        actor = self._frozen if mode == "sample" else FrozenPolicy(self.policy, self.config.act_engine, mode)
        self._evaluators[mode] = (actor, Collector(self._environments, actor))
        return self._evaluators[mode]

    def keep_best(self, score: float) -> bool:
        """Keeps the policy as it is now as the one to export, if none scored higher; says whether it does.

        Of equals the later one is kept: where a score has a ceiling, it has learnt more.
        """
        if not score >= (self.best.score if self.best is not None else -math.inf):
            return False
        self.best = Best(score, self.epoch, self.env_steps, self.policy.weights())
        if self.directory is not None:
            self.directory.checkpoints.write_best({**self._state(), "score": np.array(score)})
        return True

    def checkpoint(self) -> None:
        """Writes all that the run needs to go on, bit for bit, from here."""
        assert self.directory is not None
        self.directory.checkpoints.write(self.epoch, self._state())
        self._checkpoint_due = self.seconds + self.config.checkpoint_seconds

    def _state(self) -> dict[str, NDArray[Any]]:
        counters = (self.epoch, self.env_steps, self.episodes)
        return {
            **self._learner.state(),
            "counters": np.array(counters),
            "seconds": np.array(self.seconds),
            "recent": np.array(self._recent),
            "recent_lengths": np.array(self._recent_lengths),
            **{f"{name}{key}": v for name, callback in self._named_callbacks() for key, v in callback.state().items()},
        }

    def _named_callbacks(self) -> Iterator[tuple[str, Callback]]:
        """Every callback with the prefix of its names in a checkpoint, which the others' presence does not change."""
        seen: Counter[str] = Counter()
        for callback in self._callbacks:
            name = type(callback).__name__
            yield f"callback_{name}_{seen[name]}_", callback
            seen[name] += 1

    def _restore(self, checkpoint: str) -> None:
        assert self.directory is not None
        arrays = self.directory.checkpoints.read(checkpoint)
        try:
            self._learner.restore(arrays)
            self.epoch, self.env_steps, self.episodes = (int(n) for n in arrays["counters"])
            self.seconds = float(arrays["seconds"])
            self._recent.extend(arrays["recent"].tolist())
            self._recent_lengths.extend(arrays["recent_lengths"].tolist())
            for prefix, callback in self._named_callbacks():
                state = {name.removeprefix(prefix): v for name, v in arrays.items() if name.startswith(prefix)}
                if state:
                    callback.restore(state)
            self.best = self._read_best()
        except (KeyError, ValueError) as error:
            raise RunError(f"{self.directory.path}: the checkpoint does not fit the run's settings: {error}") from error
        self._checkpoint_due += self.seconds
        self._frozen.freeze()

    def _read_best(self) -> Best | None:
        # The file has its own score: it may be newer than the checkpoint, or left from epochs to be played again.
        assert self.directory is not None
        if not self.directory.checkpoints.has_best:
            return None
        arrays = self.directory.checkpoints.read(BEST)
        epoch, env_steps, _ = (int(n) for n in arrays["counters"])
        return Best(float(arrays["score"]), epoch, env_steps, self._learner.policy_weights(arrays))

    def summary(self) -> dict[str, Any]:
        """The result of the run, for ``summary.json``."""
        seconds, steps = self.solved_at or (None, None)
        return {
            "env_id": self.config.env_id,
            "seed": self.config.seed,
            "solved": self.solved_at is not None,
            "stop_reason": self.stop_reason,
            "stop_return": self.stop_return,
            "seconds_to_threshold": seconds,
            "steps_to_threshold": steps,
            "env_steps": self.env_steps,
            "epochs": self.epoch,
            "episodes": self.episodes,
            "mean_return_100": self.mean_return_100 if self._recent else None,
            "best": {k: getattr(self.best, k) for k in ("score", "epoch", "env_steps")} if self.best else None,
            "steps_per_second": self.env_steps / self.seconds if self.seconds else None,
            "setup_seconds": self.setup_seconds,
            "train_seconds": self.seconds,
            "wall_seconds": time.perf_counter() - self._began,
            "device": self.device,
            "act_engine": self.act_engine,
            "bundle": str(self._bundle.path) if self._bundle is not None else None,
        }

    def provenance(self) -> dict[str, Any]:
        """Where the policy comes from."""
        return {
            "env_id": self.config.env_id,
            "seed": self.config.seed,
            "config": self.config.to_json(),
            "device": self.device,
            "packages": package_versions(),
        }

    def export(self, root: Path | str, name: str | None = None, which: str = BEST) -> bundle.Bundle:
        """Publishes the policy; see :func:`pgkeras.policy.export.export_policy`.

        Args:
            root: Directory of policies.
            name: The policy's name; by default the environment's.
            which: "best" for the policy that did best in evaluations, and without any the last; "last" for the last.

        Raises:
            ExportError: See :func:`pgkeras.policy.export.export_policy`.
        """
        best = self.best if which == BEST else None
        results = {k: v for k, v in self.summary().items() if k not in ("env_id", "seed", "device", "bundle")}
        source = {"exported_epoch": self.epoch if best is None else best.epoch}
        provenance = {**self.provenance(), "results": {**results, **source}}
        with self._with_weights(best):
            self._bundle = export_policy(self.policy, Path(root), name or slug(self.config.env_id), provenance)
        if self.directory is not None:
            self.directory.note_bundle(self._bundle.path)
        return self._bundle

    @contextmanager
    def _with_weights(self, best: Best | None) -> Iterator[None]:
        """Lends the policy other weights."""
        own = self.policy.weights()
        try:
            if best is not None:
                self.policy.assign(best.weights)
            yield
        finally:
            self.policy.assign(own)


def _stop_return(config: Config, envs: environments.Environments) -> float | None:
    if config.stop_return is not None:
        return config.stop_return
    threshold = envs.spec.reward_threshold if envs.spec is not None else None
    return float(threshold) if threshold is not None else None


def _check(network: Any, callbacks: Sequence[Any]) -> None:
    if network is not None and not isinstance(network, keras.Model):
        raise ConfigError(f"network: expected a Keras model, or the name of a configured one, got {network!r}")
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise ConfigError(f"callbacks: expected objects of classes made from pgkeras.Callback, got {callback!r}")
