"""Training: the loop over epochs. Phase one collects episodes, phase two learns from them; repeat."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pgkeras import bundle, environments, plotting, runs
from pgkeras.acting import FrozenPolicy
from pgkeras.backend import keras, tf
from pgkeras.collect import Collector
from pgkeras.config import Config, resolve
from pgkeras.errors import RunError
from pgkeras.export import export_policy, package_versions
from pgkeras.learner import Learner, Lesson
from pgkeras.spaces import actions_from_gymnasium

__all__ = ["EpochMetrics", "Training", "policy_name", "train"]

WINDOW = 100  # episodes whose mean return says whether an environment is solved


@dataclass(frozen=True, kw_only=True)
class EpochMetrics(Lesson):
    """What one epoch reports, by the names in ``metrics.jsonl``: what was learnt, and from what."""

    epoch: int
    env_steps: int  # since the run began, as are episodes and seconds
    episodes: int
    seconds: float
    return_mean: float  # of this epoch's episodes, undiscounted
    return_min: float
    return_max: float
    mean_return_100: float  # of the last hundred episodes, or of all so far
    episode_length: float  # mean, in steps
    idle_steps: int  # stepped by vector environments, but of no episode that was asked for
    collect_seconds: float  # phase one
    learn_seconds: float  # phase two
    steps_per_second: float


class Training:
    """A run: iterate over it to train, one epoch at a time.

    Args:
        config: Settings.
        directory: Where the run's files go; None for a run that leaves none.
        network: A Keras model from observations to features, in place of the configured one.
        resume: Whether to go on from the directory's checkpoint.

    Raises:
        ConfigError: A setting does not fit: an unknown optimizer or activation.
        EnvironmentSetupError: The environment cannot be made.
        UnsupportedSpaceError: A space of the environment is not supported.
        RunError: The directory cannot be written, or there is nothing to resume.
    """

    def __init__(
        self,
        config: Config,
        directory: Path | None = None,
        *,
        network: keras.Model | None = None,
        resume: bool = False,
    ) -> None:
        self._began = time.perf_counter()
        self.config = config
        self._environments = environments.make(
            config.env_id, config.envs, config.vectorization, config.max_episode_steps
        )
        self.stop_return = _stop_return(config, self._environments)
        look = environments.look(self._environments, config.seed, config.action_masks)
        action_space = actions_from_gymnasium(self._environments.action_space)
        self._learner = Learner(config, look.observation_space, action_space, network, look.mask_size)
        self.policy = self._learner.policy
        self._frozen = FrozenPolicy(self.policy, config.act_engine)
        self._collector = Collector(self._environments, self._frozen)
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self.epoch = self.env_steps = self.episodes = 0
        self.seconds = 0.0
        self.solved_at: tuple[float, int] | None = None  # seconds and environment steps
        self.directory = runs.RunDirectory(directory, resume=resume) if directory is not None else None
        self._checkpoint_due = config.checkpoint_seconds
        self._between_epochs = True  # when weights and counters belong together
        self._bundle: bundle.Bundle | None = None
        if resume:
            self._restore()
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
        """What computes actions while episodes are played: "litert" or "tensorflow"."""
        return self._frozen.engine

    @property
    def mean_return_100(self) -> float:
        """Mean return of the last hundred training episodes, or of all so far; NaN before the first."""
        return float(np.mean(self._recent)) if self._recent else float("nan")

    @property
    def finished(self) -> bool:
        """Whether a limit is reached or the environment solved."""
        config = self.config
        out_of_time = config.time_limit is not None and self.seconds >= config.time_limit
        return self.solved_at is not None or self.env_steps >= config.steps or out_of_time

    def __iter__(self) -> Iterator[EpochMetrics]:
        """Trains until finished.

        Raises:
            EnvironmentStepError: The environment failed.
            TrainingError: The loss or the gradient is not finite. The last checkpoint is intact.
        """
        if self.directory is not None:
            self.directory.keep_epochs(self.epoch)
        while not self.finished:
            yield self._play_and_learn()

    def _play_and_learn(self) -> EpochMetrics:
        config = self.config
        began = time.perf_counter()
        seed = np.random.SeedSequence(config.seed, spawn_key=(self.epoch,))
        trajectory = self._collector.collect(config.episodes, seed)
        collected = time.perf_counter()
        self._between_epochs = False
        lesson = self._learner.learn(trajectory, self.epoch, min(1.0, self.env_steps / config.steps))
        self._frozen.freeze(self._learner.weights)
        learnt = time.perf_counter()

        self.epoch += 1
        self.env_steps += trajectory.steps
        self.episodes += config.episodes
        self.seconds += learnt - began
        returns = trajectory.episode_returns
        self._recent.extend(returns.tolist())
        self._between_epochs = True
        full = len(self._recent) == WINDOW
        if self.stop_return is not None and full and self.mean_return_100 >= self.stop_return:
            self.solved_at = (self.seconds, self.env_steps)
        metrics = EpochMetrics(
            epoch=self.epoch,
            env_steps=self.env_steps,
            episodes=self.episodes,
            seconds=self.seconds,
            return_mean=float(returns.mean()),
            return_min=float(returns.min()),
            return_max=float(returns.max()),
            mean_return_100=self.mean_return_100,
            episode_length=trajectory.steps / config.episodes,
            idle_steps=self._collector.idle_steps,
            collect_seconds=collected - began,
            learn_seconds=learnt - collected,
            steps_per_second=trajectory.steps / (learnt - began),
            **vars(lesson),
        )
        if self.directory is not None:
            self.directory.write_epoch(asdict(metrics))
            if self.seconds >= self._checkpoint_due:
                self.checkpoint()
        return metrics

    def checkpoint(self) -> None:
        """Writes all that the run needs to go on, bit for bit, from here."""
        assert self.directory is not None
        counters = (self.epoch, self.env_steps, self.episodes)
        self.directory.write_checkpoint(
            {
                **self._learner.state(),
                "counters": np.array(counters),
                "seconds": np.array(self.seconds),
                "recent": np.array(self._recent),
                "solved_at": np.array(self.solved_at or ()),
            }
        )
        self._checkpoint_due = self.seconds + self.config.checkpoint_seconds

    def finish(self) -> None:
        """Writes the last checkpoint, the summary and the learning curve, and frees the environments.

        After an epoch that was broken off, the checkpoint stays the one before it.
        """
        self._environments.close()
        if self.directory is not None:
            if self._between_epochs:
                self.checkpoint()
            self.directory.close()
            self.directory.write_summary(self.summary())
            if self.epoch:
                path, title = self.directory.path, f"{self.config.env_id}, seed {self.config.seed}"
                curves = {path.name: runs.read_metrics(path)}
                plotting.plot_learning_curves(path / runs.CURVE, curves, title, self.stop_return)

    def summary(self) -> dict[str, Any]:
        """What came of the run, for ``summary.json``."""
        seconds, steps = self.solved_at or (None, None)
        return {
            "env_id": self.config.env_id,
            "seed": self.config.seed,
            "solved": self.solved_at is not None,
            "stop_return": self.stop_return,
            "seconds_to_threshold": seconds,
            "steps_to_threshold": steps,
            "env_steps": self.env_steps,
            "epochs": self.epoch,
            "episodes": self.episodes,
            "mean_return_100": self.mean_return_100 if self._recent else None,
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

    def export(self, root: Path | str, name: str | None = None) -> bundle.Bundle:
        """Publishes the policy as it is now; see :func:`pgkeras.export.export_policy`."""
        results = {k: v for k, v in self.summary().items() if k not in ("env_id", "seed", "device", "bundle")}
        provenance = {**self.provenance(), "results": results}
        self._bundle = export_policy(self.policy, Path(root), name or policy_name(self.config.env_id), provenance)
        if self.directory is not None:
            self.directory.note_bundle(self._bundle.path)
        return self._bundle

    def _restore(self) -> None:
        assert self.directory is not None
        arrays = self.directory.read_checkpoint()
        try:
            self._learner.restore(arrays)
            self.epoch, self.env_steps, self.episodes = (int(n) for n in arrays["counters"])
            self.seconds = float(arrays["seconds"])
            self._recent.extend(arrays["recent"].tolist())
            if arrays["solved_at"].size:
                self.solved_at = (float(arrays["solved_at"][0]), int(arrays["solved_at"][1]))
            if self.stop_return is None or not self.mean_return_100 >= self.stop_return:
                self.solved_at = None  # by an easier standard than this one
        except (KeyError, ValueError) as error:
            raise RunError(f"{self.directory.path}: the checkpoint does not fit the run's settings: {error}") from error
        self._checkpoint_due += self.seconds
        self._frozen.freeze()


def train(
    env_id: str,
    *,
    preset: str | None = None,
    out: Path | str | None = None,
    network: keras.Model | None = None,
    on_epoch: Callable[[EpochMetrics], None] | None = None,
    **settings: Any,
) -> Training:
    """Trains a policy: ``pgkeras.train("CartPole-v1", seed=0).export("saved_models")``.

    Args:
        env_id: A gymnasium id, or ``module:id``.
        preset: Name of a preset; by default the environment's own.
        out: Run directory; by default the run leaves no files.
        network: A Keras model from observations ``[B, ...]`` to features ``[B, F]``, in place of the configured one.
        on_epoch: Called with each epoch's metrics.
        **settings: Any setting of :class:`pgkeras.config.Config`.

    Returns:
        The finished run.

    Raises:
        PgkerasError: See :class:`Training`.
    """
    training = Training(resolve(env_id, preset, settings), Path(out) if out is not None else None, network=network)
    try:
        for metrics in training:
            if on_epoch is not None:
                on_epoch(metrics)
    finally:
        training.finish()
    return training


def policy_name(env_id: str) -> str:
    """The name under which an environment's policy is exported unless another is given: "cartpole-v1"."""
    return env_id.rpartition(":")[2].replace("/", "-").lower()


def _stop_return(config: Config, envs: environments.Environments) -> float | None:
    if config.stop_return is not None:
        return config.stop_return
    threshold = envs.spec.reward_threshold if envs.spec is not None else None
    return float(threshold) if threshold is not None else None
