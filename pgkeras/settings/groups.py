"""The settings of training in groups, each with its default, its help and its allowed range; each written here once.

A :class:`pgkeras.settings.config.Config` is all of them. What needs one group takes that group, and so can be given a
whole Config or the group alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pgkeras.settings.fields import check_fields
from pgkeras.settings.fields import setting as _setting
from pgkeras.settings.recipe import WrapperCall, check_kwargs
from pgkeras.spaces.spec import DistributionKind

__all__ = [
    "NATURAL",
    "EnvironmentSettings",
    "EstimatorSettings",
    "EvaluationSettings",
    "FileSettings",
    "NetworkSettings",
    "RunSettings",
    "StepSettings",
    "ValueSettings",
]


NATURAL = "natural"
"""The optimizer that is none of Keras': natural gradients."""

_SCHEDULES = ("constant", "linear", "cooldown")


@dataclass(frozen=True, kw_only=True)
class _Settings:
    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class RunSettings(_Settings):
    """How long a run goes on.

    Raises:
        ConfigError: A value is of the wrong type or outside its range; the message names both.
    """

    seed: int = _setting(0, "Seed of everything random in the run.", minimum=0)
    steps: int = _setting(500_000, "Environment steps to train for at the most.", minimum=1)
    time_limit: float | None = _setting(
        None, "Seconds of training at most, without setup and evaluations; no limit by default.", above=0
    )
    stop_return: float | None = _setting(
        None,
        "Stop when the mean return of the last 100 episodes reaches this; by default the environment's "
        "reward_threshold, if it has one.",
    )
    plateau_steps: int | None = _setting(
        None,
        "Stop when the mean return of the last 100 episodes has not risen for so many environment steps; "
        "never by default.",
        minimum=1,
    )


@dataclass(frozen=True, kw_only=True)
class EnvironmentSettings(_Settings):
    """The environments, and how episodes are played in them.

    Raises:
        ConfigError: A value is of the wrong type or outside its range; the message names both.
    """

    envs: int = _setting(16, "Environments played side by side.", minimum=1, maximum=65_536)
    episodes: int = _setting(16, "Episodes per gradient step.", minimum=1, maximum=1_000_000)
    batch_steps: int | None = _setting(
        None,
        "Environment steps per gradient step, about: the number of episodes is chosen before each batch by the "
        "mean length of the last hundred episodes; `episodes` is then the number for the first batch. none: always "
        "`episodes`.",
        minimum=1,
    )
    max_episode_steps: int | None = _setting(
        None,
        "Steps after which an episode is truncated; by default the environment's own limit. An environment with "
        "neither limit, preset nor vector entry point gets 10,000.",
        minimum=1,
    )
    env_kwargs: Mapping[str, Any] | None = _setting(
        None,
        "Keyword arguments of the environment; one alone is set as in env_kwargs.gravity=9.",
        check=check_kwargs,
    )
    wrappers: tuple[Any, ...] = _setting(
        (),
        "Wrappers, from the innermost out: names of gymnasium.wrappers, or module:Name, or tables of name and kwargs.",
        check=WrapperCall.read,
    )
    vectorization: str = _setting(
        "auto",
        "How environments run: by their own vector entry point, in this process (plain, or sync by gymnasium's "
        "SyncVectorEnv), in processes of their own (async), or by EnvPool; auto is vector if possible, else plain.",
        choices=("auto", "vector", "plain", "sync", "async", "envpool"),
    )
    env_workers: int | None = _setting(
        None, "Processes of async environments; by default one a core.", minimum=1, maximum=4096
    )
    env_timeout_seconds: float | None = _setting(
        None, "Seconds that one reset or step of all environments may take; any by default.", above=0
    )
    env_restarts: int = _setting(
        0,
        "How often the environments are made again when one has failed, died or hung; the epoch's episodes are then "
        "played again, from the same seeds.",
        minimum=0,
    )
    endless_steps: int = _setting(
        1_000_000,
        "Give up after this many steps without the end of an episode; a warning comes after a tenth of them.",
        minimum=10,
    )
    collect: str = _setting(
        "here",
        "Where episodes are played: in this process (and its workers), or by Ray actors, on one machine or many.",
        choices=("here", "ray"),
    )
    ray_address: str | None = _setting(
        None, "Address of the Ray cluster, HOST:PORT or auto; by default one is started on this machine."
    )
    ray_actors: int | None = _setting(
        None,
        "Ray actors, which share the `envs` evenly; by default as many as the cluster has room for.",
        minimum=1,
        maximum=100_000,
    )
    ray_actor_cpus: float = _setting(1.0, "CPUs of each Ray actor.", above=0)
    action_masks: bool = _setting(True, "Keep to the action masks of environments that give them.")
    act_engine: str = _setting(
        "auto", "What computes actions while episodes are played.", choices=("auto", "litert", "tensorflow")
    )


