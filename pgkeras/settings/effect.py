"""Settings that act only beside others, or in some spaces: one that is given elsewhere is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from pgkeras.errors import ConfigError
from pgkeras.settings.config import Config
from pgkeras.settings.groups import NATURAL, FileSettings
from pgkeras.spaces import ActionSpace, Box, Space, leaves
from pgkeras.spaces.images import is_image
from pgkeras.spaces.spec import kinds_of

__all__ = ["OF_SPACES", "check_effect", "check_effect_in", "idle"]

# Names, the other setting that they need, in words, and whether a config has it.
_NEEDS: tuple[tuple[tuple[str, ...], str, Callable[[Config], bool]], ...] = (
    (("ray_address", "ray_actors", "ray_actor_cpus"), "collect=ray", lambda c: c.collect == "ray"),
    (("env_workers",), "vectorization=async", lambda c: c.vectorization == "async" or c.collect == "ray"),
    (("running_mean_rate",), "baseline=running-mean", lambda c: c.baseline == "running-mean"),
    (
        ("value_learning_rate", "value_passes", "value_batch_size"),
        "baseline=value",
        lambda c: c.baseline == "value",
    ),
    (("learning_rate",), "an optimizer other than natural", lambda c: c.optimizer != NATURAL),
    (
        ("rescale",),
        "an optimizer other than natural, or entropy_bonus above 0",
        lambda c: c.optimizer != NATURAL or c.entropy_bonus > 0,
    ),
    (("target_kl_settles",), "target_kl", lambda c: c.target_kl is not None),
    (("clip_norm",), "an optimizer other than natural", lambda c: c.optimizer != NATURAL),
    (("fisher_damping", "fisher_steps"), "optimizer=natural", lambda c: c.optimizer == NATURAL),
    (("reuse_clip", "reuse_kl"), "reuse above 1", lambda c: c.reuse > 1),
    (("entropy_schedule",), "entropy_bonus above 0", lambda c: c.entropy_bonus > 0),
    (("memory_units",), "memory=gru or memory=lstm", lambda c: c.memory != "none"),
    (
        ("evaluation_episodes", "evaluation_mode"),
        "evaluation_every above 0",
        lambda c: c.evaluation_every > 0,
    ),
)


_FILES = tuple(field.name for field in fields(FileSettings))
_OF_POLICY = ("layer_normalization",)
_OF_BOTH = ("hidden", "activation")  # the value network has them, too

OF_SPACES = (*_OF_BOTH, "network", "normalize_observations", "initial_log_std")
"""The settings that :func:`idle` may name."""


def check_effect(config: Config, given: Mapping[str, Any], *, directory: bool = True, network: bool = False) -> None:
    """Refuses what was given and changes nothing. Presets and earlier runs may have more than is used.

    Args:
        config: All settings of the run.
        given: Those that the caller asked for by name.
        directory: Whether the run has a directory.
        network: Whether the policy has a network of the caller's own.

    Raises:
        ConfigError: One of them acts only beside another setting, which the run does not have.
    """
    for names, needed, has_it in _NEEDS:
        for name in names:
            if given.get(name) is not None and not has_it(config):
                raise ConfigError(f"{name}: it changes nothing without {needed}; set that, too, or leave it")
    for name in () if directory else _FILES:
        if name in given and getattr(config, name):
            raise ConfigError(f"{name}: a run without a directory leaves no files, nor metrics anywhere; give out, too")
    of_network = _OF_POLICY if config.baseline == "value" else (*_OF_POLICY, *_OF_BOTH)
    for name in of_network if network else ():
        if given.get(name) is not None:
            raise ConfigError(f"{name}: it changes nothing in a network of your own; leave it")


def idle(config: Config, observation_space: Space, action_space: ActionSpace) -> dict[str, str]:
    """The settings that change nothing for a policy of these spaces, by name, each with the reason.

    Raises:
        UnsupportedSpaceError: The configured distribution does not go with the actions.
    """
    observed = [leaf for _, leaf in leaves(observation_space)]
    images = [leaf for leaf in observed if is_image(leaf)]
    found: dict[str, str] = {}
    if images and len(observed) == 1 and config.network != "mlp":
        found |= dict.fromkeys(_OF_BOTH, "where the observation is one image, whose CNN is all the network")
    if config.network == "mlp" and not images:
        found["network"] = "where the observation has no image"
    if not any(isinstance(leaf, Box) for leaf in observed):
        found["normalize_observations"] = "where the observation has no Box of numbers"
    if not any("stddev" in kind.parameters for kind in kinds_of(action_space, config.distribution)):
        found["initial_log_std"] = "where no action is Gaussian"
    return found


def check_effect_in(
    config: Config, given: Mapping[str, Any], observation_space: Space, action_space: ActionSpace
) -> None:
    """Refuses what was given and changes nothing for a policy of these spaces; see :func:`check_effect`.

    Raises:
        ConfigError: One of them is :func:`idle`, and not off.
        UnsupportedSpaceError: The configured distribution does not go with the actions.
    """
    for name, reason in idle(config, observation_space, action_space).items():
        if given.get(name) is not None and given[name] is not False:
            raise ConfigError(f"{name}: it changes nothing {reason}; leave it")
