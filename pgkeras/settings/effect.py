"""Settings that act only beside others: one that is given without them is refused, since it would change nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from pgkeras.errors import ConfigError
from pgkeras.settings.config import Config
from pgkeras.settings.groups import NATURAL, FileSettings

__all__ = ["check_effect"]

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