@dataclass(frozen=True, kw_only=True)
class EstimatorSettings(_Settings):
    """What each action's log-probability is weighted with.

    Raises:
        ConfigError: A value is of the wrong type or outside its range; the message names both.
    """

    gamma: float = _setting(0.99, "Discount per step.", minimum=0, maximum=1)
    returns: str = _setting(
        "reward-to-go",
        "Which rewards an action's return sums: those from its step on, or those of the whole episode.",
        choices=("reward-to-go", "episode"),
    )
    discount_gradient: bool = _setting(
        False,
        "Weight step t by gamma^t, as the exact gradient of the discounted return does. Nearly everyone leaves that "
        "out, to learn from late steps as well.",
    )
    reset_returns: bool = _setting(
        False,
        "End a return with the first reward other than 0, as in games that are played for points, such as Pong: what "
        "comes after a point owes nothing to the actions before it.",
    )
    baseline: str = _setting(
        "leave-one-out",
        "What is subtracted from returns. none: nothing; running-mean: the mean return of earlier batches; time: that "
        "of all episodes at the same time step; leave-one-out: the same of all other episodes; value: a value "
        "network's prediction. Only with value does the return of a truncated episode go on beyond its end.",
        choices=("none", "running-mean", "time", "leave-one-out", "value"),
    )
    running_mean_rate: float = _setting(0.1, "How much of the running mean each batch replaces.", above=0, maximum=1)
    rescale: bool = _setting(True, "Normalize advantages: divide them by their root mean square over the batch.")


@dataclass(frozen=True, kw_only=True)
class StepSettings(_Settings):
    """The gradient step.

    Raises:
        ConfigError: A value is of the wrong type or outside its range; the message names both.
    """

    optimizer: str = _setting(
        "adam",
        "Keras optimizer, by name; or natural: natural gradients, each as long as `target_kl` says, which needs no "
        "`learning_rate`.",
    )
    learning_rate: float = _setting(0.005, "Step size of the optimizer.", above=0)
    learning_rate_schedule: str = _setting(
        "constant",
        "How the step size, or `target_kl` where there is one, goes on: constant; linearly to 0 at `steps` or "
        "`time_limit`, whichever is nearer; or with a cooldown: constant at first, and linearly to 0 over the last two "
        "fifths.",
        choices=_SCHEDULES,
    )
    target_kl: float | None = _setting(
        None,
        "How far a gradient step should move the policy: the KL divergence per step of the episodes. The step size, "
        "which begins at `learning_rate`, is adapted to it; none to leave it as scheduled.",
        above=0,
    )
    target_kl_settles: bool = _setting(
        False,
        "Whether `target_kl` falls where little is left to gain: by the square of the advantages' root mean square, "
        "once that is below half of the largest so far. A step of a fixed divergence goes as far along noise as along "
        "a signal.",
    )
    fisher_damping: float = _setting(
        0.01, "Of natural gradients: what is added to the diagonal of the Fisher information.", above=0
    )
    fisher_steps: int = _setting(
        1000, "Of natural gradients: most steps of a batch that the Fisher information is computed from.", minimum=1
    )
    clip_norm: float | None = _setting(0.5, "Largest global norm of the gradient; none for any.", above=0)
    entropy_bonus: float = _setting(0.0, "Weight of the policy's entropy in the objective.", minimum=0)
    entropy_schedule: str = _setting(
        "constant", "Schedule of `entropy_bonus`; see `learning_rate_schedule`.", choices=_SCHEDULES
    )
    reuse: int = _setting(
        1,
        "Most gradient steps on a batch (update epochs), by clipped importance weights as in PPO: 1 is REINFORCE; more "
        "is for simulators whose steps are expensive.",
        minimum=1,
        maximum=1_000,
    )
    reuse_clip: float = _setting(
        0.2,
        "Clipping range of the importance weights, 1 - reuse_clip to 1 + reuse_clip, as in PPO.",
        above=0,
        maximum=1,
    )
    reuse_kl: float = _setting(
        0.03,
        "Stop reusing a batch once the policy's KL divergence per step from the one that played it exceeds this "
        "(PPO's target_kl).",
        above=0,
    )
    devices: str = _setting(
        "one",
        "What computes the gradient step: one device, or all GPUs of this machine; with TF_CONFIG, of all machines "
        "that it names.",
        choices=("one", "all"),
    )
    jit_compile: bool = _setting(False, "Compile the gradient step with XLA.")


@dataclass(frozen=True, kw_only=True)
class NetworkSettings(_Settings):
    """The policy's network and its distribution.

    Raises:
        ConfigError: A value is of the wrong type or outside its range; the message names both.
    """

    hidden: tuple[int, ...] = _setting((64, 64), "Width of each hidden layer.", minimum=1, maximum=65_536)
    activation: str = _setting("tanh", "Keras activation of the hidden layers, by name.")
    layer_normalization: bool = _setting(
        False,
        "Normalise what each layer of the policy puts into its activation: hidden ones and those that read images.",
    )
    network: str = _setting(
        "auto",
        "Encoder of images: auto chooses a CNN by their size; mlp is dense layers, small_cnn MinAtar's (2019), "
        "light_cnn that of DQN's first paper (2013), nature_cnn its second's (2015). Other parts are not affected.",
        choices=("auto", "mlp", "small_cnn", "light_cnn", "nature_cnn"),
    )
    memory: str = _setting(
        "none", "Recurrent layer of the policy, which is its memory of the episode.", choices=("none", "gru", "lstm")
    )
    memory_units: int = _setting(64, "Units of the recurrent layer.", minimum=1, maximum=65_536)
    normalize_observations: bool | None = _setting(
        None,
        "Normalise observations by their running mean and variance, inside the policy's graph: all numbers, or none; "
        "by default those without bounds.",
    )
    distribution: str = _setting(
        "auto",
        "Family of the action distribution; auto takes the one for the action space, for a Box diagonal_gaussian.",
        choices=("auto", *(kind.value for kind in DistributionKind)),
    )
    initial_log_std: float = _setting(
        0.0, "Initial log standard deviation of Gaussian actions.", minimum=-20, maximum=5
    )


@dataclass(frozen=True, kw_only=True)
class ValueSettings(NetworkSettings):
    """The value network, which has the encoders and dense layers of the policy's, without their normalisation.

    Raises:
        ConfigError: A value is of the wrong type or outside its range; the message names both.
    """

    value_learning_rate: float = _setting(0.001, "Step size of the value network's optimizer.", above=0)
    value_passes: int = _setting(5, "How often the value network goes over each batch.", minimum=1, maximum=1_000)
    value_batch_size: int = _setting(256, "Steps per gradient step of the value network.", minimum=1)


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings(_Settings):
    """Evaluations while a run goes on.

    Raises:
        ConfigError: A value is of the wrong type or outside its range; the message names both.
    """

    evaluation_every: int = _setting(
        0,
        "Epochs between evaluations. The best policy in them is kept, and exported at the end. 0: no evaluations; the "
        "last policy is exported.",
        minimum=0,
    )
    evaluation_episodes: int = _setting(20, "Episodes of an evaluation.", minimum=1, maximum=1_000_000)
    evaluation_mode: str = _setting(
        "greedy",
        "How to act in evaluations: by the most probable action, by sampling, or once each; with both, greedy episodes "
        "say which policy is best.",
        choices=("greedy", "sample", "both"),
    )


@dataclass(frozen=True, kw_only=True)
class FileSettings(_Settings):
    """What a run leaves on disk.

    Raises:
        ConfigError: A value is of the wrong type or outside its range; the message names both.
    """

    loggers: tuple[str, ...] = _setting(
        ("tensorboard",),
        "Where the metrics of every epoch go beside metrics.jsonl: into metrics.csv, to TensorBoard, to Weights & "
        "Biases or to MLflow; none for nowhere.",
        choices=("csv", "tensorboard", "wandb", "mlflow"),
    )
    checkpoint_seconds: float = _setting(30.0, "Seconds between checkpoints.", minimum=0)
    keep_checkpoints: int = _setting(
        2, "How many of the last checkpoints are kept, beside the best.", minimum=1, maximum=1_000_000
    )
